"""One shape for every error of the REST API, and the statuses that each route declares."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from starlette._utils import get_route_path
from starlette.exceptions import HTTPException
from starlette.routing import BaseRoute, Route

from pricesmith.core.errors import InputError, PricesmithError, UsageError
from pricesmith.serve.headers import HEADERS
from pricesmith.serve.log_records import LogUnavailable
from pricesmith.serve.schemas import ErrorOutput, error_body

log = logging.getLogger("pricesmith.serve")

STATUSES = {
    400: "The request cannot be read: it is not valid JSON or not UTF-8.",
    401: "The key is missing or wrong.",
    403: "The request comes from another web page, or names another host.",
    404: "There is no such model, job or quote.",
    405: "This path does not take this method.",
    408: "The request did not arrive in time.",
    409: "The request conflicts with an earlier one, or with the state of the server.",
    411: "The request does not say how long it is.",
    413: "The request is too large.",
    415: "The request has a content type that is not accepted.",
    422: "The request is valid JSON, but a value is wrong.",
    429: "Too many requests wait; `Retry-After` says when to try again.",
    431: "The headers are too large.",
    500: "The server failed; its log has the reason under `request_id`.",
    503: "The server is not ready, or cannot write its log.",
}
DECLARED: dict[int | str, dict[str, Any]] = {
    status: {"model": ErrorOutput, "description": text} for status, text in STATUSES.items()
}
COMMON = (
    401,
    403,
    429,
    503,
)  # of every route under /v1: keys, foreign pages, rate limits, and before models are loaded
JSON_HINT = "Send JSON with the header Content-Type: application/json."
MAX_SHOWN = 120  # characters of a wrong value that an error repeats


def declare(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The error responses of a route: these and the ones that every route may give."""
    return {status: DECLARED[status] for status in sorted({*statuses, *COMMON})}


class ServeError(PricesmithError):
    """An error with a status of its own. `headers` are added to the response."""

    def __init__(
        self,
        status: int,
        what: str,
        *,
        got: str = "",
        allowed: str = "",
        hint: str = "",
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(what, got=got, allowed=allowed, hint=hint)
        self.status, self.headers = status, dict(headers or {})


def too_busy(seconds: float) -> ServeError:
    """The error of a full queue."""
    wait = max(1, round(seconds))
    return ServeError(
        429,
        "Too many listings wait to be priced",
        hint=f"Try again in {wait} s, or send fewer at the same time.",
        headers={"Retry-After": str(wait)},
    )


def request_id(request: Request) -> str:
    """The id of a request, which the security layer has set."""
    return str(request.scope.get("pricesmith.request_id", ""))


def request_key(request: Request) -> str:
    """The name of the key that a request came with, which the security layer has set; empty without keys."""
    return str(request.scope.get("pricesmith.key", ""))


def error_response(request: Request, status: int, body: dict[str, Any], headers: Mapping[str, str]) -> Response:
    """An error as JSON, with the id of its request; as a page for a browser that asks for one."""
    facts = body["error"]
    facts["request_id"] = request_id(request)
    if "text/html" in request.headers.get("accept", "") and not request.url.path.startswith("/v1/"):
        page: Response = request.app.state.error_page(request, status, facts, headers)
        return page
    if request.url.path.endswith("/chat/completions"):
        parts = (("", facts["what"]), ("got: ", facts["got"]), ("allowed: ", facts["allowed"]), ("", facts["next"]))
        facts["message"] = ". ".join(f"{label}{text}".rstrip(".") for label, text in parts if text)
    return JSONResponse(body, status, headers=dict(headers))


def describe_validation(error: RequestValidationError, content_type: str = "application/json") -> dict[str, Any]:
    """The first wrong value of a request, by its place in the body; never the whole input, which may be huge."""
    first = error.errors()[0]
    place = ".".join(str(part) for part in first["loc"] if part != "body") or "the body"
    if first["type"] == "json_invalid":
        return error_body(
            "The request is not valid JSON",
            got=str(first.get("ctx", {}).get("error", ""))[:MAX_SHOWN],
            next=JSON_HINT,
        )
    if first["loc"] == ("body",) and "json" not in content_type:
        return error_body(
            "The request is not sent as JSON",
            got=content_type[:MAX_SHOWN] or "no Content-Type header",
            allowed="application/json",
            next=JSON_HINT,
        )
    shown = first.get("input")
    got = repr(shown)[:MAX_SHOWN] if isinstance(shown, str | int | float | bool) or shown is None else ""
    return error_body(
        f"A value of the request is wrong: {place[:MAX_SHOWN]}",
        got=got,
        allowed=str(first["msg"])[:MAX_SHOWN],
        next="See /openapi.json for what each request takes.",
    )


def allowed_methods(routes: Sequence[BaseRoute], path: str) -> str:
    """The methods that a path takes, as a header. A path of several routes takes those of all of them; one that a
    route names literally takes those of that route, not those of routes with parameters."""
    matching = [route for route in routes if isinstance(route, Route) and route.path_regex.match(path)]
    own = [route for route in matching if route.path == path] or matching
    return ", ".join(sorted({method for route in own for method in route.methods or ()}))


def install_error_handlers(app: FastAPI, routes: Sequence[BaseRoute]) -> None:
    """Answer every error of these routes in the one shape."""

    async def on_pricesmith(request: Request, error: Exception) -> Response:
        assert isinstance(error, PricesmithError)
        body = error_body(error.what, got=error.got, allowed=error.allowed, next=error.hint)
        if isinstance(error, ServeError):
            return error_response(request, error.status, body, error.headers)
        status = (
            503 if isinstance(error, LogUnavailable) else 422 if isinstance(error, UsageError | InputError) else 500
        )
        return error_response(request, status, body, {})

    async def on_validation(request: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)
        status = 400 if error.errors()[0]["type"] == "json_invalid" else 422
        return error_response(request, status, describe_validation(error, request.headers.get("content-type", "")), {})

    async def on_http(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        nothing = error.status_code == 404 and error.detail == "Not Found"  # no route has this path
        what = "There is nothing at this path" if nothing else STATUSES.get(error.status_code, str(error.detail))
        headers = dict(error.headers or {})
        if error.status_code == 405 and (methods := allowed_methods(routes, get_route_path(request.scope))):
            headers["Allow"] = methods
        body = error_body(what, got=f"{request.method} {request.url.path}"[:MAX_SHOWN], next="See /openapi.json.")
        return error_response(request, error.status_code, body, headers)

    async def on_any(request: Request, error: Exception) -> Response:
        log.exception("request %s failed", request_id(request))
        body = error_body("The server failed", next="The log of the server has the reason under this request_id.")
        # This handler is outside the security layer, which would add these.
        return error_response(request, 500, body, {**HEADERS, "x-request-id": request_id(request)})

    app.add_exception_handler(PricesmithError, on_pricesmith)
    app.add_exception_handler(RequestValidationError, on_validation)
    app.add_exception_handler(HTTPException, on_http)
    app.add_exception_handler(Exception, on_any)
