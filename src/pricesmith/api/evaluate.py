"""Evaluations from Python: pricers on the same items, as a leaderboard to look at, compare and report."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pricesmith.api.pipeline import CatalogLike, open_or_same
from pricesmith.catalog.catalog import Catalog
from pricesmith.core.console import Console
from pricesmith.core.errors import UsageError
from pricesmith.core.frames import to_native_frame
from pricesmith.core.tables import html_table
from pricesmith.core.types import Evaluation, Pricer

if TYPE_CHECKING:
    from pricesmith.core.progress import Progress
    from pricesmith.evaluation.compare import Difference
    from pricesmith.evaluation.leaderboard import LeaderboardRow
    from pricesmith.evaluation.results import Evals
    from pricesmith.evaluation.run_eval import Candidate
    from pricesmith.pricers.api.model_spec import ApiSettings

WIDTH = 120  # characters of a leaderboard's repr


class Leaderboard:
    """The pricers of a folder of evaluations, the lowest MAE first among those with the same items.

    `rows` are the lines with their figures, `evaluations` the quotes by pricer name. A notebook shows it as a table.

    Examples:
        >>> board.names
        ['ridge', 'median']
        >>> board.compare("ridge", "median").better
        'ridge'
    """

    def __init__(self, evals: Evals) -> None:
        from pricesmith.evaluation.leaderboard import build_leaderboard

        self.evals = evals
        self.rows: list[LeaderboardRow] = build_leaderboard(evals)
        self.evaluations: dict[str, Evaluation] = {evaluation.pricer: evaluation for evaluation in evals.evaluations}

    @property
    def names(self) -> list[str]:
        """The pricers in the order of the table."""
        return [row.name for row in self.rows]

    def __len__(self) -> int:
        return len(self.rows)

    def __iter__(self) -> Iterator[LeaderboardRow]:
        return iter(self.rows)

    def __getitem__(self, name: str) -> LeaderboardRow:
        self.evaluation(name)
        return next(row for row in self.rows if row.name == name)

    def evaluation(self, name: str) -> Evaluation:
        """The quotes of one pricer. Raises UsageError if the leaderboard has no such pricer."""
        if name not in self.evaluations:
            raise UsageError(
                f"The leaderboard has no pricer {name!r}",
                got=str(name),
                allowed=", ".join(self.names),
                hint="Evaluate it into the same folder first.",
            )
        return self.evaluations[name]

    def compare(self, a: str, b: str, metric: str | None = None) -> Difference:
        """The paired difference `a` minus `b` on their common items, with a 95 % interval over near-duplicate groups.

        `metric` is one of `pricesmith.metrics.METRICS`, by default the MAE. Raises UsageError for an unknown name, and
        if the two have no item in common.

        Examples:
            >>> board.compare("ridge", "median")
            Difference(MAE: ridge - median = -... [95 % CI: -... to -...]; ridge is better)
        """
        from pricesmith.evaluation.compare import compare

        metrics = () if metric is None else (metric,)
        return compare(self.evaluation(a), self.evaluation(b), *metrics)

    def to_frame(self, library: str | None = None) -> Any:
        """The figures as a DataFrame of pandas, polars or pyarrow; without a name, of the first one installed.

        An interval has three columns: `NAME`, `NAME_low` and `NAME_high`.

        Examples:
            >>> board.to_frame("polars").columns[:3]
            ['name', 'kind', 'group']
        """
        rows = [flatten_row(row) for row in self.rows]
        return to_native_frame({name: [row.get(name) for row in rows] for name in rows[0]} if rows else {}, library)

    def tables(self) -> tuple[list[Any], list[str]]:
        """What a terminal shows: the tables, one for each set of items, and the notes below them."""
        from rich.text import Text

        from pricesmith.core.tables import FittedTable
        from pricesmith.reporting.tables import leaderboard_table

        drawn = leaderboard_table(self.evals, self.rows).renderables
        notes = [part.plain for part in drawn if isinstance(part, Text)]
        return [part for part in drawn if isinstance(part, FittedTable)], notes

    def __repr__(self) -> str:
        tables, notes = self.tables()
        lines: list[str] = []
        for table in tables:
            positions, widths = table.shown(WIDTH), table.widths()
            lines.append(table.title)
            for row in ([column.header for column in table.columns], *table.rows):
                cells = [
                    row[index].rjust(widths[index]) if table.columns[index].right else row[index].ljust(widths[index])
                    for index in positions
                ]
                lines.append("  ".join(cells).rstrip())
        return "\n".join(lines + notes)

    def _repr_html_(self) -> str:
        """The leaderboard as an HTML table, for notebooks."""
        tables, notes = self.tables()
        parts = []
        for number, table in enumerate(tables, 1):
            positions = [position for position, column in enumerate(table.columns) if not column.instead_of]
            header = [table.columns[position].header for position in positions]
            rows = [[row[position] for position in positions] for row in table.rows]
            parts.append(html_table(table.title, header, rows, notes if number == len(tables) else ()))
        return "".join(parts)


def flatten_row(row: LeaderboardRow) -> dict[str, Any]:
    """A row's figures as plain values; nested results other than intervals are left out."""
    flat: dict[str, Any] = {}
    values = asdict(row)
    del values["hybrid"]
    values["share_asked"] = None if row.hybrid is None else row.hybrid.share
    for name, value in values.items():
        if isinstance(value, dict) and "point" in value:
            flat |= {name: value["point"], f"{name}_low": value["low"], f"{name}_high": value["high"]}
        elif value is None or isinstance(value, str | int | float | bool):
            flat[name] = value
    return flat


