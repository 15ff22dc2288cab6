"""A person's answers: the file of a quiz, and the person's result among the pricers.

The file is a CSV file that `human:FILE.csv` reads, one row written and synced per answer:

    id,price,currency,seconds,answer
    b3872c4baa7b,149.99,USD,12.4,price
    8a8dfaf7eb18,,USD,3.1,skip

`seconds` run from the moment the listing was shown. The last column is one of two words, so that a row that a kill
truncated is recognized. FILE.csv.quiz.json describes the quiz and says whether it has ended.

The result is the leaderboard on the answered listings, with paired differences to each pricer. The answers are read by
the code that reads `pricesmith eval human:FILE.csv`. A skipped listing is unanswered and is charged at the median's
quote, as for every pricer. The median of each category is always one of the pricers.
"""

from __future__ import annotations

import csv
import io
import json
import math
import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO

from pricesmith.candidates import candidate_name
from pricesmith.catalog.catalog import Catalog
from pricesmith.core.atomic import describe_difference, file_lock, find_output, read_json, sync_folder, write_json
from pricesmith.core.errors import InputError, UsageError
from pricesmith.core.types import EvalRow, Evaluation, Item, Quote
from pricesmith.evaluation.compare import Difference, compare_simultaneously
from pricesmith.evaluation.evaluate import evaluate, select_ids, to_arrays
from pricesmith.evaluation.folds import EvalPlan
from pricesmith.evaluation.leaderboard import LeaderboardRow, build_leaderboard
from pricesmith.evaluation.results import EvalItem, Evals, read_evals
from pricesmith.pricers import recipe_class
from pricesmith.pricers.precomputed import PrecomputedPricer, read_prices
from pricesmith.text.formatting import (
    format_amount_interval,
    format_count,
    format_estimate,
    format_money,
    format_range,
    to_single_line,
)

COLUMNS = ("id", "price", "currency", "seconds", "answer")
PRICED, SKIPPED = "price", "skip"
QUIZ_SUFFIX = ".quiz.json"
MEDIAN = "median"
N_EXAMPLES = 5
MAX_NAME_WIDTH = 24


@dataclass(frozen=True)
class QuizAnswer:
    """A person's answer for a listing; `price` is None if it was skipped."""

    id: str
    price: float | None
    seconds: float


class AnswerFile:
    """An open file of answers. `answers` are by id, in the order of the file."""

    def __init__(self, path: Path, handle: BinaryIO, quiz: Mapping[str, Any], ids: Sequence[str], currency: str):
        self.path, self.handle, self.quiz, self.currency = path, handle, dict(quiz), currency
        self.answers = {answer.id: answer for answer in read_answers(path, handle, set(ids))}
        self.row_starts: list[int] = []  # file position of each answer of this session

    @property
    def ended(self) -> bool:
        """Whether the true prices have been shown; then no answer is accepted any more."""
        return bool(self.quiz["ended"])

    def add(self, answer: QuizAnswer) -> None:
        """Write an answer; it is on disk when this returns."""
        kind = SKIPPED if answer.price is None else PRICED
        price = "" if answer.price is None else repr(answer.price).removesuffix(".0")
        self.row_starts.append(self.handle.seek(0, os.SEEK_END))
        write_row(self.handle, (answer.id, price, self.currency, f"{answer.seconds:.1f}", kind))
        self.answers[answer.id] = answer

    def undo(self) -> bool:
        """Remove the last answer of this session; returns False if there is none."""
        if not self.row_starts:
            return False
        self.handle.truncate(self.row_starts.pop())
        os.fsync(self.handle.fileno())
        self.answers.popitem()
        return True

    def end(self) -> None:
        """Record that the quiz has ended, before any true price is shown."""
        self.quiz["ended"] = True
        write_json(quiz_path(self.path), self.quiz)


def quiz_path(path: Path) -> Path:
    """Return the path of the file that describes the quiz of an answer file."""
    return path.with_name(f"{path.name}{QUIZ_SUFFIX}")


@contextmanager
def open_answers(path: Path, settings: Mapping[str, Any], ids: Sequence[str], currency: str) -> Iterator[AnswerFile]:
    """Open the answer file of a quiz, new or to be continued, locked against other processes.

    Raises UsageError if the file is something else, belongs to another quiz, or is already open; InputError if it is
    damaged.
    """
    if path.suffix.lower() != ".csv":
        raise UsageError("Answers go into a .csv file", got=str(path), hint=f"Use --to {path.with_suffix('.csv')}")
    quiz = claim_file(path, {**settings, "currency": currency})
    message = f"{path} is being answered by another process"
    with file_lock(path.with_name(f".{path.name}.lock"), message), find_output(path).open("a+b") as handle:
        check_header(path, handle)  # before the repair: a file that somebody else put there stays as it is
        repair_last_line(handle)
        if not handle.seek(0, os.SEEK_END):
            write_row(handle, COLUMNS)
            sync_folder(path.parent)
        yield AnswerFile(path, handle, quiz, ids, currency)


