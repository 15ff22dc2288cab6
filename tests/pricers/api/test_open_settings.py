"""The budget of a command reaches the recipes that ask an API model, and is refused for all others."""

from __future__ import annotations

from contextlib import nullcontext

import pytest

from pricesmith.core.errors import UsageError
from pricesmith.pricers.api.model_spec import ApiSettings, current_settings
from pricesmith.pricers.api.open_settings import open_settings
from pricesmith.pricers.ridge import RidgeRecipe
from pricesmith.testing.hybrid import FakeHybrid


def test_a_recipe_that_asks_an_api_model_finds_the_settings_of_its_command() -> None:
    """Inside the context `current_settings` returns them; after it, those from before."""
    with open_settings(FakeHybrid(), "it", budget=2.0, concurrency=3, timeout=9.0, fallback=True) as opened:
        settings = current_settings()
        assert settings is opened
        assert (settings.budget, settings.concurrency, settings.timeout, settings.fallback) == (2.0, 3, 9.0, True)
    assert current_settings().budget is None


def test_a_budget_for_a_recipe_that_asks_nobody_is_refused() -> None:
    """The error names the recipe; concurrency and time limit alone change nothing."""
    with pytest.raises(UsageError, match="nothing to spend --budget on") as error:
        open_settings(RidgeRecipe(), "ridge", budget=1.0)
    assert error.value.got == "ridge asks no API model"
    assert isinstance(open_settings(RidgeRecipe(), "ridge", concurrency=2, timeout=5.0), nullcontext)


def test_a_wrong_limit_is_refused_before_anything_is_asked() -> None:
    """As for `eval`."""
    with pytest.raises(UsageError, match="--concurrency"):
        open_settings(FakeHybrid(), "it", concurrency=0)


def test_the_allowance_of_settings_is_a_share_of_their_budget() -> None:
    """None before the number of rows is known, or without a budget."""
    settings = ApiSettings(budget=8.0)
    assert settings.allowance(10) is None
    settings.plan_rows(40)
    assert settings.allowance(10) == pytest.approx(2.0)
    without = ApiSettings()
    without.plan_rows(40)
    assert without.allowance(10) is None
