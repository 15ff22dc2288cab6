"""Which settings a sweep tries: a grid, or TPE (tree-structured Parzen estimator) through Optuna.

    for trials in rounds(space, "tpe", trials=24, seed=0, history=history): ...

A search proposes trials in rounds. A grid is one round. TPE proposes `ROUND` trials at a time from the results of all
rounds before: each round has a study in memory with the earlier trials and a sampler with a seed of its own, so that
the proposals depend on the seed and on those results alone, whether the sweep was interrupted or not.
"""

from __future__ import annotations

import hashlib
import json
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.util import find_spec
from typing import Any, Literal

from pricesmith.core.errors import MissingExtra, UsageError
from pricesmith.core.progress import Progress
from pricesmith.core.types import Recipe
from pricesmith.pricers.recipes import get_settings
from pricesmith.sweeping.space import RecipeSpace, SearchSpace, ValueList

Method = Literal["grid", "tpe"]
METHODS = ("auto", "grid", "tpe")
TRIALS = 24  # of a search that is not a whole grid
SMALL_GRID = 32  # lists of values with at most as many combinations are a grid by default
ROUND = 8  # trials that TPE proposes at a time
ATTEMPTS = 30  # proposals of TPE that were tried before, until others are drawn at random
RANDOM_ATTEMPTS = 300  # of those, until the search ends
Status = Literal["finished", "pruned", "failed", "unfinished"]


@dataclass
class Trial:
    """One proposal: a recipe, the searched settings, and what came of it.

    `errors` has the MAE by part of the rows (8: an eighth), `seconds` the time of its fits on each of them. `proposal`
    are the values as TPE proposed them.
    """

    number: int
    name: str
    recipe: Recipe
    settings: Mapping[str, Any]
    proposal: Mapping[str, Any] = field(default_factory=dict)
    errors: dict[int, float] = field(default_factory=dict)
    seconds: dict[int, float] = field(default_factory=dict)
    status: Status = "unfinished"
    note: str = ""

    @property
    def key(self) -> str:
        """The name of its files: the kind, and a hash of all settings."""
        settings = json.dumps(get_settings(self.recipe), sort_keys=True)
        return f"{self.recipe.kind}-{hashlib.sha256(settings.encode()).hexdigest()[:16]}"

    @property
    def label(self) -> str:
        """The recipe and the searched settings: `ridge, alpha 0.3, min_df 2`."""
        return ", ".join([self.name, *(f"{name} {format_value(value)}" for name, value in self.settings.items())])


def format_value(value: Any) -> str:
    """A value of a setting for people."""
    if isinstance(value, float):
        return f"{value:.4g}"
    return ", ".join(map(format_value, value)) if isinstance(value, list) else str(value)


def choose_method(method: str, space: SearchSpace, progress: Progress) -> Method:
    """The method of a sweep. `auto` is a grid for a few lists of values, else TPE; a grid if Optuna is not installed.

    Raises UsageError for an unknown method, MissingExtra for TPE without Optuna.
    """
    if method not in METHODS:
        raise UsageError("--method is not a method", got=method, allowed=", ".join(METHODS), hint="Leave --method out.")
    has_optuna = find_spec("optuna") is not None
    if method == "tpe" and not has_optuna:
        raise MissingExtra("--method tpe needs Optuna (or use --method grid)", "sweep")
    if method == "grid" or (method == "auto" and not space.has_ranges and space.grid_size <= SMALL_GRID):
        return "grid"
    if not has_optuna:
        progress.note("Optuna is not installed (pip install 'pricesmith[sweep]'), so the sweep samples a grid.")
        return "grid"
    return "tpe"


def rounds(space: SearchSpace, method: Method, trials: int, seed: int) -> Iterator[list[Trial]]:
    """The rounds of a search. The results of each must be written to its trials before the next is asked for."""
    if method == "grid":
        yield number_trials([(space.recipes[index], point, {}) for index, point in space.grid(trials, seed)])
        return
    history: list[Trial] = []
    while len(history) < trials:
        proposed = propose(space, history, min(ROUND, trials - len(history)), seed)
        if not proposed:
            return
        history += proposed
        yield proposed


def number_trials(
    points: list[tuple[RecipeSpace, Mapping[str, Any], Mapping[str, Any]]], first: int = 1
) -> list[Trial]:
    """Trials of points of recipes, numbered from `first`; points that are the same recipe count once.

    Raises UsageError for values that do not fit together.
    """
    trials: list[Trial] = []
    keys: set[str] = set()
    for recipe, point, proposal in points:
        trial = Trial(first + len(trials), recipe.name, recipe.build(point), point, proposal)
        if trial.key not in keys:
            keys.add(trial.key)
            trials.append(trial)
    return trials


