"""The result of a sweep: every trial with its errors, how much worse than the best one it is, in words and tables.

The best trial is the one with the lowest MAE on validation. The differences to it are paired, with simultaneous
intervals; they are as optimistic for the best trial as its MAE, because the same rows chose it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from pydantic import ConfigDict, Field, model_validator

from pricesmith.core.frames import to_native_frame
from pricesmith.core.progress import format_duration
from pricesmith.core.settings import Settings
from pricesmith.core.tables import Column, FittedTable, html_table
from pricesmith.learning_curve.curve import ErrorRange
from pricesmith.sweeping.search import Method, Status, format_value
from pricesmith.sweeping.trials import describe_part
from pricesmith.text.formatting import format_amount_interval, format_bounds, format_money, format_signed

CHEAPER = 0.8  # a fit that takes at most this share of the best one's seconds is called faster
WIDTH = 120  # characters of a result's repr
MAX_FASTER = 3  # trials that are named as faster and not significantly worse
NO_TIME = "the minutes were over"
NO_MORE = "the search found no new combination"


class TrialRecord(Settings):
    """One trial: the recipe, the searched settings, and what came of it.

    `errors` has the MAE by part of the training rows (8: an eighth, 1: all), `mae` the one on all rows with its 95 %
    confidence interval, `difference` the paired difference to the best trial. `seconds` is the time of all its fits and
    evaluations, `fit_seconds` of the fit on all rows. Only finished trials have `mae`, `difference` and `fit_seconds`.
    """

    number: int
    recipe: str
    kind: str
    settings: dict[str, Any]
    status: Status
    errors: dict[int, float] = Field(default_factory=dict)
    mae: ErrorRange | None = None
    difference: ErrorRange | None = None
    is_worse: bool = False
    fit_seconds: float | None = None
    seconds: float = 0.0
    note: str = ""

    @property
    def label(self) -> str:
        """The recipe and the searched settings."""
        return ", ".join([self.recipe, *(f"{name} {format_value(value)}" for name, value in self.settings.items())])

    @property
    def last_part(self) -> int | None:
        """The largest part of the rows that it was fitted on, as a divisor; None if it was not fitted."""
        return min(self.errors, default=None)


class SweepResult(Settings):
    """The trials of a sweep, those that are finished first, the lowest MAE first.

    `n` validation rows of `n_groups` near-duplicate groups evaluated all trials. `stopped` says why fewer trials were
    finished than asked for; empty if nothing stopped the sweep. `settings` are all settings of the best trial.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)
    catalog: str
    fingerprint: str
    currency: str
    method: Method
    seed: int
    max_trials: int
    minutes: float | None
    parts: tuple[int, ...]
    rows: int
    n: int
    n_groups: int
    evaluated_on: str
    settings: dict[str, Any]
    trials: tuple[TrialRecord, ...] = Field(min_length=1)
    stopped: str = ""
    seconds: float = 0.0

    @model_validator(mode="after")
    def check_best(self) -> SweepResult:
        """Raise ValueError unless the first trial is finished, and a sweep that time has ended has a limit."""
        if self.trials[0].status != "finished" or self.trials[0].mae is None:
            raise ValueError("the first trial is not finished")
        if self.stopped == NO_TIME and self.minutes is None:
            raise ValueError("minutes are missing")
        return self

    @property
    def best(self) -> TrialRecord:
        """The trial with the lowest MAE on validation; its model is in the folder of the sweep."""
        return self.trials[0]

    @property
    def finished(self) -> list[TrialRecord]:
        """The trials that were fitted on all rows, the lowest MAE first."""
        return [trial for trial in self.trials if trial.status == "finished"]

    @property
    def faster(self) -> list[TrialRecord]:
        """Finished trials that are not significantly worse than the best one and fitted in at most 80 % of its time."""
        limit = CHEAPER * (self.best.fit_seconds or 0.0)
        return [trial for trial in self.finished[1:] if not trial.is_worse and (trial.fit_seconds or 0.0) <= limit]

    def to_frame(self, library: str | None = None) -> Any:
        """The trials as a DataFrame of pandas, polars or pyarrow; without a name, of the first one installed.

        Each searched setting has a column of its own, an interval has three: `NAME`, `NAME_low`, `NAME_high`.
        """
        rows = [flatten_trial(trial) for trial in self.trials]
        names = list(dict.fromkeys(name for row in rows for name in row))
        return to_native_frame({name: unify([row.get(name) for row in rows]) for name in names}, library)

    def __repr__(self) -> str:
        return format_plain(self)

    def _repr_html_(self) -> str:
        """The leaderboard as an HTML table, for notebooks."""
        table = leaderboard_table(self)
        header = [column.header for column in table.columns]
        return html_table(table.title, header, table.rows, format_notes(self))


def flatten_trial(trial: TrialRecord) -> dict[str, Any]:
    """A trial as plain values, a column for each setting."""
    flat: dict[str, Any] = {"trial": trial.number, "recipe": trial.recipe, "status": trial.status}
    flat["part"] = trial.last_part
    for name, interval in (("mae", trial.mae), ("difference", trial.difference)):
        values = (interval.point, interval.low, interval.high) if interval is not None else (None, None, None)
        flat |= dict(zip((name, f"{name}_low", f"{name}_high"), values, strict=True))
    flat |= {"is_worse": trial.is_worse, "fit_seconds": trial.fit_seconds, "seconds": trial.seconds}
    return flat | {f"settings.{name}": value for name, value in trial.settings.items()}


