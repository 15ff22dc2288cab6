"""A person's answers: a CSV file that `human:FILE.csv` reads, one row written and synced as each answer is given.

    id,price,currency,seconds,answer
    b3872c4baa7b,149.99,USD,12.4,price
    8a8dfaf7eb18,,USD,3.1,skip

`seconds` are from the moment the listing was shown. The last column is one of two words, so that a row which a kill cut
off can be told from a whole one. FILE.csv.quiz.json beside it says which quiz it answers, and whether it has ended.
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
BESIDE = ".quiz.json"


@dataclass(frozen=True)
class QuizAnswer:
    """What a person said to a listing; `price` is None where it was skipped."""

    id: str
    price: float | None
    seconds: float


class AnswerSheet:
    """An opened sheet. `answers` are by id, in the order of the file."""

    def __init__(self, path: Path, handle: BinaryIO, quiz: Mapping[str, Any], ids: Sequence[str], currency: str):
        self.path, self.handle, self.quiz, self.currency = path, handle, dict(quiz), currency
        self.answers = {answer.id: answer for answer in read_rows(path, handle, set(ids))}
        self.ends: list[int] = []  # where the file ended before each answer of this sitting

    @property
    def ended(self) -> bool:
        """Whether the truth has been shown: then no answer is taken any more."""
        return bool(self.quiz["ended"])

    def add(self, answer: QuizAnswer) -> None:
        """Write an answer; when this returns, it is on the disk."""
        said = SKIPPED if answer.price is None else PRICED
        price = "" if answer.price is None else repr(answer.price).removesuffix(".0")
        self.ends.append(self.handle.seek(0, os.SEEK_END))
        write_header(self.handle, (answer.id, price, self.currency, f"{answer.seconds:.1f}", said))
        self.answers[answer.id] = answer

    def take_back(self) -> bool:
        """Take back the last answer of this sitting; False where there is none."""
        if not self.ends:
            return False
        self.handle.truncate(self.ends.pop())
        os.fsync(self.handle.fileno())
        self.answers.popitem()
        return True

    def end(self) -> None:
        """Say that the quiz has ended; written before any truth is shown."""
        self.quiz["ended"] = True
        write_json(companion_path(self.path), self.quiz)


def companion_path(path: Path) -> Path:
    """The file that says which quiz a sheet answers."""
    return path.with_name(f"{path.name}{BESIDE}")


@contextmanager
def open_sheet(path: Path, settings: Mapping[str, Any], ids: Sequence[str], currency: str) -> Iterator[AnswerSheet]:
    """The sheet of a quiz, new or to be gone on with; nobody else can write it meanwhile.

    Raises UsageError where the file is something else, answers another quiz, or is open already; InputError where it is
    damaged.
    """
    if path.suffix.lower() != ".csv":
        raise UsageError("The answers go into a .csv file", got=str(path), hint=f"Use --to {path.with_suffix('.csv')}")
    quiz = claim_sheet(path, {**settings, "currency": currency})
    held = f"{path} is being answered by another process"
    with file_lock(path.with_name(f".{path.name}.lock"), held), find_output(path).open("a+b") as handle:
        check_header(path, handle)  # before mending: a file that somebody put there is not to be touched
        repair_last_line(handle)
        if not handle.seek(0, os.SEEK_END):
            write_header(handle, COLUMNS)
            sync_folder(path.parent)
        yield AnswerSheet(path, handle, quiz, ids, currency)


def claim_sheet(path: Path, settings: Mapping[str, Any]) -> dict[str, Any]:
    """What stands beside the sheet; written where the sheet is new."""
    place = companion_path(path)
    if place.exists():
        old = read_json(place, hint=f"The answers in {path} are judged by human:{path}; ask on in another file.")
        if not isinstance(old, dict) or not isinstance(old.get("quiz"), dict) or "ended" not in old:
            raise InputError(f"{place} does not describe a quiz", hint="Choose another file with --to.")
        if old["quiz"] != settings:
            raise UsageError(
                f"{path} answers another quiz",
                got=describe_difference(old["quiz"], settings),
                hint="Use the settings it was begun with, or choose another file with --to.",
            )
        return old
    if path.exists():
        raise UsageError(
            f"{path} exists and is not a quiz that was begun here",
            got=f"no {place.name} beside it",
            hint="Choose a path that does not exist yet.",
        )
    path.parent.mkdir(parents=True, exist_ok=True)
    begun = {"quiz": json.loads(json.dumps(settings)), "ended": False}
    write_json(place, begun)
    return begun


def write_header(handle: BinaryIO, values: Sequence[str]) -> None:
    """One row at the end of the file, synced."""
    line = io.StringIO()
    csv.writer(line, lineterminator="\n").writerow(values)
    handle.write(line.getvalue().encode("utf-8", "surrogatepass"))
    handle.flush()
    os.fsync(handle.fileno())


def check_header(path: Path, handle: BinaryIO) -> None:
    """Raises InputError if a file with a whole first line is not a sheet of answers."""
    handle.seek(0)
    first = handle.readline()
    if first.endswith(b"\n") and tuple(first.decode("utf-8-sig", "replace").strip().split(",")) != COLUMNS:
        raise damaged_error(path, 1, first.decode("utf-8", "replace").strip())
    if first and not first.endswith(b"\n") and not ",".join(COLUMNS).encode().startswith(first):
        raise damaged_error(path, 1, first.decode("utf-8", "replace"))


def repair_last_line(handle: BinaryIO) -> None:
    """Take out a last row that a kill cut off: it was not yet an answer. End the last line where an editor did not."""
    handle.seek(0)
    data = handle.read()
    kept = data.rfind(b"\n") + 1
    if kept == len(data):
        return
    if data[kept:].rpartition(b",")[2].decode("utf-8", "replace") in (PRICED, SKIPPED):
        handle.write(b"\n")
        handle.flush()
    else:
        handle.truncate(kept)
    os.fsync(handle.fileno())


def read_rows(path: Path, handle: BinaryIO, ids: set[str]) -> list[QuizAnswer]:
    """The answers of a sheet. Raises InputError where a row is not of this quiz; somebody has then edited the file."""
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
    """A row as an answer; None where it is none."""
    if len(row) != len(COLUMNS) or row[-1] not in (PRICED, SKIPPED):
        return None
    id, price, _, seconds, said = row
    try:
        answer = QuizAnswer(id, float(price) if said == PRICED else None, float(seconds))
    except ValueError:
        return None
    sound = all(math.isfinite(value) and value >= 0 for value in (answer.price or 0.0, answer.seconds))
    return answer if sound and answer.price != 0 and (said == PRICED or not price) else None


def damaged_error(path: Path, number: int, got: str) -> InputError:
    """The error for a row that this quiz did not write."""
    return InputError(
        f"{path}, row {number} is not an answer to this quiz",
        got=got[:100],
        allowed=f"the columns {', '.join(COLUMNS)}, and each listing of the quiz at most once",
        hint="Undo the change, or judge the file as it is: pricesmith eval human:FILE.csv",
    )
