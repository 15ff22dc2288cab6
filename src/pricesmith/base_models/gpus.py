"""Kinds of GPUs, for plans of machines that one does not have: memory and published peak speed.

>>> find_gpu("H200").memory
141000000000
"""

from __future__ import annotations

import datetime
import functools
from pathlib import Path
from typing import Any

from pydantic import Field

from pricesmith.core.errors import UsageError
from pricesmith.core.settings import Settings, parse_settings, read_toml

GPUS = Path(__file__).with_name("gpus.toml")


class GpuKind(Settings):
    """A kind of GPU: bytes of memory, and operations a second of dense bf16 matrix products at the published peak."""

    name: str
    memory: int = Field(gt=0)
    flops: float = Field(gt=0)
    source: str = Field(pattern="^https?://")
    opened: datetime.date


@functools.cache
def read_gpus() -> dict[str, GpuKind]:
    """The kinds of the shipped file by name."""
    return {name: parse_gpu(name, values) for name, values in read_toml(GPUS).items()}


def parse_gpu(name: str, values: dict[str, Any]) -> GpuKind:
    """One entry of the file, whose memory is in GB and whose speed is in TFLOP/s."""
    facts = {key: values[key] for key in ("source", "opened")}
    facts |= {"name": name, "memory": int(values["memory"]) * 10**9, "flops": float(values["tflops"]) * 1e12}
    return parse_settings(GpuKind, facts, where=f"{GPUS.name}, {name}")


def find_gpu(name: str) -> GpuKind:
    """The kind of this name, in any case. Raises UsageError if it is not in the file."""
    kind = read_gpus().get(name.strip().lower().replace(" ", "-"))
    if kind is None:
        raise UsageError(
            "There is no such kind of GPU in the list",
            got=repr(name)[:80],
            allowed=", ".join(read_gpus()),
            hint="Use --memory with its memory, such as --memory 24GB; times are then not estimated.",
        )
    return kind
