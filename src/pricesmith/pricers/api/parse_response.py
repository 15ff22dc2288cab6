"""Reads the price out of a model's reply strictly: one amount and nothing else, or the reason why there is none.

    >>> parse_response('{"price": 24.5}', "stop", "USD")
    24.5
    >>> parse_response("$20 to $30", "stop", "USD")
    'a range'
    >>> parse_response("2 for $30", "stop", "USD")
    'more than one number'
    >>> strip_reasoning("It has 30 parts.\\n</think>\\n\\n25")          # the chat template opened the tag
    '25'

Guessing which number of a sentence is the price would add our own error to the model's, and a truncated answer may
have lost digits. Both count as unanswered, with their reason.
"""

from __future__ import annotations

import json
import re
from typing import Any

from pricesmith.text.price_parser import AMBIGUOUS, NEGATIVE, RANGE, TWO_CURRENCIES, ZERO, parse_price
from pricesmith.text.prompts import OUTPUT_FORMATS

TRUNCATED = "truncated at the limit of output tokens"
REFUSAL = "a refusal"
REJECTED = "a request that the endpoint rejected"
BROKEN_JSON = "invalid JSON"
UNENDED_REASONING = "reasoning without an end"
INTERRUPTED_REPLY = "a reply that did not end normally"
EMPTY = "an empty reply"
PRICE_RANGE = "a range"
SEVERAL_NUMBERS = "more than one number"
PROSE = "prose around a number"
NO_NUMBER = "words without a number"
OTHER_CURRENCY = "another currency"
NO_AMOUNT = "no price"

JSON_FAILED = "json_validate_failed"  # Groq's error about an answer that is not the JSON that was asked for
# Finish reasons of a complete reply; any other reason may mean lost digits.
COMPLETE = frozenset(
    {"stop", "end_turn", "stop_sequence", "eos", "eos_token", "complete", "completed", "finish", "done"}
)
FILTERED = ("refus", "filter", "safety", "moderat", "recitation", "blocklist", "prohibited", "spii", "flagged")

REASONS = {
    RANGE: PRICE_RANGE,
    ZERO: "a price of zero",
    NEGATIVE: "a negative price",
    AMBIGUOUS: "an ambiguous number",
    TWO_CURRENCIES: OTHER_CURRENCY,
}
CODE_FENCE = re.compile(r"```[a-z]*\s*(.*?)\s*```", re.DOTALL)
LEAD = re.compile(r"(?:the |estimated )?(?:price|cost|answer)(?:\s*(?:is\b|:|=))*\s+", re.IGNORECASE)
NUMBER = re.compile(r"\d+(?:[.,]\d+)*")
# Nobody writes one amount over several lines, columns or list entries: these separate two numbers.
SEPARATORS = re.compile(r"[\t\n\r\v\f\x1c-\x1f\x85\u2028\u2029;|]")
# Groups of three digits with plain spaces, each of which may be a price by itself: 120 150
DIGIT_GROUPS = re.compile(r"(?<![\d.,])[1-9]\d\d(?: [1-9]\d\d)+(?:[.,]\d{1,2})?(?!\d)")
TWO_BOUNDS = re.compile(r"\d[^\d]{0,12}(?:-|–|—|\bto\b|\band\b|\bor\b)[^\d]{0,6}\d", re.IGNORECASE)
REFUSAL_WORDS = re.compile(
    r"\b(?:can(?:no|['’])?t|unable|not able|won['’]t|will not|do not have|don['’]t have|sorry|as an ai)\b",
    re.IGNORECASE,
)

TAG_NAMES = r"(?:seed:)?(?:think(?:ing)?|thoughts?|reason(?:ing)?|reflect(?:ion)?|analysis|scratchpad)"
OPEN_TAG = re.compile(
    rf"<\s*{TAG_NAMES}(?:\s[^<>]*)?>"
    r"|\[(?:THINK|THINKING|REASONING)\]|◁think▷|<\|(?:start_thinking|begin_of_thought)\|>"
    r"|<\|channel>(?:thought|analysis)|<unused94>",
    re.IGNORECASE,
)
CLOSE_TAG = re.compile(
    rf"<\s*/\s*{TAG_NAMES}\s*>"
    r"|\[/(?:THINK|THINKING|REASONING)\]|◁/think▷|<\|(?:end_thinking|end_of_thought)\|>"
    r"|<channel\|>|<unused95>",
    re.IGNORECASE,
)
# gpt-oss (harmony): <|channel|>analysis<|message|>...<|end|><|start|>assistant<|channel|>final<|message|>...
FINAL_CHANNEL = re.compile(
    r"<\|channel\|>\s*final\b[^<]*(?:<\|constrain\|>[^<]*)?<\|message\|>|assistantfinal(?:\s?json(?=\s*\{))?"
)
OTHER_CHANNEL = re.compile(r"<\|channel\|>|\Aanalysis(?=[A-Z])|assistant(?:analysis|commentary)(?=[A-Z\s])")
END_TOKEN = re.compile(
    r"(?:<\|(?:im_end|eot_id|eom_id|end|return|endoftext|end_of_text|end_of_turn|end_response|end_of_solution)\|>"
    r"|<(?:end_of_turn|eos|turn\|)>|</s>|\[/INST\])\Z",
    re.IGNORECASE,
)
MAX_END_TOKEN_CHARS = 24
ANSWER_TAG = re.compile(
    r"<(answer|response|output|final|final_answer)>(.*)</\1>|<\|(?:start_response|begin_of_solution)\|>(.*)",
    re.IGNORECASE | re.DOTALL,
)


