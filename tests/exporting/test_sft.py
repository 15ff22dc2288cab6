"""A catalog as rows to tune a model on elsewhere."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from pricesmith.catalog.catalog import open_catalog
from pricesmith.core.errors import UsageError
from pricesmith.exporting import export_model
from pricesmith.testing import make_catalog, make_model
from pricesmith.text.prompts import Prompt, format_whole_price


@pytest.fixture(scope="module")
def catalog(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_catalog(tmp_path_factory.mktemp("shop") / "catalog", 300)


def rows_of(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_rows_are_the_prompt_and_the_whole_price(catalog: Path, tmp_path: Path) -> None:
    """The prompt is the one that our own training uses; the completion is the number alone."""
    export_model(catalog, tmp_path / "sft.jsonl", "sft")
    items = open_catalog(catalog).items("train")
    prompt = Prompt()
    wanted = [{"prompt": prompt.text(i.listing), "completion": str(format_whole_price(i.price))} for i in items]
    assert rows_of(tmp_path / "sft.jsonl") == wanted


def test_no_test_row_leaves_the_catalog(catalog: Path, tmp_path: Path) -> None:
    """Training and validation rows are written apart, and the rows that judge stay."""
    export_model(catalog, tmp_path / "sft.jsonl", "sft")
    written = {row["prompt"] for name in ("sft.jsonl", "sft.validation.jsonl") for row in rows_of(tmp_path / name)}
    shop = open_catalog(catalog)
    assert len(rows_of(tmp_path / "sft.validation.jsonl")) == len(shop.items("validation"))
    assert not written & {Prompt().text(item.listing) for item in shop.items("test")}


def test_a_chat_row_reads_as_our_own_chat_prompt(catalog: Path, tmp_path: Path) -> None:
    """Messages and answer, put through the chat template as other trainers do, give the tokens that we train on."""
    from transformers import AutoTokenizer

    export_model(catalog, tmp_path / "chat.jsonl", "sft", style="chat")
    tokenizer = AutoTokenizer.from_pretrained(make_model(tmp_path / "model", chat=True))
    item, row = open_catalog(catalog).items("train")[0], rows_of(tmp_path / "chat.jsonl")[0]
    chat = tokenizer.apply_chat_template(row["prompt"], tokenize=False, add_generation_prompt=True)
    whole = tokenizer(chat + row["completion"][0]["content"], add_special_tokens=False)["input_ids"]
    (ours,) = Prompt(style="chat").encode(tokenizer, [item.listing])
    assert tokenizer.decode(whole) == tokenizer.decode(ours) + str(format_whole_price(item.price))


def test_messages_are_whole_conversations(catalog: Path, tmp_path: Path) -> None:
    """Rows as OpenAI's fine-tuning reads them, the same words as the chat prompt; an earlier export is replaced."""
    for _ in range(2):
        export_model(catalog, tmp_path / "chat.jsonl", "messages")
    items, rows = open_catalog(catalog).items("train"), rows_of(tmp_path / "chat.jsonl")
    assert len(rows) == len(items)
    for item, row in zip(items, rows, strict=True):
        *asked, answer = Prompt(style="chat").messages(item.listing)
        answer["content"] += str(format_whole_price(item.price))
        assert row == {"messages": [*asked, answer]}
    export_model(catalog, tmp_path / "chat.jsonl", "sft")
    assert set(rows_of(tmp_path / "chat.jsonl")[0]) == {"prompt", "completion"}


@pytest.mark.parametrize("format", ["sft", "messages"])
def test_a_wrong_suffix_names_the_format_that_was_asked_for(catalog: Path, tmp_path: Path, format: str) -> None:
    with pytest.raises(UsageError, match=f"^{format} is written as JSON Lines"):
        export_model(catalog, tmp_path / "rows.csv", format)


@pytest.mark.parametrize(("name", "style"), [("sft.csv", "plain"), ("sft.jsonl", "song")])
def test_a_wrong_file_or_style_is_refused(catalog: Path, tmp_path: Path, name: str, style: str) -> None:
    """No file is written if the name is wrong."""
    with pytest.raises(UsageError):
        export_model(catalog, tmp_path / name, "sft", style=style)
    assert not any(tmp_path.iterdir())
