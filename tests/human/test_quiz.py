"""The quiz through a pipe: its items, saved answers, resuming, refusals and the person's result."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from itertools import groupby
from pathlib import Path

import pytest

from pricesmith.candidates import run_candidates
from pricesmith.catalog.catalog import Catalog, open_catalog
from pricesmith.core.errors import InputError, UsageError
from pricesmith.evaluation.folds import build_plan, limit_items
from pricesmith.human.answers import COLUMNS, QuizAnswer, open_answers
from pricesmith.human.quiz import quiz_items, run_quiz
from pricesmith.testing import make_catalog
from pricesmith.text.formatting import format_money

Piped = Callable[..., int]


def rows(sheet: Path) -> list[dict[str, str]]:
    with sheet.open(newline="") as handle:
        return list(csv.DictReader(handle))


@pytest.mark.parametrize("n", [1, 7, 40])
def test_the_quiz_asks_for_the_items_of_limit(shop: Catalog, n: int) -> None:
    """The first n of a person are those of `eval --limit n`, group by group; a shorter quiz begins a longer one."""
    plan = build_plan(shop, "test")
    asked = [item.listing.id for item in quiz_items(plan, n, 0)]
    evaluated = {item.listing.id for fold in limit_items(plan, n).folds for item in fold.items}
    assert set(asked) == evaluated
    assert asked == [item.listing.id for item in quiz_items(plan, n + 5, 0)][:n]
    groups = [plan.groups[id] for id in asked]
    runs = [group for group, _ in groupby(groups)]
    assert len(runs) == len(set(runs))


def test_another_seed_asks_for_other_listings(shop: Catalog) -> None:
    """The same seed gives the same listings, another seed gives others."""
    plan = build_plan(shop, "test")
    assert quiz_items(plan, 30, 1) == quiz_items(plan, 30, 1)
    assert quiz_items(plan, 30, 1) != quiz_items(plan, 30, 0)


def test_a_small_catalog_asks_from_all_rows(tmp_path: Path) -> None:
    """Under 2,000 rows eval evaluates every row in folds; a person gets the same rows and a rank on them."""
    shop = open_catalog(make_catalog(tmp_path / "small", 500))
    assert len(quiz_items(build_plan(shop, "test"), 500, 0)) == 500


def test_a_person_is_evaluated_as_eval_does_with_the_file(folder: Path, tmp_path: Path, piped: Piped, capfd) -> None:
    """The quiz's result and `eval human:FILE.csv --limit n` agree on the same answers, skips included."""
    sheet = tmp_path / "her.csv"
    lines = ["$1,250.00", "95", "s", "12,50", "80"] * 4
    words = ("quiz", folder / "shop", "--n", 20, "--to", sheet, "--against", folder / "evals", "--json")
    assert piped(lines, *words) == 0
    output = json.loads(capfd.readouterr().out)
    assert (output["answered"], output["skipped"], output["left"], output["ended"]) == (16, 4, 0, True)
    evals = run_candidates([f"human:{sheet}"], open_catalog(folder / "shop"), tmp_path / "evals", limit=20)
    (evaluated,) = evals.evaluations
    answers = {answer["id"]: answer for answer in output["result"]["answers"]}
    assert {row.id: (row.truth, row.price) for row in evaluated.rows} == {
        id: (answer["truth"], answer["price"]) for id, answer in answers.items()
    }
    assert [row["price"] for row in rows(sheet)[:5]] == ["1250", "95", "", "12.5", "80"]
    names = {row["name"] for row in output["result"]["leaderboard"]}
    assert names == {"human:her", "median", "ridge"}
    pairs = {pair["b"]: pair for pair in output["result"]["differences"]}
    assert pairs["ridge"]["is_significant"] is True
    assert pairs["ridge"]["better"] == "ridge"
    assert pairs["ridge"]["n"] == 20


def test_no_true_price_is_shown_early(folder: Path, shop: Catalog, tmp_path: Path, piped: Piped, capfd) -> None:
    """Neither the output nor the saved files hold a true price until every listing is answered."""
    items = quiz_items(build_plan(shop, "test"), 12, 0)
    truths = {format_money(item.price, "USD") for item in items} | {f"{item.price:.2f}" for item in items}
    assert piped(["7"] * 11, "quiz", folder / "shop", "--n", 12, "--to", tmp_path / "her.csv") == 0
    out, err = capfd.readouterr()
    saved = "".join(path.read_text() for path in tmp_path.iterdir())
    assert not [truth for truth in truths if truth in out + err + saved]
    assert "11 answered, 0 skipped, 1 left" in out
    assert piped(["7"] * 12, "quiz", folder / "shop", "--n", 12, "--to", tmp_path / "her.csv") == 0
    shown = capfd.readouterr().out
    assert [truth for truth in truths if truth in shown]


