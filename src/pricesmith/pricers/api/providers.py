"""Where a hosted model is asked and what it costs: `providers.toml`, the user's own file over it, or any URL.

    endpoint_of("gpt-4.1-nano")                                      a model that the table knows
    endpoint_of("ollama/gemma3:4b")                                  PROVIDER/MODEL
    endpoint_of("tiny", url="http://127.0.0.1:8000/v1")              any OpenAI-compatible URL

A price that is not known is None, never 0. A key goes to the provider that it is of, and to no other URL.
"""

from __future__ import annotations

import datetime
import difflib
import ipaddress
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

from pydantic import Field

from pricesmith.core.errors import InputError, UsageError
from pricesmith.core.settings import Settings, parse_settings, read_toml
from pricesmith.pricers.api.redaction import mask_key

SHIPPED = Path(__file__).with_name("providers.toml")
OWN = "PRICESMITH_PROVIDERS"
URL = "URL"  # the name of a provider that no table knows
MILLION = 1_000_000
VARIABLE = re.compile(r"[A-Z_][A-Z0-9_]{0,63}")  # as the names of variables are written; a key is not
Limit = Literal["max_tokens", "max_completion_tokens"]


class ModelPrice(Settings):
    """What is known of a model. Prices in US dollars per million tokens, with the day and the place they were read."""

    input: float | None = Field(None, ge=0)
    output: float | None = Field(None, ge=0)
    date: str = Field("", pattern=r"^(\d{4}-\d\d-\d\d)?$", description="when the price was read: 2026-11-22")
    source: str = Field("", description="where the price was read")
    note: str = ""


class Provider(Settings):
    """An endpoint that speaks the OpenAI chat API."""

    url: str
    key: str = Field("", description="the environment variable that holds the key; empty: none is sent")
    limit: Limit = "max_tokens"
    begins: tuple[str, ...] = ()
    source: str = ""


@dataclass(frozen=True)
class TokenPrice:
    """US dollars per million tokens, and where that is from."""

    input: float
    output: float
    date: str
    source: str
    note: str = ""

    def of(self, tokens_in: int, tokens_out: int) -> float:
        """What so many tokens cost, in dollars."""
        return (tokens_in * self.input + tokens_out * self.output) / MILLION


@dataclass(frozen=True)
class Endpoint:
    """One model at one URL. `price` is None where it is not known; `key` never shows in a representation."""

    provider: str
    url: str
    model: str
    price: TokenPrice | None
    key_name: str = ""
    key: str = field(default="", repr=False)
    limit: Limit = "max_tokens"

    @property
    def host(self) -> str:
        """The host and port, for people."""
        return urlsplit(self.url).netloc

    def check_key(self) -> None:
        """Raises UsageError where a key is needed and there is none."""
        if self.key_name and not self.key:
            find_key(self.key_name, self.provider if self.provider != URL else self.url)


def user_prices_file() -> Path:
    """The user's own table, whether it is there or not."""
    config = Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config")
    return Path(os.environ[OWN]) if os.environ.get(OWN) else config / "pricesmith" / "providers.toml"


def provider_table() -> tuple[dict[str, Provider], dict[str, dict[str, ModelPrice]]]:
    """Providers by name, and the models of each by name: the shipped table with the user's own over it.

    Raises InputError where the user's file cannot be read, UsageError where it says what is not known.
    """
    shipped, own = read_toml(SHIPPED), user_prices_file()
    mine: dict[str, Any] = (
        read_toml(own, like="the one in docs/api-models.md") if own.is_file() or os.environ.get(OWN) else {}
    )
    providers: dict[str, Provider] = {}
    models: dict[str, dict[str, ModelPrice]] = {}
    for name in {**shipped, **mine}:
        old, new = shipped.get(name, {}), mine.get(name, {})
        where = f"{own} [{name}]"
        if not isinstance(new, dict) or not isinstance(new.get("models", {}), dict):
            raise InputError(f"{own} is not a table of providers", got=name, hint=f"Compare it with {SHIPPED.name}.")
        facts = {key: value for key, value in {**old, **new}.items() if key != "models"}
        providers[name] = parse_settings(Provider, facts, where=where)
        known = {**old.get("models", {}), **new.get("models", {})}
        models[name] = {model: check_table(facts, f"{where} {model}") for model, facts in known.items()}
    return providers, models


def check_table(facts: Any, where: str) -> ModelPrice:
    """A model's facts. Raises UsageError where a price is half a price, or has no date or no source."""
    model = parse_settings(ModelPrice, facts if isinstance(facts, dict) else {"model": facts}, where=where)
    try:
        datetime.date.fromisoformat(model.date or "2000-01-01")
    except ValueError:
        raise UsageError(f"{where} has a date that is no day", got=model.date, allowed="a day as 2026-11-22") from None
    if (model.input is None) != (model.output is None):
        raise UsageError(f"{where} has half a price", allowed="input and output, dollars per million tokens")
    if model.input is not None and not (model.date and model.source):
        raise UsageError(
            f"{where} has a price without its date or source",
            allowed='date = "2026-11-22" and source = "where it was read"',
            hint="A price goes out of date: say when and where it was read.",
        )
    return model


def find_price(model: ModelPrice | None) -> TokenPrice | None:
    """The price of a model, None where it is not known."""
    if model is None or model.input is None or model.output is None:
        return None
    return TokenPrice(model.input, model.output, model.date, model.source, model.note)


