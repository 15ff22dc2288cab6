"""What is similar is found, in the same order everywhere, whatever the text."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest

from pricesmith.catalog.comparables import Comparable, Index
from pricesmith.errors import InputError
from pricesmith.testing import made_items, odd_listings
from pricesmith.types import Item, Listing, render


def item(name: str, title: str, price: float = 1.0) -> Item:
    return Item(Listing(name, title, ""), price)


HOSES = [item("b", "red brass hose", 20.0), item("a", "red brass hose", 21.0), item("c", "oak chair", 90.0)]


def test_the_nearest_is_the_one_that_shares_most_words() -> None:
    """A chair is not a hose."""
    (near,) = Index.build(HOSES).search([Listing("", "a chair of oak", "")], 2)
    assert [(one.id, one.title, one.price) for one in near] == [("c", "oak chair", 90.0)]
    assert 0 < near[0].similarity <= 1


def test_ties_go_to_the_smaller_id_whatever_the_order_of_rows() -> None:
    """The same catalog has the same comparables."""
    for rows in (HOSES, HOSES[::-1]):
        (near,) = Index.build(rows).search([Listing("", "red brass hose", "")], 3)
        assert [one.id for one in near] == ["a", "b"]
        assert near[0].similarity == 1.0


def test_scores_are_the_cosines_of_tfidf() -> None:
    """A product in scikit-learn's own words gives the same best similarity; a word never seen is the rarest."""
    from sklearn.feature_extraction.text import CountVectorizer, TfidfVectorizer

    items, _ = made_items(80)
    wares = [found.listing for found in made_items(60, seed=1)[0]]
    texts, asked = [render(found.listing) for found in items], [render(ware) for ware in wares]
    known = CountVectorizer(token_pattern=r"(?u)\b\w+\b").fit(texts + asked).vocabulary_
    reader = TfidfVectorizer(token_pattern=r"(?u)\b\w+\b", sublinear_tf=True, vocabulary=known)
    rows = reader.fit_transform(texts)
    oracle = (reader.transform(asked) @ rows.T).toarray().max(axis=1)
    found = [near[0].similarity for near in Index.build(items).search(wares, 1)]
    assert found == pytest.approx(oracle, abs=2e-5)


def test_many_at_once_are_as_one_by_one() -> None:
    """A batch is only a matter of speed."""
    items, _ = made_items(700)
    index = Index.build(items)
    wares = [found.listing for found in items[:300]]
    assert index.search(wares, 5) == [index.search([ware], 5)[0] for ware in wares]


def test_a_saved_index_finds_the_same(tmp_path: Path) -> None:
    """Saved and loaded, nothing changes; nothing in the folder is a pickle."""
    items, _ = made_items(500)
    wares = [*(found.listing for found in made_items(40, seed=2)[0]), *odd_listings()]
    index = Index.build(items)
    index.save(tmp_path / "comparables")
    assert Index.load(tmp_path / "comparables").search(wares, 3) == index.search(wares, 3)
    with np.load(tmp_path / "comparables" / "index.npz", allow_pickle=False) as arrays:
        assert all(arrays[name].dtype != object for name in arrays.files)


def test_a_damaged_index_is_refused(tmp_path: Path) -> None:
    """A broken file is named, not shown as a traceback."""
    Index.build(HOSES).save(tmp_path)
    (tmp_path / "index.npz").write_bytes((tmp_path / "index.npz").read_bytes()[:100])
    with pytest.raises(InputError, match="damaged"):
        Index.load(tmp_path)


def test_nothing_in_common_is_nothing_found() -> None:
    """No comparable is better than a wrong one."""
    assert Index.build(HOSES).search([Listing("", "zzz", ""), Listing("", "", "")], 3) == [[], []]


@pytest.mark.parametrize("items", [[], [item("a", "")], [item("a", "..."), item("b", "")]])
def test_an_index_of_nothing_finds_nothing(items: list[Item], tmp_path: Path) -> None:
    """No rows, or rows without words, are no failure, saved or not."""
    index = Index.build(items)
    index.save(tmp_path)
    wares = [Listing("", "hose", ""), Listing("", "", "")]
    assert Index.load(tmp_path).search(wares, 3) == index.search(wares, 3) == [[], []]


def test_a_long_title_is_cut_and_a_missing_one_is_the_text() -> None:
    """A comparable is a line on a screen."""
    index = Index.build([Item(Listing("a", "", "oak " * 500), 1.0)])
    assert index.search([Listing("", "oak", "")], 1) == [[Comparable("a", ("oak " * 500)[:200], 1.0, 1.0)]]


def test_one_search_among_thousands_takes_milliseconds() -> None:
    """Fast enough to show while a person waits."""
    index = Index.build(made_items(8000)[0])
    ware = made_items(1, seed=3)[0][0].listing
    index.search([ware], 3)
    start = time.perf_counter()
    for _ in range(5):
        index.search([ware], 3)
    assert (time.perf_counter() - start) / 5 < 0.05