def test_the_same_lines_continue_and_other_lines_are_refused(folder: Path, tmp_path: Path, piped: Piped, capfd) -> None:
    """In a pipe the same command means the same lines: those of answered listings are held against the sheet."""
    words = ("quiz", folder / "shop", "--n", 6, "--to", tmp_path / "her.csv", "--quiet")
    assert piped(["10", "20", "s"], *words) == 0
    assert piped(["10", "21", "s", "30", "40", "50"], *words) == 1
    assert "Line 2 of the answers differs from the answer in" in capfd.readouterr().err
    assert piped(["10", "20", "s", "30", "40", "50"], *words) == 0
    assert [row["price"] for row in rows(tmp_path / "her.csv")] == ["10", "20", "", "30", "40", "50"]
    assert capfd.readouterr().out == ""


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("ten", "price is not a number"),
        ("10-20", "price is a range"),
        ("", "nothing was typed"),
        ("0", "price is zero"),
        ("-5", "price is negative"),
        ("€10", "price is in EUR; this catalog is in USD"),
        ("$1.299", "price is ambiguous"),
        ("1.299", "price is ambiguous"),
        ("99999", "is outside of this catalog's"),
        ("b", "this command works in a terminal only"),
    ],
)
def test_a_line_that_is_not_a_price_ends_a_pipe(folder, tmp_path, piped: Piped, capfd, line: str, message: str) -> None:
    """A pipe cannot be asked again: earlier answers are kept, and the error names the line and the reason."""
    words = ("quiz", folder / "shop", "--n", 5, "--to", tmp_path / "her.csv")
    assert piped(["10", line, "30"], *words) == 1
    err = capfd.readouterr().err
    assert message in err
    assert "Line 2" in err
    assert [row["price"] for row in rows(tmp_path / "her.csv")] == ["10"]


def test_an_end_before_the_beginning_and_a_damaged_quiz_say_what_to_do(folder, tmp_path, piped: Piped, capfd) -> None:
    """The first command has no --end; answers of an unreadable quiz can be evaluated as a file."""
    words = ("quiz", folder / "shop", "--n", 5, "--to", tmp_path / "her.csv")
    assert piped([], *words, "--end") == 0
    assert "run the same command without --end to start" in capfd.readouterr().out
    (tmp_path / "her.csv.quiz.json").write_text("{")
    assert piped(["10"], *words) == 1
    assert f"human:{tmp_path / 'her.csv'}" in capfd.readouterr().err


@pytest.mark.parametrize(
    ("more", "message"), [(["--n", 6], "n: 5 -> 6"), (["--n", 5, "--seed", 3], "seed: 0 -> 3")], ids=["n", "seed"]
)
def test_another_quiz_is_refused_with_the_difference(folder, tmp_path, piped: Piped, capfd, more, message: str) -> None:
    """A sheet answers one quiz."""
    assert piped(["10"], "quiz", folder / "shop", "--n", 5, "--to", tmp_path / "her.csv", "--quiet") == 0
    assert piped(["10"], "quiz", folder / "shop", "--to", tmp_path / "her.csv", *more) == 2
    assert message in capfd.readouterr().err


def test_another_catalog_is_refused(folder: Path, tmp_path: Path, piped: Piped, capfd) -> None:
    """Answers of one catalog are not continued with another, nor compared with pricers of another."""
    other = make_catalog(tmp_path / "other", 2100, seed=5)
    assert piped(["10"], "quiz", folder / "shop", "--n", 5, "--to", tmp_path / "her.csv", "--quiet") == 0
    assert piped(["10"], "quiz", other, "--n", 5, "--to", tmp_path / "her.csv") == 2
    assert "catalog: " in capfd.readouterr().err
    assert piped(["10"], "quiz", other, "--n", 5, "--to", tmp_path / "x.csv", "--against", folder / "evals") == 2
    assert "another catalog" in capfd.readouterr().err
    assert not (tmp_path / "x.csv").exists()


def test_an_early_end_shows_the_result_and_takes_no_more_answers(folder, tmp_path, piped: Piped, capfd) -> None:
    """After the truth was shown nothing can be answered; the same command shows the result again."""
    words = ("quiz", folder / "shop", "--n", 9, "--to", tmp_path / "her.csv", "--json")
    assert piped(["10"] * 6, *words) == 0
    assert json.loads(capfd.readouterr().out)["result"] is None
    assert piped([], *words, "--end") == 0
    ended = json.loads(capfd.readouterr().out)
    assert ended["result"]["leaderboard"][0]["n"] == 6
    assert piped(["10"] * 9, *words) == 0
    again = json.loads(capfd.readouterr().out)
    assert (again["answered"], again["left"], again["ended"]) == (6, 3, True)


