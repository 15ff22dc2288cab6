"""A model as a folder for others, without its training rows, with a model card.

merged    a tuned language model with its adapter merged into the weights, which stock transformers loads with its head
adapter   the PEFT folder, for people who have the base
hub       any model folder as Pricesmith loads it, with the front matter of the Hub: ready for `hf upload`
"""

from __future__ import annotations

import hashlib
import shutil
from itertools import pairwise
from pathlib import Path
from typing import Any

from pricesmith.core.atomic import read_json, write_atomic, write_json
from pricesmith.core.errors import UsageError
from pricesmith.core.folders import build_folder
from pricesmith.core.progress import Progress
from pricesmith.exporting.card import License, contains_training_rows, model_card
from pricesmith.pricers.model import COMPARABLES, MANIFEST, PriceModel, load_model
from pricesmith.text.formatting import decimal_places

PRICE_CONFIG = "price_config.json"
CARD = "README.md"
MARKER = "export.json"
# A model folder names its base by its path, and its files are checked by their hashes, so hub keeps the path.
PATH_NOTE = {"adapter": "", "hub": " Its path on this machine is in price_config.json."}
ADAPTER_FILES = ("adapter_config.json", "adapter_model.safetensors", PRICE_CONFIG, "calibration.json", "catalog.json")


def write_export(
    source: Path, to: Path, format: str, evals: Path | None, progress: Progress, *, overwrite: bool = False
) -> dict[str, Any]:
    """Export the model folder `source` into the folder `to`; the facts of what was written.

    Raises UsageError if a model of this kind has no such format.
    """
    model = load_model(source)
    tuned = (source / PRICE_CONFIG).is_file()
    if format in ("merged", "adapter") and not tuned:
        raise UsageError(
            f"A model of the kind {model.manifest['kind']} has no adapter",
            got=format,
            allowed="hub",
            hint=f"pricesmith export {source} --to {to} --format hub",
        )
    base, license = find_license(source) if tuned else ("", License())
    card = model_card(model, base=base, license=license, evals=evals, merged=format == "merged")
    # The path as a hash, because the marker is published with the folder.
    evals_hash = evals and hashlib.sha256(str(evals.resolve()).encode()).hexdigest()[:16]
    settings = {"model": model.identity, "format": format, "evals": evals_hash}
    inputs = [source, *([evals] if evals else [])]
    with build_folder(
        to, MARKER, settings, overwrite=overwrite, noun="export", inputs=inputs, option="--overwrite"
    ) as build:
        if build is None:
            progress.note(f"{to} is already exported with these settings.")
        else:
            progress.start(f"exporting {source.name} as {format}")
            if contains_training_rows(model):
                progress.note(
                    "The export contains prices of training rows, with their titles or hashed words: they are the "
                    "model."
                )
            if tuned and format != "merged" and "/" not in base:
                progress.note(
                    f"The base {base} is not on the Hub, as far as the registry shows: pass it on too, or export "
                    f"merged."
                    f"{PATH_NOTE[format]}"
                )
            if format == "merged" and model.manifest["settings"].get("quantization") == "nf4":
                progress.note(
                    "It was evaluated on the base in 4 bits; merged into the published base, its quotes differ a "
                    "little."
                )
            {"merged": write_merged, "adapter": write_adapter, "hub": write_hub}[format](model, build.folder)
            write_atomic(build.folder / CARD, card)
            build.finish({"format": format, "base": base})
    size = sum(path.stat().st_size for path in to.rglob("*") if path.is_file())
    return {"to": str(to), "format": format, "base": base, "bytes": size, "license": license.name or None}


def find_license(folder: Path) -> tuple[str, License]:
    """The base of a tuned model, by its Hub id if it has one, and its license, if they are in the registry."""
    from pricesmith.pricers.llm.registry import find_model

    name = str(read_json(folder / PRICE_CONFIG)["base"])
    entry = find_model(name)
    if entry is None:  # the path of a local folder is not published, only its name
        return Path(name).name if Path(name).is_absolute() else name, License()
    model, variant = entry
    terms = model.license
    link = model.sources[terms.source].url if terms.source else ""
    # Llama's license: the name of a tuned model that is distributed begins with "Llama".
    prefix = "Llama" if terms.name.startswith("Llama") else ""
    return model.base if variant == "base" else model.instruct, License(terms.name, link, terms.duties, prefix)


def write_merged(model: PriceModel, to: Path) -> None:
    """Write the base with the adapter merged into its weights, its tokenizer and the read-out's files."""
    from pricesmith.pricers.llm.base_model import quiet_transformers
    from pricesmith.pricers.llm.pricer import load_adapter

    pricer = load_adapter(model.path, merged=True)
    edges = getattr(pricer.reader, "edges", None)
    if edges:  # so that a stock pipeline returns prices instead of LABEL_7
        code = str(model.info["currency"])
        ends = [f"{edge:.{decimal_places(edge, code)}f}" for edge in edges]
        names = [f"{low} to {high} {code}" for low, high in pairwise(ends)]
        pricer.model.config.id2label = dict(enumerate(names))
        pricer.model.config.label2id = {name: number for number, name in enumerate(names)}
    with quiet_transformers():
        pricer.model.save_pretrained(to)
        pricer.tokenizer.save_pretrained(to)
    for name in ADAPTER_FILES[2:]:
        shutil.copyfile(model.path / name, to / name)
    rename_base(to / PRICE_CONFIG, "base", model)


def write_adapter(model: PriceModel, to: Path) -> None:
    """Write the adapter's PEFT folder, with the public name of the base."""
    for name in ADAPTER_FILES:
        shutil.copyfile(model.path / name, to / name)
    rename_base(to / ADAPTER_FILES[0], "base_model_name_or_path", model)
    rename_base(to / PRICE_CONFIG, "base", model)


def rename_base(path: Path, key: str, model: PriceModel) -> None:
    """Replace the base's name in a file by its public name."""
    write_json(path, {**read_json(path), key: find_license(model.path)[0]})


def write_hub(model: PriceModel, to: Path) -> None:
    """Copy the model folder without its comparables, which are rows of the catalog."""
    names = [name for name in model.manifest["files"] if not name.startswith(f"{COMPARABLES}/")]
    for name in (*names, MANIFEST):
        (to / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(model.path / name, to / name)
