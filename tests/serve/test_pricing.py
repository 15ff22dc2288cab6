"""Prices over REST: the same as from Python, and clear errors."""

from __future__ import annotations

from pathlib import Path

import pytest
from fastapi.testclient import TestClient

import pricesmith as ps

TEXT = "Cobalt drill, size 12 kg"


def test_a_price_over_rest_is_the_price_from_python(client: TestClient, served_models: dict[str, Path]) -> None:
    quote = ps.load(served_models["ridge"]).predict(TEXT)
    answer = client.post("/v1/price", json={"text": TEXT}).json()
    assert (answer["price"], answer["low"], answer["high"]) == pytest.approx(
        (quote.price, quote.low, quote.high), abs=0.005
    )
    assert answer["currency"] == "USD"
    assert answer["model"] == "ridge"
    assert answer["level"] == 0.9


def test_a_model_is_chosen_by_its_name(client: TestClient) -> None:
    prices = [
        client.post("/v1/price", json={"text": TEXT, "model": name}).json()["price"] for name in ("ridge", "median")
    ]
    assert prices[0] != prices[1]


def test_a_batch_answers_in_order_and_says_why_a_listing_has_no_price(client: TestClient) -> None:
    listings = [TEXT, "x", {"title": "Aster lamp", "brand": "Aster"}, {"text": "Lamp", "fields": {"no such column": 1}}]
    quotes = client.post("/v1/price/batch", json={"listings": listings}).json()["quotes"]
    assert [quote["price"] is None for quote in quotes] == [False, True, False, True]
    assert quotes[1]["note"] == "There is too little to price"
    assert quotes[3]["note"] == "This model has no field 'no such column'"
    assert quotes[0]["price"] == client.post("/v1/price", json={"text": TEXT}).json()["price"]


def test_comparables_are_similar_training_listings(client: TestClient) -> None:
    answer = client.post("/v1/price?comparables=3", json={"text": TEXT}).json()
    assert len(answer["comparables"]) == 3
    assert "drill" in answer["comparables"][0]["title"].lower()


@pytest.mark.parametrize(
    ("body", "status", "what"),
    [
        (b'{"text": "x"}', 422, "There is too little to price"),
        (b"{}", 422, "There is nothing to price"),
        (b'{"text": "Cobalt drill", "model": "none"}', 404, "There is no model of this name"),
        (b'{"texts": "Cobalt drill"}', 422, "A value of the request is wrong: texts"),
        (b'{"text": "Cobalt drill"', 400, "The request is not valid JSON"),
        (b'{"title": NaN}', 422, "A value of the request is wrong: title"),
        (b'{"text": "\xff"}', 400, "The request cannot be read: it is not valid JSON or not UTF-8."),
        (b"", 422, "A value of the request is wrong: the body"),
    ],
)
def test_a_wrong_request_is_answered_in_the_one_shape(client: TestClient, body: bytes, status: int, what: str) -> None:
    answer = client.post("/v1/price", content=body, headers={"content-type": "application/json"})
    error = answer.json()["error"]
    assert (answer.status_code, error["what"]) == (status, what)
    assert set(error) == {"what", "got", "allowed", "next", "request_id"}
    assert error["next"]
    assert error["request_id"] == answer.headers["x-request-id"]


@pytest.mark.parametrize("content_type", [None, "application/x-www-form-urlencoded", "text/plain"])
def test_a_body_that_is_not_sent_as_json_says_which_header_is_missing(
    client: TestClient, content_type: str | None
) -> None:
    headers = {"content-type": content_type} if content_type else {}
    answer = client.post("/v1/price", content=b'{"text": "Cobalt drill, 12 kg"}', headers=headers)
    assert answer.status_code == 422
    assert answer.json()["error"]["next"] == "Send JSON with the header Content-Type: application/json."


def test_an_unknown_path_says_so(client: TestClient) -> None:
    answer = client.get("/v2/price")
    assert (answer.status_code, answer.json()["error"]["what"]) == (404, "There is nothing at this path")
