"""Clean a raw row into the listing that `curate`, `price` and `eval` all use: one function of the row alone.

>>> from pricesmith.catalog.columns import ColumnMap
>>> columns = ColumnMap(title="name", text=None, price="price", extra=("weight",))
>>> row = {"name": "Garden&nbsp;hose <b>25 m</b>", "price": "24.50", "weight": "2 kg"}
>>> build_listing(row, columns, CleanSettings())
Listing(id='', title='Garden hose 25 m', text='weight: 2 kg', category='', brand='')
"""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from html import unescape
from itertools import chain
from typing import TYPE_CHECKING

from pydantic import Field

from pricesmith.catalog.clean_columns import find_unclean
from pricesmith.catalog.readers.row_columns import RowColumns, get_column
from pricesmith.core.settings import Settings
from pricesmith.core.types import Listing
from pricesmith.text.masking import TOKEN, mask_money, mask_texts
from pricesmith.text.price_parser import LONGEST_MISSING, is_missing
from pricesmith.text.words import break_before, count_letters

if TYPE_CHECKING:
    from pricesmith.catalog.columns import ColumnMap

__all__ = [
    "TOKEN",
    "CleanSettings",
    "body_text",
    "build_listing",
    "clean_row",
    "clean_rows",
    "clean_text",
    "is_too_short",
    "mask_money",
    "refusal",
]

PASSES = 8


class CleanSettings(Settings):
    """How a raw row becomes text. They are stored in the catalog's ledger and in every model fitted on it."""

    min_chars: int = Field(
        5,
        ge=1,
        description="a listing with fewer letters and digits (Han, kana, Hangul count twice) is too short",
    )
    max_chars: int = Field(4_000, ge=20, description="a longer text is cut at a word")
    max_title: int = Field(400, ge=20, description="a longer title is cut at a word")
    max_name: int = Field(200, ge=20, description="a longer category or brand is cut at a word")
    drop_part_numbers: bool = Field(
        False, description="take out part-numbers: words of 7 characters or more with a digit"
    )
    currency: str = Field("", description="the catalog's: its own signs are money also where they are doubtful")


BREAKS = re.compile("\r\n?|[\x0b\x0c\x1c-\x1e\x85\u2028\u2029]")
# Controls, zero-width and direction marks, soft hyphens, lone surrogates, tags and variation selectors.
INVISIBLE = re.compile(
    "[\x00-\x08\x0e-\x1b\x1f\x7f-\x9f\xad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u202a-\u202e"
    "\u2060-\u206f\u3164\ufe00-\ufe0f\ufeff\uffa0\ufff0-\ufffb\ufffe\uffff\ud800-\udfff"
    "\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e0fff]"
)
ASCII_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f]")
BLOCK = re.compile(
    r"</?(?:address|article|aside|blockquote|br|dd|div|dl|dt|figure|footer|form|h[1-6]|header|hr|li|main|nav|ol|p|pre|"
    r"section|table|td|th|tr|ul)\b[^<>]*>",
    re.IGNORECASE,
)
TAG = re.compile(r"</?[a-zA-Z][^<>]*>|<[!?][^<>]*>")
AMPERSANDS = re.compile(r"&(?:(?:amp|AMP|#0*38|#[xX]0*26);)+")
HIDDEN = (("<!--", "-->"), ("<script", "</script"), ("<style", "</style"))
PART_NUMBER = re.compile(r"(?<!\S)(?=\S*\d)\S{7,}(?: |(?!\S))")


def build_listing(
    values: Mapping[str, object], columns: ColumnMap, settings: CleanSettings, *, id: str = "", category: str = ""
) -> Listing:
    """A raw row as a clean listing. `id` and `category` stand in where the row itself has none.

    Other columns become "Name: value" lines under the text, in the row's own order; empty values are left out.
    """
    return clean_row(values, columns, settings, id=id, category=category)[0]


