"""Spaces: what a file may say, errors with their line before anything is fitted, grids and samples of them."""

from __future__ import annotations

import itertools
import re
import tomllib
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pricesmith.core.errors import InputError, UsageError
from pricesmith.pricers.recipes import get_settings
from pricesmith.sweeping.space import (
    RecipeSpace,
    SearchSpace,
    ValueList,
    ValueRange,
    parse_space,
    read_space,
)

DOCS = Path(__file__).parents[2] / "docs" / "sweep.md"


def write(folder: Path, text: str) -> Path:
    path = folder / "space.toml"
    path.write_text(text)
    return path


def test_a_file_has_lists_ranges_and_fixed_values(tmp_path: Path) -> None:
    """A list is tried, a range is searched, a single value is fixed, and the rest is as in the recipe."""
    text = (
        '[[recipe]]\nname = "boosting"\n[recipe.space]\npatience = 20\nnum_leaves = {low = 15, high = 63}\n'
        "learning_rate = [0.1, 0.2, 0.1]\n"
    )
    (recipe,) = read_space(write(tmp_path, text)).recipes
    assert get_settings(recipe.base)["patience"] == 20
    assert recipe.axes["learning_rate"] == ValueList((0.1, 0.2))
    leaves = recipe.axes["num_leaves"]
    assert isinstance(leaves, ValueRange)
    assert leaves.integer
    assert leaves.grid == (15, 39, 63)
    assert recipe.grid_size == 6
    assert get_settings(recipe.build({"num_leaves": 39}))["n_estimators"] == 1500
    assert recipe.default_point is None  # 127 leaves are outside the space


def test_the_shipped_space_and_the_example_of_the_docs_are_valid() -> None:
    """Both are read, and every recipe's own settings are in the shipped one."""
    shipped = read_space()
    assert [recipe.name for recipe in shipped.recipes] == ["ridge", "knn", "boosting", "sparse_mlp"]
    assert all(recipe.default_point is not None for recipe in shipped.recipes)
    examples = re.findall(r"```toml\n(.*?)```", DOCS.read_text(), re.DOTALL)
    assert examples
    for example in examples:
        assert parse_space(tomllib.loads(example), "docs/sweep.md", text=example).recipes


START = (
    '# mine\n[[recipe]]\nname = "ridge"\n[recipe.space]\nalpha = [1.0]\n\n[[recipe]]\nname = "knn"\n[recipe.space]\n'
)


@pytest.mark.parametrize(
    ("line", "what", "hint"),
    [
        ("n_neigbors = [3]", "space.toml, line 10 (knn) has no setting 'n_neigbors'", "Did you mean 'n_neighbors'?"),
        ("n_neighbors = [3, 0]", "space.toml, line 10 (knn): the setting 'n_neighbors'", "Change n_neighbors"),
        ("n_neighbors = [3, 2.5]", "space.toml, line 10 (knn): the setting 'n_neighbors'", "Change n_neighbors"),
        ('sharpness = "high"', "space.toml, line 10 (knn): the setting 'sharpness'", "Change sharpness"),
        ("sharpness = {low = -1, high = 4}", "space.toml, line 10 (knn): the setting 'sharpness'", "Change sharpness"),
        ("sharpness = {low = 4, high = 1}", "sharpness is not a range", "Change sharpness"),
        ("sharpness = {low = 0, high = 1, log = true}", "sharpness is not a range", "Change sharpness"),
        ("sharpness = {low = 1, high = 4, logs = true}", "sharpness has no setting 'logs'", "Did you mean 'log'?"),
        ("sharpness = {low = 1}", "sharpness has no 'high'", "Add high"),
        ("sharpness = []", "sharpness has no values", "Add values"),
    ],
)
def test_a_wrong_value_is_refused_with_its_line(line: str, what: str, hint: str, tmp_path: Path) -> None:
    """The error names the file, the line and the recipe, and what to do."""
    with pytest.raises(UsageError) as caught:
        read_space(write(tmp_path, START + line))
    assert what in str(caught.value)
    assert hint in caught.value.hint


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "has no 'recipe'"),
        ("recipe = []", "'recipe' cannot have this value"),
        ("[[recipe]]\nspace = {}", "line 1 has no 'name'"),
        ('[[recipe]]\nname = "rigde"', "There is no recipe 'rigde'"),
        ('[[recipe]]\nname = "blend"', "line 1: a blend is made of models"),
        ('[[recipe]]\nname = "ridge"\nspaces = {}', "line 1 has no setting 'spaces'"),
        ("[[recipe]\n", "is not a TOML file"),
    ],
)
def test_a_wrong_file_is_refused(text: str, message: str, tmp_path: Path) -> None:
    """Before anything is fitted."""
    with pytest.raises((UsageError, InputError), match=re.escape(message)):
        read_space(write(tmp_path, text))


