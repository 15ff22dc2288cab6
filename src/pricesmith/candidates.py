"""Builds the candidates of an evaluation from their names on the command line.

out/ridge                                       a model folder
human:answers.csv                               a person's answers
zero-shot:gemma-3-270m                          an open base model, untuned: a preset, folder, .gguf file or Hub id
zero-shot:BASE@shots=4,style=plain              the same, shown 4 priced training listings first; style: plain or chat
answers:FILE.csv                                saved answers of an API model (columns id and price)
answers:FILE.csv@api_model=gpt-6-luna           the same, with the cost of its tokens; or @api_cost_per_1000=USD
api:gpt-6-luna                                  a model behind an API
api:MODEL@comparables=5,reasoning_effort=low    the same, shown the 5 nearest training listings first
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import Field

from pricesmith.catalog.catalog import SPLITS, Catalog, half_of
from pricesmith.catalog.comparables import Comparable
from pricesmith.core.atomic import sha256
from pricesmith.core.errors import UsageError
from pricesmith.core.progress import SILENT, Progress
from pricesmith.core.settings import Settings, parse_settings
from pricesmith.core.types import NOT_ASKED, Evaluation, Item, Listing, Pricer, Quote
from pricesmith.evaluation.cost_curve import ASKED, COST_CURVE, CostCurve, CurveConstraint, measure_cost_curve
from pricesmith.evaluation.folds import Search, build_plan, goes_in_folds
from pricesmith.evaluation.results import Evals
from pricesmith.evaluation.run_eval import Candidate, run_eval
from pricesmith.metrics.bootstrap import encode_groups
from pricesmith.metrics.metrics import Array
from pricesmith.pricers.api.batch_jobs.open_job import CancelledJobs
from pricesmith.pricers.api.eval_report import ApiCostReporter
from pricesmith.pricers.api.model_spec import API_PREFIX, ApiSettings, parse_api_model
from pricesmith.pricers.cascade import CascadeRecipe
from pricesmith.pricers.fitting import FitData, ordered_index, refit_model
from pricesmith.pricers.hybrid.member_spec import MEMBERS, MemberSpec
from pricesmith.pricers.hybrid.model import AskRecord, HybridPricer, count_asked, find_hybrid
from pricesmith.pricers.hybrid.paid import ApiMember, FeeSettings, SavedAnswers
from pricesmith.pricers.model import WEIGHT_BY, PriceModel, load_model, read_manifest
from pricesmith.pricers.precomputed import PrecomputedPricer, read_prices
from pricesmith.pricers.rewriting.costs import add_rewriting_costs
from pricesmith.pricers.weighting import item_sources

HUMAN_PREFIX, ZERO_SHOT_PREFIX, ANSWERS_PREFIX = "human:", "zero-shot:", "answers:"
ANSWERS_MARK = re.compile(r"@(?=api_[a-z0-9_]+=)")
SAME_WORDS = 0.999  # similarity of two listings with the same words


def run_candidates(
    specs: Sequence[str],
    catalog: Catalog,
    to: Path,
    *,
    split: str = "test",
    limit: int | None = None,
    other_catalog: bool = False,
    overwrite: bool = False,
    api_settings: ApiSettings | None = None,
    progress: Progress = SILENT,
) -> Evals:
    """Evaluate each of `specs` (model folders, `human:FILE`, `zero-shot:BASE`, `api:MODEL`) into the evals folder `to`.

    `api_settings` are the shared settings of API models. Raises UsageError for an unknown spec.
    """
    names = resolve_duplicates([candidate_name(spec) for spec in specs], specs)
    with api_settings or ApiSettings() as settings:
        return run_eval(
            [build_candidate(spec, name, catalog, progress, settings) for spec, name in zip(specs, names, strict=True)],
            catalog,
            to,
            split=split,
            limit=limit,
            index=lambda items: comparables_search(items, group_codes(catalog)),
            other_catalog=other_catalog,
            overwrite=overwrite,
            progress=progress,
        )


def candidate_name(spec: str) -> str:
    """Return the name in tables: of the folder, the file, or the model with its options."""
    if spec.startswith(API_PREFIX):
        return parse_api_model(spec).title
    if spec.startswith(ZERO_SHOT_PREFIX):
        base, options = parse_zero_shot(spec)
        parts = [f"{value}-shot" if name == "shots" else value for name, value in options.items()]
        return "-".join(["zero-shot", Path(base).name.removesuffix(".gguf"), *parts])
    if spec.startswith(ANSWERS_PREFIX):
        return MemberSpec(parse_answers(spec)[0]).name
    if spec.startswith(HUMAN_PREFIX):
        return f"human:{Path(spec.removeprefix(HUMAN_PREFIX)).stem}"
    return Path(spec).resolve().name


def resolve_duplicates(names: Sequence[str], specs: Sequence[str]) -> list[str]:
    """Return distinct names: folders with the same name get the name of their parent folder in front."""
    return [
        name if list(names).count(name) == 1 else f"{Path(spec).resolve().parent.name}-{name}"
        for name, spec in zip(names, specs, strict=True)
    ]


def build_candidate(
    spec: str, name: str, catalog: Catalog, progress: Progress = SILENT, api_settings: ApiSettings | None = None
) -> Candidate:
    """Return the candidate of a spec for a catalog. Raises UsageError if the spec is unknown."""
    if spec.startswith(API_PREFIX):
        return api_candidate(spec, name, catalog, api_settings or ApiSettings(), progress)
    if spec.startswith(ZERO_SHOT_PREFIX):
        return zero_shot_candidate(spec, name, catalog, progress)
    if spec.startswith(ANSWERS_PREFIX):
        return answers_candidate(spec, name, catalog)
    if spec.startswith(HUMAN_PREFIX):
        return human_candidate(Path(spec.removeprefix(HUMAN_PREFIX)), name, catalog)
    kind, colon, _ = spec.partition(":")
    if colon and not Path(spec).exists():
        raise UsageError(
            f"{spec!r} is not a known kind of candidate",
            got=kind,
            allowed="a model folder, human:FILE.csv, zero-shot:BASE, api:MODEL, or answers:FILE.csv",
            hint="Name a folder that `pricesmith fit` has written.",
        )
    return model_candidate(load_model(spec), name, catalog, progress)


def human_candidate(path: Path, name: str, catalog: Catalog) -> Candidate:
    """Return a person's answers as a candidate, which is evaluated on the answered listings only."""
    quotes = {id: replace(quote, cost_usd=None) for id, quote in read_prices(path, catalog.currency).items()}
    facts = {"manifest": sha256(path)}
    return Candidate(name, "human", PrecomputedPricer(quotes, name), facts=facts, item_ids=set(quotes))


