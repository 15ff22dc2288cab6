"""One evaluator for whatever prices: listings in, quotes as they come, nothing swallowed."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pricesmith.core.errors import InputError, PricesmithError
from pricesmith.core.types import Item, Listing, Quote
from pricesmith.evaluation.evaluate import clean_quote, evaluate, to_arrays
from pricesmith.testing import make_items

ITEMS, GROUPS = make_items(40)


class Says:
    """A pricer that returns these quotes, in order, for any listings."""

    name = "says"

    def __init__(self, quotes):
        self.quotes, self.asked = list(quotes), []

    def price(self, listings):
        self.asked.append(list(listings))
        return [self.quotes.pop(0) for _ in listings]


def evaluate_quotes(quotes, **more):
    """The evaluation of these quotes on as many simulated items."""
    items = ITEMS[: len(quotes)]
    return evaluate(Says(quotes), items, catalog="c0ffee", median=34.9, price_range=(0.5, 999.49), **more)


def test_a_pricer_sees_listings_and_never_a_price():
    """What it is handed are the items' listings, in order, in batches."""
    pricer = Says([Quote(1.0)] * 7)
    evaluate(pricer, ITEMS[:7], catalog="c0ffee", median=34.9, batch=3)
    assert [len(part) for part in pricer.asked] == [3, 3, 1]
    assert [listing for part in pricer.asked for listing in part] == [item.listing for item in ITEMS[:7]]


def test_rows_keep_order_truth_and_raw_answer():
    """One row for each item, with its own truth, raw answer and cost, and a share of the batch's seconds."""
    result = evaluate_quotes([Quote(5.0, 4.0, 6.0, "five", 0.01), Quote(None, raw="no idea")])
    first, second = result.rows
    assert (first.id, first.truth, first.price, first.low, first.high) == (
        "made-0",
        ITEMS[0].price,
        5.0,
        4.0,
        6.0,
    )
    assert (first.raw, first.cost_usd, second.price, second.raw) == ("five", 0.01, None, "no idea")
    assert first.seconds == second.seconds >= 0


@pytest.mark.parametrize("price", [0.0, -5.0, math.nan, math.inf, -math.inf])
def test_an_answer_that_is_not_a_price_is_unanswered(price):
    """It is None, never 0; its text is kept, and the note counts it."""
    result = evaluate_quotes([Quote(price), Quote(price, raw="an answer"), Quote(7.0)])
    assert [row.price for row in result.rows] == [None, None, 7.0]
    assert [row.raw for row in result.rows] == [repr(price), "an answer", ""]
    assert result.note == "2 answers that are not a price"


def test_quotes_are_clipped_to_the_range_and_truths_are_not():
    """All quotes are clipped in the same way; a truth beyond the range is unchanged."""
    items = [Item(Listing("expensive", "", ""), 5000.0), Item(Listing("cheap", "", ""), 0.01)]
    pricer = Says([Quote(2000.0, 100.0, 3000.0), Quote(0.1, 0.01, 0.2)])
    result = evaluate(pricer, items, catalog="c", median=30.0, price_range=(0.5, 999.49))
    assert [(row.truth, row.price, row.low, row.high) for row in result.rows] == [
        (5000.0, 999.49, 100.0, 999.49),
        (0.01, 0.5, 0.5, 0.5),
    ]


@given(*(st.none() | st.floats() for _ in range(3)), st.floats())
def test_whatever_is_quoted_a_usable_quote_is_a_price_in_range_or_none(price, low, high, cost):
    """Price, low and high are all finite and in range, or None; an interval is whole and ordered."""
    quote, faults = clean_quote(Quote(price, low, high, "", cost), (0.5, 999.49))
    for amount in (quote.price, quote.low, quote.high):
        assert amount is None or 0.5 <= amount <= 999.49
    assert (quote.low is None) == (quote.high is None)
    assert quote.low is None or (quote.price is not None and quote.low <= quote.high)
    assert quote.cost_usd >= 0
    assert math.isfinite(quote.cost_usd)
    assert (quote.price is None) == (price is None or "answers that are not a price" in faults)


def test_an_interval_upside_down_is_dropped_and_counted():
    """Its price is kept."""
    result = evaluate_quotes([Quote(5.0, 6.0, 4.0), Quote(5.0, math.nan, 6.0), Quote(5.0, 4.0)])
    assert [(row.price, row.low, row.high) for row in result.rows] == [(5.0, None, None)] * 3
    assert result.note == "3 invalid intervals"


@pytest.mark.parametrize("answer", [[Quote(1.0)], [Quote(1.0)] * 3, [], iter([Quote(1.0)] * 2), None])
def test_an_answer_of_the_wrong_length_is_an_error(answer):
    """One missing quote would shift all later ones, so nothing is paired by guess."""

    class Wrong:
        name = "wrong"

        def price(self, listings):
            return answer

    with pytest.raises(PricesmithError, match="one quote for each listing"):
        evaluate(Wrong(), ITEMS[:2], catalog="c", median=30.0)


def test_a_bare_number_is_not_a_quote():
    """The error names what was given."""
    with pytest.raises(PricesmithError, match="float"):
        evaluate_quotes([5.0])


def test_a_pricers_own_error_is_not_swallowed():
    """An exception in a pricer reaches the caller."""

    class Breaks:
        name = "breaks"

        def price(self, listings):
            raise RuntimeError("out of memory")

    with pytest.raises(RuntimeError, match="out of memory"):
        evaluate(Breaks(), ITEMS[:2], catalog="c", median=30.0)


def test_two_items_of_one_id_are_refused():
    """Quotes are joined by id, so each id must be unique."""
    with pytest.raises(InputError, match="same id"):
        evaluate(Says([]), [ITEMS[0], ITEMS[0]], catalog="c", median=30.0)


@pytest.mark.parametrize("price", [0.0, -1.0, math.nan, math.inf])
def test_a_truth_that_is_not_a_price_is_refused(price):
    """It would make every error meaningless."""
    with pytest.raises(InputError, match="not a price"):
        evaluate(Says([]), [Item(ITEMS[0].listing, price)], catalog="c", median=30.0)


def test_no_items_are_an_evaluation_without_rows():
    """An empty list gives an empty evaluation."""
    assert evaluate(Says([]), [], catalog="c", median=30.0).rows == ()


def test_an_item_without_a_group_is_its_own():
    """A group named like another item's id does not include that item."""
    result = evaluate_quotes([Quote(1.0)] * 3, groups={"made-0": "made-2", "made-1": "made-2", "other": "x"})
    assert result.groups == {"made-0": "made-2", "made-1": "made-2"}
    assert to_arrays(result).groups.tolist() == [0, 0, 1]


def test_an_unanswered_item_is_charged_at_the_median():
    """Its quote in the arrays is the median, and `answered` is False."""
    data = to_arrays(evaluate_quotes([Quote(None), Quote(7.0)]))
    assert (data.quote.tolist(), data.answered.tolist()) == ([34.9, 7.0], [False, True])
