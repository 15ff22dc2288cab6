"""Finds the endpoint and the price of an API model: in `providers.toml`, in the user's own file, or by its URL.

    find_endpoint("gpt-6-luna")                                    a model in the table
    find_endpoint("ollama/gemma3:4b")                                PROVIDER/MODEL
    find_endpoint("tiny", url="http://127.0.0.1:8000/v1")            any OpenAI-compatible URL

The user's own file overrides the shipped one. An unknown price is None, never 0. A key is sent to its own provider and
to no other URL.
"""

from __future__ import annotations

import datetime
import difflib
import ipaddress
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import Field

from pricesmith.core.errors import InputError, PricesmithError, UsageError
from pricesmith.core.settings import Settings, parse_settings, read_toml
from pricesmith.pricers.api.extra_fields import (
    ExtraHeader,
    check_extra_body,
    check_extra_headers,
    merge_headers,
    read_variable,
)
from pricesmith.pricers.api.formats import FormatName, get_format
from pricesmith.pricers.api.model_table import ModelFacts, merge_models, read_model_entry
from pricesmith.pricers.api.prices import MILLION, PriceList
from pricesmith.pricers.api.redaction import mask_key

SHIPPED_FILE = Path(__file__).with_name("providers.toml")
FILE_VARIABLE = "PRICESMITH_PROVIDERS"
UNKNOWN_PROVIDER = "URL"  # the name of an endpoint that no table lists
COMPATIBLE_SUFFIX = "/v1beta/openai"  # of the URL of Google's OpenAI-compatible API
VARIABLE_NAME = re.compile(r"[A-Z_][A-Z0-9_]{0,63}")  # a key does not look like this
API_VERSION = re.compile(r"api-version=(?:[0-9]{4}-[0-9]{2}-[0-9]{2}(?:-preview)?|preview|latest|v1)")  # of Azure
LimitName = Literal["max_tokens", "max_completion_tokens"]


class Provider(Settings):
    """An endpoint and the API format that it speaks."""

    url: str = Field(description="base URL of the endpoint, usually ending in /v1")
    format: FormatName = Field(
        "openai", description="openai: chat completions, anthropic: messages, gemini: generateContent"
    )
    batch: Literal["", FormatName] = Field("", description="the batch API that it has: openai, anthropic or gemini")
    key: str = Field("", description="environment variable that holds the key; empty: no key is sent")
    limit: LimitName = "max_tokens"
    begins: tuple[str, ...] = ()
    extra_body: Any = Field({}, description="further fields of every request")
    extra_headers: Any = Field({}, description="further headers of every request")
    tiers: dict[str, Annotated[float, Field(ge=0, le=100)]] = Field(
        {}, description="factors on a price= that the command line gives, such as {flex = 0.5}"
    )
    lists_shutdowns: bool = Field(False, description="its list of models says when a model is shut down")
    source: str = ""


