"""The scripts in benchmarks/ that need a GPU or real weights for their figures: small, on a CPU, with made models.

They must work on the day that a GPU is at hand. What they print here is no figure.
"""

from __future__ import annotations

import gzip
import importlib
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
import transformers

from pricesmith.pricers.llm import trainer, tuning
from pricesmith.pricers.llm.lora import LoraTokens
from pricesmith.pricers.recipes import read_recipe
from pricesmith.testing import make_catalog, make_csv, make_items, make_model

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


def table(script: str, words: str, *paths: str) -> list[list[str]]:
    """The cells of every row that a script printed, its head left out."""
    command = [sys.executable, str(BENCHMARKS / script), *words.split(), *paths]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
    assert done.returncode == 0, done.stderr[-2000:]
    rows = [line.strip("| ").split(" | ") for line in done.stdout.splitlines() if re.match(r"\| \w", line)]
    return rows[1:]


def test_the_gpu_script_tunes_and_scores_both_sides(tmp_path: Path) -> None:
    """Ours in every mode and the peer, tuning and scoring, each with a speed and a plan; the same as JSON."""
    path = tmp_path / "gpu.json"
    rows = table("gpu.py", "--shapes tiny --lengths 40 --steps 4 --scored 8 --tokens 160", f"--json={path}")
    works = [("tune", "padded"), ("score", "padded"), ("tune", "packed"), ("tune", "nf4"), ("score", "nf4")]
    assert [(row[0], row[3]) for row in rows] == works
    measured = json.loads(path.read_text())["rows"]
    plans = {(figures["work"], figures["mode"]): figures["plan"] for figures in measured}
    for row, figures in zip(rows, measured, strict=True):
        ours = figures["ours"]["listings"] / figures["ours"]["seconds"]
        assert ours > 0
        assert float(row[-1]) == pytest.approx(figures["plan"], abs=0.06)
        if figures["mode"] == "padded":
            peer = figures["peer"]["listings"] / figures["peer"]["seconds"]
            assert float(row[6]) == pytest.approx(ours / peer, abs=0.006)
        else:
            assert row[5:7] == ["-", "-"]
    assert plans["tune", "nf4"] < plans["tune", "padded"]


def test_the_gpu_script_measures_what_fit_does(monkeypatch: pytest.MonkeyPatch) -> None:
    """The recipes' adapter without dropout, its states in the dtype of the base, batches that pad, one device of
    several, and memory cases that pad as well."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    gpu, memory = importlib.import_module("gpu"), importlib.import_module("memory")
    adapter, recipe = gpu.lora(), read_recipe("lora_tokens_8b")
    assert isinstance(recipe, LoraTokens)
    settings = (adapter.r, adapter.lora_alpha, adapter.lora_dropout, adapter.target_modules)
    assert settings == (recipe.lora_r, recipe.lora_alpha, recipe.lora_dropout, recipe.target_modules)

    trainers, dtypes, arguments = list[Any](), set[torch.dtype](), transformers.TrainingArguments

    class Watched(trainer.PriceTrainer):
        def training_step(self, model: Any, *given: Any, **named: Any) -> torch.Tensor:
            if not trainers:
                trainers.append(self)
                first = next(module for module in model.modules() if hasattr(module, "lora_A"))
                first.lora_A.default.register_forward_hook(lambda _, states, result: dtypes.add(states[0].dtype))
            return super().training_step(model, *given, **named)

    def on_four_gpus(**given: Any) -> Any:
        built = arguments(**given)
        built.__dict__["_n_gpu"] = 4
        return built

    monkeypatch.setattr(gpu, "PriceTrainer", Watched)
    monkeypatch.setattr(trainer, "TrainingArguments", on_four_gpus)
    config = gpu.config_of("tiny")
    gpu.tune_ours(config, gpu.examples_of(config, 40, 60), 160, 4)
    assert dtypes == {torch.bfloat16}
    assert trainers[0].args.n_gpu == 1
    assert not trainers[0].batches.packed
    assert not any(memory.work_of(case).packed for case in memory.gpu_cases())


def test_the_reference_ridge_is_frozen(monkeypatch: pytest.MonkeyPatch) -> None:
    """The baseline of every ratio: its quotes on made items are fixed, even if the shipped recipe changes."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    from reference_ridge import fit_reference

    items, _ = make_items(900)
    quotes = fit_reference(items[:700])([item.listing for item in items[700:704]])
    assert quotes.tolist() == pytest.approx([135.78367, 138.05149, 137.28646, 504.40178], rel=1e-6)


