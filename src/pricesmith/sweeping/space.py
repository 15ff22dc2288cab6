"""The search space of a sweep: recipes, and the values or ranges of their settings.

    [[recipe]]
    name = "sparse_mlp"
    [recipe.space]
    learning_rate = { low = 0.005, high = 0.05, log = true }
    epochs = [2, 4, 8]

Every value is checked against the recipe's settings when the space is read, before anything is fitted.
"""

from __future__ import annotations

import itertools
import math
import random
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

from pydantic import Field

from pricesmith.core.errors import UsageError
from pricesmith.core.settings import Settings, parse_settings, read_toml
from pricesmith.core.types import Recipe
from pricesmith.pricers import KINDS, recipe_class
from pricesmith.pricers.fitting import CompositeRecipe
from pricesmith.pricers.recipes import get_settings, read_recipe

DEFAULT_SPACE = Path(__file__).with_name("default_space.toml")
DIGITS = 4  # significant digits of a value from a range
SHUFFLED = 100_000  # a larger grid is sampled without making a list of it
Settable: TypeAlias = Mapping[str, Any]


class RangeSettings(Settings):
    """A range as it is written in a space file."""

    low: float = Field(description="the lowest value")
    high: float = Field(description="the highest value")
    log: bool = Field(False, description="true: on a logarithmic scale")
    steps: int = Field(3, ge=2, le=100, description="number of values in a grid")


class RecipeEntry(Settings):
    """One [[recipe]] of a space file."""

    name: str = Field(min_length=1, description="a shipped recipe or a .toml file")
    space: dict[str, Any] = Field(default_factory=dict, description="settings with their values or ranges")


class SpaceFile(Settings):
    """The content of a space file."""

    recipe: list[dict[str, Any]] = Field(min_length=1, description="at least one [[recipe]]")


@dataclass(frozen=True)
class ValueList:
    """A setting that takes one of some values."""

    values: tuple[Any, ...]

    @property
    def grid(self) -> tuple[Any, ...]:
        """The values of a grid."""
        return self.values

    def to_dict(self) -> Any:
        """The values for JSON."""
        return list(self.values)


@dataclass(frozen=True)
class ValueRange:
    """A setting that takes a number from `low` to `high`; a whole one if `integer`."""

    low: float
    high: float
    log: bool
    steps: int
    integer: bool

    @property
    def grid(self) -> tuple[Any, ...]:
        """The values of a grid, equally spaced (in their logarithm if `log`), both ends included."""
        shares = [step / (self.steps - 1) for step in range(self.steps)]
        if self.log:
            numbers = [self.low * (self.high / self.low) ** share for share in shares]
        else:
            numbers = [self.low + (self.high - self.low) * share for share in shares]
        return tuple(dict.fromkeys(self.round(number) for number in numbers))

    def round(self, number: float) -> float:
        """A number of the range with four significant digits, or a whole one."""
        if self.integer:
            return int(min(max(round(number), self.low), self.high))
        return min(max(float(f"{number:.{DIGITS}g}"), self.low), self.high)

    def to_dict(self) -> Any:
        """The range for JSON."""
        return {"low": self.low, "high": self.high, "log": self.log, "steps": self.steps}


Axis: TypeAlias = ValueList | ValueRange


@dataclass(frozen=True)
class RecipeSpace:
    """A recipe and the settings that are searched: `axes`. `base` is the recipe with all other settings."""

    name: str
    base: Recipe
    axes: Mapping[str, Axis]
    where: str

    @property
    def grid_size(self) -> int:
        """The number of points of the grid."""
        return math.prod(len(axis.grid) for axis in self.axes.values())

    def grid_point(self, index: int) -> dict[str, Any]:
        """The settings of one point of the grid; the last setting changes fastest."""
        point: dict[str, Any] = {}
        for name, axis in reversed(list(self.axes.items())):
            index, place = divmod(index, len(axis.grid))
            point[name] = axis.grid[place]
        return {name: point[name] for name in self.axes}

    def build(self, point: Settable) -> Recipe:
        """The recipe at a point. Raises UsageError if the values do not fit together."""
        return change_settings(self.base, point, self.where)

    @property
    def default_point(self) -> dict[str, Any] | None:
        """The recipe's own values of the searched settings; None if they are outside the space."""
        own = get_settings(self.base)
        for name, axis in self.axes.items():
            if isinstance(axis, ValueList) and own[name] not in axis.values:
                return None
            if isinstance(axis, ValueRange) and not axis.low <= own[name] <= axis.high:
                return None
        return {name: own[name] for name in self.axes}