@dataclass(frozen=True)
class Endpoint:
    """One model at one URL. `price` is None if unknown; `key` is in no repr.

    `shutdown` is the day on which the provider shuts the model down, `replacement` the model that it names instead.
    `reasoning`: the model may reason before it answers.
    """

    provider: str
    url: str
    model: str
    price: PriceList | None
    key_name: str = ""
    key: str = field(default="", repr=False)
    limit: LimitName = "max_tokens"
    format: FormatName = "openai"
    batch: Literal["", FormatName] = ""
    shutdown: datetime.date | None = None
    replacement: str = ""
    reasoning: bool = True
    query: str = ""
    extra_body: Mapping[str, Any] = field(default_factory=dict)
    extra_headers: tuple[ExtraHeader, ...] = ()
    lists_shutdowns: bool = False

    @property
    def secrets(self) -> tuple[str, ...]:
        """The key and the headers from variables: what is masked in all that comes back."""
        headers = [read_variable(header) for header in self.extra_headers if header.variable]
        return tuple(secret for secret in (self.key, *headers) if secret)

    def headers(self) -> dict[str, str]:
        """Return the headers of a request: the key, and the extra ones."""
        with_key = get_format(self.format).headers(self.key)
        if self.query and self.key:  # Azure, whose classic deployments take no other
            with_key = {"api-key": self.key}
        extra = {header.name: value for header in self.extra_headers if (value := read_variable(header))}
        return with_key | extra

    def question_url(self) -> str:
        """Return the URL to which questions are sent."""
        return f"{self.url}{get_format(self.format).path(self.model)}{self.query and '?'}{self.query}"

    def cache_settings(self, effort: str) -> dict[str, Any]:
        """Return what distinguishes questions to this endpoint in the cache, beside URL, model and messages.

        Anthropic's answers with an effort are not those of its OpenAI-compatible layer, which ignored the effort.
        """
        written = {header.name.lower(): header.value for header in self.extra_headers if not header.variable}
        settings: dict[str, Any] = {"extra_body": dict(self.extra_body)} if self.extra_body else {}
        settings |= {"extra_headers": written} if written else {}
        return settings | ({"format": self.format} if effort and self.format == "anthropic" else {})

    @property
    def host(self) -> str:
        """The host and port, for messages."""
        return urlsplit(self.url).netloc

    def check_key(self) -> None:
        """Raise UsageError if a key is needed and not set."""
        if self.key_name and not self.key:
            find_key(self.key_name, self.provider if self.provider != UNKNOWN_PROVIDER else self.url)
        for header in self.extra_headers:
            if not header.optional and not read_variable(header):
                find_key(header.variable, f"the header {header.name} of {self.provider}")

    def check_ready(self, today: datetime.date) -> None:
        """Raise UsageError if a key is needed and not set, PricesmithError if the model is shut down today."""
        self.check_key()
        self.check_served(today)

    def check_served(self, today: datetime.date) -> None:
        """Raise PricesmithError if the model is shut down today, with one that is served."""
        if self.shutdown is not None and today >= self.shutdown:
            served = find_served_models(self.provider, today)
            instead = self.replacement or next(iter(served), "")
            table = f'[{self.provider}.models."{self.model}"]'
            override = f'put shutdown = "" below {table} into {user_prices_file()}'
            raise PricesmithError(
                f"{self.model} was shut down on {self.shutdown}",
                got=f"api:{self.model}",
                allowed=", ".join(
                    [*([f"{self.replacement} (the named replacement)"] if self.replacement else []), *served]
                ),
                hint=(f"Use api:{instead}. " if instead else "") + f"If it is still served, {override}.",
            )

    def shutdown_warning(self, today: datetime.date) -> str:
        """Return the sentence that warns of a shutdown after today; empty without one."""
        if self.shutdown is None or today >= self.shutdown:
            return ""
        named = f"; named replacement {self.replacement}" if self.replacement else ""
        return f"{self.model} is shut down on {self.shutdown}{named}."


def user_prices_file() -> Path:
    """Return the path of the user's own table, whether it exists or not."""
    config = Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config")
    return Path(os.environ.get(FILE_VARIABLE) or config / "pricesmith" / "providers.toml")


def read_provider_table() -> tuple[dict[str, Provider], dict[str, dict[str, ModelFacts]]]:
    """Return providers by name, and each one's models by name: the shipped table, overridden by the user's.

    Raises InputError if the user's file cannot be read, UsageError if it has an unknown key or a wrong value.
    """
    shipped, path = read_toml(SHIPPED_FILE), user_prices_file()
    user: dict[str, Any] = {}
    if path.is_file() or os.environ.get(FILE_VARIABLE):
        user = read_toml(path, like="the one in docs/api-models.md")
    providers: dict[str, Provider] = {}
    models: dict[str, dict[str, ModelFacts]] = {}
    for name in {**shipped, **user}:
        old, new = shipped.get(name, {}), user.get(name, {})
        where = f"{path} [{name}]"
        if not isinstance(new, dict) or not isinstance(new.get("models", {}), dict):
            raise InputError(
                f"{path} is not a table of providers",
                got=f"{name} = ..." if not isinstance(new, dict) else f"[{name}] models = ...",
                allowed=f'[{name}] with url, and [{name}.models."MODEL"]',
                hint="Compare it with the one in docs/api-models.md.",
            )
        values = {key: value for key, value in {**old, **new}.items() if key != "models"}
        providers[name] = parse_settings(Provider, values, where=where)
        check_extra_body(providers[name].extra_body, where)
        check_extra_headers(providers[name].extra_headers, where)
        entries = merge_models(old.get("models", {}), new.get("models", {}))
        models[name] = {model: read_model_entry(value, f"{where} {model}") for model, value in entries.items()}
    return providers, models


