"""JSON Lines as strangers write them, in constant memory. Runs in the child (`parse`).

One raw line: {"title": "Hose", "price": 24.5, "features": ["25 m", "brass"], "details": {"Color": "green"}}
becomes the row {"title": "Hose", "price": 24.5, "features": "25 m\\nbrass", "details": "Color: green"}.
"""

from __future__ import annotations

import io
import json
from typing import Any

from pricesmith.catalog.readers.messages import TOO_LARGE, FileRefused, MessageWriter, Value
from pricesmith.text.price_parser import find_price_word

DEEPEST = 64  # levels of nesting

NOT_JSON = "not JSON"
NOT_OBJECT = "not a JSON object"
TOO_DEEP = "JSON too deep"
TWICE = "repeated key"
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


def jsonl(text: io.TextIOWrapper, head: str, limits: Any, answer: MessageWriter) -> None:
    """JSON Lines, a row at a time. NaN, which JSON does not have, is null; Infinity is read as this word."""
    if head.lstrip("\ufeff \t\r\n").startswith("["):
        raise FileRefused("it is a JSON array", "[ at its start", "one JSON object a line", "Write one object a line.")
    decoder: Any = json.JSONDecoder(object_pairs_hook=unique_keys, parse_constant=constant_of)
    scan = decoder.scan_once
    longest = 4 * limits.cell
    known: set[str] = set()
    usual: tuple[str, ...] = ()
    while line := text.readline(longest):
        if len(line) >= longest and not line.endswith(("\n", "\r")):
            while (piece := text.readline(longest)) and not piece.endswith(("\n", "\r")):
                pass
            answer.row(TOO_LARGE, 0)
            continue
        if line.isspace():
            answer.blank()
            continue
        entry = read_row(line, scan, limits)
        if isinstance(entry, str):
            answer.row(entry, 0)
            continue
        names = tuple(entry)
        if names == usual:
            answer.row([*entry.values()], len(line))  # by the header: shorter to say and to read
            continue
        known.update(names)
        if len(known) > limits.columns:
            raise FileRefused(
                "it has too many columns",
                f"over {limits.columns:,} different keys",
                f"{limits.columns:,} columns",
                "Keep the keys that describe the thing.",
            )
        if not usual:
            usual = names
            answer.say(header=names)
        answer.row(entry, len(line))


def read_row(line: str, scan: Any, limits: Any) -> dict[str, Value] | str:
    """One line as a flat row, or the name of the reason why it is none."""
    text = line.strip(" \t\r\n\ufeff\x00")
    try:
        row, end = scan(text, 0)
        if end != len(text):
            return NOT_JSON
        if "\\ud" in line or "\\uD" in line:
            row = json.loads(is_complete_line(json.dumps(row, ensure_ascii=False)))
    except RecursionError:
        return TOO_DEEP
    except DuplicateKey:
        return TWICE
    except (ValueError, StopIteration):
        return NOT_JSON
    if row.__class__ is not dict:
        return NOT_OBJECT
    if len(row) > limits.columns:
        return MANY_KEYS
    long = len(line) > limits.cell
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


def is_complete_line(text: str) -> str:
    """Text whose halves of surrogate pairs are replaced: no file and no database takes them."""
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
