"""Words, numbers and keyed lines become features, whatever stands around them."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pricesmith.core.types import Listing
from pricesmith.pricers.features import hashing as module
from pricesmith.pricers.features.hashing import FeatureBuffer, SparseRows, Vocabulary, build_bags, chunks, gather_rows
from pricesmith.pricers.features.tokenizer import find_lines, find_numbers, find_tokens, read_texts
from pricesmith.testing import make_items, odd_listings
from pricesmith.text.code_points import KNOWN, OTHER
from pricesmith.text.words import split_words


def make_listing(text: str, title: str = "", category: str = "", brand: str = "") -> Listing:
    return Listing("1", title, text, category, brand)


def words_of(listing: Listing) -> list[str]:
    """The words found, as text."""
    text = read_texts([listing])
    tokens = find_tokens(text, find_lines(text), (text.kind != OTHER).view(np.uint8))
    return ["".join(map(chr, text.raw[a:b])) for a, b in zip(tokens.start, tokens.end, strict=True)]


def sizes_of(text: str) -> list[float]:
    """The numbers found."""
    buffer = read_texts([make_listing(text)])
    return find_numbers(buffer, find_tokens(buffer, find_lines(buffer), buffer.kind)).size.tolist()


def features_of(listing: Listing, *beside: Listing) -> Counter[tuple[int, float]]:
    """The features of a listing, computed together with others before it."""
    bags = build_bags([*beside, listing])
    own = slice(bags.starts[-2], bags.starts[-1])
    return Counter(zip(bags.hashes[own].tolist(), np.round(bags.weights[own], 5).tolist(), strict=True))


def near(a: str, b: str) -> float:
    """How alike two texts are: the cosine of their features."""
    vectors = []
    for text in (a, b):
        bags = build_bags([make_listing(text)])
        vector: Counter[int] = Counter()
        for key, weight in zip(bags.hashes.tolist(), bags.weights.tolist(), strict=True):
            vector[key] += weight
        vectors.append(vector)
    first, other = vectors
    dot = sum(weight * other[key] for key, weight in first.items())
    return float(dot / np.sqrt(sum(w * w for w in first.values()) * sum(w * w for w in other.values())))


@given(st.text(max_size=60))
@settings(max_examples=60)
def test_words_are_those_of_the_reference(text: str) -> None:
    """The same words as `split_words` finds, which are those of comparables and sketches."""
    assert words_of(make_listing(text)) == split_words(text)


@pytest.mark.parametrize("point", [0x31FFF, 0x32000, 0x323AF, 0x323B0, 0x33479, KNOWN - 1, KNOWN, 0xE0100, 0x10FFFF])
def test_the_last_blocks_of_unicode_are_read_as_this_python_knows_them(point: int) -> None:
    """Python 3.12 knows Han characters that 3.11 does not, and variation selectors are part of no word."""
    assert words_of(make_listing(f"a {chr(point)} b")) == split_words(f"a {chr(point)} b")


@given(st.text(st.sampled_from("小米手机の カナﾃﾞ한국ABc12５٣,.：é\u0301โทศ์किताब🙂\n"), max_size=30))
def test_words_of_other_scripts_are_those_of_the_reference(text: str) -> None:
    """Character pairs, marks with their letters and digits of other scripts, in the buffer as everywhere."""
    assert words_of(make_listing(text)) == split_words(text)


@pytest.mark.parametrize(
    ("text", "other"),
    [("ＲＡＭ １６ＧＢ", "RAM 16GB"), ("رام ٣٢", "رام 32"), ("ﾒﾓﾘ 8GB", "メモリ 8GB"), ("颜色：红", "颜色:红")],
)
def test_other_forms_of_letters_and_digits_give_the_same_features(text: str, other: str) -> None:
    """How a number or a key is typed says nothing about the price."""
    assert features_of(make_listing(text, text)) == features_of(make_listing(other, other))


def test_near_texts_of_a_script_without_spaces_are_near() -> None:
    """Two Chinese titles that differ in one word share most features, two others few."""
    assert near("白色陶瓷咖啡杯", "蓝色陶瓷咖啡杯") > 0.5
    assert near("白色陶瓷咖啡杯", "无线蓝牙耳机") < 0.1


@given(st.lists(st.text(max_size=30), min_size=1, max_size=4), st.text(max_size=30), st.text(max_size=30))
@settings(max_examples=40)
def test_features_do_not_depend_on_the_neighbors(others: list[str], text: str, title: str) -> None:
    """A listing alone has the features it has in a batch, wherever it stands."""
    listing = make_listing(text, title, "lamp")
    assert features_of(listing) == features_of(listing, *[make_listing(other, other) for other in others])


@pytest.mark.parametrize(
    ("text", "sizes"),
    [
        ("16 GB", [16]),
        ("1.2 carat", [1.2]),
        ("275-piece", [275]),
        ("1,000 pieces", [1000]),
        ("modules: 4,16", [4, 16]),
        ("12x34mm", [12, 34]),
        ("0.035 kg", [0.035]),
        ("none", []),
        ("99999999999999999999", [999999999999999]),
    ],
)
def test_numbers_are_read_as_written(text: str, sizes: list[float]) -> None:
    """Decimals and thousands are one number; a list is several; absurd lengths stay finite."""
    assert sizes_of(text) == pytest.approx(sizes)


def test_near_sizes_are_near_and_far_sizes_are_not() -> None:
    """Magnitudes share buckets, so 1.0 carat is more like 1.1 carat than like 40 carat."""
    assert near("1.0 carat", "1.1 carat") > near("1.0 carat", "40 carat") + 0.05


def test_a_unit_sets_numbers_apart() -> None:
    """16 GB is more like 16gb than like 16 mm."""
    assert near("16 GB", "16gb") > near("16 GB", "16 mm")


def test_a_key_sets_values_apart() -> None:
    """The same value under another key shares less than under the same key."""
    assert near("inside\nsize: 120", "outside\nsize: 120") > near("inside\nsize: 120", "outside\nfans: 120")


def test_the_shares_of_a_magnitude_add_up() -> None:
    """A number's two buckets hold 1 together; on a bucket it is one of them."""
    buffer = FeatureBuffer()
    rows, contexts = np.array([0, 1]), np.array([7, 7], dtype=np.uint64)
    buffer.add_magnitude("unit", rows, contexts, np.array([8.0, 9.0]))
    totals = np.bincount(np.concatenate(buffer.rows), np.concatenate(buffer.weights))
    assert totals == pytest.approx([1, 1])
    assert [len(part) for part in buffer.rows] == [2, 1]


