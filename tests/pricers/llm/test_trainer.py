"""The loss is at price positions only, and evaluating, saving and probing do not change the training."""

from __future__ import annotations

import json
import random
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from peft import LoraConfig, TaskType
from safetensors.torch import load_file
from tests.pricers.llm.conftest import SMALL
from torch import Tensor, nn
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification

from pricesmith.core.errors import PricesmithError, UsageError
from pricesmith.core.progress import Progress
from pricesmith.pricers.llm import batching, lora, trainer, tuning
from pricesmith.pricers.llm.adapters import add_adapter, find_target_modules
from pricesmith.pricers.llm.batching import (
    BinLoss,
    Example,
    PlannedBatches,
    Schedule,
    Throughput,
    collate,
    token_losses,
)
from pricesmith.pricers.llm.checkpoints import ADAPTER, CHECKPOINTS, checkpoints
from pricesmith.pricers.llm.lora import LoraBins, LoraTokens, TuningRun
from pricesmith.pricers.llm.readout import PriceBins, inner_model
from pricesmith.pricers.llm.trainer import (
    CERTAIN,
    FAR,
    MEDIAN,
    MIN_ITEMS,
    ValidationResult,
    far_worse_than,
    is_far_worse,
)
from pricesmith.pricers.recipes import read_recipe, shipped_recipes
from pricesmith.testing import make_items, make_model

BINS = PriceBins.from_prices([1.0, 1000.0], 16)
LOSSES: dict[str, Any] = {"tokens": token_losses, "bins": BinLoss(BINS, 0.75)}
ERRORS = st.lists(st.floats(0.01, 1e6), min_size=MIN_ITEMS, max_size=200)


class Notes(Progress):
    """Records notes."""

    def __init__(self) -> None:
        self.notes: list[str] = []

    def note(self, text: str) -> None:
        self.notes.append(text)


