"""A model as a folder for others, without its training rows, with a model card.

merged    a tuned language model with its adapter merged into the weights, which stock transformers loads with its head
adapter   the PEFT folder, for people who have the base
hub       any model folder as Pricesmith loads it, with the front matter of the Hub: ready for `hf upload`

The card says what a model is, its training, its evaluation and its limits, and what is not known. All its facts are
from the model folder and, if one is given, an evals folder. The front matter is that of the Hub's model cards
(huggingface_hub.ModelCardData), with the results as a model index.
"""

from __future__ import annotations

import hashlib
import math
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from pricesmith import __version__
from pricesmith.catalog.rewriting import read_rewriting_facts
from pricesmith.core.atomic import read_json, write_atomic, write_json
from pricesmith.core.errors import UsageError
from pricesmith.core.folders import build_folder
from pricesmith.core.model_files import read_object
from pricesmith.core.progress import Progress
from pricesmith.evaluation.leaderboard import LeaderboardRow, build_leaderboard
from pricesmith.evaluation.results import read_evals
from pricesmith.exporting import price_labels
from pricesmith.exporting.price_labels import PROMPT
from pricesmith.pricers.model import COMPARABLES, MANIFEST, PriceModel, load_model
from pricesmith.text.formatting import decimal_places, format_money
from pricesmith.text.prompts import LETTERS, Prompt, steering_ids

PRICE_CONFIG = "price_config.json"
CARD = "README.md"
MARKER = "export.json"
# A model folder names its base by its path, and its files are checked by their hashes, so hub keeps the path.
PATH_NOTE = {"adapter": "", "hub": " Its path on this machine is in price_config.json."}
ADAPTER_FILES = ("adapter_config.json", "adapter_model.safetensors", PRICE_CONFIG, "calibration.json", "catalog.json")
# The Hub's names of licenses; any other is "other" with its name and link.
HUB_NAMES = {
    "Apache License 2.0": "apache-2.0",
    "MIT License": "mit",
    "Gemma Terms of Use": "gemma",
    "Llama 3.1 Community License": "llama3.1",
    "Llama 3.2 Community License": "llama3.2",
}
NF4_NOTE = (
    "\n* It was tuned and evaluated on a base in 4 bits; here the adapter is merged into the published base, so quotes "
    "differ from the evaluated ones (by about 14 % in the median with Gemma 3 270M)."
)
WITH_ROWS = "**This folder contains prices of the training rows, with titles or hashed words**: they are the model."
WITHOUT_ROWS = "This folder contains no row of it."


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
                    "It was evaluated on the base in 4 bits; merged into the published base, its quotes differ (by "
                    "about 14 % in the median with Gemma 3 270M): evaluate them before you rely on the measured error."
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
    from pricesmith.pricers.llm.device_memory import OutOfMemory
    from pricesmith.pricers.llm.pricer import load_adapter

    try:
        pricer = load_adapter(model.path, merged=True)
    except OutOfMemory as error:
        if error.gpu:  # a base that was tuned in 4 bits is merged in 16: the main memory is usually larger
            error.hint = (
                "Merge without the GPU: run the same command with `CUDA_VISIBLE_DEVICES=` before it, as in "
                f"`CUDA_VISIBLE_DEVICES= pricesmith export {model.path} --to FOLDER --format merged`."
            )
        raise
    edges = getattr(pricer.reader, "edges", None)
    if edges:  # so that a stock pipeline returns prices instead of LABEL_7
        names = name_bins(edges, str(model.info["currency"]))
        pricer.model.config.id2label = dict(enumerate(names))
        pricer.model.config.label2id = {name: number for number, name in enumerate(names)}
        write_json(to / PROMPT, describe_prompt(pricer.prompt, pricer.tokenizer))
        shutil.copyfile(Path(price_labels.__file__), to / Path(price_labels.__file__).name)
    with quiet_transformers():
        pricer.model.save_pretrained(to)
        pricer.tokenizer.save_pretrained(to)
    for name in ADAPTER_FILES[2:]:
        shutil.copyfile(model.path / name, to / name)
    rename_base(to / PRICE_CONFIG, "base", model)


def name_bins(edges: Sequence[float], currency: str) -> list[str]:
    """Names of price bins by their edges, each with at least six digits, so that a quote can be read from the names."""
    digits = [max(decimal_places(edge, currency), 5 - math.floor(math.log10(edge))) for edge in edges]
    ends = [f"{edge:.{places}f}" for edge, places in zip(edges, digits, strict=True)]
    return [f"{low} to {high} {currency}" for low, high in pairwise(ends)]


