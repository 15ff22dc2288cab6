"""Every shipped recipe can be used as it is, and says how."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

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
    """What the file shows is what happens without it."""
    assert read_recipe(name) == recipe_class(name)()


@pytest.mark.parametrize("name", sorted(set(shipped_recipes()) - set(KINDS)))
def test_a_recipe_for_another_box_shows_all_that_makes_it_one(name: str) -> None:
    """It is of a kind that its name begins with, and every setting in it is one that the kind has."""
    recipe = read_recipe(name)
    assert name.startswith(recipe.kind)
    assert recipe != recipe_class(recipe.kind)()


@pytest.mark.parametrize(
    "name", [name for name in shipped_recipes() if name.endswith(("3b", "3b_instruct", "8b", "qlora"))]
)
def test_a_recipe_for_a_gpu_fits_the_card_that_it_names(name: str) -> None:
    """By the planner, with a tenth to spare: "on one GPU of 24 GB" in its first words is a promise."""
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


@pytest.mark.parametrize("name", shipped_recipes())
def test_a_shipped_recipe_opens_with_the_command_that_runs_it(name: str) -> None:
    """Its first line can be pasted; its second says what it is."""
    first, second = shipped_recipes()[name].read_text(encoding="utf-8").splitlines()[:2]
    assert first.startswith(f"# pricesmith fit {name} --catalog CATALOG --to MODEL")
    assert second.startswith("# ")


@pytest.mark.parametrize("kind", KINDS)
def test_every_setting_is_described(kind: str) -> None:
    """A wrong value is answered with what the setting means."""
    fields = recipe_class(kind).model_fields
    assert {name for name, field in fields.items() if not field.description} == set()


@pytest.mark.parametrize("name", shipped_recipes())
def test_settings_survive_the_run_folder(name: str, tmp_path: Path) -> None:
    """What `fit` writes into a run is read back as the same recipe."""
    recipe = read_recipe(name)
    (tmp_path / "recipe.toml").write_text(write_toml(get_settings(recipe)), encoding="utf-8")
    assert read_recipe(str(tmp_path / "recipe.toml")) == recipe


def test_overrides_stand_over_the_file() -> None:
    """`--set alpha=2` wins."""
    recipe = read_recipe("ridge", {"alpha": 2})
    assert isinstance(recipe, Settings)
    assert recipe.model_dump() == {"alpha": 2.0, "min_df": 2}


def test_a_wrong_setting_is_refused_with_a_suggestion() -> None:
    """Nothing unknown is ignored."""
    with pytest.raises(UsageError, match="alhpa") as error:
        read_recipe("ridge", {"alhpa": 2})
    assert "'alpha'" in str(error.value)


def test_an_unknown_recipe_is_refused_with_what_there_is() -> None:
    """The list is at hand."""
    with pytest.raises(UsageError, match="no recipe") as error:
        read_recipe("rigde")
    assert "ridge" in str(error.value)


def test_a_file_that_is_missing_or_says_no_kind_is_refused(tmp_path: Path) -> None:
    """A person's own file is held to the same."""
    with pytest.raises(InputError, match="no file"):
        read_recipe(str(tmp_path / "mine.toml"))
    (tmp_path / "mine.toml").write_text("alpha = 1\n")
    with pytest.raises(UsageError, match="does not say its kind"):
        read_recipe(str(tmp_path / "mine.toml"))


def test_a_copied_recipe_is_the_persons_own(tmp_path: Path) -> None:
    """It has the comments, and it is never overwritten."""
    copy_recipe("boosting", tmp_path / "mine.toml")
    assert (tmp_path / "mine.toml").read_bytes() == shipped_recipes()["boosting"].read_bytes()
    with pytest.raises(UsageError, match="exists"):
        copy_recipe("boosting", tmp_path / "mine.toml")


def test_the_list_names_every_recipe_with_what_it_is() -> None:
    """`fit` without a recipe says what there is."""
    found = list_recipes()
    assert [one["recipe"] for one in found] == list(shipped_recipes())
    assert all(one["about"] for one in found)
    assert all(name in format_recipes(found) for name in shipped_recipes())


def test_what_was_measured_is_of_recipes_that_are_shipped() -> None:
    """The table of figures names nothing that is gone."""
    tables = {name for name, value in read_toml(Path(recipe_module_file())).items() if isinstance(value, dict)}
    assert tables <= set(shipped_recipes())


def recipe_module_file() -> str:
    from pricesmith.pricers.recipes import MEASURED

    return str(MEASURED)


def test_an_estimate_grows_with_the_rows() -> None:
    """Before a fit its time and memory are told, from what was measured; nothing is made up for what was not."""
    assert format_estimate("precomputed", 1000) == ""
    assert "a few seconds" in format_estimate("sparse_mlp", 100)
    assert "minutes" in format_estimate("sparse_mlp", 4_000_000)
    assert "about 18 seconds on two cores, about 0.7 GB" in format_estimate("best", 1_560)
    assert "about 5 minutes on two cores, about 3.1 GB" in format_estimate("best", 52_469)
    assert "about 12 seconds" in format_estimate("best", 240)
