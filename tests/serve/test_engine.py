"""The engine: what waits is priced together, a model is replaced between two batches, one request fails alone."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

import pricesmith as ps
from pricesmith.core.types import Listing, Quote
from pricesmith.pricers.model import PriceModel
from pricesmith.serve.engine import Engine
from pricesmith.serve.errors import ServeError
from pricesmith.serve.loaded_model import Answer, EngineLimits, LoadedModel

TEXT = "Cobalt drill, size 12 kg"


class GatedModel:
    """Wraps a model: records its batches, waits at a gate, and fails for listings that hold a word."""

    def __init__(self, model: PriceModel, fails_at: str = "") -> None:
        self.model, self.fails_at = model, fails_at
        self.gate, self.entered = threading.Event(), threading.Event()
        self.batches: list[int] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self.model, name)

    def price(self, listings: Sequence[Listing], **options: Any) -> list[Quote]:
        self.batches.append(len(listings))
        self.entered.set()
        assert self.gate.wait(240)
        if self.fails_at and any(self.fails_at in listing.title for listing in listings):
            raise RuntimeError("a listing that the model cannot price")
        return self.model.price(listings, **options)


async def open_gated(folder: Path, limits: EngineLimits | None = None, fails_at: str = "") -> tuple[Engine, GatedModel]:
    """An engine whose model waits at a gate."""
    engine = await Engine.open("ridge", folder, limits)
    gated = GatedModel(engine.model, fails_at)
    engine.loaded.model = gated  # type: ignore[assignment]
    return engine, gated


async def until_entered(gated: GatedModel) -> None:
    """Wait until the model is pricing."""
    assert await asyncio.to_thread(gated.entered.wait, 30)


def test_requests_that_wait_are_priced_in_one_batch(served_models: dict[str, Path]) -> None:
    async def run() -> tuple[list[int], list[Any]]:
        engine, gated = await open_gated(served_models["ridge"])
        first = asyncio.create_task(engine.price([TEXT], ["1"]))
        await until_entered(gated)
        others = [asyncio.create_task(engine.price([f"{TEXT} {n}"], [str(n)])) for n in range(20)]
        await asyncio.sleep(0)
        gated.gate.set()
        answers = [await task for task in (first, *others)]
        await engine.close()
        return gated.batches, answers

    batches, answers = asyncio.run(run())
    assert batches == [1, 20]
    model = ps.load(served_models["ridge"])
    assert answers[5][1][0].row.price == pytest.approx(model.predict(f"{TEXT} 4").price, abs=0.005)
    assert [answer[1][0].listing.id for answer in answers[1:]] == [str(n) for n in range(20)]


def test_a_full_queue_is_refused_with_the_time_to_wait(served_models: dict[str, Path]) -> None:
    async def run() -> ServeError:
        engine, gated = await open_gated(served_models["median"], EngineLimits(waiting=10))
        first = asyncio.create_task(engine.price([TEXT], ["1"]))
        await until_entered(gated)
        waiting = asyncio.create_task(engine.price([TEXT] * 10, [str(n) for n in range(10)]))
        await asyncio.sleep(0)
        with pytest.raises(ServeError) as refused:
            await engine.price([TEXT], ["2"])
        gated.gate.set()
        assert len((await waiting)[1]) == 10
        await first
        assert len((await engine.price([TEXT], ["3"]))[1]) == 1  # there is room again
        await engine.close()
        return refused.value

    error = asyncio.run(run())
    assert error.status == 429
    assert int(error.headers["Retry-After"]) >= 1


def test_one_request_that_fails_does_not_fail_those_that_waited_with_it(served_models: dict[str, Path]) -> None:
    async def run() -> list[Any]:
        engine, gated = await open_gated(served_models["ridge"], fails_at="Cursed")
        first = asyncio.create_task(engine.price([TEXT], ["0"]))
        await until_entered(gated)
        texts = [TEXT, "Cursed drill, 12 kg", "Aster lamp, 3 kg"]
        tasks = [asyncio.create_task(engine.price([text], [text])) for text in texts]
        await asyncio.sleep(0)
        gated.gate.set()
        results = await asyncio.gather(first, *tasks, return_exceptions=True)
        await engine.close()
        return results

    results = asyncio.run(run())
    assert [isinstance(result, RuntimeError) for result in results] == [False, False, True, False]


def test_a_client_that_has_gone_is_not_priced(served_models: dict[str, Path]) -> None:
    async def run() -> list[int]:
        engine, gated = await open_gated(served_models["median"])
        first = asyncio.create_task(engine.price([TEXT], ["1"]))
        await until_entered(gated)
        gone = asyncio.create_task(engine.price([TEXT] * 7, [str(n) for n in range(7)]))
        await asyncio.sleep(0)
        gone.cancel()
        gated.gate.set()
        await first
        assert engine.waiting in (0, 7)
        await engine.price([TEXT], ["2"])
        assert engine.waiting == 0
        await engine.close()
        return gated.batches

    assert asyncio.run(run()) == [1, 1]


def test_a_swap_waits_for_the_batch_in_work_and_drops_nothing(served_models: dict[str, Path]) -> None:
    async def run() -> tuple[list[str], list[str]]:
        engine, gated = await open_gated(served_models["ridge"])
        old = engine.loaded
        first = asyncio.create_task(engine.price([TEXT], ["1"]))
        await until_entered(gated)
        later = [asyncio.create_task(engine.price([TEXT], [str(n)])) for n in range(5)]
        await asyncio.sleep(0)
        new = await asyncio.to_thread(LoadedModel.open, served_models["median"], EngineLimits())
        swap = asyncio.create_task(engine.swap(new))
        await asyncio.sleep(0.01)
        assert not swap.done()
        gated.gate.set()
        assert await swap is old
        kinds = [(await task)[0].model.manifest["kind"] for task in (first, *later)]
        await engine.close()
        return kinds, [engine.model.manifest["kind"]]

    kinds, now = asyncio.run(run())
    assert kinds == ["ridge", *["median"] * 5]
    assert now == ["median"]


def test_a_stopped_engine_answers_what_waits_with_503(served_models: dict[str, Path]) -> None:
    async def run() -> BaseException:
        engine, gated = await open_gated(served_models["median"])
        first = asyncio.create_task(engine.price([TEXT], ["1"]))
        await until_entered(gated)
        waiting = asyncio.create_task(engine.price([TEXT], ["2"]))
        await asyncio.sleep(0)
        gated.gate.set()
        await engine.close()
        results = await asyncio.gather(first, waiting, return_exceptions=True)
        return results[1]  # type: ignore[return-value]

    error = asyncio.run(run())
    assert isinstance(error, ServeError)
    assert error.status == 503


def test_a_long_request_is_priced_whole_and_answered_in_order(served_models: dict[str, Path]) -> None:
    texts = [f"Cobalt drill, size {n} kg" for n in range(1_500)]

    async def run() -> list[Answer]:
        engine = await Engine.open("ridge", served_models["ridge"])
        _, answers = await engine.price(texts, [str(n) for n in range(1_500)], comparables=1)
        await engine.close()
        return answers

    answers = asyncio.run(run())
    quotes = ps.load(served_models["ridge"]).predict(texts)
    assert [answer.listing.id for answer in answers] == [str(n) for n in range(1_500)]
    assert [answer.row.price for answer in answers] == pytest.approx([quote.price for quote in quotes], abs=0.0051)
    assert all(len(answer.comparables) == 1 for answer in answers)