@pytest.fixture(scope="module", params=["llama", "gemma3"])
def base(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A made tiny model of each group."""
    return make_model(tmp_path_factory.mktemp("base") / request.param, group=request.param)


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_model(tmp_path_factory.mktemp("llama") / "tiny")


def read(base: Path, readout: str) -> nn.Module:
    """The base with a fresh adapter, in fp32."""
    torch.manual_seed(0)
    if readout == "bins":
        model: Any = AutoModelForSequenceClassification.from_pretrained(base, num_labels=16, pad_token_id=0)
    else:
        model = AutoModelForCausalLM.from_pretrained(base)
    task = TaskType.SEQ_CLS if readout == "bins" else TaskType.CAUSAL_LM
    return add_adapter(model, LoraConfig(task_type=task, r=4, target_modules="all-linear"))


def make_examples(readout: str, n: int = 7) -> list[Example]:
    """Examples of different lengths."""
    draw = random.Random(3)
    examples = []
    for _ in range(n):
        prompt = [draw.randrange(4, 300) for _ in range(draw.randrange(5, 40))]
        answer = [draw.randrange(4, 300) for _ in range(draw.randrange(2, 5))] if readout == "tokens" else []
        examples.append(Example(prompt, answer, draw.uniform(2, 900)))
    return examples


def mask_of_ones(model: nn.Module, ids: Tensor, places: Tensor, *, positions: Tensor | None = None) -> Tensor:
    """The mistake: a packed row with an attention mask of ones."""
    output = inner_model(model).base_model(
        input_ids=ids, attention_mask=torch.ones_like(ids), position_ids=positions, use_cache=False
    )
    states: Tensor = output.last_hidden_state
    return states.flatten(0, 1)[places]


def differences(base: Path, readout: str, *, packed: bool) -> float:
    """The largest relative difference between an example's loss in a batch and its loss alone."""
    model, examples, loss = read(base, readout).eval(), make_examples(readout), LOSSES[readout]
    with torch.no_grad():
        together = loss(model, collate(examples, 0, packed=packed))
        alone = torch.cat([loss(model, collate([example], 0)) for example in examples])
    return float(((together - alone) / alone).abs().max())


@pytest.mark.parametrize("readout", LOSSES)
@pytest.mark.parametrize("packed", [False, True], ids=["padded", "packed"])
def test_an_examples_loss_in_a_batch_is_its_loss_alone(base: Path, readout: str, packed: bool) -> None:
    """Neither pads nor neighbors in a packed row are seen, by plain and by sliding attention."""
    assert differences(base, readout, packed=packed) < 1e-5


@pytest.mark.parametrize("readout", LOSSES)
def test_with_a_mask_of_ones_neighbors_are_seen(base: Path, readout: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The test above can fail: the mask that must not be there is what it would find."""
    monkeypatch.setattr(batching, "hidden_states_at", mask_of_ones)
    assert differences(base, readout, packed=True) > 1e-3


@pytest.mark.parametrize("readout", LOSSES)
@pytest.mark.parametrize("packed", [False, True], ids=["padded", "packed"])
def test_the_head_predicts_at_price_positions_only(base: Path, readout: str, packed: bool) -> None:
    """One position an example for bins, one a token of the answer for tokens; not one of all the others."""
    model, examples = read(base, readout), make_examples(readout)
    asked: list[int] = []
    layer = inner_model(model).score if readout == "bins" else inner_model(model).get_output_embeddings()
    layer.register_forward_hook(lambda _, given, __: asked.append(given[0].shape[0]))
    LOSSES[readout](model, collate(examples, 0, packed=packed)).mean().backward()
    assert asked == [sum(max(1, len(example.answer)) for example in examples)]


@pytest.mark.parametrize("readout", LOSSES)
def test_only_answer_tokens_are_learned(llama: Path, readout: str) -> None:
    """The loss is that of the number and its end: the same as by hand from all logits."""
    model, examples = read(llama, readout).eval(), make_examples(readout, 4)
    with torch.no_grad():
        losses = LOSSES[readout](model, collate(examples, 0))
        for loss, example in zip(losses, examples, strict=True):
            ids = torch.tensor([[*example.prompt, *example.answer]])
            if readout == "bins":
                chances = model(input_ids=ids, attention_mask=torch.ones_like(ids)).logits[0].log_softmax(0)
                hand = -(BINS.targets(torch.tensor([example.price]).double(), 0.75)[0] * chances).sum()
            else:
                logits = model(input_ids=ids).logits[0].log_softmax(1)
                start = len(example.prompt)
                hand = -sum(logits[start - 1 + n, token] for n, token in enumerate(example.answer))
            assert float(loss) == pytest.approx(float(hand), rel=1e-4)


def test_attention_targets_are_found_by_name(base: Path) -> None:
    """ "attention" names the projections of attention, whatever the group calls them; an unknown name is refused."""
    model = AutoModelForCausalLM.from_pretrained(base)
    assert find_target_modules(model, "attention") == ["k_proj", "o_proj", "q_proj", "v_proj"]
    assert find_target_modules(model, "all-linear") == "all-linear"
    assert find_target_modules(model, ("q_proj",)) == ["q_proj"]
    with pytest.raises(UsageError, match="no such modules"):
        add_adapter(model, LoraConfig(task_type=TaskType.CAUSAL_LM, target_modules=["nothing"]))


def fitted(kind: type[LoraBins] | type[LoraTokens], base: Path, run: Path, progress: Progress, **more: Any) -> Path:
    """A model folder of a short training on made goods."""
    run.mkdir(parents=True, exist_ok=True)
    (run / "catalog.json").write_text(json.dumps({"price_range": [0.01, 5000.0], "currency": "USD"}))
    items, _ = make_items(160)
    kind(base=str(base), **{**SMALL, **more}).fit(items[:120], items[120:], run, progress)
    return run


@pytest.mark.parametrize("kind", [LoraBins, LoraTokens])
def test_training_moves_every_adapter_and_no_base_weight(
    kind: type[LoraBins] | type[LoraTokens], llama: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a few steps every LoRA tensor is another, every other one is bit for bit what it was."""
    before: dict[str, Tensor] = {}
    runs: list[TuningRun] = []
    train = TuningRun.train

    def watched(job: TuningRun) -> None:
        before.update({name: tensor.detach().clone() for name, tensor in job.model.state_dict().items()})
        runs.append(job)
        train(job)

    monkeypatch.setattr(TuningRun, "train", watched)
    fitted(kind, llama, tmp_path / "run", Progress())
    after = runs[0].model.state_dict()
    learned = {name for name, parameter in runs[0].model.named_parameters() if parameter.requires_grad}
    assert any("lora_A" in name for name in learned)
    assert any("score" in name for name in learned) == (kind is LoraBins)
    for name, tensor in before.items():
        assert torch.equal(tensor, after[name]) == (name not in learned), name


def test_evaluating_saving_and_probing_do_not_change_the_weights(llama: Path, tmp_path: Path) -> None:
    """However often a run is judged and saved, it ends with the same weights, dropout on; global RNG is given back."""
    random.seed(5)
    np.random.seed(5)
    torch.manual_seed(5)
    runs = [
        fitted(LoraBins, llama, tmp_path / str(evals), Progress(), n_evals=evals, lora_dropout=0.2) for evals in (1, 5)
    ]
    numbers = random.random(), float(np.random.rand()), float(torch.rand(()))
    random.seed(5)
    np.random.seed(5)
    torch.manual_seed(5)
    assert numbers == (random.random(), float(np.random.rand()), float(torch.rand(())))
    last = [load_file(checkpoints(run / CHECKPOINTS)[0] / ADAPTER) for run in runs]
    assert all(torch.equal(tensor, last[1][name]) for name, tensor in last[0].items())


def test_the_curve_has_a_line_a_log(llama: Path, tmp_path: Path) -> None:
    """Step, passes, loss, error in money, tokens a second, padding and seconds, and the notes show them too."""
    notes = Notes()
    run = fitted(LoraBins, llama, tmp_path / "run", notes)
    lines = [json.loads(line) for line in (run / "training.jsonl").read_text().splitlines()]
    schedule = json.loads((run / CHECKPOINTS / "plan.json").read_text())
    assert [line["step"] for line in lines] == list(range(1, schedule["steps"] + 1))
    for line in lines:
        assert {"epoch", "train_loss", "tokens_per_second", "padding", "seconds"} <= set(line)
    assert [line["step"] for line in lines if "validation_mae" in line][-1] == schedule["steps"]
    assert sum("validation_mae" in line for line in lines) == 3
    assert lines[-1]["epoch"] == 1.0
    assert "120 examples" in notes.notes[1]
    assert all(word in notes.notes[1] for word in ("tokens", "steps", "about", "GB"))
    assert "validation MAE $" in notes.notes[-1]


def test_batches_are_padded_on_a_gpu_too(llama: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A packed row needs a mask, and with a mask attention is quadratic in the row on a GPU as well."""
    packings: list[bool] = []
    build = TuningRun.build_trainer

    def build_on_gpu(job: TuningRun) -> Any:
        with monkeypatch.context() as patch:
            patch.setattr(torch.cuda, "is_available", lambda: True)
            patch.setattr(lora, "PACKED", True, raising=False)  # how earlier versions decided
            patch.setattr(lora, "training_arguments", lambda *_: None)
            patch.setattr(lora, "PriceTrainer", lambda *_, **given: SimpleNamespace(**given))
            return build(job)

    monkeypatch.setattr(TuningRun, "build_trainer", build_on_gpu)
    monkeypatch.setattr(TuningRun, "train", lambda job: packings.append(job.trainer.batches.packed))
    monkeypatch.setattr(TuningRun, "finish", lambda _: None)
    fitted(LoraTokens, llama, tmp_path / "run", Progress())
    assert packings == [False]


@pytest.mark.parametrize(("gpu", "optimizer"), [(False, "adamw_torch"), (True, "adamw_torch_fused")])
def test_a_gpu_gets_the_fused_optimizer_and_one_process_one_device(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, gpu: bool, optimizer: str
) -> None:
    """The fused kernel needs no temporary copies; on a CPU the results of earlier versions stay."""
    given: list[dict[str, Any]] = []
    monkeypatch.setattr(trainer, "TrainingArguments", lambda **named: given.append(named) or SimpleNamespace(n_gpu=4))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: gpu)
    arguments = trainer.training_arguments(tmp_path, 1e-4, "cosine", 0, "none")
    assert given[0]["optim"] == optimizer
    assert arguments._n_gpu == 1


@pytest.mark.parametrize("name", [name for name in shipped_recipes() if re.fullmatch(r"lora_.*\db.*", name)])
def test_a_recipe_for_a_gpu_trains_one_pass_to_its_end_without_dropout(name: str) -> None:
    """Dropout keeps a mask and a copy of every input: 9.9 GB for an 8B at 4,096 tokens. In one pass nothing is seen
    twice, and stopping early would leave the learning rate high."""
    recipe = read_recipe(name)
    assert (recipe.epochs, recipe.lora_dropout, recipe.patience) == (1, 0, 0)
    if "80 GB" in shipped_recipes()[name].read_text(encoding="utf-8"):
        assert recipe.tokens_per_batch == 8192


@pytest.mark.parametrize(("gpu", "items"), [(False, 500), (True, 2000)])
def test_a_gpu_prices_more_validation_items(
    llama: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, gpu: bool, items: int
) -> None:
    build = TuningRun.build_model

    def build_on_cpu(job: TuningRun) -> nn.Module:
        monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
        model = build(job)
        monkeypatch.setattr(torch.cuda, "is_available", lambda: gpu)
        return model

    monkeypatch.setattr(TuningRun, "build_model", build_on_cpu)
    monkeypatch.setattr(TuningRun, "build_trainer", lambda _: SimpleNamespace())
    monkeypatch.setattr(torch.cuda, "is_available", lambda: gpu)
    (tmp_path / "catalog.json").write_text(json.dumps({"price_range": [0.01, 5000.0], "currency": "USD"}))
    rows, _ = make_items(60)
    job = TuningRun(LoraBins(base=str(llama), **SMALL), rows[:40], rows * 40, tmp_path, Progress())
    assert len(job.validation_items) == items


def test_the_size_of_a_training_is_noted_before_anything_is_timed(
    llama: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Initializing a head and timing steps may take minutes; the user can stop before."""

    class Stopped(Exception): ...

    def stop(*_: Any, **__: Any) -> None:
        raise Stopped

    monkeypatch.setattr(lora.PriceTrainer, "probe", stop)
    notes = Notes()
    with pytest.raises(Stopped):
        fitted(LoraBins, llama, tmp_path / "run", notes, epochs=2, minutes=5)
    (note,) = notes.notes
    assert "120 examples" in note
    assert all(word in note for word in ("tokens", "steps of 512 tokens", "at most 2 epochs or 5 minutes", "GB"))


def test_it_stops_when_it_gets_no_better_and_keeps_the_best(
    llama: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With patience 2 there is no third evaluation after the best; the best checkpoint's adapter is the model's."""
    errors = iter([25.0, 30.0, 9.0, 20.0, 20.0, 1.0, 1.0])
    monkeypatch.setattr(TuningRun, "validate", lambda job, items: ValidationResult(next(errors), 1.0))
    monkeypatch.setattr(tuning, "PROBE_STEPS", 3)
    monkeypatch.setattr(
        lora.PriceTrainer, "probe", lambda *_, **__: Throughput(position_seconds=1e-5, item_seconds=1e-5, memory_gb=0.1)
    )
    notes = Notes()
    run = fitted(LoraBins, llama, tmp_path / "run", notes, n_evals=6, patience=2)
    judged = [
        json.loads(line) for line in (run / "training.jsonl").read_text().splitlines() if "validation_mae" in line
    ]
    assert [line["validation_mae"] for line in judged] == [30.0, 9.0, 20.0, 20.0]
    best = run / CHECKPOINTS / f"checkpoint-{judged[1]['step']}"
    assert (run / ADAPTER).read_bytes() == (best / ADAPTER).read_bytes()
    assert json.loads((run / "price_config.json").read_text())["validation_mae"] == 9.0
    assert "stopping" in notes.notes[-1]


class Spoiled:
    """A loss of which, after so many steps, the value or the gradient is replaced."""

    def __init__(self, after: int, loss: float = 1.0, slope: float = 1.0) -> None:
        self.left, self.loss, self.slope = after, loss, slope
        self.real = BinLoss(BINS, 0.75)

    def __call__(self, model: nn.Module, batch: batching.Batch) -> Tensor:
        losses = batching.select_logits(model, batch).square().mean(1)
        self.left -= 1
        if self.left >= 0:
            return losses
        losses = losses * self.loss if self.loss != 1.0 else losses
        if self.slope != 1.0:
            losses.register_hook(lambda given: given * self.slope)
        return losses


@pytest.mark.parametrize(
    ("factors", "got"),
    [
        ({"loss": float("nan")}, "a loss of nan"),
        ({"loss": float("inf")}, "a loss of inf"),
        ({"slope": float("nan")}, "a gradient norm of nan"),
        ({"slope": float("inf")}, "a gradient norm of"),
    ],
)
def test_a_loss_or_gradient_that_is_not_finite_is_an_error(
    llama: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, factors: dict[str, float], got: str
) -> None:
    """One error with a lower rate as advice, and no model, whatever the processor's arithmetic makes of high rates."""
    monkeypatch.setattr(lora, "BinLoss", lambda *_: Spoiled(after=30, **factors))
    monkeypatch.setattr(
        lora.PriceTrainer, "probe", lambda *_, **__: Throughput(position_seconds=1e-5, item_seconds=1e-5, memory_gb=0.1)
    )
    with pytest.raises(PricesmithError, match="diverged") as error_info:
        fitted(LoraBins, llama, tmp_path / "run", Progress(), tokens_per_batch=64, epochs=2, n_evals=1)
    assert error_info.value.got.startswith(got)
    assert "learning_rate=0.003 --overwrite" in error_info.value.hint
    assert not (tmp_path / "run" / "price_config.json").exists()


def judgments(monkeypatch: pytest.MonkeyPatch, factors: list[float], spread: float = 0.1) -> None:
    """Let the evaluations of a fit, the one before tuning first, be these factors of the median quote's errors."""
    left = iter(factors)
    draw = np.random.default_rng(0)

    def judge(job: TuningRun, items: int) -> ValidationResult:
        base = np.array(job.trainer.references[MEDIAN][:items])
        errors = (next(left) * base * draw.uniform(1 - spread, 1 + spread, len(base))).tolist()
        return ValidationResult(float(np.mean(errors)), 1.0, errors)

    monkeypatch.setattr(TuningRun, "validate", judge)
    monkeypatch.setattr(
        lora.PriceTrainer, "probe", lambda *_, **__: Throughput(position_seconds=1e-5, item_seconds=1e-5, memory_gb=0.1)
    )


@pytest.mark.parametrize(
    ("factors", "reference"),
    [
        pytest.param([1.0, 3.0, 2.9, 3.1], "the median quote", id="worse than the median"),
        pytest.param([0.4, 0.9, 0.95, 0.9], "the untuned model", id="worse than before tuning"),
    ],
)
def test_a_training_whose_validation_error_is_far_worse_has_diverged(
    llama: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, factors: list[float], reference: str
) -> None:
    """All losses are finite, and the fit fails: the error names the references; the same command fails likewise."""
    judgments(monkeypatch, factors)
    notes = Notes()
    with pytest.raises(PricesmithError, match="diverged") as error_info:
        fitted(LoraBins, llama, tmp_path / "run", notes)
    assert "the median quote" in error_info.value.got
    assert "the untuned model" in error_info.value.got
    assert "--set learning_rate=0.003 --overwrite" in error_info.value.hint
    assert any(f"far worse than {reference}" in note for note in notes.notes)
    assert not (tmp_path / "run" / "price_config.json").exists()
    with pytest.raises(PricesmithError, match="diverged"):
        fitted(LoraBins, llama, tmp_path / "run", notes)


@pytest.mark.parametrize(
    ("factors", "spread"),
    [
        pytest.param([1.0, 0.9, 0.8, 0.7], 0.1, id="better"),
        pytest.param([1.0, 1.1, 1.1, 1.1], 0.1, id="a little worse"),
        pytest.param([0.5, 3.0, 0.5, 3.0], 0.1, id="better at one judgment, whose model is kept"),
        pytest.param([1.0, 1.3, 1.3, 1.3], 1.0, id="worse, but within sampling error"),
    ],
)
def test_a_training_that_is_not_significantly_far_worse_is_accepted(
    llama: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, factors: list[float], spread: float
) -> None:
    """No finished training is refused for what may be chance."""
    judgments(monkeypatch, factors, spread)
    run = fitted(LoraBins, llama, tmp_path / "run", Progress())
    assert (run / "price_config.json").is_file()


def test_a_training_that_was_too_short_to_reach_the_median_is_a_warning(
    llama: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Better than before tuning but worse than the median: the model is written, with a note on what to do."""
    judgments(monkeypatch, [5.0, 4.0, 3.0, 2.9])
    notes = Notes()
    run = fitted(LoraBins, llama, tmp_path / "run", notes)
    (warning,) = [note for note in notes.notes if note.startswith("Warning")]
    assert "diverged or was too short" in warning
    assert "more minutes" in warning
    assert (run / "price_config.json").is_file()


def test_a_validation_error_that_is_not_finite_is_an_error(
    llama: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """NaN quotes at a finite loss."""
    judgments(monkeypatch, [1.0, float("nan"), 1.0, 1.0])
    with pytest.raises(PricesmithError, match="diverged") as error_info:
        fitted(LoraBins, llama, tmp_path / "run", Progress())
    assert "validation MAE of nan" in error_info.value.got


def course(minutes: float, held: int = 500, item: float = 0.01) -> Schedule:
    """A schedule of a run of 4,000 examples at 1,000 tokens a second."""
    planned = PlannedBatches([100] * 4000, 0, 1000, 20)
    left = 60 * minutes if minutes else float("inf")
    return Schedule.build(planned, Throughput(1e-3, item, 1.0), epochs=3, left=left, n_evals=8, n_validation=held)


def test_minutes_become_steps_that_fit_with_their_evaluations() -> None:
    """All of it fits the time: steps at the measured pace and evaluations, which take a fifth at most."""
    by_epochs = course(0)
    assert by_epochs.steps == pytest.approx(1200, abs=5)
    assert (by_epochs.epochs, by_epochs.eval_items, by_epochs.n_evals) == (3.0, 500, 8)
    ten = course(10)
    assert ten.seconds <= 600
    assert ten.steps == pytest.approx(0.95 * (600 - 9 * 500 * 0.01), abs=5)
    assert course(60).steps == by_epochs.steps, "never more than the passes that were asked for"
    slow = course(10, item=0.1)
    assert (slow.eval_items, slow.n_evals) == (133, 8)
    slower = course(10, item=1.0)
    assert (slower.eval_items, slower.n_evals) == (100, 2)
    least = course(0.001)
    assert (least.steps, least.n_evals, least.eval_items) == (10, 1, 100)
    assert least.needed_seconds > 0.06, "which is how the caller sees that it does not fit"


def test_the_last_step_is_evaluated_and_checkpoints_are_frequent() -> None:
    """Judgments are evenly spaced and end with the last step; a kill costs at most some minutes of work."""
    ten = course(10)
    after = [step for step in range(1, ten.steps + 1) if ten.evaluates_after(step)]
    assert len(after) == 8
    assert after[-1] == ten.steps
    assert ten.save_every <= min(ten.steps // 8, 180)
    unjudged = course(10, held=0)
    assert not any(unjudged.evaluates_after(step) for step in range(1, 500))


@given(ERRORS, st.floats(0.0, FAR))
def test_what_is_within_the_factor_for_every_item_is_never_far_worse(errors: list[float], factor: float) -> None:
    assert not is_far_worse([factor * error for error in errors], errors)


@given(ERRORS)
def test_twice_a_constant_error_is_far_worse(errors: list[float]) -> None:
    """Without any spread between items there is no doubt."""
    assert is_far_worse([2.0] * len(errors), [1.0] * len(errors))


@given(ERRORS, st.floats(1e-3, 1e3))
def test_the_currency_does_not_matter(errors: list[float], scale: float) -> None:
    worse = [1.5 * error + 1 for error in errors]
    scaled = is_far_worse([scale * error for error in worse], [scale * error for error in errors])
    margin = np.array(worse) - FAR * np.array(errors)
    if abs(margin.mean() - CERTAIN * margin.std(ddof=1) / np.sqrt(len(errors))) > 1e-6 * np.abs(margin).max():
        assert scaled == is_far_worse(worse, errors)


def test_equally_good_models_are_hardly_ever_flagged() -> None:
    """Heavy-tailed errors of 40 items, the true ratio at the limit itself: about one in 700 is expected."""
    draw = np.random.default_rng(0)
    flagged = 0
    for _ in range(2000):
        reference = draw.lognormal(3, 1, 40)
        flagged += is_far_worse((FAR * draw.lognormal(3, 1, 40)).tolist(), reference.tolist())
    assert flagged <= 10


def test_few_items_are_never_far_worse_and_the_longer_list_is_truncated() -> None:
    assert not is_far_worse([100.0] * (MIN_ITEMS - 1), [1.0] * 500)
    assert is_far_worse([100.0] * MIN_ITEMS, [1.0] * 500)


@pytest.mark.parametrize("wrong", [float("nan"), float("inf")])
def test_an_error_that_is_no_number_is_far_worse(wrong: float) -> None:
    assert is_far_worse([1.0] * 30 + [wrong], [1.0] * 31)


def test_the_first_reference_that_is_missed_is_named() -> None:
    errors = [3.0] * 30
    assert far_worse_than(errors, {"a": [2.9] * 30, "b": [1.0] * 30}) == "b"
    assert far_worse_than(errors, {"a": [2.9] * 30}) == ""
    assert far_worse_than(errors, {"a": []}) == ""
