"""Models that ask another one, in words: which model they ask, about what share of the listings, and at what cost.

    describe_hybrid("cascade", hybrid, "USD")
    -> "cascade asks llm_answers about 21 % of the listings, at US$0.43 of fees for 1,000 (estimated), ..."

The sentences say what was measured; which differences are significant is said by the comparisons.
"""

from __future__ import annotations

from typing import Any

from pricesmith.evaluation.cost_curve import CostCurve, CostPoint, CurveConstraint, HybridFacts
from pricesmith.text.formatting import (
    format_bounds,
    format_count,
    format_number,
    format_price,
    format_seconds,
    format_usd,
    join_names,
    to_single_line,
)

TemplateValues = dict[str, Any]
MAX_NAME_LENGTH = 48
API_MODEL = "an API model"


def format_asked(share: float) -> str:
    """Format a share of listings: `about 21 % of the listings`, `about every listing`, `about none of the listings`."""
    if share in (0, 1):
        return "about every listing" if share else "about none of the listings"
    size = "less than 1 %" if share < 0.01 else "more than 99 %" if share > 0.99 else f"{100 * share:.0f} %"
    return f"about {size} of the listings"


def format_cost(value: float | None, unit: str) -> str:
    """Format a cost in the unit of a curve: `US$0.43`, `12 s`, `unknown`."""
    return f"{format_seconds(value)} s" if unit == "seconds" and value is not None else format_usd(value)


def member_label(name: str) -> str:
    """Return the name of the model that is asked, or what it is if its name is unknown."""
    return to_single_line(name, MAX_NAME_LENGTH) or API_MODEL


def fees_clause(cost: float | None, unit: str, *, estimated: bool) -> str:
    """Say what 1,000 listings cost; empty if nothing is paid."""
    if cost is None:
        return ", at unknown fees"
    if unit == "seconds":
        return f", in {format_cost(cost, unit)} for 1,000"
    return f", at {format_usd(cost)} of fees for 1,000{' (estimated)' if estimated else ''}" if cost else ""


def describe_hybrid(
    name: str, hybrid: HybridFacts, currency: str, *, fees: float | None = None, with_mae: bool = True
) -> str:
    """Say in a sentence whom a model asks, how often and at what cost, and what its alternatives would cost.

    `fees` are US dollars for 1,000 listings, for a model without a cost curve. `with_mae` is False where the sentence
    before has given its MAE.
    """
    curve = hybrid.curve
    cost, unit = (fees, "usd") if curve is None else (curve.chosen.cost_per_1000, curve.cost_unit)
    label = to_single_line(name, MAX_NAME_LENGTH)
    paid = fees_clause(cost, unit, estimated=hybrid.estimated_fees)
    asks = f"{label} asks {member_label(hybrid.member)} {format_asked(hybrid.share)}{paid}"
    if curve is None:
        return f"{asks}."
    point = curve.chosen
    mae = f"{format_price(point.mae, currency)}{format_bounds(point.low, point.high, currency)}"
    measured = f"{',' if paid else ''} and has an MAE of {mae} on {format_count(curve.n, 'item')}" if with_mae else ""
    return f"{asks}{measured}; {describe_alternatives(curve, currency)}."


def describe_alternatives(curve: CostCurve, currency: str) -> str:
    """Say what the MAE is if every listing is asked about, and that of each model alone."""
    at = "in" if curve.cost_unit == "seconds" else "at"
    cost = curve.always.cost_per_1000
    price = f" {at} {format_cost(cost, curve.cost_unit)}" if cost else ""
    points = [("always asking", curve.always, price)] if curve.chosen.share < 1 else []
    points.append((f"{member_label(curve.second)} alone", curve.second_alone, ""))
    if curve.chosen.share > 0:
        points.append((f"{to_single_line(curve.first, MAX_NAME_LENGTH)} alone", curve.first_alone, ""))
    texts = [
        f"{name}{'' if index else ' has an MAE of'} {format_price(point.mae, currency)}{paid}"
        for index, (name, point, paid) in enumerate(points)
    ]
    return join_names(texts)


# The section of the report page


