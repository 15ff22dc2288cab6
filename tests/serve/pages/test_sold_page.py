"""Sold prices on the page: stored with their text, listed, deleted for good; errors keep what was typed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi.testclient import TestClient
from tests.serve.conftest import Open
from tests.serve.pages.test_price_page import TEXT, first, send, words

import pricesmith as ps
from pricesmith.serve.feedback_source import curate_feedback
from pricesmith.serve.log import FeedbackRecord, LogReader, RequestLog, new_quote_id
from pricesmith.serve.pages.wording import describe_price


@pytest.fixture
def log_path(tmp_path: Path) -> Path:
    """A log."""
    return tmp_path / "shop.requests.db"


@pytest.fixture
def client(open_client: Open, log_path: Path) -> Iterator[TestClient]:
    """A client of a server with a log."""
    with open_client(log_path=log_path) as opened:
        yield opened


def test_a_sold_price_is_stored_with_the_quote_that_was_shown(client: TestClient, log_path: Path) -> None:
    page = send(client, text=TEXT).text
    quote_id = first(r'name="quote_id" value="([^"]+)"', page)
    assert "What you typed above is stored with the price" in page
    answer = send(client, "/sold", text=TEXT, quote_id=quote_id, sold_price="$1,299.50", sold_on="2026-10-03")
    assert answer.url.path == "/sold"
    assert "Cobalt drill, size 12 kg" in answer.text
    assert "3 October 2026" in answer.text
    (row,) = LogReader(log_path).read_feedback()
    assert (row.sold_price, row.currency, row.title, row.quote_id) == (1299.5, "USD", TEXT, quote_id)
    assert row.price is not None


def test_a_price_in_another_currency_is_stored_in_it(client: TestClient, log_path: Path) -> None:
    send(client, "/sold", text=TEXT, sold_price="95 €")
    (row,) = LogReader(log_path).read_feedback()
    assert (row.sold_price, row.currency) == (95.0, "EUR")


@pytest.mark.parametrize(
    ("values", "what"),
    [
        ({"sold_price": "cheap"}, "This is not the price of a sale"),
        ({"sold_price": "0"}, "This is not the price of a sale"),
        ({"sold_price": ""}, "This is not the price of a sale"),
        ({"sold_price": "9", "sold_on": "yesterday"}, "This is not the day of a sale"),
        ({"sold_price": "9", "sold_on": "2999-01-01"}, "sold_on is in the future"),
        ({"sold_price": "9", "text": ""}, "There is no such quote in the log"),
    ],
)
def test_a_wrong_sold_price_is_an_error_inside_the_page(
    client: TestClient, log_path: Path, values: dict[str, str], what: str
) -> None:
    answer = send(client, "/sold", **{"text": TEXT, **values})
    assert answer.status_code in (404, 422)
    assert what in answer.text
    assert f">\n{values.get('text', TEXT)}</textarea>" in answer.text
    assert not LogReader(log_path).read_feedback()


def test_htmx_gets_a_thank_you_or_the_form_with_the_error(client: TestClient) -> None:
    token = first(r'name="token" value="([^"]+)"', client.get("/").text)
    values = {"token": token, "text": TEXT, "sold_price": "cheap"}
    headers = {"hx-request": "true"}
    wrong = client.post("/sold", data=values, headers=headers).text
    assert 'value="cheap"' in wrong
    assert 'role="alert"' in wrong
    assert "Saved. Thank you" in client.post("/sold", data={**values, "sold_price": "20"}, headers=headers).text


def test_a_deleted_sold_price_is_gone_from_the_file(client: TestClient, log_path: Path) -> None:
    page = send(client, "/sold", text="Zanzibar heirloom clock", sold_price="20").text
    assert b"Zanzibar" in b"".join(path.read_bytes() for path in log_path.parent.glob("*.db*"))
    answer = send(client, "/sold/delete", feedback_id=first(r'name="feedback_id" value="([^"]+)"', page))
    assert "No sold prices yet" in answer.text
    assert b"Zanzibar" not in b"".join(path.read_bytes() for path in log_path.parent.glob("*.db*"))


def test_sold_prices_are_paged_the_newest_first(client: TestClient) -> None:
    for number in range(27):
        send(client, "/sold", text=f"Cobalt drill, size {number} kg", sold_price="20")
    page = client.get("/sold").text
    assert page.index("size 26 kg") < page.index("size 3 kg")
    assert "size 1 kg" not in page
    assert "size 1 kg" in client.get("/sold?page=2").text
    for odd in ("99", "0", "-1", "x", "9" * 30):
        assert client.get(f"/sold?page={odd}").status_code == 200


def test_a_server_without_a_log_says_how_to_start_one(open_client: Open) -> None:
    with open_client() as client:
        assert "pricesmith serve MODEL --log FILE" in client.get("/sold").text
        assert "Sold it?" not in send(client, text=TEXT).text


def test_what_moved_the_price_is_shown_with_and_without_htmx(client: TestClient, log_path: Path) -> None:
    token = first(r'name="token" value="([^"]+)"', client.get("/").text)
    values = {"token": token, "text": TEXT, "quote_id": "q1"}
    part = client.post("/moved", data=values, headers={"hx-request": "true"}).text
    assert "<html" not in part
    page = client.post("/moved", data=values).text
    assert "likely" in words(page)
    for text in (part, page):
        assert "Part of the text" in text
        assert "drill" in text
    assert not LogReader(log_path).read_quotes()


def test_what_each_model_says_is_shown_with_and_without_htmx(client: TestClient) -> None:
    token = first(r'name="token" value="([^"]+)"', client.get("/").text)
    values = {"token": token, "text": TEXT, "quote_id": "q1"}
    for headers in ({}, {"hx-request": "true"}):
        page = words(client.post("/models", data=values, headers=headers).text)
        assert "ridge above $" in page
        assert "median $" in page


def test_a_model_of_sold_listings_says_so(
    open_client: Open, served_models: dict[str, Path], served_catalog: Path, tmp_path: Path
) -> None:
    model = ps.load(served_models["ridge"])
    with RequestLog(tmp_path / "shop.requests.db") as log:
        for item in ps.catalog.open(served_catalog).items("train")[:200]:
            listing = item.listing
            sold = FeedbackRecord(new_quote_id(), item.price, "USD", title=listing.title, text=listing.text)
            log.record_feedback_sync(sold)
    curate_feedback(tmp_path / "shop.requests.db", tmp_path / "sold")
    ps.fit("ridge", tmp_path / "sold", tmp_path / "ridge")
    assert "It is an asking price in US dollars" in describe_price(model, has_range=True)
    with open_client({"ridge": tmp_path / "ridge"}) as client:
        page = words(send(client, text=TEXT).text)
    assert "9 of 10 things like this were sold inside that range. It is a selling price in US dollars" in page
    assert "listings that were sold on" in page
