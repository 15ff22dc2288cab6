"""Model folders: how they are checked and loaded, the same for every kind. `fitting.py` writes them.

`load_model` is the only way to a pricer, so that the evaluated model is the served one.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import AfterValidator, ConfigDict, Field

from pricesmith.catalog.clean import CleanSettings, is_too_short, refusal
from pricesmith.catalog.columns import ColumnMap
from pricesmith.catalog.comparables import Comparable, ComparablesIndex
from pricesmith.catalog.rewriting import Rewriting, check_form, read_rewriting_facts
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
from pricesmith.core.types import NOT_ASKED, Listing, Pricer, Quote, Recipe
from pricesmith.pricers import KINDS, plugin_kinds
from pricesmith.pricers.conformal import CalibrationTable, ClippedPricer, ConformalPricer, format_intervals
from pricesmith.pricers.predict import PredictMixin
from pricesmith.pricers.recipes import read_recipe
from pricesmith.pricers.reference import Reference

if TYPE_CHECKING:
    from pricesmith.pricers.rewriting.form import RewrittenListing
    from pricesmith.pricers.rewriting.rewriter import ListingRewriter

MANIFEST = "manifest.json"
RECIPE = "recipe.toml"
CATALOG = "catalog.json"
CALIBRATION = "calibration.json"
COMPARABLES = "comparables"
REFERENCE = "reference.json"  # optional: models with paid members have none
WEIGHT_BY = "weight_by"  # an entry of the settings in a manifest
FORMAT = 3  # 2: separate calibration of the two sides of an interval; 3: standard names of settings
PROBE = Listing("probe", "Cordless drill", "18 V, 2 batteries\nWeight: 1.5 kg")


class FileFacts(Settings):
    """The size and hash of a file in a manifest."""

    bytes: int = Field(ge=0)
    sha256: str = Field(pattern="^[0-9a-f]{64}$")


class RowCounts(Settings):
    """The number of rows that a model was fitted on, tuned on and calibrated on."""

    train: int = Field(ge=0)
    tune: int = Field(ge=0)
    calibrate: int = Field(ge=0)


class Manifest(Settings):
    """The required entries of a manifest; others are allowed."""

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
    """The required facts of the catalog in a model folder; others are allowed."""

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
    rewriting: Rewriting | None = None


class PriceModel(PredictMixin):
    """A loaded model folder: a pricer, with the facts of its catalog and its comparables."""

    def __init__(
        self, path: Path, recipe: Recipe, pricer: Pricer, info: Mapping[str, Any], manifest: Mapping[str, Any]
    ):
        self.path, self.recipe, self.pricer, self.info, self.manifest = path, recipe, pricer, info, manifest
        self.reference: Reference | None = None  # quotes and errors at training time
        self.rewriter: ListingRewriter | None = None  # of a model of a rewritten catalog
        self._index: ComparablesIndex | None = None

    @property
    def name(self) -> str:
        """The name of the model folder."""
        return self.path.resolve().name

    @property
    def identity(self) -> str:
        """The hash of the content of the model folder."""
        return str(self.manifest["identity"])

    @property
    def weight_by(self) -> str:
        """By what the training rows were weighted (`fit --weight-by`), empty if they were not."""
        return str(self.manifest["settings"].get(WEIGHT_BY, ""))

    @property
    def calibrated(self) -> bool:
        """Whether quotes have intervals."""
        return isinstance(self.pricer, ConformalPricer)

    @property
    def level(self) -> float | None:
        """The nominal coverage of the intervals."""
        return self.pricer.table.level if isinstance(self.pricer, ConformalPricer) else None

    @property
    def asks_api(self) -> bool:
        """Whether quotes may need answers of an API model, which cost money."""
        if self.rewriter is not None and self.rewriter.asks_api:
            return True
        pricer: Any = self.pricer
        while pricer is not None and not hasattr(pricer, "asks_api"):
            pricer = getattr(pricer, "pricer", None)
        return bool(getattr(pricer or self.recipe, "asks_api", False))

    def price(self, listings: Sequence[Listing], *, check_similarity: bool = False) -> list[Quote]:
        """One quote for each listing, in order, clipped to the catalog's range, with an interval.

        A listing that curate would refuse as too short is unanswered, with the reason in `raw`. With
        `check_similarity` each quote has `nothing_similar`. If the model's catalog was rewritten by a language model,
        listings are rewritten first; one that cannot be is unanswered.
        """
        check_form(listings, self.rewriting)
        cleaning = parse_settings(CleanSettings, self.info["cleaning"], where=CATALOG)
        accepted = [listing for listing in listings if not is_too_short(listing, cleaning)]
        rewritten = self.rewriter.rewrite(accepted) if self.rewriter is not None else None
        ready = accepted if rewritten is None else [answer.listing for answer in rewritten if not answer.error]
        quotes = iter(self.pricer.price(ready) if ready else [])
        if check_similarity:
            flags = self.nothing_similar(ready)
            quotes = iter([replace(quote, nothing_similar=flag) for quote, flag in zip(quotes, flags, strict=True)])
        if rewritten is not None:
            quotes = iter([add_rewriting(None if answer.error else next(quotes), answer) for answer in rewritten])
        refused = Quote(None, raw=refusal(cleaning))
        if len(accepted) == len(listings):
            return list(quotes)
        return [refused if is_too_short(listing, cleaning) else next(quotes) for listing in listings]

    @property
    def rewriting(self) -> str:
        """Identifies how the listings of the model's catalog were rewritten; empty: they were not."""
        facts = read_rewriting_facts(self.info)
        return facts.id if facts else ""

    def rewrite(self, listings: Sequence[Listing]) -> list[Listing]:
        """The listings as the model reads them: rewritten, if those of its catalog were, and as far as they can be."""
        if self.rewriter is None:
            return list(listings)
        return [answer.listing for answer in self.rewriter.rewrite(listings)]

    @property
    def has_comparables(self) -> bool:
        """Whether the folder has the training rows; an export may lack them, and the members of a blend do."""
        return (self.path / COMPARABLES).is_dir()

    @property
    def index(self) -> ComparablesIndex | None:
        """The comparables index; None if the model was exported without its training rows."""
        if self._index is None and self.has_comparables:
            self._index = ComparablesIndex.load(self.path / COMPARABLES)
        return self._index

    def find_comparables(
        self, listings: Sequence[Listing], k: int = 3, *, quotes: Sequence[Quote] | None = None
    ) -> list[list[Comparable]]:
        """The `k` most similar training listings of each listing; none if the model was exported without them.

        `quotes` are the model's quotes of the listings, if they are known.
        """
        if self.index is None:
            return [[] for _ in listings]
        if quotes is None:
            quotes = self.price(listings)  # before they are rewritten: one that cannot be has no price
        if self.rewriter is not None:  # a listing without a price is not asked about (again)
            ready = iter(
                self.rewrite([listing for listing, quote in zip(listings, quotes, strict=True) if quote.price])
            )
            listings = [
                next(ready) if quote.price else listing for listing, quote in zip(listings, quotes, strict=True)
            ]
        logs = [math.log(quote.price) if quote.price else math.nan for quote in quotes]
        return self.index.search(listings, k, logs)

    def nothing_similar(self, listings: Sequence[Listing]) -> list[bool | None]:
        """Whether no training listing is similar to each listing, so that its price is a guess; None if the model was
        exported without its training rows."""
        if self.index is None or not self.index.calibrated:
            return [None for _ in listings]
        return list(self.index.nothing_similar(self.rewrite(listings)))


