"""Learning curves: nested parts, a known curve recovered, a rare category named, interrupted runs resumed."""

from __future__ import annotations

import csv
import json
import os
from pathlib import Path

import numpy as np
import pytest

import pricesmith as ps
from pricesmith.catalog.catalog import Catalog, open_catalog
from pricesmith.cli import run
from pricesmith.core.errors import InputError, UsageError
from pricesmith.learning_curve import measure_learning_curve
from pricesmith.learning_curve.fits import (
    WITHOUT_VALIDATION,
    FitTask,
    build_material,
    build_tasks,
    left_out_rows,
    nested_order,
    select_rows,
)
from pricesmith.learning_curve.narrative import format_learning_curve, needs_rows_sentence
from pricesmith.pricers import recipe_class
from pricesmith.pricers.recipes import read_recipe
from pricesmith.testing import make_catalog, make_csv

from .conftest import KnownRecipe, curve


def test_parts_are_nested_and_keep_groups_whole(shop: Catalog) -> None:
    """Each part holds the smaller ones of its draw, no group is cut, and the two halves of a pair share no row."""
    material = build_material(shop, "ridge", 50_000)
    names = np.array(material.train_groups)
    for draw in (0, 1, 2):
        parts = {part: select_rows(material.train_groups, FitTask(part, draw)) for part in (8, 4, 2)}
        assert (parts[8] <= parts[4]).all()
        assert (parts[4] <= parts[2]).all()
        for part, inside in parts.items():
            assert set(names[inside]) & set(names[~inside]) == set()
            assert len(names) / part - 3 <= inside.sum() <= len(names) / part
    assert not (
        select_rows(material.train_groups, FitTask(2, 0)) & select_rows(material.train_groups, FitTask(2, 1))
    ).any()
    assert nested_order(material.train_groups, 0) != nested_order(material.train_groups, 2)
    assert (
        set(left_out_rows(material, 0)) & set(np.flatnonzero(select_rows(material.train_groups, FitTask(2, 0))))
        == set()
    )
    assert set(left_out_rows(material, 0)) | set(left_out_rows(material, 1)) == set(range(len(names)))


def test_the_small_fits_come_first_and_all_rows_once() -> None:
    """An interrupted run loses the least if the small fits are done first."""
    tasks = build_tasks(2)
    assert [task.part for task in tasks] == [8, 8, 4, 4, 2, 2, 1]


def test_a_known_curve_is_recovered_and_a_rare_category_named(shop: Catalog, tmp_path: Path) -> None:
    """The true gain of twice the rows is inside its interval, and the category with few rows needs them."""
    result = measure_learning_curve(shop, tmp_path / "curve", KnownRecipe())
    rows, held = len(shop.items("train")), shop.items("validation")
    share = np.mean([item.listing.category != "gem" for item in held])
    gain = share * (curve(rows) - curve(2 * rows))
    assert result.doubling.answer == "gain"
    # Gems have a curve of their own, so the overall MAE falls by a little more.
    assert result.doubling.gain.low <= gain + (1 - share) * 20
    assert result.doubling.gain.high >= gain
    assert [gain.category for gain in result.category_gains if gain.needs_rows] == ["gem"]
    assert result.category_gains[0].share_of_rows < 0.04
    assert result.category_gains[0].share_of_error > 2 * result.category_gains[0].share_of_rows
    text = "\n".join(part for part in format_learning_curve(result) if isinstance(part, str))
    assert "More rows would help most in gem" in text


def test_a_rare_category_is_first_with_ridge_too(shop: Catalog, tmp_path: Path) -> None:
    """Gems cost six times as much as their words suggest elsewhere, and few rows show it."""
    result = measure_learning_curve(shop, tmp_path / "curve", read_recipe("ridge"), repeats=2)
    gem = next(gain for gain in result.category_gains if gain.category == "gem")
    assert gem is result.category_gains[0]
    assert gem.gain.point > 3 * result.overall_gain.point


def test_a_flat_curve_has_a_small_gain(shop: Catalog, tmp_path: Path) -> None:
    """If no row helps, no gain is forecast."""
    result = measure_learning_curve(shop, tmp_path / "curve", KnownRecipe(flat=True), repeats=2)
    assert result.doubling.answer in ("small gain", "unclear")


def test_an_interrupted_run_resumes(shop: Catalog, tmp_path: Path) -> None:
    """Finished fits are kept, the result equals an uninterrupted run's, and other settings are refused."""
    KnownRecipe.breaks_at = 4
    with pytest.raises(KeyboardInterrupt):
        measure_learning_curve(shop, tmp_path / "curve", KnownRecipe(), repeats=2)
    assert len(KnownRecipe.fits) == 3
    assert not (tmp_path / "curve").exists()
    with pytest.raises(UsageError, match="other settings"):
        measure_learning_curve(shop, tmp_path / "curve", KnownRecipe(), repeats=1)
    again = measure_learning_curve(shop, tmp_path / "curve", KnownRecipe(), repeats=2)
    assert len(KnownRecipe.fits) == 7
    whole = measure_learning_curve(shop, tmp_path / "whole", KnownRecipe(), repeats=2)
    excluded = {"fit_seconds", "points"}
    assert again.model_dump(exclude=excluded) == whole.model_dump(exclude=excluded)
    assert [point.mae for point in again.points] == [point.mae for point in whole.points]
    assert measure_learning_curve(shop, tmp_path / "curve", KnownRecipe(), repeats=2) == again
    assert len(KnownRecipe.fits) == 14


def test_an_interrupt_before_the_first_fit_leaves_nothing(shop: Catalog, tmp_path: Path) -> None:
    """Without a finished fit there is nothing to resume."""
    KnownRecipe.breaks_at = 1
    with pytest.raises(KeyboardInterrupt):
        measure_learning_curve(shop, tmp_path / "curve", KnownRecipe())
    assert list(tmp_path.iterdir()) == []


