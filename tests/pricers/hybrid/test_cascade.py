"""Fitting, pricing with and evaluating blends and cascades, with saved answers, a fake endpoint, and in folds."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pricesmith.candidates import run_candidates
from pricesmith.catalog.catalog import Catalog, open_catalog
from pricesmith.cli import run
from pricesmith.core.atomic import read_json
from pricesmith.core.errors import InputError, PricesmithError, UsageError
from pricesmith.core.types import render
from pricesmith.evaluation.cost_curve import read_hybrid
from pricesmith.pricers.api.model_spec import ApiSettings
from pricesmith.pricers.fitting import fit_model
from pricesmith.pricers.hybrid.model import find_hybrid
from pricesmith.pricers.model import load_model
from pricesmith.pricers.recipes import read_recipe
from pricesmith.testing import ChatServer, FakeEndpoint, make_catalog, make_model
from pricesmith.text.prompts import Prompt

from .conftest import answer_for, api_member

pytestmark = pytest.mark.usefixtures("one_repeat")
SCRIPT = "import sys; from pricesmith.cli import run; sys.exit(run(sys.argv[1:]))"


def fit_cascade(goods: Catalog, to: Path, first: Path, second: object, **settings: Any) -> Path:
    recipe = {"first": str(first), "second": str(second), **(settings or {"share": 0.3})}
    fit_model(read_recipe("cascade", recipe), goods, to)
    return to


def mae(prices: list[float | None], truth: list[float]) -> float:
    return float(np.mean([abs((price or 0) - true) for price, true in zip(prices, truth, strict=True)]))


@pytest.mark.parametrize(
    ("settings", "what", "remedy"),
    [
        ({}, "exactly one limit", {"share": 0.2}),
        ({"share": 0.2, "max_mae": 5.0}, "exactly one limit", {"share": 0.2}),
        (
            {"max_cost_per_1000": 1.0},
            "fee of the second model is unknown",
            {"max_cost_per_1000": 1.0, "api_cost_per_1000": 2.0},
        ),
        ({"max_seconds_per_1000": 1.0}, "not on this machine", {"max_mae": 25.0}),
        ({"max_mae": 0.01}, "cannot reach this MAE", {"share": 1.0}),
    ],
)
def test_a_limit_that_cannot_be_kept_is_refused_and_the_remedy_works(
    settings: dict[str, Any], what: str, remedy: dict[str, Any], goods: Catalog, own: Path, saved: Path, tmp_path: Path
) -> None:
    """And no folder is left."""
    recipe = {"first": str(own / "ridge"), "second": str(saved)}
    with pytest.raises(UsageError, match=what) as caught:
        fit_model(read_recipe("cascade", {**recipe, **settings}), goods, tmp_path / "cascade")
    assert caught.value.hint
    assert not (tmp_path / "cascade").exists()
    fit_model(read_recipe("cascade", {**recipe, **remedy}), goods, tmp_path / "cascade")
    assert load_model(tmp_path / "cascade").price([goods.items("test")[0].listing])[0].price


@pytest.mark.parametrize(("first", "second"), [("", "x.csv"), ("out/a", ""), ("api:m", "out/a"), ("a.csv", "out/a")])
def test_a_cascade_needs_an_own_model_and_a_second_one(first: str, second: str, goods: Catalog, tmp_path: Path) -> None:
    """With the settings to add."""
    (tmp_path / "x.csv").write_text("id,price\n1,2")
    recipe = {"first": first, "second": second.replace("x.csv", str(tmp_path / "x.csv")), "share": 0.2}
    with pytest.raises((UsageError, InputError)) as caught:
        fit_model(read_recipe("cascade", recipe), goods, tmp_path / "cascade")
    assert caught.value.hint


def test_a_fee_that_is_unknown_is_found_before_anything_is_bought(
    goods: Catalog, own: Path, fake: FakeEndpoint, tmp_path: Path
) -> None:
    """A limit in dollars needs the price of tokens."""
    with ApiSettings(), pytest.raises(UsageError, match="fee of the second model is unknown"):
        fit_cascade(goods, tmp_path / "cascade", own / "ridge", api_member(fake, price=""), max_cost_per_1000=1.0)
    assert fake.requests == []


def test_a_fitted_cascade_keeps_its_limit_and_its_promises(
    goods: Catalog, own: Path, saved: Path, tmp_path: Path
) -> None:
    """Asks about three of ten, is better than its first model, stays in the price range."""
    model = load_model(fit_cascade(goods, tmp_path / "cascade", own / "ridge", saved, share=0.3, api_cost_per_1000=2.0))
    items = goods.items("test")
    quotes = model.price([item.listing for item in items])
    asked = [quote.cost_usd == 0.002 for quote in quotes]
    assert 0.1 < np.mean(asked) < 0.4
    low, high = goods.price_range
    assert all(low <= (q.low or 0) <= (q.price or 0) <= (q.high or 0) <= high for q in quotes)
    truth = [item.price for item in items]
    first = load_model(own / "ridge").price([item.listing for item in items])
    assert mae([quote.price for quote in quotes], truth) < mae([quote.price for quote in first], truth)
    assert [quote for quote, take in zip(quotes, asked, strict=True) if not take and not quote.note] == [
        quote for quote, take, other in zip(first, asked, quotes, strict=True) if not take and not other.note
    ]


def test_a_price_of_constant_width_does_not_break_the_share(
    goods: Catalog, own: Path, saved: Path, tmp_path: Path
) -> None:
    """The median quotes a handful of prices: many listings have the same expected gain."""
    model = load_model(fit_cascade(goods, tmp_path / "cascade", own / "median", saved, share=0.3))
    hybrid = find_hybrid(model)
    assert hybrid is not None
    assert hybrid.policy is not None
    assert 0.2 < hybrid.policy.share <= 0.3


def test_a_cascade_of_three_models_works(goods: Catalog, own: Path, saved: Path, tmp_path: Path) -> None:
    """Median, then ridge where it pays in seconds, then saved answers where they pay in dollars."""
    inner = fit_cascade(goods, tmp_path / "inner", own / "median", own / "ridge", share=0.5)
    hybrid = find_hybrid(load_model(inner))
    assert hybrid is not None
    assert (hybrid.policy is not None and hybrid.policy.unit, hybrid.is_paid) == ("seconds", False)
    outer = fit_cascade(goods, tmp_path / "outer", inner, saved, max_cost_per_1000=0.8, api_cost_per_1000=2.0)
    items = goods.items("test")
    quotes = load_model(outer).price([item.listing for item in items])
    notes = {quote.note for quote in quotes}
    assert {"ridge was asked; answers was asked", "ridge was asked", ""} <= notes
    assert sum(quote.cost_usd or 0 for quote in quotes) / len(quotes) * 1000 < 1.2
    evals = run_candidates([str(outer), str(inner), str(own / "median")], goods, tmp_path / "evals")
    facts = read_hybrid(evals.meta["outer"])
    assert facts is not None
    assert facts.is_paid
    facts = read_hybrid(evals.meta["inner"])
    assert facts is not None
    assert (facts.is_paid, facts.member, facts.asked) == (False, "ridge", None)
    assert facts.curve is not None
    assert facts.curve.cost_unit == "seconds"


def test_the_facts_of_an_evaluation_are_those_of_its_rows(
    goods: Catalog, own: Path, saved: Path, tmp_path: Path
) -> None:
    """The curve starts with the own model alone, on the answered listings; the chosen point is the evaluation."""
    cascade = fit_cascade(goods, tmp_path / "cascade", own / "ridge", saved, share=0.3, api_cost_per_1000=2.0)
    fit_model(read_recipe("blend", {"members": [str(own / "ridge"), str(saved)]}), goods, tmp_path / "blend")
    evals = run_candidates([str(cascade), str(tmp_path / "blend"), str(own / "ridge")], goods, tmp_path / "evals")
    by_name = {evaluation.pricer: evaluation for evaluation in evals.evaluations}
    rows = by_name["cascade"].rows
    ids = {line.split(",")[0] for line in saved.read_text().splitlines()}
    assert {row.id for row in rows} == {item.listing.id for item in goods.items("test")} & ids
    facts = read_hybrid(evals.meta["cascade"])
    assert facts is not None
    assert facts.curve is not None
    assert facts.asked is not None
    truth = [row.truth for row in rows]
    own_price = {row.id: row.price for row in by_name["ridge"].rows}
    assert facts.curve.chosen.mae == pytest.approx(mae([row.price for row in rows], truth))
    assert facts.curve.first_alone.mae == pytest.approx(mae([own_price[row.id] for row in rows], truth))
    blend = {row.id: row.price for row in by_name["blend"].rows}
    assert facts.curve.always.mae == pytest.approx(mae([blend[row.id] for row in rows], truth))
    assert facts.asked.asked == sum(row.cost_usd == 0.002 for row in rows) > 0
    assert facts.curve.chosen.cost_per_1000 == pytest.approx(2.0 * facts.asked.share)
    assert (facts.member, facts.estimated_fees, facts.asked.n) == ("answers", True, len(rows))
    blended = read_hybrid(evals.meta["blend"])
    assert blended is not None
    assert (blended.share, blended.member, blended.estimated_fees, blended.curve) == (1.0, "answers", True, None)


def test_a_curve_never_buys_answers(goods: Catalog, own: Path, fake: FakeEndpoint, tmp_path: Path) -> None:
    """Also if the second model is a blend that asks an API model; its fee counts for the limit."""
    with ApiSettings():
        fit_model(read_recipe("blend", {"members": [str(own / "ridge"), api_member(fake)]}), goods, tmp_path / "blend")
        cascade = fit_cascade(goods, tmp_path / "cascade", own / "median", tmp_path / "blend", max_cost_per_1000=0.03)
    bought = len(fake.requests)
    evals = run_candidates([str(cascade)], goods, tmp_path / "evals", limit=60, api_settings=ApiSettings())
    facts = read_hybrid(evals.meta["cascade"])
    assert facts is not None
    assert facts.asked is not None
    assert facts.curve is None
    assert 0 < facts.asked.asked == len(fake.requests) - bought < 60
    hybrid = find_hybrid(load_model(cascade))
    assert hybrid is not None
    assert hybrid.policy is not None
    assert (hybrid.policy.unit, hybrid.asks_api) == ("usd", True)
    assert 0.02 < (hybrid.policy.cost_per_1000 or 0) <= 0.03


@pytest.fixture
def small(tmp_path: Path, fake: FakeEndpoint) -> tuple[Catalog, Path, Path]:
    """A catalog that is evaluated in folds, an own model of it, and saved answers for all of it, which the fake
    endpoint gives too."""
    catalog = open_catalog(make_catalog(tmp_path / "small", 400))
    fit_model(read_recipe("ridge"), catalog, tmp_path / "own")
    items = [item for split in ("train", "validation", "test") for item in catalog.items(split)]
    lines = [f"{item.listing.id},{answer_for(item)}" for item in items]
    (tmp_path / "all.csv").write_text("\n".join(["id,price", *lines]))
    prompt = Prompt(style="chat", currency="USD")
    known = {prompt.asked(render(item.listing)): f'{{"price": {answer_for(item)}}}' for item in items}
    fake.answer = lambda question: known[question]
    return catalog, tmp_path / "own", tmp_path / "all.csv"


@pytest.mark.parametrize("api", [pytest.param(False, marks=pytest.mark.slow), True])
def test_in_folds_each_fold_has_a_cascade_of_its_own(
    api: bool, small: tuple[Catalog, Path, Path], fake: FakeEndpoint, tmp_path: Path
) -> None:
    """All that was asked is counted; there is no curve, as the order is another one in each fold. An answer is paid
    once, whether it is fitted on or evaluated."""
    catalog, ridge, answers = small
    with ApiSettings() as settings:
        second = api_member(fake) if api else answers
        cascade = fit_cascade(catalog, tmp_path / "cascade", ridge, second, share=0.3)
        evals = run_candidates([str(cascade)], catalog, tmp_path / "evals", api_settings=settings)
    facts = read_hybrid(evals.meta["cascade"])
    assert facts is not None
    assert facts.asked is not None
    assert facts.curve is None
    assert facts.asked.n == len(evals.evaluations[0].rows) == 400
    assert 40 < facts.asked.asked < 200
    assert all(fake.count_answers(question) == 1 for question in fake.question_counts)


def test_an_evaluation_that_was_stopped_goes_on_without_paying_again(
    goods: Catalog, own: Path, fake: FakeEndpoint, tmp_path: Path
) -> None:
    """An evaluation has no fallback: an endpoint that is down, and a spent budget, are errors."""
    with ApiSettings():
        cascade = fit_cascade(goods, tmp_path / "cascade", own / "ridge", api_member(fake), share=0.4)
    bought = len(fake.requests)
    for settings, message in ((ApiSettings(1e-3), "budget"), (ApiSettings(), "does not answer")):
        fake.faults = (lambda *_: "500") if message == "does not answer" else {}
        with pytest.raises(PricesmithError, match=message):
            run_candidates([str(cascade)], goods, tmp_path / "evals", api_settings=settings)
    fake.faults = {}
    evals = run_candidates([str(cascade)], goods, tmp_path / "evals", api_settings=ApiSettings())
    assert all(fake.count_answers(question) <= 1 for question in fake.question_counts)
    facts = read_hybrid(evals.meta["cascade"])
    assert facts is not None
    assert facts.asked is not None
    assert not facts.estimated_fees
    assert 0 < facts.asked.asked == len({r.question for r in fake.answered()[bought:]})
    assert facts.curve is None


def test_a_cascade_asks_as_often_where_no_reply_is_cached(
    goods: Catalog, own: Path, fake: FakeEndpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A model that reasons costs a hundred times its answer: that is part of the model, not of a machine's cache."""
    fake.reasoning_tokens = 900
    with ApiSettings():
        cascade = fit_cascade(goods, tmp_path / "cascade", own / "ridge", api_member(fake), max_cost_per_1000=0.5)
    monkeypatch.setenv("PRICESMITH_CACHE", str(tmp_path / "other"))
    with ApiSettings():
        quotes = load_model(cascade).price([item.listing for item in goods.items("test")])
    cost = sum(quote.cost_usd or 0 for quote in quotes) / len(quotes) * 1000
    assert 0.3 < cost < 0.7


