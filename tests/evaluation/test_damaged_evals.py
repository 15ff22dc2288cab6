"""A damaged evals folder ends in one clear error: files cut off, other JSON types, wrong numbers, also re-hashed."""

from __future__ import annotations

import hashlib
import json
import shutil
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pricesmith.core.errors import InputError, PricesmithError
from pricesmith.core.types import EvalRow, Evaluation
from pricesmith.evaluation.conclusion import conclude
from pricesmith.evaluation.leaderboard import build_leaderboard
from pricesmith.evaluation.results import AGE, ITEMS, EvalItem, Near, read_evals, write_evaluation, write_items

N = 12
VALUES = (None, True, "x", "", -1, 0, 7.5, 1e308, float("nan"), float("inf"), [], [1], {}, {"a": 1})


@pytest.fixture(scope="module")
def intact(tmp_path_factory):
    """An evals folder with one evaluation of 12 items."""
    folder = tmp_path_factory.mktemp("evals")
    near = (Near("t", "Hose", 12.0, 0.5),)
    items = [EvalItem(str(i), f"Hose {i}", "garden", 10.0 + i, f"g{i // 2}", 0, near, 0.5) for i in range(N)]
    write_items(folder, items, {"format": 1, "catalog": "c0ffee", "split": "test"})
    rows = tuple(EvalRow(str(i), 10.0 + i, 11.0 + i, 5.0 + i, 20.0 + i) for i in range(N))
    evaluation = Evaluation("ridge", "c0ffee", rows, 15.0, "USD", (0.5, 999.49))
    write_evaluation(folder, evaluation, {"kind": "ridge", "fit_seconds": 1.0, "confidence": 0.9, "settings": {}})
    return folder


@pytest.fixture
def folder(intact, tmp_path):
    """A copy to damage."""
    return shutil.copytree(intact, tmp_path / "evals")


def is_refused(folder):
    """True if the folder is refused with one clear error; what is read must make a leaderboard and a conclusion."""
    error: PricesmithError | None = None
    evals = None
    try:
        evals = read_evals(folder)
    except InputError as refusal:
        error = refusal
    if error is not None:
        assert error.hint
        assert str(folder) in error.what
        return True
    if evals.evaluations:
        build_leaderboard(evals)
        conclude(evals, machine_cost=0.4)
    return False


def write_rows(folder, lines):
    """Write rows and their digest into the meta file, as somebody who edits a result would."""
    data = "".join(f"{line}\n" for line in lines).encode("utf-8", "surrogatepass")
    (folder / "ridge.jsonl").write_bytes(data)
    path = folder / "ridge.meta.json"
    meta = json.loads(path.read_text())
    path.write_text(json.dumps({**meta, "rows_sha256": hashlib.sha256(data).hexdigest()}))


def test_the_intact_folder_is_read(folder):
    """The damage below is what is refused."""
    assert not is_refused(folder)


@pytest.mark.parametrize("name", ["ridge.jsonl", "ridge.meta.json", ITEMS])
@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.9, 0.99])
def test_a_file_that_is_cut_off_is_refused(folder, name, share):
    """At any place."""
    data = (folder / name).read_bytes()
    (folder / name).write_bytes(data[: int(share * len(data))])
    assert is_refused(folder)


@pytest.mark.parametrize("text", ["[]", "null", "7", '"x"', "{}", "[" * 10_000, "NaN", "\ud800"])
def test_a_meta_file_of_another_json_type_is_refused(folder, text):
    """Nested without end, too."""
    (folder / "ridge.meta.json").write_bytes(text.encode("utf-8", "surrogatepass"))
    assert is_refused(folder)


def test_no_value_of_the_meta_file_ends_in_a_traceback(folder):
    """Each value replaced by every other type, and removed; required ones are refused if they are missing."""
    path = folder / "ridge.meta.json"
    meta = json.loads(path.read_text())
    refused = 0
    for key in meta:
        for value in VALUES:
            path.write_text(json.dumps({**meta, key: value}))
            refused += is_refused(folder)
        path.write_text(json.dumps({name: value for name, value in meta.items() if name != key}))
        removed = is_refused(folder)
        assert removed == (key not in ("kind", "fit_seconds", "confidence", "settings", "seconds")), key
    assert refused > 90


