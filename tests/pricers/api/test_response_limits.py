"""An answer takes no longer than it may and is no larger."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest

from pricesmith.pricers.api import response_limits
from pricesmith.pricers.api.budget import Budget
from pricesmith.pricers.api.pricer import ApiPricer, PromptOptions
from pricesmith.pricers.api.response_cache import ResponseCache
from pricesmith.pricers.api.response_limits import LimitedStream, limit_response, start_clock
from pricesmith.testing import FakeEndpoint, make_items

WARES = [item.listing for item in make_items(3, seed=5)[0]]
REQUEST = httpx2.Request("POST", "http://127.0.0.1/v1/chat/completions")


class Endless(httpx2.SyncByteStream):
    """A body that never ends."""

    def __iter__(self) -> Iterator[bytes]:
        while True:
            yield b"x" * 1_000


def test_a_body_that_drips_is_timed_out_as_a_whole(tmp_path: Path) -> None:
    """A byte now and then is no answer: it is tried again, and counted at its worst."""
    with FakeEndpoint(faults={0: "drip"}) as fake, ResponseCache(tmp_path / "a.sqlite") as answers:
        purse = Budget()
        pricer = ApiPricer(fake.endpoint(), PromptOptions(), answers, purse, currency="USD", timeout=0.4)
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
    monkeypatch.setattr(response_limits, "MOST_BYTES", 10_000)
    with pytest.raises(httpx2.DecodingError, match="over 10,000 bytes"):
        list(LimitedStream(Endless(), REQUEST, time.monotonic() + 60))


def test_a_packed_body_is_not_unpacked(tmp_path: Path) -> None:
    """It was not asked for, and a small one may be of any size."""
    request = httpx2.Request("POST", "http://127.0.0.1/v1", headers={"Accept-Encoding": "gzip"})
    start_clock(request)
    assert request.headers["accept-encoding"] == "identity"
    reply = httpx2.Response(200, headers={"content-encoding": "gzip"}, stream=Endless(), request=request)
    with pytest.raises(httpx2.DecodingError, match="packed"):
        limit_response(reply, 1.0)
