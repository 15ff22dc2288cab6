"""A training that is interrupted anywhere and resumed ends with the weights of an uninterrupted one."""

from __future__ import annotations

import importlib.util
import json
import os
import random
import signal
import subprocess
import sys
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.pricers.llm.conftest import SMALL

from pricesmith.catalog.catalog import Catalog
from pricesmith.core.errors import InputError, PricesmithError, UsageError
from pricesmith.core.progress import Progress
from pricesmith.pricers import recipes
from pricesmith.pricers.fitting import fit_model
from pricesmith.pricers.llm.checkpoints import ADAPTER, CHECKPOINTS, MARKER, checkpoints
from pricesmith.pricers.llm.lora import LoraBins, LoraTokens
from pricesmith.pricers.model import load_model
from pricesmith.testing import make_items, make_model

# Imports what is slow once, then forks a child for each line of JSON: a fit that may be killed at any time.
SERVER = """
import json, os, resource, sys
from pathlib import Path
from pricesmith.pricers.llm.lora import LoraBins, LoraTokens
from pricesmith.core.progress import Progress
from pricesmith.testing import make_items

class Limited(Progress):
    '''Lets no file grow over `most` bytes after `steps` steps, as a full disk would not.'''
    def __init__(self, steps, most):
        self.left, self.most = steps, most
    def start(self, what, total=None):
        self.tuning = what == "tuning"
    def advance(self, steps=1):
        self.left -= steps if self.tuning else 0
        if self.tuning and self.left < 0:
            resource.setrlimit(resource.RLIMIT_FSIZE, (self.most, self.most))

for line in sys.stdin:
    job = json.loads(line)
    child = os.fork()
    if child == 0:
        items, _ = make_items(job["items"])
        held = job["items"] // 5
        code = 1
        try:
            progress = Limited(*job["limit"]) if "limit" in job else Progress()
            {"bins": LoraBins, "tokens": LoraTokens}[job["kind"]](**job["settings"]).fit(
                items[held:], items[:held], Path(job["run"]), progress
            )
            code = 0
        except Exception as error:
            Path(job["run"], "error.txt").write_text(f"{type(error).__name__}: {error}")
        os._exit(code)
    print(child, flush=True)
    _, status = os.waitpid(child, 0)
    print(os.waitstatus_to_exitcode(status), flush=True)
"""


class Forge:
    """A process that tunes in children, on one thread."""

    def __init__(self) -> None:
        self.server = subprocess.Popen(
            [sys.executable, "-c", SERVER],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )

    def say(self) -> int:
        assert self.server.stdout is not None
        return int(self.server.stdout.readline())

    def start(self, run: Path, kind: str, settings: dict[str, Any], **more: Any) -> int:
        """Begin a fit in `run`; the child's number."""
        run.mkdir(parents=True, exist_ok=True)
        (run / "catalog.json").write_text(json.dumps({"price_range": [0.01, 5000.0], "currency": "USD"}))
        assert self.server.stdin is not None
        print(
            json.dumps({"run": str(run), "kind": kind, "settings": settings, "items": 200, **more}),
            file=self.server.stdin,
            flush=True,
        )
        return self.say()

    def fit(self, run: Path, kind: str, settings: dict[str, Any], **more: Any) -> int:
        """A fit to its end; its exit code."""
        self.start(run, kind, settings, **more)
        return self.say()

    def kill(self, run: Path, kind: str, settings: dict[str, Any], after: int, delay: float) -> int:
        """A fit that is killed `delay` seconds after the line of step `after` was written; -9 where it was alive."""
        child = self.start(run, kind, settings)
        curve = run / "training.jsonl"
        until = time.monotonic() + 240
        while time.monotonic() < until and not (run / "price_config.json").exists():
            if curve.exists() and f'"step": {after},' in curve.read_text():
                break
            time.sleep(0.002)
        time.sleep(delay)
        os.kill(child, signal.SIGKILL)
        return self.say()


