"""Own models of a made catalog, saved answers for it, and a fake endpoint that gives the same answers."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pricesmith.catalog.catalog import Catalog, open_catalog
from pricesmith.core.types import Item, render
from pricesmith.pricers.api.client import ApiClient
from pricesmith.pricers.fitting import fit_model
from pricesmith.pricers.hybrid import shares
from pricesmith.pricers.recipes import read_recipe
from pricesmith.testing import FakeEndpoint, make_catalog
from pricesmith.text.prompts import Prompt

PRICE = "1/2"  # dollars per million tokens


@pytest.fixture(scope="session")
def goods(tmp_path_factory: pytest.TempPathFactory) -> Catalog:
    """The made catalog, large enough to have a fixed test split."""
    return open_catalog(make_catalog(tmp_path_factory.mktemp("goods") / "catalog", 2100))


@pytest.fixture(scope="session")
def own(goods: Catalog, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with own models: `median`, `ridge` and `knn`."""
    folder = tmp_path_factory.mktemp("own")
    for kind in ("median", "ridge", "knn"):
        fit_model(read_recipe(kind), goods, folder / kind)
    return folder


@pytest.fixture
def one_repeat(monkeypatch: pytest.MonkeyPatch) -> None:
    """The penalty of hybrids is chosen by one cross-validation instead of three."""
    monkeypatch.setattr(shares, "REPEATS", 1)


def answer_for(item: Item) -> float:
    """The price that the paid model answers: between 0.85 and 1.15 of the truth."""
    return round(item.price * (0.85 + 0.3 * (zlib.crc32(item.listing.id.encode()) % 1000) / 1000), 2)


@pytest.fixture(scope="session")
def replies(goods: Catalog) -> Callable[[str], str]:
    """The reply to each question about a listing of the catalog."""
    prompt = Prompt(style="chat", currency=goods.currency)
    known = {
        prompt.asked(render(item.listing)): f'{{"price": {answer_for(item)}}}'
        for split in ("validation", "test")
        for item in goods.items(split)
    }
    return lambda question: known.get(question, '{"price": 24}')


@pytest.fixture(scope="session")
def saved(goods: Catalog, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Saved answers for most of the validation and test listings."""
    path = tmp_path_factory.mktemp("saved") / "answers.csv"
    items = [*goods.items("validation"), *goods.items("test")]
    lines = [f"{item.listing.id},{answer_for(item)}" for number, item in enumerate(items) if number % 5]
    path.write_text("\n".join(["id,price", *lines]), encoding="utf-8")
    return path


@pytest.fixture
def fake(replies: Callable[[str], str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeEndpoint]:
    """A fake endpoint that gives these answers, with an empty response cache; nobody pauses before another try."""
    monkeypatch.setattr(ApiClient, "sleep", lambda *_: None)
    with FakeEndpoint(replies) as endpoint:
        monkeypatch.setenv("PRICESMITH_CACHE", str(tmp_path / "cache"))
        monkeypatch.setenv("MADE_KEY", endpoint.key)
        yield endpoint


def api_member(endpoint: FakeEndpoint, price: str = PRICE, **options: str) -> str:
    """The setting that names a fake endpoint."""
    values = {"url": endpoint.url, "key": "MADE_KEY", **({"price": price} if price else {}), **options}
    return "api:made@" + ",".join(f"{name}={value}" for name, value in values.items())
