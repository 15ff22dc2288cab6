"""`pricesmith report EVALS --to report.html`: one file that opens offline, made from saved evaluations alone.

The page loads nothing: style, scripts and figures are inside it, and its content security policy allows only these
scripts, by their SHA-256. The template escapes text from data; `format_chart_label` does so in chart labels.
"""

from __future__ import annotations

import base64
import hashlib
from importlib import resources
from pathlib import Path
from typing import Any

from pricesmith.core.atomic import atomic_files, find_output, json_bytes
from pricesmith.core.errors import UsageError
from pricesmith.reporting import aging, charts, head_to_head, hybrids, narrative, tables
from pricesmith.reporting.cost_chart import cost_curve_chart
from pricesmith.reporting.data import GRAY, ReportData, build_report_data, is_report, report_dict
from pricesmith.text.currency import display_sign
from pricesmith.text.formatting import (
    format_count,
    format_price,
    join_names,
    keep_percent_together,
    to_single_line,
)

TEMPLATES = "templates"
SUFFIXES = (".html", ".htm")
MARKER = b'<meta name="generator" content="Pricesmith">'
MAX_HEAD_BYTES = 1 << 16


def write_report(
    evals: Path | str,
    to: Path | str,
    *,
    reference: str | None = None,
    competitor: str | None = None,
    machine_cost: float | None = None,
    overwrite: bool = False,
) -> dict[str, Any]:
    """Write the report of an evals folder to the HTML file `to` and its numbers to the same name with .json.

    Returns the numbers as plain values (see reporting/data.py). Both files change together or not at all; the
    same evaluations and options give the same bytes. `reference` names the model to compare all others with (default:
    your most accurate one), `competitor` the pricer to compare it with by price and category, `machine_cost` is the
    cost of this machine in US dollars an hour. Raises InputError if the folder has no finished evaluation; UsageError
    if `to` is not an HTML file name, a name is unknown, the cost is not positive, or a file exists that
    `pricesmith report` did not write (`overwrite` replaces it).
    """
    page = Path(to)
    json_path = check_output(page, overwrite=overwrite)
    data = build_report_data(Path(evals), reference=reference, competitor=competitor, machine_cost=machine_cost)
    values = report_dict(data.conclusion, data.sentences, catalog_dict(data), data.leaderboard)
    values["age"] = aging.age_values(data)
    text = render_page(data)
    with atomic_files(json_path, page) as (json_file, page_file):
        json_file.write_bytes(json_bytes(values))
        page_file.write_bytes(text.encode("utf-8"))
    return values


def check_output(page: Path, *, overwrite: bool) -> Path:
    """Return the JSON file beside a page. Raises UsageError if either file must not be written."""
    if page.is_dir():
        raise UsageError(
            f"{page} is a folder", allowed="the HTML file to write", hint=f"Use --to {page / 'report.html'}"
        )
    target = find_output(page)
    if page.suffix.lower() not in SUFFIXES:
        raise UsageError(
            f"{page} is not the name of an HTML file",
            got=page.suffix or "no ending",
            allowed=" or ".join(SUFFIXES),
            hint=f"Use --to {page.with_suffix('.html')}",
        )
    json_path = page.with_suffix(".json")
    for path, is_ours in ((target, is_page), (find_output(json_path), is_report)):
        if path.exists() and not overwrite and not is_ours(path):
            raise UsageError(
                f"{path} exists, and `pricesmith report` did not write it",
                allowed="a path that does not exist yet, or an earlier report",
                hint=f"Choose another name, such as --to {page.with_name(f'{page.stem}-report.html')}.",
            )
    return json_path


def is_page(path: Path) -> bool:
    """Return whether Pricesmith generated a file. An empty file counts as its own: nothing is lost with it."""
    with path.open("rb") as handle:
        start = handle.read(MAX_HEAD_BYTES)
    return not start or (b"<head>" in start and MARKER in start.partition(b"</head>")[0])


def catalog_dict(data: ReportData) -> dict[str, Any]:
    """Return the evaluated catalog and split as plain values."""
    meta = data.evals.meta[data.conclusion.reference]
    return {
        "name": str(meta.get("catalog_name") or ""),
        "fingerprint": str(meta.get("catalog") or ""),
        "split": str(data.evals.about.get("split", "test")),
        "folds": bool(meta.get("folds")),
    }


