"""`pricesmith rewrite`: the catalog that it writes, when it does not, and how models of it price."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.rewriting.conftest import ROWS, Rewritten, digest_of, spec_of, write_form, write_nothing_useful

import pricesmith as ps
from pricesmith.catalog.catalog import CARD, SPLITS, Catalog
from pricesmith.catalog.summary import describe_rewriting
from pricesmith.cli import run
from pricesmith.core.errors import UsageError
from pricesmith.core.progress import SILENT
from pricesmith.core.types import Listing, Quote
from pricesmith.evaluation.results import read_evals
from pricesmith.pricers.api.limits import BudgetExceeded
from pricesmith.pricers.api.model_spec import ApiSettings
from pricesmith.pricers.model import PriceModel, load_model
from pricesmith.pricers.recipes import read_recipe
from pricesmith.rewriting import run as rewriting_run
from pricesmith.rewriting.catalog_rewriters import open_catalog_rewriter
from pricesmith.rewriting.run import NotKept, RewriteOptions, rewrite_catalog
from pricesmith.testing import FakeEndpoint, make_model

OPTIONS = RewriteOptions(rows=80)
KEPT = ("id", "category", "brand", "price", "currency", "group", "split", "source")


def rows_of(catalog: Catalog, names: tuple[str, ...]) -> list[dict[str, Any]]:
    """Some columns of all items in the order of the file."""
    return [row for batch in catalog.batches(names) for row in batch.to_pylist()]


def test_a_rewritten_catalog_has_other_titles_and_texts_and_nothing_else(shop: Catalog, rewritten: Rewritten) -> None:
    """The same ids, prices, groups and splits in the same order; the original is untouched."""
    assert rows_of(rewritten.catalog, KEPT) == rows_of(shop, KEPT)
    texts = {row["id"]: row["text"] for row in rows_of(shop, ("id", "text"))}
    n_red = sum("red" in text for text in texts.values())
    changed = [row for row in rows_of(rewritten.catalog, ("id", "text")) if row["text"] != texts[row["id"]]]
    assert len(changed) == ROWS - n_red
    assert all("[amount]" in row["text"] and "99" not in row["text"] for row in changed)
    assert digest_of(shop.path) == rewritten.before
    assert rewritten.catalog.fingerprint != shop.fingerprint


def test_every_listing_is_asked_about_once_and_no_price_is_shown(shop: Catalog, rewritten: Rewritten) -> None:
    """The trial and the rest together; a request is the listing in its own words."""
    questions = rewritten.questions
    assert len(questions) == len(set(questions)) == ROWS
    prices = {f"{row['price']:.2f}" for row in rows_of(shop, ("price",))}
    assert not any(price in question for question in questions for price in prices)


def test_ledger_and_card_say_what_was_done_and_by_how_much_the_error_changed(rewritten: Rewritten) -> None:
    """The model, the prompt, the dollars, and the trial with its interval."""
    facts = rewritten.catalog.ledger["rewriting"]
    assert facts["trial"]["improves"]
    assert facts["trial"]["high"] < 0
    assert facts["trial"]["rows"] <= 80
    assert facts["listings"] == ROWS
    assert facts["rewritten"] + facts["unchanged"]["an answer in another format"] == ROWS
    assert facts["cost"]["spent_usd"] == pytest.approx(rewritten.billed)
    assert facts["usd_per_listing"] == pytest.approx(facts["cost"]["spent_usd"] / ROWS)
    card = (rewritten.catalog.path / CARD).read_text(encoding="utf-8")
    assert "In its trial, ridge out of fold" in card
    assert f"of {ROWS} listings; the others keep their original text." in card
    all_of_them = {**rewritten.catalog.ledger, "rewriting": {**facts, "rewritten": ROWS}}
    assert f"{ROWS} of {ROWS} listings. Its answers cost" in describe_rewriting(all_of_them)[0]
    assert "95 % CI" in card


def test_the_same_command_again_buys_nothing(shop: Catalog, rewritten: Rewritten, tmp_path: Path) -> None:
    """It says that the catalog is finished; into another folder it is written from cached answers, the same."""
    sent = len(rewritten.fake.requests)
    with ApiSettings(cache_path=rewritten.cache) as settings:
        arguments: Any = [spec_of(rewritten.fake), rewritten.catalog.path, read_recipe("ridge"), settings, OPTIONS]
        assert rewrite_catalog(shop, *arguments).fingerprint == rewritten.catalog.fingerprint
        arguments[1] = tmp_path / "again"
        again = rewrite_catalog(shop, *arguments)
    assert again.fingerprint == rewritten.catalog.fingerprint
    assert len(rewritten.fake.requests) == sent


def test_a_kill_while_it_writes_loses_no_answer(
    shop: Catalog, rewritten: Rewritten, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is left but the cache, and the same command finishes."""
    target = tmp_path / "clean"

    def interrupt(*_: Any) -> None:
        raise KeyboardInterrupt

    with ApiSettings(cache_path=rewritten.cache) as settings:
        arguments: Any = (spec_of(rewritten.fake), target, read_recipe("ridge"), settings, OPTIONS)
        with monkeypatch.context() as patch:
            patch.setattr(rewriting_run, "replace_texts", interrupt)
            with pytest.raises(KeyboardInterrupt):
                rewrite_catalog(shop, *arguments)
        assert not target.exists()
        assert rewrite_catalog(shop, *arguments).fingerprint == rewritten.catalog.fingerprint


