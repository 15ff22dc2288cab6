"""A model's batches are divided into parts and give the same answers, here or in other processes."""

from __future__ import annotations

import pickle
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pytest import approx  # noqa: PT013

import pricesmith as ps
from pricesmith.core.errors import UsageError
from pricesmith.core.types import Listing
from pricesmith.pricers import KINDS
from pricesmith.pricers.model import PriceModel, load_model
from pricesmith.serve.loaded_model import (
    DIVISIBLE,
    MIN_DIVIDED,
    PART,
    Answer,
    EngineLimits,
    LoadedModel,
    PricingRequest,
    answer_requests,
    can_divide,
    check_listings,
    divide_requests,
    find_comparables,
    join_answers,
    price_listings,
    price_requests,
)
from pricesmith.serve.schemas import Described, ListingInput
from pricesmith.testing import make_items

SMALL = {"sparse_mlp": {"ensemble_size": 1, "embedding_dim": 16, "hidden_dim": 16, "epochs": 1}}


@pytest.fixture(scope="module")
def models(served_catalog: Path, served_models: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Fits a kind of model when it is first asked for; members of hybrids are a ridge and a knn."""
    folder = tmp_path_factory.mktemp("divided")
    folders = dict(served_models)

    def find(kind: str) -> Path:
        if kind not in folders:
            settings: dict[str, Any] = dict(SMALL.get(kind, {}))
            if kind == "blend":
                settings["members"] = [str(find("ridge")), str(find("knn"))]
            if kind == "cascade":
                settings |= {"first": str(find("ridge")), "second": str(find("knn")), "share": 0.3}
            ps.fit(kind, served_catalog, folder / kind, **settings)
            folders[kind] = folder / kind
        return folders[kind]

    return find


def make_requests() -> list[PricingRequest]:
    """Requests of different lengths, one of them with a listing that cannot be priced."""
    items, _ = make_items(400, seed=5)
    texts: list[Described] = [f"{item.listing.title}\n{item.listing.text}" for item in items]
    texts[150] = "x"
    texts[310] = ListingInput(title="Aster lamp", brand="Aster", text="3 kg")
    ids = [f"q{number}" for number in range(len(texts))]
    places = [0, 1, 1, 100, 230, 400]
    return [
        PricingRequest(texts[start:end], ids[start:end], comparables)
        for start, end, comparables in zip(places, places[1:], (0, 3, 2, 0, 1), strict=False)
    ]


def comparable_form(answers: list[list[Answer]]) -> list[list[Any]]:
    """Answers as values that can be compared."""
    return [
        [(own.listing, own.row, own.comparables, own.not_given, own.error and str(own.error)) for own in request]
        for request in answers
    ]


def wait_until_ready(loaded: LoadedModel, processes: int) -> None:
    """Wait until so many processes can price."""
    end = time.monotonic() + 240
    while loaded.processes < processes:
        assert time.monotonic() < end
        time.sleep(0.02)


@given(st.lists(st.integers(0, 9), max_size=8), st.integers(1, 12))
def test_parts_have_all_listings_in_order_and_answers_go_back_to_their_requests(lengths: list[int], size: int) -> None:
    requests = []
    for number, length in enumerate(lengths):
        names: list[Described] = [f"{number}-{place}" for place in range(length)]
        requests.append(PricingRequest(names, [str(name) for name in names], number))
    parts = list(divide_requests(requests, size))
    counts = [sum(len(request.listings) for request in part) for part in parts]
    assert counts == [size] * (sum(lengths) // size) + [sum(lengths) % size] * bool(sum(lengths) % size)
    answers = [
        [[Answer(Listing(id, str(request.comparables), "")) for id in request.ids] for request in part]
        for part in parts
    ]
    joined = join_answers(requests, answers)
    assert [[own.listing.id for own in request if own.listing] for request in joined] == [
        list(request.ids) for request in requests
    ]
    assert all(own.listing and own.listing.title == str(number) for number, own in enumerate_answers(joined))


def enumerate_answers(joined: list[list[Answer]]) -> Iterator[tuple[int, Answer]]:
    """Each answer with the number of its request."""
    return ((number, own) for number, request in enumerate(joined) for own in request)


@pytest.mark.parametrize("kind", ["median", "ridge", "knn", "blend", "cascade"])
def test_a_divided_batch_has_the_same_answers_to_the_last_bit(kind: str, models: Any) -> None:
    loaded = LoadedModel.open(models(kind), EngineLimits())
    requests = make_requests()
    whole = comparable_form(price_requests(loaded, requests))
    for size in (PART, 7):
        parts = [price_requests(loaded, part) for part in divide_requests(requests, size)]
        assert comparable_form(join_answers(requests, parts)) == whole
    listings = [own[0] for request in whole for own in request if own[0]]
    flat = loaded.model.price(listings)
    assert [
        quote for start in range(0, 399, PART) for quote in loaded.model.price(listings[start : start + PART])
    ] == flat


def test_a_divided_batch_of_a_sparse_mlp_differs_in_the_last_digits_of_single_precision(models: Any) -> None:
    """A product of matrices adds up in an order that depends on the number of rows."""
    loaded = LoadedModel.open(models("sparse_mlp"), EngineLimits())
    listings = [item.listing for item in make_items(400, seed=5)[0]]
    whole = [quote.price for quote in loaded.model.price(listings)]
    parts = [
        quote.price for start in range(0, 400, PART) for quote in loaded.model.price(listings[start : start + PART])
    ]
    assert parts == approx(whole, rel=2e-6)


def test_other_processes_give_the_same_answers(models: Any) -> None:
    """Also what a file of listings needs: quotes, comparables and flags."""
    loaded = LoadedModel.open(models("blend"), EngineLimits(batch_processes=2))
    requests = make_requests()
    whole = comparable_form(price_requests(loaded, requests))
    assert comparable_form(answer_requests(loaded, requests)) == whole  # no process is started
    listings = [item.listing for item in make_items(400, seed=6)[0]]
    quotes = loaded.model.price(listings)
    rows = [(listing, quote, 2) for listing, quote in zip(listings, quotes, strict=True)]
    near, flags = loaded.model.find_comparables(listings, 2, quotes=quotes), loaded.model.nothing_similar(listings)
    try:
        loaded.start_processes()
        wait_until_ready(loaded, 2)
        for _ in range(3):
            assert comparable_form(answer_requests(loaded, requests)) == whole
            assert loaded.map_rows(price_listings, listings) == quotes
            assert loaded.map_rows(find_comparables, rows) == near
            assert loaded.map_rows(check_listings, listings) == flags
        assert loaded.processes == 2  # none of them failed
    finally:
        loaded.close()
    assert comparable_form(answer_requests(loaded, requests)) == whole


def test_only_large_batches_are_divided(models: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    loaded = LoadedModel.open(models("ridge"), EngineLimits(batch_processes=2))
    assert loaded.pool is not None
    calls: list[int] = []

    def record(function: Any, parts: list[Any], price_here: Any) -> list[Any]:
        calls.append(len(parts))
        return [price_here(part) for part in parts]

    monkeypatch.setattr(loaded.pool, "map", record)
    monkeypatch.setattr(type(loaded.pool), "ready", 1)
    texts: list[Described] = [f"Cobalt drill, size {number} kg" for number in range(MIN_DIVIDED)]
    for count in (MIN_DIVIDED - 1, MIN_DIVIDED):
        (answers,) = answer_requests(loaded, [PricingRequest(texts[:count], [""] * count)])
        assert len(answers) == count
        assert len(loaded.map_rows(price_listings, [Listing("", "Cobalt drill", "")] * count)) == count
    assert calls == [MIN_DIVIDED // PART] * 2
    assert loaded.map_rows(price_listings, []) == []


def test_language_models_and_unknown_kinds_are_not_divided(models: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    ridge, blend = load_model(models("ridge")), load_model(models("blend"))
    assert can_divide(ridge)
    assert can_divide(blend)
    assert LoadedModel.open(models("ridge"), EngineLimits()).pool is None  # one process
    for kind in ("lora_tokens", "lora_bins", "encoder", "plugin"):
        with monkeypatch.context() as patch:
            patch.setattr(type(ridge.recipe), "kind", kind)
            assert not can_divide(ridge)
            assert not can_divide(blend)  # its first member
    assert set(KINDS) - DIVISIBLE == {"lora_tokens", "lora_bins", "encoder"}


def test_models_that_ask_an_api_model_are_not_divided(models: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(PriceModel, "asks_api", True)
    assert not can_divide(load_model(models("ridge")))
    answers = SimpleNamespace(price=lambda listings: [])  # a member that is a file of answers
    monkeypatch.setattr(PriceModel, "asks_api", False)
    blend = load_model(models("blend"))
    blend.pricer.pricer.pricer.members.append(answers)  # type: ignore[attr-defined]
    assert not can_divide(blend)


def test_an_error_keeps_its_four_parts_on_the_way() -> None:
    error = UsageError("There is too little to price", got="'x'", allowed="3 letters", hint="Describe the thing.")
    answer = pickle.loads(pickle.dumps(Answer(error=error)))  # noqa: S301
    assert str(answer.error) == str(error)
    assert type(answer.error) is UsageError
