"""An API model as a pricer: an endpoint in one of the API formats, with the prompt of the local models.

    with ResponseCache(default_cache_path()) as cache:
        pricer = ApiPricer(find_endpoint("gpt-6-luna"), PromptOptions(), cache, Budget(5.0), currency="USD")
        pricer.price(listings)

Every reply is cached as it came, so it is paid for once. A reply without a price is unanswered: counted, never 0.
"""

from __future__ import annotations

import copy
import hashlib
import json
import os
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from typing import Any, Literal, Protocol

from pydantic import Field

from pricesmith.core.errors import PricesmithError, UsageError
from pricesmith.core.progress import SILENT, Progress
from pricesmith.core.settings import Settings
from pricesmith.core.types import Item, Listing, Quote, render
from pricesmith.pricers.api.answer_facts import UsageStats, is_timed
from pricesmith.pricers.api.batch_jobs.store import BatchStore
from pricesmith.pricers.api.client import ApiClient, CompletionCall, RequestFailed, RunStopped
from pricesmith.pricers.api.costs import answer_cost
from pricesmith.pricers.api.errors import CONTEXT_LENGTH, NO_CONNECTION, TIMED_OUT
from pricesmith.pricers.api.few_shot import ComparablesSelector, Examples
from pricesmith.pricers.api.formats.base import Capabilities
from pricesmith.pricers.api.limits import Budget, max_failed, run_concurrently
from pricesmith.pricers.api.parse_response import parse_response
from pricesmith.pricers.api.prices import TokenPrice
from pricesmith.pricers.api.providers import Endpoint, user_prices_file
from pricesmith.pricers.api.redaction import mask_key
from pricesmith.pricers.api.response_cache import PRICE, Completion, ResponseCache, cache_key
from pricesmith.pricers.api.usage import FLEX, Usage
from pricesmith.text.prompts import MAX_SHOTS, SYSTEM_PROMPT, Prompt, few_shot_messages, repair_unicode

JSON_ANSWER_TOKENS = 8.0  # {"price": 24.5}
MAX_LISTING_CHARS = 8_000  # of a listing that is priced: a megabyte would cost dollars
MAX_MESSAGE_TOKENS = 16  # of a chat's format around each message, at worst
MAX_SCHEMA_TOKENS = 200  # that an endpoint may add for the schema of the reply, at worst
POLL_SECONDS = 0.1  # between two checks for another command's reply
RESUME = "All answers so far are cached; run the same command again."
MAX_RAW_CHARS = 2_000  # of a reply that an evaluation stores

Messages = tuple[dict[str, str], ...]
Results = dict[str, Completion | RequestFailed]


class BatchSource(Protocol):
    """Batch jobs that answer the requests of a pricer.

    `answered` are the keys of replies that they brought, `asked` those of single requests before them, `failures` the
    requests that have no answer in the end.
    """

    answered: set[str]
    asked: set[str]
    failures: dict[str, RequestFailed]

    def worst(self, request: ApiRequest) -> float: ...
    def submit(self, requests: Sequence[ApiRequest]) -> None: ...
    def wait(self) -> None: ...


class PromptOptions(Settings):
    """How an API model is asked; all of it is part of the key of a cached reply."""

    shots: int = Field(0, ge=0, le=MAX_SHOTS, description="priced training listings shown first, the same each time")
    comparables: int = Field(0, ge=0, le=MAX_SHOTS, description="nearest priced training listings shown first")
    max_output_tokens: int = Field(4096, ge=16, le=1_000_000, description="most output tokens, reasoning included")
    reasoning_effort: Literal["", "none", "minimal", "low", "medium", "high", "xhigh", "max"] = Field(
        "", description="how much the model reasons"
    )
    json_answer: bool = Field(True, description="ask for a JSON number if the endpoint supports it")


@dataclass(frozen=True)
class ApiRequest:
    """One request: its key in the cache, its messages, and its worst-case cost (0 without a token price).

    The first `n_shared` messages are the same in every request of the pricer.
    """

    key: str
    messages: Messages
    worst: float
    n_shared: int = 0
    purpose: str = PRICE


