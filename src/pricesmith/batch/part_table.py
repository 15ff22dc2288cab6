"""The rows of one part as an Arrow table: what was added, and the columns of the input with the types of their cells.

    table = build_part(cells, ids, added, schema, work)
    part = PartTable(table)
    part.cells("weight")                # [2, None, "2 kg"]: the cells of the input, as they were read

A column of the input whose cells are all text, all integers, all decimal numbers or all true or false is an Arrow
column of that type, any other one holds each cell as JSON. A row may lack keys that others have, or have them in
another order (JSON Lines): the column `keys` has the number of its own list of keys. Names, types and lists of keys are
in the metadata of the table.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import repeat
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pricesmith.catalog.readers.messages import Value
from pricesmith.catalog.readers.row_columns import RowBatch
from pricesmith.catalog.readers.sources import BadRow, RawRow

if TYPE_CHECKING:
    import pyarrow as pa

Batch = Sequence[RawRow | BadRow]
Column = Sequence[Value]

WORK = b"pricesmith.work"  # in the metadata of a part: the hash of the plan it was written for
INPUT = b"pricesmith.input"
KEYS = "keys"
INT64 = 1 << 63
EXACT_FLOAT = 1 << 53  # integers up to here are decimal numbers without loss
ENCODER = json.JSONEncoder(ensure_ascii=False, allow_nan=False)


class PartRows:
    """The rows of a part, in the batches in which they were read."""

    def __init__(self, batches: Sequence[Batch] = ()) -> None:
        self.batches = list(batches)

    def __len__(self) -> int:
        return sum(map(len, self.batches))


@dataclass(frozen=True)
class InputCells:
    """The cells of the rows of a part, by column, in the order in which the columns appear. `keys` are the different
    lists of keys that rows have, and `codes` [rows] which of them each row has."""

    columns: Mapping[str, Column]
    keys: Sequence[tuple[str, ...]]
    codes: NDArray[np.int32]

    @classmethod
    def from_rows(cls, rows: PartRows) -> InputCells:
        """The cells of rows; one that could not be read has none."""
        pieces: list[tuple[Mapping[str, Column], int]] = []
        codes: dict[tuple[str, ...], int] = {}
        code_of: list[NDArray[np.int32]] = []
        for batch in rows.batches:
            if isinstance(batch, RowBatch):
                pieces.append((dict(zip(batch.rows.header, batch.rows.columns, strict=True)), len(batch)))
                code_of.append(np.full(len(batch), codes.setdefault(batch.rows.header, len(codes)), dtype=np.int32))
                continue
            values: list[Mapping[str, Value]] = [row.values if isinstance(row, RawRow) else {} for row in batch]
            own = [codes.setdefault(tuple(row), len(codes)) for row in values]
            code_of.append(np.array(own, dtype=np.int32))
            names = dict.fromkeys(name for keys in dict.fromkeys(map(tuple, values)) for name in keys)
            pieces.append(({name: [row.get(name) for row in values] for name in names}, len(values)))
        names = dict.fromkeys(name for columns, _ in pieces for name in columns)
        columns = {name: join_columns([(columns.get(name), count) for columns, count in pieces]) for name in names}
        return cls(columns, list(codes), np.concatenate(code_of) if code_of else np.zeros(0, dtype=np.int32))

    def row(self, place: int) -> dict[str, Value]:
        """The cells of one row."""
        return {name: self.columns[name][place] for name in self.keys[self.codes[place]]}


def join_columns(pieces: Sequence[tuple[Column | None, int]]) -> Column:
    """A column from its pieces, each with its number of rows; None where rows have no such column."""
    if len(pieces) == 1 and pieces[0][0] is not None:
        return pieces[0][0]
    joined: list[Value] = []
    for cells, count in pieces:
        joined.extend(repeat(None, count) if cells is None else cells)
    return joined


def build_part(cells: InputCells, added: Mapping[str, Any], schema: pa.Schema, work: str) -> pa.Table:
    """The table of a part. `added` has the columns of `schema`, which are those that are no input's."""
    import pyarrow as pa

    arrays = [pa.array(added[field.name], field.type) for field in schema]
    fields = [*schema, pa.field(KEYS, pa.int32())]
    arrays.append(pa.array(cells.codes))
    types: list[list[str]] = []
    for number, column in enumerate(cells.columns.values()):
        array, kinds = store_column(column)
        fields.append(pa.field(input_name(number), array.type))
        arrays.append(array)
        types.append(sorted(kinds))
    place = {name: number for number, name in enumerate(cells.columns)}
    keys = [[place[name] for name in names] for names in cells.keys]
    facts = {"names": list(cells.columns), "types": types, "keys": keys}
    metadata = {WORK: work.encode(), INPUT: json.dumps(facts).encode()}
    return pa.Table.from_arrays(arrays, schema=pa.schema(fields, metadata=metadata))


