"""`pricesmith report EVALS --to report.html`: one file that opens offline, made from saved answers alone.

The page loads nothing: style, script and figures are in it, and its content security policy lets only these scripts
run, by their SHA-256. Text from data is escaped by the template, in labels of pictures by `words.in_chart`.
"""

from __future__ import annotations

import base64
import hashlib
from importlib import resources
from pathlib import Path
from typing import Any

from pricesmith.core.atomic import atomic_files, find_output, json_bytes
from pricesmith.core.errors import UsageError
from pricesmith.reporting import charts, head_to_head, json_output, tables
from pricesmith.reporting.data import ReportData, build_report_data
from pricesmith.reporting.terminal import coverage_notes
from pricesmith.text.currency import display_sign
from pricesmith.text.formatting import (
    format_count,
    format_price,
    join_names,
    keep_percent_together,
    to_single_line,
)

TEMPLATES = "templates"
ENDINGS = (".html", ".htm")
MARK = b'<meta name="generator" content="Pricesmith">'


def write_report(
    evals: Path | str,
    to: Path | str,
    *,
    reference: str | None = None,
    competitor: str | None = None,
    machine_cost: float | None = None,
    overwrite: bool = False,
) -> dict[str, Any]:
    """Write the report of an evals folder to the file `to`, and its numbers beside it; those numbers, as plain values.

    The numbers go into the file of the page's name with .json. Both files change together, or neither; the same evals
    and options give the same bytes. `reference` is who is set against everybody (none: the best of one's own), `competitor`
    who stands beside it by band and category, `machine_cost` what one's own box costs in US dollars an hour. Raises
    InputError where the folder is not one of evaluations, or holds no finished one; UsageError where `to` is no place
    for a page, a name is nobody's, or the price is none, and if one of the files exists and is not a report
    (`overwrite` replaces it).
    """
    page = Path(to)
    data = check_output(page, overwrite=overwrite)
    found = build_report_data(Path(evals), reference=reference, competitor=competitor, machine_cost=machine_cost)
    facts = json_output.report_dict(found.conclusion, found.words, evaluation_facts(found), found.rows)
    text = render_page(found)
    with atomic_files(data, page) as (data_file, page_file):
        data_file.write_bytes(json_bytes(facts))
        page_file.write_bytes(text.encode("utf-8"))
    return facts


def check_output(page: Path, *, overwrite: bool) -> Path:
    """The file for the numbers of a page. Raises UsageError if one of both is not to be written."""
    if page.is_dir():
        raise UsageError(
            f"{page} is a folder", allowed="the HTML file to write", hint=f"Use --to {page / 'report.html'}"
        )
    place = find_output(page)
    if page.suffix.lower() not in ENDINGS:
        raise UsageError(
            f"{page} is not the name of a page",
            got=page.suffix or "no ending",
            allowed=" or ".join(ENDINGS),
            hint=f"Use --to {page.with_suffix('.html')}",
        )
    data = page.with_suffix(".json")
    for path, is_ours in ((place, is_page), (find_output(data), json_output.is_report)):
        if path.exists() and not overwrite and not is_ours(path):
            raise UsageError(
                f"{path} exists, and `pricesmith report` did not write it",
                allowed="a path that does not exist yet, or an earlier report",
                hint=f"Choose another name, such as --to {page.with_name(f'{page.stem}-report.html')}.",
            )
    return data


def is_page(path: Path) -> bool:
    """Whether a file is a page of ours, by its generator. An empty file is no loss."""
    with path.open("rb") as handle:
        start = handle.read(1 << 16)
    return not start or (b"<head>" in start and MARK in start.partition(b"</head>")[0])


def evaluation_facts(found: ReportData) -> dict[str, Any]:
    """What was judged, in plain values."""
    meta = found.evals.meta[found.conclusion.reference]
    return {
        "name": str(meta.get("catalog_name") or ""),
        "fingerprint": str(meta.get("catalog") or ""),
        "split": str(found.evals.about.get("split", "test")),
        "folds": bool(meta.get("folds")),
    }


def render_page(found: ReportData) -> str:
    """The whole page as text."""
    from jinja2 import Environment, StrictUndefined
    from markupsafe import Markup

    environment = Environment(
        autoescape=True, undefined=StrictUndefined, finalize=keep_percent_together, trim_blocks=True
    )
    # A meta element that names the page's own scripts is the last word on what may run in it.
    draw, plotly = own_asset("draw.js"), plotly_js()
    policy = (
        f"default-src 'none'; script-src {digest(plotly)} {digest(draw)}; style-src 'unsafe-inline'; img-src data:; "
    )
    figures = figures_of(found)
    return environment.from_string(own_asset("page.html.j2")).render(
        content(found, figures),
        csp=f"{policy}base-uri 'none'; form-action 'none'",
        css=Markup(own_asset("style.css")),
        figures=Markup(charts.to_json(figures)),
        draw=Markup(draw),
        plotly=Markup(plotly),
    )


