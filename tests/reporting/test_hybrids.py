"""Models that ask an API model: which one, about how many listings and at what cost, on page and terminal."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pricesmith.cli import run
from pricesmith.evaluation.conclusion import conclude
from pricesmith.evaluation.cost_curve import CurveConstraint, read_cost_curve, read_hybrid
from pricesmith.evaluation.leaderboard import build_leaderboard
from pricesmith.evaluation.results import Evals
from pricesmith.reporting import write_report
from pricesmith.reporting.hybrids import curve_sentences, describe_constraint, describe_hybrid, format_asked
from pricesmith.reporting.narrative import conclusion_paragraph
from pricesmith.reporting.tables import leaderboard_notes
from pricesmith.text.formatting import format_bounds, format_price

from .conftest import FEE, ITEMS, evaluated, hybrid_pricers
from .test_page import section_text

Folder = Callable[..., Path]
Read = Callable[..., Evals]


def conclusion_of(evals: Evals, **options: Any) -> str:
    """Return the conclusion as one paragraph."""
    conclusion = conclude(evals, **options)
    return " ".join(conclusion_paragraph(conclusion, evals.meta[conclusion.reference]))


def hybrid_of(**options: Any) -> Any:
    """Return the facts of the cascade."""
    return read_hybrid(hybrid_pricers(**options)["frugal"][1])


@pytest.mark.parametrize(
    ("share", "words"),
    [
        (0.0, "about none of the listings"),
        (0.004, "about less than 1 % of the listings"),
        (0.206, "about 21 % of the listings"),
        (0.9967, "about more than 99 % of the listings"),
        (1.0, "about every listing"),
    ],
)
def test_a_share_is_never_rounded_to_none_or_all(share: float, words: str) -> None:
    """A few listings are not none, and most are not all."""
    assert format_asked(share) == words


def test_the_sentence_has_the_chosen_point_and_its_alternatives() -> None:
    """The share, the fees, the MAE with its interval; always asking, and each model alone."""
    hybrid = hybrid_of()
    point, curve = hybrid.curve.chosen, hybrid.curve
    words = describe_hybrid("frugal", hybrid, "USD")
    mae = f"{format_price(point.mae, 'USD')}{format_bounds(point.low, point.high, 'USD')}"
    start = (
        "frugal asks llm_answers about 20 % of the listings, at US$0.40 of fees for 1,000 (estimated), and has an MAE"
    )
    assert words.startswith(f"{start} of {mae} on 300 items; always asking has an MAE of $")
    assert f"always asking has an MAE of {format_price(curve.always.mae, 'USD')} at US$2.00" in words
    assert f"llm_answers alone {format_price(curve.second_alone.mae, 'USD')} and best alone $" in words
    assert words.endswith(f"best alone {format_price(curve.first_alone.mae, 'USD')}.")


def test_nothing_is_said_twice_where_the_chosen_point_is_an_end() -> None:
    """A cascade that always asks has no other price for always asking; one that never asks is its first model."""
    assert "always asking" not in describe_hybrid("frugal", hybrid_of(share=1.0), "USD")
    assert "best alone" not in describe_hybrid("frugal", hybrid_of(share=0.0), "USD")
    assert "asks llm_answers about none of the listings and has an MAE" in describe_hybrid(
        "frugal", hybrid_of(share=0.0), "USD"
    )


def test_unknown_fees_and_seconds_are_called_so() -> None:
    """Unknown fees are not 0; a cascade of two own models takes seconds and is not estimated."""
    assert ", at unknown fees, and has an MAE" in describe_hybrid("frugal", hybrid_of(fee=None), "USD")
    words = describe_hybrid("frugal", hybrid_of(cost_unit="seconds"), "USD")
    assert ", in 0.4 s for 1,000, and has an MAE" in words
    assert re.search(r"always asking has an MAE of \$[\d.]+ in 2 s,", words)
    assert "US$" not in words
    assert "estimated" not in words


def test_a_blend_has_its_fees_and_no_curve() -> None:
    """Without a name its member is an API model."""
    asked = {"n": 600, "asked": 600, "unanswered": 0}
    blend = read_hybrid({"asked": {**asked, "member": "gpt"}})
    assert blend is not None
    assert describe_hybrid("blend", blend, "USD", fees=2.0) == (
        "blend asks gpt about every listing, at US$2.00 of fees for 1,000."
    )
    nameless = read_hybrid({"asked": asked})
    assert nameless is not None
    assert describe_hybrid("blend", nameless, "USD") == "blend asks an API model about every listing, at unknown fees."
    assert describe_hybrid("blend", nameless, "USD", fees=0.0) == "blend asks an API model about every listing."


def test_the_constraint_is_compared_with_what_was_measured() -> None:
    """Kept or exceeded on the evaluated items; a share is chosen, not measured."""
    curve = read_cost_curve(hybrid_pricers()["frugal"][1])
    assert curve is not None

    def words(name: Any, value: float) -> str:
        constraint = CurveConstraint(name=name, value=value)
        return describe_constraint(curve.model_copy(update={"constraint": constraint}), "USD")

    start = "The share was chosen on validation listings for"
    assert words("max_cost_per_1000", 0.5) == (
        f"{start} a cost of at most US$0.50 for 1,000 listings; here it costs US$0.40."
    )
    assert words("max_cost_per_1000", 0.3).endswith("; here it costs US$0.40, which is more.")
    assert words("max_mae", 1.0).endswith(
        f"an MAE of at most $1.00; here it has an MAE of {format_price(curve.chosen.mae, 'USD')}, which is more."
    )
    assert words("share", 0.25) == f"{start} asking about 25 % of the listings."
    assert words("max_seconds_per_1000", 2.0).endswith("at most 2 s for 1,000 listings; here it takes 0.4 s.")


def test_unanswered_listings_and_estimates_are_mentioned_above_the_chart() -> None:
    """They have the first model's quote; without known fees the chart has another axis."""
    hybrid = hybrid_of(share=1.0)
    words = " ".join(curve_sentences("frugal", hybrid, "USD"))
    assert "3 of the 300 listings asked about were unanswered and have the quote of best." in words
    assert "Fees are estimates; the bill may differ." in words
    one = replace(hybrid, asked=hybrid.asked.model_copy(update={"unanswered": 1}))
    assert "1 of the 300 listings asked about was unanswered and has the quote" in " ".join(
        curve_sentences("frugal", one, "USD")
    )
    unknown = " ".join(curve_sentences("frugal", hybrid_of(fee=None), "USD"))
    assert "Fees are unknown, so the chart shows the MAE by the share of listings asked about." in unknown
    assert "estimates" not in unknown
    own = " ".join(curve_sentences("frugal", hybrid_of(cost_unit="seconds", unanswered=0), "USD"))
    assert "unanswered" not in own
    assert "Fees" not in own


