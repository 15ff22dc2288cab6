"""The Python API, as a newcomer would use it: paths, DataFrames, text and dicts in, figures out."""

from __future__ import annotations

import doctest
import importlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

import pricesmith as ps
from pricesmith.pricers import recipe_class
from pricesmith.testing import make_catalog, make_csv
from pricesmith.testing.hybrid import ASKED, DOWN, FEE

DOCUMENTED = (
    "pricesmith.api.pipeline",
    "pricesmith.api.audit",
    "pricesmith.api.evaluate",
    "pricesmith.api.estimator",
    "pricesmith.api.rewrite",
    "pricesmith.api.suggest",
    "pricesmith.api.sweep",
    "pricesmith.catalog.dataframes",
    "pricesmith.core.tables",
    "pricesmith.pricers.predict",
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a made table, shop.csv, and its catalog."""
    path = tmp_path_factory.mktemp("api")
    make_csv(path / "shop.csv", 2600)
    ps.curate(path / "shop.csv", to=path / "catalog")
    return path


@pytest.fixture(scope="module")
def catalog(folder: Path) -> ps.Catalog:
    return ps.catalog.open(folder / "catalog")


@pytest.fixture(scope="module")
def model(folder: Path, catalog: ps.Catalog) -> ps.PriceModel:
    return ps.fit("ridge", catalog, to=folder / "ridge")


@pytest.fixture(scope="module")
def median(folder: Path, catalog: ps.Catalog) -> ps.PriceModel:
    return ps.fit("median", catalog, to=folder / "median")


@pytest.fixture(scope="module")
def board(folder: Path, model: ps.PriceModel, median: ps.PriceModel, catalog: ps.Catalog) -> ps.Leaderboard:
    return ps.evaluate([model, folder / "median"], catalog, to=folder / "evals")


@pytest.mark.parametrize("name", DOCUMENTED)
def test_examples_in_docstrings_run(
    name: str,
    folder: Path,
    catalog: ps.Catalog,
    model: ps.PriceModel,
    board: ps.Leaderboard,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Every example in the API's docstrings gives what it shows."""
    monkeypatch.setenv("PRICESMITH_CACHE", str(tmp_path / "cache"))
    module = importlib.import_module(name)
    runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE)
    examples = 0
    for test in doctest.DocTestFinder().find(module, name):
        test.globs |= {"catalog": catalog, "model": model, "board": board, "folder": tmp_path}
        examples += len(test.examples)
        runner.run(test)
    assert examples > 0
    assert runner.failures == 0


def test_every_public_function_has_an_example() -> None:
    """A reader of the reference sees each function and class of the API used."""
    own = [name for name in ps.__all__ if name in ps.LAZY and ps.LAZY[name].startswith("api.")]
    without = [name for name in own if ">>>" not in (getattr(ps, name).__doc__ or "")]
    assert without == []


# Catalogs


@pytest.mark.parametrize("library", [pd.DataFrame, pl.DataFrame, pa.table], ids=["pandas", "polars", "pyarrow"])
def test_a_dataframe_gives_the_catalog_of_its_file(folder: Path, tmp_path: Path, library: Any) -> None:
    """The items of a DataFrame are those of the CSV file with the same rows."""
    rows = pd.read_csv(folder / "shop.csv")[:300]
    rows.to_csv(tmp_path / "some.csv", index=False)
    columns = {str(name): rows[name].tolist() for name in rows.columns}
    ours = ps.curate(library(columns), to=tmp_path / "frame")
    theirs = ps.curate(tmp_path / "some.csv", to=tmp_path / "file")
    assert ours.fingerprint == theirs.fingerprint
    assert ours.ledger["rows"]["in"] == 300


def test_the_same_dataframe_again_opens_the_finished_catalog(folder: Path, tmp_path: Path) -> None:
    """Another index or another object is no other table; other rows are refused."""
    rows = pd.read_csv(folder / "shop.csv")[:200]
    first = ps.curate(rows, to=tmp_path / "catalog")
    again = ps.curate(rows.set_index(rows.index + 7), to=tmp_path / "catalog")
    assert again.fingerprint == first.fingerprint
    with pytest.raises(ps.UsageError, match="another"):
        ps.curate(rows[:150], to=tmp_path / "catalog")


