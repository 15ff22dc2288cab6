"""The tab "How good is it?": the figures of the evaluations, as the report has them."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from fastapi.testclient import TestClient
from tests.serve.conftest import Open
from tests.serve.pages.test_price_page import words

import pricesmith as ps
from pricesmith.reporting.data import build_report_data
from pricesmith.serve.pages import quality


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first page has the figures, however long they take."""
    monkeypatch.setattr(quality, "PATIENCE", 300)


def test_the_tab_says_what_the_report_says(open_client: Open, served_evals: Path) -> None:
    data = build_report_data(served_evals)
    with open_client(evals=served_evals) as client:
        page = words(client.get("/quality").text)
        for sentence in data.sentences:
            assert " ".join(sentence.split()) in page.replace("&#39;", "'")
        for row in data.leaderboard:
            assert f"{row.name} served here" in page
        report = client.get("/quality/report.html")
    assert report.headers["content-disposition"] == 'attachment; filename="report.html"'
    assert "<title>" in report.text


def test_a_page_that_waits_for_the_figures_asks_again(
    open_client: Open, served_evals: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(quality, "PATIENCE", 0)
    with open_client(evals=served_evals) as client:
        page = client.get("/quality").text
        assert '<noscript><meta http-equiv="refresh" content="2"></noscript>' in page
        assert 'hx-trigger="load delay:2s' in page
        monkeypatch.setattr(quality, "PATIENCE", 300)
        assert "Leaderboard" in client.get("/quality").text


def test_evaluations_of_other_models_are_called_that(
    open_client: Open, served_evals: Path, served_models: dict[str, Path], served_catalog: Path
) -> None:
    other = served_catalog.with_name("knn")
    ps.fit("knn", served_catalog, other)
    with open_client({"knn": other}, evals=served_evals) as client:
        page = words(client.get("/quality").text)
    assert "knn , which is served here, is not in these evaluations: the figures do not describe it." in page


def test_without_evaluations_the_tab_says_how_to_make_them(client: TestClient) -> None:
    page = words(client.get("/quality").text)
    assert "pricesmith eval" in page
    assert client.get("/quality/report.html").status_code == 404


def test_damaged_evaluations_are_an_error_inside_the_page(
    open_client: Open, served_evals: Path, tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(served_evals, tmp_path / "evals"))
    (folder / "ridge.meta.json").write_text("{")
    with open_client(evals=folder) as client:
        answer = client.get("/quality")
    assert answer.status_code == 422
    assert 'role="alert"' in answer.text
