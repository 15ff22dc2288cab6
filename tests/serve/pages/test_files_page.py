"""The tab "Price a file": an upload, its progress, its download, and errors inside the page."""

from __future__ import annotations

import csv
import io
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi.testclient import TestClient
from tests.serve.conftest import Open
from tests.serve.pages.test_price_page import first, words

from pricesmith.testing import make_csv


@pytest.fixture
def client(open_client: Open, tmp_path: Path) -> Iterator[TestClient]:
    """A client of a server with a folder of its own for uploads."""
    with open_client(uploads=tmp_path / "uploads") as opened:
        yield opened


def upload(client: TestClient, content: bytes, name: str = "new.csv", **values: str):
    """Send the form of an upload, with the token of the page."""
    token = first(r'name="token" value="([^"]+)"', client.get("/file").text)
    return client.post("/file", data={"token": token, **values}, files={"file": (name, content)})


def wait_until_done(client: TestClient, path: str) -> str:
    """The page of a file when the work on it has ended."""
    until = time.monotonic() + 240
    while "hx-trigger" in (page := client.get(path).text):
        assert time.monotonic() < until
        time.sleep(0.05)
    return page


def test_a_file_is_uploaded_priced_and_downloaded(client: TestClient, tmp_path: Path) -> None:
    content = make_csv(tmp_path / "new.csv", 60).read_bytes()
    answer = upload(client, content, comparables="yes")
    page = wait_until_done(client, answer.url.path)
    assert "60 of 60 rows have a price" in words(page)
    result = client.get(f"{answer.url.path}/result")
    assert result.headers["content-disposition"].startswith('attachment; filename="new-prices.csv"')
    rows = list(csv.DictReader(io.StringIO(result.content.decode("utf-8-sig"))))
    assert len(rows) == 60
    assert "new.csv" in client.get("/file").text

    token = first(r'name="token" value="([^"]+)"', page)
    client.post(f"{answer.url.path}/delete", data={"token": token})
    assert client.get(answer.url.path).status_code == 404


def test_errors_of_an_upload_are_inside_the_page(client: TestClient) -> None:
    answer = upload(client, b"MZ", "program.exe")
    assert answer.status_code == 422
    assert "This is not a kind of file that is read" in answer.text
    page = wait_until_done(client, upload(client, b"a,b\n1,2\n", "odd.csv").url.path)
    assert "Not priced" in page
    assert 'role="alert"' in page


def test_an_upload_without_the_token_leaves_nothing(client: TestClient) -> None:
    client.get("/file")
    answer = client.post("/file", data={"token": "x" * 43}, files={"file": ("new.csv", b"name\nDrill\n")})
    assert answer.status_code == 403
    assert "No files yet" in answer.text


def test_a_name_with_markup_is_text(client: TestClient) -> None:
    page = upload(client, b"name\nCobalt drill\n", "<img src=x onerror=alert(1)>.csv").text
    assert "<img" not in page


def test_an_unknown_file_is_said_inside_the_page(client: TestClient) -> None:
    answer = client.get("/file/f000000000000000000000000")
    assert answer.status_code == 404
    assert "There is no such file" in answer.text
