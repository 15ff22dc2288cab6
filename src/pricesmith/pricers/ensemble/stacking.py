"""Stacking: networks that look at similar listings, and trees over their output. The lowest error without an LLM.

    training rows -> groups -> folds -> neighbors of other groups -> networks, with one fold left out at a time
    their out-of-fold outputs + neighbors' prices + numbers and categories of the listing -> trees -> the quote

The trees see pairs of the listing and a neighbor, and predict the ratio of their prices (`pairs.py`). They are fitted
on out-of-fold outputs of the networks (stacking: Wolpert 1992). The networks of a fold exclude its
rows everywhere, as neighbors too: otherwise a row's price would leak through the rows that it is a neighbor of. The
quote is a weighted mean of networks and trees (`Gate`). An error model, trees fitted on the out-of-fold errors,
gives the interval its width. Every finished stage is stored in `checkpoints/`, so that an interrupted fit resumes.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, fields, replace
from functools import partial
from pathlib import Path
from typing import Annotated, Any, ClassVar, Protocol, TypeGuard, runtime_checkable

import numpy as np
from numpy.typing import NDArray
from pydantic import BeforeValidator, Field

from pricesmith.core.atomic import write_json
from pricesmith.core.model_files import read_object, report_damage
from pricesmith.core.progress import SILENT, Estimated, Progress
from pricesmith.core.settings import Settings
from pricesmith.core.threads import N_CORES
from pricesmith.core.types import Item, Listing, Pricer, Quote, Recipe
from pricesmith.pricers import recipe_class
from pricesmith.pricers.ensemble.gate import EQUAL_WEIGHTS, Gate
from pricesmith.pricers.ensemble.neural import NetworkEnsemble, TrainConfig, network_files, train_networks
from pricesmith.pricers.ensemble.pairs import FIELDS, Pairs, Partners, choose_pairs
from pricesmith.pricers.features.hashing import F32, SparseRows, chunks, concatenate_rows, gather_parts
from pricesmith.pricers.features.retrieval import (
    LOG_PRICES,
    N_NEIGHBORS,
    NeighborIndex,
    Neighbors,
    RetrievalSet,
    StageCache,
)
from pricesmith.pricers.features.tokenizer import F64
from pricesmith.pricers.features.trees import TabularFields, TreeEnsemble, TreeParams, TreeRows, fit_trees, tree_files
from pricesmith.pricers.recipes import measured_figures, split_commas
from pricesmith.pricers.training import FEW_ROWS

INDEX = "neighbors.npz"
NETWORKS = "networks"
TREES = "trees"
ERROR_MODEL = "error_model"
STACKING = "stacking.json"
CHECKPOINTS = "checkpoints"
ESTIMATORS = "estimators"
MIN_VALIDATION = 20
ERROR_TREES = 300
FOLD_PAIRS = 2  # of each row, that out-of-fold trees are grown on: fewer than PAIRS_A_ROW, for less memory
SEED_STRIDE = 1_000_003  # between the seeds of two networks
FOLD_STRIDE = 7919  # between the seeds of two folds
# CPU seconds of the parts of a fit, of which only the proportions matter: index and network as measured on 630 made
# listings, an estimator from measured.toml, a tree ensemble guessed. A wrong proportion delays a new estimate.
SHARES = {"index": 1.1, "network": 1.2, "estimator": 0.5, "trees": 1.2}
PAIRED_AT_ONCE = 4_096  # listings
MIN_WIDTH = 0.02  # no interval before calibration is narrower than price ÷ 1.02 to × 1.02


class StackingRecipe(Settings):
    """Settings of the stacking pricer."""

    kind: ClassVar[str] = "best"
    resumes: ClassVar[bool] = True
    scaled: ClassVar[bool] = True  # its bounds are error estimates, and are calibrated by a factor
    seed: int = Field(0, ge=0, description="seed of folds, networks and trees")
    estimators: Annotated[tuple[str, ...], BeforeValidator(split_commas)] = Field(
        ("sparse_mlp", "ridge"), description="kinds whose out-of-fold quotes are columns of the trees"
    )
    folds: int = Field(5, ge=2, le=50, description="folds for out-of-fold outputs")
    ensemble_size: int = Field(2, ge=1, le=64, description="networks that are averaged")
    fold_ensemble_size: int = Field(2, ge=1, le=64, description="networks that are averaged for each fold")
    n_neighbors: int = Field(24, ge=1, le=N_NEIGHBORS, description="neighbors that a network attends to")
    embedding_dim: int = Field(64, ge=1, le=1024, description="length of a feature's embedding")
    hidden_dim: int = Field(64, ge=1, le=1024, description="units of the hidden layer")
    key_dim: int = Field(32, ge=1, le=1024, description="length of the keys of the attention")
    epochs: int = Field(6, ge=1, le=100, description="passes over the rows; the batch size doubles in the last half")
    batch_size: int = Field(512, ge=1, description="rows in a step of the first epochs; smaller if there are few rows")
    learning_rate: float = Field(0.01, gt=0, description="learning rate of the networks' dense layers")
    embedding_learning_rate: float = Field(0.03, gt=0, description="learning rate of the embeddings")
    dollar_loss_weight: float = Field(
        0.8, ge=0, le=1, description="weight of the error in money in the networks' loss; the rest is in log price"
    )
    min_count: int = Field(3, ge=1, description="features that occur less often are ignored")
    tree_learning_rate: float = Field(0.1, gt=0, le=1, description="learning rate of the trees")
    num_leaves: int = Field(127, ge=2, le=4096, description="leaves of a tree")
    n_estimators: int = Field(250, ge=1, description="trees of an ensemble, at most")
    patience: int = Field(50, ge=1, description="trees without progress on held-out rows before early stopping")
    n_pairs: int = Field(4, ge=1, le=N_NEIGHBORS, description="neighbors that the trees compare a listing with")
    n_forests: int = Field(2, ge=1, le=64, description="tree ensembles that are averaged")
    max_numbers: int = Field(160, ge=0, description="numeric columns, at most")
    min_numbers: int = Field(40, ge=1, description="a numeric column occurs in at least this many listings")
    max_names: int = Field(200, ge=0, description="values of a categorical column, at most")
    min_names: int = Field(30, ge=1, description="a categorical value occurs in at least this many listings")

    def fit(self, train: Sequence[Item], validation: Sequence[Item], folder: Path, progress: Progress = SILENT) -> None:
        """Write the index, the networks, the trees, the error model and the gate."""
        if (folder / STACKING).is_file():  # written last; the calibration was interrupted
            progress.note("The networks and trees are fitted already.")
            return
        train = list(train)  # its rows are asked for by number, fold by fold
        known = measured_figures(self.kind, len(train))
        progress = Estimated(progress, self.kind, self.stages(), known[0] if known else 0.0)
        cache = StageCache(folder / CHECKPOINTS)
        progress.start("finding groups and neighbors")
        rows = RetrievalSet.from_items(train, self.folds, self.seed)
        columns, *fold_columns = cache("columns", rows.columns)
        networks = self.out_of_fold_networks(rows, fold_columns, cache, progress)
        nets = self.fit_networks(rows, columns, cache, progress, folder)
        quotes = self.out_of_fold_estimators(train, rows, cache, progress)
        estimators = [fit_estimator(kind, train, folder / ESTIMATORS / kind) for kind in self.estimators]
        tabular = TabularFields.from_listings(
            rows.listings, self.max_numbers, self.min_numbers, self.max_names, self.min_names
        )
        params = self.tree_params(len(tabular.categories))
        tables = tabular.columns(rows.listings)
        partners = Partners.from_table(tables, len(tabular.categories), rows.logs)
        pricer = StackingPricer(
            rows.index, nets, estimators, tabular, partners, TreeEnsemble([]), TreeEnsemble([]), n_pairs=self.n_pairs
        )
        near = rows.neighbors().head(self.n_pairs)
        features = StackedFeatures(tables, columns, quotes, networks, near)
        trees, rounds = self.out_of_fold_trees(rows, features, fold_columns, partners, params, cache, progress)
        progress.start("growing trees", self.n_forests)
        later = None
        if len(validation) >= MIN_VALIDATION:
            rounds = 0  # as many as validation says
            checked = pricer.features([item.listing for item in validation])
            pairs = checked.pair(partners, choose_pairs(checked.near, self.seed, self.n_pairs))
            later = TreeRows(pairs.table, np.log([item.price for item in validation])[pairs.rows], pairs.logs)
        seeds = [self.seed + number for number in range(self.n_forests)]
        pairs = features.pair(partners, choose_pairs(near, self.seed))
        pricer.trees = fit_trees(
            TreeRows(pairs.table, rows.logs[pairs.rows], pairs.logs), params, seeds, later, rounds,
            checkpoint=lambda name: cache.path(f"pairs-{name}"), progress=progress, curve_folder=folder,
        )  # fmt: skip
        del pairs, later
        pricer.gate = Gate.fit(features.network, trees, rows.logs)
        logs = pricer.gate.combine(features.network, trees)
        table, errors = features.error_table(trees, logs), np.abs(rows.logs - logs)
        pricer.error_model = fit_trees(
            TreeRows(table, errors), self.error_params(params), [self.seed], rounds=ERROR_TREES
        )
        pricer.save(folder)

    def stages(self) -> list[tuple[str, float]]:
        """The stages of a fit with their shares of the work, roughly in CPU seconds."""
        network, trees = SHARES["network"], SHARES["trees"]
        folds = [f"training networks without fold {fold + 1}" for fold in range(self.folds)]
        return [
            ("finding groups", SHARES["index"]),
            *((name, network * self.fold_ensemble_size * (1 - 1 / self.folds)) for name in folds),
            ("training networks", network * self.ensemble_size),
            ("fitting estimators", SHARES["estimator"] * self.folds * len(self.estimators)),
            ("growing out-of-fold trees", trees * self.folds * (1 - 1 / self.folds)),
            ("growing trees", trees * self.n_forests),
        ]

    def train_config(self) -> TrainConfig:
        """The settings of the networks."""
        return TrainConfig(**{field.name: getattr(self, field.name) for field in fields(TrainConfig)})

    def tree_params(self, n_categorical: int) -> TreeParams:
        """The settings of the trees of the quote."""
        return TreeParams(
            n_categorical, self.n_estimators, self.tree_learning_rate, self.num_leaves, patience=self.patience
        )

    def error_params(self, params: TreeParams) -> TreeParams:
        """The settings of the error model, which predicts the 90 % quantile of the absolute log error."""
        leaves = min(31, self.num_leaves)
        return replace(params, learning_rate=0.05, num_leaves=leaves, quantile=0.9, min_data_in_leaf=50)

    def fit_networks(
        self, rows: RetrievalSet, columns: F32, cache: StageCache, progress: Progress, folder: Path
    ) -> NetworkEnsemble:
        """The networks of the quote, trained on all rows."""
        progress.start("training networks", self.ensemble_size)
        seeds = [self.seed + SEED_STRIDE * number for number in range(self.ensemble_size)]
        return train_networks(
            self.train_config(), rows.buckets, rows.neighbors(), columns, rows.logs, np.arange(len(rows.logs)), seeds,
            cache.path, progress, curve_folder=folder,
        )  # fmt: skip

    def out_of_fold_networks(
        self, rows: RetrievalSet, fold_columns: Sequence[F32], cache: StageCache, progress: Progress
    ) -> F64:
        """Log prices [n, fold_ensemble_size] of the training rows, by networks that exclude each row's fold."""
        logs = np.full((len(rows.logs), self.fold_ensemble_size), np.median(rows.logs))
        for fold, columns in zip(rows.folds, fold_columns, strict=True):
            progress.start(f"training networks without fold {fold + 1} of {len(rows.folds)}", self.fold_ensemble_size)
            compute = partial(self.fold_networks, rows, fold, columns, cache, progress)
            logs[rows.fold == fold] = cache(f"fold-{fold}", compute)
        return logs

    def fold_networks(self, rows: RetrievalSet, fold: int, columns: F32, cache: StageCache, progress: Progress) -> F64:
        """Log prices of the rows of a fold, by networks that exclude the fold."""
        numbers = range(self.fold_ensemble_size)
        seeds = [self.seed + SEED_STRIDE * number + FOLD_STRIDE * (fold + 1) for number in numbers]
        neighbors, others = rows.neighbors(fold), np.flatnonzero(rows.fold != fold)
        nets = train_networks(
            self.train_config(), rows.buckets, neighbors, columns, rows.logs, others, seeds, cache.path, progress
        )
        return nets.log_prices(nets.encode(rows.buckets, neighbors, columns).rows(np.flatnonzero(rows.fold == fold)))

    def out_of_fold_estimators(
        self, train: Sequence[Item], rows: RetrievalSet, cache: StageCache, progress: Progress
    ) -> F64:
        """Log prices [n, estimators] of the training rows, by estimators that exclude each row's fold."""
        logs = np.full((len(train), len(self.estimators)), np.median(rows.logs))
        progress.start("fitting estimators", len(rows.folds) * len(self.estimators))

        def compute(kind: str, held_out: Any) -> F64:
            with tempfile.TemporaryDirectory() as folder:
                others = [train[row] for row in np.flatnonzero(~held_out).tolist()]
                pricer = fit_estimator(kind, others, Path(folder))
                return log_prices(pricer, [rows.listings[row] for row in np.flatnonzero(held_out).tolist()])

        for fold in rows.folds:
            held_out = rows.fold == fold
            for column, kind in enumerate(self.estimators):
                logs[held_out, column] = cache(f"{kind}-{fold}", partial(compute, kind, held_out))
                progress.advance()
        return logs

    def out_of_fold_trees(
        self,
        rows: RetrievalSet,
        features: StackedFeatures,
        fold_columns: Sequence[F32],
        partners: Partners,
        params: TreeParams,
        cache: StageCache,
        progress: Progress,
    ) -> tuple[F64, int]:
        """Log prices [n] of the training rows, by trees that exclude each row's fold everywhere but in the outputs of
        networks, and the median number of trees. The trees of a fold stop early by its rows.

        The outputs of networks for the other folds come from networks that were trained on this fold. So trees overfit
        earlier here than on new listings, and the median is only used where there are too few validation rows.
        """
        progress.start("growing out-of-fold trees", len(rows.folds))
        logs = features.network.copy()

        def compute(fold: int, columns: F32) -> tuple[F64, int]:
            held_out = rows.fold == fold
            near = rows.neighbors(fold).head(self.n_pairs)
            chosen = choose_pairs(near, self.seed, FOLD_PAIRS)[~held_out]
            pairs = replace(features, neighbors=columns, near=near).rows(~held_out).pair(partners, chosen)
            inside = features.rows(held_out)
            checked = inside.pair(partners, choose_pairs(inside.near, self.seed, FOLD_PAIRS))
            trees = fit_trees(
                TreeRows(pairs.table, rows.logs[~held_out][pairs.rows], pairs.logs), params, [self.seed],
                TreeRows(checked.table, rows.logs[held_out][checked.rows], checked.logs),
                checkpoint=lambda name: cache.path(f"pairs-{fold}-{name}"),
            )  # fmt: skip
            return inside.predict(partners, trees), trees.n_trees

        counts = []
        with ThreadPoolExecutor(N_CORES) as pool:
            for fold, (part, count) in zip(rows.folds, pool.map(compute, rows.folds, fold_columns), strict=True):
                logs[rows.fold == fold] = part
                counts.append(count)
                progress.advance()
        return logs, int(np.median(counts)) if counts else 0

    def load(self, folder: Path) -> Pricer:
        """The pricer of a model folder."""
        path = folder / STACKING
        values = read_object(path)
        with report_damage(path):
            tabular, gate = TabularFields.from_dict(values["fields"]), Gate.from_dict(values["gate"])
        index = NeighborIndex.load(folder / INDEX)
        return StackingPricer(
            index,
            NetworkEnsemble.load(folder / NETWORKS, self.n_neighbors, self.ensemble_size),
            [recipe_class(kind)().load(folder / ESTIMATORS / kind) for kind in self.estimators],
            tabular,
            Partners.load(folder, len(tabular.categories), len(tabular.numbers), index.logs),
            TreeEnsemble.load(folder / TREES, self.n_forests),
            TreeEnsemble.load(folder / ERROR_MODEL, 1),
            gate,
            self.n_pairs,
        )

    @property
    def files(self) -> tuple[str, ...]:
        """The files of a fitted model with these settings."""
        return (
            INDEX,
            FIELDS,
            STACKING,
            *(f"{NETWORKS}/{name}" for name in network_files(self.ensemble_size)),
            *(f"{TREES}/{name}" for name in tree_files(self.n_forests)),
            *(f"{ERROR_MODEL}/{name}" for name in tree_files(1)),
            *(f"{ESTIMATORS}/{kind}/{name}" for kind in self.estimators for name in recipe_class(kind)().files),
        )


