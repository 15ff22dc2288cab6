"""The files of an audit: every assessed listing as CSV, and those over and under as one page."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import Any

from pricesmith.auditing.page import MARKER, render_page
from pricesmith.auditing.result import COLUMNS, AuditResult
from pricesmith.core.atomic import atomic_files, find_output
from pricesmith.core.errors import UsageError
from pricesmith.text.formatting import round_money
from pricesmith.text.spreadsheet import escape_formula

MONEY = ("asked_price", "expected_price", "low", "high", "money_at_stake")
MAX_HEAD = 4_096  # bytes


def check_outputs(to: Path, html: Path | None, *, inputs: tuple[Path, ...] = (), overwrite: bool = False) -> None:
    """Raise UsageError unless the CSV file and the page can be written: they end in .csv and .html, differ from the
    inputs, and do not exist or are of an earlier audit (unless `overwrite`)."""
    outputs = [(to, ".csv", is_audit_csv)] + ([(html, ".html", is_audit_page)] if html else [])
    for path, ending, is_own in outputs:
        option = "--to" if ending == ".csv" else "--html"
        if path.suffix.lower() != ending:
            raise UsageError(
                f"{path} is not the name of a {ending} file",
                got=path.suffix or "no ending",
                allowed=ending,
                hint=f"Use {option} {path.with_suffix(ending)}.",
            )
        target = find_output(path)
        if any(target.exists() and source.exists() and target.samefile(source) for source in inputs):
            raise UsageError(
                f"{option} is the file that is audited",
                got=f"{path}",
                allowed="another file",
                hint=f"Use {option} {path.with_name(f'{path.stem}-audit{ending}')}.",
            )
        if target.exists() and not overwrite and not is_own(target):
            raise UsageError(
                f"{path} exists, and `pricesmith audit` did not write it",
                allowed="a path that does not exist yet, or a file of an earlier audit",
                hint=f"Choose another name, such as {option} {path.with_name(f'{path.stem}-audit{ending}')}.",
            )


def is_audit_csv(path: Path) -> bool:
    """Whether an audit wrote a CSV file: it has the columns of one. An empty file counts too."""
    with path.open("rb") as handle:
        first = handle.readline(MAX_HEAD)
    return not first or first.decode("utf-8", "replace").strip() == ",".join(COLUMNS)


def is_audit_page(path: Path) -> bool:
    """Whether an audit wrote a page. An empty file counts too."""
    with path.open("rb") as handle:
        head = handle.read(MAX_HEAD)
    return not head or MARKER.encode() in head


def write_audit(result: AuditResult, to: Path, html: Path | None = None) -> None:
    """Write the CSV file, and the page if it has a path: both or neither."""
    paths = [to] if html is None else [to, html]
    with atomic_files(*paths) as temporaries:
        with temporaries[0].open("w", encoding="utf-8", newline="") as handle:
            write_rows(result, handle)
        if html is not None:
            temporaries[1].write_text(render_page(result), encoding="utf-8")


def write_rows(result: AuditResult, handle: io.TextIOBase) -> None:
    """Write every listing as a row; text that a spreadsheet would run as a formula gets an apostrophe before it."""
    out = csv.writer(handle)
    out.writerow(COLUMNS)
    for row in result.rows:
        values = row.to_dict(result.currency)
        out.writerow([format_cell(name, values[name], result.currency) for name in COLUMNS])


def format_cell(name: str, value: Any, currency: str) -> Any:
    """A value as a cell: money in the currency's digits, p-values with three significant ones."""
    if isinstance(value, float):
        if name in MONEY or name.endswith("_price"):
            return round_money(value, currency)
        return float(f"{value:.3g}")
    return escape_formula(value)
