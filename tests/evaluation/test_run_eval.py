"""The flow of eval: the same items for all pricers, finished work is kept, unfair evaluations are refused."""

import json
from dataclasses import replace

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pricesmith.catalog.catalog import ITEMS
from pricesmith.core.errors import UsageError
from pricesmith.core.progress import Progress
from pricesmith.core.types import Quote
from pricesmith.evaluation.folds import assign_folds, build_plan, limit_items
from pricesmith.evaluation.results import Near, read_evals
from pricesmith.evaluation.run_eval import FOREIGN, Candidate, run_eval
from pricesmith.testing import make_items


class Notes(Progress):
    """Progress that remembers its notes."""

    def __init__(self):
        self.texts = []

    def note(self, text):
        self.texts.append(text)


class Never:
    """A pricer that must not be called."""

    name = "never"

    def price(self, listings):
        raise AssertionError("was called")


def candidate(make_pricer, catalog, name="good", noise=0.2, **more):
    """A fitted candidate of the catalog."""
    return Candidate(name, "made", make_pricer(name, noise), fitted_on=catalog.fingerprint, **more)


def test_every_pricer_is_evaluated_on_the_same_items(make_pricer, catalog, tmp_path):
    """The test split, in order, with groups, the median's quote and facts for the report; the split keeps groups
    whole, so none has a member in training."""
    pair = [candidate(make_pricer, catalog), candidate(make_pricer, catalog, "bad", 0.9, facts={"fit_seconds": 2.5})]
    evals = run_eval(pair, catalog, tmp_path / "evals")
    items, groups = catalog.items_and_groups("test")
    for evaluation in evals.evaluations:
        assert [row.id for row in evaluation.rows] == [item.listing.id for item in items]
        assert list(evaluation.groups.values()) == groups
        assert evaluation.catalog == catalog.fingerprint
    assert {item.group_in_training for item in evals.items.values()} == {0}
    meta = evals.meta["bad"]
    facts = ("kind", "split", "fit_seconds", "folds", "catalog_name", "price_range", "n")
    assert [meta[name] for name in facts] == ["made", "test", 2.5, False, "made", [0.5, 999.49], len(items)]


def test_the_same_command_again_evaluates_nothing(make_pricer, catalog, tmp_path):
    """A note says so, and the files are unchanged."""
    pricer = candidate(make_pricer, catalog, facts={"manifest": "abc", "fit_seconds": 1.0})
    before = run_eval([pricer], catalog, tmp_path / "evals")
    notes = Notes()
    again = replace(pricer, pricer=Never(), facts={"manifest": "abc", "fit_seconds": 1.1})
    assert run_eval([again], catalog, tmp_path / "evals", progress=notes) == before
    assert notes.texts == ["good is already evaluated."]


def test_a_kill_between_two_pricers_costs_the_second_only(make_pricer, catalog, tmp_path):
    """The first is complete; the same command evaluates the rest."""
    first, second = candidate(make_pricer, catalog), candidate(make_pricer, catalog, "next", 0.4)
    run_eval([first], catalog, tmp_path / "evals")
    run_eval([replace(first, pricer=Never()), second], catalog, tmp_path / "evals")
    assert {evaluation.pricer for evaluation in read_evals(tmp_path / "evals").evaluations} == {"good", "next"}


def test_rows_without_their_meta_file_are_evaluated_again(make_pricer, catalog, tmp_path):
    """A kill between the two files leaves an unfinished evaluation, which the same command writes anew."""
    pricer = candidate(make_pricer, catalog)
    run_eval([pricer], catalog, tmp_path / "evals")
    (tmp_path / "evals" / "good.meta.json").unlink()
    evals = run_eval([pricer], catalog, tmp_path / "evals")
    assert (len(evals.evaluations), evals.unfinished) == (1, ())


@pytest.mark.parametrize("change", [{"facts": {"manifest": "def"}}, {"kind": "other"}])
def test_another_pricer_of_the_same_name_is_refused(make_pricer, catalog, tmp_path, change):
    """The error names the difference; `overwrite` replaces the old evaluation."""
    pricer = candidate(make_pricer, catalog, facts={"manifest": "abc"})
    run_eval([pricer], catalog, tmp_path / "evals")
    other = replace(pricer, **change)
    with pytest.raises(UsageError, match=r"abc.* -> .*def|made.* -> .*other"):
        run_eval([other], catalog, tmp_path / "evals")
    assert run_eval([other], catalog, tmp_path / "evals", overwrite=True).meta["good"]["kind"] == other.kind


def test_another_limit_of_the_same_pricer_is_refused(make_pricer, catalog, tmp_path):
    """An evaluation on 50 items is not one on all items."""
    run_eval([candidate(make_pricer, catalog)], catalog, tmp_path / "evals", limit=50)
    with pytest.raises(UsageError, match="limit: 50 -> None"):
        run_eval([candidate(make_pricer, catalog)], catalog, tmp_path / "evals")


