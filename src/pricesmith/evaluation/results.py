"""Evaluations on disk: `NAME.jsonl` and `NAME.meta.json` for each pricer, and `items.parquet` once.

One line of NAME.jsonl:
    {"id": "a1", "truth": 24.5, "price": 22.0, "low": 14.1, "high": 34.3, "raw": "", "seconds": 0.0001,
     "cost_usd": 0.0}
NAME.meta.json, written last (without it NAME is unfinished; `rows_sha256` is the SHA-256 of NAME.jsonl):
    {"format": 1, "pricer": "mlp", "kind": "sparse_mlp", "catalog": "9f86d0...", "catalog_name": "goods",
     "currency": "USD", "price_range": [0.5, 999.49], "median": 34.9, "split": "test", "n": 2900,
     "note": "", "seconds": 0.21, "fit_seconds": 21.4, "folds": false, "rows_sha256": "...", ...}
One row of items.parquet, whose metadata holds the catalog's fingerprint and the split:
    {"id": "a1", "title": "Garden hose", "category": "garden", "truth": 24.5, "group": "9f86d081884c7d65",
     "group_in_training": 0,
     "near": [{"id": "b7", "title": "Garden hose 10 m", "price": 15.0, "similarity": 0.71}],
     "highest_similarity": 0.74, "days_after_training": 12}

An infinite end of a price range is null. NAME is the pricer's name made safe for a file (`file_name`); the two
files change as one (`result_files`).

items.parquet is shared by all pricers of the folder, so `near` are comparables from the evaluated catalog's train split
(with folds, from the other folds), for every pricer; a model of another catalog was fitted on other rows. They are
ordered by shared words and by prices estimated out of fold (pricers/fitting.py). `highest_similarity` goes
by words. `days_after_training` counts from the last day of the evaluated catalog's train split; it is null unless the
catalog is split by time, and files of earlier versions do not have the column.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from operator import attrgetter
from pathlib import Path
from typing import Any, Protocol

from pricesmith.core.atomic import atomic_file, describe_difference, read_json, refuse_constant, sweep_temporaries
from pricesmith.core.errors import InputError, UsageError
from pricesmith.core.types import EvalRow, Evaluation
from pricesmith.evaluation.cost_curve import read_asked, read_cost_curve
from pricesmith.evaluation.evaluate import EvalArrays, to_arrays
from pricesmith.evaluation.result_files import META, read_rows, write_result_files

FORMAT = 1
ITEMS = "items.parquet"
AGE = "days_after_training"
MOST_DAYS = 10_000_000
LARGEST = 1e100  # a number above it is damage, and its square would overflow
CLOSE = 0.8  # similarity from which a training listing counts as nearly the same product
NOTE_KEY = b"pricesmith"
ROW_NAMES = tuple(field.name for field in fields(EvalRow))
ROW_FIELDS = frozenset(ROW_NAMES)
HINT = "Run `pricesmith eval` again with another --to."


class ComparableRow(Protocol):
    """A similar training listing, as catalog/comparables.py returns it."""

    @property
    def id(self) -> str: ...
    @property
    def title(self) -> str: ...
    @property
    def price(self) -> float: ...
    @property
    def similarity(self) -> float: ...


@dataclass(frozen=True, slots=True)
class Near:
    """A similar listing of the evaluated catalog's train split, with its price; `similarity` is from 0 to 1."""

    id: str
    title: str
    price: float
    similarity: float


@dataclass(frozen=True, slots=True)
class EvalItem:
    """What a report shows of an evaluated item. `group` is None if the item is its own group.

    `group_in_training` counts members of its group in the evaluated catalog's train split. It is 0 if the split keeps
    groups whole, as curate's does.
    """

    id: str
    title: str
    category: str
    truth: float
    group: str | None = None
    group_in_training: int = 0
    near: tuple[Near, ...] = ()
    highest_similarity: float | None = None
    days_after_training: int | None = None

    @property
    def close_in_training(self) -> bool:
        """Whether the catalog's train split holds a member of the group, or a listing at least 0.8 similar.

        It shows how much of a score comes from near duplicates outside of groups.
        """
        highest = max((near.similarity for near in self.near), default=0.0)
        return self.group_in_training > 0 or max(highest, self.highest_similarity or 0.0) >= CLOSE


@dataclass(frozen=True)
class Evals:
    """An opened evals folder. `meta` is by pricer name; `unfinished` lists names without their meta file, which is
    written last."""

    path: Path
    items: dict[str, EvalItem]
    evaluations: tuple[Evaluation, ...]
    meta: dict[str, dict[str, Any]]
    about: dict[str, Any]
    unfinished: tuple[str, ...] = ()

    @cached_property
    def arrays(self) -> dict[str, EvalArrays]:
        """The arrays of each evaluation by pricer name, computed once."""
        return {evaluation.pricer: to_arrays(evaluation) for evaluation in self.evaluations}


