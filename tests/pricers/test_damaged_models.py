"""A damaged model folder gives one clear error when it is loaded, never a traceback and never a quote of its own."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pricesmith.catalog.catalog import Catalog, open_catalog
from pricesmith.core.atomic import inventory
from pricesmith.core.errors import InputError
from pricesmith.core.types import Listing
from pricesmith.pricers import KINDS
from pricesmith.pricers.fitting import fit_model
from pricesmith.pricers.model import FORMAT, content_identity, load_model
from pricesmith.pricers.recipes import read_recipe
from pricesmith.testing import make_catalog, make_encoder, make_model

SMALL = {
    "sparse_mlp": {"ensemble_size": 1, "embedding_dim": 8, "hidden_dim": 8},
    "best": {
        "folds": 2,
        "ensemble_size": 1,
        "fold_ensemble_size": 1,
        "n_forests": 1,
        "n_estimators": 10,
        "embedding_dim": 8,
        "hidden_dim": 8,
        "key_dim": 4,
    }
    | {"epochs": 1, "num_leaves": 4},
    "boosting": {"n_estimators": 10, "num_leaves": 4},
}
SLOW = {"best", "encoder", "precomputed"}  # two have many files, one reads its file in a process of its own
CHEAP = [
    pytest.param(kind, marks=pytest.mark.slow) if kind in SLOW else kind
    for kind in KINDS
    if not kind.startswith("lora")
]
SENTENCES = {"recorded.csv"}  # the first half of such a file is a file of fewer prices


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Catalog:
    """The made catalog with few items: damage does not depend on how many there are."""
    return open_catalog(make_catalog(tmp_path_factory.mktemp("small") / "catalog", 500))


@pytest.fixture(scope="module")
def fitted(small: Catalog, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """A model folder of a kind, fitted when it is first asked for."""
    root = tmp_path_factory.mktemp("models")

    def folder(kind: str) -> Path:
        if not (root / kind).exists():
            settings: dict[str, dict[str, Any]] = {**SMALL}
            if kind == "precomputed":
                lines = [f"{item.listing.id},{item.price:.2f}" for item in small.items("test")]
                (root / "prices.csv").write_text("\n".join(["id,price", *lines]), encoding="utf-8")
                settings["precomputed"] = {"file": str(root / "prices.csv")}
            if kind == "encoder":
                tiny = {"hidden_dim": 4, "bins": 8, "epochs": 0.2, "minutes": 0, "n_evals": 1, "dtype": "float32"}
                settings["encoder"] = {**tiny, "base": str(make_encoder(root / "bidirectional", layers=1, hidden=8))}
            if kind == "blend":
                settings["blend"] = {"members": [str(folder("median")), str(folder("ridge"))]}
            if kind == "cascade":
                settings["cascade"] = {"first": str(folder("median")), "second": str(folder("ridge")), "share": 0.3}
            fit_model(read_recipe(kind, settings.get(kind, {})), small, root / kind)
        return root / kind

    return folder


def whole(data: bytes) -> Iterator[tuple[str, bytes]]:
    """Damage that any file can take."""
    yield "empty", b""
    yield "first half", data[: len(data) // 2]
    yield "last byte missing", data[:-1] if data[-1:] not in b"\n}]" else data[:-2]
    yield "null", b"null"
    yield "a list", b"[]"
    yield "NaN", b"NaN"
    yield "a number", b"1"
    yield "a text", b'"text"'
    yield "an empty object", b"{}"
    yield "binary noise", bytes(range(256)) * 4
    yield "zeros", bytes(len(data))


def arrays(path: Path) -> Iterator[tuple[str, bytes]]:
    """Damage of an .npz file: arrays that are missing, of another shape or type, or not finite."""
    import io

    with np.load(path) as stored:
        values = {name: stored[name] for name in stored.files}

    def packed(changed: dict[str, Any]) -> bytes:
        out = io.BytesIO()
        np.savez(out, **changed)
        return out.getvalue()

    for name, value in values.items():
        yield f"without {name}", packed({key: other for key, other in values.items() if key != name})
        yield f"{name} as text", packed({**values, name: value.astype(str)})
        yield f"{name} with one dimension more", packed({**values, name: value[None]})
        yield f"{name} one longer", packed({**values, name: np.concatenate([value, value[-1:]])})
        yield f"{name} empty", packed({**values, name: value[:0]})
        if value.dtype.kind == "f":
            yield f"{name} of NaN", packed({**values, name: np.full_like(value, np.nan)})
            yield f"{name} of infinities", packed({**values, name: np.full_like(value, np.inf)})
        else:
            yield f"{name} negative", packed({**values, name: value - value.max() - 1})
            yield f"{name} too large", packed({**values, name: value + 2**28})


def tensors(path: Path) -> Iterator[tuple[str, bytes]]:
    """Damage of a safetensors file: its header, and each tensor."""
    import torch
    from safetensors.torch import load_file, save

    data, values = path.read_bytes(), load_file(path)
    yield "header of another length", (2**40).to_bytes(8, "little") + data[8:]
    yield "header that is no JSON", data[:8] + b"x" * 64 + data[72:]
    for name, value in values.items():
        yield f"without {name}", save({key: other for key, other in values.items() if key != name})
        yield f"{name} of NaN", save({**values, name: torch.full_like(value, torch.nan)})
        yield f"{name} one longer", save({**values, name: torch.cat([value, value[-1:]])})
        yield f"{name} as whole numbers", save({**values, name: value.to(torch.int32)})


def damages(path: Path) -> Iterator[tuple[str, bytes]]:
    """Every damage of a file, by name."""
    yield from whole(path.read_bytes())
    if path.suffix == ".npz":
        yield from arrays(path)
    if path.suffix == ".safetensors":
        yield from tensors(path)


def vouch_for(run: Path) -> None:
    """Write the manifest again so that every file of the folder, damaged or not, has the hash in it."""
    manifest = json.loads((run / "manifest.json").read_text(encoding="utf-8"))
    manifest["files"] = inventory(run, skip=frozenset({"manifest.json"}))
    manifest["identity"] = content_identity(manifest["files"])
    (run / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")


def answers(run: Path, listings: list[Listing]) -> Any:
    model = load_model(run)
    return [model.price(listings), model.comparables(listings[:3])]


def is_explained(error: InputError) -> bool:
    return bool(error.what and error.hint and (error.got or error.allowed))


def check(run: Path, listings: list[Listing], expected: Any, label: str) -> None:
    """The folder is refused with an explained error, or gives the same quotes as before."""
    caught = None
    try:
        given = answers(run, listings)
    except InputError as error:
        given, caught = expected, error
    assert caught is None or is_explained(caught), f"{label}: {caught}"
    assert given == expected, f"{label} changed the answers without an error"


@pytest.mark.parametrize("kind", CHEAP)
def test_no_damage_to_any_file_becomes_a_traceback_or_a_quote(
    kind: str, fitted: Callable[[str], Path], small: Catalog, tmp_path: Path, is_thorough: bool
) -> None:
    """Each file in turn, with a manifest that vouches for the damage: what is not refused is a file that no answer
    depends on. A file takes every third damage, all of them with --run-slow."""
    listings = [item.listing for item in small.items("test")[:10]]
    expected, run = answers(fitted(kind), listings), tmp_path / "run"
    shutil.copytree(fitted(kind), run)
    inside = [path for path in sorted(run.rglob("*")) if path.is_file() and path.name != "manifest.json"]
    refused = 0
    for number, path in enumerate(inside):
        data = path.read_bytes()
        chosen = damages(path) if is_thorough else islice(damages(path), number % 3, None, 3)
        for label, changed in chosen:
            if path.name in SENTENCES and label in ("first half", "last byte missing"):
                continue
            path.write_bytes(changed)
            vouch_for(run)
            try:
                check(run, listings, expected, f"{path.name}: {label}")
            finally:
                path.write_bytes(data)
            refused += 1
    assert refused >= (10 if is_thorough else 3) * len(inside) > 0


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["lora_tokens", "lora_bins"])
def test_no_damage_to_a_tuned_model_becomes_a_traceback_or_a_quote(kind: str, small: Catalog, tmp_path: Path) -> None:
    """A tuned model's own three files; the base is not in the folder."""
    base = make_model(tmp_path / "tiny", numbers="single")
    settings = {"base": str(base), "minutes": 0, "epochs": 0.1, "n_evals": 1, "lora_r": 2, "max_length": 24}
    run = tmp_path / "model"
    fit_model(read_recipe(kind, {**settings, "dtype": "float32"}), small, run)
    listings = [item.listing for item in small.items("test")[:2]]
    expected, refused = answers(run, listings), 0
    for name in ("price_config.json", "adapter_config.json", "adapter_model.safetensors"):
        data = (run / name).read_bytes()
        changes = list(whole(data)) if name.endswith("json") else [*whole(data), *list(tensors(run / name))[:6]]
        for label, changed in changes:
            (run / name).write_bytes(changed)
            vouch_for(run)
            check(run, listings, expected, f"{name}: {label}")
            refused += 1
        (run / name).write_bytes(data)
    assert refused == 3 * 11 + 6


