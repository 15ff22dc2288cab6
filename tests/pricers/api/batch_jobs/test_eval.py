"""`pricesmith eval api:MODEL --batch`: submit, resume, cancel, and what the evaluation says about costs and time."""

from __future__ import annotations

import json
import signal
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from tests.forks import fork

from pricesmith.catalog.catalog import Catalog, open_catalog
from pricesmith.cli import run
from pricesmith.core.types import EvalRow
from pricesmith.evaluation.results import read_evals
from pricesmith.pricers.api.batch_jobs import runner
from pricesmith.testing import make_catalog
from pricesmith.testing.batch_replies import ApiName
from pricesmith.testing.batch_server import FakeBatchServer

SPEC = "api:made/made-model@price=1/2"


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Catalog:
    """A made catalog that is large enough for one split."""
    return open_catalog(make_catalog(tmp_path_factory.mktemp("shop") / "catalog", 2_000))


@pytest.fixture(scope="module")
def corner(tmp_path_factory: pytest.TempPathFactory) -> Catalog:
    """A made catalog that is evaluated in folds."""
    return open_catalog(make_catalog(tmp_path_factory.mktemp("corner") / "catalog", 120))


class Command:
    """`pricesmith eval` of a fake provider's model."""

    def __init__(
        self,
        fake: FakeBatchServer,
        catalog: Catalog,
        folder: Path,
        monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        self.catalog, self.folder, self.capsys = catalog, folder, capsys
        (folder / "providers.toml").write_text(fake.providers_toml())
        monkeypatch.setenv("PRICESMITH_PROVIDERS", str(folder / "providers.toml"))
        monkeypatch.setenv("PRICESMITH_CACHE", str(folder / "cache"))
        monkeypatch.setenv("MADE_KEY", fake.key)
        monkeypatch.setattr(runner, "FIRST_PAUSE", 0.01)

    def run(self, *options: str, spec: str = SPEC, limit: int = 20) -> tuple[int, str]:
        """Its exit code, and what it printed."""
        self.capsys.readouterr()
        catalog, to = str(self.catalog.path), str(self.folder / "evals")
        code = run(["eval", spec, "--catalog", catalog, "--to", to, "--limit", str(limit), *options])
        output = self.capsys.readouterr()
        return code, output.out + output.err

    def meta(self, name: str = "api-made-made-model") -> dict[str, Any]:
        """The meta file of the evaluation."""
        return dict(read_evals(self.folder / "evals").meta[name])

    def rows(self) -> Sequence[EvalRow]:
        """The rows of its only evaluation."""
        (evaluation,) = read_evals(self.folder / "evals").evaluations
        return evaluation.rows


@pytest.fixture
def command(
    request: pytest.FixtureRequest,
    shop: Catalog,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Any:
    """Builds the command of a fake provider."""
    return lambda fake, catalog=shop: Command(fake, catalog, tmp_path, monkeypatch, capsys)


@pytest.mark.parametrize("api", ["openai", "anthropic", "gemini"])
def test_an_evaluation_in_batch_jobs_costs_half_and_has_no_latency(api: ApiName, command: Any) -> None:
    """Its dollars are those that the provider bills; seconds of jobs are 0, which is not measured."""
    with FakeBatchServer(api) as fake:
        eval_command = command(fake)
        code, output = eval_command.run("--batch", "--budget", "5")
        assert code == 0
        assert "19 answers came from batch jobs" in output
        meta = eval_command.meta()
        assert meta["spent_usd"] == pytest.approx(fake.billed_usd(1.0, 2.0), abs=1e-12)
        assert meta["answers"] == {"requested": 1, "cached": 0, "from_batch_jobs": 19, "requested_again": 0}
        assert meta["tiers"] == {"batch": 19}
        seconds = [row.seconds for row in eval_command.rows()]
        assert sum(value > 0 for value in seconds) == 1  # the single request


def test_the_estimate_is_at_the_price_of_batch_jobs(command: Any) -> None:
    """Half of what single requests cost; before anything is sent."""
    with FakeBatchServer("openai") as fake:
        eval_command = command(fake)
        _, single = eval_command.run("--budget", "0.000001")
        _, batch = eval_command.run("--budget", "0.000001", "--batch")
        assert not fake.jobs

    def estimate(output: str) -> float:
        return float(output.partition("Estimated cost: $")[2].partition(";")[0])

    assert estimate(batch) == pytest.approx(estimate(single) / 2, rel=0.05)


def test_without_waiting_the_exit_code_says_that_it_is_not_finished(command: Any) -> None:
    """No evaluation is written; the same command collects the answers."""
    with FakeBatchServer("openai", polls=2) as fake:
        eval_command = command(fake)
        code, output = eval_command.run("--batch", "--no-wait")
        assert code == 75
        assert "19 requests in 1 batch job" in output
        assert "Traceback" not in output
        assert eval_command.run("--batch", "--no-wait")[0] == 75
        code, _ = eval_command.run("--batch")
        assert code == 0
        assert len(fake.jobs) == 1
        assert len(fake.answered()) == 19


def test_a_job_is_cancelled_and_its_finished_answers_are_kept(command: Any) -> None:
    """The hint of the command before works as it is written."""
    with FakeBatchServer("anthropic", polls=99, faults={"cancel finished": 3}) as fake:
        eval_command = command(fake)
        eval_command.run("--batch", "--no-wait")
        code, output = eval_command.run("--cancel-batch")
        assert code == 0
        assert "1 batch job with 19 requests ended; 3 answers were finished before" in output
        code, output = eval_command.run("--cancel-batch", "--json")
        assert json.loads(output)["cancelled"]["made/made-model"]["jobs"] == 0
        fake.polls = 0
        assert eval_command.run("--batch")[0] == 0
        assert len(fake.answered()) == 19


def test_the_memorization_check_is_asked_one_by_one(command: Any) -> None:
    """Its few requests are not worth a job of their own."""
    with FakeBatchServer("openai", lambda question: '{"price": 24}') as fake:
        eval_command = command(fake)
        code, _ = eval_command.run("--batch", spec=SPEC + ",memorization_check=3")
        assert code == 0
        assert len(fake.single) == 4
        assert len(fake.answered()) == 19


def test_comparables_in_folds_are_asked_in_batch_jobs(command: Any, corner: Catalog) -> None:
    """Each fold is shown other listings; all requests are in the same jobs."""
    with FakeBatchServer("openai") as fake:
        eval_command = command(fake, corner)
        code, _ = eval_command.run("--batch", spec=SPEC + ",comparables=2", limit=30)
        assert code == 0
        assert len(fake.jobs) == 1
        assert len(fake.answered()) + len(fake.single) == 30


def test_answers_of_batch_jobs_serve_commands_without_them(command: Any) -> None:
    """The same evaluation with --overwrite sends nothing."""
    with FakeBatchServer("gemini") as fake:
        eval_command = command(fake)
        eval_command.run("--batch")
        count = len(fake.events)
        code, output = eval_command.run("--overwrite")
        assert code == 0
        assert "all in the response cache" in output
        assert len(fake.events) == count
        assert eval_command.meta()["spent_usd"] == pytest.approx(fake.billed_usd(1.0, 2.0), abs=1e-12)


def test_a_blend_is_fitted_on_answers_of_batch_jobs(command: Any, shop: Catalog, tmp_path: Path) -> None:
    """Those about the validation listings: nothing is bought by the fit."""
    with FakeBatchServer("openai", lambda question: json.dumps({"price": 20 + len(question) % 50})) as fake:
        eval_command = command(fake)
        code, _ = eval_command.run("--batch", "--split", "validation", limit=10_000)
        assert code == 0
        where = ["--catalog", str(shop.path)]
        assert run(["fit", "ridge", *where, "--to", str(tmp_path / "ridge")]) == 0
        members = f"members={tmp_path / 'ridge'},{SPEC}"
        count = len(fake.events)
        blend = ["--set", members, "--set", "n_answers=70", *where, "--to", str(tmp_path / "blend")]
        assert run(["fit", "blend", *blend]) == 0
        assert len(fake.events) == count


def test_ctrl_c_leaves_the_job_at_the_provider(command: Any, tmp_path: Path) -> None:
    """Exit code 130 without a traceback; the same command collects the answers."""
    with FakeBatchServer("openai", polls=10**6) as fake:
        eval_command = command(fake)
        script = "import sys; from pricesmith.cli import run; sys.exit(run(sys.argv[1:]))"
        words = ["eval", SPEC, "--catalog", str(eval_command.catalog.path), "--to", str(tmp_path / "evals")]
        words += ["--limit", "20", "--batch"]
        process = fork(script, *words, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        until = time.monotonic() + 240
        while fake.events.count("status") < 1:
            assert process.poll() is None, process.communicate()[1]
            assert time.monotonic() < until
            time.sleep(0.01)
        process.send_signal(signal.SIGINT)
        output, errors = process.communicate(timeout=240)
        assert (process.returncode, "Traceback" in errors) == (130, False)
        assert "The batch job keeps running at" in output + errors
        fake.jobs["job_1"].polls = 0
        assert eval_command.run("--batch")[0] == 0
        assert len(fake.jobs) == 1


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--no-wait"], "--no-wait needs --batch"),
        (["--batch", "--cancel-batch"], "exclude each other"),
        (["--batch", "--suggest"], "exclude each other"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_options_that_do_not_fit_are_refused(options: list[str], words: str, command: Any) -> None:
    """Before anything is sent, with exit code 2."""
    with FakeBatchServer("openai") as fake:
        code, output = command(fake).run(*options)
        assert (code, words in output) == (2, True)
        assert not fake.events


def test_a_provider_without_batch_jobs_is_refused(command: Any, tmp_path: Path) -> None:
    """The error names those that have them."""
    with FakeBatchServer("openai") as fake:
        eval_command = command(fake)
        code, output = eval_command.run("--batch", spec="api:ollama/gemma")
        assert code == 2
        assert "models of OpenAI, Anthropic and Google" in output
        assert eval_command.run("--batch", spec=str(tmp_path))[0] == 2
