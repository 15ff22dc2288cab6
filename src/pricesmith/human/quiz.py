"""The quiz of `pricesmith quiz`: listings of the test split, one at a time, and the truth only when all are answered.

The items are those of `pricesmith eval --limit N`, group by group in drawn order, so that a person who stops after n
of them can be set beside any pricer that was judged with --limit n. In a pipe the same command means the same lines
from the first on: those that are answered already are held against the sheet.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from pricesmith.catalog.catalog import Catalog
from pricesmith.core.console import Console
from pricesmith.core.errors import InputError, UsageError
from pricesmith.core.types import Item
from pricesmith.evaluation.folds import EvalPlan, build_plan, order_key
from pricesmith.human.answers import AnswerSheet, QuizAnswer, open_sheet
from pricesmith.human.dialog import HELP, Dialog, format_duration, minutes
from pricesmith.human.results import HumanResult, build_human_result, format_result, list_competitors, result_dict

PACED = 3  # answers after which the pace says something of the time left
SPLIT = "test"


@dataclass(frozen=True)
class QuizResult:
    """How far a quiz is: counts of listings, median seconds for an answer, and at its end the person's place."""

    sheet: Path
    n: int
    answered: int
    skipped: int
    seconds: float | None
    place: HumanResult | None

    @property
    def left(self) -> int:
        """Listings that were not shown yet."""
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
    """Ask a person for the prices of `n` items, into the sheet `to`; a sheet that was begun is gone on with.

    Seed 0 asks for the items that `eval --limit n` takes, another seed for another draw. `against` is an evals folder
    whose pricers the person is set beside at the end, which comes when every listing is answered or skipped, or with
    `end`. Raises UsageError where there are not `n` items, the sheet answers another quiz, or the evals are of another
    catalog; InputError for a line of a pipe that is no price.
    """
    plan = build_plan(catalog, SPLIT)
    items = quiz_items(plan, n, seed)
    competitors = list_competitors(against, catalog, items) if against is not None else []
    console = console or Console()
    talk = Dialog(console, catalog.currency, catalog.price_range)
    settings = {"catalog": catalog.fingerprint, "name": catalog.name, "split": SPLIT, "n": n, "seed": seed}
    ids = [item.listing.id for item in items]
    with open_sheet(Path(to), settings, ids, catalog.currency) as sheet:
        if not sheet.ended and not end:
            hold(talk, sheet, items)
        answers = sheet.answers
        if len(answers) == n or (end and answers):
            sheet.end()
    place = build_human_result(Path(to), answers, plan, catalog, competitors) if sheet.ended else None
    said = [answer for answer in answers.values() if answer.price is not None]
    pace = median(answer.seconds for answer in said) if said else None
    return QuizResult(Path(to), n, len(said), len(answers) - len(said), pace, place)


def quiz_items(plan: EvalPlan, n: int, seed: int) -> list[Item]:
    """The first `n` items of a plan, group by group in drawn order. Raises UsageError where there are not as many."""
    items = [item for fold in plan.folds for item in fold.items]
    if not 1 <= n <= len(items):
        raise UsageError(
            "The quiz cannot have as many listings", got=f"--n {n}", allowed=f"1 to {len(items):,}", hint="Change --n."
        )
    if seed < 0:
        raise UsageError("The seed is a whole number from 0", got=str(seed), hint="Leave it out for 0.")

    def place(item: Item) -> tuple[bytes, str]:
        group = plan.groups[item.listing.id]
        other = hashlib.sha256(f"ask {seed} {group}".encode()).digest()
        return (order_key(group) if seed == 0 else other), item.listing.id

    return sorted(items, key=place)[:n]


def hold(talk: Dialog, sheet: AnswerSheet, items: Sequence[Item]) -> None:
    """Ask for what the sheet has no answer to, until the last listing, a quit or the end of the input."""
    show_introduction(talk, sheet, len(items))
    if not talk.person:
        replay(talk, sheet, items)
    while waiting := [item for item in items if item.listing.id not in sheet.answers]:
        listing = waiting[0].listing
        talk.show(listing, format_heading(sheet, len(items), len(waiting)))
        began = time.monotonic()
        while (reply := talk.read(listing)).kind == "more":
            talk.show(listing, format_heading(sheet, len(items), len(waiting)), whole=True)
        if reply.kind == "quit":
            return
        if reply.kind == "back":
            if not sheet.take_back():
                talk.say("  There is nothing to go back to in this sitting.")
            continue
        sheet.add(QuizAnswer(listing.id, reply.price, time.monotonic() - began))


def show_introduction(talk: Dialog, sheet: AnswerSheet, n: int) -> None:
    """What a person should know before the first listing."""
    done = len(sheet.answers)
    if done:
        talk.say(f"{done:,} of {n:,} listings are answered in {sheet.path}; the quiz goes on.")
    else:
        talk.say(
            f"{n:,} listings, one at a time. What would each cost? Prices are {format_duration(talk.price_range, talk.currency)}."
        )
        talk.say("The true prices are shown when all are answered. Every answer is kept as you give it.")
    if talk.person:
        talk.say(f"Type {HELP}; the same command goes on.")


def replay(talk: Dialog, sheet: AnswerSheet, items: Sequence[Item]) -> None:
    """Read the lines of listings that are answered already. Raises InputError where one says something else."""
    for item in items:
        old = sheet.answers.get(item.listing.id)
        if old is None:
            continue
        reply = talk.read(item.listing)
        if reply.kind == "quit":
            return
        if reply.price != old.price:
            raise InputError(
                f"Line {talk.lines} of the answers is not what the sheet has for this listing",
                got=str(reply.price or "skip"),
                allowed=str(old.price or "skip"),
                hint="Give the same lines from the first on, or write a new sheet with --to.",
            )


def format_heading(sheet: AnswerSheet, n: int, left: int) -> str:
    """Where in the quiz one is, and the time left at one's own pace."""
    paced = [answer.seconds for answer in sheet.answers.values() if answer.price is not None]
    time_left = f", {minutes(median(paced) * left)} left" if len(paced) >= PACED else ""
    return f"{n - left + 1:,} of {n:,}{time_left}"


def format_listing(asked: QuizResult, catalog: Catalog) -> list[Any]:
    """How far a quiz is, and at its end the result, as text and tables for a terminal."""
    if asked.place is not None:
        return format_result(asked.place, catalog.currency, asked.seconds)
    if not asked.answered and not asked.skipped:
        return ["Nothing is answered yet; the same command, without --end, begins."]
    lines = [
        f"{asked.answered:,} answered, {asked.skipped:,} skipped, {asked.left:,} left; all of it is in {asked.sheet}."
    ]
    return [*lines, "The same command goes on. To stop here for good and see the result, add --end."]


def quiz_dict(asked: QuizResult, catalog: Catalog) -> Mapping[str, Any]:
    """The same for a machine; true prices only at the end."""
    return {
        "sheet": str(asked.sheet),
        "catalog": catalog.fingerprint,
        "currency": catalog.currency,
        "n": asked.n,
        "answered": asked.answered,
        "skipped": asked.skipped,
        "left": asked.left,
        "seconds_per_answer": asked.seconds,
        "ended": asked.place is not None,
        "result": result_dict(asked.place) if asked.place is not None else None,
    }
