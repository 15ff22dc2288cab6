"""The leaderboard on a terminal."""

from __future__ import annotations

import io
from typing import Any

from rich.console import Console
from tests.reporting.conftest import evaluated

from pricesmith.evaluation.leaderboard import build_leaderboard
from pricesmith.reporting.terminal import leaderboard_table


def shown(evals: Any) -> str:
    """The leaderboard as plain text, wide enough for a row."""
    out = io.StringIO()
    Console(file=out, width=200).print(leaderboard_table(evals, build_leaderboard(evals)))
    return out.getvalue()


def test_markup_in_a_pricers_name_is_not_interpreted(read_of: Any) -> None:
    """`[red]` in a name stays text, in the table and in the notes under it."""
    evals = read_of({"[red]oak[/red]": evaluated(0.5, 1), "pine[/]": evaluated(0.5, 1)})
    text = shown(evals)
    assert text.count("[red]oak[/red]") + text.count("pine[/]") == 3  # two rows and one note
    assert "no significant difference from the best" in text