def test_a_column_of_mixed_types_is_read_as_text(folder: Path, tmp_path: Path) -> None:
    """pandas holds "$12.50" and 12.5 in one column; both are prices."""
    rows = pd.read_csv(folder / "shop.csv")[:200]
    rows["price"] = [12.5 if number % 2 else "$12.50" for number in range(200)]
    catalog = ps.curate(rows, to=tmp_path / "catalog")
    assert {item.price for item in catalog.items("train")} == {12.5}


def test_several_sources_make_one_catalog(folder: Path, tmp_path: Path) -> None:
    """Files and DataFrames can be mixed."""
    rows = pd.read_csv(folder / "shop.csv")
    rows[:150].to_csv(tmp_path / "first.csv", index=False)
    catalog = ps.curate([tmp_path / "first.csv", rows[150:300]], to=tmp_path / "catalog")
    assert catalog.ledger["rows"]["in"] == 300


def test_what_is_no_table_is_refused(tmp_path: Path) -> None:
    """The error says what to give instead."""
    with pytest.raises(ps.UsageError, match="files and DataFrames"):
        ps.curate([3], to=tmp_path / "catalog")  # type: ignore[list-item]
    with pytest.raises(ps.UsageError, match="lazy"):
        ps.curate(pl.LazyFrame({"title": ["a"]}), to=tmp_path / "catalog")


# Models


def test_settings_are_keywords(folder: Path, catalog: ps.Catalog, tmp_path: Path) -> None:
    """A setting of the recipe is a keyword; an unknown one is refused with those there are."""
    fitted = ps.fit("ridge", folder / "catalog", to=tmp_path / "ridge", alpha=0.5)
    assert fitted.manifest["settings"]["alpha"] == 0.5
    again = ps.fit(fitted.recipe, catalog, to=tmp_path / "other", alpha=2)
    assert again.manifest["settings"]["alpha"] == 2
    assert again.manifest["settings"]["min_df"] == fitted.manifest["settings"]["min_df"]
    with pytest.raises(ps.UsageError, match="no setting 'alhpa'"):
        ps.fit("ridge", catalog, to=tmp_path / "wrong", alhpa=2)


def test_fit_has_a_budget_for_a_recipe_that_asks_an_api_model(
    hybrid_kind: str, catalog: ps.Catalog, tmp_path: Path
) -> None:
    """It is refused for all others."""
    recipe = recipe_class(hybrid_kind)()
    model = ps.fit(recipe, catalog, to=tmp_path / "model", budget=1.5, concurrency=2)
    assert model.asks_api
    assert (model.path / "settings.txt").read_text() == "1.5 2 None False"
    with pytest.raises(ps.UsageError, match="--budget"):
        ps.fit("median", catalog, to=tmp_path / "median", budget=1.0)


def test_a_loaded_model_prices_as_the_fitted_one(model: ps.PriceModel) -> None:
    """What `fit` returns is what `load` returns."""
    listing = ps.Listing("1", "Aster lamp", "oak", "lamp")
    assert ps.load(model.path).price([listing]) == model.price([listing])


def test_a_folder_that_is_no_model_is_an_input_error(folder: Path) -> None:
    """The error says which command makes one."""
    with pytest.raises(ps.InputError) as caught:
        ps.load(folder / "catalog")
    assert "pricesmith fit" in caught.value.hint


def test_the_forms_of_one_listing_have_one_price(model: ps.PriceModel) -> None:
    """A text, a dict by the catalog's columns, a dict by our fields and a Listing are one listing."""
    text = model.predict("Cobalt drill K12\nsturdy, Size: 12 kg")
    assert text.price is not None
    assert model.predict({"name": "Cobalt drill K12", "description": "sturdy, Size: 12 kg"}).price == text.price
    assert model.predict({"title": "Cobalt drill K12", "text": "sturdy, Size: 12 kg"}).price == text.price
    assert model.predict(ps.Listing("1", "Cobalt drill K12", "sturdy, Size: 12 kg")).price == text.price
    assert [quote.price for quote in model.predict(["Cobalt drill K12\nsturdy, Size: 12 kg"] * 2)] == [text.price] * 2


def test_a_list_keeps_its_order_whatever_its_forms(model: ps.PriceModel) -> None:
    """Each place of a mixed list gets its own quote."""
    forms: list[Any] = ["Cobalt drill", {"name": "Aster lamp"}, ps.Listing("1", "Dovetail chair", ""), "Cobalt drill"]
    quotes: Any = model.predict(forms)
    assert [quote.price for quote in quotes] == [model.predict(form).price for form in forms]
    assert len({quote.price for quote in quotes}) == 3
    assert model.predict([]) == []


