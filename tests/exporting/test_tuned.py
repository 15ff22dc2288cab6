"""A tuned language model as stock tools load it."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import httpx2 as httpx
import numpy as np
import pytest
import torch

from pricesmith.candidates import run_candidates
from pricesmith.catalog.catalog import open_catalog
from pricesmith.core.errors import InputError, PricesmithError, UsageError
from pricesmith.core.progress import Progress
from pricesmith.core.types import Listing, render
from pricesmith.evaluation import folds
from pricesmith.exporting import export_model, models
from pricesmith.exporting.models import find_license, model_card
from pricesmith.pricers import fitting, model
from pricesmith.pricers.llm import pricer as pricer_module
from pricesmith.pricers.llm.base_model import quiet_transformers
from pricesmith.pricers.llm.device_memory import out_of_memory
from pricesmith.pricers.llm.pricer import LlmPricer, load_adapter
from pricesmith.pricers.recipes import read_recipe
from pricesmith.testing import make_catalog, make_model
from pricesmith.testing.endpoint import ChatServer

READOUTS = ("bins", "tokens")


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A made catalog, a made base, and a run of each read-out."""
    folder = tmp_path_factory.mktemp("shop")
    catalog = open_catalog(make_catalog(folder / "catalog", 300))
    settings = {"base": str(make_model(folder / "base", numbers="single")), "dtype": "float32", "minutes": 0}
    for readout in READOUTS:
        small = {"epochs": 0.5, "n_evals": 1, "max_length": 48, "lora_r": 4, "learning_rate": 1e-2}
        fitting.fit_model(read_recipe(f"lora_{readout}", {**settings, **small}), catalog, folder / readout)
    return folder


def logits(model: torch.nn.Module, prompt: list[int]) -> np.ndarray:
    with torch.inference_mode():
        logits = model(torch.tensor([prompt])).logits[0]
    return np.asarray(logits if logits.ndim == 1 else logits[-1], dtype=np.float64)


def prompts_of(shop: Path, readout: str) -> tuple[LlmPricer, list[list[int]]]:
    pricer = load_adapter(shop / readout)
    listings = [item.listing for item in open_catalog(shop / "catalog").items("test")[:12]]
    return pricer, pricer.prompt.encode(pricer.tokenizer, listings)


@pytest.mark.parametrize("readout", READOUTS)
def test_a_merged_export_is_a_stock_model_with_the_same_answers(shop: Path, tmp_path: Path, readout: str) -> None:
    """transformers alone loads it, number head and all, and its logits are the model's to 1e-3."""
    from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, AutoTokenizer

    export_model(shop / readout, tmp_path / "out", "merged")
    stock = AutoModelForSequenceClassification if readout == "bins" else AutoModelForCausalLM
    model = stock.from_pretrained(tmp_path / "out").eval()
    assert model.config.pad_token_id is not None
    pricer, prompts = prompts_of(shop, readout)
    assert AutoTokenizer.from_pretrained(tmp_path / "out").get_vocab() == pricer.tokenizer.get_vocab()
    for prompt in prompts:
        assert logits(model, prompt) == pytest.approx(logits(pricer.model, prompt), abs=1e-3)


