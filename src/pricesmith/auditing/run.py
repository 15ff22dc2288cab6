"""Audits of a catalog by cross-fitting, of a catalog by a model that was not fitted on it, and of a file by a model.

audit_catalog(open_catalog("out/shop"), read_recipe("ridge"))
audit_catalog_with_model(open_catalog("out/shop"), load_model("out/mlp"), split="test")
audit_file(load_model("out/mlp"), Path("new.csv"))
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from pricesmith.auditing.asked_file import read_asked_file
from pricesmith.auditing.cross_fit import cross_fit_quotes, format_plan
from pricesmith.auditing.result import N_COMPARABLES, AuditedPrice, AuditResult
from pricesmith.candidates import is_in_training
from pricesmith.catalog.catalog import SPLITS, Catalog
from pricesmith.catalog.comparables import Comparable, ComparablesIndex
from pricesmith.core.errors import UsageError
from pricesmith.core.progress import SILENT, Progress
from pricesmith.core.types import Item, Listing, Quote, Recipe
from pricesmith.metrics.metrics import Array
from pricesmith.metrics.multiple_tests import benjamini_hochberg
from pricesmith.pricers.asked_price import (
    MAX_WRONG_SHARE,
    ErrorSample,
    assess_prices,
    log_scores,
    suggest_error,
)
from pricesmith.pricers.model import PriceModel
from pricesmith.pricers.price_auditor import PriceAuditor, check_audit_options, describe_p_values

FDR = 0.1
N_FOLDS = 5
ALL = "all"
BATCH = 1_000
UNBOUNDED = (0.0, math.inf)
UNLIKE = "not assessed: nothing similar in the training data"
IN_TRAINING = "in the model's training rows: it has learned this price"


@dataclass(frozen=True)
class AuditOptions:
    """The false discovery rate, how p-values are computed (`tail` or `conformal`), and the share of prices that may be
    wrong without shaping the tail."""

    fdr: float = FDR
    p_values: str = "tail"
    max_wrong_share: float = MAX_WRONG_SHARE

    def __post_init__(self) -> None:
        check_audit_options(self.fdr, self.p_values, self.max_wrong_share)


@dataclass
class AskedListings:
    """Listings with asked prices, quotes and p-values, all of length n, and why some cannot be assessed."""

    listings: list[Listing]
    prices: list[float | None]
    quotes: list[Quote]
    scores: Array
    p_values: Array
    notes: list[str] = field(default_factory=list)


def audit_catalog(
    catalog: Catalog,
    recipe: Recipe,
    *,
    n_folds: int = N_FOLDS,
    split: str = ALL,
    options: AuditOptions | None = None,
    progress: Progress = SILENT,
) -> AuditResult:
    """Audit a catalog by models that never saw the audited price or its near-duplicates.

    All listings take part in the fits and in the p-values; `split` restricts which ones are assessed. Raises UsageError
    for a recipe made of other models, a split that does not exist and too few listings.
    """
    chosen = options or AuditOptions()
    items, groups, splits = read_items(catalog)
    audited = select_split(splits, split)
    progress.note(format_plan(recipe, n_folds, len(items)))
    quotes = cross_fit_quotes(recipe, items, groups, catalog.price_range, n_folds=n_folds, progress=progress)
    prices = [item.price for item in items]
    scores = log_scores(quotes, prices, UNBOUNDED)
    errors = ErrorSample.from_scores(scores, groups)
    p_values = errors.find_p_values(scores, chosen.p_values, chosen.max_wrong_share)
    asked = AskedListings(
        [items[place].listing for place in audited],
        [prices[place] for place in audited],
        [quotes[place] for place in audited],
        scores[audited],
        p_values[audited],
    )
    notes = [describe_p_values(errors, chosen.p_values, chosen.max_wrong_share, len(audited), chosen.fdr, own=True)]
    progress.start("finding comparables")
    index = OwnIndex(items, groups, quotes)
    rows = build_rows(asked, catalog.currency, chosen.fdr, index.search)
    judge = f"{n_folds} fits of {recipe.kind}, each without the prices that it judges"
    return build_result(rows, catalog.name, judge, catalog.currency, chosen, errors, notes)


def read_items(catalog: Catalog) -> tuple[list[Item], list[str], list[str]]:
    """All items of a catalog, the near-duplicate group of each and the split of each."""
    items: list[Item] = []
    groups: list[str] = []
    splits: list[str] = []
    for split in SPLITS:
        part, part_groups = catalog.items_and_groups(split)
        items += part
        groups += part_groups
        splits += [split] * len(part)
    return items, groups, splits


def select_split(splits: Sequence[str], split: str) -> list[int]:
    """The positions of the rows of a split, or of all. Raises UsageError for an unknown or empty one."""
    if split != ALL and split not in SPLITS:
        raise UsageError(
            f"A catalog has no split {split!r}",
            got=split,
            allowed=f"{ALL}, {', '.join(SPLITS)}",
            hint="Use --split all.",
        )
    places = [place for place, name in enumerate(splits) if split in (ALL, name)]
    if not places:
        raise UsageError(f"The catalog has no items in its split {split}", hint="Use --split all.")
    return places


class OwnIndex:
    """Comparables of a catalog's listings among its other listings, ordered by the cross-fitted quotes."""

    def __init__(self, items: Sequence[Item], groups: Sequence[str], quotes: Sequence[Quote]) -> None:
        self.index = ComparablesIndex.build(items)
        ids = [item.listing.id for item in items]
        logs = {id: math.log(quote.price) if quote.price else math.nan for id, quote in zip(ids, quotes, strict=True)}
        typical = float(np.nanmedian(list(logs.values())))
        self.index.estimates = np.array([typical if math.isnan(logs[id]) else logs[id] for id in self.index.ids])
        self.groups = dict(zip(ids, groups, strict=True))
        self.sizes = Counter(groups)

    def search(self, listings: Sequence[Listing], quotes: Sequence[Quote]) -> list[list[Comparable]]:
        """The three listings of other near-duplicate groups that are most like each listing."""
        nearest = []
        for listing, quote in zip(listings, quotes, strict=True):
            group = self.groups[listing.id]
            wanted = N_COMPARABLES + self.sizes[group]
            log = math.log(quote.price) if quote.price else math.nan
            near = [other for other in self.index.search([listing], wanted, [log])[0] if self.groups[other.id] != group]
            nearest.append(near[:N_COMPARABLES])
        return nearest


