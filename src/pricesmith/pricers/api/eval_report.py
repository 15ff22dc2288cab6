"""What an evaluation of an API model reports beside its quotes: its cost, and whether listings were memorized.

    report = ApiCostReporter(pricer, items)
    report.before(listings)          notes the number of listings, tokens and dollars, also at worst
    report.after()                   returns facts for the evaluation's meta file

    check_memorization(pricer, items, 50)
    {"asked": 50, "eight_words": 3, "whole": 1, "price": 2, "price_by_chance": 0.4, ...}

For the memorization check the model gets the first half of a listing and continues it with the price. A model that
continues word for word has read this very listing, and perhaps its price: its error here then says little about new
products. Only listings with a long enough second half count. A price counts if it is right to the cent;
`price_by_chance` is how many would be right if the answers were dealt to the other listings.
"""

from __future__ import annotations

import hashlib
import itertools
import math
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from pricesmith.core.types import EACH_REQUEST, Item, Listing, render
from pricesmith.pricers.api.answer_facts import other_models_line
from pricesmith.pricers.api.client import ApiClient, RequestFailed, add_costs
from pricesmith.pricers.api.estimate import MIN_ANSWERS, OutputEstimate, estimate_output_tokens, estimate_tokens
from pricesmith.pricers.api.model_list import read_endpoint
from pricesmith.pricers.api.parse_response import TRUNCATED, has_several_numbers
from pricesmith.pricers.api.pricer import ApiPricer, ApiRequest
from pricesmith.pricers.api.prices import TokenPrice
from pricesmith.pricers.api.response_cache import MEMORIZATION, Completion
from pricesmith.pricers.api.usage import BATCH, Usage
from pricesmith.text.formatting import format_count
from pricesmith.text.price_parser import parse_price
from pricesmith.text.prompts import repair_unicode
from pricesmith.text.words import split_pieces, split_words

CHUNK = 256  # listings whose requests are built at once
REVISED_FACTOR = 1.25  # an estimate that was off by more than this is corrected during the run


