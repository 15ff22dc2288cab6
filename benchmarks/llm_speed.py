"""Tuning and scoring of a language model against plain Hugging Face on the same work, in one run.

    python benchmarks/llm_speed.py --goods goods.jsonl.gz --base gemma-3-270m

Ours and the peer take turns, each in a fresh process. Peers: transformers' Trainer with PEFT, batches of as many
in random order padded to the longest, and logits at all positions (tokens) or stock classification (bins); for scoring,
`generate` of five tokens on padded batches of the same size, with --run by the same tuned weights. Figures are
listings a second, forward to optimizer step, without loading; the share is of the bf16 matmul that this machine does in
the same call, counting 4 FLOPs a weight and token for LoRA's forward and backward, 2 for scoring, weights of the blocks
only.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

TUNING, SCORING = ("tune tokens", "tune bins"), ("score tokens", "score bins")
WARM = 2  # steps at the start that are not counted
NEW_TOKENS = 5


def clock() -> Any:
    """A Trainer callback that keeps the seconds of every step."""
    from transformers import TrainerCallback

    class Clock(TrainerCallback):
        def __init__(self) -> None:
            self.seconds: list[float] = []

        def on_step_begin(self, *_: Any, **__: Any) -> None:
            self.began = time.perf_counter()

        def on_step_end(self, *_: Any, **__: Any) -> None:
            self.seconds.append(time.perf_counter() - self.began)

    return Clock()


def job_of(what: str, asked: Any, run: Path) -> Any:
    """Our own tuning job on the first rows of the catalog: model, adapter, examples, trainer."""
    from pricesmith.catalog import open as open_catalog
    from pricesmith.core.atomic import write_json
    from pricesmith.core.progress import SILENT
    from pricesmith.pricers.fitting import catalog_info
    from pricesmith.pricers.llm.lora import TuningRun
    from pricesmith.pricers.recipes import read_recipe

    catalog = open_catalog(asked.catalog)
    rows = catalog.items("train")[: asked.rows]
    write_json(run / "catalog.json", catalog_info(catalog, rows))
    settings = {"base": asked.base, "minutes": 0, "n_evals": 1}
    recipe = read_recipe(f"lora_{what.split()[1]}", settings)
    return TuningRun(recipe, rows, [], run, SILENT)  # type: ignore[arg-type]


def tune_ours(what: str, asked: Any, run: Path) -> dict[str, Any]:
    """Steps of the product's own trainer."""
    from pricesmith.pricers.llm.batching import Schedule

    job, watch = job_of(what, asked, run), clock()
    steps = asked.steps
    never = {"epochs": 1.0, "log_every": 10**6, "save_every": 10**6, "n_evals": 1, "eval_items": 0}
    schedule = Schedule(steps=steps, **never, seconds=0.0, memory_gb=0.0, padding=0.0)
    job.trainer.set_schedule(schedule, 0, warmup_ratio=0.03)
    job.trainer.add_callback(watch)
    job.trainer.train()
    taken = list(job.trainer.batches)[WARM:steps]
    listings = sum(map(len, taken))
    tokens = sum(len(job.examples[place]) for batch in taken for place in batch)
    return {"seconds": sum(watch.seconds[WARM:]), "listings": listings, "tokens": tokens}


