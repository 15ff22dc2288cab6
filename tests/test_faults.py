"""Kill -9 and a full disk: readers see the old or the new, never half, and the same command goes on or starts clean."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pricesmith.catalog import open as open_catalog
from pricesmith.cli import run
from pricesmith.evaluation.store import read_evals
from pricesmith.pricers.runs import load
from pricesmith.testing import made_csv

KILLS = 20

# Forks children that have everything imported already, so that the random moments fall into the work and not into
# imports; the first child is let through to learn how long the work takes.
KILLER = """
import json, os, random, shutil, signal, sys, time
import numpy, pyarrow.parquet, duckdb, rensa, sklearn.feature_extraction.text, sklearn.linear_model, scipy.sparse
import pricesmith.api, pricesmith.cli, pricesmith.contest, pricesmith.catalog.curation, pricesmith.pricers.runs
import pricesmith.serve.batch, pricesmith.evaluation.judge, pricesmith.pricers.ridge
words, kills, out = json.loads(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
draw = random.Random(0)

def child():
    pid = os.fork()
    if pid == 0:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        os._exit(pricesmith.cli.run(words))
    return pid

start = time.perf_counter()
_, status = os.waitpid(child(), 0)
assert os.waitstatus_to_exitcode(status) == 0, "the command does not work unharmed"
whole = time.perf_counter() - start
for number in range(kills):
    shutil.rmtree(out, ignore_errors=True) if os.path.isdir(out) else os.path.exists(out) and os.unlink(out)
    if number == 0:   # from here on, what an earlier kill left behind stays
        for left in (out + ".parts",): shutil.rmtree(left, ignore_errors=True)
    pid = child()
    time.sleep(draw.uniform(0, whole))
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    print("killed", flush=True)
    sys.stdin.readline()
"""


def after_each_kill(words: list[str], out: Path) -> Iterator[None]:
    """Start `words` KILLS times, kill each at a random moment, and hand over after each kill."""
    command = [sys.executable, "-c", KILLER, json.dumps(words), str(KILLS), str(out)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"}
    ) as killer:
        assert killer.stdin is not None
        assert killer.stdout is not None
        for _ in range(KILLS):
            assert killer.stdout.readline().strip() == "killed"
            yield
            killer.stdin.write("\n")
            killer.stdin.flush()


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a CSV file, its catalog and a fitted ridge."""
    folder = tmp_path_factory.mktemp("shop")
    made_csv(folder / "shop.csv", 2200)
    assert run(["curate", str(folder / "shop.csv"), "--to", str(folder / "catalog"), "--quiet"]) == 0
    ridge = ["fit", "ridge", "--catalog", str(folder / "catalog"), "--to", str(folder / "ridge"), "--quiet"]
    assert run(ridge) == 0
    return folder


def is_there(out: Path) -> bool:
    """Whether a reader would find something: a file, or a folder with more than hidden temporary files."""
    return any(not path.name.startswith(".") for path in out.iterdir()) if out.is_dir() else out.exists()


def check_catalog(path: Path) -> None:
    assert sum(open_catalog(path).ledger["splits"].values()) == len(
        [item for split in ("train", "validation", "test") for item in open_catalog(path).items(split)]
    )


def check_run(path: Path) -> None:
    load(path)


def check_evals(path: Path) -> None:
    for evaluation in read_evals(path).evaluations:
        assert len(evaluation.rows) > 0


def check_prices(path: Path) -> None:
    assert len(path.read_text().splitlines()) == 1 + 2200


@pytest.mark.parametrize(
    ("stage", "words", "check"),
    [
        ("curate", ["curate", "shop.csv", "--to", "OUT"], check_catalog),
        ("fit", ["fit", "ridge", "--catalog", "catalog", "--to", "OUT"], check_run),
        ("eval", ["eval", "ridge", "--catalog", "catalog", "--to", "OUT"], check_evals),
        ("price", ["price", "ridge", "--file", "shop.csv", "--to", "OUT.csv"], check_prices),
    ],
    ids=["curate", "fit", "eval", "price"],
)
def test_a_killed_stage_is_never_torn(
    stage: str,
    words: list[str],
    check: Callable[[Path], None],
    shop: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Of 20 kills at random moments none leaves something half under the final name, and the stage then ends well."""
    monkeypatch.chdir(shop)
    out = tmp_path / ("OUT.csv" if stage == "price" else "OUT")
    words = [str(tmp_path / word) if word.startswith("OUT") else word for word in words]
    torn = 0
    for _ in after_each_kill(words, out):
        if is_there(out):
            try:
                check(out)
            except Exception as error:
                torn += 1
                print(f"{stage} torn: {error}")
    assert torn == 0
    assert run(words) == 0
    check(out)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of one megabyte, for real."""
    place = tmp_path / "small"
    place.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(place)], capture_output=True)
    if mounted.returncode:
        pytest.skip("needs the right to mount a small file system")
    try:
        yield place
    finally:
        subprocess.run(["umount", "-l", str(place)], check=True)


@pytest.mark.parametrize(
    ("stage", "words"),
    [
        ("curate", ["curate", "shop.csv", "--to", "OUT", "--split-seed", "1", "--fresh"]),
        ("fit", ["fit", "ridge", "--catalog", "catalog", "--to", "OUT", "--fresh"]),
        ("eval", ["eval", "ridge", "--catalog", "catalog", "--to", "OUT"]),
        ("price", ["price", "ridge", "--file", "shop.csv", "--to", "OUT.csv"]),
    ],
    ids=["curate", "fit", "eval", "price"],
)
def test_a_full_disk_is_one_clear_line(
    stage: str,
    words: list[str],
    shop: Path,
    small_disk: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    """The cause is named, there is no traceback, and what stood there before stands there still."""
    monkeypatch.chdir(shop)
    monkeypatch.setenv("TMPDIR", str(small_disk))
    old = small_disk / "old.txt"
    old.write_text("old")
    filler = small_disk / "filler"
    with filler.open("wb", buffering=0) as handle:
        for size in (65536, 512):
            try:
                while True:
                    handle.write(b"x" * size)
            except OSError:
                continue
    words = [str(small_disk / word) if word.startswith("OUT") else word for word in words]
    capfd.readouterr()
    assert run(words) == 1
    told = capfd.readouterr().err
    assert "The disk is full" in told
    assert "Traceback" not in told
    assert old.read_text() == "old"
    filler.unlink()
    if stage != "curate":
        subprocess.run(["mount", "-o", "remount,size=64m", str(small_disk)], check=True)
        assert run([word for word in words if word != "--fresh"]) == 0
