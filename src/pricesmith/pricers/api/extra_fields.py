"""Further fields of requests that a provider's table asks for: `extra_body` and `extra_headers`.

    [openrouter]
    extra_body = { provider = { order = ["azure"], allow_fallbacks = false } }
    extra_headers = { x-title = "prices", x-gateway-auth = { env = "GATEWAY_KEY" } }

Both are sent with every question to the provider, or to one model if they stand in its entry. Bodies and written
headers can change answers, so they are part of the key of a cached reply. A secret stands in an environment variable
that the header names; it is sent to that provider only, and masked as keys are. A header with `optional = true` is left
out if its variable is not set.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pricesmith.core.errors import UsageError

# Fields that Pricesmith writes itself, and those whose charges the budget could not bound.
OWN_FIELDS = frozenset(
    {
        *("model", "messages", "contents", "system", "systemInstruction", "generationConfig", "output_config"),
        *("max_tokens", "max_completion_tokens", "max_output_tokens", "response_format", "reasoning_effort"),
        *("service_tier", "stream", "n", "prompt_cache_options", "tools", "tool_choice", "functions"),
        *("models", "route", "plugins", "web_search_options", "search_parameters"),
    }
)
OWN_HEADERS = frozenset(
    {
        *("host", "accept", "accept-encoding", "connection", "content-encoding", "content-length", "content-type"),
        *("transfer-encoding", "user-agent", "authorization", "x-api-key", "api-key", "x-goog-api-key"),
        *("anthropic-version", "te", "trailer", "upgrade", "expect", "proxy-authorization"),
    }
)
HEADER_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,99}")
VARIABLE_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,63}")
SECRET_NAME = re.compile(
    r"authorization|(?:^|[-_.])(?:auth|key|token|secret|cookie|password|passwd|credentials?|bearer)$|api_?key",
    re.IGNORECASE,
)
SECRET_VALUE = re.compile(
    r"\b(?:bearer|basic)\s+\S{4}|\b(?:sk|pk|rk|xai|gsk|hf|ghp|gho|glpat|xox[a-z]|AKIA|AIza|eyJ)[-_]?[A-Za-z0-9_-]{10}"
    r"|^(?=\S*[A-Za-z])(?=\S*\d)[A-Za-z0-9+/_=-]{32,}$",
    re.IGNORECASE,
)
MAX_BODY_CHARS = 4_000
MAX_HEADER_CHARS = 1_000
HEADER_FORM = 'text, or { env = "VARIABLE" }'


@dataclass(frozen=True)
class ExtraHeader:
    """A header: its value as written, or the environment variable that holds it."""

    name: str
    value: str = ""
    variable: str = ""
    optional: bool = False


def check_extra_body(values: Any, where: str) -> dict[str, Any]:
    """Return the fields of `extra_body`. Raises UsageError for one that Pricesmith writes itself, or for a secret."""
    if not isinstance(values, Mapping):
        raise UsageError(f"{where} extra_body is not a table", allowed="{ name = value, ... }")
    for name in sorted(OWN_FIELDS & values.keys()):
        raise UsageError(
            f"{where} extra_body cannot have {name!r}",
            got=name,
            allowed="fields that Pricesmith does not write itself, and that cost nothing beside the tokens",
            hint=f"Remove {name}; the options after the @ of api:MODEL set tokens, effort and price.",
        )
    for path, value in walk(values):
        if isinstance(value, str) and (SECRET_NAME.search(path) or SECRET_VALUE.search(value)):
            raise UsageError(
                f"{where} extra_body {path} may be a secret, and a body is part of what is stored",
                got=f"{len(value)} characters (not shown)",
                allowed="fields without secrets",
                hint='Send it as a header from a variable: extra_headers = { name = { env = "VARIABLE" } }',
            )
    try:
        size = len(json.dumps(values, allow_nan=False))
    except (TypeError, ValueError):
        size = MAX_BODY_CHARS + 1
    if size > MAX_BODY_CHARS:
        raise UsageError(
            f"{where} extra_body cannot be sent as JSON",
            got="a date, an infinite number, or too many characters",
            allowed=f"text, numbers, true, false, lists and tables, up to {MAX_BODY_CHARS:,} characters",
            hint="Write dates as text, and remove what the provider does not need.",
        )
    return dict(values)


def walk(values: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the path and the value of every leaf of nested tables and lists."""
    if isinstance(values, Mapping):
        for name, value in values.items():
            yield from walk(value, f"{path}.{name}" if path else str(name))
    elif isinstance(values, list):
        for value in values:
            yield from walk(value, path)
    else:
        yield path, values