def own_asset(name: str) -> str:
    """A file of the templates folder."""
    return resources.files("pricesmith.reporting").joinpath(TEMPLATES, name).read_text(encoding="utf-8")


def plotly_js() -> str:
    """The script that the plotly package carries, without importing its Python half."""
    text = resources.files("plotly").joinpath("package_data", "plotly.min.js").read_text(encoding="utf-8")
    return text.replace("</script", "<\\/script")


def digest(script: str) -> str:
    """A script's name in a content security policy."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}'"


def figures_of(found: ReportData) -> dict[str, charts.Figure]:
    """Every picture by the id of its place."""
    figures = {"chart-quotes": charts.scatter(found), "chart-bands": charts.price_bands(found)}
    if found.categories:
        figures["chart-categories"] = charts.category_bands(found)
    if found.coverage:
        figures["chart-coverage"] = charts.coverage_bands(found)
    return figures | {"chart-running": charts.running(found)}


def content(found: ReportData, figures: dict[str, charts.Figure]) -> dict[str, Any]:
    """Everything that the template lays out, but the scripts and the style."""
    own, *others = tables.leaderboard_tables(found)
    drawn = f"Drawn: {join_names([to_single_line(name, 40) for name in found.drawn()], 4)}."
    against = head_to_head.comparison_table(found)
    beside = head_to_head.breakdown_tables(found)
    return {
        "title": f"{tables.catalog_name(found)}: {tables.headline(found)}",
        "catalog": tables.catalog_name(found),
        "split": f"{found.evals.about.get('split', 'test')} split",
        "date": to_single_line(str(found.meta.get("date") or ""), 30),
        "currency": found.currency,
        "best": to_single_line(found.best.name, 40),
        "headline": tables.headline(found),
        "lead": tables.lead_sentence(found),
        "tiles": tables.tiles(found),
        "conclusion": [to_single_line(sentence, 1_000) for sentence in found.words],
        "contents": contents(found, {"reference": bool(against), "beside": bool(beside)}),
        "table": own,
        "others": others,
        "reference": against,
        "cost": head_to_head.cost_table(found),
        "beside": beside,
        "references": head_to_head.published_tables(),
        "scatter": scatter_words(found, len(figures["chart-quotes"]["shared"]["x"])),
        "shares": tables.shares(found),
        "bands": {
            "id": "chart-bands",
            "alt": "Mean error by band of the true price; the numbers are in the table below",
            "caption": f"Mean error with 95 % intervals by band of the true price. {drawn} The legend hides and shows.",
            "table": tables.error_grid(found, found.bands, "Error by price", priced=True),
        },
        "categories": category_words(found),
        "close": tables.close_grid(found),
        "coverage": coverage_words(found),
        "running": running_words(found),
        "worst_items": [tables.worst_item(found, one) for one in found.worst],
        "worst_intro": (
            "The largest misses in money, each with the listings of this catalog's train split nearest to it in words "
            "and what they cost. Often the listing does not say what makes the price; sometimes the price is wrong."
            f"{found.elsewhere}"
        ),
        "method": method_section(found),
        "facts": fact_list(found),
    }


def contents(found: ReportData, there: dict[str, bool]) -> list[tuple[str, str]]:
    """The page's sections as links."""
    named = [
        ("leaderboard", "Leaderboard"),
        ("reference", "The reference against each"),
        ("cost", "Cost and time"),
        ("beside", "Side by side"),
        ("quotes", "Quotes and prices"),
        ("errors", "Where the error is"),
        ("intervals", "Intervals"),
        ("enough", "Enough items?"),
        ("worst", "Worst quotes"),
        ("elsewhere", "Published elsewhere"),
        ("method", "How it was measured"),
    ]
    there = {"intervals": bool(found.coverage), **there}
    return [(id, name) for id, name in named if there.get(id, True)]


def scatter_words(found: ReportData, points: int) -> dict[str, Any]:
    """What is said round the scatter."""
    total = found.best.n
    some = (
        f"{points:,} of {total:,} items, drawn by a seed; the same for all"
        if points < total
        else f"All {total:,} items"
    )
    silent = sum(row.n_unanswered for row in found.main)
    without = f" Missing answers ({silent:,} of all pricers together) are not drawn." if silent else ""
    return {
        "id": "chart-quotes",
        "intro": "One point an item: on the line the quote is the price, in the grey band it is within 20 % of it.",
        "tabs": [{"name": to_single_line(name, 40), "hue": found.hues[name]} for name in found.pricers],
        "alt": f"Scatter of quotes against true prices for {join_names([to_single_line(name, 40) for name in found.pricers])}",
        "caption": f"{some}. Both axes are logarithmic: equal steps are equal ratios. Point at one for more.{without}",
    }


