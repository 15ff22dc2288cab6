"""A model's reply is parsed to a price or to a counted reason, never to a guess and never to 0."""

from __future__ import annotations

import json
import math
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pricesmith.pricers.api.parse_response import (
    BROKEN_JSON,
    EMPTY,
    INTERRUPTED_REPLY,
    NO_NUMBER,
    OTHER_CURRENCY,
    PRICE_RANGE,
    PROSE,
    REFUSAL,
    SEVERAL_NUMBERS,
    TRUNCATED,
    UNENDED_REASONING,
    parse_response,
    strip_reasoning,
)


@pytest.mark.parametrize(
    ("text", "price"),
    [
        ('{"price": 24.5}', 24.5),
        ('{"price": 24}', 24.0),
        ('{"price": "$1,299.00"}', 1299.0),
        ('```json\n{"price": 5}\n```', 5.0),
        ("24", 24.0),
        ("$24.99", 24.99),
        ("$4,999", 4999.0),
        ("$19.99 USD", 19.99),
        ("24 dollars", 24.0),
        ("Price is $24", 24.0),
        ("The price is: $24.", 24.0),
        ("**$24.99**", 24.99),
        ("<think>perhaps 30, or 40</think>\n\n25", 25.0),
        ("A hose with 12 jets.\n</think>\n\n25", 25.0),
        ('12 jets.</think>```json\n{"price": 25}\n```', 25.0),
        ("25<|im_end|>", 25.0),
        ("25\nUSD", 25.0),
        ("1\u202f299", 1299.0),
        ("1 299", 1299.0),
        ("129 000", 129000.0),
    ],
)
def test_one_amount_is_a_price(text: str, price: float) -> None:
    """A JSON number, a bare number, or an amount as a shop writes it."""
    assert parse_response(text, "stop", "USD") == price


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", EMPTY),
        (" \n", EMPTY),
        ("2 for $30", SEVERAL_NUMBERS),
        ("$4,999 for a $50 thing", SEVERAL_NUMBERS),
        ("$20 - $30", PRICE_RANGE),
        ("$20 to $30", PRICE_RANGE),
        ("between $20 and $30", PRICE_RANGE),
        ('{"price": "20-30"}', PRICE_RANGE),
        ('{"price": {"low": 20, "high": 30}}', PRICE_RANGE),
        ("This garden hose typically sells for $25.", PROSE),
        ("about $25", PROSE),
        ("199\n149", SEVERAL_NUMBERS),
        ("$199.00\r\n$149.00", SEVERAL_NUMBERS),
        ("199\t149", SEVERAL_NUMBERS),
        ("199\u2028149", SEVERAL_NUMBERS),
        ("199\x0b149", SEVERAL_NUMBERS),
        ("199; 149", SEVERAL_NUMBERS),
        ("199 | 149", SEVERAL_NUMBERS),
        ("199, 149", SEVERAL_NUMBERS),
        ("1. 199\n2. 149", SEVERAL_NUMBERS),
        ("[100, 200]", SEVERAL_NUMBERS),
        ("[199\n149]", BROKEN_JSON),
        ('{"price": [100, 200]}', SEVERAL_NUMBERS),
        ('{"price": "100\\n200"}', SEVERAL_NUMBERS),
        ('{"price": "100\\t200"}', SEVERAL_NUMBERS),
        ("Price: 199\nPrice: 149", SEVERAL_NUMBERS),
        ("120 150", "an ambiguous number"),
        ("$120 150.50", "an ambiguous number"),
        ("<think>perhaps 25", UNENDED_REASONING),
        ("25\n<think>or 30", UNENDED_REASONING),
        ("A hose of $30.\n</think>", EMPTY),
        ("Well <think>30</think> 25", SEVERAL_NUMBERS),
        ("$24/each", PROSE),
        ("twenty dollars", NO_NUMBER),
        ("I'm sorry, but I can't help with that.", REFUSAL),
        ("I cannot determine a price without more information.", REFUSAL),
        ("I can't say; between $20 and $900 or $1,000", REFUSAL),
        ('{"price": 24', BROKEN_JSON),
        ('{"price": 24}{"price": 24}', BROKEN_JSON),
        ('{"price": 24, "price": 30}', BROKEN_JSON),
        ('{"cost": 24}', BROKEN_JSON),
        ("[24]", BROKEN_JSON),
        ("[" * 100_000, BROKEN_JSON),
        ('{"price": ' + "9" * 5_000 + "}", BROKEN_JSON),
        ("€20", OTHER_CURRENCY),
        ('{"price": 24, "currency": "EUR"}', OTHER_CURRENCY),
        ("1.299 €", "an ambiguous number"),
        ("1.299", "an ambiguous number"),
        ('{"price": "1.299"}', "an ambiguous number"),
        ("0", "a price of zero"),
        ('{"price": 0}', "a price of zero"),
        ('{"price": 0.0}', "a price of zero"),
        ("-5", "a negative price"),
        ('{"price": null}', "no price"),
        ('{"price": true}', "no price"),
        ('{"price": NaN}', "no price"),
        ('{"price": 1e999}', "no price"),
    ],
)
def test_what_is_no_single_amount_is_no_price_and_has_a_reason(text: str, reason: str) -> None:
    """Prose, ranges, refusals, two numbers, zero: none of them becomes a number."""
    assert parse_response(text, "stop", "USD") == reason


