"""Make a catalog from files: read, map columns, clean, refuse by name, find families, split, write, add up.

    catalog = curate(["shop.csv"], Path("out/shop"), currency="EUR")

The ledger is written last; the same command again says that it has finished, with other settings it refuses.
"""

from __future__ import annotations

import math
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pricesmith.catalog.clean import CleanSettings
from pricesmith.catalog.columns import Columns
from pricesmith.catalog.feeds import DEMO, SAMPLE, merged, open_feeds
from pricesmith.catalog.read import Limits, resolve
from pricesmith.catalog.split import check_split, shares_of
from pricesmith.catalog.staging import BALANCED, DUPLICATE, Feed, Rejects, Rules, Stage, Tally, stage_feeds
from pricesmith.catalog.store import CARD, ITEMS, LEDGER, REJECTS, SPLITS, Catalog, open_catalog
from pricesmith.errors import InputError, PricesmithError, UsageError
from pricesmith.folders import Build, build_folder
from pricesmith.progress import SILENT, Progress
from pricesmith.text.currency import CODES
from pricesmith.text.price_parser import named_currency

RANGES = {"course": (0.50, 999.49)}
HIGHEST = 1e9
FEWEST_FAMILIES = 20
FORMAT = 1


def curate(
    sources: Sequence[str],
    to: Path,
    *,
    mapping: Mapping[str, str] | None = None,
    currency: str = "USD",
    min_price: float = 0.01,
    max_price: float | None = None,
    price_range: str | None = None,
    split: str = "auto",
    split_seed: int = 0,
    target: int | None = None,
    scrub: bool = False,
    keep: Sequence[str] = (),
    fresh: bool = False,
    limits: Limits | None = None,
    progress: Progress = SILENT,
) -> Catalog:
    """Build a catalog in `to` from files, folders, globs or demo:goods.

    Raises UsageError for settings that cannot be, InputError for files that cannot be read and for under 100 rows.
    """
    to = Path(to)
    low, high = range_of(min_price, max_price, price_range)
    currency = check(currency, split, target)
    rules = Rules(CleanSettings(scrub=scrub, currency=currency), currency, low, high)
    feeds = open_feeds(sources, mapping or {}, limits or Limits(), progress, keep)
    check_currency(feeds, currency)
    settings = {
        **{f"source {feed.name}": feed.facts for feed in feeds},
        "map": dict(sorted((mapping or {}).items())),
        "currency": currency,
        "price_range": [low, None if high == HIGHEST else high],
        **{f"cleaning {name}": value for name, value in rules.cleaning.model_dump().items()},
        "split": split,
        "split_seed": split_seed,
        "target": target,
        **({"keep": sorted(set(keep))} if keep else {}),
    }
    named = [one for one in sources if not one.startswith(DEMO)]
    files = [source.path for source in resolve(named)] if named else []
    with build_folder(to, LEDGER, settings, fresh=fresh, noun="catalog", inputs=files) as build:
        if build is None:
            progress.note(f"{to} is finished already, made by the same command.")
        else:
            for leftover in build.folder.iterdir():
                if not leftover.name.startswith("."):
                    shutil.rmtree(leftover) if leftover.is_dir() else leftover.unlink()
            make(build, feeds, rules, split, split_seed, target, progress)
    return open_catalog(to)


def check_currency(feeds: Sequence[Feed], currency: str) -> None:
    """Raise UsageError where a column of prices says in its name that it is in another currency."""
    for feed in feeds:
        said = named_currency(feed.columns.price)
        if said and said != currency and not feed.columns.currency:
            raise UsageError(
                f"{feed.name}: the column {feed.columns.price!r} is in {said} by its name",
                got=f"--currency {currency}",
                hint=f"Use --currency {said}, name another column with --map price=COLUMN, or rename it.",
            )


