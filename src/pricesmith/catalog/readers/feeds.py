"""Sources as feeds of raw rows, each with its column map; columns that leak in one file stay out of all of them."""

from __future__ import annotations

import difflib
import itertools
import shlex
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

from pricesmith.catalog.columns import (
    ColumnMap,
    NoPriceColumn,
    choose_columns,
    column_key,
    price_candidates,
    title_candidate,
)
from pricesmith.catalog.kinds import TABLE, Kind, find_kind, own_columns, variants_of, without_settings
from pricesmith.catalog.leakage import drop_columns, find_leaks, keep_columns
from pricesmith.catalog.local_names import currencies_of
from pricesmith.catalog.price_columns import describe_choice
from pricesmith.catalog.readers.sources import (
    LIMITS,
    BadRow,
    Limits,
    PriceScan,
    RawRow,
    Source,
    read_rows,
    resolve_sources,
    scan_prices,
)
from pricesmith.catalog.row_price import check_price_columns
from pricesmith.catalog.staging import Feed, RejectCounts
from pricesmith.catalog.variants import Variants
from pricesmith.core.errors import InputError, UsageError
from pricesmith.core.progress import Progress, format_duration
from pricesmith.text.price_parser import word_set

Batch = Sequence[RawRow | BadRow]
DEMO = "demo:"
LARGE_MB = 1_000  # of text, two million listings and more
SECONDS_A_MB = 0.5
STARTUP_SECONDS = 1.5  # for each file: the processes that read it
FEW_SECONDS = 10
UNPACKED = {".gz": 4, ".zst": 4, ".parquet": 3, ".xlsx": 4}  # text in a file, as a multiple of its size
OWN_KEYS = ("jsonl", "json", "xml", "html")  # formats whose rows name their columns themselves
SAMPLED_ROWS = 500  # rows whose values are looked at for prices and titles
LEAST_FILLED = 0.01  # share of rows with a value below which a column counts as empty
SOURCE_NAMES = word_set("source shop marketplace website domain seller retailer merchant datasource")
MOST_SOURCES = 50  # different values among the sampled rows
SAMPLE = 20_000  # rows whose keys make the header of a JSON Lines file


@dataclass(frozen=True)
class ReadOptions:
    """How sources are read: columns to map, to keep although they give the price away, and to drop; the delimiter of
    CSV files (empty: found by their first lines); the currency whose price column is preferred; the kind of file and
    the sheet of a workbook (empty: recognized)."""

    mapping: Mapping[str, str] = field(default_factory=dict)
    keep: Sequence[str] = ()
    drop: Sequence[str] = ()
    delimiter: str = ""
    currency: str = ""
    kind: str = ""
    sheet: str = ""
    limits: Limits = LIMITS


def open_feeds(sources: Sequence[str], options: ReadOptions, progress: Progress) -> list[Feed]:
    """The feeds that sources stand for, by name. Raises UsageError and InputError, with the file's name."""
    keep = options.keep
    check_dropped(options)
    feeds = [demo_feed(name) for name in sorted({name for name in sources if name.startswith(DEMO)})]
    plain = [source for source in sources if not source.startswith(DEMO)]
    if plain or not feeds:
        files = with_sheet(with_delimiter(resolve_sources(plain), options.delimiter), options.sheet)
        progress.note(estimate(files))
        feeds += [file_feed(source, options, progress) for source in files]
    check_columns_exist(feeds, "--keep", keep)
    check_columns_exist(feeds, "--drop", options.drop)
    leaks: dict[str, str] = {}
    for feed in feeds:
        leaks = {**feed.columns.left_out, **leaks}
    note_leaks(leaks, progress)
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
    """How long curating takes, by the size of the files; measured on two cores (benchmarks/README.md)."""
    size = sum(source.size * UNPACKED.get(source.path.suffix.lower(), 1) for source in sources) / 1e6
    seconds = SECONDS_A_MB * size
    seconds += STARTUP_SECONDS * len(sources)
    time = f"about {format_duration(seconds)}" if seconds > FEW_SECONDS else "a few seconds"
    count = f"{len(sources)} file{'s' * (len(sources) > 1)}"
    memory = "2 GB of memory" if size > LARGE_MB else "1.5 GB of memory"
    return f"{count}, {size:,.1f} MB of text: {time} on two cores, under {memory}."