def parse_answers(spec: str) -> tuple[str, FeeSettings]:
    """Return the file of `answers:FILE@name=value` and what its answers cost.

    Raises UsageError for an unknown option.
    """
    file, tail = spec.removeprefix(ANSWERS_PREFIX), ""
    if mark := ANSWERS_MARK.search(file):
        file, tail = file[: mark.start()], file[mark.end() :]
    options = dict(part.partition("=")[::2] for part in tail.split(",")) if tail else {}
    values = parse_settings(AnswerOptions, options, where=f"{ANSWERS_PREFIX}{file}")
    if not file:
        raise UsageError("answers: needs the name of a file", got=spec, hint="For example answers:answers.csv")
    return file, FeeSettings(values.api_model, values.api_cost_per_1000)


def answers_spec(file: str, fees: Mapping[str, Any]) -> str:
    """Return the spec of saved answers with what they cost."""
    options = ",".join(f"{name}={value}" for name, value in fees.items())
    return f"{ANSWERS_PREFIX}{file}" + (f"@{options}" if options else "")


class AnswerOptions(Settings):
    """The options after the @ of `answers:FILE@name=value,...`."""

    api_model: str = ""
    api_cost_per_1000: float | None = Field(None, ge=0)


def answers_candidate(spec: str, name: str, catalog: Catalog) -> Candidate:
    """Return saved answers of an API model as a candidate, which is evaluated on the answered listings only."""
    file, fees = parse_answers(spec)
    pricer = SavedAnswers(read_prices(Path(file), catalog.currency), name, fees, catalog.currency)
    facts = {"manifest": sha256(Path(file)), "model": fees.api_model or name, "estimated_fees": True}
    return Candidate(name, "api", pricer, facts=facts, item_ids=set(pricer.pricer.quotes))


# Model folders