def audit_catalog_with_model(
    catalog: Catalog,
    model: PriceModel,
    *,
    split: str = "",
    options: AuditOptions | None = None,
    progress: Progress = SILENT,
) -> AuditResult:
    """Audit the listings of a catalog that a model was not fitted on.

    A model of this catalog judges its test split (the default). A model of another catalog judges any split (default:
    all); listings with the words of one of its training rows get a note. Raises UsageError for a split that the model
    was fitted, tuned or calibrated on.
    """
    chosen = options or AuditOptions()
    auditor = PriceAuditor(model)
    own = str(model.info["fingerprint"]) == catalog.fingerprint
    wanted = split or ("test" if own else ALL)
    if own and wanted != "test":
        raise UsageError(
            f"{model.path} was fitted on this catalog: it cannot judge prices that it has seen",
            got=f"--split {wanted}",
            allowed="--split test",
            hint=f"Use --split test, or judge all prices with: --recipe {model.manifest['kind']}"
            if can_cross_fit(model)
            else "Use --split test, or judge all prices with: --recipe ridge",
        )
    auditor.check_currency(catalog.currency, catalog.name)
    items, _, splits = read_items(catalog)
    audited = [items[place] for place in select_split(splits, wanted)]
    asked = judge_listings(
        auditor, [item.listing for item in audited], [item.price for item in audited], chosen, progress
    )
    notes = [] if own else note_training(model, asked)
    rest = f": split {wanted}" if wanted != ALL else ""
    return model_result(model, auditor, asked, f"{catalog.name}{rest}", chosen, notes, progress)


def can_cross_fit(model: PriceModel) -> bool:
    """Whether `--recipe KIND` works for the kind of a model."""
    return str(model.manifest["kind"]) in ("ridge", "sparse_mlp", "boosting", "knn", "median")


def judge_listings(
    auditor: PriceAuditor,
    listings: Sequence[Listing],
    prices: Sequence[float | None],
    options: AuditOptions,
    progress: Progress,
) -> AskedListings:
    """The quotes, scores and p-values of listings by a model."""
    progress.start("pricing", len(listings))
    quotes: list[Quote] = []
    for start in range(0, len(listings), BATCH):
        quotes += auditor.model.price(listings[start : start + BATCH], check_similarity=True)
        progress.advance(len(listings[start : start + BATCH]))
    scores = auditor.score(quotes, prices)
    p_values = auditor.errors.find_p_values(scores, options.p_values, options.max_wrong_share)
    notes = [describe_quote(quote) for quote in quotes]
    return AskedListings(list(listings), list(prices), quotes, scores, p_values, notes)


def describe_quote(quote: Quote) -> str:
    """Why a listing has no quote, or what its reader must know."""
    if quote.price is None:
        return f"no quote: {quote.raw[:200]}".rstrip(": ")
    return UNLIKE if quote.nothing_similar else ""


