"""What a launcher (torchrun, `accelerate launch`) tells each of the processes that it starts, by the environment.

>>> read_launch({}) is None
True
>>> read_launch({"WORLD_SIZE": "2", "RANK": "1", "LOCAL_RANK": "1", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29500"})
Launch(rank=1, size=2, local_rank=1)
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass

from pricesmith.core.errors import UsageError

NEEDED = ("RANK", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")
COMMAND = "torchrun --nproc-per-node 2 -m pricesmith fit ..."


@dataclass(frozen=True, slots=True)
class Launch:
    """The number of this process, of all of them, and of this process on its machine, which is that of its GPU."""

    rank: int
    size: int
    local_rank: int


def count_processes(environment: Mapping[str, str] = os.environ) -> int:
    """WORLD_SIZE; 1 if it is not set or not a number."""
    text = environment.get("WORLD_SIZE", "")
    return max(1, int(text)) if text.isascii() and text.isdecimal() else 1


def is_launched(environment: Mapping[str, str] = os.environ) -> bool:
    """Whether a launcher started this process as one of several; a batch system may set WORLD_SIZE alone."""
    return count_processes(environment) > 1 and "RANK" in environment


def is_follower(environment: Mapping[str, str] = os.environ) -> bool:
    """Whether this is one of several processes, and not rank 0."""
    return is_launched(environment) and environment["RANK"] != "0"


def read_launch(environment: Mapping[str, str] = os.environ) -> Launch | None:
    """The launch that the environment describes; None for one process. Raises UsageError for a launch that cannot
    work."""
    size = count_processes(environment)
    if size == 1:
        return None
    if missing := [name for name in NEEDED if not environment.get(name)]:
        raise UsageError(
            f"A language model is tuned by one process, or by all processes of a launcher: {missing[0]} is not set",
            got=f"{size} processes (WORLD_SIZE={environment['WORLD_SIZE']} in the environment)",
            allowed=f"WORLD_SIZE with {', '.join(NEEDED)}, as torchrun and accelerate launch set them",
            hint=f"Run `{COMMAND}`; if a batch system has set WORLD_SIZE and one process is wanted, "
            "`env -u WORLD_SIZE pricesmith fit ...`.",
        )
    numbers = {name: environment.get(name, "") for name in ("RANK", "LOCAL_RANK", "MASTER_PORT")}
    if wrong := [name for name, text in numbers.items() if not (text.isascii() and text.isdecimal())]:
        raise UsageError(
            f"{wrong[0]} is not a number", got=repr(numbers[wrong[0]])[:60], hint=f"Start with `{COMMAND}`."
        )
    launch = Launch(int(numbers["RANK"]), size, int(numbers["LOCAL_RANK"]))
    local = environment.get("LOCAL_WORLD_SIZE", str(size))
    if local != str(size) or launch.rank >= size:
        raise UsageError(
            "A language model is tuned by processes of one machine",
            got=f"RANK={launch.rank}, WORLD_SIZE={size}, LOCAL_WORLD_SIZE={local}",
            allowed="RANK below WORLD_SIZE, and LOCAL_WORLD_SIZE equal to it",
            hint=f"Start all of them on this machine: `{COMMAND}`.",
        )
    return launch


def refuse_launch(what: str) -> None:
    """Raises UsageError if a launcher started this process as one of several; `what` does not work in several."""
    if is_launched():
        raise UsageError(
            f"{what} runs in one process",
            got=f"{count_processes()} processes, by torchrun or accelerate launch (RANK={os.environ['RANK']})",
            allowed="several processes for `pricesmith fit` with a language model",
            hint="Run the same command without the launcher.",
        )
