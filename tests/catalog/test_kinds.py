"""Kinds of product files: recognized by their headers, their columns, products and settings; and --kind."""

from __future__ import annotations

import gzip
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from tests.catalog.test_columns import AMAZON, MERCARI, MERCHANT, SHOPIFY_NEW, SHOPIFY_OLD, header_of
from tests.catalog.test_curate_options import options_in

from pricesmith.catalog.columns import ColumnMap
from pricesmith.catalog.curation import curate
from pricesmith.catalog.kinds import BY_NAME, KINDS, SETTINGS, find_kind
from pricesmith.catalog.preview import preview
from pricesmith.catalog.summary import catalog_summary
from pricesmith.core.errors import UsageError
from pricesmith.core.progress import Progress

WOO = header_of(
    "ID,Type,SKU,Name,Published,Is featured?,Visibility in catalog,Short description,Description,Tax status,In stock?,"
    "Stock,Sale price,Regular price,Categories,Tags,Images,Parent,Position,Attribute 1 name,Attribute 1 value(s),"
    "Attribute 1 visible,Meta: _wpcom_is_markdown"
)
WOO_GERMAN = header_of(
    "ID,Typ,Artikelnummer,Name,Veröffentlicht,Sichtbarkeit im Katalog,Kurzbeschreibung,Beschreibung,Angebotspreis,"
    "Regulärer Preis,Kategorien,Schlagwörter,Übergeordnetes Produkt"
)
MAGENTO = header_of(
    "sku,store_view_code,attribute_set_code,product_type,categories,product_websites,name,description,weight,"
    "product_online,tax_class_name,visibility,price,special_price,url_key,meta_title,base_image,created_at,qty,"
    "use_config_min_qty,configurable_variations,color"
)
AMAZON_2018 = header_of(
    "category,tech1,description,fit,title,also_buy,image,tech2,brand,feature,rank,also_view,details,main_cat,"
    "similar_item,date,price,asin"
)
HEADERS = {
    "shopify": SHOPIFY_NEW,
    "merchant": MERCHANT,
    "woocommerce": WOO,
    "magento": MAGENTO,
    "amazon-2018": AMAZON_2018,
    "amazon-2023": AMAZON,
    "mercari": MERCARI,
    "schema.org": ["name", "price", "priceCurrency"],
    "table": ["name", "price", "brand"],
}


class Notes(Progress):
    def __init__(self) -> None:
        self.notes: list[str] = []

    def note(self, text: str) -> None:
        self.notes.append(text)


def write_rows(path: Path, header: Sequence[str], rows: Sequence[dict[str, Any]]) -> str:
    """Write rows as CSV, or JSON Lines by the name's ending; columns without a value are empty."""
    if path.suffix == ".csv":
        import csv

        with path.open("w", encoding="utf-8", newline="") as out:
            writer = csv.DictWriter(out, header, restval="")
            writer.writeheader()
            writer.writerows(rows)
    else:
        lines = "".join(json.dumps({**dict.fromkeys(header, ""), **row}) + "\n" for row in rows)
        path.write_bytes(gzip.compress(lines.encode()) if path.suffix == ".gz" else lines.encode())
    return str(path)


def columns_of(path: str, **options: Any) -> ColumnMap:
    return preview([path], **options).files[0].columns


@pytest.mark.parametrize("name", HEADERS)
def test_a_kind_is_recognized_by_its_header(name: str) -> None:
    """Also in other letter case; the older export of Shopify too."""
    assert find_kind(HEADERS[name]).name == name
    assert find_kind([column.upper() for column in HEADERS[name]]).name == name
    assert find_kind(SHOPIFY_OLD).name == "shopify"
    assert find_kind(["g:id", "g:title", "g:price", "g:link", "g:availability"]).name == "merchant"


def test_every_kind_has_a_name_and_needs_of_its_own() -> None:
    """No header of one kind is taken for another one."""
    assert len(BY_NAME) == len(KINDS)
    assert set(HEADERS) == set(BY_NAME)


def test_settings_of_the_shop_stay_out_of_the_text(tmp_path: Path) -> None:
    """Stock, tax and visibility say nothing of the thing; attributes do. --keep keeps one."""
    rows = [
        {"ID": n, "SKU": f"s{n}", "Type": "simple", "Name": f"Hose {n} m", "Regular price": n + 1} for n in range(5)
    ]
    path = write_rows(tmp_path / "woo.csv", WOO, rows)
    columns = columns_of(path)
    for name in ("Is featured?", "Tax status", "Stock", "Position", "Attribute 1 visible", "Meta: _wpcom_is_markdown"):
        assert columns.left_out[name] == SETTINGS
    assert {"Attribute 1 name", "Attribute 1 value(s)", "Tags", "Short description"} <= set(columns.extra)
    assert "Stock" in columns_of(path, keep=["Stock"]).extra
    assert (columns.price, columns.sale) == ("Regular price", "Sale price")
    assert columns.left_out["Sale price"].startswith("leak: the sale price")


