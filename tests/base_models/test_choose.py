"""The verb's facts and tables, the tokenizer audit, and errors before tuning."""

from __future__ import annotations

import io
import json
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest

from pricesmith.base_models import choose as module
from pricesmith.base_models.choose import choose_base, format_choice
from pricesmith.base_models.gpus import read_gpus
from pricesmith.base_models.hardware import Hardware, format_size, measure_matmul_flops
from pricesmith.base_models.measure import audit_tokens
from pricesmith.base_models.memory import estimate_tokens_per_second
from pricesmith.catalog.catalog import open_catalog
from pricesmith.core.errors import InputError, UsageError
from pricesmith.core.types import Quote
from pricesmith.pricers.llm.registry import registry
from pricesmith.testing import make_catalog, make_items, make_model
from pricesmith.testing.goods import make_tokenizer
from pricesmith.text.prompts import Prompt


def render_tables(facts: dict[str, Any], width: int = 200) -> str:
    """The tables as a terminal of this width shows them."""
    from rich.console import Console

    console = Console(width=width, file=io.StringIO())
    console.print(format_choice(facts))
    return cast(io.StringIO, console.file).getvalue()


def test_without_an_amount_of_memory_this_machine_is_planned_for() -> None:
    """Every model with its license and published scores; a machine gets the sources as well."""
    facts = choose_base()
    assert facts["memory"] > 10**9
    assert json.loads(json.dumps(facts, allow_nan=False)) == facts
    text = render_tables(facts)
    assert "Llama 3.1 Community License" in text
    assert "MMLU 5-shot 66.7 / 69.4" in text
    dtype = "bf16" if facts["dtype_bytes"] == 2 else "fp32"
    assert facts["gpu"] or [mode["mode"] for mode in facts["models"][0]["modes"]] == [dtype, f"{dtype}, checkpointing"]


