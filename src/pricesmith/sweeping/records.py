"""The records of a sweep's trials: their errors with intervals, and their paired differences to the best one."""

from __future__ import annotations

from collections.abc import Sequence

from pricesmith.evaluation.compare import compare_simultaneously
from pricesmith.evaluation.evaluate import to_arrays
from pricesmith.learning_curve.categories import to_error_range
from pricesmith.learning_curve.curve import ErrorRange
from pricesmith.learning_curve.fits import FitMaterial
from pricesmith.metrics.bootstrap import bootstrap_interval
from pricesmith.metrics.metrics import Array
from pricesmith.sweeping.result import TrialRecord
from pricesmith.sweeping.search import Trial
from pricesmith.sweeping.trials import to_evaluation


def build_records(
    trials: Sequence[Trial], quotes: dict[str, Array], fit_seconds: dict[str, float], material: FitMaterial
) -> tuple[TrialRecord, ...]:
    """The records of all trials; `quotes` and `fit_seconds` are those of the fits on all rows, by key of the trial."""
    finished = sorted(
        (trial for trial in trials if trial.status == "finished"), key=lambda trial: (trial.errors[1], trial.number)
    )
    others = [trial for trial in trials if trial.status != "finished"]
    evaluations = [to_arrays(to_evaluation(trial, quotes[trial.key], material)) for trial in finished]
    differences = compare_simultaneously([(evaluation, evaluations[0]) for evaluation in evaluations[1:]])
    records = []
    for place, (trial, evaluation) in enumerate(zip(finished, evaluations, strict=True)):
        difference = differences[place - 1] if place else None
        records.append(
            build_record(trial).model_copy(
                update={
                    "mae": to_error_range(bootstrap_interval(evaluation.error, evaluation.groups)),
                    "difference": None
                    if difference is None
                    else ErrorRange(point=difference.difference, low=difference.low, high=difference.high),
                    "is_worse": difference is not None and difference.is_significant,
                    "fit_seconds": round(fit_seconds[trial.key], 3),
                }
            )
        )
    return (*records, *(build_record(trial) for trial in others))


def build_record(trial: Trial) -> TrialRecord:
    """A trial as plain values, without what is computed from quotes."""
    return TrialRecord(
        number=trial.number,
        recipe=trial.name,
        kind=trial.recipe.kind,
        settings=dict(trial.settings),
        status=trial.status,
        errors=dict(trial.errors),
        seconds=round(sum(trial.seconds.values()), 3),
        note=trial.note,
    )
