"""schema.org products as flat rows, from the objects of JSON-LD or microdata. Runs in the child (`parse`).

One raw object:
    {"@type": "Product", "name": "Hose", "brand": {"@type": "Brand", "name": "Acme"},
     "offers": {"@type": "Offer", "price": "24.50", "priceCurrency": "EUR"}}
becomes the row {"name": "Hose", "brand": "Acme", "price": "24.50", "priceCurrency": "EUR"}.

Several offers with one price are one row. Offers with names or SKUs of their own are a row each, of one product group;
other offers, and lowPrice with highPrice, are a price range, which `curate` rejects by name.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from html import unescape
from typing import Any

from pricesmith.catalog.readers.messages import Value
from pricesmith.text.price_parser import word_set

PRODUCTS = word_set("Product IndividualProduct ProductModel SomeProducts ProductGroup Vehicle Car Motorcycle")
LISTS = frozenset(["ItemList", "ListItem", "OfferCatalog"])
# Keys under which a product names others, reviews of it and its seller.
OTHERS = word_set("isrelatedto issimilarto isaccessoryorsparepartfor isconsumablefor review reviews")
# What rows keep, in this order: schema.org's own names.
NAMES = """
    name description brand manufacturer category sku mpn gtin gtin8 gtin12 gtin13 gtin14 productID model color
    material pattern size weight width height depth itemCondition additionalProperty url
"""
KEPT = tuple(NAMES.split())
# Strings stay; comments and commas before a closing bracket go.
COMMENTS = re.compile(r'("(?:[^"\\]|\\.)*+")|//[^\n\r]*|/\*.*?\*/', re.DOTALL)
COMMAS = re.compile(r'("(?:[^"\\]|\\.)*+")|,(?=\s*[}\]])', re.DOTALL)
WRAPPING = re.compile(
    r"^\s*(?:<!--|//\s*<!\[CDATA\[|/\*\s*<!\[CDATA\[\s*\*/|<!\[CDATA\[)|(?:-->|(?:/[/*]\s*)?\]\]>(?:\s*\*/)?)\s*$"
)
DEEPEST = 32
MOST_NODES = 200_000  # objects and lists of one page that are looked at


def read_json(text: str) -> Any:
    """JSON-LD as Python values, also with comments, trailing commas and a wrapping comment around it.

    Raises ValueError for what is still not JSON.
    """
    text = WRAPPING.sub("", text).strip()
    try:
        return json.loads(text, strict=False)
    except ValueError:
        cleaned = COMMAS.sub(lambda match: match[1] or "", COMMENTS.sub(lambda match: match[1] or "", text))
    try:
        return json.loads(cleaned, strict=False)
    except ValueError:
        return json.loads(unescape(cleaned), strict=False)


def types_of(value: dict[str, Any]) -> set[str]:
    """The names of an object's types, without the address before them."""
    types = value.get("@type")
    listed = types if isinstance(types, list) else [types]
    return {name.rpartition("/")[2].rpartition(":")[2] for name in listed if isinstance(name, str)}


def is_schema(value: Any) -> bool:
    """Whether a JSON object is a product or a list of products of schema.org."""
    return isinstance(value, dict) and "@type" in value and not types_of(value).isdisjoint(PRODUCTS | LISTS)


def find_products(value: Any) -> Iterator[dict[str, Any]]:
    """The products in JSON-LD, in its order: alone, in lists, under @graph, in an ItemList or as main entity."""
    waiting: list[tuple[Any, int]] = [(value, 0)]
    seen = 0
    while waiting and seen < MOST_NODES:
        node, depth = waiting.pop()
        seen += 1
        if isinstance(node, dict):
            if not types_of(node).isdisjoint(PRODUCTS):
                yield node
                continue
            node = [part for key, part in node.items() if key.lower() not in OTHERS]
        if isinstance(node, list) and depth < DEEPEST:
            waiting += [(part, depth + 1) for part in reversed(node) if isinstance(part, dict | list)]


