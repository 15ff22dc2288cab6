"""Distributions read from a model: token trees equal plain forward passes, bins equal stock classification."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from peft import LoraConfig, get_peft_model
from tests.pricers.llm.architectures import random_model, small_config
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForSequenceClassification, AutoTokenizer

from pricesmith.core.errors import InputError, UsageError
from pricesmith.core.types import Listing
from pricesmith.pricers.llm.distribution import PriceDistribution
from pricesmith.pricers.llm.readout import TREE_CACHE, PriceBins, TokenReader, get_head, hidden_states_at, inner_model
from pricesmith.testing import make_model
from pricesmith.text.prompts import Prompt

LoadTiny = Callable[..., tuple[Any, Any]]
LISTINGS = [
    Listing("1", "Garden hose", "brass kg 25"),
    Listing("2", "", ""),
    Listing("3", "Lamp", "red brass pump with a long cable and more of it " * 2),
]


@pytest.fixture(scope="module")
def load_tiny(tmp_path_factory: pytest.TempPathFactory) -> LoadTiny:
    """`load_tiny(group, numbers)` is a tiny model and its tokenizer."""
    known: dict[tuple[str, str], tuple[Any, Any]] = {}

    def get(group: Any = "llama", numbers: Any = "digits") -> tuple[Any, Any]:
        if (group, numbers) not in known:
            folder = make_model(tmp_path_factory.mktemp(f"{group}-{numbers}"), group=group, numbers=numbers)
            model = AutoModelForCausalLM.from_pretrained(folder).eval()
            known[group, numbers] = (model, AutoTokenizer.from_pretrained(folder))
        return known[group, numbers]

    return get


@torch.inference_mode()
def forward(model: Any, rows: list[list[int]]) -> torch.Tensor:
    """What comes next after each row, by plain forwards of the whole model [rows, vocabulary]."""
    logits = [
        model(torch.tensor(rows[at : at + 200]), use_cache=False).logits[:, -1] for at in range(0, len(rows), 200)
    ]
    return torch.cat(logits).double().softmax(1)


def by_forwards(model: Any, reader: TokenReader, prompt: list[int]) -> dict[int, float]:
    """The mass of every number of the range, each token by a forward of its own without a cache."""
    numbers = reader.numbers
    written = {n: tuple(numbers.encode(n)) for n in range(numbers.low, numbers.high + 1)}
    prefixes = {ids[:at] for ids in written.values() for at in range(len(ids) + 1)}
    after: dict[tuple[int, ...], torch.Tensor] = {}
    for length in {len(prefix) for prefix in prefixes if len(prefix) <= numbers.depth}:
        group = sorted(prefix for prefix in prefixes if len(prefix) == length)
        after |= dict(zip(group, forward(model, [[*prompt, *prefix] for prefix in group]), strict=True))
    probabilities = {}
    for n, ids in written.items():
        mass = float(np.prod([float(after[ids[:at]][token]) for at, token in enumerate(ids)]))
        may_go_on = len(ids) < numbers.depth and len(str(n)) % numbers.most == 0
        probabilities[n] = mass * (1 - float(after[ids][numbers.continuations].sum()) if may_go_on else 1)
    return probabilities


def masses(distribution: PriceDistribution | None) -> dict[int, float]:
    """A distribution's unnormalized masses by price."""
    assert distribution is not None
    return dict(
        zip(distribution.values.astype(int).tolist(), (distribution.mass * distribution.covered).tolist(), strict=True)
    )


def same(model: Any, reader: TokenReader, prompts: list[list[int]]) -> None:
    """Asserts that every number's mass is that of plain forwards."""
    for prompt, distribution in zip(prompts, reader.read(model, prompts), strict=True):
        expected = by_forwards(model, reader, prompt)
        got = masses(distribution)
        top = max(expected.values())
        assert max(abs(expected[n] - got.get(n, 0.0)) for n in expected) <= 1e-4 * top
        assert set(got) <= set(expected)


@pytest.mark.parametrize("group", ["llama", "gemma3"])
@pytest.mark.parametrize("numbers", ["digits", "single"])
def test_the_tree_is_every_numbers_probability(load_tiny: LoadTiny, group: str, numbers: str) -> None:
    """From 1 to 999, the mass of each number is the product of its tokens' and of its end."""
    model, tokenizer = load_tiny(group, numbers)
    reader = TokenReader(tokenizer, (0.5, 999.49), min_branch=0, min_mass=0)
    same(model, reader, Prompt().encode(tokenizer, LISTINGS))