def clean_row(
    values: Mapping[str, object], columns: ColumnMap, settings: CleanSettings, *, id: str = "", category: str = ""
) -> tuple[Listing, list[float]]:
    """`build_listing`, and the amounts of money that were masked in it."""
    return clean_rows([values], columns, settings, ids=[id], category=category)[0]


@dataclass(frozen=True)
class CleanRows:
    """The fields of clean rows, column by column. `amounts` are the amounts of money that were masked in a row, by its
    place, for rows that had any."""

    ids: Sequence[str]
    titles: list[str]
    texts: list[str]
    categories: list[str]
    brands: list[str]
    amounts: dict[int, list[float]]

    def bodies(self) -> list[str]:
        """`body_text` of each row."""
        return [
            f"{title}\n{text}" if title and not text.startswith(title) else text
            for title, text in zip(self.titles, self.texts, strict=True)
        ]


def clean_rows(
    rows: Sequence[Mapping[str, object]],
    columns: ColumnMap,
    settings: CleanSettings,
    *,
    ids: Sequence[str],
    category: str = "",
) -> list[tuple[Listing, list[float]]]:
    """`clean_row` of each row, column by column. `ids` are (rows,), empty where a row has none."""
    clean = clean_columns(rows, columns, settings, ids=ids, category=category)
    fields = zip(clean.ids, clean.titles, clean.texts, clean.categories, clean.brands, strict=True)
    return [(Listing(*values), clean.amounts.get(place, [])) for place, values in enumerate(fields)]


def clean_columns(
    rows: Sequence[Mapping[str, object]],
    columns: ColumnMap,
    settings: CleanSettings,
    *,
    ids: Sequence[str],
    category: str = "",
) -> CleanRows:
    """Clean rows. `ids` are (rows,), empty where a row has none."""
    kinds = column_texts(rows, columns.category)
    if category:
        kinds = [kind or category for kind in kinds]
    fields = [
        TextField(column_texts(rows, columns.title), settings.max_title),
        TextField(raw_texts(rows, columns), settings.max_chars, lines=True),
        TextField(kinds, settings.max_name),
        TextField(column_texts(rows, columns.brand), settings.max_name),
    ]
    amounts: dict[int, list[float]] = {}
    titles, texts, categories, brands = clean_fields(fields, settings, amounts)
    if columns.id:
        ids = [id or cell for id, cell in zip(ids, column_texts(rows, columns.id), strict=True)]
    return CleanRows(ids, titles, texts, categories, brands, amounts)


def raw_texts(rows: Sequence[Mapping[str, object]], columns: ColumnMap) -> list[str]:
    """`raw_text` of each row."""
    if not columns.extra:
        return column_texts(rows, columns.text)
    if not isinstance(rows, RowColumns):
        return [raw_text(row, columns) for row in rows]
    names = extra_column_names(columns.extra)
    parts = [column_texts(rows, columns.text)]
    for column in rows.header:
        if column in names:
            parts.append([f"{names[column]}: {cell}" if cell else "" for cell in column_texts(rows, column)])
    return ["\n".join(filter(None, row)) for row in zip(*parts, strict=True)]


def column_texts(rows: Sequence[Mapping[str, object]], column: str | None) -> list[str]:
    """`field_text` of each row."""
    if not column:
        return [""] * len(rows)
    cells = get_column(rows, column)
    texts = [cell if cell.__class__ is str else cell_text(cell) for cell in cells]
    missing = {text for text in set(texts) if len(text) <= LONGEST_MISSING and is_missing(text)}
    return ["" if text in missing else text for text in texts] if missing else texts


def raw_text(values: Mapping[str, object], columns: ColumnMap) -> str:
    """The text of a row as it was written, with a line for each other column that has a value."""
    parts = [field_text(values, columns.text)]
    if columns.extra:
        extra = extra_column_names(columns.extra)
        for column, value in values.items():
            if column in extra and (cell := cell_text(value)):
                parts.append(f"{extra[column]}: {cell}")
    return "\n".join([part for part in parts if part])


