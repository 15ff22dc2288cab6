"""What curate saw of a row, price sees: columns, categories and ids of files of every shape, priced by `price_file`."""

from __future__ import annotations

import csv
import gzip
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from pricesmith.batch.price import price_file
from pricesmith.catalog import curate
from pricesmith.catalog.catalog import SPLITS, Catalog
from pricesmith.catalog.clean import CleanSettings
from pricesmith.catalog.columns import ColumnMap
from pricesmith.core.errors import UsageError
from pricesmith.core.types import Listing, Quote
from pricesmith.pricers.fitting import catalog_info
from pricesmith.testing import make_items

Row = dict[str, Any]
Shape = tuple[str, frozenset[str]]  # ending, columns
TITLES, TEXTS = ("name", "title"), ("description", "body_html")
OTHERS = ("features", "vendor", "product_type", "category", "color", "weight_kg", "url", "old_price", "material")
SHARE = 130  # rows of a file


class Spy:
    """Quotes everything alike, and keeps what it was asked."""

    def __init__(self) -> None:
        self.seen: list[Listing] = []

    @property
    def name(self) -> str:
        return "spy"

    def price(self, listings: Sequence[Listing]) -> list[Quote]:
        self.seen += listings
        return [Quote(10.0) for _ in listings]


def rows(names: frozenset[str], seed: int) -> list[Row]:
    """Rows of a file with these columns; one cell in three is empty, and one price in nine."""
    items, _ = make_items(SHARE, seed=seed)
    made = []
    for number, item in enumerate(items):
        listing = item.listing
        cells: Row = {
            **dict.fromkeys(TITLES, listing.title),
            **dict.fromkeys(TEXTS, f"<p>{listing.text}</p> was ${number}.99"),
            "features": f"made {seed} {number}&nbsp;times",
            "vendor": listing.brand,
            "product_type": listing.category,
            "category": f"{listing.category}s",
            "color": "green",
            "weight_kg": number / 4,
            "url": "http://x",
            "old_price": item.price + 1,
            "material": "oak",
        }
        filled = {name: None if (number + i) % 3 == 0 else cells[name] for i, name in enumerate(sorted(names))}
        made.append(
            {"id": float(1_000 * seed + number), **filled, "price": "" if number % 9 == 0 else f"${item.price}"}
        )
    return made


def write(path: Path, data: Sequence[Row]) -> Path:
    """A file by its ending; JSON Lines leave out the keys of empty cells."""
    if path.suffix == ".parquet":
        pq.write_table(pa.table({name: [row[name] for row in data] for name in data[0]}), path)
    elif ".jsonl" in path.suffixes:
        lines = [json.dumps({name: cell for name, cell in row.items() if cell is not None}) for row in data]
        text = "\n".join(lines).encode()
        path.write_bytes(gzip.compress(text) if path.suffix == ".gz" else text)
    else:
        with path.open("w", newline="", encoding="utf-8") as handle:
            out = csv.DictWriter(handle, list(data[0]), delimiter="\t" if path.suffix == ".tsv" else ",")
            out.writeheader()
            for row in data:
                out.writerow({**row, "id": int(row["id"])})
    return path


def info(catalog: Catalog) -> Mapping[str, Any]:
    """The catalog.json of a run that is fitted on a catalog."""
    values: Mapping[str, Any] = json.loads(json.dumps(catalog_info(catalog, catalog.items("train"))))
    return values


def priced(catalog: Catalog, file: Path) -> dict[str, Listing]:
    """What a pricer is asked of a file, by id; nothing is left behind."""
    spy, out = Spy(), file.parent.with_name("prices.csv")
    price_file(spy, info(catalog), file, out, identity="x", part_rows=40)
    assert not out.with_name("prices.csv.parts").exists()
    return {listing.id: listing for listing in spy.seen}


def items(catalog: Catalog) -> dict[str, Listing]:
    return {item.listing.id: item.listing for split in SPLITS for item in catalog.items(split)}


shapes = st.lists(
    st.tuples(
        st.sampled_from((".csv", ".tsv", ".jsonl", ".jsonl.gz", ".parquet")),
        st.builds(
            lambda title, text, others: frozenset((title, *text, *others)),
            st.sampled_from(TITLES),
            st.sets(st.sampled_from(TEXTS)),
            st.sets(st.sampled_from(OTHERS)),
        ),
    ),
    min_size=2,
    max_size=4,
)
SHOPS: list[Shape] = [
    (".csv", frozenset({"name", "description"})),
    (".csv", frozenset({"title", "body_html", "vendor", "product_type"})),
    (".jsonl", frozenset({"name", "description", "features", "category"})),
    (".parquet", frozenset({"name", "features"})),
]


