"""Sources as feeds of raw rows, each with its column map; columns that leak in one file stay out of all of them."""

from __future__ import annotations

import difflib
import itertools
import shlex
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial

from pricesmith.catalog.columns import ColumnMap, choose_columns
from pricesmith.catalog.leakage import drop_columns, find_leaks, keep_columns
from pricesmith.catalog.readers.sources import BadRow, Limits, RawRow, Source, find_marks, read_rows, resolve_sources
from pricesmith.catalog.staging import Feed
from pricesmith.catalog.variants import Variants, find_variants
from pricesmith.core.atomic import sha256
from pricesmith.core.errors import InputError, UsageError
from pricesmith.core.progress import Progress

Batch = list[RawRow | BadRow]
DEMO = "demo:"
SECONDS_A_MB = 0.5
UNPACKED = {".gz": 4, ".zst": 4, ".parquet": 3, ".xlsx": 4}  # text in a file, as a multiple of its size
SAMPLE = 20_000  # rows whose keys make the header of a JSON Lines file


def open_feeds(
    sources: Sequence[str], mapping: Mapping[str, str], limits: Limits, progress: Progress, keep: Sequence[str] = ()
) -> list[Feed]:
    """The feeds that sources stand for, by name. Raises UsageError and InputError, with the file's name."""
    feeds = [demo_feed(name) for name in sorted({one for one in sources if one.startswith(DEMO)})]
    plain = [one for one in sources if not one.startswith(DEMO)]
    if plain or not feeds:
        found = resolve_sources(plain)
        progress.note(estimate(found))
        feeds += [file_feed(source, mapping, limits, progress, keep) for source in found]
    check_kept(feeds, keep)
    leaks: dict[str, str] = {}
    for feed in feeds:
        leaks = {**feed.columns.left_out, **leaks}
    tell_leaks(leaks, progress)
    leaks = {name: reason for name, reason in leaks.items() if name not in keep}
    if len(feeds) == 1:
        return feeds
    shown = "".join(sorted({*"".join(feed.marks for feed in feeds if not feed.named)}))
    return [
        replace(
            feed,
            columns=drop_columns(feed.columns, leaks),
            marks=feed.marks or shown,  # a file whose own prices have no cents: those of the other files decide
        )
        for feed in feeds
    ]


def estimate(sources: Sequence[Source]) -> str:
    """How long curating will take, by the size of the files; measured on two cores (benchmarks/README.md)."""
    size = sum(source.path.stat().st_size * UNPACKED.get(source.path.suffix.lower(), 1) for source in sources) / 1e6
    seconds = SECONDS_A_MB * size
    told = f"about {seconds / 60:.0f} minutes" if seconds > 120 else f"about {max(2, seconds):.0f} seconds"
    count = f"{len(sources)} file{'s' * (len(sources) > 1)}"
    return f"{count}, some {size:,.1f} MB of text: {told} on two cores, under 1.5 GB of memory."


def demo_feed(name: str) -> Feed:
    """The demo goods."""
    from pricesmith.catalog import demo

    if name != demo.NAME:
        raise UsageError(f"There are no demo goods {name!r}", got=name, allowed=demo.NAME, hint=f"Use {demo.NAME}.")
    columns = ColumnMap(
        title="title", text="description", price="price", currency="currency", category="category", brand="brand"
    )
    return Feed(name, "", demo.read_goods, demo.fingerprint(), columns, named=True)


def check_kept(feeds: Sequence[Feed], keep: Sequence[str]) -> None:
    """Raise UsageError where --keep names a column that no file has."""
    names = {name for feed in feeds for name in feed.columns.names()}
    missing = [name for name in keep if name not in names]
    if missing:
        near = difflib.get_close_matches(missing[0], names, n=1)
        raise UsageError(
            f"--keep: there is no column {missing[0]!r}",
            got=f"--keep {missing[0]}",
            allowed=", ".join(sorted(names)[:30]),
            hint=f"Did you mean --keep '{near[0]}'?" if near else "Name a column of the files.",
        )


