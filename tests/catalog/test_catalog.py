"""A catalog on disk: what is written is what is read."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from pricesmith.catalog import curate
from pricesmith.catalog import open as open_catalog
from pricesmith.catalog.catalog import COLUMNS, SPLITS, Catalog
from pricesmith.core.errors import InputError
from pricesmith.testing import make_csv


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Catalog:
    folder = tmp_path_factory.mktemp("store")
    return curate([str(make_csv(folder / "a.csv", 500))], folder / "out")


def test_the_folder_holds_four_files(shop: Catalog) -> None:
    """Items, rejects, card and the ledger; nothing of the work."""
    assert sorted(path.name for path in shop.path.iterdir()) == [
        "CARD.md",
        "items.parquet",
        "ledger.json",
        "rejects.jsonl.gz",
    ]


def test_items_have_the_stated_columns(shop: Catalog) -> None:
    """In the stated order, none of them empty of type."""
    schema = pq.read_schema(shop.path / "items.parquet")
    assert tuple(schema.names) == COLUMNS
    assert {str(kind) for kind in schema.types} == {"string", "double"}


def test_the_splits_hold_every_item_once(shop: Catalog) -> None:
    """And as many as the ledger says."""
    ids = [item.listing.id for split in SPLITS for item in shop.items(split)]
    assert len(ids) == len(set(ids)) == shop.ledger["rows"]["kept"]
    assert {split: len(shop.items(split)) for split in SPLITS} == shop.ledger["splits"]


def test_validation_is_halved_by_group(shop: Catalog) -> None:
    """Both halves together are validation; no group is in both."""
    items, groups = shop.items_and_groups("validation")
    group = dict(zip((item.listing.id for item in items), groups, strict=True))
    tune, calibrate = shop.tune_half(), shop.calibrate_half()
    assert len(tune) + len(calibrate) == len(items)
    assert tune
    assert calibrate
    assert not {group[item.listing.id] for item in tune} & {group[item.listing.id] for item in calibrate}


def test_a_group_is_sixteen_figures_of_its_centres_hash(shop: Catalog) -> None:
    """Lower-case hexadecimal."""
    _, groups = shop.items_and_groups("train")
    assert all(len(name) == 16 and int(name, 16) >= 0 and name == name.lower() for name in groups)


def test_a_folder_without_a_ledger_is_not_a_catalog(tmp_path: Path) -> None:
    """Unfinished or foreign: refused by name."""
    with pytest.raises(InputError, match="not a finished catalog"):
        open_catalog(tmp_path)


def test_a_changed_items_file_is_refused(shop: Catalog, tmp_path: Path) -> None:
    """Its size is not the ledger's."""
    for path in shop.path.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    with (tmp_path / "items.parquet").open("ab") as handle:
        handle.write(b"x")
    with pytest.raises(InputError, match="not the file"):
        open_catalog(tmp_path)


def test_a_flipped_bit_in_the_items_is_found(shop: Catalog, tmp_path: Path) -> None:
    """Its size is the ledger's, and a price could be another: the pages have checksums."""
    for path in shop.path.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    damaged = tmp_path / "items.parquet"
    data = bytearray(damaged.read_bytes())
    data[len(data) // 3] ^= 4
    damaged.write_bytes(data)
    with pytest.raises(InputError, match="is damaged"):
        for split in SPLITS:
            open_catalog(tmp_path).items(split)


def test_the_ledger_is_strict_json(shop: Catalog) -> None:
    """No NaN, no infinity."""

    def refuse(word: str) -> None:
        raise AssertionError(word)

    json.loads((shop.path / "ledger.json").read_text(), parse_constant=refuse)


@pytest.mark.parametrize(
    "change",
    [
        lambda ledger: None,
        lambda ledger: [],
        lambda ledger: {},
        lambda ledger: {**ledger, "price_range": [100, 1]},
        lambda ledger: {**ledger, "price_range": [float("nan"), 1]},
        lambda ledger: {**ledger, "items_bytes": "many"},
        lambda ledger: {**ledger, "columns": None},
        lambda ledger: {**ledger, "format": "1"},
        lambda ledger: {**ledger, "format": 99},
    ],
)
def test_a_damaged_ledger_is_refused_with_a_clear_error(change, tmp_path):
    """No traceback, whatever the JSON is."""
    import json

    from pricesmith.testing import make_catalog

    folder = make_catalog(tmp_path / "catalog", 200)
    ledger = json.loads((folder / "ledger.json").read_text(encoding="utf-8"))
    (folder / "ledger.json").write_text(json.dumps(change(ledger)), encoding="utf-8")
    with pytest.raises(InputError) as caught:
        open_catalog(folder)
    assert caught.value.hint