def input_name(number: int) -> str:
    """What a part calls a column of the input."""
    return f"input_{number}"


def store_column(cells: Column) -> tuple[pa.Array, set[str]]:
    """The cells of a column as an Arrow array, and their types. A number that JSON cannot hold is no value."""
    import pyarrow as pa

    classes = set(map(type, cells)) - {type(None)}
    if float in classes:
        cells = [None if isinstance(cell, float) and not math.isfinite(cell) else cell for cell in cells]
        classes = set(map(type, cells)) - {type(None)}
    types = {kind.__name__ for kind in classes}
    if int in classes:
        whole = [cell for cell in cells if type(cell) is int]
        least, most = min(whole), max(whole)
        types |= {"long"} if least < -EXACT_FLOAT or most > EXACT_FLOAT else set()
        types |= {"huge"} if least < -INT64 or most >= INT64 else set()
    if (kind := arrow_type(types)) is not None:
        return pa.array(cells, kind), types
    return pa.array([None if cell is None else ENCODER.encode(cell) for cell in cells], pa.string()), types


def arrow_type(types: set[str]) -> pa.DataType | None:
    """The type of pyarrow that holds cells of these types as they are; None: as JSON. Types are those of Python, "long"
    for integers that a decimal number does not hold, and "huge" for those beyond 64 bits."""
    import pyarrow as pa

    if not types:
        return pa.null()
    if types <= {"int", "long"}:
        return pa.int64()
    if len(types) > 1:
        return None
    return {"str": pa.string(), "float": pa.float64(), "bool": pa.bool_()}.get(next(iter(types)))


class InputColumns:
    """The columns of the whole input, in the order in which they appear, each with the types of its cells."""

    def __init__(self) -> None:
        self.types: dict[str, set[str]] = {}

    def add(self, schema: pa.Schema) -> None:
        """Note the columns of a part."""
        facts = json.loads(schema.metadata[INPUT])
        for name, types in zip(facts["names"], facts["types"], strict=True):
            self.types.setdefault(name, set()).update(types)

    def arrow_type(self, name: str) -> pa.DataType:
        """The narrowest Arrow type that holds all cells of a column; text for cells of several kinds."""
        import pyarrow as pa

        types = self.types[name]
        if types and types <= {"int", "float"} and "float" in types:
            return pa.float64()
        return (arrow_type(types) if types else None) or pa.string()


class PartTable:
    """A part as it is read back."""

    def __init__(self, table: pa.Table) -> None:
        self.table = table
        facts = json.loads(table.schema.metadata[INPUT])
        names = facts["names"]
        self.places: dict[str, int] = {name: number for number, name in enumerate(names)}
        self.types = [set(types) for types in facts["types"]]
        self.keys: list[list[str]] = [[names[place] for place in places] for places in facts["keys"]]

    def __len__(self) -> int:
        return int(self.table.num_rows)

    @cached_property
    def codes(self) -> NDArray[np.int32]:
        """Which of the lists of keys each row has [rows]."""
        codes: NDArray[np.int32] = self.table.column(KEYS).to_numpy()
        return codes

    def array(self, name: str) -> Any:
        """An added column."""
        return self.table.column(name)

    def input_array(self, name: str, kind: pa.DataType) -> Any:
        """A column of the input as an Arrow array of a type that holds it; empty if no row of the part has it."""
        import pyarrow as pa

        if name not in self.places:
            return pa.nulls(len(self), kind)
        place = self.places[name]
        if arrow_type(self.types[place]) in (kind, pa.null()):
            return self.table.column(input_name(place)).cast(kind)
        cells = self.cells(name)
        if pa.types.is_string(kind):
            cells = [cell if cell is None else str(cell) for cell in cells]
        return pa.array(cells, kind)

    def cells(self, name: str) -> Column:
        """The cells of a column of the input as they were read; None for a row that has none."""
        if name not in self.places:
            return [None] * len(self)
        place = self.places[name]
        cells: list[Value] = self.table.column(input_name(place)).to_pylist()
        if arrow_type(self.types[place]) is None:
            return [None if cell is None else json.loads(str(cell)) for cell in cells]
        return cells

    def json_cells(self, name: str) -> list[str]:
        """The cells of a column of the input as JSON."""
        place = self.places[name]
        cells = self.table.column(input_name(place))
        if arrow_type(self.types[place]) is None:
            return ["null" if cell is None else cell for cell in cells.to_pylist()]
        return to_json(cells.to_pylist())


def to_json(cells: Sequence[Any]) -> list[str]:
    """Each cell as JSON. Raises ValueError for a number that is not finite."""
    classes = set(map(type, cells)) - {type(None)}
    # The encoder is quick with text alone, and refuses numbers that are not finite.
    plain = classes == {int} or (classes == {float} and all(cell is None or math.isfinite(cell) for cell in cells))
    encode = repr if plain else ENCODER.encode
    return ["null" if cell is None else encode(cell) for cell in cells]
