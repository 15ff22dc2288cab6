"""Requests that are done once, however often they are sent: the header `Idempotency-Key`.

The answer to a key is stored in the log, in the same transaction as what the request records, and sent again to every
repetition for a day. The same key with another request is an error.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Annotated

from fastapi import Header, Request, Response
from pydantic import BaseModel

from pricesmith.serve.errors import ServeError, request_key
from pricesmith.serve.log_records import StoredAnswer

IdempotencyKey = Annotated[
    str,
    Header(
        max_length=200,
        pattern=r"^[!-~]*$",
        description="A random text. The same request with the same key is done once, and answered alike for a day.",
    ),
]
REPLAYED = {"Idempotency-Replayed": "true"}
# Makes the answer to store from an output; None if the request has no key.
Finish = Callable[[BaseModel], StoredAnswer | None]


async def answer_once(
    request: Request, key: str, work: Callable[[Finish], Awaitable[BaseModel]], status: int = 200
) -> Response:
    """The response to a request with an idempotency key; without a key, or without a log, `work` is simply done.

    `work` gets the function that makes the answer to store, and stores it with what it records. Raises ServeError: 409
    while the first request with the key is not answered, 422 if the key was used for another request.
    """
    log = request.app.state.service.log
    if not key or log is None:
        return to_response(await work(lambda output: None), status)
    scope, route = request_key(request), f"{request.method} {request.url.path}"
    content = request.url.query.encode() + b"\0" + await request.body()
    reservation = await log.reserve(key, route, log.hash_bytes(content), scope)
    if reservation.state == "conflict":
        raise ServeError(
            422,
            "This Idempotency-Key was used for another request",
            got=key[:60],
            hint="Use a new key for each request, and the same one only to repeat it.",
        )
    if reservation.state == "in progress":
        raise ServeError(
            409,
            "The first request with this Idempotency-Key is not answered yet",
            got=key[:60],
            hint="Send it again in a moment.",
            headers={"Retry-After": "1"},
        )
    if reservation.answer is not None:
        stored = reservation.answer
        return Response(stored.body, stored.status, dict(REPLAYED), media_type=stored.media_type)
    try:
        output = await work(lambda output: StoredAnswer(key, scope, status, encode(output)))
    except BaseException:
        await log.release(key, scope)
        raise
    return to_response(output, status)


def encode(output: BaseModel) -> bytes:
    """An output as JSON."""
    return output.model_dump_json().encode()


def to_response(output: BaseModel, status: int) -> Response:
    """An output as a response."""
    return Response(encode(output), status, media_type="application/json")
