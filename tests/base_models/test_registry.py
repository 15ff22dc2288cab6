"""The registry: every number has a source, and the shapes give the published number of parameters."""

from __future__ import annotations

import datetime
import tomllib
from pathlib import Path
from typing import Any

import pytest
import tomli_w

from pricesmith.core.errors import InputError, PricesmithError, UsageError
from pricesmith.pricers.llm.registry import REGISTRY, find_model, read_registry, registry


def test_the_registry_has_models_that_one_machine_can_tune() -> None:
    """At least 12 models of 0.1 to 15 billion parameters, Llama first, and the families that people ask for."""
    known = registry()
    assert len(known) >= 12
    assert list(known)[:2] == ["llama-3.1-8b", "llama-3.2-3b"]
    assert all(0.1e9 <= model.shape.parameters <= 15e9 for model in known.values())
    families = {"Llama 3.1", "Llama 3.2", "Qwen2.5", "Qwen3", "Gemma 3", "Phi", "Mistral", "SmolLM2", "OLMo 2"}
    assert {model.row.family for model in known.values()} == families


def test_shapes_make_the_published_parameters() -> None:
    """Where a number was published, the arithmetic of the shape is within 2.5 % of it."""
    for model in registry().values():
        if model.row.parameters_billion:
            assert model.shape.parameters / 1e9 == pytest.approx(model.row.parameters_billion, rel=0.025), model.name


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
        assert all(datetime.date(2026, 1, 1) <= day <= max(today, datetime.date(2026, 11, 23)) for day in opened)


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
