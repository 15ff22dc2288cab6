"""How a price is read from a language model: as a distribution over prices, never by sampling.

* `TokenReader`: what the model would write, a distribution over whole prices: one forward where a number is one token,
  else a tree of digits that grows from one prefill.
* `Bins`: what a head says about log-spaced price bins (HL-Gauss: Imani and White 2018; Farebrother et al. 2024,
  arXiv 2403.03950).

The median of the distribution is the quote: it is what minimises the expected absolute error.
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
from pricesmith.pricers.llm.distribution import BranchArrays, NodeArrays, TokenMass
from pricesmith.pricers.llm.distribution import PriceDistribution as Distribution  # read-outs answer with it
from pricesmith.pricers.llm.numbers import Floats, Ints, NumberTokenizer
from pricesmith.text.prompts import format_whole_price

CUT = 1e-3  # of the mass of all numbers: branches that have less are not followed
LEAST = 0.01  # mass of all numbers under which there is no answer
BEAM = 64  # prefixes of three and more digits that are followed
DUST = 1e-6  # of the whole mass: guessed branches that are lighter are left out
LOGITS = 1 << 25  # logits that are held at once
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
            raise InputError("These are no edges of price bins", got=str(self.edges)[:80], allowed="ascending, above 0")

    @classmethod
    def over(cls, prices: Sequence[float], k: int, beyond: float = 0.0) -> PriceBins:
        """`k` bins, from `beyond` bins under the lowest of the prices to as many over the highest.

        Without room there, a softened label of the dearest price is cut in half, and its median is too low.
        """
        low, high = float(min(prices)), float(max(prices))
        if high < low * 1.01:  # one price is a narrow range, not none
            low, high = low / 1.05, high * 1.05
        room = min(beyond, k / 4)
        step = np.log(high / low) * room / (k - 2 * room)
        return cls(tuple(float(edge) for edge in np.geomspace(low * np.exp(-step), high * np.exp(step), k + 1)))

    def targets(self, prices: Tensor, sigma: float) -> Tensor:
        """Soft labels [n, k] of prices [n], float64: a normal of `sigma` bins round each log price, in bins."""
        edges = torch.tensor(self.edges, dtype=torch.float64, device=prices.device).log()
        width = (edges[-1] - edges[0]) / (len(edges) - 1)
        logs = prices.double().log().clamp(edges[0], edges[-1])
        upto = torch.special.ndtr((edges[None, :] - logs[:, None]) / (sigma * width))
        mass: Tensor = upto.diff(dim=1)
        return mass / mass.sum(1, keepdim=True)

    def loss(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Mean cross-entropy of logits [n, k] with soft labels [n, k]."""
        return F.cross_entropy(logits.float(), targets.to(logits.device, torch.float32))

    def read(self, logits: Tensor) -> list[Distribution]:
        """A distribution over the bins from each row of logits [n, k]."""
        mass = torch.softmax(logits.double(), dim=1).cpu().numpy()
        edges = np.array(self.edges)
        middles = np.sqrt(edges[1:] * edges[:-1])
        return [Distribution(middles, row, 1.0, edges) for row in mass]


def inner_model(model: Any) -> Any:
    """The transformers model, also inside a PEFT one, whose adapters are part of its layers."""
    return model.get_base_model() if hasattr(model, "get_base_model") else model


def hidden_states_at(model: nn.Module, ids: Tensor, places: Tensor, *, positions: Tensor | None = None) -> Tensor:
    """The backbone's hidden states [n, hidden] at `places` [n] (row x columns + column) of `ids` [rows, columns].

    Rows are padded on the right, which causal attention never looks at; or, with `positions` [rows, columns] that
    restart at 0, several texts stand in a row and do not see each other.
    """
    own: Any = inner_model(model)
    positions = None if positions is None else positions.to(own.device)
    found = own.base_model(input_ids=ids.to(own.device), position_ids=positions, use_cache=False)
    states: Tensor = found.last_hidden_state
    return states.flatten(0, 1)[places.to(states.device)]


def check_finite(states: Tensor) -> Tensor:
    """The same states. Raises InputError where one is no number."""
    if not torch.isfinite(states).all():
        raise InputError(
            "What this base makes of a listing is no number",
            got="NaN or infinity in its last states",
            hint="Use dtype float32 (float16 overflows in some models); else its weights are damaged.",
        )
    return states


