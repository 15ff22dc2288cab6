"""Which of several columns of prices is the price: what a buyer pays now, with tax.

    >>> choose_price(["title", "list_price", "sale_price", "msrp"]).price
    'list_price'
    >>> choose_price(["title", "list_price", "sale_price", "msrp"]).sale
    'sale_price'

A column's name says its role in nine languages. The rule:

1. A current or final price comes before a plain one (`price`), which comes before a list price (`original_price`).
2. Beside a plain price or a list price, a sale price counts in the rows that have one; the others keep the regular
   price, and so do rows whose sale has dates, because a file does not say whether they have passed.
3. Of prices with and without tax, the ones with tax (gross) come first. A sale price with tax never goes with a regular
   price without it.
4. Purchase prices, recommended prices (MSRP), prices per unit, shipping costs and deposits are never the price, unless
   only a price per unit is there.

`--map price=COLUMN` makes that column alone the price. All other columns of prices give the price away and stay out of
the text.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from pricesmith.text.currency import CODES
from pricesmith.text.price_parser import currency_in_name, name_words, word_set

CURRENT, PLAIN, LIST, SALE, OTHER = "current", "plain", "list", "sale", "other"
COST, MSRP, UNIT, SHIPPING, DEPOSIT = "purchase", "recommended", "per unit", "shipping", "deposit"
NET, GROSS = "net", "gross"
LABELS = {
    COST: "a purchase price",
    MSRP: "a recommended price",
    UNIT: "a price per unit",
    SHIPPING: "a shipping cost",
    DEPOSIT: "a deposit",
}

# What a price is called, alone or as a part of a word: Angebotspreis, cenabrutto, saleprice.
STEMS = word_set(
    """prices price preise preis prijzen prijs prix precios precio prezzi prezzo preços preço precos preco ceny cena
    fiyatları fiyatlari fiyatlar fiyatı fiyati fiyat tarifa tarif pris"""
)
LONGEST_FIRST = sorted({*STEMS, "kosten"}, key=lambda stem: (-len(stem), stem))
# Names of prices that have no such stem: (word, role).
NAMES = {
    **dict.fromkeys(word_set("msrp rrp uvp mrp srp"), MSRP),
    **dict.fromkeys(word_set("cost costs cogs costo coste custo kosten ek ekp kosztów"), COST),
    **dict.fromkeys(word_set("vk vkp pvp"), PLAIN),
    **dict.fromkeys(word_set("deposit pfand statiegeld consigne kaucja"), DEPOSIT),
    "postage": SHIPPING,
}
UNCLEAR = (["tarif"], ["tarifa"])  # by themselves: `tarif` is a recipe in Turkish
FEES = word_set("fee fees charge charges amount amt gebühr gebühren frais koszt koszty")
FILLER = word_set(
    "variant product produkt producto produit prodotto produto item artikel the in of a de di du do da del des della "
    "im st con com mit avec amount value eur € $ £"
)
WORDS = {
    CURRENT: word_set("current final checkout effective actuel actuelle aktueller aktuell aktualna attuale huidige"),
    SALE: word_set(
        """sale special promo promotion promotional promotionnel promotionnelle discounted discount deal offer reduced
        clearance new now angebots angebot aktions aktion sonder soldé solde soldes promotions réduit remisé oferta
        rebajado promocional descuento desconto scontato offerta promocyjna indirimli kampanya kampanyalı aanbiedings
        aanbieding actie nouveau neuer nuevo nuovo nowa novo rabatt especial spécial speciale specjalna özel ridotto
        kortings kampanyali jetzt ahora agora adesso maintenant teraz"""
    ),
    LIST: word_set(
        """list regular original old compare compared at was before strike striked base standard normal retail catalog
        regulärer regulär alter alt statt ursprünglicher listen régulier ancien avant barré tachado anterior antes
        listino originale originaal pieno regularna katalogowa stara eski liste van oude normale antigo lista initial
        d'origine streich vorher vecchio intero cheio standardowa önceki"""
    ),
    PLAIN: word_set(
        """selling sell sales verkaufs verkauf vente venta vendita venda sprzedaży sprzedazy satış satis satiş verkoop
        detaliczna"""
    ),
    MSRP: word_set(
        """suggested recommended manufacturer manufacturers empfohlener empfohlen unverbindlicher conseillé recomendado
        sugerido consigliato sugerowana tavsiye advies minimum advertised map msrp rrp uvp"""
    ),
    COST: word_set(
        """cost purchase wholesale dealer trade reseller buying einkaufs einkauf ek d'achat achat costo coste custo
        compra acquisto zakupu zakup alış alis aliş inkoop inkoops supplier"""
    ),
    UNIT: word_set(
        """unit per kg g gram kilo liter litre l lb oz grund unitaire unitario unitaria unitário unitária
        jednostkowa birim eenheids pro je por za al au piece pack sqm sqft gb tb ml mengen"""
    ),
    SHIPPING: word_set(
        """shipping delivery freight handling versand livraison envío envio spedizione wysyłki wysyłka dostawy dostawa
        verzend verzendings frete kargo porto"""
    ),
    DEPOSIT: word_set("deposit pfand statiegeld consigne kaucja kaucji"),
}
# What all buyers pay: `precio al público`, `prezzo al pubblico`.
PUBLIC = word_set("público publico pubblico public consumidor consumatore")
NET_WORDS = word_set("net nett netto neto netta ht htva excl exc exkl exclu excluding exclusive zzgl exvat extax exgst")
GROSS_WORDS = word_set("gross brutto bruto ttc incl inc inkl including inclusive ivato incvat inctax incgst tvac")
WITHOUT_TAX = word_set("ex before without ohne sin sans senza bez zonder sem hors hariç haric esclusa escluso")
WITH_TAX = word_set("after with mit con avec com z met dahil inclusa inclusa incluido compris compresa")
TAX = word_set("mw vat tax taxes gst iva mwst ust tva taxe btw kdv igv steuer")
CJK = (
    (re.compile("仕入|原価"), COST, ""),
    (re.compile("送料"), SHIPPING, ""),
    (re.compile("希望小売|定価|原价|市场价"), MSRP, ""),
    (re.compile("セール|特価|割引"), SALE, ""),
    (re.compile("税抜|税別"), PLAIN, NET),
    (re.compile("税込"), PLAIN, GROSS),
    (re.compile("^(?:販売)?価格$|値段|售价|^价格$"), PLAIN, ""),
)
A_UNIT = re.compile(
    r"(?:/|\bper\b|\bpro\b|\bje\b|\bpor\b|\bza\b|\bau\b|\bal\b)\s*(?:1|100|1000)?\s*"
    r"(?:kg|kilo|g|gr|l|lt|liter|litre|litro|ml|m|m2|m²|sqm|sqft|lb|oz|unit|st|stück|szt|pc|pcs|piece|gb|tb|mb)\b",
    re.IGNORECASE,
)
SALE_DATE = re.compile("date|datum|día|start|end|begin|from|until|fin|effective|expir", re.IGNORECASE)


