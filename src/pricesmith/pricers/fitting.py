"""Fitting a model folder, the same for every kind, and fitting it again on other rows.

The recipe writes its model files, they are loaded and calibrated on rows that fitting has not seen, comparables are
added, and `manifest.json` (sizes, SHA-256, versions, seconds) is written last.

    estimates, estimator = cross_fit(items, groups)
    estimator.estimate([listing])          # log prices

Comparables are ordered by out-of-fold estimates of their prices: ridge regression of the log price on the features of
the sparse MLP, in `N_FOLDS` folds that keep near-duplicates together. A row's estimate is out of fold, a new listing's
is the mean of all folds. Estimates by a model that was fitted on a row are pulled to its price: comparables in that
order would confirm any quote.
"""

from __future__ import annotations

import platform
import shutil
import tempfile
import time
import weakref
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib import metadata
from pathlib import Path
from typing import Any, NoReturn, Protocol, cast, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from pricesmith.catalog.catalog import Catalog
from pricesmith.catalog.comparables import ComparablesIndex
from pricesmith.catalog.items import CatalogItems, get_listings, get_prices, read_items
from pricesmith.catalog.rewriting import read_rewriting_facts
from pricesmith.core.atomic import inventory, read_json, write_atomic, write_json
from pricesmith.core.folders import FolderBuild, build_folder
from pricesmith.core.processes import current_processes
from pricesmith.core.progress import SILENT, Progress
from pricesmith.core.settings import write_toml
from pricesmith.core.types import Item, Listing, Pricer, Quote, Recipe
from pricesmith.pricers import plugin_package
from pricesmith.pricers.conformal import ClippedPricer, ConformalPricer, calibrate, own_bounds_table
from pricesmith.pricers.features.hashing import SparseRows, Vocabulary, gather_parts, gather_rows
from pricesmith.pricers.features.tokenizer import F64
from pricesmith.pricers.model import (
    CALIBRATION,
    CATALOG,
    COMPARABLES,
    FORMAT,
    MANIFEST,
    RECIPE,
    REFERENCE,
    WEIGHT_BY,
    PriceModel,
    content_identity,
    load_model,
)
from pricesmith.pricers.recipes import format_estimate, get_settings
from pricesmith.pricers.reference import QuotedRows, build_reference
from pricesmith.pricers.weighting import check_sources, check_weighting, read_sources, source_weights, weight_items

CHECKPOINTS = "checkpoints"  # an interrupted fit resumes from it; a finished model has none
BATCH = 200  # rows that are priced between two steps of progress
LIBRARIES = ("pricesmith", "numpy", "scikit-learn", "lightgbm", "torch", "transformers", "peft")
FIT_TIME = ".fit_time.json"
CLOCK_LAG = 0.05  # seconds; the clock of file times may be this much behind


def fit_model(
    recipe: Recipe,
    catalog: Catalog,
    to: Path,
    *,
    weight_by: str = "",
    fitted: FittedFiles | None = None,
    overwrite: bool = False,
    progress: Progress = SILENT,
) -> None:
    """Fit a recipe on a catalog into the model folder `to`; a finished fit with the same settings is not repeated.

    `weight_by` names the sample weights (`weighting.POWERS`), empty for none; `fitted` are the files of the same fit,
    which is then not repeated. Raises UsageError for a recipe that takes no weights, and for a catalog of a single
    source.
    """
    if weight_by:
        check_weighting(weight_by, recipe)
    tune, calibrate_rows = (read_items(catalog, "validation", half) for half in ("tune", "calibrate"))
    rows = FitData(read_items(catalog, "train"), tune, calibrate_rows)
    info = catalog_info(catalog, rows.train)
    options: dict[str, Any] = {"weight_by": weight_by, "fitted": fitted, "overwrite": overwrite, "progress": progress}
    fit_rows(recipe, rows, info, Path(to), inputs=[catalog.path], **options)


@dataclass(frozen=True)
class FittedFiles:
    """The model files of a finished fit of the same recipe on the same rows, and the seconds that it took."""

    folder: Path
    seconds: float

    def copy_to(self, folder: Path) -> float:
        """Copy the files into a folder; the seconds of the fit."""
        shutil.copytree(self.folder, folder, dirs_exist_ok=True)
        return self.seconds