class ApiCostReporter:
    """Reports the cost of an API model's evaluation.

    `items` returns the evaluated items by id, for the memorization check of `n_memorization` items; `folds` returns the
    evaluated items and the items that may be shown, for each fold, or nothing if there are no folds.
    """

    def __init__(
        self,
        pricer: ApiPricer,
        items: Callable[[], Mapping[str, Item]],
        n_memorization: int = 0,
        folds: Callable[[], Sequence[tuple[Sequence[Item], Sequence[Item]]]] = tuple,
    ) -> None:
        self.pricer, self.items, self.n_memorization, self.folds = pricer, items, n_memorization, folds
        self.memorization_items: list[Item] = []
        self.output, self.n_requests, self.tokens_in = OutputEstimate(0.0, ""), 0, 0.0  # as `before` noted
        self.revised = False
        self.batch = 8 * pricer.concurrency  # large enough to keep all threads busy, small enough to show progress

    def before(self, listings: Sequence[Listing]) -> None:
        """Note how many requests, tokens and dollars asking about these listings takes."""
        pricer = self.pricer
        if self.n_memorization:
            by_id = self.items()
            known = [by_id[listing.id] for listing in listings if listing.id in by_id]
            self.memorization_items = choose_items(known, self.n_memorization)
        n_requests = 0
        tokens = worst = 0.0
        batched: list[ApiRequest] = []
        checks = [build_request(pricer, item.listing) for item in self.memorization_items]  # asked one by one
        for requests in itertools.chain(self.requests(listings), [checks]):
            batch = None if requests is checks else pricer.batch
            if batch is not None:
                batched += requests
            cached = pricer.cache.find(request.key for request in requests)
            for request in {request.key: request for request in requests if request.key not in cached}.values():
                n_requests += 1
                tokens += sum(estimate_tokens(message["content"]) for message in request.messages)
                worst += request.worst if batch is None else batch.worst(request)
        if n_requests:
            pricer.endpoint = read_endpoint(pricer.client, pricer.now().date())
            pricer.endpoint.check_ready(pricer.now().date())
        for line in self.estimate_lines(len(listings), n_requests, tokens, worst):
            pricer.progress.note(line)
        if n_requests:
            pricer.after_answers = self.revise_once
        if pricer.batch is not None:
            pricer.batch.submit(batched)

    def requests(self, listings: Sequence[Listing]) -> Iterator[list[ApiRequest]]:
        """Yield the requests about prices, in chunks: each fold has a pricer that is shown other examples."""
        pricer = self.pricer
        ids = {listing.id for listing in listings}
        parts = [
            (pricer.with_examples(list(train)), [item.listing for item in items if item.listing.id in ids])
            for items, train in self.folds()
        ]
        for fold_pricer, fold_listings in parts or [(pricer, list(listings))]:
            for start in range(0, len(fold_listings), CHUNK):
                yield fold_pricer.requests(fold_listings[start : start + CHUNK])

    def estimate_lines(self, n_listings: int, n_requests: int, tokens_in: float, worst: float) -> list[str]:
        """Return the estimate as sentences."""
        pricer, prices, price = self.pricer, self.pricer.endpoint.price, self.price_now()
        subject = f"{pricer.label} at {pricer.endpoint.host}: {n_listings:,} listings"
        if self.n_memorization:
            subject += f" and {len(self.memorization_items):,} memorization checks"
        if not n_requests:
            return [f"{subject}, all in the response cache: no request is sent, nothing is paid."]
        self.output = estimate_output_tokens(pricer)
        self.n_requests, self.tokens_in = n_requests, tokens_in
        tokens_out = n_requests * self.output.tokens
        lines = [
            f"{subject}, {n_requests:,} requests to send; about {tokens_in:,.0f} input tokens "
            f"and {tokens_out:,.0f} output tokens ({self.output.basis})."
        ]
        if warning := pricer.endpoint.shutdown_warning(pricer.now().date()):
            lines.append(warning)
        if prices is None or price is None:
            return [*lines, "Cost: unknown, because no price of this model is known."]
        cost = self.estimated_cost(self.output.tokens) or 0.0
        lines.append(
            f"Estimated cost: {format_usd(cost)}; at most {format_usd(worst)}, with "
            f"{pricer.options.max_output_tokens:,} output tokens each ({prices.describe(pricer.now(), self.tier)})."
        )
        budget = pricer.budget
        if budget.limit is not None and worst > budget.limit - budget.spent:
            lines.append(
                f"The budget of ${budget.limit:g} covers the estimate but not the worst case; it is never exceeded."
                if cost <= budget.limit - budget.spent
                else f"The budget of ${budget.limit:g} will not be enough; the command stops before exceeding it."
            )
        return lines

    @property
    def tier(self) -> str:
        """The service tier of most requests, empty for the standard one."""
        return self.pricer.tier if self.pricer.batch is None else BATCH

    def price_now(self) -> TokenPrice | None:
        """Return the price of tokens now on the tier of most requests, None if unknown."""
        prices = self.pricer.endpoint.price
        return prices.at(self.pricer.now(), self.tier) if prices else None

    def estimated_cost(self, tokens_out: float) -> float | None:
        """Return the estimated cost of all requests in US dollars, None if unknown."""
        price = self.price_now()
        usage = Usage(round(self.tokens_in), round(self.n_requests * tokens_out))
        return price.cost_of_many(usage, self.n_requests) if price else None

    def revise_once(self) -> None:
        """Correct the estimate by the first answers of the run, and note it if it was far off."""
        usage = self.pricer.usage
        if self.revised or usage.n_counted < MIN_ANSWERS:
            return
        self.revised = True
        mean = usage.output_tokens / usage.n_counted
        ratio = max(mean, 1.0) / max(self.output.tokens, 1.0)
        if not 1 / REVISED_FACTOR <= ratio <= REVISED_FACTOR:
            cost = self.estimated_cost(mean)
            of_all = f"; estimated cost of all {self.n_requests:,}: {format_usd(cost)}" if cost is not None else ""
            self.pricer.progress.note(
                f"The first {usage.n_counted:,} answers took {mean:,.0f} output tokens each, "
                f"not {self.output.tokens:,.0f}{of_all}."
            )

    def after(self) -> dict[str, Any]:
        """Return the facts for the meta file, and note them. Unknown costs are None.

        Raises PricesmithError if nothing was answered.
        """
        self.pricer.check_answered()
        pricer, usage, client = self.pricer, self.pricer.usage, self.pricer.client
        known = usage.cost_known
        facts: dict[str, Any] = {
            "cost_known": known,
            "price": price_facts(pricer),
            "tokens": {"input": usage.tokens["input"], "output": usage.tokens["output"]},
            **usage.answers.to_dict(pricer.endpoint.model),
            "spent_usd": usage.cost if known else None,
            # The part of it for replies that never arrived, at worst; and the same without the memorization check.
            "failed_tries_usd": usage.failed_tries_usd if known else None,
            "quotes_failed_tries_usd": usage.failed_tries_usd if known else None,
            "answers": {
                "requested": usage.requested,
                "cached": usage.cached,
                "from_batch_jobs": usage.from_batch_jobs,
                "requested_again": usage.requested_again,
            },
            "requests": client.n_requests,
            "errors": dict(sorted(client.error_counts.items())),
            "unanswered": dict(sorted(usage.unanswered.items())),
            "no_reply": dict(sorted(usage.no_reply.items())),
            "latency": EACH_REQUEST,
            "reasoning_effort_sent": client.effort,
        }
        if self.n_memorization:
            facts["memorization"] = check_memorization(pricer, self.memorization_items, self.n_memorization)
            pricer.progress.note(memorization_line(facts["memorization"]))
            facts |= add_memorization(facts, facts["memorization"])
        for line in self.result_lines(facts):
            pricer.progress.note(line)
        return facts

    def result_lines(self, facts: Mapping[str, Any]) -> list[str]:
        """Return the facts as sentences."""
        pricer, budget = self.pricer, self.pricer.budget
        answers = facts["answers"]
        at_most = "at most " if facts["failed_tries_usd"] else ""
        known = facts["spent_usd"] is not None
        cost = f"cost of these answers: {at_most}{format_usd(facts['spent_usd'])}" if known else "cost: unknown"
        lines = [
            f"{pricer.label}: {format_count(answers['requested'], 'answer')} in "
            f"{format_count(facts['requests'], 'request')}, "
            f"{format_count(answers['cached'], 'answer')} from the response cache; {cost}."
        ]
        if answers["from_batch_jobs"]:
            lines.append(f"{answers['from_batch_jobs']:,} answers came from batch jobs, at half the price.")
        if budget.limit is not None or budget.failed_tries_usd:
            failed = budget.failed_tries_usd
            part = f", up to {format_usd(failed)} of it for replies that never arrived" if failed else ""
            limit = f" of the budget of ${budget.limit:g}" if budget.limit is not None else ""
            lines.append(f"Spent by this command so far: {format_usd(budget.spent)}{limit}{part}.")
        if facts["errors"]:
            lines.append(f"Errors that were retried or skipped: {format_counts(facts['errors'])}.")
        if others := other_models_line(pricer.endpoint.model, facts["other_models"]):
            lines.append(others)
        if facts["unanswered"]:
            lines.append(f"No answer: {format_counts(facts['unanswered'])}.")
        if TRUNCATED in facts["unanswered"]:
            limit = f"{pricer.options.max_output_tokens:,}"
            lines.append(f"Some replies were truncated at {limit} tokens: use a larger max_output_tokens= after the @.")
        if facts["no_reply"]:
            counts = format_counts(facts["no_reply"])
            lines.append(f"No reply after all tries: {counts}. --overwrite requests these again, and only these.")
        return lines