@pytest.fixture(scope="module")
def forge() -> Iterator[Forge]:
    made = Forge()
    yield made
    assert made.server.stdin is not None
    assert made.server.stdout is not None
    made.server.stdin.close()
    made.server.wait()
    made.server.stdout.close()


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_model(tmp_path_factory.mktemp("base") / "tiny")


@pytest.fixture(scope="module")
def single(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A base whose numbers are one token each: read by one forward."""
    return make_model(tmp_path_factory.mktemp("single") / "tiny", numbers="single")


def lasting(run: Path) -> list[dict[str, Any]]:
    """The training curve without what depends on the clock."""
    lines = [json.loads(line) for line in (run / "training.jsonl").read_text().splitlines()]
    return [{name: line[name] for name in line if name not in {"seconds", "tokens_per_second"}} for line in lines]


def lines_at_the_last_checkpoint(run: Path) -> list[str]:
    """The training curve up to the newest complete checkpoint, seconds included; empty without a checkpoint."""
    steps = [int(path.name.rpartition("-")[2]) for path in checkpoints(run / CHECKPOINTS) if (path / MARKER).exists()]
    lines = (run / "training.jsonl").read_text().splitlines() if steps else []
    return [line for line in lines if line.endswith("}") and json.loads(line)["step"] <= max(steps)]


def last_adapter(run: Path) -> bytes:
    return (checkpoints(run / CHECKPOINTS)[0] / ADAPTER).read_bytes()


def killed_and_resumed(forge: Forge, base: Path, folder: Path, kind: str, kills: int) -> None:
    """`kills` runs killed at random points and resumed, each against one that was left alone."""
    settings = {**SMALL, "base": str(base), "lora_dropout": 0.2, "n_evals": 4}
    assert forge.fit(folder / "straight", kind, settings) == 0
    wanted = lasting(folder / "straight")
    draw, went_on = random.Random(0), 0
    for number in range(kills):
        run = folder / f"killed-{number}"
        after, delay = draw.randrange(1, len(wanted)), draw.choice((0.0, draw.uniform(0, 0.06)))
        assert forge.kill(run, kind, settings, after, delay) == -9
        before = lines_at_the_last_checkpoint(run)
        assert forge.fit(run, kind, settings) == 0, (run / "error.txt").read_text()
        # One that started over would reach the same weights, but its lines would tell other seconds.
        assert (run / "training.jsonl").read_text().splitlines()[: len(before)] == before
        went_on += bool(before)
        assert last_adapter(run) == last_adapter(folder / "straight"), (after, delay)
        assert (run / ADAPTER).read_bytes() == (folder / "straight" / ADAPTER).read_bytes()
        assert lasting(run) == wanted, (after, delay)
    assert went_on >= kills / 2


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["bins", "tokens"])
def test_killed_at_ten_random_points_it_ends_with_the_same_weights(
    forge: Forge, single: Path, tmp_path: Path, kind: str
) -> None:
    """SIGKILL at ten points, dropout on, for both read-outs: adapters bit for bit and all losses and errors as of a
    run left alone."""
    killed_and_resumed(forge, single, tmp_path, kind, 10)


@pytest.fixture(scope="module")
def settings(base: Path) -> dict[str, Any]:
    """A training with dropout and six evaluations, each with a checkpoint."""
    return {**SMALL, "base": str(base), "lora_dropout": 0.2, "n_evals": 6}


@pytest.fixture(scope="module")
def straight(forge: Forge, settings: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """That training, left alone."""
    run = tmp_path_factory.mktemp("straight") / "run"
    assert forge.fit(run, "bins", settings) == 0
    return run


def test_a_training_that_is_interrupted_repeatedly_ends_with_the_same_weights(
    forge: Forge, settings: dict[str, Any], straight: Path, tmp_path: Path
) -> None:
    """Each leg goes on from the last whole checkpoint of the one before; the newest one broken, from that before it.
    Adapters bit for bit and all losses and errors are those of a run left alone."""
    run = tmp_path / "often"
    for after in (8, 12):
        assert forge.kill(run, "bins", settings, after, 0.0) == -9
    newest = next(path for path in checkpoints(run / CHECKPOINTS) if (path / MARKER).exists())
    data = bytearray((newest / "optimizer.pt").read_bytes())
    data[len(data) // 2] ^= 1
    (newest / "optimizer.pt").write_bytes(data)
    (newest / MARKER).rename(run / MARKER)
    before = lines_at_the_last_checkpoint(run)
    (run / MARKER).rename(newest / MARKER)
    assert forge.fit(run, "bins", settings) == 0
    assert before
    assert (run / "training.jsonl").read_text().splitlines()[: len(before)] == before, "it started over"
    assert last_adapter(run) == last_adapter(straight)
    assert (run / ADAPTER).read_bytes() == (straight / ADAPTER).read_bytes()
    assert lasting(run) == lasting(straight)


def test_a_full_disk_leaves_the_last_complete_checkpoint(
    forge: Forge, settings: dict[str, Any], straight: Path, tmp_path: Path, is_thorough: bool
) -> None:
    """A checkpoint that does not fit is one error with advice; with space again it goes on from the last whole one.
    The disk is full in the adapter; in the optimizer's file and in the training curve too with --run-slow."""
    run = tmp_path / "full"
    for most in (70_000, 20_000, 10) if is_thorough else (20_000,):
        assert forge.fit(run, "bins", settings, limit=[10, most]) == 1
        whole = [path for path in checkpoints(run / CHECKPOINTS) if (path / MARKER).exists()]
        assert whole
        assert whole == checkpoints(run / CHECKPOINTS), "nothing half written is left"
    before = lines_at_the_last_checkpoint(run)
    assert forge.fit(run, "bins", settings) == 0
    assert before
    assert (run / "training.jsonl").read_text().splitlines()[: len(before)] == before, "it started over"
    assert last_adapter(run) == last_adapter(straight)


class Interrupting(Progress):
    """Ctrl-C at a step of the training, or when a stage begins."""

    def __init__(self, steps: int = -1, stage: str = "") -> None:
        self.steps, self.stage, self.notes = steps, stage, list[str]()
        self.tuning = False

    def start(self, what: str, total: int | None = None) -> None:
        self.tuning = what == "tuning"
        if self.stage and what.startswith(self.stage):
            raise KeyboardInterrupt

    def advance(self, steps: int = 1) -> None:
        self.steps -= steps if self.tuning else 0
        if self.tuning and self.steps == 0:
            raise KeyboardInterrupt

    def note(self, text: str) -> None:
        self.notes.append(text)


def bins(base: Path | str, **more: Any) -> LoraBins:
    return LoraBins(**{**SMALL, "epochs": 0.2, "max_length": 24, **more, "base": str(base)})


def test_an_interrupted_fit_resumes_with_the_same_command(base: Path, shop: Catalog, tmp_path: Path) -> None:
    """Ctrl-C keeps the building folder; the same command ends it; the run holds no checkpoints and names none."""
    run, building = tmp_path / "run", tmp_path / ".run.building"
    with pytest.raises(KeyboardInterrupt):
        fit_model(bins(base), shop, run, progress=Interrupting(steps=12))
    assert any((building / CHECKPOINTS).glob("checkpoint-*"))
    with pytest.raises(UsageError, match="other settings"):
        fit_model(bins(base, learning_rate=0.5), shop, run)
    second = Interrupting(stage="calibrating")
    with pytest.raises(KeyboardInterrupt):
        fit_model(bins(base), shop, run, progress=second)
    assert [note for note in second.notes if note.startswith("Resuming from step")]
    assert not (building / CHECKPOINTS).exists()
    last = Interrupting()
    fit_model(bins(base), shop, run, progress=last)
    assert "The adapter is tuned already." in last.notes
    assert not building.exists()
    assert not (run / CHECKPOINTS).exists()
    manifest = json.loads((run / "manifest.json").read_text())
    assert {ADAPTER, "adapter_config.json", "price_config.json", "training.jsonl"} <= set(manifest["files"])
    assert not [name for name in manifest["files"] if "checkpoint" in name]
    assert load_model(run).price([shop.items("test")[0].listing])[0].price


def test_a_failure_before_the_first_checkpoint_leaves_no_files(base: Path, shop: Catalog, tmp_path: Path) -> None:
    """A wrong base or module can be put right by another setting, without --overwrite."""
    wrongs: list[dict[str, Any]] = [
        {"base": "/no/such/base.gguf"},
        {"target_modules": ("nothing",)},
        {"style": "chat"},
        {"report_to": "nowhere"},
    ]
    for wrong in wrongs:
        with pytest.raises((UsageError, InputError)):
            fit_model(bins(**{"base": base, **wrong}), shop, tmp_path / "run")
        assert not (tmp_path / ".run.building").exists()


@pytest.mark.parametrize("kind", [LoraBins, LoraTokens])
def test_stock_peft_loads_the_run_and_gives_the_same_answers(
    kind: type[LoraBins] | type[LoraTokens], single: Path, tmp_path: Path
) -> None:
    """PeftModel.from_pretrained on the stock base gives the same prices as our pricer."""
    from peft import PeftModel
    from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, AutoTokenizer

    from pricesmith.pricers.llm.pricer import LlmPricer
    from pricesmith.pricers.llm.readout import PriceBins, TokenReader
    from pricesmith.text.prompts import Prompt

    items, _ = make_items(200)
    run = tmp_path / "run"
    run.mkdir()
    (run / "catalog.json").write_text(json.dumps({"price_range": [0.01, 900.0], "currency": "EUR"}))
    recipe = kind(base=str(single), dtype="float32", **SMALL)  # in bf16 the two round differently, by up to 6 %
    recipe.fit(items[40:], items[:40], run)
    ours = recipe.load(run).price([item.listing for item in items[:40]])

    config = json.loads((run / "price_config.json").read_text())
    assert config["dtype"] == "float32"
    if kind is LoraBins:
        count = len(config["edges"]) - 1
        stock = AutoModelForSequenceClassification.from_pretrained(single, num_labels=count, dtype=torch.float32)
    else:
        stock = AutoModelForCausalLM.from_pretrained(single, dtype=torch.float32)
    with warnings.catch_warnings():  # peft asks transformers by a name that it is about to drop
        warnings.filterwarnings("ignore", message=".*is_gradient_checkpointing", category=FutureWarning)
        model = PeftModel.from_pretrained(stock, run).eval()
    tokenizer = AutoTokenizer.from_pretrained(single)
    reader = (
        PriceBins(tuple(config["edges"])) if config["edges"] else TokenReader(tokenizer, (0.01, 900.0), currency="EUR")
    )
    stocks = LlmPricer("stock", model, tokenizer, Prompt(**config["prompt"]), reader, 2048)
    theirs = stocks.price([item.listing for item in items[:40]])
    assert [quote.price for quote in theirs] == pytest.approx([quote.price for quote in ours], rel=1e-4)
    assert config["currency"] == config["prompt"]["currency"] == "EUR"
    assert (run / "adapter_config.json").is_file()
    assert not (run / "README.md").exists()


def test_four_bits_without_bitsandbytes_names_the_extra(
    base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The error names the extra that installs the missing library, before anything long begins."""
    find_spec = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *more: None if name == "bitsandbytes" else find_spec(name, *more)
    )
    (tmp_path / "catalog.json").write_text(json.dumps({"price_range": [0.01, 5000.0], "currency": "USD"}))
    items, _ = make_items(40)
    with pytest.raises(PricesmithError) as error_info:
        LoraBins(base=str(base), quantization="nf4").fit(items, items, tmp_path)
    assert "pricesmith[qlora]" in error_info.value.hint


@pytest.mark.parametrize("name", [name for name in recipes.shipped_recipes() if name.startswith("lora_")])
def test_every_shipped_recipe_of_a_specialist_is_sound(name: str) -> None:
    """Each can be read, names a base, and describes the machine it is for in its first lines."""
    recipe = recipes.read_recipe(name)
    assert isinstance(recipe, LoraBins | LoraTokens)
    assert recipe.base
    lines = recipes.shipped_recipes()[name].read_text().splitlines()
    assert lines[0].startswith(f"# pricesmith fit {name} ")