MANIFESTS: dict[str, Callable[[dict[str, Any]], Any]] = {
    "null": lambda manifest: None,
    "a list": lambda manifest: [],
    "a text": lambda manifest: "model",
    "nothing in it": lambda manifest: {},
    "no files": lambda manifest: {**manifest, "files": {}},
    "files as a list": lambda manifest: {**manifest, "files": list(manifest["files"])},
    "a file without its hash": lambda manifest: {**manifest, "files": {name: {} for name in manifest["files"]}},
    "one file only": lambda manifest: {**manifest, "files": dict(list(manifest["files"].items())[:1])},
    "no kind": lambda manifest: {name: value for name, value in manifest.items() if name != "kind"},
    "an unknown kind": lambda manifest: {**manifest, "kind": "oracle"},
    "another kind": lambda manifest: {**manifest, "kind": "ridge"},
    "no rows": lambda manifest: {**manifest, "rows": None},
    "rows of text": lambda manifest: {**manifest, "rows": {"train": "many", "tune": 1, "calibrate": 1}},
    "seconds below nothing": lambda manifest: {**manifest, "fit_seconds": -1},
    "a format in words": lambda manifest: {**manifest, "format": "1"},
    "a format below 1": lambda manifest: {**manifest, "format": 0},
    "a later format": lambda manifest: {**manifest, "format": FORMAT + 1},
    "a file outside": lambda manifest: {
        **manifest,
        "files": {**manifest["files"], "../../etc": {"bytes": 1, "sha256": "0" * 64}},
    },
}


