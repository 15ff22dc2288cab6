"""Several pricers as one: the weighted mean of their prices, the weights fitted on the tune half of validation.

The members are copied into the run, so that a blend needs nothing beside its folder. Weights are not negative and sum
to 1; they minimise the mean absolute error in money on rows that no member was fitted on (stacking: Wolpert 1992;
Breiman 1996 for the sign). A member without an answer drops out and the others share its weight.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, ClassVar

import numpy as np
import numpy.typing as npt
from pydantic import BeforeValidator, Field

from pricesmith.core.atomic import read_json, write_json
from pricesmith.core.errors import PricesmithError, UsageError
from pricesmith.core.model_files import damaged_file, read_object
from pricesmith.core.settings import Settings
from pricesmith.core.types import Item, Listing, Pricer, Quote

MEMBERS = "members"
WEIGHTS = "weights.json"
LEAST_ROWS = 20
MOST_ROWS = 5_000
Array = npt.NDArray[np.float64]


def split_commas(value: Any) -> Any:
    """`a,b` on the command line is two members."""
    return [part.strip() for part in value.split(",") if part.strip()] if isinstance(value, str) else value


def member_name(path: str) -> str:
    """A member's name: its folder's, however the path to it is spelt."""
    return Path(os.path.abspath(path)).name


class Blend(Settings):
    """Settings of the blend."""

    kind: ClassVar[str] = "blend"
    probed: ClassVar[bool] = False  # its members are
    members: Annotated[tuple[str, ...], BeforeValidator(split_commas)] = Field(
        (), description="run folders of the same catalog, at least two"
    )

    def fit(self, train: Sequence[Item], validation: Sequence[Item], run: Path) -> None:
        """Copy the members and write their weights. Raises UsageError where they do not belong together."""
        pricers = self.checked(run)
        for path in self.members:
            # A member's comparables would be the same rows again.
            ignore = shutil.ignore_patterns("comparables") if Path(path).is_dir() else None
            shutil.copytree(path, run / MEMBERS / member_name(path), ignore=ignore)
        listings = [item.listing for item in validation]
        quotes = np.array([member_prices(pricer.price(listings)) for pricer in pricers]).reshape(len(pricers), -1).T
        weights = fit_weights(quotes, np.array([item.price for item in validation]))
        names = [member_name(path) for path in self.members]
        write_json(run / WEIGHTS, dict(zip(names, weights.tolist(), strict=True)))

    @property
    def files(self) -> tuple[str, ...]:
        """The weights, and the manifest of each member, which names the member's other files."""
        return (WEIGHTS, *(f"{MEMBERS}/{member_name(path)}/manifest.json" for path in self.members))

    def paths(self) -> list[Path]:
        """The folders of the members."""
        return [Path(path) for path in self.members]

    def made_of(self) -> dict[str, dict[str, str]]:
        """Each member by name, and what tells its content from another's. Raises InputError where one is no run."""
        from pricesmith.pricers.model import read_manifest

        return {"members": {member_name(path): str(read_manifest(Path(path))["identity"]) for path in self.members}}

    def kept(self, run: Path) -> list[Path]:
        """The copies of the members that a run holds."""
        return [run / MEMBERS / name for name in self.weights(run)]

    def made_from(self, paths: Sequence[Path]) -> Blend:
        """The same recipe of members elsewhere."""
        return self.model_copy(update={"members": tuple(map(str, paths))})

    def checked(self, to: Path) -> list[Pricer]:
        """The members, loaded. Raises UsageError where there are too few or they are of different catalogs."""
        from pricesmith.pricers.model import CATALOG, load_model

        names = [member_name(path) for path in self.members]
        if len(names) < 2 or len(set(names)) < len(names):
            raise UsageError(
                "A blend needs at least two members with different names",
                got=", ".join(self.members) or "none",
                hint="--set members=out/ridge,out/mlp",
            )
        runs = [load_model(path) for path in self.members]
        prints = {run.name: str(run.info["fingerprint"]) for run in runs}
        if (to / CATALOG).is_file():
            prints = {"this catalog": str(read_json(to / CATALOG)["fingerprint"]), **prints}
        if len(set(prints.values())) > 1:
            raise UsageError(
                "A blend and its members are of one catalog; these are of different catalogs",
                got=", ".join(f"{name}: {text[:12]}" for name, text in prints.items()),
                hint="Fit the members on the catalog of the blend.",
            )
        return list(runs)

    def load(self, run: Path) -> Pricer:
        """The pricer that a run folder holds."""
        from pricesmith.pricers.model import load_model

        weights = self.weights(run)
        return BlendPricer([load_model(run / MEMBERS / name) for name in weights], np.array(list(weights.values())))

    def weights(self, run: Path) -> dict[str, float]:
        """The weight of each member. Raises InputError where the file names others, or the weights are none."""
        weights, names = read_object(run / WEIGHTS), [member_name(path) for path in self.members]
        if list(weights) != names:
            raise damaged_file(run / WEIGHTS, f"weights of {', '.join(weights)}", allowed=f"of {', '.join(names)}")
        values = list(weights.values())
        numbers = all(isinstance(value, float | int) and not isinstance(value, bool) for value in values)
        if not numbers or min(values) < 0 or not abs(sum(values) - 1) < 1e-6:
            raise damaged_file(run / WEIGHTS, f"{values}", allowed="weights from 0 to 1 that sum to 1")
        return {name: float(value) for name, value in weights.items()}


