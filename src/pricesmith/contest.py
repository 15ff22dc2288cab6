"""Who is judged: run folders, people's files and untuned language models become candidates of `evaluation.judge`.

out/ridge                                    a run folder
human:her.csv                                a person's answers
zero-shot:gemma-3-270m                       an open base model, untuned: a preset, folder, .gguf file or Hub id
zero-shot:BASE@shots=4,style=plain           that shown 4 priced training listings first; style: plain or chat
frontier:MODEL@comparables=5,effort=low      a hosted model: see `rivals`
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pricesmith.catalog.comparables import Comparable
from pricesmith.catalog.store import Catalog, half_of
from pricesmith.errors import UsageError
from pricesmith.evaluation.judge import Candidate, judge
from pricesmith.evaluation.plan import Search
from pricesmith.evaluation.store import Evals
from pricesmith.pricers.blend import MEMBERS
from pricesmith.pricers.recorded import RecordedPricer, read_prices
from pricesmith.pricers.runs import Rows, Run, load, ordered_index, read_manifest, refitted
from pricesmith.progress import SILENT, Progress
from pricesmith.rivals import FRONTIER, Hosting, families_of, hosted, rival_of
from pricesmith.types import Item, Listing, Pricer
from pricesmith.workspace import sha256

SAME_WORDS = 0.999
ZERO_SHOT = "zero-shot:"


def contest(
    who: Sequence[str],
    catalog: Catalog,
    to: Path,
    *,
    split: str = "test",
    limit: int | None = None,
    other_catalog: bool = False,
    fresh: bool = False,
    hosting: Hosting | None = None,
    progress: Progress = SILENT,
) -> Evals:
    """Judge each of `who` (run folders, `human:FILE`, `zero-shot:BASE`, `frontier:MODEL`) into the evals folder `to`.

    `hosting` is what hosted models are asked with: a budget that they share, and how many requests at once.
    """
    names = distinct([name_of(one) for one in who], who)
    with hosting or Hosting() as asked:
        return judge(
            [candidate(one, name, catalog, progress, asked) for one, name in zip(who, names, strict=True)],
            catalog,
            to,
            split=split,
            limit=limit,
            index=lambda items: search_of(items, families_of(catalog)),
            other_catalog=other_catalog,
            fresh=fresh,
            progress=progress,
        )


def name_of(who: str) -> str:
    """The name a pricer goes by in tables: its folder's, its file's, or its base's with what it was asked."""
    if who.startswith(FRONTIER):
        return rival_of(who).title
    if who.startswith(ZERO_SHOT):
        base, options = zero_shot_of(who)
        said = [f"{value}-shot" if name == "shots" else value for name, value in options.items()]
        return "-".join(["zero-shot", Path(base).name.removesuffix(".gguf"), *said])
    return f"human:{Path(who.partition(':')[2]).stem}" if who.startswith("human:") else Path(who).resolve().name


def distinct(names: Sequence[str], who: Sequence[str]) -> list[str]:
    """Names that differ: two folders of one name get their parents' too."""
    return [
        name if list(names).count(name) == 1 else f"{Path(one).resolve().parent.name}-{name}"
        for name, one in zip(names, who, strict=True)
    ]


def candidate(
    who: str, name: str, catalog: Catalog, progress: Progress = SILENT, hosting: Hosting | None = None
) -> Candidate:
    """Somebody to judge on a catalog. Raises UsageError where `who` is nobody that is known."""
    kind, colon, rest = who.partition(":")
    if who.startswith(FRONTIER):
        return hosted(who, name, catalog, hosting or Hosting(), progress)
    if who.startswith(ZERO_SHOT):
        return untuned(who, name, catalog, progress)
    if colon and kind == "human":
        quotes = read_prices(Path(rest), catalog.currency)
        return Candidate(
            name, "human", RecordedPricer(quotes, name), facts={"manifest": sha256(Path(rest))}, only=set(quotes)
        )
    if colon and not Path(who).exists():
        raise UsageError(
            f"Nobody is known as {who!r}",
            got=kind,
            allowed="a run folder, human:FILE.csv, zero-shot:BASE, or frontier:MODEL",
            hint="Name a folder that `pricesmith fit` has finished.",
        )
    return candidate_of(load(who), name, catalog)


