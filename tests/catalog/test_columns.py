"""The column map of a header: usual names, --map, provenance, and leaks."""

from __future__ import annotations

import csv
import os
import random
from pathlib import Path

import pytest

from pricesmith.catalog.columns import FIELDS, ColumnMap, choose_columns
from pricesmith.catalog.leakage import drop_columns, find_leaks
from pricesmith.catalog.readers.sources import BadRow, RawRow
from pricesmith.core.errors import UsageError


def header_of(line: str) -> list[str]:
    return line.split(",")


SHOPIFY_NEW = header_of(
    "Title,URL handle,Description,Vendor,Product category,Type,Tags,Published on online store,Status,SKU,Barcode,"
    "Option1 name,Option1 value,Option1 Linked To,Price,Compare-at price,Cost per item,Charge tax,Tax code,"
    "Unit price total measure,Unit price base measure unit,Inventory tracker,Inventory quantity,"
    "Weight value (grams),Weight unit for display,Requires shipping,Fulfillment service,Product image URL,"
    "Image position,Image alt text,Variant image URL,Gift card,SEO title,SEO description"
)
SHOPIFY_OLD = header_of(
    "Handle,Title,Body (HTML),Vendor,Product Category,Type,Tags,Published,Option1 Name,Option1 Value,Variant SKU,"
    "Variant Grams,Variant Inventory Qty,Variant Price,Variant Compare At Price,Variant Barcode,Image Src,"
    "Image Position,Image Alt Text,Gift Card,SEO Title,Google Shopping / Google Product Category,"
    "Google Shopping / MPN,Variant Image,Variant Weight Unit,Cost per item,Price / International,Status"
)
MERCHANT = header_of(
    "id,title,description,link,image_link,additional_image_link,availability,price,sale_price,"
    "sale_price_effective_date,cost_of_goods_sold,google_product_category,product_type,brand,gtin,mpn,condition,"
    "age_group,gender,color,material,size,item_group_id,product_highlight"
)
AMAZON = header_of(
    "main_category,title,average_rating,rating_number,features,description,price,images,videos,store,categories,"
    "details,parent_asin,bought_together,subtitle,author"
)
MERCARI = header_of("train_id,name,item_condition_id,category_name,brand_name,price,shipping,item_description")

NONE = (None, None, None)
FACTS = [
    (SHOPIFY_NEW, ("Title", "Description", "Price", None, "Product category", "Vendor", "SKU")),
    (SHOPIFY_OLD, ("Title", "Body (HTML)", "Variant Price", None, "Product Category", "Vendor", "Variant SKU")),
    (MERCHANT, ("title", "description", "price", None, "product_type", "brand", "id")),
    (AMAZON, ("title", "description", "price", None, "main_category", "store", "parent_asin")),
    (MERCARI, ("name", "item_description", "price", None, "category_name", "brand_name", "train_id")),
    (["PRODUCT_NAME", "Body", "Price", "CurrencyCode"], ("PRODUCT_NAME", "Body", "Price", "CurrencyCode", *NONE)),
]


@pytest.mark.parametrize(("header", "fields"), FACTS, ids=["new", "old", "merchant", "amazon", "mercari", "spelling"])
def test_the_usual_exports_are_understood(header: list[str], fields: tuple[str | None, ...]) -> None:
    """Shopify (both), Google Merchant, Amazon 2023 and Mercari need no map."""
    columns = choose_columns(header, {})
    assert tuple(getattr(columns, field) for field in FIELDS) == (*fields, None)


@pytest.mark.parametrize(("header", "fields"), FACTS)
def test_every_column_has_one_place(header: list[str], fields: tuple[str | None, ...]) -> None:
    """A column is a field, a line of the text, or left out with a reason."""
    columns = choose_columns(header, {})
    placed = [name for name in fields if name] + [*columns.extra, *columns.left_out]
    assert sorted(placed) == sorted(header)
    assert list(columns.extra) == [name for name in header if name in columns.extra]


def test_money_and_provenance_of_a_shop_export_stay_out() -> None:
    """Costs, compare-at prices, pictures, barcodes and handles never reach a pricer."""
    columns = choose_columns(SHOPIFY_OLD, {})
    assert {"Handle", "Image Src", "Variant Image", "Variant Barcode", "Image Alt Text"} <= set(columns.left_out)
    for name in ("Variant Compare At Price", "Cost per item", "Price / International"):
        assert columns.left_out[name].startswith("leak: its name says")
    assert {"Type", "Tags", "Option1 Value", "Variant Grams"} <= set(columns.extra)


