"""The server against the same work without it: CPU for each listing, waiting times, hot swaps, kills, memory.

    python benchmarks/serve.py out/demo                            the sparse MLP of a build folder, and its ridge
    python benchmarks/serve.py out/demo --only batch,single        (also: processes, swaps, kills, soak)

Each server is a process of its own, whose CPU time (user and system) is read from the system before and after a round;
rounds of the two sides alternate. "Bare" is `PriceModel.predict` on the same texts in a loop: cleaning, price, interval
and the check for similar listings. "Echo" is a FastAPI application on uvicorn that answers the parsed request.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import re
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

PARTS = ("batch", "single", "processes", "swaps", "kills", "soak")
SIZES = (256, 1_024)
DIVIDED_SIZES = (128, 256, 1_024, 10_000)  # batches that several processes price together
CONNECTIONS = (1, 16, 64)
ROUNDS = 6
MIN_TEXTS = 6_000  # those of a small catalog are repeated
TICK = os.sysconf("SC_CLK_TCK")


@dataclass
class Process:
    """A server or a bare loop, and its URL."""

    process: subprocess.Popen[str]
    url: str = ""

    @property
    def port(self) -> int:
        return int(self.url.rsplit(":", 1)[1])

    def cpu(self) -> float:
        """CPU seconds so far, with those of its own processes."""
        fields = [read_stat(pid) for pid in (self.process.pid, *self.children())]
        return sum(int(own[11]) + int(own[12]) for own in fields) / TICK

    def children(self) -> list[int]:
        """The processes that it has started."""
        pids = [int(path.name) for path in Path("/proc").glob("[0-9]*")]
        return [pid for pid in pids if (fields := read_stat(pid)) and int(fields[1]) == self.process.pid]

    def memory(self) -> float:
        """Megabytes in memory."""
        text = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(next(line for line in text.splitlines() if line.startswith("VmRSS")).split()[1]) / 1024

    def kill(self) -> None:
        self.process.kill()
        self.process.communicate()


def read_stat(pid: int) -> list[str]:
    """The fields of a process from its state on; none if it has ended."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    except OSError:
        return []


def read_private_memory(pid: int) -> float:
    """Megabytes that a process shares with no other (its proportional share of what it does share included)."""
    text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    return int(next(line for line in text.splitlines() if line.startswith("Pss:")).split()[1]) / 1024


def start(command: list[str]) -> Process:
    """Start a process that prints a line of JSON with its URL when it is ready."""
    process = subprocess.Popen([sys.executable, *command], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    return Process(process, json.loads(process.stdout.readline())["url"])


def start_server(model: Path, *options: str) -> Process:
    """`pricesmith serve` of a model."""
    code = "from pricesmith.cli import main; main()"
    return start(["-c", code, "serve", str(model), "--port", "0", "--json", *options])


@contextmanager
def stopped_at_end(*processes: Process) -> Iterator[None]:
    try:
        yield
    finally:
        for process in processes:
            process.kill()


ECHO = """
import json, socket, uvicorn
from fastapi import FastAPI
from pricesmith.serve.schemas import PriceRequest
app = FastAPI()
@app.post("/v1/price")
async def echo(body: PriceRequest) -> PriceRequest:
    return body
listener = socket.socket(proto=socket.IPPROTO_TCP); listener.bind(("127.0.0.1", 0))
print(json.dumps({"url": f"http://127.0.0.1:{listener.getsockname()[1]}"}), flush=True)
uvicorn.Server(uvicorn.Config(app, log_level="warning", access_log=False)).run(sockets=[listener])
"""

BARE = """
import json, sys, time
import pricesmith as ps
model = ps.load(sys.argv[1])
texts = json.loads(sys.stdin.readline())
model.predict(texts[:2])
print(json.dumps({"url": "bare:0"}), flush=True)
for line in sys.stdin:
    size, count = json.loads(line)
    begun = time.process_time()
    for n in range(count):
        start = n * size % (len(texts) - size + 1)
        model.predict(texts[start:start + size])
    print(json.dumps(time.process_time() - begun), flush=True)
"""


# A client that costs little: HTTP/1.1 on kept connections, written by hand


def encode(path: str, body: Any, headers: str = "") -> bytes:
    """A request as bytes."""
    content = json.dumps(body).encode()
    head = f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n{headers}"
    return f"{head}Content-Length: {len(content)}\r\n\r\n".encode() + content


async def exchange(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, request: bytes) -> tuple[int, bytes]:
    """Send a request; the status and the body of its answer."""
    writer.write(request)
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower()
    length = int(head.split("content-length:", 1)[1].split("\r\n", 1)[0])
    return int(head.split(" ", 2)[1]), await reader.readexactly(length)


async def run_load(port: int, requests: list[bytes], connections: int) -> tuple[list[float], list[int]]:
    """Send all requests over so many connections; the seconds of each, and each status."""
    waiting = iter(requests)
    seconds: list[float] = []
    statuses: list[int] = []

    async def work() -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1 << 24)
        for request in waiting:
            begun = time.perf_counter()
            status, _ = await exchange(reader, writer, request)
            seconds.append(time.perf_counter() - begun)
            statuses.append(status)
        writer.close()

    await asyncio.gather(*(work() for _ in range(connections)))
    return seconds, statuses


