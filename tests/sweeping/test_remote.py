"""Sweeps on a cluster: the result of one machine, and what a node has not done is named."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from pricesmith.catalog.catalog import Catalog
from pricesmith.cluster.shards import run_here
from pricesmith.core.errors import PricesmithError
from pricesmith.pricers.model import load_model
from pricesmith.sweeping import remote, run_sweep
from pricesmith.sweeping import run as run_module
from pricesmith.sweeping.space import SearchSpace, parse_space

from .stand_in import StandInRecipe, summary


def test_a_result_that_a_node_has_not_left_in_the_folder_is_named(
    shop: Catalog, space: SearchSpace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is not taken for a lack of time."""

    @contextmanager
    def open_idle(*_: Any) -> Iterator[Any]:
        yield lambda trials, part: {}

    monkeypatch.setattr(run_module, "open_workers", open_idle)
    with pytest.raises(PricesmithError, match="No trial could be fitted, 8 failed") as caught:
        run_sweep(shop, tmp_path / "out", space, cluster="auto")
    assert "not in the shared folder" in caught.value.got


def test_a_cluster_gives_the_result_of_one_machine(
    shop: Catalog, space: SearchSpace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A rung is sent at once, what failed is named, and a sweep that was begun here goes on there."""

    class HereCluster:
        """Runs shards in this process, as a node does."""

        def run(self, function: Any, context: Any, shards: list[Any], *, actors: bool) -> Any:
            sizes.append(len(shards))
            return run_here(function, context, shards)

    @contextmanager
    def open_here(address: str, **options: Any) -> Iterator[HereCluster]:
        assert address == "auto"
        yield HereCluster()

    sizes: list[int] = []
    monkeypatch.setattr(remote, "open_cluster", open_here)
    whole = run_sweep(shop, tmp_path / "whole", space)
    fits = len(StandInRecipe.fits)
    assert summary(run_sweep(shop, tmp_path / "nodes", space, cluster="auto")) == summary(whole)
    assert sizes == [8, 4, 2]
    assert load_model(tmp_path / "nodes").identity == load_model(tmp_path / "whole").identity
    StandInRecipe.breaks_at = 2 * fits + 4
    with pytest.raises(KeyboardInterrupt):
        run_sweep(shop, tmp_path / "both", space)
    assert summary(run_sweep(shop, tmp_path / "both", space, cluster="auto")) == summary(whole)
    assert sizes[3:] == [5, 4, 2]
    rates = {"rate": [1.0, 2.0], "fails": [True, False]}
    failing = parse_space({"recipe": [{"name": str(tmp_path / "stand_in.toml"), "space": rates}]}, "the space")
    result = run_sweep(shop, tmp_path / "failing", failing, cluster="auto")
    failed = [trial for trial in result.trials if trial.status == "failed"]
    assert [trial.note for trial in failed] == ["The training diverged (a loss of nan)"] * 2
