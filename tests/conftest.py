"""What the tests run by default: offline, on a CPU, in minutes. Slow ones are asked for."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
from hypothesis import settings
from tests.postgresql_server import PASSWORD, Server, find_programs, run_server

from pricesmith.core.cores_and_memory import available_cores
from pricesmith.pricers import KINDS

# Threads of OpenMP that share cores with other work spin: tuning a made model took minutes for seconds.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# A busy machine is no failure: the time of an example says nothing about the code.
settings.register_profile("tests", deadline=None)
settings.load_profile("tests")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--run-slow", action="store_true", help="also run tests that take over ten seconds")


def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """One more process than cores: tests of servers and of child processes often wait."""
    return available_cores() + 1


@pytest.fixture(scope="session")
def is_thorough(request: pytest.FixtureRequest) -> bool:
    """Whether slow tests were asked for. Tests of many random or similar cases then take all of them."""
    return bool(request.config.getoption("--run-slow"))


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if config.getoption("--run-slow"):
        return
    for item in items:
        if "slow" in item.keywords:
            item.add_marker(pytest.mark.skip(reason="slow: runs with --run-slow"))


@pytest.fixture
def hybrid_kind(monkeypatch: pytest.MonkeyPatch) -> str:
    """The kind of a recipe that asks a fake API model."""
    monkeypatch.setitem(KINDS, "fake_hybrid", "pricesmith.testing.hybrid:FakeHybrid")
    return "fake_hybrid"


@pytest.fixture(scope="session")
def running_server() -> Iterator[Server]:
    """A PostgreSQL server on loopback, started once."""
    programs = find_programs()
    if programs is None:
        pytest.skip("needs a PostgreSQL server, such as the package postgresql of Debian")
    with run_server(programs) as server:
        yield server


@pytest.fixture
def server(running_server: Server, monkeypatch: pytest.MonkeyPatch) -> Server:
    """The server, with its password in PGPASSWORD."""
    monkeypatch.setenv("PGPASSWORD", PASSWORD)
    return running_server
