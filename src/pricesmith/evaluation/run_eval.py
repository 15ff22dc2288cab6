"""The flow of `pricesmith eval`: evaluate pricers on a catalog, one after the other, into an evals folder.

    run_eval([Candidate("mlp", "sparse_mlp", pricer, fitted_on=fingerprint)], catalog, Path("out/evals"))

It imports no concrete pricer: each is passed as a `Candidate` with the facts that matter here. An evaluation is written
as a whole when its pricer is done, so after a kill the same command resumes with the first unfinished pricer.
"""

from __future__ import annotations

import hashlib
import time
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

from pricesmith.catalog.catalog import Catalog
from pricesmith.catalog.summary import describe_rewriting
from pricesmith.core.atomic import describe_difference, read_json
from pricesmith.core.errors import PricesmithError, UsageError
from pricesmith.core.progress import SILENT, Progress
from pricesmith.core.types import Evaluation, Item, Listing, Pricer
from pricesmith.evaluation.cost import format_refits
from pricesmith.evaluation.evaluate import BATCH, evaluate
from pricesmith.evaluation.folds import (
    MAX_ROWS_FOR_FOLDS,
    N_FOLDS,
    EvalPlan,
    Index,
    build_plan,
    eval_items,
    goes_in_folds,
    limit_items,
    row_count,
)
from pricesmith.evaluation.result_files import META, check_ours, recover_result_files
from pricesmith.evaluation.results import Evals, claim_items, file_name, read_evals, write_evaluation, write_items

IN_FOLDS = f"every row is evaluated, in {N_FOLDS} folds by group, each by a pricer fitted without that fold"
FOREIGN = "fitted on another catalog; these items may include rows of its validation split, which cannot be recognized"
Refit = Callable[[list[Item], list[Item]], Pricer]
TrainingFilter = Callable[[Sequence[Listing]], Sequence[bool]]


class CostReporter(Protocol):
    """Reports the expected cost of a pricer before its evaluation, and the actual cost, as facts for the meta file,
    afterwards. `batch` is the number of listings per call."""

    batch: int

    def before(self, listings: Sequence[Listing]) -> None: ...
    def after(self) -> Mapping[str, Any]: ...


@dataclass(frozen=True)
class Candidate:
    """A pricer to evaluate, under the name that tables show.

    `fitted_on` is the fingerprint of the catalog it was fitted on, None if it was not fitted; `currency` is that of its
    quotes, None if it follows the catalog. `facts` is JSON for the meta file: `fit_seconds`, and whatever
    distinguishes this pricer from another of its name, such as `manifest`, a hash. `refit(train, validation)` fits the
    same kind of pricer for a fold. `item_ids` are the items it is evaluated on, None for all (a person's answers cover
    some). `is_trained_on` says for each listing whether it was in the training rows, for another catalog; None if this
    is unknown. Rows of its own validation split are not recognized. `rewriting` says how the listings
    that it was fitted on were rewritten (empty: not at all), None if it was not fitted. `analysis(evaluation)` returns
    further facts for the meta file.
    """

    name: str
    kind: str
    pricer: Pricer
    fitted_on: str | None = None
    currency: str | None = None
    facts: Mapping[str, Any] = field(default_factory=dict)
    refit: Refit | None = None
    item_ids: Collection[str] | None = None
    is_trained_on: TrainingFilter | None = None
    cost_reporter: CostReporter | None = None
    rewriting: str | None = None
    analysis: Callable[[Evaluation], Mapping[str, Any]] | None = None