def test_a_limit_is_the_same_items_for_every_pricer_and_keeps_groups(catalog):
    """A smaller limit is part of a larger one; at most one group is cut."""
    plan = build_plan(catalog, "test")
    ids = {n: {item.listing.id for item in limit_items(plan, n).folds[0].items} for n in (40, 90)}
    assert [len(selected) for selected in ids.values()] == [40, 90]
    assert ids[40] < ids[90]
    inside, outside = ({plan.groups[id] for id in selected} for selected in (ids[40], set(plan.groups) - ids[40]))
    assert len(inside & outside) <= 1


def test_items_are_kept_whole_under_a_limit(make_pricer, catalog, tmp_path):
    """items.parquet holds the whole split, so that a later pricer without the limit fits the same folder."""
    evals = run_eval([candidate(make_pricer, catalog)], catalog, tmp_path / "evals", limit=20)
    assert len(evals.items) == len(catalog.items("test"))
    assert len(evals.evaluations[0].rows) == 20
    more = run_eval([candidate(make_pricer, catalog, "other")], catalog, tmp_path / "evals")
    assert {len(evaluation.rows) for evaluation in more.evaluations} == {20, len(evals.items)}


def test_near_training_listings_are_kept_with_the_items(make_pricer, catalog, tmp_path):
    """The search is built from the training items, and returns three for each evaluated item."""

    def index(items):
        assert {item.listing.id for item in items} == {item.listing.id for item in catalog.items("train")}
        return lambda listings, k: [[Near("t", listing.title, 5.0, 0.9)] * k for listing in listings]

    evals = run_eval([candidate(make_pricer, catalog)], catalog, tmp_path / "evals", index=index)
    for item in evals.items.values():
        assert item.near == (Near("t", item.title, 5.0, 0.9),) * 3
        assert item.close_in_training


def test_a_small_catalog_is_evaluated_in_folds_and_says_so(make_pricer, small, tmp_path):
    """Every row is evaluated once, by a pricer refitted without its fold or its groups."""
    fitted = []

    class Memory:
        """Fails if it prices a listing that it was fitted on."""

        name = "fold"

        def __init__(self, train, validation):
            assert train
            assert validation
            self.known = {item.listing.title + item.listing.text.split("\n")[0] for item in train + validation}
            fitted.append(len(self.known))

        def price(self, listings):
            assert not any(listing.title + listing.text.split("\n")[0] in self.known for listing in listings)
            return [Quote(10.0) for _ in listings]

    notes = Notes()
    pricer = candidate(make_pricer, small, refit=Memory)
    evals = run_eval([pricer], small, tmp_path / "evals", progress=notes)
    (evaluation,) = evals.evaluations
    assert len(fitted) == 5
    assert sorted(row.id for row in evaluation.rows) == sorted(item.listing.id for item in make_items(300, 1)[0])
    assert (evaluation.pricer, evals.about["split"], evals.meta["good"]["folds"]) == ("good", "folds", True)
    assert evals.meta["good"]["fit_seconds"] > 0
    assert any("5 folds by group" in note for note in notes.texts)


def test_folds_keep_groups_whole_and_are_of_like_size():
    """No group is on two sides; a ninth of what is left is held out for validation."""
    items, names = make_items(500, 3)
    groups = {item.listing.id: name for item, name in zip(items, names, strict=True)}
    folds = assign_folds(items, groups)
    assert [len(fold.items) for fold in folds] == [100] * 5
    for fold in folds:
        sides = [{groups[item.listing.id] for item in part} for part in (fold.items, fold.train, fold.validation)]
        assert sum(len(side) for side in sides) == len(set.union(*sides))
        assert len(fold.items) + len(fold.train) + len(fold.validation) == 500
        assert 20 <= len(fold.validation) <= 80
    held = [{item.listing.id for item in fold.validation} for fold in folds]
    assert max(len(ids & other) for ids in held for other in held if ids is not other) < 30


def test_a_model_that_cannot_be_refitted_is_not_evaluated_in_folds(make_pricer, small, tmp_path):
    """It would be evaluated on rows it was trained on."""
    with pytest.raises(UsageError, match="cannot be refitted for folds"):
        run_eval([candidate(make_pricer, small)], small, tmp_path / "evals")
    assert not (tmp_path / "evals").exists()


def test_a_pricer_without_a_fit_is_evaluated_on_every_row_of_a_small_catalog(make_pricer, small, tmp_path):
    """A person or an untuned model has no training rows."""
    evals = run_eval([Candidate("ada", "human", make_pricer("ada", 0.5))], small, tmp_path / "evals")
    assert len(evals.evaluations[0].rows) == 300


def test_a_model_of_another_catalog_is_refused(make_pricer, catalog, tmp_path):
    """Its test items may be this one's training items."""
    foreign = replace(candidate(make_pricer, catalog), fitted_on="f00d")
    with pytest.raises(UsageError, match="fitted on another catalog"):
        run_eval([foreign], catalog, tmp_path / "evals")
    with pytest.raises(UsageError, match="training listings of good are unknown"):
        run_eval([foreign], catalog, tmp_path / "evals", other_catalog=True)


