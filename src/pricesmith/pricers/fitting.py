"""Fitting a model folder, the same for every kind, and fitting it again on other rows.

The recipe writes its model files, they are loaded and calibrated on rows that fitting has not seen, comparables are
added, and `manifest.json` (sizes, SHA-256, versions, seconds) is written last.
"""

from __future__ import annotations

import platform
import shutil
import tempfile
import time
import weakref
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any, ClassVar, Protocol, cast, runtime_checkable

import numpy as np

from pricesmith.catalog.catalog import Catalog
from pricesmith.catalog.comparables import ComparablesIndex
from pricesmith.core.atomic import inventory, read_json, write_atomic, write_json
from pricesmith.core.folders import FolderBuild, build_folder
from pricesmith.core.progress import SILENT, Progress
from pricesmith.core.settings import write_toml
from pricesmith.core.types import Item, Listing, Pricer, Quote, Recipe
from pricesmith.pricers.conformal import ClippedPricer, calibrate
from pricesmith.pricers.features.cross_fit import cross_fit
from pricesmith.pricers.model import (
    CALIBRATION,
    CATALOG,
    COMPARABLES,
    FORMAT,
    MANIFEST,
    RECIPE,
    PriceModel,
    content_identity,
    load_model,
)
from pricesmith.pricers.recipes import format_estimate, get_settings

CHECKPOINTS = "checkpoints"  # an interrupted fit resumes from it; a finished model has none
BATCH = 200  # rows that are priced between two steps of progress
LIBRARIES = ("pricesmith", "numpy", "scikit-learn", "lightgbm", "torch", "transformers", "peft")
FIT_TIME = ".fit_time.json"
CLOCK_LAG = 0.05  # seconds; the clock of file times may be this much behind


class ResumableRecipe(Protocol):
    """A recipe whose `fit`, in a folder where it was interrupted, goes on; `resumes` says so."""

    resumes: ClassVar[bool]

    def fit(self, train: Sequence[Item], validation: Sequence[Item], run: Path, progress: Progress) -> None: ...


def fit_model(
    recipe: Recipe, catalog: Catalog, to: Path, *, overwrite: bool = False, progress: Progress = SILENT
) -> None:
    """Fit a recipe on a catalog into the run folder `to`; where that is done already with these settings, say so."""
    groups: dict[str, str] = {}
    for split in ("train", "validation"):
        columns = catalog.columns(split, ("id", "group"))
        groups.update(zip(columns["id"], columns["group"], strict=True))
    rows = FitData(catalog.items("train"), catalog.tune_half(), catalog.calibrate_half(), groups)
    info = catalog_info(catalog, rows.train)
    fit_rows(recipe, rows, info, Path(to), inputs=[catalog.path], overwrite=overwrite, progress=progress)


@dataclass(frozen=True)
class FitData:
    """What a run is made from: the rows to fit on, and the two halves of validation; near-duplicate groups by id."""

    train: Sequence[Item]
    tune: Sequence[Item]
    calibrate: Sequence[Item]
    groups: Mapping[str, str] = field(default_factory=dict)

    def groups_of(self, items: Sequence[Item]) -> list[str]:
        """The near-duplicate group of each item; one without is a group of its own."""
        return [self.groups.get(item.listing.id, item.listing.id) for item in items]


