"""Before a base is tuned, a note says how much memory it takes, and the mode is chosen."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from pricesmith.base_models import precision
from pricesmith.base_models.hardware import Hardware
from pricesmith.base_models.precision import choose_mode, plan_for_hardware
from pricesmith.core.errors import InputError, UsageError
from pricesmith.core.progress import Progress
from pricesmith.pricers.llm.lora import LoraBins, LoraTokens
from pricesmith.pricers.llm.registry import registry
from pricesmith.pricers.recipes import read_recipe
from pricesmith.testing import make_model

LLAMA_8B = registry()["llama-3.1-8b"].shape


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
        (24, True, "bf16, checkpointing"),
        (16, True, "nf4, checkpointing"),
        (48, True, "bf16, checkpointing"),
    ],
)
def test_the_first_mode_that_fits_is_taken(
    gigabytes: int, nf4: bool, mode: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """bf16 if memory allows; else a note names the mode and the reason."""
    monkeypatch.setattr(precision, "has_nf4", lambda: nf4)
    chosen, reason = choose_mode(read_recipe("lora_bins_8b"), LLAMA_8B, card(gigabytes))
    assert chosen.name == mode
    assert f"Memory: {mode} with batches of 4,096 tokens takes about" in reason
    assert ("because bf16 would take" in reason) == (mode != "bf16")


def test_without_bitsandbytes_4_bits_are_no_choice(monkeypatch: pytest.MonkeyPatch) -> None:
    """A library that is not installed is not used; if nothing fits, the note names what would."""
    monkeypatch.setattr(precision, "has_nf4", lambda: False)
    chosen, reason = choose_mode(read_recipe("lora_bins_8b"), LLAMA_8B, card(16))
    assert chosen.name == "bf16, checkpointing"
    assert "more than the 16.0 GB of this GPU: it will probably run out of memory" in reason
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


def test_4_bits_without_a_gpu_are_refused_and_not_passed_over() -> None:
    """A setting is used, or refused before any weights are loaded."""
    settings = LoraBins(base="llama-3.1-8b", quantization="nf4")
    with pytest.raises(UsageError, match="need a CUDA device"):
        choose_mode(settings, registry()["llama-3.1-8b"].shape, Hardware(64 * 10**9, False))


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
    monkeypatch.setattr(precision, "detect_hardware", lambda: Hardware(25 * 10**9, False, 2))
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
    monkeypatch.setattr(precision, "detect_hardware", lambda: Hardware(10**7, False, 2))
    notes = Notes()
    plan_for_hardware(LoraBins(base=str(make_model(tmp_path / "base")), lora_r=100_000), notes)
    assert "it will probably run out of memory" in notes.notes[0]


def test_a_folder_has_no_revisions(tmp_path: Path) -> None:
    """A setting that would do nothing is refused, as is a base that is not there."""
    base = make_model(tmp_path / "base")
    with pytest.raises(UsageError, match="revisions"):
        plan_for_hardware(LoraBins(base=str(base), revision="abc"))
    with pytest.raises(InputError, match="no base"):
        plan_for_hardware(LoraBins(base=str(tmp_path / "nowhere")))
