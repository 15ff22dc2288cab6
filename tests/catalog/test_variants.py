"""Variants take title and text from their product's row, and one product stays on one side of the split."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pricesmith.batch.price import price_file
from pricesmith.catalog import curate, variants
from pricesmith.catalog.near_duplicates import join_groups
from pricesmith.catalog.readers.sources import BadRow, RawRow
from pricesmith.catalog.variants import find_variants
from pricesmith.core.types import Listing, Quote
from pricesmith.pricers.fitting import catalog_info
from pricesmith.testing import make_items

SHOPIFY = (
    "Handle,Title,Body (HTML),Vendor,Type,Tags,Option1 Name,Option1 Value,Variant SKU,Variant Price,Variant Barcode,"
    "Image Src,Status"
)


def rows_of(text: str) -> list[RawRow | BadRow]:
    """The rows of a feed as its variants make them."""
    header, *rows = csv.reader(io.StringIO(text))
    shop_variants = find_variants(header)
    assert shop_variants is not None
    raw = [RawRow("a.csv", index, dict(zip(header, row, strict=True))) for index, row in enumerate(rows, 1)]
    return [row for batch in shop_variants.inherit([raw[:2], raw[2:]]) for row in batch]


def cells(rows: Sequence[RawRow | BadRow], *names: str) -> list[list[object] | str]:
    return [[row.values[name] for name in names] if isinstance(row, RawRow) else row.reason for row in rows]


def test_shopify_variants_take_what_belongs_to_the_product() -> None:
    """Not its barcode or price; a row with a picture alone is no variant; one without its product has a reason."""
    rows = rows_of(
        f"""{SHOPIFY}
hose,Garden hose,of rubber,Acme,Tools,red,Length,25 m,h1,24.50,123,http://x/1,active
hose,,,,,,,50 m,h2,39.00,,,
hose,,,,,,,,,,,http://x/2,
lamp,Steel lamp,desk lamp,Beta,Lights,,Title,Default Title,l1,12.00,,http://x/3,draft
hose,,,,,,,75 m,h3,49.00,,,
other,,,,,,,S,o1,5.00,,,
"""
    )
    names = ("Title", "Vendor", "Option1 Name", "Option1 Value", "Variant Price", "Variant Barcode", "Status")
    assert cells(rows, *names) == [
        ["Garden hose", "Acme", "Length", "25 m", "24.50", "123", "active"],
        ["Garden hose", "Acme", "Length", "50 m", "39.00", "", "active"],
        variants.PICTURE,
        ["Steel lamp", "Beta", "", "", "12.00", "", "draft"],
        ["Garden hose", "Acme", "Length", "75 m", "49.00", "", "active"],
        variants.ORPHAN,
    ]
    assert [row.number for row in rows] == [1, 2, 3, 4, 5, 6]


def test_the_newer_dialect_of_shopify_is_known_too() -> None:
    header = "Title,URL handle,Description,Vendor,SKU,Option1 name,Option1 value,Price,Cost per item"
    rows = rows_of(f"{header}\nHose,hose,of rubber,Acme,h1,Length,25 m,24.50,9\n,hose,,,h2,,50 m,39.00,\n")
    assert cells(rows, "Title", "Description", "SKU", "Price", "Cost per item")[1] == [
        "Hose",
        "of rubber",
        "h2",
        "39.00",
        "",
    ]


WOO = "ID,Type,SKU,Name,Visibility in catalog,Short description,Description,Regular price,Categories,Tags,Parent"


def test_woocommerce_variations_take_the_text_of_their_parent() -> None:
    """By the parent's SKU or its number; their own name stays."""
    rows = rows_of(
        f"""{WOO}
7,variable,HOOD,Hoodie,visible,warm,of wool,,Clothes,winter,
8,variable,,Shirt,visible,thin,of cotton,,Clothes,,
9,variation,HOOD-R,Hoodie - red,visible,,,42,,,HOOD
10,variation,,,visible,,,12,,,id:8
11,simple,CAP,Cap,visible,,,5,,,
"""
    )
    assert cells(rows, "Name", "Description", "Categories", "Type")[2:] == [
        ["Hoodie - red", "of wool", "Clothes", "variation"],
        ["Shirt", "of cotton", "Clothes", "variation"],
        ["Cap", "", "", "simple"],
    ]
    shop_variants = find_variants(WOO.split(","))
    assert shop_variants is not None
    groups = [shop_variants.group_of(row.values) for row in rows if isinstance(row, RawRow)]
    assert groups[0] == groups[2] != ""
    assert groups[1] == groups[3] != ""
    assert groups[4] == ""
    assert isinstance(rows[0], RawRow)
    assert shop_variants.reason(rows[0].values, "no price") == variants.PARENT
    assert shop_variants.reason(rows[0].values, "price is zero") == "price is zero"