def run_eval(
    candidates: Sequence[Candidate],
    catalog: Catalog,
    to: Path | str,
    *,
    split: str = "test",
    limit: int | None = None,
    index: Index | None = None,
    other_catalog: bool = False,
    overwrite: bool = False,
    batch: int = BATCH,
    progress: Progress = SILENT,
) -> Evals:
    """Evaluate each candidate on a split of the catalog and write the evals folder `to`; finished ones are skipped.

    `limit` takes the first items in a pseudo-random order by group, the same for every pricer; a smaller limit is a
    subset of a larger one. `index(training items)` returns the search for similar training listings. Raises
    UsageError, before any evaluation, if a model is of another catalog (unless `other_catalog` is set and its training
    rows are known), if the folder holds something else, or if two names are equal.
    """
    folder = Path(to)
    check(candidates, catalog, limit, other_catalog)
    whole = build_plan(catalog, split)
    check_folds(candidates, catalog, whole)
    has_items = claim_items(folder, whole.about)
    for candidate in candidates:
        recover_result_files(folder, file_name(candidate.name))
        check_ours(folder, file_name(candidate.name))
    done = [] if overwrite else [candidate for candidate in candidates if is_finished(candidate, folder, whole, limit)]
    for candidate in done:
        progress.note(f"{candidate.name} is already evaluated.")
    waiting = [candidate for candidate in candidates if candidate not in done]
    if whole.folded and waiting:
        progress.note(describe_folds(waiting, catalog, whole))
    if not has_items:
        progress.start("finding similar training listings")
        write_items(folder, eval_items(catalog, whole, index), whole.about)
    plan = whole if limit is None else limit_items(whole, limit)
    for candidate in waiting:
        if candidate.cost_reporter is not None:
            candidate.cost_reporter.before([item.listing for fold in plan.folds for item in fold.items])
    for candidate in waiting:
        evaluation, fit_seconds = evaluate_candidate(candidate, catalog, plan, batch, progress)
        facts = build_facts(candidate, catalog, plan, limit, fit_seconds)
        if candidate.analysis is not None:
            progress.start(f"analyzing {candidate.name}")
            facts |= candidate.analysis(evaluation)
        write_evaluation(folder, evaluation, facts)
    return read_evals(folder)


def describe_folds(candidates: Sequence[Candidate], catalog: Catalog, plan: EvalPlan) -> str:
    """Why a small catalog is evaluated in folds, and how long the refits will take."""
    refitted = [candidate for candidate in candidates if is_refitted(candidate, catalog)]
    fit_times = [float(candidate.facts.get("fit_seconds") or 0.0) for candidate in refitted]
    return f"{len(plan.groups):,} rows are under {MAX_ROWS_FOR_FOLDS:,}: {IN_FOLDS}.{format_refits(fit_times)}"


def build_facts(
    candidate: Candidate, catalog: Catalog, plan: EvalPlan, limit: int | None, fit_seconds: float | None
) -> dict[str, Any]:
    """The content of an evaluation's meta file; a hosted model adds its actual cost."""
    return {
        **candidate.facts,
        **(candidate.cost_reporter.after() if candidate.cost_reporter is not None else {}),
        "kind": candidate.kind,
        "catalog_name": catalog.name,
        **({"catalog_rewriting": " ".join(describe_rewriting(catalog.ledger))} if catalog.rewriting else {}),
        "date": time.strftime("%Y-%m-%d"),
        "split": plan.about["split"],
        "limit": limit,
        "folds": plan.folded,
        "fit_seconds": fit_seconds,
        "settings": settings_of(candidate, plan, limit),
    }


def evaluate_one(
    candidate: Candidate,
    catalog: Catalog,
    *,
    split: str = "test",
    other_catalog: bool = False,
    progress: Progress = SILENT,
) -> Evaluation:
    """The evaluation of one pricer, under the same checks as `run_eval`, without writing it; its note says what is
    special.

    A small catalog is evaluated in folds if the pricer can be refitted for them, else on the split alone: other rows
    may be among the training rows of what Pricesmith did not fit.
    """
    check([candidate], catalog, None, other_catalog)
    plan = build_plan(catalog, split)
    note = IN_FOLDS
    if plan.folded and not is_refitted(candidate, catalog):
        plan = build_plan(catalog, split, in_folds=False)
        note = f"only the {split} split is evaluated, because {candidate.name} cannot be refitted in folds"
    evaluation, _ = evaluate_candidate(candidate, catalog, plan, BATCH, progress)
    rows = row_count(catalog)
    if not goes_in_folds(catalog):
        return evaluation
    notes = [f"{rows:,} rows are under {MAX_ROWS_FOR_FOLDS:,}: {note}", evaluation.note]
    return replace(evaluation, note="; ".join(text for text in notes if text))


