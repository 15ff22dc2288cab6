"""The outermost layer, pure ASGI: request ids, allowed hosts and origins, and the headers of every response."""

from __future__ import annotations

import json
import secrets
from collections.abc import Mapping, Sequence
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from pricesmith.serve.schemas import error_body
from pricesmith.serve.service import ServeSettings

LOOPBACK = ("localhost", "127.0.0.1", "[::1]")
SAFE_METHODS = ("GET", "HEAD", "OPTIONS")
CONTENT_SECURITY_POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "connect-src 'self'",
        "img-src 'self' data:",
        "form-action 'self'",
        "base-uri 'none'",
        "frame-ancestors 'none'",
    )
)
HEADERS = {
    "content-security-policy": CONTENT_SECURITY_POLICY,
    "x-content-type-options": "nosniff",
    "referrer-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "cache-control": "no-store",
}


class SecurityLayer:
    """Refuses requests that a web page of someone else makes a browser send: a foreign Host header (DNS rebinding), or
    a foreign Origin on a request that is not only read."""

    def __init__(self, app: ASGIApp, settings: ServeSettings) -> None:
        self.app = app
        self.hosts = frozenset((*LOOPBACK, settings.host.lower(), *(host.lower() for host in settings.hosts)))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        scope["pricesmith.request_id"] = id = secrets.token_hex(8)
        headers = decode_headers(scope["headers"])

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                sent = {name for name, _ in message.get("headers", ())}
                added = [
                    (name.encode(), value.encode()) for name, value in HEADERS.items() if name.encode() not in sent
                ]
                message["headers"] = [*message.get("headers", ()), *added, (b"x-request-id", id.encode())]
            await send(message)

        if (problem := self.find_problem(scope, headers)) is not None:
            await send_error(send_with_headers, problem[0], {**problem[1]}, id)
            return
        await self.app(scope, receive, send_with_headers)

    def find_problem(self, scope: Scope, headers: Mapping[str, Sequence[str]]) -> tuple[int, dict[str, Any]] | None:
        """The status and error of a request that must not reach the application."""
        hosts = headers.get("host", ())
        if len(hosts) != 1 or host_name(hosts[0]) not in self.hosts:
            got = ", ".join(hosts)[:100] or "no Host header"
            hint = "Start the server with --allow-host NAME to allow it."
            return 403, error_body("This host name is not allowed", got=got, allowed=", ".join(LOOPBACK), next=hint)
        if scope["method"] in SAFE_METHODS:
            return None
        for origin in headers.get("origin", ()):
            if origin.partition("://")[2].lower() != hosts[0].lower():
                return 403, error_body("A web page of another origin sent this", got=origin[:100], allowed=hosts[0])
        if any(site not in ("same-origin", "none") for site in headers.get("sec-fetch-site", ())):
            return 403, error_body("A web page of another origin sent this", allowed="a page of this server")
        return None


def decode_headers(raw: Sequence[tuple[bytes, bytes]]) -> dict[str, list[str]]:
    """All values of each header, by its name in lower case."""
    headers: dict[str, list[str]] = {}
    for name, value in raw:
        headers.setdefault(name.decode("latin-1").lower(), []).append(value.decode("latin-1").strip())
    return headers


def host_name(host: str) -> str:
    """A Host header without its port, in lower case."""
    name, colon, port = host.rpartition(":")
    return (name if colon and port.isdigit() else host).lower()


async def send_error(send: Send, status: int, body: dict[str, Any], id: str) -> None:
    """Send an error in the one shape."""
    body["error"]["request_id"] = id
    content = json.dumps(body).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(content)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": content})
