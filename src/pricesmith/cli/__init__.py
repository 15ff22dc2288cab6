"""The verbs of `pricesmith`: each reads its flags, calls the one function that does the work, and prints its result."""

import sys
from importlib import import_module

from pricesmith.cli.app import app, run

__all__ = ["app", "main", "run"]

# In the order in which --help shows them.
for verbs in ("make", "evaluate", "learn", "use", "look"):
    import_module(f"pricesmith.cli.{verbs}")


def main() -> None:
    """The console script."""
    sys.exit(run(sys.argv[1:]))
