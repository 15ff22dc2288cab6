"""`pricesmith sweep`: search the settings of recipes, write the leaderboard, and fit the best one into a model folder.

The result of every fit is a file of its own in OUT/trials, so the same command resumes with the first missing one: the
search is repeated from its start, and what is there is read instead of fitted. A finished sweep with a larger --trials
or --minutes goes on in the same way.
"""

from __future__ import annotations

import math
import shutil
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from pricesmith.base_models.memory import plan_for_hardware
from pricesmith.catalog.catalog import Catalog
from pricesmith.core.atomic import atomic_file, is_complete, read_json
from pricesmith.core.build_file import SWEEP_FILE, SWEEP_MODEL
from pricesmith.core.errors import PricesmithError, UsageError
from pricesmith.core.folders import FolderBuild, build_folder
from pricesmith.core.model_files import read_object, report_damage
from pricesmith.core.progress import SILENT, Progress, format_duration
from pricesmith.core.types import Recipe
from pricesmith.pricers.fitting import FittedFiles, fit_model
from pricesmith.pricers.model import MANIFEST
from pricesmith.pricers.recipes import get_settings
from pricesmith.sweeping.budget import SweepClock, rung_sizes
from pricesmith.sweeping.halving import LEAST, Halving
from pricesmith.sweeping.records import build_records
from pricesmith.sweeping.remote import open_workers
from pricesmith.sweeping.result import NO_MORE, NO_TIME, SweepResult
from pricesmith.sweeping.search import SMALL_GRID, TRIALS, Method, Trial, choose_method, rounds
from pricesmith.sweeping.space import SearchSpace, ValueList
from pricesmith.sweeping.trials import TrialFolder, build_sweep_material, has_work, usable_parts

TRIALS_FOLDER = "trials"
NOUN = "sweep folder"
MAX_TRIALS = 10_000


def run_sweep(
    catalog: Catalog,
    to: Path,
    space: SearchSpace,
    *,
    trials: int | None = None,
    minutes: float | None = None,
    method: str = "auto",
    seed: int = 0,
    cluster: str | None = None,
    overwrite: bool = False,
    progress: Progress = SILENT,
) -> SweepResult:
    """Search the settings of the recipes of `space` on a catalog, write the folder `to` and return the result.

    `trials` is the number of trials (default: 24, or the whole grid with method `grid`), `minutes` the time for all
    fits, those of interrupted processes and of all nodes of a `cluster` included. The model of the best trial is
    written to `to`/model.

    Raises UsageError for a wrong option, too few minutes for one fit, or a folder made with other settings,
    MissingExtra without Optuna for method `tpe`, PricesmithError if no trial could be fitted.
    """
    check_limits(trials, minutes)
    to = Path(to)
    chosen = choose_method(method, space, progress)
    max_trials = limit_trials(trials, space, method, chosen)
    settings = {"catalog": catalog.fingerprint, "method": chosen, "seed": seed, "space": space.to_dict()}
    previous = None if overwrite else read_previous(to, settings)
    goes_on = previous is not None and is_extended(previous, max_trials, minutes)
    options: dict[str, Any] = {"overwrite": overwrite or goes_on, "resume": goes_on, "noun": NOUN}
    with build_folder(to, SWEEP_FILE, settings, inputs=[catalog.path], **options) as build:
        if build is None:
            progress.note(f"{to} is already finished with the same settings.")
            return read_result(to)
        folder = build.folder / TRIALS_FOLDER
        folder.mkdir(exist_ok=True)
        try:
            if goes_on:
                copy_results(to / TRIALS_FOLDER, folder)
            halving = prepare(catalog, space, folder, max_trials, minutes, progress)
            with ExitStack() as stack:
                if cluster is not None:
                    workers = open_workers(cluster, catalog, space.kinds, halving.results, progress)
                    halving.workers = stack.enter_context(workers)
                search(halving, space, chosen, seed)
            progress.start("comparing the trials")
            result = build_result(halving, space, chosen, seed, minutes)
            fit_best(halving, catalog, build, to, previous if goes_on else None)
        except BaseException:
            build.keep = has_work(folder)
            raise
        build.keep = True
        for fitting in folder.glob("*.fitting"):
            shutil.rmtree(fitting)
        build.finish({"sweep": result.model_dump(mode="json")})
    return result


def prepare(
    catalog: Catalog, space: SearchSpace, folder: Path, max_trials: int, minutes: float | None, progress: Progress
) -> Halving:
    """What runs the trials, with results in `folder`. Raises InputError for a missing base or too few rows."""
    check_bases(space)
    material = build_sweep_material(catalog, space.kinds)
    n_rows = len(material.train)
    clock = SweepClock(None if minutes is None else 60 * minutes, n_rows)
    results = TrialFolder(folder, len(material.evaluated))
    return Halving(material, results, clock, usable_parts(n_rows), max_trials, progress)


