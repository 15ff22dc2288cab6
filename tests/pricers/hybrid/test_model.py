"""Hybrid prices: what is asked, what a quote says, and what happens if the paid member cannot be asked."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from pricesmith.catalog.catalog import Catalog
from pricesmith.core.errors import PricesmithError, UsageError
from pricesmith.core.types import Item, Listing, Pricer, Quote
from pricesmith.pricers.api.model_spec import ApiSettings
from pricesmith.pricers.hybrid.member_spec import MemberSpec
from pricesmith.pricers.hybrid.model import (
    HybridModel,
    HybridPricer,
    collect_answers,
    count_asked,
    find_hybrid,
    fit_hybrid,
)
from pricesmith.pricers.hybrid.paid import ApiMember, FeeSettings, SavedAnswers
from pricesmith.pricers.hybrid.policy import CascadePolicy
from pricesmith.pricers.model import load_model
from pricesmith.testing import FakeEndpoint

from .conftest import answer_for, api_member

pytestmark = pytest.mark.usefixtures("one_repeat")
ASK_ALL = CascadePolicy(threshold=None, unit="usd", share=1.0)


class FakeModel:
    """A pricer of one's own: each price has an error of a constant factor; `silent` ids are unanswered."""

    name = "own"

    def __init__(self, items: Sequence[Item], factor: float = 1.4, silent: frozenset[str] = frozenset()) -> None:
        self.prices = {item.listing.id: item.price * factor for item in items if item.listing.id not in silent}

    def price(self, listings: Sequence[Listing]) -> list[Quote]:
        prices = [self.prices.get(listing.id) for listing in listings]
        return [Quote(None) if p is None else Quote(p, p / 2, p * 2, cost_usd=0.0) for p in prices]


@pytest.fixture(scope="module")
def fitted_models() -> dict[object, HybridModel]:
    """What `build` has fitted, by the options of the own model."""
    return {}


@pytest.fixture
def build(goods: Catalog, fitted_models: dict[object, HybridModel]) -> Callable[..., HybridPricer]:
    """A hybrid of an own model and another member, fitted on saved answers."""

    def hybrid(second: Pricer | None = None, policy: CascadePolicy | None = None, **options: object) -> HybridPricer:
        items = [*goods.items("validation"), *goods.items("test")]
        first = FakeModel(items, **options)  # type: ignore[arg-type]
        quotes = {item.listing.id: Quote(answer_for(item)) for item in items}
        saved = SavedAnswers(quotes, "llm", FeeSettings(cost_per_1000=2.0), "USD")
        validation = goods.items("validation")
        ids = [item.listing.id for item in validation]
        key = tuple(sorted(options.items()))
        if key not in fitted_models:
            fitted_models[key] = fit_hybrid(collect_answers([first, saved], validation, ids, 1000)).model
        return HybridPricer([first, second or saved], fitted_models[key], "cascade", policy)

    return hybrid


def listings_of(goods: Catalog, count: int = 40) -> list[Listing]:
    return [item.listing for item in goods.items("test")[:count]]


def endpoint_member(fake: FakeEndpoint) -> ApiMember:
    return ApiMember(MemberSpec(api_member(fake)), "USD")


def test_a_blend_asks_about_every_listing_and_is_better_than_its_members(
    build: Callable[..., HybridPricer], goods: Catalog
) -> None:
    """Its costs are the fees, its interval contains its price."""
    hybrid, items = build(), goods.items("test")
    quotes = hybrid.price([item.listing for item in items])
    errors = [abs((quote.price or 0) - item.price) for quote, item in zip(quotes, items, strict=True)]
    assert np.mean(errors) < np.mean([abs(answer_for(item) - item.price) for item in items])
    assert all(quote.low and quote.price and quote.high and quote.low <= quote.price <= quote.high for quote in quotes)
    assert {quote.cost_usd for quote in quotes} == {0.002}
    assert {quote.note for quote in quotes} == {""}
    assert hybrid.price([]) == []