def check(candidates: Sequence[Candidate], catalog: Catalog, limit: int | None, other_catalog: bool) -> None:
    """Raises UsageError if the candidates cannot be evaluated on this catalog."""
    if not candidates:
        raise UsageError("There is no pricer to evaluate", hint="Name at least one model folder.")
    if limit is not None and limit < 1:
        raise UsageError("--limit is not a number of items", got=str(limit), allowed="1 or more")
    repeated = [name for name, count in Counter(candidate.name for candidate in candidates).items() if count > 1]
    if repeated:
        raise UsageError(
            "Two pricers have the same name", got=repeated[0], hint="Rename a model folder, or use @name=NAME."
        )
    for candidate in candidates:
        if candidate.currency is not None and candidate.currency != catalog.currency:
            raise UsageError(
                f"{candidate.name} quotes in another currency",
                got=candidate.currency,
                allowed=catalog.currency,
                hint="Evaluate it on a catalog in its own currency.",
            )
        if candidate.rewriting is not None and candidate.rewriting != catalog.rewriting:
            raise rewriting_error(candidate, catalog)
        if candidate.fitted_on is None or candidate.fitted_on == catalog.fingerprint:
            continue
        if not other_catalog:
            raise UsageError(
                f"{candidate.name} was fitted on another catalog",
                got=f"fingerprint {candidate.fitted_on[:16]}",
                allowed=f"{catalog.fingerprint[:16]}, the fingerprint of {catalog.name}",
                hint="Fit it on this catalog, or add --other-catalog to drop the items it was trained on.",
            )
        if candidate.is_trained_on is None:
            raise UsageError(
                f"The training listings of {candidate.name} are unknown",
                got="a model without its folder comparables/, such as an export or a blend's copy of its member",
                allowed="on another catalog, a model folder with comparables/",
                hint="Evaluate it on its own catalog, or name the model folder that it was copied from.",
            )


def rewriting_error(candidate: Candidate, catalog: Catalog) -> UsageError:
    """The error for a model whose training listings were not rewritten as those of the catalog were."""
    return UsageError(
        f"{candidate.name} was fitted on listings in another form than those of {catalog.name}",
        got=f"{describe_form(candidate.rewriting)} and {describe_form(catalog.rewriting)}",
        allowed="a catalog whose listings were rewritten as those of the model's catalog were",
        hint="Evaluate it on its own catalog, or fit the recipe on this one.",
    )


def describe_form(rewriting: str | None) -> str:
    """In which form listings are, in words."""
    return f"rewriting {rewriting}" if rewriting else "listings as written"


def check_folds(candidates: Sequence[Candidate], catalog: Catalog, plan: EvalPlan) -> None:
    """Raises UsageError if folds would evaluate a fitted pricer on its own training rows."""
    for candidate in candidates:
        if plan.folded and candidate.fitted_on == catalog.fingerprint and candidate.refit is None:
            raise UsageError(
                f"{candidate.name} cannot be refitted for folds",
                got=f"a catalog under {MAX_ROWS_FOR_FOLDS:,} rows, which is evaluated in {N_FOLDS} folds",
                hint="Evaluate a model folder that `pricesmith fit` wrote, or curate more rows.",
            )


def is_refitted(candidate: Candidate, catalog: Catalog) -> bool:
    """Whether the candidate is refitted for folds of this catalog; a model of another catalog is evaluated as it is."""
    return candidate.refit is not None and candidate.fitted_on == catalog.fingerprint


def settings_of(candidate: Candidate, plan: EvalPlan, limit: int | None) -> dict[str, Any]:
    """The settings that identify an evaluation; fit times are not among them, and members are in the manifest."""
    facts = {name: value for name, value in candidate.facts.items() if name not in ("fit_seconds", "parts")}
    items_digest = (
        None
        if candidate.item_ids is None
        else hashlib.sha256("\n".join(sorted(candidate.item_ids)).encode()).hexdigest()
    )
    return {
        **plan.about,
        **facts,
        "kind": candidate.kind,
        "limit": limit,
        "only": items_digest,
        "fitted_on": candidate.fitted_on,
    }


