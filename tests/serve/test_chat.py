"""The chat API: an OpenAI client, and our own `api:`, get the price of /v1/price."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import openai
import pytest
from fastapi.testclient import TestClient
from tests.serve.conftest import ServerProcess

import pricesmith as ps
from pricesmith.candidates import items_by_id
from pricesmith.catalog.catalog import open_catalog
from pricesmith.core.types import Listing, render
from pricesmith.pricers.api.formats.chat_completions import PRICE_SCHEMA
from pricesmith.serve.chat import read_rendered
from pricesmith.text.prompts import Prompt

TEXT = "Cobalt drill, size 12 kg"


def ask(client: TestClient, content: Any, **more: Any) -> Any:
    return client.post("/v1/chat/completions", json={"messages": [{"role": "user", "content": content}], **more})


def answer_of(response: Any) -> str:
    return response.json()["choices"][0]["message"]["content"]


@pytest.fixture
def price(client: TestClient) -> float:
    """The price of the text over REST."""
    return client.post("/v1/price", json={"text": TEXT}).json()["price"]


def test_the_last_message_of_the_user_is_priced(client: TestClient, price: float) -> None:
    messages = [
        {"role": "system", "content": "You price things."},
        {"role": "user", "content": "Aster lamp"},
        {"role": "assistant", "content": "30"},
        {"role": "user", "content": [{"type": "text", "text": TEXT}]},
    ]
    answer = client.post("/v1/chat/completions", json={"messages": messages, "temperature": 0, "max_tokens": 5}).json()
    assert float(answer["choices"][0]["message"]["content"]) == price
    assert answer["usage"] == {"prompt_tokens": 11, "completion_tokens": 1, "total_tokens": 12}
    assert (answer["object"], answer["model"]) == ("chat.completion", "ridge")


def test_json_has_the_properties_of_the_schema(client: TestClient, price: float) -> None:
    assert json.loads(answer_of(ask(client, TEXT, response_format=PRICE_SCHEMA))) == {"price": price}
    whole = {"type": "json_schema", "json_schema": {"schema": {"properties": {"price": {"type": "integer"}}}}}
    assert json.loads(answer_of(ask(client, TEXT, response_format=whole))) == {"price": round(price)}
    everything = json.loads(answer_of(ask(client, TEXT, response_format={"type": "json_object"})))
    assert set(everything) == {"price", "low", "high", "currency", "note"}
    other = {"type": "json_schema", "json_schema": {"schema": {"properties": {"cost": {}}}}}
    assert ask(client, TEXT, response_format=other).status_code == 422


def test_the_question_of_our_own_prompt_is_not_priced(client: TestClient, price: float) -> None:
    assert float(answer_of(ask(client, Prompt().asked(TEXT)))) == price
    refused = ask(client, Prompt(currency="EUR").asked(TEXT))
    assert (refused.status_code, refused.json()["error"]["what"]) == (422, "This model prices in USD")


def test_a_rendered_listing_is_read_back(served_catalog: Path) -> None:
    odd = Listing("", "Hose", "Category: none\n25 m", "garden", "")
    for item in [*open_catalog(served_catalog).items("test")[:20]]:
        read = read_rendered(render(item.listing))
        title = read.title or read.text.partition("\n")[0]
        assert (title, read.category, read.brand) == (item.listing.title, item.listing.category, item.listing.brand)
    assert read_rendered(render(odd)).category == "garden"


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"messages": []}, 422),
        ({"messages": [{"role": "system", "content": TEXT}]}, 422),
        ({"messages": [{"role": "user", "content": "x"}]}, 422),
        ({"messages": [{"role": "user", "content": None}]}, 422),
        ({"messages": [{"role": "nobody", "content": TEXT}]}, 422),
        ({"messages": [{"role": "user", "content": TEXT}], "model": "gpt-9"}, 404),
        ({"messages": [{"role": "user", "content": TEXT}], "n": 100}, 422),
    ],
)
def test_a_wrong_chat_is_refused(client: TestClient, body: dict[str, Any], status: int) -> None:
    answer = client.post("/v1/chat/completions", json=body)
    assert (answer.status_code, set(answer.json())) == (status, {"error"})


def test_an_openai_client_gets_answers_streams_and_models(
    server: ServerProcess, served_models: dict[str, Path]
) -> None:
    quote = ps.load(served_models["ridge"]).predict(TEXT)
    with openai.OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0) as client:
        assert [model.id for model in client.models.list()] == ["ridge", "median"]
        assert client.models.retrieve("median").owned_by == "pricesmith"
        messages: Any = [{"role": "user", "content": TEXT}]
        answer = client.chat.completions.create(model="ridge", messages=messages, n=2, temperature=0.7)
        assert [float(choice.message.content or 0) for choice in answer.choices] == [round(quote.price, 2)] * 2
        parts = list(
            client.chat.completions.create(
                model="ridge", messages=messages, stream=True, stream_options={"include_usage": True}
            )
        )
        text = "".join(choice.delta.content or "" for part in parts for choice in part.choices)
        assert float(text) == round(quote.price, 2)
        assert parts[-1].usage.total_tokens == 6
        with pytest.raises(openai.NotFoundError, match="no model of this name"):
            client.chat.completions.create(model="gpt-9", messages=messages)


def test_an_evaluation_of_the_served_model_is_that_of_the_model(
    server: ServerProcess, served_models: dict[str, Path], served_catalog: Path, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setenv("PRICESMITH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    model = ps.load(served_models["ridge"])
    board = ps.evaluate([f"api:ridge@url={server.url}/v1"], served_catalog, tmp_path / "evals", limit=40)
    assert board["api-ridge"].n == 40
    rows = board.evaluation("api-ridge").rows
    items = items_by_id(open_catalog(served_catalog))
    quotes = model.price([items[row.id].listing for row in rows])
    assert [row.price for row in rows] == pytest.approx([quote.price for quote in quotes], abs=0.006)
