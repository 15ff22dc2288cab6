"""A run folder: how it is fitted, checked and loaded, the same for every kind.

`fit` is: the recipe writes its model files, they are loaded, calibrated on rows that fitting has not seen, comparables
are added, and `manifest.json` (sizes, SHA-256, versions, seconds) is written last. `load` is the only way to a pricer.
"""

from __future__ import annotations

import hashlib
import math
import platform
import shutil
import tempfile
import time
import weakref
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib import metadata
from pathlib import Path
from typing import Annotated, Any, ClassVar, Protocol, cast, runtime_checkable

import numpy as np
from pydantic import AfterValidator, ConfigDict, Field

from pricesmith.catalog.catalog import Catalog
from pricesmith.catalog.clean import CleanSettings, is_too_short, refusal
from pricesmith.catalog.columns import ColumnMap
from pricesmith.catalog.comparables import Comparable, ComparablesIndex
from pricesmith.core.atomic import inventory, is_complete, verify, write_atomic, write_json
from pricesmith.core.build_file import resolve_model_folder
from pricesmith.core.errors import InputError, UsageError
from pricesmith.core.folders import FolderBuild, build_folder
from pricesmith.core.model_files import (
    HINT,
    check_format,
    check_range,
    damage_reported,
    damaged,
    read_object,
    read_settings,
)
from pricesmith.core.progress import SILENT, Progress
from pricesmith.core.settings import Settings, parse_settings, write_toml
from pricesmith.core.types import Item, Listing, Pricer, Quote, Recipe
from pricesmith.pricers import KINDS
from pricesmith.pricers.conformal import CalibrationTable, ClippedPricer, ConformalPricer, calibrate, format_intervals
from pricesmith.pricers.features.cross_fit import cross_fit
from pricesmith.pricers.fit_time import delete_records, previous_fit_seconds
from pricesmith.pricers.recipes import format_estimate, get_settings, read_recipe

MANIFEST = "manifest.json"
RECIPE = "recipe.toml"
CATALOG = "catalog.json"
CALIBRATION = "calibration.json"
COMPARABLES = "comparables"
CHECKPOINTS = "checkpoints"  # what an interrupted fit goes on from; gone from a whole run
FORMAT = 2  # 2: intervals whose lower and upper side are calibrated separately
PROBE = Listing("probe", "Cordless drill", "18 V, 2 batteries\nWeight: 1.5 kg")
PRICED = 200  # rows that are priced between two steps of progress
LIBRARIES = ("pricesmith", "numpy", "scikit-learn", "lightgbm", "torch", "transformers", "peft")


class ResumableRecipe(Protocol):
    """A recipe whose `fit`, in a folder where it was interrupted, goes on; `resumes` says so."""

    resumes: ClassVar[bool]

    def fit(self, train: Sequence[Item], validation: Sequence[Item], run: Path, progress: Progress) -> None: ...


class FileFacts(Settings):
    """What a manifest says of one file."""

    bytes: int = Field(ge=0)
    sha256: str = Field(pattern="^[0-9a-f]{64}$")


class RowCounts(Settings):
    """How many rows a model was fitted on, tuned on and calibrated on."""

    train: int = Field(ge=0)
    tune: int = Field(ge=0)
    calibrate: int = Field(ge=0)


class Manifest(Settings):
    """What a manifest must say; other entries are allowed."""

    model_config = ConfigDict(frozen=True, extra="ignore", allow_inf_nan=False)
    format: int
    kind: str
    identity: str
    fit_seconds: float = Field(ge=0)
    rows: RowCounts
    versions: dict[str, str]
    files: dict[str, FileFacts] = Field(min_length=1)
    settings: dict[str, Any]


class CatalogFacts(Settings):
    """What a model folder must say of its catalog; other entries are allowed."""

    model_config = ConfigDict(frozen=True, extra="ignore", allow_inf_nan=False)
    name: str
    fingerprint: str
    cleaning: CleanSettings
    columns: ColumnMap
    maps: tuple[ColumnMap, ...] = ()
    categories: tuple[str, ...] = ()
    map: dict[str, str] = Field(default_factory=dict)
    price_range: Annotated[tuple[float, float], AfterValidator(check_range)]
    currency: str = Field(min_length=1)
    constant: float = Field(gt=0)