def parse_response(text: str, finish: str, currency: str) -> float | str:
    """Return the price of a reply, above 0 and finite, or the reason why there is none.

    `finish` is the endpoint's finish reason; `currency` is the catalog's currency code.
    """
    answer, reason = read_answer(text, finish)
    if reason:
        return reason
    if answer[0] in "{[":
        return parse_json_price(answer, currency)
    answer = answer.strip("*_` ").removesuffix(".") if not answer.endswith("..") else answer
    lead = LEAD.match(answer)
    answer = (answer[lead.end() :] if lead else answer).strip("*_` ")
    unit = OUTPUT_FORMATS.get(currency)
    if unit:
        answer = re.sub(rf"\b{unit}s?$", "", answer, flags=re.IGNORECASE).rstrip()
    return parse_amount(answer, currency)


def read_answer(text: str, finish: str) -> tuple[str, str]:
    """Return the answer in a reply, without reasoning and code fence; or an empty text and the reason why there is none
    that is complete."""
    finish = finish.casefold()
    reason = ""
    if finish == "rejected":
        reason = REJECTED
    elif finish == JSON_FAILED:
        reason = BROKEN_JSON
    elif any(mark in finish for mark in ("length", "max", "window_exceeded")):
        reason = TRUNCATED
    elif finish not in COMPLETE:
        reason = REFUSAL if any(mark in finish for mark in FILTERED) else INTERRUPTED_REPLY
    if reason:
        return "", reason
    answer = strip_reasoning(text)
    if answer is None:
        return "", UNENDED_REASONING
    if fenced := CODE_FENCE.fullmatch(answer):
        answer = fenced[1]
    return answer, "" if answer else EMPTY


def strip_reasoning(text: str) -> str | None:
    """Return a reply without its reasoning and end tokens; None if the reasoning never ends.

    Recognizes tags (`<think>`, `<thinking>`, `<reasoning>`, `[THINK]`, `◁think▷`, `<|START_THINKING|>`, `<seed:think>`
    and others), the channels of gpt-oss, also without their special tokens, and a tag around the answer.
    """
    answer = strip_end_tokens(text)
    finals = list(FINAL_CHANNEL.finditer(answer))
    if finals:
        answer = answer[finals[-1].end() :]
    elif OTHER_CHANNEL.search(answer):
        return None
    begin = 0
    while (close := CLOSE_TAG.search(answer, begin)) is not None:
        start = OPEN_TAG.search(answer, begin, close.start())
        if start is not None and answer[begin : start.start()].strip():
            break  # text before the reasoning is no answer by itself
        begin = close.end()
    answer = answer[begin:]  # once: a copy for each tag takes quadratic time
    if OPEN_TAG.search(answer) and not CLOSE_TAG.search(answer):
        return None
    answer = strip_end_tokens(answer)
    if (inner := ANSWER_TAG.fullmatch(answer)) is not None:
        answer = (inner[2] if inner[2] is not None else inner[3]).strip()
    return answer


def strip_end_tokens(text: str) -> str:
    """Return a text without the tokens that end a reply, and without the spaces around it.

    One token at a time: a pattern of any number of them takes quadratic time for a long run of spaces.
    """
    text = text.strip()
    stop = len(text)
    while (end := END_TOKEN.search(text, max(0, stop - MAX_END_TOKEN_CHARS), stop)) is not None:
        stop = end.start()
        while stop and text[stop - 1].isspace():
            stop -= 1
    return text[:stop]


def parse_json_price(text: str, currency: str) -> float | str:
    """Return the `price` of one JSON object, or the reason; a `currency` in it must be the catalog's."""
    try:
        value: Any = json.loads(text, object_pairs_hook=refuse_duplicate_keys)
    except (ValueError, RecursionError):
        return BROKEN_JSON
    if isinstance(value, list) and len(value) > 1:
        return SEVERAL_NUMBERS
    if not isinstance(value, dict) or "price" not in value:
        return BROKEN_JSON
    price, code = value["price"], value.get("currency")
    if code and str(code).upper() != currency.upper() and parse_amount(f"{code} 1", currency) != 1:
        return OTHER_CURRENCY
    if isinstance(price, list | dict):
        return NO_AMOUNT if len(price) < 2 else SEVERAL_NUMBERS if isinstance(price, list) else PRICE_RANGE
    return parse_amount(price, currency)


def refuse_duplicate_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return the pairs as a dictionary. Raises ValueError if a key occurs twice."""
    values = dict(pairs)
    if len(values) != len(pairs):
        raise ValueError("a key occurs twice")
    return values


def parse_amount(value: object, currency: str) -> float | str:
    """Return one amount in the catalog's currency, or the reason why there is none."""
    if isinstance(value, str):
        if has_several_numbers(value):
            return explain_no_price(value)
        if DIGIT_GROUPS.search(value):
            return REASONS[AMBIGUOUS]
    parsed = parse_price(value, currency, ",.")  # the writer's decimal mark is unknown: 1.299 may be either
    if isinstance(parsed, tuple):
        amount, sign = parsed
        return amount if sign in (None, currency) else OTHER_CURRENCY
    if parsed in REASONS:
        return REASONS[parsed]
    return explain_no_price(value) if isinstance(value, str) else NO_AMOUNT


def has_several_numbers(text: str) -> bool:
    """Return whether there are numbers on both sides of a line break, a tab or another list separator."""
    return sum(any(char.isdigit() for char in part) for part in SEPARATORS.split(text)) > 1


def explain_no_price(text: str) -> str:
    """Return the reason why a text is not an amount."""
    numbers = NUMBER.findall(text)
    if REFUSAL_WORDS.search(text) and not numbers:
        return REFUSAL
    if len(numbers) == 2 and TWO_BOUNDS.search(text):
        return PRICE_RANGE
    if REFUSAL_WORDS.search(text):
        return REFUSAL
    return SEVERAL_NUMBERS if len(numbers) > 1 else PROSE if numbers else NO_NUMBER
