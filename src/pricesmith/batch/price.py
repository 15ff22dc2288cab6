"""Price a file of any length in constant memory: `pricesmith price RUN --file F --to OUT`.

Rows are priced in parts of 5,000; each part is a whole file under OUT.parts/, so a run that was killed goes on where
it stopped. At the end the parts are joined into OUT. One row of OUT:
    {"id": "a1", "price": 24.5, "low": 15.2, "high": 39.4, "currency": "USD", "note": "", "nothing_similar": false}
A row without an answer keeps its place and its id, with the reason in `note`. With comparables each has four columns
more: `comparable_1_id`, `comparable_1_title`, `comparable_1_price`, `comparable_1_similarity`.
"""

from __future__ import annotations

import contextlib
import math
from array import array
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from hashlib import blake2b
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from pricesmith.batch.writers import WRITERS, is_prices, output_schema
from pricesmith.catalog.clean import is_too_short, refusal
from pricesmith.catalog.comparables import Comparable
from pricesmith.catalog.listing_reader import ListingReader, build_reader
from pricesmith.catalog.readers.feeds import read_inherited
from pricesmith.catalog.readers.sources import BadRow, Limits, RawRow, Source, resolve_sources
from pricesmith.core.atomic import atomic_file, file_lock, find_output, read_json, sha256, sweep_temporaries, write_json
from pricesmith.core.errors import InputError, UsageError
from pricesmith.core.progress import SILENT, Progress
from pricesmith.core.types import Listing, Pricer, Quote

if TYPE_CHECKING:
    import pyarrow as pa

    from pricesmith.catalog.variants import Variants

PART_ROWS = 5_000
PLAN = "plan.json"
MOST_IDS = 10_000_000  # rows whose ids are compared, at 8 bytes each
GENERATOR = "pricesmith price"
NOTHING = "no title and no text"
UNLIKE = "nothing similar in the training data: the price is a guess"
MOST_COMPARABLES = 20


@runtime_checkable
class Comparing(Protocol):
    """A pricer that has its training listings at hand, as a loaded model does."""

    def comparables(
        self, listings: Sequence[Listing], k: int = 3, *, quotes: Sequence[Quote] | None = None
    ) -> list[list[Comparable]]: ...

    def nothing_similar(self, listings: Sequence[Listing]) -> list[bool | None]: ...


@dataclass(frozen=True)
class PricedRow:
    """One row of the output."""

    id: str
    price: float | None
    low: float | None
    high: float | None
    currency: str
    note: str = ""
    nothing_similar: bool | None = None
    comparables: tuple[Comparable, ...] = ()

    def values(self, comparables: int) -> list[Any]:
        """The row as the columns of `schema(comparables)`."""
        cells: list[Any] = [self.id, self.price, self.low, self.high, self.currency, self.note, self.nothing_similar]
        for near in self.comparables[:comparables]:
            cells += [near.id, near.title, near.price, near.similarity]
        return cells + [None] * (4 * (comparables - len(self.comparables[:comparables])))


def price_row(listing_id: str, quote: Quote, currency: str, max_interval_ratio: float | None) -> PricedRow:
    """A quote as an output row. It is declined where its interval is wider than price x/÷ `decline`, to either side:
    one that ends at the catalog's highest price looks narrow on that side only."""
    if quote.price is None:
        return PricedRow(listing_id, None, None, None, currency, f"no usable answer: {quote.raw[:200]}".rstrip(": "))
    if max_interval_ratio is not None and quote.low and quote.high:
        width = max(quote.high / quote.price, quote.price / quote.low)
        if width > max_interval_ratio:
            note = f"declined: the interval is price x/÷ {math.ceil(100 * width) / 100:.2f}"
            return PricedRow(listing_id, None, quote.low, quote.high, currency, note, quote.nothing_similar)
    note = UNLIKE if quote.nothing_similar else ""
    return PricedRow(listing_id, quote.price, quote.low, quote.high, currency, note, quote.nothing_similar)


