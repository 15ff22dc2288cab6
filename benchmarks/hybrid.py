"""Hybrid prices on real goods: our model and saved answers of a frontier LLM together.

    python benchmarks/hybrid.py --goods goods.jsonl.gz --answers llm_answers.csv --own best --work out/hybrid

Prints two tables in Markdown. The first is measured on the answered listings of the test split: own model, LLM, and the
hybrid when it asks about all listings or about a share of them, in order of the expected gain. The second is the
learning curve in paid answers: hybrids fitted on 20 random subsets of the answered validation listings, scored on the
answered validation listings outside the subset (the last row: 10-fold cross-fitting), so that the test split takes no
part in it.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from pricesmith.catalog import curate
from pricesmith.catalog import open as open_catalog
from pricesmith.catalog.catalog import Catalog
from pricesmith.core.types import Item, Quote
from pricesmith.metrics.bootstrap import Interval, bootstrap_interval, encode_groups
from pricesmith.pricers.fitting import fit_model
from pricesmith.pricers.hybrid.model import Answers, HybridPricer, collect_answers, fit_hybrid
from pricesmith.pricers.hybrid.paid import FeeSettings, SavedAnswers
from pricesmith.pricers.model import PriceModel, load_model
from pricesmith.pricers.precomputed import read_prices
from pricesmith.pricers.recipes import read_recipe

Array = npt.NDArray[np.float64]
SHARES = (1.0, 0.4, 0.2, 0.1)
SIZES = (50, 100, 200, 400)
REPEATS = 20


def main() -> None:
    """Curate, fit the own model if needed, and print both tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--goods", type=Path, required=True)
    parser.add_argument("--answers", type=Path, required=True)
    parser.add_argument("--own", default="best", help="recipe of the own model")
    parser.add_argument("--work", type=Path, default=Path("out/hybrid"), help="folder for the catalog and the model")
    parser.add_argument("--catalog", type=Path, help="a catalog of the goods, if there is one")
    parser.add_argument("--model", type=Path, help="the own model, if it is fitted")
    arguments = parser.parse_args()
    folder = arguments.catalog or arguments.work / "catalog"
    if arguments.catalog is None:
        curate([str(arguments.goods)], folder, min_price=0.5, max_price=999.49)
    catalog = open_catalog(folder)
    model_folder = arguments.model or arguments.work / arguments.own
    if arguments.model is None:
        fit_model(read_recipe(arguments.own), catalog, model_folder)
    own = load_model(model_folder)
    saved = SavedAnswers(read_prices(arguments.answers, catalog.currency), "LLM", FeeSettings(), catalog.currency)
    groups: dict[str, str] = {}
    for split in ("validation", "test"):
        columns = catalog.columns(split, ("id", "group"))
        groups.update(zip(columns["id"], columns["group"], strict=True))
    items = [*catalog.tune_half(), *catalog.calibrate_half()]
    answers = collect_answers([own, saved], items, [groups[item.listing.id] for item in items], len(items))
    print_test(catalog, own, saved, answers, groups)
    print_learning_curve(answers)


def errors_at(share: float, order: Array, first: Array, hybrid: Array) -> Array:
    """The absolute errors [n] if the second model is asked about a share of the listings, in decreasing order."""
    asked = np.argsort(-order, kind="stable")[: round(share * len(order))]
    errors = first.copy()
    errors[asked] = hybrid[asked]
    return errors


def format_interval(interval: Interval) -> str:
    """An estimate with its 95 % confidence interval."""
    return f"{interval.point:.2f} [{interval.low:.2f}, {interval.high:.2f}]"


