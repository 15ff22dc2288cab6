"""items.parquet: rows that were read in any order are written in order, in memory or by way of files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pricesmith.catalog import item_writer
from pricesmith.catalog.item_writer import NOWHERE, TEXTS, TextRanges, format_hashes


@pytest.mark.parametrize("most", [1, 3_000, 1_000_000])
def test_texts_are_read_in_the_order_of_their_places(
    tmp_path: Path, most: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whether they fit in memory, in a file for each range, or in parts of these; rows without a place are left out."""
    monkeypatch.setattr(item_writer, "MOST_BYTES", most)
    monkeypatch.setattr(item_writer, "GROUP", 10)
    monkeypatch.setattr(item_writer, "RANGE", 40)
    draw = np.random.default_rng(0)
    place = np.full(120, NOWHERE, dtype=np.uint32)
    place[draw.permutation(120)[:95]] = np.arange(95)
    names = [f"row {number}" for number in range(120)]
    paths = [tmp_path / "a.parquet", tmp_path / "b.parquet"]
    for path, part in zip(paths, (slice(0, 70), slice(70, 120)), strict=True):
        pq.write_table(pa.table(dict.fromkeys(TEXTS, names[part])), path, row_group_size=30)
    with TextRanges(tmp_path, 95) as texts:
        texts.add_file(paths[0], place[:70])
        texts.add_file(paths[1], place[70:])
        tables = list(texts.read())
    assert pa.concat_tables(tables)["title"].to_pylist() == [names[row] for row in np.argsort(place)[:95]]
    assert all(table.num_rows % 10 == 0 for table in tables[:-1])
    assert sorted(tmp_path.iterdir()) == paths


def test_hashes_have_sixteen_digits() -> None:
    """Those that are small too."""
    hashes = np.array([0, 255, 2**64 - 1], dtype=np.uint64)
    assert format_hashes(hashes).to_pylist() == ["0" * 16, "0" * 14 + "ff", "f" * 16]
