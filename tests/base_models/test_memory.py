"""The memory planner: every term against torch itself, and the whole against a process."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pricesmith.base_models import memory
from pricesmith.base_models.hardware import Hardware, detect_hardware
from pricesmith.base_models.memory import (
    NF4,
    Workload,
    best_mode,
    choose_mode,
    evaluation_peak,
    infeasible_reason,
    largest_batch,
    layer_activation_bytes,
    peak_memory_estimate,
    plan_for_hardware,
    plan_modes,
    scoring_peak,
    training_peak,
    weight_bytes,
)
from pricesmith.core.errors import InputError, UsageError
from pricesmith.core.progress import Progress
from pricesmith.pricers.llm.device_memory import pricing_tokens
from pricesmith.pricers.llm.lora import LoraBins, LoraTokens
from pricesmith.pricers.llm.registry import Architecture, architecture_from_config, registry
from pricesmith.pricers.recipes import get_settings, read_recipe
from pricesmith.testing import make_model

BENCHMARK = Path(__file__).parents[2] / "benchmarks" / "memory.py"
ON_CPU = Workload(128, listing=64, rank=8, gpu=False, packed=False)
LLAMA_8B = registry()["llama-3.1-8b"].shape


DENSE = ("llama", "mistral", "smollm3", "qwen2", "qwen3", "gemma2", "gemma3_text", "phi3", "olmo2", "olmo3", "granite")


def small_config(kind: str) -> Any:
    """A small config of an architecture."""
    from transformers import AutoConfig

    small = {
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
    wide = {"head_dim": 32} if kind in ("llama", "mistral", "qwen3", "gemma2", "gemma3_text") else {}
    return AutoConfig.for_model(kind, **small, **wide)


def vision_config() -> Any:
    """A small Gemma 3 with a vision encoder, as the 4B and larger have."""
    import transformers as hf

    text = {**small_config("gemma3_text").to_dict(), "num_hidden_layers": 1, "layer_types": None}
    vision = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 2}
    return hf.Gemma3Config(
        text_config=text, vision_config={**vision, "image_size": 28, "patch_size": 14}, mm_tokens_per_image=4
    )


def measure_saved_bytes(config: Any, layers: int, columns: int, dropout: float, dtype: str) -> int:
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
    ("kind", "dropout"),
    [*((kind, 0.05) for kind in DENSE), *((kind, 0.0) for kind in ("llama", "gemma2", "phi3"))],
)
def test_the_planner_counts_the_activations_of_a_layer_exactly(
    kind: str, dropout: float, dtype: str, dtype_bytes: int
) -> None:
    """To the byte: what autograd keeps of one more layer for longer listings is the planner's sum. Scores of eager
    attention grow with the square of a listing's tokens."""
    config = small_config(kind)
    shape = architecture_from_config(config, kind)
    counts = {(n, c): measure_saved_bytes(config, n, c, dropout, dtype) for n in (1, 2) for c in (32, 64)}
    layer = {columns: counts[2, columns] - counts[1, columns] for columns in (32, 64)}

    def planned(columns: int) -> int:
        work = Workload(2 * columns, columns, rank=8, dropout=dropout, gpu=False, dtype_bytes=dtype_bytes)
        return sum(layer_activation_bytes(shape, work)) * work.tokens

    assert planned(64) - planned(32) == layer[64] - layer[32]


def test_every_dense_architecture_of_the_registry_is_counted() -> None:
    """Qwen3.5 has layers of linear attention: its memory is marked as approximate."""
    approximate = {model.row.architecture for model in registry().values() if model.shape.approximate}
    assert {model.row.architecture for model in registry().values()} - approximate <= set(DENSE)
    assert approximate == {"qwen3_5_text"}


@pytest.mark.parametrize("kind", DENSE)
def test_the_arithmetic_counts_the_parameters_that_there_are(kind: str) -> None:
    """Matrices, embeddings, norms and biases of a dense decoder add up to what the meta device counts."""
    shape = architecture_from_config(small_config(kind), kind)
    assert shape.blocks + shape.embedding * (1 if shape.tied else 2) + shape.small == shape.counted


def test_adapters_are_those_that_peft_makes() -> None:
    """Rank x (inputs + outputs) for each linear layer."""
    import torch
    from peft import LoraConfig
    from transformers import AutoModelForCausalLM

    from pricesmith.pricers.llm.adapters import add_adapter

    config = small_config("llama")
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


