"""The quiz of `pricesmith quiz`: listings of the test split, one at a time; true prices only after the last one.

The items are those of `pricesmith eval --limit N`, by near-duplicate group in a fixed random order, so a person who
answers n of them can be compared with any pricer evaluated with --limit n.

In a terminal, a line that is not a price is explained and asked for again. A pipe cannot be asked again, and using its
next line for the same listing would shift every later answer by one, so there such a line ends the quiz. The same
command with the same lines continues: lines of answered listings are compared with the answer file.
"""

from __future__ import annotations

import hashlib
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import IO, Any, Literal

from pricesmith.catalog.catalog import Catalog
from pricesmith.core.console import Console
from pricesmith.core.errors import InputError, UsageError
from pricesmith.core.types import Item, Listing, render
from pricesmith.evaluation.folds import EvalPlan, build_plan, order_key
from pricesmith.human.answers import (
    AnswerFile,
    HumanResult,
    QuizAnswer,
    build_human_result,
    format_result,
    list_competitors,
    open_answers,
    result_dict,
)
from pricesmith.text.formatting import INVISIBLE, format_money, format_price, to_single_line
from pricesmith.text.price_parser import NO_PRICE, parse_price

SPLIT = "test"
MIN_TIMED_ANSWERS = 3  # before the remaining time is estimated
MAX_LINES = 24  # of a long listing that are shown at first
MAX_WIDTH = 100
Command = Literal["skip", "quit", "back", "more"]
COMMANDS: dict[str, Command] = {
    "s": "skip", "skip": "skip", "q": "quit", "quit": "quit", "b": "back", "back": "back", "m": "more", "more": "more",
}  # fmt: skip
COMMAND_HELP = "a price, s to skip, b to go back one, q to stop here"


@dataclass(frozen=True)
class QuizResult:
    """Progress of a quiz: counts of listings, median seconds per answer, and at its end the person's result."""

    path: Path
    n: int
    answered: int
    skipped: int
    seconds: float | None
    result: HumanResult | None

    @property
    def left(self) -> int:
        """Listings that have not been answered or skipped."""
        return self.n - self.answered - self.skipped


def run_quiz(
    catalog: Catalog,
    to: Path,
    *,
    n: int = 100,
    seed: int = 0,
    against: Path | None = None,
    end: bool = False,
    console: Console | None = None,
) -> QuizResult:
    """Ask a person for the prices of `n` items and write the answers to `to`; an unfinished quiz continues.

    Seed 0 uses the items of `eval --limit n`, another seed a different sample. `against` is an evals folder whose
    pricers the person is compared with at the end: when every listing is answered or skipped, or with `end`.

    Raises UsageError if there are fewer than `n` items, the answers belong to another quiz, or the evals to another
    catalog; InputError for a line of a pipe that is not a price.
    """
    path = Path(to)
    plan = build_plan(catalog, SPLIT)
    items = quiz_items(plan, n, seed)
    competitors = list_competitors(against, catalog, items) if against is not None else []
    dialog = Dialog(console or Console(), catalog.currency, catalog.price_range)
    settings = {"catalog": catalog.fingerprint, "name": catalog.name, "split": SPLIT, "n": n, "seed": seed}
    ids = [item.listing.id for item in items]
    with open_answers(path, settings, ids, catalog.currency) as file:
        if not file.ended and not end:
            ask_items(dialog, file, items)
        answers = file.answers
        if len(answers) == n or (end and answers):
            file.end()
    result = build_human_result(path, answers, plan, catalog, competitors) if file.ended else None
    priced = [answer for answer in answers.values() if answer.price is not None]
    seconds = median(answer.seconds for answer in priced) if priced else None
    return QuizResult(path, n, len(priced), len(answers) - len(priced), seconds, result)


def quiz_items(plan: EvalPlan, n: int, seed: int) -> list[Item]:
    """Return `n` items of a plan, by near-duplicate group in random order. Raises UsageError if there are fewer."""
    items = [item for fold in plan.folds for item in fold.items]
    if not 1 <= n <= len(items):
        allowed = f"1 to {len(items):,} listings"
        raise UsageError(f"--n must be {allowed}", got=f"--n {n}", allowed=allowed, hint="Change --n.")
    if seed < 0:
        raise UsageError("--seed must be a whole number from 0", got=str(seed), hint="Leave it out for 0.")

    def sort_key(item: Item) -> tuple[bytes, str]:
        group = plan.groups[item.listing.id]
        digest = order_key(group) if seed == 0 else hashlib.sha256(f"ask {seed} {group}".encode()).digest()
        return digest, item.listing.id

    return sorted(items, key=sort_key)[:n]