def is_finished(candidate: Candidate, folder: Path, plan: EvalPlan, limit: int | None) -> bool:
    """Whether this evaluation is finished. Raises UsageError if a different one has its name."""
    path = folder / f"{file_name(candidate.name)}{META}"
    if not path.is_file():
        return False
    old, new = read_json(path).get("settings", {}), settings_of(candidate, plan, limit)
    if old != new:
        raise UsageError(
            f"{folder} holds an evaluation of another {candidate.name}, or of other items",
            got=describe_difference(old, new),
            hint=f"Choose another folder, or add --overwrite to replace {path.name}.",
        )
    return True


def evaluate_candidate(
    candidate: Candidate, catalog: Catalog, plan: EvalPlan, batch: int, progress: Progress
) -> tuple[Evaluation, float | None]:
    """The evaluation of one candidate over all folds, and its fit seconds. Raises UsageError without items."""
    parts: list[Evaluation] = []
    notes: Counter[str] = Counter()
    refits = 0.0
    for number, fold in enumerate(plan.folds, 1):
        items = select_items(candidate, fold.items, catalog, notes)
        if not items:
            continue
        pricer = candidate.pricer
        if plan.folded and candidate.refit is not None and is_refitted(candidate, catalog):
            progress.start(f"fitting {candidate.name}, fold {number} of {len(plan.folds)}")
            started = time.perf_counter()
            pricer = candidate.refit(fold.train, fold.validation)
            refits += time.perf_counter() - started
        progress.start(f"evaluating {candidate.name}", len(items))
        evaluation = evaluate(
            pricer,
            items,
            catalog=catalog.fingerprint,
            median=plan.median,
            currency=catalog.currency,
            price_range=catalog.price_range,
            groups=plan.groups,
            batch=batch if candidate.cost_reporter is None else candidate.cost_reporter.batch,
            progress=progress,
        )
        parts.append(evaluation)
    if not parts:
        raise UsageError(
            f"There is no item to evaluate {candidate.name} on",
            got="; ".join(format_notes(notes)),
            hint="Evaluate it on another catalog or split.",
        )
    return merge_folds(candidate.name, parts, notes), refits or candidate.facts.get("fit_seconds")


def select_items(candidate: Candidate, items: Sequence[Item], catalog: Catalog, notes: Counter[str]) -> list[Item]:
    """The items that a candidate is evaluated on: without its training rows. Counts the others in `notes`."""
    chosen = [item for item in items if candidate.item_ids is None or item.listing.id in candidate.item_ids]
    if candidate.fitted_on is None or candidate.fitted_on == catalog.fingerprint:
        new = chosen
    elif candidate.is_trained_on is None:
        raise PricesmithError(f"The training listings of {candidate.name} are unknown")
    else:
        trained = candidate.is_trained_on([item.listing for item in chosen])
        new = [item for item, known in zip(chosen, trained, strict=True) if not known]
        notes[FOREIGN] = 0
    for reason, count in (
        ("items outside its answers", len(items) - len(chosen)),
        ("items dropped because their text is in its training rows", len(chosen) - len(new)),
    ):
        if count:
            notes[reason] += count
    return new


def format_notes(notes: Mapping[str, int]) -> list[str]:
    """Notes as texts; one without a count applies to all items."""
    return [f"{count:,} {text}" if count else text for text, count in notes.items()]


def merge_folds(name: str, parts: Sequence[Evaluation], notes: Mapping[str, int]) -> Evaluation:
    """The folds of one pricer as one evaluation, with all notes."""
    texts = format_notes(notes) + [part.note for part in parts if part.note]
    groups = {id: group for part in parts for id, group in part.groups.items()}
    rows = tuple(row for part in parts for row in part.rows)
    return replace(parts[0], pricer=name, rows=rows, groups=groups, note="; ".join(texts))
