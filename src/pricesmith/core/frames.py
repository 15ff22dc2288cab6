"""Columns as a DataFrame of the library that the user has."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from typing import Any

from pricesmith.core.errors import UsageError

LIBRARIES = ("pandas", "polars", "pyarrow")


def choose_library(library: str | None = None) -> str:
    """The named DataFrame library, or the first one installed. Raises UsageError for an unknown name."""
    if library is None:
        return next(name for name in LIBRARIES if find_spec(name))
    if library not in LIBRARIES:
        raise UsageError(f"There is no DataFrame library {library!r}", got=library, allowed=", ".join(LIBRARIES))
    return library


def to_native_frame(columns: Mapping[str, Sequence[Any]], library: str | None = None) -> Any:
    """Columns by name as a DataFrame of pandas, polars or pyarrow; without a name, of the first one installed."""
    import narwhals as nw

    backend: Any = choose_library(library)
    return nw.from_dict({name: list(values) for name, values in columns.items()}, backend=backend).to_native()
