"""`build.toml`: what is written is read back, and a damaged or foreign file is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from pricesmith.core.build_file import BuildFile, BuiltModel, read_build, resolve_model_folder, write_build
from pricesmith.core.errors import InputError

BUILD = BuildFile(
    finished=True,
    chosen="ridge",
    currency="USD",
    sources=("shop.csv",),
    recipes=("median", "ridge"),
    inputs={'odd "name"\\ü.csv': "00"},
    options={"mapping": {"price": 'amount "net"'}, "min_price": 0.5, "keep": ["a", "b"]},
    validation={"ridge": BuiltModel(kind="ridge", identity="ab", validation_mae=3.25)},
)


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    """Tables, odd names of files and columns included."""
    write_build(tmp_path, BUILD)
    assert read_build(tmp_path) == BUILD


def test_a_build_folder_stands_for_its_chosen_model(tmp_path: Path) -> None:
    """A folder without build.toml stands for itself; an unfinished build says how to finish it."""
    assert resolve_model_folder(tmp_path) == tmp_path
    write_build(tmp_path, BUILD)
    assert resolve_model_folder(tmp_path) == tmp_path / "models" / "ridge"
    write_build(tmp_path, BUILD.model_copy(update={"chosen": ""}))
    with pytest.raises(InputError, match="unfinished build"):
        resolve_model_folder(tmp_path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("generator = ", "cannot be read"),
        ('generator = "make"\n', "was not written by"),
        ('generator = "pricesmith build"\nformat = 99\n', "later version"),
        ('generator = "pricesmith build"\nformat = 1\nchosen = 3\n', "is damaged"),
        ('generator = "pricesmith build"\nformat = 1\nchosen = "../ridge"\n', "is damaged"),
        ('generator = "pricesmith build"\nformat = 1\nchosen = ".."\n', "is damaged"),
    ],
)
def test_a_file_that_is_not_ours_is_refused(text: str, message: str, tmp_path: Path) -> None:
    """With one clear error."""
    (tmp_path / "build.toml").write_text(text)
    with pytest.raises(InputError, match=message):
        read_build(tmp_path)
