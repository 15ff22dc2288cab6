"""What the terminal shows of a leaderboard."""

from __future__ import annotations

import io
from typing import Any

from rich.console import Console
from tests.reporting.conftest import judged

from pricesmith.evaluation.leaderboard import build_leaderboard
from pricesmith.reporting.terminal import leaderboard_table


def shown(evals: Any) -> str:
    """The leaderboard as plain text, wide enough for a row."""
    out = io.StringIO()
    Console(file=out, width=200).print(leaderboard_table(evals, build_leaderboard(evals)))
    return out.getvalue()


def test_a_pricers_name_is_data_and_no_markup(read_of: Any) -> None:
    """`[red]` in a name stays what it is, in the table and in the notes under it."""
    evals = read_of({"[red]oak[/red]": judged(0.5, 1), "pine[/]": judged(0.5, 1)})
    said = shown(evals)
    assert said.count("[red]oak[/red]") + said.count("pine[/]") == 3  # two rows and one note
    assert "is not told apart from the best" in said
