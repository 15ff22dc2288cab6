"""The requests and replies of batch jobs, and the single request before them.

A request has the same key in the response cache as one that is asked by itself, so the answers of batch jobs serve
every command. Gemini's batch jobs have requests of Gemini's own form: a single one is asked in that form too.
"""

from __future__ import annotations

import threading
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from pricesmith.pricers.api.batch_jobs.http import Clock
from pricesmith.pricers.api.client import ApiClient, CompletionCall, RequestFailed
from pricesmith.pricers.api.costs import answer_cost
from pricesmith.pricers.api.errors import STATUS_REJECTED, classify_status, parse_completion
from pricesmith.pricers.api.formats.base import ApiError
from pricesmith.pricers.api.pricer import max_input_tokens
from pricesmith.pricers.api.providers import to_native_format
from pricesmith.pricers.api.response_cache import Completion
from pricesmith.pricers.api.usage import BATCH, Usage

if TYPE_CHECKING:
    from pricesmith.pricers.api.pricer import ApiPricer, ApiRequest


class BatchQuestions:
    """Writes the requests of an API model for batch jobs, and reads their replies.

    Without a known price of batch jobs the standard price is the worst case, and costs are unknown.
    """

    def __init__(self, pricer: ApiPricer, clock: Clock) -> None:
        self.pricer, self.endpoint, self.clock = pricer, to_native_format(pricer.endpoint), clock
        self.client: ApiClient = pricer.client
        if self.endpoint != pricer.endpoint:
            self.client = pricer.new_client(schema=pricer.options.json_answer, endpoint=self.endpoint)
        self.worst_price = None
        if prices := self.endpoint.price:
            self.worst_price = prices.worst_case(pricer.now(), BATCH) or prices.worst_case(pricer.now())

    def body(self, request: ApiRequest) -> dict[str, Any]:
        """Return the body of a request, with the parameters that the endpoint supports."""
        call = CompletionCall(request.messages, request.worst, threading.Event(), n_shared=request.n_shared)
        return self.client.request_body(call, self.client.capabilities)

    def worst(self, request: ApiRequest) -> float:
        """Return what a request may cost at most in a batch job, in US dollars; 0 without a price."""
        usage = Usage(max_input_tokens(request.messages), self.pricer.options.max_output_tokens)
        return (self.worst_price.cost(usage) or 0.0) if self.worst_price else 0.0

    def read(self, status: int, body: bytes) -> tuple[Completion, float | None] | ApiError:
        """Return what a reply means: a completion and what counts against the budget (None if unknown), or an error."""
        secrets, prices = self.endpoint.secrets, self.endpoint.price
        if not 200 <= status < 300:
            reply = classify_status(status, {}, body, secrets, proven=True)
        else:
            max_tokens = self.pricer.options.max_output_tokens
            reply = parse_completion(body, prices, max_tokens, secrets, self.endpoint.format, tier=BATCH)
        if isinstance(reply, ApiError):
            return reply
        reply = replace(reply, seconds=None, tier=BATCH, answered_at=self.clock.now())
        if reply.finish == STATUS_REJECTED:
            return reply, 0.0
        cost = answer_cost(prices, reply, moment=self.pricer.now())
        return replace(reply, cost_usd=cost.report), cost.budget

    def ask(self, request: ApiRequest) -> bool:
        """Ask one request by itself at the standard price, and store its reply; return whether parameters are settled.

        Raises PricesmithError if there is no reply.
        """
        result = self.pricer.ask_now([request], self.client)[request.key]
        if isinstance(result, RequestFailed):
            raise self.pricer.down_error(1, result)
        return self.client.proven

    def close(self) -> None:
        """Close the connections of an own client."""
        if self.client is not self.pricer.client:
            self.client.close()
