"""The ridge equals its definition in scikit-learn to nine digits."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from pricesmith.core.types import Item, Listing, render
from pricesmith.pricers.ridge import RidgeRecipe
from pricesmith.testing import make_items

MIXED = "天地玄黄宇宙洪荒日月盈昃"


def test_quotes_are_those_of_the_definition(tmp_path: Path) -> None:
    """The definition in scikit-learn's own words, fitted here, gives the same prices after save and load."""
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import Ridge

    items, _ = make_items(900)
    train, test = items[:700], [item.listing for item in items[700:]]
    reader = TfidfVectorizer(ngram_range=(1, 2), min_df=2, sublinear_tf=True, token_pattern=r"(?u)\b\w+\b")
    matrix = reader.fit_transform([render(item.listing) for item in train])
    model = Ridge(alpha=1.0).fit(matrix, np.log([item.price for item in train]))
    reference = np.exp(model.predict(reader.transform([render(listing) for listing in test])))
    RidgeRecipe().fit(train, [], tmp_path)
    quotes = RidgeRecipe().load(tmp_path).price(test)
    assert [quote.price for quote in quotes] == pytest.approx(reference, rel=1e-9)


@pytest.mark.parametrize("texts", [["one", "two", "three"], ["...", "---", "!!!"], ["only one"]])
def test_texts_that_share_no_word_are_fitted_all_the_same(texts: list[str], tmp_path: Path) -> None:
    """A catalog of nothing but rare words, or of no words, gets prices and not a traceback."""
    items = [Item(Listing(str(n), "", text), 10.0 + n) for n, text in enumerate(texts)]
    RidgeRecipe().fit(items, [], tmp_path)
    (quote,) = RidgeRecipe().load(tmp_path).price([Listing("", "", "something else")])
    assert quote.price is not None
    assert 9.0 < quote.price < 13.0


def test_a_strong_penalty_flattens_the_quotes(tmp_path: Path) -> None:
    """`alpha` is the strength of the L2 penalty."""
    items, _ = make_items(300)
    RidgeRecipe(alpha=1e6).fit(items, [], tmp_path)
    prices = [quote.price or 0.0 for quote in RidgeRecipe().load(tmp_path).price([item.listing for item in items])]
    assert max(prices) / min(prices) < 1.01


@pytest.mark.parametrize(
    ("materials", "things"),
    [
        ({"金属": 4.0, "塑料": 1.0, "实木": 9.0}, {"书桌": 300.0, "台灯": 90.0, "衣架": 20.0, "相框": 35.0}),
        ({"หนัง": 4.0, "ผ้า": 1.0, "ไม้": 9.0}, {"กระเป๋า": 300.0, "รองเท้า": 90.0, "หมวก": 20.0, "เข็มขัด": 35.0}),
    ],
)
def test_it_learns_from_text_without_spaces(
    materials: dict[str, float], things: dict[str, float], tmp_path: Path
) -> None:
    """The price is material times thing: titles of one long run of characters tell both."""
    draw = np.random.default_rng(0)
    fillers = ["".join(draw.choice(list(MIXED), 4)) for _ in range(40)]
    items = []
    for number in range(400):
        material, thing = draw.choice(list(materials)), draw.choice(list(things))
        title = f"{draw.choice(fillers)}{material}{thing}{draw.choice(fillers)}"
        items.append(Item(Listing(str(number), title, ""), materials[material] * things[thing]))
    RidgeRecipe().fit(items[:300], [], tmp_path)
    quotes = [quote.price or 0.0 for quote in RidgeRecipe().load(tmp_path).price([i.listing for i in items[300:]])]
    errors = np.abs(np.log(np.array(quotes) / [item.price for item in items[300:]]))
    assert np.median(errors) < 0.3
    assert np.median(np.abs(np.log([item.price / 150.0 for item in items]))) > 0.6  # a constant
