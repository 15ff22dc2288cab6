"""Simulated goods whose prices follow a known law, as rows, CSV file and catalog; and tiny language models that know
their words: random weights and a tokenizer, in a folder that stock transformers loads.

>>> items, groups = make_items(3)
>>> items[0].listing.category in {"hose", "lamp", "drill", "chair"}
True
"""

from __future__ import annotations

import hashlib
import math
import random
from pathlib import Path
from typing import Any, Literal

from pricesmith.core.types import Item, Listing

GOODS = {"hose": 18.0, "lamp": 35.0, "drill": 80.0, "chair": 120.0}
BRANDS = {"Aster": 0.8, "Borealis": 1.0, "Cobalt": 1.4, "Dovetail": 2.0}
SIZES = (1, 2, 3, 5, 8, 12, 20, 40)
COLORS = ("red", "green", "blue", "black", "white")
WORDS = (  # noqa: SIM905
    "sturdy light compact foldable garden indoor outdoor quiet bright classic modern folding steel oak brass copper "
    "woven cordless rechargeable durable portable smooth heavy simple elegant robust slim wide tall short"
).split()
PAD, BEGIN, END, TURN = "<pad>", "<s>", "</s>", "<|turn|>"
CHAT = (
    "{{ bos_token }}{% for message in messages %}"
    "{{ '<|turn|>' + message['role'] + '\n' + message['content'] + '</s>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|turn|>assistant\n' }}{% endif %}"
)
ASKED = ("What", "does", "this", "cost", "to", "the", "nearest", "dollar", "Price", "is", "Size", "Color", "kg")


def make_items(n: int = 600, seed: int = 0, noise: float = 0.1) -> tuple[list[Item], list[str]]:
    """`n` items and their groups. price = good x brand x size^0.5 x exp(noise): `noise` is the error to reach."""
    draw = random.Random(seed)
    items: list[Item] = []
    groups: list[str] = []
    while len(items) < n:
        good, brand, size = draw.choice(list(GOODS)), draw.choice(list(BRANDS)), draw.choice(SIZES)
        words = " ".join(draw.sample(WORDS, 9))
        model = f"{draw.choice('KLMNP')}{draw.randrange(10, 99)}"
        price = GOODS[good] * BRANDS[brand] * math.sqrt(size) * math.exp(draw.gauss(0, noise))
        for color in draw.sample(COLORS, draw.choice((1, 1, 1, 2, 3))):
            number = len(items)
            text = f"{words}.\nSize: {size} kg\nColor: {color}"
            listing = Listing(f"made-{number}", f"{brand} {good} {model}", text, good, brand)
            items.append(Item(listing, round(price * math.exp(draw.gauss(0, noise / 4)), 2)))
            groups.append(hashlib.sha256(f"{brand}{good}{model}{words}".encode()).hexdigest()[:16])
    return items[:n], groups[:n]


def make_csv(path: Path, n: int = 600, seed: int = 0) -> Path:
    """The made items as the CSV file a shop would have: descriptions in HTML, so that each row is one line."""
    import csv

    items, _ = make_items(n, seed)
    with path.open("w", newline="", encoding="utf-8") as handle:
        out = csv.writer(handle)
        out.writerow(("sku", "name", "description", "category", "brand", "price"))
        for item in items:
            listing = item.listing
            text = listing.text.replace("\n", "<br>")
            out.writerow((listing.id, listing.title, text, listing.category, listing.brand, f"${item.price:,.2f}"))
    return path


def make_catalog(path: Path, n: int = 3000, seed: int = 0) -> Path:
    """A finished catalog folder of made items, written without `curate`: 80/10/10 by group, its folder returned."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    from pricesmith.catalog.catalog import ITEMS, LEDGER
    from pricesmith.core.atomic import write_json

    items, groups = make_items(n, seed)
    share = {group: int(hashlib.sha256(group.encode()).hexdigest(), 16) % 10 for group in groups}
    splits = [{0: "test", 1: "validation"}.get(share[group], "train") for group in groups]
    listings = [item.listing for item in items]
    columns: dict[str, list[object]] = {
        "id": [listing.id for listing in listings],
        "title": [listing.title for listing in listings],
        "text": [listing.text for listing in listings],
        "category": [listing.category for listing in listings],
        "brand": [listing.brand for listing in listings],
        "price": [item.price for item in items],
        "currency": ["USD"] * n,
        "group": list(groups),
        "split": list(splits),
        "source": ["made"] * n,
    }
    path.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(columns), path / ITEMS)
    digest = hashlib.sha256("".join(f"{item.listing}{item.price}" for item in items).encode()).hexdigest()
    ledger = {
        "format": 1,
        "name": "made",
        "fingerprint": digest,
        "currency": "USD",
        "price_range": [0.01, 5000.0],
        "cleaning": {},
        "columns": {"title": "title", "text": "text", "price": "price", "category": "category", "brand": "brand"},
        "rows": {"in": n, "kept": n, "rejected": {}},
        "files": [],
        "splits": {split: splits.count(split) for split in ("train", "validation", "test")},
        "groups": {"count": len(set(groups))},
        "items_bytes": (path / ITEMS).stat().st_size,
        "settings": {},
    }
    write_json(path / LEDGER, ledger)
    return path


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


def make_encoder(folder: Path, *, seed: int = 0, layers: int = 2, hidden: int = 32) -> Path:
    """Write a bidirectional encoder (BERT) of a few thousand random weights, with its tokenizer; its folder is
    returned."""
    import torch
    from transformers.models.bert import BertConfig, BertModel

    tokenizer = make_tokenizer("digits", chat=False)
    config = BertConfig(
        vocab_size=len(tokenizer),
        hidden_size=hidden,
        intermediate_size=2 * hidden,
        num_hidden_layers=layers,
        num_attention_heads=4,
        max_position_embeddings=512,
        pad_token_id=tokenizer.pad_token_id,
        initializer_range=0.2,
    )
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = BertModel(config)
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
        "initializer_range": 0.2,  # wide, so that a random model distinguishes its inputs
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
    vocabulary = {piece: number for number, piece in enumerate(dict.fromkeys((PAD, BEGIN, END, TURN, *pieces)))}
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
