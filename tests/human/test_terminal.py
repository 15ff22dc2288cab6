"""The quiz in a real terminal: its output, invalid lines, going back, Ctrl-C and kill -9."""

from __future__ import annotations

import os
import pty
import select
import signal
import time
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tests.forks import fork

from pricesmith.catalog.catalog import ITEMS, LEDGER
from pricesmith.core.atomic import read_json, write_json
from pricesmith.testing import make_catalog

PROMPT = "> "
# A terminal sends Ctrl-C to the session that it controls, so the process takes the pseudo-terminal for its own. A shell
# starts jobs in the background with SIGINT ignored; this process is in the foreground of its terminal.
CODE = """
import fcntl, signal, termios
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
signal.signal(signal.SIGINT, signal.default_int_handler)
from pricesmith.cli import main
main()
"""


class Terminal:
    """A pricesmith process in a pseudo-terminal, with what it has shown."""

    def __init__(self, *words: object) -> None:
        ours, theirs = pty.openpty()
        env = {**os.environ, "TERM": "xterm", "COLUMNS": "80", "OMP_NUM_THREADS": "1"}
        self.process = fork(CODE, *map(str, words), stdin=theirs, stdout=theirs, stderr=theirs, env=env, session=True)
        os.close(theirs)
        self.handle, self.shown = ours, ""

    def until(self, ending: str, seconds: float = 240) -> str:
        """Everything shown since the last call, as far as `ending` or the end of the process."""
        seen, limit = "", time.monotonic() + seconds
        while not seen.endswith(ending) and time.monotonic() < limit:
            if not select.select([self.handle], [], [], 0.1)[0]:
                continue
            try:
                part = os.read(self.handle, 65536).decode("utf-8", "replace")
            except OSError:  # the process has closed its side
                break
            seen += part
        self.shown += seen
        return seen

    def type(self, line: str) -> str:
        """Type a line; what is shown up to the next prompt."""
        os.write(self.handle, f"{line}\n".encode())
        return self.until(PROMPT)

    def close(self) -> int:
        code = self.process.wait(240)
        os.close(self.handle)
        return code


@pytest.fixture
def hostile(tmp_path: Path) -> Path:
    """A catalog with long texts that hold cursor movements and reversed text."""
    folder = make_catalog(tmp_path / "hostile", 2100)
    table = pq.read_table(folder / ITEMS)
    text = "\x1b[2J\x1b]0;owned\x07 \u202ereversed [red]markup[/red] :smile: " + "word " * 800
    table = table.set_column(table.column_names.index("text"), "text", pa.array([text] * len(table)))
    pq.write_table(table, folder / ITEMS)
    ledger = read_json(folder / LEDGER)
    write_json(folder / LEDGER, {**ledger, "items_bytes": (folder / ITEMS).stat().st_size})
    return folder


def test_a_person_answers_corrects_goes_back_and_ends(folder: Path, tmp_path: Path) -> None:
    """An invalid line is explained and asked again, the last answer can be undone, and the end shows the rank."""
    terminal = Terminal("quiz", folder / "shop", "--n", 4, "--to", tmp_path / "her.csv", "--against", folder / "evals")
    first = terminal.until(PROMPT)
    assert "4 listings, one at a time" in first
    assert "1 of 4" in first
    assert "price is not a number" in terminal.type("a lot")
    assert "2 of 4" in terminal.type("$1,250")
    assert "1 of 4" in terminal.type("b")
    assert "nothing to go back to" in terminal.type("b")
    terminal.type("80")
    terminal.type("s")
    terminal.type("60")
    last = terminal.type("55.5")
    assert terminal.close() == 0
    assert "human:her" in last
    assert "ridge" in last
    assert "Worst answers" in last
    lines = (tmp_path / "her.csv").read_text().splitlines()
    assert [line.split(",")[1] for line in lines[1:]] == ["80", "", "60", "55.5"]


def test_kill_9_loses_nothing_that_was_answered(folder: Path, tmp_path: Path) -> None:
    """Every answer is on disk before the next listing is shown, and the same command continues."""
    words = ("quiz", folder / "shop", "--n", 5, "--to", tmp_path / "her.csv")
    terminal = Terminal(*words)
    terminal.until(PROMPT)
    for price in ("11", "22", "33"):
        terminal.type(price)
    os.write(terminal.handle, b"44")  # typed, not entered
    terminal.process.send_signal(signal.SIGKILL)
    assert terminal.close() == -signal.SIGKILL
    assert [line.split(",")[1] for line in (tmp_path / "her.csv").read_text().splitlines()[1:]] == ["11", "22", "33"]
    again = Terminal(*words)
    assert "3 of 5 listings are answered" in again.until(PROMPT)
    assert "2 left" in again.type("q")
    assert again.close() == 0


def test_a_listing_cannot_move_the_terminal(hostile: Path, tmp_path: Path) -> None:
    """Escape codes and reversed text do not reach the screen, markup stays text, a long text is shown on request."""
    terminal = Terminal("quiz", hostile, "--n", 2, "--to", tmp_path / "her.csv")
    first = terminal.until(PROMPT)
    assert "more lines: type m" in first
    whole = terminal.type("m")
    terminal.type("q")
    terminal.close()
    assert "\x1b[2J" not in terminal.shown
    assert "\x1b]0" not in terminal.shown
    assert "\u202e" not in terminal.shown
    assert "[red]markup[/red] :smile:" in first
    assert len(whole.splitlines()) > 40


def test_a_terminal_cannot_be_quiet(folder: Path, tmp_path: Path) -> None:
    """A quiz that shows nothing is refused."""
    terminal = Terminal("quiz", folder / "shop", "--n", 2, "--to", tmp_path / "her.csv", "--quiet")
    assert "needs output to be answered" in terminal.until("\0")
    assert terminal.close() == 2
    assert not (tmp_path / "her.csv").exists()


def test_ctrl_c_ends_the_quiz_and_keeps_the_answers(folder: Path, tmp_path: Path) -> None:
    """Exit code 130 without a traceback; the same command continues."""
    words = ("quiz", folder / "shop", "--n", 4, "--to", tmp_path / "her.csv")
    terminal = Terminal(*words)
    terminal.until(PROMPT)
    terminal.type("11")
    os.write(terminal.handle, b"\x03")  # Ctrl-C, as a terminal sends it
    terminal.until("\0")
    assert terminal.close() == 130
    assert terminal.shown.count("Interrupted. Run the same command again to resume.") == 1
    assert "Traceback" not in terminal.shown
    again = Terminal(*words)
    assert "1 of 4 listings are answered" in again.until(PROMPT)
    again.type("q")
    assert again.close() == 0
