"""`price --file` with a model that asks an API model is killed; all its processes together stay within the budget."""

from __future__ import annotations

import json
import subprocess
import time
from pathlib import Path

import pytest
from tests.forks import fork

from pricesmith.cli import run
from pricesmith.testing import FakeEndpoint, make_catalog, make_csv

SCRIPT = "import sys; from pricesmith.cli import run; sys.exit(run(sys.argv[1:]))"
PRICE = (100.0, 400.0)  # US dollars for a million tokens of the fake endpoint
BUDGET = 0.6


def test_a_killed_file_is_resumed_within_its_budget(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Whatever was billed, for answers that arrived or not; cached answers are not paid again, and every row has a
    price."""
    with FakeEndpoint(delay=0.02) as fake:
        monkeypatch.setenv("PRICESMITH_CACHE", str(tmp_path / "cache"))
        monkeypatch.setenv("MADE_KEY", fake.key)
        monkeypatch.chdir(tmp_path)
        catalog = ["--catalog", str(make_catalog(tmp_path / "catalog", 600)), "--quiet"]
        make_csv(tmp_path / "new.csv", 150, seed=1)
        member = f"api:made@url={fake.url},key=MADE_KEY,price={PRICE[0]:g}/{PRICE[1]:g},max_output_tokens=16"
        assert run(["fit", "median", "--to", "median", *catalog]) == 0
        assert run(["fit", "blend", "--to", "blend", "--set", f"members=median,{member}", *catalog]) == 0
        before, billed = len(fake.requests), fake.billed_usd(*PRICE)
        words = ["price", "blend", "--file", "new.csv", "--to", "prices.csv", "--budget", str(BUDGET)]
        process = fork(SCRIPT, *words, stdout=subprocess.DEVNULL)
        until = time.monotonic() + 240
        while len(fake.requests) < before + 25:
            assert process.poll() is None
            assert time.monotonic() < until
            time.sleep(0.005)
        process.kill()
        process.wait(240)
        assert (tmp_path / "prices.csv.parts").is_dir()
        paid_by_killed = fake.billed_usd(*PRICE) - billed
        assert paid_by_killed > 0
        capfd.readouterr()
        assert run([*words, "--json"]) == 0
        output = capfd.readouterr()
        facts = json.loads(output.out)
        paid = fake.billed_usd(*PRICE) - billed
    api = facts["api"]
    assert paid_by_killed <= paid <= api["spent_usd"] + 1e-6 <= BUDGET + 2e-6
    assert api["spent_usd"] - api["failed_tries_usd"] <= paid + 1e-6
    assert "are spent already" in output.err
    assert facts["priced"] == 150
    assert not (tmp_path / "prices.csv.parts").exists()
