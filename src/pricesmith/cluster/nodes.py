"""What every node of a cluster must have in common: the same programs, and the folders that are read and written.

A node whose library differs could compute other prices, and one without the shared folder would write where nobody
reads. So each node is compared with this process before any work, and each process on a node before its first shard.
"""

from __future__ import annotations

import hashlib
import platform
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import pricesmith
from pricesmith.core.atomic import sha256, write_atomic
from pricesmith.core.errors import UsageError

# Libraries that compute results; another version may compute others.
LIBRARIES = ("ray", "numpy", "scipy", "scikit-learn", "lightgbm", "torch", "transformers", "pyarrow", "duckdb", "rensa")
PROBE = ".pricesmith-probe-"  # and `.tmp` at the end, so that those of a killed process are swept with other such files


@dataclass(frozen=True)
class NodeCheck:
    """What a node is compared with: versions by name, the content of a probe file by folder, and the SHA-256 of files
    that it must read."""

    versions: Mapping[str, str]
    probes: Mapping[str, str]
    files: Mapping[str, str]

    def find_difference(self) -> str:
        """What is wrong with this machine, empty if nothing is. A reply is written beside each probe."""
        if differing := compare_versions(self.versions, describe_programs()):
            return f"versions: {differing}"
        for name, content in self.probes.items():
            probe = Path(name)
            try:
                seen = probe.read_text(encoding="ascii")
                if seen != content:
                    return f"folders: {probe.parent} is another folder there"
                reply = probe.with_name(f"{PROBE}{uuid.uuid4().hex}.tmp")
                write_atomic(reply, content)
                reply.unlink()
            except OSError as error:
                what = "cannot be written" if probe.exists() else "is not the same folder"
                return f"folders: {probe.parent} {what} there ({error.strerror})"
        for name, digest in self.files.items():
            try:
                if sha256(Path(name)) != digest:
                    return f"folders: {name} has another content there"
            except OSError as error:
                return f"folders: {name} cannot be read there ({error.strerror})"
        return ""


def describe_programs() -> dict[str, str]:
    """The versions of Python, Pricesmith (with a hash of its source) and the libraries of `LIBRARIES`, by name."""
    versions = {"python": platform.python_version(), "pricesmith": f"{pricesmith.__version__} ({source_digest()})"}
    for name in LIBRARIES:
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            versions[name] = "not installed"
    return versions


@cache
def source_digest() -> str:
    """Ten digits of a hash of this package's source files: two versions under development have the same number."""
    folder = Path(pricesmith.__file__).parent
    whole = hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        if path.suffix in (".py", ".toml") and path.is_file():
            whole.update(f"{path.relative_to(folder).as_posix()}\0".encode())
            whole.update(path.read_bytes())
    return whole.hexdigest()[:10]


def compare_versions(here: Mapping[str, str], there: Mapping[str, str]) -> str:
    """The programs that differ, as `torch 2.12.0 instead of 2.13.0`; empty if none does."""
    names = [name for name in here if there.get(name, "not installed") != here[name]]
    return ", ".join(f"{name} {there.get(name, 'not installed')} instead of {here[name]}" for name in names)


@contextmanager
def shared_folders(folders: Sequence[Path], files: Sequence[Path] = ()) -> Iterator[NodeCheck]:
    """What nodes are compared with, while probe files lie in `folders`, which are written; `files` are read."""
    probes: dict[str, str] = {}
    try:
        for folder in {path.resolve(): None for path in folders}:
            probe = folder / f"{PROBE}{uuid.uuid4().hex}.tmp"
            probes[str(probe)] = uuid.uuid4().hex
            write_atomic(probe, probes[str(probe)])
        digests = {str(path.resolve()): sha256(path) for path in files}
        yield NodeCheck(describe_programs(), probes, digests)
    finally:
        for name in probes:
            Path(name).unlink(missing_ok=True)


def differing_node(node: str, difference: str) -> UsageError:
    """The error for a node with which `NodeCheck.find_difference` found something wrong."""
    kind, _, what = difference.partition(": ")
    if kind == "versions":
        hint = f"Install the same versions on {node} (`pip install -c constraints.txt`), and start Ray there again."
        return UsageError(f"Node {node} has other versions than this machine", got=what, hint=hint)
    return UsageError(
        f"Node {node} does not share the folders of this command",
        got=what,
        allowed="folders that every node reads and writes under the same path, such as a network file system",
        hint=f"Mount the folder on {node} under the same path, or name one that is mounted there.",
    )


def silent_node(node: str, reason: str) -> UsageError:
    """The error for a node that is listed as alive and does not answer."""
    return UsageError(
        f"Node {node} does not answer",
        got=reason,
        hint=f"Look at `ray status`; start Ray on {node} again, or stop it there with `ray stop`.",
    )
