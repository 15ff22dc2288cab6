"""The memorization check counts listings that an API model completes, compared with chance."""

from __future__ import annotations

from pathlib import Path

import pytest

from pricesmith.core.types import Item, Listing, render
from pricesmith.pricers.api.budget import Budget
from pricesmith.pricers.api.memorization import (
    QUESTION,
    check_memorization,
    choose_items,
    find_price,
    matches_by_chance,
    split_halves,
)
from pricesmith.pricers.api.pricer import ApiPricer, PromptOptions
from pricesmith.pricers.api.response_cache import ResponseCache
from pricesmith.testing import FakeEndpoint, make_items

ITEMS = make_items(30, seed=4)[0]


def by_heart(question: str) -> str:
    """The replies of a model that memorized every second listing."""
    begun = question.removeprefix(QUESTION)
    for place, item in enumerate(ITEMS):
        text = render(item.listing)
        if text.startswith(begun):
            return f"{text[len(begun) :]}\nPrice: ${item.price:.2f}" if place % 2 == 0 else "It is red.\nPrice: $7.77"
    return "I do not know."


def test_what_is_known_by_heart_is_counted(tmp_path: Path) -> None:
    """Word for word and to the cent; the answers are remembered."""
    with FakeEndpoint(by_heart) as fake, ResponseCache(tmp_path / "a.sqlite") as cache:
        endpoint = fake.endpoint()
        pricer = ApiPricer(endpoint, PromptOptions(), cache, Budget(), currency="USD")
        check = check_memorization(pricer, ITEMS, 30)
        assert check["asked"] == 30
        # Of some groups the first half is the same: there the second half is another color's.
        assert 10 <= check["whole"] <= check["eight_words"] <= 18
        assert 10 <= check["price"] <= check["eight_words"]
        assert check["price_by_chance"] < 2
        requests = len(fake.requests)
        assert check["requests"] == requests
        assert check["spent_usd"] == pytest.approx(fake.billed_usd(1, 2))
        assert check_memorization(pricer, ITEMS, 30) == {**check, "requests": 0}
        assert len(fake.requests) == requests
        assert all("response_format" not in seen.body for seen in fake.requests)
        pricer.close()


def test_a_model_that_knows_nothing_is_found_to_know_nothing(tmp_path: Path) -> None:
    """And a refusal is no recital."""
    with (
        FakeEndpoint(lambda _: "I'm sorry, I can't recite that.") as fake,
        ResponseCache(tmp_path / "a.sqlite") as cache,
    ):
        pricer = ApiPricer(fake.endpoint(), PromptOptions(), cache, Budget(), currency="USD")
        check = check_memorization(pricer, ITEMS, 5)
        pricer.close()
    assert (check["asked"], check["eight_words"], check["whole"], check["price"]) == (5, 0, 0, 0)


def test_a_listing_too_short_to_tell_is_not_asked_about() -> None:
    """Ten words of the second half at least."""
    short = Item(Listing("s", "Hose", "a red hose of ten metres"), 9.0)
    assert split_halves(short.listing) is None
    assert [item.listing.id for item in choose_items([short, *ITEMS], 100)] != []
    assert short not in choose_items([short, *ITEMS], 100)
    assert choose_items(ITEMS, 5) == choose_items(list(reversed(ITEMS)), 5)


def test_a_listing_without_spaces_is_halved_too() -> None:
    """A Chinese text is cut between characters, so that it can be asked for as well."""
    text = "手工编织羊毛地毯北欧风格客厅卧室床边防滑加厚可机洗灰色简约现代"
    first, rest = split_halves(Listing("", "", text)) or ("", [])
    assert (first, len(rest)) == (text[:15], 15)


def test_the_halves_make_the_whole() -> None:
    """The first is as it stands, the second is its words."""
    first, rest = split_halves(ITEMS[0].listing) or ("", [])
    assert render(ITEMS[0].listing).startswith(first)
    assert " ".join(rest[-3:]) in render(ITEMS[0].listing).lower().replace(":", "").replace("\n", " ")


def test_the_last_price_line_counts() -> None:
    """As an amount in the catalog's currency, else none."""
    assert find_price("Old price: $5\nPrice: **$24.99**", "USD") == 24.99
    assert find_price("Price: unknown", "USD") is None
    assert find_price("Price: 120\t150", "USD") is None
    assert find_price("It costs 5", "USD") is None


def test_chance_is_what_dealing_the_prices_round_would_give() -> None:
    """Every reply is 10 and half of the other listings cost 10: by chance half of the replies are right."""
    assert matches_by_chance([(10.0, 10.0), (10.0, 10.0), (10.0, 20.0)]) == 2.0
    assert matches_by_chance([]) == 0.0
