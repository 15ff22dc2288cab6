"""Open models: the shape of one, which its memory depends on, and the registry of published facts with source and date.

>>> models = registry()
>>> models["llama-3.1-8b"].instruct
'meta-llama/Llama-3.1-8B-Instruct'
>>> round(models["llama-3.1-8b"].shape.parameters / 1e9, 2)
8.03
>>> shape = Architecture(4096, layers=32, heads=32, kv_heads=8, intermediate=14336, vocabulary=128256, tied=False)
>>> round(shape.parameters / 1e9, 2)
8.03

The registry is `bases.toml`. A shape comes from a model's config, without its weights.
"""

from __future__ import annotations

import datetime
import functools
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from pricesmith.core.errors import InputError
from pricesmith.core.settings import Settings, parse_settings, read_toml

QkNorm = Literal["", "head", "full"]
# Names of the same value in different configs; the first that is present counts.
NAMES = {
    "hidden": ("hidden_size", "n_embd", "d_model"),
    "layers": ("num_hidden_layers", "n_layer"),
    "heads": ("num_attention_heads", "n_head"),
    "kv_heads": ("num_key_value_heads",),
    "head_size": ("head_dim",),
    "intermediate": ("intermediate_size", "n_inner"),
    "vocabulary": ("vocab_size",),
    "context": ("max_position_embeddings",),
}
OPTIONAL = ("head_size", "context")
SAME_MATRICES = 0.01  # a model whose matrices differ by more than this share is not a dense decoder
# Layers that differ from Llama's in their activations: number of norms, norms of queries and keys, fused projections,
# attention without torch's fused kernel.
KINDS: dict[str, dict[str, Any]] = {
    "llama": {},
    "mistral": {},
    "smollm3": {},
    "qwen2": {"qkv_bias": True},
    "qwen3": {"qk_norm": "head"},
    "gemma2": {"norms": 4, "eager": True},
    "gemma3_text": {"norms": 4, "qk_norm": "head"},
    "phi3": {"fused": True},
    "olmo2": {"qk_norm": "full"},
    "olmo3": {"qk_norm": "full"},
    "granite": {},
}


@dataclass(frozen=True)
class LinearLayer:
    """A matrix of every layer and the states it reads: matrices that read the same states share their saved copy."""

    reads: Literal["attention in", "attention out", "mlp in", "mlp product"]
    inputs: int
    outputs: int


@dataclass(frozen=True)
class Architecture:
    """The shape of a dense decoder. `head_size` 0 means hidden / heads; `counted` is the exact number of parameters.

    `matrices` is the number of parameters in the matrices of all layers, if these are not the matrices of a dense
    decoder, such as layers of linear attention; 0 if they are.
    """

    hidden: int
    layers: int
    heads: int
    kv_heads: int
    intermediate: int
    vocabulary: int
    tied: bool
    head_size: int = 0
    context: int = 0
    norms: int = 2
    qk_norm: QkNorm = ""
    qkv_bias: bool = False
    fused: bool = False
    counted: int = 0
    matrices: int = 0
    encoders: int = 0  # parameters of encoders of images and sound beside the language model, which are not used
    eager: bool = False  # attention is not torch's fused one: it keeps a score of each pair of tokens for each head

    @property
    def approximate(self) -> bool:
        """Whether memory is planned as for a dense decoder of these widths, which this model is not."""
        return self.matrices > 0

    @property
    def head(self) -> int:
        """The width of one attention head."""
        return self.head_size or self.hidden // self.heads

    @property
    def queries(self) -> int:
        return self.heads * self.head

    @property
    def keys(self) -> int:
        return self.kv_heads * self.head

    @property
    def linears(self) -> tuple[LinearLayer, ...]:
        """The matrices of one layer, which are quantized and get LoRA adapters."""
        h, i, q, k = self.hidden, self.intermediate, self.queries, self.keys
        if self.fused:
            inputs = [LinearLayer("attention in", h, q + 2 * k), LinearLayer("mlp in", h, 2 * i)]
        else:
            inputs = [LinearLayer("attention in", h, width) for width in (q, k, k)]
            inputs += [LinearLayer("mlp in", h, i)] * 2
        return (*inputs, LinearLayer("attention out", q, h), LinearLayer("mlp product", i, h))

    @property
    def blocks(self) -> int:
        """Parameters in the matrices of all layers."""
        return self.matrices or self.layers * sum(layer.inputs * layer.outputs for layer in self.linears)

    @property
    def embedding(self) -> int:
        """Parameters of the embedding; the head is as large, and a separate matrix unless they are tied."""
        return self.vocabulary * self.hidden

    @property
    def small(self) -> int:
        """Parameters of norms and biases."""
        norm = {"": 0, "head": 2 * self.head, "full": self.queries + self.keys}[self.qk_norm]
        bias = self.queries + 2 * self.keys if self.qkv_bias else 0
        return self.layers * (self.norms * self.hidden + norm + bias) + self.hidden

    @property
    def parameters(self) -> int:
        """All parameters with the head, as counted, or computed from the shape."""
        return self.counted or self.blocks + self.embedding * (1 if self.tied else 2) + self.small

    def adapters(self, rank: int) -> int:
        """Parameters of LoRA adapters of this rank on all linear layers: rank x (inputs + outputs) for each."""
        return self.layers * sum(rank * (layer.inputs + layer.outputs) for layer in self.linears)


