"""Read-outs: a price distribution from a language model, without sampling.

* `TokenReader`: the distribution over the whole prices that the model would write, from one forward pass if a number is
  one token, else from a tree of digits that grows from one prefill.
* `PriceBins`: a head's distribution over log-spaced price bins (HL-Gauss: Imani and White 2018; Farebrother et al.
  2024, arXiv 2403.03950).

The price of a quote is the median, which minimizes the expected absolute error.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn
from transformers import DynamicCache

from pricesmith.core.errors import InputError, UsageError
from pricesmith.pricers.llm.distribution import (
    BranchArrays,
    Floats,
    Ints,
    NodeArrays,
    NumberTokenizer,
    PriceDistribution,
    TokenMass,
)
from pricesmith.text.prompts import format_whole_price

MIN_BRANCH = 1e-3  # of the mass of all numbers: lighter branches are not followed
MIN_MASS = 0.01  # of all numbers: with less, the item is unanswered
BEAM = 64  # prefixes of three and more digits that are followed
MIN_ESTIMATED = 1e-6  # of the whole mass: lighter estimated branches are left out
MAX_LOGITS = 1 << 25  # in memory at once
# Architectures whose tree read-out is tested against plain forwards: rotary positions, full or sliding attention.
TREE_CACHE = (
    "llama mistral mixtral ministral qwen2 qwen2_moe qwen3 qwen3_moe gemma gemma2 gemma3_text phi phi3 olmo olmo2 "
    "olmo3 smollm3 granite cohere cohere2 starcoder2 stablelm gpt_neox glm glm4 helium exaone4 ernie4_5 arcee"
)


@dataclass(frozen=True, slots=True)
class PriceBins:
    """Log-spaced price bins between ascending `edges` (bins + 1 prices)."""

    edges: tuple[float, ...]

    def __post_init__(self) -> None:
        if len(self.edges) < 2 or self.edges[0] <= 0 or any(b <= a for a, b in pairwise(self.edges)):
            raise InputError(
                "The edges of price bins must increase",
                got=str(self.edges)[:80],
                allowed="increasing prices above 0",
                hint="Fit again with --overwrite.",
            )

    @classmethod
    def from_prices(cls, prices: Sequence[float], k: int, beyond: float = 0.0) -> PriceBins:
        """`k` bins, from `beyond` bins below the lowest price to as many above the highest.

        Without this margin, the soft label of the highest price would be truncated, and its median too low.
        """
        low, high = float(min(prices)), float(max(prices))
        if high < low * 1.01:  # one price gives a narrow range, not an empty one
            low, high = low / 1.05, high * 1.05
        room = min(beyond, k / 4)
        step = np.log(high / low) * room / (k - 2 * room)
        return cls(tuple(float(edge) for edge in np.geomspace(low * np.exp(-step), high * np.exp(step), k + 1)))

    def targets(self, prices: Tensor, sigma: float) -> Tensor:
        """Soft labels [n, k] of prices [n], float64: a normal distribution with `sigma` bins around each log price."""
        edges = torch.tensor(self.edges, dtype=torch.float64, device=prices.device).log()
        width = (edges[-1] - edges[0]) / (len(edges) - 1)
        logs = prices.double().log().clamp(edges[0], edges[-1])
        cumulative = torch.special.ndtr((edges[None, :] - logs[:, None]) / (sigma * width))
        mass: Tensor = cumulative.diff(dim=1)
        return mass / mass.sum(1, keepdim=True)

    def loss(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Mean cross-entropy of logits [n, k] with soft labels [n, k]."""
        return F.cross_entropy(logits.float(), targets.to(logits.device, torch.float32))

    def read(self, logits: Tensor) -> list[PriceDistribution]:
        """A distribution over the bins from each row of logits [n, k]."""
        mass = torch.softmax(logits.double(), dim=1).cpu().numpy()
        edges = np.array(self.edges)
        middles = np.sqrt(edges[1:] * edges[:-1])
        return [PriceDistribution(middles, row, 1.0, edges) for row in mass]


def inner_model(model: Any) -> Any:
    """The transformers model inside a PEFT model (the adapters are part of its layers), or the model itself."""
    return model.get_base_model() if hasattr(model, "get_base_model") else model


def hidden_states_at(model: nn.Module, ids: Tensor, at: Tensor, *, positions: Tensor | None = None) -> Tensor:
    """The backbone's hidden states [n, hidden] at the positions `at` [n] (row x columns + column) of `ids` [rows,
    columns].

    Rows are padded on the right, where causal attention never attends; or, with `positions` [rows, columns] that
    restart at 0, a row holds several texts that do not attend to each other.
    """
    transformer: Any = inner_model(model)
    positions = None if positions is None else positions.to(transformer.device)
    output = transformer.base_model(input_ids=ids.to(transformer.device), position_ids=positions, use_cache=False)
    states: Tensor = output.last_hidden_state
    return states.flatten(0, 1)[at.to(states.device)]


def check_finite(states: Tensor) -> Tensor:
    """The same states. Raises InputError if one is not finite."""
    if not torch.isfinite(states).all():
        raise InputError(
            "The states of this base are not finite",
            got="NaN or infinity for a listing",
            hint="Use dtype float32 (float16 overflows in some models); if that fails too, its weights are damaged.",
        )
    return states


