"""What fits of several kinds share: the scale of log prices, threads, and the training curve.

    scale = PriceScale.from_prices(prices)
    with single_threaded, ThreadPoolExecutor(N_CORES) as pool:
        list(pool.map(train, members))
    write_curve(folder, [TrainingPoint(series="network 1", epoch=1, train_loss=0.61, validation_mae=48.2, seconds=2.1)])
    console.print(draw_curve(read_curve(folder)))

The target of every model is the log price: quotes are positive, and the same in any currency unit. The curve has one
line for each epoch or step in `training.jsonl` of a model folder.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from pydantic import ConfigDict, ValidationError

from pricesmith.catalog.items import CatalogItems
from pricesmith.core.errors import InputError
from pricesmith.core.model_files import damaged_file
from pricesmith.core.settings import Settings
from pricesmith.core.threads import N_CORES
from pricesmith.core.types import Item

if TYPE_CHECKING:
    from rich.console import RenderableType

T = TypeVar("T")
R = TypeVar("R")
LARGEST_LOG = 300.0  # |log price| is clipped here, so that a quote is finite and above 0


def get_weights(items: Sequence[Item]) -> NDArray[np.float64] | None:
    """The sample weights of items [n], None if all are 1: then a fit is the same as without weights, to the bit."""
    if isinstance(items, CatalogItems):
        return items.weights
    weights = np.array([item.weight for item in items], dtype=np.float64)
    return None if (weights == 1).all() else weights


@dataclass(frozen=True, slots=True)
class PriceScale:
    """Standardization of log prices: (logs - mean) / spread; `top` is the highest log price."""

    logs: NDArray[np.float64]
    mean: float
    spread: float
    top: float

    @classmethod
    def from_prices(cls, prices: Sequence[float] | NDArray[np.float64]) -> PriceScale:
        """The scale of training prices; the spread is 1 if all prices are equal."""
        logs = np.log(np.array(prices))
        return cls(logs, float(logs.mean()), float(logs.std()) or 1.0, float(logs.max()))


def require_log_prices(present: bool, folder: Path) -> None:
    """Raise InputError if the files of a model lack the log scale: earlier versions fitted log(1 + price)."""
    if not present:
        raise InputError(
            f"{folder} was fitted by an earlier version of Pricesmith",
            got="a model of log(1 + price)",
            allowed="a model of log price",
            hint="Run the same `pricesmith fit` command again with --overwrite.",
        )


FEW_ROWS = 32  # work on fewer rows is done before threads have started


def map_in_threads(function: Callable[[T], R], values: Iterable[T]) -> list[R]:
    """The function of each value, in order, computed in `N_CORES` threads if there are several values."""
    values = list(values)
    if len(values) < 2:
        return [function(value) for value in values]
    with ThreadPoolExecutor(N_CORES) as pool:
        return list(pool.map(function, values))


class SingleThreadedPool:
    """Context in which torch computes in the calling thread: networks do not wait for each other, and sums are
    reproducible.

    Several threads may enter; the last to leave restores the number of threads.
    """

    def __init__(self) -> None:
        self.lock, self.inside, self.before = threading.Lock(), 0, 1

    def __enter__(self) -> None:
        import torch

        with self.lock:
            if not self.inside:
                self.before = torch.get_num_threads()
                torch.set_num_threads(1)
            self.inside += 1

    def __exit__(self, *_: object) -> None:
        import torch

        with self.lock:
            self.inside -= 1
            if not self.inside:
                torch.set_num_threads(self.before)


single_threaded = SingleThreadedPool()


class SingleThreadedBlas:
    """Context in which BLAS computes in the calling thread: its threads wait for each other longer than matrices of 64
    rows take.

    Several threads may enter; the last to leave restores the number of threads.
    """

    def __init__(self) -> None:
        self.lock, self.inside = threading.Lock(), 0
        self.libraries: Any = None  # found at the first use, which takes milliseconds
        self.limit: Any = None

    def __enter__(self) -> None:
        from threadpoolctl import ThreadpoolController

        with self.lock:
            if not self.inside:
                if self.libraries is None:
                    self.libraries = ThreadpoolController().select(user_api="blas")
                self.limit = self.libraries.limit(limits=1)
            self.inside += 1

    def __exit__(self, *_: object) -> None:
        with self.lock:
            self.inside -= 1
            if not self.inside:
                self.limit.restore_original_limits()


single_threaded_blas = SingleThreadedBlas()


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
    from pricesmith.core.tables import Column, FittedTable

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
