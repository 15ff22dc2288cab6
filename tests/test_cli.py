"""The commands: exit codes, one JSON object with --json, no output with --quiet, errors on one screen."""

from __future__ import annotations

import csv
import io
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from pricesmith.cli import run
from pricesmith.testing import make_csv
from pricesmith.testing.hybrid import ASKED, DOWN, FEE, SPENT


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a CSV file, its catalog, two runs and their evaluations."""
    folder = tmp_path_factory.mktemp("shop")
    make_csv(folder / "shop.csv", 2300)
    catalog = ["--catalog", str(folder / "catalog"), "--quiet"]
    assert run(["curate", str(folder / "shop.csv"), "--to", str(folder / "catalog"), "--quiet"]) == 0
    for kind in ("median", "ridge"):
        assert run(["fit", kind, "--to", str(folder / kind), *catalog]) == 0
    whos = [str(folder / "median"), str(folder / "ridge")]
    assert run(["eval", *whos, "--to", str(folder / "evals"), *catalog]) == 0
    return folder


COMMANDS = [
    "build", "demo", "curate", "show", "fit", "eval", "report", "price", "export", "quiz", "learning-curve", "sweep",
    "bases", "recipe", "recipe ls", "recipe cp", "doctor", "keys", "keys add", "keys ls", "keys rm", "drift",
    "log", "log show", "log rm",
]  # fmt: skip
VERBS = [
    ["curate", "shop.csv", "--to", "catalog"],
    ["show", "catalog"],
    ["show", "ridge"],
    ["show", "evals"],
    ["fit", "ridge", "--catalog", "catalog", "--to", "ridge"],
    ["fit"],
    ["eval", "ridge", "median", "--catalog", "catalog", "--to", "evals"],
    ["report", "evals", "--to", "report.html"],
    ["price", "ridge", "Cobalt drill, 12 kg"],
    ["price", "ridge", "--file", "shop.csv", "--to", "prices.csv"],
    ["recipe", "ls"],
    ["doctor"],
]


@pytest.mark.parametrize("words", VERBS, ids=" ".join)
def test_every_verb_prints_one_json_object(
    words: list[str], shop: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """With --json standard output is JSON and nothing else."""
    monkeypatch.chdir(shop)
    assert run([*words, "--json"]) == 0
    json.loads(capfd.readouterr().out)


QUIET = [words for words in VERBS if words[:1] != ["price"] or "--to" in words]


@pytest.mark.parametrize("words", QUIET, ids=" ".join)
def test_quiet_is_quiet(
    words: list[str], shop: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """With --quiet a command that worked prints nothing at all."""
    monkeypatch.chdir(shop)
    assert run([*words, "--quiet"]) == 0
    assert capfd.readouterr() == ("", "")


def test_quiet_price_is_the_price_alone(
    shop: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """A number for scripts, with the currency's digits."""
    monkeypatch.chdir(shop)
    assert run(["price", "ridge", "Cobalt drill, 12 kg", "--quiet"]) == 0
    out = capfd.readouterr().out
    assert re.fullmatch(r"[0-9]+\.[0-9]{2}\n", out)


