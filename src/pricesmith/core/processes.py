"""Several processes that torchrun or `accelerate launch` started for one command: how they meet, what they share, how
they end.

Rank 0 runs the whole command: it holds the folder's lock, writes every file, prints, and decides. The others only
compute. They wait for what rank 0 shares, print nothing, and end with its exit code.

    with join_processes(read_launch()) as processes:
        steps = processes.share(plan_steps() if processes.leads else None)

Values go through the key-value store of the launcher, as JSON: rank 0 never waits for the others, and what it shared is
there even if it has ended since. Gradients are averaged by torch's DistributedDataParallel, over NCCL or gloo.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
import time
from collections.abc import Iterator
from datetime import timedelta
from typing import Any, NoReturn

from pricesmith.core.console import describe_error
from pricesmith.core.errors import PricesmithError, UsageError
from pricesmith.core.launch import Launch

LONG = timedelta(days=30)  # rank 0 may evaluate for hours; when it ends, the launcher ends the others
SHORT = timedelta(seconds=10)  # for the exit code of rank 0, after an error of this process
EXIT, PID = "exit", "pid"


class Processes:
    """The processes of a command; here a single one, which leads."""

    rank, size = 0, 1

    @property
    def leads(self) -> bool:
        """Whether this is rank 0."""
        return self.rank == 0

    def share(self, value: Any = None) -> Any:
        """The value that rank 0 shares; of JSON's types. Every process calls this at the same places, in the same
        order. Raises SystemExit with rank 0's exit code if rank 0 has ended instead."""
        return value


class LaunchedProcesses(Processes):
    """The processes of a launcher, connected by its store."""

    def __init__(self, launch: Launch, store: Any) -> None:
        self.rank, self.size, self.store = launch.rank, launch.size, store
        self.shared = 0  # number of values so far

    def share(self, value: Any = None) -> Any:
        self.shared += 1
        key = f"value-{self.shared}"
        if self.leads:
            self.store.set(key, json.dumps({"value": value}))
            return value
        try:
            message = json.loads(self.store.get(key))
        except RuntimeError as error:
            if not is_lost_connection(error):
                raise
            self.leave(self.read_exit() or 1)
        if EXIT in message:
            self.leave(message[EXIT])
        return message["value"]

    def leave(self, code: int) -> NoReturn:
        """End this process with rank 0's exit code. After a failure rank 0 ends first, and the launcher then ends this
        process: one that fails earlier would be the one that the launcher names as the cause."""
        with contextlib.suppress(RuntimeError):
            self.store.set(f"left-{self.rank}", "")
            if code:
                wait_for_end(int(self.store.get(PID)))
        raise SystemExit(code)

    def end(self, code: int) -> None:
        """Tell the others that rank 0 ends with this exit code. If rank 0 has the store, and not a launcher, it waits
        until they have read it."""
        with contextlib.suppress(RuntimeError):  # the store has ended already, or a process was killed
            self.store.set(EXIT, json.dumps({EXIT: code}))
            self.store.set(f"value-{self.shared + 1}", json.dumps({EXIT: code}))
            if os.environ.get("TORCHELASTIC_USE_AGENT_STORE") != "True":
                self.store.wait([f"left-{rank}" for rank in range(1, self.size)], SHORT)

    def read_exit(self) -> int | None:
        """The exit code of rank 0, which ends now if it has the same error; None if it does not end or was killed."""
        try:
            self.store.wait([EXIT], SHORT)
            return int(json.loads(self.store.get(EXIT))[EXIT])
        except RuntimeError:
            return None


ALONE = Processes()
_current: Processes = ALONE
_led: LaunchedProcesses | None = None  # whose rank 0 this process is, until it ends


def current_processes() -> Processes:
    """The processes that this one has joined."""
    return _current


