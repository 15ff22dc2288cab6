"""A catalog, the same catalog rewritten once, and what the fake language model answers."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from pricesmith.catalog.catalog import Catalog
from pricesmith.catalog.curation import curate
from pricesmith.pricers.api.model_spec import ApiSettings
from pricesmith.pricers.recipes import read_recipe
from pricesmith.rewriting.run import RewriteOptions, rewrite_catalog
from pricesmith.testing import FakeEndpoint, make_csv

ROWS = 120  # of the catalog


def write_form(question: str) -> str:
    """A form that says what a price depends on, with an invented amount; no form for red things."""
    brand, good = question.split("\n")[0].split()[:2]
    match = re.search(r"Size: (\d+) kg", question)
    size = match[1] if match else "0"
    if "Color: red" in question:
        return "I am not able to do that."
    return f"Title: {brand} {good}\nDescription: a {good} for $99\n{brand}{good}: {good}{size}\nSize: {size} kg"


def write_nothing_useful(question: str) -> str:
    """A form without anything that a price depends on."""
    return "Title: a thing\nDescription: a thing of some kind"


def spec_of(fake: FakeEndpoint) -> str:
    """The fake endpoint as the command line names it."""
    return f"api:made@url={fake.url},key=MADE_KEY,price=1/2"


def digest_of(folder: Path) -> dict[str, str]:
    """The SHA-256 of every file of a folder."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


@pytest.fixture(autouse=True)
def made_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The key of the fake endpoint; answers of one test are not another's."""
    monkeypatch.setenv("MADE_KEY", "sk-made-0123456789")
    monkeypatch.setenv("PRICESMITH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.delenv("PRICESMITH_PROVIDERS", raising=False)


@pytest.fixture(scope="session")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Catalog:
    """A catalog as curate makes it."""
    folder = tmp_path_factory.mktemp("shop")
    return curate([str(make_csv(folder / "shop.csv", ROWS))], folder / "catalog")


@dataclass
class Rewritten:
    """A rewritten catalog, its endpoint, which is still there, its cache, and the files of the original before.

    `questions` are those of the rewriting, `billed` its dollars: the endpoint is asked by other tests later.
    """

    catalog: Catalog
    fake: FakeEndpoint
    cache: Path
    before: dict[str, str]
    questions: list[str]
    billed: float


@pytest.fixture(scope="session")
def rewritten(shop: Catalog, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rewritten]:
    """The catalog rewritten by the fake endpoint."""
    folder = tmp_path_factory.mktemp("rewritten")
    before = digest_of(shop.path)
    with pytest.MonkeyPatch.context() as patch, FakeEndpoint(write_form) as fake:
        patch.setenv("MADE_KEY", fake.key)
        with ApiSettings(cache_path=folder / "answers.sqlite") as settings:
            catalog = rewrite_catalog(
                shop, spec_of(fake), folder / "clean", read_recipe("ridge"), settings, RewriteOptions(rows=80)
            )
        questions = [request.question for request in fake.requests]
        yield Rewritten(catalog, fake, folder / "answers.sqlite", before, questions, fake.billed_usd(1.0, 2.0))
