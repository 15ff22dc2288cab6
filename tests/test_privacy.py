"""The pipeline runs with every connection refused, and libraries send no usage statistics."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

PIPELINE = """
import sys
from pathlib import Path

def refuse(event, arguments):
    if event in ("socket.connect", "socket.getaddrinfo", "socket.bind", "socket.sendto"):
        raise PermissionError(f"{event} {arguments[1:]}")

sys.addaudithook(refuse)
from pricesmith.cli import run
from pricesmith.testing import make_csv

make_csv(Path("shop.csv"), 2600)
make_csv(Path("new.csv"), 30, seed=1)
for command in (
    "curate shop.csv --to shop",
    "fit ridge --catalog shop --to ridge",
    "fit median --catalog shop --to median",
    "eval ridge median --catalog shop --to evals",
    "report evals --to report.html",
    "price ridge --file new.csv --to prices.csv",
    "show shop",
    "doctor",
):
    assert run([*command.split(), "--quiet"]) == 0, command
print("finished")
"""


def test_the_pipeline_runs_with_every_connection_refused(tmp_path: Path) -> None:
    """From a table to prices and a report without one socket being connected, bound or resolved."""
    result = subprocess.run([sys.executable, "-c", PIPELINE], cwd=tmp_path, capture_output=True, text=True)
    assert result.stdout.endswith("finished\n"), result.stderr


def test_the_refusal_in_this_test_works(tmp_path: Path) -> None:
    """The audit hook does stop a connection: without it the test above could not fail."""
    code = PIPELINE.split("from pricesmith")[0] + "import socket; socket.create_connection(('127.0.0.1', 9))"
    result = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True)
    assert "PermissionError: socket." in result.stderr


def test_usage_statistics_of_libraries_are_off_unless_the_user_decides() -> None:
    """Importing the package switches them off; a variable that is already set stays."""
    code = (
        "import pricesmith, os, json; "
        "print(json.dumps([os.environ['HF_HUB_DISABLE_TELEMETRY'], os.environ['DO_NOT_TRACK']]))"
    )
    without = {
        name: value for name, value in os.environ.items() if name not in ("HF_HUB_DISABLE_TELEMETRY", "DO_NOT_TRACK")
    }

    def ask(environment: dict[str, str]) -> list[str]:
        out = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
        return list(json.loads(out.stdout))

    assert ask(without) == ["1", "1"]
    assert ask({**without, "HF_HUB_DISABLE_TELEMETRY": "0"}) == ["0", "1"]