@pytest.fixture
def run(fitted: Callable[[str], Path], tmp_path: Path) -> Path:
    """A model folder of the cheapest kind, to damage."""
    return Path(shutil.copytree(fitted("median"), tmp_path / "run"))


@pytest.mark.parametrize("label", MANIFESTS)
def test_a_damaged_manifest_is_refused(label: str, run: Path) -> None:
    """A folder whose manifest does not list its files is not loaded."""
    manifest = json.loads((run / "manifest.json").read_text(encoding="utf-8"))
    (run / "manifest.json").write_text(json.dumps(MANIFESTS[label](manifest)), encoding="utf-8")
    with pytest.raises(InputError) as caught:
        load_model(run)
    assert is_explained(caught.value)


def test_a_model_of_a_later_version_says_to_upgrade(run: Path) -> None:
    """A format that this version does not know is no damage: the hint is another one."""
    manifest = json.loads((run / "manifest.json").read_text(encoding="utf-8"))
    (run / "manifest.json").write_text(json.dumps({**manifest, "format": FORMAT + 1}), encoding="utf-8")
    with pytest.raises(InputError, match="later version") as caught:
        load_model(run)
    assert caught.value.hint == "Upgrade Pricesmith."


@pytest.mark.parametrize(
    "range_",
    [[100, 1], [0, 10], [-1, 10], [1], [], None, ["a", "b"], "1-10", [None, None], [1, 2, 3], [1, 1e400]],
    ids=str,
)
def test_a_price_range_that_is_none_is_refused(range_: object, run: Path) -> None:
    """Quotes are clipped to the range, so a damaged one would be quoted."""
    facts = json.loads((run / "catalog.json").read_text(encoding="utf-8"))
    (run / "catalog.json").write_text(json.dumps({**facts, "price_range": range_}), encoding="utf-8")
    vouch_for(run)
    with pytest.raises(InputError) as caught:
        load_model(run)
    assert is_explained(caught.value)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -1.0, 0, "12", None, True], ids=str)
