"""Sends one request to an endpoint in its format, retries it if that can help, and classifies every error.

    completion = client.complete(CompletionCall(messages, worst=0.04, stop=stop))

Connections are not kept alive: if a server delivers a reply twice, the second copy would be read as the reply to the
next request (measured on the fake endpoint: 16 of 60 replies belonged to another question; without keep-alive 0).
Which parameters an endpoint supports (JSON schema, temperature, reasoning effort, the name of the token limit) is
learned from its own status 400 replies, which cost nothing, and stored in the response cache.
"""

from __future__ import annotations

import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from pricesmith.core.errors import PricesmithError, UsageError
from pricesmith.pricers.api.costs import answer_cost
from pricesmith.pricers.api.errors import (
    STATUS_REJECTED,
    UNEXPECTED,
    WORKSPACE_HEADER,
    classify_exception,
    classify_status,
    parse_completion,
)
from pricesmith.pricers.api.formats import get_format
from pricesmith.pricers.api.formats.base import ApiError, Capabilities, ChatQuestion
from pricesmith.pricers.api.limits import Budget
from pricesmith.pricers.api.parse_response import JSON_FAILED
from pricesmith.pricers.api.providers import Endpoint, is_local
from pricesmith.pricers.api.redaction import KeyFilter
from pricesmith.pricers.api.response_cache import Completion
from pricesmith.pricers.api.truncation import PROMPT_TRUNCATED, is_truncated, truncation_error

if TYPE_CHECKING:
    import httpx2
    from tenacity import RetryCallState

MAX_TRIES = 8
MAX_TRIES_NO_RESPONSE = 3  # at an endpoint that has never sent anything back, not even an error
DEADLINE_MARGIN = 0.2  # seconds after the read timeouts, whose exceptions say more precisely what went wrong
BACK_OFF, MAX_BACK_OFF = 0.5, 30.0  # seconds; doubled each time, with full jitter (Brooker, AWS, 2015)
MAX_SIMPLIFICATIONS = 10  # of the parameters; an endpoint that accepts none would loop forever
MAX_REJECTED = 3  # consecutive listings rejected with every set of parameters, before anything was answered
MAX_RETRY_AFTER = 300.0  # seconds
OLLAMA_FINGERPRINT = b'"fp_ollama"'  # in each of its replies; no text in one can hold these quotation marks
ALLOWED_HEADERS = frozenset({"host", "accept", "accept-encoding", "content-length", "content-type", "user-agent"})


@dataclass(frozen=True)
class CompletionCall:
    """A chat to complete, its worst-case cost in US dollars, and the event that cancels it.

    `on_send` is called right before each try is sent, not while it waits for its turn, the budget or the endpoint. The
    first `n_shared` messages are the same in every chat of the pricer.
    """

    messages: Sequence[Mapping[str, str]]
    worst: float
    stop: threading.Event
    on_send: Callable[[], object] = int
    n_shared: int = 0


class RunStopped(Exception):
    """The command was stopped while a request waited; nothing is in flight for it."""


class RequestFailed(PricesmithError):
    """No reply after all tries. The listing is unanswered; nothing is cached for it.

    `cost_usd` is what its tries cost at worst, None if unknown; `tries` is 0 if one was enough to know.
    """

    def __init__(self, what: str, *, got: str = "", cost_usd: float | None = 0.0, tries: int = 0) -> None:
        super().__init__(what, got=got)
        self.cost_usd, self.tries = cost_usd, tries


