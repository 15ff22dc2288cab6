"""A tokenizer that does not fit its model's embedding table is one clear error before any weights are read."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoTokenizer

from pricesmith.catalog.catalog import open_catalog
from pricesmith.core.errors import InputError
from pricesmith.pricers.fitting import fit_model
from pricesmith.pricers.llm import base_model, lora, pricer
from pricesmith.pricers.llm.base_model import embedding_rows, find_base, load_tokenizer
from pricesmith.pricers.llm.lora import LoraBins, LoraTokens
from pricesmith.pricers.llm.pricer import load_adapter, zero_shot_pricer
from pricesmith.testing import make_catalog, make_items

RANGE = (0.5, 999.49)


def change_tokenizer(folder: Path, change: Callable[[Any], object]) -> None:
    """Load the folder's tokenizer, change it, and save it again."""
    tokenizer = AutoTokenizer.from_pretrained(folder)
    change(tokenizer)
    tokenizer.save_pretrained(folder)


def edit_config(folder: Path, **values: Any) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


def no_weights(*_: Any, **__: Any) -> None:
    raise AssertionError("the weights were read")


@pytest.fixture
def without_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    """Any attempt to load weights fails."""
    for module in (base_model, pricer, lora):
        for name in ("language_model", "classifier"):
            if hasattr(module, name):
                monkeypatch.setattr(module, name, no_weights)


@pytest.mark.usefixtures("without_weights")
@pytest.mark.parametrize("use", ["zero-shot", "lora_bins", "lora_tokens"])
def test_words_without_an_embedding_are_refused_before_any_work(base_copy: Path, tmp_path: Path, use: str) -> None:
    """Words added to the tokenizer alone: the error names one, the rows of the table, and what to do."""
    rows = embedding_rows(find_base(str(base_copy)))
    change_tokenizer(base_copy, lambda tokenizer: tokenizer.add_tokens(["ottoman", "divan"]))
    with pytest.raises(InputError, match="no embedding") as caught:
        if use == "zero-shot":
            zero_shot_pricer(str(base_copy), price_range=RANGE, currency="USD")
        else:
            kind = {"lora_bins": LoraBins, "lora_tokens": LoraTokens}[use]
            fit_model(
                kind(base=str(base_copy)), open_catalog(make_catalog(tmp_path / "catalog", 300)), tmp_path / "run"
            )
    assert caught.value.got == f"token 'ottoman' with id {rows}, and 1 more"
    assert f"0 to {rows - 1}" in caught.value.allowed
    assert "resize_token_embeddings" in caught.value.hint
    assert not (tmp_path / "run").exists()
    assert not (tmp_path / ".run.building").exists()


def test_the_advice_works(base_copy: Path) -> None:
    """With the embeddings resized and saved, as the error says, the base loads and prices."""
    import torch
    from transformers import AutoModelForCausalLM

    change_tokenizer(base_copy, lambda tokenizer: tokenizer.add_tokens(["ottoman", "divan"]))
    tokenizer = AutoTokenizer.from_pretrained(base_copy)
    model = AutoModelForCausalLM.from_pretrained(base_copy)
    torch.manual_seed(0)
    model.resize_token_embeddings(len(tokenizer))
    model.save_pretrained(base_copy)
    pricer = zero_shot_pricer(str(base_copy), price_range=RANGE, currency="USD")
    assert len(pricer.price([item.listing for item in make_items(3)[0]])) == 3


def test_a_special_token_that_no_listing_can_hold_is_allowed(base_copy: Path) -> None:
    """Gemma 3's tokenizer has an image token that its text models do not embed."""
    change_tokenizer(
        base_copy, lambda tokenizer: tokenizer.add_special_tokens({"additional_special_tokens": ["<image>"]})
    )
    tokenizer = load_tokenizer(find_base(str(base_copy)))
    assert tokenizer.convert_tokens_to_ids("<image>") >= embedding_rows(find_base(str(base_copy)))
    quote = zero_shot_pricer(str(base_copy), price_range=RANGE, currency="USD").price(
        [type(make_items(1)[0][0].listing)("1", "lamp <image> red", "<image>")]
    )
    assert len(quote) == 1


@pytest.mark.parametrize("missing", [True, False], ids=["missing", "without an embedding"])
def test_a_pad_token_that_cannot_be_used_is_replaced(base_copy: Path, missing: bool) -> None:
    """Nothing looks at a pad, so any embedded token serves; quotes are the same."""
    listings = [item.listing for item in make_items(5)[0]]
    before = zero_shot_pricer(str(base_copy), price_range=RANGE, currency="USD", dtype="float32").price(listings)
    if missing:
        change_tokenizer(base_copy, lambda tokenizer: setattr(tokenizer, "pad_token", None))
    else:
        change_tokenizer(base_copy, lambda tokenizer: tokenizer.add_special_tokens({"pad_token": "[PAD]"}))
    tokenizer = load_tokenizer(find_base(str(base_copy)))
    assert tokenizer.pad_token_id == tokenizer.eos_token_id
    after = zero_shot_pricer(str(base_copy), price_range=RANGE, currency="USD", dtype="float32").price(listings)
    assert [quote.price for quote in after] == pytest.approx([quote.price for quote in before], rel=1e-4)