def test_a_price_in_the_input_is_never_seen(model: ps.PriceModel) -> None:
    """The true price of a row changes no quote."""
    row = {"name": "Aster lamp", "description": "oak", "category": "lamp", "brand": "Aster"}
    assert model.predict({**row, "price": 3}).price == model.predict({**row, "price": 900}).price
    assert model.predict({**row, "price": 3}).price == model.predict(row).price


def test_a_listing_without_a_text_is_unanswered_with_the_reason(model: ps.PriceModel) -> None:
    """No price is not a price of 0."""
    short, empty, good = model.predict(["ab", {"name": "", "description": ""}, {"name": "Aster lamp"}])  # type: ignore[list-item]
    assert short.price is None
    assert "too short" in short.raw
    assert empty.price is None
    assert "no title and no text" in empty.raw
    assert good.price is not None


@pytest.mark.parametrize("library", ["pandas", "polars", "pyarrow"])
def test_a_dataframe_comes_back_with_prices(model: ps.PriceModel, folder: Path, library: str) -> None:
    """The same library, the rows in order, and the four columns; the input is not changed."""
    table: Any = pd.read_csv(folder / "shop.csv")[:20].drop(columns="price")
    quotes = model.predict(table.to_dict("records"))
    if library != "pandas":
        table = pl.from_pandas(table) if library == "polars" else pa.Table.from_pandas(table, preserve_index=False)
    priced = model.predict(table)
    assert type(priced) is type(table)
    names = list(priced.column_names) if library == "pyarrow" else list(priced.columns)
    assert names[-4:] == ["price", "low", "high", "note"]
    assert (priced["price"].to_pylist() if library == "pyarrow" else list(priced["price"])) == [q.price for q in quotes]
    assert (table.num_columns if library == "pyarrow" else table.shape[1]) == 5


def test_the_note_of_a_quote_is_in_the_dataframe_and_in_its_html(
    hybrid_kind: str, catalog: ps.Catalog, folder: Path, tmp_path: Path
) -> None:
    """Whether an API model was asked; the reason for no price comes first."""
    model = ps.fit(recipe_class(hybrid_kind)(), catalog, to=tmp_path / "model")
    table = pd.DataFrame({"name": ["Aster lamp", "Down with the lamp", "a"], "description": ["oak", "oak", ""]})
    priced: Any = model.predict(table)
    assert priced["note"][0].endswith(ASKED)
    assert priced["note"][1].endswith(DOWN)
    assert ASKED not in priced["note"][2]
    assert ASKED in model.predict("Aster lamp, oak")._repr_html_()


def test_a_file_is_priced_within_a_budget(hybrid_kind: str, catalog: ps.Catalog, folder: Path, tmp_path: Path) -> None:
    """A loaded model and a path alike; a model that asks nobody takes no budget."""
    model = ps.fit(recipe_class(hybrid_kind)(), catalog, to=tmp_path / "model")
    new = make_csv(tmp_path / "new.csv", 40, seed=1)
    for number, form in enumerate((model, model.path)):
        facts = ps.price_file(form, new, tmp_path / f"{number}.csv", budget=10 * FEE)
        assert facts["api"]["spent_usd"] == 10 * FEE
        assert facts["api"]["not_asked"] == {"the budget is spent": 30}
    ps.fit("median", catalog, to=tmp_path / "median")
    with pytest.raises(ps.UsageError, match="nothing to spend --budget on"):
        ps.price_file(tmp_path / "median", new, tmp_path / "prices.csv", budget=1.0)


def test_a_dataframe_keeps_its_index_and_its_own_prices(model: ps.PriceModel, folder: Path) -> None:
    """A column `price` of the input is not overwritten; a second prediction says what is in the way."""
    table = pd.read_csv(folder / "shop.csv")[:5]
    table.index = pd.Index(list("vwxyz"))
    priced: Any = model.predict(table)
    assert list(priced.index) == list("vwxyz")
    assert list(priced["price"]) == list(table["price"])
    assert priced["predicted_price"].between(priced["low"], priced["high"]).all()
    with pytest.raises(ps.UsageError, match="predicted_price"):
        model.predict(priced)


