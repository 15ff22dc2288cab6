"""Tables of databases and files of the Hub are priced and audited as files are."""

from __future__ import annotations

import csv
import sqlite3
from pathlib import Path

import pytest
from tests.batch.test_price import INFO, ByLength, read_csv
from tests.postgresql_server import PASSWORD, Server

from pricesmith.auditing import audit_file
from pricesmith.batch.price import price_file
from pricesmith.catalog import curate
from pricesmith.catalog.readers import sources
from pricesmith.cli import run
from pricesmith.core.errors import UsageError
from pricesmith.pricers.fitting import fit_model
from pricesmith.pricers.model import PriceModel, load_model
from pricesmith.pricers.recipes import read_recipe
from pricesmith.testing import make_csv

ROWS = [(f"s{number}", f"Lamp {'x' * number}", "oak and brass", number + 1) for number in range(1, 30)]
EXPECTED = [(f"s{number}", f"{5.0 + number:.2f}") for number in range(1, 30)]


def ids_and_prices(path: Path) -> list[tuple[str, str]]:
    return [(row["sku"], f"{float(row['predicted_price']):.2f}") for row in read_csv(path)]


@pytest.fixture
def database(tmp_path: Path) -> Path:
    path = tmp_path / "shop.db"
    with sqlite3.connect(path) as base:
        base.execute("CREATE TABLE lamps (sku TEXT, name TEXT, description TEXT, price REAL)")
        base.executemany("INSERT INTO lamps VALUES (?, ?, ?, ?)", ROWS)
    base.close()
    return path


@pytest.fixture(scope="module")
def lamps(running_server: Server) -> Server:
    running_server.run("CREATE DATABASE lamps")
    running_server.run("CREATE TABLE lamps (sku text, name text, description text, price numeric)", database="lamps")
    rows = [(*row[:3], str(row[3])) for row in ROWS]
    running_server.run("INSERT INTO lamps VALUES ($1, $2, $3, $4::text::numeric)", database="lamps", parameters=rows)
    return running_server


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> PriceModel:
    folder = tmp_path_factory.mktemp("model")
    catalog = curate([str(make_csv(folder / "shop.csv", 2600))], folder / "shop")
    fit_model(read_recipe("ridge"), catalog, folder / "ridge")
    return load_model(folder / "ridge")


def test_a_table_of_sqlite_is_priced_with_its_ids(database: Path, tmp_path: Path) -> None:
    price_file(ByLength(), INFO, f"sqlite:{database}?table=lamps", tmp_path / "prices.csv", identity="a")
    assert ids_and_prices(tmp_path / "prices.csv") == EXPECTED


def test_a_database_is_not_overwritten_by_its_prices(database: Path, tmp_path: Path) -> None:
    (tmp_path / "prices.csv").symlink_to(database)
    before = database.read_bytes()
    with pytest.raises(UsageError, match="is the file that is priced"):
        price_file(ByLength(), INFO, f"sqlite:{database}", tmp_path / "prices.csv", identity="a", overwrite=True)
    assert database.read_bytes() == before


def test_a_file_of_the_hub_is_priced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "lamps.csv"
    with path.open("w", newline="") as handle:
        csv.writer(handle).writerows([("sku", "name", "description", "price"), *ROWS])
    monkeypatch.setattr(sources, "fetch_hub", lambda address: (path, "acme/shop@0123/lamps.csv"))
    price_file(ByLength(), INFO, "hf://datasets/acme/shop/lamps.csv", tmp_path / "prices.csv", identity="a")
    assert ids_and_prices(tmp_path / "prices.csv") == EXPECTED


def test_a_table_of_a_server_is_priced_into_a_file_and_into_the_terminal(
    lamps: Server, server: Server, model: PriceModel, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = server.address("lamps").replace("owner@", f"owner:{PASSWORD}@") + "?table=lamps"
    assert run(["price", str(model.path), "--file", source, "--to", str(tmp_path / "prices.csv")]) == 0
    rows = read_csv(tmp_path / "prices.csv")
    assert [row["sku"] for row in rows] == [row[0] for row in ROWS]
    assert all(float(row["predicted_price"]) > 0 for row in rows)
    printed = capsys.readouterr()
    assert PASSWORD not in printed.out + printed.err
    assert run(["price", str(model.path), "--file", source, "--quiet"]) == 0
    assert capsys.readouterr().out == (tmp_path / "prices.csv").read_bytes().decode()


def test_an_interrupted_pricing_of_a_table_keeps_no_password(lamps: Server, server: Server, tmp_path: Path) -> None:
    class Interrupted(ByLength):
        def price(self, listings):  # type: ignore[no-untyped-def]
            if self.asked >= 20:
                raise KeyboardInterrupt
            return super().price(listings)

    source = server.address("lamps").replace("owner@", f"owner:{PASSWORD}@")
    with pytest.raises(KeyboardInterrupt):
        price_file(Interrupted(), INFO, source, tmp_path / "prices.csv", identity="a", part_rows=10)
    parts = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert parts
    assert not [path for path in parts if PASSWORD.encode() in path.read_bytes()]
    second = ByLength()
    price_file(second, INFO, source, tmp_path / "prices.csv", identity="a", part_rows=10)
    assert second.asked == 9
    assert ids_and_prices(tmp_path / "prices.csv") == EXPECTED


def test_tables_are_audited(database: Path, lamps: Server, server: Server, model: PriceModel) -> None:
    of_file = audit_file(model, f"sqlite:{database}")
    of_server = audit_file(model, server.address("lamps"))
    assert [row.id for row in of_file.rows] == [row.id for row in of_server.rows]
    assert of_file.counts() == of_server.counts()


def test_a_table_is_audited_from_the_command_line(
    database: Path, model: PriceModel, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["audit", "--file", f"sqlite:{database}", "--model", str(model.path), "--to"]
    assert run([*command, str(tmp_path / "audit.csv")]) == 0
    assert len(read_csv(tmp_path / "audit.csv")) == len(ROWS)
