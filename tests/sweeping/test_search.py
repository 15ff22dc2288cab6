"""Searches: the proposals of TPE depend on the seed and on earlier results alone; grids need no Optuna."""

from __future__ import annotations

from pathlib import Path

import pytest

from pricesmith.catalog.catalog import Catalog
from pricesmith.core.errors import MissingExtra, UsageError
from pricesmith.core.progress import SILENT, Progress
from pricesmith.sweeping import search
from pricesmith.sweeping.search import Trial, choose_method, propose, rounds
from pricesmith.sweeping.space import RecipeSpace, SearchSpace, parse_space

optuna = pytest.importorskip("optuna")


@pytest.fixture
def space(stand_in: str) -> SearchSpace:
    """The stand-in, and a ridge."""
    return parse_space(
        {
            "recipe": [
                {"name": stand_in, "space": {"rate": {"low": 0.001, "high": 1000, "log": True}, "depth": [1, 2, 3]}},
                {"name": "ridge", "space": {"min_df": {"low": 1, "high": 4}}},
            ]
        },
        "the space",
    )


def settle(trials: list[Trial]) -> list[Trial]:
    """Trials with an error that is lowest at rate 1; the second half is pruned."""
    for place, trial in enumerate(trials):
        error = abs(float(trial.settings.get("rate", 100.0)) - 1.0)
        trial.errors = {8: error} if place >= len(trials) / 2 else {8: error, 1: error}
        trial.status = "finished" if 1 in trial.errors else "pruned"
    return trials


def run_search(space: SearchSpace, trials: int, seed: int = 0) -> list[Trial]:
    return [trial for proposed in rounds(space, "tpe", trials, seed) for trial in settle(proposed)]


def test_the_same_seed_gives_the_same_trials_whatever_their_number(space: SearchSpace) -> None:
    """A longer search begins with the trials of a shorter one; another seed gives others."""
    long, again, short = run_search(space, 24), run_search(space, 24), run_search(space, 16)
    labels = [trial.label for trial in long]
    assert labels == [trial.label for trial in again]
    assert labels[:16] == [trial.label for trial in short]
    assert labels != [trial.label for trial in run_search(space, 24, seed=1)]
    assert [trial.number for trial in long] == list(range(1, 25))


def test_the_first_trials_are_the_recipes_as_they_are(space: SearchSpace) -> None:
    """Their own settings, if the space has them."""
    first = next(iter(rounds(space, "tpe", 8, 0)))
    assert [trial.label for trial in first[:2]] == ["stand_in, rate 1, depth 3", "ridge, min_df 2"]


def test_no_trial_is_proposed_twice_and_a_small_space_is_exhausted(space: SearchSpace, stand_in: str) -> None:
    """The search ends when the space has nothing new."""
    assert len({trial.key for trial in run_search(space, 40)}) == 40
    small = parse_space({"recipe": [{"name": stand_in, "space": {"depth": [1, 2, 3]}}]}, "the space")
    assert {trial.settings["depth"] for trial in run_search(small, 24)} == {1, 2, 3}


def test_a_space_without_any_valid_combination_says_what_does_not_fit(
    space: SearchSpace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Instead of ending without a trial, as if there had been too little time."""

    def refuse(*_: object) -> None:
        raise UsageError("rate must be below depth", got="rate 3, depth 2", hint="Change the space.")

    monkeypatch.setattr(RecipeSpace, "build", refuse)
    with pytest.raises(UsageError, match="rate must be below depth"):
        next(iter(rounds(space, "tpe", 8, 0)))


def test_later_rounds_learn_from_finished_and_pruned_trials(space: SearchSpace) -> None:
    """After results, the proposals are other ones than without them, and failed trials say nothing."""
    history = run_search(space, 8)
    labels = [trial.label for trial in propose(space, history, 8, 0)]
    assert labels == [trial.label for trial in propose(space, history, 8, 0)]
    worse = run_search(space, 8)
    for trial in worse:
        trial.errors = {part: 1000 - error for part, error in trial.errors.items()}
    assert labels != [trial.label for trial in propose(space, worse, 8, 0)]
    for trial in history:
        trial.errors = {}
    assert len(propose(space, history, 8, 0)) == 8


def test_a_grid_needs_no_optuna(space: SearchSpace, shop: Catalog, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without Optuna a grid is sampled, which is said; `tpe` names the extra."""
    monkeypatch.setattr(search, "find_spec", lambda name: None)
    notes: list[str] = []

    class Noted(Progress):
        def note(self, text: str) -> None:
            notes.append(text)

    assert choose_method("auto", space, Noted()) == "grid"
    assert "Optuna is not installed" in notes[0]
    assert choose_method("grid", space, SILENT) == "grid"
    with pytest.raises(MissingExtra, match=r"pricesmith\[sweep\]"):
        choose_method("tpe", space, SILENT)


def test_a_few_lists_are_a_grid_by_default(space: SearchSpace, tmp_path: Path) -> None:
    """Ranges are searched by TPE; an unknown method is refused."""
    lists = parse_space({"recipe": [{"name": "ridge", "space": {"min_df": [1, 2]}}]}, "the space")
    assert choose_method("auto", lists, SILENT) == "grid"
    assert choose_method("auto", space, SILENT) == "tpe"
    with pytest.raises(UsageError, match="--method is not a method"):
        choose_method("bayes", space, SILENT)
