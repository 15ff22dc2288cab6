"""Model folders: complete and unchanged, or refused; fitting, refitting and overwriting them."""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar, cast

import pytest

from pricesmith.catalog.catalog import Catalog, open_catalog
from pricesmith.core.errors import InputError, UsageError
from pricesmith.core.progress import Progress
from pricesmith.core.settings import Settings
from pricesmith.core.types import Item, Listing, Quote
from pricesmith.pricers import recipe_class
from pricesmith.pricers.blend import BlendRecipe
from pricesmith.pricers.conformal import ClippedPricer
from pricesmith.pricers.fitting import FIT_TIME, FitData, fit_model, refit_model
from pricesmith.pricers.model import content_identity, format_model, load_model
from pricesmith.pricers.recipes import read_recipe
from pricesmith.testing import make_catalog


class Notes(Progress):
    """Progress that records its notes."""

    def __init__(self) -> None:
        self.notes: list[str] = []

    def note(self, text: str) -> None:
        self.notes.append(text)


@pytest.fixture
def ridge(runs: dict[str, Path], tmp_path: Path) -> Path:
    """A copy of the ridge model, to be damaged."""
    return Path(shutil.copytree(runs["ridge"], tmp_path / "ridge"))


def edited(run: Path, **facts: object) -> None:
    """Replace entries of a manifest."""
    manifest = json.loads((run / "manifest.json").read_text())
    (run / "manifest.json").write_text(json.dumps({**manifest, **facts}))


class Slow(Settings):
    """A recipe that resumes: its first fit takes 0.4 s, a later one reuses its file."""

    kind: ClassVar[str] = "slow"
    resumes: ClassVar[bool] = True
    dies: ClassVar[bool] = True

    def fit(self, train: Sequence[Item], validation: Sequence[Item], folder: Path, progress: Progress) -> None:
        if not (folder / "model.json").is_file():
            time.sleep(0.4)
            (folder / "model.json").write_text("{}")

    def load(self, folder: Path) -> Any:
        if Slow.dies:
            Slow.dies = False
            raise KeyboardInterrupt
        return Steady()


class Steady:
    """Quotes 10 for every listing."""

    name = "steady"

    def price(self, listings: Sequence[Listing]) -> list[Quote]:
        return [Quote(10.0) for _ in listings]


def test_a_fit_that_ends_while_it_is_calibrated_keeps_its_seconds(tmp_path: Path) -> None:
    """The fit time includes the interrupted process, and not the time between the two."""
    shop = open_catalog(make_catalog(tmp_path / "shop", 300))
    recipe = cast(Any, Slow())
    with pytest.raises(KeyboardInterrupt):
        fit_model(recipe, shop, tmp_path / "run")
    building = tmp_path / ".run.building"
    spent = json.loads((building / FIT_TIME).read_text())
    (building / FIT_TIME).write_text(json.dumps({**spent, "begun": spent["begun"] - 5000}))
    for path in building.rglob("*"):  # as if it had been killed an hour and a half ago
        os.utime(path, (path.stat().st_mtime - 5000,) * 2)
    fit_model(recipe, shop, tmp_path / "run")
    manifest = json.loads((tmp_path / "run" / "manifest.json").read_text())
    assert 0.35 <= manifest["fit_seconds"] < 2000
    assert not [name for name in manifest["files"] if name == FIT_TIME]


def test_a_manifest_says_what_the_run_was_made_with(runs: dict[str, Path]) -> None:
    """Sizes, hashes, versions, rows and seconds of everything that matters are there."""
    manifest = json.loads((runs["boosting"] / "manifest.json").read_text())
    assert {"format", "kind", "identity", "fit_seconds", "rows", "seed", "versions", "files", "settings"} <= set(
        manifest
    )
    assert {"python", "numpy", "scikit-learn", "lightgbm"} <= set(manifest["versions"])
    on_disk = {path.relative_to(runs["boosting"]).as_posix() for path in runs["boosting"].rglob("*") if path.is_file()}
    assert set(manifest["files"]) == on_disk - {"manifest.json"}
    assert manifest["seed"] == 0