def architecture_from_config(config: Any, name: str) -> Architecture:
    """The shape of a transformers config, its parameters counted on the meta device, which allocates nothing.

    `name` is the model's name in errors. Raises InputError if it is not a dense decoder of stock transformers.
    """
    import torch
    from transformers import AutoModelForCausalLM

    text = config.get_text_config() if hasattr(config, "get_text_config") else config
    fields = {field: first_present(text, names) for field, names in NAMES.items()}
    missing = [NAMES[field][0] for field in NAMES if field not in OPTIONAL and not fields[field]]
    if missing or first_present(text, ("num_experts", "num_local_experts", "n_routed_experts")):
        raise InputError(
            f"The planner cannot read the shape of {name}",
            got=f"model type {text.model_type}" + (f", without {', '.join(missing)}" if missing else ", with experts"),
            allowed="a dense decoder such as Llama, Qwen, Gemma, Phi, Mistral, SmolLM or OLMo",
            hint="Choose another base; `pricesmith bases` lists them.",
        )
    try:
        with torch.device("meta"):
            model = AutoModelForCausalLM.from_config(text, dtype=torch.bfloat16, trust_remote_code=False)
    except (ValueError, KeyError, RuntimeError, TypeError, AttributeError) as error:
        raise InputError(
            f"transformers cannot build {name}", got=str(error).splitlines()[0][:200], hint="Choose another base."
        ) from None
    values: dict[str, Any] = {field: int(value or 0) for field, value in fields.items()}
    values |= {"tied": bool(getattr(text, "tie_word_embeddings", False)), **KINDS.get(str(text.model_type), {})}
    values["eager"] = not model._supports_sdpa
    values["counted"] = sum(parameter.numel() for parameter in model.parameters())
    values["encoders"] = 0 if text is config else count_encoders(config, values["counted"])
    dense, matrices = Architecture(**values), count_matrices(model)
    return dense if abs(matrices / dense.blocks - 1) < SAME_MATRICES else replace(dense, matrices=matrices)


def count_encoders(config: Any, language_model: int) -> int:
    """The number of parameters that a model with encoders of images or sound has beside its language model's; 0 if
    transformers loads the language model alone."""
    import torch
    from transformers import AutoModelForCausalLM

    try:
        with torch.device("meta"):
            model = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16, trust_remote_code=False)
    except (ValueError, KeyError, RuntimeError, TypeError, AttributeError):
        return 0
    return max(0, sum(int(parameter.numel()) for parameter in model.parameters()) - language_model)


def count_matrices(model: Any) -> int:
    """The number of parameters in the linear layers of a model's blocks, without the head."""
    from torch import nn

    head = model.get_output_embeddings()
    linear = [module for module in model.modules() if isinstance(module, nn.Linear) and module is not head]
    return sum(module.weight.numel() for module in linear)


def first_present(config: Any, names: tuple[str, ...]) -> Any:
    """The first value among these attributes of a config, or None."""
    return next((getattr(config, name) for name in names if getattr(config, name, None)), None)


