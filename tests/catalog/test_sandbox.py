"""Files made to break their reader, and the process that takes the blow: refused by name, in little memory, soon."""

from __future__ import annotations

import os
import signal
import zipfile
from pathlib import Path

import pytest

from pricesmith.catalog.readers import sandbox
from pricesmith.catalog.readers.sources import Limits, RawRow, read_rows, resolve_sources
from pricesmith.core.errors import InputError


def written(path: Path, data: bytes | str) -> Path:
    path.write_bytes(data.encode() if isinstance(data, str) else data)
    return path


def cells(path: Path, limits: Limits | None = None) -> list[dict[str, object] | str]:
    """Every row of a file: its values, or the reason why it has none."""
    (source,) = resolve_sources([str(path)])
    rows = [row for batch in read_rows(source, limits or Limits()) for row in batch]
    assert [row.number for row in rows] == list(range(1, len(rows) + 1))
    return [dict(row.values) if isinstance(row, RawRow) else row.reason for row in rows]


def refused(path: Path, message: str, limits: Limits | None = None) -> InputError:
    """Reading `path` is refused; the error has the file's name and `message`."""
    with pytest.raises(InputError) as caught:
        cells(path, limits)
    assert path.name in str(caught.value)
    assert message in str(caught.value)
    return caught.value


def parquet_bomb(path: Path, cells_in_it: int, size: int, **options: object) -> Path:
    """A Parquet file of equal cells, which its dictionary holds once."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    text = pa.DictionaryArray.from_arrays(pa.array([0] * cells_in_it, pa.int32()), pa.array(["a" * size]))
    pq.write_table(pa.table({"name": text, "price": pa.array([1.0] * cells_in_it)}), path, **options)
    return path


def test_ten_gigabytes_in_a_small_parquet_file_are_refused(tmp_path: Path) -> None:
    """10,000 cells of a megabyte, stored once; and cells so large that a few of them fill the memory."""
    refused(parquet_bomb(tmp_path / "a.parquet", 10_000, 1_000_000, compression="none"), "unpacks to far more")
    refused(parquet_bomb(tmp_path / "b.parquet", 1_000, 10_000_000, compression="zstd"), "too much memory")


@pytest.mark.parametrize("piece", [b"hose,1.00\n" * 100_000, b"a" * 1_000_000])
@pytest.mark.parametrize("ending", ["csv.gz", "jsonl.zst"])
def test_a_small_file_that_unpacks_to_gigabytes_is_refused(tmp_path: Path, piece: bytes, ending: str) -> None:
    """Before any row, whether it is one long cell or many short rows."""
    import pyarrow as pa

    path = tmp_path / f"a.{ending}"
    with pa.CompressedOutputStream(str(path), "gzip" if ending.endswith("gz") else "zstd") as out:
        for _ in range(80):
            out.write(piece)
    refused(path, "unpacks to far more")


def test_a_workbook_that_unpacks_to_gigabytes_is_refused(tmp_path: Path) -> None:
    """By the sizes in its directory, before anything is unpacked; and one that is no workbook by its damage."""
    with zipfile.ZipFile(tmp_path / "a.xlsx", "w", zipfile.ZIP_DEFLATED) as out, out.open("xl/x.xml", "w") as part:
        for _ in range(70):
            part.write(b"a" * 1_000_000)
    refused(tmp_path / "a.xlsx", "unpacks to far more")
    with zipfile.ZipFile(tmp_path / "b.xlsx", "w") as out:
        out.writestr("../../evil.txt", "x")
    refused(tmp_path / "b.xlsx", "not xlsx")


def test_rows_and_bytes_have_limits(tmp_path: Path) -> None:
    """Each says what is allowed."""
    path = written(tmp_path / "a.csv", "name,price\n" + "Hose,1\n" * 5_000)
    refused(path, "too many rows", Limits(rows=4_999))
    assert len(cells(path, Limits(rows=5_000))) == 5_000
    refused(path, "too large unpacked", Limits(bytes=10_000))


def child() -> int:
    """The process that parses."""
    children = Path(f"/proc/{os.getpid()}/task/{os.getpid()}/children")
    return int(children.read_text().split()[-1])


def test_a_file_that_keeps_its_parser_busy_is_refused(tmp_path: Path) -> None:
    """Nothing for longer than is allowed ends it, wherever it hangs."""
    path = written(tmp_path / "a.csv", "name,price\n" + "a" * 50_000_000)
    refused(path, "no answer for 0.02 s", Limits(seconds=0.02))


def test_a_parser_that_stands_still_is_ended_from_outside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where its own alarm does not reach it."""
    monkeypatch.setattr(sandbox, "GRACE", 0.1)
    (source,) = resolve_sources([str(written(tmp_path / "a.csv", "name,price\n" + "Hose,1\n" * 300_000))])
    stream = read_rows(source, Limits(seconds=8))  # long enough for a busy machine to start the child
    next(stream)
    os.kill(child(), signal.SIGSTOP)
    with pytest.raises(InputError, match="no answer for"):
        list(stream)


def test_a_child_that_dies_is_an_input_error(tmp_path: Path) -> None:
    """A crash of the parser is reported with the file's name and the signal; what came before it was good."""
    (source,) = resolve_sources([str(written(tmp_path / "a.csv", "name,price\n" + "Hose,1\n" * 300_000))])
    stream = read_rows(source)
    next(stream)
    os.kill(child(), signal.SIGSEGV)
    with pytest.raises(InputError, match=r"a\.csv") as caught:
        list(stream)
    assert "SIGSEGV" in str(caught.value)


def test_the_child_sees_nothing_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keys and tokens stay here."""
    monkeypatch.setenv("SECRET_KEY", "x")
    assert "SECRET_KEY" not in sandbox.worker_environment()
