"""Models that are served in the tests, fitted once, and a client of an application in this process."""

from __future__ import annotations

import asyncio
import json
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from tests.forks import fork

import pricesmith as ps
from pricesmith.serve.app import create_app
from pricesmith.serve.service import ServeSettings, Service
from pricesmith.testing import make_csv


@pytest.fixture(scope="session")
def served_catalog(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A catalog of made goods."""
    folder = tmp_path_factory.mktemp("serve")
    ps.curate(make_csv(folder / "shop.csv", 600), folder / "catalog")
    return folder / "catalog"


@pytest.fixture(scope="session")
def served_models(served_catalog: Path) -> dict[str, Path]:
    """The folders of a ridge and of a median."""
    for kind in ("ridge", "median"):
        ps.fit(kind, served_catalog, served_catalog.with_name(kind))
    return {kind: served_catalog.with_name(kind) for kind in ("ridge", "median")}


@pytest.fixture
def model_copy(served_models: dict[str, Path], tmp_path: Path) -> Path:
    """A copy of the ridge that a test may change."""
    return Path(shutil.copytree(served_models["ridge"], tmp_path / "ridge"))


Open = Callable[..., AbstractContextManager[TestClient]]


@pytest.fixture
def open_client(served_models: dict[str, Path]) -> Open:
    """Opens a client of a server with these models (default: ridge and median) and settings."""

    @contextmanager
    def opened(models: dict[str, Path] | None = None, **settings: Any) -> Iterator[TestClient]:
        service = Service(models or served_models, ServeSettings(**settings))
        app = create_app(service)
        root = service.settings.root_path
        with TestClient(app, "http://127.0.0.1:8000", raise_server_exceptions=False, root_path=root) as client:
            yield client

    return opened


@dataclass
class ServerProcess:
    """A server in a process of its own."""

    url: str
    port: int
    pid: int


@pytest.fixture(scope="session")
def server(served_models: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """`pricesmith serve` with both models, on a free port; a request must arrive within five seconds."""
    folder = tmp_path_factory.mktemp("server")
    models = [str(path) for path in served_models.values()]
    options = ["--port", "0", "--json", "--body-timeout", "5", "--max-upload", "3", "--log", str(folder / "log.db")]
    code = "import sys; from pricesmith.cli import main; sys.exit(main())"
    with (folder / "errors.txt").open("w") as errors:
        process = fork(code, "serve", *models, *options, stdout=subprocess.PIPE, stderr=errors)
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line, (folder / "errors.txt").read_text()
        url = json.loads(line)["url"]
        yield ServerProcess(url, int(url.rpartition(":")[2]), process.pid)
        process.terminate()
        assert process.wait(240) in (0, -signal.SIGTERM)
        assert "Traceback" not in (folder / "errors.txt").read_text()
    finally:
        process.kill()
        process.communicate()


@pytest.fixture
def client(open_client: Open) -> Iterator[TestClient]:
    """A client of a server with default settings."""
    with open_client() as opened:
        yield opened


def run_async(work: Any) -> Any:
    """The result of a coroutine."""
    return asyncio.run(work)
