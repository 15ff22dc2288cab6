"""A build that is killed resumes from its finished shards, and the catalog is the same to the byte."""

from __future__ import annotations

import gzip
import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pricesmith.catalog import curate, first_pass, shards
from pricesmith.catalog.catalog import Catalog
from pricesmith.catalog.prepare import prepare_rows
from pricesmith.catalog.readers.sources import RawRow
from pricesmith.catalog.shards import ShardWriter, find_shards, read_shard, split_batches
from pricesmith.core.errors import InputError
from pricesmith.core.progress import Progress
from pricesmith.testing import make_csv

ROWS = 300


class Notes(Progress):
    """Keeps what a build says."""

    def __init__(self) -> None:
        self.texts: list[str] = []

    def note(self, text: str) -> None:
        self.texts.append(text)


@pytest.fixture(scope="module", autouse=True)
def small_shards() -> Iterator[None]:
    """Shards of 128 rows, prepared in this process."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(shards, "SHARD_ROWS", 128)
        patch.setattr(first_pass, "count_processes", lambda: 1)
        yield


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A table of 300 rows: two full shards and a shorter one."""
    return str(make_csv(tmp_path_factory.mktemp("goods") / "goods.csv", ROWS))


@pytest.fixture(scope="module")
def whole(source: str, tmp_path_factory: pytest.TempPathFactory, small_shards: None) -> tuple[Any, ...]:
    """Its catalog, built without an interruption."""
    return files_of(curate([source], tmp_path_factory.mktemp("whole") / "catalog"))


@pytest.fixture
def prepared(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The numbers of the rows that are prepared."""
    numbers: list[int] = []

    def count(batch: Sequence[Any], *rest: Any) -> Any:
        numbers.extend(row.number for row in batch)
        return prepare_rows(batch, *rest)

    monkeypatch.setattr(first_pass, "prepare_rows", count)
    return numbers


def files_of(catalog: Catalog) -> tuple[Any, ...]:
    """What must be the same after a kill."""
    ledger = {name: value for name, value in catalog.ledger.items() if name not in ("name", "built")}
    rejects = gzip.decompress((catalog.path / "rejects.jsonl.gz").read_bytes())
    return (catalog.path / "items.parquet").read_bytes(), rejects, ledger


def unfinished(folder: Path) -> Path:
    """Where a build of `folder/catalog` works."""
    return folder / ".catalog.building"


def interrupt(monkeypatch: pytest.MonkeyPatch, after: int, error: BaseException) -> None:
    """Raise an error once so many shards are finished."""
    finish, count = ShardWriter.finish, [0]

    def finish_and_raise(writer: ShardWriter, *, last: bool) -> Any:
        count[0] += 1
        shard = finish(writer, last=last)
        if count[0] == after:
            raise error
        return shard

    monkeypatch.setattr(ShardWriter, "finish", finish_and_raise)


def take_snapshots(monkeypatch: pytest.MonkeyPatch, work: Path, to: Path) -> None:
    """Copy the folder of a build, as a kill would leave it, before each batch and each renaming of a shard."""
    add, rename = ShardWriter.add, os.rename

    def snapshot(function: Callable[..., Any]) -> Callable[..., Any]:
        def run(*arguments: Any) -> Any:
            shutil.copytree(work, to / str(len(list(to.iterdir()))))
            return function(*arguments)

        return run

    monkeypatch.setattr(ShardWriter, "add", snapshot(add))
    monkeypatch.setattr(os, "rename", snapshot(rename))


def interrupted(source: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of the shards of a build that was interrupted after the last one."""
    with monkeypatch.context() as patch:
        interrupt(patch, 3, KeyboardInterrupt())
        with pytest.raises(KeyboardInterrupt):
            curate([source], folder / "catalog")
    [shards_of_feed] = (unfinished(folder) / "work" / "shards").iterdir()
    return shards_of_feed


def test_a_build_that_is_killed_at_any_point_resumes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: str, whole: tuple[Any, ...], prepared: list[int]
) -> None:
    """What is on the disk at each step is enough; rows of finished shards are not prepared again."""
    (tmp_path / "snapshots").mkdir()
    with monkeypatch.context() as patch:
        take_snapshots(patch, unfinished(tmp_path), tmp_path / "snapshots")
        assert files_of(curate([source], tmp_path / "catalog")) == whole
    assert prepared == list(range(1, ROWS + 1))
    snapshots = sorted((tmp_path / "snapshots").iterdir(), key=lambda path: int(path.name))
    assert len(snapshots) >= 6
    for number, snapshot in enumerate(snapshots):
        there = tmp_path / f"resumed {number}"
        there.mkdir()
        folders = snapshot.glob("work/shards/*")
        finished = sum(shard.rows for folder in folders for shard in find_shards(folder).values())
        snapshot.rename(unfinished(there))
        del prepared[:]
        assert files_of(curate([source], there / "catalog")) == whole
        assert prepared == list(range(finished + 1, ROWS + 1))
        assert [path.name for path in there.iterdir()] == ["catalog"]


