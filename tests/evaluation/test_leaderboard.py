"""What evaluations come to: a leaderboard without false ranks, bands that add up, running error, worst items."""

from dataclasses import replace

import numpy as np
import pytest

from pricesmith.core.types import EvalRow
from pricesmith.evaluation import leaderboard
from pricesmith.evaluation.compare import compare
from pricesmith.evaluation.evaluate import to_arrays
from pricesmith.evaluation.leaderboard import (
    build_leaderboard,
    coverage_by_quote,
    error_by_category,
    error_by_price,
    error_by_training,
    running_error,
    worst_items,
)
from pricesmith.evaluation.results import Near
from pricesmith.evaluation.run_eval import Candidate, run_eval


@pytest.fixture(scope="module")
def evals(make_pricer, catalog, tmp_path_factory):
    """Three pricers on the test split, the best with intervals, and a person on 40 of its items."""
    sheet = frozenset(item.listing.id for item in catalog.items("test")[:40])
    candidates = [
        Candidate("bad", "made", make_pricer("bad", 1.2), facts={"fit_seconds": 3.0}),
        Candidate("good", "made", make_pricer("good", 0.3, True)),
        Candidate("twin", "made", make_pricer("twin", 0.3)),
        Candidate("ada", "human", make_pricer("ada", 0.6), item_ids=sheet),
    ]

    def index(items):
        return lambda listings, k: [[Near("t", "", 5.0, 0.9 if "red" in listing.text else 0.1)] for listing in listings]

    return run_eval(candidates, catalog, tmp_path_factory.mktemp("evaluated") / "evals", index=index)


def test_the_best_comes_first_and_its_twin_is_tied(evals):
    """Two pricers with the same noise share rank 1; the bad one is significantly worse than both."""
    rows = {row.name: row for row in build_leaderboard(evals) if row.group == 0}
    first, second, third = rows.values()
    assert {first.name, second.name} == {"good", "twin"}
    assert (first.best, first.tied, first.rank, first.difference) == (True, False, 1, None)
    assert (second.best, second.tied, second.rank) == (False, True, 1)
    assert second.n_needed > second.n
    assert (third.name, third.tied, third.rank, third.difference.better) == ("bad", False, 3, first.name)
    assert [row.rank_range for row in rows.values()] == ["1–2", "1–2", "3"]


def test_a_rank_is_the_range_that_the_tests_allow(evals, monkeypatch):
    """Significance is not transitive: 1-2, 1-3, 2-3, 4-5, 4-6, 5-6, and no rank contradicts another."""
    base = next(evaluation for evaluation in evals.evaluations if evaluation.pricer == "good")
    six = [
        replace(base, pricer=name, rows=tuple(replace(row, price=row.truth + k) for row in base.rows))
        for k, name in enumerate("abcdef", 1)
    ]
    apart = {"ca", *(f"{x}{y}" for x in "def" for y in "abc"), "fd"}

    def compared(first, other, *rest, **more):
        difference = compare(first, other, *rest, **more)
        significant = first.pricer + other.pricer in apart
        return replace(difference, is_significant=significant, better=other.pricer if significant else None)

    monkeypatch.setattr(leaderboard, "compare", compared)
    rows = build_leaderboard(replace(evals, evaluations=tuple(six), meta={name: {} for name in "abcdef"}))
    assert [row.name for row in rows] == list("abcdef")
    assert [row.rank_range for row in rows] == ["1–2", "1–3", "2–3", "4–5", "4–6", "5–6"]
    assert [(row.best, row.tied) for row in rows][:3] == [(True, False), (False, True), (False, False)]


def test_other_items_are_another_group(evals):
    """The person is in a group of its own, and is compared with the best on the 40 common items only."""
    row = build_leaderboard(evals)[-1]
    assert (row.name, row.group, row.n, row.rank, row.best) == ("ada", 1, 40, 1, True)
    assert row.difference.n == 40


def test_a_line_of_the_leaderboard_summarizes_the_rows(evals):
    """MAE with its interval, seconds and dollars per 1,000, coverage, interval width and the course's hit rate."""
    row = next(row for row in build_leaderboard(evals) if row.name == "good")
    evaluation = next(evaluation for evaluation in evals.evaluations if evaluation.pricer == "good")
    data = to_arrays(evaluation)
    assert row.mae.point == pytest.approx(data.error.mean())
    assert row.mae.low < row.mae.point < row.mae.high
    assert row.mae.groups == len(set(evaluation.groups.values()))
    assert row.seconds_per_1000 == pytest.approx(1000 * sum(r.seconds for r in evaluation.rows) / row.n)
    assert (row.n_unanswered, row.dollars_per_1000) == (0, 0.0)
    assert [row.lower_factor, row.upper_factor] == pytest.approx([1.3, 1.3], abs=0.03)  # a few are clipped to the range
    assert row.coverage.point == pytest.approx(((data.low <= data.truth) & (data.truth <= data.high)).mean())
    assert 0 < row.course_hit <= 1
    assert next(row for row in build_leaderboard(evals) if row.name == "bad").fit_seconds == 3.0