def test_without_bf16_the_plan_is_in_fp32(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same models take more, and both the modes and the note under the table say why."""
    peaks = {}
    for dtype_bytes in (2, 4):
        monkeypatch.setattr(
            module, "detect_hardware", lambda dtype_bytes=dtype_bytes: Hardware(16 * 10**9, False, dtype_bytes)
        )
        facts = choose_base()
        peaks[dtype_bytes] = {model["name"]: model["modes"][0]["peak"] for model in facts["models"]}
    assert all(1.4 < peaks[4][name] / peaks[2][name] < 2.0 for name in peaks[2])
    assert "fp32, checkpointing" in render_tables(facts)
    assert "on a CPU that does not compute in bf16" in render_tables(facts)


def test_models_that_fit_come_first_and_the_limits_are_explained() -> None:
    """The largest model of each mode, and why the next bigger one does not fit."""
    facts = choose_base(memory="24GB")
    assert facts["memory"] == 24 * 10**9
    fits = [model["best"] is not None for model in facts["models"]]
    assert fits == sorted(fits, reverse=True)
    text = render_tables(facts)
    assert "too much" in text
    assert "needs [qlora]" in text
    assert [row["mode"] for row in facts["limits"]] == ["bf16", "bf16, checkpointing", "nf4", "nf4, checkpointing"]
    for row in facts["limits"]:
        largest = next(model for model in facts["models"] if model["name"] == row["largest"])
        assert any(mode["fits"] and mode["mode"] == row["mode"] for mode in largest["modes"])


def test_times_are_estimates_of_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """Twice the speed is half the time; checkpointing takes 6 operations instead of 4 for a weight and token."""
    seconds = {}
    for flops in (1e12, 2e12):
        monkeypatch.setattr(module, "measure_matmul_flops", lambda flops=flops: flops)
        monkeypatch.setattr(module, "detect_hardware", lambda: Hardware(24 * 10**9, False, 2))
        facts = choose_base()
        seconds[flops] = {row["name"]: row["estimated_seconds"] for row in facts["models"] if row["best"]}
    assert seconds[1e12]["llama-3.2-1b"] == pytest.approx(2 * seconds[2e12]["llama-3.2-1b"], rel=1e-3)
    shape = registry()["llama-3.2-1b"].shape
    by_hand = 10_000 * 180 * 4 * shape.blocks / (0.33 * 1e12)
    assert seconds[1e12]["llama-3.2-1b"] == pytest.approx(by_hand, rel=1e-3)
    plain, again = (
        estimate_tokens_per_second(shape, "train", 1e12, gradient_checkpointing=checkpointing)
        for checkpointing in (False, True)
    )
    assert plain / again == pytest.approx(1.5)
    text = render_tables(facts)
    assert "est. time" in text
    assert "10,000 listings on this machine, estimated from its measured speed of 2 TFLOP/s" in text


def test_there_is_no_time_for_a_gpu_whose_speed_is_not_known() -> None:
    """With --memory the field is null, and the legend gives the reason."""
    facts = choose_base(memory="24GB")
    assert {row["estimated_seconds"] for row in facts["models"]} == {None}
    assert "not shown with --memory" in render_tables(facts)


def test_a_kind_of_gpu_gives_memory_and_times() -> None:
    """Its published peak takes the place of the measured speed, and the legend says that no GPU was measured."""
    facts = choose_base(gpu="H200")
    assert facts["memory"] == 141 * 10**9
    shape = registry()["llama-3.1-8b"].shape
    seconds = next(row["estimated_seconds"] for row in facts["models"] if row["name"] == "llama-3.1-8b")
    assert seconds == pytest.approx(10_000 * 180 * 4 * shape.blocks / (0.33 * 990e12), rel=1e-3)
    assert json.loads(json.dumps(facts, allow_nan=False)) == facts
    assert "on one h200" in render_tables(facts)
    assert "no GPU was measured" in render_tables(facts)
    half = choose_base("70GB", gpu="h200")
    assert (half["memory"], half["matmul_flops"]) == (70 * 10**9, facts["matmul_flops"])


def test_an_unknown_kind_of_gpu_is_an_error_with_the_kinds() -> None:
    """Its hint is the memory, which plans for any GPU."""
    with pytest.raises(UsageError) as caught:
        choose_base(gpu="gtx-9999")
    assert "h200" in (caught.value.allowed or "")
    assert "--memory" in (caught.value.hint or "")


def test_every_kind_of_gpu_has_a_source_and_a_date() -> None:
    """Bytes, operations a second, address and day."""
    kinds = read_gpus()
    assert {"h200", "h100", "a100", "l40s", "rtx-4090"} <= set(kinds)
    assert all(10**10 < kind.memory < 10**12 and 1e14 < kind.flops < 1e16 for kind in kinds.values())


@pytest.mark.parametrize(("sort", "benchmark"), [("mmlu", "MMLU"), ("mmlu-pro", "MMLU-Pro")])
def test_the_list_is_sorted_by_a_published_score(sort: str, benchmark: str) -> None:
    """The higher one of base and instruct; models without a score come last, and MMLU-Pro is not MMLU."""
    facts = choose_base(gpu="h200", sort=sort)
    scores = [
        max((score["value"] for score in row["scores"] if re.split("[ ,]", score["on"])[0] == benchmark), default=-1)
        for row in facts["models"]
    ]
    assert scores == sorted(scores, reverse=True)
    assert scores[0] > 70 > 0 > scores[-1]
    assert len({row["name"] for row in facts["models"]}) == len(registry())
    assert f"{benchmark} " in render_tables(facts) or f"{benchmark}, " in render_tables(facts)


def test_the_list_is_sorted_by_time_if_there_are_times() -> None:
    """The fastest first; with the memory of a GPU alone there are none, and the error says how to get them."""
    times = [row["estimated_seconds"] for row in choose_base(gpu="h200", sort="time")["models"]]
    assert times == sorted(times)
    with pytest.raises(UsageError) as caught:
        choose_base("24GB", sort="time")
    assert "--gpu h200" in (caught.value.hint or "")
    with pytest.raises(UsageError) as caught:
        choose_base("24GB", sort="beauty")
    assert "mmlu" in (caught.value.allowed or "")


def test_a_hybrid_model_is_planned_as_approximate() -> None:
    """A tilde before its memory, and a line that explains it."""
    text = render_tables(choose_base(gpu="h200"))
    assert re.search(r"qwen3.5-2b .* ~ \d", text)
    assert "approximate" in text


def test_the_speed_of_this_machine_is_measured_in_a_moment() -> None:
    """Between a slow core and a large GPU, and near the same when it is measured again."""
    first, second = measure_matmul_flops(0.2), measure_matmul_flops(0.2)
    assert 1e8 < first < 1e16
    assert 0.1 < first / second < 10


@pytest.mark.parametrize("width", [40, 60, 80, 120, 200])
def test_no_figure_is_cut_at_any_width(measured: tuple[dict[str, Any], Path], width: int) -> None:
    """Columns are dropped, digits never; the columns that a choice needs stay."""
    facts = {**choose_base(memory="24GB"), **measured[0]}
    text = render_tables(facts, width)
    assert "…" not in text
    assert max(map(len, text.splitlines())) <= width
    for row in facts["models"]:
        if row["best"]:
            assert re.search(rf"(?<![\d.]){re.escape(format_size(row['best']['peak']))}", text), row["name"]
    for base in facts["measured"]:
        if base["ridge"]:
            assert f"${base['ridge']['point']:,.2f}" in text
            assert re.search(rf"(?<!\d)\${base['states']['point']:,.2f}(?!\d)", text)


def test_with_little_memory_the_table_says_that_nothing_fits() -> None:
    """Never an empty page."""
    facts = choose_base(memory="500MB")
    assert all(model["best"] is None and "too much" in model["why_not"] for model in facts["models"])
    assert "bf16: none fits. Next, smollm2-135m" in render_tables(facts)


def test_a_local_folder_is_planned_for_beside_the_registry(tmp_path: Path) -> None:
    """Any base that has a config is in the table."""
    folder = make_model(tmp_path / "mine")
    facts = choose_base(memory="8GB", purpose="serve", names=[str(folder)])
    assert next(model for model in facts["models"] if model["name"] == "mine")["best"]["mode"] == "bf16"
    assert "mine" in render_tables(facts)


@pytest.mark.parametrize("wrong", [{"memory": "24"}, {"purpose": "fun"}, {"measure": True}])
def test_wrong_arguments_are_usage_errors(wrong: dict[str, Any]) -> None:
    """With what is allowed."""
    with pytest.raises(UsageError):
        choose_base(**wrong)


@pytest.mark.parametrize(("numbers", "style", "longest"), [("digits", "digits", 4), ("single", "one token", 2)])
def test_the_audit_shows_how_prices_are_written(numbers: str, style: str, longest: int) -> None:
    """Digit by digit, or one token for each number of up to three digits; the sign stands apart."""
    audit = audit_tokens("made", make_tokenizer(numbers, chat=False), Prompt(), top_price=4999)
    assert (audit.numbers, audit.longest, audit.sign_apart, audit.mean) == (style, longest, True, None)


def test_the_audit_counts_the_catalogs_tokens() -> None:
    """Mean, 95 % point and the share that is cut are those of the listings one by one."""
    from pricesmith.core.types import render

    tokenizer = make_tokenizer("digits", chat=False)
    listings = [item.listing for item in make_items(50)[0]]
    lengths = [len(tokenizer(render(listing), add_special_tokens=False)["input_ids"]) for listing in listings]
    cut = int(np.median(lengths))
    audit = audit_tokens("made", tokenizer, Prompt(max_length=cut), listings)
    assert audit.mean == pytest.approx(np.mean(lengths))
    assert audit.cut == pytest.approx(np.mean(np.array(lengths) > cut))
    assert audit.p95 is not None
    assert min(lengths) <= audit.p95 <= max(lengths)
    assert audit.prompt_tokens is not None
    assert audit.prompt_tokens < cut + 60


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], Path]:
    """Two made bases and one that is not there, measured on a made catalog."""
    folder = tmp_path_factory.mktemp("measured")
    catalog = make_catalog(folder / "catalog", 600)
    bases = [make_model(folder / name, numbers=numbers) for name, numbers in (("one", "single"), ("two", "digits"))]
    broken = folder / "broken"
    broken.mkdir()
    facts = module.measure_on_catalog(catalog, [*map(str, bases), str(broken)], True, 1.0, module.SILENT)
    return facts, catalog


def test_measured_errors_are_beside_the_ridge_and_the_median(measured: tuple[dict[str, Any], Path]) -> None:
    """On the same rows; a ridge on a random model's states still has a lower MAE than the median on made goods."""
    facts, path = measured
    first = facts["measured"][0]
    assert first["states"]["n"] == first["ridge"]["n"] == first["median"]["n"] > 30
    assert first["ridge"]["point"] < first["median"]["point"]
    assert first["states"]["point"] < first["median"]["point"]
    assert first["gain"]["point"] == pytest.approx(first["states"]["point"] - first["ridge"]["point"])
    assert first["states"]["low"] < first["states"]["point"] < first["states"]["high"]
    low, high = open_catalog(path).price_range
    assert 0 < first["untuned"]["point"] < high - low


def test_a_base_that_cannot_be_used_is_a_note_and_the_others_are_measured(
    measured: tuple[dict[str, Any], Path],
) -> None:
    """It comes last, without numbers."""
    facts, _ = measured
    last = facts["measured"][-1]
    assert last["note"]
    assert last["states"] is None
    text = render_tables({**choose_base(), **facts})
    assert "Tune " in text or "No recommendation" in text
    assert "broken" in text
    assert not [name for name in last if name in ("errors", "ridge_errors")], "errors of single items are no facts"


def test_the_reference_ridge_is_the_ridge_errors(measured: tuple[dict[str, Any], Path]) -> None:
    """The ridge beside a base is that of `fit ridge` on the same rows."""
    from pricesmith.base_models.measure import draw_sample
    from pricesmith.pricers.ridge import RidgeRecipe

    facts, path = measured
    sample = draw_sample(open_catalog(path))
    first = facts["measured"][0]
    run = path.parent / "ridge"
    run.mkdir(exist_ok=True)
    RidgeRecipe().fit(sample.train[: first["train_rows"]], [], run)
    judged = sample.items[: first["ridge"]["n"]]
    quotes = RidgeRecipe().load(run).price([item.listing for item in judged])
    errors = [abs((quote.price or 0) - item.price) for quote, item in zip(quotes, judged, strict=True)]
    assert first["ridge"]["point"] == pytest.approx(np.mean(errors), rel=1e-6)


def test_a_budget_of_zero_minutes_still_measures_something(tmp_path: Path) -> None:
    """A budget of 0 minutes is one second, in which something is measured."""
    from pricesmith.base_models.measure import draw_sample, measure_bases

    sample = draw_sample(open_catalog(make_catalog(tmp_path / "catalog", 600)))
    bases = measure_bases(sample, [str(make_model(tmp_path / "model"))], minutes=0.0)
    assert len(bases) == 1
    assert bases[0].untuned is not None
    assert bases[0].train_rows > 0


def test_a_slow_base_stops_within_its_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The clock is read between pieces that begin small: at 2 s a listing, 10 s are over after six of them."""
    from pricesmith.base_models import measure

    clock = [0.0]

    class Slow:
        def price(self, listings: Any) -> list[Quote]:
            clock[0] += 2 * len(listings)
            return [Quote(1.0) for _ in listings]

    monkeypatch.setattr(measure, "time", SimpleNamespace(perf_counter=lambda: clock[0]))
    sample = measure.draw_sample(open_catalog(make_catalog(tmp_path / "catalog", 600)))
    assert len(measure.price_in_time(Slow(), sample, 10, module.SILENT)) == 6  # type: ignore[arg-type]


def test_measuring_without_a_base_says_how_to_get_one(tmp_path: Path) -> None:
    """Without bases the error says what to install."""
    with pytest.raises(InputError, match="no base on this machine"):
        module.measure_on_catalog(make_catalog(tmp_path / "catalog", 300), [], True, 1.0, module.SILENT)


def test_only_a_base_whose_weights_are_all_in_the_cache_is_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A config that a plan has fetched is no model, nor are half of its shards."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    name = "meta-llama/Llama-3.2-3B"
    folder = tmp_path / "models--meta-llama--Llama-3.2-3B" / "snapshots" / "1a2b"
    folder.mkdir(parents=True)
    (folder.parents[1] / "refs").mkdir()
    (folder.parents[1] / "refs" / "main").write_text("1a2b")
    (folder / "config.json").write_text("{}")
    assert name not in module.available_bases()
    shards = ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"]
    (folder / "model.safetensors.index.json").write_text(
        json.dumps({"weight_map": dict(zip("ab", shards, strict=True))})
    )
    (folder / shards[0]).write_bytes(b"")
    assert name not in module.available_bases()
    (folder / shards[1]).write_bytes(b"")
    assert name in module.available_bases()
    for path in folder.glob("model*"):
        path.unlink()
    (folder / "model.safetensors").write_bytes(b"")
    assert name in module.available_bases()


def test_the_audit_of_a_hub_model_fetches_no_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its tokenizer and config are enough; weights of 16 GB are not downloaded."""
    import shutil
    from fnmatch import fnmatch

    import huggingface_hub

    made = make_model(tmp_path / "made")
    fetched: list[str] = []

    def snapshot(name: str, *, allow_patterns: list[str], **_: Any) -> str:
        folder = tmp_path / "cache" / "1a2b"
        folder.mkdir(parents=True, exist_ok=True)
        for path in made.iterdir():
            if any(fnmatch(path.name, pattern) for pattern in allow_patterns):
                shutil.copyfile(path, folder / path.name)
                fetched.append(path.name)
        return str(folder)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot)
    catalog = make_catalog(tmp_path / "catalog", 300)
    facts = module.measure_on_catalog(catalog, ["owner/model-8b"], False, 1.0, module.SILENT)
    assert facts["tokens"][0]["numbers"] == "digits"
    assert "tokenizer.json" in fetched
    assert not [name for name in fetched if name.endswith(".safetensors")]


