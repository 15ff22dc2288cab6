"""A language model as a pricer: untuned (zero-shot), or with the adapter of a model folder.

    zero_shot("gemma-3-270m", price_range=(1, 999), currency="USD").price(listings)
    load_adapter(Path("out/lora_bins")).price(listings)

The price of a quote is the median of the model's price distribution; low and high are its 5 % and 95 % quantiles.
"""

from __future__ import annotations

import math
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import torch
from peft import PeftModel
from pydantic import ConfigDict, Field, model_validator

from pricesmith.core.errors import InputError, UsageError
from pricesmith.core.model_files import check_increasing, check_range, read_object, read_tensors
from pricesmith.core.progress import SILENT, Progress
from pricesmith.core.settings import Settings, parse_settings
from pricesmith.core.types import Item, Listing, Quote
from pricesmith.pricers.llm.adapters import unmerged_precision
from pricesmith.pricers.llm.base_model import (
    PretrainedBase,
    base_fingerprint,
    check_prompt,
    find_base,
    load_classifier,
    load_language_model,
    load_tokenizer,
    quiet_transformers,
    tokenizer_fingerprint,
)
from pricesmith.pricers.llm.device_memory import (
    catch_out_of_memory,
    default_pricing_tokens,
    is_out_of_memory,
    out_of_memory,
    release_gpu_memory,
)
from pricesmith.pricers.llm.distribution import PriceDistribution
from pricesmith.pricers.llm.readout import PriceBins, TokenReader, get_head, hidden_states_at
from pricesmith.text.prompts import Prompt, Style, few_shot_messages

PRICE_CONFIG = "price_config.json"
FORMAT = 1
LOW, HIGH = 0.05, 0.95


class PriceConfig(Settings):
    """`price_config.json` of a tuned model: its prompt, its read-out, and the base of its adapter."""

    model_config = ConfigDict(frozen=True, extra="ignore", allow_inf_nan=False)
    format: int
    readout: Literal["tokens", "bins"]
    base: str
    revision: str | None = None
    base_fingerprint: str
    tokenizer_fingerprint: str
    prompt: Prompt
    currency: str
    price_range: tuple[float, float]
    edges: tuple[float, ...] | None = Field(None, description="of the price bins")
    dtype: Literal["auto", "bfloat16", "float16", "float32"] = "auto"
    quantization: Literal["none", "nf4"] = "none"
    calibration_rows: int | None = Field(None, description="to calibrate intervals on, at most; none: all")

    @model_validator(mode="after")
    def checked(self) -> PriceConfig:
        """Raises ValueError if the price range is empty, or the edges of the bins do not increase."""
        check_range(self.price_range)
        if self.readout == "bins":
            if self.edges is None or len(self.edges) < 3:
                raise ValueError("edges of at least two price bins")
            check_increasing(self.edges)
        return self


