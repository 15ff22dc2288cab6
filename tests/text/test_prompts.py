"""What a model is asked, as token ids: the same in training and reading, and out of reach of a listing's text."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoTokenizer

from pricesmith.core.errors import UsageError
from pricesmith.core.types import Listing, render
from pricesmith.testing import make_model
from pricesmith.text.prompts import LETTERS, Prompt, format_whole_price, repair_unicode

HOSE = Listing("1", "Garden hose", "25 m, brass fittings", "Garden", "Acme")
SYSTEMLESS = (
    "{% for message in messages %}{% if message['role'] == 'system' %}{{ raise_exception('no system') }}{% endif %}"
    "{{ '<|turn|>' + message['role'] + '\\n' + message['content'] | trim + '</s>\\n' }}{% endfor %}"
    "{{ '<|turn|>model\\n' }}"
)


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A made tokenizer with a chat template."""
    return AutoTokenizer.from_pretrained(make_model(tmp_path_factory.mktemp("chat"), chat=True))


def test_a_plain_prompt_reads_as_documented(tokenizer: Any) -> None:
    """Question, listing, and the answer as far as the number; the ids say what the text says."""
    prompt = Prompt()
    text = "What does this cost to the nearest dollar?\n\n" + render(HOSE) + "\n\nPrice is $"
    assert prompt.text(HOSE) == text
    (ids,) = prompt.encode(tokenizer, [HOSE])
    assert tokenizer.decode(ids) == "<s>" + text


@pytest.mark.parametrize(
    ("currency", "question", "ending"),
    [
        ("EUR", "nearest euro?", "Price is €"),
        ("GBP", "nearest pound?", "Price is £"),
        ("JPY", "nearest yen?", "Price is ¥"),
        ("CHF", "nearest whole CHF?", "Price is CHF "),
        ("XAU", "nearest whole XAU?", "Price is XAU "),
    ],
)
def test_the_sign_is_the_catalogs(currency: str, question: str, ending: str) -> None:
    """Question and answer speak of the catalog's money."""
    prompt = Prompt(currency=currency)
    assert prompt.question.endswith(question)
    assert prompt.text(HOSE).endswith(ending)


def test_a_chat_is_the_tokenizers_template(tokenizer: Any) -> None:
    """System, user, and an assistant's turn that is begun."""
    prompt = Prompt(style="chat")
    (ids,) = prompt.encode(tokenizer, [HOSE])
    *before, answer = prompt.messages(HOSE)
    assert [turn["role"] for turn in (*before, answer)] == ["system", "user", "assistant"]
    text = tokenizer.apply_chat_template(before, tokenize=False, add_generation_prompt=True) + answer["content"]
    assert tokenizer.decode(ids) == text
    assert text.endswith("<|turn|>assistant\nPrice is $")


def test_a_template_without_a_system_role_gets_its_words_in_the_question(tokenizer: Any, tmp_path: Path) -> None:
    """Nothing of the prompt is lost where a template refuses a role."""
    tokenizer.save_pretrained(tmp_path)
    other = AutoTokenizer.from_pretrained(tmp_path)
    other.chat_template = SYSTEMLESS
    text = other.decode(Prompt(style="chat").encode(other, [HOSE])[0])
    assert text.startswith("<|turn|>user\nYou estimate what things cost.")
    assert "Garden hose" in text
    assert text.endswith("<|turn|>model\nPrice is $")


def test_a_template_that_shows_nothing_is_refused(tokenizer: Any, tmp_path: Path) -> None:
    """A model is not asked about a listing that it does not see."""
    tokenizer.save_pretrained(tmp_path)
    other = AutoTokenizer.from_pretrained(tmp_path)
    other.chat_template = "{{ 'hello' }}"
    with pytest.raises(UsageError, match="does not show"):
        Prompt(style="chat").encode(other, [HOSE])
    other.chat_template = None
    with pytest.raises(UsageError, match="no chat template"):
        Prompt(style="chat").encode(other, [HOSE])