def check_limits(trials: int | None, minutes: float | None) -> None:
    """Raise UsageError for limits that allow nothing."""
    if trials is not None and trials < 1:
        raise UsageError(
            "--trials is too small", got=f"--trials {trials}", allowed="1 or more", hint="Use --trials 24."
        )
    if minutes is not None and not (minutes > 0 and math.isfinite(minutes)):
        raise UsageError(
            "--minutes is not a time",
            got=f"--minutes {minutes:g}",
            allowed="a number above 0",
            hint="Use --minutes 30.",
        )


def limit_trials(trials: int | None, space: SearchSpace, method: str, chosen: Method) -> int:
    """The number of trials of a sweep, at most those of a grid. Raises UsageError for more than `MAX_TRIALS`."""
    is_whole = method == "grid" or (not space.has_ranges and space.grid_size <= SMALL_GRID)
    wanted = trials or (space.grid_size if chosen == "grid" and is_whole else TRIALS)
    count = min(wanted, space.grid_size) if chosen == "grid" else wanted
    if count > MAX_TRIALS:
        raise UsageError(
            "The sweep would have too many trials",
            got=f"--trials {trials}" if trials else f"a grid of {space.grid_size:,} combinations",
            allowed=f"{MAX_TRIALS:,} or fewer",
            hint=f"Use --trials {TRIALS}.",
        )
    return count


def check_bases(space: SearchSpace) -> None:
    """Raise InputError if a base model of the space cannot be found, before anything is fitted."""
    for recipe in space.recipes:
        axis = recipe.axes.get("base")
        bases = axis.values if isinstance(axis, ValueList) else (get_settings(recipe.base).get("base"),)
        for base in bases:
            if base:
                plan_for_hardware(recipe.build({"base": base}))


def search(halving: Halving, space: SearchSpace, method: Method, seed: int) -> None:
    """Run all rounds of a search, until there are enough trials or no time is left.

    Raises UsageError if the minutes are too few for one fit on all rows.
    """
    for number, trials in enumerate(rounds(space, method, halving.max_trials, seed)):
        if number == 0:
            check_time(halving.clock, trials)
            halving.progress.note(describe_plan(halving, space, method, trials))
        halving.run_round(trials)
        if halving.is_stopped:
            break


def check_time(clock: SweepClock, trials: list[Trial]) -> None:
    """Raise UsageError if no fit on all rows is expected to end within the minutes."""
    expected = [clock.expect(trial, 1) for trial in trials]
    known = [seconds for seconds in expected if seconds is not None]
    if clock.limit is None or len(known) < len(expected) or min(known) <= clock.limit:
        return
    needed = math.ceil(min(known) / 6) / 10
    raise UsageError(
        "--minutes is too short for a single fit on all rows",
        got=f"--minutes {clock.limit / 60:g}",
        allowed=f"{needed:g} or more",
        hint=f"Use --minutes {math.ceil(4 * needed):g}, or faster recipes.",
    )


def describe_plan(halving: Halving, space: SearchSpace, method: Method, trials: list[Trial]) -> str:
    """What the sweep will do, and how long it takes if that was measured."""
    n_recipes = len(space.recipes)
    names = ", ".join(dict.fromkeys(recipe.name for recipe in space.recipes))
    what = f"a grid of {space.grid_size:,} combinations" if method == "grid" else "TPE"
    if method == "grid" and len(trials) < space.grid_size:
        what = f"a random sample of {what}"
    max_trials = len(trials) if method == "grid" else halving.max_trials
    sizes = rung_sizes(len(trials), halving.parts, max(LEAST, n_recipes))
    seconds = halving.expect_rungs(trials, sizes)
    plan = f"{max_trials} trials of {names} by {what}, evaluated on {len(halving.material.evaluated):,} validation rows"
    if saved := sum(1 for _ in halving.results.folder.glob("*.npz")):
        plan += f"; {saved} fits are finished already"
    if seconds is None:
        return f"{plan}. The first trials give an estimate of the time."
    seconds *= max_trials / len(trials)
    limit = halving.clock.limit
    limited = f"; --minutes allows {format_duration(limit)}" if limit is not None and limit < seconds else ""
    return f"{plan}: about {format_duration(max(5.0, seconds))} on two cores{limited}."