def test_an_empty_dataframe_comes_back_with_the_columns(model: ps.PriceModel) -> None:
    """No rows are no error."""
    priced: Any = model.predict(pd.DataFrame({"name": pd.Series([], dtype=str)}))
    assert list(priced.columns) == ["name", "price", "low", "high", "note"]


@pytest.mark.parametrize("value", [3, b"lamp", [3], ps.Item(ps.Listing("1", "lamp", ""), 2.0), {"colour": "red"}])
def test_what_cannot_be_priced_is_refused(model: ps.PriceModel, value: Any) -> None:
    """The error says what was given and what is allowed."""
    with pytest.raises(ps.UsageError) as caught:
        model.predict(value)
    assert caught.value.got
    assert caught.value.allowed


def test_comparables_take_what_predict_takes(model: ps.PriceModel) -> None:
    """One listing gives a list, several a list for each."""
    first = model.comparables("Cobalt drill", k=2)
    assert len(first) == 2
    assert all("drill" in comparable.title for comparable in first)
    assert model.comparables(["Cobalt drill"], k=2) == [first]


def test_a_file_is_priced(model: ps.PriceModel, folder: Path, tmp_path: Path) -> None:
    """By the model or by its folder."""
    new = make_csv(tmp_path / "new.csv", 30, seed=1)
    counts = ps.price_file(model.path, new, tmp_path / "prices.csv")
    assert counts["rows"] == counts["priced"] == 30
    assert ps.price_file(model, new, tmp_path / "few.csv", max_interval_ratio=1.01)["not_priced"] == 30


# Evaluations


def test_a_leaderboard_ranks_and_compares(board: ps.Leaderboard) -> None:
    """Ridge is significantly better than the median, and the difference says so."""
    assert board.names == ["ridge", "median"]
    difference = board.compare("ridge", "median")
    assert difference.better == "ridge"
    assert difference.difference < 0
    assert board.compare("median", "ridge").difference == -difference.difference
    assert len(board) == 2
    assert board["median"].n == board["ridge"].n
    assert len(board.evaluation("ridge").rows) == board["ridge"].n


def test_a_difference_reads_well(board: ps.Leaderboard) -> None:
    """On one line as text, and as an HTML table: both pricers, the difference and the conclusion."""
    difference = board.compare("ridge", "median")
    text, page = repr(difference), difference._repr_html_()
    assert "\n" not in text
    assert len(text) <= 120
    for shown in (text, page):
        assert "MAE: ridge - median" in shown
        assert f"{difference.difference:,.4g} [95 % CI: {difference.low:,.4g} to {difference.high:,.4g}]" in shown
        assert "ridge is better" in shown
    same = board.compare("ridge", "ridge")
    assert (same.better, same.conclusion) == (None, "no significant difference")


def test_a_leaderboard_refuses_unknown_names(board: ps.Leaderboard) -> None:
    """A misspelled pricer or metric is a usage error with the names there are."""
    with pytest.raises(ps.UsageError, match="no pricer 'rigde'"):
        board.compare("rigde", "median")
    with pytest.raises(ps.UsageError, match="no metric"):
        board.compare("ridge", "median", "mean eror")
    with pytest.raises(ps.UsageError, match="library"):
        board.to_frame("numpy")


@pytest.mark.parametrize("library", ["pandas", "polars", "pyarrow"])
def test_a_leaderboard_is_a_dataframe(board: ps.Leaderboard, library: str) -> None:
    """A row for each pricer, with its figures and the ends of their intervals."""
    frame = board.to_frame(library)
    assert type(frame).__module__.split(".")[0] == library
    names = list(frame.column_names if library == "pyarrow" else frame.columns)
    assert {"name", "n", "rank", "coverage", "coverage_low", "coverage_high"} <= set(names)
    assert len(frame) == 2


def test_a_leaderboard_reads_well(board: ps.Leaderboard) -> None:
    """As text and as HTML: the title, both pricers, no wider than a screen."""
    text, page = repr(board), board._repr_html_()
    assert max(len(line) for line in text.splitlines()[:5]) <= 120
    for shown in (text, page):
        assert "ridge" in shown
        assert "median" in shown
        assert f"{board['ridge'].n:,} items" in shown
    assert page.count("<tr>") == 3