def test_on_another_catalog_items_that_were_trained_on_are_dropped_and_counted(make_pricer, catalog, tmp_path):
    """The others are evaluated; the note counts the dropped ones."""
    known = {item.listing.text for item in catalog.items("test")[:30]}
    foreign = replace(
        candidate(make_pricer, catalog),
        fitted_on="f00d",
        is_trained_on=lambda listings: [listing.text in known for listing in listings],
    )
    (evaluation,) = run_eval([foreign], catalog, tmp_path / "evals", other_catalog=True).evaluations
    assert len(evaluation.rows) == len(catalog.items("test")) - 30
    assert evaluation.note == f"{FOREIGN}; 30 items dropped because their text is in its training rows"
    assert "rows of its validation split, which cannot be recognized" in FOREIGN


def test_a_person_is_evaluated_on_the_answered_items_only(make_pricer, catalog, tmp_path):
    """Other items do not count as unanswered; the note mentions them."""
    sheet = [item.listing.id for item in catalog.items("test")[:25]]
    person = Candidate("ada", "human", make_pricer("ada", 0.5), item_ids=frozenset(sheet))
    (evaluation,) = run_eval([person], catalog, tmp_path / "evals").evaluations
    assert [row.id for row in evaluation.rows] == sheet
    assert "items outside its answers" in evaluation.note


def test_answers_to_other_items_are_refused(make_pricer, catalog, tmp_path):
    """None of its items is in this split."""
    with pytest.raises(UsageError, match="no item to evaluate"):
        run_eval([Candidate("ada", "human", make_pricer("ada", 0.5), item_ids={"x"})], catalog, tmp_path / "evals")


def test_a_model_of_another_catalog_is_evaluated_without_refits_on_a_small_one(make_pricer, small, tmp_path):
    """A refit would be a different model; every row that was not in its training is evaluated."""
    known = {item.listing.text for item in small.items("test")[:10]}

    def refit(train, validation):
        raise AssertionError("was fitted again")

    foreign = replace(
        candidate(make_pricer, small, refit=refit),
        fitted_on="f00d",
        is_trained_on=lambda listings: [listing.text in known for listing in listings],
    )
    (evaluation,) = run_eval([foreign], small, tmp_path / "evals", other_catalog=True).evaluations
    assert len(evaluation.rows) == 290


def test_a_split_that_cuts_groups_shows_in_the_items(make_pricer, new_catalog, tmp_path):
    """The members of a evaluated item's group in the train split are counted, for any split."""
    catalog = new_catalog(tmp_path / "cut", 2100, 3)
    table = pq.read_table(catalog.path / ITEMS)
    splits = ["test" if row % 10 == 0 else "train" for row in range(table.num_rows)]
    where = table.column_names.index("split")
    pq.write_table(table.set_column(where, "split", pa.array(splits)), catalog.path / ITEMS)
    evals = run_eval([candidate(make_pricer, catalog)], catalog, tmp_path / "evals")
    assert max(item.group_in_training for item in evals.items.values()) > 0


@pytest.mark.parametrize("more", [{"limit": 0}, {"split": "tset"}, {"split": "train"}])
def test_a_wrong_option_is_refused_before_anything_is_written(make_pricer, catalog, tmp_path, more):
    """The folder is not created."""
    with pytest.raises(UsageError, match="allowed"):
        run_eval([candidate(make_pricer, catalog)], catalog, tmp_path / "evals", **more)
    assert not (tmp_path / "evals").exists()


def test_no_pricer_equal_names_and_another_currency_are_refused(make_pricer, catalog, tmp_path):
    """Each with its own error."""
    pricer = candidate(make_pricer, catalog)
    for candidates, why in (
        ([], "no pricer to evaluate"),
        ([pricer, pricer], "same name"),
        ([replace(pricer, currency="EUR")], "another currency"),
    ):
        with pytest.raises(UsageError, match=why):
            run_eval(candidates, catalog, tmp_path / "evals")


def test_evaluations_of_two_catalogs_do_not_share_a_folder(make_pricer, catalog, new_catalog, tmp_path):
    """The folder belongs to the first catalog."""
    run_eval([candidate(make_pricer, catalog)], catalog, tmp_path / "evals")
    other = new_catalog(tmp_path / "other", 2100, 5)
    with pytest.raises(UsageError, match="another catalog or split"):
        run_eval([candidate(make_pricer, other, "third")], other, tmp_path / "evals")


def test_rows_are_one_json_object_a_line(make_pricer, catalog, tmp_path):
    """The format is stable: any reader of JSON lines can use it."""
    run_eval([candidate(make_pricer, catalog)], catalog, tmp_path / "evals", limit=3)
    lines = (tmp_path / "evals" / "good.jsonl").read_text(encoding="utf-8").splitlines()
    fields = {"id", "truth", "price", "low", "high", "raw", "seconds", "cost_usd"}
    assert [set(json.loads(line)) for line in lines] == [fields] * 3
