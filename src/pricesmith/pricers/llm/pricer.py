"""A language model as a pricer: as it is (zero-shot), or with the adapter that a run folder holds.

    zero_shot("gemma-3-270m", price_range=(1, 999), currency="USD").price(listings)
    load_adapter(Path("out/lora_bins")).price(listings)

The quote is the median of the distribution that is read from the model; low and high are its 5 % and 95 % quantiles.
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
from pricesmith.pricers.llm.base_model import (
    PretrainedBase,
    base_fingerprint,
    find_base,
    load_classifier,
    load_language_model,
    load_tokenizer,
    quiet_transformers,
    refuse_prompt,
    tokenizer_fingerprint,
)
from pricesmith.pricers.llm.distribution import PriceDistribution
from pricesmith.pricers.llm.readout import PriceBins, TokenReader, get_head, hidden_states_at
from pricesmith.text.prompts import Prompt, Style, few_shot_messages

PRICE_CONFIG = "price_config.json"
FORMAT = 1
LOW, HIGH = 0.05, 0.95


class PriceConfig(Settings):
    """`price_config.json` of a tuned run: how the model is asked and read, and which base it is an adapter of."""

    model_config = ConfigDict(frozen=True, extra="ignore", allow_inf_nan=False)
    format: int
    readout: Literal["tokens", "bins"]
    base: str
    revision: str | None = None
    base_print: str
    tokenizer_print: str
    prompt: Prompt
    currency: str
    price_range: tuple[float, float]
    edges: tuple[float, ...] | None = Field(None, description="of the price bins")
    dtype: Literal["auto", "bfloat16", "float16", "float32"] = "auto"
    quantization: Literal["none", "nf4"] = "none"
    calibration_rows: int | None = Field(None, description="that its intervals are calibrated on, at most; none: all")

    @model_validator(mode="after")
    def checked(self) -> PriceConfig:
        """Raises ValueError where the price range is empty, or bins have no edges that rise."""
        check_range(self.price_range)
        if self.readout == "bins":
            if self.edges is None or len(self.edges) < 3:
                raise ValueError("edges of at least two price bins")
            check_increasing(self.edges)
        return self


class LlmPricer:
    """A model, how it is asked and how it is read.

    `tokens_per_batch` counts padded prompt tokens of a forward; `facts` tell this pricer from another, as plain values;
    `progress` hears once how long a listing takes.
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
        self.tokens_per_batch = tokens_per_batch or (32_768 if torch.cuda.is_available() else 2048)
        self.pad = int(tokenizer.pad_token_id or 0)
        check_length(model, tokenizer, prompt)

    def price(self, listings: Sequence[Listing]) -> list[Quote]:
        """One quote for each listing, in order; a price of None where the model wrote no numbers."""
        prompts = self.prompt.encode(self.tokenizer, listings)
        quotes = [Quote(None)] * len(prompts)
        for places in pricing_batches([len(prompt) for prompt in prompts], self.tokens_per_batch):
            began = time.perf_counter()
            found = self.read([prompts[place] for place in places])
            self.tell(time.perf_counter() - began, [prompts[place] for place in places], prompts)
            for place, distribution in zip(places, found, strict=True):
                quotes[place] = self.quote(distribution)
        return quotes

    def shown(self, train: Sequence[Item], shots: int) -> LlmPricer:
        """The same model, shown `shots` priced listings of `train` first."""
        prompt = self.prompt.model_copy(update={"examples": few_shot_messages(train, shots)})
        return LlmPricer(
            self.name, self.model, self.tokenizer, prompt, self.reader, self.tokens_per_batch, facts=self.facts
        )

    def tell(self, seconds: float, batch: Sequence[Sequence[int]], prompts: Sequence[Sequence[int]]) -> None:
        """After the first batch, one line on how long listings like these take."""
        progress, self.progress = self.progress, SILENT
        each = seconds / sum(map(len, batch)) * sum(map(len, prompts)) / len(prompts)
        took = f"{1000 * each / 60:.0f} minutes" if each > 0.1 else f"{1000 * each:.0f} s"
        progress.note(f"{self.name}: about {each:.2g} s a listing, {took} for 1,000.")

    @torch.inference_mode()
    def read(self, prompts: Sequence[Sequence[int]]) -> Sequence[PriceDistribution | None]:
        """The distribution that each prompt of a batch gives."""
        if isinstance(self.reader, TokenReader):
            return self.reader.read(self.model, prompts)
        columns = max(map(len, prompts))
        ids = torch.tensor([[*prompt, *[self.pad] * (columns - len(prompt))] for prompt in prompts])
        places = torch.tensor([row * columns + len(prompt) - 1 for row, prompt in enumerate(prompts)])
        return self.reader.read(get_head(self.model)(hidden_states_at(self.model, ids, places)))

    def quote(self, found: PriceDistribution | None) -> Quote:
        """A distribution as an answer."""
        if found is None:
            return Quote(None, raw="no whole price had a likelihood to speak of")
        raw = f"covered {found.covered:.2f}" if isinstance(self.reader, TokenReader) else ""
        return Quote(found.median(), found.quantile(LOW), found.quantile(HIGH), raw)


