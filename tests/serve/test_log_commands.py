"""`pricesmith log`: what is in a log, and deleting it."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest

from pricesmith.cli import run
from pricesmith.serve.log import FeedbackRecord, LogReader, QuoteRecord, RequestLog

SECRET = "mahogany-secretaire"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A log of two models, with quotes and sold prices of two days."""
    path = tmp_path / "shop.requests.db"
    for day in (1, 2):
        with RequestLog(path, now=lambda day=day: datetime(2026, 10, day, tzinfo=UTC)) as log:
            log.record_quotes_sync([QuoteRecord(f"q{day}", model="shop", identity=f"{day}" * 64)])
            log.record_feedback_sync(FeedbackRecord(f"f{day}", 1.0, "USD", title=SECRET if day == 1 else "chair"))
    return path


def test_a_log_is_counted_by_model(path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert run(["log", "show", str(path)]) == 0
    assert "111111111111" in capfd.readouterr().out
    assert run(["log", "show", str(path), "--json"]) == 0
    rows = json.loads(capfd.readouterr().out)
    assert [(row["model"], row["quotes"], row["feedback"]) for row in rows] == [
        ("", 0, 2),
        ("shop", 1, 0),
        ("shop", 1, 0),
    ]
    assert (rows[0]["first_day"], rows[0]["last_day"]) == ("2026-10-01", "2026-10-02")


def test_what_is_older_than_a_day_is_deleted(path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert run(["log", "rm", str(path), "--before", "2026-10-02"]) == 0
    assert "Deleted: 1 quote and 1 sold price." in capfd.readouterr().out
    assert SECRET.encode() not in b"".join(file.read_bytes() for file in path.parent.glob("shop*"))
    assert LogReader(path).count_rows() == {"quotes": 1, "feedback": 1}


def test_one_sold_price_is_deleted(path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert run(["log", "rm", str(path), "--feedback", "f1", "--json"]) == 0
    assert json.loads(capfd.readouterr().out) == {"quotes": 0, "feedback": 1, "erased": True}
    assert run(["log", "rm", str(path), "--feedback", "f1"]) == 2
    assert "no sold price with this id" in capfd.readouterr().err


def test_wrong_commands_change_nothing(path: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert run(["log", "rm", str(path)]) == 2
    assert run(["log", "rm", str(path), "--before", "2026-10-02", "--feedback", "f1"]) == 2
    assert run(["log", "rm", str(path), "--before", "yesterday"]) == 1
    assert run(["log", "rm", str(tmp_path / "none.db"), "--before", "2026-10-02"]) == 1
    assert run(["log", "show", str(tmp_path / "none.db")]) == 1
    assert not (tmp_path / "none.db").exists()
    with RequestLog(path):
        capfd.readouterr()
        assert run(["log", "rm", str(path), "--before", "2026-10-02"]) == 2
        assert "Another process writes the log" in capfd.readouterr().err
    assert LogReader(path).count_rows() == {"quotes": 2, "feedback": 2}