def add_rewriting(quote: Quote | None, answer: RewrittenListing) -> Quote:
    """The quote of a rewritten listing with the cost of rewriting it; unanswered if it could not be rewritten."""
    if quote is None:
        reason = answer.error
        note = f"{NOT_ASKED}: {reason}"
        return Quote(None, raw="the listing could not be rewritten", cost_usd=answer.cost_usd, note=note)
    known = quote.cost_usd is not None and answer.cost_usd is not None
    return replace(quote, cost_usd=(quote.cost_usd or 0.0) + (answer.cost_usd or 0.0) if known else None)


def content_identity(files: Mapping[str, Mapping[str, Any]], *, skip: str = "") -> str:
    """A hash over the hashes of all files but `skip`, the recipe of a model whose settings have paths."""
    lines = "".join(f"{name} {facts['sha256']}\n" for name, facts in sorted(files.items()) if name != skip)
    return hashlib.sha256(lines.encode()).hexdigest()


def load_model(path: Path | str) -> PriceModel:
    """The model of a folder. Raises InputError if it is unfinished, changed, or of another format."""
    folder = resolve_model_folder(Path(path))
    manifest = read_manifest(folder)
    require_files(folder, manifest["files"], (RECIPE, CATALOG, CALIBRATION))
    files = manifest["files"]
    if not (folder / COMPARABLES).exists():  # a member of a blend, or an export, may lack them
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
        rewriting = read_rewriting_facts(info)
        if getattr(recipe, "probed", True):  # detect files that do not belong together
            pricer.price([replace(PROBE, rewriting=rewriting.id if rewriting else "")])
    model = PriceModel(folder, recipe, pricer, info, manifest)
    model.reference = read_settings(folder / REFERENCE, Reference) if REFERENCE in files else None
    if rewriting is not None:
        from pricesmith.pricers.rewriting.rewriter import ListingRewriter  # loads what asks API models

        cleaning = parse_settings(CleanSettings, info["cleaning"], where=CATALOG)
        model.rewriter = ListingRewriter(rewriting, cleaning, str(info["currency"]))
    return model


