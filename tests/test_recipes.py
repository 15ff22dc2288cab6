"""Every shipped recipe can be used unchanged and is documented."""

from __future__ import annotations

import io
import re
from pathlib import Path

import pytest
from rich.console import Console

from pricesmith.base_models.memory import Workload, peak_memory_estimate
from pricesmith.core.errors import InputError, UsageError
from pricesmith.core.settings import Settings, read_toml, write_toml
from pricesmith.pricers import KINDS, recipe_class
from pricesmith.pricers.llm.registry import find_model
from pricesmith.pricers.recipes import (
    copy_recipe,
    format_estimate,
    format_recipes,
    get_settings,
    list_recipes,
    read_recipe,
    shipped_recipes,
)


def test_every_kind_has_a_recipe_of_its_name() -> None:
    """`pricesmith fit KIND` works for each."""
    assert set(KINDS) <= set(shipped_recipes())


@pytest.mark.parametrize("name", KINDS)
def test_a_recipe_named_as_its_kind_holds_the_defaults(name: str) -> None:
    """The file shows the defaults of the recipe class."""
    assert read_recipe(name) == recipe_class(name)()


@pytest.mark.parametrize("name", sorted(set(shipped_recipes()) - set(KINDS)))
def test_a_recipe_for_other_hardware_differs_from_the_default(name: str) -> None:
    """Its name begins with its kind, and it has other settings than the kind's own recipe."""
    recipe = read_recipe(name)
    assert name.startswith(recipe.kind)
    assert recipe != recipe_class(recipe.kind)()


@pytest.mark.parametrize(
    "name", [name for name in shipped_recipes() if name.endswith(("3b", "3b_instruct", "8b", "qlora"))]
)
def test_a_recipe_for_a_gpu_fits_the_card_that_it_names(name: str) -> None:
    """The memory estimate leaves a tenth free: "on one GPU of 24 GB" in its description must be true."""
    recipe = read_recipe(name)
    card = re.search(r"one GPU of (\d+) GB", shipped_recipes()[name].read_text(encoding="utf-8"))
    base = find_model(recipe.base)
    assert card
    assert base
    work = Workload(
        recipe.tokens_per_batch,
        listing=recipe.max_length,
        rank=recipe.lora_r,
        dropout=recipe.lora_dropout,
        gradient_checkpointing=recipe.gradient_checkpointing
        is True,  # "auto" is nothing recomputed, and no 4 bits, where that fits
        quantization="nf4" if recipe.quantization == "nf4" else "none",
    )
    assert peak_memory_estimate(base[0].shape, "train", work).total < 0.9e9 * int(card[1])


def test_the_pair_of_a_base_and_its_instruct_variant_differs_in_nothing_else() -> None:
    """What tunes better is a question about the variant alone, each with the prompt that it knows."""
    base, instruct = (get_settings(read_recipe(f"lora_tokens_3b{end}")) for end in ("", "_instruct"))
    assert {name for name in base if base[name] != instruct[name]} == {"base", "style"}
    found = [find_model(str(settings["base"])) for settings in (base, instruct)]
    assert found[0]
    assert found[1]
    assert found[0][0] is found[1][0]
    assert [variant for _, variant in filter(None, found)] == ["base", "instruct"]
    assert instruct["style"] == "chat"


@pytest.mark.parametrize("name", shipped_recipes())
def test_a_shipped_recipe_begins_with_its_command(name: str) -> None:
    """The first line can be pasted, the second describes the recipe."""
    first, second = shipped_recipes()[name].read_text(encoding="utf-8").splitlines()[:2]
    assert first.startswith(f"# pricesmith fit {name} --catalog CATALOG --to MODEL")
    assert second.startswith("# ")


@pytest.mark.parametrize("kind", KINDS)
def test_every_setting_is_described(kind: str) -> None:
    """The error for a wrong value quotes the description."""
    fields = recipe_class(kind).model_fields
    assert {name for name, field in fields.items() if not field.description} == set()


