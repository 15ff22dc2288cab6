"""A Ray cluster of two nodes on this machine: each has a network namespace of its own, and there is a token.

The second node has two folders of its own where the first has others: Ray's, since two nodes that share one mistake
each other's addresses, and a small one, so that it is a machine that does not share all folders.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

HEAD, SECOND, PORT = "10.231.7.1", "10.231.7.2", 6379
ADDRESS = f"{HEAD}:{PORT}"
SECONDS = 300.0
NAME = "pricesmith-"  # and the number of the process that has made it: network namespaces
# A node that does not answer is dead after 5 checks, by default one every 3 s. How long an answer may take stays 10 s.
CHECKS = {"RAY_health_check_initial_delay_ms": "500", "RAY_health_check_period_ms": "300"}


@cache
def missing() -> str:
    """Why two nodes cannot be started here; empty if they can."""
    if importlib.util.find_spec("ray") is None:
        return "needs the extra cluster"
    if sys.platform != "linux" or os.geteuid() != 0 or not all(map(shutil.which, ("ip", "unshare", "mount"))):
        return "needs Linux, root and the programs ip, unshare and mount, for network namespaces"
    if not Path("/dev/shm").is_dir():
        return "needs /dev/shm, where Ray looks for room"
    name = f"{NAME}{os.getpid()}-try"
    try:
        ip("netns", "add", name)
        ip("-n", name, "link", "add", "eth0", "type", "veth", "peer", "name", "eth1")
        ip("netns", "exec", name, "unshare", "-m", "mount", "-t", "tmpfs", "none", "/tmp")
    except subprocess.CalledProcessError as error:
        return f"needs network namespaces with veth and mounts: {error.stderr.decode(errors='replace').strip()[:100]}"
    finally:
        subprocess.run(["ip", "netns", "del", name], check=False, capture_output=True)
    return ""


def remove_leftovers() -> None:
    """Remove the namespaces, with the processes in them, that a killed test run has left."""
    listed = subprocess.run(["ip", "netns", "list"], capture_output=True, text=True, check=False)
    for line in listed.stdout.splitlines():
        match = re.match(rf"{NAME}(\d+)-\w+\b", line)
        if match and not Path("/proc", match[1]).exists():
            kill_all(match[0])
            subprocess.run(["ip", "netns", "del", match[0]], check=False, capture_output=True)


@dataclass
class TwoNodes:
    """The running cluster. `own` is a folder that the second node has for itself."""

    names: tuple[str, str]
    token: Path
    own: Path

    def environment(self, *, token: bool = True) -> dict[str, str]:
        """The environment of a process on a node."""
        plain = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
        plain |= {"RAY_USAGE_STATS_ENABLED": "0", "PYTHONWARNINGS": "ignore", **CHECKS}
        return plain | ({"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(self.token)} if token else {})

    def start(self, words: Sequence[str], *, token: bool = True) -> subprocess.Popen[str]:
        """Start Python on the first node with these arguments."""
        command = ["ip", "netns", "exec", self.names[0], sys.executable, *words]
        environment = self.environment(token=token)
        return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def run(self, words: Sequence[str], *, token: bool = True, seconds: float = SECONDS) -> tuple[int, str, str]:
        """Run Python on the first node: exit code, standard output and standard error."""
        process = self.start(words, token=token)
        out, err = process.communicate(timeout=seconds)
        return process.returncode, out, err

    def kill_second(self) -> None:
        """Kill every process of the second node at once, as a power cut does."""
        kill_all(self.names[1])


def kill_all(name: str) -> None:
    """Kill the processes in a network namespace."""
    listed = subprocess.run(["ip", "netns", "pids", name], capture_output=True, text=True, check=False)
    for pid in listed.stdout.split():
        with contextlib.suppress(ProcessLookupError):
            os.kill(int(pid), signal.SIGKILL)


def ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True)


@contextlib.contextmanager
def start_two_nodes(folder: Path, cores: tuple[int, int] = (1, 1)) -> Iterator[TwoNodes]:
    """Both nodes with their cores, the second one only if it has any; all their processes are killed at the end.
    `folder` has a short path."""
    remove_leftovers()
    names, token = (f"{NAME}{os.getpid()}-a", f"{NAME}{os.getpid()}-b"), folder / "token"
    token.write_text(uuid.uuid4().hex + uuid.uuid4().hex)
    nodes = TwoNodes(names, token, folder / "own")
    nodes.own.mkdir()
    ray = [sys.executable, "-m", "ray.scripts.scripts", "start"]
    ray += ["--object-store-memory", "80000000", "--disable-usage-stats"]
    head = [*ray, "--head", "--node-ip-address", HEAD, "--port", str(PORT), "--include-dashboard", "false"]
    head += ["--num-cpus", str(cores[0])]
    second = [*ray, "--address", ADDRESS, "--node-ip-address", SECOND, "--num-cpus", str(cores[1])]
    try:
        for name in names:
            ip("netns", "add", name)
        ip("link", "add", "eth0", "netns", names[0], "type", "veth", "peer", "name", "eth0", "netns", names[1])
        for name, address in zip(names, (HEAD, SECOND), strict=True):
            ip("-n", name, "addr", "add", f"{address}/24", "dev", "eth0")
            for link in ("lo", "eth0"):
                ip("-n", name, "link", "set", link, "up")
        run_ray(names[0], [*head, "--temp-dir", str(folder / "r")], nodes)
        own = f"mount -t tmpfs -o size=64k none {nodes.own} && mount -t tmpfs none {folder / 'r'}"
        if cores[1]:
            run_ray(names[1], ["unshare", "-m", "sh", "-c", f'{own} && exec "$@"', "sh", *second], nodes)
        yield nodes
    finally:
        for name in names:
            kill_all(name)
        time.sleep(0.1)
        for name in names:
            subprocess.run(["ip", "netns", "del", name], check=False, capture_output=True)


def run_ray(name: str, words: Sequence[str], nodes: TwoNodes) -> None:
    """Run `ray start` in a network namespace."""
    command = ["ip", "netns", "exec", name, *words]
    started = subprocess.run(
        command, env=nodes.environment(), capture_output=True, text=True, check=False, timeout=SECONDS
    )
    assert started.returncode == 0, started.stderr[-2000:]