@pytest.mark.parametrize("n", [0, -1, 100_000])
def test_a_number_of_listings_that_is_none_is_refused(shop: Catalog, tmp_path: Path, n: int) -> None:
    """The split has a limited number of listings."""
    with pytest.raises(UsageError, match="--n must be 1 to"):
        run_quiz(shop, tmp_path / "her.csv", n=n)


def test_a_foreign_file_is_never_written_to(folder: Path, tmp_path: Path, piped: Piped, capfd) -> None:
    """A file that no quiz wrote, or that is not a .csv file, is unchanged."""
    (tmp_path / "mine.csv").write_text("id,price\n1,2\n")
    assert piped(["10"], "quiz", folder / "shop", "--n", 5, "--to", tmp_path / "mine.csv") == 2
    assert "was not written by `pricesmith quiz`" in capfd.readouterr().err
    assert (tmp_path / "mine.csv").read_text() == "id,price\n1,2\n"
    assert piped(["10"], "quiz", folder / "shop", "--n", 5, "--to", tmp_path / "mine.txt") == 2
    assert ".csv file" in capfd.readouterr().err


SETTINGS = {"catalog": "c", "n": 3}
IDS = ["a", 'b,"c', "é"]


@pytest.mark.parametrize("cut", range(1, 14))
def test_a_row_that_a_kill_cut_off_is_no_answer(tmp_path: Path, cut: int) -> None:
    """A half-written last row is dropped, earlier rows are kept, and the listing is asked again."""
    sheet = tmp_path / "her.csv"
    with open_answers(sheet, SETTINGS, IDS, "USD") as file:
        file.add(QuizAnswer(IDS[1], 12.5, 3.2))
        file.add(QuizAnswer(IDS[2], None, 1.0))
    sheet.write_bytes(sheet.read_bytes()[:-cut])
    with open_answers(sheet, SETTINGS, IDS, "USD") as file:
        whole = cut == 1  # only the line's end is missing
        assert list(file.answers) == (IDS[1:] if whole else [IDS[1]])
        file.add(QuizAnswer(IDS[0], 7.0, 1.0))
    with open_answers(sheet, SETTINGS, IDS, "USD") as file:
        assert file.answers[IDS[1]] == QuizAnswer(IDS[1], 12.5, 3.2)
        assert file.answers[IDS[0]].price == 7.0


@pytest.mark.parametrize(
    "row", ["z,1,USD,1,price", "a,1,USD,1", "a,x,USD,1,price", "a,5,USD,1,skip", "a,0,USD,1,price"]
)
def test_a_row_that_somebody_changed_is_refused(tmp_path: Path, row: str) -> None:
    """A sheet with rows that the quiz did not write is not gone on with."""
    with open_answers(tmp_path / "her.csv", SETTINGS, IDS, "USD"):
        pass
    (tmp_path / "her.csv").write_text(f"{','.join(COLUMNS)}\n{row}\n")
    with (
        pytest.raises(Exception, match="row 2 is not an answer"),
        open_answers(tmp_path / "her.csv", SETTINGS, IDS, "USD"),
    ):
        pass


def test_two_quizzes_never_write_one_sheet(tmp_path: Path) -> None:
    """The second gets an error while the first is open; no lock file is left."""
    with (
        open_answers(tmp_path / "her.csv", SETTINGS, IDS, "USD"),
        pytest.raises(UsageError, match="another process"),
        open_answers(tmp_path / "her.csv", SETTINGS, IDS, "USD"),
    ):
        pass
    assert sorted(path.name for path in tmp_path.iterdir()) == ["her.csv", "her.csv.quiz.json"]


def test_a_file_that_took_the_place_of_a_sheet_is_not_mended(tmp_path: Path) -> None:
    """Its last line without an end is its owner's, not a row that a kill cut off."""
    with open_answers(tmp_path / "her.csv", SETTINGS, IDS, "USD"):
        pass
    for text in ("sku,stock\na1,7\na2,9", "one line only"):
        (tmp_path / "her.csv").write_text(text)
        with pytest.raises(InputError), open_answers(tmp_path / "her.csv", SETTINGS, IDS, "USD"):
            pass
        assert (tmp_path / "her.csv").read_text() == text
