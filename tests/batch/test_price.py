"""Files of any length: rows in order, parts kept, nothing half-written, no active content."""

from __future__ import annotations

import csv
import json
import os
import shutil
from collections.abc import Sequence
from dataclasses import replace
from itertools import zip_longest
from pathlib import Path
from typing import Any

import pytest

from pricesmith.batch import parts, price
from pricesmith.batch.price import check_comparables, check_max_ratio, price_file
from pricesmith.batch.priced_row import UNLIKE, price_row
from pricesmith.batch.writers import unescape_csv
from pricesmith.catalog.clean import CleanSettings
from pricesmith.catalog.columns import ColumnMap
from pricesmith.catalog.comparables import Comparable
from pricesmith.core.errors import InputError, UsageError
from pricesmith.core.types import Listing, Quote

INFO: dict[str, Any] = {
    "cleaning": CleanSettings().model_dump(),
    "columns": ColumnMap(title="name", text="description", price="price", id="sku").model_dump(),
    "currency": "USD",
}


class ByLength:
    """Quotes a listing by the length of its title, and counts its calls."""

    def __init__(self) -> None:
        self.asked = 0

    @property
    def name(self) -> str:
        return "by-length"

    def price(self, listings: Sequence[Listing]) -> list[Quote]:
        self.asked += len(listings)
        return [
            Quote(float(len(listing.title)), len(listing.title) / 2, len(listing.title) * 2.0) for listing in listings
        ]


