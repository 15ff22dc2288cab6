"""The members of a blend or a cascade: model folders, files of saved answers, and API models.

    out/best                            a model folder; it is copied
    answers.csv                         saved answers, by id; the file is copied
    api:gpt-4.1-nano@reasoning_effort=low    an API model, asked when something is priced

Answers of an API model, and saved ones, cost money, so they are called paid. An API model that cannot be asked (the
budget is spent, the endpoint does not answer) leaves its listings unanswered, with the reason, if the settings of the
command allow it (`ApiSettings.fallback`); otherwise its error is raised.
"""

from __future__ import annotations

import re
import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
import numpy.typing as npt

from pricesmith.core.atomic import sha256
from pricesmith.core.errors import InputError, PricesmithError, UsageError
from pricesmith.core.model_files import read_object
from pricesmith.core.progress import SILENT, Progress
from pricesmith.core.types import Listing, Pricer, Quote, render
from pricesmith.pricers.api.eval_report import JSON_ANSWER_TOKENS, ApiCostReporter, estimate_tokens
from pricesmith.pricers.api.limits import BudgetExceeded
from pricesmith.pricers.api.model_spec import API_PREFIX, CURRENT, ApiSettings, parse_api_model
from pricesmith.pricers.api.pricer import ApiPricer, ApiRequest
from pricesmith.pricers.api.providers import TokenPrice, find_endpoint
from pricesmith.pricers.precomputed import PrecomputedPricer, read_prices
from pricesmith.text.prompts import SYSTEM_PROMPT, Prompt

MEMBERS = "members"
ANSWER_ENDINGS = {".csv", ".tsv", ".jsonl", ".parquet", ".xlsx", ".gz", ".zst"}
RETRY_SECONDS = 60.0  # between two tries of an endpoint that did not answer
OPTION = re.compile(r"[a-z_]+=")
NOT_SAVED = "no saved answer"
NOT_ASKED = "not asked"
BUDGET_SPENT = "the budget is spent"
Array = npt.NDArray[np.float64]


@dataclass(frozen=True)
class MemberSpec:
    """A member as a setting names it."""

    text: str

    @property
    def kind(self) -> Literal["folder", "file", "api"]:
        if self.text.startswith(API_PREFIX):
            return "api"
        path = Path(self.text)
        return "file" if path.suffix.lower() in ANSWER_ENDINGS and not path.is_dir() else "folder"

    @property
    def paid(self) -> bool:
        """Whether its answers cost money."""
        return self.kind != "folder"

    @property
    def name(self) -> str:
        """The name in tables and of the copy: of the folder, the file or the API model."""
        if self.kind == "api":
            return parse_api_model(self.text).title
        path = Path(self.text).absolute()
        return (
            path.name.partition(".")[0] if self.kind == "file" else path.resolve().name if path.is_dir() else path.name
        )

    def content_hash(self) -> str:
        """The identity of its content. Raises InputError if there is no such folder or file."""
        from pricesmith.pricers.model import read_manifest

        if self.kind == "api":
            return self.text
        if self.kind == "folder":
            return str(read_manifest(Path(self.text))["identity"])
        if not Path(self.text).is_file():
            raise InputError(f"There is no file {self.text}", got=self.text, hint="Check the path.")
        return sha256(Path(self.text))

    def copy_path(self, folder: Path) -> Path | None:
        """Where its copy is in a model folder; None for an API model."""
        if self.kind == "api":
            return None
        suffix = "".join(Path(self.text).suffixes) if self.kind == "file" else ""
        return folder / MEMBERS / f"{self.name}{suffix}"

    def copy(self, folder: Path) -> None:
        """Copy the member into a model folder."""
        to = self.copy_path(folder)
        if to is None:
            return
        to.parent.mkdir(parents=True, exist_ok=True)
        if self.kind == "file":
            shutil.copyfile(self.text, to)
        else:  # the comparables of a member are the same rows as those of the whole
            shutil.copytree(self.text, to, ignore=shutil.ignore_patterns("comparables"))


