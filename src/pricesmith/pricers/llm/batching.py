"""The batches of a training and their tensors: batches with a token budget and little padding.

The batches of an epoch are a pure function of (lengths, seed, epoch, budget), so that an interrupted training resumes
with the same batches. Two layouts of a batch:

* padded: examples of similar length, padded on the right; causal attention never attends to padding;
* packed: examples concatenated in one row, each with positions from 0 and without a mask, by which transformers
  separates them (with a mask of ones each would attend to those before it).

>>> pack_batches([3, 9, 4, 8], seed=0, epoch=0, tokens_per_batch=18)
[[3, 1], [0, 2]]
"""

from __future__ import annotations

import math
from array import array
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypedDict, TypeVar

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.utils.data import Sampler

from pricesmith.core.progress import SILENT, Progress, format_duration
from pricesmith.core.types import Item, Listing
from pricesmith.pricers.llm.readout import PriceBins, get_head, hidden_states_at

T = TypeVar("T")
EVAL_SHARE = 0.2  # of the minutes, at most
CALIBRATION_SHARE = 0.2  # likewise, for pricing the rows that intervals are calibrated on
MIN_EVAL_ITEMS = 100
MIN_CALIBRATION_ROWS = 200  # fewer do not give reliable 90 % intervals
MIN_STEPS = 10
PLANNED_SHARE = 0.95  # of the time for steps: the speed of a machine varies
SAVE_SECONDS = 180.0  # between checkpoints: work that an interruption may cost
SORT_WINDOW = 64  # batches that are sorted by length together: 1-2 % of padding, and batches are still random


@dataclass(frozen=True, slots=True)
class Example:
    """A prompt's token ids, the ids of its answer (empty for price bins) and the true price."""

    prompt: Sequence[int]
    answer: Sequence[int]
    price: float

    def __len__(self) -> int:
        """The number of input positions: the last token of an answer is predicted, not read."""
        return len(self.prompt) + max(0, len(self.answer) - 1)


def build_examples(
    items: Sequence[Item],
    encode: Callable[[Sequence[Listing]], list[list[int]]],
    answer: Callable[[float], Sequence[int]] | None,
    progress: Progress = SILENT,
) -> list[Example]:
    """Items as examples, in order: `encode` returns prompts of listings, `answer` the token ids of a price."""
    progress.start("tokenizing listings", len(items))
    examples: list[Example] = []
    for start in range(0, len(items), 2000):
        chunk = items[start : start + 2000]
        for ids, item in zip(encode([item.listing for item in chunk]), chunk, strict=True):
            # Four bytes a token: lists of 70 million Python integers would take gigabytes.
            examples.append(Example(array("i", ids), tuple(answer(item.price)) if answer else (), item.price))
        progress.advance(len(chunk))
    return examples


def pack_batches(
    lengths: Sequence[int], seed: int, epoch: int, tokens_per_batch: int, *, packed: bool = False
) -> list[list[int]]:
    """The batches of an epoch, each a list of indexes into `lengths`; every index once. An example over the budget is a
    batch of its own."""
    rng = np.random.default_rng([seed, epoch])
    sizes = np.asarray(lengths, dtype=np.int64)
    order = rng.permutation(len(sizes))
    if packed:
        return truncate(order, sizes, tokens_per_batch, packed=True)
    batches: list[list[int]] = []
    ends = np.searchsorted(np.cumsum(sizes[order]), np.arange(1, len(sizes) + 1) * (SORT_WINDOW * tokens_per_batch))
    for window in np.split(order, np.unique(ends[ends < len(order)])):
        batches += truncate(window[np.argsort(sizes[window], kind="stable")], sizes, tokens_per_batch, packed=False)
    return [batches[index] for index in rng.permutation(len(batches))]


def truncate(order: NDArray[np.int64], sizes: NDArray[np.int64], budget: int, *, packed: bool) -> list[list[int]]:
    """The indexes of `order` in consecutive batches whose positions, padding included, are within the budget."""
    batches: list[list[int]] = []
    batch: list[int] = []
    total = longest = 0
    for index in order.tolist():
        size = int(sizes[index])
        cost = total + size if packed else max(longest, size) * (len(batch) + 1)
        if batch and cost > budget:
            batches.append(batch)
            batch, total, longest = [], 0, 0
        batch.append(index)
        total, longest = total + size, max(longest, size)
    return [*batches, batch] if batch else batches


