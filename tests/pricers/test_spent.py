"""A fit that was killed and went on has taken the seconds of both processes."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from pricesmith.pricers.spent import FILE, forget, spent_before


def test_a_fit_that_goes_on_counts_the_seconds_up_to_its_last_checkpoint(tmp_path: Path) -> None:
    """Ten seconds in the first process, five in the second, none twice; a whole run keeps nothing of it."""
    assert spent_before(tmp_path) == 0.0
    for seconds in (10, 5):
        checkpoint = tmp_path / "checkpoints" / f"checkpoint-{seconds}"
        checkpoint.parent.mkdir(exist_ok=True)
        checkpoint.write_text("weights")
        later = time.time() + seconds
        os.utime(checkpoint, (later, later))
        known = spent_before(tmp_path)
        os.utime(checkpoint, (0, 0))
    assert known == pytest.approx(15, abs=1)
    forget(tmp_path)
    assert not (tmp_path / FILE).exists()


def test_one_that_was_killed_before_its_first_checkpoint_has_taken_nothing_that_is_known(tmp_path: Path) -> None:
    """A file that lay there before the process began says nothing of its seconds."""
    (tmp_path / "catalog.json").write_text("{}")
    os.utime(tmp_path / "catalog.json", (0, 0))
    spent_before(tmp_path)
    assert spent_before(tmp_path) == 0.0
