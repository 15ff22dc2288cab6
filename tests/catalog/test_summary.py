"""What a person sees of a catalog."""

from __future__ import annotations

import json
from io import StringIO
from pathlib import Path

import pytest

from pricesmith.catalog import curate
from pricesmith.catalog.catalog import SPLITS, Catalog
from pricesmith.catalog.summary import catalog_page, catalog_summary, code_span, to_dict
from pricesmith.testing import make_csv


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Catalog:
    folder = tmp_path_factory.mktemp("show")
    return curate(
        [str(make_csv(folder / "a.csv", 500))], folder / "out", currency="USD", max_price=200.0, train_rows=150
    )


def test_the_first_line_says_what_the_price_range_cost(shop: Catalog) -> None:
    """Before anything else."""
    outside = shop.ledger["rows"]["rejected"]["price above the range"]
    assert outside > 0
    assert f"{outside:,} outside $0.01 to $200.00" in catalog_summary(shop).splitlines()[0]


def draw(catalog: Catalog, width: int) -> str:
    """The page of `show` on a terminal of this width."""
    from rich.console import Console

    with StringIO() as file:
        Console(width=width, file=file, highlight=False).print(catalog_page(catalog))
        return "\n".join(line.rstrip() for line in file.getvalue().splitlines())


@pytest.mark.parametrize("width", [40, 60, 80, 120, 200])
def test_the_page_shows_every_number_at_any_width(shop: Catalog, width: int) -> None:
    """Bars and texts are dropped on a narrow terminal; the counts of all bins and the prices stay whole."""
    text = draw(shop, width)
    histogram = to_dict(shop)["histogram"]
    assert sum(histogram["counts"]) == shop.ledger["rows"]["kept"]
    part = text[text.index("Prices\n") : text.index("Examples\n")]
    rows = [line.split() for line in part.splitlines() if "$" in line]
    assert [int(row[2].replace(",", "")) for row in rows] == histogram["counts"]
    for example in to_dict(shop)["examples"]:
        assert f"${example['price']:,.2f}" in text
    assert max(len(line) for line in text.splitlines()) <= width
    assert ("█" in text) == (width >= 80)


def test_the_page_shows_examples_of_every_split(shop: Catalog) -> None:
    """Two each, with their prices."""
    assert [example["split"] for example in to_dict(shop)["examples"]] == [split for split in SPLITS for _ in range(2)]


def test_the_page_shows_leaks_groups_and_balancing(shop: Catalog) -> None:
    """In words."""
    text = draw(shop, 120)
    for line in ("Near-duplicate groups: ", "Split by group: 150 train", "Balanced to 150", "Columns: title = name"):
        assert line in text


def test_facts_are_json(shop: Catalog) -> None:
    """For --json."""
    assert json.loads(json.dumps(to_dict(shop), allow_nan=False))["fingerprint"] == shop.fingerprint


def test_the_card_describes_the_catalog(shop: Catalog) -> None:
    """Counts, columns and the fingerprint."""
    card = (shop.path / "CARD.md").read_text()
    assert shop.fingerprint in card
    assert f"{shop.ledger['rows']['kept']:,} items" in card
    assert "title = `name`" in card


def test_a_columns_name_cannot_break_the_card() -> None:
    """It stays in its code span, on its line."""
    assert code_span("a`b\n# c") == "a'b # c"


def test_a_leak_is_reported_with_its_reason(tmp_path: Path) -> None:
    """In the summary and in the card."""
    text = make_csv(tmp_path / "a.csv", 150).read_text().splitlines()
    lines = [f"{text[0]},list_price", *(f"{line},1" for line in text[1:])]
    (tmp_path / "b.csv").write_text("\n".join(lines))
    catalog = curate([str(tmp_path / "b.csv")], tmp_path / "out")
    assert "Dropped because it gives the price away: list_price (its name says list)" in catalog_summary(catalog)
    assert "`list_price`: leak" in (catalog.path / "CARD.md").read_text()
