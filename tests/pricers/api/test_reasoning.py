"""Reasoning that a server leaves in a reply is taken off; what never ended is no answer."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pricesmith.pricers.api.reasoning import strip_reasoning

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
