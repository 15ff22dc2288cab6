"""Hostile requests against a real server: every one is refused or answered, none fails it, and it serves on."""

from __future__ import annotations

import json
import socket
import threading
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pytest
from tests.serve.conftest import ServerProcess

GOOD = b'{"text": "Cobalt drill, size 12 kg"}'
MARK = "<script>alert(1)</script>"
MEGABYTE = 1_000_000


@dataclass
class Answer:
    """A response as it came."""

    status: int  # 0: the connection was closed without one
    head: str
    body: bytes


def exchange(port: int, content: bytes, *, wait: float = 240.0) -> Answer:
    """Send bytes on a connection of their own and read until it is closed."""
    with socket.create_connection(("127.0.0.1", port), timeout=wait) as connection:
        received = b""
        with suppress(OSError):  # refused before all of it was sent
            connection.sendall(content)
        with suppress(OSError):
            while part := connection.recv(65_536):
                received += part
    head, _, body = received.partition(b"\r\n\r\n")
    status = int(head.split(b" ", 2)[1]) if head.startswith(b"HTTP/") else 0
    return Answer(status, head.decode("latin-1"), body)


def request(
    method: str = "POST",
    path: str = "/v1/price",
    body: bytes = GOOD,
    *headers: str,
    host: str | None = "127.0.0.1",
    kind: str = "application/json",
    length: int | None = None,
) -> bytes:
    """A request as bytes, with `Connection: close`."""
    lines = [f"{method} {path} HTTP/1.1", "Connection: close", f"Content-Type: {kind}", *headers]
    if host is not None:
        lines.append(f"Host: {host}")
    if length is not None or body:
        lines.append(f"Content-Length: {len(body) if length is None else length}")
    return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + body


def chunked(path: str, parts: list[bytes], *headers: str, kind: str = "application/json") -> bytes:
    """A request whose length is not declared."""
    head = request("POST", path, b"", "Transfer-Encoding: chunked", *headers, kind=kind)
    return head + b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in parts) + b"0\r\n\r\n"


FORM = "multipart/form-data; boundary=b"
FILE = b'--b\r\nContent-Disposition: form-data; name="file"; filename="new.csv"\r\n\r\n'
END = b"\r\n--b--\r\n"

