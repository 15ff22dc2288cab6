"""JSON Lines and JSON arrays from unknown sources, in constant memory. Runs in the child (`parse`).

An array stands alone or under a key: [{"title": "Hose"}], {"products": [{"title": "Hose"}]}. An object of JSON-LD is
read as in a web page: its schema.org products are the rows.

One raw line: {"title": "Hose", "price": 24.5, "features": ["25 m", "brass"], "details": {"Color": "green"}}
becomes the row {"title": "Hose", "price": 24.5, "features": "25 m\\nbrass", "details": "Color: green"}.
"""

from __future__ import annotations

import contextlib
import io
import json
from typing import Any, TextIO

from pricesmith.catalog.readers import schema_org
from pricesmith.catalog.readers.messages import TOO_LARGE, FileRefused, MessageWriter, Value
from pricesmith.text.price_parser import find_price_word

DEEPEST = 64  # levels of nesting
PIECE = 1 << 20  # characters of a JSON array that are read at once
SPACES = "\ufeff \t\r\n"

NOT_JSON = "not JSON"
NOT_OBJECT = "not a JSON object"
TOO_DEEP = "JSON too deep"
TWICE = "repeated key"
LARGEST_OBJECT = 30_000_000  # characters of JSON-LD that is one object
MANY_KEYS = "too many columns"


class DuplicateKey(ValueError):
    """An object names a key twice."""


def unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object whose keys are all different."""
    made = dict(pairs)
    if len(made) != len(pairs):
        raise DuplicateKey
    return made


def constant_of(name: str) -> str | None:
    """NaN as null, Infinity and -Infinity as these words."""
    return None if name == "NaN" else name


class ObjectWriter:
    """Writes JSON objects as rows. The first keys are the header; rows with the same keys are sent as lists."""

    def __init__(self, limits: Any, answer: MessageWriter) -> None:
        self.limits, self.answer = limits, answer
        self.known: set[str] = set()
        self.usual: tuple[str, ...] = ()

    def write(self, entry: dict[str, Value] | str, size: int) -> None:
        """Write one row, or the reason why it cannot be read. Raises FileRefused for too many columns."""
        if isinstance(entry, str):
            self.answer.row(entry, 0)
            return
        names = tuple(entry)
        if names == self.usual:
            self.answer.row([*entry.values()], size)  # by the header: shorter to send and to read
            return
        self.known.update(names)
        if len(self.known) > self.limits.columns:
            raise FileRefused(
                "it has too many columns",
                f"over {self.limits.columns:,} different keys",
                f"{self.limits.columns:,} columns",
                "Keep the keys that describe the items.",
            )
        if not self.usual:
            self.usual = names
            self.answer.say(header=names)
        self.answer.row(entry, size)


def jsonl(text: io.TextIOWrapper, head: str, limits: Any, answer: MessageWriter, *, is_json: bool = False) -> None:
    """JSON Lines, a row at a time; a file that is one JSON array is read as such. `is_json`: it is named .json.

    NaN, which JSON does not have, is null; Infinity is read as this word.
    """
    decoder: Any = json.JSONDecoder(object_pairs_hook=unique_keys, parse_constant=constant_of)
    scan = decoder.scan_once
    if is_array(head, scan, is_json):
        json_array(text, scan, limits, answer)
        return
    longest = 4 * limits.cell
    writer = ObjectWriter(limits, answer)
    while line := text.readline(longest):
        if len(line) >= longest and not line.endswith(("\n", "\r")):
            while (piece := text.readline(longest)) and not piece.endswith(("\n", "\r")):
                pass
            answer.row(TOO_LARGE, 0)
        elif line.isspace():
            answer.blank()
        else:
            for entry in read_row(line, scan, limits):
                writer.write(entry, len(line))


def is_array(head: str, scan: Any, is_json: bool) -> bool:
    """Whether a file is one JSON value over all its lines, an array or an object, and not one object a line."""
    start = head.lstrip(SPACES)
    if start.startswith("["):
        return True
    if not start.startswith("{"):
        return False
    try:
        entry, end = scan(start, 0)
    except (ValueError, StopIteration, RecursionError):
        if "\n" in start.rstrip():
            return start.splitlines()[0].rstrip() == "{"
        with contextlib.suppress(FileRefused):  # one line, longer than the head
            return is_json and bool(enter_list(JsonText(io.StringIO(start), scan, len(start))))
        return False
    if start[end:].strip(SPACES):
        return False
    return "\n" in start[:end] or (is_json and any(is_table(value) for value in entry.values()))


def is_table(value: Any) -> bool:
    """Whether a value is a list of objects."""
    return isinstance(value, list) and bool(value) and all(isinstance(row, dict) for row in value)


class JsonText:
    """A JSON text that is decoded value by value, with at most one value and one piece in memory."""

    def __init__(self, text: TextIO, scan: Any, longest: int) -> None:
        self.text, self.scan, self.longest = text, scan, longest
        self.buffer, self.at, self.ended = "", 0, False

    def more(self) -> bool:
        """Read the next piece; False at the end of the file."""
        piece = "" if self.ended else self.text.read(PIECE)
        self.ended = not piece
        self.buffer, self.at = self.buffer[self.at :] + piece, 0
        return bool(piece)

    def read_on(self) -> bool:
        """Read the next piece and keep what was read before; False at the end of the file."""
        self.at = 0
        return self.more()

    def peek(self) -> str:
        """The next character that is no space; empty at the end of the file."""
        while True:
            while self.at < len(self.buffer) and self.buffer[self.at] in SPACES:
                self.at += 1
            if self.at < len(self.buffer):
                return self.buffer[self.at]
            if not self.more():
                return ""

    def take(self, characters: str) -> str:
        """The next character, which is one of `characters`. Raises FileRefused for another one."""
        character = self.peek()
        if not character or character not in characters:
            got = repr(character) if character else "the end of the file"
            allowed = " or ".join(characters)
            raise FileRefused("it is not a JSON array of objects", got, allowed, "Fetch or write it again.")
        self.at += 1
        return character

    def value(self) -> tuple[Any, int]:
        """The next value and its length in characters. Raises FileRefused if it is cut short or too long."""
        self.peek()
        while True:
            try:
                value, end = self.scan(self.buffer, self.at)
            except (ValueError, StopIteration) as error:
                if isinstance(error, DuplicateKey):
                    raise FileRefused("an object names a key twice", "", "", "Write it again.") from None
                if len(self.buffer) - self.at > self.longest:
                    raise FileRefused("one of its values is too long", f"over {self.longest:,} characters") from None
                if not self.more():
                    raise FileRefused("it is cut short or not JSON", str(error), "", "Fetch it again.") from None
                continue
            if end == len(self.buffer) and self.more():  # a number may go on in the next piece
                continue
            size = end - self.at
            if "\\ud" in (raw := self.buffer[self.at : end]) or "\\uD" in raw:
                value = json.loads(replace_surrogates(json.dumps(value, ensure_ascii=False)))
            self.at = end
            return value, size


def json_array(text: io.TextIOWrapper, scan: Any, limits: Any, answer: MessageWriter) -> None:
    """The objects of a JSON array as rows; of an object, those of its first list of objects."""
    source = JsonText(text, scan, max(16 * limits.cell, 4 * PIECE))
    if source.peek() == "{":
        if products := read_products(source):
            write_products(products, limits, answer)
            return
        key = enter_list(source)
        if not key:
            raise FileRefused("it has no list of objects", "one JSON object", "[{...}, {...}]", "Give a list of items.")
        answer.say(note=f"the list under {key!r} is read")
    else:
        source.take("[")
    writer = ObjectWriter(limits, answer)
    if source.peek() == "]":
        return
    while True:
        row, size = source.value()
        for entry in flat_rows(row, size, limits):
            writer.write(entry, size)
        if source.take(",]") == "]":
            return


def read_products(source: JsonText) -> list[dict[str, Value]]:
    """The rows of the schema.org products in a text that is one object of JSON-LD; none if it is another one."""
    if '"@' not in source.buffer:
        return []
    while len(source.buffer) <= LARGEST_OBJECT and source.read_on():
        pass
    if len(source.buffer) > LARGEST_OBJECT:
        return []
    try:
        value = schema_org.read_json(source.buffer.strip(SPACES))
    except (ValueError, RecursionError):
        return []
    if not isinstance(value, dict) or not {"@type", "@graph", "@context"} & value.keys():
        return []
    return [row for product in schema_org.find_products(value) for row in schema_org.rows_of(product)]


def write_products(products: list[dict[str, Value]], limits: Any, answer: MessageWriter) -> None:
    """Write the rows of schema.org products."""
    writer = ObjectWriter(limits, answer)
    for product in products:
        size = sum(len(str(value)) for value in product.values())
        writer.write(flat_row(product, size, limits), size)


def enter_list(source: JsonText) -> str:
    """Go to the first object in a list under a key of the object that begins here; the key, or empty without one."""
    source.take("{")
    while source.peek() == '"':
        key, _ = source.value()
        source.take(":")
        if source.peek() == "[":
            source.take("[")
            if source.peek() == "{":
                return str(key) or "(no name)"
            while source.peek() != "]":
                source.value()
                if source.peek() == ",":
                    source.take(",")
            source.take("]")
        else:
            source.value()
        if source.take(",}") == "}":
            break
    return ""


def read_row(line: str, scan: Any, limits: Any) -> list[dict[str, Value] | str]:
    """The flat rows of one line, usually one; or the reason why it cannot be read."""
    text = line.strip(" \t\r\n\ufeff\x00")
    try:
        row, end = scan(text, 0)
        if end != len(text):
            return [NOT_JSON]
        if "\\ud" in line or "\\uD" in line:
            row = json.loads(replace_surrogates(json.dumps(row, ensure_ascii=False)))
    except RecursionError:
        return [TOO_DEEP]
    except DuplicateKey:
        return [TWICE]
    except (ValueError, StopIteration):
        return [NOT_JSON]
    return flat_rows(row, len(line), limits)


def flat_rows(row: Any, size: int, limits: Any) -> list[dict[str, Value] | str]:
    """A decoded object as a flat row, or the reason why it cannot be used; the products of a schema.org object."""
    if row.__class__ is dict and ("@type" in row or "@graph" in row) and (products := schema_org.expand(row)):
        return [flat_row(product, size, limits) for product in products]
    return [flat_row(row, size, limits)]


def flat_row(row: Any, size: int, limits: Any) -> dict[str, Value] | str:
    """A decoded object as a flat row, or the reason why it cannot be used. `size` is its length in characters."""
    if row.__class__ is not dict:
        return NOT_OBJECT
    if len(row) > limits.columns:
        return MANY_KEYS
    long = size > limits.cell
    for name, value in row.items():
        kind = value.__class__
        if kind is str:
            if long and len(value) > limits.cell:
                return TOO_LARGE
        elif kind is list or kind is dict:
            try:
                row[name] = flatten_value(value)
            except RecursionError:
                return TOO_DEEP
            if long and len(row[name]) > limits.cell:
                return TOO_LARGE
        elif kind is float and value - value != 0:
            row[name] = str(value)
    if long and any(len(name) > 1_000 for name in row):
        return TOO_LARGE
    return row


def replace_surrogates(text: str) -> str:
    """Text without lone surrogates, which cannot be encoded as UTF-8."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def flatten_value(value: Any, depth: int = 0) -> str:
    """A nested value as text: a list by lines, an object as "key: value" lines, without keys that say price.

    Raises RecursionError below 64 levels.
    """
    if depth > DEEPEST:
        raise RecursionError
    if value is None or value != value:
        return ""
    if isinstance(value, dict):
        parts = [(key, flatten_value(part, depth + 1)) for key, part in value.items() if not find_price_word(str(key))]
        return "\n".join(f"{key}: {part}" for key, part in parts if part)
    if isinstance(value, list | tuple):
        return "\n".join(part for part in (flatten_value(part, depth + 1) for part in value) if part)
    return str(value)