class LlmPricer:
    """A model with its tokenizer, prompt and read-out.

    `tokens_per_batch` limits the padded prompt tokens of a forward pass; `facts` identify this pricer, as plain values;
    `progress` gets one note on how long a listing takes.
    """

    def __init__(
        self,
        name: str,
        model: Any,
        tokenizer: Any,
        prompt: Prompt,
        reader: TokenReader | PriceBins,
        tokens_per_batch: int | None = None,
        *,
        facts: Mapping[str, Any] | None = None,
        progress: Progress = SILENT,
    ) -> None:
        self.name = name
        self.facts, self.progress = dict(facts or {}), progress
        self.model, self.tokenizer, self.prompt, self.reader = model, tokenizer, prompt, reader
        self.tokens_per_batch = tokens_per_batch or default_pricing_tokens(model)
        self.pad = int(tokenizer.pad_token_id or 0)
        check_length(model, tokenizer, prompt)

    def price(self, listings: Sequence[Listing]) -> list[Quote]:
        """One quote for each listing, in order; its price is None if the model wrote no number."""
        prompts = self.prompt.encode(self.tokenizer, listings)
        quotes = [Quote(None)] * len(prompts)
        for indexes in pricing_batches([len(prompt) for prompt in prompts], self.tokens_per_batch):
            began = time.perf_counter()
            batch = [prompts[index] for index in indexes]
            distributions = self.read_in_memory(batch)
            self.note_speed(time.perf_counter() - began, batch, prompts)
            for index, distribution in zip(indexes, distributions, strict=True):
                quotes[index] = self.build_quote(distribution)
        return quotes

    def with_shots(self, train: Sequence[Item], shots: int) -> LlmPricer:
        """The same model with `shots` priced listings of `train` in its prompt."""
        prompt = self.prompt.model_copy(update={"examples": few_shot_messages(train, shots)})
        return LlmPricer(
            self.name, self.model, self.tokenizer, prompt, self.reader, self.tokens_per_batch, facts=self.facts
        )

    def note_speed(self, seconds: float, batch: Sequence[Sequence[int]], prompts: Sequence[Sequence[int]]) -> None:
        """After the first batch, note how long such listings take."""
        progress, self.progress = self.progress, SILENT
        each = seconds / sum(map(len, batch)) * sum(map(len, prompts)) / len(prompts)
        thousand = f"{1000 * each / 60:.0f} minutes" if each > 0.1 else f"{1000 * each:.0f} s"
        progress.note(f"{self.name}: about {each:.2g} s a listing, {thousand} for 1,000.")

    def read_in_memory(self, prompts: Sequence[Sequence[int]]) -> list[PriceDistribution | None]:
        """The price distribution of each prompt; a batch that memory is too small for is read in halves, and later ones
        are as small. Raises PricesmithError if one prompt is too large."""
        size = max(1, self.tokens_per_batch // max(map(len, prompts)))  # it may have been lowered since the batch began
        if len(prompts) <= size:
            try:
                return list(self.read(prompts))
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error):
                    raise
                if len(prompts) == 1:
                    raise out_of_memory(
                        "price one listing",
                        error,
                        "Use a smaller base, a lower max_length when tuning, or a GPU with more memory.",
                    ) from None
            # Outside of the except block, whose traceback keeps the tensors of the failed batch.
            release_gpu_memory()
            size = len(prompts) // 2
            self.tokens_per_batch = size * max(map(len, prompts))
        parts = [prompts[start : start + size] for start in range(0, len(prompts), size)]
        return [distribution for part in parts for distribution in self.read_in_memory(part)]

    @torch.inference_mode()
    def read(self, prompts: Sequence[Sequence[int]]) -> Sequence[PriceDistribution | None]:
        """The price distribution of each prompt of a batch; None if the model writes no number."""
        if isinstance(self.reader, TokenReader):
            with unmerged_precision(self.model):
                return self.reader.read(self.model, prompts)
        columns = max(map(len, prompts))
        ids = torch.tensor([[*prompt, *[self.pad] * (columns - len(prompt))] for prompt in prompts])
        last = torch.tensor([row * columns + len(prompt) - 1 for row, prompt in enumerate(prompts)])
        with unmerged_precision(self.model):
            states = hidden_states_at(self.model, ids, last)
        with torch.autocast(states.device.type, enabled=False):  # the head is fp32, as in training
            return self.reader.read(get_head(self.model)(states))

    def build_quote(self, distribution: PriceDistribution | None) -> Quote:
        """The median and the 5 % and 95 % quantiles of a distribution; an unanswered quote if it is None."""
        if distribution is None:
            return Quote(None, raw="the model gives whole prices almost no probability")
        raw = f"covered {distribution.covered:.2f}" if isinstance(self.reader, TokenReader) else ""
        return Quote(distribution.median(), distribution.quantile(LOW), distribution.quantile(HIGH), raw)


def pricing_batches(lengths: Sequence[int], budget: int) -> Iterator[list[int]]:
    """Indexes of prompts in batches of similar length, the longest first; each batch, padded, is within the budget."""
    batch: list[int] = []
    for index in sorted(range(len(lengths)), key=lambda index: -lengths[index]):
        if batch and lengths[batch[0]] * (len(batch) + 1) > budget:
            yield batch
            batch = []
        batch.append(index)
    if batch:
        yield batch


def check_length(model: Any, tokenizer: Any, prompt: Prompt) -> None:
    """Raises UsageError if the longest prompt would not fit the model's context."""
    context = getattr(model.config.get_text_config(), "max_position_embeddings", None) or math.inf
    longest = len(prompt.encode(tokenizer, [Listing("", "", "")])[0]) + prompt.max_length + 8
    if longest > context:
        raise UsageError(
            "The prompt does not fit the model's context",
            got=f"up to {longest:,} tokens",
            allowed=f"{context:,.0f}",
            hint="Lower max_length, or use fewer shots.",
        )


def prompt_style(base: PretrainedBase, tokenizer: Any, style: Style | None = None) -> Style:
    """The given style, else chat for an instruct model with a chat template, else plain."""
    if style is not None:
        return style
    return "chat" if base.variant == "instruct" and getattr(tokenizer, "chat_template", None) else "plain"


def zero_shot_pricer(
    base_name: str,
    *,
    revision: str | None = None,
    price_range: tuple[float, float],
    currency: str,
    train: Sequence[Item] = (),
    shots: int = 0,
    style: Style | None = None,
    dtype: str = "auto",
    max_length: int = 200,
    progress: Progress = SILENT,
) -> LlmPricer:
    """The untuned base as a pricer of whole prices, with `shots` priced listings of `train` in its prompt.

    Raises InputError if the base cannot be found, UsageError if it has no such prompt or read-out.
    """
    base = find_base(base_name, revision, progress)
    tokenizer = load_tokenizer(base)
    prompt = Prompt(
        style=prompt_style(base, tokenizer, style),
        currency=currency,
        max_length=max_length,
        examples=few_shot_messages(train, shots),
    )
    check_prompt(base, tokenizer, prompt)
    reader = TokenReader(tokenizer, price_range, prompt.style, currency=currency)
    progress.start(f"loading {base.name}")
    facts = {
        "base": base.name,
        "revision": base.revision,
        "base_fingerprint": base_fingerprint(base),
        "style": prompt.style,
        "shots": shots,
        "max_length": max_length,
    }
    model = load_language_model(base, dtype)
    return LlmPricer(f"zero-shot:{base.name}", model, tokenizer, prompt, reader, facts=facts, progress=progress)


