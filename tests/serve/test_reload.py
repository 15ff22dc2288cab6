"""A model is replaced while it serves: a broken folder changes nothing, and nothing is dropped."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from fastapi.testclient import TestClient
from tests.serve.conftest import Open

from pricesmith.serve.keys import add_key

BODY = {"text": "Cobalt drill, size 12 kg"}


@pytest.fixture
def headers(tmp_path: Path) -> dict[str, str]:
    return {"authorization": f"Bearer {add_key(tmp_path / 'keys.json', 'admin')}"}


def identity(client: TestClient, headers: dict[str, str]) -> str:
    """The identity of the model that is served."""
    return str(client.get("/v1/models", headers=headers).json()["models"][0]["identity"])


def test_a_new_model_in_the_folder_is_served_after_a_reload(
    open_client: Open, model_copy: Path, served_models: dict[str, Path], headers: dict[str, str]
) -> None:
    with open_client({"shop": model_copy}, keys_path=model_copy.parent / "keys.json") as client:
        before = client.post("/v1/price", json=BODY, headers=headers).json()["price"]
        same = client.post("/v1/models/reload", json={}, headers=headers).json()
        assert (same["switched"], same["comparison"]) == (
            False,
            "The folder holds the model that is served already.",
        )
        shutil.rmtree(model_copy)
        shutil.copytree(served_models["median"], model_copy)
        answer = client.post("/v1/models/reload", json={"model": "shop"}, headers=headers)
        assert answer.status_code == 200
        assert answer.json()["switched"]
        assert answer.json()["identity"] == identity(client, headers) != answer.json()["old_identity"]
        assert client.post("/v1/price", json=BODY, headers=headers).json()["price"] != before


@pytest.mark.parametrize("damage", ["gone", "unfinished", "changed"])
def test_a_broken_folder_leaves_the_old_model_serving(
    open_client: Open, model_copy: Path, headers: dict[str, str], damage: str
) -> None:
    with open_client({"shop": model_copy}, keys_path=model_copy.parent / "keys.json") as client:
        before = identity(client, headers), client.post("/v1/price", json=BODY, headers=headers).json()["price"]
        if damage == "gone":
            shutil.rmtree(model_copy)
        elif damage == "unfinished":
            (model_copy / "manifest.json").unlink()
        else:
            path = model_copy / "calibration.json"
            path.write_text(path.read_text().replace("0", "1"))
        answer = client.post("/v1/models/reload", json={}, headers=headers)
        assert answer.status_code == 422
        assert set(answer.json()["error"]) == {"what", "got", "allowed", "next", "request_id"}
        assert client.get("/ready").status_code == 200
        after = identity(client, headers), client.post("/v1/price", json=BODY, headers=headers).json()["price"]
        assert after == before


def test_a_model_that_is_significantly_worse_is_refused_unless_forced(
    open_client: Open,
    model_copy: Path,
    served_models: dict[str, Path],
    served_catalog: Path,
    headers: dict[str, str],
) -> None:
    keys = model_copy.parent / "keys.json"
    with open_client({"shop": model_copy}, keys_path=keys, catalog=served_catalog) as client:
        before = identity(client, headers)
        shutil.rmtree(model_copy)
        shutil.copytree(served_models["median"], model_copy)
        refused = client.post("/v1/models/reload", json={}, headers=headers)
        assert refused.status_code == 409
        assert "significantly" in refused.json()["error"]["got"]
        assert identity(client, headers) == before
        forced = client.post("/v1/models/reload", json={"force": True}, headers=headers).json()
        assert forced["switched"]
        assert forced["comparison"] == refused.json()["error"]["got"]
        shutil.rmtree(model_copy)
        shutil.copytree(served_models["ridge"], model_copy)
        better = client.post("/v1/models/reload", json={}, headers=headers).json()
        assert better["switched"]
        assert identity(client, headers) == before