@pytest.mark.parametrize("numbers", ["digits", "single"])
@pytest.mark.parametrize("price_range", [(3.0, 87.0), (40.0, 41.0), (250.0, 1150.0)])
def test_only_prices_of_the_range_are_read(load_tiny: LoadTiny, numbers: str, price_range: tuple[float, float]) -> None:
    """Numbers outside the range have no mass, and those inside keep theirs."""
    model, tokenizer = load_tiny("llama", numbers)
    reader = TokenReader(tokenizer, price_range, min_branch=0, min_mass=0, beam=10**9)
    prompts = Prompt().encode(tokenizer, LISTINGS[:1])
    same(model, reader, prompts)
    (distribution,) = reader.read(model, prompts)
    assert distribution is not None
    assert price_range[0] <= distribution.values.min() <= distribution.values.max() <= price_range[1]


@pytest.mark.parametrize("kind", TREE_CACHE.split())
def test_the_tree_reads_every_architecture_it_accepts(load_tiny: LoadTiny, kind: str) -> None:
    """Windows shorter than the prompt, several kinds of layers, capped and scaled logits: as plain forwards."""
    _, tokenizer = load_tiny()
    model = random_model(small_config(kind, len(tokenizer)))
    reader = TokenReader(tokenizer, (1, 120), min_branch=0, min_mass=0)
    prompts = Prompt().encode(tokenizer, LISTINGS)
    assert max(map(len, prompts)) > 32
    same(model, reader, prompts)


@pytest.mark.parametrize("numbers", ["digits", "single"])
def test_a_batch_of_one_is_as_a_batch_of_many(load_tiny: LoadTiny, numbers: str) -> None:
    """Other prompts in the batch, and their padding, do not change a distribution."""
    model, tokenizer = load_tiny("gemma3", numbers)
    reader = TokenReader(tokenizer, (1, 999), min_mass=0)
    prompts = Prompt().encode(tokenizer, LISTINGS)
    together = reader.read(model, prompts)
    for prompt, distribution in zip(prompts, together, strict=True):
        (alone,) = reader.read(model, [prompt])
        assert masses(alone) == pytest.approx(masses(distribution), rel=1e-4)
    assert reader.read(model, []) == []


def test_the_mass_of_skipped_branches_is_estimated(load_tiny: LoadTiny) -> None:
    """Branches under the cut are estimated: the distribution stays near the whole one; `covered` is the mass read."""
    model, tokenizer = load_tiny()
    prompts = Prompt().encode(tokenizer, LISTINGS)
    whole = TokenReader(tokenizer, (1, 999), min_branch=0, min_mass=0).read(model, prompts)
    for cut, far in ((1e-3, 0.01), (0.02, 0.1)):
        cuts = TokenReader(tokenizer, (1, 999), min_branch=cut, min_mass=0).read(model, prompts)
        for estimate, full in zip(cuts, whole, strict=True):
            assert estimate is not None
            assert full is not None
            assert estimate.mass.sum() == pytest.approx(1)
            assert estimate.covered <= full.covered + 1e-9
            assert estimate.covered >= full.covered * (1 - 100 * cut)
            ours, theirs = (
                dict(zip(distribution.values.tolist(), distribution.mass.tolist(), strict=True))
                for distribution in (estimate, full)
            )
            upto = np.cumsum(
                [[masses_by_number.get(float(n), 0.0) for n in range(1, 1000)] for masses_by_number in (ours, theirs)],
                axis=1,
            )
            assert abs(upto[0] - upto[1]).max() < far


def test_a_beam_above_999_stays_near_the_whole_distribution(load_tiny: LoadTiny) -> None:
    """Long numbers are read with a bounded number of branches: the mass of the others is estimated."""
    model, tokenizer = load_tiny()
    prompts = Prompt().encode(tokenizer, LISTINGS)[:1]
    (full,) = TokenReader(tokenizer, (1, 19_999), min_branch=0, min_mass=0, beam=10**9).read(model, prompts)
    (beam,) = TokenReader(tokenizer, (1, 19_999), min_branch=0, min_mass=0, beam=20).read(model, prompts)
    assert full is not None
    assert beam is not None
    assert len(full.values) == 19_999
    assert beam.covered < full.covered
    for q in (0.1, 0.5, 0.9):
        assert beam.quantile(q) == pytest.approx(full.quantile(q), rel=0.2)


