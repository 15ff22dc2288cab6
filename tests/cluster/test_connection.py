"""Addresses of clusters, and what is said about one that cannot be used."""

from __future__ import annotations

import os
import socket
import sys

import pytest

from pricesmith.cluster import connection
from pricesmith.cluster.connection import check_address, check_reachable, connect, connection_error
from pricesmith.core.errors import MissingExtra, UsageError


@pytest.mark.parametrize("address", ["auto", "10.0.0.1:6379", "node-1:1", "[fe80::1]:6379"])
def test_a_host_with_a_port_is_an_address(address: str) -> None:
    """So is auto."""
    check_address(address)


@pytest.mark.parametrize("address", ["", "local", "10.0.0.1", "10.0.0.1:port", ":6379", "a:70000", "ray://a:10001"])
def test_anything_else_is_refused(address: str) -> None:
    """Before Ray is imported."""
    with pytest.raises(UsageError, match="not the address of a Ray cluster"), connect(address):
        pass


def test_a_port_where_nothing_listens_is_reported_at_once() -> None:
    """With the command that starts a cluster there."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with pytest.raises(UsageError, match=f"no Ray cluster at 127.0.0.1:{port}") as caught:
        check_reachable(f"127.0.0.1:{port}")
    assert f"--port {port}" in caught.value.hint


@pytest.mark.parametrize(
    ("error", "what"),
    [
        (RuntimeError("Version mismatch: The cluster was started with:\n  Ray: 2.59.0"), "has other versions"),
        (ConnectionError("Could not find any running Ray instance."), "No Ray cluster runs on this machine"),
        (ConnectionError("Failed to connect to Ray cluster at a:1"), "does not accept this process"),
        (ValueError("odd"), "cannot be used"),
    ],
)
def test_each_reason_has_its_own_error(error: Exception, what: str) -> None:
    """With a next step, and no traceback."""
    told = connection_error("auto", error)
    assert what in told.what
    assert told.hint


def test_without_ray_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """The pip command can be copied."""
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(MissingExtra, match=r"pip install 'pricesmith\[cluster\]'"):
        connection.import_ray()


def test_ray_reports_nothing_to_anybody(monkeypatch: pytest.MonkeyPatch) -> None:
    """Usage statistics are switched off before Ray is imported."""
    monkeypatch.setitem(sys.modules, "ray", sys)
    for name in connection.QUIET:
        monkeypatch.delenv(name, raising=False)
    assert connection.import_ray() is sys
    assert os.environ["RAY_USAGE_STATS_ENABLED"] == "0"
    for name in connection.QUIET:
        monkeypatch.delenv(name)
