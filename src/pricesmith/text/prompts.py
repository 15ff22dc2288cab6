"""What a language model is asked: one prompt for training and for reading, plain or as a chat, as token ids.

    What does this cost to the nearest dollar?

    Garden hose
    25 m, brass fittings

    Price is $

A listing's text is somebody else's: it is tokenized apart from the question, cut without touching it, and cannot hold
a token that steers the model, such as the end of a turn.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any, Literal

from pydantic import Field

from pricesmith.core.errors import UsageError
from pricesmith.core.settings import Settings
from pricesmith.core.types import Item, Listing, render
from pricesmith.text.currency import display_sign

Style = Literal["plain", "chat"]
OUTPUT_FORMATS = {"USD": "dollar", "EUR": "euro", "GBP": "pound", "JPY": "yen"}
SYSTEM_PROMPT = "You estimate what things cost. You answer with the price and nothing else."
MAX_SHOTS = 32
LETTERS = 16  # characters of a listing that are read for each token it may have; no language needs as many
DAY = "26 Jul 2024"
DATED = "{% macro strftime_now(form) %}" + DAY + "{% endmacro %}"
SLOT = "slot-of-a-listing-{}-e6b1"  # stands for a listing while a chat template is rendered; split away afterwards


def format_whole_price(price: float) -> int:
    """The whole price that a model is taught to write: to the nearest, at least 1."""
    return max(1, math.floor(price + 0.5))


def few_shot_messages(train: Sequence[Item], shots: int) -> tuple[tuple[str, int], ...]:
    """`shots` rendered listings with whole prices: one of each of so many price bands, in a fixed random order."""
    if not 0 <= shots <= min(MAX_SHOTS, len(train) or MAX_SHOTS):
        raise UsageError("This number of examples cannot be shown", got=str(shots), allowed=f"0 to {MAX_SHOTS}")
    if shots and not train:
        raise UsageError("There are no training listings to show as examples", got=f"shots={shots}")
    import numpy as np

    draw = np.random.default_rng(0)
    by_price = sorted(train, key=lambda item: (item.price, item.listing.id))
    bands = np.array_split(np.arange(len(by_price)), shots) if shots else []
    chosen = [by_price[int(draw.choice(band))] for band in bands]
    order = draw.permutation(len(chosen))
    return tuple((render(chosen[index].listing), format_whole_price(chosen[index].price)) for index in order)


class Prompt(Settings):
    """How a model is asked for the price of a listing; the same for training, reading and export."""

    style: Style = "plain"
    currency: str = Field("USD", min_length=1, max_length=10)
    max_length: int = Field(200, ge=1, description="of a listing; what is over is cut")
    examples: tuple[tuple[str, int], ...] = Field((), description="rendered listings with whole prices, shown before")

    @property
    def question(self) -> str:
        """The line that asks, in the words of the currency."""
        return f"What does this cost to the nearest {OUTPUT_FORMATS.get(self.currency, f'whole {self.currency}')}?"

    @property
    def ending(self) -> str:
        """What an answer begins with; the number follows without a space."""
        return f"Price is {display_sign(self.currency)}"

    def asked(self, text: str) -> str:
        """The question about a rendered listing."""
        return f"{self.question}\n\n{text}"

    def text(self, listing: Listing) -> str:
        """The whole plain prompt as text, uncut: for people, and for other trainers."""
        shown = [f"{self.asked(text)}\n\n{self.ending}{price}\n\n" for text, price in self.examples]
        return "".join([*shown, f"{self.asked(repair_unicode(render(listing)))}\n\n{self.ending}"])

    def messages(self, listing: Listing) -> list[dict[str, str]]:
        """The chat as roles and contents, uncut; the last message is the answer as far as it is given."""
        return self.turns([text for text, _ in self.examples], repair_unicode(render(listing)), SYSTEM_PROMPT)

    def turns(self, shown: Sequence[str], text: str, system: str) -> list[dict[str, str]]:
        """The messages, `shown` being the examples' texts; without `system` its words open the first question."""
        turns = [{"role": "system", "content": SYSTEM_PROMPT}] if system else []
        for body, (_, price) in zip(shown, self.examples, strict=True):
            turns += [
                {"role": "user", "content": self.asked(body)},
                {"role": "assistant", "content": f"{self.ending}{price}"},
            ]
        turns += [{"role": "user", "content": self.asked(text)}, {"role": "assistant", "content": self.ending}]
        if not system:
            turns[0]["content"] = f"{SYSTEM_PROMPT}\n\n{turns[0]['content']}"
        return turns

    def encode(self, tokenizer: Any, listings: Sequence[Listing]) -> list[list[int]]:
        """The prompt of each listing as token ids, ending just before the number.

        It begins as the tokenizer begins a text (a BOS token, or nothing). Raises UsageError where a chat is asked
        for and the tokenizer has no chat template, or one that does not show what it is given.
        """
        fixed = self.fixed(tokenizer)
        bodies = encode_bodies(
            tokenizer, [*(text for text, _ in self.examples), *map(render, listings)], self.max_length
        )
        before = [*fixed[0]]
        for body, after in zip(bodies, fixed[1:-1], strict=False):
            before += [*body, *after]
        return [[*before, *body, *fixed[-1]] for body in bodies[len(self.examples) :]]

    def fixed(self, tokenizer: Any) -> list[list[int]]:
        """Token ids of what stands before, between and after the listings: one part more than there are listings."""
        parts = self.chat_parts(tokenizer) if self.style == "chat" else self.plain_parts()
        ids = [encode_text(tokenizer, part, special=False) for part in parts]
        # A template writes its own beginning; a plain prompt begins as the tokenizer begins any text.
        begin = [] if self.style == "chat" else special_prefix(tokenizer)
        return [[*begin, *ids[0]], *ids[1:]]

    def plain_parts(self) -> list[str]:
        """The plain prompt's text round the listings."""
        ask, end = f"{self.question}\n\n", f"\n\n{self.ending}"
        return [ask, *(f"{end}{price}\n\n{ask}" for _, price in self.examples), end]

    def chat_parts(self, tokenizer: Any) -> list[str]:
        """The chat's text round the listings, as the tokenizer's template writes it."""
        if not getattr(tokenizer, "chat_template", None):
            raise UsageError(
                "This model has no chat template",
                got="style chat",
                allowed="plain",
                hint="Use style plain, or the instruct variant of the model.",
            )
        slots = [SLOT.format(number) for number in range(len(self.examples) + 1)]
        for system in (SYSTEM_PROMPT, ""):
            *turns, answer = self.turns(slots[:-1], slots[-1], system)
            text = apply_chat_template(tokenizer, turns)
            if text is not None and all(text.count(slot) == 1 for slot in slots) and SYSTEM_PROMPT in text:
                return list(split_prompt(text + answer["content"], slots))
        raise UsageError(
            "The chat template of this model does not show what it is given",
            got=str(tokenizer.chat_template)[:80],
            hint="Use style plain.",
        )


