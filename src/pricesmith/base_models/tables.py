"""The facts of `pricesmith bases` as tables for a terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pricesmith.base_models.byte_size import format_size
from pricesmith.text.formatting import format_money, format_number

Facts = Mapping[str, Any]


def bases_tables(facts: Facts) -> Any:
    """Everything that was asked, as one rich group."""
    from rich.console import Group
    from rich.text import Text

    drawn: list[Any] = [models_table(facts)]
    drawn += [limit(row) for row in facts["limits"]]
    box = "on a GPU" if facts["gpu"] else "on a CPU"
    box += "" if facts["width"] == 2 else " that does not compute in bf16"
    drawn.append(
        f"Peaks are at a batch of {facts['batch']:,} tokens, {facts['listing']:,} a listing, {box}. recomputed:\n"
        "activations are computed again in the backward pass, a third slower. nf4 needs [qlora].\n"
        "published: base / instruct, as found; sources, licenses' duties and shapes: --json."
    )
    if facts.get("tokens"):
        drawn.append(audits(facts["tokens"]))
    if facts.get("measured"):
        drawn += [measured(facts), *advice(facts)]
    return Group(*(Text(part) if isinstance(part, str) else part for part in drawn))  # brackets are no markup


def render_table(title: str, left: Sequence[str], right: Sequence[str]) -> Any:
    """An empty table with its columns."""
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, title=title, title_justify="left")
    for name in left:
        table.add_column(name, no_wrap=True)
    for name in right:
        table.add_column(name, justify="right", no_wrap=True)
    return table


def models_table(facts: Facts) -> Any:
    """The models, those that fit first."""
    verb = "tune" if facts["for"] == "train" else "serve"
    left = ("model", "variants", "license", "mode")
    table = render_table(
        f"What {format_size(facts['memory'])} can {verb}", left, ("billion", "peak", "largest batch", "published")
    )
    for row in facts["models"]:
        mode = row["best"]
        table.add_row(
            row["name"],
            variants_table(row),
            license_of(row),
            mode["mode"] if mode else "does not fit",
            f"{row['parameters'] / 1e9:.2f}",
            format_size(mode["peak"]) if mode else "",
            f"{mode['largest_batch']:,}" if mode else "",
            published(row),
        )
    return table


def variants_table(row: Facts) -> str:
    """Which variants were published."""
    return ", ".join(name for name in ("base", "instruct") if row.get(name))


def license_of(row: Facts) -> str:
    return str(row["license"]["name"]) if "license" in row else "see its own page"


def published(row: Facts) -> str:
    """The first published score, and of the other variant on the same benchmark where there is one."""
    scores = row.get("scores", [])
    if not scores:
        return ""
    on = scores[0]["on"]
    found = {score["variant"]: score["value"] for score in scores if score["on"] == on}
    return f"{on} {found.get('base', '-')} / {found.get('instruct', '-')}"


def limit(row: Facts) -> str:
    """A mode's largest model, and why the next bigger one does not fit."""
    first = f"{row['mode']}: up to {row['largest']}" if row["largest"] else f"{row['mode']}: none fits"
    return f"{first}. Next, {row['next']}: {row['why']}." if row["next"] else f"{first}, the largest here."


def audits(rows: Sequence[Facts]) -> Any:
    """How the bases that are here write prices and listings."""
    table = render_table(
        "Tokens",
        ("base", "whole prices", "after the sign"),
        ("vocabulary", "listing mean", "95 %", "cut", "whole prompt"),
    )
    for row in rows:
        if "note" in row:
            table.add_row(row["base"], row["note"])
            continue
        lengths = ("", "", "", "")
        if row["mean"] is not None:
            lengths = (f"{row['mean']:.0f}", f"{row['p95']:.0f}", f"{row['cut']:.1%}", f"{row['asked']:.0f}")
        apart = "a token of its own" if row["sign_apart"] else "joined to the sign"
        table.add_row(row["base"], row["numbers"], apart, f"{row['vocabulary']:,}", *lengths)
    return table


