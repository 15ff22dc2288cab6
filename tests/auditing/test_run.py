"""Audits find wrong prices, judge no price by a model that has seen it, and say what they assume."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pricesmith.auditing import (
    AuditOptions,
    AuditResult,
    audit_catalog,
    audit_catalog_with_model,
    audit_file,
    cross_fit,
)
from pricesmith.catalog.catalog import Catalog, open_catalog
from pricesmith.core.errors import InputError, UsageError
from pricesmith.core.progress import Progress
from pricesmith.core.types import Item
from pricesmith.pricers.fitting import fit_model
from pricesmith.pricers.model import PriceModel, load_model
from pricesmith.pricers.recipes import read_recipe
from pricesmith.testing import make_csv


class NotesOnly(Progress):
    """Collects what a person is shown."""

    def __init__(self) -> None:
        self.notes: list[str] = []

    def note(self, text: str) -> None:
        self.notes.append(text)


@pytest.fixture(scope="module")
def result(catalog: Catalog) -> AuditResult:
    return audit_catalog(catalog, read_recipe("ridge"))


def test_wrong_prices_of_a_catalog_stand_out(result: AuditResult) -> None:
    """Nearly all of the 20 prices that are ten times too high, and few others; sorted by money at stake."""
    ids = [row.id for row in result.flagged]
    wrong = [id for id in ids if id.startswith("wrong")]
    assert len(wrong) >= 18
    assert len(ids) - len(wrong) <= 0.2 * len(ids)
    money = [row.money or 0.0 for row in result.flagged]
    assert money == sorted(money, reverse=True)
    assert {row.assessment for row in result.flagged if row.id.startswith("wrong")} == {"over"}
    named = [row.possible_error for row in result.flagged if row.id.startswith("wrong")]
    assert sum(name.startswith("10 times $") for name in named) >= 12


def test_every_listing_is_in_the_result_once(result: AuditResult, catalog: Catalog) -> None:
    """The flagged ones first, then those that are plausible."""
    assert len({row.id for row in result.rows}) == len(result.rows) == 2000
    flags = [row.flagged for row in result.rows]
    assert flags == sorted(flags, reverse=True)
    assert sum(result.counts().values()) == 2000


def test_comparables_are_of_other_groups(result: AuditResult, catalog: Catalog) -> None:
    """A near-duplicate with the same wrong price would confirm it."""
    groups = {}
    for split in ("train", "validation", "test"):
        items, names = catalog.items_and_groups(split)
        groups.update((item.listing.id, name) for item, name in zip(items, names, strict=True))
    for row in result.flagged:
        assert len(row.comparables) == 3
        assert groups[row.id] not in {groups[near.id] for near in row.comparables}


def test_no_fit_sees_what_it_prices(catalog: Catalog, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither the listing nor a near-duplicate of it is among the rows of the fit that prices it."""
    fits: list[set[str]] = []
    fit_fold = cross_fit.fit_fold

    def record(recipe: Any, items: Sequence[Item], groups: Sequence[str], folder: Path) -> None:
        fits.append(set(groups))
        fit_fold(recipe, items, groups, folder)

    monkeypatch.setattr(cross_fit, "fit_fold", record)
    audit_catalog(catalog, read_recipe("median"), n_folds=3)
    _, groups = catalog.items_and_groups("train")
    folds = cross_fit.assign_folds(groups, 3)
    assert len(fits) == 3
    assert not any(group in fits[fold] for group, fold in zip(groups, folds, strict=True))


def test_a_recipe_that_stops_early_gets_groups_for_that(catalog: Catalog) -> None:
    """Boosting is fitted without those groups, and every listing gets a quote."""
    items, groups = catalog.items_and_groups("test")
    recipe = read_recipe("boosting", {"n_estimators": 20})
    quotes = cross_fit.cross_fit_quotes(recipe, items, groups, catalog.price_range, n_folds=2)
    assert all(quote.low < quote.price < quote.high for quote in quotes)


def test_the_time_is_estimated_first(catalog: Catalog) -> None:
    """Before the first fit."""
    progress = NotesOnly()
    audit_catalog(catalog, read_recipe("median"), n_folds=2, progress=progress)
    assert "2 fits of median on 1,000 rows: about 5 seconds" in progress.notes[0]


def test_conformal_p_values_say_that_they_find_nothing_in_their_own_catalog(catalog: Catalog) -> None:
    """The audited prices are the held-out ones: every wrong price makes the others look usual."""
    result = audit_catalog(catalog, read_recipe("median"), options=AuditOptions(p_values="conformal"))
    assert result.flagged == []
    assert "nothing can be found in this way" in result.notes[0]


def test_a_split_is_assessed_alone(catalog: Catalog) -> None:
    """All listings are fitted, those of the split are in the result."""
    result = audit_catalog(catalog, read_recipe("median"), n_folds=2, split="test")
    assert len(result.rows) == len(catalog.items("test"))


@pytest.mark.parametrize(("options", "message"), [({"split": "tset"}, "no split"), ({"n_folds": 1}, "number of folds")])
def test_wrong_settings_are_refused(catalog: Catalog, options: dict[str, Any], message: str) -> None:
    """Before any fit, with what to use instead."""
    with pytest.raises(UsageError, match=message) as error:
        audit_catalog(catalog, read_recipe("ridge"), **options)
    assert error.value.hint.startswith("Use --")


@pytest.mark.parametrize(
    ("options", "message"),
    [({"fdr": 0.0}, "--fdr"), ({"p_values": "exact"}, "--p-values"), ({"max_wrong_share": 0.5}, "--max-wrong-share")],
)
def test_wrong_options_are_refused(options: dict[str, Any], message: str) -> None:
    """With an allowed value in the hint."""
    with pytest.raises(UsageError, match=message):
        AuditOptions(**options)


