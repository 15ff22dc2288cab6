"""Make a catalog from files: read, map columns, clean, refuse by name, find groups, split, write, add up.

    catalog = curate(["shop.csv"], Path("out/shop"), currency="EUR")

The ledger is written last; the same command again says that it has finished, with other settings it refuses.
"""

from __future__ import annotations

import math
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pricesmith.catalog.additions import (
    InheritedOptions,
    count_earlier_rows,
    inherit_options,
    note_changes,
    open_added,
)
from pricesmith.catalog.catalog import CARD, ITEMS, LEDGER, REJECTS, SPLITS, Catalog, open_catalog
from pricesmith.catalog.clean import CleanSettings
from pricesmith.catalog.columns import ColumnMap
from pricesmith.catalog.dates import TIME
from pricesmith.catalog.first_pass import stage_feeds
from pricesmith.catalog.item_writer import write_items
from pricesmith.catalog.open_sources import open_all_feeds
from pricesmith.catalog.readers.feeds import (
    DEMO,
    SAMPLE,
    ReadOptions,
    describe_kind,
    describe_sales,
    merge_maps,
    note_currency,
)
from pricesmith.catalog.readers.sources import Limits, resolve_sources
from pricesmith.catalog.readers.table_copies import table_copies
from pricesmith.catalog.shards import is_worth_keeping
from pricesmith.catalog.split import check_split, parse_split
from pricesmith.catalog.staging import (
    BALANCED,
    DUPLICATE,
    Feed,
    RejectCounts,
    Rejects,
    Rules,
    choose_currency,
)
from pricesmith.catalog.time_split import describe_dates
from pricesmith.core.atomic import sha256
from pricesmith.core.errors import InputError, PricesmithError, UsageError
from pricesmith.core.folders import FolderBuild, build_folder
from pricesmith.core.progress import SILENT, Progress
from pricesmith.text.currency import CODES

LOWEST, HIGHEST = 0.01, 1e9
FEWEST_GROUPS = 20
FORMAT = 1
WORK, SHARDS = "work", "shards"  # folders in an unfinished catalog


@dataclass(frozen=True)
class SplitOptions:
    """How the items are split: `--split`, its seed, `--train-rows`, and an earlier catalog whose split is kept.

    `extend`: its items are the first feed, and its columns are columns of the new catalog.
    """

    split: str = "auto"
    seed: int = 0
    train_rows: int | None = None
    previous: Catalog | None = None
    extend: bool = False


@table_copies()
def curate(
    sources: Sequence[str],
    to: Path,
    *,
    mapping: Mapping[str, str] | None = None,
    currency: str | None = None,
    min_price: float | None = None,
    max_price: float | None = None,
    split: str = "auto",
    split_seed: int = 0,
    train_rows: int | None = None,
    drop_part_numbers: bool = False,
    keep: Sequence[str] = (),
    drop: Sequence[str] = (),
    delimiter: str = "",
    kind: str = "",
    sheet: str = "",
    overwrite: bool = False,
    limits: Limits | None = None,
    previous: Catalog | None = None,
    add: Catalog | Path | str | None = None,
    progress: Progress = SILENT,
) -> Catalog:
    """Build a catalog in `to` from files, folders, globs, tables of databases or demo:goods.

    Args:
        mapping: field -> column, for columns with unusual names.
        currency: a code of ISO 4217. By default the one that the files name, else USD.
        min_price, max_price: the lowest and the highest price that stay; by default every price from 0.01.
        split: `auto`, `time`, or shares such as `90/5/5`; another `split_seed` gives another.
        train_rows: keep so many training rows, balanced over sources, prices and categories (`balance`).
        drop_part_numbers: remove part numbers from the text.
        keep, drop: columns to keep although they give the price away, and columns to ignore.
        delimiter, sheet: what separates the columns of CSV files, and the sheet of a workbook; by default found.
        kind: the kind of the files (`kinds.KINDS`), by default recognized by their headers.
        overwrite: replace a catalog that was built with other settings.
        previous, add: an earlier catalog, whose items keep their split; those of `add` are added.

    Raises UsageError for invalid settings, and InputError for files that cannot be read and for fewer than 100 rows.
    """
    old = open_added(add, to := Path(to))
    options = inherit_options(old, InheritedOptions(currency, min_price, max_price, drop_part_numbers))
    low, high = parse_range(LOWEST if options.min_price is None else options.min_price, options.max_price)
    given = check_settings(options.currency, split, train_rows)
    reading = ReadOptions(mapping or {}, keep, drop, delimiter, given, kind, sheet, limits or Limits())
    feeds = open_all_feeds(sources, reading, old or previous, old is not None, split, progress)
    code, origin = choose_currency(feeds, given)
    note_currency(feeds, origin, progress)
    cleaning = CleanSettings(drop_part_numbers=options.drop_part_numbers, currency=code)
    rules = Rules(cleaning, code, low, high, origin)
    splitting = SplitOptions(split, split_seed, train_rows, old or previous, old is not None)
    settings = describe_settings(feeds, reading, rules, splitting)
    common: dict[str, Any] = {"noun": "catalog", "inputs": list_inputs(sources), "restart": progress.note}
    with build_folder(to, LEDGER, settings, overwrite=overwrite, **common) as build:
        if build is None:
            progress.note(f"{to} is finished already: the same command built it.")
        else:
            with keep_shards(build):
                build_catalog(build, feeds, rules, splitting, reading.limits, progress)
    return note_changes(open_catalog(to), progress)


