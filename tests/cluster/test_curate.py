"""The first pass of curate, its shards written by tasks that run in this process."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from pricesmith.catalog import shards as staged_shards
from pricesmith.catalog.catalog import Catalog
from pricesmith.catalog.curation import curate as curate_here
from pricesmith.catalog.readers.feeds import ReadOptions, open_feeds
from pricesmith.cli import run
from pricesmith.cluster import curate as module
from pricesmith.cluster.curate import curate
from pricesmith.cluster.shards import Shard, ShardsFailed, run_here
from pricesmith.core.errors import UsageError
from pricesmith.core.progress import SILENT
from pricesmith.testing import make_csv

NAMES = ["a.csv", "b.csv", "c.csv"]
ROWS = [
    "a.csv, rows 1 to 100", "a.csv, rows 101 to 200", "a.csv, rows 201 to 250", "b.csv, rows 1 to 100",
    "b.csv, rows 101 to 200", "c.csv, rows 1 to 100", "c.csv, rows 101 to 150",
]  # fmt: skip


class ThisMachine:
    """A cluster that runs every shard here; it fails those whose names begin with `broken`."""

    def __init__(self, cores: int) -> None:
        self.cores, self.broken = cores, "-"
        self.names: list[str] = []

    def count_cores(self) -> int:
        return self.cores

    @contextmanager
    def open(self, address: str, **_: Any) -> Iterator[ThisMachine]:
        yield self

    def run(self, function: Any, rules: Any, shards: Any) -> Iterator[Any]:
        """Run the shards."""

        def work(rules: Any, shard: Shard) -> dict[str, Any]:
            self.names.append(shard.name)
            if shard.name.startswith(self.broken):
                raise ValueError("no")
            facts: dict[str, Any] = function(rules, shard.content)
            return facts

        return run_here(work, rules, (Shard(shard.name, shard, shard.folder) for shard in shards))


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[str]]:
    """Three files, of 250, 200 and 150 rows; a shard has 100."""
    folder = tmp_path_factory.mktemp("sources")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(staged_shards, "SHARD_ROWS", 100)
        yield [str(make_csv(folder / name, rows, seed=rows)) for name, rows in zip(NAMES, (250, 200, 150), strict=True)]


@pytest.fixture(scope="module")
def here(sources: list[str], tmp_path_factory: pytest.TempPathFactory) -> Catalog:
    """The catalog that one machine builds, in a folder `shop`: its name is in the ledger."""
    return curate_here(sources, tmp_path_factory.mktemp("here") / "shop")


def use_cluster(monkeypatch: pytest.MonkeyPatch, cores: int) -> ThisMachine:
    cluster = ThisMachine(cores)
    monkeypatch.setattr(module, "open_cluster", cluster.open)
    return cluster


def read_files(folder: Path) -> dict[str, bytes]:
    """Every file of a catalog with its content."""
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize(
    ("cores", "unseen", "names"),
    [(2, "", NAMES), (2, "b.csv", NAMES + ROWS[3:5]), (8, "", ROWS)],
    ids=["files", "a file that no node sees", "rows"],
)
def test_a_cluster_builds_the_catalog_of_one_machine(
    cores: int,
    unseen: str,
    names: list[str],
    sources: list[str],
    here: Catalog,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Every byte of it, from whole files or from ranges of rows."""
    cluster, stage = use_cluster(monkeypatch, cores), module.stage_file
    monkeypatch.setattr(
        module,
        "stage_file",
        lambda rules, file: {"missing": str(file.folder)} if file.feed.name == unseen else stage(rules, file),
    )
    there = curate(sources, tmp_path / "shop", cluster="auto")
    assert there.fingerprint == here.fingerprint
    assert read_files(there.path) == read_files(here.path)
    assert cluster.names == names


def test_after_a_failure_the_same_command_reads_only_what_is_missing(
    sources: list[str], here: Catalog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The broken file is named, and the shards of the others are kept, however small."""
    cluster = use_cluster(monkeypatch, cores=1)
    cluster.broken = "b.csv"
    with pytest.raises(ShardsFailed, match=r"b\.csv: ValueError"):
        curate(sources, tmp_path / "shop", cluster="auto")
    cluster.broken, cluster.names = "-", []
    assert curate(sources, tmp_path / "shop", cluster="auto").fingerprint == here.fingerprint
    assert cluster.names == ["b.csv"]


def test_a_cluster_that_is_not_there_costs_no_finished_shard(
    sources: list[str], here: Catalog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is wrong with the sources: once the cluster runs, the same command resumes."""
    cluster = use_cluster(monkeypatch, cores=1)
    cluster.broken = "b.csv"
    with pytest.raises(ShardsFailed):
        curate(sources, tmp_path / "shop", cluster="auto")

    def refuse(address: str, **_: Any) -> None:
        raise UsageError("No Ray cluster runs on this machine")

    with monkeypatch.context() as patch:
        patch.setattr(module, "open_cluster", refuse)
        with pytest.raises(UsageError, match="No Ray cluster"):
            curate(sources, tmp_path / "shop", cluster="auto")
        with pytest.raises(UsageError, match="No Ray cluster"):
            curate(sources, tmp_path / "other", cluster="auto")
    assert sorted(path.name for path in tmp_path.glob(".*.building")) == [".shop.building"]
    cluster.broken, cluster.names = "-", []
    assert curate(sources, tmp_path / "shop", cluster="auto").fingerprint == here.fingerprint
    assert cluster.names == ["b.csv"]


def test_a_node_with_another_file_under_the_path_does_not_read_it(tmp_path: Path) -> None:
    """Its rows are sent by the command instead."""
    path = make_csv(tmp_path / "a.csv", 30)
    [feed] = open_feeds([str(path)], ReadOptions(), SILENT)
    file = module.describe_file(feed, tmp_path / "shards")
    assert file is not None
    assert module.sees_file(file)
    make_csv(path, 30, seed=9)
    assert module.stage_file(None, file) == {"missing": str(tmp_path / "shards")}
    path.unlink()
    assert not module.sees_file(file)


def test_the_address_is_checked_before_anything_is_read(tmp_path: Path) -> None:
    """No source has to exist for that."""
    with pytest.raises(UsageError, match="not the address"):
        curate([str(tmp_path / "none.csv")], tmp_path / "there", cluster="nowhere")


def test_the_log_of_a_server_is_not_for_a_cluster(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Its rows are few."""
    words = ["curate", str(tmp_path), "--from-feedback", "--to", str(tmp_path / "out"), "--cluster", "auto"]
    assert run(words) == 2
    assert "--cluster is not for --from-feedback" in capfd.readouterr().err