def test_a_model_that_writes_no_numbers_has_no_answer(load_tiny: LoadTiny) -> None:
    """Under 1 % of the mass on whole prices is None, not a guess."""
    model, tokenizer = load_tiny()
    prompts = Prompt().encode(tokenizer, LISTINGS)
    assert TokenReader(tokenizer, (1, 999), min_mass=0.9).read(model, prompts) == [None] * len(prompts)


@pytest.mark.parametrize("numbers", ["digits", "single"])
def test_an_answer_is_the_whole_number_and_one_end(load_tiny: LoadTiny, numbers: str) -> None:
    """The answer's tokens decode to the nearest whole price and are the tokens that follow the prompt."""
    _, tokenizer = load_tiny("llama", numbers)
    reader = TokenReader(tokenizer, (1, 99_999))
    ending = Prompt().ending

    @settings(max_examples=60)
    @given(price=st.floats(0.01, 99_999))
    def holds(price: float) -> None:
        *ids, end = reader.answer(price)
        assert end == tokenizer.eos_token_id
        assert tokenizer.decode(ids) == str(max(1, int(price + 0.5)))
        assert tokenizer(ending + tokenizer.decode(ids))["input_ids"] == [*tokenizer(ending)["input_ids"], *ids]

    holds()


def test_a_tokenizer_that_mixes_its_numbers_is_refused() -> None:
    """Where "12" is one token and "123" is two, no tree can count the mass."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    letters = [*"0123456789$ 12345Prices", "12"]
    vocabulary = {letter: index for index, letter in enumerate(dict.fromkeys(["</s>", *letters]))}
    load_tiny = Tokenizer(models.BPE(vocab=vocabulary, merges=[("1", "2")]))
    load_tiny.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=load_tiny, eos_token="</s>")
    with pytest.raises(UsageError, match="neither digit by digit"):
        TokenReader(tokenizer, (1, 999))


def test_an_unknown_architecture_is_refused(load_tiny: LoadTiny) -> None:
    """A model whose cache or positions work differently would be read wrongly."""
    _, tokenizer = load_tiny()
    config = AutoConfig.for_model("opt", vocab_size=len(tokenizer), hidden_size=32, ffn_dim=32, num_hidden_layers=1)
    config.num_attention_heads = config.word_embed_proj_dim // config.word_embed_proj_dim
    config.word_embed_proj_dim = 32
    model = AutoModelForCausalLM.from_config(config).eval()
    with pytest.raises(UsageError, match="cannot be read"):
        TokenReader(tokenizer, (1, 999)).read(model, Prompt().encode(tokenizer, LISTINGS))


@pytest.mark.parametrize("group", ["llama", "gemma3"])
def test_states_and_head_are_the_models_logits(load_tiny: LoadTiny, group: str) -> None:
    """At chosen places, padded or packed, and also inside a PEFT model."""
    model, tokenizer = load_tiny(group)
    prompts = Prompt().encode(tokenizer, LISTINGS)
    columns = max(map(len, prompts))
    ids = torch.tensor([[*prompt, *[0] * (columns - len(prompt))] for prompt in prompts])
    places = torch.tensor([row * columns + len(prompt) - 1 for row, prompt in enumerate(prompts)])
    expected = torch.cat([model(torch.tensor([prompt])).logits[:, -1] for prompt in prompts])
    torch.testing.assert_close(get_head(model)(hidden_states_at(model, ids, places)), expected, atol=1e-4, rtol=1e-4)
    packed = torch.tensor([[token for prompt in prompts for token in prompt]])
    positions = torch.tensor([[index for prompt in prompts for index in range(len(prompt))]])
    ends = torch.tensor([len(prompt) for prompt in prompts]).cumsum(0) - 1
    logits = get_head(model)(hidden_states_at(model, packed, ends, positions=positions))
    torch.testing.assert_close(logits, expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("group", ["llama", "gemma3"])
def test_stock_classification_pools_where_we_read(tmp_path: Path, group: Any) -> None:
    """AutoModelForSequenceClassification, padded on either side, gives the logits of our states and head."""
    folder = make_model(tmp_path, group=group)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    torch.manual_seed(0)
    model = AutoModelForSequenceClassification.from_pretrained(folder, num_labels=8, dtype=torch.float32).eval()
    prompts = Prompt().encode(tokenizer, LISTINGS)
    columns = max(map(len, prompts))
    pads = [[tokenizer.pad_token_id] * (columns - len(prompt)) for prompt in prompts]
    right = torch.tensor([[*prompt, *pad] for prompt, pad in zip(prompts, pads, strict=True)])
    left = torch.tensor([[*pad, *prompt] for prompt, pad in zip(prompts, pads, strict=True)])
    places = torch.tensor([row * columns + len(prompt) - 1 for row, prompt in enumerate(prompts)])
    ours = get_head(model)(hidden_states_at(model, right, places))
    for ids in (right, left):
        mask = (ids != tokenizer.pad_token_id).long()
        torch.testing.assert_close(model(ids, attention_mask=mask).logits, ours, atol=1e-4, rtol=1e-4)
    with warnings.catch_warnings():  # peft 0.21 asks transformers 5.23 for an attribute under its old name
        warnings.filterwarnings("ignore", message="`is_gradient_checkpointing`", category=FutureWarning)
        adapted = get_peft_model(model, LoraConfig(task_type="SEQ_CLS", r=2, target_modules="all-linear")).eval()
    torch.testing.assert_close(get_head(adapted)(hidden_states_at(adapted, right, places)), ours, atol=1e-4, rtol=1e-4)
    assert inner_model(adapted) is not adapted


def test_soft_labels_are_a_normal_cut_into_bins() -> None:
    """HL-Gauss: the mass of each bin is the normal's, at the ends and beyond them too; it sums to 1."""
    from scipy.stats import norm

    bins = PriceBins.from_prices([1.0, 1000.0], 24)
    prices = torch.tensor([1.0, 7.5, 320.0, 1000.0, 5000.0], dtype=torch.float64)
    targets = bins.targets(prices, 0.75).numpy()
    logs = np.log(bins.edges)
    width = logs[1] - logs[0]
    for row, price in zip(targets, np.clip(prices.numpy(), 1, 1000), strict=True):
        expected = np.diff(norm.cdf(logs, np.log(price), 0.75 * width))
        np.testing.assert_allclose(row, expected / expected.sum(), atol=1e-12)
    assert targets.sum(1) == pytest.approx(np.ones(5))
    assert float(bins.loss(torch.zeros(5, 24), torch.tensor(targets))) == pytest.approx(np.log(24))