def model_candidate(model: PriceModel, name: str, catalog: Catalog, progress: Progress = SILENT) -> Candidate:
    """Return a loaded model as a candidate. Without its comparables it is unknown which listings it was trained on."""

    def refit(train: list[Item], validation: list[Item]) -> Pricer:
        data = fold_data(train, validation, catalog, is_weighted(model.manifest, members))
        return add_rewriting_costs(refit_model(model, data))

    members = find_members(model.path)
    facts: dict[str, Any] = {"manifest": model.identity, "fit_seconds": model.manifest["fit_seconds"]}
    if members:
        facts["fit_seconds"] += sum(float(manifest["fit_seconds"]) for manifest in members.values())
        facts["parts"] = {path: str(manifest["kind"]) for path, manifest in members.items()}
    candidate = Candidate(
        name,
        str(model.manifest["kind"]),
        add_rewriting_costs(model),
        fitted_on=str(model.info["fingerprint"]),
        currency=str(model.info["currency"]),
        facts=facts,
        refit=refit,
        is_trained_on=(lambda listings: is_in_training(model, listings)) if model.has_comparables else None,
        rewriting=model.rewriting,
    )
    hybrid = find_hybrid(model)
    return candidate if hybrid is None else hybrid_candidate(candidate, model, hybrid, progress)


def hybrid_candidate(candidate: Candidate, model: PriceModel, hybrid: HybridPricer, progress: Progress) -> Candidate:
    """Return a blend with paid members, or a cascade, as a candidate: with what it asked, and the curve of a cascade.

    With saved answers it is evaluated on the listings that have one: on others it could not ask. In folds each fold has
    a hybrid of its own.
    """
    records: dict[str, AskRecord] = {}
    fold_records: dict[str, AskRecord] = {}
    hybrid.records = records
    is_paid = hybrid.is_paid

    def refit(train: list[Item], validation: list[Item]) -> Pricer:
        assert candidate.refit is not None
        fitted = candidate.refit(train, validation)
        if (refitted := find_hybrid(fitted)) is not None:
            refitted.records = fold_records
        return fitted

    def analysis(evaluation: Evaluation) -> dict[str, Any]:
        known = fold_records or records
        counts = count_asked([known[row.id] for row in evaluation.rows if row.id in known])
        names = ", ".join(member.name for member in hybrid.members[1:])
        asked = {**counts, "member": names, "estimated_fees": hybrid.estimated_fees}
        facts: dict[str, Any] = {ASKED: asked} if is_paid else {}
        if isinstance(model.recipe, CascadeRecipe) and not fold_records:
            curve = cascade_curve(evaluation, hybrid, model.recipe, records)
            facts |= {COST_CURVE: curve.to_dict()} if curve is not None else {}
        return facts

    return replace(
        candidate,
        item_ids=hybrid.saved_ids(),
        refit=refit if candidate.refit is not None else None,
        analysis=analysis,
        cost_reporter=HybridCostReporter(candidate.name, hybrid, progress) if hybrid.asks_api else None,
    )


def cascade_curve(
    evaluation: Evaluation, hybrid: HybridPricer, recipe: CascadeRecipe, records: Mapping[str, AskRecord]
) -> CostCurve | None:
    """Return the cost-error curve of an evaluated cascade; None if an answer for it would have to be bought, or if the
    evaluation was in folds, each by another cascade."""
    evaluated = [records[row.id] for row in evaluation.rows if row.id in records]
    if not evaluated or len(evaluated) < len(evaluation.rows):
        return None
    if any(record.others is not None and not record.asked for record in evaluated):
        return None
    rest = [record for record in evaluated if record.others is None]
    free = hybrid.free_quotes([record.listing for record in rest])[0] if rest else []
    by_id = {record.listing.id: quote for record, quote in zip(rest, free, strict=True)}
    seconds = [by_id[record.listing.id] if record.others is None else record.others[0] for record in evaluated]
    if any(quote.note.startswith(NOT_ASKED) for quote in seconds):
        return None
    combined = hybrid.combine(
        [record.listing for record in evaluated], [[record.first for record in evaluated], seconds]
    )
    low, high = evaluation.price_range
    local = hybrid.policy is not None and hybrid.policy.unit == "seconds"
    return measure_cost_curve(
        truth=np.array([row.truth for row in evaluation.rows]),
        first=prices_of([record.first for record in evaluated]),
        hybrid=np.clip(prices_of(combined), low, high),
        second=np.clip(prices_of(seconds), low, high),
        fees=np.full(len(evaluated), hybrid.seconds or 0.0) if local else costs_of(seconds),
        order=np.array([record.score for record in evaluated]),
        asked=np.array([record.others is not None for record in evaluated]),
        groups=encode_groups([evaluation.groups.get(row.id, row.id) for row in evaluation.rows]),
        median=evaluation.median,
        names=(hybrid.members[0].name, hybrid.members[1].name),
        constraint=CurveConstraint(name=recipe.constraint.name, value=recipe.constraint.value),
        first_fees=np.zeros(len(evaluated)) if local else costs_of([record.first for record in evaluated]),
        estimated_fees=hybrid.estimated_fees,
        cost_unit="seconds" if local else "usd",
    )