def percentile(values: list[float], share: float) -> float:
    """A percentile in milliseconds."""
    return 1000 * sorted(values)[min(len(values) - 1, int(share * len(values)))]


def read_texts(catalog: Path) -> list[str]:
    """Texts of the listings that the model was not fitted on."""
    from pricesmith.catalog import open as open_catalog

    opened = open_catalog(catalog)
    listings = [item.listing for split in ("test", "validation") for item in opened.items(split)]
    texts = [f"{listing.title}\n{listing.text}".strip() for listing in listings]
    return texts * -(-MIN_TEXTS // len(texts))


# The measurements


def measure_batches(model: Path, folder: Path, texts: list[str], rounds: int) -> None:
    """Items for each CPU second in batches, as a share of the bare loop, without and with log and keys."""
    key = make_key(folder)
    bare = start_bare(model, texts)
    plain = start_server(model, "--no-log")
    logged = start_server(model, "--log", str(folder / "batch.db"), "--keys", str(folder / "keys.json"))
    print("| batch | side | items per CPU second (median round) | share of bare (rounds) |\n|---|---|--:|---|")
    with stopped_at_end(bare, plain, logged):
        for size in SIZES:
            count = max(4, 8_192 // size)
            bodies = [{"listings": texts[n * size % (len(texts) - size + 1) :][:size]} for n in range(count)]
            sides = {
                "server": (plain, [encode("/v1/price/batch", body) for body in bodies]),
                "server with log and keys": (
                    logged,
                    [encode("/v1/price/batch", body, f"Authorization: Bearer {key}\r\n") for body in bodies],
                ),
            }
            rates: dict[str, list[float]] = {"bare": [], **{name: [] for name in sides}}
            for number in range(rounds + 1):
                seconds = run_bare(bare, size, count)
                measured = {"bare": seconds}
                for name, (process, requests) in sides.items():
                    before = process.cpu()
                    _, statuses = asyncio.run(run_load(process.port, requests, 1))
                    assert set(statuses) == {200}, statuses
                    measured[name] = process.cpu() - before
                if number:  # the first round warms up
                    for name, value in measured.items():
                        rates[name].append(size * count / value)
            for name, values in rates.items():
                shares = [value / base for value, base in zip(values, rates["bare"], strict=True)]
                shown = f"{statistics.median(shares):.3f} ({min(shares):.3f} to {max(shares):.3f})"
                print(f"| {size:,} | {name} | {statistics.median(values):,.0f} | {shown} |", flush=True)


def start_bare(model: Path, texts: list[str]) -> Process:
    """The bare loop."""
    process = subprocess.Popen(
        [sys.executable, "-c", BARE, str(model)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(json.dumps(texts) + "\n")
    process.stdin.flush()
    process.stdout.readline()
    return Process(process)


def run_bare(bare: Process, size: int, count: int) -> float:
    """CPU seconds of so many batches in the bare loop."""
    assert bare.process.stdin is not None
    assert bare.process.stdout is not None
    bare.process.stdin.write(json.dumps([size, count]) + "\n")
    bare.process.stdin.flush()
    return float(json.loads(bare.process.stdout.readline()))


def make_key(folder: Path) -> str:
    """A new key in the folder's file of keys."""
    from pricesmith.serve.keys import add_key

    return add_key(folder / "keys.json", f"key{time.monotonic_ns()}")


def measure_single(model: Path, texts: list[str], rounds: int) -> None:
    """Waiting times and CPU of single quotes, against an echo on the same server program."""
    server, echo = start_server(model, "--no-log"), start(["-c", ECHO])
    print("| connections | side | p50 ms | p99 ms | CPU ms for each | ratio to echo |\n|--:|---|--:|--:|--:|--:|")
    first: float | None = None
    with stopped_at_end(server, echo):
        for connections in CONNECTIONS:
            count = 400 if connections == 1 else 3_000
            requests = [encode("/v1/price", {"text": text}) for text in texts[:count]]
            figures: dict[str, list[tuple[float, float, float]]] = {"server": [], "echo": []}
            for number in range(rounds + 1):
                for name, process in (("server", server), ("echo", echo)):
                    before = process.cpu()
                    seconds, statuses = asyncio.run(run_load(process.port, requests, connections))
                    assert set(statuses) == {200}, set(statuses)
                    cost = 1000 * (process.cpu() - before) / count
                    if number:
                        figures[name].append((percentile(seconds, 0.5), percentile(seconds, 0.99), cost))
            medians = {name: [statistics.median(column) for column in zip(*rows)] for name, rows in figures.items()}  # noqa: B905
            for name, (p50, p99, cost) in medians.items():
                ratio = f"{cost / medians['echo'][2]:.2f}"
                print(f"| {connections} | {name} | {p50:.2f} | {p99:.2f} | {cost:.3f} | {ratio} |", flush=True)
            first = first or medians["server"][2]
        print(
            f"\nCPU for each quote at {CONNECTIONS[-1]} connections: {medians['server'][2] / first:.2f} of that at 1."
        )


def measure_processes(model: Path, texts: list[str], rounds: int, processes: int = 2) -> None:
    """Seconds and CPU of batches that one process prices, and several together, in turn."""
    servers = {
        1: start_server(model, "--no-log"),
        processes: start_server(model, "--no-log", "--batch-processes", str(processes)),
    }
    with stopped_at_end(*servers.values()):
        wait_for_processes(servers[processes], processes)
        (pid, *_) = servers[processes].children()
        print(f"{model.name}: {read_private_memory(pid):.0f} MB for a further process\n")
        print("| batch | processes | seconds (least to most) | CPU seconds |\n|--:|--:|---|--:|")
        for size in DIVIDED_SIZES:
            count = max(1, 1_024 // size)
            repeated = texts * (1 + size * count // len(texts))
            requests = [
                encode("/v1/price/batch", {"listings": repeated[n * size : (n + 1) * size]}) for n in range(count)
            ]
            figures: dict[int, list[tuple[float, float]]] = {number: [] for number in servers}
            for turn in range(rounds + 1):
                for number, server in servers.items():
                    before, begun = server.cpu(), time.perf_counter()
                    _, statuses = asyncio.run(run_load(server.port, requests, 1))
                    seconds = (time.perf_counter() - begun) / count
                    assert set(statuses) == {200}, statuses
                    if turn:
                        figures[number].append((seconds, (server.cpu() - before) / count))
            for number, rows in figures.items():
                seconds_of, cpu = ([row[column] for row in rows] for column in (0, 1))
                spread = f"{min(seconds_of):.3f} to {max(seconds_of):.3f}"
                shown = f"{statistics.median(seconds_of):.3f} ({spread})"
                print(f"| {size:,} | {number} | {shown} | {statistics.median(cpu):.3f} |", flush=True)
    print()


def wait_for_processes(server: Process, processes: int) -> None:
    """Wait until so many processes of a server can price."""
    line = re.compile(rf"^pricesmith_batch_processes.* {processes}(\.0)?$", re.MULTILINE)
    while not line.search(urllib.request.urlopen(f"{server.url}/metrics").read().decode()):
        time.sleep(0.1)


def measure_swaps(model: Path, other: Path, folder: Path, texts: list[str], swaps: int) -> None:
    """Hot swaps between two models under load; counts what was not answered with 200."""
    key, served = make_key(folder), folder / "served"
    sources = (model, other)
    shutil.copytree(model, served)
    server = start_server(served, "--no-log", "--keys", str(folder / "keys.json"))
    header = f"Authorization: Bearer {key}\r\n"
    requests = [encode("/v1/price", {"text": text}, header) for text in texts]
    done = asyncio.Event()
    statuses: list[int] = []

    async def load() -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        number = 0
        while not done.is_set():
            statuses.append((await exchange(reader, writer, requests[number % len(requests)]))[0])
            number += 1
        writer.close()

    async def swap() -> list[float]:
        seconds = []
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        for number in range(swaps):
            shutil.copytree(sources[(number + 1) % 2], folder / "next")
            served.rename(folder / "old")
            (folder / "next").rename(served)
            shutil.rmtree(folder / "old")
            begun = time.perf_counter()
            status, body = await exchange(reader, writer, encode("/v1/models/reload", {"force": True}, header))
            assert status == 200, body
            assert json.loads(body)["switched"], body
            seconds.append(time.perf_counter() - begun)
        done.set()
        return seconds

    async def run() -> list[float]:
        loads = [asyncio.create_task(load()) for _ in range(16)]
        seconds = await swap()
        await asyncio.gather(*loads)
        return seconds

    with stopped_at_end(server):
        seconds = asyncio.run(run())
    failed = sum(status != 200 for status in statuses)
    print(
        f"{swaps} hot swaps under load of 16 connections: {len(statuses):,} requests, {failed} not answered with 200; "
        f"a swap took {statistics.median(seconds):.2f} s (median), {max(seconds):.2f} s at most."
    )


def measure_kills(model: Path, folder: Path, texts: list[str], kills: int) -> None:
    """kill -9 under load; counts acknowledged quotes that the log does not have."""
    from pricesmith.serve.log import LogReader

    path = folder / "kills.db"
    acknowledged: set[str] = set()
    ready: list[float] = []
    for number in range(kills):
        begun = time.perf_counter()
        server = start_server(model, "--log", str(path))
        ready.append(time.perf_counter() - begun)

        async def load(server: Process = server, number: int = number) -> None:
            async def work(own: int) -> None:
                reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
                try:
                    for text in texts[own::16]:
                        status, body = await exchange(reader, writer, encode("/v1/price", {"text": text}))
                        assert status == 200, body
                        acknowledged.add(json.loads(body)["id"])
                except (ConnectionError, asyncio.IncompleteReadError):
                    pass

            async def kill() -> None:
                await asyncio.sleep(0.2 + 0.01 * (number % 40))
                server.process.send_signal(signal.SIGKILL)

            await asyncio.gather(kill(), *(work(own) for own in range(16)))

        asyncio.run(load())
        server.kill()
    stored = {quote.quote_id for quote in LogReader(path).read_quotes()}
    lost = acknowledged - stored
    print(
        f"{kills} kills under load of 16 connections: {len(acknowledged):,} acknowledged quotes, {len(lost)} lost; "
        f"{len(stored) - len(acknowledged & stored)} stored and never acknowledged; ready again after "
        f"{statistics.median(ready):.1f} s (median)."
    )


def measure_soak(model: Path, folder: Path, texts: list[str], minutes: float) -> None:
    """Memory and waiting times of a server under a steady load, with its log."""
    server = start_server(model, "--log", str(folder / "soak.db"))
    requests = [encode("/v1/price?comparables=3", {"text": text}) for text in texts]
    samples: list[tuple[float, float, float]] = []  # minutes, MB, p99 ms
    begun = time.perf_counter()
    failed = count = 0
    with stopped_at_end(server):
        while (elapsed := (time.perf_counter() - begun) / 60) < minutes:
            seconds, statuses = asyncio.run(run_load(server.port, requests[:1_000], 16))
            failed, count = failed + sum(status != 200 for status in statuses), count + len(statuses)
            samples.append((elapsed, server.memory(), percentile(seconds, 0.99)))
    half = [sample for sample in samples if sample[0] > minutes / 5] or samples
    slope = statistics.linear_regression([s[0] for s in half], [s[1] for s in half]).slope if len(half) > 1 else 0.0
    print(
        f"{minutes:g} minutes with log, 16 connections: {count:,} quotes, {failed} failed; memory "
        f"{samples[0][1]:.0f} MB at first, {samples[-1][1]:.0f} MB at the end, "
        f"slope after the first fifth {60 * slope:.1f} MB an hour; "
        f"p99 {samples[0][2]:.1f} ms at first, {samples[-1][2]:.1f} ms at the end."
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("build", type=Path, help="a folder that `pricesmith build` or `demo` made")
    parser.add_argument("--model", default="sparse_mlp")
    parser.add_argument("--other", default="ridge", help="a second model, for the hot swaps")
    parser.add_argument("--only", default=",".join(PARTS))
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--swaps", type=int, default=20)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--minutes", type=float, default=10.0)
    options = parser.parse_args()
    parts = options.only.split(",")
    model, other = (options.build / "models" / name for name in (options.model, options.other))
    texts = read_texts(options.build / "catalog")
    print(f"{time.strftime('%Y-%m-%d')}, {platform.machine()}, {os.cpu_count()} cores, {model.name}\n")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if "batch" in parts:
            measure_batches(model, folder, texts, options.rounds)
        if "single" in parts:
            measure_single(model, texts, options.rounds)
        if "processes" in parts:
            for path in (other, model):
                measure_processes(path, texts, options.rounds)
        if "swaps" in parts:
            measure_swaps(model, other, folder, texts, options.swaps)
        if "kills" in parts:
            measure_kills(model, folder, texts, options.kills)
        if "soak" in parts:
            measure_soak(model, folder, texts, options.minutes)


if __name__ == "__main__":
    main()
