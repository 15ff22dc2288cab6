"""Trees of LightGBM, written as text, are checked before they are read."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from pricesmith.core.errors import InputError
from pricesmith.pricers.features.trees import TreeEnsemble, TreeParams, TreeRows, fit_trees


def missing_values_ensemble() -> tuple[TreeEnsemble, np.ndarray]:
    """An ensemble whose best split separates the missing values of its only column from all others."""
    column = np.where(np.arange(4_000) % 2, np.nan, np.arange(4_000) % 7).astype(np.float32)
    target = np.isnan(column).astype(float)
    params = TreeParams(n_categorical=0, n_estimators=3, learning_rate=0.5, num_leaves=4)
    return fit_trees(TreeRows(column[:, None], target), params, [0], rounds=3), column[:, None]


def test_a_split_on_missing_values_alone_is_saved_and_read(tmp_path: Path) -> None:
    """LightGBM writes the threshold of such a split as inf, which is not damage."""
    ensemble, table = missing_values_ensemble()
    ensemble.save(tmp_path)
    (text,) = (path.read_text() for path in tmp_path.glob("*.txt"))
    assert "inf" in next(line for line in text.splitlines() if line.startswith("threshold="))
    np.testing.assert_array_equal(TreeEnsemble.load(tmp_path, 1).predict(table), ensemble.predict(table))


@pytest.mark.parametrize(("name", "value"), [("threshold", "nan"), ("leaf_value", "inf"), ("leaf_value", "nan")])
def test_numbers_that_no_tree_has_are_refused(tmp_path: Path, name: str, value: str) -> None:
    """A threshold that is no number, and leaves that are not finite, are damage."""
    ensemble, _ = missing_values_ensemble()
    ensemble.save(tmp_path)
    (path,) = tmp_path.glob("*.txt")
    lines = path.read_text().splitlines()
    row = next(index for index, line in enumerate(lines) if line.startswith(f"{name}="))
    first = lines[row].split("=")[1].split()[0]
    padded = value.ljust(len(first))  # the sizes in the header must stay right
    lines[row] = lines[row].replace(first, padded, 1)
    path.write_text("\n".join(lines) + "\n")
    with pytest.raises(InputError, match="damaged"):
        TreeEnsemble.load(tmp_path, 1)
