"""A run folder: how it is fitted, checked and loaded, the same for every kind.

`fit` is: the recipe writes its model files, they are loaded, calibrated on rows that fitting has not seen, comparables
are added, and `manifest.json` (sizes, SHA-256, versions, seconds) is written last. `load` is the only way to a pricer.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, ConfigDict, Field

from pricesmith.catalog.clean import CleanSettings, is_too_short, refusal
from pricesmith.catalog.columns import ColumnMap
from pricesmith.catalog.comparables import Comparable, ComparablesIndex
from pricesmith.core.atomic import is_complete, verify
from pricesmith.core.build_file import resolve_model_folder
from pricesmith.core.errors import InputError, UsageError
from pricesmith.core.model_files import (
    HINT,
    check_format,
    check_range,
    damaged_file,
    read_object,
    read_settings,
    report_damage,
)
from pricesmith.core.settings import Settings, parse_settings
from pricesmith.core.types import Listing, Pricer, Quote, Recipe
from pricesmith.pricers import KINDS
from pricesmith.pricers.conformal import CalibrationTable, ClippedPricer, ConformalPricer, format_intervals
from pricesmith.pricers.predict import PredictMixin
from pricesmith.pricers.recipes import read_recipe

MANIFEST = "manifest.json"
RECIPE = "recipe.toml"
CATALOG = "catalog.json"
CALIBRATION = "calibration.json"
COMPARABLES = "comparables"
FORMAT = 3  # 2: separate calibration of the two sides of an interval; 3: standard names of settings
PROBE = Listing("probe", "Cordless drill", "18 V, 2 batteries\nWeight: 1.5 kg")


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
    median: float = Field(gt=0)


class PriceModel(PredictMixin):
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

    def find_comparables(
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


def content_identity(files: Mapping[str, Mapping[str, Any]], *, skip: str = "") -> str:
    """One hash over the hashes of all files but `skip`, which holds the spelling of paths."""
    lines = "".join(f"{name} {facts['sha256']}\n" for name, facts in sorted(files.items()) if name != skip)
    return hashlib.sha256(lines.encode()).hexdigest()


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
    with report_damage(folder):
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
        raise damaged_file(folder / RECIPE, f"{error.what}: {error.got}", allowed=error.allowed) from None
    if recipe.kind != kind:
        raise damaged_file(
            folder / RECIPE, f"a recipe of kind {recipe.kind}", allowed=f"kind {kind}, as {MANIFEST} says"
        )
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
        raise damaged_file(
            folder / MANIFEST, "another list of files than its identity", allowed="the list as it was written"
        )
    if kind not in KINDS:
        raise damaged_file(folder / MANIFEST, f"kind {kind!r}", allowed=", ".join(KINDS), hint="Upgrade Pricesmith.")
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