SCRIPT = """
import os, signal, sys
from pricesmith.catalog import curate, shards
shards.SHARD_ROWS = 128
finish = shards.ShardWriter.finish
def finish_and_die(writer, **how):
    shard = finish(writer, **how)
    if shard.first > 128:
        os.kill(os.getpid(), signal.SIGKILL)
    return shard
shards.ShardWriter.finish = finish_and_die
curate([sys.argv[1]], "catalog")
"""


def test_a_process_that_is_killed_leaves_its_shards(
    tmp_path: Path, source: str, whole: tuple[Any, ...], prepared: list[int]
) -> None:
    done = subprocess.run([sys.executable, "-c", SCRIPT, source], cwd=tmp_path, capture_output=True, check=False)
    assert (done.returncode, done.stderr) == (-9, b"")
    notes = Notes()
    assert files_of(curate([source], tmp_path / "catalog", progress=notes)) == whole
    assert prepared[0] == 257
    assert "Resuming: 256 rows were read and cleaned before the interruption." in notes.texts


def cut_byte(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def flip_bit(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[100] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize(
    ("damage", "again"),
    [
        ([("staged.parquet", flip_bit), ("sketches.bin", cut_byte), ("shard.json", Path.unlink)], ROWS),
        ([("..", lambda path: None), ("shard.json", cut_byte)], 128),
    ],
    ids=["all", "the second of three"],
)
def test_a_damaged_shard_is_made_again(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    source: str,
    whole: tuple[Any, ...],
    prepared: list[int],
    damage: list[tuple[str, Callable[[Path], None]]],
    again: int,
) -> None:
    """Only this one, also between others, and the last shard stays the last."""
    folders = sorted(interrupted(source, tmp_path, monkeypatch).iterdir())
    for folder, (name, change) in zip(folders, damage, strict=False):
        change(folder / name)
    del prepared[:]
    assert files_of(curate([source], tmp_path / "catalog")) == whole
    assert len(prepared) == again


def test_other_options_of_the_split_use_the_same_shards(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: str, prepared: list[int]
) -> None:
    """Other options for rows do not, and both is said."""
    interrupted(source, tmp_path, monkeypatch)
    shutil.copytree(unfinished(tmp_path), unfinished(tmp_path / "other"))
    del prepared[:]
    notes = Notes()
    curate([source], tmp_path / "catalog", split_seed=1, progress=notes)
    assert prepared == []
    assert any("other settings (split_seed: 0 -> 1)" in text for text in notes.texts)
    notes = Notes()
    low = curate([source], tmp_path / "other" / "catalog", min_price=20, progress=notes)
    assert len(prepared) == ROWS
    assert any(text.startswith("300 rows that an interrupted build had read are read again") for text in notes.texts)
    assert low.ledger["rows"]["rejected"]["price below the range"] > 0


def test_a_changed_file_is_read_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: str, prepared: list[int]
) -> None:
    """The shards of the other file stay."""
    second = make_csv(tmp_path / "b.csv", ROWS, seed=5)
    with monkeypatch.context() as patch:
        interrupt(patch, 6, KeyboardInterrupt())
        with pytest.raises(KeyboardInterrupt):
            curate([source, str(second)], tmp_path / "catalog")
    second.write_text(second.read_text().rstrip("\n").rpartition("\n")[0] + "\n")
    del prepared[:]
    resumed = curate([source, str(second)], tmp_path / "catalog")
    assert prepared == list(range(1, ROWS))
    assert resumed.ledger["rows"]["in"] == 2 * ROWS - 1


def test_nothing_is_left_by_wrong_input_or_by_less_than_a_shard(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: str
) -> None:
    """What is wrong with the input stays wrong, and a small table is read again in no time."""
    for after, size, error in ((2, 128, InputError("It is damaged")), (1, 1_000, KeyboardInterrupt())):
        monkeypatch.setattr(shards, "SHARD_ROWS", size)
        with monkeypatch.context() as patch:
            interrupt(patch, after, error)
            with pytest.raises(type(error)):
                curate([source], tmp_path / "catalog")
        assert not unfinished(tmp_path).exists()


def test_a_damaged_file_does_not_cost_the_shards_of_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: str, prepared: list[int]
) -> None:
    """Once it is replaced, the same command reads it alone, and the catalog is that of a build without interruption."""
    second = make_csv(tmp_path / "other.csv", ROWS, seed=5)
    names = [source, str(second)]
    expected = files_of(curate(names, tmp_path / "expected" / "catalog"))
    sound = second.read_bytes()
    second.write_bytes(sound[: sound.rindex(b"\n", 0, -1) + 1])
    with monkeypatch.context() as patch:
        interrupt(patch, 5, InputError("It is damaged"))
        with pytest.raises(InputError, match="damaged"):
            curate(names, tmp_path / "catalog")
    second.write_bytes(sound)
    del prepared[:]
    assert files_of(curate(names, tmp_path / "catalog")) == expected
    assert prepared == list(range(1, ROWS + 1))