def claim_file(path: Path, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return the description of the quiz; written if the answer file is new."""
    description = quiz_path(path)
    if description.exists():
        hint = f"Evaluate the answers as they are with human:{path}, and answer in another file."
        quiz = read_json(description, hint=hint)
        if not isinstance(quiz, dict) or not isinstance(quiz.get("quiz"), dict) or "ended" not in quiz:
            raise InputError(f"{description} does not describe a quiz", hint="Choose another file with --to.")
        if quiz["quiz"] != settings:
            raise UsageError(
                f"{path} belongs to another quiz",
                got=describe_difference(quiz["quiz"], settings),
                hint="Use the settings that it was started with, or choose another file with --to.",
            )
        return quiz
    if path.exists():
        raise UsageError(
            f"{path} exists and was not written by `pricesmith quiz`",
            got=f"no {description.name} beside it",
            hint="Choose a path that does not exist yet.",
        )
    path.parent.mkdir(parents=True, exist_ok=True)
    quiz = {"quiz": json.loads(json.dumps(settings)), "ended": False}
    write_json(description, quiz)
    return quiz


def write_row(handle: BinaryIO, values: Sequence[str]) -> None:
    """Append one row to the file and sync it."""
    line = io.StringIO()
    csv.writer(line, lineterminator="\n").writerow(values)
    handle.write(line.getvalue().encode("utf-8", "surrogatepass"))
    handle.flush()
    os.fsync(handle.fileno())


def check_header(path: Path, handle: BinaryIO) -> None:
    """Raise InputError if the first line is not the header of an answer file, or a truncated one."""
    handle.seek(0)
    first = handle.readline()
    if first.endswith(b"\n") and tuple(first.decode("utf-8-sig", "replace").strip().split(",")) != COLUMNS:
        raise damaged_error(path, 1, first.decode("utf-8", "replace").strip())
    if first and not first.endswith(b"\n") and not ",".join(COLUMNS).encode().startswith(first):
        raise damaged_error(path, 1, first.decode("utf-8", "replace"))


def repair_last_line(handle: BinaryIO) -> None:
    """Remove a last row that a kill truncated, or add the newline that an editor left out."""
    handle.seek(0)
    data = handle.read()
    complete = data.rfind(b"\n") + 1
    if complete == len(data):
        return
    if data[complete:].rpartition(b",")[2].decode("utf-8", "replace") in (PRICED, SKIPPED):
        handle.write(b"\n")
        handle.flush()
    else:
        handle.truncate(complete)
    os.fsync(handle.fileno())


def read_answers(path: Path, handle: BinaryIO, ids: set[str]) -> list[QuizAnswer]:
    """Return the answers of a file. Raises InputError if a row is not of this quiz because somebody edited the file."""
    handle.seek(0)
    text = handle.read().decode("utf-8-sig", "surrogateescape")
    header, *rows = csv.reader(text.splitlines())
    if tuple(header) != COLUMNS:
        raise damaged_error(path, 1, ",".join(header))
    answers: dict[str, QuizAnswer] = {}
    for number, row in enumerate(rows, 2):
        answer = parse_answer(row)
        if answer is None or answer.id not in ids or answer.id in answers:
            raise damaged_error(path, number, ",".join(row))
        answers[answer.id] = answer
    return list(answers.values())


def parse_answer(row: Sequence[str]) -> QuizAnswer | None:
    """Return a row as an answer, None if it is invalid."""
    if len(row) != len(COLUMNS) or row[-1] not in (PRICED, SKIPPED):
        return None
    id, price, _, seconds, kind = row
    try:
        answer = QuizAnswer(id, float(price) if kind == PRICED else None, float(seconds))
    except ValueError:
        return None
    valid = all(math.isfinite(value) and value >= 0 for value in (answer.price or 0.0, answer.seconds))
    return answer if valid and answer.price != 0 and (kind == PRICED or not price) else None


def damaged_error(path: Path, number: int, got: str) -> InputError:
    """The error for a row that this quiz did not write."""
    return InputError(
        f"{path}, row {number} is not an answer to this quiz",
        got=got[:100],
        allowed=f"the columns {', '.join(COLUMNS)}, and each listing of the quiz at most once",
        hint=f"Undo the change, or evaluate the file as it is: pricesmith eval human:{path} --catalog C --to EVALS",
    )


@dataclass(frozen=True)
class HumanResult:
    """A person's result: the leaderboard of the pricers evaluated on all answered items, and paired differences.

    A difference's `a` is the person, so above 0 the person has the higher MAE. `without` names pricers evaluated on
    none of the items.
    """

    person: str
    rows: list[LeaderboardRow]
    pairs: list[Difference]
    without: list[str]
    evaluation: Evaluation
    titles: Mapping[str, str]


def list_competitors(against: Path, catalog: Catalog, items: Sequence[Item]) -> list[tuple[Evaluation, str]]:
    """Return the evaluations of a folder, each with its kind.

    Raises UsageError, before anything is asked, if they are of another catalog or of none of the items.
    """
    evals = read_evals(against)
    ids = {item.listing.id for item in items}
    competitors = [(evaluation, str(evals.meta[evaluation.pricer].get("kind", ""))) for evaluation in evals.evaluations]
    for evaluation, _ in competitors:
        if evaluation.catalog != catalog.fingerprint:
            raise UsageError(
                f"{against} evaluates pricers on another catalog",
                got=f"fingerprint {evaluation.catalog[:16]}",
                allowed=f"{catalog.fingerprint[:16]}, the fingerprint of {catalog.name}",
                hint="Name an evals folder of this catalog.",
            )
    if competitors and not any(row.id in ids for evaluation, _ in competitors for row in evaluation.rows):
        raise UsageError(
            f"No pricer in {against} was evaluated on a listing of this quiz",
            got=f"the split {evals.about.get('split')}",
            hint=f"pricesmith eval MODEL --catalog {catalog.path} --to EVALS",
        )
    return competitors


def build_human_result(
    path: Path,
    answers: Mapping[str, QuizAnswer],
    plan: EvalPlan,
    catalog: Catalog,
    competitors: Sequence[tuple[Evaluation, str]],
) -> HumanResult:
    """Return the result of the person who wrote the answer file `path`."""
    name = candidate_name(f"human:{path}")
    items = [item for fold in plan.folds for item in fold.items if item.listing.id in answers]
    # Nobody knows what a person's time costs.
    quotes = {id: replace(quote, cost_usd=None) for id, quote in read_prices(path, catalog.currency).items()}
    person = evaluate_answers(PrecomputedPricer(quotes, name), items, plan, catalog)
    rows = tuple(replace(row, seconds=answers[row.id].seconds) for row in person.rows)
    person = replace(person, pricer=name, rows=rows)
    medians = PrecomputedPricer(median_quotes(plan, catalog, items), MEDIAN)
    others = [
        (select_common(evaluation, person), kind)
        for evaluation, kind in competitors
        if evaluation.pricer not in (name, MEDIAN) and kind != MEDIAN
    ]
    compared = [(evaluate_answers(medians, items, plan, catalog), MEDIAN)]
    compared += [(evaluation, kind) for evaluation, kind in others if evaluation.rows]
    differences = compare_simultaneously([(person, evaluation) for evaluation, _ in compared])
    meta = {evaluation.pricer: {"kind": kind} for evaluation, kind in compared} | {name: {"kind": "human"}}
    shown_items = {
        item.listing.id: EvalItem(item.listing.id, item.listing.title, item.listing.category, item.price)
        for item in items
    }
    leaderboard = build_leaderboard(
        Evals(path, shown_items, (person, *(evaluation for evaluation, _ in compared)), meta, {})
    )
    group = next(row.group for row in leaderboard if row.name == name)
    return HumanResult(
        name,
        [row for row in leaderboard if row.group == group],
        [pair for pair in differences if pair is not None],
        [evaluation.pricer for evaluation, _ in others if not evaluation.rows],
        person,
        {item.listing.id: item.listing.title or item.listing.text for item in items},
    )


def evaluate_answers(pricer: PrecomputedPricer, items: Sequence[Item], plan: EvalPlan, catalog: Catalog) -> Evaluation:
    """Return the evaluation of a pricer on the answered items, by the rules of `eval`."""
    return evaluate(
        pricer,
        items,
        catalog=catalog.fingerprint,
        median=plan.median,
        currency=catalog.currency,
        price_range=catalog.price_range,
        groups=plan.groups,
    )


def median_quotes(plan: EvalPlan, catalog: Catalog, items: Sequence[Item]) -> dict[str, Quote]:
    """Return the quote of the median recipe for each item, by id; in folds it is fitted on the other folds."""
    ids = {item.listing.id for item in items}
    quotes: dict[str, Quote] = {}
    for fold in plan.folds:
        listings = [item.listing for item in fold.items if item.listing.id in ids]
        recipe = recipe_class(MEDIAN)()
        with tempfile.TemporaryDirectory(prefix="pricesmith-") as folder:
            recipe.fit(fold.train if plan.folded else catalog.items("train"), [], Path(folder))
            prices = recipe.load(Path(folder)).price(listings)
        quotes.update(zip((listing.id for listing in listings), prices, strict=True))
    return quotes


def select_common(evaluation: Evaluation, person: Evaluation) -> Evaluation:
    """Return an evaluation on those of the person's items that it has, in the person's order."""
    ids = {row.id for row in evaluation.rows}
    return select_ids(evaluation, [row.id for row in person.rows if row.id in ids])


def format_result(result: HumanResult, currency: str, seconds: float | None) -> list[Any]:
    """Return the result for a terminal: leaderboard, one sentence per pair, the best and the worst answers.

    `seconds` is the median time per answer, None if unknown.
    """
    from rich import box
    from rich.table import Table
    from rich.text import Text

    person = next(row for row in result.rows if row.name == result.person)
    pace = f", {seconds:,.0f} seconds per answer" if seconds is not None else ""
    table = Table(
        box=box.SIMPLE_HEAD,
        title=f"{format_count(person.n, 'listing')}, {person.n_unanswered:,} skipped{pace}",
        title_justify="left",
    )
    for name in ("", "pricer"):
        table.add_column(name, no_wrap=True)
    for name in ("MAE [95 % CI]", "median error", "within 20 %"):
        table.add_column(name, justify="right", no_wrap=True)
    for row in result.rows:
        style = "bold" if row.name == result.person else ""
        errors = (format_amount_interval(row.mae, currency), format_money(row.median_error, currency))
        table.add_row(row.rank_range, Text(shorten(row.name)), *errors, f"{row.within_20:.0%}", style=style)
    lines: list[Any] = [table, *(format_difference(pair, currency) for pair in result.pairs)]
    if len(result.pairs) > 1:
        lines.append(
            "These are simultaneous 95 % confidence intervals. "
            "A rank such as 1–2 is the range that pairwise tests leave open."
        )
    if result.without:
        lines.append(f"Evaluated on none of these listings: {', '.join(map(shorten, result.without))}.")
    return [*lines, "", *format_answers(result, currency)]


def shorten(name: str) -> str:
    """Return a pricer's name on one line of bounded width."""
    return to_single_line(name, MAX_NAME_WIDTH)


def format_difference(pair: Difference, currency: str) -> str:
    """Return one pair as a sentence: whose MAE is lower and by how much, or the sample size needed."""
    other, gap = shorten(pair.b), format_money(abs(pair.difference), currency)
    on = f" on {format_count(pair.n, 'common listing')}"
    if pair.low is None or pair.high is None:
        return f"You and {other}{on}: too few for an interval."
    if pair.is_significant:
        low, high = sorted(abs(bound) for bound in (pair.low, pair.high))
        direction = "lower" if pair.better == pair.a else "higher"
        return f"Your MAE is {gap} [{format_range(low, high, currency)}] {direction} than the MAE of {other}{on}."
    needed = f"; about {format_estimate(pair.n_needed)} would be needed" if pair.n_needed else ""
    interval = format_range(pair.low, pair.high, currency)
    return f"You and {other}: no significant difference{on} ({interval}){needed}."


def format_answers(result: HumanResult, currency: str) -> list[str]:
    """Return the answers with the smallest and the largest errors, with the true prices."""
    answered = [row for row in result.evaluation.rows if row.price is not None]
    ordered = sorted(answered, key=lambda row: (abs((row.price or 0.0) - row.truth), row.id))
    count = min(N_EXAMPLES, (len(ordered) + 1) // 2)
    parts = (("Best", ordered[:count]), ("Worst", ordered[::-1][: min(count, len(ordered) - count)]))
    lines = []
    for title, rows in parts:
        if rows:
            lines.append(f"{title} answers:")
            lines += [format_answer(row, result.titles[row.id], currency) for row in rows]
    return lines


def format_answer(row: EvalRow, title: str, currency: str) -> str:
    """Return one answer with the true price and the title."""
    prices = f"you {format_money(row.price or 0.0, currency)}, price {format_money(row.truth, currency)}"
    return f"  {prices:<40} {to_single_line(title, 60)}"


def result_dict(result: HumanResult) -> dict[str, Any]:
    """Return the result as plain values for JSON."""
    rows = {row.id: asdict(row) for row in result.evaluation.rows}
    data = to_arrays(result.evaluation)
    errors = dict(zip(data.ids, data.error.tolist(), strict=True))
    return {
        "person": result.person,
        "leaderboard": [asdict(row) for row in result.rows],
        "differences": [asdict(pair) for pair in result.pairs],
        "without_common_items": result.without,
        "answers": [{**rows[id], "title": result.titles[id], "error": errors[id]} for id in data.ids],
    }
