"""Tuning on a base with 4-bit weights (QLoRA), which bitsandbytes computes on a CPU too: from loading to the export."""

from __future__ import annotations

import importlib.util
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.pricers.llm.conftest import SMALL
from tests.pricers.llm.test_lora import Interrupting

from pricesmith.catalog.catalog import Catalog, open_catalog
from pricesmith.core.types import Listing
from pricesmith.exporting import export_model
from pricesmith.pricers.fitting import fit_model
from pricesmith.pricers.llm.adapters import add_adapter
from pricesmith.pricers.llm.base_model import find_base, load_classifier
from pricesmith.pricers.llm.checkpoints import ADAPTER
from pricesmith.pricers.llm.lora import LoraBins
from pricesmith.pricers.llm.presets import read_presets
from pricesmith.pricers.llm.pricer import load_adapter, read_config
from pricesmith.pricers.llm.readout import PriceBins
from pricesmith.pricers.model import load_model
from pricesmith.testing import make_catalog, make_model

pytest.importorskip("bitsandbytes")
HIDDEN = 64  # NF4 has a constant for every 64 weights
# `pricesmith fit` that kills itself in the step that the environment names.
PROGRAM = """
import os, signal
from pricesmith.cli import main
from pricesmith.pricers.llm import tuning
from pricesmith.pricers.llm.trainer import PriceTrainer

step_of_trainer = PriceTrainer.training_step

def training_step(self, *args, **kwargs):
    if str(self.state.global_step) == os.environ.get("KILLED_IN"):
        os.kill(os.getpid(), signal.SIGKILL)
    return step_of_trainer(self, *args, **kwargs)

PriceTrainer.training_step = training_step
tuning.PROBE_STEPS = 2  # that are timed before the training: each takes seconds
main()
"""


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_model(tmp_path_factory.mktemp("base") / "tiny", hidden=HIDDEN)


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Catalog:
    return open_catalog(make_catalog(tmp_path_factory.mktemp("shop") / "catalog", 160))


def recipe(base: Path) -> LoraBins:
    small: dict[str, Any] = {
        **SMALL,
        "epochs": 0.6,
        "n_evals": 3,
        "tokens_per_batch": 128,
        "max_length": 24,
        "base": str(base),
        "dtype": "float32",
    }
    return LoraBins(**small, quantization="nf4", gradient_checkpointing=True)


@pytest.fixture(scope="module")
def fitted(base: Path, shop: Catalog, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str]]:
    """A model folder of a fit that was interrupted and resumed, and the notes of the second part."""
    run, second = tmp_path_factory.mktemp("runs") / "resumed", Interrupting()
    with pytest.raises(KeyboardInterrupt):
        fit_model(recipe(base), shop, run, progress=Interrupting(steps=11))
    fit_model(recipe(base), shop, run, progress=second)
    return run, second.notes


def listings(shop: Catalog) -> list[Listing]:
    return [item.listing for item in shop.items("test")[:20]]


def test_a_library_of_4_bits_prints_nothing_where_none_are_used() -> None:
    """peft imports bitsandbytes, which warns on processors that compute in bf16."""
    program = "import pricesmith.pricers.llm.adapters, logging, sys; import bitsandbytes.backends.cpu.ops as ops; "
    program += "ops.logger.warning('not installed')"
    ended = subprocess.run([sys.executable, "-W", "ignore", "-c", program], capture_output=True, text=True)
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "", "")


def test_linear_layers_are_stored_in_4_bits_and_the_head_is_not(base: Path) -> None:
    """Every matrix of the layers; embeddings, norms and the head stay as they are."""
    from bitsandbytes.nn import Linear4bit

    model = load_classifier(find_base(str(base)), 8, "float32", "nf4")
    packed = {name for name, module in model.named_modules() if isinstance(module, Linear4bit)}
    assert len(packed) == 7 * model.config.num_hidden_layers
    assert all(".layers." in name for name in packed)
    assert model.score.weight.dtype == model.model.embed_tokens.weight.dtype == torch.float32
    weight = model.model.layers[0].mlp.up_proj.weight
    assert weight.numel() == HIDDEN * 2 * HIDDEN // 2  # two weights a byte
    assert weight.quant_state.quant_type == "nf4"
    assert weight.quant_state.nested


