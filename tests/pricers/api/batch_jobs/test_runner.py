"""Batch jobs of the three providers, with the faults of real ones: every answer once, and the dollars right."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from pricesmith.core.errors import PricesmithError
from pricesmith.core.progress import Progress
from pricesmith.core.types import Listing
from pricesmith.pricers.api.batch_jobs import runner
from pricesmith.pricers.api.batch_jobs.open_job import BatchPending
from pricesmith.pricers.api.batch_jobs.opening import open_batch_run
from pricesmith.pricers.api.batch_jobs.runner import BatchRun
from pricesmith.pricers.api.batch_jobs.store import BatchStore, Line
from pricesmith.pricers.api.limits import Budget, BudgetExceeded
from pricesmith.pricers.api.pricer import ApiPricer, PromptOptions
from pricesmith.pricers.api.response_cache import ResponseCache
from pricesmith.testing import make_items
from pricesmith.testing.batch_replies import ApiName, FakeJob, FakeLine
from pricesmith.testing.batch_server import FakeBatchServer, StepClock

COUNT = 12
LISTINGS = [item.listing for item in make_items(COUNT, seed=3)[0]]
APIS: tuple[ApiName, ...] = ("openai", "anthropic", "gemini")
all_apis = pytest.mark.parametrize("api", APIS)


class Notes(Progress):
    """Notes, kept."""

    def __init__(self) -> None:
        self.notes: list[str] = []

    def note(self, text: str) -> None:
        self.notes.append(text)

    @property
    def text(self) -> str:
        return "\n".join(self.notes)


class Bench:
    """A folder with a response cache, and commands that use it one after the other."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.stack, self.notes, self.clock = folder, ExitStack(), Notes(), StepClock()

    def serve(self, api: ApiName, **options: object) -> FakeBatchServer:
        """A fake provider on the clock of this bench."""
        return self.stack.enter_context(FakeBatchServer(api, clock=self.clock.now, **options))  # type: ignore[arg-type]

    def pricer(
        self, fake: FakeBatchServer, budget: float | None = 5.0, *, waits: bool = True, max_output_tokens: int = 4096
    ) -> ApiPricer:
        """A pricer of a command of its own, with batch jobs."""
        cache = self.stack.enter_context(ResponseCache(self.folder / "a.sqlite"))
        options = PromptOptions(max_output_tokens=max_output_tokens)
        pricer = ApiPricer(fake.endpoint(), options, cache, Budget(budget), currency="USD", progress=self.notes)
        pricer.batch = open_batch_run(pricer, waits=waits, clock=self.clock)
        self.stack.callback(pricer.close)
        return pricer

    def price(self, pricer: ApiPricer, listings: list[Listing] = LISTINGS) -> list[float | None]:
        """Submit and wait; the prices."""
        batch_of(pricer).submit(pricer.requests(listings))
        return [quote.price for quote in pricer.price(listings)]


def batch_of(pricer: ApiPricer) -> BatchRun:
    """The batch jobs of a pricer."""
    assert isinstance(pricer.batch, BatchRun)
    return pricer.batch


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    """A bench, closed after the test."""
    bench = Bench(tmp_path)
    with bench.stack:
        yield bench


def bought_once(fake: FakeBatchServer) -> bool:
    """Whether no line was answered twice, and all listings were answered, one by one or in a job."""
    keys = [line.key for line in fake.answered()]
    return len(keys) == len(set(keys)) and len(keys) + len(fake.single) == COUNT


