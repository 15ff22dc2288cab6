"""The CSV file and the page of an audit, from the command line and from Python."""

from __future__ import annotations

import csv
import json
import re
from pathlib import Path

import pytest

import pricesmith as ps
from pricesmith.auditing import AuditResult, audit_file, write_audit
from pricesmith.auditing.page import render_page
from pricesmith.auditing.result import COLUMNS
from pricesmith.catalog.catalog import Catalog
from pricesmith.cli import run
from pricesmith.core.errors import UsageError
from pricesmith.pricers.model import PriceModel


@pytest.fixture(scope="module")
def result(model: PriceModel, asked_file: Path) -> AuditResult:
    return audit_file(model, asked_file)


def read(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as handle:
        return list(csv.DictReader(handle))


def test_the_csv_file_has_every_listing(result: AuditResult, tmp_path: Path) -> None:
    """The columns in order, the flagged ones first, money in cents, and no cell that a spreadsheet would run."""
    write_audit(result, tmp_path / "audit.csv")
    rows = read(tmp_path / "audit.csv")
    assert tuple(rows[0]) == COLUMNS
    assert [row["assessment"] for row in rows[:3]] == ["over", "over", "plausible"]
    assert len(rows) == 60
    assert all(re.fullmatch(r"\d+\.\d{1,2}", row["expected_price"]) for row in rows)
    assert rows[0]["title"].startswith("'=")
    assert rows[0]["comparable_3_price"]
    assert rows[2]["comparable_1_id"] == ""


def test_the_page_opens_offline_and_runs_nothing(result: AuditResult) -> None:
    """No script, no link, and text of a listing is text."""
    row = result.rows[0]
    bad = AuditResult(**{**vars(result), "rows": (type(row)(**{**vars_of(row), "title": "<script>x()</script>"}),)})
    page = render_page(bad)
    assert "<script" not in page
    assert "&lt;script&gt;" in page
    assert not re.search(r"""(?:src|href)=|url\(|@import""", page)
    assert "default-src &#39;none&#39;" in page or "default-src 'none'" in page


def vars_of(row: object) -> dict[str, object]:
    """The fields of a dataclass."""
    return {name: getattr(row, name) for name in row.__dataclass_fields__}  # type: ignore[attr-defined]


def test_the_page_shows_what_to_check(result: AuditResult) -> None:
    """Asked and expected price, interval, comparables and the notes; none of the plausible ones."""
    page = render_page(result)
    assert "2 prices of 58 stand out: 2 over, 0 under" in page
    assert page.count('class="flag over"') == 2
    assert "Similar listings ask" in page
    assert "near-duplicate groups of held-out listings" in page
    assert all(row.id not in page for row in result.rows[10:] if len(row.id) > 6)


def test_the_command_audits_a_catalog(catalog: Catalog, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A CSV file, a page, and a summary; the same command again replaces them."""
    words = ["audit", str(catalog.path), "--recipe", "ridge", "--folds", "3", "--to", str(tmp_path / "a.csv")]
    words += ["--html", str(tmp_path / "a.html")]
    assert run(words) == 0
    printed = capsys.readouterr().out
    assert "stand out" in printed
    assert "10 times" in printed
    first = (tmp_path / "a.csv").read_bytes(), (tmp_path / "a.html").read_bytes()
    assert run([*words, "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["over"] + facts["under"] == len(facts["flagged"]) > 15
    assert ((tmp_path / "a.csv").read_bytes(), (tmp_path / "a.html").read_bytes()) == first


def test_the_command_audits_a_file(
    model: PriceModel, asked_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """With a model; --quiet prints nothing."""
    words = ["audit", "--file", str(asked_file), "--model", str(model.path), "--to", str(tmp_path / "a.csv"), "--quiet"]
    assert run(words) == 0
    assert capsys.readouterr().out == ""
    assert read(tmp_path / "a.csv")[0]["assessment"] == "over"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("--to a.csv", "of a catalog or of a file"),
        ("CATALOG --file FILE --to a.csv", "of a catalog or of a file"),
        ("--file FILE --to a.csv", "needs a model"),
        ("CATALOG --model MODEL --recipe ridge --to a.csv", "by a model or by a recipe"),
        ("--file FILE --model MODEL --split test --to a.csv", "--split is for a catalog"),
        ("CATALOG --map price=x --to a.csv", "--map is for --file"),
        ("CATALOG --to a.txt", "is not the name of a .csv file"),
        ("CATALOG --to a.csv --html a.htm", "is not the name of a .html file"),
        ("CATALOG --to a.csv --fdr 1", "--fdr is not a rate"),
    ],
)
def test_a_wrong_command_is_refused(
    words: str,
    message: str,
    catalog: Catalog,
    model: PriceModel,
    asked_file: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """With exit code 2, before any work."""
    monkeypatch.chdir(tmp_path)
    names = {"CATALOG": str(catalog.path), "FILE": str(asked_file), "MODEL": str(model.path)}
    assert run(["audit", *(names.get(word, word) for word in words.split())]) == 2
    printed = capsys.readouterr().err
    assert message in printed
    assert "next: " in printed
    assert list(tmp_path.iterdir()) == []


def test_no_other_file_is_overwritten(model: PriceModel, asked_file: Path, tmp_path: Path) -> None:
    """Neither a file of another program nor the audited one, unless --overwrite is given for the first."""
    other, page = tmp_path / "other.csv", tmp_path / "other.html"
    other.write_text("mine\n", encoding="utf-8")
    page.write_text("<html>mine</html>", encoding="utf-8")
    words = ["audit", "--file", str(asked_file), "--model", str(model.path), "--quiet"]
    assert run([*words, "--to", str(other)]) == 2
    assert run([*words, "--to", str(tmp_path / "a.csv"), "--html", str(page)]) == 2
    assert run([*words, "--to", str(asked_file), "--overwrite"]) == 2
    assert other.read_text(encoding="utf-8") == "mine\n"
    assert page.read_text(encoding="utf-8") == "<html>mine</html>"
    assert not (tmp_path / "a.csv").exists()
    assert run([*words, "--to", str(other), "--overwrite"]) == 0
    assert read(other)[0]["assessment"] == "over"


def test_python_audits_catalogs_files_and_dataframes(
    model: PriceModel, asked_file: Path, catalog: Catalog, tmp_path: Path
) -> None:
    """The same function for all, with a model, a model folder or a recipe."""
    import pandas as pd

    by_file = ps.audit(asked_file, model=model)
    by_frame = ps.audit(pd.read_csv(asked_file), model=model.path)
    assert [row.id for row in by_file.flagged] == [row.id for row in by_frame.flagged] == ["made-3", "made-0"]
    by_recipe = ps.audit(catalog.path, recipe="median", folds=2, to=tmp_path / "a.csv", html=tmp_path / "a.html")
    assert len(by_recipe.rows) == 2000
    assert (tmp_path / "a.csv").exists()
    assert (tmp_path / "a.html").exists()
    with pytest.raises(UsageError, match="needs a model"):
        ps.audit(asked_file)


@pytest.mark.parametrize("library", ["pandas", "polars", "pyarrow"])
def test_a_result_is_a_dataframe(result: AuditResult, library: str) -> None:
    """With the columns of the CSV file."""
    frame = result.to_frame(library)
    names = list(frame.column_names if library == "pyarrow" else frame.columns)
    assert tuple(names) == COLUMNS
    assert len(frame) == 60


def test_a_result_reads_well(result: AuditResult) -> None:
    """As text and in a notebook."""
    assert repr(result) == f"AuditResult('new.csv': {result.headline()})"
    shown = result._repr_html_()
    assert shown.count("<tr>") == 3
    assert "p-value" in shown
    with pytest.raises(UsageError, match="library"):
        result.to_frame("numpy")


def test_sale_prices_that_are_amounts_taken_off_are_not_audited(
    model: PriceModel, catalog: Catalog, tmp_path: Path
) -> None:
    """As `curate` refuses them: the option in the hint, given to `audit` or `price`, takes the regular prices."""
    items = catalog.items("test")[:30]
    path = tmp_path / "sales.csv"
    with path.open("w", newline="", encoding="utf-8") as handle:
        rows = [[item.listing.title, f"{item.price:.2f}", f"{item.price / 10:.2f}"] for item in items]
        csv.writer(handle).writerows([["title", "price", "sale_price"], *rows])
    with pytest.raises(UsageError, match="not clear which column is the price") as caught:
        audit_file(model, path)
    assert "--map price=price or" in caught.value.hint
    with pytest.raises(UsageError, match="not clear which column is the price"):
        ps.price_file(model, path, tmp_path / "prices.csv", audit=True)
    audited = audit_file(model, path, mapping={"price": "price"})
    assert {row.asked for row in audited.rows} == {round(item.price, 2) for item in items}


def test_sale_prices_beside_the_columns_of_the_catalog_are_the_asked_prices(model: PriceModel) -> None:
    """As curate would take them, although the catalog's own files had none."""
    from pricesmith.catalog.asked_prices import AskedPriceReader
    from pricesmith.catalog.listing_reader import reader_for_header

    info = {**model.info, "columns": {"title": "title", "price": "price"}, "maps": []}
    reader = reader_for_header("new.csv", ["title", "price", "sale price"], info)
    assert (reader.columns.price, reader.columns.sale) == ("price", "sale price")
    asked = AskedPriceReader(reader.columns, None, "USD", ".")
    assert [asked.read({"price": "20", "sale price": sale}) for sale in ("15", "")] == [15.0, 20.0]
