"""Hyperparameter search over recipes, by successive halving on nested parts of the training rows.

    run_sweep(catalog, Path("out/sweep"), read_space(Path("space.toml")), minutes=30).best.settings

`pricesmith sweep CATALOG --to OUT` calls this. Nothing here reads the test split.
"""

from pricesmith.sweeping.run import run_sweep
from pricesmith.sweeping.space import read_space

__all__ = ["read_space", "run_sweep"]