def test_without_a_fall_of_the_error_nothing_is_written(
    shop: Catalog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Only the trial is asked about; the command says by how much the error changed, and fails. --keep-anyway writes
    the catalog, with the same figures."""
    with FakeEndpoint(write_nothing_useful) as fake:
        command = ["rewrite", str(shop.path), "--to", str(tmp_path / "clean"), "--model", spec_of(fake), "--rows", "60"]
        assert run([*command, "--yes"]) == 1
        output = capsys.readouterr().err
        assert "no catalog is written" in output
        assert "(95 % CI of the change: " in output
        assert not (tmp_path / "clean").exists()
        assert len(fake.requests) <= 60
        assert run([*command, "--yes", "--json"]) == 1
        result = json.loads(capsys.readouterr().out)
        assert result["kept"] is False
        assert result["trial"]["improves"] is False
        assert run([*command, "--yes", "--keep-anyway"]) == 0
        assert "not a significant fall" in capsys.readouterr().out
        with pytest.raises(NotKept) as error:
            ps.rewrite(shop, spec_of(fake), tmp_path / "other", rows=60)
        assert error.value.trial.rows <= 60


def test_without_yes_the_command_stops_after_the_trial(
    shop: Catalog, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """It says what the other listings take; the estimate of the trial and of all comes before anything is sent."""
    with FakeEndpoint(write_form) as fake:
        command = ["rewrite", str(shop.path), "--to", str(tmp_path / "clean"), "--model", spec_of(fake), "--rows", "60"]
        assert run(command) == 2
        output = capsys.readouterr()
        assert f"All {ROWS} listings: about US$" in output.out
        assert "Run the same command again with --yes" in output.err
        assert len(fake.requests) <= 60
        assert not (tmp_path / "clean").exists()
        assert run([*command, "--json"]) == 2
        result = json.loads(capsys.readouterr().out)
        assert (result["catalog"], result["trial"]["improves"]) == (None, True)
        assert result["missing"] == ROWS - result["trial"]["rows"]


def test_the_same_texts_of_another_model_are_another_catalog(shop: Catalog, tmp_path: Path) -> None:
    """A model that was fitted on one would ask the wrong language model about new listings."""
    with FakeEndpoint(lambda question: "I am not able to do that.") as fake:
        options: dict[str, Any] = {"rows": 50, "keep_anyway": True}
        first = ps.rewrite(shop, spec_of(fake), tmp_path / "first", **options)
        second = ps.rewrite(shop, f"{spec_of(fake)},max_output_tokens=500", tmp_path / "second", **options)
    assert rows_of(first, ("title", "text")) == rows_of(second, ("title", "text")) == rows_of(shop, ("title", "text"))
    assert first.fingerprint != second.fingerprint


def test_the_budget_is_never_exceeded(shop: Catalog, tmp_path: Path) -> None:
    """The answers until then are cached; the hint works."""
    with FakeEndpoint(write_form) as fake:
        model, to, recipe = spec_of(fake), tmp_path / "clean", read_recipe("ridge")
        with ApiSettings(budget=0.012) as settings, pytest.raises(BudgetExceeded) as error:
            rewrite_catalog(shop, model, to, recipe, settings, OPTIONS)
        assert "higher --budget" in error.value.hint
        assert 0 < fake.billed_usd(1.0, 2.0) <= 0.012


def test_a_rewritten_catalog_is_not_rewritten_nor_added_to(rewritten: Rewritten, tmp_path: Path) -> None:
    """Its listings are not as they were written."""
    model, recipe = spec_of(rewritten.fake), read_recipe("ridge")
    with ApiSettings(cache_path=rewritten.cache) as settings, pytest.raises(UsageError, match="rewritten before"):
        rewrite_catalog(rewritten.catalog, model, tmp_path / "clean", recipe, settings, OPTIONS)
    with pytest.raises(UsageError) as error:
        ps.curate(str(rewritten.catalog.path / "items.parquet"), tmp_path / "more", add=rewritten.catalog.path)
    assert "in other words" in error.value.what


@pytest.mark.parametrize(
    ("options", "what"),
    [
        (["--rows", "3"], "A trial needs more listings"),
        (["--recipe", "blend"], "A trial cannot fit a blend"),
        (["--no-wait"], "--no-wait needs --batch"),
        (["--model", "gpt-6-luna"], "gpt-6-luna is an API model"),
        (["--model", "gemma-3-270m", "--budget", "1"], "--budget is for API models"),
    ],
)
def test_wrong_options_are_refused_before_anything_is_sent(
    shop: Catalog, tmp_path: Path, options: list[str], what: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """With exit code 2."""
    command = ["rewrite", str(shop.path), "--to", str(tmp_path / "clean"), "--model", "api:made@url=http://127.0.0.1:9"]
    assert run([*command, *options]) == 2
    assert what in capsys.readouterr().err


def test_the_cost_of_a_listing_is_that_of_its_own_prompt(
    shop: Catalog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where long prompts cost more, the prompts of all listings together are not a long one."""
    prices = 'input = 1\noutput = 2\ndate = "2026-11-29"\nsource = "made"'
    factors = "long_prompt = { above = 5_000, input_factor = 5, output_factor = 5 }"
    with FakeEndpoint(write_form) as fake, ApiSettings() as settings:
        table = f'[made]\nurl = "{fake.url}"\nkey = "MADE_KEY"\n[made.models.m]\n{prices}\n{factors}\n'
        (tmp_path / "providers.toml").write_text(table)
        monkeypatch.setenv("PRICESMITH_PROVIDERS", str(tmp_path / "providers.toml"))
        rewriter = open_catalog_rewriter("api:made/m", shop, settings, SILENT)
        rewriter.rewrite([item.listing for item in shop.items("train")][:60])
        assert sum(request.tokens_in for request in fake.requests) > 5_000
        assert rewriter.rewriting.usd_per_listing == pytest.approx(fake.billed_usd(1.0, 2.0) / 60)


def test_a_base_is_recorded_by_its_absolute_path(
    shop: Catalog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A model of the rewritten catalog is used from other folders too."""
    make_model(tmp_path / "tiny")
    monkeypatch.chdir(tmp_path)
    with ApiSettings() as settings:
        assert open_catalog_rewriter("tiny", shop, settings, SILENT).rewriting.model == str(
            (tmp_path / "tiny").resolve()
        )


# Models of a rewritten catalog


@pytest.fixture(scope="module")
def ridge(rewritten: Rewritten) -> Path:
    """A model that was fitted on the rewritten catalog."""
    return ps.fit("ridge", rewritten.catalog, rewritten.catalog.path.with_name("ridge")).path


@pytest.fixture
def opened(rewritten: Rewritten, ridge: Path) -> PriceModel:
    """The model as a command loads it."""
    return load_model(ridge)


def test_a_new_listing_is_rewritten_before_it_is_priced(rewritten: Rewritten, opened: PriceModel) -> None:
    """Its price is that of the clean form, its cost that of the answer; comparables and similarity ask no more."""
    new = Listing("new", "Cobalt drill Z99", "!!! wow !!!\nSize: 12 kg\nColor: blue", "drill", "Cobalt")
    clean = replace(
        new,
        title="Cobalt drill",
        text="a drill for [amount]\nCobaltdrill: drill12\nSize: 12 kg",
        rewriting=rewritten.catalog.rewriting,
    )
    sent = len(rewritten.fake.requests)
    with ApiSettings(cache_path=rewritten.cache):
        (quote,) = opened.price([new], check_similarity=True)
        near = opened.find_comparables([new])
        assert len(rewritten.fake.requests) == sent + 1
        (expected,) = opened.price([clean], check_similarity=True)
        assert near == opened.find_comparables([clean])
    assert len(rewritten.fake.requests) == sent + 1
    assert quote.cost_usd is not None
    assert quote.cost_usd > 0
    assert replace(quote, cost_usd=0.0) == expected


def test_a_listing_that_cannot_be_rewritten_has_no_price(rewritten: Rewritten, opened: PriceModel) -> None:
    """The model was fitted on other words than its own. A listing that is too short is not asked about."""
    listings = [Listing("new", "Cobalt drill Y11", "Size: 5 kg", "drill", "Cobalt"), Listing("short", "a", "")]
    sent = len(rewritten.fake.requests)
    with ApiSettings(budget=1e-9, cache_path=rewritten.cache, fallback=True):
        quote, short = opened.price(listings, check_similarity=True)
    assert (quote.price, quote.note) == (None, "not asked: the budget is spent")
    assert quote.raw == "the listing could not be rewritten"
    assert short.raw.startswith("too short")
    assert len(rewritten.fake.requests) == sent
    with ApiSettings(cache_path=rewritten.cache):  # neither is asked about for its comparables
        assert len(opened.find_comparables(listings, quotes=[quote, short])) == 2
    assert len(rewritten.fake.requests) == sent
    priced: list[Listing] = []
    price = opened.pricer.price

    def record(ready: Sequence[Listing]) -> list[Quote]:
        priced.extend(ready)
        return price(ready)

    with ApiSettings(budget=1e-9, cache_path=rewritten.cache, fallback=True), pytest.MonkeyPatch.context() as patch:
        patch.setattr(opened.pricer, "price", record)
        (near,) = opened.find_comparables(listings[:1])
    assert near
    assert not priced  # comparables are not ordered by a price of its own words either


def test_an_evaluation_uses_the_rewritten_listings_and_counts_the_cost(
    shop: Catalog, rewritten: Rewritten, ridge: Path, tmp_path: Path
) -> None:
    """Nothing is asked; each quote has the mean cost of rewriting. On the original catalog it is refused, and so is a
    model of the original on the rewritten one."""
    sent = len(rewritten.fake.requests)
    ps.evaluate([str(ridge)], rewritten.catalog, to=tmp_path / "evals")
    evals = read_evals(tmp_path / "evals")
    (evaluation,) = evals.evaluations
    usd = rewritten.catalog.ledger["rewriting"]["usd_per_listing"]
    assert {row.cost_usd for row in evaluation.rows} == {usd}
    assert "In its trial" in evals.meta["ridge"]["catalog_rewriting"]
    assert len(rewritten.fake.requests) == sent
    with pytest.raises(UsageError, match="another form"):
        ps.evaluate([str(ridge)], shop, to=tmp_path / "other", other_catalog=True)
    plain = ps.fit("median", shop, tmp_path / "median")
    with pytest.raises(UsageError, match="another form"):
        ps.evaluate([plain], rewritten.catalog, to=tmp_path / "other", other_catalog=True)
    with pytest.raises(UsageError, match="rewritten by a language model in another way"):
        plain.price([item.listing for item in rewritten.catalog.items("test")])


def test_a_blend_rewrites_a_listing_once_for_all_members(rewritten: Rewritten, ridge: Path, tmp_path: Path) -> None:
    """Also while it is loaded and checked: nothing is asked then."""
    sent = len(rewritten.fake.requests)
    with ApiSettings(cache_path=rewritten.cache):
        median = ps.fit("median", rewritten.catalog, tmp_path / "median")
        ps.fit("blend", rewritten.catalog, tmp_path / "blend", members=[str(ridge), str(median.path)])
    assert len(rewritten.fake.requests) == sent
    blend = load_model(tmp_path / "blend")
    assert blend.asks_api
    with ApiSettings(cache_path=rewritten.cache):
        (quote,) = blend.price([Listing("new", "Aster hose X12", "Size: 8 kg", "hose", "Aster")])
    assert len(rewritten.fake.requests) == sent + 1
    assert quote.price is not None


def test_exports_say_that_listings_are_rewritten(
    rewritten: Rewritten, ridge: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Another program must rewrite new listings as well; a model that is read from an export does."""
    ps.export(ridge, tmp_path / "hub", "hub")
    assert "any other program that uses the model must do the same" in (tmp_path / "hub" / "README.md").read_text()
    assert load_model(tmp_path / "hub").asks_api
    assert run(["export", str(rewritten.catalog.path), "--format", "sft", "--to", str(tmp_path / "rows.jsonl")]) == 0
    assert "needs new listings rewritten alike" in capsys.readouterr().out


def test_the_listings_of_all_splits_are_marked(shop: Catalog, rewritten: Rewritten) -> None:
    """So that a model knows in which form they are."""
    for split in SPLITS:
        assert {item.listing.rewriting for item in rewritten.catalog.items(split)} == {rewritten.catalog.rewriting}
        assert {item.listing.rewriting for item in shop.items(split)} == {""}
