"""The cost and the error of a cascade: its MAE against its cost, by the share of listings that its second model is
asked about.

    curve = measure_cost_curve(truth, first, hybrid, second, fees, order, asked, groups, median=34.9, ...)
    curve.chosen.mae, curve.chosen.cost_per_1000

A cascade prices every listing with its first model and asks its second, more expensive model about some of them. The
curve asks about growing shares of the evaluated listings, those with the highest expected gain per dollar first. The
evaluation of a cascade stores it in its meta file as `cost_curve`:

    {"first": "best", "second": "llm_answers", "n": 600, "estimated_fees": true, "cost_unit": "usd",
     "points": [{"share": 0.0, "cost_per_1000": 0.0, "mae": 36.2, "low": 32.0, "high": 40.5}, ...],
     "chosen": {"share": 0.21, "cost_per_1000": 0.43, "mae": 29.9, "low": 26.1, "high": 33.9},
     "second_alone": {"share": 1.0, "cost_per_1000": 2.1, "mae": 32.1, "low": 28.0, "high": 36.4},
     "constraint": {"name": "max_cost_per_1000", "value": 0.5}}

`asked` of the meta file, `{"n": 600, "asked": 126, "unanswered": 2, "member": "llm_answers", "estimated_fees": true}`,
is stored for every cascade and blend with a paid member; the last two may be absent.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Annotated, Any, Literal, TypeVar

import numpy as np
import numpy.typing as npt
from pydantic import ConfigDict, Field, ValidationError, model_validator

from pricesmith.core.errors import PricesmithError
from pricesmith.core.settings import Settings
from pricesmith.metrics.bootstrap import Codes, bootstrap_interval
from pricesmith.metrics.metrics import Array, error

COST_CURVE, ASKED = "cost_curve", "asked"  # keys of the meta file
SHARES = (0.0, 0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.85, 1.0)
LARGEST = 1e100  # a number above it is damage
CostUnit = Literal["usd", "seconds"]
ConstraintName = Literal["max_cost_per_1000", "max_seconds_per_1000", "max_mae", "share"]
Share = Annotated[float, Field(ge=0, le=1)]
Amount = Annotated[float, Field(ge=0, le=LARGEST)]
Count = Annotated[int, Field(ge=0)]


class CostPoint(Settings):
    """The MAE and the cost if the second model is asked about a share of the listings.

    `cost_per_1000` is for 1,000 listings, in the curve's unit; None if unknown. `low` and `high` bound the 95 %
    confidence interval of the MAE, in the catalog's currency; None below 5 near-duplicate groups.
    """

    model_config = ConfigDict(strict=True)

    share: Share
    cost_per_1000: Amount | None
    mae: Amount
    low: Amount | None
    high: Amount | None

    @model_validator(mode="after")
    def check_interval(self) -> CostPoint:
        """Raises ValueError if the interval has one end only, or does not contain the MAE."""
        if (self.low is None) != (self.high is None):
            raise ValueError("an interval with one end")
        if self.low is not None and self.high is not None and not self.low <= self.mae <= self.high:
            raise ValueError("an interval without its MAE")
        return self


class CurveConstraint(Settings):
    """What the chosen point was to satisfy: a setting of `fit cascade` and its value."""

    model_config = ConfigDict(strict=True)

    name: ConstraintName
    value: Amount


class CostCurve(Settings):
    """MAE against cost: `points` from the first model alone (share 0) to always asking the second (share 1).

    `chosen` is the point of the cascade as it was fitted, `second_alone` the second model without the first, its
    unanswered listings charged at the median. Costs are all None if one fee is unknown; `estimated_fees` says that they
    are estimates, for example from counted tokens, and not billed.
    """

    model_config = ConfigDict(strict=True)

    first: str
    second: str
    estimated_fees: bool = False
    n: Annotated[int, Field(ge=1)]
    points: tuple[CostPoint, ...] = Field(strict=False, min_length=2)
    chosen: CostPoint
    second_alone: CostPoint
    constraint: CurveConstraint
    cost_unit: CostUnit = "usd"

    @model_validator(mode="after")
    def check_points(self) -> CostCurve:
        """Raises ValueError unless shares rise from 0 to 1 and costs, which are known for all points or none, never
        fall."""
        shares = [point.share for point in self.points]
        if shares[0] != 0 or shares[-1] != 1 or any(b <= a for a, b in pairwise(shares)):
            raise ValueError("shares that do not rise from 0 to 1")
        costs = [point.cost_per_1000 for point in self.points]
        known = [
            cost for cost in [*costs, self.chosen.cost_per_1000, self.second_alone.cost_per_1000] if cost is not None
        ]
        if len(known) not in (0, len(costs) + 2):
            raise ValueError("costs that are known for some points only")
        if known and any(b < a for a, b in pairwise(known[: len(costs)])):
            raise ValueError("costs that fall while more listings are asked")
        return self

    @property
    def has_costs(self) -> bool:
        """Whether the costs are known."""
        return self.chosen.cost_per_1000 is not None

    @property
    def first_alone(self) -> CostPoint:
        """The first model alone: nothing is asked."""
        return self.points[0]

    @property
    def always(self) -> CostPoint:
        """The cascade that asks its second model about every listing."""
        return self.points[-1]

    def to_dict(self) -> dict[str, Any]:
        """The curve as JSON values for the meta file."""
        return self.model_dump(mode="json")


class AskedCounts(Settings):
    """Of `n` evaluated listings, how many a paid member was asked about, and how many of these it left unanswered.

    `member` is the name of the paid member, empty if it is not known; `estimated_fees` says that its fees are not
    billed ones.
    """

    model_config = ConfigDict(strict=True)

    n: Count
    asked: Count
    unanswered: Count
    member: str = ""
    estimated_fees: bool = False

    @model_validator(mode="after")
    def check_counts(self) -> AskedCounts:
        """Raises ValueError unless unanswered <= asked <= n."""
        if not self.unanswered <= self.asked <= self.n:
            raise ValueError("counts that do not fit together")
        return self

    @property
    def share(self) -> float:
        """The share of listings that were asked about; 0 without any."""
        return self.asked / self.n if self.n else 0.0


def read_cost_curve(meta: Mapping[str, Any]) -> CostCurve | None:
    """The cost curve of a meta file; None if it has none. Raises ValueError if it is damaged."""
    return read_fact(CostCurve, meta, COST_CURVE)


def read_asked(meta: Mapping[str, Any]) -> AskedCounts | None:
    """The number of listings that a paid member was asked about, from a meta file; None if it has no such member.

    Raises ValueError if it is damaged.
    """
    return read_fact(AskedCounts, meta, ASKED)


@dataclass(frozen=True)
class HybridFacts:
    """What is known of a model that asks another one: a cascade, or a blend with a paid member.

    `member` is the name of the model that is asked, empty if unknown. `asked` is None for a cascade of two own models,
    `curve` for a blend and where no curve could be measured.
    """

    member: str
    asked: AskedCounts | None
    curve: CostCurve | None

    @property
    def is_paid(self) -> bool:
        """Whether the model that is asked is an API model or its saved answers."""
        return self.asked is not None

    @property
    def share(self) -> float:
        """The share of the evaluated listings that are asked about."""
        if self.asked is not None:
            return self.asked.share
        return self.curve.chosen.share if self.curve is not None else 0.0

    @property
    def estimated_fees(self) -> bool:
        """Whether the fees are estimates, for example from counted tokens, and not billed."""
        return any(facts is not None and facts.estimated_fees for facts in (self.asked, self.curve))


def read_hybrid(meta: Mapping[str, Any]) -> HybridFacts | None:
    """The facts of a meta file about the model that is asked; None if the pricer asks none. Raises ValueError if they
    are damaged."""
    asked, curve = read_asked(meta), read_cost_curve(meta)
    if asked is None and curve is None:
        return None
    return HybridFacts(curve.second if curve is not None else asked.member if asked is not None else "", asked, curve)


S = TypeVar("S", bound=Settings)


def read_fact(cls: type[S], meta: Mapping[str, Any], key: str) -> S | None:
    """A fact of the meta file; None if it is absent. Raises ValueError, on one line, if it is damaged."""
    if meta.get(key) is None:
        return None
    try:
        return cls.model_validate(meta[key])
    except ValidationError as failure:
        first = failure.errors(include_url=False)[0]
        path = ".".join(str(part) for part in (key, *first["loc"]))
        raise ValueError(f"{path}: {first['msg']}") from None


def measure_cost_curve(
    truth: Array,
    first: Array,
    hybrid: Array,
    second: Array,
    fees: Array,
    order: Array,
    asked: npt.NDArray[np.bool_],
    groups: Codes,
    *,
    median: float,
    names: tuple[str, str],
    constraint: CurveConstraint,
    shares: Sequence[float] = SHARES,
    first_fees: Array | None = None,
    estimated_fees: bool = False,
    cost_unit: CostUnit = "usd",
    seed: int = 0,
) -> CostCurve:
    """The cost curve of a cascade on n evaluated listings; all arrays have shape (n,), prices are in one currency.

    `first`, `hybrid` and `second` are quotes: of the first model, of the cascade if it asks about the listing, and of
    the second model alone; NaN is unanswered and charged at `median`. `fees` is what asking about a listing costs and
    `first_fees` (none by default) what the first quote costs; NaN is unknown and makes all costs None. Listings are
    asked in decreasing `order`, the expected gain per dollar; equal ones in the order of the rows. `asked` is the
    chosen policy, `groups` are codes from 0. Shares are rounded to whole listings; 0 and 1 are always measured. Raises
    PricesmithError if the arrays do not fit together.
    """
    base_fees = np.zeros(len(truth)) if first_fees is None else first_fees
    check_arrays(truth, (first, hybrid, second, fees, order, asked, groups, base_fees), order, shares)
    first, hybrid, second = (np.where(np.isnan(quotes), median, quotes) for quotes in (first, hybrid, second))
    has_fees = not np.isnan(fees).any() and not np.isnan(base_fees).any()
    n = len(truth)

    def measure(quotes: Array, is_asked: npt.NDArray[np.bool_], paid: Array) -> CostPoint:
        mae = bootstrap_interval(error(truth, quotes), groups, seed=seed)
        cost = 1_000 * math.fsum(paid) / n if has_fees else None
        return CostPoint(share=float(is_asked.sum()) / n, cost_per_1000=cost, mae=mae.point, low=mae.low, high=mae.high)

    def measure_policy(is_asked: npt.NDArray[np.bool_]) -> CostPoint:
        paid = base_fees + np.where(is_asked, fees, 0.0)
        return measure(np.where(is_asked, hybrid, first), is_asked, paid)

    position = np.empty(n, dtype=np.intp)
    position[np.argsort(-order, kind="stable")] = np.arange(n)
    counts = sorted({0, n, *(round(share * n) for share in shares)})
    return CostCurve(
        first=names[0],
        second=names[1],
        estimated_fees=estimated_fees,
        n=n,
        points=tuple(measure_policy(position < count) for count in counts),
        chosen=measure_policy(asked),
        second_alone=measure(second, np.ones(n, dtype=bool), fees),
        constraint=constraint,
        cost_unit=cost_unit,
    )


def check_arrays(truth: Array, others: Sequence[npt.NDArray[Any]], order: Array, shares: Sequence[float]) -> None:
    """Raises PricesmithError if there are no listings, shapes differ, or an order or share is not a number."""
    if not len(truth) or any(len(values) != len(truth) for values in others):
        lengths = ", ".join(str(len(values)) for values in (truth, *others))
        raise PricesmithError("A cost curve needs one value for each listing", got=f"arrays of {lengths}")
    if np.isnan(order).any():
        raise PricesmithError("Listings are asked in the order of a number", got="NaN")
    wrong = next((share for share in shares if not 0 <= share <= 1), None)
    if wrong is not None:
        raise PricesmithError("A share of listings is between 0 and 1", got=str(wrong))
