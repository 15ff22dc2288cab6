"""A catalog: priced items, cleaned, without leaks, split by near-duplicate group.

catalog = pricesmith.catalog.curate(["shop.csv"], "out/shop")
catalog = pricesmith.catalog.open("out/shop")
catalog.items("test")[0]
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from pricesmith.catalog.catalog import Catalog as Catalog
    from pricesmith.catalog.catalog import open_catalog as open

__all__ = ["Catalog", "curate", "open"]


def curate(sources: Sequence[str | Path] | str | Path, to: Path | str, **options: Any) -> Catalog:
    """A catalog from files, folders or globs. The options are those of `pricesmith.catalog.curation.curate`."""
    from pathlib import Path

    from pricesmith.catalog.curation import curate as run

    several = [sources] if isinstance(sources, str | Path) else sources
    return run([str(source) for source in several], Path(to), **options)


def __getattr__(name: str) -> Any:
    """A public name, loaded when it is first used: the process that reads a file needs nothing else of a catalog."""
    if name not in ("Catalog", "open"):
        raise AttributeError(f"module 'pricesmith.catalog' has no attribute {name!r}")
    from pricesmith.catalog.catalog import Catalog, open_catalog

    return Catalog if name == "Catalog" else open_catalog