def write_rows(path: Path, rows: list[dict[str, str]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def rows(n: int) -> list[dict[str, str]]:
    return [{"sku": f"s{i}", "name": f"Lamp {'x' * (i % 50)}", "description": "oak and brass"} for i in range(n)]


def read_csv(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as handle:
        return list(csv.DictReader(handle))


@pytest.mark.parametrize("ending", [".jsonl", ".csv", ".parquet", ".xlsx"])
def test_order_and_ids_are_kept_in_every_format(ending: str, tmp_path: Path) -> None:
    """Row i of the output is row i of the input, over several parts."""
    file = write_rows(tmp_path / "new.jsonl", rows(95))
    out = tmp_path / f"prices{ending}"
    facts = price_file(ByLength(), INFO, file, out, identity="a", part_rows=10)
    if ending == ".jsonl":
        values = [json.loads(line)["sku"] for line in out.read_text().splitlines()]
    elif ending == ".csv":
        values = [row["sku"] for row in read_csv(out)]
    elif ending == ".parquet":
        import pyarrow.parquet as pq

        values = pq.read_table(out).column("sku").to_pylist()
    else:
        from openpyxl import load_workbook

        book = load_workbook(out, read_only=True)
        values = [str(row[0]) for row in book.active.iter_rows(min_row=2, values_only=True)]
        book.close()
    assert values == [f"s{i}" for i in range(95)]
    assert facts["rows"] == facts["priced"] == 95
    assert not (tmp_path / f"prices{ending}.parts").exists()


def test_a_row_without_an_answer_says_why(tmp_path: Path) -> None:
    """A broken line and an empty row keep their places, with a reason and no price."""
    lines = [json.dumps(rows(1)[0]), "{broken", json.dumps({"sku": "s2", "name": "", "description": ""})]
    file = tmp_path / "new.jsonl"
    file.write_text("\n".join(lines) + "\n")
    price_file(ByLength(), INFO, file, tmp_path / "prices.csv", identity="a")
    values = read_csv(tmp_path / "prices.csv")
    assert [bool(row["price"]) for row in values] == [True, False, False]
    assert values[1]["note"]
    assert values[2]["note"] == "no title and no text"


def test_parts_that_are_whole_are_not_priced_again(tmp_path: Path) -> None:
    """After a crash in the fourth part, only the missing rows are priced."""
    file = write_rows(tmp_path / "new.jsonl", rows(95))

    class Breaks(ByLength):
        def price(self, listings: Sequence[Listing]) -> list[Quote]:
            if self.asked >= 30:
                raise RuntimeError("the power went")
            return super().price(listings)

    with pytest.raises(RuntimeError):
        price_file(Breaks(), INFO, file, tmp_path / "prices.csv", identity="a", part_rows=10)
    assert not (tmp_path / "prices.csv").exists()
    second = ByLength()
    price_file(second, INFO, file, tmp_path / "prices.csv", identity="a", part_rows=10)
    assert second.asked == 65
    assert len(read_csv(tmp_path / "prices.csv")) == 95


@pytest.mark.parametrize("left", [[".plan.json.99.tmp"], ["part-000003.parquet"], ["part-000000.parquet", ".x.1.tmp"]])
def test_what_a_kill_left_before_its_plan_or_after_it_is_swept(left: list[str], tmp_path: Path) -> None:
    """Killed while the plan was written, or while the folder was taken away: the same command starts clean."""
    file = write_rows(tmp_path / "new.jsonl", rows(15))
    parts = tmp_path / "prices.csv.parts"
    parts.mkdir()
    for name in left:
        (parts / name).write_bytes(b"half")
    price_file(ByLength(), INFO, file, tmp_path / "prices.csv", identity="a", part_rows=10)
    assert len(read_csv(tmp_path / "prices.csv")) == 15
    assert not parts.exists()
    parts.mkdir()
    (parts / "mine.txt").write_text("not ours")
    with pytest.raises(UsageError, match="in the way"):
        price_file(ByLength(), INFO, file, tmp_path / "prices.csv", identity="a", part_rows=10)
    assert (parts / "mine.txt").exists()


def test_a_part_that_the_disk_has_damaged_is_priced_again(tmp_path: Path) -> None:
    """One flipped bit: the part's checksum does not hold, and the others are kept."""
    file = write_rows(tmp_path / "new.jsonl", rows(30))

    class Breaks(ByLength):
        def price(self, listings: Sequence[Listing]) -> list[Quote]:
            if self.asked >= 20:
                raise RuntimeError("the power went")
            return super().price(listings)

    with pytest.raises(RuntimeError):
        price_file(Breaks(), INFO, file, tmp_path / "prices.csv", identity="a", part_rows=10)
    part = tmp_path / "prices.csv.parts" / "part-000001.parquet"
    data = bytearray(part.read_bytes())
    data[len(data) // 4] ^= 1
    part.write_bytes(data)
    second = ByLength()
    price_file(second, INFO, file, tmp_path / "prices.csv", identity="a", part_rows=10)
    assert second.asked == 20
    assert len(read_csv(tmp_path / "prices.csv")) == 30


def test_parts_of_other_work_are_refused(tmp_path: Path) -> None:
    """Prices of another run are never joined with this one's."""
    file = write_rows(tmp_path / "new.jsonl", rows(5))
    (tmp_path / "prices.csv.parts").mkdir()
    (tmp_path / "prices.csv.parts" / "plan.json").write_text(
        '{"generator": "pricesmith price", "format": 5, "run": "other"}'
    )
    with pytest.raises(UsageError, match="other work"):
        price_file(ByLength(), INFO, file, tmp_path / "prices.csv", identity="a")
    (tmp_path / "prices.csv.parts" / "plan.json").write_text('{"generator": "pricesmith price", "format": 3}')
    with pytest.raises(UsageError, match="another version"):
        price_file(ByLength(), INFO, file, tmp_path / "prices.csv", identity="a")


def test_a_part_that_a_node_wrote_late_for_other_work_is_never_joined(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A task of a killed command may still write its part after --overwrite: it is priced again, or an error."""
    file = write_rows(tmp_path / "new.jsonl", rows(30))
    late = tmp_path / "late.parquet"

    def interrupt(folder: Path, *_: Any) -> dict[str, Any]:
        shutil.copyfile(folder / "part-000001.parquet", late)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(price, "join_parts", interrupt)
        price_file(ByLength(), INFO, file, tmp_path / "prices.csv", identity="a", part_rows=10)
    start = parts.start_parts

    def write_late(folder: Path, plan: Any, **options: Any) -> set[int]:
        start(folder, plan, **options)
        shutil.copyfile(late, folder / "part-000001.parquet")
        return start(folder, plan, overwrite=False)

    options: dict[str, Any] = {"identity": "b", "part_rows": 10, "overwrite": True}
    second = ByLength()
    with monkeypatch.context() as patch:
        patch.setattr(price, "start_parts", write_late)
        price_file(second, INFO, file, tmp_path / "prices.csv", **options)
    assert second.asked == 30  # and the part that came late was replaced
    join = parts.join_parts

    def replace_part(folder: Path, *arguments: Any) -> dict[str, Any]:
        shutil.copyfile(late, folder / "part-000001.parquet")
        return join(folder, *arguments)

    before = (tmp_path / "prices.csv").read_bytes()
    with monkeypatch.context() as patch, pytest.raises(InputError, match="replaced by another command"):
        patch.setattr(price, "join_parts", replace_part)
        price_file(ByLength(), INFO, file, tmp_path / "prices.csv", **options)
    assert (tmp_path / "prices.csv").read_bytes() == before
    third = ByLength()
    price_file(third, INFO, file, tmp_path / "prices.csv", identity="b", part_rows=10)
    assert third.asked == 10  # only the rows of that part


def test_a_formula_in_an_id_does_not_run(tmp_path: Path) -> None:
    """A spreadsheet shows what begins like a formula as text."""
    file = write_rows(tmp_path / "new.jsonl", [{"sku": "=1+1", "name": "Oak lamp", "description": "brass"}])
    price_file(ByLength(), INFO, file, tmp_path / "prices.csv", identity="a")
    price_file(ByLength(), INFO, file, tmp_path / "prices.xlsx", identity="a")
    assert read_csv(tmp_path / "prices.csv")[0]["sku"] == "'=1+1"
    from openpyxl import load_workbook

    cell = load_workbook(tmp_path / "prices.xlsx").active["A2"]
    assert (cell.data_type, cell.value, cell.quotePrefix) == ("s", "=1+1", True)


@pytest.mark.parametrize("text", ["=1", "'=1", "''=1", "-5", "'-5", "-a", "@x", "\tx", "'tis", "", "'", "x"])
def test_an_escaped_formula_can_be_read_back(text: str, tmp_path: Path) -> None:
    """An id joins with its own table again, whatever it begins with."""
    file = write_rows(tmp_path / "new.jsonl", [{"sku": text, "name": "Oak lamp", "description": "brass"}])
    price_file(ByLength(), INFO, file, tmp_path / "prices.csv", identity="a")
    rows = list(csv.DictReader(b"".join(unescape_csv(tmp_path / "prices.csv")).decode().splitlines()))
    assert rows[0]["sku"] == text


def test_a_ratio_over_the_limit_is_not_rounded_to_the_limit() -> None:
    """1.3004 is over 1.3, and is shown as 1.31."""
    row = price_row("a", Quote(100.0, 100 / 1.3004, 130.04), "USD", 1.3)
    assert row.price is None
    assert row.note == "interval too wide: price ÷ 1.31 to × 1.31"


def test_a_wide_interval_is_declined(tmp_path: Path) -> None:
    """With --max-interval-ratio the price is left out and the interval and the reason stay."""
    file = write_rows(tmp_path / "new.jsonl", rows(3))
    price_file(ByLength(), INFO, file, tmp_path / "prices.csv", identity="a", max_interval_ratio=1.5)
    assert {row["price"] for row in read_csv(tmp_path / "prices.csv")} == {""}
    assert "interval too wide" in read_csv(tmp_path / "prices.csv")[0]["note"]


def test_an_interval_cut_off_by_the_price_range_is_as_wide_as_its_other_side() -> None:
    """$900 in [$300, $1,000] may be three times too expensive, for any upper end."""
    assert price_row("1", Quote(900.0, 300.0, 1000.0), "USD", 2.0).price is None
    assert price_row("1", Quote(900.0, 300.0, 1000.0), "USD", 3.1).price == 900.0


def test_the_note_of_a_quote_follows_that_of_its_row() -> None:
    """For a priced row, a guess, an interval that is too wide, and no answer."""
    quote = Quote(10.0, 5.0, 20.0, note="not asked: the budget is spent")
    for changed, ratio, note in (
        ({}, None, ""),
        ({"nothing_similar": True}, None, f"{UNLIKE}; "),
        ({}, 1.5, "interval too wide: price ÷ 2.00 to × 2.00; "),
        ({"price": None, "raw": "no idea"}, None, "unanswered: no idea; "),
    ):
        row = price_row("1", replace(quote, **changed), "USD", ratio)
        assert row.note == f"{note}not asked: the budget is spent"
        assert row.quote_note == "not asked: the budget is spent"


def test_a_ratio_that_cannot_be_kept_is_refused() -> None:
    """A ratio below 1 is impossible; a model without intervals has no ratio."""
    with pytest.raises(UsageError):
        check_max_ratio(0.5, calibrated=True)
    with pytest.raises(UsageError):
        check_max_ratio(1.5, calibrated=False)


def test_an_ending_that_cannot_be_written_is_refused_before_any_work(tmp_path: Path) -> None:
    """The allowed formats are listed."""
    file = write_rows(tmp_path / "new.jsonl", rows(3))
    with pytest.raises(UsageError) as caught:
        price_file(ByLength(), INFO, file, tmp_path / "prices.docx", identity="a")
    assert ".parquet" in str(caught.value)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    """A wrong path is an error of four facts."""
    with pytest.raises((InputError, UsageError)):
        price_file(ByLength(), INFO, tmp_path / "none.csv", tmp_path / "prices.csv", identity="a")


def test_a_file_with_other_columns_is_read_by_usual_names(tmp_path: Path) -> None:
    """A file that lacks the run's columns is read by what its own are called; a price in it is not looked at."""
    file = write_rows(tmp_path / "new.jsonl", [{"id": "a", "title": "Oak lamp", "price": "$999"}])
    facts = price_file(ByLength(), INFO, file, tmp_path / "prices.csv", identity="a")
    assert read_csv(tmp_path / "prices.csv")[0]["predicted_price"] == "8.0"
    assert facts["renamed"] == {"price": "predicted_price"}


@pytest.mark.parametrize("how", ["same", "dotted", "symbolic", "hard"])
def test_the_file_that_is_priced_is_never_overwritten(how: str, tmp_path: Path) -> None:
    """Whatever --to calls it: refused, and not a byte of it is changed."""
    file = write_rows(tmp_path / "new.jsonl", rows(5))
    before = file.read_bytes()
    to = tmp_path / "other.jsonl"
    if how == "same":
        to = file
    elif how == "dotted":
        to = tmp_path / ".." / tmp_path.name / "new.jsonl"
    elif how == "symbolic":
        to.symlink_to(file)
    else:
        to.hardlink_to(file)
    with pytest.raises(UsageError, match="the file that is priced"):
        price_file(ByLength(), INFO, file, to, identity="a")
    assert file.read_bytes() == before
    assert not list(tmp_path.glob("*.parts"))


def test_a_file_among_the_parts_is_not_swept_away(tmp_path: Path) -> None:
    """The parts' folder is deleted at the end: what is priced may not lie there."""
    (tmp_path / "prices.csv.parts").mkdir()
    file = write_rows(tmp_path / "prices.csv.parts" / "new.jsonl", rows(5))
    with pytest.raises(UsageError, match="would be deleted"):
        price_file(ByLength(), INFO, file, tmp_path / "prices.csv", identity="a")
    assert file.exists()


def test_work_that_failed_before_its_first_part_leaves_nothing(tmp_path: Path) -> None:
    """So that the file can be mended and the same command tried again."""

    class Breaks(ByLength):
        def price(self, listings: Sequence[Listing]) -> list[Quote]:
            raise RuntimeError("the power went")

    file = write_rows(tmp_path / "new.jsonl", rows(5))
    with pytest.raises(RuntimeError):
        price_file(Breaks(), INFO, file, tmp_path / "prices.csv", identity="a")
    assert [path.name for path in tmp_path.iterdir()] == ["new.jsonl"]


@pytest.mark.parametrize("text", ["-", "!!!", "a", "....."])
def test_a_row_that_curate_would_refuse_as_too_short_has_no_price(text: str, tmp_path: Path) -> None:
    """It keeps its position with a reason; the next row is priced."""
    row = {"sku": "s9", "name": text, "description": ""}
    file = write_rows(tmp_path / "new.jsonl", [row, rows(1)[0]])
    facts = price_file(ByLength(), INFO, file, tmp_path / "prices.csv", identity="a")
    first, second = read_csv(tmp_path / "prices.csv")
    assert (first["sku"], first["price"]) == ("s9", "")
    assert "too short" in first["note"] or first["note"] == "no title and no text"
    assert second["price"]
    assert facts["not_priced"] == 1


class Knowing(ByLength):
    """Has comparables of every listing, fewer of the second; nothing is similar to a title with qwertz."""

    def find_comparables(
        self, listings: Sequence[Listing], k: int = 3, *, quotes: Sequence[Quote] | None = None
    ) -> list[list[Comparable]]:
        assert quotes is not None
        near = [Comparable(f"t{n}", "=2+5 lamp", 10.0 + n, 0.9 - n / 10) for n in range(k)]
        return [near[: 1 if listing.id == "s1" else k] for listing in listings]

    def nothing_similar(self, listings: Sequence[Listing]) -> list[bool | None]:
        return ["qwertz" in listing.title for listing in listings]


def table_of(path: Path) -> list[dict[str, Any]]:
    """The rows of an output file of any format."""
    if path.suffix == ".jsonl":
        return [json.loads(line) for line in path.read_text().splitlines()]
    if path.suffix == ".csv":
        values = {"": None, "true": True, "false": False}
        return [{name: values.get(cell, cell) for name, cell in row.items()} for row in read_csv(path)]
    if path.suffix == ".parquet":
        import pyarrow.parquet as pq

        return list(pq.read_table(path).to_pylist())
    from openpyxl import load_workbook

    book = load_workbook(path, read_only=True)
    names, *cells = book.active.iter_rows(values_only=True)
    book.close()
    return [dict(zip_longest(names, row)) for row in cells]


@pytest.mark.parametrize("ending", [".jsonl", ".csv", ".parquet", ".xlsx"])
def test_comparables_and_the_flag_are_columns_in_every_format(ending: str, tmp_path: Path) -> None:
    """Four columns for each comparable, empty where there are fewer; a title cannot run in a spreadsheet."""
    odd = {"sku": "s2", "name": "qwertz asdf", "description": "hjkl"}
    file = write_rows(tmp_path / "new.jsonl", [*rows(2), odd, {"sku": "s3", "name": "-", "description": ""}])
    out = tmp_path / f"prices{ending}"
    facts = price_file(Knowing(), INFO, file, out, identity="a", comparables=2, part_rows=3)
    first, second, third, refused = table_of(out)
    assert [row["nothing_similar"] for row in (first, second, third, refused)] == [False, False, True, None]
    assert third["note"] == UNLIKE
    assert not first["note"]
    assert facts["nothing_similar"] == 1
    assert (first["comparable_1_id"], first["comparable_2_id"]) == ("t0", "t1")
    assert float(first["comparable_2_price"]) == 11.0
    assert float(first["comparable_1_similarity"]) == 0.9
    assert second["comparable_2_id"] is None
    assert refused["comparable_1_title"] is None
    assert first["comparable_1_title"] == ("'=2+5 lamp" if ending == ".csv" else "=2+5 lamp")
    assert list(first)[-8:-4] == [f"comparable_1_{name}" for name in ("id", "title", "price", "similarity")]


def test_a_pricer_without_training_listings_does_not_know(tmp_path: Path) -> None:
    """The flag is empty, not false."""
    price_file(ByLength(), INFO, write_rows(tmp_path / "new.jsonl", rows(1)), tmp_path / "p.jsonl", identity="a")
    assert table_of(tmp_path / "p.jsonl")[0]["nothing_similar"] is None


def test_parts_with_other_comparables_are_other_work(tmp_path: Path) -> None:
    """Half a file with two comparables is not finished with three."""
    file = write_rows(tmp_path / "new.jsonl", rows(15))

    class Breaks(Knowing):
        def price(self, listings: Sequence[Listing]) -> list[Quote]:
            if self.asked >= 10:
                raise RuntimeError("the power went")
            return super().price(listings)

    with pytest.raises(RuntimeError):
        price_file(Breaks(), INFO, file, tmp_path / "p.csv", identity="a", comparables=2, part_rows=10)
    with pytest.raises(UsageError, match="other work"):
        price_file(Knowing(), INFO, file, tmp_path / "p.csv", identity="a", comparables=3, part_rows=10)


@pytest.mark.parametrize("count", [-1, 21])
def test_a_number_of_comparables_that_cannot_be_is_refused(count: int) -> None:
    """The error lists the allowed values."""
    with pytest.raises(UsageError, match="comparables"):
        check_comparables(count, Knowing())


def test_comparables_of_an_export_are_refused() -> None:
    """It has no training listings to show."""

    class Exported(Knowing):
        has_comparables = False

    check_comparables(0, Exported())
    with pytest.raises(UsageError, match="no comparables"):
        check_comparables(3, Exported())


@pytest.mark.parametrize("ending", [".jsonl", ".csv", ".parquet", ".xlsx"])
def test_only_a_file_of_prices_is_overwritten(ending: str, tmp_path: Path) -> None:
    """An earlier output is replaced, and any other file only with --overwrite."""
    file, out = write_rows(tmp_path / "new.jsonl", rows(5)), tmp_path / f"prices{ending}"
    for _ in range(2):
        price_file(ByLength(), INFO, file, out, identity="a")
    out.write_bytes(b"sku,name,price\n1,Lamp,3\n")
    with pytest.raises(UsageError, match="did not write it"):
        price_file(ByLength(), INFO, file, out, identity="a")
    assert out.read_bytes() == b"sku,name,price\n1,Lamp,3\n"
    assert price_file(ByLength(), INFO, file, out, identity="a", overwrite=True)["rows"] == 5
    price_file(ByLength(), INFO, file, out, identity="a")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["new.jsonl", f"prices{ending}"]


def test_a_link_is_written_through_and_a_pipe_is_refused(tmp_path: Path) -> None:
    """Readers of the link's target see the new prices; the link stays a link."""
    file = write_rows(tmp_path / "new.jsonl", rows(5))
    (tmp_path / "real.csv").write_text("")
    (tmp_path / "link.csv").symlink_to("real.csv")
    price_file(ByLength(), INFO, file, tmp_path / "link.csv", identity="a")
    assert (tmp_path / "link.csv").is_symlink()
    assert len(read_csv(tmp_path / "real.csv")) == 5
    os.mkfifo(tmp_path / "pipe.csv")
    (tmp_path / "lost.csv").symlink_to("nowhere.csv")
    pricer = ByLength()
    for name in ("pipe.csv", "lost.csv"):
        with pytest.raises(UsageError):
            price_file(pricer, INFO, file, tmp_path / name, identity="a")
    assert pricer.asked == 0
    assert (tmp_path / "pipe.csv").is_fifo()
    assert (tmp_path / "lost.csv").is_symlink()


def test_two_commands_never_write_one_output(tmp_path: Path) -> None:
    """The second gets an error while the first runs, and works afterwards."""
    file, out = write_rows(tmp_path / "new.jsonl", rows(5)), tmp_path / "prices.csv"

    class Second(ByLength):
        def price(self, listings: Sequence[Listing]) -> list[Quote]:
            with pytest.raises(UsageError, match="Another process is writing"):
                price_file(ByLength(), INFO, file, out, identity="a")
            return super().price(listings)

    price_file(Second(), INFO, file, out, identity="a")
    price_file(ByLength(), INFO, file, out, identity="a")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["new.jsonl", "prices.csv"]


def test_a_users_file_among_the_parts_stays(tmp_path: Path) -> None:
    """Only our own parts are swept at the end."""
    file, parts = write_rows(tmp_path / "new.jsonl", rows(5)), tmp_path / "prices.csv.parts"

    class Noting(ByLength):
        def price(self, listings: Sequence[Listing]) -> list[Quote]:
            (parts / "notes.txt").write_text("mine")
            return super().price(listings)

    price_file(Noting(), INFO, file, tmp_path / "prices.csv", identity="a")
    assert [path.name for path in parts.iterdir()] == ["notes.txt"]
