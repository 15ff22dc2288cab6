"""The model card of a run: what it is, what it was made from, how it stands, and what it may not be used for.

Everything is read from the run and, where there is one, from an evals folder; what is not known is said so.
The front matter is that of the Hub's model cards (huggingface_hub.ModelCardData), results with it as a model index.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pricesmith import __version__
from pricesmith.core.errors import UsageError
from pricesmith.evaluation.leaderboard import LeaderboardRow, build_leaderboard
from pricesmith.evaluation.results import read_evals
from pricesmith.pricers.model import PriceModel
from pricesmith.text.formatting import format_money

# What the Hub calls a license; any other is "other" with its name and link.
HUB_NAMES = {
    "Apache License 2.0": "apache-2.0",
    "MIT License": "mit",
    "Gemma Terms of Use": "gemma",
    "Llama 3.1 Community License": "llama3.1",
    "Llama 3.2 Community License": "llama3.2",
}


@dataclass(frozen=True)
class License:
    """A base model's license: its short name on the Hub, where it is, and what it asks of whoever hands a tune on."""

    name: str = ""
    link: str = ""
    duties: tuple[str, ...] = ()
    title_begins: str = ""


def model_card(
    run: PriceModel, *, base: str = "", license: License | None = None, evals: Path | None = None, merged: bool = False
) -> str:
    """The card as Markdown with front matter. `base` is the base model's name, empty for a run without one; `merged`
    where its weights and the adapter's are one."""
    license = license or License()
    rows = standing(run, evals) if evals else []
    title = " ".join(part for part in (license.title_begins, run.name, "prices") if part)
    parts = [
        f"---\n{front_matter(run, title, base, license, rows, merged)}\n---\n",
        f"# {title}\n",
        f"Prices {run.info['currency']} goods from their description. Made with Pricesmith {__version__}; "
        "a specialist: it can do nothing else.\n",
        *duties(license),
        section("How it was made", describe_training(run, base, license)),
        section("How it stands", results(run, rows, evals)),
        section(
            "Limits", limits(run) + (NF4 if merged and run.manifest["settings"].get("quantization") == "nf4" else "")
        ),
    ]
    return "\n".join(parts)


def front_matter(
    run: PriceModel, title: str, base: str, license: License, rows: list[LeaderboardRow], merged: bool
) -> str:
    """The YAML that the Hub reads."""
    from huggingface_hub import EvalResult, ModelCardData

    own = next((row for row in rows if row.name == run.name), None)
    found = [
        EvalResult(
            task_type="text-regression",
            dataset_type="pricesmith-catalog",
            dataset_name=str(run.info["name"]),
            dataset_revision=str(run.info["fingerprint"])[:12],
            metric_type=metric,
            metric_value=value,
        )
        for metric, value in (own_values(own) if own else ())
    ]
    named: dict[str, Any] = {}
    if license.name:
        known = HUB_NAMES.get(license.name)
        named = {"license": known} if known else {"license": "other", "license_name": license.name}
    data = ModelCardData(
        base_model=base if "/" in base else None,
        base_model_relation=("finetune" if merged else "adapter") if "/" in base else None,
        library_name=("transformers" if merged else "peft") if base else "pricesmith",
        tags=["pricing", "regression", "pricesmith"],
        model_name=title,
        license_link=license.link or None,
        eval_results=found or None,
        **named,
    )
    return str(data.to_yaml())


def own_values(row: LeaderboardRow) -> list[tuple[str, float]]:
    """The figures of the model index."""
    return [("mean absolute error", row.mae.point), ("rmsle", row.rmsle), ("share within 20 %", row.within_20)]


def standing(run: PriceModel, evals: Path) -> list[LeaderboardRow]:
    """The leaderboard that the run was judged in. Raises UsageError where it was not judged there."""
    found = read_evals(evals)
    mine = [name for name, meta in found.meta.items() if meta.get("manifest") == run.identity]
    if not mine:
        raise UsageError(
            f"{evals} has not judged {run.path}",
            got=", ".join(found.meta) or "no pricer",
            hint=f"pricesmith eval {run.path} --catalog CATALOG --to {evals}",
        )
    rows = build_leaderboard(found)
    group = next(row.group for row in rows if row.name == mine[0])
    return [row for row in rows if row.group == group]