@dataclass(frozen=True, slots=True)
class StackedFeatures:
    """The inputs of the trees for n listings: tabular columns, columns of neighbors' prices, log prices of the
    estimators [n, estimators] and of the networks [n, networks], and the neighbors that it is compared with [n, k]."""

    tabular: F32
    neighbors: F32
    estimators: F64
    networks: F64
    near: Neighbors

    def rows(self, chosen: Any) -> StackedFeatures:
        """The inputs of some of the listings."""
        return StackedFeatures(
            self.tabular[chosen],
            self.neighbors[chosen],
            self.estimators[chosen],
            self.networks[chosen],
            self.near.rows(chosen),
        )

    @property
    def network(self) -> F64:
        """The mean log price of the networks [n]."""
        return np.asarray(self.networks.mean(axis=1))

    def table(self) -> F32:
        """The columns of the listings alone [n, columns]."""
        return np.column_stack([self.tabular, self.neighbors, self.estimators, self.network]).astype(np.float32)

    def pair(self, partners: Partners, chosen: NDArray[np.bool_] | None = None) -> Pairs:
        """The listings with their neighbors among the partners, or with those that are `chosen` [n, k]."""
        first, width = self.tabular.shape[1], self.tabular.shape[1] + self.neighbors.shape[1]
        log_columns = [*(first + place for place in LOG_PRICES), *range(width, width + self.estimators.shape[1] + 1)]
        return partners.pair(self.table(), log_columns, self.near, self.network, chosen)

    def predict(self, partners: Partners, trees: TreeEnsemble) -> F64:
        """Log prices [n] by the trees; the pairs of a block of listings are in memory at a time."""
        logs = []
        for start in range(0, len(self.tabular), PAIRED_AT_ONCE):
            pairs = self.rows(slice(start, start + PAIRED_AT_ONCE)).pair(partners)
            logs.append(pairs.mean(trees.predict(pairs.table)))
        return np.concatenate(logs) if logs else np.zeros(0)

    def error_table(self, trees: F64, logs: F64) -> F32:
        """The columns of the error model: with the log quote, and how far networks and trees are apart."""
        distance = np.abs(self.network - trees)
        return np.column_stack([self.table(), logs, distance, self.networks.std(axis=1)]).astype(np.float32)