def test_a_cascade_asks_only_where_its_policy_says_so(build: Callable[..., HybridPricer], goods: Catalog) -> None:
    """Other listings have the own quote, unchanged and free; the note says who was asked."""
    hybrid, listings = build(), listings_of(goods)
    own = hybrid.members[0].price(listings)
    scores = hybrid.expected_gains(listings, own) / 0.002
    hybrid.policy = CascadePolicy(threshold=float(np.sort(scores)[-10]), unit="usd", share=0.25)
    quotes = hybrid.price(listings)
    asked = scores >= hybrid.policy.threshold
    assert [quote.note for quote in quotes] == ["llm was asked" if take else "" for take in asked]
    assert asked.sum() == 10
    for quote, first, take in zip(quotes, own, asked, strict=True):
        assert quote.cost_usd == (0.002 if take else 0.0)
        assert take or quote == first


def test_listings_of_the_same_gain_are_not_all_asked_about(build: Callable[..., HybridPricer]) -> None:
    """Their order is pseudo-random, by their words, so that a share can be kept."""
    hybrid = build()
    listings = [Listing(str(number), f"lamp {number}", "") for number in range(500)]
    gains = hybrid.expected_gains(listings, [Quote(20.0, 10.0, 40.0)] * 500)
    assert len(set(gains.tolist())) > 490
    assert gains == pytest.approx(gains[0])
    again = [replace(listing, id="other") for listing in listings]
    assert hybrid.expected_gains(again, [Quote(20.0, 10.0, 40.0)] * 500).tolist() == gains.tolist()


def test_an_unknown_fee_is_no_cost_of_zero(build: Callable[..., HybridPricer], goods: Catalog) -> None:
    """Saved answers without a price: the cost is None. A cascade by dollars refuses to guess."""
    quotes = {item.listing.id: Quote(answer_for(item)) for item in goods.items("test")}
    unknown = SavedAnswers(quotes, "llm", FeeSettings(), "USD")
    assert {quote.cost_usd for quote in build(unknown).price(listings_of(goods))} == {None}
    with pytest.raises(UsageError, match="fee of llm is unknown") as caught:
        build(unknown, ASK_ALL).price(listings_of(goods))
    assert "price" in caught.value.hint


def test_a_listing_without_an_answer_has_the_own_quote(build: Callable[..., HybridPricer], goods: Catalog) -> None:
    """With its own interval, and a note; if the own model is silent too there is no price, and the reason."""
    hybrid = build(silent=frozenset({"unknown"}))
    (quote,) = hybrid.price([Listing("unknown", "a", "")])
    assert (quote.price, quote.low, quote.high) == (None, None, None)
    assert "llm gave no price" in quote.raw
    item = goods.items("train")[0]
    hybrid.members[0].prices[item.listing.id] = 30.0  # type: ignore[attr-defined]
    (quote,) = hybrid.price([item.listing])
    assert (quote.price, quote.low, quote.high, quote.cost_usd) == (30.0, 15.0, 60.0, 0.0)
    assert quote.note == "llm gave no price: priced by own"


def test_a_listing_that_the_own_model_cannot_price_is_asked_about_first(
    build: Callable[..., HybridPricer], goods: Catalog
) -> None:
    """The answer is the price, with an interval; every number stays finite."""
    listings = listings_of(goods)
    hybrid = build(silent=frozenset({listings[7].id}))
    gains = hybrid.expected_gains(listings, hybrid.members[0].price(listings))
    assert int(np.argmax(gains)) == 7
    assert np.isfinite(gains).all()
    quote = hybrid.price(listings)[7]
    assert quote.price == pytest.approx(answer_for(goods.items("test")[7]))
    assert quote.low is not None
    assert quote.high is not None
    assert quote.low <= quote.price <= quote.high


