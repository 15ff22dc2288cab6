"""The work of the first pass of curate on one batch of rows: examine, clean, hash and sketch. A function of the batch.

    rows = prepare_rows([RawRow("shop.csv", 1, {"title": "Garden hose", "price": "24.50"})], feed, rules)
    rows.table.num_rows, rows.rejected

It runs in several processes at once (`reading`), so nothing here depends on rows of other batches.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from pricesmith.catalog.clean import body_text, cell_text
from pricesmith.catalog.dates import NO_DAY
from pricesmith.catalog.near_duplicates import N_HASHES, sketch_words, word_key
from pricesmith.catalog.readers.sources import BadRow, RawRow
from pricesmith.catalog.staging import (
    Feed,
    Masked,
    PreparedRows,
    Rules,
    clean_source,
    digest,
    examine_rows,
    staged_schema,
)
from pricesmith.core.types import Listing
from pricesmith.text.words import split_words

Passed = tuple[RawRow, Listing, float]


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
    examined = iter(examine_rows(read, feed, rules, prepared.price_columns))
    passed: list[Passed] = []
    for raw in batch:
        result = raw.reason if isinstance(raw, BadRow) else next(examined)
        if isinstance(result, str):
            prepared.rejected.append((raw.number, result))
        elif isinstance(raw, RawRow):
            listing, price, amounts = result
            prepared.masked.count(amounts, price)
            passed.append((raw, listing, price))
    if passed:
        fill_table(prepared, passed, feed)
    return prepared


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


def fill_table(prepared: PreparedRows, passed: Sequence[Passed], feed: Feed) -> None:
    """Hash and sketch the rows that passed."""
    import pyarrow as pa

    bodies = [body_text(listing) for _, listing, _ in passed]
    words = [split_words(body) for body in bodies]
    sketches = np.zeros((len(passed), N_HASHES), dtype=np.uint16) if feed.named else sketch_words(words)
    prepared.sketches = sketches.tobytes()
    rows = [
        (
            *digest("\0".join((*fields, repr(price), listing.id))),
            *digest(f"{listing.brand}\0{body}"),
            word_key(split),
            price,
            listing.id,
            *fields,
            raw.number,
            cell_text(raw.values.get("group")) if feed.named else "",
            product_of(feed, raw.values),
            NO_DAY if feed.dates is None else feed.dates.day(raw.values),
            clean_source(raw.values.get(feed.columns.source)) if feed.columns.source else "",
        )
        for (raw, listing, price), body, split in zip(passed, bodies, words, strict=True)
        for fields in [(listing.title, listing.text, listing.category, listing.brand)]
    ]
    schema = staged_schema()
    columns: list[Any] = [pa.array(column, kind) for column, kind in zip(zip(*rows), schema.types)]  # noqa: B905
    prepared.table = pa.Table.from_arrays(columns, schema=schema)


def product_of(feed: Feed, values: Mapping[str, object]) -> int:
    """64 bits of the name of a row's product, 0 if it names none."""
    return digest(name)[0] if feed.variants and (name := feed.variants.group_of(values)) else 0
