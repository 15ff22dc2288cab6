"""The first pass of curate: the same rows, in the same order, with any number of processes."""

from __future__ import annotations

import contextlib
import gzip
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from pricesmith.catalog import curate, first_pass
from pricesmith.catalog.catalog import Catalog
from pricesmith.testing import make_csv

FEED = """item_group_id,id,title,description,price,sku
{rows}
"""


ROWS = 4_100  # three batches, the last one small


@pytest.fixture
def few_rows_first(monkeypatch: pytest.MonkeyPatch) -> None:
    """Other processes start after the first rows."""
    monkeypatch.setattr(first_pass, "FIRST_ROWS", 1)


def files_of(catalog: Catalog) -> tuple[Any, ...]:
    """What must not depend on the number of processes."""
    ledger = {name: value for name, value in catalog.ledger.items() if name not in ("name", "built")}
    rejects = gzip.decompress((catalog.path / "rejects.jsonl.gz").read_bytes())
    return (catalog.path / "items.parquet").read_bytes(), rejects, ledger


def make_feed(path: Path) -> str:
    """Variants of products, some without a price, and a column that is later than the header of other rows."""
    rows = [
        f"p{number // 3},{number},garden hose {number // 3} of {number} m,with $5 fittings {number % 7},"
        f"{'' if number % 50 == 0 else number % 90 + 1},s{number}"
        for number in range(ROWS)
    ]
    path.write_text(FEED.format(rows="\n".join(rows)))
    return str(path)


@pytest.mark.parametrize("kind", ["table", "products"])
def test_two_processes_build_the_same_catalog_as_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, few_rows_first: None, kind: str
) -> None:
    source = make_feed(tmp_path / "feed.csv") if kind == "products" else str(make_csv(tmp_path / "goods.csv", ROWS))
    catalogs = []
    for processes in (1, 2):
        monkeypatch.setattr(first_pass, "count_processes", lambda processes=processes: processes)
        catalogs.append(files_of(curate([source], tmp_path / str(processes) / "catalog")))
    assert catalogs[0] == catalogs[1]
    assert catalogs[0][2]["rows"]["kept"] > 100


def test_rows_of_a_process_that_died_are_prepared_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, few_rows_first: None
) -> None:
    source = str(make_csv(tmp_path / "goods.csv", ROWS))
    monkeypatch.setattr(first_pass, "count_processes", lambda: 1)
    alone = files_of(curate([source], tmp_path / "one" / "catalog"))
    monkeypatch.setattr(first_pass, "count_processes", lambda: 2)
    start = first_pass.start_pool

    def start_and_kill(processes: int) -> Any:
        pool = start(processes)
        pool.submit(os._exit, 9)
        return pool

    monkeypatch.setattr(first_pass, "start_pool", start_and_kill)
    assert files_of(curate([source], tmp_path / "two" / "catalog")) == alone


SCRIPT = """
from pricesmith.catalog import curate, first_pass
first_pass.FIRST_ROWS = 1
first_pass.count_processes = lambda: 2
print(curate(["goods.csv"], "catalog").ledger["rows"]["kept"])
"""


def test_a_script_without_a_guard_of_its_main_module_runs_once(tmp_path: Path) -> None:
    make_csv(tmp_path / "goods.csv", ROWS)
    (tmp_path / "script.py").write_text(SCRIPT)
    done = subprocess.run([sys.executable, "script.py"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.count("\n") == 1


def test_processes_end_when_their_parent_is_killed(tmp_path: Path) -> None:
    """Nothing is left running after kill -9."""
    code = """if True:
        import os, signal, time
        from pricesmith.catalog.first_pass import start_pool
        pool = start_pool(2)
        for _ in range(2):
            pool.submit(time.sleep, 2)
        time.sleep(1)
        print(*pool._processes, flush=True)
        os.kill(os.getpid(), signal.SIGKILL)
    """
    with (tmp_path / "numbers").open("w") as out:  # a pipe would be read until the children have closed it
        killed = subprocess.run([sys.executable, "-c", code], stdout=out, stderr=subprocess.DEVNULL)
    assert killed.returncode == -signal.SIGKILL
    children, deadline = [int(number) for number in (tmp_path / "numbers").read_text().split()], time.monotonic() + 240
    assert len(children) == 2
    try:
        while any(is_alive(child) for child in children):
            assert time.monotonic() < deadline
            time.sleep(0.05)
    finally:
        for child in children:
            with contextlib.suppress(ProcessLookupError):
                os.kill(child, signal.SIGKILL)


def is_alive(process: int) -> bool:
    """Whether a process of this number exists and runs."""
    state = subprocess.run(["ps", "-o", "stat=", "-p", str(process)], capture_output=True, text=True).stdout.strip()
    return bool(state) and not state.startswith("Z")
