"""The tab "Sold prices": what things were sold for, how far the quotes were from it, a form, and deletion."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.responses import HTMLResponse, RedirectResponse
from pydantic import ValidationError

from pricesmith.core.errors import PricesmithError, UsageError
from pricesmith.serve.drift import describe_sold
from pricesmith.serve.drift_feedback import SoldDrift, measure_feedback
from pricesmith.serve.errors import ServeError
from pricesmith.serve.feedback import latest_day, record_sale, require_log
from pricesmith.serve.log_records import FeedbackRecord
from pricesmith.serve.pages.forms import base_path, check_token, is_partial, read_form
from pricesmith.serve.pages.price import PriceForm
from pricesmith.serve.pages.render import error_status, render
from pricesmith.serve.pages.wording import format_asking_price, format_day, format_rounded
from pricesmith.serve.pricing import get_service
from pricesmith.serve.schemas import MAX_TEXT, FeedbackRequest
from pricesmith.serve.service import Service
from pricesmith.text.currency import currency_name
from pricesmith.text.formatting import MINUS, format_price, format_range, format_share, format_share_interval
from pricesmith.text.price_parser import find_decimal_marks, parse_price

ROWS = 25  # sold prices on one page

router = APIRouter()


@dataclass(frozen=True)
class SoldForm:
    """What was typed into the form of a sold price."""

    listing: PriceForm = field(default_factory=PriceForm)
    sold_price: str = ""
    sold_on: str = ""
    quote_id: str = ""

    @classmethod
    def read(cls, form: Mapping[str, str]) -> SoldForm:
        """The form as it was sent."""
        values = (form.get(name, "").strip() for name in ("sold_price", "sold_on", "quote_id"))
        return cls(PriceForm.read(form), *values)

    def feedback(self, currency: str) -> FeedbackRequest:
        """The sold price as the REST API takes it. Raises UsageError for an amount or a day that is none."""
        amount = parse_price(self.sold_price, currency, find_decimal_marks([self.sold_price]) or ".")
        if isinstance(amount, str) or not amount[0] > 0:
            raise UsageError(
                "This is not the price of a sale",
                got=self.sold_price[:60] or "nothing",
                allowed="an amount above 0, such as 24.50",
                hint="Type the amount that was paid.",
            )
        values: dict[str, Any] = {
            "sold_price": amount[0],
            "currency": amount[1] or currency,
            "quote_id": self.quote_id,
            "sold_on": self.sold_on or None,
            "model": self.listing.model,
        }
        listing = self.listing.listing()
        if listing.text.strip() or listing.fields:
            values["listing"] = listing
        try:
            return FeedbackRequest.model_validate(values)
        except ValidationError as error:
            place = str(error.errors()[0]["loc"][0])
            raise UsageError(
                "This is not the day of a sale" if place == "sold_on" else f"A value is wrong: {place}",
                got=str(values.get(place))[:60],
                allowed="a day such as 2026-10-03" if place == "sold_on" else error.errors()[0]["msg"][:120],
            ) from None


@dataclass(frozen=True)
class SoldRow:
    """A sold price as the page shows it."""

    id: str
    title: str
    day: str
    sold: str
    quoted: str
    difference: str
    inside: bool | None


def describe_row(row: FeedbackRecord) -> SoldRow:
    """A sold price, and how far the quote was from it."""
    same = row.price is not None and row.quote_currency in ("", row.currency)
    difference, inside = "", None
    if same and row.price:
        share = row.price / row.sold_price - 1
        difference = "exact" if round(100 * share) == 0 else f"{abs(share):.0%} too {'high' if share > 0 else 'low'}"
        if row.low is not None and row.high is not None:
            inside = row.low <= row.sold_price <= row.high
    return SoldRow(
        id=row.feedback_id,
        title=row.title or row.text[:200] or "(the text was not given)",
        day=format_day(row.sold_on or row.at[:10]),
        sold=format_asking_price(row.sold_price, row.currency),
        quoted=format_rounded(row.price, row.quote_currency or row.currency) if row.price else "",
        difference=difference.replace("%", " %").replace("-", MINUS),
        inside=inside,
    )


def summarize(service: Service, rows: Sequence[FeedbackRecord]) -> list[dict[str, Any]]:
    """How far the quotes of each model are from sold prices, for the models that have any; as `pricesmith drift`."""
    summaries = []
    for engine in service.engines.values():
        model, currency = engine.model, str(engine.model.info["currency"])
        sold = measure_feedback(rows, model.identity, currency, model.reference)
        if not sold.feedback:
            continue
        sentences = describe_sold(sold, currency, min(row.at[:10] for row in rows), "LOG")
        summaries.append({"name": engine.name, "sentences": sentences, "tiles": sold_tiles(sold, currency)})
    return summaries


def sold_tiles(sold: SoldDrift, currency: str) -> list[dict[str, str]]:
    """MAE, bias and coverage with their intervals; none with too few sold prices."""
    if sold.mae is None or not sold.biases:
        return []
    bias, tiles = sold.biases[0], []
    size = f"{abs(bias.share):.0%}".replace("%", " %")
    direction = "exact" if size == "0 %" else f"{size} too {'high' if bias.share > 0 else 'low'}"
    ends = "" if bias.low is None or bias.high is None else f"{100 * bias.low:+.0f} to {100 * bias.high:+.0f} %"
    tiles.append(("Quotes are", direction, f"95 % CI {ends}".replace("-", MINUS) if ends else ""))
    mae = sold.mae
    note = f"95 % CI {format_range(mae.low, mae.high, currency)}" if mae.low is not None else ""
    tiles.append(("MAE", format_price(mae.point, currency), note))
    if sold.coverage is not None:
        covered = sold.coverage
        bounds = f"95 % CI {format_share_interval(covered)}" if covered.low is not None else ""
        tiles.append(("Inside the range", format_share(covered.point), bounds))
    return [{"label": label, "value": value, "note": note} for label, value, note in tiles]


async def sold_page(
    request: Request, *, number: int = 1, form: SoldForm | None = None, error: PricesmithError | None = None
) -> HTMLResponse:
    """The form, the figures so far and a page of sold prices, the newest first."""
    service = get_service(request)
    engine = service.engine(form.listing.model if form and form.listing.model in service.engines else "")
    values: dict[str, Any] = {
        "tab": "sold",
        "title": "Sold prices",
        "form": form or SoldForm(),
        "error": error,
        "currency": currency_name(str(engine.model.info["currency"])),
        "today": latest_day().isoformat(),
        "chosen": engine.name,
        "max_text": MAX_TEXT,
        "keeps_log": service.log is not None,
        "rows": [],
        "number": 1,
        "pages": 1,
        "count": 0,
        "summaries": [],
    }
    if service.log is not None:
        rows = await asyncio.to_thread(service.log.read_feedback)
        pages = max(1, -(-len(rows) // ROWS))
        number = min(max(1, number), pages)
        shown = rows[::-1][(number - 1) * ROWS : number * ROWS]
        values["summaries"] = await asyncio.to_thread(summarize, service, rows)
        values |= {"rows": [describe_row(row) for row in shown], "number": number, "pages": pages, "count": len(rows)}
    return render(request, "sold.html.j2", error_status(error) if error else 200, **values)


@router.get("/sold")
async def show_sold(request: Request, page: str = "1") -> Response:
    """The sold prices."""
    number = int(page) if page.isascii() and page.isdigit() and len(page) < 7 else 1
    return await sold_page(request, number=number)


@router.post("/sold")
async def add_sold(request: Request) -> Response:
    """Store a sold price; the thank-you takes the place of the form if htmx asks."""
    values = await read_form(request)
    form = SoldForm.read(values)
    try:
        check_token(request, values.get("token", ""))
        engine = get_service(request).engine(form.listing.model)
        await record_sale(request, form.feedback(str(engine.model.info["currency"])))
    except PricesmithError as error:
        if is_partial(request):
            shown = {"form": form, "error": error, "today": latest_day().isoformat()}
            status, currency = error_status(error), currency_of(request, form)
            return render(request, "sold_part.html.j2", status, currency=currency, **shown)
        return await sold_page(request, form=form, error=error)
    if is_partial(request):
        return render(request, "sold_part.html.j2", form=None, error=None)
    return RedirectResponse(f"{base_path(request)}/sold", 303)


def currency_of(request: Request, form: SoldForm) -> str:
    """The name of the currency of the model that a form names."""
    service = get_service(request)
    engine = service.engine(form.listing.model if form.listing.model in service.engines else "")
    return currency_name(str(engine.model.info["currency"]))


@router.post("/sold/delete")
async def delete_sold(request: Request) -> Response:
    """Delete a sold price for good."""
    values = await read_form(request)
    page = values.get("page", "1")
    try:
        check_token(request, values.get("token", ""))
        id = values.get("feedback_id", "")[:80]
        if not (await require_log(request).delete_feedback(id)).feedback:
            raise ServeError(404, "There is no such sold price", got=id, hint="It may be deleted already.")
    except PricesmithError as error:
        return await sold_page(request, error=error)
    query = f"?page={page}" if page.isascii() and page.isdigit() and page != "1" else ""
    return RedirectResponse(f"{base_path(request)}/sold{query}", 303)