def describe_prompt(prompt: Prompt, tokenizer: Any) -> dict[str, Any]:
    """What stands before and after a listing's text: as text, for servers that tokenize a whole prompt, and as ids.

    `add_special_tokens`: whether the tokenizer puts its own tokens before it; a chat template has them already.
    """
    before, after = prompt.chat_parts(tokenizer) if prompt.style == "chat" else prompt.plain_parts()
    special_ids = sorted(steering_ids(tokenizer))
    special = {tokenizer.convert_ids_to_tokens(token) for token in special_ids}
    before_ids, after_ids = prompt.fixed(tokenizer)
    return {
        "before": before,
        "after": after,
        "add_special_tokens": prompt.style == "plain",
        "before_ids": before_ids,
        "after_ids": after_ids,
        "special_ids": special_ids,
        "max_length": prompt.max_length,
        "max_characters": LETTERS * prompt.max_length,
        "special_tokens": sorted(special, key=lambda token: (-len(token), token)),
    }


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


@dataclass(frozen=True)
class License:
    """A base model's license: its name, link, duties for distributors of a tuned model, and a prefix for its name."""

    name: str = ""
    link: str = ""
    duties: tuple[str, ...] = ()
    name_prefix: str = ""


def model_card(
    model: PriceModel,
    *,
    base: str = "",
    license: License | None = None,
    evals: Path | None = None,
    merged: bool = False,
) -> str:
    """The card as Markdown with front matter. `base`: name of the base model, empty if there is none; `merged`: whether
    the adapter is merged into its weights."""
    license = license or License()
    rows = read_leaderboard(model, evals) if evals else []
    title = " ".join(part for part in (license.name_prefix, model.name, "prices") if part)
    parts = [
        f"---\n{front_matter(model, title, base, license, rows, merged)}\n---\n",
        f"# {title}\n",
        f"Predicts prices in {model.info['currency']} from descriptions, and nothing else. Made with Pricesmith "
        f"{__version__}.\n",
        *format_duties(license),
        section("Training", describe_training(model, base, license)),
        section("Evaluation", describe_results(model, rows)),
        section(
            "Limits",
            describe_limits(model)
            + (NF4_NOTE if merged and model.manifest["settings"].get("quantization") == "nf4" else ""),
        ),
    ]
    return "\n".join(parts)


def front_matter(
    model: PriceModel, title: str, base: str, license: License, rows: list[LeaderboardRow], merged: bool
) -> str:
    """The YAML that the Hub reads."""
    from huggingface_hub import EvalResult, ModelCardData

    own_row = next((row for row in rows if row.name == model.name), None)
    eval_results = [
        EvalResult(
            task_type="text-regression",
            dataset_type="pricesmith-catalog",
            dataset_name=str(model.info["name"]),
            dataset_revision=str(model.info["fingerprint"])[:12],
            metric_type=metric,
            metric_value=value,
        )
        for metric, value in (index_metrics(own_row) if own_row else ())
    ]
    license_fields: dict[str, Any] = {}
    if license.name:
        hub_name = HUB_NAMES.get(license.name)
        license_fields = {"license": hub_name} if hub_name else {"license": "other", "license_name": license.name}
    data = ModelCardData(
        base_model=base if "/" in base else None,
        base_model_relation=("finetune" if merged else "adapter") if "/" in base else None,
        library_name=("transformers" if merged else "peft") if base else "pricesmith",
        tags=["pricing", "regression", "pricesmith"],
        model_name=title,
        license_link=license.link or None,
        eval_results=eval_results or None,
        **license_fields,
    )
    return str(data.to_yaml())


def index_metrics(row: LeaderboardRow) -> list[tuple[str, float]]:
    """The metrics of the model index: name and value."""
    return [("mean absolute error", row.mae.point), ("rmsle", row.rmsle), ("share within 20 %", row.within_20)]


def read_leaderboard(model: PriceModel, evals: Path) -> list[LeaderboardRow]:
    """The leaderboard with the model in it. Raises UsageError if the evals folder has no results of the model."""
    results = read_evals(evals)
    names = [name for name, meta in results.meta.items() if meta.get("manifest") == model.identity]
    if not names:
        raise UsageError(
            f"{evals} has no results of {model.path}",
            got=", ".join(results.meta) or "no pricer",
            hint=f"pricesmith eval {model.path} --catalog CATALOG --to {evals}",
        )
    rows = build_leaderboard(results)
    group = next(row.group for row in rows if row.name == names[0])
    return [row for row in rows if row.group == group]