def check_max_ratio(max_interval_ratio: float | None, calibrated: bool) -> None:
    """Raises UsageError where a ratio cannot be kept."""
    if max_interval_ratio is None:
        return
    if not (math.isfinite(max_interval_ratio) and max_interval_ratio > 1):
        raise UsageError(
            "--max-interval-ratio is a ratio above 1",
            got=f"{max_interval_ratio}",
            allowed="for example 1.5",
            hint="Use --max-interval-ratio 1.5.",
        )
    if not calibrated:
        raise UsageError(
            "This pricer has no intervals, so nothing can be declined", hint="Leave out --max-interval-ratio."
        )


def check_comparables(count: int, pricer: Pricer) -> None:
    """Raises UsageError where so many comparables cannot be shown."""
    if not 0 <= count <= MOST_COMPARABLES:
        raise UsageError(
            "--comparables is a number of training listings",
            got=str(count),
            allowed=f"0 to {MOST_COMPARABLES}",
            hint="Use --comparables 3.",
        )
    if count and not getattr(pricer, "has_comparables", True):
        raise UsageError(
            "This model has no comparables",
            got="a model that was exported without its training listings",
            hint="Leave out --comparables, or name the model that was exported.",
        )


def price_file(
    pricer: Pricer,
    info: Mapping[str, Any],
    file: Path,
    to: Path,
    *,
    identity: str,
    max_interval_ratio: float | None = None,
    comparables: int = 0,
    part_rows: int = PART_ROWS,
    overwrite: bool = False,
    progress: Progress = SILENT,
) -> dict[str, Any]:
    """Price every row of `file` into `to`; how many were priced, declined and not.

    `info` is the run's catalog.json (cleaning, columns, currency); `identity` names the run's content, so that parts
    made by another run are not taken for this one's. A link is written through. Raises UsageError, before anything is
    written, if the file has neither title nor text, if `to` is the file or one that this function did not write
    (unless `overwrite`; it also discards parts of other work), or if another process is writing `to`.
    """
    place = find_output(to)
    if to.suffix.lower() not in WRITERS:
        raise UsageError(
            f"{to} cannot be written", got=to.suffix or "no ending", allowed=", ".join(WRITERS), hint="Rename it."
        )
    found = resolve_sources([str(file)])
    if len(found) != 1 or Path(file).is_dir():
        raise UsageError("--file is one file", got=f"{len(found)} files", hint="Price them one after another.")
    parts = place.with_name(place.name + ".parts")
    refuse_overwriting(found[0].path, to, parts)
    plan = {"generator": GENERATOR, "format": 1, "file": str(file), "sha256": sha256(found[0].path), "run": identity}
    plan |= {"decline": max_interval_ratio, "comparables": comparables, "part_rows": part_rows, "to": place.name}
    with file_lock(place.with_name(f".{place.name}.lock"), f"Another process is writing {to}"):
        if not overwrite:
            refuse_foreign(place, to)
        reading = build_reader(found[0], info)
        done = start_parts(parts, plan, overwrite=overwrite)
        progress.start(f"pricing {file.name}", None)
        count, currency = 0, str(info["currency"])
        try:
            for number, rows in enumerate(read_chunks(found[0], part_rows, reading.variants)):
                if number not in done:
                    answers = price_rows(pricer, reading, rows, currency, max_interval_ratio, comparables)
                    write_part(parts / f"part-{number:06d}.parquet", answers, comparables)
                count += len(rows)
                progress.advance(len(rows))
            facts = join_parts(parts, count, part_rows, place, to.suffix.lower(), comparables)
        except BaseException:
            if not any(parts.glob("part-*.parquet")):  # nothing to go on with: the folder would only be in the way
                sweep(parts)
            raise
        if repeated := facts["repeated_ids"]:
            progress.note(
                f"{repeated:,} rows of {to.name} have the id of an earlier row: the order of rows tells them apart"
            )
        sweep(parts)
    return {**facts, "to": str(to)}