@all_apis
def test_all_answers_come_from_one_job_at_half_the_price(api: ApiName, bench: Bench) -> None:
    """After a single request that settles the parameters; what is spent is what the provider bills."""
    fake = bench.serve(api)
    pricer = bench.pricer(fake)
    assert bench.price(pricer) == [24.0] * COUNT
    assert bought_once(fake)
    assert (len(fake.single), len(fake.jobs)) == (1, 1)
    assert pricer.budget.spent == pytest.approx(fake.billed_usd(1.0, 2.0), abs=1e-12)
    assert pricer.budget.reserved == pytest.approx(0.0, abs=1e-12)
    assert (pricer.usage.requested, pricer.usage.from_batch_jobs, pricer.usage.cached) == (1, COUNT - 1, 0)
    assert pricer.usage.cost == pytest.approx(fake.billed_usd(1.0, 2.0), abs=1e-12)


@all_apis
def test_answers_of_jobs_have_their_tier_and_no_seconds(api: ApiName, bench: Bench) -> None:
    """They were not waited for."""
    pricer = bench.pricer(bench.serve(api))
    bench.price(pricer)
    replies = pricer.cache.find(request.key for request in pricer.requests(LISTINGS))
    in_jobs = [reply for reply in replies.values() if reply.tier == "batch"]
    assert len(in_jobs) == COUNT - 1
    assert {reply.seconds for reply in in_jobs} == {None}
    assert sum(reply.seconds is not None for reply in replies.values()) == 1


@all_apis
def test_the_same_command_again_sends_nothing(api: ApiName, bench: Bench) -> None:
    """All answers are in the response cache."""
    fake = bench.serve(api)
    bench.price(bench.pricer(fake))
    count = len(fake.events)
    again = bench.pricer(fake)
    assert bench.price(again) == [24.0] * COUNT
    assert len(fake.events) == count
    assert again.budget.spent == 0


@all_apis
def test_a_refused_parameter_is_left_out_before_the_job(api: ApiName, bench: Bench) -> None:
    """It would fail every line: the single request is sent without it, and so are the lines."""
    fake = bench.serve(api, refuses=("temperature",))
    assert bench.price(bench.pricer(fake)) == [24.0] * COUNT
    assert all("temperature" not in str(line.body) for line in fake.answered())
    assert bought_once(fake)


FAULTS: list[dict[str, int]] = [
    *({"create 500": 1}, {"create 429": 2}, {"status 500": 3}, {"results cut": 1}, {"expire": 0}, {"reversed": 1}),
    *({"create lost": 1}, {"expire": 5}, {"error": 4}, {"absent": 3}),
]


@pytest.mark.parametrize(
    ("api", "faults"),
    [("openai", faults) for faults in FAULTS]
    + [(api, faults) for api in ("anthropic", "gemini") for faults in FAULTS[-4:]],
    ids=str,
)
def test_faults_lose_no_answer_and_buy_none_twice(api: ApiName, faults: dict[str, int], bench: Bench) -> None:
    """Lost replies are found, expired, failed and absent lines are submitted again, and only these."""
    fake = bench.serve(api, faults=faults)
    pricer = bench.pricer(fake)
    assert bench.price(pricer) == [24.0] * COUNT
    assert bought_once(fake)
    assert pricer.budget.spent == pytest.approx(fake.billed_usd(1.0, 2.0), abs=1e-12)
    assert pricer.budget.reserved == pytest.approx(0.0, abs=1e-12)


@all_apis
def test_hostile_results_are_counted_and_ignored(api: ApiName, bench: Bench) -> None:
    """A second answer to a question, an answer to a question that nobody asked, and lines that cannot be read."""
    fake = bench.serve(api, faults={"repeated": 1, "unknown": 1, "garbage": 1, "huge": 1})
    assert bench.price(bench.pricer(fake)) == [24.0] * COUNT
    assert "that were ignored: 1 unknown, 1 repeated, 2 unreadable." in bench.notes.text


@all_apis
def test_a_line_whose_result_cannot_be_read_is_not_bought_again(api: ApiName, bench: Bench) -> None:
    """It counts at its worst case, because it may have been charged, and is unanswered."""
    fake = bench.serve(api, faults={"absent": 1, "garbage": 1})
    pricer = bench.pricer(fake)
    prices = bench.price(pricer)
    assert prices.count(None) == 1
    assert len(fake.jobs) == 1
    assert pricer.budget.spent > fake.billed_usd(1.0, 2.0)
    assert list(pricer.usage.no_reply) == ["a result that cannot be read"]


