"""What moved a price: leave out one word, line or field at a time and compare.

    contributions = await explain_price(engine, ListingInput(text="Cobalt drill, size 12 kg"))
    contributions[0]        Contribution(part="Cobalt", factor=1.31)

A factor of 1.31: with this part the price is 1.31 times the price without it. Factors of parts that belong together do
not multiply to the price. All variants are priced in one batch.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from pricesmith.catalog.clean import cell_text
from pricesmith.serve.engine import Engine
from pricesmith.serve.errors import ServeError
from pricesmith.serve.schemas import Contribution, Described, ListingInput

MAX_PARTS = 60
MAX_SHOWN = 200  # characters of a part
NAMED = ("category", "brand")


async def explain_price(engine: Engine, body: ListingInput) -> list[Contribution]:
    """The factor of each part of a listing, the largest effect first. A part without which too little is left to price
    has none. Nothing is logged.

    Raises ServeError (422) as `check_explainable` does.
    """
    check_explainable(engine)
    parts = list(leave_out_parts(body))
    variants: list[Described] = [body, *(variant for _, variant in parts)]
    _, answers = await engine.price(variants, [""] * len(variants))
    prices = [answer.row.price if answer.row is not None else None for answer in answers]
    if prices[0] is None:
        return []
    contributions = [
        Contribution(part=part[:MAX_SHOWN], factor=round(prices[0] / price, 4))
        for (part, _), price in zip(parts, prices[1:], strict=True)
        if price
    ]
    return sorted(contributions, key=lambda contribution: -abs(math.log(contribution.factor)))


def check_explainable(engine: Engine) -> None:
    """Raises ServeError (422) for a model that asks an API model: every variant would cost money."""
    if engine.model.asks_api:
        raise ServeError(
            422,
            "This model does not explain its prices",
            got=f"{engine.name} asks an API model, and an explanation takes up to {MAX_PARTS} answers",
            allowed="a model that asks no API model",
            hint="Leave out `explain`, or name another `model`.",
        )


def leave_out_parts(body: ListingInput) -> Iterator[tuple[str, ListingInput]]:
    """Each part of a listing with the listing that lacks it: the words of the title, every field, and the lines of the
    text; the words of a text that is one line. Neighbors go together where there are more than 60 parts."""
    fields = body.all_fields()
    lines = [line for line in body.text.split("\n") if line.strip()]
    title, rest = (body.title.split(), lines) if body.title else (lines[0].split() if lines else [], lines[1:])
    words = rest[0].split() if len(rest) == 1 else []
    count = max(2, MAX_PARTS - len(fields))
    for part, left in leave_out_each(title, count // 2):
        if body.title:
            yield " ".join(part), body.model_copy(update={"title": " ".join(left)})
        else:
            yield " ".join(part), body.model_copy(update={"text": "\n".join([" ".join(left), *rest])})
    head = [] if body.title else [" ".join(title)]
    for part, left in leave_out_each(words or rest, count - count // 2):
        shorter = [" ".join(left)] if words else left
        yield (" " if words else "\n").join(part), body.model_copy(update={"text": "\n".join([*head, *shorter])})
    yield from leave_out_fields(body)


def leave_out_fields(body: ListingInput) -> Iterator[tuple[str, ListingInput]]:
    """Each field with the listing that lacks it."""
    for name in NAMED:
        if value := getattr(body, name):
            yield f"{name}: {value}", body.model_copy(update={name: ""})
    for name, value in list(body.fields.items())[:MAX_PARTS]:
        left = {other: cell for other, cell in body.fields.items() if other != name}
        yield f"{name}: {cell_text(value)}", body.model_copy(update={"fields": left})


def leave_out_each(parts: Sequence[str], limit: int) -> Iterator[tuple[list[str], list[str]]]:
    """Each part and the others; parts are joined to at most `limit` groups of neighbors."""
    size = max(1, math.ceil(len(parts) / limit))
    for start in range(0, len(parts), size):
        yield list(parts[start : start + size]), [*parts[:start], *parts[start + size :]]
