"""Language models that rewrite the listings of a catalog, with an estimate before and the cost after.

rewriter = open_catalog_rewriter("api:gpt-6-luna", catalog, settings, progress)
rewriter.announce(listings)                     notes requests, tokens and dollars; submits batch jobs
rewriter.rewrite(listings[: rewriter.chunk])
rewriter.finish()                               notes and returns what it cost
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Protocol

from pricesmith.catalog.catalog import Catalog
from pricesmith.catalog.clean import CleanSettings
from pricesmith.catalog.rewriting import Rewriting
from pricesmith.core.errors import PricesmithError, UsageError
from pricesmith.core.progress import Progress
from pricesmith.core.settings import parse_settings
from pricesmith.core.types import Listing
from pricesmith.pricers.api.answer_facts import UsageStats
from pricesmith.pricers.api.eval_report import CHUNK, ApiCostReporter
from pricesmith.pricers.api.model_spec import API_PREFIX, ApiSettings
from pricesmith.pricers.api.providers import find_endpoint
from pricesmith.pricers.api.usage import Usage
from pricesmith.pricers.rewriting.api_rewriter import ApiRewriter, open_api_rewriter, parse_rewriter_model
from pricesmith.pricers.rewriting.form import PROMPT_VERSION, FormRules, RewrittenListing
from pricesmith.pricers.rewriting.local_rewriter import LocalRewriter
from pricesmith.text.formatting import format_usd

LOCAL_CHUNK = 32  # listings between two steps of progress


class CatalogRewriter(Protocol):
    """A language model that rewrites the listings of a catalog, `chunk` of them at a time."""

    chunk: int

    @property
    def rewriting(self) -> Rewriting:
        """The model, its prompt, and what a listing took on average so far."""

    def announce(self, listings: Sequence[Listing], total: int) -> None:
        """Note the estimated cost of rewriting these listings, and of all `total` listings."""

    def rewrite(self, listings: Sequence[Listing]) -> list[RewrittenListing]:
        """Return the listings in clean form."""

    def count_missing(self, listings: Iterable[Listing]) -> int:
        """Return how many answers are not in the response cache."""

    def describe_cost(self, count: int) -> str:
        """Return the cost of `count` answers at the mean cost of the answers so far, as text."""

    def finish(self) -> dict[str, Any]:
        """Note what the answers so far cost; return it for the ledger."""

    def restart(self) -> None:
        """Reset the counts: the answers of the trial are read again."""


def open_catalog_rewriter(model: str, catalog: Catalog, settings: ApiSettings, progress: Progress) -> CatalogRewriter:
    """Return the rewriter that uses `api:MODEL` or a base on this machine; closing `settings` closes it.

    Raises UsageError for options that a model does not have, InputError if a base cannot be found.
    """
    cleaning = parse_settings(CleanSettings, catalog.ledger["cleaning"], where="ledger.json")
    if model.startswith(API_PREFIX):
        rewriter = open_api_rewriter(parse_rewriter_model(model), settings, catalog.currency, progress)
        return ApiCatalogRewriter(model, rewriter, settings, cleaning)
    if settings.budget is not None or settings.batch:
        option = "--budget" if settings.budget is not None else "--batch"
        raise UsageError(
            f"{option} is for API models",
            got=f"{option} with the base {model}, which runs on this machine",
            allowed=f"{option} with --model api:MODEL",
            hint=f"Leave out {option}.",
        )
    check_base(model)
    return LocalCatalogRewriter(LocalRewriter(model, settings.response_cache(), progress=progress), cleaning, progress)


def check_base(model: str) -> None:
    """Raise UsageError for the name of a known API model without `api:`; it would be looked for on the Hub."""
    if "/" in model or Path(model).exists():
        return
    try:
        find_endpoint(model, keyless=True)
    except PricesmithError:
        return
    raise UsageError(
        f"{model} is an API model",
        got=f"--model {model}",
        allowed=f"--model {API_PREFIX}MODEL, or a base that runs on this machine",
        hint=f"Use --model {API_PREFIX}{model}.",
    )


class ApiCatalogRewriter:
    """An API model that rewrites the listings of a catalog, in batch jobs if the settings say so."""

    def __init__(self, model: str, rewriter: ApiRewriter, settings: ApiSettings, cleaning: CleanSettings) -> None:
        self.model, self.rewriter, self.settings = model, rewriter, settings
        self.rules = FormRules(cleaning, Rewriting(model=model, prompt_version=PROMPT_VERSION).id)
        self.reporter = ApiCostReporter(rewriter, dict)
        self.chunk = self.reporter.batch
        self.answers = 0

    @property
    def rewriting(self) -> Rewriting:
        """The model, its prompt, and the dollars of a listing at the price of single requests now."""
        return Rewriting(model=self.model, prompt_version=PROMPT_VERSION, usd_per_listing=self.usd_per_listing())

    def usd_per_listing(self) -> float | None:
        """Return the mean cost of an answer if it is asked by itself now; None if unknown or before the first."""
        usage = self.rewriter.usage
        if not self.answers:
            return None
        price = self.rewriter.price_now()
        if price is None:
            return usage.cost / self.answers if usage.cost_known and self.rewriter.batch is None else None
        cost = price.cost_of_many(Usage(usage.tokens["input"], usage.tokens["output"]), self.answers)
        return None if cost is None else cost / self.answers

    def announce(self, listings: Sequence[Listing], total: int) -> None:
        """Note requests, tokens and dollars for these listings, and dollars for all; submit batch jobs."""
        if self.settings.batch:
            self.rewriter.batch = self.settings.open_batch(self.rewriter)
        self.reporter.revised = False
        self.reporter.n_requests = 0
        self.reporter.before(listings)
        cost = self.reporter.estimated_cost(self.reporter.output.tokens) if self.reporter.n_requests else None
        if cost is not None and total > len(listings):
            of_all = cost / self.reporter.n_requests * total
            self.rewriter.progress.note(f"All {total:,} listings: about {format_usd(of_all)} at the same rate.")

    def rewrite(self, listings: Sequence[Listing]) -> list[RewrittenListing]:
        """Return the listings in clean form."""
        answers = self.rewriter.rewrite(listings, self.rules)
        self.answers += sum(not answer.error for answer in answers)
        return answers

    def count_missing(self, listings: Iterable[Listing]) -> int:
        """Return how many answers are not in the response cache."""
        missing, part = 0, list[Listing]()
        for listing in listings:
            part.append(listing)
            if len(part) == CHUNK:
                missing, part = missing + self.count_part(part), []
        return missing + self.count_part(part)

    def count_part(self, listings: Sequence[Listing]) -> int:
        """Return how many answers of a few listings are not in the response cache."""
        keys = {request.key for request in self.rewriter.requests(listings)}
        return len(keys - self.rewriter.cache.find(keys).keys())

    def describe_cost(self, count: int) -> str:
        """Return the dollars of `count` answers at the mean cost of the answers so far."""
        usage = self.rewriter.usage
        if not usage.cost_known or not self.answers:
            return "an unknown cost"
        return f"about {format_usd(usage.cost / self.answers * count)}"

    def finish(self) -> dict[str, Any]:
        """Note what the answers so far cost; return dollars, None if unknown, tokens and counts."""
        facts = self.reporter.after()
        return {name: facts[name] for name in ("spent_usd", "tokens", "answers", "requests")}

    def restart(self) -> None:
        """Reset the counts."""
        self.rewriter.usage, self.answers = UsageStats(), 0


class LocalCatalogRewriter:
    """A base model on this machine that rewrites the listings of a catalog."""

    chunk = LOCAL_CHUNK

    def __init__(self, rewriter: LocalRewriter, cleaning: CleanSettings, progress: Progress) -> None:
        self.model, self.rewriter, self.progress = rewriter.base.name, rewriter, progress  # a path is absolute
        self.rules = FormRules(cleaning, self.rewriting.id)
        self.remaining = self.total = 0

    @property
    def rewriting(self) -> Rewriting:
        """The base and its prompt; a listing costs no dollars, and about so many seconds."""
        written, seconds = self.rewriter.written, self.rewriter.seconds
        return Rewriting(
            model=self.model,
            prompt_version=PROMPT_VERSION,
            base_fingerprint=self.rewriter.fingerprint,
            base_revision=self.rewriter.base.revision,
            usd_per_listing=0.0,
            seconds_per_listing=round(seconds / written, 4) if written else None,
        )

    def announce(self, listings: Sequence[Listing], total: int) -> None:
        """Note how many listings there are to write; the time is noted after the first of them."""
        self.remaining, self.total = self.count_missing(listings), total
        cached = f", {len(listings) - self.remaining:,} of them in the response cache"
        what = f"{self.model} on this machine: {len(listings):,} listings" + cached * (self.remaining < len(listings))
        if self.remaining and self.rewriter.written:
            what += f"; {self.rewriter.describe_time(self.remaining)} to write the others"
        elif self.remaining:
            what += "; the time is known after the first ones"
        self.progress.note(f"{what}.")

    def rewrite(self, listings: Sequence[Listing]) -> list[RewrittenListing]:
        """Return the listings in clean form; after the first ones written note how long the others take."""
        before = self.rewriter.written
        answers = self.rewriter.rewrite(listings, self.rules)
        self.remaining -= self.rewriter.written - before
        if not before and self.rewriter.written:
            here = self.rewriter.describe_time(max(1, self.remaining))
            of_all = self.rewriter.describe_time(self.total)
            self.progress.note(f"About {here} are left for these listings; all {self.total:,} take about {of_all}.")
        return answers

    def count_missing(self, listings: Iterable[Listing]) -> int:
        """Return how many answers are not in the response cache."""
        return len(self.rewriter.find_missing(list(listings)))

    def describe_cost(self, count: int) -> str:
        """Return how long `count` answers take at the mean time of the answers so far."""
        time = self.rewriter.describe_time(count)
        return f"about {time}" if time else "an unknown time"

    def finish(self) -> dict[str, Any]:
        """Return that the answers cost no dollars, and the seconds that writing took in this command."""
        return {"spent_usd": 0.0, "seconds": round(self.rewriter.seconds, 1), "written": self.rewriter.written}

    def restart(self) -> None:
        """Seconds and written answers are counted over the whole command."""
