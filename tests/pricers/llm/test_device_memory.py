"""Memory that runs out: batches are halved, and an error says what failed, on a GPU or without one."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.pricers.llm.conftest import SMALL
from transformers import Trainer

from pricesmith.core.errors import InputError, PricesmithError
from pricesmith.core.types import Listing, Quote
from pricesmith.pricers.llm import base_model, lora, pricer
from pricesmith.pricers.llm.base_model import best_dtype, find_base, load_language_model, loading_arguments
from pricesmith.pricers.llm.device_memory import (
    CPU_TOKENS,
    catch_out_of_memory,
    default_pricing_tokens,
    evaluation_tokens,
    free_gpu_memory,
    is_out_of_memory,
)
from pricesmith.pricers.llm.lora import LoraBins, LoraTokens, TuningRun
from pricesmith.pricers.llm.pricer import LlmPricer, apply_adapter, zero_shot_pricer
from pricesmith.testing import make_items

ON_GPU = torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
IN_CUBLAS = RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`")
ON_CPU = RuntimeError("[enforce fail at alloc_cpu.cpp:127] . DefaultCPUAllocator: can't allocate memory: you tried")
LISTINGS = [Listing(str(index), f"Garden hose {index}", "brass " * index) for index in range(9)]


@pytest.fixture(scope="module")
def untuned(tiny_base: Path) -> LlmPricer:
    return zero_shot_pricer(str(tiny_base), price_range=(1.0, 99.0), currency="USD")


@pytest.fixture
def small_memory(untuned: LlmPricer, monkeypatch: pytest.MonkeyPatch) -> Callable[[int, Exception], list[int]]:
    """`small_memory(prompts, error)`: reading more prompts than that raises the error; returns the sizes that are
    tried, as a list that grows."""
    read = untuned.read
    monkeypatch.setattr(untuned, "tokens_per_batch", untuned.tokens_per_batch)  # set back at the end

    def limit(prompts: int, error: Exception) -> list[int]:
        sizes: list[int] = []

        def read_or_fail(batch: Sequence[Sequence[int]]) -> Any:
            sizes.append(len(batch))
            if len(batch) > prompts:
                raise error
            return read(batch)

        monkeypatch.setattr(untuned, "read", read_or_fail)
        return sizes

    return limit


def prices(quotes: Sequence[Quote]) -> list[float | None]:
    return [quote.price for quote in quotes]


@pytest.mark.parametrize("error", [ON_GPU, ON_CPU, MemoryError()], ids=["gpu", "cpu", "python"])
def test_a_batch_that_memory_is_too_small_for_is_halved(
    untuned: LlmPricer, small_memory: Callable[[int, Exception], list[int]], error: Exception
) -> None:
    """The quotes are those of an undivided batch, and later batches are small from the start."""
    expected = prices(untuned.price(LISTINGS))
    sizes = small_memory(2, error)
    assert prices(untuned.price(LISTINGS)) == pytest.approx(expected)
    assert sizes[:3] == [9, 4, 2]
    assert max(sizes[3:]) <= 4
    sizes.clear()
    untuned.price(LISTINGS)
    assert max(sizes) <= 4


def test_one_listing_that_is_too_large_is_an_error_about_memory(
    untuned: LlmPricer, small_memory: Callable[[int, Exception], list[int]]
) -> None:
    small_memory(0, ON_GPU)
    with pytest.raises(PricesmithError, match="not enough memory on the GPU to price one listing") as error:
        untuned.price(LISTINGS)
    assert "Tried to allocate 2.00 GiB" in error.value.got
    assert "expandable_segments:True" in error.value.hint


def test_a_library_of_the_gpu_that_gets_no_memory_is_a_lack_of_memory() -> None:
    assert is_out_of_memory(IN_CUBLAS)
    with (
        pytest.raises(PricesmithError, match="not enough memory on the GPU to tune x"),
        catch_out_of_memory("tune x", "Less."),
    ):
        raise IN_CUBLAS


def test_another_error_of_torch_is_no_lack_of_memory(
    untuned: LlmPricer, small_memory: Callable[[int, Exception], list[int]]
) -> None:
    sizes = small_memory(0, RuntimeError("CUDA error: an illegal memory access was encountered"))
    with pytest.raises(RuntimeError, match="illegal memory access"):
        untuned.price(LISTINGS)
    assert sizes == [9]


def raise_error(error: BaseException) -> Callable[..., Any]:
    """A function that raises the error."""

    def fail(*_: Any, **__: Any) -> Any:
        raise error

    return fail


@pytest.mark.parametrize("error", [ON_GPU, ON_CPU, MemoryError()], ids=["gpu", "cpu", "python"])
def test_a_base_that_does_not_fit_is_not_reported_as_damaged(
    tiny_base: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    """The hint is not to download the model again."""
    monkeypatch.setattr(base_model.AutoModelForCausalLM, "from_pretrained", raise_error(error))
    with pytest.raises(PricesmithError, match="not enough memory") as raised:
        load_language_model(find_base(str(tiny_base)))
    assert not isinstance(raised.value, InputError)
    assert "smaller bases" in raised.value.hint
    assert "again" not in raised.value.hint


def test_an_adapter_that_does_not_fit_is_not_reported_as_one_of_another_base(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "adapter_config.json").write_text(json.dumps({"peft_type": "LORA"}))
    (tmp_path / "adapter_model.safetensors").write_bytes(b"")
    monkeypatch.setattr(pricer, "read_tensors", lambda _: {})
    monkeypatch.setattr(pricer.PeftModel, "from_pretrained", raise_error(ON_GPU))
    with pytest.raises(PricesmithError, match="not enough memory on the GPU to apply the adapter"):
        apply_adapter(object(), tmp_path, merged=True)


def fit(recipe: LoraBins, folder: Path) -> None:
    folder.mkdir()
    (folder / "catalog.json").write_text(json.dumps({"price_range": [0.01, 5000.0], "currency": "USD"}))
    items, _ = make_items(120)
    recipe.fit(items[:90], items[90:], folder)


@pytest.mark.parametrize("where", ["probe", "train", "_save_checkpoint"])
def test_the_error_for_a_training_without_memory_names_settings_that_need_less(
    tiny_base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    """In the timing of steps, in a step, or while a checkpoint is written; never as a defect or a full disk."""
    owner = Trainer if where == "_save_checkpoint" else lora.PriceTrainer
    monkeypatch.setattr(owner, where, raise_error(ON_GPU))
    recipe = LoraBins(base=str(tiny_base), **{**SMALL, "n_evals": 1}, head_init_rows=0)
    with pytest.raises(PricesmithError, match="not enough memory on the GPU to tune") as error:
        fit(recipe, tmp_path / "run")
    assert "--set tokens_per_batch=256 --set gradient_checkpointing=true --overwrite" in error.value.hint


def test_the_settings_of_the_hint_are_settings(tiny_base: Path) -> None:
    """They can be set, and at the end only a smaller base is left."""
    assert LoraTokens(tokens_per_batch=20).less_memory().startswith("Add --set tokens_per_batch=16 ")
    recipe = LoraTokens(base=str(tiny_base), tokens_per_batch=256, gradient_checkpointing=True)
    assert "--set tokens_per_batch=128 --overwrite" in recipe.less_memory()


def test_errors_that_say_that_memory_ran_out() -> None:
    assert all(is_out_of_memory(error) for error in (ON_GPU, ON_CPU, MemoryError()))
    assert not any(
        is_out_of_memory(error) for error in (RuntimeError("shape"), OSError("not enough memory"), KeyError())
    )
    with pytest.raises(KeyError), catch_out_of_memory("work", ""):
        raise KeyError("x")


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What a stand-in of a GPU reports: 24 GB with 9 GB free; torch holds 3 GB, of which it uses 2 GB."""
    facts: dict[str, Any] = {"free": 9 * 10**9, "reserved": 3 * 10**9, "emulation": []}

    def supports_bf16(including_emulation: bool = True) -> bool:
        facts["emulation"].append(including_emulation)
        return including_emulation

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda *_: (facts["free"], 24 * 10**9))
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda *_: facts["reserved"])
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda *_: 2 * 10**9)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", supports_bf16)
    return facts


