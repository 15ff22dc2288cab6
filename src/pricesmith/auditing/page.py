"""The flagged prices of an audit as one page that opens offline. It runs no script."""

from __future__ import annotations

import math
from importlib import resources
from typing import Any

from pricesmith.auditing.result import AuditedPrice, AuditResult, format_p_value
from pricesmith.text.formatting import format_money, format_price, keep_percent_together, to_single_line

TEMPLATE = "audit.html.j2"
MARKER = '<meta name="generator" content="Pricesmith audit">'
MAX_SHOWN = 500  # listings on the page; the CSV file has all


def render_page(result: AuditResult) -> str:
    """The whole page as text."""
    from jinja2 import Environment, StrictUndefined
    from markupsafe import Markup

    environment = Environment(
        autoescape=True, undefined=StrictUndefined, finalize=keep_percent_together, trim_blocks=True
    )
    template = resources.files("pricesmith.auditing").joinpath("templates", TEMPLATE).read_text(encoding="utf-8")
    style = resources.files("pricesmith.reporting").joinpath("templates", "style.css").read_text(encoding="utf-8")
    return environment.from_string(template).render(page_content(result), css=Markup(style), marker=Markup(MARKER))


def page_content(result: AuditResult) -> dict[str, Any]:
    """Everything that the template lays out."""
    counts, flagged = result.counts(), result.flagged
    return {
        "name": to_single_line(result.name, 60),
        "headline": result.headline(),
        "tiles": [
            ("Asked too much", f"{counts['over']:,}", "assessed as over"),
            ("Asked too little", f"{counts['under']:,}", "assessed as under"),
            (
                "Money at stake",
                format_price(sum(row.money or 0.0 for row in flagged), result.currency),
                "differences from the expected prices",
            ),
            ("Plausible", f"{counts['plausible']:,}", f"{counts['not_assessed']:,} could not be assessed"),
        ],
        "rows": [describe_row(row, result.currency) for row in flagged[:MAX_SHOWN]],
        "more": len(flagged) - MAX_SHOWN if len(flagged) > MAX_SHOWN else 0,
        "fdr": f"{result.fdr * 100:g} %",
        "judge": result.judge,
        "notes": list(result.notes),
    }


def describe_row(row: AuditedPrice, currency: str) -> dict[str, Any]:
    """One flagged listing as the template shows it."""
    assert row.asked is not None
    assert row.expected is not None
    ratio = row.asked / row.expected
    return {
        "title": to_single_line(row.title, 120) or "(no title)",
        "id": to_single_line(row.id, 40),
        "category": to_single_line(row.category, 40),
        "assessment": row.assessment,
        "asked": format_money(row.asked, currency),
        "expected": format_money(row.expected, currency),
        "low": format_money(row.low or 0.0, currency),
        "high": format_money(row.high or 0.0, currency),
        "factor": f"{ratio:,.1f} times as much" if ratio >= 1 else f"{1 / ratio:,.1f} times less",
        "money": format_price(row.money or 0.0, currency),
        "p_value": describe_p_value(row.p_value),
        "possible_error": row.possible_error,
        "note": row.note,
        "comparables": [
            (to_single_line(near.title, 80) or "(no title)", format_money(near.price, currency))
            for near in row.comparables
        ],
        "scale": price_scale(row),
    }


def describe_p_value(value: float | None) -> str:
    """A p-value after the letter p: `= 0.00034`, `< 1e-9`."""
    text = format_p_value(value)
    return text.replace("under", "<") if text.startswith("under") else f"= {text}"


def price_scale(row: AuditedPrice) -> dict[str, Any]:
    """Where asked price, expected price, interval and comparables lie on a log scale, in per cent of its width."""
    assert row.asked is not None
    assert row.expected is not None
    values = [row.asked, row.expected, row.low or row.expected, row.high or row.expected]
    values += [near.price for near in row.comparables]
    logs = [math.log(value) for value in values]
    start, width = min(logs), max(max(logs) - min(logs), 1e-9)
    places = [round(4 + 92 * (log - start) / width, 1) for log in logs]
    return {
        "asked": places[0],
        "expected": places[1],
        "low": places[2],
        "width": round(max(places[3] - places[2], 0.5), 1),
        "comparables": places[4:],
    }