def test_a_translated_export_of_woocommerce_is_recognized(tmp_path: Path) -> None:
    """German headers: price, category, description and the parent of a variation."""
    rows = [
        {"ID": 1, "Typ": "variable", "Artikelnummer": "H", "Name": "Schlauch", "Beschreibung": "Gummi"},
        {
            "ID": 2,
            "Typ": "variation",
            "Name": "Schlauch 25 m",
            "Regulärer Preis": "24,50",
            "Übergeordnetes Produkt": "H",
        },
    ]
    shown = preview([write_rows(tmp_path / "woo.csv", WOO_GERMAN, rows)]).files[0]
    assert shown.kind == "WooCommerce product export"
    assert (shown.columns.price, shown.columns.category) == ("Regulärer Preis", "Kategorien")
    assert shown.rows[1]["Beschreibung"] == "Gummi"


def test_curate_says_what_it_recognized_and_the_catalog_keeps_it(tmp_path: Path) -> None:
    """Rows and products, the column that groups them, and that no currency is named."""
    header = header_of("Handle,Title,Body (HTML),Vendor,Option1 Name,Option1 Value,Variant Price,Variant Taxable")
    rows: list[dict[str, Any]] = []
    for n in range(60):
        rows.append(
            {"Handle": f"h{n}", "Title": f"Hose {n} of {n * 7} kinds", "Option1 Value": "S", "Variant Price": n + 5}
        )
        rows.append({"Handle": f"h{n}", "Option1 Value": "L", "Variant Price": n + 9})
    progress = Notes()
    path = write_rows(tmp_path / "shop.csv", header, rows)
    catalog = curate([path], tmp_path / "out", progress=progress)
    assert "shop.csv: Shopify product export: 120 rows, 60 products" in progress.notes
    assert any("a Shopify product export names no currency" in note for note in progress.notes)
    facts = {"kind": "shopify", "label": "Shopify product export", "products": 60, "grouped_by": "Handle"}
    assert catalog.ledger["kinds"] == {"shop.csv": facts}
    assert "Recognized: Shopify product export (60 products by Handle)" in catalog_summary(catalog)
    assert "Ignored columns (settings of the shop): Variant Taxable" in catalog_summary(catalog)


def test_a_kind_can_be_chosen_and_the_hints_of_a_wrong_one_work(tmp_path: Path) -> None:
    """`table` is a file without products; a kind that the header does not fit is refused."""
    header = header_of("Handle,Title,Option1 Name,Option1 Value,Variant Price,Published")
    rows = [{"Handle": f"h{n}", "Title": f"Hose {n}", "Variant Price": n + 5} for n in range(9)]
    path = write_rows(tmp_path / "shop.csv", header, rows)
    assert "Published" in columns_of(path, kind="table").extra
    with pytest.raises(UsageError, match=r"shop\.csv: This is no Mercari listings") as caught:
        preview([path], kind="mercari")
    assert preview([path], kind=options_in(caught.value.hint, "--kind")).files[0].kind == "Shopify product export"
    with pytest.raises(UsageError, match="There is no kind 'shop'") as caught:
        preview([path], kind="shop")
    assert "shopify" in caught.value.allowed


def test_amazon_metadata_of_2018_and_2023_are_read(tmp_path: Path) -> None:
    """Prices of `None`, dashes and style sheets are no prices; what others bought is no text."""
    prices = ["$25.00", "None", "—", "", None, ".a-box-inner{color:#fff}", "$5.00 - $10.00", "12.50"]
    rows = [
        {"asin": f"B{n}", "parent_asin": f"P{n // 2}", "title": f"Card number {n} of {n * 3}", "price": prices[n % 8],
         "also_buy": "B1", "rank": "5 in Cards", "description": ["of paper"], "main_category": "Cards"}
        for n in range(480)
    ]  # fmt: skip
    old = write_rows(
        tmp_path / "meta.jsonl.gz",
        AMAZON_2018,
        [{k: v for k, v in row.items() if not k.startswith(("parent", "main"))} for row in rows],
    )
    catalog = curate([old], tmp_path / "old")
    rejected = {"no price": 240, "price is not a number": 60, "price is a range": 60}
    assert catalog.ledger["rows"]["rejected"] == rejected
    assert catalog.ledger["columns"]["left_out"]["also_buy"] == SETTINGS
    new = write_rows(tmp_path / "new.jsonl", AMAZON, rows)
    shown = preview([new]).files[0]
    assert (shown.kind, shown.columns.id, shown.columns.category) == (
        "Amazon Reviews 2023 metadata", "parent_asin", "main_category",
    )  # fmt: skip
    assert curate([new], tmp_path / "new").ledger["kinds"]["new.jsonl"]["products"] == 240


