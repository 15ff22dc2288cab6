"""A hosted model as a pricer: any endpoint that speaks the OpenAI chat API, asked with the words of the local prompts.

    with Answers(default_path()) as answers:
        pricer = FrontierPricer(endpoint_of("gpt-4.1-nano"), Asked(), answers, Purse(5.0), currency="USD")
        pricer.price(listings)

Every answer is remembered as it came, so that it is paid for once. What is no price is no answer: counted, never 0.
"""

from __future__ import annotations

import hashlib
import json
import os
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Literal

from pydantic import Field

from pricesmith.core.errors import PricesmithError, UsageError
from pricesmith.core.progress import SILENT, Progress
from pricesmith.core.settings import Settings
from pricesmith.core.types import Item, Listing, Quote, render
from pricesmith.pricers.api.budget import Budget
from pricesmith.pricers.api.capabilities import Capabilities
from pricesmith.pricers.api.client import ApiClient, CompletionCall, RequestFailed, RunStopped
from pricesmith.pricers.api.errors import CONTEXT_LENGTH, NO_CONNECTION, TIMED_OUT, reported_cost
from pricesmith.pricers.api.few_shot import ComparablesSelector, Selector, cut_text
from pricesmith.pricers.api.parse_response import parse_response
from pricesmith.pricers.api.providers import Endpoint, user_prices_file
from pricesmith.pricers.api.redaction import mask_key
from pricesmith.pricers.api.response_cache import Completion, ResponseCache, cache_key
from pricesmith.pricers.api.workers import run_concurrently
from pricesmith.text.prompts import MAX_SHOTS, SYSTEM_PROMPT, Prompt, few_shot_messages, repair_unicode

MOST_LETTERS = 8_000  # of a listing that is priced: a megabyte would cost dollars
ROUND = 16  # tokens of a chat's format round each message, at worst
SCHEMA_TOKENS = 200  # tokens that an endpoint may add for the schema of the answer, at worst
MOST_LOST = 0.02  # of a batch (of 100 at least) may stay without a reply; more say that the endpoint is down
PATIENCE = 0.1  # seconds between two looks at what another command was answered
KEPT = "What is answered is remembered; run the same command again."
RAW = 2_000  # characters of what was said that an evaluation keeps


class PromptOptions(Settings):
    """How a hosted model is asked; all of it is part of what an answer is remembered by."""

    shots: int = Field(0, ge=0, le=MAX_SHOTS, description="fixed priced listings of training shown first")
    comparables: int = Field(0, ge=0, le=MAX_SHOTS, description="nearest priced listings of training shown first")
    output: int = Field(4096, ge=16, le=1_000_000, description="most output tokens, reasoning included")
    effort: Literal["", "none", "minimal", "low", "medium", "high", "xhigh"] = Field("", description="of reasoning")
    json_answer: bool = Field(True, description="ask for a JSON number where the endpoint can")


@dataclass(frozen=True)
class ApiRequest:
    """What is sent for one listing, what it is remembered by, and what it costs at worst (0 where that is unknown)."""

    key: str
    messages: tuple[dict[str, str], ...]
    worst: float

    @property
    def letters(self) -> int:
        """Characters of all messages."""
        return sum(len(message["content"]) for message in self.messages)


@dataclass
class UsageStats:
    """What the pricer has met: answers by where they are from, no answers by reason, what was lost on the way."""

    asked: int = 0
    remembered: int = 0
    again: int = 0

    def __post_init__(self) -> None:
        self.failures: Counter[str] = Counter()
        self.lost: Counter[str] = Counter()
        self.tokens: Counter[str] = Counter()
        self.cost, self.cost_known = 0.0, True
        self.lost_usd = 0.0  # of the cost, for replies that never came, at worst


