"""Base models: how they are found, loaded and identified.

    base = find_base("gemma-3-270m")
    model, tokenizer = load_language_model(base), load_tokenizer(base)

A base is a preset, a local folder, a GGUF file or a model of the Hub. Only architectures of transformers itself are
loaded, only from safetensors, and code that comes with a model is never run.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
import transformers
from safetensors import SafetensorError
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForSequenceClassification, AutoTokenizer
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES as KNOWN
from transformers.models.auto.modeling_auto import MODEL_FOR_MASKED_LM_MAPPING_NAMES as ENCODERS
from transformers.models.auto.modeling_auto import MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES as CLASSIFIERS
from transformers.utils import logging

from pricesmith.core.atomic import read_json
from pricesmith.core.errors import InputError, MissingExtra, UsageError
from pricesmith.core.progress import SILENT, Progress
from pricesmith.core.types import Listing
from pricesmith.pricers.llm.device_memory import is_out_of_memory, out_of_memory
from pricesmith.pricers.llm.presets import fetch_snapshot, gguf_folder, preset_folder, read_presets
from pricesmith.text.prompts import Prompt, steering_ids

Variant = Literal["base", "instruct"]
INSTRUCT = re.compile(r"(^|[-_.])(instruct|chat|it|sft|dpo)([-_.]|$)", re.IGNORECASE)
HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*(/[\w.-]+)?")
DOWNLOADED = ["*.safetensors", "*.json", "*.model", "*.txt", "*.jinja"]  # weights; configuration and tokenizer
DTYPES = {"bfloat16": torch.bfloat16, "float16": torch.float16, "float32": torch.float32}
BIDIRECTIONAL = (  # not causal, though transformers has language model heads for them
    "bert bert-generation big_bird camembert cpmant data2vec-text electra ernie megatron-bert reformer rembert roberta "
    "roberta-prelayernorm roc_bert roformer xlm xlm-roberta xlm-roberta-xl xlnet xmod"
)
LOADING_ERRORS = (
    *(OSError, ValueError, KeyError, RuntimeError, TypeError, AttributeError, ImportError, SafetensorError),
    *(AssertionError, IndexError),  # raised by torch for a pad token outside the embedding table
)
RESIZE = (
    "Use the tokenizer that the model was published with; or call model.resize_token_embeddings(len(tokenizer)), train "
    "the new rows, and save the model again."
)
N_SAMPLES, SAMPLE_BYTES = 64, 1 << 16  # of a weight file, for its fingerprint
PROBE = "What does this cost? Price is $1299.50, 12€ \u00e9\u4e2d\U0001f9f5\n\n  <b>7</b>"


@dataclass(frozen=True, slots=True)
class PretrainedBase:
    """A base model on this machine: `path` is a folder that stock transformers loads."""

    name: str
    path: Path
    revision: str | None = None
    variant: Variant = "base"


def find_base(
    name: str, revision: str | None = None, progress: Progress = SILENT, *, weights: bool = True
) -> PretrainedBase:
    """The base of this name: a preset, a local folder, a .gguf file, or a Hub id (`revision`: a commit, tag, branch).

    With `weights` false, weights are neither required nor downloaded: for the tokenizer and the config. Raises
    InputError if the base cannot be found, downloaded or used; MissingExtra if reading a GGUF file needs a library.
    """
    path = Path(name).expanduser()
    with quiet_transformers():
        if name in read_presets():
            variant: Variant = "instruct" if read_presets()[name]["variant"] == "instruct" else "base"
            base = PretrainedBase(name, preset_folder(name, progress), None, variant)
        elif name.lower().endswith(".gguf"):
            base = PretrainedBase(
                str(path.resolve()), gguf_folder(path.resolve(), progress), None, detect_variant(path.stem)
            )
        elif path.is_dir():
            base = PretrainedBase(str(path.resolve()), path.resolve(), None, detect_variant(path.resolve().name))
        else:
            base = load_from_hub(name, revision, progress, DOWNLOADED if weights else DOWNLOADED[1:])
    check_folder(base, weights)
    return base


def detect_variant(name: str) -> Variant:
    """`instruct` if the name of a model says so, else `base`."""
    return "instruct" if INSTRUCT.search(name) else "base"


def load_from_hub(name: str, revision: str | None, progress: Progress, files: list[str]) -> PretrainedBase:
    """A model of the Hub, with its `files` downloaded if they are not in the cache."""
    if not HUB_ID.fullmatch(name):
        raise InputError(
            f"There is no base {name!r}",
            allowed=f"{', '.join(read_presets())}, a folder, a .gguf file, or a Hub id such as owner/name",
            hint="Check the name or the path.",
        )
    progress.start(f"downloading {name}")
    folder = fetch_snapshot(name, revision, files, read_presets())
    # The snapshot's folder is named by its commit, which a model folder stores: a branch may move.
    return PretrainedBase(name, folder, folder.name, detect_variant(name.rpartition("/")[2]))


def check_folder(base: PretrainedBase, weights: bool = True, *, encoder: bool = False) -> None:
    """Raises InputError if a folder is not a language model that may be loaded, or not a bidirectional `encoder`."""
    if not (base.path / "config.json").is_file():
        adapter = (base.path / "adapter_config.json").is_file()
        raise InputError(
            f"{base.name} is not a base model",
            got="an adapter" if adapter else "a folder without config.json",
            hint="Name the folder of a complete model, as save_pretrained writes it.",
        )
    config = read_json(base.path / "config.json")
    kind = config.get("model_type") if isinstance(config, dict) else None
    faults = {
        "code of its own (auto_map)": any("auto_map" in text for text in read_configs(base.path)),
        f"the architecture {kind!r}": kind not in (ENCODERS if encoder else KNOWN),
        f"the architecture {kind!r}, which is not causal": not encoder and kind in BIDIRECTIONAL.split(),
        "an adapter beside the model": (base.path / "adapter_config.json").is_file(),
        "weights that are quantized already": isinstance(config, dict) and bool(config.get("quantization_config")),
        "no safetensors": weights and not any(base.path.glob("*.safetensors")),
    }
    for fault, applies in faults.items():
        if applies:
            raise InputError(
                f"The base {base.name} cannot be used",
                got=fault,
                allowed=f"a {'bidirectional' if encoder else 'causal'} language model of transformers, unquantized, in "
                "safetensors, without code of its own",
                hint="Choose another base, such as all-minilm-l6-v2."
                if encoder
                else "Use the recipe encoder for it, or choose another base: `pricesmith bases` lists some."
                if kind in ENCODERS
                else "Choose another base: `pricesmith bases` lists some.",
            )


def read_configs(folder: Path) -> list[dict[str, Any]]:
    """The JSON configurations in a model's folder that could name code."""
    values = [read_json(path) for path in folder.glob("*config.json")]
    return [value for value in values if isinstance(value, dict)]


