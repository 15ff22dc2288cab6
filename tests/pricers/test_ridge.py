"""The ridge is what its definition says, to the last digit that matters."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from pricesmith.pricers.ridge import RidgeRecipe
from pricesmith.testing import made_items
from pricesmith.types import Item, Listing, render


def test_quotes_are_those_of_the_definition(tmp_path: Path) -> None:
    """The definition in scikit-learn's own words, fitted here, gives the same prices after save and load."""
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import Ridge

    items, _ = made_items(900)
    train, test = items[:700], [item.listing for item in items[700:]]
    reader = TfidfVectorizer(ngram_range=(1, 2), min_df=2, sublinear_tf=True, token_pattern=r"(?u)\b\w+\b")
    matrix = reader.fit_transform([render(item.listing) for item in train])
    model = Ridge(alpha=1.0).fit(matrix, np.log([item.price for item in train]))
    reference = np.exp(model.predict(reader.transform([render(ware) for ware in test])))
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
    """`alpha` does what its comment says."""
    items, _ = made_items(300)
    RidgeRecipe(alpha=1e6).fit(items, [], tmp_path)
    prices = [quote.price or 0.0 for quote in RidgeRecipe().load(tmp_path).price([item.listing for item in items])]
    assert max(prices) / min(prices) < 1.01
