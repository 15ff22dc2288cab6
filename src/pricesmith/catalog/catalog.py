"""A catalog on disk: `items.parquet`, `rejects.jsonl.gz`, `CARD.md` and `ledger.json`, written last.

One row of items.parquet:
    {"id": "a1", "title": "Garden hose", "text": "25 m, brass fittings", "category": "garden", "brand": "",
     "price": 24.5, "currency": "USD", "group": "9f86d081884c7d65", "split": "train", "source": "shop.csv"}
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import AfterValidator, ConfigDict, Field

from pricesmith.catalog.clean import CleanSettings
from pricesmith.catalog.columns import ColumnMap
from pricesmith.catalog.rewriting import Rewriting, read_rewriting_facts
from pricesmith.core.atomic import is_complete, sha256
from pricesmith.core.errors import InputError
from pricesmith.core.model_files import (
    check_format,
    check_range,
    damaged_file,
    read_object,
    read_settings,
    report_damage,
)
from pricesmith.core.settings import Settings
from pricesmith.core.types import Item, Listing

if TYPE_CHECKING:
    import pyarrow as pa

ITEMS = "items.parquet"
LEDGER = "ledger.json"
REJECTS = "rejects.jsonl.gz"
CARD = "CARD.md"
COLUMNS = ("id", "title", "text", "category", "brand", "price", "currency", "group", "split", "source")
DATE = "date"  # a further column of catalogs that are split by time
FORMAT = 1
SPLITS = ("train", "validation", "test")


class RowFacts(Settings):
    """The rows that were rejected, by reason; other entries are allowed."""

    model_config = ConfigDict(frozen=True, extra="ignore")
    rejected: dict[str, int] = Field(default_factory=dict)


class LedgerFacts(Settings):
    """What a ledger must say; other entries are allowed."""

    model_config = ConfigDict(frozen=True, extra="ignore", allow_inf_nan=False)
    name: str
    fingerprint: str
    currency: str
    price_range: Annotated[tuple[float, float], AfterValidator(check_range)]
    columns: ColumnMap
    maps: list[ColumnMap] = Field(default_factory=list)
    categories: list[str] = Field(default_factory=list)
    cleaning: CleanSettings
    rows: RowFacts = RowFacts()
    splits: dict[Literal["train", "validation", "test"], Annotated[int, Field(ge=0)]]
    items_bytes: int = Field(ge=0)
    items_sha256: str = ""
    rewriting: Rewriting | None = None


@dataclass(frozen=True, repr=False)
class Catalog:
    """An opened catalog. Items are read from disk when they are asked for; order is the file's, always the same."""

    path: Path
    ledger: Mapping[str, Any]

    @property
    def name(self) -> str:
        return str(self.ledger["name"])

    @property
    def fingerprint(self) -> str:
        """SHA-256 over every item's content, price, group and split."""
        return str(self.ledger["fingerprint"])

    @property
    def currency(self) -> str:
        return str(self.ledger["currency"])

    @property
    def price_range(self) -> tuple[float, float]:
        low, high = self.ledger["price_range"]
        return float(low), float(high)

    @property
    def rewriting(self) -> str:
        """Identifies how a language model has rewritten the titles and texts; empty: they are as they were cleaned."""
        facts = read_rewriting_facts(self.ledger)
        return facts.id if facts else ""

    def __repr__(self) -> str:
        low, high = self.price_range
        splits = self.ledger.get("splits", {})
        return f"Catalog({str(self.path)!r}: {sum(splits.values()):,} items, {self.currency} {low:,g} to {high:,g})"

    def _repr_html_(self) -> str:
        """The catalog's facts as a table, for notebooks."""
        from pricesmith.core.tables import html_facts

        low, high = self.price_range
        facts: dict[str, object] = {f"{name} items": f"{count:,}" for name, count in self.ledger["splits"].items()}
        facts |= {"price range": f"{low:,g} to {high:,g} {self.currency}"}
        rejected = self.ledger.get("rows", {}).get("rejected", {})
        facts |= {f"rejected: {reason}": f"{count:,}" for reason, count in rejected.items()}
        leaks = [name for name, why in self.columns_left_out().items() if why.startswith("leak")]
        facts |= {"dropped columns (they give the price away)": ", ".join(leaks)} if leaks else {}
        return html_facts(f"Catalog {self.name}", facts)

    def columns_left_out(self) -> Mapping[str, str]:
        """The columns of the files that no pricer reads, each with the reason."""
        left_out: Mapping[str, str] = self.ledger["columns"].get("left_out", {})
        return left_out

    def batches(self, names: Sequence[str], rows: int = 10_000) -> Iterator[pa.RecordBatch]:
        """Some columns, a number of rows at a time, in file order. Raises InputError where the file is damaged."""
        import pyarrow.parquet as pq

        path = self.path / ITEMS
        with report_damage(path), pq.ParquetFile(path, page_checksum_verification=True) as file:
            check_schema(path, file.schema_arrow)
            wanted = sum(self.ledger["splits"].values())
            if file.metadata.num_rows != wanted:
                raise damaged_file(path, f"{file.metadata.num_rows:,} rows", allowed=f"{wanted:,} rows")
            for batch in file.iter_batches(rows, columns=list(names)):
                check_batch(path, batch)
                yield batch

    def columns(self, split: str, names: Sequence[str]) -> dict[str, list[Any]]:
        """Some columns of a split, as lists of equal length, in file order."""
        import pyarrow.compute as pc

        values: dict[str, list[Any]] = {name: [] for name in names}
        for batch in self.batches(list(dict.fromkeys([*names, "split"]))):
            rows = batch.filter(pc.equal(batch.column("split"), split))
            for name in names:
                values[name] += rows.column(name).to_pylist()
        return values

    def items(self, split: str) -> list[Item]:
        """The items of a split: train, validation or test."""
        return self.items_and_groups(split)[0]

    def items_and_groups(self, split: str) -> tuple[list[Item], list[str]]:
        """The items of a split and the group of each."""
        check_split(split)
        data = self.columns(split, ("id", "title", "text", "category", "brand", "price", "group"))
        rows = zip(*(data[name] for name in ("id", "title", "text", "category", "brand", "price")), strict=True)
        rewriting = self.rewriting
        items = [Item(Listing(i, t, x, c, b, rewriting), p) for i, t, x, c, b, p in rows]
        return items, data["group"]

    def tune_half(self) -> list[Item]:
        """The half of validation, by group, for early stopping and blending."""
        return self.half("tune")

    def calibrate_half(self) -> list[Item]:
        """The other half of validation, for intervals only."""
        return self.half("calibrate")

    def half(self, which: str) -> list[Item]:
        items, groups = self.items_and_groups("validation")
        return [item for item, group in zip(items, groups, strict=True) if half_of(group) == which]


