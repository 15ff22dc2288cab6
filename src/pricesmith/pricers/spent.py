"""Seconds that a fit has taken, those of processes that were killed before it went on included.

before = spent_before(folder)      what earlier processes took; this one is written down as begun
forget(folder)                     the fit is whole
"""

from __future__ import annotations

import time
from pathlib import Path

from pricesmith.workspace import read_json, write_json

FILE = ".spent.json"


def spent_before(folder: Path) -> float:
    """Seconds that earlier processes worked in `folder`: from each one's start to the last file it wrote there, because
    one that was killed could not say when. What it did after its last checkpoint is lost, and is not counted."""
    path, spent = folder / FILE, 0.0
    if path.is_file():
        known = read_json(path)
        written = [one.stat().st_mtime for one in folder.rglob("*") if one.is_file() and one != path]
        spent = float(known["spent"]) + max(0.0, max(written, default=0.0) - float(known["began"]))
    write_json(path, {"spent": spent, "began": time.time()})
    return spent


def forget(folder: Path) -> None:
    """Nothing of this is left in a whole run."""
    (folder / FILE).unlink(missing_ok=True)
