"""The tab "Drift": a sentence, charts and a table of what the log holds."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi.testclient import TestClient
from tests.serve.conftest import Open
from tests.serve.pages.test_price_page import words

from pricesmith.serve.pages.day_chart import build_chart


@pytest.fixture
def client(open_client: Open, drift_log: Path) -> Iterator[TestClient]:
    """A client of a server with that log."""
    with open_client(log_path=drift_log) as opened:
        yield opened


def test_the_tab_says_what_was_found_without_a_path_of_the_machine(client: TestClient, drift_log: Path) -> None:
    page = client.get("/drift").text
    assert "100 % too high" in words(page)
    assert "Refit: pricesmith curate LOG --from-feedback" in words(page)
    assert str(drift_log.parent) not in page
    assert page.count('<svg role="img"') == 5
    assert "Day by day" in page


def test_sold_prices_show_how_far_the_quotes_are_from_them(client: TestClient) -> None:
    page = words(client.get("/sold").text)
    assert "Quotes are 100 % too high" in page
    assert "Inside the range" in page


def test_a_day_that_is_none_is_an_error_inside_the_page(client: TestClient) -> None:
    answer = client.get("/drift?since=<b>never")
    assert answer.status_code == 422
    assert "This is not a date" in answer.text
    assert "<b>" not in answer.text
    assert client.get("/drift?model=none").status_code == 404


def test_a_model_without_quotes_says_so(client: TestClient) -> None:
    assert "No quotes of this model in this time" in client.get("/drift?model=median").text


def test_without_a_log_the_tab_says_how_to_start_one(open_client: Open) -> None:
    with open_client() as client:
        assert "pricesmith serve MODEL --log FILE" in client.get("/drift").text


def test_a_chart_stays_inside_its_frame_and_leaves_gaps() -> None:
    days = ["2026-10-01", "2026-10-02", "2026-10-05"]
    chart = build_chart("PSI", days, [0.1, 0.4, 0.2], "{:.2f}".format, levels=[(0.25, "large")])
    assert chart is not None
    assert chart.words == "PSI, 3 days: 0.10 to 0.40, last 0.20 on 2026-10-05."
    assert len(chart.lines) == 1
    for mark in chart.marks:
        assert 0 <= float(mark.x.rstrip("%")) <= 100
        assert 22 <= float(mark.y) <= 104
    assert build_chart("PSI", days, [None] * 3, str) is None
    one = build_chart("PSI", ["2026-10-01"], [0.0], "{:.2f}".format)
    assert one is not None
    assert re.fullmatch(r"PSI: 0\.00 on 2026-10-01\.", one.words)
