"""The conversation of a quiz: a listing is shown as a pricer sees it, and a price, a skip or a wish is read.

In a terminal a line that is no price is explained and asked for again. A pipe cannot be asked again, and taking its
next line for the same listing would move every answer after it by one: there, such a line ends the quiz.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import IO, Any, Literal

from pricesmith.core.console import Console
from pricesmith.core.errors import InputError, UsageError
from pricesmith.core.types import Listing, render
from pricesmith.text.formatting import INVISIBLE, format_money, format_price, to_single_line
from pricesmith.text.price_parser import NO_PRICE, parse_price

LINES = 24  # of a long listing that are shown before it is asked for more
WIDEST = 100
WORDS: dict[str, Literal["skip", "quit", "back", "more"]] = {
    "s": "skip", "skip": "skip", "q": "quit", "quit": "quit", "b": "back", "back": "back", "m": "more", "more": "more",
}  # fmt: skip
HELP = "a price, s to skip, b to go back one, q to stop here"


@dataclass(frozen=True)
class Reply:
    """What was said: a price, or one of four words."""

    kind: Literal["price", "skip", "quit", "back", "more"]
    price: float | None = None


def read_reply(line: str, currency: str, price_range: tuple[float, float]) -> Reply | str:
    """A typed line as a reply, or why it is none. A price is read as the catalog reads one."""
    said = line.strip()
    if word := WORDS.get(said.lower()):
        return Reply(word)
    found = parse_price(said, currency, ",.")  # both marks are typed: 1.299 may be either
    if isinstance(found, str):
        return "nothing was typed" if found == NO_PRICE and not said else found
    price, sign = found
    if sign is not None and sign != currency:
        return f"price is in {sign}; this catalog is in {currency}"
    low, high = price_range
    if not low <= price <= high:
        return f"{format_money(price, currency)} is outside of this catalog's {format_duration(price_range, currency)}"
    return Reply("price", price)


def format_duration(price_range: tuple[float, float], currency: str) -> str:
    """A price range in words."""
    low, high = price_range
    return f"{format_price(low, currency)} and more" if high == float("inf") else (
        f"{format_price(low, currency)} to {format_price(high, currency)}"
    )  # fmt: skip


class Dialog:
    """Where a quiz is shown and where its answers come from."""

    def __init__(self, console: Console, currency: str, price_range: tuple[float, float]) -> None:
        self.person = sys.stdin.isatty()
        if self.person and console.quiet:
            raise UsageError("A quiz must be seen to be answered", got="--quiet", hint="Leave out --quiet.")
        # With --json, standard output is the result's alone.
        self.out: IO[str] = sys.stdout if sys.stdout.isatty() or not console.json else sys.stderr
        if self.person and not self.out.isatty():
            self.out = sys.stderr
        self.silent = console.quiet or (console.json and not self.person)
        self.currency, self.price_range, self.lines = currency, price_range, 0

    def say(self, text: str = "") -> None:
        """A line of ours."""
        if not self.silent:
            print(INVISIBLE.sub(" ", text), file=self.out, flush=True)

    def show(self, listing: Listing, place: str, *, whole: bool = False) -> None:
        """A listing as a pricer sees it: what `render` gives, without what would move a terminal."""
        if self.silent:
            return
        from rich.console import Console as Rich
        from rich.rule import Rule
        from rich.text import Text

        rich = Rich(file=self.out, highlight=False, width=None if self.out.isatty() else WIDEST)
        rich.width = min(rich.width, WIDEST)
        lines: list[Any] = []
        for number, line in enumerate(render(listing).split("\n")):
            text = Text(INVISIBLE.sub(" ", line), style="bold" if listing.title and not number else "")
            lines += text.wrap(rich, rich.width)
        cut = lines if whole or len(lines) <= LINES + 2 else lines[:LINES]
        rich.print()
        rich.print(Rule(place, align="left", style="dim"))
        for part in cut:
            rich.print(part)
        if len(cut) < len(lines):
            rich.print(f"… {len(lines) - len(cut)} more lines: type m to see them")

    def read(self, listing: Listing) -> Reply:
        """The next line as a reply; the end of the input is `quit`. Raises InputError for a bad line of a pipe."""
        while True:
            if self.person:
                print(f"price in {self.currency} (s skip, b back, q quit) > ", end="", file=self.out, flush=True)
            line = sys.stdin.readline()
            if not line:
                return Reply("quit")
            self.lines += 1
            reply = read_reply(line, self.currency, self.price_range)
            if isinstance(reply, Reply) and (self.person or reply.kind not in ("more", "back")):
                return reply
            why = reply if isinstance(reply, str) else "it is a word for a terminal"
            if not self.person:
                raise self.unreadable(line, why, listing)
            self.say(f"  {why}. Type {HELP}.")

    def unreadable(self, line: str, why: str, listing: Listing) -> InputError:
        """The error for a line of a pipe."""
        return InputError(
            f"Line {self.lines} of the answers cannot be read: {why}",
            got=repr(to_single_line(line, 60)),
            allowed="a price, s or q",
            hint=f"It answers {to_single_line(listing.id, 60)}. Put it right and run the same command with all lines again.",
        )


def minutes(seconds: float) -> str:
    """A time in words."""
    return (
        f"about {seconds / 60:,.0f} minutes" if seconds >= 90 else "a minute" if seconds > 45 else "less than a minute"
    )