def test_what_an_endpoint_that_is_down_leaves_is_priced_by_the_own_model(
    build: Callable[..., HybridPricer], goods: Catalog, fake: FakeEndpoint
) -> None:
    """With a fallback, and only then."""
    fake.faults = lambda *_: "500"
    hybrid, listings = build(endpoint_member(fake), ASK_ALL), listings_of(goods)
    own = hybrid.members[0].price(listings)
    with ApiSettings(), pytest.raises(PricesmithError, match="does not answer"):
        hybrid.price(listings)
    with ApiSettings(fallback=True):
        quotes = hybrid.price(listings)
    assert [(quote.price, quote.low, quote.high) for quote in quotes] == [(q.price, q.low, q.high) for q in own]
    host = fake.url.split("/")[2]
    assert {quote.note for quote in quotes} == {f"api-made was not asked: {host} does not answer: priced by own"}
    assert {quote.cost_usd for quote in quotes} == {0.0}
    with ApiSettings(fallback=True):  # a server is asked about one listing at a time
        hybrid.members[1].pricer.client.max_tries = 1  # type: ignore[attr-defined]
        sent = len(fake.requests)
        for listing in listings[:3]:
            hybrid.price([listing])
    assert len(fake.requests) == sent + 2


def test_a_listing_that_the_endpoint_fails_on_does_not_silence_it(
    build: Callable[..., HybridPricer], goods: Catalog, fake: FakeEndpoint
) -> None:
    """Asked again and again, it stays the only one without a reply."""
    hybrid, listings = build(endpoint_member(fake), ASK_ALL), listings_of(goods)
    with ApiSettings(fallback=True):
        hybrid.members[1].pricer.client.max_tries = 1  # type: ignore[attr-defined]
        fake.faults = lambda *_: "500"
        notes = [hybrid.price(listings[:1])[0].note for _ in range(3)]
        fake.faults = {}
        answered = hybrid.price(listings[1:2])[0]
    assert notes == ["api-made gave no price: priced by own"] * 3
    assert answered.note == "api-made was asked"


def test_a_spread_budget_asks_about_the_most_promising_listings(
    build: Callable[..., HybridPricer], goods: Catalog, fake: FakeEndpoint
) -> None:
    """The others say why they were not asked about. Expected costs stay within the allowance; cached replies are
    free."""
    hybrid, listings = build(endpoint_member(fake), ASK_ALL), listings_of(goods)
    with ApiSettings(0.02, fallback=True) as settings:
        settings.plan_rows(4 * len(listings))  # this is a quarter of the file
        fees = hybrid.expected_fees(listings)
        quotes = hybrid.price(listings)
        asked = np.array([quote.note == "api-made was asked" for quote in quotes])
        assert {quote.note for quote in np.array(quotes, dtype=object)[~asked]} <= {
            "api-made was not asked: the budget is spent: priced by own"
        }
        assert fees[asked].sum() <= 0.02 / 4
        assert settings.shared_budget.spent <= 0.02 / 4 * 1.5
        scores = hybrid.rate(listings, hybrid.members[0].price(listings))
        if not asked.all():
            assert scores[asked].min() > scores[~asked].max()
        count = len(fake.requests)
        hybrid.price([listing for listing, take in zip(listings, asked, strict=True) if take])
        assert len(fake.requests) == count > 0


def test_a_blend_of_three_uses_its_own_models_for_what_the_budget_does_not_cover(
    build: Callable[..., HybridPricer], goods: Catalog, fake: FakeEndpoint
) -> None:
    """Only the paid member is left out."""
    items = [*goods.items("validation"), *goods.items("test")]
    validation = goods.items("validation")
    members = [FakeModel(items, 1.5), FakeModel(items, 0.9), endpoint_member(fake)]
    members[1].name = "second"  # type: ignore[attr-defined]
    with ApiSettings():
        answers = collect_answers(members, validation, [item.listing.id for item in validation], 60)
    hybrid = HybridPricer(members, fit_hybrid(answers).model, "blend")
    listings = listings_of(goods)
    with ApiSettings(1e-9, fallback=True) as settings:
        settings.plan_rows(len(listings))
        quotes = hybrid.price(listings)
    assert {quote.note for quote in quotes} == {"api-made was not asked: the budget is spent"}
    truth = np.array([item.price for item in goods.items("test")[:40]])
    assert np.abs(np.array([quote.price for quote in quotes]) / truth - 1).max() < 0.5


