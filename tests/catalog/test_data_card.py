"""The sources of a catalog as `show` prints them: shares, prices and noise."""

from __future__ import annotations

import csv
import json
from io import StringIO

import pytest

from pricesmith.catalog import curate
from pricesmith.catalog.catalog import Catalog
from pricesmith.catalog.data_card import sparkline
from pricesmith.catalog.summary import catalog_page, to_dict
from pricesmith.cli import run
from pricesmith.testing import make_csv


@pytest.fixture(scope="module")
def shops(tmp_path_factory: pytest.TempPathFactory) -> Catalog:
    """A large source, a small one with some texts at two prices, and one whose rows are all rejected."""
    folder = tmp_path_factory.mktemp("shops")
    sources = [make_csv(folder / "large.csv", 500), make_csv(folder / "small.csv", 120, seed=4), folder / "none.csv"]
    with sources[1].open(newline="") as handle:
        rows = list(csv.DictReader(handle))
    with sources[1].open("a", newline="") as handle:
        out = csv.DictWriter(handle, list(rows[0]))
        for number, row in enumerate(rows[:40]):
            price = next(name for name in row if "price" in name.lower())
            amount = float(row[price].strip("$").replace(",", "")) * 1.5
            out.writerow(
                {**row, price: f"{amount:.2f}", "id": f"again{number}"} if "id" in row else {**row, price: amount}
            )
    sources[2].write_text("name,price\n" + "Lamp of the third shop,free\n" * 30)
    return curate([str(source) for source in sources], folder / "out", currency="USD")


def draw(catalog: Catalog, width: int) -> str:
    """The page of `show` on a terminal of this width."""
    from rich.console import Console

    with StringIO() as file:
        Console(width=width, file=file, highlight=False).print(catalog_page(catalog))
        return "\n".join(line.rstrip() for line in file.getvalue().splitlines())


def test_shares_and_histograms_add_up(shops: Catalog) -> None:
    facts = to_dict(shops)
    sources = facts["sources"]
    assert [source["source"] for source in sources] == ["large.csv", "small.csv", "none.csv"]
    assert sum(source["items"] for source in sources) == shops.ledger["rows"]["kept"]
    assert sum(source["share"] for source in sources) == pytest.approx(1, abs=0.001)
    filled = [source for source in sources if source["items"]]
    bins = zip(*(source["histogram"] for source in filled), strict=True)
    assert [sum(counts) for counts in bins] == facts["histogram"]["counts"]
    for source in filled:
        assert source["low"] <= source["median"] <= source["high"]
        assert sum(source["splits"].values()) == source["items"]


def test_a_source_without_items_is_shown(shops: Catalog) -> None:
    last = to_dict(shops)["sources"][-1]
    assert (last["items"], last["rows"]) == (0, 30)
    assert "none.csv" in draw(shops, 100)


@pytest.mark.parametrize("width", [40, 60, 80, 120])
def test_the_table_fits_the_terminal_and_keeps_the_shares(shops: Catalog, width: int) -> None:
    text = draw(shops, width)
    assert max(len(line) for line in text.splitlines()) <= width
    part = text[text.index("3 sources") :]
    for source in to_dict(shops)["sources"]:
        assert f"{source['share']:.1%}" in part
    assert ("▁" in part) == (width >= 60)


def test_a_dominant_source_is_pointed_out(shops: Catalog) -> None:
    assert "One source dominates: large.csv has" in " ".join(draw(shops, 100).split())


def test_the_noise_floor_is_that_of_equal_texts(shops: Catalog) -> None:
    """Prices a and 1.5 a: the mean distance from their median is 0.25 a for both."""
    noise = to_dict(shops)["noise_floor"]
    assert noise["rows"] >= 80
    assert noise["median_relative_difference"] == pytest.approx(0.4, abs=0.01)
    assert 0 < noise["catalog_mae"] < noise["mean_error_floor"]
    assert noise["share"] == pytest.approx(noise["rows"] / sum(shops.ledger["splits"].values()), abs=1e-4)


def test_a_sparkline_shows_every_bin_that_is_not_empty() -> None:
    assert sparkline([0, 1, 1_000_000]) == " ▁█"
    assert sparkline([]) == ""


def test_the_command_gives_all_of_it_as_json(shops: Catalog, capfd: pytest.CaptureFixture[str]) -> None:
    assert run(["show", str(shops.path), "--json"]) == 0
    facts = json.loads(capfd.readouterr().out)
    assert {"sources", "leaks", "noise_floor", "histogram", "currency", "splits"} <= facts.keys()
