"""The facts of `pricesmith bases` as tables and sentences for a terminal."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from pricesmith.base_models.hardware import format_size
from pricesmith.core.progress import format_duration
from pricesmith.core.tables import Column, FittedTable
from pricesmith.text.formatting import format_money, format_number

Facts = Mapping[str, Any]


def bases_tables(facts: Facts) -> Any:
    """All tables and sentences as one rich group."""
    from rich.console import Group
    from rich.text import Text

    parts: list[Any] = [models_table(facts)]
    parts += [format_limit(row) for row in facts["limits"]]
    parts.append(format_legend(facts))
    if facts.get("tokens"):
        parts.append(tokens_table(facts["tokens"]))
    if facts.get("measured"):
        parts += [measured_table(facts), *advice(facts)]
    return Group(*(Text(part) if isinstance(part, str) else part for part in parts))  # brackets are not markup


def models_table(facts: Facts) -> FittedTable:
    """The models: those that fit first, the largest of them first."""
    verb = "tune" if facts["for"] == "train" else "serve"
    columns = [
        Column("model", wraps=True),
        Column("variants", drop=5),
        Column("license", drop=6, wraps=True),
        Column("mode"),
        Column("billion", right=True, drop=2),
        Column("peak", right=True),
        Column("largest batch", right=True, drop=3),
        Column("published", right=True, drop=7),
    ]
    if facts["matmul_flops"]:
        columns.insert(6, Column("est. time", right=True, drop=1))
    rows = []
    for model in facts["models"]:
        mode = model["best"]
        row = [
            model["name"],
            ", ".join(name for name in ("base", "instruct") if model.get(name)),
            str(model["license"]["name"]) if "license" in model else "see its own page",
            mode["mode"] if mode else "does not fit",
            f"{model['parameters'] / 1e9:.2f}",
            ("~ " if model["approximate"] else "") + format_size(mode["peak"]) if mode else "",
            f"{mode['largest_batch']:,}" if mode else "",
            format_scores(model, "mmlu-pro" if facts["sort"] == "mmlu-pro" else "mmlu"),
        ]
        if facts["matmul_flops"]:
            row.insert(6, format_time(model["estimated_seconds"]))
        rows.append(row)
    return FittedTable(f"What {format_size(facts['memory'])} can {verb}", columns, rows)


def format_time(seconds: float | None) -> str:
    """An estimated time, in days if it is long; empty if there is none."""
    if seconds is None:
        return ""
    return format_duration(seconds) if seconds < 100 * 3600 else f"{seconds / 86400:,.0f} days"


def format_scores(model: Facts, benchmark: str = "mmlu") -> str:
    """The published score on a benchmark with its setting, and the other variant's in the same setting if there is one:
    MMLU or MMLU-Pro, or the first benchmark if neither was found."""
    other = "mmlu" if benchmark == "mmlu-pro" else "mmlu-pro"
    scores = scores_on(model, benchmark) or scores_on(model, other) or model.get("scores", [])
    if not scores:
        return ""
    setting = scores[0]["on"]
    values = {score["variant"]: score["value"] for score in scores if score["on"] == setting}
    return f"{setting} {values.get('base', '-')} / {values.get('instruct', '-')}"


def scores_on(model: Facts, benchmark: str) -> list[dict[str, Any]]:
    """The published scores on `mmlu` or `mmlu-pro`, in any setting, in the registry's order."""
    return [score for score in model.get("scores", []) if re.split(r"[ ,]", score["on"])[0].lower() == benchmark]


def format_limit(row: Facts) -> str:
    """A mode's largest model, and why the next larger one does not fit."""
    first = f"{row['mode']}: up to {row['largest']}" if row["largest"] else f"{row['mode']}: none fits"
    return f"{first}. Next, {row['next']}: {row['why']}." if row["next"] else f"{first}, the largest here."