@dataclass(frozen=True)
class FitData:
    """The rows to fit on, the two halves of validation, and the near-duplicate group and the source of each id.

    Rows of a catalog (`read_items`) have their own groups and sources.
    """

    train: Sequence[Item]
    tune: Sequence[Item]
    calibrate: Sequence[Item]
    groups: Mapping[str, str] = field(default_factory=dict)
    sources: Mapping[str, str] = field(default_factory=dict)

    def weighted(self, weight_by: str) -> FitData:
        """These rows with sample weights by source. Raises UsageError if the training rows have a single source."""
        own = read_sources(self.train, self.sources)
        check_sources(weight_by, own)
        weights = source_weights(own, weight_by)
        train, tune = (weight_items(items, weights, self.sources) for items in (self.train, self.tune))
        return replace(self, train=train, tune=tune)

    def get_groups(self, items: Sequence[Item]) -> list[str]:
        """The near-duplicate group of each item; an item without one is a group of its own.

        `items` may be a list of rows of a catalog, such as both halves of validation together.
        """
        if isinstance(items, CatalogItems):
            return items.column("group")
        ids = [item.listing.id for item in items]
        known = dict(self.groups)
        for rows in (self.calibrate, self.tune, self.train):
            if isinstance(rows, CatalogItems) and not known.keys() >= set(ids):
                known.update(zip(rows.column("id"), rows.column("group"), strict=True))
        return [known.get(id, id) for id in ids]


def fit_rows(
    recipe: Recipe,
    rows: FitData,
    info: Mapping[str, Any],
    to: Path,
    *,
    inputs: Sequence[Path] = (),
    weight_by: str = "",
    fitted: FittedFiles | None = None,
    overwrite: bool = False,
    progress: Progress = SILENT,
) -> None:
    """`fit_model` on any rows. `to` must not contain any of the `inputs`, nor a file that the recipe reads."""
    begun = time.time()
    settings = {**get_settings(recipe), "catalog": info["fingerprint"], **get_content_hashes(recipe)}
    if weight_by:
        rows, settings = rows.weighted(weight_by), {**settings, WEIGHT_BY: weight_by}
    inputs = [*inputs, *get_paths(recipe)]
    if not current_processes().leads:
        follow_fit(recipe, rows)
    with build_folder(to, MANIFEST, settings, overwrite=overwrite, noun="model", inputs=inputs) as build:
        if build is None:
            progress.note(f"{to} is already fitted with these settings.")
            return
        folder = build.folder
        if fitted is None and (estimate := format_estimate(recipe.kind, len(rows.train))):
            progress.note(estimate)
        progress.start(f"fitting {recipe.kind} on {len(rows.train):,} listings")
        write_json(folder / CATALOG, dict(info))  # first: a blend compares its members with it
        quoted: QuotedRows | None = None
        if getattr(recipe, "cross_fits", False):
            assert isinstance(recipe, CrossFittedRecipe)
            started = time.perf_counter()
            n_tune = n_calibrate = fit_on_validation(recipe, rows, folder, progress)
            seconds = time.perf_counter() - started
        else:
            seconds = fitted.copy_to(folder) if fitted else fit_recipe(recipe, rows, build, begun, progress)
            quoted = calibrate_folder(recipe, rows, folder, info, progress)
            n_tune, n_calibrate = len(rows.tune), len(quoted.items)
        progress.start("indexing comparables")
        index, similarity = index_rows(rows)
        index.save(folder / COMPARABLES)
        if quoted is not None and (reference := build_reference(quoted, info["currency"], similarity)) is not None:
            write_json(folder / REFERENCE, reference.model_dump(mode="json"))
        delete_records(folder)  # not earlier: an interrupted calibration must keep the fit time
        files = inventory(folder)
        build.finish(
            {
                "format": FORMAT,
                "kind": recipe.kind,
                "identity": content_identity(files, skip=RECIPE if isinstance(recipe, CompositeRecipe) else ""),
                "date": time.strftime("%Y-%m-%d"),
                "fit_seconds": round(seconds, 3),
                "rows": {"train": len(rows.train), "tune": n_tune, "calibrate": n_calibrate},
                "seed": settings.get("seed"),
                "versions": library_versions(),
                "package": plugin_package(recipe.kind),
                "files": files,
            }
        )


