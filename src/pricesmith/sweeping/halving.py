"""Successive halving: the trials of a round are fitted on an eighth of the rows, the better half of them on a quarter,
and so on up to all rows.

The parts are nested, in the order of the learning curve, and keep near-duplicates together. A kind can need more rows
than another to be good, so a recipe's best trial is not pruned until the recipe has a trial on all rows. Source:
Jamieson and Talwalkar 2016, "Non-stochastic best arm identification and hyperparameter optimization".
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from pricesmith.core.errors import PricesmithError
from pricesmith.core.progress import Progress, format_duration
from pricesmith.learning_curve.fits import FitMaterial
from pricesmith.metrics.metrics import Array
from pricesmith.sweeping.budget import SweepClock, rung_sizes
from pricesmith.sweeping.remote import FitWorkers
from pricesmith.sweeping.search import Trial
from pricesmith.sweeping.trials import TrialFit, TrialFolder, describe_part, run_trial
from pricesmith.text.formatting import format_money

LEAST = 2  # trials of a round that are always fitted on all rows
NO_RESULT = "its node has ended the fit, but its result is not in the shared folder"


@dataclass
class Halving:
    """Runs the trials of a sweep. `quotes` and `fit_seconds` are those of the fits on all rows, by key of the trial.

    `max_trials` is for the estimate of the time that is left. With `workers` the fits of a rung run at the same time.
    """

    material: FitMaterial
    results: TrialFolder
    clock: SweepClock
    parts: tuple[int, ...]
    max_trials: int
    progress: Progress
    trials: list[Trial] = field(default_factory=list)
    quotes: dict[str, Array] = field(default_factory=dict)
    fit_seconds: dict[str, float] = field(default_factory=dict)
    best: Trial | None = None
    is_stopped: bool = False
    workers: FitWorkers | None = None
    sent: dict[tuple[str, int], str] = field(default_factory=dict)  # fits of workers: why each failed, or nothing

    def run_round(self, trials: Sequence[Trial]) -> None:
        """Fit the trials of a round on more and more rows, the better ones each time, and write what came of them."""
        self.trials += trials
        alive = list(trials)
        for part in self.parts:
            if part != 1 and len(self.select(alive)) == len(alive):
                continue  # nothing would be pruned
            if self.workers is not None:
                self.send(alive, part, self.workers)
            tried = [trial for place, trial in enumerate(alive) if self.fit(trial, part, alive, place)]
            if part == 1:
                break
            if tried:
                tried.sort(key=lambda trial: (trial.errors[part], trial.number))
                alive = self.select(tried)
                for trial in tried:
                    if trial not in alive:
                        trial.status, trial.note = "pruned", f"pruned at {describe_part(part)}"
            else:
                alive = [trial for trial in alive if trial.status != "failed"]

    def select(self, ranked: Sequence[Trial]) -> list[Trial]:
        """The better half of ranked trials, at least `LEAST`, the best of each recipe without a finished trial, and
        those whose fit on all rows is there, from a sweep of fewer trials."""
        count = max(LEAST, (len(ranked) + 1) // 2)
        done = {trial.name for trial in self.trials if trial.status == "finished"}
        selected = []
        for place, trial in enumerate(ranked):
            if place < count or trial.name not in done or self.results.load(trial, 1) is not None:
                selected.append(trial)
            done.add(trial.name)
        return selected

    def send(self, alive: Sequence[Trial], part: int, workers: FitWorkers) -> None:
        """Let workers fit those trials for which there is time; `fit` reads their results."""
        missing: list[Trial] = []
        for trial in alive:
            if self.results.load(trial, part) is None and self.has_time(trial, part, alive, missing):
                missing.append(trial)
        failures = workers(missing, part) if missing else {}
        self.sent |= {(trial.key, part): failures.get(trial.key, "") for trial in missing}

    def fit(self, trial: Trial, part: int, alive: Sequence[Trial], place: int) -> bool:
        """Fit a trial on a part of the rows, or read its result; False if it failed or there is no time for it.

        `alive` are the trials of the round that are left, `place` the position of this one.
        """
        fit = self.results.load(trial, part)
        is_new = fit is None or (trial.key, part) in self.sent
        if fit is None:
            if (trial.key, part) in self.sent:
                self.fail(trial, part, self.sent[trial.key, part] or NO_RESULT)
                return False
            if self.workers is not None or not self.has_time(trial, part, alive):
                self.is_stopped, trial.note = True, f"{describe_part(part)} would not have been fitted in time"
                return False
            fit = self.try_fit(trial, part)
            if fit is None:
                return False
        error = float(np.mean(np.abs(fit.quotes - self.material.truths)))
        trial.errors[part], trial.seconds[part] = error, fit.seconds
        self.clock.record(trial, part, fit.seconds)
        if is_new:
            self.note_error(trial, part, alive, place)
        if part == 1:
            self.finish(trial, fit)
        return True

    def has_time(self, trial: Trial, part: int, alive: Sequence[Trial], before: Sequence[Trial] = ()) -> bool:
        """Whether a fit on a part of the rows fits into the minutes after those of `before`, and the fit of the same
        trial on all rows after it."""
        known = [seconds for other in (trial, *alive) if (seconds := self.clock.expect(other, 1)) is not None]
        first = sum(self.clock.expect(other, part) or 0.0 for other in before)
        return self.clock.allows(trial, part, reserve=first + (known[0] if known and part != 1 else 0.0))

    def try_fit(self, trial: Trial, part: int) -> TrialFit | None:
        """Fit and evaluate; None, with a note, if the fit fails for a reason that is no defect."""
        started = time.perf_counter()
        try:
            return run_trial(trial, part, self.material, self.results, self.progress)
        except Exception as error:
            if (reason := describe_failure(error)) is None:
                raise
        self.clock.spent += time.perf_counter() - started
        self.fail(trial, part, reason)
        return None

    def fail(self, trial: Trial, part: int, reason: str) -> None:
        """Count a trial as failed, and say why."""
        trial.status, trial.note = "failed", reason
        self.progress.note(f"Trial {trial.number} ({trial.label}) failed: {reason}")
        shutil.rmtree(self.results.model_folder(trial, part), ignore_errors=True)

    def finish(self, trial: Trial, fit: TrialFit) -> None:
        """Count a trial as finished, and keep the model files of the best one only."""
        trial.status, trial.note = "finished", ""
        self.quotes[trial.key], self.fit_seconds[trial.key] = fit.quotes, fit.fit_seconds
        worse = trial
        if self.best is None or trial.errors[1] < self.best.errors[1]:
            worse, self.best = self.best or trial, trial
        if worse is not self.best:
            shutil.rmtree(self.results.model_folder(worse, 1), ignore_errors=True)

    def note_error(self, trial: Trial, part: int, alive: Sequence[Trial], place: int) -> None:
        """One line about a fit, with the time that is left at the speed so far."""
        mae = format_money(trial.errors[part], self.material.catalog.currency)
        took = format_duration(trial.seconds[part])
        left = self.estimate_left(part, alive, place)
        after = f"; about {format_duration(left)} left" if left is not None and left > 1 else ""
        self.progress.note(f"Trial {trial.number} on {describe_part(part)}: {trial.label}: MAE {mae}, {took}{after}")

    def estimate_left(self, part: int, alive: Sequence[Trial], place: int) -> float | None:
        """Seconds to the end of the sweep after a trial at `place`, as fits take on average; None if unknown."""
        here = self.clock.expect_all(alive[place + 1 :], part)
        later = [other for other in self.parts if other < part]
        sizes = rung_sizes(len(self.select(alive)) if part != 1 else 0, later, LEAST)
        rounds_left = self.max_trials - len(self.trials)
        seconds = [here, self.expect_rungs(alive, sizes)]
        if rounds_left > 0:
            per_trial = self.expect_rungs(self.trials, rung_sizes(len(self.trials), self.parts, LEAST))
            seconds.append(None if per_trial is None else per_trial * rounds_left / len(self.trials))
        known = [value for value in seconds if value is not None]
        if len(known) < len(seconds):
            return None
        return (
            sum(known) if self.clock.limit is None else min(sum(known), max(0.0, self.clock.limit - self.clock.spent))
        )

    def expect_rungs(self, trials: Sequence[Trial], sizes: Sequence[tuple[int, int]]) -> float | None:
        """Seconds of rungs, each of some fits on a part of the rows, at the average of the given trials."""
        total = 0.0
        for part, count in sizes:
            seconds = self.clock.expect_all(trials, part)
            if seconds is None:
                return None
            total += seconds * count / len(trials)
        return total


def describe_failure(error: Exception) -> str | None:
    """Why a fit failed, for errors that depend on its settings, such as too little memory; None for a defect."""
    if isinstance(error, PricesmithError):
        return f"{error.what} ({error.got})" if error.got else error.what
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":  # of PyTorch
        return "there is not enough memory"
    return None
