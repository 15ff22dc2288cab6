"""TF-IDF of one text and of many is the same to the last bit, and that of scikit-learn."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from pricesmith.core.types import render
from pricesmith.pricers.features.tfidf import BATCH, TfidfWeights, fit_tfidf
from pricesmith.testing import make_items, odd_listings

LISTINGS = [item.listing for item in make_items(150)[0]] + odd_listings()
WORDS, IDF, MATRIX = fit_tfidf(LISTINGS)
WEIGHTS = np.random.default_rng(0).normal(size=len(WORDS))
TFIDF = TfidfWeights(WORDS, IDF)


def test_products_are_those_of_scikit_learn() -> None:
    """Of the matrix that the weights are fitted with."""
    products = TFIDF.dot([render(listing) for listing in LISTINGS], WEIGHTS)
    assert np.allclose(products, MATRIX @ WEIGHTS, rtol=1e-12, atol=1e-12)
    assert len(LISTINGS) > BATCH


@given(st.lists(st.sampled_from([render(listing) for listing in LISTINGS]) | st.text(max_size=30), max_size=8))
def test_a_text_has_the_same_product_alone_and_among_others(texts: list[str]) -> None:
    """So that a served price is that of the same listing in a file."""
    alone = np.array([TFIDF.dot([text], WEIGHTS)[0] for text in texts])
    filler = [render(listing) for listing in LISTINGS[:BATCH]]
    assert TFIDF.dot([*texts, *filler], WEIGHTS)[: len(texts)].tolist() == alone.tolist()