def field_text(values: Mapping[str, object], column: str | None) -> str:
    """A column's value as text, empty where there is none."""
    return cell_text(values.get(column)) if column else ""


def cell_text(value: object) -> str:
    """A cell as the text a person would write: 8.0 is 8; missing and not finite values and N/A are nothing."""
    if isinstance(value, str):
        return "" if is_missing(value) else value
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return repr(value).removesuffix(".0") if math.isfinite(value) else ""
    return str(value)


@lru_cache(maxsize=256)
def extra_column_names(extra: tuple[str, ...]) -> dict[str, str]:
    """Each extra column's name as words."""
    return {name: " ".join(clean_text(name.replace("_", " ")).split("\n")) for name in extra}


DEFAULT = CleanSettings()


def clean_text(text: str, settings: CleanSettings = DEFAULT) -> str:
    """Clean text of at most `max_chars`, with its line breaks. Cleaning clean text changes nothing."""
    return clean_field(text, settings.max_chars, settings, lines=True)[0]


def clean_field(text: str, limit: int, settings: CleanSettings, *, lines: bool = False) -> tuple[str, list[float]]:
    """One field: markup, characters, spaces, amounts, part-numbers, length; and the amounts found."""
    amounts: dict[int, list[float]] = {}
    [[clean]] = clean_fields([TextField([text], limit, lines)], settings, amounts)
    return clean, amounts.get(0, [])


@dataclass(frozen=True)
class TextField:
    """One field of many rows as it was read, its longest length, and whether it keeps its line breaks."""

    texts: list[str]
    limit: int
    lines: bool = False

    def distinct(self) -> TextField:
        """The field with each text once, if most texts repeat, as those of categories do; else itself."""
        texts = list(dict.fromkeys(self.texts))
        return replace(self, texts=texts) if 2 * len(texts) < len(self.texts) else self


def clean_fields(
    fields: Sequence[TextField], settings: CleanSettings, amounts: dict[int, list[float]]
) -> list[list[str]]:
    """`clean_field` of each text of each field. The amounts that are found are added to `amounts`, by row.

    What texts have in common is done once: texts that repeat are cleaned once, texts that are clean already are found
    together, and so are the few that may hold an amount.
    """
    distinct = [field.distinct() for field in fields]
    plain = [plain_texts(field) for field in distinct]
    masked, all_amounts = mask_texts(list(chain.from_iterable(plain)), settings.currency)
    cleaned: list[list[str]] = []
    start = 0
    for field, once in zip(fields, distinct, strict=True):
        texts = masked[start : start + len(once.texts)]
        own = {place - start: all_amounts[place] for place in all_amounts if start <= place < start + len(texts)}
        start += len(texts)
        cut_texts(texts, once, settings, own)
        if once is not field:
            clean = dict(zip(once.texts, texts, strict=True))
            with_amounts = {once.texts[place]: values for place, values in own.items()}
            texts = [clean[text] for text in field.texts]
            places = enumerate(field.texts) if with_amounts else ()
            own = {place: with_amounts[text] for place, text in places if text in with_amounts}
        for place, values in own.items():
            amounts[place] = amounts.get(place, []) + values
        cleaned.append(texts)
    return cleaned


def cut_texts(texts: list[str], field: TextField, settings: CleanSettings, amounts: dict[int, list[float]]) -> None:
    """Cut the texts that are too long, and take part-numbers out of all if that is wanted. What else is masked then is
    added to `amounts`, by place."""
    if not settings.drop_part_numbers and max(map(len, texts), default=0) <= field.limit:
        return
    for place, text in enumerate(texts):
        if settings.drop_part_numbers or len(text) > field.limit:
            values = amounts.get(place, [])
            short = cut_at_word(text, field.limit)
            texts[place] = clean_until_stable(short, field.limit, settings, field.lines, values)
            if values:
                amounts[place] = values


