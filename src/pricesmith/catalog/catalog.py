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
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import AfterValidator, ConfigDict, Field

from pricesmith.core.atomic import is_complete
from pricesmith.core.errors import InputError
from pricesmith.core.model_files import check_format, check_range, read_object, read_settings
from pricesmith.core.settings import Settings
from pricesmith.core.types import Item, Listing

if TYPE_CHECKING:
    import pyarrow as pa

ITEMS = "items.parquet"
LEDGER = "ledger.json"
REJECTS = "rejects.jsonl.gz"
CARD = "CARD.md"
COLUMNS = ("id", "title", "text", "category", "brand", "price", "currency", "group", "split", "source")
FORMAT = 1
SPLITS = ("train", "validation", "test")


class LedgerFacts(Settings):
    """What a ledger must say; other entries are allowed."""

    model_config = ConfigDict(frozen=True, extra="ignore", allow_inf_nan=False)
    name: str
    fingerprint: str
    currency: str
    price_range: Annotated[tuple[float, float], AfterValidator(check_range)]
    columns: dict[str, Any]
    cleaning: dict[str, Any]
    items_bytes: int = Field(ge=0)


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

    def __repr__(self) -> str:
        low, high = self.price_range
        splits = self.ledger.get("splits", {})
        return f"Catalog({str(self.path)!r}: {sum(splits.values()):,} items, {self.currency} {low:,g} to {high:,g})"

    def _repr_html_(self) -> str:
        """The catalog's facts as a table, for notebooks."""
        from pricesmith.core.notebook import html_facts

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
        import pyarrow as pa
        import pyarrow.parquet as pq

        path = self.path / ITEMS
        try:
            with pq.ParquetFile(path, page_checksum_verification=True) as file:
                yield from file.iter_batches(rows, columns=list(names))
        except (pa.ArrowException, OSError) as error:
            hint = "Build the catalog again with --overwrite."
            raise InputError(f"{path} is damaged", got=str(error)[:200], hint=hint) from None

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
        if split not in SPLITS:
            raise InputError(f"A catalog has no split {split!r}", got=split, allowed=", ".join(SPLITS))
        data = self.columns(split, ("id", "title", "text", "category", "brand", "price", "group"))
        rows = zip(*(data[name] for name in ("id", "title", "text", "category", "brand", "price")), strict=True)
        items = [Item(Listing(i, t, x, c, b), p) for i, t, x, c, b, p in rows]
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
    read_settings(folder / LEDGER, LedgerFacts)
    parquet = folder / ITEMS
    if not parquet.is_file() or parquet.stat().st_size != ledger["items_bytes"]:
        raise InputError(
            f"{parquet} is not the file that the ledger names",
            allowed=f"{ledger['items_bytes']} bytes",
            hint="Build the catalog again with --overwrite.",
        )
    return Catalog(folder, ledger)
