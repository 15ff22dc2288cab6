"""The report page and report.json: the same numbers in both, and unknown values are called unknown."""

from __future__ import annotations

import html
import json
import os
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from pricesmith.cli import run
from pricesmith.core.errors import UsageError
from pricesmith.core.types import EACH_REQUEST
from pricesmith.reporting import write_report
from pricesmith.reporting.head_to_head import format_duration, interval_bars, published_figures

from .conftest import evaluated

Folder = Callable[..., Path]
EACH = {"latency": EACH_REQUEST}
ALL = {
    "ridge": evaluated(0.3, 1),
    "mlp": evaluated(0.5, 2, kind="sparse_mlp"),
    "median": evaluated(3.0, 3, kind="median"),
    "gpt": evaluated(0.9, 4, kind="api", n=200, cost=0.001, seconds=2.0, **EACH),
    "new": evaluated(0.25, 5, kind="api", n=200, seconds=1.0, cost_known=False, **EACH),
    "human:ada": evaluated(1.0, 6, kind="human", n=40),
}


def visible_text(page: Path) -> str:
    """Return the text that a reader sees on a page."""
    text = re.sub(r"<(script|style)\b.*?</\1>", "", page.read_text(), flags=re.DOTALL)
    return " ".join(html.unescape(re.sub(r"<[^>]*>", " ", text)).replace("\u00a0", " ").split())


def section_text(page: Path, id: str) -> str:
    """Return the text that a reader sees in one section."""
    match = re.search(rf'<section id="{id}".*?</section>', page.read_text(), flags=re.DOTALL)
    assert match is not None
    return " ".join(html.unescape(re.sub(r"<[^>]*>", " ", match[0])).replace("\u00a0", " ").split())


def test_the_conclusion_comes_first_and_is_the_files(evals_of: Folder, tmp_path: Path) -> None:
    """The page starts with the sentences of report.json, before the leaderboard."""
    facts = write_report(evals_of(ALL), tmp_path / "report.html", machine_cost=0.36)
    words = visible_text(tmp_path / "report.html")
    assert json.loads((tmp_path / "report.json").read_text()) == json.loads(json.dumps(facts))
    for sentence in facts["conclusion"]:
        assert 0 < words.index(" ".join(sentence.split())) < words.index("Leaderboard Most accurate first")


def test_conclusion_json_holds_the_numbers(evals_of: Folder, tmp_path: Path) -> None:
    """Reference, competitors and costs; null for unknown values, and strict JSON throughout."""
    write_report(evals_of(ALL), tmp_path / "report.html", machine_cost=0.36)
    facts = json.loads((tmp_path / "report.json").read_text(), parse_constant=pytest.fail)
    assert facts["format"] == 2
    assert (facts["reference"]["name"], facts["reference"]["type"], facts["reference"]["n"]) == (
        "ridge",
        "own",
        300,
    )
    competitors = {competitor["name"]: competitor for competitor in facts["competitors"]}
    assert set(competitors) == {"mlp", "median", "gpt", "new", "human:ada"}
    assert competitors["gpt"]["outcome"] == "better"
    assert competitors["gpt"]["mae_difference"] == pytest.approx(
        competitors["gpt"]["competitor_mae"] - competitors["gpt"]["reference_mae"]
    )
    assert competitors["gpt"]["low"] < competitors["gpt"]["mae_difference"] < competitors["gpt"]["high"]
    assert competitors["gpt"]["break_even"] == {
        "quotes": 2,
        "status": "paid back",
        "machine_usd_per_hour": pytest.approx(3600),
    }
    rows = {row["name"]: row for row in facts["leaderboard"]}
    fees = [rows[name]["fees_usd_per_1000"] for name in ("ridge", "gpt", "new", "human:ada")]
    assert fees == [0.0, pytest.approx(1.0), None, None]
    costs = {cost["name"]: cost for cost in facts["costs"]}
    assert all(rows[name]["fit_seconds"] == costs[name]["fit_seconds"] for name in rows)
    assert costs["gpt"]["usd_per_million"] == pytest.approx(1000)
    assert (costs["new"]["usd_per_1000"], costs["human:ada"]["usd_per_1000"]) == (None, None)
    assert costs["gpt"]["latency_seconds"] == {"median": 2.0, "high": 2.0, "n": 200}
    assert costs["ridge"]["latency_seconds"] is None


