"""Sentences that many products share."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pricesmith.catalog import curate
from pricesmith.catalog.templates import FEWEST, SAMPLE, describe_templates, find_templates, split_sentences
from pricesmith.cli import run

CARE = "Machine wash cold, tumble dry low, and do not iron."
THINGS = ("hose", "lamp", "chair", "table", "shelf", "bucket", "ladder", "carpet", "mirror", "clock", "stove")


def test_a_sentence_counts_once_for_each_group() -> None:
    """Colors and sizes of one product are no template."""
    texts = [f"Shirt {n}. {CARE}" for n in range(100)]
    assert find_templates(texts, ["one product"] * 100).sentences == []
    shared = find_templates(texts, [str(n % FEWEST) for n in range(100)])
    assert shared.sentences == [(CARE, FEWEST)]
    assert shared.share == pytest.approx(100 * len(CARE) / sum(map(len, texts)), abs=1e-4)


def test_facts_and_short_sentences_are_no_templates() -> None:
    """Sizes and colors are what a price depends on. Chinese and Japanese sentences need no spaces."""
    assert split_sentences("Color: black\nPart number: 12 34 56 78 90 12 34\n10 cm\nVery nice.") == []
    assert split_sentences(f"Good.\n{CARE} Ships from our store within two days!") == [
        CARE,
        "Ships from our store within two days!",
    ]
    assert split_sentences("この商品は送料無料でお届けします。即日発送。") == ["この商品は送料無料でお届けします。"]


@given(st.lists(st.text(max_size=80), max_size=30))
def test_any_text_is_read(texts: list[str]) -> None:
    """And the share of the templates is between 0 and 1."""
    templates = find_templates(texts * FEWEST, map(str, range(FEWEST * len(texts))))
    assert 0 <= templates.share <= 1
    assert all(count >= FEWEST for _, count in templates.sentences)
    assert all(len(line) < 400 for line in describe_templates(templates))


def test_only_a_sample_is_looked_at() -> None:
    """So the time does not depend on the length of a catalog."""
    texts = (f"Shirt {n}. {CARE}" for n in range(SAMPLE + 5))
    assert find_templates(texts, map(str, range(SAMPLE + 5))).items == SAMPLE
    assert next(texts).startswith(f"Shirt {SAMPLE}.")


def test_show_names_the_commonest(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """With their counts, also for machines."""
    with (tmp_path / "shop.csv").open("w", newline="") as out:
        rows = csv.writer(out)
        rows.writerow(["name", "description", "price"])
        for number in range(150):
            own = f"A {THINGS[number % 11]} of kind {number * 7919 % 1009}, made in year {number * 31 % 977}"
            rows.writerow([f"{THINGS[number % 11]} {number}", f"{own}. {CARE}", 5 + number])
    curate([str(tmp_path / "shop.csv")], tmp_path / "out")
    assert run(["show", str(tmp_path / "out")]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert "Template text: 1 sentence in 20 or more products each" in shown
    assert f"150 products: {CARE}" in shown
    assert run(["show", str(tmp_path / "out"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["templates"]["sentences"] == [{"text": CARE, "groups": 150}]
