"""The tab "Price one": a form, and the price of what it describes."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.responses import HTMLResponse
from pydantic import ValidationError

from pricesmith.core.errors import PricesmithError, UsageError
from pricesmith.serve.engine import Engine
from pricesmith.serve.explain import explain_price
from pricesmith.serve.feedback import latest_day
from pricesmith.serve.pages.forms import FIELD, check_token, is_partial, read_fields, read_form
from pricesmith.serve.pages.render import error_status, render
from pricesmith.serve.pages.strip import Strip, build_strip
from pricesmith.serve.pages.wording import (
    count_training,
    describe_note,
    describe_price,
    describe_training,
    describe_width,
    format_asking_price,
    format_rounded,
    format_rounded_range,
    is_sold,
)
from pricesmith.serve.pricing import build_output, get_service, price_listings
from pricesmith.serve.schemas import MAX_TEXT, Contribution, ListingInput, PriceOutput
from pricesmith.text.currency import currency_name
from pricesmith.text.formatting import to_single_line

COMPARABLES = 5
MOVES = 10  # parts of a text that are shown
LEAST_MOVE = 0.01  # parts that move the price less are not shown
MAX_INPUTS = 40  # fields of the catalog with an input of their own; the others go into the text

router = APIRouter()


@dataclass(frozen=True)
class PriceForm:
    """What was typed into the form."""

    text: str = ""
    model: str = ""
    fields: Mapping[str, str] | None = None

    @classmethod
    def read(cls, form: Mapping[str, str]) -> PriceForm:
        """The form as it was sent."""
        return cls(form.get("text", ""), form.get("model", ""), read_fields(form))

    def listing(self) -> ListingInput:
        """The listing to price. Raises UsageError if a text is too long."""
        try:
            return ListingInput(text=self.text, fields=dict(self.fields or {}))
        except ValidationError as error:
            place = str(error.errors()[0]["loc"][-1])
            raise UsageError(
                "This text is too long",
                got=f"{len(self.text):,} characters" if place == "text" else place[:60],
                allowed=f"at most {MAX_TEXT:,} characters",
                hint="Shorten it: a model reads the first few thousand characters.",
            ) from None


@dataclass(frozen=True)
class FormField:
    """An input for a column of the catalog. `name` is that of the input, `choices` are suggestions."""

    name: str
    label: str
    value: str
    choices: tuple[str, ...] = ()


def form_fields(engine: Engine, given: Mapping[str, str]) -> list[FormField]:
    """The inputs for the columns of a model's catalog."""
    info, known = engine.model.info, engine.loaded.reader.known
    named = [name for name in ("category", "brand") if info["columns"].get(name)]
    names = [*named, *(name for name in known if name not in named)][:MAX_INPUTS]
    choices = tuple(str(name) for name in info.get("categories", ()))[:200]
    return [
        FormField(
            f"{FIELD}{name}",
            name.replace("_", " ").strip().capitalize() or name,
            given.get(name, ""),
            choices if name == "category" else (),
        )
        for name in names
    ]


@dataclass(frozen=True)
class SimilarRow:
    """A similar training listing as it is shown."""

    title: str
    price: str
    similarity: str
    sold: bool


@dataclass(frozen=True)
class Result:
    """A quote as the page shows it. `is_guess`: nothing in the training data is similar."""

    quote: PriceOutput
    price: str
    range: str
    meaning: str
    notes: tuple[str, ...]
    is_guess: bool
    training_count: str
    strip: Strip | None
    similar: tuple[SimilarRow, ...]
    currency: str
    today: str

    @property
    def headline(self) -> str:
        """The price and its range in one line."""
        if self.is_guess:
            return "No price: nothing like this was in the training data"
        return f"{self.price}, likely {self.range}" if self.range else self.price


def build_result(engine: Engine, quote: PriceOutput) -> Result:
    """A quote as the page shows it. Raises UsageError if it has no price."""
    model = engine.model
    price_range = (float(model.info["price_range"][0]), float(model.info["price_range"][1]))
    if quote.price is None:
        raise UsageError("There is no price for this", got=to_single_line(quote.note, 200), hint="Try again later.")
    has_range = quote.low is not None and quote.high is not None
    shown_range = ""
    if quote.low is not None and quote.high is not None:
        shown_range = format_rounded_range(quote.low, quote.high, quote.currency)
    is_guess = bool(quote.nothing_similar)
    near = () if is_guess else quote.comparables
    notes = [describe_width(quote, price_range), describe_note(quote.note)]
    return Result(
        quote=quote,
        price=format_rounded(quote.price, quote.currency),
        range=shown_range,
        meaning=describe_price(model, has_range=has_range),
        notes=tuple(note for note in notes if note),
        is_guess=is_guess,
        training_count=count_training(model),
        strip=build_strip(quote.price, quote.low, quote.high, [row.price for row in near], quote.currency),
        similar=tuple(
            SimilarRow(
                row.title,
                format_asking_price(row.price, quote.currency),
                f"{row.similarity:.0%}".replace("%", " %"),
                is_sold(row.id),
            )
            for row in near
        ),
        currency=currency_name(quote.currency),
        today=latest_day().isoformat(),
    )