@settings(max_examples=1, derandomize=True)
@example(SHOPS)
@given(shapes)
def test_what_curate_saw_of_a_row_price_sees(files: list[Shape]) -> None:
    """Listing by listing and id by id, for every file of a folder: other headers, absent keys, no category column."""
    with TemporaryDirectory() as temporary:
        folder = Path(temporary) / "in"
        folder.mkdir()
        made = [write(folder / f"file-{i}{end}", rows(names, i)) for i, (end, names) in enumerate(files)]
        catalog = curate([str(folder)], Path(temporary) / "out")
        seen: dict[str, Listing] = {}
        for file in made:
            seen |= priced(catalog, file)
        for name, listing in items(catalog).items():
            assert seen[name] == listing


def test_a_mapped_column_is_read_by_price_too(tmp_path: Path) -> None:
    """In the catalog's file, and in one with another header."""
    data = rows(frozenset({"name", "description", "material"}), 0)
    (tmp_path / "in").mkdir()
    file = write(tmp_path / "in" / "shop.csv", data)
    catalog = curate([str(file)], tmp_path / "out", mapping={"brand": "Material"})
    seen = priced(catalog, file)
    assert {name: seen[name] for name in items(catalog)} == items(catalog)
    for row in data:
        row["finish"] = "matt"
        del row["price"]
    again = priced(catalog, write(tmp_path / "in" / "new.csv", data))
    assert {listing.brand for listing in again.values()} == {"oak", ""}
    assert "finish: matt" in again["1"].text


def test_a_file_of_a_known_name_is_of_its_category(tmp_path: Path) -> None:
    """A later file of the same name is; a name that the catalog never saw is no category."""
    (tmp_path / "in").mkdir()
    (tmp_path / "later").mkdir()
    data = rows(frozenset({"name", "description"}), 0)
    write(tmp_path / "in" / "garden-hoses.csv", data)
    write(tmp_path / "in" / "lamps.csv", rows(frozenset({"name", "description"}), 1))
    catalog = curate([str(tmp_path / "in")], tmp_path / "out")
    later = write(tmp_path / "later" / "garden_hoses.jsonl", data)
    assert {listing.category for listing in priced(catalog, later).values()} == {"garden hoses"}
    other = write(tmp_path / "later" / "export.csv", data)
    assert {listing.category for listing in priced(catalog, other).values()} == {""}


def test_a_row_on_its_own_is_read_as_in_its_file(tmp_path: Path) -> None:
    """A short JSON Lines file happens not to use all keys: its features do not become the body."""
    data = rows(frozenset({"name", "description", "features"}), 0)
    (tmp_path / "in").mkdir()
    catalog = curate([str(write(tmp_path / "in" / "shop.csv", data))], tmp_path / "out")
    row = next(row for row in data if row["price"] and row["name"] and row["features"] and not row["description"])
    name = str(int(row["id"]))
    assert priced(catalog, write(tmp_path / "in" / "one.jsonl", [row]))[name] == items(catalog)[name]


def test_a_column_that_gave_the_price_away_stays_out_of_every_file(tmp_path: Path) -> None:
    """By what it held in the catalog's file: in another file it is not read either."""
    data = rows(frozenset({"name", "description"}), 0)
    for row in data:
        row["wholesale"] = row["price"][1:]
    (tmp_path / "in").mkdir()
    catalog = curate([str(write(tmp_path / "in" / "shop.csv", data))], tmp_path / "out")
    assert "wholesale" in catalog.ledger["columns"]["left_out"]
    other = [{**row, "title": row.pop("name"), "color": "red"} for row in data]
    texts = [listing.text for listing in priced(catalog, write(tmp_path / "in" / "new.csv", other)).values()]
    assert all("wholesale" not in text for text in texts)
    assert any("color: red" in text for text in texts)


OLD: Mapping[str, Any] = {
    "cleaning": CleanSettings().model_dump(),
    "columns": ColumnMap(title="name", text="description", price="price", id="sku", extra=("features",)).model_dump(),
    "currency": "USD",
}


def answers(file: Path, to: Path) -> list[dict[str, str]]:
    price_file(Spy(), OLD, file, to, identity="x")
    with to.open(newline="") as handle:
        return list(csv.DictReader(handle))


@pytest.mark.parametrize("index", [0, 1, 3])
def test_an_odd_row_is_answered_in_its_place(index: int, tmp_path: Path) -> None:
    """A row without title, text and any column the catalog had says so, wherever it stands; the others are priced."""
    lines = [{"sku": f"s{i}", "name": f"Oak lamp {i}", "description": "brass"} for i in range(3)]
    lines.insert(index, {"sku": "odd", "remark": "this row is of another table"})
    file = tmp_path / "new.jsonl"
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    priced_rows = answers(file, tmp_path / "prices.csv")
    assert [row["sku"] for row in priced_rows if not row["price"]] == ["odd"]
    assert priced_rows[index]["note"] == "no title and no text"