def check_extra_headers(values: Any, where: str) -> tuple[ExtraHeader, ...]:
    """Return the headers of `extra_headers`. Raises UsageError for an invalid or reserved one, or a written secret."""
    if not isinstance(values, Mapping):
        raise UsageError(f"{where} extra_headers is not a table", allowed=f"{{ name = {HEADER_FORM}, ... }}")
    return tuple(check_header(name, value, where) for name, value in values.items())


def check_header(name: str, value: Any, where: str) -> ExtraHeader:
    """Return one header; no value is shown in an error."""
    subject = f"{where} extra_headers {name[:60]!r}"
    if not HEADER_NAME.fullmatch(name) or name.lower() in OWN_HEADERS:
        raise UsageError(
            f"{subject} cannot be set",
            got=name[:60],
            allowed="names of letters, digits and hyphens that Pricesmith does not send itself",
            hint="Remove it; the key is set with key=VARIABLE.",
        )
    if isinstance(value, Mapping):
        variable, optional = value.get("env"), value.get("optional", False)
        valid = isinstance(variable, str) and VARIABLE_NAME.fullmatch(variable) and isinstance(optional, bool)
        if not valid or not value.keys() <= {"env", "optional"}:
            raise UsageError(
                f"{subject} does not name a variable",
                got="a table (not shown)",
                allowed='{ env = "VARIABLE" }, or { env = "VARIABLE", optional = true }',
                hint=f'For example {name} = {{ env = "MY_GATEWAY_KEY" }}',
            )
        return ExtraHeader(name, variable=str(variable), optional=optional)
    if not isinstance(value, str) or not is_header_value(value):
        raise UsageError(
            f"{subject} has an invalid value",
            got="a value of another type, or with characters that no header has (not shown)",
            allowed=f"{HEADER_FORM}, of printable ASCII characters",
            hint=f'For example {name} = "text"',
        )
    if SECRET_NAME.search(name) or SECRET_VALUE.search(value):
        raise UsageError(
            f"{subject} may be a secret",
            got=f"{len(value)} characters (not shown)",
            allowed='{ env = "VARIABLE" }',
            hint=f'export MY_VARIABLE=... and then {name} = {{ env = "MY_VARIABLE" }}',
        )
    return ExtraHeader(name, value)


def merge_headers(headers: Sequence[ExtraHeader], others: Sequence[ExtraHeader]) -> tuple[ExtraHeader, ...]:
    """Return the headers of a provider and of one of its models, whose own ones come first."""
    own = {header.name.lower() for header in others}
    return (*(header for header in headers if header.name.lower() not in own), *others)


def is_header_value(value: str) -> bool:
    """Return whether a text can be the value of a header."""
    return value.isascii() and value.isprintable() and value == value.strip() and len(value) <= MAX_HEADER_CHARS


def read_variable(header: ExtraHeader) -> str:
    """Return the value of a header, empty if its variable is not set. Raises UsageError if it cannot be sent."""
    if not header.variable:
        return header.value
    value = os.environ.get(header.variable, "").strip()
    if not is_header_value(value):
        raise UsageError(
            f"The value of {header.variable} cannot be sent in the header {header.name}",
            got=f"{len(value)} characters (not shown)",
            allowed=f"printable ASCII, up to {MAX_HEADER_CHARS:,} characters",
            hint="Copy it again.",
        )
    return value
