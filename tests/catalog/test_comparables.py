"""What is similar is found, in the same order everywhere, whatever the text."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pricesmith.catalog.comparables import BATCH, TINY, Comparable, ComparablesIndex, highest
from pricesmith.core.errors import InputError
from pricesmith.core.types import Item, Listing, render
from pricesmith.testing import make_items, odd_listings


def item(name: str, title: str, price: float = 1.0) -> Item:
    return Item(Listing(name, title, ""), price)


HOSES = [item("b", "red brass hose", 20.0), item("a", "red brass hose", 21.0), item("c", "oak chair", 90.0)]


def test_the_nearest_is_the_one_that_shares_most_words() -> None:
    """A chair is not a hose."""
    (near,) = ComparablesIndex.build(HOSES).search([Listing("", "a chair of oak", "")], 2)
    assert [(comparable.id, comparable.title, comparable.price) for comparable in near] == [("c", "oak chair", 90.0)]
    assert 0 < near[0].similarity <= 1


def test_ties_go_to_the_smaller_id_whatever_the_order_of_rows() -> None:
    """The same catalog has the same comparables."""
    for rows in (HOSES, HOSES[::-1]):
        (near,) = ComparablesIndex.build(rows).search([Listing("", "red brass hose", "")], 3)
        assert [comparable.id for comparable in near] == ["a", "b"]
        assert near[0].similarity == 1.0


def test_scores_are_the_cosines_of_tfidf() -> None:
    """A product in scikit-learn's own words gives the same best similarity; a word never seen is the rarest."""
    from sklearn.feature_extraction.text import CountVectorizer, TfidfVectorizer

    items, _ = make_items(80)
    listings = [row.listing for row in make_items(60, seed=1)[0]]
    texts, asked = [render(row.listing) for row in items], [render(listing) for listing in listings]
    known = CountVectorizer(token_pattern=r"(?u)\b\w+\b").fit(texts + asked).vocabulary_
    reader = TfidfVectorizer(token_pattern=r"(?u)\b\w+\b", sublinear_tf=True, vocabulary=known)
    rows = reader.fit_transform(texts)
    oracle = (reader.transform(asked) @ rows.T).toarray().max(axis=1)
    similarities = [near[0].similarity for near in ComparablesIndex.build(items).search(listings, 1)]
    assert similarities == pytest.approx(oracle, abs=2e-5)


def test_many_at_once_are_as_one_by_one() -> None:
    """A batch is only a matter of speed, with estimates too; listings without a known word are among them."""
    items, _ = make_items(700)
    index = ComparablesIndex.build(items)
    listings = [row.listing for row in items[:300]] + [Listing("", "", ""), Listing("", "qqqq", "")]
    assert index.search(listings, 5) == [index.search([listing], 5)[0] for listing in listings]
    draw = np.random.default_rng(0)
    index.estimates = draw.normal(4, 1, len(items))
    logs = np.where(draw.random(len(listings)) < 0.2, np.nan, draw.normal(4, 1, len(listings)))
    found = index.search_with_closest(listings, 5, logs)
    assert found == [
        index.search_with_closest([listing], 5, [log])[0] for listing, log in zip(listings, logs, strict=True)
    ]
    assert [near for near, _ in found] == index.search(listings, 5, logs)
    assert [closest for _, closest in found] == index.search(listings, 1)


def test_a_saved_index_finds_the_same(tmp_path: Path) -> None:
    """Saved and loaded, nothing changes; nothing in the folder is a pickle."""
    items, _ = make_items(500)
    listings = [*(row.listing for row in make_items(40, seed=2)[0]), *odd_listings()]
    index = ComparablesIndex.build(items)
    index.save(tmp_path / "comparables")
    assert ComparablesIndex.load(tmp_path / "comparables").search(listings, 3) == index.search(listings, 3)
    with np.load(tmp_path / "comparables" / "index.npz", allow_pickle=False) as arrays:
        assert all(arrays[name].dtype != object for name in arrays.files)


def test_a_damaged_index_is_refused(tmp_path: Path) -> None:
    """A broken file is named, not shown as a traceback."""
    ComparablesIndex.build(HOSES).save(tmp_path)
    (tmp_path / "index.npz").write_bytes((tmp_path / "index.npz").read_bytes()[:100])
    with pytest.raises(InputError, match="damaged"):
        ComparablesIndex.load(tmp_path)


