"""The shards of a file, priced in this process instead of on nodes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from pricesmith.batch.price import price_file as price_rows
from pricesmith.cli import run
from pricesmith.cluster import price_file
from pricesmith.cluster.price_file import ModelOnNodes, holds_llm, price_on_cluster
from pricesmith.cluster.shards import Shard, ShardsFailed, run_here
from pricesmith.core.errors import InputError, UsageError
from pricesmith.pricers.model import PriceModel, load_model
from pricesmith.testing import make_catalog, make_csv


class ThisMachine:
    """A cluster that runs every shard here; it fails those with the names `broken`."""

    def __init__(self) -> None:
        self.broken: tuple[str, ...] = ()
        self.names: list[str] = []
        self.actors = False

    @contextmanager
    def open(self, address: str, **_: Any) -> Iterator[ThisMachine]:
        yield self

    def run(self, function: Any, context: Any, shards: Any, *, actors: bool) -> Iterator[Any]:
        """Run the shards."""
        self.actors = actors

        def work(context: Any, shard: Shard) -> dict[str, Any]:
            self.names.append(shard.name)
            if shard.name in self.broken:
                raise ValueError("no")
            done: dict[str, Any] = function(context, shard.content)
            return done

        return run_here(work, context, (Shard(shard.name, shard, shard.folder) for shard in shards))


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> PriceModel:
    """A fitted median."""
    folder = tmp_path_factory.mktemp("model")
    catalog = str(make_catalog(folder / "catalog", 300))
    assert run(["fit", "median", "--catalog", catalog, "--to", str(folder / "median"), "--quiet"]) == 0
    return load_model(folder / "median")


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> ThisMachine:
    here = ThisMachine()
    monkeypatch.setattr(price_file, "open_cluster", here.open)
    return here


def price(model: PriceModel, file: Path, to: Path, **options: Any) -> dict[str, Any]:
    """Price a file in parts of 10 rows."""
    return price_rows(model, model.info, file, to, identity=model.identity, part_rows=10, **options)


@pytest.mark.parametrize("audit", [False, True], ids=["prices", "audit"])
def test_shards_of_any_size_give_the_file_of_one_machine(
    audit: bool, model: PriceModel, cluster: ThisMachine, tmp_path: Path
) -> None:
    """Byte for byte; a shard is named after its rows."""
    file = make_csv(tmp_path / "new.csv", 57, seed=1)
    facts = price(model, file, tmp_path / "here.csv", comparables=1, audit=audit)
    pricing = price_on_cluster(model, "auto", shard_rows=20)
    assert price(model, file, tmp_path / "there.csv", comparables=1, audit=audit, pricing=pricing)["rows"] == 57
    assert (tmp_path / "there.csv").read_bytes() == (tmp_path / "here.csv").read_bytes()
    assert cluster.names == ["rows 1 to 20", "rows 21 to 40", "rows 41 to 57"]
    assert facts["priced"] == 57
    assert not cluster.actors


def test_after_a_failed_shard_the_same_command_does_only_that_one(
    model: PriceModel, cluster: ThisMachine, tmp_path: Path
) -> None:
    """The error names its rows, and the parts of the others are kept."""
    file, to = make_csv(tmp_path / "new.csv", 57, seed=1), tmp_path / "prices.csv"
    pricing, cluster.broken = price_on_cluster(model, "auto", shard_rows=20), ("rows 21 to 40",)
    with pytest.raises(ShardsFailed, match=r"rows 21 to 40: ValueError"):
        price(model, file, to, pricing=pricing)
    assert not to.exists()
    cluster.broken, cluster.names = (), []
    assert price(model, file, to, pricing=pricing)["priced"] == 57
    assert cluster.names == ["rows 21 to 40"]


def test_a_model_that_was_replaced_meanwhile_is_refused(model: PriceModel) -> None:
    """A node never prices with another model than the command's."""
    price_file.load_once.cache_clear()
    with pytest.raises(InputError, match="was replaced while it was used"):
        ModelOnNodes(str(model.path), "another").load()


def test_a_model_that_asks_an_api_model_is_refused(model: PriceModel, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its budget is kept by one process."""
    monkeypatch.setattr(PriceModel, "asks_api", True)
    with pytest.raises(UsageError, match="asks an API model, which --cluster does not"):
        price_on_cluster(model, "auto")


@pytest.mark.parametrize(("kinds", "expected"), [(["ridge"], False), (["blend", "lora_tokens"], True)])
def test_a_model_with_a_language_model_inside_is_recognized(
    kinds: Sequence[str], expected: bool, model: PriceModel, tmp_path: Path
) -> None:
    """Such a model gets one process for each GPU or node."""
    for number, kind in enumerate(kinds):
        folder = tmp_path.joinpath(*(["members"] * number))
        folder.mkdir(exist_ok=True)
        (folder / "recipe.toml").write_text(f'kind = "{kind}"\n')
    assert holds_llm(PriceModel(tmp_path, model.recipe, model.pricer, model.info, model.manifest)) == expected


@pytest.mark.parametrize("words", [["a lamp"], ["--file", "new.csv"]], ids=["text", "no --to"])
def test_the_option_needs_a_file_to_read_and_one_to_write(
    words: list[str], model: PriceModel, capfd: pytest.CaptureFixture[str]
) -> None:
    """Exit code 2, before anything is connected."""
    assert run(["price", str(model.path), *words, "--cluster", "auto"]) == 2
    assert "--cluster is for --file with --to" in capfd.readouterr().err
