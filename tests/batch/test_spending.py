"""The budget of a file: spread over all rows, and one limit for all processes that price it one after another."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from pricesmith.batch.price import price_file
from pricesmith.batch.spending import RECORD, describe_spending, read_record
from pricesmith.catalog.clean import CleanSettings
from pricesmith.catalog.columns import ColumnMap
from pricesmith.core.errors import InputError
from pricesmith.core.progress import Progress
from pricesmith.core.types import Listing, Quote
from pricesmith.pricers.api.model_spec import ApiSettings
from pricesmith.testing.hybrid import ASKED, DOWN, FEE, SPENT, FakeHybridPricer

INFO: dict[str, Any] = {
    "cleaning": CleanSettings().model_dump(),
    "columns": ColumnMap(title="name", text="description", price="price", id="sku").model_dump(),
    "currency": "USD",
}
# Prices the file until it dies with an answer paid and another request in flight.
KILLED = """
import json, os, sys
from pathlib import Path
from pricesmith.batch.price import price_file
from pricesmith.pricers.api.model_spec import ApiSettings, current_settings
from pricesmith.testing.hybrid import FakeHybridPricer

class Dies(FakeHybridPricer):
    def price_one(self, listing, left):
        if self.asked == int(sys.argv[3]):
            current_settings().shared_budget.reserve(self.fee)
            os._exit(9)
        return super().price_one(listing, left)

with ApiSettings(budget=50 / 64, fallback=True):
    price_file(Dies(), json.loads(sys.argv[4]), Path(sys.argv[1]), Path(sys.argv[2]), identity="a", part_rows=10)
"""


class Recorder(Progress):
    """The notes of a command."""

    def __init__(self) -> None:
        self.notes: list[str] = []

    def note(self, text: str) -> None:
        self.notes.append(text)


def write_rows(path: Path, count: int, **titles: str) -> Path:
    """Rows 0 to count - 1; `r3="Down"` is the title of row 3."""
    lines = [{"sku": f"s{i}", "name": titles.get(f"r{i}", f"Lamp {i}"), "description": "oak"} for i in range(count)]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def read_notes(path: Path) -> list[str]:
    with path.open(newline="") as handle:
        return [row["note"] for row in csv.DictReader(handle)]


def price(pricer: FakeHybridPricer, file: Path, budget: float | None = None, progress: Progress | None = None) -> Any:
    """Price a file into prices.csv beside it, in parts of ten rows."""
    with ApiSettings(budget=budget, fallback=True):
        out = file.with_name("prices.csv")
        return price_file(pricer, INFO, file, out, identity="a", part_rows=10, progress=progress or Progress())


def test_the_budget_is_spread_over_the_whole_file(tmp_path: Path) -> None:
    """Half of what all answers would cost: half of each part is asked, and the budget is spent at the end."""
    file = write_rows(tmp_path / "new.jsonl", 40)
    facts = price(FakeHybridPricer(), file, budget=20 * FEE)
    notes = read_notes(tmp_path / "prices.csv")
    assert [notes[start : start + 10].count(ASKED) for start in (0, 10, 20, 30)] == [5, 5, 5, 5]
    assert set(notes) == {ASKED, SPENT}
    expected = {"asked": 20, "not_asked": {"the budget is spent": 20}, "spent_usd": 20 * FEE, "budget_usd": 20 * FEE}
    expected["failed_tries_usd"] = 0.0
    assert facts["api"] == expected


def test_what_unreadable_rows_do_not_need_goes_to_the_others(tmp_path: Path) -> None:
    """A part of refused rows costs nothing, so every other listing is asked."""
    titles = {f"r{i}": "" for i in range(10, 20)}
    file = write_rows(tmp_path / "new.jsonl", 30, **titles)
    file.write_text(file.read_text().replace('"name": "", "description": "oak"', '"name": "", "description": ""'))
    facts = price(FakeHybridPricer(), file, budget=20 * FEE)
    assert facts["api"]["asked"] == 20
    assert facts["not_priced"] == 10


def test_the_plan_and_the_cost_are_reported(tmp_path: Path) -> None:
    """Before the work the rows and the budget, after it what was spent and why listings were not asked."""
    file, progress = write_rows(tmp_path / "new.jsonl", 20, r3="Down 3", r5="Down 5"), Recorder()
    facts = price(FakeHybridPricer(), file, budget=5, progress=progress)
    assert progress.notes == ["20 listings to price. Budget: US$5.00 for answers of the API model."]
    assert read_notes(tmp_path / "prices.csv")[3] == DOWN
    assert describe_spending(facts["api"]) == [
        "The API model was asked about 18 listings; cost: US$0.28 of the budget of US$5.00.",
        "It could not be asked about 2 (localhost does not answer); these have the price of the model's other members, "
        "or none: see the column note.",
    ]


def test_without_a_budget_rows_are_not_counted_first(tmp_path: Path) -> None:
    """A note says that nothing limits the cost."""
    file, progress = write_rows(tmp_path / "new.jsonl", 20), Recorder()
    facts = price(FakeHybridPricer(), file, progress=progress)
    assert "without a budget" in progress.notes[0]
    assert (facts["api"]["asked"], facts["api"]["spent_usd"], facts["api"]["budget_usd"]) == (20, 20 * FEE, None)


def test_a_cost_that_is_unknown_is_not_0(tmp_path: Path) -> None:
    """One answer of unknown cost makes the sum unknown."""

    class Unpriced(FakeHybridPricer):
        def price(self, listings: Sequence[Listing]) -> list[Quote]:
            return [Quote(20.0, note=ASKED, cost_usd=None) for _ in listings]

    facts = price(Unpriced(), write_rows(tmp_path / "new.jsonl", 3))
    assert facts["api"]["spent_usd"] is None
    assert "cost: unknown" in describe_spending(facts["api"])[0]


@pytest.mark.parametrize(
    "note",
    [
        "not asked: no answer from localhost:80",
        "api-m was not asked: no answer from localhost:80: priced by best",
        "api-m was not asked: no answer from localhost:80; other gave no price",
    ],
)
def test_listings_that_were_not_asked_are_counted_by_reason(note: str, tmp_path: Path) -> None:
    """Whoever names the models in the note."""

    class Down(FakeHybridPricer):
        def price(self, listings: Sequence[Listing]) -> list[Quote]:
            return [Quote(20.0, note=note) for _ in listings]

    facts = price(Down(), write_rows(tmp_path / "new.jsonl", 3))
    assert (facts["api"]["asked"], facts["api"]["not_asked"]) == (0, {"no answer from localhost:80": 3})


def test_a_model_that_asks_nobody_has_no_spending(tmp_path: Path) -> None:
    """Nothing about an API model in its result."""
    assert "api" not in price(FakeHybridPricer(asks_api=False), write_rows(tmp_path / "new.jsonl", 3))


def test_an_interrupted_file_goes_on_with_what_is_left_of_its_budget(tmp_path: Path) -> None:
    """Finished parts keep their answers, and what the first process spent on the unfinished part counts too."""
    file = write_rows(tmp_path / "new.jsonl", 60)
    with pytest.raises(RuntimeError, match="killed"):
        price(FakeHybridPricer(fails_after=14), file, budget=30 * FEE)
    second, progress = FakeHybridPricer(), Recorder()
    facts = price(second, file, budget=30 * FEE, progress=progress)
    assert "40 listings to price (20 more are priced already)." in progress.notes[0]
    assert "US$0.22 are spent already" in progress.notes[0]
    assert second.asked == 16
    assert facts["api"]["spent_usd"] == pytest.approx(30 * FEE)
    assert facts["api"]["asked"] == 26  # the answers of the unfinished part were asked again
    assert not (tmp_path / "prices.csv.parts").exists()


def test_a_higher_budget_resumes_the_same_work(tmp_path: Path) -> None:
    """The budget is no part of what a file's parts must agree on."""
    file = write_rows(tmp_path / "new.jsonl", 20)
    with pytest.raises(RuntimeError):
        price(FakeHybridPricer(fails_after=2), file, budget=10 * FEE)
    facts = price(FakeHybridPricer(), file, budget=1.0)
    assert facts["api"]["asked"] == 20
    assert facts["api"]["spent_usd"] == pytest.approx(22 * FEE)


