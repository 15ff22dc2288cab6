"""Answers are remembered as they came, by everything that could have changed them."""

from __future__ import annotations

import errno
import os
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pricesmith.core.errors import InputError
from pricesmith.pricers.api.disk_reserve import RESERVE_BYTES, DiskReserve
from pricesmith.pricers.api.limits import Budget
from pricesmith.pricers.api.pricer import ApiPricer, PromptOptions
from pricesmith.pricers.api.response_cache import STALE_SECONDS, ClaimOwner, Completion, ResponseCache, cache_key
from pricesmith.testing import FakeEndpoint, make_items

SAID = Completion('{"price": 24}', "stop", 60, 5, 0.0001, 0.8)
TURNS = [{"role": "user", "content": "a hose \ud83d\x00"}]


def test_what_is_kept_comes_back_from_another_process_s_file(tmp_path: Path) -> None:
    """Words, tokens, seconds and dollars, unknown ones as unknown."""
    unknown = Completion("I can't", "refusal", None, None, None, 0.2)
    with ResponseCache(tmp_path / "deep" / "a.sqlite") as cache:
        cache.store("one", "url", "model", SAID)
        cache.store("two", "url", "model", unknown)
    with ResponseCache(tmp_path / "deep" / "a.sqlite") as cache:
        assert cache.find(["one", "two", "three"]) == {"one": SAID, "two": unknown}


def test_the_key_is_of_everything_that_could_change_the_answer() -> None:
    """Endpoint, model, words, settings."""
    keys = {
        cache_key(url, model, turns, settings)
        for url in ("a", "b")
        for model in ("m", "n")
        for turns in (TURNS, [*TURNS, *TURNS])
        for settings in ({"output": 1}, {"output": 2})
    }
    assert len(keys) == 16
    assert cache_key("a", "m", TURNS, {"x": 1, "y": 2}) == cache_key("a", "m", TURNS, {"y": 2, "x": 1})


def test_the_first_answer_stays(tmp_path: Path) -> None:
    """A second reply to the same request would change results that were already reported."""
    with ResponseCache(tmp_path / "a.sqlite") as cache:
        cache.store("one", "url", "model", SAID)
        cache.store("one", "url", "model", Completion("other", "stop", 1, 1, 0.0, 0.0))
        assert cache.find(["one"])["one"] == SAID


def test_a_mark_stands_until_the_answer_is_kept(tmp_path: Path) -> None:
    """Requests that were sent and never answered are known after a kill."""
    with ResponseCache(tmp_path / "a.sqlite") as cache:
        for key in ("one", "two", "three"):
            assert cache.claim(key) == "claimed"
            cache.mark_sent(key)
        cache.store("one", "url", "model", SAID)
        cache.release("two")
        assert cache.find_unanswered(["one", "two", "three"]) == set()  # still being asked
    with ResponseCache(tmp_path / "a.sqlite") as cache:
        assert cache.find_unanswered(["one", "two", "three", "four"]) == {"three"}


def test_a_question_has_one_claim(tmp_path: Path) -> None:
    """Until it is answered, given back, or its store is closed; nobody else can give it back."""
    with ResponseCache(tmp_path / "a.sqlite") as other:
        with ResponseCache(tmp_path / "a.sqlite") as cache:
            for key in ("one", "two", "three"):
                assert cache.claim(key) == "claimed"
            assert other.claim("one") == os.getpid()
            assert cache.claim("one") == os.getpid()  # another thread of the same store waits, too
            other.release("one")
            assert other.claim("one") == os.getpid()
            cache.store("one", "url", "model", SAID)
            cache.release("two")
            assert other.claim("one") == "answered"
            assert other.claim("two") == "claimed"
            assert other.claim("three") == os.getpid()
        assert other.claim("three") == "claimed"


def test_an_answer_that_another_store_keeps_ends_its_claim(tmp_path: Path) -> None:
    """A reply is used by every process, whichever paid for it."""
    with ResponseCache(tmp_path / "a.sqlite") as cache, ResponseCache(tmp_path / "a.sqlite") as other:
        cache.claim("one")
        other.store("one", "url", "model", SAID)
        assert cache.claim("one") == "answered"
        assert cache.run("SELECT * FROM claims") == []


