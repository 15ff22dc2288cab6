"""Which examples make a training step, and their tensors: a token budget a step, no padding where it can be helped.

The plan of an epoch is a pure function of (lengths, seed, epoch, budget), so that a run that was killed goes on with
the very batches it would have had. Two layouts of a batch:

* padded: examples of like length together, padded on the right; causal attention from the left never sees a pad;
* packed: examples one behind another in one row, each with positions from 0 and without a mask, which is how
  transformers tells them apart (a mask of ones would let each read those before it).

>>> plan([3, 9, 4, 8], seed=0, epoch=0, tokens_per_batch=18)
[[3, 1], [0, 2]]
"""

from __future__ import annotations

import math
from array import array
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypedDict

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.utils.data import Sampler

from pricesmith.core.progress import SILENT, Progress, format_duration
from pricesmith.core.types import Item, Listing
from pricesmith.pricers.llm.readout import PriceBins, get_head, hidden_states_at

JUDGING_SHARE = 0.2  # of a given time, at most
CALIBRATION_SHARE = 0.2  # likewise, for quotes of the rows that intervals are calibrated on
LEAST_JUDGED = 100
LEAST_CALIBRATED = 200  # rows: intervals of 90 % with some certainty
LEAST_STEPS = 10  # fewer are no training
PLANNED_SHARE = 0.95  # of the time for steps: machines are not equally fast all the time
SAVE_SECONDS = 180.0  # of work that a kill may cost
WINDOW = 64  # batches that are sorted together: lengths fit to 1-2 %, and a batch is still a random mix of goods


@dataclass(frozen=True, slots=True)
class Example:
    """A prompt's token ids, the ids of its answer (empty where the read-out is not tokens) and the true price."""

    prompt: Sequence[int]
    answer: Sequence[int]
    price: float

    def __len__(self) -> int:
        """Positions that the backbone works on: the last token of an answer is only ever predicted."""
        return len(self.prompt) + max(0, len(self.answer) - 1)


def build_examples(
    items: Sequence[Item],
    encode: Callable[[Sequence[Listing]], list[list[int]]],
    answer: Callable[[float], Sequence[int]] | None,
    progress: Progress = SILENT,
) -> list[Example]:
    """Items as examples, in order: `encode` makes prompts of listings, `answer` token ids of a price."""
    progress.start("reading listings as tokens", len(items))
    found: list[Example] = []
    for start in range(0, len(items), 2000):
        part = items[start : start + 2000]
        for ids, item in zip(encode([item.listing for item in part]), part, strict=True):
            # Four bytes a token: a list of 70 million Python numbers would be gigabytes.
            found.append(Example(array("i", ids), tuple(answer(item.price)) if answer else (), item.price))
        progress.advance(len(part))
    return found


def pack_batches(
    lengths: Sequence[int], seed: int, epoch: int, tokens_per_batch: int, *, packed: bool = False
) -> list[list[int]]:
    """The batches of an epoch, each a list of places in `lengths`; every place once. A long example stands alone."""
    draw = np.random.default_rng([seed, epoch])
    sizes = np.asarray(lengths, dtype=np.int64)
    order = draw.permutation(len(sizes))
    if packed:
        return truncate(order, sizes, tokens_per_batch, packed=True)
    batches: list[list[int]] = []
    ends = np.searchsorted(np.cumsum(sizes[order]), np.arange(1, len(sizes) + 1) * (WINDOW * tokens_per_batch))
    for window in np.split(order, np.unique(ends[ends < len(order)])):
        batches += truncate(window[np.argsort(sizes[window], kind="stable")], sizes, tokens_per_batch, packed=False)
    return [batches[place] for place in draw.permutation(len(batches))]


def truncate(order: NDArray[np.int64], sizes: NDArray[np.int64], budget: int, *, packed: bool) -> list[list[int]]:
    """`order` in consecutive batches within the budget, a batch's cost being what its layout makes of it."""
    batches: list[list[int]] = []
    batch: list[int] = []
    total = longest = 0
    for place in order.tolist():
        size = int(sizes[place])
        cost = total + size if packed else max(longest, size) * (len(batch) + 1)
        if batch and cost > budget:
            batches.append(batch)
            batch, total, longest = [], 0, 0
        batch.append(place)
        total, longest = total + size, max(longest, size)
    return [*batches, batch] if batch else batches


def padding_share(lengths: Sequence[int], batches: Sequence[Sequence[int]]) -> float:
    """The share of all positions of padded batches that are pads."""
    real = sum(lengths[place] for batch in batches for place in batch)
    laid = sum(len(batch) * max(lengths[place] for place in batch) for batch in batches)
    return 1 - real / laid if laid else 0.0


