"""Small models of many architectures, with large random weights, for tests of what holds for each of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from pricesmith.pricers.llm.registry import registry
from pricesmith.testing.goods import make_tokenizer

REGISTERED = sorted({model.row.architecture for model in registry().values()})
CHECKPOINTS = sorted({model.row.checkpoint_architecture or model.row.architecture for model in registry().values()})
LAYERS = 4
SMALL: dict[str, Any] = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 2048,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
MIXED = ["sliding_attention", "full_attention"] * 2
LINEAR = {"key_head_dim": 8, "value_head_dim": 8, "num_key_heads": 2, "num_value_heads": 4}
OWN: dict[str, dict[str, Any]] = {
    "cohere": {"logit_scale": 0.3},
    "cohere2": {"sliding_window": 16, "logit_scale": 0.5},
    "ernie4_5": {"head_dim": 8},
    "exaone4": {"sliding_window": 16, "sliding_window_pattern": 2},
    "gemma": {"head_dim": 8},
    "gemma2": {"head_dim": 8, "sliding_window": 16, "final_logit_softcapping": 5.0, "query_pre_attn_scalar": 8},
    "gemma3_text": {"head_dim": 8, "sliding_window": 16, "query_pre_attn_scalar": 8, "layer_types": MIXED},
    "glm": {"head_dim": 8},
    "glm4": {"head_dim": 8},
    "granite": {"logits_scaling": 3.0},
    "helium": {"head_dim": 8},
    "ministral": {"head_dim": 8, "sliding_window": 16, "layer_types": MIXED},
    "mistral": {"sliding_window": 16},
    "mixtral": {"sliding_window": 16, "num_local_experts": 2, "num_experts_per_tok": 1},
    "olmo3": {"sliding_window": 16},
    "phi3": {"sliding_window": 16},
    "qwen2": {"use_sliding_window": True, "sliding_window": 16, "max_window_layers": 2},
    "qwen2_moe": {
        "num_experts": 4,
        "num_experts_per_tok": 2,
        "moe_intermediate_size": 16,
        "shared_expert_intermediate_size": 16,
    },
    "qwen3": {"head_dim": 8, "use_sliding_window": True, "sliding_window": 16, "max_window_layers": 2},
    "qwen3_5_text": {"head_dim": 8, **{f"linear_{name}": value for name, value in LINEAR.items()}},
    "qwen3_moe": {"head_dim": 8, "num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 16},
    "starcoder2": {"sliding_window": 16},
}
# Checkpoints with an encoder of images beside the language model: that of the language model, and a small encoder.
VISION: dict[str, tuple[str, dict[str, Any], dict[str, Any]]] = {
    "gemma3": (
        "gemma3_text",
        {"intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 2, "image_size": 28, "patch_size": 14},
        {"mm_tokens_per_image": 4},
    ),
    "qwen3_5": (
        "qwen3_5_text",
        {"intermediate_size": 64, "depth": 1, "num_heads": 2, "out_hidden_size": 32, "num_position_embeddings": 16},
        {},
    ),
}


def small_config(kind: str, vocabulary: int, **changes: Any) -> Any:
    """A config of the architecture with four layers of width 32; windows of sliding attention are 16 tokens long."""
    if kind in VISION:
        text, vision, more = VISION[kind]
        language_model = small_config(text, vocabulary, **changes).to_dict()
        return AutoConfig.for_model(
            kind, text_config=language_model, vision_config={"hidden_size": 32, **vision}, **more
        )
    return AutoConfig.for_model(kind, **{**SMALL, "vocab_size": vocabulary, **OWN.get(kind, {}), **changes})


def wide_config(kind: str, vocabulary: int, **changes: Any) -> Any:
    """The same with windows that are longer than any listing, as those of published models are."""
    windows = {"sliding_window": 512} if "sliding_window" in OWN.get(kind, {}) else {}
    return small_config(kind, vocabulary, **windows, **changes)


def random_model(config: Any, *, deviation: float = 0.2) -> Any:
    """A language model with random weights in fp32, in eval mode. Large weights make any leak visible."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = AutoModelForCausalLM.from_config(config, dtype=torch.float32).eval()
        for weight in model.parameters():
            if weight.dim() > 1:
                torch.nn.init.normal_(weight, 0, deviation)
    return model


def save_base(kind: str, folder: Path, **changes: Any) -> Path:
    """A folder with a small model of the architecture and the tokenizer of the made goods, as a base to tune."""
    tokenizer = make_tokenizer("digits", chat=False)
    config = wide_config(kind, len(tokenizer) + 8, **changes)  # transformers' own tokenizers add special tokens
    random_model(config, deviation=0.05).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def write_gguf(path: Path, architecture: str) -> Path:
    """A GGUF file of a small model of Gemma's shape with random weights, with a tokenizer of letters and bytes."""
    gguf = pytest.importorskip("gguf")
    letters = ["\u2581", *map(chr, range(33, 127))]
    tokens = ["<pad>", "<eos>", "<bos>", "<unk>", *(f"<0x{byte:02X}>" for byte in range(256)), *letters]
    hidden, wide, heads, kv_heads, head, layers = 32, 64, 4, 2, 8, 2
    writer = gguf.GGUFWriter(path, architecture)
    for add, value in (
        (writer.add_embedding_length, hidden),
        (writer.add_block_count, layers),
        (writer.add_feed_forward_length, wide),
        (writer.add_head_count, heads),
        (writer.add_head_count_kv, kv_heads),
        (writer.add_context_length, 256),
        (writer.add_key_length, head),
        (writer.add_value_length, head),
        (writer.add_layer_norm_rms_eps, 1e-6),
        (writer.add_sliding_window, 64),
        (writer.add_vocab_size, len(tokens)),
        (writer.add_tokenizer_model, "llama"),
        (writer.add_token_list, tokens),
        (writer.add_token_scores, [0.0] * len(tokens)),
        (writer.add_token_types, [3, 3, 3, 2, *[6] * 256, *[1] * len(letters)]),
        (writer.add_pad_token_id, 0),
        (writer.add_eos_token_id, 1),
        (writer.add_bos_token_id, 2),
        (writer.add_unk_token_id, 3),
    ):
        add(value)
    shapes: dict[str, tuple[int, ...]] = {"token_embd": (len(tokens), hidden), "output_norm": (hidden,)}
    for layer in range(layers):
        norms = ("attn_norm", "post_attention_norm", "ffn_norm", "post_ffw_norm")
        queries, keys = (heads * head, hidden), (kv_heads * head, hidden)
        matrices = {"attn_q": queries, "attn_k": keys, "attn_v": keys, "attn_output": queries[::-1]}
        matrices |= {"ffn_gate": (wide, hidden), "ffn_up": (wide, hidden), "ffn_down": (hidden, wide)}
        shapes |= {
            f"blk.{layer}.{name}": shape for name, shape in {**dict.fromkeys(norms, (hidden,)), **matrices}.items()
        }
    draw = np.random.default_rng(0)
    for name, shape in shapes.items():
        writer.add_tensor(f"{name}.weight", draw.normal(0, 0.05, shape).astype(np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path