def test_the_same_evaluations_give_the_same_conclusion(evals_of: Folder, tmp_path: Path) -> None:
    """Byte for byte, in any folder."""
    folder = evals_of(ALL)
    for name in ("a", "b"):
        write_report(folder, tmp_path / name / "report.html", machine_cost=0.36)
    assert (tmp_path / "a" / "report.json").read_bytes() == (tmp_path / "b" / "report.json").read_bytes()
    assert (tmp_path / "a" / "report.html").read_bytes() == (tmp_path / "b" / "report.html").read_bytes()


def test_unknown_costs_are_never_zero(evals_of: Folder, tmp_path: Path) -> None:
    """Without a machine cost compute is unknown; without a price per token a hosted model's fees are."""
    write_report(evals_of(ALL), tmp_path / "report.html")
    cost = section_text(tmp_path / "report.html", "cost")
    assert "The cost of compute is unknown: this report was made without --machine-cost" in cost
    assert "ridge this machine" in cost.replace("reference ", "")
    assert cost.count("unknown") >= 7
    assert "US$0 " not in cost
    assert "new hosted unknown no price per token given" in cost


def test_the_cost_table_has_costs_per_thousand_and_per_million(evals_of: Folder, tmp_path: Path) -> None:
    """Fees, compute, latency, fitting and break-even."""
    write_report(evals_of(ALL), tmp_path / "report.html", machine_cost=3.6)
    cost = section_text(tmp_path / "report.html", "cost")
    assert "gpt hosted US$1.00 US$1,000.00 2 s median of 200; 95th percentile 2 s" in cost
    assert re.search(r"ridge reference this machine US\$0\.001 US\$1\.00 1 ms in batches 10\.0 s US\$0\.01", cost)
    assert "11 quotes" in cost


def test_a_competitor_is_chosen_or_named_for_side_by_side(evals_of: Folder, tmp_path: Path) -> None:
    """The most accurate hosted model, unless another is named; an unknown name is refused."""
    folder = evals_of(ALL)
    write_report(folder, tmp_path / "report.html")
    assert section_text(tmp_path / "report.html", "breakdown").startswith("ridge and new side by side")
    write_report(folder, tmp_path / "report.html", reference="mlp", competitor="ridge")
    assert section_text(tmp_path / "report.html", "breakdown").startswith("mlp and ridge side by side")
    with pytest.raises(UsageError, match="not a competitor of ridge"):
        write_report(folder, tmp_path / "other.html", competitor="nobody")
    assert not (tmp_path / "other.html").exists()


def test_published_figures_stand_apart(evals_of: Folder, tmp_path: Path) -> None:
    """They are marked as not comparable, with source and date, and not in the leaderboard or report.json."""
    write_report(evals_of(ALL), tmp_path / "report.html")
    published = section_text(tmp_path / "report.html", "published")
    assert "Not comparable with the figures above." in published
    facts = (tmp_path / "report.json").read_text()
    leaderboard = section_text(tmp_path / "report.html", "leaderboard")
    for table in published_figures():
        assert f"{table.date}." in published
        assert " ".join(table.source.split()) in published
        for figure in table.figures:
            assert figure.pricer in published
            if figure.pricer not in ("median", "ridge"):  # names of pricers here too
                assert figure.pricer not in leaderboard
                assert json.dumps(figure.pricer) not in facts


def test_a_hostile_name_stays_text(evals_of: Folder, tmp_path: Path) -> None:
    """In the conclusion, the tables and the JSON file."""
    name = "<img src=x onerror=alert(1)>"
    write_report(evals_of({**ALL, name: evaluated(0.2, 8, kind="<b>frontier</b>")}), tmp_path / "report.html")
    page = re.sub(r"<(script|style)\b.*?</\1>", "", (tmp_path / "report.html").read_text(), flags=re.DOTALL)
    assert "<img" not in page
    assert "<b>frontier" not in page
    assert name in visible_text(tmp_path / "report.html")