def names_code(value: Any) -> bool:
    """Whether a config or a nested part of it names code of its own (auto_map)."""
    parts = list(value.values()) if isinstance(value, dict) else value if isinstance(value, list) else []
    return (isinstance(value, dict) and "auto_map" in value) or any(names_code(part) for part in parts)


def architecture_from_folder(folder: Path) -> Architecture:
    """The shape of a local model folder. Raises InputError if its config.json cannot be used."""
    from transformers import AutoConfig

    path = folder / "config.json"
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(values, dict) or names_code(values):
            raise ValueError("a config that names code of its own (auto_map), or is not a JSON object")
        config = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except (OSError, ValueError, KeyError, RecursionError) as error:
        raise InputError(
            f"{folder} is not a folder of a pretrained model",
            got=f"no {path.name} in it" if not path.is_file() else str(error).splitlines()[0][:200],
            allowed="a folder that `save_pretrained` wrote",
            hint="Name a Hub id, a folder with a config.json, or a .gguf file.",
        ) from None
    return architecture_from_config(config, str(folder))


def architecture_from_gguf(path: Path) -> Architecture:
    """The shape in a GGUF file's header; its tensors are not read. Raises InputError if it has none."""
    try:
        from gguf import GGUFReader
    except ImportError:
        raise InputError("Reading a GGUF file needs gguf", hint="pip install 'pricesmith[demo-llm]'") from None
    try:
        reader = GGUFReader(path)
    except (OSError, ValueError, IndexError, KeyError) as error:
        raise InputError(
            f"{path} cannot be read as a GGUF file",
            got=f"{path.stat().st_size:,} bytes, {type(error).__name__}: {error}"[:200],
            allowed="a complete .gguf file of a language model",
            hint="Download it again: it may be truncated.",
        ) from None

    def field(name: str) -> Any:
        key = f"{architecture}.{name}" if "." not in name or not name.startswith("general") else name
        value = reader.fields.get(key)
        return None if value is None else value.contents()

    architecture = (
        str(reader.fields["general.architecture"].contents()) if "general.architecture" in reader.fields else ""
    )
    sizes = {tensor.name: [int(size) for size in tensor.shape] for tensor in reader.tensors}
    names = {"hidden": "embedding_length", "layers": "block_count", "intermediate": "feed_forward_length"}
    values = {name: field(key) for name, key in names.items()}
    values |= {"heads": field("attention.head_count"), "kv_heads": field("attention.head_count_kv")}
    values |= {"head_size": field("attention.key_length"), "context": field("context_length")}
    if (
        not all(values[name] for name in ("hidden", "layers", "intermediate", "heads"))
        or "token_embd.weight" not in sizes
    ):
        raise InputError(
            f"{path} has no shape in its header", got=f"architecture {architecture!r}", hint="Check the file."
        )
    values["kv_heads"] = values["kv_heads"] or values["heads"]
    kind = {"gemma3": "gemma3_text"}.get(architecture, architecture)
    sizes_of: dict[str, Any] = {name: int(value or 0) for name, value in values.items()}
    counts = sum(count_parameters(size) for size in sizes.values())
    return Architecture(
        **sizes_of,
        vocabulary=sizes["token_embd.weight"][1],
        tied="output.weight" not in sizes,
        counted=counts,
        **KINDS.get(kind, {}),
    )


def count_parameters(sizes: list[int]) -> int:
    """The number of elements of a tensor of these sizes."""
    product = 1
    for size in sizes:
        product *= size
    return product


REGISTRY = Path(__file__).with_name("bases.toml")
Variant = Literal["base", "instruct"]


class Citation(Settings):
    """The source of a fact and the day on which it was read."""

    title: str = Field(min_length=1)
    url: str = Field(pattern="^https://")
    opened: datetime.date
    via: str = ""


class LicenseTerms(Settings):
    """A license and its duties for distributors of a model. `source` is that of its text."""

    name: str
    duties: tuple[str, ...]
    source: str = Field(min_length=1)


class BenchmarkScore(Settings):
    """A published result of a variant: the benchmark with its setting, the value, its source and date."""

    variant: Variant
    on: str = Field(min_length=1)
    value: float
    source: str = Field(min_length=1)
    date: datetime.date


