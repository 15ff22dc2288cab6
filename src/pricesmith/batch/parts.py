"""The folder of parts beside a file of prices, `OUT.parts/`: what it holds, what is done, and how it becomes one file.

    done = start_parts(parts, plan, overwrite=False)
    facts = join_parts(parts, count, part_rows, to, ".csv")

`plan.json` says which work the parts belong to; `part-000000.parquet` holds the first rows, and so on. Each part also
has the hash of its plan: a node of a cluster may still write one for work that was started over since.
"""

from __future__ import annotations

import contextlib
import json
import math
from array import array
from collections.abc import Iterator, Mapping
from hashlib import blake2b, sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pricesmith.batch.asked_columns import add_assessments, read_assessments
from pricesmith.batch.part_table import WORK, InputColumns, PartTable
from pricesmith.batch.spending import RECORD, ApiSpending
from pricesmith.batch.writers import WRITERS, OutputTable
from pricesmith.core.atomic import atomic_file, read_json, sweep_temporaries, write_json
from pricesmith.core.errors import InputError, UsageError

if TYPE_CHECKING:
    import pyarrow as pa

PLAN = "plan.json"
MAX_IDS = 10_000_000  # rows whose ids are compared, at 8 bytes each
GENERATOR = "pricesmith price"


def part_path(parts: Path, number: int) -> Path:
    """The file of one part."""
    return parts / f"part-{number:06d}.parquet"


def hash_plan(plan: Mapping[str, Any]) -> str:
    """The hash of a plan."""
    return sha256(json.dumps(plan, sort_keys=True, ensure_ascii=False).encode("utf-8", "surrogatepass")).hexdigest()


def start_parts(parts: Path, plan: Mapping[str, Any], *, overwrite: bool) -> set[int]:
    """Prepare the folder of parts; the numbers of the parts that are done already.

    Raises UsageError for parts of other work, unless `overwrite`. Leftovers of a killed process are removed.
    """
    if parts.is_symlink() or (parts.exists() and not parts.is_dir()):
        raise UsageError(f"{parts} is in the way", got="a link or a file", hint="Move it, or choose another --to.")
    if (parts / PLAN).is_file():
        old = read_json(parts / PLAN, hint="Move that folder, or choose another --to.")
        if not isinstance(old, dict) or old.get("generator") != GENERATOR:
            raise UsageError(f"{parts} is in the way", got=f"another {PLAN}", hint="Move it, or choose another --to.")
        if old.get("format") != plan["format"] and not overwrite:
            raise UsageError(
                f"{parts} was begun by another version of Pricesmith",
                got=f"format {old.get('format')}",
                allowed=f"format {plan['format']}",
                hint="Finish it with that version, or start over with --overwrite; answers of API models are cached.",
            )
        if old != plan and not overwrite:
            differing = ", ".join(name for name in plan if old.get(name) != plan[name])
            raise UsageError(
                f"{parts} holds parts of other work",
                got=f"another {differing}",
                hint="Finish it with the command that started it, choose another --to, or start over with --overwrite.",
            )
        if old != plan:
            sweep(parts)
    elif parts.exists():
        if not all(map(is_own_output, parts.iterdir())):
            raise UsageError(f"{parts} is in the way", hint="Move it, or choose another --to.")
        sweep(parts)  # of a command killed before it wrote its plan, or while it swept
    parts.mkdir(parents=True, exist_ok=True)
    if not (parts / PLAN).is_file():
        write_json(parts / PLAN, dict(plan))
    sweep_temporaries(parts, ".*.tmp")
    paths, work = parts.glob("part-*.parquet"), hash_plan(plan)
    return {int(path.stem.removeprefix("part-")) for path in paths if is_intact_part(path, work)}


def sweep(parts: Path) -> None:
    """Remove our files from a folder of parts, and the folder if it is then empty.

    The plan goes first: after a kill the files that are left are recognized by their names, and are not taken for parts
    of other work.
    """
    for path in sorted(parts.glob("*"), key=lambda path: path.name != PLAN):
        if path.name == PLAN or is_own_output(path):
            path.unlink()
    with contextlib.suppress(OSError):
        parts.rmdir()