def describe_settings(
    feeds: Sequence[Feed], reading: ReadOptions, rules: Rules, options: SplitOptions
) -> dict[str, Any]:
    """What a catalog is built with, as its ledger records it; other settings make another catalog."""
    return {
        **{f"source {feed.name}": feed.facts for feed in feeds},
        "map": dict(sorted(reading.mapping.items())),
        "currency": rules.currency,
        "price_range": [rules.low, None if rules.high == HIGHEST else rules.high],
        **{f"cleaning {name}": value for name, value in rules.cleaning.model_dump().items()},
        "split": options.split,
        "split_seed": options.seed,
        "train_rows": options.train_rows,
        **({"keep": sorted(set(reading.keep))} if reading.keep else {}),
        **({"drop": sorted(set(reading.drop))} if reading.drop else {}),
        **({"delimiter": reading.delimiter} if reading.delimiter else {}),
        **({"kind": reading.kind} if reading.kind else {}),
        **({"sheet": reading.sheet} if reading.sheet else {}),
        **({"previous": options.previous.fingerprint} if options.previous is not None else {}),
    }


def list_inputs(sources: Sequence[str]) -> list[Path]:
    """The files that the sources name, without demo data: the catalog must not replace any of them."""
    named = [source for source in sources if not source.startswith(DEMO)]
    return [path for source in resolve_sources(named) for path in source.paths] if named else []


def remove_leftovers(folder: Path) -> None:
    """Remove what an interrupted build left, but for its shards; hidden files stay."""
    work = folder / WORK
    for leftover in (*folder.iterdir(), *(work.iterdir() if work.is_dir() else ())):
        if not leftover.name.startswith(".") and leftover not in (work, work / SHARDS):
            shutil.rmtree(leftover) if leftover.is_dir() else leftover.unlink()


@contextmanager
def keep_shards(build: FolderBuild) -> Iterator[None]:
    """Begin with the shards of an interrupted build and nothing else of it. If work is interrupted, keep them for the
    same command, but not if they have fewer rows than one full shard, unless the error says that they are kept
    (`keeps_work`). If a source or an option is wrong, those of sources that were read to their end are kept."""
    remove_leftovers(build.folder)
    try:
        yield
    except BaseException as error:
        resumable = isinstance(error, PricesmithError) and error.keeps_work
        is_wrong = not resumable and isinstance(error, InputError | UsageError)
        build.keep = is_worth_keeping(build.folder / WORK / SHARDS, 1 if resumable else None, whole=is_wrong)
        if build.keep:
            remove_leftovers(build.folder)
        raise


def parse_range(low: float, high: float | None) -> tuple[float, float]:
    """The lowest and the highest price that stay. Raises UsageError unless 0 < low < high."""
    high = HIGHEST if high is None else high
    if not (math.isfinite(low) and math.isfinite(high) and 0 < low < high):
        raise UsageError(
            "The price range is empty",
            got=f"{low} to {high}",
            allowed="0 < --min-price < --max-price",
            hint="Change --min-price or --max-price.",
        )
    return float(low), float(high)


