"""Processes for the tests that signal or kill one: forked from a process that has imported what takes seconds.

    process = fork("from pricesmith.cli import main; main()", "serve", "out/shop", stdout=subprocess.PIPE)
    process.send_signal(signal.SIGINT)
    output, errors = process.communicate()

The code runs as the main module, with a working directory, an environment and streams of its own, and ends as in any
other process. Variables that only count when an interpreter or a library starts, such as PYTHONPATH, have the values
of the tests.
"""

from __future__ import annotations

import atexit
import contextlib
import json
import os
import select
import signal
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import IO, Any

# A request is its length, three streams as file descriptors, and JSON. Each child is reported twice, as a line of
# JSON: when it has started and when it has ended.
# DuckDB is left out: importing it starts threads, and its end waits for them.
SERVER = """
import gc, json, os, select, signal, socket, struct, sys
import fastapi, httpx2, jinja2, lightgbm, numpy, pandas, plotly, pyarrow.dataset, pyarrow.parquet, rich, uvicorn
import scipy.stats, sklearn.feature_extraction.text, sklearn.linear_model
import pricesmith.api, pricesmith.batch.price, pricesmith.candidates, pricesmith.catalog.curation, pricesmith.cli
import pricesmith.cli.app, pricesmith.evaluation.run_eval, pricesmith.human, pricesmith.pricers.api.client
import pricesmith.pricers.api.pricer, pricesmith.pricers.median, pricesmith.pricers.model, pricesmith.pricers.ridge
import pricesmith.serve.app, pricesmith.serve.service

parent = socket.socket(fileno=int(sys.argv[1]))
reader, writer = os.pipe()
for end in (reader, writer):
    os.set_blocking(end, False)
signal.set_wakeup_fd(writer)
signal.signal(signal.SIGCHLD, lambda *_: None)
gc.collect()
gc.freeze()

def receive():
    head, streams, _, _ = socket.recv_fds(parent, 4, 3)
    if not head:
        sys.exit()
    size, text = struct.unpack("!I", head)[0], b""
    while len(text) < size:
        part = parent.recv(size - len(text))
        if not part:
            sys.exit()
        text += part
    return json.loads(text), streams

def say(**facts):
    parent.sendall(json.dumps(facts).encode() + b"\\n")

while True:
    ready = select.select([parent, reader], [], [])[0]
    if reader in ready:
        os.read(reader, 4096)
        while True:
            try:
                child, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                break
            if not child:
                break
            say(pid=child, code=os.waitstatus_to_exitcode(status))
    if parent in ready:
        task, streams = receive()
        child = os.fork()
        if not child:
            break
        for stream in streams:
            os.close(stream)
        say(pid=child)

signal.set_wakeup_fd(-1)
signal.signal(signal.SIGCHLD, signal.SIG_DFL)
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's & has it ignored
if task["session"]:
    os.setsid()
for number, stream in enumerate(streams):
    os.dup2(stream, number)
for number in (reader, writer, parent.detach(), *streams):
    os.close(number)
sys.stdin = sys.__stdin__ = open(0, closefd=False)  # those of before know whether they can seek
sys.stdout = sys.__stdout__ = open(1, "w", closefd=False)
sys.stderr = sys.__stderr__ = open(2, "w", buffering=1, errors="backslashreplace", closefd=False)
os.environ.clear()
os.environ.update(task["env"])
os.chdir(task["cwd"])
sys.argv = ["-c", *task["words"]]
for name in [*globals()]:
    if not name.startswith("__") and name != "task":
        del globals()[name]
exec(compile(task["code"], "<string>", "exec"), {"__name__": "__main__", "__builtins__": __builtins__})
"""
NOTHING = subprocess.DEVNULL