def apply_chat_template(tokenizer: Any, turns: list[dict[str, str]]) -> str | None:
    """A chat as text, up to where the assistant answers; None where the template refuses these roles."""
    from jinja2 import TemplateError

    try:
        return str(
            tokenizer.apply_chat_template(
                turns,
                # Some templates write today's date, or leave room for thinking: a prompt is the same every day.
                chat_template=DATED + tokenizer.get_chat_template(),
                date_string=DAY,
                enable_thinking=False,
                tokenize=False,
                add_generation_prompt=True,
            )
        )
    except (TemplateError, TypeError, ValueError):  # templates of models without a system role raise on one
        return None


def split_prompt(text: str, slots: Sequence[str]) -> Iterator[str]:
    """The text between the slots, which it holds once each and in order."""
    for slot in slots:
        part, _, text = text.partition(slot)
        yield part
    yield text


def repair_unicode(text: str) -> str:
    """Text that can be written as UTF-8: half a surrogate pair becomes the replacement character."""
    return text if text.isascii() else text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def encode_text(tokenizer: Any, text: str, *, special: bool = False) -> list[int]:
    """Token ids of one text of ours."""
    return list(tokenizer(text, add_special_tokens=special, split_special_tokens=False, verbose=False)["input_ids"])


def special_prefix(tokenizer: Any) -> list[int]:
    """The ids that the tokenizer puts before any text: its BOS token, or nothing."""
    bare, whole = encode_text(tokenizer, "a", special=False), encode_text(tokenizer, "a", special=True)
    for place in range(len(whole) - len(bare) + 1):
        if whole[place : place + len(bare)] == bare:
            return whole[:place]
    return []


def encode_bodies(tokenizer: Any, texts: Sequence[str], max_length: int) -> list[list[int]]:
    """Token ids of texts of others: at most `max_length` each, and none that steers the model."""
    if not texts:
        return []
    cut = [repair_unicode(text[: LETTERS * max_length]) for text in texts]  # a megabyte would take seconds
    ids = tokenizer(cut, add_special_tokens=False, split_special_tokens=False, verbose=False)["input_ids"]
    steering = steering_ids(tokenizer)
    return [[token for token in body if token not in steering][:max_length] for body in ids]


def steering_ids(tokenizer: Any) -> frozenset[int]:
    """Ids that no text of others may hold: special tokens, and added ones that the chat template writes."""
    template = str(getattr(tokenizer, "chat_template", None) or "")
    added = getattr(tokenizer, "added_tokens_decoder", {})
    marks = {place for place, token in added.items() if str(token).startswith(("<", "[")) and str(token) in template}
    return frozenset({*tokenizer.all_special_ids, *marks, *(place for place, token in added.items() if token.special)})
