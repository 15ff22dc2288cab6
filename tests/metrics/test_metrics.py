"""Metrics: one number for each, in its unit, with no answer charged at the constant's quote."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pricesmith.core.errors import PricesmithError, UsageError
from pricesmith.metrics.metrics import METRICS, charge_unanswered, get_metric, interval_factors, is_course_range

prices = st.floats(0.01, 1e6)
pairs = st.lists(st.tuples(prices, prices), min_size=1, max_size=50)
TRUTH = np.array([100.0, 10.0, 200.0, 400.0])
QUOTE = np.array([120.0, 45.0, 100.0, 400.0])


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("MAE", (20 + 35 + 100 + 0) / 4),
        ("median error", (20 + 35) / 2),
        ("within 20 %", 2 / 4),
        ("course hit", 3 / 4),
        ("bias", (20 + 35 - 100 + 0) / 4),
        ("RMSLE", np.sqrt(np.mean(np.log([121 / 101, 46 / 11, 101 / 201, 1.0]) ** 2))),
    ],
)
def test_a_metric_is_what_its_name_says(name, expected):
    """Worked out by hand on four items."""
    assert METRICS[name].value(TRUTH, QUOTE) == pytest.approx(expected)


def test_rmsle_is_scikit_learns():
    """The root mean squared error of log(1 + price), as the field computes it."""
    from sklearn.metrics import root_mean_squared_log_error

    assert METRICS["RMSLE"].value(TRUTH, QUOTE) == pytest.approx(root_mean_squared_log_error(TRUTH, QUOTE))


@settings(max_examples=50)
@given(pairs)
def test_no_error_is_below_zero_and_no_share_outside_one(data):
    """Errors are at least 0, shares between 0 and 1, and a perfect quote has no error."""
    truth, quote = (np.array(column) for column in zip(*data, strict=True))
    for metric in METRICS.values():
        value = metric.value(truth, quote)
        assert value >= 0 or metric.better == "zero"
        assert metric.unit != "share" or value <= 1
        assert metric.value(truth, truth) == (1 if metric.better == "higher" else 0)


@settings(max_examples=50)
@given(pairs, prices)
def test_an_item_without_an_answer_costs_what_the_constant_costs(data, median):
    """To abstain is to quote the constant, whatever the metric: no better and no worse."""
    truth = np.array([true for true, _ in data])
    abstained, answered = charge_unanswered([None] * len(truth), median)
    assert not answered.any()
    for metric in METRICS.values():
        assert metric.value(truth, abstained) == metric.value(truth, np.full(len(truth), median))


def test_no_answer_is_never_scored_as_zero():
    """None becomes the constant's quote, an answer stays what it is."""
    quote, answered = charge_unanswered([5.0, None], 34.9)
    assert (quote.tolist(), answered.tolist()) == ([5.0, 34.9], [True, False])


@pytest.mark.parametrize(
    ("currency", "price_range", "expected"),
    [
        ("USD", (0.50, 999.49), True),
        ("USD", (1.0, 500.0), True),
        ("EUR", (0.50, 999.49), False),
        ("USD", (0.01, float("inf")), False),
        ("USD", (0.01, 999.49), False),
    ],
)
def test_the_course_hit_rate_is_for_dollars_in_its_range_only(currency, price_range, expected):
    """$40 means something else in another currency or among other prices."""
    assert is_course_range(currency, price_range) is expected


def test_a_metric_without_items_is_refused():
    """An empty mean is an error, not a NaN."""
    with pytest.raises(PricesmithError, match="no items"):
        METRICS["MAE"].value(np.array([]), np.array([]))


def test_an_unknown_metric_is_refused_with_the_names_there_are():
    """The error lists what can be asked for."""
    with pytest.raises(UsageError, match="median error"):
        get_metric("mean eror")


def test_interval_factors_are_geometric_means():
    """From price ÷ 2 to price × 3, whatever the price."""
    quote = np.array([10.0, 100.0])
    assert interval_factors(quote, quote / 2, quote * 3) == pytest.approx((2.0, 3.0))
