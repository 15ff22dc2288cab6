"""An API model that rewrites listings: asked, budgeted and cached like one that prices them.

rewriter = open_api_rewriter(parse_rewriter_model("api:gpt-6-luna"), settings, "USD")
rewriter.rewrite(listings, rules)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from pricesmith.core.errors import UsageError
from pricesmith.core.progress import SILENT, Progress
from pricesmith.core.types import Listing
from pricesmith.pricers.api.client import RequestFailed
from pricesmith.pricers.api.few_shot import Examples
from pricesmith.pricers.api.model_spec import ApiModel, ApiSettings, parse_api_model
from pricesmith.pricers.api.pricer import ApiPricer, ApiRequest, Messages, Results
from pricesmith.pricers.api.response_cache import REWRITING
from pricesmith.pricers.rewriting.form import FormRules, RewrittenListing, chat_messages, read_rewriting

ANSWER_TOKENS = 120.0  # of a clean form, about
NO_REPLY = "no reply"


class ApiRewriter(ApiPricer):
    """An `ApiPricer` whose requests ask for the clean form of a listing, and not for its price."""

    purpose = REWRITING
    answer_tokens = ANSWER_TOKENS

    def messages(self, listing: Listing, examples: Examples) -> Messages:
        """Return the chat about a listing. No priced listing is shown."""
        return chat_messages(listing)

    def rewrite(self, listings: Sequence[Listing], rules: FormRules) -> list[RewrittenListing]:
        """Return the listings in clean form. Cached replies are not requested again.

        Raises PricesmithError if the endpoint stops answering, BudgetExceeded if the budget ends; answers received
        until then stay in the cache.
        """
        requests = self.requests(listings)
        return self.read(listings, requests, self.complete(requests), rules)

    def read(
        self, listings: Sequence[Listing], requests: Sequence[ApiRequest], results: Results, rules: FormRules
    ) -> list[RewrittenListing]:
        """Return the listings as their replies rewrite them, and count the replies."""
        rewritten = []
        for listing, request in zip(listings, requests, strict=True):
            result = self.record(results[request.key])
            if isinstance(result, RequestFailed):
                words = replace(listing, rewriting=rules.rewriting)
                error = f"{NO_REPLY}: {result.got}"
                rewritten.append(RewrittenListing(words, NO_REPLY, cost_usd=result.cost_usd, error=error))
                continue
            answer = read_rewriting(listing, result.text, result.finish, rules, result.cost_usd)
            if answer.reason:
                self.usage.unanswered[answer.reason] += 1
            rewritten.append(answer)
        return rewritten


def open_api_rewriter(
    model: ApiModel, settings: ApiSettings, currency: str, progress: Progress = SILENT
) -> ApiRewriter:
    """Return the rewriter of an API model, which is closed with these settings; raises as `build_pricer` does."""
    rewriter = settings.build_pricer(model, currency, progress=progress, cls=ApiRewriter)
    assert isinstance(rewriter, ApiRewriter)
    return rewriter


def parse_rewriter_model(spec: str) -> ApiModel:
    """Return the model of `api:MODEL@name=value,...`. Raises UsageError for options that show or ask for prices."""
    model = parse_api_model(spec)
    options = model.options
    given = [name for name in ("shots", "comparables", "memorization_check") if getattr(options, name)]
    if given:
        raise UsageError(
            "A model that rewrites listings is shown no prices",
            got=f"{given[0]}={getattr(options, given[0])}",
            allowed="an API model without shots=, comparables= and memorization_check=",
            hint="Leave them out.",
        )
    return replace(model, options=options.model_copy(update={"json_answer": False}))
