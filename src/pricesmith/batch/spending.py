"""What the answers of an API model cost while a file is priced, over all processes that work on it.

    with open_spending(pricer, folder) as spending:     None if the model asks no API model
        spending.start(sizes, done, progress)           spreads the budget over the listings of parts not done yet
        spending.start_part(len(listings))              before each part
        spending.facts()

What was spent, and the worst case of the requests in flight, are written to `spending.txt` in the folder of parts
before a request is sent and after its reply, and read when the work is resumed. So a file that is priced by several
processes, one after another (each interrupted or killed), costs no more than the budget in all. A request that was in
flight at a kill counts at its worst case; replies that arrived are in the response cache and are not paid again. The
record is deleted when the file is finished.
"""

from __future__ import annotations

import math
import os
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence, Set
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pricesmith.core.errors import InputError
from pricesmith.core.progress import Progress
from pricesmith.core.types import NOT_ASKED, Pricer
from pricesmith.text.formatting import format_count, format_usd

if TYPE_CHECKING:
    import pyarrow as pa

    from pricesmith.pricers.api.model_spec import ApiSettings

RECORD = "spending.txt"
# "not asked: REASON", or "api-MODEL was not asked: REASON: priced by NAME"
REASON = re.compile(rf"\b{NOT_ASKED}: (.+?)(?:: priced by [^;]*)?(?:;|$)")
NUMBER_WIDTH = 24  # characters of each amount, so that a record replaces the one before


class ApiSpending:
    """The spending of one file under the API settings of the command. `before` is what earlier processes spent on it,
    at most, and `failed_before` the part of it for replies that never arrived.

    `not_asked` counts the listings that the API model could not be asked about, by reason.
    """

    def __init__(self, settings: ApiSettings, path: Path) -> None:
        self.settings, self.budget = settings, settings.shared_budget
        self.before, self.failed_before = read_record(path)
        # By other work under the same settings:
        self.spent_elsewhere, self.failed_elsewhere = self.budget.spent, self.budget.failed_tries_usd
        self.listings_left: int | None = None
        self.asked = 0
        self.not_asked: Counter[str] = Counter()
        self.cost_known = True
        self.file = path.open("r+b" if path.exists() else "w+b")
        with self.budget.change:
            self.budget.spent += self.before
            self.budget.failed_tries_usd += self.failed_before
        self.write(self.budget.spent, self.budget.reserved)
        self.budget.record = self.write

    def close(self) -> None:
        """End the record."""
        self.budget.record = lambda spent, reserved: None
        self.file.close()

    def write(self, spent: float, reserved: float) -> None:
        """Record what was spent and what requests in flight may cost. It is on disk when this returns."""
        amounts = (spent - self.spent_elsewhere, reserved, self.failed_tries)
        self.file.seek(0)
        self.file.write("".join(f"{amount:.12f}".rjust(NUMBER_WIDTH) for amount in amounts).encode() + b"\n")
        self.file.flush()
        os.fsync(self.file.fileno())

    @property
    def spent(self) -> float:
        """US dollars spent on the file so far."""
        return self.budget.spent - self.spent_elsewhere

    @property
    def failed_tries(self) -> float:
        """The part of `spent` for replies that never arrived, at worst."""
        return self.budget.failed_tries_usd - self.failed_elsewhere

    @property
    def limited(self) -> bool:
        """Whether there is a budget to spread over the rows."""
        return self.budget.limit is not None

    def start(self, sizes: Sequence[int] | None, done: Set[int], progress: Progress) -> None:
        """Note the plan; with a budget, spread it over the listings of all parts that are not `done`. `sizes` are the
        numbers of listings of all parts."""
        earlier = f"; {format_usd(self.before)} are spent already" if self.before else ""
        if sizes is None or self.budget.limit is None:
            progress.note(f"This model asks an API model, without a budget{earlier}. --budget USD limits its cost.")
            return
        self.listings_left = sum(size for number, size in enumerate(sizes) if number not in done)
        priced = sum(sizes) - self.listings_left
        already = f" ({priced:,} more are priced already)" if priced else ""
        budget = f"{format_usd(self.budget.limit)} for answers of the API model"
        progress.note(f"{format_count(self.listings_left, 'listing')} to price{already}. Budget: {budget}{earlier}.")

    def start_part(self, listings: int) -> None:
        """Announce the next part, with its number of listings."""
        if self.listings_left is not None:
            self.settings.plan_rows(self.listings_left)
            self.listings_left = max(0, self.listings_left - listings)

    def count(self, part: pa.Table) -> None:
        """Count the rows of a part by whether the API model was asked."""
        costs, notes = part.column("cost_usd"), part.column("quote_note")
        self.cost_known = self.cost_known and not costs.null_count
        for cost, note in zip(costs.to_pylist(), notes.to_pylist(), strict=True):
            if reason := REASON.search(note or ""):
                self.not_asked[reason[1]] += 1
            elif note or cost != 0.0:
                self.asked += 1

    def facts(self) -> dict[str, Any]:
        """The counts, and the dollars spent: None if the cost of an answer is unknown."""
        return {
            "asked": self.asked,
            "not_asked": dict(self.not_asked.most_common()),
            "spent_usd": round(self.spent, 6) if self.cost_known else None,
            "failed_tries_usd": round(self.failed_tries, 6) if self.cost_known else None,
            "budget_usd": self.budget.limit,
        }


@contextmanager
def open_spending(pricer: Pricer, folder: Path) -> Iterator[ApiSpending | None]:
    """The spending of the file whose parts are in `folder`; None if the pricer asks no API model."""
    if not getattr(pricer, "asks_api", False):
        yield None
        return
    from pricesmith.pricers.api.model_spec import current_settings

    spending = ApiSpending(current_settings(), folder / RECORD)
    try:
        yield spending
    finally:
        spending.close()


def read_record(path: Path) -> tuple[float, float]:
    """What earlier processes spent, with the worst case of the requests that they had in flight, and the part of it for
    replies that never arrived; zeros without a record.

    Raises InputError if the record is damaged.
    """
    try:
        words = path.read_text(encoding="ascii").split() if path.exists() else []
        spent, reserved, failed = map(float, words or (0, 0, 0))
    except ValueError:
        spent, reserved, failed = math.nan, 0.0, 0.0
    if not all(math.isfinite(amount) and amount >= 0 for amount in (spent, reserved, failed)):
        raise InputError(
            f"{path}, the record of what was spent, is damaged",
            allowed="three amounts in US dollars",
            hint=f"Delete {path.parent} and run the same command again: answers that arrived are cached, and free.",
        )
    return spent + reserved, failed + reserved


def describe_spending(facts: Mapping[str, Any]) -> list[str]:
    """The facts of `ApiSpending.facts` as sentences."""
    limit = f" of the budget of {format_usd(facts['budget_usd'])}" if facts["budget_usd"] is not None else ""
    asked = format_count(facts["asked"], "listing")
    failed = facts["failed_tries_usd"]
    lost = f", up to {format_usd(failed)} of it for replies that never arrived" if failed else ""
    lines = [f"The API model was asked about {asked}; cost: {format_usd(facts['spent_usd'])}{limit}{lost}."]
    if facts["not_asked"]:
        reasons = ", ".join(f"{count:,} ({reason})" for reason, count in facts["not_asked"].items())
        rest = "these have the price of the model's other members, or none: see the column note"
        lines.append(f"It could not be asked about {reasons}; {rest}.")
    return lines
