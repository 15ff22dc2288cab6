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

from pricesmith.catalog.catalog import Catalog, open_catalog
from pricesmith.core.atomic import atomic_files, find_output
from pricesmith.core.errors import UsageError
from pricesmith.core.progress import Progress
from pricesmith.text.prompts import Prompt, Style, format_whole_price

QUESTION = Prompt().question.rpartition(" ")[0]  # in whatever currency
MOST_LINE = 1 << 20  # characters of a first line; ours are shorter


def export_sft(source: Path, to: Path, style: str, progress: Progress, *, overwrite: bool = False) -> dict[str, Any]:
    """Write training rows to `to` and validation rows to `NAME.validation.jsonl` beside it; how many of each.

    Both files change together. Raises UsageError if one exists and is not such an export, unless `overwrite`.
    """
    if style not in get_args(Style):
        raise UsageError("A prompt has no such style", got=style, allowed=", ".join(get_args(Style)), hint="Choose.")
    if to.suffix != ".jsonl":
        raise UsageError("sft is written as JSON Lines", got=str(to), hint=f"Use {to.with_suffix('.jsonl')}.")
    catalog = open_catalog(source)
    prompt = Prompt(style=style, currency=catalog.currency)
    files = {"train": to, "validation": to.with_suffix(".validation.jsonl")}
    for path in files.values():
        place = find_output(path)
        if place.exists() and not overwrite and not is_export(place):
            raise UsageError(
                f"{path} exists, and `pricesmith export` did not write it",
                allowed="a path that does not exist yet, or an earlier export",
                hint=f"Choose another name, such as --to {to.stem}-sft.jsonl.",
            )
    counts = dict.fromkeys(files, 0)
    with atomic_files(*files.values()) as temporaries:
        for (split, path), temporary in zip(files.items(), temporaries, strict=True):
            progress.start(f"writing {path.name}", catalog.ledger["splits"][split])
            with temporary.open("w", encoding="utf-8", newline="\n") as out:
                for row in sft_rows(catalog, split, prompt):
                    out.write(json.dumps(row, ensure_ascii=False).encode("utf-8", "replace").decode() + "\n")
                    counts[split] += 1
                    progress.advance()
    return {"files": {split: str(path) for split, path in files.items()}, "rows": counts}


def sft_rows(catalog: Catalog, split: str, prompt: Prompt) -> Iterator[dict[str, Any]]:
    """The rows of a split, in the catalog's order."""
    for item in catalog.items(split):
        number = str(format_whole_price(item.price))
        if prompt.style == "chat":
            *before, answer = prompt.messages(item.listing)
            yield {
                "prompt": before,
                "completion": [{"role": "assistant", "content": answer["content"] + number}],
            }
        else:
            yield {"prompt": prompt.text(item.listing), "completion": number}


def is_export(path: Path) -> bool:
    """Whether a file holds rows as `rows` makes them: our question, and a whole price. An empty file is no loss."""
    if not path.stat().st_size:
        return True
    try:
        with path.open(encoding="utf-8") as handle:
            row = json.loads(handle.readline(MOST_LINE))
        if set(row) != {"prompt", "completion"}:
            return False
        asked = row["prompt"] if isinstance(row["prompt"], str) else row["prompt"][-1]["content"]
        return str(asked).startswith(QUESTION)
    except (OSError, ValueError, TypeError, LookupError):
        return False
