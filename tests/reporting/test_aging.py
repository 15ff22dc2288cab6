"""The report on the error by age: sentences, chart, table and values, and none without dates."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from pricesmith.cli import run
from pricesmith.core.types import EvalRow, Evaluation
from pricesmith.evaluation.aging import AgeTrend
from pricesmith.evaluation.results import EvalItem, write_evaluation, write_items
from pricesmith.reporting import write_report
from pricesmith.reporting.aging import age_sentence

N = 600
GROWING = AgeTrend(3.0, 1.0, 5.0, 0.004, 900, 800, 90, 1.41, 0.008)


@pytest.fixture
def evals(tmp_path: Path) -> Path:
    """Two pricers on items of 120 days, of which the errors of one grow."""
    random = np.random.default_rng(1)
    ages, noise = random.integers(-5, 120, N), random.lognormal(2, 0.5, (2, N))
    folder = tmp_path / "evals"
    items = [EvalItem(f"i{n}", f"Lamp {n}", "lamp", 200.0, days_after_training=int(ages[n])) for n in range(N)]
    write_items(folder, items, {"format": 1, "catalog": "c0ffee", "split": "test"})
    for name, growth, errors in (("ridge", 1.0, noise[0]), ("knn", 0.0, noise[1])):
        rows = tuple(
            EvalRow(f"i{n}", 200.0, float(200 - errors[n] - growth * max(0, ages[n])), seconds=0.001) for n in range(N)
        )
        facts = {"kind": name, "fit_seconds": 1.0, "catalog_name": "shop", "split": "test", "settings": {}}
        write_evaluation(folder, Evaluation(name, "c0ffee", rows, 190.0, "USD", (1.0, 500.0), {}), facts)
    return folder


def test_the_report_says_of_each_pricer_whether_its_error_grows(
    evals: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["report", str(evals), "--to", str(tmp_path / "report.html")]) == 0
    printed = " ".join(capsys.readouterr().out.split())
    assert "ridge: the MAE grows by $" in printed
    assert "knn: no significant change of the MAE with age" in printed
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert '<section id="age">' in page
    assert '"chart-age"' in page
    assert "not later than training" in page
    values = json.loads((tmp_path / "report.json").read_text())["age"]
    ridge = next(pricer for pricer in values["pricers"] if pricer["name"] == "ridge")
    assert ridge["trend"]["is_significant"]
    assert ridge["trend"]["low"] < 30 < ridge["trend"]["high"]
    assert sum(band["n"] for band in ridge["bands"]) == N
    assert ridge["bands"][-1]["ratio_to_first"] > 2


def test_without_dates_the_report_has_no_such_part(evals: Path, tmp_path: Path) -> None:
    items = [EvalItem(f"i{n}", f"Lamp {n}", "lamp", 200.0) for n in range(N)]
    write_items(evals, items, {"format": 1, "catalog": "c0ffee", "split": "test"})
    assert write_report(evals, tmp_path / "report.html")["age"] is None
    assert 'id="age"' not in (tmp_path / "report.html").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({}, "mlp: the MAE grows by $3.00 [1.00, 5.00] for every 30 days after the last training day (p = 0.008); "
             "on the latest items it is 1.41 times that on the earliest."),
        ({"slope": -3.0, "low": -5.0, "high": -1.0, "adjusted_p": 1e-5, "last_to_first": None},
         "mlp: the MAE falls by $3.00 [1.00, 5.00] for every 30 days after the last training day (p < 0.001)."),
        ({"low": -1.0, "high": 7.0, "adjusted_p": 0.14},
         "mlp: no significant change of the MAE with age, $3.00 [−1.00, 7.00] for every 30 days (p = 0.14)."),
        ({"low": None, "high": None, "p": None, "adjusted_p": None},
         "mlp: too few near-duplicate groups or days to say whether the MAE changes with age."),
    ],
)  # fmt: skip
def test_sentences_of_growth_decline_no_change_and_too_few_items(changes: dict[str, float | None], text: str) -> None:
    assert age_sentence("mlp", AgeTrend(**{**vars(GROWING), **changes}), "USD") == text