def find_endpoint(model: str, *, url: str = "", key: str = "", price: str = "", keyless: bool = False) -> Endpoint:
    """Where a model is asked. `key` names another variable for the key, `price` is IN/OUT in dollars per million.

    `keyless`: a key that is not set is missed when something must be asked, not here. Raises UsageError where the model
    belongs to nobody that is known, its key is not set, or would be sent in the open.
    """
    providers, models = provider_table()
    if url:
        name = next((name for name, one in providers.items() if is_same_url(one.url, url)), "")
        provider = providers[name] if name else Provider(url=url)
    else:
        name, model = find_provider(model, providers, models)
        provider = providers[name]
    key_name = key or provider.key
    known = find_price(models.get(name, {}).get(model))
    asked = (name or URL, check_url(provider.url), model, price_from_options(price) if price else known, key_name)
    missing = keyless and not os.environ.get(key_name, "").strip()
    found = Endpoint(*asked, "" if missing else find_key(key_name, name or url), provider.limit)
    if mask_key(found.url, found.key) != found.url or mask_key(found.model, found.key) != found.model:
        raise UsageError(
            f"The URL or the model's name holds the key that is in {key_name}",
            got="a key, which is not shown",
            allowed="a URL and a name without keys: they are written to files and shown in tables",
            hint=f"Leave the key out of it: {key_name} is sent in the header Authorization.",
        )
    if found.key and found.url.startswith("http:") and not is_local(found.url):
        raise UsageError(
            f"The key in {key_name} would be sent to {found.host} in the open",
            got=found.url,
            allowed="https, or http to this machine",
            hint="Use the https address of the endpoint.",
        )
    return found


def find_provider(
    model: str, providers: Mapping[str, Provider], models: Mapping[str, Mapping[str, ModelPrice]]
) -> tuple[str, str]:
    """The provider of a model and the name it has there. Raises UsageError where nobody has it."""
    named, slash, rest = model.partition("/")
    if slash and named in providers and rest:
        return named, rest
    having = [name for name in providers if model in models.get(name, {})]
    if not having:
        having = [name for name, one in providers.items() if any(model.startswith(start) for start in one.begins)]
    if len(having) == 1:
        return having[0], model
    known = sorted({name for some in models.values() for name in some})
    near = difflib.get_close_matches(model, known, n=1)
    hint = f"Did you mean {near[0]!r}?" if near else "Name the provider, or add @url=https://... after the model."
    raise UsageError(
        f"It is not known who hosts {model!r}" if not having else f"More than one provider has {model!r}",
        got=model,
        allowed=f"{', '.join(known)}, or PROVIDER/MODEL with {', '.join(having or providers)}, or MODEL@url=URL",
        hint=hint,
    )


def price_from_options(text: str) -> TokenPrice:
    """The price that the command line gives: `2/10`. Raises UsageError where it is none."""
    left, _, right = text.partition("/")
    try:
        price = TokenPrice(float(left), float(right), "", "the command line")
    except ValueError:
        price = TokenPrice(-1, -1, "", "")
    if not (0 <= price.input < MILLION and 0 <= price.output < MILLION):  # NaN is never in a range
        raise UsageError("This is no price of tokens", got=text, allowed="IN/OUT in dollars per million, as in 2/10")
    return price


def find_key(name: str, whose: str) -> str:
    """The key in an environment variable, empty where none is needed. Raises UsageError where it is not set."""
    if not name:
        return ""
    key = os.environ.get(name, "").strip()
    if not key and not VARIABLE.fullmatch(name):  # it may be the key itself, so it is not shown
        raise UsageError(
            f"key= for {whose} is no name of a variable",
            got=f"{len(name)} characters that are not shown",
            allowed="the name of an environment variable that holds the key, as OPENAI_API_KEY",
            hint="export MY_KEY=... and then key=MY_KEY",
        )
    if not key:
        raise UsageError(f"The key for {whose} is not set", got=f"no {name}", hint=f"export {name}=...")
    if not key.isascii() or not key.isprintable():
        raise UsageError(f"The key in {name} holds characters that no key has", hint="Copy it again.")
    return key


def is_same_url(one: str, other: str) -> bool:
    """Whether two base URLs are the same place."""
    return one.rstrip("/") == other.rstrip("/")


def check_url(url: str) -> str:
    """A base URL that can be used. Raises UsageError where it is none."""
    try:
        parts = urlsplit(url)
        good = parts.scheme in ("http", "https") and parts.hostname and (parts.port or 1) > 0
    except ValueError:
        good = False
    if secret := next((mark for mark in "@?#" if mark in url), ""):
        part = {"@": "a user or a password", "?": "a query"}.get(secret, "a fragment")
        raise UsageError(
            f"The URL of an endpoint cannot have {part}, which may hold a key",
            got=f"{len(url)} characters with {secret!r} that are not shown",
            allowed="http(s)://HOST[:PORT]/v1",
            hint="Put the key into an environment variable and name it: export MY_KEY=... and then url=URL,key=MY_KEY",
        )
    if not good:
        raise UsageError("This is no URL of an endpoint", got=url, allowed="http(s)://HOST[:PORT]/v1")
    return url.rstrip("/")


def is_local(url: str) -> bool:
    """Whether a URL is this machine's."""
    host = urlsplit(url).hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