def get_head(model: nn.Module) -> Callable[[Tensor], Tensor]:
    """From hidden states [n, hidden] to logits: of a classifier's bins, or of the vocabulary as the model scales it."""
    own: Any = inner_model(model)
    config = own.config.get_text_config()
    if hasattr(own, "score"):
        layer, cap, scale = own.score, None, 1.0
    else:
        layer = own.get_output_embeddings()
        cap = getattr(config, "final_logit_softcapping", None)
        scale = (getattr(config, "logit_scale", None) or 1.0) / (getattr(config, "logits_scaling", None) or 1.0)

    def logits(states: Tensor) -> Tensor:
        found: Tensor = layer(states.to(layer.weight.dtype)) * scale
        return found if cap is None else torch.tanh(found / cap) * cap

    return logits


class TokenReader:
    """Reads whole prices inside `price_range` as the model writes them, and says what it is taught to write.

    A number's mass is that of its tokens, times that of its being over: what the model gives to everything that does
    not go on with it (another digit, or the comma of thousands). For a tuned model that is the end token, for an
    untuned one also a full stop or a space: both are read alike. The longest numbers of the range are not looked past.

    Branches with under `cut` of the numbers' mass are not run through the model. What they hold goes on as that of the
    item's other branches does on average: there are many of them, and leaving them out would shift the median.
    """

    def __init__(
        self,
        tokenizer: Any,
        price_range: tuple[float, float],
        style: str = "plain",
        *,
        currency: str = "USD",
        cut: float = CUT,
        least: float = LEAST,
        beam: int = BEAM,
    ) -> None:
        if tokenizer.eos_token_id is None:
            raise UsageError("This tokenizer has no end token", hint="Choose another base, or tune it with bins.")
        self.numbers = NumberTokenizer(tokenizer, price_range, currency)
        self.end = int(tokenizer.eos_token_id)
        self.style, self.cut, self.least, self.beam = style, cut, least, beam

    def answer(self, price: float) -> list[int]:
        """The token ids that the model is taught to write: the whole price, and the end token."""
        return [*self.numbers.written(format_whole_price(price)), self.end]

    @torch.inference_mode()
    def read(self, model: nn.Module, prompts: Sequence[Sequence[int]]) -> list[Distribution | None]:
        """A distribution for each prompt, in order; None where whole prices have under `least` of the mass."""
        if not prompts:
            return []
        tree = PrefixTree(model, prompts, keep=self.numbers.depth > 1)
        numbers, depth, items = self.numbers, self.numbers.depth, len(prompts)
        found = TokenMass(numbers, items)
        nodes = NodeArrays(np.arange(items), np.zeros(items, np.int64), np.ones(items))
        light = NodeArrays.none()
        states = tree.last
        for level in range(1, depth + 1):
            chance, over = tree.ask(numbers, states)
            usual, usually_over = nodes.averages(items, chance, over)
            if level > 1:
                found.add(nodes.item, nodes.value, nodes.mass * over)
                found.add(light.item, light.value, light.mass * usually_over[light.item], read=False)
            grown = nodes.grown(numbers, chance, first=level == 1)
            guessed = light.grown(numbers, usual[light.item], first=False)
            if level == 1:
                least = (self.cut * np.bincount(grown.item, grown.mass, items)).astype(np.float64)
            done, guessed_done = (
                (level == depth) | (numbers.width[branches.column] < numbers.most) for branches in (grown, guessed)
            )
            found.add(*grown.only(done).numbers)
            found.add(*guessed.only(guessed_done).numbers, read=False)
            follow = self.heavy(grown, least, level) & ~done
            light = NodeArrays.of(grown.only(~done & ~follow), guessed.only(~guessed_done & (guessed.mass > DUST)))
            grown = grown.only(follow)
            if level == depth or not len(grown.item):
                break
            states = tree.grow(grown.item, numbers.token[grown.column], grown.row)
            nodes = NodeArrays.of(grown)
        return found.distributions(self.least)

    def heavy(self, grown: BranchArrays, least: Floats, level: int) -> NDArray[np.bool_]:
        """Which branches are followed: those over the cut, and of prefixes of three digits `beam` of each item."""
        heavy: NDArray[np.bool_] = grown.mass >= least[grown.item]
        if level * self.numbers.most >= 3:
            order = np.lexsort((-grown.mass, grown.item))
            owner = grown.item[order]
            heavy[order[np.arange(len(order)) - np.searchsorted(owner, owner) >= self.beam]] = False
        return heavy