class ApiPricer:
    """Quotes what a hosted model says. `train` are the priced listings it may be shown, `groups` the guard's;
    `called` is the name it has in notes, before the model's."""

    def __init__(
        self,
        endpoint: Endpoint,
        asked: PromptOptions,
        answers: ResponseCache,
        purse: Budget,
        *,
        currency: str,
        called: str = "",
        train: Callable[[], Sequence[Item]] = tuple,
        groups: Mapping[str, str] | None = None,
        concurrency: int = 8,
        timeout: float = 300.0,
        progress: Progress = SILENT,
        wire: ApiClient | None = None,
    ) -> None:
        if purse.budget is not None and endpoint.price is None:
            raise unpriced_error(endpoint, called)
        self.endpoint, self.asked, self.answers, self.purse = endpoint, asked, answers, purse
        self.called = f"{called} ({endpoint.model})" if called else endpoint.model
        self.prompt = Prompt(style="chat", currency=currency)
        self.groups, self.concurrency, self.progress = groups or {}, concurrency, progress
        self.timeout = timeout
        self.wire = wire or self.new_wire(schema=asked.json_answer)
        self.tally = UsageStats()
        self.fixed: Selector = ()
        self.nearest: ComparablesSelector | None = None
        if asked.shots or asked.comparables:
            self.show(train())

    @property
    def name(self) -> str:
        return f"api:{self.endpoint.model}"

    def new_wire(self, *, schema: bool) -> ApiClient:
        """A way to the endpoint, spoken to as was found out before."""
        speech = Capabilities.of(self.answers.speech(self.endpoint.url, self.endpoint.model), self.endpoint.limit)
        output, effort = self.asked.output, self.asked.effort
        about = (self.endpoint, self.purse, speech)
        return ApiClient(*about, most_output=output, effort=effort, schema=schema, timeout=self.timeout)

    def close(self) -> None:
        """Give the connections back."""
        self.wire.close()

    @property
    def facts(self) -> dict[str, Any]:
        """What tells this pricer from another, as plain values; its price, since an evaluation holds dollars."""
        price = self.endpoint.price
        facts = {"model": self.endpoint.model, "endpoint": self.endpoint.url, **self.asked.model_dump()}
        facts["usd_per_million"] = [price.input, price.output] if price else None
        return {
            **facts,
            "prompt": hashlib.sha256(json.dumps(self.messages(Listing("", "", ""), ())).encode()).hexdigest(),
        }

    def show(self, train: Sequence[Item]) -> None:
        """Take what is shown from these priced listings."""
        self.fixed = tuple(
            (cut_text(repair_unicode(text), MOST_LETTERS), price)
            for text, price in few_shot_messages(train, self.asked.shots)
        )
        self.nearest = (
            ComparablesSelector(train, self.groups, self.asked.comparables) if self.asked.comparables else None
        )

    def shown(self, train: Sequence[Item]) -> ApiPricer:
        """The same model, shown other priced listings: for a fold. It counts on the same tally."""
        other = ApiPricer.__new__(ApiPricer)
        other.__dict__.update(self.__dict__)
        other.show(train)
        return other

    def messages(self, listing: Listing, near: Selector) -> tuple[dict[str, str], ...]:
        """The chat: the words of the local prompts, an answer being a JSON object with the price."""
        turns = [{"role": "system", "content": SYSTEM_PROMPT}]
        for text, price in (*self.fixed, *near):
            turns.append({"role": "user", "content": self.prompt.asked(text)})
            turns.append({"role": "assistant", "content": json.dumps({"price": price})})
        body = cut_text(repair_unicode(render(listing)), MOST_LETTERS)
        return (*turns, {"role": "user", "content": self.prompt.asked(body)})

    def requests(self, listings: Sequence[Listing]) -> list[ApiRequest]:
        """What is sent for each listing."""
        near = self.nearest.of(listings) if self.nearest else [()] * len(listings)
        return [self.request(self.messages(ware, shown)) for ware, shown in zip(listings, near, strict=True)]

    def request(self, messages: tuple[dict[str, str], ...], *, schema: bool | None = None) -> ApiRequest:
        """A request and its worst case: a token is at least a byte, and an answer as long as it may be."""
        asks = self.asked.json_answer if schema is None else schema
        settings = {"output": self.asked.output, "effort": self.asked.effort, "json": asks}
        key = cache_key(self.endpoint.url, self.endpoint.model, messages, settings)
        most = SCHEMA_TOKENS + sum(ROUND + len(message["content"].encode()) for message in messages)
        price = self.endpoint.price
        return ApiRequest(key, messages, price.of(most, self.asked.output) if price else 0.0)

    def price(self, listings: Sequence[Listing]) -> list[Quote]:
        """One quote a listing, in order. What is remembered is not asked again.

        Raises PricesmithError where the endpoint stops answering, BudgetSpent where the budget ends; what was answered
        until then is kept.
        """
        requests = self.requests(listings)
        said = self.said(requests)
        return [self.quote(said[request.key]) for request in requests]

    def said(
        self, requests: Sequence[ApiRequest], wire: ApiClient | None = None
    ) -> dict[str, Completion | RequestFailed]:
        """What was said to each request, by key: remembered, or asked for now."""
        wire = wire or self.wire
        wire.over = False
        found: dict[str, Completion | RequestFailed] = dict(self.remembered(request.key for request in requests))
        waiting = list({request.key: request for request in requests if request.key not in found}.values())
        if waiting:
            self.endpoint.check_key()
        self.tally.remembered += sum(request.key in found for request in requests)
        wire.must_reply = not (self.tally.asked or self.tally.remembered)
        again = len(self.answers.marked(request.key for request in waiting))
        if again:
            self.tally.again += again
            those = "1 request was" if again == 1 else f"{again:,} requests were"
            they = "it is" if again == 1 else "they are"
            self.progress.note(f"{those} sent before and never answered; {they} asked again.")
        asked: list[str] = []
        meanwhile: list[str] = []  # answered to another command that runs beside this one
        lost = 0
        most = int(MOST_LOST * max(100, len(requests)))
        waits = Waits(self.progress)

        def ask(request: ApiRequest, stop: threading.Event) -> None:
            nonlocal lost
            try:
                if (known := self.claim(request.key, stop, waits)) is not None:
                    found[request.key] = known
                    meanwhile.append(request.key)
                    return
            except RunStopped:
                return
            try:
                sending = partial(self.answers.mark, request.key)
                answer = wire.ask(CompletionCall(request.messages, request.worst, stop, sending))
                self.answers.keep(request.key, self.endpoint.url, self.endpoint.model, answer)
            except RequestFailed as error:
                found[request.key] = error
                lost += 1
                if lost > most or (wire.must_reply and not wire.replied):
                    raise self.down(lost, error) from None
                return
            except RunStopped:
                return
            finally:
                self.answers.release(request.key)
            found[request.key] = answer
            asked.append(request.key)

        try:
            run_concurrently(ask, waiting, self.concurrency)
        finally:
            self.tally.asked += len(asked)
            self.tally.remembered += len(meanwhile)
        if waiting and wire.proven:
            self.answers.learn(self.endpoint.url, self.endpoint.model, wire.known())
        return found

    def remembered(self, keys: Iterable[str]) -> dict[str, Completion]:
        """The remembered answers among `keys`. Older ones may hold the key of the endpoint: it is masked."""
        found = self.answers.find(keys)
        key = self.endpoint.key
        return {name: replace(said, text=mask_key(said.text, key)) for name, said in found.items()} if key else found

    def claim(self, key: str, stop: threading.Event, waits: Waits) -> Completion | None:
        """Reserve a question for this command; or the answer, where another command has it or is getting it.

        Raises Stopped where `stop` is set while another command asks.
        """
        while isinstance(state := self.answers.claim(key), int):
            waits.note(state)
            if stop.wait(PATIENCE):
                raise RunStopped
        return self.remembered([key])[key] if state == "answered" else None

    def quote(self, said: Completion | RequestFailed) -> Quote:
        """An answer as a quote, counted; a lost one says why it is missing."""
        tally = self.tally
        said = said if isinstance(said, RequestFailed) else self.priced(said)
        cost = said.cost_usd or 0.0
        tally.cost += cost
        tally.cost_known = tally.cost_known and said.cost_usd is not None
        tally.lost_usd += cost if isinstance(said, RequestFailed) else said.lost_usd
        if isinstance(said, RequestFailed):
            tally.lost[said.got] += 1
            return Quote(None, raw=f"no reply: {said.got}", cost_usd=cost)
        tally.tokens.update({"input": said.tokens_in or 0, "output": said.tokens_out or 0})
        price = parse_response(said.text, said.finish, self.prompt.currency)
        if isinstance(price, str):
            tally.failures[price] += 1
        number = None if isinstance(price, str) else price
        return Quote(number, raw=said.text[:RAW], cost_usd=cost, seconds=said.seconds)

    def priced(self, said: Completion) -> Completion:
        """An answer at the price that is known now, which may not have been known, or right, when it was given."""
        price = self.endpoint.price
        now = reported_cost(price, said.tokens_in, said.tokens_out, said.told_usd) if price else None
        return said if now is None else replace(said, cost_usd=now + said.lost_usd)

    def down(self, lost: int, error: RequestFailed) -> PricesmithError:
        """The error where too many listings stay without a reply."""
        hint = "What is answered is remembered; run the same command again when it is up."
        if error.got.endswith(CONTEXT_LENGTH):
            hint = f"Ask with a smaller output= after the @ (it is {self.asked.output:,}), or show it less."
        elif error.got == TIMED_OUT:
            hint = f"Check that it is up, or allow more than the {self.timeout:g} s of --timeout. {KEPT}"
        elif error.got == NO_CONNECTION:
            hint = f"Check the URL, and that the server is started. {KEPT}"
        listings = "1 listing" if lost == 1 else f"{lost:,} listings"
        tries = f" after {error.tries} tries" + " each" * (lost > 1) if error.tries else ""
        return PricesmithError(
            f"{self.endpoint.host} does not answer",
            got=f"{listings} without a reply{tries}; last: {error.got}",
            hint=hint,
        )

    def check_answered(self) -> None:
        """Raises PricesmithError where not a single listing was answered: there is nothing to evaluate."""
        tally = self.tally
        if tally.lost and not (tally.asked or tally.remembered):
            causes = ", ".join(f"{count:,} {cause}" for cause, count in tally.lost.most_common(3))
            raise PricesmithError(
                f"{self.endpoint.host} has answered nothing",
                got=f"no reply to any of {tally.lost.total():,} listings: {causes}",
                hint="No evaluation was written. Run the same command again when it is up.",
            )


class Waits:
    """Says once of each other command that its answers are waited for."""

    def __init__(self, progress: Progress) -> None:
        self.progress, self.lock = progress, threading.Lock()
        self.known = {os.getpid()}

    def note(self, pid: int) -> None:
        """Say that another process is waited for."""
        with self.lock:
            if pid in self.known:
                return
            self.known.add(pid)
        self.progress.note(f"Another command (process {pid}) is asking for the same listings; waiting for its answers.")


def unpriced_error(endpoint: Endpoint, called: str) -> UsageError:
    """The error where a budget is set and nobody knows what a request costs."""
    return UsageError(
        f"What {called or endpoint.model} costs is not known, so no budget can be kept",
        got="--budget",
        allowed="a model with a price",
        hint=f"Add @price=IN/OUT in dollars per million tokens, or put it into {user_prices_file()}.",
    )
