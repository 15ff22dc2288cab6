"""A language model on this machine that rewrites listings: untuned, decoded greedily, its answers cached.

    rewriter = LocalRewriter("gemma-3-270m", cache)
    rewriter.rewrite(listings, rules)

A base model is shown two listings with their clean forms; an instruct model gets the same as a chat. The key of an
answer in the cache has the fingerprint of the base, so other weights of the same name are asked again.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from pricesmith.core.atomic import read_json
from pricesmith.core.errors import UsageError
from pricesmith.core.progress import SILENT, Progress, format_duration
from pricesmith.core.types import Listing
from pricesmith.pricers.api.response_cache import REWRITING, Completion, ResponseCache, cache_key
from pricesmith.pricers.rewriting.form import (
    EXAMPLES,
    PROMPT_VERSION,
    SYSTEM_PROMPT,
    FormRules,
    RewrittenListing,
    listing_text,
    read_rewriting,
)
from pricesmith.text.prompts import apply_chat_template, encode_bodies, encode_text, special_prefix, split_prompt

if TYPE_CHECKING:
    from pricesmith.pricers.llm.base_model import PretrainedBase

BATCH = 8  # listings that are written at once
MAX_LENGTH = 400  # tokens of a listing; what is over is cut
MIN_LENGTH = 40  # a model whose context has less room for a listing is refused
MAX_NEW_TOKENS = 200
STOP_TOKENS = 6  # of the end of a text, in which its end is looked for
LISTING, FORM = "Listing:\n", "\n\nClean form:\n"
STOP = "\n\n"  # between two listings of a plain prompt
SLOT = "slot-of-a-listing-7d20"
ENDPOINT = "this machine"


class LocalRewriter:
    """A base model with its prompt. The weights are loaded when the first answer is not in the cache.

    `revision` is the commit of a base from the Hub (None: its newest). Raises InputError if the base cannot be found or
    used.
    """

    def __init__(
        self, base: str, cache: ResponseCache, *, revision: str | None = None, progress: Progress = SILENT
    ) -> None:
        from pricesmith.pricers.llm.base_model import base_fingerprint, find_base, load_tokenizer, tokenizer_fingerprint

        self.cache, self.progress = cache, progress
        self.base: PretrainedBase = find_base(base, revision, progress)
        self.fingerprint = base_fingerprint(self.base)
        self.tokenizer = load_tokenizer(self.base)
        self.identity = f"{self.fingerprint} {tokenizer_fingerprint(self.tokenizer)}"
        parts = chat_parts(self.base, self.tokenizer)
        self.style = "chat" if parts else "plain"
        self.before, self.after = parts or plain_parts(self.tokenizer)
        self.max_length = listing_room(self.base, len(self.before) + len(self.after))
        self.model: Any = None
        self.seconds = 0.0  # that writing took, for `written` answers
        self.written = 0

    def key(self, listing: Listing) -> str:
        """The key of a listing's answer in the cache."""
        settings = {"max_length": self.max_length, "max_new_tokens": MAX_NEW_TOKENS, "prompt": PROMPT_VERSION}
        messages = [{"role": "user", "content": listing_text(listing)}]
        return cache_key(ENDPOINT, self.identity, messages, {**settings, "style": self.style})

    def find_missing(self, listings: Sequence[Listing]) -> list[Listing]:
        """The listings without an answer in the cache, each text once."""
        by_key = {self.key(listing): listing for listing in listings}
        cached = self.cache.find(by_key)
        return [listing for key, listing in by_key.items() if key not in cached]

    def rewrite(self, listings: Sequence[Listing], rules: FormRules) -> list[RewrittenListing]:
        """The listings in clean form. Each batch of answers is in the cache before the next one is written."""
        missing = sorted(self.find_missing(listings), key=lambda listing: len(listing_text(listing)))
        for start in range(0, len(missing), BATCH):
            self.answer(missing[start : start + BATCH])
        keys = [self.key(listing) for listing in listings]
        answers = self.cache.find(keys)
        return [
            read_rewriting(listing, answers[key].text, answers[key].finish, rules)
            for listing, key in zip(listings, keys, strict=True)
        ]

    def answer(self, listings: Sequence[Listing]) -> None:
        """Write and store the answers of one batch."""
        if self.model is None:
            from pricesmith.pricers.llm.base_model import load_language_model

            self.progress.note(f"loading {self.base.name}")
            self.model = load_language_model(self.base)
        started = time.perf_counter()
        bodies = encode_bodies(self.tokenizer, [listing_text(listing) for listing in listings], self.max_length)
        prompts = [[*self.before, *body, *self.after] for body in bodies]
        texts = generate(self.model, self.tokenizer, prompts, stop=STOP if self.style == "plain" else "")
        seconds = time.perf_counter() - started
        first, self.seconds, self.written = not self.written, self.seconds + seconds, self.written + len(listings)
        for listing, prompt, (text, count) in zip(listings, prompts, texts, strict=True):
            whole, stop, _ = text.strip().partition(STOP) if self.style == "plain" else (text, "", "")
            finish = "length" if count >= MAX_NEW_TOKENS and not stop else "stop"
            completion = Completion(whole, finish, len(prompt), count, 0.0, seconds / len(listings))
            self.cache.store(self.key(listing), ENDPOINT, self.base.name, completion, purpose=REWRITING)
        if first:
            self.progress.note(f"{self.base.name}: about {seconds / len(listings):.2g} s a listing.")

    def describe_time(self, count: int) -> str:
        """How long writing so many more answers takes, by those written so far; empty before the first."""
        return format_duration(max(1.0, count * self.seconds / self.written)) if self.written else ""