def split_members(value: Any) -> Any:
    """A list from `out/a,api:MODEL@url=URL,key=KEY`, as a setting is written on the command line.

    A part `name=value` after an API model with options belongs to that model. Other values are returned unchanged.
    """
    if not isinstance(value, str):
        return value
    members: list[str] = []
    for part in (part.strip() for part in value.split(",")):
        if members and OPTION.match(part) and members[-1].startswith(API_PREFIX) and "@" in members[-1]:
            members[-1] += f",{part}"
        elif part:
            members.append(part)
    return members


@dataclass(frozen=True)
class FeeSettings:
    """What saved answers cost: US dollars for 1,000, or the tokens of the prompt at the price of an API model."""

    api_model: str = ""
    cost_per_1000: float | None = None

    def token_price(self) -> TokenPrice | None:
        """The price of the named API model. Raises UsageError if it is unknown."""
        if not self.api_model:
            return None
        parsed = parse_api_model(f"{API_PREFIX}{self.api_model.removeprefix(API_PREFIX)}")
        options = parsed.options
        price = find_endpoint(parsed.model, url=options.url, price=options.price, keyless=True).price
        if price is None:
            raise UsageError(
                f"The price of {self.api_model} is unknown",
                got=self.api_model,
                allowed="a model with a known price, or MODEL@price=IN/OUT in dollars per million tokens",
                hint=f"Use api_model={self.api_model}@price=2/10, or api_cost_per_1000=USD.",
            )
        return price


class PaidMember(Protocol):
    """A member whose answers cost money. `estimated_fees`: its costs are estimated, not charged by an endpoint.

    `expected_fees` are US dollars for each listing [n], NaN if unknown. `free_quotes` are the answers that cost nothing
    now: saved or cached ones; others are unanswered.
    """

    estimated_fees: bool

    @property
    def name(self) -> str: ...

    def price(self, listings: Sequence[Listing]) -> list[Quote]: ...

    def expected_fees(self, listings: Sequence[Listing]) -> Array: ...

    def free_quotes(self, listings: Sequence[Listing]) -> list[Quote]: ...


class SavedAnswers:
    """Answers in a file, by id; each costs what its prompt would cost at the price of the API model, if that is known.

    A listing that is not in the file is unanswered and costs nothing.
    """

    estimated_fees = True

    def __init__(self, quotes: Mapping[str, Quote], name: str, fees: FeeSettings, currency: str) -> None:
        self.pricer = PrecomputedPricer(quotes, name)
        self.fees, self.token_price = fees, fees.token_price()
        self.prompt = Prompt(style="chat", currency=currency)

    @property
    def name(self) -> str:
        return self.pricer.name

    def has(self, listing: Listing) -> bool:
        """Whether the file has a line for the listing."""
        return listing.id in self.pricer.quotes

    def price(self, listings: Sequence[Listing]) -> list[Quote]:
        """The saved answers, with their costs."""
        fees = self.expected_fees(listings)
        return [
            Quote(quote.price, raw=quote.raw, cost_usd=None if np.isnan(fee) else float(fee))
            if self.has(listing)
            else Quote(None, raw=NOT_SAVED)
            for listing, quote, fee in zip(listings, self.pricer.price(listings), fees, strict=True)
        ]

    def expected_fees(self, listings: Sequence[Listing]) -> Array:
        """The estimated fee of each listing [n] in US dollars; NaN if no price is known."""
        if self.fees.cost_per_1000 is not None:
            return np.full(len(listings), self.fees.cost_per_1000 / 1000)
        if self.token_price is None:
            return np.full(len(listings), np.nan)
        return prompt_fees(listings, self.prompt, self.token_price, JSON_ANSWER_TOKENS)

    def free_quotes(self, listings: Sequence[Listing]) -> list[Quote]:
        """The saved answers: all are paid already."""
        return self.price(listings)


