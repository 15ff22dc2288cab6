"""The outermost layer, pure ASGI: request ids, allowed hosts and origins, keys, and the headers of every response."""

from __future__ import annotations

import json
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from pricesmith.serve.headers import HEADERS
from pricesmith.serve.keys import ApiKey
from pricesmith.serve.rate_limit import RateLimiter, retry_after
from pricesmith.serve.schemas import error_body
from pricesmith.serve.service import LOOPBACK, Service
from pricesmith.serve.session import read_cookie

OPEN_PATHS = ("/health", "/ready", "/sign-in")  # need no key; nor do the files of the page
OPEN_FOLDER = "/static/"
SAFE_METHODS = ("GET", "HEAD", "OPTIONS")


@dataclass(frozen=True)
class Refusal:
    """Why a request must not reach the application."""

    status: int
    body: dict[str, Any]
    headers: tuple[tuple[str, str], ...] = ()


class SecurityLayer:
    """Refuses requests that a web page of someone else makes a browser send: a foreign Host header (DNS rebinding), or
    a foreign Origin on a request that is not only read. If the service has keys, each request needs one, and has that
    key's limit of requests per minute. `scope["pricesmith.key"]` is the name of the key."""

    def __init__(self, app: ASGIApp, service: Service) -> None:
        self.app, self.service = app, service
        settings = service.settings
        self.hosts = frozenset((*LOOPBACK, settings.host.lower(), *(host.lower() for host in settings.hosts)))
        self.limiter = RateLimiter()

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

        refusal = self.check_source(scope, headers) or self.check_key(scope, headers)
        if refusal is not None:
            if refusal.status == 429 and asks_for_page(headers):
                refusal.body["error"]["request_id"] = id
                values = (refusal.status, refusal.body["error"], dict(refusal.headers))
                page = scope["app"].state.error_page(Request(scope), *values)
                await page(scope, receive, send_with_headers)
            else:
                await send_error(send_with_headers, refusal, id)
            return
        await self.app(scope, receive, send_with_headers)

    def check_source(self, scope: Scope, headers: Mapping[str, Sequence[str]]) -> Refusal | None:
        """Refuse hosts that are not this server, and requests that another web page sends."""
        hosts = headers.get("host", ())
        if len(hosts) != 1 or host_name(hosts[0]) not in self.hosts:
            got = ", ".join(hosts)[:100] or "no Host header"
            allowed = ", ".join(sorted(self.hosts))
            hint = "Start the server with --allow-host NAME to allow it."
            return Refusal(403, error_body("This host name is not allowed", got=got, allowed=allowed, next=hint))
        if scope["method"] in SAFE_METHODS:
            return None
        foreign = [origin for origin in headers.get("origin", ()) if not same_origin(origin, hosts[0])]
        foreign += [site for site in headers.get("sec-fetch-site", ()) if site not in ("same-origin", "none")]
        if foreign:
            hint = "Send it from a page of this server, or from a program."
            what = "A web page of another origin sent this"
            return Refusal(403, error_body(what, got=foreign[0][:100], allowed=hosts[0][:100], next=hint))
        return None

    def check_key(self, scope: Scope, headers: Mapping[str, Sequence[str]]) -> Refusal | None:
        """Refuse requests without a valid key, and those over the limit of their key."""
        scope["pricesmith.key"] = ""
        path = route_path(scope)
        if self.service.keys is None or path in OPEN_PATHS or path.startswith(OPEN_FOLDER):
            return None
        key = self.find_key(headers)
        if key is None:
            if asks_for_page(headers):
                location = f"{scope.get('root_path', '')}/sign-in"
                status, name = (401, "hx-redirect") if "hx-request" in headers else (303, "location")
                return Refusal(status, error_body("Sign in first", next=location), ((name, location),))
            given = "a key that is not valid" if headers.get("authorization") else "no key"
            hint = "Send the header Authorization: Bearer KEY; `pricesmith keys add NAME` makes a key."
            body = error_body("The key is missing or wrong", got=given, next=hint)
            return Refusal(401, body, (("www-authenticate", "Bearer"),))
        scope["pricesmith.key"] = key.name
        wait = self.limiter.take(key.name, key.per_minute) if key.per_minute else 0.0
        if wait:
            allowed = f"{key.per_minute:,} requests a minute"
            body = error_body("Too many requests with this key", allowed=allowed, next="Send them more slowly.")
            return Refusal(429, body, (("retry-after", retry_after(wait)),))
        return None

    def find_key(self, headers: Mapping[str, Sequence[str]]) -> ApiKey | None:
        """The valid key of a request: in its Authorization header, or of the sign-in that its cookie names."""
        assert self.service.keys is not None
        for value in headers.get("authorization", ())[:1]:
            scheme, _, presented = value.partition(" ")
            return self.service.keys.find(presented.strip()) if scheme.lower() == "bearer" else None
        for value in headers.get("cookie", ())[:1]:
            if self.service.sessions is not None and (token := read_cookie(value)):
                return self.service.sessions.find(token)
        return None


def route_path(scope: Scope) -> str:
    """The path of a request without --root-path."""
    root, path = str(scope.get("root_path", "")), str(scope["path"])
    return path.removeprefix(root) if root and path.startswith(f"{root}/") else path


def asks_for_page(headers: Mapping[str, Sequence[str]]) -> bool:
    """Whether a browser asks, for a page or a part of one."""
    return "text/html" in ",".join(headers.get("accept", ()))


def same_origin(origin: str, host: str) -> bool:
    """Whether an Origin header names the host that the request was sent to."""
    scheme, mark, name = origin.partition("://")
    return bool(mark) and scheme in ("http", "https") and name.lower() == host.lower()


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


async def send_error(send: Send, refusal: Refusal, id: str) -> None:
    """Send a refusal in the one shape of errors."""
    refusal.body["error"]["request_id"] = id
    content = json.dumps(refusal.body).encode()
    headers = [("content-type", "application/json"), ("content-length", str(len(content))), *refusal.headers]
    encoded = [(name.encode(), value.encode()) for name, value in headers]
    await send({"type": "http.response.start", "status": refusal.status, "headers": encoded})
    await send({"type": "http.response.body", "body": content})