class StackingPricer:
    """Quotes a weighted mean of networks and trees, with bounds at the predicted 90 % quantile of the error."""

    def __init__(
        self,
        index: NeighborIndex,
        nets: NetworkEnsemble,
        estimators: Sequence[Pricer],
        tabular: TabularFields,
        partners: Partners,
        trees: TreeEnsemble,
        error_model: TreeEnsemble,
        gate: Gate = EQUAL_WEIGHTS,
        n_pairs: int = 1,
    ) -> None:
        self.index, self.nets, self.estimators, self.tabular = index, nets, estimators, tabular
        self.partners, self.trees, self.error_model, self.gate = partners, trees, error_model, gate
        self.n_pairs = n_pairs

    @property
    def name(self) -> str:
        return "best"

    def features(self, listings: Sequence[Listing]) -> StackedFeatures:
        """The inputs of the trees."""

        def look_at_neighbors(buckets: SparseRows) -> tuple[Neighbors, F32, F64]:
            neighbors = self.index.search(self.index.encode(buckets), N_NEIGHBORS)
            columns = self.index.columns(neighbors)
            return neighbors, columns, self.nets.log_prices(self.nets.encode(buckets, neighbors, columns))

        def read_listings() -> tuple[F32, list[F64 | None]]:
            quotes = [None if reads_features(pricer) else log_prices(pricer, listings) for pricer in self.estimators]
            return self.tabular.columns(listings), quotes

        if len(listings) < FEW_ROWS:
            tabular, quotes = read_listings()
            parts = gather_parts(listings)
            neighbors, columns, networks = look_at_neighbors(concatenate_rows([*parts]))
        else:  # the first is mostly Python, the second computes outside of Python's lock: together they use two cores
            with ThreadPoolExecutor(1) as pool:
                reading = pool.submit(read_listings)
                parts = gather_parts(listings)
                neighbors, columns, networks = look_at_neighbors(concatenate_rows([*parts]))
                tabular, quotes = reading.result()
        logs = [
            np.log(np.concatenate([pricer.price_features(part) for part in parts])) if reads_features(pricer) else own
            for pricer, own in zip(self.estimators, quotes, strict=True)
        ]
        estimators = np.array(logs, dtype=np.float64).reshape(len(self.estimators), len(listings)).T
        return StackedFeatures(tabular, columns, estimators, networks, neighbors.head(self.n_pairs))

    def price(self, listings: Sequence[Listing]) -> list[Quote]:
        """One quote for each listing, with `low` and `high`."""
        quotes: list[Quote] = []
        for part in chunks(listings) if listings else ():
            features = self.features(part)
            trees = features.predict(self.partners, self.trees)
            logs = self.gate.combine(features.network, trees)
            errors = np.maximum(self.error_model.predict(features.error_table(trees, logs)), MIN_WIDTH)
            bounds = zip(np.exp(logs), np.exp(logs - errors), np.exp(logs + errors), strict=True)
            quotes += [Quote(float(price), float(low), float(high)) for price, low, high in bounds]
        return quotes

    def save(self, folder: Path) -> None:
        """Write all parts but the estimators, which write their own files, into a model folder."""
        self.index.save(folder / INDEX)
        self.partners.save(folder)
        self.nets.save(folder / NETWORKS)
        self.trees.save(folder / TREES)
        self.error_model.save(folder / ERROR_MODEL)
        write_json(folder / STACKING, {"gate": self.gate.to_dict(), "fields": self.tabular.to_dict()})


@runtime_checkable
class FeaturesPricer(Protocol):
    """A pricer of the hashed features that the networks read too: `price_features` returns the prices [n]."""

    def price_features(self, buckets: SparseRows, /) -> F64: ...


def reads_features(pricer: Pricer) -> TypeGuard[FeaturesPricer]:
    """Whether a pricer can price hashed features."""
    return isinstance(pricer, FeaturesPricer)


def fit_estimator(kind: str, train: Sequence[Item], folder: Path) -> Pricer:
    """A kind with its default settings, fitted into a folder, which is created."""
    folder.mkdir(parents=True, exist_ok=True)
    recipe: Recipe = recipe_class(kind)()
    recipe.fit(train, (), folder, SILENT)
    return recipe.load(folder)


def log_prices(pricer: Pricer, listings: Sequence[Listing]) -> F64:
    """The log prices of a pricer's quotes [n]; NaN if a listing is unanswered."""
    prices = [quote.price if quote.price and quote.price > 0 else np.nan for quote in pricer.price(listings)]
    return np.asarray(np.log(np.array(prices, dtype=np.float64)))