def test_magento_products_list_their_variants() -> None:
    """In one cell (Magento 2), or in the rows below their own (Magento 1)."""
    header = ["sku", "product_type", "store_view_code", "name", "price", "configurable_variations"]
    shop_variants = find_variants(header)
    assert shop_variants is not None
    listed = "sku=A-S,size=S,color=red|sku=A-M,size=M"
    product = dict(zip(header, ["A", "configurable", "", "Hoodie", "", listed], strict=True))
    assert shop_variants.links_of(product) == [shop_variants.group_of({"sku": sku}) for sku in ("A-S", "A-M")]
    assert shop_variants.reason(product, "no price") == variants.PARENT
    view = dict(zip(header, ["A", "", "french", "Pull", "", ""], strict=True))
    assert shop_variants.reason(view, "no price") == variants.EXTRA
    rows = rows_of("sku,_type,_super_products_sku,name,price\nA,configurable,A-S,Hoodie,\n,,A-M,,\nB,simple,,Cap,5\n")
    assert cells(rows, "sku", "_super_products_sku") == [["A", "A-S"], ["A", "A-M"], ["B", ""]]


@pytest.mark.parametrize(
    ("header", "child", "own"),
    [
        ("id,item_group_id,title,price", ["1", "g", "x", "5"], ["2", "g", "y", "6"]),
        ("id,g:item_group_id,title,price", ["1", "g", "x", "5"], ["2", "g", "y", "6"]),
        ("sku,parent_sku,name,price", ["1", "P", "x", "5"], ["P", "", "y", "6"]),
        ("asin,parent_asin,title,price", ["1", "P", "x", "5"], ["P", "", "y", "6"]),
    ],
)
def test_other_feeds_name_the_product_in_a_column(header: str, child: list[str], own: list[str]) -> None:
    names = header.split(",")
    shop_variants = find_variants(names)
    assert shop_variants is not None
    groups = [shop_variants.group_of(dict(zip(names, row, strict=True))) for row in (child, own)]
    assert groups[0] == groups[1] != ""


def test_a_feed_without_products_is_left_alone() -> None:
    assert find_variants(["id", "handle", "price", "type", "parent"]) is None
    assert find_variants(["sku", "title", "price", "product_type"]) is None


def test_product_rows_are_forgotten_before_memory_grows(monkeypatch: pytest.MonkeyPatch) -> None:
    """The oldest first; their later variants get a reason."""
    monkeypatch.setattr(variants, "MEMORY", 3_000)
    text = SHOPIFY + "\n" + "".join(f"h{i},Hose {i},{'x' * 900},,,,,S,,1,,,\n" for i in range(8))
    rows = rows_of(text + "h7,,,,,,,M,,2,,,\nh0,,,,,,,M,,2,,,\n")
    assert cells(rows, "Title")[-2:] == [["Hose 7"], variants.ORPHAN]


def shopify_export(path: Path, products: int, seed: int = 0) -> Path:
    """Products of three variants each, only the first row with a title, and a row with a picture."""
    items, _ = make_items(products, seed)
    with path.open("w", newline="") as handle:
        out = csv.writer(handle)
        out.writerow(SHOPIFY.split(","))
        for index, item in enumerate(items):
            listing = item.listing
            for number, size in enumerate(("Small", "Medium", "Large")):
                of_product = [listing.title, listing.text, "Acme", "Tools", "", "Size"] if not number else [""] * 6
                price = f"{item.price * (1 + number / 4):.2f}"
                out.writerow([f"h-{index}", *of_product, size, f"s{index}-{number}", price, "", "", ""])
            out.writerow([f"h-{index}", *[""] * 10, "http://x/y", ""])
    return path