@dataclass(frozen=True)
class SearchSpace:
    """All recipes of a sweep."""

    recipes: tuple[RecipeSpace, ...]

    @property
    def grid_size(self) -> int:
        """The number of points of all grids."""
        return sum(recipe.grid_size for recipe in self.recipes)

    @property
    def kinds(self) -> frozenset[str]:
        """The kinds of all recipes."""
        return frozenset(recipe.base.kind for recipe in self.recipes)

    @property
    def has_ranges(self) -> bool:
        """Whether some setting has a range."""
        return any(isinstance(axis, ValueRange) for recipe in self.recipes for axis in recipe.axes.values())

    def grid(self, limit: int, seed: int) -> list[tuple[int, dict[str, Any]]]:
        """Points of the grid, each with the index of its recipe: all in order, or a random sample of `limit`."""
        size = self.grid_size
        indices: Sequence[int]
        if limit >= size:
            indices = range(size)
        elif size <= SHUFFLED:
            indices = random.Random(seed).sample(range(size), size)[:limit]  # a smaller sample is part of a larger one
        else:
            draws = (random.Random(f"{seed} {draw}").randrange(size) for draw in itertools.count())
            indices = list(itertools.islice(unique(draws), limit))
        return [self.locate_point(index) for index in indices]

    def locate_point(self, index: int) -> tuple[int, dict[str, Any]]:
        """The recipe's index and the settings of a point of all grids together."""
        for number, recipe in enumerate(self.recipes):
            if index < recipe.grid_size:
                return number, recipe.grid_point(index)
            index -= recipe.grid_size
        raise IndexError(index)

    def to_dict(self) -> list[dict[str, Any]]:
        """The space as plain values: two spaces search the same if these are equal."""
        return [
            {
                "recipe": recipe.name,
                "settings": get_settings(recipe.base),
                "space": {name: axis.to_dict() for name, axis in recipe.axes.items()},
            }
            for recipe in self.recipes
        ]


def unique(numbers: Iterator[int]) -> Iterator[int]:
    """The numbers without repetitions."""
    returned: set[int] = set()
    for number in numbers:
        if number not in returned:
            returned.add(number)
            yield number


def read_space(path: Path | None = None) -> SearchSpace:
    """The space of a TOML file (default: the shipped one). Raises UsageError with the line of the first error."""
    path = DEFAULT_SPACE if path is None else path
    values = read_toml(path, like="the space that `pricesmith sweep` prints")
    text = path.read_text(encoding="utf-8")
    return parse_space(values, str(path), text=text, folder=path.parent)


def parse_space(values: Settable, source: str, *, text: str = "", folder: Path | None = None) -> SearchSpace:
    """A space from plain values. `source` and `text` are the file for errors; recipes lie relative to `folder`."""
    entries = parse_settings(SpaceFile, values, where=source).recipe
    return SearchSpace(tuple(parse_entry(entry, number, source, text, folder) for number, entry in enumerate(entries)))