def test_a_median_that_is_no_price_is_refused(value: object, run: Path) -> None:
    """The one number of the simplest model."""
    medians = json.loads((run / "medians.json").read_text(encoding="utf-8"))
    for changed in ({**medians, "all": value}, {**medians, "by_category": {"hose": value}}):
        (run / "medians.json").write_text(json.dumps(changed), encoding="utf-8")
        vouch_for(run)
        with pytest.raises(InputError, match=r"medians\.json"):
            load_model(run)


REFERENCES: dict[str, Callable[[dict[str, Any]], Any]] = {
    "a share below 0": lambda facts: {**facts, "quotes": {**facts["quotes"], "shares": [-1.0, 2.0]}},
    "shares without edges": lambda facts: {**facts, "lengths": {**facts["lengths"], "edges": []}},
    "a mean of text": lambda facts: {**facts, "quotes": {**facts["quotes"], "mean": "12"}},
    "a bias of infinity": lambda facts: {**facts, "errors": {**facts["errors"], "bias": 1e400}},
    "an MAE below 0": lambda facts: {**facts, "errors": {**facts["errors"], "mae": -1.0}},
    "no rows": lambda facts: {**facts, "n": 0},
    "no errors": lambda facts: {name: value for name, value in facts.items() if name != "errors"},
    "an unknown entry": lambda facts: {**facts, "prices": []},
    "a category without its errors": lambda facts: {**facts, "categories": {"hose": None}},
    "a list": lambda facts: [facts],
}


@pytest.mark.parametrize("label", REFERENCES)
def test_a_damaged_reference_is_refused(label: str, run: Path) -> None:
    """It is what later quotes are compared with, so a wrong one would raise false alarms or hide true ones."""
    facts = json.loads((run / "reference.json").read_text(encoding="utf-8"))
    (run / "reference.json").write_text(json.dumps(REFERENCES[label](facts)), encoding="utf-8")
    vouch_for(run)
    with pytest.raises(InputError, match=r"reference\.json") as caught:
        load_model(run)
    assert is_explained(caught.value)


def test_a_model_without_a_reference_loads(run: Path) -> None:
    """Models of earlier versions have none."""
    (run / "reference.json").unlink()
    vouch_for(run)
    assert load_model(run).reference is None


def test_a_link_out_of_the_folder_is_refused(run: Path, tmp_path: Path) -> None:
    """A file that another program can change is not a file of the model, whatever its hash is now."""
    shutil.move(run / "medians.json", tmp_path / "elsewhere.json")
    (run / "medians.json").symlink_to(tmp_path / "elsewhere.json")
    with pytest.raises(InputError, match="outside itself"):
        load_model(run)


def test_a_note_of_the_user_in_a_model_folder_is_no_damage(run: Path) -> None:
    """Files that no manifest names are left alone."""
    (run / "notes.txt").write_text("asked by Ann", encoding="utf-8")
    (run / "recorded.csv").write_text("id,price\n", encoding="utf-8")
    assert load_model(run).price([Listing("1", "Garden hose, brass", "25 m")])[0].price
