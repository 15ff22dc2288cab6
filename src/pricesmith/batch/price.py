"""Price a file of any length in constant memory: `pricesmith price MODEL --file F --to OUT`.

Rows are priced in parts of 5,000. Each part is a whole file under OUT.parts/, so the same command resumes after a kill.
At the end the parts are joined into OUT. A row of OUT has the columns of its input row and
    {"price": 24.5, "low": 15.2, "high": 39.4, "note": "", "currency": "USD", "nothing_similar": false}
rounded to the currency's digits. An added column whose name the input has already is called `predicted_price` and so
on. A row that cannot be priced keeps its place, with the reason in `note`. Each comparable adds four columns:
`comparable_1_id`, `comparable_1_title`, `comparable_1_price`, `comparable_1_similarity`.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from pricesmith.batch.asked_columns import AskedPrices
from pricesmith.batch.parts import GENERATOR, WORK, hash_plan, join_parts, part_path, start_parts, sweep
from pricesmith.batch.spending import ApiSpending, open_spending
from pricesmith.batch.writers import WRITERS, Cells, is_prices, quote_fields
from pricesmith.catalog.clean import is_too_short, refusal
from pricesmith.catalog.comparables import Comparable
from pricesmith.catalog.listing_reader import ListingReader, build_reader
from pricesmith.catalog.readers.feeds import read_inherited
from pricesmith.catalog.readers.sources import BadRow, Limits, RawRow, Source, single_source
from pricesmith.catalog.readers.table_copies import table_copies
from pricesmith.core.addresses import mask_password
from pricesmith.core.atomic import atomic_file, file_lock, find_output
from pricesmith.core.errors import UsageError
from pricesmith.core.progress import SILENT, Progress
from pricesmith.core.types import Listing, Pricer, Quote
from pricesmith.text.formatting import round_money

if TYPE_CHECKING:
    from pricesmith.catalog.variants import Variants

PART_ROWS = 5_000
NOTHING = "no title and no text"
UNLIKE = "nothing similar in the training data: the price is a guess"
MAX_COMPARABLES = 20


@runtime_checkable
class Comparing(Protocol):
    """A pricer that has its training listings at hand, as a loaded model does."""

    def find_comparables(
        self, listings: Sequence[Listing], k: int = 3, *, quotes: Sequence[Quote] | None = None
    ) -> list[list[Comparable]]: ...

    def nothing_similar(self, listings: Sequence[Listing]) -> list[bool | None]: ...


@dataclass(frozen=True)
class PricedRow:
    """One row of the output. `cells` are the columns of the input row; `cost_usd` and `quote_note` are the quote's, and
    are no columns of the output."""

    id: str
    price: float | None
    low: float | None
    high: float | None
    currency: str
    note: str = ""
    nothing_similar: bool | None = None
    comparables: tuple[Comparable, ...] = ()
    cells: Cells = field(default_factory=dict)
    cost_usd: float | None = 0.0
    quote_note: str = ""
    asked_price: float | None = None
    p_value: float | None = None

    def values(self, comparables: int, *, audit: bool = False) -> list[Any]:
        """The row as the columns of a part."""
        cells = {name: None if is_nan(value) else value for name, value in self.cells.items()}
        quote = [self.price, self.low, self.high, self.note, self.currency, self.nothing_similar]
        values: list[Any] = [self.id, json.dumps(cells, ensure_ascii=False), *quote]
        values += [self.asked_price, None, self.p_value] if audit else []
        for near in self.comparables[:comparables]:
            values += [near.id, near.title, near.price, near.similarity]
        values += [None] * (4 * (comparables - len(self.comparables[:comparables])))
        return [*values, self.cost_usd, self.quote_note]


def is_nan(value: object) -> bool:
    """Whether a cell is a number that JSON cannot hold."""
    return isinstance(value, float) and not math.isfinite(value)


def price_row(listing_id: str, quote: Quote, currency: str, max_interval_ratio: float | None) -> PricedRow:
    """A quote as an output row, rounded to the currency's digits.

    It has no price if a side of its interval is further from the price than `max_interval_ratio`. Both sides count: an
    interval that ends at the catalog's highest price looks narrow on that side only.
    """
    paid: dict[str, Any] = {"cost_usd": quote.cost_usd, "quote_note": quote.note}
    if quote.price is None:
        note = join_notes(f"unanswered: {quote.raw[:200]}".rstrip(": "), quote.note)
        return PricedRow(listing_id, None, None, None, currency, note, **paid)
    low, high = (None if end is None else round_money(end, currency) for end in (quote.low, quote.high))
    if max_interval_ratio is not None and quote.low and quote.high:
        below, above = quote.price / quote.low, quote.high / quote.price
        if max(below, above) > max_interval_ratio:
            # Rounded up, so that a ratio just over the limit does not look like one within it.
            sides = [math.ceil(100 * side) / 100 for side in (below, above)]
            note = join_notes(f"interval too wide: price ÷ {sides[0]:.2f} to × {sides[1]:.2f}", quote.note)
            return PricedRow(listing_id, None, low, high, currency, note, quote.nothing_similar, **paid)
    note = join_notes(UNLIKE if quote.nothing_similar else "", quote.note)
    price = round_money(quote.price, currency)
    return PricedRow(listing_id, price, low, high, currency, note, quote.nothing_similar, **paid)


def join_notes(*notes: str) -> str:
    """The notes that are not empty, as one."""
    return "; ".join(note for note in notes if note)


def check_max_ratio(max_interval_ratio: float | None, calibrated: bool) -> None:
    """Raises UsageError if the ratio is not above 1, or if the model has no intervals."""
    if max_interval_ratio is None:
        return
    if not (math.isfinite(max_interval_ratio) and max_interval_ratio > 1):
        raise UsageError(
            "--max-interval-ratio must be a ratio above 1",
            got=f"{max_interval_ratio}",
            allowed="for example 1.5",
            hint="Use --max-interval-ratio 1.5.",
        )
    if not calibrated:
        raise UsageError("This model has no intervals", hint="Leave out --max-interval-ratio.")


def check_comparables(count: int, pricer: Pricer) -> None:
    """Raises UsageError if the number of comparables is out of range, or if the model has none."""
    if not 0 <= count <= MAX_COMPARABLES:
        raise UsageError(
            f"--comparables must be between 0 and {MAX_COMPARABLES}",
            got=str(count),
            allowed=f"0 to {MAX_COMPARABLES}",
            hint="Use --comparables 3.",
        )
    if count and not getattr(pricer, "has_comparables", True):
        raise UsageError(
            "This model has no comparables",
            got="a model that was exported without its training listings",
            hint="Leave out --comparables, or name the model that was exported.",
        )


@table_copies()
def price_file(
    pricer: Pricer,
    info: Mapping[str, Any],
    file: Path | str,
    to: Path,
    *,
    identity: str,
    max_interval_ratio: float | None = None,
    comparables: int = 0,
    part_rows: int = PART_ROWS,
    overwrite: bool = False,
    mapping: Mapping[str, str] | None = None,
    reader: ListingReader | None = None,
    label: str = "",
    audit: bool = False,
    pricing: Pricing | None = None,
    progress: Progress = SILENT,
) -> dict[str, Any]:
    """Price every row of `file`, a path or another source, into `to`; the counts of rows, priced and not priced ones.

    `info` is the model's catalog.json (cleaning, columns, currency). `identity` names the model's content, so that
    parts made by another model are not used. `mapping` is field -> column, for columns with unusual names; `reader`
    replaces the choice of columns by the file's header; `label` is what the file is called in the plan, if its path
    changes from run to run. `audit` adds the asked price, its assessment and its p-value. `pricing` writes the parts
    if this process does not. A link is written through. Raises UsageError, before anything is written, if the file has
    no column that the model knows, if `to` is the file or one that this function did not write (unless `overwrite`,
    which also discards parts of other work), or if another process is writing `to`.

    A pricer that asks an API model (`asks_api`) uses the settings of the innermost `with ApiSettings(...)` block: its
    budget is spread over all rows, and it is the limit for all processes that work on the file; see `spending`.
    """
    target, source = find_output(to), check_paths(str(file), to, progress)
    parts = target.with_name(target.name + ".parts")
    refuse_overwriting(source.path, to, parts)
    plan = {"generator": GENERATOR, "format": 4, "file": label or mask_password(str(file)), "sha256": source.digest()}
    plan |= {"model": identity, "max_interval_ratio": max_interval_ratio, "comparables": comparables}
    plan |= {"part_rows": part_rows, "to": target.name, "map": dict(sorted((mapping or {}).items()))}
    plan |= {"audit": True} if audit else {}
    with file_lock(target.with_name(f".{target.name}.lock"), f"Another process is writing {to}"):
        if not overwrite:
            refuse_foreign(target, to)
        reading = reader or build_reader(source, info, mapping)
        asked = AskedPrices.open(pricer, source, reading) if audit else None
        done = start_parts(parts, plan, overwrite=overwrite)
        rules = (part_rows, str(info["currency"]), max_interval_ratio, comparables)
        job = PricingJob(pricer, source, reading, parts, *rules, hash_plan(plan), asked)
        with open_spending(pricer, parts) as spending:
            try:
                name = label or source.name
                count = pricing(job, done, progress, name) if pricing else job.run(done, spending, progress, name)
                facts = job.join(count, target, to.suffix.lower(), spending)
            except BaseException:
                paid = spending is not None and spending.spent > 0
                if not paid and not any(parts.glob("part-*.parquet")):  # nothing to resume: it would be in the way
                    sweep(parts)
                raise
        note_results(facts, progress)
        sweep(parts)
    return {**facts, "to": str(to)}


def note_results(facts: Mapping[str, Any], progress: Progress) -> None:
    """Note repeated ids and added columns with unusual names."""
    if repeated := facts["repeated_ids"]:
        progress.note(f"{repeated:,} rows have the id of an earlier row. The order of rows is that of the file.")
    if renamed := facts["renamed"]:
        names = ", ".join(f"{output} (the input has {name})" for name, output in renamed.items())
        progress.note(f"Added columns with another name: {names}.")


def check_paths(file: str, to: Path, progress: Progress) -> Source:
    """The file as a source. Raises UsageError if it is not one file, or if `to` has an ending that is not written."""
    if to.suffix.lower() not in WRITERS:
        raise UsageError(
            f"{to} cannot be written",
            got=to.suffix or "no ending",
            allowed=", ".join(WRITERS),
            hint=f"Use --to {to.with_suffix('.csv')}.",
        )
    return single_source(file, progress)


def refuse_overwriting(file: Path, to: Path, parts: Path) -> None:
    """Raises UsageError if writing `to`, or removing `parts` at the end, would destroy the file that is priced."""
    real = file.resolve()
    if to.resolve() == real or (to.exists() and to.samefile(file)):
        raise UsageError(
            "--to is the file that is priced",
            got=f"{to}",
            allowed="another file",
            hint=f"Choose another name, such as --to {to.stem}-prices{to.suffix}.",
        )
    if parts.resolve() in (real, *real.parents):
        raise UsageError(
            f"The file that is priced is in the folder of parts of {to.name}, and would be deleted with it",
            got=f"{file}",
            allowed=f"a file outside {parts}",
            hint="Move the file, or choose another --to.",
        )


def refuse_foreign(target: Path, to: Path) -> None:
    """Raises UsageError if the output exists and is not a file of prices that we wrote."""
    if target.exists() and not is_prices(target, to.suffix.lower()):
        raise UsageError(
            f"{to} exists, and `pricesmith price` did not write it",
            allowed="a path that does not exist yet, or a file of prices from an earlier run",
            hint=f"Choose another name, such as --to {to.stem}-prices{to.suffix}.",
        )


def read_chunks(source: Source, size: int, variants: Variants | None = None) -> Iterator[list[RawRow | BadRow]]:
    """The rows of a source in lists of `size`, the last one shorter. Variants inherit the values of their product."""
    waiting: list[RawRow | BadRow] = []
    for batch in read_inherited(source, Limits(), SILENT, variants):
        waiting.extend(batch)
        while len(waiting) >= size:
            yield waiting[:size]
            waiting = waiting[size:]
    if waiting:
        yield waiting


@dataclass(frozen=True)
class PricingJob:
    """The rows of a file, and how they are priced into parts in the folder `parts`; `work` is the hash of its plan."""

    pricer: Pricer
    source: Source
    reading: ListingReader
    parts: Path
    part_rows: int
    currency: str
    max_interval_ratio: float | None
    comparables: int
    work: str
    asked: AskedPrices | None = None

    def read_parts(self) -> Iterator[list[RawRow | BadRow]]:
        """The rows of each part."""
        return read_chunks(self.source, self.part_rows, self.reading.variants)

    def run(self, done: Set[int], spending: ApiSpending | None, progress: Progress, name: str) -> int:
        """Write all parts that are not `done`; the number of rows of the file. With a budget the listings are counted
        first, by reading the file once more."""
        sizes, total = None, None
        if spending is not None and spending.limited:
            progress.start(f"counting the rows of {name}")
            sizes, total = [], 0
            for rows in self.read_parts():
                sizes.append(sum(isinstance(listing, Listing) for listing in self.read_listings(rows)))
                total += len(rows)
        if spending is not None:
            spending.start(sizes, done, progress)
        progress.start(f"pricing {name}", total)
        count = 0
        for number, rows in enumerate(self.read_parts()):
            if number not in done:
                self.write(number, rows, spending)
            count += len(rows)
            progress.advance(len(rows))
        return count

    def write(self, number: int, rows: Sequence[RawRow | BadRow], spending: ApiSpending | None = None) -> None:
        """Price the rows of one part and write it."""
        answers = self.price_rows(rows, spending)
        path, audit = part_path(self.parts, number), self.asked is not None
        write_part(path, answers, self.comparables, work=self.work, audit=audit)

    def join(self, count: int, to: Path, ending: str, spending: ApiSpending | None) -> dict[str, Any]:
        """Join the parts, of `count` rows in all, into `to`; the counts."""
        audit = self.asked is not None
        return join_parts(self.parts, count, self.part_rows, to, ending, self.comparables, self.work, spending, audit)

    def read_listings(self, rows: Sequence[RawRow | BadRow]) -> list[Listing | PricedRow]:
        """The listing of each input row, or its output row if there is nothing to price."""
        listings = iter(self.reading.listings([row for row in rows if isinstance(row, RawRow)]))
        return [
            self.check_listing(row, next(listings))
            if isinstance(row, RawRow)
            else PricedRow(str(row.number), None, None, None, self.currency, row.reason)
            for row in rows
        ]

    def check_listing(self, row: RawRow, listing: Listing) -> Listing | PricedRow:
        """The listing of an input row, or its output row if there is nothing to price."""
        says_nothing = self.reading.says_nothing(row, listing)
        if says_nothing or is_too_short(listing, self.reading.cleaning):
            note = NOTHING if says_nothing else refusal(self.reading.cleaning)
            return PricedRow(listing.id, None, None, None, self.currency, note, cells=row.values)
        return listing

    def price_rows(self, rows: Sequence[RawRow | BadRow], spending: ApiSpending | None) -> list[PricedRow]:
        """One priced row for each input row, in order."""
        read = self.read_listings(rows)
        listings = [listing for listing in read if isinstance(listing, Listing)]
        if spending is not None:
            spending.start_part(len(listings))
        quotes = self.pricer.price(listings)
        flags, near = find_similar(self.pricer, listings, quotes, self.comparables)
        quotes = [replace(quote, nothing_similar=flag) for quote, flag in zip(quotes, flags, strict=True)]
        pairs = zip(rows, read, strict=True)
        cells = [row.values for row, listing in pairs if isinstance(row, RawRow) and isinstance(listing, Listing)]
        asked: Sequence[dict[str, Any]] = self.asked.assess(cells, quotes) if self.asked else [{}] * len(listings)
        priced = zip(listings, quotes, near, cells, asked, strict=True)
        answers = []
        for listing_or_answer in read:
            if isinstance(listing_or_answer, PricedRow):
                answers.append(listing_or_answer)
                continue
            listing, quote, comparables, values, facts = next(priced)
            answer = price_row(listing.id, quote, self.currency, self.max_interval_ratio)
            note = join_notes(answer.note, facts.get("reason", ""))
            shown = {name: value for name, value in facts.items() if name != "reason"}
            answers.append(replace(answer, comparables=tuple(comparables), cells=values, **{**shown, "note": note}))
        return answers


# Writes the parts of a job that are not done yet; the number of rows of the file: pricing(job, done, progress, name)
Pricing = Callable[[PricingJob, Set[int], Progress, str], int]


def find_similar(
    pricer: Pricer, listings: Sequence[Listing], quotes: Sequence[Quote], comparables: int
) -> tuple[Sequence[bool | None], Sequence[Sequence[Comparable]]]:
    """Whether nothing in the training data is similar to each listing, and its comparables."""
    if not isinstance(pricer, Comparing):
        return [None] * len(listings), [()] * len(listings)
    near = pricer.find_comparables(listings, comparables, quotes=quotes) if comparables else [()] * len(listings)
    return pricer.nothing_similar(listings), near


def write_part(
    path: Path, answers: Sequence[PricedRow], comparables: int = 0, *, work: str = "", audit: bool = False
) -> None:
    """Write one part, whole or not at all. The input's columns are one column of JSON; `work` is its plan's hash."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    paid = [("cost_usd", pa.float64()), ("quote_note", pa.string())]
    fields = [("id", pa.string()), ("input", pa.string()), *quote_fields(comparables, audit=audit), *paid]
    schema = pa.schema(fields, metadata={WORK: work})
    rows = [dict(zip(schema.names, answer.values(comparables, audit=audit), strict=True)) for answer in answers]
    with atomic_file(path) as temporary:
        pq.write_table(pa.Table.from_pylist(rows, schema=schema), temporary, write_page_checksum=True)
