"""Who is judged: run folders, people's files and untuned language models become candidates of `evaluation.judge`.

out/ridge                                    a run folder
human:her.csv                                a person's answers
zero-shot:gemma-3-270m                       an open base model, untuned: a preset, folder, .gguf file or Hub id
zero-shot:BASE@shots=4,style=plain           that shown 4 priced training listings first; style: plain or chat
api:MODEL@comparables=5,effort=low      a hosted model: see `competitors`
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

from pydantic import Field

from pricesmith.catalog.catalog import SPLITS, Catalog, half_of
from pricesmith.catalog.comparables import Comparable
from pricesmith.core.atomic import sha256
from pricesmith.core.errors import UsageError
from pricesmith.core.progress import SILENT, Progress
from pricesmith.core.settings import parse_settings
from pricesmith.core.types import Item, Listing, Pricer
from pricesmith.evaluation.folds import MAX_ROWS_FOR_FOLDS, Search, build_plan, row_count
from pricesmith.evaluation.results import Evals
from pricesmith.evaluation.run_eval import Candidate, run_eval
from pricesmith.pricers.api.budget import Budget
from pricesmith.pricers.api.cost_report import CostReport
from pricesmith.pricers.api.pricer import ApiPricer, PromptOptions
from pricesmith.pricers.api.providers import find_endpoint
from pricesmith.pricers.api.response_cache import ResponseCache, default_cache_path
from pricesmith.pricers.blend import MEMBERS
from pricesmith.pricers.fitting import FitData, ordered_index, refit_model
from pricesmith.pricers.model import PriceModel, load_model, read_manifest
from pricesmith.pricers.precomputed import PrecomputedPricer, read_prices

SAME_WORDS = 0.999
ZERO_SHOT = "zero-shot:"


def run_candidates(
    who: Sequence[str],
    catalog: Catalog,
    to: Path,
    *,
    split: str = "test",
    limit: int | None = None,
    other_catalog: bool = False,
    overwrite: bool = False,
    hosting: ApiSettings | None = None,
    progress: Progress = SILENT,
) -> Evals:
    """Judge each of `who` (run folders, `human:FILE`, `zero-shot:BASE`, `api:MODEL`) into the evals folder `to`.

    `hosting` is what hosted models are asked with: a budget that they share, and how many requests at once.
    """
    names = refuse_duplicates([candidate_name(one) for one in who], who)
    with hosting or ApiSettings() as asked:
        return run_eval(
            [build_candidate(one, name, catalog, progress, asked) for one, name in zip(who, names, strict=True)],
            catalog,
            to,
            split=split,
            limit=limit,
            index=lambda items: comparables_search(items, group_codes(catalog)),
            other_catalog=other_catalog,
            overwrite=overwrite,
            progress=progress,
        )


def candidate_name(who: str) -> str:
    """The name a pricer goes by in tables: its folder's, its file's, or its base's with what it was asked."""
    if who.startswith(API_PREFIX):
        return parse_api_model(who).title
    if who.startswith(ZERO_SHOT):
        base, options = zero_shot_candidate(who)
        said = [f"{value}-shot" if name == "shots" else value for name, value in options.items()]
        return "-".join(["zero-shot", Path(base).name.removesuffix(".gguf"), *said])
    return f"human:{Path(who.partition(':')[2]).stem}" if who.startswith("human:") else Path(who).resolve().name


def refuse_duplicates(names: Sequence[str], who: Sequence[str]) -> list[str]:
    """Names that differ: two folders of one name get their parents' too."""
    return [
        name if list(names).count(name) == 1 else f"{Path(one).resolve().parent.name}-{name}"
        for name, one in zip(names, who, strict=True)
    ]


def build_candidate(
    who: str, name: str, catalog: Catalog, progress: Progress = SILENT, hosting: ApiSettings | None = None
) -> Candidate:
    """Somebody to judge on a catalog. Raises UsageError where `who` is nobody that is known."""
    kind, colon, rest = who.partition(":")
    if who.startswith(API_PREFIX):
        return api_candidate(who, name, catalog, hosting or ApiSettings(), progress)
    if who.startswith(ZERO_SHOT):
        return untuned_candidate(who, name, catalog, progress)
    if colon and kind == "human":
        quotes = read_prices(Path(rest), catalog.currency)
        return Candidate(
            name, "human", PrecomputedPricer(quotes, name), facts={"manifest": sha256(Path(rest))}, only=set(quotes)
        )
    if colon and not Path(who).exists():
        raise UsageError(
            f"Nobody is known as {who!r}",
            got=kind,
            allowed="a run folder, human:FILE.csv, zero-shot:BASE, or api:MODEL",
            hint="Name a folder that `pricesmith fit` has finished.",
        )
    return candidate_from_model(load_model(who), name, catalog)