def prompt_fees(listings: Sequence[Listing], prompt: Prompt, price: TokenPrice, tokens_out: float) -> Array:
    """The estimated fees [n] in US dollars of asking for one price each, with `tokens_out` output tokens."""
    system = estimate_tokens(SYSTEM_PROMPT)
    tokens = [system + estimate_tokens(prompt.asked(render(listing))) for listing in listings]
    return np.array([(count * price.input + tokens_out * price.output) / 1e6 for count in tokens], dtype=np.float64)


@dataclass
class ApiMember:
    """An API model, opened when it is first asked, under the settings of the command (`current_settings`)."""

    spec: MemberSpec
    currency: str
    progress: Progress = SILENT
    estimated_fees: bool = False
    _pricer: ApiPricer | None = field(default=None, init=False)
    _settings: ApiSettings | None = field(default=None, init=False)
    _silent_until: float = field(default=float("-inf"), init=False)
    _reason: str = field(default="", init=False)

    def __post_init__(self) -> None:
        options = parse_api_model(self.spec.text).options
        if options.shots or options.comparables:
            raise UsageError(
                "A member of a blend or cascade cannot be shown training listings",
                got=self.spec.text,
                allowed="an API model without shots= and comparables=",
                hint="Leave them out.",
            )

    @property
    def name(self) -> str:
        return self.spec.name

    @property
    def pricer(self) -> ApiPricer:
        """The pricer of the API model under the current settings."""
        settings = CURRENT.get() or self._settings or ApiSettings()
        if self._pricer is None or self._settings is not settings:
            model = parse_api_model(self.spec.text)
            self._pricer = settings.build_pricer(model, self.currency, progress=self.progress)
            self._settings, self._silent_until = settings, float("-inf")
        return self._pricer

    def price(self, listings: Sequence[Listing]) -> list[Quote]:
        """One quote for each listing; unanswered with a reason in `raw` if it could not be asked.

        Raises PricesmithError instead if the settings do not allow a fallback.
        """
        pricer = self.pricer
        requests = pricer.requests(listings)
        if time.monotonic() < self._silent_until:
            return self.cached_quotes(requests)
        try:
            results = pricer.complete(requests)
        except PricesmithError as error:
            if self._settings is None or not self._settings.fallback:
                raise
            spent = isinstance(error, BudgetExceeded)
            self._reason = BUDGET_SPENT if spent else f"{pricer.endpoint.host} does not answer"
            self._silent_until = float("inf") if spent else time.monotonic() + RETRY_SECONDS
            return self.cached_quotes(requests)
        return [pricer.quote(results[request.key]) for request in requests]

    def cached_quotes(self, requests: Sequence[ApiRequest]) -> list[Quote]:
        """The quotes of cached replies; other listings are unanswered, with the reason why they were not asked."""
        pricer = self.pricer
        results = pricer.find_cached(request.key for request in requests)
        return [
            pricer.quote(results[request.key])
            if request.key in results
            else Quote(None, raw=f"{NOT_ASKED}: {self._reason}")
            for request in requests
        ]

    def buy(self, listings: Sequence[Listing]) -> list[Quote]:
        """Ask about listings until the budget ends; those that were not asked about are unanswered.

        Raises PricesmithError if the endpoint does not answer.
        """
        pricer = self.pricer
        ApiCostReporter(pricer, dict).before(listings)
        quotes: list[Quote] = []
        size = 8 * pricer.concurrency
        for start in range(0, len(listings), size):
            part = pricer.requests(listings[start : start + size])
            try:
                results = pricer.complete(part)
            except BudgetExceeded:
                self._reason = BUDGET_SPENT
                rest = pricer.requests(listings[start:])
                quotes += self.cached_quotes(rest)
                bought = sum(not quote.raw.startswith(NOT_ASKED) for quote in quotes)
                self.progress.note(f"The budget is spent: {bought:,} of {len(listings):,} listings were asked about.")
                return quotes
            quotes += [pricer.quote(results[request.key]) for request in part]
            self.progress.advance(len(part))
        return quotes

    def free_quotes(self, listings: Sequence[Listing]) -> list[Quote]:
        """The quotes of cached replies; other listings are unanswered."""
        self._reason = self._reason or "not in the response cache"
        return self.cached_quotes(self.pricer.requests(listings))

    def expected_fees(self, listings: Sequence[Listing]) -> Array:
        """The estimated fee of each listing [n] in US dollars, with output tokens as in cached replies; NaN if the
        model has no known price."""
        pricer = self.pricer
        if pricer.endpoint.price is None:
            return np.full(len(listings), np.nan)
        mean = pricer.cache.mean_output_tokens(pricer.endpoint.url, pricer.endpoint.model)
        return prompt_fees(listings, pricer.prompt, pricer.endpoint.price, JSON_ANSWER_TOKENS if mean is None else mean)


