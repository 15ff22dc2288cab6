"""Streams of listings: one a line, answered one a line; bodies that do not arrive are cut."""

from __future__ import annotations

import asyncio
import json
import socket
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from tests.serve.conftest import ServerProcess

from pricesmith.serve.app import create_app
from pricesmith.serve.service import ServeSettings, Service
from pricesmith.serve.stream import MAX_LINE, PART

TEXT = "Cobalt drill, size 12 kg"
NDJSON = {"content-type": "application/x-ndjson"}


def stream(client: TestClient, content: bytes, query: str = "") -> list[dict[str, Any]]:
    answer = client.post(f"/v1/price/batch{query}", content=content, headers=NDJSON)
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/x-ndjson"
    return [json.loads(line) for line in answer.content.splitlines()]


def test_each_line_is_answered_with_its_number(client: TestClient) -> None:
    lines = [json.dumps(TEXT), "", json.dumps({"title": "Aster lamp", "brand": "Aster"}), json.dumps({"text": TEXT})]
    answers = stream(client, "\n".join(lines).encode(), "?comparables=2")
    assert [answer["line"] for answer in answers] == [1, 3, 4]
    single = client.post("/v1/price", json={"text": TEXT}).json()
    assert answers[0]["price"] == answers[2]["price"] == single["price"]
    assert len(answers[0]["comparables"]) == 2


@pytest.mark.parametrize(
    ("line", "what"),
    [
        (b'{"txt": "lamp"}', "A value of the request is wrong"),
        (b"{", "The line is not valid JSON"),
        (b"[" * 100_000, "The line is not valid JSON"),
        (b"\xff", "The line is not valid JSON"),
        (b'{"title": NaN}', "A value of the request is wrong"),
        (b'"\\ud800"', "A value of the request is wrong"),
        (b'"' + b"x" * MAX_LINE + b'"', "The line is too long"),
        (b'{"text": "lamp", "fields": {"none": 1}}', None),
    ],
)
def test_a_bad_line_has_an_error_and_the_others_a_price(client: TestClient, line: bytes, what: str | None) -> None:
    content = b"\n".join([json.dumps(TEXT).encode(), line, json.dumps(TEXT).encode()])
    first, bad, last = stream(client, content)
    assert first["price"] == last["price"]
    assert (bad["line"], last["line"]) == (2, 3)
    if what is None:
        assert bad["note"] == "This model has no field 'none'"
    else:
        assert bad["error"]["what"].startswith(what)


def test_a_long_stream_is_priced_in_parts(client: TestClient) -> None:
    count = 3 * PART + 10
    answers = stream(client, b"\n".join([json.dumps(TEXT).encode()] * count))
    assert [answer["line"] for answer in answers] == list(range(1, count + 1))


def test_an_unknown_model_is_refused_before_the_stream(client: TestClient) -> None:
    assert client.post("/v1/price/batch?model=none", content=b'"x"', headers=NDJSON).status_code == 404
    answer = client.post("/v1/price/batch", content=b'"x"', headers={**NDJSON, "idempotency-key": "a"})
    assert answer.status_code == 422


def test_a_client_that_asks_before_it_sends_gets_100_continue(server: ServerProcess) -> None:
    """curl waits for `100 Continue` before a body of more than a megabyte, and takes an early answer for a refusal."""
    body = json.dumps(TEXT).encode() + b"\n"
    head = "POST /v1/price/batch HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/x-ndjson\r\n"
    head += f"Expect: 100-continue\r\nConnection: close\r\nContent-Length: {len(body)}\r\n\r\n"
    with socket.create_connection(("127.0.0.1", server.port), timeout=240) as connection:
        connection.sendall(head.encode())
        assert connection.recv(1_000).startswith(b"HTTP/1.1 100")
        connection.sendall(body)
        received = b""
        while part := connection.recv(65_536):
            received += part
    assert received.startswith(b"HTTP/1.1 200")
    assert b'"line":1,"id":' in received


class Body:
    """The parts of a request that arrive one by one, then nothing more; or the client has gone."""

    def __init__(self, *parts: bytes, gone: bool = False) -> None:
        self.parts, self.gone = list(parts), gone

    async def __call__(self) -> dict[str, Any]:
        if self.parts:
            return {"type": "http.request", "body": self.parts.pop(0), "more_body": True}
        if not self.gone:
            await asyncio.Event().wait()
        return {"type": "http.disconnect"}


async def ask(models: dict[str, Path], path: str, kind: bytes, body: Body) -> tuple[dict[str, Any], bytes]:
    """The start and the content of a response of a server that waits 0.3 seconds for a body."""
    service = Service(models, ServeSettings(body_timeout=0.3))
    app = create_app(service)
    await service.start()
    sent: list[dict[str, Any]] = []

    async def send(message: Any) -> None:
        sent.append(message)

    headers = [(b"host", b"localhost"), (b"content-type", kind), (b"transfer-encoding", b"chunked")]
    scope = {
        "type": "http", "method": "POST", "path": path, "raw_path": path.encode(), "query_string": b"",
        "headers": headers, "http_version": "1.1", "scheme": "http", "server": ("localhost", 80), "client": ("::1", 1),
        "root_path": "",
    }  # fmt: skip
    await app(scope, body, send)
    await service.stop()
    return sent[0] if sent else {}, b"".join(message.get("body", b"") for message in sent)


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/v1/price", b"application/json"),
        ("/v1/files", b"multipart/form-data; boundary=a"),
        ("/v1/feedback", b"application/json"),
    ],
)
def test_a_body_that_does_not_arrive_is_cut(served_models: dict[str, Path], path: str, kind: bytes) -> None:
    start, content = asyncio.run(ask({"median": served_models["median"]}, path, kind, Body(b"--a", b"\r\n")))
    assert start["status"] == 408
    assert (b"connection", b"close") in start["headers"]
    assert json.loads(content)["error"]["what"] == "The request did not arrive in time."


@pytest.mark.parametrize("gone", [True, False])
def test_an_upload_that_is_cut_leaves_nothing(served_models: dict[str, Path], gone: bool) -> None:
    head = b'--a\r\nContent-Disposition: form-data; name="file"; filename="new.csv"\r\n\r\nname\n'
    models, kind = {"median": served_models["median"]}, b"multipart/form-data; boundary=a"
    start, _ = asyncio.run(ask(models, "/v1/files", kind, Body(head, b"Cobalt", gone=gone)))
    assert start.get("status") == (None if gone else 408)
    assert list(served_models["median"].with_name("median.uploads").glob("f*")) == []


def test_a_stream_that_does_not_go_on_ends_with_an_error(served_models: dict[str, Path]) -> None:
    body = Body(b'"Cobalt drill"\n"Aster', b" lamp")
    start, content = asyncio.run(
        ask({"median": served_models["median"]}, "/v1/price/batch", NDJSON["content-type"].encode(), body)
    )
    first, last = [json.loads(line) for line in content.splitlines()]
    assert (start["status"], first["line"], last["line"]) == (200, 1, 2)
    assert last["error"]["what"] == "The request did not arrive in time"