def demo_feed(name: str) -> Feed:
    """The demo goods."""
    from pricesmith.catalog import demo

    if name != demo.NAME:
        raise UsageError(f"There are no demo goods {name!r}", got=name, allowed=demo.NAME, hint=f"Use {demo.NAME}.")
    columns = ColumnMap(
        title="title", text="description", price="price", currency="currency", category="category", brand="brand"
    )
    return Feed(
        name, "", demo.read_goods, demo.fingerprint(), columns, named=True, prices=PriceScan(codes={"USD": 1}, filled=1)
    )


def check_dropped(options: ReadOptions) -> None:
    """Raise UsageError if a column is dropped and also kept or mapped."""
    for name in options.drop:
        if name in options.keep or name in options.mapping.values():
            other = "--keep" if name in options.keep else "--map"
            raise UsageError(f"The column {name!r} is in --drop and in {other}", got=name, hint="Name it once.")


def with_delimiter(sources: Sequence[Source], delimiter: str) -> list[Source]:
    """The sources with the delimiter of their CSV files. Raises UsageError for a delimiter that is not possible."""
    if not delimiter:
        return list(sources)
    character = {"\\t": "\t", "tab": "\t"}.get(delimiter.lower(), delimiter)
    if len(character) != 1 or character in '"\r\n' or character.isalnum():
        raise UsageError(
            "--delimiter is one character",
            got=repr(delimiter),
            allowed="a comma, semicolon, bar, tab (written as tab) or another sign",
            hint="Leave it out: the delimiter is usually found.",
        )
    if not any(source.format in ("csv", "tsv") for source in sources):
        kinds = ", ".join(sorted({source.format for source in sources}))
        raise UsageError("--delimiter is for CSV and TSV files only", got=kinds, hint="Leave --delimiter out.")
    return [replace(source, delimiter=character) if source.format in ("csv", "tsv") else source for source in sources]


def with_sheet(sources: Sequence[Source], sheet: str) -> list[Source]:
    """The sources with the sheet to read of workbooks. Raises UsageError if there is no workbook."""
    if not sheet:
        return list(sources)
    if not any(source.format == "xlsx" for source in sources):
        kinds = ", ".join(sorted({source.format for source in sources}))
        raise UsageError("--sheet is for XLSX files only", got=kinds, hint="Leave --sheet out.")
    return [replace(source, sheet=sheet) if source.format == "xlsx" else source for source in sources]


def check_columns_exist(feeds: Sequence[Feed], option: str, columns: Sequence[str]) -> None:
    """Raise UsageError if an option names a column that no file has."""
    names = {name for feed in feeds for name in feed.columns.names()}
    missing = [name for name in columns if name not in names]
    if missing:
        near = difflib.get_close_matches(missing[0], names, n=1)
        raise UsageError(
            f"{option}: there is no column {missing[0]!r}",
            got=f"{option} {missing[0]}",
            allowed=", ".join(sorted(names)[:30]),
            hint=f"Did you mean {option} {shlex.quote(near[0])}?" if near else "Name a column of the files.",
        )


def note_leaks(left_out: Mapping[str, str], progress: Progress) -> None:
    """One line for each column that is dropped because it gives the price away, with how to keep it."""
    for name, reason in left_out.items():
        if reason.startswith("leak"):
            progress.note(f"Dropped column {name!r}, {reason}. Keep it with --keep {shlex.quote(name)}")


class NoteKeeper(Progress):
    """Keeps the notes of a reader."""

    def __init__(self) -> None:
        self.texts: list[str] = []

    def note(self, text: str) -> None:
        """Keep one."""
        self.texts.append(text)


class Sample:
    """The first rows of a file: how many of them have a value in each column, and some of them whole."""

    def __init__(self) -> None:
        self.count = 0
        self.values: Counter[str] = Counter()
        self.rows: list[Mapping[str, object]] = []

    def add(self, values: Mapping[str, object]) -> None:
        """Count one row."""
        self.count += 1
        self.values.update(name for name, value in values.items() if value is not None and value != "")
        if len(self.rows) < SAMPLED_ROWS:
            self.rows.append(values)

    def filled(self) -> set[str]:
        """The columns with a value in at least 1 % of the rows."""
        return {name for name, count in self.values.items() if count >= LEAST_FILLED * self.count}


