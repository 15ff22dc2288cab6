"""Google Merchant feeds in XML, and schema.org products in JSON and saved web pages."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest

from pricesmith.catalog.readers.sources import BadRow, Limits, RawRow, read_rows, resolve_sources
from pricesmith.catalog.readers.xml import DTD_HINT
from pricesmith.core.errors import InputError

FEED = """<?xml version="1.0"?>
<rss version="2.0" xmlns:g="http://base.google.com/ns/1.0"><channel><title>Shop</title><link>https://example.org</link>
<item><g:id>7</g:id><title>Hose &amp; reel</title><g:price>75.00 USD</g:price><g:sale_price>60.00 USD</g:sale_price>
<g:item_group_id>hose</g:item_group_id><g:shipping><g:country>US</g:country><g:price>4.99 USD</g:price></g:shipping>
<g:product_highlight>brass</g:product_highlight><g:product_highlight>25 m</g:product_highlight>
<g:product_detail><g:attribute_name>Color</g:attribute_name><g:attribute_value>green</g:attribute_value>
</g:product_detail></item><!-- a note -->
<item><g:id>8</g:id><title>Lamp</title><g:price>12.00 USD</g:price></item></channel></rss>"""
ROW = {
    "id": "7", "title": "Hose & reel", "price": "75.00 USD", "sale_price": "60.00 USD", "item_group_id": "hose",
    "shipping": "country: US", "product_highlight": "brass\n25 m", "product_detail": "Color: green",
}  # fmt: skip


def read(*paths: Path) -> list[dict[str, object] | str]:
    (source,) = resolve_sources([str(path) for path in paths])
    rows: list[RawRow | BadRow] = [row for batch in read_rows(source, Limits()) for row in batch]
    return [{k: v for k, v in row.values.items() if v} if isinstance(row, RawRow) else row.reason for row in rows]


def write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def page(*scripts: object, body: str = "") -> str:
    """A web page with JSON-LD: each script is an object or a text."""
    texts = [script if isinstance(script, str) else json.dumps(script) for script in scripts]
    blocks = "".join(f'<script type="application/ld+json">{text}</script>' for text in texts)
    return f"<!DOCTYPE html><html><head><title>Shop</title>{blocks}</head><body>{body}</body></html>"


def product(name: str = "Hose", **offers: object) -> dict[str, object]:
    return {
        "@context": "https://schema.org",
        "@type": "Product",
        "name": name,
        "brand": {"@type": "Brand", "name": "Acme"},
        "offers": {"@type": "Offer", "price": "24.50", "priceCurrency": "EUR", **offers},
    }


PLAIN = {"name": "Hose", "brand": "Acme", "price": "24.50", "priceCurrency": "EUR"}


def test_a_merchant_feed_in_xml_is_read(tmp_path: Path) -> None:
    """Names lose their prefix, repeated ones have several lines, and shipping costs are no price."""
    rows = read(write(tmp_path / "feed.xml", FEED))
    assert rows == [ROW, {"id": "8", "title": "Lamp", "price": "12.00 USD"}]


def test_a_merchant_feed_without_prefixes_packed_or_as_atom_is_read(tmp_path: Path) -> None:
    """The prefix g: is no part of a name; entries of Atom are items too."""
    (tmp_path / "plain.xml.gz").write_bytes(gzip.compress(FEED.replace("g:", "").encode()))
    assert read(tmp_path / "plain.xml.gz")[0] == ROW
    atom = '<feed xmlns="http://www.w3.org/2005/Atom"><entry><title>Hose</title><link href="https://x.org/7"/>'
    atom += '<price xmlns="http://base.google.com/ns/1.0">9.50 EUR</price></entry></feed>'
    assert read(write(tmp_path / "atom.xml", atom)) == [
        {"title": "Hose", "link": "https://x.org/7", "price": "9.50 EUR"}
    ]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('<!DOCTYPE a [<!ENTITY b "bb">]><rss><channel><item><title>&b;</title></item></channel></rss>', DTD_HINT),
        ("<!doctype a SYSTEM 'file:///etc/passwd'><rss><item><title>x</title></item></rss>", DTD_HINT),
        ("<html><body>Not found</body></html>", ".csv or .jsonl"),
        ("<rss><channel><item><title>Hose & reel</title></item></channel></rss>", "&amp;"),
        ("<rss><channel><item><g:id>7</g:id></item></channel></rss>", "xmlns:g="),
        ("<rss><channel><item><title>Hose</title>", "Fetch it again"),
        (f"<rss>{'<a>' * 400}<item><title>x</title></item>{'</a>' * 400}</rss>", "Fetch it again"),
    ],
)
def test_harmful_and_broken_xml_is_refused_with_what_to_do(tmp_path: Path, text: str, expected: str) -> None:
    """DTDs, entities, wrong roots, unescaped signs, missing declarations, cut files and extreme nesting."""
    with pytest.raises(InputError) as error:
        read(write(tmp_path / "feed.xml", text))
    assert expected in error.value.hint


@pytest.mark.parametrize(
    "script",
    [
        product(),
        [{"@type": "BreadcrumbList"}, product()],
        {"@graph": [{"@type": "WebPage", "name": "Page"}, product()]},
        {"@type": "ItemList", "itemListElement": [{"@type": "ListItem", "position": 1, "item": product()}]},
        {"@type": ["WebPage"], "mainEntity": product()},
        json.dumps(product()).replace('"name"', '// a comment, "quoted"\n"name"').replace("}}", ",}/* end */}"),
        f"<!--\n{json.dumps(product())}\n-->",
        f"//<![CDATA[\n{json.dumps(product())}\n//]]>",
        {**product(), "isRelatedTo": product("Lamp"), "review": {"itemReviewed": product("Lamp")}},
        product(price=None, priceSpecification=[{"price": 24.50}, {"priceType": "ListPrice", "price": 30}]),
    ],
)
def test_products_of_json_ld_are_found_wherever_they_stand(tmp_path: Path, script: object) -> None:
    """Lists, graphs, item lists, main entities, comments and wrappings; related products are not read."""
    (row,) = read(write(tmp_path / "page.html", page(script)))
    assert isinstance(row, dict)
    assert row == {**PLAIN, "filename": "page.html"} | ({"price": "24.5"} if row["price"] == "24.5" else {})


def test_a_price_range_stays_a_range(tmp_path: Path) -> None:
    """Low and high prices, and several offers with different prices, are rejected by name later."""
    ranged = {**product(), "offers": {"@type": "AggregateOffer", "lowPrice": 10, "highPrice": 20}}
    several = {**product(), "offers": [{"price": 10}, {"price": 12}]}
    opened = {**product(), "offers": {"@type": "AggregateOffer", "lowPrice": 10}}
    same = {**product(), "offers": {"@type": "AggregateOffer", "lowPrice": 10, "highPrice": 10}}
    rows = read(write(tmp_path / "page.html", page(ranged, several, opened, same)))
    assert [row["price"] for row in rows if isinstance(row, dict)] == ["10 - 20", "10 - 12", "from 10", "10"]


def test_variants_are_rows_of_one_group(tmp_path: Path) -> None:
    """Variants of a ProductGroup, and offers with names or SKUs, take the product's name and brand."""
    group = {**product(), "@type": "ProductGroup", "productGroupID": "h", "offers": None}
    group["hasVariant"] = [
        {"@type": "Product", "sku": "h25", "size": "25 m", "offers": {"price": 24.5, "priceCurrency": "EUR"}},
        {"@type": "Product", "name": "Hose 50 m", "offers": [{"price": 39, "priceCurrency": "EUR"}]},
    ]
    offers = [{"price": 5, "sku": "a"}, {"price": 9, "sku": "b"}]
    named = {**product("Lamp"), "offers": {"@type": "AggregateOffer", "lowPrice": 5, "highPrice": 9, "offers": offers}}
    rows = [row for row in read(write(tmp_path / "page.html", page(group, named))) if isinstance(row, dict)]
    assert [(row["name"], row["brand"], row["price"], row["productGroupID"]) for row in rows] == [
        ("Hose", "Acme", "24.5", "h"),
        ("Hose 50 m", "Acme", "39", "h"),
        ("Lamp", "Acme", "5", "Lamp"),
        ("Lamp", "Acme", "9", "Lamp"),
    ]


