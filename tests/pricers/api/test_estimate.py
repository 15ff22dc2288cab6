"""The estimate of tokens starts high for models that may reason, and is corrected by their first answers."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from tests.pricers.api.test_pricer import RecordedNotes

from pricesmith.pricers.api.estimate import estimate_output_tokens, estimate_tokens
from pricesmith.pricers.api.eval_report import ApiCostReporter
from pricesmith.pricers.api.limits import Budget
from pricesmith.pricers.api.pricer import ApiPricer, PromptOptions
from pricesmith.pricers.api.response_cache import MEMORIZATION, Completion, ResponseCache
from pricesmith.testing import FakeEndpoint, make_items

LISTINGS = [item.listing for item in make_items(20, seed=9)[0]]
REPLY = Completion("$24", "stop", 60, 200, 0.001, 0.5)


def build_pricer(cache: ResponseCache, fake: FakeEndpoint, *, reasoning: bool = True, effort: str = "") -> ApiPricer:
    """A pricer of a fake endpoint whose model may reason."""
    options = PromptOptions.model_validate({"reasoning_effort": effort})
    endpoint = replace(fake.endpoint(), reasoning=reasoning)
    return ApiPricer(endpoint, options, cache, Budget(), currency="USD", progress=RecordedNotes())


@pytest.mark.parametrize(
    ("text", "low", "high"),
    [
        ("a sturdy garden hose of twenty five metres with brass fittings", 12, 20),
        ("手工编织羊毛地毯北欧风格客厅卧室床边防滑加厚可机洗灰色简约现代", 20, 40),
        ("Шланг садовый поливочный двадцать пять метров", 12, 30),
        ("", 0, 0),
    ],
)
def test_the_estimate_of_tokens_depends_on_the_script(text: str, low: float, high: float) -> None:
    """A Chinese character is about one token, four Latin letters are."""
    assert low <= estimate_tokens(text) <= high


@pytest.mark.parametrize(
    ("reasoning", "effort", "tokens", "basis"),
    [
        (True, "", 840.0, "it may reason"),
        (True, "none", 8.0, "without reasoning"),
        (False, "", 8.0, "without reasoning"),
    ],
)
def test_the_first_estimate_is_high_for_a_model_that_may_reason(
    tmp_path: Path, reasoning: bool, effort: str, tokens: float, basis: str
) -> None:
    """And says what it is based on."""
    with FakeEndpoint() as fake, ResponseCache(tmp_path / "a.sqlite") as cache:
        output = estimate_output_tokens(build_pricer(cache, fake, reasoning=reasoning, effort=effort))
    assert output.tokens == tokens
    assert basis in output.basis


def test_the_estimate_is_learned_from_cached_prices_with_the_same_effort(tmp_path: Path) -> None:
    """Not from memorization checks, whose answers are long, nor from refusals without tokens."""
    with FakeEndpoint() as fake, ResponseCache(tmp_path / "a.sqlite") as cache:
        pricer, low = build_pricer(cache, fake), build_pricer(cache, fake, effort="low")
        url, model = pricer.endpoint.url, pricer.endpoint.model
        for number in range(5):
            cache.store(f"long{number}", url, model, replace(REPLY, tokens_out=900), purpose=MEMORIZATION)
            cache.store(f"rejected{number}", url, model, replace(REPLY, tokens_out=0))
            cache.store(f"low{number}", url, model, replace(REPLY, tokens_out=30), effort="low")
            assert estimate_output_tokens(pricer).tokens == 840.0
        assert estimate_output_tokens(low).tokens == 30
        assert estimate_output_tokens(low).basis == "as in its cached replies"
        for number in range(5):
            cache.store(f"price{number}", url, model, REPLY)
        assert estimate_output_tokens(pricer).tokens == 200


@pytest.mark.parametrize(("reasoning_tokens", "noted"), [(200, True), (832, False)])
def test_the_estimate_is_corrected_once_by_the_first_answers(
    tmp_path: Path, reasoning_tokens: int, noted: bool
) -> None:
    """If it was far off; with the cost that all answers will have then."""
    with (
        FakeEndpoint(reasoning_tokens=reasoning_tokens) as fake,
        ResponseCache(tmp_path / "a.sqlite") as cache,
    ):
        pricer = build_pricer(cache, fake)
        assert isinstance(pricer.progress, RecordedNotes)
        ApiCostReporter(pricer, dict).before(LISTINGS)
        assert "840 output tokens each" not in pricer.progress.notes[0]
        assert f"{20 * 840:,} output tokens (it may reason; corrected" in pricer.progress.notes[0]
        for start in (0, 3, 10):
            pricer.price(LISTINGS[start : start + 10])
        pricer.close()
        corrections = [note for note in pricer.progress.notes if note.startswith("The first")]
        billed = fake.billed_usd(1, 2)
    if noted:
        assert corrections == [
            f"The first 10 answers took 204 output tokens each, not 840; estimated cost of all 20: ${billed:.4f}."
        ]
    else:
        assert corrections == []