def is_own_output(path: Path) -> bool:
    """Whether a file in a folder of parts is ours: a part, whole or half written, or the record of the spending."""
    return path.is_file() and (path.match("part-*.parquet") or path.match(".*.tmp") or path.name == RECORD)


def is_intact_part(path: Path, work: str) -> bool:
    """Whether a part can be read and belongs to the work with this hash. Any other is priced again."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.read_table(path, page_checksum_verification=True)
    except (OSError, pa.ArrowException):
        return False
    return is_part_of(table.schema, work)


def is_part_of(schema: pa.Schema, work: str) -> bool:
    """Whether a part with this schema belongs to the work with this hash."""
    return bool((schema.metadata or {}).get(WORK) == work.encode())


def write_part(path: Path, table: pa.Table) -> None:
    """Write one part, whole or not at all."""
    import pyarrow.parquet as pq

    with atomic_file(path) as temporary:
        pq.write_table(table, temporary, write_page_checksum=True)


def read_part(path: Path, work: str) -> pa.Table:
    """The table of a part. Raises InputError if it belongs to another work."""
    import pyarrow.parquet as pq

    table = pq.read_table(path)
    check_part(path, table.schema, work)
    return table


def check_part(path: Path, schema: pa.Schema, work: str) -> None:
    """Raises InputError if a part belongs to another work."""
    if not is_part_of(schema, work):
        raise InputError(
            f"{path} was replaced by another command while this one ran",
            hint="Run the same command again: it prices these rows again.",
        )


def join_parts(
    parts: Path,
    count: int,
    part_rows: int,
    to: Path,
    ending: str,
    comparables: int,
    work: str,
    spending: ApiSpending | None = None,
    audit: bool = False,
) -> dict[str, Any]:
    """Join all parts into one file, in order; the counts.

    Raises InputError if rows are missing, or if a part belongs to another `work`.
    """
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    paths = [part_path(parts, number) for number in range(math.ceil(count / part_rows))]
    columns = InputColumns()
    for path in paths:
        schema = pq.read_schema(path)
        check_part(path, schema, work)
        columns.add(schema)
    table = OutputTable(columns, comparables, audit=audit)
    assessments = read_assessments(paths) if audit else []
    facts: dict[str, Any] = {"rows": 0, "priced": 0, "not_priced": 0, "nothing_similar": 0}
    ids = array("Q")

    def read_parts() -> Iterator[PartTable]:
        for path in paths:
            part = read_part(path, work)
            if audit:
                part = add_assessments(part, assessments[facts["rows"] : facts["rows"] + part.num_rows])
            facts["rows"] += part.num_rows
            facts["not_priced"] += part.column("price").null_count
            facts["nothing_similar"] += pc.sum(part.column("nothing_similar")).as_py() or 0
            if spending is not None:
                spending.count(part)
            if len(ids) < MAX_IDS:
                digests = (blake2b(name.encode(), digest_size=8).digest() for name in part.column("id").to_pylist())
                ids.frombytes(b"".join(digests))
            yield PartTable(part)

    with atomic_file(to) as temporary:
        WRITERS[ending](read_parts(), temporary, table)
        if facts["rows"] != count:
            raise InputError(
                f"{parts} is incomplete",
                got=f"{facts['rows']} rows",
                allowed=f"{count} rows",
                hint="Run the same command again with --overwrite: it prices all rows again.",
            )
    facts["priced"] = facts["rows"] - facts["not_priced"]
    facts |= {name: assessments.count(name) for name in ("over", "under", "plausible")} if audit else {}
    facts["repeated_ids"] = count_repeated(ids)
    facts["renamed"] = table.renamed()
    if spending is not None:
        facts["api"] = spending.facts()
    return facts


def count_repeated(ids: array[int]) -> int:
    """How many of the hashes of ids appeared before. They are sorted in place: np.unique takes 50 bytes for each."""
    hashes = np.frombuffer(ids, dtype=np.uint64)
    hashes.sort()
    return int(np.count_nonzero(hashes[1:] == hashes[:-1]))
