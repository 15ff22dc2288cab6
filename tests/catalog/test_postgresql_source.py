"""postgresql://...: tables, views and queries of a real server as sources, read-only and without a leaked password."""

from __future__ import annotations

import csv
import importlib.util
import os
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.postgresql_server import PASSWORD, Server

from pricesmith.build import build
from pricesmith.catalog import curate
from pricesmith.catalog.readers.postgresql_source import connection_text, fetch_table, parse_address
from pricesmith.catalog.readers.sources import Limits, RawRow, read_rows, resolve_sources
from pricesmith.catalog.readers.table_copies import current_copies, table_copies
from pricesmith.cli import run
from pricesmith.core.addresses import mask_password
from pricesmith.core.errors import InputError, MissingExtra, UsageError
from pricesmith.core.progress import Progress
from pricesmith.testing import make_items


class Notes(Progress):
    def __init__(self) -> None:
        self.lines: list[str] = []

    def note(self, text: str) -> None:
        self.lines.append(text)


def cells(source: str, progress: Progress | None = None) -> list[dict[str, object]]:
    """Every row of the copy of a table."""
    with table_copies():
        (resolved,) = resolve_sources([source], progress or Progress())
        rows: list[dict[str, object]] = pq.read_table(resolved.path).to_pylist()
    return rows


def parsed_cells(source: str, progress: Progress | None = None) -> list[dict[str, object] | str]:
    """Every row of a source as it is parsed from the copy: its values, or the reason why it has none."""
    with table_copies():
        (resolved,) = resolve_sources([source], progress or Progress())
        rows = [row for batch in read_rows(resolved, Limits()) for row in batch]
    return [dict(row.values) if isinstance(row, RawRow) else row.reason for row in rows]


@pytest.fixture(scope="module")
def shop(running_server: Server) -> Server:
    """The database shop: products, a view and a materialized view of them, a table with an odd name, one of another
    schema, and one that the user reader may not read."""
    running_server.run("CREATE DATABASE shop")
    running_server.run(
        "CREATE TABLE products (sku text PRIMARY KEY, name text, description text, price numeric(10, 2), stock int)",
        "CREATE VIEW in_stock AS SELECT name, description, price FROM products WHERE stock > 0",
        "CREATE MATERIALIZED VIEW cheap AS SELECT name, price FROM products",
        'CREATE TABLE "order \'lines""; --" (sku text, price int)',
        'INSERT INTO "order \'lines""; --" VALUES (\'s1\', 4)',
        "CREATE SCHEMA sales",
        "CREATE TABLE sales.orders (name text, price money)",
        "INSERT INTO sales.orders VALUES ('Lamp', '1234.5')",
        "CREATE TABLE secrets (name text, price int)",
        f"CREATE ROLE reader LOGIN PASSWORD '{PASSWORD}'",
        "GRANT SELECT (sku, name, price) ON products TO reader",
        database="shop",
    )
    rows = [
        (f"s{number}", item.listing.title, item.listing.text, f"{item.price:.2f}", str(number % 3))
        for number, item in enumerate(make_items(300)[0])
    ]
    running_server.run(
        "INSERT INTO products VALUES ($1, $2, $3, $4::text::numeric, $5::text::int)", database="shop", parameters=rows
    )
    running_server.run("REFRESH MATERIALIZED VIEW cheap", database="shop")
    return running_server


