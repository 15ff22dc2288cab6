"""Candidates of an evaluation: model folders, answer files, base models and hosted models."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import cast

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pricesmith.candidates import (
    build_candidate,
    candidate_name,
    comparables_search,
    fold_data,
    run_candidates,
)
from pricesmith.catalog import open as open_catalog
from pricesmith.catalog.catalog import ITEMS, LEDGER, Catalog
from pricesmith.catalog.comparables import ComparablesIndex
from pricesmith.core.atomic import read_json
from pricesmith.core.errors import InputError, UsageError
from pricesmith.core.types import render
from pricesmith.pricers.api.model_spec import parse_api_model
from pricesmith.pricers.fitting import fit_model
from pricesmith.pricers.llm.pricer import LlmPricer
from pricesmith.pricers.recipes import read_recipe
from pricesmith.testing import make_catalog, make_items, make_model


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A large and a small catalog of made items, with models of each."""
    folder = tmp_path_factory.mktemp("candidates")
    for name, rows in (("big", 2400), ("small", 500)):
        catalog = open_catalog(make_catalog(folder / name, rows))
        for kind in ("median", "ridge"):
            fit_model(read_recipe(kind), catalog, folder / f"{name}-{kind}")
        members = [str(folder / f"{name}-{kind}") for kind in ("median", "ridge")]
        fit_model(read_recipe("blend", {"members": members}), catalog, folder / f"{name}-blend")
    return folder


def test_comparables_of_evaluated_items_have_similar_prices() -> None:
    """Their prices are closer to the truth than those of a word search, whose best similarity is kept."""
    rows, groups = make_items(1500)
    names = {item.listing.id: str(group) for item, group in zip(rows, groups, strict=True)}
    train, evaluated = rows[:1300], rows[1300:]
    listings = [item.listing for item in evaluated]
    by_estimate = comparables_search(train, names)(listings, 3)
    words = ComparablesIndex.build(train).search(listings, 3)
    truth = np.log([item.price for item in evaluated])
    gaps = [
        np.median(abs(np.log([np.median([comparable.price for comparable in near[:3]]) for near in neighbors]) - truth))
        for neighbors in (by_estimate, words)
    ]
    assert gaps[0] < gaps[1]
    for near, by_words in zip(by_estimate, words, strict=True):
        assert len(near) in (3, 4)
        assert max(comparable.similarity for comparable in near) == by_words[0].similarity


def test_a_person_is_evaluated_on_the_answered_items(folder: Path, tmp_path: Path) -> None:
    """A file of answers is a pricer, evaluated on its own items."""
    items = open_catalog(folder / "big").items("test")[:40]
    lines = [f"{item.listing.id},{item.price * 1.1:.2f}" for item in items]
    (tmp_path / "her.csv").write_text("\n".join(["id,price", *lines]))
    specs = [str(folder / "big-ridge"), f"human:{tmp_path / 'her.csv'}"]
    evals = run_candidates(specs, open_catalog(folder / "big"), tmp_path / "evals")
    by_name = {evaluation.pricer: evaluation for evaluation in evals.evaluations}
    assert len(by_name["human:her"].rows) == 40
    assert len(by_name["big-ridge"].rows) > 40


def test_a_blend_includes_the_fit_time_of_its_members(folder: Path, tmp_path: Path) -> None:
    """Its seconds are those of all that was fitted for it, and its parts are named by kind."""
    specs = [str(folder / f"big-{kind}") for kind in ("median", "ridge", "blend")]
    meta = run_candidates(specs, open_catalog(folder / "big"), tmp_path / "evals").meta
    own = read_json(folder / "big-blend" / "manifest.json")["fit_seconds"]
    members = meta["big-median"]["fit_seconds"] + meta["big-ridge"]["fit_seconds"]
    assert meta["big-blend"]["fit_seconds"] == pytest.approx(own + members)
    assert meta["big-blend"]["parts"] == {"big-median": "median", "big-ridge": "ridge"}
    assert "parts" not in meta["big-blend"]["settings"]
    assert "parts" not in meta["big-ridge"]


def test_a_small_catalog_is_evaluated_in_folds(folder: Path, tmp_path: Path) -> None:
    """Under 2,000 rows every row is evaluated once, also by a blend, whose members are fitted again."""
    specs = [str(folder / "small-ridge"), str(folder / "small-blend")]
    evals = run_candidates(specs, open_catalog(folder / "small"), tmp_path / "evals")
    assert {len(evaluation.rows) for evaluation in evals.evaluations} == {500}
    assert evals.meta["small-blend"]["folds"] is True


