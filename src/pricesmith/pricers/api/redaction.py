r"""Masks an API key in what an endpoint says, before any of it is stored or shown.

    >>> mask_key("You sent Bearer sk-live-0123456789", "sk-live-0123456789")
    'You sent Bearer [key]'
    >>> mask_key("GET /v1?api_key=sk%2Dlive%2D0123456789", "sk-live-0123456789")
    'GET /v1?api_key=[key]'

Found are the key itself in any case, percent-encoded (in part, or twice), with the escapes of JSON, Python and HTML,
with spaces or line breaks in it, in base64 (alone or as a part of a longer text, either alphabet), in hexadecimal, and
half of it or more from its start or up to its end. A key of 4 to 7 characters is masked only as it is written and as a
whole word; digits alone of that length, and keys of 1 to 3 characters, are not masked: they are no secret, and masking
them would change prices. Encodings of encodings, such as base64 of hexadecimal, are not found.
"""

from __future__ import annotations

import base64
import html
import logging
import re
from collections.abc import Iterator
from functools import lru_cache

MASK = "[key]"
SHORTEST = 4  # characters of a key that is masked at all
LONG = 8  # from here on encodings and parts of it are masked too
PIECE = re.compile(
    r"%(?:25)*(?P<percent>[0-9a-f]{2})|\\u(?P<unicode>[0-9a-f]{4})|\\u\{(?P<braced>[0-9a-f]{1,6})\}"
    r"|\\x(?P<byte>[0-9a-f]{2})|&#x(?P<hexadecimal>[0-9a-f]{1,6});|&#(?P<decimal>[0-9]{1,7});|(?P<named>&[a-z]{2,6};)"
    r"|\\[nrt\n]|\\(?P<escaped>[\\/\"'])|[\s\u00ad\u200b-\u200f\u2060\ufeff]|(?P<plain>.)",
    re.IGNORECASE | re.DOTALL,
)
HEXADECIMAL = ("percent", "unicode", "braced", "byte", "hexadecimal")
BASE64 = re.compile(r"[A-Za-z0-9+/_-]")
LOGGERS = ("openai._base_client", "httpx2", "httpcore2.connection", "httpcore2.http11", "httpcore2.proxy")
Span = tuple[int, int]


def mask_key(text: str, key: str) -> str:
    """The text with the key, and what is easily turned back into it, as `[key]`."""
    return key_mask(key).mask(text) if len(key) >= SHORTEST and text else text


class KeyFilter(logging.Filter):
    """Masks a key in what the client's libraries log, for those who have turned their logs on."""

    def __init__(self, key: str) -> None:
        super().__init__()
        self.key = key

    def filter(self, record: logging.LogRecord) -> bool:
        text = record.getMessage()
        masked = mask_key(text, self.key)
        if masked != text:
            record.msg, record.args = masked, ()
        return True

    def add(self) -> None:
        """Begin to mask."""
        for name in LOGGERS:
            logging.getLogger(name).addFilter(self)

    def remove(self) -> None:
        """End it."""
        for name in LOGGERS:
            logging.getLogger(name).removeFilter(self)


class KeyMask:
    """Finds one key in texts. The key has `SHORTEST` characters or more, printable ASCII."""

    def __init__(self, key: str) -> None:
        self.key, self.normal = key, normalize(key)[0]
        self.base64 = sorted({part.lower() for part in base64_parts(key.encode())})
        self.hexadecimal = re.compile(r"[\s:,-]*(?:0x|\\x)?".join(f"{byte:02x}" for byte in key.encode()), re.I)
        self.plain = re.compile(re.escape(key), re.IGNORECASE)  # also where an escape before it swallows its start
        self.word = re.compile(rf"(?<![A-Za-z0-9]){re.escape(key)}(?![A-Za-z0-9])")

    def mask(self, text: str) -> str:
        """The text with every occurrence masked."""
        if len(self.key) < LONG or len(self.normal) < LONG:
            return text if self.key.isdigit() else self.word.sub(MASK, text)
        for start, end in reversed(merged([*self.spans(text)])):
            text = f"{text[:start]}{MASK}{text[end:]}"
        return text

    def spans(self, text: str) -> Iterator[Span]:
        """Where the key stands in a text, in any of its forms."""
        normal, places = normalize(text)
        least = max(LONG, (len(self.normal) + 1) // 2)
        for start in occurrences(normal, self.normal[:least]):
            end = start + least
            while end < len(normal) and end - start < len(self.normal) and normal[end] == self.normal[end - start]:
                end += 1
            yield places[start][0], places[end - 1][1]
        for start in occurrences(normal, self.normal[-least:]):
            back, end = start, start + least
            while back > 0 and end - back < len(self.normal) and normal[back - 1] == self.normal[back - end - 1]:
                back -= 1
            yield places[back][0], places[end - 1][1]
        for part in self.base64:
            for start in occurrences(normal, part):
                yield whole_run(text, places[start][0], places[start + len(part) - 1][1])
        for pattern in (self.hexadecimal, self.plain):
            for match in pattern.finditer(text):
                yield match.span()


@lru_cache(maxsize=16)
def key_mask(key: str) -> KeyMask:
    """The mask of a key."""
    return KeyMask(key)


def normalize(text: str) -> tuple[str, list[Span]]:
    """A text without escapes, blanks and capitals, and the place in the text of each character that is left."""
    letters: list[str] = []
    places: list[Span] = []
    for match in PIECE.finditer(text):
        letter = decoded(match).lower()
        if len(letter) == 1 and not letter.isspace():
            letters.append(letter)
            places.append(match.span())
    return "".join(letters), places


def decoded(match: re.Match[str]) -> str:
    """The character that a piece of text stands for; empty for blanks."""
    kind = match.lastgroup
    if kind is None:
        return ""
    said = match[kind]
    if kind == "named":
        return html.unescape(said)
    if kind in HEXADECIMAL or kind == "decimal":
        number = int(said, 10 if kind == "decimal" else 16)
        return chr(number) if number <= 0x10FFFF else ""
    return said


def base64_parts(key: bytes) -> Iterator[str]:
    """What of a key's base64 does not depend on what stands before and after it, for each of the three alignments."""
    for offset in range(3):
        for encode in (base64.b64encode, base64.urlsafe_b64encode):
            text = encode(b"\0" * offset + key).decode("ascii")
            yield text[-(-8 * offset // 6) : 8 * (offset + len(key)) // 6]


def occurrences(text: str, part: str) -> Iterator[int]:
    """Every place at which a part begins, those that overlap included."""
    start = text.find(part)
    while start >= 0:
        yield start
        start = text.find(part, start + 1)


def whole_run(text: str, start: int, end: int) -> Span:
    """A place in base64 with the rest of the same run of letters: its edges hold bits of the key."""
    while start > 0 and BASE64.match(text[start - 1]):
        start -= 1
    while end < len(text) and (BASE64.match(text[end]) or text[end] == "="):
        end += 1
    return start, end


def merged(spans: list[Span]) -> list[Span]:
    """Spans in order, those that touch as one."""
    found: list[Span] = []
    for start, end in sorted(spans):
        if found and start <= found[-1][1]:
            found[-1] = (found[-1][0], max(end, found[-1][1]))
        else:
            found.append((start, end))
    return found