def parse_entry(values: Settable, number: int, source: str, text: str, folder: Path | None) -> RecipeSpace:
    """One [[recipe]] of a space."""
    here = f"{source}, {find_line(text, number)}" if text else f"{source}, recipe {number + 1}"
    entry = parse_settings(RecipeEntry, values, where=here)
    name = entry.name
    if name.endswith(".toml") and folder is not None and ((folder / name).is_file() or not Path(name).is_file()):
        name = str(folder / name)
    fixed = {key: value for key, value in entry.space.items() if not isinstance(value, list | dict)}
    check_kind(name, here)
    own = read_recipe(name)
    base = own
    for key, value in fixed.items():
        base = change_settings(base, {key: value}, locate(source, text, number, key, entry.name))
    check_kind(base.kind, here)
    if getattr(base, "asks_api", False):
        raise UsageError(
            f"{here}: a {base.kind} asks an API model, which costs money for every trial",
            got=entry.name,
            allowed="recipes that are fitted on rows",
            hint="Remove this [[recipe]].",
        )
    axes = {
        key: parse_axis(base, key, value, locate(source, text, number, key, entry.name))
        for key, value in entry.space.items()
        if key not in fixed
    }
    return RecipeSpace(Path(entry.name).stem, base, axes, here)


def check_kind(kind: str, where: str) -> None:
    """Raise UsageError for a recipe that is made of other models: those were fitted on all rows."""
    if kind in KINDS and issubclass(recipe_class(kind), CompositeRecipe):
        raise UsageError(
            f"{where}: a {kind} is made of models or answers that exist already, so it has nothing to search",
            got=kind,
            allowed="recipes that are fitted on rows",
            hint=f"Remove this [[recipe]]; fit a {kind} of the model that the sweep finds.",
        )


def parse_axis(base: Recipe, name: str, value: Any, where: str) -> Axis:
    """The values or the range of a setting, each end and each value checked against the recipe."""
    if isinstance(value, list):
        if not value:
            raise UsageError(
                f"{where}: {name} has no values", got="[]", allowed="one value or more", hint=f"Add values to {name}."
            )
        for candidate in value:
            change_settings(base, {name: candidate}, where)
        settings = [get_settings(change_settings(base, {name: candidate}, where))[name] for candidate in value]
        return ValueList(tuple(item for place, item in enumerate(settings) if item not in settings[:place]))
    limits = parse_settings(RangeSettings, value, where=f"{where}: {name}")
    if not limits.low < limits.high or (limits.log and limits.low <= 0):
        raise UsageError(
            f"{where}: {name} is not a range",
            got=f"low = {limits.low:g}, high = {limits.high:g}" + (", log = true" if limits.log else ""),
            allowed="low < high" + (", both above 0" if limits.log else ""),
            hint=f"Change {name} and run the same command again.",
        )
    integer = not accepts(base, name, limits.low + 0.5 * min(1.0, limits.high - limits.low))
    for end in (value["low"], value["high"]):
        change_settings(base, {name: end}, where)
    return ValueRange(limits.low, limits.high, limits.log, limits.steps, integer)


def accepts(base: Recipe, name: str, value: Any) -> bool:
    """Whether a setting can have a value."""
    try:
        change_settings(base, {name: value}, "")
    except UsageError:
        return False
    return True


def change_settings(recipe: Recipe, changes: Settable, where: str) -> Recipe:
    """The recipe with some settings changed. Raises UsageError, which names `where`, for the first wrong one."""
    values = {name: value for name, value in get_settings(recipe).items() if name != "kind"}
    cls: Any = type(recipe)
    changed: Recipe = parse_settings(cls, {**values, **changes}, where=where)
    return changed


def locate(source: str, text: str, number: int, key: str, recipe: str) -> str:
    """Where a setting stands: `space.toml, line 7 (ridge)`."""
    return f"{source}, {find_line(text, number, key)} ({recipe})" if text else f"{source}, {recipe}"


def find_line(text: str, number: int, key: str = "") -> str:
    """`line N` of the `number`-th [[recipe]] of a TOML text, or of a setting in it; the table's if it is not found."""
    starts = [place for place, line in enumerate(text.splitlines()) if re.match(r"\s*\[\[\s*recipe\s*\]\]", line)]
    if number >= len(starts):
        return f"recipe {number + 1}"
    lines = text.splitlines()[starts[number] : starts[number + 1] if number + 1 < len(starts) else None]
    setting = re.compile(rf"(?:^|[{{,.])\s*[\"']?{re.escape(key)}[\"']?\s*=")
    places = [place for place, line in enumerate(lines) if key and setting.search(line)]
    return f"line {starts[number] + (places[0] if places else 0) + 1}"