def candidate_from_model(run: PriceModel, name: str, catalog: Catalog) -> Candidate:
    """A loaded run as a candidate. One without its comparables cannot say what it was trained on."""

    def refit(train: list[Item], validation: list[Item]) -> Pricer:
        return refit_model(run, precomputed_rows(train, validation, catalog))

    members = find_members(run.path)
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
        seen=(lambda listings: seen_in_training(run, listings)) if run.has_comparables else None,
    )


def find_members(run: Path) -> dict[str, dict[str, Any]]:
    """The manifests of what a blend is made of, by name, members of members too; a blend owes their fitting as well."""
    found = {}
    for path in sorted(run.glob(f"{MEMBERS}/*/")):
        found[path.name] = read_manifest(path)
        found |= {f"{path.name}/{name}": one for name, one in find_members(path).items()}
    return found


def zero_shot_candidate(who: str) -> tuple[str, dict[str, str]]:
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


def untuned_candidate(who: str, name: str, catalog: Catalog, progress: Progress) -> Candidate:
    """An untuned base as a candidate; one that is shown examples takes them from the rows that it is not judged on."""
    from pricesmith.pricers.llm.pricer import zero_shot_pricer

    base, options = zero_shot_candidate(who)
    shots = int(options.get("shots", "0"))
    pricer = zero_shot_pricer(
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


def precomputed_rows(train: list[Item], validation: list[Item], catalog: Catalog) -> FitData:
    """What a fold is fitted on. Validation is halved by group: intervals learnt on the relatives of rows that a pricer
    was tuned on would be too narrow."""
    group = group_codes(catalog)
    halves: dict[str, list[Item]] = {"tune": [], "calibrate": []}
    for item in validation:
        halves[half_of(group[item.listing.id])].append(item)
    return FitData(train, halves["tune"], halves["calibrate"])


def seen_in_training(run: PriceModel, listings: Sequence[Listing]) -> list[bool]:
    """Which listings the run was trained on: those whose words are all those of a training listing."""
    found = run.index.search(listings, 1) if run.index else [[] for _ in listings]
    return [bool(near) and near[0].similarity >= SAME_WORDS for near in found]


def comparables_search(items: Sequence[Item], groups: Mapping[str, str]) -> Search:
    """The search for comparables among training items, whose near-duplicate groups are by id: those that share most
    words and are estimated alike, whoever is judged. The most similar by words follows where it is none of them."""
    index, estimate = ordered_index(items, [groups[item.listing.id] for item in items])

    def search(listings: Sequence[Listing], k: int) -> list[list[Comparable]]:
        found = index.search(listings, k, estimate(listings))
        closest = index.search(listings, 1)
        return [near + [one for one in top if one not in near] for near, top in zip(found, closest, strict=True)]

    return search


# API models

API_PREFIX = "api:"
NEVER = 86_400.0
OPTION = re.compile(r"[a-z_]{1,20}=?[0-9]{0,6}")  # what can be repeated in an error
ASKED_WITH = re.compile(r"@(?=[a-z_]+=)")  # an @ can be part of a model's name


class ApiOptions(PromptOptions):
    """Everything that may stand after the @ of `api:MODEL@`."""

    url: str = Field("", description="base URL of an OpenAI-compatible endpoint, ending in /v1 as a rule")
    key: str = Field("", description="the environment variable that holds the key")
    price: str = Field("", description="IN/OUT in dollars per million tokens, as in 2/10")
    memory: int = Field(0, ge=0, le=10_000, description="so many judged listings are asked for by heart")
    name: str = Field("", max_length=60, description="what it is called in tables")


@dataclass(frozen=True)
class ApiModel:
    """A hosted model as the command line names it."""

    model: str
    options: ApiOptions

    @property
    def title(self) -> str:
        """The name in tables: the model's, with what it was shown and how it was asked."""
        options = self.options
        if options.name:
            return options.name
        said = [f"{options.shots}-shot"] * bool(options.shots)
        said += [f"{options.comparables}-comparables"] * bool(options.comparables)
        said += [f"{options.effort}-effort"] * bool(options.effort)
        said += [f"{options.output}-output"] * (options.output != PromptOptions.model_fields["output"].default)
        said += ["words"] * (not options.json_answer)
        return "-".join(["api", self.model.replace("/", "-"), *said])


@dataclass
class ApiSettings:
    """What all hosted models of a command are asked with. A context: what it opened is closed at the end.

    `budget` in dollars is shared by all of them; `concurrency` requests are in flight at once; `timeout` in seconds.
    """

    budget: float | None = None
    concurrency: int = 8
    timeout: float = 300.0
    store: Path | None = None
    purse: Budget = field(init=False)
    open: list[Callable[[], Any]] = field(default_factory=list, init=False)
    _answers: ResponseCache | None = field(default=None, init=False)

    def __post_init__(self) -> None:
        if self.budget is not None and not 0 < self.budget < float("inf"):
            raise UsageError("The budget is no amount", got=str(self.budget), allowed="dollars, above 0")
        if not 1 <= self.concurrency <= 256:
            raise UsageError("So many requests cannot be sent at once", got=str(self.concurrency), allowed="1 to 256")
        if not 0 < self.timeout <= NEVER:
            raise UsageError("The time-out is no time", got=str(self.timeout), allowed="seconds, above 0")
        self.purse = Budget(self.budget)

    def __enter__(self) -> ApiSettings:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        while self.open:
            self.open.pop()()

    def answers(self) -> ResponseCache:
        """The store of answers, opened once."""
        if self._answers is None:
            self._answers = ResponseCache(self.store or default_cache_path())
            self.open.append(self._answers.close)
        return self._answers


def parse_api_model(who: str) -> ApiModel:
    """The model and the options of `api:MODEL@name=value,...`. Raises UsageError where one is not known."""
    model, tail = who.removeprefix(API_PREFIX), ""
    if options := ASKED_WITH.search(model):
        model, tail = model[: options.start()], model[options.end() :]
    said = f"{API_PREFIX}{model}"  # without the options: an address may hold a password
    values: dict[str, str] = {}
    for text in tail.split(",") if tail else []:
        name, equals, value = text.partition("=")
        if not equals or not value or name in values:
            raise UsageError(
                f"{said!r} asks for what is not known",
                got=text if OPTION.fullmatch(text) else f"{len(text)} characters that are not shown: they may be a key",
                allowed=f"{API_PREFIX}MODEL@name=value,..., each at most once, of {', '.join(ApiOptions.model_fields)}",
                hint="Put this right after the @, or leave it out.",
            )
        values[name] = value
    if not model:
        raise UsageError("api: names no model", got=said, hint="For example api:gpt-4.1-nano")
    return ApiModel(model, parse_settings(ApiOptions, values, where=said))


def api_candidate(who: str, name: str, catalog: Catalog, hosting: ApiSettings, progress: Progress) -> Candidate:
    """A hosted model as a candidate. One that is shown training listings is shown others in each fold.

    Raises UsageError where it is not known who hosts it, or a budget has no price to keep to. A key that is not set is
    missed when something must be asked.
    """
    competitor = parse_api_model(who)
    options = competitor.options
    pricer = ApiPricer(
        find_endpoint(competitor.model, url=options.url, key=options.key, price=options.price, keyless=True),
        PromptOptions(**{name: getattr(options, name) for name in PromptOptions.model_fields}),
        hosting.answers(),
        hosting.purse,
        currency=catalog.currency,
        called=options.name,
        train=lambda: catalog.items("train"),
        groups=group_codes(catalog) if options.comparables else {},
        concurrency=hosting.concurrency,
        timeout=hosting.timeout,
        progress=progress,
    )
    hosting.open.append(pricer.close)
    shown = bool(options.shots or options.comparables)
    return Candidate(
        name,
        "api",
        pricer,
        fitted_on=catalog.fingerprint if shown else None,
        facts={**pricer.facts, "memory_check": options.memory},
        refit=(lambda train, _: pricer.shown(train)) if shown else None,
        watch=CostReport(
            pricer, lambda: split_items(catalog), options.memory, lambda: fold_assignment(catalog) if shown else ()
        ),
    )


def fold_assignment(catalog: Catalog) -> list[tuple[list[Item], list[Item]]]:
    """What is judged and what may be shown in each fold; none where a catalog is judged on one split."""
    if row_count(catalog) >= MAX_ROWS_FOR_FOLDS:
        return []
    return [(fold.items, fold.train) for fold in build_plan(catalog, "test").folds]


def group_codes(catalog: Catalog) -> dict[str, str]:
    """The group of every listing of a catalog, by its id."""
    found: dict[str, str] = {}
    for split in SPLITS:
        columns = catalog.columns(split, ("id", "group"))
        found.update(zip(columns["id"], columns["group"], strict=True))
    return found


def split_items(catalog: Catalog) -> dict[str, Item]:
    """Every item of a catalog by its id."""
    return {item.listing.id: item for split in SPLITS for item in catalog.items(split)}
