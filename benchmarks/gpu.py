"""Tuning and scoring of Llama models with random weights on one GPU, 8B-, 3B- and 0.3B-shaped, within ten minutes.

    python benchmarks/gpu.py --json gpu.json                                       on a GPU, ten minutes at most
    python benchmarks/gpu.py --shapes tiny --lengths 40 --steps 5 --tokens 512     on a CPU, to see that it works

Random weights cost what trained ones cost. Ours: the product's trainer (padded listings of similar length, head at
price positions, bf16, no checkpointing) and read-out; the peer: transformers with PEFT at the settings of the course
that the idea comes from (batch 16, padding to 182, logits everywhere, checkpointing), and `generate` of five tokens.
The share is of the bf16 matmul measured in the same call; 4 FLOPs a block weight and token in tuning, 2 in scoring.
Peak memory stands beside the planner's. Modes: padded (as `fit` tunes), packed (several listings in a row, kept apart
by a mask), nf4 (padded, 4-bit weights).
"""

from __future__ import annotations

import argparse
import gc
import json
import platform
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from peft import LoraConfig, TaskType, get_peft_model
from transformers import AutoModelForCausalLM, LlamaConfig

from llm_speed import clock, matmul_tflops
from memory import quantize
from pricesmith.base_models.gpus import read_gpus
from pricesmith.base_models.memory import Workload, peak_memory_estimate
from pricesmith.core.progress import SILENT
from pricesmith.pricers.llm.adapters import add_adapter, mixed_precision
from pricesmith.pricers.llm.batching import Example, PlannedBatches, Schedule, token_losses
from pricesmith.pricers.llm.checkpoints import TrainingCurve
from pricesmith.pricers.llm.readout import get_head, hidden_states_at
from pricesmith.pricers.llm.registry import architecture_from_config
from pricesmith.pricers.llm.trainer import PriceTrainer, ValidationResult, training_arguments

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
SHAPES: dict[str, dict[str, int]] = {
    "8b": {"hidden_size": 4096, "intermediate_size": 14336, "num_hidden_layers": 32, "num_attention_heads": 32},
    "3b": {"hidden_size": 3072, "intermediate_size": 8192, "num_hidden_layers": 28, "num_attention_heads": 24},
    "0.3b": {"hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 12, "num_attention_heads": 16},
    "tiny": {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 8},
}
COURSE_BATCH, COURSE_PADDING = 16, 182
RANK, NEW_TOKENS, WARM = 32, 5, 3


def config_of(name: str) -> LlamaConfig:
    """The shapes of Llama 3.1 8B and 3.2 3B and of a smaller one (8 key-value heads, 128,256 tokens), or a tiny one."""
    tiny = name == "tiny"
    return LlamaConfig(
        **SHAPES[name],
        num_key_value_heads=8 if not tiny else 4,
        vocab_size=128_256 if not tiny else 500,
        tie_word_embeddings=name != "8b",
        max_position_embeddings=4096,
        pad_token_id=0,
    )


def model_of(config: LlamaConfig, mode: str = "padded") -> Any:
    """The model with random bf16 weights, on the device; its layers in 4 bits for the mode nf4."""
    with torch.device(DEVICE):
        model = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16, attn_implementation="sdpa")
    if mode == "nf4":
        quantize(model)
    return model


def examples_of(config: LlamaConfig, length: int, many: int) -> list[Example]:
    """Listings of random tokens, about `length` of them each (normal, a tenth), with two tokens of answer."""
    draw = np.random.default_rng(0)
    sizes = np.clip(draw.normal(length, length / 10, many).astype(int), 8, COURSE_PADDING - 2)
    return [Example(draw.integers(3, config.vocab_size, size).tolist(), (5, 6), 10.0) for size in sizes]


def lora() -> LoraConfig:
    return LoraConfig(task_type=TaskType.CAUSAL_LM, r=RANK, lora_alpha=2 * RANK, target_modules="all-linear")


def reset() -> None:
    gc.collect()
    if DEVICE == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()


def peak_gb() -> float | None:
    """The device's peak since `reset`, in GB; None on a CPU, where a process has one peak for everything."""
    return torch.cuda.max_memory_allocated() / 1e9 if DEVICE == "cuda" else None


def tune_ours(
    config: LlamaConfig, examples: list[Example], tokens: int, steps: int, mode: str = "padded"
) -> dict[str, Any]:
    """Steps of the product's trainer as `fit` runs it: whole optimizer steps on padded batches, or on packed ones."""
    reset()
    model = add_adapter(model_of(config, mode), lora())
    batches = PlannedBatches([len(one) for one in examples], 0, tokens, steps, packed=mode == "packed")
    with tempfile.TemporaryDirectory() as folder:
        arguments = training_arguments(Path(folder), 1e-4, "cosine", 0, "none")  # also: one GPU of several
        trainer = PriceTrainer(
            model,
            arguments,
            examples=examples,
            batches=batches,
            pad=0,
            loss=token_losses,
            validate=lambda _: ValidationResult(0.0, 1.0),
            curve=TrainingCurve(Path(folder) / "curve.jsonl"),
            patience=0,
            progress=SILENT,
        )
        never = {"epochs": 1.0, "log_every": 10**6, "save_every": 10**6, "n_evals": 1, "eval_items": 0}
        trainer.set_schedule(
            Schedule(steps=steps, **never, seconds=0.0, memory_gb=0.0, padding=0.0), 0, warmup_ratio=0.0
        )
        watch = clock()
        trainer.add_callback(watch)
        with mixed_precision(model):
            trainer.train()
    taken = list(batches)[WARM:steps]
    read = sum(len(examples[place]) for batch in taken for place in batch)
    return {"seconds": sum(watch.seconds[WARM:]), "listings": sum(map(len, taken)), "tokens": read, "gb": peak_gb()}


