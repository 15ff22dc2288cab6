"""Settings that the tests of this folder share."""

from __future__ import annotations

from typing import Any

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
