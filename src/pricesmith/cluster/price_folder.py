"""`price --file DIR --to OUT`: every file of a folder is priced into a file of its own, here or on a Ray cluster.

A shard is a file. Whoever prices it writes `OUT/NAME` whole, then `OUT/records/NAME.json` with the counts, the hashes
and what the input was. So the same command again prices only what is missing or has changed, on any machine.
"""

from __future__ import annotations

import os
import shutil
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pricesmith.batch.price import PART_ROWS, price_file
from pricesmith.batch.writers import WRITERS
from pricesmith.catalog.readers.sources import resolve_sources
from pricesmith.cluster.price_file import ModelOnNodes, holds_llm, price_on_cluster
from pricesmith.cluster.shards import Shard, ShardResult, raise_failures, run_here
from pricesmith.cluster.tasks import open_cluster
from pricesmith.core.atomic import read_json, sha256, write_json
from pricesmith.core.errors import InputError, UsageError
from pricesmith.core.folders import FolderBuild, build_folder
from pricesmith.core.progress import SILENT, Progress
from pricesmith.pricers.model import PriceModel

MARKER, NOUN = "prices.json", "folder of prices"
RECORDS, ATTEMPT = "records", ".attempt-"
COUNTS = ("rows", "priced", "not_priced", "nothing_similar", "over", "under", "plausible")


@dataclass(frozen=True)
class FolderWork:
    """What all files of a folder share: the model, the options of `price_file`, and the folder that is written."""

    model: ModelOnNodes
    options: Mapping[str, Any]
    folder: Path


@dataclass(frozen=True)
class InputFile:
    """A file to price, and the name of its output."""

    path: Path
    output: str

    def facts(self) -> dict[str, Any]:
        """What tells whether the file has changed since it was priced."""
        state = self.path.stat()
        return {"input": self.path.name, "bytes": state.st_size, "modified_ns": state.st_mtime_ns}


def price_files(
    model: PriceModel,
    file: Path | str,
    to: Path,
    *,
    cluster: str | None = None,
    mapping: Mapping[str, str] | None = None,
    overwrite: bool = False,
    progress: Progress = SILENT,
    **options: Any,
) -> dict[str, Any]:
    """Price a file, a table or every file of a folder, here or on the `cluster`; the counts.

    `options` are those of `batch.price.price_file`. Raises UsageError as that does, and ShardsFailed if some files of a
    folder could not be priced.
    """
    given = {**options, "mapping": mapping}
    if not Path(file).is_dir():
        pricing = None if cluster is None else price_on_cluster(model, cluster)
        given |= {"identity": model.identity, "overwrite": overwrite, "pricing": pricing}
        return price_file(model, model.info, file, to, progress=progress, **given)
    return price_folder(model, Path(file), to, given, cluster=cluster, overwrite=overwrite, progress=progress)


def price_folder(
    model: PriceModel,
    folder: Path,
    to: Path,
    options: Mapping[str, Any],
    *,
    cluster: str | None,
    overwrite: bool,
    progress: Progress,
) -> dict[str, Any]:
    """Price every file of a folder into the folder `to`."""
    place = ModelOnNodes.of(model, "--file with a folder")
    settings = {"folder": str(folder.resolve()), "model": model.identity, "part_rows": PART_ROWS}
    settings |= {name: value for name, value in sorted(options.items()) if value not in (None, {})}
    files = list_inputs(folder, progress)
    with build_folder(to, MARKER, settings, overwrite=overwrite, noun=NOUN, inputs=[folder]) as build:
        if build is None:
            return check_unchanged(files, folder, to, progress)
        remove_leftovers(build.folder, {file.output for file in files})
        (build.folder / RECORDS).mkdir(exist_ok=True)
        build.keep = has_records(build.folder)  # an interruption while they are compared must not lose them
        missing = [file for file in files if not is_done(build.folder, file)]
        if done := len(files) - len(missing):
            progress.note(f"{done:,} of {len(files):,} files are priced already.")
        work = FolderWork(place, options, build.folder.resolve())
        shards = [Shard(file.path.name, file, str(build.folder)) for file in missing]
        try:
            results = run_files(cluster, model, work, shards, progress)
        finally:
            build.keep = has_records(build.folder)
        raise_failures(results, "priced", "file")
        check_inputs(build.folder, files)
        return finish(build, files, to)


def run_files(
    cluster: str | None, model: PriceModel, work: FolderWork, shards: Sequence[Shard], progress: Progress
) -> list[ShardResult]:
    """Price the files; the result of each."""
    results = []
    with open_runner(cluster, model, work, shards, progress) as running:
        progress.start(f"pricing {len(shards):,} files", len(shards))
        for result in running:
            results.append(result)
            progress.advance()
    return results


@contextmanager
def open_runner(
    cluster: str | None, model: PriceModel, work: FolderWork, shards: Sequence[Shard], progress: Progress
) -> Iterator[Iterator[ShardResult]]:
    """The results of the shards as they come, from the cluster or from this process."""
    if cluster is None or not shards:
        yield run_here(price_one_file, work, shards)
        return
    folders, files = [work.folder], [work.model.manifest]
    with open_cluster(cluster, folders=folders, files=files, progress=progress) as opened:
        yield opened.run(price_one_file, work, shards, actors=holds_llm(model))