def follow_fit(recipe: Recipe, rows: FitData) -> NoReturn:
    """Compute with rank 0, in the folder and with the settings that it shares, and end with its exit code."""
    processes = current_processes()
    message = processes.share()
    kind: Any = type(recipe)
    planned = kind(**message["settings"])
    planned.fit(rows.train, rows.tune, Path(message["folder"]))
    processes.share()  # rank 0 shares nothing after the training but its exit code
    raise AssertionError("rank 0 shared a value after the training")


@runtime_checkable
class CrossFittedRecipe(Protocol):
    """A recipe that, if `cross_fits`, uses all of validation for its weights and for its intervals, because answers
    cost money: both are cross-fitted by near-duplicate group. `fit_cross_fitted` returns the number of rows it used;
    its pricer has calibrated bounds."""

    cross_fits: bool

    def fit_cross_fitted(
        self, validation: Sequence[Item], groups: Sequence[str], folder: Path, progress: Progress, /
    ) -> int: ...


def fit_on_validation(recipe: CrossFittedRecipe, rows: FitData, folder: Path, progress: Progress) -> int:
    """Fit a recipe that calibrates its own bounds; the number of rows that it used."""
    validation = [*rows.tune, *rows.calibrate]
    count = recipe.fit_cross_fitted(validation, rows.get_groups(validation), folder, progress)
    write_atomic(folder / RECIPE, write_toml(get_settings(cast(Recipe, recipe))))
    write_json(folder / CALIBRATION, own_bounds_table(count).model_dump(mode="json"))
    return count


def calibrate_folder(
    recipe: Recipe, rows: FitData, folder: Path, info: Mapping[str, Any], progress: Progress
) -> QuotedRows:
    """Calibrate the intervals of a fitted recipe on rows that fitting has not seen; these rows with their quotes."""
    calibration = select_calibration_rows(recipe, rows.calibrate, folder)
    progress.start(f"calibrating {recipe.kind}", len(calibration))
    low, high = info["price_range"]
    pricer = ClippedPricer(recipe.load(folder), (low, high))
    quotes = price_rows(pricer, calibration, progress)
    table = calibrate(quotes, get_prices(calibration).tolist(), scaled=getattr(recipe, "scaled", False))
    write_json(folder / CALIBRATION, table.model_dump(mode="json"))
    bounded = ConformalPricer(pricer, table, (low, high))
    return QuotedRows(
        calibration,
        [bounded.add_interval(quote) for quote in quotes],
        rows.get_groups(calibration),
        table.level,
        (low, high),
    )


def select_calibration_rows(recipe: Recipe, rows: Sequence[Item], folder: Path) -> Sequence[Item]:
    """The rows to calibrate on: all, or a random sample of the size that a recipe with a time limit can price."""
    wanted = recipe.calibration_rows(folder) if hasattr(recipe, "calibration_rows") else None
    if wanted is None or wanted >= len(rows):
        return rows
    sample = np.random.default_rng(0).permutation(len(rows))[:wanted]
    return [rows[index] for index in sorted(sample.tolist())]


def price_rows(pricer: Pricer, rows: Sequence[Item], progress: Progress) -> list[Quote]:
    """A quote for each row, in order, with progress after every batch."""
    quotes: list[Quote] = []
    for start in range(0, len(rows), BATCH):
        part = [item.listing for item in rows[start : start + BATCH]]
        quotes += pricer.price(part)
        progress.advance(len(part))
    return quotes


