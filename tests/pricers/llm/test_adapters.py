"""A head initialized from a probe of the frozen base predicts what the probe predicts."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from peft import LoraConfig, PeftModel, TaskType
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

from pricesmith.core.errors import InputError
from pricesmith.core.progress import SILENT, Progress
from pricesmith.core.types import Listing
from pricesmith.pricers.llm.adapters import (
    add_adapter,
    find_target_modules,
    fit_head,
    frozen_states,
    init_head_from_probe,
    softmax_regression,
    uniform_direction,
    unmerged_precision,
)
from pricesmith.pricers.llm.base_model import find_base, load_classifier
from pricesmith.pricers.llm.batching import Example
from pricesmith.pricers.llm.pricer import LlmPricer
from pricesmith.pricers.llm.readout import PriceBins, get_head, hidden_states_at, inner_model
from pricesmith.testing import make_model
from pricesmith.text.prompts import Prompt

BINS = PriceBins.from_prices([1.0, 100.0], 32, 3)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> PeftModel:
    """A tiny classifier with an adapter."""
    base = find_base(str(make_model(tmp_path_factory.mktemp("base"))))
    config = LoraConfig(task_type=TaskType.SEQ_CLS, r=4, target_modules="all-linear")
    made = add_adapter(load_classifier(base, 32, "float32", "none"), config)
    assert isinstance(made, PeftModel)
    return made


@pytest.fixture(scope="module")
def examples() -> list[Example]:
    """Prompts of two words, one of which makes the price ten times that of the other."""
    rng = np.random.default_rng(0)
    made = []
    for _ in range(120):
        dear = bool(rng.integers(2))
        prompt = [1, *rng.integers(5, 60, rng.integers(3, 9)).tolist(), 70 if dear else 71]
        made.append(Example(prompt, (), 40.0 if dear else 4.0))
    return made


def test_states_come_in_the_order_of_the_examples(model: PeftModel, examples: list[Example]) -> None:
    """Batches are by length, their states are not."""
    together = frozen_states(model, examples, 0, 64, SILENT)
    alone = frozen_states(model, examples[7:8], 0, 64, SILENT)
    assert torch.allclose(together[7:8], alone, atol=1e-5)


def test_states_that_are_not_finite_are_an_error(tmp_path: Path, examples: list[Example]) -> None:
    """A model that overflows, or whose weights are damaged, is an error before the solver runs."""
    base = find_base(str(make_model(tmp_path / "base")))
    config = LoraConfig(task_type=TaskType.SEQ_CLS, r=4, target_modules="all-linear")
    broken = add_adapter(load_classifier(base, 32, "float32", "none"), config)
    with torch.no_grad():
        inner_model(broken).model.layers[0].mlp.down_proj.base_layer.weight.fill_(float("nan"))
    with pytest.raises(InputError, match="not finite"):
        init_head_from_probe(broken, examples, BINS, 1.0, 0, 64, SILENT)


def test_the_started_head_prices_like_the_probe(model: PeftModel, examples: list[Example]) -> None:
    """The initialized head separates expensive from cheap items before any tuning; a random head does not."""
    states = frozen_states(model, examples, 0, 256, SILENT)
    prices = np.array([example.price for example in examples])

    def error() -> float:
        with torch.no_grad():
            medians = [distribution.median() for distribution in BINS.read(get_head(model)(states))]
        return float(np.abs(np.array(medians) - prices).mean())

    before = error()
    init_head_from_probe(model, examples, BINS, 1.0, 0, 256, SILENT)
    assert error() < 2.0 < before
    weight = inner_model(model).score.modules_to_save.default.weight
    assert weight.requires_grad
    assert weight.shape == (32, states.shape[1])


def test_the_same_rows_give_the_same_head(model: PeftModel, examples: list[Example]) -> None:
    """A run that was killed before its first checkpoint starts as it did before."""
    heads = []
    for _ in range(2):
        init_head_from_probe(model, examples, BINS, 1.0, 0, 128, SILENT)
        heads.append(inner_model(model).score.modules_to_save.default.weight.detach().clone())
    assert torch.equal(*heads)


def test_softmax_regression_finds_the_shares_of_soft_labels() -> None:
    """If states have no information, the offsets are the log shares."""
    targets = torch.tensor([[0.7, 0.3], [0.5, 0.5]]).repeat(20, 1)
    _, offsets = softmax_regression(torch.zeros(40, 3), targets, 0.1)
    assert torch.softmax(offsets, 0).tolist() == pytest.approx([0.6, 0.4], abs=1e-3)


def test_offsets_ride_on_a_direction_in_which_all_states_are_one() -> None:
    """States that share a large mean have such a direction."""
    states = torch.randn(200, 16, generator=torch.Generator().manual_seed(0)) * 0.1 + 3.0
    assert torch.allclose(states @ uniform_direction(states), torch.ones(200), atol=0.1)


def bf16_model(folder: Path) -> PeftModel:
    """A tiny classifier whose frozen weights are bf16, as on a machine that computes in it."""
    config = LoraConfig(task_type=TaskType.SEQ_CLS, r=4, target_modules="all-linear")
    made = add_adapter(load_classifier(find_base(str(make_model(folder))), 32, "bfloat16", "none"), config)
    assert isinstance(made, PeftModel)
    return made


def head_weight(model: PeftModel) -> torch.Tensor:
    weight: torch.Tensor = inner_model(model).score.modules_to_save.default.weight.detach().clone()
    return weight


def test_the_head_is_the_same_with_and_without_an_outer_autocast(tmp_path: Path, examples: list[Example]) -> None:
    """Autocast is for the frozen states alone. Inside it the solver would see stale bf16 copies of its own weights:
    that head is another one, so this test can fail."""
    model = bf16_model(tmp_path / "base")
    init_head_from_probe(model, examples, BINS, 1.0, 0, 256, SILENT)
    outside = head_weight(model)
    with torch.autocast("cpu", torch.bfloat16):
        init_head_from_probe(model, examples, BINS, 1.0, 0, 256, SILENT)
    assert torch.equal(outside, head_weight(model))
    states = frozen_states(model, examples, 0, 256, SILENT)
    with torch.autocast("cpu", torch.bfloat16):
        fit_head(model, states, examples, BINS, 1.0, SILENT)
    assert not torch.allclose(outside, head_weight(model), atol=1e-3)


def test_the_solver_works_in_full_precision_on_states_of_a_bf16_base(tmp_path: Path, examples: list[Example]) -> None:
    """The states of a bf16 base are handed over in fp32, and give the head that fp32 arithmetic gives."""
    model = bf16_model(tmp_path / "base")
    with torch.autocast("cpu", torch.bfloat16):
        states = frozen_states(model, examples, 0, 256, SILENT)
        init_head_from_probe(model, examples, BINS, 1.0, 0, 256, SILENT)
    assert states.dtype == torch.float32
    started = head_weight(model)
    fit_head(model, states, examples, BINS, 1.0, SILENT)
    assert torch.equal(started, head_weight(model))


@pytest.fixture(scope="module")
def vision_model() -> Any:
    """A small Gemma 3 with a vision encoder."""
    text = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "head_dim": 8}
    vision = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 2}
    config = AutoConfig.for_model(
        "gemma3",
        text_config={**text, "num_key_value_heads": 2, "vocab_size": 120, "max_position_embeddings": 256},
        vision_config={**vision, "image_size": 28, "patch_size": 14},
        mm_tokens_per_image=4,
    )
    with torch.random.fork_rng():
        return AutoModelForCausalLM.from_config(config, dtype=torch.float32)


@pytest.mark.parametrize("targets", ["all-linear", "attention", "q_proj", ("q_proj", "down_proj")])
def test_a_vision_encoder_gets_no_adapters(vision_model: Any, targets: Any) -> None:
    """Every trained tensor has a gradient: no image passes through the encoder."""
    model = copy.deepcopy(vision_model)
    modules = find_target_modules(model, targets)
    adapted = add_adapter(model, LoraConfig(task_type=TaskType.CAUSAL_LM, r=2, target_modules=modules))
    trained = {name: tensor for name, tensor in adapted.named_parameters() if tensor.requires_grad}
    assert trained
    assert not any("vision" in name or "projector" in name for name in trained)
    hidden_states_at(adapted.train(), torch.randint(5, 100, (2, 9)), torch.tensor([3, 12])).sum().backward()
    assert all(tensor.grad is not None for tensor in trained.values())
    matrices = {"all-linear": 7, "attention": 4, "q_proj": 1, ("q_proj", "down_proj"): 2}[targets]
    assert len(trained) == 2 * 2 * matrices, "A and B of each matrix of two layers, as in the language model alone"


def test_an_unmerged_adapter_computes_in_bf16_on_a_bf16_base(tmp_path: Path) -> None:
    """As in the training. PEFT alone casts the states of every layer to fp32 for it, as after loading in 4 bits."""
    model = bf16_model(tmp_path / "base").eval()
    layer = inner_model(model).model.layers[0].mlp.down_proj
    dtypes: list[torch.dtype] = []
    layer.lora_A.default.register_forward_hook(lambda _, given, result: dtypes.append(result.dtype))
    ids, last = torch.randint(5, 60, (1, 6)), torch.tensor([5])
    with torch.no_grad(), unmerged_precision(model):
        assert hidden_states_at(model, ids, last).dtype == torch.bfloat16
    with torch.no_grad():
        hidden_states_at(model, ids, last)
    assert dtypes == [torch.bfloat16, torch.float32]


def test_a_head_of_bins_stays_fp32_while_its_base_computes_in_bf16(tmp_path: Path) -> None:
    """Validation during a training reads the head as the loss does, also inside autocast."""
    model = bf16_model(tmp_path / "base").eval()
    folder = tmp_path / "base"
    tokenizer = AutoTokenizer.from_pretrained(folder)
    dtypes: list[torch.dtype] = []
    inner_model(model).score.register_forward_hook(lambda _, given, result: dtypes.append(result.dtype))
    pricer = LlmPricer("bins", model, tokenizer, Prompt(max_length=20), BINS)
    with torch.autocast("cpu", torch.bfloat16):
        (quote,) = pricer.price([Listing("1", "Garden hose", "")])
    assert quote.price is not None
    assert dtypes == [torch.float32]


def test_progress_is_shown_while_states_are_read_and_the_head_is_fitted(
    model: PeftModel, examples: list[Example]
) -> None:
    """Both stages have a length and reach it."""

    class Stages(Progress):
        def __init__(self) -> None:
            self.stages: list[list[int | None]] = []

        def start(self, what: str, total: int | None = None) -> None:
            self.stages.append([total, 0])

        def advance(self, steps: int = 1) -> None:
            self.stages[-1][1] = (self.stages[-1][1] or 0) + steps

    progress = Stages()
    init_head_from_probe(model, examples, BINS, 1.0, 0, 128, progress)
    assert len(progress.stages) == 2
    assert all(total == done and done for total, done in progress.stages)
