"""An evaluation is read from disk exactly as it was written, or refused with its name."""

import math
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pricesmith.core.errors import InputError, UsageError
from pricesmith.core.types import EvalRow, Evaluation
from pricesmith.evaluation import result_files
from pricesmith.evaluation.results import (
    EvalItem,
    Near,
    claim_items,
    file_name,
    read_evals,
    read_items,
    write_evaluation,
    write_items,
)

ABOUT = {"format": 1, "catalog": "c0ffee", "split": "test"}
NEAR = (Near("t1", "Garden hose 10 m", 15.0, 0.71), Near("t2", "Hose", 12.5, 0.4))
ITEMS = [EvalItem(str(i), f"Item {i}", "garden", 10.0 * (i + 1), f"f{i // 2}", 0, NEAR) for i in range(6)]
GROUPS = {item.id: item.group for item in ITEMS}


@pytest.fixture
def folder(tmp_path):
    """An evals folder with items and no evaluation yet."""
    write_items(tmp_path / "evals", ITEMS, ABOUT)
    return tmp_path / "evals"


def make_evaluation(name="mlp"):
    """An evaluation of the six items."""
    prices = [5.0, None, 25.0, 1 / 3, 60.0, 999.49]
    rows = tuple(EvalRow(item.id, item.truth, price) for item, price in zip(ITEMS, prices, strict=True))
    return Evaluation(name, "c0ffee", rows, 30.0, groups=GROUPS)


@settings(max_examples=30)
@given(
    st.lists(
        st.builds(
            EvalRow,
            id=st.just(""),
            truth=st.floats(1e-300, 1e99),
            price=st.none() | st.floats(1e-300, 1e99),
            low=st.none() | st.floats(1e-300, 1e99),
            high=st.none() | st.floats(1e-300, 1e99),
            raw=st.text(st.characters(exclude_categories=[])),
            seconds=st.floats(0, 1e9),
            cost_usd=st.floats(0, 1e9),
        ),
        min_size=1,
        max_size=6,
    ),
    st.floats(0.01, 1e6) | st.just(math.inf),
)
def test_an_evaluation_comes_back_exactly(tmp_path_factory, rows, top):
    """Every number to the last bit, every character, None as None, an open range as open."""
    folder = tmp_path_factory.mktemp("evals")
    write_items(folder, ITEMS, ABOUT)
    numbered = tuple(replace(row, id=str(i)) for i, row in enumerate(rows))
    groups = {row.id: GROUPS[row.id] for row in numbered}
    before = replace(make_evaluation(), rows=numbered, groups=groups, price_range=(0.01, top), note="3 of 4")
    write_evaluation(folder, before, {"kind": "made"})
    assert read_evals(folder).evaluations == (before,)


def test_items_come_back_exactly(folder):
    """With their near training listings; an item without a group stays without one."""
    assert list(read_evals(folder).items.values()) == ITEMS
    alone = [EvalItem("a", "A", "", 1.0)]
    write_items(folder, alone, ABOUT)
    assert list(read_evals(folder).items.values()) == alone


def test_an_evaluation_without_its_meta_file_is_unfinished(folder):
    """The meta file is written last: without it, the evaluation is listed as unfinished."""
    write_evaluation(folder, make_evaluation("one"), {})
    write_evaluation(folder, make_evaluation("two"), {})
    (folder / "two.meta.json").unlink()
    evals = read_evals(folder)
    assert [evaluation.pricer for evaluation in evals.evaluations] == ["one"]
    assert evals.unfinished == ("two",)


@pytest.mark.parametrize("damage", [b"", b'{"id": "0"}\n', b"\xff\xfe", b"[1]\n"])
def test_rows_that_are_not_those_of_the_meta_file_are_refused(folder, damage):
    """A truncated or swapped file is named, not half read."""
    write_evaluation(folder, make_evaluation(), {})
    (folder / "mlp.jsonl").write_bytes(damage)
    with pytest.raises(InputError, match=r"mlp\.jsonl"):
        read_evals(folder)


@pytest.mark.parametrize("damage", ["", "{}", "[]", '{"rows_sha256": 1}', "nonsense"])
def test_a_damaged_meta_file_is_refused(folder, damage):
    """By name, without a traceback."""
    write_evaluation(folder, make_evaluation(), {})
    (folder / "mlp.meta.json").write_text(damage)
    with pytest.raises(InputError, match="mlp"):
        read_evals(folder)


def test_a_damaged_items_file_is_refused(folder):
    """A truncated Parquet file is named."""
    path = folder / "items.parquet"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(InputError, match=r"items\.parquet is damaged"):
        read_evals(folder)


def test_a_folder_that_holds_no_evaluations_is_refused(tmp_path):
    """The error names the command to run."""
    with pytest.raises(InputError, match="pricesmith eval"):
        read_evals(tmp_path)


def test_evaluations_of_another_catalog_or_split_are_refused(folder):
    """With what differs."""
    assert claim_items(folder, ABOUT) is True
    with pytest.raises(UsageError, match="catalog: 'c0ffee' -> 'f00d'"):
        claim_items(folder, {**ABOUT, "catalog": "f00d"})
    with pytest.raises(UsageError, match="split: 'test' -> 'validation'"):
        claim_items(folder, {**ABOUT, "split": "validation"})


