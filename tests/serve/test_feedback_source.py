"""Catalogs of sold listings: from a log alone, and added to an earlier catalog."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from pricesmith.catalog.catalog import SPLITS, Catalog, open_catalog
from pricesmith.catalog.curation import curate
from pricesmith.cli import run
from pricesmith.core.errors import InputError, UsageError
from pricesmith.core.progress import Progress
from pricesmith.core.types import Item
from pricesmith.pricers.fitting import fit_model
from pricesmith.pricers.model import load_model
from pricesmith.pricers.recipes import read_recipe
from pricesmith.serve.feedback_source import curate_feedback
from pricesmith.serve.log import FeedbackRecord, RequestLog
from pricesmith.testing import make_items


class Notes(Progress):
    """Progress whose notes are kept."""

    def __init__(self) -> None:
        self.notes: list[str] = []

    def note(self, text: str) -> None:
        self.notes.append(text)


def sold(item: Item, number: int, **changes: object) -> FeedbackRecord:
    """An item as a sold listing, with its size as a further field."""
    listing = item.listing
    record = FeedbackRecord(
        f"f{number}",
        round(item.price, 2),
        "USD",
        title=listing.title,
        text=listing.text,
        category=listing.category,
        brand=listing.brand,
        fields={"condition": "used" if number % 2 else "new"},
        sold_on="2026-10-03",
    )
    return replace(record, **changes)


def write_log(path: Path, records: Sequence[FeedbackRecord]) -> Path:
    """A log with these sold prices."""
    with RequestLog(path) as log:
        for record in records:
            log.record_feedback_sync(record)
    return path


def read_items(catalog: Catalog) -> dict[str, tuple[str, str, str, str, str, float]]:
    """Title, text, category, brand, split and price of each item, by id."""
    names = ("id", "title", "text", "category", "brand", "split", "price")
    rows = (row for batch in catalog.batches(names) for row in batch.to_pylist())
    return {row["id"]: tuple(row[name] for name in names[1:]) for row in rows}


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A log of 250 sold listings in dollars and 3 in other currencies."""
    items, _ = make_items(250, seed=3)
    records = [sold(item, number) for number, item in enumerate(items)]
    records += [sold(items[0], 900 + n, currency=code) for n, code in enumerate(("EUR", "EUR", "GBP"))]
    return write_log(tmp_path_factory.mktemp("log") / "shop.requests.db", records)


@pytest.fixture(scope="module")
def old(tmp_path_factory: pytest.TempPathFactory) -> Catalog:
    """A catalog of 600 items with columns of its own."""
    folder = tmp_path_factory.mktemp("old")
    items, _ = make_items(600, seed=0)
    with (folder / "shop.csv").open("w", newline="") as handle:
        out = csv.writer(handle)
        out.writerow(["sku", "name", "description", "category", "brand", "price", "material"])
        for item in items:
            listing = item.listing
            values = [f"sku{listing.id}", listing.title, listing.text, listing.category, listing.brand]
            out.writerow([*values, f"{item.price:.2f}", "brass"])
    return curate([str(folder / "shop.csv")], folder / "catalog")


@pytest.fixture(scope="module")
def added(log: Path, old: Catalog) -> Catalog:
    """The earlier catalog and the sold listings."""
    return curate_feedback(log, old.path.with_name("added"), add=old.path)


def test_sold_listings_become_a_catalog(log: Path, tmp_path: Path) -> None:
    progress = Notes()
    catalog = curate_feedback(log, tmp_path / "sold", progress=progress)
    assert catalog.currency == "USD"
    assert catalog.ledger["rows"]["in"] == 250
    assert [file["file"] for file in catalog.ledger["files"]] == ["shop.requests.db.feedback.jsonl"]
    item = read_items(catalog)["sold-f7"]
    assert "condition: used" in item[1]
    assert item[2] in {"hose", "lamp", "drill", "chair"}
    assert any("3 sold prices in another currency than USD (2 in EUR, 1 in GBP)" in note for note in progress.notes)
    fit_model(read_recipe("ridge", {}), catalog, tmp_path / "ridge")
    assert load_model(tmp_path / "ridge").price([catalog.items("test")[0].listing])[0].price


def test_the_same_command_again_is_finished_already(log: Path, old: Catalog, added: Catalog) -> None:
    progress = Notes()
    again = curate_feedback(log, added.path, add=old.path, progress=progress)
    assert again.fingerprint == added.fingerprint
    assert any("finished already" in note for note in progress.notes)


def test_items_of_the_earlier_catalog_are_kept_as_they_were(old: Catalog, added: Catalog) -> None:
    """Text, price and split: cleaning what is clean changes nothing."""
    before, after = read_items(old), read_items(added)
    lost = [id for id in before if id not in after]
    changed = [id for id in before if id in after and before[id] != after[id]]
    record = added.ledger["previous"]
    assert record["fingerprint"] == old.fingerprint
    assert len(lost) + len(changed) <= record["changed_split"] + added.ledger["rows"]["rejected"].get("duplicate", 0)
    assert len(changed) <= 0.02 * len(before)
    for id in changed:
        assert before[id][:4] == after[id][:4]
        assert SPLITS.index(after[id][4]) < SPLITS.index(before[id][4])