def unify(values: Sequence[Any]) -> list[Any]:
    """The values of a column; as texts if they are of several types, or lists."""
    types = {type(value) for value in values if value is not None}
    if types <= {int, float} and len(types) == 2:
        return [None if value is None else float(value) for value in values]
    if len(types) <= 1 and not types & {list, dict}:
        return list(values)
    return [None if value is None else str(value) for value in values]


def format_sweep(result: SweepResult) -> list[Any]:
    """The parts that a terminal shows: the leaderboard, the trials that were not finished, and notes."""
    others = others_table(result)
    return [leaderboard_table(result), *([others] if others.rows else []), *format_notes(result)]


def leaderboard_table(result: SweepResult) -> FittedTable:
    """The finished trials, the lowest MAE first."""
    currency = result.currency
    rows = []
    for trial in result.finished:
        rows.append(
            [
                str(trial.number),
                trial.recipe,
                format_settings(trial),
                format_amount_interval(trial.mae, currency) if trial.mae is not None else "",
                format_difference(trial, currency),
                "best" if trial is result.best else "worse" if trial.is_worse else "no significant difference",
                f"{trial.fit_seconds or 0.0:,.1f}",
            ]
        )
    columns = [
        Column("trial", right=True, drop=2),
        Column("recipe"),
        Column("settings", wraps=True),
        Column("MAE [95 % CI]", right=True),
        Column("difference to the best", right=True, drop=1),
        Column("", drop=4),
        Column("fit seconds", right=True, drop=3),
    ]
    return FittedTable(f"Finished trials, on {result.n:,} {result.evaluated_on}", columns, rows)


def format_difference(trial: TrialRecord, currency: str) -> str:
    """The difference to the best trial with its interval; empty for the best one."""
    gap = trial.difference
    return "" if gap is None else f"{format_signed(gap.point, currency)}{format_bounds(gap.low, gap.high, currency)}"


def others_table(result: SweepResult) -> FittedTable:
    """The trials that were pruned, failed or left unfinished, each with its last error."""
    rows = []
    for trial in result.trials:
        if trial.status == "finished":
            continue
        part = trial.last_part
        mae = "" if part is None else format_money(trial.errors[part], result.currency)
        on = "" if part is None else describe_part(part)
        rows.append([str(trial.number), trial.recipe, format_settings(trial), mae, on, trial.note or trial.status])
    columns = [
        Column("trial", right=True, drop=2),
        Column("recipe"),
        Column("settings", wraps=True),
        Column("MAE", right=True),
        Column("on", drop=1),
        Column("why", wraps=True),
    ]
    return FittedTable("Trials that were not finished", columns, rows)


def format_settings(trial: TrialRecord) -> str:
    """The searched settings of a trial."""
    return trial.label.removeprefix(trial.recipe).removeprefix(", ") or "(as in the recipe)"


def format_notes(result: SweepResult) -> list[str]:
    """The best trial, what its MAE is worth, which trials are as good and faster, and why the sweep ended early."""
    best, currency = result.best, result.currency
    assert best.mae is not None
    counts = Counter(trial.status for trial in result.trials)
    notes = [
        f"Best: trial {best.number} ({best.label}), MAE on validation {format_amount_interval(best.mae, currency)}. "
        f"{len(result.trials)} trials: {', '.join(f'{count} {status}' for status, count in counts.items())}; "
        f"{format_duration(result.seconds)} of fitting."
    ]
    if len(result.finished) > 1:
        notes.append(
            "The rows that chose the best trial also measured it, so its MAE is optimistic, and more so with more "
            "trials. Differences are paired, with simultaneous 95 % confidence intervals. The test split was not read."
        )
    for trial in result.faster[:MAX_FASTER]:
        notes.append(
            f"Not significantly worse and faster to fit: trial {trial.number} ({trial.label}), "
            f"{trial.fit_seconds:,.1f} s instead of {best.fit_seconds:,.1f} s."
        )
    if result.stopped == NO_TIME:
        begun = sum(bool(trial.errors) or trial.status == "failed" for trial in result.trials)
        notes.append(
            f"The sweep ended because {result.stopped} (--minutes {result.minutes:g}): {begun} of "
            f"{result.max_trials} trials were begun. The same command with more --minutes goes on."
        )
    elif result.stopped:
        notes.append(f"The sweep ended after {len(result.trials)} trials because {result.stopped}.")
    return notes


def format_plain(result: SweepResult) -> str:
    """The leaderboard and the notes as plain text."""
    table = leaderboard_table(result)
    places, widths = table.shown(WIDTH), table.widths()
    lines = [table.title]
    for row in ([column.header for column in table.columns], *table.rows):
        cells = [
            row[place].rjust(widths[place]) if table.columns[place].right else row[place].ljust(widths[place])
            for place in places
        ]
        lines.append("  ".join(cells).rstrip())
    return "\n".join([*lines, *format_notes(result)])
