"""Requests and responses of the REST API, as pydantic models; the OpenAPI page is made from them."""

from __future__ import annotations

from datetime import date
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, FailFast, Field, StringConstraints, model_validator

MAX_TEXT = 100_000  # characters of one listing that are accepted; a model reads the first few thousand
MAX_NAME = 2_000
MAX_FIELDS = 300
MAX_KEYS = 100  # of one object of a request
MAX_COMPARABLES = 20

Text = Annotated[str, StringConstraints(max_length=MAX_TEXT)]
Name = Annotated[str, StringConstraints(max_length=MAX_NAME)]
Cell = Text | int | float | bool | None


def refuse_number(value: object) -> object:
    """A value as it is. Raises ValueError for a number, which pydantic would take for the seconds since 1970."""
    if not isinstance(value, str | date):
        raise ValueError("a day is a text such as 2026-10-03")
    return value


Day = Annotated[date, Field(strict=False), BeforeValidator(refuse_number)]


class Request(BaseModel):
    """A request; unknown keys are errors, so that a misspelled one is not ignored, and so are values of another type
    than the schema names."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False, strict=True)

    @model_validator(mode="before")
    @classmethod
    def refuse_many_keys(cls, values: Any) -> Any:
        """Raises ValueError for an object with very many keys: an error for each of a million would take minutes."""
        if isinstance(values, dict) and len(values) > MAX_KEYS:
            raise ValueError(f"more than {MAX_KEYS} keys")
        return values


class ListingInput(Request):
    """One thing to price: free text, fields, or both."""

    text: Text = Field("", description="Free text. Its first line is the title, unless `title` is given.")
    title: Name = ""
    category: Name = ""
    brand: Name = ""
    fields: dict[Name, Cell] = Field(
        default_factory=dict, max_length=MAX_FIELDS, description="Columns of the model's catalog, such as pieces: 1351."
    )

    def all_fields(self) -> dict[str, object]:
        """The fields with title, category and brand, without empty ones."""
        named = {"title": self.title, "category": self.category, "brand": self.brand}
        return {**self.fields, **{name: value for name, value in named.items() if value}}


Described = Text | ListingInput


class PriceRequest(ListingInput):
    """One listing, and the model that prices it (default: the first one that is served)."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"text": "Garden hose, 25 m, brass fittings", "brand": "Aster"}]}
    )
    model: Name = ""


class BatchRequest(Request):
    """Several listings, each a text or an object."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"listings": ["Garden hose, 25 m", {"title": "Desk lamp", "brand": "Aster"}]}]}
    )
    listings: Annotated[list[Described], FailFast()] = Field(min_length=1)
    model: Name = ""


class ComparableOutput(BaseModel):
    """A similar training listing."""

    id: str
    title: str
    price: float
    similarity: float = Field(description="Cosine similarity, from 0 to 1.")


class Contribution(BaseModel):
    """What a part of the text does to the price: the price is `factor` times what it is without this part."""

    part: str
    factor: float


class PriceOutput(BaseModel):
    """One quote. `price` is null where there is none; `note` says why."""

    id: str = Field(description="Id of this quote; name it in feedback.")
    price: float | None
    low: float | None
    high: float | None
    level: float | None = Field(description="Share of true prices that such intervals contain.")
    currency: str
    note: str
    nothing_similar: bool | None = Field(description="True: no training listing is similar, so the price is a guess.")
    not_given: list[str] = Field(description="Columns of the catalog that the listing does not mention.")
    model: str
    cost_usd: float | None = Field(0.0, description="Fees of an API model; null if unknown.")
    comparables: list[ComparableOutput] = Field(default_factory=list)
    explanation: list[Contribution] | None = None


class BatchOutput(BaseModel):
    """The quotes of a batch, in order."""

    quotes: list[PriceOutput]


class ModelOutput(BaseModel):
    """A served model."""

    name: str
    kind: str
    identity: str = Field(description="Hash of the content of the model folder.")
    currency: str
    level: float | None
    training_listings: int
    catalog: str
    fields: list[str]
    loaded_at: str
    asks_api: bool


class OpenAIModel(BaseModel):
    """A served model in the words of OpenAI's API; `id` is its name, `created` when it was loaded, in seconds."""

    id: str
    object: Literal["model"] = "model"
    created: int
    owned_by: str = "pricesmith"


class ModelsOutput(BaseModel):
    """All served models, the default one first. `object` and `data` are there for clients of OpenAI's API."""

    models: list[ModelOutput]
    object: Literal["list"] = "list"
    data: list[OpenAIModel] = Field(default_factory=list)


class ReloadRequest(Request):
    """Which model to load again from its folder (default: the first one)."""

    model: Name = ""
    force: bool = Field(False, description="Switch even if the new model is significantly worse.")


class ReloadOutput(BaseModel):
    """What a reload did."""

    model: str
    switched: bool
    old_identity: str
    identity: str
    comparison: str = Field(description="How the new model compares with the old one on common test items.")


class StatusOutput(BaseModel):
    """Whether the server is up, or ready to price."""

    status: str
    models: dict[str, str] = Field(default_factory=dict)


class ErrorFacts(BaseModel):
    """What was wrong, in the four parts that every error of Pricesmith has."""

    what: str
    got: str = ""
    allowed: str = ""
    next: str = ""
    request_id: str = ""
    message: str | None = Field(
        None,
        exclude_if=lambda text: text is None,
        description="All parts as one text; for clients of OpenAI's API only.",
    )


class ErrorOutput(BaseModel):
    """The one shape of all errors."""

    error: ErrorFacts


class FeedbackRequest(Request):
    """What a thing was sold for."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"listing": "Garden hose, 25 m", "sold_price": 24.5, "sold_on": "2026-10-03"}]}
    )
    sold_price: float = Field(gt=0, description="In `currency`.")
    currency: str = Field("", pattern="^([A-Z]{3})?$", description="ISO code (default: that of the quote).")
    quote_id: str = Field("", max_length=80, description="The `id` of the quote that was given for it.")
    listing: Described | None = Field(None, description="The thing itself; its text is stored.")
    sold_on: Day | None = Field(None, description="The day of the sale; not in the future.")
    model: Name = ""


class FeedbackOutput(BaseModel):
    """A sold price that was stored."""

    feedback_id: str = Field(description="To delete it: DELETE /v1/feedback/ID.")
    price: float | None = Field(description="What the model quoted for it; null if there is no quote.")


class FileOutput(BaseModel):
    """An uploaded file: how far it is, and where its prices are."""

    id: str
    name: str
    model: str
    state: Literal["waiting", "counting", "pricing", "done", "failed"]
    rows_done: int
    rows: int | None = Field(description="All rows of the file; null until they are counted.")
    seconds_left: float | None = Field(description="An estimate; null if there is none.")
    files_before: int = Field(description="How many files are priced before this one.")
    priced: int | None = None
    not_priced: int | None = Field(None, description="Rows without a price; their `note` says why.")
    result: str | None = Field(description="Path of the download; null until the file is done.")
    result_name: str
    error: ErrorFacts | None = None


def error_body(what: str, *, got: str = "", allowed: str = "", next: str = "", request_id: str = "") -> dict[str, Any]:
    """An error as JSON."""
    return ErrorOutput(
        error=ErrorFacts(what=what, got=got, allowed=allowed, next=next, request_id=request_id)
    ).model_dump(exclude_none=True)
