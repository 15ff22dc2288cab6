"""The memory planner against reality: peak memory of tuning and scoring, made models with random weights.

    OMP_NUM_THREADS=1 python benchmarks/memory.py            CPU: 2, 4 and 8 GB above the imports, two batches each
    python benchmarks/memory.py --gpu                        GPU: 8B- and 3B-shaped models, bf16 LoRA and NF4
    python benchmarks/memory.py --case '{"...": ...}'        one case, in this process; what the others start

Each case is a process of its own. CPU: VmHWM at the end minus VmRSS after the imports. GPU: what CUDA says is reserved.
The code is the product's: PEFT LoRA on every linear layer as `pricers/llm/adapters.py` puts it on, the head at
price positions only, two optimizer steps; scoring is `LlmPricer.price` with the digit tree.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from typing import Any

from pricesmith.base_models.memory import Workload, peak_memory_estimate
from pricesmith.pricers.llm.registry import Architecture

LISTING = 128
DROPOUT = 0.05  # of the cases on a CPU; recipes for a GPU have none
TARGETS = (2, 4, 8)  # GB
# (name, tokens small and large, hidden, intermediate)
SHAPES = {
    "3B": Architecture(3072, 28, 24, 8, 8192, 128256, True),
    "8B": Architecture(4096, 32, 32, 8, 14336, 128256, False),
}


def work_of(case: dict[str, Any]) -> Workload:
    """The planner's view of a case."""
    return Workload(
        tokens=case["tokens"],
        listing=case["listing"],
        answer=4,
        branches=1,  # random weights end a number at its first digit: a cache is kept, but its tree does not grow
        gradient_checkpointing=case.get("gradient_checkpointing", False),
        quantization=case.get("quantization", "none"),
        gpu=case["gpu"],
        dropout=case.get("dropout", DROPOUT),
        dtype_bytes=case.get("dtype_bytes", 2),
    )


def choose_case(
    gigabytes: float, purpose: str, tokens: int, hidden: int, intermediate: int, dtype_bytes: int = 2
) -> dict[str, Any]:
    """The case whose predicted peak is nearest to `gigabytes`: as many layers as that takes."""

    def case(layers: int) -> dict[str, Any]:
        shape = {
            "hidden": hidden,
            "layers": layers,
            "heads": hidden // 64,
            "kv_heads": hidden // 256,
            "intermediate": intermediate,
            "vocabulary": 32_000,
            "tied": True,
        }
        return {
            "purpose": purpose,
            "tokens": tokens,
            "listing": LISTING,
            "gpu": False,
            "dtype_bytes": dtype_bytes,
            "shape": shape,
        }

    return min((case(layers) for layers in range(1, 200)), key=lambda one: abs(predicted(one) - gigabytes * 1e9))


def predicted(case: dict[str, Any]) -> int:
    """The planner's peak, without the CUDA context, which torch does not count."""
    found = peak_memory_estimate(Architecture(**case["shape"]), case["purpose"], work_of(case))
    return found.total - (600_000_000 if case["gpu"] else 0)


def cpu_cases(targets: tuple[float, ...] = TARGETS, dtype_bytes: int = 2) -> list[dict[str, Any]]:
    """Tuning and scoring, two batches each, for each peak; `dtype_bytes`: 2 bytes a number, or 4."""
    found = []
    for gigabytes in targets:
        few, many = (256, 1024) if gigabytes <= 2 else (512, 2048)
        found += [
            choose_case(gigabytes, "train", few, 1536, 4096, dtype_bytes),
            choose_case(gigabytes, "train", many, 768, 2048, dtype_bytes),
        ]
        found += [
            choose_case(gigabytes, "serve", 1024, 2048, 5632, dtype_bytes),
            choose_case(gigabytes, "serve", 4096, 1536, 4096, dtype_bytes),
        ]
    return found


def gpu_cases() -> list[dict[str, Any]]:
    """What a card is asked: both sizes, bf16 and NF4, tuning and scoring."""
    found = []
    for shape in SHAPES.values():
        for quantization in ("none", "nf4"):
            for purpose, tokens, gradient_checkpointing in (
                ("train", 2048, False),
                ("train", 8192, True),
                ("serve", 16_384, False),
            ):
                found.append(
                    {
                        "purpose": purpose,
                        "tokens": tokens,
                        "listing": 180,
                        "gpu": True,
                        "dropout": 0.0,
                        "gradient_checkpointing": gradient_checkpointing,
                        "quantization": quantization,
                        "shape": vars(shape) | {},
                    }
                )
    return found


def status(key: str) -> int:
    """Bytes of a line of /proc/self/status."""
    with open("/proc/self/status", encoding="ascii") as lines:
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(key))