def test_free_memory_includes_what_torch_holds_unused(gpu: dict[str, Any]) -> None:
    assert free_gpu_memory() == 10 * 10**9


def test_emulated_bf16_is_not_used(gpu: dict[str, Any]) -> None:
    """T4 and V100 say that they support it, and are slower with it than in fp32."""
    assert best_dtype() == torch.float32
    assert gpu["emulation"] == [False]


def test_a_base_is_loaded_straight_onto_the_gpu(tiny_base: Path, gpu: dict[str, Any]) -> None:
    assert loading_arguments(find_base(str(tiny_base)), "auto", "none")["device_map"] == {"": 0}


def test_without_a_gpu_a_base_has_no_device_map(tiny_base: Path) -> None:
    if not torch.cuda.is_available():
        assert "device_map" not in loading_arguments(find_base(str(tiny_base)), "auto", "none")


def test_the_batch_that_is_priced_fits_the_free_memory(untuned: LlmPricer, gpu: dict[str, Any]) -> None:
    """Large on a free GPU, small on a full one; fixed on a CPU."""
    assert default_pricing_tokens(untuned.model) == 32_768
    gpu |= {"free": 0, "reserved": 2 * 10**9}
    assert default_pricing_tokens(untuned.model) == 1024


def test_a_cpu_prices_batches_of_a_fixed_size(untuned: LlmPricer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert default_pricing_tokens(untuned.model) == CPU_TOKENS


@pytest.mark.parametrize(("tokens", "evaluated"), [(256, 1024), (1024, 4096), (2048, 4096), (4096, 4096), (9000, 9000)])
def test_an_evaluation_takes_larger_batches_than_a_step_only_if_steps_are_small(tokens: int, evaluated: int) -> None:
    assert evaluation_tokens(tokens) == evaluated


def test_validation_items_are_priced_in_batches_that_the_planner_counts(
    tiny_base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    budgets: list[int] = []
    monkeypatch.setattr(TuningRun, "train", lambda job: budgets.append(job.pricer.tokens_per_batch))
    monkeypatch.setattr(TuningRun, "finish", lambda _: None)
    fit(LoraBins(base=str(tiny_base), **{**SMALL, "tokens_per_batch": 2048}), tmp_path / "run")
    assert budgets == [evaluation_tokens(2048)]