@settings(max_examples=30)
@given(st.sampled_from(sorted(registry())), st.integers(4, 140), st.sampled_from(["train", "serve"]))
def test_the_largest_batch_fits_and_one_listing_more_does_not(name: str, gigabytes: int, purpose: Any) -> None:
    """A batch is bounded by memory alone, up to the ceiling."""
    shape, work, memory = registry()[name].shape, Workload(2048), gigabytes * 10**9
    tokens = largest_batch(shape, memory, purpose, work)
    grown = Workload(tokens + work.listing)
    assert not tokens or peak_memory_estimate(shape, purpose, Workload(tokens)).total <= memory
    assert tokens > 130_000 or peak_memory_estimate(shape, purpose, grown).total > memory


@pytest.mark.parametrize("gigabytes", [24, 80])
@pytest.mark.parametrize("name", sorted(registry()))
def test_the_largest_batch_of_a_training_can_be_evaluated_too(name: str, gigabytes: int) -> None:
    """Validation items are priced with the unmerged adapter while Adam's moments stay, after a tenth of the training.
    Batches of four times the size, as they were before, do not fit beside the larger models."""
    shape, memory = registry()[name].shape, card(gigabytes).usable
    for mode in plan_modes(shape, memory, "train", Workload(2048, rank=32, dropout=0.0)):
        work = Workload(
            mode.tokens,
            rank=32,
            dropout=0.0,
            gradient_checkpointing=mode.gradient_checkpointing,
            quantization=mode.quantization,
        )
        if mode.tokens:
            assert training_peak(shape, work).total <= memory
            assert evaluation_peak(shape, work).total <= memory


@pytest.mark.parametrize("name", ["qwen3-8b", "gemma-3-4b"])
def test_an_evaluation_may_take_more_than_a_step_that_computes_activations_again(name: str) -> None:
    """The plan is that of the larger one, with the memory of the adapter's training in both."""
    shape = registry()[name].shape
    work = Workload(512, rank=32, gradient_checkpointing=True)
    step, evaluation = training_peak(shape, work), evaluation_peak(shape, work)
    assert evaluation.total > step.total
    assert evaluation.adapters == step.adapters > 0
    assert peak_memory_estimate(shape, "train", work) == evaluation


@pytest.mark.parametrize("gigabytes", [24, 80])
@pytest.mark.parametrize("name", sorted(registry()))
def test_what_is_priced_at_once_fits_beside_the_weights(name: str, gigabytes: int) -> None:
    """Every base whose weights leave 2 GB can be evaluated: 32,768 tokens, as before, are too many for an 8B on
    24 GB."""
    shape, memory = registry()[name].shape, gigabytes * 10**9
    free = memory - weight_bytes(shape, "none") - 600_000_000
    if free < 2 * 10**9:
        pytest.skip("its weights leave less than 2 GB")
    config = SimpleNamespace(
        hidden_size=shape.hidden,
        intermediate_size=shape.intermediate,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        num_key_value_heads=shape.kv_heads,
        head_dim=shape.head,
    )
    tokens = pricing_tokens(config, free)
    assert scoring_peak(shape, Workload(tokens)).total <= memory
    assert tokens >= 1024


def test_a_plan_uses_a_part_of_what_is_free_on_a_gpu_and_all_of_a_machines_memory() -> None:
    assert Hardware(24 * 10**9, gpu=True).usable == pytest.approx(22.08e9)
    assert Hardware(24 * 10**9, gpu=False).usable == 24 * 10**9