def test_the_headline_agrees_with_the_conclusion(evals_of: Folder, tmp_path: Path) -> None:
    """The best on all items is not called best if a hosted model has a lower MAE on the common ones."""
    write_report(evals_of({**ALL, "gpt": evaluated(0.02, 4, kind="api", n=200)}), tmp_path / "report.html")
    first = re.search(r"<h1>(.*?)</h1>", (tmp_path / "report.html").read_text())
    assert first is not None
    assert "gpt has a lower one on the common items" in first[1]
    assert '<span class="pill best">lowest MAE</span>' in (tmp_path / "report.html").read_text()


def test_the_terminal_has_the_conclusion_too(
    evals_of: Folder, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """As text, whole for --json, nothing for --quiet; exit 2 for an unknown reference."""
    folder, page = str(evals_of(ALL)), str(tmp_path / "out" / "report.html")
    assert run(["report", folder, "--to", page, "--machine-cost", "0.36", "--reference", "ridge"]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert "ridge (the reference model you named) has an MAE of" in shown
    assert "ridge has a lower MAE than gpt, by" in shown
    assert run(["report", folder, "--to", page, "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["conclusion"] == json.loads((tmp_path / "out" / "report.json").read_text())
    assert run(["report", folder, "--to", page, "--quiet"]) == 0
    assert capsys.readouterr().out == ""
    assert run(["report", folder, "--to", page, "--reference", "nobody"]) == 2


def test_bars_of_differences_share_a_scale_and_stay_inside() -> None:
    """The line of 0 is at the same position for all; one outlier is cut off and marked."""
    drawn = interval_bars([(1.0, 0.5, 1.5), (-1.0, -2.0, 0.5), (2.0, None, None), (500.0, 450.0, 550.0)])
    assert len({bar["zero"] for bar in drawn}) == 1
    assert [bar["cut"] for bar in drawn] == ["", "", "", "right"]
    for bar in drawn:
        assert 0 <= float(bar["at"]) <= 100
        if bar["span"] is not None:
            assert 0 <= float(bar["low"]) <= float(bar["low"]) + float(bar["span"]) <= 100.01


def test_a_difference_of_zero_has_a_bar_too() -> None:
    """If everything is 0, nothing is divided by 0."""
    (bar,) = interval_bars([(0.0, 0.0, 0.0)])
    assert 0 <= float(bar["zero"]) <= 100


def test_durations_range_from_milliseconds_to_hours() -> None:
    """With the unit that a person would use."""
    assert [format_duration(0.00006), format_duration(2.0), format_duration(600.0), format_duration(9_000.0)] == [
        "0.06 ms",
        "2 s",
        "10 min",
        "2.5 h",
    ]


def test_only_a_report_is_overwritten(evals_of: Folder, tmp_path: Path) -> None:
    """A page and its numbers are replaced; another file of either name is not, except with overwrite."""
    folder, page, data = evals_of(ALL), tmp_path / "june.html", tmp_path / "june.json"
    for _ in range(2):
        write_report(folder, page)
    for path in (page, data):
        old = path.read_bytes()
        path.write_text('{"mine": "<html><head></head>"}')
        with pytest.raises(UsageError, match="did not write it"):
            write_report(folder, page)
        assert "mine" in path.read_text()
        write_report(folder, page, overwrite=True)
        assert path.read_bytes() == old
    with pytest.raises(UsageError, match="not the name of an HTML file"):
        write_report(folder, tmp_path / "thesis.docx", overwrite=True)


def test_a_page_and_its_numbers_change_together(
    evals_of: Folder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If the second cannot be renamed, the first gets its old content back."""
    folder, page, data = evals_of(ALL), tmp_path / "june.html", tmp_path / "june.json"
    write_report(folder, page)
    old = (page.read_bytes(), data.read_bytes())
    replace = os.replace

    def full(source: Path, target: Path) -> None:
        if Path(target) == page:
            raise OSError(28, "No space left on device")
        replace(source, target)

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(OSError, match="No space"):
        write_report(folder, page, reference="mlp")
    assert (page.read_bytes(), data.read_bytes()) == old
    assert sorted(path.name for path in tmp_path.iterdir() if path.is_file()) == ["june.html", "june.json"]
