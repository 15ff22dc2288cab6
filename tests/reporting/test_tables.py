"""The leaderboard as a table on a terminal."""

from __future__ import annotations

import io
from dataclasses import replace
from typing import Any

import pytest
from rich.console import Console
from tests.reporting.conftest import evaluated

from pricesmith.evaluation.leaderboard import build_leaderboard
from pricesmith.reporting.tables import leaderboard_notes, leaderboard_table


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


def test_the_note_on_ranks_names_a_rank_of_the_table(read_of: Any) -> None:
    """Two equal pricers share ranks 1 and 2; where all ranks are clear there is no note."""
    equal = build_leaderboard(read_of({"oak": evaluated(0.5, 1), "pine": evaluated(0.5, 1)}))
    assert [row.rank_range for row in equal] == ["1–2", "1–2"]
    assert any(note.startswith("Rank 1–2: ") for note in leaderboard_notes(equal, "USD"))
    clear = [replace(row, rank=number, rank_to=number) for number, row in enumerate(equal, 1)]
    assert not any(note.startswith("Rank ") for note in leaderboard_notes(clear, "USD"))


def test_the_sample_size_under_the_table_is_for_the_pairs_own_test(read_of: Any) -> None:
    """The conclusion's is for all of its comparisons together, and says so."""
    equal = build_leaderboard(read_of({"oak": evaluated(0.5, 1), "pine": evaluated(0.5, 1)}))
    rows = [replace(row, n_needed=4_200) for row in equal]
    (note,) = [note for note in leaderboard_notes(rows, "USD") if note.startswith("= ")]
    assert "items would be needed for 80 % power of the pair's own test)" in note


@pytest.mark.parametrize("width", [50, 60, 70, 80, 100, 120, 160])
def test_names_and_figures_are_whole_at_every_width(width: int, read_of: Any) -> None:
    """A narrow terminal drops columns; it never cuts or wraps a short name or a figure."""
    evals = read_of({"ridge": evaluated(0.3, 1), "mlp": evaluated(0.9, 2)})
    rows = build_leaderboard(evals)
    out = io.StringIO()
    Console(file=out, width=width).print(leaderboard_table(evals, rows))
    for row in rows:
        line = next(line for line in out.getvalue().splitlines() if f" {row.name} " in line)
        assert f"{row.mae.point:,.2f}" in line
        assert "…" not in line