class PriceModel:
    """A loaded run folder: a pricer, with the facts of the catalog it was fitted on and its comparables."""

    def __init__(
        self, path: Path, recipe: Recipe, pricer: Pricer, info: Mapping[str, Any], manifest: Mapping[str, Any]
    ):
        self.path, self.recipe, self.pricer, self.info, self.manifest = path, recipe, pricer, info, manifest
        self._index: ComparablesIndex | None = None

    @property
    def name(self) -> str:
        return self.path.resolve().name

    @property
    def identity(self) -> str:
        """What tells this run's content from another's."""
        return str(self.manifest["identity"])

    @property
    def calibrated(self) -> bool:
        return isinstance(self.pricer, ConformalPricer)

    @property
    def level(self) -> float | None:
        """The share of truths that intervals are made to hold."""
        return self.pricer.table.level if isinstance(self.pricer, ConformalPricer) else None

    def price(self, listings: Sequence[Listing], *, check_similarity: bool = False) -> list[Quote]:
        """One quote for each listing, in order, clipped to the catalog's range, with an interval.

        A listing that curate would refuse as too short has no price; `raw` says so. With `check_similarity` each
        quote's `nothing_similar` is filled in.
        """
        cleaning = parse_settings(CleanSettings, self.info["cleaning"], where=CATALOG)
        priced = [listing for listing in listings if not is_too_short(listing, cleaning)]
        found = iter(self.pricer.price(priced) if priced else [])
        if check_similarity:
            flags = self.nothing_similar(priced)
            found = iter([replace(quote, nothing_similar=flag) for quote, flag in zip(found, flags, strict=True)])
        refused = Quote(None, raw=refusal(cleaning))
        if len(priced) == len(listings):
            return list(found)
        return [refused if is_too_short(listing, cleaning) else next(found) for listing in listings]

    @property
    def has_comparables(self) -> bool:
        """Whether its training rows are with it: an export and a blend's copy of a member do without."""
        return (self.path / COMPARABLES).is_dir()

    @property
    def index(self) -> ComparablesIndex | None:
        """The search over its training listings; None where it was exported without them."""
        if self._index is None and self.has_comparables:
            self._index = ComparablesIndex.load(self.path / COMPARABLES)
        return self._index

    def comparables(
        self, listings: Sequence[Listing], k: int = 3, *, quotes: Sequence[Quote] | None = None
    ) -> list[list[Comparable]]:
        """The training listings that share most words and that the model finds alike; none where it was exported
        without them. `quotes` are its quotes of the listings, where they are known already."""
        if self.index is None:
            return [[] for _ in listings]
        if quotes is None:
            quotes = self.price(listings)
        logs = [math.log(quote.price) if quote.price else math.nan for quote in quotes]
        return self.index.search(listings, k, logs)

    def nothing_similar(self, listings: Sequence[Listing]) -> list[bool | None]:
        """Whether no training listing is like each listing, so that its price is a guess; None where that cannot be
        told, because the model was exported without its training listings."""
        if self.index is None or not self.index.calibrated:
            return [None for _ in listings]
        return list(self.index.nothing_similar(listings))


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
    """A quote for each row, in order, with progress after every PRICED of them."""
    quotes: list[Quote] = []
    for start in range(0, len(rows), PRICED):
        part = [item.listing for item in rows[start : start + PRICED]]
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


def content_identity(files: Mapping[str, Mapping[str, Any]], *, skip: str = "") -> str:
    """One hash over the hashes of all files but `skip`, which holds the spelling of paths."""
    lines = "".join(f"{name} {facts['sha256']}\n" for name, facts in sorted(files.items()) if name != skip)
    return hashlib.sha256(lines.encode()).hexdigest()


