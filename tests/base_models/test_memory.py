"""The memory planner: every term against torch itself, and the whole against a process."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pricesmith.base_models.feasibility import best_mode, infeasible_reason, largest_batch, plan_modes
from pricesmith.base_models.memory import NF4, Workload, layer_activation_bytes, peak_memory_estimate, weight_bytes
from pricesmith.pricers.llm.registry import Architecture, architecture_from_config, registry

BENCHMARK = Path(__file__).parents[2] / "benchmarks" / "memory.py"
ON_CPU = Workload(128, listing=64, rank=8, gpu=False, packed=False)


def configs() -> dict[str, Any]:
    """A small config of each group of architectures that the planner distinguishes."""
    import transformers as hf

    base = {
        "hidden_size": 128,
        "intermediate_size": 192,
        "num_attention_heads": 8,
        "num_key_value_heads": 2,
        "vocab_size": 100,
        "pad_token_id": 0,
        "bos_token_id": 1,
        "eos_token_id": 2,
        "max_position_embeddings": 512,
    }
    wide = {**base, "head_dim": 32}
    return {
        "llama": hf.LlamaConfig(**wide),
        "qwen2": hf.Qwen2Config(**base),
        "qwen3": hf.Qwen3Config(**wide),
        "gemma3": hf.Gemma3TextConfig(**wide),
        "phi3": hf.Phi3Config(**base),
        "olmo2": hf.Olmo2Config(**base),
    }


def kept_in_reality(config: Any, layers: int, columns: int, dropout: float, dtype: str) -> int:
    """Bytes that autograd keeps of a forward of two rows, parameters left out."""
    import torch
    from peft import LoraConfig
    from transformers import AutoModelForCausalLM

    from pricesmith.pricers.llm.adapters import add_adapter, mixed_precision

    config = type(config).from_dict({**config.to_dict(), "num_hidden_layers": layers, "layer_types": None})
    model: Any = AutoModelForCausalLM.from_config(config, dtype=getattr(torch, dtype))
    adapted: Any = add_adapter(model, LoraConfig(r=8, target_modules="all-linear", lora_dropout=dropout)).train()
    own = {parameter.untyped_storage().data_ptr() for parameter in adapted.parameters()}
    tensors: dict[int, tuple[int, Any]] = {}

    def pack(tensor: Any) -> Any:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            tensors[storage.data_ptr()] = storage.nbytes(), tensor  # held, so that its address stays its own
        return tensor

    ids = torch.randint(3, 100, (2, columns))
    with (
        mixed_precision(adapted),
        torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor),
        torch.autocast("cpu", torch.bfloat16, enabled=dtype == "bfloat16"),
    ):
        adapted.base_model.model.model(input_ids=ids, use_cache=False)
    return sum(size for size, _ in tensors.values())


@pytest.mark.parametrize(("dtype", "dtype_bytes"), [("bfloat16", 2), ("float32", 4)])
@pytest.mark.parametrize(
    ("group", "dropout"),
    [
        ("llama", 0.0),
        ("llama", 0.05),
        ("qwen2", 0.05),
        ("qwen3", 0.05),
        ("gemma3", 0.05),
        ("phi3", 0.0),
        ("olmo2", 0.05),
    ],
)
def test_the_planner_counts_the_activations_of_a_layer_exactly(
    group: str, dropout: float, dtype: str, dtype_bytes: int
) -> None:
    """To the byte: what autograd keeps of one more layer for one more token is the planner's sum."""
    config = configs()[group]
    shape = architecture_from_config(config, group)
    counts = {(n, c): kept_in_reality(config, n, c, dropout, dtype) for n in (1, 2) for c in (32, 64)}
    layer = {columns: counts[2, columns] - counts[1, columns] for columns in (32, 64)}
    for_one_token = (layer[64] - layer[32]) / 64
    work = Workload(64, rank=8, dropout=dropout, gpu=False, packed=False, dtype_bytes=dtype_bytes)
    assert sum(layer_activation_bytes(shape, work)) == for_one_token


@pytest.mark.parametrize("group", ["llama", "qwen2", "qwen3", "gemma3", "phi3", "olmo2"])
def test_the_arithmetic_counts_the_parameters_that_there_are(group: str) -> None:
    """Matrices, embeddings, norms and biases of a dense decoder add up to what the meta device counts."""
    shape = architecture_from_config(configs()[group], group)
    assert shape.blocks + shape.embedding * (1 if shape.tied else 2) + shape.small == shape.counted


def test_adapters_are_those_that_peft_makes() -> None:
    """Rank x (inputs + outputs) for each linear layer."""
    import torch
    from peft import LoraConfig
    from transformers import AutoModelForCausalLM

    from pricesmith.pricers.llm.adapters import add_adapter

    config = configs()["llama"]
    model = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16)
    adapted = add_adapter(model, LoraConfig(r=8, target_modules="all-linear"))
    made = sum(parameter.numel() for parameter in adapted.parameters() if parameter.requires_grad)
    assert architecture_from_config(config, "llama").adapters(8) == made