@pytest.mark.parametrize("answers", [0, 7, 33])
def test_killed_processes_and_the_last_one_stay_within_one_budget(answers: int, tmp_path: Path) -> None:
    """The request in flight at the kill counts, because it may have been charged."""
    file, out = write_rows(tmp_path / "new.jsonl", 60), tmp_path / "prices.csv"
    words = [sys.executable, "-c", KILLED, str(file), str(out), str(answers), json.dumps(INFO)]
    assert subprocess.run(words, check=False).returncode == 9
    paid = (answers + 1) * FEE
    assert read_record(tmp_path / "prices.csv.parts" / RECORD) == pytest.approx((paid, FEE))
    last = FakeHybridPricer()
    facts = price(last, file, budget=50 * FEE)
    assert paid + last.asked * FEE == 50 * FEE
    assert facts["api"]["spent_usd"] == pytest.approx(50 * FEE)
    assert "up to US$0.016 of it for replies that never arrived" in describe_spending(facts["api"])[0]


def test_a_kill_between_two_writes_of_the_record_leaves_a_whole_one(tmp_path: Path) -> None:
    """An empty record is that of a process that had sent nothing; a damaged one is an error with a way out."""
    assert read_record(tmp_path / RECORD) == (0.0, 0.0)
    (tmp_path / RECORD).write_text("")
    assert read_record(tmp_path / RECORD) == (0.0, 0.0)
    for text in ("0.1 0 oops", "0.1 0", "nan 0 0", "-1 0 0"):
        (tmp_path / RECORD).write_text(text)
        with pytest.raises(InputError, match="damaged") as error:
            read_record(tmp_path / RECORD)
        assert "Delete" in error.value.hint


def test_work_that_failed_before_it_cost_anything_leaves_nothing(tmp_path: Path) -> None:
    """Other settings are not refused then."""
    file = write_rows(tmp_path / "new.jsonl", 5)
    with pytest.raises(RuntimeError):
        price(FakeHybridPricer(fails_after=0), file, budget=10 * FEE)
    assert [path.name for path in tmp_path.iterdir()] == ["new.jsonl"]


def test_two_files_of_one_command_share_its_budget(tmp_path: Path) -> None:
    """What the first cost is not counted as the second's, and is not available to it."""
    files = [write_rows(tmp_path / f"{name}.jsonl", 10) for name in ("a", "b")]
    with ApiSettings(budget=15 * FEE, fallback=True) as settings:
        first, second = (
            price_file(FakeHybridPricer(), INFO, file, file.with_suffix(".csv"), identity="a") for file in files
        )
        assert settings.shared_budget.spent == pytest.approx(15 * FEE)
    assert (first["api"]["asked"], second["api"]["asked"]) == (10, 5)
    assert second["api"]["spent_usd"] == pytest.approx(5 * FEE)
