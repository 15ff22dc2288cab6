"""Hyperparameter search from Python."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pricesmith.api.pipeline import CatalogLike, open_or_same
from pricesmith.core.console import Console

if TYPE_CHECKING:
    from pricesmith.sweeping.result import SweepResult
    from pricesmith.sweeping.space import SearchSpace


def sweep(
    catalog: CatalogLike,
    to: Path | str,
    space: Path | str | Mapping[str, Mapping[str, Any]] | None = None,
    *,
    trials: int | None = None,
    minutes: float | None = None,
    method: str = "auto",
    seed: int = 0,
    cluster: str | None = None,
    overwrite: bool = False,
    verbose: bool = False,
) -> SweepResult:
    """Try settings of recipes on a catalog, and fit the best ones into the folder `to`, which `ps.load` takes.

    `space` is a TOML file, or the values by recipe: a list, a range `{"low": 0.1, "high": 10, "log": True}`, or a
    single value (default: four fast recipes). `trials` limits the number of trials (default: 24, or a whole small
    grid), `minutes` the time of all fits. `method` is `grid`, `tpe` (needs Optuna) or `auto`. `cluster` is the address
    of a Ray cluster that does the fits, HOST:PORT or "auto" (docs/scale.md). Trials are compared on validation; the
    test split is not read. The same call again resumes, reads the finished result, or goes on if `trials` or `minutes`
    is larger.

    Raises UsageError for a wrong setting or too few minutes, MissingExtra for `tpe` without Optuna, and PricesmithError
    if no trial could be fitted.

    Examples:
        >>> result = sweep(catalog, folder / "sweep", {"median": {}, "ridge": {"alpha": [0.3, 1.0, 3.0]}})
        >>> result.best.recipe, len(result.trials)
        ('ridge', 4)
        >>> from pricesmith import load
        >>> load(folder / "sweep").recipe.alpha == result.best.settings["alpha"]
        True
    """
    from pricesmith.sweeping.run import run_sweep

    with Console(quiet=not verbose).progress() as progress:
        return run_sweep(
            open_or_same(catalog), Path(to), open_space(space), trials=trials, minutes=minutes, method=method,
            seed=seed, cluster=cluster, overwrite=overwrite, progress=progress,
        )  # fmt: skip


def open_space(space: Path | str | Mapping[str, Mapping[str, Any]] | None) -> SearchSpace:
    """The space of a file, of a dictionary by recipe, or the shipped one."""
    from pricesmith.sweeping.space import parse_space, read_space

    if isinstance(space, Mapping):
        return parse_space({"recipe": [{"name": name, "space": values} for name, values in space.items()]}, "the space")
    return read_space(None if space is None else Path(space))