def test_records_tell_what_was_asked(build: Callable[..., HybridPricer], goods: Catalog, fake: FakeEndpoint) -> None:
    """A listing that could not be asked about is not counted as asked."""
    hybrid, listings = build(endpoint_member(fake), ASK_ALL), listings_of(goods)
    hybrid.records = {}
    with ApiSettings(1e-9, fallback=True):
        hybrid.price(listings)
    assert count_asked(list(hybrid.records.values())) == {"n": 40, "asked": 0, "unanswered": 0}
    hybrid.members[1].output_tokens = 8.0  # type: ignore[attr-defined]
    fake.faults = {0: "words"}
    with ApiSettings(concurrency=1):
        hybrid.price(listings)
    assert count_asked(list(hybrid.records.values())) == {"n": 40, "asked": 40, "unanswered": 1}


def test_a_budget_that_ends_buys_a_random_sample(goods: Catalog, fake: FakeEndpoint) -> None:
    """Not the first listings of the catalog; the same ones each time, so that a higher budget pays only the rest."""
    validation = goods.items("validation")
    ids = [item.listing.id for item in validation]
    rows: list[set[int]] = []
    for budget in (0.012, 0.014):
        with ApiSettings(budget, concurrency=2) as settings:
            answers = collect_answers([FakeModel(validation), endpoint_member(fake)], validation, ids, 1000)
            assert settings.shared_budget.spent <= budget
        priced = [row for row, quote in zip(answers.asked, answers.others[0], strict=True) if quote.price is not None]
        rows.append(set(priced))
    assert rows[0] < rows[1]
    assert 19 < len(rows[0]) < len(ids)
    assert abs(np.mean(list(rows[0])) / len(ids) - 0.5) < 3 * math.sqrt(1 / 12 / len(rows[0]))
    assert len(fake.requests) == len(rows[1])


def test_no_answer_is_bought_if_there_can_be_too_few(goods: Catalog, fake: FakeEndpoint) -> None:
    """Of fewer listings than are needed, none is asked about; garbage is named as such."""
    validation = goods.items("validation")
    members: list[Pricer] = [FakeModel(validation), endpoint_member(fake)]
    with ApiSettings(), pytest.raises(UsageError, match="Too few"):
        collect_answers(members, validation[:18], [item.listing.id for item in validation[:18]], 1000)
    assert fake.requests == []
    fake.answer = lambda _: "It depends."
    with ApiSettings(), pytest.raises(UsageError, match="Too few") as caught:
        collect_answers(members, validation[:40], [item.listing.id for item in validation[:40]], 1000)
    assert "40 listings without a price" in caught.value.got
    assert "pricesmith eval api:made" in caught.value.hint
    with ApiSettings(1e-4), pytest.raises(UsageError, match="Too few") as caught:
        collect_answers(members, validation, [item.listing.id for item in validation], 1000)
    assert "the budget is spent" in caught.value.got
    assert "--budget" in caught.value.hint


def test_members_that_are_always_right_are_fitted(goods: Catalog) -> None:
    """Errors of zero have no logarithm."""
    validation = goods.items("validation")
    quotes = {item.listing.id: Quote(item.price) for item in validation}
    saved = SavedAnswers(quotes, "llm", FeeSettings(), "USD")
    ids = [item.listing.id for item in validation]
    first = FakeModel(validation, 1.0)
    pricer = HybridPricer(
        [first, saved], fit_hybrid(collect_answers([first, saved], validation, ids, 9)).model, "blend"
    )
    prices = [quote.price for quote in pricer.price([item.listing for item in validation])]
    assert prices == pytest.approx([item.price for item in validation])


def test_a_hybrid_is_found_inside_a_model_only(own: Path, fake: FakeEndpoint) -> None:
    """An own model has none, and an API member is not opened by looking."""
    assert find_hybrid(load_model(own / "ridge")) is None
    member = endpoint_member(fake)
    assert find_hybrid(member) is None
    assert member._pricer is None