def tune_peer(config: LlamaConfig, examples: list[Example], asked: Any) -> dict[str, Any]:
    """Optimizer steps of a plain loop over stock transformers and PEFT at the course's settings."""
    reset()
    model = get_peft_model(model_of(config), lora())
    model.gradient_checkpointing_enable({"use_reentrant": False})
    model.train()
    optimizer = torch.optim.AdamW([one for one in model.parameters() if one.requires_grad], lr=1e-4)
    seconds, tokens = [], 0
    for step in range(asked.steps):
        rows = examples[step * COURSE_BATCH : (step + 1) * COURSE_BATCH]
        ids = torch.zeros(len(rows), COURSE_PADDING, dtype=torch.long)
        labels = torch.full_like(ids, -100)
        for row, one in enumerate(rows):
            whole = torch.tensor([*one.prompt, *one.answer])
            ids[row, : len(whole)] = whole
            labels[row, len(one.prompt) : len(whole)] = whole[len(one.prompt) :]
        began = time.perf_counter()
        mask = (ids != 0).long()
        model(ids.to(DEVICE), attention_mask=mask.to(DEVICE), labels=labels.to(DEVICE)).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        if DEVICE == "cuda":
            torch.cuda.synchronize()
        if step >= WARM:
            seconds.append(time.perf_counter() - began)
            tokens += sum(map(len, rows))
    return {"seconds": sum(seconds), "listings": COURSE_BATCH * len(seconds), "tokens": tokens, "gb": peak_gb()}