def check_settings(currency: str | None, split: str, train_rows: int | None) -> str:
    """The currency's code, empty if none is given. Raises UsageError for an invalid currency, split or --train-rows."""
    code = (currency or "").strip().upper()
    if currency is not None and code not in CODES:
        raise UsageError(
            f"{currency!r} is not a currency code",
            got=currency,
            allowed="ISO 4217: USD, EUR, GBP ...",
            hint="Use --currency USD.",
        )
    check_split(split)
    if train_rows is not None and train_rows < 1:
        raise UsageError(
            "--train-rows is a number of training items",
            got=str(train_rows),
            allowed="1 or more",
            hint="Leave it out to keep all.",
        )
    return code


def build_catalog(
    build: FolderBuild,
    feeds: Sequence[Feed],
    rules: Rules,
    options: SplitOptions,
    limits: Limits,
    progress: Progress,
) -> None:
    """Both passes, the card and the ledger."""
    from pricesmith.catalog import finalize
    from pricesmith.catalog.balance import balance_train
    from pricesmith.catalog.near_duplicates import group_size_limit
    from pricesmith.catalog.summary import catalog_card

    work = build.folder / WORK
    work.mkdir(exist_ok=True)
    counts = RejectCounts()
    names = [feed.name for feed in feeds]
    with Rejects(build.folder / REJECTS, counts) as rejects:
        staged = stage_feeds(feeds, rules, work / SHARDS, limits, rejects, progress)
        with finalize.connect(work) as base:
            staged.create_view(base)
            finalize.load_facts(base, added := next((n for n, feed in enumerate(feeds) if feed.added), -1))
            for source, number in finalize.duplicates(base):
                rejects.add(names[source], number, DUPLICATE)
            finalize.keep_rows(base, added)
            left = staged.count - sum(reasons[DUPLICATE] for reasons in counts.rejected.values())
            parse_split(options.split, left, counts.describe(left))
            noise = finalize.label_noise(base)
            limit = group_size_limit(left)
            finalized = finalize.finalize(
                base, work, staged, limit, options.split, options.seed, progress, options.previous
            )
            check_groups(finalized)
            labels = finalize.read_labels(base) if options.train_rows is not None else []
            mask, balanced = balance_train(finalized, labels, options.train_rows, options.seed)
            if not mask.all():
                for source, number in drop_rows(base, mask):
                    rejects.add(names[source], number, BALANCED)
            write_items(base, build.folder, staged, finalized, mask, names, rules.currency, progress)
    ledger = {
        "name": build.target.name,
        **describe_items(finalized, mask, rules),
        **describe_feeds(feeds, counts, int(mask.sum()), options.previous if options.extend else None),
        "groups": {**describe_groups(finalized, mask, limit), "label_noise": noise},
        "masked": asdict(staged.masked),
        **({"balance": balanced} if balanced else {}),
        **(
            {"dates": describe_dates(feeds, finalized.days[mask], finalized.splits[mask])}
            if options.split == TIME
            else {}
        ),
        **({"previous": {**finalized.previous, "added": options.extend}} if finalized.previous else {}),
        **count_earlier_rows(options.previous if options.extend else None),
        "items_bytes": (build.folder / ITEMS).stat().st_size,
        "items_sha256": sha256(build.folder / ITEMS),
    }
    (build.folder / CARD).write_text(catalog_card(ledger), encoding="utf-8")
    shutil.rmtree(work)  # a kill after this does all again
    build.finish(ledger)


def describe_feeds(
    feeds: Sequence[Feed], counts: RejectCounts, n_kept: int, extended: Catalog | None
) -> dict[str, Any]:
    """The ledger's entries on the sources: columns, rows, kinds and sale prices."""
    return {
        **describe_columns(feeds, sorted(counts.late), extended),
        **count_rows(counts, [feed.name for feed in feeds], n_kept),
        "kinds": {feed.name: describe_kind(feed, counts.products.get(feed.name, 0)) for feed in feeds if feed.kind},
        **({"sale_prices": describe_sales(feeds, counts)} if counts.price_columns else {}),
    }


def describe_items(finalized: Any, mask: Any, rules: Rules) -> dict[str, Any]:
    """The ledger's entries on the kept items: fingerprint, currency, prices, cleaning and the sizes of the splits."""
    from pricesmith.catalog import finalize

    prices = finalized.prices[mask]
    return {
        "format": FORMAT,
        "fingerprint": finalize.fingerprint(finalized, mask, rules.currency),
        "currency": rules.currency,
        "currency_source": rules.currency_source,
        "observed_range": [float(prices.min()), float(prices.max())],
        "range_given": rules.low != LOWEST or rules.high != HIGHEST,
        "price_range": [rules.low, upper_bound(rules.high, float(prices.max()))],
        "cleaning": rules.cleaning.model_dump(),
        "splits": {name: int((finalized.splits[mask] == side).sum()) for side, name in enumerate(SPLITS)},
    }