def rows_of(product: dict[str, Any]) -> list[dict[str, Value]]:
    """The rows of one product: its variants if it is a ProductGroup, else one, or one for each named offer."""
    variants = [variant for variant in as_list(product.get("hasVariant")) if isinstance(variant, dict)]
    shared = described(product)
    group = text_of(product.get("productGroupID")) or text_of(product.get("inProductGroupWithID"))
    if variants:
        group = group or shared.get("sku") or shared.get("name") or ""
        own = {key: value for key, value in shared.items() if key not in ("sku", "mpn", "url")}
        made = []
        for variant in variants:
            for row in rows_of({key: part for key, part in variant.items() if key != "hasVariant"}):
                made.append({**own, **row, "productGroupID": group})
        return made
    offers = list(offers_of(product.get("offers")))
    if single := [offer for offer in offers if text_of(offer.get("price"))]:
        offers = single  # an AggregateOffer beside its own offers
    named = [offer for offer in offers if text_of(offer.get("sku")) or text_of(offer.get("name"))]
    prices = {price_of(offer)[0] for offer in offers}
    if len(prices) > 1 and len(named) == len(offers):
        key = group or shared.get("sku") or shared.get("name") or ""
        rows = []
        for offer in offers:
            price, currency = price_of(offer)
            label = text_of(offer.get("name"))
            own = {"sku": text_of(offer.get("sku"))} | ({"offer": label} if label else {})
            rows.append({**shared, **own, **condition_of(offer), "price": price, "priceCurrency": currency})
        return [{**row, "productGroupID": key} for row in rows]
    price, currency = single_price(product, offers)
    condition = condition_of(offers[0]) if offers else {}
    grouped = {"productGroupID": group} if group else {}
    return [{**shared, **condition, "price": price, "priceCurrency": currency, **grouped}]


def described(product: dict[str, Any]) -> dict[str, str]:
    """What describes a product, as texts."""
    row = {key: text_of(product[key]) for key in KEPT if key in product}
    return {key: value for key, value in row.items() if value}


def offers_of(value: Any) -> Iterator[dict[str, Any]]:
    """The offers of a product that have a price each; those within an AggregateOffer come instead of it."""
    for offer in as_list(value)[:1000]:
        if isinstance(offer, dict):
            inner = [part for part in offers_of(offer.get("offers")) if price_of(part)[0]]
            yield from inner or [offer]


def single_price(product: dict[str, Any], offers: list[dict[str, Any]]) -> tuple[str, str]:
    """The one price of a product and its currency; a range, written as `10 - 20`, if its offers differ."""
    quoted = [price_of(offer) for offer in offers or [product]]
    quoted = [(price, currency) for price, currency in quoted if price]
    if not quoted:
        return "", ""
    prices = list(dict.fromkeys(price for price, _ in quoted))
    return (prices[0] if len(prices) == 1 else f"{prices[0]} - {prices[1]}"), quoted[0][1]


def price_of(offer: dict[str, Any]) -> tuple[str, str]:
    """An offer's price and currency as texts, empty without one. The price of an AggregateOffer may be a range."""
    currency = text_of(offer.get("priceCurrency"))
    if price := text_of(offer.get("price")):
        return price, currency
    low, high = text_of(offer.get("lowPrice")), text_of(offer.get("highPrice"))
    if low or high:
        single = low == high or text_of(offer.get("offerCount")) == "1"
        return (low or high) if single else f"{low} - {high}" if low and high else f"from {low or high}", currency
    for part in as_list(offer.get("priceSpecification")):
        listed = text_of(part.get("priceType")) if isinstance(part, dict) else "none"
        if isinstance(part, dict) and not listed.endswith(("ListPrice", "StrikethroughPrice", "MSRP", "SRP")):
            price, own = price_of({key: value for key, value in part.items() if key != "priceSpecification"})
            if price:
                return price, own or currency
    return "", currency


def condition_of(offer: dict[str, Any]) -> dict[str, str]:
    """The condition that an offer names: `UsedCondition` of its address."""
    value = text_of(offer.get("itemCondition")).rstrip("/").rpartition("/")[2]
    return {"itemCondition": value} if value else {}


def text_of(value: Any) -> str:
    """A value as text: the name of an object, the first of several texts with the others on lines of their own."""
    if isinstance(value, bool) or value is None:
        return ""
    if isinstance(value, dict):
        name = value.get("name") or value.get("@value")
        number, unit = value.get("value"), value.get("unitText") or value.get("unitCode")
        if isinstance(number, str | int | float):
            quantity = f"{number} {unit}" if isinstance(unit, str) else str(number)
            return f"{name}: {quantity}" if isinstance(name, str) else quantity
        return " ".join(name.split()) if isinstance(name, str) else ""
    if isinstance(value, list):
        return "\n".join(filter(None, (text_of(part) for part in value if not isinstance(part, list))))
    text = str(value).strip()
    return text.rpartition("/")[2] if text.startswith(("http://schema.org/", "https://schema.org/")) else text


def as_list(value: Any) -> list[Any]:
    """A value that may stand alone as a list."""
    return value if isinstance(value, list) else [] if value is None else [value]


def expand(value: Any) -> list[dict[str, Value]]:
    """The rows of the products in one JSON object; none if it is not of schema.org or has no product."""
    if not is_schema(value) and not (isinstance(value, dict) and "@graph" in value):
        return []
    return [row for product in find_products(value) for row in rows_of(product)]
