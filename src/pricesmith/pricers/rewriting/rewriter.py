"""Rewrites the listings that a model prices in the way in which the listings of its catalog were rewritten.

    rewriter = ListingRewriter(rewriting, cleaning, currency)
    rewriter.rewrite(listings)           under the API settings of the command (`current_settings`)

An API model that cannot be asked leaves a listing as it is, with the reason in `error`, if the settings of the command
allow it (`ApiSettings.fallback`); otherwise its error is raised. Listings that are in the form already are not asked
about.
"""

from __future__ import annotations

import time
import weakref
from collections.abc import Sequence
from dataclasses import replace

from pricesmith.catalog.clean import CleanSettings
from pricesmith.catalog.rewriting import Rewriting, check_form
from pricesmith.core.errors import InputError, PricesmithError, UsageError
from pricesmith.core.types import Listing
from pricesmith.pricers.api.limits import BudgetExceeded
from pricesmith.pricers.api.model_spec import API_PREFIX, CURRENT, ApiSettings
from pricesmith.pricers.rewriting.api_rewriter import ApiRewriter, open_api_rewriter, parse_rewriter_model
from pricesmith.pricers.rewriting.form import PROMPT_VERSION, FormRules, RewrittenListing
from pricesmith.pricers.rewriting.local_rewriter import LocalRewriter

RETRY_SECONDS = 60.0  # between two tries of an endpoint that did not answer
BUDGET_SPENT = "the budget is spent"


class ListingRewriter:
    """The rewriting of a model folder. Its language model is opened when the first listing needs it.

    Raises InputError if this version of Pricesmith has another prompt, or if the model cannot be named.
    """

    def __init__(self, rewriting: Rewriting, cleaning: CleanSettings, currency: str) -> None:
        check_version(rewriting)
        self.rewriting, self.currency = rewriting, currency
        self.rules = FormRules(cleaning, rewriting.id)
        self.api_model = parse_rewriter_model(rewriting.model) if self.asks_api else None
        self._language_model: ApiRewriter | LocalRewriter | None = None
        self._settings: ApiSettings | None = None
        self._own_settings: ApiSettings | None = None  # outside any block of settings
        self._silent_until, self._reason = float("-inf"), ""

    @property
    def asks_api(self) -> bool:
        """Whether an API model is asked, which costs money."""
        return self.rewriting.model.startswith(API_PREFIX)

    @property
    def language_model(self) -> ApiRewriter | LocalRewriter:
        """The language model under the current settings."""
        settings = CURRENT.get() or self._own_settings
        if settings is None:
            settings = self._own_settings = ApiSettings()
            weakref.finalize(self, settings.exit_stack.close)  # no block of settings closes them
        if self._language_model is None or self._settings is not settings:
            if self.api_model is not None:
                self._language_model = open_api_rewriter(self.api_model, settings, self.currency)
            elif isinstance(self._language_model, LocalRewriter):
                self._language_model.cache = settings.response_cache()
            else:
                self._language_model = open_local(self.rewriting, settings)
            self._settings, self._silent_until = settings, float("-inf")
        return self._language_model

    def rewrite(self, listings: Sequence[Listing]) -> list[RewrittenListing]:
        """The listings in clean form, in order.

        Raises UsageError for listings that were rewritten in another way, and for a missing key or price;
        PricesmithError if the language model cannot be asked and the settings do not allow a fallback.
        """
        check_form(listings, self.rewriting.id)
        raw = [listing for listing in listings if not listing.rewriting]
        if not raw:
            return [RewrittenListing(listing) for listing in listings]
        language_model = self.language_model
        answers = iter(
            self.ask(language_model, raw)
            if isinstance(language_model, ApiRewriter)
            else language_model.rewrite(raw, self.rules)
        )
        return [RewrittenListing(listing) if listing.rewriting else next(answers) for listing in listings]

    def ask(self, language_model: ApiRewriter, listings: Sequence[Listing]) -> list[RewrittenListing]:
        """The listings as an API model rewrites them."""
        assert self._settings is not None
        if time.monotonic() >= self._silent_until:
            try:
                answers = language_model.rewrite(listings, self.rules)
                if language_model.is_down and self._settings.fallback:
                    self.stay_silent(next(answer.error for answer in answers if answer.error))
                return answers
            except UsageError:
                raise
            except PricesmithError as error:
                if not self._settings.fallback:
                    raise
                spent = isinstance(error, BudgetExceeded)
                is_spent = spent and not language_model.budget.overrun
                self.stay_silent(BUDGET_SPENT if is_spent else error.what, 0.0 if spent else RETRY_SECONDS)
        requests = language_model.requests(listings)
        cached = language_model.find_cached(request.key for request in requests)
        pairs = list(zip(listings, requests, strict=True))
        known = [(listing, request) for listing, request in pairs if request.key in cached]
        own = ([listing for listing, _ in known], [request for _, request in known])
        known_answers = iter(language_model.read(*own, dict(cached), self.rules))
        return [
            next(known_answers)
            if request.key in cached
            else RewrittenListing(replace(listing, rewriting=self.rewriting.id), self._reason, error=self._reason)
            for listing, request in pairs
        ]

    def stay_silent(self, reason: str, seconds: float = RETRY_SECONDS) -> None:
        """Ask nothing for some seconds (0: a budget may be renewed at any time): each listing would wait for its
        tries."""
        self._reason, self._silent_until = reason, time.monotonic() + seconds


def open_local(rewriting: Rewriting, settings: ApiSettings) -> LocalRewriter:
    """The base model of a rewriting. Raises InputError if it is not the one that rewrote the catalog."""
    language_model = LocalRewriter(rewriting.model, settings.response_cache(), revision=rewriting.base_revision)
    if language_model.fingerprint != rewriting.base_fingerprint:
        raise InputError(
            f"The base {rewriting.model} is not the one that rewrote the listings of the catalog",
            got=f"base {language_model.fingerprint[:16]}",
            allowed=rewriting.base_fingerprint[:16],
            hint="Restore that version of the base, or rewrite the catalog and fit again.",
        )
    return language_model


def check_version(rewriting: Rewriting) -> None:
    """Raise InputError if listings cannot be rewritten as those of the catalog were: this version asks otherwise."""
    if rewriting.prompt_version != PROMPT_VERSION:
        raise InputError(
            "The listings of the catalog were rewritten with another prompt than this version of Pricesmith has",
            got=f"prompt version {rewriting.prompt_version}",
            allowed=f"{PROMPT_VERSION}",
            hint="Rewrite the catalog with this version and fit the model again.",
        )
