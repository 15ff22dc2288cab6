"""Folders of files: each is priced whole, a broken one is named, and the same command does only what is missing."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pricesmith.batch.price import price_file
from pricesmith.cli import run
from pricesmith.cluster import price_folder
from pricesmith.cluster.price_folder import price_files, price_one_file
from pricesmith.cluster.shards import ShardsFailed, run_here
from pricesmith.core.errors import InputError, UsageError
from pricesmith.pricers.model import PriceModel, load_model
from pricesmith.testing import make_catalog, make_csv


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> PriceModel:
    """A fitted median."""
    folder = tmp_path_factory.mktemp("model")
    catalog = str(make_catalog(folder / "catalog", 300))
    assert run(["fit", "median", "--catalog", catalog, "--to", str(folder / "median"), "--quiet"]) == 0
    return load_model(folder / "median")


@pytest.fixture
def inputs(tmp_path: Path) -> Path:
    """A folder with a CSV file, a JSON Lines file and one that is no table."""
    folder = tmp_path / "new"
    folder.mkdir()
    make_csv(folder / "a.csv", 12, seed=1)
    rows = [{"sku": f"s{number}", "name": f"Oak lamp {number}"} for number in range(5)]
    (folder / "b.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "notes.txt").write_text("not a table")
    return folder


@pytest.fixture
def priced(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the files that were priced, in order."""
    names: list[str] = []

    def count(model: Any, info: Any, file: Any, *rest: Any, **options: Any) -> dict[str, Any]:
        names.append(Path(file).name)
        return price_file(model, info, file, *rest, **options)

    monkeypatch.setattr(price_folder, "price_file", count)
    return names


def test_each_file_becomes_one_of_the_same_name(model: PriceModel, inputs: Path, tmp_path: Path) -> None:
    """With the bytes that pricing it alone gives; the marker has the counts of all."""
    facts = price_files(model, inputs, tmp_path / "out", comparables=1)
    assert facts == {
        "files": 2, "rows": 17, "priced": 17, "not_priced": 0, "nothing_similar": facts["nothing_similar"],
        "to": str(tmp_path / "out"),
    }  # fmt: skip
    for name in ("a.csv", "b.jsonl"):
        alone = tmp_path / f"alone-{name}"
        price_file(model, model.info, inputs / name, alone, identity=model.identity, comparables=1)
        assert (tmp_path / "out" / name).read_bytes() == alone.read_bytes()
    record = json.loads((tmp_path / "out" / "records" / "b.jsonl.json").read_text())
    assert (record["input"], record["rows"], record["priced"]) == ("b.jsonl", 5, 5)
    marker = json.loads((tmp_path / "out" / "prices.json").read_text())
    assert marker["rows"] == 17
    assert "building" not in json.dumps(marker)


def test_after_a_broken_file_the_same_command_prices_only_that_one(
    model: PriceModel, inputs: Path, tmp_path: Path, priced: list[str]
) -> None:
    """It is named with the reason; nothing is at the place of the output before all are priced."""
    (inputs / "b.jsonl").write_text('{"weight": 3}\n')
    with pytest.raises(ShardsFailed, match=r"b\.jsonl: b\.jsonl has no column that the model knows") as caught:
        price_files(model, inputs, tmp_path / "out")
    assert caught.value.what == "1 file of 2 could not be priced; the others are kept"
    assert not (tmp_path / "out").exists()
    (inputs / "b.jsonl").write_text('{"name": "Oak lamp"}\n')
    assert price_files(model, inputs, tmp_path / "out")["rows"] == 13
    assert priced == ["a.csv", "b.jsonl", "b.jsonl"]
    assert price_files(model, inputs, tmp_path / "out")["rows"] == 13
    assert len(priced) == 3


def test_changed_and_missing_inputs_are_noticed(
    model: PriceModel, inputs: Path, tmp_path: Path, priced: list[str]
) -> None:
    """A finished folder whose inputs changed is refused; a copy with the same content counts as the same."""
    price_files(model, inputs, tmp_path / "out")
    shutil.copyfile(inputs / "a.csv", tmp_path / "copy")
    (tmp_path / "copy").replace(inputs / "a.csv")
    price_files(model, inputs, tmp_path / "out")
    make_csv(inputs / "a.csv", 13, seed=2)
    with pytest.raises(UsageError, match="has changed since") as caught:
        price_files(model, inputs, tmp_path / "out")
    assert caught.value.got == "a.csv"
    (inputs / "b.jsonl").unlink()
    assert price_files(model, inputs, tmp_path / "out", overwrite=True)["rows"] == 13
    assert not (tmp_path / "out" / "b.jsonl").exists()
    assert priced == ["a.csv", "b.jsonl", "a.csv"]


