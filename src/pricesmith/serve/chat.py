"""The chat API of OpenAI, so that any of its clients, and `pricesmith eval api:NAME@url=...`, can ask for a price.

    curl http://127.0.0.1:8000/v1/chat/completions -H 'Content-Type: application/json' \\
        -d '{"model": "shop", "messages": [{"role": "user", "content": "Garden hose, 25 m"}]}'

The last message of the user is the listing; earlier messages are not read. The question that `api:` puts before a
listing is removed, so that it gets the price of /v1/price. The answer is the number, or JSON if `response_format` asks
for it. Parameters of sampling are accepted and change nothing. "Tokens" are words: a price model has no others.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import AsyncIterator, Mapping
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Request, Response
from fastapi.responses import StreamingResponse
from pydantic import BaseModel, ConfigDict, Field

from pricesmith.serve.engine import Engine
from pricesmith.serve.errors import ServeError, declare
from pricesmith.serve.idempotency import to_response
from pricesmith.serve.pricing import get_service, price_listings
from pricesmith.serve.schemas import ListingInput, Name, PriceOutput, Text
from pricesmith.text.formatting import format_number
from pricesmith.text.prompts import Prompt

router = APIRouter(tags=["chat"])
QUESTION = re.compile(r"\A(What does this cost to the nearest [^\n]{1,40}\?)\n\n")
MAX_MESSAGES = 1_000
ANSWER = ("price", "low", "high", "currency", "note")


class ContentPart(BaseModel):
    """A part of a message; only text is read."""

    type: Annotated[str, Field(max_length=40)]
    text: Text = ""


class ChatMessage(BaseModel):
    """One message of a chat."""

    role: Literal["system", "developer", "user", "assistant", "tool", "function"]
    content: Text | Annotated[list[ContentPart], Field(max_length=MAX_MESSAGES)] | None = None

    @property
    def text(self) -> str:
        """The words of the message."""
        parts = [self.content] if isinstance(self.content, str) else [part.text for part in self.content or ()]
        return "\n".join(part for part in parts if part)


class ResponseFormat(BaseModel):
    """Whether the answer is JSON, and with which properties."""

    model_config = ConfigDict(extra="ignore")
    type: Literal["text", "json_object", "json_schema"] = "text"
    json_schema: dict[str, Any] | None = None


class ChatRequest(BaseModel):
    """A chat. Further parameters of OpenAI's API are accepted and ignored."""

    model_config = ConfigDict(
        extra="ignore",
        allow_inf_nan=False,
        strict=True,
        json_schema_extra={"examples": [{"messages": [{"role": "user", "content": "Garden hose, 25 m"}]}]},
    )
    messages: list[ChatMessage] = Field(min_length=1, max_length=MAX_MESSAGES)
    model: Name = Field("", description="Name of a served model (default: the first one).")
    response_format: ResponseFormat | None = None
    stream: bool | None = False
    stream_options: dict[str, Any] | None = None
    n: int | None = Field(1, ge=1, le=16, description="All answers are the same.")


class ChatAnswer(BaseModel):
    """The message of the model."""

    role: Literal["assistant"] = "assistant"
    content: str = Field(description="The number, as 24.50, or JSON if `response_format` asks for it.")
    refusal: None = None


class ChatChoice(BaseModel):
    """One answer."""

    index: int
    message: ChatAnswer
    finish_reason: Literal["stop"] = "stop"
    logprobs: None = None


class ChatUsage(BaseModel):
    """How long request and answer are, in words."""

    prompt_tokens: int = Field(description="Words of all messages.")
    completion_tokens: int = Field(description="Words of all answers.")
    total_tokens: int


class ChatOutput(BaseModel):
    """A completed chat; `id` is that of the quote, for feedback."""

    id: str
    object: Literal["chat.completion"] = "chat.completion"
    created: int
    model: str
    choices: list[ChatChoice]
    usage: ChatUsage


@router.post(
    "/v1/chat/completions",
    response_model=ChatOutput,
    responses={
        200: {"content": {"text/event-stream": {"schema": {"description": "Chunks, then [DONE]."}}}},
        **declare(400, 404, 408, 413, 422),
    },
)
async def complete_chat(request: Request, body: ChatRequest) -> Response:
    """Price the last message of the user, as a model of OpenAI would answer."""
    engine = get_service(request).engine(body.model)
    properties = find_properties(body.response_format)
    listing = read_listing(body, engine)
    (quote,) = await price_listings(request, engine, [listing], single=True)
    content = write_answer(quote, properties)
    output = build_chat(body, engine, quote.id, content)
    if not body.stream:
        return to_response(output, 200)
    with_usage = bool((body.stream_options or {}).get("include_usage"))
    return StreamingResponse(stream_chat(output, with_usage), media_type="text/event-stream")