@all_apis
def test_many_failures_stop_the_command_with_the_reason(api: ApiName, bench: Bench) -> None:
    """The key that the provider sends back is masked; nothing is charged for them."""
    fake = bench.serve(api, faults={"bad request": 6})
    pricer = bench.pricer(fake)
    with pytest.raises(PricesmithError, match="has not answered 6 of 12") as caught:
        bench.price(pricer)
    assert "Unsupported parameter ([key])" in str(caught.value)
    assert fake.key not in str(caught.value) + bench.notes.text
    assert pricer.budget.spent == pytest.approx(fake.billed_usd(1.0, 2.0), abs=1e-12)


@all_apis
def test_a_rejected_job_costs_nothing_and_says_why(api: ApiName, bench: Bench) -> None:
    """After the cause is gone the same command submits everything."""
    fake = bench.serve(api, faults={"reject": 1})
    pricer = bench.pricer(fake)
    with pytest.raises(PricesmithError) as caught:
        bench.price(pricer)
    assert "([key])" in str(caught.value)
    assert pricer.budget.reserved == pytest.approx(0.0, abs=1e-12)
    fake.faults.clear()
    assert bench.price(bench.pricer(fake)) == [24.0] * COUNT
    assert bought_once(fake)


def test_a_rejected_line_is_left_out_and_the_others_are_asked(bench: Bench) -> None:
    """OpenAI names the line of the file; below the limit of failures the evaluation goes on."""
    fake = bench.serve("openai", faults={"reject line": 3})
    prices = bench.price(bench.pricer(fake))
    assert [number for number, price in enumerate(prices) if price is None] == [3]  # the first was asked by itself
    assert len(fake.answered()) == COUNT - 2


def test_too_many_waiting_tokens_make_smaller_jobs(bench: Bench) -> None:
    """Each is submitted when the one before has ended."""
    fake = bench.serve("openai", faults={"token limit": 4})
    assert bench.price(bench.pricer(fake)) == [24.0] * COUNT
    assert all(len(job.lines) <= 4 for job in fake.jobs.values() if job.state == "completed")
    assert bought_once(fake)


@all_apis
def test_results_that_are_gone_count_at_worst(api: ApiName, bench: Bench) -> None:
    """They are not bought again by this command."""
    if api == "gemini":
        pytest.skip("its results are part of the job")
    fake = bench.serve(api, faults={"gone": 1})
    pricer = bench.pricer(fake)
    with pytest.raises(PricesmithError, match="has not answered 11 of 12") as caught:
        bench.price(pricer)
    assert "the results are no longer at" in str(caught.value)
    assert pricer.budget.spent > fake.billed_usd(1.0, 2.0)
    assert len(fake.jobs) == 1


@all_apis
def test_a_listing_of_many_jobs_is_read_page_by_page(api: ApiName, bench: Bench) -> None:
    """The job whose reply was lost is on the last page."""
    fake = bench.serve(api, page_size=2)
    bench.price(bench.pricer(fake))
    body = {"model": "m", "messages": [{"role": "user", "content": "?"}]}
    fake.faults["create lost"] = 1
    pricer = bench.pricer(fake, max_output_tokens=1024)
    batch_of(pricer).submit(pricer.requests(LISTINGS))
    for number in range(5):
        id = f"other_{number}"
        fake.jobs[id] = FakeJob(id, api, "m", id, [FakeLine("0" * 64, body)], fake.clock(), 0)
    assert [quote.price for quote in pricer.price(LISTINGS)] == [24.0] * COUNT
    assert fake.events.count("list") >= 3
    assert sum(id.startswith("job_") for id in fake.jobs) == 2


