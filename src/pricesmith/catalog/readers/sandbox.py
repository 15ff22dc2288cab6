"""The sandbox for untrusted files: a child process parses them and answers in JSON lines. Both ends of that pipe.

The child (`python -m pricesmith.catalog.readers.worker`) gets the opened file as its standard input, no environment of
ours, little memory, no right to write files, and where the kernel allows it no network (except to read a table of a
server). It writes messages with a
`MessageWriter` or a `Scan`: rows, notes, signs of life, and why a file cannot be used. One message:

    {"rows": [["Garden hose", "$24.50"], "wrong number of fields"]}

`run_worker` reads them. A child that dies, hangs, or says that a file cannot be used becomes an InputError with the
file's name.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import subprocess
import sys
import threading
from collections.abc import Generator, Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

from pricesmith.core.errors import InputError

KEPT = ("PATH", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "LANG", "TZ", "SYSTEMROOT")
GRACE = 5.0  # seconds that the child's own alarm goes before ours
PIECE = 1 << 18


def run_worker(
    path: Path | None,
    task: Mapping[str, Any],
    pages: Sequence[Path] = (),
    *,
    text: str = "",
    variables: Mapping[str, str] | None = None,
) -> Generator[dict[str, Any], None, None]:
    """The messages of a child that parses `path`, or all `pages` in turn; or, without a path, works on `text`, which
    no other user can see, with these environment `variables`.

    Raises InputError where it refuses it, dies or hangs.
    """
    name, seconds = task["name"], task["limits"]["seconds"]
    try:
        file: Any = contextlib.nullcontext() if path is None else path.open("rb")
    except OSError as error:
        raise InputError(f"{name} cannot be opened", got=error.strerror or str(error), hint="Check the path.") from None
    command = [sys.executable, "-m", "pricesmith.catalog.readers.worker", json.dumps(task)]
    with (
        file,
        subprocess.Popen(
            command,
            stdin=subprocess.PIPE if pages or path is None else file,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=worker_environment() | dict(variables or {}),
        ) as child,
    ):
        assert child.stdout is not None
        if pages:
            threading.Thread(target=send_pages, args=(child.stdin, pages), daemon=True).start()
        elif path is None:
            assert child.stdin is not None
            with contextlib.suppress(OSError), child.stdin:  # a child that has died says so below
                child.stdin.write(text.encode())
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


def send_pages(pipe: IO[bytes], pages: Sequence[Path]) -> None:
    """Write files to a child, each as a line of JSON with its name and length, and its bytes."""
    with contextlib.suppress(OSError), pipe:
        for page in pages:
            try:
                body = page.read_bytes()
            except OSError:
                body = b""
            pipe.write(json.dumps({"name": page.name, "length": len(body)}).encode() + b"\n" + body)


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
    if task["format"] == "postgresql":
        return InputError(
            f"{name}: reading the table ended unexpectedly",
            got=f"the reading process was ended by {signal.Signals(-code).name}" if code < 0 else f"code {code}",
            hint="Read fewer columns with ?query=SELECT ..., or export the table as CSV.",
        )
    got = f"the parser was ended by {signal.Signals(-code).name}" if code < 0 else f"the parser ended with code {code}"
    return InputError(
        f"{name} cannot be read as {task['format']}",
        got=got,
        hint="The file is damaged or was made to break its reader: write it again.",
    )
