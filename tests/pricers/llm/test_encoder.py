"""The encoder: its inputs, its loss, resumption to the same weights, and the folder that stock transformers loads."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from pricesmith.catalog.catalog import Catalog
from pricesmith.core.errors import InputError, PricesmithError, UsageError
from pricesmith.core.progress import SILENT
from pricesmith.core.types import Item, Listing
from pricesmith.pricers.fitting import fit_model
from pricesmith.pricers.llm.encoder import EncoderRecipe, EncoderTrainer, EncoderTuning, MixedLoss
from pricesmith.pricers.llm.encoder_base import encode_listings, find_encoder, frame, load_encoder
from pricesmith.pricers.llm.encoder_features import LEAST, EncoderFeatures
from pricesmith.pricers.llm.readout import PriceBins
from pricesmith.testing import make_catalog, make_encoder, make_items, make_model

SMALL: dict[str, Any] = {
    "hidden_dim": 16,
    "bins": 32,
    "epochs": 1,
    "minutes": 0,
    "n_evals": 2,
    "dtype": "float32",
    "tokens_per_batch": 512,
}


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a tiny encoder; not to be changed."""
    return make_encoder(tmp_path_factory.mktemp("base") / "tiny")


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Catalog:
    return make_catalog_of(tmp_path_factory.mktemp("shop") / "catalog")


def make_catalog_of(to: Path) -> Catalog:
    from pricesmith.catalog.catalog import open_catalog

    make_catalog(to, 400)
    return open_catalog(to)


def run_folder(tmp_path: Path, name: str = "run") -> Path:
    folder = tmp_path / name
    folder.mkdir()
    (folder / "catalog.json").write_text(json.dumps({"price_range": [0.01, 5000.0], "currency": "USD"}))
    return folder


def rows() -> tuple[list[Item], list[Item]]:
    items, _ = make_items(300)
    return items[60:], items[:60]


