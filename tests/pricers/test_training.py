"""Training curves: written, read, refused if damaged, and drawn in any width."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from rich.console import Console

from pricesmith.core.errors import InputError
from pricesmith.pricers.boosting import BoostingRecipe
from pricesmith.pricers.training import (
    CURVE,
    SingleThreadedBlas,
    TrainingPoint,
    draw_curve,
    read_curve,
    sparkline,
    write_curve,
)
from pricesmith.testing import make_items

POINTS = [
    TrainingPoint(series="network 1", epoch=n, train_loss=1 / n, validation_mae=12345.678 / n, seconds=n)
    for n in range(1, 100)
]


def test_a_curve_is_read_as_it_was_written(tmp_path: Path) -> None:
    """Appending keeps the earlier lines; a folder without a curve has no points."""
    assert read_curve(tmp_path) == []
    write_curve(tmp_path, POINTS[:2])
    write_curve(tmp_path, POINTS[2:3], append=True)
    assert read_curve(tmp_path) == POINTS[:3]


def test_a_damaged_curve_is_refused(tmp_path: Path) -> None:
    """The line is named."""
    (tmp_path / CURVE).write_text('{"epoch": 1}\n{"epoch": "one"}\n', encoding="utf-8")
    with pytest.raises(InputError, match="line 2"):
        read_curve(tmp_path)


class BlasStandIn:
    """Libraries with four threads."""

    threads = 4

    def limit(self, limits: int) -> BlasStandIn:
        self.before, self.threads = self.threads, limits
        return self

    def restore_original_limits(self) -> None:
        self.threads = self.before


def test_threads_of_blas_come_back_when_the_last_user_is_done() -> None:
    """Whoever came first may leave first: two models in one server do."""
    context, blas = SingleThreadedBlas(), BlasStandIn()
    context.libraries = blas
    for _ in range(2):
        context.__enter__()
        context.__enter__()
        context.__exit__()
        assert blas.threads == 1
        context.__exit__()
        assert blas.threads == 4


@pytest.mark.parametrize("width", [40, 80, 200])
def test_no_digit_of_a_drawn_curve_is_cut(width: int) -> None:
    """Best and last figures are whole on any terminal."""
    console = Console(width=width, file=io.StringIO())
    console.print(draw_curve(POINTS))
    text = console.file.getvalue()  # type: ignore[attr-defined]
    assert "124.7" in text
    assert "0.0101" in text
    assert "…" not in text
    assert max(map(len, text.splitlines())) <= width


def test_a_sparkline_has_its_ends(tmp_path: Path) -> None:
    """The highest and the lowest value have the highest and the lowest bar; equal values have the lowest."""
    line = sparkline([float(n) for n in range(100, 0, -1)])
    assert (line[0], line[-1], len(line)) == ("█", "▁", 40)
    assert sparkline([3.0, 3.0]) == "▁▁"


def test_boosting_records_its_curve_and_stops_as_without_it(tmp_path: Path) -> None:
    """Loss on the training rows falls; the MAE in money of the kept trees is recorded."""
    items, _ = make_items(600)
    BoostingRecipe(n_estimators=60).fit(items[:450], items[450:], tmp_path)
    points = read_curve(tmp_path)
    assert points[0].step == 1
    assert (points[-1].train_loss or 9) < (points[0].train_loss or 0)
    assert all(point.validation_mae for point in points)