def test_a_folder_of_something_else_is_not_written_into(tmp_path):
    """A folder with a person's files stays as it is."""
    (tmp_path / "thesis.txt").write_text("chapter one")
    with pytest.raises(UsageError, match=r"thesis\.txt"):
        claim_items(tmp_path, ABOUT)


def test_a_new_or_empty_folder_is_free(tmp_path):
    """Nothing is there yet."""
    assert claim_items(tmp_path, ABOUT) is False
    assert claim_items(tmp_path / "new", ABOUT) is False


@pytest.mark.parametrize(
    "name", ["../../etc/passwd", "/abs", "..", "", "a/b", "api:gpt-5", "nul\0", ".hidden", "x" * 500]
)
def test_a_name_cannot_leave_the_folder(name, tmp_path):
    """Whatever a pricer is called, its file is a plain one in the folder, and two names are two files."""
    safe = file_name(name)
    assert (tmp_path / f"{safe}.jsonl").resolve().parent == tmp_path.resolve()
    assert not safe.startswith(".")
    assert len(safe) < 120
    assert safe != file_name(name + "!")


@settings(max_examples=50)
@given(st.text(), st.text())
def test_two_names_are_two_files(first, second):
    """Two names that become the same safe name still get different files."""
    assert (file_name(first) == file_name(second)) == (first == second)


def test_a_plain_name_is_its_own_file_name():
    """A person finds `mlp.jsonl` where they expect it."""
    assert file_name("sparse_mlp-2.v1") == "sparse_mlp-2.v1"


def test_an_odd_name_comes_back_as_it_was(folder):
    """The meta file keeps the name that the file cannot."""
    write_evaluation(folder, make_evaluation("api:gpt/5 ☃"), {"kind": "api"})
    evals = read_evals(folder)
    assert evals.evaluations[0].pricer == "api:gpt/5 ☃"
    assert evals.meta["api:gpt/5 ☃"]["kind"] == "api"


def test_close_in_training_is_a_group_member_or_a_near_repeat():
    """Similarity 0.8 is where groups are cut."""
    far, close = Near("t", "t", 1.0, 0.79), Near("t", "t", 1.0, 0.8)
    assert not EvalItem("a", "", "", 1.0, near=(far,)).close_in_training
    assert EvalItem("a", "", "", 1.0, near=(far, close)).close_in_training
    assert EvalItem("a", "", "", 1.0, group_in_training=1).close_in_training


def test_the_highest_similarity_counts_where_the_most_similar_is_not_shown():
    """Comparables are ordered by price as well; a near-repeat stays one."""
    far = Near("t", "t", 1.0, 0.5)
    assert EvalItem("a", "", "", 1.0, near=(far,), highest_similarity=0.85).close_in_training
    assert not EvalItem("a", "", "", 1.0, near=(far,), highest_similarity=0.7).close_in_training


def test_the_highest_similarity_is_on_disk(tmp_path):
    """It comes back, as does a folder of items without it."""
    items = [EvalItem("a", "A", "", 1.0, highest_similarity=0.85), EvalItem("b", "B", "", 2.0)]
    write_items(tmp_path, items, {"format": 1})
    assert list(read_items(tmp_path).values()) == items


def test_an_old_evaluation_stands_until_the_new_one_is_whole(folder, monkeypatch):
    """A failure before the meta file is there, a full disk for one, leaves the old pair and nothing else."""
    write_evaluation(folder, make_evaluation(), {"kind": "old"})
    before = {path.name: path.read_bytes() for path in folder.iterdir()}

    def full(path, value):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(result_files, "write_json", full)
    with pytest.raises(OSError, match="No space"):
        write_evaluation(folder, replace(make_evaluation(), rows=make_evaluation().rows[:3]), {"kind": "new"})
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


@pytest.mark.parametrize("moment", ["before the meta file", "after the meta file"])
def test_a_kill_at_any_moment_leaves_the_old_evaluation_or_the_new(folder, monkeypatch, moment):
    """Readers find it under either name, and the next writer cleans up."""
    write_evaluation(folder, make_evaluation(), {"kind": "old"})
    new = replace(make_evaluation(), rows=make_evaluation().rows[:3])
    with monkeypatch.context() as killed:
        killed.setattr(result_files, "recover_result_files", lambda folder, name: None)
        if moment == "before the meta file":
            killed.setattr(result_files, "write_json", lambda path, value: None)
        write_evaluation(folder, new, {"kind": "new"})
    evals = read_evals(folder)
    assert evals.meta["mlp"]["kind"] == ("old" if moment == "before the meta file" else "new")
    assert evals.evaluations[0].rows == (make_evaluation() if moment == "before the meta file" else new).rows
    assert evals.unfinished == ()
    result_files.recover_result_files(folder, "mlp")
    assert read_evals(folder) == evals
    assert sorted(path.name for path in folder.iterdir()) == ["items.parquet", "mlp.jsonl", "mlp.meta.json"]


def test_rows_of_a_longer_name_are_left_alone(folder):
    """`mlp.v2` is not `mlp`."""
    other = folder / f".mlp.v2.{'0' * 64}.jsonl"
    other.write_bytes(b"")
    write_evaluation(folder, make_evaluation(), {})
    assert other.exists()