def divide_batch(batch: Sequence[T], rank: int, size: int) -> tuple[Sequence[T], float]:
    """What process `rank` of `size` computes of a batch, and the weight of its mean loss.

    Neighbors in a batch have similar lengths, so every process gets every `size`-th element and as many tokens as the
    others. The mean over the processes of weight x mean loss is the mean loss of the batch. A process for which there
    is no element computes the first one with weight 0, because all processes average their gradients together.

    >>> divide_batch("abc", 0, 2), divide_batch("abc", 1, 2)
    (('ac', 1.3333333333333333), ('b', 0.6666666666666666))
    """
    part = batch[rank::size]
    if not part:
        return batch[:1], 0.0
    return part, len(part) * size / len(batch)


def padding_share(lengths: Sequence[int], batches: Sequence[Sequence[int]]) -> float:
    """The share of padding among all positions of padded batches."""
    real = sum(lengths[index] for batch in batches for index in batch)
    positions = sum(len(batch) * max(lengths[index] for index in batch) for batch in batches)
    return 1 - real / positions if positions else 0.0


class PlannedBatches(Sampler[list[int]]):
    """The batches of epochs 0, 1, ... in sequence, `steps` in all: one long epoch for a Trainer."""

    def __init__(
        self, lengths: Sequence[int], seed: int, tokens_per_batch: int, steps: int, *, packed: bool = False
    ) -> None:
        self.lengths, self.seed, self.tokens_per_batch = lengths, seed, tokens_per_batch
        self.steps, self.packed = steps, packed
        self.sizes: list[int] = []  # number of batches of each epoch so far

    def __len__(self) -> int:
        return self.steps

    def __iter__(self) -> Iterator[list[int]]:
        left, epoch = self.steps, 0
        while left > 0:
            batches = pack_batches(self.lengths, self.seed, epoch, self.tokens_per_batch, packed=self.packed)
            self.sizes[epoch:] = [len(batches)]
            yield from batches[:left]
            left, epoch = left - len(batches), epoch + 1

    def describe(self) -> str:
        """The number of examples and tokens, in words."""
        tokens, examples = sum(self.lengths), len(self.lengths)
        return f"{examples:,} examples, {tokens:,} tokens ({tokens / examples:.0f} each)"

    def describe_limit(self, epochs: float, minutes: float) -> str:
        """The rows, their steps and the limit of the training, in words, before anything was timed."""
        steps = math.ceil(sum(self.lengths) / self.tokens_per_batch)
        limit = f" or {minutes:g} minutes" if minutes else ""
        return (
            f"{self.describe()}: about {steps:,} steps of {self.tokens_per_batch:,} tokens an epoch, at most "
            f"{format_epochs(epochs)}{limit}."
        )

    def epoch_after(self, step: int) -> float:
        """Epochs done after `step` batches; a part of an epoch by its share of the batches."""
        for epoch, size in enumerate(self.sizes):
            if step <= size:
                return epoch + step / size
            step -= size
        return float(len(self.sizes))


def count_steps(
    lengths: Sequence[int], seed: int, tokens_per_batch: int, epochs: float, *, packed: bool = False
) -> int:
    """The number of steps of `epochs` epochs; a part of an epoch by its share of the steps."""
    whole = [len(pack_batches(lengths, seed, epoch, tokens_per_batch, packed=packed)) for epoch in range(int(epochs))]
    part = epochs - int(epochs)
    if part:
        whole.append(round(part * len(pack_batches(lengths, seed, int(epochs), tokens_per_batch, packed=packed))))
    return max(1, sum(whole))


@dataclass(frozen=True, slots=True)
class Throughput:
    """Measured before the first step: seconds of training a position and of pricing an item, and peak memory in GB."""

    position_seconds: float
    item_seconds: float
    memory_gb: float


