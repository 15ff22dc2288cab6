"""Evaluations on disk: `NAME.jsonl` and `NAME.meta.json` for each pricer, and `items.parquet` once.

One line of NAME.jsonl:
    {"id": "a1", "truth": 24.5, "price": 22.0, "low": 14.1, "high": 34.3, "raw": "", "seconds": 0.0001,
     "cost_usd": 0.0}
NAME.meta.json, the last word (without it NAME is unfinished; `rows_sha256` is that of NAME.jsonl):
    {"format": 1, "pricer": "mlp", "kind": "sparse_mlp", "catalog": "9f86d0...", "catalog_name": "goods",
     "currency": "USD", "price_range": [0.5, 999.49], "median": 34.9, "split": "test", "n": 2900,
     "note": "", "seconds": 0.21, "fit_seconds": 21.4, "folds": false, "rows_sha256": "...", ...}
One row of items.parquet, whose metadata holds the catalog's fingerprint and the split:
    {"id": "a1", "title": "Garden hose", "category": "garden", "truth": 24.5, "group": "9f86d081884c7d65",
     "group_in_training": 0,
     "near": [{"id": "b7", "title": "Garden hose 10 m", "price": 15.0, "similarity": 0.71}],
     "highest_similarity": 0.74}

An infinite end of a price range is null. NAME is the pricer's name made safe for a file (`file_name`); the two
files change as one (`pairs`).

items.parquet is shared by all pricers of the folder, so `near` are comparables of the judged catalog's train split (in
folds, of the other folds), whoever is judged; a run of another catalog learnt from other rows. They are ordered by
shared words and by prices estimated out of fold (pricers/features/cross_fit.py). `highest_similarity` goes by words.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Protocol

from pricesmith.core.atomic import atomic_file, describe_difference, read_json, sweep_temporaries
from pricesmith.core.errors import InputError, UsageError
from pricesmith.core.types import EvalRow, Evaluation
from pricesmith.evaluation.result_files import META, read_rows, write_result_files

FORMAT = 1
ITEMS = "items.parquet"
CLOSE = 0.8  # the similarity at which a training listing counts as nearly the same product
NOTE_KEY = b"pricesmith"


class ComparableRow(Protocol):
    """A training listing like the one asked for, as catalog/comparables.py gives it."""

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
    """A listing of the judged catalog's train split like a judged one, with its price. `similarity` is from 0 to 1."""

    id: str
    title: str
    price: float
    similarity: float


@dataclass(frozen=True, slots=True)
class EvalItem:
    """What a report needs to know of a judged item. `group` is None where the item is its own group.

    `group_in_training` counts members of its group in the judged catalog's train split. It is 0 wherever the split
    keeps groups whole, as curate's does; any other number says that it does not.
    """

    id: str
    title: str
    category: str
    truth: float
    group: str | None = None
    group_in_training: int = 0
    near: tuple[Near, ...] = ()
    highest_similarity: float | None = None

    @property
    def close_in_training(self) -> bool:
        """Whether the catalog's train split holds a member of the group, or a listing at least 0.8 similar.

        It shows how much of a score comes from near-repeats that are no group.
        """
        highest = max((near.similarity for near in self.near), default=0.0)
        return self.group_in_training > 0 or max(highest, self.highest_similarity or 0.0) >= CLOSE


@dataclass(frozen=True)
class Evals:
    """An opened evals folder. `meta` is by pricer name; `unfinished` names files without their last-written
    half.
    """

    path: Path
    items: dict[str, EvalItem]
    evaluations: tuple[Evaluation, ...]
    meta: dict[str, dict[str, Any]]
    about: dict[str, Any]
    unfinished: tuple[str, ...] = ()


def file_name(pricer: str) -> str:
    """A pricer's name as a file's: letters, digits, dot, dash, underscore; made distinct where something was
    lost.
    """
    safe = re.sub(r"[^A-Za-z0-9._-]+", "-", pricer).strip(".-")[:80]
    if safe == pricer:
        return safe
    return f"{safe or 'pricer'}-{hashlib.sha256(pricer.encode('utf-8', 'surrogatepass')).hexdigest()[:8]}"


def build_comparables(comparables: Sequence[ComparableRow]) -> tuple[Near, ...]:
    """Comparables as they are kept with an item."""
    return tuple(Near(one.id, one.title, float(one.price), float(one.similarity)) for one in comparables)


def write_items(folder: Path, items: Iterable[EvalItem], about: Mapping[str, Any]) -> None:
    """Write items.parquet whole. `about` (catalog fingerprint, split, ...) goes into the file's metadata."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    near = pa.struct(
        [("id", pa.string()), ("title", pa.string()), ("price", pa.float64()), ("similarity", pa.float64())]
    )
    schema = pa.schema(
        [
            ("id", pa.string()),
            ("title", pa.string()),
            ("category", pa.string()),
            ("truth", pa.float64()),
            ("group", pa.string()),
            ("group_in_training", pa.int64()),
            ("near", pa.list_(near)),
            ("highest_similarity", pa.float64()),
        ],
        metadata={NOTE_KEY: json.dumps(dict(about), sort_keys=True, allow_nan=False).encode()},
    )
    table = pa.Table.from_pylist([asdict(item) for item in items], schema=schema)
    sweep_temporaries(folder, f".{ITEMS}.*.tmp")
    with atomic_file(folder / ITEMS) as temporary:
        pq.write_table(table, temporary, write_page_checksum=True)


def read_items_metadata(folder: Path) -> dict[str, Any] | None:
    """What the folder's items.parquet was made for; None where there is none."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    path = folder / ITEMS
    if not path.is_file():
        return None
    try:
        with path.open("rb") as handle:
            about = json.loads((pq.read_schema(handle).metadata or {})[NOTE_KEY])
    except KeyError:  # a catalog has a file of that name too
        raise InputError(
            f"{folder} is not a folder of evaluations",
            got=f"an {ITEMS} of something else",
            hint="Name a folder that `pricesmith eval` wrote.",
        ) from None
    except (pa.ArrowException, OSError, ValueError) as error:
        raise damaged_error(path, error) from None
    return dict(about)


