"""What `curate` would read: the columns, guesses and first rows of each file. Nothing is written.

print(preview(["shop.csv"]).files[0].columns.price)
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING, Any

from pricesmith.catalog.columns import FIELDS, ColumnMap
from pricesmith.catalog.curation import check_settings
from pricesmith.catalog.open_sources import without_date
from pricesmith.catalog.readers.feeds import ReadOptions, note_currency, open_feeds
from pricesmith.catalog.readers.sources import LIMITS, Limits, RawRow
from pricesmith.catalog.readers.table_copies import table_copies
from pricesmith.catalog.staging import ASSUMED, Feed, choose_currency
from pricesmith.core.progress import SILENT, Progress

if TYPE_CHECKING:
    from rich.console import RenderableType

N_ROWS = 5
MAX_CELL = 40  # characters of a cell that are shown


@dataclass(frozen=True)
class FilePreview:
    """One file: its name, the column map that `curate` would use, its first rows as they were read, and its kind."""

    name: str
    columns: ColumnMap
    rows: list[dict[str, Any]]
    kind: str = "table"

    def roles(self) -> list[tuple[str, str]]:
        """(column, use) of every column: the field it is used for, `line of the text`, or why it is ignored."""
        columns = self.columns
        fields = {columns_name: name for name in FIELDS if (columns_name := getattr(columns, name))}
        return [
            *((column, name) for column, name in fields.items()),
            *([(columns.sale, "price of the rows that have a sale price")] if columns.sale else []),
            *((column, "line of the text") for column in columns.extra),
            *((column, f"ignored: {reason}") for column, reason in columns.left_out.items() if column != columns.sale),
        ]


@dataclass(frozen=True)
class Preview:
    """What `curate` would read. `currency_source` is `assumed` if no price names a currency, empty if it was given."""

    currency: str
    currency_source: str
    files: list[FilePreview] = field(default_factory=list)

    def to_dict(self) -> dict[str, Any]:
        """The preview for --json."""
        return {
            "currency": self.currency,
            "currency_source": self.currency_source,
            "files": [
                {"file": file.name, "kind": file.kind, "columns": file.columns.model_dump(), "rows": file.rows}
                for file in self.files
            ],
        }

    def render(self) -> RenderableType:
        """The preview as tables that fit the terminal."""
        from rich.console import Group
        from rich.text import Text

        from pricesmith.catalog.summary import plain
        from pricesmith.core.tables import Column, FittedTable

        source = "assumed; --currency changes it" if self.currency_source == ASSUMED else self.currency_source
        parts: list[RenderableType] = [Text(plain(f"Currency: {self.currency}" + (f" ({source})" if source else "")))]
        for file in self.files:
            roles = file.roles()
            used = [column for column, use in roles if not use.startswith("ignored")]
            cells = {column: " | ".join(shorten(row.get(column)) for row in file.rows) for column, _ in roles}
            lines = [(plain(column), plain(use), plain(cells[column])) for column, use in roles]
            title = f"{plain(file.name)} ({file.kind}): {len(used)} of {len(roles)} columns are used"
            columns = [Column("column", wraps=True), Column("use", wraps=True)]
            parts.append(FittedTable(title, [*columns, Column(f"first {len(file.rows)} rows", wraps=True)], lines))
        return Group(*parts, Text("Nothing was written. Run it without --preview to build."))


def shorten(value: object) -> str:
    """A cell on one line of bounded length."""
    text = " ".join(str("" if value is None else value).split())
    return text if len(text) <= MAX_CELL else f"{text[: MAX_CELL - 1]}…"


@table_copies()
def preview(
    sources: Sequence[str],
    *,
    mapping: Mapping[str, str] | None = None,
    currency: str | None = None,
    keep: Sequence[str] = (),
    drop: Sequence[str] = (),
    delimiter: str = "",
    kind: str = "",
    sheet: str = "",
    limits: Limits = LIMITS,
    progress: Progress = SILENT,
) -> Preview:
    """What `curate` would read from these sources with the same options. Nothing is written.

    Raises UsageError for invalid options and InputError for files that cannot be read, as `curate` does.
    """
    given = check_settings(currency, "auto", None)
    reading = ReadOptions(without_date(mapping or {}), keep, drop, delimiter, given, kind, sheet, limits)
    feeds = open_feeds(sources, reading, progress)
    code, currency_source = choose_currency(feeds, given)
    note_currency(feeds, currency_source, progress)
    files = [
        FilePreview(
            feed.name, feed.columns, list(islice(raw_rows(feed), N_ROWS)), feed.kind.label if feed.kind else "table"
        )
        for feed in feeds
    ]
    return Preview(code, currency_source, files)


def raw_rows(feed: Feed) -> Iterator[dict[str, Any]]:
    """The rows of a feed that can be read."""
    for batch in feed.read():
        for row in batch:
            if isinstance(row, RawRow):
                yield dict(row.values)