@pytest.mark.parametrize(
    "name",
    ["source", "url", "Product URL", "link", "image_link", "images", "sku", "gtin13", "EAN", "item_group_id", "ids",
     "date", "release date", "created_at", "timestamp", "handle", "imageUrl",
     "Date Added", "last_updated", "Date First Available", "updated on", "first seen", "website", "filename"],
)  # fmt: skip
def test_provenance_is_left_out(name: str) -> None:
    """Where a row came from is not what the thing is."""
    assert choose_columns(["title", "price", name, "id"], {}).left_out[name].startswith("provenance")


@pytest.mark.parametrize(
    "name",
    [
        "light source",
        "image sensor",
        "link speed",
        "handle material",
        "video output",
        "item_condition_id",
        "width",
        "published",
        "delivery time",
        "first owner",
    ],
)
def test_a_fact_of_the_thing_is_kept(name: str) -> None:
    """A word of provenance inside a name that is about the thing does not cost the column."""
    assert name in choose_columns(["title", "price", name], {}).extra


@pytest.mark.parametrize(
    "name", ["pricewithtax", "pricepergb", "priceold", "msrpusd", "costbasis", "perunit", "wholesale"]
)
def test_a_name_that_says_price_without_a_break_is_a_leak(name: str) -> None:
    """Not every shop writes `price_with_tax`."""
    assert choose_columns(["title", "price", name], {}).left_out[name].startswith("leak: its name says")


@pytest.mark.parametrize("name", ["costume_size", "performance", "perfume", "percentage", "coastal"])
def test_a_word_that_only_begins_like_one_is_kept(name: str) -> None:
    """A costume costs nothing by its name."""
    assert choose_columns(["title", "price", name], {}).extra == (name,)


def test_a_map_overrides_the_usual_names() -> None:
    """--map field=column wins, and the column that lost becomes a line of the text."""
    columns = choose_columns(["name", "model", "price", "weight"], {"title": "MODEL"})
    assert (columns.title, columns.extra) == ("model", ("name", "weight"))


def test_a_cost_is_never_the_price() -> None:
    """A column of costs does not stand in for a missing price."""
    with pytest.raises(UsageError, match="price") as caught:
        choose_columns(["name", "cost"], {})
    assert "--map price=COLUMN" in str(caught.value)


def test_without_title_and_text_the_other_columns_are_the_text() -> None:
    """A table of nothing but prices, links and ids has nothing to price from: the error lists its columns."""
    columns = choose_columns(["width", "price"], {})
    assert (columns.title, columns.text, columns.extra) == (None, None, ("width",))
    with pytest.raises(UsageError, match="No column describes the items") as caught:
        choose_columns(["url", "price", "sku"], {})
    assert "'url'" in str(caught.value)


@pytest.mark.parametrize(
    ("mapping", "hint"),
    [({"titel": "name"}, "title=name"), ({"title": "nam"}, "title=name"), ({"title": "name", "text": "name"}, "once")],
)
def test_a_wrong_map_is_refused_with_a_suggestion(mapping: dict[str, str], hint: str) -> None:
    """An unknown field, an unknown column, and one column for two fields."""
    with pytest.raises(UsageError) as caught:
        choose_columns(["name", "price"], mapping)
    assert hint in str(caught.value)


def test_a_column_map_survives_json() -> None:
    """It goes into the ledger and into the run, and comes back the same."""
    columns = choose_columns(MERCHANT, {})
    assert ColumnMap.model_validate_json(columns.model_dump_json()) == columns


def rows_of(table: list[dict[str, object]]) -> list[list[RawRow | BadRow]]:
    rows: list[RawRow | BadRow] = [RawRow("shop.csv", n, row) for n, row in enumerate(table, 1)]  # type: ignore[arg-type]
    return [[*rows[:7], BadRow("shop.csv", 8, "not JSON")], rows[7:]]


def make_rows(n: int = 400) -> list[dict[str, object]]:
    draw = random.Random(1)
    table: list[dict[str, object]] = []
    for _ in range(n):
        capacity, unit = draw.choice((500, 1000, 2000, 4000)), draw.uniform(0.02, 0.2)
        price = round(capacity * unit, 2)
        table.append(
            {"name": "Disk", "price": f"${price:,.2f}", "capacity": f"{capacity} GB", "rate": f"{unit:.4f}",
             "rpm": draw.choice((5400, 7200)), "was": price * 1.01, "share": price / 7, "seven": 7,
             "noise": draw.uniform(1, 900)}
        )  # fmt: skip
    return table