@pytest.mark.parametrize("name", ["ridge.npz", "words.json", "calibration.json", "catalog.json", "recipe.toml"])
def test_a_changed_file_is_refused_by_name(name: str, ridge: Path) -> None:
    """One flipped bit is detected, though the size is the same."""
    data = bytearray((ridge / name).read_bytes())
    data[len(data) // 2] ^= 1
    (ridge / name).write_bytes(data)
    with pytest.raises(InputError, match=name):
        load_model(ridge)


@pytest.mark.parametrize("name", ["ridge.npz", "comparables/index.npz"])
def test_a_missing_file_is_refused_by_name(name: str, ridge: Path) -> None:
    """An incomplete copy is refused."""
    (ridge / name).unlink()
    with pytest.raises(InputError, match=Path(name).name):
        load_model(ridge)


def test_a_run_without_its_comparables_still_prices(ridge: Path, runs: dict[str, Path]) -> None:
    """An exported run has no training rows; it quotes the same and has nothing similar to show."""
    shutil.rmtree(ridge / "comparables")
    listings = [Listing("1", "Aster hose", "5 kg")]
    assert load_model(ridge).price(listings) == load_model(runs["ridge"]).price(listings)
    assert load_model(ridge).comparables(listings) == [[]]


def test_comparables_are_training_rows(runs: dict[str, Path], shop: Catalog) -> None:
    """Three similar items with their prices, with or without given quotes."""
    prices = {item.listing.id: item.price for item in shop.items("train")}
    listings = [item.listing for item in shop.items("test")[:5]]
    run = load_model(runs["ridge"])
    comparables = run.comparables(listings)
    for near in comparables:
        assert [prices[comparable.id] for comparable in near] == [comparable.price for comparable in near]
        assert len(near) == 3
    assert run.comparables(listings, quotes=run.price(listings)) == comparables
    assert run.comparables([]) == []


def test_a_folder_that_is_no_run_is_refused(tmp_path: Path) -> None:
    """The error names what is missing and the command that makes it."""
    for folder in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(InputError, match="not a finished model"):
            load_model(folder)


def test_a_later_format_is_refused(ridge: Path) -> None:
    """An earlier version does not read a model of a later one."""
    edited(ridge, format=99)
    with pytest.raises(InputError, match="later version"):
        load_model(ridge)


@pytest.mark.parametrize("name", ["../../etc/passwd", "/etc/passwd", "comparables/../../secret"])
def test_a_manifest_cannot_name_files_outside_its_folder(name: str, ridge: Path) -> None:
    """A manifest whose identity fits its list of files is refused if one of them is outside the folder."""
    files = json.loads((ridge / "manifest.json").read_text())["files"]
    files[name] = {"bytes": 1, "sha256": "0" * 64}
    edited(ridge, files=files, identity=content_identity(files))
    with pytest.raises(InputError, match="names a file outside itself") as error:
        load_model(ridge)
    assert name in str(error.value)


def test_a_manifest_with_another_list_of_files_is_damaged(ridge: Path) -> None:
    """Its identity is the hash of the list that was written."""
    edited(ridge, files={"../../etc/passwd": {"bytes": 1, "sha256": "0" * 64}})
    with pytest.raises(InputError, match=r"manifest\.json is damaged"):
        load_model(ridge)


def test_the_same_fit_again_says_that_it_is_done(runs: dict[str, Path], shop: Catalog) -> None:
    """Nothing is written twice."""
    before = (runs["ridge"] / "manifest.json").stat().st_mtime_ns
    progress = Notes()
    fit_model(read_recipe("ridge"), shop, runs["ridge"], progress=progress)
    assert "already fitted" in progress.notes[0]
    assert (runs["ridge"] / "manifest.json").stat().st_mtime_ns == before


def test_another_setting_or_catalog_is_refused_with_the_difference(
    runs: dict[str, Path], shop: Catalog, tmp_path: Path
) -> None:
    """A finished model is not overwritten without --overwrite."""
    with pytest.raises(UsageError, match="other settings") as error:
        fit_model(read_recipe("ridge", {"alpha": 2.0}), shop, runs["ridge"])
    assert "alpha: 1.0 -> 2.0" in str(error.value)
    with pytest.raises(UsageError, match="catalog"):
        fit_model(read_recipe("ridge"), open_catalog(make_catalog(tmp_path / "other", 300, seed=9)), runs["ridge"])


def test_overwrite_replaces_a_run(ridge: Path, shop: Catalog) -> None:
    """`--overwrite` fits in a temporary folder and then replaces the model."""
    fit_model(read_recipe("ridge", {"alpha": 9.0}), shop, ridge, overwrite=True)
    assert load_model(ridge).recipe == read_recipe("ridge", {"alpha": 9.0})


def test_a_blend_of_members_that_changed_is_not_the_old_blend(shop: Catalog, tmp_path: Path) -> None:
    """The same paths with different content count as other settings."""
    for kind in ("median", "ridge"):
        fit_model(read_recipe(kind), shop, tmp_path / kind)
    blend = read_recipe("blend", {"members": [str(tmp_path / "median"), str(tmp_path / "ridge")]})
    fit_model(blend, shop, tmp_path / "blend")
    fit_model(read_recipe("ridge", {"alpha": 3.0}), shop, tmp_path / "ridge", overwrite=True)
    with pytest.raises(UsageError, match="other settings"):
        fit_model(blend, shop, tmp_path / "blend")


def test_a_blend_is_of_the_catalog_of_its_members(runs: dict[str, Path], tmp_path: Path) -> None:
    """Weights fitted on training rows of a member would be meaningless."""
    other = open_catalog(make_catalog(tmp_path / "other", 300, seed=9))
    recipe = read_recipe("blend", {"members": [str(runs["median"]), str(runs["ridge"])]})
    with pytest.raises(UsageError, match="different catalogs"):
        fit_model(recipe, other, tmp_path / "blend")
    assert not (tmp_path / "blend").exists()


@pytest.mark.parametrize("kind", ["median", "ridge", "boosting", "knn"])
def test_a_tiny_catalog_is_fitted_and_says_that_it_has_no_interval(kind: str, tmp_path: Path) -> None:
    """Six calibration rows are too few: the interval is the whole range, and the model's line states it."""
    small = open_catalog(make_catalog(tmp_path / "small", 100))
    fit_model(read_recipe(kind), small, tmp_path / "run")
    run = load_model(tmp_path / "run")
    (quote,) = run.price([small.items("test")[0].listing])
    assert (quote.low, quote.high) == small.price_range
    assert "too few for an interval" in format_model(run)


@pytest.mark.parametrize(
    ("price", "clipped"),
    [(1e9, 5.0), (1e-9, 1.0), (3.0, 3.0), (float("nan"), None), (float("inf"), None), (None, None)],
)
def test_a_quote_is_never_outside_the_range(price: float | None, clipped: float | None) -> None:
    """Prices are clipped to the catalog's range; a price that is not a finite number is unanswered."""

    class Says:
        name = "says"

        def price(self, listings: object) -> list[Quote]:
            return [Quote(price, raw="so")]

    (quote,) = ClippedPricer(Says(), (1.0, 5.0)).price([Listing("", "", "")])
    assert (quote.price, quote.raw) == (clipped, "so")


def test_a_run_can_be_fitted_again_on_other_rows(runs: dict[str, Path], shop: Catalog) -> None:
    """Folds refit the same recipe, a blend with all its members, and leave nothing behind."""
    items = shop.items("train")
    again = refit_model(load_model(runs["ridge"]), FitData(items[:300], items[300:350], items[350:400]))
    assert again.recipe == load_model(runs["ridge"]).recipe
    assert again.manifest["rows"]["train"] == 300
    path = again.path
    del again
    assert not path.exists()


def test_every_member_of_a_member_is_fitted_again(shop: Catalog, tmp_path: Path) -> None:
    """Otherwise a blend in a blend would use models that were trained on the evaluated rows."""
    for kind in ("median", "ridge"):
        fit_model(read_recipe(kind), shop, tmp_path / kind)
    inner = read_recipe("blend", {"members": [str(tmp_path / "median"), str(tmp_path / "ridge")]})
    fit_model(inner, shop, tmp_path / "inner")
    outer = read_recipe("blend", {"members": [str(tmp_path / "inner"), str(tmp_path / "median")]})
    fit_model(outer, shop, tmp_path / "outer")
    items = shop.items("train")
    again = refit_model(load_model(tmp_path / "outer"), FitData(items[:300], items[300:350], items[350:400]))
    manifests = sorted(again.path.rglob("manifest.json"))
    assert len(manifests) == 5
    assert {json.loads(path.read_text())["rows"]["train"] for path in manifests} == {300}
    blends = [read_recipe(str(path)) for path in again.path.rglob("recipe.toml") if "blend" in path.read_text()]
    members = [Path(member) for blend in blends if isinstance(blend, BlendRecipe) for member in blend.members]
    assert len(members) == 4
    assert all(member.is_relative_to(again.path.parent) for member in members)


def test_a_refit_that_fails_leaves_nothing(
    runs: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The temporary folder of a fold is removed even if the fit fails."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with pytest.raises(Exception):  # noqa: B017, PT011
        refit_model(load_model(runs["ridge"]), FitData([], [], []))
    assert list(tmp_path.iterdir()) == []


def test_a_blend_does_not_hang_on_how_its_members_are_spelt(
    shop: Catalog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another path to the same runs, or another working directory, is the same blend, with the same identity."""
    for kind in ("median", "ridge"):
        fit_model(read_recipe(kind), shop, tmp_path / kind)
    fit_model(
        read_recipe("blend", {"members": [str(tmp_path / "median"), str(tmp_path / "ridge")]}), shop, tmp_path / "one"
    )
    monkeypatch.chdir(tmp_path / "ridge")
    spelt = read_recipe("blend", {"members": "../median,."})
    progress = Notes()
    fit_model(spelt, shop, tmp_path / "one", progress=progress)
    assert "already fitted" in progress.notes[0]
    fit_model(spelt, shop, tmp_path / "two")
    assert load_model(tmp_path / "one").identity == load_model(tmp_path / "two").identity


def test_a_recorded_run_is_known_by_its_file(shop: Catalog, guesses: Path, tmp_path: Path) -> None:
    """By name and content, in any folder; it is refitted from its own copy."""
    fit_model(read_recipe("precomputed", {"file": str(guesses)}), shop, tmp_path / "run")
    copy = Path(shutil.copy(guesses, tmp_path / guesses.name))
    progress = Notes()
    fit_model(read_recipe("precomputed", {"file": str(copy)}), shop, tmp_path / "run", progress=progress)
    assert "already fitted" in progress.notes[0]
    fit_model(read_recipe("precomputed", {"file": str(copy)}), shop, tmp_path / "other")
    copy.unlink()
    items = shop.items("train")
    again = refit_model(load_model(tmp_path / "other"), FitData(items[:50], items[50:60], items[60:70]))
    listings = [item.listing for item in shop.items("test")[:5]]
    assert [quote.price for quote in again.price(listings)] == [
        quote.price for quote in load_model(tmp_path / "run").price(listings)
    ]


def test_an_unknown_kind_is_refused_with_the_nearest() -> None:
    """The error suggests the nearest kind."""
    with pytest.raises(UsageError, match="ridgee") as error:
        recipe_class("ridgee")
    assert "'ridge'" in str(error.value)
