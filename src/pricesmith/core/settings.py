"""Settings: declared once as a frozen pydantic model, from which TOML files, `--set` and help are derived.

>>> class Shop(Settings):
...     alpha: float = 1.0
>>> parse_settings(Shop, {"alpha": 2}, where="shop.toml").alpha
2.0
"""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from pricesmith.core.errors import InputError, UsageError


class Settings(BaseModel):
    """A frozen set of settings; unknown keys are errors."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


S = TypeVar("S", bound=Settings)


def parse_settings(cls: type[S], values: Mapping[str, Any], *, where: str) -> S:
    """Settings from plain values. Raises UsageError with the first wrong key or value and a suggestion."""
    try:
        return cls.model_validate(dict(values))
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        key = ".".join(str(part) for part in first["loc"])
        known = {field.alias or name: field for name, field in cls.model_fields.items()}
        names = sorted(known)
        if first["type"] == "extra_forbidden":
            close = difflib.get_close_matches(key, names, n=1)
            hint = f"Did you mean {close[0]!r}?" if close else "Remove it, or use one of those above."
            raise UsageError(
                f"{where} has no setting {key!r}", got=key, allowed=", ".join(names) or "no settings", hint=hint
            ) from None
        description = known[key].description if key in known else None
        if first["type"] == "missing":  # its input is the whole table, which may hold a secret
            raise UsageError(
                f"{where} has no {key!r}, which it needs",
                got=", ".join(str(name) for name in values)[:200] or "no settings",
                allowed=description or f"a table with {key}",
                hint=f"Add {key} and run the same command again.",
            ) from None
        raise UsageError(
            f"{where}: the setting {key!r} cannot have this value",
            got=repr(first.get("input"))[:200],
            allowed=first["msg"].removeprefix("Value error, ") + (f" ({description})" if description else ""),
            hint=f"Change {key} and run the same command again.",
        ) from None


def read_toml(path: Path, *, like: str = "`pricesmith recipe ls`") -> dict[str, Any]:
    """A TOML file as plain values. Raises InputError, which names an example (`like`), if it cannot be read."""
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(f"There is no file {path}", hint="Check the path.") from None
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        got = "a folder" if path.is_dir() else str(error)
        raise InputError(f"{path} is not a TOML file", got=got, hint=f"Compare it with {like}.") from None


def read_value(text: str) -> Any:
    """The value after `key=` on the command line: parsed as TOML if possible, else the text itself."""
    try:
        return tomllib.loads(f"x = {text}")["x"]
    except tomllib.TOMLDecodeError:
        return text


def read_pairs(values: Sequence[str], flag: str) -> dict[str, str]:
    """The `key=value` texts of an option as a dictionary. Raises UsageError if one has another form."""
    pairs = {}
    for text in values:
        key, equals, value = text.partition("=")
        if not equals or not key.strip():
            raise UsageError(f"{flag} takes key=value", got=text, hint=f"For example {flag} price=amount")
        pairs[key.strip()] = value.strip()
    return pairs


def write_toml(values: Mapping[str, Any]) -> str:
    """Settings, which may hold tables, as TOML text that `read_toml` reads back; values that are None are left out."""
    import tomli_w

    return tomli_w.dumps(without_none(values))


def without_none(values: Mapping[str, Any]) -> dict[str, Any]:
    """The values that are not None, in tables too: TOML has no null."""
    return {
        key: without_none(value) if isinstance(value, Mapping) else value
        for key, value in values.items()
        if value is not None
    }