def price_facts(pricer: ApiPricer) -> dict[str, Any] | None:
    """Return the token price now, in US dollars per million, with its date and source; None if unknown."""
    prices, price = pricer.endpoint.price, pricer.price_now()
    if prices is None or price is None:
        return None
    return {**price.to_dict(), "date": prices.date, "source": prices.source, "note": prices.note}


def format_usd(amount: float) -> str:
    """Return US dollars with four decimals below 1 cent to 10 dollars, two above; a tiny amount is never $0."""
    if 0 < amount < 0.0001:
        return "less than $0.0001"
    return f"${amount:,.4f}" if amount < 10 else f"${amount:,.2f}"


def add_memorization(facts: Mapping[str, Any], memorization: Mapping[str, Any]) -> dict[str, Any]:
    """Return requests, tokens, errors and dollars of the quotes and the memorization check together."""
    tokens = Counter(facts["tokens"])
    tokens.update(memorization["tokens"])
    return {
        "requests": facts["requests"] + memorization["requests"],
        "tokens": dict(tokens),
        "errors": dict(sorted((Counter(facts["errors"]) + Counter(memorization["errors"])).items())),
        **{name: add_costs(facts[name], memorization[name]) for name in ("spent_usd", "failed_tries_usd")},
    }


def format_counts(counts: Mapping[str, int]) -> str:
    """Return counts as text: `3 a range, 2 a refusal`."""
    return ", ".join(f"{count:,} {what}" for what, count in counts.items())


def memorization_line(memorization: Mapping[str, Any]) -> str:
    """Return the memorization check as a sentence."""
    return (
        f"Memorization: of {memorization['asked']:,} listings whose first half was shown, the model continued "
        f"{memorization['eight_words']:,} word for word for 8 words and {memorization['whole']:,} to the end; "
        f"{memorization['price']:,} prices were right to the cent ({memorization['price_by_chance']:g} by chance)."
    )


N_MATCHING_WORDS = 8  # consecutive words that nobody continues by accident
MIN_REST_WORDS = 10  # of the second half
MAX_HALVED_WORDS = 400  # of a listing
MAX_HALVED_CHARS = 8_000
MEMORIZATION_PROMPT = "You know product listings by heart."
CONTINUE_QUESTION = (
    "This is how a product listing begins. Go on exactly where it stops, word for word, as it was published. "
    "End with a line that says Price: and the price it was listed at.\n\n"
)
ANSWERED_PRICE = re.compile(r"price\W{0,4}\s*([^\n]{1,40})", re.IGNORECASE)