class ApiPricer:
    """Quotes the prices that an API model answers.

    `train` returns the priced listings that may be shown as examples, `groups` maps ids to near-duplicate groups;
    `label` is its name in notes, before the model's. `tier` is the service tier that is asked for, empty for the
    standard one. `after_answers` is called after requests were answered. `purpose` is what its answers are for, and
    `answer_tokens` is about how long they are.
    """

    purpose = PRICE
    answer_tokens = JSON_ANSWER_TOKENS

    def __init__(
        self,
        endpoint: Endpoint,
        options: PromptOptions,
        cache: ResponseCache,
        budget: Budget,
        *,
        currency: str,
        label: str = "",
        train: Callable[[], Sequence[Item]] = tuple,
        groups: Mapping[str, str] | None = None,
        concurrency: int = 8,
        timeout: float = 300.0,
        tier: str = "",
        progress: Progress = SILENT,
    ) -> None:
        self.endpoint, self.options, self.cache, self.budget, self.tier = endpoint, options, cache, budget, tier
        if budget.limit is not None and self.worst_price() is None:
            raise unpriced_error(endpoint, label)
        self.label = f"{label} ({endpoint.model})" if label else endpoint.model
        self.prompt = Prompt(style="chat", currency=currency)
        self.groups, self.concurrency, self.progress = groups or {}, concurrency, progress
        self.timeout = timeout
        self.client = self.new_client(schema=options.json_answer)
        self.usage = UsageStats()
        self.after_answers: Callable[[], None] | None = None
        self.batch: BatchSource | None = None
        self.without_reply: set[str] = set()  # keys of the requests that failed since the last reply
        self.fixed_examples: Examples = ()
        self.selector: ComparablesSelector | None = None
        if endpoint.secrets:
            cache.mask_older(endpoint.url, endpoint.secrets)
        if options.shots or options.comparables:
            self.set_examples(train())

    @property
    def name(self) -> str:
        return f"api:{self.endpoint.model}"

    def now(self) -> datetime:
        """Return the time of the cache's clock, in UTC."""
        return datetime.fromtimestamp(self.cache.clock(), UTC)

    def price_now(self) -> TokenPrice | None:
        """Return the price of tokens now, None if unknown."""
        return self.endpoint.price.at(self.now(), self.tier) if self.endpoint.price else None

    def price_today(self) -> TokenPrice | None:
        """Return the highest price of tokens today, at any hour, None if unknown."""
        return self.endpoint.price.highest_today(self.now(), self.tier) if self.endpoint.price else None

    def worst_price(self) -> TokenPrice | None:
        """Return the highest price at which a request that is sent now may be charged, None if unknown."""
        return self.endpoint.price.worst_case(self.now(), self.tier) if self.endpoint.price else None

    def new_client(self, *, schema: bool, endpoint: Endpoint | None = None) -> ApiClient:
        """Return a client of the endpoint (or another one) that uses the capabilities learned before."""
        endpoint = endpoint or self.endpoint
        stored = self.cache.load_capabilities(endpoint.url, endpoint.model)
        return ApiClient(
            endpoint,
            self.budget,
            Capabilities.from_dict(stored, endpoint.limit),
            max_output_tokens=self.options.max_output_tokens,
            reasoning_effort=self.options.reasoning_effort,
            schema=schema,
            timeout=self.timeout,
            tier=self.tier,
        )

    def close(self) -> None:
        """Close the connections."""
        self.client.close()

    @property
    def facts(self) -> dict[str, Any]:
        """The settings that distinguish this pricer from others, as plain values, with its token price."""
        price = self.endpoint.price
        prompt = json.dumps(self.messages(Listing("", "", ""), ()))
        return {
            "model": self.endpoint.model,
            "endpoint": self.endpoint.url,
            **self.options.model_dump(),
            **self.endpoint.cache_settings(self.options.reasoning_effort),
            "usd_per_million": price.identity() if price else None,
            **({"tier": self.tier} if self.tier else {}),
            "prompt": hashlib.sha256(prompt.encode()).hexdigest(),
        }

    def set_examples(self, train: Sequence[Item]) -> None:
        """Choose the examples from these priced listings."""
        self.fixed_examples = tuple(
            (repair_unicode(text)[:MAX_LISTING_CHARS], price)
            for text, price in few_shot_messages(train, self.options.shots)
        )
        k = self.options.comparables
        self.selector = ComparablesSelector(train, self.groups, k) if k else None

    def with_examples(self, train: Sequence[Item]) -> ApiPricer:
        """Return a pricer for a fold, with examples from `train`; it shares the client and the usage counts."""
        other = copy.copy(self)
        other.set_examples(train)
        return other

    def messages(self, listing: Listing, examples: Examples) -> Messages:
        """Return the chat: the words of the local prompts, with JSON objects as answers."""
        messages = [{"role": "system", "content": SYSTEM_PROMPT}]
        for text, price in (*self.fixed_examples, *examples):
            messages.append({"role": "user", "content": self.prompt.asked(text)})
            messages.append({"role": "assistant", "content": json.dumps({"price": price})})
        body = repair_unicode(render(listing))[:MAX_LISTING_CHARS]
        return (*messages, {"role": "user", "content": self.prompt.asked(body)})

    def requests(self, listings: Sequence[Listing]) -> list[ApiRequest]:
        """Return the request for each listing."""
        examples = self.selector.select(listings) if self.selector else [()] * len(listings)
        n_shared = 1 + 2 * len(self.fixed_examples)  # the system message, and two messages for each example
        return [
            self.request(self.messages(listing, shown), n_shared=n_shared)
            for listing, shown in zip(listings, examples, strict=True)
        ]

    def request(
        self, messages: Messages, *, schema: bool | None = None, n_shared: int = 0, purpose: str = ""
    ) -> ApiRequest:
        """Return a request with its worst-case cost: a token for each byte, and the longest reply allowed."""
        max_output = self.options.max_output_tokens
        # The names are part of every key in the cache: other names would pay for every reply again.
        settings = {
            "output": max_output,
            "effort": self.options.reasoning_effort,
            "json": self.options.json_answer if schema is None else schema,
            **self.endpoint.cache_settings(self.options.reasoning_effort),
        }
        key = cache_key(self.endpoint.url, self.endpoint.model, messages, settings)
        price = self.worst_price()
        worst = price.cost(Usage(max_input_tokens(messages), max_output)) if price else None
        return ApiRequest(key, messages, worst or 0.0, n_shared, purpose or self.purpose)

    def price(self, listings: Sequence[Listing]) -> list[Quote]:
        """Return one quote per listing, in order. Cached replies are not requested again.

        Raises PricesmithError if the endpoint stops answering, BudgetExceeded if the budget ends; answers received
        until then stay in the cache.
        """
        requests = self.requests(listings)
        results = self.complete(requests)
        return [self.quote(results[request.key]) for request in requests]

    def complete(self, requests: Sequence[ApiRequest], client: ApiClient | None = None) -> Results:
        """Return the reply to each request by its key: from the cache, from batch jobs, or requested now."""
        if self.batch is None:
            return self.ask_now(requests, client)
        self.batch.wait()
        failed: Results = {
            key: self.batch.failures[key] for request in requests if (key := request.key) in self.batch.failures
        }
        results = self.ask_now([request for request in requests if request.key not in failed], client)
        count = sum(request.key in self.batch.answered for request in requests)
        self.usage.from_batch_jobs += count
        self.usage.cached -= count + sum(request.key in self.batch.asked for request in requests)
        return results | failed

    def ask_now(self, requests: Sequence[ApiRequest], client: ApiClient | None = None) -> Results:
        """Return the reply to each request by its key: from the cache, or requested one by one now."""
        client = client or self.client
        client.stopped = False
        results: Results = dict(self.find_cached(request.key for request in requests))
        pending = list({request.key: request for request in requests if request.key not in results}.values())
        if pending:
            self.endpoint.check_ready(self.now().date())
            if in_jobs := BatchStore(self.cache).open_keys(request.key for request in pending):
                raise in_batch_job_error(self, len(in_jobs))
        self.usage.cached += sum(request.key in results for request in requests)
        client.must_reply = not (self.usage.requested or self.usage.cached)
        self.note_unanswered(pending)
        batch = RequestBatch(self, client, results, max_failed(len(requests)))
        try:
            run_concurrently(batch.ask, pending, self.concurrency)
        finally:
            self.usage.requested += batch.counts["requested"]
            self.usage.cached += batch.counts["from_others"]
            replied = batch.counts["requested"] + batch.counts["from_others"]
            self.without_reply = set() if replied else self.without_reply | batch.without_reply
        if pending and client.proven:
            self.cache.save_capabilities(client.endpoint.url, client.endpoint.model, client.capabilities_dict())
            if client is self.client and (note := client.take_effort_note()):
                self.progress.note(note)
        if pending and self.after_answers is not None:
            self.after_answers()
        return results

    @property
    def is_down(self) -> bool:
        """Whether several listings in a row got no reply; one alone may be what the endpoint fails on."""
        return len(self.without_reply) > 1

    def note_unanswered(self, pending: Sequence[ApiRequest]) -> None:
        """Count and note the requests that an earlier command sent and never got a reply to."""
        count = len(self.cache.find_unanswered(request.key for request in pending))
        if count:
            self.usage.requested_again += count
            requests = "1 request was" if count == 1 else f"{count:,} requests were"
            they = "it is" if count == 1 else "they are"
            self.progress.note(f"{requests} sent before and never answered; {they} sent again.")

    def find_cached(self, keys: Iterable[str]) -> dict[str, Completion]:
        """Return the cached replies among `keys`, without the endpoint's key, which older replies may contain."""
        replies = self.cache.find(keys)
        secrets = self.endpoint.secrets
        if not secrets:
            return replies
        return {name: replace(reply, text=mask_key(reply.text, secrets)) for name, reply in replies.items()}

    def quote(self, result: Completion | RequestFailed) -> Quote:
        """Return a reply as a quote and count it; a failed request gives the reason as `raw`."""
        result = self.record(result)
        if isinstance(result, RequestFailed):
            return Quote(None, raw=f"no reply: {result.got}", cost_usd=result.cost_usd)
        price = parse_response(result.text, result.finish, self.prompt.currency)
        if isinstance(price, str):
            self.usage.unanswered[price] += 1
        number = None if isinstance(price, str) else price
        seconds = result.seconds if is_timed(self.tier, result) else 0.0  # 0: not timed
        return Quote(number, raw=result.text[:MAX_RAW_CHARS], cost_usd=result.cost_usd, seconds=seconds)

    def record(self, result: Completion | RequestFailed) -> Completion | RequestFailed:
        """Count a reply or a failed request in `usage`; return it, a reply with its cost by the price list known
        now."""
        usage = self.usage
        result = result if isinstance(result, RequestFailed) else self.reprice(result)
        cost = result.cost_usd
        usage.cost += cost or 0.0
        usage.cost_known = usage.cost_known and cost is not None
        usage.failed_tries_usd += (cost or 0.0) if isinstance(result, RequestFailed) else result.failed_tries_usd
        if isinstance(result, RequestFailed):
            usage.no_reply[result.got] += 1
            return result
        usage.tokens.update({"input": result.tokens_in or 0, "output": result.tokens_out or 0})
        usage.answers.add(result)
        return result

    def reprice(self, completion: Completion) -> Completion:
        """Return a reply with its cost by the price list known now, which may have been incomplete when it was cached.

        It is priced at its own date. If the endpoint reported its cost, that is its cost.
        """
        cost = answer_cost(self.endpoint.price, completion, moment=self.now())
        failed_tries_unknown = completion.cost_usd is None and cost.listed is None
        if cost.report is None or failed_tries_unknown:
            return completion
        return replace(completion, cost_usd=cost.report + completion.failed_tries_usd)

    def down_error(self, failed: int, error: RequestFailed) -> PricesmithError:
        """The error if too many listings have no reply."""
        hint = "All answers so far are cached; run the same command again when the endpoint is up."
        if error.got.endswith(CONTEXT_LENGTH):
            used = self.options.max_output_tokens
            hint = f"Use a smaller max_output_tokens= after the @ (it is {used:,}), or fewer shots or comparables."
        elif error.got == TIMED_OUT:
            hint = f"Check that the endpoint is up, or allow more than the {self.timeout:g} s of --timeout. {RESUME}"
        elif error.got == NO_CONNECTION:
            hint = f"Check the URL, and that the server is running. {RESUME}"
        elif self.tier == FLEX and error.got == "HTTP 429":
            hint = "The flex tier has no capacity now: run the same command later, or without tier=flex."
        listings = "1 listing" if failed == 1 else f"{failed:,} listings"
        tries = f" after {error.tries} tries" + " each" * (failed > 1) if error.tries else ""
        return PricesmithError(
            f"{self.endpoint.host} does not answer",
            got=f"{listings} without a reply{tries}; last: {error.got}",
            hint=hint,
        )

    def check_answered(self) -> None:
        """Raise PricesmithError if no listing got a reply: there is nothing to evaluate."""
        usage = self.usage
        if usage.no_reply and not (usage.requested or usage.cached or usage.from_batch_jobs):
            causes = ", ".join(f"{count:,} {cause}" for cause, count in usage.no_reply.most_common(3))
            raise PricesmithError(
                f"{self.endpoint.host} has not answered any request",
                got=f"no reply to any of {usage.no_reply.total():,} listings: {causes}",
                hint="Nothing was written. Run the same command again when the endpoint is up.",
            )


