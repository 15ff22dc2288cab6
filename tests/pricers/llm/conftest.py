"""Settings and a tiny base model that the tests of this folder share."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from pricesmith.testing import make_model

# A training of seconds: one epoch in small batches, whatever the time it takes.
SMALL: dict[str, Any] = {
    "lora_r": 4,
    "tokens_per_batch": 512,
    "epochs": 1,
    "minutes": 0,
    "learning_rate": 1e-2,
    "patience": 0,
    "n_evals": 3,
}


@pytest.fixture(scope="session")
def tiny_base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a tiny chat model; not to be changed."""
    return make_model(tmp_path_factory.mktemp("base") / "tiny-instruct", chat=True)


@pytest.fixture
def base_copy(tiny_base: Path, tmp_path: Path) -> Path:
    """A copy of it that may be damaged."""
    return Path(shutil.copytree(tiny_base, tmp_path / "copy-instruct"))
