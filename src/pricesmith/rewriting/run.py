"""Rewrites a catalog: a trial first, and all listings only if its error falls.

    rewrite_catalog(catalog, "api:gpt-6-luna", Path("out/clean"), read_recipe("ridge"), ApiSettings(budget=5.0))

Every answer is in the response cache before the next step, so an interrupted or killed command loses nothing: the same
command again asks for the rest. The catalog that is read stays as it is.
"""

from __future__ import annotations

import hashlib
import shutil
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pricesmith.catalog.catalog import CARD, FORMAT, ITEMS, LEDGER, REJECTS, SPLITS, Catalog, open_catalog
from pricesmith.catalog.summary import catalog_card
from pricesmith.core.atomic import sha256
from pricesmith.core.errors import PricesmithError, UsageError
from pricesmith.core.folders import FolderBuild, build_folder
from pricesmith.core.model_files import report_damage
from pricesmith.core.progress import SILENT, Progress
from pricesmith.core.types import Listing, Recipe
from pricesmith.pricers.api.limits import BudgetExceeded
from pricesmith.pricers.api.model_spec import ApiSettings
from pricesmith.pricers.recipes import get_settings
from pricesmith.pricers.rewriting.form import RewrittenListing
from pricesmith.rewriting.catalog_rewriters import CatalogRewriter, open_catalog_rewriter
from pricesmith.rewriting.trial import RewritingTrial, check_trial, describe_unchanged, draw_sample, measure_trial

if TYPE_CHECKING:
    import pyarrow as pa

ROWS = 2_000
RECIPE = "ridge"
TEXTS = ("id", "title", "text", "category", "brand")
OWNERSHIP = ("generator", "format", "inventory", "settings")  # entries of a ledger that every folder has of its own


@dataclass(frozen=True)
class RewriteOptions:
    """The number of listings of the trial; `trial_only`: stop before the others are rewritten; `keep_anyway`: go on
    also if the error does not fall; `overwrite`: replace a catalog that was made with other settings."""

    rows: int = ROWS
    trial_only: bool = False
    keep_anyway: bool = False
    overwrite: bool = False


class NotKept(PricesmithError):
    """The error of the trial does not fall significantly, so no catalog is written."""

    def __init__(self, trial: RewritingTrial, currency: str) -> None:
        self.trial = trial
        hint = "Keep the catalog as it is; or use another --model, a larger --rows, or --keep-anyway."
        if sum(trial.unchanged.values()) == trial.rows:
            hint = f"No answer of the model was usable ({', '.join(trial.unchanged)}): use another --model."
        super().__init__(
            "Rewriting does not lower the error significantly, so no catalog is written",
            got=trial.describe(currency)[0],
            allowed="a 95 % confidence interval of the change below 0",
            hint=hint,
        )


class NotRewritten(UsageError):
    """The trial is over, and `missing` other listings are not rewritten because the options ask for the trial only."""

    def __init__(self, trial: RewritingTrial, missing: int, cost: str) -> None:
        self.trial, self.missing = trial, missing
        super().__init__(
            f"{missing:,} listings are not rewritten yet, which takes {cost}",
            got=f"a trial of {trial.rows:,} listings, whose answers are cached",
            hint="Run the same command again with --yes.",
        )


@dataclass
class Counts:
    """What became of the listings that were written."""

    listings: int = 0
    masked: int = 0
    chars: int = 0
    unchanged: Counter[str] = field(default_factory=Counter)

    def add(self, answer: RewrittenListing) -> None:
        """Count a listing."""
        self.listings += 1
        self.masked += answer.masked
        self.chars += len(answer.listing.title) + len(answer.listing.text)
        self.unchanged.update([answer.reason] if answer.reason else [])

    def to_dict(self) -> dict[str, Any]:
        """The counts for the ledger."""
        return {
            "listings": self.listings,
            "rewritten": self.listings - sum(self.unchanged.values()),
            "unchanged": dict(sorted(self.unchanged.items())),
            "masked_amounts": self.masked,
            "mean_chars": round(self.chars / max(1, self.listings), 1),
        }


