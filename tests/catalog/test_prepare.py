"""Rows are prepared in batches exactly as each of them would be alone."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pricesmith.catalog.clean import CleanSettings, clean_row, clean_rows, plain_text
from pricesmith.catalog.clean_columns import FEWEST_TEXTS, find_unclean
from pricesmith.catalog.columns import ColumnMap
from pricesmith.catalog.dates import DateColumn
from pricesmith.catalog.prepare import prepare_rows
from pricesmith.catalog.readers.row_columns import BadRow, RawRow, RowBatch, RowColumns
from pricesmith.catalog.staging import Feed, PreparedRows, Rules
from pricesmith.catalog.variants import find_variants

PIECES = [
    *["Garden hose", "25 m", " ", "  ", "\n", "\n\n", "\r\n", "\t", "\0", "\x0b", "\x1f", "\x7f", "\x85", "\u2028"],
    *["&nbsp;", "&amp;lt;b&gt;", "&", "<b>", "</b>", "<br>", "<script>x</script>", "<!-- x -->", "<", ">", "&#36;9"],
    *[
        "$9.99",
        "was 1.299,00 €",
        "9 €",
        "USD 5",
        "5 usd",
        "Rs. 500",
        "kr",
        "price: 12",
        "two dollars",
        "[amount]",
        "Ft",
    ],
    *["é", "e\u0301", "小米手机", "עברית", "\u200f", "\u00ad", "\ufeff", "\ud800", "🎸", "İ", "AB-1234567", "N/A", "-"],
]
words = st.text(max_size=30) | st.lists(st.sampled_from(PIECES), max_size=10).map("".join)
cells = words | st.none() | st.booleans() | st.integers() | st.floats()
prices = st.sampled_from(["24.50", "$1,299.00", 12.5, 7, None, "", "free", "-3", "1e9", "9 €", "10 - 20", 0]) | cells
rows = st.fixed_dictionaries(
    {"name": words | cells, "price": prices},
    optional=dict.fromkeys(("text", "kind", "maker", "sku", "code", "weight", "day", "shop", "surprise"), cells),
)
COLUMNS = ColumnMap(
    title="name",
    text="text",
    price="price",
    category="kind",
    brand="maker",
    id="sku",
    currency="code",
    source="shop",
    extra=("weight",),
)
FILLER = [{"name": f"Garden hose {number}", "price": 5.0, "kind": "hose"} for number in range(FEWEST_TEXTS)]


def feed_of(**changes: Any) -> Feed:
    """A feed with the columns of the rows above."""
    return Feed("shop.csv", "garden", list, "", **{"columns": COLUMNS, **changes})


def join(parts: list[PreparedRows]) -> list[Any]:
    """Prepared rows one after another, as values that can be compared."""
    tables = [part.table.to_pylist() for part in parts if part.table is not None]
    return [
        [row for table in tables for row in table],
        b"".join(part.sketches for part in parts),
        b"".join(part.links for part in parts),
        [entry for part in parts for entry in part.rejected],
        [sum(counts) for counts in zip(*[vars(part.masked).values() for part in parts], strict=True)],
        sum(part.rows for part in parts),
        set().union(*[part.late for part in parts]),
        set().union(*[part.products for part in parts]),
        set().union(*[part.linked for part in parts]),
        sum(part.unnamed for part in parts),
        sum([part.price_columns for part in parts], Counter[str]()),
    ]


@settings(max_examples=40)
@given(
    st.lists(rows, min_size=1, max_size=12),
    st.sampled_from(["", "USD", "EUR", "HUF", "INR", "JPY", "KWD", "PLN"]),
    st.booleans(),
    st.sampled_from([20, 4_000]),
)
def test_a_batch_of_rows_is_prepared_as_each_row_is(
    values: list[dict[str, Any]], currency: str, drop: bool, limit: int
) -> None:
    cleaning = CleanSettings(
        currency=currency, drop_part_numbers=drop, max_chars=limit, max_title=limit, max_name=limit
    )
    rules = Rules(cleaning, currency or "USD", 0.01, 1e9)
    batch: list[RawRow | BadRow] = [RawRow("shop.csv", number, row) for number, row in enumerate(values, start=1)]
    batch.insert(1, BadRow("shop.csv", 1_000, "not JSON"))
    filler = [RawRow("shop.csv", number, row) for number, row in enumerate(FILLER, start=2_000)]
    parts = [prepare_rows([row], feed_of(), rules) for row in batch] + [prepare_rows(filler, feed_of(), rules)]
    assert join([prepare_rows([*batch, *filler], feed_of(), rules)]) == join(parts)


@pytest.mark.parametrize(
    "changes",
    [
        {"named": True},
        {"variants": find_variants(["item_group_id", "title"])},
        {"dates": DateColumn("day", "ymd")},
        {"columns": COLUMNS.model_copy(update={"sale": "text"})},
        {"columns": ColumnMap(title=None, text=None, price="price", extra=("name", "weight"))},
    ],
)
def test_a_batch_of_any_feed_is_prepared_as_each_row_is(changes: dict[str, Any]) -> None:
    rules = Rules(CleanSettings(currency="USD"), "USD", 1.0, 100.0)
    values: list[dict[str, Any]] = [
        {
            "name": f"Hose & lamp {number % 5}" if number % 3 else "$5 <b>a</b>",
            "price": number % 110,
            "text": None if number % 2 else str(number % 9),
            "weight": [None, "", "2 kg", 3.0][number % 4],
            "day": "2026-01-02" if number % 6 else "soon",
            "item_group_id": number % 8 or "",
            "group": f"g{number % 4}",
        }
        for number in range(130)
    ]
    batch = [RawRow("shop.csv", number, row) for number, row in enumerate(values, start=1)]
    feed = feed_of(**changes)
    whole = prepare_rows(batch, feed, rules)
    assert join([whole]) == join([prepare_rows([row], feed, rules) for row in batch])
    assert whole.table.num_rows > len(whole.rejected) > 0


@settings(max_examples=40)
@given(st.lists(rows, min_size=1, max_size=12), st.sampled_from(["", "price", "day"]), st.booleans())
def test_rows_by_column_are_prepared_as_rows(values: list[dict[str, Any]], sale: str, with_date: bool) -> None:
    header = ["weight", *dict.fromkeys(name for row in values for name in row if name != "weight")]
    columns = RowColumns(header, [[row.get(name) for row in values] for name in header])
    feed = feed_of(
        columns=COLUMNS.model_copy(update={"sale": sale, "sale_dates": ("kind",) if sale else ()}),
        dates=DateColumn("day", "ymd") if with_date else None,
        variants=find_variants(["item_group_id", "title"]) if with_date else None,
    )
    batch = RowBatch("shop.csv", 5, columns)
    rules = Rules(CleanSettings(currency="EUR"), "EUR", 0.01, 1e9)
    assert join([prepare_rows(batch, feed, rules)]) == join([prepare_rows(list(batch), feed, rules)])


@given(st.lists(rows, min_size=1, max_size=8))
def test_rows_to_be_priced_are_cleaned_as_each_of_them_is(values: list[dict[str, Any]]) -> None:
    settings = CleanSettings(currency="EUR")
    given = [*values, *FILLER, *values]
    ids = [str(number) for number in range(len(given))]
    alone = [clean_row(row, COLUMNS, settings, id=id, category="x") for row, id in zip(given, ids, strict=True)]
    assert repr(clean_rows(given, COLUMNS, settings, ids=ids, category="x")) == repr(alone)


@given(st.lists(words, max_size=12), st.booleans())
def test_texts_that_are_passed_through_are_clean(texts: list[str], lines: bool) -> None:
    clean = ["", "a hose", "a\nhose" if lines else "hose"] * FEWEST_TEXTS
    unclean = find_unclean([*clean, *texts, *clean], lines=lines)
    assert set(unclean) <= set(range(len(clean), len(clean) + len(texts))) or any("\0" in text for text in texts)
    for place, text in enumerate(texts, start=len(clean)):
        assert place in unclean or plain_text(text, lines) == text


@pytest.mark.parametrize(
    "text", ["a  b", " a", "a ", "\na", "a\n", "a\n b", "a \nb", "a\n\nb", "a\tb", "é", "a&b", "a<b"]
)
def test_texts_that_need_cleaning_are_found(text: str) -> None:
    texts = ["a hose"] * FEWEST_TEXTS
    assert find_unclean([*texts, text, *texts], lines=True) == [FEWEST_TEXTS]
    assert find_unclean([text, *texts], lines=False) == [0]
    assert find_unclean([*texts, text], lines=True) == [FEWEST_TEXTS]