def test_small_files_that_are_a_shard_together_are_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, prepared: list[int]
) -> None:
    """Hours of work may be in many files, none of which fills a shard."""
    names = [str(make_csv(tmp_path / f"{name}.csv", 70, seed=name)) for name in range(3)]
    with monkeypatch.context() as patch:
        interrupt(patch, 2, KeyboardInterrupt())
        with pytest.raises(KeyboardInterrupt):
            curate(names, tmp_path / "catalog")
    del prepared[:]
    assert curate(names, tmp_path / "catalog").ledger["rows"]["in"] == 210
    assert prepared == list(range(1, 71))


def test_tables_of_one_file_have_shards_of_their_own(tmp_path: Path) -> None:
    """They have the same bytes and columns, as have the files in an archive and the sheets of a workbook."""
    rows = [
        "title,price,category\n" + "".join(f"{word} {n} lamp no {n},{n + 1},x\n" for n in range(60)) for word in "ab"
    ]
    for name, text in zip("ab", rows, strict=True):
        (tmp_path / f"{name}.csv").write_text(text)
    with zipfile.ZipFile(tmp_path / "both.zip", "w") as archive:
        for name in "ab":
            archive.write(tmp_path / f"{name}.csv", f"{name}.csv")
    apart = curate([str(tmp_path / f"{name}.csv") for name in "ab"], tmp_path / "apart")
    packed = curate([str(tmp_path / "both.zip")], tmp_path / "packed")
    assert packed.ledger["rows"]["in"] == 120
    assert packed.fingerprint == apart.fingerprint


def test_the_rows_of_a_copy_are_duplicates(tmp_path: Path) -> None:
    """A file that was given twice under two names is read twice, and its rows are in the catalog once."""
    for name in "ab":
        lines = "".join(f"lamp {n} of {n * n} watts,{n + 1},x\n" for n in range(120))
        (tmp_path / f"{name}.csv").write_text("title,price,category\n" + lines)
    rows = curate([str(tmp_path / f"{name}.csv") for name in "ab"], tmp_path / "catalog").ledger["rows"]
    assert (rows["in"], rows["kept"], rows["rejected"]) == (240, 120, {"duplicate": 120})


def test_products_are_counted_over_shards(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Variants of one product in two shards, and links to variants that come later, are those of one shard."""
    rows = [f"p{n // 3},{n},garden hose {n // 3} of {n * 7 % 400} m,{n % 90 + 1}" for n in range(ROWS)]
    path = tmp_path / "feed.csv"
    path.write_text("item_group_id,id,title,price\n" + "\n".join(rows) + "\n")
    catalogs = []
    for size in (128, 1_000):
        monkeypatch.setattr(shards, "SHARD_ROWS", size)
        catalogs.append(files_of(curate([str(path)], tmp_path / str(size) / "catalog")))
    assert catalogs[0] == catalogs[1]
    assert catalogs[0][2]["kinds"]["feed.csv"]["products"] == ROWS // 3


@given(st.lists(st.integers(1, 150), max_size=12))
def test_batches_are_cut_where_shards_end(sizes: list[int]) -> None:
    """No row is lost, moved or in two shards, whatever the batches are."""
    batches, number = [], 1
    for size in sizes:
        batches.append([RawRow("a.csv", number + place, {}) for place in range(size)])
        number += size
    pieces = list(split_batches(batches))
    assert [row for _, piece in pieces for row in piece] == [row for batch in batches for row in batch]
    assert all(first <= row.number < first + shards.SHARD_ROWS for first, piece in pieces for row in piece)
    assert all(piece and first % shards.SHARD_ROWS == 1 for first, piece in pieces)


def test_two_processes_may_write_one_shard(tmp_path: Path) -> None:
    """The first one counts; the second is not an error, and leaves nothing."""
    with ShardWriter(tmp_path, 1) as first, ShardWriter(tmp_path, 1) as second:
        first.finish(last=True)
        second.finish(last=True)
    [folder] = tmp_path.iterdir()
    assert read_shard(folder) == first.shard
