"""A run as a folder for others: without the rows it was made from, with a card.

merged    a tuned language model with its adapter put into the weights: stock transformers loads it, number head and all
adapter   the PEFT folder as it is, for whoever has the base
hub       any run as Pricesmith loads it, with the front matter of the Hub: ready for `hf upload`
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
from pricesmith.exporting.card import License, contains_training_text, model_card
from pricesmith.pricers.model import COMPARABLES, MANIFEST, PriceModel, load_model
from pricesmith.text.formatting import decimal_places

PRICE_CONFIG = "price_config.json"
CARD = "README.md"
MARKER = "export.json"
# A run is loaded by the path of its base, and its files are held to their hashes.
NAMED = {"adapter": "", "hub": " Its path on this machine is in price_config.json."}
OF_ADAPTER = ("adapter_config.json", "adapter_model.safetensors", PRICE_CONFIG, "calibration.json", "catalog.json")


def write_export(
    source: Path, to: Path, form: str, evals: Path | None, progress: Progress, *, overwrite: bool = False
) -> dict[str, Any]:
    """Write the run `source` into the folder `to`; what was written. Raises UsageError where it has no such form."""
    run = load_model(source)
    tuned = (source / PRICE_CONFIG).is_file()
    if form in ("merged", "adapter") and not tuned:
        raise UsageError(
            f"A run of the kind {run.manifest['kind']} has no adapter",
            got=form,
            allowed="hub",
            hint=f"pricesmith export {source} --to {to} --format hub",
        )
    base, license = find_license(source) if tuned else ("", License())
    card = model_card(run, base=base, license=license, evals=evals, merged=form == "merged")
    # By its hash: the marker leaves the house too, and a folder of this machine is nobody's business.
    told = evals and hashlib.sha256(str(evals.resolve()).encode()).hexdigest()[:16]
    settings = {"run": run.identity, "format": form, "evals": told}
    inputs = [source, *([evals] if evals else [])]
    with build_folder(
        to, MARKER, settings, overwrite=overwrite, noun="export", inputs=inputs, option="--overwrite"
    ) as build:
        if build is None:
            progress.note(f"{to} is already exported with these settings.")
        else:
            progress.start(f"exporting {source.name} as {form}")
            if contains_training_text(run):
                progress.note(
                    "Prices of training rows, with their titles or hashed words, go along: they are its model."
                )
            if tuned and form != "merged" and "/" not in base:
                progress.note(
                    f"The base is {base}, which no hub is known to have: hand it on too, or merge.{NAMED[form]}"
                )
            if form == "merged" and run.manifest["settings"].get("quantization") == "nf4":
                progress.note(
                    "It was judged on the base in 4 bits; merged into the published one, its quotes differ a little."
                )
            {"merged": write_merged, "adapter": write_adapter, "hub": write_hub}[form](run, build.folder)
            write_atomic(build.folder / CARD, card)
            build.finish({"format": form, "base": base})
    size = sum(path.stat().st_size for path in to.rglob("*") if path.is_file())
    return {"to": str(to), "format": form, "base": base, "bytes": size, "license": license.name or None}


def find_license(run: Path) -> tuple[str, License]:
    """The base of a tuned run, by its Hub id where it has one, and its license, as far as the registry knows them."""
    from pricesmith.pricers.llm.registry import find_model

    name = str(read_json(run / PRICE_CONFIG)["base"])
    found = find_model(name)
    if found is None:  # a folder of this machine has a name here, and nowhere else
        return Path(name).name if Path(name).is_absolute() else name, License()
    name = found[0].base if found[1] == "base" else found[0].instruct
    model, asked = found[0], found[0].license
    link = model.sources[asked.source].url if asked.source else ""
    # "Begin the name of a distributed model that was tuned from it with Llama."
    return name, License(asked.name, link, asked.duties, "Llama" if asked.name.startswith("Llama") else "")


def write_merged(run: PriceModel, to: Path) -> None:
    """The base with the adapter in its weights, its tokenizer and what reading a price needs."""
    from pricesmith.pricers.llm.base_model import quiet_transformers
    from pricesmith.pricers.llm.pricer import load_adapter

    pricer = load_adapter(run.path, merged=True)
    edges = getattr(pricer.reader, "edges", None)
    if edges:  # so that a stock pipeline answers with prices and not with LABEL_7
        code = str(run.info["currency"])
        ends = [f"{edge:.{decimal_places(edge, code)}f}" for edge in edges]
        names = [f"{low} to {high} {code}" for low, high in pairwise(ends)]
        pricer.model.config.id2label = dict(enumerate(names))
        pricer.model.config.label2id = {name: number for number, name in enumerate(names)}
    with quiet_transformers():
        pricer.model.save_pretrained(to)
        pricer.tokenizer.save_pretrained(to)
    for name in OF_ADAPTER[2:]:
        shutil.copyfile(run.path / name, to / name)
    rename_base(to / PRICE_CONFIG, "base", run)


def write_adapter(run: PriceModel, to: Path) -> None:
    """The adapter as PEFT wrote it, of the base by its public name."""
    for name in OF_ADAPTER:
        shutil.copyfile(run.path / name, to / name)
    rename_base(to / OF_ADAPTER[0], "base_model_name_or_path", run)
    rename_base(to / PRICE_CONFIG, "base", run)


def rename_base(path: Path, key: str, run: PriceModel) -> None:
    """Give the base by its public name in a file that names it as it is known on this machine."""
    write_json(path, {**read_json(path), key: find_license(run.path)[0]})


def write_hub(run: PriceModel, to: Path) -> None:
    """The run without its comparables, which are rows of the catalog."""
    names = [name for name in run.manifest["files"] if not name.startswith(f"{COMPARABLES}/")]
    for name in (*names, MANIFEST):
        (to / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(run.path / name, to / name)
