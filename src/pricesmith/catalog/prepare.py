"""The work of the first pass of curate on one batch of rows: examine, clean, hash and sketch. A function of the batch.

    rows = prepare_rows([RawRow("shop.csv", 1, {"title": "Garden hose", "price": "24.50"})], feed, rules)
    rows.table.num_rows, rows.rejected

It works column by column. It runs in several processes at once (`reading`), so nothing here depends on rows of other
batches.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence, Set
from itertools import compress
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pricesmith.catalog.clean import CleanRows, clean_columns, column_texts
from pricesmith.catalog.dates import NO_DAY
from pricesmith.catalog.near_duplicates import N_HASHES, hash_words, sketch_joined
from pricesmith.catalog.readers.row_columns import RowColumns, get_column, select_rows
from pricesmith.catalog.readers.sources import BadRow, RawRow, RowBatch
from pricesmith.catalog.staging import (
    TOO_SHORT,
    Feed,
    Masked,
    PreparedRows,
    Rules,
    clean_source,
    digest,
    examine_prices,
    get_ids,
    staged_schema,
)
from pricesmith.catalog.word_columns import JoinedWords, join_words
from pricesmith.text.words import count_letters

Rows = Sequence[Mapping[str, object]]


def prepare_rows(batch: Sequence[RawRow | BadRow], feed: Feed, rules: Rules) -> PreparedRows:
    """A batch of a feed, ready to be staged."""
    prepared = PreparedRows(len(batch), [], Masked())
    if isinstance(batch, RowBatch):
        rows: Rows = batch.rows
        numbers: Sequence[int] = range(batch.first, batch.first + len(batch))
    else:
        read = [raw for raw in batch if isinstance(raw, RawRow)]
        rows, numbers = [raw.values for raw in read], [raw.number for raw in read]
    if not feed.named:
        note_late_columns(prepared, rows, feed.columns.names())
    if feed.variants:
        note_products(prepared, rows, feed)
    outcomes: list[Any] = examine_prices(rows, feed, rules, prepared.price_columns)
    is_priced = [not isinstance(outcome, str) for outcome in outcomes]
    if any(is_priced):
        prices, places = list(compress(outcomes, is_priced)), list(compress(range(len(rows)), is_priced))
        is_long = fill_table(
            prepared, select_rows(rows, is_priced), [numbers[place] for place in places], prices, feed, rules
        )
        for place in np.flatnonzero(~is_long).tolist():
            outcomes[places[place]] = TOO_SHORT
    note_rejects(prepared, batch, outcomes)
    return prepared


def note_late_columns(prepared: PreparedRows, rows: Rows, known: Set[str]) -> None:
    """Note the columns of rows that the leak check did not see."""
    if isinstance(rows, RowColumns):
        prepared.late.update(dict.fromkeys(name for name in rows.header if name not in known))
        return
    for row in rows:
        if not row.keys() <= known:
            prepared.late.update(dict.fromkeys(row.keys() - known))


def note_rejects(prepared: PreparedRows, batch: Sequence[RawRow | BadRow], outcomes: Sequence[Any]) -> None:
    """Note the rows that are not staged: `outcomes` are the prices of rows that could be read, or why they are not
    staged."""
    if isinstance(batch, RowBatch):
        reasons = [(place, reason) for place, reason in enumerate(outcomes, batch.first) if isinstance(reason, str)]
        prepared.rejected += reasons
        return
    results = iter(outcomes)
    for raw in batch:
        reason = raw.reason if isinstance(raw, BadRow) else next(results)
        if isinstance(reason, str):
            prepared.rejected.append((raw.number, reason))


def note_products(prepared: PreparedRows, rows: Rows, feed: Feed) -> None:
    """Note the products of rows, and the variants that a product's row lists, whether or not that row is staged."""
    assert feed.variants is not None
    pairs: list[tuple[int, int]] = []
    for row in rows:
        name, links = feed.variants.group_of(row), feed.variants.links_of(row)
        if name:
            prepared.products.add(digest(name)[0])
        else:
            prepared.unnamed += 1
        if links:
            pairs += [(digest(link)[0], digest(name)[0]) for link in links]
    prepared.linked = {variant for variant, _ in pairs}
    prepared.links = np.array(pairs, dtype=np.uint64).tobytes()


