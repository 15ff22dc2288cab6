"""Core types: listings, items, quotes, pricers, recipes and evaluations.

    >>> Listing("1", "Garden hose", "25 m, brass fittings")
    Listing(id='1', title='Garden hose', text='25 m, brass fittings', category='', brand='')

Standard library only; every other module may import this one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Protocol, runtime_checkable

if TYPE_CHECKING:
    from pricesmith.core.progress import Progress


@dataclass(frozen=True, slots=True)
class Listing:
    """The input of a pricer. It has no price, so that no pricer can read it.

    `rewriting` identifies how a language model has rewritten its title and text; empty: they are as they were cleaned.
    """

    id: str
    title: str
    text: str
    category: str = ""
    brand: str = ""
    rewriting: str = field(default="", repr=False)


@dataclass(frozen=True, slots=True)
class Item:
    """A listing and its true price. Composition, so that an Item can never stand where a Listing is wanted.

    `weight` is its sample weight in a fit; recipes with `takes_weights` use it.
    """

    listing: Listing
    price: float
    weight: float = 1.0


EACH_REQUEST = "of each request"  # how an evaluation's seconds were measured: each answer by itself
NOT_ASKED = "not asked"  # begins a note and is followed by the reason, such as "not asked: the budget is spent"


@dataclass(frozen=True, slots=True, repr=False)
class Quote:
    """An answer. `price` is None where there is no usable one, never 0; `low` and `high` bound an interval.

    `seconds` is what this one answer took, where the pricer knows it better than a clock round the batch does.
    `cost_usd` is None if unknown, never 0 for that.
    `nothing_similar`: no training listing is like this one, so the price is a guess; None where that was not checked.
    `note` says how the price was found, if that is not as usual: an API model that was or could not be asked; in the
    latter case it is "not asked: REASON".
    """

    price: float | None
    low: float | None = None
    high: float | None = None
    raw: str = ""
    cost_usd: float | None = 0.0
    seconds: float | None = None
    nothing_similar: bool | None = None
    note: str = ""

    def __repr__(self) -> str:
        """The price first, then whatever differs from its default."""
        shown = {field.name: getattr(self, field.name) for field in fields(self)}
        changed = {name: value for name, value in shown.items() if name == "price" or value not in ("", 0.0, None)}
        texts = [
            f"{name}={value:.6g}" if type(value) is float else f"{name}={value!r}" for name, value in changed.items()
        ]
        return f"Quote({', '.join(texts)})"

    def _repr_html_(self) -> str:
        """The quote as a table, for notebooks."""
        from pricesmith.core.tables import html_facts

        shown = {"price": self.price, "low": self.low, "high": self.high}
        facts: dict[str, object] = {name: f"{value:,.6g}" for name, value in shown.items() if value is not None}
        if self.price is None:
            facts |= {"price": "unanswered", "reason": self.raw}
        similar = "nothing similar in the training data: the price is a guess" if self.nothing_similar else ""
        if note := "; ".join(text for text in (similar, self.note) if text):
            facts["note"] = note
        return html_facts("Quote", facts)


@runtime_checkable
class Pricer(Protocol):
    """Whatever prices: one quote for each listing, in order."""

    @property
    def name(self) -> str: ...

    def price(self, listings: Sequence[Listing]) -> list[Quote]: ...


class Recipe(Protocol):
    """Settings that can be fitted. `fit` writes a model folder and returns nothing; `load` reads it."""

    kind: ClassVar[str]

    def fit(self, train: Sequence[Item], validation: Sequence[Item], folder: Path, progress: Progress, /) -> None: ...

    def load(self, folder: Path, /) -> Pricer: ...


@dataclass(frozen=True, slots=True)
class EvalRow:
    """One judged item. `price` is None where the pricer gave no answer."""

    id: str
    truth: float
    price: float | None
    low: float | None = None
    high: float | None = None
    raw: str = ""
    seconds: float = 0.0
    cost_usd: float | None = 0.0


@dataclass(frozen=True, slots=True)
class Evaluation:
    """One pricer's quotes on a catalog's items, and what is needed to judge them.

    `groups` maps an item's id to its group; an item that is not in it is its own group.
    `median` is the price charged for an unanswered item.
    """

    pricer: str
    catalog: str
    rows: tuple[EvalRow, ...]
    median: float
    currency: str = "USD"
    price_range: tuple[float, float] = (0.01, float("inf"))
    groups: Mapping[str, str] = field(default_factory=dict)
    note: str = ""


def render(listing: Listing) -> str:
    """The one text of a listing, for every kind of pricer: title, category, brand, text; no line is repeated."""
    parts = (
        listing.title,
        f"Category: {listing.category}" if listing.category else "",
        f"Brand: {listing.brand}" if listing.brand else "",
        text_without_repeats(listing),
    )
    return "\n".join(part for part in parts if part)


def text_without_repeats(listing: Listing) -> str:
    """The text without an opening title, and without lines that repeat the title, the category, the brand or a line
    before.

    Case, spaces and closing punctuation do not count. Only a line "Name: value" or one of at least `MIN_WORDS` words
    is a repeat of another line of the text: in "Width\n10 cm\nHeight\n10 cm" both sizes are kept.
    """
    title, text = listing.title, listing.text
    if title and text.startswith(title) and not (is_letter(title[-1]) and is_letter(text[len(title) :][:1])):
        text = text[len(title) :].lstrip("\n ")
    if not text:
        return ""
    earlier = {}
    for line in (title, f"title:{title}", f"name:{title}") if title else ():
        earlier[bare(line)] = line
    for line in (listing.category and f"category: {listing.category}", listing.brand and f"brand: {listing.brand}"):
        if line:
            earlier[bare(line)] = line
    lines_left = []
    lines = text.split("\n")
    for line, key in zip(lines, text.casefold().replace(" ", "").replace("\t", "").split("\n"), strict=True):
        key = key.rstrip(PUNCTUATION)
        if key in earlier and line_key(line) == line_key(earlier[key]):
            continue
        if ":" in key or line.count(" ") >= MIN_WORDS - 1:
            earlier[key] = line
        lines_left.append(line)
    return text if len(lines_left) == len(lines) else "\n".join(lines_left)


MIN_WORDS = 4  # shorter lines may repeat: "10 cm" or "yes" in a table whose cells became lines
PUNCTUATION = " .,;!"


def bare(line: str) -> str:
    """A line in lower case without spaces and punctuation at the end: equal wherever `line_key` is, and quick."""
    return line.casefold().replace(" ", "").replace("\t", "").rstrip(PUNCTUATION)


def is_letter(sign: str) -> bool:
    """Whether a character is a digit or a letter of a script with upper and lower case, which has words with spaces."""
    return sign.isdigit() or sign.lower() != sign.upper()


def line_key(line: str) -> str:
    """A line as it is compared with others: lower case, single spaces, no punctuation at the end."""
    parts = line.casefold().replace(":", ": ").replace("\t", " ").split(" ")
    return " ".join(part for part in parts if part).rstrip(PUNCTUATION)
