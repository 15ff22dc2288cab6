"""HTML for notebooks: what `_repr_html_` of models, catalogs, quotes and leaderboards returns.

>>> html_facts("Model mlp", {"Recipe": "sparse_mlp"})
'<table><caption>Model mlp</caption><tr><th>Recipe</th><td>sparse_mlp</td></tr></table>'
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape


def html_facts(caption: str, facts: Mapping[str, object]) -> str:
    """A table of names and values. Everything is escaped: names and values may come from data."""
    rows = "".join(f"<tr><th>{escape(str(name))}</th><td>{escape(str(fact))}</td></tr>" for name, fact in facts.items())
    return f"<table><caption>{escape(caption)}</caption>{rows}</table>"


def html_table(caption: str, header: Sequence[str], rows: Sequence[Sequence[object]], notes: Sequence[str] = ()) -> str:
    """A table with a header, and notes below it; everything is escaped."""
    head = "".join(f"<th>{escape(name)}</th>" for name in header)
    body = "".join("<tr>" + "".join(f"<td>{escape(str(cell))}</td>" for cell in row) + "</tr>" for row in rows)
    below = "".join(f"<p>{escape(note)}</p>" for note in notes)
    return f"<table><caption>{escape(caption)}</caption><tr>{head}</tr>{body}</table>{below}"
