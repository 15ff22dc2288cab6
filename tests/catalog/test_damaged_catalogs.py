"""A damaged catalog folder gives one clear error when it is opened, shown or fitted, and never other data."""

from __future__ import annotations

import hashlib
import io
import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from rich.console import Console

from pricesmith.catalog import curate
from pricesmith.catalog.catalog import CARD, COLUMNS, ITEMS, LEDGER, REJECTS, SPLITS, open_catalog
from pricesmith.catalog.summary import catalog_page, catalog_summary, to_dict
from pricesmith.core.errors import InputError
from pricesmith.pricers.fitting import fit_model
from pricesmith.pricers.recipes import read_recipe
from pricesmith.testing import make_csv


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An undamaged catalog of two files with different columns and a limited number of training rows."""
    folder = tmp_path_factory.mktemp("whole")
    (folder / "in").mkdir()
    make_csv(folder / "in" / "a.csv", 200)
    text = make_csv(folder / "in" / "b.csv", 120, seed=1).read_text()
    (folder / "in" / "b.csv").write_text(text.replace("description", "text", 1))
    return curate([str(folder / "in")], folder / "out", train_rows=150).path


@pytest.fixture
def damaged(whole: Path, tmp_path: Path) -> Path:
    """A copy of the catalog, to damage."""
    return Path(shutil.copytree(whole, tmp_path / "catalog"))


def use(folder: Path) -> Any:
    """Everything that opening, `show` and the start of a fit read."""
    catalog = open_catalog(folder)
    page = io.StringIO()
    Console(file=page, width=100).print(catalog_page(catalog))
    items = [catalog.items_and_groups(split) for split in SPLITS]
    shown = [page.getvalue(), catalog_summary(catalog), repr(catalog), catalog._repr_html_()]
    return [text.replace(str(folder), "FOLDER") for text in shown], to_dict(catalog), items, catalog.tune_half()


def outcome(folder: Path, label: str) -> Any:
    """What a damaged catalog gives; an error is checked for its parts."""
    caught = None
    try:
        result = use(folder)
    except InputError as error:
        result = caught = error
    assert caught is None or (caught.what and caught.hint and (caught.got or caught.allowed)), f"{label}: {caught}"
    return result


def damage_bytes(data: bytes) -> Iterator[tuple[str, bytes]]:
    """Damage that any file can take: cut off, replaced, and bytes flipped all over it and in its last 200."""
    yield "empty", b""
    yield "first half", data[: len(data) // 2]
    yield "last 3 bytes missing", data[:-3]
    yield "null", b"null"
    yield "a list", b"[]"
    yield "text", b"id,title\n1,Oak lamp\n"
    yield "noise", bytes(range(256)) * 4
    yield "zeros", bytes(len(data))
    for position in [*range(0, len(data), len(data) // 40), *range(len(data) - 200, len(data), 5)]:
        yield f"byte {position} flipped", data[:position] + bytes([data[position] ^ 0x55]) + data[position + 1 :]


@pytest.mark.parametrize("name", [ITEMS, REJECTS, CARD])
def test_damaged_bytes_are_refused_or_never_read(name: str, whole: Path, damaged: Path, is_thorough: bool) -> None:
    """Items are refused; what nothing reads changes nothing (every eighth damage of it, all with --run-slow)."""
    expected, data = use(whole), (damaged / name).read_bytes()
    changes = list(damage_bytes(data))
    assert len(changes) > 80
    for label, changed in changes if name == ITEMS or is_thorough else changes[::8]:
        (damaged / name).write_bytes(changed)
        result = outcome(damaged, f"{name}: {label}")
        if name == ITEMS:
            assert isinstance(result, InputError), f"{label} was not noticed"
            assert ITEMS in result.what
        else:
            assert not isinstance(result, InputError), f"{name}: {label}: {result}"
            assert result == expected


@pytest.mark.parametrize("name", [ITEMS, LEDGER])
def test_a_missing_file_is_refused(name: str, damaged: Path) -> None:
    """With its name."""
    (damaged / name).unlink()
    with pytest.raises(InputError) as caught:
        open_catalog(damaged)
    assert name in f"{caught.value.what} {caught.value.got}"


def vouch_for(folder: Path) -> None:
    """Write the size and hash of the items, damaged or not, into the ledger."""
    ledger, data = json.loads((folder / LEDGER).read_text()), (folder / ITEMS).read_bytes()
    ledger |= {"items_bytes": len(data), "items_sha256": hashlib.sha256(data).hexdigest()}
    (folder / LEDGER).write_text(json.dumps(ledger))


def test_damaged_bytes_of_items_that_the_ledger_vouches_for_end_in_no_traceback(damaged: Path) -> None:
    """The parquet reader's errors are ours, whatever it says."""
    data, refused = (damaged / ITEMS).read_bytes(), 0
    for label, changed in damage_bytes(data):
        (damaged / ITEMS).write_bytes(changed)
        vouch_for(damaged)
        refused += isinstance(outcome(damaged, label), InputError)
    assert refused > 60


