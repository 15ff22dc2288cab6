"""The flow of `pricesmith eval`: judge pricers on a catalog, one after the other, into an evals folder.

    judge([Candidate("mlp", "sparse_mlp", pricer, fitted_on=fingerprint)], catalog, Path("out/evals"))

It knows no concrete pricer: each comes as a `Candidate` with what must be known of it. An evaluation is written whole
when its pricer is done, so the same command after a kill goes on with the first pricer that is not.
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
    limit_items,
    row_count,
)
from pricesmith.evaluation.result_files import META, check_ours, recover_result_files
from pricesmith.evaluation.results import Evals, claim_items, file_name, read_evals, write_evaluation, write_items

IN_FOLDS = f"every row is judged, in {N_FOLDS} folds by group, each by a pricer fitted without that fold"
FOREIGN = "fitted on another catalog; rows of its validation cannot be told from new ones and may be among these"
Refit = Callable[[list[Item], list[Item]], Pricer]
Seen = Callable[[Sequence[Listing]], Sequence[bool]]


class CostReporter(Protocol):
    """Who tells what a pricer will cost before it is asked, and what it came to: facts that tell it from no other.
    `batch` listings are handed over at once."""

    batch: int

    def before(self, listings: Sequence[Listing]) -> None: ...
    def after(self) -> Mapping[str, Any]: ...


@dataclass(frozen=True)
class Candidate:
    """A pricer to judge, under the name that tables show.

    `fitted_on` is the fingerprint of the catalog it was fitted on, None where it was not fitted; `currency`
    what it quotes in, None where it follows the catalog. `facts` is JSON for the meta file: `fit_seconds`,
    and whatever tells this pricer from another of its name, such as `manifest`, a hash. `refit(train,
    validation)` gives the same kind of pricer for a fold. `only` names the items it was asked (a person's
    sheet); `seen` says which listings it was trained on, for another catalog, None where it cannot say; rows of
    its own validation are not among them.
    """

    name: str
    kind: str
    pricer: Pricer
    fitted_on: str | None = None
    currency: str | None = None
    facts: Mapping[str, Any] = field(default_factory=dict)
    refit: Refit | None = None
    only: Collection[str] | None = None
    seen: Seen | None = None
    watch: CostReporter | None = None


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
    """Judge each candidate on a split of the catalog and write the evals folder `to`; what is judged is skipped.

    `limit` takes the first items in an order drawn by group, the same for every pricer; a smaller limit is
    part of a larger one. `index(training items)` gives the search for near training listings. Raises
    UsageError, before anything is judged, where a run is of another catalog (unless `other_catalog`, and then
    where it cannot say what it was trained on), the folder holds something else, or two names are alike.
    """
    folder = Path(to)
    check(candidates, catalog, limit, other_catalog)
    whole = build_plan(catalog, split)
    check_folds(candidates, catalog, whole)
    there = claim_items(folder, whole.about)
    for one in candidates:
        recover_result_files(folder, file_name(one.name))
        check_ours(folder, file_name(one.name))
    done = [] if overwrite else [one for one in candidates if is_finished(one, folder, whole, limit)]
    for one in done:
        progress.note(f"{one.name} is already judged.")
    waiting = [one for one in candidates if one not in done]
    if whole.folded and waiting:
        again = [float(one.facts.get("fit_seconds") or 0.0) for one in waiting if is_refitted(one, catalog)]
        progress.note(f"{len(whole.groups):,} rows are under {MAX_ROWS_FOR_FOLDS:,}: {IN_FOLDS}.{format_refits(again)}")
    if not there:
        progress.start("finding near training listings")
        write_items(folder, eval_items(catalog, whole, index), whole.about)
    plan = whole if limit is None else limit_items(whole, limit)
    for one in waiting:
        if one.watch is not None:
            one.watch.before([item.listing for fold in plan.folds for item in fold.items])
    for one in waiting:
        evaluation, fit_seconds = evaluate_candidate(one, catalog, plan, batch, progress)
        facts = {
            **one.facts,
            **(one.watch.after() if one.watch is not None else {}),
            "kind": one.kind,
            "catalog_name": catalog.name,
            "date": time.strftime("%Y-%m-%d"),
            "split": plan.about["split"],
            "limit": limit,
            "folds": plan.folded,
            "fit_seconds": fit_seconds,
            "settings": settings_of(one, plan, limit),
        }
        write_evaluation(folder, evaluation, facts)
    return read_evals(folder)


def evaluate_one(
    one: Candidate, catalog: Catalog, *, split: str = "test", other_catalog: bool = False, progress: Progress = SILENT
) -> Evaluation:
    """The evaluation of one pricer, kept nowhere, under the same checks as `judge`; a note says what is special.

    A small catalog is judged in folds where the pricer can be fitted again for them, else on the split alone: what was
    not fitted by Pricesmith may know the other rows.
    """
    check([one], catalog, None, other_catalog)
    plan = build_plan(catalog, split)
    note = IN_FOLDS
    if plan.folded and not is_refitted(one, catalog):
        plan = build_plan(catalog, split, in_folds=False)
        note = f"only the {split} split is judged, because {one.name} is not fitted again in folds"
    found, _ = evaluate_candidate(one, catalog, plan, BATCH, progress)
    rows = row_count(catalog)
    if rows >= MAX_ROWS_FOR_FOLDS:
        return found
    said = [f"{rows:,} rows are under {MAX_ROWS_FOR_FOLDS:,}: {note}", found.note]
    return replace(found, note="; ".join(text for text in said if text))


def check(candidates: Sequence[Candidate], catalog: Catalog, limit: int | None, other_catalog: bool) -> None:
    """Raises UsageError where the candidates cannot be judged on this catalog."""
    if not candidates:
        raise UsageError("There is nobody to judge", hint="Name at least one run folder.")
    if limit is not None and limit < 1:
        raise UsageError("The limit is not a number of items", got=str(limit), allowed="1 or more")
    twice = [name for name, count in Counter(one.name for one in candidates).items() if count > 1]
    if twice:
        raise UsageError("Two pricers have the same name", got=twice[0], hint="Rename a run folder, or use @name=NAME.")
    for one in candidates:
        if one.currency is not None and one.currency != catalog.currency:
            raise UsageError(
                f"{one.name} quotes in another currency",
                got=one.currency,
                allowed=catalog.currency,
                hint="Judge it on a catalog in its own currency.",
            )
        if one.fitted_on is None or one.fitted_on == catalog.fingerprint:
            continue
        if not other_catalog:
            raise UsageError(
                f"{one.name} was fitted on another catalog",
                got=f"fingerprint {one.fitted_on[:16]}",
                allowed=f"{catalog.fingerprint[:16]}, that of {catalog.name}",
                hint="Fit it on this catalog, or add --other-catalog to drop the items it was trained on.",
            )
        if one.seen is None:
            raise UsageError(
                f"{one.name} cannot say which listings it was trained on",
                got="no training listings in it, as in an export or in a blend's copy of its member",
                allowed="on another catalog, a run that has its folder comparables/",
                hint="Judge it on its own catalog, or name the run that it was copied from.",
            )


def check_folds(candidates: Sequence[Candidate], catalog: Catalog, plan: EvalPlan) -> None:
    """Raises UsageError where folds would judge a fitted pricer on rows it was trained on."""
    for one in candidates:
        if plan.folded and one.fitted_on == catalog.fingerprint and one.refit is None:
            raise UsageError(
                f"{one.name} cannot be fitted again for folds",
                got=f"a catalog under {MAX_ROWS_FOR_FOLDS:,} rows, which is judged in {N_FOLDS} folds",
                hint="Judge a run that `pricesmith fit` made, or curate more rows.",
            )


def is_refitted(one: Candidate, catalog: Catalog) -> bool:
    """Whether folds of this catalog are judged by the candidate fitted again; a run of another is judged as it is."""
    return one.refit is not None and one.fitted_on == catalog.fingerprint


def settings_of(one: Candidate, plan: EvalPlan, limit: int | None) -> dict[str, Any]:
    """What makes an evaluation the same one; a fit's seconds do not, and what a run is made of is in its manifest."""
    facts = {name: value for name, value in one.facts.items() if name not in ("fit_seconds", "parts")}
    asked = None if one.only is None else hashlib.sha256("\n".join(sorted(one.only)).encode()).hexdigest()
    return {
        **plan.about,
        **facts,
        "kind": one.kind,
        "limit": limit,
        "only": asked,
        "fitted_on": one.fitted_on,
    }