def fit_rows(
    recipe: Recipe,
    rows: FitData,
    info: Mapping[str, Any],
    to: Path,
    *,
    inputs: Sequence[Path] = (),
    overwrite: bool = False,
    progress: Progress = SILENT,
) -> None:
    """`fit`, on rows that need not be a catalog's splits. `to` holds none of the `inputs`, nor a member."""
    begun, settings = (
        time.time(),
        {**get_settings(recipe), "catalog": info["fingerprint"], **referenced_content(recipe)},
    )
    inputs = [*inputs, *paths_of(recipe)]
    with build_folder(to, MANIFEST, settings, overwrite=overwrite, noun="run", inputs=inputs) as build:
        if build is None:
            progress.note(f"{to} is already fitted with these settings.")
            return
        folder = build.folder
        if told := format_estimate(recipe.kind, len(rows.train)):
            progress.note(told)
        progress.start(f"fitting {recipe.kind} on {len(rows.train):,} listings")
        write_json(folder / CATALOG, dict(info))  # first: a blend looks there for what its members must be of
        seconds = fit_recipe(recipe, rows, build, begun, progress)
        held = calibration_rows(recipe, rows.calibrate, folder)
        progress.start(f"calibrating {recipe.kind}", len(held))
        low, high = info["price_range"]
        quotes = price_rows(ClippedPricer(recipe.load(folder), (low, high)), held, progress)
        table = calibrate(quotes, [i.price for i in held], scaled=getattr(recipe, "scaled", False))
        write_json(folder / CALIBRATION, table.model_dump(mode="json"))
        progress.start("indexing comparables")
        index_rows(rows).save(folder / COMPARABLES)
        delete_records(folder)  # not before: one that is killed while it is calibrated has been fitted for its seconds
        files = inventory(folder)
        build.finish(
            {
                "format": FORMAT,
                "kind": recipe.kind,
                "identity": content_identity(files, skip=RECIPE if isinstance(recipe, CompositeRecipe) else ""),
                "fit_seconds": round(seconds, 3),
                "rows": {"train": len(rows.train), "tune": len(rows.tune), "calibrate": len(held)},
                "seed": settings.get("seed"),
                "versions": library_versions(),
                "files": files,
            }
        )


def calibration_rows(recipe: Recipe, rows: Sequence[Item], folder: Path) -> Sequence[Item]:
    """The rows to calibrate on: all, or a random sample as large as a recipe with a time limit has time for."""
    wanted = recipe.calibration_rows(folder) if hasattr(recipe, "calibration_rows") else None
    if wanted is None or wanted >= len(rows):
        return rows
    drawn = np.random.default_rng(0).permutation(len(rows))[:wanted]
    return [rows[place] for place in sorted(drawn.tolist())]


def price_rows(pricer: Pricer, rows: Sequence[Item], progress: Progress) -> list[Quote]:
    """A quote for each row, in order, with progress after every BATCH of them."""
    quotes: list[Quote] = []
    for start in range(0, len(rows), BATCH):
        part = [item.listing for item in rows[start : start + BATCH]]
        quotes += pricer.price(part)
        progress.advance(len(part))
    return quotes


def fit_recipe(recipe: Recipe, rows: FitData, build: FolderBuild, begun: float, progress: Progress) -> float:
    """Let a recipe write its model files; the seconds it took. One that `resumes` keeps what it has done when it is
    interrupted, and counts the seconds of all its processes."""
    folder, started = build.folder, time.perf_counter()
    if not getattr(recipe, "resumes", False):
        recipe.fit(rows.train, rows.tune, folder)
        write_atomic(folder / RECIPE, write_toml(get_settings(recipe)))
        return time.perf_counter() - started
    before = previous_fit_seconds(folder, begun)
    try:
        cast(ResumableRecipe, recipe).fit(rows.train, rows.tune, folder, progress)
        build.keep = True  # what follows can be done again in seconds, fitting cannot
        write_atomic(folder / RECIPE, write_toml(get_settings(recipe)))
        shutil.rmtree(folder / CHECKPOINTS, ignore_errors=True)
    except BaseException:
        # Without a checkpoint there is nothing to go on with, and the folder would only refuse other settings.
        build.keep = build.keep or any((folder / CHECKPOINTS).glob("checkpoint-*"))
        raise
    return before + time.perf_counter() - started


def index_rows(rows: FitData) -> ComparablesIndex:
    """The search over training rows, with their estimated prices and the rule that says where nothing is similar."""
    index, _ = ordered_index(rows.train, rows.groups_of(rows.train))
    validation = [*rows.tune, *rows.calibrate]
    index.calibrate([item.listing for item in validation], rows.groups_of(validation))
    return index


def ordered_index(
    items: Sequence[Item], groups: Sequence[str]
) -> tuple[ComparablesIndex, Callable[[Sequence[Listing]], Any]]:
    """A search that orders by estimated prices, and what estimates the log prices of other listings."""
    index = ComparablesIndex.build(items)
    if not items:
        return index, lambda listings: np.full(len(listings), np.nan)
    place = {item.listing.id: number for number, item in enumerate(items)}
    estimates, estimator = cross_fit(items, groups)
    index.estimates = estimates[[place[name] for name in index.ids]]
    return index, estimator.estimate


