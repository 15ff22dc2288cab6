"""Prices of a model whose listings are rewritten first: of a server, and of a file."""

from __future__ import annotations

import csv
from datetime import date
from pathlib import Path

import pytest
from fastapi.testclient import TestClient
from tests.rewriting.conftest import Rewritten

import pricesmith as ps
from pricesmith.cli import run
from pricesmith.serve.app import create_app
from pricesmith.serve.service import ServeSettings, Service

BODY = {"title": "Cobalt drill Q77", "text": "Size: 12 kg\nColor: blue", "category": "drill", "brand": "Cobalt"}


@pytest.fixture(scope="module")
def ridge(rewritten: Rewritten) -> Path:
    """A model that was fitted on the rewritten catalog."""
    return ps.fit("ridge", rewritten.catalog, rewritten.catalog.path.with_name("ridge")).path


@pytest.fixture
def service(ridge: Path) -> Service:
    """A server of the model with a budget that covers some requests a day."""
    return Service({"ridge": ridge}, ServeSettings(api_budget_per_day=0.02))


def test_a_server_rewrites_listings_within_its_daily_budget(rewritten: Rewritten, service: Service) -> None:
    """When the budget is spent a listing has no price and says why; the next day it has one again."""
    day = date(2026, 3, 1)
    service.spending.today, service.spending.day = (lambda: day), day
    sent = len(rewritten.fake.requests)
    with TestClient(create_app(service), "http://127.0.0.1:8000") as client:
        first = client.post("/v1/price", json=BODY).json()
        assert first["price"] > 0
        assert client.post("/v1/price", json=BODY).json()["price"] == first["price"]
        assert len(rewritten.fake.requests) == sent + 1
        service.spending.budget.spent = 0.02
        unpriced = client.post("/v1/price", json={**BODY, "title": "Cobalt drill Q78"}).json()
        assert unpriced["price"] is None
        assert "the listing could not be rewritten; not asked: the budget is spent" in unpriced["note"]
        day = date(2026, 3, 2)
        assert client.post("/v1/price", json={**BODY, "title": "Cobalt drill Q78"}).json()["price"] > 0
        assert client.get("/v1/models").json()["models"][0]["asks_api"]


def test_a_file_is_priced_within_a_budget(
    rewritten: Rewritten, ridge: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Rows that the budget does not cover have no price, and a note; what was spent is printed."""
    path, to = tmp_path / "new.csv", tmp_path / "prices.csv"
    rows = [f"Aster hose R{number},Size: 8 kg,hose,Aster" for number in range(6)]
    path.write_text("\n".join(["name,description,category,brand", *rows]), encoding="utf-8")
    before = rewritten.fake.billed_usd(1.0, 2.0)
    assert run(["price", str(ridge), "--file", str(path), "--to", str(to), "--budget", "0.0095"]) == 0
    output = capsys.readouterr().out
    with to.open(encoding="utf-8") as file:
        priced = list(csv.DictReader(file))
    unpriced = [row for row in priced if not row["price"]]
    assert 0 < len(unpriced) < 6
    assert all("not asked: the budget is spent" in row["note"] for row in unpriced)
    assert f"It could not be asked about {len(unpriced)} (the budget is spent)" in output
    assert rewritten.fake.billed_usd(1.0, 2.0) - before <= 0.0095
