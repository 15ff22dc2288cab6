"""Files of the Hugging Face Hub as sources: `hf://datasets/OWNER/NAME/FILE.parquet`, or `NAME@REVISION`.

>>> parse_hub("hf://datasets/acme/shop@v2/data/lamps.parquet")
HubFile(repository='acme/shop', revision='v2', file='data/lamps.parquet')

The file is downloaded into the Hub's own cache, unless it is there. Its commit is part of the source's name, so that
the ledger says what was read. Nothing of the repository runs: the file is parsed in the child process as any other.
"""

from __future__ import annotations

import os
import re
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

from pricesmith.core.errors import InputError, UsageError

HUB = "hf://"
SOURCE = re.compile(
    r"hf://datasets/(?P<owner>[\w.-]+)/(?P<name>[\w.-]+?)(?:@(?P<revision>[\w.-]+))?/(?P<file>[^?#]+)", re.ASCII
)
SHORT = 12  # characters of a commit in a source's name


class HubFile(NamedTuple):
    """A file of a dataset on the Hub; an empty revision is its main branch."""

    repository: str
    revision: str
    file: str


def parse_hub(source: str) -> HubFile:
    """The parts of a source on the Hub. Raises UsageError for any other address than a file of a dataset."""
    match = SOURCE.fullmatch(source)
    if match is None or {"", ".", ".."} & set(match["file"].split("/")):
        raise UsageError(
            "A source on the Hub is a file of a dataset",
            got=source[:200],
            allowed="hf://datasets/OWNER/NAME/FILE, or hf://datasets/OWNER/NAME@REVISION/FILE",
            hint="Copy owner and name from the page of the dataset, and name one of its files.",
        )
    return HubFile(f"{match['owner']}/{match['name']}", match["revision"] or "", match["file"])


@lru_cache(maxsize=64)
def fetch_hub(source: str) -> tuple[Path, str]:
    """The file in the Hub's cache, and its name with the commit: `acme/shop@0123456789ab/lamps.parquet`.

    Raises InputError if it cannot be downloaded.
    """
    from huggingface_hub import hf_hub_download

    wanted = parse_hub(source)
    try:
        path = Path(
            hf_hub_download(
                wanted.repository,
                wanted.file,
                repo_type="dataset",
                revision=wanted.revision or None,
                endpoint=os.environ.get("HF_ENDPOINT") or None,
            )
        )
    except (OSError, ValueError, RuntimeError) as error:
        raise InputError(
            f"{source} is not in the cache and could not be downloaded",
            got=type(error).__name__,
            allowed="a file of a dataset that you may read",
            hint="Check owner, name, revision and file, the network, and that you have accepted the dataset's terms.",
        ) from None
    commit = path.parts[path.parts.index("snapshots") + 1]
    return path, f"{wanted.repository}@{commit[:SHORT]}/{wanted.file}"