def fill_table(
    prepared: PreparedRows, rows: Rows, numbers: Sequence[int], prices: Sequence[float], feed: Feed, rules: Rules
) -> NDArray[np.bool_]:
    """Clean, hash and sketch rows that have a price. Whether each is staged: it is long enough."""
    import pyarrow as pa

    ids = get_ids(rows, feed.columns)
    clean = clean_columns(rows, feed.columns, rules.cleaning, ids=ids, category=feed.category)
    bodies = clean.bodies()
    words = join_words(bodies)
    is_long = find_long(bodies, words, rules.cleaning.min_chars)
    for place, amounts in clean.amounts.items():
        if is_long[place]:
            prepared.masked.count(amounts, prices[place])
    if not is_long.any():
        return is_long
    table = pa.Table.from_pydict(
        {
            **hash_rows(clean, prices, bodies),
            "words": hash_words(words),
            "price": prices,
            "given": clean.ids,
            "title": clean.titles,
            "text": clean.texts,
            "category": clean.categories,
            "brand": clean.brands,
            "number": numbers,
            **describe_rows(rows, feed),
        },
        staged_schema(),
    )
    sketches = np.zeros((len(rows), N_HASHES), dtype=np.uint16) if feed.named else sketch_joined(words)
    prepared.table = table if is_long.all() else table.filter(pa.array(is_long))
    prepared.sketches = sketches[is_long].tobytes()
    return is_long


def find_long(bodies: Sequence[str], words: JoinedWords, least: int) -> NDArray[np.bool_]:
    """Which rows have enough letters and digits to price anything by (`clean.is_too_short`); (rows,)."""
    is_long = words.count_letters() >= least
    for place, body in enumerate(bodies):
        if not body.isascii():
            is_long[place] = count_letters(body, least) >= least
    return is_long


def hash_rows(clean: CleanRows, prices: Sequence[float], bodies: Sequence[str]) -> dict[str, NDArray[np.uint64]]:
    """`digest` of all that a row says, and of what buyers read of it: its brand and its body."""
    fields = zip(clean.titles, clean.texts, clean.categories, clean.brands, prices, clean.ids, strict=True)
    wholes = [f"{title}\0{text}\0{kind}\0{brand}\0{price!r}\0{id}" for title, text, kind, brand, price, id in fields]
    looks = [f"{brand}\0{body}" for brand, body in zip(clean.brands, bodies, strict=True)]
    hashes, more = digest_texts(wholes)
    look, more_look = digest_texts(looks)
    return {"hash": hashes, "more": more, "look": look, "looks": more_look}


def digest_texts(texts: Sequence[str]) -> tuple[NDArray[np.uint64], NDArray[np.uint64]]:
    """`digest` of each text: the first and the second 64 bits; (texts,) each."""
    sha256 = hashlib.sha256
    whole = b"".join([sha256(text.encode()).digest() for text in texts])
    numbers = np.frombuffer(whole, dtype=">u8").reshape(-1, 4).astype(np.uint64)
    return numbers[:, 0], numbers[:, 1]


def describe_rows(rows: Rows, feed: Feed) -> dict[str, list[Any]]:
    """What a row says of its group, product, day and source."""
    empty = [""] * len(rows)
    return {
        "named": column_texts(rows, "group") if feed.named else empty,
        "product": [product_of(feed, row) for row in rows] if feed.variants else [0] * len(rows),
        "day": [NO_DAY] * len(rows) if feed.dates is None else [feed.dates.day(row) for row in rows],
        "origin": [*map(clean_source, get_column(rows, feed.columns.source))] if feed.columns.source else empty,
    }


def product_of(feed: Feed, values: Mapping[str, object]) -> int:
    """64 bits of the name of a row's product, 0 if it names none."""
    return digest(name)[0] if feed.variants and (name := feed.variants.group_of(values)) else 0
