"""Who is judged: run folders, people's files, and nobody else."""

from __future__ import annotations

from pathlib import Path

import pytest

from pricesmith.catalog import open as open_catalog
from pricesmith.contest import contest, rows_of
from pricesmith.errors import UsageError
from pricesmith.pricers.recipes import read_recipe
from pricesmith.pricers.runs import fit
from pricesmith.testing import made_catalog


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two catalogs of made goods, a big and a small one, with runs of each."""
    folder = tmp_path_factory.mktemp("contest")
    for name, rows in (("big", 2400), ("small", 500)):
        catalog = open_catalog(made_catalog(folder / name, rows))
        for kind in ("constant", "ridge"):
            fit(read_recipe(kind), catalog, folder / f"{name}-{kind}")
        members = [str(folder / f"{name}-{kind}") for kind in ("constant", "ridge")]
        fit(read_recipe("blend", {"members": members}), catalog, folder / f"{name}-blend")
    return folder


def test_a_person_is_judged_on_what_she_answered(place: Path, tmp_path: Path) -> None:
    """A file of guesses is a pricer like any other, on its own items."""
    items = open_catalog(place / "big").items("test")[:40]
    lines = [f"{item.listing.id},{item.price * 1.1:.2f}" for item in items]
    (tmp_path / "her.csv").write_text("\n".join(["id,price", *lines]))
    whos = [str(place / "big-ridge"), f"human:{tmp_path / 'her.csv'}"]
    evals = contest(whos, open_catalog(place / "big"), tmp_path / "evals")
    by_name = {evaluation.pricer: evaluation for evaluation in evals.evaluations}
    assert len(by_name["human:her"].rows) == 40
    assert len(by_name["big-ridge"].rows) > 40


def test_a_small_catalog_is_judged_in_folds(place: Path, tmp_path: Path) -> None:
    """Under 2,000 rows every row is judged once, also by a blend, whose members are fitted again."""
    whos = [str(place / "small-ridge"), str(place / "small-blend")]
    evals = contest(whos, open_catalog(place / "small"), tmp_path / "evals")
    assert {len(evaluation.rows) for evaluation in evals.evaluations} == {500}
    assert evals.meta["small-blend"]["folds"] is True


def test_no_family_is_both_tuned_on_and_calibrated_on(place: Path) -> None:
    """In folds, too, validation is halved by family; every row of it is used."""
    catalog = open_catalog(place / "small")
    items, families = catalog.items_and_families("train")
    family = {item.listing.id: name for item, name in zip(items, families, strict=True)}
    rows = rows_of(items[:100], items[100:], catalog)
    tune, calibrate = ({family[item.listing.id] for item in half} for half in (rows.tune, rows.calibrate))
    assert tune
    assert calibrate
    assert tune & calibrate == set()
    assert len(rows.tune) + len(rows.calibrate) == len(items) - 100


def test_another_catalogs_run_is_refused_unless_asked_for(place: Path, tmp_path: Path) -> None:
    """With --other-catalog its own training rows are left out."""
    catalog = open_catalog(place / "big")
    with pytest.raises(UsageError, match="another catalog"):
        contest([str(place / "small-ridge")], catalog, tmp_path / "evals")
    evals = contest([str(place / "small-ridge")], catalog, tmp_path / "evals", split="train", other_catalog=True)
    (evaluation,) = evals.evaluations
    known = {item.listing.title + item.listing.text for item in open_catalog(place / "small").items("train")}
    items = {item.listing.id: item.listing for item in catalog.items("train")}
    left = sum(items[name].title + items[name].text in known for name in items)
    assert left > 0
    assert all(items[row.id].title + items[row.id].text not in known for row in evaluation.rows)
    assert len(evaluation.rows) == len(items) - left


def test_two_runs_of_one_name_go_by_their_parents(place: Path, tmp_path: Path) -> None:
    """Names in a table differ."""
    import shutil

    for parent in ("a", "b"):
        shutil.copytree(place / "big-ridge", tmp_path / parent / "ridge")
    whos = [str(tmp_path / parent / "ridge") for parent in ("a", "b")]
    evals = contest(whos, open_catalog(place / "big"), tmp_path / "evals")
    assert {evaluation.pricer for evaluation in evals.evaluations} == {"a-ridge", "b-ridge"}


def test_an_unknown_kind_of_rival_is_refused(place: Path, tmp_path: Path) -> None:
    """What can be judged is listed."""
    with pytest.raises(UsageError) as caught:
        contest(["oracle:delphi"], open_catalog(place / "big"), tmp_path / "evals")
    assert "human:FILE.csv" in str(caught.value)
