"""A run folder: how it is fitted, checked and loaded, the same for every kind.

`fit` is: the recipe writes its model files, they are loaded, calibrated on rows that fitting has not seen, comparables are
added, and `manifest.json` (sizes, SHA-256, versions, seconds) is written last. `load` is the only way to a pricer.
"""

from __future__ import annotations

import platform
import time
from collections.abc import Mapping, Sequence
from importlib import metadata, resources
from pathlib import Path
from typing import Any, cast

import numpy as np

from pricesmith.catalog.comparables import Comparable, Index
from pricesmith.catalog.store import Catalog
from pricesmith.errors import InputError, UsageError
from pricesmith.pricers import recipe_class
from pricesmith.pricers.calibrated import Calibrated, Table, calibrate
from pricesmith.progress import SILENT, Progress
from pricesmith.settings import Settings, parse, read_toml, write_toml
from pricesmith.types import Item, Listing, Pricer, Quote, Recipe
from pricesmith.workspace import build_folder, inventory, is_whole, read_json, verify, write_atomic, write_json

MANIFEST = "manifest.json"
RECIPE = "recipe.toml"
CATALOG = "catalog.json"
CALIBRATION = "calibration.json"
COMPARABLES = "comparables"
FORMAT = 1
LIBRARIES = ("pricesmith", "numpy", "scikit-learn", "lightgbm", "torch")


class Clipped:
    """A pricer whose quotes stay inside the catalog's price range."""

    def __init__(self, pricer: Pricer, price_range: tuple[float, float]) -> None:
        self.pricer, self.price_range = pricer, price_range

    @property
    def name(self) -> str:
        return self.pricer.name

    def price(self, listings: Sequence[Listing]) -> list[Quote]:
        """The pricer's quotes, clipped; one that is not a number is no answer."""
        return [self.clipped(quote) for quote in self.pricer.price(listings)]

    def clipped(self, quote: Quote) -> Quote:
        if quote.price is None or not np.isfinite(quote.price):
            return Quote(None, raw=quote.raw, cost_usd=quote.cost_usd)
        low, high = self.price_range
        bounds = [None if end is None else min(max(end, low), high) for end in (quote.low, quote.high)]
        return Quote(min(max(quote.price, low), high), bounds[0], bounds[1], quote.raw, quote.cost_usd)


class Run:
    """A loaded run folder: a pricer, with the facts of the catalog it was fitted on and its comparables."""

    def __init__(self, path: Path, recipe: Recipe, pricer: Pricer, info: Mapping[str, Any], manifest: Mapping[str, Any]):
        self.path, self.recipe, self.pricer, self.info, self.manifest = path, recipe, pricer, info, manifest
        self._index: Index | None = None

    @property
    def name(self) -> str:
        return self.path.resolve().name

    @property
    def identity(self) -> str:
        """What tells this run's content from another's."""
        return str(self.manifest["identity"])

    @property
    def calibrated(self) -> bool:
        return isinstance(self.pricer, Calibrated)

    @property
    def level(self) -> float | None:
        """The share of truths that intervals are made to hold."""
        return self.pricer.table.level if isinstance(self.pricer, Calibrated) else None

    def price(self, listings: Sequence[Listing]) -> list[Quote]:
        """One quote for each listing, in order, clipped to the catalog's range, with an interval."""
        return self.pricer.price(listings) if len(listings) else []

    def comparables(self, listings: Sequence[Listing], k: int = 3) -> list[list[Comparable]]:
        """The most similar training listings; none where the run was exported without them."""
        folder = self.path / COMPARABLES
        if self._index is None and folder.is_dir():
            self._index = Index.load(folder)
        return self._index.search(listings, k) if self._index else [[] for _ in listings]


def shipped() -> dict[str, Path]:
    """The recipes that come with Pricesmith, by name."""
    folder = Path(str(resources.files("pricesmith") / "recipes"))
    return {path.stem: path for path in sorted(folder.glob("*.toml"))}


def read_recipe(name: str, overrides: Mapping[str, Any] | None = None) -> Recipe:
    """A shipped recipe by name, or a TOML file, with settings put over it. Raises UsageError with what there is."""
    path = shipped().get(name, Path(name))
    if name not in shipped() and path.suffix != ".toml":
        raise UsageError(
            f"There is no recipe {name!r}",
            got=name,
            allowed=f"{', '.join(shipped())}, or a .toml file",
            hint="`pricesmith recipe ls` shows them.",
        )
    values = {**read_toml(path), **(overrides or {})}
    if "kind" not in values:
        raise UsageError(f"{path} does not say its kind", hint='Begin it with kind = "ridge" or another kind.')
    kind = str(values.pop("kind"))
    return cast(Recipe, parse(recipe_class(kind), values, where=f"the recipe {name}"))


