"""What the report shows of an evals folder, worked out once: verdict, league, bands, coverage, running error, worst.

Only pricers judged on the same items are drawn together; the largest such group is the report's own.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pricesmith.errors import InputError, UsageError
from pricesmith.evaluation.beside import BesideBand, beside_by_category, beside_by_price
from pricesmith.evaluation.compare import common_ids
from pricesmith.evaluation.evaluate import columns_of
from pricesmith.evaluation.store import Evals, read_evals
from pricesmith.evaluation.summary import (
    LeagueRow,
    RunningError,
    Worst,
    coverage_by_quote,
    error_by_category,
    error_by_price,
    error_by_training,
    league,
    running_error,
    worst,
)
from pricesmith.evaluation.verdict import CONSTANT, Verdict, verdict
from pricesmith.measures.bands import CoverageBand, ErrorBand
from pricesmith.report.sentences import paragraph
from pricesmith.text.formatting import listed, plain
from pricesmith.types import Evaluation

HUES = 7  # the palette of style.css, without the grey that a constant is drawn in
GREY = "c7"
DRAWN = 4  # bars of more pricers than this cannot be told apart on a phone; the tables have them all
NOMINAL = 0.90


@dataclass(frozen=True)
class Beside:
    """The champion and one rival on their `n` common items, by band of the price and by category."""

    rival: str
    n: int
    prices: list[BesideBand]
    categories: list[BesideBand]


@dataclass(frozen=True)
class Findings:
    """Everything a page needs. `rows` is the whole league; what follows `beside` is by name, for the first group's
    pricers.
    """

    evals: Evals
    verdict: Verdict
    words: tuple[str, ...]
    rows: tuple[LeagueRow, ...]
    beside: Beside | None
    pricers: dict[str, Evaluation]
    hues: dict[str, str]
    bands: dict[str, list[ErrorBand]]
    categories: dict[str, list[ErrorBand]]
    close: dict[str, list[ErrorBand]]
    coverage: dict[str, list[CoverageBand]]
    running: dict[str, RunningError]
    worst: tuple[Worst, ...]
    constant_error: float

    @property
    def main(self) -> list[LeagueRow]:
        """The rows of the first group, best first."""
        return [row for row in self.rows if row.group == 0]

    @property
    def best(self) -> LeagueRow:
        return self.rows[0]

    @property
    def ties(self) -> set[str]:
        """Who is not told apart from the best of the first group. What the champion has to do with is read off the
        verdict's intervals, which are corrected for many comparisons; all else off the pair's own test.
        """
        apart = {one.rival: one.outcome in ("better", "worse") for one in self.verdict.versus}
        champion, best = self.verdict.champion, self.best.name
        ties = set()
        for row in self.main[1:]:
            rival = row.name if champion == best else best if champion == row.name else None
            if row.tied or (rival is not None and not apart[rival]):
                ties.add(row.name)
        return ties

    @property
    def currency(self) -> str:
        return self.pricers[self.best.name].currency

    @property
    def meta(self) -> dict[str, Any]:
        """The meta file of the best pricer."""
        return self.evals.meta[self.best.name]

    @property
    def nominal(self) -> float:
        """The share of truths that the intervals promise to hold."""
        return float(self.meta.get("confidence") or NOMINAL)

    @property
    def elsewhere(self) -> str:
        """A sentence on runs of another catalog, which learnt from other rows; empty where there are none."""
        foreign = [name for name in self.pricers if self.fitted_on(name) not in (None, self.pricers[name].catalog)]
        learnt = "learnt from the rows of another catalog, not from these"
        return f" {listed([plain(name, 40) for name in foreign], 4)} {learnt}." if foreign else ""

    def fitted_on(self, name: str) -> str | None:
        """The fingerprint of the catalog that a pricer was fitted on; None where it was not fitted."""
        return dict(self.evals.meta[name].get("settings") or {}).get("fitted_on")

    def drawn(self, most: int = DRAWN) -> list[str]:
        """The names to draw side by side: the best few, and the constant only where there is room."""
        names = [row.name for row in self.main if row.kind != "constant"] or [self.best.name]
        names += [row.name for row in self.main if row.name not in names]
        return names[:most]


def find(
    folder: Path, *, champion: str | None = None, rival: str | None = None, box_price: float | None = None
) -> Findings:
    """The findings of an evals folder; `box_price` is US dollars an hour. Raises InputError where there is nothing to
    report, UsageError where champion or rival is nobody's name, or the price is none.
    """
    evals = read_evals(folder)
    if not any(one.rows for one in evals.evaluations):
        raise InputError(
            f"There is no finished evaluation in {folder}",
            got=f"unfinished: {', '.join(evals.unfinished)}" if evals.unfinished else "no NAME.meta.json",
            hint=f"Run `pricesmith eval RUN --catalog CATALOG --to {folder}`.",
        )
    found = verdict(evals, champion=champion, box_price=box_price)
    rows = tuple(league(evals))
    by_name = {one.pricer: one for one in evals.evaluations}
    pricers = {row.name: by_name[row.name] for row in rows if row.group == 0}
    best = pricers[rows[0].name]
    with_category = any(item.category for item in evals.items.values())
    categories = {name: error_by_category(one, evals, 10) for name, one in pricers.items()} if with_category else {}
    charged = columns_of(best)
    return Findings(
        evals=evals,
        verdict=found,
        words=tuple(paragraph(found, evals.meta[found.champion])),
        rows=rows,
        beside=beside_of(found, evals, rival, with_category=with_category),
        pricers=pricers,
        hues=hues_of(rows),
        bands={name: error_by_price(one) for name, one in pricers.items()},
        categories=categories,
        close={name: error_by_training(one, evals) for name, one in pricers.items()},
        coverage={name: bands for name, one in pricers.items() if (bands := coverage_by_quote(one))},
        running={name: running_error(one) for name, one in pricers.items()},
        worst=tuple(worst(best, evals)),
        constant_error=float(abs(charged.truth - best.constant).mean()),
    )


def beside_of(found: Verdict, evals: Evals, name: str | None, *, with_category: bool) -> Beside | None:
    """The champion beside the rival of this name; without one, beside the most accurate hosted model, else pricer, that
    has items in common. None where there is nobody.
    """
    rivals = [one for one in found.versus if one.pair is not None]
    if name is not None and name not in [one.rival for one in rivals]:
        raise UsageError(
            f"{name!r} is no rival of {found.champion} here",
            got=f"--rival {name}",
            allowed=", ".join(one.rival for one in rivals) or "nobody: it is alone on its items",
            hint="Name somebody who was judged on items that the champion was judged on.",
        )
    rivals.sort(key=lambda one: (one.rival != name, one.side != "hosted", one.kind == CONSTANT))
    if not rivals:
        return None
    by_name = {one.pricer: one for one in evals.evaluations}
    both = by_name[found.champion], by_name[rivals[0].rival]
    categories = beside_by_category(*both, evals) if with_category else []
    return Beside(rivals[0].rival, len(common_ids(*both)), beside_by_price(*both), categories)


def hues_of(rows: tuple[LeagueRow, ...]) -> dict[str, str]:
    """A colour for each pricer, the same in every picture: by place in the league, grey for a constant."""
    coloured = [row.name for row in rows if row.kind != "constant"]
    return {row.name: GREY for row in rows} | {name: f"c{place % HUES}" for place, name in enumerate(coloured)}