@dataclass(frozen=True)
class PriceName:
    """What a column's name says of its prices: their role, the tax (net, gross or empty), and the currency."""

    column: str
    role: str
    tax: str = ""
    currency: str = ""


@dataclass(frozen=True)
class PriceChoice:
    """The column of prices, the column of sale prices that comes before it in rows with a value, and the columns of
    dates of such a sale. `others` are the other columns of prices, with their roles."""

    price: str = ""
    sale: str = ""
    sale_dates: tuple[str, ...] = ()
    others: tuple[PriceName, ...] = ()
    tax: str = ""


def describe_name(column: str) -> PriceName | None:
    """The role of a column of prices by its name, None if it does not say that it holds prices."""
    for pattern, role, tax in CJK:
        if pattern.search(column):
            return PriceName(column, role, tax)
    if A_UNIT.search(column) and (re.search("[$€£¥]", column) or not CODES.isdisjoint(column.upper().split("/"))):
        return PriceName(column, UNIT)
    parts = [part for word in name_words(column) for part in split_compound(word)]
    stems = [part for part in parts if part in STEMS]
    named = [NAMES[part] for part in parts if part in NAMES]
    paid_shipping = not WORDS[SHIPPING].isdisjoint(parts) and not FEES.isdisjoint(parts)
    if (not stems and not named and not paid_shipping) or parts in UNCLEAR:
        return None
    if parts[-1] == "por" and len(parts) > 1:  # preço por: what is paid, beside preço de
        return PriceName(column, SALE, find_tax(parts), currency_in_name(column))
    if not PUBLIC.isdisjoint(parts):
        parts = [part for part in parts if part not in {*PUBLIC, "al", "au"}]
    currency = currency_in_name(column)
    tax = find_tax(parts)
    known = {*FILLER, *FEES, *NAMES, *STEMS, *NET_WORDS, *GROSS_WORDS, *TAX, currency.lower()}
    if tax:
        known |= WITHOUT_TAX | WITH_TAX
    rest = [part for part in parts if part not in known]
    for role in (DEPOSIT, SHIPPING, COST, MSRP, UNIT):
        if role in named or any(part in WORDS[role] for part in rest) or (role == UNIT and A_UNIT.search(column)):
            return PriceName(column, role, tax, currency)
    for role in (SALE, LIST, CURRENT, PLAIN):
        if rest and all(part in WORDS[role] for part in rest):
            return PriceName(column, role, tax, currency)
    return PriceName(column, OTHER if rest else PLAIN, tax, currency)


