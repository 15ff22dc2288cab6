"""Exports: a model as a folder that stock tools load, a catalog as rows for fine-tuning elsewhere.

The package is not called `export`, because importing a submodule would then replace the function `pricesmith.export`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pricesmith.catalog.catalog import LEDGER
from pricesmith.core.errors import UsageError
from pricesmith.core.progress import SILENT, Progress
from pricesmith.pricers.model import MANIFEST

MODEL_FORMATS = ("merged", "adapter", "hub")
CATALOG_FORMATS = ("messages", "sft")


def export_model(
    source: Path,
    to: Path,
    format: str,
    *,
    evals: Path | None = None,
    style: str = "plain",
    overwrite: bool = False,
    progress: Progress = SILENT,
) -> dict[str, Any]:
    """Export a model folder (`merged`, `adapter`, `hub`) or a catalog (`sft`, `messages`); returns what was written.

    Raises UsageError if the source has no such format, or `to` exists and is not the same export. `overwrite` replaces
    another export, and for a catalog any files of these names.
    """
    is_catalog, is_model = (source / LEDGER).is_file(), (source / MANIFEST).is_file()
    if not is_catalog and not is_model:
        raise UsageError(
            f"{source} is neither a catalog nor a model folder",
            got="no such folder" if not source.exists() else f"a folder without {LEDGER} and {MANIFEST}",
            allowed="a finished catalog or model folder",
            hint="Name a folder that `pricesmith curate` or `pricesmith fit` has finished.",
        )
    formats = CATALOG_FORMATS if is_catalog else MODEL_FORMATS
    if format not in formats:
        raise UsageError(
            f"A {'catalog' if is_catalog else 'model'} cannot be exported as {format!r}",
            got=format,
            allowed=", ".join(formats),
            hint=f"Use --format {formats[-1]}.",
        )
    if is_catalog:
        from pricesmith.exporting import sft

        return sft.export_sft(source, to, style, progress, overwrite=overwrite, messages=format == "messages")
    from pricesmith.exporting import models

    return models.write_export(source, to, format, evals, progress, overwrite=overwrite)


def format_export(result: dict[str, Any]) -> str:
    """What an export wrote, in words."""
    if "rows" in result:
        return "\n".join(f"{path}: {result['rows'][split]:,} {split} rows" for split, path in result["files"].items())
    license = f"; the license of {result['base']}: {result['license'] or 'not known here'}" if result["base"] else ""
    return f"{result['to']}: {result['format']}, {result['bytes'] / 1e6:,.1f} MB{license}"