def test_a_recipe_file_lies_beside_the_space(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A relative path is relative to the space file, also if the current folder has a file of this name."""
    (tmp_path / "mine.toml").write_text('kind = "ridge"\nalpha = 5.0\n')
    (tmp_path / "here").mkdir()
    (tmp_path / "here" / "mine.toml").write_text('kind = "ridge"\nalpha = 7.0\n')
    monkeypatch.chdir(tmp_path / "here")
    (recipe,) = read_space(write(tmp_path, '[[recipe]]\nname = "mine.toml"\n')).recipes
    assert (recipe.name, get_settings(recipe.base)["alpha"]) == ("mine", 5.0)


def test_a_recipe_that_asks_an_api_model_is_refused(hybrid_kind: str, tmp_path: Path) -> None:
    """Every trial would cost money."""
    (tmp_path / "paid.toml").write_text(f'kind = "{hybrid_kind}"\n')
    with pytest.raises(UsageError, match="costs money for every trial"):
        read_space(write(tmp_path, '[[recipe]]\nname = "paid.toml"\n'))


def make_space(*sizes: tuple[int, ...]) -> SearchSpace:
    """A space without recipes, with grids of these shapes."""
    return SearchSpace(
        tuple(
            RecipeSpace("made", None, {str(n): ValueList(tuple(range(size))) for n, size in enumerate(shape)}, "")  # type: ignore[arg-type]
            for shape in sizes
        )
    )


@settings(max_examples=30)
@given(st.lists(st.lists(st.integers(1, 4), max_size=3).map(tuple), min_size=1, max_size=3), st.integers(0, 3))
def test_a_grid_has_every_combination_once_and_samples_are_nested(shapes: list[tuple[int, ...]], seed: int) -> None:
    """All points differ, and a smaller random sample is the start of a larger one."""
    space = make_space(*shapes)
    points = [(number, tuple(point.items())) for number, point in space.grid(10**6, seed)]
    assert len(set(points)) == len(points) == space.grid_size
    samples = [space.grid(limit, seed) for limit in range(1, space.grid_size)]
    for smaller, larger in itertools.pairwise(samples):
        assert larger[: len(smaller)] == smaller


def test_a_huge_grid_is_sampled_without_repetitions() -> None:
    """It is never made as a list."""
    space = make_space((100,) * 8)
    points = [tuple(point.values()) for _, point in space.grid(50, 0)]
    assert len(set(points)) == 50


@settings(max_examples=40)
@given(st.floats(1e-6, 1e3), st.floats(1.01, 100), st.booleans(), st.integers(2, 9))
def test_the_grid_of_a_range_keeps_its_ends(low: float, factor: float, log: bool, steps: int) -> None:
    """Values are within the range, in order, from one end to the other."""
    grid = ValueRange(low, low * factor, log, steps, integer=False).grid
    assert list(grid) == sorted(grid)
    assert low <= grid[0] <= low * 1.001
    assert low * factor * 0.999 <= grid[-1] <= low * factor