def upper_bound(high: float, highest: float) -> float:
    """The upper end of the catalog's range: as given, else its highest price rounded up to two figures."""
    if high != HIGHEST:
        return high
    step = 10.0 ** (math.floor(math.log10(highest)) - 1)
    return float(f"{math.ceil(highest / step - 1e-9) * step:.10g}")


def drop_rows(base: Any, mask: Any) -> list[tuple[int, int]]:
    """(source, row number) of the rows that balancing left out."""
    places = base.execute("SELECT source, number FROM kept ORDER BY rank").fetchnumpy()
    where = np.flatnonzero(~mask)
    return list(zip(places["source"][where].tolist(), places["number"][where].tolist(), strict=True))


def count_rows(counts: RejectCounts, names: Sequence[str], n_kept: int) -> dict[str, Any]:
    """Rows in, kept and rejected, in all and for each file. Raises PricesmithError where they do not add up."""
    files = counts.facts(names)
    rejected: dict[str, int] = {}
    for file in files:
        for reason, count in file["rejected"].items():
            rejected[reason] = rejected.get(reason, 0) + count
    rows = {"in": sum(file["in"] for file in files), "kept": n_kept, "rejected": dict(sorted(rejected.items()))}
    if rows["in"] != n_kept + sum(rejected.values()) or n_kept != sum(file["kept"] for file in files):
        raise PricesmithError("The ledger does not add up", got=f"{rows}", hint="This is a defect: please report it.")
    return {"rows": rows, "files": files}


def check_groups(finalized: Any) -> None:
    """Raise InputError where near-duplicates leave a split without rows, or too few groups to judge by."""
    from pricesmith.catalog.finalize import group_sizes

    rows = np.bincount(finalized.splits, minlength=len(SPLITS))
    sizes = group_sizes(finalized.groups)
    if len(sizes) < FEWEST_GROUPS or not rows.all():
        raise InputError(
            "The rows are too much alike for a catalog",
            got=f"{rows.sum():,} rows in {len(sizes):,} groups of near-duplicates, the largest of {sizes.max():,}",
            allowed=f"at least {FEWEST_GROUPS} groups, and some rows for each of {', '.join(SPLITS)}",
            hint="Give more different rows, or map a column that distinguishes them: --map text=COLUMN.",
        )


def describe_groups(finalized: Any, mask: Any, limit: int) -> dict[str, Any]:
    """How many groups there are among the kept items, and how large."""
    from pricesmith.catalog.finalize import group_sizes

    sizes = group_sizes(finalized.groups[mask])
    return {
        "count": len(sizes),
        "largest": int(sizes.max()),
        "template_limit": limit,
        "templates_split": finalized.templates,
        "share_with_relatives": round(float(sizes[sizes > 1].sum() / sizes.sum()), 4),
    }


def describe_columns(feeds: Sequence[Feed], late: Sequence[str], extended: Catalog | None = None) -> dict[str, Any]:
    """The column map of the catalog; the different maps of its files and the categories that these were named by, so
    that a file to be priced is read as the catalog's own files were. `late` columns were not looked at for leaks. The
    maps of the catalog that is `extended` come first.
    """
    before = get_maps(extended) if extended is not None else []
    feeds = [feed for feed in feeds if not feed.added]
    whole = merge_maps([*before, *(feed.columns for feed in feeds)])
    unseen = {name: f"first seen after row {SAMPLE:,}" for name in late if name not in whole.names()}
    maps: list[ColumnMap] = []
    for columns in (*before, *(feed.columns for feed in feeds)):
        if columns not in maps:
            maps.append(columns)
    named = extended.ledger.get("categories", ()) if extended is not None else ()
    categories = sorted({*(feed.category for feed in feeds if feed.category), *named})
    return {
        "columns": {**whole.model_dump(), "left_out": {**whole.left_out, **unseen}},
        **({"maps": [columns.model_dump() for columns in maps]} if maps != [whole] else {}),
        **({"categories": categories} if categories else {}),
    }


def get_maps(catalog: Catalog) -> list[ColumnMap]:
    """The column maps of a catalog's files."""
    values = catalog.ledger.get("maps") or [catalog.ledger["columns"]]
    return [ColumnMap.model_validate(value) for value in values]
