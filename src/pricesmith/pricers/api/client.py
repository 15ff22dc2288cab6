"""One request to an OpenAI-compatible endpoint, tried again where that can help, and what each fault means.

    said = wire.ask(Call(messages, worst=0.04, stop=stop))

Connections are not kept alive: where a server delivers an answer twice, the second one lies there as the answer to the
next request (16 of 60 answers were another question's, measured on the fake endpoint; so none). The endpoint's way of
speaking (whether it takes a JSON schema, a temperature, and what it calls the limit of tokens) is found out by its own
400s, which cost nothing, and remembered.
"""

from __future__ import annotations

import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

from pricesmith.core.errors import PricesmithError, UsageError
from pricesmith.pricers.api.budget import Budget
from pricesmith.pricers.api.capabilities import SCHEMA, Capabilities
from pricesmith.pricers.api.deadline import Exchange
from pricesmith.pricers.api.errors import STATUS_REJECTED, ApiError, classify_exception, parse_completion
from pricesmith.pricers.api.providers import Endpoint, is_local
from pricesmith.pricers.api.redaction import KeyFilter
from pricesmith.pricers.api.response_cache import Completion

if TYPE_CHECKING:
    import httpx2
    import openai

TRIES = 8
SILENT_TRIES = 3  # of an endpoint that has never sent anything back, not even an error
MARGIN = 0.2  # seconds that the deadline of a request lies after its time-outs, which know better what went wrong
BACK_OFF, MOST_BACK_OFF = 0.5, 30.0  # seconds; doubled each time, with full jitter (Brooker, AWS, 2015)
MOST_CHANGES = 6  # of speech; an endpoint that takes none of them would go round for ever
MOST_REJECTED = 3  # listings refused in every way of speaking, one after another, before anything was answered
MOST_WAIT = 300.0  # seconds that a Retry-After may ask for
SENT = frozenset({"host", "accept", "accept-encoding", "authorization", "content-length", "content-type", "user-agent"})


@dataclass(frozen=True)
class CompletionCall:
    """What is asked, its worst case in dollars, and what ends the waiting. `sending` is called right before each try
    goes out, and not while it waits for its turn, for money or for the endpoint."""

    messages: Sequence[Mapping[str, str]]
    worst: float
    stop: threading.Event
    sending: Callable[[], object] = int


class RunStopped(Exception):
    """The work was stopped while a request waited; nothing is in flight for it."""


class RequestFailed(PricesmithError):
    """No answer came after all tries. The listing is left without one; nothing is remembered of it.

    `cost_usd` is what its tries cost at worst, None where that is not known; `tries` 0 where one was enough to know.
    """

    def __init__(self, what: str, *, got: str = "", cost_usd: float | None = 0.0, tries: int = 0) -> None:
        super().__init__(what, got=got)
        self.cost_usd, self.tries = cost_usd, tries