def prices_of(quotes: Sequence[Quote]) -> Array:
    """Return the prices of quotes [n], NaN if unanswered."""
    return np.array([np.nan if quote.price is None else quote.price for quote in quotes], dtype=np.float64)


def costs_of(quotes: Sequence[Quote]) -> Array:
    """Return the costs of quotes [n] in US dollars, NaN if unknown."""
    return np.array([np.nan if quote.cost_usd is None else quote.cost_usd for quote in quotes], dtype=np.float64)


class HybridCostReporter:
    """Reports what a model that asks an API model is expected to ask and to pay."""

    batch = 1_000  # listings that are priced at once, so that enough of them are asked about at the same time

    def __init__(self, name: str, hybrid: HybridPricer, progress: Progress) -> None:
        self.name, self.hybrid, self.progress = name, hybrid, progress

    def before(self, listings: Sequence[Listing]) -> None:
        """Note about how many of these listings the API model is asked about, and what that costs."""
        share = self.hybrid.policy.share if self.hybrid.policy is not None else 1.0
        fees = self.hybrid.total_fees(listings)
        cost = f"about ${float(fees.sum()):,.4g}" if np.isfinite(fees).all() else "an unknown cost"
        names = ", ".join(member.name for member in self.hybrid.members[1:])
        for member in (member for hybrid in (self.hybrid, *self.hybrid.nested) for member in hybrid.members):
            if isinstance(member, ApiMember):
                member.progress = self.progress
                member.pricer.endpoint.check_key()
                if warning := member.pricer.endpoint.shutdown_warning(member.pricer.now().date()):
                    self.progress.note(warning)
        self.progress.note(
            f"{self.name} asks {names} about {share:.0%} of {len(listings):,} listings, for {cost}; "
            "cached answers are free."
        )

    def after(self) -> Mapping[str, Any]:
        """Return no facts: each quote has its own cost."""
        return {}


def find_members(folder: Path) -> dict[str, dict[str, Any]]:
    """Return the manifests of a blend's members by path, nested ones included; the blend's fit time includes theirs."""
    manifests = {}
    for path in sorted(folder.glob(f"{MEMBERS}/*/")):
        manifests[path.name] = read_manifest(path)
        manifests |= {f"{path.name}/{name}": manifest for name, manifest in find_members(path).items()}
    return manifests


def fold_data(train: list[Item], validation: list[Item], catalog: Catalog, weighted: bool = False) -> FitData:
    """Return the data of a fold. Validation is halved by near-duplicate group: intervals calibrated on near-duplicates
    of the rows that a pricer was tuned on would be too narrow."""
    group = group_codes(catalog)
    halves: dict[str, list[Item]] = {"tune": [], "calibrate": []}
    for item in validation:
        halves[half_of(group[item.listing.id])].append(item)
    return FitData(train, halves["tune"], halves["calibrate"], group, item_sources(catalog) if weighted else {})


def is_weighted(manifest: Mapping[str, Any], members: Mapping[str, Mapping[str, Any]]) -> bool:
    """Return whether a model or one of its members was fitted with weights by source."""
    return any(WEIGHT_BY in facts["settings"] for facts in (manifest, *members.values()))


def is_in_training(model: PriceModel, listings: Sequence[Listing]) -> list[bool]:
    """Return for each listing whether a training listing of the model has the same words."""
    neighbors = model.index.search(listings, 1) if model.index else [[] for _ in listings]
    return [bool(near) and near[0].similarity >= SAME_WORDS for near in neighbors]


# Untuned base models


def parse_zero_shot(spec: str) -> tuple[str, dict[str, str]]:
    """Return the base of `zero-shot:BASE@name=value,...` and its options. Raises UsageError for an unknown option."""
    base, mark, tail = spec.removeprefix(ZERO_SHOT_PREFIX).rpartition("@")
    if not mark or "=" not in tail:  # an @ can be part of a path
        base, tail = spec.removeprefix(ZERO_SHOT_PREFIX), ""
    options: dict[str, str] = {}
    for text in tail.split(",") if tail else []:
        name, equals, value = text.partition("=")
        valid = {"shots": value.isdecimal() and value.isascii(), "style": value in ("plain", "chat"), "revision": value}
        if not equals or not valid.get(name) or name in options:
            raise UsageError(
                f"{spec!r} has an invalid option",
                got=text,
                allowed="zero-shot:BASE@shots=4,style=plain,revision=COMMIT (style: plain or chat), each at most once",
                hint="Correct the option after the @, or leave it out.",
            )
        options[name] = value
    if not base:
        raise UsageError("zero-shot: needs the name of a base", got=spec, hint="For example zero-shot:gemma-3-270m")
    return base, options


