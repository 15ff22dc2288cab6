"""What moved a price: the factor of each word, line and field."""

from __future__ import annotations

from typing import Any

import pytest
from fastapi.testclient import TestClient

from pricesmith.serve.explain import MAX_PARTS, leave_out_parts
from pricesmith.serve.schemas import ListingInput

TEXT = "Cobalt drill, size 12 kg"


def explain(client: TestClient, body: dict[str, Any]) -> list[dict[str, Any]]:
    answer = client.post("/v1/price?explain=true", json=body)
    assert answer.status_code == 200
    return answer.json()["explanation"]


def test_a_factor_is_the_price_divided_by_the_price_without_the_word(client: TestClient) -> None:
    parts = explain(client, {"text": TEXT})
    price = client.post("/v1/price", json={"text": TEXT}).json()["price"]
    without = client.post("/v1/price", json={"text": "drill, size 12 kg"}).json()["price"]
    assert {part["part"] for part in parts} == {"Cobalt", "drill,", "size", "12", "kg"}
    assert next(part["factor"] for part in parts if part["part"] == "Cobalt") == pytest.approx(
        price / without, abs=1e-3
    )


def test_the_largest_effect_comes_first(client: TestClient) -> None:
    factors = [part["factor"] for part in explain(client, {"text": TEXT})]
    effects = [max(factor, 1 / factor) for factor in factors]
    assert effects == sorted(effects, reverse=True)


def test_a_price_is_not_explained_unless_asked(client: TestClient) -> None:
    assert client.post("/v1/price", json={"text": TEXT}).json()["explanation"] is None


def test_lines_and_fields_are_left_out_whole() -> None:
    body = ListingInput(text="Oak table\nWeight: 12 kg\nColor: brown", brand="Aster", fields={"legs": 4})
    parts = dict(leave_out_parts(body))
    assert list(parts) == ["Oak", "table", "Weight: 12 kg", "Color: brown", "brand: Aster", "legs: 4"]
    assert parts["Oak"].text == "table\nWeight: 12 kg\nColor: brown"
    assert parts["Weight: 12 kg"].text == "Oak table\nColor: brown"
    assert (parts["brand: Aster"].brand, parts["legs: 4"].fields) == ("", {})


@pytest.mark.parametrize("text", ["word " * 500, "title\n" + "line of words\n" * 500, "title\n" + "word " * 500])
def test_a_long_text_has_at_most_60_parts_that_cover_all_of_it(text: str) -> None:
    parts = [part for part, _ in leave_out_parts(ListingInput(text=text))]
    assert len(parts) <= MAX_PARTS
    assert " ".join(parts).split() == text.split()


def test_a_single_word_has_no_parts(client: TestClient) -> None:
    assert explain(client, {"text": "Drill"}) == []
