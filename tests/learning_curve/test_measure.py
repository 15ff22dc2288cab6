"""Advice from fits: parts nested by group, a known law found, a starved category named, kills gone on from."""

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
    WITHOUT_FIT,
    FitTask,
    build_material,
    build_tasks,
    exclude_category,
    nested_order,
    select_rows,
)
from pricesmith.learning_curve.narrative import rows_needed_sentence
from pricesmith.learning_curve.terminal import format_learning_curve
from pricesmith.pricers import recipe_class
from pricesmith.pricers.recipes import read_recipe
from pricesmith.testing import make_catalog, make_csv

from .conftest import Known, curve


def test_parts_are_nested_and_keep_groups_whole(shop: Catalog) -> None:
    """Each part holds the smaller ones of its draw, no group is cut, and the two halves of a pair share no row."""
    material = build_material(shop, "ridge", 50_000)
    names = np.array(material.names)
    for draw in (0, 1, 2):
        parts = {part: select_rows(material.names, FitTask(part, draw)) for part in (8, 4, 2)}
        assert (parts[8] <= parts[4]).all()
        assert (parts[4] <= parts[2]).all()
        for part, inside in parts.items():
            assert set(names[inside]) & set(names[~inside]) == set()
            assert len(names) / part - 3 <= inside.sum() <= len(names) / part
    assert not (select_rows(material.names, FitTask(2, 0)) & select_rows(material.names, FitTask(2, 1))).any()
    assert nested_order(material.names, 0) != nested_order(material.names, 2)
    assert set(exclude_category(material, 0)) & set(np.flatnonzero(select_rows(material.names, FitTask(2, 0)))) == set()
    assert set(exclude_category(material, 0)) | set(exclude_category(material, 1)) == set(range(len(names)))


def test_the_small_fits_come_first_and_all_rows_once() -> None:
    """What a killed run loses least is done first."""
    tasks = build_tasks(2)
    assert [task.part for task in tasks] == [8, 8, 4, 4, 2, 2, 1]


def test_a_known_law_is_found_and_a_starved_category_named(shop: Catalog, tmp_path: Path) -> None:
    """The gain of twice the rows is inside its interval, and the category whose own rows are few needs them."""
    found = measure_learning_curve(shop, tmp_path / "advice", Known())
    rows, held = len(shop.items("train")), shop.items("validation")
    share = np.mean([item.listing.category != "gem" for item in held])
    gain = share * (curve(rows) - curve(2 * rows))
    assert found.doubling.answer == "buys"
    # Gems follow a law of their own, so the whole falls by a little more.
    assert found.doubling.gain.low <= gain + (1 - share) * 20
    assert found.doubling.gain.high >= gain
    assert [need.category for need in found.needs if need.needs] == ["gem"]
    assert found.needs[0].share_of_rows < 0.04
    assert found.needs[0].share_of_error > 2 * found.needs[0].share_of_rows
    text = "\n".join(part for part in format_learning_curve(found) if isinstance(part, str))
    assert "Rows are needed most in gem" in text


def test_a_category_that_words_explain_later_is_named_by_a_real_recipe(shop: Catalog, tmp_path: Path) -> None:
    """With ridge, too: gems are priced six times as high as their words say elsewhere, and few rows tell it."""
    found = measure_learning_curve(shop, tmp_path / "advice", read_recipe("ridge"), draws=2)
    gem = next(need for need in found.needs if need.category == "gem")
    assert gem is found.needs[0]
    assert gem.gain.point > 3 * found.overall_gain.point


def test_a_flat_pricer_buys_little(shop: Catalog, tmp_path: Path) -> None:
    """Where no row helps, the advice is not to buy any."""
    found = measure_learning_curve(shop, tmp_path / "advice", Known(flat=True), draws=2)
    assert found.doubling.answer in ("little", "unclear")


def test_an_interrupted_run_goes_on_with_what_is_not_done(shop: Catalog, tmp_path: Path) -> None:
    """Finished fits are kept; the result is that of an uninterrupted run; other settings are refused meanwhile."""
    Known.breaks_at = 4
    with pytest.raises(KeyboardInterrupt):
        measure_learning_curve(shop, tmp_path / "advice", Known(), draws=2)
    assert len(Known.fits) == 3
    assert not (tmp_path / "advice").exists()
    with pytest.raises(UsageError, match="other settings"):
        measure_learning_curve(shop, tmp_path / "advice", Known(), draws=1)
    again = measure_learning_curve(shop, tmp_path / "advice", Known(), draws=2)
    assert len(Known.fits) == 7
    whole = measure_learning_curve(shop, tmp_path / "whole", Known(), draws=2)
    same = {"seconds", "points"}
    assert again.model_dump(exclude=same) == whole.model_dump(exclude=same)
    assert [point.error for point in again.points] == [point.error for point in whole.points]
    assert measure_learning_curve(shop, tmp_path / "advice", Known(), draws=2) == again
    assert len(Known.fits) == 14


def test_an_interrupt_before_the_first_fit_leaves_nothing(shop: Catalog, tmp_path: Path) -> None:
    """Without a finished fit there is nothing to go on with."""
    Known.breaks_at = 1
    with pytest.raises(KeyboardInterrupt):
        measure_learning_curve(shop, tmp_path / "advice", Known())
    assert list(tmp_path.iterdir()) == []


