"""A cascade: the first model prices every listing, the second, expensive one is asked only where it pays.

    pricesmith fit cascade --set first=out/best --set second=api:gpt-6-luna --set max_cost_per_1000=0.5 ...
    pricesmith fit cascade --set first=out/best --set second=answers.csv --set api_cost_per_1000=2 --set share=0.2 ...
    pricesmith fit cascade --set first=out/mlp --set second=out/best --set share=0.3 ...         seconds, not dollars

The quote of an asked listing is the hybrid of both (`hybrid/shares.py`). Listings are asked about in order of the
expected gain for each dollar (model cascades: Chen, Zaharia & Zou 2023, FrugalGPT; here with predicted errors of both
choices). The first model may be a cascade itself: sparse MLP, then best, then an API model.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, ClassVar

import numpy as np
from pydantic import BeforeValidator, Field

from pricesmith.core.atomic import write_json
from pricesmith.core.errors import UsageError
from pricesmith.core.model_files import read_settings
from pricesmith.core.progress import SILENT, Progress
from pricesmith.core.settings import Settings
from pricesmith.core.types import Item, Listing, Pricer
from pricesmith.pricers.hybrid.member_spec import MemberSpec, named_path
from pricesmith.pricers.hybrid.members import MemberSettings, copy_members, load_copies, load_members, member_files
from pricesmith.pricers.hybrid.model import (
    HYBRID,
    Answers,
    HybridFit,
    HybridPricer,
    collect_answers,
    expected_fees,
    find_hybrid,
    fit_hybrid,
    load_hybrid,
    save_hybrid,
)
from pricesmith.pricers.hybrid.paid import ApiMember, SavedAnswers
from pricesmith.pricers.hybrid.policy import CascadePolicy, Constraint, Evidence, Unit, fit_policy, scores

POLICY = "policy.json"
CONSTRAINTS = ("share", "max_cost_per_1000", "max_seconds_per_1000", "max_mae")
TIMED_ROWS = 200  # listings that the second model prices to measure its seconds


class StoredPolicy(Settings):
    """The policy in a model folder, with the seconds that a local second model takes for a listing, or the output
    tokens of an API model: on another machine, with other replies in its cache, listings must have the same cost."""

    policy: CascadePolicy
    seconds: float | None = Field(None, ge=0)
    output_tokens: float | None = Field(None, ge=0)


MemberText = Annotated[str, BeforeValidator(named_path)]


class CascadeRecipe(MemberSettings):
    """Settings of the cascade: two models, and one limit."""

    kind: ClassVar[str] = "cascade"
    probed: ClassVar[bool] = False  # its members are probed
    cross_fits: ClassVar[bool] = True
    first: MemberText = Field("", description="model folder that prices every listing")
    second: MemberText = Field(
        "", description="api:MODEL, a file of saved answers, or a model folder, asked where it pays"
    )
    share: float | None = Field(None, ge=0, le=1, description="share of listings that the second model is asked about")
    max_cost_per_1000: float | None = Field(None, ge=0, description="US dollars for 1,000 listings, at most")
    max_seconds_per_1000: float | None = Field(
        None, ge=0, description="seconds of a local second model for 1,000 listings, at most"
    )
    max_mae: float | None = Field(None, gt=0, description="MAE on validation that is enough")

    @property
    def specs(self) -> list[MemberSpec]:
        """The first and the second model."""
        return [MemberSpec(text) for text in (self.first, self.second) if text]

    @property
    def constraint(self) -> Constraint:
        """The limit. Raises UsageError unless exactly one is set."""
        given = [(name, value) for name in CONSTRAINTS if (value := getattr(self, name)) is not None]
        if len(given) != 1:
            raise UsageError(
                "A cascade needs exactly one limit",
                got=", ".join(f"{name}={value:g}" for name, value in given) or "none",
                allowed=", ".join(CONSTRAINTS),
                hint="Add for example --set share=0.2.",
            )
        return Constraint(*given[0])  # type: ignore[arg-type]

    def fit(self, train: Sequence[Item], validation: Sequence[Item], folder: Path, progress: Progress = SILENT) -> None:
        """`fit_cross_fitted` with each listing as its own group."""
        self.fit_cross_fitted(validation, [item.listing.id for item in validation], folder, progress)

    def fit_cross_fitted(
        self, validation: Sequence[Item], groups: Sequence[str], folder: Path, progress: Progress = SILENT
    ) -> int:
        """Copy both models, and write the hybrid and the policy fitted on all answered validation listings; their
        number.

        Raises UsageError if a model or the limit is missing, fees are unknown, or answers are too few.
        """
        constraint = self.constraint
        self.check()
        members = load_members(self.specs, folder, self.fees, progress)
        unit = choose_unit(constraint, members, [item.listing for item in validation[:1]])
        answers = collect_answers(members, validation, groups, self.n_answers, progress)
        fitted = fit_hybrid(answers)
        seconds = measure_seconds(members[1], answers) if unit == "seconds" else None
        tokens = None
        if isinstance(members[1], ApiMember):
            tokens = members[1].output_tokens = members[1].expected_output_tokens()
        pricer = HybridPricer(members, fitted.model, self.kind, empty_policy(unit), seconds)
        policy = fit_policy(constraint, gather_evidence(pricer, answers, fitted), unit)
        copy_members(self.specs, folder)
        save_hybrid(fitted.model, folder)
        stored = StoredPolicy(policy=policy, seconds=seconds, output_tokens=tokens)
        write_json(folder / POLICY, stored.model_dump(mode="json"))
        progress.note(format_policy(policy, members))
        return len(fitted.rows)

    def check(self) -> None:
        """Raise UsageError unless the first model is a folder and there is a second one."""
        if not self.first or not self.second:
            raise UsageError(
                "A cascade needs a first and a second model",
                got=f"first={self.first or 'none'}, second={self.second or 'none'}",
                hint="Add --set first=out/best --set second=api:MODEL (or a file of saved answers, or a model folder).",
            )
        if self.specs[0].paid:
            raise UsageError(
                "The first model of a cascade must be a model of your own",
                got=self.first,
                allowed="a model folder",
                hint="Fit one first, for example `pricesmith fit sparse_mlp`.",
            )

    @property
    def files(self) -> tuple[str, ...]:
        """The hybrid, the policy, and the copies of both models."""
        return (HYBRID, POLICY, *member_files(self.specs))

    def content_hashes(self) -> dict[str, dict[str, str]]:
        """The identity of each model by its setting. Raises InputError if one does not exist."""
        named = {"first": self.first, "second": self.second}
        return {key: {MemberSpec(text).name: MemberSpec(text).content_hash()} for key, text in named.items() if text}

    def with_paths(self, paths: Sequence[Path]) -> CascadeRecipe:
        """The same recipe with other paths of the models."""
        changes = dict(zip(("first", "second"), map(str, paths), strict=False))
        return self.model_copy(update=changes)

    def load(self, folder: Path) -> Pricer:
        """The pricer of a model folder."""
        stored = read_settings(folder / POLICY, StoredPolicy)
        members = load_copies(self.specs, folder, self.fees)
        if isinstance(members[1], ApiMember):
            members[1].output_tokens = stored.output_tokens
        return HybridPricer(members, load_hybrid(folder), self.kind, stored.policy, stored.seconds)


def empty_policy(unit: Unit) -> CascadePolicy:
    """A policy that only has a unit of cost."""
    return CascadePolicy(threshold=None, unit=unit, share=1.0)


def choose_unit(constraint: Constraint, members: Sequence[Pricer], listings: Sequence[Listing]) -> Unit:
    """What costs are in: seconds for a local second model, US dollars if fees are known (of these listings), else
    listings.

    Raises UsageError if the limit is on costs that are unknown.
    """
    hybrid = find_hybrid(members[1])
    local = not isinstance(members[1], ApiMember | SavedAnswers) and (hybrid is None or not hybrid.is_paid)
    unit: Unit = "seconds" if local else "usd" if np.isfinite(expected_fees(members, listings)).all() else "listings"
    needed = {"max_cost_per_1000": "usd", "max_seconds_per_1000": "seconds"}.get(constraint.name, unit)
    if needed == unit:
        return unit
    got = f"{constraint.name}={constraint.value:g}"
    if local:
        hint = "Use max_seconds_per_1000, share or max_mae."
        raise UsageError("The second model has no fee", got=got, hint=hint)
    if needed == "seconds":
        hint = "Use max_cost_per_1000, share or max_mae."
        raise UsageError("The second model is not on this machine, so its seconds are not limited", got=got, hint=hint)
    hint = "Add --set api_cost_per_1000=USD or --set api_model=NAME for saved answers, or @price=IN/OUT to api:MODEL."
    raise UsageError("The fee of the second model is unknown", got=got, hint=hint)


def measure_seconds(second: Pricer, answers: Answers) -> float:
    """The seconds that a local second model takes for a listing, in a batch."""
    listings = [answers.items[row].listing for row in answers.asked[:TIMED_ROWS]]
    started = time.perf_counter()
    second.price(listings)
    return (time.perf_counter() - started) / len(listings)


def gather_evidence(pricer: HybridPricer, answers: Answers, fitted: HybridFit) -> Evidence:
    """What the policy is fitted on: expected gains and costs of all validation listings, errors of the answered
    ones."""
    listings = [item.listing for item in answers.items]
    gains, costs = pricer.expected_gains(listings, answers.first), pricer.expected_costs(listings)
    return Evidence(
        gains, costs, fitted.first_errors, fitted.hybrid_errors, scores(gains[fitted.rows], costs[fitted.rows])
    )


def format_policy(policy: CascadePolicy, members: Sequence[Pricer]) -> str:
    """One sentence on how often the second model is asked on validation."""
    cost = ""
    if policy.cost_per_1000 is not None:
        amount = f"{policy.cost_per_1000:,.3g}"
        cost = f", for ${amount} per 1,000 listings" if policy.unit == "usd" else f", {amount} s per 1,000 listings"
    return f"{members[1].name} is asked about {policy.share:.1%} of the validation listings{cost}."
