"""The plan of batches is a law: every example once, within the budget, the same for the same seed and epoch."""

from __future__ import annotations

from itertools import islice

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pricesmith.pricers.llm.batching import (
    Example,
    PlannedBatches,
    collate,
    count_steps,
    divide_batch,
    pack_batches,
    padding_share,
)

LENGTHS = st.lists(st.integers(1, 200), min_size=1, max_size=300)


@settings(max_examples=60)
@given(LENGTHS, st.integers(0, 2**31), st.integers(0, 5), st.integers(1, 2000), st.booleans())
def test_an_epoch_has_every_example_once_within_the_budget(
    lengths: list[int], seed: int, epoch: int, budget: int, packed: bool
) -> None:
    """No row is seen twice or never; only an example that is longer than the budget goes over it, alone."""
    batches = pack_batches(lengths, seed, epoch, budget, packed=packed)
    assert sorted(index for batch in batches for index in batch) == list(range(len(lengths)))
    for batch in batches:
        sizes = [lengths[index] for index in batch]
        assert (sum(sizes) if packed else max(sizes) * len(sizes)) <= budget or len(batch) == 1


@settings(max_examples=20)
@given(LENGTHS, st.integers(0, 2**31), st.booleans())
def test_a_plan_is_a_function_of_seed_and_epoch(lengths: list[int], seed: int, packed: bool) -> None:
    """Asked again it is the same, whatever was asked between."""
    first = pack_batches(lengths, seed, 3, 400, packed=packed)
    pack_batches(lengths, seed + 1, 0, 400, packed=packed)
    assert pack_batches(lengths, seed, 3, 400, packed=packed) == first


def test_epochs_and_seeds_shuffle_anew() -> None:
    """Two epochs, and two seeds, are two orders."""
    lengths = [10 + index % 50 for index in range(500)]
    assert len({str(pack_batches(lengths, seed, epoch, 600)) for seed in range(3) for epoch in range(3)}) == 9


def test_batches_of_like_lengths_pad_little_and_come_in_any_order() -> None:
    """Sorting in windows leaves under 5 % of pads where a random batch has over 30 %; short ones do not come first."""
    lengths = [30 + index * 7919 % 150 for index in range(6000)]
    batches = pack_batches(lengths, 0, 0, 2048)
    assert padding_share(lengths, batches) < 0.05
    at_random = [list(range(start, start + 20)) for start in range(0, 6000, 20)]
    assert padding_share(lengths, at_random) > 0.3
    means = [sum(lengths[index] for index in batch) / len(batch) for batch in batches]
    assert abs(sum(means[:20]) - sum(means[-20:])) / 20 < 30
    assert means != sorted(means)


def test_the_sampler_joins_epochs_and_ends_at_its_steps() -> None:
    """plan(0), plan(1), ... one behind another: what Trainer skips on resume is what was trained."""
    lengths = [20] * 30
    per_epoch = len(pack_batches(lengths, 7, 0, 100))
    sampler = PlannedBatches(lengths, 7, 100, 2 * per_epoch + 2)
    joined = [
        *pack_batches(lengths, 7, 0, 100),
        *pack_batches(lengths, 7, 1, 100),
        *pack_batches(lengths, 7, 2, 100)[:2],
    ]
    assert list(sampler) == joined
    assert list(islice(sampler, 5, None)) == joined[5:]
    assert len(sampler) == len(joined)
    assert sampler.epoch_after(per_epoch) == 1.0
    assert sampler.epoch_after(2 * per_epoch + 2) == pytest.approx(2 + 2 / per_epoch)
    assert count_steps(lengths, 7, 100, 2.5) == 2 * per_epoch + round(per_epoch / 2)


def test_places_are_where_the_answer_is_predicted() -> None:
    """The head is asked at the prompt's last token and at all answer tokens but the last, which nothing follows."""
    examples = [Example([5, 6, 7], [40, 41, 2], 40.0), Example([8, 9], [50, 2], 5.0)]
    padded, packed = collate(examples, 0), collate(examples, 0, packed=True)
    assert padded["ids"].tolist() == [[5, 6, 7, 40, 41], [8, 9, 50, 0, 0]]
    assert padded["positions"] is None
    assert padded["predict_at"].tolist() == [2, 3, 4, 6, 7]
    assert packed["ids"].tolist() == [[5, 6, 7, 40, 41, 8, 9, 50]]
    assert packed["positions"] is not None
    assert packed["positions"].tolist() == [[0, 1, 2, 3, 4, 0, 1, 2]]
    assert packed["predict_at"].tolist() == [2, 3, 4, 6, 7]
    for batch in (padded, packed):
        assert batch["labels"].tolist() == [40, 41, 2, 50, 2]
        assert batch["example"].tolist() == [0, 0, 0, 1, 1]
        assert batch["tokens"] == 8
        assert batch["prices"].tolist() == [40.0, 5.0]


def test_bins_are_predicted_once_at_the_last_token() -> None:
    """Without an answer to write there is one place an example, and nothing behind the prompt."""
    batch = collate([Example([5, 6, 7], [], 40.0), Example([8, 9], [], 5.0)], 0)
    assert batch["ids"].tolist() == [[5, 6, 7], [8, 9, 0]]
    assert batch["predict_at"].tolist() == [2, 4]
    assert batch["labels"].tolist() == []


@given(batch=st.lists(st.floats(-9, 9), min_size=1, max_size=40), size=st.integers(1, 9))
def test_processes_divide_a_batch_and_average_to_its_mean(batch: list[float], size: int) -> None:
    """Every example is computed once, and the mean of the weighted means is the mean of the whole batch."""
    shares = [divide_batch(batch, rank, size) for rank in range(size)]
    computed = [value for part, weight in shares if weight for value in part]
    assert sorted(computed) == sorted(batch)
    assert all(part for part, _ in shares), "each process has something to compute"
    lengths = [len(part) for part, weight in shares if weight]
    assert max(lengths) - min(lengths) <= 1
    mean = sum(weight * sum(part) / len(part) for part, weight in shares) / size
    assert mean == pytest.approx(sum(batch) / len(batch), abs=1e-9)


def test_one_process_computes_the_whole_batch() -> None:
    assert divide_batch([3, 1, 2], 0, 1) == ([3, 1, 2], 1.0)