# The conclusion


def test_a_hybrid_reference_is_not_passed_off_as_a_model_without_fees(read_of: Read) -> None:
    """The most accurate own model asks an API model: the conclusion says which and how often, right after its MAE."""
    words = conclusion_of(read_of(hybrid_pricers()))
    assert re.search(
        r"blend has an MAE of [^.]+\.\d+ \[[\d., ]+\], the lowest of your 3 models\. blend asks llm_answers about "
        r"every listing, at US\$2\.00 of fees for 1,000 \(estimated\)\.",
        words,
    )
    named = conclusion_of(read_of(hybrid_pricers()), reference="frugal")
    assert (
        "frugal asks llm_answers about 20 % of the listings, at US$0.40 of fees for 1,000 (estimated); always" in named
    )


def test_a_hybrid_competitor_is_described_too(read_of: Read) -> None:
    """A model without fees as the reference is told what a more accurate hybrid costs."""
    words = conclusion_of(read_of(hybrid_pricers()), reference="best")
    assert "blend has a lower MAE than best, by $" in words
    assert "blend asks llm_answers about every listing, at US$2.00 of fees for 1,000 (estimated)." in words
    assert "frugal asks llm_answers about 20 % of the listings" in words
    assert "best asks" not in words


def test_saved_answers_of_the_asked_model_are_a_frontier_model(read_of: Read) -> None:
    """They are compared in a sentence of their own, not among the user's other models."""
    words = conclusion_of(read_of(hybrid_pricers()))
    assert "blend shows no significant difference from llm_answers on the same 300 items: its MAE is $" in words
    assert "Of your other models, blend has a lower MAE than frugal and best." in words
    assert "No frontier model was evaluated" not in words


