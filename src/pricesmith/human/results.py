"""A person's result among the pricers: the leaderboard on the answered listings, and paired differences to each pricer.

The answers are read by the code that reads `pricesmith eval human:FILE.csv`. A skipped listing is unanswered and is
charged at the median's quote, as for every pricer. The median of each category is always one of the pricers.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from pricesmith.candidates import candidate_name
from pricesmith.catalog.catalog import Catalog
from pricesmith.core.errors import UsageError
from pricesmith.core.types import EvalRow, Evaluation, Item, Quote
from pricesmith.evaluation.compare import Difference, compare_simultaneously
from pricesmith.evaluation.evaluate import evaluate, select_ids, to_arrays
from pricesmith.evaluation.folds import EvalPlan
from pricesmith.evaluation.leaderboard import LeaderboardRow, build_leaderboard
from pricesmith.evaluation.results import EvalItem, Evals, read_evals
from pricesmith.human.answers import QuizAnswer
from pricesmith.pricers import recipe_class
from pricesmith.pricers.precomputed import PrecomputedPricer, read_prices
from pricesmith.text.formatting import (
    format_amount_interval,
    format_count,
    format_estimate,
    format_money,
    format_range,
    to_single_line,
)

MEDIAN = "median"
N_EXAMPLES = 5
MAX_NAME_WIDTH = 24


@dataclass(frozen=True)
class HumanResult:
    """A person's result: the leaderboard of the pricers evaluated on all answered items, and paired differences.

    A difference's `a` is the person, so above 0 the person has the higher MAE. `without` names pricers evaluated on
    none of the items.
    """

    person: str
    rows: list[LeaderboardRow]
    pairs: list[Difference]
    without: list[str]
    evaluation: Evaluation
    titles: Mapping[str, str]


def list_competitors(against: Path, catalog: Catalog, items: Sequence[Item]) -> list[tuple[Evaluation, str]]:
    """Return the evaluations of a folder, each with its kind.

    Raises UsageError, before anything is asked, if they are of another catalog or of none of the items.
    """
    evals = read_evals(against)
    ids = {item.listing.id for item in items}
    competitors = [(evaluation, str(evals.meta[evaluation.pricer].get("kind", ""))) for evaluation in evals.evaluations]
    for evaluation, _ in competitors:
        if evaluation.catalog != catalog.fingerprint:
            raise UsageError(
                f"{against} evaluates pricers on another catalog",
                got=f"fingerprint {evaluation.catalog[:16]}",
                allowed=f"{catalog.fingerprint[:16]}, the fingerprint of {catalog.name}",
                hint="Name an evals folder of this catalog.",
            )
    if competitors and not any(row.id in ids for evaluation, _ in competitors for row in evaluation.rows):
        raise UsageError(
            f"No pricer in {against} was evaluated on a listing of this quiz",
            got=f"the split {evals.about.get('split')}",
            hint=f"pricesmith eval MODEL --catalog {catalog.path} --to EVALS",
        )
    return competitors


def build_human_result(
    path: Path,
    answers: Mapping[str, QuizAnswer],
    plan: EvalPlan,
    catalog: Catalog,
    competitors: Sequence[tuple[Evaluation, str]],
) -> HumanResult:
    """Return the result of the person who wrote the answer file `path`."""
    name = candidate_name(f"human:{path}")
    items = [item for fold in plan.folds for item in fold.items if item.listing.id in answers]
    # Nobody knows what a person's time costs.
    quotes = {id: replace(quote, cost_usd=None) for id, quote in read_prices(path, catalog.currency).items()}
    person = evaluate_answers(PrecomputedPricer(quotes, name), items, plan, catalog)
    rows = tuple(replace(row, seconds=answers[row.id].seconds) for row in person.rows)
    person = replace(person, pricer=name, rows=rows)
    medians = PrecomputedPricer(median_quotes(plan, catalog, items), MEDIAN)
    others = [
        (select_common(evaluation, person), kind)
        for evaluation, kind in competitors
        if evaluation.pricer not in (name, MEDIAN) and kind != MEDIAN
    ]
    compared = [(evaluate_answers(medians, items, plan, catalog), MEDIAN)]
    compared += [(evaluation, kind) for evaluation, kind in others if evaluation.rows]
    differences = compare_simultaneously([(person, evaluation) for evaluation, _ in compared])
    meta = {evaluation.pricer: {"kind": kind} for evaluation, kind in compared} | {name: {"kind": "human"}}
    shown_items = {
        item.listing.id: EvalItem(item.listing.id, item.listing.title, item.listing.category, item.price)
        for item in items
    }
    leaderboard = build_leaderboard(
        Evals(path, shown_items, (person, *(evaluation for evaluation, _ in compared)), meta, {})
    )
    group = next(row.group for row in leaderboard if row.name == name)
    return HumanResult(
        name,
        [row for row in leaderboard if row.group == group],
        [pair for pair in differences if pair is not None],
        [evaluation.pricer for evaluation, _ in others if not evaluation.rows],
        person,
        {item.listing.id: item.listing.title or item.listing.text for item in items},
    )


def evaluate_answers(pricer: PrecomputedPricer, items: Sequence[Item], plan: EvalPlan, catalog: Catalog) -> Evaluation:
    """Return the evaluation of a pricer on the answered items, by the rules of `eval`."""
    return evaluate(
        pricer,
        items,
        catalog=catalog.fingerprint,
        median=plan.median,
        currency=catalog.currency,
        price_range=catalog.price_range,
        groups=plan.groups,
    )


def median_quotes(plan: EvalPlan, catalog: Catalog, items: Sequence[Item]) -> dict[str, Quote]:
    """Return the quote of the median recipe for each item, by id; in folds it is fitted on the other folds."""
    ids = {item.listing.id for item in items}
    quotes: dict[str, Quote] = {}
    for fold in plan.folds:
        listings = [item.listing for item in fold.items if item.listing.id in ids]
        recipe = recipe_class(MEDIAN)()
        with tempfile.TemporaryDirectory(prefix="pricesmith-") as folder:
            recipe.fit(fold.train if plan.folded else catalog.items("train"), [], Path(folder))
            prices = recipe.load(Path(folder)).price(listings)
        quotes.update(zip((listing.id for listing in listings), prices, strict=True))
    return quotes


def select_common(evaluation: Evaluation, person: Evaluation) -> Evaluation:
    """Return an evaluation on those of the person's items that it has, in the person's order."""
    ids = {row.id for row in evaluation.rows}
    return select_ids(evaluation, [row.id for row in person.rows if row.id in ids])


def format_result(result: HumanResult, currency: str, seconds: float | None) -> list[Any]:
    """Return the result for a terminal: leaderboard, one sentence per pair, the best and the worst answers.

    `seconds` is the median time per answer, None if unknown.
    """
    from rich import box
    from rich.table import Table
    from rich.text import Text

    person = next(row for row in result.rows if row.name == result.person)
    pace = f", {seconds:,.0f} seconds per answer" if seconds is not None else ""
    table = Table(
        box=box.SIMPLE_HEAD,
        title=f"{format_count(person.n, 'listing')}, {person.n_unanswered:,} skipped{pace}",
        title_justify="left",
    )
    for name in ("", "pricer"):
        table.add_column(name, no_wrap=True)
    for name in ("MAE [95 % CI]", "median error", "within 20 %"):
        table.add_column(name, justify="right", no_wrap=True)
    for row in result.rows:
        style = "bold" if row.name == result.person else ""
        errors = (format_amount_interval(row.mae, currency), format_money(row.median_error, currency))
        table.add_row(row.rank_range, Text(shorten(row.name)), *errors, f"{row.within_20:.0%}", style=style)
    lines: list[Any] = [table, *(describe_difference(pair, currency) for pair in result.pairs)]
    if len(result.pairs) > 1:
        lines.append(
            "These are simultaneous 95 % confidence intervals. "
            "A rank such as 1–2 is the range that pairwise tests leave open."
        )
    if result.without:
        lines.append(f"Evaluated on none of these listings: {', '.join(map(shorten, result.without))}.")
    return [*lines, "", *format_answers(result, currency)]


def shorten(name: str) -> str:
    """Return a pricer's name on one line of bounded width."""
    return to_single_line(name, MAX_NAME_WIDTH)


