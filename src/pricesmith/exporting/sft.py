"""A catalog as prompt and completion, which TRL, Axolotl and Unsloth read.

One row of the file, plain:
    {"prompt": "What does this cost to the nearest dollar?\\n\\nGarden hose ...\\n\\nPrice is $", "completion": "24"}
and as a chat:
    {"prompt": [{"role": "system", "content": ...}, {"role": "user", "content": ...}],
     "completion": [{"role": "assistant", "content": "Price is $24"}]}
With `messages`, one conversation a row, as OpenAI's fine-tuning reads it and many trainers do too:
    {"messages": [{"role": "system", "content": ...}, {"role": "user", ...}, {"role": "assistant", ...}]}
Training rows go to the named file, validation rows to one beside it; test rows are not exported.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

from pricesmith.catalog.catalog import Catalog, open_catalog
from pricesmith.catalog.rewriting import read_rewriting_facts
from pricesmith.core.atomic import atomic_files, find_output
from pricesmith.core.errors import UsageError
from pricesmith.core.progress import Progress
from pricesmith.text.prompts import Prompt, Style, format_whole_price

QUESTION = Prompt().question.rpartition(" ")[0]  # without the currency
MAX_LINE = 1 << 20  # characters of the first line of an export


def export_sft(
    source: Path, to: Path, style: str, progress: Progress, *, overwrite: bool = False, messages: bool = False
) -> dict[str, Any]:
    """Write training rows to `to` and validation rows to `NAME.validation.jsonl` beside it; the files and their rows.

    `messages`: whole conversations (which have no `style`) instead of prompt and completion.

    Both files are replaced together. Raises UsageError if one exists and is not an sft export, unless `overwrite`.
    """
    if style not in get_args(Style):
        raise UsageError(
            "A prompt has no such style", got=style, allowed=", ".join(get_args(Style)), hint="Use --style plain."
        )
    if to.suffix != ".jsonl":
        raise UsageError(
            f"{'messages' if messages else 'sft'} is written as JSON Lines",
            got=str(to),
            allowed="a .jsonl file",
            hint=f"Use {to.with_suffix('.jsonl')}.",
        )
    catalog = open_catalog(source)
    prompt = Prompt(style=style, currency=catalog.currency)
    files = {"train": to, "validation": to.with_suffix(".validation.jsonl")}
    for path in files.values():
        target = find_output(path)
        if target.exists() and not overwrite and not is_export(target):
            raise UsageError(
                f"{path} exists, and `pricesmith export` did not write it",
                allowed="a path that does not exist yet, or an earlier export",
                hint=f"Choose another name, such as --to {to.stem}-sft.jsonl.",
            )
    if rewriting := read_rewriting_facts(catalog.ledger):
        progress.note(
            f"These listings are rewritten by {rewriting.model}: a model that is trained on them needs new listings "
            "rewritten alike."
        )
    counts = dict.fromkeys(files, 0)
    with atomic_files(*files.values()) as temporaries:
        for (split, path), temporary in zip(files.items(), temporaries, strict=True):
            progress.start(f"writing {path.name}", catalog.ledger["splits"][split])
            with temporary.open("w", encoding="utf-8", newline="\n") as out:
                for row in (message_rows if messages else sft_rows)(catalog, split, prompt):
                    out.write(json.dumps(row, ensure_ascii=False).encode("utf-8", "replace").decode() + "\n")
                    counts[split] += 1
                    progress.advance()
    return {"files": {split: str(path) for split, path in files.items()}, "rows": counts}


def sft_rows(catalog: Catalog, split: str, prompt: Prompt) -> Iterator[dict[str, Any]]:
    """The rows of a split, in the catalog's order."""
    for item in catalog.items(split):
        number = str(format_whole_price(item.price))
        if prompt.style == "chat":
            *messages, answer = prompt.messages(item.listing)
            yield {
                "prompt": messages,
                "completion": [{"role": "assistant", "content": answer["content"] + number}],
            }
        else:
            yield {"prompt": prompt.text(item.listing), "completion": number}


def message_rows(catalog: Catalog, split: str, prompt: Prompt) -> Iterator[dict[str, Any]]:
    """The rows of a split as conversations, in the catalog's order."""
    for item in catalog.items(split):
        *messages, answer = prompt.messages(item.listing)
        answer["content"] += str(format_whole_price(item.price))
        yield {"messages": [*messages, answer]}


def is_export(path: Path) -> bool:
    """Whether a file begins with a row of `sft_rows` or `message_rows`, by its question, or is empty."""
    if not path.stat().st_size:
        return True
    try:
        with path.open(encoding="utf-8") as handle:
            row = json.loads(handle.readline(MAX_LINE))
        if set(row) == {"messages"}:
            question = row["messages"][-2]["content"]
        elif set(row) == {"prompt", "completion"}:
            question = row["prompt"] if isinstance(row["prompt"], str) else row["prompt"][-1]["content"]
        else:
            return False
        return str(question).startswith(QUESTION)
    except (OSError, ValueError, TypeError, LookupError):
        return False
