"""Reading the files that a model or a catalog is made of: every value is checked before anything uses it.

    arrays = read_arrays(run / "ridge.npz", {"idf": ("float", "words"), "weights": ("float", "words")})

A file that is missing, cut off, or holds another kind of value raises InputError with the file's name, what was found,
what is allowed and what to do next.
"""

from __future__ import annotations

import errno
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any, TypeVar

from pydantic import ValidationError

from pricesmith.core.atomic import read_json
from pricesmith.core.errors import InputError, PricesmithError
from pricesmith.core.settings import Settings

HINT = "Build the folder again with --overwrite."
LONGEST = 200  # characters of a reason that are shown
# Errors of the system that say nothing about the content of a file.
SYSTEM = {errno.EACCES, errno.EPERM, errno.ENOSPC, errno.EDQUOT, errno.EMFILE, errno.ENFILE, errno.ENOMEM}

S = TypeVar("S", bound=Settings)
Shapes = Mapping[str, tuple[str | int, ...]]  # of each array: `float` or `int`, then its dimensions


def damaged_file(path: Path, got: str, *, allowed: str = "", hint: str = HINT) -> InputError:
    """The error for a file of ours whose content cannot be used."""
    return InputError(f"{path} is damaged", got=got[:LONGEST], allowed=allowed, hint=hint)


@contextmanager
def report_damage(path: Path, *, hint: str = HINT) -> Iterator[None]:
    """Turn every error of reading `path` into one InputError; errors of ours pass unchanged, and those of a
    system without memory, space or permission, or of a library that is not installed."""
    try:
        yield
    except (PricesmithError, MemoryError, ImportError):
        raise
    except Exception as error:
        if isinstance(error, OSError) and error.errno in SYSTEM:
            raise
        if type(error).__name__ == "OutOfMemoryError":
            raise
        lines = str(error).strip().splitlines()
        reason = f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__
        raise damaged_file(path, reason, hint=hint) from error


def read_object(path: Path, *, hint: str = HINT) -> dict[str, Any]:
    """A JSON object from a file. Raises InputError where it is anything else."""
    values = read_json(path, hint=hint)
    if not isinstance(values, dict):
        raise damaged_file(path, f"JSON of type {type(values).__name__}", allowed="a JSON object", hint=hint)
    return values


def read_settings(path: Path, cls: type[S], *, hint: str = HINT) -> S:
    """A file's JSON object as validated settings. Raises InputError with the first wrong key and its value."""
    values = read_object(path, hint=hint)
    try:
        return cls.model_validate_json(json.dumps(values), strict=True)  # strict: "12" and true are no numbers
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        key = ".".join(str(part) for part in first["loc"]) or "its values"
        got = f"{key}: {first.get('input')!r}"
        raise damaged_file(path, got, allowed=f"{key}: {first['msg']}", hint=hint) from None


def read_names(path: Path) -> list[str]:
    """A JSON list of different texts. Raises InputError where it is anything else."""
    return check_names(path, read_json(path, hint=HINT), "the list")


def check_names(path: Path, values: Any, what: str) -> list[str]:
    """`values`, which stand in the file `path`, as a list of different texts. Raises InputError where they are not."""
    if not isinstance(values, list) or not all(isinstance(value, str) for value in values):
        raise damaged_file(path, f"{what}: {values!r}", allowed="a list of texts")
    if len(set(values)) < len(values):
        raise damaged_file(path, f"{what}: a text is there twice", allowed="a list of different texts")
    return values


def read_arrays(path: Path, expected: Shapes, sizes: Mapping[str, int] | None = None) -> dict[str, Any]:
    """Arrays of an .npz file by name, checked as `check_arrays` does."""
    import numpy as np

    with report_damage(path), path.open("rb") as file, np.load(file, allow_pickle=False) as stored:
        if not isinstance(stored, np.lib.npyio.NpzFile):
            raise damaged_file(path, "a file of another kind", allowed="an .npz file")
        arrays = {name: stored[name] for name in expected if name in stored.files}
    check_arrays(path, arrays, expected, sizes)
    return arrays


def array_names(path: Path) -> set[str]:
    """The names of the arrays of an .npz file; none where it is a file of another kind, which `read_arrays` reports."""
    import numpy as np

    with report_damage(path), path.open("rb") as file, np.load(file, allow_pickle=False) as stored:
        return set(getattr(stored, "files", ()))