class RequestBatch:
    """Requests of one `complete`, asked by several threads; `results` is filled by key.

    `counts` has replies `requested` here, replies `from_others` that another command received meanwhile, and requests
    `failed` without a reply (`without_reply`: those sent); `ask` raises PricesmithError if over `max_failed` have none.
    """

    def __init__(self, pricer: ApiPricer, client: ApiClient, results: Results, max_failed: int) -> None:
        self.pricer, self.client, self.results, self.max_failed = pricer, client, results, max_failed
        self.counts: Counter[str] = Counter()
        self.without_reply: set[str] = set()
        self.lock = threading.Lock()
        self.other_commands = {os.getpid()}

    def ask(self, request: ApiRequest, stop: threading.Event) -> None:
        """Request one reply and store it, or take the reply of another command that asks the same question."""
        pricer, cache = self.pricer, self.pricer.cache
        try:
            reply = self.claim(request.key, stop)
        except RunStopped:
            return
        if reply is not None:
            self.add(request.key, reply, "from_others")
            return
        on_send = partial(cache.mark_sent, request.key)
        call = CompletionCall(request.messages, request.worst, stop, on_send, request.n_shared)
        completion = None
        try:
            completion = self.client.complete(call)
            effort, endpoint = pricer.options.reasoning_effort, pricer.endpoint
            cache.store(request.key, endpoint.url, endpoint.model, completion, purpose=request.purpose, effort=effort)
        except RequestFailed as error:
            self.add(request.key, error, "failed")
            if error.tries:
                self.without_reply.add(request.key)
            failed = self.counts["failed"]
            if failed > self.max_failed or (self.client.must_reply and not self.client.responded):
                raise pricer.down_error(failed, error) from None
            return
        except RunStopped:
            return
        finally:
            cache.release(request.key, answered=completion is not None)
        self.add(request.key, completion, "requested")
        if request.purpose == pricer.purpose and completion.tokens_out:
            with self.lock:
                pricer.usage.n_counted += 1
                pricer.usage.output_tokens += completion.tokens_out

    def add(self, key: str, result: Completion | RequestFailed, source: str) -> None:
        """Add a result, and count it by its source."""
        with self.lock:
            self.results[key] = result
            self.counts[source] += 1

    def claim(self, key: str, stop: threading.Event) -> Completion | None:
        """Reserve a question for this command and return None; or return the reply that another command receives.

        Raises RunStopped if `stop` is set while another command asks.
        """
        while isinstance(state := self.pricer.cache.claim(key), int):
            self.note_wait(state)
            if stop.wait(POLL_SECONDS):
                raise RunStopped
        if state == "in a batch job":  # since this command began
            raise in_batch_job_error(self.pricer, 1)
        return self.pricer.find_cached([key])[key] if state == "answered" else None

    def note_wait(self, pid: int) -> None:
        """Note once per other process that this command waits for its replies."""
        with self.lock:
            if pid in self.other_commands:
                return
            self.other_commands.add(pid)
        self.pricer.progress.note(
            f"Another command (process {pid}) is asking for the same listings; waiting for its answers."
        )


