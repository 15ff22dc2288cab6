"""What tuning relies on holds for every architecture of the registry: attention without masks, items that do not see
each other, adapters with gradients, 4 bits, merging, and a read-out that stock transformers agrees with."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from peft import LoraConfig, TaskType
from tests.pricers.llm.architectures import (
    CHECKPOINTS,
    LAYERS,
    REGISTERED,
    VISION,
    random_model,
    save_base,
    small_config,
    wide_config,
)
from tests.pricers.llm.conftest import SMALL
from tests.pricers.llm.test_lora import Interrupting
from torch import nn
from transformers import AutoConfig
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES as CAUSAL
from transformers.models.auto.modeling_auto import MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES as CLASSIFIERS

from pricesmith.core.types import Listing
from pricesmith.pricers.llm.adapters import add_adapter, find_target_modules
from pricesmith.pricers.llm.base_model import find_base, load_classifier, load_language_model
from pricesmith.pricers.llm.batching import BinLoss, Example, collate, token_losses
from pricesmith.pricers.llm.checkpoints import ADAPTER, checkpoints
from pricesmith.pricers.llm.checkpoints import CHECKPOINTS as CHECKPOINT_FOLDER
from pricesmith.pricers.llm.lora import LoraBins, LoraTokens
from pricesmith.pricers.llm.readout import TREE_CACHE, PriceBins, TokenReader, get_head, hidden_states_at
from pricesmith.pricers.llm.registry import registry
from pricesmith.testing import make_items
from pricesmith.testing.goods import make_tokenizer
from pricesmith.text.prompts import Prompt

TREES = TREE_CACHE.split()
LISTINGS = [
    Listing("1", "Garden hose", "brass kg 25"),
    Listing("2", "", ""),
    Listing("3", "Lamp", "red brass pump with a long cable and more of it " * 2),
]
BINS = PriceBins.from_prices([1.0, 1000.0], 16)


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    return make_tokenizer("digits", chat=False)


@pytest.fixture(scope="module")
def prompts(tokenizer: Any) -> list[list[int]]:
    return Prompt().encode(tokenizer, LISTINGS)


@pytest.fixture(scope="module")
def bases(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """`bases(kind)` is the folder of a small base of the architecture."""
    folders: dict[str, Path] = {}

    def get(kind: str) -> Path:
        if kind not in folders:
            folders[kind] = save_base(kind, tmp_path_factory.mktemp("bases") / kind)
        return folders[kind]

    return get


def make_examples(prompts: list[list[int]]) -> list[Example]:
    return [Example(prompt, [40 + index, 41], 10.0) for index, prompt in enumerate(prompts)]


def distance_from_alone(model: nn.Module, prompts: list[list[int]], *, packed: bool) -> float:
    """How far the losses of items in a batch are from each item's alone, at most, relative."""
    examples = make_examples(prompts)
    with torch.no_grad():
        alone = torch.cat([token_losses(model, collate([example], 0)) for example in examples])
        together = token_losses(model, collate(examples, 0, packed=packed))
    return float(((together - alone) / alone).abs().max())


def test_every_architecture_of_the_registry_is_tested_with_its_checkpoints() -> None:
    """The lists come from the registry: a new family is tested as soon as it is listed. None of them needs eager
    attention, which holds a score for each pair of tokens."""
    assert len(REGISTERED) >= 11
    assert set(CHECKPOINTS) - set(VISION) <= set(REGISTERED)
    assert {text for text, _, _ in VISION.values()} <= set(REGISTERED)
    for model in registry().values():
        kind = model.row.checkpoint_architecture or model.row.architecture
        assert getattr(transformers, CAUSAL[kind])._supports_sdpa, model.name
        assert not model.shape.eager, model.name


@pytest.mark.parametrize("kind", REGISTERED)
def test_pads_are_not_seen(tokenizer: Any, prompts: list[list[int]], kind: str) -> None:
    """Right-padded without a mask: an item's loss in a batch is its loss alone."""
    model = random_model(small_config(kind, len(tokenizer)))
    assert distance_from_alone(model, prompts, packed=False) < 1e-4


@pytest.mark.parametrize("kind", TREES)
def test_every_architecture_that_may_be_packed_keeps_items_apart(
    tokenizer: Any, prompts: list[list[int]], kind: str
) -> None:
    """Restarting positions without a mask: a packed item's loss is its loss alone."""
    assert distance_from_alone(random_model(small_config(kind, len(tokenizer))), prompts, packed=True) < 1e-4


@pytest.mark.parametrize("kind", ["bloom", "qwen3_5_text"])
def test_others_let_packed_items_see_each_other(tokenizer: Any, prompts: list[list[int]], kind: str) -> None:
    """ALiBi counts along the row, and linear attention carries its state along: these must not be packed."""
    small = {"vocab_size": len(tokenizer), "hidden_size": 32, "n_layer": 2, "n_head": 4}
    config = AutoConfig.for_model(kind, **small) if kind == "bloom" else small_config(kind, len(tokenizer))
    assert kind not in TREES
    assert distance_from_alone(random_model(config), prompts, packed=True) > 1e-3