def load_tokenizer(base: PretrainedBase) -> Any:
    """The base's tokenizer, padding on the right. Raises InputError if it cannot be loaded, or does not fit the base's
    embedding table.

    No token attends to padding, so a pad token that is missing or has no embedding is replaced.
    """
    with quiet_transformers(), describe_base(base, "tokenizer"):
        tokenizer = AutoTokenizer.from_pretrained(base.path)
    tokenizer.padding_side = "right"
    rows = embedding_rows(base)
    check_embeddings(base, tokenizer, rows)
    if tokenizer.pad_token_id is None or tokenizer.pad_token_id >= rows:
        tokenizer.pad_token = tokenizer.eos_token or tokenizer.unk_token or tokenizer.bos_token
    return tokenizer


def embedding_rows(base: PretrainedBase) -> int:
    """The number of rows of the base's embedding table, from its configuration. Raises InputError if it cannot be read,
    or names special tokens outside the table."""
    with quiet_transformers(), describe_base(base, "configuration"):
        config = AutoConfig.from_pretrained(base.path).get_text_config()
        rows = int(config.vocab_size)
    for name in ("pad_token_id", "bos_token_id", "eos_token_id"):
        ids = getattr(config, name, None)
        outside = [id for id in (ids if isinstance(ids, list) else [ids]) if isinstance(id, int) and id >= rows]
        if outside:
            raise InputError(
                f"The configuration of {base.name} does not fit its embedding table",
                got=f"{name} {outside[0]}, with vocab_size {rows}",
                allowed=f"token ids from 0 to {rows - 1}",
                hint=RESIZE,
            )
    return rows


def check_embeddings(base: PretrainedBase, tokenizer: Any, rows: int) -> None:
    """Raises InputError if a listing, or the end of an answer, could contain a token without an embedding.

    Special tokens without an embedding are allowed, because they are removed from listings (`prompts.steering_ids`):
    Gemma 3's tokenizer has one for images, which its text models do not embed. A vocabulary may have gaps.
    """
    harmless = steering_ids(tokenizer) - {tokenizer.eos_token_id, tokenizer.bos_token_id, tokenizer.unk_token_id}
    outside = sorted((id, token) for token, id in tokenizer.get_vocab().items() if id >= rows and id not in harmless)
    if outside:
        id, token = outside[0]
        more = f", and {len(outside) - 1:,} more" if len(outside) > 1 else ""
        raise InputError(
            f"The tokenizer of {base.name} has tokens that the model has no embedding for",
            got=f"token {token!r} with id {id}{more}",
            allowed=f"ids from 0 to {rows - 1}, the rows of the embedding table",
            hint=RESIZE,
        )


