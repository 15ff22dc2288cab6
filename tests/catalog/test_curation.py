"""curate: the same catalog whatever the order, a ledger that adds up, near-duplicates on one side."""

from __future__ import annotations

import csv
import gzip
import json
import random
from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from pricesmith.catalog import curate, item_writer, near_duplicates, sketch_file
from pricesmith.catalog.catalog import Catalog
from pricesmith.catalog.clean import CleanSettings, build_listing
from pricesmith.catalog.columns import ColumnMap
from pricesmith.catalog.readers.sources import RawRow, read_rows, resolve_sources
from pricesmith.core.errors import InputError, UsageError
from pricesmith.core.folders import build_stamp
from pricesmith.core.progress import Progress
from pricesmith.core.settings import parse_settings
from pricesmith.testing import make_csv, make_items
from pricesmith.text.words import split_words

Row = dict[str, Any]


def rows(n: int = 300, seed: int = 0) -> list[Row]:
    items, _ = make_items(n, seed)
    return [
        {
            "sku": item.listing.id,
            "name": item.listing.title,
            "description": item.listing.text,
            "brand": item.listing.brand,
            "price": f"${item.price:,.2f}",
        }
        for item in items
    ]


def write(path: Path, data: list[Row]) -> str:
    with path.open("w", newline="", encoding="utf-8") as handle:
        out = csv.DictWriter(handle, list(dict.fromkeys(name for row in data for name in row)))
        out.writeheader()
        out.writerows(data)
    return str(path)


def table(catalog: Catalog) -> list[Row]:
    items: list[Row] = pq.read_table(catalog.path / "items.parquet").to_pylist()
    return items


def rejects(catalog: Catalog) -> list[Row]:
    with gzip.open(catalog.path / "rejects.jsonl.gz", "rt") as handle:
        return [json.loads(line) for line in handle]


