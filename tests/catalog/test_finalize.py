"""The second pass of curate: order and ids of many rows."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa

from pricesmith.catalog import finalize


def test_many_rows_are_ranked_by_their_hash_and_have_ids_of_their_own(tmp_path: Path) -> None:
    """Also on several threads: the id that a file gives once, else the hash, twice as long if that is taken."""
    count, draw = 400_000, np.random.default_rng(0)
    number = np.arange(count)
    hashes = draw.permutation(count).astype(np.uint64) * np.uint64(1_000_003)
    given = np.where(number % 4 == 0, "", np.char.add("a", np.where(number % 4 == 1, number, number // 8).astype(str)))
    given[3] = f"{hashes[0]:016x}"
    columns = dict.fromkeys(("hash", "more", "look", "looks", "words", "product"), hashes)
    columns |= {"row": number, "number": number, "price": number / 7.0, "given": given, "named": np.full(count, "")}
    columns |= {"source": np.zeros(count, np.int32), "day": np.zeros(count, np.int32), "copy": 1 + (number % 5 == 4)}
    facts = pa.table(columns)
    with finalize.connect(tmp_path) as base:
        base.register("given_facts", facts)
        base.execute("CREATE TABLE facts AS SELECT * FROM given_facts")
        finalize.keep_rows(base)
        kept = base.execute("SELECT row, id, hash FROM kept ORDER BY rank").fetchnumpy()
        ranks = base.execute("SELECT min(rank), max(rank), count(DISTINCT rank) FROM kept").fetchall()[0]
        assert finalize.read_column(base, "row", np.int64).tolist() == kept["row"].tolist()
    expected = np.flatnonzero(number % 5 != 4)
    assert kept["row"].tolist() == expected[np.argsort(hashes[expected])].tolist()
    assert ranks == (0, len(expected) - 1, len(expected))
    names, counts = np.unique(given[expected], return_counts=True)
    once = set(names[counts == 1].tolist()) - {""}
    taken = {f"{hashes[0]:016x}"}
    for row, name in zip(kept["row"][:5_000].tolist(), kept["id"][:5_000].tolist(), strict=True):
        short = given[row] if given[row] in once else f"{hashes[row]:016x}"
        assert name == (f"{hashes[row]:016x}" * 2 if short in taken else short)