@torch.inference_mode()
def score(
    config: LlamaConfig, examples: list[Example], tokens: int, many: int, *, ours: bool = False, mode: str = "padded"
) -> dict[str, Any]:
    """One number for each listing: the head at last positions of batches by length, or `generate` of five tokens."""
    reset()
    model = model_of(config, mode).eval()
    rows = sorted((one.prompt for one in examples[:many]), key=len, reverse=True)
    size = max(1, tokens // len(rows[0]))

    def answer(part: list[Any]) -> None:
        columns = max(map(len, part))
        padded = [[*[0] * (columns - len(row)) * (not ours), *row, *[0] * (columns - len(row)) * ours] for row in part]
        ids = torch.tensor(padded, device=DEVICE)
        if ours:
            places = torch.tensor([row * columns + len(one) - 1 for row, one in enumerate(part)], device=DEVICE)
            get_head(model)(hidden_states_at(model, ids, places)).float().softmax(1).cpu()
        else:
            model.generate(ids, attention_mask=(ids != 0).long(), max_new_tokens=NEW_TOKENS, do_sample=False).cpu()

    answer(rows[:size])
    began = time.perf_counter()
    for start in range(0, len(rows), size):
        answer(rows[start : start + size])
    seconds = time.perf_counter() - began
    return {"seconds": seconds, "listings": len(rows), "tokens": sum(map(len, rows)), "gb": peak_gb()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shapes", default="8b,3b,0.3b")
    parser.add_argument("--lengths", default="180")
    parser.add_argument("--modes", default="padded,packed,nf4", help="peer: plain Hugging Face beside padded")
    parser.add_argument(
        "--tokens", type=int, default=16_384, help="of a step, and of a scoring batch; halved until it fits"
    )
    parser.add_argument("--steps", type=int, default=13)
    parser.add_argument("--scored", type=int, default=2_000)
    parser.add_argument("--minutes", type=float, default=10.0, help="work that would not fit is left out, and said")
    parser.add_argument("--no-peer", action="store_true")
    parser.add_argument("--json", type=Path)
    asked = parser.parse_args()
    if asked.steps <= WARM:
        parser.error(f"--steps must be over {WARM}: the first {WARM} are not timed")
    run = Run(asked, matmul_tflops("bfloat16"))
    print(run.heading())
    print("| work | shape | tokens | mode | listings/s | peer | ratio | tokens/s | of matmul | GB | planned GB |")
    print("|---|---|--:|---|--:|--:|--:|--:|--:|--:|--:|", flush=True)
    for shape in asked.shapes.split(","):
        config = config_of(shape)
        for length in map(int, asked.lengths.split(",")):
            for mode in asked.modes.split(","):
                for work in ("tune", "score"):
                    if not (work == "score" and mode == "packed"):  # listings are scored padded
                        run.measure(work, shape, config, length, mode)
    if run.left_out:
        print(f"\nleft out, for lack of time or memory: {', '.join(run.left_out)}")


class Run:
    """The rows of one call, within its minutes."""

    def __init__(self, asked: argparse.Namespace, ceiling: float) -> None:
        self.asked, self.ceiling, self.started, self.longest = asked, ceiling, time.perf_counter(), 0.0
        self.name = torch.cuda.get_device_name() if DEVICE == "cuda" else f"{platform.machine()} without a GPU"
        self.rows: list[dict[str, Any]] = []
        self.left_out: list[str] = []

    def heading(self) -> str:
        """Date, device, and the measured speed of matrix products, beside the published peak if it is known."""
        words = self.name.lower().replace(" ", "-")
        peak = next((kind.flops for name, kind in read_gpus().items() if name in words), None)
        share = f", {self.ceiling * 1e12 / peak:.0%} of the published peak" if peak else ""
        day = time.strftime("%Y-%m-%d")
        return f"{day}, {self.name}, torch {torch.__version__}: bf16 matmul {self.ceiling:,.2f} TFLOP/s{share}\n"

    def measure(self, work: str, shape: str, config: LlamaConfig, length: int, mode: str) -> None:
        """One row, if it fits into the time that is left; a step that does not fit into memory is left out."""
        asked, began = self.asked, time.perf_counter()
        if began - self.started + self.longest > 60 * asked.minutes:
            self.left_out.append(f"{work} {shape} {length} {mode}")
            return
        tokens = batch_that_fits(config, asked.tokens, length, mode)
        many = max(asked.scored, asked.steps * max(COURSE_BATCH, 2 * tokens // length))
        examples = examples_of(config, length, many)
        peer = None
        try:
            if work == "tune":
                ours = tune_ours(config, examples, tokens, asked.steps, mode)
            else:
                ours = score(config, examples, tokens, asked.scored, ours=True, mode=mode)
            if mode == "padded" and not asked.no_peer:
                tune = work == "tune"
                peer = tune_peer(config, examples, asked) if tune else score(config, examples, tokens, asked.scored)
        except torch.OutOfMemoryError:
            self.left_out.append(f"{work} {shape} {length} {mode} (out of memory)")
            return
        self.longest = max(self.longest, time.perf_counter() - began)
        self.keep(work, shape, config, length, mode, tokens, ours, peer)

    def keep(self, work: str, shape: str, config: LlamaConfig, length: int, mode: str, tokens: int, *both: Any) -> None:
        """Print a row, and write all of them: a card that is full later loses nothing."""
        ours, peer = both
        speeds = [each and each["listings"] / each["seconds"] for each in (ours, peer)]
        rate = ours["tokens"] / ours["seconds"]
        blocks = sum(p.numel() for n, p in meta(config).named_parameters() if "layers" in n)
        share = rate * blocks * (4 if work == "tune" else 2) / 1e12 / self.ceiling
        plan = planned(config, work, tokens, length, mode) / 1e9
        measured = "-" if ours["gb"] is None else f"{ours['gb']:.1f}"
        beside = f"{speeds[1]:,.1f} | {speeds[0] / speeds[1]:.2f}" if peer else "- | -"
        print(
            f"| {work} | {shape} | {length} | {mode} | {speeds[0]:,.1f} | {beside} | {rate:,.0f} | {share:.1%} "
            f"| {measured} | {plan:.1f} |",
            flush=True,
        )
        row = {"work": work, "shape": shape, "length": length, "mode": mode, "tokens": tokens, "plan": plan}
        self.rows.append({**row, "ours": ours, "peer": peer})
        if self.asked.json:
            facts = {"device": self.name, "matmul_tflops": self.ceiling, "rows": self.rows}
            self.asked.json.write_text(json.dumps(facts, indent=1) + "\n")


def meta(config: LlamaConfig) -> Any:
    """The model without weights."""
    with torch.device("meta"):
        return AutoModelForCausalLM.from_config(config)


def planned(config: LlamaConfig, work: str, tokens: int, length: int, mode: str = "padded") -> int:
    """What the planner says of the same work, in bytes, without the CUDA context that the allocator does not count."""
    shape = architecture_from_config(config, "the made model")
    asked = Workload(
        tokens=tokens, listing=length, answer=2, rank=RANK, dropout=0.0, branches=0, gpu=DEVICE == "cuda",
        packed=mode == "packed", quantization="nf4" if mode == "nf4" else "none",
    )  # fmt: skip
    found = peak_memory_estimate(shape, "train" if work == "tune" else "serve", asked)
    return found.total - found.runtime


def batch_that_fits(config: LlamaConfig, tokens: int, length: int, mode: str = "padded") -> int:
    """The tokens asked for, halved until the planner leaves a tenth of the card free."""
    memory = torch.cuda.get_device_properties(0).total_memory if DEVICE == "cuda" else float("inf")
    while tokens > length and planned(config, "tune", tokens, length, mode) > 0.9 * memory:
        tokens //= 2
    return tokens


if __name__ == "__main__":
    main()
