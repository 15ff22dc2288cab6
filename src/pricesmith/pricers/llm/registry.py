"""The registry of open models, `bases.toml`: published facts of each, with source and date.

>>> models = registry()
>>> models["llama-3.1-8b"].instruct
'meta-llama/Llama-3.1-8B-Instruct'
>>> round(models["llama-3.1-8b"].shape.parameters / 1e9, 2)
8.03
"""

from __future__ import annotations

import datetime
import functools
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from pricesmith.core.errors import InputError
from pricesmith.core.settings import Settings, parse_settings, read_toml
from pricesmith.pricers.llm.architectures import Architecture

REGISTRY = Path(__file__).with_name("bases.toml")
Variant = Literal["base", "instruct"]


class Citation(Settings):
    """The source of a fact and the day on which it was read."""

    title: str = Field(min_length=1)
    url: str = Field(pattern="^https://")
    opened: datetime.date
    via: str = ""


class LicenseTerms(Settings):
    """A license and its duties for distributors of a model. `source` is that of its text."""

    name: str
    duties: tuple[str, ...]
    source: str = Field(min_length=1)


class BenchmarkScore(Settings):
    """A published result of a variant: the benchmark with its setting, the value, its source and date."""

    variant: Variant
    on: str = Field(min_length=1)
    value: float
    source: str = Field(min_length=1)
    date: datetime.date


class ModelEntry(Settings):
    """A model's entry in the file."""

    name: str = Field(pattern="^[a-z0-9.-]+$")
    family: str
    base: str = ""
    instruct: str = ""
    ids_source: str = Field(min_length=1)
    parameters_billion: float | None = None
    parameters_source: str = ""
    license: str
    license_source: str = Field(min_length=1)
    context: int | None = None
    context_source: str = ""
    shape: dict[str, int | bool | str]
    shape_source: str = Field(min_length=1)
    tied_source: str = ""
    note: str = ""
    scores: tuple[BenchmarkScore, ...] = ()


@dataclass(frozen=True)
class OpenModel:
    """An open model: its Hub ids, shape, license and published results."""

    row: ModelEntry
    shape: Architecture
    license: LicenseTerms
    sources: Mapping[str, Citation]

    @property
    def name(self) -> str:
        return self.row.name

    @property
    def base(self) -> str:
        """The base variant's Hub id; empty if none was published."""
        return self.row.base

    @property
    def instruct(self) -> str:
        return self.row.instruct

    def to_dict(self) -> dict[str, Any]:
        """The published facts as plain values, each with its source."""
        row = self.row.model_dump(mode="json", exclude={"shape", "scores", "license", "license_source"})
        used = {value for key, value in row.items() if key.endswith("_source") and value}
        used |= {self.row.license_source, *(score.source for score in self.row.scores)} | {self.license.source}
        return {
            **row,
            "parameters": self.shape.parameters,
            "shape": asdict(self.shape),
            "license": {**self.license.model_dump(mode="json"), "says": self.row.license_source},
            "scores": [score.model_dump(mode="json") for score in self.row.scores],
            "sources": {key: self.sources[key].model_dump(mode="json") for key in sorted(used)},
        }


@functools.cache
def registry() -> dict[str, OpenModel]:
    """The models of the shipped file by name, in its order."""
    return read_registry(REGISTRY)


def read_registry(path: Path) -> dict[str, OpenModel]:
    """The models of a registry file by name.

    Raises UsageError if an entry lacks a source or a date, InputError if an entry names a source that is not listed.
    """
    data = read_toml(path)
    where = path.name
    sources = {
        key: parse_settings(Citation, value, where=f"{where}, source {key}") for key, value in data["sources"].items()
    }
    licenses = {
        key: parse_settings(LicenseTerms, value, where=f"{where}, license {key}")
        for key, value in data["licenses"].items()
    }
    models: dict[str, OpenModel] = {}
    for values in data["models"]:
        row = parse_settings(ModelEntry, values, where=f"{where}, model {values.get('name', '?')}")
        named = {value for key, value in row.model_dump().items() if key.endswith("_source")}
        named |= {licenses[row.license].source} if row.license in licenses else set()
        unknown = sorted((named | {score.source for score in row.scores}) - {"", *sources})
        if unknown or row.license not in licenses or not (row.base or row.instruct):
            raise InputError(
                f"{where}: {row.name} refers to a missing entry",
                got=", ".join(unknown) or row.license,
                allowed="a source, a license and a Hub id of the file",
                hint="Add the source with its address and the day it was opened.",
            )
        for value, source in ((row.context, row.context_source), (row.parameters_billion, row.parameters_source)):
            if (value is None) != (not source):
                raise InputError(f"{where}: {row.name} has a fact without a source", got=str(value or source))
        shape = Architecture(**{"context": row.context or 0, **row.shape})  # type: ignore[arg-type]
        models[row.name] = OpenModel(row, shape, licenses[row.license], sources)
    return models


def find_model(name: str) -> tuple[OpenModel, Variant] | None:
    """The model and variant of a registry name, a preset or a Hub id; None if it is not in the registry."""
    lower = name.lower()
    for model in registry().values():
        if lower in (model.name, model.base.lower()):
            return model, "base" if model.base else "instruct"
        if lower in (f"{model.name}-instruct", f"{model.name}-it", model.instruct.lower()):
            return model, "instruct"
    return None