def file_name(pricer: str) -> str:
    """A pricer's name as a file's: letters, digits, dot, dash, underscore; made distinct where something was
    lost.
    """
    safe = re.sub(r"[^A-Za-z0-9._-]+", "-", pricer).strip(".-")[:80]
    if safe == pricer:
        return safe
    return f"{safe or 'pricer'}-{hashlib.sha256(pricer.encode('utf-8', 'surrogatepass')).hexdigest()[:8]}"


def build_comparables(comparables: Sequence[ComparableRow]) -> tuple[Near, ...]:
    """Comparables in the form that is stored with an item."""
    return tuple(Near(row.id, row.title, float(row.price), float(row.similarity)) for row in comparables)


def write_items(folder: Path, items: Iterable[EvalItem], about: Mapping[str, Any]) -> None:
    """Write items.parquet. `about` (catalog fingerprint, split, ...) is stored in the file's metadata."""
    import pyarrow.parquet as pq

    metadata = {NOTE_KEY: json.dumps(dict(about), sort_keys=True, allow_nan=False).encode()}
    table = items_table(list(items)).replace_schema_metadata(metadata)
    sweep_temporaries(folder, f".{ITEMS}.*.tmp")
    with atomic_file(folder / ITEMS) as temporary:
        pq.write_table(table, temporary, write_page_checksum=True)


def items_table(items: Sequence[EvalItem]) -> Any:
    """Evaluated items as an Arrow table."""
    import numpy as np
    import pyarrow as pa

    schema = items_schema()
    columns = {name: [getattr(item, name) for item in items] for name in schema.names if name != "near"}
    near = [row for item in items for row in item.near]
    ends = np.cumsum([0, *(len(item.near) for item in items)], dtype=np.int32)
    kinds = schema.field("near").type
    parts = [pa.array([getattr(row, part.name) for row in near], part.type) for part in kinds.value_type]
    rows = pa.StructArray.from_arrays(parts, fields=list(kinds.value_type))
    columns["near"] = pa.ListArray.from_arrays(pa.array(ends), rows, type=kinds)
    return pa.table(columns, schema=schema)


def items_schema() -> Any:
    """The Arrow schema of items.parquet."""
    import pyarrow as pa

    near = pa.struct(
        [("id", pa.string()), ("title", pa.string()), ("price", pa.float64()), ("similarity", pa.float64())]
    )
    return pa.schema(
        [
            ("id", pa.string()),
            ("title", pa.string()),
            ("category", pa.string()),
            ("truth", pa.float64()),
            ("group", pa.string()),
            ("group_in_training", pa.int64()),
            ("near", pa.list_(near)),
            ("highest_similarity", pa.float64()),
            (AGE, pa.int64()),
        ]
    )


def read_items_metadata(folder: Path) -> dict[str, Any] | None:
    """The facts that items.parquet was written for (catalog, split); None if there is no such file."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    path = folder / ITEMS
    if not path.is_file():
        return None
    try:
        with path.open("rb") as handle:
            about = json.loads((pq.read_schema(handle).metadata or {})[NOTE_KEY], parse_constant=refuse_constant)
    except KeyError:  # a catalog has a file of that name too
        raise InputError(
            f"{folder} is not a folder of evaluations",
            got=f"an {ITEMS} of something else",
            hint="Name a folder that `pricesmith eval` wrote.",
        ) from None
    except (pa.ArrowException, OSError, ValueError, RecursionError) as error:
        raise damaged_evals(path, error) from None
    if not isinstance(about, dict):
        raise damaged_evals(path, ValueError(f"metadata of type {type(about).__name__}"))
    return about


def read_items(folder: Path) -> dict[str, EvalItem]:
    """The evaluated items by id, in file order. Raises InputError if the file is missing or damaged."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    path = folder / ITEMS
    try:
        with path.open("rb") as handle:
            table = pq.read_table(handle, page_checksum_verification=True)
        schema = items_schema()
        if not (table.schema.equals(schema) or table.schema.equals(schema.remove(schema.get_field_index(AGE)))):
            raise ValueError(f"columns {', '.join(f'{field.name} {field.type}' for field in table.schema)}")
        items = [read_item(row) for row in table.to_pylist()]
    except (pa.ArrowException, OSError, KeyError, TypeError, ValueError) as error:
        raise damaged_evals(path, error) from None
    by_id = {item.id: item for item in items}
    if len(by_id) < len(items):
        raise damaged_evals(path, ValueError("an id occurs twice"))
    return by_id