def list_inputs(folder: Path, progress: Progress) -> list[InputFile]:
    """The tables of a folder by name. Raises UsageError if two outputs would have the same name."""
    paths: dict[Path, None] = {}
    for source in resolve_sources([str(folder)], progress):
        paths |= dict.fromkeys(source.paths)
    files = [InputFile(path, output_name(path)) for path in sorted(paths)]
    outputs: dict[str, Path] = {}
    for file in files:
        other = outputs.setdefault(file.output.casefold(), file.path)
        if other != file.path:  # of one folder, or links to files of the same name in two
            raise UsageError(
                f"Two outputs would be called {file.output}",
                got=f"{other} and {file.path}",
                hint="Rename one of the two files.",
            )
    return files


def output_name(path: Path) -> str:
    """The name of an input's output: its own if that kind of file is written, else with `.csv` at its end."""
    return path.name if path.suffix.lower() in WRITERS else f"{path.name}.csv"


def price_one_file(work: FolderWork, file: InputFile) -> dict[str, Any]:
    """Price one file whole into the folder, with its record; the counts."""
    attempt = work.folder / f"{ATTEMPT}{uuid.uuid4().hex}"
    attempt.mkdir()
    try:
        model, before = work.model.load(), file.facts()
        draft = attempt / file.output
        facts = price_file(model, model.info, file.path, draft, identity=model.identity, **work.options)
        record = {**before, "sha256": sha256(file.path), "output": file.output, "output_sha256": sha256(draft)}
        if file.facts() != before:
            raise InputError(f"{file.path} was changed while it was priced", hint="Leave it as it is for a while.")
        counts = {name: facts[name] for name in COUNTS if name in facts}
        os.replace(draft, work.folder / file.output)
        write_json(record_path(work.folder, file), {**record, **counts})
    finally:
        shutil.rmtree(attempt, ignore_errors=True)
    return counts


def has_records(folder: Path) -> bool:
    """Whether any file is priced already."""
    return any(folder.glob(f"{RECORDS}/*.json"))


def record_path(folder: Path, file: InputFile) -> Path:
    """Where the record of a file is."""
    return folder / RECORDS / f"{file.output}.json"


def read_record(folder: Path, file: InputFile) -> dict[str, Any] | None:
    """The record of a file, None if it is missing or damaged."""
    with suppress(InputError):
        record = read_json(record_path(folder, file))
        if isinstance(record, dict):
            return record
    return None


def is_done(folder: Path, file: InputFile) -> bool:
    """Whether the prices of a file as it is now are there, whole."""
    record = read_record(folder, file)
    if record is None or not (folder / file.output).is_file():
        return False
    return is_input_of(record, file) and record.get("output_sha256") == sha256(folder / file.output)


def is_input_of(record: Mapping[str, Any], file: InputFile) -> bool:
    """Whether a record is that of a file as it is now."""
    same = all(record.get(name) == value for name, value in file.facts().items())
    return same or record.get("sha256") == sha256(file.path)


def check_inputs(folder: Path, files: Sequence[InputFile]) -> None:
    """Raises InputError unless all files that were priced, which a node may have read, are those of this machine."""
    others = [file for file in files if not is_input_of(read_record(folder, file) or {}, file)]
    if others:
        raise InputError(
            f"{others[0].path} was changed while the folder was priced, or is another file on a node",
            got=f"{len(others):,} of {len(files):,} files",
            allowed="files that every node reads under the same path, such as on a network file system",
            hint="Run the same command again: it prices these files again.",
        )


def remove_leftovers(folder: Path, outputs: set[str]) -> None:
    """Remove what killed attempts left in an unfinished folder, and the prices of inputs that are gone."""
    for path in folder.glob(f"{ATTEMPT}*"):
        shutil.rmtree(path, ignore_errors=True)
    for record in folder.glob(f"{RECORDS}/*.json"):
        if (name := record.name.removesuffix(".json")) not in outputs:
            record.unlink()
            (folder / name).unlink(missing_ok=True)


def check_unchanged(files: Sequence[InputFile], folder: Path, to: Path, progress: Progress) -> dict[str, Any]:
    """The counts of a finished folder. Raises UsageError if the inputs are others by now."""
    records = {path.name for path in (to / RECORDS).glob("*.json")}
    changed = [file.path.name for file in files if not is_done(to, file)]
    gone = sorted(records - {f"{file.output}.json" for file in files})
    if changed or gone:
        names = [*changed, *(name.removesuffix(".json") for name in gone)]
        raise UsageError(
            f"{to} is finished, and {folder} has changed since",
            got=", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else ""),
            hint="Choose another --to, or price all files again with --overwrite.",
        )
    progress.note(f"{to} is finished already.")
    return {**count_rows(to, files), "to": str(to)}


def finish(build: FolderBuild, files: Sequence[InputFile], to: Path) -> dict[str, Any]:
    """Finish the folder, with the counts over all files in its marker."""
    remove_leftovers(build.folder, {file.output for file in files})
    counts = count_rows(build.folder, files)
    build.finish(counts)
    return {**counts, "to": str(to)}


def count_rows(folder: Path, files: Sequence[InputFile]) -> dict[str, int]:
    """The counts of all files together."""
    records = [record for file in files if (record := read_record(folder, file)) is not None]
    totals = {name: sum(record.get(name, 0) for record in records) for name in COUNTS}
    audited = any("plausible" in record for record in records)
    names = COUNTS if audited else COUNTS[:4]
    return {"files": len(files), **{name: totals[name] for name in names}}
