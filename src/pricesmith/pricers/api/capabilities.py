"""How an endpoint is spoken to: what it takes of a JSON schema, a temperature, and a name for the limit of tokens."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

OTHER_LIMIT = {"max_tokens": "max_completion_tokens", "max_completion_tokens": "max_tokens"}
SCHEMA = {
    "type": "json_schema",
    "json_schema": {
        "name": "price",
        "strict": True,
        "schema": {
            "type": "object",
            "properties": {"price": {"type": "number"}},
            "required": ["price"],
            "additionalProperties": False,
        },
    },
}


@dataclass(frozen=True)
class Capabilities:
    """The way that an endpoint was found to take; at first everything."""

    json: bool = True
    temperature: bool = True
    limit: str = "max_tokens"

    def simpler(self, words: str) -> Capabilities | None:
        """What to try after a 400 that says `words`; None where there is nothing left to leave out."""
        if self.json and any(name in words for name in ("response_format", "schema", "structured")):
            return replace(self, json=False)
        if self.temperature and "temperature" in words:
            return replace(self, temperature=False)
        if self.limit in words:
            return replace(self, limit=OTHER_LIMIT[self.limit])
        if self.json:
            return replace(self, json=False)
        return replace(self, temperature=False) if self.temperature else None

    @classmethod
    def of(cls, known: Mapping[str, Any], limit: str) -> Capabilities:
        """What was remembered, where it is whole; else what the provider's table says."""
        names = {field.name: type(field.default) for field in fields(cls)}
        good = known.keys() == names.keys() and all(isinstance(known[name], kind) for name, kind in names.items())
        return cls(**known) if good else cls(limit=limit)
