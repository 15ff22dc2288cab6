"""The trial of a rewriting: its sample, and what it measures."""

from __future__ import annotations

from dataclasses import replace

import pytest

from pricesmith.catalog.catalog import Catalog
from pricesmith.core.errors import UsageError
from pricesmith.pricers.recipes import read_recipe
from pricesmith.pricers.rewriting.form import RewrittenListing
from pricesmith.rewriting.run import NotKept
from pricesmith.rewriting.trial import check_trial, draw_sample, measure_trial


def test_a_sample_is_whole_groups_outside_the_test_split(shop: Catalog) -> None:
    """Always the same ones, and a larger sample has those of a smaller one."""
    sample = draw_sample(shop, 60)
    assert 0 < len(sample.items) <= 60
    assert not {item.listing.id for item in sample.items} & {item.listing.id for item in shop.items("test")}
    pairs = [shop.items_and_groups(split) for split in ("train", "validation")]
    groups = {item.listing.id: group for items, names in pairs for item, group in zip(items, names, strict=True)}
    chosen = {item.listing.id for item in sample.items}
    assert {id for id, group in groups.items() if group in set(sample.groups.values())} == chosen
    assert draw_sample(shop, 60) == sample
    assert chosen <= {item.listing.id for item in draw_sample(shop, 75).items}
    assert len(draw_sample(shop, 10_000).items) == len(groups)


def test_the_same_texts_have_no_change(shop: Catalog) -> None:
    """Listings that keep their text are counted, and the change is 0, which is no fall."""
    sample = draw_sample(shop, 60)
    trial = measure_trial(
        sample, [RewrittenListing(item.listing, "a refusal") for item in sample.items], shop, read_recipe("ridge")
    )
    assert (trial.change, trial.improves, trial.mae_as_written) == (0.0, False, trial.mae_rewritten)
    assert trial.unchanged == {"a refusal": len(sample.items)}
    described = " ".join(trial.describe("USD"))
    assert "listings keep their original text" in described
    assert "rewritten: no change." in described
    assert "use another --model" in NotKept(trial, "USD").hint
    assert "--keep-anyway" in NotKept(replace(trial, unchanged={}), "USD").hint


def test_worse_texts_raise_the_error_and_better_ones_lower_it(shop: Catalog) -> None:
    """A change below 0 is a fall of the error; the interval is on the same side."""
    sample = draw_sample(shop, 10_000)
    recipe = read_recipe("ridge")
    prices = {item.listing.id: item.price for item in sample.items}

    def measure(text: str) -> tuple[float, float | None, float | None, bool]:
        answers = [
            RewrittenListing(
                replace(
                    item.listing, title="a thing", category="", brand="", text=text * int(prices[item.listing.id] / 40)
                )
            )
            for item in sample.items
        ]
        trial = measure_trial(sample, answers, shop, recipe)
        return trial.change, trial.low, trial.high, trial.improves

    change, low, high, improves = measure("")
    assert change > 0
    assert low is not None
    assert low > 0
    assert not improves
    change, low, high, improves = measure("dear ")
    assert change < 0
    assert high is not None
    assert high < 0
    assert improves


@pytest.mark.parametrize("kind", ["blend", "cascade", "precomputed"])
def test_a_recipe_that_is_not_fitted_on_rows_is_refused(kind: str) -> None:
    """Its members were fitted on other texts."""
    with pytest.raises(UsageError) as error:
        check_trial(read_recipe(kind), 100)
    assert "--recipe ridge" in error.value.hint
