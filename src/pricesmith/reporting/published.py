"""Published figures of the same job on other items, from references.toml: shown for scale, never ranked with ours.

    for table in references():
        table.name, table.metric, [(row.who, row.value, table.source_of(row)) for row in table.row]

A figure without a source and a date is refused.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from importlib import resources
from typing import Annotated, Any

from pydantic import Field, StringConstraints, model_validator

from pricesmith.core.settings import Settings, parse_settings

FILE = "references.toml"
Said = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1)]


class PublishedFigure(Settings):
    """One published figure, in its table's metric; `items` is how many were judged, where that is known."""

    who: Said
    value: float = Field(gt=0)
    low: float | None = None
    high: float | None = None
    items: int | None = Field(None, ge=1)
    source: Said | None = None
    note: str = ""

    @model_validator(mode="after")
    def in_its_interval(self) -> PublishedFigure:
        """An interval has two ends, with the figure between them."""
        if (self.low is None) != (self.high is None):
            raise ValueError("an interval has two ends")
        if self.low is not None and self.high is not None and not self.low <= self.value <= self.high:
            raise ValueError("the figure is not inside its interval")
        return self


class PublishedTable(Settings):
    """Figures of one publication on its own items."""

    name: Said
    what: Said
    metric: Said
    source: Said
    date: Annotated[str, StringConstraints(pattern=r"^\d{4}(-\d{2}-\d{2})?$")]
    note: str = ""
    row: tuple[PublishedFigure, ...] = Field(min_length=1)

    def source_of(self, row: PublishedFigure) -> str:
        """Where a figure is from: its own source, or its table's."""
        return row.source or self.source


class PublishedFigures(Settings):
    """The whole file."""

    table: tuple[PublishedTable, ...]


def published_figures() -> tuple[PublishedTable, ...]:
    """The published tables that come with Pricesmith."""
    text = resources.files("pricesmith.reporting").joinpath(FILE).read_text(encoding="utf-8")
    return check_published(tomllib.loads(text))


def check_published(values: Mapping[str, Any]) -> tuple[PublishedTable, ...]:
    """Tables from plain values. Raises UsageError where a figure has no source, no date, or is not in its interval."""
    return parse_settings(PublishedFigures, values, where=FILE).table