def test_a_chat_mark_without_an_embedding_is_refused(base_copy: Path) -> None:
    """A template that was changed together with new marks, without resizing the model; plain prompts still work."""

    def change(tokenizer: Any) -> None:
        tokenizer.add_special_tokens({"additional_special_tokens": ["<|im_start|>"]})
        tokenizer.chat_template = tokenizer.chat_template.replace("<|turn|>", "<|im_start|>")

    change_tokenizer(base_copy, change)
    with pytest.raises(InputError, match="no embedding") as caught:
        zero_shot_pricer(str(base_copy), price_range=RANGE, currency="USD")
    assert "<|im_start|>" in caught.value.got
    assert "style plain" in caught.value.hint
    assert zero_shot_pricer(str(base_copy), price_range=RANGE, currency="USD", style="plain").price(
        [make_items(1)[0][0].listing]
    )


def test_an_end_token_without_an_embedding_is_refused(base_copy: Path) -> None:
    """It is what a tuned model learns to write."""
    change_tokenizer(base_copy, lambda tokenizer: tokenizer.add_special_tokens({"eos_token": "<|done|>"}))
    with pytest.raises(InputError, match="no embedding") as caught:
        load_tokenizer(find_base(str(base_copy)))
    assert "<|done|>" in caught.value.got


@pytest.mark.parametrize("name", ["pad_token_id", "bos_token_id", "eos_token_id"])
def test_a_configuration_with_ids_outside_the_table_is_refused(base_copy: Path, name: str) -> None:
    """torch would end in an assertion."""
    edit_config(base_copy, **{name: 10**6})
    with pytest.raises(InputError, match="does not fit its embedding table") as caught:
        zero_shot_pricer(str(base_copy), price_range=RANGE, currency="USD")
    assert name in caught.value.got


def test_a_vocabulary_with_gaps_is_measured_by_its_ids(base_copy: Path) -> None:
    """Fewer tokens than rows, and still one id too high."""
    path = base_copy / "tokenizer.json"
    whole = json.loads(path.read_text())
    vocabulary = whole["model"]["vocab"]
    rows = embedding_rows(find_base(str(base_copy)))
    for word in ("lamp", "\u0120lamp"):
        vocabulary.pop(word, None)
    vocabulary["sofa"] = rows + 5
    path.write_text(json.dumps(whole))
    assert len(vocabulary) <= rows
    with pytest.raises(InputError, match="no embedding") as caught:
        load_tokenizer(find_base(str(base_copy)))
    assert f"'sofa' with id {rows + 5}" in caught.value.got


def test_gaps_inside_the_table_do_no_harm(base_copy: Path) -> None:
    """Rows that no token has, as publishers pad their tables."""
    path = base_copy / "tokenizer.json"
    whole = json.loads(path.read_text())
    for word in ("lamp", "\u0120lamp"):
        whole["model"]["vocab"].pop(word, None)
    path.write_text(json.dumps(whole))
    pricer = zero_shot_pricer(str(base_copy), price_range=RANGE, currency="USD")
    assert len(pricer.price([item.listing for item in make_items(3)[0]])) == 3


def test_a_configuration_that_names_another_size_than_the_weights_is_refused(base_copy: Path) -> None:
    """A vocab_size that was edited to silence the error is found when the weights are read."""
    change_tokenizer(base_copy, lambda tokenizer: tokenizer.add_tokens(["ottoman"]))
    edit_config(base_copy, vocab_size=embedding_rows(find_base(str(base_copy))) + 1)
    with pytest.raises(InputError, match="other shapes than"):
        zero_shot_pricer(str(base_copy), price_range=RANGE, currency="USD")


def test_a_tuned_model_whose_base_has_got_new_words_is_refused(base_copy: Path, tmp_path: Path) -> None:
    """Loading checks again: the base's folder may have changed since."""
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "catalog.json").write_text(json.dumps({"price_range": [0.01, 5000.0], "currency": "USD"}))
    items, _ = make_items(60)
    settings: dict[str, Any] = {"lora_r": 2, "epochs": 0.1, "minutes": 0, "n_evals": 1, "head_init_rows": 0}
    LoraBins(base=str(base_copy), **settings).fit(items[20:], items[:19], tmp_path / "run")
    assert load_adapter(tmp_path / "run").price([items[0].listing])[0].price
    change_tokenizer(base_copy, lambda tokenizer: tokenizer.add_tokens(["ottoman"]))
    with pytest.raises(InputError, match="no embedding"):
        load_adapter(tmp_path / "run")