@pytest.mark.parametrize(
    ("kind", "seconds", "expected"),
    [
        ("api", [0.0, 2.0, 4.0], 3000),
        ("api", [0.0, 0.0], None),
        ("api", [0.0, 0.0, 2.0], None),
        ("made", [0.0, 2.0], 1000),
    ],
)
def test_answers_that_were_not_timed_are_no_fast_answers(kind, seconds, expected):
    """Those of batch jobs and of another service tier have 0 seconds; one request beside them is no measurement."""
    rows = [EvalRow(str(k), 1.0, 1.0, seconds=value) for k, value in enumerate(seconds)]
    assert leaderboard.average_seconds(rows, {"kind": kind}) == expected


@pytest.mark.parametrize(
    ("others", "note"),
    [
        ({}, ""),
        (None, ""),
        ("odd", ""),
        ({"made-nano": 1}, "1 answer came from another model: made-nano"),
        ({"a\nb": 3, "c": 2}, "5 answers came from another model: a b, c"),
    ],
)
def test_answers_of_another_model_are_noted(others, note):
    """The reader must know whose error it is."""
    assert leaderboard.other_models_note({"other_models": others}) == note


def test_no_course_rate_outside_dollars_and_no_coverage_without_intervals(evals):
    """They are None, not 0."""
    euros = tuple(
        replace(evaluation, currency="EUR") for evaluation in evals.evaluations if evaluation.pricer == "twin"
    )
    (row,) = build_leaderboard(replace(evals, evaluations=euros))
    assert (row.course_hit, row.coverage, row.lower_factor, row.upper_factor) == (None, None, None, None)


def test_unanswered_items_are_counted_and_charged(evals):
    """A pricer without any answer has the median's error, and n unanswered items."""
    evaluation = evals.evaluations[0]
    silent = replace(evaluation, rows=tuple(replace(row, price=None, low=None, high=None) for row in evaluation.rows))
    (row,) = build_leaderboard(replace(evals, evaluations=(silent,)))
    assert row.n_unanswered == row.n
    assert row.mae.point == pytest.approx(np.mean([abs(evaluation.median - r.truth) for r in evaluation.rows]))


def test_bands_hold_every_item_once(evals):
    """By price, by category and by similarity to the training rows."""
    evaluation = evals.evaluations[0]
    assert sum(band.n for band in error_by_price(to_arrays(evaluation))) == len(evaluation.rows)
    categories = error_by_category(to_arrays(evaluation), evals, most=2)
    assert [band.label for band in categories][-1] == "2 others"
    assert sum(band.share_of_error for band in categories) == pytest.approx(1)
    close = error_by_training(to_arrays(evaluation), evals)
    red = sum(item.near[0].similarity > 0.8 for item in evals.items.values() if item.id in to_arrays(evaluation).ids)
    assert [band.n for band in close] == [red, len(evaluation.rows) - red]


def test_coverage_is_by_band_of_the_quote(evals):
    """The weighted mean over bands is the whole; a pricer without intervals has no bands."""
    good, twin = (
        next(evaluation for evaluation in evals.evaluations if evaluation.pricer == name) for name in ("good", "twin")
    )
    bands = coverage_by_quote(to_arrays(good))
    whole = next(row for row in build_leaderboard(evals) if row.name == "good").coverage.point
    assert sum(band.n * band.coverage.point for band in bands) / sum(band.n for band in bands) == pytest.approx(whole)
    assert coverage_by_quote(to_arrays(twin)) == []


def test_the_running_error_ends_at_the_mean_and_narrows(evals):
    """The last point is the leaderboard's; the band holds it and is narrower than at a tenth of the items."""
    evaluation = next(evaluation for evaluation in evals.evaluations if evaluation.pricer == "good")
    run = running_error(to_arrays(evaluation))
    mean = to_arrays(evaluation).error.mean()
    assert run.n[-1] == len(evaluation.rows)
    assert run.mean[-1] == pytest.approx(mean)
    assert run.low[-1] < mean < run.high[-1]
    tenth = next(i for i, n in enumerate(run.n) if n >= len(evaluation.rows) / 10)
    assert run.high[-1] - run.low[-1] < run.high[tenth] - run.low[tenth]
    assert run.low[0] is None


def test_the_running_error_takes_items_in_the_same_order_for_all(evals):
    """The order comes from groups, not from the file: a reversed evaluation runs the same."""
    evaluation = evals.evaluations[1]
    backwards = replace(evaluation, rows=evaluation.rows[::-1])
    assert running_error(to_arrays(backwards)) == running_error(to_arrays(evaluation))


def test_the_worst_items_have_the_largest_errors(evals):
    """Largest error first, each with what is known of the item."""
    evaluation = evals.evaluations[0]
    worst = worst_items(to_arrays(evaluation), evals, most=5)
    assert [entry.error for entry in worst] == sorted(to_arrays(evaluation).error, reverse=True)[:5]
    assert all(entry.item.id == entry.row.id and entry.item.near for entry in worst)