def file_feed(source: Source, options: ReadOptions, progress: Progress) -> Feed:
    """One file, its columns chosen and its leaks found."""
    progress.start(f"looking at {source.name}")
    limits, batches, bad, sample = options.limits, list[Batch](), Counter[str](), Sample()
    notes = NoteKeeper()
    stream = read_rows(source, limits, notes)
    try:
        header = read_header(stream, source.format, batches, bad, sample)
        if not header:
            raise empty_file_error(source.name, bad)
        kind = kind_of_file(source.name, header, options.kind)
        columns = columns_of_file(source.name, header, sample, options, progress, kind)
        columns = without_settings(columns, kind, options.keep)
        variants = variants_of(kind, header)
        if variants:
            progress.note(f"{source.name}: {variants.describe()}")
        prices = scan_prices(source, columns.price, columns.currency or "", limits, columns.sale)
        if columns.extra:
            rows = read_rows(source, limits) if source.format in OWN_KEYS else itertools.chain(batches, stream)
            rows = variants.inherit(rows) if variants else rows
            columns = drop_columns(columns, find_leaks(rows, columns, prices.marks))
        columns = keep_columns(columns, options.keep)
    except UsageError:
        for note in notes.texts:  # what was read is not read again, which would show them
            progress.note(note)
        raise
    finally:
        getattr(stream, "close", lambda: None)()
    if "," in prices.marks:
        alone = prices.marks == ","
        meaning = "1.299 is 1299" if alone else "and a decimal point, so 1.299 is refused as ambiguous"
        progress.note(f"{source.name}: prices have a decimal comma, {meaning}")
    return Feed(
        source.name,
        "" if columns.category else source.category,
        partial(read_inherited, source, limits, progress, variants),
        source.facts(),
        columns,
        marks=prices.marks,
        variants=variants,
        prices=prices,
        kind=kind,
        reading=source.reading(),
    )


def kind_of_file(name: str, header: Sequence[str], chosen: str) -> Kind:
    """The kind of a file, as `--kind` chooses it or by its header. Raises UsageError with the file's name."""
    try:
        return find_kind(header, chosen)
    except UsageError as error:
        what = error.what if error.what.startswith("There is no kind") else f"{name}: {error.what}"
        raise UsageError(what, got=error.got, allowed=error.allowed, hint=error.hint) from None


def columns_of_file(
    name: str, header: Sequence[str], sample: Sample, options: ReadOptions, progress: Progress, kind: Kind
) -> ColumnMap:
    """The column map of a file. Raises UsageError with the file's name and, without a price, the likeliest columns."""
    usable = [column for column in header if column not in options.drop]
    try:
        filled = sample.filled()
        own = own_columns(kind, [column for column in usable if column in filled], options.mapping)
        given: dict[str, Any] = {"kind_price": own.pop("price", ""), "counts": sample.values, "filled": filled}
        columns = choose_columns(usable, {**own, **options.mapping}, currency=options.currency, **given)
        if "price" not in options.mapping:
            check_price_columns(sample.rows, columns, usable)
    except NoPriceColumn as error:
        hint = price_hint(usable, sample)
        raise UsageError(f"{name}: {error.what}", got=error.got, allowed=error.allowed, hint=hint) from None
    except UsageError as error:
        raise UsageError(f"{name}: {error.what}", got=error.got, allowed=error.allowed, hint=error.hint) from None
    sale = columns.sale if sample.values[columns.sale] else ""
    shown = [column for column in usable if sample.values[column]]
    if "price" not in options.mapping and (choice := describe_choice(columns.price, sale, shown)):
        progress.note(f"{name}: {choice}")
    if not columns.title and not columns.text:
        note = f"{name}: no title or text column; the text is built from the other columns"
        if title := title_candidate(columns.extra, sample.rows):
            note += f". If {title!r} is the title: --map {shlex.quote(f'title={title}')}"
        progress.note(note)
    if not columns.source and (source := source_candidate(columns, sample.rows)):
        option = f"--map {shlex.quote(f'source={source}')}"
        progress.note(
            f"{name}: {source!r} may name the source of each row: {option} lets `show` and `fit` compare them"
        )
    dropped = dict.fromkeys((column for column in header if column in options.drop), "dropped by --drop")
    return columns.model_copy(update={"left_out": {**columns.left_out, **dropped}}) if dropped else columns


