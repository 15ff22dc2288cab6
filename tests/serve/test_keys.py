"""API keys: made once, stored as hashes, found in constant time, withdrawn while a server runs."""

from __future__ import annotations

import hmac
import json
import os
import stat
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from pricesmith.cli import run
from pricesmith.core.errors import InputError, UsageError
from pricesmith.serve.keys import KeyRing, add_key, default_keys_file, read_keys, remove_key

NOW = datetime(2026, 10, 3, 8, tzinfo=UTC)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "config" / "keys.json"


def test_a_key_is_found_by_its_text_alone(path: Path) -> None:
    website, laptop = add_key(path, "website", per_minute=60), add_key(path, "laptop")
    ring = KeyRing.load(path)
    assert len(ring) == 2
    assert ring.find(website).name == "website"
    assert ring.find(website).per_minute == 60
    assert ring.find(laptop).name == "laptop"
    for wrong in ("", "website", website[:-1], website + "x", website.upper(), "\ud800", "é", "x" * 100_000):
        assert ring.find(wrong) is None
    assert ring.find(read_keys(path)[0].sha256) is None


def test_a_key_has_256_random_bits_and_is_stored_nowhere(path: Path) -> None:
    keys = [add_key(path, f"k{number}") for number in range(20)]
    assert len(set(keys)) == 20
    assert {len(key) for key in keys} == {len("ps_") + 43}
    content = path.read_text()
    for key in keys:
        assert key.removeprefix("ps_") not in content
        assert key[-6:] not in content


def test_only_the_owner_reads_the_file(path: Path) -> None:
    add_key(path, "website")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    path.chmod(0o644)
    add_key(path, "laptop")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [file.name for file in path.parent.iterdir()] == ["keys.json"]


def test_a_file_that_others_may_write_is_refused(path: Path) -> None:
    add_key(path, "website")
    path.chmod(0o622)
    with pytest.raises(InputError, match="Other users may write"):
        KeyRing.load(path)


def test_every_key_is_compared_in_constant_time(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    keys = [add_key(path, f"k{number}") for number in range(5)]
    ring = KeyRing.load(path)
    calls = []
    compare = hmac.compare_digest
    monkeypatch.setattr(hmac, "compare_digest", lambda a, b: calls.append(a) or compare(a, b))
    for presented in (keys[0], keys[4], "wrong"):
        calls.clear()
        ring.find(presented)
        assert len(calls) == 5


def test_a_key_expires(path: Path) -> None:
    key = add_key(path, "website", days=30, now=lambda: NOW)
    later = KeyRing.load(path, now=lambda: NOW + timedelta(days=30))
    assert later.find(key) is None
    assert len(later) == 0
    assert KeyRing.load(path, now=lambda: NOW + timedelta(days=29, hours=23)).find(key) is not None


def test_a_removed_key_is_refused_by_a_ring_that_is_open(path: Path) -> None:
    website = add_key(path, "website")
    ring = KeyRing.load(path)
    laptop = add_key(path, "laptop")
    assert ring.find(laptop).name == "laptop"
    remove_key(path, "website")
    assert ring.find(website) is None
    assert ring.find(laptop) is not None


def test_without_a_file_no_key_is_valid(path: Path) -> None:
    ring = KeyRing.load(path)
    assert len(ring) == 0
    key = add_key(path, "website")
    assert ring.find(key) is not None
    path.unlink()
    assert ring.find(key) is None


def test_a_file_that_is_damaged_later_validates_no_key_and_says_why(path: Path) -> None:
    key = add_key(path, "website")
    ring = KeyRing.load(path)
    path.write_text("{")
    path.chmod(0o600)
    assert ring.find(key) is None
    assert "damaged" in ring.problem


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "damaged"),
        ("[]", "damaged"),
        ('{"keys": []}', "not a file of keys"),
        ('{"generator": "pricesmith keys", "format": 2, "keys": []}', "later version"),
        ('{"generator": "pricesmith keys", "format": 1, "keys": [{"name": "a"}]}', "damaged"),
        ('{"generator": "pricesmith keys", "format": 1, "keys": 3}', "damaged"),
    ],
)
def test_another_file_is_refused_and_not_touched(path: Path, content: str, message: str) -> None:
    path.parent.mkdir()
    path.write_text(content)
    for work in (lambda: KeyRing.load(path), lambda: add_key(path, "website"), lambda: remove_key(path, "website")):
        with pytest.raises(InputError, match=message):
            work()
    assert path.read_text() == content


@pytest.mark.parametrize("name", ["", " ", "-a", "a b", "../a", "a" * 65, "Größe", "a\n"])
def test_odd_names_are_refused(path: Path, name: str) -> None:
    with pytest.raises(UsageError, match="not a name"):
        add_key(path, name)


def test_a_name_is_used_once(path: Path) -> None:
    add_key(path, "website")
    with pytest.raises(UsageError, match="already"):
        add_key(path, "website")


def test_limits_are_above_zero(path: Path) -> None:
    for limits in ({"days": 0}, {"per_minute": 0}, {"days": 10**9}):
        with pytest.raises(UsageError, match="out of range"):
            add_key(path, "website", **limits)


def test_the_command_shows_a_key_once(
    path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(path.parent))
    assert default_keys_file() == path.parent / "pricesmith" / "keys.json"
    assert run(["keys", "add", "website", "--days", "30", "--rate", "60", "--json"]) == 0
    key = json.loads(capfd.readouterr().out)["key"]
    assert KeyRing.load(default_keys_file()).find(key).name == "website"
    assert run(["keys", "ls"]) == 0
    listed = capfd.readouterr().out
    assert run(["keys", "ls", "--json"]) == 0
    listed += (as_json := capfd.readouterr().out)
    assert json.loads(as_json)[0]["per_minute"] == 60
    assert "website" in listed
    assert key[-6:] not in listed
    assert read_keys(default_keys_file())[0].sha256 not in listed
    assert run(["keys", "rm", "website"]) == 0
    assert run(["keys", "rm", "website"]) == 2
    assert "no key of this name" in capfd.readouterr().err


def test_a_quiet_command_prints_the_key_alone(path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert run(["keys", "add", "website", "--keys", str(path), "--quiet"]) == 0
    assert KeyRing.load(path).find(capfd.readouterr().out.strip()) is not None
    assert run(["keys", "ls", "--keys", str(path), "--quiet"]) == 0
    assert capfd.readouterr().out == ""


def test_keys_are_not_written_into_a_folder_or_pipe(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path, tmp_path / "pipe"):
        with pytest.raises(UsageError):
            add_key(path, "website")