def check_split(split: str) -> None:
    """Raise InputError unless a catalog has such a split."""
    if split not in SPLITS:
        raise InputError(f"A catalog has no split {split!r}", got=split, allowed=", ".join(SPLITS))


def check_schema(path: Path, schema: pa.Schema) -> None:
    """Raises InputError unless the file has the columns of items, each of its type."""
    types = {field.name: str(field.type) for field in schema}
    expected = {name: "double" if name == "price" else "string" for name in COLUMNS}
    if types not in (expected, {**expected, DATE: "string"}) or len(schema) != len(types):
        got = ", ".join(f"{name}: {kind}" for name, kind in types.items())
        raise damaged_file(path, got, allowed=", ".join(f"{name}: {kind}" for name, kind in expected.items()))


def check_batch(path: Path, batch: pa.RecordBatch) -> None:
    """Raises InputError for empty cells, for prices that are not finite or not above 0, and for an unknown split."""
    import pyarrow as pa
    import pyarrow.compute as pc

    batch.validate(full=True)
    for name, column in zip(batch.schema.names, batch.columns, strict=True):
        if column.null_count:
            raise damaged_file(path, f"{column.null_count:,} rows without {name}", allowed="a value in every row")
        if name == "price" and not pc.all(pc.and_(pc.is_finite(column), pc.greater(column, 0)), min_count=0).as_py():
            raise damaged_file(path, "a price that is not a number above 0", allowed="numbers above 0")
        if name == "split" and not pc.all(pc.is_in(column, pa.array(SPLITS)), min_count=0).as_py():
            raise damaged_file(path, "an unknown split", allowed=", ".join(SPLITS))


def half_of(group: str) -> str:
    """Which half of validation a group belongs to: `tune` or `calibrate`."""
    return ("tune", "calibrate")[hashlib.sha256(f"half {group}".encode()).digest()[0] & 1]


def open_catalog(path: Path | str) -> Catalog:
    """A finished catalog. Raises InputError where the folder is not one."""
    folder = Path(path)
    if not is_complete(folder, LEDGER):
        raise InputError(
            f"{folder} is not a finished catalog",
            got="no such folder" if not folder.exists() else f"no {LEDGER} in it",
            allowed="a folder that `pricesmith curate` has finished",
            hint=f"Run `pricesmith curate SOURCE --to {folder}`.",
        )
    ledger = read_object(folder / LEDGER)
    check_format(folder, ledger, FORMAT)
    facts = read_settings(folder / LEDGER, LedgerFacts)
    parquet = folder / ITEMS
    if not parquet.is_file() or parquet.stat().st_size != ledger["items_bytes"]:
        raise InputError(
            f"{parquet} is not the file that the ledger names",
            allowed=f"{ledger['items_bytes']} bytes",
            hint="Build the catalog again with --overwrite.",
        )
    if facts.items_sha256 and sha256(parquet) != facts.items_sha256:
        raise damaged_file(parquet, "another SHA-256", allowed=f"{facts.items_sha256}, which the ledger names")
    return Catalog(folder, ledger)