def test_a_gpu_is_planned_with_what_is_free_on_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not with its whole memory: other programs may use it."""
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation=True: True)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda *_: (10 * 10**9, 24 * 10**9))
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda *_: 0)
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda *_: 0)
    assert detect_hardware() == Hardware(10 * 10**9, gpu=True, dtype_bytes=2)


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


@pytest.mark.slow  # the layers of a plan are counted exactly above
def test_a_small_model_peaks_near_its_plan() -> None:
    """Tuning, 0.4 GB above the imports on a CPU, within a third: buffers of libraries weigh more in a small one."""
    module = benchmark()
    case = module.choose_case(0.4, "train", 256, 512, 1408, dtype_bytes=4)  # a processor may only emulate bf16
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
    few, many = (sum(layer_activation_bytes(shape, Workload(tokens, packed=True))) for tokens in (1000, 2000))
    assert many - few == 2 * 1000
    assert sum(layer_activation_bytes(shape, ON_CPU)) == sum(
        layer_activation_bytes(shape, Workload(9000, rank=8, gpu=False, packed=False))
    )


class Notes(Progress):
    """Keeps the notes."""

    def __init__(self) -> None:
        self.notes: list[str] = []

    def note(self, text: str) -> None:
        self.notes.append(text)


def card(gigabytes: int) -> Hardware:
    return Hardware(gigabytes * 10**9, gpu=True)


@pytest.mark.parametrize(
    ("gigabytes", "nf4", "mode"),
    [
        (80, True, "bf16"),
        (32, True, "bf16, checkpointing"),
        (16, True, "nf4, checkpointing"),
        (48, True, "bf16, checkpointing"),
    ],
)
def test_the_first_mode_that_fits_is_taken(
    gigabytes: int, nf4: bool, mode: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """bf16 if memory allows; else a note names the mode and the reason."""
    monkeypatch.setattr(memory, "has_nf4", lambda: nf4)
    chosen, reason = choose_mode(read_recipe("lora_bins_8b"), LLAMA_8B, card(gigabytes))
    assert chosen.name == mode
    assert f"Memory: {mode} with batches of 8,192 tokens takes about" in reason
    assert ("because bf16 would take" in reason) == (mode != "bf16")


@pytest.mark.parametrize("nf4", [True, False])
def test_a_smaller_batch_comes_before_4_bits(nf4: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """A card of 24 GB tunes 8 billion parameters in bf16 with half of the recipe's batch; a note says so."""
    monkeypatch.setattr(memory, "has_nf4", lambda: nf4)
    chosen, reason = choose_mode(read_recipe("lora_bins_8b"), LLAMA_8B, card(24))
    assert (chosen.name, chosen.wanted, chosen.fits) == ("bf16, checkpointing", 4096, True)
    assert "batches of 8,192 tokens do not fit; 4,096 do: bf16, checkpointing takes about" in reason
    small = read_recipe("lora_bins_8b", {"tokens_per_batch": 2048})
    assert choose_mode(small, LLAMA_8B, card(16))[0].wanted == 2048, "no batch is made smaller than this"
    fixed = read_recipe("lora_bins_8b", {"quantization": "none"})
    assert choose_mode(fixed, LLAMA_8B, card(24))[0].wanted == 8192


