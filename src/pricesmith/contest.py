"""Who is judged: run folders and people's files become candidates of `evaluation.judge`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from pricesmith.catalog.comparables import Index
from pricesmith.catalog.store import SPLITS, Catalog, half_of
from pricesmith.errors import UsageError
from pricesmith.evaluation.judge import Candidate, judge
from pricesmith.evaluation.plan import Search
from pricesmith.evaluation.store import Evals
from pricesmith.pricers.recorded import RecordedPricer, read_prices
from pricesmith.pricers.runs import Rows, Run, load, refitted
from pricesmith.progress import SILENT, Progress
from pricesmith.types import Item, Listing, Pricer
from pricesmith.workspace import sha256

SAME_WORDS = 0.999


def contest(
    who: Sequence[str],
    catalog: Catalog,
    to: Path,
    *,
    split: str = "test",
    limit: int | None = None,
    other_catalog: bool = False,
    fresh: bool = False,
    progress: Progress = SILENT,
) -> Evals:
    """Judge each of `who` (run folders, `human:FILE`) on a catalog and write the evals folder `to`."""
    names = distinct([name_of(one) for one in who], who)
    candidates = [candidate(one, name, catalog) for one, name in zip(who, names, strict=True)]
    return judge(
        candidates,
        catalog,
        to,
        split=split,
        limit=limit,
        index=search_of,
        other_catalog=other_catalog,
        fresh=fresh,
        progress=progress,
    )


def name_of(who: str) -> str:
    """The name a pricer goes by in tables: its folder's, or its file's."""
    return f"human:{Path(who.partition(':')[2]).stem}" if who.startswith("human:") else Path(who).resolve().name


def distinct(names: Sequence[str], who: Sequence[str]) -> list[str]:
    """Names that differ: two folders of one name get their parents' too."""
    return [
        name if list(names).count(name) == 1 else f"{Path(one).resolve().parent.name}-{name}"
        for name, one in zip(names, who, strict=True)
    ]


def candidate(who: str, name: str, catalog: Catalog) -> Candidate:
    """Somebody to judge on a catalog. Raises UsageError where `who` is nobody that is known."""
    kind, colon, rest = who.partition(":")
    if colon and kind == "human":
        quotes = read_prices(Path(rest))
        return Candidate(
            name, "human", RecordedPricer(quotes, name), facts={"manifest": sha256(Path(rest))}, only=set(quotes)
        )
    if colon and not Path(who).exists():
        raise UsageError(
            f"Nobody is known as {who!r}",
            got=kind,
            allowed="a run folder, or human:FILE.csv",
            hint="Name a folder that `pricesmith fit` has finished.",
        )
    run = load(who)

    def refit(train: list[Item], validation: list[Item]) -> Pricer:
        return refitted(run, rows_of(train, validation, catalog))

    return Candidate(
        name,
        str(run.manifest["kind"]),
        run,
        fitted_on=str(run.info["fingerprint"]),
        currency=str(run.info["currency"]),
        facts={"manifest": run.identity, "fit_seconds": run.manifest["fit_seconds"]},
        refit=refit,
        seen=lambda listings: seen(run, listings),
    )


def rows_of(train: list[Item], validation: list[Item], catalog: Catalog) -> Rows:
    """What a fold is fitted on. Validation is halved by family: intervals learnt on the relatives of rows that a pricer
    was tuned on would be too narrow."""
    family: dict[str, str] = {}
    for split in SPLITS:
        columns = catalog.columns(split, ("id", "family"))
        family.update(zip(columns["id"], columns["family"], strict=True))
    halves: dict[str, list[Item]] = {"tune": [], "calibrate": []}
    for item in validation:
        halves[half_of(family[item.listing.id])].append(item)
    return Rows(train, halves["tune"], halves["calibrate"])


def seen(run: Run, listings: Sequence[Listing]) -> list[bool]:
    """Which listings the run was trained on: those whose words are all those of a training listing."""
    return [bool(near) and near[0].similarity >= SAME_WORDS for near in run.comparables(listings, 1)]


def search_of(items: Sequence[Item]) -> Search:
    """The search for near training listings."""
    return Index.build(items).search