def find_served_models(provider: str, today: datetime.date) -> list[str]:
    """Return the models of a provider that are not shut down today, those without a shutdown date first."""
    _, models = read_provider_table()
    served = {
        name: entry
        for name, entry in models.get(provider, {}).items()
        if entry.shutdown is None or entry.shutdown > today
    }
    return sorted(served, key=lambda name: served[name].shutdown is not None)


def find_endpoint(
    model: str,
    *,
    url: str = "",
    key: str = "",
    price: str = "",
    api_format: FormatName | Literal[""] = "",
    keyless: bool = False,
) -> Endpoint:
    """Return the endpoint of a model. `key` names the variable with the key, `price` is IN/OUT in dollars per million.

    `api_format` is the provider's without one. With `keyless`, a missing key is an error only when a request must be
    sent. Raises UsageError if the model's provider is unknown, its key is not set, or would be sent unencrypted.
    """
    providers, models = read_provider_table()
    if url:
        name = next((name for name, entry in providers.items() if is_same_url(entry.url, url)), "")
        provider = providers[name] if name else Provider(url=url)
    else:
        name, model = find_provider(model, providers, models)
        provider = providers[name]
    key_name = key or provider.key
    missing = keyless and not os.environ.get(key_name, "").strip()
    base, query = split_url(provider.url)
    entry = models.get(name, {}).get(model, ModelFacts())
    endpoint = Endpoint(
        provider=name or UNKNOWN_PROVIDER,
        url=base,
        model=model,
        price=replace(parse_price_option(price), tiers=provider.tiers) if price else entry.prices,
        key_name=key_name,
        key="" if missing else find_key(key_name, name or url),
        limit=provider.limit,
        format=api_format or provider.format,
        query=query,
        extra_body={**provider.extra_body, **entry.extra_body},
        extra_headers=merge_headers(check_extra_headers(provider.extra_headers, name), entry.extra_headers),
        shutdown=entry.shutdown,
        replacement=entry.replacement,
        reasoning=entry.reasoning,
        lists_shutdowns=provider.lists_shutdowns,
        batch=provider.batch,
    )
    if any(mask_key(text, endpoint.secrets) != text for text in (endpoint.url, endpoint.model)):
        raise UsageError(
            f"The URL or the model's name contains the key in {key_name}",
            got="a key (not shown)",
            allowed="a URL and a name without keys: they are written to files and shown in tables",
            hint=f"Leave the key out of it: {key_name} is sent in the Authorization header.",
        )
    if endpoint.secrets and endpoint.url.startswith("http:") and not is_local(endpoint.url):
        raise UsageError(
            f"The key in {key_name} would be sent to {endpoint.host} unencrypted",
            got=endpoint.url,
            allowed="https, or http to this machine",
            hint="Use the https address of the endpoint.",
        )
    return endpoint


def to_native_format(endpoint: Endpoint) -> Endpoint:
    """Return Google's endpoint in Google's own format, which its batch jobs need; any other endpoint as it is.

    Answers have the same keys in the cache if these are made from the endpoint as it was.
    """
    if not endpoint.url.endswith(COMPATIBLE_SUFFIX):
        return endpoint
    return replace(endpoint, url=endpoint.url.removesuffix("/openai"), format="gemini")