def render_page(data: ReportData) -> str:
    """Return the whole page as text."""
    from jinja2 import Environment, StrictUndefined
    from markupsafe import Markup

    environment = Environment(
        autoescape=True, undefined=StrictUndefined, finalize=keep_percent_together, trim_blocks=True
    )
    # The policy names the page's scripts by hash, so that no script in a listing's text could ever run.
    draw, plotly = read_template("draw.js"), plotly_js()
    policy = (
        f"default-src 'none'; script-src {csp_hash(plotly)} {csp_hash(draw)}; style-src 'unsafe-inline'; "
        "img-src data:; "
    )
    figures = build_figures(data)
    return environment.from_string(read_template("page.html.j2")).render(
        page_content(data, figures),
        csp=f"{policy}base-uri 'none'; form-action 'none'",
        css=Markup(read_template("style.css")),
        figures=Markup(charts.to_json(figures)),
        draw=Markup(draw),
        plotly=Markup(plotly),
    )


def read_template(name: str) -> str:
    """Return a file of the templates folder."""
    return resources.files("pricesmith.reporting").joinpath(TEMPLATES, name).read_text(encoding="utf-8")


def plotly_js() -> str:
    """Return the script inside the plotly package, without importing its Python code."""
    text = resources.files("plotly").joinpath("package_data", "plotly.min.js").read_text(encoding="utf-8")
    return text.replace("</script", "<\\/script")


def csp_hash(script: str) -> str:
    """Return a script's source expression for a content security policy."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}'"


def build_figures(data: ReportData) -> dict[str, charts.Figure]:
    """Return every figure by the id of its element."""
    figures = {"chart-quotes": charts.quote_scatter(data), "chart-bands": charts.price_chart(data)}
    if data.categories:
        figures["chart-categories"] = charts.category_chart(data)
    if data.coverage:
        figures["chart-coverage"] = charts.coverage_chart(data)
    if data.age_bands:
        figures["chart-age"] = aging.age_chart(data)
    for number, (name, curve) in enumerate(data.cost_curves.items(), 1):
        second_color = data.colors.get(curve.second, GRAY)
        figures[f"chart-cost-{number}"] = cost_curve_chart(curve, data.currency, data.colors[name], second_color)
    return figures | {"chart-running": charts.running_chart(data)}


def page_content(data: ReportData, figures: dict[str, charts.Figure]) -> dict[str, Any]:
    """Return everything that the template lays out, except scripts and style."""
    main_table, *other_tables = tables.leaderboard_tables(data)
    comparisons = head_to_head.comparison_table(data)
    breakdown = head_to_head.breakdown_tables(data)
    return {
        "title": f"{tables.catalog_name(data)}: {tables.headline(data)}",
        "catalog": tables.catalog_name(data),
        "split": f"{data.evals.about.get('split', 'test')} split",
        "date": to_single_line(str(data.meta.get("date") or ""), 30),
        "best": to_single_line(data.best.name, 40),
        "headline": tables.headline(data),
        "lead": tables.lead_sentence(data),
        "tiles": tables.summary_tiles(data),
        "conclusion": [to_single_line(sentence, 1_000) for sentence in data.sentences],
        "contents": table_of_contents(data, {"comparisons": bool(comparisons), "breakdown": bool(breakdown)}),
        "table": main_table,
        "other_tables": other_tables,
        "comparisons": comparisons,
        "cost": head_to_head.cost_table(data),
        "cost_curves": cost_curve_content(data),
        "breakdown": breakdown,
        "published": head_to_head.published_tables(),
        "scatter": scatter_content(data, len(figures["chart-quotes"]["shared"]["x"])),
        "shares": tables.error_shares(data),
        "price_bands": {
            "id": "chart-bands",
            "alt": "MAE by band of the true price; the numbers are in the table below",
            "caption": (
                "MAE with 95 % confidence intervals by band of the true price. Click a name in the legend to hide or "
                f"show it.{charted_names(data)}"
            ),
            "table": tables.error_table(data, data.price_bands, "MAE by price", priced=True),
        },
        "categories": category_content(data),
        "training": tables.training_table(data),
        "age": aging.age_content(data),
        "coverage": coverage_content(data),
        "running": running_content(data),
        "worst_items": [tables.worst_line(data, worst) for worst in data.worst],
        "worst_intro": (
            "The quotes with the largest absolute error, each with the most similar listings of this catalog's train "
            "split and their prices. Often the listing lacks what determines the price; sometimes the price is wrong."
            f"{data.other_catalog_note}"
        ),
        "method": method_lines(data),
        "facts": fact_list(data),
    }


def charted_names(data: ReportData) -> str:
    """Return a sentence that names the pricers in the charts; empty if all are in them."""
    names = data.chart_names()
    if len(names) == len(data.evaluations):
        return ""
    return f" Shown: {join_names([to_single_line(name, 40) for name in names], 4)}."


def table_of_contents(data: ReportData, present: dict[str, bool]) -> list[tuple[str, str]]:
    """Return the page's sections as (id, title)."""
    sections = [
        ("leaderboard", "Leaderboard"),
        ("comparisons", "Comparisons"),
        ("cost", "Cost and time"),
        ("cost-curve-1", "Cost and error"),
        ("breakdown", "Side by side"),
        ("quotes", "Quotes and prices"),
        ("errors", "Error by price and category"),
        ("age", "Error by age"),
        ("coverage", "Coverage"),
        ("sample", "Sample size"),
        ("worst", "Largest errors"),
        ("published", "Published results"),
        ("method", "Method"),
    ]
    present = {"age": bool(data.age_bands), **present}
    present = {"coverage": bool(data.coverage), "cost-curve-1": bool(data.cost_curves), **present}
    return [(id, title) for id, title in sections if present.get(id, True)]