def test_no_group_is_both_tuned_on_and_calibrated_on(folder: Path) -> None:
    """In folds, too, validation is halved by group; every row of it is used."""
    catalog = open_catalog(folder / "small")
    items, groups = catalog.items_and_groups("train")
    group = {item.listing.id: name for item, name in zip(items, groups, strict=True)}
    rows = fold_data(items[:100], items[100:], catalog)
    tune, calibrate = ({group[item.listing.id] for item in half} for half in (rows.tune, rows.calibrate))
    assert tune
    assert calibrate
    assert tune & calibrate == set()
    assert len(rows.tune) + len(rows.calibrate) == len(items) - 100


def test_a_model_of_another_catalog_is_refused_without_the_option(folder: Path, tmp_path: Path) -> None:
    """With --other-catalog its own training rows are left out."""
    catalog = open_catalog(folder / "big")
    with pytest.raises(UsageError, match="another catalog"):
        run_candidates([str(folder / "small-ridge")], catalog, tmp_path / "evals")
    known = open_catalog(folder / "small").items("train")[0].listing
    row_of_known = next(row for row, title in enumerate(titles_of(catalog)) if title == known.title)
    mixed = resplit(folder / "big", tmp_path / "mixed", {row_of_known: "test"})
    evals = run_candidates([str(folder / "small-ridge")], mixed, tmp_path / "evals", other_catalog=True)
    (evaluation,) = evals.evaluations
    seen = {item.listing.title + item.listing.text for item in open_catalog(folder / "small").items("train")}
    items = {item.listing.id: item.listing for item in mixed.items("test")}
    left = sum(listing.title + listing.text in seen for listing in items.values())
    assert left > 0
    assert all(items[row.id].title + items[row.id].text not in seen for row in evaluation.rows)
    assert len(evaluation.rows) == len(items) - left
    assert f"{left:,} items dropped because their text is in its training rows" in evaluation.note
    assert "rows of its validation split, which cannot be recognized" in evaluation.note


def titles_of(catalog: Catalog) -> list[str]:
    """Every title in the order of the file."""
    return list(pq.read_table(catalog.path / ITEMS).column("title").to_pylist())


def resplit(catalog: Path, to: Path, splits: dict[int, str]) -> Catalog:
    """A copy of a catalog under another name, with some rows in other splits."""
    shutil.copytree(catalog, to)
    table = pq.read_table(to / ITEMS)
    column = [splits.get(row, split) for row, split in enumerate(table.column("split").to_pylist())]
    pq.write_table(table.set_column(table.column_names.index("split"), "split", pa.array(column)), to / ITEMS)
    ledger = json.loads((to / LEDGER).read_text())
    ledger |= {"fingerprint": "f" * 64, "items_bytes": (to / ITEMS).stat().st_size, "items_sha256": ""}
    (to / LEDGER).write_text(json.dumps(ledger))
    return open_catalog(to)


def test_a_model_without_its_training_rows_is_not_evaluated_on_another_catalog(folder: Path, tmp_path: Path) -> None:
    """A blend's copy of a member, or an export, would be evaluated on its own training rows."""
    other = resplit(folder / "big", tmp_path / "other", {})
    with pytest.raises(UsageError, match="training listings of big-ridge are unknown") as caught:
        run_candidates(
            [str(folder / "big-blend" / "members" / "big-ridge")], other, tmp_path / "evals", other_catalog=True
        )
    assert "comparables" in str(caught.value)
    assert not (tmp_path / "evals").exists()


def test_answers_in_another_currency_are_refused(folder: Path, tmp_path: Path) -> None:
    """Euros are not dollars."""
    items = open_catalog(folder / "big").items("test")[:3]
    (tmp_path / "her.csv").write_text("\n".join(["id,price", *(f"{item.listing.id},€{item.price}" for item in items)]))
    with pytest.raises(InputError, match="another currency"):
        run_candidates([f"human:{tmp_path / 'her.csv'}"], open_catalog(folder / "big"), tmp_path / "evals")


def test_no_pricer_is_evaluated_on_the_training_rows(folder: Path, tmp_path: Path) -> None:
    """By name, before anything is written."""
    with pytest.raises(UsageError, match="train") as caught:
        run_candidates([str(folder / "big-ridge")], open_catalog(folder / "big"), tmp_path / "evals", split="train")
    assert "validation or test" in str(caught.value)
    assert not (tmp_path / "evals").exists()


def test_two_models_of_one_name_get_their_parents_names(folder: Path, tmp_path: Path) -> None:
    """Names in a table differ."""
    for parent in ("a", "b"):
        shutil.copytree(folder / "big-ridge", tmp_path / parent / "ridge")
    specs = [str(tmp_path / parent / "ridge") for parent in ("a", "b")]
    evals = run_candidates(specs, open_catalog(folder / "big"), tmp_path / "evals")
    assert {evaluation.pricer for evaluation in evals.evaluations} == {"a-ridge", "b-ridge"}