def evaluate(
    pricers: Pricer | str | Path | Sequence[Pricer | str | Path],
    catalog: CatalogLike,
    to: Path | str | None = None,
    *,
    split: str = "test",
    limit: int | None = None,
    other_catalog: bool = False,
    budget: float | None = None,
    overwrite: bool = False,
    verbose: bool = False,
) -> Leaderboard:
    """Evaluate pricers on the same items of a catalog into the folder `to`; returns the leaderboard of the folder.

    A pricer is a loaded model, a model folder, `"human:FILE.csv"`, `"zero-shot:BASE"`, `"api:MODEL"`, or any object
    with a `name` and `price(listings)`. Without `to` nothing is kept on disk. Pricers that are in the folder already,
    under the same settings, are not evaluated again, and stay on the leaderboard.

    The checks are those of `pricesmith eval`: a model of another catalog is refused, unless `other_catalog`, and then
    the items that it was trained on are left out. Below 2,000 rows a model of this catalog is fitted again in 5 folds
    by near-duplicate group, and every row counts (not if the catalog is split by time); an object of your own may
    have seen the other splits, so it is evaluated on `split` alone. Raises UsageError if a pricer cannot be evaluated
    fairly.

    Examples:
        >>> board = evaluate(model, catalog)
        >>> len(board), board["ridge"].n > 50
        (1, True)
    """
    from pricesmith.candidates import comparables_search, group_codes
    from pricesmith.evaluation.run_eval import run_eval
    from pricesmith.pricers.api.model_spec import ApiSettings

    opened = open_or_same(catalog)
    single = isinstance(pricers, str | Path) or not isinstance(pricers, Sequence)
    members: list[Any] = [pricers] if single else list(pricers)  # type: ignore[arg-type]
    with (
        tempfile.TemporaryDirectory(prefix="pricesmith-") as folder,
        Console(quiet=not verbose).progress() as progress,
        ApiSettings(budget) as settings,
    ):
        evals = run_eval(
            build_candidates(members, opened, split, settings, progress),
            opened,
            Path(folder) / "evals" if to is None else Path(to),
            split=split,
            limit=limit,
            index=lambda items: comparables_search(items, group_codes(opened)),
            other_catalog=other_catalog,
            overwrite=overwrite,
            progress=progress,
        )
    return Leaderboard(evals)


def build_candidates(
    members: Sequence[Any], catalog: Catalog, split: str, settings: ApiSettings, progress: Progress
) -> list[Candidate]:
    """Each pricer with what its evaluation needs to know. Two folders of one name get their parents' names too."""
    from pricesmith.candidates import build_candidate, candidate_name, model_candidate, resolve_duplicates
    from pricesmith.pricers.model import PriceModel

    members = [str(member) if isinstance(member, Path) else member for member in members]
    names = [candidate_name(member) if isinstance(member, str) else pricer_name(member) for member in members]
    paths = [str(member.path) if isinstance(member, PriceModel) else str(member) for member in members]
    candidates = []
    for member, name in zip(members, resolve_duplicates(names, paths), strict=True):
        if isinstance(member, str):
            candidates.append(build_candidate(member, name, catalog, progress, settings))
        elif isinstance(member, PriceModel):
            candidates.append(model_candidate(member, name, catalog))
        else:
            candidates.append(candidate_from_object(member, name, catalog, split))
    return candidates


def pricer_name(pricer: Any) -> str:
    """The name of an object that prices. Raises UsageError if it cannot price."""
    if not isinstance(pricer, Pricer):
        raise UsageError(
            "This object does not price listings",
            got=type(pricer).__name__,
            allowed="a model, a model folder, or an object with `name` and `price(listings)`",
            hint="Load a model with ps.load, or name its folder.",
        )
    return pricer.name


def candidate_from_object(pricer: Pricer, name: str, catalog: Catalog, split: str) -> Candidate:
    """A pricer of the user's own. In a small catalog it answers for `split` only: it may have seen the other rows."""
    from pricesmith.evaluation.folds import goes_in_folds
    from pricesmith.evaluation.run_eval import Candidate

    only = {item.listing.id for item in catalog.items(split)} if goes_in_folds(catalog) else None
    return Candidate(name, type(pricer).__name__, pricer, item_ids=only)


def report(
    evals: Leaderboard | Path | str,
    to: Path | str,
    *,
    reference: str | None = None,
    competitor: str | None = None,
    machine_cost: float | None = None,
    overwrite: bool = False,
) -> dict[str, Any]:
    """Write the report of a folder of evaluations: an HTML page that opens offline, and its figures beside it as JSON.

    `reference` is the model to compare all others with (default: your most accurate one), `competitor` the one that
    stands beside it by price and category, `machine_cost` the US dollars an hour of your machine. Returns the figures.

    Examples:
        >>> figures = report(board, folder / "report.html")
        >>> (folder / "report.html").exists()
        True
    """
    from pricesmith.reporting import write_report

    folder = evals.evals.path if isinstance(evals, Leaderboard) else Path(evals)
    return write_report(
        folder, to, reference=reference, competitor=competitor, machine_cost=machine_cost, overwrite=overwrite
    )
