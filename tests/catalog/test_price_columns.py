"""Which of several columns of prices is the price, and which price a row has."""

from __future__ import annotations

import csv
import json
import shlex
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.catalog.test_kinds import Notes

from pricesmith.catalog.columns import ColumnMap, choose_columns, exclusion_reason
from pricesmith.catalog.curation import curate
from pricesmith.catalog.preview import preview
from pricesmith.catalog.price_columns import choose_price, describe_name
from pricesmith.catalog.row_price import DATED, REGULAR, SALE, SALE_ABOVE, read_price
from pricesmith.catalog.summary import catalog_summary
from pricesmith.core.errors import UsageError

ROLES = {
    "plain": "price, Price (INR), Variant Price, Verkaufspreis, selling_price, Fiyatlar, 販売価格, Precio al público, "
    "Prezzo al pubblico, Preço de venda, SATIŞ FİYATI, preço de",
    "list": "list_price, Regular price, original_price, Was price, Compare-at price, Regulärer Preis, Precio normal, "
    "Tarif régulier, price before, stara cena, prix barré, Prezzo di listino, Precio de lista, Liste fiyatı, "
    "Streichpreis, prezzo vecchio",
    "sale": "sale_price, saleprice, Special Price, discounted_price, new_price, Angebotspreis, Precio rebajado, "
    "Tarif promo, cena promocyjna, prezzo scontato, preço promocional, indirimli fiyat, aanbiedingsprijs, "
    "Preço por, İndirimli fiyat, İNDİRİMLİ FİYAT, Precio especial, prix spécial, özel fiyat, Rabattpreis, precio ahora",
    "current": "current_price, final price, prix actuel",
    "purchase": "cost, Cost per item, purchase_price, wholesale price, Einkaufspreis, EK netto, prix d'achat, "
    "cena zakupu, Inkoopprijs, prezzo acquisto",
    "recommended": "MSRP, RRP, UVP, map_price, suggested retail price, adviesprijs, 希望小売価格",
    "per unit": "unit_price, Grundpreis, price per kg, price_per_100g, Preis/kg, EUR/kg, €/l, prix au kilo, "
    "cena jednostkowa, kiloprijs, preço por kg, preço por unidade",
    "shipping": "shipping cost, delivery fee, Versandkosten, shipping_price, postage, 送料",
    "deposit": "deposit, Pfand, bottle deposit price",
    "other": "Price / International, price range, price group, Date sale price starts, actual_price",
}
TAXES = {
    "net": "net price, price_ex_vat, Price excl. VAT, Preis netto, Nettopreis, Preis zzgl. MwSt., Prix HT, prix_ht, "
    "Prijs excl. btw, Precio sin IVA, Prezzo IVA esclusa, cena netto, KDV hariç fiyat, 税抜価格, price before tax",
    "gross": "gross price, Price incl. VAT, price with tax, Bruttopreis, Preis inkl. MwSt., VK brutto, Prix TTC, "
    "Prijs incl. btw, Precio con IVA, Prezzo IVA inclusa, cenabrutto, KDV dahil fiyat, 税込価格",
}


def names_in(table: dict[str, str]) -> list[tuple[str, str]]:
    return [(column, role) for role, columns in table.items() for column in columns.split(", ")]


@pytest.mark.parametrize(("column", "role"), names_in(ROLES))
def test_the_name_of_a_column_says_the_role_of_its_prices(column: str, role: str) -> None:
    """In nine languages, in one word or in several."""
    name = describe_name(column)
    assert name is not None
    assert name.role == role
    assert exclusion_reason(column).startswith("leak")


@pytest.mark.parametrize(("column", "tax"), names_in(TAXES))
def test_the_name_of_a_column_says_whether_tax_is_included(column: str, tax: str) -> None:
    """Words such as `before` and `with` count only beside the name of a tax."""
    name = describe_name(column)
    assert name is not None
    assert (name.role, name.tax) == ("plain", tax)


@pytest.mark.parametrize(
    "column",
    ["shipping", "Net weight", "Brutto", "precious metal", "discount", "costume", "HT", "per", "Typ", "tarif", ""],
)
def test_other_columns_are_no_prices(column: str) -> None:
    """A flag for shipping, a weight, and words that begin like a price."""
    assert describe_name(column) is None


