"""Members of blends and cascades: how they are named, what is refused, and what their answers cost."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pricesmith.catalog.catalog import Catalog, open_catalog
from pricesmith.core.errors import InputError, PricesmithError, UsageError
from pricesmith.core.progress import SILENT
from pricesmith.core.types import Listing, Quote
from pricesmith.pricers.api.model_spec import ApiSettings
from pricesmith.pricers.blend import BlendRecipe
from pricesmith.pricers.cascade import CascadeRecipe
from pricesmith.pricers.fitting import fit_model
from pricesmith.pricers.hybrid.member_spec import MemberSpec, split_members
from pricesmith.pricers.hybrid.paid import ApiMember, FeeSettings, SavedAnswers, buy_answers
from pricesmith.pricers.model import load_model
from pricesmith.pricers.recipes import read_recipe
from pricesmith.testing import FakeEndpoint, make_catalog

from .conftest import api_member


def fit_blend(goods: Catalog, to: Path, *members: object, **settings: Any) -> None:
    fit_model(read_recipe("blend", {"members": [str(member) for member in members], **settings}), goods, to)


@pytest.mark.parametrize(
    ("text", "members"),
    [
        ("out/a,out/b", ["out/a", "out/b"]),
        (" out/a , out/b ,", ["out/a", "out/b"]),
        ("out/a,api:M@url=http://x,key=K", ["out/a", "api:M@url=http://x,key=K"]),
        ("out/a,api:M@url=http://x,key=K,b.csv", ["out/a", "api:M@url=http://x,key=K", "b.csv"]),
        ("api:M@price=1/2,name=m,out/a", ["api:M@price=1/2,name=m", "out/a"]),
        ("api:M,out/a=b", ["api:M", "out/a=b"]),
        ("api:M,name=b", ["api:M", "name=b"]),
    ],
)
def test_members_are_split_at_commas_that_do_not_belong_to_an_api_model(text: str, members: list[str]) -> None:
    """Options after the @ stay with their model; a list is as it is."""
    assert split_members(text) == members
    assert list(split_members(members)) == members
    assert BlendRecipe(members=text).members == tuple(members)  # type: ignore[arg-type]


@pytest.mark.parametrize("text", [".", "./", "..", "out/.."])
def test_a_path_without_a_name_is_stored_as_an_absolute_one(
    text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So that a member has the same name in every working directory; other paths are stored as they are written."""
    (tmp_path / "ridge" / "out").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "ridge")
    expected = str((tmp_path / "ridge" / text).resolve())
    assert BlendRecipe(members=(text, "../mlp")).members == (expected, "../mlp")
    assert CascadeRecipe(first=text, second="api:M").first == expected
    assert MemberSpec(expected).name == Path(expected).name


@pytest.mark.parametrize(
    ("text", "kind", "name"),
    [
        ("out/best", "folder", "best"),
        ("out/best/", "folder", "best"),
        ("./out/../out/best/.", "folder", "best"),
        ("out/best.v2", "folder", "best.v2"),
        ("answers.csv", "file", "answers"),
        ("in/llm.v1.csv.gz", "file", "llm.v1"),
        ("in/llm.2026.jsonl", "file", "llm.2026"),
        ("api:gpt-6-luna", "api", "api-gpt-6-luna"),
        ("api:m@name=mine,url=http://x", "api", "mine"),
    ],
)
def test_a_member_is_named_by_the_end_of_its_path(text: str, kind: str, name: str) -> None:
    """Whether the path exists or not, and whatever it leads to."""
    spec = MemberSpec(text)
    assert (spec.kind, spec.name, spec.paid) == (kind, name, kind != "folder")


