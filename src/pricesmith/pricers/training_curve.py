"""Training curves: one line for each epoch or step in `training.jsonl` of a model folder, and a drawing for a terminal.

write_curve(folder, [TrainingPoint(series="network 1", epoch=1, train_loss=0.61, validation_mae=48.2, seconds=2.1)])
console.print(draw_curve(read_curve(folder)))
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import ConfigDict, ValidationError

from pricesmith.core.model_files import damaged_file
from pricesmith.core.settings import Settings

if TYPE_CHECKING:
    from rich.console import RenderableType

CURVE = "training.jsonl"
BLOCKS = "▁▂▃▄▅▆▇█"
MAX_POINTS = 40  # characters of a drawn line


class TrainingPoint(Settings):
    """One line of a training curve.

    `series` names the network or tree ensemble that is trained; one of `epoch` and `step` says how far training was,
    `seconds` is the time since the series began, `validation_mae` is in the currency of the catalog. Unknown values
    are None.
    """

    model_config = ConfigDict(frozen=True, extra="ignore", allow_inf_nan=False)
    series: str = ""
    epoch: float | None = None
    step: int | None = None
    train_loss: float | None = None
    validation_mae: float | None = None
    seconds: float | None = None


def write_curve(folder: Path, points: Iterable[TrainingPoint], *, append: bool = False) -> None:
    """Write (or append) the points to `training.jsonl` in a model folder, one JSON object a line."""
    lines = "".join(json.dumps(point.model_dump(exclude_none=True)) + "\n" for point in points)
    with (folder / CURVE).open("a" if append else "w", encoding="utf-8") as file:
        file.write(lines)


def read_curve(folder: Path) -> list[TrainingPoint]:
    """The training curve of a model folder; empty if it has none. Raises InputError if the file is damaged."""
    path = folder / CURVE
    if not path.is_file():
        return []
    points = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        try:
            points.append(TrainingPoint.model_validate_json(line))
        except ValidationError as error:
            raise damaged_file(
                path, f"line {number}: {error.errors()[0]['msg']}", allowed="one JSON object a line"
            ) from None
    return points


def draw_curve(points: Sequence[TrainingPoint]) -> RenderableType:
    """The curve as a table for rich: a sparkline for each series and figure, with its first, best and last value.

    Each sparkline has its own scale: the lowest bar is the lowest value of the row.
    """
    from pricesmith.core.fitted_table import Column, FittedTable

    rows = []
    for series in dict.fromkeys(point.series for point in points):
        own = [point for point in points if point.series == series]
        end = max((point.epoch or point.step or 0 for point in own), default=0)
        unit = "epochs" if any(point.epoch is not None for point in own) else "steps"
        seconds = max((point.seconds or 0.0 for point in own), default=0.0)
        for name, values in (
            ("training loss", [point.train_loss for point in own if point.train_loss is not None]),
            ("validation MAE", [point.validation_mae for point in own if point.validation_mae is not None]),
        ):
            if values:
                figures = [format_figure(value) for value in (values[0], min(values), values[-1])]
                rows.append([series, name, sparkline(values), *figures, f"{end:g} {unit}", f"{seconds:.1f}"])
    columns = [
        Column("series", wraps=True),
        Column("figure"),
        Column("curve", drop=2),
        Column("first", right=True, drop=3),
        Column("best", right=True),
        Column("last", right=True),
        Column("trained", right=True, drop=4),
        Column("seconds", right=True, drop=5),
    ]
    return FittedTable("Training curve", columns, rows)


def format_figure(value: float) -> str:
    """A loss or an error with at least four digits, never in scientific notation above 0.0001."""
    return f"{value:,.0f}" if abs(value) >= 10_000 else f"{value:.4g}"


def sparkline(values: Sequence[float], width: int = MAX_POINTS) -> str:
    """Values as a line of block characters, at most `width` of them; the last value is always drawn."""
    if len(values) > width:
        values = [values[round(position * (len(values) - 1) / (width - 1))] for position in range(width)]
    low, high = min(values), max(values)
    span = (high - low) or 1.0
    return "".join(BLOCKS[round((value - low) / span * (len(BLOCKS) - 1))] for value in values)