def files_of(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Catalog:
    """A catalog of 900 made rows in two files, with rows of every fault."""
    folder = tmp_path_factory.mktemp("shop")
    data = rows(900)
    faults = {"price": ["", "free", "$1 - $2", "0", "-3", "NaN", "€5", "$5000", "$0.20"], "name": ["-"]}
    bad = [data[0] | {"sku": f"bad-{name}-{value}", name: value} for name, values in faults.items() for value in values]
    bad[-1]["description"] = "-"
    same = [data[5] | {"sku": "again"}, data[6] | {"sku": "dearer", "price": "$400.00"}]
    (folder / "in").mkdir()
    write(folder / "in" / "one.csv", data[:500] + bad)
    write(folder / "in" / "two.csv", data[500:] + same)
    return curate([str(folder / "in")], folder / "out", min_price=0.5, max_price=4_500.0)


def test_the_ledger_adds_up(shop: Catalog) -> None:
    """Rows in = kept + rejected by reason, for each file and in all; the files say the same."""
    ledger = shop.ledger
    for part in (ledger["rows"], *ledger["files"]):
        assert part["in"] == part["kept"] + sum(part["rejected"].values())
    assert ledger["rows"]["in"] == 912 == sum(file["in"] for file in ledger["files"])
    assert ledger["rows"]["kept"] == len(table(shop)) == sum(ledger["splits"].values())
    assert Counter(reject["reason"] for reject in rejects(shop)) == ledger["rows"]["rejected"]
    assert Counter(reject["file"] for reject in rejects(shop)) == {
        file["file"]: sum(file["rejected"].values()) for file in ledger["files"] if file["rejected"]
    }


def test_every_fault_is_refused_by_name(shop: Catalog) -> None:
    """And nothing else is."""
    assert shop.ledger["rows"]["rejected"] == {
        "duplicate": 1,
        "no price": 2,
        "other currency: EUR": 1,
        "price above the range": 1,
        "price below the range": 1,
        "price is a range": 1,
        "price is negative": 1,
        "price is not a number": 1,
        "price is zero": 1,
        "too short": 1,
    }


def test_a_catalog_larger_than_memory_is_the_same(
    shop: Catalog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Byte for byte, if sketches and texts are sorted by way of files and groups are found block after block; several
    row groups to a range of the order, and several ranges."""
    monkeypatch.setattr(item_writer, "GROUP", 50)
    small = curate([str(shop.path.parent / "in")], tmp_path / "small", min_price=0.5, max_price=4_500.0)
    monkeypatch.setattr(item_writer, "MOST_BYTES", 20_000)
    monkeypatch.setattr(item_writer, "RANGE", 50)
    monkeypatch.setattr(item_writer, "MOST_RANGES", 4)
    monkeypatch.setattr(sketch_file, "MOST_IN_MEMORY", 0)
    monkeypatch.setattr(near_duplicates, "BLOCK_ROWS", 100)
    other = curate([str(shop.path.parent / "in")], tmp_path / "out", min_price=0.5, max_price=4_500.0)
    assert (other.path / "items.parquet").read_bytes() == (small.path / "items.parquet").read_bytes()
    assert table(other) == table(shop)
    assert pq.ParquetFile(other.path / "items.parquet").num_row_groups > 4
    assert sorted(path.name for path in other.path.iterdir()) == sorted(path.name for path in shop.path.iterdir())


def test_the_same_text_at_another_price_is_label_noise(shop: Catalog) -> None:
    """Both stay, in one group, and the ledger says how far their prices lie apart."""
    noise = shop.ledger["groups"]["label_noise"]
    assert (noise["rows"], noise["pairs"]) == (2, 1)
    dearer = next(row for row in table(shop) if row["id"] == "dearer")
    low = next(row["price"] for row in table(shop) if row["text"] == dearer["text"] and row["id"] != "dearer")
    assert noise["median_relative_difference"] == pytest.approx(2 * (400 - low) / (400 + low), abs=1e-4)
    assert len({row["group"] for row in table(shop) if row["text"] == dearer["text"]}) == 1


def test_near_duplicates_are_never_on_two_sides(shop: Catalog) -> None:
    """Compared pair by pair, exactly: nothing over 0.9 alike is divided, and no group at all."""
    sides: dict[str, set[str]] = {}
    for row in table(shop):
        sides.setdefault(row["group"], set()).add(row["split"])
    assert all(len(side) == 1 for side in sides.values())
    shingled = []
    for row in table(shop):
        words = split_words(f"{row['title']} {row['text']}")
        shingled.append(({tuple(words[i : i + 3]) for i in range(len(words) - 2)}, row["split"]))
    divided = 0
    for number, (shingles, side) in enumerate(shingled):
        for other, there in shingled[number + 1 :]:
            if side != there and len(shingles & other) > 0.9 * len(shingles | other):
                divided += 1
    assert divided == 0


def test_shuffled_rows_and_files_make_the_same_catalog(tmp_path: Path) -> None:
    """The same fingerprint and, but for the file names, the same items."""
    data = rows(400)
    data += [data[3] | {"sku": "again"}, data[4] | {"price": "$7.00"}, data[9]]
    made = []
    for seed in range(3):
        folder = tmp_path / f"in{seed}"
        folder.mkdir()
        random.Random(seed).shuffle(data)
        cut = 130 * (seed + 1)
        write(folder / "a.csv", data[:cut])
        write(folder / "b.csv", data[cut:])
        made.append(
            curate(
                [str(folder / "b.csv"), str(folder / "a.csv")], tmp_path / f"out{seed}", mapping={"category": "brand"}
            )
        )
    assert len({catalog.fingerprint for catalog in made}) == 1
    stripped = [[{**row, "source": ""} for row in table(catalog)] for catalog in made]
    assert stripped[0] == stripped[1] == stripped[2]


def test_the_same_files_make_the_same_bytes(tmp_path: Path) -> None:
    """Every file of the folder, but for the folder's own name."""
    path = write(tmp_path / "a.csv", rows(200))
    for name in ("x", "y"):
        curate([path], tmp_path / name / "shop")
    assert files_of(tmp_path / "x" / "shop") == files_of(tmp_path / "y" / "shop")


def test_curating_a_row_and_pricing_it_see_the_same_text(tmp_path: Path) -> None:
    """With nothing but what the ledger holds."""
    data = rows(150)
    for number, row in enumerate(data):
        row["description"] = f"<p>{row['description']}</p> was ${number}.99&nbsp;&hellip;"
        row |= {"weight_kg": number / 4, "url": "http://x", "empty": ""}
    path = write(tmp_path / "a.csv", data)
    catalog = curate([path], tmp_path / "out", drop_part_numbers=True)
    cleaning = parse_settings(CleanSettings, catalog.ledger["cleaning"], where="ledger.json")
    columns = parse_settings(ColumnMap, catalog.ledger["columns"], where="ledger.json")
    (source,) = resolve_sources([path])
    seen = {}
    for batch in read_rows(source):
        for raw in batch:
            assert isinstance(raw, RawRow)
            listing = build_listing(raw.values, columns, cleaning)
            seen[listing.id] = listing
    for split in ("train", "validation", "test"):
        for item in catalog.items(split):
            assert item.listing == seen[item.listing.id]


def test_a_leak_in_one_file_stays_out_of_all(tmp_path: Path) -> None:
    """The columns `unit` x `count` make the price in one file; in the other `unit` says nothing."""
    draw = random.Random(0)
    first, second = rows(150), rows(150, seed=1)
    for row in first:
        count = draw.choice((2, 4, 8))
        row |= {"unit": round(float(row["price"][1:].replace(",", "")) / count, 4), "count": count}
    for row in second:
        row |= {"unit": draw.randrange(1, 1_000)}
    catalog = curate([write(tmp_path / "a.csv", first), write(tmp_path / "b.csv", second)], tmp_path / "out")
    assert "product" in catalog.ledger["columns"]["left_out"]["unit"]
    assert catalog.ledger["columns"]["extra"] == ["count"]
    assert not [row for row in table(catalog) if "unit:" in row["text"]]


def test_an_id_is_the_files_where_it_is_unique(tmp_path: Path) -> None:
    """Else 16 figures of the row's SHA-256; no two items share one."""
    data = rows(150)
    for row in data[:20]:
        row["sku"] = "same"
    catalog = curate([write(tmp_path / "a.csv", data)], tmp_path / "out")
    ids = [row["id"] for row in table(catalog)]
    assert len(set(ids)) == len(ids)
    assert {row["sku"] for row in data[20:]} < set(ids)
    assert "same" not in ids


def test_an_amount_near_the_price_is_masked_and_counted(tmp_path: Path) -> None:
    """Within 5 % of the row's own price."""
    data = rows(150)
    data[0]["description"] += f" now only {data[0]['price']}"
    data[1]["description"] += " a $9,999 value"
    catalog = curate([write(tmp_path / "a.csv", data)], tmp_path / "out")
    assert catalog.ledger["masked"] == {"listings": 2, "amounts": 2, "near_price": 1}
    assert sum("now only [amount]" in row["text"] for row in table(catalog)) == 1


def test_balancing_touches_training_only(tmp_path: Path) -> None:
    """--train-rows keeps that many training items; validation and test stay whole; the rest is rejected by name."""
    path = write(tmp_path / "a.csv", rows(600))
    whole, small = curate([path], tmp_path / "whole"), curate([path], tmp_path / "small", train_rows=200)
    assert small.ledger["splits"] == {**whole.ledger["splits"], "train": 200}
    for split in ("validation", "test"):
        assert small.items(split) == whole.items(split)
    assert small.ledger["rows"]["rejected"]["balanced away"] == whole.ledger["splits"]["train"] - 200
    balance = small.ledger["balance"]
    assert (sum(balance["before"]), sum(balance["after"])) == (whole.ledger["splits"]["train"], 200)
    assert max(balance["after"]) < max(balance["before"])


def test_the_same_command_again_says_that_it_has_finished(tmp_path: Path) -> None:
    """And writes nothing."""
    notes: list[str] = []

    class Recorder(Progress):
        def note(self, text: str) -> None:
            notes.append(text)

    path = write(tmp_path / "a.csv", rows(150))
    first = curate([path], tmp_path / "out")
    before = (tmp_path / "out" / "items.parquet").stat().st_mtime_ns
    again = curate([path], tmp_path / "out", progress=Recorder())
    assert again.fingerprint == first.fingerprint
    assert (tmp_path / "out" / "items.parquet").stat().st_mtime_ns == before
    assert "finished already" in notes[-1]


def test_other_settings_or_a_changed_file_are_refused_with_the_difference(tmp_path: Path) -> None:
    """And --overwrite builds anew."""
    data = rows(150)
    path = write(tmp_path / "a.csv", data)
    curate([path], tmp_path / "out")
    with pytest.raises(UsageError) as caught:
        curate([path], tmp_path / "out", drop_part_numbers=True)
    assert caught.value.got == "cleaning drop_part_numbers: False -> True"
    write(tmp_path / "a.csv", data[:-1])
    with pytest.raises(UsageError) as caught:
        curate([path], tmp_path / "out")
    assert caught.value.got.startswith("source a.csv: ")
    assert curate([path], tmp_path / "out", overwrite=True).ledger["rows"]["in"] == 149


def test_work_that_failed_leaves_the_old_catalog(tmp_path: Path) -> None:
    """And nothing beside it."""
    data = rows(150)
    path = write(tmp_path / "a.csv", data)
    old = curate([path], tmp_path / "out")
    write(tmp_path / "a.csv", data[:20])
    with pytest.raises(InputError, match="Too few rows"):
        curate([path], tmp_path / "out", overwrite=True)
    assert curate([write(tmp_path / "a.csv", data)], tmp_path / "out").fingerprint == old.fingerprint
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.csv", "out"]


def test_too_few_rows_say_where_the_others_went(tmp_path: Path) -> None:
    """And a file of which no row can be read is not called empty."""
    path = tmp_path / "a.csv"
    path.write_text("name,text,price\nDrill,x\nSaw,x\nLamp,a lamp of oak,5\nHose,a long hose,free\n")
    with pytest.raises(InputError) as caught:
        curate([str(path)], tmp_path / "out")
    assert caught.value.got.startswith("1 of 4 rows; 2 ")
    assert "1 price is not a number" in caught.value.got
    path.write_text("name,text,price\nDrill,x\nSaw,x\n")
    with pytest.raises(InputError, match=r"No row of a\.csv can be read") as caught:
        curate([str(path)], tmp_path / "out")
    assert caught.value.got.startswith("2 x ")
    path.write_text("name,text,price\n")
    with pytest.raises(InputError, match="has no rows"):
        curate([str(path)], tmp_path / "out")


def test_a_killed_build_is_started_over(tmp_path: Path) -> None:
    """What it left behind is swept, not read."""
    path = write(tmp_path / "a.csv", rows(150))
    whole = curate([path], tmp_path / "whole")
    beside = tmp_path / ".out.building"
    (beside / "work").mkdir(parents=True)
    (beside / "work" / "staged.parquet").write_bytes(b"half")
    (beside / "items.parquet").write_bytes(b"half")
    (beside / ".settings.json").write_text(json.dumps(build_stamp("catalog", whole.ledger["settings"])))
    assert curate([path], tmp_path / "out").fingerprint == whole.fingerprint


def test_a_file_without_a_price_column_is_named(tmp_path: Path) -> None:
    """One of several, so that it can be left out."""
    good, bad = write(tmp_path / "a.csv", rows(150)), write(tmp_path / "b.csv", [{"name": "x", "color": "red"}])
    with pytest.raises(UsageError, match=r"^b\.csv: "):
        curate([good, bad], tmp_path / "out")


@pytest.mark.parametrize(
    "wrong",
    [
        {"min_price": 5, "max_price": 2},
        {"min_price": float("nan")},
        {"currency": "dollars"},
        {"split": "1/2/3"},
        {"train_rows": 0},
        {"mapping": {"prise": "price"}},
    ],
)
def test_settings_that_cannot_be_are_refused_before_work_starts(wrong: dict[str, Any], tmp_path: Path) -> None:
    """Exit 2, and no folder."""
    path = make_csv(tmp_path / "a.csv", 150)
    with pytest.raises(UsageError):
        curate([str(path)], tmp_path / "out", **wrong)
    assert [path.name for path in tmp_path.iterdir()] == ["a.csv"]


def test_the_range_without_a_highest_price_ends_above_the_dearest(tmp_path: Path) -> None:
    """Rounded up to two figures, so that quotes can be clipped."""
    catalog = curate([write(tmp_path / "a.csv", rows(150))], tmp_path / "out")
    dearest = max(row["price"] for row in table(catalog))
    assert dearest <= catalog.price_range[1] < 1.11 * dearest


def test_the_category_of_a_folders_file_is_its_name(tmp_path: Path) -> None:
    """Where the files have no category column."""
    (tmp_path / "in").mkdir()
    write(tmp_path / "in" / "garden-hoses.csv", rows(80))
    write(tmp_path / "in" / "lamps.csv", rows(80, seed=1))
    catalog = curate([str(tmp_path / "in")], tmp_path / "out")
    assert {row["category"] for row in table(catalog)} == {"garden hoses", "lamps"}


def test_the_ledger_keeps_the_column_map_of_every_header(tmp_path: Path) -> None:
    """And the categories that files were named by, so that a file to be priced is read as they were."""
    (tmp_path / "in").mkdir()
    write(tmp_path / "in" / "garden-hoses.csv", rows(80))
    write(tmp_path / "in" / "lamps.csv", rows(80, seed=1))
    other = [{"title": row["name"], "vendor": row["brand"], "price": row["price"]} for row in rows(80, seed=2)]
    write(tmp_path / "in" / "other.csv", other)
    ledger = curate([str(tmp_path / "in")], tmp_path / "out").ledger
    assert [(columns["title"], columns["text"], columns["brand"]) for columns in ledger["maps"]] == [
        ("name", "description", "brand"),
        ("title", None, "vendor"),
    ]
    assert ledger["categories"] == ["garden hoses", "lamps", "other"]


def test_other_currencies_are_refused_and_a_sign_goes_by_the_catalogs(tmp_path: Path) -> None:
    """`$5` is Canadian in a catalog of Canadian dollars; `€5` is not."""
    data = rows(150)
    data[0]["price"], data[1]["price"] = "€5.00", "US$5.00"
    for row, code in zip(data, ["", "", "USD", "cad"] * 40, strict=False):
        row["currency"] = code
    catalog = curate([write(tmp_path / "a.csv", data)], tmp_path / "out", currency="cad")
    assert catalog.currency == "CAD"
    usd = 1 + sum(n % 4 == 2 for n in range(150))
    assert catalog.ledger["rows"]["rejected"] == {"other currency: EUR": 1, "other currency: USD": usd}


def test_a_key_that_comes_too_late_to_be_looked_at_is_left_out_by_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rows past the sample may bring keys that nobody has checked for leaks: none is text, all are reported."""
    for module in ("readers.feeds", "curation"):
        monkeypatch.setattr(f"pricesmith.catalog.{module}.SAMPLE", 100)
    data = rows(2_200)
    for row in data[:50]:
        row["Color"] = "amaranth"
    for row in data[2_150:]:
        row["Sound"] = "plangent"
    file = tmp_path / "shop.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in data), encoding="utf-8")
    catalog = curate([str(file)], tmp_path / "catalog")
    words = " ".join(row["text"] for row in table(catalog))
    assert ("amaranth" in words, "plangent" in words) == (True, False)
    assert catalog.ledger["columns"]["left_out"]["Sound"] == "first seen after row 100"
    assert "maps" not in catalog.ledger


def test_from_python_a_source_may_be_a_path_or_one_name(tmp_path: Path) -> None:
    """Not only a list of names; one name is not taken for a list of letters."""
    path = Path(write(tmp_path / "a.csv", rows(150)))
    fingerprints = {
        curate(source, tmp_path / str(number)).fingerprint for number, source in enumerate((path, str(path), [path]))
    }
    assert len(fingerprints) == 1


@pytest.mark.parametrize(
    ("others", "price", "reason"),
    [
        ("899,50", 1299.0, ""),
        ("899.50", 1.299, ""),
        ("899", None, "price is ambiguous"),
        ("899,50|899.50", None, "price is ambiguous"),
    ],
)
def test_the_other_prices_of_a_file_say_what_a_point_means(
    others: str, price: float | None, reason: str, tmp_path: Path
) -> None:
    """`1.299` among `899,50` is 1299; among both marks, or none, it is refused."""
    kinds = others.split("|")
    data = [{**row, "price": kinds[index % len(kinds)]} for index, row in enumerate(rows(150))]
    data[3]["price"] = "1.299"
    made = curate([write(tmp_path / "a.csv", data)], tmp_path / "out")
    prices = {item.price for split in ("train", "validation", "test") for item in made.items(split)}
    assert (price in prices) is (price is not None)
    assert made.ledger["rows"]["rejected"] == ({reason: 1} if reason else {})


def test_spare_separators_at_the_end_of_rows_cost_nothing(tmp_path: Path) -> None:
    """As spreadsheets write them; a cell too many that says something is another matter."""
    path = Path(write(tmp_path / "a.csv", rows(150)))
    head, *lines = path.read_text().splitlines()
    path.write_text("\n".join([head, *(line + ",, " for line in lines[:-1]), lines[-1] + ",x"]))
    made = curate([path], tmp_path / "out")
    assert made.ledger["rows"]["rejected"] == {"wrong number of fields": 1}


def test_rows_that_are_all_alike_are_refused(tmp_path: Path) -> None:
    """A group is not split, so there would be nothing to judge by."""
    same = {"name": "A garden hose of rubber", "description": "", "brand": ""}
    data = [{**row, **same} for row in rows(150)]
    with pytest.raises(InputError, match="too much alike") as caught:
        curate([write(tmp_path / "a.csv", data)], tmp_path / "out")
    assert "groups of near-duplicates" in caught.value.got


@pytest.mark.parametrize("name", ["price_usd", "PriceUSD", "usd price"])
def test_a_price_that_says_another_currency_in_its_name_is_refused(name: str, tmp_path: Path) -> None:
    """Never converted, and never taken for another."""
    data = [{name if key == "price" else key: value for key, value in row.items()} for row in rows(150)]
    path = write(tmp_path / "a.csv", data)
    mapping = {"price": name}
    with pytest.raises(UsageError, match="is in USD by its name"):
        curate([path], tmp_path / "out", currency="EUR", mapping=mapping)
    assert curate([path], tmp_path / "out", mapping=mapping).currency == "USD"
