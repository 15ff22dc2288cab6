"""A person's place among pricers: the leaderboard on the listings that she was asked, and paired differences to each.

The sheet is read by the code that `pricesmith eval human:FILE.csv` reads it with. A skipped listing is no answer, which
is charged at the constant's quote, as for every pricer. The constant (medians of categories) is always there.
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
from pricesmith.evaluation.results import Evals, read_evals
from pricesmith.human.answers import QuizAnswer
from pricesmith.pricers import recipe_class
from pricesmith.pricers.precomputed import PrecomputedPricer, read_prices
from pricesmith.text.formatting import format_amount_interval as amount_of
from pricesmith.text.formatting import format_count, format_estimate, format_money, format_range, to_single_line

CONSTANT = "median"
EXAMPLES = 5


@dataclass(frozen=True)
class HumanResult:
    """Where a person stands: the leaderboard of those judged on all her items, and her paired difference to everybody.

    A difference's `a` is the person, so above 0 she errs more. `without` names pricers with none of her items.
    """

    person: str
    rows: list[LeaderboardRow]
    pairs: list[Difference]
    without: list[str]
    evaluation: Evaluation
    titles: Mapping[str, str]


def list_competitors(against: Path, catalog: Catalog, items: Sequence[Item]) -> list[tuple[Evaluation, str]]:
    """The evaluations of a folder, each with its kind. Raises UsageError, before anybody is asked, where they are of
    another catalog or have none of the items."""
    evals = read_evals(against)
    ids = {item.listing.id for item in items}
    found = [(one, str(evals.meta[one.pricer].get("kind", ""))) for one in evals.evaluations]
    for one, _ in found:
        if one.catalog != catalog.fingerprint:
            raise UsageError(
                f"{against} judges pricers on another catalog",
                got=f"fingerprint {one.catalog[:16]}",
                allowed=f"{catalog.fingerprint[:16]}, that of {catalog.name}",
                hint="Name an evals folder of this catalog.",
            )
    if found and not any(row.id in ids for one, _ in found for row in one.rows):
        raise UsageError(
            f"Nobody in {against} was judged on a listing of this quiz",
            got=f"the split {evals.about.get('split')}",
            hint=f"pricesmith eval RUN --catalog {catalog.path} --to EVALS",
        )
    return found


def build_human_result(
    sheet: Path,
    answers: Mapping[str, QuizAnswer],
    plan: EvalPlan,
    catalog: Catalog,
    competitors: Sequence[tuple[Evaluation, str]],
) -> HumanResult:
    """The place of the person who answered a sheet."""
    name = candidate_name(f"human:{sheet}")
    items = [item for fold in plan.folds for item in fold.items if item.listing.id in answers]
    quotes = read_prices(sheet, catalog.currency)
    person = evaluate_answers(PrecomputedPricer(quotes, name), items, plan, catalog)
    rows = tuple(replace(row, seconds=answers[row.id].seconds) for row in person.rows)
    person = replace(person, pricer=name, rows=rows)
    median = evaluate_answers(PrecomputedPricer(constants(plan, catalog, items), CONSTANT), items, plan, catalog)
    own = {name: "human", CONSTANT: CONSTANT}
    others = [(one, kind) for one, kind in competitors if one.pricer not in own and kind != CONSTANT]
    near = [(common(one, person), kind) for one, kind in others]
    beside = [(median, CONSTANT), *((one, kind) for one, kind in near if one.rows)]
    pairs = [pair for pair in compare_simultaneously([(person, one) for one, _ in beside]) if pair is not None]
    meta = {one.pricer: {"kind": kind} for one, kind in beside} | {name: {"kind": "human"}}
    table = build_leaderboard(Evals(sheet, {}, (person, *(one for one, _ in beside)), meta, {}))
    group = next(row.group for row in table if row.name == name)
    without = [one.pricer for one, _ in near if not one.rows]
    titles = {item.listing.id: item.listing.title or item.listing.text for item in items}
    return HumanResult(name, [row for row in table if row.group == group], pairs, without, person, titles)


def evaluate_answers(pricer: PrecomputedPricer, items: Sequence[Item], plan: EvalPlan, catalog: Catalog) -> Evaluation:
    """A pricer's evaluation on the person's items, by the rules of `eval`."""
    return evaluate(
        pricer,
        items,
        catalog=catalog.fingerprint,
        median=plan.median,
        currency=catalog.currency,
        price_range=catalog.price_range,
        groups=plan.groups,
    )


def constants(plan: EvalPlan, catalog: Catalog, items: Sequence[Item]) -> dict[str, Quote]:
    """What the constant of the training rows quotes for each item; in folds that of the other folds."""
    asked = {item.listing.id for item in items}
    quotes: dict[str, Quote] = {}
    for fold in plan.folds:
        some = [item.listing for item in fold.items if item.listing.id in asked]
        recipe = recipe_class(CONSTANT)()
        with tempfile.TemporaryDirectory(prefix="pricesmith-") as folder:
            recipe.fit(fold.train if plan.folded else catalog.items("train"), [], Path(folder))
            said = recipe.load(Path(folder)).price(some)
        quotes.update(zip((ware.id for ware in some), said, strict=True))
    return quotes


def common(one: Evaluation, person: Evaluation) -> Evaluation:
    """An evaluation on those of the person's items that it has, in her order."""
    there = {row.id for row in one.rows}
    return select_ids(one, [row.id for row in person.rows if row.id in there])


