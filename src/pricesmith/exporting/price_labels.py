"""Quotes from a text classifier whose labels are price ranges, with the standard library only.

An export of a model with price bins has a copy of this file, for programs that have no Pricesmith:

    from transformers import pipeline
    from price_labels import build_prompt, quote
    classify = pipeline("text-classification", "merged", top_k=None)
    quote(classify(build_prompt("Garden hose 25 m, brass fittings", "merged", classify.tokenizer)), "merged")

`encode_prompt` returns the prompt as the token ids that the model was tuned with, for servers that take them: a text
may be split into other tokens where the listing ends. `quote` takes what any server returns for a text: labels such as
"12.3457 to 13.1021 USD" with their probabilities, in any order; for a server that returns the probabilities alone, in
the order of the labels, `label_scores` adds them.
"""

from __future__ import annotations

import json
import math
from bisect import bisect_right
from pathlib import Path
from typing import Any

PROMPT = "prompt.json"


def build_prompt(text: str, folder: str | Path, tokenizer: Any = None) -> str:
    """The whole prompt of a listing's text, for servers that tokenize it: without special tokens inside the listing.

    With `tokenizer`, that of the exported folder, a long listing is cut to the tokens that the model reads; without
    one, only to a number of characters. A server may still join characters at the listing's end with the question's
    line into one token, which the model was not tuned with; `encode_prompt` returns what it was tuned with.
    """
    facts = read(folder, PROMPT)
    text, before = repair_unicode(text[: facts["max_characters"]]), ""
    while text != before:  # removing one token may join the parts of another
        before = text
        for token in facts["special_tokens"]:
            text = text.replace(token, "")
    if tokenizer is not None:
        text = cut_text(text, tokenizer, facts["max_length"])
    return str(facts["before"] + text + facts["after"])


def encode_prompt(text: str, folder: str | Path, tokenizer: Any) -> list[int]:
    """The token ids of a listing's prompt, exactly those that the model was tuned with and evaluated on.

    `tokenizer` is that of the exported folder; the ids are complete, with the tokens that a text begins with.
    """
    facts = read(folder, PROMPT)
    text = repair_unicode(text[: facts["max_characters"]])
    ids = tokenizer(text, add_special_tokens=False, split_special_tokens=False, verbose=False)["input_ids"]
    special = set(facts["special_ids"])
    return [*facts["before_ids"], *[n for n in ids if n not in special][: facts["max_length"]], *facts["after_ids"]]


def cut_text(text: str, tokenizer: Any, max_length: int) -> str:
    """The beginning of a text that `max_length` tokens encode."""
    offsets = getattr(tokenizer, "is_fast", False)
    encoded = tokenizer(text, add_special_tokens=False, return_offsets_mapping=offsets, verbose=False)
    if len(encoded["input_ids"]) <= max_length:
        return text
    if offsets:
        return text[: encoded["offset_mapping"][max_length - 1][1]]
    return str(tokenizer.decode(encoded["input_ids"][:max_length], clean_up_tokenization_spaces=False))


def repair_unicode(text: str) -> str:
    """Text that can be written as UTF-8: half a surrogate pair becomes the replacement character."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def label_scores(probabilities: list[float], folder: str | Path) -> list[dict[str, Any]]:
    """The labels of the model with these probabilities, which are in the labels' order."""
    labels = read(folder, "config.json")["id2label"]
    return [{"label": labels[str(index)], "score": score} for index, score in enumerate(probabilities)]


def quote(scores: list[dict[str, Any]], folder: str | Path | None = None) -> tuple[float, float, float]:
    """Price, low and high from labels with their probabilities: the median and the 5 % and 95 % quantiles.

    With `folder`, the price is inside the range of the catalog, and the interval is the calibrated one.
    """
    if scores and isinstance(scores[0], list):  # of a batch of one text
        scores = scores[0]
    ends = [tuple(float(part) for part in row["label"].split(" ")[0:3:2]) for row in scores]
    bins = sorted((low, high, float(row["score"])) for (low, high), row in zip(ends, scores, strict=True))
    price, low, high = (quantile(bins, share) for share in (0.5, 0.05, 0.95))
    if folder is None:
        return price, low, high
    bottom, top = read(folder, "price_config.json")["price_range"]
    price, low, high = (min(max(value, bottom), top) for value in (price, low, high))
    table = read(folder, "calibration.json")
    band = bisect_right(table["edges"], price)
    lower, upper = table["lower"][band], table["upper"][band]
    if lower is None or upper is None:
        return price, bottom, top
    low, high = low * math.exp(-lower), high * math.exp(upper)
    return price, min(max(low, bottom), price), max(min(high, top), price)


def quantile(bins: list[tuple[float, float, float]], share: float) -> float:
    """The price below which this share of the probability lies, between two edges on the log scale."""
    total, below = sum(score for _, _, score in bins), 0.0
    for low, high, score in bins:
        if score and below + score >= share * total:
            return float(low * (high / low) ** ((share * total - below) / score))
        below += score
    return bins[-1][1]


def read(folder: str | Path, name: str) -> dict[str, Any]:
    """A JSON file of the exported folder."""
    values: dict[str, Any] = json.loads((Path(folder) / name).read_text(encoding="utf-8"))
    return values
