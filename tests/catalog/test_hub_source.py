"""hf://datasets/...: files of the Hub as sources, from a stand-in server on this machine."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest

from pricesmith.catalog import curate
from pricesmith.catalog.readers.hub import fetch_hub
from pricesmith.catalog.readers.sources import resolve_sources
from pricesmith.core.errors import InputError, UsageError
from pricesmith.testing import make_csv

COMMIT = "0123456789abcdef0123456789abcdef01234567"


class Hub:
    """A stand-in for the Hub with one dataset, and the requests that it got."""

    def __init__(self, files: dict[str, bytes]) -> None:
        self.requests: list[tuple[str, str]] = []
        hub = self

        class Handler(BaseHTTPRequestHandler):
            def do_HEAD(self) -> None:
                self.answer(with_body=False)

            def do_GET(self) -> None:
                self.answer(with_body=True)

            def answer(self, with_body: bool) -> None:
                hub.requests.append((self.command, self.path))
                body = next(
                    (
                        data
                        for name, data in files.items()
                        for revision in ("main", COMMIT)
                        if self.path == f"/datasets/acme/shop/resolve/{revision}/{name}"
                    ),
                    None,
                )
                self.send_response(404 if body is None else 200)
                if body is None:
                    self.send_header("X-Error-Code", "EntryNotFound")
                else:
                    self.send_header("ETag", f'"{hashlib.sha256(body).hexdigest()}"')
                self.send_header("X-Repo-Commit", COMMIT)
                self.send_header("Content-Length", str(len(body or b"")))
                self.end_headers()
                if with_body and body:
                    self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        Thread(target=self.server.serve_forever, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server.server_port}"


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    from huggingface_hub import constants

    table = make_csv(tmp_path / "lamps.csv", 200).read_bytes()
    stand_in = Hub({"data/lamps.csv": table, "run.py": b"raise SystemExit"})
    monkeypatch.setenv("HF_ENDPOINT", stand_in.url)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    fetch_hub.cache_clear()
    yield stand_in
    fetch_hub.cache_clear()
    stand_in.server.shutdown()
    stand_in.server.server_close()


def test_a_file_of_the_hub_becomes_a_catalog_that_names_its_commit(hub: Hub, tmp_path: Path) -> None:
    catalog = curate(["hf://datasets/acme/shop/data/lamps.csv"], tmp_path / "out")
    assert catalog.ledger["rows"]["in"] == 200
    assert [file["file"] for file in catalog.ledger["files"]] == [f"acme/shop@{COMMIT[:12]}/data/lamps.csv"]


def test_a_revision_is_asked_for_and_downloaded_once(hub: Hub) -> None:
    address = f"hf://datasets/acme/shop@{COMMIT}/data/lamps.csv"
    (source,) = resolve_sources([address])
    assert (source.format, source.name) == ("csv", f"acme/shop@{COMMIT[:12]}/data/lamps.csv")
    asked = len(hub.requests)
    assert all(COMMIT in path for _, path in hub.requests)
    fetch_hub.cache_clear()
    resolve_sources([address])
    assert len(hub.requests) == asked


def test_a_file_that_is_not_there_is_refused_without_a_trace(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    with pytest.raises(InputError, match="could not be downloaded") as caught:
        resolve_sources(["hf://datasets/acme/shop/none.csv"])
    assert "hf_secret" not in str(caught.value)


def test_a_program_is_never_downloaded(hub: Hub) -> None:
    with pytest.raises(InputError, match="not a kind of file"):
        resolve_sources(["hf://datasets/acme/shop/run.py"])
    assert hub.requests == []


@pytest.mark.parametrize(
    "address",
    ["hf://acme/shop/lamps.csv", "hf://datasets/acme/shop", "hf://datasets/acme/shop/../x.csv", "hf://datasets/a/b/"],
)
def test_other_addresses_are_refused(address: str) -> None:
    with pytest.raises(UsageError, match="file of a dataset"):
        resolve_sources([address])
