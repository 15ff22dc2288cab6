"""How a setting names the members of a blend or a cascade: model folders, files of saved answers, and API models.

out/best                            a model folder; it is copied
answers.csv                         saved answers, by id; the file is copied
api:gpt-6-luna@reasoning_effort=low      an API model, asked when something is priced
"""

from __future__ import annotations

import os
import re
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pricesmith.core.atomic import sha256
from pricesmith.core.build_file import resolve_model_folder
from pricesmith.core.errors import InputError, UsageError
from pricesmith.core.settings import read_toml
from pricesmith.pricers.api.model_spec import API_PREFIX, parse_api_model

MEMBERS = "members"
ANSWER_ENDINGS = {".csv", ".tsv", ".jsonl", ".parquet", ".xlsx", ".gz", ".zst"}
OPTION = re.compile(r"[a-z_]+=")


@dataclass(frozen=True)
class MemberSpec:
    """A member as a setting names it."""

    text: str

    @property
    def kind(self) -> Literal["folder", "file", "api"]:
        if self.text.startswith(API_PREFIX):
            return "api"
        return "file" if Path(self.text).suffix.lower() in ANSWER_ENDINGS else "folder"

    @property
    def paid(self) -> bool:
        """Whether its answers cost money."""
        return self.kind != "folder"

    @property
    def name(self) -> str:
        """The name in tables and of the copy: the last part of the path, of a file without its ending, or that of the
        API model. It does not depend on what the path leads to."""
        if self.kind == "api":
            return parse_api_model(self.text).title
        name = Path(os.path.normpath(self.text)).name
        return name.removesuffix(self.ending)

    @property
    def ending(self) -> str:
        """The endings of a file of answers, such as .csv.gz; empty for other members."""
        suffixes: list[str] = []
        for suffix in reversed(Path(self.text).suffixes if self.kind == "file" else []):
            if suffix.lower() not in ANSWER_ENDINGS:
                break
            suffixes.insert(0, suffix)
        return "".join(suffixes)

    @property
    def asks_api(self) -> bool:
        """Whether pricing with it asks an API model: it is one, or a model folder with one inside."""
        if self.kind != "folder":
            return self.kind == "api"
        folder = resolve_model_folder(Path(self.text))
        recipes = [read_toml(path) for path in folder.glob("**/recipe.toml")]
        texts = [text for recipe in recipes for text in (recipe.get("second", ""), *recipe.get("members", ()))]
        return any(str(text).startswith(API_PREFIX) for text in texts)

    def check(self) -> None:
        """Raise InputError if there is no such folder or file, or UsageError if it cannot be named."""
        if self.kind == "api":
            return
        path = Path(self.text)
        if not self.name or self.name in (".", ".."):
            hint = f"Use {path.resolve()}."
            raise UsageError("A member needs a path that ends with its name", got=self.text, hint=hint)
        endings = ", ".join(sorted(ANSWER_ENDINGS))
        if path.is_dir() and path.suffix.lower() in ANSWER_ENDINGS:
            hint = "Rename the folder."
            raise UsageError(f"A model folder must not end like a file, with {endings}", got=self.text, hint=hint)
        if self.kind == "folder" and path.is_file():
            hint = "Rename the file, or convert it."
            raise InputError(f"{self.text} is not a file of answers", got=path.suffix, allowed=endings, hint=hint)
        if self.kind == "file" and not path.is_file():
            raise InputError(f"There is no file {self.text}", got=self.text, hint="Check the path.")

    def content_hash(self) -> str:
        """The identity of its content. Raises InputError or UsageError if it cannot be a member."""
        from pricesmith.pricers.model import read_manifest

        self.check()
        if self.kind == "api":
            return self.text
        if self.kind == "folder":
            return str(read_manifest(resolve_model_folder(Path(self.text)))["identity"])
        return sha256(Path(self.text))

    def copy_path(self, folder: Path) -> Path | None:
        """Where its copy is in a model folder; None for an API model."""
        return None if self.kind == "api" else folder / MEMBERS / f"{self.name}{self.ending}"

    def copy(self, folder: Path) -> None:
        """Copy the member into a model folder."""
        to = self.copy_path(folder)
        if to is None:
            return
        to.parent.mkdir(parents=True, exist_ok=True)
        if self.kind == "file":
            shutil.copyfile(self.text, to)
        else:  # the comparables of a member are the same rows as those of the whole
            shutil.copytree(resolve_model_folder(Path(self.text)), to, ignore=shutil.ignore_patterns("comparables"))


def split_members(value: Any) -> Any:
    """A list from `out/a,api:MODEL@url=URL,key=KEY`, as a setting is written on the command line.

    A part `name=value` after an API model with options belongs to that model. A list keeps its members; other values
    are returned unchanged.
    """
    if not isinstance(value, str):
        return tuple(named_path(part) for part in value) if isinstance(value, list | tuple) else value
    members: list[str] = []
    for part in (part.strip() for part in value.split(",")):
        if members and OPTION.match(part) and members[-1].startswith(API_PREFIX) and "@" in members[-1]:
            members[-1] += f",{part}"
        elif part:
            members.append(part)
    return [named_path(part) for part in members]


def named_path(value: Any) -> Any:
    """A path without a name of its own, such as `.`, as an absolute path: it is stored, and must have the same name in
    every working directory. Other values are returned unchanged."""
    if not isinstance(value, str) or not value or value.startswith(API_PREFIX):
        return value
    return os.path.abspath(value) if Path(os.path.normpath(value)).name in ("", ".", "..") else value
