"""The sparse MLP learns a known price law, quotes the same wherever it runs, and bears odd text."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from pricesmith.core.errors import UsageError
from pricesmith.core.settings import parse_settings
from pricesmith.core.types import Item, Listing, Pricer
from pricesmith.pricers.recipes import read_recipe
from pricesmith.pricers.sparse_mlp import MODEL, VOCABULARY, SparseMlpRecipe, batch_sizes
from pricesmith.pricers.training import CURVE, read_curve
from pricesmith.testing import make_items

SMALL = SparseMlpRecipe(ensemble_size=2, embedding_dim=16, hidden_dim=16)
ODD = ["", "\0", "🙂", "مصباح", "0" * 400, "\ud800", "size: ", ":::\n\n", "x" * 10**6]


@pytest.fixture(scope="module")
def split() -> tuple[list[Item], list[Item]]:
    items, _ = make_items(1500, seed=3)
    return items[:1200], items[1200:]


@pytest.fixture(scope="module")
def run(split: tuple[list[Item], list[Item]], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    SMALL.fit(*split, folder)
    return folder


@pytest.fixture(scope="module")
def pricer(run: Path) -> Pricer:
    return SMALL.load(run)


def prices(pricer: Pricer, listings: list[Listing]) -> list[float]:
    """The quotes as numbers; there is one for each listing."""
    quotes = [quote.price for quote in pricer.price(listings)]
    assert None not in quotes
    return [float(quote) for quote in quotes if quote is not None]


def test_it_learns_a_known_price_law(split: tuple[list[Item], list[Item]], pricer: Pricer) -> None:
    """On made goods whose prices hold 10 % of noise, the median error is below 20 %; a constant errs by far more."""
    quotes = np.array(prices(pricer, [item.listing for item in split[1]]))
    truths = np.array([item.price for item in split[1]])
    assert np.median(np.abs(np.log(quotes / truths))) < 0.2
    assert np.median(np.abs(np.log(np.median(truths) / truths))) > 0.5


def test_a_size_never_seen_is_priced_between_its_neighbors(pricer: Pricer) -> None:
    """Magnitudes carry over: 10 kg was in no training listing, 3 and 40 kg were."""
    quotes = prices(
        pricer, [Listing("1", "Borealis lamp", f"oak.\nSize: {size} kg", "lamp", "Borealis") for size in (3, 10, 40)]
    )
    assert quotes == sorted(quotes)


def test_one_listing_is_priced_as_in_a_batch(split: tuple[list[Item], list[Item]], pricer: Pricer) -> None:
    """A batch of one and a batch of many agree to 1e-6."""
    listings = [item.listing for item in split[1]]
    alone = [prices(pricer, [listing])[0] for listing in listings[:40]]
    assert prices(pricer, listings)[:40] == pytest.approx(alone, rel=1e-6)


def test_the_same_seed_gives_the_same_model(split: tuple[list[Item], list[Item]], run: Path, tmp_path: Path) -> None:
    """Fitting again writes the same bytes; another seed does not."""
    SMALL.fit(*split, tmp_path)
    assert (tmp_path / MODEL).read_bytes() == (run / MODEL).read_bytes()
    SMALL.model_copy(update={"seed": 1}).fit(*split, tmp_path)
    assert (tmp_path / MODEL).read_bytes() != (run / MODEL).read_bytes()


def test_a_new_process_quotes_the_same(run: Path, pricer: Pricer) -> None:
    """A model loaded in another process gives exactly the same quotes."""
    code = (
        "import sys, json; from pathlib import Path; from pricesmith.core.types import Listing\n"
        "from pricesmith.pricers.sparse_mlp import SparseMlpRecipe\n"
        "pricer = SparseMlpRecipe(ensemble_size=2, embedding_dim=16, hidden_dim=16).load(Path(sys.argv[1]))\n"
        "print(json.dumps([q.price for q in pricer.price([Listing('1', 'Cobalt drill', 'Size: 5 kg')])]))"
    )
    process = subprocess.run([sys.executable, "-c", code, str(run)], capture_output=True, text=True, check=True)
    assert json.loads(process.stdout) == prices(pricer, [Listing("1", "Cobalt drill", "Size: 5 kg")])


def test_odd_text_is_priced(pricer: Pricer) -> None:
    """Empty, huge, right-to-left, broken and digits-only texts get a finite quote."""
    quotes = prices(pricer, [Listing(str(index), text, text) for index, text in enumerate(ODD)])
    assert np.isfinite(quotes).all()
    assert pricer.price([]) == []


@pytest.mark.parametrize("rows", [1, 2, 30])
def test_few_rows_are_enough_to_fit(rows: int, tmp_path: Path) -> None:
    """Even one row, without validation, gives a pricer that answers."""
    items, _ = make_items(rows)
    SMALL.fit(items, [], tmp_path)
    assert np.isfinite(prices(SMALL.load(tmp_path), [items[0].listing])).all()


def test_rows_without_text_are_fitted(tmp_path: Path) -> None:
    """Where no row has a feature, the pricer still answers with finite numbers."""
    items = [Item(Listing(str(index), "", ""), 5.0 + index) for index in range(20)]
    SMALL.fit(items, items, tmp_path)
    assert np.isfinite(prices(SMALL.load(tmp_path), [Listing("a", "lamp", "")])).all()


def test_the_training_curve_falls(run: Path) -> None:
    """One line for each network and epoch, with loss and validation MAE; the last MAE is below the first."""
    points = read_curve(run)
    assert {point.series for point in points} == {"network 1", "network 2"}
    errors = [point.validation_mae or 0.0 for point in points if point.series == "network 1"]
    losses = [point.train_loss or 0.0 for point in points if point.series == "network 1"]
    assert errors[-1] < errors[0]
    assert losses[-1] < losses[0]


def test_the_run_holds_nothing_that_can_run(run: Path) -> None:
    """Safetensors, plain arrays and JSON lines: no pickle."""
    assert sorted(path.name for path in run.iterdir()) == sorted([MODEL, VOCABULARY, CURVE])
    with np.load(run / VOCABULARY, allow_pickle=False) as arrays:
        assert set(arrays) == {"buckets", "weights"}


def test_torch_keeps_its_threads(split: tuple[list[Item], list[Item]], tmp_path: Path) -> None:
    """Fitting works with one thread a member, and leaves the process as it was."""
    before = torch.get_num_threads()
    SparseMlpRecipe(ensemble_size=1, embedding_dim=4, hidden_dim=4).fit(split[0][:50], [], tmp_path)
    assert torch.get_num_threads() == before


@pytest.mark.parametrize(("rows", "passes"), [(52_000, 4), (200_000, 4), (400_000, 3), (2_000_000, 2)])
def test_many_rows_get_fewer_passes(rows: int, passes: int) -> None:
    """A member sees about 1.2 million rows at most, and never less than two passes."""
    assert len(batch_sizes(rows, SparseMlpRecipe())) == passes


def test_few_rows_get_as_many_steps(tmp_path: Path) -> None:
    """Small batches and more passes, so that a small catalog is not left half trained."""
    for rows in (1, 100, 3_000, 52_000):
        sizes = batch_sizes(rows, SparseMlpRecipe())
        assert 150 <= sum(-(-rows // size) for size in sizes) < 400


def test_the_shipped_recipe_holds_the_defaults() -> None:
    """The recipe file has the class's default settings."""
    assert read_recipe("sparse_mlp") == SparseMlpRecipe()


def test_an_unknown_setting_is_refused() -> None:
    """The error suggests the nearest name."""
    with pytest.raises(UsageError, match="membres"):
        parse_settings(SparseMlpRecipe, {"membres": 3}, where="recipe")