# The conversation


@dataclass(frozen=True)
class Reply:
    """A typed line: a price, or one of four commands."""

    kind: Literal["price"] | Command
    price: float | None = None


def parse_reply(line: str, currency: str, price_range: tuple[float, float]) -> Reply | str:
    """Return a typed line as a reply, or the reason why it is invalid. Prices are parsed as in the catalog."""
    text = line.strip()
    if command := COMMANDS.get(text.lower()):
        return Reply(command)
    parsed = parse_price(text, currency, ",.")  # people type both decimal marks: 1.299 may be either
    if isinstance(parsed, str):
        return "nothing was typed" if parsed == NO_PRICE and not text else parsed
    price, sign = parsed
    if sign is not None and sign != currency:
        return f"price is in {sign}; this catalog is in {currency}"
    low, high = price_range
    if not low <= price <= high:
        price_text = format_money(price, currency)
        return f"{price_text} is outside of this catalog's {format_price_range(price_range, currency)}"
    return Reply("price", price)


def format_price_range(price_range: tuple[float, float], currency: str) -> str:
    """Return a price range as text."""
    low, high = price_range
    if high == float("inf"):
        return f"{format_price(low, currency)} and more"
    return f"{format_price(low, currency)} to {format_price(high, currency)}"


class Dialog:
    """Shows the listings of a quiz and reads the answers."""

    def __init__(self, console: Console, currency: str, price_range: tuple[float, float]) -> None:
        self.interactive = sys.stdin.isatty()
        if self.interactive and console.quiet:
            raise UsageError("A quiz needs output to be answered", got="--quiet", hint="Leave out --quiet.")
        # With --json, standard output is for the result alone.
        self.out: IO[str] = sys.stdout if sys.stdout.isatty() or not console.json else sys.stderr
        if self.interactive and not self.out.isatty():
            self.out = sys.stderr
        self.silent = console.quiet or (console.json and not self.interactive)
        self.currency, self.price_range, self.lines = currency, price_range, 0

    def say(self, text: str = "") -> None:
        """Print a line."""
        if not self.silent:
            print(INVISIBLE.sub(" ", text), file=self.out, flush=True)

    def show(self, listing: Listing, heading: str, *, whole: bool = False) -> None:
        """Print a listing as a pricer sees it (`render`), without terminal control codes."""
        if self.silent:
            return
        from rich.console import Console as RichConsole
        from rich.rule import Rule
        from rich.text import Text

        rich = RichConsole(file=self.out, highlight=False, width=None if self.out.isatty() else MAX_WIDTH)
        rich.width = min(rich.width, MAX_WIDTH)
        lines: list[Any] = []
        for number, line in enumerate(render(listing).split("\n")):
            text = Text(INVISIBLE.sub(" ", line), style="bold" if listing.title and not number else "")
            lines += text.wrap(rich, rich.width)
        shown = lines if whole or len(lines) <= MAX_LINES + 2 else lines[:MAX_LINES]
        rich.print()
        rich.print(Rule(heading, align="left", style="dim"))
        for line in shown:
            rich.print(line)
        if len(shown) < len(lines):
            rich.print(f"… {len(lines) - len(shown)} more lines: type m to see them")

    def read(self, listing: Listing) -> Reply:
        """Return the next line as a reply; the end of the input is `quit`.

        Raises InputError for an invalid line of a pipe.
        """
        while True:
            if self.interactive:
                print(f"price in {self.currency} (s skip, b back, q quit) > ", end="", file=self.out, flush=True)
            line = sys.stdin.readline()
            if not line:
                return Reply("quit")
            self.lines += 1
            reply = parse_reply(line, self.currency, self.price_range)
            if isinstance(reply, Reply) and (self.interactive or reply.kind not in ("more", "back")):
                return reply
            reason = reply if isinstance(reply, str) else "this command works in a terminal only"
            if not self.interactive:
                raise self.line_error(line, reason, listing)
            self.say(f"  {reason}. Type {COMMAND_HELP}.")

    def line_error(self, line: str, reason: str, listing: Listing) -> InputError:
        """The error for an invalid line of a pipe."""
        id = to_single_line(listing.id, 60)
        return InputError(
            f"Line {self.lines} of the answers cannot be read: {reason}",
            got=repr(to_single_line(line, 60)),
            allowed="a price, s or q",
            hint=f"It answers {id}. Correct it and run the same command with all lines again.",
        )


