"""Kill -9 and a full disk: readers see the old or the new, never half, and the same command goes on or starts clean."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from pricesmith.catalog import open as open_catalog
from pricesmith.cli import run
from pricesmith.evaluation.results import read_evals
from pricesmith.pricers.model import load_model
from pricesmith.testing import make_csv

KILLS, MANY_KILLS = 4, 40
NEW_ROWS = 600

# Forks children that have everything imported already, so that the random moments fall into the work and not into
# imports; the first child is let through to learn how long the work takes, and what it made is the old for half of the
# kills. For the other half there is nothing yet.
KILLER = """
import json, os, random, shutil, signal, sys, time
import numpy, pyarrow.parquet, duckdb, rensa, sklearn.feature_extraction.text, sklearn.linear_model, scipy.sparse
import pricesmith.api, pricesmith.cli, pricesmith.candidates, pricesmith.catalog.curation, pricesmith.pricers.model
import pricesmith.batch.price, pricesmith.evaluation.run_eval, pricesmith.pricers.ridge
words, again, kills, out = json.loads(sys.argv[1]), json.loads(sys.argv[2]), int(sys.argv[3]), sys.argv[4]
draw = random.Random(0)

def child(words):
    pid = os.fork()
    if pid == 0:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        os._exit(pricesmith.cli.run(words))
    return pid

start = time.perf_counter()
_, status = os.waitpid(child(words), 0)
assert os.waitstatus_to_exitcode(status) == 0, "the command does not work unharmed"
whole = time.perf_counter() - start
for number in range(kills):
    old = number < kills // 2
    if not old:
        shutil.rmtree(out) if os.path.isdir(out) else os.path.exists(out) and os.unlink(out)
    pid = child(again if old else words)
    time.sleep(draw.uniform(0, whole))
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    print("old" if old else "none", flush=True)
    sys.stdin.readline()
"""


def after_each_kill(words: list[str], again: list[str], out: Path, kills: int) -> Iterator[bool]:
    """Start the command `kills` times, kill each at a random moment, and say after each whether there was an old."""
    command = [sys.executable, "-c", KILLER, json.dumps(words), json.dumps(again), str(kills), str(out)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"}
    ) as killer:
        assert killer.stdin is not None
        assert killer.stdout is not None
        for _ in range(kills):
            state = killer.stdout.readline().strip()
            assert state in ("old", "none")
            yield state == "old"
            killer.stdin.write("\n")
            killer.stdin.flush()


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a table, its catalog, a fitted ridge, and a table to price."""
    folder = tmp_path_factory.mktemp("shop")
    make_csv(folder / "shop.csv", 2200)
    make_csv(folder / "new.csv", NEW_ROWS, seed=1)
    assert run(["curate", str(folder / "shop.csv"), "--to", str(folder / "catalog"), "--quiet"]) == 0
    ridge = ["fit", "ridge", "--catalog", str(folder / "catalog"), "--to", str(folder / "ridge"), "--quiet"]
    assert run(ridge) == 0
    return folder


def is_there(out: Path) -> bool:
    """Whether there is output for a reader: a file, or a folder with more than hidden temporary files."""
    return any(not path.name.startswith(".") for path in out.iterdir()) if out.is_dir() else out.exists()


def check_catalog(path: Path) -> None:
    assert sum(open_catalog(path).ledger["splits"].values()) == len(
        [item for split in ("train", "validation", "test") for item in open_catalog(path).items(split)]
    )


def check_run(path: Path) -> None:
    load_model(path)


def check_evals(path: Path) -> None:
    evaluations = read_evals(path).evaluations
    assert len(evaluations) == 1
    assert len(evaluations[0].rows) > 0


def check_prices(path: Path) -> None:
    assert len(list(csv.reader(path.read_text().splitlines(keepends=True)))) == 1 + NEW_ROWS


STAGES = {
    "curate": (["curate", "shop.csv", "--to", "OUT"], check_catalog),
    "fit": (["fit", "ridge", "--catalog", "catalog", "--to", "OUT"], check_run),
    "eval": (["eval", "ridge", "--catalog", "catalog", "--to", "OUT"], check_evals),
    "price": (["price", "ridge", "--file", "new.csv", "--to", "OUT.csv"], check_prices),
}


def words_of(stage: str, folder: Path) -> tuple[list[str], list[str], Path]:
    """A stage's command with its output under `folder`, the same to build anew over an old one, and the output."""
    out = folder / ("OUT.csv" if stage == "price" else "OUT")
    words = [str(out) if word.startswith("OUT") else word for word in STAGES[stage][0]]
    return words, [*words, *([] if stage == "price" else ["--overwrite"])], out


@pytest.mark.parametrize("stage", STAGES)
def test_a_killed_stage_is_never_torn(
    stage: str, shop: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_thorough: bool
) -> None:
    """Of 4 kills at random moments (40 with --run-slow) none leaves something half under the final name, and the stage
    then ends well.

    Where an old output stood, a whole one, old or new, stands after every kill.
    """
    monkeypatch.chdir(shop)
    words, again, out = words_of(stage, tmp_path)
    check = STAGES[stage][1]
    torn, looked, kills = 0, 0, MANY_KILLS if is_thorough else KILLS
    for old in after_each_kill(words, again, out, kills):
        # An evals folder grows by one evaluation after another: before the first it is whole and empty.
        if old or (is_there(out) and (stage != "eval" or read_evals(out).evaluations)):
            looked += 1
            try:
                check(out)
            except Exception as error:
                torn += 1
                print(f"{stage} torn: {error!r}")
    assert torn == 0
    assert looked >= kills // 2
    assert run(words) == 0
    check(out)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 16 megabytes, for real."""
    folder = tmp_path / "small"
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=16m", "tmpfs", str(folder)], capture_output=True)
    if mounted.returncode:
        pytest.skip("needs the right to mount a small file system")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def fill(path: Path) -> None:
    """Write a file until the disk is full."""
    with path.open("wb", buffering=0) as handle:
        for size in (65536, 512):
            try:
                while True:
                    handle.write(b"x" * size)
            except OSError:
                continue


def contents(path: Path) -> dict[str, bytes]:
    """Every file of an artifact, by its name."""
    files = [path] if path.is_file() else [file for file in path.rglob("*") if file.is_file()]
    return {file.name: file.read_bytes() for file in files}


@pytest.mark.parametrize("stage", STAGES)
def test_a_full_disk_is_one_clear_line(
    stage: str, shop: Path, small_disk: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """The cause is named, there is no traceback, and the old artifact is unchanged, byte for byte."""
    monkeypatch.chdir(shop)
    words, again, out = words_of(stage, small_disk)
    assert run(words) == 0
    old = contents(out)
    monkeypatch.setenv("TMPDIR", str(small_disk))
    fill(small_disk / "filler")
    capfd.readouterr()
    assert run(again) == 1
    errors = capfd.readouterr().err
    assert "The disk is full" in errors
    assert "Traceback" not in errors
    assert contents(out) == old
    STAGES[stage][1](out)
    (small_disk / "filler").unlink()
    subprocess.run(["mount", "-o", "remount,size=128m", str(small_disk)], check=True)
    assert run(again) == 0