def test_an_unknown_kind_of_competitor_is_refused(folder: Path, tmp_path: Path) -> None:
    """The error lists the allowed kinds."""
    with pytest.raises(UsageError) as caught:
        run_candidates(["oracle:delphi"], open_catalog(folder / "big"), tmp_path / "evals")
    assert "human:FILE.csv" in str(caught.value)


def test_an_untuned_model_is_evaluated_by_its_bases_name(folder: Path, tmp_path: Path) -> None:
    """`zero-shot:BASE` is a pricer; with examples it is another one, and both resume after a kill."""
    base = make_model(tmp_path / "tiny-model")
    catalog = open_catalog(folder / "big")
    specs = [f"zero-shot:{base}", f"zero-shot:{base}@shots=2,style=plain", str(folder / "big-ridge")]
    evals = run_candidates(specs, catalog, tmp_path / "evals", limit=12)
    names = {evaluation.pricer: evaluation for evaluation in evals.evaluations}
    assert set(names) == {"zero-shot-tiny-model", "zero-shot-tiny-model-2-shot-plain", "big-ridge"}
    assert all(len(evaluation.rows) == 12 for evaluation in names.values())
    meta = evals.meta["zero-shot-tiny-model-2-shot-plain"]
    assert (meta["kind"], meta["shots"], meta["base"]) == ("zero-shot", 2, str(base))
    assert len(meta["base_fingerprint"]) == 64
    again = run_candidates(specs, catalog, tmp_path / "evals", limit=12)
    assert len(again.evaluations) == 3


def test_examples_are_never_among_the_evaluated_items(folder: Path, tmp_path: Path) -> None:
    """In folds, too, the examples come from the other folds only."""
    base = make_model(tmp_path / "tiny-model")
    catalog = open_catalog(folder / "small")
    candidate = build_candidate(f"zero-shot:{base}@shots=3", "few", catalog)
    assert candidate.refit is not None
    items = catalog.items("train")
    shown = cast(LlmPricer, candidate.refit(items[:50], [])).prompt.examples
    assert {text for text, _ in shown} <= {render(item.listing) for item in items[:50]}
    assert candidate.fitted_on == catalog.fingerprint


@pytest.mark.parametrize("tail", ["@shots=many", "@shots=-1", "@style=poem", "@temperature=1", "@shots=1,shots=2"])
def test_an_invalid_option_of_a_model_is_refused(folder: Path, tmp_path: Path, tail: str) -> None:
    """The error shows the syntax."""
    with pytest.raises(UsageError) as caught:
        run_candidates([f"zero-shot:gemma-3-270m{tail}"], open_catalog(folder / "big"), tmp_path / "evals")
    assert "zero-shot:BASE@shots=4,style=plain" in str(caught.value)


def test_names_of_untuned_models_are_no_paths() -> None:
    """Folders, files, Hub ids and an @ in a path."""
    assert candidate_name("zero-shot:owner/model-1b@revision=abc") == "zero-shot-model-1b-abc"
    assert candidate_name("zero-shot:/some/where/x.gguf") == "zero-shot-x"
    assert candidate_name("zero-shot:/some@where/m") == "zero-shot-m"
    with pytest.raises(UsageError, match="needs the name of a base"):
        candidate_name("zero-shot:")


@pytest.mark.parametrize(
    ("who", "name"),
    [
        ("api:gpt-6-luna", "api-gpt-6-luna"),
        ("api:openrouter/openai/gpt-6-luna", "api-openrouter-openai-gpt-6-luna"),
        ("api:gpt-6-luna@shots=4,reasoning_effort=low", "api-gpt-6-luna-4-shot-low-effort"),
        ("api:m@comparables=5,url=http://127.0.0.1:1/v1", "api-m-5-comparables"),
        ("api:claude@20250101", "api-claude@20250101"),
        ("api:claude@20250101@shots=2", "api-claude@20250101-2-shot"),
        ("api:m@name=mine", "mine"),
        ("api:m@max_output_tokens=8192,json_answer=no", "api-m-8192-tokens-text"),
        ("api:m@max_output_tokens=4096", "api-m"),
    ],
)
def test_a_hosted_models_name_includes_its_options(who: str, name: str) -> None:
    """So that one model with different options is evaluated side by side."""
    assert candidate_name(who) == name


@pytest.mark.parametrize(
    ("who", "what"),
    [
        ("api:", "needs the name of a model"),
        ("api:m@shot=4", "no setting 'shot'"),
        ("api:m@shots=4,shots=5", "has an invalid option"),
        ("api:m@shots=-1", "cannot have this value"),
        ("api:m@shots=99", "cannot have this value"),
        ("api:m@reasoning_effort=most", "cannot have this value"),
        ("api:m@output=", "has an invalid option"),
    ],
)
def test_unknown_options_are_refused(who: str, what: str) -> None:
    """With what there is."""
    with pytest.raises(UsageError, match=what):
        parse_api_model(who)
