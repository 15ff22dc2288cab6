"""What leaves the house: a run as a folder that stock tools load, a catalog as rows to tune a model on elsewhere."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pricesmith.catalog.catalog import LEDGER
from pricesmith.core.errors import UsageError
from pricesmith.core.progress import SILENT, Progress
from pricesmith.pricers.model import MANIFEST

OF_RUN = ("merged", "adapter", "hub")
OF_CATALOG = ("sft",)


def export_model(
    source: Path,
    to: Path,
    form: str,
    *,
    evals: Path | None = None,
    style: str = "plain",
    overwrite: bool = False,
    progress: Progress = SILENT,
) -> dict[str, Any]:
    """Write a run (`merged`, `adapter`, `hub`) or a catalog (`sft`) in a form that others read; what was written.

    Raises UsageError if the form is not one of the source's, or `to` exists and is not the same export. `overwrite`
    replaces another export, and for sft any files of these names.
    """
    forms = OF_CATALOG if (source / LEDGER).is_file() else OF_RUN if (source / MANIFEST).is_file() else ()
    if not forms:
        raise UsageError(
            f"{source} is neither a catalog nor a run",
            got="no such folder" if not source.exists() else f"a folder without {LEDGER} and {MANIFEST}",
            hint="Name a folder that `pricesmith curate` or `pricesmith fit` has finished.",
        )
    if form not in forms:
        what = "catalog" if forms is OF_CATALOG else "run"
        raise UsageError(f"A {what} cannot be exported as {form!r}", got=form, allowed=", ".join(forms), hint="Choose.")
    if form == "sft":
        from pricesmith.exporting import sft

        return sft.export_sft(source, to, style, progress, overwrite=overwrite)
    from pricesmith.exporting import models

    return models.write_export(source, to, form, evals, progress, overwrite=overwrite)


def format_export(result: dict[str, Any]) -> str:
    """What was written, as a person reads it."""
    if "rows" in result:
        return "\n".join(f"{path}: {result['rows'][split]:,} {split} rows" for split, path in result["files"].items())
    license = f"; the license of {result['base']}: {result['license'] or 'not known here'}" if result["base"] else ""
    return f"{result['to']}: {result['format']}, {result['bytes'] / 1e6:,.1f} MB{license}"
