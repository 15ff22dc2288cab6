"""The web page without a browser: what it says, errors inside the page, and forms of other sites."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from pricesmith.serve.app import create_app
from pricesmith.serve.service import ServeSettings, Service

TEXT = "Cobalt drill, size 12 kg"


def first(pattern: str, text: str) -> str:
    """What the group of a pattern matches first in a text."""
    match = re.search(pattern, text)
    assert match is not None, pattern
    return match[1]


def send(client: TestClient, path: str = "/", **values: str):
    """Send a form as a browser does, with the token of the page."""
    token = first(r'name="token" value="([^"]+)"', client.get("/").text)
    return client.post(path, data={"token": token, **values})


def words(html: str) -> str:
    """The text of a page, in one line."""
    return " ".join(re.sub(r"<[^>]*>", " ", html).replace("\N{NO-BREAK SPACE}", " ").split())


def test_the_page_gives_a_price_and_its_range_in_one_line(client: TestClient) -> None:
    page = words(send(client, text=TEXT).text)
    assert re.search(r"\$\d+, likely \$\d+ to \$\d+", page)
    assert "9 of 10 things like this were listed inside that range. It is an asking price in US dollars" in page
    assert re.search(r"learned from \d+ listings on \d+ \w+ \d{4}; not an offer or an appraisal", page)
    assert "Most similar" in page


def test_the_page_rounds_what_the_api_gives_exactly(client: TestClient) -> None:
    exact = client.post("/v1/price", json={"text": TEXT}).json()["price"]
    shown = first(r"\$([\d,.]+), likely", words(send(client, text=TEXT).text))
    assert float(shown.replace(",", "")) == pytest.approx(exact, rel=0.05)
    assert len(shown.replace(",", "").strip("0")) <= 3


def test_a_listing_like_no_other_gets_no_price_but_a_guess_that_is_folded_away(client: TestClient) -> None:
    page = send(client, text="zqxv wobbeltrompete hippopotamus").text
    assert "No price: nothing like this is among the" in page
    assert "Most similar" not in page
    assert "<details><summary>Show the guess anyway</summary>" in page


@pytest.mark.parametrize(("text", "what"), [("", "There is nothing to price"), ("x", "There is too little to price")])
def test_an_error_is_inside_the_page_and_keeps_what_was_typed(client: TestClient, text: str, what: str) -> None:
    answer = send(client, text=text)
    assert answer.status_code == 422
    assert 'role="alert"' in answer.text
    assert what in answer.text
    assert f">\n{text}</textarea>" in answer.text


def test_what_was_typed_is_text_and_never_markup(client: TestClient) -> None:
    page = send(client, text='Drill</textarea><script>alert(1)</script> "><img src=x onerror=alert(1)>').text
    assert "<script>alert" not in page
    assert "<img" not in page
    assert "&lt;script&gt;alert(1)" in page


def test_a_form_without_the_token_of_its_browser_is_refused_but_keeps_the_text(client: TestClient) -> None:
    client.get("/")
    for token in ("", "x" * 43):
        answer = client.post("/", data={"token": token, "text": TEXT})
        assert answer.status_code == 403
        assert "This form was not sent from this page" in answer.text
        assert TEXT in answer.text


def test_a_form_of_another_site_is_refused(client: TestClient) -> None:
    client.get("/")
    answer = client.post("/", data={"text": TEXT}, headers={"origin": "http://evil.example"})
    assert answer.status_code == 403


def test_the_token_is_in_a_cookie_that_scripts_and_other_sites_cannot_use(client: TestClient) -> None:
    cookie = client.get("/").headers["set-cookie"].lower()
    assert "httponly" in cookie
    assert "samesite=strict" in cookie
    assert "set-cookie" not in client.get("/").headers


def test_htmx_gets_only_the_result(client: TestClient) -> None:
    token = first(r'name="token" value="([^"]+)"', client.get("/").text)
    part = client.post("/", data={"token": token, "text": TEXT}, headers={"hx-request": "true"}).text
    assert "<html" not in part
    assert "likely" in part


def test_links_start_with_the_path_of_a_proxy(served_models: dict[str, Path]) -> None:
    app = create_app(Service(served_models, ServeSettings()))
    with TestClient(app, base_url="http://127.0.0.1:8000", root_path="/prices") as client:
        page = client.get("/prices/").text
    assert 'action="/prices/"' in page
    assert 'href="/prices/static/style.css' in page


def test_only_the_files_of_the_page_are_served(client: TestClient) -> None:
    assert client.get("/static/style.css").headers["content-type"].startswith("text/css")
    assert client.get("/static/htmx.min.js").status_code == 200
    for name in ("..%2fpages.py", "%2e%2e/pages.py", "none.css"):
        assert client.get(f"/static/{name}").status_code == 404


def test_no_page_has_inline_script_or_style(client: TestClient) -> None:
    page = send(client, text=TEXT).text
    assert " style=" not in page
    assert "<style" not in page
    assert not re.search(r"<script(?! src=)", page)
    assert not re.search(r"\son\w+=", page)
    assert not re.search(r"(?:src|href|action)=\"https?:", page)


def test_the_script_of_htmx_is_the_published_one() -> None:
    from hashlib import sha256

    import pricesmith.serve.pages

    path = Path(pricesmith.serve.pages.__file__).parent / "static" / "htmx.min.js"
    assert sha256(path.read_bytes()).hexdigest() == "a0abb04f2f45a1f89d1d4844023245537e5e6014c87b144553e0607b4cc32130"


def test_a_browser_gets_a_page_for_an_unknown_address_and_a_program_gets_json(client: TestClient) -> None:
    page = client.get("/nothing/<b>here", headers={"accept": "text/html"})
    assert page.status_code == 404
    assert "There is no such page" in page.text
    assert "<b>" not in page.text
    assert client.get("/nothing").json()["error"]["what"]
    assert client.post("/drift", headers={"accept": "text/html"}).status_code == 405
    assert client.get("/v1/nothing", headers={"accept": "text/html"}).json()["error"]["what"]


def test_a_failure_of_the_server_is_a_page_with_the_id_of_its_log_entry(
    client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fail(*values: object, **options: object) -> None:
        raise RuntimeError("secret")

    monkeypatch.setattr("pricesmith.serve.pages.price.price_listings", fail)
    token = first(r'name="token" value="([^"]+)"', client.get("/").text)
    answer = client.post("/", data={"token": token, "text": TEXT}, headers={"accept": "text/html"})
    assert answer.status_code == 500
    assert "The server failed" in answer.text
    assert "secret" not in answer.text
    assert answer.headers["x-request-id"] in answer.text
    assert "default-src 'none'" in answer.headers["content-security-policy"]


@pytest.mark.parametrize(
    "path", ["/", "/moved", "/models", "/sold", "/sold/delete", "/file/x/delete", "/sign-in", "/file"]
)
@pytest.mark.parametrize(
    ("kind", "content"),
    [
        ("application/x-www-form-urlencoded", b"text=\xff\xfe%ff%00&text=%ud800&token=\xff"),
        ("application/x-www-form-urlencoded", b"&".join([b"field:a=1"] * 2_000)),
        ("multipart/form-data", b"no boundary"),
        ("multipart/form-data; boundary=x", b"--x\r\nnonsense"),
        (
            "multipart/form-data; boundary=x",
            b'--x\r\nContent-Disposition: form-data; name="text"; filename="a"\r\n\r\n',
        ),
        ("application/json", b'{"text": "Cobalt drill"}'),
        ("", b""),
    ],
)
def test_odd_forms_never_fail_the_server(client: TestClient, path: str, kind: str, content: bytes) -> None:
    client.get("/")
    answer = client.post(path, content=content, headers={"content-type": kind} if kind else {})
    assert 400 <= answer.status_code < 500


@pytest.mark.parametrize("text", ["\0", "\ud800 drill".encode("utf-8", "replace").decode(), "a" * 99_999, "é" * 5_000])
def test_odd_texts_never_fail_the_server(client: TestClient, text: str) -> None:
    assert send(client, text=f"Cobalt drill {text}").status_code in (200, 422)
    assert send(client, text=TEXT, **{"field:category": text[:2_000], "field:no such": "1"}).status_code in (200, 422)
