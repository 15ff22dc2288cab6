"""Boosted trees over the numbers of a listing and the output of a ridge over its words."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pricesmith.core.atomic import read_json
from pricesmith.core.types import Item, Listing, render
from pricesmith.pricers import boosting
from pricesmith.pricers.boosting import (
    MAX_CHARS,
    UNVALIDATED_TREES,
    BoostingRecipe,
    assign_folds,
    common_keys,
    feature_matrix,
    item_groups,
    numeric_features,
    out_of_fold_quotes,
)
from pricesmith.testing import make_items
from pricesmith.text.words import unit_pattern


def test_numbers_are_named_by_their_unit_and_by_their_line() -> None:
    """16 GB is a number of gb; the first number of a named line is that line's."""
    numbers = numeric_features(Listing("", "RAM 16 GB", "modules: 2\nspeed: DDR 5,5200\nweight: 1.5-kg"))
    assert (numbers["gb"], numbers["modules:"], numbers["speed:"], numbers["kg"]) == (16.0, 2.0, 5.0, 1.5)


def test_digits_inside_a_word_or_a_number_are_not_numbers() -> None:
    """CT16G is a name, and 1.234 is one number."""
    assert {"g", "234"} & set(numeric_features(Listing("", "CT16G", "v1.234 kg"))) == set()


