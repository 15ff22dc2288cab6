"""What clients of a server do, as steps: requests and pauses, without a network. `http_client.py` does them."""

from __future__ import annotations

import secrets
import tempfile
from collections.abc import Generator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, fields
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

from pricesmith.core.atomic import atomic_file, find_output
from pricesmith.core.errors import PricesmithError, UsageError
from pricesmith.core.progress import SILENT, Progress
from pricesmith.core.types import Listing

if TYPE_CHECKING:
    from pricesmith.catalog.comparables import Comparable

T = TypeVar("T")
Described: TypeAlias = str | Mapping[str, Any] | Listing
BATCH = 1_000  # listings a request
NAMED = ("title", "text", "category", "brand")
ENDINGS = (".csv", ".xlsx", ".parquet", ".jsonl")


@dataclass(frozen=True)
class PriceAnswer:
    """A quote of a server. `price` is None where there is none, and `note` says why.

    `id` names the quote in feedback; `level` is the share of true prices that such intervals contain; `explanation` has
    the factor of each part of the text, if it was asked for.
    """

    id: str
    price: float | None
    low: float | None = None
    high: float | None = None
    level: float | None = None
    currency: str = ""
    note: str = ""
    nothing_similar: bool | None = None
    not_given: tuple[str, ...] = ()
    model: str = ""
    cost_usd: float | None = 0.0
    comparables: tuple[Comparable, ...] = ()
    explanation: tuple[tuple[str, float], ...] | None = None

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> PriceAnswer:
        """The answer from the JSON of a server; names that a newer server may add are left out."""
        known = {name.name: values[name.name] for name in fields(cls) if name.name in values}
        known["not_given"] = tuple(values.get("not_given") or ())
        if near := values.get("comparables"):
            from pricesmith.catalog.comparables import Comparable

            known["comparables"] = tuple(Comparable(**comparable) for comparable in near)
        else:
            known["comparables"] = ()
        if parts := values.get("explanation"):
            known["explanation"] = tuple((part["part"], part["factor"]) for part in parts)
        return cls(**known)


@dataclass(frozen=True)
class HttpCall:
    """One request. `repeatable`: it may be sent again after a connection that broke. `upload` is sent as a form with
    the other `form` fields; the response is written to `save_to`, if that is set."""

    method: str
    path: str
    json: Any = None
    params: Mapping[str, Any] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    upload: Path | None = None
    form: Mapping[str, Any] = field(default_factory=dict)
    save_to: Path | None = None
    repeatable: bool = False


@dataclass(frozen=True)
class Wait:
    """A pause of some seconds between two requests."""

    seconds: float


class RetryLater(Exception):
    """A request that may succeed if it is sent again, after `seconds` at least."""

    def __init__(self, error: PricesmithError, seconds: float = 0.0) -> None:
        super().__init__(str(error))
        self.error, self.seconds = error, seconds


Steps: TypeAlias = Generator[HttpCall | Wait, Any, T]


def describe(listing: Described) -> str | dict[str, Any]:
    """A listing as the server takes it: a text, or title, text, category, brand and the other fields.

    Raises UsageError for anything else.
    """
    if isinstance(listing, str):
        return listing
    if isinstance(listing, Listing):
        return {name: getattr(listing, name) for name in NAMED if getattr(listing, name)}
    if isinstance(listing, Mapping):
        named = {name: str(listing[name]) for name in NAMED if listing.get(name) is not None}
        others = {str(name): value for name, value in listing.items() if name not in NAMED}
        return {**named, **({"fields": others} if others else {})}
    raise UsageError(
        "A server prices descriptions",
        got=type(listing).__name__,
        allowed="a text, a dict, a Listing, a list of these, or a DataFrame",
        hint="Describe what it is, in a text or a dict.",
    )


