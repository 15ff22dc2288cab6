"""Price listings while they arrive: one a line (NDJSON), answered one a line, in order.

    {"text": "Garden hose, 25 m"}       {"line":1,"id":"...","price":24.5,...}
    "Cordless drill"                    {"line":2,"id":"...","price":61.0,...}
    {"txt": "lamp"}                     {"line":3,"error":{"what":"...",...}}

At most 256 listings are held, so memory does not grow with the stream; the server reads on when the answers are sent. A
client must read while it sends. A line that cannot be priced is answered with its reason, and the others go on.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from pydantic import TypeAdapter, ValidationError
from starlette.exceptions import HTTPException
from starlette.routing import Match
from starlette.types import Receive, Scope, Send

from pricesmith.core.errors import PricesmithError, UsageError
from pricesmith.serve.engine import Engine
from pricesmith.serve.errors import ServeError, describe_validation, request_id
from pricesmith.serve.pricing import Comparables, ModelName, get_service, price_listings
from pricesmith.serve.schemas import MAX_TEXT, Described, error_body
from pricesmith.serve.timeouts import remove_limit

MEDIA_TYPE = "application/x-ndjson"
PART = 256  # listings that are priced together
MAX_LINE = 4 * MAX_TEXT + 400_000  # bytes
LISTING: TypeAdapter[Described] = TypeAdapter(Described)


class StreamRoute(APIRoute):
    """A route for bodies of NDJSON; others with the same path go to the next route."""

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        kind = dict(scope.get("headers", ())).get(b"content-type", b"")
        if kind.partition(b";")[0].strip().lower() != MEDIA_TYPE.encode():
            return Match.NONE, {}
        return super().matches(scope)


router = APIRouter(tags=["prices"], route_class=StreamRoute)


class LineResponse(Response):
    """A response that is made while the request is still read. StreamingResponse would take the request's body for a
    sign that the client has gone."""

    media_type = MEDIA_TYPE

    def __init__(self, lines: AsyncIterator[bytes]) -> None:
        super().__init__()
        del self.headers["content-length"]
        self.lines = lines

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        # The body is asked for first: a client that waits for `100 Continue` would take a response for a refusal.
        first = await anext(self.lines, b"")
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        await send({"type": "http.response.body", "body": first, "more_body": True})
        async for content in self.lines:
            await send({"type": "http.response.body", "body": content, "more_body": True})
        await send({"type": "http.response.body", "body": b""})


@router.post("/v1/price/batch", include_in_schema=False)
async def price_stream(request: Request, comparables: Comparables = 0, model: ModelName = "") -> Response:
    """Price a stream of listings; documented with the batch of JSON."""
    if request.headers.get("idempotency-key"):
        raise ServeError(
            422, "A stream has no Idempotency-Key", hint="Send application/json, at most 10,000 listings a request."
        )
    engine = get_service(request).engine(model)
    remove_limit(request.scope)
    return LineResponse(answer_lines(request, engine, comparables))


async def answer_lines(request: Request, engine: Engine, comparables: int) -> AsyncIterator[bytes]:
    """The answers to the lines of a request, in parts."""
    number = 0
    try:
        async for lines in read_lines(request):
            for start in range(0, len(lines), PART):
                part = lines[start : start + PART]
                numbered = [(number + offset, line) for offset, line in enumerate(part, start=1)]
                number += len(part)
                yield await answer_part(request, engine, comparables, numbered)
    except HTTPException as error:  # the body did not arrive in time
        what = "The request did not arrive in time" if error.status_code == 408 else "The request is too large"
        yield error_line(number + 1, error_body(what, request_id=request_id(request)))


async def read_lines(request: Request) -> AsyncIterator[list[bytes | None]]:
    """The whole lines that have arrived so far; None stands for a line that is too long."""
    waiting, skipping = bytearray(), False
    async for chunk in request.stream():
        waiting += chunk
        *whole, rest = waiting.split(b"\n")
        lines: list[bytes | None] = [bytes(line) if len(line) <= MAX_LINE else None for line in whole]
        if skipping and lines:  # the end of a line that was too long
            lines[0], skipping = None, False
        waiting = bytearray(rest)
        if len(waiting) > MAX_LINE:
            waiting, skipping = bytearray(), True
        if skipping:
            waiting.clear()
        if lines:
            yield lines
    if waiting or skipping:
        yield [None if skipping else bytes(waiting)]


async def answer_part(
    request: Request, engine: Engine, comparables: int, lines: Sequence[tuple[int, bytes | None]]
) -> bytes:
    """The answers to some lines, with their numbers; a blank line has none."""
    errors: dict[int, dict[str, Any]] = {}
    listings: dict[int, Described] = {}
    for number, line in lines:
        if line is not None and not line.strip():
            continue
        try:
            listings[number] = read_line(line)
        except PricesmithError as error:
            errors[number] = error_body(error.what, got=error.got, allowed=error.allowed, next=error.hint)
        except RequestValidationError as error:
            errors[number] = describe_validation(error)
    answers: dict[int, bytes] = {}
    try:
        outputs = await price_when_free(request, engine, list(listings.values()), comparables) if listings else []
        for number, output in zip(listings, outputs, strict=True):
            answers[number] = b'{"line":%d,%b\n' % (number, output.model_dump_json().encode()[1:])
    except PricesmithError as error:
        body = error_body(error.what, got=error.got, allowed=error.allowed, next=error.hint)
        errors |= dict.fromkeys(listings, body)
    answers |= {number: error_line(number, body) for number, body in errors.items()}
    return b"".join(answers[number] for number in sorted(answers))


async def price_when_free(request: Request, engine: Engine, listings: Sequence[Described], comparables: int) -> Any:
    """The prices of listings; waits while the queue of the model is full."""
    while True:
        try:
            return await price_listings(request, engine, listings, comparables)
        except ServeError as error:
            if error.status != 429:
                raise
            await asyncio.sleep(0.2)


def read_line(line: bytes | None) -> Described:
    """The listing of a line. Raises UsageError for what is no JSON, RequestValidationError for a wrong value."""
    if line is None:
        raise UsageError("The line is too long", allowed=f"at most {MAX_LINE:,} bytes")
    try:
        value = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise UsageError("The line is not valid JSON", got=str(error)[:120]) from None
    try:
        return LISTING.validate_python(value)
    except ValidationError as error:
        raise RequestValidationError(error.errors()) from None


def error_line(number: int, body: dict[str, Any]) -> bytes:
    """An error as a line."""
    return json.dumps({"line": number, **body}).encode() + b"\n"
