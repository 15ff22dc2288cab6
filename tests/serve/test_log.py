"""The log of a server: what is stored, read, deleted and remembered."""

from __future__ import annotations

import asyncio
import sqlite3
import stat
import threading
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pytest

from pricesmith.core.errors import InputError, UsageError
from pricesmith.core.types import Listing, Quote, render
from pricesmith.serve import log_file
from pricesmith.serve.log import (
    FeedbackRecord,
    LogReader,
    QuoteRecord,
    RequestLog,
    StoredAnswer,
    default_log_path,
    new_quote_id,
)

DRILL = Listing("1", "Cordless drill", "18 V, two batteries", "tools", "Makita")
SECRET = "mahogany-secretaire"


class Clock:
    """A clock that is set by hand."""

    def __init__(self) -> None:
        self.time = datetime(2026, 10, 3, 8, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.time


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "shop.requests.db"


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def log(path: Path, clock: Clock) -> Iterator[RequestLog]:
    with RequestLog(path, now=clock) as log:
        yield log


def build(log: RequestLog, listing: Listing = DRILL, price: float | None = 24.5) -> QuoteRecord:
    quote = Quote(price, 20.0, 30.0, nothing_similar=False, note="as usual", seconds=0.002)
    return log.build_quote(listing, quote, model="shop", identity="3f", currency="USD", key_name="website")


def stored_bytes(path: Path) -> bytes:
    """All bytes of a log and its journal."""
    return b"".join(file.read_bytes() for file in path.parent.glob(f"{path.name}*"))


def test_a_quote_is_read_as_it_was_recorded(log: RequestLog) -> None:
    record = build(log)
    log.record_quotes_sync([record])
    stored = record._replace(at="2026-10-03T08:00:00.000Z")
    assert log.read_quotes() == [stored]
    assert record.chars == sum(len(part) for part in render_parts(DRILL))
    assert log.find_quote(record.quote_id) == stored
    assert log.find_quote("another") is None


def test_quotes_are_recorded_from_asyncio_by_many_tasks_at_once(log: RequestLog) -> None:
    async def work() -> None:
        await asyncio.gather(*(log.record_quotes([build(log, price=1.0 + n)]) for n in range(200)))

    asyncio.run(work())
    assert {record.price for record in log.read_quotes()} == {1.0 + n for n in range(200)}


def test_quotes_are_recorded_by_many_threads_at_once(log: RequestLog) -> None:
    threads = [threading.Thread(target=lambda: log.record_quotes_sync([build(log)])) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert log.count_rows() == {"quotes": 20, "feedback": 0}


def test_a_listing_without_a_quote_has_its_reason_as_the_note(log: RequestLog) -> None:
    record = log.build_quote(DRILL, Quote(None, raw="too short"), model="shop", identity="3f", currency="USD")
    log.record_quotes_sync([record])
    (stored,) = log.read_quotes()
    assert (stored.price, stored.note) == (None, "too short")


def test_a_quote_id_is_stored_once(log: RequestLog) -> None:
    record = build(log)
    log.record_quotes_sync([record])
    with pytest.raises(InputError, match="in the log already"):
        log.record_quotes_sync([build(log), record])
    assert [stored.quote_id for stored in log.read_quotes()] == [record.quote_id]


def test_texts_of_quotes_are_stored_only_when_asked(path: Path, tmp_path: Path) -> None:
    listing = Listing("1", SECRET, "An old desk")
    with RequestLog(path) as log:
        log.record_quotes_sync([build(log, listing), QuoteRecord("q", text=SECRET)])
        assert SECRET.encode() not in stored_bytes(path)
    with RequestLog(tmp_path / "texts.db", store_text=True) as log:
        log.record_quotes_sync([build(log, listing)])
        assert log.read_quotes()[0].text == render(listing)


def test_equal_listings_have_equal_hashes_in_one_log_only(path: Path, tmp_path: Path) -> None:
    with RequestLog(path) as log, RequestLog(tmp_path / "other.db") as other:
        assert log.hash_listing(DRILL) == log.hash_listing(Listing("2", *render_parts(DRILL)))
        assert log.hash_listing(DRILL) != log.hash_listing(Listing("1", "Cordless drill", "18 V"))
        assert log.hash_listing(DRILL) != other.hash_listing(DRILL)
        before = log.hash_listing(DRILL)
    with RequestLog(path) as log:
        assert log.hash_listing(DRILL) == before


def render_parts(listing: Listing) -> tuple[str, str, str, str]:
    return listing.title, listing.text, listing.category, listing.brand


def test_odd_text_is_stored(log: RequestLog) -> None:
    log.record_quotes_sync([QuoteRecord("q", note="NUL \0, half a pair \ud800")])
    feedback = FeedbackRecord("f", 20.0, "USD", title="\ud800 NUL \0", fields={"Größe \ud800": "10\0"})
    log.record_feedback_sync(feedback)
    assert log.read_quotes()[0].note == "NUL \0, half a pair ?"
    (stored,) = log.read_feedback()
    assert stored.title == "? NUL \0"
    assert stored.fields == {"Größe \ud800": "10\0"}


def test_quotes_since_a_day_and_of_one_model(log: RequestLog, clock: Clock) -> None:
    for day in (1, 2, 3):
        clock.time = datetime(2026, 10, day, 0, tzinfo=UTC)
        log.record_quotes_sync([build(log, price=float(day))])
    assert [record.price for record in log.read_quotes("2026-10-02")] == [2.0, 3.0]
    assert [record.price for record in log.read_quotes(date(2026, 10, 3))] == [3.0]
    assert log.read_quotes(identity="another") == []
    with pytest.raises(InputError, match="not a date"):
        log.read_quotes("tomorrow")


def test_feedback_copies_the_quote_that_was_given(log: RequestLog) -> None:
    record = build(log)
    log.record_quotes_sync([record])
    given = FeedbackRecord(
        "f", 20.0, "EUR", title="Drill", fields={"color": "red"}, sold_on="2026-10-03", quote_id=record.quote_id
    )
    stored = log.record_feedback_sync(given)
    assert log.read_feedback() == [stored]
    assert (stored.model, stored.identity, stored.price, stored.low, stored.high) == ("shop", "3f", 24.5, 20.0, 30.0)
    assert (stored.currency, stored.quote_currency) == ("EUR", "USD")
    assert stored.listing_hash == record.listing_hash
    assert stored.fields == {"color": "red"}


def test_feedback_on_a_quote_that_is_not_in_the_log_keeps_what_the_caller_gave(log: RequestLog) -> None:
    async def work() -> FeedbackRecord:
        return await log.record_feedback(
            FeedbackRecord("f", 20.0, "USD", title="Drill", quote_id="lost", price=18.0, identity="aa")
        )

    stored = asyncio.run(work())
    assert (stored.price, stored.identity) == (18.0, "aa")
    assert stored.listing_hash == log.hash_listing(Listing("", "Drill", ""))
    with pytest.raises(InputError, match="feedback_id"):
        asyncio.run(work())


@pytest.mark.parametrize("price", [0.0, -1.0, float("nan"), float("inf")])
def test_a_sold_price_must_be_above_zero(price: float) -> None:
    with pytest.raises(InputError, match="above 0"):
        FeedbackRecord("f", price, "USD")


def test_a_sale_has_a_date(log: RequestLog) -> None:
    with pytest.raises(InputError, match="not a date"):
        FeedbackRecord("f", 1.0, "USD", sold_on="3 October")


def test_a_log_is_read_while_it_is_written(log: RequestLog, path: Path) -> None:
    log.record_quotes_sync([build(log) for _ in range(5000)])
    rows = LogReader(path).iter_quotes()
    next(rows)
    log.record_quotes_sync([build(log)])
    assert sum(1 for _ in rows) == 4999
    assert len(LogReader(path).read_quotes()) == 5001


def test_deleted_feedback_is_gone_from_the_file(log: RequestLog, path: Path) -> None:
    for number in range(300):
        text = f"{SECRET} {number} " * (1 + number % 40 * 5)
        log.record_feedback_sync(FeedbackRecord(f"f{number}", 20.0, "USD", title=f"chair {number}", text=text))
    log.record_feedback_sync(FeedbackRecord("last", 20.0, "USD", title="only-here", text="x" * 9000))
    assert b"only-here" in stored_bytes(path)
    assert log.delete_feedback_sync("last").erased
    assert b"only-here" not in stored_bytes(path)
    assert len(log.read_feedback()) == 300
    deleted = asyncio.run(log.delete_before("2026-10-04"))
    assert (deleted.feedback, deleted.erased) == (300, True)
    assert SECRET.encode() not in stored_bytes(path)


def test_a_deletion_by_date_keeps_what_is_newer(path: Path, clock: Clock) -> None:
    with RequestLog(path, store_text=True, now=clock) as log:
        log.record_quotes_sync([build(log, Listing("1", SECRET, ""))])
        log.record_feedback_sync(FeedbackRecord("f", 20.0, "USD", title=SECRET))
        clock.time += timedelta(days=1)
        log.record_quotes_sync([build(log)])
        deleted = log.delete_before_sync(date(2026, 10, 4))
        assert (deleted.quotes, deleted.feedback) == (1, 1)
        assert SECRET.encode() not in stored_bytes(path)
        assert [record.text for record in log.read_quotes()] == [render(DRILL)]


def test_a_deletion_says_if_a_reader_keeps_the_text_in_the_journal(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log_file, "WAIT_SECONDS", 0.01)
    log = RequestLog(path)
    log.record_feedback_sync(FeedbackRecord("f", 20.0, "USD", title=SECRET))
    connection = sqlite3.connect(path)
    connection.execute("BEGIN")
    connection.execute("SELECT count(*) FROM feedback").fetchone()
    assert not log.delete_feedback_sync("f").erased
    connection.close()
    log.close()
    assert SECRET.encode() not in stored_bytes(path)


def test_a_key_is_new_then_in_progress_then_answered(log: RequestLog) -> None:
    assert log.reserve_sync("k", "/v1/feedback", "b").state == "new"
    assert log.reserve_sync("k", "/v1/feedback", "b").state == "in progress"
    assert log.reserve_sync("k", "/v1/feedback", "other").state == "conflict"
    assert log.reserve_sync("k", "/v1/price", "b").state == "conflict"
    assert log.reserve_sync("k", "/v1/feedback", "b", "another API key").state == "new"
    log.finish_sync(StoredAnswer("k", "", 201, b'{"id": 1}'))
    answered = log.reserve_sync("k", "/v1/feedback", "b")
    assert answered.state == "stored"
    assert answered.answer == StoredAnswer("k", "", 201, b'{"id": 1}')


def test_a_failed_request_releases_its_key(log: RequestLog) -> None:
    async def work() -> list[str]:
        states = [(await log.reserve("k", "/", "b")).state]
        await log.release("k")
        return [*states, (await log.reserve("k", "/", "b")).state]

    assert asyncio.run(work()) == ["new", "new"]


def test_answers_survive_a_restart_and_unanswered_keys_are_free_again(path: Path, clock: Clock) -> None:
    with RequestLog(path, now=clock) as log:
        log.reserve_sync("unanswered", "/", "b")
        log.reserve_sync("answered", "/", "b")
        log.record_feedback_sync(FeedbackRecord("f", 1.0, "USD"), StoredAnswer("answered", "", 201, b"{}"))
    with RequestLog(path, now=clock) as log:
        assert log.reserve_sync("answered", "/", "b").state == "stored"
        assert log.reserve_sync("unanswered", "/", "b").state == "new"


def test_an_answer_is_stored_with_its_rows_or_not_at_all(log: RequestLog) -> None:
    record = build(log)
    log.record_quotes_sync([record])
    log.reserve_sync("k", "/", "b")
    with pytest.raises(InputError):
        log.record_quotes_sync([record], StoredAnswer("k", "", 200, b"[]"))
    assert log.reserve_sync("k", "/", "b").state == "in progress"


def test_keys_are_forgotten_after_a_day(log: RequestLog, clock: Clock) -> None:
    log.reserve_sync("k", "/", "b")
    log.finish_sync(StoredAnswer("k", "", 200, b"{}"))
    clock.time += timedelta(hours=23, minutes=59)
    assert log.reserve_sync("k", "/", "b").state == "stored"
    clock.time += timedelta(minutes=2)
    assert log.reserve_sync("k", "/", "other").state == "new"


def test_spending_of_a_day_survives_a_restart(path: Path) -> None:
    today = date(2026, 10, 3)
    with RequestLog(path) as log:
        assert log.spending(today) == 0.0
        assert log.record_spending_sync(today, 0.5) == 0.5
        assert asyncio.run(log.record_spending(today, -0.2)) == pytest.approx(0.3)
    with RequestLog(path) as log:
        assert log.spending(today) == pytest.approx(0.3)
        assert log.spending(date(2026, 10, 4)) == 0.0
        assert log.record_spending_sync(today, -9.0) == 0.0


def test_identifiers_are_uuids_that_sort_by_time(monkeypatch: pytest.MonkeyPatch) -> None:
    import uuid

    identifiers = []
    for milliseconds in (1, 2, 3):
        monkeypatch.setattr("time.time_ns", lambda milliseconds=milliseconds: milliseconds * 1_000_000)
        identifiers.append(new_quote_id())
    assert identifiers == sorted(identifiers)
    assert {uuid.UUID(text).version for text in identifiers} == {7}
    assert {uuid.UUID(text).variant for text in identifiers} == {uuid.RFC_4122}
    assert len({new_quote_id() for _ in range(1000)}) == 1000


def test_only_the_owner_can_read_a_log(log: RequestLog, path: Path) -> None:
    log.record_quotes_sync([build(log)])
    assert {stat.S_IMODE(file.stat().st_mode) for file in path.parent.glob("*.db*") if file.suffix != ".lock"} == {
        0o600
    }


def test_a_second_writer_is_refused(log: RequestLog, path: Path) -> None:
    with pytest.raises(UsageError, match="Another process writes the log"):
        RequestLog(path)
    log.record_quotes_sync([build(log)])


def test_a_closed_log_can_be_opened_again(path: Path) -> None:
    for _ in range(3):
        with RequestLog(path) as log:
            log.record_quotes_sync([build(log)])
    assert [file.name for file in path.parent.iterdir() if file.name.endswith((".lock", "-wal"))] == []
    assert len(LogReader(path).read_quotes()) == 3


def test_the_usual_log_is_beside_the_model_or_its_build(tmp_path: Path) -> None:
    assert default_log_path(tmp_path / "ridge") == tmp_path / "ridge.requests.db"
    (tmp_path / "out" / "models" / "ridge").mkdir(parents=True)
    (tmp_path / "out" / "build.toml").write_text('generator = "pricesmith build"\n')
    assert default_log_path(tmp_path / "out" / "models" / "ridge") == tmp_path / "out.requests.db"
    assert default_log_path(tmp_path / "out") == tmp_path / "out.requests.db"