def source_candidate(columns: ColumnMap, rows: Sequence[Mapping[str, object]]) -> str:
    """A column that may name the source of each row by its name and its few values; empty if there is none."""
    for name in (*columns.left_out, *columns.extra):
        if column_key(name) in SOURCE_NAMES:
            values = {value for row in rows if isinstance(value := row.get(name), str) and value.strip()}
            if 1 <= len(values) <= MOST_SOURCES and not any(value.startswith("http") for value in values):
                return name
    return ""


def price_hint(header: Sequence[str], sample: Sample) -> str:
    """What to do about a file without a recognized price: the columns that look like prices, with the option."""
    candidates = price_candidates(header, sample.rows)
    if candidates:
        best, *others = candidates
        values = [str(row[best]) for row in sample.rows if str(row.get(best) or "").strip()][:3]
        hint = f"Use --map {shlex.quote(f'price={best}')} if these are the prices: {', '.join(values)[:60]}."
        return hint + (f" Other columns of numbers: {', '.join(map(repr, others[:3]))}." if others else "")
    signs = [sign for sign in ",;|\t" if len(header) == 1 and sign in header[0]]
    if signs:
        return f"Its header is one column: use --delimiter {'tab' if signs[0] == chr(9) else shlex.quote(signs[0])}."
    return "No column has values that look like prices: give a table with a price for each row."


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


def read_header(
    stream: Iterator[Batch], kind: str, seen: list[Batch], bad: Counter[str], sample: Sample | None = None
) -> tuple[str, ...]:
    """A file's columns in its order; in JSON Lines, where rows have their own, those of its first 20,000 rows.

    The batches read of another kind of file go into `seen`; rows that cannot be read are counted in `bad` by reason,
    all others in `sample`.
    """
    header: dict[str, None] = {}
    count = 0
    for batch in stream:
        for row in batch:
            if isinstance(row, BadRow):
                bad[row.reason] += 1
                continue
            if not row.values.keys() <= header.keys():
                header.update(dict.fromkeys(row.values))
            if sample:
                sample.add(row.values)
        count += len(batch)
        if kind not in OWN_KEYS:
            seen.append(batch)
        if header and (kind not in OWN_KEYS or count >= SAMPLE):
            break
    return tuple(header)


def merge_maps(maps: Sequence[ColumnMap]) -> ColumnMap:
    """The column map of a whole catalog: the first file's fields, and the extra columns of all files."""
    extra = dict.fromkeys(itertools.chain.from_iterable(columns.extra for columns in maps))
    left_out: dict[str, str] = {}
    for columns in reversed(maps):
        left_out |= columns.left_out
    remaining = tuple(name for name in extra if name not in left_out)
    return maps[0].model_copy(update={"extra": remaining, "left_out": left_out})


def describe_kind(feed: Feed, products: int) -> dict[str, Any]:
    """What a file was recognized as, for the ledger: the kind, and its products with the columns that name them."""
    kind = feed.kind or TABLE
    facts: dict[str, Any] = {"kind": kind.name, "label": kind.label}
    if feed.variants:
        facts |= {"products": products, "grouped_by": feed.variants.group_columns}
    return facts


def describe_sales(feeds: Sequence[Feed], counts: RejectCounts) -> dict[str, dict[str, Any]]:
    """For each file with sale prices: its two columns of prices, and in how many rows each was the price."""
    return {
        feed.name: {"price": feed.columns.price, "sale": feed.columns.sale, "rows": dict(sorted(rows.items()))}
        for feed in feeds
        if (rows := counts.price_columns.get(feed.name))
    }


def note_currency(feeds: Sequence[Feed], source: str, progress: Progress) -> None:
    """Note where dollars are assumed although a file's language or kind speaks for a doubt."""
    for feed in feeds if source == "assumed" else ():
        if codes := currencies_of(feed.columns.price):
            progress.note(
                f"{feed.name}: no price names a currency, so US dollars are assumed. By the name of the column "
                f"{feed.columns.price!r} it may be {' or '.join(codes)}: --currency {codes[0]}"
            )
        elif feed.kind and not feed.kind.names_currency:
            label = feed.kind.label
            progress.note(
                f"{feed.name}: a {label} names no currency: US dollars are assumed, unless --currency says it"
            )