def pricing_batches(lengths: Sequence[int], budget: int) -> Iterator[list[int]]:
    """Places of prompts of like length together, the longest first, each batch within the budget when padded."""
    batch: list[int] = []
    for place in sorted(range(len(lengths)), key=lambda place: -lengths[place]):
        if batch and lengths[batch[0]] * (len(batch) + 1) > budget:
            yield batch
            batch = []
        batch.append(place)
    if batch:
        yield batch


def check_length(model: Any, tokenizer: Any, prompt: Prompt) -> None:
    """Raises UsageError where the longest prompt would not fit the model's context."""
    context = getattr(model.config.get_text_config(), "max_position_embeddings", None) or math.inf
    longest = len(prompt.encode(tokenizer, [Listing("", "", "")])[0]) + prompt.max_length + 8
    if longest > context:
        raise UsageError(
            "The prompt does not fit the model's context",
            got=f"up to {longest:,} tokens",
            allowed=f"{context:,.0f}",
            hint="Lower max_length, or show fewer examples.",
        )


def prompt_style(base: PretrainedBase, tokenizer: Any, style: Style | None = None) -> Style:
    """The style that was asked for, else a chat for an instruct model with a template, else plain."""
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
    """The untuned base as a pricer of whole prices; with `shots`, so many priced listings of `train` are shown first.

    Raises InputError where the base is not here, UsageError where it cannot be asked or read so.
    """
    base = find_base(base_name, revision, progress)
    tokenizer = load_tokenizer(base)
    prompt = Prompt(
        style=prompt_style(base, tokenizer, style),
        currency=currency,
        max_length=max_length,
        examples=few_shot_messages(train, shots),
    )
    refuse_prompt(base, tokenizer, prompt)
    reader = TokenReader(tokenizer, price_range, prompt.style, currency=currency)
    progress.start(f"loading {base.name}")
    facts = {
        "base": base.name,
        "revision": base.revision,
        "base_print": base_fingerprint(base),
        "style": prompt.style,
        "shots": shots,
        "max_length": max_length,
    }
    model = load_language_model(base, dtype)
    return LlmPricer(f"zero-shot:{base.name}", model, tokenizer, prompt, reader, facts=facts, progress=progress)


def load_adapter(run: Path, *, merged: bool | None = None) -> LlmPricer:
    """The pricer of a tuned run. `merged`: the adapter is put into the weights; as a rule where they are not in 4 bits.

    Raises InputError where the folder is not whole, or where the base or the tokenizer found here is not the one that
    it was tuned on.
    """
    config = read_config(run)
    base = find_base(config.base, config.revision)
    tokenizer = load_tokenizer(base)
    for what, was, found in (
        ("base", config.base_print, base_fingerprint(base)),
        ("tokenizer", config.tokenizer_print, tokenizer_fingerprint(tokenizer)),
    ):
        if was != found:
            raise InputError(
                f"The {what} of {config.base} is not the one that {run} was tuned on",
                got=f"{what} {found[:16]}",
                allowed=was[:16],
                hint="Put that version of the base back, or fit again.",
            )
    refuse_prompt(base, tokenizer, config.prompt)
    merged = config.quantization == "none" if merged is None else merged
    quantization = "none" if merged else config.quantization
    reader: TokenReader | PriceBins
    if config.readout == "bins":
        reader = PriceBins(config.edges or ())
        model = load_classifier(base, len(reader.edges) - 1, config.dtype, quantization)
    else:
        reader = TokenReader(tokenizer, config.price_range, config.prompt.style, currency=config.currency)
        model = load_language_model(base, config.dtype, quantization)
    return LlmPricer(f"lora_{config.readout}", apply_adapter(model, run, merged), tokenizer, config.prompt, reader)


def read_config(run: Path) -> PriceConfig:
    """`price_config.json` of a run. Raises InputError where it is missing, damaged, or of a later format."""
    values = read_object(run / PRICE_CONFIG)
    if type(values.get("format")) is not int:
        raise InputError(f"{run / PRICE_CONFIG} is damaged", hint="Fit again with --overwrite.")
    if values["format"] > FORMAT:
        raise InputError(f"{run} is of a later version of Pricesmith", allowed=f"format {FORMAT}", hint="Upgrade it.")
    try:
        return parse_settings(PriceConfig, values, where=str(run / PRICE_CONFIG))
    except UsageError as error:
        raise InputError(error.what, got=error.got, allowed=error.allowed, hint="Fit again with --overwrite.") from None


def apply_adapter(model: Any, run: Path, merged: bool) -> Any:
    """The model with the run's adapter, ready to score."""
    kind = read_object(run / "adapter_config.json").get("peft_type")
    if kind != "LORA" or not (run / "adapter_model.safetensors").is_file():
        raise InputError(f"{run} holds no LoRA adapter", got=str(kind), hint="Fit again with --overwrite.")
    read_tensors(run / "adapter_model.safetensors")  # for its checks: PEFT takes NaN for a weight
    try:
        with quiet_transformers(), warnings.catch_warnings():
            # peft 0.21 asks transformers 5.23 for an attribute under its old name
            warnings.filterwarnings("ignore", message="`is_gradient_checkpointing`", category=FutureWarning)
            found: Any = PeftModel.from_pretrained(model, run)
            found = found.merge_and_unload() if merged else found
    except (RuntimeError, ValueError, KeyError, OSError) as error:
        raise InputError(
            f"The adapter of {run} does not fit its base", got=str(error).splitlines()[0][:200], hint="Fit again."
        ) from None
    return found.eval()
