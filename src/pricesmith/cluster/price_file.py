"""`price --file F --cluster ADDRESS`: the rows of one file, priced on all nodes of a Ray cluster.

This process reads the file and sends ranges of 100,000 rows. A node prices them in parts of 5,000 rows, as one machine
does, and writes each part into OUT.parts/ on the shared folder; this process joins the parts. So the output is the same
file, byte for byte, and what was interrupted is resumed at the first missing part, with or without a cluster.
"""

from __future__ import annotations

from collections.abc import Iterator, Set
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from pricesmith.batch.asked_columns import AskedPrices
from pricesmith.batch.part_table import PartRows
from pricesmith.batch.parts import is_intact_part, part_path
from pricesmith.batch.price import Pricing, PricingJob
from pricesmith.catalog.asked_prices import AskedPriceReader
from pricesmith.cluster.shards import Shard, raise_failures
from pricesmith.cluster.tasks import open_cluster
from pricesmith.core.errors import InputError, UsageError
from pricesmith.core.progress import Progress
from pricesmith.core.settings import read_toml
from pricesmith.pricers.model import MANIFEST, RECIPE, PriceModel, load_model
from pricesmith.pricers.price_auditor import PriceAuditor

SHARD_ROWS = 100_000  # a process loads the model once, and a task costs milliseconds
LLM_KINDS = ("lora_tokens", "lora_bins")
NO_PRICER: Any = None  # a node loads the model itself


@dataclass(frozen=True)
class ModelOnNodes:
    """A model folder on the shared folder, and its identity."""

    path: str
    identity: str

    @classmethod
    def of(cls, model: PriceModel, option: str = "--cluster") -> ModelOnNodes:
        """The folder of a loaded model. Raises UsageError, with the `option`, if the model asks an API model."""
        if model.asks_api:
            raise UsageError(
                f"{model.path} asks an API model, which {option} does not",
                got=str(model.manifest["kind"]),
                hint="Price one file after another, without --cluster: a budget is kept for each file.",
            )
        return cls(str(model.path.resolve()), model.identity)

    @property
    def manifest(self) -> Path:
        """The manifest of the model."""
        return Path(self.path) / MANIFEST

    def load(self) -> PriceModel:
        """The model, loaded once in each process. Raises InputError if it is another one by now."""
        return load_once(self.path, self.identity)


@lru_cache(maxsize=1)
def load_once(path: str, identity: str) -> PriceModel:
    """The model of a folder. Raises InputError if its identity is another."""
    model = load_model(path)
    if model.identity != identity:
        raise InputError(f"{path} was replaced while it was used", hint="Run the same command again.")
    return model


def holds_llm(model: PriceModel) -> bool:
    """Whether a model is a language model, or has one among its members."""
    return any(read_toml(path).get("kind") in LLM_KINDS for path in model.path.rglob(RECIPE))


@dataclass(frozen=True)
class FileWork:
    """What all shards of a file share: the job without its model, and where the model is."""

    model: ModelOnNodes
    job: PricingJob
    asked: AskedPriceReader | None = None


def price_on_cluster(model: PriceModel, address: str, shard_rows: int | None = None) -> Pricing:
    """How `batch.price.price_file` writes its parts on the cluster at `address`.

    Shards have `shard_rows` rows, by default 100,000, or one part with a language model. Raises UsageError if the model
    asks an API model.
    """
    place, is_llm = ModelOnNodes.of(model), holds_llm(model)

    def write_parts(job: PricingJob, done: Set[int], progress: Progress, name: str) -> int:
        size = max(1, (shard_rows or (job.part_rows if is_llm else SHARD_ROWS)) // job.part_rows)
        shared = replace(job, parts=job.parts.resolve(), pricer=NO_PRICER, asked=None)
        work = FileWork(place, shared, job.asked.reader if job.asked else None)
        shards = FileShards(job, done, size)
        results = []
        with open_cluster(address, folders=[job.parts], files=[place.manifest], progress=progress) as cluster:
            progress.start(f"pricing {name}")
            for result in cluster.run(price_parts, work, shards.read(progress), actors=is_llm):
                results.append(result)
                progress.advance(result.facts.get("rows", 0))
        raise_failures(results, "priced")
        return shards.rows

    return write_parts


class FileShards:
    """The shards of a file: `size` parts each, without those that are `done`. `rows` counts all rows read so far."""

    def __init__(self, job: PricingJob, done: Set[int], size: int) -> None:
        self.job, self.done, self.size = job, done, size
        self.rows = 0

    def read(self, progress: Progress) -> Iterator[Shard]:
        """Read the file; its shards as they fill. The rows of parts that are done count as progress."""
        parts: list[tuple[int, PartRows]] = []
        for number, rows in enumerate(self.job.read_parts()):
            if number in self.done:
                progress.advance(len(rows))
            else:
                parts.append((number, rows))
            self.rows += len(rows)
            if len(parts) == self.size:
                yield self.shard(parts)
                parts = []
        if parts:
            yield self.shard(parts)

    def shard(self, parts: list[tuple[int, PartRows]]) -> Shard:
        """Some parts as a shard, named after its rows."""
        first, (last, rows) = parts[0][0] * self.job.part_rows + 1, parts[-1]
        name = f"rows {first:,} to {last * self.job.part_rows + len(rows):,}"
        return Shard(name, parts, folder=str(self.job.parts.resolve()))


def price_parts(work: FileWork, parts: list[tuple[int, PartRows]]) -> dict[str, Any]:
    """Price parts of a file and write each of them, unless an earlier attempt has; the number of rows."""
    model = work.model.load()
    asked = AskedPrices(PriceAuditor(model), work.asked) if work.asked else None
    job = replace(work.job, pricer=model, asked=asked)
    for number, rows in parts:
        if not is_intact_part(part_path(job.parts, number), job.work):
            job.write(number, rows)
    return {"rows": sum(len(rows) for _, rows in parts)}
