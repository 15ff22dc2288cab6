"""The page about the reference, and report.json beside it: the same numbers, whole, and nothing made up."""

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
from pricesmith.evaluation.cost import EACH_ITS_OWN
from pricesmith.reporting import write_report
from pricesmith.reporting.head_to_head import bars, format_clock
from pricesmith.reporting.published import published_figures

from .conftest import judged

Folder = Callable[..., Path]
EACH = {"latency": EACH_ITS_OWN}
ALL = {
    "ridge": judged(0.3, 1),
    "mlp": judged(0.5, 2, kind="sparse_mlp"),
    "median": judged(3.0, 3, kind="median"),
    "gpt": judged(0.9, 4, kind="api", n=200, cost=0.001, seconds=2.0, **EACH),
    "new": judged(0.25, 5, kind="api", n=200, seconds=1.0, cost_known=False, **EACH),
    "human:ada": judged(1.0, 6, kind="human", n=40),
}


def words_of(page: Path) -> str:
    """What a reader sees of a page."""
    text = re.sub(r"<(script|style)\b.*?</\1>", "", page.read_text(), flags=re.DOTALL)
    return " ".join(html.unescape(re.sub(r"<[^>]*>", " ", text)).replace("\u00a0", " ").split())


def part(page: Path, id: str) -> str:
    """What a reader sees of one section."""
    found = re.search(rf'<section id="{id}".*?</section>', page.read_text(), flags=re.DOTALL)
    assert found is not None
    return " ".join(html.unescape(re.sub(r"<[^>]*>", " ", found[0])).replace("\u00a0", " ").split())


def test_the_conclusion_comes_first_and_is_the_files(evals_of: Folder, tmp_path: Path) -> None:
    """The page opens with the very sentences of report.json, before the leaderboard."""
    facts = write_report(evals_of(ALL), tmp_path / "report.html", machine_cost=0.36)
    words = words_of(tmp_path / "report.html")
    assert json.loads((tmp_path / "report.json").read_text()) == json.loads(json.dumps(facts))
    for sentence in facts["words"]:
        assert 0 < words.index(" ".join(sentence.split())) < words.index("Leaderboard Best first")


def test_conclusion_json_holds_the_numbers(evals_of: Folder, tmp_path: Path) -> None:
    """Reference, everybody against it, costs; null where nothing is known, and strict JSON throughout."""
    write_report(evals_of(ALL), tmp_path / "report.html", machine_cost=0.36)
    facts = json.loads((tmp_path / "report.json").read_text(), parse_constant=pytest.fail)
    assert facts["format"] == 1
    assert (facts["reference"]["name"], facts["reference"]["side"], facts["reference"]["items"]) == (
        "ridge",
        "own",
        300,
    )
    versus = {one["competitor"]: one for one in facts["versus"]}
    assert set(versus) == {"mlp", "median", "gpt", "new", "human:ada"}
    assert versus["gpt"]["outcome"] == "better"
    assert versus["gpt"]["difference"] == pytest.approx(
        versus["gpt"]["competitor_error"] - versus["gpt"]["reference_error"]
    )
    assert versus["gpt"]["low"] < versus["gpt"]["difference"] < versus["gpt"]["high"]
    assert versus["gpt"]["break_even"] == {"quotes": 2, "why": "paid back", "box_usd_per_hour": pytest.approx(3600)}
    costs = {one["pricer"]: one for one in facts["costs"]}
    assert costs["gpt"]["usd_per_million"] == pytest.approx(1000)
    assert (costs["new"]["usd_per_1000"], costs["human:ada"]["usd_per_1000"]) == (None, None)
    assert costs["gpt"]["latency_seconds"] == {"median": 2.0, "high": 2.0, "n": 200}
    assert costs["ridge"]["latency_seconds"] is None


def test_the_same_evaluations_give_the_same_conclusion(evals_of: Folder, tmp_path: Path) -> None:
    """Byte for byte, wherever it is written."""
    folder = evals_of(ALL)
    for place in ("a", "b"):
        write_report(folder, tmp_path / place / "report.html", machine_cost=0.36)
    assert (tmp_path / "a" / "report.json").read_bytes() == (tmp_path / "b" / "report.json").read_bytes()
    assert (tmp_path / "a" / "report.html").read_bytes() == (tmp_path / "b" / "report.html").read_bytes()


def test_what_is_not_known_is_never_nothing(evals_of: Folder, tmp_path: Path) -> None:
    """Without the box's price own compute is unknown; without a price per token the hosted model's fees are."""
    write_report(evals_of(ALL), tmp_path / "report.html")
    cost = part(tmp_path / "report.html", "cost")
    assert "What own compute costs is unknown: the box has no price here" in cost
    assert "ridge own box" in cost.replace("reference ", "")
    assert cost.count("unknown") >= 7
    assert "US$0 " not in cost
    assert "new hosted unknown no price per token" in cost


def test_the_cost_table_says_what_a_thousand_and_a_million_cost(evals_of: Folder, tmp_path: Path) -> None:
    """Fees, compute, latency, fitting and where own compute becomes the cheaper one."""
    write_report(evals_of(ALL), tmp_path / "report.html", machine_cost=3.6)
    cost = part(tmp_path / "report.html", "cost")
    assert "gpt hosted US$1.00 US$1,000.00 2 s median of 200; 95 % within 2 s" in cost
    assert re.search(r"ridge reference own box US\$0\.001 US\$1\.00 1 ms in batches 10\.0 s US\$0\.01", cost)
    assert "11 quotes" in cost


