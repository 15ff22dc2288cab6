"""Price a file of any length in constant memory: `pricesmith price MODEL --file F --to OUT`.

Rows are priced in parts of 5,000. Each part is a whole file under OUT.parts/, so the same command resumes after a kill.
At the end the parts are joined into OUT. A row of OUT has the columns of its input row and
    {"price": 24.5, "low": 15.2, "high": 39.4, "note": "", "currency": "USD", "nothing_similar": false}
rounded to the currency's digits. An added column whose name the input has already is called `predicted_price` and so
on. A row that cannot be priced keeps its place, with the reason in `note`. Each comparable adds four columns:
`comparable_1_id`, `comparable_1_title`, `comparable_1_price`, `comparable_1_similarity`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from pricesmith.batch.asked_columns import AskedPrices
from pricesmith.batch.part_table import InputCells, PartRows, build_part
from pricesmith.batch.parts import GENERATOR, hash_plan, join_parts, part_path, start_parts, sweep, write_part
from pricesmith.batch.priced_row import NOTHING, join_notes, round_quote
from pricesmith.batch.spending import ApiSpending, open_spending
from pricesmith.batch.writers import WRITERS, is_prices, part_schema
from pricesmith.catalog.clean import is_too_short, refusal
from pricesmith.catalog.comparables import Comparable
from pricesmith.catalog.listing_reader import ListingReader, build_reader
from pricesmith.catalog.readers.feeds import read_inherited
from pricesmith.catalog.readers.messages import Value
from pricesmith.catalog.readers.sources import BadRow, Limits, RawRow, RowBatch, Source, single_source
from pricesmith.catalog.readers.table_copies import table_copies
from pricesmith.core.addresses import mask_password
from pricesmith.core.atomic import file_lock, find_output
from pricesmith.core.errors import UsageError
from pricesmith.core.progress import SILENT, Progress
from pricesmith.core.types import Listing, Pricer, Quote

if TYPE_CHECKING:
    import pyarrow as pa

    from pricesmith.catalog.variants import Variants

PART_ROWS = 5_000
MAX_COMPARABLES = 20


@runtime_checkable
class Comparing(Protocol):
    """A pricer that has its training listings at hand, as a loaded model does."""

    def find_comparables(
        self, listings: Sequence[Listing], k: int = 3, *, quotes: Sequence[Quote] | None = None
    ) -> list[list[Comparable]]: ...

    def nothing_similar(self, listings: Sequence[Listing]) -> list[bool | None]: ...


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
    plan = {"generator": GENERATOR, "format": 5, "file": label or mask_password(str(file)), "sha256": source.digest()}
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


def read_parts(source: Source, size: int, variants: Variants | None = None) -> Iterator[PartRows]:
    """The rows of a source in parts of `size`, the last one shorter. Variants inherit the values of their product."""
    part = PartRows()
    for batch in read_inherited(source, Limits(), SILENT, variants):
        while batch:
            room = size - len(part)
            part.batches.append(batch[:room])
            batch = batch[room:]
            if len(part) == size:
                yield part
                part = PartRows()
    if part.batches:
        yield part


@dataclass(frozen=True)
class ReadListings:
    """The rows of a part, with the reason of each row that has nothing to price; `places` are those of `listings`."""

    ids: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    listings: list[Listing] = field(default_factory=list)
    places: list[int] = field(default_factory=list)

    def spread(self, values: Sequence[Any], default: Any = None) -> list[Any]:
        """A value for each row, from one for each listing."""
        if len(values) == len(self.ids):
            return list(values)
        spread = [default] * len(self.ids)
        for place, value in zip(self.places, values, strict=True):
            spread[place] = value
        return spread


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

    def read_parts(self) -> Iterator[PartRows]:
        """The rows of each part."""
        return read_parts(self.source, self.part_rows, self.reading.variants)

    def run(self, done: Set[int], spending: ApiSpending | None, progress: Progress, name: str) -> int:
        """Write all parts that are not `done`; the number of rows of the file. With a budget the listings are counted
        first, by reading the file once more."""
        sizes, total = None, None
        if spending is not None and spending.limited:
            progress.start(f"counting the rows of {name}")
            sizes, total = [], 0
            for rows in self.read_parts():
                sizes.append(len(self.read_listings(rows).listings))
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

    def write(self, number: int, rows: PartRows, spending: ApiSpending | None = None) -> None:
        """Price the rows of one part and write it."""
        write_part(part_path(self.parts, number), self.price_rows(rows, spending))

    def join(self, count: int, to: Path, ending: str, spending: ApiSpending | None) -> dict[str, Any]:
        """Join the parts, of `count` rows in all, into `to`; the counts."""
        audit = self.asked is not None
        return join_parts(self.parts, count, self.part_rows, to, ending, self.comparables, self.work, spending, audit)

    def read_listings(self, rows: PartRows) -> ReadListings:
        """The listings of rows, and why others have nothing to price."""
        read = ReadListings()
        for batch in rows.batches:
            start = len(read.ids)
            if isinstance(batch, RowBatch):
                values: Sequence[Mapping[str, Value]] = batch.rows
                numbers: Sequence[int] = batch.numbers
                places: Sequence[int] = range(len(batch))
                read.ids.extend(map(str, numbers))
                read.notes.extend([""] * len(batch))
            else:
                readable = [row for row in batch if isinstance(row, RawRow)]
                values, numbers = [row.values for row in readable], [row.number for row in readable]
                places = [place for place, row in enumerate(batch) if isinstance(row, RawRow)]
                read.ids.extend(str(row.number) for row in batch)
                read.notes.extend(row.reason if isinstance(row, BadRow) else "" for row in batch)
            listings = self.reading.listings(values, numbers)
            empty = set(self.reading.find_empty(values, listings))
            for number, (place, listing) in enumerate(zip(places, listings, strict=True)):
                read.ids[start + place] = listing.id
                if number in empty:
                    read.notes[start + place] = NOTHING
                elif is_too_short(listing, self.reading.cleaning):
                    read.notes[start + place] = refusal(self.reading.cleaning)
                else:
                    read.listings.append(listing)
                    read.places.append(start + place)
        return read

    def price_rows(self, rows: PartRows, spending: ApiSpending | None) -> pa.Table:
        """The table of a part: the rows in order, each with its quote or the reason why it has none."""
        read, cells = self.read_listings(rows), InputCells.from_rows(rows)
        if spending is not None:
            spending.start_part(len(read.listings))
        quotes = self.pricer.price(read.listings)
        flags, near = find_similar(self.pricer, read.listings, quotes, self.comparables)
        asked = None
        if self.asked is not None:
            flagged = [replace(quote, nothing_similar=flag) for quote, flag in zip(quotes, flags, strict=True)]
            asked = self.asked.assess([cells.row(place) for place in read.places], flagged)
        shown = [
            round_quote(quote, flag, self.currency, self.max_interval_ratio)
            for quote, flag in zip(quotes, flags, strict=True)
        ]
        notes = [note for *_, note in shown]
        if asked is not None:
            notes = [join_notes(note, price.reason) for note, price in zip(notes, asked, strict=True)]
        for place, note in zip(read.places, notes, strict=True):
            read.notes[place] = note
        flags = [None if quote.price is None else flag for quote, flag in zip(quotes, flags, strict=True)]
        added = {
            "id": read.ids,
            "price": read.spread([price for price, *_ in shown]),
            "low": read.spread([low for _, low, *_ in shown]),
            "high": read.spread([high for _, _, high, _ in shown]),
            "note": read.notes,
            "currency": [self.currency] * len(read.ids),
            "nothing_similar": read.spread(flags),
            "cost_usd": read.spread([quote.cost_usd for quote in quotes], 0.0),
            "quote_note": read.spread([quote.note for quote in quotes], ""),
        }
        if asked is not None:
            added["asked_price"] = read.spread([price.price for price in asked])
            added["p_value"] = read.spread([price.p_value for price in asked])
            added["assessment"] = [None] * len(read.ids)  # made of all p-values, when the parts are joined
        for number in range(self.comparables):
            nearest = [comparables[number] if number < len(comparables) else None for comparables in near]
            for name in ("id", "title", "price", "similarity"):
                values = [None if comparable is None else getattr(comparable, name) for comparable in nearest]
                added[f"comparable_{number + 1}_{name}"] = read.spread(values)
        return build_part(cells, added, part_schema(self.comparables, audit=asked is not None), self.work)


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