def get_head(model: nn.Module) -> Callable[[Tensor], Tensor]:
    """The function from hidden states [n, hidden] to logits: of a classifier's bins, or of the vocabulary, with the
    model's own scaling."""
    transformer: Any = inner_model(model)
    config = transformer.config.get_text_config()
    if hasattr(transformer, "score"):
        layer, cap, scale = transformer.score, None, 1.0
    else:
        layer = transformer.get_output_embeddings()
        cap = getattr(config, "final_logit_softcapping", None)
        scale = (getattr(config, "logit_scale", None) or 1.0) / (getattr(config, "logits_scaling", None) or 1.0)

    def logits(states: Tensor) -> Tensor:
        scaled: Tensor = layer(states.to(layer.weight.dtype)) * scale
        return scaled if cap is None else torch.tanh(scaled / cap) * cap

    return logits


class TokenReader:
    """Reads the distribution over the whole prices in `price_range` that the model would write.

    The mass of a number is the probability of its tokens, times the probability that it ends there: that the next token
    is neither a digit nor the comma of thousands. For a tuned model that is the end token, for an untuned one also a
    full stop or a space. Nothing is read after the longest numbers of the range.

    Branches with less than `min_branch` of the numbers' mass are not run through the model. Their mass is distributed
    as in the item's other branches on average: there are many, and leaving them out would shift the median.
    """

    def __init__(
        self,
        tokenizer: Any,
        price_range: tuple[float, float],
        style: str = "plain",
        *,
        currency: str = "USD",
        min_branch: float = MIN_BRANCH,
        min_mass: float = MIN_MASS,
        beam: int = BEAM,
    ) -> None:
        if tokenizer.eos_token_id is None:
            raise UsageError("This tokenizer has no end token", hint="Choose another base, or tune it with bins.")
        self.numbers = NumberTokenizer(tokenizer, price_range, currency)
        self.end = int(tokenizer.eos_token_id)
        self.style, self.min_branch, self.min_mass, self.beam = style, min_branch, min_mass, beam

    def answer(self, price: float) -> list[int]:
        """The token ids that the model is trained to write: the whole price and the end token."""
        return [*self.numbers.encode(format_whole_price(price)), self.end]

    @torch.inference_mode()
    def read(self, model: nn.Module, prompts: Sequence[Sequence[int]]) -> list[PriceDistribution | None]:
        """A distribution for each prompt, in order; None if whole prices have less than `min_mass` of the mass."""
        if not prompts:
            return []
        tree = PrefixTree(model, prompts, keep=self.numbers.depth > 1)
        numbers, depth, items = self.numbers, self.numbers.depth, len(prompts)
        mass = TokenMass(numbers, items)
        nodes = NodeArrays(np.arange(items), np.zeros(items, np.int64), np.ones(items))
        light = NodeArrays.empty()
        states = tree.last
        for level in range(1, depth + 1):
            chance, over = tree.next_probabilities(numbers, states)
            average, average_over = nodes.averages(items, chance, over)
            if level > 1:
                mass.add(nodes.item, nodes.value, nodes.mass * over)
                mass.add(light.item, light.value, light.mass * average_over[light.item], read=False)
            grown = nodes.grow(numbers, chance, first=level == 1)
            estimated = light.grow(numbers, average[light.item], first=False)
            if level == 1:
                threshold = (self.min_branch * np.bincount(grown.item, grown.mass, items)).astype(np.float64)
            done, estimated_done = (
                (level == depth) | (numbers.width[branches.column] < numbers.most) for branches in (grown, estimated)
            )
            mass.add(*grown.select(done).numbers)
            mass.add(*estimated.select(estimated_done).numbers, read=False)
            follow = self.is_followed(grown, threshold, level) & ~done
            open_estimates = ~estimated_done & (estimated.mass > MIN_ESTIMATED)
            light = NodeArrays.from_branches(grown.select(~done & ~follow), estimated.select(open_estimates))
            grown = grown.select(follow)
            if level == depth or not len(grown.item):
                break
            states = tree.grow(grown.item, numbers.token[grown.column], grown.row)
            nodes = NodeArrays.from_branches(grown)
        return mass.distributions(self.min_mass)

    def is_followed(self, grown: BranchArrays, threshold: Floats, level: int) -> NDArray[np.bool_]:
        """Which branches are run through the model: those above the threshold, and at most `beam` prefixes of three or
        more digits of each item."""
        followed: NDArray[np.bool_] = grown.mass >= threshold[grown.item]
        if level * self.numbers.most >= 3:
            order = np.lexsort((-grown.mass, grown.item))
            owner = grown.item[order]
            followed[order[np.arange(len(order)) - np.searchsorted(owner, owner) >= self.beam]] = False
        return followed


