"""A process that queries an API model is killed or interrupted; the same command resumes with the cached replies."""

from __future__ import annotations

import re
import signal
import subprocess
import time
from pathlib import Path

import pytest
from tests.forks import fork

from pricesmith.catalog.catalog import Catalog
from pricesmith.cli import run
from pricesmith.testing import FakeEndpoint

SCRIPT = "import sys; from pricesmith.cli import run; sys.exit(run(sys.argv[1:]))"


class Command:
    """`pricesmith eval` of a fake endpoint: in a process of its own, or here."""

    def __init__(self, fake: FakeEndpoint, catalog: Catalog, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.fake = fake
        monkeypatch.setenv("PRICESMITH_CACHE", str(folder))
        monkeypatch.setenv("MADE_KEY", fake.key)
        who = f"api:made@url={fake.url},key=MADE_KEY,price=1/2"
        self.message = [
            "eval",
            who,
            "--catalog",
            str(catalog.path),
            "--to",
            str(folder / "evals"),
            "--concurrency",
            "4",
        ]

    def ended_by(self, number: int, requests: int) -> tuple[int, str]:
        """Start it, send a signal when so many requests were seen; its exit code and errors."""
        process = fork(SCRIPT, *self.message, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        until = time.monotonic() + 240
        while len(self.fake.requests) < requests:
            assert process.poll() is None, process.communicate()[1]
            assert time.monotonic() < until
            time.sleep(0.005)
        process.send_signal(number)
        errors = process.communicate(timeout=240)[1]
        return process.wait(), errors

    def twice(self) -> int:
        """How many answers were billed more than once."""
        return sum(self.fake.count_answers(question) - 1 for question in self.fake.question_counts)


def test_after_kill_9_at_most_concurrency_requests_are_asked_again(
    shop: Catalog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Counted and printed; everything else that was answered is remembered."""
    with FakeEndpoint(delay=0.02) as fake:
        command = Command(fake, shop, tmp_path, monkeypatch)
        command.ended_by(signal.SIGKILL, 40)
        capsys.readouterr()
        assert run(command.message) == 0
        output = capsys.readouterr().out
        twice = command.twice()
    unanswered = re.search(r"(\d+) requests? (?:was|were) sent before and never answered", output)
    assert unanswered is not None
    assert twice <= int(unanswered[1]) <= 4
    remembered = re.search(r"answers? in [\d,]+ requests?, ([\d,]+) answers? from the response cache", output)
    assert remembered is not None
    assert int(remembered[1]) >= 36


def test_what_only_waited_when_it_was_killed_is_not_reported_as_sent(
    shop: Catalog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Until one answer came the others wait for it: the endpoint has seen one request, and one is asked again."""
    with FakeEndpoint(faults={0: "hang"}) as fake:
        command = Command(fake, shop, tmp_path, monkeypatch)
        command.ended_by(signal.SIGKILL, 1)
        capsys.readouterr()
        assert run(command.message) == 0
    assert "1 request was sent before and never answered; it is sent again." in capsys.readouterr().out


def test_two_commands_at_once_pay_for_each_answer_once(
    shop: Catalog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """One process waits for the replies to the other, and reports no requests as never answered."""
    with FakeEndpoint(delay=0.05) as fake:
        command = Command(fake, shop, tmp_path, monkeypatch)
        first = fork(SCRIPT, *command.message, stdout=subprocess.PIPE)
        until = time.monotonic() + 240
        while len(fake.requests) < 8:
            assert first.poll() is None
            assert time.monotonic() < until
            time.sleep(0.005)
        to = [str(tmp_path / "other") if word == str(tmp_path / "evals") else word for word in command.message]
        assert run(to) == 0
        output = first.communicate(timeout=240)[0] + capsys.readouterr().out
        assert first.returncode == 0
        twice = command.twice()
    assert "never answered" not in output
    assert twice == 0


def test_an_interruption_loses_no_answer_and_the_same_command_goes_on(
    shop: Catalog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Ctrl-C: what is in flight lands, exit 130, and nothing is asked twice."""
    with FakeEndpoint(delay=0.02) as fake:
        command = Command(fake, shop, tmp_path, monkeypatch)
        code, errors = command.ended_by(signal.SIGINT, 20)
        assert (code, "Traceback" in errors) == (130, False)
        first = len(fake.requests)
        capsys.readouterr()
        assert run(command.message) == 0
        assert command.twice() == 0
    assert f"{first:,} answers from the response cache" in capsys.readouterr().out


def test_ctrl_c_ends_a_command_whose_endpoint_hangs(
    shop: Catalog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It does not wait for replies that may never come (the timeout here is 300 s): exit code 130, no traceback."""
    with FakeEndpoint(faults=lambda number, before: "hang" if number >= 3 else "") as fake:
        command = Command(fake, shop, tmp_path, monkeypatch)
        code, errors = command.ended_by(signal.SIGINT, 6)
    assert (code, "Traceback" in errors) == (130, False)