def test_a_merge_that_the_gpu_is_too_small_for_names_the_processor(
    shop: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The base is merged in 16 bits, also if it was tuned in 4 on the same GPU."""

    def fail(*_: object, **__: object) -> None:
        raise out_of_memory("load the weights", torch.OutOfMemoryError("CUDA out of memory."), "Choose another base.")

    monkeypatch.setattr(pricer_module, "load_adapter", fail)  # a second time, merged
    with pytest.raises(PricesmithError, match="not enough memory on the GPU") as error:
        export_model(shop / "bins", tmp_path / "out", "merged")
    assert f"`CUDA_VISIBLE_DEVICES= pricesmith export {shop / 'bins'} --to FOLDER --format merged`" in error.value.hint
    assert not (tmp_path / "out").exists()


# peft asks transformers by a name that it is about to drop.
@pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning")
@pytest.mark.parametrize("readout", READOUTS)
def test_an_adapter_export_loads_with_stock_peft(shop: Path, tmp_path: Path, readout: str) -> None:
    """PeftModel puts it on the same base, and its logits are the model's to 1e-3."""
    from peft import PeftModel
    from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification

    export_model(shop / readout, tmp_path / "out", "adapter")
    config = json.loads((tmp_path / "out" / "price_config.json").read_text())
    if readout == "bins":
        many = len(config["edges"]) - 1
        base = AutoModelForSequenceClassification.from_pretrained(shop / "base", num_labels=many)
        base.config.pad_token_id = 0
    else:
        base = AutoModelForCausalLM.from_pretrained(shop / "base")
    model = PeftModel.from_pretrained(base, tmp_path / "out").eval()
    pricer, prompts = prompts_of(shop, readout)
    for prompt in prompts:
        assert logits(model, prompt) == pytest.approx(logits(pricer.model, prompt), abs=1e-3)


def test_price_bins_are_named_by_their_prices(shop: Path, tmp_path: Path) -> None:
    """A stock text-classification pipeline answers with a range of prices."""
    export_model(shop / "bins", tmp_path / "out", "merged")
    config = json.loads((tmp_path / "out" / "config.json").read_text())
    edges = json.loads((tmp_path / "out" / "price_config.json").read_text())["edges"]
    names = [config["id2label"][str(number)] for number in range(len(edges) - 1)]
    assert len(config["id2label"]) == len(set(names)) == len(edges) - 1
    for name, low, high in zip(names, edges[:-1], edges[1:], strict=True):
        assert name.endswith(" USD")
        assert [float(part) for part in name.split(" ")[0:3:2]] == pytest.approx([low, high], rel=1e-5)


def test_a_stock_pipeline_gives_price_and_interval(shop: Path, tmp_path: Path) -> None:
    """Labels and probabilities of transformers alone are the model folder's quote to 1e-4, with the exported script."""
    from transformers import pipeline

    to = tmp_path / "out"
    export_model(shop / "bins", to, "merged")
    spec = importlib.util.spec_from_file_location("exported_labels", to / "price_labels.py")
    assert spec is not None
    assert spec.loader is not None
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    with quiet_transformers():
        classify = pipeline("text-classification", str(to), top_k=None)
    listings = [item.listing for item in open_catalog(shop / "catalog").items("test")[:30]]
    listings.append(Listing("x", "Lamp 3 W", "Glass <pad> </s> white"))
    listings.append(Listing("y", "Lamp 3 W", "a long listing of many words. " * 30))
    wanted = model.load_model(shop / "bins").price(listings)
    raw = load_adapter(shop / "bins").price(listings)
    for listing, whole, own in zip(listings, wanted, raw, strict=True):
        answer = classify(script.build_prompt(render(listing), to, classify.tokenizer))
        scores = answer[0] if isinstance(answer[0], list) else answer
        assert script.quote(scores, to) == script.quote(answer, to)
        assert script.quote(scores, to) == pytest.approx((whole.price, whole.low, whole.high), rel=1e-4)
        assert script.quote(scores) == pytest.approx((own.price, own.low, own.high), rel=1e-4)
        order = {name: row["score"] for row in scores for name in [row["label"]]}
        names = json.loads((to / "config.json").read_text())["id2label"]
        probabilities = [order[names[str(number)]] for number in range(len(names))]
        assert script.quote(script.label_scores(probabilities, to), to) == script.quote(scores, to)
        ids = torch.tensor([script.encode_prompt(render(listing), to, classify.tokenizer)])
        with torch.inference_mode():
            shares = classify.model(ids).logits.softmax(-1)[0].tolist()
        by_ids = script.quote(script.label_scores(shares, to), to)
        assert by_ids == pytest.approx((whole.price, whole.low, whole.high), rel=1e-4)


def test_a_chat_server_answers_as_the_model_does(shop: Path, tmp_path: Path) -> None:
    """The exported folder behind the test server and in stock transformers writes what our own model writes, for 100
    listings, all read from one prompt."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    fitted = load_adapter(shop / "tokens")
    export_model(shop / "tokens", tmp_path / "out", "merged")
    items = open_catalog(shop / "catalog").items("train")[:100]
    assert len(items) == 100
    stock = AutoModelForCausalLM.from_pretrained(tmp_path / "out").eval()
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "out")
    with ChatServer(tmp_path / "out") as server, httpx.Client(timeout=60) as client:
        for item, ids in zip(items, fitted.prompt.encode(fitted.tokenizer, [i.listing for i in items]), strict=True):
            text = fitted.prompt.text(item.listing)
            asked, _, begun = text.rpartition("\n\n")
            messages = [{"role": "user", "content": asked}, {"role": "assistant", "content": begun}]
            body = {"model": "m", "messages": messages, "max_tokens": 2, "continue_final_message": True}
            reply = client.post(f"{server.url}/chat/completions", json=body).json()["choices"][0]["message"]["content"]
            own, theirs = (greedy(each, ids) for each in (fitted.model, stock))
            assert own == theirs
            assert tokenizer.decode(own, skip_special_tokens=True).strip() == reply.strip()


def greedy(model: torch.nn.Module, prompt: list[int]) -> list[int]:
    """Two tokens, or one if it is the end token, each the most likely one."""
    ids = list(prompt)
    with torch.inference_mode():
        for _ in range(2):
            ids.append(int(model(torch.tensor([ids])).logits[0, -1].argmax()))
            if ids[-1] == model.config.eos_token_id:
                break
    return ids[len(prompt) :]


@pytest.mark.parametrize("form", ["merged", "adapter", "hub"])
def test_no_row_of_the_catalog_is_in_an_export(shop: Path, tmp_path: Path, form: str) -> None:
    """Neither comparables nor a training listing's text leave with the model."""
    export_model(shop / "bins", tmp_path / "out", form)
    titles = {item.listing.title for item in open_catalog(shop / "catalog").items("train")}
    for path in (tmp_path / "out").rglob("*"):
        if path.is_file():
            text = path.read_bytes().decode("utf-8", "replace")
            assert not any(title in text for title in titles), path
    assert not (tmp_path / "out" / "comparables").exists()


def test_a_hub_export_prices_as_the_run_does(shop: Path, tmp_path: Path) -> None:
    """The exported folder is a run; on another base it is refused."""
    export_model(shop / "bins", tmp_path / "out", "hub")
    listings = [item.listing for item in open_catalog(shop / "catalog").items("test")]
    assert model.load_model(tmp_path / "out").price(listings) == model.load_model(shop / "bins").price(listings)


def test_an_export_of_a_run_whose_base_changed_is_refused(shop: Path, tmp_path: Path) -> None:
    """Merging into other weights would be a silent wrong model."""
    import shutil

    shutil.copytree(shop / "base", tmp_path / "kept")
    try:
        make_model(shop / "base", numbers="single", seed=1)
        with pytest.raises(InputError, match="is not the one that"):
            export_model(shop / "tokens", tmp_path / "out", "merged")
        assert not (tmp_path / "out").exists()
    finally:
        shutil.rmtree(shop / "base")
        shutil.copytree(tmp_path / "kept", shop / "base")


@pytest.mark.parametrize("form", ["merged", "adapter"])
def test_an_export_names_no_folder_of_this_machine(shop: Path, tmp_path: Path, form: str) -> None:
    """Neither in the card nor in the adapter's file; what is merged is no adapter."""
    export_model(shop / "bins", tmp_path / "out", form)
    for path in (tmp_path / "out").rglob("*"):
        assert not path.is_file() or str(shop).encode() not in path.read_bytes(), path
    card = (tmp_path / "out" / "README.md").read_text()
    assert f"library_name: {'transformers' if form == 'merged' else 'peft'}" in card


def test_a_base_of_the_registry_goes_by_its_hub_id(tmp_path: Path) -> None:
    """A preset's short name is known here only."""
    (tmp_path / "price_config.json").write_text('{"base": "gemma-3-270m"}')
    name, license = find_license(tmp_path)
    assert name == "google/gemma-3-270m"
    assert license.name == "Gemma Terms of Use"


def test_the_card_of_a_merged_4_bit_model_says_that_quotes_differ(shop: Path) -> None:
    """The results were those of the adapter on the base in 4 bits."""
    run = model.load_model(shop / "bins")
    run.manifest["settings"]["quantization"] = "nf4"
    assert "4 bits" in model_card(run, base="a/b", merged=True)
    assert "4 bits" not in model_card(run, base="a/b").replace("quantization", "")


class Notes(Progress):
    """Records notes."""

    def __init__(self) -> None:
        self.notes: list[str] = []

    def note(self, text: str) -> None:
        self.notes.append(text)


def test_notes_name_the_limits_of_an_export(shop: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Merged from 4 bits it is not what was judged; without its base a run is of no use to others."""
    notes = Notes()
    export_model(shop / "bins", tmp_path / "hub", "hub", progress=notes)
    assert "is not on the Hub" in notes.notes[-1]
    assert "path on this machine" in notes.notes[-1]
    load = model.load_model

    def in_4_bits(path: Path) -> model.PriceModel:
        run = load(path)
        run.manifest["settings"]["quantization"] = "nf4"
        return run

    monkeypatch.setattr(models, "load_model", in_4_bits)
    export_model(shop / "bins", tmp_path / "out", "merged", progress=notes)
    assert "evaluated on the base in 4 bits" in notes.notes[-1]
    assert "tuned and evaluated on a base in 4 bits" in (tmp_path / "out" / "README.md").read_text()


def test_an_export_draws_no_bar_of_a_library(shop: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Nothing is printed in a pipe."""
    export_model(shop / "bins", tmp_path / "out", "merged")
    output = capfd.readouterr()
    assert output.out + output.err == ""


def test_the_path_of_an_evals_folder_is_not_exported(
    shop: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The marker of an export goes with it."""
    monkeypatch.setattr(folds, "MAX_ROWS_FOR_FOLDS", 0)  # in folds, the model would be tuned again for each
    run_candidates([str(shop / "bins")], open_catalog(shop / "catalog"), tmp_path / "evals")
    export_model(shop / "bins", tmp_path / "out", "adapter", evals=tmp_path / "evals")
    assert str(tmp_path) not in (tmp_path / "out" / "export.json").read_text()
    export_model(shop / "bins", tmp_path / "out", "adapter", evals=tmp_path / "evals")
    with pytest.raises(UsageError):
        export_model(shop / "bins", tmp_path / "out", "adapter")