CHOICES = [
    (["price", "sale_price"], "price", "sale_price"),
    (["list_price", "sale_price"], "list_price", "sale_price"),
    (["Preço de", "Preço por", "Custo"], "Preço de", "Preço por"),
    (["Prezzo di listino", "Prezzo scontato"], "Prezzo di listino", "Prezzo scontato"),
    (["Fiyat", "İndirimli fiyat", "KDV dahil fiyat"], "KDV dahil fiyat", "İndirimli fiyat"),
    (["old_price", "new_price"], "old_price", "new_price"),
    (["original_price", "price"], "price", ""),
    (["price", "regular_price", "sale_price"], "price", "sale_price"),
    (["price", "final_price", "sale_price"], "final_price", ""),
    (["list_price", "current_price"], "current_price", ""),
    (["price_net", "price_gross"], "price_gross", ""),
    (["price", "price_gross"], "price_gross", ""),
    (["price", "net_price"], "price", ""),
    (["Nettopreis", "Bruttopreis", "UVP", "Einkaufspreis"], "Bruttopreis", ""),
    (["prix_ht", "prix_ttc"], "prix_ttc", ""),
    (["Prijs excl. btw", "Prijs incl. btw"], "Prijs incl. btw", ""),
    (["price_gross", "sale_price_net"], "price_gross", ""),
    (["price", "sale_price_net"], "price", ""),
    (["price_net", "sale_price_net"], "price_net", "sale_price_net"),
    (["price_net", "price_gross", "sale_price_net", "sale_price_gross"], "price_gross", "sale_price_gross"),
    (["cost", "msrp", "price", "unit_price", "shipping_cost", "deposit"], "price", ""),
    (["unit_price", "retail_price"], "retail_price", ""),
    (["msrp", "cost_price"], "", ""),
    (["sale_price", "msrp"], "sale_price", ""),
    (["discounted_price", "actual_price"], "", ""),
    (["list_price"], "", ""),
    (["price_eur", "sale_price_usd"], "price_eur", ""),
]


@pytest.mark.parametrize(("header", "price", "sale"), CHOICES)
@pytest.mark.parametrize("turned", [False, True])
def test_the_price_is_what_a_buyer_pays_now_with_tax(header: list[str], price: str, sale: str, turned: bool) -> None:
    """Whatever the order of the columns. Without a price that is clear there is none."""
    usual = [name for name in header if name in ("price", "retail_price", "unit_price")]
    choice = choose_price(header[::-1] if turned else header, usual)
    assert (choice.price, choice.sale) == (price, sale)


def test_a_price_per_unit_is_the_price_if_there_is_no_other() -> None:
    """It is a usual name of a price, but any other usual name comes first."""
    assert choose_columns(["name", "unit_price"]).price == "unit_price"
    assert choose_columns(["name", "unit_price", "retail_price", "msrp"]).price == "retail_price"


def test_a_current_price_that_is_seldom_filled_counts_in_its_rows() -> None:
    """It is there for the rows where it differs from the price."""
    choice = choose_price(["price", "current_price"], counts={"price": 100, "current_price": 9})
    assert (choice.price, choice.sale) == ("price", "current_price")


def test_the_dates_of_a_sale_stay_out_of_the_text() -> None:
    """They say which rows have a reduced price. Without a sale price they are dates like others."""
    columns = choose_columns(["name", "Prix TTC", "Prix promo TTC", "Date fin promo", "promo_text"])
    assert (columns.sale, columns.sale_dates) == ("Prix promo TTC", ("Date fin promo",))
    assert columns.left_out["Date fin promo"] == "leak: the dates of a sale"
    assert columns.extra == ("promo_text",)


def test_a_price_with_tax_that_few_rows_have_is_not_chosen() -> None:
    """Most rows would be without a price."""
    assert choose_price(["price_net", "price_gross"], counts={"price_net": 100, "price_gross": 9}).price == "price_net"
    assert (
        choose_price(["price_net", "price_gross"], counts={"price_net": 100, "price_gross": 90}).price == "price_gross"
    )


def test_every_other_column_of_prices_stays_out_of_the_text() -> None:
    """Also those whose names have no word for a price in English."""
    header = ["name", "weight", "VK brutto", "EK netto", "Pfand", "EUR/kg", "Versandkosten", "UVP"]
    columns = choose_columns(header)
    assert (columns.price, columns.extra) == ("VK brutto", ("weight",))
    assert columns.left_out["EK netto"] == "leak: its name says a purchase price"


def test_map_chooses_one_column_alone(tmp_path: Path) -> None:
    """No sale price then, and no note on other columns of prices."""
    path, notes = table(tmp_path, ["name", "price", "sale_price"], [[f"Hose {n} m", 20, 15] for n in range(9)]), Notes()
    file = preview([path], mapping={"price": "price"}, progress=notes).files[0]
    assert (file.columns.price, file.columns.sale) == ("price", "")
    assert not [note for note in notes.notes if "takes that column alone" in note]


PRICES = st.one_of(st.just(""), st.floats(0.01, 1e6).map(lambda price: f"{price:.2f}"))


@given(PRICES, PRICES, st.sampled_from(["", "2026-05-01"]))
def test_a_row_has_the_sale_price_or_the_regular_price(regular: str, sale: str, date: str) -> None:
    """Never another number: none above the regular price, and the regular price where the sale has dates."""
    columns = ColumnMap(price="price", sale="sale", sale_dates=("until",))
    parsed, which = read_price({"price": regular, "sale": sale, "until": date}, columns)
    if not sale:
        assert (which, parsed) == (REGULAR, (float(regular), None) if regular else "no price")
    elif date:
        assert (which, parsed) == (DATED, (float(regular), None) if regular else "no price")
    elif regular and float(sale) > float(regular):
        assert parsed == SALE_ABOVE
    else:
        assert (which, parsed) == (SALE, (float(sale), None))


