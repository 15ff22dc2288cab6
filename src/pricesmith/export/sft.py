"""A catalog as prompt and completion, which TRL, Axolotl and Unsloth read.

One row of the file, plain:
    {"prompt": "What does this cost to the nearest dollar?\\n\\nGarden hose ...\\n\\nPrice is $", "completion": "24"}
and as a chat:
    {"prompt": [{"role": "system", "content": ...}, {"role": "user", "content": ...}],
     "completion": [{"role": "assistant", "content": "Price is $24"}]}
Training rows go to the named file, validation rows beside it; test rows stay where they are, for the comparison.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

from pricesmith.catalog.store import Catalog, open_catalog
from pricesmith.errors import UsageError
from pricesmith.progress import Progress
from pricesmith.prompts import Prompt, Style, whole_price
from pricesmith.workspace import atomic_file


def export(source: Path, to: Path, style: str, progress: Progress) -> dict[str, Any]:
    """Write training rows to `to` and validation rows to `NAME.validation.jsonl` beside it; how many of each."""
    if style not in get_args(Style):
        raise UsageError("A prompt has no such style", got=style, allowed=", ".join(get_args(Style)), hint="Choose.")
    if to.suffix != ".jsonl":
        raise UsageError("sft is written as JSON Lines", got=str(to), hint=f"Use {to.with_suffix('.jsonl')}.")
    catalog = open_catalog(source)
    prompt = Prompt(style=style, currency=catalog.currency)
    files = {"train": to, "validation": to.with_suffix(".validation.jsonl")}
    counts = {}
    for split, path in files.items():
        progress.start(f"writing {path.name}", catalog.ledger["splits"][split])
        counts[split] = 0
        with atomic_file(path) as temporary, temporary.open("w", encoding="utf-8", newline="\n") as out:
            for row in rows(catalog, split, prompt):
                out.write(json.dumps(row, ensure_ascii=False).encode("utf-8", "replace").decode() + "\n")
                counts[split] += 1
                progress.advance()
    return {"files": {split: str(path) for split, path in files.items()}, "rows": counts}


def rows(catalog: Catalog, split: str, prompt: Prompt) -> Iterator[dict[str, Any]]:
    """The rows of a split, in the catalog's order."""
    for item in catalog.items(split):
        number = str(whole_price(item.price))
        if prompt.style == "chat":
            *before, answer = prompt.messages(item.listing)
            yield {
                "prompt": before,
                "completion": [{"role": "assistant", "content": answer["content"] + number}],
            }
        else:
            yield {"prompt": prompt.text(item.listing), "completion": number}