class ApiClient:
    """A client of one endpoint, shared by threads. `back_off` is the first pause, `timeout` the limit of a try, both
    in seconds.

    `failed_tries_usd` is the worst-case cost of replies that never arrived; `cost_known` is False if there is no token
    price to compute it. With `must_reply`, an endpoint that has never sent anything back is asked for one listing only.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        budget: Budget,
        capabilities: Capabilities,
        *,
        max_output_tokens: int,
        reasoning_effort: str = "",
        schema: bool = True,
        timeout: float = 300.0,
        tier: str = "",
        max_tries: int = MAX_TRIES,
        back_off: float = BACK_OFF,
    ) -> None:
        self.endpoint, self.budget, self.capabilities = endpoint, budget, capabilities
        self.max_output_tokens, self.reasoning_effort, self.schema = max_output_tokens, reasoning_effort, schema
        self.timeout, self.tier, self.max_tries, self.back_off = timeout, tier, max_tries, back_off
        self.initial_capabilities, self.n_requests, self.simplifications, self.rejected = capabilities, 0, 0, 0
        self.error_counts: Counter[str] = Counter()
        self.failed_tries_usd, self.cost_known = 0.0, True
        self.effort_noted = False
        self.proven = self.stopped = self.responded = self.must_reply = False
        self.lock, self.first_request = threading.Lock(), threading.Lock()
        self.not_before = 0.0
        self.key_filter = KeyFilter(endpoint.secrets)
        self.format = get_format(endpoint.format)
        self._http: httpx2.Client | None = None

    def open_http(self) -> httpx2.Client:
        """Return the HTTP client, opened once."""
        with self.lock:
            if self._http is None:
                self._http = self.http_client()
                self.key_filter.add()
            return self._http

    def http_client(self) -> httpx2.Client:
        """Return an HTTP client without redirects, one connection per request, that sends only the needed headers.

        Raises UsageError if the proxy in the environment cannot be used.
        """
        import httpx2

        from pricesmith.pricers.api.limits import limit_response, start_clock

        headers = {"User-Agent": "pricesmith", "Accept": "application/json", **self.endpoint.headers()}
        allowed = {*ALLOWED_HEADERS, *(name.lower() for name in headers)}
        try:
            return httpx2.Client(
                headers=headers,
                timeout=httpx2.Timeout(self.timeout, connect=min(self.timeout, 30.0), pool=None),
                limits=httpx2.Limits(max_connections=None, max_keepalive_connections=0),
                follow_redirects=False,  # a key is for one host
                trust_env=not is_local(self.endpoint.url),  # no proxy between a machine and itself
                event_hooks={
                    "request": [lambda request: strip_headers(request, allowed), start_clock],
                    "response": [lambda response: limit_response(response, self.timeout)],
                },
            )
        except (ValueError, ImportError, httpx2.InvalidURL):  # their messages contain the proxy's password
            raise UsageError(
                "The proxy in the environment cannot be used",
                got="HTTP_PROXY, HTTPS_PROXY or ALL_PROXY (not shown: it may contain a password)",
                allowed="http://HOST:PORT or https://HOST:PORT; socks5:// with the package socksio",
                hint="Correct the variable, or unset it.",
            ) from None

    def close(self) -> None:
        """Close the connections."""
        if self._http is not None:
            self._http.close()
            self.key_filter.remove()

    def complete(self, call: CompletionCall) -> Completion:
        """Return one completion. Until the first one arrives, requests go one at a time: a wrong key costs one request.

        Raises RequestFailed if no try got a reply, RunStopped if `stop` was set before the request was sent,
        PricesmithError if the endpoint refuses all requests (wrong key, unknown model), BudgetExceeded.
        """
        if not self.proven:
            with self.first_request:
                if not self.proven:
                    return self.retry(call)
        return self.retry(call)

    def retry(self, call: CompletionCall) -> Completion:
        """Return one completion after as many tries as allowed. Its cost includes the tries before it."""
        from tenacity import Retrying, retry_if_result, wait_random_exponential

        failed_tries_usd: float | None = 0.0

        def attempt() -> Completion | ApiError:
            nonlocal failed_tries_usd
            while True:
                self.wait_for_turn(call.stop)
                capabilities = self.capabilities
                result = self.send(call, capabilities)
                if isinstance(result, Completion):
                    return result
                if result.billed:
                    failed_tries_usd = add_costs(failed_tries_usd, call.worst if self.has_price else None)
                with self.lock:
                    self.error_counts[result.cause] += 1
                # A request with fewer parameters is not another try: the endpoint did not process the last one.
                if result.kind == "parameter" and self.simplify(capabilities, result):
                    continue
                if result.kind == "stop" or (result.retry_after or 0) > MAX_RETRY_AFTER:
                    raise self.stop_error(result)
                return result

        def pause(state: RetryCallState) -> float:
            """Retry-After plus a random back-off, so that waiting threads do not all return at once."""
            assert state.outcome is not None
            retry_after = state.outcome.result().retry_after or 0.0
            with self.lock:
                self.not_before = max(self.not_before, time.monotonic() + retry_after)
            return float(retry_after) + back_off(state)

        back_off = wait_random_exponential(multiplier=2 * self.back_off, max=MAX_BACK_OFF)
        retrying = Retrying(
            sleep=lambda seconds: self.sleep(seconds, call.stop),
            stop=lambda state: state.attempt_number >= self.allowed_tries(),
            wait=pause,
            retry=retry_if_result(lambda result: isinstance(result, ApiError) and result.kind == "retry"),
            retry_error_callback=lambda state: state.outcome.result() if state.outcome else None,
        )
        result = retrying(attempt)
        if isinstance(result, Completion):
            self.proven = self.proven or result.finish != STATUS_REJECTED
            cost = add_costs(result.cost_usd, failed_tries_usd)
            return replace(result, cost_usd=cost, failed_tries_usd=result.failed_tries_usd + (failed_tries_usd or 0.0))
        self.stopped = self.stopped or (self.must_reply and not self.responded)  # before the next thread's turn
        tries = retrying.statistics["attempt_number"] if result.kind == "retry" else 0
        what = f"{self.endpoint.model} sent no reply"
        raise RequestFailed(what, got=result.cause, cost_usd=failed_tries_usd, tries=tries)

    def allowed_tries(self) -> int:
        """Return how many tries a request has; fewer at an endpoint that has never sent anything back."""
        return self.max_tries if self.responded else min(self.max_tries, MAX_TRIES_NO_RESPONSE)

    def send(self, call: CompletionCall, capabilities: Capabilities) -> Completion | ApiError:
        """Send one request and return its completion or error; an unknown cost counts at its worst case."""
        http = self.open_http()
        if not self.budget.reserve(call.worst, call.stop):
            raise RunStopped
        cost, failed = 0.0, False
        try:
            call.on_send()
            cost, failed = call.worst, True
            with self.lock:
                self.n_requests += 1
            start = time.perf_counter()
            result = self.exchange(http, call, capabilities)
            self.responded = self.responded or isinstance(result, Completion) or not result.no_response
            if isinstance(result, Completion):
                result = replace(result, seconds=time.perf_counter() - start)
                failed = result.finish == JSON_FAILED  # answered, and charged at most its worst case
                if failed and self.has_price:
                    result = replace(result, cost_usd=call.worst, failed_tries_usd=call.worst)
                billed = answer_cost(self.endpoint.price, result, moment=datetime.now(UTC)).budget
                billed = result.cost_usd if failed or billed is None else billed
                cost = call.worst if billed is None else billed
            elif not result.billed:
                cost, failed = 0.0, False
            return result
        finally:
            if failed:
                with self.lock:
                    self.failed_tries_usd += cost
                    self.cost_known = self.has_price
            self.budget.commit(call.worst, cost, failed=failed)

    def exchange(self, http: httpx2.Client, call: CompletionCall, capabilities: Capabilities) -> Completion | ApiError:
        """Send a question and interpret what comes back, or that nothing does."""
        from pricesmith.pricers.api.limits import Exchange

        url, key, body = self.endpoint.question_url(), self.endpoint.secrets, self.request_body(call, capabilities)
        try:
            response = Exchange().run(lambda: http.post(url, json=body), self.timeout + DEADLINE_MARGIN)
        except Exception as error:
            return classify_exception(error, key)
        if response.status_code >= 300:
            return classify_status(response.status_code, response.headers, response.content, key, proven=self.proven)
        endpoint = self.endpoint
        result = parse_completion(
            response.content, endpoint.price, self.max_output_tokens, key, endpoint.format, tier=self.tier
        )
        is_ollama = self.endpoint.provider == "ollama" or OLLAMA_FINGERPRINT in response.content
        if is_ollama and isinstance(result, Completion) and is_truncated(call.messages, result.tokens_in):
            return truncation_error(call.messages, result.tokens_in or 0, self.max_output_tokens)
        return result

    def question(self, call: CompletionCall) -> ChatQuestion:
        """Return the question of a call, as the formats write it."""
        return ChatQuestion(
            self.endpoint.model,
            call.messages,
            self.max_output_tokens,
            reasoning_effort=self.reasoning_effort,
            schema=self.schema,
            n_shared=call.n_shared,
            extra_body={**self.endpoint.extra_body, **({"service_tier": self.tier} if self.tier else {})},
        )

    def request_body(self, call: CompletionCall, capabilities: Capabilities) -> dict[str, Any]:
        """Return the request with the parameters that the endpoint supports."""
        return self.format.request_body(self.question(call), capabilities)

    def take_effort_note(self) -> str:
        """Return once, after that nothing, the sentence that another effort is sent than was asked for, if it is."""
        if self.effort == self.reasoning_effort or self.effort_noted:
            return ""
        self.effort_noted = True
        sent = f"it was asked with {self.effort!r}" if self.effort else "it was asked without one"
        return f"{self.endpoint.model} has no reasoning effort {self.reasoning_effort!r}; {sent}."

    @property
    def has_price(self) -> bool:
        """Whether the price of tokens is known on the tier that is asked for."""
        price = self.endpoint.price
        return price is not None and price.worst_case(datetime.now(UTC), self.tier) is not None

    @property
    def effort(self) -> str:
        """The reasoning effort that is sent: the supported one nearest to the one asked for."""
        return self.capabilities.choose_effort(self.reasoning_effort, self.format.efforts)

    def simplify(self, used: Capabilities, error: ApiError) -> bool:
        """Remove a parameter after a status 400, unless another thread has; False if none is left to remove.

        The endpoint may be rejecting the listing: then the next one starts with the initial parameters again. Raises
        PricesmithError after several such listings.
        """
        with self.lock:
            if self.capabilities == used:
                simpler = used.simplify(error.message.lower(), self.effort, schema=self.schema)
                if simpler is None or self.simplifications >= MAX_SIMPLIFICATIONS:
                    self.rejected += 1
                    if self.rejected >= MAX_REJECTED:
                        raise self.stop_error(error)
                    self.capabilities, self.simplifications = self.initial_capabilities, 0
                    return False
                self.capabilities, self.simplifications = simpler, self.simplifications + 1
            return True

    def wait_for_turn(self, stop: threading.Event) -> None:
        """Wait as long as a Retry-After of any thread asks for, plus a random pause that separates the threads."""
        remaining = self.not_before - time.monotonic()
        self.sleep(remaining + random.uniform(0, self.back_off) if remaining > 0 else 0.0, stop)

    def sleep(self, seconds: float, stop: threading.Event) -> None:
        """Sleep; raises RunStopped as soon as `stop` is set or the client has stopped."""
        if seconds > 0:
            stop.wait(seconds)
        if self.stopped or stop.is_set():
            raise RunStopped

    def stop_error(self, error: ApiError) -> PricesmithError:
        """Stop the client for all threads, and return the error that says why further requests are useless."""
        self.stopped = True
        cached = "All answers so far are cached"
        hint = f"{cached}; fix this and run the same command again."
        if error.kind == "retry":
            hint = f"The endpoint asks to wait {error.retry_after:,.0f} s. {cached}; run the command again later."
        elif error.cause == UNEXPECTED:
            hint = f"{cached}. Run the command again; if the error comes back, report it."
        elif WORKSPACE_HEADER in error.message.lower():
            hint = (
                f"Your key is not for one workspace: export ANTHROPIC_WORKSPACE_ID=... {cached}; run the command again."
            )
        elif self.endpoint.key_name and error.cause in ("HTTP 401", "HTTP 403"):
            hint = f"Check the key in {self.endpoint.key_name}. {cached}; run the command again."
        elif error.cause in ("HTTP 401", "HTTP 403"):
            hint = "Name the environment variable that holds the key: api:MODEL@key=VARIABLE,url=URL"
        elif error.cause == "HTTP 404":
            hint = (
                "Check the name of the model, the URL (most end in /v1), and format=: is it OpenAI's API? "
                f"{cached}; run the command again."
            )
        what = f"{self.endpoint.host} refuses requests for {self.endpoint.model}: {error.cause}"
        if error.cause == PROMPT_TRUNCATED:
            what = f"{self.endpoint.host} reads only a part of the prompt, so its answers are wrong"
            hint = f"{error.hint} {cached}; run the command again."
        return PricesmithError(what, got=error.message, hint=hint)

    def capabilities_dict(self) -> dict[str, Any]:
        """Return the capabilities as plain values for the response cache."""
        return asdict(self.capabilities)


def add_costs(first: float | None, second: float | None) -> float | None:
    """Return the sum of two costs, None if either is unknown."""
    return None if first is None or second is None else first + second


def strip_headers(request: httpx2.Request, allowed: Collection[str]) -> None:
    """Remove headers that the endpoint does not need, such as facts about this machine. `allowed` are lower case."""
    for name in list(request.headers):
        if name.lower() not in allowed:
            del request.headers[name]
