"""The median pricer, which does not use the text."""

from __future__ import annotations

from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from pricesmith.core.types import Item, Listing
from pricesmith.pricers.median import MedianRecipe


def items_of(prices: dict[str, list[float]]) -> list[Item]:
    return [Item(Listing("", "", "", category), price) for category, group in prices.items() for price in group]


def quoted(recipe: MedianRecipe, items: list[Item], category: str, run: Path) -> float | None:
    recipe.fit(items, [], run)
    return recipe.load(run).price([Listing("", "", "", category)])[0].price


def test_a_category_with_enough_rows_has_its_own_median(tmp_path: Path) -> None:
    """Lamps are quoted as lamps."""
    items = items_of({"lamp": [1.0, 2.0, 9.0], "drill": [50.0, 60.0, 70.0]})
    assert quoted(MedianRecipe(min_rows=3), items, "lamp", tmp_path) == 2.0


def test_a_small_or_unknown_category_gets_the_median_of_all(tmp_path: Path) -> None:
    """Two rows are too few for a category's own median."""
    items = items_of({"lamp": [1.0, 2.0, 3.0], "rare": [500.0]})
    assert quoted(MedianRecipe(min_rows=2), items, "rare", tmp_path) == 2.5
    assert quoted(MedianRecipe(min_rows=2), items, "never seen", tmp_path) == 2.5


def test_items_without_a_category_are_no_category(tmp_path: Path) -> None:
    """The empty name is not a kind of thing."""
    items = items_of({"": [1.0, 1.0], "lamp": [9.0, 9.0, 9.0]})
    assert quoted(MedianRecipe(min_rows=2), items, "", tmp_path) == 9.0


@settings(max_examples=30)
@given(st.lists(st.floats(0.01, 1e5), min_size=1, max_size=50), st.floats(0.01, 1e5))
def test_no_other_constant_has_a_smaller_error(prices: list[float], other: float) -> None:
    """The median is the constant with the least mean absolute error."""
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        best = quoted(MedianRecipe(), items_of({"": prices}), "", Path(folder))
    assert best is not None
    assert sum(abs(best - p) for p in prices) <= sum(abs(other - p) for p in prices) * (1 + 1e-9)