def range_of(low: float, high: float | None, named: str | None) -> tuple[float, float]:
    """The prices that are kept. Raises UsageError for a range that cannot be."""
    if named is not None:
        if named not in RANGES:
            raise UsageError(
                f"There is no price range {named!r}",
                got=named,
                allowed=", ".join(RANGES),
                hint="Use --min-price and --max-price for a range of your own.",
            )
        if high is not None or low != 0.01:
            raise UsageError("--range stands instead of --min-price and --max-price", hint="Use the one or the others.")
        return RANGES[named]
    high = HIGHEST if high is None else high
    if not (math.isfinite(low) and math.isfinite(high) and 0 < low < high):
        raise UsageError(
            "The price range is empty",
            got=f"{low} to {high}",
            allowed="0 < --min-price < --max-price",
            hint="Change --min-price or --max-price.",
        )
    return float(low), float(high)


def check(currency: str, split: str, target: int | None) -> str:
    """The currency's code. Raises UsageError where it, the split or the target cannot be."""
    code = currency.strip().upper()
    if code not in CODES:
        raise UsageError(
            f"{currency!r} is not a currency code",
            got=currency,
            allowed="ISO 4217: USD, EUR, GBP ...",
            hint="Use --currency USD.",
        )
    check_split(split)
    if target is not None and target < 1:
        raise UsageError(
            "--target is a number of training items",
            got=str(target),
            allowed="1 or more",
            hint="Leave it out to keep all.",
        )
    return code


def make(
    build: Build, feeds: Sequence[Feed], rules: Rules, split: str, seed: int, target: int | None, progress: Progress
) -> None:
    """Both passes, the card and the ledger."""
    from pricesmith.catalog import settle
    from pricesmith.catalog.families import family_limit

    work = build.folder / "work"
    work.mkdir()
    tally = Tally()
    names = [feed.name for feed in feeds]
    with Rejects(build.folder / REJECTS, tally) as rejects:
        with Stage(work) as stage:
            masked = stage_feeds(feeds, rules, stage, rejects, progress)
        with settle.connect(work) as base:
            settle.load_facts(base, stage.rows_path)
            for source, number in settle.duplicates(base):
                rejects.add(names[source], number, DUPLICATE)
            settle.keep(base)
            left = stage.count - sum(reasons[DUPLICATE] for reasons in tally.rejected.values())
            shares_of(split, left, tally.told(left))
            noise = settle.label_noise(base)
            limit = family_limit(left)
            settled = settle.settle(base, work, limit, split, seed, progress)
            check_families(settled)
            kept, balanced = balanced_train(settled, target, seed)
            if not kept.all():
                for source, number in dropped(base, kept):
                    rejects.add(names[source], number, BALANCED)
            settle.write_items(
                base, settled, kept, stage.rows_path, build.folder / ITEMS, names, rules.currency, progress
            )
    shutil.rmtree(work)
    ledger = {
        "format": FORMAT,
        "name": build.target.name,
        "fingerprint": settle.fingerprint(settled, kept, rules.currency),
        "currency": rules.currency,
        "price_range": [rules.low, top_of(rules.high, float(settled.prices[kept].max()))],
        "cleaning": rules.cleaning.model_dump(),
        **columns_facts(feeds, sorted(tally.late)),
        **rows_facts(tally, names, int(kept.sum())),
        "splits": {name: int((settled.splits[kept] == place).sum()) for place, name in enumerate(SPLITS)},
        "families": {**family_facts(settled, kept, limit), "label_noise": noise},
        "masked": {"listings": masked.listings, "amounts": masked.amounts, "near_price": masked.near_price},
        **({"balance": balanced} if balanced else {}),
        "items_bytes": (build.folder / ITEMS).stat().st_size,
    }
    from pricesmith.catalog.card import card

    (build.folder / CARD).write_text(card(ledger), encoding="utf-8")
    build.finish(ledger)


def top_of(high: float, highest: float) -> float:
    """The upper end of the catalog's range: as given, else its highest price rounded up to two figures."""
    if high != HIGHEST:
        return high
    step = 10.0 ** (math.floor(math.log10(highest)) - 1)
    return float(f"{math.ceil(highest / step - 1e-9) * step:.10g}")


