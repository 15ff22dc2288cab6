"""The words of Pricesmith: what is priced, what is answered, who answers, and how well.

    >>> Listing("1", "Garden hose", "25 m, brass fittings")
    Listing(id='1', title='Garden hose', text='25 m, brass fittings', category='', brand='')

Standard library only; every other module may import this one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar, Protocol, runtime_checkable


@dataclass(frozen=True, slots=True)
class Listing:
    """What a pricer may see. It has no price, on purpose."""

    id: str
    title: str
    text: str
    category: str = ""
    brand: str = ""


@dataclass(frozen=True, slots=True)
class Item:
    """A listing and its true price. Composition, so that an Item can never stand where a Listing is wanted."""

    listing: Listing
    price: float


@dataclass(frozen=True, slots=True)
class Quote:
    """An answer. `price` is None where there is no usable one, never 0; `low` and `high` bound an interval.

    `seconds` is what this one answer took, where the pricer knows it better than a clock round the batch does.
    """

    price: float | None
    low: float | None = None
    high: float | None = None
    raw: str = ""
    cost_usd: float = 0.0
    seconds: float | None = None


@runtime_checkable
class Pricer(Protocol):
    """Whatever prices: one quote for each listing, in order."""

    @property
    def name(self) -> str: ...

    def price(self, listings: Sequence[Listing]) -> list[Quote]: ...


class Recipe(Protocol):
    """Settings that can be fitted. `fit` writes a run folder and returns nothing; `load` reads it."""

    kind: ClassVar[str]

    def fit(self, train: Sequence[Item], validation: Sequence[Item], run: Path) -> None: ...

    def load(self, run: Path) -> Pricer: ...


@dataclass(frozen=True, slots=True)
class Row:
    """One judged item. `price` is None where the pricer gave no answer."""

    id: str
    truth: float
    price: float | None
    low: float | None = None
    high: float | None = None
    raw: str = ""
    seconds: float = 0.0
    cost_usd: float = 0.0


@dataclass(frozen=True, slots=True)
class Evaluation:
    """One pricer's quotes on a catalog's items, and what is needed to judge them.

    `families` maps an item's id to its family; an item that is not in it is its own family.
    `constant` is the quote that an item without an answer is charged at.
    """

    pricer: str
    catalog: str
    rows: tuple[Row, ...]
    constant: float
    currency: str = "USD"
    price_range: tuple[float, float] = (0.01, float("inf"))
    families: Mapping[str, str] = field(default_factory=dict)
    note: str = ""


def render(listing: Listing) -> str:
    """The one text of a listing, for every kind of pricer: title, category, brand, text; the title not repeated."""
    text = listing.text
    if listing.title and text.startswith(listing.title):
        text = text[len(listing.title) :].lstrip("\n ")
    parts = (
        listing.title,
        f"Category: {listing.category}" if listing.category else "",
        f"Brand: {listing.brand}" if listing.brand else "",
        text,
    )
    return "\n".join(part for part in parts if part)
