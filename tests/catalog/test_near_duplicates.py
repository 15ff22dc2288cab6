"""Near-duplicates are found round a center, exactly, and whatever the order."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pricesmith.catalog import band_index, near_duplicates, sketch_file
from pricesmith.catalog.mapped_arrays import MappedArrays
from pricesmith.catalog.near_duplicates import (
    ALIKE,
    N_BANDS,
    N_HASHES,
    band_keys,
    find_groups,
    group_size_limit,
    sketch,
    split_templates,
    word_key,
)
from pricesmith.testing import make_items
from pricesmith.text.words import split_words

WORDS = [
    "steel",
    "hose",
    "lamp",
    "drill",
    "chair",
    "red",
    "green",
    "5",
    "12",
    "kg",
    "brass",
    "oak",
    "fold",
    "wide",
    "tall",
    "new",
    "set",
    "pro",
    "max",
    "mini",
]


def by_hand(sketches: np.ndarray) -> list[int]:
    """The documented rule: the first center that a row is alike to, else the row itself."""
    center_of: list[int] = []
    for row, signature in enumerate(sketches):
        centers = [other for other in range(row) if center_of[other] == other]
        near = [other for other in centers if (sketches[other] == signature).sum() >= ALIKE]
        center_of.append(near[0] if near else row)
    return center_of


def by_hand_with_cap(sketches: np.ndarray, cap: int) -> list[int]:
    """The documented rule with its cap: of each of its bands a row is compared with the first `cap` rows."""
    keys = band_keys(sketches)
    rows = [row for row in range(len(sketches)) if not (sketches[:row] == sketches[row]).all(axis=1).any()]
    center_of: dict[int, int] = {}
    for place, row in enumerate(rows):
        buckets = [[other for other in rows[:place] if key[other] == key[row]][:cap] for key in keys]
        near = [other for other in sorted(set().union(*buckets)) if (sketches[other] == sketches[row]).sum() >= ALIKE]
        center_of[row] = next((other for other in near if center_of[other] == other), row)
    firsts = [int((sketches == sketches[row]).all(axis=1).argmax()) for row in range(len(sketches))]
    return [center_of[first] for first in firsts]


def likeness(a: str, b: str) -> float:
    """The exact Jaccard of word-3-shingles."""
    first, other = ({tuple(w[i : i + 3]) for i in range(max(1, len(w) - 2))} for w in (split_words(a), split_words(b)))
    return len(first & other) / len(first | other)


def bodies(n: int, seed: int = 0) -> list[str]:
    items, _ = make_items(n, seed)
    return [f"{item.listing.title}\n{item.listing.text}" for item in items]


def test_bands_lose_no_pair() -> None:
    """Alike sketches differ in fewer places than there are bands, so one band agrees; bands cover every place once."""
    assert len(N_BANDS) > N_HASHES - ALIKE
    assert [index for band in N_BANDS for index in range(*band)] == list(range(N_HASHES))


def test_a_sketch_estimates_jaccard() -> None:
    """Within 0.15 of the exact value, 0.05 on average."""
    texts = bodies(120)
    sketches = sketch(texts)
    pairs = [(a, b) for a in range(0, 120, 7) for b in range(a + 1, 120, 5)]
    errors = [abs((sketches[a] == sketches[b]).mean() - likeness(texts[a], texts[b])) for a, b in pairs]
    assert max(errors) < 0.15
    assert np.mean(errors) < 0.05


@settings(max_examples=25)
@given(st.lists(st.lists(st.sampled_from(WORDS), min_size=4, max_size=14), min_size=1, max_size=60), st.integers(0, 9))
def test_groups_are_those_of_the_rule(base: list[list[str]], seed: int) -> None:
    """The quick way finds what comparing every row with every center finds."""
    draw = np.random.default_rng(seed)
    texts = []
    for words in base:
        words = words * 3
        texts.append(" ".join(words))
        changed = list(words)
        changed[int(draw.integers(len(words)))] = "other"
        texts.append(" ".join(changed))
    sketches = sketch(texts)
    assert find_groups(sketches).tolist() == by_hand(sketches)


@settings(max_examples=60)
@given(
    st.lists(st.tuples(st.integers(0, 60), st.integers(0, 60)), min_size=1, max_size=60),
    st.integers(1, 4),
    st.sampled_from([2, 5, 8_192]),
    st.sampled_from([1, 3, 16, 500_000]),
    st.integers(0, 99),
)
def test_the_cap_is_by_hash_order_alone(
    changes: list[tuple[int, int]], cap: int, block: int, rows_in_memory: int, seed: int
) -> None:
    """Groups are those of the rule with any block, in memory or in files, and in whatever order rows were staged."""
    draw = np.random.default_rng(seed)
    rows = [draw.integers(0, 2**16, N_HASHES, dtype=np.uint16)]
    for parent, count in changes:
        row = rows[parent % len(rows)].copy()
        row[draw.permutation(N_HASHES)[:count]] = draw.integers(0, 2**16, count, dtype=np.uint16)
        rows.append(row)
    sketches = np.array(rows)
    staged = draw.permutation(len(rows))
    with pytest.MonkeyPatch.context() as patch, tempfile.TemporaryDirectory() as folder:
        patch.setattr(near_duplicates, "CAP", cap)
        patch.setattr(near_duplicates, "BLOCK", block)
        patch.setattr(near_duplicates, "BLOCK_ROWS", rows_in_memory)
        patch.setattr(near_duplicates, "CHUNK", 7)
        patch.setattr(near_duplicates, "MOST_PAIRS", 4)
        patch.setattr(band_index, "PAIRS", 3)
        patch.setattr(sketch_file, "MOST_IN_MEMORY", 0)
        patch.setattr(sketch_file, "RANGE", 5)
        groups = find_groups(sketches).tolist()
        path = Path(folder) / "shard.bin"
        sketches[np.argsort(staged)].tofile(path)
        with (
            MappedArrays(Path(folder)) as arrays,
            sketch_file.sort_sketches([path], staged, Path(folder)) as sorted_sketches,
        ):
            allocate = arrays.allocate if seed % 4 == 0 else band_index.allocate_memory  # files take their time
            on_disk = find_groups(sorted_sketches, allocate, release=arrays.release).tolist()
        assert list(Path(folder).iterdir()) == [path]
    assert groups == on_disk == by_hand_with_cap(sketches, cap)


@pytest.mark.parametrize("block", [16, 50, 8192])
def test_groups_do_not_depend_on_the_block(block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows are settled in blocks only to save time."""
    monkeypatch.setattr(near_duplicates, "BLOCK", block)
    sketches = sketch(bodies(300))
    assert find_groups(sketches).tolist() == by_hand(sketches)


