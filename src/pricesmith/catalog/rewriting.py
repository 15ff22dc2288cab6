"""How a language model has rewritten the titles and texts of a catalog's listings (`pricesmith rewrite`).

It stands in the ledger of the catalog and in every model that is fitted on it: a model prices listings that were
rewritten in the same way.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import ConfigDict, Field

from pricesmith.core.errors import UsageError
from pricesmith.core.settings import Settings
from pricesmith.core.types import Listing


class Rewriting(Settings):
    """The language model (`api:MODEL@...` or a base on this machine), its prompt, and the fingerprint of a base.

    `base_revision` is the commit of a base from the Hub. `usd_per_listing` and `seconds_per_listing` are what rewriting
    a listing took on average: None if unknown, and the seconds also for an API model. Other entries, such as the counts
    of a ledger, are allowed.
    """

    model_config = ConfigDict(frozen=True, extra="ignore", allow_inf_nan=False)
    model: str = Field(min_length=1, max_length=1_000)
    prompt_version: int = Field(ge=1)
    base_fingerprint: str = ""
    base_revision: str | None = None
    usd_per_listing: float | None = Field(None, ge=0)
    seconds_per_listing: float | None = Field(None, ge=0)

    @property
    def id(self) -> str:
        """The identity of the rewriting: listings with the same one are in the same form."""
        facts = f"{self.model}\0{self.prompt_version}\0{self.base_fingerprint}"
        return hashlib.sha256(facts.encode("utf-8", "surrogatepass")).hexdigest()[:16]


def read_rewriting_facts(facts: Mapping[str, Any]) -> Rewriting | None:
    """The rewriting in a ledger or in the facts of a model's catalog; None if there is none."""
    values = facts.get("rewriting")
    return Rewriting.model_validate(values) if values else None


def check_form(listings: Sequence[Listing], rewriting: str) -> None:
    """Raise UsageError for a listing that was rewritten in another way than a model's catalog (`rewriting`; empty: not
    at all)."""
    other = next((listing for listing in listings if listing.rewriting not in ("", rewriting)), None)
    if other is not None:
        raise UsageError(
            "These listings were rewritten by a language model in another way than those that the model was fitted on",
            got=f"listing {other.id}: rewriting {other.rewriting}",
            allowed=f"rewriting {rewriting}, or listings as they were written" if rewriting else "listings as written",
            hint="Price the original listings, or fit a model on the rewritten catalog.",
        )