def plain_texts(field: TextField) -> list[str]:
    """`plain_text` of the texts of a field, each cut where it is far too long."""
    most = 16 * field.limit
    plain = list(field.texts)
    if max(map(len, plain), default=0) > most:
        plain = [text[:most] for text in plain]
    for place in find_unclean(plain, lines=field.lines):
        plain[place] = plain_text(plain[place], field.lines)
    return plain


def plain_text(text: str, lines: bool) -> str:
    """Text without markup and invisible characters, with single spaces."""
    text = normalize_characters(text)
    if "&" in text or "<" in text:
        text = without_markup(text)
    return normalize_spaces(text, lines)


def clean_until_stable(text: str, limit: int, settings: CleanSettings, lines: bool, amounts: list[float]) -> str:
    """Scrub, mask and cut until nothing changes: what was taken out can bring a sign and a number together."""
    for _ in range(PASSES):
        before = text
        if settings.drop_part_numbers:
            text = normalize_spaces(PART_NUMBER.sub("", text), lines)
        text, more = mask_money(text, settings.currency)
        amounts.extend(more)
        text = cut_at_word(text, limit)
        if text == before:
            break
    return text


def normalize_characters(text: str) -> str:
    """Text with one kind of line break, in NFC, without invisible characters."""
    if text.isascii():
        if ASCII_CONTROL.search(text) is None:
            return text
        return INVISIBLE.sub("", BREAKS.sub("\n", text))
    text = INVISIBLE.sub("", BREAKS.sub("\n", text))
    return text if unicodedata.is_normalized("NFC", text) else unicodedata.normalize("NFC", text)


def without_markup(text: str) -> str:
    """HTML as text: entities read, tags gone, blocks as line breaks, scripts and comments with what they hold.

    Markup may be escaped twice, so this goes on until nothing changes; what is still markup after eight passes was
    made to mislead, and its signs go.
    """
    for _ in range(PASSES):
        before = text
        if "&" in text:
            text = normalize_characters(unescape(AMPERSANDS.sub("&", text)))
        if "<" in text:
            for start, end in HIDDEN:
                if start in text:
                    text = without_span(text, start, end)
            text = normalize_characters(TAG.sub("", BLOCK.sub("\n", text)))
        if text == before:
            return text
    return normalize_characters(text.translate({ord("&"): " ", ord("<"): " "}))


def without_span(text: str, start: str, end: str) -> str:
    """Everything from `start` to the end of `end`'s tag taken out; one that never ends stays."""
    parts, at = [], 0
    while (begin := text.find(start, at)) >= 0:
        stop = text.find(end, begin + len(start))
        stop = text.find(">", stop) if stop >= 0 else -1
        if stop < 0:
            break
        parts.append(text[at:begin])
        at = stop + 1
    return " ".join((*parts, text[at:]))


def normalize_spaces(text: str, lines: bool) -> str:
    """Single spaces; single line breaks between lines that hold something, or none at all."""
    if not lines or "\n" not in text:
        return " ".join(text.split())
    return "\n".join([clean for line in text.split("\n") if (clean := " ".join(line.split()))])


def cut_at_word(text: str, limit: int) -> str:
    """At most `limit` characters, ending with a whole word (a whole character in a script without spaces) where there
    is one."""
    if len(text) <= limit:
        return text
    return text[: break_before(text, limit) or limit].rstrip()


def body_text(listing: Listing) -> str:
    """Title and text, the title not repeated: what groups are found by."""
    if listing.title and not listing.text.startswith(listing.title):
        return f"{listing.title}\n{listing.text}"
    return listing.text


def is_too_short(listing: Listing, settings: CleanSettings) -> bool:
    """Whether title and text hold too few letters and digits to price anything by."""
    return count_letters(body_text(listing), settings.min_chars) < settings.min_chars


def refusal(settings: CleanSettings) -> str:
    """Why a listing that is `too_short` gets no price."""
    return f"too short to price: fewer than {settings.min_chars} letters and digits"