class PrefixTree:
    """The prefixes of numbers that follow each prompt, and the model's states there.

    The prompts are run once; each level of the tree is one forward, in which a node's token sees its prompt, the nodes
    above it and itself. `last` [prompts, hidden] are the states after the prompts.
    """

    def __init__(self, model: nn.Module, prompts: Sequence[Sequence[int]], *, keep: bool) -> None:
        self.own: Any = inner_model(model)
        self.head = get_head(model)
        self.config = self.own.config.get_text_config()
        if keep:
            self.refuse_unknown()
        device = self.own.device
        self.lengths = torch.tensor([len(prompt) for prompt in prompts], device=device)
        columns = int(self.lengths.max())
        ids = torch.tensor([[*prompt, *[0] * (columns - len(prompt))] for prompt in prompts], device=device)
        # Without a config: a cache that keeps all keys, also of layers that look through a window.
        self.cache = DynamicCache() if keep else None
        states = self.own.base_model(input_ids=ids, past_key_values=self.cache, use_cache=keep).last_hidden_state
        self.last = states[torch.arange(len(prompts), device=device), self.lengths - 1]
        self.at = torch.arange(columns, device=device).expand(len(prompts), -1)  # position of each key
        self.seen = self.at < self.lengths[:, None]  # keys that each node of the last level sees [nodes, keys]
        self.level = 0

    def refuse_unknown(self) -> None:
        """Raises UsageError where the tree is not known to read a model rightly."""
        kind, attention = str(self.config.model_type), str(self.own.config._attn_implementation)
        if kind not in TREE_CACHE.split() or attention not in ("sdpa", "eager"):
            raise UsageError(
                "Numbers of several tokens cannot be read from this model",
                got=f"{kind} with {attention} attention",
                allowed=f"{TREE_CACHE}, with sdpa or eager attention",
                hint="Choose another base, or tune it with bins (fit lora_bins).",
            )

    def ask(self, numbers: NumberTokenizer, states: Tensor) -> tuple[Floats, Floats]:
        """From states [n, hidden] the chance of each number token [n, m], and that the number is over [n]."""
        token = torch.tensor(numbers.token, device=states.device)
        rows = max(1, LOGITS // int(self.config.vocab_size))
        chance: list[Tensor] = []
        over: list[Tensor] = []
        for part in torch.split(states, rows):
            logits = self.head(part).float()
            whole = logits.logsumexp(1, keepdim=True)
            goes_on = torch.tensor([n for n in numbers.goes_on if n < logits.shape[1]], device=states.device)
            chance.append((logits[:, token] - whole).exp())
            over.append(1 - (logits[:, goes_on] - whole).exp().sum(1))
        return torch.cat(chance).double().cpu().numpy(), torch.cat(over).double().clamp(0, 1).cpu().numpy()

    def grow(self, item: Ints, token: Ints, above: Ints) -> Tensor:
        """States [n, hidden] of new nodes: `item` [n] ascending, their tokens, and the nodes above them."""
        device = self.own.device
        counts = np.bincount(item, minlength=len(self.lengths))
        slots = np.arange(len(item)) - (np.cumsum(counts) - counts)[item]
        width, old = int(counts.max()), self.at.shape[1]
        items, places = torch.tensor(item, device=device), torch.tensor(slots, device=device)
        ids = torch.zeros(len(counts), width, dtype=torch.long, device=device)
        ids[items, places] = torch.tensor(token, device=device)
        here = (self.lengths + self.level)[:, None].expand(-1, width)
        self.at = torch.cat([self.at, here], dim=1)
        # A node sees what the one above it saw, and itself; a slot without a node sees itself, so that it is no NaN.
        mask = torch.zeros(len(counts), width, old + width, dtype=torch.bool, device=device)
        mask[items, places, :old] = self.seen[torch.tensor(above, device=device)]
        mask[:, :, old:] = torch.eye(width, dtype=torch.bool, device=device)
        self.seen = mask[items, places]
        self.level += 1
        found = self.own.base_model(
            input_ids=ids,
            attention_mask=self.masks(mask, here),
            position_ids=here,
            past_key_values=self.cache,
            use_cache=True,
        )
        states: Tensor = found.last_hidden_state[items, places]
        return states

    def masks(self, mask: Tensor, here: Tensor) -> Any:
        """What attention adds to its scores, as this architecture takes it: one mask, or one for each kind of layer."""
        window = getattr(self.config, "sliding_window", None) or None  # some write 0 for none
        kinds = set(getattr(self.config, "layer_types", None) or ())
        near = mask if window is None else mask & (here[:, :, None] - self.at[:, None, :] < window)
        if "sliding_attention" in kinds:
            return {"full_attention": self.added(mask), "sliding_attention": self.added(near)}
        return self.added(mask if kinds else near)

    def added(self, mask: Tensor) -> Tensor:
        """A mask [items, nodes, keys] as numbers [items, 1, nodes, keys]: 0 where a key is seen."""
        zeros = torch.zeros(mask.shape, dtype=self.own.dtype, device=mask.device)
        return zeros.masked_fill(~mask, torch.finfo(zeros.dtype).min)[:, None]
