"""Connect to a running Ray cluster, with errors that say what to do.

    with connect("10.0.0.1:6379"):
        ...

Ray's own messages are kept off the terminal, and nothing is reported to anybody (RAY_USAGE_STATS_ENABLED=0).
"""

from __future__ import annotations

import logging
import os
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pricesmith.cluster.head_watch import HeadWatch, watch_head
from pricesmith.core.errors import MissingExtra, UsageError

AUTO = "auto"
SECONDS = 5.0  # to reach the head node
QUIET = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_BACKEND_LOG_LEVEL": "fatal", "RAY_NUM_REDIS_GET_RETRIES": "4"}
START = "ray start --head"
NO_TOKEN = (
    "This Ray cluster asks for no token: anybody who reaches it over the network can run programs on it. "
    "Start it with RAY_AUTH_MODE=token; see docs/scale.md."
)


def import_ray() -> Any:
    """The module ray. Raises MissingExtra if it is not installed."""
    for name, value in QUIET.items():
        os.environ.setdefault(name, value)
    try:
        import ray
    except ImportError:
        raise MissingExtra("--cluster needs Ray", extra="cluster") from None
    return ray


@contextmanager
def connect(address: str) -> Iterator[Any]:
    """The module ray, connected to the cluster at `address`: HOST:PORT of its head node, or `auto` on one of its nodes.

    A connection that this process has already is used, and kept. Raises UsageError if there is no cluster, if it
    refuses the token, or if its Ray or Python is of another version.
    """
    check_address(address)
    ray = import_ray()
    if ray.is_initialized():
        yield ray
        return
    if address != AUTO:
        check_reachable(address)
    try:
        with no_messages():
            ray.init(address=address, log_to_driver=False, logging_level=logging.CRITICAL)
    except Exception as error:  # Ray raises its own errors, ConnectionError, RuntimeError and others
        raise connection_error(address, error) from None
    printing = ray._private.worker._worker_logs_enabled
    # A thread of Ray prints what happened to processes and nodes on standard output, where prices and JSON go.
    ray._private.worker._worker_logs_enabled = False
    watch: HeadWatch | None = None
    try:
        with watch_head(ray.get_runtime_context().gcs_address) as watch:
            yield ray
    finally:
        if watch is None or not watch.lost:  # else it would wait for the first node
            ray.shutdown()
        ray._private.worker._worker_logs_enabled = printing


@contextmanager
def no_messages() -> Iterator[None]:
    """Keep what Ray's compiled part prints about a connection off standard error; what fails is raised all the same."""
    sys.stderr.flush()
    original, nothing = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nothing, 2)
        yield
    finally:
        os.dup2(original, 2)
        os.close(original)
        os.close(nothing)


def check_address(address: str) -> None:
    """Raises UsageError unless an address is HOST:PORT or `auto`."""
    host, _, port = address.rpartition(":")
    if address == AUTO or (host and "/" not in host and port.isdigit() and 0 < int(port) < 65_536):
        return
    raise UsageError(
        "--cluster is not the address of a Ray cluster",
        got=address,
        allowed="HOST:PORT of its head node, or auto",
        hint="Run the command on a node of the cluster with --cluster auto.",
    )


def check_reachable(address: str) -> None:
    """Raises UsageError if nothing listens at HOST:PORT; Ray itself would try for long."""
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=SECONDS).close()
    except OSError as error:
        raise UsageError(
            f"There is no Ray cluster at {address}",
            got=error.strerror or str(error) or type(error).__name__,
            hint=f"Start one with `{START} --port {port}`, or correct the address.",
        ) from None


def connection_error(address: str, error: Exception) -> UsageError:
    """The error for a cluster that did not let this process in."""
    text, name = str(error), type(error).__name__
    if "ersion mismatch" in text:
        got = " ".join(text.split())[:300]
        hint = "Install the versions of Ray and Python that the cluster has."
        return UsageError(f"The Ray cluster at {address} has other versions", got=got, hint=hint)
    if address == AUTO and isinstance(error, ConnectionError) and "any running Ray instance" in text:
        return UsageError("No Ray cluster runs on this machine", got="--cluster auto", hint=f"Start one: `{START}`.")
    if name == "AuthenticationError" or isinstance(error, ConnectionError):
        return UsageError(
            f"The Ray cluster at {address} does not accept this process",
            got="no token" if not has_token() else "a token that it refuses, or a port that is not Ray's",
            allowed="the cluster's token, if it was started with RAY_AUTH_MODE=token",
            hint="Set RAY_AUTH_MODE=token and RAY_AUTH_TOKEN_PATH=FILE, as on the cluster's nodes; see docs/scale.md.",
        )
    return UsageError(
        f"The Ray cluster at {address} cannot be used",
        got=f"{name}: {text}"[:300],
        hint="Look at `ray status` on its head node.",
    )


def has_token() -> bool:
    """Whether this process has a token, right or wrong."""
    named = os.environ.get("RAY_AUTH_TOKEN") or os.environ.get("RAY_AUTH_TOKEN_PATH")
    return bool(named) or (Path.home() / ".ray" / "auth_token").is_file()


def asks_for_token() -> bool:
    """Whether this process identifies itself with a token."""
    return os.environ.get("RAY_AUTH_MODE", "").lower() == "token"  # Ray sets it if it found a token by itself