# What is sent, and the statuses that are right; 0: closed without an answer.
REQUESTS: dict[str, tuple[bytes, tuple[int, ...]]] = {
    "declared huge body": (request(length=10**12), (413,)),
    "long body": (request(body=b'{"text": "' + b"x" * (33 * MEGABYTE) + b'"}'), (413, 0)),
    "chunked huge body": (chunked("/v1/price", [b"x" * MEGABYTE] * 34), (413, 0)),
    "declared huge upload": (request("POST", "/v1/files", FILE, kind=FORM, length=10**10), (413,)),
    "chunked huge upload": (chunked("/v1/files", [FILE, *[b"x" * MEGABYTE] * 5, END], kind=FORM), (413, 0)),
    "upload of a script": (
        request("POST", "/v1/files", FILE.replace(b"new.csv", b"a.sh") + b"x" + END, kind=FORM),
        (422,),
    ),
    "upload with a header in its name": (
        request("POST", "/v1/files", FILE.replace(b"new.csv", b'a.csv\\r\\nX-Bad: 1" "') + b"name\nx" + END, kind=FORM),
        (202, 400, 422),
    ),
    "negative length": (request(length=-5), (400,)),
    "two lengths": (request("POST", "/v1/price", GOOD, "Content-Length: 3"), (400,)),
    "length and chunks": (request("POST", "/v1/price", GOOD, "Transfer-Encoding: chunked"), (400, 408)),
    "length that is no number": (request("POST", "/v1/price", b"", "Content-Length: 1e3"), (400,)),
    "body shorter than declared": (request(length=len(GOOD) + 10), (408, 400)),
    "body longer than declared": (request(length=5), (400,)),
    "bad chunk size": (request("POST", "/v1/price", b"", "Transfer-Encoding: chunked") + b"zz\r\nx\r\n", (400,)),
    "bad UTF-8": (request(body=b'{"text": "\xff\xfe drill"}'), (400,)),
    "half a surrogate pair": (request(body=b'{"text": "\\ud800 drill"}'), (422,)),
    "half a surrogate pair as a key": (request(body=b'{"\\ud800": 1, "text": "Cobalt drill"}'), (422,)),
    "half a surrogate pair in a field": (request(body=b'{"text": "Cobalt drill", "fields": {"\\udfff": 1}}'), (422,)),
    "half a surrogate pair as a model": (request(body=b'{"text": "Cobalt drill", "model": "\\ud800"}'), (422,)),
    "half a surrogate pair in a chat": (
        request(path="/v1/chat/completions", body=b'{"messages": [{"role": "user", "content": "\\ud800"}]}'),
        (422,),
    ),
    "NaN": (request(body=b'{"title": NaN}'), (422,)),
    "infinite price": (request(path="/v1/feedback", body=b'{"sold_price": Infinity, "listing": "Drill"}'), (422,)),
    "price beyond a float": (request(path="/v1/feedback", body=b'{"sold_price": 1e400, "listing": "Drill"}'), (422,)),
    "number of 10,000 digits": (request(body=b'{"text": "a", "fields": {"x": ' + b"9" * 10_000 + b"}}"), (400, 422)),
    "deep arrays": (request(body=b"[" * 100_000 + b"]" * 100_000), (400, 422)),
    "deep objects": (request(body=b'{"fields":' * 100_000 + b"1" + b"}" * 100_000), (400, 422)),
    "repeated keys": (request(body=b'{"text": "Aster lamp of brass", "text": "Cobalt drill"}'), (200,)),
    "a million keys": (request(body=b"{" + b",".join(b'"a%d":1' % n for n in range(200_000)) + b"}"), (422,)),
    "NUL in the text": (request(body=b'{"text": "Cobalt\\u0000 drill, size 12 kg"}'), (200,)),
    "script in the text": (request(body=json.dumps({"text": MARK + " drill"}).encode()), (200,)),
    "script as a model": (request(body=json.dumps({"text": "Drill", "model": MARK}).encode()), (404,)),
    "compressed body": (request("POST", "/v1/price", b"\x1f\x8b\x08", "Content-Encoding: gzip"), (400, 415, 422)),
    "form instead of JSON": (request(kind="application/x-www-form-urlencoded"), (415, 422)),
    "text instead of JSON": (request(kind="text/plain"), (415, 422)),
    "XML": (request(body=b"<!DOCTYPE a [<!ENTITY x SYSTEM 'file:///etc/passwd'>]>", kind="text/xml"), (415, 422)),
    "two slashes": (request("GET", "//v1//models", b""), (404,)),
    "encoded dots": (request("GET", "/static/%2e%2e/%2e%2e/service.py", b""), (404,)),
    "dots": (request("GET", "/static/../service.py", b""), (404,)),
    "NUL in the path": (request("GET", "/v1/files/%00", b""), (404, 422)),
    "script in the path": (request("GET", "/%3Cscript%3Ealert(1)%3C/script%3E", b""), (404,)),
    "bytes that are no UTF-8 in the path": (request("GET", "/v1/files/%ff%fe", b""), (404, 422)),
    "very long path": (request("GET", "/v1/files/" + "a" * 60_000, b""), (404, 422, 400)),
    "another host": (request(host="evil.example"), (403,)),
    "no host": (request(host=None), (400, 403)),
    "two hosts": (request("POST", "/v1/price", GOOD, "Host: evil.example"), (400, 403)),
    "foreign origin": (request("POST", "/v1/price", GOOD, "Origin: https://evil.example"), (403,)),
    "origin null": (request("POST", "/v1/price", GOOD, "Origin: null"), (403,)),
    "foreign page": (request("POST", "/v1/price", GOOD, "Sec-Fetch-Site: cross-site"), (403,)),
    "huge header": (request("POST", "/v1/price", GOOD, "X-Long: " + "a" * 200_000), (400, 431, 0)),
    "many headers": (request("POST", "/v1/price", GOOD, *(f"X-{n}: a" for n in range(5_000))), (200, 400, 431, 0)),
    "header with a script": (request("GET", "/v1/models", b"", f"X-Request-Id: {MARK}"), (200,)),
    "underscores in a header": (request("POST", "/v1/price", GOOD, "Content_Length: 3", "Host_: a"), (200,)),
    "forwarded by nobody": (request("GET", "/v1/models", b"", "X-Forwarded-For: 10.0.0.1"), (200,)),
    "forwarded for another host": (request("GET", "/v1/models", b"", "X-Forwarded-Host: evil.example"), (200,)),
    "forwarded host": (request("POST", "/v1/price", GOOD, "X-Forwarded-Proto: javascript"), (200,)),
    "line break in a header": (request("POST", "/v1/price", GOOD, "X-A: b\nX-C: d"), (200, 400)),
    "TRACE": (request("TRACE", "/v1/price", b""), (405,)),
    "CONNECT": (request("CONNECT", "evil.example:443", b""), (400, 404, 405)),
    "method in lower case": (request("post"), (405, 400)),
    "unknown method": (request("BREW"), (405,)),
    "absolute target": (request("GET", "http://evil.example/v1/models", b""), (200, 400, 403, 404)),
    "no HTTP": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\x00" * 100, (400, 0)),
    "HTTP 0.9": (b"GET /\r\n\r\n", (400, 0)),
    "WebSocket": (request("GET", "/", b"", "Upgrade: websocket", "Sec-WebSocket-Key: a"), (200, 400, 404, 426)),
    "key that is no text": (
        request("POST", "/v1/price/batch", b'{"listings": ["Drill"]}', "Idempotency-Key: \xff\xfe"),
        (422,),
    ),
    "quote id with SQL": (
        request(path="/v1/feedback", body=b'{"sold_price": 1, "quote_id": "\' OR 1=1 --"}'),
        (404,),
    ),
    "feedback id with SQL": (request("DELETE", "/v1/feedback/'%20OR%201=1%20--", b""), (404,)),
}  # fmt: skip


