"""API models as the command line names them, and the settings that all API models of a command share.

    api:gpt-6-luna                                  a model of a provider in the table
    api:MODEL@comparables=5,reasoning_effort=low    the same, shown the 5 nearest training listings first

    with ApiSettings(budget=5.0) as settings:
        pricer = settings.build_pricer(parse_api_model("api:gpt-6-luna"), currency="USD")

Inside the `with` block `current_settings()` returns these settings, so that a model folder that asks an API model is
loaded with the budget and the cache of its command.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from contextvars import ContextVar, Token
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Literal

from pydantic import Field

from pricesmith.core.errors import UsageError
from pricesmith.core.progress import SILENT, Progress
from pricesmith.core.settings import parse_settings
from pricesmith.core.types import Item
from pricesmith.pricers.api.batch_jobs.http import Clock
from pricesmith.pricers.api.batch_jobs.opening import open_batch_run
from pricesmith.pricers.api.batch_jobs.runner import BatchRun
from pricesmith.pricers.api.limits import Allowances, Budget
from pricesmith.pricers.api.pricer import ApiPricer, PromptOptions
from pricesmith.pricers.api.providers import Endpoint, find_endpoint, user_prices_file
from pricesmith.pricers.api.response_cache import ResponseCache, default_cache_path
from pricesmith.pricers.api.usage import FLEX

API_PREFIX = "api:"
MAX_CONCURRENCY = 256
MAX_TIMEOUT = 86_400.0
DEFAULT_TIMEOUT, FLEX_TIMEOUT = 300.0, 900.0  # seconds
FLEX_PROVIDERS = ("openai",)
SAFE_OPTION = re.compile(r"[a-z_]{1,20}=?[0-9]{0,6}")  # can be repeated in an error: it is no key
OPTIONS_MARK = re.compile(r"@(?=[a-z_]+=)")  # an @ can also be part of a model's name


class ApiOptions(PromptOptions):
    """The options after the @ of `api:MODEL@name=value,...`."""

    url: str = Field("", description="base URL of an endpoint, usually ending in /v1")
    key: str = Field("", description="environment variable that holds the key")
    format: Literal["", "openai", "anthropic", "gemini"] = Field("", description="API format of the url")
    price: str = Field("", description="IN/OUT in dollars per million tokens, such as 2/10")
    tier: Literal["", "flex"] = Field("", description="service tier: flex is cheaper and slower (OpenAI only)")
    memorization_check: int = Field(0, ge=0, le=10_000, description="how many listings are tested for memorization")
    name: str = Field("", max_length=60, description="name in tables")


@dataclass(frozen=True)
class ApiModel:
    """An API model as the command line names it."""

    model: str
    options: ApiOptions

    @property
    def title(self) -> str:
        """The name in tables: the model's, with the options that change its answers."""
        options = self.options
        if options.name:
            return options.name
        parts = [f"{options.shots}-shot"] * bool(options.shots)
        parts += [f"{options.comparables}-comparables"] * bool(options.comparables)
        parts += [f"{options.reasoning_effort}-effort"] * bool(options.reasoning_effort)
        if options.max_output_tokens != PromptOptions.model_fields["max_output_tokens"].default:
            parts.append(f"{options.max_output_tokens}-tokens")
        parts += ["text"] * (not options.json_answer)
        parts += [options.tier] * bool(options.tier)
        return "-".join(["api", self.model.replace("/", "-"), *parts])


