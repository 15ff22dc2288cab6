"""The sandbox for untrusted files: a child process parses them and answers in JSON lines.

The child (`python -m pricesmith.catalog.readers.worker`) gets the opened file as its standard input, no environment of
ours, little memory, no right to write files, and where the kernel allows it no network. One message of its
answer:

    {"rows": [["Garden hose", "$24.50"], "wrong number of fields"]}

A child that dies, hangs, or says that a file cannot be used becomes an InputError with the file's name.
"""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
from collections.abc import Generator, Iterator, Mapping
from pathlib import Path
from typing import IO, Any

from pricesmith.core.errors import InputError

KEPT = ("PATH", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "LANG", "TZ", "SYSTEMROOT")
GRACE = 5.0  # seconds that the child's own alarm goes before ours
PIECE = 1 << 18


def run_worker(path: Path, task: Mapping[str, Any]) -> Generator[dict[str, Any], None, None]:
    """The messages of a child that parses `path`. Raises InputError where it refuses it, dies or hangs."""
    name, seconds = task["name"], task["limits"]["seconds"]
    try:
        file = path.open("rb")
    except OSError as error:
        raise InputError(f"{name} cannot be opened", got=error.strerror or str(error), hint="Check the path.") from None
    command = [sys.executable, "-m", "pricesmith.catalog.readers.worker", json.dumps(task)]
    with (
        file,
        subprocess.Popen(
            command, stdin=file, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=worker_environment()
        ) as child,
    ):
        assert child.stdout is not None
        try:
            done = False
            for line in read_lines(child.stdout, name, seconds):
                message = json.loads(line)
                if refusal := message.get("refused"):
                    raise InputError(f"{name}: {refusal['what']}", **{k: v for k, v in refusal.items() if k != "what"})
                done = done or "done" in message
                yield message
            if not done:
                raise crash_error(name, child.wait(GRACE), task)
        finally:
            child.kill()


def read_lines(pipe: IO[bytes], name: str, seconds: float) -> Iterator[bytes]:
    """Whole lines from a pipe. Raises InputError if nothing comes for `seconds` and some grace."""
    handle, rest = pipe.fileno(), bytearray()
    poll = select.poll()
    poll.register(handle, select.POLLIN | select.POLLHUP)
    while True:
        if not poll.poll(int((seconds + GRACE) * 1000)):
            raise timeout_error(name, seconds)
        piece = os.read(handle, PIECE)
        if not piece:
            return
        rest += piece
        if (end := rest.rfind(b"\n")) >= 0:
            yield from bytes(rest[:end]).split(b"\n")
            del rest[: end + 1]


def worker_environment() -> dict[str, str]:
    """What the child knows of ours: where the package lies, and nothing else."""
    ours = {name: os.environ[name] for name in KEPT if name in os.environ}
    places = [str(Path(__file__).parents[2]), os.environ.get("PYTHONPATH", "")]
    return ours | {
        "PYTHONPATH": os.pathsep.join(place for place in places if place),
        "PYTHONSAFEPATH": "1",
        "PYTHONDONTWRITEBYTECODE": "1",
        "ARROW_DEFAULT_MEMORY_POOL": "system",
        "OMP_NUM_THREADS": "1",
        "OPENBLAS_NUM_THREADS": "1",
        "MALLOC_ARENA_MAX": "1",
    }


def timeout_error(name: str, seconds: float) -> InputError:
    return InputError(
        f"{name} cannot be read: no answer for {seconds:g} s",
        hint="Write the file again, or split it.",
    )


def crash_error(name: str, code: int, task: Mapping[str, Any]) -> InputError:
    """The error for a child that ended without saying that it was done."""
    if code == -signal.SIGALRM:
        return timeout_error(name, task["limits"]["seconds"])
    got = f"the parser was ended by {signal.Signals(-code).name}" if code < 0 else f"the parser ended with code {code}"
    return InputError(
        f"{name} cannot be read as {task['format']}",
        got=got,
        hint="The file is damaged or was made to break its reader: write it again.",
    )