def tune_peer(what: str, asked: Any, run: Path) -> dict[str, Any]:
    """Steps of a plain Trainer with PEFT on the same examples, as many listings a step as ours on average."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import (
        AutoModelForCausalLM,
        AutoModelForSequenceClassification,
        DataCollatorForSeq2Seq,
        DataCollatorWithPadding,
        Trainer,
        TrainingArguments,
    )

    job = job_of(what, asked, run)
    per_step = round(len(job.examples) / len(plan_of(job)))
    settings, bins, folder = job.settings, what.endswith("bins"), job.base.path
    dtype = getattr(torch, job.dtype)
    rows: list[dict[str, Any]] = []
    for example in job.examples:
        ids = [*example.prompt, *example.answer]
        label: Any = [-100] * len(example.prompt) + list(example.answer)
        rows.append({"input_ids": ids, "attention_mask": [1] * len(ids), "labels": label})
    if bins:
        targets = job.reader.targets(torch.tensor([one.price for one in job.examples]), settings.sigma).argmax(1)
        rows = [{**row, "labels": int(target)} for row, target in zip(rows, targets, strict=True)]
        many = len(job.reader.edges) - 1
        model = AutoModelForSequenceClassification.from_pretrained(folder, num_labels=many, dtype=dtype)
        model.config.pad_token_id = job.tokenizer.pad_token_id
    else:
        model = AutoModelForCausalLM.from_pretrained(folder, dtype=dtype)
    lora = LoraConfig(
        r=settings.lora_r,
        lora_alpha=settings.lora_alpha,  # type: ignore[arg-type]
        lora_dropout=settings.lora_dropout,
        target_modules="all-linear",
        task_type="SEQ_CLS" if bins else "CAUSAL_LM",
    )
    arguments = TrainingArguments(
        output_dir=str(run / "peer"),
        max_steps=asked.steps,
        per_device_train_batch_size=per_step,
        learning_rate=settings.learning_rate,
        save_strategy="no",
        logging_strategy="no",
        report_to="none",
        disable_tqdm=True,
        use_cpu=not torch.cuda.is_available(),
        seed=0,
    )
    collator: Any = DataCollatorWithPadding(job.tokenizer) if bins else DataCollatorForSeq2Seq(job.tokenizer)
    watch = clock()
    peer = get_peft_model(model, lora)
    Trainer(peer, arguments, data_collator=collator, train_dataset=rows, callbacks=[watch]).train()  # type: ignore[arg-type]
    listings = per_step * (asked.steps - WARM)
    return {"seconds": sum(watch.seconds[WARM:]), "listings": listings, "tokens": 0}


def plan_of(job: Any) -> list[list[int]]:
    from pricesmith.pricers.llm.batching import pack_batches

    batches = job.trainer.batches
    return pack_batches(batches.lengths, batches.seed, 0, batches.tokens_per_batch, packed=batches.packed)


def score(what: str, asked: Any, run: Path, *, ours: bool) -> dict[str, Any]:
    """Listings priced by the product's pricer, or by `generate` on padded batches of as many listings."""
    import torch

    from pricesmith.catalog import open as open_catalog

    wares = [item.listing for item in open_catalog(asked.catalog).items("validation")[: asked.scored]]
    if asked.run and what == "score tokens":
        from pricesmith.pricers.llm.pricer import load_adapter

        pricer = load_adapter(Path(asked.run))
        model = pricer.model
    else:
        job = job_of(what, asked, run)
        pricer, model = job.pricer, job.model.merge_and_unload().eval()  # as a run is loaded
        if not ours:
            from transformers import AutoModelForCausalLM

            model = AutoModelForCausalLM.from_pretrained(job.base.path, dtype=getattr(torch, job.dtype)).eval()
            model.to(job.model.device)
        pricer.model = model
    tokenizer = pricer.tokenizer
    prompts = pricer.prompt.encode(tokenizer, wares)
    size = max(1, pricer.tokens_per_batch // max(map(len, prompts)))

    def generate(rows: list[list[int]]) -> None:
        tokenizer.padding_side = "left"
        batch = tokenizer.pad({"input_ids": rows}, return_tensors="pt").to(model.device)
        with torch.inference_mode():
            model.generate(**batch, max_new_tokens=NEW_TOKENS, do_sample=False)

    warm = wares[:size]
    if ours:
        pricer.price(warm)
    else:
        generate(prompts[:size])
    began = time.perf_counter()
    if ours:
        pricer.price(wares)
    else:
        for start in range(0, len(prompts), size):
            generate(prompts[start : start + size])
    return {
        "seconds": time.perf_counter() - began,
        "listings": len(wares),
        "tokens": sum(map(len, prompts)),
    }


def matmul_tflops(dtype: str, seconds: float = 1.5) -> float:
    """What a square matrix product does here, in TFLOP/s."""
    import torch

    device = "cuda" if torch.cuda.is_available() else "cpu"
    side = 8192 if device == "cuda" else 512  # small: a processor may only emulate bf16
    one = torch.randn(side, side, dtype=getattr(torch, dtype), device=device)
    one @ one
    began, times = time.perf_counter(), 0
    while time.perf_counter() - began < seconds:
        one @ one
        if device == "cuda":
            torch.cuda.synchronize()
        times += 1
    return 2 * side**3 * times / (time.perf_counter() - began) / 1e12


def one(what: str, side: str, asked: Any) -> dict[str, Any]:
    """One measurement, in this process."""
    import torch

    torch.set_num_threads(asked.threads)
    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder)
        if what in TUNING:
            return (tune_ours if side == "ours" else tune_peer)(what, asked, run)
        return score(what, asked, run, ours=side == "ours")