def test_nothing_in_common_is_nothing_found() -> None:
    """No comparable is better than a wrong one."""
    assert ComparablesIndex.build(HOSES).search([Listing("", "zzz", ""), Listing("", "", "")], 3) == [[], []]


@pytest.mark.parametrize("items", [[], [item("a", "")], [item("a", "..."), item("b", "")]])
def test_an_index_of_nothing_finds_nothing(items: list[Item], tmp_path: Path) -> None:
    """No rows, or rows without words, are no failure, saved or not."""
    index = ComparablesIndex.build(items)
    index.save(tmp_path)
    listings = [Listing("", "hose", ""), Listing("", "", "")]
    assert ComparablesIndex.load(tmp_path).search(listings, 3) == index.search(listings, 3) == [[], []]


def test_a_long_title_is_cut_and_a_missing_one_is_the_text() -> None:
    """A comparable is a line on a screen."""
    index = ComparablesIndex.build([Item(Listing("a", "", "oak " * 500), 1.0)])
    assert index.search([Listing("", "oak", "")], 1) == [[Comparable("a", ("oak " * 500)[:200], 1.0, 1.0)]]


def test_one_search_among_thousands_takes_milliseconds() -> None:
    """Fast enough to show while a person waits: much faster than the index is built, on a machine of any speed."""
    items, listing = make_items(8000)[0], make_items(1, seed=3)[0][0].listing
    start = time.process_time()
    index = ComparablesIndex.build(items)
    build_seconds, seconds = time.process_time() - start, []
    for _ in range(5):
        start = time.process_time()
        index.search([listing], 3)
        seconds.append(time.process_time() - start)
    assert min(seconds) < build_seconds / 10


def test_of_like_words_the_one_estimated_alike_comes_first() -> None:
    """Both diamonds share the same words with the one asked for; the estimate distinguishes 2 carats from 0.3."""
    gems = [item("a", "round diamond ideal cut 0.34 ct", 537.0), item("b", "round diamond ideal cut 2.01 ct", 13_900.0)]
    index = ComparablesIndex.build([*gems, item("c", "oak chair", 90.0)])
    index.estimates = np.log([600.0, 12_000.0, 90.0])
    asked = Listing("", "round diamond ideal cut", "")
    assert [comparable.id for comparable in index.search([asked], 2)[0]] == ["a", "b"]
    assert [comparable.id for comparable in index.search([asked], 2, np.log([13_000.0]))[0]] == ["b", "a"]
    assert [comparable.id for comparable in index.search([asked], 2, [np.nan])[0]] == ["a", "b"]


def test_the_true_prices_of_training_rows_do_not_order_them() -> None:
    """Else comparables would confirm every quote."""
    items, _ = make_items(300)
    other = [Item(row.listing, 1000 / row.price) for row in items]
    estimates = np.random.default_rng(0).normal(3, 1, len(items))
    orders = []
    for rows in (items, other):
        index = ComparablesIndex.build(rows)
        index.estimates = estimates
        near = index.search([row.listing for row in items[:40]], 5, estimates[:40])
        orders.append([[comparable.id for comparable in comparables] for comparables in near])
    assert orders[0] == orders[1]


@given(st.lists(st.sampled_from([0.0, 0.1, 0.100001, 0.25, 0.5, 0.9]), max_size=400), st.integers(1, 70))
def test_the_highest_scores_are_those_of_a_whole_sort(scores: list[float], k: int) -> None:
    """Looking at stripes first only saves time."""
    rows, highest_scores = highest(np.array(scores), k)
    whole = sorted((-round(score, 5), row) for row, score in enumerate(scores) if score > 0)[:k]
    assert rows.tolist() == [row for _, row in whole]
    assert highest_scores.tolist() == [scores[row] for _, row in whole]


def shop_of_lamps() -> tuple[ComparablesIndex, list[Listing]]:
    """An index of 600 made goods with its rule, and the validation listings that the rule was learnt from."""
    rows, _ = make_items(800)
    validation = [row.listing for row in rows[600:]]
    index = ComparablesIndex.build(rows[:600])
    index.calibrate(validation, [listing.id for listing in validation])
    return index, validation