def test_a_model_judges_no_price_that_it_was_fitted_on(model: PriceModel, clean: Catalog) -> None:
    """It is refused with two ways that work; by default it judges the test split."""
    for split in ("all", "train", "validation"):
        with pytest.raises(UsageError, match="cannot judge prices that it has seen") as error:
            audit_catalog_with_model(clean, model, split=split)
        assert "--split test" in error.value.hint
        assert "--recipe ridge" in error.value.hint
    result = audit_catalog_with_model(clean, model)
    assert len(result.rows) == len(clean.items("test"))
    assert result == audit_catalog_with_model(clean, model, split="test")


def test_a_model_of_another_catalog_judges_all_of_one(model: PriceModel, catalog: Catalog) -> None:
    """Its held-out prices are right, so the wrong ones stand out."""
    result = audit_catalog_with_model(catalog, model)
    assert len(result.rows) == 2000
    assert sum(row.id.startswith("wrong") for row in result.flagged) >= 18


def test_a_file_is_audited(model: PriceModel, asked_file: Path) -> None:
    """The price that is ten times too high stands out; rows without a price in dollars say why."""
    result = audit_file(model, asked_file)
    rows = {row.id: row for row in result.rows}
    assert [row.id for row in result.flagged] == ["made-3", "made-0"]
    assert len(rows) == 60
    assert rows["made-1"].assessment == rows["made-2"].assessment == ""
    assert "no asked price" in rows["made-1"].note
    assert "another currency" in rows["made-2"].note
    assert result.counts()["not_assessed"] == 2
    assert len(rows["made-0"].comparables) == 3


def test_listings_of_the_training_rows_are_counted(model: PriceModel, clean: Catalog, tmp_path: Path) -> None:
    """A file of the model's own listings: each has a note, and the result says how many there are."""
    path = make_csv(tmp_path / "own.csv", 200, seed=3)
    result = audit_file(model, path)
    assert sum("training rows" in row.note for row in result.rows) > 100
    assert any("have the words of a training row" in note for note in result.notes)


def test_a_file_without_prices_says_how_to_name_the_column(model: PriceModel, asked_file: Path, tmp_path: Path) -> None:
    """The hint works when followed; another column than prices is refused too."""
    text = asked_file.read_text(encoding="utf-8")
    path = tmp_path / "odd.csv"
    path.write_text(text.replace("brand,price", "brand,tarif", 1), encoding="utf-8")
    with pytest.raises(UsageError, match="no column of asked prices") as error:
        audit_file(model, path)
    assert "--map price=COLUMN" in error.value.hint
    result = audit_file(model, path, mapping={"price": "tarif"})
    assert [row.id for row in result.flagged] == ["made-3", "made-0"]
    with pytest.raises(InputError, match="has a price that can be read"):
        audit_file(model, path, mapping={"price": "brand"})


def test_a_listing_like_no_other_is_not_assessed(model: PriceModel, tmp_path: Path) -> None:
    """Its quote is a guess, so no price can be called wrong."""
    path = tmp_path / "odd.csv"
    path.write_text("sku,name,description,price\n1,Zxqv,wvutsr qponml kjihgf,99999\n", encoding="utf-8")
    (row,) = audit_file(model, path).rows
    assert row.assessment == ""
    assert row.note == "not assessed: nothing similar in the training data"


def test_few_held_out_prices_are_named_as_the_reason(model: PriceModel, asked_file: Path) -> None:
    """With conformal p-values and a low rate, nothing can be found in 60 prices."""
    options = AuditOptions(fdr=0.0001, p_values="conformal")
    result = audit_file(model, asked_file, options=options)
    assert result.flagged == []
    assert "nothing can be found among 58 prices" in result.notes[0]


def test_a_model_without_its_errors_is_refused(model: PriceModel, asked_file: Path) -> None:
    """One that an earlier version fitted: the hint names the command."""
    older = load_model(model.path)
    assert older.reference is not None
    older.reference = older.reference.model_copy(update={"distances": (), "weights": ()})
    with pytest.raises(UsageError, match="does not have the errors") as error:
        audit_file(older, asked_file)
    assert "pricesmith fit ridge" in error.value.hint


def test_the_same_audit_gives_the_same_result(catalog: Catalog, result: AuditResult) -> None:
    """Folds, fits and the order of rows do not depend on chance."""
    again = audit_catalog(catalog, read_recipe("ridge"))
    assert again == replace(result, rows=again.rows)
    assert [row.id for row in again.rows] == [row.id for row in result.rows]


def test_a_small_catalog_has_too_few_listings(tmp_path: Path) -> None:
    """Under 100 there is nothing to compare with."""
    from pricesmith.testing import make_catalog

    with pytest.raises(UsageError, match="too few listings"):
        audit_catalog(open_catalog(make_catalog(tmp_path / "tiny", 60)), read_recipe("ridge"))


def test_a_recipe_made_of_models_is_refused(catalog: Catalog, model: PriceModel) -> None:
    """Its members were fitted on the prices that it would judge; the hint names one that works."""
    with pytest.raises(UsageError, match="not made of other models") as error:
        audit_catalog(catalog, read_recipe("blend", {"members": [str(model.path)]}))
    assert "--recipe sparse_mlp" in error.value.hint


def test_a_refit_model_brings_its_errors(clean: Catalog, tmp_path: Path) -> None:
    """Every fitted model of one's own has the sample that an audit needs."""
    fit_model(read_recipe("median"), clean, tmp_path / "median")
    reference = load_model(tmp_path / "median").reference
    assert reference is not None
    assert len(reference.distances) == len(reference.weights) == reference.n