def make_sample(n: int) -> Any:
    """A sample of `n` validation items, each its own group."""
    from pricesmith.base_models.measure import MeasureSample

    items = make_items(n)[0]
    return MeasureSample(items, [f"group-{index}" for index in range(n)], items, 50.0, (1.0, 900.0), "USD")


def make_measured(base: str, errors: Any, ridge_errors: Any) -> Any:
    """What `measure` says of a base with these errors of its ridge on states, and of the reference ridge."""
    from pricesmith.base_models.measure import CONFIDENCE, MeasuredBase
    from pricesmith.evaluation.compare import items_needed
    from pricesmith.metrics.bootstrap import bootstrap_interval, encode_groups

    codes = encode_groups(range(len(errors)))
    gain = bootstrap_interval(errors, codes, minus=ridge_errors)
    own, other = bootstrap_interval(errors, codes), bootstrap_interval(ridge_errors, codes)
    needed = items_needed(gain.n, gain.point, gain.se, CONFIDENCE)
    known = {"needed": needed, "errors": tuple(errors), "ridge_errors": tuple(ridge_errors)}
    return MeasuredBase(base, None, None, own, other, gain, other, 4000, 30.0, **known)


def advice_on(sample: Any, *measured: Any) -> str:
    """The sentences under the table."""
    from pricesmith.base_models.measure import MIN_ITEMS, compare_bases
    from pricesmith.base_models.tables import advice

    compared = [vars_of(comparison) for comparison in compare_bases(sample, measured)]
    rows = [base.to_dict() for base in measured]
    return "\n".join(
        advice({"measured": rows, "compared": compared, "currency": "USD", "minutes": 1.0, "min_items": MIN_ITEMS})
    )