class ClientSteps:
    """What both clients do, as requests and pauses between them."""

    def price(self, listing: Described, model: str, comparables: int, explain: bool) -> Steps[PriceAnswer]:
        """One price."""
        described = describe(listing)
        body = {"text": described} if isinstance(described, str) else described
        params = {"comparables": comparables, "explain": str(explain).lower()}
        answer = yield HttpCall("POST", "/v1/price", {**body, **({"model": model} if model else {})}, params)
        return PriceAnswer.from_dict(answer)

    def price_many(self, listings: Sequence[Described], model: str, comparables: int) -> Steps[list[PriceAnswer]]:
        """Many prices, in requests of 1,000 listings, each with an idempotency key."""
        answers: list[PriceAnswer] = []
        described = [describe(listing) for listing in listings]
        for start in range(0, len(described), BATCH):
            body = {"listings": described[start : start + BATCH], "model": model}
            answer = yield HttpCall(
                "POST", "/v1/price/batch", body, {"comparables": comparables}, new_key(), repeatable=True
            )
            answers += map(PriceAnswer.from_dict, answer["quotes"])
        return answers

    def price_frame(self, frame: Any, model: str) -> Steps[Any]:
        """A DataFrame with prices: its rows are priced as a file, so columns are chosen as for a file."""
        import pyarrow.parquet as pq

        from pricesmith.catalog.dataframes import add_columns, write_parquet

        with tempfile.TemporaryDirectory(prefix="pricesmith-") as folder:
            path, to = Path(folder) / "dataframe.parquet", Path(folder) / "prices.parquet"
            write_parquet(frame, path)
            yield from self.price_file(path, to, model, 0, {}, False, SILENT, 0.2)
            table = pq.read_table(to)
        added = {
            name: table.column(index - 6).to_pylist() for index, name in enumerate(("price", "low", "high", "note"))
        }
        return add_columns(frame, added, {"price": float, "low": float, "high": float, "note": str})

    def price_file(
        self, file: Path, to: Path, model: str, comparables: int, mapping: Mapping[str, str], overwrite: bool,
        progress: Progress, poll: float,
    ) -> Steps[dict[str, Any]]:  # fmt: skip
        """Upload a file, wait until it is priced, and download the prices."""
        check_output(file, to, overwrite)
        form: dict[str, Any] = {"format": to.suffix.lower()[1:], "comparables": str(comparables)}
        form |= {"model": model} if model else {}
        form |= {"map": [f"{name}={column}" for name, column in mapping.items()]} if mapping else {}
        progress.start(f"uploading {file.name}")
        job = yield HttpCall("POST", "/v1/files", upload=file, form=form)
        path = f"/v1/files/{job['id']}"
        done, started = 0, False
        try:
            while job["state"] not in ("done", "failed"):
                yield Wait(poll)
                job = yield HttpCall("GET", path, repeatable=True)
                if job["rows"] and not started:
                    progress.start(f"pricing {file.name}", job["rows"])
                    started = True
                if started:
                    progress.advance(job["rows_done"] - done)
                    done = job["rows_done"]
            if job["state"] == "failed":
                raise to_error(422, job["error"])
            with atomic_file(to) as temporary:
                yield HttpCall("GET", job["result"], repeatable=True, save_to=temporary)
        finally:
            with suppress(PricesmithError):  # the server removes it after a day
                yield HttpCall("DELETE", path, repeatable=True)
        return {"rows": job["rows"], "priced": job["priced"], "not_priced": job["not_priced"], "to": str(to)}

    def feedback(
        self, sold_price: float, listing: Described | None, quote_id: str, currency: str, sold_on: date | str | None
    ) -> Steps[str]:
        """Record a sold price."""
        body: dict[str, Any] = {"sold_price": sold_price, "quote_id": quote_id, "currency": currency}
        if listing is not None:
            body["listing"] = describe(listing)
        if sold_on is not None:
            body["sold_on"] = sold_on.isoformat() if isinstance(sold_on, date) else sold_on
        answer = yield HttpCall("POST", "/v1/feedback", body, headers=new_key(), repeatable=True)
        return str(answer["feedback_id"])

    def call(self, method: str, path: str, json: Any = None) -> Steps[Any]:
        """One request; those that change nothing are repeatable."""
        answer = yield HttpCall(method, path, json, repeatable=method in ("GET", "DELETE"))
        return answer


def new_key() -> dict[str, str]:
    """The header of a request that is done once, however often it is sent."""
    return {"Idempotency-Key": secrets.token_hex(16)}


def check_output(file: Path, to: Path, overwrite: bool) -> None:
    """Raises UsageError if a file is missing, or if `to` cannot be written or would replace another file."""
    if not file.is_file():
        raise UsageError(f"There is no file {file}", hint="Check the path.")
    if to.suffix.lower() not in ENDINGS:
        raise UsageError(f"{to} cannot be written", got=to.suffix or "no ending", allowed=", ".join(ENDINGS))
    target = find_output(to)
    if target.exists() and (not overwrite or target.samefile(file)):
        raise UsageError(
            f"{to} exists", allowed="a path that does not exist yet", hint="Choose another, or overwrite=True."
        )


def to_error(status: int, facts: Any) -> PricesmithError:
    """The error of a response: UsageError if the request is wrong."""
    facts = facts if isinstance(facts, Mapping) else {}
    parts = {name: str(facts.get(name, "")) for name in ("what", "got", "allowed", "next")}
    kind = UsageError if status in (400, 404, 405, 409, 413, 415, 422) else PricesmithError
    what = parts["what"] or f"The server answered with status {status}"
    return kind(what, got=parts["got"], allowed=parts["allowed"], hint=parts["next"])


def many_steps(steps: ClientSteps, listings: Any, model: str, comparables: int) -> Steps[Any]:
    """The steps that price a list or a DataFrame. Raises UsageError for one listing, or anything else."""
    from pricesmith.catalog.dataframes import is_dataframe

    if is_dataframe(listings):
        return steps.price_frame(listings, model)
    if isinstance(listings, str | Mapping | Listing) or not isinstance(listings, Sequence):
        raise UsageError(
            "price_many takes a list or a DataFrame", got=type(listings).__name__, hint="Use price for one listing."
        )
    return steps.price_many(listings, model, comparables)