def print_test(
    catalog: Catalog, own: PriceModel, saved: SavedAnswers, answers: Answers, groups: dict[str, str]
) -> None:
    """The first table: MAE on the answered listings of the test split."""
    items: list[Item] = [item for item in catalog.items("test") if saved.has(item.listing)]
    listings, truth = [item.listing for item in items], np.array([item.price for item in items])
    codes = encode_groups([groups[listing.id] for listing in listings])
    hybrid = HybridPricer([own, saved], fit_hybrid(answers).model, "hybrid")
    first, second = own.price(listings), saved.price(listings)
    combined = hybrid.combine(listings, [first, second])
    order = hybrid.model.expected_gains(first)
    low, high = catalog.price_range
    own_errors, llm_errors, hybrid_errors = (
        np.abs(np.clip([quote.price for quote in quotes], low, high) - truth) for quotes in (first, second, combined)
    )
    print(f"\n{len(items)} test listings; {hybrid.model.shares.rows} answered validation listings.\n")
    print("| | MAE [95 % CI] | gain over the LLM [95 % CI] |\n|---|--:|--:|")
    rows = {"own model": own_errors, "LLM": llm_errors}
    rows |= {f"hybrid, {share:.0%} asked": errors_at(share, order, own_errors, hybrid_errors) for share in SHARES}
    for name, errors in rows.items():
        gain = "" if name == "LLM" else format_interval(bootstrap_interval(llm_errors - errors, codes))
        print(f"| {name} | {format_interval(bootstrap_interval(errors, codes))} | {gain} |")
    for name, quotes in (("hybrid", combined), ("own model", first)):
        bounds = np.array([(quote.low, quote.high) for quote in quotes], dtype=np.float64)
        covered = ((bounds[:, 0] <= truth) & (truth <= bounds[:, 1])).mean()
        width = np.exp(np.median(np.log(bounds[:, 1] / bounds[:, 0])) / 2)
        print(f"\nCoverage of the 90 % intervals, {name}: {covered:.1%}; typical: price ÷ and × {width:.2f}")


def print_learning_curve(answers: Answers) -> None:
    """The second table: MAE on the answered validation listings by the number of answers that hybrids are fitted on.

    Each listing's errors are means over the subsets that it is not in, so that all rows are about the same listings.
    """
    rows = np.array(answers.asked)[answers.inputs.complete]
    codes = encode_groups([answers.groups[row] for row in rows])
    print("\n| answers | own model | LLM | hybrid, all asked | 20 % asked | gain of all asked over the LLM |")
    print("|--:|--:|--:|--:|--:|--:|")
    for size in SIZES:
        sums, counts = np.zeros((4, len(rows))), np.zeros(len(rows))
        for seed in range(REPEATS):
            outside, errors = score_subset(answers, rows, size, seed)
            sums[:, outside] += errors
            counts[outside] += 1
        print_errors(size, sums[:, counts > 0] / counts[counts > 0], encode_groups(codes[counts > 0].tolist()))
    fitted = fit_hybrid(answers)
    llm = np.abs(answers.inputs.prices[answers.inputs.complete][:, 1] - answers.truth[rows])
    order = fitted.model.expected_gains([answers.first[row] for row in fitted.rows])
    partly = errors_at(0.2, order, fitted.first_errors, fitted.hybrid_errors)
    print_errors(len(rows), np.stack([fitted.first_errors, llm, fitted.hybrid_errors, partly]), codes)


def print_errors(size: int, errors: Array, codes: npt.NDArray[np.int64]) -> None:
    """A row of the second table from errors [4, n]."""
    columns = [*errors, errors[1] - errors[2]]
    print(f"| {size} | " + " | ".join(format_interval(bootstrap_interval(column, codes)) for column in columns) + " |")


def score_subset(
    answers: Answers, rows: npt.NDArray[np.int64], size: int, seed: int
) -> tuple[npt.NDArray[np.int64], Array]:
    """The positions [n] of the answered rows outside a random subset, and the absolute errors [4, n] on them.

    They are the errors of the own model, the LLM, the hybrid fitted on the subset, and that hybrid with 20 % asked.
    """
    chosen = np.random.default_rng(seed).permutation(len(rows))
    places = {row: place for place, row in enumerate(answers.asked)}
    inside, outside = rows[chosen[:size]].tolist(), rows[chosen[size:]].tolist()

    def quotes(part: list[int]) -> list[list[Quote]]:
        return [[member[places[row]] for row in part] for member in answers.others]

    fitted = fit_hybrid(replace(answers, asked=inside, others=quotes(inside)))
    inputs = replace(answers, asked=outside, others=quotes(outside)).inputs
    actual, first = answers.truth[outside], [answers.first[row] for row in outside]
    own, llm = np.abs(inputs.prices - actual[:, None]).T
    hybrid = np.abs(fitted.model.shares.combine(inputs) - actual)
    partly = errors_at(0.2, fitted.model.expected_gains(first), own, hybrid)
    return chosen[size:], np.stack([own, llm, hybrid, partly])


if __name__ == "__main__":
    main()