def measured(facts: Facts) -> Any:
    """What the bases know untuned, beside the reference ridge and the constant on the same rows."""
    columns = (
        "untuned [95 %]",
        "n",
        "answered",
        "ridge on states [95 %]",
        "TF-IDF ridge",
        "median",
        "n",
        "rows",
        "seconds",
    )
    table = render_table("Mean error on validation, before any tuning", ("base",), columns)
    for row in facts["measured"]:
        one = row["untuned"] or {}
        two = row["states"] or {}
        table.add_row(
            row["base"],
            amount(row["untuned"], facts["currency"]),
            f"{one.get('n', 0):,}",
            "" if row["answered"] is None else f"{row['answered']:.0%}",
            amount(row["states"], facts["currency"]),
            format_money(row["ridge"]["point"], facts["currency"]) if row["ridge"] else "",
            format_money(row["median"]["point"], facts["currency"]) if row["median"] else "",
            f"{two.get('n', 0):,}",
            f"{row['taught']:,}",
            f"{row['seconds']:.0f}",
        )
    return table


def amount(found: Facts | None, currency: str) -> str:
    """An error with its interval; empty where nothing was measured."""
    if not found:
        return ""
    point = format_money(found["point"], currency)
    if found["low"] is None:
        return point
    return f"{point} [{format_number(found['low'], currency)}, {format_number(found['high'], currency)}]"


def advice(facts: Facts) -> list[str]:
    """Which base to tune, if the sample tells: no order of bases that may be chance."""
    said = [f"{row['base']}: {row['note']}." for row in facts["measured"] if row["note"]]
    rows = [row for row in facts["measured"] if row["states"]]
    enough = [row for row in rows if row["states"]["n"] >= facts["min_items"]]
    few = [row for row in rows if row not in enough]
    if few:
        least = min(row["states"]["n"] for row in few)
        minutes = facts["minutes"] * facts["min_items"] / max(1, least)
        counts = ", ".join(f"{row['base']} {row['states']['n']}" for row in few)
        said.append(
            f"Too few items for a comparison: {counts}. "
            f"It takes {facts['min_items']} of each: about --minutes {max(1, round(1.2 * minutes))}, if the catalog's "
            "validation split has as many."
        )
    if not enough:
        return [*said, "No recommendation: give it more --minutes."]
    return [*said, *between(enough, facts["compared"]), *[against_ridge(row, facts["currency"]) for row in enough]]


def between(rows: Sequence[Facts], compared: Sequence[Facts]) -> list[str]:
    """What is known of the order of bases: the one to tune, if it is significantly better than each other one."""
    if len(rows) < 2:
        return []
    first = rows[0]["base"]
    open_pairs = [pair for pair in compared if first in (pair["a"], pair["b"]) and not pair["significant"]]
    if not open_pairs:
        return [f"Tune {first} first: its states price significantly better than those of the others."]
    lines = ["No recommendation: the bases with the lowest MAE on frozen states do not differ significantly."]
    for pair in open_pairs:
        needed = f"; about {pair['needed']:,} items would show it" if pair["needed"] else ""
        span = "" if pair["low"] is None else f" [{pair['low']:+.3f}, {pair['high']:+.3f}]"
        lines.append(
            f"{pair['a']} less {pair['b']}: {pair['difference']:+.3f}{span} times the TF-IDF ridge's MAE on "
            f"{pair['n']:,} items, no significant difference{needed}."
        )
    return lines


def against_ridge(row: Facts, currency: str) -> str:
    """A base's ridge on frozen states against the TF-IDF ridge on the same rows."""
    gain, ratio = row["gain"], row["states"]["point"] / row["ridge"]["point"]
    span = "" if gain["low"] is None else f" [{gain['low']:+,.2f}, {gain['high']:+,.2f}]"
    first = (
        f"{row['base']}: a ridge on its states has {ratio:.2f} times the MAE of the TF-IDF ridge on the same rows, "
        f"a difference of {gain['point']:+,.2f}{span} {currency}"
    )
    if gain["low"] is None or gain["low"] <= 0 <= gain["high"]:
        needed = f"; about {row['needed']:,} items would show it" if row["needed"] else ""
        return f"{first}: no significant difference{needed}."
    if gain["low"] > 0:
        return f"{first}: the TF-IDF ridge is better before tuning. Try boosting and sparse_mlp as well."
    return f"{first}: its states hold more about prices than words and pairs of words do."