def test_an_evaluation_before_the_training_changes_no_gradient(base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On some processors bitsandbytes would pack the weights in the first evaluation, and lose gradients after it."""
    from bitsandbytes.nn import Linear4bit, modules
    from peft import LoraConfig, TaskType

    ids = torch.randint(5, 60, (2, 9), generator=torch.Generator().manual_seed(0))
    gradients: list[dict[str, torch.Tensor]] = []
    for evaluated in (False, True):
        torch.manual_seed(0)
        config = LoraConfig(task_type=TaskType.SEQ_CLS, r=4, target_modules="all-linear", init_lora_weights=False)
        model = add_adapter(load_classifier(find_base(str(base)), 8, "float32", "nf4"), config)
        if evaluated:
            with torch.no_grad():
                model.eval()(input_ids=ids)
        model.train()(input_ids=ids).logits.sum().backward()
        gradients.append({name: p.grad for name, p in model.named_parameters() if p.grad is not None})
    assert gradients[0].keys() == gradients[1].keys()
    assert len(gradients[0]) == 2 * 7 * 2 + 1
    for name, gradient in gradients[0].items():
        assert torch.equal(gradient, gradients[1][name]), name
    monkeypatch.setattr(modules, "has_avx512bf16", lambda: True)  # as on such a processor
    loaded = load_classifier(find_base(str(base)), 8, "float32", "nf4")
    flags = {module.support_avx512bf16_for_cpu for module in loaded.modules() if isinstance(module, Linear4bit)}
    assert flags == {False}


def test_an_interrupted_4_bit_fit_ends_with_the_weights_of_one_in_a_single_go(
    base: Path, shop: Catalog, fitted: tuple[Path, list[str]], tmp_path: Path
) -> None:
    """With gradient checkpointing; the adapter's bytes are the same, and nothing of the base is in it."""
    run, notes = fitted
    fit_model(recipe(base), shop, tmp_path / "straight")
    assert [note for note in notes if note.startswith("Resuming from step")]
    assert (run / ADAPTER).read_bytes() == (tmp_path / "straight" / ADAPTER).read_bytes()
    assert read_config(run).quantization == "nf4"


def test_a_4_bit_model_prices_on_the_4_bit_base(shop: Catalog, fitted: tuple[Path, list[str]]) -> None:
    """A loaded folder has the packed base with its adapter beside it, and quotes the same twice."""
    from bitsandbytes.nn import Linear4bit

    run, _ = fitted
    own = load_adapter(run)
    assert any(isinstance(module, Linear4bit) for module in own.model.modules())
    quotes = load_model(run).price(listings(shop))
    assert quotes == load_model(run).price(listings(shop))
    assert all(quote.price for quote in quotes)


def test_a_4_bit_model_is_merged_into_the_published_base(
    shop: Catalog, fitted: tuple[Path, list[str]], tmp_path: Path
) -> None:
    """The export is a stock model without quantization; its quotes are near those on the 4-bit base."""
    from transformers import AutoModelForSequenceClassification

    run, _ = fitted
    export_model(run, tmp_path / "out", "merged")
    assert "quantization_config" not in json.loads((tmp_path / "out" / "config.json").read_text())
    stock = AutoModelForSequenceClassification.from_pretrained(tmp_path / "out").eval()
    merged, packed = load_adapter(run, merged=True), load_adapter(run)
    prompts = merged.prompt.encode(merged.tokenizer, listings(shop))
    with torch.inference_mode():
        for prompt in prompts:
            logits = stock(torch.tensor([prompt])).logits
            assert torch.allclose(logits, merged.model(torch.tensor([prompt])).logits, atol=1e-3)
    ratios = [
        (ours.price or 0.0) / (theirs.price or 1.0)
        for ours, theirs in zip(merged.price(listings(shop)), packed.price(listings(shop)), strict=True)
    ]
    assert 0.5 < min(ratios) <= max(ratios) < 2
    assert ratios != pytest.approx([1.0] * len(ratios), rel=1e-6)


def run_fit(shop: Catalog, to: Path, killed_in: str = "") -> subprocess.CompletedProcess[str]:
    """`pricesmith fit` of nine short steps on Gemma 3 270M in 4 bits, in a process of its own."""
    settings = {"base": "gemma-3-270m", "quantization": "nf4", "gradient_checkpointing": "true", "dtype": "float32"}
    settings |= {"minutes": "0", "epochs": "0.4", "tokens_per_batch": "192", "max_length": "16", "lora_r": "4"}
    settings |= {"n_evals": "3", "patience": "0", "head_init_rows": "60", "learning_rate": "1e-3"}
    words = [word for name, value in settings.items() for word in ("--set", f"{name}={value}")]
    return subprocess.run(
        [sys.executable, "-c", PROGRAM, "fit", "lora_bins", "--catalog", str(shop.path), "--to", str(to), *words],
        env={**os.environ, "KILLED_IN": killed_in},
        capture_output=True,
        text=True,
    )


@pytest.mark.weights
@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="a process is killed")
def test_gemma_in_4_bits_resumes_after_a_kill_and_its_export_is_a_stock_model(shop: Catalog, tmp_path: Path) -> None:
    """The killed fit ends with the adapter of one that was left alone; merged into the published base and exported,
    stock transformers gives the quotes of the merged model, which are near those on the 4-bit base."""
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    preset = read_presets()["gemma-3-270m"]
    if not all(map(importlib.util.find_spec, (preset["package"], "gguf"))):
        pytest.skip(f"the package with gemma-3-270m is not installed: {preset['install']}")
    run, out = tmp_path / "killed", tmp_path / "out"
    assert run_fit(shop, run, killed_in="5").returncode == -signal.SIGKILL
    assert not run.exists()
    resumed = run_fit(shop, run)
    assert resumed.returncode == 0, resumed.stderr
    assert "Resuming from step" in resumed.stdout
    straight = run_fit(shop, tmp_path / "straight")
    assert straight.returncode == 0, straight.stderr
    assert (run / ADAPTER).read_bytes() == (tmp_path / "straight" / ADAPTER).read_bytes()

    export_model(run, out, "merged")
    stock = AutoModelForSequenceClassification.from_pretrained(out).eval()
    tokenizer, edges = AutoTokenizer.from_pretrained(out), read_config(run).edges
    assert not hasattr(stock.config, "quantization_config")
    merged, packed = load_adapter(run, merged=True), load_adapter(run)
    few = listings(shop)
    with torch.inference_mode():
        logits = torch.cat([stock(torch.tensor([prompt])).logits for prompt in merged.prompt.encode(tokenizer, few)])
    prices = [distribution.median() for distribution in PriceBins(edges or ()).read(logits)]
    quotes = [quote.price or 0.0 for quote in merged.price(few)]
    assert prices == pytest.approx(quotes, rel=1e-3)
    ratios = sorted(quote / (other.price or 1.0) for quote, other in zip(quotes, packed.price(few), strict=True))
    assert 0.5 < ratios[len(ratios) // 2] < 2
    assert len(set(prices)) > 1
