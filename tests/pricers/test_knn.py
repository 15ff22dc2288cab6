"""The price of similar things."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pricesmith.core.types import Listing
from pricesmith.pricers.knn import KnnRecipe, weighted_median
from pricesmith.testing import make_items


@given(st.lists(st.tuples(st.floats(-5, 5), st.floats(0.01, 1)), min_size=1, max_size=20))
@settings(max_examples=50)
def test_a_weighted_median_lies_among_its_values(pairs: list[tuple[float, float]]) -> None:
    """It is between the lowest and the highest value."""
    values, weights = np.array(pairs).T
    assert values.min() <= weighted_median(values, weights) <= values.max()


def test_even_weights_give_the_plain_median() -> None:
    """With equal weights it is the ordinary median."""
    assert weighted_median(np.array([3.0, 1.0, 2.0]), np.ones(3)) == pytest.approx(2.0)


def test_the_nearest_one_decides_when_it_is_the_same_thing(tmp_path: Path) -> None:
    """With one neighbor asked, a training listing gets its own price."""
    items, _ = make_items(200)
    recipe = KnnRecipe(n_neighbors=1)
    recipe.fit(items, [], tmp_path)
    quotes = recipe.load(tmp_path).price([item.listing for item in items[:20]])
    assert [quote.price for quote in quotes] == pytest.approx([item.price for item in items[:20]])


def test_nothing_similar_gets_the_median_of_all(tmp_path: Path) -> None:
    """A text without a known word gets the median price."""
    items, _ = make_items(201)
    recipe = KnnRecipe()
    recipe.fit(items, [], tmp_path)
    (quote,) = recipe.load(tmp_path).price([Listing("1", "zzzz", "qqqq")])
    assert quote.price == pytest.approx(float(np.median([item.price for item in items])))