def test_the_identity_of_a_blend_does_not_depend_on_the_spelling_of_paths(
    goods: Catalog, own: Path, saved: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another spelling is the same fit, which is not repeated; other answers are another one."""
    fit_blend(goods, tmp_path / "blend", own / "ridge", saved)
    before = (tmp_path / "blend" / "manifest.json").stat().st_mtime_ns
    monkeypatch.chdir(own)
    fit_blend(goods, tmp_path / "blend", "./ridge/", os.path.relpath(saved))
    assert (tmp_path / "blend" / "manifest.json").stat().st_mtime_ns == before
    (tmp_path / "answers.csv").write_text(saved.read_text() + "\nmore,1")
    with pytest.raises(UsageError, match="other settings"):
        fit_blend(goods, tmp_path / "blend", "ridge", tmp_path / "answers.csv")


def test_a_blend_works_where_its_originals_are_gone(goods: Catalog, own: Path, saved: Path, tmp_path: Path) -> None:
    """Also if a member was named by a link, whose target has another name."""
    (tmp_path / "link").symlink_to(own / "ridge")
    shutil.copy(saved, tmp_path / "llm.csv")
    recipe = {"first": str(tmp_path / "link"), "second": str(tmp_path / "llm.csv"), "share": 0.4}
    fit_model(read_recipe("cascade", recipe), goods, tmp_path / "cascade")
    listings = [item.listing for item in goods.items("test")[:40]]
    before = load_model(tmp_path / "cascade").price(listings)
    (tmp_path / "link").unlink()
    (tmp_path / "llm.csv").unlink()
    shutil.move(tmp_path / "cascade", tmp_path / "elsewhere")
    assert load_model(tmp_path / "elsewhere").price(listings) == before


def test_members_that_cannot_be_used_are_refused_with_a_remedy(
    goods: Catalog, own: Path, saved: Path, tmp_path: Path
) -> None:
    """Two of one name, none of your own, one alone, a missing file or folder, another kind of file."""
    (tmp_path / "other").mkdir()
    shutil.copytree(own / "knn", tmp_path / "other" / "ridge")
    shutil.copy(saved, tmp_path / "answers.txt")
    cases: list[tuple[list[object], str, str]] = [
        ([own / "ridge", tmp_path / "other" / "ridge"], "same name", "Rename"),
        ([own / "ridge", "api:m@url=http://x", "api:m@url=http://y"], "same name", "name=NAME"),
        ([saved, "api:m@url=http://127.0.0.1:1/v1,price=1/2"], "model of your own", "Fit one first"),
        ([own / "ridge"], "at least two members", "--set members="),
        ([], "at least two members", "--set members="),
        ([own / "ridge", tmp_path / "none.csv"], "no file", "path"),
        ([own / "ridge", tmp_path / "none"], "not a finished model", "pricesmith fit"),
        ([own / "ridge", tmp_path / "answers.txt"], "not a file of answers", "Rename"),
    ]
    for members, what, hint in cases:
        with pytest.raises((UsageError, InputError)) as caught:
            fit_blend(goods, tmp_path / "blend", *members)
        assert what in caught.value.what
        assert hint in caught.value.hint
        assert not (tmp_path / "blend").exists()


def test_answers_in_another_currency_are_refused(goods: Catalog, own: Path, tmp_path: Path) -> None:
    """Euros are not dollars."""
    items = goods.items("validation")
    (tmp_path / "euros.csv").write_text(
        "\n".join(["id,price", *(f"{item.listing.id},€{item.price}" for item in items)])
    )
    with pytest.raises(InputError, match="another currency") as caught:
        fit_blend(goods, tmp_path / "blend", own / "ridge", tmp_path / "euros.csv")
    assert caught.value.hint == "Write the prices in USD."


def test_members_of_another_catalog_are_refused(goods: Catalog, own: Path, saved: Path, tmp_path: Path) -> None:
    """Also if two catalogs have models of the same name."""
    other = open_catalog(make_catalog(tmp_path / "catalog", 400, seed=5))
    fit_model(read_recipe("median"), other, tmp_path / "median")
    for recipe in (
        read_recipe("blend", {"members": [str(tmp_path / "median"), str(saved)]}),
        read_recipe("cascade", {"first": str(own / "ridge"), "second": str(tmp_path / "median"), "share": 0.5}),
    ):
        with pytest.raises(UsageError, match="different catalogs"):
            fit_model(recipe, goods, tmp_path / "model")


def test_too_few_answers_are_refused_and_as_many_as_are_needed_work(goods: Catalog, own: Path, tmp_path: Path) -> None:
    """19 answered validation listings; answers for other splits do not count."""
    lines = [f"{item.listing.id},{item.price}" for item in goods.items("validation")]
    tests = [f"{item.listing.id},{item.price}" for item in goods.items("test")]
    (tmp_path / "few.csv").write_text("\n".join(["id,price", *lines[:18], *tests]))
    with pytest.raises(UsageError, match="Too few validation listings are answered by ridge, few") as caught:
        fit_blend(goods, tmp_path / "blend", own / "ridge", tmp_path / "few.csv")
    assert caught.value.got == f"18 of {len(lines)}"
    assert "validation split" in caught.value.hint
    (tmp_path / "few.csv").write_text("\n".join(["id,price", *lines[:19]]))
    fit_blend(goods, tmp_path / "blend", own / "ridge", tmp_path / "few.csv")
    assert load_model(tmp_path / "blend").manifest["rows"]["calibrate"] == 19


@pytest.mark.parametrize("option", ["shots=2", "comparables=3"])
def test_an_api_member_with_examples_is_refused(option: str, goods: Catalog, own: Path, tmp_path: Path) -> None:
    """Nothing is asked."""
    with pytest.raises(UsageError, match="cannot be shown training listings"):
        fit_blend(goods, tmp_path / "blend", own / "ridge", f"api:m@url=http://127.0.0.1:1/v1,{option}")


def test_a_folder_with_an_api_model_inside_asks_it(own: Path, tmp_path: Path) -> None:
    """So that a blend of it has a budget, and a cascade of it."""
    (tmp_path / "hybrid" / "members" / "inner").mkdir(parents=True)
    (tmp_path / "hybrid" / "recipe.toml").write_text('kind = "cascade"\nfirst = "a"\nsecond = "b"\nshare = 0.1')
    inner = tmp_path / "hybrid" / "members" / "inner" / "recipe.toml"
    inner.write_text('kind = "blend"\nmembers = ["a", "b.csv"]')
    hybrid = str(tmp_path / "hybrid")
    assert not BlendRecipe(members=(str(own / "ridge"), hybrid)).asks_api
    inner.write_text('kind = "blend"\nmembers = ["a", "api:m"]')
    assert BlendRecipe(members=(str(own / "ridge"), hybrid)).asks_api
    assert CascadeRecipe(first=hybrid, second=str(own / "ridge")).asks_api
    assert CascadeRecipe(first=str(own / "ridge"), second=hybrid).asks_api
    assert BlendRecipe(members=(str(own / "ridge"), "api:m")).asks_api
    assert not BlendRecipe(members=(str(own / "ridge"), "a.csv")).asks_api


LISTINGS = [Listing("1", "Aster lamp", "oak"), Listing("2", "Cobalt drill", "18 V"), Listing("3", "hose", "")]


def test_saved_answers_cost_what_is_known_and_never_0_for_unknown() -> None:
    """A listing that is not in the file costs nothing: nobody was asked."""
    quotes = {"1": Quote(20.0, raw="20"), "2": Quote(None, raw="no idea")}
    unknown = SavedAnswers(quotes, "llm", FeeSettings(), "USD").price(LISTINGS)
    assert [quote.cost_usd for quote in unknown] == [None, None, 0.0]
    assert [quote.price for quote in unknown] == [20.0, None, None]
    fixed = SavedAnswers(quotes, "llm", FeeSettings(cost_per_1000=2.0), "USD").price(LISTINGS)
    assert [quote.cost_usd for quote in fixed] == [0.002, 0.002, 0.0]
    tokens = SavedAnswers(quotes, "llm", FeeSettings("gpt-6-luna@reasoning_effort=none"), "USD")
    fees = tokens.expected_fees([Listing("1", "a", "word " * 1000), Listing("2", "a", "word")])
    assert fees[0] > 5 * fees[1] > 0
    assert tokens.estimated_fees
    reasoning = SavedAnswers(quotes, "llm", FeeSettings("gpt-6-luna"), "USD")
    assert reasoning.price(LISTINGS)[0].cost_usd == pytest.approx(0.000425, rel=0.05)  # 840 output tokens


def test_an_api_model_of_unknown_price_cannot_estimate_fees() -> None:
    """With what to use instead; which works."""
    with pytest.raises(UsageError, match="is unknown") as caught:
        FeeSettings("openai/nobody-knows").answer_terms()
    assert "@price=2/10" in caught.value.hint
    terms = FeeSettings("openai/nobody-knows@price=2/10").answer_terms()
    assert terms is not None
    assert (terms[0].input, terms[0].output) == (2.0, 10.0)


def test_an_answer_far_outside_the_price_range_counts_as_its_end() -> None:
    """A typing error of a million dollars would outweigh every other member."""
    answers = SavedAnswers({"1": Quote(1e6), "2": Quote(0.001)}, "llm", FeeSettings(), "USD", (0.5, 999.0))
    assert [quote.price for quote in answers.price(LISTINGS)] == [999.0, 0.5, None]


def member(fake: FakeEndpoint, **options: str) -> ApiMember:
    return ApiMember(MemberSpec(api_member(fake, **options)), "USD", price_range=(0.5, 20.0))


def test_an_api_member_answers_inside_the_price_range_and_is_paid_once(fake: FakeEndpoint) -> None:
    """Cached replies are free, and free to expect."""
    api = member(fake)
    with ApiSettings(budget=1.0) as settings:
        first = api.price(LISTINGS)
        spent = settings.shared_budget.spent
        assert api.price(LISTINGS) == first
        assert settings.shared_budget.spent == spent > 0
        assert api.fees_now(LISTINGS).tolist() == [0, 0, 0]
        assert (api.expected_fees(LISTINGS) > 0).all()
    assert [quote.price for quote in first] == [20.0] * 3
    assert len(fake.requests) == 3


def test_an_api_member_works_outside_and_after_a_block_of_settings(fake: FakeEndpoint) -> None:
    """A closed cache or connection is not used again."""
    api = member(fake)
    with ApiSettings():
        inside = api.price(LISTINGS[:1])
    assert api.price(LISTINGS[:1]) == inside
    assert api.price(LISTINGS[1:])[0].price == 20.0
    with ApiSettings():
        assert api.price(LISTINGS[2:])[0].price == 20.0


def test_with_a_fallback_the_reason_is_in_the_note_else_it_is_an_error(fake: FakeEndpoint) -> None:
    """An endpoint that is down, one that refuses the key, and a budget that is too small."""
    with FakeEndpoint(faults=lambda number, before: "401") as locked, FakeEndpoint(faults=lambda *_: "500") as down:
        for endpoint, budget, reason in (
            (down, 9.0, "does not answer"),
            (locked, 9.0, "refuses requests"),
            (fake, 1e-6, "budget"),
        ):
            with ApiSettings(budget, timeout=120) as _, pytest.raises(PricesmithError, match=reason):
                member(endpoint).price(LISTINGS)
            with ApiSettings(budget, timeout=120, fallback=True):
                api = member(endpoint)
                quotes = api.price(LISTINGS)
                assert {quote.price for quote in quotes} == {None}
                assert all(quote.note.startswith("not asked: ") and reason in quote.note for quote in quotes)
                assert {quote.cost_usd for quote in quotes} == {0.0}
                count = len(endpoint.requests)
                api.price(LISTINGS)
                assert len(endpoint.requests) == count  # it is not asked again for a while
    assert fake.requests == []


def test_a_budget_that_is_renewed_is_spent_again(fake: FakeEndpoint) -> None:
    """As that of a server at midnight: the model is asked as before."""
    with ApiSettings(1e-6, fallback=True) as settings:
        api = member(fake)
        assert api.price(LISTINGS[:1])[0].note == "not asked: the budget is spent"
        settings.shared_budget.limit = 9.0
        assert api.price(LISTINGS[:1])[0].price is not None


def test_a_missing_key_or_price_is_an_error_even_with_a_fallback(
    fake: FakeEndpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Thousands of own prices would not be what the user wants."""
    with ApiSettings(1.0, fallback=True), pytest.raises(UsageError, match="price of made is unknown"):
        ApiMember(MemberSpec(api_member(fake, price="")), "USD").price(LISTINGS)
    monkeypatch.delenv("MADE_KEY")
    with ApiSettings(fallback=True), pytest.raises(UsageError, match=r"key for .* is not set"):
        member(fake).price(LISTINGS)
    assert fake.requests == []


def test_two_api_members_are_bought_together_until_the_budget_ends(fake: FakeEndpoint, goods: Catalog) -> None:
    """Answers of one alone would be of no use. The budget holds."""
    listings = [item.listing for item in goods.items("validation")]
    with FakeEndpoint() as second, ApiSettings(0.02, concurrency=2) as settings:
        members = [member(fake), ApiMember(MemberSpec(api_member(second, name="second")), "USD")]
        quotes = buy_answers(members, listings, SILENT)
        assert settings.shared_budget.spent <= 0.02
        assert fake.billed_usd(1, 2) + second.billed_usd(1, 2) <= 0.02
    answered = np.array([[quote.price is not None for quote in row] for row in quotes])
    both = answered.all(axis=0).sum()
    assert 20 < both < len(listings)
    assert answered.any(axis=0).sum() - both <= 16