@contextlib.contextmanager
def join_processes(launch: Launch | None) -> Iterator[Processes]:
    """Connect with the other processes of the launch for the block, on the GPU of this one if there are GPUs.

    The block of another process than rank 0 ends with SystemExit. Rank 0 calls `end_command` when it has cleaned up and
    printed its result or its error.
    """
    global _current, _led
    if launch is None:
        yield ALONE
        return
    _current = processes = connect(launch)
    _led = processes if processes.leads else None
    try:
        with leading() if processes.leads else following(processes):
            yield processes
    finally:
        _current = ALONE


def wait_for_end(pid: int) -> None:
    """Wait until a process of this machine has ended, for SHORT at most."""
    until = time.monotonic() + SHORT.total_seconds()
    with contextlib.suppress(OSError):
        while time.monotonic() < until:
            os.kill(pid, 0)
            time.sleep(0.05)


def end_command(code: int) -> None:
    """Tell the others the exit code with which rank 0 ends now."""
    global _led
    if _led is not None:
        _led.end(code)
        _led = None


def connect(launch: Launch) -> LaunchedProcesses:
    """Meet the other processes and set up the averaging of gradients. Raises UsageError if there are too few GPUs,
    PricesmithError if they do not meet."""
    import torch
    from torch import distributed

    gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if gpus and launch.local_rank >= gpus:
        raise UsageError(
            "There are fewer GPUs than processes",
            got=f"{launch.size} processes, {gpus} GPU{'s' if gpus > 1 else ''}",
            allowed="one GPU for each process",
            hint=f"torchrun --nproc-per-node {gpus}" if gpus > 1 else "Run the same command without the launcher.",
        )
    if gpus:
        torch.cuda.set_device(launch.local_rank)
    try:
        store, rank, size = next(iter(distributed.rendezvous("env://")))
        # After a restart torchrun has the same store, with the addresses of the processes that have ended.
        store = distributed.PrefixStore(f"pricesmith-{os.environ.get('TORCHELASTIC_RESTART_COUNT', '0')}", store)
        group = distributed.PrefixStore("group", store)
        distributed.init_process_group("nccl" if gpus else "gloo", store=group, rank=rank, world_size=size)
    except (RuntimeError, ValueError, OSError) as error:
        raise PricesmithError(
            "The processes could not connect with each other",
            got=str(error).splitlines()[0][:200] if str(error) else type(error).__name__,
            hint="If the address or port is taken, choose another: torchrun --standalone finds a free one.",
        ) from None
    values = distributed.PrefixStore("values", store)
    values.set_timeout(LONG)
    processes = LaunchedProcesses(launch, values)
    if processes.leads:
        values.set(PID, str(os.getpid()))
    return processes


@contextlib.contextmanager
def leading() -> Iterator[None]:
    """Turn the loss of another process in the block into an error with advice."""
    try:
        yield
    except RuntimeError as error:
        if not is_lost_connection(error):
            raise
        raise PricesmithError(
            "Another process of this command has ended",
            hint="Its own error is above, if it had one (a kill has none). Run the same command again: it resumes from "
            "the last complete checkpoint.",
        ) from None


@contextlib.contextmanager
def following(processes: LaunchedProcesses) -> Iterator[None]:
    """End with rank 0's exit code. An error of this process alone is printed with its number."""
    try:
        yield
    except SystemExit:
        raise
    except BaseException as error:
        lost = is_lost_connection(error)
        code = processes.read_exit()  # an error that rank 0 has too is printed by rank 0
        if code is not None or lost:
            processes.leave(1 if code is None else code)
        described = describe_error(error)
        if described is None:
            raise
        if not isinstance(error, KeyboardInterrupt):
            print(f"Process {processes.rank}: {described[0]}", file=sys.__stderr__)
        raise SystemExit(described[1]) from None


def is_lost_connection(error: BaseException) -> bool:
    """Whether an error says that another process or the store has ended."""
    if not isinstance(error, RuntimeError):
        return False
    from torch import distributed

    text = str(error)
    return isinstance(error, distributed.DistError) or "gloo" in text or "Connection" in text
