"""The Python client: the prices of the model, every request done once, and errors in the server's words."""

from __future__ import annotations

import asyncio
import doctest
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx2
import pyarrow as pa
import pytest
from tests.serve.conftest import ServerProcess

import pricesmith as ps
from pricesmith.client import http_client
from pricesmith.core.progress import Progress
from pricesmith.core.types import Listing
from pricesmith.testing import make_csv

TEXT = "Cobalt drill, size 12 kg"


@pytest.fixture
def client(server: ServerProcess) -> Iterator[ps.Client]:
    """A client of the server in its own process."""
    with ps.Client(server.url) as opened:
        yield opened


@pytest.fixture(scope="module")
def model(served_models: dict[str, Path]) -> ps.PriceModel:
    """The model that is served."""
    return ps.load(served_models["ridge"])


def test_a_price_is_that_of_the_model(client: ps.Client, model: ps.PriceModel) -> None:
    answer = client.price(TEXT, comparables=2, explain=True)
    quote = model.predict(TEXT)
    assert (answer.price, answer.low, answer.high) == pytest.approx((quote.price, quote.low, quote.high), abs=0.005)
    assert (answer.currency, answer.level, answer.model) == ("USD", 0.9, "ridge")
    assert [near.id for near in answer.comparables] == [near.id for near in model.comparables(TEXT, 2)]
    assert {part for part, _ in answer.explanation or ()} == set(TEXT.split())


@pytest.mark.parametrize(
    "listing", [TEXT, {"title": "Cobalt drill", "brand": "Cobalt"}, Listing("1", "Cobalt drill", "12 kg")]
)
def test_texts_dicts_and_listings_are_priced(client: ps.Client, listing: Any) -> None:
    assert client.price(listing, model="median").price == client.price_many([listing], model="median")[0].price