@settings(max_examples=60)
@given(price=st.floats(1.01, 990), k=st.integers(8, 200), sigma=st.floats(0.3, 2))
def test_a_soft_label_reads_back_as_its_price(price: float, k: int, sigma: float) -> None:
    """A head that learnt its target perfectly quotes the price, to a fraction of a bin away from the ends."""
    bins = PriceBins.from_prices([0.1, 10_000.0], k)
    target = bins.targets(torch.tensor([price], dtype=torch.float64), sigma)
    width = np.log(bins.edges[1] / bins.edges[0])
    # Nearer to an end than two sigmas, the label loses mass there and its median moves inwards.
    assume(min(np.log(price / bins.edges[0]), np.log(bins.edges[-1] / price)) >= 2 * sigma * width)
    (distribution,) = bins.read(target.log())
    assert abs(np.log(distribution.median() / price)) < 0.5 * width
    assert distribution.quantile(0.05) <= distribution.median() <= distribution.quantile(0.95)


def test_quantiles_of_bins_lie_inside_them_on_the_log_scale() -> None:
    """Half of the mass of one bin is its geometric middle."""
    (distribution,) = PriceBins((1.0, 4.0, 16.0)).read(torch.tensor([[50.0, -50.0]]))
    assert distribution.median() == pytest.approx(2.0)
    assert distribution.quantile(0.25) == pytest.approx(4**0.25)
    assert distribution.quantile(1.0) == pytest.approx(4.0)


def test_quantiles_of_whole_prices_are_prices() -> None:
    """The median is the least price with half of the mass up to it."""
    distribution = PriceDistribution(np.array([3.0, 5.0, 9.0]), np.array([0.5, 0.3, 0.2]))
    assert [distribution.quantile(q) for q in (0.0, 0.5, 0.51, 0.8, 0.95, 1.0)] == [3.0, 3.0, 5.0, 5.0, 9.0, 9.0]


@pytest.mark.parametrize("prices", [[5.0], [5.0, 5.0], [0.5, 900.0]])
def test_bins_hold_their_prices(prices: list[float]) -> None:
    """Also where all prices are the same one."""
    edges = PriceBins.from_prices(prices, 16).edges
    assert len(edges) == 17
    assert edges[0] <= min(prices) <= max(prices) <= edges[-1] * (1 + 1e-12)


@pytest.mark.parametrize("edges", [(), (1.0,), (0.0, 1.0), (2.0, 1.0), (1.0, 1.0)])
def test_edges_that_are_none_are_refused(edges: tuple[float, ...]) -> None:
    """They come from a file."""
    with pytest.raises(InputError):
        PriceBins(edges)
