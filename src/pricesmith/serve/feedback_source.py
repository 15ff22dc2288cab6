"""A catalog of sold listings: the sold prices in a server's log, curated like any other table.

    catalog = curate_feedback(Path("shop.requests.db"), Path("out/sold"), add=Path("out/catalog"))

The rows are written to temporary JSON Lines files and read in a child process with limits, as every file from outside
is. Only sold prices in the catalog's currency count; others are counted and named. With `add`, the rows of an earlier
catalog come first: its items keep their split, and a sold listing that is like one of them goes to the same split.
"""

from __future__ import annotations

import json
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from pricesmith.catalog.additions import check_currency
from pricesmith.catalog.catalog import Catalog, open_catalog
from pricesmith.catalog.columns import FIELDS, column_key
from pricesmith.catalog.curation import check_settings, curate
from pricesmith.core.errors import InputError
from pricesmith.core.progress import SILENT, Progress
from pricesmith.serve.log_reader import LogReader
from pricesmith.serve.log_records import FeedbackRecord
from pricesmith.text.formatting import format_count

COLUMNS = ("id", "title", "text", "category", "brand", "price")
RESERVED = {column_key(name) for name in (*FIELDS, "group")}
ID_PREFIX = "sold-"  # so that no id is that of an item of the earlier catalog


def curate_feedback(
    log: Path,
    to: Path,
    *,
    add: Path | None = None,
    currency: str | None = None,
    overwrite: bool = False,
    progress: Progress = SILENT,
    **options: Any,
) -> Catalog:
    """Build a catalog in `to` from the sold prices in a log, and from the items of the catalog `add`.

    `currency` is by default that of `add`, else that of most sold prices; `options` are further options of `curate`.
    Raises InputError for a damaged log, one without sold prices in the currency, and for fewer than 100 rows;
    UsageError if `currency` is not that of `add`.
    """
    check_settings(currency, "auto", None)
    reader, old = LogReader(log), open_catalog(add) if add is not None else None
    rows = reader.read_feedback()
    code = choose_feedback_currency(rows, currency, old, log)
    chosen = [row for row in rows if row.currency == code]
    others = Counter(row.currency for row in rows if row.currency != code)
    if others:
        named = ", ".join(f"{count:,} in {name}" for name, count in others.most_common())
        progress.note(
            f"Left out: {format_count(others.total(), 'sold price')} in another currency than {code} ({named})."
        )
    if not chosen:
        raise InputError(
            f"{log} has no sold prices in {code}",
            got=", ".join(f"{count:,} in {name}" for name, count in others.most_common()) or "no sold prices",
            hint="Sold prices are entered on the server's page, or sent to /v1/feedback.",
        )
    with tempfile.TemporaryDirectory(prefix="pricesmith-") as folder:
        source = write_rows(Path(folder) / f"{reader.path.name}.feedback.jsonl", map(sold_row, chosen))
        return curate(
            [source],
            to,
            mapping={name: name for name in COLUMNS},
            currency=code,
            overwrite=overwrite,
            add=old,
            progress=progress,
            **options,
        )


def choose_feedback_currency(
    rows: Sequence[FeedbackRecord], currency: str | None, old: Catalog | None, log: Path
) -> str:
    """The currency of the new catalog. Raises UsageError if the given one is not that of the catalog to add to."""
    given = (currency or "").strip().upper()
    if old is not None:
        check_currency(old, given)
        return old.currency
    if given:
        return given
    counts = Counter(row.currency for row in rows)
    if not counts:
        raise InputError(
            f"{log} has no sold prices",
            hint="Sold prices are entered on the server's page, or sent to /v1/feedback.",
        )
    return min(counts, key=lambda name: (-counts[name], name))


def sold_row(record: FeedbackRecord) -> dict[str, Any]:
    """A sold listing as a raw row. A further field with the name of a usual column is left out."""
    further = {
        name: value for name, value in record.fields.items() if column_key(name) not in RESERVED and name.strip()
    }
    return {
        "id": f"{ID_PREFIX}{record.feedback_id}",
        "title": record.title,
        "text": record.text,
        "category": record.category,
        "brand": record.brand,
        "price": record.sold_price,
        **further,
    }


def write_rows(path: Path, rows: Iterator[Mapping[str, Any]]) -> str:
    """Write rows as JSON Lines; the path as a source of `curate`."""
    with path.open("w", encoding="utf-8") as file:
        for row in rows:
            file.write(json.dumps(row) + "\n")
    return str(path)
