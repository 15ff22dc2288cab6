"""Faults of the log: foreign files, wrong places, full disks, locks, files that vanish, kills.

No row is acknowledged that is not stored.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from pricesmith.core.errors import InputError, UsageError
from pricesmith.serve import log_file, log_writer
from pricesmith.serve.log import FeedbackRecord, LogReader, LogUnavailable, QuoteRecord, RequestLog, new_quote_id

WRITER = """
import sys, threading
from pricesmith.serve.log import QuoteRecord, RequestLog, new_quote_id

log = RequestLog(sys.argv[1])
output = threading.Lock()

def work():
    while True:
        rows = [QuoteRecord(new_quote_id(), price=1.0) for _ in range(3)]
        log.record_quotes_sync(rows)
        with output:
            sys.stdout.write("".join(row.quote_id + "\\n" for row in rows))
            sys.stdout.flush()

for _ in range(8):
    threading.Thread(target=work, daemon=True).start()
threading.Event().wait()
"""


def kill_while_writing(path: Path, after: int) -> set[str]:
    """Kill a process with -9 once it has acknowledged `after` rows; the ids of all acknowledged rows."""
    process = subprocess.Popen([sys.executable, "-c", WRITER, str(path)], stdout=subprocess.PIPE)
    assert process.stdout is not None
    lines = [process.stdout.readline() for _ in range(after)]
    process.send_signal(signal.SIGKILL)
    rest = process.stdout.read()
    process.wait()
    process.stdout.close()
    whole = (b"".join(lines) + rest).rpartition(b"\n")[0]
    return {line.decode() for line in whole.split(b"\n")}


def check_kills(path: Path, kills: int) -> int:
    """Kill writers of one log and count the acknowledged rows; all of them must be in the log."""
    acknowledged: set[str] = set()
    for number in range(kills):
        acknowledged |= kill_while_writing(path, 300 + 97 * (number % 7))
        with RequestLog(path) as log:
            stored = {record.quote_id for record in log.iter_quotes()}
        assert acknowledged <= stored
    return len(acknowledged)


def test_no_acknowledged_row_is_lost_when_the_process_is_killed(tmp_path: Path) -> None:
    assert check_kills(tmp_path / "log.db", 3) > 900


@pytest.mark.slow
def test_no_acknowledged_row_is_lost_in_fifty_kills(tmp_path: Path) -> None:
    assert check_kills(tmp_path / "log.db", 50) > 15_000


def test_rows_are_synced_before_they_are_acknowledged(tmp_path: Path) -> None:
    with RequestLog(tmp_path / "log.db") as log:
        mode = log.run_sync(lambda connection: connection.execute("PRAGMA synchronous").fetchone())
        journal = log.run_sync(lambda connection: connection.execute("PRAGMA journal_mode").fetchone())
    assert (mode, journal) == ((2,), ("wal",))


def test_a_foreign_file_is_refused_and_not_touched(tmp_path: Path) -> None:
    database = tmp_path / "other.db"
    with closing(sqlite3.connect(database)) as connection:
        connection.execute("CREATE TABLE quotes (a)")
        connection.commit()
    table = tmp_path / "table.csv"
    table.write_text("title,price\n")
    short = tmp_path / "short.db"
    short.write_bytes(b"SQLite format 3\0")
    for path in (database, table, short):
        before = (path.read_bytes(), path.stat().st_mtime_ns)
        for open_log in (RequestLog, LogReader):
            with pytest.raises(InputError, match="not a log of Pricesmith"):
                open_log(path)
        assert (path.read_bytes(), path.stat().st_mtime_ns) == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["other.db", "short.db", "table.csv"]


def test_a_newer_format_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "log.db"
    with monkeypatch.context() as patch:
        patch.setattr(log_file, "FORMAT", 2)
        RequestLog(path).close()
    with pytest.raises(InputError, match="later version"):
        RequestLog(path)
    with pytest.raises(InputError, match="later version"):
        LogReader(path)


@pytest.mark.parametrize(
    "statement",
    [
        "CREATE TRIGGER t AFTER INSERT ON quotes BEGIN DELETE FROM quotes; END",
        "CREATE VIEW v AS SELECT 1",
        "DROP TABLE spending",
    ],
)
def test_a_log_with_other_tables_is_refused(tmp_path: Path, statement: str) -> None:
    path = tmp_path / "log.db"
    RequestLog(path).close()
    with closing(sqlite3.connect(path)) as connection:
        connection.execute(statement)
    with pytest.raises(InputError, match="damaged"):
        RequestLog(path)
    with pytest.raises(InputError, match="damaged"):
        LogReader(path).read_quotes()


@pytest.mark.parametrize(
    ("column", "value"),
    [("price", "many"), ("price", float("inf")), ("at", "yesterday"), ("note", b"\xff"), ("low", b"")],
)
def test_a_log_with_impossible_values_is_refused(tmp_path: Path, column: str, value: object) -> None:
    path = tmp_path / "log.db"
    with RequestLog(path) as log:
        log.record_quotes_sync([QuoteRecord("q")])
        log.run_sync(lambda connection: connection.execute(f"UPDATE quotes SET {column} = ?", (value,)))
    with pytest.raises(InputError, match=f"{path} is damaged"):
        LogReader(path).read_quotes()


@pytest.mark.parametrize(("column", "value"), [("fields", "[1"), ("fields", '{"a": 1}'), ("sold_price", -1.0)])
def test_feedback_with_impossible_values_is_refused(tmp_path: Path, column: str, value: object) -> None:
    path = tmp_path / "log.db"
    with RequestLog(path) as log:
        log.record_feedback_sync(FeedbackRecord("f", 1.0, "USD"))
        log.run_sync(lambda connection: connection.execute(f"UPDATE feedback SET {column} = ?", (value,)))
    with pytest.raises(InputError, match=f"{path} is damaged"):
        LogReader(path).read_feedback()


def test_a_log_with_damaged_pages_is_reported(tmp_path: Path) -> None:
    path = tmp_path / "log.db"
    with RequestLog(path) as log:
        log.record_quotes_sync([QuoteRecord(new_quote_id(), note="x" * 300) for _ in range(500)])
    content = bytearray(path.read_bytes())
    content[4096 * 12 :] = b"\xff" * (len(content) - 4096 * 12)
    path.write_bytes(content)
    with pytest.raises((LogUnavailable, InputError)):
        LogReader(path).read_quotes()


@pytest.mark.parametrize("length", [1, 50, 100, 4096, 5000])
def test_a_log_that_was_cut_off_is_reported(tmp_path: Path, length: int) -> None:
    path = tmp_path / "log.db"
    with RequestLog(path) as log:
        log.record_quotes_sync([QuoteRecord(new_quote_id()) for _ in range(500)])
    path.write_bytes(path.read_bytes()[:length])
    with pytest.raises((LogUnavailable, InputError)):
        LogReader(path).read_quotes()
    with pytest.raises((LogUnavailable, InputError)), RequestLog(path) as log:
        log.record_quotes_sync([QuoteRecord(new_quote_id())])


def test_a_missing_log_is_not_read(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="There is no log"):
        LogReader(tmp_path / "log.db")
    assert not list(tmp_path.iterdir())


def test_an_empty_file_becomes_a_log(tmp_path: Path) -> None:
    (tmp_path / "log.db").touch()
    with RequestLog(tmp_path / "log.db") as log:
        assert log.read_quotes() == []


def test_places_where_no_log_can_be_are_refused(tmp_path: Path) -> None:
    for name, generator in (("model", "manifest.json"), ("catalog", "ledger.json")):
        (tmp_path / name / "deep").mkdir(parents=True)
        (tmp_path / name / generator).write_text(json.dumps({"generator": f"pricesmith {name}"}))
    (tmp_path / "out" / "models" / "ridge").mkdir(parents=True)
    (tmp_path / "out" / "build.toml").write_text("")
    (tmp_path / "link").symlink_to(tmp_path / "model")
    for place in ("model/log.db", "model/deep/log.db", "catalog/log.db", "out/models/log.db", "link/log.db"):
        with pytest.raises(UsageError, match="inside a folder of Pricesmith"):
            RequestLog(tmp_path / place)
    with pytest.raises(UsageError, match="does not exist"):
        RequestLog(tmp_path / "missing" / "log.db")
    with pytest.raises(UsageError, match="is a folder"):
        RequestLog(tmp_path / "model")
    RequestLog(tmp_path / "out" / "log.db").close()
    assert {path.name for path in (tmp_path / "model").rglob("*")} == {"deep", "manifest.json"}


def test_a_link_to_a_log_is_followed(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    RequestLog(tmp_path / "real" / "log.db").close()
    (tmp_path / "link.db").symlink_to(tmp_path / "real" / "log.db")
    with RequestLog(tmp_path / "link.db"), pytest.raises(UsageError, match="Another process"):
        RequestLog(tmp_path / "real" / "log.db")


def test_a_full_disk_is_reported_and_the_log_goes_on_when_there_is_space(tmp_path: Path) -> None:
    with RequestLog(tmp_path / "log.db") as log:
        log.record_quotes_sync([QuoteRecord("first")])
        limit = log.run_sync(lambda connection: connection.execute("PRAGMA page_count").fetchone()[0])
        log.run_sync(lambda connection: connection.execute(f"PRAGMA max_page_count = {limit}"), alone=True)
        rows = [QuoteRecord(new_quote_id(), note="x" * 500) for _ in range(100)]
        with pytest.raises(LogUnavailable) as caught:
            log.record_quotes_sync(rows)
        assert "full" in caught.value.got
        assert [record.quote_id for record in log.read_quotes()] == ["first"]
        log.run_sync(lambda connection: connection.execute("PRAGMA max_page_count = 100000"), alone=True)
        log.record_quotes_sync(rows)
        assert len(log.read_quotes()) == 101


FULL_DISK = """
import resource, signal, sys
from pricesmith.serve.log import LogUnavailable, QuoteRecord, RequestLog, new_quote_id

signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
log = RequestLog(sys.argv[1])
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]), resource.RLIM_INFINITY))
acknowledged, refused = [], 0
for _ in range(300):
    record = QuoteRecord(new_quote_id(), note="x" * 2000)
    try:
        log.record_quotes_sync([record])
        acknowledged.append(record.quote_id)
    except LogUnavailable:
        refused += 1
stored = [record.quote_id for record in log.iter_quotes()]
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
log.record_quotes_sync([QuoteRecord("last")])
log.close()
print(refused, len(acknowledged), set(acknowledged) <= set(stored))
"""


@pytest.mark.parametrize("limit", [120_000, 130_001, 300_000])
def test_writes_that_fail_are_not_acknowledged(tmp_path: Path, limit: int) -> None:
    command = [sys.executable, "-c", FULL_DISK, str(tmp_path / "log.db"), str(limit)]
    result = subprocess.run(command, capture_output=True, text=True, check=True)
    refused, acknowledged, complete = result.stdout.split()
    assert int(refused) > 0
    assert int(refused) + int(acknowledged) == 300
    assert complete == "True"
    assert len(LogReader(tmp_path / "log.db").read_quotes()) >= int(acknowledged) + 1


def test_a_log_that_another_program_locks_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log_file, "WAIT_SECONDS", 0.01)
    with RequestLog(tmp_path / "log.db") as log, closing(sqlite3.connect(tmp_path / "log.db")) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(LogUnavailable) as caught:
            asyncio.run(log.record_quotes([QuoteRecord("q")]))
        assert "locked" in caught.value.got
        other.execute("ROLLBACK")
        log.record_quotes_sync([QuoteRecord("q")])
        assert len(log.read_quotes()) == 1


@pytest.mark.parametrize("suffix", ["", "-wal"])
def test_a_log_that_is_deleted_under_the_server_acknowledges_nothing_more(tmp_path: Path, suffix: str) -> None:
    log = RequestLog(tmp_path / "log.db")
    log.record_quotes_sync([QuoteRecord("first")])
    (tmp_path / f"log.db{suffix}").unlink()
    with pytest.raises(LogUnavailable, match="removed or replaced"):
        log.record_quotes_sync([QuoteRecord("second")])
    log.close()


def test_a_log_that_is_replaced_under_the_server_acknowledges_nothing_more(tmp_path: Path) -> None:
    log = RequestLog(tmp_path / "log.db")
    log.record_quotes_sync([QuoteRecord("first")])
    shutil.copy(tmp_path / "log.db", tmp_path / "copy.db")
    os.replace(tmp_path / "copy.db", tmp_path / "log.db")
    with pytest.raises(LogUnavailable, match="removed or replaced"):
        log.record_quotes_sync([QuoteRecord("second")])
    log.close()


def test_too_many_waiting_writes_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log_writer, "MAX_WAITING", 0)
    with RequestLog(tmp_path / "log.db") as log, pytest.raises(LogUnavailable, match="cannot keep up"):
        log.record_quotes_sync([QuoteRecord("q")])


def test_a_closed_log_refuses_writes(tmp_path: Path) -> None:
    log = RequestLog(tmp_path / "log.db")
    log.close()
    log.close()
    with pytest.raises(LogUnavailable, match="is closed"):
        log.record_quotes_sync([QuoteRecord("q")])


def test_one_wrong_write_does_not_stop_the_others_of_its_transaction(tmp_path: Path) -> None:
    async def work(log: RequestLog) -> list[object]:
        writes = [log.record_quotes([QuoteRecord(name)]) for name in ("a", "a", "b")]
        return list(await asyncio.gather(*writes, return_exceptions=True))

    with RequestLog(tmp_path / "log.db") as log:
        results = asyncio.run(work(log))
        assert [type(result) for result in results] == [type(None), InputError, type(None)]
        assert [record.quote_id for record in log.read_quotes()] == ["a", "b"]


def test_a_cancelled_write_leaves_the_log_usable(tmp_path: Path) -> None:
    async def work(log: RequestLog) -> None:
        task = asyncio.ensure_future(log.record_quotes([QuoteRecord("cancelled")]))
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await log.record_quotes([QuoteRecord("next")])

    with RequestLog(tmp_path / "log.db") as log:
        asyncio.run(work(log))
        assert "next" in [record.quote_id for record in log.read_quotes()]


def test_a_log_in_a_folder_that_cannot_be_written_is_read(tmp_path: Path) -> None:
    if os.geteuid() == 0:
        pytest.skip("root writes everywhere")
    folder = tmp_path / "archive"
    folder.mkdir()
    with RequestLog(folder / "log.db") as log:
        log.record_quotes_sync([QuoteRecord("q")])
    folder.chmod(0o500)
    try:
        assert len(LogReader(folder / "log.db").read_quotes()) == 1
    finally:
        folder.chmod(0o700)
