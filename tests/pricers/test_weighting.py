"""Sample weights by source: `fit --weight-by`."""

from __future__ import annotations

import csv
import json
import math
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.catalog.test_kinds import Notes

from pricesmith.catalog import curate
from pricesmith.catalog.catalog import Catalog
from pricesmith.cli import run
from pricesmith.core.errors import UsageError
from pricesmith.core.types import Item, Listing
from pricesmith.pricers import KINDS
from pricesmith.pricers.fitting import FitData, fit_model, refit_model
from pricesmith.pricers.median import median_price
from pricesmith.pricers.model import format_model, load_model
from pricesmith.pricers.recipes import read_recipe
from pricesmith.pricers.weighting import POWERS, WEIGHTED_KINDS, check_weighting, source_weights

QUICK: dict[str, dict[str, Any]] = {
    "ridge": {},
    "median": {},
    "sparse_mlp": {"ensemble_size": 1, "embedding_dim": 8, "hidden_dim": 8},
    "boosting": {"n_estimators": 30},
}
THINGS = ("hose", "lamp", "chair", "table", "shelf", "bucket", "ladder", "carpet", "mirror", "clock", "stove")
PLACES = ("garden", "kitchen", "office", "workshop", "cellar", "balcony", "garage")


@pytest.fixture(scope="module")
def shops(tmp_path_factory: pytest.TempPathFactory) -> Catalog:
    """A large shop whose things cost about $10 and a small one where the same kinds of things cost about $100."""
    path = tmp_path_factory.mktemp("shops") / "shops.csv"
    with path.open("w", newline="") as out:
        rows = csv.writer(out)
        rows.writerow(["id", "name", "price", "shop"])
        for number in range(400):
            name = f"{THINGS[number % 11]} {number * 7919 % 1009} for the {PLACES[number % 7]}"
            small = number % 10 == 0
            rows.writerow([number, name, (100 if small else 10) * (1 + number % 5 / 50), "small" if small else "large"])
    return curate([str(path)], path.parent / "out", mapping={"source": "shop"})


@given(st.lists(st.sampled_from("abcd"), min_size=1, max_size=60), st.sampled_from(sorted(POWERS)))
def test_the_mean_weight_is_one_and_the_totals_follow_the_rule(sources: list[str], weight_by: str) -> None:
    """Equal totals, or totals in proportion to the square root of the items of a source."""
    weights = source_weights(sources, weight_by)
    assert sum(weights[source] for source in sources) == pytest.approx(len(sources))
    totals = {source: weights[source] * sources.count(source) for source in weights}
    expected = {source: sources.count(source) ** (1 - POWERS[weight_by]) for source in weights}
    scale = sum(totals.values()) / sum(expected.values())
    assert totals == pytest.approx({source: scale * value for source, value in expected.items()})


@given(st.lists(st.tuples(st.integers(1, 50), st.integers(1, 4)), min_size=1, max_size=30))
def test_a_weight_counts_as_so_many_items(rows: list[tuple[int, int]]) -> None:
    """The weighted median is between the two middle prices of the items repeated as often as their weights."""
    items = [Item(Listing("", "a", ""), float(price), float(weight)) for price, weight in rows]
    prices = sorted(price for price, weight in rows for _ in range(weight))
    low, high = prices[(len(prices) - 1) // 2], prices[len(prices) // 2]
    assert low <= median_price(items) <= high


def test_a_column_of_sources_names_the_source_of_each_item(shops: Catalog) -> None:
    """It stays out of the text; the ledger still counts rows by file."""
    sources = [source for batch in shops.batches(["source"]) for source in batch.column("source").to_pylist()]
    assert {name: sources.count(name) for name in set(sources)} == {"large": 360, "small": 40}
    assert shops.ledger["columns"]["source"] == "shop"
    assert [file["file"] for file in shops.ledger["files"]] == ["shops.csv"]
    assert not any("small" in text for batch in shops.batches(["text"]) for text in batch.column("text").to_pylist())


@pytest.mark.parametrize("kind", WEIGHTED_KINDS)
def test_weights_move_quotes_towards_the_small_source(kind: str, shops: Catalog, tmp_path: Path) -> None:
    """Every kind that takes weights. The manifest names them, and a refit on other rows has them again."""
    recipe, listings = read_recipe(kind, QUICK[kind]), [item.listing for item in shops.items("test")]
    logs = []
    for weight_by in ("", "source-sqrt", "source"):
        to = tmp_path / (weight_by or "none")
        fit_model(recipe, shops, to, weight_by=weight_by)
        quotes = load_model(to).price(listings)
        logs.append(sum(math.log(quote.price or 1) for quote in quotes) / len(quotes))
    assert logs[0] <= logs[1] <= logs[2]
    assert logs[0] < logs[2]
    model = load_model(tmp_path / "source")
    assert model.weight_by == "source"
    assert "weighted by source" in format_model(model)
    if kind == "ridge":
        train, sources = shops.items("train"), {}
        for batch in shops.batches(["id", "source"]):
            sources |= dict(zip(*(batch.column(name).to_pylist() for name in ("id", "source")), strict=True))
        again = refit_model(model, FitData(train, shops.tune_half(), shops.calibrate_half(), {}, sources))
        assert again.weight_by == "source"
        assert again.price(listings[:9])[0].price == pytest.approx(model.price(listings[:9])[0].price)


def test_every_other_kind_is_refused_with_a_hint(shops: Catalog, tmp_path: Path) -> None:
    """Before any work; the kinds that the error names are those that take weights."""
    for kind in KINDS:
        try:
            recipe = read_recipe(kind)
        except UsageError:  # a recipe that needs settings
            continue
        assert getattr(recipe, "takes_weights", False) == (kind in WEIGHTED_KINDS)
    with pytest.raises(UsageError, match="takes no weights") as caught:
        fit_model(read_recipe("knn"), shops, tmp_path / "knn", weight_by="source")
    assert ", ".join(WEIGHTED_KINDS) in str(caught.value.allowed)
    with pytest.raises(UsageError, match="no weighting 'shop'"):
        check_weighting("shop", read_recipe("ridge"))


def test_a_single_source_is_refused_and_the_hint_works(shops: Catalog, tmp_path: Path) -> None:
    """The catalog of the fixture without its column of sources has one source, the file. A note names the column."""
    path, notes = shops.path.parent / "shops.csv", Notes()
    catalog = curate([str(path)], tmp_path / "out", progress=notes)
    assert any("'shop' may name the source of each row: --map source=shop" in note for note in notes.notes)
    with pytest.raises(UsageError, match="single source") as caught:
        fit_model(read_recipe("median"), catalog, tmp_path / "model", weight_by="source")
    assert "--map source=COLUMN" in str(caught.value.hint)
    assert not (tmp_path / "model").exists()


def test_the_command_takes_the_option(shops: Catalog, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The same command again has finished; without the option it is another model."""
    command = ["fit", "median", "--catalog", str(shops.path), "--to", str(tmp_path / "model"), "--json"]
    assert run([*command, "--weight-by", "source"]) == 0
    assert json.loads(capsys.readouterr().out)["settings"]["weight_by"] == "source"
    assert run([*command, "--weight-by", "source"]) == 0
    assert run(command) == 2