def read_item(row: Mapping[str, Any]) -> EvalItem:
    """An item from its row. Raises ValueError for a missing text or a number that cannot be one."""
    for name in ("id", "title", "category"):
        if row[name] is None:
            raise ValueError(f"an item without {name}")
    check_number(row, "truth", above=0.0)
    check_number(row, "group_in_training", least=0.0)
    check_number(row, "highest_similarity", optional=True)
    if abs(row.get(AGE) or 0) > MOST_DAYS:
        raise ValueError(f"{AGE}: {row[AGE]!r} of {row['id']}")
    if row["near"] is None or any(near is None or None in near.values() for near in row["near"]):
        raise ValueError(f"comparables of item {row['id']} with missing values")
    for near in row["near"]:
        check_number(near, "price", above=0.0)
        check_number(near, "similarity")
    return EvalItem(**{**row, "near": tuple(Near(**near) for near in row["near"])})


def check_number(
    row: Mapping[str, Any], name: str, *, optional: bool = False, above: float = -math.inf, least: float = -math.inf
) -> None:
    """Raises ValueError unless `row[name]` is a number above `above`, at least `least`, and not absurdly large."""
    value = row[name]
    if (type(value) is float and above < value <= LARGEST and value >= least) or (value is None and optional):
        return
    is_number = isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= LARGEST
    if not (is_number and value > above and value >= least):
        raise ValueError(f"{name}: {value!r} of {row.get('id', 'the meta file')}")


def claim_items(folder: Path, about: Mapping[str, Any]) -> bool:
    """Whether items.parquet already exists for this catalog and split.

    Raises UsageError if the folder holds evaluations of something else, or is not an evals folder.
    """
    if folder.is_symlink() and not folder.exists():
        raise UsageError(f"{folder} is a link to a path that does not exist", hint="Choose another path.")
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"{folder} is a file, not a folder of evaluations", hint="Choose another path.")
    old = read_items_metadata(folder)
    if old is None:
        foreign = [path.name for path in folder.glob("*")] if folder.is_dir() else []
        if any(not name.startswith(".") for name in foreign):
            raise UsageError(
                f"{folder} exists and is not a folder of evaluations",
                got=", ".join(sorted(foreign)[:5]),
                allowed=f"an empty folder, or one with {ITEMS}",
                hint="Choose a path that does not exist yet.",
            )
        return False
    if old != dict(about):
        raise UsageError(
            f"{folder} holds evaluations of another catalog or split",
            got=describe_difference(old, about),
            hint="Choose another folder for these.",
        )
    return True


def write_evaluation(folder: Path, evaluation: Evaluation, facts: Mapping[str, Any]) -> None:
    """Write NAME.jsonl and NAME.meta.json. `facts` (kind, split, catalog_name, ...) go into the meta file.

    An older evaluation of that name remains until the meta file replaces it, in one step.
    """
    # ASCII, so that any answer, even half a surrogate pair, is read back unchanged.
    get_values = attrgetter(*ROW_NAMES)
    rows = "".join(
        json.dumps(dict(zip(ROW_NAMES, get_values(row), strict=True)), allow_nan=False) + "\n"
        for row in evaluation.rows
    )
    meta = {
        "format": FORMAT,
        "pricer": evaluation.pricer,
        "catalog": evaluation.catalog,
        "currency": evaluation.currency,
        "price_range": [end if math.isfinite(end) else None for end in evaluation.price_range],
        "median": evaluation.median,
        "n": len(evaluation.rows),
        "note": evaluation.note,
        "seconds": sum(row.seconds for row in evaluation.rows),
    }
    write_result_files(folder, file_name(evaluation.pricer), rows.encode("ascii"), {**facts, **meta})


