"""Sweeps: pruned and finished trials, a kill and a resumption, budgets, the model of the best trial, no test split."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import pricesmith as ps
from pricesmith.catalog.catalog import Catalog
from pricesmith.cli import run
from pricesmith.core.errors import InputError, PricesmithError, UsageError
from pricesmith.core.folders import FolderBuild
from pricesmith.core.progress import Progress
from pricesmith.pricers.model import load_model
from pricesmith.pricers.recipes import read_recipe
from pricesmith.serve.log_file import default_log_path, find_log_file
from pricesmith.sweeping import halving as halving_module
from pricesmith.sweeping import run as run_module
from pricesmith.sweeping import run_sweep
from pricesmith.sweeping import trials as trials_module
from pricesmith.sweeping.budget import SweepClock, rung_sizes
from pricesmith.sweeping.run import limit_trials
from pricesmith.sweeping.search import Trial
from pricesmith.sweeping.space import SearchSpace, parse_space
from pricesmith.sweeping.trials import TrialFolder
from pricesmith.testing import make_catalog

from .stand_in import RATES, StandInRecipe, summary


class Notes(Progress):
    """Keeps the notes."""

    def __init__(self) -> None:
        self.notes: list[str] = []

    def note(self, text: str) -> None:
        self.notes.append(text)


def test_a_grid_is_halved_and_the_best_becomes_the_model(shop: Catalog, space: SearchSpace, tmp_path: Path) -> None:
    """Eight trials on an eighth, four on a quarter, two on half: those two are fitted on all rows, the best is kept."""
    result = run_sweep(shop, tmp_path / "out", space)
    assert result.parts == (8, 4, 2, 1)
    assert [len([1 for trial in result.trials if part in trial.errors]) for part in result.parts] == [8, 4, 0, 2]
    assert result.best.settings == {"rate": 1.0}
    assert [trial.settings["rate"] for trial in result.finished] == [1.0, 3.0]
    assert {trial.note for trial in result.trials if trial.status == "pruned"} == {
        "pruned at 1/8 of the rows",
        "pruned at 1/4 of the rows",
    }
    assert sum(rows == len(shop.items("train")) for _, rows in StandInRecipe.fits) == 2  # the best one is not refitted
    second = result.finished[1]
    assert second.is_worse
    assert second.difference.low > 0
    assert second.difference.point == pytest.approx(second.errors[1] - result.best.errors[1])
    model = load_model(tmp_path / "out")
    assert model.recipe == StandInRecipe(rate=1.0)
    items = shop.calibrate_half()
    quotes = np.array([quote.price for quote in model.price([item.listing for item in items])])
    error = np.abs(quotes - [item.price for item in items]).mean()
    assert error == pytest.approx(result.best.mae.point)  # the evaluated model is the one that is kept
    assert result.n == len(items)
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["model", "sweep.json", "trials"]
    assert all(path.suffix == ".npz" for path in (tmp_path / "out" / "trials").iterdir())


@pytest.mark.parametrize("method", ["grid", "tpe"])
def test_an_interrupted_sweep_resumes_with_the_same_result(
    method: str, shop: Catalog, stand_in: str, tmp_path: Path
) -> None:
    """Finished fits are not repeated, and trials, errors and the best are those of an uninterrupted sweep."""
    axes = {"rate": {"low": 0.01, "high": 100.0, "log": True, "steps": 5}, "depth": [1, 2]}
    space = parse_space({"recipe": [{"name": stand_in, "space": axes}]}, "the space")
    options: dict[str, Any] = {"method": method, "trials": 10}
    whole = run_sweep(shop, tmp_path / "whole", space, **options)
    fits = len(StandInRecipe.fits)
    for breaks_at in (fits + 4, fits + 12):
        StandInRecipe.breaks_at = breaks_at
        with pytest.raises(KeyboardInterrupt):
            run_sweep(shop, tmp_path / "again", space, **options)
    assert not (tmp_path / "again").exists()
    with pytest.raises(UsageError, match="other settings"):
        run_sweep(shop, tmp_path / "again", space, **options, seed=1)
    again = run_sweep(shop, tmp_path / "again", space, **options)
    assert len(StandInRecipe.fits) == 2 * fits
    assert summary(again) == summary(whole)
    assert load_model(tmp_path / "again").identity == load_model(tmp_path / "whole").identity


def test_an_interrupt_before_the_first_fit_leaves_nothing(shop: Catalog, space: SearchSpace, tmp_path: Path) -> None:
    """There is nothing to resume."""
    StandInRecipe.breaks_at = 1
    with pytest.raises(KeyboardInterrupt):
        run_sweep(shop, tmp_path / "out", space)
    assert [path.name for path in tmp_path.iterdir()] == ["stand_in.toml"]


def test_a_finished_sweep_is_read_again_and_goes_on_with_more_trials(
    shop: Catalog, space: SearchSpace, tmp_path: Path
) -> None:
    """The fits that were done are used again, also if the first try to go on was interrupted."""
    options: dict[str, Any] = {"method": "grid", "seed": 3}
    first = run_sweep(shop, tmp_path / "out", space, trials=4, **options)
    fits = len(StandInRecipe.fits)
    assert run_sweep(shop, tmp_path / "out", space, trials=4, **options) == first
    assert run_sweep(shop, tmp_path / "out", space, trials=2, **options) == first
    assert len(StandInRecipe.fits) == fits
    StandInRecipe.breaks_at = fits + 3
    with pytest.raises(KeyboardInterrupt):
        run_sweep(shop, tmp_path / "out", space, trials=8, **options)
    assert load_model(tmp_path / "out").recipe.kind == "stand_in"  # the finished sweep is still there
    more = run_sweep(shop, tmp_path / "out", space, trials=8, **options)
    assert more.best.settings == {"rate": 1.0}
    assert len(more.trials) == 8
    assert load_model(tmp_path / "out").recipe == StandInRecipe(rate=1.0)
    eighths = [rate for rate, rows in StandInRecipe.fits if rows < 100]
    assert sorted(eighths) == RATES
    assert len(StandInRecipe.fits) == len(set(StandInRecipe.fits))
    run_sweep(shop, tmp_path / "out", space, trials=4, method="grid", seed=4, overwrite=True)
    with pytest.raises(UsageError, match="seed: 4 -> 3"):
        run_sweep(shop, tmp_path / "out", space, trials=8, **options)


def test_more_trials_never_prune_one_that_was_fitted_on_all_rows(
    shop: Catalog, space: SearchSpace, tmp_path: Path
) -> None:
    """Even if it is the worst on an eighth of the rows: its error on all rows is known."""
    options: dict[str, Any] = {"method": "grid", "seed": find_seed(space)}
    first = run_sweep(shop, tmp_path / "out", space, trials=5, **options)
    results = TrialFolder(tmp_path / "out" / "trials", first.n)
    recipe = StandInRecipe(rate=first.best.settings["rate"])
    best = Trial(1, "stand_in", recipe, dict(first.best.settings))
    eighth = results.load(best, 8)
    assert eighth is not None
    results.save(best, 8, replace(eighth, quotes=eighth.quotes * 1_000))
    more = run_sweep(shop, tmp_path / "out", space, trials=6, **options)
    assert len(more.trials) == 6
    assert first.best.settings in [trial.settings for trial in more.finished]
    assert more.best.mae.point <= first.best.mae.point


def find_seed(space: SearchSpace) -> int:
    """A seed whose best rate of four is also the best of five, and not of seven."""
    for seed in range(1_000):
        order = [point["rate"] for _, point in space.grid(7, seed)]
        best = [min(order[:count], key=lambda rate: abs(np.log10(rate))) for count in (4, 5, 7)]
        if best[0] == best[1] != best[2] and len({abs(np.log10(rate)) for rate in order[:5]}) == 5:
            return seed
    raise AssertionError


def get_rate(folder: Path) -> float:
    """The rate of the stand-in that a model folder was fitted with."""
    recipe = load_model(folder).recipe
    assert isinstance(recipe, StandInRecipe)
    return recipe.rate


def test_an_interrupted_extension_never_leaves_the_model_of_another_trial(
    shop: Catalog, space: SearchSpace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whether it ended before its marker was written or while the model was copied: the model is that of the best
    trial of the leaderboard, with all of its files."""
    seed = find_seed(space)
    options: dict[str, Any] = {"method": "grid", "seed": seed}
    first = run_sweep(shop, tmp_path / "out", space, trials=4, **options)
    finish, copy_tree = FolderBuild.finish, shutil.copytree

    def interrupt_sweep(build: FolderBuild, facts: Any) -> None:
        if build.noun == run_module.NOUN:
            raise KeyboardInterrupt
        finish(build, facts)

    with monkeypatch.context() as patch:
        patch.setattr(FolderBuild, "finish", interrupt_sweep)
        with pytest.raises(KeyboardInterrupt):
            run_sweep(shop, tmp_path / "out", space, trials=7, **options)
    assert get_rate(tmp_path / ".out.building" / "model") != first.best.settings["rate"]

    def interrupt_copy(source: Path, to: Path, **_: Any) -> None:
        to.mkdir()
        shutil.copyfile(source / "manifest.json", to / "manifest.json")
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(shutil, "copytree", interrupt_copy)
        with pytest.raises(KeyboardInterrupt):
            run_sweep(shop, tmp_path / "out", space, trials=5, **options)
    assert shutil.copytree is copy_tree
    second = run_sweep(shop, tmp_path / "out", space, trials=5, **options)
    assert second.best.settings == first.best.settings
    assert get_rate(tmp_path / "out") == second.best.settings["rate"]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["model", "sweep.json", "trials"]