def test_a_table_becomes_the_same_catalog_as_a_csv_file_of_its_rows(shop: Server, server: Server, tmp_path: Path):
    rows = cells(server.address("shop", options="?table=products"))
    with (tmp_path / "products.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    of_file = curate([str(tmp_path / "products.csv")], tmp_path / "file", currency="USD")
    of_table = curate([server.address("shop", options="?table=products")], tmp_path / "table", currency="USD")
    assert of_table.ledger["fingerprint"] == of_file.ledger["fingerprint"]
    assert [file["file"] for file in of_table.ledger["files"]] == ["shop/products"]
    for split in ("train", "validation", "test"):
        assert of_table.items_and_groups(split) == of_file.items_and_groups(split)


def test_the_same_command_again_is_finished_and_a_changed_table_is_noticed(server: Server, tmp_path: Path) -> None:
    server.run("CREATE DATABASE again")
    server.run("CREATE TABLE t AS SELECT 'Garden hose ' || g AS name, g AS price FROM generate_series(1, 200) g",
               database="again")  # fmt: skip
    source, notes = server.address("again", options="?table=t"), Notes()
    curate([source], tmp_path / "out")
    curate([source], tmp_path / "out", progress=notes)
    assert any("is finished already" in line for line in notes.lines)
    server.run("UPDATE t SET price = 7 WHERE price = 3", database="again")
    with pytest.raises(UsageError, match="other settings"):
        curate([source], tmp_path / "out")


def test_values_of_every_type_are_read_as_a_csv_export_has_them(server: Server) -> None:
    server.run(
        "CREATE DATABASE types",
    )
    server.run(
        "CREATE TYPE mood AS ENUM ('used', 'new')",
        "CREATE TABLE t (a numeric(10, 2), b money, c timestamptz, d text[], e jsonb, f bytea, g boolean, h float8, "
        "i mood, j date, k uuid, l numeric(4, 1)[], m interval)",
        "INSERT INTO t VALUES (24.50, '1234.5', '2024-05-31 10:00+02', '{25 m,brass}', "
        '\'{"color": "green", "price": 3, "size": {"length": 2}}\', \'\\x00ff\', true, 0.1, \'new\', \'2024-05-31\', '
        "'00000000-0000-0000-0000-000000000001', '{1.5,2.0}', '90 minutes')",
        "INSERT INTO t (a, h) VALUES ('NaN', 'Infinity')",
        database="types",
    )
    first, second = cells(server.address("types", options="?table=t"))
    assert first == {
        "a": "24.50",
        "b": "$1,234.50",
        "c": "2024-05-31 08:00:00+00",
        "d": "25 m\nbrass",
        "e": "size: length: 2\ncolor: green",
        "f": None,
        "g": "true",
        "h": "0.1",
        "i": "new",
        "j": "2024-05-31",
        "k": "00000000-0000-0000-0000-000000000001",
        "l": "1.5\n2.0",
        "m": "01:30:00",
    }
    assert second == {**dict.fromkeys("abcdefghijklm"), "a": "NaN", "h": "Infinity"}


@pytest.mark.parametrize(
    ("option", "rows", "columns"),
    [
        ("?table=in_stock", 200, ["name", "description", "price"]),
        ("?table=cheap", 300, ["name", "price"]),
        ("?table=PRODUCTS", 300, ["sku", "name", "description", "price", "stock"]),
        ("?table=public.products", 300, ["sku", "name", "description", "price", "stock"]),
        ("?table=sales.orders", 1, ["name", "price"]),
        ("?table=orders", 1, ["name", "price"]),
        ("?table=order%20'lines%22;%20--", 1, ["sku", "price"]),
        ("?query=SELECT name, price, price * 2 FROM products WHERE name LIKE '%25a%25';", None, ["name", "price"]),
        ("?query=SELECT name, name, price FROM products -- all", 300, ["name", "name (2)", "price"]),
    ],
)
def test_tables_views_and_queries_are_read(
    shop: Server, server: Server, option: str, rows: int | None, columns: list[str]
) -> None:
    found = cells(server.address("shop", options=option))
    assert rows is None or len(found) == rows
    assert list(found[0])[: len(columns)] == columns


def test_money_keeps_its_sign_so_that_its_currency_is_known(shop: Server, server: Server) -> None:
    assert cells(server.address("shop", options="?table=sales.orders")) == [{"name": "Lamp", "price": "$1,234.50"}]


@pytest.mark.parametrize("option", ["", "?table=product", "?table=no such%20table"])
def test_a_missing_table_is_refused_with_a_hint_that_works(shop: Server, server: Server, option: str) -> None:
    with pytest.raises(InputError) as caught:
        cells(server.address("shop", options=option))
    assert "products" in caught.value.allowed
    assert "sales.orders" in caught.value.allowed
    assert cells(server.address("shop", options=caught.value.hint.rpartition(" ")[2].rstrip(".")))


def test_a_name_in_two_schemas_is_refused_with_a_hint_that_works(server: Server) -> None:
    server.run("CREATE DATABASE twice")
    server.run(
        *(f"CREATE SCHEMA {name}" for name in ("north", "south")),
        *(f"CREATE TABLE {name}.t AS SELECT 'Lamp' AS name, 3 AS price" for name in ("north", "south")),
        database="twice",
    )
    with pytest.raises(InputError, match="several schemas") as caught:
        cells(server.address("twice", options="?table=t"))
    assert cells(server.address("twice", options=caught.value.hint.rpartition(" ")[2].rstrip(".")))


CHANGES = {
    "delete": "DELETE FROM products",
    "in a with": "WITH gone AS (DELETE FROM products RETURNING *) SELECT * FROM gone",
    "a second statement": "SELECT 1; DROP TABLE products",
    "out of the brackets": "SELECT 1) AS q(c0); COMMIT; DROP TABLE products; --",
    "a mode": "SELECT set_config('transaction_read_only', 'off', false), lo_create(7)",
    "a function": "SELECT remove_all()",
}


@pytest.mark.parametrize("kind", CHANGES)
def test_a_query_that_changes_the_database_is_refused(shop: Server, server: Server, kind: str) -> None:
    server.run(
        "CREATE OR REPLACE FUNCTION remove_all() RETURNS int LANGUAGE sql AS 'DELETE FROM products; SELECT 1'",
        database="shop",
    )
    with pytest.raises(InputError) as caught:
        cells(server.address("shop", options=f"?query={CHANGES[kind]}"))
    assert "127.0.0.1" in caught.value.what
    assert server.count("SELECT count(*) FROM products", "shop") == 300
    assert server.count("SELECT count(*) FROM pg_largeobject_metadata", "shop") == 0


def test_columns_without_the_right_to_read_are_left_out_and_tables_are_refused(shop: Server, server: Server) -> None:
    notes = Notes()
    rows = cells(server.address("shop", user="reader", options="?table=products"), notes)
    assert list(rows[0]) == ["sku", "name", "price"]
    assert any("columns that you may not read are left out: description, stock" in line for line in notes.lines)
    with pytest.raises(InputError, match="you may not read the table 'secrets'"):
        cells(server.address("shop", user="reader", options="?table=secrets"))
    with pytest.raises(InputError, match="you may not read it"):
        cells(server.address("shop", user="reader", options="?query=SELECT * FROM secrets"))


def test_the_password_is_shown_and_kept_nowhere(
    shop: Server, server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("PGPASSWORD")
    monkeypatch.chdir(tmp_path)
    source = f"postgresql://owner:{PASSWORD}@127.0.0.1:{server.port}/shop?table=products"
    assert run(["curate", source, "--to", "catalog"]) == 0
    assert run(["curate", source]) == 2
    assert run(["curate", source.replace("products", "none"), "--to", "none"]) == 1
    assert run(["curate", source.replace("?", "&"), "--to", "none"]) == 1
    assert run(["curate", source.replace("?table", "?tabel"), "--to", "none"]) == 2
    assert run(["curate", source.replace("postgresql", "mysql"), "--to", "none"]) == 1
    printed = capsys.readouterr()
    assert PASSWORD not in printed.out + printed.err
    assert "~/.pgpass" in printed.err
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert len(files) >= 4
    assert not [path for path in files if PASSWORD.encode() in path.read_bytes()]


def test_the_password_may_be_in_a_file(
    shop: Server, server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("PGPASSWORD")
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / ".pgpass").write_text(f"127.0.0.1:{server.port}:*:owner:{PASSWORD}\n")
    (tmp_path / ".pgpass").chmod(0o600)
    assert len(cells(server.address("shop", options="?table=products"))) == 300


def test_a_wrong_password_an_unknown_database_and_a_closed_port_are_explained(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PGPASSWORD", "wrong-one")
    for source in (server.address(), server.address("none"), "postgresql://owner@127.0.0.1:1/shop?table=t"):
        with pytest.raises(InputError, match="cannot be reached, or refuses") as caught:
            cells(source)
        assert "PGPASSWORD" in caught.value.hint
        assert "wrong-one" not in str(caught.value)


def test_a_query_without_end_is_stopped_by_the_server(shop: Server, server: Server) -> None:
    with pytest.raises(InputError, match="longer than its time limit") as caught:
        cells(server.address("shop", options="?query=SELECT pg_sleep(60)::text, 1 AS price&timeout=1"))
    assert "&timeout=" in caught.value.hint


@pytest.mark.parametrize("when", [1, 40_000])
def test_a_server_that_goes_away_leaves_nothing_half_written(
    shop: Server, server: Server, tmp_path: Path, when: int
) -> None:
    query = (
        "SELECT repeat('Lamp ', 60) || g AS name, CASE WHEN g < LAST THEN g ELSE pg_terminate_backend(pg_backend_pid())"
        "::int END AS price FROM generate_series(1, 50000) g"
    )
    with pytest.raises(InputError) as caught:
        curate([server.address("shop", options=f"?query={query.replace('LAST', str(when))}")], tmp_path / "out")
    assert "Run the command again" in caught.value.hint
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("encoding", "written"),
    [("UTF8", "convert_from('\\x4cc3a16d7061', 'UTF8')"), ("LATIN1", "convert_from('\\x4ce16d7061', 'LATIN1')")],
)
def test_texts_are_read_whatever_the_encoding_of_the_database(
    server: Server, encoding: str, written: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PGCLIENTENCODING", "LATIN1")
    server.run(f"CREATE DATABASE text_{encoding} ENCODING '{encoding}' TEMPLATE template0")
    server.run(f"CREATE TABLE t AS SELECT {written} AS name, 3 AS price", database=f"text_{encoding}".lower())
    assert cells(server.address(f"text_{encoding}".lower())) == [{"name": "Lámpa", "price": "3"}]


def test_a_database_without_an_encoding_is_read_as_utf8_or_else_as_windows_1252(server: Server) -> None:
    server.run("CREATE DATABASE bytes_only ENCODING 'SQL_ASCII' TEMPLATE template0")
    server.run(
        "CREATE TABLE t (name text, price int)",
        "INSERT INTO t VALUES (convert_from('\\x4cc3a16d7061', 'SQL_ASCII'), 1), "
        "(convert_from('\\x4ce16d7061', 'SQL_ASCII'), 2)",
        database="bytes_only",
    )
    assert [row["name"] for row in cells(server.address("bytes_only"))] == ["Lámpa", "Lámpa"]


def test_a_text_that_is_too_large_rejects_its_row_alone(shop: Server, server: Server) -> None:
    query = "SELECT repeat('x', n) AS name, n AS price FROM (VALUES (5), (1100000), (6)) v(n)"
    rows = parsed_cells(server.address("shop", options=f"?query={query}"))
    assert [row if isinstance(row, str) else row["price"] for row in rows] == ["5", "cell too large", "6"]


def test_an_empty_table_is_refused(shop: Server, server: Server, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="has no rows"):
        curate([server.address("shop", options="?query=SELECT name, price FROM products LIMIT 0")], tmp_path / "out")


def test_two_tables_and_a_file_make_one_catalog_with_the_tables_as_categories(
    shop: Server, server: Server, tmp_path: Path
) -> None:
    (tmp_path / "more.csv").write_text("name,price\n" + "".join(f"Chair number {n},{n}\n" for n in range(1, 50)))
    sources = [server.address("shop", options=f"?table={name}") for name in ("products", "cheap", "public.cheap")]
    catalog = curate([*sources, str(tmp_path / "more.csv")], tmp_path / "out")
    assert [file["file"] for file in catalog.ledger["files"]] == ["more.csv", "shop/cheap", "shop/products"]
    assert catalog.ledger["categories"] == ["cheap", "more", "products"]


def test_a_build_of_a_table_is_finished_the_second_time_and_keeps_no_password(
    shop: Server, server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pricesmith.build.DEFAULT_RECIPES", ("median",))
    source = f"postgresql://owner:{PASSWORD}@127.0.0.1:{server.port}/shop?table=products"
    options = {"currency": "USD"}
    assert build([source], tmp_path / "out", options=options)["chosen"]
    assert build([source], tmp_path / "out", options=options)["already_done"]
    assert "owner:***@" in (tmp_path / "out" / "build.toml").read_text()
    assert not [path for path in tmp_path.rglob("*") if path.is_file() and PASSWORD.encode() in path.read_bytes()]


def test_the_reading_process_imports_no_data_frames(
    shop: Server, server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The driver would import polars and pandas wherever they are installed: most of the time of a small table."""
    for name in ("polars", "pandas"):
        (tmp_path / f"{name}.py").write_text(f"raise OSError('{name} is imported')\n")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")]))
    assert len(cells(server.address("shop", options="?table=sales.orders"))) == 1


def test_a_table_is_read_once_for_a_whole_command(shop: Server, server: Server) -> None:
    address, limits = parse_address(server.address("shop", options="?table=cheap")), asdict(Limits())
    with table_copies() as copies:
        first = fetch_table(address, limits)
        with table_copies():
            assert fetch_table(address, limits) is first
        assert [path.name for path in copies.folder.iterdir()] == ["1.parquet"]
    assert not copies.folder.exists()


def test_without_the_driver_the_error_has_the_command_that_installs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name.startswith("adbc") else find(name))
    with pytest.raises(MissingExtra) as caught:
        resolve_sources(["postgresql://127.0.0.1/shop?table=t"])
    assert caught.value.hint == "pip install 'pricesmith[sql]'"


def test_an_address_is_read_as_libpq_reads_it() -> None:
    address = parse_address("postgres://ann%40x:p%3Aq@[::1]:5433,db.example/my%20shop?sslmode=require&table=a.b")
    assert address.connection == {
        "user": "ann@x",
        "password": "p:q",
        "host": "::1,db.example",
        "port": "5433,",
        "dbname": "my shop",
        "sslmode": "require",
    }
    assert address.table == "a.b"
    assert parse_address("postgresql:///shop").connection == {"dbname": "shop"}
    assert parse_address("postgresql://%2Ftmp%2Fsocket/shop").connection["host"] == "/tmp/socket"
    assert r"password='a\'b\\c'" in connection_text({"password": "a'b\\c"})


@pytest.mark.parametrize(
    ("source", "what"),
    [
        ("postgresql://h/d?tabel=t", "no option 'tabel'"),
        ("postgresql://h/d?table=", "no option"),
        ("postgresql://h/d?products", "has no value"),
        ("postgresql://h/d?table=t&query=SELECT 1", "not both"),
        ("postgresql://h/d?table=t&timeout=soon", "number of seconds"),
        ("postgresql://h/d?table=t&timeout=0", "number of seconds"),
        ("postgresql://h:port/d", "host of a PostgreSQL source"),
        ("postgresql://h/d?query=SELECT 'LIKE %ff'", "does not stand for UTF-8"),
    ],
)
def test_a_wrong_address_is_refused(source: str, what: str) -> None:
    with pytest.raises(UsageError, match=what) as caught:
        parse_address(source)
    assert caught.value.allowed
    assert caught.value.hint


def shown_of(source: str) -> str:
    """All that is shown of an address: its name, or the error."""
    try:
        address = parse_address(source)
    except UsageError as error:
        return str(error)
    return f"{address.shown} {address!r}"


@given(st.text(min_size=8, max_size=20), st.sampled_from(["?table=t", "", "?tabel=t", "?query=SELECT '@'"]))
def test_no_password_is_in_what_is_shown_of_an_address(text: str, options: str) -> None:
    password = f"Q{text}Z"
    source = f"postgresql://ann:{password}@db.example/shop{options}"
    assert password not in mask_password(source)
    assert password not in shown_of(source)
    assert text not in shown_of(source)


def test_a_text_that_is_no_address_stays_as_it_is() -> None:
    for text in ("hf://datasets/acme/shop@v2/lamps.parquet", "out/a@b.csv", "C:/a@b.csv", "sqlite:a.db?table=t"):
        assert mask_password(text) == text
    assert mask_password("https://h/x?password=abc&b=1") == "https://h/x?password=***&b=1"


def test_copies_outside_of_a_command_are_in_a_folder_of_their_own() -> None:
    assert current_copies().folder != current_copies().folder


MEMORY = """
import resource, sys
from pricesmith.catalog.readers.sources import resolve_sources
from pricesmith.catalog.readers.table_copies import table_copies
with table_copies():
    (source,) = resolve_sources([sys.argv[1]])
    own, child = (resource.getrusage(who).ru_maxrss / 1024 for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    print(source.size, own, child)
"""


@pytest.mark.slow  # a million rows
def test_a_million_rows_are_copied_in_flat_memory(shop: Server, server: Server) -> None:
    sizes = {}
    for rows in (20_000, 1_000_000):
        query = f"SELECT repeat('Lamp ', 40) || g AS name, g AS price FROM generate_series(1, {rows}) g"
        source = server.address("shop", options=f"?query={query}")
        result = subprocess.run(
            [sys.executable, "-c", MEMORY, source], capture_output=True, text=True, check=True, env=os.environ.copy()
        )
        sizes[rows] = [float(value) for value in result.stdout.split()]
    assert sizes[1_000_000][0] > 30 * sizes[20_000][0]
    for small, large in zip(sizes[20_000][1:], sizes[1_000_000][1:], strict=True):
        assert large < small + 60
