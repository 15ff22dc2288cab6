"""Routes that price: one listing and a batch."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Annotated

from fastapi import APIRouter, Query, Request, Response

from pricesmith.batch.priced_row import PricedRow
from pricesmith.core.types import Quote
from pricesmith.serve.engine import Engine
from pricesmith.serve.errors import ServeError, declare, request_id, request_key
from pricesmith.serve.explain import check_explainable, explain_price
from pricesmith.serve.idempotency import Finish, IdempotencyKey, answer_once
from pricesmith.serve.loaded_model import Answer, LoadedModel
from pricesmith.serve.log_records import StoredAnswer, new_quote_id
from pricesmith.serve.schemas import (
    MAX_COMPARABLES,
    MAX_NAME,
    BatchOutput,
    BatchRequest,
    ComparableOutput,
    Described,
    PriceOutput,
    PriceRequest,
)
from pricesmith.serve.service import Service

router = APIRouter(tags=["prices"])
LINES = {"application/x-ndjson": {"schema": {"type": "string"}}}  # stream.py
Explain = Annotated[
    bool,
    Query(description="What moved the price: leave out a word or line at a time. Not for API models."),
]
ModelName = Annotated[str, Query(max_length=MAX_NAME, description="Of a stream: the model (default: the first one).")]
Comparables = Annotated[int, Query(ge=0, le=MAX_COMPARABLES, description="Similar training listings to return.")]


def get_service(request: Request) -> Service:
    """The service of the application."""
    service: Service = request.app.state.service
    return service


@router.post("/v1/price", responses=declare(400, 404, 408, 413, 422))
async def price(
    request: Request, body: PriceRequest, comparables: Comparables = 0, explain: Explain = False
) -> PriceOutput:
    """Price one listing, with its interval."""
    engine = get_service(request).engine(body.model)
    if not explain:
        (output,) = await price_listings(request, engine, [body], comparables, single=True)
        return output
    check_explainable(engine)
    contributions = asyncio.create_task(explain_price(engine, body))  # both are priced in one batch
    try:
        (output,) = await price_listings(request, engine, [body], comparables, single=True)
        return output.model_copy(update={"explanation": await contributions})
    finally:
        contributions.cancel()


@router.post(
    "/v1/price/batch",
    response_model=BatchOutput,
    responses={200: {"content": LINES}, **declare(400, 404, 408, 409, 413, 422)},
    openapi_extra={"requestBody": {"content": LINES}},
)
async def price_batch(
    request: Request, body: BatchRequest, comparables: Comparables = 0, idempotency_key: IdempotencyKey = ""
) -> Response:
    """Price many listings in one request; one that cannot be priced has no price and says why in `note`.

    With Content-Type application/x-ndjson, any number of listings, one a line, are answered one a line while they
    arrive: each answer has the number of its `line`, and is a quote or an `error`. Read while you send.
    """
    service = get_service(request)
    if len(body.listings) > service.settings.max_listings:
        raise ServeError(
            413,
            "Too many listings in one request",
            got=f"{len(body.listings):,}",
            allowed=f"at most {service.settings.max_listings:,}",
            hint="Send several requests, or upload a file to /v1/files.",
        )
    engine = service.engine(body.model)

    async def work(finish: Finish) -> BatchOutput:
        quotes = await price_listings(request, engine, body.listings, comparables, finish=finish)
        return BatchOutput(quotes=quotes)

    return await answer_once(request, idempotency_key, work)


async def price_listings(
    request: Request,
    engine: Engine,
    listings: Sequence[Described],
    comparables: int = 0,
    *,
    single: bool = False,
    finish: Finish = lambda output: None,
) -> list[PriceOutput]:
    """Price listings, and record the quotes before they are answered, with what `finish` makes of them.

    With `single`, a listing that cannot be priced raises its UsageError. Raises LogUnavailable if the quotes cannot be
    recorded.
    """
    ids = [new_quote_id() for _ in listings]
    loaded, answers = await engine.price(listings, ids, comparables)
    if single and answers[0].error is not None:
        raise answers[0].error
    outputs = [build_output(engine, loaded, id, answer) for id, answer in zip(ids, answers, strict=True)]
    await record_outputs(request, engine, loaded, answers, outputs, finish(BatchOutput(quotes=outputs)))
    return outputs


async def record_outputs(
    request: Request,
    engine: Engine,
    loaded: LoadedModel,
    answers: Sequence[Answer],
    outputs: Sequence[PriceOutput],
    stored: StoredAnswer | None = None,
) -> None:
    """Write quotes to the log, if there is one, with the answer to repetitions; they are on disk when this returns."""
    log = get_service(request).log
    if log is None:
        return
    source = {"request_id": request_id(request), "key_name": request_key(request)}
    records = []
    for answer, output in zip(answers, outputs, strict=True):
        if answer.listing is None:
            continue  # nothing was quoted
        quote = Quote(
            output.price,
            output.low,
            output.high,
            cost_usd=output.cost_usd,
            nothing_similar=output.nothing_similar,
            note=output.note,
        )
        records.append(
            log.build_quote(
                answer.listing,
                quote,
                model=engine.name,
                identity=loaded.model.identity,
                currency=output.currency,
                quote_id=output.id,
                **source,
            )
        )
    if records or stored is not None:
        await log.record_quotes(records, stored)


def build_output(engine: Engine, loaded: LoadedModel, id: str, answer: Answer) -> PriceOutput:
    """The answer for one listing as it is sent."""
    currency = str(loaded.model.info["currency"])
    row = answer.row or PricedRow(id, None, None, None, currency, answer.error.what if answer.error else "")
    near = [
        ComparableOutput(
            id=comparable.id, title=comparable.title, price=comparable.price, similarity=round(comparable.similarity, 3)
        )
        for comparable in answer.comparables
    ]
    return PriceOutput(
        id=id,
        price=row.price,
        low=row.low,
        high=row.high,
        level=loaded.model.level,
        currency=row.currency,
        note=row.note,
        nothing_similar=row.nothing_similar,
        not_given=list(answer.not_given),
        model=engine.name,
        cost_usd=row.cost_usd,
        comparables=near,
    )