def split_halves(listing: Listing) -> tuple[str, list[str]] | None:
    """Return the text of a listing's first half and the words of its second; None if that is too short."""
    text = repair_unicode(render(listing))[:MAX_HALVED_CHARS]
    pieces = split_pieces(text)[:MAX_HALVED_WORDS]
    middle = len(pieces) // 2
    rest = split_words("".join(pieces[middle:]))
    return ("".join(pieces[:middle]), rest) if len(rest) >= MIN_REST_WORDS else None


def choose_items(items: Sequence[Item], count: int) -> list[Item]:
    """Return `count` items whose second half is long enough, in a fixed pseudo-random order."""
    suitable = [item for item in items if split_halves(item.listing) is not None]
    return sorted(suitable, key=lambda item: hashlib.sha256(f"recite {item.listing.id}".encode()).digest())[:count]


def build_request(pricer: ApiPricer, listing: Listing) -> ApiRequest:
    """Return the request that asks for a listing's second half."""
    halves = split_halves(listing)
    assert halves is not None
    messages = (
        {"role": "system", "content": MEMORIZATION_PROMPT},
        {"role": "user", "content": CONTINUE_QUESTION + halves[0]},
    )
    return pricer.request(messages, schema=False, purpose=MEMORIZATION)


def check_memorization(pricer: ApiPricer, items: Sequence[Item], count: int) -> dict[str, Any]:
    """Ask for the second halves of up to `count` items; return how many came word for word, with usage and cost.

    The replies are cached and paid from the pricer's budget, and are no part of any quote.
    """
    chosen = choose_items(items, count)
    requests = [build_request(pricer, item.listing) for item in chosen]
    client = pricer.new_client(schema=False)
    try:
        results = pricer.complete(requests, client)
    finally:
        client.close()
    counts: Counter[str] = Counter()
    prices: list[tuple[float, float]] = []  # of the answer, true
    for item, request in zip(chosen, requests, strict=True):
        result = results[request.key]
        if isinstance(result, RequestFailed):
            counts["no_reply"] += 1
            continue
        halves = split_halves(item.listing)
        assert halves is not None
        counts.update(count_matches(result.text, halves[1]))
        price = find_price(result.text, pricer.prompt.currency)
        if price is not None:
            prices.append((price, item.price))
    return {
        "asked": len(chosen),
        **{name: counts[name] for name in ("eight_words", "whole", "no_reply")},
        "price": sum(is_same_amount(price, truth) for price, truth in prices),
        "price_by_chance": matches_by_chance(prices),
        **usage_facts(pricer, client, results),
    }


def usage_facts(
    pricer: ApiPricer, client: ApiClient, results: Mapping[str, Completion | RequestFailed]
) -> dict[str, Any]:
    """Return the requests of this check, and tokens and dollars of all its replies, None if unknown."""
    completions = [pricer.reprice(result) for result in results.values() if isinstance(result, Completion)]
    failures = [result for result in results.values() if isinstance(result, RequestFailed)]
    costs = [completion.cost_usd for completion in completions] + [failure.cost_usd for failure in failures]
    return {
        "requests": client.n_requests,
        "tokens": {
            "input": sum(completion.tokens_in or 0 for completion in completions),
            "output": sum(completion.tokens_out or 0 for completion in completions),
        },
        "spent_usd": None if None in costs else math.fsum(cost or 0.0 for cost in costs),
        "failed_tries_usd": client.failed_tries_usd if client.cost_known else None,
        "errors": dict(sorted(client.error_counts.items())),
    }


def count_matches(text: str, rest: Sequence[str]) -> list[str]:
    """Return how far a text continues a listing: `eight_words` from its start, `whole` to its end."""
    words = split_words(text)[: len(rest)]
    same_start = words[:N_MATCHING_WORDS] == list(rest[:N_MATCHING_WORDS])
    return ["eight_words"] * same_start + ["whole"] * (words == list(rest))


def find_price(text: str, currency: str) -> float | None:
    """Return the price in the last line with the word price, None without one."""
    matches = ANSWERED_PRICE.findall(text)
    if matches and has_several_numbers(matches[-1]):
        return None
    value = parse_price(matches[-1].strip().rstrip("*. "), currency) if matches else ""
    return value[0] if isinstance(value, tuple) else None


def is_same_amount(first: float, second: float) -> bool:
    """Return whether two prices are the same to the cent."""
    return abs(first - second) < 0.005


def matches_by_chance(prices: Sequence[tuple[float, float]]) -> float:
    """Return how many answered prices would be right if each were compared with the other listings' prices."""
    n_others = max(1, len(prices) - 1)
    matches = sum(
        is_same_amount(price, truth)
        for i, (price, _) in enumerate(prices)
        for j, (_, truth) in enumerate(prices)
        if i != j
    )
    return round(matches / n_others, 2)
