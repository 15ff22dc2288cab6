"""The tab "Price one": a form, and the price of what it describes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.responses import HTMLResponse
from pydantic import ValidationError

from pricesmith.core.errors import PricesmithError, UsageError
from pricesmith.serve.engine import Engine
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
)
from pricesmith.serve.pricing import get_service, price_listings
from pricesmith.serve.schemas import MAX_TEXT, ListingInput, PriceOutput
from pricesmith.text.currency import currency_name
from pricesmith.text.formatting import to_single_line

COMPARABLES = 5
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

    @property
    def headline(self) -> str:
        """The price and its range in one line."""
        if self.is_guess:
            return "No price: nothing like this was in the training data"
        return f"{self.price}, likely {self.range}" if self.range else self.price


def build_result(engine: Engine, quote: PriceOutput) -> Result:
    """A quote as the page shows it."""
    model = engine.model
    price_range = (float(model.info["price_range"][0]), float(model.info["price_range"][1]))
    assert quote.price is not None
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
                row.title, format_asking_price(row.price, quote.currency), f"{row.similarity:.0%}".replace("%", " %")
            )
            for row in near
        ),
    )


def price_page(
    request: Request,
    form: PriceForm,
    *,
    result: Result | None = None,
    error: PricesmithError | None = None,
    status: int = 200,
) -> HTMLResponse:
    """The tab "Price one", or only its result if htmx asks."""
    service = get_service(request)
    engine = service.engine(form.model if form.model in service.engines else "")
    values: dict[str, Any] = {"form": form, "result": result, "error": error, "tab": ""}
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
        service = get_service(request)
        engine = service.engine(form.model)
        (quote,) = await price_listings(request, engine, [form.listing()], COMPARABLES, single=True)
        if quote.price is None:
            raise UsageError("There is no price for this", got=to_single_line(quote.note, 200), hint="Try again later.")
        return price_page(request, form, result=build_result(engine, quote))
    except PricesmithError as error:
        return price_page(request, form, error=error, status=error_status(error))