def section(name: str, text: str) -> str:
    return f"## {name}\n\n{text}\n"


def format_duties(license: License) -> list[str]:
    """The duties of the base model's license as Markdown quotes."""
    return [f"> {line}\n" for line in license.duties]


def describe_training(model: PriceModel, base: str, license: License) -> str:
    """Base, data and settings, as a list."""
    low, high = model.info["price_range"]
    rows, currency = model.manifest["rows"], str(model.info["currency"])
    lines = [
        f"* Kind: `{model.manifest['kind']}`"
        + (f", tuned from {base} ({license.name or 'its license is not known here'})" if base else ""),
        f"* Data: catalog `{model.info['name']}`, fingerprint `{model.info['fingerprint']}`; {rows['train']:,} "
        f"training rows, {describe_validation(model)}; "
        f"{format_money(low, currency)} to {format_money(high, currency)}. "
        f"{WITH_ROWS if contains_training_rows(model) else WITHOUT_ROWS}",
        f"* Fitted in {model.manifest['fit_seconds']:,.0f} s; "
        + ", ".join(f"{name} {version}" for name, version in model.manifest["versions"].items()),
        "* Settings: "
        + ", ".join(
            f"{name} = {base if name == 'base' else value}" for name, value in shown_settings(model.manifest).items()
        ),
    ]
    if rewriting := read_rewriting_facts(model.info):
        lines.append(
            f"* Listings are rewritten by `{rewriting.model}` (prompt version {rewriting.prompt_version}) before they "
            "are priced; Pricesmith does so, and any other program that uses the model must do the same."
        )
    return "\n".join(lines)


def describe_validation(model: PriceModel) -> str:
    """How many validation rows were used, and for what."""
    rows = model.manifest["rows"]
    if getattr(model.recipe, "cross_fits", False):
        return f"{rows['calibrate']:,} for weights and intervals (cross-fitted)"
    return f"{rows['tune']:,} for early stopping, {rows['calibrate']:,} for intervals"


def contains_training_rows(model: PriceModel) -> bool:
    """Whether a model, or one of its members, consists of its training rows: of neighbors or precomputed prices."""
    members = [read_object(path) for path in model.path.glob("members/**/manifest.json")]
    kinds = {str(manifest["kind"]) for manifest in (model.manifest, *members)}
    return bool(kinds & {"knn", "precomputed", "best"})


def shown_settings(manifest: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of the recipe, without the catalog's fingerprint and local folders; of members their names."""
    hidden = {"catalog", "made_of", "members", "path", "kind"}
    return {
        name: ", ".join(value) if isinstance(value, Mapping) else value
        for name, value in manifest["settings"].items()
        if name not in hidden and value not in (None, "")
    }


def describe_results(model: PriceModel, rows: list[LeaderboardRow]) -> str:
    """The leaderboard as Markdown, or a sentence that there is none."""
    if not rows:
        return "It was not evaluated when this card was written (`pricesmith export --evals EVALS` adds the table)."
    currency = str(model.info["currency"])
    lines = [
        f"On {rows[0].n:,} held-out items; near-duplicate groups are on one side of the split, and intervals "
        "resample the groups.\n",
        "| pricer | MAE (95 % CI) | median error | RMSLE | within 20 % | unanswered |",
        "|---|---|---|---|---|---|",
    ]
    for row in rows:
        low, high = row.mae.low, row.mae.high
        between = (
            f" ({format_money(low, currency)} to {format_money(high, currency)})"
            if low is not None and high is not None
            else ""
        )
        lines.append(
            f"| {'**' + row.name + '**' if row.name == model.name else row.name}{' =' if row.tied else ''} "
            f"| {format_money(row.mae.point, currency)}{between} | {format_money(row.median_error, currency)} "
            f"| {row.rmsle:.3f} | {row.within_20:.1%} | {row.n_unanswered} |"
        )
    lines.append("\n`=`: no significant difference from the best on these items.")
    return "\n".join(lines)


def describe_limits(model: PriceModel) -> str:
    """The limits of the model, as a list."""
    low, high = model.info["price_range"]
    currency = str(model.info["currency"])
    level = f"{model.level:.0%}" if model.level else None
    lines = [
        f"* Prices are between {format_money(low, currency)} and {format_money(high, currency)}, in {currency} only; "
        "more expensive things get a price at the top of that range.",
        "* It predicts prices of the time and shops of its training rows. Intervals are valid for items like those"
        + (f", where they contain {level} of true prices." if level else "."),
        "* A quote is not an offer, an appraisal or a basis for decisions about people.",
    ]
    return "\n".join(lines)