def format_legend(facts: Facts) -> str:
    """What the columns of the table of models mean."""
    device = "on a GPU" if facts["gpu"] else "on a CPU"
    device += "" if facts["dtype_bytes"] == 2 else " that does not compute in bf16"
    lines = [
        f"peak: memory at a batch of {facts['batch']:,} tokens, {facts['listing']:,} a listing, {device}.",
        "checkpointing: activations are computed again in the backward pass (gradient checkpointing), a third slower.",
        "nf4: 4-bit weights (QLoRA), needs [qlora].",
    ]
    lines.append(describe_time(facts))
    if any(model["approximate"] for model in facts["models"]):
        lines.append("~: planned as a dense decoder of its widths, which it is not: approximate.")
    lines.append(
        "published: base / instruct, as found; compare only scores of the same setting (shots, thinking). Sources, "
        "duties of the licenses and shapes: --json."
    )
    return "\n".join(lines)


def describe_time(facts: Facts) -> str:
    """What the estimated times are for, and what they are computed from."""
    if not facts["matmul_flops"]:
        return (
            "est. time: not shown with --memory, because the speed of that GPU is not known (--gpu h200 names a kind)."
        )
    work = "one epoch of tuning on" if facts["for"] == "train" else "pricing"
    speed = f"{facts['matmul_flops'] / 1e12:.2g} TFLOP/s"
    if kind := facts["gpu_kind"]:
        return (
            f"est. time: {work} {facts['listings']:,} listings on one {kind['name']}, at the share of its published "
            f"peak of {kind['flops'] / 1e12:,.0f} TFLOP/s (bf16) that a CPU reaches; no GPU was measured: an order of "
            f"magnitude."
        )
    return (
        f"est. time: {work} {facts['listings']:,} listings on this machine, estimated from its measured speed of "
        f"{speed} in matrix products; the fit measures it before it starts."
    )


def tokens_table(audits: Sequence[Facts]) -> FittedTable:
    """How the available bases write prices and listings."""
    columns = [
        Column("base", wraps=True),
        Column("whole prices", wraps=True),
        Column("after the sign", drop=6),
        Column("vocabulary", right=True, drop=5),
        Column("listing mean", right=True),
        Column("95 %", right=True, drop=2),
        Column("cut", right=True, drop=3),
        Column("whole prompt", right=True, drop=4),
    ]
    rows = []
    for audit in audits:
        if "note" in audit:
            rows.append([audit["base"], audit["note"], *[""] * (len(columns) - 2)])
            continue
        lengths = ["", "", "", ""]
        if audit["mean"] is not None:
            lengths = [f"{audit['mean']:.0f}", f"{audit['p95']:.0f}", f"{audit['cut']:.1%}"]
            lengths.append(f"{audit['prompt_tokens']:.0f}")
        apart = "separate token" if audit["sign_apart"] else "joined to the sign"
        rows.append([audit["base"], audit["numbers"], apart, f"{audit['vocabulary']:,}", *lengths])
    return FittedTable("Tokens", columns, rows)


def measured_table(facts: Facts) -> FittedTable:
    """Errors of the bases before tuning, beside the reference ridge and the median price on the same rows."""
    currency = facts["currency"]
    columns = [
        Column("base", wraps=True),
        Column("untuned MAE [95 % CI]", right=True, drop=5),
        Column("n", right=True, drop=6),
        Column("answered", right=True, drop=7),
        Column("ridge on states [95 % CI]", right=True, drop=1),
        Column("states ridge", right=True, instead_of="ridge on states [95 % CI]"),
        Column("TF-IDF ridge", right=True),
        Column("median", right=True, drop=2),
        Column("n", right=True, drop=3),
        Column("rows", right=True, drop=8),
        Column("seconds", right=True, drop=9),
    ]
    rows = []
    for base in facts["measured"]:
        untuned, states, ridge, median = base["untuned"], base["states"], base["ridge"], base["median"]
        rows.append(
            [
                base["base"],
                format_interval(untuned, currency),
                f"{untuned['n']:,}" if untuned else "",
                "" if base["answered"] is None else f"{base['answered']:.0%}",
                format_interval(states, currency),
                format_money(states["point"], currency) if states else "",
                format_money(ridge["point"], currency) if ridge else "",
                format_money(median["point"], currency) if median else "",
                f"{states['n']:,}" if states else "",
                f"{base['train_rows']:,}",
                f"{base['seconds']:.0f}",
            ]
        )
    return FittedTable("MAE on validation, before any tuning", columns, rows)