def test_no_near_duplicate_is_on_two_sides(added: Catalog) -> None:
    groups = [set(added.columns(split, ("group",))["group"]) for split in SPLITS]
    assert not (groups[0] & groups[1] | groups[0] & groups[2] | groups[1] & groups[2])


def test_a_sold_item_of_the_earlier_test_split_goes_to_test(old: Catalog, tmp_path: Path) -> None:
    """Sold for another price, with nearly the same text: it must not be trained on."""
    known = old.items("test")[:20]
    records = [
        FeedbackRecord(
            f"f{number}", item.price * 1.1, "USD", title=item.listing.title, text=item.listing.text,
            category=item.listing.category, brand=item.listing.brand,
        )
        for number, item in enumerate(known)
    ]  # fmt: skip
    catalog = curate_feedback(write_log(tmp_path / "log.db", records), tmp_path / "new", add=old.path)
    items = read_items(catalog)
    assert {items[id][4] for id in items if id.startswith("sold-")} == {"test"}


def test_columns_of_the_earlier_catalog_are_still_read(old: Catalog, added: Catalog, tmp_path: Path) -> None:
    """A file in the old shop's format is priced as before, and a field of it can still be given."""
    from pricesmith.batch.price_one import known_fields

    assert {"material", "condition"} <= set(known_fields(added.ledger))
    fit_model(read_recipe("median", {}), added, tmp_path / "median")
    (tmp_path / "file.csv").write_text("sku,name,description,material\n1,Garden hose,25 m long,brass\n")
    to = tmp_path / "prices.jsonl"
    assert run(["price", str(tmp_path / "median"), "--file", str(tmp_path / "file.csv"), "--to", str(to)]) == 0
    assert json.loads(to.read_text())["price"] > 0


def test_fields_with_the_names_of_usual_columns_do_not_replace_them(tmp_path: Path) -> None:
    items, _ = make_items(150, seed=4)
    fields = {"Price": "1", "title": "another", "ID": "5", "list price": "9", "": "x", "weight": "2 kg"}
    records = [sold(item, number, fields=fields) for number, item in enumerate(items)]
    catalog = curate_feedback(write_log(tmp_path / "log.db", records), tmp_path / "new")
    texts = [text for _, text, *_ in read_items(catalog).values()]
    assert all("weight: 2 kg" in text for text in texts)
    assert not any("another" in text or "list price" in text for text in texts)
    assert "list price" in catalog.columns_left_out()


def test_hostile_texts_are_only_texts(tmp_path: Path) -> None:
    items, _ = make_items(150, seed=5)
    odd = [
        "=HYPERLINK(1)",
        "<script>alert(1)</script> lamp",
        "\x00NUL lamp",
        "\ud800 lamp",
        "'; DROP TABLE feedback; --",
    ]
    records = [
        sold(item, number, title=f"{odd[number % 5]} {item.listing.title}", fields={odd[number % 5]: "x\ny"})
        for number, item in enumerate(items)
    ]
    catalog = curate_feedback(write_log(tmp_path / "log.db", records), tmp_path / "new")
    assert catalog.ledger["rows"]["in"] == 150


def test_too_few_sold_prices_are_refused(tmp_path: Path) -> None:
    items, _ = make_items(7)
    few = write_log(tmp_path / "few.db", [sold(item, number) for number, item in enumerate(items)])
    with pytest.raises(InputError, match="Too few rows") as caught:
        curate_feedback(few, tmp_path / "new")
    assert "7 of 7" in caught.value.got
    with pytest.raises(InputError, match="has no sold prices"):
        curate_feedback(write_log(tmp_path / "empty.db", []), tmp_path / "new")
    with pytest.raises(InputError, match="has no sold prices in JPY"):
        curate_feedback(few, tmp_path / "new", currency="JPY")
    assert not (tmp_path / "new").exists()


def test_another_currency_than_that_of_the_earlier_catalog_is_refused(log: Path, old: Catalog, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="--currency"):
        curate_feedback(log, tmp_path / "new", add=old.path, currency="EUR")


def test_the_log_is_not_changed(log: Path, tmp_path: Path) -> None:
    before = log.read_bytes()
    curate_feedback(log, tmp_path / "sold")
    assert log.read_bytes() == before


def test_the_command(log: Path, old: Catalog, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    words = ["curate", str(log), "--from-feedback", "--to", str(tmp_path / "new"), "--add", str(old.path)]
    assert run(words) == 0
    assert "in another currency than USD" in capfd.readouterr().out
    assert sum(open_catalog(tmp_path / "new").ledger["splits"].values()) > 800
    for wrong in (
        [*words, "--map", "price=amount"],
        [*words, "--preview"],
        ["curate", str(log), str(log), "--from-feedback", "--to", str(tmp_path / "x")],
    ):
        assert run(wrong) == 2