def replace(table: pa.Table, name: str, values: Any) -> pa.Table:
    return table.set_column(table.schema.names.index(name), name, values)


def first_is(table: pa.Table, name: str, value: Any) -> pa.Table:
    """The table with another value in the first row of a column."""
    values = [value, *table.column(name).to_pylist()[1:]]
    return replace(table, name, pa.array(values, table.schema.field(name).type))


UNREAD = {"currency", "source"}  # columns that nothing reads

TABLES: dict[str, Callable[[pa.Table], pa.Table]] = {
    **{f"without {name}": lambda table, name=name: table.drop_columns([name]) for name in COLUMNS},
    **{
        f"an empty cell in {name}": lambda table, name=name: first_is(table, name, None)
        for name in COLUMNS
        if name not in UNREAD
    },
    "a column more": lambda table: table.append_column("more", table.column("id")),
    "a column twice": lambda table: table.append_column("id", table.column("title")),
    "prices as text": lambda table: replace(table, "price", pc.cast(table.column("price"), pa.string())),
    "prices as whole numbers": lambda table: replace(table, "price", pc.cast(table.column("price"), pa.int64(), False)),
    "ids as numbers": lambda table: replace(table, "id", pa.array(range(len(table)))),
    "titles as bytes": lambda table: replace(table, "title", pc.cast(table.column("title"), pa.binary())),
    "a price of 0": lambda table: first_is(table, "price", 0.0),
    "a negative price": lambda table: first_is(table, "price", -1.0),
    "a price of NaN": lambda table: first_is(table, "price", float("nan")),
    "an infinite price": lambda table: first_is(table, "price", float("inf")),
    "an unknown split": lambda table: first_is(table, "split", "trial"),
    "no rows": lambda table: table.slice(0, 0),
    "a row less": lambda table: table.slice(1),
}


@pytest.mark.parametrize("label", TABLES)
def test_a_table_of_other_columns_types_or_values_is_refused(label: str, damaged: Path) -> None:
    """Also where the ledger vouches for the file."""
    pq.write_table(TABLES[label](pq.read_table(damaged / ITEMS)), damaged / ITEMS, write_page_checksum=True)
    vouch_for(damaged)
    result = outcome(damaged, label)
    assert isinstance(result, InputError), "not noticed"


def entries(ledger: Any, trail: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The path of every entry of a ledger, at any depth; of lists the first only."""
    pairs = ledger.items() if isinstance(ledger, dict) else enumerate(ledger[:1]) if isinstance(ledger, list) else ()
    for key, value in pairs:
        yield (*trail, key)
        yield from entries(value, (*trail, key))


def test_a_damaged_ledger_ends_in_no_traceback(whole: Path, damaged: Path, is_thorough: bool) -> None:
    """Each entry in turn is missing, or of another type: an error, or the items as before. Every entry takes one of
    seven damages in turn, all of them with --run-slow."""
    expected, text = use(whole)[2], (damaged / LEDGER).read_text()
    paths = [path for path in entries(json.loads(text)) if path[0] not in ("settings", "inventory")]
    assert len(paths) > 60
    refused = tried = 0
    damages: tuple[Any, ...] = ("missing", None, [], {}, "text", -1, True)
    for number, path in enumerate(paths):
        chosen = damages if is_thorough else [damages[number % len(damages)]]
        for value in chosen:
            tried += 1
            ledger = inner = json.loads(text)
            for key in path[:-1]:
                inner = inner[key]
            if value == "missing":
                del inner[path[-1]]
            else:
                inner[path[-1]] = value
            (damaged / LEDGER).write_text(json.dumps(ledger))
            result = outcome(damaged, f"{path}: {value}")
            refused += isinstance(result, InputError)
            assert isinstance(result, InputError) or result[2] == expected
    assert refused > 3 / 7 * tried
    for label, changed in damage_bytes(text.encode()):
        (damaged / LEDGER).write_bytes(changed)
        result = outcome(damaged, label)
        assert isinstance(result, InputError) or result[2] == expected


@pytest.mark.parametrize("name", [ITEMS, LEDGER])
def test_a_fit_on_a_damaged_catalog_is_refused_before_it_starts(name: str, damaged: Path, tmp_path: Path) -> None:
    """No model folder is left."""
    data = (damaged / name).read_bytes()
    (damaged / name).write_bytes(data[: len(data) // 2])
    with pytest.raises(InputError):
        fit_model(read_recipe("median", {}), open_catalog(damaged), tmp_path / "model")
    assert not (tmp_path / "model").exists()
