"""Blending: the weighted mean of the prices of several models, with weights fitted on the tune half of validation.

The members are copied into the model folder, so that a blend needs no other folder. Weights are not negative and sum
to 1; they minimize the MAE in money on rows that no member was fitted on (stacking: Wolpert 1992; Breiman 1996 for the
sign). If a member does not answer a listing, the others share its weight.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, ClassVar

import numpy as np
import numpy.typing as npt
from pydantic import BeforeValidator, Field

from pricesmith.core.atomic import read_json, write_json
from pricesmith.core.errors import PricesmithError, UsageError
from pricesmith.core.model_files import damaged_file, read_object
from pricesmith.core.progress import SILENT, Progress
from pricesmith.core.settings import Settings
from pricesmith.core.types import Item, Listing, Pricer, Quote
from pricesmith.pricers.recipes import split_commas

MEMBERS = "members"
WEIGHTS = "weights.json"
MIN_ROWS = 20
MAX_ROWS = 5_000
Array = npt.NDArray[np.float64]


def member_name(path: str) -> str:
    """The name of a member: the name of its folder, for any spelling of the path."""
    return Path(os.path.abspath(path)).name


class BlendRecipe(Settings):
    """Settings of the blend."""

    kind: ClassVar[str] = "blend"
    probed: ClassVar[bool] = False  # its members are probed
    members: Annotated[tuple[str, ...], BeforeValidator(split_commas)] = Field(
        (), description="model folders of the same catalog, at least two"
    )

    def fit(self, train: Sequence[Item], validation: Sequence[Item], folder: Path, progress: Progress = SILENT) -> None:
        """Copy the members and write their weights. Raises UsageError if they were fitted on different catalogs."""
        pricers = self.load_members(folder)
        for path in self.members:
            # The comparables of a member are the same rows as those of the blend.
            ignore = shutil.ignore_patterns("comparables") if Path(path).is_dir() else None
            shutil.copytree(path, folder / MEMBERS / member_name(path), ignore=ignore)
        listings = [item.listing for item in validation]
        quotes = np.array([member_prices(pricer.price(listings)) for pricer in pricers]).reshape(len(pricers), -1).T
        weights = fit_weights(quotes, np.array([item.price for item in validation]))
        names = [member_name(path) for path in self.members]
        write_json(folder / WEIGHTS, dict(zip(names, weights.tolist(), strict=True)))

    @property
    def files(self) -> tuple[str, ...]:
        """The weights, and the manifest of each member, which names the member's other files."""
        return (WEIGHTS, *(f"{MEMBERS}/{member_name(path)}/manifest.json" for path in self.members))

    def paths(self) -> list[Path]:
        """The folders of the members."""
        return [Path(path) for path in self.members]

    def content_hashes(self) -> dict[str, dict[str, str]]:
        """The identity of each member by name. Raises InputError if a member is not a model folder."""
        from pricesmith.pricers.model import read_manifest

        return {"members": {member_name(path): str(read_manifest(Path(path))["identity"]) for path in self.members}}

    def stored_copies(self, folder: Path) -> list[Path]:
        """The copies of the members in a model folder."""
        return [folder / MEMBERS / name for name in self.weights(folder)]

    def with_paths(self, paths: Sequence[Path]) -> BlendRecipe:
        """The same recipe with other paths of the members."""
        return self.model_copy(update={"members": tuple(map(str, paths))})

    def load_members(self, to: Path) -> list[Pricer]:
        """Load the members. Raises UsageError if there are too few, or they were fitted on different catalogs."""
        from pricesmith.pricers.model import CATALOG, load_model

        names = [member_name(path) for path in self.members]
        if len(names) < 2 or len(set(names)) < len(names):
            raise UsageError(
                "A blend needs at least two members with different names",
                got=", ".join(self.members) or "none",
                hint="Add --set members=out/ridge,out/mlp.",
            )
        models = [load_model(path) for path in self.members]
        fingerprints = {model.name: str(model.info["fingerprint"]) for model in models}
        if (to / CATALOG).is_file():
            fingerprints = {"this catalog": str(read_json(to / CATALOG)["fingerprint"]), **fingerprints}
        if len(set(fingerprints.values())) > 1:
            raise UsageError(
                "A blend and its members need the same catalog; these were fitted on different catalogs",
                got=", ".join(f"{name}: {text[:12]}" for name, text in fingerprints.items()),
                hint="Fit the members on the catalog of the blend.",
            )
        return list(models)

    def load(self, folder: Path) -> Pricer:
        """The pricer of a model folder."""
        from pricesmith.pricers.model import load_model

        weights = self.weights(folder)
        return BlendPricer([load_model(folder / MEMBERS / name) for name in weights], np.array(list(weights.values())))

    def weights(self, folder: Path) -> dict[str, float]:
        """The weight of each member. Raises InputError if the file has other members, or values that are not
        weights."""
        weights, names = read_object(folder / WEIGHTS), [member_name(path) for path in self.members]
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
