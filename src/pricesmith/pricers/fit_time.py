"""Seconds that a fit has taken, those of processes that were killed before it went on included.

before = spent_before(folder, begun)   what earlier processes took; this one is written down as begun
forget(folder)                         the fit is whole
"""

from __future__ import annotations

from pathlib import Path

from pricesmith.core.atomic import read_json, write_json

FILE = ".spent.json"
TICK = 0.05  # seconds; the clock of file times may be this much behind


def previous_fit_seconds(folder: Path, begun: float) -> float:
    """Seconds that earlier processes worked in `folder`: from each one's start to the last file it wrote there, because
    one that was killed could not say when. What it did after its last checkpoint is lost, and is not counted.

    `begun` is when this process began with the folder, in Unix time: what it has written since says nothing of others.
    """
    path, spent = folder / FILE, 0.0
    if path.is_file():
        known = read_json(path)
        times = [one.stat().st_mtime for one in folder.rglob("*") if one.is_file() and one != path]
        written = max((one for one in times if one < begun - TICK), default=0.0)
        spent = float(known["spent"]) + max(0.0, written - float(known["began"]))
    write_json(path, {"spent": spent, "began": begun})
    return spent


def delete_records(folder: Path) -> None:
    """Nothing of this is left in a whole run."""
    (folder / FILE).unlink(missing_ok=True)