def refuse_overwriting(file: Path, to: Path, parts: Path) -> None:
    """Raises UsageError where writing `to`, or sweeping `parts` at the end, would cost the file that is priced."""
    real = file.resolve()
    if to.resolve() == real or (to.exists() and to.samefile(file)):
        raise UsageError(
            "--to is the file that is priced",
            got=f"{to}",
            allowed="a file of its own",
            hint=f"Choose another name, such as --to {to.stem}-prices{to.suffix}.",
        )
    if parts.resolve() in (real, *real.parents):
        raise UsageError(
            f"The file that is priced lies where the work on {to.name} goes, and would be deleted with it",
            got=f"{file}",
            allowed=f"a place outside {parts}",
            hint="Move the file, or choose another --to.",
        )


def refuse_foreign(place: Path, to: Path) -> None:
    """Raises UsageError if the output exists and is not a file of prices that we wrote."""
    if place.exists() and not is_prices(place, to.suffix.lower()):
        raise UsageError(
            f"{to} exists, and `pricesmith price` did not write it",
            allowed="a path that does not exist yet, or a file of prices from an earlier run",
            hint=f"Choose another name, such as --to {to.stem}-prices{to.suffix}.",
        )


def start_parts(parts: Path, plan: Mapping[str, Any], *, overwrite: bool) -> set[int]:
    """The numbers of the whole parts of the same work; parts of other work are refused, leftovers swept."""
    if parts.is_symlink() or (parts.exists() and not parts.is_dir()):
        raise UsageError(f"{parts} is in the way", got="a link or a file", hint="Move it, or choose another --to.")
    if (parts / PLAN).is_file():
        old = read_json(parts / PLAN, hint="Move that folder, or choose another --to.")
        if not isinstance(old, dict) or old.get("generator") != GENERATOR:
            raise UsageError(f"{parts} is in the way", got=f"another {PLAN}", hint="Move it, or choose another --to.")
        if old != plan and not overwrite:
            differing = ", ".join(name for name in plan if old.get(name) != plan[name])
            raise UsageError(
                f"{parts} holds parts of other work",
                got=f"another {differing}",
                hint="Finish it with the command that it was started with, choose another --to, or start over with "
                "--overwrite.",
            )
        if old != plan:
            sweep(parts)
    elif parts.exists():
        if not all(map(is_own_output, parts.iterdir())):
            raise UsageError(f"{parts} is in the way", hint="Move it, or choose another --to.")
        sweep(parts)  # of a command killed before it wrote its plan, or while it swept
    parts.mkdir(parents=True, exist_ok=True)
    if not (parts / PLAN).is_file():
        write_json(parts / PLAN, dict(plan))
    sweep_temporaries(parts, ".*.tmp")
    return {int(path.stem.removeprefix("part-")) for path in parts.glob("part-*.parquet") if is_intact_part(path)}


def sweep(parts: Path) -> None:
    """Remove our files from a folder of parts, and the folder if it is empty then. The plan goes first: what is left
    after a kill is known by its names, and never taken for whole parts of other work."""
    for path in sorted(parts.glob("*"), key=lambda path: path.name != PLAN):
        if path.name == PLAN or is_own_output(path):
            path.unlink()
    with contextlib.suppress(OSError):
        parts.rmdir()


def is_own_output(path: Path) -> bool:
    """Whether a file in a folder of parts is of our making: a part, or one half written."""
    return path.is_file() and (path.match("part-*.parquet") or path.match(".*.tmp"))