def fit_recipe(recipe: Recipe, rows: FitData, build: FolderBuild, begun: float, progress: Progress) -> float:
    """Fit a recipe, and return the seconds it took.

    A recipe with `resumes` keeps its checkpoints when it is interrupted, and the seconds of all its processes count.
    """
    folder, started = build.folder, time.perf_counter()
    if not getattr(recipe, "resumes", False):
        recipe.fit(rows.train, rows.tune, folder, progress)
        write_atomic(folder / RECIPE, write_toml(get_settings(recipe)))
        return time.perf_counter() - started
    before = previous_fit_seconds(folder, begun)
    try:
        recipe.fit(rows.train, rows.tune, folder, progress)
        build.keep = True  # the rest can be repeated in seconds, the fit cannot
        write_atomic(folder / RECIPE, write_toml(get_settings(recipe)))
        shutil.rmtree(folder / CHECKPOINTS, ignore_errors=True)
    except BaseException:
        # Without a checkpoint nothing can be resumed, and the folder would only refuse other settings.
        build.keep = build.keep or any((folder / CHECKPOINTS).glob("checkpoint-*"))
        raise
    return before + time.perf_counter() - started


def index_rows(rows: FitData) -> tuple[ComparablesIndex, tuple[int, int]]:
    """The comparables index over training rows, with their estimated prices and the rule for `nothing_similar`; and how
    many of how many validation listings have nothing similar."""
    index, _ = ordered_index(rows.train, rows.get_groups(rows.train))
    halves = (rows.tune, rows.calibrate)
    listings = [listing for half in halves for listing in get_listings(half)]
    return index, index.calibrate(listings, [group for half in halves for group in rows.get_groups(half)])


def ordered_index(
    items: Sequence[Item], groups: Sequence[str]
) -> tuple[ComparablesIndex, Callable[[Sequence[Listing]], Any]]:
    """A comparables index ordered by estimated prices, and the estimator of log prices for other listings."""
    index, order = ComparablesIndex.build_with_order(items)
    if not items:
        return index, lambda listings: np.full(len(listings), np.nan)
    estimates, estimator = cross_fit(items, groups)
    index.estimates = estimates[order]
    return index, estimator.estimate


@runtime_checkable
class CompositeRecipe(Protocol):
    """A recipe with paths among its settings: the members of a blend, a file of prices.

    `paths` returns them, `content_hashes` the names and hashes of their content for each such setting,
    `stored_copies` their copies in a model folder, `with_paths` the same recipe with other paths.
    """

    def paths(self) -> Sequence[Path]: ...

    def content_hashes(self) -> Mapping[str, Mapping[str, str]]: ...

    def stored_copies(self, folder: Path) -> Sequence[Path]: ...

    def with_paths(self, paths: Sequence[Path]) -> Recipe: ...


def get_paths(recipe: Recipe) -> list[Path]:
    """The files and folders that a fit of the recipe reads: members, files of prices, the base of a language model."""
    base = getattr(recipe, "base", "")
    return [*(recipe.paths() if isinstance(recipe, CompositeRecipe) else []), *([Path(base)] if base else [])]


def get_content_hashes(recipe: Recipe) -> Mapping[str, Any]:
    """The names and hashes of what a recipe refers to by paths, so that another spelling of a path changes nothing."""
    return recipe.content_hashes() if isinstance(recipe, CompositeRecipe) else {}


def refit_model(model: PriceModel, rows: FitData) -> PriceModel:
    """The model fitted again on other rows, members included, in a temporary folder that is deleted with it."""
    folder = Path(tempfile.mkdtemp(prefix="pricesmith-"))
    try:
        refitted = load_model(refit_into(model, rows, folder / "model"))
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    weakref.finalize(refitted, shutil.rmtree, folder, True)
    return refitted


def refit_into(model: PriceModel, rows: FitData, to: Path) -> Path:
    """Fit the recipe of a model again into the folder `to`, and its members first, beside `to`.

    Members are refitted because the original ones were fitted on the rows that a fold is evaluated on.
    """
    recipe = model.recipe
    if isinstance(recipe, CompositeRecipe):
        members = to.with_name(f"{to.name}-members")
        paths = [
            refit_into(load_model(path), rows, members / path.name) if path.is_dir() else path
            for path in recipe.stored_copies(model.path)
        ]
        recipe = recipe.with_paths(paths)
    fit_rows(recipe, rows, model.info, to, weight_by=model.weight_by)
    return to