def read_listing(body: ChatRequest, engine: Engine) -> ListingInput:
    """The listing of a chat. Raises ServeError (422) without a message of a user, and if another currency is asked."""
    text = next((message.text for message in reversed(body.messages) if message.role == "user"), "")
    if not text.strip():
        raise ServeError(422, "There is no message of the user to price", hint='Send {"role": "user", "content": ...}.')
    question = QUESTION.match(text)
    if question is None:
        return ListingInput(text=text)
    currency = str(engine.model.info["currency"])
    own = Prompt(currency=currency).question
    if question[1] != own:
        raise ServeError(
            422,
            f"This model prices in {currency}",
            got=question[1],
            allowed=own,
            hint="Ask a model of your currency.",
        )
    return read_rendered(text[question.end() :])


def read_rendered(text: str) -> ListingInput:
    """The listing from which `render` made this text.

    >>> read_rendered("Garden hose\\nCategory: garden\\nBrand: Aster\\n25 m").category
    'garden'
    """
    title, _, rest = text.partition("\n")
    values: dict[str, Any] = {}
    for name in ("category", "brand"):
        line, _, after = rest.partition("\n")
        label = f"{name.capitalize()}: "
        if line.startswith(label) and line != label:
            values[name], rest = line.removeprefix(label), after
    return ListingInput(title=title, text=rest, **values) if values else ListingInput(text=text)


def find_properties(wanted: ResponseFormat | None) -> dict[str, Any] | None:
    """The properties of the JSON that is asked for: those of its schema, else all of ours; None for plain text.

    Raises ServeError (422) for a schema without a price.
    """
    if wanted is None or wanted.type == "text":
        return None
    schema = (wanted.json_schema or {}).get("schema")
    if wanted.type == "json_object" or not isinstance(schema, Mapping):
        return dict.fromkeys(ANSWER)
    properties = schema.get("properties")
    if not isinstance(properties, Mapping) or "price" not in properties:
        allowed = ", ".join(ANSWER)
        raise ServeError(422, "The JSON schema has no property `price`", allowed=f"price, and any of: {allowed}")
    return dict(properties)


def write_answer(quote: PriceOutput, properties: Mapping[str, Any] | None) -> str:
    """The content of an answer: the number, or JSON with these properties."""
    if properties is None:
        if quote.price is None:
            return f"No price: {quote.note}"
        return format_number(quote.price, quote.currency).replace(",", "")
    values = {name: getattr(quote, name) for name in ANSWER if name in properties}
    for name, schema in properties.items():
        if isinstance(schema, Mapping) and schema.get("type") == "integer" and isinstance(values.get(name), float):
            values[name] = round(values[name])
    return json.dumps(values)


def build_chat(body: ChatRequest, engine: Engine, id: str, content: str) -> ChatOutput:
    """The completed chat."""
    count = body.n or 1
    asked = sum(len(message.text.split()) for message in body.messages)
    answered = count * len(content.split())
    return ChatOutput(
        id=id,
        created=int(time.time()),
        model=engine.name,
        choices=[ChatChoice(index=index, message=ChatAnswer(content=content)) for index in range(count)],
        usage=ChatUsage(prompt_tokens=asked, completion_tokens=answered, total_tokens=asked + answered),
    )


async def stream_chat(output: ChatOutput, with_usage: bool) -> AsyncIterator[bytes]:
    """The chat as server-sent events: the whole answer in one chunk, then its end."""
    shared = {"id": output.id, "object": "chat.completion.chunk", "created": output.created, "model": output.model}
    for choice in output.choices:
        delta = {"role": "assistant", "content": choice.message.content}
        yield event(shared, [{"index": choice.index, "delta": delta, "finish_reason": None}])
        yield event(shared, [{"index": choice.index, "delta": {}, "finish_reason": "stop"}])
    if with_usage:
        yield event({**shared, "usage": output.usage.model_dump()}, [])
    yield b"data: [DONE]\n\n"


def event(shared: Mapping[str, Any], choices: list[dict[str, Any]]) -> bytes:
    """One chunk as an event."""
    return b"data: " + json.dumps({**shared, "choices": choices}).encode() + b"\n\n"