def library_versions() -> dict[str, str]:
    """The versions that a model may depend on."""
    found = {"python": platform.python_version()}
    for name in LIBRARIES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def load_model(run: Path | str) -> PriceModel:
    """A pricer from its run folder. Raises InputError where it is unfinished, changed, or of a later format."""
    folder = resolve_model_folder(Path(run))
    manifest = read_manifest(folder)
    require_files(folder, manifest["files"], (RECIPE, CATALOG, CALIBRATION))
    files = manifest["files"]
    if not (folder / COMPARABLES).exists():  # a member of a blend, or an export, does without
        files = {name: facts for name, facts in files.items() if not name.startswith(f"{COMPARABLES}/")}
    verify(folder, files)
    recipe = stored_recipe(folder, str(manifest["kind"]))
    require_files(folder, manifest["files"], getattr(recipe, "files", ()))
    read_settings(folder / CATALOG, CatalogFacts)
    info = read_object(folder / CATALOG)
    low, high = info["price_range"]
    table = read_settings(folder / CALIBRATION, CalibrationTable)
    with damage_reported(folder):
        pricer: Pricer = ConformalPricer(ClippedPricer(recipe.load(folder), (low, high)), table, (low, high))
        if getattr(recipe, "probed", True):
            pricer.price([PROBE])  # files that do not belong together are found now, not at the first question
    return PriceModel(folder, recipe, pricer, info, manifest)


def require_files(folder: Path, listed: Mapping[str, Any], needed: Sequence[str]) -> None:
    """Raises InputError where a file that is needed is not one that the manifest names and vouches for."""
    missing = [name for name in needed if name not in listed]
    if missing:
        raise InputError(
            f"{folder / MANIFEST} does not list every file of the model",
            got=f"no entry for {', '.join(missing[:5])}",
            allowed="the size and SHA-256 of each file",
            hint=HINT,
        )


def stored_recipe(folder: Path, kind: str) -> Recipe:
    """The recipe in a model folder. Raises InputError where it is damaged, or of another kind than in the manifest."""
    try:
        recipe = read_recipe(str(folder / RECIPE))
    except UsageError as error:
        raise damaged(folder / RECIPE, f"{error.what}: {error.got}", allowed=error.allowed) from None
    if recipe.kind != kind:
        raise damaged(folder / RECIPE, f"a recipe of kind {recipe.kind}", allowed=f"kind {kind}, as {MANIFEST} says")
    return recipe


def read_manifest(folder: Path) -> dict[str, Any]:
    """A run's manifest. Raises InputError where the folder is not a finished run."""
    if not is_complete(folder, MANIFEST):
        raise InputError(
            f"{folder} is not a finished run",
            got="no such folder" if not folder.exists() else f"no {MANIFEST} in it",
            hint=f"Run `pricesmith fit RECIPE --catalog CATALOG --to {folder}`.",
        )
    manifest = read_object(folder / MANIFEST)
    check_format(folder, manifest, FORMAT)
    if manifest["format"] < FORMAT:
        raise InputError(
            f"{folder} was fitted by an earlier version of Pricesmith",
            got=f"format {manifest['format']}",
            allowed=f"format {FORMAT}",
            hint="Run the same `pricesmith fit` command again with --overwrite.",
        )
    read_settings(folder / MANIFEST, Manifest)
    files, kind = manifest["files"], manifest["kind"]
    if manifest["identity"] not in (content_identity(files), content_identity(files, skip=RECIPE)):
        raise damaged(
            folder / MANIFEST, "another list of files than its identity", allowed="the list as it was written"
        )
    if kind not in KINDS:
        raise damaged(folder / MANIFEST, f"kind {kind!r}", allowed=", ".join(KINDS), hint="Upgrade Pricesmith.")
    return manifest


def format_model(run: PriceModel) -> str:
    """A fitted run as a person reads it."""
    rows, table = run.manifest["rows"], run.pricer.table if isinstance(run.pricer, ConformalPricer) else None
    interval = f", typical {run.level:.0%} interval: {format_intervals(table)}" if table else ""
    seconds = run.manifest["fit_seconds"]
    return f"{run.path}: {run.manifest['kind']} fitted on {rows['train']:,} listings in {seconds:.1f} s{interval}"


def to_dict(run: PriceModel) -> dict[str, Any]:
    """A fitted run for machines."""
    return {"run": str(run.path), **{name: value for name, value in run.manifest.items() if name != "files"}}