def ask_items(dialog: Dialog, file: AnswerFile, items: Sequence[Item]) -> None:
    """Ask for every item without an answer, until the last listing, a quit or the end of the input."""
    show_introduction(dialog, file, len(items))
    if not dialog.interactive:
        replay_answers(dialog, file, items)
    while remaining := [item for item in items if item.listing.id not in file.answers]:
        listing = remaining[0].listing
        heading = format_heading(file, len(items), len(remaining))
        dialog.show(listing, heading)
        start = time.monotonic()
        while (reply := dialog.read(listing)).kind == "more":
            dialog.show(listing, heading, whole=True)
        if reply.kind == "quit":
            return
        if reply.kind == "back":
            if not file.undo():
                dialog.say("  There is nothing to go back to in this session.")
            continue
        file.add(QuizAnswer(listing.id, reply.price, time.monotonic() - start))


def show_introduction(dialog: Dialog, file: AnswerFile, n: int) -> None:
    """Print what a person should know before the first listing."""
    done = len(file.answers)
    if done:
        dialog.say(f"{done:,} of {n:,} listings are answered in {file.path}; the quiz continues.")
    else:
        prices = format_price_range(dialog.price_range, dialog.currency)
        dialog.say(f"{n:,} listings, one at a time. What does each cost? Prices are {prices}.")
        dialog.say("The true prices are shown after the last one. Every answer is saved as you give it.")
    if dialog.interactive:
        dialog.say(f"Type {COMMAND_HELP}; the same command continues later.")


def replay_answers(dialog: Dialog, file: AnswerFile, items: Sequence[Item]) -> None:
    """Read the lines of answered listings. Raises InputError if one differs from the answer file."""
    for item in items:
        old = file.answers.get(item.listing.id)
        if old is None:
            continue
        reply = dialog.read(item.listing)
        if reply.kind == "quit":
            return
        if reply.price != old.price:
            raise InputError(
                f"Line {dialog.lines} of the answers differs from the answer in {file.path} for this listing",
                got=str(reply.price or "skip"),
                allowed=str(old.price or "skip"),
                hint="Give the same lines from the first one on, or write a new file with --to.",
            )


def format_heading(file: AnswerFile, n: int, n_left: int) -> str:
    """Return the position in the quiz, and the time left at the person's own pace."""
    seconds = [answer.seconds for answer in file.answers.values() if answer.price is not None]
    time_left = f", {format_minutes(median(seconds) * n_left)} left" if len(seconds) >= MIN_TIMED_ANSWERS else ""
    return f"{n - n_left + 1:,} of {n:,}{time_left}"


def format_minutes(seconds: float) -> str:
    """Return a time as text, in minutes."""
    if seconds >= 90:
        return f"about {seconds / 60:,.0f} minutes"
    return "about a minute" if seconds > 45 else "less than a minute"


# The result


def format_quiz(quiz: QuizResult, catalog: Catalog) -> list[Any]:
    """Return the progress of a quiz, or at its end the result, as text and tables for a terminal."""
    if quiz.result is not None:
        return format_result(quiz.result, catalog.currency, quiz.seconds)
    if not quiz.answered and not quiz.skipped:
        return ["Nothing is answered yet; run the same command without --end to start."]
    counts = f"{quiz.answered:,} answered, {quiz.skipped:,} skipped, {quiz.left:,} left"
    return [
        f"{counts}; the answers are saved in {quiz.path}.",
        "Run the same command again to continue. To stop for good and see the result, add --end.",
    ]


def quiz_dict(quiz: QuizResult, catalog: Catalog) -> Mapping[str, Any]:
    """Return the same as plain values for JSON; true prices only at the end."""
    return {
        "answers": str(quiz.path),
        "catalog": catalog.fingerprint,
        "currency": catalog.currency,
        "n": quiz.n,
        "answered": quiz.answered,
        "skipped": quiz.skipped,
        "left": quiz.left,
        "seconds_per_answer": quiz.seconds,
        "ended": quiz.result is not None,
        "result": result_dict(quiz.result) if quiz.result is not None else None,
    }
