"""The flex tier: one field of the request, its own price and time-out; its answers serve standard questions."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pricesmith.core.errors import PricesmithError, UsageError
from pricesmith.pricers.api.client import BACK_OFF
from pricesmith.pricers.api.eval_report import ApiCostReporter
from pricesmith.pricers.api.limits import Budget
from pricesmith.pricers.api.model_spec import ApiSettings, parse_api_model
from pricesmith.pricers.api.pricer import ApiPricer, PromptOptions
from pricesmith.pricers.api.response_cache import ResponseCache
from pricesmith.testing import FakeEndpoint, make_items

LISTINGS = [item.listing for item in make_items(4, seed=9)[0]]


def build_pricer(fake: FakeEndpoint, cache: ResponseCache, tier: str, budget: float | None = None) -> ApiPricer:
    """A pricer of a model whose flex price is half of the standard one."""
    endpoint = fake.endpoint()
    assert endpoint.price is not None
    endpoint = replace(endpoint, price=replace(endpoint.price, tiers={"flex": 0.5}))
    pricer = ApiPricer(endpoint, PromptOptions(), cache, Budget(budget), currency="USD", tier=tier)
    pricer.client.back_off = BACK_OFF / 100
    return pricer


def test_a_flex_answer_has_the_field_the_tier_and_the_price(tmp_path: Path) -> None:
    """In the request, in the facts, in the cost of every answer and in the worst case."""
    with FakeEndpoint(fields={"service_tier": "flex"}) as fake, ResponseCache(tmp_path / "a.sqlite") as cache:
        flex, standard = build_pricer(fake, cache, "flex", 1.0), build_pricer(fake, cache, "")
        quotes = flex.price(LISTINGS)
        facts = ApiCostReporter(flex, dict).after()
        assert all(request.body["service_tier"] == "flex" for request in fake.requests)
        assert [quote.seconds is not None and quote.seconds > 0 for quote in quotes] == [True] * 4
        assert facts["spent_usd"] == pytest.approx(fake.billed_usd(0.5, 1.0))
        assert facts["tiers"] == {"flex": 4}
        assert flex.facts["tier"] == "flex"
        assert "tier" not in standard.facts
        worst = [pricer.requests(LISTINGS)[0].worst for pricer in (flex, standard)]
        assert worst[0] == pytest.approx(worst[1] / 2)
        flex.close()
        standard.close()


def test_a_flex_answer_serves_a_standard_question_without_its_seconds(tmp_path: Path) -> None:
    """It is the same model's answer: nothing is paid twice. It costs what was paid; its latency is another tier's."""
    with FakeEndpoint(fields={"service_tier": "flex"}) as fake, ResponseCache(tmp_path / "a.sqlite") as cache:
        flex, standard = build_pricer(fake, cache, "flex"), build_pricer(fake, cache, "")
        bought = flex.price(LISTINGS)
        reused = standard.price(LISTINGS)
        assert len(fake.requests) == 4
        assert [quote.price for quote in reused] == [quote.price for quote in bought]
        assert [quote.cost_usd for quote in reused] == [quote.cost_usd for quote in bought]
        assert [quote.seconds for quote in reused] == [0.0] * 4
        flex.close()
        standard.close()


def test_an_answer_on_another_tier_than_asked_costs_that_tier(tmp_path: Path) -> None:
    """If the endpoint says that it answered on the standard tier, that is what it charges."""
    with FakeEndpoint(fields={"service_tier": "default"}) as fake, ResponseCache(tmp_path / "a.sqlite") as cache:
        pricer = build_pricer(fake, cache, "flex")
        quotes = pricer.price(LISTINGS)
        assert sum(quote.cost_usd or 0 for quote in quotes) == pytest.approx(fake.billed_usd(1, 2))
        assert [quote.seconds for quote in quotes] == [0.0] * 4
        pricer.close()


def test_an_answer_on_a_tier_without_a_price_has_an_unknown_cost(tmp_path: Path) -> None:
    """Not the standard price; the budget counts its worst case."""
    with FakeEndpoint(fields={"service_tier": "priority"}) as fake, ResponseCache(tmp_path / "a.sqlite") as cache:
        pricer = build_pricer(fake, cache, "", 1.0)
        assert [quote.cost_usd for quote in pricer.price(LISTINGS)] == [None] * 4
        worst = sum(request.worst for request in pricer.requests(LISTINGS))
        assert pricer.budget.spent == pytest.approx(worst)
        pricer.close()


def test_no_capacity_for_flex_is_tried_again(tmp_path: Path) -> None:
    """It is a status 429, which costs nothing."""
    faults = dict.fromkeys((1, 2), "429")
    with FakeEndpoint(faults=faults, fields={"service_tier": "flex"}) as fake:
        with ResponseCache(tmp_path / "a.sqlite") as cache:
            pricer = build_pricer(fake, cache, "flex")
            assert all(quote.price == 24 for quote in pricer.price(LISTINGS))
            pricer.close()
        assert len(fake.requests) == 6


def test_no_capacity_for_flex_for_long_names_the_standard_tier(tmp_path: Path) -> None:
    """The same command without tier=flex asks only what is missing."""
    with FakeEndpoint(faults=lambda *_: "429") as fake, ResponseCache(tmp_path / "a.sqlite") as cache:
        pricer = build_pricer(fake, cache, "flex")
        with pytest.raises(PricesmithError, match="does not answer") as caught:
            pricer.price(LISTINGS)
        pricer.close()
    assert "without tier=flex" in caught.value.hint


@pytest.mark.parametrize(
    ("spec", "what", "hint"),
    [
        ("api:claude-haiku-5-5@tier=flex", "has no flex tier at api.anthropic.com", "Leave out tier="),
        ("api:m@url=http://127.0.0.1:1/v1,tier=flex", "has no flex tier", "Leave out tier="),
        ("api:gpt-4.1@tier=flex", "No flex price of gpt-4.1 is known", "put its whole price into"),
    ],
)
def test_a_tier_that_is_not_there_is_refused(spec: str, what: str, hint: str, tmp_path: Path) -> None:
    """Before anything is sent, with the tiers that are."""
    with ApiSettings(cache_path=tmp_path / "a.sqlite") as settings, pytest.raises(UsageError, match=what) as caught:
        settings.build_pricer(parse_api_model(spec), "USD")
    assert hint in caught.value.hint
    assert caught.value.allowed
    with ApiSettings(cache_path=tmp_path / "a.sqlite") as settings:
        settings.build_pricer(parse_api_model(spec.replace("tier=flex", "json_answer=yes")), "USD")


def test_a_whole_price_of_the_users_own_file_gives_a_model_a_flex_price(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As the error about a model without one says."""
    own = tmp_path / "own.toml"
    monkeypatch.setenv("PRICESMITH_PROVIDERS", str(own))
    own.write_text(
        '[openai.models."gpt-4.1"]\ninput = 2.0\noutput = 8.0\ntiers = { flex = 0.5 }\n'
        'date = "2026-11-29"\nsource = "made"\n',
        encoding="utf-8",
    )
    with ApiSettings(cache_path=tmp_path / "a.sqlite") as settings:
        price = settings.build_pricer(parse_api_model("api:gpt-4.1@tier=flex"), "USD").price_now()
    assert price is not None
    assert (price.input, price.output) == (1.0, 4.0)


@pytest.mark.parametrize(
    ("spec", "timeout", "seconds"),
    [("gpt-6-luna", None, 300.0), ("gpt-6-luna@tier=flex", None, 900.0), ("gpt-6-luna@tier=flex", 60.0, 60.0)],
)
def test_flex_has_a_longer_time_out(spec: str, timeout: float | None, seconds: float, tmp_path: Path) -> None:
    """Unless another one is given; its name in tables says the tier."""
    model = parse_api_model(f"api:{spec}")
    with ApiSettings(timeout=timeout, cache_path=tmp_path / "a.sqlite") as settings:
        assert settings.build_pricer(model, "USD").client.timeout == seconds
    assert model.title.endswith("-flex") is ("flex" in spec)


@pytest.mark.parametrize("tier", ["fast", "batch", "standard"])
def test_another_tier_cannot_be_asked_for(tier: Any) -> None:
    """Batch jobs are `--batch`."""
    with pytest.raises(UsageError, match="'tier' cannot have this value"):
        parse_api_model(f"api:gpt-6-luna@tier={tier}")
