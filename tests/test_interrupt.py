"""Ctrl-C ends every stage soon, also while compiled code computes; the same command then resumes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pricesmith.cli import run
from pricesmith.cli.app import GRACE
from pricesmith.testing import make_csv

pytestmark = pytest.mark.skipif(os.name == "nt", reason="signals are sent to a process")
# A shell starts jobs in the background with SIGINT ignored; these processes stand for ones in the foreground.
FOREGROUND = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)\n"
MAIN = FOREGROUND + "from pricesmith.cli import main; main()"
HANG = 240.0  # seconds after which a process counts as hung, on a machine of any speed


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A table that takes seconds in every stage, its catalog and a model."""
    folder = tmp_path_factory.mktemp("shop")
    make_csv(folder / "shop.csv", 6000)
    make_csv(folder / "many.csv", 40_000, seed=3)
    assert run(["curate", str(folder / "shop.csv"), "--to", str(folder / "catalog"), "--quiet"]) == 0
    words = ["--catalog", str(folder / "catalog"), "--to", str(folder / "ridge"), "--quiet"]
    assert run(["fit", "ridge", *words]) == 0
    return folder


def interrupt(words: list[str], folder: Path, stage: str) -> tuple[int, str]:
    """Run a command until its log names a stage, and send SIGINT; its exit code and its errors."""
    log = folder / "log.txt"
    log.unlink(missing_ok=True)
    command = [sys.executable, "-c", MAIN, *words, "--quiet", "--log-file", str(log)]
    process = subprocess.Popen(command, cwd=folder, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + HANG
    while not (log.exists() and stage in log.read_text()):
        assert process.poll() is None, process.stderr.read() if process.stderr else ""
        assert time.monotonic() < deadline
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=HANG)
    return process.returncode, errors


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    ("words", "stage"),
    [
        (["curate", "many.csv", "--to", "interrupted-catalog"], "stage: "),
        (["fit", "sparse_mlp", "--catalog", "catalog", "--to", "interrupted-model"], "stage: fitting"),
        (["eval", "ridge", "--catalog", "catalog", "--to", "interrupted-evals"], "stage: "),
        (["price", "ridge", "--file", "many.csv", "--to", "interrupted.csv"], "stage: pricing"),
    ],
    ids=["curate", "fit", "eval", "price"],
)
def test_ctrl_c_ends_every_stage(words: list[str], stage: str, shop: Path) -> None:
    """With exit code 130 and one line; nothing half-written is left under the target's name."""
    code, errors = interrupt(words, shop, stage)
    assert code == 130, errors
    assert errors.count("Interrupted") == 1
    assert "Traceback" not in errors
    assert not (shop / words[-1]).exists()


def test_the_guard_ends_a_process_that_is_deaf_to_the_signal(tmp_path: Path) -> None:
    """A loop that swallows KeyboardInterrupt stands for a long call into compiled code."""
    program = (
        f"{FOREGROUND}import time\n"
        "from pricesmith.cli.app import install_interrupt_guard\n"
        "install_interrupt_guard()\n"
        "ready = False\n"
        "while True:\n"
        "    try:\n"  # ready only in here: a signal before it would end the process by itself
        "        ready = ready or print('ready', flush=True) or True\n"
        "        time.sleep(60)\n"
        "    except KeyboardInterrupt:\n"
        "        pass\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    process.send_signal(signal.SIGINT)
    try:
        _, errors = process.communicate(timeout=HANG)
    finally:
        process.kill()
    assert process.returncode == 130
    assert errors.count("Interrupted") == 1


def test_the_guard_waits_less_than_the_promised_two_seconds() -> None:
    """The rest is for the end of the process."""
    assert 0 < GRACE <= 1.5
