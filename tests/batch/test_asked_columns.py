"""`price --file --audit`: the asked prices of a file beside the quotes, assessed over the whole file."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import pytest

import pricesmith as ps
from pricesmith.batch import parts, price
from pricesmith.catalog.catalog import open_catalog
from pricesmith.cli import run
from pricesmith.core.errors import UsageError
from pricesmith.pricers.fitting import fit_model
from pricesmith.pricers.model import PriceModel, load_model
from pricesmith.pricers.recipes import read_recipe
from pricesmith.testing import make_catalog, make_csv


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> PriceModel:
    folder = tmp_path_factory.mktemp("asked")
    catalog = open_catalog(make_catalog(folder / "catalog", 2600, seed=3))
    fit_model(read_recipe("ridge"), catalog, folder / "ridge")
    return load_model(folder / "ridge")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """60 rows: the first price is ten times too high, the last one twenty times too low, the second is missing."""
    path = make_csv(tmp_path / "new.csv", 60, seed=8)
    rows = read(path)
    for place, factor in ((0, 10), (59, 1 / 20)):
        rows[place]["price"] = f"{float(rows[place]['price'].replace('$', '').replace(',', '')) * factor:.2f}"
    rows[1]["price"] = "on request"
    with path.open("w", newline="", encoding="utf-8") as handle:
        out = csv.DictWriter(handle, list(rows[0]))
        out.writeheader()
        out.writerows(rows)
    return path


def read(path: Path) -> list[dict[str, Any]]:
    with path.open(newline="", encoding="utf-8") as handle:
        return list(csv.DictReader(handle))


def test_the_asked_prices_are_assessed_over_the_whole_file(model: PriceModel, file: Path, tmp_path: Path) -> None:
    """Also if they are priced in several parts; a row without a price says so."""
    facts = price.price_file(
        model, model.info, file, tmp_path / "out.csv", identity=model.identity, audit=True, part_rows=25
    )
    rows = read(tmp_path / "out.csv")
    assert [row["assessment"] for row in rows if row["assessment"] != "plausible"] == ["over", "", "under"]
    assert float(rows[0]["p_value"]) < 1e-3
    assert float(rows[0]["asked_price"]) > 5 * float(rows[0]["predicted_price"])
    assert rows[1]["note"].startswith("no asked price")
    assert (facts["over"], facts["under"], facts["plausible"]) == (1, 1, 57)


def test_an_interrupted_audit_resumes(
    model: PriceModel, file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The parts that are done hold their p-values; the result is that of one run."""
    options: dict[str, Any] = {"identity": model.identity, "audit": True, "part_rows": 25}
    price.price_file(model, model.info, file, tmp_path / "whole.csv", **options)
    write_part, calls = parts.write_part, []

    def interrupt(*arguments: Any, **names: Any) -> None:
        if len(calls) == 1:
            raise KeyboardInterrupt
        calls.append(1)
        write_part(*arguments, **names)

    monkeypatch.setattr(price, "write_part", interrupt)
    with pytest.raises(KeyboardInterrupt):
        price.price_file(model, model.info, file, tmp_path / "out.csv", **options)
    monkeypatch.setattr(price, "write_part", write_part)
    price.price_file(model, model.info, file, tmp_path / "out.csv", **options)
    assert (tmp_path / "out.csv").read_bytes() == (tmp_path / "whole.csv").read_bytes()


@pytest.mark.parametrize("ending", ["csv", "jsonl", "parquet", "xlsx"])
def test_prices_with_and_without_an_audit_replace_each_other(
    model: PriceModel, file: Path, tmp_path: Path, ending: str
) -> None:
    """Both are files of prices from an earlier run, with comparables too."""
    to = tmp_path / f"out.{ending}"
    for audit, comparables in ((True, 2), (False, 0), (True, 0), (True, 1)):
        ps.price_file(model, file, to, audit=audit, comparables=comparables)
        assert to.stat().st_size > 0


def test_the_command_counts_the_assessments(
    model: PriceModel, file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """In its summary; --audit without a file is refused."""
    words = ["price", str(model.path)]
    assert run([*words, "--file", str(file), "--to", str(tmp_path / "out.csv"), "--audit"]) == 0
    assert "Asked prices: 1 over, 1 under, 57 plausible." in capsys.readouterr().out
    assert run([*words, "Cobalt drill", "--audit"]) == 2
    assert "--audit is for --file" in capsys.readouterr().err


def test_a_file_without_prices_is_refused_before_any_work(model: PriceModel, tmp_path: Path) -> None:
    """No file and no folder of parts is left."""
    path = tmp_path / "bare.csv"
    path.write_text("name,description\nCobalt drill K12,sturdy steel tool\n", encoding="utf-8")
    with pytest.raises(UsageError, match="no column of asked prices"):
        ps.price_file(model, path, tmp_path / "out.csv", audit=True)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["bare.csv"]
