"""sqlite:FILE?table=T: tables of a database as sources, and databases made to do more than be read."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from pathlib import Path

import pytest

from pricesmith.catalog import curate
from pricesmith.catalog.readers.sources import Limits, RawRow, read_rows, resolve_sources
from pricesmith.cli import run
from pricesmith.core.errors import InputError, UsageError
from pricesmith.testing import make_items


def database(path: Path, *statements: str) -> Path:
    with sqlite3.connect(path) as base:
        for statement in statements:
            base.execute(statement)
    base.close()
    return path


def cells(source: str, limits: Limits | None = None) -> list[dict[str, object] | str]:
    """Every row of a source: its values, or the reason why it has none."""
    (resolved,) = resolve_sources([source])
    rows = [row for batch in read_rows(resolved, limits or Limits()) for row in batch]
    return [dict(row.values) if isinstance(row, RawRow) else row.reason for row in rows]


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    """A table of products, one of orders, and a view of products in stock."""
    path = database(
        tmp_path / "shop.db",
        "CREATE TABLE products (sku TEXT, name TEXT, description TEXT, price REAL, stock INTEGER)",
        "CREATE TABLE \"order 'lines'; --\" (sku TEXT, price REAL)",
        "CREATE VIEW in_stock AS SELECT name, description, round(price, 2) AS price FROM products WHERE stock > 0",
    )
    with sqlite3.connect(path) as base:
        base.executemany(
            "INSERT INTO products VALUES (?, ?, ?, ?, ?)",
            [
                (f"s{number}", item.listing.title, item.listing.text, item.price, number % 3)
                for number, item in enumerate(make_items(300)[0])
            ],
        )
        base.execute("INSERT INTO \"order 'lines'; --\" VALUES ('s1', 4.5)")
    base.close()
    return path


def test_a_table_becomes_a_catalog(shop: Path, tmp_path: Path) -> None:
    before = shop.read_bytes()
    catalog = curate([f"sqlite:{shop}?table=products"], tmp_path / "out", currency="USD")
    assert catalog.ledger["rows"]["in"] == 300
    assert [file["file"] for file in catalog.ledger["files"]] == ["shop.db/products"]
    assert shop.read_bytes() == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "shop.db"]


def test_a_view_is_read(shop: Path) -> None:
    rows = cells(f"sqlite:{shop}?table=in_stock")
    assert len(rows) == 200
    assert list(rows[0]) == ["name", "description", "price"]


def test_a_tables_name_is_only_a_name(shop: Path) -> None:
    assert cells(f"sqlite:{shop}?table=order%20%27lines%27%3B%20--") == [{"sku": "s1", "price": 4.5}]


def test_the_only_table_needs_no_name(tmp_path: Path) -> None:
    path = database(tmp_path / "a.db", "CREATE TABLE t (name, price)", "INSERT INTO t VALUES ('Lamp', 3)")
    assert cells(f"sqlite:{path}") == [{"name": "Lamp", "price": 3}]


@pytest.mark.parametrize("ending", ["", "?table=product"])
def test_a_missing_table_is_refused_with_a_hint_that_works(shop: Path, ending: str) -> None:
    with pytest.raises(InputError) as caught:
        cells(f"sqlite:{shop}{ending}")
    assert "products" in caught.value.allowed
    option = caught.value.hint.rpartition(" ")[2].rstrip(".")
    assert cells(f"sqlite:{shop}{option}")


def test_a_database_without_its_prefix_is_refused_with_a_hint_that_works(shop: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="not a kind of file") as caught:
        resolve_sources([str(shop)])
    assert "sqlite:" in caught.value.hint
    assert run(["curate", f"sqlite:{shop}?table=products", "--to", str(tmp_path / "out"), "--quiet"]) == 0


def test_values_of_every_type_are_read_or_left_empty(tmp_path: Path) -> None:
    path = database(
        tmp_path / "a.db",
        "CREATE TABLE t (name, price, more)",
        "INSERT INTO t VALUES ('Lamp', 9e999, x'ff00'), (x'4c616d70', 12345678901234567, NULL), (NULL, NULL, NULL)",
        "INSERT INTO t VALUES (CAST(x'4cff' AS TEXT), '4,50', 1)",
    )
    assert cells(f"sqlite:{path}") == [
        {"name": "Lamp", "price": None, "more": None},
        {"name": "Lamp", "price": 12345678901234567, "more": None},
        "blank row",
        {"name": "L\ufffd", "price": "4,50", "more": 1},
    ]


HOSTILE = {
    "loads a library": "CREATE VIEW v AS SELECT load_extension('FOLDER/x.so') AS name, 1 AS price",
    "writes a file": "CREATE VIEW v AS SELECT writefile('FOLDER/x', 'y') AS name, 1 AS price",
    "never ends": (
        "CREATE VIEW v AS WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n) "
        "SELECT x AS name, 1 AS price FROM n"
    ),
    "fills the memory": "CREATE VIEW v AS SELECT hex(zeroblob(900000000)) AS name, 1 AS price",
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_a_view_that_does_more_than_reading_is_refused(kind: str, tmp_path: Path) -> None:
    path = database(tmp_path / "a.db", HOSTILE[kind].replace("FOLDER", str(tmp_path)))
    with pytest.raises(InputError) as caught:
        cells(f"sqlite:{path}?table=v")
    assert "a.db" in str(caught.value)
    assert [path.name for path in tmp_path.iterdir()] == ["a.db"]


def test_a_view_that_takes_too_long_is_stopped(tmp_path: Path) -> None:
    path = database(
        tmp_path / "a.db",
        "CREATE TABLE t (name)",
        "INSERT INTO t VALUES " + ", ".join(["('x')"] * 3_000),
        "CREATE VIEW v AS SELECT count(*) AS name, 1 AS price FROM t a, t b, t c, t d",
    )
    with pytest.raises(InputError, match="no answer"):
        cells(f"sqlite:{path}?table=v", Limits(seconds=1.0))


def test_damaged_and_foreign_files_are_refused(shop: Path, tmp_path: Path) -> None:
    damaged = tmp_path / "damaged.db"
    damaged.write_bytes(shop.read_bytes()[:5_000])
    (tmp_path / "text.db").write_text("name,price\n" * 50)
    for path in (damaged, tmp_path / "text.db"):
        with pytest.raises(InputError) as caught:
            cells(f"sqlite:{path}?table=products")
        assert path.name in str(caught.value)
    with pytest.raises(InputError, match="no SQLite file"):
        resolve_sources([f"sqlite:{tmp_path}/none.db?table=t"])
    with pytest.raises(UsageError, match="names a file and a table"):
        resolve_sources([f"sqlite:{shop}?tabel=t"])


def test_a_database_with_unwritten_changes_is_refused(shop: Path) -> None:
    base = sqlite3.connect(shop)
    base.execute("PRAGMA journal_mode = WAL")
    base.execute("DELETE FROM products WHERE stock = 0")
    base.commit()
    with pytest.raises(InputError, match="not in the file yet") as caught:
        resolve_sources([f"sqlite:{shop}?table=products"])
    assert "Close the program" in caught.value.hint
    base.close()
    assert len(cells(f"sqlite:{shop}?table=products")) == 200


def test_several_tables_are_several_sources(shop: Path, tmp_path: Path) -> None:
    other = database(tmp_path / "b.db", "CREATE TABLE lamps (name, price)")
    named: Sequence[str] = [f"sqlite:{shop}?table=products", f"sqlite:{other}"]
    assert [(source.name, source.category) for source in resolve_sources(named)] == [
        ("b.db", "b"),
        ("shop.db/products", "products"),
    ]
