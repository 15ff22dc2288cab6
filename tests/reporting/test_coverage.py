"""Coverage of the intervals on the terminal, on the page and in report.json, significant or within sampling error."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import plotly.graph_objects as go
import pytest

from pricesmith.core.types import EvalRow, Evaluation
from pricesmith.evaluation.leaderboard import build_leaderboard
from pricesmith.evaluation.results import EvalItem, read_evals, write_evaluation, write_items
from pricesmith.reporting import write_report
from pricesmith.reporting.tables import leaderboard_dict, leaderboard_notes

from .test_page import section_text, visible_text

N = 600
CATEGORIES = ("lamps", "sofas", "rugs")
Writer = Callable[[float], Path]


@pytest.fixture
def evals_with_coverage(tmp_path: Path) -> Writer:
    """Return a function that writes an evaluation whose intervals cover 90 % of items, but `sofas` of the sofas."""

    def write(sofas: float) -> Path:
        folder = tmp_path / f"evals-{sofas}"
        folder.mkdir()
        random = np.random.default_rng(5)
        truths = np.exp(random.normal(4, 0.8, N))
        items = [EvalItem(f"i{i}", f"Item {i}", CATEGORIES[i % 3], float(truths[i]), None, 0, ()) for i in range(N)]
        write_items(folder, items, {"format": 1, "catalog": "f" * 64, "split": "test"})
        rows = []
        for i, truth in enumerate(truths.tolist()):
            level = sofas if CATEGORIES[i % 3] == "sofas" else 0.9
            covered = (i // 3) % 100 < 100 * level  # exactly the level in every category
            quote, factor = 1.1 * truth, 1.5 if covered else 1.05
            rows.append(EvalRow(f"i{i}", truth, quote, quote / factor, quote * factor, "", 0.001, 0.0))
        facts: dict[str, Any] = {"kind": "ridge", "catalog_name": "made", "split": "test", "fit_seconds": 1.0}
        write_evaluation(folder, Evaluation("oak", "f" * 64, tuple(rows), 50.0, "USD", (0.5, 9e4), {}), facts)
        return folder

    return write


def test_significant_miscoverage_of_a_category_is_on_the_page(evals_with_coverage: Writer, tmp_path: Path) -> None:
    """The page warns about it, names the lowest category as significant, and marks its row of the table."""
    write_report(evals_with_coverage(0.7), tmp_path / "report.html")
    text = section_text(tmp_path / "report.html", "coverage")
    assert re.search(
        r"oak: coverage of the 90 % intervals in category sofas is 70\.0 % \(n = 200\), significantly below 90 % "
        r"\(p < 0\.001\)\.",
        text,
    )
    assert re.search(r"Category with the lowest coverage: sofas for oak \(70\.0 %, significantly below 90 % \(p", text)
    row = re.search(
        r"sofas 70\.0 % [\d.]+ to [\d.]+ % significantly below 90 % \(p < 0\.001\) 200 price ÷ 1\.\d\d", text
    )
    assert row is not None
    page = (tmp_path / "report.html").read_text()
    assert re.search(r'<span class="pill bad">significantly below', page.replace("\u00a0", " "))
    assert "significantly low; price ÷" in visible_text(tmp_path / "report.html")


def test_coverage_within_sampling_error_is_not_a_warning(evals_with_coverage: Writer, tmp_path: Path) -> None:
    """The lowest category is named all the same, as within sampling error; nothing is marked."""
    write_report(evals_with_coverage(0.88), tmp_path / "report.html")
    text = section_text(tmp_path / "report.html", "coverage")
    assert "Category with the lowest coverage: sofas for oak (88.0 %, within sampling error of 90 %)." in text
    assert "significantly" not in text
    page = re.search(r'<section id="coverage">.*?</section>', (tmp_path / "report.html").read_text(), re.DOTALL)
    assert page is not None
    assert 'class="warn"' not in page[0]
    assert "pill bad" not in page[0]


def test_miscoverage_is_in_the_json_of_report_and_eval(evals_with_coverage: Writer, tmp_path: Path) -> None:
    """Every test with its p-value in report.json; the significant ones in the leaderboard of `eval --json`."""
    folder = evals_with_coverage(0.7)
    write_report(folder, tmp_path / "report.html")
    checks = json.loads((tmp_path / "report.json").read_text(), parse_constant=pytest.fail)["coverage"]
    by_label = {check["label"]: check for check in checks if check["scope"] == "category"}
    assert set(by_label) == set(CATEGORIES)
    assert (by_label["sofas"]["coverage"], by_label["sofas"]["is_significant"]) == (pytest.approx(0.7), True)
    assert by_label["sofas"]["p"] < 0.001 < 0.05 < by_label["lamps"]["p"]
    assert by_label["lamps"]["is_significant"] is False
    assert [check["n"] for check in checks if check["scope"] == "all"] == [N]
    evals = read_evals(folder)
    (row,) = json.loads(json.dumps(leaderboard_dict(evals, build_leaderboard(evals))))["leaderboard"]
    assert {"all", "category"} <= {check["scope"] for check in row["miscoverage"]}
    assert all(check["is_significant"] for check in row["miscoverage"])


def test_miscoverage_is_on_the_terminal(evals_with_coverage: Writer) -> None:
    """A star beside the overall coverage is explained, and the category has a sentence of its own."""
    rows = build_leaderboard(read_evals(evals_with_coverage(0.7)))
    notes = leaderboard_notes(rows, "USD")
    assert any(
        note.startswith("* oak: coverage of the 90 % intervals is 83.3 % (n = 600), significantly") for note in notes
    )
    assert any("in category sofas is 70.0 % (n = 200), significantly below 90 %" in note for note in notes)
    fine = leaderboard_notes(build_leaderboard(read_evals(evals_with_coverage(0.9))), "USD")
    assert not any("significantly" in note for note in fine)


def test_every_figure_is_valid_plotly(evals_with_coverage: Writer, tmp_path: Path) -> None:
    """plotly.graph_objects accepts each figure once the page's color names are replaced and its own keys removed."""
    write_report(evals_with_coverage(0.7), tmp_path / "report.html")
    data = re.search(r'id="figures">(.*?)</script>', (tmp_path / "report.html").read_text(), flags=re.DOTALL)
    assert data is not None
    figures = json.loads(re.sub(r'"@[a-z0-9]+(:[\d.]+)?"', '"#123456"', data[1]))
    assert set(figures) == {"chart-quotes", "chart-bands", "chart-categories", "chart-coverage", "chart-running"}
    for figure in figures.values():
        shared = figure.get("shared", {})
        traces = [
            {key: value for key, value in {**(shared if "shared" in trace else {}), **trace}.items()
             if key not in ("shared", "tab")}
            for trace in figure["data"]
        ]  # fmt: skip
        assert go.Figure(data=traces, layout=figure["layout"]).data
    with pytest.raises(ValueError, match="Invalid"):
        go.Figure(data=[{"type": "bar", "no_such_property": 1}])