def test_threads_claim_a_question_once(tmp_path: Path) -> None:
    """Of several stores that want the same fifty questions at once, each question goes to one of them."""
    stores = [ResponseCache(tmp_path / "a.sqlite") for _ in range(4)]
    claimed: list[str] = []

    def work(store: ResponseCache) -> None:
        claimed.extend(str(key) for key in range(50) if store.claim(str(key)) == "claimed")

    threads = [threading.Thread(target=work, args=(store,)) for store in stores]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for store in stores:
        store.close()
    assert sorted(claimed, key=int) == [str(key) for key in range(50)]


def test_a_folder_where_no_lock_can_be_made_is_reported(tmp_path: Path) -> None:
    """As any other fault of the store."""
    (tmp_path / "a.sqlite.owners").write_text("a file")
    with pytest.raises(InputError, match="cannot be used"), ResponseCache(tmp_path / "a.sqlite") as cache:
        cache.claim("one")


def test_threads_share_it(tmp_path: Path) -> None:
    """Many at once lose nothing."""
    with ResponseCache(tmp_path / "a.sqlite") as cache:

        def work(number: int) -> None:
            for request in range(20):
                cache.mark_sent(f"{number}-{request}")
                cache.store(f"{number}-{request}", "url", "model", SAID)

        threads = [threading.Thread(target=work, args=(number,)) for number in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        keys = [f"{number}-{request}" for number in range(6) for request in range(20)]
        assert len(cache.find(keys)) == 120
        assert cache.find_unanswered(keys) == set()


def test_more_keys_than_a_statement_takes(tmp_path: Path) -> None:
    """A catalog of any size is looked up."""
    with ResponseCache(tmp_path / "a.sqlite") as cache:
        cache.store("k1700", "url", "model", SAID)
        assert cache.find(f"k{n}" for n in range(2_000)).keys() == {"k1700"}


@pytest.mark.parametrize("data", [b"no database, " * 100, b"SQLite format 3\x00" + b"\xff" * 4_000])
def test_a_damaged_store_is_reported_and_left_alone(tmp_path: Path, data: bytes) -> None:
    """What is in it was paid for: it is not written over."""
    path = tmp_path / "a.sqlite"
    path.write_bytes(data)
    with pytest.raises(InputError, match="cannot be used") as error, ResponseCache(path) as cache:
        cache.find(["one"])
    assert "damaged" in error.value.hint
    assert path.read_bytes() == data


def test_a_store_of_a_later_version_is_refused(tmp_path: Path) -> None:
    """And not changed."""
    base = sqlite3.connect(tmp_path / "a.sqlite")
    base.execute("PRAGMA user_version = 99")
    base.close()
    with pytest.raises(InputError, match="version 99") as error:
        ResponseCache(tmp_path / "a.sqlite")
    assert "Upgrade Pricesmith" in error.value.hint


def test_a_cache_that_another_command_holds_is_not_called_damaged(tmp_path: Path) -> None:
    """It is waited for, and then the hint says to come back."""
    path = tmp_path / "a.sqlite"
    with ResponseCache(path) as cache:
        cache.run("PRAGMA busy_timeout = 10")
        base = sqlite3.connect(path, isolation_level=None)
        base.execute("BEGIN IMMEDIATE")
        with pytest.raises(InputError, match="locked") as error:
            cache.mark_sent("one")
        base.close()
    assert "Another command is using it" in error.value.hint


def fill(cache: ResponseCache) -> None:
    """Let the database have no more pages, as on a full disk."""
    cache.run(f"PRAGMA max_page_count = {cache.run('PRAGMA page_count')[0][0]}")


def test_an_answer_that_was_paid_for_is_stored_on_a_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the space that was reserved before it was asked for."""
    answer, release = replace(SAID, text="$24 " * 5_000), DiskReserve.release
    with ResponseCache(tmp_path / "a.sqlite") as cache:

        def make_room(reserve: DiskReserve) -> None:
            assert reserve.path.stat().st_size >= RESERVE_BYTES
            release(reserve)
            cache.run("PRAGMA max_page_count = 1000000")

        assert cache.claim("one") == "claimed"
        cache.mark_sent("one")
        fill(cache)
        monkeypatch.setattr(DiskReserve, "release", make_room)
        cache.store("one", "url", "model", answer)
        assert cache.find(["one"]) == {"one": answer}
        assert not cache.reserve.path.exists()


def test_without_room_for_the_answers_nothing_is_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The error says to free disk space; what could not be stored all the same is known to have been sent."""

    def refuse(reserve: DiskReserve) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with FakeEndpoint() as fake, ResponseCache(tmp_path / "a.sqlite") as cache:
        pricer = ApiPricer(fake.endpoint(), PromptOptions(), cache, Budget(), currency="USD")
        listings = [item.listing for item in make_items(2)[0]]
        with monkeypatch.context() as patch:
            patch.setattr(DiskReserve, "hold", refuse)
            with pytest.raises(InputError) as error:
                pricer.price(listings)
        assert "Free disk space" in error.value.hint
        assert fake.requests == []
        answer = fake.answer

        def answer_and_fill(question: str) -> str:
            fill(cache)
            return answer(question) + " " * 19_000

        fake.answer = answer_and_fill
        with pytest.raises(InputError, match="full") as error:
            pricer.price(listings[:1])
        assert "Free disk space" in error.value.hint
        (request,) = pricer.requests(listings[:1])
        cache.run("PRAGMA max_page_count = 1000000")
        assert [key for (key,) in cache.run("SELECT key FROM asked")] == [request.key]
        pricer.close()


def test_how_an_endpoint_is_spoken_to_is_remembered(tmp_path: Path) -> None:
    """For the endpoint and the model."""
    with ResponseCache(tmp_path / "a.sqlite") as cache:
        cache.save_capabilities("url", "model", {"json": False})
        assert cache.load_capabilities("url", "model") == {"json": False}
        assert cache.load_capabilities("url", "other") == {}


OLD_TABLES = """
CREATE TABLE answers (key TEXT PRIMARY KEY, endpoint TEXT NOT NULL, model TEXT NOT NULL,
  text TEXT NOT NULL, finish TEXT NOT NULL, tokens_in INTEGER, tokens_out INTEGER, cost_usd REAL,
  seconds REAL NOT NULL, at REAL NOT NULL, {columns}) WITHOUT ROWID;
CREATE INDEX by_model ON answers (endpoint, model);
CREATE TABLE asked (key TEXT PRIMARY KEY, at REAL NOT NULL{asked}) WITHOUT ROWID;
CREATE TABLE {words} (endpoint TEXT NOT NULL, model TEXT NOT NULL, value TEXT NOT NULL,
  PRIMARY KEY (endpoint, model)) WITHOUT ROWID;
PRAGMA user_version = {version};
"""
OLD_COLUMNS = {
    1: {"columns": "told_usd REAL", "asked": "", "words": "speech"},
    2: {
        "columns": "failed_tries_usd REAL, reported_usd REAL, masked INTEGER",
        "asked": ", pid INTEGER",
        "words": "capabilities",
    },
}
OLD_ROW = "INSERT INTO answers (key, endpoint, model, text, finish, tokens_in, tokens_out, cost_usd, seconds, at"


@pytest.mark.parametrize("version", [1, 2])
def test_a_cache_of_an_older_version_is_upgraded_without_loss(version: int, tmp_path: Path) -> None:
    """Replies cost money: every one stays, with its date; a reported cost of 0 was not the whole cost."""
    path = tmp_path / "a.sqlite"
    base = sqlite3.connect(path)
    base.executescript(OLD_TABLES.format(version=version, **OLD_COLUMNS[version]))
    reported = "told_usd" if version == 1 else "reported_usd"
    row = ("url", "model", '{"price": 24}', "stop", 60, 5)
    for key, cost, told in (("one", 0.0001, 0.5), ("two", 0.0001, None), ("free", 0.0, 0.0)):
        base.execute(f"{OLD_ROW}, {reported}) VALUES ({', '.join('?' * 11)})", (key, *row, cost, 0.8, 1.7e9, told))
    base.execute("INSERT INTO asked (key, at) VALUES ('three', 1.0)")
    base.commit()
    base.close()
    new = Completion("$3", "stop", 60, 45, 0.04, None, 0.04, None, 50, 10, 40, "batch", "model-2027-01-01")
    for _ in range(2):  # the second time nothing is upgraded
        with ResponseCache(path, clock=lambda: 1.8e9) as cache:
            cache.store("four", "url", "model", new)
            known = cache.find(["one", "two", "free", "four"])
            assert cache.find_unanswered(["three"]) == {"three"}
        assert known == {
            "one": replace(SAID, reported_usd=0.5),
            "two": SAID,
            "free": replace(SAID, cost_usd=None),
            "four": new,
        }
        assert {key: known[key].answered_at for key in known} == dict.fromkeys(("one", "two", "free"), 1.7e9) | {
            "four": 1.8e9
        }
    assert "by_model" in {name for (name,) in sqlite3.connect(path).execute("SELECT name FROM sqlite_master")}


def test_the_date_of_an_answer_is_kept(tmp_path: Path) -> None:
    """It decides which price applies: when it was stored, or when a batch job was answered."""
    with ResponseCache(tmp_path / "a.sqlite", clock=lambda: 1_800_000_000.0) as cache:
        cache.store("one", "url", "model", SAID)
        cache.store("two", "url", "model", replace(SAID, answered_at=1_790_000_000.0))
        assert [reply.answered_at for reply in cache.find(["one", "two"]).values()] == [1.8e9, 1.79e9]


SCRIPT = """
import sys, time
from pathlib import Path
from pricesmith.pricers.api.response_cache import ClaimOwner
owner = ClaimOwner(Path(sys.argv[1]))
owner.lock()
print(owner.name, flush=True)
time.sleep(600)
"""


def test_an_owner_lives_until_it_is_closed(tmp_path: Path) -> None:
    """It is alive from its first lock until it is closed, and leaves no file."""
    first, other = ClaimOwner(tmp_path), ClaimOwner(tmp_path)
    assert not other.is_alive(first.name)
    first.lock()
    first.lock()
    assert other.is_alive(first.name)
    assert first.is_alive(first.name)
    first.close()
    assert not other.is_alive(first.name)
    assert list(tmp_path.iterdir()) == []


def test_an_owner_dies_with_its_process(tmp_path: Path) -> None:
    """Also where that was killed; its file is removed."""
    process = subprocess.Popen([sys.executable, "-c", SCRIPT, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    name = process.stdout.readline().strip()
    owner = ClaimOwner(tmp_path)
    assert owner.is_alive(name)
    process.kill()
    process.wait(240)
    process.stdout.close()
    assert not owner.is_alive(name)
    assert list(tmp_path.iterdir()) == []


def test_a_reply_that_arrives_meanwhile_is_not_reported_as_never_answered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another command stores it after the sent requests were read and before their claims are."""
    with ResponseCache(tmp_path / "a.sqlite") as cache, ResponseCache(tmp_path / "a.sqlite") as other:
        assert other.claim("one") == "claimed"
        other.mark_sent("one")
        select, answer = cache.select, threading.Thread(target=other.store, args=("one", "url", "model", SAID))

        def answer_first(statement: str, keys: Iterable[str]) -> list[tuple[Any, ...]]:
            if "claims" in statement:
                answer.start()
                answer.join(0.3)
            return select(statement, keys)

        monkeypatch.setattr(cache, "select", answer_first)
        assert cache.find_unanswered(["one"]) == set()
        answer.join(240)
        assert [*cache.find(["one"])] == ["one"]


def test_old_files_of_killed_processes_are_removed_and_those_of_living_ones_stay(tmp_path: Path) -> None:
    """Only a day later: a new file may be about to be locked."""
    living = ClaimOwner(tmp_path)
    living.lock()
    for name, age in (("old", 2 * STALE_SECONDS), ("new", 0.0), (living.name, 2 * STALE_SECONDS)):
        path = tmp_path / name
        path.touch()
        os.utime(path, (time.time() - age,) * 2)
    owner = ClaimOwner(tmp_path)
    owner.lock()
    assert {path.name for path in tmp_path.iterdir()} == {"new", living.name, owner.name}
    owner.close()
    living.close()


def test_a_key_in_older_replies_is_removed_from_the_disk(tmp_path: Path) -> None:
    """A cache of version 1 stored replies unmasked: the first pricer with that key rewrites them, once."""
    path, key = tmp_path / "a.sqlite", "sk-made-0123456789"
    with ResponseCache(path) as cache:
        cache.store("one", "url", "model", Completion(f"Bearer {key}", "stop", 1, 1, 0.0, 0.1))
        cache.store("two", "url", "model", SAID)
        cache.store("other", "elsewhere", "model", Completion(f"Bearer {key}", "stop", 1, 1, 0.0, 0.1))
    base = sqlite3.connect(path)
    base.execute("UPDATE answers SET masked = NULL")
    base.execute("PRAGMA user_version = 1")
    base.commit()
    base.close()
    with ResponseCache(path) as cache:
        assert cache.mask_older("url", key) == 1
        assert cache.mask_older("url", key) == 0
        assert cache.mask_older("elsewhere", key) == 1
        assert cache.find(["one", "two"]) == {"one": Completion("Bearer [key]", "stop", 1, 1, 0.0, 0.1), "two": SAID}
    for file in tmp_path.glob("a.sqlite*"):
        assert not file.is_file() or key.encode() not in file.read_bytes()