def test_the_title_is_read_once() -> None:
    """A text that opens with its title gives the features of the text without it, as `render` has it."""
    assert features_of(make_listing("Red lamp\nTall", "Red lamp")) == features_of(make_listing("\nTall", "Red lamp"))


@pytest.mark.parametrize(
    "text", ["", "\0\0", "🙂🙂", "مصباح أحمر", "0" * 5000, "\ud800", "a\nb\n\n:", "İI:ß:9.", "x" * 10**6]
)
def test_odd_text_has_features_or_none(text: str) -> None:
    """Nothing in a text stops the reader, and every weight is finite and above zero."""
    bags = build_bags([make_listing(text, text, text, text), make_listing("")])
    assert np.isfinite(bags.weights).all()
    assert (bags.weights > 0).all()
    assert len(bags.starts) == 3
    assert bags.starts[2] == len(bags.hashes)


def test_long_texts_are_taken_a_few_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """No chunk holds more characters than it may, unless one listing does; none is lost."""
    monkeypatch.setattr(module, "CHUNK_CHARS", 100)
    listings = [make_listing("x" * size) for size in (60, 30, 30, 500, 1)]
    assert [len(part) for part in chunks(listings)] == [2, 1, 1, 1]
    assert [listing for part in chunks(listings) for listing in part] == listings


def test_the_vocabulary_keeps_what_occurs_often_enough() -> None:
    """A feature below the least count is left out, and the cap drops the rarest."""
    raw = SparseRows(np.array([1, 1, 1, 2, 2, 3], dtype=np.int32), np.ones(6, np.float32), np.array([0, 2, 4, 5, 6]))
    assert Vocabulary.from_rows(raw, 2, 10).buckets.tolist() == [1, 2]
    assert Vocabulary.from_rows(raw, 1, 10).buckets.tolist() == [1, 2, 3]
    assert Vocabulary.from_rows(raw, 1, 1).buckets.tolist() == [1]


def test_a_row_of_the_vocabulary_has_length_one_or_is_empty() -> None:
    """Rows are normalized over what is known; unknown features are left out."""
    listings = [make_listing("red lamp"), make_listing("red chair"), make_listing("")]
    words = Vocabulary.from_rows(gather_rows(listings), 2, 100)
    rows = words.rows(gather_rows(listings))
    lengths = [float(np.square(rows.weights[a:b]).sum()) for a, b in zip(rows.starts, rows.starts[1:], strict=False)]
    assert lengths == pytest.approx([1, 1, 0], abs=1e-6)


def test_rows_in_parts_and_in_blocks_are_the_same_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    """Parts and blocks only save memory: vocabulary and columns have the same bits."""
    listings = [row.listing for row in make_items(90)[0]] + odd_listings()
    whole = gather_rows(listings)
    vocabulary = Vocabulary.from_rows(whole, 2, 1 << 12)
    expected = vocabulary.rows(whole)
    for size in (1, 7, 40):
        monkeypatch.setattr(module, "BLOCK", size)
        monkeypatch.setattr(module, "CHUNK", size)
        parts = module.gather_parts(listings)
        again = Vocabulary.from_parts(parts, 2, 1 << 12)
        for rows in (vocabulary.rows(whole), again.rows_of_parts(parts)):
            for name in ("indices", "weights", "starts"):
                assert np.array_equal(getattr(rows, name), getattr(expected, name)), (size, name)