def test_the_difference_from_an_asked_model_that_was_not_evaluated_is_not_tested(read_of: Read) -> None:
    """The curve has its MAE, but without its evaluation there is no paired test."""
    pricers = hybrid_pricers()
    del pricers["llm_answers"]
    words = conclusion_of(read_of(pricers))
    assert "llm_answers was not evaluated on its own, so whether blend is more accurate is not tested." in words
    assert "No frontier model was evaluated" not in words
    own = conclusion_of(read_of(pricers), reference="best")
    assert "No frontier model was evaluated on its own, so how best compares with one is unknown." in own


def test_a_hybrid_is_no_evidence_for_a_language_model_of_ones_own(read_of: Read) -> None:
    """An ensemble with a tuned model and an API model may owe its accuracy to the API model."""
    rows, facts = hybrid_pricers()["blend"]
    parts = {"parts": {"tuned": "lora_bins"}}
    pricers = {"mlp": evaluated(0.6, 2, kind="sparse_mlp"), "blend": (rows, {**facts, **parts})}
    assert conclude(read_of(pricers)).llm.state == "no LLM"
    del facts["asked"]
    assert conclude(read_of({**pricers, "blend": (rows, {**facts, **parts})})).llm.state == "compared"


def test_a_hybrid_with_unknown_fees_has_no_break_even_point(read_of: Read) -> None:
    """The reason is its fees, not the machine."""
    pricers = {**hybrid_pricers(fee=None), "gpt": evaluated(0.9, 4, kind="api", cost=0.001)}
    words = conclusion_of(read_of(pricers), machine_cost=0.36)
    assert "When blend breaks even with gpt is unknown: its fees are unknown." in words
    assert "--machine-cost" not in words
    known = conclusion_of(read_of({**pricers, **hybrid_pricers()}), machine_cost=0.36)
    assert "blend never breaks even with gpt: its quotes are not cheaper." in known


# The page, report.json and the terminal


def test_the_page_has_a_section_for_each_cascade(evals_of: Folder, tmp_path: Path) -> None:
    """With its sentences, its chart, and a table of all points; a blend has none."""
    page = tmp_path / "report.html"
    write_report(evals_of(hybrid_pricers()), page)
    section = section_text(page, "cost-curve-1")
    assert section.startswith("Cost and error of the cascade frugal frugal asks llm_answers about 20 % of the listings")
    curve = read_cost_curve(hybrid_pricers()["frugal"][1])
    assert curve is not None
    for point in (*curve.points, curve.chosen, curve.second_alone):
        assert format_price(point.mae, "USD") in section
    assert "20 % chosen US$0.40" in section
    assert "0 % best alone US$0" in section
    assert "100 % always asked US$2.00" in section
    text = page.read_text()
    assert '<a href="#cost-curve-1">Cost and error</a>' in text
    assert 'id="chart-cost-1"' in text
    assert "cost-curve-2" not in text
    write_report(evals_of({"ridge": evaluated(0.3, 1)}), tmp_path / "other.html", reference="ridge")


def test_a_page_without_a_cascade_has_no_such_section(evals_of: Folder, tmp_path: Path) -> None:
    """Neither in the page nor in its contents."""
    write_report(evals_of({"ridge": evaluated(0.3, 1)}), tmp_path / "report.html")
    assert "cost-curve" not in (tmp_path / "report.html").read_text()