def find_provider(
    model: str, providers: Mapping[str, Provider], models: Mapping[str, Mapping[str, ModelFacts]]
) -> tuple[str, str]:
    """Return the provider of a model and the model's name there. Raises UsageError if no provider has it."""
    prefix, slash, rest = model.partition("/")
    if slash and prefix in providers and rest:
        return prefix, rest
    matches = [name for name in providers if model in models.get(name, {})]
    if not matches:
        matches = [name for name, entry in providers.items() if model.startswith(entry.begins)]
    if len(matches) == 1:
        return matches[0], model
    known = sorted({name for table in models.values() for name in table})
    near = difflib.get_close_matches(model, known, n=1)
    hint = f"Did you mean {near[0]!r}?" if near else "Name the provider, or add @url=https://... after the model."
    raise UsageError(
        f"No provider of {model!r} is known" if not matches else f"More than one provider has {model!r}",
        got=model,
        allowed=f"{', '.join(known)}, or PROVIDER/MODEL with {', '.join(matches or providers)}, or MODEL@url=URL",
        hint=hint,
    )


def parse_price_option(text: str) -> PriceList:
    """Return the token price of the command line, such as `2/10`. Raises UsageError if it is invalid."""
    left, _, right = text.partition("/")
    try:
        price_in, price_out = float(left), float(right)
    except ValueError:
        price_in = price_out = -1.0
    if not (0 <= price_in < MILLION and 0 <= price_out < MILLION):  # also excludes NaN
        raise UsageError("Invalid token price", got=text, allowed="IN/OUT in dollars per million, such as 2/10")
    return PriceList.flat(price_in, price_out, source="the command line")


def find_key(name: str, owner: str) -> str:
    """Return the key in an environment variable, empty without a name. Raises UsageError if it is unset or invalid."""
    if not name:
        return ""
    key = os.environ.get(name, "").strip()
    if not key and not VARIABLE_NAME.fullmatch(name):  # it may be the key itself, so it is not shown
        raise UsageError(
            f"key= for {owner} is not the name of a variable",
            got=f"{len(name)} characters (not shown)",
            allowed="the name of an environment variable that holds the key, such as OPENAI_API_KEY",
            hint="export MY_KEY=... and then key=MY_KEY",
        )
    if not key:
        raise UsageError(f"The key for {owner} is not set", got=f"no {name}", hint=f"export {name}=...")
    if not key.isascii() or not key.isprintable():
        raise UsageError(f"The key in {name} has characters that no key has", hint="Copy it again.")
    return key


def is_same_url(first: str, second: str) -> bool:
    """Return whether two base URLs are the same, apart from a final slash."""
    return first.rstrip("/") == second.rstrip("/")


def split_url(url: str) -> tuple[str, str]:
    """Return a base URL and its query, which only Azure has: `api-version=2024-10-21`."""
    base, mark, query = url.partition("?")
    return (check_url(base), query) if mark and API_VERSION.fullmatch(query) else (check_url(url), "")


def check_url(url: str) -> str:
    """Return a base URL without its final slash. Raises UsageError if it is invalid or may contain a key."""
    try:
        parts = urlsplit(url)
        valid = parts.scheme in ("http", "https") and parts.hostname and (parts.port or 1) > 0
    except ValueError:
        valid = False
    if mark := next((mark for mark in "@?#" if mark in url), ""):
        part = {"@": "a user or a password", "?": "a query"}.get(mark, "a fragment")
        raise UsageError(
            f"The URL of an endpoint cannot have {part}, which may contain a key",
            got=f"{len(url)} characters with {mark!r} (not shown)",
            allowed="http(s)://HOST[:PORT]/v1, and for Azure ?api-version=2024-10-21 after the deployment",
            hint="Put the key into an environment variable and name it: export MY_KEY=... and then url=URL,key=MY_KEY",
        )
    if not valid:
        raise UsageError("Invalid URL of an endpoint", got=url, allowed="http(s)://HOST[:PORT]/v1")
    return url.rstrip("/")


def is_local(url: str) -> bool:
    """Return whether a URL is on this machine."""
    host = urlsplit(url).hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