def is_finished(one: Candidate, folder: Path, plan: EvalPlan, limit: int | None) -> bool:
    """Whether this very evaluation is there. Raises UsageError where another of its name is."""
    path = folder / f"{file_name(one.name)}{META}"
    if not path.is_file():
        return False
    old, new = read_json(path).get("settings", {}), settings_of(one, plan, limit)
    if old != new:
        raise UsageError(
            f"{folder} holds an evaluation of another {one.name}, or of other items",
            got=describe_difference(old, new),
            hint=f"Choose another folder, or add --overwrite to replace {path.name}.",
        )
    return True


def evaluate_candidate(
    one: Candidate, catalog: Catalog, plan: EvalPlan, batch: int, progress: Progress
) -> tuple[Evaluation, float | None]:
    """The evaluation of one candidate, over all folds, and its seconds of fitting. Raises UsageError without items."""
    parts: list[Evaluation] = []
    notes: Counter[str] = Counter()
    refits = 0.0
    for number, fold in enumerate(plan.folds, 1):
        items = select_items(one, fold.items, catalog, notes)
        if not items:
            continue
        pricer = one.pricer
        if plan.folded and one.refit is not None and is_refitted(one, catalog):
            progress.start(f"fitting {one.name}, fold {number} of {len(plan.folds)}")
            began = time.perf_counter()
            pricer = one.refit(fold.train, fold.validation)
            refits += time.perf_counter() - began
        progress.start(f"judging {one.name}", len(items))
        found = evaluate(
            pricer,
            items,
            catalog=catalog.fingerprint,
            median=plan.median,
            currency=catalog.currency,
            price_range=catalog.price_range,
            groups=plan.groups,
            batch=batch if one.watch is None else one.watch.batch,
            progress=progress,
        )
        parts.append(found)
    if not parts:
        raise UsageError(
            f"There is no item to judge {one.name} on",
            got="; ".join(progress_note(notes)),
            hint="Judge it on another catalog or split.",
        )
    return merge_folds(one.name, parts, notes), refits or one.facts.get("fit_seconds")