def price_page(
    request: Request,
    form: PriceForm,
    *,
    result: Result | None = None,
    error: PricesmithError | None = None,
    **more: Any,
) -> HTMLResponse:
    """The tab "Price one", or only its result if htmx asks. `more` opens what is folded away in a result."""
    service = get_service(request)
    engine = service.engine(form.model if form.model in service.engines else "")
    status = error_status(error) if error is not None else 200
    values: dict[str, Any] = {"form": form, "result": result, "error": error, "tab": "", "moved": None, "answers": None}
    values |= {"can_explain": not engine.model.asks_api, "keeps_log": service.log is not None, **more}
    if is_partial(request):
        return render(request, "result.html.j2", status, **values)
    fields = form_fields(engine, form.fields or {})
    return render(
        request,
        "price.html.j2",
        status,
        title=result.headline if result else "Price one",
        fields=fields,
        chosen=engine.name,
        training=describe_training(engine.model),
        currency=currency_name(str(engine.model.info["currency"])),
        open_fields=any(field.value for field in fields) or (bool(form.model) and engine is not service.default),
        max_text=MAX_TEXT,
        **values,
    )


@router.get("/")
async def show_price_form(request: Request) -> Response:
    """The empty form."""
    return price_page(request, PriceForm())


@router.post("/")
async def price_one(request: Request) -> Response:
    """The form with the price of what it describes."""
    values = await read_form(request)
    form = PriceForm.read(values)
    try:
        check_token(request, values.get("token", ""))
        engine = get_service(request).engine(form.model)
        (quote,) = await price_listings(request, engine, [form.listing()], COMPARABLES, single=True)
        return price_page(request, form, result=build_result(engine, quote))
    except PricesmithError as error:
        return price_page(request, form, error=error)


async def quote_again(engine: Engine, form: PriceForm, quote_id: str) -> PriceOutput:
    """The quote that a page shows already, under its id. It is not logged again."""
    loaded, (answer,) = await engine.price([form.listing()], [quote_id], COMPARABLES)
    if answer.error is not None:
        raise answer.error
    return build_output(engine, loaded, quote_id, answer)


@router.post("/moved")
async def what_moved(request: Request) -> Response:
    """What moved the price: each part of the text, and the price without it."""
    values = await read_form(request)
    form = PriceForm.read(values)
    try:
        check_token(request, values.get("token", ""))
        engine = get_service(request).engine(form.model)
        moved = describe_moves(await explain_price(engine, form.listing()))
        if is_partial(request):
            return render(request, "moved.html.j2", moved=moved)
        quote = await quote_again(engine, form, values.get("quote_id", "")[:80])
        return price_page(request, form, result=build_result(engine, quote), moved=moved)
    except PricesmithError as error:
        return fold_error(request, form, error)


@router.post("/models")
async def what_models_say(request: Request) -> Response:
    """The price that each served model gives."""
    values = await read_form(request)
    form = PriceForm.read(values)
    try:
        check_token(request, values.get("token", ""))
        service = get_service(request)
        engine = service.engine(form.model)
        answers = [await ask_model(other, form, other is engine) for other in service.engines.values()]
        if is_partial(request):
            return render(request, "answers.html.j2", answers=answers)
        quote = await quote_again(engine, form, values.get("quote_id", "")[:80])
        return price_page(request, form, result=build_result(engine, quote), answers=answers)
    except PricesmithError as error:
        return fold_error(request, form, error)


def fold_error(request: Request, form: PriceForm, error: PricesmithError) -> HTMLResponse:
    """An error in what is folded away: a box in its place, or the whole page with it."""
    if is_partial(request):
        return render(request, "error.html.j2", error_status(error), error=error)
    return price_page(request, form, error=error)


@dataclass(frozen=True)
class Move:
    """A part of a text and what it does to the price. `start` and `width` are those of its bar, in per cent."""

    part: str
    change: str
    start: str
    width: str
    up: bool


def describe_moves(contributions: Sequence[Contribution]) -> list[Move]:
    """The parts that move a price most, as bars on both sides of a middle line."""
    moving = [part for part in contributions if abs(part.factor - 1) >= LEAST_MOVE][:MOVES]
    most = max((abs(math.log(part.factor)) for part in moving), default=1.0)
    moves = []
    for part in moving:
        length = 50 * abs(math.log(part.factor)) / most
        up = part.factor > 1
        change = f"{abs(part.factor - 1):.0%} {'higher' if up else 'lower'}"
        if part.factor >= 3:
            change = f"{part.factor:,.1f} times as high"
        start = 50.0 if up else 50 - length
        moves.append(Move(part.part, change.replace("%", " %"), f"{start:.2f}%", f"{max(length, 0.5):.2f}%", up))
    return moves


async def ask_model(engine: Engine, form: PriceForm, chosen: bool) -> dict[str, Any]:
    """What a model says about a listing, or why it says nothing."""
    answer: dict[str, Any] = {"name": engine.name, "kind": engine.model.manifest["kind"], "chosen": chosen}
    try:
        quote = await quote_again(engine, form, "")
    except PricesmithError as error:
        return answer | {"price": "", "range": "", "note": error.what}
    if quote.price is None:
        return answer | {"price": "", "range": "", "note": quote.note}
    note = "Nothing similar in its training data: a guess." if quote.nothing_similar else ""
    shown_range = ""
    if quote.low is not None and quote.high is not None:
        shown_range = format_rounded_range(quote.low, quote.high, quote.currency)
    notes = " ".join(text for text in (note, describe_note(quote.note)) if text)
    return answer | {"price": format_rounded(quote.price, quote.currency), "range": shown_range, "note": notes}