def load_member(spec: MemberSpec, path: Path | None, currency: str, fees: FeeSettings, progress: Progress) -> Pricer:
    """The pricer of a member: from its copy in a model folder (`path`), or from where it is if that is None.

    Raises InputError if it cannot be read.
    """
    from pricesmith.pricers.model import load_model

    if spec.kind == "api":
        return ApiMember(spec, currency, progress)
    if spec.kind == "folder":
        return load_model(path or spec.text)
    return SavedAnswers(read_prices(path or Path(spec.text), currency), spec.name, fees, currency)


def load_members(specs: Sequence[MemberSpec], to: Path, fees: FeeSettings, progress: Progress = SILENT) -> list[Pricer]:
    """The pricers of members that are about to be copied into the model folder `to`.

    Raises UsageError if there are fewer than two, two have the same name, none is a model of its own, or they were
    fitted on different catalogs.
    """
    from pricesmith.pricers.model import CATALOG, PriceModel

    names = [spec.name for spec in specs]
    if len(names) < 2 or len(set(names)) < len(names):
        raise UsageError(
            "A blend or cascade needs at least two members with different names",
            got=", ".join(spec.text for spec in specs) or "none",
            hint="Add --set members=out/ridge,out/mlp.",
        )
    if all(spec.paid for spec in specs):
        raise UsageError(
            "At least one member must be a model of your own: it prices what the others are not asked about",
            got=", ".join(spec.text for spec in specs),
            hint="Fit one first, for example `pricesmith fit sparse_mlp`.",
        )
    facts = read_object(to / CATALOG)
    pricers = [load_member(spec, None, str(facts["currency"]), fees, progress) for spec in specs]
    prints = {pricer.name: str(pricer.info["fingerprint"]) for pricer in pricers if isinstance(pricer, PriceModel)}
    prints = {"this catalog": str(facts["fingerprint"]), **prints}
    if len(set(prints.values())) > 1:
        raise UsageError(
            "All members need the same catalog; these were fitted on different catalogs",
            got=", ".join(f"{name}: {text[:12]}" for name, text in prints.items()),
            hint="Fit the members on this catalog.",
        )
    return pricers


def copy_members(specs: Sequence[MemberSpec], folder: Path) -> None:
    """Copy the members into a model folder."""
    for spec in specs:
        spec.copy(folder)


def load_copies(specs: Sequence[MemberSpec], folder: Path, fees: FeeSettings) -> list[Pricer]:
    """The pricers of the members in a model folder."""
    currency = str(read_object(folder / "catalog.json")["currency"])
    return [load_member(spec, spec.copy_path(folder), currency, fees, SILENT) for spec in specs]


def member_files(specs: Sequence[MemberSpec]) -> tuple[str, ...]:
    """The files that a model folder must have for its members: the manifest of each model, each file of answers."""
    root = Path()
    paths = [(spec, path) for spec in specs if (path := spec.copy_path(root)) is not None]
    return tuple(
        f"{path.as_posix()}/manifest.json" if spec.kind == "folder" else path.as_posix() for spec, path in paths
    )
