"""`pricesmith build`: one command from a table to a chosen model; resumed, repeated, extended and refitted."""

from __future__ import annotations

import csv
import json
import os
import shutil
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from pricesmith import build as build_module
from pricesmith.build import build, choose_model, default_folder, format_estimate, hash_inputs, promote_refit
from pricesmith.catalog.catalog import open_catalog
from pricesmith.cli import run
from pricesmith.core.build_file import BuildFile, read_build, write_build
from pricesmith.core.errors import UsageError
from pricesmith.core.types import EvalRow, Evaluation
from pricesmith.evaluation.results import read_evals
from pricesmith.testing import make_csv

RECIPES = ("median", "ridge")


@pytest.fixture(autouse=True)
def two_cheap_recipes(monkeypatch: pytest.MonkeyPatch) -> None:
    """The default recipes without the slow one."""
    monkeypatch.setattr(build_module, "DEFAULT_RECIPES", RECIPES)


def write_table(path: Path, rows: slice) -> Path:
    """Some rows of one made table of 2,900 listings."""
    whole = path.with_name("whole.csv")
    if not whole.exists():
        make_csv(whole, 2900)
    with whole.open(newline="") as source, path.open("w", newline="") as target:
        header, *lines = csv.reader(source)
        csv.writer(target).writerows([header, *lines[rows]])
    return path


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished build of 2,300 rows; tests copy it before they change it."""
    folder = tmp_path_factory.mktemp("build")
    table = write_table(folder / "shop.csv", slice(0, 2300))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(build_module, "DEFAULT_RECIPES", RECIPES)
        result = build([str(table)], folder / "out")
    assert result["already_done"] is False
    return folder


@pytest.fixture
def copy(built: Path, tmp_path: Path) -> Path:
    """A copy of the finished build and its table."""
    shutil.copytree(built, tmp_path / "copy")
    return tmp_path / "copy"


def test_a_preview_writes_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It is the preview of `curate`, with the options that decide what is read."""
    make_csv(tmp_path / "shop.csv", 30)
    words = [str(tmp_path / "shop.csv"), "--drop", "brand", "--json"]
    assert run(["curate", *words, "--preview"]) == 0
    expected = json.loads(capsys.readouterr().out)
    assert run(["build", *words, "--preview", "--to", str(tmp_path / "out")]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown == expected
    assert "brand" in shown["files"][0]["columns"]["left_out"]
    assert len(shown["files"][0]["rows"]) == 5
    assert [path.name for path in tmp_path.iterdir()] == ["shop.csv"]


def test_a_build_has_a_catalog_models_evals_and_a_report(built: Path) -> None:
    """The chosen model has the lowest MAE on validation."""
    out = built / "out"
    made = read_build(out)
    assert made is not None
    assert made.finished
    assert (made.chosen, made.currency, made.recipes) == ("ridge", "USD", RECIPES)
    assert made.validation["ridge"].validation_mae < made.validation["median"].validation_mae
    assert sorted(path.name for path in out.iterdir()) == [
        "build.toml", "catalog", "evals", "models", "report.html", "report.json",
    ]  # fmt: skip
    assert sorted(path.name for path in (out / "models").iterdir()) == ["median", "ridge"]


def test_the_folder_stands_for_its_chosen_model(
    built: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """`price out` gives the price of `price out/models/ridge`."""
    monkeypatch.chdir(built)
    prices = []
    for folder in ("out", "out/models/ridge"):
        assert run(["price", folder, "Dovetail chair K12\noak", "--json"]) == 0
        prices.append(json.loads(capfd.readouterr().out)["price"])
    assert prices[0] == prices[1]


def test_the_same_command_again_changes_nothing(built: Path) -> None:
    """It says that the build is finished."""
    out = built / "out"
    before = {path: path.stat().st_mtime_ns for path in out.rglob("*")}
    assert build([str(built / "shop.csv")], out)["already_done"] is True
    assert {path: path.stat().st_mtime_ns for path in out.rglob("*")} == before


def interrupt(*_: object, **__: object) -> None:
    raise KeyboardInterrupt


SLOW_STAGES = [pytest.param(stage, marks=pytest.mark.slow) for stage in ("curate", "validation", "evals")]


# One stage before the choice and one after it in every run: each case is two builds.
@pytest.mark.parametrize("stage", ["ridge", "report", *SLOW_STAGES])
def test_an_interrupted_build_resumes(stage: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In any stage; until the choice is made the folder says that it is unfinished."""
    where = {
        "curate": "pricesmith.build.curate",
        "ridge": "pricesmith.pricers.ridge.RidgeRecipe.fit",
        "validation": "pricesmith.build.choose_model",
        "evals": "pricesmith.candidates.run_candidates",
        "report": "pricesmith.reporting.write_report",
    }
    table, out = write_table(tmp_path / "shop.csv", slice(0, 200)), tmp_path / "out"

    with monkeypatch.context() as patch:
        patch.setattr(where[stage], interrupt)
        with pytest.raises(KeyboardInterrupt):
            build([str(table)], out)
    unfinished = read_build(out)
    assert unfinished is not None
    assert not unfinished.finished
    assert bool(unfinished.chosen) is (stage in ("evals", "report"))
    result = build([str(table)], out)
    assert result["chosen"] == "ridge"
    finished = read_build(out)
    assert finished is not None
    assert finished.finished


def test_another_recipe_is_added(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only the new one is fitted, and a recipe that exists already is not asked for again."""
    out, table = copy / "out", str(copy / "shop.csv")
    before = (out / "models" / "ridge" / "manifest.json").stat().st_mtime_ns
    result = build([table], out, recipes=["knn"])
    assert set(result["models"]) == {"median", "ridge", "knn"}
    assert (out / "models" / "ridge" / "manifest.json").stat().st_mtime_ns == before
    assert build([table], out)["already_done"] is True


def write_answers(copy: Path) -> Path:
    """Answers of an API model for all validation and test listings: 15 % off, up and down in turn."""
    catalog = open_catalog(copy / "out" / "catalog")
    items = [*catalog.items("validation"), *catalog.items("test")]
    lines = [f"{item.listing.id},{item.price * (0.85, 1.15)[row % 2]:.2f}" for row, item in enumerate(items)]
    (copy / "answers.csv").write_text("\n".join(["id,price", *lines]), encoding="utf-8")
    return copy / "answers.csv"


def test_saved_answers_add_a_blend_a_cascade_and_the_api_model_itself(
    copy: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Own models are not fitted again and one of them stays chosen; the leaderboard, the conclusion and the costs have
    all of them; the same command again says that it is done."""
    answers, out = write_answers(copy), copy / "out"
    monkeypatch.setattr("pricesmith.pricers.hybrid.shares.REPEATS", 1)  # one cross-validation instead of three
    monkeypatch.chdir(copy)
    words = ["build", "shop.csv", "--to", "out", "--api-answers", str(answers), "--api-cost-per-1000", "2", "--json"]
    assert run(words) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["chosen"] in RECIPES
    text = " ".join(result["conclusion"])
    assert "api_blend" in text
    assert "api_cascade" in text
    named = {evaluation.pricer: evaluation for evaluation in read_evals(out / "evals").evaluations}
    costs = {name: [row.cost_usd for row in evaluation.rows] for name, evaluation in named.items()}
    assert {"ridge", "api_blend", "api_cascade", "answers"} <= set(costs)
    assert set(costs["answers"]) == set(costs["api_blend"]) == {0.002}
    asked = [cost for cost in costs["api_cascade"] if cost]
    assert 0.1 < len(asked) / len(costs["api_cascade"]) < 0.3
    assert set(asked) == {0.002}
    assert run(words) == 0
    assert json.loads(capsys.readouterr().out)["already_done"] is True
    answers.write_text(answers.read_text(encoding="utf-8") + "\nanother,1.00\n", encoding="utf-8")
    monkeypatch.setattr(build_module, "fit_hybrids", interrupt)
    assert run(words) == 130  # other answers: there is work again


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--api-model", "gpt-6-luna"], "There are no answers of the API model"),
        (["--api-answers", "none.csv"], "There is no file none.csv"),
    ],
)
def test_answers_that_are_missing_are_refused_before_any_work(
    words: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A cost without answers, and a file that does not exist."""
    make_csv(tmp_path / "shop.csv", 30)
    assert run(["build", str(tmp_path / "shop.csv"), "--to", str(tmp_path / "out"), *words]) != 0
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("file", "model", "message"),
    [
        ("shop.csv", "gpt-6-luna", "shop.csv lacks a column"),
        ("answers.csv", "no-such-model", "No provider of 'no-such-model' is known"),
        ("answers.csv", "grok-9", "The price of grok-9 is unknown"),
    ],
)
def test_answers_that_cannot_be_used_are_refused_before_a_model_is_fitted(
    file: str, model: str, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A file without the columns, and a model whose price is unknown."""
    table = make_csv(tmp_path / "shop.csv", 300)
    (tmp_path / "answers.csv").write_text("id,price\n1,20\n", encoding="utf-8")
    words = ["build", str(table), "--to", str(tmp_path / "out"), "--api-answers", str(tmp_path / file)]
    assert run([*words, "--api-model", model]) != 0
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out" / "models").exists()


def test_other_data_or_options_are_refused_with_the_way_on(copy: Path) -> None:
    """The hint names --refit, and nothing is changed."""
    out, table = copy / "out", str(copy / "shop.csv")
    newer = write_table(copy / "newer.csv", slice(0, 2900))
    before = (out / "build.toml").read_bytes()
    with pytest.raises(UsageError, match="other data") as other:
        build([str(newer)], out)
    assert "--refit" in other.value.hint
    with pytest.raises(UsageError, match="other options") as options:
        build([table], out, options={"min_price": 5.0})
    assert "--min-price" in options.value.got
    with pytest.raises(UsageError, match="no build to refit"):
        build([table], copy / "elsewhere", refit=True)
    assert (out / "build.toml").read_bytes() == before


def test_an_unknown_recipe_is_refused_before_any_work(tmp_path: Path) -> None:
    """No catalog is made for it."""
    table = write_table(tmp_path / "shop.csv", slice(0, 400))
    with pytest.raises(UsageError, match="rigde"):
        build([str(table)], tmp_path / "out", recipes=["rigde"])
    assert not (tmp_path / "out" / "catalog").exists()


def splits(folder: Path) -> dict[str, str]:
    """The split of each item's text."""
    catalog = open_catalog(folder / "catalog")
    return {
        f"{title}\n{text}": split
        for split in ("train", "validation", "test")
        for title, text in zip(*catalog.columns(split, ("title", "text")).values(), strict=True)
    }


def test_a_refit_takes_new_rows_and_keeps_the_earlier_build(copy: Path) -> None:
    """Old items keep their split, the new model is chosen, and the old one is among the evaluated."""
    out = copy / "out"
    old = splits(out)
    newer = write_table(copy / "newer.csv", slice(200, 2900))
    result = build([str(newer)], out, refit=True)
    new = splits(out)
    common = [words for words in old if words in new]
    assert len(common) > 1500
    assert sum(old[words] != new[words] for words in common) <= 0.01 * len(common)
    assert result["chosen"] == "ridge"
    assert set(result["models"]) == {"median", "ridge", "ridge-previous"}
    assert (out / "previous-1" / "models" / "ridge" / "manifest.json").is_file()
    assert read_build(out / "previous-1") is not None
    assert not (out / ".refit").exists()
    assert "ridge-previous" in (out / "report.html").read_text()
    assert build([str(newer)], out, refit=True)["already_done"] is True


@pytest.mark.parametrize(
    "stage",
    [
        pytest.param("pricesmith.build.curate", marks=pytest.mark.slow),  # each case is two refits
        pytest.param("pricesmith.candidates.run_candidates", marks=pytest.mark.slow),
        "os.replace",
    ],
)
def test_an_interrupted_refit_leaves_the_old_build_in_use_and_resumes(
    stage: str, copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also if it stops while folders are moved."""
    out = copy / "out"
    newer = write_table(copy / "newer.csv", slice(200, 2900))
    replace = os.replace

    def interrupt(*arguments: Any, **_: object) -> None:
        if stage == "os.replace" and not str(arguments[0]).endswith(".refit/build.toml"):
            return replace(*arguments)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(stage, interrupt)
        with pytest.raises(KeyboardInterrupt):
            build([str(newer)], out, refit=True)
    assert run(["price", str(out), "oak chair", "--quiet"]) == 0
    build([str(newer)], out, refit=True)
    made = read_build(out)
    assert made is not None
    assert made.finished
    assert made.inputs.keys() == {"newer.csv"}
    assert not (out / ".refit").exists()
    assert sorted(path.name for path in out.glob("previous-*")) == ["previous-1"]


def evaluation(name: str, errors: list[float]) -> Evaluation:
    """An evaluation of items that cost 100, with these errors."""
    rows = tuple(EvalRow(str(n), 100.0, 100.0 + error, None, None) for n, error in enumerate(errors))
    return Evaluation(name, "catalog", rows, 100.0, "USD", (0.01, 1e6), {})


def test_the_old_model_stays_only_if_the_best_new_one_is_significantly_worse() -> None:
    """A difference that may be chance does not keep it."""
    old = evaluation("ridge-previous", [1.0 + n % 3 for n in range(200)])
    noise = evaluation("a", [1.0 + (n + 1) % 3 + 0.02 * (n % 2) for n in range(200)])
    worse = evaluation("b", [9.0 + n % 3 for n in range(200)])
    assert choose_model({"a": noise, "b": worse}) == "a"
    assert choose_model({"a": noise, "b": worse}, old) == "a"
    assert choose_model({"b": worse}, old) == "ridge-previous"


def test_a_move_is_finished_only_for_a_finished_refit(tmp_path: Path) -> None:
    """An unfinished one stays where it is."""
    write_build(tmp_path, BuildFile(finished=True, chosen="ridge"))
    (tmp_path / ".refit").mkdir()
    assert promote_refit(tmp_path) is None
    write_build(tmp_path / ".refit", BuildFile(finished=False))
    assert promote_refit(tmp_path) is None
    assert (tmp_path / ".refit" / "build.toml").is_file()


@pytest.mark.parametrize(
    ("source", "folder"),
    [
        ("shop.csv", "out/shop"),
        ("data/shop.jsonl.gz", "out/shop"),
        ("feeds/", "out/feeds"),
        ("feeds/*.csv", "out/build"),
        ("demo:goods", "out/goods"),
        ("v1.5-prices.xlsx", "out/v1.5-prices"),
        ("sqlite:data/shop.db?table=products", "out/shop"),
        ("hf://datasets/acme/shop/data/lamps.parquet", "out/lamps"),
    ],
)
def test_the_default_folder_has_the_name_of_the_source(source: str, folder: str) -> None:
    """Without its endings."""
    assert default_folder(source) == Path(folder)


def test_a_changed_database_is_another_source(tmp_path: Path) -> None:
    """A build of it is not finished already."""
    path, hashes = tmp_path / "shop.db", []
    for price in (3, 4):
        with sqlite3.connect(path) as base:
            base.execute("CREATE TABLE IF NOT EXISTS lamps (name, price)")
            base.execute("INSERT INTO lamps VALUES ('Lamp', ?)", [price])
        base.close()
        hashes.append(hash_inputs([f"sqlite:{path}?table=lamps"])["shop.db/lamps"])
    assert hashes[0] != hashes[1]


def test_an_estimate_is_a_round_number() -> None:
    """Never a false precision, never a floor."""
    assert [format_estimate(seconds) for seconds in (3, 12, 41, 300)] == [
        "a few seconds", "about 20 seconds", "about 50 seconds", "about 5 minutes",
    ]  # fmt: skip
