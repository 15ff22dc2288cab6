"""Sold prices and idempotency keys: stored before they are answered, once, and deletable."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from pricesmith.serve.log import RequestLog
from pricesmith.serve.log_records import LogUnavailable

TEXT = "Cobalt drill, size 12 kg\nWith a case"
TODAY = datetime.now(UTC).date()


@pytest.fixture
def logged(open_client: Any, tmp_path: Path) -> Iterator[TestClient]:
    """A client of a server with a log."""
    with open_client(log_path=tmp_path / "log.db") as client:
        yield client


def log_of(client: TestClient) -> RequestLog:
    app: Any = client.app
    return app.state.service.log


def test_a_sold_price_is_stored_with_the_quote_that_was_given(logged: TestClient) -> None:
    quote = logged.post("/v1/price", json={"text": TEXT}).json()
    body = {"quote_id": quote["id"], "sold_price": 20.5, "listing": TEXT, "sold_on": TODAY.isoformat()}
    answer = logged.post("/v1/feedback", json=body)
    assert (answer.status_code, answer.json()["price"]) == (201, quote["price"])
    (stored,) = log_of(logged).read_feedback()
    assert stored.feedback_id == answer.json()["feedback_id"]
    assert (stored.title, stored.text) == ("Cobalt drill, size 12 kg", "With a case")
    assert (stored.sold_price, stored.currency, stored.price) == (20.5, "USD", quote["price"])
    assert stored.identity == log_of(logged).read_quotes()[0].identity


def test_a_sold_thing_that_was_never_priced_is_quoted_now(logged: TestClient) -> None:
    listing = {"title": "Aster lamp", "text": "brass", "brand": "Aster", "category": "lamps"}
    answer = logged.post("/v1/feedback", json={"sold_price": 9, "currency": "EUR", "listing": listing}).json()
    (stored,) = log_of(logged).read_feedback()
    assert stored.price == answer["price"] == logged.post("/v1/price", json=listing).json()["price"]
    assert (stored.currency, stored.quote_currency, stored.brand) == ("EUR", "USD", "Aster")


def test_a_deleted_sold_price_is_gone(logged: TestClient) -> None:
    id = logged.post("/v1/feedback", json={"sold_price": 9, "listing": TEXT}).json()["feedback_id"]
    assert logged.delete(f"/v1/feedback/{id}").status_code == 204
    assert logged.delete(f"/v1/feedback/{id}").status_code == 404
    assert log_of(logged).read_feedback() == []


@pytest.mark.parametrize(
    ("change", "status"),
    [
        ({"sold_price": 0}, 422),
        ({"sold_price": -1}, 422),
        ({"sold_price": 1e400}, 422),
        ({"sold_price": None}, 422),
        ({"sold_on": (TODAY + timedelta(days=3)).isoformat()}, 422),
        ({"sold_on": "yesterday"}, 422),
        ({"currency": "dollars"}, 422),
        ({"listing": None}, 404),
        ({"listing": None, "quote_id": "nothing"}, 404),
        ({"listing": "x"}, 422),
        ({"model": "none"}, 404),
        ({"price": 3}, 422),
    ],
)
def test_a_wrong_sold_price_is_refused_and_not_stored(logged: TestClient, change: dict[str, Any], status: int) -> None:
    import json

    content = json.dumps({"sold_price": 9, "listing": TEXT, **change})
    answer = logged.post("/v1/feedback", content=content, headers={"content-type": "application/json"})
    assert (answer.status_code, set(answer.json())) == (status, {"error"})
    assert log_of(logged).read_feedback() == []


def test_a_server_without_a_log_says_so(client: TestClient) -> None:
    answer = client.post("/v1/feedback", json={"sold_price": 9, "listing": TEXT})
    assert (answer.status_code, answer.json()["error"]["what"]) == (503, "This server keeps no log")


def test_nothing_is_answered_if_the_log_cannot_be_written(logged: TestClient, monkeypatch: Any) -> None:
    async def fail(*_: Any, **__: Any) -> None:
        raise LogUnavailable("The log cannot be written", got="the disk is full")

    monkeypatch.setattr(log_of(logged), "record_quotes", fail)
    monkeypatch.setattr(log_of(logged), "record_feedback", fail)
    for path, body in (
        ("/v1/price", {"text": TEXT}),
        ("/v1/price/batch", {"listings": [TEXT]}),
        ("/v1/feedback", {"sold_price": 9, "listing": TEXT}),
    ):
        answer = logged.post(path, json=body)
        assert (answer.status_code, answer.json()["error"]["what"]) == (503, "The log cannot be written")


def test_an_explained_price_is_recorded_once(logged: TestClient) -> None:
    logged.post("/v1/price?explain=true", json={"text": TEXT})
    assert len(log_of(logged).read_quotes()) == 1


@pytest.mark.parametrize(
    ("path", "body"),
    [("/v1/price/batch", {"listings": [TEXT, "x"]}), ("/v1/feedback", {"sold_price": 9, "listing": TEXT})],
)
def test_a_repeated_request_is_done_once(logged: TestClient, path: str, body: dict[str, Any]) -> None:
    headers = {"Idempotency-Key": "first"}
    first = logged.post(path, json=body, headers=headers)
    again = logged.post(path, json=body, headers=headers)
    assert (again.status_code, again.content) == (first.status_code, first.content)
    assert "idempotency-replayed" not in first.headers
    assert again.headers["idempotency-replayed"] == "true"
    counts = log_of(logged).count_rows()
    assert counts["quotes"] + counts["feedback"] == 1
    other = logged.post(path, json={**body, "model": "median"}, headers=headers)
    assert other.status_code == 422
    assert logged.post(f"{path}?comparables=1", json=body, headers=headers).status_code == 422
    assert logged.post(path, json=body, headers={"Idempotency-Key": "second"}).json() != first.json()


def test_a_request_in_progress_is_not_done_twice(logged: TestClient) -> None:
    body = b'{"listings": ["Cobalt drill"]}'
    log = log_of(logged)
    log.reserve_sync("first", "POST /v1/price/batch", log.hash_bytes(b"\0" + body))
    headers = {"Idempotency-Key": "first", "content-type": "application/json"}
    answer = logged.post("/v1/price/batch", content=body, headers=headers)
    assert (answer.status_code, answer.headers["retry-after"]) == (409, "1")


def test_a_failed_request_can_be_repeated(logged: TestClient) -> None:
    headers = {"Idempotency-Key": "first"}
    assert logged.post("/v1/feedback", json={"sold_price": 9}, headers=headers).status_code == 404
    assert logged.post("/v1/feedback", json={"sold_price": 9, "listing": TEXT}, headers=headers).status_code == 201
    assert logged.post("/v1/feedback", json={"sold_price": 9}, headers={"Idempotency-Key": "a b"}).status_code == 422
