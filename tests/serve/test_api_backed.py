"""A served cascade that asks an API model: its daily budget, and its own price if the endpoint is down."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.serve.conftest import Open

import pricesmith as ps
from pricesmith.pricers.api.client import ApiClient
from pricesmith.serve.log import LogReader
from pricesmith.serve.spending import read_day
from pricesmith.testing import FakeEndpoint, make_csv

BODY = {"text": "Cobalt drill, size 12 kg, {} months old"}


@pytest.fixture(scope="module")
def endpoint() -> Iterator[FakeEndpoint]:
    with FakeEndpoint() as fake:
        yield fake


@pytest.fixture
def cascade(
    endpoint: FakeEndpoint,
    served_catalog: Path,
    served_models: dict[str, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> dict[str, Path]:
    """A cascade that asks about every listing, and an empty cache of responses."""
    monkeypatch.setattr(ApiClient, "sleep", lambda *_: None)
    monkeypatch.setenv("PRICESMITH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("MADE_KEY", endpoint.key)
    second = f"api:made@url={endpoint.url},key=MADE_KEY,price=1000/1000"
    settings: dict[str, Any] = {"first": str(served_models["ridge"]), "second": second, "share": 1.0}
    ps.fit("cascade", served_catalog, tmp_path / "cascade", **settings)
    endpoint.requests.clear()
    return {"cascade": tmp_path / "cascade"}


def test_the_fee_is_in_the_answer_and_counts_for_the_day(
    open_client: Open, cascade: dict[str, Path], tmp_path: Path
) -> None:
    log = tmp_path / "shop.requests.db"
    with open_client(cascade, log_path=log, api_budget_per_day=100.0) as client:
        answers = [client.post("/v1/price", json={"text": BODY["text"].format(n)}).json() for n in range(3)]
        assert all(answer["cost_usd"] > 0 for answer in answers)
        assert not any("not asked" in answer["note"] or "priced by" in answer["note"] for answer in answers), answers
    spent = LogReader(log).spending(read_day())
    assert spent == pytest.approx(sum(answer["cost_usd"] for answer in answers))


def test_a_spent_budget_leaves_the_own_price_and_says_so(
    open_client: Open, cascade: dict[str, Path], served_models: dict[str, Path], endpoint: FakeEndpoint, tmp_path: Path
) -> None:
    log = tmp_path / "shop.requests.db"
    with open_client(cascade, log_path=log, api_budget_per_day=0.000001) as client:
        answer = client.post("/v1/price", json={"text": BODY["text"].format(7)}).json()
    own = ps.load(served_models["ridge"]).predict(BODY["text"].format(7))
    assert answer["price"] == pytest.approx(own.price, abs=0.006)
    assert "not asked: the budget is spent" in answer["note"]
    assert answer["cost_usd"] == 0
    assert endpoint.requests == []


def test_an_endpoint_that_is_down_leaves_the_own_price_and_says_so(
    open_client: Open, cascade: dict[str, Path], endpoint: FakeEndpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(endpoint, "faults", lambda number, times: "500")
    with open_client(cascade, api_timeout=1.0) as client:
        answer = client.post("/v1/price", json={"text": BODY["text"].format(8)}).json()
        assert answer["price"] > 0
        assert "priced by ridge" in answer["note"]
    monkeypatch.setattr(endpoint, "faults", {})


def test_a_price_that_asks_an_api_model_is_not_explained(
    open_client: Open, cascade: dict[str, Path], endpoint: FakeEndpoint
) -> None:
    """An explanation would ask it once for each word."""
    with open_client(cascade, api_budget_per_day=100.0) as client:
        answer = client.post("/v1/price?explain=true", json={"text": BODY["text"].format(1)})
    assert (answer.status_code, answer.json()["error"]["what"]) == (422, "This model does not explain its prices")
    assert endpoint.requests == []


def test_a_file_costs_what_the_day_allows(open_client: Open, cascade: dict[str, Path], tmp_path: Path) -> None:
    table = make_csv(tmp_path / "new.csv", 12, seed=8).read_bytes()
    with open_client(cascade, api_budget_per_day=100.0, uploads=tmp_path / "uploads") as client:
        id = client.post("/v1/files", files={"file": ("new.csv", table)}).json()["id"]
        deadline = time.monotonic() + 240
        while (state := client.get(f"/v1/files/{id}").json())["state"] not in ("done", "failed"):
            assert time.monotonic() < deadline
            time.sleep(0.05)
        assert (state["state"], state["priced"]) == ("done", 12)
        metrics = client.get("/metrics").text
        spent = next(line for line in metrics.splitlines() if line.startswith("pricesmith_api_usd_today "))
        assert float(spent.split()[1]) > 0
        assert "pricesmith_api_usd_per_day 100.0" in metrics
