"""Blending: the weighted mean of the prices of several models, with weights fitted on validation.

    pricesmith fit blend --set members=out/ridge,out/mlp ...               own models
    pricesmith fit blend --set members=out/best,api:gpt-6-luna ...       with an API model, asked when it prices
    pricesmith fit blend --set members=out/best,answers.csv ...            with saved answers (columns id and price)

The members are copied into the model folder, so that a blend needs no other folder. Weights of own models are constant
and fitted on the tune half: they are not negative, sum to 1, and minimize the MAE in money on rows that no member was
fitted on (stacking: Wolpert 1992; Breiman 1996 for the sign). If a member does not answer a listing, the others share
its weight. With a paid member, an API model or saved answers, weights depend on the listing and all answered validation
listings are used, also for the intervals (`hybrid/`).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, ClassVar

import numpy as np
import numpy.typing as npt
from pydantic import BeforeValidator, Field

from pricesmith.core.atomic import write_json
from pricesmith.core.errors import PricesmithError
from pricesmith.core.model_files import damaged_file, read_object
from pricesmith.core.progress import SILENT, Progress
from pricesmith.core.types import Item, Listing, Pricer, Quote
from pricesmith.pricers.hybrid.member_spec import MemberSpec, split_members
from pricesmith.pricers.hybrid.members import MemberSettings, copy_members, load_copies, load_members, member_files
from pricesmith.pricers.hybrid.model import (
    HYBRID,
    HybridPricer,
    collect_answers,
    fit_hybrid,
    load_hybrid,
    save_hybrid,
)

WEIGHTS = "weights.json"
MIN_ROWS = 20
MAX_ROWS = 5_000
Array = npt.NDArray[np.float64]


class BlendRecipe(MemberSettings):
    """Settings of the blend."""

    kind: ClassVar[str] = "blend"
    probed: ClassVar[bool] = False  # its members are probed
    members: Annotated[tuple[str, ...], BeforeValidator(split_members)] = Field(
        (), description="model folders of the same catalog, files of saved answers, or api:MODEL; at least two"
    )

    @property
    def specs(self) -> list[MemberSpec]:
        """The members, own models first: the first one is what a listing is priced by if no answer can be bought."""
        return sorted((MemberSpec(text) for text in self.members), key=lambda spec: spec.paid)

    @property
    def cross_fits(self) -> bool:
        """Whether answers cost money, so that all answered validation listings are used for weights and intervals."""
        return any(spec.paid for spec in self.specs)

    def fit(self, train: Sequence[Item], validation: Sequence[Item], folder: Path, progress: Progress = SILENT) -> None:
        """Copy the members and write their weights. Raises UsageError if they were fitted on different catalogs."""
        pricers = load_members(self.specs, folder, self.fees, progress)
        copy_members(self.specs, folder)
        listings = [item.listing for item in validation]
        quotes = np.array([member_prices(pricer.price(listings)) for pricer in pricers]).reshape(len(pricers), -1).T
        weights = fit_weights(quotes, np.array([item.price for item in validation]))
        write_json(folder / WEIGHTS, dict(zip([spec.name for spec in self.specs], weights.tolist(), strict=True)))

    def fit_cross_fitted(
        self, validation: Sequence[Item], groups: Sequence[str], folder: Path, progress: Progress = SILENT
    ) -> int:
        """Copy the members, and write the hybrid fitted on all answered validation listings; their number.

        Raises UsageError if members were fitted on different catalogs, there is no own model, or answers are too few.
        """
        pricers = load_members(self.specs, folder, self.fees, progress)
        fitted = fit_hybrid(collect_answers(pricers, validation, groups, self.n_answers, progress))
        copy_members(self.specs, folder)
        save_hybrid(fitted.model, folder)
        return len(fitted.rows)

    @property
    def files(self) -> tuple[str, ...]:
        """The weights, and the copy of each member; of a model its manifest, which names its other files."""
        return (HYBRID if self.cross_fits else WEIGHTS, *member_files(self.specs))

    def content_hashes(self) -> dict[str, dict[str, str]]:
        """The identity of each member by name. Raises InputError if a member does not exist."""
        return {"members": {spec.name: spec.content_hash() for spec in self.specs}}

    def with_paths(self, paths: Sequence[Path]) -> BlendRecipe:
        """The same recipe with other paths of the members."""
        api = [spec.text for spec in self.specs if spec.kind == "api"]
        return self.model_copy(update={"members": (*map(str, paths), *api)})

    def load(self, folder: Path) -> Pricer:
        """The pricer of a model folder."""
        if self.cross_fits:
            members = load_copies(self.specs, folder, self.fees)
            return HybridPricer(members, load_hybrid(folder), self.kind)
        weights = self.weights(folder)
        return BlendPricer(load_copies(self.specs, folder, self.fees), np.array(list(weights.values())))

    def weights(self, folder: Path) -> dict[str, float]:
        """The weight of each member. Raises InputError if the file has other members, or values that are not
        weights."""
        weights, names = read_object(folder / WEIGHTS), [spec.name for spec in self.specs]
        if list(weights) != names:
            raise damaged_file(folder / WEIGHTS, f"weights of {', '.join(weights)}", allowed=f"of {', '.join(names)}")
        values = list(weights.values())
        numbers = all(isinstance(value, float | int) and not isinstance(value, bool) for value in values)
        if not numbers or min(values) < 0 or not abs(sum(values) - 1) < 1e-6:
            raise damaged_file(folder / WEIGHTS, f"{values}", allowed="weights from 0 to 1 that sum to 1")
        return {name: float(value) for name, value in weights.items()}


class BlendPricer:
    """Quotes the weighted mean of the members' prices."""

    def __init__(self, members: Sequence[Pricer], weights: Array) -> None:
        self.members, self.weights = members, weights

    @property
    def name(self) -> str:
        return "blend"

    @property
    def asks_api(self) -> bool:
        """Whether an API model is inside one of the members."""
        return any(getattr(member, "asks_api", False) for member in self.members)

    def price(self, listings: Sequence[Listing]) -> list[Quote]:
        """One quote for each listing, unanswered if every member is; costs are summed."""
        if not listings:
            return []
        member_quotes = [member.price(listings) for member in self.members]
        values = np.array([member_prices(quotes) for quotes in member_quotes])
        member_costs = [[quote.cost_usd for quote in row] for row in zip(*member_quotes, strict=True)]
        costs = [None if None in row else sum(cost or 0.0 for cost in row) for row in member_costs]
        prices = blend_prices(values.T, self.weights)
        return [
            Quote(float(price) if np.isfinite(price) else None, cost_usd=cost)
            for price, cost in zip(prices, costs, strict=True)
        ]