def select_items(one: Candidate, items: Sequence[Item], catalog: Catalog, notes: Counter[str]) -> list[Item]:
    """The items a candidate is judged on: those it was asked, without those it was trained on. Counts the others."""
    chosen = [item for item in items if one.only is None or item.listing.id in one.only]
    if one.fitted_on is None or one.fitted_on == catalog.fingerprint:
        left = chosen
    elif one.seen is None:
        raise PricesmithError(f"{one.name} cannot say which listings it was trained on")
    else:
        trained = one.seen([item.listing for item in chosen])
        left = [item for item, known in zip(chosen, trained, strict=True) if not known]
        notes[FOREIGN] = 0
    for why, count in (
        ("items it was not asked", len(items) - len(chosen)),
        ("items dropped, whose text it was trained on", len(chosen) - len(left)),
    ):
        if count:
            notes[why] += count
    return left


def progress_note(notes: Mapping[str, int]) -> list[str]:
    """Notes as a person reads them; one without a count stands for all items."""
    return [f"{count:,} {why}" if count else why for why, count in notes.items()]


def merge_folds(name: str, parts: Sequence[Evaluation], notes: Mapping[str, int]) -> Evaluation:
    """The folds of one pricer as one evaluation, with every note."""
    said = progress_note(notes) + [part.note for part in parts if part.note]
    groups = {id: group for part in parts for id, group in part.groups.items()}
    rows = tuple(row for part in parts for row in part.rows)
    return replace(parts[0], pricer=name, rows=rows, groups=groups, note="; ".join(said))