def test_every_variant_has_a_name_and_products_stay_on_one_side(tmp_path: Path) -> None:
    """Also in price: a row of the same file is read as curate read it, and no row is lost."""
    file = shopify_export(tmp_path / "shop.csv", 90)
    catalog = curate([str(file)], tmp_path / "out")
    table = pq.read_table(catalog.path / "items.parquet").to_pylist()
    assert all(row["title"] for row in table)
    sides: dict[str, set[str]] = {}
    for row in table:
        sides.setdefault(row["id"].partition("-")[0], set()).add(row["split"])
    assert len(sides) == 90
    assert all(len(splits) == 1 for splits in sides.values())
    assert {row["split"] for row in table} == {"train", "validation", "test"}
    assert catalog.ledger["rows"]["rejected"][variants.PICTURE] == 90
    assert "Option1 Value: Medium" in next(row["text"] for row in table if row["id"] == "s4-1")
    seen: list[Listing] = []

    class Spy:
        name = "spy"

        def price(self, listings: Sequence[Listing]) -> list[Quote]:
            seen.extend(listings)
            return [Quote(5.0) for _ in listings]

    facts = price_file(
        Spy(), catalog_info(catalog, catalog.items("train")), file, tmp_path / "o.csv", identity="x", part_rows=37
    )
    assert (facts["rows"], facts["priced"]) == (360, 270)
    by_id = {listing.id: listing for listing in seen}
    for row in table:
        listing = by_id[row["id"]]
        assert (listing.title, listing.text) == (row["title"], row["text"])


def test_variants_that_a_later_row_lists_are_one_group(tmp_path: Path) -> None:
    """Magento writes the product below its variants, and it has no price."""
    items, _ = make_items(180, 3)
    header = ["sku", "product_type", "name", "description", "price", "configurable_variations"]
    with (tmp_path / "a.csv").open("w", newline="") as handle:
        out = csv.writer(handle)
        out.writerow(header)
        for index in range(60):
            for number in range(3):
                item = items[3 * index + number]
                price = f"{item.price:.2f}"
                out.writerow([f"p{index}-{number}", "simple", item.listing.title, item.listing.text, price, ""])
            listed = "|".join(f"sku=p{index}-{number},size={number}" for number in range(3))
            out.writerow([f"p{index}", "configurable", "Product", "of some sizes", "", listed])
    catalog = curate([str(tmp_path / "a.csv")], tmp_path / "out")
    assert catalog.ledger["rows"]["rejected"] == {variants.PARENT: 60}
    groups: dict[str, set[str]] = {}
    for row in pq.read_table(catalog.path / "items.parquet").to_pylist():
        groups.setdefault(row["id"].partition("-")[0], set()).add(row["group"])
    assert len(groups) == 60
    assert all(len(ids) == 1 for ids in groups.values())


@settings(derandomize=True)
@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 6)), min_size=1, max_size=50))
def test_rows_of_one_product_and_of_one_group_have_one_center(pairs: list[tuple[int, int]]) -> None:
    """The first row of the group; without a product's name nothing changes."""
    groups = np.array([group for group, _ in pairs])
    centers = np.array([int(np.flatnonzero(groups == group)[0]) for group in groups], dtype=np.int64)
    products = np.array([product for _, product in pairs], dtype=np.uint64)
    assert join_groups(centers, np.zeros(len(pairs), dtype=np.uint64), 50).tolist() == centers.tolist()
    joined = join_groups(centers, products, 1_000)
    for index, center in enumerate(joined):
        assert center <= index
        assert joined[center] == center
        assert joined[centers[index]] == center
        same = np.flatnonzero((products == products[index]) & (products != 0))
        assert products[index] == 0 or all(joined[same] == center)


def test_a_name_that_most_rows_have_names_no_product() -> None:
    centers = np.arange(1_000, dtype=np.int64)
    products = np.r_[np.full(400, 7), np.full(60, 8), np.zeros(540)].astype(np.uint64)
    joined = join_groups(centers, products, 50)
    assert joined[:400].tolist() == list(range(400))
    assert set(joined[400:460].tolist()) == {400}


def test_products_that_are_alike_in_words_are_not_one_large_group() -> None:
    """Over the limit every product is a group of its own, whole."""
    products = np.repeat(np.arange(1, 31), 10).astype(np.uint64)
    centers = np.tile(np.arange(10), 30).astype(np.int64)  # the same ten texts in each
    joined = join_groups(centers, products, 50)
    assert [len(set(joined[products == product].tolist())) for product in range(1, 31)] == [1] * 30
    assert len(set(joined.tolist())) == 30