def leaks_in(names: list[str], table: list[dict[str, object]]) -> dict[str, str]:
    return find_leaks(rows_of(table), choose_columns(["name", "price", *names], {}))


def test_a_column_within_two_percent_of_the_price_is_a_leak() -> None:
    """Whatever it is called."""
    assert list(leaks_in(["rpm", "was", "noise"], make_rows())) == ["was"]


def test_a_product_that_makes_the_price_is_a_leak_and_the_fact_stays() -> None:
    """The rate worked out from the price stays out; the capacity, a fact of the disk, is kept."""
    leaks = leaks_in(["capacity", "rate", "rpm", "noise"], make_rows())
    assert list(leaks) == ["rate"]
    assert leaks["rate"] == "leak: its product with capacity is within 2 % of the price in 100% of 400 sampled rows"


def test_a_quotient_that_makes_the_price_is_a_leak() -> None:
    """price = share x 7 and price = was ÷ 1.01 are the same rule."""
    assert list(leaks_in(["share", "seven", "rpm"], make_rows())) == ["share"]
    table = [row | {"inverse": 1 / float(str(row["rate"]))} for row in make_rows()]
    assert list(leaks_in(["capacity", "inverse"], table)) == ["inverse"]


def test_a_multiple_of_the_price_is_a_leak_and_a_weight_is_none() -> None:
    """With tax, in cents, in words; what is sold by weight costs in proportion to few weights."""
    draw = random.Random(2)
    table: list[dict[str, object]] = []
    for _ in range(400):
        grams = draw.choice((1, 2, 5, 10, 20, 50, 100))
        price = draw.uniform(5, 900)
        table.append(
            {"name": "Bar", "price": f"{price:.2f}", "gross": price * 1.19, "cents": round(100 * price),
             "now": f"Now {price:.2f}", "each": f"{price:.2f} each", "grams": grams}
        )  # fmt: skip
    leaks = leaks_in(["gross", "cents", "now", "each", "grams"], table)
    assert list(leaks) == ["gross", "cents", "now", "each"]
    assert leaks["gross"].startswith("leak: 1.19 times the price in over half of 400")
    bullion = [row | {"price": 60 * int(str(row["grams"])) * draw.uniform(0.99, 1.01)} for row in table]
    assert leaks_in(["grams"], bullion) == {}


def test_half_of_the_rows_is_not_enough() -> None:
    """The rule asks for over half of the rows where the column is present."""
    table = [row | {"was": row["was"] if n % 2 else 1.0} for n, row in enumerate(make_rows())]
    assert leaks_in(["was"], table) == {}
    sparse = [row | {"was": row["was"] if n % 3 == 0 else ""} for n, row in enumerate(make_rows())]
    assert list(leaks_in(["was"], sparse)) == ["was"]


def test_leaks_are_looked_for_in_a_bounded_sample() -> None:
    """An endless file is read as far as the sample needs and no further."""

    def endless():  # type: ignore[no-untyped-def]
        for _ in range(10_000):
            yield rows_of(make_rows(50))[0]
            yielded.append(1)

    yielded: list[int] = []
    assert list(find_leaks(endless(), choose_columns(["name", "price", "was"], {}))) == ["was"]
    assert len(yielded) < 4_000


def test_a_leak_moves_from_the_text_to_what_is_left_out() -> None:
    """The reason goes with it."""
    columns = drop_columns(choose_columns(["name", "price", "was", "rpm"], {}), {"was": "leak: because"})
    assert (columns.extra, columns.left_out) == (("rpm",), {"was": "leak: because"})


@pytest.mark.goods
def test_the_price_of_a_gigabyte_is_found_by_its_product() -> None:
    """In the disks as published, under a name that says nothing."""
    folder = os.environ.get("PRICESMITH_GOODS")
    if not folder:
        pytest.skip("PRICESMITH_GOODS is not set")
    path = Path(folder).parent / "pc_parts_csv" / "internal-hard-drive.csv"
    with path.open(encoding="utf-8") as handle:
        table: list[dict[str, object]] = [{**row, "rate": row["price_per_gb"]} for row in csv.DictReader(handle)]
    assert list(leaks_in(["capacity", "rate", "cache"], table)) == ["rate"]