def chat_parts(base: PretrainedBase, tokenizer: Any) -> tuple[list[int], list[int]] | None:
    """The token ids before and after a listing in a chat; None for a base model or one without a chat template that
    shows what it is given."""
    if base.variant != "instruct" or not getattr(tokenizer, "chat_template", None):
        return None
    shown = [
        {"role": role, "content": text}
        for pair in EXAMPLES
        for role, text in zip(("user", "assistant"), pair, strict=True)
    ]
    turns = [*shown, {"role": "user", "content": SLOT}]
    without_system = [{"role": "user", "content": f"{SYSTEM_PROMPT}\n\n{turns[0]['content']}"}, *turns[1:]]
    for chat in ([{"role": "system", "content": SYSTEM_PROMPT}, *turns], without_system):
        text = apply_chat_template(tokenizer, chat)
        if text is not None and text.count(SLOT) == 1 and SYSTEM_PROMPT in text:
            before, after = split_prompt(text, [SLOT])
            return encode_text(tokenizer, before), encode_text(tokenizer, after)
    return None


def plain_parts(tokenizer: Any) -> tuple[list[int], list[int]]:
    """The token ids before and after a listing in a plain prompt."""
    shown = "".join(f"{LISTING}{listing}{FORM}{form}{STOP}" for listing, form in EXAMPLES)
    return [*special_prefix(tokenizer), *encode_text(tokenizer, f"{shown}{LISTING}")], encode_text(tokenizer, FORM)


def listing_room(base: PretrainedBase, fixed: int) -> int:
    """How many tokens of a listing the prompt may have. Raises UsageError if the model's context is too short."""
    config = read_json(base.path / "config.json")
    config = config.get("text_config", config) if isinstance(config, dict) else {}
    context = config.get("max_position_embeddings")
    room = MAX_LENGTH if not isinstance(context, int) else min(MAX_LENGTH, context - fixed - MAX_NEW_TOKENS)
    if room < MIN_LENGTH:
        raise UsageError(
            f"The prompt does not fit the context of {base.name}",
            got=f"{context:,} tokens" if isinstance(context, int) else "no room",
            allowed=f"at least {fixed + MAX_NEW_TOKENS + MIN_LENGTH:,}",
            hint="Use another base: `pricesmith bases` lists some.",
        )
    return room


def generate(model: Any, tokenizer: Any, prompts: Sequence[Sequence[int]], *, stop: str = "") -> list[tuple[str, int]]:
    """The greedily decoded continuation of each prompt, up to and with `stop`, and its number of tokens."""
    import torch
    from transformers import StoppingCriteriaList

    columns, pad = max(map(len, prompts)), int(tokenizer.pad_token_id or 0)
    ids = torch.tensor([[*[pad] * (columns - len(prompt)), *prompt] for prompt in prompts], device=model.device)
    mask = torch.tensor([[0] * (columns - len(prompt)) + [1] * len(prompt) for prompt in prompts], device=model.device)

    def has_ended(rows: Any, scores: Any, **_: Any) -> Any:
        tails = [tokenizer.decode(row[columns:][-STOP_TOKENS:]) for row in rows]
        return torch.tensor([bool(stop) and stop in tail.lstrip() for tail in tails], device=rows.device)

    with torch.inference_mode():
        out = model.generate(
            ids,
            attention_mask=mask,
            max_new_tokens=MAX_NEW_TOKENS,
            do_sample=False,
            pad_token_id=pad,
            stopping_criteria=StoppingCriteriaList([has_ended]),
        )
    rows = [row[row != pad] for row in out[:, columns:]]
    return [(tokenizer.decode(row, skip_special_tokens=True), len(row)) for row in rows]
