"""The commands of `pricesmith`: each parses its options, calls the function that does the work, and prints the
result."""

import sys
from importlib import import_module

from pricesmith.cli.app import app, install_interrupt_guard, run

__all__ = ["app", "main", "run"]

# In the order in which --help shows them.
for module in ("make", "rewrite", "sweep", "evaluate", "audit", "use", "serve", "keys", "drift", "logs", "look"):
    import_module(f"pricesmith.cli.{module}")


def main() -> None:
    """The console script."""
    install_interrupt_guard()
    sys.exit(run(sys.argv[1:]))