@runtime_checkable
class CompositeRecipe(Protocol):
    """A recipe that names what it is made of by paths: the members of a blend, a file of prices.

    `paths` gives them, `made_of` each such setting as names and hashes of content, `kept` the copies that a run of it
    holds, `made_from` the same recipe of other paths.
    """

    def paths(self) -> Sequence[Path]: ...

    def made_of(self) -> Mapping[str, Mapping[str, str]]: ...

    def kept(self, run: Path) -> Sequence[Path]: ...

    def made_from(self, paths: Sequence[Path]) -> Recipe: ...


def paths_of(recipe: Recipe) -> list[Path]:
    """The files and folders that a fit of the recipe reads: what it is made of, and the base of a language model."""
    base = getattr(recipe, "base", "")
    return [*(recipe.paths() if isinstance(recipe, CompositeRecipe) else []), *([Path(base)] if base else [])]


def referenced_content(recipe: Recipe) -> Mapping[str, Any]:
    """What a recipe names by paths, by name and content: another spelling is no other run, a changed member is."""
    return recipe.made_of() if isinstance(recipe, CompositeRecipe) else {}


def refit_model(run: PriceModel, rows: FitData) -> PriceModel:
    """The same kind of run on other rows, in a folder that goes away with it; members of members are refitted too."""
    place = Path(tempfile.mkdtemp(prefix="pricesmith-"))
    try:
        again = load_model(refit_into(run, rows, place / "run"))
    except BaseException:
        shutil.rmtree(place, ignore_errors=True)
        raise
    weakref.finalize(again, shutil.rmtree, place, True)
    return again


def refit_into(run: PriceModel, rows: FitData, to: Path) -> Path:
    """Fit a run's recipe again into the folder `to`, after what it is made of, which goes beside `to`.

    No run that was fitted on other rows takes part: a member would know the rows that a fold is judged on.
    """
    recipe = run.recipe
    if isinstance(recipe, CompositeRecipe):
        beside = to.with_name(f"{to.name}-made-of")
        paths = [
            refit_into(load_model(one), rows, beside / one.name) if one.is_dir() else one
            for one in recipe.kept(run.path)
        ]
        recipe = recipe.made_from(paths)
    fit_rows(recipe, rows, run.info, to)
    return to


def catalog_info(catalog: Catalog, train: Sequence[Item]) -> dict[str, Any]:
    """What a run keeps of its catalog, so that it can price raw rows without it."""
    return {
        "name": catalog.name,
        "fingerprint": catalog.fingerprint,
        "cleaning": catalog.ledger["cleaning"],
        "columns": catalog.ledger["columns"],
        "maps": catalog.ledger.get("maps", []),
        "categories": catalog.ledger.get("categories", []),
        "map": catalog.ledger.get("settings", {}).get("map", {}),
        "price_range": list(catalog.price_range),
        "currency": catalog.currency,
        "median": float(np.median([item.price for item in train])),
    }


def library_versions() -> dict[str, str]:
    """The versions that a model may depend on."""
    found = {"python": platform.python_version()}
    for name in LIBRARIES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def previous_fit_seconds(folder: Path, begun: float) -> float:
    """Seconds that earlier processes worked in `folder`: from each one's start to the last file it wrote there, because
    one that was killed could not say when. What it did after its last checkpoint is lost, and is not counted.

    `begun` is when this process began with the folder, in Unix time: what it has written since says nothing of others.
    """
    path, spent = folder / FIT_TIME, 0.0
    if path.is_file():
        known = read_json(path)
        times = [one.stat().st_mtime for one in folder.rglob("*") if one.is_file() and one != path]
        written = max((one for one in times if one < begun - CLOCK_LAG), default=0.0)
        spent = float(known["spent"]) + max(0.0, written - float(known["began"]))
    write_json(path, {"spent": spent, "began": begun})
    return spent


def delete_records(folder: Path) -> None:
    """Nothing of this is left in a whole run."""
    (folder / FIT_TIME).unlink(missing_ok=True)