MICRODATA = """<div itemscope itemtype="http://schema.org/Product" itemref="more"><h1 itemprop="name">Hose</h1>
<span itemprop="brand" itemscope itemtype="https://schema.org/Brand"><b itemprop="name">Acme</b></span>
<div itemprop="offers" itemscope itemtype="http://schema.org/Offer"><meta itemprop="priceCurrency" content="EUR">
<span itemprop="price" content="24.50">24 euros 50</span><link itemprop="itemCondition"
href="https://schema.org/UsedCondition"></div></div><p id="more"><i itemprop="color">green</i></p>"""


def test_microdata_are_read_if_there_is_no_json_ld(tmp_path: Path) -> None:
    """Values for machines come before the text that is shown; itemref is followed."""
    (row,) = read(write(tmp_path / "page.htm", page(body=MICRODATA)))
    assert row == {**PLAIN, "color": "green", "itemCondition": "UsedCondition", "filename": "page.htm"}
    (row,) = read(write(tmp_path / "both.html", page(product(), body=MICRODATA)))
    assert row == {**PLAIN, "filename": "both.html"}


def test_pages_of_a_folder_are_one_source(tmp_path: Path) -> None:
    """A page without a product is a row with the reason; a folder with tables passes over its pages."""
    for name in ("b", "a"):
        write(tmp_path / f"{name}.html", page(product(name)))
    write(tmp_path / "c.html", page('{"name": '))
    write(tmp_path / "d.html", page({"@type": "NewsArticle"}))
    (source,) = resolve_sources([str(tmp_path)])
    assert (source.name, len(source.pages)) == (f"{tmp_path.name}/*.html", 4)
    rows = read(tmp_path)
    assert [row if isinstance(row, str) else row["name"] for row in rows] == [
        "a",
        "b",
        "its JSON-LD is not JSON",
        "no schema.org product in the page",
    ]
    digest = source.digest()
    write(tmp_path / "d.html", page(product("d")))
    assert resolve_sources([str(tmp_path)])[0].digest() != digest
    write(tmp_path / "shop.csv", "name,price\nHose,1\n")
    assert [source.name for source in resolve_sources([str(tmp_path)])] == ["shop.csv"]


