"""Saved web pages with schema.org products, as JSON-LD or microdata. Runs in the child (`parse`).

Only the data are read: nothing of a page is run or fetched. JSON-LD with comments or trailing commas, which JSON does
not have, is read without them. A page's microdata count only if its JSON-LD has no product.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator
from typing import Any, BinaryIO

from pricesmith.catalog.readers import schema_org
from pricesmith.catalog.readers.jsonl import ObjectWriter
from pricesmith.catalog.readers.messages import TOO_LARGE, FileRefused, MessageWriter
from pricesmith.catalog.readers.text_file import encoding_of

ALIVE = 100  # pages between signs of life
LARGEST = 30_000_000  # bytes of a page
NO_PRODUCT = "no schema.org product in the page"
BROKEN = "its JSON-LD is not JSON"
CHARSET = re.compile(rb"<meta[^>]{0,200}charset\s*=\s*[\"']?\s*([\w-]{2,40})", re.IGNORECASE)
ADDRESSES = {"a": "href", "link": "href", "area": "href", "img": "src", "audio": "src", "video": "src", "iframe": "src"}
FORMATS = {"time": "datetime", "data": "value", "meter": "value", "meta": "content"}
DEEPEST = 200  # products within products, and references to other parts of a page
MOST_PARTS = 100_000  # elements of one product


def pages(file: BinaryIO, limits: Any, answer: MessageWriter) -> None:
    """The products of pages, each of which comes as a line of JSON with its name and length, and its bytes.

    A page without a product is one row with the reason. Raises FileRefused if no page has a product.
    """
    writer = ObjectWriter(limits, answer)
    reasons: Counter[str] = Counter()
    count = 0
    while line := file.readline():
        page = json.loads(line)
        body = file.read(page["length"])
        count += 1
        if count % ALIVE == 0:
            answer.say(alive=count)
        rows, reason = products_of(body) if len(body) <= LARGEST else ([], TOO_LARGE)
        if not rows:
            reasons[reason] += 1
            writer.write(reason, 0)
        for row in rows:
            size = sum(len(str(value)) for value in row.values())
            writer.write({**row, "filename": page["name"]} if size <= limits.cell else TOO_LARGE, size)
    if not writer.usual:
        raise no_products(reasons, count)


def no_products(reasons: Counter[str], count: int) -> FileRefused:
    """The refusal of pages without a single product."""
    got = ", ".join(f"{number} x {reason}" for reason, number in reasons.most_common()) if count > 1 else ""
    return FileRefused(
        "it has no schema.org product" if count == 1 else "none of its pages has a schema.org product",
        got or next(iter(reasons), NO_PRODUCT),
        "a page with a Product in JSON-LD or microdata, and a price in its offers",
        "Save the pages of single products from the browser, or copy the table of prices to a .csv file.",
    )


def products_of(body: bytes) -> tuple[list[dict[str, Any]], str]:
    """The rows of one page, and the reason if it has none."""
    from selectolax.lexbor import LexborHTMLParser

    tree = LexborHTMLParser(decode(body))
    rows: list[dict[str, Any]] = []
    broken = 0
    for script in tree.css("script"):
        kind = (script.attributes.get("type") or "").partition(";")[0].strip().lower()
        if kind != "application/ld+json":
            continue
        try:
            data = schema_org.read_json(script.text(deep=True) or "")
        except (ValueError, RecursionError):
            broken += 1
            continue
        for product in schema_org.find_products(data):
            rows += schema_org.rows_of(product)
    if not rows:
        for product in find_microdata(tree):
            rows += schema_org.rows_of(product)
    rows = [row for row in rows if row.get("name") or row.get("description")]
    return rows, "" if rows else BROKEN if broken else NO_PRODUCT


def decode(body: bytes) -> str:
    """A page as text: by its byte order mark or its own charset, else UTF-8, else Windows-1252."""
    head = body[:2048]
    try:
        encoding = encoding_of(head)
    except FileRefused:
        encoding = "utf-8-sig"
    if encoding == "utf-8-sig" and (named := CHARSET.search(head)):
        encoding = named[1].decode("ascii")
        encoding = "utf-8-sig" if encoding.lower() in ("utf-8", "utf8") else encoding
    try:
        return body.decode(encoding)
    except (UnicodeDecodeError, LookupError):
        return body.decode("cp1252", "replace")


def find_microdata(tree: Any) -> Iterator[dict[str, Any]]:
    """The products of a page's microdata that are no part of another one, as the objects of JSON-LD."""
    done: set[int] = set()
    for node in tree.css("[itemscope][itemtype]"):
        if is_product(node) and node.mem_id not in done and "itemprop" not in node.attributes:
            yield read_item(node, tree, done, 0)


def is_product(node: Any) -> bool:
    """Whether an element is a product by its itemtype."""
    types = (node.attributes.get("itemtype") or "").split()
    return any(name.rstrip("/").rpartition("/")[2] in schema_org.PRODUCTS for name in types)


def read_item(node: Any, tree: Any, done: set[int], depth: int) -> dict[str, Any]:
    """One item of microdata, with the elements that its itemref names."""
    done.add(node.mem_id)
    kinds = [name.rstrip("/").rpartition("/")[2] for name in (node.attributes.get("itemtype") or "").split()]
    item: dict[str, Any] = {"@type": kinds}
    waiting = list(children_of(node))
    for reference in (node.attributes.get("itemref") or "").split()[:DEEPEST]:
        if re.fullmatch(r"[\w-]+", reference):
            waiting += tree.css(f'[id="{reference}"]')[:1]
    seen = 0
    while waiting and seen < MOST_PARTS:
        part = waiting.pop(0)
        seen += 1
        attributes = part.attributes
        scoped = "itemscope" in attributes
        names = (attributes.get("itemprop") or "").split()
        if scoped:
            if names and part.mem_id not in done and depth < DEEPEST:
                add_property(item, names, read_item(part, tree, done, depth + 1))
            continue
        if names:
            add_property(item, names, value_of(part))
        waiting[:0] = children_of(part)
    return item


def add_property(item: dict[str, Any], names: list[str], value: Any) -> None:
    """Add a value to a property; one that is repeated becomes a list."""
    for name in names:
        if name not in item:
            item[name] = value
        elif isinstance(item[name], list):
            item[name].append(value)
        else:
            item[name] = [item[name], value]


def children_of(node: Any) -> Iterator[Any]:
    """The elements directly within an element."""
    child = node.child
    while child is not None:
        if child.is_element_node:
            yield child
        child = child.next


def value_of(node: Any) -> str:
    """The value of a property: what its element says for machines, else its text."""
    attributes, tag = node.attributes, node.tag
    for name in ("content", ADDRESSES.get(tag, ""), FORMATS.get(tag, "")):
        if name and attributes.get(name) is not None:
            return str(attributes[name]).strip()
    return " ".join((node.text(deep=True) or "").split())
