"""`build.toml`: what `pricesmith build` made in a folder, and which of its models is the chosen one.

    resolve_model_folder(Path("out/shop"))    # out/shop/models/ridge

Every command that takes a model folder takes a build folder too, and uses its chosen model; and the folder of a sweep,
whose model is in `model`.
"""

from __future__ import annotations

import tomllib
from pathlib import Path, PurePosixPath
from typing import Any

from pydantic import Field, ValidationError

from pricesmith.core.addresses import mask_password
from pricesmith.core.atomic import sha256, write_atomic
from pricesmith.core.errors import InputError
from pricesmith.core.settings import Settings, write_toml

BUILD_FILE = "build.toml"
SWEEP_FILE = "sweep.json"  # the marker of a folder of `pricesmith sweep`
SWEEP_MODEL = "model"
GENERATOR = "pricesmith build"
FORMAT = 1


class BuiltModel(Settings):
    """One model of a build: its kind, the hash of its content, and its MAE on the validation split."""

    kind: str
    identity: str
    validation_mae: float = Field(ge=0)


class ApiAnswers(Settings):
    """Saved answers of an API model: the file, its SHA-256, and what they cost, as in the recipe cascade."""

    file: str
    sha256: str
    api_model: str = ""
    api_cost_per_1000: float | None = Field(None, ge=0)

    def fees(self) -> dict[str, Any]:
        """The settings of the cost that are given."""
        given = {"api_model": self.api_model, "api_cost_per_1000": self.api_cost_per_1000}
        return {name: value for name, value in given.items() if value not in ("", None)}


class BuildFile(Settings):
    """The content of `build.toml`.

    `inputs` has the SHA-256 of each source file by its name, `options` the options of curate, `answers` the saved
    answers of an API model, `chosen` the name of a folder in `models`, empty until all models are compared.
    """

    generator: str = GENERATOR
    format: int = FORMAT
    finished: bool = False
    chosen: str = ""
    currency: str = ""
    sources: tuple[str, ...] = ()
    recipes: tuple[str, ...] = ()
    inputs: dict[str, str] = Field(default_factory=dict)
    options: dict[str, Any] = Field(default_factory=dict)
    answers: ApiAnswers | None = None
    validation: dict[str, BuiltModel] = Field(default_factory=dict)


def read_answers(file: Path, api_model: str = "", api_cost_per_1000: float | None = None) -> ApiAnswers:
    """Saved answers for a build. Raises InputError if there is no such file."""
    if not file.is_file():
        raise InputError(f"There is no file {file}", hint="Name a file of answers with the columns id and price.")
    return ApiAnswers(file=str(file), sha256=sha256(file), api_model=api_model, api_cost_per_1000=api_cost_per_1000)


def content_of(answers: ApiAnswers | None) -> ApiAnswers | None:
    """Answers without the path of their file, which may change."""
    return None if answers is None else answers.model_copy(update={"file": ""})


def read_build(folder: Path) -> BuildFile | None:
    """The build file of a folder; None if it has none. Raises InputError if it is damaged, foreign or newer."""
    path = folder / BUILD_FILE
    if not path.is_file():
        return None
    hint = "Choose another folder, or restore the file from a backup."
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise InputError(f"{path} cannot be read", got=str(error)[:200], hint=hint) from None
    if values.get("generator") != GENERATOR:
        raise InputError(f"{path} was not written by `{GENERATOR}`", hint="Choose another folder.")
    if not isinstance(values.get("format"), int) or values["format"] > FORMAT:
        raise InputError(
            f"{path} was written by a later version of Pricesmith",
            got=f"format {values.get('format')}",
            allowed=f"format {FORMAT}",
            hint="Upgrade Pricesmith.",
        )
    try:
        build = BuildFile.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise InputError(f"{path} is damaged", got=f"{where}: {first['msg']}", hint=hint) from None
    if build.chosen and (len(PurePosixPath(build.chosen).parts) != 1 or build.chosen in (".", "..")):
        raise InputError(
            f"{path} is damaged", got=f"chosen = {build.chosen!r}", allowed="a folder in models", hint=hint
        )
    return build


def write_build(folder: Path, build: BuildFile) -> None:
    """Write the build file of a folder, without passwords."""
    values = build.model_dump(mode="json")
    values["sources"] = [mask_password(source) for source in build.sources]
    write_atomic(folder / BUILD_FILE, write_toml(values))


def resolve_model_folder(folder: Path) -> Path:
    """The chosen model of a build folder, the model of a sweep; any other folder as it is.

    Raises InputError if the build is unfinished.
    """
    if (folder / SWEEP_FILE).is_file() and (folder / SWEEP_MODEL).is_dir():
        return folder / SWEEP_MODEL
    build = read_build(folder) if folder.is_dir() else None
    if build is None:
        return folder
    if not build.chosen:
        raise InputError(
            f"{folder} is an unfinished build",
            got="no chosen model yet",
            allowed="a model folder, or a folder that `pricesmith build` has finished",
            hint="Run the same `pricesmith build` command again: it resumes.",
        )
    return folder / "models" / build.chosen
