"""Product feeds in XML (Google Merchant: RSS 2.0 or Atom) from unknown sources, an item at a time. Runs in the child.

One raw item:
    <item><g:id>7</g:id><title>Hose</title><g:price>15.00 USD</g:price><g:color>green</g:color></item>
becomes the row {"id": "7", "title": "Hose", "price": "15.00 USD", "color": "green"}.

libxml2 reads the bytes without entities, DTD, network and its option for huge documents; a file with a DTD is refused.
"""

from __future__ import annotations

import io
from typing import Any

from pricesmith.catalog.readers.jsonl import ObjectWriter
from pricesmith.catalog.readers.messages import TOO_LARGE, FileRefused, MessageWriter, Value
from pricesmith.text.price_parser import find_price_word

ITEMS = frozenset(["item", "entry", "product", "offer"])  # elements that are one product each
DEEPEST = 8  # levels of elements within an item
DTD_HINT = "Remove the lines from <!DOCTYPE to its end, if you trust the file."


def xml(file: io.BufferedReader, limits: Any, answer: MessageWriter) -> None:
    """The items of a feed as rows. Raises FileRefused for a DTD and for a file without items."""
    from lxml import etree

    if b"<!DOCTYPE" in file.peek(1 << 16)[: 1 << 16].upper():
        raise FileRefused("it has a DTD, which can hide harmful content", "<!DOCTYPE", "XML without a DTD", DTD_HINT)
    writer = ObjectWriter(limits, answer)
    steps = etree.iterparse(
        file,
        events=("start", "end"),
        resolve_entities=False,
        load_dtd=False,
        no_network=True,
        huge_tree=False,
        remove_comments=True,
        remove_pis=True,
    )
    root, item = "", None
    try:
        for event, element in steps:
            if event == "start":
                if not root:
                    root = local_name(element)
                    if element.getroottree().docinfo.doctype:
                        raise FileRefused("it has a DTD", "<!DOCTYPE", "XML without a DTD", DTD_HINT)
                if item is None and local_name(element) in ITEMS and element.getparent() is not None:
                    item = element
            elif element is item:
                writer.write(*row_of(element, limits))
                item = None
                forget(element)
            elif item is None:
                forget(element)
    except etree.XMLSyntaxError as error:
        raise damaged(str(error)) from None
    if not writer.usual:
        allowed = "a product feed: RSS or Atom with <item>, <entry>, <product> or <offer> elements"
        raise FileRefused("it has no products", f"the root element <{root}>", allowed, "Save it as .csv or .jsonl.")


def damaged(error: str) -> FileRefused:
    """The refusal of a file that is not well-formed XML."""
    if "Namespace prefix g " in error:
        hint = 'Add xmlns:g="http://base.google.com/ns/1.0" to its root element.'
    else:
        hint = "Fetch it again, or write & as &amp; and < as &lt; in its texts."
    return FileRefused("it is not well-formed XML", error, "", hint)


def forget(element: Any) -> None:
    """Free an element that is done with, and those before it."""
    element.clear()
    parent = element.getparent()
    while parent is not None and element.getprevious() is not None:
        del parent[0]


def local_name(element: Any) -> str:
    """An element's name without its namespace; empty for what is no element."""
    tag = element.tag
    return tag.rpartition("}")[2] if isinstance(tag, str) else ""


def row_of(item: Any, limits: Any) -> tuple[dict[str, Value] | str, int]:
    """An item as a flat row, and its length in characters. A name that is repeated has its values on several lines."""
    row: dict[str, Value] = {}
    size = 0
    for child in item:
        name = local_name(child)
        text = text_of(child)
        if not name or not text:
            continue
        size += len(text)
        before = row.get(name)
        if before is None:
            row[name] = text
        elif str(before) != text and not find_price_word(name):
            row[name] = f"{before}\n{text}"
    for name, value in item.attrib.items():  # <offer id="7">
        if name in ("id", "available") and value.strip():
            row.setdefault(name, value.strip())
    if size > limits.cell and any(len(str(value)) > limits.cell for value in row.values()):
        return TOO_LARGE, 0
    return row, size


def text_of(element: Any, depth: int = 0) -> str:
    """An element's text; of one with elements in it, "name: text" lines, without names that say price."""
    text = (element.text or "").strip()
    if not len(element):
        return text or str(element.get("href", "")).strip()
    if depth >= DEEPEST:
        return ""
    named = {local_name(child): text_of(child, depth + 1) for child in element}
    if "attribute_name" in named and "attribute_value" in named:  # Google's product_detail
        return f"{named['attribute_name']}: {named['attribute_value']}"
    lines = [f"{name}: {value}" for name, value in named.items() if name and value and not find_price_word(name)]
    return "\n".join([text, *lines] if text else lines)