def test_every_member_is_alike_to_its_center() -> None:
    """There is no chaining."""
    sketches = sketch(bodies(400))
    centers = find_groups(sketches)
    assert len(set(centers.tolist())) < 400
    assert all((sketches[row] == sketches[center]).sum() >= ALIKE for row, center in enumerate(centers))
    assert (centers[centers] == centers).all()


def test_a_large_bucket_of_unlike_rows_stays_quick() -> None:
    """Template text: thousands of rows share bands and are no group; each is compared with a bounded number."""
    template = "this lovely product ships today from our own warehouse with free returns for thirty days " * 2
    draw = np.random.default_rng(0)
    texts = [template + " ".join(draw.choice(WORDS, 40)) + f" {row} x{row}" for row in range(3_000)]
    centers = find_groups(sketch(texts))
    assert len(centers) == 3_000


def test_rows_of_one_text_are_one_group() -> None:
    """However many they are."""
    assert set(find_groups(sketch(["a red steel hose of 25 m"] * 5_000)).tolist()) == {0}


def test_a_group_over_the_limit_is_split_by_exact_text() -> None:
    """It is template text: only rows of the same words stay together, each part round its first row."""
    texts = ["Hose, red", "lamp", "hose RED", "chair", "lamp", "lamp"]
    centers = np.array([0, 0, 0, 3, 0, 0])
    parts, count = split_templates(
        centers, np.array([word_key(split_words(text)) for text in texts], dtype=np.uint64), 4
    )
    assert (parts.tolist(), count) == ([0, 1, 0, 3, 1, 1], 1)


def test_the_limit_is_fifty_or_a_fifth_of_a_percent() -> None:
    """Whichever is more."""
    assert (group_size_limit(1_000), group_size_limit(100_000)) == (50, 200)


def test_short_and_empty_texts_have_a_sketch() -> None:
    """Under three words the whole text is one shingle."""
    sketches = sketch(["", "hose", "Hose!", "red hose"])
    assert sketches.shape == (4, N_HASHES)
    assert find_groups(sketches).tolist() == [0, 1, 1, 3]


@pytest.mark.parametrize(
    ("text", "other"),
    [
        ("手工编织羊毛地毯北欧风格客厅卧室床边防滑加厚可机洗灰色", "不锈钢保温杯大容量男女学生便携水壶"),
        ("手織りウールラグ北欧スタイルのリビング寝室用滑り止め付き厚手グレー", "ステンレス製保温ボトル大容量"),
        ("พรมขนสัตว์ทอมือสไตล์นอร์ดิกสำหรับห้องนั่งเล่นกันลื่นหนาพิเศษสีเทา", "กระติกน้ำสแตนเลสเก็บความร้อน"),
    ],
)
def test_near_duplicates_are_found_in_text_without_spaces(text: str, other: str) -> None:
    """Another character at the end makes no other product; another product does."""
    assert find_groups(sketch([text, f"{text[:-1]}新", other])).tolist() == [0, 0, 2]


def test_a_vowel_sign_distinguishes_words() -> None:
    """Hindi words that differ in a vowel sign alone are different words."""
    assert word_key(split_words("काला कपड़ा")) != word_key(split_words("कीला कपड़ा"))
