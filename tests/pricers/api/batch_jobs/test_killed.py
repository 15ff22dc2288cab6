"""A process that runs batch jobs is killed at every step; the next one buys nothing twice and loses no answer."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from pricesmith.testing.batch_replies import ApiName, count_tokens
from pricesmith.testing.batch_server import FakeBatchServer, StepClock

COUNT = 9
# A process that has imported everything and starts a new one for each line: the step at which it is killed, and where.
SCRIPT = """
import json, os, signal, sys
from collections import Counter
from pathlib import Path
from pricesmith.core.errors import PricesmithError
from pricesmith.pricers.api.batch_jobs import runner
from pricesmith.pricers.api.batch_jobs.http import BatchHttp
from pricesmith.pricers.api.batch_jobs.opening import open_batch_run
from pricesmith.pricers.api.batch_jobs.store import BatchStore
from pricesmith.pricers.api.limits import Budget
from pricesmith.pricers.api.pricer import ApiPricer, PromptOptions
from pricesmith.pricers.api.response_cache import ResponseCache
from pricesmith.testing import make_items
from pricesmith.testing.batch_server import FakeBatchServer, StepClock

LISTINGS = [item.listing for item in make_items(%d, seed=3)[0]]
runner.STORED_AT_ONCE = 3
STEPS = [(BatchHttp, "send"), (BatchHttp, "download_once"), (BatchStore, "create"), (BatchStore, "mark_creating"),
         (BatchStore, "mark_submitted"), (BatchStore, "settle"), (BatchStore, "close")]

def kill_at(step):
    counts = Counter()
    def tick(name):
        counts[name] += 1
        counts[""] += 1
        if step == counts[""] or step == [name, counts[name]]:
            os.kill(os.getpid(), signal.SIGKILL)
    for owner, name in STEPS:
        def stepped(*values, name=name, method=getattr(owner, name), **options):
            tick(f"before {name}")
            result = method(*values, **options)
            tick(f"after {name}")
            return result
        setattr(owner, name, stepped)

def work(task):
    kill_at(task["step"])
    fake = FakeBatchServer.__new__(FakeBatchServer)
    fake.api, fake.key = task["api"], task["key"]
    FakeBatchServer.url = task["url"]
    with ResponseCache(Path(task["folder"]) / "a.sqlite") as cache:
        pricer = ApiPricer(fake.endpoint(), PromptOptions(), cache, Budget(task["budget"]), currency="USD")
        pricer.batch = open_batch_run(pricer, clock=StepClock())
        requests = pricer.requests(LISTINGS)
        was_finished = len(cache.find(request.key for request in requests)) == len(LISTINGS)
        pricer.batch.submit(requests)
        quotes = pricer.price(LISTINGS)
        pricer.close()
        return {"prices": [quote.price for quote in quotes], "spent": pricer.budget.spent,
                "reserved": pricer.budget.reserved, "was_finished": was_finished}

for line in sys.stdin:
    reader, writer = os.pipe()
    child = os.fork()
    if not child:
        try:
            result = work(json.loads(line))
        except PricesmithError as error:
            result = {"error": str(error)}
        os.write(writer, json.dumps(result).encode())
        os._exit(0)
    os.close(writer)
    text = b""
    while part := os.read(reader, 65536):
        text += part
    os.close(reader)
    os.waitpid(child, 0)
    print(text.decode() or '{"killed": true}', flush=True)