def candidate_of(run: Run, name: str, catalog: Catalog) -> Candidate:
    """A loaded run as a candidate. One without its comparables cannot say what it was trained on."""

    def refit(train: list[Item], validation: list[Item]) -> Pricer:
        return refitted(run, rows_of(train, validation, catalog))

    members = members_of(run.path)
    facts: dict[str, Any] = {"manifest": run.identity, "fit_seconds": run.manifest["fit_seconds"]}
    if members:
        facts["fit_seconds"] += sum(float(one["fit_seconds"]) for one in members.values())
        facts["parts"] = {name: str(one["kind"]) for name, one in members.items()}
    return Candidate(
        name,
        str(run.manifest["kind"]),
        run,
        fitted_on=str(run.info["fingerprint"]),
        currency=str(run.info["currency"]),
        facts=facts,
        refit=refit,
        seen=(lambda listings: seen(run, listings)) if run.has_comparables else None,
    )


def members_of(run: Path) -> dict[str, dict[str, Any]]:
    """The manifests of what a blend is made of, by name, members of members too; a blend owes their fitting as well."""
    found = {}
    for path in sorted(run.glob(f"{MEMBERS}/*/")):
        found[path.name] = read_manifest(path)
        found |= {f"{path.name}/{name}": one for name, one in members_of(path).items()}
    return found


def zero_shot_of(who: str) -> tuple[str, dict[str, str]]:
    """The base of `zero-shot:BASE@name=value,...`, and its options. Raises UsageError where one is not known."""
    base, at, tail = who.removeprefix(ZERO_SHOT).rpartition("@")
    if not at or "=" not in tail:  # an @ can be part of a path
        base, tail = who.removeprefix(ZERO_SHOT), ""
    options: dict[str, str] = {}
    for text in tail.split(",") if tail else []:
        name, equals, value = text.partition("=")
        good = {"shots": value.isdecimal() and value.isascii(), "style": value in ("plain", "chat"), "revision": value}
        if not equals or not good.get(name) or name in options:
            raise UsageError(
                f"{who!r} asks for what is not known",
                got=text,
                allowed="zero-shot:BASE@shots=4,style=plain,revision=COMMIT (style: plain or chat), each at most once",
                hint="Put this right after the @, or leave it out.",
            )
        options[name] = value
    if not base:
        raise UsageError("zero-shot: names no base", got=who, hint="For example zero-shot:gemma-3-270m")
    return base, options


def untuned(who: str, name: str, catalog: Catalog, progress: Progress) -> Candidate:
    """An untuned base as a candidate; one that is shown examples takes them from the rows that it is not judged on."""
    from pricesmith.pricers.language.llm import zero_shot

    base, options = zero_shot_of(who)
    shots = int(options.get("shots", "0"))
    pricer = zero_shot(
        base,
        revision=options.get("revision"),
        price_range=catalog.price_range,
        currency=catalog.currency,
        train=catalog.items("train") if shots else (),
        shots=shots,
        style="chat" if options.get("style") == "chat" else "plain" if "style" in options else None,
        progress=progress,
    )
    if not shots:
        return Candidate(name, "zero-shot", pricer, facts=pricer.facts)
    return Candidate(
        name,
        "zero-shot",
        pricer,
        fitted_on=catalog.fingerprint,
        facts=pricer.facts,
        refit=lambda train, _: pricer.shown(train, shots),
    )


def rows_of(train: list[Item], validation: list[Item], catalog: Catalog) -> Rows:
    """What a fold is fitted on. Validation is halved by family: intervals learnt on the relatives of rows that a pricer
    was tuned on would be too narrow."""
    family = families_of(catalog)
    halves: dict[str, list[Item]] = {"tune": [], "calibrate": []}
    for item in validation:
        halves[half_of(family[item.listing.id])].append(item)
    return Rows(train, halves["tune"], halves["calibrate"])


def seen(run: Run, listings: Sequence[Listing]) -> list[bool]:
    """Which listings the run was trained on: those whose words are all those of a training listing."""
    found = run.index.search(listings, 1) if run.index else [[] for _ in listings]
    return [bool(near) and near[0].similarity >= SAME_WORDS for near in found]


def search_of(items: Sequence[Item], groups: Mapping[str, str]) -> Search:
    """The search for comparables among training items, whose near-duplicate groups are by id: those that share most
    words and are estimated alike, whoever is judged. The most similar by words follows where it is none of them."""
    index, estimate = ordered_index(items, [groups[item.listing.id] for item in items])

    def search(listings: Sequence[Listing], k: int) -> list[list[Comparable]]:
        found = index.search(listings, k, estimate(listings))
        closest = index.search(listings, 1)
        return [near + [one for one in top if one not in near] for near, top in zip(found, closest, strict=True)]

    return search