def rewrite_catalog(
    catalog: Catalog,
    model: str,
    to: Path,
    recipe: Recipe,
    settings: ApiSettings,
    options: RewriteOptions | None = None,
    progress: Progress = SILENT,
) -> Catalog:
    """Rewrite a sample of a catalog, measure the error of a recipe on both texts, and write the rewritten catalog `to`.

    `model` is `api:MODEL` or a base on this machine. Raises NotKept if the error does not fall significantly (unless
    `keep_anyway`), NotRewritten after a trial without the rest, UsageError if the catalog was rewritten before or `to`
    holds something else, BudgetExceeded and BatchPending as an evaluation does.
    """
    options = options or RewriteOptions()
    check_trial(recipe, options.rows)
    check_original(catalog)
    rewriter = open_catalog_rewriter(model, catalog, settings, progress)
    identity = rewriter.rewriting
    build_settings = {
        "rewritten": catalog.fingerprint,
        "model": identity.model,
        "prompt_version": identity.prompt_version,
        "base_fingerprint": identity.base_fingerprint,
        "rows": options.rows,
        "recipe": get_settings(recipe),
        "map": catalog.ledger.get("settings", {}).get("map", {}),
    }
    inputs, overwrite = [catalog.path], options.overwrite
    with build_folder(to, LEDGER, build_settings, overwrite=overwrite, noun="catalog", inputs=inputs) as build:
        if build is None:
            progress.note(f"{to} is finished already: the same command built it.")
            return open_catalog(to)
        try:
            trial = run_trial(catalog, rewriter, recipe, options, progress)
            check_rest(catalog, rewriter, trial, options)
            write_catalog(build, catalog, rewriter, trial, progress)
        except BudgetExceeded as error:
            raise budget_error(error) from None
    return open_catalog(to)


def check_original(catalog: Catalog) -> None:
    """Raise UsageError if the listings of a catalog were rewritten before."""
    if catalog.rewriting:
        raise UsageError(
            f"The listings of {catalog.path} were rewritten before",
            got=f"a catalog that {catalog.ledger['rewriting']['model']} has rewritten",
            allowed="a catalog that `pricesmith curate` made",
            hint="Rewrite the original catalog.",
        )


def run_trial(
    catalog: Catalog, rewriter: CatalogRewriter, recipe: Recipe, options: RewriteOptions, progress: Progress
) -> RewritingTrial:
    """Rewrite a sample and measure the change of the error.

    Raises NotKept if it does not fall significantly (unless `keep_anyway`).
    """
    sample = draw_sample(catalog, options.rows)
    listings = [item.listing for item in sample.items]
    rewriter.announce(listings, sum(catalog.ledger["splits"].values()))
    rewritten = rewrite_all(rewriter, listings, "rewriting listings for the trial", progress)
    rewriter.finish()
    trial = measure_trial(sample, rewritten, catalog, recipe, progress)
    for line in trial.describe(catalog.currency):
        progress.note(line)
    if not trial.improves and not options.keep_anyway:
        raise NotKept(trial, catalog.currency)
    if not trial.improves:
        progress.note("The error does not fall significantly; the catalog is written all the same (--keep-anyway).")
    return trial


def rewrite_all(
    rewriter: CatalogRewriter, listings: Sequence[Listing], what: str, progress: Progress
) -> list[RewrittenListing]:
    """Return listings in clean form, with progress."""
    progress.start(what, len(listings))
    rewritten: list[RewrittenListing] = []
    for start in range(0, len(listings), rewriter.chunk):
        part = listings[start : start + rewriter.chunk]
        rewritten += rewriter.rewrite(part)
        progress.advance(len(part))
    return rewritten


def check_rest(catalog: Catalog, rewriter: CatalogRewriter, trial: RewritingTrial, options: RewriteOptions) -> None:
    """Raise NotRewritten if listings outside the trial are to be rewritten and the options ask for the trial only."""
    missing = rewriter.count_missing(read_listings(catalog)) if options.trial_only else 0
    if missing:
        raise NotRewritten(trial, missing, rewriter.describe_cost(missing))