def balanced_train(settled: Any, target: int | None, seed: int) -> tuple[Any, dict[str, Any]]:
    """Which rows stay under `--target`, and what the ledger says of it. Validation and test stay whole."""
    from pricesmith.catalog.balance import balance

    kept = np.ones(len(settled.rows), dtype=np.bool_)
    if target is None:
        return kept, {}
    train = np.flatnonzero(settled.splits == 0)
    chosen = balance(settled.prices[train], settled.hashes[train], target, seed)
    kept[train] = chosen.kept
    return kept, chosen.facts(target, seed)


def dropped(base: Any, kept: Any) -> list[tuple[int, int]]:
    """(source, row number) of the rows that balancing left out."""
    found = base.execute("SELECT source, number FROM kept ORDER BY rank").fetchnumpy()
    where = np.flatnonzero(~kept)
    return list(zip(found["source"][where].tolist(), found["number"][where].tolist(), strict=True))


def rows_facts(tally: Tally, names: Sequence[str], kept: int) -> dict[str, Any]:
    """Rows in, kept and rejected, in all and for each file. Raises PricesmithError where they do not add up."""
    files = tally.facts(names)
    rejected: dict[str, int] = {}
    for one in files:
        for reason, count in one["rejected"].items():
            rejected[reason] = rejected.get(reason, 0) + count
    rows = {"in": sum(one["in"] for one in files), "kept": kept, "rejected": dict(sorted(rejected.items()))}
    if rows["in"] != kept + sum(rejected.values()) or kept != sum(one["kept"] for one in files):
        raise PricesmithError("The ledger does not add up", got=f"{rows}", hint="This is a defect: please report it.")
    return {"rows": rows, "files": files}


def check_families(settled: Any) -> None:
    """Raise InputError where near-duplicates leave a split without rows, or too few families to judge by."""
    rows = np.bincount(settled.splits, minlength=len(SPLITS))
    sizes = np.unique(settled.families, return_counts=True)[1]
    if len(sizes) < FEWEST_FAMILIES or not rows.all():
        raise InputError(
            "The rows are too much alike for a catalog",
            got=f"{rows.sum():,} rows in {len(sizes):,} families of near-duplicates, the largest of {sizes.max():,}",
            allowed=f"at least {FEWEST_FAMILIES} families, and some rows for each of {', '.join(SPLITS)}",
            hint="Give more different rows, or map a column that tells them apart: --map text=COLUMN.",
        )


def family_facts(settled: Any, kept: Any, limit: int) -> dict[str, Any]:
    """How many families there are among the kept items, and how large."""
    _, which, sizes = np.unique(settled.families[kept], return_inverse=True, return_counts=True)
    return {
        "count": len(sizes),
        "largest": int(sizes.max()),
        "template_limit": limit,
        "templates_split": settled.templates,
        "share_with_relatives": round(float((sizes[which] > 1).mean()), 4),
    }


def columns_facts(feeds: Sequence[Feed], late: Sequence[str]) -> dict[str, Any]:
    """The column map of the catalog; the different maps of its files and the categories that these were named by, so
    that a file to be priced is read as the catalog's own files were. `late` columns were not looked at for leaks.
    """
    whole = merged([feed.columns for feed in feeds])
    unseen = {name: f"first seen after row {SAMPLE:,}" for name in late if name not in whole.names()}
    maps: list[Columns] = []
    for feed in feeds:
        if feed.columns not in maps:
            maps.append(feed.columns)
    categories = sorted({feed.category for feed in feeds if feed.category})
    return {
        "columns": {**whole.model_dump(), "left_out": {**whole.left_out, **unseen}},
        **({"maps": [one.model_dump() for one in maps]} if maps != [whole] else {}),
        **({"categories": categories} if categories else {}),
    }