def check_prompt(base: PretrainedBase, tokenizer: Any, prompt: Prompt) -> None:
    """Raises InputError if the fixed part of the prompt, such as the marks of a chat template, has tokens without an
    embedding."""
    rows = embedding_rows(base)
    outside = [id for id in prompt.encode(tokenizer, [Listing("", "", "")])[0] if id >= rows]
    if outside:
        raise InputError(
            f"The {prompt.style} prompt of {base.name} has tokens that the model has no embedding for",
            got=f"token {tokenizer.convert_ids_to_tokens(outside[0])!r} with id {outside[0]}",
            allowed=f"ids from 0 to {rows - 1}, the rows of the embedding table",
            hint=RESIZE if prompt.style == "plain" else f"{RESIZE} Or use style plain.",
        )


def load_language_model(base: PretrainedBase, dtype: str = "auto", quantization: str = "none") -> Any:
    """The base as AutoModelForCausalLM, in eval mode, on the GPU if there is one.

    `dtype`: auto, bfloat16, float16 or float32; `quantization`: none, or nf4 (4 bits; on a CPU it saves memory only).
    """
    arguments = loading_arguments(base, dtype, quantization)
    with quiet_transformers(), describe_base(base, "weights"):
        loaded: Any = AutoModelForCausalLM.from_pretrained(base.path, output_loading_info=True, **arguments)
    model, facts = loaded
    check_weights(base, facts, model)
    return move_to_device(model, quantization)


def load_classifier(base: PretrainedBase, labels: int, dtype: str = "auto", quantization: str = "none") -> Any:
    """The base as AutoModelForSequenceClassification with a fresh head of `labels` rows, `pad_token_id` set."""
    check_classifier(base)
    arguments = loading_arguments(base, dtype, quantization)
    tokenizer = load_tokenizer(base)
    with quiet_transformers(), describe_base(base, "weights"):
        model, facts = AutoModelForSequenceClassification.from_pretrained(
            base.path, num_labels=labels, output_loading_info=True, **arguments
        )
    if not hasattr(model, "score"):
        raise InputError(
            f"{base.name} has no classification head `score`",
            got=type(model).__name__,
            hint="Choose another base, or lora_tokens.",
        )
    check_weights(base, facts, model, new=("score.",))
    model.config.get_text_config().pad_token_id = model.config.pad_token_id = tokenizer.pad_token_id
    return move_to_device(model, quantization)


def check_classifier(base: PretrainedBase) -> None:
    """Raises InputError if transformers has no classification head for the base's architecture."""
    kind = read_json(base.path / "config.json").get("model_type")
    if kind not in CLASSIFIERS:
        raise InputError(
            f"transformers has no classification head for {base.name}, so it cannot be tuned with price bins",
            got=f"the architecture {kind!r}",
            hint="Use a recipe of the kind lora_tokens, which writes the price, or choose another base.",
        )


def loading_arguments(base: PretrainedBase, dtype: str, quantization: str) -> dict[str, Any]:
    """The arguments of from_pretrained. Raises UsageError or MissingExtra if this machine does not support them."""
    if dtype not in (*DTYPES, "auto"):
        raise UsageError(
            "There is no such dtype", got=dtype, allowed=", ".join(["auto", *DTYPES]), hint="Choose one of these."
        )
    arguments: dict[str, Any] = {
        "dtype": DTYPES.get(dtype) or best_dtype(),
        "attn_implementation": choose_attention(base),
        "use_safetensors": True,
    }
    if torch.cuda.is_available():  # straight to the GPU: the main memory may be smaller than the model
        arguments["device_map"] = {"": torch.cuda.current_device()}
    if quantization == "nf4":
        if importlib.util.find_spec("bitsandbytes") is None:
            raise MissingExtra("4-bit weights (nf4) need bitsandbytes", "qlora")
        arguments.setdefault("device_map", {"": "cpu"})
        from transformers import BitsAndBytesConfig

        arguments["quantization_config"] = BitsAndBytesConfig(
            load_in_4bit=True,
            bnb_4bit_quant_type="nf4",
            bnb_4bit_use_double_quant=True,
            bnb_4bit_compute_dtype=arguments["dtype"],
            llm_int8_skip_modules=["score", "lm_head"],
        )
    elif quantization not in ("none", "auto"):  # auto that no planner has resolved: as published
        raise UsageError(
            "There is no such quantization",
            got=quantization,
            allowed="none, nf4, auto",
            hint="Choose one of these.",
        )
    return arguments