def test_an_interrupted_training_ends_with_the_weights_of_an_uninterrupted_one(
    encoder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Bit for bit, dropout included."""
    train, validation = rows()
    recipe = EncoderRecipe(base=str(encoder), **SMALL)
    whole, killed = run_folder(tmp_path, "whole"), run_folder(tmp_path, "killed")
    recipe.fit(train, validation, whole)
    step = EncoderTrainer.training_step

    def interrupted(trainer: EncoderTrainer, *args: Any, **kwargs: Any) -> torch.Tensor:
        if trainer.state.global_step == trainer.schedule.steps - 2:
            raise KeyboardInterrupt
        return step(trainer, *args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(EncoderTrainer, "training_step", interrupted)
        with pytest.raises(KeyboardInterrupt):
            recipe.fit(train, validation, killed)
    assert list((killed / "checkpoints").glob("checkpoint-*/complete.json"))
    assert not (killed / "encoder.json").exists()
    recipe.fit(train, validation, killed)
    for name in ("encoder/model.safetensors", "head.safetensors"):
        ours, theirs = load_file(whole / name), load_file(killed / name)
        assert ours.keys() == theirs.keys()
        assert all(torch.equal(tensor, theirs[key]) for key, tensor in ours.items())


def test_the_encoder_is_a_folder_that_stock_transformers_loads(encoder: Path, shop: Catalog, tmp_path: Path) -> None:
    """Its states are those that the pricer computes with, and all weights are tuned."""
    from transformers import AutoModel, AutoTokenizer

    fit_model(EncoderRecipe(base=str(encoder), **SMALL), shop, tmp_path / "model")
    stock = AutoModel.from_pretrained(tmp_path / "model" / "encoder").eval()
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "model" / "encoder")
    pricer = EncoderRecipe(base=str(encoder), **SMALL).load(tmp_path / "model")
    ids = torch.tensor(encode_listings(tokenizer, [shop.items("test")[0].listing], 96))
    with torch.no_grad():
        ours = pricer.model.encoder(input_ids=ids, attention_mask=torch.ones_like(ids)).last_hidden_state  # type: ignore[attr-defined]
        theirs = stock(input_ids=ids, attention_mask=torch.ones_like(ids)).last_hidden_state
    assert torch.allclose(ours, theirs, atol=1e-5)
    before, after = load_file(encoder / "model.safetensors"), stock.state_dict()
    changed = [name for name in before if not name.startswith("pooler.") and not torch.equal(before[name], after[name])]
    assert {name for name in before if not name.startswith("pooler.")} - set(changed) <= {
        "embeddings.position_embeddings.weight", "embeddings.token_type_embeddings.weight"
    }  # fmt: skip


def test_votes_are_the_prices_of_the_neighbors(encoder: Path) -> None:
    """A distribution over the bins for each listing; the row's own near-duplicate group has no vote."""
    items, _ = make_items(200)
    listings, prices = [item.listing for item in items], [item.price for item in items]
    bins = PriceBins.from_prices(prices, 16, 3)
    features, inputs = EncoderFeatures.from_items(listings, prices, bins)
    mass = np.exp(inputs.votes.astype(np.float64)) - LEAST
    assert mass.sum(axis=1) == pytest.approx(np.ones(len(items)), abs=1e-3)
    unknown = features.encode([Listing("", "zzzz qqqq", "")])
    assert np.exp(unknown.votes) - LEAST == pytest.approx(1 / 16, abs=1e-6)
    again = features.encode(listings)  # here the listing itself is its nearest neighbor
    truth = bins.targets(torch.tensor(prices, dtype=torch.float64), 2.0).numpy()
    assert (np.exp(again.votes) * truth).sum() > (np.exp(inputs.votes) * truth).sum()


def test_saved_features_give_the_same_inputs(tmp_path: Path) -> None:
    items, _ = make_items(200)
    listings, prices = [item.listing for item in items], [item.price for item in items]
    bins = PriceBins.from_prices(prices, 16, 3)
    features, _ = EncoderFeatures.from_items(listings, prices, bins)
    features.save(tmp_path)
    ours, theirs = features.encode(listings[:40]), EncoderFeatures.load(tmp_path, bins).encode(listings[:40])
    assert np.array_equal(ours.columns, theirs.columns)
    assert np.array_equal(ours.codes, theirs.codes)
    assert np.array_equal(ours.votes, theirs.votes)


def test_the_loss_mixes_cross_entropy_and_money() -> None:
    """At a certain and right prediction the part in money is nearly 0; far off it is the error over the mean price."""
    bins = PriceBins.from_prices([1.0, 1000.0], 32)
    middles = np.sqrt(np.array(bins.edges[1:]) * np.array(bins.edges[:-1]))
    logits = torch.full((2, 32), -40.0)
    logits[0, 10], logits[1, 20] = 40.0, 40.0
    batch = {name: torch.zeros(2, 1) for name in ("ids", "lengths", "columns", "codes", "votes")}
    batch["prices"] = torch.tensor([middles[10], middles[10]], dtype=torch.float64)
    losses = MixedLoss(bins, 1.0, 1.0, 50.0)(lambda *_: logits, batch)  # type: ignore[arg-type]
    assert losses.tolist() == pytest.approx([0.0, (middles[20] - middles[10]) / 50], abs=1e-5)
    entropy = MixedLoss(bins, 1.0, 0.0, 50.0)(lambda *_: torch.zeros(2, 32), batch)  # type: ignore[arg-type]
    assert entropy.tolist() == pytest.approx([math.log(32)] * 2)


def test_a_small_catalog_gets_small_batches(encoder: Path, tmp_path: Path) -> None:
    """Else the training would have a handful of steps."""
    train, validation = rows()
    recipe = EncoderRecipe(base=str(encoder), **{**SMALL, "tokens_per_batch": 4096})
    tuning = EncoderTuning(recipe, train, validation, run_folder(tmp_path), SILENT)
    assert tuning.trainer.batches.tokens_per_batch == 512
    assert tuning.batch_tokens([100] * 60_000) == 4096


def test_the_text_cannot_write_special_tokens(encoder: Path) -> None:
    """A text that spells a special token has none of its ids but those that open and close it."""
    from pricesmith.pricers.llm.base_model import load_tokenizer

    tokenizer = load_tokenizer(find_encoder(str(encoder)))
    before, after = frame(tokenizer)
    special = tokenizer.all_special_tokens[0]
    [ids] = encode_listings(tokenizer, [Listing("", f"drill {special} {special}", "")], 96)
    inside = ids[len(before) : len(ids) - len(after)]
    assert not set(inside) & set(tokenizer.all_special_ids)


def test_a_causal_model_is_refused_as_an_encoder_and_the_other_way_round(encoder: Path, tmp_path: Path) -> None:
    from pricesmith.pricers.llm.base_model import find_base

    with pytest.raises(InputError, match="cannot be used") as refused:
        find_encoder(str(make_model(tmp_path / "causal")))
    assert "bidirectional" in str(refused.value)
    with pytest.raises(InputError, match="cannot be used") as refused:
        find_base(str(encoder))
    assert "recipe encoder" in str(refused.value.hint)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"max_length": 600}, "does not fit the positions"),
        ({"base": "no such base!"}, "There is no encoder"),
        ({"revision": "main", "base": "all-minilm-l6-v2"}, r"has revisions|not installed"),
    ],
)
def test_a_wrong_setting_is_named(encoder: Path, tmp_path: Path, settings: dict[str, Any], message: str) -> None:
    train, validation = rows()
    recipe = EncoderRecipe(**{"base": str(encoder), **SMALL, **settings})
    with pytest.raises((UsageError, InputError), match=message):
        recipe.fit(train, validation, run_folder(tmp_path))


def test_a_training_of_a_wrong_learning_rate_is_an_error(encoder: Path, tmp_path: Path) -> None:
    train, validation = rows()
    recipe = EncoderRecipe(base=str(encoder), **{**SMALL, "learning_rate": 1e30, "head_learning_rate": 1e30})
    with pytest.raises(PricesmithError, match=r"diverged|not finite"):
        recipe.fit(train, validation, run_folder(tmp_path))


def test_its_own_dropout_is_off(encoder: Path) -> None:
    config = load_encoder(find_encoder(str(encoder))).config
    assert config.hidden_dropout_prob == config.attention_probs_dropout_prob == 0.0