def read_items(folder: Path) -> dict[str, EvalItem]:
    """The judged items by id, in file order. Raises InputError where the file is missing or damaged."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    path = folder / ITEMS
    try:
        with path.open("rb") as handle:
            rows = pq.read_table(handle, page_checksum_verification=True).to_pylist()
        return {row["id"]: EvalItem(**{**row, "near": tuple(Near(**near) for near in row["near"])}) for row in rows}
    except (pa.ArrowException, OSError, KeyError, TypeError) as error:
        raise damaged_error(path, error) from None


def claim_items(folder: Path, about: Mapping[str, Any]) -> bool:
    """Whether items.parquet is already there for this catalog and split.

    Raises UsageError where the folder holds evaluations of something else, or is not an evals folder.
    """
    if folder.is_symlink() and not folder.exists():
        raise UsageError(f"{folder} is a link to a place that does not exist", hint="Choose another path.")
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

    An older evaluation of that name stands until the meta file takes the place of the old one, in one step.
    """
    # ASCII, so that whatever a pricer said, half a surrogate pair included, comes back as it was.
    rows = "".join(json.dumps(asdict(row), allow_nan=False) + "\n" for row in evaluation.rows).encode("ascii")
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
    write_result_files(folder, file_name(evaluation.pricer), rows, {**facts, **meta})


def read_evaluation(folder: Path, name: str, items: Mapping[str, EvalItem]) -> tuple[Evaluation, dict[str, Any]] | None:
    """The evaluation kept under a file name and its meta; None where it is unfinished. Raises InputError if
    damaged.
    """
    path = folder / f"{name}{META}"
    if not path.is_file():
        return None
    meta = read_json(path)
    try:
        data = read_rows(folder, name, str(meta["rows_sha256"]))
        if data is None:
            if read_json(path) != meta:  # another evaluation took its place just now
                return read_evaluation(folder, name, items)
            raise InputError(
                f"{folder / name}.jsonl is not the file that {path.name} names",
                hint=f"Evaluate {meta['pricer']} again, with --overwrite or in another folder.",
            )
        if meta["format"] != FORMAT:
            raise InputError(f"{path} is of another version", got=str(meta["format"]), allowed=str(FORMAT))
        rows = tuple(read_row(json.loads(line)) for line in data.decode("ascii").splitlines())
        unknown = next((row.id for row in rows if row.id not in items), None)
        if unknown is not None:
            raise InputError(f"{folder / name}.jsonl has an item that {ITEMS} has not", got=unknown)
        groups = {row.id: group for row in rows if (group := items[row.id].group) is not None}
        low, high = (math.inf if end is None else float(end) for end in meta["price_range"])
        who = (meta["pricer"], meta["catalog"], rows, meta["median"], meta["currency"])
        return Evaluation(*who, (low, high), groups, meta["note"]), meta
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise damaged_error(path, error) from None


def read_row(values: Mapping[str, Any]) -> EvalRow:
    """A row from its JSON. Raises TypeError where a field is missing or new."""
    if set(values) != {field.name for field in fields(EvalRow)}:
        raise TypeError(f"a row with the fields {sorted(values)}")
    return EvalRow(**values)


def read_evals(folder: Path | str) -> Evals:
    """Everything in an evals folder, evaluations by file name. Raises InputError where it is none, or
    damaged.
    """
    path = Path(folder)
    about = read_items_metadata(path)
    if about is None:
        raise InputError(
            f"{path} is not a folder of evaluations",
            got="no such folder" if not path.exists() else f"no {ITEMS} in it",
            hint=f"Run `pricesmith eval RUN --catalog CATALOG --to {path}`.",
        )
    items = read_items(path)
    names = sorted(file.name.removesuffix(META) for file in path.glob(f"*{META}") if not file.name.startswith("."))
    read = [found for name in names if (found := read_evaluation(path, name, items)) is not None]
    started = sorted(file.stem for file in path.glob("*.jsonl") if not file.name.startswith("."))
    metas = {meta["pricer"]: meta for _, meta in read}
    unfinished = tuple(name for name in started if name not in names)
    return Evals(path, items, tuple(evaluation for evaluation, _ in read), metas, about, unfinished)


def damaged_error(path: Path, error: Exception) -> InputError:
    """The error for a file of ours that cannot be read."""
    return InputError(f"{path} is damaged", got=str(error)[:200], hint="Evaluate again in another folder.")