def describe_difference(pair: Difference, currency: str) -> str:
    """Return one pair as a sentence: whose MAE is lower and by how much, or the sample size needed."""
    other, gap = shorten(pair.b), format_money(abs(pair.difference), currency)
    on = f" on {format_count(pair.n, 'common listing')}"
    if pair.low is None or pair.high is None:
        return f"You and {other}{on}: too few for an interval."
    if pair.is_significant:
        low, high = sorted(abs(bound) for bound in (pair.low, pair.high))
        direction = "lower" if pair.better == pair.a else "higher"
        return f"Your MAE is {gap} [{format_range(low, high, currency)}] {direction} than the MAE of {other}{on}."
    needed = f"; about {format_estimate(pair.n_needed)} would be needed" if pair.n_needed else ""
    interval = format_range(pair.low, pair.high, currency)
    return f"You and {other}: no significant difference{on} ({interval}){needed}."


def format_answers(result: HumanResult, currency: str) -> list[str]:
    """Return the answers with the smallest and the largest errors, with the true prices."""
    answered = [row for row in result.evaluation.rows if row.price is not None]
    ordered = sorted(answered, key=lambda row: (abs((row.price or 0.0) - row.truth), row.id))
    count = min(N_EXAMPLES, (len(ordered) + 1) // 2)
    parts = (("Best", ordered[:count]), ("Worst", ordered[::-1][: min(count, len(ordered) - count)]))
    lines = []
    for title, rows in parts:
        if rows:
            lines.append(f"{title} answers:")
            lines += [format_answer(row, result.titles[row.id], currency) for row in rows]
    return lines


def format_answer(row: EvalRow, title: str, currency: str) -> str:
    """Return one answer with the true price and the title."""
    prices = f"you {format_money(row.price or 0.0, currency)}, price {format_money(row.truth, currency)}"
    return f"  {prices:<40} {to_single_line(title, 60)}"


def result_dict(result: HumanResult) -> dict[str, Any]:
    """Return the result as plain values for JSON."""
    rows = {row.id: asdict(row) for row in result.evaluation.rows}
    data = to_arrays(result.evaluation)
    errors = dict(zip(data.ids, data.error.tolist(), strict=True))
    return {
        "person": result.person,
        "leaderboard": [asdict(row) for row in result.rows],
        "differences": [asdict(pair) for pair in result.pairs],
        "without_common_items": result.without,
        "answers": [{**rows[id], "title": result.titles[id], "error": errors[id]} for id in data.ids],
    }