def test_the_scale_script_plants_groups_and_finds_them_again(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Members differ in two words of the title; a group counts if a catalog's group is the same rows."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    scale = importlib.import_module("scale")
    monkeypatch.setattr(scale, "CHUNK", 50)
    items, _ = make_items(60)
    lines = [
        {"title": item.listing.title, "description": f"{item.listing.text}. It ships today.", "price": item.price}
        for item in items
    ]
    with gzip.open(tmp_path / "real.jsonl.gz", "wt", encoding="utf-8") as out:
        out.writelines(f"{json.dumps(line)}\n" for line in lines)
    real = scale.read_listings([str(tmp_path / "real.jsonl.gz")], np.array([1, 1, 3]))
    rows = scale.make_chunk(real, 100, np.random.default_rng(0)).to_pylist()
    groups = [row["id"].split("-")[0] for row in rows]
    assert {groups.count(group) for group in groups} == {1, 3}
    members = [row for row in rows if groups.count(row["id"].split("-")[0]) == 3][:3]
    assert len({row["title"] for row in members}) == 3
    assert len({row["description"] for row in members}) == 1
    split = [group if row["id"] != members[0]["id"] else "ffff" for group, row in zip(groups, rows, strict=True)]
    pq.write_table(pa.table({"id": [row["id"] for row in rows], "group": split}), tmp_path / "items.parquet")
    figures = scale.compare_groups(tmp_path / "items.parquet")
    count = len({group for group in groups if groups.count(group) == 3})
    assert figures["planted_groups_of_several"] == count
    assert figures["share_found_whole"] == round(1 - 1 / count, 5)
    assert figures["share_of_single_rows_left_alone"] == 1
    assert sys.platform != "linux" or scale.memory_of(os.getpid())[0] > 1e7


@pytest.mark.slow
def test_the_speed_script_measures_four_kinds_of_work(tmp_path: Path) -> None:
    """Tuning and scoring by tokens and by bins, each side in a process of its own."""
    catalog, base = make_catalog(tmp_path / "catalog", 400), make_model(tmp_path / "base")
    small = "--rows 200 --steps 4 --scored 8 --rounds 1 --threads 1"
    rows = table("llm_speed.py", small, f"--catalog={catalog}", f"--base={base}")
    assert [row[0] for row in rows] == ["tune tokens", "tune bins", "score tokens", "score bins"]
    assert all(float(row[1].replace(",", "")) > 0 and float(row[2].replace(",", "")) > 0 for row in rows)


@pytest.mark.slow
def test_the_script_of_base_and_instruct_compares_them_on_the_same_items(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The recipes for a GPU on made models, tuned, evaluated and compared by one command; the same command again
    fits nothing."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    specialist = importlib.import_module("specialist")
    small = {"minutes": 0, "epochs": 0.1, "tokens_per_batch": 512, "max_length": 24, "lora_r": 2, "n_evals": 1}
    monkeypatch.setattr(tuning, "best_is_far_worse", lambda _: False)  # random weights learn nothing in a few steps
    for name, (recipe, settings) in specialist.VARIANTS.items():
        chat = recipe.endswith("_instruct")
        base = make_model(tmp_path / name, numbers="single", chat=chat)
        monkeypatch.setitem(specialist.VARIANTS, name, (recipe, {**settings, **small, "base": str(base)}))
    goods = make_csv(tmp_path / "goods.csv", 400)
    words = ["specialist", f"--goods={goods}", f"--work={tmp_path / 'work'}", "--items=40", "--threads=1"]
    monkeypatch.setattr(sys, "argv", [*words, "--only=ridge,llama-3b-base,llama-3b-instruct"])
    printed = []
    for _ in range(2):
        specialist.main()
        printed.append(capsys.readouterr().out)
    for text in printed:
        (pair,) = [line for line in text.splitlines() if line.startswith("| llama-3b-base | llama-3b-instruct |")]
        assert re.search(r"[+-][\d.]+ \([+-][\d.]+ to [+-][\d.]+\)", pair)
        assert json.loads(text.splitlines()[-1]) == {
            "pricers": ["llama-3b-base", "llama-3b-instruct", "ridge"],
            "items": 40,
        }


@pytest.mark.slow
def test_the_profile_shares_out_all_of_the_time(tmp_path: Path) -> None:
    """Four kinds of work, each with the operations that it needs and with shares that add up."""
    catalog, base = make_catalog(tmp_path / "catalog", 400), make_model(tmp_path / "base")
    rows = table("llm_profile.py", "--rows 200 --steps 3 --scored 8", f"--catalog={catalog}", f"--base={base}")
    assert [row[0] for row in rows] == ["tune tokens", "tune bins", "score tokens", "score bins"]
    for row in rows:
        assert sum(int(cell.rstrip("%")) for cell in row[4:]) == pytest.approx(100, abs=4)


@pytest.mark.slow
def test_the_script_of_the_server_measures_every_part(tmp_path: Path) -> None:
    """Batches beside the bare loop, single quotes beside an echo, a swap, a kill, a soak: small, with made models."""
    from pricesmith.build import build

    build([str(make_csv(tmp_path / "shop.csv", 400))], tmp_path / "shop", recipes=("ridge", "median"))
    words = "--model ridge --other median --rounds 1 --swaps 2 --kills 1 --minutes 0.02"
    command = [sys.executable, str(BENCHMARKS / "serve.py"), str(tmp_path / "shop"), *words.split()]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
    assert done.returncode == 0, done.stderr[-2000:]
    rows = [line.strip("| ").split(" | ") for line in done.stdout.splitlines() if re.match(r"\| \d", line)]
    sides = ["bare", "server", "server with log and keys"] * 2 + ["server", "echo"] * 3
    assert [row[1] for row in rows] == sides + ["1", "2"] * 8  # eight: four sizes of batches, two models
    for what in ("0 not answered with 200", "0 lost", "0 failed"):
        assert what in done.stdout


def test_the_feeds_script_follows_the_hints_of_files_that_are_refused(tmp_path: Path) -> None:
    """A catalog, a page that is too small, and a price column with an unusual name, named by the hint."""
    make_csv(tmp_path / "shop.csv", n=150)
    lines = "".join(f"Garden hose {n} of {n * 7} kinds;{n + 4},90\n" for n in range(1, 151))
    (tmp_path / "unusual.csv").write_text(f"Thing;Wert\n{lines}")
    product = {"@type": "Product", "name": "Garden hose", "offers": {"price": 5, "priceCurrency": "EUR"}}
    page = f'<script type="application/ld+json">{json.dumps(product)}</script>'
    (tmp_path / "page.html").write_text(page)
    rows = {row[0]: row for row in table("feeds.py", "", str(tmp_path))}
    assert rows["shop.csv"][1:4] == ["table", "150", "150"]
    assert rows["page.html"][1:4] == ["schema.org products", "1", "1"]
    assert rows["page.html"][-1] == "refused: fewer than 100 rows"
    assert rows["unusual.csv"][-1] == "refused: No column is recognized as the price"
    assert rows["unusual.csv with `--map price=Wert`"][-1] == "catalog in USD (assumed)"