def test_many_prices_keep_their_order(client: ps.Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pricesmith.client.steps.BATCH", 3)
    listings = [f"Cobalt drill, size {size} kg" for size in range(1, 9)]
    answers = client.price_many([*listings, "x"])
    assert [answer.price for answer in answers[:-1]] == [client.price(listing).price for listing in listings]
    assert (answers[-1].price, answers[-1].note) == (None, "There is too little to price")
    assert client.price_many([]) == []


def test_a_dataframe_comes_back_with_prices(client: ps.Client, model: ps.PriceModel, tmp_path: Path) -> None:
    import pyarrow.csv

    frame = pyarrow.csv.read_csv(make_csv(tmp_path / "new.csv", 12, seed=3)).drop_columns(["price"])
    priced = client.price_many(frame)
    assert isinstance(priced, pa.Table)
    assert priced.column_names == [*frame.column_names, "price", "low", "high", "note"]
    expected = model.predict(frame).column("price").to_pylist()
    assert priced.column("price").to_pylist() == pytest.approx(expected, abs=0.005)


def test_a_file_is_uploaded_priced_and_downloaded(
    client: ps.Client, served_models: dict[str, Path], tmp_path: Path
) -> None:
    steps: list[tuple[str, int]] = []

    class Noted(Progress):
        def start(self, what: str, total: int | None = None) -> None:
            steps.append((what, total or 0))

        def advance(self, number: int = 1) -> None:
            steps.append(("", number))

    file = make_csv(tmp_path / "new.csv", 30, seed=4)
    facts = client.price_file(file, tmp_path / "prices.csv", comparables=1, progress=Noted(), poll=0.05)
    ps.price_file(served_models["ridge"], file, tmp_path / "own.csv", comparables=1)
    assert (tmp_path / "prices.csv").read_bytes() == (tmp_path / "own.csv").read_bytes()
    assert (facts["rows"], facts["priced"]) == (30, 30)
    assert steps[0] == ("uploading new.csv", 0)
    with pytest.raises(ps.UsageError, match="exists"):
        client.price_file(file, tmp_path / "prices.csv")
    with pytest.raises(ps.UsageError, match="cannot be written"):
        client.price_file(file, tmp_path / "prices.pdf")
    (tmp_path / "odd.csv").write_text("a,b\n1,2\n")
    with pytest.raises(ps.UsageError):
        client.price_file(tmp_path / "odd.csv", tmp_path / "odd-prices.csv", poll=0.05)
    assert not (tmp_path / "odd-prices.csv").exists()


def test_sold_prices_are_recorded_and_deleted(client: ps.Client) -> None:
    id = client.feedback(20.5, TEXT, quote_id=client.price(TEXT).id, sold_on="2026-10-03")
    client.delete_feedback(id)
    with pytest.raises(ps.UsageError, match="no such feedback"):
        client.delete_feedback(id)


def test_models_are_listed_and_errors_have_the_words_of_the_server(client: ps.Client) -> None:
    assert [model["name"] for model in client.models()] == ["ridge", "median"]
    with pytest.raises(ps.UsageError, match="no model of this name") as raised:
        client.price(TEXT, model="none")
    assert raised.value.allowed == "ridge, median"
    with pytest.raises(ps.PricesmithError, match="has no keys"):
        client.reload()
    with pytest.raises(ps.UsageError, match="prices descriptions"):
        client.price(12)  # type: ignore[arg-type]
    with pytest.raises(ps.UsageError, match="takes a list"):
        client.price_many(TEXT)


def test_the_async_client_has_the_same_answers(client: ps.Client, server: ServerProcess, tmp_path: Path) -> None:
    async def work() -> None:
        async with ps.AsyncClient(server.url) as other:
            answers = await asyncio.gather(*(other.price(f"{TEXT} {number}") for number in range(5)))
            assert [answer.price for answer in answers] == [
                client.price(f"{TEXT} {number}").price for number in range(5)
            ]
            assert [answer.price for answer in await other.price_many([TEXT])] == [client.price(TEXT).price]
            file = make_csv(tmp_path / "new.csv", 10, seed=4)
            facts = await other.price_file(file, tmp_path / "prices.jsonl", poll=0.05)
            assert len((tmp_path / "prices.jsonl").read_text().splitlines()) == facts["rows"] == 10
            await other.delete_feedback(await other.feedback(3.0, TEXT))
            assert len(await other.models()) == 2
            with pytest.raises(ps.PricesmithError, match="has no keys"):
                await other.reload()

    asyncio.run(work())


Script = list[tuple[int, dict[str, str], Any]]


@contextmanager
def scripted(script: Script) -> Iterator[tuple[str, list[tuple[str, str, str]]]]:
    """A server that answers one request after another as it is told (status 0: it breaks the connection), and the
    requests: method, path and idempotency key."""
    requests: list[tuple[str, str, str]] = []

    class Handler(BaseHTTPRequestHandler):
        def handle_one(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            requests.append((self.command, self.path, self.headers.get("Idempotency-Key", "")))
            status, headers, body = script.pop(0)
            if status:
                content = json.dumps(body).encode()
                self.send_response(status)
                for name, value in {**headers, "Content-Length": str(len(content))}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(content)
            self.close_connection = True

        do_GET = do_POST = do_DELETE = handle_one

        def log_message(self, *_: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as httpd:
        thread = threading.Thread(target=httpd.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{httpd.server_port}", requests
        finally:
            httpd.shutdown()
            thread.join()


BUSY = {"error": {"what": "Too many listings wait", "got": "", "allowed": "", "next": "Try again"}}
PRICE = {"id": "1", "price": 2.0}


def test_a_busy_server_is_asked_again_after_the_time_that_it_names() -> None:
    waits: list[float] = []
    script: Script = [(429, {"Retry-After": "7"}, BUSY), (503, {}, BUSY), (200, {}, PRICE)]
    with scripted(script) as (url, requests), ps.Client(url, sleep=waits.append) as client:
        assert client.price(TEXT).price == 2.0
    assert len(requests) == 3
    assert 7 <= waits[0] <= 8
    assert waits[1] <= 1


def test_a_server_that_stays_busy_is_given_up() -> None:
    with (
        scripted([(429, {}, BUSY)] * 3) as (url, _),
        ps.Client(url, retries=2, sleep=lambda _: None) as client,
        pytest.raises(ps.PricesmithError, match="Too many listings wait"),
    ):
        client.price(TEXT)
    with scripted([(429, {"Retry-After": "9999"}, BUSY)]) as (url, requests), ps.Client(url) as client:
        with pytest.raises(ps.PricesmithError, match="Too many listings wait"):
            client.price(TEXT)
        assert len(requests) == 1


def test_a_broken_connection_repeats_only_what_is_done_once() -> None:
    with scripted([(0, {}, None)]) as (url, requests), ps.Client(url, sleep=lambda _: None) as client:
        with pytest.raises(ps.PricesmithError, match="does not answer"):
            client.price(TEXT)
        assert len(requests) == 1
    script: Script = [(0, {}, None), (200, {}, {"quotes": [PRICE]})]
    with scripted(script) as (url, requests), ps.Client(url, sleep=lambda _: None) as client:
        assert client.price_many([TEXT])[0].price == 2.0
    assert requests[0] == requests[1]
    assert len(requests[0][2]) == 32


def test_a_server_that_is_not_there_is_named() -> None:
    with scripted([]) as (url, _):
        pass
    error = pytest.raises(ps.PricesmithError, match="does not answer")
    with ps.Client(url, retries=1, sleep=lambda _: None) as client, error as raised:
        client.price(TEXT)
    assert "pricesmith serve" in raised.value.hint


@pytest.mark.parametrize(
    "url", ["127.0.0.1:8000", "ftp://host", "http://", "http://user:secret@host", "http://h?key=1"]
)
def test_a_wrong_url_is_refused_without_showing_a_password(url: str) -> None:
    with pytest.raises(ps.UsageError) as raised:
        ps.Client(url)
    assert "secret" not in str(raised.value)


def test_a_key_is_sent_encrypted_and_never_shown() -> None:
    with pytest.raises(ps.UsageError, match="without encryption"):
        ps.Client("http://prices.example.com", "key-123")
    with ps.Client("https://prices.example.com", "key-123") as client:
        assert "key-123" not in repr(client)
        assert isinstance(client.http, httpx2.Client)


def test_the_example_of_the_client_runs(server: ServerProcess) -> None:
    result = doctest.testmod(http_client, extraglobs={"url": server.url})
    assert (result.attempted, result.failed) == (2, 0)