@pytest.mark.parametrize(
    "text",
    [
        "7" * 10**6,
        "a:" + " " * 10**6,
        "1 " * 500_000,
        "a:\n" * 300_000,
        "".join(f"a{number}:\n" for number in range(10_000)),
        "-1" * 500_000,
        "5 " + "कि" * 10**5 + "!",
    ],
)
def test_numbers_are_read_in_the_first_characters_only(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """However long a text is, two patterns search its first `MAX_CHARS` characters once; no number is infinite.

    A pattern that backtracks exponentially would not finish at all.
    """
    searched = []

    class Recorder:
        def __init__(self, pattern: re.Pattern[str]) -> None:
            self.pattern = pattern

        def findall(self, text: str) -> list[Any]:
            searched.append(len(text))
            return self.pattern.findall(text)

    monkeypatch.setattr(boosting, "LINE", Recorder(boosting.LINE))
    monkeypatch.setattr(boosting, "unit_pattern", lambda text: Recorder(unit_pattern(text)))
    numbers = numeric_features(Listing("", "", text))
    assert searched == [min(len(render(Listing("", "", text))), MAX_CHARS)] * 2
    assert np.isfinite(list(numbers.values())).all()


def test_kinds_of_number_are_kept_by_how_often_they_are_seen() -> None:
    """The most frequent first, rare ones not at all, the same whatever the order of rows."""
    rows = [{"gb": 1.0, "kg": 2.0}, {"gb": 1.0}, {"gb": 3.0, "kg": 1.0, "rare": 5.0}]
    assert common_keys(rows, 9, 2) == common_keys(rows[::-1], 9, 2) == {"gb": 0, "kg": 1}
    assert common_keys(rows, 1, 2) == {"gb": 0}


def test_a_missing_number_is_not_zero() -> None:
    """Trees see that a number is absent."""
    table = feature_matrix([{"gb": 0.0}, {}], {"gb": 0}, [{}, {}], [], np.array([3.0, 4.0]))
    assert np.array_equal(table, [[0.0, 3.0], [np.nan, 4.0]], equal_nan=True)


def test_a_listing_is_of_its_category_brand_and_first_word() -> None:
    """Case does not matter, an unknown name is absent, and a missing one is a group of its own."""
    groups = [
        item_groups(Listing("", "Hose 5 m", "", "Garden", "ASTER")),
        item_groups(Listing("", "", "hose", "", "?")),
    ]
    assert [list(row.values()) for row in groups] == [["garden", "aster", "hose"], ["", "?", "hose"]]
    places = [{"garden": 0, "": 1}, {"aster": 0}, {"hose": 0}]
    table = feature_matrix([{}, {}], {}, groups, places, np.array([3.0, 4.0]))
    assert np.array_equal(table, [[0, 0, 0, 3], [1, np.nan, 0, 4]], equal_nan=True)


def test_a_fit_can_be_repeated_to_the_byte(tmp_path: Path) -> None:
    """The same rows and seed write the same trees; another seed does not."""
    items, _ = make_items(400)
    for name, seed in (("one", 0), ("again", 0), ("other", 1)):
        (tmp_path / name).mkdir()
        BoostingRecipe(n_estimators=30, seed=seed).fit(items[:300], items[300:], tmp_path / name)
    first, again, other = ((tmp_path / name / "trees.txt").read_bytes() for name in ("one", "again", "other"))
    assert first == again != other


def test_groups_pay_where_a_number_means_something_else_in_each(tmp_path: Path) -> None:
    """Sizes that raise the price of one category and lower that of another are learned."""
    draw = np.random.default_rng(0)
    items = []
    for number, size in enumerate(draw.integers(1, 40, 2400)):
        kind = number % 12
        slope = 0.9 * np.sin(5.0 * kind)
        price = float(50 * size**slope * np.exp(draw.normal(0, 0.05)))
        items.append(Item(Listing(str(number), "", f"{size} kg", f"kind {kind}"), price))

    def error(recipe: BoostingRecipe) -> float:
        recipe.fit(items[:1600], items[1600:1900], tmp_path)
        quotes = recipe.load(tmp_path).price([item.listing for item in items[1900:]])
        return sum(abs((quote.price or 0.0) - item.price) for quote, item in zip(quotes, items[1900:], strict=True))

    assert error(BoostingRecipe(n_estimators=200)) < error(BoostingRecipe(n_estimators=200, max_groups=0)) * 0.8


def test_titles_that_begin_alike_are_in_one_fold() -> None:
    """Otherwise a ridge would be fitted on a variant of the same item."""
    twins = [Item(Listing(str(n), f"Aster hose K12 long {color}", ""), 1.0) for n, color in enumerate("abcdefgh")]
    assert len(set(assign_folds(twins))) == 1
    assert len(set(assign_folds(make_items(200)[0]))) > 1


def test_a_row_is_answered_by_a_ridge_that_has_not_seen_it() -> None:
    """If each row has its own fold and word, its estimate is the mean of the others."""
    from scipy.sparse import eye

    answers = out_of_fold_quotes(eye(4, format="csr"), np.array([1.0, 1.0, 1.0, 9.0]), np.arange(4))
    assert answers[3] == pytest.approx(1.0, abs=0.05)


def test_it_stops_by_validation(tmp_path: Path) -> None:
    """Trees that do not help unseen rows are not kept; without enough of these a fixed number is."""
    items, _ = make_items(600)
    small = BoostingRecipe(n_estimators=400, patience=5, learning_rate=0.3)
    small.fit(items[:450], items[450:], tmp_path)
    assert read_json(tmp_path / "boosting.json")["trees"] < 400
    small.fit(items[:450], items[450:460], tmp_path)
    assert read_json(tmp_path / "boosting.json")["trees"] == UNVALIDATED_TREES


def test_numbers_pay_where_the_law_is_in_them(tmp_path: Path) -> None:
    """It errs less than the same trees without number columns."""
    items, _ = make_items(1500)
    train, validation, test = items[:1000], items[1000:1200], items[1200:]

    def error(recipe: BoostingRecipe) -> float:
        recipe.fit(train, validation, tmp_path)
        quotes = recipe.load(tmp_path).price([item.listing for item in test])
        return sum(abs((quote.price or 0.0) - item.price) for quote, item in zip(quotes, test, strict=True))

    assert error(BoostingRecipe(n_estimators=300)) < error(BoostingRecipe(n_estimators=300, max_numbers=0))


@pytest.mark.parametrize("count", [1, 2, 30])
def test_a_handful_of_rows_can_be_fitted(count: int, tmp_path: Path) -> None:
    """The fit does not fail on too few rows."""
    items, _ = make_items(count)
    BoostingRecipe().fit(items, [], tmp_path)
    (quote,) = BoostingRecipe().load(tmp_path).price([items[0].listing])
    assert quote.price is not None
    assert quote.price > 0


def test_titles_without_spaces_that_begin_alike_are_in_one_fold() -> None:
    """A Chinese title has no first words: its first five characters count."""
    items = [Item(Listing(str(n), f"羊毛手工地毯{color}", ""), 10.0) for n, color in enumerate("红橙黄绿青蓝紫黑白灰")]
    assert len(set(assign_folds(items).tolist())) == 1


def test_a_unit_in_another_script_is_read_whole() -> None:
    """A Hindi unit keeps its vowel signs; a Chinese one stands beside its number; digits of another script count."""
    assert numeric_features(Listing("", "चावल 5 किलो", ""))["किलो"] == 5.0
    assert numeric_features(Listing("", "大米５公斤", ""))["公斤"] == 5.0
    assert numeric_features(Listing("", "أرز ٢٫٥ كجم", ""))["كجم"] == 2.5