def cost_curve_content(data: ReportData) -> list[dict[str, Any]]:
    """Return the text around the cost curve of each cascade."""
    rows = {row.name: row for row in data.leaderboard}
    sections = []
    for number, (name, curve) in enumerate(data.cost_curves.items(), 1):
        hybrid = rows[name].hybrid
        assert hybrid is not None
        label = to_single_line(name, 40)
        chart = {
            "id": f"chart-cost-{number}",
            "alt": f"MAE of {label} against its cost; the numbers are in the table",
            "caption": (
                f"MAE on {curve.n:,} items with its 95 % confidence band, from {to_single_line(curve.first, 40)} alone "
                f"to always asking {to_single_line(curve.second, 40)}. All points are measured on the same items, so "
                "differences between them are more certain than the band suggests."
            ),
        }
        sections.append(
            {
                "id": f"cost-curve-{number}",
                "name": label,
                "sentences": hybrids.curve_sentences(name, hybrid, data.currency),
                "chart": chart,
                "table": hybrids.curve_table(name, curve, data.currency),
            }
        )
    return sections


def scatter_content(data: ReportData, n_points: int) -> dict[str, Any]:
    """Return the text around the scatter plot."""
    total = data.best.n
    sample = f"All {total:,} items"
    if n_points < total:
        sample = f"A random sample of {n_points:,} of {total:,} items, the same for all pricers"
    unanswered = sum(row.n_unanswered for row in data.main_rows)
    omitted = f" Unanswered items ({unanswered:,} over all pricers) are not shown." if unanswered else ""
    names = [to_single_line(name, 40) for name in data.evaluations]
    return {
        "id": "chart-quotes",
        "intro": "One point per item. On the line the quote equals the true price; the gray band is within 20 % of it.",
        "tabs": [{"name": to_single_line(name, 40), "color": data.colors[name]} for name in data.evaluations],
        "alt": f"Scatter plot of quotes against true prices for {join_names(names)}",
        "caption": f"{sample}, on logarithmic axes. Hover over a point, or tap it, for its listing.{omitted}",
    }


def category_content(data: ReportData) -> dict[str, Any] | None:
    """Return the text around the error by category; None without categories."""
    if not data.categories:
        return None
    n_rows = len(data.categories[data.best.name])
    names = join_names([to_single_line(name, 40) for name in data.chart_names(2)])
    return {
        "id": "chart-categories",
        "alt": "MAE by category; the numbers are in the table below",
        "caption": f"MAE with 95 % confidence intervals, most common category first (number of items). Shown: {names}.",
        "height": 110 + 34 * n_rows,
        "table": tables.error_table(data, data.categories, "MAE by category", priced=False),
    }


def coverage_content(data: ReportData) -> dict[str, Any] | None:
    """Return the text around the coverage; None without intervals."""
    if not data.coverage:
        return None
    levels = sorted({check.level for checks in data.coverage.values() for check in checks})
    level = " or ".join(f"{value:.0%}" for value in levels).replace("%", " %")
    return {
        "id": "chart-coverage",
        "intro": (
            f"Coverage is the share of true prices inside their {level} intervals. It should be {level} overall, in "
            "every band of the quote and in every category. Tests are two-sided, with p-values corrected for all bands "
            "and categories (Holm)."
        ),
        "alt": "Coverage by band of the quote; the numbers are in the table below",
        "caption": f"Coverage by band of the quote with 95 % confidence intervals; dashed: {level}.",
        "warnings": [
            to_single_line(narrative.coverage_sentence(row.name, check, data.currency), 300)
            for row in data.main_rows
            for check in row.miscoverage
        ],
        "lowest_category": tables.lowest_category_sentence(data),
        "table": tables.coverage_table(data),
    }


