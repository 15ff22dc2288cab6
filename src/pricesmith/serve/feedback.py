"""Routes of sold prices: record what a listing was sold for, and delete that again."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from typing import Annotated

from fastapi import APIRouter, Path, Request, Response

from pricesmith.catalog.clean import cell_text
from pricesmith.serve.engine import Engine
from pricesmith.serve.errors import ServeError, declare, request_key
from pricesmith.serve.idempotency import Finish, IdempotencyKey, answer_once
from pricesmith.serve.log import RequestLog
from pricesmith.serve.log_records import FeedbackRecord, new_quote_id
from pricesmith.serve.pricing import get_service
from pricesmith.serve.schemas import Described, FeedbackOutput, FeedbackRequest, ListingInput

router = APIRouter(tags=["sold prices"])
LINKS = {"delete": {"operationId": "delete_feedback", "parameters": {"id": "$response.body#/feedback_id"}}}


@router.post(
    "/v1/feedback",
    status_code=201,
    response_model=FeedbackOutput,
    responses={201: {"links": LINKS}, **declare(400, 404, 408, 409, 413, 422)},
)
async def record_feedback(request: Request, body: FeedbackRequest, idempotency_key: IdempotencyKey = "") -> Response:
    """Record what a thing was sold for, with its text, so that drift is noticed and a better model can be fitted.

    Name the quote that was given for it, describe the thing, or both. The text is stored with the price.
    """
    get_service(request).engine(body.model)

    async def work(finish: Finish) -> FeedbackOutput:
        return await record_sale(request, body, finish)

    return await answer_once(request, idempotency_key, work, 201)


async def record_sale(request: Request, body: FeedbackRequest, finish: Finish = lambda output: None) -> FeedbackOutput:
    """Store a sold price; on disk when this returns. Raises ServeError: 404 for a quote that is not in the log, without
    a description; 422 for a date in the future; 503 without a log."""
    log, engine = require_log(request), get_service(request).engine(body.model)
    if body.sold_on is not None and body.sold_on > latest_day():
        raise ServeError(422, "sold_on is in the future", got=body.sold_on.isoformat(), allowed="a day until today")
    quote = await asyncio.to_thread(log.find_quote, body.quote_id) if body.quote_id else None
    if quote is None and body.listing is None:
        raise ServeError(
            404,
            "There is no such quote in the log, and no description of the thing",
            got=body.quote_id[:80] or "neither quote_id nor listing",
            hint="Send `listing` with the text that was priced.",
        )
    record = FeedbackRecord(
        feedback_id=new_quote_id(),
        sold_price=body.sold_price,
        currency=body.currency or (quote.currency if quote else str(engine.model.info["currency"])),
        sold_on=body.sold_on.isoformat() if body.sold_on else "",
        quote_id=body.quote_id,
        key_name=request_key(request),
    )
    if body.listing is not None:
        record = describe_listing(record, body.listing)
        if quote is None:
            record = await add_quote(record, engine, log, body.listing)
    elif quote is not None and quote.text:
        title, _, text = quote.text.partition("\n")
        record = replace(record, title=title, text=text)
    output = FeedbackOutput(feedback_id=record.feedback_id, price=quote.price if quote else record.price)
    await log.record_feedback(record, finish(output))
    return output


def latest_day() -> date:
    """Today where the day begins first; a sale cannot be later."""
    return (datetime.now(UTC) + timedelta(hours=14)).date()


def require_log(request: Request) -> RequestLog:
    """The log. Raises ServeError (503) if the server keeps none."""
    log = get_service(request).log
    if log is None:
        raise ServeError(503, "This server keeps no log", hint="Start it with --log FILE.")
    return log


def describe_listing(record: FeedbackRecord, listing: Described) -> FeedbackRecord:
    """The record with the words of a listing as they were given; `curate` cleans them as those of any other source."""
    described = listing if isinstance(listing, ListingInput) else ListingInput(text=listing)
    title, text = described.title, described.text
    if not title:
        title, _, text = text.strip().partition("\n")
    return replace(
        record,
        title=title,
        text=text,
        category=described.category,
        brand=described.brand,
        fields={name: cell_text(value) for name, value in described.fields.items() if value is not None},
    )


async def add_quote(record: FeedbackRecord, engine: Engine, log: RequestLog, listing: Described) -> FeedbackRecord:
    """The record with what the model quotes now, for a sold listing that was not priced before; without a quote if it
    would cost money. Raises UsageError if the listing cannot be priced."""
    if engine.model.asks_api:
        return record
    loaded, (answer,) = await engine.price([listing], [record.feedback_id])
    if answer.error is not None:
        raise answer.error
    assert answer.row is not None
    assert answer.listing is not None
    return replace(
        record,
        model=engine.name,
        identity=loaded.model.identity,
        price=answer.row.price,
        low=answer.row.low,
        high=answer.row.high,
        quote_currency=answer.row.currency,
        listing_hash=log.hash_listing(answer.listing),
    )


@router.delete("/v1/feedback/{id}", status_code=204, response_class=Response, responses=declare(404, 422))
async def delete_feedback(request: Request, id: Annotated[str, Path(max_length=80)]) -> None:
    """Delete a sold price; its text is erased from the file of the log."""
    deleted = await require_log(request).delete_feedback(id)
    if not deleted.feedback:
        raise ServeError(404, "There is no such feedback", got=id[:80], hint="It may be deleted already.")