# The budget


@all_apis
def test_the_worst_case_of_a_job_is_reserved_at_half_price(api: ApiName, bench: Bench) -> None:
    """Jobs are cut to what the budget covers, and the rest follows when they have ended."""
    fake = bench.serve(api)
    worst = bench.pricer(fake).requests(LISTINGS)[0].worst / 2
    pricer = bench.pricer(fake, budget=worst * 4.5)
    assert bench.price(pricer) == [24.0] * COUNT
    assert max(len(job.lines) for job in fake.jobs.values()) <= 4
    assert len(fake.jobs) >= 3
    assert bought_once(fake)
    assert pricer.budget.limit is not None
    assert pricer.budget.spent <= pricer.budget.limit


def test_a_budget_that_covers_no_line_sends_no_job(bench: Bench) -> None:
    """As for single requests."""
    fake = bench.serve("openai")
    worst = bench.pricer(fake).requests(LISTINGS)[0].worst
    with pytest.raises(BudgetExceeded):
        bench.price(bench.pricer(fake, budget=worst * 0.1))
    assert not fake.jobs


def test_what_an_interrupted_run_has_spent_counts_after_a_restart(bench: Bench) -> None:
    """The budget is that of the evaluation, however often its command is started."""
    fake = bench.serve("openai", faults={"expire": 5})
    first = bench.pricer(fake, waits=False)
    batch_of(first).submit(first.requests(LISTINGS))
    for _ in range(3):
        batch_of(first).step()
    spent = BatchStore(first.cache).spent(batch_of(first).run_id)
    assert spent > 0
    again = bench.pricer(fake)
    bench.price(again)
    batch_cost = fake.billed_usd(1.0, 2.0) - first.budget.spent + spent
    assert again.budget.spent == pytest.approx(batch_cost, abs=1e-12)
    assert "that counts as spent" in bench.notes.text


def test_what_a_finished_run_has_spent_counts_for_the_rest_of_its_command(bench: Bench) -> None:
    """Another model, or the step after a trial, has what is left of the budget, however often the command is run."""
    fake = bench.serve("openai")
    first = bench.pricer(fake)
    bench.price(first, LISTINGS[:6])
    spent = BatchStore(first.cache).spent(batch_of(first).run_id)
    again = bench.pricer(fake, budget=2 * spent)
    bench.price(again, LISTINGS[:6])
    assert again.budget.spent == 0  # nothing is paid
    again.batch = open_batch_run(again, waits=False, clock=bench.clock)
    with pytest.raises(BudgetExceeded):
        batch_of(again).submit(again.requests(LISTINGS))
    assert again.budget.spent == pytest.approx(spent)
    assert len(fake.answered()) == 5


def test_a_model_without_a_price_is_asked_without_a_budget(bench: Bench) -> None:
    """Its cost is unknown, not 0."""
    fake = bench.serve("openai")
    cache = bench.stack.enter_context(ResponseCache(bench.folder / "a.sqlite"))
    pricer = ApiPricer(fake.endpoint(None), PromptOptions(), cache, Budget(), currency="USD", progress=bench.notes)
    pricer.batch = open_batch_run(pricer, clock=bench.clock)
    assert bench.price(pricer) == [24.0] * COUNT
    assert not pricer.usage.cost_known


# Waiting, resuming, cancelling


@all_apis
def test_without_waiting_jobs_are_submitted_and_collected_later(api: ApiName, bench: Bench) -> None:
    """The error has its own exit code and says how to go on; the same command goes on, and buys nothing twice."""
    fake = bench.serve(api, polls=3)
    first = bench.pricer(fake, waits=False)
    batch_of(first).submit(first.requests(LISTINGS))
    with pytest.raises(BatchPending) as caught:
        first.price(LISTINGS)
    assert caught.value.exit_code == 75
    assert "11 requests in 1 batch job" in str(caught.value)
    assert "--cancel-batch" in str(caught.value)
    assert bench.price(bench.pricer(fake)) == [24.0] * COUNT
    assert bought_once(fake)


