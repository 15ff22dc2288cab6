"""`pricesmith rewrite --batch`: answers in batch jobs, at half the price."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.rewriting.conftest import ROWS, write_form

from pricesmith.catalog.catalog import Catalog, open_catalog
from pricesmith.cli import run
from pricesmith.pricers.api.batch_jobs import runner
from pricesmith.pricers.api.response_cache import REWRITING, ResponseCache
from pricesmith.testing.batch_server import FakeBatchServer

SPEC = "api:made/made-model@price=1/2"


def test_a_catalog_is_rewritten_in_batch_jobs_across_commands(
    shop: Catalog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """With --no-wait the command is run again until it is finished; every listing is bought once, and the answers do
    not count as prices."""
    with FakeBatchServer("openai", write_form) as fake:
        (tmp_path / "providers.toml").write_text(fake.providers_toml())
        monkeypatch.setenv("PRICESMITH_PROVIDERS", str(tmp_path / "providers.toml"))
        monkeypatch.setattr(runner, "FIRST_PAUSE", 0.01)
        to = tmp_path / "clean"
        command = ["rewrite", str(shop.path), "--to", str(to), "--model", SPEC, "--rows", "80", "--yes", "--batch"]
        codes = [run([*command, "--no-wait"])]
        while codes[-1] == 75 and len(codes) < 10:
            codes.append(run([*command, "--no-wait"]))
        assert codes[-1] == 0, capsys.readouterr()
        assert 75 in codes
        assert len(fake.answered()) == ROWS - 2  # one of the trial and one of the rest are asked by themselves
        facts = open_catalog(to).ledger["rewriting"]
        assert facts["cost"]["spent_usd"] == pytest.approx(fake.billed_usd(1.0, 2.0))
        assert facts["usd_per_listing"] > 1.5 * facts["cost"]["spent_usd"] / ROWS  # a new listing is asked by itself
        with ResponseCache(tmp_path / "cache" / "answers.sqlite") as cache:
            assert cache.run("SELECT DISTINCT purpose FROM answers") == [(REWRITING,)]
            assert cache.mean_output_tokens(*cache.run("SELECT endpoint, model FROM answers LIMIT 1")[0]) is None
        assert run([*command[:-2], "--cancel-batch"]) == 0
        assert "has no unfinished batch jobs" in capsys.readouterr().out


def test_unfinished_batch_jobs_are_cancelled(
    shop: Catalog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Those that ask for the clean form too, not only those that ask for prices."""
    with FakeBatchServer("openai", write_form) as fake:
        (tmp_path / "providers.toml").write_text(fake.providers_toml())
        monkeypatch.setenv("PRICESMITH_PROVIDERS", str(tmp_path / "providers.toml"))
        monkeypatch.setattr(runner, "FIRST_PAUSE", 0.01)
        command = ["rewrite", str(shop.path), "--to", str(tmp_path / "clean"), "--model", SPEC, "--rows", "80"]
        assert run([*command, "--batch", "--no-wait"]) == 75
        capsys.readouterr()
        assert run([*command, "--cancel-batch"]) == 0
        assert "1 batch job with" in capsys.readouterr().out
