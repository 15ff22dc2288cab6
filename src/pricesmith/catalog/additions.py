"""A catalog that grows: `curate SOURCE... --to NEW --add OLD` puts the items of OLD before the rows of the sources.

    catalog = curate(["june.csv"], Path("out/june"), add=Path("out/may"))

The items of OLD keep their text, price, id, source and split, and a new row that is nearly the same as one of them
goes to its split. Currency, part numbers and a price range that was given are those of OLD, and a column that gives
the price away in OLD stays out of the new rows.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from pricesmith.catalog.catalog import Catalog, open_catalog
from pricesmith.catalog.columns import ColumnMap
from pricesmith.catalog.leakage import drop_columns
from pricesmith.catalog.readers.sources import PriceScan, RawRow
from pricesmith.catalog.staging import Feed
from pricesmith.catalog.variants import Variants
from pricesmith.core.errors import UsageError
from pricesmith.core.progress import Progress
from pricesmith.text.formatting import format_count

COLUMNS = ("id", "title", "text", "category", "brand", "price", "group", "source")
LOWEST = 0.01


@dataclass(frozen=True)
class InheritedOptions:
    """The options of `curate` that a catalog to add to decides."""

    currency: str | None
    min_price: float | None
    max_price: float | None
    drop_part_numbers: bool


def open_added(add: Catalog | Path | str | None, to: Path) -> Catalog | None:
    """The catalog to add to. Raises UsageError if it is the folder to write, InputError if it is not a catalog."""
    if add is None:
        return None
    old = add if isinstance(add, Catalog) else open_catalog(add)
    if old.rewriting:
        raise UsageError(
            "Listings cannot be added to a rewritten catalog: the new ones are in other words",
            got=f"--add {old.path}",
            allowed="a catalog that `pricesmith curate` made",
            hint="Add them to the original catalog, and run `pricesmith rewrite` on the result.",
        )
    if old.path.resolve() == to.resolve():
        raise UsageError(
            "--add is the folder to write",
            got=f"--add {old.path} --to {to}",
            allowed="a new folder: the earlier catalog stays as it is",
            hint=f"Use --to {to}-2.",
        )
    return old


def inherit_options(old: Catalog | None, given: InheritedOptions) -> InheritedOptions:
    """The options for a catalog that contains `old`. Raises UsageError for those that would change its items."""
    if old is None:
        return given
    check_currency(old, (given.currency or "").strip().upper())
    dropped = bool(old.ledger["cleaning"].get("drop_part_numbers"))
    if given.drop_part_numbers and not dropped:
        raise UsageError(
            "--drop-part-numbers would change the texts of the catalog to add to",
            got="a catalog whose part numbers are kept",
            hint="Leave out --drop-part-numbers.",
        )
    min_price, max_price = given.min_price, given.max_price
    if min_price is None and max_price is None and old.ledger.get("range_given"):
        low, high = old.price_range
        min_price, max_price = None if low == LOWEST else low, high
    return InheritedOptions(old.currency, min_price, max_price, dropped)


def check_currency(old: Catalog, code: str) -> None:
    """Raise UsageError if a currency is given that is not that of the catalog to add to."""
    if code and code != old.currency:
        raise UsageError(
            "--currency is not that of the catalog to add to",
            got=code,
            allowed=old.currency,
            hint="Leave out --currency.",
        )


def add_feed(old: Catalog, feeds: Sequence[Feed], keep: Sequence[str]) -> list[Feed]:
    """The items of a catalog as the first feed, and the other feeds without the columns that are leaks in it."""
    leaks = {
        name: reason
        for name, reason in old.ledger["columns"]["left_out"].items()
        if reason.startswith("leak") and name not in keep
    }
    return [catalog_feed(old), *(replace(feed, columns=drop_columns(feed.columns, leaks)) for feed in feeds)]


def catalog_feed(old: Catalog) -> Feed:
    """The items of a catalog as raw rows. Its near-duplicate groups stay together."""
    fields = ("title", "text", "price", "category", "brand", "id", "source")
    items = sum(old.ledger["splits"].values())
    return Feed(
        f"catalog {old.name}",
        "",
        lambda: read_items(old),
        f"fingerprint {old.fingerprint}",
        ColumnMap(**{name: name for name in fields}, left_out={"group": "near-duplicate group"}),
        variants=Variants("group", {"itemgroupid": "group"}),
        prices=PriceScan(codes={old.currency: items}, filled=items),
        added=True,
    )


def count_earlier_rows(old: Catalog | None) -> dict[str, dict[str, int]]:
    """The ledger's entry on the rows that the sources of an earlier catalog had; nothing without one."""
    return {"earlier_rows": source_rows(old)} if old is not None else {}


def source_rows(catalog: Catalog) -> dict[str, int]:
    """How many rows each source of a catalog had, those of the catalogs that it was added to included."""
    rows = Counter(catalog.ledger.get("earlier_rows", {}))
    added = bool((catalog.ledger.get("previous") or {}).get("added"))
    for file in catalog.ledger["files"][added:]:  # the first one of a catalog that was added to is the earlier catalog
        rows[file["file"]] += file["in"]
    return dict(rows)


def read_items(old: Catalog) -> Iterator[list[RawRow]]:
    """The items of a catalog, numbered in its order."""
    number = 1
    for batch in old.batches(COLUMNS):
        rows = [RawRow(f"catalog {old.name}", number + place, row) for place, row in enumerate(batch.to_pylist())]
        number += len(rows)
        yield rows


def note_changes(catalog: Catalog, progress: Progress) -> Catalog:
    """Say how many items were added, and how many earlier ones changed their split and why; the catalog itself."""
    previous = catalog.ledger.get("previous") or {}
    if not previous.get("added"):
        return catalog
    earlier = catalog.ledger["files"][0]
    new = format_count(catalog.ledger["rows"]["kept"] - earlier["kept"], "item")
    progress.note(f"{new} added to the {earlier['kept']:,} items of the {earlier['file']}, which keep their split.")
    if changed := previous["changed_split"]:
        progress.note(
            f"{format_count(changed, 'item')} of the earlier catalog moved towards the training split: a new listing "
            "is nearly the same as items of two splits, and all of these must be in one."
        )
    return catalog
