"""Sentences that many different products share: the text of a template, which says nothing about one product.

    >>> texts = [f"Hose {n}\\nMachine wash cold, tumble dry low, and do not iron." for n in range(30)]
    >>> find_templates(texts, map(str, range(30))).sentences
    [('Machine wash cold, tumble dry low, and do not iron.', 30)]

A sentence counts once for each near-duplicate group, so that the colors and sizes of one product are one. Lines such as
`Color: black` are facts and no sentences, and so are sentences of fewer than `MIN_LETTERS` letters. Templates are only
reported: taking them out did not lower the error (LOG.md).
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from pricesmith.text.formatting import format_count
from pricesmith.text.words import count_letters

SAMPLE = 20_000  # items that are looked at
FEWEST = 20  # groups that share a sentence
MIN_LETTERS = 20
LONGEST = 160  # characters of a sentence that are shown
SENTENCE_END = re.compile(r"(?<=[.!?。！？])\s+|(?<=[。！？])|\n")
FACT = re.compile(r"[^:：]{1,40}[:：] ?\S")


@dataclass(frozen=True)
class Templates:
    """The shared sentences with the number of groups that have each, the commonest first; the share of their characters
    in the texts of the `items` that were looked at."""

    items: int = 0
    share: float = 0.0
    sentences: list[tuple[str, int]] = field(default_factory=list)

    def to_dict(self) -> dict[str, Any]:
        """The facts for --json: the 100 commonest sentences, and the number of all."""
        shown = [{"text": text, "groups": count} for text, count in self.sentences[:100]]
        return {"items": self.items, "share": self.share, "count": len(self.sentences), "sentences": shown}


def split_sentences(text: str) -> list[str]:
    """The sentences of a text that may be a template's."""
    parts = (part.strip() for part in SENTENCE_END.split(text))
    return [part for part in parts if not FACT.match(part) and count_letters(part, MIN_LETTERS) >= MIN_LETTERS]


def find_templates(texts: Iterable[str], groups: Iterable[str]) -> Templates:
    """The sentences that at least `FEWEST` groups share, among the first `SAMPLE` texts; `groups` are those of the
    texts."""
    counts, lengths = Counter[str](), Counter[str]()
    seen: set[tuple[str, int]] = set()
    items = characters = 0
    for text, group in zip(texts, groups, strict=False):
        items, characters = items + 1, characters + len(text)
        for sentence in dict.fromkeys(split_sentences(text)):
            lengths[sentence] += len(sentence)
            if (key := (group, hash(sentence))) not in seen:
                seen.add(key)
                counts[sentence] += 1
        if items == SAMPLE:
            break
    shared = sorted(((text, count) for text, count in counts.items() if count >= FEWEST), key=lambda pair: -pair[1])
    total = sum(lengths[text] for text, _ in shared)
    return Templates(items, round(total / characters, 4) if characters else 0.0, shared)


def describe_templates(templates: Templates, most: int = 3) -> list[str]:
    """Lines for the data card; none without templates."""
    if not templates.sentences:
        return []
    count = len(templates.sentences)
    first = (
        f"Template text: {format_count(count, 'sentence')} in {FEWEST} or more products each, {templates.share:.1%} of "
        f"the text of {templates.items:,} sampled items. The commonest:"
    )
    return [first, *(f"  {groups:>6,} products: {shorten(text)}" for text, groups in templates.sentences[:most])]


def shorten(text: str) -> str:
    """A sentence of bounded length."""
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 1]}…"