def format_result(place: HumanResult, currency: str, seconds: float | None) -> list[Any]:
    """The result for a terminal: the leaderboard, each pair in words, the nearest and the farthest answers."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    mine = next(row for row in place.rows if row.name == place.person)
    pace = f", {seconds:,.0f} seconds for one" if seconds is not None else ""
    table = Table(
        box=box.SIMPLE_HEAD,
        title=f"{format_count(mine.n, 'listing')}, {mine.n_unanswered:,} skipped{pace}",
        title_justify="left",
    )
    for name in ("", "pricer"):
        table.add_column(name, no_wrap=True)
    for name in ("mean error [95 %]", "median", "within 20 %"):
        table.add_column(name, justify="right", no_wrap=True)
    for row in place.rows:
        style = "bold" if row.name == place.person else ""
        money_of = (amount_of(row.mae, currency), format_money(row.median_error, currency))
        table.add_row(
            row.rank_range, Text(to_single_line(row.name, 24)), *money_of, f"{row.within_20:.0%}", style=style
        )
    lines: list[Any] = [table, *(describe_result(pair, currency) for pair in place.pairs)]
    if len(place.pairs) > 1:
        lines.append("These hold all together, at 95 %. A place such as 1–2 is what tests of each pair leave open.")
    if place.without:
        lines.append(
            f"Judged on none of these listings: {', '.join(to_single_line(name, 24) for name in place.without)}."
        )
    return [*lines, "", *format_answers(place, currency)]


def describe_result(pair: Difference, currency: str) -> str:
    """One pair: who errs less and by how much, or how many items would tell."""
    other, gap = to_single_line(pair.b, 24), format_money(abs(pair.difference), currency)
    on = f" on {format_count(pair.n, 'common listing')}"
    if pair.low is None or pair.high is None:
        return f"You and {other}{on}: too few for an interval."
    if pair.is_significant:
        ends = sorted(abs(end) for end in (pair.low, pair.high))
        much = f"{gap} [{format_range(ends[0], ends[1], currency)}]"
        return f"You err {much} {'less' if pair.better == pair.a else 'more'} than {other}{on}: told apart."
    needed = f"; about {format_estimate(pair.n_needed)} would tell you apart" if pair.n_needed else ""
    return f"You and {other} are not told apart{on} ({format_range(pair.low, pair.high, currency)}){needed}."


def format_answers(place: HumanResult, currency: str) -> list[str]:
    """The nearest and the farthest answers, with the true prices."""
    said = [row for row in place.evaluation.rows if row.price is not None]
    ordered = sorted(said, key=lambda row: (abs((row.price or 0.0) - row.truth), row.id))
    few = min(EXAMPLES, (len(ordered) + 1) // 2)
    parts = (("Nearest", ordered[:few]), ("Farthest", ordered[::-1][: min(few, len(ordered) - few)]))
    lines = []
    for what, rows in parts:
        if rows:
            lines.append(f"{what}:")
            lines += [format_answer(row, place.titles[row.id], currency) for row in rows]
    return lines


def format_answer(row: EvalRow, title: str, currency: str) -> str:
    """One answer beside its truth."""
    pair = f"you {format_money(row.price or 0.0, currency)}, price {format_money(row.truth, currency)}"
    return f"  {pair:<40} {to_single_line(title, 60)}"


def result_dict(place: HumanResult) -> dict[str, Any]:
    """The result as plain values, ready for JSON."""
    rows = {row.id: asdict(row) for row in place.evaluation.rows}
    data = to_arrays(place.evaluation)
    errors = dict(zip(data.ids, data.error.tolist(), strict=True))
    return {
        "person": place.person,
        "leaderboard": [asdict(row) for row in place.rows],
        "differences": [asdict(pair) for pair in place.pairs],
        "without_common_items": place.without,
        "answers": [{**rows[id], "title": place.titles[id], "error": errors[id]} for id in data.ids],
    }