def load_adapter(folder: Path, *, merged: bool | None = None) -> LlmPricer:
    """The pricer of a tuned model folder. `merged`: merge the adapter into the weights (default: if not 4-bit).

    Raises InputError if the folder is damaged, or if the base or the tokenizer is not the one that it was tuned on.
    """
    config = read_config(folder)
    base = find_base(config.base, config.revision)
    tokenizer = load_tokenizer(base)
    for what, tuned_on, current in (
        ("base", config.base_fingerprint, base_fingerprint(base)),
        ("tokenizer", config.tokenizer_fingerprint, tokenizer_fingerprint(tokenizer)),
    ):
        if tuned_on != current:
            raise InputError(
                f"The {what} of {config.base} is not the one that {folder} was tuned on",
                got=f"{what} {current[:16]}",
                allowed=tuned_on[:16],
                hint="Restore that version of the base, or fit again with --overwrite.",
            )
    check_prompt(base, tokenizer, config.prompt)
    merged = config.quantization == "none" if merged is None else merged
    quantization = "none" if merged else config.quantization
    reader: TokenReader | PriceBins
    if config.readout == "bins":
        reader = PriceBins(config.edges or ())
        model = load_classifier(base, len(reader.edges) - 1, config.dtype, quantization)
    else:
        reader = TokenReader(tokenizer, config.price_range, config.prompt.style, currency=config.currency)
        model = load_language_model(base, config.dtype, quantization)
    return LlmPricer(f"lora_{config.readout}", apply_adapter(model, folder, merged), tokenizer, config.prompt, reader)


def read_config(folder: Path) -> PriceConfig:
    """`price_config.json` of a model folder. Raises InputError if it is missing, damaged, or of a later format."""
    values = read_object(folder / PRICE_CONFIG)
    if type(values.get("format")) is not int:
        raise InputError(
            f"{folder / PRICE_CONFIG} is damaged",
            got=f"format {values.get('format')!r}"[:80],
            allowed=f"format {FORMAT}",
            hint="Fit again with --overwrite.",
        )
    if values["format"] > FORMAT:
        raise InputError(
            f"{folder} is of a later version of Pricesmith",
            got=f"format {values['format']}",
            allowed=f"format {FORMAT}",
            hint="Upgrade Pricesmith.",
        )
    try:
        return parse_settings(PriceConfig, values, where=str(folder / PRICE_CONFIG))
    except UsageError as error:
        raise InputError(error.what, got=error.got, allowed=error.allowed, hint="Fit again with --overwrite.") from None


def apply_adapter(model: Any, folder: Path, merged: bool) -> Any:
    """The model with the adapter of a model folder, in eval mode."""
    kind = read_object(folder / "adapter_config.json").get("peft_type")
    if kind != "LORA" or not (folder / "adapter_model.safetensors").is_file():
        raise InputError(f"{folder} has no LoRA adapter", got=repr(kind)[:80], hint="Fit again with --overwrite.")
    tensors = read_tensors(folder / "adapter_model.safetensors")  # for its checks: PEFT accepts NaN weights
    integers = sorted(name for name, tensor in tensors.items() if not tensor.is_floating_point())
    if integers:  # PEFT would load them as weights
        raise InputError(
            f"The adapter of {folder} is damaged",
            got=f"integers in {integers[0]}",
            allowed="floating-point weights",
            hint="Fit again with --overwrite.",
        )
    try:
        with (
            catch_out_of_memory("apply the adapter", "Use a GPU with more memory, or a smaller base."),
            quiet_transformers(),
            warnings.catch_warnings(),
        ):
            # peft 0.21 asks transformers 5.23 for an attribute under its old name
            warnings.filterwarnings("ignore", message="`is_gradient_checkpointing`", category=FutureWarning)
            adapted: Any = PeftModel.from_pretrained(model, folder)
            adapted = adapted.merge_and_unload() if merged else adapted
    except (RuntimeError, ValueError, KeyError, OSError) as error:
        raise InputError(
            f"The adapter of {folder} does not fit its base",
            got=(str(error).splitlines() or [type(error).__name__])[0][:200],
            allowed="the adapter that was tuned on this base",
            hint="Fit again with --overwrite.",
        ) from None
    return adapted.eval()
