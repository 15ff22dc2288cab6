"""The first pass of curate: every row is read, cleaned, refused by name or staged on disk, in constant memory.

One staged row: {"hash": 1131..., "more": 7733..., "look": ..., "looks": ..., "words": ..., "price": 24.5,
"given": "a1", "title": "Garden hose", "text": "25 m", "category": "garden", "brand": "", "number": 1,
"named": "", "product": 0, "day": 19874, "origin": ""}.
`hash` and `more` are 128 bits of the SHA-256 of the row's content; `look` and `looks` of its brand, title and text,
without the category, which may be the file's name: one thing in two files is one.
`words` are 64 bits of its normalized words, `named` is the group where the source itself names one, and `product` 64
bits of the name of the product that it is a variant of (0: none); pairs (variant, product) of these are kept apart.
`day` is the day of its date, if the catalog is split by time; `origin` is its source, if a column names it.

The currency of all prices is chosen before: what the files say, or US dollars as an assumption. A file says it in a
column of currency codes, in the name of its price column (`Price (INR)`), or beside its numbers (`24.50 EUR`). A sign
that several currencies share (`$`) stands for the one that the other prices name, if they do.
"""

from __future__ import annotations

import gzip
import hashlib
import json
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, BinaryIO

from pricesmith.catalog.clean import (
    CleanSettings,
    cell_text,
    column_texts,
    normalize_characters,
    normalize_spaces,
)
from pricesmith.catalog.dates import NO_DATE, DateColumn
from pricesmith.catalog.readers.row_columns import RowColumns
from pricesmith.catalog.readers.sources import BadRow, PriceScan, RawRow
from pricesmith.catalog.row_price import read_price
from pricesmith.core.errors import UsageError
from pricesmith.text.currency import CODES, find_currencies, normalize_sign
from pricesmith.text.price_parser import currency_in_name, parse_price

if TYPE_CHECKING:
    from pricesmith.catalog.columns import ColumnMap
    from pricesmith.catalog.kinds import Kind
    from pricesmith.catalog.variants import Variants

TOO_SHORT = "too short"
BELOW, ABOVE = "price below the range", "price above the range"
OTHER_CURRENCY = "other currency"
DUPLICATE = "duplicate"
BALANCED = "balanced away"

WIDE = 0.05  # an amount this near to the price would have given it away
LONGEST_ID = 200
Hashes = tuple[int, int]


NOT_SCANNED = PriceScan()


@dataclass(frozen=True)
class Feed:
    """One source of raw rows: a file or the demo goods.

    `facts` identify the content of its file; `reading` says what of the file it is and how it is read (format,
    delimiter, member of an archive, table, sheet). `named` says that its rows name their own groups; `marks` are the
    decimal marks that its prices show (`price_parser.find_decimal_marks`); `prices` counts the currencies that they
    name; `variants` says how its rows name their product; `added` that they are the items of an earlier catalog
    (`additions`); `dates` is the column of dates, for a split by time.
    """

    name: str
    category: str
    read: Callable[[], Iterable[Sequence[RawRow | BadRow]]]
    facts: str
    columns: ColumnMap
    named: bool = False
    marks: str = "."
    variants: Variants | None = None
    prices: PriceScan = NOT_SCANNED
    added: bool = False
    kind: Kind | None = None
    dates: DateColumn | None = None
    reading: tuple[str, ...] = ()


@dataclass
class RejectCounts:
    """Rows in = kept + rejected by reason, by file; and the columns that came too late for the leak check."""

    rows: Counter[str] = field(default_factory=Counter)
    rejected: dict[str, Counter[str]] = field(default_factory=dict)
    products: dict[str, int] = field(default_factory=dict)
    late: dict[str, None] = field(default_factory=dict)
    price_columns: dict[str, Counter[str]] = field(default_factory=dict)  # of files with sale prices

    def reject(self, file: str, reason: str, count: int = 1) -> None:
        self.rejected.setdefault(file, Counter())[reason] += count

    def describe(self, left: int) -> str:
        """How many rows are left and why the others are not: `1 of 3 rows; 2 missing cells`."""
        reasons: Counter[str] = sum(self.rejected.values(), Counter())
        return "; ".join(
            [f"{left:,} of {self.rows.total():,} rows", *(f"{n:,} {why}" for why, n in reasons.most_common())]
        )

    def facts(self, files: Sequence[str]) -> list[dict[str, Any]]:
        """For each file: rows in, kept, and rejected by reason."""
        return [
            {
                "file": name,
                "in": self.rows[name],
                "kept": self.rows[name] - sum(self.rejected.get(name, Counter()).values()),
                "rejected": dict(sorted(self.rejected.get(name, Counter()).items())),
            }
            for name in files
        ]


class Rejects:
    """`rejects.jsonl.gz`: one line for each row that is not in the catalog, with the reason."""

    def __init__(self, path: Path, tally: RejectCounts) -> None:
        self.tally = tally
        self.raw: BinaryIO = path.open("wb")
        self.out = gzip.GzipFile("", "wb", 6, self.raw, mtime=0)

    def add(self, file: str, number: int, reason: str) -> None:
        self.tally.reject(file, reason)
        line = json.dumps({"file": file, "row": number, "reason": reason}, ensure_ascii=True)
        self.out.write(line.encode() + b"\n")

    def __enter__(self) -> Rejects:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self.out.close()
        finally:
            self.raw.close()


