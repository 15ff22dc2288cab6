"""What counts as far worse: more than a quarter, for certain, on the same items."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pricesmith.pricers.llm.divergence import CERTAIN, FAR, MIN_ITEMS, far_worse_than, is_far_worse

ERRORS = st.lists(st.floats(0.01, 1e6), min_size=MIN_ITEMS, max_size=200)


@given(ERRORS, st.floats(0.0, FAR))
def test_what_is_within_the_factor_for_every_item_is_never_far_worse(errors: list[float], factor: float) -> None:
    assert not is_far_worse([factor * error for error in errors], errors)


@given(ERRORS)
def test_twice_a_constant_error_is_far_worse(errors: list[float]) -> None:
    """Without any spread between items there is no doubt."""
    assert is_far_worse([2.0] * len(errors), [1.0] * len(errors))


@given(ERRORS, st.floats(1e-3, 1e3))
def test_the_currency_does_not_matter(errors: list[float], scale: float) -> None:
    worse = [1.5 * error + 1 for error in errors]
    scaled = is_far_worse([scale * error for error in worse], [scale * error for error in errors])
    margin = np.array(worse) - FAR * np.array(errors)
    if abs(margin.mean() - CERTAIN * margin.std(ddof=1) / np.sqrt(len(errors))) > 1e-6 * np.abs(margin).max():
        assert scaled == is_far_worse(worse, errors)


def test_equally_good_models_are_hardly_ever_flagged() -> None:
    """Heavy-tailed errors of 40 items, the true ratio at the limit itself: about one in 700 is expected."""
    draw = np.random.default_rng(0)
    flagged = 0
    for _ in range(2000):
        reference = draw.lognormal(3, 1, 40)
        flagged += is_far_worse((FAR * draw.lognormal(3, 1, 40)).tolist(), reference.tolist())
    assert flagged <= 10


def test_few_items_are_never_far_worse_and_the_longer_list_is_truncated() -> None:
    assert not is_far_worse([100.0] * (MIN_ITEMS - 1), [1.0] * 500)
    assert is_far_worse([100.0] * MIN_ITEMS, [1.0] * 500)


@pytest.mark.parametrize("wrong", [float("nan"), float("inf")])
def test_an_error_that_is_no_number_is_far_worse(wrong: float) -> None:
    assert is_far_worse([1.0] * 30 + [wrong], [1.0] * 31)


def test_the_first_reference_that_is_missed_is_named() -> None:
    errors = [3.0] * 30
    assert far_worse_than(errors, {"a": [2.9] * 30, "b": [1.0] * 30}) == "b"
    assert far_worse_than(errors, {"a": [2.9] * 30}) == ""
    assert far_worse_than(errors, {"a": []}) == ""