def test_fit_with_a_budget_is_within_it_and_the_same_command_goes_on(
    goods: Catalog, own: Path, fake: FakeEndpoint, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """What was bought is used, and said; after that only the rest is bought."""
    words = ["fit", "cascade", "--catalog", str(goods.path), "--to", str(tmp_path / "cascade")]
    words += ["--set", f"first={own / 'ridge'}", "--set", f"second={api_member(fake)}", "--set", "share=0.3"]
    assert run([*words, "--budget", "0.014", "--concurrency", "2"]) == 0
    output = capsys.readouterr().out
    rows = len(goods.items("validation"))
    bought = len(fake.requests)
    assert f"The budget is spent: {bought} of {rows} listings were asked about." in output
    assert f"{bought} of {rows} validation listings are answered by all members." in output
    assert fake.billed_usd(1, 2) <= 0.014
    assert run([*words, "--overwrite", "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["rows"]["calibrate"] == rows
    assert len(fake.requests) == rows
    assert facts["fit_seconds"] > 0


@pytest.mark.slow
def test_two_fits_at_once_pay_for_each_answer_once(
    goods: Catalog, own: Path, replies: Callable[[str], str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One process waits for the replies to the other; a killed one's are not paid again."""
    monkeypatch.setenv("PRICESMITH_CACHE", str(tmp_path / "cache"))
    with FakeEndpoint(replies, delay=0.02) as fake:
        monkeypatch.setenv("MADE_KEY", fake.key)
        words = [sys.executable, "-c", SCRIPT, "fit", "blend", "--catalog", str(goods.path), "--concurrency", "2"]
        words += ["--set", f"members={own / 'median'},{api_member(fake)}"]

        def start(name: str) -> subprocess.Popen[str]:
            to = ["--to", str(tmp_path / name)]
            return subprocess.Popen([*words, *to], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)

        killed = start("a")
        until = time.monotonic() + 240
        while len(fake.requests) < 30 and time.monotonic() < until:
            time.sleep(0.01)
        killed.kill()
        killed.communicate(timeout=240)
        both = [start("a"), start("b")]
        outputs = [process.communicate(timeout=240)[0] for process in both]
        assert [process.returncode for process in both] == [0, 0], outputs
        twice = sum(fake.count_answers(question) - 1 for question in fake.question_counts)
    assert twice <= 2  # what was in flight when the first one was killed
    prices = [load_model(tmp_path / name).manifest["rows"]["calibrate"] for name in ("a", "b")]
    assert prices == [len(goods.items("validation"))] * 2


def test_some_refusals_and_words_leave_fewer_answers(
    goods: Catalog, own: Path, fake: FakeEndpoint, tmp_path: Path
) -> None:
    """A reply without a price is unanswered, never 0."""
    fake.faults = lambda number, before: ("refusal", "words", "")[number % 3] if number < 60 else ""
    with ApiSettings(concurrency=1):
        cascade = fit_cascade(goods, tmp_path / "cascade", own / "ridge", api_member(fake), share=0.3)
    assert load_model(cascade).manifest["rows"]["calibrate"] == len(goods.items("validation")) - 40


@pytest.mark.slow
def test_a_local_language_model_behind_a_server_can_be_a_member(
    goods: Catalog, own: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It knows nothing, so it gets hardly any share; its answers cost nothing."""
    monkeypatch.setenv("PRICESMITH_CACHE", str(tmp_path / "cache"))
    with ChatServer(make_model(tmp_path / "tiny", chat=True)) as server, ApiSettings():
        members = [str(own / "ridge"), f"api:tiny@url={server.url},price=0/0"]
        fit_model(read_recipe("blend", {"members": members, "n_answers": 40}), goods, tmp_path / "blend")
        items = goods.items("test")[:10]
        quotes = load_model(tmp_path / "blend").price([item.listing for item in items])
    own_quotes = load_model(own / "ridge").price([item.listing for item in items])
    assert {quote.cost_usd for quote in quotes} == {0.0}
    ratios = [(a.price or 0) / (b.price or 1) for a, b in zip(quotes, own_quotes, strict=True)]
    assert max(abs(np.log(ratios))) < 0.3


def test_a_cascade_is_shown_and_exported_with_its_policy(
    goods: Catalog, own: Path, saved: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """An export works by itself, and says whether it holds training rows; other formats are refused."""
    cascade = fit_cascade(goods, tmp_path / "cascade", own / "ridge", saved, share=0.3)
    assert run(["show", str(cascade)]) == 0
    shown = capsys.readouterr().out
    assert "answers is asked about" in shown
    assert "None" not in shown
    assert run(["export", str(cascade), "--to", str(tmp_path / "hub"), "--format", "hub"]) == 0
    listings = [item.listing for item in goods.items("test")[:10]]
    assert load_model(tmp_path / "hub").price(listings) == load_model(cascade).price(listings)
    card = (tmp_path / "hub" / "README.md").read_text()
    assert "first = ridge, second = answers, share = 0.3" in card
    assert "for weights and intervals (cross-fitted)" in card
    (tmp_path / "neighbors").symlink_to(own / "knn")
    with_rows = fit_cascade(goods, tmp_path / "rows", tmp_path / "neighbors", saved, share=0.3)
    assert run(["export", str(with_rows), "--to", str(tmp_path / "hub2"), "--format", "hub"]) == 0
    assert "contains no row" not in (tmp_path / "hub2" / "README.md").read_text()
    assert run(["export", str(cascade), "--to", str(tmp_path / "merged"), "--format", "merged"]) == 2


def change_files(cascade: Path) -> list[tuple[Path, Any]]:
    """Files of a cascade with values that do not belong together."""
    hybrid, policy = read_json(cascade / "hybrid.json"), read_json(cascade / "policy.json")
    shares = hybrid["shares"]
    return [
        (cascade / "hybrid.json", {**hybrid, "members": ["ridge"]}),
        (cascade / "hybrid.json", {**hybrid, "members": ["ridge", "answers", "third"]}),
        (cascade / "hybrid.json", {**hybrid, "shares": {**shares, "slopes": []}}),
        (cascade / "hybrid.json", {**hybrid, "shares": {**shares, "mean": shares["mean"][:-1]}}),
        (cascade / "hybrid.json", {**hybrid, "first_error": {**hybrid["first_error"], "slopes": [1.0]}}),
        (cascade / "hybrid.json", {**hybrid, "intervals": {**hybrid["intervals"], "scores": []}}),
        (cascade / "policy.json", {**policy, "seconds": -1}),
        (cascade / "policy.json", {**policy, "policy": {**policy["policy"], "unit": "euros"}}),
        (cascade / "policy.json", {**policy, "policy": {**policy["policy"], "threshold": "low"}}),
        (cascade / "policy.json", {"policy": None}),
    ]


def test_values_that_do_not_belong_together_are_refused(goods: Catalog, own: Path, saved: Path, tmp_path: Path) -> None:
    """When the folder is loaded, also if its manifest lists the damaged files."""
    from pricesmith.core.atomic import inventory
    from pricesmith.pricers.model import content_identity

    cascade = fit_cascade(goods, tmp_path / "cascade", own / "ridge", saved, share=0.3)
    manifest = read_json(cascade / "manifest.json")
    for path, values in change_files(cascade):
        before = path.read_bytes()
        path.write_text(json.dumps(values))
        files = inventory(cascade, skip=frozenset({"manifest.json"}))
        (cascade / "manifest.json").write_text(
            json.dumps({**manifest, "files": files, "identity": content_identity(files)})
        )
        with pytest.raises(InputError, match=path.name):
            load_model(cascade)
        path.write_bytes(before)
