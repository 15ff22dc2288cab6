"""A provider's list of models says when one is shut down; whatever else it says stops nothing."""

from __future__ import annotations

import datetime
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.pricers.api.test_claims import Notes
from tests.pricers.api.test_client import LISTINGS, answer, build_pricer

from pricesmith.pricers.api.eval_report import ApiCostReporter
from pricesmith.pricers.api.limits import Budget
from pricesmith.pricers.api.model_list import find_shutdown, read_shutdown
from pricesmith.pricers.api.response_cache import ResponseCache
from pricesmith.testing import FakeEndpoint

TODAY = datetime.date(2026, 11, 29)


def find(folder: Path, models: list[dict[str, Any]], *, key: str = "", lists: bool = True) -> datetime.date | None:
    """The day that a fake endpoint with these models names."""
    with FakeEndpoint(answer, models=models) as fake, ResponseCache(folder / "a.sqlite") as cache:
        client = build_pricer(fake, cache, Budget()).client
        client.endpoint = replace(client.endpoint, lists_shutdowns=lists, key=key or fake.key)
        try:
            return find_shutdown(client, TODAY)
        finally:
            client.close()
            assert fake.requests == []


def test_the_day_of_the_models_entry_is_read(tmp_path: Path) -> None:
    """Not that of another model; no question is sent for it."""
    models = [
        {"id": "other", "shutdown_date": "2026-12-01"},
        {"id": "made-model", "object": "model", "shutdown_date": "2027-01-14"},
    ]
    assert find(tmp_path, models) == datetime.date(2027, 1, 14)
    assert find(tmp_path, models, lists=False) is None


def test_an_evaluation_warns_of_the_day_that_the_provider_names(tmp_path: Path) -> None:
    """Before its requests; the table's day counts where the provider names none."""
    for models, day in (([{"id": "made-model", "shutdown_date": "2999-01-14"}], "2999-01-14"), ([], "2999-02-01")):
        notes = Notes()
        with FakeEndpoint(answer, models=models) as fake, ResponseCache(tmp_path / f"{day}.sqlite") as cache:
            pricer = build_pricer(fake, cache, Budget(), progress=notes)
            listed = datetime.date(2999, 2, 1)
            pricer.endpoint = replace(pricer.endpoint, lists_shutdowns=True, shutdown=listed, replacement="made-2")
            pricer.client.endpoint = pricer.endpoint
            ApiCostReporter(pricer, dict).before(LISTINGS[:1])
            pricer.close()
        assert f"made-model is shut down on {day}; named replacement made-2." in notes.notes


def test_a_day_in_the_past_is_left_to_the_provider(tmp_path: Path) -> None:
    """It may still serve the model; if not, its first error says so."""
    assert find(tmp_path, [{"id": "made-model", "shutdown_date": "2026-11-29"}]) is None


def test_a_provider_that_cannot_be_asked_stops_nothing(tmp_path: Path) -> None:
    """Nor does one without a list."""
    with FakeEndpoint(answer) as fake, ResponseCache(tmp_path / "a.sqlite") as cache:
        client = build_pricer(fake, cache, Budget()).client
        client.endpoint = replace(client.endpoint, lists_shutdowns=True, url=f"{fake.url}/nowhere")
        assert find_shutdown(client, TODAY) is None
    assert find_shutdown(client, TODAY) is None
    client.close()


@pytest.mark.parametrize(
    "value",
    [
        *(None, [], 3, {}, {"data": 3}, {"data": [3]}, {"data": [{"id": "m"}]}),
        *({"data": [{"id": "m", "shutdown_date": day}]} for day in (None, 0, "soon", "2027-13-01", ["2027-01-01"])),
    ],
)
def test_a_list_of_another_form_names_no_day(value: Any) -> None:
    """Nothing in it is trusted."""
    assert read_shutdown(value, "m") is None


def test_a_time_after_the_day_is_left_out() -> None:
    """Some write both."""
    value = {"data": [{"id": "m", "shutdown_date": "2027-01-14T00:00:00Z"}]}
    assert read_shutdown(value, "m") == datetime.date(2027, 1, 14)