def split_compound(word: str) -> list[str]:
    """A word without a break as its parts: `angebotspreis` is `angebots` and `preis`, `prixttc` is `prix` and `ttc`."""
    for stem in LONGEST_FIRST:
        if word not in STEMS and word != stem and len(word) > len(stem) + 1:
            if word.endswith(stem):
                return [*split_compound(word.removesuffix(stem)), stem]
            if word.startswith(stem) and is_known(word.removeprefix(stem)):
                return [stem, word.removeprefix(stem)]
    return [word]


def is_known(word: str) -> bool:
    """Whether a word may follow the stem of a price without a break."""
    return word in NET_WORDS | GROSS_WORDS or any(word in words for words in WORDS.values())


def find_tax(parts: Sequence[str]) -> str:
    """Whether the words of a name say that prices are with tax (gross), without it (net), or nothing of it."""
    taxed = not TAX.isdisjoint(parts)
    if not NET_WORDS.isdisjoint(parts) or (taxed and not WITHOUT_TAX.isdisjoint(parts)):
        return NET
    return GROSS if not GROSS_WORDS.isdisjoint(parts) or (taxed and not WITH_TAX.isdisjoint(parts)) else ""


def choose_price(
    header: Sequence[str],
    usual: Sequence[str] = (),
    *,
    price: str = "",
    currency: str = "",
    counts: Mapping[str, int] | None = None,
    empty: Collection[str] = (),
    taken: Collection[str] = (),
) -> PriceChoice:
    """The price among the columns of a header, by the rule above.

    `usual` are columns with a usual name of a price, the likeliest first; `price` is the one that the kind of the file
    has; `currency` is preferred. `counts` are the values of each column in sample rows; the columns `empty` are chosen
    only if no other one may be the price, and a price with tax that fills under half as many rows as another is not.
    """
    names = [name for column in header if column not in taken and (name := describe_name(column))]
    by_column = {name.column: name for name in names}
    order = {column: place for place, column in enumerate(usual)}

    def rank(name: PriceName) -> tuple[int, ...]:
        named = 0 if currency and name.currency == currency else 2 if name.currency else 1
        role = {CURRENT: 0, PLAIN: 1, LIST: 2}[name.role]
        usual_place = order.get(name.column, len(order))
        return named, role == 2, name.tax == NET, role, name.tax != GROSS, usual_place

    sales = [name for name in names if name.role == SALE and name.column != price]
    proper = [name for name in names if name.role in (CURRENT, PLAIN, LIST)]
    regular = by_column.get(price) or (PriceName(price, PLAIN) if price else None)
    if regular is None:
        usable = [name for name in proper if name.role != LIST or name.column in order or sales]
        if any(column not in empty for column in (*usual, *(name.column for name in usable))):
            usable = [name for name in usable if name.column not in empty]
        most = max(((counts or {}).get(name.column, 0) for name in usable), default=0)
        full = [name for name in usable if name.tax != GROSS or 2 * (counts or {}).get(name.column, 0) >= most]
        usable = full or usable
        regular = min(usable, key=rank, default=None)
    if regular is None:
        unclear = [name for name in names if name.role == OTHER and name.column not in empty]
        first = next(iter(usual), "")
        if not first and len(sales) == 1 and not unclear:
            first = sales[0].column
        return PriceChoice(first, others=tuple(name for name in names if name.column != first))
    sale: PriceName | None
    seldom = least_filled(regular, [name for name in proper if name.role != CURRENT], counts)
    if regular.role == CURRENT and seldom:  # filled in where it differs from the usual price
        regular, sale = min(seldom, key=rank), regular
    else:
        sale = choose_sale(regular, sales, counts) if regular.role != CURRENT else None
    dates = [column for column in header if sale and is_sale_date(column)]
    used = {regular.column, *([sale.column] if sale else [])}
    others = tuple(name for name in names if name.column not in used)
    return PriceChoice(regular.column, sale.column if sale else "", tuple(dates), others, regular.tax)