def format_interval(interval: Facts | None, currency: str) -> str:
    """An MAE with its 95 % confidence interval; empty if it was not measured."""
    if not interval:
        return ""
    point = format_money(interval["point"], currency)
    if interval["low"] is None:
        return point
    return f"{point} [{format_number(interval['low'], currency)}, {format_number(interval['high'], currency)}]"


def advice(facts: Facts) -> list[str]:
    """Which base to tune, if the sample shows it; no ranking of bases whose difference is not significant."""
    lines = [f"{base['base']}: {base['note']}." for base in facts["measured"] if base["note"]]
    measured = [base for base in facts["measured"] if base["states"]]
    enough = [base for base in measured if base["states"]["n"] >= facts["min_items"]]
    few = [base for base in measured if base not in enough]
    if few:
        fewest = min(base["states"]["n"] for base in few)
        minutes = facts["minutes"] * facts["min_items"] / max(1, fewest)
        counts = ", ".join(f"{base['base']} {base['states']['n']}" for base in few)
        lines.append(
            f"Too few items for a comparison: {counts}. Each base needs {facts['min_items']}: use "
            f"--minutes {max(1, round(1.2 * minutes))}, if the catalog's validation split has as many items."
        )
    if not enough:
        return [*lines, "No recommendation: use more --minutes."]
    lines += recommendation(enough, facts["compared"])
    return [*lines, *[compare_with_ridge(base, facts["currency"]) for base in enough]]


def recommendation(measured: Sequence[Facts], compared: Sequence[Facts]) -> list[str]:
    """The base to tune, if it is significantly better than each of the others; else the open comparisons."""
    if len(measured) < 2:
        return []
    first = measured[0]["base"]
    open_pairs = [pair for pair in compared if first in (pair["a"], pair["b"]) and not pair["significant"]]
    if not open_pairs:
        return [f"Tune {first} first: a ridge on its states has a significantly lower MAE than on the others'."]
    lines = ["No recommendation: the bases with the lowest MAE on frozen states do not differ significantly."]
    for pair in open_pairs:
        needed = f"; about {pair['needed']:,} items would show it" if pair["needed"] else ""
        span = "" if pair["low"] is None else f" [{pair['low']:+.3f}, {pair['high']:+.3f}]"
        lines.append(
            f"{pair['a']} less {pair['b']}: {pair['difference']:+.3f}{span} times the TF-IDF ridge's MAE on "
            f"{pair['n']:,} items, no significant difference{needed}."
        )
    return lines


def compare_with_ridge(base: Facts, currency: str) -> str:
    """A base's ridge on frozen states compared with the TF-IDF ridge on the same rows."""
    gain, ratio = base["gain"], base["states"]["point"] / base["ridge"]["point"]
    span = "" if gain["low"] is None else f" [{gain['low']:+,.2f}, {gain['high']:+,.2f}]"
    first = (
        f"{base['base']}: a ridge on its states has {ratio:.2f} times the MAE of the TF-IDF ridge on the same rows, "
        f"a difference of {gain['point']:+,.2f}{span} {currency}"
    )
    if gain["low"] is None or gain["low"] <= 0 <= gain["high"]:
        needed = f"; about {base['needed']:,} items would show it" if base["needed"] else ""
        return f"{first}: no significant difference{needed}."
    if gain["low"] > 0:
        return f"{first}: the TF-IDF ridge is better before tuning. Try boosting and sparse_mlp as well."
    return f"{first}: its states predict prices better than words and pairs of words do."