def category_words(found: ReportData) -> dict[str, Any] | None:
    """What is said round the error by category; None without categories."""
    if not found.categories:
        return None
    rows = len(found.categories[found.best.name])
    drawn = join_names([to_single_line(name, 40) for name in found.drawn(2)])
    return {
        "id": "chart-categories",
        "alt": "Mean error by category; the numbers are in the table below",
        "caption": f"Mean error with 95 % intervals, the commonest category first, items in brackets. Drawn: {drawn}.",
        "height": 110 + 34 * rows,
        "table": tables.error_grid(found, found.categories, "Error by category", priced=False),
    }


def coverage_words(found: ReportData) -> dict[str, Any] | None:
    """What is said round the coverage; None without intervals."""
    if not found.coverage:
        return None
    aim = f"{found.nominal:.0%}".replace("%", " %")
    return {
        "id": "chart-coverage",
        "intro": " ".join(
            [
                f"An interval promises to hold the price for {aim} of the items, at low and high prices alike.",
                *(to_single_line(line, 300) for row in found.main for line in coverage_notes(row)),
            ]
        ),
        "alt": "Share of prices inside their intervals by band of the quote; the numbers are in the table below",
        "caption": f"Prices inside their interval by band of the quote, with 95 % intervals; dashed: {aim}.",
        "table": tables.coverage_grid(found),
    }


def running_words(found: ReportData) -> dict[str, Any]:
    """What is said round the running error: how far a small test would have been off."""
    line = found.running[found.best.name]
    early = [k for k, n in enumerate(line.n) if n <= 250 and line.low[k] is not None]
    said = "If the line still moves, more items would change the result."
    if early and found.best.n >= 500:
        k = early[-1]
        low, high = line.low[k], line.high[k]
        assert low is not None
        assert high is not None
        said = (
            f"After {line.n[k]:,} items {to_single_line(found.best.name, 40)} read {format_price(line.mean[k], found.currency)} "
            f"± {format_price((high - low) / 2, found.currency)}; after all {found.best.n:,}, "
            f"{format_price(line.mean[-1], found.currency)}. {said}"
        )
    return {
        "id": "chart-running",
        "intro": said,
        "alt": "Mean error against the number of items judged so far",
        "caption": "The mean error as items come in, whole groups in an order drawn by hash, with its 95 % band.",
    }


def method_section(found: ReportData) -> list[str]:
    """How the figures were made, in the words of someone who must trust them."""
    pricer = found.pricers[found.best.name]
    low, high = pricer.price_range
    top = format_price(high, found.currency) if high != float("inf") else "no upper end"
    lines = [
        "A pricer sees the listing only: title, text, category, brand. The price is never in what it is shown.",
        "Groups, near-repeats of one product, are found before the catalog is split and stay on one side of it.",
        f"No answer is charged at {format_price(pricer.median, found.currency)}, the training median, and counted; "
        "it is never scored as 0 and never left out.",
        f"All answers are clipped to the catalog's range, {format_price(low, found.currency)} to {top}, all alike. "
        "True prices are neither rounded nor clipped.",
        "Intervals and comparisons resample whole groups (2,000 draws or more, fixed seed), because items of one "
        "group err together. Two pricers are told apart where the interval of their paired difference leaves out 0.",
        "The conclusion's differences hold all together at 95 %: single-step min P on the studentize bootstrap (Westfall "
        "& Young 1993; Beran 1988). Places in the leaderboard are the pairs' own tests at 95 % each.",
        "The items needed are for telling the difference seen here in 80 of 100 tests, at the conclusion's caution. "
        "Pricers judged on different items are never ranked together.",
        "RMSLE is the root of the mean squared difference of log(1 + price); ×/÷ is the half-width of an interval as a "
        "factor of the price. Costs are in US dollars; fees and compute are for quotes asked for, answered or not.",
    ]
    if any(row.course_hit is not None for row in found.rows):
        lines.append(
            "Course hit: an error under $40 or under 20 % of the price, as the course “LLM Engineering” counts."
        )
    notes = sorted(
        {f"{to_single_line(row.name, 40)}: {to_single_line(row.note, 200)}." for row in found.rows if row.note}
    )
    waiting = [f"Unfinished, and not shown: {join_names(found.evals.unfinished, 5)}."] if found.evals.unfinished else []
    return lines + notes + waiting


def fact_list(found: ReportData) -> list[tuple[str, str]]:
    """What the report was made of."""
    import pricesmith

    pricer = found.pricers[found.best.name]
    fitted = [
        f"{to_single_line(row.name, 40)} {row.fit_seconds:,.1f} s" for row in found.rows if row.fit_seconds is not None
    ]
    told = [
        ("Catalog", tables.catalog_name(found)),
        ("Fingerprint", pricer.catalog),
        ("Items", f"{found.best.n:,} in {format_count(found.best.mae.groups, 'group')}"),
        ("Currency", f"{found.currency} ({display_sign(found.currency).strip()})"),
        ("Fitting took", ", ".join(fitted)),
        ("Date", to_single_line(str(found.meta.get("date") or ""), 30)),
        ("Version", f"pricesmith {pricesmith.__version__}"),
    ]
    return [(name, value) for name, value in told if value]