@pytest.mark.parametrize(
    "text",
    ["qwertz asdf", "Rolex Submariner, automatic watch", "12345678901", "красная лампа настольная", "🙂🙂🙂🙂🙂"],
)
def test_a_listing_of_another_shop_has_nothing_similar(text: str) -> None:
    """None of its words, or only a common one, is in the training listings."""
    index, _ = shop_of_lamps()
    assert index.nothing_similar([Listing("", text, "")]) == [True]


def test_few_validation_listings_have_nothing_similar() -> None:
    """At most 1 % are called unlike everything, and one of the shop's own words is like something."""
    index, validation = shop_of_lamps()
    assert sum(index.nothing_similar(validation)) <= 0.01 * len(validation)
    assert index.nothing_similar([Listing("", "lamp", ""), Listing("", "Brass hose", "")]) == [False, False]


def test_a_near_duplicate_group_counts_once() -> None:
    """A hundred copies of one odd listing do not make it ordinary."""
    index, validation = shop_of_lamps()
    before = index.threshold
    odd = [Listing(f"odd{number}", "qwertz asdf", "") for number in range(100)]
    index.calibrate([*validation, *odd], [*(listing.id for listing in validation), *("odd" for _ in odd)])
    assert index.threshold is not None
    assert before is not None
    assert index.threshold > 0
    assert index.nothing_similar(odd[:1]) == [True]


def test_without_validation_listings_only_what_shares_nothing_is_flagged() -> None:
    """A rule is not made up."""
    index = ComparablesIndex.build(HOSES)
    index.calibrate([], [])
    assert index.nothing_similar([Listing("", "brass qwertz asdf", ""), Listing("", "qwertz", "")]) == [False, True]


def test_the_quick_answer_is_the_whole_one() -> None:
    """Whether an overlap reaches a number is found without the overlap, also if it is exactly that number."""
    index, validation = shop_of_lamps()
    listings = [*validation, *odd_listings(), Listing("", "Rolex Submariner, brass", "")]
    whole = index.overlap(listings)
    for least in (0.05, 0.3, 0.6, 0.9, 1.0, *np.unique(whole[:20])):
        assert [index.reaches(listing, least) for listing in listings] == (whole >= least).tolist()


@given(
    st.lists(st.lists(st.integers(0, 30), min_size=1, max_size=9), min_size=1, max_size=300),
    st.lists(st.lists(st.integers(0, 34), max_size=12), min_size=1, max_size=10),
)
def test_listings_of_any_catalog_are_flagged_as_their_overlap_says(
    rows: list[list[int]], asked: list[list[int]]
) -> None:
    """The threshold is the overlap of some validation listing."""

    def describe(numbers: list[int]) -> str:
        return " ".join(f"w{number * number // 16}" for number in numbers)  # some words are frequent

    index = ComparablesIndex.build([item(str(place), describe(row)) for place, row in enumerate(rows)])
    listings = [Listing("", describe(numbers), "") for numbers in asked]
    index.calibrate(listings, [str(place) for place in range(len(listings))])
    least = max(index.threshold or 0.0, TINY)
    flags = (index.overlap(listings) < least).tolist()
    assert index.nothing_similar(listings) == flags
    times = -(-BATCH // len(listings))
    assert index.nothing_similar(listings * times) == flags * times  # many are looked at together


def test_a_saved_rule_says_the_same(tmp_path: Path) -> None:
    """Threshold, common words and estimates are on disk."""
    index, validation = shop_of_lamps()
    index.estimates = np.log(index.prices)
    index.save(tmp_path)
    again = ComparablesIndex.load(tmp_path)
    assert again.overlap(validation).tolist() == index.overlap(validation).tolist()
    assert (again.threshold, again.calibrated, again.common) == (index.threshold, True, index.common)
    assert again.search(validation, 3, [3.0] * len(validation)) == index.search(validation, 3, [3.0] * len(validation))


def test_similar_things_are_found_in_text_without_spaces() -> None:
    """A Chinese cup is like another cup, not like a lamp; a Thai bag is like another bag."""
    rows = [item("cup", "白色陶瓷咖啡杯", 30.0), item("lamp", "金属落地灯", 200.0), item("bag", "กระเป๋าหนังแท้", 900.0)]
    near = ComparablesIndex.build(rows).search([Listing("", "蓝色陶瓷马克杯", ""), Listing("", "กระเป๋าผ้าใบ", "")], 1)
    assert [comparable.id for comparables in near for comparable in comparables] == ["cup", "bag"]
