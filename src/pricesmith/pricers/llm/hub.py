"""Downloads from the Hub, without its client's dozen lines about retries before an error."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterable, Iterator
from pathlib import Path

from pricesmith.core.errors import InputError

UNREACHED = ("LocalEntryNotFoundError", "ConnectError", "ConnectionError", "OfflineModeIsEnabled")


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
