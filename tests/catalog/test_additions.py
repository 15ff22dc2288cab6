"""curate --add: an earlier catalog grows, and its items stay what and where they were."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import pytest

from pricesmith.catalog.catalog import SPLITS, Catalog, open_catalog
from pricesmith.catalog.curation import curate
from pricesmith.catalog.summary import to_dict
from pricesmith.cli import run
from pricesmith.core.errors import UsageError
from pricesmith.testing import make_items

Row = dict[str, Any]


def rows(n: int, seed: int, **more: str) -> list[Row]:
    """Made rows, with ids that every file of a shop has again: 1, 2, 3."""
    return [
        {
            "id": number,
            "title": item.listing.title,
            "description": item.listing.text,
            "brand": item.listing.brand,
            "price": f"{item.price:.2f}",
            **more,
        }
        for number, item in enumerate(make_items(n, seed)[0], start=1)
    ]


def write(path: Path, data: list[Row]) -> str:
    with path.open("w", newline="", encoding="utf-8") as handle:
        out = csv.DictWriter(handle, list(data[0]))
        out.writeheader()
        out.writerows(data)
    return str(path)


def items_of(catalog: Catalog) -> dict[str, Row]:
    names = ("id", "title", "text", "brand", "price", "split", "group", "source")
    return {row["id"]: row for batch in catalog.batches(names) for row in batch.to_pylist()}


@pytest.fixture(scope="module")
def old(tmp_path_factory: pytest.TempPathFactory) -> Catalog:
    folder = tmp_path_factory.mktemp("old")
    return curate([write(folder / "may.csv", rows(600, 0, material="brass"))], folder / "may", max_price=5_000.0)


@pytest.fixture(scope="module")
def new(old: Catalog, tmp_path_factory: pytest.TempPathFactory) -> Catalog:
    folder = tmp_path_factory.mktemp("new")
    return curate([write(folder / "june.csv", rows(400, 7, colour="red"))], folder / "june", add=old)


def test_old_items_keep_their_ids_texts_and_prices(old: Catalog, new: Catalog) -> None:
    before, after = items_of(old), items_of(new)
    assert before.keys() <= after.keys()
    for id, row in before.items():
        assert {name: row[name] for name in ("title", "text", "brand", "price")} == {
            name: after[id][name] for name in ("title", "text", "brand", "price")
        }


def test_items_keep_the_names_of_their_sources_over_several_additions(
    old: Catalog, new: Catalog, tmp_path: Path
) -> None:
    third = curate([write(tmp_path / "may.csv", rows(300, 9)), write(tmp_path / "july.csv", rows(300, 11))],
                   tmp_path / "july", add=new)  # fmt: skip
    before, after = items_of(new), items_of(third)
    assert {row["source"] for row in before.values()} == {"may.csv", "june.csv"}
    assert {row["source"] for row in after.values()} == {"may.csv", "june.csv", "july.csv"}
    assert all(after[id]["source"] == row["source"] for id, row in before.items())
    facts = {fact["source"]: fact for fact in to_dict(third)["sources"]}
    assert {name: fact["rows"] for name, fact in facts.items()} == {"may.csv": 900, "june.csv": 400, "july.csv": 300}
    for name, fact in facts.items():
        assert fact["items"] == sum(row["source"] == name for row in after.values())
    assert sum(fact["share"] for fact in facts.values()) == pytest.approx(1, abs=0.001)


def test_old_items_keep_their_split_unless_a_new_one_joins_two_splits(old: Catalog, new: Catalog) -> None:
    before, after = items_of(old), items_of(new)
    moved = [id for id in before if before[id]["split"] != after[id]["split"]]
    assert len(moved) <= new.ledger["previous"]["changed_split"] <= 0.02 * len(before)
    assert all(SPLITS.index(after[id]["split"]) < SPLITS.index(before[id]["split"]) for id in moved)


def test_no_group_is_on_two_sides_and_old_groups_stay_whole(old: Catalog, new: Catalog) -> None:
    after = items_of(new)
    sides: dict[str, set[str]] = {}
    for row in after.values():
        sides.setdefault(row["group"], set()).add(row["split"])
    assert all(len(splits) == 1 for splits in sides.values())
    groups: dict[str, set[str]] = {}
    for id, row in items_of(old).items():
        groups.setdefault(row["group"], set()).add(after[id]["group"])
    assert all(len(joined) == 1 for joined in groups.values())


def test_a_new_listing_like_a_test_item_goes_to_test(old: Catalog, tmp_path: Path) -> None:
    known = old.items("test")[:30]
    again = [
        {"title": item.listing.title, "text": item.listing.text, "brand": item.listing.brand, "price": item.price * 1.1}
        for item in known
    ]
    catalog = curate([write(tmp_path / "again.csv", again)], tmp_path / "new", add=old.path)
    assert {row["split"] for row in items_of(catalog).values() if row["source"] == "again.csv"} == {"test"}


def test_a_leak_of_the_old_catalog_stays_out_of_the_new_rows(tmp_path: Path) -> None:
    """In the new file alone, the column would not be recognized: few of its values are near the price."""
    data = rows(300, 0)
    first = curate([write(tmp_path / "a.csv", [row | {"score": row["price"]} for row in data])], tmp_path / "a")
    assert "score" in first.columns_left_out()
    second = [row | {"score": "7"} for row in rows(200, 3)]
    catalog = curate([write(tmp_path / "b.csv", second)], tmp_path / "b", add=first)
    assert not any("score" in row["text"] for row in items_of(catalog).values())


def test_both_ranges_currencies_and_columns_are_known(old: Catalog, new: Catalog) -> None:
    from pricesmith.batch.price_one import known_fields

    assert {"material", "colour"} <= set(known_fields(new.ledger))
    assert new.price_range == old.price_range
    assert new.currency == "USD"
    assert [file["file"] for file in new.ledger["files"]] == ["catalog may", "june.csv"]


def test_it_grows_again(new: Catalog, tmp_path: Path) -> None:
    catalog = curate([write(tmp_path / "july.csv", rows(200, 9))], tmp_path / "july", add=new)
    before, after = items_of(new), items_of(catalog)
    assert before.keys() <= after.keys()
    assert (
        sum(before[id]["split"] != after[id]["split"] for id in before) <= catalog.ledger["previous"]["changed_split"]
    )


@pytest.mark.parametrize(
    ("options", "message"),
    [({"currency": "EUR"}, "--currency"), ({"drop_part_numbers": True}, "--drop-part-numbers")],
)
def test_options_that_would_change_the_old_items_are_refused(
    options: dict[str, Any], message: str, old: Catalog, tmp_path: Path
) -> None:
    source = write(tmp_path / "june.csv", rows(200, 7))
    with pytest.raises(UsageError, match=message) as caught:
        curate([source], tmp_path / "new", add=old, **options)
    assert caught.value.hint.startswith("Leave out")
    assert not (tmp_path / "new").exists()


def test_the_old_catalog_is_never_written(old: Catalog, tmp_path: Path) -> None:
    before = (old.path / "ledger.json").read_bytes()
    source = write(tmp_path / "june.csv", rows(200, 7))
    with pytest.raises(UsageError, match="folder to write") as caught:
        curate([source], old.path, add=old, overwrite=True)
    to = caught.value.hint.removeprefix("Use --to ").rstrip(".")
    assert run(["curate", source, "--to", to, "--add", str(old.path), "--quiet"]) == 0
    assert (old.path / "ledger.json").read_bytes() == before


def test_the_command_says_what_was_added(old: Catalog, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    source = write(tmp_path / "june.csv", rows(200, 7))
    assert run(["curate", source, "--to", str(tmp_path / "new"), "--add", str(old.path)]) == 0
    said = capfd.readouterr().out
    kept = open_catalog(tmp_path / "new").ledger["rows"]["kept"] - len(items_of(old))
    assert f"{kept:,} items added to the {len(items_of(old)):,} items of the catalog may" in " ".join(said.split())
