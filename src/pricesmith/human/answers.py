"""A person's answers: a CSV file that `human:FILE.csv` reads, one row written and synced per answer.

    id,price,currency,seconds,answer
    b3872c4baa7b,149.99,USD,12.4,price
    8a8dfaf7eb18,,USD,3.1,skip

`seconds` run from the moment the listing was shown. The last column is one of two words, so that a row that a kill
truncated is recognized. FILE.csv.quiz.json describes the quiz and says whether it has ended.
"""

from __future__ import annotations

import csv
import io
import json
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from pricesmith.core.atomic import describe_difference, file_lock, find_output, read_json, sync_folder, write_json
from pricesmith.core.errors import InputError, UsageError

COLUMNS = ("id", "price", "currency", "seconds", "answer")
PRICED, SKIPPED = "price", "skip"
QUIZ_SUFFIX = ".quiz.json"


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