def running_content(data: ReportData) -> dict[str, Any]:
    """Return the text around the running MAE: what a smaller sample would have shown."""
    curve = data.running_errors[data.best.name]
    early = [index for index, n in enumerate(curve.n) if n <= 250 and curve.low[index] is not None]
    intro = "If the line has not settled, more items would change the result."
    if early and data.best.n >= 500:
        index = early[-1]
        low, high = curve.low[index], curve.high[index]
        assert low is not None
        assert high is not None
        first, half = format_price(curve.mean[index], data.currency), format_price((high - low) / 2, data.currency)
        intro = (
            f"After {curve.n[index]:,} items the MAE of {to_single_line(data.best.name, 40)} was {first} ± {half}; "
            f"after all {data.best.n:,} it is {format_price(curve.mean[-1], data.currency)}. {intro}"
        )
    return {
        "id": "chart-running",
        "intro": intro,
        "alt": "MAE against the number of items evaluated so far",
        "caption": (
            "MAE over the first items, with its 95 % confidence band. Near-duplicate groups are added whole, in a "
            "random order that is the same for all pricers."
        ),
    }


def method_lines(data: ReportData) -> list[str]:
    """Return how the figures were computed."""
    evaluation = data.evaluations[data.best.name]
    low, high = evaluation.price_range
    top = format_price(high, data.currency) if high != float("inf") else "no upper limit"
    lines = [
        "A pricer sees only the listing: title, text, category and brand, never the price.",
        "Near-duplicate groups are found before the catalog is split, and each stays in one split.",
        f"An unanswered item is charged at the training median, {format_price(evaluation.median, data.currency)}, and "
        "counted; it is never scored as 0 or left out.",
        f"All quotes are clipped to the catalog's price range, {format_price(low, data.currency)} to {top}. True "
        "prices are neither rounded nor clipped.",
        "Confidence intervals and comparisons resample near-duplicate groups (bootstrap, 2,000 resamples or more, down "
        "to 500 for more than 10,000 groups, fixed seed), because errors within a group are correlated. A paired "
        "difference is significant if its 95 % confidence interval excludes 0.",
        "The conclusion uses simultaneous 95 % confidence intervals: single-step min-P on the studentized bootstrap "
        "(Westfall & Young 1993; Beran 1988). Ranks in the leaderboard use each pair's own 95 % test.",
        "“Items needed” is the sample size at which the simultaneous test over all comparisons detects the observed "
        "difference with 80 % power; the test of one pair alone needs fewer. Pricers evaluated on different items are "
        "never ranked together.",
        "Coverage is tested two-sided with the exact binomial test at an effective sample size that accounts for "
        "near-duplicate groups; p-values are corrected by Holm's method over all bands and categories of a pricer.",
        "RMSLE is the root of the mean squared difference of log(1 + price). A typical interval reaches from price ÷ "
        "the first factor to price × the second (geometric means). Costs are in US dollars per quote requested, "
        "answered or not.",
    ]
    if any(row.course_hit is not None for row in data.leaderboard):
        lines.append(
            "Course hit: an error under $40 or under 20 % of the price, as the course “LLM Engineering” counts it."
        )
    notes = sorted(
        {f"{to_single_line(row.name, 40)}: {to_single_line(row.note, 200)}." for row in data.leaderboard if row.note}
    )
    names = data.evals.unfinished
    unfinished = [f"Unfinished evaluations, not shown: {join_names(names, 5)}."] if names else []
    return lines + notes + unfinished


def fact_list(data: ReportData) -> list[tuple[str, str]]:
    """Return what the report was made from, as (name, value)."""
    import pricesmith

    evaluation = data.evaluations[data.best.name]
    facts = [
        ("Catalog", tables.catalog_name(data)),
        ("Fingerprint", evaluation.catalog),
        ("Items", f"{data.best.n:,} in {format_count(data.best.mae.groups, 'near-duplicate group')}"),
        ("Currency", f"{data.currency} ({display_sign(data.currency).strip()})"),
        ("Date", to_single_line(str(data.meta.get("date") or ""), 30)),
        ("Version", f"pricesmith {pricesmith.__version__}"),
    ]
    return [(name, value) for name, value in facts if value]
