"""What the report shows of an evals folder, worked out once: the league, bands, coverage, running error, worst items.

Only pricers judged on the same items are drawn together; the largest such group is the report's own.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pricesmith.errors import InputError
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
from pricesmith.measures.bands import CoverageBand, ErrorBand
from pricesmith.report.words import listed, plain
from pricesmith.types import Evaluation

HUES = 7  # the palette of style.css, without the grey that a constant is drawn in
GREY = "c7"
DRAWN = 4  # bars of more pricers than this cannot be told apart on a phone; the tables have them all
NOMINAL = 0.90


@dataclass(frozen=True)
class Findings:
    """Everything a page needs. `rows` is the whole league; what follows is by name, for the first group's pricers."""

    evals: Evals
    rows: tuple[LeagueRow, ...]
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


def find(folder: Path) -> Findings:
    """The findings of an evals folder. Raises InputError where there is nothing to report."""
    evals = read_evals(folder)
    if not any(one.rows for one in evals.evaluations):
        raise InputError(
            f"There is no finished evaluation in {folder}",
            got=f"unfinished: {', '.join(evals.unfinished)}" if evals.unfinished else "no NAME.meta.json",
            hint=f"Run `pricesmith eval RUN --catalog CATALOG --to {folder}`.",
        )
    rows = tuple(league(evals))
    by_name = {one.pricer: one for one in evals.evaluations}
    pricers = {row.name: by_name[row.name] for row in rows if row.group == 0}
    best = pricers[rows[0].name]
    with_category = any(item.category for item in evals.items.values())
    categories = {name: error_by_category(one, evals, 10) for name, one in pricers.items()} if with_category else {}
    charged = columns_of(best)
    return Findings(
        evals=evals,
        rows=rows,
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


def hues_of(rows: tuple[LeagueRow, ...]) -> dict[str, str]:
    """A colour for each pricer, the same in every picture: by place in the league, grey for a constant."""
    coloured = [row.name for row in rows if row.kind != "constant"]
    return {row.name: GREY for row in rows} | {name: f"c{place % HUES}" for place, name in enumerate(coloured)}