@pytest.mark.parametrize("kind", REGISTERED)
def test_padded_batches_need_no_mask_and_packed_ones_do(
    tokenizer: Any, prompts: list[list[int]], kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a mask torch's flash attention runs on a GPU; with one attention is dense, and keys and values are
    repeated for each head. Training and reading both pad."""
    model = random_model(wide_config(kind, len(tokenizer)))
    masks: list[bool] = []
    attention = torch.nn.functional.scaled_dot_product_attention

    def spy(*given: Any, **named: Any) -> Any:
        masks.append(named.get("attn_mask", given[3] if len(given) > 3 else None) is not None)
        return attention(*given, **named)

    monkeypatch.setattr(torch.nn.functional, "scaled_dot_product_attention", spy)
    examples = make_examples(prompts)
    token_losses(model, collate(examples, 0)).mean().backward()
    assert masks
    assert not any(masks)
    if kind not in TREES:
        return
    masks.clear()
    token_losses(model, collate(examples, 0, packed=True))
    assert all(masks)
    masks.clear()
    TokenReader(tokenizer, (1, 9), min_mass=0).read(model, prompts)
    assert not any(masks[:LAYERS])


@pytest.mark.parametrize("kind", sorted({*REGISTERED} & {*TREES}))
def test_with_a_cache_packed_items_would_see_each_other(
    tokenizer: Any, prompts: list[list[int]], kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """transformers finds the items of a packed row only if there is no cache: so states are always computed without
    one, whatever the model's config says."""
    model = random_model(small_config(kind, len(tokenizer)))
    model.config.use_cache = True
    assert distance_from_alone(model, prompts, packed=True) < 1e-4
    forward = model.base_model.forward
    monkeypatch.setattr(model.base_model, "forward", lambda **given: forward(**{**given, "use_cache": True}))
    assert distance_from_alone(model, prompts, packed=True) > 1e-3


def load(base: Path, readout: str, dtype: str = "float32", quantization: str = "none") -> Any:
    """The base as `fit` loads it, for one of the two read-outs."""
    found = find_base(str(base))
    if readout == "bins":
        return load_classifier(found, 16, dtype, quantization)
    return load_language_model(found, dtype, quantization)


def adapt(model: Any, readout: str, *, gradient_checkpointing: bool = False) -> Any:
    """The model with a LoRA adapter on what `all-linear` targets, as `fit` adds it."""
    task = TaskType.SEQ_CLS if readout == "bins" else TaskType.CAUSAL_LM
    modules = find_target_modules(model, "all-linear")
    config = LoraConfig(task_type=task, r=4, lora_alpha=8, target_modules=modules)
    return add_adapter(model, config, gradient_checkpointing=gradient_checkpointing).train()


def readouts(kind: str) -> list[str]:
    """Those that transformers has a head for, or whose numbers are read from a tree of digits."""
    text = VISION[kind][0] if kind in VISION else kind
    return [*(["bins"] if kind in CLASSIFIERS else []), *(["tokens"] if text in TREES else [])]


CASES = [(kind, readout) for kind in CHECKPOINTS for readout in readouts(kind)]


def loss_of(model: nn.Module, readout: str, prompts: list[list[int]]) -> torch.Tensor:
    if readout == "bins":
        examples = [Example(prompt, [], 10.0 * (1 + index)) for index, prompt in enumerate(prompts)]
        return BinLoss(BINS, 1.0)(model, collate(examples, 0)).mean()
    return token_losses(model, collate(make_examples(prompts), 0)).mean()


def trained_tensors(model: nn.Module) -> dict[str, nn.Parameter]:
    return {name: tensor for name, tensor in model.named_parameters() if tensor.requires_grad}


def test_every_registered_checkpoint_has_a_read_out() -> None:
    assert {kind for kind, _ in CASES} == set(CHECKPOINTS)


@pytest.mark.parametrize("gradient_checkpointing", [False, True], ids=["kept", "recomputed"])
@pytest.mark.parametrize("quantization", ["none", "nf4"])
@pytest.mark.parametrize(("kind", "readout"), CASES)
def test_every_trained_tensor_has_a_gradient(
    bases: Any, prompts: list[list[int]], kind: str, readout: str, quantization: str, gradient_checkpointing: bool
) -> None:
    """On bf16 and on 4-bit weights: the adapters are fp32 and of the language model alone, the head keeps its type, and
    computing activations again gives the same gradients."""
    if quantization == "nf4":
        pytest.importorskip("bitsandbytes")
    torch.manual_seed(0)
    model = load(bases(kind), readout, "bfloat16", quantization)
    head = model.score if readout == "bins" else model.get_output_embeddings()
    assert head.weight.dtype == torch.bfloat16
    with torch.no_grad():  # a training is evaluated before its first step
        model(torch.tensor([prompts[0]]))
    adapted = adapt(model, readout, gradient_checkpointing=gradient_checkpointing)
    trained = trained_tensors(adapted)
    assert {tensor.dtype for tensor in trained.values()} == {torch.float32}
    assert not any("vis" in name for name in trained)
    with torch.autocast("cpu", torch.bfloat16):
        loss = loss_of(adapted, readout, prompts)
    loss.backward()  # type: ignore[no-untyped-call]
    assert [name for name, tensor in trained.items() if tensor.grad is None] == []
    layers = {name.split(".layers.")[1].split(".")[0] for name in trained if ".layers." in name}
    assert layers == {str(number) for number in range(LAYERS)}


@pytest.mark.parametrize(("kind", "readout"), CASES)
def test_the_head_predicts_at_price_positions_only(
    bases: Any, prompts: list[list[int]], kind: str, readout: str
) -> None:
    """One position an example for bins, one a token of the answer for tokens; not one of all the others."""
    model = load(bases(kind), readout)
    asked: list[int] = []
    layer = model.score if readout == "bins" else model.get_output_embeddings()
    layer.register_forward_hook(lambda _, given, __: asked.append(given[0].shape[0]))
    loss_of(model, readout, prompts)
    assert asked == [len(prompts) * (1 if readout == "bins" else 2)]


@pytest.mark.parametrize(("kind", "readout"), CASES)
def test_states_and_head_are_the_models_own_logits(
    bases: Any, prompts: list[list[int]], kind: str, readout: str
) -> None:
    """In a padded batch, with the scaling and capping of the family: as stock transformers computes each listing."""
    model = load(bases(kind), readout)
    columns = max(map(len, prompts))
    ids = torch.tensor([[*prompt, *[0] * (columns - len(prompt))] for prompt in prompts])
    last = torch.tensor([row * columns + len(prompt) - 1 for row, prompt in enumerate(prompts)])
    with torch.no_grad():
        ours = get_head(model)(hidden_states_at(model, ids, last))
        stock = [model(torch.tensor([prompt])).logits[0] for prompt in prompts]
    expected = torch.stack([row if readout == "bins" else row[-1] for row in stock])
    torch.testing.assert_close(ours, expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(("kind", "readout"), CASES)
def test_an_adapter_is_merged_in_full_precision(bases: Any, prompts: list[list[int]], kind: str, readout: str) -> None:
    """bf16 weights plus the fp32 product of the adapter, rounded once; and in fp32 the merged model's logits are those
    of the base with its adapter."""
    for dtype in ("bfloat16", "float32"):
        torch.manual_seed(0)
        adapted = adapt(load(bases(kind), readout, dtype), readout).eval()
        with torch.no_grad():
            for name, tensor in trained_tensors(adapted).items():
                if "lora_B" in name:
                    torch.nn.init.normal_(tensor, 0, 0.1)
        layers = {name: module for name, module in adapted.named_modules() if hasattr(module, "lora_A")}
        expected = {
            name: (
                module.base_layer.weight.float() + 2 * module.lora_B.default.weight @ module.lora_A.default.weight
            ).to(module.base_layer.weight.dtype)
            for name, module in layers.items()
        }
        ids = torch.tensor([prompts[0]])
        with torch.no_grad():
            before = adapted(input_ids=ids).logits if dtype == "float32" else None
            merged = adapted.merge_and_unload()
            after = merged(input_ids=ids).logits if dtype == "float32" else None
        weights = dict(merged.named_parameters())
        for name, weight in expected.items():
            assert torch.equal(weights[f"{name.removeprefix('base_model.model.')}.weight"], weight), name
        if before is not None:
            torch.testing.assert_close(after, before, atol=1e-4, rtol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "readout"), CASES)
def test_an_interrupted_training_ends_with_the_weights_of_an_uninterrupted_one(
    bases: Any, tmp_path: Path, kind: str, readout: str
) -> None:
    """Slow because of two trainings of every architecture. Bit for bit, with dropout and validation."""
    items, _ = make_items(90)
    settings = {**SMALL, "tokens_per_batch": 128, "max_length": 24, "lora_dropout": 0.1, "dtype": "float32"}
    recipe = {"bins": LoraBins, "tokens": LoraTokens}[readout](base=str(bases(kind)), **settings)
    folders = [tmp_path / "straight", tmp_path / "interrupted"]
    for folder in folders:
        folder.mkdir()
        (folder / "catalog.json").write_text(json.dumps({"price_range": [0.01, 900.0], "currency": "USD"}))
    recipe.fit(items[30:], items[:30], folders[0])
    steps = json.loads((folders[0] / CHECKPOINT_FOLDER / "plan.json").read_text())["steps"]
    with pytest.raises(KeyboardInterrupt):
        recipe.fit(items[30:], items[:30], folders[1], Interrupting(steps=steps - 1))
    second = Interrupting()
    recipe.fit(items[30:], items[:30], folders[1], second)
    assert [note for note in second.notes if note.startswith("Resuming from step")]
    one, other = ((checkpoints(folder / CHECKPOINT_FOLDER)[0] / ADAPTER).read_bytes() for folder in folders)
    assert one == other
    assert recipe.load(folders[1]).price([items[0].listing])[0].price
