"""The fits of a rung on the nodes of a Ray cluster: each is a task that writes its result into the shared folder."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Protocol

from pricesmith.catalog.catalog import LEDGER, Catalog, open_catalog
from pricesmith.cluster.shards import Shard
from pricesmith.cluster.tasks import Cluster, open_cluster
from pricesmith.core.errors import InputError, PricesmithError
from pricesmith.core.progress import SILENT, Progress
from pricesmith.core.settings import parse_settings
from pricesmith.learning_curve.fits import FitMaterial
from pricesmith.pricers import recipe_class
from pricesmith.pricers.recipes import get_settings
from pricesmith.sweeping.search import Trial
from pricesmith.sweeping.trials import LLM_KINDS, TrialFolder, build_sweep_material, describe_part, run_trial


class FitWorkers(Protocol):
    """Fits several trials at the same time; returns why some failed, by the trial's key."""

    def __call__(self, trials: Sequence[Trial], part: int, /) -> dict[str, str]: ...


@dataclass(frozen=True)
class SweepWork:
    """What all fits of a sweep share: the catalog, the kinds of all recipes, and where results are written."""

    catalog: str
    fingerprint: str
    kinds: tuple[str, ...]
    results: str


@dataclass(frozen=True)
class FitOrder:
    """One fit: a trial as plain values, and the part of the rows."""

    number: int
    name: str
    settings: Mapping[str, Any]
    part: int


@contextmanager
def open_workers(
    address: str, catalog: Catalog, kinds: frozenset[str], results: TrialFolder, progress: Progress
) -> Iterator[FitWorkers]:
    """The nodes of the cluster at `address`. Raises UsageError if a node differs or does not share the folders."""
    work = SweepWork(
        str(catalog.path.resolve()), catalog.fingerprint, tuple(sorted(kinds)), str(results.folder.resolve())
    )
    with open_cluster(address, folders=[results.folder], files=[catalog.path / LEDGER], progress=progress) as cluster:
        yield ClusterWorkers(cluster, work, progress)


@dataclass(frozen=True)
class ClusterWorkers:
    """Sends fits to a cluster: language models to one process for each GPU or node, all others to any core."""

    cluster: Cluster
    work: SweepWork
    progress: Progress

    def __call__(self, trials: Sequence[Trial], part: int, /) -> dict[str, str]:
        """Fit trials on a part of the rows; why some failed, by key. Raises PricesmithError if a disk is full."""
        failures: dict[str, str] = {}
        keys = {f"trial {trial.number}": trial.key for trial in trials}
        self.progress.start(f"fitting {len(trials)} trials on {describe_part(part)}", len(trials))
        for actors in (False, True):
            shards = [
                Shard(
                    f"trial {trial.number}",
                    FitOrder(trial.number, trial.name, get_settings(trial.recipe), part),
                    folder=self.work.results,
                )
                for trial in trials
                if (trial.recipe.kind in LLM_KINDS) == actors
            ]
            if not shards:
                continue
            for result in self.cluster.run(fit_on_node, self.work, shards, actors=actors):
                self.progress.advance()
                if result.disk_full:
                    raise PricesmithError(f"{result.name}: {result.failure}", got=result.node, hint=result.hint)
                if result.failure:
                    failures[keys[result.name]] = result.failure
        return failures


def fit_on_node(work: SweepWork, order: FitOrder) -> dict[str, Any]:
    """Fit one trial and write its result, unless an earlier attempt has."""
    values = dict(order.settings)
    recipe = parse_settings(recipe_class(values.pop("kind")), values, where=f"trial {order.number}")
    trial, material = Trial(order.number, order.name, recipe, {}), read_material(work)
    results = TrialFolder(Path(work.results), len(material.evaluated))
    if results.load(trial, order.part) is None:
        run_trial(trial, order.part, material, results, SILENT)
    return {}


@lru_cache(maxsize=1)
def read_material(work: SweepWork) -> FitMaterial:
    """The rows of a sweep, read once in each process. Raises InputError if the catalog is another one by now."""
    catalog = open_catalog(work.catalog)
    if catalog.fingerprint != work.fingerprint:
        raise InputError(f"{work.catalog} was replaced while it was used", hint="Run the same command again.")
    return build_sweep_material(catalog, frozenset(work.kinds))