def table(folder: Path, header: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    path = folder / "shop.csv"
    with path.open("w", encoding="utf-8", newline="") as out:
        csv.writer(out).writerows([header, *rows])
    return str(path)


def titles(count: int) -> list[str]:
    places = ("garden", "kitchen", "office", "workshop", "cellar", "balcony", "garage", "attic")
    things = ("hose", "lamp", "chair", "table", "shelf", "bucket", "ladder", "carpet", "mirror", "clock", "stove")
    return [f"{things[n % 11]} number {n} of {n * 37 % 101} for the {places[n % 8]}" for n in range(count)]


def test_sale_prices_fill_some_rows_and_both_are_counted(tmp_path: Path) -> None:
    """The catalog has the sale price where there is one; its card and ledger say in how many rows."""
    rows = [[name, f"{20 + n}.00", f"{12 + n / 2:.2f}" if n % 4 == 0 else ""] for n, name in enumerate(titles(400))]
    rows[1][2], rows[2][2] = "99999.00", "soon"
    notes = Notes()
    catalog = curate([table(tmp_path, ["name", "price", "sale_price"], rows)], tmp_path / "out", progress=notes)
    prices = {row["title"]: row["price"] for batch in catalog.batches(["title", "price"]) for row in batch.to_pylist()}
    assert all(prices[name] == (12 + n / 2 if n % 4 == 0 else 20 + n) for n, name in enumerate(titles(400)) if n > 3)
    assert catalog.ledger["sale_prices"]["shop.csv"]["rows"] == {"regular": 298, "sale": 100}
    assert catalog.ledger["rows"]["rejected"] == {SALE_ABOVE: 1, "price is not a number": 1}
    assert "price = price, sale price = sale_price" in catalog_summary(catalog)
    assert "298 regular, 100 sale (sale = sale_price, regular = price)" in catalog_summary(catalog)
    assert any("the price is 'sale_price' in rows that have it, else 'price'" in note for note in notes.notes)
    roles = preview([str(tmp_path / "shop.csv")]).files[0].roles()
    assert ("sale_price", "price of the rows that have a sale price") in roles
    assert [column for column, _ in roles] == ["name", "price", "sale_price"]
    text = "".join(text for batch in catalog.batches(["text"]) for text in batch.column("text").to_pylist())
    assert "price" not in text


@pytest.mark.parametrize(
    ("columns", "low", "got"),
    [
        (("price", "sale_price"), 30, "'sale_price' is above 'price' in 100%"),
        (("price", "sale_price"), 2, "'sale_price' is 10% of 'price' (median"),
        (("price_gross", "price_net"), 30, "'price_net' is above 'price_gross' in 100%"),
        (("Preis inkl. MwSt.", "Preis netto"), 3, "'Preis netto' is 15% of 'Preis inkl. MwSt.' (median"),
    ],
    ids=["sale above", "an amount that is taken off", "net above", "an amount of tax"],
)
def test_prices_that_are_not_what_their_names_say_are_refused_with_hints_that_work(
    tmp_path: Path, columns: tuple[str, str], low: int, got: str
) -> None:
    """Each of the two options makes a catalog."""
    path = table(tmp_path, ["name", *columns], [[name, 20, low] for name in titles(9)])
    with pytest.raises(UsageError) as caught:
        preview([path])
    assert got in str(caught.value.got)
    for hint, price in zip(caught.value.hint.split(" or "), columns, strict=True):
        assert shlex.split(hint.removesuffix("."))[-1] == f"price={price}"
        assert preview([path], mapping={"price": price}).files[0].columns.price == price


def test_sale_prices_that_are_no_prices_are_refused_with_a_hint_that_works(tmp_path: Path) -> None:
    """Shares such as 20% would reject their rows one by one."""
    rows = [[name, 20 + n, "20%" if n % 2 else ""] for n, name in enumerate(titles(30))]
    path = table(tmp_path, ["name", "price", "sale price"], rows)
    with pytest.raises(UsageError, match="'sale price' has few prices") as caught:
        preview([path])
    assert caught.value.got == "'20%' and others in 15 of 15 sample rows with a value"
    assert caught.value.hint == "Use --map price=price."
    assert preview([path], mapping={"price": "price"}).files[0].columns.price == "price"


def test_the_decimal_marks_of_sale_prices_are_those_of_the_file(tmp_path: Path) -> None:
    """`1.299` is 1299 where sale prices have decimal commas."""
    rows = [[name, f"{n + 2}.299", f"{n + 1},50 €" if n % 2 else ""] for n, name in enumerate(titles(300))]
    catalog = curate([table(tmp_path, ["name", "price", "sale_price"], rows)], tmp_path / "out")
    assert (catalog.currency, catalog.ledger["observed_range"]) == ("EUR", [2.5, 300299.0])
    assert json.loads((tmp_path / "out" / "ledger.json").read_text())["columns"]["sale"] == "sale_price"
