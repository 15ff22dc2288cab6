"""Two processes tune as one: the same batches, the same weights, one of them writes, and both end together.

The processes are started as torchrun starts them, by the environment, and average over gloo. They are forked from one
process that has imported what takes seconds; the slow test starts torchrun itself.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file

from pricesmith.catalog.catalog import Catalog, open_catalog
from pricesmith.pricers.llm.checkpoints import ADAPTER
from pricesmith.testing import make_catalog, make_model

pytestmark = pytest.mark.skipif(os.name == "nt", reason="processes are forked and killed")
HANG = 300.0  # seconds after which a process counts as hung, on a machine of any speed
TOLERANCE = 1e-5  # of fp32 weights: sums of gradients are rounded in another order

# Kills this process in a step of the training, if it is the rank that the environment names.
FAULT = """
import os, signal
from pathlib import Path
from pricesmith.pricers.llm.trainer import PriceTrainer

step_of_trainer = PriceTrainer.training_step

def training_step(self, *args, **kwargs):
    rank, step, once = os.environ["FAULT"].split(":", 2)
    if os.environ["RANK"] == rank and self.state.global_step == int(step) and not Path(once).exists():
        Path(once).touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return step_of_trainer(self, *args, **kwargs)

if os.environ.get("FAULT"):
    PriceTrainer.training_step = training_step
"""
# Forks the ranks of each job and waits for them; prints their exit codes as a line of JSON. It has the store, as
# torchrun has.
FORKS = """
import json, os, sys
import accelerate, pyarrow.parquet, sklearn.linear_model, torch.distributed, transformers.models.llama.modeling_llama
import pricesmith.base_models.memory, pricesmith.pricers.fitting, pricesmith.pricers.llm.lora
from pricesmith.cli import run

for line in sys.stdin:
    job = json.loads(line)
    children = []
    store = torch.distributed.TCPStore("127.0.0.1", job["port"], is_master=True, wait_for_workers=False)
    for rank, environment in enumerate(job["ranks"]):
        child = os.fork()
        if child == 0:
            os.environ.update(environment)
            for number, name in ((1, "out"), (2, "err")):
                os.dup2(os.open(f"{job['output']}.{rank}.{name}", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), number)
            exec(job["fault"])
            code = 1
            try:
                code = run(job["words"])
            except SystemExit as ended:
                code = ended.code
            finally:
                sys.stdout.flush()
                sys.stderr.flush()
                os._exit(code)
        children.append(child)
    codes = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
    print(json.dumps(codes), flush=True)
"""


class Ranks:
    """Runs a command in several forked processes, and reads what they print."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.server = subprocess.Popen(
            [sys.executable, "-c", FORKS],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=folder,
            env={**environment_without_launcher(), "OMP_NUM_THREADS": "1"},
        )

    def run(self, size: int, words: list[str], fault: str = "") -> list[int]:
        """The exit code of each process; a single one is started without a launcher."""
        assert self.server.stdin is not None
        assert self.server.stdout is not None
        port = free_port()
        shared = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "FAULT": fault}
        shared["TORCHELASTIC_USE_AGENT_STORE"] = "True"
        ranks = [{**shared, **numbers_of(rank, size)} for rank in range(size)] if size > 1 else [{}]
        job = {"ranks": ranks, "words": words, "fault": FAULT, "output": "output", "port": port}
        print(json.dumps(job), file=self.server.stdin, flush=True)
        codes: list[int] = json.loads(self.server.stdout.readline())
        return codes

    def output(self, rank: int, stream: str = "out") -> str:
        return (self.folder / f"output.{rank}.{stream}").read_text()

    def close(self) -> None:
        assert self.server.stdin is not None
        assert self.server.stdout is not None
        self.server.stdin.close()
        self.server.wait(timeout=HANG)
        self.server.stdout.close()


def environment_without_launcher() -> dict[str, str]:
    names = (*numbers_of(0, 1), "MASTER_ADDR", "MASTER_PORT")
    return {name: value for name, value in os.environ.items() if name not in names}