def curve_sentences(name: str, hybrid: HybridFacts, currency: str) -> list[str]:
    """Return the paragraphs above the chart: the chosen point and its alternatives; the constraint, missing answers."""
    curve = hybrid.curve
    assert curve is not None
    sentences = [describe_constraint(curve, currency)]
    asked, first = hybrid.asked, to_single_line(curve.first, MAX_NAME_LENGTH)
    if asked is not None and asked.unanswered:
        verb = "was" if asked.unanswered == 1 else "were"
        sentences.append(
            f"{asked.unanswered:,} of the {format_count(asked.asked, 'listing')} asked about {verb} unanswered and "
            f"{'has' if asked.unanswered == 1 else 'have'} the quote of {first}."
        )
    if not curve.has_costs:
        sentences.append("Fees are unknown, so the chart shows the MAE by the share of listings asked about.")
    elif hybrid.estimated_fees and curve.cost_unit == "usd":
        sentences.append("Fees are estimates; the bill may differ.")
    return [describe_hybrid(name, hybrid, currency), " ".join(sentences)]


def describe_constraint(curve: CostCurve, currency: str) -> str:
    """Say what the share was chosen for on validation listings, and whether that holds on the evaluated ones."""
    limit, point = curve.constraint, curve.chosen
    goal = constraint_goal(limit, currency)
    start = f"The share was chosen on validation listings for {goal}"
    value = {"max_mae": point.mae, "share": point.share}.get(limit.name, point.cost_per_1000)
    if limit.name == "share" or value is None:
        return f"{start}."
    reached = {
        "max_mae": f"has an MAE of {format_price(point.mae, currency)}",
        "max_seconds_per_1000": f"takes {format_cost(value, 'seconds')}",
    }.get(limit.name, f"costs {format_usd(value)}")
    return f"{start}; here it {reached}." if value <= limit.value else f"{start}; here it {reached}, which is more."


def constraint_goal(limit: CurveConstraint, currency: str) -> str:
    """Return the constraint as a noun: `a cost of at most US$0.50 for 1,000 listings`."""
    return {
        "max_cost_per_1000": f"a cost of at most {format_usd(limit.value)} for 1,000 listings",
        "max_seconds_per_1000": f"at most {format_seconds(limit.value)} s for 1,000 listings",
        "max_mae": f"an MAE of at most {format_price(limit.value, currency)}",
        "share": f"asking about {100 * limit.value:.0f} % of the listings",
    }[limit.name]


def curve_table(name: str, curve: CostCurve, currency: str) -> TemplateValues:
    """Return the points of a curve with the chosen one among them, and the second model alone below."""
    points = [(point, "") for point in curve.points]
    points.append((curve.chosen, "chosen"))
    points.sort(key=lambda pair: pair[0].share)
    labels = {id(curve.first_alone): f"{to_single_line(curve.first, 24)} alone", id(curve.always): "always asked"}
    cost = "Time" if curve.cost_unit == "seconds" else "Fees"
    lines = [
        [(asked_cell(point), note or labels.get(id(point), "")), *point_cells(point, curve, currency)]
        for point, note in points
    ]
    lines.append([(f"{to_single_line(curve.second, 24)} alone", ""), *point_cells(curve.second_alone, curve, currency)])
    header = [("Listings asked", ""), (f"{cost} for 1,000", ""), ("MAE", ""), ("95 % CI", "")]
    label = f"Cost and error of the cascade {to_single_line(name, 40)} by the share of listings asked about"
    return {"label": label, "header": header, "lines": lines}


def asked_cell(point: CostPoint) -> str:
    """Return the share of a point in per cent, with a decimal if it is not whole."""
    return f"{round(100 * point.share, 1):g} %"


def point_cells(point: CostPoint, curve: CostCurve, currency: str) -> list[tuple[str, str]]:
    """Return the cost and the MAE of a point, and its interval."""
    interval = (
        "none"
        if point.low is None or point.high is None
        else f"{format_number(point.low, currency)} – {format_number(point.high, currency)}"
    )
    cells = (format_cost(point.cost_per_1000, curve.cost_unit), format_price(point.mae, currency), interval)
    return [(cell, "") for cell in cells]