def vars_of(comparison: Any) -> dict[str, Any]:
    from dataclasses import asdict

    return asdict(comparison)


def test_bases_that_differ_by_chance_are_not_ranked() -> None:
    """Two bases with errors of one distribution: the interval, no recommendation, and the items that would do."""
    draw = np.random.default_rng(1)
    ridge_errors = draw.lognormal(3, 1, 200)
    first, other = (ridge_errors * draw.lognormal(0, 0.5, 200) for _ in range(2))
    text = advice_on(make_sample(200), make_measured("a", first, ridge_errors), make_measured("b", other, ridge_errors))
    assert "No recommendation" in text
    assert "Tune" not in text
    assert "no significant difference; about" in text
    assert "items would show it" in text


def test_a_base_that_is_better_for_certain_is_recommended() -> None:
    """Half the error on 200 items, against each of the others."""
    draw = np.random.default_rng(1)
    ridge_errors = draw.lognormal(3, 1, 200)
    noise = [draw.lognormal(0, 0.2, 200) for _ in range(3)]
    bases = [
        make_measured(name, factor * ridge_errors * each, ridge_errors)
        for name, factor, each in zip("abc", (0.5, 1.0, 1.1), noise, strict=True)
    ]
    text = advice_on(make_sample(200), *bases)
    assert "Tune a first" in text
    assert "a: a ridge on its states has 0.5" in text
    assert "predict prices better" in text


