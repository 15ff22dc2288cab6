"""Several processes that ask the same questions at once pay for each answer once."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

from pricesmith.core.progress import Progress
from pricesmith.pricers.api.limits import Budget
from pricesmith.pricers.api.pricer import ApiPricer, PromptOptions
from pricesmith.pricers.api.response_cache import ResponseCache
from pricesmith.testing import FakeEndpoint, make_items

COUNT = 40
LISTINGS = [item.listing for item in make_items(COUNT, seed=3)[0]]
SCRIPT = """
import json, sys, time
from pathlib import Path
from pricesmith.core.errors import PricesmithError
from pricesmith.pricers.api.response_cache import ResponseCache
from pricesmith.pricers.api.pricer import ApiPricer, PromptOptions
from pricesmith.pricers.api.prices import PriceList
from pricesmith.pricers.api.providers import Endpoint
from pricesmith.pricers.api.limits import Budget
from pricesmith.testing import make_items
folder, url, key, limit, count = sys.argv[1:]
folder = Path(folder)
endpoint = Endpoint("made", url, "made-model", PriceList.flat(1.0, 2.0, "2026-11-22", "made"), "MADE_KEY", key)
listings = [item.listing for item in make_items(int(count), seed=3)[0]]
with ResponseCache(folder / "a.sqlite") as cache:
    budget = Budget(float(limit) or None)
    pricer = ApiPricer(endpoint, PromptOptions(), cache, budget, currency="USD", timeout=120.0)
    print("ready", flush=True)
    while not (folder / "go").exists():
        time.sleep(0.001)
    try:
        prices = [quote.price for quote in pricer.price(listings)]
    except PricesmithError as error:
        prices = type(error).__name__
    print(json.dumps([prices, pricer.usage.requested, pricer.usage.cached]), flush=True)
"""


def started(folder: Path, fake: FakeEndpoint, budget: float = 0.0) -> subprocess.Popen[str]:
    """A process that prices the listings as soon as the file `go` is there."""
    process = subprocess.Popen(
        [sys.executable, "-c", SCRIPT, str(folder), fake.url, fake.key, str(budget), str(COUNT)],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    return process


def wait_for(process: subprocess.Popen[str]) -> None:
    """Wait until a process is ready to ask."""
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"


def outcome(process: subprocess.Popen[str]) -> tuple[list[float] | str, int, int]:
    """The prices that a process has got, or its error, with how many were asked and remembered."""
    prices, asked, remembered = json.loads(process.communicate(timeout=240)[0])
    return prices, asked, remembered


class Notes(Progress):
    """Notes, kept."""

    def __init__(self) -> None:
        self.notes: list[str] = []

    def note(self, text: str) -> None:
        self.notes.append(text)


def test_no_question_is_asked_twice_by_processes_that_run_at_once(tmp_path: Path) -> None:
    """Also with different budgets, of which one ends early: the others ask what is left."""
    with FakeEndpoint(delay=0.01) as fake:
        processes = [started(tmp_path, fake, budget) for budget in (0.0, 1000.0, 0.05)]
        for process in processes:
            wait_for(process)
        (tmp_path / "go").touch()
        outcomes = [outcome(process) for process in processes]
        assert len(fake.question_counts) == COUNT
        assert {fake.count_answers(question) for question in fake.question_counts} == {1}
        assert len(fake.requests) == COUNT
    for prices, asked, remembered in outcomes[:2]:
        assert prices == [24.0] * COUNT
        assert asked + remembered == COUNT
    assert sum(asked for _, asked, _ in outcomes) == COUNT
    with ResponseCache(tmp_path / "a.sqlite") as cache:
        assert cache.run("SELECT * FROM claims") == cache.run("SELECT * FROM asked") == []
    assert list((tmp_path / "a.sqlite.owners").iterdir()) == []


def test_the_claims_of_a_killed_process_are_free(tmp_path: Path) -> None:
    """A process that waited for its replies notes it, and sends the requests itself once the other is dead."""
    notes = Notes()
    with FakeEndpoint(faults=lambda number, before: "hang" if number == 0 else "") as fake:
        process = started(tmp_path, fake)
        wait_for(process)
        (tmp_path / "go").touch()
        until = time.monotonic() + 240
        while not fake.requests:
            assert time.monotonic() < until
            time.sleep(0.005)
        with ResponseCache(tmp_path / "a.sqlite") as cache:
            pricer = ApiPricer(fake.endpoint(), PromptOptions(), cache, Budget(), currency="USD", progress=notes)
            (claimed,) = [
                request.key
                for request in pricer.requests(LISTINGS)
                if request.messages[-1]["content"] in fake.question_counts
            ]
            assert cache.claim(claimed) == process.pid
            note = notes.note

            def kill(text: str) -> None:
                note(text)
                if f"process {process.pid}" in text:
                    process.send_signal(signal.SIGKILL)
                    process.wait(240)

            notes.note = kill  # type: ignore[method-assign]
            quotes = pricer.price(LISTINGS)
            pricer.close()
        process.communicate()
        assert {fake.count_answers(question) for question in fake.question_counts} == {1}
        assert len(fake.requests) == COUNT + 1
    assert [quote.price for quote in quotes] == [24.0] * COUNT
    assert notes.notes == [
        f"Another command (process {process.pid}) is asking for the same listings; waiting for its answers."
    ]


def test_a_process_whose_request_fails_leaves_the_question_to_the_next(tmp_path: Path) -> None:
    """A claim is for one attempt: a lost reply is requested again by the process that needs it."""
    with FakeEndpoint(faults=lambda number, before: "500") as fake, ResponseCache(tmp_path / "a.sqlite") as first:
        pricer = ApiPricer(fake.endpoint(), PromptOptions(), first, Budget(), currency="USD")
        pricer.client.back_off = 0.001
        assert pricer.price(LISTINGS[:1])[0].price is None
        fake.faults = {}
        with ResponseCache(tmp_path / "a.sqlite") as second:
            other = ApiPricer(fake.endpoint(), PromptOptions(), second, Budget(), currency="USD")
            assert other.price(LISTINGS[:1])[0].price == 24
            other.close()
        pricer.close()
