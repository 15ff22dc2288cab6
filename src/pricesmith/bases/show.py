"""The facts of `pricesmith bases` as tables for a terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pricesmith.bases.sizes import told
from pricesmith.text.formatting import money

Facts = Mapping[str, Any]


def tables(facts: Facts) -> Any:
    """Everything that was asked, as one rich group."""
    from rich.console import Group
    from rich.text import Text

    drawn: list[Any] = [models(facts)]
    drawn += [limit(row) for row in facts["limits"]]
    box = "on a GPU" if facts["gpu"] else "on a CPU"
    box += "" if facts["width"] == 2 else " that does not compute in bf16"
    drawn.append(
        f"Peaks are at a batch of {facts['batch']:,} tokens, {facts['listing']:,} a listing, {box}. recomputed:\n"
        "activations are computed again in the backward pass, a third slower. nf4 needs [qlora].\n"
        "published: base / instruct, as found; sources, licences' duties and shapes: --json."
    )
    if facts.get("tokens"):
        drawn.append(audits(facts["tokens"]))
    if facts.get("measured"):
        drawn += [measured(facts), *advice(facts)]
    return Group(*(Text(part) if isinstance(part, str) else part for part in drawn))  # brackets are no markup


def drawn_table(title: str, left: Sequence[str], right: Sequence[str]) -> Any:
    """An empty table with its columns."""
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, title=title, title_justify="left")
    for name in left:
        table.add_column(name, no_wrap=True)
    for name in right:
        table.add_column(name, justify="right", no_wrap=True)
    return table


def models(facts: Facts) -> Any:
    """The models, those that fit first."""
    verb = "tune" if facts["for"] == "train" else "serve"
    left = ("model", "variants", "license", "mode")
    table = drawn_table(
        f"What {told(facts['memory'])} can {verb}", left, ("billion", "peak", "largest batch", "published")
    )
    for row in facts["models"]:
        mode = row["best"]
        table.add_row(
            row["name"],
            variants(row),
            license_of(row),
            mode["mode"] if mode else "does not fit",
            f"{row['parameters'] / 1e9:.2f}",
            told(mode["peak"]) if mode else "",
            f"{mode['largest_batch']:,}" if mode else "",
            published(row),
        )
    return table


def variants(row: Facts) -> str:
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
    table = drawn_table(
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
        "constant",
        "n",
        "rows",
        "seconds",
    )
    table = drawn_table("Mean error on validation, before any tuning", ("base",), columns)
    for row in facts["measured"]:
        one = row["untuned"] or {}
        two = row["states"] or {}
        table.add_row(
            row["base"],
            amount(row["untuned"], facts["currency"]),
            f"{one.get('n', 0):,}",
            "" if row["answered"] is None else f"{row['answered']:.0%}",
            amount(row["states"], facts["currency"]),
            money(row["ridge"]["point"], facts["currency"]) if row["ridge"] else "",
            money(row["constant"]["point"], facts["currency"]) if row["constant"] else "",
            f"{two.get('n', 0):,}",
            f"{row['taught']:,}",
            f"{row['seconds']:.0f}",
        )
    return table


def amount(found: Facts | None, currency: str) -> str:
    """An error with its interval; empty where nothing was measured."""
    if not found:
        return ""
    point = money(found["point"], currency)
    return point if found["low"] is None else f"{point} [{found['low']:,.2f}, {found['high']:,.2f}]"


def advice(facts: Facts) -> list[str]:
    """Which base to tune, as far as the sample tells."""
    said = [f"{row['base']}: {row['note']}." for row in facts["measured"] if row["note"]]
    rows = [row for row in facts["measured"] if row["states"]]
    if not rows:
        return [*said, "There was no time to measure states: give it more minutes."]
    first = rows[0]
    ratio = first["states"]["point"] / first["ridge"]["point"]
    tied = [row["base"] for row in rows[1:] if (row["states"]["low"] or 0) / row["ridge"]["point"] <= ratio]
    said.append(
        f"Tune {first['base']} first: a ridge on its states errs {ratio:.2f} times as much as the TF-IDF ridge on the "
        "same rows, the least." + (f" Not told apart from it: {', '.join(tied)}." if tied else "")
    )
    gain = first["gain"]
    if gain["low"] is not None and gain["low"] > 0:
        said.append("The TF-IDF ridge is better than any of these before tuning: try boosting and sparse_mlp as well.")
    elif gain["high"] is not None and gain["high"] < 0:
        said.append("Its states already hold more about prices than words and pairs do.")
    return said