def read_listings(catalog: Catalog) -> Iterator[Listing]:
    """Yield the listings of all splits, in the order of the file."""
    for batch in catalog.batches(TEXTS):
        for row in batch.to_pylist():
            yield Listing(*(row[name] for name in TEXTS))


def write_catalog(
    build: FolderBuild, catalog: Catalog, rewriter: CatalogRewriter, trial: RewritingTrial, progress: Progress
) -> None:
    """Rewrite the listings that are left, and write the items, the card and the ledger."""
    rewriter.restart()
    listings = list(read_listings(catalog))
    if rewriter.count_missing(listings):
        rewriter.announce(listings, len(listings))
    del listings
    identity = f"pricesmith rewritten catalog 1 {catalog.fingerprint} {rewriter.rewriting.id}\n"
    counts, digest = Counts(), hashlib.sha256(identity.encode())
    write_items(build.folder / ITEMS, catalog, rewriter, counts, digest, progress)
    cost = rewriter.finish()
    if (catalog.path / REJECTS).is_file():
        shutil.copyfile(catalog.path / REJECTS, build.folder / REJECTS)
    rewriting = rewriter.rewriting
    ledger = {
        **{name: value for name, value in catalog.ledger.items() if name not in OWNERSHIP},
        "format": FORMAT,
        "name": build.target.name,
        "fingerprint": digest.hexdigest(),
        "rewriting": {
            **rewriting.model_dump(mode="json"),
            "id": rewriting.id,
            "original": {"name": catalog.name, "fingerprint": catalog.fingerprint},
            **counts.to_dict(),
            "cost": cost,
            "trial": trial.to_dict(),
        },
        "items_bytes": (build.folder / ITEMS).stat().st_size,
        "items_sha256": sha256(build.folder / ITEMS),
    }
    with report_damage(catalog.path / LEDGER):
        (build.folder / CARD).write_text(catalog_card(ledger), encoding="utf-8")
    if counts.unchanged:
        progress.note(f"{describe_unchanged(counts.unchanged)} of all {counts.listings:,}.")
    build.finish(ledger)


def write_items(
    path: Path, catalog: Catalog, rewriter: CatalogRewriter, counts: Counts, digest: Any, progress: Progress
) -> None:
    """Write items.parquet with the titles and texts in clean form; all other columns and the order stay."""
    import pyarrow.parquet as pq

    with pq.ParquetFile(catalog.path / ITEMS) as original:
        schema = original.schema_arrow
    progress.start("rewriting all listings", sum(catalog.ledger["splits"][name] for name in SPLITS))
    with pq.ParquetWriter(path, schema, compression="zstd", compression_level=3, write_page_checksum=True) as out:
        for batch in catalog.batches(schema.names):
            columns = batch.to_pydict()
            rows = zip(*(columns[name] for name in TEXTS), strict=True)
            listings = [Listing(*row) for row in rows]
            answers: list[RewrittenListing] = []
            for start in range(0, len(listings), rewriter.chunk):
                part = listings[start : start + rewriter.chunk]
                answers += rewriter.rewrite(part)
                progress.advance(len(part))
            for answer in answers:
                counts.add(answer)
                listing = answer.listing
                digest.update(f"{listing.id}\0{listing.title}\0{listing.text}\n".encode("utf-8", "surrogatepass"))
            out.write_table(replace_texts(columns, answers, schema))


def replace_texts(columns: dict[str, list[Any]], answers: Sequence[RewrittenListing], schema: pa.Schema) -> pa.Table:
    """Return rows with the titles and texts of these answers."""
    import pyarrow as pa

    titles = [answer.listing.title for answer in answers]
    return pa.table({**columns, "title": titles, "text": [answer.listing.text for answer in answers]}, schema=schema)


def budget_error(error: BudgetExceeded) -> BudgetExceeded:
    """The error if the budget ends, with what helps here."""
    return BudgetExceeded(
        error.what,
        got=error.got,
        allowed=error.allowed,
        hint="All answers so far are cached and free: run the same command again with a higher --budget.",
    )