class ApiClient:
    """The way to one endpoint, shared by threads. `back_off` is the first pause in seconds, `timeout` for an answer.

    `lost_usd` is what replies that never came cost at worst, `lost_known` whether there is a price to say it. Where it
    `must_reply`, an endpoint that has never sent anything back is asked for one listing only.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        purse: Budget,
        speech: Capabilities,
        *,
        most_output: int,
        effort: str = "",
        schema: bool = True,
        timeout: float = 300.0,
        tries: int = TRIES,
        back_off: float = BACK_OFF,
    ) -> None:
        self.endpoint, self.purse, self.speech = endpoint, purse, speech
        self.most_output, self.effort, self.schema = most_output, effort, schema
        self.timeout, self.tries, self.back_off = timeout, tries, back_off
        self.first_speech, self.sent, self.changes, self.rejected = speech, 0, 0, 0
        self.faults: Counter[str] = Counter()
        self.lost_usd, self.lost_known = 0.0, True
        self.proven = self.over = self.replied = self.must_reply = False
        self.lock, self.first = threading.Lock(), threading.Lock()
        self.not_before = 0.0
        self.key_filter = KeyFilter(endpoint.key)
        self._client: openai.OpenAI | None = None

    def client(self) -> openai.OpenAI:
        """The openai client: without retries, redirects and headers of its own, one connection for each request."""
        with self.lock:
            if self._client is None:
                import openai

                http = self.http()
                self.key_filter.add()
                key = self.endpoint.key or "none"
                self._client = openai.OpenAI(
                    api_key=key, base_url=self.endpoint.url, http_client=http, max_retries=0, timeout=http.timeout
                )
            return self._client

    def http(self) -> httpx2.Client:
        """The connections. Raises UsageError where the proxy that the environment names cannot be used."""
        import httpx2

        from pricesmith.pricers.api.response_limits import limit_response, start_clock

        host = self.endpoint.host
        try:
            return httpx2.Client(
                timeout=httpx2.Timeout(self.timeout, connect=min(self.timeout, 30.0), pool=None),
                limits=httpx2.Limits(max_connections=None, max_keepalive_connections=0),
                follow_redirects=False,  # a key is for one host
                trust_env=not is_local(self.endpoint.url),  # no proxy stands between a machine and itself
                event_hooks={
                    "request": [lambda request: strip_url(request, host, keyed=bool(self.endpoint.key)), start_clock],
                    "response": [lambda reply: limit_response(reply, self.timeout)],
                },
            )
        except (ValueError, ImportError, httpx2.InvalidURL):  # their words hold the proxy's password
            raise UsageError(
                "The proxy of the environment cannot be used",
                got="HTTP_PROXY, HTTPS_PROXY or ALL_PROXY, which may hold a password and are not shown",
                allowed="http://HOST:PORT or https://HOST:PORT; socks5:// with the package socksio",
                hint="Correct the variable, or unset it.",
            ) from None

    def close(self) -> None:
        """Give the connections back."""
        if self._client is not None:
            self._client.close()
            self.key_filter.remove()

    def ask(self, call: CompletionCall) -> Completion:
        """One answer. Until one came, requests go one at a time: a wrong key is told by one request, not by many.

        Raises Lost where none came after all tries, Stopped where `stop` was set before it was sent, PricesmithError
        where the endpoint can be asked nothing (a key refused, an unknown model), BudgetSpent where nothing is left.
        """
        if not self.proven:
            with self.first:
                if not self.proven:
                    return self.persist(call)
        return self.persist(call)

    def persist(self, call: CompletionCall) -> Completion:
        """One answer, in as many tries as are allowed. It costs what the tries before it cost, too."""
        tried = 0
        wasted: float | None = 0.0
        while True:
            self.hold_back(call.stop)
            speech = self.speech
            said = self.once(call, speech)
            if isinstance(said, Completion):
                self.proven = self.proven or said.finish != STATUS_REJECTED
                return replace(said, cost_usd=merge_callbacks(said.cost_usd, wasted), lost_usd=wasted or 0.0)
            if said.billed:
                wasted = merge_callbacks(wasted, call.worst if self.endpoint.price else None)
            with self.lock:
                self.faults[said.cause] += 1
            if said.kind == "speech" and self.simplify(speech, said):
                continue
            if said.kind == "stop" or (said.wait or 0) > MOST_WAIT:
                raise self.refused(said)
            tried += 1
            most = self.tries if self.replied else min(self.tries, SILENT_TRIES)
            if tried >= most or said.kind in ("skip", "speech"):
                self.over = self.over or (self.must_reply and not self.replied)  # before the next thread has its turn
                tries = tried if said.kind == "again" else 0
                raise RequestFailed(
                    f"{self.endpoint.model} gave no answer", got=said.cause, cost_usd=wasted, tries=tries
                )
            self.pause(said, tried, call.stop)

    def once(self, call: CompletionCall, speech: Capabilities) -> Completion | ApiError:
        """One request: an answer, or what went wrong. What it cost is settled, at its worst where it is not known."""
        import httpx2

        client = self.client()
        if not self.purse.hold(call.worst, call.stop):
            raise RunStopped
        cost, lost = 0.0, False
        try:
            call.sending()
            cost, lost = call.worst, True
            with self.lock:
                self.sent += 1
            began = time.perf_counter()
            body = self.body(call.messages, speech)
            found: Completion | ApiError
            try:
                # Its own reading of an answer would take half of one for a whole one.
                reply = Exchange().run(
                    lambda: client.post("/chat/completions", body=body, cast_to=httpx2.Response).content,
                    self.timeout + MARGIN,
                )
            except Exception as error:
                found = classify_exception(error, self.endpoint.key, proven=self.proven)
            else:
                found = parse_completion(reply, self.endpoint.price, self.most_output, self.endpoint.key)
            self.replied = self.replied or isinstance(found, Completion) or not found.silent
            if isinstance(found, Completion):
                found = replace(found, seconds=time.perf_counter() - began)
                cost, lost = call.worst if found.cost_usd is None else found.cost_usd, False
            elif not found.billed:
                cost, lost = 0.0, False
            return found
        finally:
            if lost:
                with self.lock:
                    self.lost_usd, self.lost_known = self.lost_usd + cost, self.endpoint.price is not None
            self.purse.settle(call.worst, cost, lost=lost)

    def body(self, messages: Sequence[Mapping[str, str]], speech: Capabilities) -> dict[str, Any]:
        """The request as the endpoint is spoken to."""
        extra: dict[str, Any] = {speech.limit: self.most_output}
        if speech.json and self.schema:
            extra["response_format"] = SCHEMA
        if speech.temperature:
            extra["temperature"] = 0
        if self.effort:
            extra["reasoning_effort"] = self.effort
        return {"model": self.endpoint.model, "messages": list(messages), **extra}

    def simplify(self, used: Capabilities, fault: ApiError) -> bool:
        """Speak more simply after a 400, unless another thread has; False where nothing is left to leave out.

        It may be the listing that is refused: the next one is asked as the first was. Raises PricesmithError where
        several were refused so.
        """
        with self.lock:
            if self.speech == used:
                simpler = used.simpler(fault.words.lower())
                if simpler is None or self.changes >= MOST_CHANGES:
                    self.rejected += 1
                    if self.rejected >= MOST_REJECTED:
                        raise self.refused(fault)
                    self.speech, self.changes = self.first_speech, 0
                    return False
                self.speech, self.changes = simpler, self.changes + 1
            return True

    def pause(self, fault: ApiError, tried: int, stop: threading.Event) -> None:
        """Wait before the next try: as long as the endpoint asks for, while nobody sends, and a drawn back-off on top,
        so that not all come back at once, or at once where it asks for no time."""
        told = fault.wait or 0.0
        with self.lock:
            self.not_before = max(self.not_before, time.monotonic() + told)
        self.wait(told + random.uniform(0, min(MOST_BACK_OFF, self.back_off * 2**tried)), stop)

    def hold_back(self, stop: threading.Event) -> None:
        """Wait until requests may be sent again; a drawn pause on top parts those who waited."""
        left = self.not_before - time.monotonic()
        self.wait(left + random.uniform(0, self.back_off) if left > 0 else 0.0, stop)

    def wait(self, seconds: float, stop: threading.Event) -> None:
        """Sleep; raises Stopped as soon as `stop` is set, or the endpoint can be asked nothing."""
        if seconds > 0:
            stop.wait(seconds)
        if self.over or stop.is_set():
            raise RunStopped

    def refused(self, fault: ApiError) -> PricesmithError:
        """The error where asking on is of no use; who waits for this thread asks nothing either."""
        self.over = True
        hint = "What is answered is remembered; put this right and run the same command again."
        if fault.kind == "again":
            hint = f"It asks to wait {fault.wait:,.0f} s. What is answered is remembered; run it again later."
        elif fault.cause == "an unexpected error":
            hint = "What is answered is remembered. Run it again; report the error if it comes back."
        elif self.endpoint.key_name and fault.cause in ("HTTP 401", "HTTP 403"):
            hint = f"Check the key in {self.endpoint.key_name}. What is answered is remembered; run it again."
        elif fault.cause in ("HTTP 401", "HTTP 403"):
            hint = "Name the environment variable that holds the key: MODEL@key=VARIABLE,url=URL"
        return PricesmithError(
            f"{self.endpoint.host} does not answer for {self.endpoint.model}: {fault.cause}", got=fault.words, hint=hint
        )

    def known(self) -> dict[str, Any]:
        """How the endpoint is spoken to, to be remembered."""
        return asdict(self.speech)


def merge_callbacks(one: float | None, other: float | None) -> float | None:
    """A sum of dollars, not known where either is not."""
    return None if one is None or other is None else one + other


def strip_url(request: httpx2.Request, host: str, *, keyed: bool) -> None:
    """Take off headers that the endpoint has no need of: facts of this machine, and other accounts' names."""
    own = {"openai-organization", "openai-project"} if host == "api.openai.com" else set()
    for name in list(request.headers):
        if name.lower() not in SENT | own or (name.lower() == "authorization" and not keyed):
            del request.headers[name]
