"""What an audit returns: an assessment of every asked price, for notebooks, DataFrames and JSON."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pricesmith.catalog.comparables import Comparable
from pricesmith.core.frames import choose_library
from pricesmith.core.tables import html_table
from pricesmith.pricers.asked_price import OVER, PLAUSIBLE, UNDER
from pricesmith.text.formatting import format_count, format_money, to_single_line

N_COMPARABLES = 3
SHOWN = 20
COMPARABLE_FIELDS = ("id", "title", "price", "similarity")
COLUMNS = (
    "id", "title", "category", "asked_price", "assessment", "expected_price", "low", "high", "currency",
    "money_at_stake", "p_value", "adjusted_p_value", "possible_error", "note",
    *(f"comparable_{number}_{name}" for number in range(1, N_COMPARABLES + 1) for name in COMPARABLE_FIELDS),
)  # fmt: skip
TEXTS = ("id", "title", "category", "assessment", "currency", "possible_error", "note")
NUMBERS = frozenset(name for name in COLUMNS if name not in TEXTS and not name.endswith(("_id", "_title")))


@dataclass(frozen=True)
class AuditedPrice:
    """One listing with its asked price, what is expected, and the assessment: over, under, plausible, or empty for one
    that could not be assessed (`note` says why). `comparables` are given for those over and under."""

    id: str
    title: str
    category: str
    asked: float | None
    expected: float | None
    low: float | None
    high: float | None
    p_value: float | None
    adjusted: float | None
    assessment: str
    possible_error: str = ""
    note: str = ""
    comparables: tuple[Comparable, ...] = ()

    @property
    def money(self) -> float | None:
        """|asked - expected|, in the catalog's currency."""
        return None if self.asked is None or self.expected is None else abs(self.asked - self.expected)

    @property
    def flagged(self) -> bool:
        """Whether the price is assessed as over or under."""
        return self.assessment in (OVER, UNDER)

    def to_dict(self, currency: str) -> dict[str, Any]:
        """The listing as a row of the CSV file."""
        values: list[Any] = [
            self.id, self.title, self.category, self.asked, self.assessment, self.expected, self.low, self.high,
            currency, self.money, self.p_value, self.adjusted, self.possible_error, self.note,
        ]  # fmt: skip
        for near in self.comparables[:N_COMPARABLES]:
            values += [near.id, near.title, near.price, near.similarity]
        return dict(zip(COLUMNS, [*values, *[None] * (len(COLUMNS) - len(values))], strict=True))


@dataclass(frozen=True, repr=False)
class AuditResult:
    """The assessments of an audit: those over and under first, then the others, each sorted by money at stake.

    `name` is the catalog or file, `judge` what the prices were compared with, `fdr` the false discovery rate held,
    `n_held_out` the number of near-duplicate groups whose errors give the p-values, `notes` what a reader must know.
    """

    rows: tuple[AuditedPrice, ...]
    name: str
    judge: str
    currency: str
    fdr: float
    p_values: str
    n_held_out: int
    notes: tuple[str, ...] = ()
    unread: Mapping[str, int] = field(default_factory=dict)

    @property
    def flagged(self) -> list[AuditedPrice]:
        """The listings over and under, most money at stake first."""
        return [row for row in self.rows if row.flagged]

    def counts(self) -> dict[str, int]:
        """How many listings have each assessment."""
        names = {OVER: OVER, UNDER: UNDER, PLAUSIBLE: PLAUSIBLE, "": "not_assessed"}
        return {name: sum(row.assessment == key for row in self.rows) for key, name in names.items()}

    def headline(self) -> str:
        """The result in one sentence."""
        counts, flagged = self.counts(), self.flagged
        assessed = len(self.rows) - counts["not_assessed"]
        if not flagged:
            return f"No price of {assessed:,} stands out at a false discovery rate of {self.fdr * 100:g} %."
        money = sum(row.money or 0.0 for row in flagged)
        verb = "stands out" if len(flagged) == 1 else "stand out"
        return (
            f"{format_count(len(flagged), 'price')} of {assessed:,} {verb}: {counts[OVER]:,} over, "
            f"{counts[UNDER]:,} under, {format_money(money, self.currency)} at stake."
        )

    def to_frame(self, library: str | None = None) -> Any:
        """The rows as a DataFrame of pandas, polars or pyarrow, with the columns of the CSV file.

        Without a name, of the first library installed.
        """
        import narwhals as nw
        import pyarrow as pa

        library = choose_library(library)
        schema = pa.schema([(name, pa.float64() if name in NUMBERS else pa.string()) for name in COLUMNS])
        table = pa.Table.from_pylist([row.to_dict(self.currency) for row in self.rows], schema=schema)
        backend: Any = library
        return table if library == "pyarrow" else nw.from_arrow(table, backend=backend).to_native()

    def summary(self) -> dict[str, Any]:
        """The counts and settings, ready for JSON."""
        return {
            "name": self.name,
            "judge": self.judge,
            "currency": self.currency,
            "fdr": self.fdr,
            "p_values": self.p_values,
            "held_out_groups": self.n_held_out,
            "rows": len(self.rows),
            **self.counts(),
            "money_at_stake": round(sum(row.money or 0.0 for row in self.flagged), 2),
            "unread": dict(self.unread),
            "notes": list(self.notes),
        }

    def to_dict(self) -> dict[str, Any]:
        """The summary and every flagged listing, ready for JSON."""
        return {**self.summary(), "flagged": [row.to_dict(self.currency) for row in self.flagged]}

    def table_rows(self, limit: int = SHOWN) -> list[list[str]]:
        """The flagged listings with the most money at stake as texts: title, asked, expected, interval, error, p."""
        return [
            [
                to_single_line(row.title or row.id, 60),
                row.assessment,
                format_money(row.asked or 0.0, self.currency),
                format_money(row.expected or 0.0, self.currency),
                f"{format_money(row.low or 0.0, self.currency)} to {format_money(row.high or 0.0, self.currency)}",
                row.possible_error,
                format_p_value(row.p_value),
            ]
            for row in self.flagged[:limit]
        ]

    def __repr__(self) -> str:
        return f"AuditResult({self.name!r}: {self.headline()})"

    def _repr_html_(self) -> str:
        """The flagged listings as a table, for notebooks."""
        return html_table(f"{self.name}: {self.headline()}", HEADER, self.table_rows(), self.notes)


HEADER: Sequence[str] = ("listing", "assessment", "asked", "expected", "90 % interval", "possible error", "p-value")


def format_p_value(value: float | None) -> str:
    """A p-value with two significant digits."""
    if value is None:
        return ""
    return "under 1e-9" if value < 1e-9 else f"{value:.2g}"
