"""`pricesmith learning-curve`: a recipe is fitted on nested parts of the training rows, and each fit is evaluated.

Every fit is saved in the folder when it is done, so the same command resumes with the first one that is missing.
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
from pricesmith.learning_curve import categories
from pricesmith.learning_curve.curve import LabelNoise, LearningCurve, build_points, draw_curves, forecast_doubling
from pricesmith.learning_curve.fits import (
    PARTS,
    WITHOUT_VALIDATION,
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
from pricesmith.pricers.recipes import get_settings, measured_figures

MARKER = "learning_curve.json"
PAGE_NAME = "learning_curve.html"
FITS_FOLDER = "fits"
REPEATS = 4
MAX_LEFT_OUT = 50_000
MAX_LEFT_OUT_LLM = 2_000  # a language model prices a row in the time in which a cheap model prices many
LLM_KINDS = ("lora_tokens", "lora_bins")


def measure_learning_curve(
    catalog: Catalog,
    to: Path,
    recipe: Recipe,
    *,
    repeats: int = REPEATS,
    left_out: int | None = None,
    overwrite: bool = False,
    progress: Progress = SILENT,
) -> LearningCurve:
    """Measure the learning curve of a recipe on a catalog, write the folder `to` and return the result.

    Each part of the rows is fitted `repeats` times; at most `left_out` training rows are priced by fits that left them
    out (default: 50,000, or 2,000 for language models). Raises UsageError for a recipe made of other models or a folder
    made with other settings, InputError if there are too few rows.
    """
    check_recipe(recipe)
    if repeats < 1:
        raise UsageError("--repeats is too small", got=f"--repeats {repeats}", allowed="1 or more")
    default = MAX_LEFT_OUT_LLM if recipe.kind in LLM_KINDS else MAX_LEFT_OUT
    max_left_out = default if left_out is None else max(0, left_out)
    settings = {
        **get_settings(recipe),
        "catalog": catalog.fingerprint,
        "repeats": repeats,
        "left_out": max_left_out,
    }
    noun, inputs = "learning curve folder", [catalog.path]
    with build_folder(Path(to), MARKER, settings, overwrite=overwrite, noun=noun, inputs=inputs) as build:
        if build is None:
            progress.note(f"{to} is already finished with the same settings.")
            return read_result(Path(to))
        material = build_material(catalog, recipe.kind, max_left_out)
        folder = build.folder / FITS_FOLDER
        folder.mkdir(exist_ok=True)
        try:
            results = run_fits(material, recipe, repeats, folder, progress)
        except BaseException:
            build.keep = any(folder.glob("*.npz")) or any(folder.glob("*/checkpoints/checkpoint-*"))
            raise
        build.keep = True
        progress.start("fitting the learning curve")
        result = build_result(material, recipe, repeats, results)
        write_page(result, build.folder / PAGE_NAME)
        build.finish({"learning_curve": result.model_dump(mode="json")})
    return result


def run_fits(
    material: FitMaterial, recipe: Recipe, repeats: int, folder: Path, progress: Progress
) -> dict[FitTask, FitResult]:
    """Return the result of every fit of the curve, after an estimate of the time; saved results are read again."""
    tasks = build_tasks(repeats)
    saved = [task for task in tasks if (folder / f"{task.name}.npz").is_file()]
    progress.note(estimate(material, recipe.kind, tasks, len(saved)))
    results: dict[FitTask, FitResult] = {}
    started, rows, has_figures = time.perf_counter(), 0, measured_figures(recipe.kind, 1) is not None
    for task in tasks:
        results[task] = run_task(task, material, recipe, folder, progress)
        if task in saved:
            continue
        first = not rows
        rows += len(material.train) // task.part
        waiting = [other for other in tasks if other not in results and other not in saved]
        rows_left = sum(len(material.train) // other.part for other in waiting)
        if first and rows_left and not has_figures:
            seconds = (time.perf_counter() - started) * rows_left / rows
            progress.note(
                f"At the speed of the first fit, about {max(1.0, seconds / 60):,.0f} minutes are left at most."
            )
    return results


def estimate(material: FitMaterial, kind: str, tasks: Sequence[FitTask], saved: int) -> str:
    """Return what will be fitted, and the time and memory it takes if they were measured for this kind."""
    rows = sum(len(material.train) // task.part for task in tasks)
    n_evaluated = len(material.evaluated)
    plan = f"{len(tasks)} fits of {kind} on {rows:,} rows in total, evaluated on {n_evaluated:,} validation rows"
    if saved:
        plan += f"; {saved} are finished already"
    largest = measured_figures(kind, len(material.train))
    if largest is None:
        return f"{plan}. The first fit gives an estimate of the time."
    figures = [measured_figures(kind, len(material.train) / task.part) for task in tasks]
    seconds, memory = sum(figure[0] for figure in figures if figure), largest[1]
    duration = f"{seconds / 60:.0f} minutes" if seconds > 120 else f"{max(5.0, seconds):.0f} seconds"
    return f"{plan}: about {duration} of fitting on two cores, about {memory:.1f} GB of memory."


def build_result(
    material: FitMaterial, recipe: Recipe, repeats: int, results: Mapping[FitTask, FitResult]
) -> LearningCurve:
    """Compute the learning curve from the results of all fits."""
    truth, codes = material.truths, material.group_codes
    tasks = {part: [task for task in results if task.part == part] for part in PARTS}
    rows = [int(np.mean([select_rows(material.train_groups, task).sum() for task in tasks[part]])) for part in PARTS]
    errors = [np.stack([np.abs(results[task].evaluated - truth) for task in tasks[part]]) for part in PARTS]
    seconds = [float(np.mean([results[task].seconds for task in tasks[part]])) for part in PARTS]
    points = build_points(PARTS, rows, errors, codes, seconds)
    quote = results[FitTask(1, 0)].evaluated
    labels = [item.listing.category for item in material.evaluated]
    left_out = categories.LeftOutErrors(material, results, (4, 2))
    gains, overall, small = categories.measure_category_gains(left_out)
    catalog = material.catalog
    uses_validation = recipe.kind not in WITHOUT_VALIDATION
    return LearningCurve(
        catalog=catalog.name,
        fingerprint=catalog.fingerprint,
        currency=catalog.currency,
        recipe=recipe.kind,
        rows=len(material.train),
        n=len(material.evaluated),
        n_groups=int(codes.max()) + 1,
        evaluated_on="the half of validation that no fit learns from" if uses_validation else "validation",
        repeats=repeats,
        points=points,
        doubling=forecast_doubling(points, draw_curves(errors, codes)),
        price_bands=categories.shares_by_price(truth, quote, codes),
        categories=categories.shares_by_category(truth, quote, codes, labels),
        category_gains=gains,
        overall_gain=overall,
        small_categories=small,
        label_noise=read_label_noise(catalog.ledger),
        fit_seconds=round(sum(result.seconds for result in results.values()), 3),
    )


def read_label_noise(ledger: Mapping[str, Any]) -> LabelNoise | None:
    """Return the label noise that curate measured; None if no two rows share their text at different prices."""
    noise = ledger.get("groups", {}).get("label_noise") or {}
    if not noise.get("pairs"):
        return None
    return LabelNoise(
        rows=noise["rows"],
        median_relative_difference=noise["median_relative_difference"],
        mae_floor=noise["mean_error_floor"],
    )


def read_result(folder: Path) -> LearningCurve:
    """Read the learning curve of a finished folder. Raises InputError if it is damaged."""
    values = read_json(folder / MARKER).get("learning_curve", {})
    return parse_settings(LearningCurve, values, where=str(folder / MARKER))


def default_folder(catalog: Path) -> Path:
    """Return the default folder for a catalog's learning curve, beside the catalog."""
    path = Path(catalog).resolve()
    return path.with_name(f"{path.name}-learning-curve")
