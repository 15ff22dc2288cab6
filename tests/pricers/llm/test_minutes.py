"""`minutes` limits loading, timing, initializing the head, evaluating and calibrating. The tests use a fake clock."""

from __future__ import annotations

import json
import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from torch import Tensor, nn

from pricesmith.catalog.catalog import open_catalog
from pricesmith.core.errors import UsageError
from pricesmith.core.progress import Progress
from pricesmith.pricers import fitting, model
from pricesmith.pricers.llm import checkpoints, lora, trainer, tuning
from pricesmith.pricers.llm.batching import Batch, BinLoss
from pricesmith.pricers.llm.checkpoints import CHECKPOINTS
from pricesmith.pricers.llm.lora import LoraBins, TuningRun
from pricesmith.pricers.llm.trainer import MEDIAN, ValidationResult
from pricesmith.testing import make_catalog, make_items, make_model


class Machine:
    """A clock that work moves: seconds for loading, for a position of training, and for a forward of one item."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *, load: float, position: float, item: float) -> None:
        self.now, self.load, self.position, self.item = 0.0, load, position, item
        self.head_rows = 0
        clock = SimpleNamespace(perf_counter=lambda: self.now)
        for module in (lora, tuning, trainer, checkpoints):
            monkeypatch.setattr(module, "time", clock)
        adapted = TuningRun.build_model

        def loaded(job: TuningRun) -> nn.Module:
            self.now += self.load
            return adapted(job)

        def judge(job: TuningRun, items: int) -> ValidationResult:
            self.now += self.item * items
            errors = [0.9 * error for error in job.trainer.references[MEDIAN][:items]]
            return ValidationResult(float(np.mean(errors)), 1.0, errors)

        def init_head(_: nn.Module, examples: list[Any], *__: Any) -> None:
            self.now += self.item * len(examples)
            self.head_rows = len(examples)

        class Loss(BinLoss):
            def __call__(loss, model: nn.Module, batch: Batch) -> Tensor:
                self.now += self.position * batch["ids"].numel()
                return super().__call__(model, batch)

        monkeypatch.setattr(TuningRun, "build_model", loaded)
        monkeypatch.setattr(TuningRun, "validate", judge)
        monkeypatch.setattr(lora, "init_head_from_probe", init_head)
        monkeypatch.setattr(lora, "BinLoss", Loss)


class Notes(Progress):
    def __init__(self) -> None:
        self.notes: list[str] = []
        self.slow: Any = None

    def note(self, text: str) -> None:
        self.notes.append(text)
        if self.slow is not None and text.startswith("Before tuning"):
            self.slow()


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_model(tmp_path_factory.mktemp("base") / "tiny")


ITEMS = make_items(600)[0]


def fitted(
    base: Path, run: Path, minutes: float, progress: Progress | None = None, *, epochs: float = 50
) -> dict[str, Any]:
    """Tune on 300 rows with 300 for validation; what price_config.json says."""
    run.mkdir(parents=True, exist_ok=True)
    (run / "catalog.json").write_text(json.dumps({"price_range": [0.01, 5000.0], "currency": "USD"}))
    recipe = LoraBins(base=str(base), lora_r=2, epochs=epochs, minutes=minutes, tokens_per_batch=512, patience=0)
    recipe.fit(ITEMS[:300], ITEMS[300:], run, progress or Progress())
    config: dict[str, Any] = json.loads((run / "price_config.json").read_text())
    return config


# A step is about 512 positions: 0.5 s, 2.5 s and 10 s.
@pytest.mark.parametrize(
    ("position", "item", "minutes"),
    [(1e-3, 0.01, 0.5), (5e-3, 0.1, 3), (2e-2, 0.4, 12)],
    ids=["half a second a step", "two", "ten"],
)
def test_everything_fits_into_the_minutes(
    base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, position: float, item: float, minutes: float
) -> None:
    """Head, steps, evaluations, then loading again and calibrating end in time, and the time is used."""
    machine = Machine(monkeypatch, load=5, position=position, item=item)
    config = fitted(base, tmp_path / "run", minutes)
    plan = json.loads((tmp_path / "run" / CHECKPOINTS / "plan.json").read_text())
    whole = machine.now + machine.load + config["calibration_rows"] * item
    assert 0.75 * 60 * minutes < whole <= 60 * minutes
    assert machine.head_rows == plan["head_rows"] >= 50
    assert plan["steps"] >= 10
    assert config["calibration_rows"] >= 200


def test_a_fast_machine_takes_all_rows(base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is cut where there is time."""
    machine = Machine(monkeypatch, load=1, position=1e-4, item=1e-3)
    config = fitted(base, tmp_path / "run", 0.5, epochs=0.2)
    assert machine.head_rows == config["calibration_rows"] == 300