def memory(pid: int) -> float:
    """Megabytes that a process holds."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1_000 for line in lines if line.startswith("VmRSS"))


def assert_serves(server: ServerProcess) -> None:
    """A good request is answered."""
    answer = exchange(server.port, request())
    assert answer.status == 200
    assert json.loads(answer.body)["price"] > 0


@pytest.mark.parametrize("name", REQUESTS)
def test_a_hostile_request_is_answered_and_the_server_serves_on(server: ServerProcess, name: str) -> None:
    content, statuses = REQUESTS[name]
    answer = exchange(server.port, content)
    assert answer.status in statuses, answer
    assert not (500 <= answer.status <= 599)
    kind = next((line for line in answer.head.lower().split("\r\n") if line.startswith("content-type")), "")
    if answer.status >= 400:
        assert "application/json" in kind
        assert set(json.loads(answer.body)["error"]) >= {"what", "got", "allowed", "next"}
    if "html" in kind:
        assert MARK.encode() not in answer.body
    assert "x-bad" not in answer.head.lower()
    assert b"Traceback" not in answer.body
    assert str(Path(__file__).parents[2]).encode() not in answer.body
    assert_serves(server)


def test_slow_headers_and_bodies_are_cut_while_others_are_served(server: ServerProcess) -> None:
    """200 connections that send a byte now and then."""
    slow = [socket.create_connection(("127.0.0.1", server.port), timeout=240) for _ in range(200)]
    heads = [request(length=1_000, body=b"{"), request()[:40]]
    try:
        for number, connection in enumerate(slow):
            connection.sendall(heads[number % 2])
        assert_serves(server)
        for number, connection in enumerate(slow):
            received = b""
            with suppress(ConnectionError):
                while part := connection.recv(65_536):
                    received += part
            if number % 2 == 0:
                assert b" 408 " in received.split(b"\r\n", 1)[0]
            else:
                assert received == b""
        assert_serves(server)
    finally:
        for connection in slow:
            connection.close()


def test_a_flood_is_refused_with_a_time_to_wait(server: ServerProcess) -> None:
    """More listings than may wait: some requests are refused with 429, none fails, and the server serves on."""
    flood = request(
        path="/v1/price/batch", body=json.dumps({"listings": ["Cobalt drill, size 12 kg"] * 5_000}).encode()
    )
    answers: list[Answer] = []

    def send() -> None:
        answers.append(exchange(server.port, flood, wait=240))

    threads = [threading.Thread(target=send) for _ in range(10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {answer.status for answer in answers} == {200, 429}
    for answer in answers:
        if answer.status == 429:
            assert "retry-after:" in answer.head.lower()
    assert_serves(server)


def test_memory_stays_bounded(server: ServerProcess) -> None:
    """Hostile requests, sent again and again, leave nothing behind."""
    names = [name for name in REQUESTS if "huge" not in name and "long body" not in name and "shorter" not in name]
    for name in names:
        exchange(server.port, REQUESTS[name][0])
    before = memory(server.pid)
    for name in names:
        exchange(server.port, REQUESTS[name][0])
    for name in ("long body", "chunked huge body", "chunked huge upload"):
        exchange(server.port, REQUESTS[name][0])
    assert memory(server.pid) - before < 60