def least_filled(current: PriceName, others: Sequence[PriceName], counts: Mapping[str, int] | None) -> list[PriceName]:
    """The other columns of prices that have a value in more than twice as many sample rows as the current price."""
    return [
        name for name in others if counts is not None and counts.get(name.column, 0) > 2 * counts.get(current.column, 0)
    ]


def choose_sale(regular: PriceName, sales: Sequence[PriceName], counts: Mapping[str, int] | None) -> PriceName | None:
    """The sale price that goes with a regular price: in the same currency, and with the same tax."""
    fitting = [
        name
        for name in sales
        if name.currency in ("", regular.currency) or not regular.currency
        if {name.tax, regular.tax} != {NET, GROSS} and (not name.tax or name.tax == (regular.tax or GROSS))
    ]
    return min(fitting, key=lambda name: (name.tax != regular.tax, -(counts or {}).get(name.column, 0)), default=None)


def is_sale_date(column: str) -> bool:
    """Whether a column has the dates of a sale: `sale_price_effective_date`, `Date sale price starts`."""
    parts = {part for word in name_words(column) for part in split_compound(word)}
    return not WORDS[SALE].isdisjoint(parts) and bool(SALE_DATE.search(column))


def leak_reason(column: str) -> str:
    """Why a column of prices that is not the price stays out of the text, by its name; empty for another column."""
    name = describe_name(column)
    return f"leak: its name says {LABELS.get(name.role, 'a price')}" if name and name.role != OTHER else ""


def find_counterpart(price: str, header: Sequence[str]) -> str:
    """The column of prices without tax that stands beside a price with tax; empty if there is none."""
    own = describe_name(price)
    names = [name for column in header if (name := describe_name(column))] if own and own.tax == GROSS else []
    return next((name.column for name in names if own and (name.role, name.tax) == (own.role, NET)), "")


def describe_choice(price: str, sale: str, header: Sequence[str]) -> str:
    """A sentence on which column is the price and which others are left out; empty if no other column may be it."""
    names = [name for column in header if (name := describe_name(column))]
    others = [name for name in names if name.column not in (price, sale) and name.role in (CURRENT, PLAIN, LIST, SALE)]
    if not others and not sale:
        return ""
    own = next((name for name in names if name.column == price), None)
    tax = {NET: " (without tax)", GROSS: " (with tax)"}.get(own.tax if own else "", "")
    chosen = f"the price is {sale!r} in rows that have it, else {price!r}" if sale else f"the price is {price!r}"
    left = ", ".join(f"{name.column!r} ({name.tax or name.role} price)" for name in others)
    rest = f"; left out: {left}" if left else ""
    other = others[0].column if others else price
    return f"{chosen}{tax}{rest}. --map {shlex.quote(f'price={other}')} takes that column alone"
