"""Made language models: tiny, with random weights and a made tokenizer, in a folder that stock transformers loads."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pricesmith.testing.goods import BRANDS, COLORS, GOODS, WORDS

PAD, BEGIN, END, TURN = "<pad>", "<s>", "</s>", "<|turn|>"
CHAT = (
    "{{ bos_token }}{% for message in messages %}"
    "{{ '<|turn|>' + message['role'] + '\n' + message['content'] + '</s>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|turn|>assistant\n' }}{% endif %}"
)
ASKED = ("What", "does", "this", "cost", "to", "the", "nearest", "dollar", "Price", "is", "Size", "Color", "kg")


def make_model(
    folder: Path,
    *,
    group: Literal["llama", "gemma3"] = "llama",
    numbers: Literal["digits", "single"] = "digits",
    chat: bool = False,
    seed: int = 0,
    layers: int = 2,
    hidden: int = 32,
) -> Path:
    """Write a language model of a few thousand random weights, fp32, with its tokenizer; its folder is returned.

    `numbers`: the tokenizer writes a price digit by digit, or has one token for each number of up to three digits.
    """
    import torch
    from transformers import AutoModelForCausalLM

    tokenizer = make_tokenizer(numbers, chat=chat)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = AutoModelForCausalLM.from_config(make_config(group, tokenizer, layers, hidden), dtype=torch.float32)
    folder.mkdir(parents=True, exist_ok=True)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def make_config(group: str, tokenizer: Any, layers: int, hidden: int) -> Any:
    """The shapes of a tiny model of a group; Gemma's has a sliding window in every other layer."""
    from transformers import Gemma3TextConfig, LlamaConfig

    shapes: dict[str, Any] = {
        "vocab_size": len(tokenizer),
        "hidden_size": hidden,
        "intermediate_size": 2 * hidden,
        "num_hidden_layers": layers,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": hidden // 4,
        "max_position_embeddings": 2048,
        "pad_token_id": tokenizer.pad_token_id,
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "initializer_range": 0.2,  # wide, so that a random model tells its inputs apart
        "tie_word_embeddings": True,
    }
    if group == "gemma3":
        kinds = ["sliding_attention" if layer % 2 == 0 else "full_attention" for layer in range(layers)]
        return Gemma3TextConfig(**shapes, sliding_window=512, layer_types=kinds, query_pre_attn_scalar=hidden // 4)
    return LlamaConfig(**shapes)


def make_tokenizer(numbers: str, *, chat: bool) -> Any:
    """A byte-level tokenizer whose words are those of the made goods; what it does not know it spells in bytes."""
    from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    words = (*WORDS, *COLORS, *BRANDS, *GOODS, *ASKED)
    pieces = [*sorted(pre_tokenizers.ByteLevel.alphabet()), *words, *(f"\u0120{word}" for word in words)]
    if numbers == "single":
        pieces += [f"{n:0{width}d}" for width in (2, 3) for n in range(10**width)]
    vocabulary = {piece: place for place, piece in enumerate(dict.fromkeys((PAD, BEGIN, END, TURN, *pieces)))}
    # A word that the vocabulary holds is taken whole; without merges all others fall apart into bytes.
    made = Tokenizer(models.BPE(vocab=vocabulary, merges=[], ignore_merges=True))
    digits = r"\p{N}{1,3}" if numbers == "single" else r"\p{N}"
    made.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(digits), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True),
        ]
    )
    made.decoder = decoders.ByteLevel()
    made.add_special_tokens([AddedToken(name, special=True, normalized=False) for name in (PAD, BEGIN, END, TURN)])
    begin = vocabulary[BEGIN]
    made.post_processor = processors.TemplateProcessing(
        single=f"{BEGIN} $A", pair=f"{BEGIN} $A $B", special_tokens=[(BEGIN, begin)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=made,
        bos_token=BEGIN,
        eos_token=END,
        pad_token=PAD,
        padding_side="right",
        chat_template=CHAT if chat else None,
    )