def member_prices(quotes: Sequence[Quote]) -> Array:
    """Prices [n], NaN if unanswered."""
    return np.array([np.nan if quote.price is None else quote.price for quote in quotes], dtype=np.float64)


def blend_prices(values: Array, weights: Array) -> Array:
    """The weighted mean [n] of prices [n, members]; NaN if every member is unanswered."""
    answered = np.isfinite(values)
    # A member that alone answers must count even if its weight is 0.
    shares = np.where(answered, weights + 1e-9, 0.0)
    total = shares.sum(axis=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        mean = (np.where(answered, values, 0.0) * shares).sum(axis=1) / np.where(total > 0, total, np.nan)
    return np.asarray(mean, dtype=np.float64)


def fit_weights(values: Array, truth: Array) -> Array:
    """The weights [members] with the lowest MAE in money: a linear program, solved exactly.

    `values` is [n, members], `truth` [n]. Equal weights with fewer than 20 rows; the first 5,000 rows are enough.
    """
    from scipy.optimize import linprog
    from scipy.sparse import eye, hstack, vstack

    count = values.shape[1]
    rows = np.flatnonzero(np.isfinite(values).all(axis=1))[:MAX_ROWS]
    if len(rows) < MIN_ROWS:
        return np.full(count, 1 / count)
    scale = float(np.median(truth[rows]))  # the solver's tolerances are absolute
    values, truth = values / scale, truth / scale
    n_rows, unit = len(rows), eye(len(rows), format="csr")
    # Each row: blend - overshoot + undershoot = truth; the last row: the weights sum to 1.
    sums = np.concatenate([np.ones(count), np.zeros(2 * n_rows)])[None, :]
    left = vstack([hstack([values[rows], -unit, unit]), sums], format="csr")
    cost = np.concatenate([np.zeros(count), np.full(2 * n_rows, 1 / n_rows)])
    solution = linprog(cost, A_eq=left, b_eq=np.concatenate([truth[rows], [1.0]]), method="highs")
    if solution.x is None:
        raise PricesmithError(
            "The weights of the blend could not be fitted", got=str(solution.message), hint="Leave out a member."
        )
    weights = np.clip(solution.x[:count], 0.0, 1.0)
    return np.asarray(weights / weights.sum(), dtype=np.float64)
