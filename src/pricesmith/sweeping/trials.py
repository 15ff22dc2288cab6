"""The fits of a sweep: a recipe on a nested part of the training rows, its quotes saved whole when they are done."""

from __future__ import annotations

import json
import shutil
import time
import zipfile
from collections.abc import Set
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pricesmith.base_models.memory import plan_for_hardware
from pricesmith.catalog.catalog import Catalog, half_of
from pricesmith.core.atomic import atomic_file
from pricesmith.core.errors import InputError
from pricesmith.core.progress import Progress
from pricesmith.core.types import EvalRow, Evaluation, Recipe
from pricesmith.learning_curve.fits import (
    WITHOUT_VALIDATION,
    FitMaterial,
    FitTask,
    fit_part,
    price_items,
    select_rows,
)
from pricesmith.metrics.metrics import Array
from pricesmith.pricers.recipes import get_settings
from pricesmith.sweeping.search import Trial

PARTS = (8, 4, 2, 1)
MIN_PART = 200  # training rows; errors of fits on fewer say little about fits on all
LLM_KINDS = ("lora_tokens", "lora_bins")
MAX_EVALUATED_LLM = 2_000  # a language model prices a row in the time in which others price many
MIN_GROUPS = 5  # evaluated near-duplicate groups; fewer have no interval


@dataclass(frozen=True)
class TrialFit:
    """The quotes of a fit for the evaluated items, shape (n,), the seconds of the fit, and those of all its work."""

    quotes: Array
    fit_seconds: float
    seconds: float


def build_sweep_material(catalog: Catalog, kinds: Set[str]) -> FitMaterial:
    """The rows of a sweep of recipes of some `kinds`. All trials are evaluated on the same ones: on validation if no
    recipe learns from it, else on the half that no fit learns from; on fewer with language models.

    Raises InputError if validation is too small.
    """
    train, train_groups = catalog.items_and_groups("train")
    items, groups = catalog.items_and_groups("validation")
    is_whole = kinds <= WITHOUT_VALIDATION
    evaluated = [
        (item, group) for item, group in zip(items, groups, strict=True) if is_whole or half_of(group) == "calibrate"
    ]
    if kinds & set(LLM_KINDS) and len(evaluated) > MAX_EVALUATED_LLM:
        part = len(evaluated) // MAX_EVALUATED_LLM + 1
        inside = select_rows([group for _, group in evaluated], FitTask(part, 0))
        evaluated = [pair for pair, is_inside in zip(evaluated, inside, strict=True) if is_inside]
    if len({group for _, group in evaluated}) < MIN_GROUPS or not train:
        raise InputError(
            f"{catalog.path} has too few validation rows to choose settings by",
            got=f"{len(evaluated)} rows",
            allowed=f"rows of {MIN_GROUPS} or more near-duplicate groups",
            hint="Curate it with a larger validation share, such as --split 80/10/10.",
        )
    return FitMaterial(
        catalog=catalog,
        train=train,
        train_groups=train_groups,
        tune=catalog.tune_half(),
        evaluated=[item for item, _ in evaluated],
        evaluated_groups={item.listing.id: group for item, group in evaluated},
        median=float(np.median([item.price for item in train])),
        max_left_out=0,
    )


def usable_parts(rows: int) -> tuple[int, ...]:
    """The parts of the training rows that are large enough to compare settings on; all rows at the end."""
    return tuple(part for part in PARTS if part == 1 or rows // part >= MIN_PART)


def describe_part(part: int) -> str:
    """`1/8 of the rows`."""
    return FitTask(part, 0).description


@dataclass(frozen=True)
class TrialFolder:
    """The saved results of a sweep, a file for each fit, and the model files of the best fit on all rows.

    Results have `n` quotes; a file that is damaged or has another number counts as missing.
    """

    folder: Path
    n: int

    def path(self, trial: Trial, part: int) -> Path:
        """The file of a fit's result."""
        return self.folder / f"{trial.key}-part-{part}.npz"

    def model_folder(self, trial: Trial, part: int) -> Path:
        """Where a fit writes its model files."""
        return self.folder / f"{trial.key}-part-{part}.fitting"

    def load(self, trial: Trial, part: int) -> TrialFit | None:
        """The saved result of a fit; None if there is none."""
        path = self.path(trial, part)
        if not path.is_file():
            return None
        try:
            with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
                fit = TrialFit(arrays["quotes"], float(arrays["fit_seconds"]), float(arrays["seconds"]))
        except (OSError, EOFError, ValueError, TypeError, KeyError, zipfile.BadZipFile):
            return None
        is_whole = fit.quotes.shape == (self.n,) and fit.quotes.dtype == np.float64
        finite = is_whole and np.isfinite([*fit.quotes, fit.fit_seconds, fit.seconds]).all()
        return fit if finite else None

    def save(self, trial: Trial, part: int, fit: TrialFit) -> None:
        """Save the result of a fit, whole, with the settings it belongs to."""
        settings = json.dumps(get_settings(trial.recipe), sort_keys=True)
        with atomic_file(self.path(trial, part)) as temporary, temporary.open("wb") as handle:
            np.savez(
                handle,
                quotes=fit.quotes,
                fit_seconds=np.float64(fit.fit_seconds),
                seconds=np.float64(fit.seconds),
                settings=np.str_(settings),
            )


def has_work(folder: Path) -> bool:
    """Whether a folder of results has something that is worth resuming."""
    return any(folder.glob("*.npz")) or any(folder.glob("*/checkpoints/checkpoint-*"))


def run_trial(trial: Trial, part: int, material: FitMaterial, results: TrialFolder, progress: Progress) -> TrialFit:
    """Fit a trial's recipe on a part of the rows, price the evaluated items and save the result.

    The model files of a fit on all rows stay in `results.model_folder`; the caller removes them.
    """
    started = time.perf_counter()
    folder = results.model_folder(trial, part)
    recipe: Recipe = plan_for_hardware(trial.recipe, progress)
    selected = select_rows(material.train_groups, FitTask(part, 0))
    fit_seconds = fit_part(recipe, material, selected, folder, progress, describe_part(part))
    earlier = max(0.0, fit_seconds - (time.perf_counter() - started))  # in processes that were interrupted
    progress.start(f"evaluating {recipe.kind} on {describe_part(part)}", len(material.evaluated))
    quotes = price_items(recipe.load(folder), material.evaluated, material, progress)
    fit = TrialFit(quotes, fit_seconds, earlier + time.perf_counter() - started)
    results.save(trial, part, fit)
    if part != 1:
        shutil.rmtree(folder, ignore_errors=True)
    return fit


def to_evaluation(trial: Trial, quotes: Array, material: FitMaterial) -> Evaluation:
    """Quotes of a trial as an evaluation, for comparisons."""
    catalog = material.catalog
    rows = tuple(
        EvalRow(item.listing.id, item.price, float(quote))
        for item, quote in zip(material.evaluated, quotes, strict=True)
    )
    return Evaluation(
        f"trial {trial.number}",
        catalog.fingerprint,
        rows,
        material.median,
        catalog.currency,
        catalog.price_range,
        material.evaluated_groups,
    )