@dataclass(frozen=True, slots=True)
class Schedule:
    """The schedule of a training, stored in `plan.json` so that a resumed training has the same one."""

    steps: int
    epochs: float
    log_every: int
    save_every: int
    n_evals: int
    eval_items: int  # validation items in an evaluation
    seconds: float  # of all steps and evaluations, estimated from the measured speed
    memory_gb: float
    padding: float
    head_rows: int = 0  # rows that the head of price bins was initialized from
    calibration_rows: int | None = None  # at most, to calibrate intervals on; None: all
    training_seconds: float = 0.0  # for steps and evaluations, at most; 0: no limit
    item_seconds: float = 0.0  # of pricing an item, as measured

    @property
    def needed_seconds(self) -> float:
        """Seconds of all steps, evaluations and calibration."""
        return self.seconds + (self.calibration_rows or 0) * self.item_seconds

    def is_over(self, seconds: float) -> bool:
        """Whether, after `seconds` of training, only the time for the last evaluation is left."""
        return 0 < self.training_seconds <= seconds + self.eval_items * self.item_seconds

    def evaluates_after(self, step: int) -> bool:
        """Whether an evaluation follows this step; one always follows the last step, if there are any."""
        return self.eval_items > 0 and step * self.n_evals // self.steps > (step - 1) * self.n_evals // self.steps

    def describe(self, batches: PlannedBatches) -> str:
        """The schedule and its estimated time and memory, in words."""
        calibrating = (self.calibration_rows or 0) * self.item_seconds
        return (
            f"{batches.describe()}, {self.padding:.1%} padding, "
            f"{self.steps:,} steps of {batches.tokens_per_batch:,} tokens ({format_epochs(self.epochs)}), "
            f"{self.n_evals} evaluations on {self.eval_items} items: about {format_duration(self.seconds)}"
            + (f" and {format_duration(calibrating)} to calibrate intervals" if calibrating >= 1 else "")
            + f", {self.memory_gb:.1f} GB of memory at the peak so far."
        )

    @classmethod
    def build(
        cls,
        batches: PlannedBatches,
        pace: Throughput,
        *,
        epochs: float,
        left: float,
        n_evals: int,
        n_validation: int,
        n_calibration: int = 0,
        head_rows: int = 0,
    ) -> Schedule:
        """The schedule of `epochs` epochs, or of the steps that fit into `left` seconds with all evaluations.

        `n_validation`: validation items; `n_calibration`: rows to calibrate intervals on. Evaluations (one before the
        first step, then `n_evals`) and calibration take a fifth of the time each at most: first the items become fewer,
        then the evaluations. If that leaves no time for MIN_STEPS steps, everything is reduced to its minimum;
        `needed_seconds` of the minimum may still exceed `left`, which the caller has to check.
        """
        layout = (batches.lengths, batches.seed)
        first = pack_batches(*layout, 0, batches.tokens_per_batch, packed=batches.packed)
        padding = 0.0 if batches.packed else padding_share(batches.lengths, first)
        step_seconds = pace.position_seconds * sum(batches.lengths) / (1 - padding) / len(first)
        steps = count_steps(*layout, batches.tokens_per_batch, epochs, packed=batches.packed)
        eval_items, item, calibrated, spare = n_validation, max(pace.item_seconds, 1e-9), n_calibration, math.inf
        if left < math.inf:
            least = min(steps, MIN_STEPS)
            for share in (EVAL_SHARE * left / item, 0.0):
                eval_items = min(n_validation, max(MIN_EVAL_ITEMS, int(share / (n_evals + 1))))
                n_evals = max(2, min(n_evals, int(share / max(eval_items, 1)) - 1)) if share else 1
                rows = int(share * CALIBRATION_SHARE / EVAL_SHARE)
                calibrated = min(n_calibration, max(MIN_CALIBRATION_ROWS, rows))
                spare = left - (calibrated + (n_evals + 1) * eval_items) * item
                if spare * PLANNED_SHARE >= least * step_seconds:
                    break
            steps = max(least, min(steps, int(spare * PLANNED_SHARE / step_seconds)))
        n_evals = min(n_evals, steps)
        return cls(
            steps=steps,
            epochs=round(steps / len(first), 3),
            log_every=max(1, steps // 200),
            save_every=max(1, min(steps // n_evals, round(SAVE_SECONDS / step_seconds))),
            n_evals=n_evals,
            eval_items=eval_items,
            seconds=round(steps * step_seconds + (n_evals + 1) * eval_items * item, 1),
            memory_gb=round(pace.memory_gb, 2),
            padding=round(padding, 4),
            head_rows=head_rows,
            calibration_rows=None if left == math.inf else calibrated,
            training_seconds=0.0 if left == math.inf else round(max(spare, 0.0) + n_evals * eval_items * item, 1),
            item_seconds=pace.item_seconds,
        )


class Batch(TypedDict):
    """Tensors of one step."""

    ids: Tensor  # [rows, columns]
    positions: Tensor | None  # [rows, columns] where packed, from 0 for each example
    predict_at: Tensor  # [n]: row x columns + column of each position at which the head predicts
    labels: Tensor  # [n]: the token expected there; [0] for price bins
    example: Tensor  # [n]: the example that each position belongs to
    prices: Tensor  # [examples], float64
    tokens: int  # positions without padding


class StepBatch(Batch):
    """What this process computes of a step's batch."""

    weight: float  # of the mean loss
    step_tokens: int  # positions without padding of all processes


def collate(examples: Sequence[Example], pad: int, *, packed: bool = False) -> Batch:
    """Examples as the tensors of one step, padded on the right or packed into one row."""
    columns = sum(map(len, examples)) if packed else max(map(len, examples))
    ids: list[list[int]] = [[]] if packed else [[] for _ in examples]
    predict_at: list[int] = []
    labels: list[int] = []
    owners: list[int] = []
    for number, example in enumerate(examples):
        row = 0 if packed else number
        first = row * columns + len(ids[row]) + len(example.prompt) - 1
        predictions = max(1, len(example.answer))
        predict_at += range(first, first + predictions)
        owners += [number] * predictions
        labels += example.answer
        ids[row] += [*example.prompt, *example.answer[:-1]]
    for row_ids in ids:
        row_ids += [pad] * (columns - len(row_ids))
    return Batch(
        ids=torch.tensor(ids),
        positions=torch.tensor([[index for example in examples for index in range(len(example))]]) if packed else None,
        predict_at=torch.tensor(predict_at),
        labels=torch.tensor(labels, dtype=torch.long),
        example=torch.tensor(owners),
        prices=torch.tensor([example.price for example in examples], dtype=torch.float64),
        tokens=sum(map(len, examples)),
    )


def select_logits(model: nn.Module, batch: Batch) -> Tensor:
    """The head's logits [n, outputs] at the batch's positions `predict_at` only, in fp32, also under autocast."""
    states = hidden_states_at(model, batch["ids"], batch["predict_at"], positions=batch["positions"])
    with torch.autocast(states.device.type, enabled=False):
        logits: Tensor = get_head(model)(states)
    return logits.float()


def token_losses(model: nn.Module, batch: Batch) -> Tensor:
    """The negative log-likelihood of each example's answer, its end token included [examples]."""
    losses = F.cross_entropy(select_logits(model, batch), batch["labels"], reduction="none")
    return losses.new_zeros(len(batch["prices"])).index_add(0, batch["example"], losses)


class BinLoss:
    """Cross-entropy with a softened histogram of the price (HL-Gauss; Imani and White 2018, Farebrother 2024)."""

    def __init__(self, bins: PriceBins, sigma: float) -> None:
        self.bins, self.sigma = bins, sigma

    def __call__(self, model: nn.Module, batch: Batch) -> Tensor:
        """The loss of each example [examples]."""
        logits = select_logits(model, batch)
        targets = self.bins.targets(batch["prices"], self.sigma).to(logits)
        return F.cross_entropy(logits, targets, reduction="none")


def format_epochs(number: float) -> str:
    """`1 epoch`, `0.25 epochs`."""
    text = f"{round(number, 2):g}"
    return f"{text} epoch" if text == "1" else f"{text} epochs"