class PlannedBatches(Sampler[list[int]]):
    """The batches of plan(0), plan(1), ... one behind another, `steps` in all: one long epoch for a Trainer."""

    def __init__(
        self, lengths: Sequence[int], seed: int, tokens_per_batch: int, steps: int, *, packed: bool = False
    ) -> None:
        self.lengths, self.seed, self.tokens_per_batch = lengths, seed, tokens_per_batch
        self.steps, self.packed = steps, packed
        self.sizes: list[int] = []  # batches of each epoch that was planned so far

    def __len__(self) -> int:
        return self.steps

    def __iter__(self) -> Iterator[list[int]]:
        left, epoch = self.steps, 0
        while left > 0:
            batches = pack_batches(self.lengths, self.seed, epoch, self.tokens_per_batch, packed=self.packed)
            self.sizes[epoch:] = [len(batches)]
            yield from batches[:left]
            left, epoch = left - len(batches), epoch + 1

    def told(self) -> str:
        """What there is to learn from, for a person."""
        tokens, examples = sum(self.lengths), len(self.lengths)
        return f"{examples:,} examples, {tokens:,} tokens ({tokens / examples:.0f} each)"

    def expected(self, epochs: float, minutes: float) -> str:
        """What is known before anything was timed: the rows, the steps that they make, and what ends it."""
        steps = math.ceil(sum(self.lengths) / self.tokens_per_batch)
        limit = f" or {minutes:g} minutes" if minutes else ""
        return (
            f"{self.told()}: some {steps:,} steps of {self.tokens_per_batch:,} tokens a pass, at most "
            f"{format_epochs(epochs)}{limit}."
        )

    def epoch_after(self, step: int) -> float:
        """Passes over the examples that are done after `step` batches; a part of one by its share of the batches."""
        for epoch, size in enumerate(self.sizes):
            if step <= size:
                return epoch + step / size
            step -= size
        return float(len(self.sizes))


def count_steps(
    lengths: Sequence[int], seed: int, tokens_per_batch: int, epochs: float, *, packed: bool = False
) -> int:
    """The steps that `epochs` passes take, a part of one by its share of the steps."""
    whole = [len(pack_batches(lengths, seed, epoch, tokens_per_batch, packed=packed)) for epoch in range(int(epochs))]
    part = epochs - int(epochs)
    if part:
        whole.append(round(part * len(pack_batches(lengths, seed, int(epochs), tokens_per_batch, packed=packed))))
    return max(1, sum(whole))


@dataclass(frozen=True, slots=True)
class Throughput:
    """What was measured before the first step: seconds of a position's training and of an item's judging, memory."""

    position_seconds: float
    item_seconds: float
    memory_gb: float