def test_nf4_takes_half_a_byte_and_its_constants() -> None:
    """Llama 3.1 8B: 3.6 GB of 4-bit matrices, and 2.1 GB of embedding and head that stay bf16."""
    shape = registry()["llama-3.1-8b"].shape
    assert pytest.approx(0.51587, abs=1e-5) == NF4
    assert weight_bytes(shape, "nf4") / 1e9 == pytest.approx(5.70, abs=0.02)
    assert weight_bytes(shape, "none") == 2 * shape.parameters


@settings(deadline=None, max_examples=30)
@given(st.sampled_from(sorted(registry())), st.integers(4, 140), st.sampled_from(["train", "serve"]))
def test_the_largest_batch_fits_and_one_listing_more_does_not(name: str, gigabytes: int, purpose: Any) -> None:
    """A batch is bounded by memory alone, up to the ceiling."""
    shape, work, memory = registry()[name].shape, Workload(2048), gigabytes * 10**9
    tokens = largest_batch(shape, memory, purpose, work)
    grown = Workload(tokens + work.listing)
    assert not tokens or peak_memory_estimate(shape, purpose, Workload(tokens)).total <= memory
    assert tokens > 130_000 or peak_memory_estimate(shape, purpose, grown).total > memory


def test_memory_grows_with_tokens_and_shrinks_by_recomputing_and_by_four_bits() -> None:
    """The modes are what they are for."""
    shape = registry()["llama-3.1-8b"].shape
    plain = peak_memory_estimate(shape, "train", Workload(2048)).total
    assert plain > peak_memory_estimate(shape, "train", Workload(1024)).total
    assert plain > peak_memory_estimate(shape, "train", Workload(2048, quantization="nf4")).total
    assert plain > 1.5 * peak_memory_estimate(shape, "train", Workload(2048, gradient_checkpointing=True)).total


def test_an_8b_in_24_gb_is_tuned_by_recomputing_and_in_80_gb_plainly() -> None:
    """The first mode by preference in which the batch fits is the advice, and what does not fit says why."""
    shape = registry()["llama-3.1-8b"].shape
    in_24, in_80 = best_mode(plan_modes(shape, 24 * 10**9, "train")), best_mode(plan_modes(shape, 80 * 10**9, "train"))
    assert (in_24 and in_24.name, in_80 and in_80.name) == ("bf16, checkpointing", "bf16")
    modes = plan_modes(shape, 4 * 10**9, "train")
    assert best_mode(modes) is None
    assert "GB of weights" in infeasible_reason(modes)
    assert "too much" in infeasible_reason(modes)


def test_serving_has_no_gradient_checkpointing() -> None:
    """Nothing is kept for a backward pass."""
    assert [mode.name for mode in plan_modes(registry()["qwen3-0.6b"].shape, 8 * 10**9, "serve")] == ["bf16", "nf4"]


def benchmark() -> ModuleType:
    """benchmarks/memory.py as a module."""
    spec = importlib.util.spec_from_file_location("benchmarks_memory", BENCHMARK)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_a_small_model_peaks_near_its_plan() -> None:
    """Tuning, 0.4 GB above the imports on a CPU, within a third: buffers of libraries weigh more in a small one."""
    module = benchmark()
    case = module.made(0.4, "train", 256, 512, 1408, dtype_bytes=4)  # a processor may only emulate bf16
    assert module.predicted(case) / module.measured(case) == pytest.approx(1.0, abs=0.34)


@pytest.mark.slow
def test_a_model_of_2_gb_peaks_within_15_percent_of_its_plan() -> None:
    """Tuning and scoring, two batch sizes each, in processes of their own on a CPU."""
    module = benchmark()
    ratios = {str(case): module.predicted(case) / module.measured(case) for case in module.cpu_cases((2,))}
    assert {case: ratio for case, ratio in ratios.items() if abs(ratio - 1) > 0.15} == {}


def test_without_a_gpu_the_benchmark_says_that_nothing_was_measured() -> None:
    """Without a GPU the benchmark prints so, and its cases can be planned."""
    import torch

    module = benchmark()
    assert len(module.gpu_cases()) == 12
    assert all(module.predicted(case) > 10**9 for case in module.gpu_cases())
    if not torch.cuda.is_available():
        process = subprocess.run([sys.executable, str(BENCHMARK), "--gpu"], capture_output=True, text=True, check=True)
        assert process.stdout.strip() == "not measured: there is no GPU here"


def test_a_packed_row_pays_for_its_mask() -> None:
    """Listings in one row are kept apart by a mask of tokens x tokens in every layer."""
    shape = Architecture(64, 2, 4, 2, 128, 100, True)
    few, many = (sum(layer_activation_bytes(shape, Workload(tokens))) for tokens in (1000, 2000))
    assert many - few == 2 * 1000
    assert sum(layer_activation_bytes(shape, ON_CPU)) == sum(
        layer_activation_bytes(shape, Workload(9000, rank=8, gpu=False, packed=False))
    )