def numbers_of(rank: int, size: int) -> dict[str, str]:
    values = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": size, "LOCAL_WORLD_SIZE": size}
    return {name: str(value) for name, value in values.items()}


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def fit_words(kind: str, base: Path, catalog: Catalog, to: str, **more: Any) -> list[str]:
    """A fit of twelve steps and three evaluations."""
    settings = {"base": base, "minutes": 0, "epochs": 0.27, "tokens_per_batch": 128, "max_length": 24, "lora_r": 4}
    settings |= {"n_evals": 3, "patience": 0, "learning_rate": 1e-3, "dtype": "float32", **more}
    pairs = [word for name, value in settings.items() for word in ("--set", f"{name}={value}")]
    return ["fit", kind, "--catalog", str(catalog.path), "--to", to, *pairs]


def largest_difference(first: Path, second: Path) -> float:
    """Of the weights of two model folders' adapters, which are those of the same step."""
    steps = [json.loads((folder / "price_config.json").read_text())["step"] for folder in (first, second)]
    assert steps[0] == steps[1]
    weights, others = load_file(first / ADAPTER), load_file(second / ADAPTER)
    assert weights.keys() == others.keys()
    return max(float(np.abs(weights[name] - others[name]).max()) for name in weights)


def compare_curves(first: Path, second: Path) -> None:
    """Both have the same steps, losses, gradient norms and validation errors, but for rounding."""
    curves = [read_curve(folder) for folder in (first, second)]
    assert len(curves[0]) == len(curves[1]) > 3
    for one, two in zip(*curves, strict=True):
        assert one == pytest.approx(two, rel=1e-4)


def read_curve(folder: Path) -> list[dict[str, float]]:
    lines = [json.loads(line) for line in (folder / "training.jsonl").read_text().splitlines()]
    names = ("step", "epoch", "train_loss", "grad_norm", "validation_mae")
    return [{name: line[name] for name in names if name in line} for line in lines]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("ranks")


@pytest.fixture(scope="module")
def ranks(folder: Path) -> Any:
    started = Ranks(folder)
    yield started
    started.close()


@pytest.fixture(scope="module")
def base(folder: Path) -> Path:
    return make_model(folder / "base", numbers="single")


@pytest.fixture(scope="module")
def shop(folder: Path) -> Catalog:
    return open_catalog(make_catalog(folder / "catalog", 160))


@pytest.mark.timeout(HANG)
def test_two_processes_tune_to_the_weights_of_one(ranks: Ranks, base: Path, shop: Catalog, folder: Path) -> None:
    """The same batches, losses and evaluations; rank 0 alone prints and writes."""
    assert ranks.run(1, fit_words("lora_bins", base, shop, "one")) == [0], ranks.output(0, "err")
    alone = ranks.output(0)
    assert ranks.run(2, fit_words("lora_bins", base, shop, "two")) == [0, 0], ranks.output(0, "err")
    assert largest_difference(folder / "one", folder / "two") <= TOLERANCE
    compare_curves(folder / "one", folder / "two")
    assert "2 processes: each computes its share of every batch." in ranks.output(0)
    assert ranks.output(0).count("step 4 of") == alone.count("step 4 of") == 1
    assert ranks.output(1) + ranks.output(1, "err") == ""


@pytest.mark.slow
@pytest.mark.timeout(HANG)
def test_a_killed_process_ends_both_and_the_same_command_resumes(
    ranks: Ranks, base: Path, shop: Catalog, folder: Path
) -> None:
    """Slow because of four more fits. The resumed training ends with the weights of one that was left alone."""
    assert ranks.run(1, fit_words("lora_bins", base, shop, "alone")) == [0], ranks.output(0, "err")
    words = fit_words("lora_bins", base, shop, "killed")
    assert ranks.run(2, words, fault=f"1:6:{folder / 'once'}") == [1, -9]
    assert "Another process of this command has ended" in ranks.output(0, "err")
    assert "Traceback" not in ranks.output(0, "err")
    assert not (folder / "killed").exists()
    assert ranks.run(2, words) == [0, 0], ranks.output(0, "err")
    assert "Resuming from step 4 of" in ranks.output(0)
    assert largest_difference(folder / "alone", folder / "killed") <= TOLERANCE
    assert ranks.run(2, words) == [0, 0]
    assert "already fitted with these settings" in ranks.output(0)