@all_apis
def test_a_command_without_batch_does_not_ask_what_is_in_a_job(api: ApiName, bench: Bench) -> None:
    """It would be paid for twice: it says what to do instead."""
    fake = bench.serve(api)
    first = bench.pricer(fake, waits=False)
    batch_of(first).submit(first.requests(LISTINGS))
    other = bench.pricer(fake)
    other.batch = None
    with pytest.raises(PricesmithError, match="11 of these requests are in an unfinished batch job"):
        other.price(LISTINGS)
    assert len(fake.single) == 1


@all_apis
def test_two_commands_with_the_same_listings_share_the_jobs(api: ApiName, bench: Bench) -> None:
    """Both collect the answers; each is stored once."""
    fake = bench.serve(api, polls=2)
    first, second = bench.pricer(fake), bench.pricer(fake)
    batch_of(first).submit(first.requests(LISTINGS))
    batch_of(second).submit(second.requests(LISTINGS))
    assert [quote.price for quote in second.price(LISTINGS)] == [24.0] * COUNT
    assert [quote.price for quote in first.price(LISTINGS)] == [24.0] * COUNT
    assert bought_once(fake)
    assert len(fake.jobs) == 1


@all_apis
def test_cancelling_keeps_what_was_finished(api: ApiName, bench: Bench) -> None:
    """The rest costs nothing, and a later command asks only for that."""
    fake = bench.serve(api, polls=9, faults={"cancel finished": 4})
    first = bench.pricer(fake, waits=False)
    batch_of(first).submit(first.requests(LISTINGS))
    cancelled = batch_of(bench.pricer(fake)).cancel()
    assert (cancelled.jobs, cancelled.requests, cancelled.answers) == (1, COUNT - 1, 4)
    assert cancelled.cost_usd == pytest.approx(fake.billed_usd(1.0, 2.0) - first.budget.spent, abs=1e-12)
    assert batch_of(bench.pricer(fake)).cancel().jobs == 0
    fake.polls = 1
    assert bench.price(bench.pricer(fake)) == [24.0] * COUNT
    assert bought_once(fake)


@all_apis
def test_a_command_that_waits_does_not_submit_again_what_another_one_cancelled(api: ApiName, bench: Bench) -> None:
    """It stops, and says why; the same command later submits it again."""
    fake = bench.serve(api, polls=99, faults={"cancel finished": 4})
    waiting = bench.pricer(fake)
    batch_of(waiting).submit(waiting.requests(LISTINGS))
    batch_of(waiting).step()
    assert batch_of(bench.pricer(fake)).cancel().answers == 4
    with pytest.raises(PricesmithError, match="has not answered 7 of 12") as caught:
        waiting.price(LISTINGS)
    assert "cancelled in a batch job" in str(caught.value)
    assert len(fake.jobs) == 1
    fake.polls = 1
    assert bench.price(bench.pricer(fake)) == [24.0] * COUNT


@all_apis
def test_an_outage_does_not_end_a_run_that_waits(api: ApiName, bench: Bench) -> None:
    """It is noted, and the provider is asked again; one that never ends is an error."""
    fake = bench.serve(api, faults={"status 500": 15})
    assert bench.price(bench.pricer(fake)) == [24.0] * COUNT
    assert "cannot be reached (HTTP 500" in bench.notes.text
    fake.faults["status 500"] = 10**6
    pricer = bench.pricer(fake, max_output_tokens=1024)
    with pytest.raises(PricesmithError, match="refuses a call"):
        bench.price(pricer)