def max_input_tokens(messages: Messages) -> int:
    """Return the most input tokens that a chat may have: one for each byte, and those of its format."""
    return MAX_SCHEMA_TOKENS + sum(MAX_MESSAGE_TOKENS + len(message["content"].encode()) for message in messages)


def in_batch_job_error(pricer: ApiPricer, count: int) -> PricesmithError:
    """The error if requests wait for their answers in a batch job: asking them now would pay twice."""
    requests = "1 of these requests is" if count == 1 else f"{count:,} of these requests are"
    return PricesmithError(
        f"{requests} in an unfinished batch job at {pricer.endpoint.host}",
        got=pricer.label,
        hint="Run the command that submitted it again, with --batch, to collect its answers; with --cancel-batch in "
        "its place, to cancel it.",
    )


def unpriced_error(endpoint: Endpoint, label: str) -> UsageError:
    """The error if there is a budget and no token price."""
    last = endpoint.price.last_known() if endpoint.price else None
    return UsageError(
        f"The price of {label or endpoint.model} is unknown, so --budget cannot be guaranteed",
        got=f"--budget, and a price that ended on {last}" if last else "--budget",
        allowed="a model with a known price",
        hint=f"Add @price=IN/OUT in dollars per million tokens, or put the price into {user_prices_file()}.",
    )