def test_a_competitor_is_chosen_or_named_for_side_by_side(evals_of: Folder, tmp_path: Path) -> None:
    """The most accurate hosted model, unless another is named; somebody unknown is refused."""
    folder = evals_of(ALL)
    write_report(folder, tmp_path / "report.html")
    assert part(tmp_path / "report.html", "beside").startswith("ridge and new side by side")
    write_report(folder, tmp_path / "report.html", reference="mlp", competitor="ridge")
    assert part(tmp_path / "report.html", "beside").startswith("mlp and ridge side by side")
    with pytest.raises(UsageError, match="no competitor of ridge"):
        write_report(folder, tmp_path / "other.html", competitor="nobody")
    assert not (tmp_path / "other.html").exists()


def test_published_figures_stand_apart(evals_of: Folder, tmp_path: Path) -> None:
    """Marked as other items, with source and date, and neither in the leaderboard nor in report.json."""
    write_report(evals_of(ALL), tmp_path / "report.html")
    elsewhere = part(tmp_path / "report.html", "elsewhere")
    assert "Not comparable with the figures above." in elsewhere
    facts = (tmp_path / "report.json").read_text()
    leaderboard = part(tmp_path / "report.html", "leaderboard")
    for table in published_figures():
        assert f"{table.date}." in elsewhere
        assert " ".join(table.source.split()) in elsewhere
        for row in table.row:
            assert row.who in elsewhere
            if row.who not in ("median", "ridge"):  # everybody has one of that name
                assert row.who not in leaderboard
                assert json.dumps(row.who) not in facts


def test_a_hostile_name_stays_text(evals_of: Folder, tmp_path: Path) -> None:
    """In the conclusion, the tables and the file for machines."""
    name = "<img src=x onerror=alert(1)>"
    write_report(evals_of({**ALL, name: judged(0.2, 8, kind="<b>frontier</b>")}), tmp_path / "report.html")
    page = re.sub(r"<(script|style)\b.*?</\1>", "", (tmp_path / "report.html").read_text(), flags=re.DOTALL)
    assert "<img" not in page
    assert "<b>frontier" not in page
    assert name in words_of(tmp_path / "report.html")


def test_the_headline_does_not_claim_what_the_conclusion_denies(evals_of: Folder, tmp_path: Path) -> None:
    """The best on all items is not called so where a hosted model beats it on some."""
    write_report(evals_of({**ALL, "gpt": judged(0.02, 4, kind="api", n=200)}), tmp_path / "report.html")
    first = re.search(r"<h1>(.*?)</h1>", (tmp_path / "report.html").read_text())
    assert first is not None
    assert "does not yet beat gpt" in first[1]
    assert '<span class="pill best">leads</span>' in (tmp_path / "report.html").read_text()


def test_the_terminal_has_the_conclusion_too(
    evals_of: Folder, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """In words for a person, whole for --json, nothing for --quiet; exit 2 for a reference that nobody is."""
    folder, page = str(evals_of(ALL)), str(tmp_path / "out" / "report.html")
    assert run(["report", folder, "--to", page, "--machine-cost", "0.36", "--reference", "ridge"]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert "ridge, the reference you named, is off by" in shown
    assert "ridge beats gpt by" in shown
    assert run(["report", folder, "--to", page, "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["conclusion"] == json.loads((tmp_path / "out" / "report.json").read_text())
    assert run(["report", folder, "--to", page, "--quiet"]) == 0
    assert capsys.readouterr().out == ""
    assert run(["report", folder, "--to", page, "--reference", "nobody"]) == 2


def test_bars_of_differences_share_a_scale_and_stay_inside() -> None:
    """The line of 0 is where it is for all; one hopeless competitor is cut off and marked."""
    drawn = bars([(1.0, 0.5, 1.5), (-1.0, -2.0, 0.5), (2.0, None, None), (500.0, 450.0, 550.0)])
    assert len({one["zero"] for one in drawn}) == 1
    assert [one["cut"] for one in drawn] == ["", "", "", "right"]
    for one in drawn:
        assert 0 <= float(one["at"]) <= 100
        if one["span"] is not None:
            assert 0 <= float(one["low"]) <= float(one["low"]) + float(one["span"]) <= 100.01


def test_no_difference_has_a_bar_too() -> None:
    """Where everything is 0 there is nothing to divide by."""
    (one,) = bars([(0.0, 0.0, 0.0)])
    assert 0 <= float(one["zero"]) <= 100


def test_times_read_from_milliseconds_to_hours() -> None:
    """With the unit that a person would use."""
    assert [format_clock(0.00006), format_clock(2.0), format_clock(600.0), format_clock(9_000.0)] == [
        "0.06 ms",
        "2 s",
        "10 min",
        "2.5 h",
    ]


def test_only_a_report_is_overwritten(evals_of: Folder, tmp_path: Path) -> None:
    """A page and its numbers are replaced; another file of either name stands, but with consent."""
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
    with pytest.raises(UsageError, match="not the name of a page"):
        write_report(folder, tmp_path / "thesis.docx", overwrite=True)


def test_a_page_and_its_numbers_change_together(
    evals_of: Folder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If the second cannot be renamed, the first has its old content again."""
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
