"""The flow of `pricesmith learning-curve`: a cheap recipe is fitted on nested parts of the training rows and judged, then told.

Every fit is kept in the folder when it is done, so the same command after a kill goes on with the first that is not.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pricesmith.catalog.catalog import Catalog
from pricesmith.core.atomic import read_json
from pricesmith.core.errors import UsageError
from pricesmith.core.folders import build_folder
from pricesmith.core.progress import SILENT, Progress
from pricesmith.core.settings import parse_settings
from pricesmith.core.types import Recipe
from pricesmith.learning_curve import categories, power_law
from pricesmith.learning_curve.fits import (
    TASK_FOLDER,
    WITHOUT_FIT,
    FitMaterial,
    FitResult,
    FitTask,
    build_material,
    build_tasks,
    check_recipe,
    run_task,
    select_rows,
)
from pricesmith.learning_curve.page import write_page
from pricesmith.learning_curve.schema import FitNoise, LearningCurve
from pricesmith.pricers.recipes import get_settings, measured_figures

MARKER = "advice.json"
POINTS = "points"
PAGE_NAME = "advice.html"
DRAWS = 4
LEFT_OUT = {
    "lora_tokens": 2_000,
    "lora_bins": 2_000,
}  # a language model reads a row in the time a cheap one needs for many
MOST_LEFT_OUT = 50_000


def measure_learning_curve(
    catalog: Catalog,
    to: Path,
    recipe: Recipe,
    *,
    draws: int = DRAWS,
    left_out: int | None = None,
    overwrite: bool = False,
    progress: Progress = SILENT,
) -> LearningCurve:
    """Advice about a catalog, by the learning curve of a recipe, kept in the folder `to`.

    `draws` fits are made of each part of the rows; at most `left_out` training rows are judged by fits that left them
    out. Raises UsageError for a recipe that is made of other runs or a folder made with other settings, InputError
    where there are too few rows.
    """
    check_recipe(recipe)
    if draws < 1:
        raise UsageError("There must be a draw", got=f"--repeats {draws}", allowed="1 or more")
    most = LEFT_OUT.get(recipe.kind, MOST_LEFT_OUT) if left_out is None else max(0, left_out)
    settings = {**get_settings(recipe), "catalog": catalog.fingerprint, "draws": draws, "left_out": most}
    inputs = [catalog.path]
    with build_folder(Path(to), MARKER, settings, overwrite=overwrite, noun="folder of advice", inputs=inputs) as build:
        if build is None:
            progress.note(f"{to} is finished already, made by the same command.")
            return read_result(Path(to))
        material = build_material(catalog, recipe.kind, most)
        points = build.folder / POINTS
        points.mkdir(exist_ok=True)
        try:
            done = fit_points(material, recipe, draws, points, progress)
        except BaseException:
            build.keep = any(points.glob("*.npz")) or any(points.glob("*/checkpoints/checkpoint-*"))
            raise
        build.keep = True
        progress.start("reading the curve")
        found = build_result(material, recipe, draws, done)
        write_page(found, build.folder / PAGE_NAME)
        build.finish({"advice": found.model_dump(mode="json")})
    return found


def fit_points(
    material: FitMaterial, recipe: Recipe, draws: int, folder: Path, progress: Progress
) -> dict[FitTask, FitResult]:
    """Every fit of the curve, after an estimate; what is kept is not done again."""
    tasks = build_tasks(draws)
    kept = [task for task in tasks if (folder / f"{task.name}.npz").is_file()]
    progress.note(estimate(material, recipe.kind, tasks, len(kept)))
    done: dict[FitTask, FitResult] = {}
    began, rows, known = time.perf_counter(), 0, measured_figures(recipe.kind, 1) is not None
    for task in tasks:
        done[task] = run_task(task, material, recipe, folder, progress)
        if task in kept:
            continue
        first = not rows
        rows += len(material.train) // task.part
        left = sum(len(material.train) // one.part for one in tasks if one not in done and one not in kept)
        if first and left and not known:
            seconds = (time.perf_counter() - began) * left / rows
            progress.note(f"At the pace of the first fit, at most about {max(1.0, seconds / 60):,.0f} minutes more.")
    return done


def estimate(material: FitMaterial, kind: str, tasks: Sequence[FitTask], kept: int) -> str:
    """What is about to be done, and how long it takes where that was measured."""
    rows = sum(len(material.train) // task.part for task in tasks)
    told = f"{len(tasks)} fits of {kind} on {rows:,} rows in all, judged on {len(material.held):,} rows of validation"
    if kept:
        told += f"; {kept} are kept from before"
    largest = measured_figures(kind, len(material.train))
    if largest is None:
        return f"{told}. How long that takes is told after the first."
    each = [measured_figures(kind, len(material.train) / task.part) for task in tasks]
    seconds, memory = sum(one[0] for one in each if one), largest[1]
    length = f"{seconds / 60:.0f} minutes" if seconds > 120 else f"{max(5.0, seconds):.0f} seconds"
    return f"{told}: about {length} of fitting on two cores, about {memory:.1f} GB of memory."


def build_result(material: FitMaterial, recipe: Recipe, draws: int, done: Mapping[FitTask, FitResult]) -> LearningCurve:
    """The advice that fits give."""
    truth, codes = material.truths, material.codes
    tasks = {part: [task for task in done if task.part == part] for part in TASK_FOLDER}
    rows = [int(np.mean([select_rows(material.names, task).sum() for task in tasks[part]])) for part in TASK_FOLDER]
    errors = [np.stack([np.abs(done[task].held - truth) for task in tasks[part]]) for part in TASK_FOLDER]
    seconds = [float(np.mean([done[task].seconds for task in tasks[part]])) for part in TASK_FOLDER]
    points = power_law.point_positions(TASK_FOLDER, rows, errors, codes, seconds)
    best = done[FitTask(1, 0)].held
    outside = categories.LeftOut(material, done, (4, 2))
    needs, overall, small = categories.category_gains(outside)
    catalog = material.catalog
    return LearningCurve(
        catalog=catalog.name,
        fingerprint=catalog.fingerprint,
        currency=catalog.currency,
        recipe=recipe.kind,
        rows=len(material.train),
        judged=len(material.held),
        groups=int(codes.max()) + 1,
        held="validation" if recipe.kind in WITHOUT_FIT else "the half of validation that fits do not learn from",
        draws=draws,
        points=points,
        doubling=power_law.double_rows(points, power_law.draw_curves(errors, codes)),
        bands=categories.by_price(truth, best, codes),
        categories=categories.by_category(truth, best, codes, [item.listing.category for item in material.held]),
        needs=needs,
        overall_gain=overall,
        unmeasured=small,
        noise=measure_noise(catalog.ledger),
        seconds=round(sum(one.seconds for one in done.values()), 3),
    )


def measure_noise(ledger: Mapping[str, Any]) -> FitNoise | None:
    """The label noise that curate has found; None where no two rows share their text."""
    known = ledger.get("groups", {}).get("label_noise") or {}
    if not known.get("pairs"):
        return None
    return FitNoise(rows=known["rows"], difference=known["median_relative_difference"], floor=known["mean_error_floor"])


def read_result(folder: Path) -> LearningCurve:
    """The advice that a folder holds. Raises InputError where it is damaged."""
    return parse_settings(LearningCurve, read_json(folder / MARKER).get("advice", {}), where=str(folder / MARKER))


def default_folder(catalog: Path) -> Path:
    """Where advice about a catalog goes when nobody says: beside it."""
    place = Path(catalog).resolve()
    return place.with_name(f"{place.name}-advice")