def read_evaluation(folder: Path, name: str, items: Mapping[str, EvalItem]) -> tuple[Evaluation, dict[str, Any]] | None:
    """The evaluation stored under a file name, and its meta; None if it is unfinished. Raises InputError if damaged."""
    path = folder / f"{name}{META}"
    if not path.is_file():
        return None
    meta = read_meta(path)
    data = read_rows(folder, name, meta["rows_sha256"])
    if data is None:
        if read_json(path) != meta:  # another process has just replaced the evaluation
            return read_evaluation(folder, name, items)
        raise InputError(
            f"{folder / name}.jsonl is not the file that {path.name} names",
            hint=f"Evaluate {meta['pricer']} again, with --overwrite or in another folder.",
        )
    try:
        lines = data.decode("ascii").splitlines()
        decode = json.JSONDecoder(parse_constant=refuse_constant).decode
        rows = tuple(read_row(decode(line)) for line in lines)
    except (ValueError, TypeError, RecursionError) as error:
        raise damaged_evals(folder / f"{name}.jsonl", error) from None
    unknown = next((row.id for row in rows if row.id not in items), None)
    if unknown is not None:
        raise damaged_evals(folder / f"{name}.jsonl", ValueError(f"item {unknown}, which {ITEMS} does not have"))
    if len({row.id for row in rows}) < len(rows) or len(rows) != meta["n"]:
        raise damaged_evals(
            folder / f"{name}.jsonl", ValueError(f"{len(rows)} rows, not {meta['n']} of different items")
        )
    groups = {row.id: group for row in rows if (group := items[row.id].group) is not None}
    low, high = (math.inf if end is None else float(end) for end in meta["price_range"])
    values = (meta["pricer"], meta["catalog"], rows, float(meta["median"]), meta["currency"])
    return Evaluation(*values, (low, high), groups, meta["note"]), meta


def read_meta(path: Path) -> dict[str, Any]:
    """The meta file of an evaluation, checked. Raises InputError if a value is missing or cannot be right."""
    meta = read_json(path, hint=HINT)
    if not isinstance(meta, dict):
        raise damaged_evals(path, ValueError(f"JSON of type {type(meta).__name__}"))
    try:
        if type(meta["format"]) is int and meta["format"] > FORMAT:
            raise InputError(
                f"{path} was written by a later version of Pricesmith",
                got=f"format {meta['format']}",
                allowed=f"up to {FORMAT}",
                hint="Upgrade Pricesmith.",
            )
        check_number(meta, "format", least=FORMAT)
        for name in ("pricer", "catalog", "currency", "note", "rows_sha256"):
            if not isinstance(meta[name], str):
                raise ValueError(f"{name}: {meta[name]!r}")
        check_number(meta, "median", above=0.0)
        check_number(meta, "n", least=0.0)
        for name in ("fit_seconds", "confidence", "quotes_failed_tries_usd"):
            if name in meta:
                check_number(meta, name, optional=True, least=0.0)
        ends = dict(zip(("low", "high"), meta["price_range"], strict=True))
        check_number(ends, "low", above=0.0)
        check_number(ends, "high", optional=True, least=ends["low"])
        if not isinstance(meta.get("settings", {}), dict):
            raise ValueError(f"settings: {meta['settings']!r}")
        read_cost_curve(meta)
        read_asked(meta)
    except (KeyError, TypeError, ValueError) as error:
        raise damaged_evals(path, error) from None
    return meta


def read_row(values: Mapping[str, Any]) -> EvalRow:
    """A row from its JSON. Raises ValueError if a field is missing, new, or cannot be right."""
    if not isinstance(values, dict) or values.keys() != ROW_FIELDS:
        raise ValueError(f"a row with the fields {', '.join(values) if isinstance(values, dict) else values!r}")
    if not isinstance(values["id"], str) or not isinstance(values["raw"], str):
        raise ValueError(f"a row with id {values['id']!r}")
    check_number(values, "truth", above=0.0)
    for name in ("price", "low", "high"):
        check_number(values, name, optional=True, above=0.0)
    check_number(values, "seconds", least=0.0)
    check_number(values, "cost_usd", optional=True, least=0.0)
    return EvalRow(**values)


def read_evals(folder: Path | str) -> Evals:
    """An evals folder, evaluations by file name. Raises InputError if it is not one, or is damaged."""
    path = Path(folder)
    about = read_items_metadata(path)
    if about is None:
        raise InputError(
            f"{path} is not a folder of evaluations",
            got="no such folder" if not path.exists() else f"no {ITEMS} in it",
            hint=f"Run `pricesmith eval MODEL --catalog CATALOG --to {path}`.",
        )
    items = read_items(path)
    names = sorted(file.name.removesuffix(META) for file in path.glob(f"*{META}") if not file.name.startswith("."))
    results = [result for name in names if (result := read_evaluation(path, name, items)) is not None]
    with_rows = sorted(file.stem for file in path.glob("*.jsonl") if not file.name.startswith("."))
    metas = {meta["pricer"]: meta for _, meta in results}
    unfinished = tuple(name for name in with_rows if name not in names)
    return Evals(path, items, tuple(evaluation for evaluation, _ in results), metas, about, unfinished)


def damaged_evals(path: Path, error: Exception) -> InputError:
    """The error for a file of an evals folder that cannot be read."""
    reason = f"no {error}" if isinstance(error, KeyError) else str(error)
    return InputError(f"{path} is damaged", got=reason[:200], hint=HINT)