def check_arrays(
    path: Path,
    arrays: Mapping[str, Any],
    expected: Shapes,
    sizes: Mapping[str, int] | None = None,
) -> dict[str, int]:
    """Check arrays or tensors that were read from `path`; the sizes of the named dimensions.

    `expected` gives each array's kind, `float` or `int`, and its dimensions: a number, or a name that stands for the
    same number in the whole file (`sizes` may fix it). Numbers must be finite. Raises InputError.
    """
    known = dict(sizes or {})
    for name, (kind, *shape) in expected.items():
        if name not in arrays:
            raise damaged_file(path, f"no array {name!r}", allowed=f"the arrays {', '.join(expected)}")
        values = as_numpy(arrays[name])
        if values.dtype.kind not in {"float": "f", "int": "iu"}[str(kind)]:
            raise damaged_file(path, f"{name} of type {values.dtype}", allowed=f"numbers of type {kind}")
        wanted = [known.get(size, size) if isinstance(size, str) else size for size in shape]
        fits = len(wanted) == values.ndim and all(
            isinstance(size, str) or size == actual for size, actual in zip(wanted, values.shape, strict=True)
        )
        if not fits:
            raise damaged_file(
                path, f"{name} of shape {values.shape}", allowed=f"shape ({', '.join(map(str, wanted))})"
            )
        known |= {size: actual for size, actual in zip(wanted, values.shape, strict=True) if isinstance(size, str)}
        check_finite(path, name, values)
    return known


def check_finite(path: Path, name: str, values: Any) -> None:
    """Raises InputError where an array holds NaN or an infinity."""
    import numpy as np

    if values.dtype.kind == "f" and not np.isfinite(values).all():
        raise damaged_file(path, f"{name} holds numbers that are not finite", allowed="finite numbers")


def check_below(path: Path, name: str, values: Any, end: int) -> None:
    """Raises InputError where an array of whole numbers holds one outside 0 to `end`, exclusive."""
    if len(values) and not (int(values.min()) >= 0 and int(values.max()) < end):
        raise damaged_file(path, f"{name} from {values.min()} to {values.max()}", allowed=f"0 to {end - 1}")


def as_numpy(values: Any) -> Any:
    """An array, or a tensor as an array; a type that numpy lacks becomes single precision."""
    if not hasattr(values, "is_floating_point"):
        return values
    return (values.float() if str(values.dtype) == "torch.bfloat16" else values).numpy()


def sparse_rows(path: Path, parts: tuple[Any, Any, Any], shape: tuple[int, int]) -> Any:
    """A sparse matrix of (data, indices, indptr), read from `path`. Raises InputError where the parts do not fit."""
    from scipy.sparse import csr_matrix

    with report_damage(path):
        matrix = csr_matrix(parts, shape)
        matrix.check_format(full_check=True)
    return matrix


def read_tensors(path: Path) -> dict[str, Any]:
    """All tensors of a safetensors file. Raises InputError where it is not one, or a number is not finite."""
    with report_damage(path):
        from safetensors.torch import load_file

        tensors = dict(load_file(path))
        for name, tensor in tensors.items():
            check_finite(path, name, as_numpy(tensor))
    return tensors


def check_increasing(values: Sequence[float]) -> None:
    """Raises ValueError where finite numbers above 0 do not rise strictly; for validators of settings."""
    if any(value <= 0 for value in values) or any(a >= b for a, b in pairwise(values)):
        raise ValueError("numbers above 0 that rise")


def check_range(ends: tuple[float, float]) -> tuple[float, float]:
    """A price range; for validators of settings. Raises ValueError where it is empty."""
    if not 0 < ends[0] <= ends[1]:
        raise ValueError("a price range: 0 < lowest <= highest")
    return ends


def check_format(folder: Path, marker: Mapping[str, Any], newest: int) -> None:
    """Raises InputError where a marker file says no format, or one of a later version of the program."""
    version = marker.get("format")
    if type(version) is not int or version < 1:
        raise damaged_file(folder, f"format {version!r}", allowed=f"a whole number from 1 to {newest}")
    if version > newest:
        raise InputError(
            f"{folder} is of a later version of Pricesmith",
            got=f"format {version}",
            allowed=f"up to {newest}",
            hint="Upgrade Pricesmith.",
        )
