"""Drift of a served model: real changes are found and named, and chance makes few alarms."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from pricesmith.cli import run
from pricesmith.core.types import Item, Listing, Quote
from pricesmith.pricers.model import load_model
from pricesmith.pricers.reference import QuotedRows, Reference, build_reference
from pricesmith.serve.drift import drift_report
from pricesmith.serve.drift_feedback import measure_feedback
from pricesmith.serve.drift_quotes import QUOTE_COLUMNS, QuoteDrift, measure_quotes
from pricesmith.serve.log import FeedbackRecord, LogReader, QuoteRecord, RequestLog, default_log_path, new_quote_id

CATEGORIES = ("phones", "lamps")
ERROR = 0.3  # standard deviation of log quote - log truth


def make_reference(random: np.random.Generator, n: int = 1000) -> Reference:
    """The reference of a model without bias on two categories."""
    items, quotes = [], []
    for index in range(n):
        truth = math.exp(random.normal(4, 1))
        price = truth * math.exp(random.normal(0, ERROR))
        category = CATEGORIES[index % 2]
        items.append(Item(Listing(str(index), "x" * int(random.integers(20, 400)), "", category), truth))
        quotes.append(Quote(price, price / math.exp(1.645 * ERROR), price * math.exp(1.645 * ERROR)))
    reference = build_reference(QuotedRows(items, quotes, [item.listing.id for item in items], 0.9), "USD", (10, 1000))
    assert reference is not None
    return reference


def make_rows(random: np.random.Generator, n: int, shift: float = 0.0, day: str = "2026-10-03") -> list[dict[str, Any]]:
    """Quotes as the log has them."""
    rows = []
    for _ in range(n):
        price = math.exp(random.normal(4 + shift, math.hypot(1, ERROR)))
        rows.append(
            {
                "at": f"{day}T08:00:00.000Z",
                "identity": "model",
                "listing_hash": new_quote_id(),
                "price": price,
                "low": price / math.exp(1.645 * ERROR),
                "high": price * math.exp(1.645 * ERROR),
                "nothing_similar": int(random.random() < 0.01),
                "chars": int(random.integers(20, 400)),
                "currency": "USD",
            }
        )
    return rows


def make_feedback(
    random: np.random.Generator, n: int, bias: dict[str, float] | None = None, *, repeats: int = 1
) -> list[FeedbackRecord]:
    """Sold prices; `bias` is the mean of log quote - log sold price by category. Each listing is given `repeats`
    times."""
    rows = []
    for index in range(n):
        category = CATEGORIES[index % 2]
        sold = math.exp(random.normal(4, 1))
        price = sold * math.exp(random.normal((bias or {}).get(category, 0.0), ERROR))
        for repeat in range(repeats):
            row = FeedbackRecord(
                f"f{index}-{repeat}",
                sold,
                "USD",
                title=f"thing {index}",
                category=category,
                at="2026-10-03T08:00:00.000Z",
                identity="model",
                price=price,
                low=price / math.exp(1.645 * ERROR),
                high=price * math.exp(1.645 * ERROR),
                quote_currency="USD",
                listing_hash=f"h{index}",
            )
            rows.append(row)
    return rows


def make_model(reference: Reference | None) -> Any:
    """What a report needs to know of a model."""
    return SimpleNamespace(name="shop", identity="model", info={"currency": "USD"}, reference=reference)


def measure(rows: Sequence[dict[str, Any]], identity: str, reference: Reference | None) -> tuple[QuoteDrift, int]:
    """The drift of rows."""
    return measure_quotes([tuple(row[name] for name in QUOTE_COLUMNS) for row in rows], identity, reference)


def write_log(path: Path, quotes: Sequence[dict[str, Any]] = (), feedback: Sequence[FeedbackRecord] = ()) -> LogReader:
    """A log of these rows."""
    with RequestLog(path) as log:
        log.record_quotes_sync(
            [QuoteRecord(new_quote_id(), **{**row, "nothing_similar": bool(row["nothing_similar"])}) for row in quotes]
        )
        for record in feedback:
            log.record_feedback_sync(record)
    return LogReader(path)


@pytest.mark.parametrize("n", [40, 500])
def test_quotes_without_a_change_rarely_make_an_alarm(n: int) -> None:
    """At most 5 % of reports, within what chance allows of 200; and the tests are not so shy that none ever does."""
    random = np.random.default_rng(n)
    alarms = 0
    for _ in range(200):
        drift, _ = measure(make_rows(random, n), "model", make_reference(random, 300))
        alarms += drift.alarm
    assert 1 <= alarms <= 18


def test_a_shift_of_20_percent_in_500_quotes_is_found() -> None:
    random = np.random.default_rng(1)
    reference = make_reference(random)
    drifts = [measure(make_rows(random, 500, math.log(1.2)), "model", reference)[0] for _ in range(50)]
    assert sum(drift.alarm for drift in drifts) >= 45
    assert np.mean([drift.shift for drift in drifts]) == pytest.approx(0.2, abs=0.06)


@pytest.mark.parametrize(
    ("changed", "name"),
    [
        ({"nothing_similar": 1}, "share with nothing similar"),
        ({"chars": 2000}, "typical length"),
        ({"low": 0.01}, "typical interval"),
    ],
)
def test_other_changes_are_named(changed: dict[str, Any], name: str) -> None:
    random = np.random.default_rng(2)
    rows = [{**row, **(changed if index % 2 else {})} for index, row in enumerate(make_rows(random, 300))]
    drift, _ = measure(rows, "model", make_reference(random))
    assert next(test.name for test in drift.tests if test.alarm).startswith(name)


def test_a_listing_that_is_priced_again_and_again_counts_once() -> None:
    """Otherwise one curious user would make an alarm."""
    random = np.random.default_rng(3)
    reference, rows = make_reference(random), make_rows(random, 100)
    drift, _ = measure([*rows, *([rows[0]] * 5000)], "model", reference)
    assert (drift.quotes, drift.listings) == (5100, 100)
    assert not drift.alarm


def test_every_day_has_its_row_and_the_day_that_differs_is_marked() -> None:
    random = np.random.default_rng(4)
    rows = [row for day in range(1, 6) for row in make_rows(random, 200, 0.7 if day == 4 else 0, f"2026-10-0{day}")]
    rows += [{**make_rows(random, 1, day="2026-10-06")[0], "price": None}]
    drift, _ = measure(rows, "model", make_reference(random))
    assert [day.change for day in drift.days] == ["", "", "", "large", "", ""]
    assert [day.quotes for day in drift.days] == [200] * 5 + [1]
    assert drift.days[3].shift == pytest.approx(math.expm1(0.7), abs=0.3)
    assert drift.days[5].unanswered == 1
    assert drift.days[5].psi is None


def test_only_quotes_of_this_model_count() -> None:
    random = np.random.default_rng(5)
    others = [{**row, "identity": "another"} for row in make_rows(random, 70, 2.0)]
    drift, count = measure([*make_rows(random, 100), *others], "model", make_reference(random))
    assert (drift.listings, count) == (100, 70)


def test_sold_prices_without_a_change_rarely_make_an_alarm() -> None:
    """With five tests, on 60 listings, some of which have several reports."""
    random = np.random.default_rng(6)
    alarms = 0
    for _ in range(150):
        alarms += measure_feedback(
            make_feedback(random, 60, repeats=3), "model", "USD", make_reference(random, 300)
        ).alarm
    assert 1 <= alarms <= 15


def test_a_biased_category_is_named_with_its_interval(tmp_path: Path) -> None:
    random = np.random.default_rng(7)
    feedback = make_feedback(random, 400, {"phones": math.log(0.82)})
    report = drift_report(write_log(tmp_path / "log.db", feedback=feedback), make_model(make_reference(random)))
    headline = report.sentences[0]
    assert report.alarm
    assert headline.startswith("Since 3 October 2026 quotes are ")
    assert " % too low on phones (simultaneous 95 % CI " in headline
    assert "200 sold listings" in headline
    assert "Refit: pricesmith curate" in headline
    assert not any("on lamps" in sentence for sentence in report.sentences)
    (everything, lamps, phones) = report.sold.biases
    assert phones.low < math.log(0.82) + 0.2
    assert phones.low < phones.share < phones.high < 0
    assert not lamps.significant
    assert everything.listings == 400


def test_worse_errors_and_coverage_are_found(tmp_path: Path) -> None:
    random = np.random.default_rng(8)
    feedback = [
        FeedbackRecord(
            **{**{name: getattr(row, name) for name in row.__slots__}, "sold_price": row.sold_price * factor}
        )
        for row, factor in zip(make_feedback(random, 300), np.exp(random.normal(0, 0.9, 300)), strict=True)
    ]
    report = drift_report(write_log(tmp_path / "log.db", feedback=feedback), make_model(make_reference(random)))
    assert report.sold.mae.significant
    assert report.sold.coverage.significant
    assert report.sold.coverage.point < 0.7
    assert any("the MAE is significantly higher" in sentence for sentence in report.sentences)
    assert any("instead of 90.0 %" in sentence for sentence in report.sentences)


def test_repeated_reports_of_one_listing_do_not_make_a_finding() -> None:
    """Ten reports of each of 40 listings say no more than one of each."""
    random = np.random.default_rng(9)
    reference = make_reference(random)
    single = measure_feedback(make_feedback(np.random.default_rng(10), 40), "model", "USD", reference)
    repeated = measure_feedback(make_feedback(np.random.default_rng(10), 40, repeats=10), "model", "USD", reference)
    assert repeated.listings == single.listings == 40
    assert repeated.feedback == 400
    assert repeated.biases[0].high == pytest.approx(single.biases[0].high, rel=0.05)


def test_too_little_is_said_to_be_too_little(tmp_path: Path) -> None:
    random = np.random.default_rng(11)
    log = write_log(tmp_path / "log.db", make_rows(random, 7), make_feedback(random, 7, {"phones": 3.0}))
    report = drift_report(log, make_model(make_reference(random)))
    assert report.sentences[:2] == (
        "Too few sold prices for a judgement: 7 of at least 30.",
        "Too few quotes for a judgement: 7 of at least 30 different listings.",
    )
    assert not report.alarm


def test_an_empty_log_has_a_report(tmp_path: Path) -> None:
    report = drift_report(write_log(tmp_path / "log.db"), make_model(make_reference(np.random.default_rng(12))))
    assert not report.alarm
    assert (report.since, report.last, report.quotes.days) == ("", "", ())
    json.dumps(report.to_dict(), allow_nan=False)


def test_what_is_left_out_is_counted(tmp_path: Path) -> None:
    random = np.random.default_rng(13)
    rows = make_feedback(random, 40)
    changes: list[dict[str, Any]] = [{"identity": "another"}, {"currency": "EUR"}, {"price": None, "identity": ""}]
    for number, change in enumerate(changes):
        values = {name: getattr(rows[0], name) for name in rows[0].__slots__}
        rows.append(FeedbackRecord(**{**values, "feedback_id": f"left out {number}", **change}))
    quotes = [{**row, "identity": "another"} for row in make_rows(random, 3)]
    report = drift_report(write_log(tmp_path / "log.db", quotes, rows), make_model(make_reference(random)))
    assert report.sold.listings == 40
    assert report.sentences[-1] == (
        "Left out: 3 quotes of other models, 1 sold price on quotes of other models, 1 sold price in another currency, "
        "1 sold price without a quote."
    )


def test_a_model_without_a_reference_says_so_and_is_compared_with_no_bias(tmp_path: Path) -> None:
    random = np.random.default_rng(14)
    feedback = make_feedback(random, 100, {"phones": -0.4, "lamps": -0.4})
    report = drift_report(write_log(tmp_path / "log.db", make_rows(random, 50), feedback), make_model(None))
    assert report.sold.biases[0].significant
    assert report.sold.mae.p is None
    assert report.quotes.tests == ()
    assert any("has no reference" in sentence for sentence in report.sentences)
    assert report.quotes.days[0].psi is None


def test_the_report_starts_on_the_day_that_is_asked_for(tmp_path: Path) -> None:
    random = np.random.default_rng(15)
    rows = [*make_rows(random, 50, 2.0, "2026-09-30"), *make_rows(random, 60, 0.0, "2026-10-02")]
    report = drift_report(write_log(tmp_path / "log.db", rows), make_model(make_reference(random)), "2026-10-01")
    assert [day.day for day in report.quotes.days] == ["2026-10-02"]
    assert (report.since, report.last) == ("2026-10-01", "2026-10-02")


def test_the_command_reports_on_a_fitted_model(
    served_models: dict[str, Path], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Real quotes of the model on its own kind of listings: no alarm."""
    from pricesmith.testing import make_items

    model = load_model(served_models["ridge"])
    items, _ = make_items(200, seed=5)
    listings = [item.listing for item in items]
    with RequestLog(tmp_path / "log.db") as log:
        quotes = model.price(listings, check_similarity=True)
        log.record_quotes_sync(
            [
                log.build_quote(listing, quote, model=model.name, identity=model.identity, currency="USD")
                for listing, quote in zip(listings, quotes, strict=True)
            ]
        )
    words = ["drift", str(served_models["ridge"]), "--log", str(tmp_path / "log.db")]
    assert run(words) == 0
    out = capfd.readouterr().out
    assert "Too few sold prices for a judgement: 0 of at least 30." in out
    assert "Quotes by day (UTC)" in out
    assert run([*words, "--json"]) == 0
    assert json.loads(capfd.readouterr().out)["quotes"]["quotes"] == 200
    assert run([*words, "--quiet", "--since", "2026-13-01"]) == 1
    assert "not a date" in capfd.readouterr().err


def test_without_a_log_the_command_says_where_it_looked(
    served_models: dict[str, Path], capfd: pytest.CaptureFixture[str]
) -> None:
    assert run(["drift", str(served_models["ridge"])]) == 1
    assert f"There is no log at {default_log_path(served_models['ridge'])}" in capfd.readouterr().err