@pytest.mark.parametrize("n", [2, 29])
def test_few_items_are_no_comparison(n: int) -> None:
    """Two items, 0.95 times the ridge_errors: no recommendation, and the minutes that would give enough items."""
    draw = np.random.default_rng(0)
    ridge_errors = draw.lognormal(3, 1, n)
    text = advice_on(make_sample(300), make_measured("a", 0.95 * ridge_errors, ridge_errors))
    assert f"Too few items for a comparison: a {n}." in text
    assert f"--minutes {round(1.2 * 30 / n)}" in text
    assert "No recommendation" in text
    assert "0.95" not in text


def test_one_base_of_the_same_error_is_neither_recommended_nor_refused() -> None:
    """The interval against the TF-IDF ridge and the sample size needed are shown."""
    draw = np.random.default_rng(2)
    ridge_errors = draw.lognormal(3, 1, 150)
    text = advice_on(make_sample(150), make_measured("a", ridge_errors * draw.lognormal(-0.08, 0.4, 150), ridge_errors))
    assert "no significant difference; about" in text
    assert "[-" in text
    assert "Tune" not in text


def test_equal_bases_rarely_differ_significantly() -> None:
    """Four bases of one distribution, forty times: a winner is named in about a twentieth of them, not in half."""
    from pricesmith.base_models.measure import compare_bases

    named, sample = 0, make_sample(60)
    for seed in range(40):
        draw = np.random.default_rng(seed)
        ridge_errors = draw.lognormal(3, 0.8, 60)
        bases = [make_measured(str(k), ridge_errors * draw.lognormal(0, 0.5, 60), ridge_errors) for k in range(4)]
        named += any(pair.significant for pair in compare_bases(sample, bases))
    assert named <= 6