@pytest.mark.parametrize("key", ["cost_curve", "asked"])
@pytest.mark.parametrize("value", [value for value in VALUES if value is not None])
def test_a_damaged_cost_curve_is_refused(folder, key, value):
    """And so are damaged counts of the listings that a paid member was asked about; null is none."""
    path = folder / "ridge.meta.json"
    meta = json.loads(path.read_text())
    path.write_text(json.dumps({**meta, key: value}))
    assert is_refused(folder)
    path.write_text(json.dumps({**meta, key: None}))
    assert not is_refused(folder)


@pytest.mark.parametrize("line", ["[]", "null", "7", '"x"', "{}", "{", "[" * 10_000, "\ud800", ""])
def test_a_row_of_another_json_type_is_refused(folder, line):
    """Although its digest is right."""
    lines = (folder / "ridge.jsonl").read_text().splitlines()
    write_rows(folder, [*lines[:-1], line])
    assert is_refused(folder)


def test_no_value_of_a_row_ends_in_a_traceback(folder):
    """Each value of a row replaced by every other type, and removed, with the right digest."""
    first, *others = (folder / "ridge.jsonl").read_text().splitlines()
    row = json.loads(first)
    refused = 0
    for key in row:
        for value in VALUES:
            write_rows(folder, [json.dumps({**row, key: value}), *others])
            refused += is_refused(folder)
        write_rows(folder, [json.dumps({name: value for name, value in row.items() if name != key}), *others])
        assert is_refused(folder), key
    assert 70 < refused < len(row) * len(VALUES)


@pytest.mark.parametrize("lines", [slice(0, N - 1), [0, *range(N)], [0, *range(N - 1)]])
def test_missing_and_repeated_rows_are_refused(folder, lines):
    """A row too few, a row too many, and one twice in place of another, with the right digest."""
    rows = (folder / "ridge.jsonl").read_text().splitlines()
    write_rows(folder, rows[lines] if isinstance(lines, slice) else [rows[index] for index in lines])
    assert is_refused(folder)


def test_no_value_of_the_items_ends_in_a_traceback(folder):
    """Columns missing, of another type, with nulls and numbers that are not finite."""
    table = pq.read_table(folder / ITEMS)
    rows = table.to_pylist()
    damaged = [table.drop_columns([name]) for name in table.column_names if name != AGE]
    damaged += [table.set_column(i, name, pa.array([True] * N)) for i, name in enumerate(table.column_names)]
    damaged += [table.append_column("more", pa.array([1] * N)), pa.concat_tables([table, table])]
    wrong: dict[str, list[Any]] = {
        "id": [None],
        "title": [None],
        "category": [None],
        "truth": [None, float("nan"), float("inf"), -1.0, 0.0],
        "group_in_training": [None, -1],
        "near": [None, [None], [{"id": None, "title": "a", "price": 1.0, "similarity": 0.5}]],
        "highest_similarity": [float("nan")],
        AGE: [2**62, -(2**62)],
    }
    for name, values in wrong.items():
        damaged += [pa.Table.from_pylist([{**rows[0], name: value}, *rows[1:]], table.schema) for value in values]
    assert len(damaged) > 25
    for changed in damaged:
        pq.write_table(changed.replace_schema_metadata(table.schema.metadata), folder / ITEMS)
        assert is_refused(folder), changed.schema


@pytest.mark.parametrize("metadata", [b"[]", b"null", b"{", b"NaN", b"[" * 10_000, b"\xff"])
def test_damaged_metadata_of_the_items_is_refused(folder, metadata):
    """The catalog and split that they were written for."""
    table = pq.read_table(folder / ITEMS)
    pq.write_table(table.replace_schema_metadata({b"pricesmith": metadata}), folder / ITEMS)
    assert is_refused(folder)
