"""An answer takes no longer than it may and is no larger."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest

from pricesmith.pricers.hosted import bounds
from pricesmith.pricers.hosted.answers import Answers
from pricesmith.pricers.hosted.bounds import Bounded, begin, bounded
from pricesmith.pricers.hosted.frontier import Asked, FrontierPricer
from pricesmith.pricers.hosted.purse import Purse
from pricesmith.testing import FakeEndpoint, made_items

WARES = [item.listing for item in made_items(3, seed=5)[0]]
REQUEST = httpx2.Request("POST", "http://127.0.0.1/v1/chat/completions")


class Endless(httpx2.SyncByteStream):
    """A body that never ends."""

    def __iter__(self) -> Iterator[bytes]:
        while True:
            yield b"x" * 1_000


def test_a_body_that_drips_is_timed_out_as_a_whole(tmp_path: Path) -> None:
    """A byte now and then is no answer: it is tried again, and counted at its worst."""
    with FakeEndpoint(faults={0: "drip"}) as fake, Answers(tmp_path / "a.sqlite") as answers:
        purse = Purse()
        pricer = FrontierPricer(fake.endpoint(), Asked(), answers, purse, currency="USD", timeout=0.4)
        pricer.wire.back_off = 0.001
        began = time.perf_counter()
        quotes = pricer.price(WARES)
        took = time.perf_counter() - began
        pricer.close()
    assert [quote.price for quote in quotes] == [24, 24, 24]
    assert pricer.wire.faults == {"time-out": 1}
    assert purse.lost > 0
    assert took < 5


def test_a_body_without_end_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    """It may not fill the memory."""
    monkeypatch.setattr(bounds, "MOST_BYTES", 10_000)
    with pytest.raises(httpx2.DecodingError, match="over 10,000 bytes"):
        list(Bounded(Endless(), REQUEST, time.monotonic() + 60))


def test_a_packed_body_is_not_unpacked(tmp_path: Path) -> None:
    """It was not asked for, and a small one may be of any size."""
    request = httpx2.Request("POST", "http://127.0.0.1/v1", headers={"Accept-Encoding": "gzip"})
    begin(request)
    assert request.headers["accept-encoding"] == "identity"
    reply = httpx2.Response(200, headers={"content-encoding": "gzip"}, stream=Endless(), request=request)
    with pytest.raises(httpx2.DecodingError, match="packed"):
        bounded(reply, 1.0)
