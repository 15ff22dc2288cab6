r"""Masks an API key in the text that an endpoint returns, before any of it is stored, shown or logged.

    >>> mask_key("You sent Bearer sk-live-0123456789", "sk-live-0123456789")
    'You sent Bearer [key]'
    >>> mask_key("GET /v1?api_key=sk%2Dlive%2D0123456789", "sk-live-0123456789")
    'GET /v1?api_key=[key]'

It finds the key in any case, percent-encoded (in part, or twice), with the escapes of JSON, Python and HTML, with
spaces or line breaks in it, in base64 (alone or as a part of a longer text, either alphabet), in hexadecimal, and half
of the key or more from its start or up to its end. A key of 4 to 7 characters is masked only as written and as a
whole word. Numbers of that length, and keys of 1 to 3 characters, are not masked: they are no secret, and masking them
would change prices. Nested encodings, such as base64 of hexadecimal, are not found.
"""

from __future__ import annotations

import base64
import html
import logging
import re
from collections.abc import Iterator
from functools import lru_cache

MASK = "[key]"
MIN_KEY_CHARS = 4  # of a key that is masked at all
MIN_ENCODED_CHARS = 8  # of a key whose encodings and parts are masked too
PIECE = re.compile(
    r"%(?:25)*(?P<percent>[0-9a-f]{2})|\\u(?P<unicode>[0-9a-f]{4})|\\u\{(?P<braced>[0-9a-f]{1,6})\}"
    r"|\\x(?P<byte>[0-9a-f]{2})|&#x(?P<hexadecimal>[0-9a-f]{1,6});|&#(?P<decimal>[0-9]{1,7});|(?P<named>&[a-z]{2,6};)"
    r"|\\[nrt\n]|\\(?P<escaped>[\\/\"'])|[\s\u00ad\u200b-\u200f\u2060\ufeff]|(?P<plain>.)",
    re.IGNORECASE | re.DOTALL,
)
HEXADECIMAL = ("percent", "unicode", "braced", "byte", "hexadecimal")
BASE64 = re.compile(r"[A-Za-z0-9+/_-]")
LOGGERS = ("httpx2", "httpcore2.connection", "httpcore2.http11", "httpcore2.proxy")
Span = tuple[int, int]
Secrets = str | tuple[str, ...]  # a key, or all the secrets that are sent to an endpoint


def mask_key(text: str, key: Secrets) -> str:
    """Return the text with the key, its encodings and its parts replaced by `[key]`; several keys one after another."""
    for secret in (key,) if isinstance(key, str) else key:
        text = build_mask(secret).mask(text) if len(secret) >= MIN_KEY_CHARS and text else text
    return text


class KeyFilter(logging.Filter):
    """Masks keys in the log records of the HTTP libraries, which print headers at debug level."""

    def __init__(self, key: Secrets) -> None:
        super().__init__()
        self.key = key

    def filter(self, record: logging.LogRecord) -> bool:
        text = record.getMessage()
        masked = mask_key(text, self.key)
        if masked != text:
            record.msg, record.args = masked, ()
        return True

    def add(self) -> None:
        """Install the filter."""
        for name in LOGGERS:
            logging.getLogger(name).addFilter(self)

    def remove(self) -> None:
        """Uninstall the filter."""
        for name in LOGGERS:
            logging.getLogger(name).removeFilter(self)


class KeyMask:
    """Finds one key in texts. The key has at least `MIN_KEY_CHARS` characters, all printable ASCII."""

    def __init__(self, key: str) -> None:
        self.key, self.normal = key, normalize(key)[0]
        self.base64 = sorted({part.lower() for part in base64_parts(key.encode())})
        self.hexadecimal = re.compile(r"[\s:,-]*(?:0x|\\x)?".join(f"{byte:02x}" for byte in key.encode()), re.I)
        self.plain = re.compile(re.escape(key), re.IGNORECASE)  # also if an escape before it takes its start
        self.word = re.compile(rf"(?<![A-Za-z0-9]){re.escape(key)}(?![A-Za-z0-9])")

    def mask(self, text: str) -> str:
        """Return the text with every occurrence masked."""
        if len(self.key) < MIN_ENCODED_CHARS or len(self.normal) < MIN_ENCODED_CHARS:
            return text if self.key.isdigit() else self.word.sub(MASK, text)
        for start, end in reversed(merge_spans([*self.spans(text)])):
            text = f"{text[:start]}{MASK}{text[end:]}"
        return text

    def spans(self, text: str) -> Iterator[Span]:
        """Yield the spans of the key in a text, in any of its forms."""
        normal, positions = normalize(text)
        least = max(MIN_ENCODED_CHARS, (len(self.normal) + 1) // 2)
        for start in find_all(normal, self.normal[:least]):
            end = start + least
            while end < len(normal) and end - start < len(self.normal) and normal[end] == self.normal[end - start]:
                end += 1
            yield positions[start][0], positions[end - 1][1]
        for start in find_all(normal, self.normal[-least:]):
            back, end = start, start + least
            while back > 0 and end - back < len(self.normal) and normal[back - 1] == self.normal[back - end - 1]:
                back -= 1
            yield positions[back][0], positions[end - 1][1]
        for part in self.base64:
            for start in find_all(normal, part):
                yield extend_base64(text, positions[start][0], positions[start + len(part) - 1][1])
        for pattern in (self.hexadecimal, self.plain):
            for match in pattern.finditer(text):
                yield match.span()


@lru_cache(maxsize=16)
def build_mask(key: str) -> KeyMask:
    """Return the mask of a key."""
    return KeyMask(key)


def normalize(text: str) -> tuple[str, list[Span]]:
    """Return a text in lower case without escapes and spaces, and each character's span in the original text."""
    chars: list[str] = []
    positions: list[Span] = []
    for match in PIECE.finditer(text):
        char = decode_piece(match).lower()
        if len(char) == 1 and not char.isspace():
            chars.append(char)
            positions.append(match.span())
    return "".join(chars), positions


def decode_piece(match: re.Match[str]) -> str:
    """Return the character that a match of PIECE encodes; empty for spaces."""
    kind = match.lastgroup
    if kind is None:
        return ""
    code = match[kind]
    if kind == "named":
        return html.unescape(code)
    if kind in HEXADECIMAL or kind == "decimal":
        number = int(code, 10 if kind == "decimal" else 16)
        return chr(number) if number <= 0x10FFFF else ""
    return code


def base64_parts(key: bytes) -> Iterator[str]:
    """Yield the part of a key's base64 that is independent of the text around it, for each of the three alignments."""
    for offset in range(3):
        for encode in (base64.b64encode, base64.urlsafe_b64encode):
            text = encode(b"\0" * offset + key).decode("ascii")
            yield text[-(-8 * offset // 6) : 8 * (offset + len(key)) // 6]


def find_all(text: str, part: str) -> Iterator[int]:
    """Yield every position at which a part starts, overlapping ones included."""
    start = text.find(part)
    while start >= 0:
        yield start
        start = text.find(part, start + 1)


def extend_base64(text: str, start: int, end: int) -> Span:
    """Extend a span to the whole run of base64 characters: its neighbors contain bits of the key."""
    while start > 0 and BASE64.match(text[start - 1]):
        start -= 1
    while end < len(text) and (BASE64.match(text[end]) or text[end] == "="):
        end += 1
    return start, end


def merge_spans(spans: list[Span]) -> list[Span]:
    """Return the spans in order, with overlapping and adjacent ones merged."""
    merged: list[Span] = []
    for start, end in sorted(spans):
        if merged and start <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(end, merged[-1][1]))
        else:
            merged.append((start, end))
    return merged