@pytest.mark.slow
@pytest.mark.timeout(HANG)
def test_one_process_ends_what_two_have_begun(ranks: Ranks, base: Path, shop: Catalog, folder: Path) -> None:
    """Slow because of five more fits. Checkpoints do not depend on the number of processes; here rank 0 is killed, and
    the model writes the price."""
    assert ranks.run(1, fit_words("lora_tokens", base, shop, "tokens-one")) == [0], ranks.output(0, "err")
    assert ranks.run(2, fit_words("lora_tokens", base, shop, "tokens-two")) == [0, 0], ranks.output(0, "err")
    words = fit_words("lora_tokens", base, shop, "begun")
    codes = ranks.run(2, words, fault=f"0:6:{folder / 'tokens-once'}")
    assert codes[0] == -9
    assert codes[1] != 0
    assert ranks.output(1) == ""
    assert ranks.run(1, words) == [0], ranks.output(0, "err")
    assert "Resuming from step" in ranks.output(0)
    for other in ("tokens-two", "begun"):
        assert largest_difference(folder / "tokens-one", folder / other) <= TOLERANCE
        compare_curves(folder / "tokens-one", folder / other)


@pytest.mark.timeout(HANG)
def test_an_error_of_the_training_ends_both_and_is_printed_once(ranks: Ranks, base: Path, shop: Catalog) -> None:
    """The other process waits for the evaluation of rank 0, which finds that the training has diverged."""
    words = fit_words("lora_bins", base, shop, "diverged", learning_rate=1e9)
    assert ranks.run(2, words) == [1, 1], ranks.output(0, "err")
    assert "diverged" in ranks.output(0, "err")
    assert "Traceback" not in ranks.output(0, "err")
    assert ranks.output(1) + ranks.output(1, "err") == ""


@pytest.mark.slow
@pytest.mark.timeout(2 * HANG)
def test_torchrun_restarts_a_killed_process_and_the_fit_resumes(base: Path, shop: Catalog, folder: Path) -> None:
    """Slow because five interpreters import torch: torchrun, and two processes twice."""
    (folder / "program.py").write_text(f"{FAULT}\nfrom pricesmith.cli import main\nmain()\n")
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    environment = {**environment_without_launcher(), "OMP_NUM_THREADS": "1"}

    def torchrun(program: list[str], to: str, fault: str = "") -> str:
        words = fit_words("lora_bins", base, shop, to)
        ended = subprocess.run(
            [*launcher, "--max-restarts", "1", *program, *words],
            cwd=folder,
            env={**environment, "FAULT": fault},
            capture_output=True,
            text=True,
            timeout=HANG,
        )
        assert ended.returncode == 0, ended.stderr
        return ended.stdout

    assert torchrun(["-m", "pricesmith"], "torchrun").count("2 processes") == 1
    assert "Resuming from step 4 of" in torchrun(["program.py"], "restarted", f"1:6:{folder / 'torchrun-once'}")
    assert largest_difference(folder / "torchrun", folder / "restarted") <= TOLERANCE


@pytest.mark.slow
@pytest.mark.timeout(2 * HANG)
def test_accelerate_launch_tunes_to_the_weights_of_one_process(
    ranks: Ranks, base: Path, shop: Catalog, folder: Path
) -> None:
    """Slow because three interpreters import torch. `--multi_gpu` starts several processes also without a GPU; a config
    file of the user is not read."""
    launcher = [sys.executable, "-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes", "2"]
    launcher += ["--num_machines", "1", "--mixed_precision", "no", "--dynamo_backend", "no"]
    ended = subprocess.run(
        [
            *launcher,
            "--main_process_port",
            str(free_port()),
            "-m",
            "pricesmith",
            *fit_words("lora_bins", base, shop, "accelerate"),
        ],
        cwd=folder,
        env={**environment_without_launcher(), "OMP_NUM_THREADS": "1", "HF_HOME": str(folder / "home")},
        capture_output=True,
        text=True,
        timeout=HANG,
    )
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.count("2 processes: each computes its share of every batch.") == 1
    assert ranks.run(1, fit_words("lora_bins", base, shop, "accelerate-one")) == [0], ranks.output(0, "err")
    assert largest_difference(folder / "accelerate", folder / "accelerate-one") <= TOLERANCE
    compare_curves(folder / "accelerate", folder / "accelerate-one")