def test_results_that_were_stored_before_are_not_counted_as_unknown(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run that was interrupted while it read results reads them again."""
    fake = bench.serve("openai")
    monkeypatch.setattr(runner, "STORED_AT_ONCE", 3)
    first = bench.pricer(fake)
    batch_of(first).submit(first.requests(LISTINGS))
    settle, calls = batch_of(first).store.settle, [0]

    def interrupted(*values: object) -> object:
        calls[0] += 1
        if calls[0] > 2:
            raise KeyboardInterrupt
        return settle(*values)  # type: ignore[arg-type]

    monkeypatch.setattr(batch_of(first).store, "settle", interrupted)
    with pytest.raises(KeyboardInterrupt):
        first.price(LISTINGS)
    assert bench.price(bench.pricer(fake)) == [24.0] * COUNT
    assert "ignored" not in bench.notes.text
    assert bought_once(fake)


def test_ctrl_c_says_that_the_job_keeps_running(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """And how to collect or cancel it."""
    fake = bench.serve("openai", polls=99)
    pricer = bench.pricer(fake)
    batch_of(pricer).submit(pricer.requests(LISTINGS))

    def interrupt(seconds: float) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(bench.clock, "sleep", interrupt)
    with pytest.raises(KeyboardInterrupt):
        pricer.price(LISTINGS)
    assert "The batch job keeps running at" in bench.notes.text
    assert "--cancel-batch" in bench.notes.text


def test_the_pause_between_two_looks_grows(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """From seconds to minutes."""
    fake = bench.serve("openai", polls=20)
    pauses: list[float] = []
    wait = bench.clock.sleep

    def record(seconds: float) -> None:
        pauses.append(seconds)
        wait(seconds)

    monkeypatch.setattr(bench.clock, "sleep", record)
    bench.price(bench.pricer(fake))
    assert pauses == sorted(pauses)
    assert (pauses[0], pauses[-1]) == (runner.FIRST_PAUSE, runner.MAX_PAUSE)


def test_progress_is_noted_with_counts_and_time(bench: Bench) -> None:
    """What was submitted and finished, how many failed, and since when."""
    fake = bench.serve("openai", faults={"error": 2}, polls=40)
    bench.price(bench.pricer(fake))
    assert "Batch job job_1: running, 11 submitted, 0 finished, after 1 second." in bench.notes.notes
    assert any(
        note.startswith("Batch job job_1: completed, 11 submitted, 9 finished, 2 failed, after ")
        for note in bench.notes.notes
    )


# Jobs of others


def test_a_job_of_somebody_else_of_the_same_size_is_recognized(bench: Bench) -> None:
    """Anthropic's jobs have no name: the results decide, and then the next candidate is looked at."""
    fake = bench.serve("anthropic", faults={"create lost": 1})
    body = {"model": "m", "messages": [{"role": "user", "content": "?"}]}
    lines = [FakeLine(f"{number:064x}", body) for number in range(COUNT - 1)]
    fake.jobs["foreign"] = FakeJob("foreign", "anthropic", "m", "", lines, fake.clock() - 5, 0)
    assert bench.price(bench.pricer(fake)) == [24.0] * COUNT
    assert bench.notes.text.count("Found batch job") == 2
    assert list(fake.jobs) == ["foreign", "job_2"]


def test_a_job_that_was_never_created_is_submitted_again_after_a_while(bench: Bench) -> None:
    """Not at once: the request may still be on its way."""
    fake = bench.serve("openai")
    pricer = bench.pricer(fake)
    store = BatchStore(pricer.cache)
    lines = [Line(request.key, 0.0) for request in pricer.requests(LISTINGS)]
    created = store.create("run", pricer.endpoint.url, pricer.endpoint.model, lines)
    assert created is not None
    store.mark_creating(created[0].id, bench.clock.now(), "file-1")
    begun = bench.clock.now()
    assert bench.price(pricer) == [24.0] * COUNT
    assert len(fake.jobs) == 1
    assert fake.jobs["job_1"].created - begun >= runner.SETTLE_SECONDS
