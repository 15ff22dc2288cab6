"""Who has claims is seen to live for as long as its process does."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

from pricesmith.pricers.api.owner import DAY, Owner

SCRIPT = """
import sys, time
from pathlib import Path
from pricesmith.pricers.api.owner import Owner
owner = Owner(Path(sys.argv[1]))
owner.lock()
print(owner.name, flush=True)
time.sleep(60)
"""


def test_an_owner_lives_until_it_is_closed(tmp_path: Path) -> None:
    """It begins to live when it locks; nothing is left of it."""
    one, other = Owner(tmp_path), Owner(tmp_path)
    assert not other.is_living(one.name)
    one.lock()
    one.lock()
    assert other.is_living(one.name)
    assert one.is_living(one.name)
    one.close()
    assert not other.is_living(one.name)
    assert list(tmp_path.iterdir()) == []


def test_an_owner_dies_with_its_process(tmp_path: Path) -> None:
    """Also where that was killed; its file is removed."""
    process = subprocess.Popen([sys.executable, "-c", SCRIPT, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    name = process.stdout.readline().strip()
    owner = Owner(tmp_path)
    assert owner.is_living(name)
    process.kill()
    process.wait(60)
    process.stdout.close()
    assert not owner.is_living(name)
    assert list(tmp_path.iterdir()) == []


def test_old_files_of_killed_processes_are_removed_and_those_of_living_ones_stay(tmp_path: Path) -> None:
    """Only a day later: a new file may be about to be locked."""
    living = Owner(tmp_path)
    living.lock()
    for name, age in (("old", 2 * DAY), ("new", 0.0), (living.name, 2 * DAY)):
        path = tmp_path / name
        path.touch()
        os.utime(path, (time.time() - age,) * 2)
    owner = Owner(tmp_path)
    owner.lock()
    assert {path.name for path in tmp_path.iterdir()} == {"new", living.name, owner.name}
    owner.close()
    living.close()