def note_training(model: PriceModel, asked: AskedListings) -> list[str]:
    """Mark the listings that are among the training rows of a model, and return the note about them."""
    known = is_in_training(model, asked.listings)
    asked.notes = [
        "; ".join(part for part in (IN_TRAINING if seen else "", note) if part)
        for note, seen in zip(asked.notes, known, strict=True)
    ]
    count = sum(known)
    if not count:
        return []
    return [
        f"{count:,} of {len(known):,} listings have the words of a training row of the model. It may have learned "
        "their wrong prices, so more of them may be wrong than it finds; each has a note."
    ]


def audit_file(
    model: PriceModel,
    file: Path | str,
    *,
    mapping: Mapping[str, str] | None = None,
    options: AuditOptions | None = None,
    progress: Progress = SILENT,
) -> AuditResult:
    """Audit the prices of a file, or of another source such as a table, with a model.

    `mapping` is field -> column, for columns with unusual names. Raises UsageError if the file has no price column or
    none that describes the listings, and InputError if it cannot be read.
    """
    chosen = options or AuditOptions()
    auditor = PriceAuditor(model)
    read = read_asked_file(file, model.info, mapping, progress)
    asked = judge_listings(auditor, read.listings, read.prices, chosen, progress)
    asked.notes = [
        "; ".join(part for part in (reason, note) if part)
        for reason, note in zip(read.reasons, asked.notes, strict=True)
    ]
    notes = note_training(model, asked)
    return model_result(model, auditor, asked, read.name, chosen, notes, progress, unread=read.unread)


def model_result(
    model: PriceModel,
    auditor: PriceAuditor,
    asked: AskedListings,
    name: str,
    options: AuditOptions,
    notes: Sequence[str],
    progress: Progress,
    unread: Mapping[str, int] | None = None,
) -> AuditResult:
    """The result of an audit by a model, whose training listings are the comparables."""
    currency = str(model.info["currency"])
    count = int(np.isfinite(asked.p_values).sum())
    first = describe_p_values(auditor.errors, options.p_values, options.max_wrong_share, count, options.fdr, own=False)
    progress.start("finding comparables")

    def search(listings: Sequence[Listing], quotes: Sequence[Quote]) -> list[list[Comparable]]:
        return model.find_comparables(listings, N_COMPARABLES, quotes=quotes)

    rows = build_rows(asked, currency, options.fdr, search)
    kind = str(model.manifest["kind"])
    judge = f"the model {model.name}" + (f" ({kind})" if kind != model.name else "")
    result = build_result(rows, name, judge, currency, options, auditor.errors, [first, *notes])
    if not unread:
        return result
    reasons = ", ".join(f"{count:,} x {reason}" for reason, count in Counter(unread).most_common(3))
    return AuditResult(**{**vars(result), "unread": unread, "notes": (*result.notes, f"Rows not read: {reasons}.")})


def build_rows(asked: AskedListings, currency: str, fdr: float, search: Any) -> list[AuditedPrice]:
    """The assessed listings: over and under first, then the others, each by money at stake. `search(listings, quotes)`
    finds the comparables of those over and under."""
    adjusted = benjamini_hochberg(asked.p_values)
    assessments = assess_prices(asked.scores, adjusted, fdr)
    flagged = [place for place, name in enumerate(assessments) if name in ("over", "under")]
    near = search([asked.listings[place] for place in flagged], [asked.quotes[place] for place in flagged])
    comparables = dict(zip(flagged, near, strict=True))
    rows = []
    for place, (listing, price, quote) in enumerate(zip(asked.listings, asked.prices, asked.quotes, strict=True)):
        is_flagged = place in comparables
        rows.append(
            AuditedPrice(
                listing.id,
                listing.title,
                listing.category,
                price,
                quote.price,
                quote.low,
                quote.high,
                None if math.isnan(asked.p_values[place]) else float(asked.p_values[place]),
                None if math.isnan(adjusted[place]) else float(adjusted[place]),
                assessments[place],
                suggest_error(price, quote, currency) if is_flagged and price else "",
                asked.notes[place] if asked.notes else "",
                tuple(comparables.get(place, ())),
            )
        )
    return sorted(rows, key=lambda row: (not row.flagged, not row.assessment, -(row.money or 0.0), row.id))


def build_result(
    rows: Sequence[AuditedPrice],
    name: str,
    judge: str,
    currency: str,
    options: AuditOptions,
    errors: ErrorSample,
    notes: Sequence[str],
) -> AuditResult:
    """The result with its settings."""
    return AuditResult(
        tuple(rows), name, judge, currency, options.fdr, options.p_values, round(errors.total), tuple(notes)
    )