def build_result(halving: Halving, space: SearchSpace, method: Method, seed: int, minutes: float | None) -> SweepResult:
    """The result of a search. Raises PricesmithError if no trial was fitted on all rows."""
    material = halving.material
    if halving.best is None:
        raise no_trial(halving)
    is_whole = len(material.evaluated) == material.catalog.ledger["splits"].get("validation")
    enough = len(halving.trials) >= halving.max_trials
    return SweepResult(
        catalog=material.catalog.name,
        fingerprint=material.catalog.fingerprint,
        currency=material.catalog.currency,
        method=method,
        seed=seed,
        max_trials=halving.max_trials,
        minutes=minutes,
        parts=halving.parts,
        rows=len(material.train),
        n=len(material.evaluated),
        n_groups=int(material.group_codes.max()) + 1,
        evaluated_on="rows of validation" if is_whole else "rows of validation that no fit learns from",
        settings=get_settings(halving.best.recipe),
        trials=build_records(halving.trials, halving.quotes, halving.fit_seconds, material),
        stopped=NO_TIME if halving.is_stopped else "" if enough else NO_MORE,
        seconds=round(halving.clock.spent, 3),
    )


def no_trial(halving: Halving) -> PricesmithError:
    """The error for a search without a finished trial."""
    failed = [trial for trial in halving.trials if trial.status == "failed"]
    if failed:
        return PricesmithError(
            f"No trial could be fitted, {len(failed)} failed",
            got=f"trial {failed[0].number} ({failed[0].label}): {failed[0].note}",
            hint="Change the space and run the command again with --overwrite.",
        )
    limit = halving.clock.limit or 0.0
    return PricesmithError(
        "No trial was fitted on all rows before the minutes were over",
        got=f"--minutes {limit / 60:g}, {format_duration(halving.clock.spent)} spent",
        hint="Run the same command with more --minutes: finished fits are kept.",
    )


def fit_best(halving: Halving, catalog: Catalog, build: FolderBuild, to: Path, previous: SweepResult | None) -> None:
    """Write the model folder of the best trial, by the ordinary path, from the files of its fit if they are there."""
    best, model = halving.best, build.folder / SWEEP_MODEL
    assert best is not None
    files = halving.results.model_folder(best, 1)
    is_there = previous is not None and previous.settings == get_settings(best.recipe)
    recipe = plan_for_hardware(best.recipe, halving.progress)
    # An interrupted sweep may have written this model before, or that of another trial.
    if not is_model_of(model, recipe, catalog):
        if is_there and is_complete(to / SWEEP_MODEL, MANIFEST):
            copy_folder(to / SWEEP_MODEL, model)
        else:
            fitted = FittedFiles(files, halving.fit_seconds[best.key]) if files.is_dir() else None
            fit_model(recipe, catalog, model, fitted=fitted, overwrite=True, progress=halving.progress)
    for unfinished in ("building", "copy"):
        shutil.rmtree(build.folder / f".{SWEEP_MODEL}.{unfinished}", ignore_errors=True)
    (build.folder / f".{SWEEP_MODEL}.lock").unlink(missing_ok=True)


def is_model_of(folder: Path, recipe: Recipe, catalog: Catalog) -> bool:
    """Whether a folder is the finished model of a recipe that was fitted on a catalog."""
    if not is_complete(folder, MANIFEST):
        return False
    settings = read_object(folder / MANIFEST).get("settings")
    return bool(settings == {**get_settings(recipe), "catalog": catalog.fingerprint})


def copy_folder(source: Path, to: Path) -> None:
    """Replace the folder `to` by a copy of `source`; an interruption leaves no part of a copy in its place."""
    part = to.with_name(f".{to.name}.copy")
    shutil.rmtree(part, ignore_errors=True)
    shutil.copytree(source, part)
    shutil.rmtree(to, ignore_errors=True)
    part.rename(to)


def copy_results(source: Path, to: Path) -> None:
    """Copy the results of finished fits that `to` does not have."""
    for path in source.glob("*.npz"):
        if not (to / path.name).exists():
            with atomic_file(to / path.name) as temporary:
                shutil.copyfile(path, temporary)


def is_extended(previous: SweepResult, max_trials: int, minutes: float | None) -> bool:
    """Whether these limits extend a finished sweep."""
    if previous.stopped == NO_TIME and (minutes is None or minutes > (previous.minutes or math.inf)):
        return True
    return max_trials > previous.max_trials and previous.stopped != NO_MORE and previous.stopped != NO_TIME


def read_previous(to: Path, settings: Mapping[str, Any]) -> SweepResult | None:
    """The result of a finished sweep with the same settings; None if there is none."""
    if not is_complete(to, SWEEP_FILE):
        return None
    values = read_json(to / SWEEP_FILE)
    same = isinstance(values, dict) and values.get("settings") == settings
    return read_result(to) if same else None


def read_result(folder: Path) -> SweepResult:
    """Read the result of a finished sweep. Raises InputError if it is damaged."""
    values = read_object(folder / SWEEP_FILE)
    with report_damage(folder / SWEEP_FILE):
        return SweepResult.model_validate(values.get("sweep"))
