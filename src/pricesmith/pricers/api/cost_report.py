"""What asking a hosted model will cost, told before, and what it came to, told after.

bill = Bill(pricer, items, memory=0)
bill.before(listings)          notes how many listings, tokens and dollars, at worst too
bill.after()                   facts for the evaluation's meta file
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from pricesmith.core.types import Item, Listing
from pricesmith.pricers.api.client import merge_callbacks
from pricesmith.pricers.api.memorization import build_request, check_memorization, choose_items
from pricesmith.pricers.api.parse_response import TRUNCATED
from pricesmith.pricers.api.pricer import ApiPricer, ApiRequest

CHUNK = 256
LETTERS_A_TOKEN = 4.0  # of English, roughly
SHORT_ANSWER = 8.0  # tokens of {"price": 24.5}


class CostReport:
    """Watches a hosted model at work. `items` gives the judged items by id, for the check of its memory; `folds` the
    judged and the shown items of each fold, none where all are judged by the pricer as it is."""

    def __init__(
        self,
        pricer: ApiPricer,
        items: Callable[[], Mapping[str, Item]],
        memory: int = 0,
        folds: Callable[[], Sequence[tuple[Sequence[Item], Sequence[Item]]]] = tuple,
    ) -> None:
        self.pricer, self.items, self.memory, self.folds = pricer, items, memory, folds
        self.to_recite: list[Item] = []
        self.batch = 8 * pricer.concurrency  # large enough to keep all busy, small enough to show progress

    def before(self, listings: Sequence[Listing]) -> None:
        """Note what asking about these listings takes."""
        pricer = self.pricer
        if self.memory:
            known = self.items()
            self.to_recite = choose_items([known[ware.id] for ware in listings if ware.id in known], self.memory)
        waiting = letters = 0
        worst = 0.0
        for requests in self.requests(listings):
            found = pricer.answers.find(request.key for request in requests)
            for request in {one.key: one for one in requests if one.key not in found}.values():
                waiting, letters, worst = waiting + 1, letters + request.letters, worst + request.worst
        if waiting:
            pricer.endpoint.check_key()
        for line in self.lines(len(listings), waiting, letters, worst):
            pricer.progress.note(line)

    def requests(self, listings: Sequence[Listing]) -> Iterator[list[ApiRequest]]:
        """What will be sent, in parts: in folds what each fold's pricer sends, which is shown other listings."""
        pricer = self.pricer
        wanted = {ware.id for ware in listings}
        parts = [
            (pricer.shown(list(train)), [item.listing for item in judged if item.listing.id in wanted])
            for judged, train in self.folds()
        ]
        for one, wares in parts or [(pricer, list(listings))]:
            for start in range(0, len(wares), CHUNK):
                yield one.requests(wares[start : start + CHUNK])
        yield [build_request(pricer, item.listing) for item in self.to_recite]

    def lines(self, count: int, waiting: int, letters: int, worst: float) -> list[str]:
        """The estimate in words."""
        pricer, price = self.pricer, self.pricer.endpoint.price
        who = f"{pricer.called} at {pricer.endpoint.host}"
        also = f" and {len(self.to_recite):,} recitals" if self.memory else ""
        if not waiting:
            return [f"{who}: {count:,} listings{also}, all remembered: nothing is asked, nothing is paid."]
        usual = pricer.answers.usual_output(pricer.endpoint.url, pricer.endpoint.model)
        tokens_in, tokens_out = letters / LETTERS_A_TOKEN, waiting * (SHORT_ANSWER if usual is None else usual)
        how = "without reasoning" if usual is None else "as in its remembered answers"
        said = [
            f"{who}: {count:,} listings{also}, {waiting:,} requests to send; about {tokens_in:,.0f} tokens in "
            f"and {tokens_out:,.0f} out ({how})."
        ]
        if price is None:
            return [*said, "What that costs is not known: no price of this model is known. It is shown as unknown."]
        about, read = price.of(round(tokens_in), round(tokens_out)), f" of {price.date}" if price.date else ""
        said.append(
            f"About ${about:,.4f}; ${worst:,.2f} at worst, with {pricer.asked.output:,} tokens out each "
            f"(${price.input:g} in, ${price.output:g} out for a million tokens{read}, {price.source})."
        )
        budget = pricer.purse.budget
        if budget is not None and worst > budget - pricer.purse.spent:
            said.append(
                f"The budget of ${budget:g} covers the estimate, not the worst: it stops before it is passed."
                if about <= budget - pricer.purse.spent
                else f"The budget of ${budget:g} will not be enough: it stops before it is passed."
            )
        return said

    def after(self) -> dict[str, Any]:
        """What it came to: for the meta file, and noted. Raises PricesmithError where nothing was answered."""
        self.pricer.check_answered()
        pricer, tally, wire = self.pricer, self.pricer.tally, self.pricer.wire
        known = tally.cost_known
        facts: dict[str, Any] = {
            "cost_known": known,
            "price": asdict(pricer.endpoint.price) if pricer.endpoint.price else None,
            "tokens": {"input": tally.tokens["input"], "output": tally.tokens["output"]},
            "spent": tally.cost if known else None,
            "lost_usd": tally.lost_usd if known else None,  # of it, for replies that never came, at worst
            "lost_of_quotes_usd": tally.lost_usd if known else None,  # the same without the check of memory
            "answers": {"asked": tally.asked, "remembered": tally.remembered, "asked_again": tally.again},
            "requests": wire.sent,
            "faults": dict(sorted(wire.faults.items())),
            "failures": dict(sorted(tally.failures.items())),
            "lost": dict(sorted(tally.lost.items())),
            "latency": "each answer's own",
        }
        if self.memory:
            facts["memory"] = check_memorization(pricer, self.to_recite, self.memory)
            pricer.progress.note(memorization_line(facts["memory"]))
            facts |= format_total(facts, facts["memory"])
        self.tell(facts)
        return facts

    def tell(self, facts: Mapping[str, Any]) -> None:
        """Note what it came to."""
        pricer, purse = self.pricer, self.pricer.purse
        answers = facts["answers"]
        most = "at most " if facts["lost_usd"] else ""
        known = facts["spent"] is not None
        cost = f"these answers cost {most}${facts['spent']:.4f}" if known else "what they cost is unknown"
        note = pricer.progress.note
        note(
            f"{pricer.called}: {answers['asked']:,} asked now in {facts['requests']:,} requests, "
            f"{answers['remembered']:,} remembered; {cost}."
        )
        if purse.budget is not None or purse.lost:
            lost = (
                f", of which ${purse.lost:.4f} for answers that never came, if they are charged" if purse.lost else ""
            )
            budget = f" of the budget of ${purse.budget:g}" if purse.budget is not None else ""
            note(f"Spent by this command so far: ${purse.spent:.4f}{budget}{lost}.")
        if facts["faults"]:
            note("Faults on the way: " + format_count(facts["faults"]) + ".")
        if facts["failures"]:
            note("No answer: " + format_count(facts["failures"]) + ".")
        if TRUNCATED in facts["failures"]:
            note(f"Answers were cut off at {pricer.asked.output:,} tokens: ask with a larger output= after the @.")
        if facts["lost"]:
            note(
                "No reply after all tries: "
                + format_count(facts["lost"])
                + ". --overwrite asks for these again, and only these."
            )


def format_total(facts: Mapping[str, Any], memory: Mapping[str, Any]) -> dict[str, Any]:
    """Requests, tokens, faults and dollars of the quotes and of the check of memory."""
    tokens = Counter(facts["tokens"])
    tokens.update(memory["tokens"])
    return {
        "requests": facts["requests"] + memory["requests"],
        "tokens": dict(tokens),
        "faults": dict(sorted((Counter(facts["faults"]) + Counter(memory["faults"])).items())),
        **{name: merge_callbacks(facts[name], memory[name]) for name in ("spent", "lost_usd")},
    }


def format_count(counts: Mapping[str, int]) -> str:
    """`3 a range, 2 a refusal`."""
    return ", ".join(f"{count:,} {what}" for what, count in counts.items())


def memorization_line(memory: Mapping[str, Any]) -> str:
    """The check of memory in words."""
    return (
        f"Memory: of {memory['asked']:,} listings it was given the first half of, it went on word for word for 8 words "
        f"with {memory['eight_words']:,}, to the end with {memory['whole']:,}, and named the price to the cent with "
        f"{memory['price']:,} ({memory['price_by_chance']:g} by chance)."
    )