def test_a_prompt_is_the_same_every_day(tokenizer: Any, tmp_path: Path) -> None:
    """A template that writes the date writes one that stays."""
    tokenizer.save_pretrained(tmp_path)
    other = AutoTokenizer.from_pretrained(tmp_path)
    other.chat_template = "{{ strftime_now('%d %b %Y') + ' ' + date_string }}" + str(tokenizer.chat_template)
    text = other.decode(Prompt(style="chat").encode(other, [HOSE])[0])
    assert text.startswith("26 Jul 2024 26 Jul 2024")


@pytest.mark.parametrize("style", ["plain", "chat"])
def test_examples_come_first(tokenizer: Any, style: Any) -> None:
    """Few-shot examples are earlier questions and answers."""
    prompt = Prompt(style=style, examples=(("Red lamp", 7), ("Pump", 90)))
    text = tokenizer.decode(prompt.encode(tokenizer, [HOSE])[0])
    places = [text.index(part) for part in ("Red lamp", "Price is $7", "Pump", "Price is $90", "Garden hose")]
    assert places == sorted(places)
    assert text.endswith("Price is $")
    assert text.count("What does this cost") == 3


@pytest.mark.parametrize("style", ["plain", "chat"])
def test_cutting_never_touches_the_question(tokenizer: Any, style: Any) -> None:
    """However long a listing is, the prompt begins and ends as that of an empty one."""
    prompt = Prompt(style=style, max_length=12)
    empty, short, long = prompt.encode(
        tokenizer,
        [Listing("0", "", ""), Listing("1", "", "brass hose"), Listing("2", "", "brass hose 25 kg " * 60_000)],
    )
    assert len(empty) < len(short) < len(long) == len(empty) + 12
    shared = next(index for index, (a, b) in enumerate(zip(empty, long, strict=False)) if a != b)
    assert long[shared + 12 :] == empty[shared:]


@pytest.mark.parametrize("style", ["plain", "chat"])
@settings(max_examples=40)
@given(texts=st.lists(st.sampled_from(["</s>", "<|turn|>", "<s>", "<pad>", "hose", "$", "\ud83d", "\x00", "\n"])))
def test_no_text_can_steer_the_model(tokenizer: Any, style: Any, texts: list[str]) -> None:
    """A listing's text brings no special token, and leaves the prompt round it as it is."""
    prompt = Prompt(style=style)
    empty, ids = prompt.encode(tokenizer, [Listing("0", "", ""), Listing("1", "".join(texts), " ".join(texts))])
    special = set(tokenizer.all_special_ids)
    assert [token for token in ids if token in special] == [token for token in empty if token in special]
    assert ids[-3:] == empty[-3:]


@settings(max_examples=50)
@given(text=st.text(alphabet=st.characters(), max_size=40))
def test_any_text_can_be_written(text: str) -> None:
    """Half a surrogate pair becomes a character; sound text stays as it is."""
    fixed = repair_unicode(text)
    assert fixed.encode("utf-8").decode("utf-8") == fixed
    assert repair_unicode(fixed) == fixed
    assert fixed == text or any("\ud800" <= letter <= "\udfff" for letter in text)


def test_a_batch_is_its_listings_one_by_one(tokenizer: Any) -> None:
    """What stands beside a listing changes nothing of its prompt."""
    listings = [HOSE, Listing("2", "Lamp", ""), Listing("3", "", "")]
    prompt = Prompt(examples=(("Pump", 3),))
    assert prompt.encode(tokenizer, listings) == [prompt.encode(tokenizer, [listing])[0] for listing in listings]
    assert prompt.encode(tokenizer, []) == []


def test_letters_are_enough_for_the_tokens(tokenizer: Any) -> None:
    """Ordinary text is cut by tokens, not by characters."""
    text = "brass fittings " * 100
    prompt = Prompt(max_length=50)
    assert len(text) > 50 * LETTERS
    (ids,) = prompt.encode(tokenizer, [Listing("1", "", text)])
    (empty,) = prompt.encode(tokenizer, [Listing("1", "", "")])
    assert len(ids) == len(empty) + 50


@pytest.mark.parametrize(("price", "whole"), [(0.01, 1), (0.5, 1), (1.49, 1), (1.5, 2), (2.5, 3), (999.49, 999)])
def test_a_whole_price_is_the_nearest_one(price: float, whole: int) -> None:
    """Halves go up, and nothing costs 0."""
    assert format_whole_price(price) == whole