def test_evaluate_alone_leaves_nothing_behind(
    median: ps.PriceModel, catalog: ps.Catalog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without `to` the evaluations live in memory."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    board = ps.evaluate(median, catalog)
    assert board["median"].n > 100
    assert list(tmp_path.iterdir()) == []


def test_a_folder_of_evaluations_grows(folder: Path, model: ps.PriceModel, catalog: ps.Catalog, tmp_path: Path) -> None:
    """A second call adds its pricer to the same leaderboard."""
    ps.evaluate(model, catalog, to=tmp_path / "evals")
    board = ps.evaluate(folder / "median", catalog, to=tmp_path / "evals")
    assert board.names == ["ridge", "median"]


def test_a_report_is_written(board: ps.Leaderboard, tmp_path: Path) -> None:
    """From the leaderboard or from its folder, with the same figures."""
    figures = ps.report(board, to=tmp_path / "report.html")
    assert (tmp_path / "report.html").stat().st_size > 100_000
    assert ps.report(board.evals.path, to=tmp_path / "again.html") == figures


def test_a_model_of_another_catalog_is_refused_unless_allowed(median: ps.PriceModel, tmp_path: Path) -> None:
    """With `other_catalog` the items that it was trained on are left out, and the note says so."""
    make_catalog(tmp_path / "other", 2400, seed=9)
    with pytest.raises(ps.UsageError, match="another catalog"):
        ps.evaluate(median, tmp_path / "other")
    board = ps.evaluate(median, tmp_path / "other", other_catalog=True)
    assert "fitted on another catalog" in board["median"].note


def test_a_small_catalog_is_evaluated_in_folds(tmp_path: Path) -> None:
    """Every row once, by a model fitted without its fold, as `pricesmith eval` does."""
    small = ps.catalog.open(make_catalog(tmp_path / "small", 300))
    ridge = ps.fit("ridge", small, to=tmp_path / "ridge")
    evaluation = ps.evaluate(ridge, small).evaluation("ridge")
    assert len(evaluation.rows) == 300
    listings = {item.listing.id: item.listing for item in small.items("train")}
    rows = [row for row in evaluation.rows if row.id in listings]
    assert [row.price for row in rows] != [quote.price for quote in ridge.price([listings[row.id] for row in rows])]


def test_a_pricer_of_ones_own_is_evaluated_on_the_split_alone(catalog: ps.Catalog, tmp_path: Path) -> None:
    """It may have learned from the other splits of a small catalog; it cannot be fitted again in folds."""

    class Ten:
        name = "ten"

        def price(self, listings: Sequence[ps.Listing]) -> list[ps.Quote]:
            return [ps.Quote(10.0) for _ in listings]

    small = ps.catalog.open(make_catalog(tmp_path / "small", 300))
    board = ps.evaluate(Ten(), small)
    assert {row.id for row in board.evaluation("ten").rows} == {item.listing.id for item in small.items("test")}
    whole = ps.evaluate([Ten()], catalog)
    assert whole["ten"].n == len(catalog.items("test"))
    assert whole["ten"].note == ""


@pytest.mark.parametrize("wrong", [3, [object()]])
def test_what_does_not_price_is_refused(catalog: ps.Catalog, wrong: Any) -> None:
    """The error says what a pricer is."""
    with pytest.raises(ps.UsageError, match="does not price"):
        ps.evaluate(wrong, catalog)


def test_the_train_split_is_refused(median: ps.PriceModel, catalog: ps.Catalog) -> None:
    """The error on rows that a model was trained on measures nothing."""
    with pytest.raises(ps.UsageError, match="train"):
        ps.evaluate(median, catalog, split="train")


# The front door


def test_reprs_are_short(model: ps.PriceModel, catalog: ps.Catalog, board: ps.Leaderboard) -> None:
    """What an interpreter shows of a result is one short line; a notebook shows a table, with names escaped."""
    quote = ps.Quote(12.345678, 10.0, 15.0)
    assert repr(quote) == "Quote(price=12.3457, low=10, high=15)"
    for value in (quote, model, catalog):
        assert len(repr(value)) < 160
        assert "\n" not in repr(value)
    for shown in (quote, model, catalog, board):
        assert shown._repr_html_().startswith("<table>")
    assert "<b>" not in ps.Quote(None, raw="<b>")._repr_html_()
    assert "2,600" in repr(catalog)


def test_a_notebook_completes_public_names() -> None:
    """`dir(ps)` lists what can be used, and each name is there."""
    assert {"curate", "fit", "PriceRegressor", "UsageError"} <= set(dir(ps))
    assert all(hasattr(ps, name) for name in ps.__all__)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        ps.nothing  # noqa: B018