def test_mercari_keeps_condition_and_shipping(tmp_path: Path) -> None:
    """Both are facts that a buyer pays for."""
    rows = [{"name": f"Hose {n}", "price": n + 3, "item_condition_id": 1, "shipping": 0} for n in range(5)]
    columns = columns_of(write_rows(tmp_path / "train.csv", MERCARI, rows))
    assert columns.extra == ("item_condition_id", "shipping")


@pytest.mark.parametrize(
    ("header", "values", "fields"),
    [
        ("Produtos,Preços", ("Hose de jardim", "2299"), ("Produtos", "Preços")),
        ("Link,Urun_adi,Fiyatlar", ("https://x.org", "Bahçe hortumu", "1.139,00TL"), ("Urun_adi", "Fiyatlar")),
        ("Nazwa produktu,Cena,Producent", ("Wąż ogrodowy", "3 345,34 zł", "Acme"), ("Nazwa produktu", "Cena")),
        ("Nombre,Precio,Marca", ("Manguera", "12,50 €", "Acme"), ("Nombre", "Precio")),
        ("Désignation,Prix TTC,Marque", ("Tuyau", "12,50 €", "Acme"), ("Désignation", "Prix TTC")),
        ("Bezeichnung,Preis,Hersteller", ("Schlauch", "12,50 €", "Acme"), ("Bezeichnung", "Preis")),
        ("Nome prodotto,Prezzo,Marca", ("Tubo", "12,50 €", "Acme"), ("Nome prodotto", "Prezzo")),
        ("商品名,価格,ブランド", ("ホース", "￥4,400", "Acme"), ("商品名", "価格")),
    ],
)
def test_columns_in_other_languages_are_recognized(
    header: str, values: Sequence[str], fields: tuple[str, str], tmp_path: Path
) -> None:
    """Title and price in eight languages; a second price column stays out as a leak."""
    names = header.split(",")
    path = write_rows(tmp_path / "a.csv", names, [dict(zip(names, values, strict=True))] * 3)
    columns = columns_of(path)
    assert (columns.title, columns.price) == fields


def test_purchase_prices_in_other_languages_are_leaks() -> None:
    """The selling price is the price; what the shop paid, and list prices, stay out."""
    from pricesmith.catalog.columns import choose_columns

    columns = choose_columns(["Opis", "Cena zakupu (netto)", "Cena sprzedaży (netto)"])
    assert (columns.price, [*columns.left_out]) == ("Cena sprzedaży (netto)", ["Cena zakupu (netto)"])
    columns = choose_columns(["Name", "Preis", "Einkaufspreis", "UVP", "MAP 7/1/2018", "定価", "Ingredient List"])
    assert (columns.price, columns.extra) == ("Preis", ("Ingredient List",))


def test_an_assumed_currency_of_a_local_file_is_noted_with_an_option_that_works(tmp_path: Path) -> None:
    """A price column in Portuguese without a sign of a currency."""
    rows = [{"Produtos": f"Mangueira {n} de {n * 3} metros", "Preços": 10 + n} for n in range(150)]
    progress = Notes()
    path = write_rows(tmp_path / "a.csv", ["Produtos", "Preços"], rows)
    preview([path], progress=progress)
    note = next(note for note in progress.notes if "no price names a currency" in note)
    code = options_in(note, "--currency")
    assert curate([path], tmp_path / "out", currency=code).currency == "BRL"


def test_the_latest_of_dated_price_columns_comes_first_in_the_hint(tmp_path: Path) -> None:
    """A price list with the prices of two dates has no one price column."""
    names = ["NAME", "PRICE 7/1/2018", "PRICE 10/1/2018"]
    rows = [{"NAME": f"Hose {n}", "PRICE 7/1/2018": n + 0.5, "PRICE 10/1/2018": n + 1.5} for n in range(1, 9)]
    path = write_rows(tmp_path / "a.csv", names, rows)
    with pytest.raises(UsageError, match="No column is recognized as the price") as caught:
        preview([path])
    field, _, column = options_in(caught.value.hint, "--map").partition("=")
    columns = columns_of(path, mapping={field: column})
    assert (columns.price, [*columns.left_out]) == ("PRICE 10/1/2018", ["PRICE 7/1/2018"])


def test_the_variants_that_a_magento_product_lists_are_one_product(tmp_path: Path) -> None:
    """A configurable product without a price of its own, and its two variants."""
    rows: list[dict[str, Any]] = []
    for n in range(60):
        for size in "SL":
            rows.append(
                {"sku": f"h{n}-{size}", "product_type": "simple", "name": f"Hose {n * 7} {size}", "price": n + 5}
            )
        listed = f"sku=h{n}-S,size=S|sku=h{n}-L,size=L"
        rows.append({"sku": f"h{n}", "product_type": "configurable", "name": "Hose", "configurable_variations": listed})
    ledger = curate([write_rows(tmp_path / "a.csv", MAGENTO, rows)], tmp_path / "out").ledger
    assert ledger["kinds"]["a.csv"]["products"] == 60
    assert ledger["rows"]["rejected"] == {"product row without a price": 60}
    assert ledger["groups"]["count"] <= 60
