"""`pricesmith serve` as a process: what it prints, its signals, and what keeps it from starting."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
from tests.forks import fork

from pricesmith.cli import run
from pricesmith.serve.keys import add_key

BODY = {"text": "Cobalt drill, size 12 kg"}
COMMAND = "from pricesmith.cli import main; main()"


def wait_for(condition: Callable[[], bool], seconds: float = 240.0) -> None:
    """Wait until a condition holds; fails after `seconds`."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.05)


class Server:
    """A running `pricesmith serve`."""

    def __init__(self, *arguments: str) -> None:
        words = ["serve", *arguments, "--port", "0", "--json"]
        self.process = fork(COMMAND, *words, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line, self.process.communicate()[1]
        self.facts = json.loads(line)
        self.url = self.facts["url"]

    def get(self, path: str, **options: Any) -> httpx2.Response:
        return httpx2.get(self.url + path, timeout=240, **options)

    def post(self, path: str, body: Any, **options: Any) -> httpx2.Response:
        return httpx2.post(self.url + path, json=body, timeout=240, **options)

    def stop(self, number: int = signal.SIGTERM) -> tuple[int, str]:
        """The exit code and the error output after a signal."""
        if self.process.poll() is None:
            self.process.send_signal(number)
        _, errors = self.process.communicate(timeout=240)
        return self.process.wait(), errors


@pytest.fixture
def start() -> Iterator[Callable[..., Server]]:
    """Starts servers, which end with the test."""
    servers: list[Server] = []

    def started(*arguments: str) -> Server:
        servers.append(Server(*arguments))
        return servers[-1]

    yield started
    for server in servers:
        server.process.kill()
        server.process.communicate()


def test_a_server_says_where_it_is_and_prices(start: Callable[..., Server], model_copy: Path) -> None:
    server = start(str(model_copy))
    assert server.facts["models"] == ["ridge"]
    assert server.facts["log"] == str(model_copy.parent / "ridge.requests.db")
    assert server.get("/ready").json()["status"] == "ready"
    assert server.post("/v1/price", BODY).json()["price"] > 0
    code, errors = server.stop()
    assert (code, errors) == (-signal.SIGTERM, "")


@pytest.mark.skipif(not hasattr(signal, "SIGHUP"), reason="no SIGHUP on this system")
def test_a_signal_loads_the_model_again_and_a_broken_folder_is_left_alone(
    start: Callable[..., Server], model_copy: Path, served_models: dict[str, Path]
) -> None:
    server = start(str(model_copy), "--no-log")

    def identity() -> str:
        return str(server.get("/v1/models").json()["models"][0]["identity"])

    before = identity()
    (model_copy / "manifest.json").rename(model_copy / "away")
    server.process.send_signal(signal.SIGHUP)
    assert server.process.stderr is not None
    assert "ridge is not reloaded; the old model serves on" in server.process.stderr.readline()
    assert identity() == before
    shutil.rmtree(model_copy)
    shutil.copytree(served_models["median"], model_copy)
    server.process.send_signal(signal.SIGHUP)
    wait_for(lambda: identity() != before)
    assert server.post("/v1/price", BODY).status_code == 200


def test_ctrl_c_ends_a_server_with_130(start: Callable[..., Server], model_copy: Path) -> None:
    code, errors = start(str(model_copy), "--no-log").stop(signal.SIGINT)
    assert code == 130
    assert "Traceback" not in errors


def test_a_broken_model_or_a_busy_port_is_a_plain_error(
    model_copy: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        assert run(["serve", str(model_copy), "--port", str(taken.getsockname()[1])]) == 2
    assert "The server cannot listen at 127.0.0.1" in capsys.readouterr().err
    (model_copy / "manifest.json").unlink()
    assert run(["serve", str(model_copy), "--port", "0", "--no-log"]) == 1
    assert "is not a finished model" in capsys.readouterr().err
    assert run(["serve", str(tmp_path / "nothing"), "--port", "0", "--no-log"]) == 1
    assert "no such folder" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "what"),
    [
        (["--host", "0.0.0.0"], "A server that other machines can reach needs a key"),
        (["--root-path", "prices"], "--root-path must begin with one slash"),
        (["--no-log", "--log-text"], "--no-log contradicts --log and --log-text"),
        (["--port", "70000"], "Invalid value for '--port'"),
        (["--batch-processes", "0"], "--batch-processes is not a number of processes"),
        (["--batch-processes", "many"], "--batch-processes is not a number of processes"),
        (["--batch-processes", "9" * 5000], "--batch-processes is not a number of processes"),
    ],
)
def test_wrong_options_are_refused(
    served_models: dict[str, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    what: str,
) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    assert run(["serve", str(served_models["median"]), *arguments]) == 2
    assert what in capsys.readouterr().err


def test_two_models_of_one_name_are_refused(
    served_models: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = shutil.copytree(served_models["median"], tmp_path / "ridge")
    assert run(["serve", str(served_models["ridge"]), str(other)]) == 2
    assert "Two models have the same name" in capsys.readouterr().err


def test_keys_are_required_if_their_file_is_named(
    start: Callable[..., Server], model_copy: Path, tmp_path: Path
) -> None:
    key = add_key(tmp_path / "keys.json", "website")
    server = start(str(model_copy), "--no-log", "--keys", str(tmp_path / "keys.json"))
    assert server.post("/v1/price", BODY).status_code == 401
    headers = {"authorization": f"Bearer {key}"}
    assert server.post("/v1/price", BODY, headers=headers).status_code == 200
    assert server.post("/v1/models/reload", {}, headers=headers).json()["switched"] is False


def children(pid: int) -> list[int]:
    """The processes that a process has started."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text().rpartition(")")[2].split()
        except OSError:  # it has ended meanwhile
            continue
        if int(fields[1]) == pid and fields[0] != "Z":
            found.append(int(path.parent.name))
    return found


def is_running(pid: int) -> bool:
    """Whether a process has not ended."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def count_ready(server: Server) -> int:
    """The number of processes that can price parts of a batch."""
    (line,) = [line for line in server.get("/metrics").text.splitlines() if line.startswith("pricesmith_batch_proc")]
    return int(float(line.split()[-1]))


needs_proc = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs the /proc of Linux")


@needs_proc
def test_a_large_batch_is_priced_by_two_processes_and_none_is_left_at_the_end(
    start: Callable[..., Server], model_copy: Path
) -> None:
    """One of them is killed meanwhile, and the terminal sends Ctrl-C to both."""
    server = start(str(model_copy), "--no-log", "--batch-processes", "2")
    body = {"listings": [f"Cobalt drill, size {number} kg" for number in range(1_000)]}
    expected = [quote["price"] for quote in server.post("/v1/price/batch", body).json()["quotes"]]
    wait_for(lambda: count_ready(server) == 2)
    (first,) = children(server.process.pid)
    assert [quote["price"] for quote in server.post("/v1/price/batch", body).json()["quotes"]] == expected
    os.kill(first, signal.SIGKILL)
    assert [quote["price"] for quote in server.post("/v1/price/batch", body).json()["quotes"]] == expected
    wait_for(lambda: children(server.process.pid) not in ([], [first]))
    (second,) = children(server.process.pid)
    wait_for(lambda: count_ready(server) == 2)
    os.kill(second, signal.SIGINT)
    assert [quote["price"] for quote in server.post("/v1/price/batch", body).json()["quotes"]] == expected
    assert is_running(second)
    code, errors = server.stop(signal.SIGINT)
    assert code == 130
    assert "Traceback" not in errors
    assert not is_running(second)


@needs_proc
def test_the_processes_of_a_killed_server_end(start: Callable[..., Server], model_copy: Path) -> None:
    server = start(str(model_copy), "--no-log", "--batch-processes", "3")
    wait_for(lambda: count_ready(server) == 3)
    pids = children(server.process.pid)
    assert len(pids) == 2
    server.process.kill()
    wait_for(lambda: not any(map(is_running, pids)))


@needs_proc
def test_a_reload_replaces_the_processes_too(
    start: Callable[..., Server], model_copy: Path, served_models: dict[str, Path]
) -> None:
    server = start(str(model_copy), "--no-log", "--batch-processes", "2")
    body = {"listings": [f"Cobalt drill, size {number} kg" for number in range(500)]}
    wait_for(lambda: count_ready(server) == 2)
    old = children(server.process.pid)
    before = server.post("/v1/price/batch", body).json()["quotes"]
    shutil.rmtree(model_copy)
    shutil.copytree(served_models["median"], model_copy)
    server.process.send_signal(signal.SIGHUP)
    wait_for(lambda: server.post("/v1/price/batch", body).json()["quotes"][0]["price"] != before[0]["price"])
    wait_for(lambda: count_ready(server) == 2 and not set(old) & set(children(server.process.pid)))
    prices = {quote["price"] for quote in server.post("/v1/price/batch", body).json()["quotes"]}
    assert len(prices) == 1  # all of them by the median
    assert len(children(server.process.pid)) == 1
