"""The tab "Drift": whether the model still prices as it did when it was fitted, in a sentence, charts and a table."""

from __future__ import annotations

import asyncio
import math
from datetime import UTC, datetime, timedelta
from typing import Any

from fastapi import APIRouter, Request, Response

from pricesmith.core.errors import PricesmithError
from pricesmith.metrics.stability import LARGE, MODERATE
from pricesmith.pricers.reference import Reference
from pricesmith.serve.drift import DriftReport, drift_report
from pricesmith.serve.drift_quotes import DriftDay
from pricesmith.serve.log_records import parse_day
from pricesmith.serve.pages.day_chart import DayChart, build_chart
from pricesmith.serve.pages.render import error_status, render
from pricesmith.serve.pages.wording import format_day
from pricesmith.serve.pricing import get_service
from pricesmith.text.formatting import MINUS, format_share

DAYS = 30  # shown unless another day is chosen

router = APIRouter()


@router.get("/drift")
async def show_drift(request: Request, model: str = "", since: str = "") -> Response:
    """The drift of a model since a day (default: 30 days ago)."""
    service = get_service(request)
    start = since.strip()[:40] or (datetime.now(UTC).date() - timedelta(days=DAYS)).isoformat()
    values: dict[str, Any] = {"tab": "drift", "title": "Drift", "since": start, "chosen": model, "report": None}
    values |= {"keeps_log": service.log is not None, "today": datetime.now(UTC).date().isoformat()}
    try:
        engine = service.engine(model)
        values["chosen"] = engine.name
        day = parse_day(start)
        if service.log is not None:
            report = await asyncio.to_thread(drift_report, service.log, engine.model, day)
            shown = describe_report(report, engine.model.reference, str(service.log.path))
            return render(request, "drift.html.j2", **values | {"report": shown})
    except PricesmithError as error:
        return render(request, "drift.html.j2", error_status(error), **values | {"error": error})
    return render(request, "drift.html.j2", **values)


def describe_report(report: DriftReport, reference: Reference | None, log_path: str) -> dict[str, Any]:
    """What the tab shows: no path of the server's machine is in it."""
    sentences = [sentence.replace(log_path, "LOG") for sentence in report.sentences]
    return {
        "first": sentences[0] if sentences else "",
        "more": sentences[1:],
        "alarm": report.alarm,
        "quotes": report.quotes.quotes,
        "charts": build_charts(report, reference),
        "days": [describe_day(day) for day in reversed(report.quotes.days)],
    }


def build_charts(report: DriftReport, reference: Reference | None) -> list[DayChart]:
    """The charts that have values."""
    days = report.quotes.days
    names = [day.day for day in days]
    widths = reference.widths if reference else None
    training_width = [(math.exp(widths.mean), "training")] if widths else []
    flagged = [(reference.flagged / reference.checked, "training")] if reference and reference.checked else []
    charts = [
        build_chart("Listings priced", names, [float(day.listings) for day in days], "{:,.0f}".format, as_bars=True),
        build_chart(
            "Change of the quotes (PSI)",
            names,
            [day.psi for day in days],
            "{:.2f}".format,
            levels=[(MODERATE, "moderate"), (LARGE, "large")],
            large=[bool(day.change) for day in days],
        ),
        build_chart(
            "Width of the ranges (high ÷ low)",
            names,
            [day.width for day in days],
            "{:.2f}".format,
            levels=training_width,
        ),
        build_chart(
            "Share with nothing similar", names, [day.nothing_similar for day in days], format_share, levels=flagged
        ),
        build_chart("Length of the text, in characters", names, [day.length for day in days], "{:,.0f}".format),
    ]
    return [chart for chart in charts if chart is not None]


def describe_day(day: DriftDay) -> dict[str, str]:
    """A day as a line of the table."""
    return {
        "day": format_day(day.day),
        "listings": f"{day.listings:,}",
        "unanswered": f"{day.unanswered:,}",
        "psi": "" if day.psi is None else f"{day.psi:.2f}",
        "change": day.change,
        "shift": "" if day.shift is None else f"{100 * day.shift:+.0f} %".replace("-", MINUS),
        "width": "" if day.width is None else f"{day.width:.2f}",
        "similar": "" if day.nothing_similar is None else format_share(day.nothing_similar),
        "length": "" if day.length is None else f"{day.length:,.0f}",
    }