class Server:
    """The process that forks, and what it has said of its children."""

    def __init__(self) -> None:
        self.connection, theirs = socket.socketpair()
        self.process = subprocess.Popen(
            [sys.executable, "-c", SERVER, str(theirs.fileno())], pass_fds=[theirs.fileno()], stdin=NOTHING
        )
        theirs.close()
        self.codes: dict[int, int] = {}
        self.text = b""
        atexit.register(self.close)

    def close(self) -> None:
        """End it."""
        self.connection.close()
        self.process.wait(240)

    def start(self, task: Mapping[str, Any], streams: list[int]) -> int:
        """The number of a new child."""
        content = json.dumps(task).encode()
        socket.send_fds(self.connection, [struct.pack("!I", len(content))], streams)
        self.connection.sendall(content)
        while True:
            facts = self.read(None)
            if facts is not None and "code" not in facts:
                self.codes.pop(facts["pid"], None)  # of an earlier process with this number
                return int(facts["pid"])

    def read(self, seconds: float | None) -> dict[str, int] | None:
        """The next report, None if there is none for so many seconds; the code of a child that has ended is kept."""
        while b"\n" not in self.text:
            if not select.select([self.connection], [], [], seconds)[0]:
                return None
            part = self.connection.recv(65_536)
            assert part, "the process that forks has ended"
            self.text += part
        line, _, self.text = self.text.partition(b"\n")
        facts: dict[str, int] = json.loads(line)
        if "code" in facts:
            self.codes[facts["pid"]] = facts["code"]
        return facts


@cache
def server() -> Server:
    """One for all tests of this process; it ends with it."""
    return Server()


class Forked:
    """A started process, with the methods of subprocess.Popen that tests use; its streams are text."""

    def __init__(self, pid: int, stdout: IO[str] | None, stderr: IO[str] | None) -> None:
        self.pid, self.stdout, self.stderr = pid, stdout, stderr
        self.returncode: int | None = None

    def poll(self) -> int | None:
        """The exit code, negative for a signal; None while it runs."""
        while self.pid not in server().codes and server().read(0) is not None:
            pass
        self.returncode = server().codes.get(self.pid)
        return self.returncode

    def wait(self, timeout: float = 240) -> int:
        """The exit code of a process that ends within `timeout` seconds."""
        end = time.monotonic() + timeout
        while (code := self.poll()) is None:
            assert time.monotonic() < end, "the process has not ended"
            server().read(max(0.0, end - time.monotonic()))
        return code

    def communicate(self, timeout: float = 240) -> tuple[str, str]:
        """What it prints until it ends, on both streams."""
        texts = {stream: b"" for stream in (self.stdout, self.stderr) if stream is not None and not stream.closed}
        left, end = list(texts), time.monotonic() + timeout
        while left:
            ready = select.select(left, [], [], max(0.0, end - time.monotonic()))[0]
            assert ready, "the process has not closed its output"
            for stream in ready:
                part = os.read(stream.fileno(), 65_536)
                texts[stream] += part
                if not part:
                    left.remove(stream)
        for stream in texts:
            stream.close()
        self.wait(max(0.0, end - time.monotonic()))
        streams = (self.stdout, self.stderr)
        output, errors = (texts[stream].decode() if stream in texts else "" for stream in streams)
        return output, errors

    def send_signal(self, number: int) -> None:
        """Send a signal, unless it has ended."""
        if self.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def kill(self) -> None:
        """End it at once."""
        self.send_signal(signal.SIGKILL)

    def terminate(self) -> None:
        """Ask it to end."""
        self.send_signal(signal.SIGTERM)


def fork(
    code: str,
    *words: str,
    stdin: int | IO[Any] | None = NOTHING,
    stdout: int | IO[Any] | None = None,
    stderr: int | IO[Any] | None = None,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
    session: bool = False,
) -> Forked:
    """Start Python code with arguments; streams, working directory and environment as subprocess.Popen takes them."""
    pipes: list[IO[str] | None] = [None, None]
    streams, opened = [0, 1, 2], list[int]()
    for number, given in enumerate((stdin, stdout, stderr)):
        if given == subprocess.PIPE:
            ours, streams[number] = os.pipe()
            pipes[number - 1] = os.fdopen(ours)
            opened.append(streams[number])
        elif given == NOTHING:
            streams[number] = os.open(os.devnull, os.O_RDWR)
            opened.append(streams[number])
        elif given is not None:
            streams[number] = given if isinstance(given, int) else given.fileno()
    task = {"code": code, "words": words, "cwd": str(cwd or Path.cwd()), "env": dict(env or os.environ)}
    try:
        pid = server().start(task | {"session": session}, streams)
    finally:
        for number in opened:
            os.close(number)
    return Forked(pid, *pipes)