def test_a_row_of_known_columns_alone_is_priced(tmp_path: Path) -> None:
    """As curate keeps it: without title and text, but with a line the catalog's listings had."""
    file = tmp_path / "new.jsonl"
    lines = [{"sku": "a", "name": "Oak lamp", "description": "brass"}, {"sku": "b", "features": "brass, 25 W"}]
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert all(row["price"] for row in answers(file, tmp_path / "prices.csv"))


@pytest.mark.parametrize("header", ["width,article in words", "sku,article url", "price,image"])
@pytest.mark.parametrize("ending", [".csv", ".jsonl"])
def test_a_file_without_any_known_column_is_refused(header: str, ending: str, tmp_path: Path) -> None:
    """Before anything is written; the error's remedy prices the file."""
    file = tmp_path / f"new{ending}"
    row = dict(zip(header.split(","), ("1", "Oak lamp with brass foot"), strict=True))
    file.write_text(f"{header}\n{','.join(row.values())}\n" if ending == ".csv" else json.dumps(row) + "\n")
    with pytest.raises(UsageError, match=f"new{ending} has no column that the model knows") as caught:
        answers(file, tmp_path / "prices.csv")
    assert all(repr(name) in caught.value.got for name in row)
    assert "'name', 'description', 'features'" in caught.value.allowed
    assert [path.name for path in tmp_path.iterdir() if not path.name.startswith(".")] == [file.name]
    option, _, column = caught.value.hint.partition("--map ")[2].split()[0].partition("=")
    assert (option, column) == ("title", "COLUMN")
    spy, mapping = Spy(), {option: header.split(",")[1]}
    price_file(spy, OLD, file, tmp_path / "prices.csv", identity="x", mapping=mapping)
    assert [listing.title for listing in spy.seen] == ["Oak lamp with brass foot"]


def test_one_known_column_is_enough_and_other_rows_get_notes(tmp_path: Path) -> None:
    """Rows without a value in it say why they have no price."""
    file = tmp_path / "new.csv"
    file.write_text("width,features\n1,\n2,brass and oak\n")
    assert [row["note"] for row in answers(file, tmp_path / "prices.csv")] == ["no title and no text", ""]


def test_a_wrong_mapping_names_the_columns_there_are(tmp_path: Path) -> None:
    """As curate does, with the nearest name."""
    file = tmp_path / "new.csv"
    file.write_text("width,words\n1,Oak lamp with brass foot\n")
    with pytest.raises(UsageError, match="no column 'wrds'") as caught:
        price_file(Spy(), OLD, file, tmp_path / "prices.csv", identity="x", mapping={"title": "wrds"})
    assert "title=words" in caught.value.hint


def test_an_id_is_cleaned_as_curate_does(tmp_path: Path) -> None:
    """A whole number that Parquet holds as 1.0 is 1; where there is none the row's number stands."""
    names = {"sku": [1.0, None, 3.5], "name": ["Oak lamp", "Pine lamp", "Ash lamp"], "description": ["brass"] * 3}
    pq.write_table(pa.table(names), tmp_path / "new.parquet")
    spy = Spy()
    price_file(spy, OLD, tmp_path / "new.parquet", tmp_path / "prices.csv", identity="x")
    assert [listing.id for listing in spy.seen] == ["1", "2", "3.5"]


@pytest.mark.parametrize("name", ["id", "SKU", "Variant SKU", "asin"])
def test_ids_are_found_though_the_catalog_had_none(tmp_path: Path, name: str) -> None:
    """By their usual names, also beside a category and a brand that the catalog never had."""
    data = [{"name": item.listing.title, "price": item.price} for item in make_items(SHARE)[0]]
    (tmp_path / "in").mkdir()
    with (tmp_path / "in" / "shop.csv").open("w", newline="") as handle:
        out = csv.DictWriter(handle, ("name", "price"))
        out.writeheader()
        out.writerows(data)
    catalog = curate([str(tmp_path / "in" / "shop.csv")], tmp_path / "out")
    new = tmp_path / "in" / "new.csv"
    new.write_text(f"{name},name\nc-3,Brass hose\nb-2,Steel lamp\nb-2,Oak desk\n")
    assert list(priced(catalog, new)) == ["c-3", "b-2"]
    prices = tmp_path / "out.csv"
    facts = price_file(Spy(), info(catalog), new, prices, identity="x")
    assert (facts["rows"], facts["repeated_ids"]) == (3, 1)
    assert [row[name] for row in csv.DictReader(prices.read_text().splitlines())] == ["c-3", "b-2", "b-2"]
    (tmp_path / "in" / "wide.csv").write_text(f"{name},name,Vendor,product_type\nc-3,Brass hose,Acme,hoses\n")
    assert priced(catalog, tmp_path / "in" / "wide.csv") == {"c-3": Listing("c-3", "Brass hose", "", "hoses", "Acme")}