def test_what_cannot_fit_is_refused_before_it_starts_and_the_advice_works(
    base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two minutes on a machine on which one step takes 20 seconds: refused after a short probe and before the head; the
    minutes that the error names are enough."""
    machine = Machine(monkeypatch, load=10, position=4e-2, item=0.5)
    with pytest.raises(UsageError, match="2 minutes are too few") as error_info:
        fitted(base, tmp_path / "short", 2)
    assert machine.now < 60
    assert machine.head_rows == 0
    minutes = float(error_info.value.hint.partition("minutes=")[2].partition(",")[0])
    assert minutes > 2
    machine.now = 0.0
    config = fitted(base, tmp_path / "long", minutes)
    assert machine.now + machine.load + config["calibration_rows"] * machine.item <= 60 * minutes


def test_a_machine_that_becomes_slower_ends_in_time(
    base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Four times slower than when it was timed: fewer steps, a last evaluation, and a model."""
    machine = Machine(monkeypatch, load=5, position=1e-3, item=0.01)
    notes = Notes()

    def slow() -> None:
        machine.position *= 4

    notes.slow = slow
    config = fitted(base, tmp_path / "run", 1, notes)
    assert machine.now + machine.load + config["calibration_rows"] * machine.item <= 60
    (over,) = [note for note in notes.notes if note.startswith("Training ends after step")]
    assert "has become slower" in over
    lines = [json.loads(line) for line in (tmp_path / "run" / "training.jsonl").read_text().splitlines()]
    assert "validation_mae" in lines[-1], "the last step is judged"
    judged = len([note for note in notes.notes if note.startswith("step ")])
    fitted_again = Notes()
    (tmp_path / "run" / "price_config.json").unlink()  # as if it was killed before it was written
    fitted(base, tmp_path / "run", 1, fitted_again)
    assert judged
    assert not [note for note in fitted_again.notes if note.startswith("step ")], "it does not begin again"


def test_without_minutes_nothing_is_cut(base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """0 is as long as the epochs take, and every row is calibrated on."""
    Machine(monkeypatch, load=100, position=1.0, item=10.0)
    (tmp_path / "catalog.json").write_text(json.dumps({"price_range": [0.01, 5000.0], "currency": "USD"}))
    recipe = LoraBins(base=str(base), lora_r=2, epochs=0.2, minutes=0, tokens_per_batch=512, patience=0)
    recipe.fit(ITEMS[:300], ITEMS[300:], tmp_path)
    assert recipe.calibration_rows(tmp_path) is None


def test_calibration_takes_the_rows_that_there_is_time_for(
    base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The finished model says how many, and they are a sample of all, not the first of them."""
    catalog = open_catalog(make_catalog(tmp_path / "catalog", 1200))
    monkeypatch.setattr(LoraBins, "calibration_rows", lambda *_: 30)
    recipe = LoraBins(
        base=str(base), lora_r=2, epochs=0.1, minutes=0, n_evals=1, head_init_rows=0, tokens_per_batch=512
    )
    fitting.fit_model(recipe, catalog, tmp_path / "run")
    assert model.read_manifest(tmp_path / "run")["rows"]["calibrate"] == 30
    rows = catalog.calibrate_half()
    chosen = fitting.select_calibration_rows(recipe, rows, tmp_path / "run")
    assert chosen != rows[:30]
    assert [item for item in rows if item in chosen] == list(chosen)
    assert math.isfinite(model.load_model(tmp_path / "run").price([rows[0].listing])[0].price or math.nan)