def test_the_test_split_is_not_read(shop: Catalog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The measurement is repeated often, so the test split must stay unused."""
    read: list[str] = []
    whole = Catalog.columns
    monkeypatch.setattr(Catalog, "columns", lambda self, split, names: read.append(split) or whole(self, split, names))
    measure_learning_curve(shop, tmp_path / "curve", KnownRecipe(), repeats=1)
    assert "validation" in read
    assert "test" not in read


@pytest.mark.parametrize("kind", sorted(WITHOUT_VALIDATION))
def test_kinds_without_validation_learn_nothing_from_it(kind: str, shop: Catalog, tmp_path: Path) -> None:
    """These kinds quote the same with validation and without, so all of it can evaluate them."""
    recipe, train = recipe_class(kind)(), shop.items("train")[:300]
    held = [item.listing for item in shop.items("validation")[:50]]
    quotes = []
    for name, validation in (("with", shop.items("validation")), ("without", [])):
        (tmp_path / name).mkdir()
        recipe.fit(train, validation, tmp_path / name)
        quotes.append([quote.price for quote in recipe.load(tmp_path / name).price(held)])
    assert quotes[0] == quotes[1]


def test_a_kind_that_learns_from_validation_is_evaluated_on_the_other_half(shop: Catalog) -> None:
    """Boosting uses validation for early stopping, so it is evaluated on the other half."""
    material = build_material(shop, "boosting", 50_000)
    assert material.tune == shop.tune_half()
    assert material.evaluated == shop.calibrate_half()


def test_composite_recipes_and_small_catalogs_are_refused(shop: Catalog, tmp_path: Path) -> None:
    """A blend's members were fitted on all rows; a few rows have no curve."""
    with pytest.raises(UsageError, match="made of models"):
        measure_learning_curve(shop, tmp_path / "curve", read_recipe("blend", {"members": ["x"]}))
    small = open_catalog(make_catalog(tmp_path / "small", 300))
    with pytest.raises(InputError, match="too few training rows"):
        measure_learning_curve(small, tmp_path / "curve", read_recipe("ridge"))
    assert not list(tmp_path.glob("*curve*"))


def test_the_verb_prints_one_object_and_writes_a_page(catalog_folder: Path, tmp_path: Path, capfd) -> None:
    """--json is one object, the page loads nothing, and a finished folder is read again."""
    words = [
        "learning-curve",
        str(catalog_folder),
        "--recipe",
        "ridge",
        "--repeats",
        "1",
        "--to",
        str(tmp_path / "curve"),
    ]
    assert run([*words, "--json"]) == 0
    result = json.loads(capfd.readouterr().out)
    assert [point["part"] for point in result["points"]] == [8, 4, 2, 1]
    page = (tmp_path / "curve" / "learning_curve.html").read_text()
    assert "<script" not in page
    assert "default-src 'none'" in page
    assert "<svg" in page
    assert 'data-label="Gain from half the rows"' in page  # on a phone each row is a card
    assert run(words) == 0
    out = capfd.readouterr().out
    assert "is already finished" in out
    assert "forecast" in out
    assert run([*words, "--quiet"]) == 0
    assert capfd.readouterr() == ("", "")
    assert run([*words, "--set", "alpha=2"]) == 2
    assert "alpha: 1.0 -> 2" in capfd.readouterr().err


def test_a_catalog_without_categories_has_a_message_of_its_own(tmp_path: Path) -> None:
    """The message does not blame the number of rows."""
    with make_csv(tmp_path / "shop.csv", 1_200).open(newline="") as file:
        rows = [{name: value for name, value in row.items() if name != "category"} for row in csv.DictReader(file)]
    with (tmp_path / "plain.csv").open("w", newline="") as file:
        table = csv.DictWriter(file, rows[0].keys())
        table.writeheader()
        table.writerows(rows)
    plain = ps.catalog.curate(tmp_path / "plain.csv", tmp_path / "plain")
    result = ps.measure_learning_curve(plain, tmp_path / "curve", recipe="ridge", repeats=1)
    assert needs_rows_sentence(result).startswith("The catalog has no categories")


def test_a_hostile_category_stays_text(
    catalog_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd
) -> None:
    """Neither the page nor the terminal interprets a category's name."""
    whole = Catalog.items_and_groups

    def renamed(self: Catalog, split: str):
        items, groups = whole(self, split)
        hostile = "[/red]\x1b[2J<script>alert(1)</script>"
        swap = [ps.Item(ps.Listing(i.listing.id, i.listing.title, i.listing.text, hostile), i.price) for i in items]
        return [new if i.listing.category == "chair" else i for i, new in zip(items, swap, strict=True)], groups

    monkeypatch.setattr(Catalog, "items_and_groups", renamed)
    assert (
        run(
            [
                "learning-curve",
                str(catalog_folder),
                "--recipe",
                "median",
                "--repeats",
                "1",
                "--to",
                str(tmp_path / "curve"),
            ]
        )
        == 0
    )
    out = capfd.readouterr().out
    assert "\x1b[2J" not in out
    assert "[/red]" in out
    page = (tmp_path / "curve" / "learning_curve.html").read_text()
    assert "<script>" not in page
    assert "&lt;script&gt;" in page


def test_from_python_it_is_one_line(catalog_folder: Path, tmp_path: Path) -> None:
    """`ps.measure_learning_curve` takes a folder and a recipe's name."""
    result = ps.measure_learning_curve(catalog_folder, tmp_path / "curve", recipe="median", repeats=1)
    assert result.recipe == "median"
    assert len(os.listdir(tmp_path / "curve" / "fits")) == 4