def is_intact_part(path: Path) -> bool:
    """Whether a part can be read; one that a disk has damaged is made again."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        pq.read_table(path, page_checksum_verification=True)
    except (OSError, pa.ArrowException):
        return False
    return True


def read_chunks(source: Source, size: int, variants: Variants | None = None) -> Iterator[list[RawRow | BadRow]]:
    """The rows of a source in lists of `size`, the last one shorter; variants with what they inherit."""
    waiting: list[RawRow | BadRow] = []
    for batch in read_inherited(source, Limits(), SILENT, variants):
        waiting.extend(batch)
        while len(waiting) >= size:
            yield waiting[:size]
            waiting = waiting[size:]
    if waiting:
        yield waiting


def price_rows(
    pricer: Pricer,
    reading: ListingReader,
    rows: Sequence[RawRow | BadRow],
    currency: str,
    max_interval_ratio: float | None,
    comparables: int = 0,
) -> list[PricedRow]:
    """One answer for each row, in order."""
    listings: list[Listing] = []
    places: list[int] = []
    answers: list[PricedRow | None] = []
    for row in rows:
        if isinstance(row, BadRow):
            answers.append(PricedRow(str(row.number), None, None, None, currency, row.reason))
            continue
        listing = reading.listing(row)
        if reading.says_nothing(row, listing) or is_too_short(listing, reading.cleaning):
            note = NOTHING if reading.says_nothing(row, listing) else refusal(reading.cleaning)
            answers.append(PricedRow(listing.id, None, None, None, currency, note))
            continue
        places.append(len(answers))
        answers.append(None)
        listings.append(listing)
    quotes = pricer.price(listings)
    flags, near = compare(pricer, listings, quotes, comparables)
    for number, place in enumerate(places):
        quote = replace(quotes[number], nothing_similar=flags[number])
        answered = price_row(listings[number].id, quote, currency, max_interval_ratio)
        answers[place] = replace(answered, comparables=tuple(near[number]))
    return [one for one in answers if one is not None]


def compare(
    pricer: Pricer, listings: Sequence[Listing], quotes: Sequence[Quote], comparables: int
) -> tuple[Sequence[bool | None], Sequence[Sequence[Comparable]]]:
    """Whether nothing in the training data is similar to each listing, and its comparables."""
    if not isinstance(pricer, Comparing):
        return [None] * len(listings), [()] * len(listings)
    near = pricer.comparables(listings, comparables, quotes=quotes) if comparables else [()] * len(listings)
    return pricer.nothing_similar(listings), near


def write_part(path: Path, answers: Sequence[PricedRow], comparables: int = 0) -> None:
    """One part, whole or not there."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    columns = output_schema(comparables)
    rows = [dict(zip(columns.names, one.values(comparables), strict=True)) for one in answers]
    with atomic_file(path) as temporary:
        pq.write_table(pa.Table.from_pylist(rows, schema=columns), temporary, write_page_checksum=True)


def join_parts(parts: Path, count: int, part_rows: int, to: Path, ending: str, comparables: int = 0) -> dict[str, Any]:
    """All parts as one file, in order. Raises InputError where a part lacks rows."""
    import numpy as np
    import pyarrow.parquet as pq

    paths = [parts / f"part-{number:06d}.parquet" for number in range(math.ceil(count / part_rows))]
    facts = {"rows": 0, "priced": 0, "not_priced": 0, "nothing_similar": 0, "repeated_ids": 0}
    seen = array("Q")

    def tables() -> Iterator[pa.Table]:
        for path in paths:
            table = pq.read_table(path)
            facts["rows"] += table.num_rows
            facts["not_priced"] += table.column("price").null_count
            for name in table.column("id").to_pylist() if len(seen) < MOST_IDS else ():
                seen.append(int.from_bytes(blake2b(name.encode("utf-8", "replace"), digest_size=8).digest()))
            facts["nothing_similar"] += table.column("nothing_similar").to_pylist().count(True)
            yield table

    with atomic_file(to) as temporary:
        WRITERS[ending](tables(), temporary, output_schema(comparables))
        if facts["rows"] != count:
            raise InputError(
                f"{parts} does not add up",
                got=f"{facts['rows']} rows",
                allowed=f"{count} rows",
                hint="Run the same command again with --overwrite: it prices all rows again.",
            )
    facts["priced"] = facts["rows"] - facts["not_priced"]
    facts["repeated_ids"] = len(seen) - len(np.unique(np.frombuffer(seen, dtype=np.uint64)))
    return dict(facts)
