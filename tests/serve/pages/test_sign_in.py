"""Signing in to the page of a server with keys."""

from __future__ import annotations

from pathlib import Path

from tests.serve.conftest import Open
from tests.serve.pages.test_price_page import TEXT, first

from pricesmith.serve.keys import add_key, remove_key

PAGE = {"accept": "text/html"}


def test_a_page_needs_a_sign_in_that_ends_with_the_key(open_client: Open, tmp_path: Path) -> None:
    keys = tmp_path / "keys.json"
    key = add_key(keys, "desk")
    with open_client(keys_path=keys) as client:
        answer = client.get("/", headers=PAGE)
        assert answer.url.path == "/sign-in"
        token = first(r'name="token" value="([^"]+)"', answer.text)
        wrong = client.post("/sign-in", data={"token": token, "key": "ps_" + "x" * 43}, headers=PAGE)
        assert wrong.status_code == 401
        assert "This key is not valid" in wrong.text

        page = client.post("/sign-in", data={"token": token, "key": f" {key} "}, headers=PAGE)
        assert page.url.path == "/"
        assert key not in str(client.cookies)
        assert "Sign out" in page.text
        assert "likely" in client.post("/", data={"token": token, "text": TEXT}, headers=PAGE).text

        assert client.post("/sign-out", data={"token": token}, headers=PAGE).url.path == "/sign-in"
        assert client.get("/", headers=PAGE).url.path == "/sign-in"

        add_key(keys, "other")
        client.post("/sign-in", data={"token": token, "key": key}, headers=PAGE)
        assert client.get("/", headers=PAGE).url.path == "/"
        remove_key(keys, "desk")
        assert client.get("/", headers=PAGE).url.path == "/sign-in"


def test_the_cookie_of_a_sign_in_is_out_of_reach_of_scripts_and_other_sites(open_client: Open, tmp_path: Path) -> None:
    key = add_key(tmp_path / "keys.json", "desk")
    with open_client(keys_path=tmp_path / "keys.json") as client:
        token = first(r'name="token" value="([^"]+)"', client.get("/sign-in").text)
        answer = client.post("/sign-in", data={"token": token, "key": key}, follow_redirects=False)
        cookie = answer.headers["set-cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=Strict" in cookie


def test_htmx_is_sent_to_the_sign_in_when_it_has_ended(open_client: Open, tmp_path: Path) -> None:
    add_key(tmp_path / "keys.json", "desk")
    with open_client(keys_path=tmp_path / "keys.json") as client:
        answer = client.post("/", data={"text": TEXT}, headers={**PAGE, "hx-request": "true"}, follow_redirects=False)
    assert (answer.status_code, answer.headers["hx-redirect"]) == (401, "/sign-in")


def test_without_keys_there_is_no_sign_in(open_client: Open) -> None:
    with open_client() as client:
        assert client.get("/sign-in").url.path == "/"


def test_the_limit_of_a_key_is_an_error_inside_the_page(open_client: Open, tmp_path: Path) -> None:
    key = add_key(tmp_path / "keys.json", "desk", per_minute=1)
    with open_client(keys_path=tmp_path / "keys.json") as client:
        headers = {**PAGE, "authorization": f"Bearer {key}"}
        assert client.get("/", headers=headers).status_code == 200
        page = client.get("/", headers=headers)
        part = client.get("/", headers={**headers, "hx-request": "true"})
    assert (page.status_code, part.status_code) == (429, 429)
    assert page.headers["retry-after"]
    assert "Too many requests with this key" in page.text
    assert 'role="alert"' in part.text
    assert "<html" not in part.text
