"""A fit that was killed and went on has taken the seconds of both processes."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from pricesmith.pricers.fitting import FIT_TIME, delete_records, previous_fit_seconds


def written(path: Path, at: float) -> None:
    """A file as a process wrote it at that time."""
    path.parent.mkdir(exist_ok=True)
    path.write_text("{}")
    os.utime(path, (at, at))


def test_a_fit_that_goes_on_counts_the_seconds_up_to_its_last_checkpoint(tmp_path: Path) -> None:
    """Ten seconds in the first process, five in the second, none twice and none between them, though each writes to the
    folder before it asks; a whole run keeps nothing of it."""
    assert previous_fit_seconds(tmp_path, 1000.0) == 0.0
    written(tmp_path / "checkpoints" / "checkpoint-1", 1010.0)
    for began, last, spent in ((5000.0, 5005.0, 10.0), (90_000.0, 90_001.0, 15.0)):
        written(tmp_path / "catalog.json", began - 0.01)
        assert previous_fit_seconds(tmp_path, began) == pytest.approx(spent)
        written(tmp_path / "checkpoints" / "checkpoint-1", last)
    delete_records(tmp_path)
    assert not (tmp_path / FIT_TIME).exists()


def test_one_that_was_killed_before_its_first_checkpoint_has_taken_nothing_that_is_known(tmp_path: Path) -> None:
    """A file that is older than the process does not change its fit time."""
    written(tmp_path / "catalog.json", 10.0)
    previous_fit_seconds(tmp_path, 1000.0)
    assert previous_fit_seconds(tmp_path, 2000.0) == 0.0
