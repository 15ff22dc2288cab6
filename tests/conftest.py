"""What the tests run by default: offline, on a CPU, in minutes. Slow ones are asked for."""

from __future__ import annotations

import gc
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from tests.postgresql_server import PASSWORD, Server, find_programs, run_server

from pricesmith.core.cores_and_memory import available_cores
from pricesmith.pricers import KINDS

# Threads of OpenMP that share cores with other work spin: tuning a made model took minutes for seconds.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# A busy machine is no failure: the time of an example says nothing about the code. A property has 50 examples, and 300
# with --run-slow.
LOADED: dict[str, Any] = {"deadline": None, "suppress_health_check": [HealthCheck.too_slow]}
settings.register_profile("tests", max_examples=50, **LOADED)
settings.register_profile("thorough", max_examples=300, **LOADED)
settings.load_profile("tests")
# The files that take longest, longest first. They start first, so that no process works alone at the end of the run.
LONGEST = (
    "test_docs.py",
    "cluster/test_two_nodes.py",
    "pricers/test_every_kind.py",
    "test_faults.py",
    "serve/pages/test_browser.py",
    "test_build.py",
    "test_package.py",
    "catalog/test_postgresql_source.py",
    "pricers/api/test_killed.py",
    "pricers/llm/test_lora.py",
    "catalog/test_damaged_catalogs.py",
    "catalog/test_first_pass.py",
    "test_notebook.py",
    "pricers/test_damaged_models.py",
    "exporting/test_tuned.py",
    "pricers/api/test_eval.py",
    "pricers/hybrid/test_cascade.py",
    "test_benchmarks.py",
    "pricers/llm/test_trainer.py",
    "serve/test_schemathesis.py",
    "serve/test_hostile.py",
    "serve/test_process.py",
    "serve/test_api_backed.py",
    "test_demo_llm.py",
    "test_privacy.py",
    "pricers/ensemble/test_stacking.py",
    "catalog/test_sandbox.py",
    "base_models/test_memory.py",
    "base_models/test_choose.py",
    "human/test_terminal.py",
)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--run-slow", action="store_true", help="also run tests that take over ten seconds")


def pytest_configure(config: pytest.Config) -> None:
    """Property tests take more examples if slow tests are asked for."""
    if config.getoption("--run-slow"):
        settings.load_profile("thorough")


def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """One more process than cores: tests of servers and of child processes often wait."""
    return available_cores() + 1


@pytest.fixture(scope="session")
def is_thorough(request: pytest.FixtureRequest) -> bool:
    """Whether slow tests were asked for. Tests of many random or similar cases then take all of them."""
    return bool(request.config.getoption("--run-slow"))


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Put the longest files first, and skip slow tests unless they are asked for."""
    tests = Path(__file__).parent
    ranks = {tests / name: rank for rank, name in enumerate(LONGEST)}
    items.sort(key=lambda item: ranks.get(item.path, len(ranks)))
    if config.getoption("--run-slow"):
        return
    for item in items:
        if "slow" in item.keywords:
            item.add_marker(pytest.mark.skip(reason="slow: runs with --run-slow"))


def pytest_collection_finish() -> None:
    """Keep the collected tests and the imported modules out of every later garbage collection."""
    gc.collect()
    gc.freeze()


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