@dataclass
class Masked:
    """How many amounts of money were masked."""

    listings: int = 0
    amounts: int = 0
    near_price: int = 0

    def count(self, amounts: Sequence[float], price: float) -> None:
        if amounts:
            self.listings += 1
            self.amounts += len(amounts)
            self.near_price += any(abs(amount - price) <= WIDE * price for amount in amounts)

    def add(self, other: Masked) -> None:
        """Add the counts of other rows."""
        self.listings += other.listings
        self.amounts += other.amounts
        self.near_price += other.near_price


@dataclass(frozen=True)
class Rules:
    """What a row must satisfy. `currency_source` says where the currency comes from (`choose_currency`)."""

    cleaning: CleanSettings
    currency: str
    low: float
    high: float
    currency_source: str = ""


def same_currency(value: object, named: str | None, currency: str) -> bool:
    """Whether a row's currency column and the sign beside its price both allow the catalog's currency."""
    if named is not None and named != currency:
        return False
    code = cell_text(value).strip()
    return not code or code.upper() == currency or currency in find_currencies(normalize_sign(code))


def name_other_currency(value: object, named: str | None, currency: str) -> str:
    """The reason for a price in another currency, with the currency's code if it is known."""
    if named is None or named == currency:
        text = cell_text(value).strip()
        codes = (text.upper(),) if text.upper() in CODES else find_currencies(normalize_sign(text))
        named = codes[0] if codes else ""
    return f"{OTHER_CURRENCY}: {named}" if named else OTHER_CURRENCY


def digest(text: str) -> Hashes:
    """128 bits of a text's SHA-256, as two numbers."""
    whole = hashlib.sha256(text.encode()).digest()
    return int.from_bytes(whole[:8], "big"), int.from_bytes(whole[8:16], "big")


def staged_schema() -> Any:
    """The columns of staged rows."""
    import pyarrow as pa

    big, text = pa.uint64(), pa.string()
    return pa.schema(
        [
            *[("hash", big), ("more", big), ("look", big), ("looks", big), ("words", big), ("price", pa.float64())],
            *[("given", text), ("title", text), ("text", text), ("category", text), ("brand", text)],
            *[("number", pa.int64()), ("named", text), ("product", big), ("day", pa.int32()), ("origin", text)],
        ]
    )


@dataclass
class PreparedRows:
    """One batch of rows, cleaned: a table of those to be staged, their sketches, and what was seen of the others.

    `table` is a pyarrow table with `staged_schema`, None without rows; `sketches` are the bytes of its sketches and
    `links` those of pairs (variant, product); `rejected` are (row number, reason); `late` are columns that the header
    lacked; `products` and `linked` are hashes of the names of products and of variants that a product's row lists;
    `unnamed` counts the rows that name no product; `price_columns` counts whose price a row has where there are sale
    prices.
    """

    rows: int
    rejected: list[tuple[int, str]]
    masked: Masked
    table: Any = None
    sketches: bytes = b""
    links: bytes = b""
    late: dict[str, None] = field(default_factory=dict)
    products: set[int] = field(default_factory=set)
    linked: set[int] = field(default_factory=set)
    unnamed: int = 0
    price_columns: Counter[str] = field(default_factory=Counter)


def examine_prices(
    rows: Sequence[Mapping[str, object]], feed: Feed, rules: Rules, used: Counter[str] | None = None
) -> list[float | str]:
    """Each row's price, or the reason why the row is refused by its price, currency or date. `used` counts whose price
    a row has where there are sale prices."""
    columns = feed.columns
    others = dict[tuple[object, str | None], str]()  # reasons by code and currency, which are few
    results: list[float | str] = []
    if isinstance(rows, RowColumns) and not feed.variants and feed.dates is None:
        names = (columns.price, columns.sale, *columns.sale_dates, columns.currency)
        rows = rows.narrow(dict.fromkeys(name for name in names if name))
    for values in rows:
        parsed, which = read_price(values, columns, rules.currency, feed.marks)
        if used is not None and columns.sale and not isinstance(parsed, str):
            used[which] += 1
        if isinstance(parsed, str):
            results.append(feed.variants.reason(values, parsed) if feed.variants else parsed)
            continue
        price, named = parsed
        code = cell_text(values.get(columns.currency)) if columns.currency else ""
        if (reason := others.get((code, named))) is None:
            fits = same_currency(code, named, rules.currency)
            reason = others[code, named] = "" if fits else name_other_currency(code, named, rules.currency)
        results.append(reason or check_range(price, values, feed, rules))
    return results


def check_range(price: float, values: Mapping[str, object], feed: Feed, rules: Rules) -> float | str:
    """A row's price, or the reason why the row is refused by its price or date."""
    if price < rules.low:
        return BELOW
    if price > rules.high:
        return ABOVE
    if feed.dates is not None and feed.dates.day(values) is None:
        return NO_DATE
    return price