def settings_of(recipe: Recipe) -> dict[str, Any]:
    """A recipe's kind and settings, as they stand in its TOML file."""
    return {"kind": recipe.kind, **cast(Settings, recipe).model_dump(mode="json")}


def fit(recipe: Recipe, catalog: Catalog, to: Path, *, fresh: bool = False, progress: Progress = SILENT) -> None:
    """Fit a recipe on a catalog's training rows into the run folder `to`; done already with these settings: nothing."""
    settings = {**settings_of(recipe), "catalog": catalog.fingerprint}
    with build_folder(Path(to), MANIFEST, settings, fresh=fresh, noun="run") as build:
        if build is None:
            progress.note(f"{to} is already fitted with these settings.")
            return
        train = catalog.items("train")
        progress.start(f"fitting {recipe.kind} on {len(train):,} listings")
        started = time.perf_counter()
        recipe.fit(train, catalog.tune_half(), build.folder)
        seconds = time.perf_counter() - started
        info = info_of(catalog, train)
        write_json(build.folder / CATALOG, info)
        write_atomic(build.folder / RECIPE, write_toml(settings_of(recipe)))
        progress.start(f"calibrating {recipe.kind}")
        pricer = Clipped(recipe.load(build.folder), catalog.price_range)
        table = calibration(pricer, catalog.calibrate_half())
        write_json(build.folder / CALIBRATION, table.model_dump(mode="json"))
        progress.start("indexing comparables")
        Index.build(train).save(build.folder / COMPARABLES)
        files = inventory(build.folder)
        build.finish(
            {
                "format": FORMAT,
                "kind": recipe.kind,
                "identity": identity_of(files),
                "fit_seconds": round(seconds, 3),
                "rows": len(train),
                "seed": settings.get("seed"),
                "versions": versions(),
                "files": files,
            }
        )


def calibration(pricer: Pricer, items: Sequence[Item]) -> Table:
    """The table of a pricer on calibration items."""
    return calibrate(pricer.price([item.listing for item in items]), [item.price for item in items])


def info_of(catalog: Catalog, train: Sequence[Item]) -> dict[str, Any]:
    """What a run keeps of its catalog, so that it can price raw rows without it."""
    return {
        "name": catalog.name,
        "fingerprint": catalog.fingerprint,
        "cleaning": catalog.ledger["cleaning"],
        "columns": catalog.ledger["columns"],
        "price_range": list(catalog.price_range),
        "currency": catalog.currency,
        "constant": float(np.median([item.price for item in train])),
    }


def identity_of(files: Mapping[str, Mapping[str, Any]]) -> str:
    """One hash over the hashes of all files."""
    import hashlib

    lines = "".join(f"{name} {facts['sha256']}\n" for name, facts in sorted(files.items()))
    return hashlib.sha256(lines.encode()).hexdigest()


def versions() -> dict[str, str]:
    """The versions that a model may depend on."""
    found = {"python": platform.python_version()}
    for name in LIBRARIES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def load(run: Path | str) -> Run:
    """A pricer from its run folder. Raises InputError where it is unfinished, changed, or of a later format."""
    folder = Path(run)
    manifest = read_manifest(folder)
    verify(folder, manifest["files"])
    recipe = read_recipe(str(folder / RECIPE))
    info = read_json(folder / CATALOG)
    low, high = info["price_range"]
    pricer: Pricer = Clipped(recipe.load(folder), (low, high))
    if (folder / CALIBRATION).is_file():
        table = parse(Table, read_json(folder / CALIBRATION), where=CALIBRATION)
        pricer = Calibrated(pricer, table, (low, high))
    return Run(folder, recipe, pricer, info, manifest)


def read_manifest(folder: Path) -> dict[str, Any]:
    """A run's manifest. Raises InputError where the folder is not a finished run."""
    if not is_whole(folder, MANIFEST):
        raise InputError(
            f"{folder} is not a finished run",
            got="no such folder" if not folder.exists() else f"no {MANIFEST} in it",
            hint=f"Run `pricesmith fit RECIPE --catalog CATALOG --to {folder}`.",
        )
    manifest = read_json(folder / MANIFEST)
    if manifest["format"] > FORMAT:
        raise InputError(
            f"{folder} is of a later version of Pricesmith",
            got=f"format {manifest['format']}",
            allowed=f"up to {FORMAT}",
            hint="Upgrade Pricesmith.",
        )
    return dict(manifest)
