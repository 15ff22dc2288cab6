"""A blend: weights that pay, members that belong together, a member that falls silent."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from pricesmith.catalog import open as open_catalog
from pricesmith.core.errors import UsageError
from pricesmith.core.types import Listing, Quote
from pricesmith.pricers.blend import BlendPricer, BlendRecipe, blend_prices, fit_weights
from pricesmith.pricers.fitting import fit_model
from pricesmith.pricers.model import load_model
from pricesmith.pricers.recipes import read_recipe
from pricesmith.testing import make_catalog

PRICES = st.floats(0.5, 1000.0)


class Fixed:
    """A pricer with one constant price."""

    def __init__(self, quote: Quote) -> None:
        self.quote = quote

    @property
    def name(self) -> str:
        return "fixed"

    def price(self, listings: Sequence[Listing]) -> list[Quote]:
        return [self.quote for _ in listings]


@given(arrays(np.float64, (30, 3), elements=PRICES), arrays(np.float64, (30,), elements=PRICES))
@settings(max_examples=30)
def test_on_its_own_rows_a_blend_is_never_worse_than_a_member(values: np.ndarray, truth: np.ndarray) -> None:
    """Each member alone is one of the choices, so the best mix errs no more than the best of them."""
    weights = fit_weights(values, truth)
    assert weights.min() >= 0
    assert weights.sum() == pytest.approx(1)
    error = np.abs(blend_prices(values, weights) - truth).mean()
    assert error <= np.abs(values - truth[:, None]).mean(axis=0).min() * (1 + 1e-6) + 1e-6


def test_two_members_that_err_apart_are_both_used() -> None:
    """Where one is too high and the other too low by as much, half of each is exact."""
    truth = np.linspace(10, 100, 40)
    weights = fit_weights(np.column_stack([truth * 1.2, truth * 0.8]), truth)
    assert weights == pytest.approx([0.5, 0.5])


def test_few_rows_weigh_all_alike() -> None:
    """With fewer than 20 rows the weights are equal."""
    assert fit_weights(np.ones((5, 4)), np.ones(5)).tolist() == [0.25] * 4


def test_a_silent_member_leaves_its_weight_to_the_others() -> None:
    """A blend is unanswered only if all its members are; costs add up."""
    listings = [Listing("1", "lamp", "oak")]
    silent, loud = Fixed(Quote(None, cost_usd=0.1)), Fixed(Quote(30.0, cost_usd=0.2))
    (quote,) = BlendPricer([silent, loud], np.array([1.0, 0.0])).price(listings)
    assert (quote.price, quote.cost_usd) == (pytest.approx(30.0), pytest.approx(0.3))
    (none,) = BlendPricer([silent, silent], np.array([0.5, 0.5])).price(listings)
    assert none.price is None


def test_members_are_named_by_commas_or_a_list() -> None:
    """`--set members=a,b` and a TOML list are the same."""
    assert BlendRecipe(members="out/a, out/b") == BlendRecipe(members=("out/a", "out/b"))


def test_a_blend_of_one_is_refused(tmp_path: Path) -> None:
    """A blend needs two members at least."""
    with pytest.raises(UsageError, match="at least two"):
        BlendRecipe(members=("out/a",)).fit([], [], tmp_path)


def test_members_of_different_catalogs_are_refused(tmp_path: Path) -> None:
    """Models that were trained on different rows are not mixed."""
    for number in (0, 1):
        catalog = open_catalog(make_catalog(tmp_path / f"catalog{number}", 400, seed=number))
        fit_model(read_recipe("median"), catalog, tmp_path / f"run{number}")
    recipe = read_recipe("blend", {"members": [str(tmp_path / "run0"), str(tmp_path / "run1")]})
    with pytest.raises(UsageError, match="different catalogs"):
        fit_model(recipe, open_catalog(tmp_path / "catalog0"), tmp_path / "blend")


def test_a_blend_needs_nothing_beside_its_folder(tmp_path: Path) -> None:
    """Members are copied: the originals may go."""
    import shutil

    catalog = open_catalog(make_catalog(tmp_path / "catalog", 600))
    for kind in ("median", "ridge"):
        fit_model(read_recipe(kind), catalog, tmp_path / kind)
    members = [str(tmp_path / kind) for kind in ("median", "ridge")]
    fit_model(read_recipe("blend", {"members": members}), catalog, tmp_path / "blend")
    before = load_model(tmp_path / "blend").price([Listing("1", "Aster lamp", "oak")])
    for member in members:
        shutil.rmtree(member)
    assert load_model(tmp_path / "blend").price([Listing("1", "Aster lamp", "oak")]) == before


def test_a_blend_with_an_api_model_inside_a_member_has_a_budget() -> None:
    """`price --budget` and `eval` look for it."""
    plain, asking = Fixed(Quote(30.0)), Fixed(Quote(30.0))
    asking.asks_api = True  # type: ignore[attr-defined]
    assert not BlendPricer([plain, plain], np.array([0.5, 0.5])).asks_api
    assert BlendPricer([plain, asking], np.array([0.5, 0.5])).asks_api