@pytest.mark.parametrize("finish", ["length", "max_tokens", "MAX_TOKENS", "max_output_tokens"])
@pytest.mark.parametrize("text", ["$1", "Price is $1", '{"price": 1', "{}"])
def test_an_answer_that_was_cut_off_is_never_read(text: str, finish: str) -> None:
    """$199.99 cut after its first digit reads as $1: a published comparison was wrong by such answers."""
    assert parse_response(text, finish, "USD") == TRUNCATED


@pytest.mark.parametrize("finish", ["error", "tool_calls", "abort", "no word that we know"])
def test_an_answer_that_did_not_end_by_itself_is_never_read(finish: str) -> None:
    """Whatever ended it may have taken digits with it."""
    assert parse_response("$1", finish, "USD") == INTERRUPTED_REPLY


@pytest.mark.parametrize("finish", ["stop", "STOP", "end_turn", "eos", "stop_sequence"])
def test_servers_call_a_whole_answer_by_several_names(finish: str) -> None:
    """All of them are read."""
    assert parse_response("$19", finish, "USD") == 19.0


@pytest.mark.parametrize("finish", ["refusal", "content_filter", "SAFETY", "RECITATION"])
def test_a_refusal_that_the_endpoint_calls_one_is_one(finish: str) -> None:
    """Whatever number its words hold."""
    assert parse_response("24", finish, "USD") == REFUSAL


def test_the_currency_is_the_catalogs() -> None:
    """The same words are a price in one catalog and none in another."""
    assert parse_response("€20", "stop", "EUR") == 20.0
    assert parse_response("20 euros", "stop", "EUR") == 20.0
    assert parse_response("20 dollars", "stop", "EUR") == PROSE
    assert parse_response('{"price": 20, "currency": "$"}', "stop", "USD") == 20.0
    assert parse_response('{"price": 20, "currency": "€"}', "stop", "USD") == OTHER_CURRENCY


@given(st.floats(0.01, 1e7, allow_nan=False))
def test_a_price_in_json_comes_back_as_it_was(price: float) -> None:
    """The number that was written is the number that is read, to the last digit."""
    assert parse_response(json.dumps({"price": price}), "stop", "USD") == price


@given(
    st.integers(1, 999_999),
    st.integers(1, 999_999),
    st.sampled_from(["\n", "\r\n", "\t", "\n\n", "\v", "\f", "\x85", "\u2028", "\u2029", "; ", " | ", " \n- "]),
    st.sampled_from(["", "$"]),
)
def test_two_numbers_that_are_parted_are_never_one(first: int, second: int, between: str, sign: str) -> None:
    """199 and 149 on two lines are no 199149."""
    parsed = parse_response(f"{sign}{first}{between}{sign}{second}", "stop", "USD")
    assert parsed in (SEVERAL_NUMBERS, PRICE_RANGE)


@given(st.text(max_size=60), st.sampled_from(["stop", "length", "refusal", "other"]))
def test_every_answer_is_a_price_above_0_or_a_reason(text: str, finish: str) -> None:
    """No text breaks the reader, and none becomes 0."""
    parsed = parse_response(text, finish, "USD")
    assert isinstance(parsed, str) or (parsed > 0 and math.isfinite(parsed))