def block_weights(base: str) -> int:
    """Weights of the transformer's blocks: the ones that every token goes through."""
    import torch
    from transformers import AutoConfig, AutoModel

    from pricesmith.pricers.llm.base_model import find_base

    with torch.device("meta"):
        model = AutoModel.from_config(AutoConfig.from_pretrained(find_base(base).path))
    return sum(p.numel() for name, p in model.named_parameters() if "embed" not in name)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--goods", help="a file to curate, with --min-price 0.5 --max-price 999.49; none: the demo goods"
    )
    parser.add_argument("--catalog", help="a finished catalog, instead")
    parser.add_argument("--base", default="gemma-3-270m")
    parser.add_argument("--rows", type=int, default=3000, help="training rows the batches are drawn from")
    parser.add_argument("--steps", type=int, default=14)
    parser.add_argument("--scored", type=int, default=160)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--only", default=",".join((*TUNING, *SCORING)))
    parser.add_argument("--run", help="a tuned lora_tokens run, whose weights both sides score with; none: untuned")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.one:
        print(json.dumps(one(*asked.one.split(":"), asked)))
        return
    with tempfile.TemporaryDirectory() as folder:
        if asked.catalog is None:
            from pricesmith.catalog import curate

            asked.catalog = str(Path(folder) / "catalog")
            price_range = {"min_price": 0.5, "max_price": 999.49} if asked.goods else {}
            curate([asked.goods or "demo:goods"], Path(asked.catalog), **price_range)  # type: ignore[arg-type]
        ceiling, weights = matmul_tflops("bfloat16"), block_weights(asked.base)
        print(f"{time.strftime('%Y-%m-%d')}, {platform.machine()}, {asked.threads} threads, {asked.base}: ", end="")
        print(f"{weights / 1e6:,.0f} million block weights; bf16 matmul {ceiling:.3f} TFLOP/s in this run\n")
        print(
            "| work | ours, listings/s | peer, listings/s | ratio | tokens/s | of matmul |\n|---|--:|--:|--:|--:|--:|"
        )
        for what in asked.only.split(","):
            print(line(what, asked, ceiling, weights), flush=True)


def line(what: str, asked: Any, ceiling: float, weights: int) -> str:
    """One row of the table: rounds in turn, sums over the rounds."""
    sums: dict[str, dict[str, float]] = {side: {"seconds": 0, "listings": 0, "tokens": 0} for side in ("ours", "peer")}
    for _ in range(asked.rounds):
        for side, total in sums.items():
            names = ("catalog", "base", "rows", "steps", "scored", "threads", *(["run"] if asked.run else []))
            kept = [f"--{name}={getattr(asked, name)}" for name in names]
            command = [sys.executable, "-W", "ignore", __file__, *kept, "--one", f"{what}:{side}"]
            done = subprocess.run(command, capture_output=True, text=True)
            if done.returncode:
                raise SystemExit(f"{what} {side}: {done.stderr[-2000:]}")
            for name, value in json.loads(done.stdout.splitlines()[-1]).items():
                total[name] += value
    ours, peer = (total["listings"] / total["seconds"] for total in sums.values())
    tokens = sums["ours"]["tokens"] / sums["ours"]["seconds"]
    share = tokens * weights * (4 if what in TUNING else 2) / 1e12 / ceiling
    return f"| {what} | {ours:.2f} | {peer:.2f} | {ours / peer:.2f} | {tokens:,.0f} | {share:.0%} |"


if __name__ == "__main__":
    main()