def test_show_recognizes_a_catalog_a_model_and_evals(
    shop: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """A model has its settings, rows, fit time and intervals; an evals folder its leaderboard."""
    monkeypatch.chdir(shop)
    assert run(["show", "ridge"]) == 0
    model = capfd.readouterr().out
    assert all(words in model for words in ("alpha = 1.0", "to train", "Fit time", "÷ "))
    assert run(["show", "evals"]) == 0
    assert "median" in capfd.readouterr().out
    assert run(["show", "none"]) == 1
    assert "not a finished catalog" in capfd.readouterr().err


@pytest.mark.parametrize("command", ["", *COMMANDS], ids=lambda name: name or "none")
@pytest.mark.parametrize("flag", ["-h", "--help"])
def test_help_works_everywhere(command: str, flag: str, capfd: pytest.CaptureFixture[str]) -> None:
    """With both names."""
    assert run([*command.split(), flag]) == 0
    assert "Usage: pricesmith" in capfd.readouterr().out


def test_log_options_stand_anywhere(
    shop: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """The log has the notes, the command and its exit code; -v writes it to standard error."""
    monkeypatch.chdir(shop)
    log = tmp_path / "log.txt"
    words = ["fit", "ridge", "--catalog", "catalog", "--to", "ridge", "--quiet"]
    assert run([*words, "--log-file", str(log)]) == 0
    assert "already fitted" in log.read_text()
    assert "exit code 0" in log.read_text()
    assert run(["-v", *words]) == 0
    assert "INFO pricesmith" in capfd.readouterr().err
    assert run([*words, "--log-file", str(tmp_path / "none" / "log.txt")]) == 2
    assert run(words) == 0
    assert log.read_text().count("exit code") == 1


def test_standard_input_is_priced_line_by_line(
    shop: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Text or JSON Lines; each line has the price that it has alone."""
    monkeypatch.chdir(shop)
    assert run(["price", "ridge", "Dovetail chair K12 oak", "--json"]) == 0
    alone = json.loads(capfd.readouterr().out)["price"]

    def feed(text: str) -> None:
        monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(text.encode())))

    feed("Dovetail chair K12 oak\n\n-\n")
    assert run(["price", "ridge", "-"]) == 0
    first, second = csv.DictReader(io.StringIO(capfd.readouterr().out))
    assert float(first["price"]) == alone
    assert (second["price"], second["text"]) == ("", "'-")
    assert second["note"]
    feed('{"name": "Dovetail chair K12 oak", "mine": 7}\n')
    assert run(["price", "ridge", "-", "--json"]) == 0
    (quote,) = json.loads(capfd.readouterr().out)["quotes"]
    assert quote["mine"] == 7
    assert quote["price"] == pytest.approx(alone, rel=0.05)
    feed("\n")
    assert run(["price", "ridge", "-"]) == 1
    assert "Standard input is empty" in capfd.readouterr().err


def test_a_file_without_to_is_printed_with_its_own_columns(
    shop: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """As CSV in a pipe; nothing is written beside it."""
    monkeypatch.chdir(shop)
    (shop / "new.csv").write_text("mark,name,price\n007,Dovetail chair K12 oak,12\n=1+1,-,\n")
    before = sorted(shop.iterdir())
    assert run(["price", "ridge", "--file", "new.csv"]) == 0
    first, second = csv.DictReader(io.StringIO(capfd.readouterr().out))
    assert list(first) == [
        "mark", "name", "price", "predicted_price", "low", "high", "note", "currency", "nothing_similar",
    ]  # fmt: skip
    assert (first["mark"], first["price"], first["currency"]) == ("007", "12", "USD")
    assert float(first["low"]) <= float(first["predicted_price"]) <= float(first["high"])
    assert first["predicted_price"] == f"{float(first['predicted_price']):.2f}".rstrip("0").rstrip(".") or "."
    assert second["mark"] == "'=1+1"
    assert sorted(shop.iterdir()) == before


def test_the_remedy_for_a_file_of_unknown_columns_works(
    shop: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """The command is refused with its hint, and prices the file with it."""
    monkeypatch.chdir(shop)
    (shop / "odd.csv").write_text("width,article in words\n12,Dovetail chair K12 oak\n")
    command = ["price", "ridge", "--file", "odd.csv"]
    assert run(command) == 2
    assert "--map title=COLUMN" in capfd.readouterr().err
    assert run([*command, "--map", "title=article in words"]) == 0
    (row,) = csv.DictReader(io.StringIO(capfd.readouterr().out))
    assert float(row["low"]) <= float(row["price"]) <= float(row["high"])


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["fit", "ridge"], 2, "fit needs --catalog"),
        (["fit", "rigde", "--catalog", "catalog", "--to", "x"], 2, "There is no recipe 'rigde'"),
        (["fit", "ridge", "--catalog", "catalog", "--to", "x", "--set", "alhpa=2"], 2, "Did you mean 'alpha'?"),
        (["fit", "ridge", "--catalog", "catalog", "--to", "x", "--set", "alpha"], 2, "--set takes key=value"),
        (["fit", "ridge", "--catalog", "catalog", "--to", "x", "--budget", "1"], 2, "ridge asks no API model"),
        (["fit", "ridge", "--catalog", "none", "--to", "x"], 1, "not a finished catalog"),
        (["fit", "ridge", "--catalog", "catalog", "--to", "ridge", "--set", "alpha=2"], 2, "alpha: 1.0 -> 2"),
        (["curate", "none.csv", "--to", "x"], 1, "none.csv"),
        (["curate", "shop.csv", "--to", "x", "--map", "prise=price"], 2, "no field 'prise'"),
        (["eval", "nobody", "--catalog", "catalog", "--to", "x"], 1, "not a finished model"),
        (["eval", "frontire:x", "--catalog", "catalog", "--to", "x"], 2, "human:FILE.csv"),
        (["report", "catalog", "--to", "x.html"], 1, "not a folder of evaluations"),
        (["price", "ridge"], 2, "nothing to price"),
        (["price", "ridge", "a lamp", "--budget", "1"], 2, "ridge asks no API model"),
        (["price", "ridge", "a lamp", "--file", "shop.csv"], 2, "not both"),
        (["price", "ridge", "a lamp", "--to", "x"], 2, "--to is for --file"),
        (["price", "ridge", "--field", "nope=1"], 2, "no field 'nope'"),
        (["price", "ridge", "--field", "nope"], 2, "--field takes key=value"),
        (["price", "ridge", "--file", "shop.csv", "--field", "a=1"], 2, "--field is for one listing"),
        (["price", "ridge", "a lamp", "--map", "title=a"], 2, "--map is for --file"),
        (["price", "ridge", "  "], 2, "nothing to price"),
        (["price", "ridge", "a lamp", "--max-interval-ratio", "0.5"], 2, "a ratio above 1"),
        (["recipe", "cp", "ridge", "shop.csv"], 2, "exists"),
        (["price", "ridge", "--file", "sh\udcffp.csv", "--to", "x.csv"], 2, "not UTF-8"),
        (["nonsense"], 2, "nonsense"),
        (["fit", "--nonsense"], 2, "--nonsense"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_a_wrong_command_gives_what_got_and_next(
    words: list[str],
    code: int,
    message: str,
    shop: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    """The exit code is the documented one, the error fits a screen, and there is no traceback."""
    monkeypatch.chdir(shop)
    assert run(words) == code
    err = capfd.readouterr().err
    assert message in err
    assert "Traceback" not in err
    assert len(err.splitlines()) <= 24
    assert not (shop / "x").exists()


def test_fit_gives_its_budget_to_a_recipe_that_asks_an_api_model(
    hybrid_kind: str, shop: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """With the number of requests and the time limit; the same recipe with saved answers takes no budget."""
    (tmp_path / "hybrid.toml").write_text(f'kind = "{hybrid_kind}"\n')
    words = ["fit", str(tmp_path / "hybrid.toml"), "--catalog", str(shop / "catalog"), "--to", str(tmp_path / "model")]
    limits = ["--budget", "2.5", "--concurrency", "3", "--timeout", "9"]
    assert run([*words, *limits]) == 0
    assert (tmp_path / "model" / "settings.txt").read_text() == "2.5 3 9.0 False"
    capfd.readouterr()
    assert run([*words, *limits, "--set", "saved=true", "--overwrite"]) == 2
    assert "nothing to spend --budget on" in capfd.readouterr().err


@pytest.fixture
def hybrid(hybrid_kind: str, shop: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A model that asks a fake API model, and new.jsonl with four listings and a row without a text."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "hybrid.toml").write_text(f'kind = "{hybrid_kind}"\n')
    assert run(["fit", "hybrid.toml", "--catalog", str(shop / "catalog"), "--to", "hybrid", "--quiet"]) == 0
    titles = ["Dovetail chair K12 oak", "Aster lamp", "Cobalt drill", "Down with this drill", ""]
    (tmp_path / "new.jsonl").write_text("".join(json.dumps({"name": title}) + "\n" for title in titles))
    return "hybrid"


def test_price_says_whether_an_api_model_was_asked(hybrid: str, capfd: pytest.CaptureFixture[str]) -> None:
    """In the text and in JSON of one listing, with a budget that is too small for an answer and with a large one."""
    capfd.readouterr()
    assert run(["price", hybrid, "Dovetail chair K12 oak", "--budget", "1"]) == 0
    assert "Note: asked api:fake." in capfd.readouterr().out.splitlines()
    assert run(["price", hybrid, "Dovetail chair K12 oak", "--budget", "0.001"]) == 0
    assert "Note: not asked: the budget is spent." in capfd.readouterr().out.splitlines()
    assert run(["price", hybrid, "Dovetail chair K12 oak", "--json"]) == 0
    answer = json.loads(capfd.readouterr().out)
    assert (answer["note"], answer["cost_usd"]) == ("asked api:fake", FEE)


def test_price_spreads_its_budget_over_a_file(hybrid: str, capfd: pytest.CaptureFixture[str]) -> None:
    """The plan comes first, the cost last; the note column says who was asked."""
    words = ["price", hybrid, "--file", "new.jsonl", "--to", "prices.csv"]
    capfd.readouterr()
    assert run([*words, "--budget", str(2 * FEE)]) == 0
    lines = capfd.readouterr().out.splitlines()
    assert lines[0] == "4 listings to price. Budget: US$0.031 for answers of the API model."
    assert lines[1] == "The API model was asked about 2 listings; cost: US$0.031 of the budget of US$0.031."
    assert "about 1 (the budget is spent), 1 (localhost does not answer)" in lines[2]
    with Path("prices.csv").open(newline="") as prices:
        notes = [row["note"] for row in csv.DictReader(prices)]
    assert [note.split("; ")[-1] for note in notes[:4]] == [ASKED, ASKED, SPENT, DOWN]
    assert run([*words, "--json"]) == 0
    output = capfd.readouterr()
    result = json.loads(output.out)["api"]
    assert (result["asked"], result["not_asked"]) == (3, {"localhost does not answer": 1})
    assert "without a budget" in output.err


def test_prices_in_a_pipe_have_no_notes_between_them(
    hybrid: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """What the answers cost goes to standard error; the prices of standard input have the column note."""
    capfd.readouterr()
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"Dovetail chair K12 oak\nDown with it\n")))
    assert run(["price", hybrid, "-", "--budget", "1"]) == 0
    output = capfd.readouterr()
    first, second = csv.DictReader(io.StringIO(output.out))
    assert first["note"] == ASKED
    assert second["note"].endswith(DOWN)
    assert "2 listings to price. Budget: US$1.00" in output.err
    assert "asked about 1 listing; cost: US$0.016 of" in output.err


def test_an_interrupt_is_130(shop: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    """Ctrl-C ends a verb with the code that shells expect, and nothing half is left."""
    monkeypatch.chdir(shop)

    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("pricesmith.pricers.ridge.RidgeRecipe.fit", interrupted)
    assert run(["fit", "ridge", "--catalog", "catalog", "--to", "interrupted"]) == 130
    assert "Interrupted" in capfd.readouterr().err
    assert not list(shop.glob("*interrupted*"))


def test_help_and_version_are_zero(capfd: pytest.CaptureFixture[str]) -> None:
    """Help and version are not errors."""
    assert run([]) == 0
    assert run(["--help"]) == 0
    assert run(["--version"]) == 0
    assert "0.1.0" in capfd.readouterr().out


@pytest.mark.parametrize(
    ("words", "command"),
    [(["fti"], ""), (["recipe", "show"], " recipe"), (["price", "--oops"], " price"), (["show", "--oops"], " show")],
)
def test_a_wrong_command_names_the_help_that_fits(
    words: list[str], command: str, capfd: pytest.CaptureFixture[str]
) -> None:
    """That of the command, or of the group of commands."""
    assert run(words) == 2
    assert f"next: pricesmith{command} --help\n" in capfd.readouterr().err


def test_a_price_from_a_text_has_interval_and_comparables(
    shop: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """The price is inside its interval, and three comparables are given."""
    monkeypatch.chdir(shop)
    assert run(["price", "ridge", "Dovetail chair K12\nsturdy oak. Size: 8 kg", "--json"]) == 0
    answer = json.loads(capfd.readouterr().out)
    assert answer["low"] <= answer["price"] <= answer["high"]
    assert len(answer["comparables"]) == 3
    assert answer["currency"] == "USD"


@pytest.mark.parametrize("text", ["--", "!!!", "a", " ", "\u200b"])
def test_a_text_that_curate_would_refuse_has_no_price(
    text: str, shop: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """The error says how much is needed, and no price is printed."""
    monkeypatch.chdir(shop)
    assert run(["price", "ridge", "--", text]) == 2
    output = capfd.readouterr()
    assert output.out == ""
    assert "to price" in output.err


def test_a_price_says_where_nothing_in_training_is_similar(
    shop: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """In words and in JSON; of the shop's own goods it does not."""
    monkeypatch.chdir(shop)
    for text, flag in (("qwertz asdf", True), ("Rolex Submariner watch", True), ("Dovetail chair K12\noak", False)):
        assert run(["price", "ridge", text, "--json"]) == 0
        assert json.loads(capfd.readouterr().out)["nothing_similar"] is flag
        assert run(["price", "ridge", text]) == 0
        assert ("Nothing similar in the training data: the price is a guess." in capfd.readouterr().out) is flag


def test_a_file_has_comparables_if_they_are_requested(
    shop: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Three for each row, after the price."""
    monkeypatch.chdir(shop)
    (shop / "two.jsonl").write_text('{"title": "Dovetail chair K12 oak"}\n{"title": "qwertz asdf"}\n')
    words = ["price", "ridge", "--file", "two.jsonl", "--to", "two_prices.jsonl", "--comparables", "3", "--json"]
    assert run(words) == 0
    assert json.loads(capfd.readouterr().out)["nothing_similar"] == 1
    first, second = (json.loads(line) for line in (shop / "two_prices.jsonl").read_text().splitlines())
    assert all(first[f"comparable_{number}_price"] > 0 for number in (1, 2, 3))
    assert second["note"].startswith("nothing similar")
    assert run(["price", "ridge", "chair of oak", "--comparables", "99"]) == 2
    assert "0 to 20" in capfd.readouterr().err


def test_a_listing_cannot_move_the_terminal(
    shop: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Escape codes in data are not sent to the screen."""
    monkeypatch.chdir(shop)
    (shop / "odd.csv").write_text(
        "name,price\n" + "".join(f"Lamp \x1b]0;owned\x07 {i} oak,{10 + i}\n" for i in range(200))
    )
    assert run(["curate", "odd.csv", "--to", "odd"]) == 0
    assert run(["show", "odd"]) == 0
    assert "\x1b" not in capfd.readouterr().out


def test_a_terminal_without_the_signs_gets_question_marks(shop: Path) -> None:
    """A bar or an accent is no reason for a traceback; JSON stays whole."""
    command = [sys.executable, "-c", "import sys; from pricesmith.cli import run; sys.exit(run(sys.argv[1:]))"]
    words = ["show", str(shop / "catalog")]
    ascii_only = {**os.environ, "PYTHONIOENCODING": "ascii"}
    for more in ([], ["--json"]):
        done = subprocess.run([*command, *words, *more], capture_output=True, env=ascii_only)
        assert done.returncode == 0, done.stderr
        assert done.stdout.isascii()
    assert json.loads(done.stdout)["fingerprint"]


def test_a_reader_that_closes_the_pipe_gets_no_traceback() -> None:
    """`pricesmith ... | head` ends quietly."""
    code = "import sys; from pricesmith.cli import run; sys.exit(run(sys.argv[1:]))"
    command = [sys.executable, "-c", code, "recipe", "ls", "--json"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        errors = process.stderr.read()
    assert (process.returncode, errors) == (1, "")


def test_an_error_is_printed_once(tmp_path: Path) -> None:
    """Also by a process of its own, where nothing has set up logging."""
    for arguments in (["fit", "nosuch", "--catalog", "x", "--to", "y"], ["serve", "x", "--port", "0", "--no-log"]):
        command = [sys.executable, "-c", "from pricesmith.cli import main; main()", *arguments]
        done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
        assert done.returncode in (1, 2)
        assert done.stderr.count("  next: ") == 1, done.stderr