def test_the_test_split_is_not_looked_at(shop: Catalog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Advice is asked for again and again; the test split stays unseen."""
    read: list[str] = []
    whole = Catalog.columns
    monkeypatch.setattr(Catalog, "columns", lambda self, split, names: read.append(split) or whole(self, split, names))
    measure_learning_curve(shop, tmp_path / "advice", Known(), draws=1)
    assert "validation" in read
    assert "test" not in read


@pytest.mark.parametrize("kind", sorted(WITHOUT_FIT))
def test_what_is_judged_on_all_of_validation_learns_nothing_from_it(kind: str, shop: Catalog, tmp_path: Path) -> None:
    """These kinds quote the same with validation and without, so no row of it is lost for judging."""
    recipe, train = recipe_class(kind)(), shop.items("train")[:300]
    held = [item.listing for item in shop.items("validation")[:50]]
    quotes = []
    for name, validation in (("with", shop.items("validation")), ("without", [])):
        (tmp_path / name).mkdir()
        recipe.fit(train, validation, tmp_path / name)
        quotes.append([quote.price for quote in recipe.load(tmp_path / name).price(held)])
    assert quotes[0] == quotes[1]


def test_what_learns_from_validation_is_judged_on_the_other_half(shop: Catalog) -> None:
    """Boosting stops by validation, so it is judged on rows that it does not stop by."""
    material = build_material(shop, "boosting", 50_000)
    assert material.tune == shop.tune_half()
    assert material.held == shop.calibrate_half()


def test_what_cannot_be_advised_on_is_refused(shop: Catalog, tmp_path: Path) -> None:
    """A blend knows all rows already; a handful of rows has no curve."""
    with pytest.raises(UsageError, match="made of runs"):
        measure_learning_curve(shop, tmp_path / "advice", read_recipe("blend", {"members": ["x"]}))
    small = open_catalog(make_catalog(tmp_path / "small", 300))
    with pytest.raises(InputError, match="too few training rows"):
        measure_learning_curve(small, tmp_path / "advice", read_recipe("ridge"))
    assert not list(tmp_path.glob("*advice*"))


def test_the_verb_prints_one_object_and_writes_a_page(made: Path, tmp_path: Path, capfd) -> None:
    """--json is the advice and nothing else, the page loads nothing, and a finished folder is read again."""
    words = ["learning-curve", str(made), "--recipe", "ridge", "--repeats", "1", "--to", str(tmp_path / "advice")]
    assert run([*words, "--json"]) == 0
    found = json.loads(capfd.readouterr().out)
    assert [point["part"] for point in found["points"]] == [8, 4, 2, 1]
    page = (tmp_path / "advice" / "advice.html").read_text()
    assert "<script" not in page
    assert "default-src 'none'" in page
    assert "<svg" in page
    assert 'data-label="Less than with half the rows"' in page  # on a phone each row is a card
    assert run(words) == 0
    out = capfd.readouterr().out
    assert "is finished already" in out
    assert "twice" in out
    assert run([*words, "--quiet"]) == 0
    assert capfd.readouterr() == ("", "")
    assert run([*words, "--set", "alpha=2"]) == 2
    assert "alpha: 1.0 -> 2" in capfd.readouterr().err


def test_a_catalog_without_categories_is_said_to_have_none(tmp_path: Path) -> None:
    """It is not the rows that are too few."""
    with make_csv(tmp_path / "shop.csv", 1_200).open(newline="") as file:
        rows = [{name: value for name, value in row.items() if name != "category"} for row in csv.DictReader(file)]
    with (tmp_path / "plain.csv").open("w", newline="") as file:
        table = csv.DictWriter(file, rows[0].keys())
        table.writeheader()
        table.writerows(rows)
    plain = ps.catalog.curate(tmp_path / "plain.csv", tmp_path / "plain")
    found = ps.measure_learning_curve(plain, tmp_path / "advice", recipe="ridge", draws=1)
    assert rows_needed_sentence(found).startswith("The catalog has no categories")


def test_a_hostile_category_stays_text(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd) -> None:
    """Neither the page nor the terminal takes a category's name for anything else."""
    whole = Catalog.items_and_groups

    def renamed(self: Catalog, split: str):
        items, groups = whole(self, split)
        wicked = "[/red]\x1b[2J<script>alert(1)</script>"
        swap = [ps.Item(ps.Listing(i.listing.id, i.listing.title, i.listing.text, wicked), i.price) for i in items]
        return [new if i.listing.category == "chair" else i for i, new in zip(items, swap, strict=True)], groups

    monkeypatch.setattr(Catalog, "items_and_groups", renamed)
    assert (
        run(["learning-curve", str(made), "--recipe", "median", "--repeats", "1", "--to", str(tmp_path / "advice")])
        == 0
    )
    out = capfd.readouterr().out
    assert "\x1b[2J" not in out
    assert "[/red]" in out
    page = (tmp_path / "advice" / "advice.html").read_text()
    assert "<script>" not in page
    assert "&lt;script&gt;" in page


def test_from_python_it_is_one_line(made: Path, tmp_path: Path) -> None:
    """`ps.advise` takes a folder and a recipe's name."""
    found = ps.measure_learning_curve(made, tmp_path / "advice", recipe="median", draws=1)
    assert found.recipe == "median"
    assert len(os.listdir(tmp_path / "advice" / "points")) == 4