class ModelEntry(Settings):
    """A model's entry in the file."""

    name: str = Field(pattern="^[a-z0-9.-]+$")
    architecture: str = Field(pattern="^[a-z0-9_]+$", description="model type of its language model in transformers")
    checkpoint_architecture: str = Field("", description="model type in its config.json, if it has encoders too")
    family: str
    base: str = ""
    instruct: str = ""
    ids_source: str = Field(min_length=1)
    parameters_billion: float | None = None
    parameters_source: str = ""
    license: str
    license_source: str = Field(min_length=1)
    context: int | None = None
    context_source: str = ""
    shape: dict[str, int | bool | str]
    shape_source: str = Field(min_length=1)
    tied_source: str = ""
    note: str = ""
    scores: tuple[BenchmarkScore, ...] = ()


@dataclass(frozen=True)
class OpenModel:
    """An open model: its Hub ids, shape, license and published results."""

    row: ModelEntry
    shape: Architecture
    license: LicenseTerms
    sources: Mapping[str, Citation]

    @property
    def name(self) -> str:
        return self.row.name

    @property
    def base(self) -> str:
        """The base variant's Hub id; empty if none was published."""
        return self.row.base

    @property
    def instruct(self) -> str:
        return self.row.instruct

    def to_dict(self) -> dict[str, Any]:
        """The published facts as plain values, each with its source."""
        row = self.row.model_dump(mode="json", exclude={"shape", "scores", "license", "license_source"})
        used = {value for key, value in row.items() if key.endswith("_source") and value}
        used |= {self.row.license_source, *(score.source for score in self.row.scores)} | {self.license.source}
        return {
            **row,
            "parameters": self.shape.parameters,
            "shape": asdict(self.shape),
            "license": {**self.license.model_dump(mode="json"), "says": self.row.license_source},
            "scores": [score.model_dump(mode="json") for score in self.row.scores],
            "sources": {key: self.sources[key].model_dump(mode="json") for key in sorted(used)},
        }


@functools.cache
def registry() -> dict[str, OpenModel]:
    """The models of the shipped file by name, in its order."""
    return read_registry(REGISTRY)


def read_registry(path: Path) -> dict[str, OpenModel]:
    """The models of a registry file by name.

    Raises UsageError if an entry lacks a source or a date, InputError if an entry names a source that is not listed.
    """
    data = read_toml(path)
    where = path.name
    sources = {
        key: parse_settings(Citation, value, where=f"{where}, source {key}") for key, value in data["sources"].items()
    }
    licenses = {
        key: parse_settings(LicenseTerms, value, where=f"{where}, license {key}")
        for key, value in data["licenses"].items()
    }
    models: dict[str, OpenModel] = {}
    for values in data["models"]:
        row = parse_settings(ModelEntry, values, where=f"{where}, model {values.get('name', '?')}")
        named = {value for key, value in row.model_dump().items() if key.endswith("_source")}
        named |= {licenses[row.license].source} if row.license in licenses else set()
        unknown = sorted((named | {score.source for score in row.scores}) - {"", *sources})
        if unknown or row.license not in licenses or not (row.base or row.instruct):
            raise InputError(
                f"{where}: {row.name} refers to a missing entry",
                got=", ".join(unknown) or row.license,
                allowed="a source, a license and a Hub id of the file",
                hint="Add the source with its address and the day it was opened.",
            )
        for value, source in ((row.context, row.context_source), (row.parameters_billion, row.parameters_source)):
            if (value is None) != (not source):
                raise InputError(f"{where}: {row.name} has a fact without a source", got=str(value or source))
        shape = Architecture(**{"context": row.context or 0, **row.shape})  # type: ignore[arg-type]
        models[row.name] = OpenModel(row, shape, licenses[row.license], sources)
    return models


def find_model(name: str) -> tuple[OpenModel, Variant] | None:
    """The model and variant of a registry name, a preset or a Hub id; None if it is not in the registry."""
    lower = name.lower()
    for model in registry().values():
        if lower in (model.name, model.base.lower()):
            return model, "base" if model.base else "instruct"
        if lower in (f"{model.name}-instruct", f"{model.name}-it", model.instruct.lower()):
            return model, "instruct"
    return None