def test_hostile_names_in_a_curve_stay_text(evals_of: Folder, tmp_path: Path) -> None:
    """In the sentences, the table, and the labels of the chart, where Plotly reads tags."""
    pricers = hybrid_pricers()
    rows, facts = pricers["frugal"]
    curve = {**facts["cost_curve"], "first": "<b>own</b>", "second": "<img src=x>"}
    write_report(evals_of({**pricers, "frugal": (rows, {**facts, "cost_curve": curve})}), tmp_path / "report.html")
    text = (tmp_path / "report.html").read_text()
    assert "<img" not in re.sub(r"<(script|style)\b.*?</\1>", "", text, flags=re.DOTALL)
    data = re.search(r'id="figures">(.*?)</script>', text, flags=re.DOTALL)
    assert data is not None
    labels = [label["text"] for label in json.loads(data[1])["chart-cost-1"]["layout"]["annotations"]]
    assert any(label.startswith("&lt;img src=x&gt; alone<br>$") for label in labels)


def test_report_json_has_the_curve_of_each_cascade(evals_of: Folder, tmp_path: Path) -> None:
    """In the form of the meta file, with the counts; null for other pricers."""
    pricers = hybrid_pricers()
    write_report(evals_of(pricers), tmp_path / "report.html")
    facts = json.loads((tmp_path / "report.json").read_text(), parse_constant=pytest.fail)
    rows = {row["name"]: row for row in facts["leaderboard"]}
    assert rows["frugal"]["cost_curve"] == pricers["frugal"][1]["cost_curve"]
    assert rows["frugal"]["asked"]["asked"] == 60
    assert (rows["blend"]["cost_curve"], rows["blend"]["asked"]["asked"]) == (None, ITEMS)
    assert (rows["best"]["cost_curve"], rows["best"]["asked"]) == (None, None)
    costs = {cost["name"]: cost for cost in facts["costs"]}
    assert costs["blend"]["fees_usd_per_1000"] == pytest.approx(1_000 * FEE)
    assert [costs[name]["estimated_fees"] for name in ("blend", "best")] == [True, False]


@pytest.mark.parametrize(
    ("machine_cost", "blend", "frugal"),
    [
        (3.6, "US$2.00 estimated fees US$2.00 + compute US$0.001", "US$0.40 estimated fees US$0.40 + compute US$0.001"),
        (None, "US$2.00 estimated fees only; no machine cost given", "US$0.40 estimated fees only; no machine cost"),
    ],
)
def test_the_cost_table_has_fees_and_compute(
    machine_cost: float | None, blend: str, frugal: str, evals_of: Folder, tmp_path: Path
) -> None:
    """A hybrid runs on this machine and asks an API model."""
    write_report(evals_of(hybrid_pricers()), tmp_path / "report.html", machine_cost=machine_cost)
    cost = section_text(tmp_path / "report.html", "cost")
    assert f"blend reference this machine, asks llm_answers {blend}" in cost
    assert f"frugal this machine, asks llm_answers {frugal}" in cost
    assert "best this machine US$" in cost or "best this machine unknown no machine cost given" in cost


def test_unknown_fees_leave_the_cost_unknown(evals_of: Folder, tmp_path: Path) -> None:
    """Although the machine's cost is known."""
    write_report(evals_of(hybrid_pricers(fee=None)), tmp_path / "report.html", machine_cost=3.6)
    assert "asks llm_answers unknown fees unknown" in section_text(tmp_path / "report.html", "cost")


def test_side_by_side_shows_the_asked_model(evals_of: Folder, tmp_path: Path) -> None:
    """A reader wants to see the hybrid beside the frontier model, not beside the next own one."""
    write_report(evals_of(hybrid_pricers()), tmp_path / "report.html")
    assert section_text(tmp_path / "report.html", "breakdown").startswith("blend and llm_answers side by side")


def test_the_terminal_has_one_line_for_each_hybrid(
    read_of: Read, evals_of: Folder, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Under the leaderboard of `eval`, and in the conclusion of `report`."""
    notes = leaderboard_notes(build_leaderboard(read_of(hybrid_pricers())), "USD")
    assert sum(note.startswith("frugal asks llm_answers about 20 %") for note in notes) == 1
    assert sum(note.startswith("blend asks llm_answers about every listing, at US$2.00 of fees") for note in notes) == 1
    assert not any(note.startswith("best asks") for note in notes)
    assert run(["report", str(evals_of(hybrid_pricers())), "--to", str(tmp_path / "report.html")]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert "frugal asks llm_answers about 20 % of the listings, at US$0.40 of fees for 1,000 (estimated)" in shown
