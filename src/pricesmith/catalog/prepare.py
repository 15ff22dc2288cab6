"""The work of the first pass of curate on one batch of rows: examine, clean, hash and sketch. A function of the batch.

    rows = prepare_rows([RawRow("shop.csv", 1, {"title": "Garden hose", "price": "24.50"})], feed, rules)
    rows.table.num_rows, rows.rejected

It works column by column. It runs in several processes at once (`reading`), so nothing here depends on rows of other
batches.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pricesmith.catalog.clean import CleanRows, clean_columns, column_texts
from pricesmith.catalog.dates import NO_DAY
from pricesmith.catalog.near_duplicates import N_HASHES, hash_words, sketch_joined
from pricesmith.catalog.readers.sources import BadRow, RawRow
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


def prepare_rows(batch: Sequence[RawRow | BadRow], feed: Feed, rules: Rules) -> PreparedRows:
    """A batch of a feed, ready to be staged."""
    prepared = PreparedRows(len(batch), [], Masked())
    read = [raw for raw in batch if isinstance(raw, RawRow)]
    if not feed.named:
        known = feed.columns.names()
        for row in read:
            if not row.values.keys() <= known:
                prepared.late.update(dict.fromkeys(row.values.keys() - known))
    if feed.variants:
        note_products(prepared, read, feed)
    outcomes: list[Any] = examine_prices([raw.values for raw in read], feed, rules, prepared.price_columns)
    rows = [raw for raw, outcome in zip(read, outcomes, strict=True) if not isinstance(outcome, str)]
    prices = [outcome for outcome in outcomes if not isinstance(outcome, str)]
    is_passed = fill_table(prepared, rows, prices, feed, rules) if rows else ()
    note_rejects(prepared, batch, outcomes, is_passed)
    return prepared


def note_rejects(
    prepared: PreparedRows, batch: Sequence[RawRow | BadRow], outcomes: Iterable[Any], is_passed: Iterable[bool]
) -> None:
    """Note the rows that are not staged: `outcomes` are the prices of rows that could be read, or why they are refused,
    and `is_passed` says of those with a price whether they are long enough."""
    outcomes, is_passed = iter(outcomes), iter(is_passed)
    for raw in batch:
        reason = raw.reason if isinstance(raw, BadRow) else next(outcomes)
        if not isinstance(reason, str):
            if next(is_passed):
                continue
            reason = TOO_SHORT
        prepared.rejected.append((raw.number, reason))


def note_products(prepared: PreparedRows, rows: Sequence[RawRow], feed: Feed) -> None:
    """Note the products of rows, and the variants that a product's row lists, whether or not that row is staged."""
    assert feed.variants is not None
    pairs: list[tuple[int, int]] = []
    for raw in rows:
        name, links = feed.variants.group_of(raw.values), feed.variants.links_of(raw.values)
        if name:
            prepared.products.add(digest(name)[0])
        else:
            prepared.unnamed += 1
        if links:
            pairs += [(digest(link)[0], digest(name)[0]) for link in links]
    prepared.linked = {variant for variant, _ in pairs}
    prepared.links = np.array(pairs, dtype=np.uint64).tobytes()


def fill_table(
    prepared: PreparedRows, rows: Sequence[RawRow], prices: Sequence[float], feed: Feed, rules: Rules
) -> NDArray[np.bool_]:
    """Clean, hash and sketch rows that have a price. Whether each is staged: it is long enough."""
    import pyarrow as pa

    values = [raw.values for raw in rows]
    ids = get_ids(values, feed.columns)
    clean = clean_columns(values, feed.columns, rules.cleaning, ids=ids, category=feed.category)
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
            "number": [raw.number for raw in rows],
            **describe_rows(values, feed),
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


def describe_rows(rows: Sequence[Mapping[str, object]], feed: Feed) -> dict[str, list[Any]]:
    """What a row says of its group, product, day and source."""
    empty = [""] * len(rows)
    return {
        "named": column_texts(rows, "group") if feed.named else empty,
        "product": [product_of(feed, row) for row in rows] if feed.variants else [0] * len(rows),
        "day": [NO_DAY] * len(rows) if feed.dates is None else [feed.dates.day(row) for row in rows],
        "origin": [clean_source(row.get(feed.columns.source)) for row in rows] if feed.columns.source else empty,
    }


def product_of(feed: Feed, values: Mapping[str, object]) -> int:
    """64 bits of the name of a row's product, 0 if it names none."""
    return digest(name)[0] if feed.variants and (name := feed.variants.group_of(values)) else 0