def require_files(folder: Path, listed: Mapping[str, Any], needed: Sequence[str]) -> None:
    """Raise InputError if the manifest does not list a required file."""
    missing = [name for name in needed if name not in listed]
    if missing:
        raise InputError(
            f"{folder / MANIFEST} does not list every file of the model",
            got=f"no entry for {', '.join(missing[:5])}",
            allowed="the size and SHA-256 of each file",
            hint=f"An earlier version of Pricesmith may have made it. {HINT}",
        )


def stored_recipe(folder: Path, kind: str) -> Recipe:
    """The recipe in a model folder. Raises InputError if it is damaged, or its kind is not that of the manifest."""
    try:
        recipe = read_recipe(str(folder / RECIPE))
    except UsageError as error:
        raise damaged_file(folder / RECIPE, f"{error.what}: {error.got}", allowed=error.allowed) from None
    if recipe.kind != kind:
        raise damaged_file(folder / RECIPE, f"a recipe of kind {recipe.kind}", allowed=f"kind {kind}, as in {MANIFEST}")
    return recipe


def read_manifest(folder: Path) -> dict[str, Any]:
    """The manifest of a model folder. Raises InputError if the folder is not a finished model."""
    if not is_complete(folder, MANIFEST):
        raise InputError(
            f"{folder} is not a finished model",
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
            folder / MANIFEST, "a list of files that does not match its identity", allowed="the list as it was written"
        )
    require_kind(folder, kind, manifest.get("package"))
    return manifest


def require_kind(folder: Path, kind: str, package: Any) -> None:
    """Raise InputError if no installed package provides the kind of a model."""
    if kind in KINDS:
        return
    known = [*KINDS, *plugin_kinds()]
    if kind in known:
        return
    name = package.get("name") if isinstance(package, dict) else None
    if name:
        raise InputError(
            f"{folder} needs the package {name}",
            got=f"a model of kind {kind!r}, fitted with {name} {package.get('version', '')}".rstrip(),
            allowed=", ".join(known),
            hint=f"Run `pip install {name}` and the same command again.",
        )
    raise damaged_file(folder / MANIFEST, f"kind {kind!r}", allowed=", ".join(known), hint="Upgrade Pricesmith.")


def format_model(model: PriceModel) -> str:
    """One line about a fitted model: its kind, training rows, fit time and typical interval."""
    rows = model.manifest["rows"]
    table = model.pricer.table if isinstance(model.pricer, ConformalPricer) else None
    interval = f", typical {model.level:.0%} interval: {format_intervals(table)}" if table else ""
    seconds = model.manifest["fit_seconds"]
    weighted = f", weighted by {model.weight_by}" if model.weight_by else ""
    fitted = f"{model.manifest['kind']} fitted on {rows['train']:,} listings{weighted} in {seconds:.1f} s"
    rewriting = read_rewriting_facts(model.info)
    rewritten = f"; listings are rewritten by {rewriting.model} before they are priced" if rewriting else ""
    return f"{model.path}: {fitted}{interval}{rewritten}"


def to_dict(model: PriceModel) -> dict[str, Any]:
    """The path and the manifest of a model, without its list of files, for JSON."""
    return {"model": str(model.path), **{name: value for name, value in model.manifest.items() if name != "files"}}
