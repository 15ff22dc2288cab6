"""Published results on other items, from published.toml: shown for scale, never ranked with the report's own.

    for table in published_figures():
        table.name, table.metric, [(figure.pricer, figure.value, table.source_of(figure)) for figure in table.figures]

A figure without a source and a date is rejected.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from importlib import resources
from typing import Annotated, Any

from pydantic import Field, StringConstraints, model_validator

from pricesmith.core.settings import Settings, parse_settings

FILE = "published.toml"
NonEmpty = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1)]


class PublishedFigure(Settings):
    """One published figure in the metric of its table, with its interval and number of items if they are known."""

    pricer: NonEmpty
    value: float = Field(gt=0)
    low: float | None = None
    high: float | None = None
    n: int | None = Field(None, ge=1)
    source: NonEmpty | None = None
    note: str = ""

    @model_validator(mode="after")
    def check_interval(self) -> PublishedFigure:
        """Reject an interval with one bound, or one that does not contain the figure."""
        if (self.low is None) != (self.high is None):
            raise ValueError("an interval has two bounds")
        if self.low is not None and self.high is not None and not self.low <= self.value <= self.high:
            raise ValueError("the figure is outside its interval")
        return self


class PublishedTable(Settings):
    """Figures of one publication on its own items, which `sample` describes."""

    name: NonEmpty
    sample: NonEmpty
    metric: NonEmpty
    source: NonEmpty
    date: Annotated[str, StringConstraints(pattern=r"^\d{4}(-\d{2}-\d{2})?$")]
    note: str = ""
    figures: tuple[PublishedFigure, ...] = Field(min_length=1)

    def source_of(self, figure: PublishedFigure) -> str:
        """Return the figure's own source, or its table's."""
        return figure.source or self.source


class PublishedFigures(Settings):
    """The whole file."""

    table: tuple[PublishedTable, ...]


def published_figures() -> tuple[PublishedTable, ...]:
    """Return the published tables that ship with Pricesmith."""
    text = resources.files("pricesmith.reporting").joinpath(FILE).read_text(encoding="utf-8")
    return check_published(tomllib.loads(text))


def check_published(values: Mapping[str, Any]) -> tuple[PublishedTable, ...]:
    """Return validated tables. Raises UsageError for a figure without source or date or outside its interval."""
    return parse_settings(PublishedFigures, values, where=FILE).table