def test_damaged_results_are_fitted_again(shop: Catalog, space: SearchSpace, tmp_path: Path) -> None:
    """A file that is cut off, of another catalog or not an archive counts as missing."""
    run_sweep(shop, tmp_path / "out", space, trials=4, method="grid")
    fits = len(StandInRecipe.fits)
    paths = sorted((tmp_path / "out" / "trials").glob("*part-8.npz"))
    assert len(paths) == 4
    paths[0].write_bytes(paths[0].read_bytes()[:100])
    paths[1].write_text("no archive")
    np.savez(paths[2], quotes=np.ones(3), fit_seconds=1.0, seconds=1.0)
    sizes = {path.name: {"bytes": path.stat().st_size} for path in paths}
    marker = json.loads((tmp_path / "out" / "sweep.json").read_text())
    marker["inventory"] |= {f"trials/{name}": size for name, size in sizes.items()}
    (tmp_path / "out" / "sweep.json").write_text(json.dumps(marker))
    more = run_sweep(shop, tmp_path / "out", space, trials=5, method="grid")
    assert len(more.trials) == 5
    assert [rows < 100 for _, rows in StandInRecipe.fits[fits:]].count(True) == 4  # three again, and the fifth


def test_the_test_split_is_not_read(
    shop: Catalog, space: SearchSpace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It stays unused until `eval`, also by the fit of the model."""
    columns = Catalog.columns

    def spy(self: Catalog, split: str, names: Any) -> Any:
        assert split != "test"
        return columns(self, split, names)

    monkeypatch.setattr(Catalog, "columns", spy)
    run_sweep(shop, tmp_path / "out", space, trials=3)
    assert load_model(tmp_path / "out").calibrated


def slow_fits(monkeypatch: pytest.MonkeyPatch, seconds: float) -> None:
    """Let a fit on all rows take some seconds by the clock of the sweep, and parts of it as much less."""
    run_trial = trials_module.run_trial

    def timed(trial: Trial, part: int, *others: Any) -> Any:
        fit = replace(run_trial(trial, part, *others), seconds=seconds / part, fit_seconds=seconds / part)
        others[1].save(trial, part, fit)
        return fit

    monkeypatch.setattr(halving_module, "run_trial", timed)


def test_no_fit_starts_that_would_not_end_in_time(
    shop: Catalog, space: SearchSpace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The best of the trials that were begun is finished within the minutes, and more minutes finish the rest."""
    slow_fits(monkeypatch, 80.0)
    notes = Notes()
    result = run_sweep(shop, tmp_path / "out", space, minutes=2.5, progress=notes)
    assert result.seconds <= 150
    assert result.stopped == "the minutes were over"
    assert [trial.status for trial in result.trials].count("finished") == 1
    assert any("1/8 of the rows would not have been fitted in time" in trial.note for trial in result.trials)
    assert any(trial.status == "unfinished" for trial in result.trials)
    assert any("left" in note for note in notes.notes)
    begun = sum(bool(trial.errors) for trial in result.trials)
    assert f"{begun} of 8 trials were begun" in repr(result)
    fits = len(StandInRecipe.fits)
    more = run_sweep(shop, tmp_path / "out", space, minutes=30)
    assert more.stopped == ""
    assert more.best.settings == {"rate": 1.0}
    assert more.seconds == 80 * (8 / 8 + 4 / 4 + 2)
    assert len(StandInRecipe.fits) < fits + 14


def test_an_interrupted_budget_counts_what_was_spent(
    shop: Catalog, space: SearchSpace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A kill does not give more minutes: the result is that of an uninterrupted sweep."""
    slow_fits(monkeypatch, 80.0)
    whole = run_sweep(shop, tmp_path / "whole", space, minutes=2.5)
    StandInRecipe.breaks_at = len(StandInRecipe.fits) + 4
    with pytest.raises(KeyboardInterrupt):
        run_sweep(shop, tmp_path / "out", space, minutes=2.5)
    again = run_sweep(shop, tmp_path / "out", space, minutes=2.5)
    assert summary(again) == summary(whole)


def test_too_few_minutes_for_one_fit_are_refused(shop: Catalog, tmp_path: Path) -> None:
    """By the measured figures, before anything is fitted; the hint is enough time."""
    space = parse_space({"recipe": [{"name": "ridge"}]}, "the space")
    with pytest.raises(UsageError, match="too short for a single fit") as caught:
        run_sweep(shop, tmp_path / "out", space, minutes=0.001)
    assert "Use --minutes" in caught.value.hint
    assert not list(tmp_path.glob("*out*/*"))


def test_no_trial_in_time_is_an_error_and_keeps_the_fits(
    shop: Catalog, space: SearchSpace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With more minutes the same command goes on, as the hint says."""
    slow_fits(monkeypatch, 600.0)
    with pytest.raises(PricesmithError, match="No trial was fitted on all rows") as caught:
        run_sweep(shop, tmp_path / "out", space, minutes=2)
    assert "more --minutes" in caught.value.hint
    fits = len(StandInRecipe.fits)
    assert fits >= 1
    result = run_sweep(shop, tmp_path / "out", space, minutes=200)
    assert result.best.settings == {"rate": 1.0}
    assert len(StandInRecipe.fits) == 14


def test_a_grid_that_nobody_can_finish_is_refused(shop: Catalog, stand_in: str, tmp_path: Path) -> None:
    """Its combinations are counted and never listed; the hint works."""
    axes = {"rate": {"low": 0.1, "high": 9.0, "steps": 100}, "minutes": {"low": 1.0, "high": 9.0, "steps": 100}}
    space = parse_space({"recipe": [{"name": stand_in, "space": {**axes, "depth": [1, 2]}}]}, "the space")
    with pytest.raises(UsageError, match="too many trials") as caught:
        run_sweep(shop, tmp_path / "out", space, method="grid")
    assert caught.value.got == "a grid of 20,000 combinations"
    assert caught.value.hint == "Use --trials 24."
    assert limit_trials(24, space, "grid", "grid") == 24


def test_a_failed_trial_is_named_and_the_rest_goes_on(shop: Catalog, stand_in: str, tmp_path: Path) -> None:
    """If all fail, the first reason is the error."""
    space = parse_space({"recipe": [{"name": stand_in, "space": {"fails": [True, False]}}]}, "the space")
    result = run_sweep(shop, tmp_path / "out", space)
    assert [(trial.status, trial.note) for trial in result.trials] == [
        ("finished", ""),
        ("failed", "The training diverged (a loss of nan)"),
    ]
    space = parse_space({"recipe": [{"name": stand_in, "space": {"fails": True, "rate": [1.0, 2.0]}}]}, "the space")
    with pytest.raises(PricesmithError, match="No trial could be fitted, 2 failed") as caught:
        run_sweep(shop, tmp_path / "none", space)
    assert "The training diverged" in caught.value.got
    assert "--overwrite" in caught.value.hint


def test_a_trial_without_enough_memory_fails_and_a_defect_ends_the_sweep(
    shop: Catalog, stand_in: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A base can be too large for a machine; an error that nobody expects is shown."""
    fit, errors = StandInRecipe.fit, dict[str, Exception](error=MemoryError())

    def fail(recipe: StandInRecipe, *others: Any) -> None:
        if recipe.fails:
            raise errors["error"]
        fit(recipe, *others)

    monkeypatch.setattr(StandInRecipe, "fit", fail)
    space = parse_space({"recipe": [{"name": stand_in, "space": {"fails": [True, False]}}]}, "the space")
    result = run_sweep(shop, tmp_path / "out", space)
    assert [(trial.status, trial.note) for trial in result.trials] == [
        ("finished", ""),
        ("failed", "there is not enough memory"),
    ]
    errors["error"] = ZeroDivisionError()
    with pytest.raises(ZeroDivisionError):
        run_sweep(shop, tmp_path / "other", space)


@pytest.mark.parametrize("text", ["[]", "{}", '{"sweep": []}', '{"sweep": {"trials": []}}', "not JSON"])
def test_a_damaged_leaderboard_is_named(text: str, tmp_path: Path) -> None:
    """`show` reads any folder with a file of this name."""
    (tmp_path / "sweep.json").write_text(text)
    with pytest.raises(InputError, match=r"sweep\.json is damaged"):
        run_module.read_result(tmp_path)


def test_a_recipe_is_fitted_on_all_rows_once_before_it_is_pruned(shop: Catalog, stand_in: str, tmp_path: Path) -> None:
    """The median is worse than all others on an eighth of the rows, and has a line on the leaderboard all the same."""
    entries = [{"name": stand_in, "space": {"rate": [1.0, 1.2, 1.5, 2.0]}}, {"name": "median"}]
    result = run_sweep(shop, tmp_path / "out", parse_space({"recipe": entries}, "the space"))
    assert {trial.recipe for trial in result.finished} == {"stand_in", "median"}
    assert result.evaluated_on == "rows of validation that no fit learns from"
    whole = run_sweep(shop, tmp_path / "median", parse_space({"recipe": [{"name": "median"}]}, "the space"))
    assert (whole.evaluated_on, whole.n) == ("rows of validation", len(shop.items("validation")))


def test_a_small_catalog_is_not_divided(tmp_path: Path) -> None:
    """Errors of fits on a few rows say little."""
    small = ps.catalog.open(make_catalog(tmp_path / "small", 300))
    space = parse_space({"recipe": [{"name": "median", "space": {"min_rows": [5, 10, 20, 40]}}]}, "the space")
    result = run_sweep(small, tmp_path / "out", space)
    assert result.parts == (1,)
    assert len(result.finished) == len(result.trials)


def test_a_catalog_without_validation_rows_is_refused(
    shop: Catalog, space: SearchSpace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """There is nothing to choose by."""
    whole = Catalog.items_and_groups

    def without(self: Catalog, split: str) -> Any:
        return ([], []) if split == "validation" else whole(self, split)

    monkeypatch.setattr(Catalog, "items_and_groups", without)
    with pytest.raises(InputError, match="too few validation rows") as caught:
        run_sweep(shop, tmp_path / "none", space)
    assert "--split" in caught.value.hint


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"trials": 0}, "--trials"),
        ({"trials": 20_000, "method": "tpe"}, "too many trials"),
        ({"minutes": 0.0}, "--minutes"),
        ({"minutes": float("nan")}, "--minutes"),
    ],
)
def test_wrong_limits_are_refused(
    options: dict[str, Any], message: str, shop: Catalog, space: SearchSpace, tmp_path: Path
) -> None:
    """Before anything is read."""
    with pytest.raises(UsageError, match=message):
        run_sweep(shop, tmp_path / "out", space, **options)


def test_a_missing_base_model_is_reported_before_anything_is_fitted(
    shop: Catalog, stand_in: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The base model is a setting like others; all of them are looked for first."""

    def plan(recipe: Any, progress: Progress | None = None) -> Any:
        if recipe.base == "missing":
            raise InputError("There is no base model 'missing'")
        return recipe

    monkeypatch.setattr(run_module, "plan_for_hardware", plan)
    entry = {"name": stand_in, "space": {"base": ["present", "missing"]}}
    with pytest.raises(InputError, match="no base model 'missing'"):
        run_sweep(shop, tmp_path / "out", parse_space({"recipe": [entry]}, "the space"))
    assert not StandInRecipe.fits
    assert not (tmp_path / "out").exists()


def test_the_clock_learns_from_what_fits_took() -> None:
    """Kinds with measured figures are corrected by their ratio, others count by row; a recipe's minutes are a limit."""
    clock = SweepClock(None, 52_469)
    ridge = Trial(1, "ridge", read_recipe("ridge"), {})
    other = Trial(2, "ridge", read_recipe("ridge", {"alpha": 2.0}), {})
    measured = clock.expect(ridge, 1)
    assert measured == pytest.approx(5.7)
    clock.record(ridge, 8, 2 * clock.expect(ridge, 8))
    assert clock.expect(ridge, 1) == pytest.approx(2 * measured)
    assert clock.expect(other, 1) == pytest.approx(2 * measured)
    clock.record(other, 8, clock.expect(other, 8) / 2)
    assert clock.expect(ridge, 1) == pytest.approx(2 * measured)  # by its own fits
    unknown = Trial(3, "stand_in", StandInRecipe(), {})
    assert clock.expect(unknown, 1) is None
    clock.record(unknown, 4, 10.0)
    assert clock.expect(unknown, 1) == pytest.approx(40.0)
    assert clock.expect(Trial(4, "stand_in", StandInRecipe(minutes=0.5), {}), 1) == 30.0


def test_rungs_halve_down_to_the_least() -> None:
    """A part on which nothing would be pruned is left out."""
    assert rung_sizes(16, (8, 4, 2, 1), 2) == [(8, 16), (4, 8), (2, 4), (1, 2)]
    assert rung_sizes(3, (8, 4, 2, 1), 2) == [(8, 3), (1, 2)]
    assert rung_sizes(2, (8, 4, 2, 1), 2) == [(1, 2)]


def test_the_result_prints_and_becomes_a_frame(shop: Catalog, space: SearchSpace, tmp_path: Path) -> None:
    """In a terminal, in a notebook and as a DataFrame with a column for each setting."""
    result = ps.sweep(shop, tmp_path / "out", {str(tmp_path / "stand_in.toml"): {"rate": RATES, "depth": 2}})
    text = repr(result)
    assert "Best: trial 6 (stand_in, rate 1)" in text
    assert "its MAE is optimistic" in text
    assert "<table>" in result._repr_html_()
    frame = result.to_frame("polars")
    assert frame["settings.rate"].to_list()[0] == 1.0
    assert frame["status"].to_list().count("pruned") == 6
    assert len(result.to_frame("pandas")) == 8


def test_the_command_prints_one_object_and_its_folder_is_a_model(
    shop: Catalog, stand_in: str, tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """--json is one object; show and price take the folder; without arguments the shipped space is printed."""
    monkeypatch.chdir(tmp_path)
    Path("space.toml").write_text('[[recipe]]\nname = "stand_in.toml"\n[recipe.space]\nrate = [1.0, 3.0, 9.0]\n')
    words = ["sweep", str(shop.path), "--space", "space.toml", "--to", "out"]
    assert run([*words, "--json"]) == 0
    result = json.loads(capfd.readouterr().out)
    assert result["trials"][0]["settings"] == {"rate": 1.0}
    assert result["model"] == "out/model"
    assert run(words) == 0
    out = capfd.readouterr().out
    assert "already finished" in out
    assert "Price something: pricesmith price out" in out
    assert run([*words, "--quiet"]) == 0
    assert capfd.readouterr() == ("", "")
    assert run(["show", "out"]) == 0
    shown = capfd.readouterr().out
    assert "rate = 1.0" in shown
    assert "difference to the best" in shown
    assert run(["show", "out", "--json"]) == 0
    assert json.loads(capfd.readouterr().out)["sweep"]["trials"] == result["trials"]
    assert run(["price", "out", "Cobalt drill, 12 kg", "--quiet"]) == 0
    capfd.readouterr()
    assert default_log_path(Path("out")) == default_log_path(Path("out/model")) == tmp_path / "out.requests.db"
    with pytest.raises(UsageError, match="inside a folder of Pricesmith"):
        find_log_file(Path("out/mine.db"))
    assert run(["sweep"]) == 0
    assert "[[recipe]]" in capfd.readouterr().out
    assert run(["sweep", str(shop.path)]) == 2
    assert "sweep needs --to" in capfd.readouterr().err
    assert run(["sweep", "--to", "other"]) == 2
    assert "sweep needs a catalog" in capfd.readouterr().err