def tell_leaks(left_out: Mapping[str, str], progress: Progress) -> None:
    """One line for each column that is dropped because it gives the price away, with how to keep it."""
    for name, reason in left_out.items():
        if reason.startswith("leak"):
            progress.note(f"Dropped column {name!r}, {reason}. Keep it with --keep {shlex.quote(name)}")


def file_feed(
    source: Source, mapping: Mapping[str, str], limits: Limits, progress: Progress, keep: Sequence[str] = ()
) -> Feed:
    """One file, its columns chosen and its leaks found."""
    progress.start(f"looking at {source.name}")
    seen: list[Batch] = []
    bad: Counter[str] = Counter()
    stream = read_rows(source, limits)
    try:
        header = read_header(stream, source.format, seen, bad)
        if not header:
            raise empty_file_error(source.name, bad)
        try:
            columns = choose_columns(header, mapping)
        except UsageError as error:
            what = f"{source.name}: {error.what}"
            raise UsageError(what, got=error.got, allowed=error.allowed, hint=error.hint) from None
        variants = find_variants(header)
        if variants:
            progress.note(f"{source.name}: {variants.describe()}")
        marks = find_marks(source, columns.price, limits)
        if columns.extra:
            again = read_rows(source, limits) if source.format == "jsonl" else itertools.chain(seen, stream)
            again = variants.inherit(again) if variants else again
            columns = drop_columns(columns, find_leaks(again, columns, marks))
        columns = keep_columns(columns, keep)
    finally:
        getattr(stream, "close", lambda: None)()
    if "," in marks:
        told = "1.299 is 1299" if marks == "," else "and a decimal point, so 1.299 is refused as ambiguous"
        progress.note(f"{source.name}: prices have a decimal comma, {told}")
    facts = f"{source.path.stat().st_size} bytes, SHA-256 {sha256(source.path)}"
    return Feed(
        source.name,
        "" if columns.category else source.category,
        partial(read_inherited, source, limits, progress, variants),
        facts,
        columns,
        marks=marks,
        variants=variants,
    )


def read_inherited(source: Source, limits: Limits, progress: Progress, variants: Variants | None) -> Iterator[Batch]:
    """The rows of a file (`read`), its variants with the title and text of their product."""
    rows = read_rows(source, limits, progress)
    return variants.inherit(rows) if variants else rows


def empty_file_error(name: str, bad: Counter[str]) -> InputError:
    """The error for a file without a row that can be read; `bad` counts those that cannot, by reason."""
    if not bad:
        return InputError(f"{name} has no rows", got="0 rows", hint="Leave it out.")
    return InputError(
        f"No row of {name} can be read",
        got=", ".join(f"{count:,} x {reason}" for reason, count in bad.most_common(3)),
        hint="Look at its first lines: is the first one the header, with as many cells as the others?",
    )


def read_header(stream: Iterator[Batch], kind: str, seen: list[Batch], bad: Counter[str]) -> tuple[str, ...]:
    """A file's columns in its order; in JSON Lines, where rows have their own, those of its first 20,000 rows.

    The batches read of another kind of file go into `seen`; rows that cannot be read are counted in `bad` by reason.
    """
    header: dict[str, None] = {}
    count = 0
    for batch in stream:
        for row in batch:
            if isinstance(row, BadRow):
                bad[row.reason] += 1
            elif not row.values.keys() <= header.keys():
                header.update(dict.fromkeys(row.values))
        count += len(batch)
        if kind != "jsonl":
            seen.append(batch)
        if header and (kind != "jsonl" or count >= SAMPLE):
            break
    return tuple(header)


def merge_maps(maps: Sequence[ColumnMap]) -> ColumnMap:
    """The column map of a whole catalog: the first file's fields, and the extra columns of all files."""
    extra = dict.fromkeys(itertools.chain.from_iterable(one.extra for one in maps))
    left_out: dict[str, str] = {}
    for one in reversed(maps):
        left_out |= one.left_out
    kept = tuple(name for name in extra if name not in left_out)
    return maps[0].model_copy(update={"extra": kept, "left_out": left_out})
