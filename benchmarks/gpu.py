"""Tuning and scoring of 8B- and 3B-shaped Llama models with random weights on one GPU: ours against plain Hugging Face.

    python benchmarks/gpu.py --shapes 8b,3b --lengths 110,180 --json gpu.json      on a GPU, about 15 minutes
    python benchmarks/gpu.py --shapes tiny --lengths 40 --steps 5 --tokens 512     on a CPU, to see that it works

Random weights cost what trained ones cost. Ours: the product's trainer (packed listings, head at price positions, bf16,
no checkpointing) and read-out; the peer: transformers with PEFT at the settings of the course that the idea comes from
(batch 16, padding to 182, logits everywhere, checkpointing), and `generate` of five tokens. The share is of the bf16
matmul measured in the same call; 4 FLOPs a block weight and token in tuning, 2 in scoring. Peak memory stands beside
the planner's.
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
from transformers import AutoModelForCausalLM, LlamaConfig, TrainingArguments

from llm_speed import clock, matmul_tflops
from pricesmith.base_models.memory import Workload, peak_memory_estimate
from pricesmith.core.progress import SILENT
from pricesmith.pricers.llm.adapters import add_adapter
from pricesmith.pricers.llm.batching import Example, PlannedBatches, Schedule, token_losses
from pricesmith.pricers.llm.checkpoints import TrainingCurve
from pricesmith.pricers.llm.readout import get_head, hidden_states_at
from pricesmith.pricers.llm.registry import architecture_from_config
from pricesmith.pricers.llm.trainer import PriceTrainer, ValidationResult

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
SHAPES: dict[str, dict[str, int]] = {
    "8b": {"hidden_size": 4096, "intermediate_size": 14336, "num_hidden_layers": 32, "num_attention_heads": 32},
    "3b": {"hidden_size": 3072, "intermediate_size": 8192, "num_hidden_layers": 28, "num_attention_heads": 24},
    "tiny": {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 8},
}
COURSE_BATCH, COURSE_PADDING = 16, 182
RANK, NEW_TOKENS, WARM = 32, 5, 3


def config_of(name: str) -> LlamaConfig:
    """The shapes of Llama 3.1 8B and 3.2 3B (8 key-value heads, 128,256 tokens), or a tiny one."""
    tiny = name == "tiny"
    return LlamaConfig(
        **SHAPES[name],
        num_key_value_heads=8 if not tiny else 4,
        vocab_size=128_256 if not tiny else 500,
        tie_word_embeddings=name != "8b",
        max_position_embeddings=4096,
        pad_token_id=0,
    )


def model_of(config: LlamaConfig) -> Any:
    """The model with random bf16 weights, on the device."""
    with torch.device(DEVICE):
        return AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16, attn_implementation="sdpa")


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


def tune_ours(config: LlamaConfig, examples: list[Example], tokens: int, steps: int) -> dict[str, Any]:
    """Steps of the product's trainer: whole optimizer steps on packed batches (padded on a CPU)."""
    reset()
    packed = DEVICE == "cuda"
    model = add_adapter(model_of(config), lora())
    batches = PlannedBatches([len(one) for one in examples], 0, tokens, steps, packed=packed)
    with tempfile.TemporaryDirectory() as folder:
        arguments = TrainingArguments(
            output_dir=folder, max_steps=steps, report_to="none", disable_tqdm=True, use_cpu=not packed,
            logging_strategy="no", save_strategy="no", optim="adamw_torch",
        )  # fmt: skip
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
def score(config: LlamaConfig, examples: list[Example], tokens: int, many: int, *, ours: bool) -> dict[str, Any]:
    """One number for each listing: the head at last positions of batches by length, or `generate` of five tokens."""
    reset()
    model = model_of(config).eval()
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
    parser.add_argument("--shapes", default="8b,3b")
    parser.add_argument("--lengths", default="110,180")
    parser.add_argument(
        "--tokens", type=int, default=16_384, help="of a step, and of a scoring batch; halved until it fits"
    )
    parser.add_argument("--steps", type=int, default=13)
    parser.add_argument("--scored", type=int, default=2_000)
    parser.add_argument("--json", type=Path)
    asked = parser.parse_args()
    if asked.steps <= WARM:
        parser.error(f"--steps must be over {WARM}: the first {WARM} are not timed")
    ceiling = matmul_tflops("bfloat16")
    name = torch.cuda.get_device_name() if DEVICE == "cuda" else f"{platform.machine()} without a GPU"
    print(f"{time.strftime('%Y-%m-%d')}, {name}, torch {torch.__version__}: bf16 matmul {ceiling:,.2f} TFLOP/s\n")
    print("| work | shape | tokens | ours, listings/s | peer | ratio | tokens/s | of matmul | GB | planned GB |")
    print("|---|---|--:|--:|--:|--:|--:|--:|--:|--:|", flush=True)
    kept = []
    for shape in asked.shapes.split(","):
        config = config_of(shape)
        blocks = sum(p.numel() for n, p in meta(config).named_parameters() if "layers" in n)
        for length in map(int, asked.lengths.split(",")):
            tokens = batch_that_fits(config, asked.tokens, length)
            many = max(asked.scored, asked.steps * max(COURSE_BATCH, 2 * tokens // length))
            examples = examples_of(config, length, many)
            for work, ours, peer in (
                ("tune", tune_ours(config, examples, tokens, asked.steps), tune_peer(config, examples, asked)),
                ("score", *(score(config, examples, tokens, asked.scored, ours=mine) for mine in (True, False))),
            ):
                speeds = [one["listings"] / one["seconds"] for one in (ours, peer)]
                rate = ours["tokens"] / ours["seconds"]
                share = rate * blocks * (4 if work == "tune" else 2) / 1e12 / ceiling
                plan = planned(config, work, tokens, length) / 1e9
                measured = "-" if ours["gb"] is None else f"{ours['gb']:.1f}"
                print(
                    f"| {work} | {shape} | {length} | {speeds[0]:,.1f} | {speeds[1]:,.1f} "
                    f"| {speeds[0] / speeds[1]:.2f} | {rate:,.0f} | {share:.1%} | {measured} | {plan:.1f} |",
                    flush=True,
                )
                row = {"work": work, "shape": shape, "length": length, "tokens": tokens, "plan": plan}
                kept.append({**row, "ours": ours, "peer": peer})
                if asked.json:  # after each row: a card that is full later loses nothing
                    facts = {"device": name, "matmul_tflops": ceiling, "rows": kept}
                    asked.json.write_text(json.dumps(facts, indent=1) + "\n")


def meta(config: LlamaConfig) -> Any:
    """The model without weights."""
    with torch.device("meta"):
        return AutoModelForCausalLM.from_config(config)


def planned(config: LlamaConfig, work: str, tokens: int, length: int) -> int:
    """What the planner says of the same work, in bytes, without the CUDA context that the allocator does not count."""
    shape = architecture_from_config(config, "the made model")
    asked = Workload(tokens=tokens, listing=length, answer=2, rank=RANK, dropout=0.0, branches=0, gpu=DEVICE == "cuda")
    found = peak_memory_estimate(shape, "train" if work == "tune" else "serve", asked)
    return found.total - found.runtime


def batch_that_fits(config: LlamaConfig, tokens: int, length: int) -> int:
    """The tokens asked for, halved until the planner leaves a tenth of the card free."""
    memory = torch.cuda.get_device_properties(0).total_memory if DEVICE == "cuda" else float("inf")
    while tokens > length and planned(config, "tune", tokens, length) > 0.9 * memory:
        tokens //= 2
    return tokens


if __name__ == "__main__":
    main()