def get_id(values: Mapping[str, object], columns: ColumnMap) -> str:
    """The id that a row itself has, empty where it has none."""
    return get_ids([values], columns)[0]


def get_ids(rows: Sequence[Mapping[str, object]], columns: ColumnMap) -> list[str]:
    """`get_id` of each row."""
    ids = column_texts(rows, columns.id)
    whole = "".join(ids)
    if whole.isascii() and whole.isprintable() and " " not in whole and max(map(len, ids), default=0) <= LONGEST_ID:
        return ids
    return [clean_id(given) if given else "" for given in ids]


def clean_id(given: str) -> str:
    """A file's id as one line of at most 200 characters; nothing in it is masked."""
    if given.isascii() and given.isprintable() and len(given) <= LONGEST_ID:
        return given.strip()
    return normalize_spaces(normalize_characters(given), lines=False)[:LONGEST_ID].rstrip()


def clean_source(value: object) -> str:
    """The name of a row's source as one line of at most 200 characters; empty where it has none."""
    return normalize_spaces(normalize_characters(cell_text(value)), lines=False)[:LONGEST_ID].rstrip()


ASSUMED = "assumed"
DEFAULT_CURRENCY = "USD"
RARE_CURRENCY = 0.05  # of the prices: a currency named less often is an exception, whose rows are refused by name


def choose_currency(feeds: Sequence[Feed], given: str) -> tuple[str, str]:
    """The currency of all prices, and where it comes from: empty if `given`, `assumed` if no price names one.

    Of several currencies the commonest is taken; the prices in others are rejected by name. Raises UsageError if a
    column's name contradicts `given`.
    """
    if given:
        check_currency(feeds, given)
        return given, ""
    firm, loose, origins, silent = Counter[str](), Counter[str](), dict[str, str](), 0
    for feed in feeds:
        silent += count_feed(feed, firm, loose, origins)
    for sign, count in loose.items():
        codes = sign_currencies(sign)
        code = next((code for code, _ in firm.most_common() if code in codes), codes[0])
        firm[code] += count
        shared = ", a sign that other currencies share" if len(codes) > 1 else ""
        origins.setdefault(code, f"from {without_number(sign)} in the prices{shared}")
    total = firm.total()
    if total <= RARE_CURRENCY * silent:
        return DEFAULT_CURRENCY, ASSUMED
    code, count = firm.most_common(1)[0]
    others = ", ".join(f"{rows:,} {name}" for name, rows in firm.most_common(6) if name != code)
    if total - count > RARE_CURRENCY * total:
        return code, f"{origins[code]}: {count:,} prices, the most; not converted and rejected: {others}"
    return code, origins[code]


def count_feed(feed: Feed, firm: Counter[str], loose: Counter[str], origins: dict[str, str]) -> int:
    """Count the currencies that one feed names: `firm` ones by code, others by sign. The number of silent prices."""
    scan, columns = feed.prices, feed.columns
    named = 0
    for text, count in scan.codes.items():
        code = text.strip().upper()
        if code not in CODES:
            codes = find_currencies(normalize_sign(text.strip()))
            code = codes[0] if codes else ""
        if code:
            firm[code] += count
            named += count
            origins.setdefault(code, f"from the column {columns.currency!r}")
    if named:
        return max(0, scan.filled - named)
    in_name = currency_in_name(columns.price)
    for sign, count in scan.signs.items():
        codes = sign_currencies(sign)
        if not codes or in_name in codes:
            continue
        named += count
        if len(codes) == 1:
            firm[codes[0]] += count
            origins.setdefault(codes[0], f"from {without_number(sign)} in the prices")
        else:
            loose[sign] += count
    if in_name:
        firm[in_name] += max(1, scan.filled - named)
        origins.setdefault(in_name, f"from the name of the column {columns.price!r}")
        return 0
    return max(0, scan.filled - named)


def without_number(sign: str) -> str:
    """What stands beside the number of a price: `€` of `9 €`."""
    return " ".join(sign.replace("9", " ").split())


@cache
def sign_currencies(sign: str) -> tuple[str, ...]:
    """The currencies that a price with its number written as 9 may be in, the usual one first; empty for none."""
    usual = parse_price(sign, DEFAULT_CURRENCY)
    if isinstance(usual, str) or usual[1] is None:
        return ()
    fitting = [code for code in sorted(CODES) if parse_price(sign, code) == (usual[0], code)]
    return (usual[1], *(code for code in fitting if code != usual[1]))


def check_currency(feeds: Sequence[Feed], currency: str) -> None:
    """Raise UsageError if a column of prices names another currency."""
    for feed in feeds:
        other = currency_in_name(feed.columns.price)
        if other and other != currency and not feed.columns.currency:
            raise UsageError(
                f"{feed.name}: the column {feed.columns.price!r} is in {other} by its name",
                got=f"--currency {currency}",
                hint=f"Use --currency {other}, name another column with --map price=COLUMN, or rename it.",
            )