def section(name: str, text: str) -> str:
    return f"## {name}\n\n{text}\n"


def duties(license: License) -> list[str]:
    """What the base model's license asks to be shown."""
    return [f"> {line}\n" for line in license.duties]


def describe_training(run: PriceModel, base: str, license: License) -> str:
    """Base, data and settings, as a list."""
    low, high = run.info["price_range"]
    rows, currency = run.manifest["rows"], str(run.info["currency"])
    lines = [
        f"* Kind: `{run.manifest['kind']}`"
        + (f", tuned from {base} ({license.name or 'its license is not known here'})" if base else ""),
        f"* Data: catalog `{run.info['name']}`, fingerprint `{run.info['fingerprint']}`; {rows['train']:,} training "
        f"rows, {rows['tune']:,} to stop by, {rows['calibrate']:,} for intervals; {format_money(low, currency)} to "
        f"{format_money(high, currency)}. {INSIDE if contains_training_text(run) else OUTSIDE}",
        f"* Fitted in {run.manifest['fit_seconds']:,.0f} s; "
        + ", ".join(f"{name} {version}" for name, version in run.manifest["versions"].items()),
        "* Settings: "
        + ", ".join(
            f"{name} = {base if name == 'base' else value}" for name, value in shown_settings(run.manifest).items()
        ),
    ]
    return "\n".join(lines)


NF4 = (
    "\n* It was tuned and judged on a base in 4 bits; here the adapter is in the published base, so quotes differ "
    "a little from those that were judged."
)
INSIDE = "**This folder holds prices of the training rows, with titles or hashed words**: they are the model."
OUTSIDE = "No row of it is in this folder."


def contains_training_text(run: PriceModel) -> bool:
    """Whether a run cannot do without its training rows: it asks neighbors, or remembers answers."""
    kinds = {run.manifest["kind"], *(path.parent.name for path in map(Path, run.manifest["files"]))}
    return bool(kinds & {"knn", "precomputed", "best"})


def shown_settings(manifest: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of the recipe, without the catalog's fingerprint and folders of this machine."""
    hidden = {"catalog", "made_of", "members", "path", "kind"}
    return {
        name: value for name, value in manifest["settings"].items() if name not in hidden and value not in (None, "")
    }


def results(run: PriceModel, rows: list[LeaderboardRow], evals: Path | None) -> str:
    """The leaderboard, or that there is none."""
    if not rows:
        return "It was not judged when this card was written (`pricesmith export --evals EVALS` puts the table here)."
    currency = str(run.info["currency"])
    lines = [
        f"Judged on {rows[0].n:,} held-out items; near-duplicates stand on one side of the split, and intervals "
        "resample groups of them.\n",
        "| pricer | mean error (95 %) | median error | RMSLE | within 20 % | no answer |",
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
            f"| {'**' + row.name + '**' if row.name == run.name else row.name}{' =' if row.tied else ''} "
            f"| {format_money(row.mae.point, currency)}{between} | {format_money(row.median_error, currency)} "
            f"| {row.rmsle:.3f} | {row.within_20:.1%} | {row.n_unanswered} |"
        )
    lines.append("\n`=` is not told apart from the best on these items.")
    return "\n".join(lines)


def limits(run: PriceModel) -> str:
    """What a reader must not expect."""
    low, high = run.info["price_range"]
    currency = str(run.info["currency"])
    level = f"{run.level:.0%}" if run.level else None
    lines = [
        f"* It answers between {format_money(low, currency)} and {format_money(high, currency)} and in {currency} only; dearer "
        "things are quoted at the top of that range.",
        "* It knows the prices of its training rows' time and shops. Intervals hold for goods like those"
        + (f"; there {level} of true prices fall inside." if level else "."),
        "* A quote is not an offer, an appraisal or a basis for decisions about people.",
    ]
    return "\n".join(lines)