def plan_to(recipe: Any, to: Path, gigabytes: float, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The settings that are planned for a folder with so much free memory."""
    monkeypatch.setattr(memory, "detect_hardware", lambda: Hardware(int(gigabytes * 10**9), True))
    return get_settings(plan_for_hardware(recipe, to=to))


@pytest.mark.parametrize("place", ["model/manifest.json", ".model.building/.settings.json"])
def test_the_same_command_keeps_the_mode_of_its_folder(
    tmp_path: Path, place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Finished or killed: free memory at another moment changes no setting. Another recipe is planned anew."""
    recipe, to = LoraBins(base=str(make_model(tmp_path / "base")), tokens_per_batch=8192), tmp_path / "model"
    roomy = plan_to(recipe, to, 80, monkeypatch)
    tight = plan_to(recipe, to, 0.1, monkeypatch)
    assert roomy["gradient_checkpointing"] is False
    assert tight != roomy
    for recorded in (roomy, tight, {**tight, "tokens_per_batch": 2048}):
        (tmp_path / place).parent.mkdir(exist_ok=True)
        (tmp_path / place).write_text(json.dumps({"settings": {**recorded, "catalog": "c0ffee"}}))
        for gigabytes in (80, 0.1):
            assert plan_to(recipe, to, gigabytes, monkeypatch) == recorded
    other = recipe.model_copy(update={"lora_r": 8})
    assert plan_to(other, to, 80, monkeypatch) == {**roomy, "lora_r": 8}
    for damaged in ("[", "[]", '{"settings": 1}', '{"settings": {"quantization": ["x"]}}'):
        (tmp_path / place).write_text(damaged)
        assert plan_to(recipe, to, 80, monkeypatch) == roomy


def test_without_bitsandbytes_4_bits_are_no_choice(monkeypatch: pytest.MonkeyPatch) -> None:
    """A library that is not installed is not used; if nothing fits, the note names what would."""
    monkeypatch.setattr(memory, "has_nf4", lambda: False)
    chosen, reason = choose_mode(read_recipe("lora_bins_8b"), LLAMA_8B, card(16))
    assert chosen.name == "bf16, checkpointing"
    assert "more than the 14.7 GB of this GPU that can be planned with (92% of what is free)" in reason
    assert "it will probably run out of memory" in reason
    assert "Choose a smaller base" in reason


@pytest.mark.parametrize(
    ("settings", "mode"),
    [
        ({"quantization": "nf4"}, "nf4"),
        ({"quantization": "nf4", "gradient_checkpointing": True}, "nf4, checkpointing"),
        ({"gradient_checkpointing": True}, "bf16, checkpointing"),
        ({"quantization": "none", "gradient_checkpointing": False}, "bf16"),
    ],
)
def test_settings_override_the_planner(settings: dict[str, Any], mode: str) -> None:
    """The planner chooses only settings that are `auto`."""
    chosen, _ = choose_mode(read_recipe("lora_bins_8b", settings), LLAMA_8B, card(80))
    assert chosen.name == mode


def test_4_bits_without_a_gpu_are_used_if_they_are_set_and_never_chosen(tmp_path: Path) -> None:
    """They save memory there, and a warning says that they save no time."""
    shape, machine = registry()["llama-3.1-8b"].shape, Hardware(24 * 10**9, False, dtype_bytes=4)
    chosen, _ = choose_mode(LoraBins(base="llama-3.1-8b", quantization="nf4"), shape, machine)
    assert chosen.quantization == "nf4"
    assert choose_mode(LoraBins(base="llama-3.1-8b"), shape, machine)[0].quantization == "none"
    notes = Notes()
    base = str(make_model(tmp_path / "base"))
    planned: Any = memory.plan_for_hardware(LoraBins(base=base, quantization="nf4"), notes)
    assert planned.quantization == "nf4"
    if not detect_hardware().gpu:
        assert "save memory, not time" in notes.notes[-1]


def test_a_batch_that_is_too_large_gets_advice_that_fits() -> None:
    """The number in the advice fits when it is tried."""
    asked = read_recipe(
        "lora_bins_8b", {"quantization": "none", "gradient_checkpointing": True, "tokens_per_batch": 100_000}
    )
    _, reason = choose_mode(asked, LLAMA_8B, card(24))
    smaller = int(reason.split("tokens_per_batch=")[1].split(";")[0])
    again = read_recipe(
        "lora_bins_8b", {"quantization": "none", "gradient_checkpointing": True, "tokens_per_batch": smaller}
    )
    assert "run out of memory" not in choose_mode(again, LLAMA_8B, card(24))[1]


def test_a_recipe_is_planned_before_its_weights_are_loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The config is enough; the recipe comes back with its mode, and another kind as it was."""
    monkeypatch.setattr(memory, "detect_hardware", lambda: Hardware(25 * 10**9, False, 2))
    base = make_model(tmp_path / "base")
    (base / "model.safetensors").unlink()
    notes = Notes()
    recipe = plan_for_hardware(LoraTokens(base=str(base)), notes)
    assert (recipe.quantization, recipe.gradient_checkpointing) == ("none", False)
    assert notes.notes[0].startswith("Memory: bf16 with batches of 1,024 tokens takes about")
    assert notes.notes[0].endswith("of the 25.0 GB of this machine.")
    ridge = read_recipe("ridge")
    assert plan_for_hardware(ridge, notes) is ridge


def test_a_note_says_that_memory_is_too_small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A rank that is too large for any machine gets a note before the training."""
    monkeypatch.setattr(memory, "detect_hardware", lambda: Hardware(10**7, False, 2))
    notes = Notes()
    plan_for_hardware(LoraBins(base=str(make_model(tmp_path / "base")), lora_r=100_000), notes)
    assert "it will probably run out of memory" in notes.notes[0]


@pytest.mark.parametrize("recipe", [LoraTokens(base="no/such/base"), LoraBins(base="no/such/base")])
def test_one_of_several_processes_is_refused_before_it_takes_the_folder(
    recipe: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only the command `fit` joins the processes of torchrun; elsewhere all of them would use the first GPU."""
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(UsageError, match="one process on one GPU") as error:
        plan_for_hardware(recipe)
    assert "2 processes" in error.value.got
    assert "CUDA_VISIBLE_DEVICES" in error.value.hint
    ridge = read_recipe("ridge")
    assert plan_for_hardware(ridge) is ridge, "other kinds do not use a GPU"
    for value in ("1", "", "two"):
        monkeypatch.setenv("WORLD_SIZE", value)
        with pytest.raises(InputError, match="no base"):
            plan_for_hardware(recipe)
    monkeypatch.delenv("WORLD_SIZE")
    with pytest.raises(InputError, match="no base"):
        plan_for_hardware(recipe)


def test_an_encoder_of_images_is_planned_as_weights_of_a_base() -> None:
    """It is loaded with the language model, but no adapter is trained on it and no listing passes through it."""
    config = vision_config()
    shape, text = architecture_from_config(config, "made"), architecture_from_config(config.get_text_config(), "text")
    assert shape.encoders > 0 == text.encoders
    assert weight_bytes(shape, "none") - weight_bytes(text, "none") == 2 * shape.encoders
    assert weight_bytes(shape, "nf4") - weight_bytes(text, "nf4") == 2 * shape.encoders
    assert shape.adapters(8) == text.adapters(8)


def test_a_folder_has_no_revisions(tmp_path: Path) -> None:
    """A setting that would do nothing is refused, as is a base that is not there."""
    base = make_model(tmp_path / "base")
    with pytest.raises(UsageError, match="revisions"):
        plan_for_hardware(LoraBins(base=str(base), revision="abc"))
    with pytest.raises(InputError, match="no base"):
        plan_for_hardware(LoraBins(base=str(tmp_path / "nowhere")))
