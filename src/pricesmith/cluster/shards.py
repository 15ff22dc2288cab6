"""Shards: pieces of work that any process may do, here or on another machine, in any order.

    results = run_here(function, context, [Shard("rows 1 to 5,000", rows), ...])
    raise_failures(list(results), "priced")

`function(context, content)` writes its result itself, whole, and returns a few facts about it. If it fails, the shard
is named and the others go on: one broken file does not cost the work on all others.
"""

from __future__ import annotations

import errno
import os
import time
import traceback
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pricesmith.core.errors import PricesmithError
from pricesmith.text.formatting import format_count

ShardFunction = Callable[[Any, Any], dict[str, Any]]  # function(context, content of a shard) -> facts
NAMED = 5  # failed shards that an error names
DISK_FULL = (errno.ENOSPC, errno.EDQUOT)


@dataclass(frozen=True)
class Shard:
    """A piece of work. `name` is for errors, `content` is what the function is given, `folder` is where it writes."""

    name: str
    content: Any
    folder: str = ""


@dataclass(frozen=True)
class ShardResult:
    """What became of a shard: the facts that its function returned, or why it failed. `seconds` are the function's."""

    name: str
    facts: dict[str, Any] = field(default_factory=dict)
    failure: str = ""
    hint: str = ""
    disk_full: bool = False
    node: str = ""
    seconds: float = 0.0


class ShardsFailed(PricesmithError):
    """Some shards failed; all others are finished and kept."""

    keeps_work = True


def run_here(function: ShardFunction, context: Any, shards: Iterable[Shard]) -> Iterator[ShardResult]:
    """Run every shard in this process, one after another. After a full disk no further shard is begun."""
    for shard in shards:
        result = run_shard(function, context, shard)
        yield result
        if result.disk_full:
            return


def run_shard(function: ShardFunction, context: Any, shard: Shard, node: str = "") -> ShardResult:
    """Run one shard. An exception of its function becomes a named failure."""
    began = time.perf_counter()
    try:
        facts = function(context, shard.content)
    except Exception as error:  # whatever a function raises is the failure of its shard alone
        return failed_shard(shard, error, node)
    return ShardResult(shard.name, facts, node=node, seconds=time.perf_counter() - began)


def failed_shard(shard: Shard, error: Exception, node: str) -> ShardResult:
    """The result of a shard whose function raised `error`."""
    if isinstance(error, PricesmithError):
        reason = f"{error.what} ({error.got})" if error.got else error.what
        return ShardResult(shard.name, failure=reason, hint=error.hint, node=node)
    if isinstance(error, MemoryError):
        return ShardResult(shard.name, failure="not enough memory", hint="Free some memory there.", node=node)
    if (isinstance(error, OSError) and error.errno in DISK_FULL) or "No space left on device" in str(error):
        place = getattr(error, "filename", None) or shard.folder
        hint = f"Free some space for {place}."
        return ShardResult(shard.name, failure=f"the disk is full: {place}", hint=hint, disk_full=True, node=node)
    if isinstance(error, OSError) and error.errno is not None:
        return ShardResult(shard.name, failure=f"{error.filename or 'a file'}: {os.strerror(error.errno)}", node=node)
    frame = traceback.extract_tb(error.__traceback__)[-1]
    where = f"{Path(frame.filename).name}:{frame.lineno}"
    return ShardResult(shard.name, failure=f"{type(error).__name__}: {error} ({where})"[:500], node=node)


def raise_failures(results: Sequence[ShardResult], verb: str, noun: str = "shard") -> None:
    """Raises ShardsFailed, with the names of the shards that failed, if any did. `verb` is what was to be done with
    them (`priced`), `noun` what one of them is called."""
    failed = [result for result in results if result.failure]
    if not failed:
        return
    shown = [f"{result.name}{at_node(result.node)}: {result.failure}" for result in failed[:NAMED]]
    if len(failed) > NAMED:
        shown.append(f"and {len(failed) - NAMED:,} more")
    hint = next((result.hint for result in failed if result.hint), "Correct the cause.")
    raise ShardsFailed(
        f"{format_count(len(failed), noun)} of {len(results):,} could not be {verb}; the others are kept",
        got="; ".join(shown),
        hint=f"{hint} Then run the same command again: it does only what is missing.",
    )


def at_node(node: str) -> str:
    """The node in brackets, nothing for this process."""
    return f" (node {node})" if node else ""