def test_a_page_without_a_product_is_refused_with_what_to_do(tmp_path: Path) -> None:
    """The error says what a page needs."""
    with pytest.raises(InputError, match=r"no schema\.org product") as error:
        read(write(tmp_path / "page.html", page({"@type": "NewsArticle"}, body="<p>$5</p>")))
    assert "Save the pages of single products" in error.value.hint


def test_hostile_pages_end_in_rows_or_reasons(tmp_path: Path) -> None:
    """Deep nesting, itemref loops and huge lists neither crash nor hang."""
    deep: object = product()
    for _ in range(100):
        deep = [deep]
    write(tmp_path / "deep.html", page(deep))
    write(tmp_path / "brackets.html", page("[" * 100_000))
    loop = '<div id="a" itemscope itemtype="http://schema.org/Product" itemref="a"><b itemprop="name">Hose</b></div>'
    write(tmp_path / "loop.html", page(body=loop))
    write(tmp_path / "tags.html", page(body="<div>" * 20_000))
    rows = read(tmp_path)
    assert len([row for row in rows if isinstance(row, dict)]) <= 2
    assert {row for row in rows if isinstance(row, str)} <= {
        "its JSON-LD is not JSON",
        "no schema.org product in the page",
    }


def test_schema_org_in_json_is_read(tmp_path: Path) -> None:
    """An ItemList of products, and JSON Lines of products, give the rows that a page would."""
    items = {
        "@type": "ItemList",
        "name": "List",
        "itemListElement": [product(), {"@type": "ListItem", "item": product()}],
    }
    assert read(write(tmp_path / "items.json", json.dumps(items, indent=1))) == [PLAIN, PLAIN]
    assert read(write(tmp_path / "items.jsonl", f"{json.dumps(product())}\n" * 2)) == [PLAIN, PLAIN]


@pytest.mark.parametrize("indent", [None, 1])
@pytest.mark.parametrize(
    "item",
    [
        product(),
        {**product(), "review": [{"@type": "Review", "name": "Good"}], "offers": [product()["offers"]]},
        {"@context": "https://schema.org", "@graph": [{"@type": "WebPage", "name": "Page"}, product()]},
        {"@type": "WebPage", "name": "Page", "breadcrumb": [{"@type": "Thing"}], "mainEntity": product()},
    ],
)
def test_one_object_of_json_ld_is_read_as_in_a_page(tmp_path: Path, item: object, indent: int | None) -> None:
    """A product alone, with lists of other things in it, under @graph, and as the main entity of a page."""
    assert read(write(tmp_path / "item.json", json.dumps(item, indent=indent))) == [PLAIN]
    assert read(write(tmp_path / "item.html", page(item))) == [{**PLAIN, "filename": "item.html"}]


def test_a_graph_in_each_line_or_element_gives_its_products(tmp_path: Path) -> None:
    graph = {"@context": "https://schema.org", "@graph": [{"@type": "WebPage", "name": "Page"}, product()]}
    assert read(write(tmp_path / "items.jsonl", f"{json.dumps(graph)}\n" * 2)) == [PLAIN, PLAIN]
    assert read(write(tmp_path / "items.json", json.dumps([graph, graph], indent=1))) == [PLAIN, PLAIN]


def test_json_ld_with_comments_is_read_and_a_list_beside_it_only_without_a_product(tmp_path: Path) -> None:
    text = json.dumps(product(), indent=1).replace('"name"', '// a comment\n"name"', 1)
    assert read(write(tmp_path / "item.json", text)) == [PLAIN]
    members = {"@context": "/contexts/Shop", "@id": "/shop", "members": [{"title": "Lamp", "price": 3}]}
    assert read(write(tmp_path / "members.json", json.dumps(members, indent=1))) == [{"title": "Lamp", "price": 3}]
