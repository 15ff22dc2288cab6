"""Metrics for Prometheus: what the server has done, with no label from a request."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fastapi.testclient import TestClient
from prometheus_client.parser import text_string_to_metric_families

TEXT = "Cobalt drill, size 12 kg"


class Samples(dict[frozenset[str], float]):
    """The values of samples, each by its name and the values of its labels in any order."""

    def of(self, *names: str) -> float:
        return self[frozenset(names)]


def read(client: TestClient) -> Samples:
    """All samples."""
    answer = client.get("/metrics")
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    return Samples(
        (frozenset({sample.name, *sample.labels.values()}), sample.value)
        for family in text_string_to_metric_families(answer.text)
        for sample in family.samples
    )


def test_requests_listings_and_batches_are_counted(open_client: Any, tmp_path: Path) -> None:
    with open_client(log_path=tmp_path / "log.db") as client:
        client.post("/v1/price", json={"text": TEXT})
        client.post("/v1/price/batch", json={"listings": [TEXT, "x", TEXT]})
        client.post("/v1/price", json={"text": "x"})
        values = read(client)
    assert values.of("pricesmith_requests_total", "/v1/price", "POST", "200") == 1
    assert values.of("pricesmith_requests_total", "/v1/price", "POST", "422") == 1
    assert values.of("pricesmith_request_seconds_count", "/v1/price/batch") == 1
    assert values.of("pricesmith_listings_total", "ridge") == 5
    assert values.of("pricesmith_listings_without_price_total", "ridge") == 2
    assert values.of("pricesmith_batch_listings_bucket", "ridge", "1.0") == 2
    assert values.of("pricesmith_batch_listings_bucket", "ridge", "+Inf") == 3
    assert values.of("pricesmith_batch_listings_sum", "ridge") == 5
    assert values.of("pricesmith_waiting_listings", "ridge") == 0
    assert values.of("pricesmith_log_rows", "quotes") == 3
    assert values.of("pricesmith_ready") == 1
    assert any({"pricesmith_model_info", "ridge"} <= key for key in values)


def test_no_label_comes_from_a_request(client: TestClient) -> None:
    client.get("/secret-path-1")
    client.get("/v1/files/secret-path-2")
    client.request("SECRET", "/v1/price")
    client.get("/v1/models", headers={"host": "secret.example"})
    text = client.get("/metrics").text
    assert "secret" not in text.lower()
    assert read(client).of("pricesmith_requests_total", "other", "GET", "404") == 1


def test_each_application_has_its_own_metrics(open_client: Any) -> None:
    with open_client() as client:
        client.post("/v1/price", json={"text": TEXT})
    with open_client() as client:
        assert read(client).of("pricesmith_listings_total", "ridge") == 0
