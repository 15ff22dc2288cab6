"""The quiz of `pricesmith ask`: listings of the test split, one at a time, and the truth only when all are answered.

The items are those of `pricesmith eval --limit N`, family by family in drawn order, so that a person who stops after n
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

from pricesmith.catalog.store import Catalog
from pricesmith.console import Console
from pricesmith.errors import InputError, UsageError
from pricesmith.evaluation.plan import Plan, drawn, plan_of
from pricesmith.people.place import Place, facts_of, place_of, rivals_of, told
from pricesmith.people.sheet import Answer, Sheet, open_sheet
from pricesmith.people.talk import HELP, Talk, minutes, span
from pricesmith.types import Item

PACED = 3  # answers after which the pace says something of the time left
SPLIT = "test"


@dataclass(frozen=True)
class Asked:
    """How far a quiz is: counts of listings, median seconds for an answer, and at its end the person's place."""

    sheet: Path
    n: int
    answered: int
    skipped: int
    seconds: float | None
    place: Place | None

    @property
    def left(self) -> int:
        """Listings that were not shown yet."""
        return self.n - self.answered - self.skipped


def ask(
    catalog: Catalog,
    to: Path,
    *,
    n: int = 100,
    seed: int = 0,
    against: Path | None = None,
    end: bool = False,
    console: Console | None = None,
) -> Asked:
    """Ask a person for the prices of `n` items, into the sheet `to`; a sheet that was begun is gone on with.

    Seed 0 asks for the items that `eval --limit n` takes, another seed for another draw. `against` is an evals folder
    whose pricers the person is set beside at the end, which comes when every listing is answered or skipped, or with
    `end`. Raises UsageError where there are not `n` items, the sheet answers another quiz, or the evals are of another
    catalog; InputError for a line of a pipe that is no price.
    """
    plan = plan_of(catalog, SPLIT)
    items = drawn_items(plan, n, seed)
    rivals = rivals_of(against, catalog, items) if against is not None else []
    console = console or Console()
    talk = Talk(console, catalog.currency, catalog.price_range)
    settings = {"catalog": catalog.fingerprint, "name": catalog.name, "split": SPLIT, "n": n, "seed": seed}
    ids = [item.listing.id for item in items]
    with open_sheet(Path(to), settings, ids, catalog.currency) as sheet:
        if not sheet.ended and not end:
            hold(talk, sheet, items)
        answers = sheet.answers
        if len(answers) == n or (end and answers):
            sheet.end()
    place = place_of(Path(to), answers, plan, catalog, rivals) if sheet.ended else None
    said = [answer for answer in answers.values() if answer.price is not None]
    pace = median(answer.seconds for answer in said) if said else None
    return Asked(Path(to), n, len(said), len(answers) - len(said), pace, place)


def drawn_items(plan: Plan, n: int, seed: int) -> list[Item]:
    """The first `n` items of a plan, family by family in drawn order. Raises UsageError where there are not as many."""
    items = [item for fold in plan.folds for item in fold.items]
    if not 1 <= n <= len(items):
        raise UsageError(
            "The quiz cannot have as many listings", got=f"--n {n}", allowed=f"1 to {len(items):,}", hint="Change --n."
        )
    if seed < 0:
        raise UsageError("The seed is a whole number from 0", got=str(seed), hint="Leave it out for 0.")

    def place(item: Item) -> tuple[bytes, str]:
        family = plan.families[item.listing.id]
        other = hashlib.sha256(f"ask {seed} {family}".encode()).digest()
        return (drawn(family) if seed == 0 else other), item.listing.id

    return sorted(items, key=place)[:n]


def hold(talk: Talk, sheet: Sheet, items: Sequence[Item]) -> None:
    """Ask for what the sheet has no answer to, until the last listing, a quit or the end of the input."""
    greet(talk, sheet, len(items))
    if not talk.person:
        replay(talk, sheet, items)
    while waiting := [item for item in items if item.listing.id not in sheet.answers]:
        listing = waiting[0].listing
        talk.show(listing, heading(sheet, len(items), len(waiting)))
        began = time.monotonic()
        while (reply := talk.read(listing)).kind == "more":
            talk.show(listing, heading(sheet, len(items), len(waiting)), whole=True)
        if reply.kind == "quit":
            return
        if reply.kind == "back":
            if not sheet.take_back():
                talk.say("  There is nothing to go back to in this sitting.")
            continue
        sheet.add(Answer(listing.id, reply.price, time.monotonic() - began))


def greet(talk: Talk, sheet: Sheet, n: int) -> None:
    """What a person should know before the first listing."""
    done = len(sheet.answers)
    if done:
        talk.say(f"{done:,} of {n:,} listings are answered in {sheet.path}; the quiz goes on.")
    else:
        talk.say(
            f"{n:,} listings, one at a time. What would each cost? Prices are {span(talk.price_range, talk.currency)}."
        )
        talk.say("The true prices are shown when all are answered. Every answer is kept as you give it.")
    if talk.person:
        talk.say(f"Type {HELP}; the same command goes on.")


def replay(talk: Talk, sheet: Sheet, items: Sequence[Item]) -> None:
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


def heading(sheet: Sheet, n: int, left: int) -> str:
    """Where in the quiz one is, and the time left at one's own pace."""
    paced = [answer.seconds for answer in sheet.answers.values() if answer.price is not None]
    time_left = f", {minutes(median(paced) * left)} left" if len(paced) >= PACED else ""
    return f"{n - left + 1:,} of {n:,}{time_left}"


def shown(asked: Asked, catalog: Catalog) -> list[Any]:
    """How far a quiz is, and at its end the result, as text and tables for a terminal."""
    if asked.place is not None:
        return told(asked.place, catalog.currency, asked.seconds)
    if not asked.answered and not asked.skipped:
        return ["Nothing is answered yet; the same command, without --end, begins."]
    lines = [
        f"{asked.answered:,} answered, {asked.skipped:,} skipped, {asked.left:,} left; all of it is in {asked.sheet}."
    ]
    return [*lines, "The same command goes on. To stop here for good and see the result, add --end."]


def facts(asked: Asked, catalog: Catalog) -> Mapping[str, Any]:
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
        "result": facts_of(asked.place) if asked.place is not None else None,
    }