def propose(space: SearchSpace, history: list[Trial], count: int, seed: int) -> list[Trial]:
    """The next trials of TPE: in the first round each recipe as it is, if that is in the space, then what the sampler
    proposes; fewer than `count` if the space has no more.

    Raises UsageError, that of the last combination, if the values of no combination fit together.
    """
    from optuna.samplers import RandomSampler

    keys = {trial.key for trial in history}
    trials: list[Trial] = []
    refused: UsageError | None = None
    with open_study(space, history, seed) as study:
        if not history:
            for recipe in space.recipes[:count]:
                if (point := recipe.default_point) is not None:
                    study.enqueue_trial(encode_point(space, recipe, point))
        repeated = 0
        while len(trials) < count and repeated < ATTEMPTS + RANDOM_ATTEMPTS:
            if repeated == ATTEMPTS:  # what TPE likes was tried; something else may be new
                study.sampler = RandomSampler(seed=draw_seed(seed, len(history)))
            proposal = study.ask()  # a repetition stays open, and the sampler avoids what is near open proposals
            recipe, point = suggest(proposal, space)
            number = len(history) + len(trials) + 1
            try:
                trial = Trial(number, recipe.name, recipe.build(point), point, dict(proposal.params))
            except UsageError as error:  # values that do not fit together
                trial, refused = None, error
            if trial is None or trial.key in keys:
                repeated += 1
                continue
            repeated = 0 if repeated < ATTEMPTS else repeated
            keys.add(trial.key)
            trials.append(trial)
    if refused is not None and not trials and not history:
        raise refused
    return trials


def draw_seed(seed: int, trials: int) -> int:
    """The seed of a sampler after some trials."""
    return int.from_bytes(hashlib.sha256(f"{seed} {trials}".encode()).digest()[:4], "big")


@contextmanager
def open_study(space: SearchSpace, history: list[Trial], seed: int) -> Iterator[Any]:
    """A study in memory with the finished and the pruned trials of `history`, and a sampler for the next round."""
    import optuna

    verbosity = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)  # of `group`
            sampler = optuna.samplers.TPESampler(
                seed=draw_seed(seed, len(history)), n_startup_trials=ROUND, multivariate=True, group=True
            )
            study = optuna.create_study(direction="minimize", sampler=sampler)
            study.add_trials([frozen_trial(space, trial) for trial in history if trial.errors])
            yield study
    finally:
        optuna.logging.set_verbosity(verbosity)


def frozen_trial(space: SearchSpace, trial: Trial) -> Any:
    """A trial as Optuna knows it: complete with its error on all rows, or pruned with its error on each part."""
    from optuna.trial import TrialState, create_trial

    params = dict(trial.proposal)
    allowed = {name: distribution for name, distribution in distributions(space).items() if name in params}
    steps = {1000 // part: error for part, error in trial.errors.items()}
    if 1 in trial.errors:
        return create_trial(params=params, distributions=allowed, value=trial.errors[1], intermediate_values=steps)
    return create_trial(state=TrialState.PRUNED, params=params, distributions=allowed, intermediate_values=steps)


RECIPE = "recipe"  # the name of the choice of a recipe in a study


def distributions(space: SearchSpace) -> dict[str, Any]:
    """The distribution of each choice, by its name in a study: `recipe`, `0.alpha`."""
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    named: dict[str, Any] = {RECIPE: CategoricalDistribution(tuple(range(len(space.recipes))))}
    for number, recipe in enumerate(space.recipes):
        for name, axis in recipe.axes.items():
            if isinstance(axis, ValueList):  # by position: Optuna knows no lists as values
                named[f"{number}.{name}"] = CategoricalDistribution(tuple(range(len(axis.values))))
            elif axis.integer:
                named[f"{number}.{name}"] = IntDistribution(int(axis.low), int(axis.high), log=axis.log)
            else:
                named[f"{number}.{name}"] = FloatDistribution(axis.low, axis.high, log=axis.log)
    return named


def suggest(proposal: Any, space: SearchSpace) -> tuple[RecipeSpace, dict[str, Any]]:
    """The recipe and the settings that a trial of Optuna proposes."""
    number = proposal.suggest_categorical(RECIPE, tuple(range(len(space.recipes))))
    recipe = space.recipes[number]
    point: dict[str, Any] = {}
    for name, axis in recipe.axes.items():
        choice = f"{number}.{name}"
        if isinstance(axis, ValueList):
            point[name] = axis.values[proposal.suggest_categorical(choice, tuple(range(len(axis.values))))]
        elif axis.integer:
            point[name] = axis.round(proposal.suggest_int(choice, int(axis.low), int(axis.high), log=axis.log))
        else:
            point[name] = axis.round(proposal.suggest_float(choice, axis.low, axis.high, log=axis.log))
    return recipe, point


def encode_point(space: SearchSpace, recipe: RecipeSpace, point: Mapping[str, Any]) -> dict[str, Any]:
    """Settings as the choices of a study."""
    number = space.recipes.index(recipe)
    encoded: dict[str, Any] = {RECIPE: number}
    for name, axis in recipe.axes.items():
        encoded[f"{number}.{name}"] = axis.values.index(point[name]) if isinstance(axis, ValueList) else point[name]
    return encoded