def test_a_cluster_gets_the_files_that_are_missing(
    model: PriceModel, inputs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each as one shard; leftovers of a killed attempt are gone at the end."""
    names: list[str] = []

    class ThisMachine:
        def run(self, function: Any, work: Any, shards: Any, *, actors: bool) -> Iterator[Any]:
            names.extend(shard.name for shard in shards)
            (work.folder / ".attempt-killed").mkdir()
            return run_here(function, work, shards)

    @contextmanager
    def open_here(address: str, **_: Any) -> Iterator[ThisMachine]:
        yield ThisMachine()

    monkeypatch.setattr(price_folder, "open_cluster", open_here)
    assert price_files(model, inputs, tmp_path / "out", cluster="auto")["rows"] == 17
    assert names == ["a.csv", "b.jsonl"]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["a.csv", "b.jsonl", "prices.json", "records"]


def test_an_interruption_while_finished_files_are_compared_keeps_them(
    model: PriceModel, inputs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also before the first new file is priced."""
    (inputs / "b.jsonl").write_text('{"weight": 3}\n')
    with pytest.raises(ShardsFailed):
        price_files(model, inputs, tmp_path / "out")

    def interrupt(*_: Any) -> bool:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(price_folder, "is_done", interrupt)
        price_files(model, inputs, tmp_path / "out")
    assert (tmp_path / ".out.building" / "a.csv").is_file()


def test_a_cluster_that_cannot_be_reached_leaves_nothing(
    model: PriceModel, inputs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No file is priced, so there is nothing to resume."""

    @contextmanager
    def refuse(address: str, **_: Any) -> Iterator[None]:
        raise UsageError("There is no Ray cluster", got=address)
        yield

    monkeypatch.setattr(price_folder, "open_cluster", refuse)
    with pytest.raises(UsageError, match="no Ray cluster"):
        price_files(model, inputs, tmp_path / "out", cluster="auto")
    assert [path.name for path in tmp_path.iterdir() if "out" in path.name] == []


def test_two_inputs_with_one_output_are_refused(model: PriceModel, inputs: Path, tmp_path: Path) -> None:
    """Before anything is priced."""
    (inputs / "c.tsv").write_text("name\tx\nOak lamp\t1\n")
    (inputs / "c.tsv.csv").write_text("name,x\nOak lamp,1\n")
    with pytest.raises(UsageError, match=r"Two outputs would be called c\.tsv\.csv"):
        price_files(model, inputs, tmp_path / "out")


def test_links_to_files_of_one_name_are_refused(model: PriceModel, tmp_path: Path) -> None:
    """One output would replace the other."""
    (tmp_path / "new").mkdir()
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        make_csv(tmp_path / name / "export.csv", 3)
        (tmp_path / "new" / f"{name}.csv").symlink_to(tmp_path / name / "export.csv")
    with pytest.raises(UsageError, match=r"Two outputs would be called export\.csv") as caught:
        price_files(model, tmp_path / "new", tmp_path / "out")
    assert caught.value.got == f"{tmp_path}/one/export.csv and {tmp_path}/two/export.csv"


def test_a_file_that_is_another_one_on_a_node_is_not_taken_for_the_input(
    model: PriceModel, inputs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, priced: list[str]
) -> None:
    """It is named, and priced again."""

    def read_another(work: Any, file: price_folder.InputFile) -> dict[str, Any]:
        if file.path.name != "a.csv":
            return price_one_file(work, file)
        (tmp_path / "node").mkdir()
        return price_one_file(work, replace(file, path=make_csv(tmp_path / "node" / "a.csv", 9, seed=4)))

    with monkeypatch.context() as patch:
        patch.setattr(price_folder, "price_one_file", read_another)
        with pytest.raises(InputError, match=r"a\.csv was changed .* or is another file on a node"):
            price_files(model, inputs, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    assert price_files(model, inputs, tmp_path / "out")["rows"] == 17
    assert priced == ["a.csv", "b.jsonl", "a.csv"]


def test_the_command_prices_a_folder_and_asks_for_a_place(
    model: PriceModel, inputs: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Without --to nothing is printed but the error."""
    words = ["price", str(model.path), "--file", str(inputs)]
    assert run(words) == 2
    assert "--file with a folder needs --to" in capfd.readouterr().err
    assert run([*words, "--to", str(tmp_path / "out")]) == 0
    assert "2 files, 17 rows: 17 priced, 0 not priced" in capfd.readouterr().out