"""


class Processes:
    """Starts processes that run the same batch jobs."""

    def __init__(self) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", SCRIPT % COUNT], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def run(
        self, fake: FakeBatchServer, folder: Path, step: int | list[object] = 0, budget: float | None = 5.0
    ) -> dict[str, Any]:
        """The prices and dollars of one process, or that it was killed."""
        task = {"step": step, "api": fake.api, "key": fake.key, "url": fake.url, "folder": str(folder)}
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps(task | {"budget": budget}) + "\n")
        self.process.stdin.flush()
        result: dict[str, Any] = json.loads(self.process.stdout.readline())
        return result


@pytest.fixture(scope="module")
def processes() -> Iterator[Processes]:
    """One starter of processes for all tests."""
    starter = Processes()
    yield starter
    starter.process.communicate(timeout=240)


def price_of_single(fake: FakeBatchServer, count: int) -> float:
    """The cost of the single requests after the first `count`, at the prices of the fake endpoint."""
    sizes = [count_tokens(body, '{"price": 24}') for body in fake.single[count:]]
    return sum(tokens_in + 2 * tokens_out for tokens_in, tokens_out in sizes) / 1e6


def check(fake: FakeBatchServer, result: dict[str, Any], single_before: int) -> None:
    """Every answer was bought once, and the last process knows what all batch jobs cost."""
    assert result["prices"] == [24.0] * COUNT
    keys = [line.key for line in fake.answered()]
    assert len(keys) == len(set(keys))
    assert len(keys) + len(fake.single) == COUNT
    single = price_of_single(fake, 0) - price_of_single(fake, single_before)
    expected = 0.0 if result["was_finished"] else fake.billed_usd(1.0, 2.0) - single
    assert result["spent"] == pytest.approx(expected, abs=1e-12)
    assert result["reserved"] == pytest.approx(0.0, abs=1e-12)


def run_killed(processes: Processes, api: ApiName, folder: Path, steps: Sequence[int | list[object]]) -> bool:
    """Run processes that are killed at these steps, then one that is not, and check; whether each was killed."""
    with FakeBatchServer(api, clock=StepClock().now) as fake:
        killed = ["killed" in processes.run(fake, folder, step) for step in steps]
        single = len(fake.single)
        check(fake, processes.run(fake, folder), single)
    return all(killed)


@pytest.mark.parametrize(
    "step",
    [
        ["after create", 1],
        ["before mark_creating", 1],
        ["after mark_creating", 1],
        ["before mark_submitted", 1],  # the provider has created the job, and its id is not stored
        ["after mark_submitted", 1],
        ["before download_once", 1],
        ["after download_once", 1],
        ["before settle", 1],
        ["after settle", 1],
        ["before settle", 3],
        ["before close", 1],
    ],
    ids=lambda step: " ".join(map(str, step)),
)
def test_after_a_kill_every_answer_is_bought_once(step: list[object], processes: Processes, tmp_path: Path) -> None:
    """At the steps of a job: what the provider may have done is found out before anything is submitted again."""
    assert run_killed(processes, "openai", tmp_path, [step])


@pytest.mark.parametrize("api", ["anthropic", "gemini"])
def test_a_job_whose_id_was_lost_is_found_again(api: ApiName, processes: Processes, tmp_path: Path) -> None:
    """By its name, or by its time, its size and its results."""
    assert run_killed(processes, api, tmp_path, [["before mark_submitted", 1]])


@pytest.mark.slow  # about 100 processes
@pytest.mark.parametrize("api", ["openai", "anthropic", "gemini"])
def test_after_a_kill_at_any_step_every_answer_is_bought_once(
    api: ApiName, processes: Processes, tmp_path: Path
) -> None:
    """Before and after each call to the provider, and before and after each change on disk."""
    step = 1
    while run_killed(processes, api, tmp_path / str(step), [step]):
        step += 1
    assert step > 20


@pytest.mark.slow  # about 70 processes
@pytest.mark.parametrize("api", ["openai", "anthropic", "gemini"])
def test_after_two_kills_every_answer_is_bought_once(api: ApiName, processes: Processes, tmp_path: Path) -> None:
    """The second kill is while a process finds out what the first one has left."""
    for first in (6, 8, 10, 14, 17, 20):
        for second in (1, 2, 4, 7):
            run_killed(processes, api, tmp_path / f"{first}-{second}", [first, second])