@dataclass(frozen=True, slots=True)
class Schedule:
    """The whole course of a training, kept on disk so that a resumed run has the same one."""

    steps: int
    passes: float
    log_every: int
    save_every: int
    n_evals: int
    judged: int  # validation items in a judgment
    seconds: float  # of all steps and judgments, as they were measured to take
    memory_gb: float
    padding: float
    head_rows: int = 0  # rows that a head of bins was fitted to before
    calibration_rows: int | None = None  # rows that intervals are calibrated on, at most; None: all
    training_seconds: float = 0.0  # for steps and their judgments, at most; 0: as long as they take
    item_seconds: float = 0.0  # of judging an item, as measured

    @property
    def needed_seconds(self) -> float:
        """What is still to be done takes: steps, judgments, calibration."""
        return self.seconds + (self.calibration_rows or 0) * self.item_seconds

    def is_over(self, seconds: float) -> bool:
        """Whether after so many seconds of training there is just time for the last judgment."""
        return 0 < self.training_seconds <= seconds + self.judged * self.item_seconds

    def judges_after(self, step: int) -> bool:
        """Whether a judgment follows this step; the last one always does, where there are any."""
        return self.judged > 0 and step * self.n_evals // self.steps > (step - 1) * self.n_evals // self.steps

    def told(self, batches: PlannedBatches) -> str:
        """What a person should know before it starts."""
        calibrating = (self.calibration_rows or 0) * self.item_seconds
        return (
            f"{batches.told()}, {self.padding:.1%} padding, "
            f"{self.steps:,} steps of {batches.tokens_per_batch:,} tokens ({format_epochs(self.passes)}), {self.n_evals} "
            f"judgments on {self.judged} items: about {format_duration(self.seconds)}"
            + (f" and {format_duration(calibrating)} to calibrate intervals" if calibrating >= 1 else "")
            + f", {self.memory_gb:.1f} GB of memory at the peak so far."
        )

    @classmethod
    def of(
        cls,
        batches: PlannedBatches,
        pace: Throughput,
        *,
        epochs: float,
        left: float,
        n_evals: int,
        held: int,
        calibration: int = 0,
        head_rows: int = 0,
    ) -> Schedule:
        """The schedule of `epochs` passes, or of as many steps as `left` seconds hold with all that follows them.

        `held`: validation items; `calibration`: rows that intervals are calibrated on. Judging (once before the first
        step, then `n_evals` times) and calibrating take a fifth of the time each at most: first fewer items, then fewer
        judgments. If that leaves no time for LEAST_STEPS steps, everything is cut to its least; `needed_seconds` of
        the least plan may still be over `left`, which the caller has to check.
        """
        layout = (batches.lengths, batches.seed)
        first = pack_batches(*layout, 0, batches.tokens_per_batch, packed=batches.packed)
        padding = 0.0 if batches.packed else padding_share(batches.lengths, first)
        step_seconds = pace.position_seconds * sum(batches.lengths) / (1 - padding) / len(first)
        steps = count_steps(*layout, batches.tokens_per_batch, epochs, packed=batches.packed)
        judged, item, calibrated, spare = held, max(pace.item_seconds, 1e-9), calibration, math.inf
        if left < math.inf:
            least = min(steps, LEAST_STEPS)
            for share in (JUDGING_SHARE * left / item, 0.0):
                judged = min(held, max(LEAST_JUDGED, int(share / (n_evals + 1))))
                n_evals = max(2, min(n_evals, int(share / max(judged, 1)) - 1)) if share else 1
                calibrated = min(calibration, max(LEAST_CALIBRATED, int(share * CALIBRATION_SHARE / JUDGING_SHARE)))
                spare = left - (calibrated + (n_evals + 1) * judged) * item
                if spare * PLANNED_SHARE >= least * step_seconds:
                    break
            steps = max(least, min(steps, int(spare * PLANNED_SHARE / step_seconds)))
        n_evals = min(n_evals, steps)
        return cls(
            steps=steps,
            passes=round(steps / len(first), 3),
            log_every=max(1, steps // 200),
            save_every=max(1, min(steps // n_evals, round(SAVE_SECONDS / step_seconds))),
            n_evals=n_evals,
            judged=judged,
            seconds=round(steps * step_seconds + (n_evals + 1) * judged * item, 1),
            memory_gb=round(pace.memory_gb, 2),
            padding=round(padding, 4),
            head_rows=head_rows,
            calibration_rows=None if left == math.inf else calibrated,
            training_seconds=0.0 if left == math.inf else round(max(spare, 0.0) + n_evals * judged * item, 1),
            item_seconds=pace.item_seconds,
        )


class Batch(TypedDict):
    """Tensors of one step."""

    ids: Tensor  # [rows, columns]
    positions: Tensor | None  # [rows, columns] where packed, from 0 for each example
    places: Tensor  # [n]: row x columns + column of each position at which the head is asked
    answers: Tensor  # [n]: the token expected there; [0] where the read-out is not tokens
    owners: Tensor  # [n]: the example that each place belongs to
    prices: Tensor  # [examples], float64
    tokens: int  # positions that are not pads


def collate(examples: Sequence[Example], pad: int, *, packed: bool = False) -> Batch:
    """Examples as the tensors of one step, padded on the right or packed into one row."""
    columns = sum(map(len, examples)) if packed else max(map(len, examples))
    ids: list[list[int]] = [[]] if packed else [[] for _ in examples]
    places: list[int] = []
    answers: list[int] = []
    owners: list[int] = []
    for number, example in enumerate(examples):
        row = 0 if packed else number
        first = row * columns + len(ids[row]) + len(example.prompt) - 1
        asked = max(1, len(example.answer))
        places += range(first, first + asked)
        owners += [number] * asked
        answers += example.answer
        ids[row] += [*example.prompt, *example.answer[:-1]]
    for line in ids:
        line += [pad] * (columns - len(line))
    return Batch(
        ids=torch.tensor(ids),
        positions=torch.tensor([[place for example in examples for place in range(len(example))]]) if packed else None,
        places=torch.tensor(places),
        answers=torch.tensor(answers, dtype=torch.long),
        owners=torch.tensor(owners),
        prices=torch.tensor([example.price for example in examples], dtype=torch.float64),
        tokens=sum(map(len, examples)),
    )


def select_logits(model: nn.Module, batch: Batch) -> Tensor:
    """What the head says at the batch's places and nowhere else [n, outputs], in fp32, also where the rest is mixed."""
    states = hidden_states_at(model, batch["ids"], batch["places"], positions=batch["positions"])
    with torch.autocast(states.device.type, enabled=False):
        found: Tensor = get_head(model)(states)
    return found.float()


def token_losses(model: nn.Module, batch: Batch) -> Tensor:
    """What each example's answer cost to write, its end token included: -log of its probability [examples]."""
    costs = F.cross_entropy(select_logits(model, batch), batch["answers"], reduction="none")
    return costs.new_zeros(len(batch["prices"])).index_add(0, batch["owners"], costs)


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
    """`1 pass`, `0.25 passes`."""
    shown = f"{round(number, 2):g}"
    return f"{shown} pass" if shown == "1" else f"{shown} passes"