@dataclass
class ApiSettings:
    """Settings shared by all API models of a command. A context manager: it closes what it opened.

    `budget` in US dollars is shared by all models; `concurrency` requests are in flight at once; `timeout` in seconds
    is the limit of one try (None: 300, and 900 on the flex tier). `batch` asks the models of an evaluation in batch
    jobs: `wait` for them, or only `submit` them. With `fallback`, a hybrid model prices listings that its API model
    cannot be asked about (the budget is spent, the endpoint does not answer) by itself; otherwise the error is raised.
    Raises UsageError if a value is out of range.
    """

    budget: float | None = None
    concurrency: int = 8
    timeout: float | None = None
    cache_path: Path | None = None
    fallback: bool = False
    batch: Literal["", "wait", "submit"] = ""
    clock: Clock = field(default_factory=Clock)
    shared_budget: Budget = field(init=False)
    allowances: Allowances = field(init=False)
    exit_stack: ExitStack = field(default_factory=ExitStack, init=False)
    _cache: ResponseCache | None = field(default=None, init=False)
    _tokens: list[Token[ApiSettings | None]] = field(default_factory=list, init=False)

    def __post_init__(self) -> None:
        if self.budget is not None and not 0 < self.budget < float("inf"):
            raise UsageError("--budget must be an amount above 0", got=str(self.budget), allowed="US dollars, above 0")
        if not 1 <= self.concurrency <= MAX_CONCURRENCY:
            allowed = f"1 to {MAX_CONCURRENCY}"
            raise UsageError(f"--concurrency must be {allowed}", got=str(self.concurrency), allowed=allowed)
        if self.timeout is not None and not 0 < self.timeout <= MAX_TIMEOUT:
            allowed = f"above 0, at most {MAX_TIMEOUT:,.0f} seconds"
            raise UsageError(f"--timeout must be {allowed}", got=str(self.timeout), allowed=allowed)
        self.use_budget(Budget(self.budget))

    def use_budget(self, budget: Budget) -> None:
        """Share a budget with other settings, before any model is opened."""
        self.shared_budget = budget
        self.allowances = Allowances(budget)

    def __enter__(self) -> ApiSettings:
        self._tokens.append(CURRENT.set(self))
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        CURRENT.reset(self._tokens.pop())
        self.exit_stack.close()

    def build_pricer(
        self,
        api_model: ApiModel,
        currency: str,
        *,
        train: Callable[[], Sequence[Item]] = tuple,
        groups: Mapping[str, str] | None = None,
        progress: Progress = SILENT,
        cls: type[ApiPricer] = ApiPricer,
    ) -> ApiPricer:
        """Return the pricer of an API model, which is closed with these settings; `train` and `groups` as in ApiPricer.
        `cls` is its class.

        Raises UsageError if its provider is unknown or has no flex tier, or if there is a budget and no token price. A
        missing key is an error only when a request must be sent.
        """
        options = api_model.options
        endpoint = find_endpoint(
            api_model.model,
            url=options.url,
            key=options.key,
            price=options.price,
            api_format=options.format,
            keyless=True,
        )
        check_tier(endpoint, options.tier)
        pricer = cls(
            endpoint,
            PromptOptions(**{option: getattr(options, option) for option in PromptOptions.model_fields}),
            self.response_cache(),
            self.shared_budget,
            currency=currency,
            label=options.name,
            train=train,
            groups=groups,
            concurrency=self.concurrency,
            timeout=self.timeout or (FLEX_TIMEOUT if options.tier == FLEX else DEFAULT_TIMEOUT),
            tier=options.tier,
            progress=progress,
        )
        self.exit_stack.callback(pricer.close)
        return pricer

    def open_batch(self, pricer: ApiPricer) -> BatchRun:
        """Return the batch jobs of a pricer, which are closed with these settings.

        Raises UsageError if its provider has none that Pricesmith knows.
        """
        run = open_batch_run(pricer, waits=self.batch != "submit", clock=self.clock)
        self.exit_stack.callback(run.close)
        return run

    def plan_rows(self, count: int) -> None:
        """Set the number of listings that this command is still to price, over which `allowance` spreads the budget."""
        self.allowances.plan_rows(count)

    def allowance(self, count: int) -> float | None:
        """Return the US dollars that the next `count` listings may cost: their share of what is left of the budget.

        None without a budget, or before `plan_rows`: then these listings may cost all that is left.
        """
        return self.allowances.take(count)

    def response_cache(self) -> ResponseCache:
        """Return the response cache, opened once."""
        if self._cache is None:
            self._cache = self.exit_stack.enter_context(ResponseCache(self.cache_path or default_cache_path()))
        return self._cache


CURRENT: ContextVar[ApiSettings | None] = ContextVar("CURRENT", default=None)


def current_settings() -> ApiSettings:
    """Return the settings of the innermost `with ApiSettings(...)` block, or default ones without a budget."""
    return CURRENT.get() or ApiSettings()


def parse_api_model(spec: str) -> ApiModel:
    """Return the model of `api:MODEL@name=value,...` with its options. Raises UsageError for an unknown option."""
    model, tail = spec.removeprefix(API_PREFIX), ""
    if mark := OPTIONS_MARK.search(model):
        model, tail = model[: mark.start()], model[mark.end() :]
    subject = f"{API_PREFIX}{model}"  # without the options: a URL may contain a password
    values: dict[str, str] = {}
    for text in tail.split(",") if tail else []:
        name, equals, value = text.partition("=")
        if not equals or not value or name in values:
            names = ", ".join(ApiOptions.model_fields)
            raise UsageError(
                f"{subject!r} has an invalid option",
                got=text if SAFE_OPTION.fullmatch(text) else f"{len(text)} characters (not shown: they may be a key)",
                allowed=f"{API_PREFIX}MODEL@name=value,..., each at most once, of {names}",
                hint="Correct the option after the @, or leave it out.",
            )
        values[name] = value
    if not model:
        raise UsageError("api: needs the name of a model", got=subject, hint="For example api:gpt-6-luna")
    return ApiModel(model, parse_settings(ApiOptions, values, where=subject))


def check_tier(endpoint: Endpoint, tier: str) -> None:
    """Raise UsageError if the endpoint is not known to have a service tier, or has no price for it."""
    if not tier:
        return
    if endpoint.provider not in FLEX_PROVIDERS:
        raise UsageError(
            f"{endpoint.model} has no {tier} tier at {endpoint.host}",
            got=f"tier={tier}",
            allowed=f"tier={tier} for models of {', '.join(FLEX_PROVIDERS)}",
            hint="Leave out tier=.",
        )
    if endpoint.price is not None and tier not in endpoint.price.tiers:
        known = ", ".join(endpoint.price.tiers) or "none"
        raise UsageError(
            f"No {tier} price of {endpoint.model} is known",
            got=f"tier={tier}",
            allowed=f"standard, and the tiers with a price: {known}",
            hint=f"Leave out tier=, or put its whole price into {user_prices_file()}: input, output, date, source, "
            f"tiers = {{ {tier} = 0.5 }} (or the factor that its provider names).",
        )