@pytest.mark.parametrize("name", shipped_recipes())
def test_settings_survive_the_model_folder(name: str, tmp_path: Path) -> None:
    """The recipe that `fit` writes is read as the same recipe."""
    recipe = read_recipe(name)
    (tmp_path / "recipe.toml").write_text(write_toml(get_settings(recipe)), encoding="utf-8")
    assert read_recipe(str(tmp_path / "recipe.toml")) == recipe


def test_overrides_replace_the_settings_of_the_file() -> None:
    """`--set alpha=2` replaces the setting of the file."""
    recipe = read_recipe("ridge", {"alpha": 2})
    assert isinstance(recipe, Settings)
    assert recipe.model_dump() == {"alpha": 2.0, "min_df": 2}


def test_a_wrong_setting_is_refused_with_a_suggestion() -> None:
    """An unknown setting is an error, not ignored."""
    with pytest.raises(UsageError, match="alhpa") as error:
        read_recipe("ridge", {"alhpa": 2})
    assert "'alpha'" in str(error.value)


def test_an_unknown_recipe_is_refused_with_the_available_ones() -> None:
    """The error lists them."""
    with pytest.raises(UsageError, match="no recipe") as error:
        read_recipe("rigde")
    assert "ridge" in str(error.value)


def test_a_missing_file_or_one_without_a_kind_is_refused(tmp_path: Path) -> None:
    """A user's own file is checked like a shipped one."""
    with pytest.raises(InputError, match="no file"):
        read_recipe(str(tmp_path / "mine.toml"))
    (tmp_path / "mine.toml").write_text("alpha = 1\n")
    with pytest.raises(UsageError, match="has no kind"):
        read_recipe(str(tmp_path / "mine.toml"))


def test_a_recipe_is_copied_once(tmp_path: Path) -> None:
    """The copy has the comments, and no file is overwritten."""
    copy_recipe("boosting", tmp_path / "mine.toml")
    assert (tmp_path / "mine.toml").read_bytes() == shipped_recipes()["boosting"].read_bytes()
    with pytest.raises(UsageError, match="exists"):
        copy_recipe("boosting", tmp_path / "mine.toml")


def test_the_list_names_every_recipe_with_its_description() -> None:
    """`recipe ls`, and `fit` without a recipe, show the available ones."""
    recipes = list_recipes()
    assert [recipe["recipe"] for recipe in recipes] == list(shipped_recipes())
    assert all(recipe["about"] for recipe in recipes)


@pytest.mark.parametrize("width", [40, 80, 200])
def test_the_table_of_recipes_has_headers_and_cuts_no_figure(width: int) -> None:
    """Every name is whole on any terminal, and so is every ratio that is shown."""
    console = Console(width=width, file=io.StringIO())
    console.print(format_recipes(list_recipes()))
    text = console.file.getvalue()  # type: ignore[attr-defined]
    assert "recipe" in text
    assert "description" in text or "descriptio" in text
    assert all(f" {name} " in text for name in shipped_recipes())
    assert "…" not in text
    if width >= 80:
        assert all(figure in text for figure in ("0.78", "0.86", "MAE / ridge"))


def test_measured_figures_belong_to_shipped_recipes() -> None:
    """The table of figures has no other names."""
    tables = {name for name, value in read_toml(Path(recipe_module_file())).items() if isinstance(value, dict)}
    assert tables <= set(shipped_recipes())


def recipe_module_file() -> str:
    from pricesmith.pricers.recipes import MEASURED

    return str(MEASURED)


def test_an_estimate_grows_with_the_rows() -> None:
    """The estimate of time and memory interpolates the measurements; a kind without any has no estimate."""
    assert format_estimate("precomputed", 1000) == ""
    assert "a few seconds" in format_estimate("sparse_mlp", 100)
    assert "minutes" in format_estimate("sparse_mlp", 4_000_000)
    assert "about 30 seconds on two cores, about 0.7 GB" in format_estimate("best", 1_560)
    assert "about 7 minutes on two cores, about 3.4 GB" in format_estimate("best", 52_469)
    assert "about 20 seconds" in format_estimate("best", 240)