TAGS = [
    ("<think>", "</think>"),
    ("<Thinking>", "</Thinking>"),
    ("<thought>", "</thought>"),
    ("<reasoning>", "</reasoning>"),
    ("<reflection>", "</reflection>"),
    ("<seed:think>", "</seed:think>"),
    ("<think effort='low'>", "</think >"),
    ("[THINK]", "[/THINK]"),
    ("◁think▷", "◁/think▷"),
    ("<|START_THINKING|>", "<|END_THINKING|>"),
    ("<|begin_of_thought|>", "<|end_of_thought|>"),
    ("<|channel>thought", "<channel|>"),
    ("<unused94>thought", "<unused95>"),
]


@pytest.mark.parametrize(("begin", "end"), TAGS)
def test_tags_are_known_whether_the_reply_opens_them_or_the_template_did(begin: str, end: str) -> None:
    """With the opening tag, without it, and with a second thought; without an end there is no answer."""
    assert strip_reasoning(f"{begin}\n30, or 40\n{end}\n\n25") == "25"
    assert strip_reasoning(f"It has 30 parts.\n{end}\n\n25") == "25"
    assert strip_reasoning(f"{begin}30{end}{begin}40{end}25") == "25"
    assert strip_reasoning(f"{begin} a {begin} b {end} 30 {end} 25") == "25"
    assert strip_reasoning(f"{begin}30 or") is None
    assert strip_reasoning(f"25 {begin}30 or") is None
    assert strip_reasoning(f"{begin}30{end}") == ""


@pytest.mark.parametrize(
    ("reply", "answer"),
    [
        ("<|channel|>analysis<|message|>30?<|end|><|start|>assistant<|channel|>final<|message|>25<|return|>", "25"),
        ("30?<|end|><|start|>assistant<|channel|>final <|constrain|>json<|message|>{}", "{}"),
        ("<|channel|>final<|message|>25", "25"),
        ("analysisThe user has 30 parts.assistantfinal25", "25"),
        ('analysisThe user has 30 parts.assistantfinal json{"price": 25}', '{"price": 25}'),
        ("We need 30.assistantcommentary to check.assistantfinal25", "25"),
        ("<|channel|>analysis<|message|>30?", None),
        ("analysisThe user has 30 parts.", None),
        ("analysis of it: 30", "analysis of it: 30"),
    ],
)
def test_of_the_channels_of_harmony_the_final_one_counts(reply: str, answer: str | None) -> None:
    """Also where a server has dropped the special tokens and left their names."""
    assert strip_reasoning(reply) == answer


@pytest.mark.parametrize("end", ["<|im_end|>", "<|eot_id|>", "</s>", "<end_of_turn>\n", "<|return|>", "<|end|></s>"])
def test_tokens_that_end_a_reply_are_taken_off(end: str) -> None:
    """At its end only."""
    assert strip_reasoning(f"25{end}") == "25"
    assert strip_reasoning(f"25{end}30") == f"25{end}30"


@pytest.mark.parametrize("tag", ["answer", "response", "final_answer"])
def test_a_tag_round_the_whole_answer_is_taken_off(tag: str) -> None:
    """One round a part of it is not."""
    assert strip_reasoning(f"<think>3</think><{tag}>\n25\n</{tag}>") == "25"
    assert strip_reasoning(f"25 <{tag}>30</{tag}>") == f"25 <{tag}>30</{tag}>"


def test_an_answer_before_its_reasoning_is_left_as_it_is() -> None:
    """It may have changed its mind."""
    assert strip_reasoning("25 <think>or 30</think>") == "25 <think>or 30</think>"


@given(st.text(alphabet=st.characters(exclude_characters="<>[]|◁▷"), max_size=80))
def test_a_reply_without_tags_stays(text: str) -> None:
    """Less the blanks round it."""
    if not text.strip().startswith("analysis") and "assistant" not in text:
        assert strip_reasoning(text) == text.strip()


@pytest.mark.parametrize(
    "piece", [" ", "\n", "\u3000", "</think>", "[/INST]", "*", "1 ", "price is ", "<think>a</think>"]
)
def test_a_long_reply_without_end_is_read_at_once(piece: str) -> None:
    """A model that repeats itself holds up neither a command nor a server: no pattern takes more than linear time."""
    begin = time.process_time()
    text = f"25{piece * (200_000 // len(piece))}x"
    assert isinstance(parse_response(text, "stop", "USD"), str)
    assert isinstance(parse_response(json.dumps({"price": text}), "stop", "USD"), str)
    assert time.process_time() - begin < 60  # of CPU time; quadratic time would be half an hour