class BlendPricer:
    """Quotes the weighted mean of the members' prices."""

    def __init__(self, members: Sequence[Pricer], weights: Array) -> None:
        self.members, self.weights = members, weights

    @property
    def name(self) -> str:
        return "blend"

    def price(self, listings: Sequence[Listing]) -> list[Quote]:
        """One quote a listing; None where no member has an answer. Costs add up."""
        if not listings:
            return []
        answers = [member.price(listings) for member in self.members]
        values = np.array([member_prices(quotes) for quotes in answers])
        costs = [sum(quote.cost_usd for quote in said) for said in zip(*answers, strict=True)]
        prices = blend_prices(values.T, self.weights)
        return [
            Quote(float(price) if np.isfinite(price) else None, cost_usd=cost)
            for price, cost in zip(prices, costs, strict=True)
        ]


def member_prices(quotes: Sequence[Quote]) -> Array:
    """Prices, NaN where there is no answer."""
    return np.array([np.nan if quote.price is None else quote.price for quote in quotes], dtype=np.float64)


def blend_prices(values: Array, weights: Array) -> Array:
    """The weighted mean of prices of shape (n, members); NaN where no member answered."""
    there = np.isfinite(values)
    # A member that alone answers must count even if its weight is 0.
    shares = np.where(there, weights + 1e-9, 0.0)
    total = shares.sum(axis=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        mean = (np.where(there, values, 0.0) * shares).sum(axis=1) / np.where(total > 0, total, np.nan)
    return np.asarray(mean, dtype=np.float64)


def fit_weights(values: Array, truth: Array) -> Array:
    """The weights, shape (members,), with the least mean absolute error in money: a linear programme, solved exactly.

    `values` is (n, members), `truth` (n,). Equal weights below 20 rows; the first 5,000 rows are enough.
    """
    from scipy.optimize import linprog
    from scipy.sparse import eye, hstack, vstack

    count = values.shape[1]
    kept = np.flatnonzero(np.isfinite(values).all(axis=1))[:MOST_ROWS]
    if len(kept) < LEAST_ROWS:
        return np.full(count, 1 / count)
    unit_of_money = float(np.median(truth[kept]))  # the solver's tolerances are absolute
    values, truth = values / unit_of_money, truth / unit_of_money
    rows, unit = len(kept), eye(len(kept), format="csr")
    # Each row: the blend, less what it is over, plus what it is under, is the truth; the last row: weights sum to 1.
    sums = np.concatenate([np.ones(count), np.zeros(2 * rows)])[None, :]
    left = vstack([hstack([values[kept], -unit, unit]), sums], format="csr")
    cost = np.concatenate([np.zeros(count), np.full(2 * rows, 1 / rows)])
    found = linprog(cost, A_eq=left, b_eq=np.concatenate([truth[kept], [1.0]]), method="highs")
    if found.x is None:
        raise PricesmithError("No weights were found for the blend", got=str(found.message), hint="Leave out a member.")
    weights = np.clip(found.x[:count], 0.0, 1.0)
    return np.asarray(weights / weights.sum(), dtype=np.float64)