def catalog_info(catalog: Catalog, train: Sequence[Item]) -> dict[str, Any]:
    """The facts of a catalog that a model stores, so that it can price raw rows without the catalog."""
    rewriting = read_rewriting_facts(catalog.ledger)
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
        **({"rewriting": rewriting.model_dump(mode="json")} if rewriting else {}),
        "median": float(np.median(get_prices(train))),
    }


def library_versions() -> dict[str, str]:
    """The versions of the libraries that a model may depend on."""
    versions = {"python": platform.python_version()}
    for name in LIBRARIES:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return versions


def previous_fit_seconds(folder: Path, begun: float) -> float:
    """Total fit time of earlier, interrupted processes in `folder`, in seconds.

    The time of a process is from its start to the last file that it wrote; the work after its last checkpoint is lost
    and does not count. `begun` is when this process started, in Unix time: its own files are ignored.
    """
    path, seconds = folder / FIT_TIME, 0.0
    if path.is_file():
        record = read_json(path)
        times = [file.stat().st_mtime for file in folder.rglob("*") if file.is_file() and file != path]
        last = max((time for time in times if time < begun - CLOCK_LAG), default=0.0)
        seconds = float(record["seconds"]) + max(0.0, last - float(record["begun"]))
    write_json(path, {"seconds": seconds, "begun": begun})
    return seconds


def delete_records(folder: Path) -> None:
    """Delete the record of the fit time: a finished model has it in its manifest."""
    (folder / FIT_TIME).unlink(missing_ok=True)


N_FOLDS = 3
RIDGE_ALPHA = 1.0
RIDGE_TOLERANCE = 1e-2  # the order of comparables needs no more
MAX_FEATURES = 1 << 19


@dataclass(frozen=True)
class Estimator:
    """The ridge models of all folds, averaged: log price = features @ weights + bias."""

    vocabulary: Vocabulary
    weights: F64
    bias: float

    def estimate(self, listings: Sequence[Listing]) -> F64:
        """Log prices of listings."""
        if not listings:
            return np.zeros(0)
        return np.asarray(feature_matrix(gather_rows(listings), self.vocabulary) @ self.weights + self.bias)


def cross_fit(items: Sequence[Item], groups: Sequence[str]) -> tuple[F64, Estimator]:
    """The out-of-fold log price of each item [n], and the estimator for new listings.

    `groups` [n] are the near-duplicate groups of the items. With a single group every estimate is the mean.
    """
    from sklearn.linear_model import Ridge

    logs, fold = np.log(get_prices(items)), assign_folds(groups)
    parts = gather_parts(get_listings(items))
    vocabulary = Vocabulary.from_parts(parts, 2, MAX_FEATURES)
    matrix = vocabulary.rows_of_parts(parts).csr(vocabulary.size)
    mean = float(logs.mean())
    estimates = np.full(len(items), mean)
    weights, biases = np.zeros(matrix.shape[1], dtype=np.float64), []
    numbers = np.unique(fold)
    for number in numbers if len(numbers) > 1 else ():
        held_out = fold == number
        model = Ridge(alpha=RIDGE_ALPHA, solver="sparse_cg", tol=RIDGE_TOLERANCE, copy_X=False).fit(
            matrix[~held_out], logs[~held_out].astype(np.float32)
        )
        estimates[held_out] = model.predict(matrix[held_out])
        weights += model.coef_ / len(numbers)
        biases.append(float(model.intercept_))
    return estimates, Estimator(vocabulary, weights, float(np.mean(biases)) if biases else mean)


def feature_matrix(buckets: SparseRows, vocabulary: Vocabulary) -> Any:
    """Rows of buckets as a sparse matrix."""
    return vocabulary.rows(buckets).csr(vocabulary.size)


def assign_folds(groups: Sequence[str]) -> NDArray[np.int64]:
    """The fold of each row [n]; a group is in a single fold. Folds do not depend on the order of rows."""
    names, positions = np.unique(np.asarray(groups, dtype=np.str_), return_inverse=True)
    return np.asarray(np.random.default_rng(0).permutation(len(names))[positions] % N_FOLDS, dtype=np.int64)