def choose_attention(base: PretrainedBase) -> str:
    """`sdpa`, torch's fused attention, or `eager` for an architecture that transformers does not compute with it: Gemma
    2 caps its scores. One of them is always named, because a kernel that a config names would be downloaded."""
    kind = read_json(base.path / "config.json").get("model_type")
    return "sdpa" if getattr(transformers, KNOWN[kind])._supports_sdpa else "eager"


def best_dtype() -> torch.dtype:
    """bf16 if the device computes in it, else fp32. GPUs before Ampere (T4, V100) emulate bf16, which is slow."""
    if torch.cuda.is_available():
        return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float32
    checks = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    return torch.bfloat16 if any(getattr(torch.cpu, name, bool)() for name in checks) else torch.float32


def move_to_device(model: Any, quantization: str) -> Any:
    """The model in eval mode, on the GPU if there is one."""
    if quantization == "nf4":
        forbid_packing(model)
    elif torch.cuda.is_available():
        model = model.to("cuda")
    return model.eval()


def forbid_packing(model: Any) -> None:
    """Keep bitsandbytes from packing the 4-bit weights of a model for inference.

    On a processor with AVX-512 BF16 it packs them in the first forward pass in eval mode, for good. No gradient passes
    through packed weights: in a training that is evaluated first, the gradients of all adapters would be wrong. They
    are also multiplied in bf16 whatever the dtype is.
    """
    for module in model.modules():
        if hasattr(module, "support_avx512bf16_for_cpu"):
            module.support_avx512bf16_for_cpu = False


def check_weights(base: PretrainedBase, facts: Any, model: Any, new: tuple[str, ...] = ()) -> None:
    """Raises InputError if weights are missing or of another shape: they would be initialized at random."""
    tied = getattr(model, "all_tied_weights_keys", None) or {}
    missing = [name for name in facts["missing_keys"] if not name.startswith(new) or not new]
    damaged = sorted({*(name for name in missing if name not in tied), *map(str, facts["mismatched_keys"])})
    if damaged:
        raise InputError(
            f"The weights of {base.name} are not complete",
            got=f"{len(damaged)} missing or of another shape, such as {damaged[0]}",
            hint="Download or save the model again.",
        )


@contextlib.contextmanager
def describe_base(base: PretrainedBase, what: str) -> Iterator[None]:
    """Turn any error of loading into one InputError that names the base."""
    try:
        yield
    except (*LOADING_ERRORS, MemoryError) as error:
        if is_out_of_memory(error):
            raise out_of_memory(
                f"load the {what} of {base.name}", error, "`pricesmith bases` lists smaller bases, and what fits."
            ) from None
        shapes = "ignore_mismatched_sizes" in str(error)  # transformers logs the names, which are hidden here
        got = f"{type(error).__name__}: {error}".splitlines()[0][:200]
        raise InputError(
            f"The {what} of {base.name} cannot be loaded",
            got="weights of other shapes than config.json says" if shapes else got,
            hint="Download or save the model again.",
        ) from None


@contextlib.contextmanager
def quiet_transformers() -> Iterator[None]:
    """Hide transformers' progress bars and load reports in the block; `check_weights` checks what they report."""
    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()


def base_fingerprint(base: PretrainedBase) -> str:
    """A fingerprint of a base, in a second for any size: a hash of its configuration and, of every weight file, its
    size, its header (names, shapes and offsets of all tensors) and 64 evenly spaced samples of 64 KB."""
    config = read_json(base.path / "config.json")
    for name in ("transformers_version", "_name_or_path"):
        config.pop(name, None)
    digest = hashlib.sha256(json.dumps(config, sort_keys=True).encode())
    for path in sorted(base.path.glob("*.safetensors")):
        size = path.stat().st_size
        digest.update(f"{path.name} {size}\n".encode())
        with path.open("rb") as file:
            digest.update(file.read(8 + int.from_bytes(file.read(8), "little") % size))
            for number in range(N_SAMPLES):
                file.seek(max(0, size - SAMPLE_BYTES) * number // (N_SAMPLES - 1))
                digest.update(file.read(SAMPLE_BYTES))
    return digest.hexdigest()


def tokenizer_fingerprint(tokenizer: Any) -> str:
    """A fingerprint of a tokenizer: of its vocabulary, special tokens, chat template, and the ids of a sample text."""
    facts = [
        sorted(tokenizer.get_vocab().items()),
        {name: str(token) for name, token in sorted(tokenizer.special_tokens_map.items())},
        tokenizer.chat_template,
        list(tokenizer(PROBE)["input_ids"]),
    ]
    return hashlib.sha256(json.dumps(facts, ensure_ascii=True).encode()).hexdigest()
