"""The API does what its OpenAPI page says: requests made from it find no undeclared answer and no failure."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from tests.serve.conftest import ServerProcess

# A description that is too short to price is valid by the schema and answered with 422.
CONFIG = """
[checks]
positive_data_acceptance.expected-statuses = ["2xx", "401", "403", "404", "409", "422", "429"]
max_response_time = 240
"""


def run_schemathesis(url: str, folder: Path, examples: int) -> int:
    """The number of cases. Fails with the report if a check does."""
    (folder / "schemathesis.toml").write_text(CONFIG)
    options = ["--max-examples", str(examples), "--request-timeout", "240", "--no-color", "--checks", "all"]
    command = [sys.executable, "-m", "schemathesis.cli", "--config-file", str(folder / "schemathesis.toml")]
    process = subprocess.run(
        [*command, "run", f"{url}/openapi.json", *options],
        capture_output=True,
        text=True,
        cwd=folder,
        env={**os.environ, "PYTHONWARNINGS": "ignore", "NO_PROXY": "*"},
    )
    report = process.stdout + process.stderr
    assert process.returncode == 0, report
    found = re.search(r"([\d,]+) generated", report)
    assert found, report
    return int(found[1].replace(",", ""))


def test_no_answer_is_undeclared_and_no_request_fails_the_server(server: ServerProcess, tmp_path: Path) -> None:
    assert run_schemathesis(server.url, tmp_path, 2) > 100


@pytest.mark.slow
def test_many_requests_find_no_undeclared_answer(server: ServerProcess, tmp_path: Path) -> None:
    assert run_schemathesis(server.url, tmp_path, 150) >= 2_000