class PrefixTree:
    """The prefixes of numbers after each prompt, and the model's states at them.

    The prompts are run once; each level of the tree is one forward pass, in which the token of a node attends to its
    prompt, the nodes above it and itself. `last` [prompts, hidden] are the states after the prompts.
    """

    def __init__(self, model: nn.Module, prompts: Sequence[Sequence[int]], *, keep: bool) -> None:
        self.transformer: Any = inner_model(model)
        self.head = get_head(model)
        self.config = self.transformer.config.get_text_config()
        if keep:
            self.check_architecture()
        device = self.transformer.device
        self.lengths = torch.tensor([len(prompt) for prompt in prompts], device=device)
        columns = int(self.lengths.max())
        ids = torch.tensor([[*prompt, *[0] * (columns - len(prompt))] for prompt in prompts], device=device)
        # Without a config: a cache that keeps all keys, also of layers with sliding attention.
        self.cache = DynamicCache() if keep else None
        states = self.transformer.base_model(
            input_ids=ids, past_key_values=self.cache, use_cache=keep
        ).last_hidden_state
        self.last = states[torch.arange(len(prompts), device=device), self.lengths - 1]
        self.key_positions = torch.arange(columns, device=device).expand(len(prompts), -1)  # position of each key
        self.visible = (
            self.key_positions < self.lengths[:, None]
        )  # keys that each node of the last level attends to [nodes, keys]
        self.level = 0

    def check_architecture(self) -> None:
        """Raises UsageError if the tree read-out was not tested with the model's architecture."""
        kind, attention = str(self.config.model_type), str(self.transformer.config._attn_implementation)
        if kind not in TREE_CACHE.split() or attention not in ("sdpa", "eager"):
            raise UsageError(
                "Numbers of several tokens cannot be read from this model",
                got=f"{kind} with {attention} attention",
                allowed=f"{TREE_CACHE}, with sdpa or eager attention",
                hint="Choose another base, or tune it with bins (fit lora_bins).",
            )

    def next_probabilities(self, numbers: NumberTokenizer, states: Tensor) -> tuple[Floats, Floats]:
        """From states [n, hidden], the probabilities of each number token [n, m], and that the number ends [n]."""
        token = torch.tensor(numbers.token, device=states.device)
        rows = max(1, MAX_LOGITS // int(self.config.vocab_size))
        chance: list[Tensor] = []
        over: list[Tensor] = []
        for part in torch.split(states, rows):
            logits = self.head(part).float()
            whole = logits.logsumexp(1, keepdim=True)
            continues = torch.tensor([n for n in numbers.continuations if n < logits.shape[1]], device=states.device)
            chance.append((logits[:, token] - whole).exp())
            over.append(1 - (logits[:, continues] - whole).exp().sum(1))
        return torch.cat(chance).double().cpu().numpy(), torch.cat(over).double().clamp(0, 1).cpu().numpy()

    def grow(self, item: Ints, token: Ints, above: Ints) -> Tensor:
        """States [n, hidden] of new nodes, given their items [n] (ascending), tokens [n] and parent nodes [n]."""
        device = self.transformer.device
        counts = np.bincount(item, minlength=len(self.lengths))
        slots = np.arange(len(item)) - (np.cumsum(counts) - counts)[item]
        width, old = int(counts.max()), self.key_positions.shape[1]
        items, columns = torch.tensor(item, device=device), torch.tensor(slots, device=device)
        ids = torch.zeros(len(counts), width, dtype=torch.long, device=device)
        ids[items, columns] = torch.tensor(token, device=device)
        here = (self.lengths + self.level)[:, None].expand(-1, width)
        self.key_positions = torch.cat([self.key_positions, here], dim=1)
        # A node attends to what its parent attends to, and itself; a slot without a node to itself, to avoid NaN.
        mask = torch.zeros(len(counts), width, old + width, dtype=torch.bool, device=device)
        mask[items, columns, :old] = self.visible[torch.tensor(above, device=device)]
        mask[:, :, old:] = torch.eye(width, dtype=torch.bool, device=device)
        self.visible = mask[items, columns]
        self.level += 1
        output = self.transformer.base_model(
            input_ids=ids,
            attention_mask=self.build_masks(mask, here),
            position_ids=here,
            past_key_values=self.cache,
            use_cache=True,
        )
        states: Tensor = output.last_hidden_state[items, columns]
        return states

    def build_masks(self, mask: Tensor, here: Tensor) -> Any:
        """The attention masks that the architecture expects: one mask, or one for each type of layer."""
        window = getattr(self.config, "sliding_window", None) or None  # some write 0 for none
        layer_types = set(getattr(self.config, "layer_types", None) or ())
        near = mask if window is None else mask & (here[:, :, None] - self.key_positions[:, None, :] < window)
        if "sliding_attention" in layer_types:
            return {"full_attention": self.additive_mask(mask), "sliding_attention": self.additive_mask(near)}
        return self.additive_mask(mask if layer_types else near)

    def additive_mask(self, mask: Tensor) -> Tensor:
        """A boolean mask [items, nodes, keys] as terms [items, 1, nodes, keys] of attention scores: 0 if visible."""
        zeros = torch.zeros(mask.shape, dtype=self.transformer.dtype, device=mask.device)
        return zeros.masked_fill(~mask, torch.finfo(zeros.dtype).min)[:, None]