def run_case(case: dict[str, Any]) -> int:
    """Peak bytes of one case, in this process."""
    import torch
    from peft import LoraConfig
    from transformers import AutoModelForCausalLM, LlamaConfig

    from pricesmith.core.types import Listing
    from pricesmith.pricers.llm.adapters import add_adapter, mixed_precision
    from pricesmith.pricers.llm.batching import Example, collate, token_losses
    from pricesmith.pricers.llm.pricer import LlmPricer
    from pricesmith.pricers.llm.readout import TokenReader
    from pricesmith.testing.goods import make_tokenizer
    from pricesmith.text.prompts import Prompt

    shape = Architecture(**case["shape"])
    config = LlamaConfig(
        hidden_size=shape.hidden,
        intermediate_size=shape.intermediate,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        num_key_value_heads=shape.kv_heads,
        vocab_size=shape.vocabulary,
        tie_word_embeddings=shape.tied,
        max_position_embeddings=4096,
    )
    half = case.get("dtype_bytes", 2) == 2
    tokenizer = make_tokenizer("digits", chat=False)
    before = status("VmRSS")
    torch.manual_seed(0)
    with torch.device("cuda" if case["gpu"] else "cpu"):
        model: Any = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16 if half else torch.float32)
    if case.get("quantization") == "nf4":
        quantize(model)
    if case["gpu"]:
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    count = case["tokens"] // case["listing"]
    if case["purpose"] == "train":
        settings = LoraConfig(
            r=16, lora_alpha=32, lora_dropout=case.get("dropout", DROPOUT), target_modules="all-linear"
        )
        adapted = add_adapter(model, settings, gradient_checkpointing=case.get("gradient_checkpointing", False))
        adapted.train()
        optimizer = torch.optim.AdamW([one for one in adapted.parameters() if one.requires_grad], lr=1e-4)
        texts = torch.randint(5, 200, (count, case["listing"] - 3)).tolist()
        batch = collate([Example(text, [5, 6, 7, 2], 100.0) for text in texts], 0)
        for _ in range(2):
            with mixed_precision(adapted):
                with torch.autocast("cuda" if case["gpu"] else "cpu", torch.bfloat16, enabled=half):
                    loss = token_losses(adapted, batch).mean()
                loss.backward()
            optimizer.step()
            optimizer.zero_grad()
    else:
        prompt = Prompt(max_length=case["listing"])
        reader = TokenReader(tokenizer, (1.0, 999.0))
        pricer = LlmPricer("made", model.eval(), tokenizer, prompt, reader, case["tokens"])
        spent = len(prompt.encode(tokenizer, [Listing("", "", "")])[0])
        words = "7" * (case["listing"] - spent)
        pricer.price([Listing(str(number), "", words) for number in range(count)])
    if case["gpu"]:
        return int(torch.cuda.max_memory_reserved())
    return status("VmHWM") - before


def quantize(model: Any) -> None:
    """Put every linear layer of the blocks into NF4 with double quantization, as bitsandbytes loads one."""
    import bitsandbytes as bnb
    import torch

    for block in model.model.layers:
        for parent in (block.self_attn, block.mlp):
            for name, layer in list(parent.named_children()):
                if isinstance(layer, torch.nn.Linear):
                    small = bnb.nn.Linear4bit(
                        layer.in_features,
                        layer.out_features,
                        bias=False,
                        compute_dtype=torch.bfloat16,
                        compress_statistics=True,
                        quant_type="nf4",
                    )
                    small.weight = bnb.nn.Params4bit(
                        layer.weight.data.cpu(), requires_grad=False, quant_type="nf4", compress_statistics=True
                    )
                    setattr(parent, name, small.to(layer.weight.device))


def measured(case: dict[str, Any]) -> int:
    """Peak bytes of one case, in a process of its own."""
    command = [sys.executable, __file__, "--case", json.dumps(case)]
    found = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
    if found.returncode:
        raise RuntimeError(found.stderr[-2000:])
    return int(found.stdout.strip().splitlines()[-1])


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--case")
    parser.add_argument("--gpu", action="store_true")
    parser.add_argument("--targets", default=",".join(map(str, TARGETS)))
    parser.add_argument("--fp32", action="store_true", help="a CPU that does not compute in bf16")
    asked = parser.parse_args()
    if asked.case:
        print(run_case(json.loads(asked.case)))
        return
    cases = (
        gpu_cases()
        if asked.gpu
        else cpu_cases(tuple(float(one) for one in asked.targets.split(",")), 4 if asked.fp32 else 2)
    )
    if asked.gpu:
        import torch

        if not torch.cuda.is_available():
            print("not measured: there is no GPU here")
            return
    print(f"{'case':<52} {'planned':>9} {'measured':>9} {'ratio':>6}")
    for case in cases:
        shape = Architecture(**case["shape"])
        name = (
            f"{case['purpose']} {shape.parameters / 1e9:.2f}B {shape.layers} layers, {case['tokens']:,} tokens"
            f"{' nf4' if case.get('quantization') == 'nf4' else ''}"
            f"{' recomputed' if case.get('gradient_checkpointing') else ''}"
        )
        plan, real = predicted(case), measured(case)
        print(f"{name:<52} {plan / 1e9:>8.2f}G {real / 1e9:>8.2f}G {plan / real:>6.2f}", flush=True)


if __name__ == "__main__":
    main()