def zero_shot_candidate(spec: str, name: str, catalog: Catalog, progress: Progress) -> Candidate:
    """Return an untuned base model as a candidate; its examples come from rows that it is not evaluated on."""
    from pricesmith.pricers.llm.pricer import zero_shot_pricer

    base, options = parse_zero_shot(spec)
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
        refit=lambda train, _: pricer.with_shots(train, shots),
    )


# API models


def api_candidate(spec: str, name: str, catalog: Catalog, api_settings: ApiSettings, progress: Progress) -> Candidate:
    """Return an API model as a candidate. If it is shown training listings, it is shown others in each fold.

    Raises UsageError if its provider is unknown, or there is a budget and no token price. A missing key is an error
    only when a request must be sent.
    """
    api_model = parse_api_model(spec)
    options = api_model.options
    pricer = api_settings.build_pricer(
        api_model,
        catalog.currency,
        train=lambda: catalog.items("train"),
        groups=group_codes(catalog) if options.comparables else {},
        progress=progress,
    )
    if api_settings.batch:
        pricer.batch = api_settings.open_batch(pricer)
    has_examples = bool(options.shots or options.comparables)
    return Candidate(
        name,
        "api",
        pricer,
        fitted_on=catalog.fingerprint if has_examples else None,
        facts={**pricer.facts, "memorization_check": options.memorization_check},
        refit=(lambda train, _: pricer.with_examples(train)) if has_examples else None,
        cost_reporter=ApiCostReporter(
            pricer,
            lambda: items_by_id(catalog),
            options.memorization_check,
            lambda: fold_items(catalog) if has_examples else (),
        ),
    )


def cancel_batches(
    specs: Sequence[str], catalog: Catalog, settings: ApiSettings, progress: Progress = SILENT
) -> dict[str, CancelledJobs]:
    """Cancel the unfinished batch jobs of the API models among `specs`; return what became of them, by model.

    What was finished before is charged, and in the response cache when this returns. Raises BatchPending if `settings`
    do not wait for the end of the jobs.
    """
    cancelled: dict[str, CancelledJobs] = {}
    with settings:
        for api_model in [parse_api_model(spec) for spec in specs if spec.startswith(API_PREFIX)]:
            options = api_model.options.model_copy(update={"shots": 0, "comparables": 0})
            pricer = settings.build_pricer(replace(api_model, options=options), catalog.currency, progress=progress)
            cancelled[api_model.model] = settings.open_batch(pricer).cancel()
    return cancelled


def fold_items(catalog: Catalog) -> list[tuple[list[Item], list[Item]]]:
    """Return the evaluated items and the training items of each fold; empty if the catalog has a fixed test split."""
    if not goes_in_folds(catalog):
        return []
    return [(fold.items, fold.train) for fold in build_plan(catalog, "test").folds]


# Lookups in a catalog


def comparables_search(items: Sequence[Item], groups: Mapping[str, str]) -> Search:
    """Return a search for comparables among training items, whose near-duplicate groups are given by id.

    It returns the listings that share most words and have a similar estimated price, the same for every candidate,
    and the listing with the most similar words, if it is none of them.
    """
    index, estimate = ordered_index(items, [groups[item.listing.id] for item in items])

    def search(listings: Sequence[Listing], k: int) -> list[list[Comparable]]:
        neighbors = index.search_with_closest(listings, k, estimate(listings))
        return [near + [listing for listing in closest if listing not in near] for near, closest in neighbors]

    return search


def group_codes(catalog: Catalog) -> dict[str, str]:
    """Return the near-duplicate group of every listing of a catalog, by id."""
    groups: dict[str, str] = {}
    for split in SPLITS:
        columns = catalog.columns(split, ("id", "group"))
        groups.update(zip(columns["id"], columns["group"], strict=True))
    return groups


def items_by_id(catalog: Catalog) -> dict[str, Item]:
    """Return every item of a catalog by its id."""
    return {item.listing.id: item for split in SPLITS for item in catalog.items(split)}
