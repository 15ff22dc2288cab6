"""The lowest error that two cores reach in two hours: networks that look at similar listings, trees over what they say.

    training rows -> groups -> folds -> neighbors of other groups -> networks, one fold left out at a time
    their answers on the rows left out + neighbors' prices + numbers and groups of the listing -> trees -> the quote

Trees learn from answers that networks gave to rows they had not seen (stacking: Wolpert 1992). A network that judges a
fold may not see it anywhere, also not as its rows' neighbors: a row whose price pulled its neighbor up in training
would then be guessed the lower for it. The quote is a mean of networks and trees (`trust.py`). More trees learn from
the errors on the rows left out how far off a quote may be; that makes its interval. Every finished part lies in
`checkpoints/`, so a killed fit goes on.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from dataclasses import fields as dataclass_fields
from functools import partial
from pathlib import Path
from typing import Annotated, Any, ClassVar

import numpy as np
from pydantic import BeforeValidator, Field

from pricesmith.core.atomic import write_json
from pricesmith.core.model_files import read_object, report_damage
from pricesmith.core.progress import SILENT, Estimated, Progress
from pricesmith.core.settings import Settings
from pricesmith.core.types import Item, Listing, Pricer, Quote, Recipe
from pricesmith.pricers import recipe_class
from pricesmith.pricers.ensemble.gating import NEUTRAL, Gate
from pricesmith.pricers.ensemble.gbdt import TreeEnsemble, TreeParams, fit_trees
from pricesmith.pricers.ensemble.gbdt import files_of as tree_files
from pricesmith.pricers.ensemble.neural import NetworkEnsemble, TrainConfig, train_networks
from pricesmith.pricers.ensemble.neural import files_of as network_files
from pricesmith.pricers.ensemble.retrieval_set import RetrievalSet, StageCache
from pricesmith.pricers.features.hashing import F32, chunks
from pricesmith.pricers.features.knn import F64, SAME_TEXT, NeighborIndex
from pricesmith.pricers.features.tabular import TabularFields
from pricesmith.pricers.features.threads import N_CORES
from pricesmith.pricers.features.vocabulary import gather_ranges
from pricesmith.pricers.recipes import measured_figures

NEAREST = "nearest.npz"
NETWORKS = "networks"
TREES = "trees"
DOUBT = "doubt"
FACTS = "best.json"
CHECKPOINTS = "checkpoints"
BESIDE = "beside"
LEAST_VALIDATION = 20
DOUBT_TREES = 300
STRIDE = 1_000_003  # between the seeds of networks
# Processor seconds of the parts of a fit, of which only the proportions matter: search and a network as measured on 630
# made listings, a cheap kind from measured.toml, a forest guessed. A wrong proportion delays a new estimate.
SHARES = {"search": 1.1, "network": 1.2, "cheap": 0.5, "forest": 1.2}
SUREST = 0.02  # no quote is surer than x/÷ 1.02


def split_commas(value: Any) -> Any:
    """`a,b` on the command line is two kinds."""
    return [part.strip() for part in value.split(",") if part.strip()] if isinstance(value, str) else value


class StackingRecipe(Settings):
    """Settings of the best pricer."""

    kind: ClassVar[str] = "best"
    resumes: ClassVar[bool] = True
    scaled: ClassVar[bool] = True  # its bounds say how far off a quote may be, and are calibrated by a factor
    seed: int = Field(0, ge=0, description="of folds, networks and trees")
    beside: Annotated[tuple[str, ...], BeforeValidator(split_commas)] = Field(
        ("sparse_mlp", "ridge"), description="cheap kinds whose answers the trees hear too, as they are shipped"
    )
    folds: int = Field(5, ge=2, le=50, description="parts that are left out one after another to learn from errors")
    members: int = Field(4, ge=1, le=64, description="networks that are averaged")
    fold_members: int = Field(2, ge=1, le=64, description="networks that are averaged on a part left out")
    near: int = Field(24, ge=1, le=SAME_TEXT, description="neighbors that a network looks at")
    width: int = Field(64, ge=1, le=1024, description="length of a feature's embedding")
    hidden: int = Field(64, ge=1, le=1024, description="units of the hidden layer")
    keys: int = Field(32, ge=1, le=1024, description="length of the key by which neighbors are chosen")
    passes: int = Field(6, ge=1, le=100, description="over the rows; the batch doubles in the last half of them")
    batch: int = Field(512, ge=1, description="rows in a step of the first passes; fewer where there are few rows")
    rate: float = Field(0.01, gt=0, description="learning rate of the networks")
    table_rate: float = Field(0.03, gt=0, description="learning rate of the embeddings")
    money: float = Field(0.8, ge=0, le=1, description="share of the networks' loss that is error in money")
    min_count: int = Field(3, ge=1, description="a feature that occurs less often is not used")
    tree_rate: float = Field(0.05, gt=0, le=1, description="how much of the error a tree takes away")
    leaves: int = Field(127, ge=2, le=4096, description="leaves of a tree")
    trees: int = Field(1000, ge=1, description="at most this many")
    patience: int = Field(100, ge=1, description="trees without progress on validation before it stops")
    forests: int = Field(3, ge=1, le=64, description="sets of trees that are averaged")
    numbers: int = Field(160, ge=0, description="at most this many kinds of number are columns")
    min_numbers: int = Field(40, ge=1, description="a kind of number in fewer listings is not a column")
    names: int = Field(200, ge=0, description="at most this many names of a group are told apart")
    min_names: int = Field(30, ge=1, description="a name of a group in fewer listings is not told apart")

    def fit(self, train: Sequence[Item], validation: Sequence[Item], run: Path, progress: Progress = SILENT) -> None:
        """Write the search, the networks, the trees of the quote and of its doubt, and how they are put together."""
        known = measured_figures(self.kind, len(train))
        progress = Estimated(progress, self.kind, self.stages(), known[0] if known else 0.0)
        kept = StageCache(run / CHECKPOINTS)
        progress.start("finding groups and neighbors")
        shop = RetrievalSet.of(train, self.folds, self.seed)
        columns, *without = kept("columns", shop.columns)
        unseen = self.unseen_networks(shop, without, kept, progress)
        progress.start("training networks", self.members)
        seeds = [self.seed + STRIDE * number for number in range(self.members)]
        everyone, plan = np.arange(len(shop.logs)), self.plan()
        made = train_networks(plan, shop.raw, shop.found(), columns, shop.logs, everyone, seeds, kept.path, progress)
        others = self.unseen_others(train, shop, kept, progress)
        beside = [fit_stack(kind, train, run / BESIDE / kind) for kind in self.beside]
        fields = TabularFields.of(shop.listings, self.numbers, self.min_numbers, self.names, self.min_names)
        soil = TreeParams(len(fields.groups), self.trees, self.tree_rate, self.leaves, self.patience)
        pricer = StackingPricer(shop.nearest, made, beside, fields, TreeEnsemble([]), TreeEnsemble([]))
        told = StackedFeatures(fields.columns(shop.listings), columns, others, unseen)
        progress.start("growing trees", self.forests)
        watched = None
        if len(validation) >= LEAST_VALIDATION:
            later = pricer.told([item.listing for item in validation])
            watched = (later.table(), np.log([item.price for item in validation]))
        seeds = [self.seed + number for number in range(self.forests)]
        pricer.trees = fit_trees(told.table(), shop.logs, soil, seeds, watched, kept=kept.path, progress=progress)
        trees = self.unseen_trees(shop, told, soil, pricer.trees.rounds, kept, progress)
        pricer.trust = Gate.of(told.network, trees, shop.logs)
        quotes = pricer.trust.mixed(told.network, trees)
        off = np.abs(shop.logs - quotes)
        pricer.doubt = fit_trees(told.doubt(trees, quotes), off, self.doubtful(soil), [self.seed], rounds=DOUBT_TREES)
        pricer.save(run)

    def stages(self) -> list[tuple[str, float]]:
        """The stages of a fit with their shares of the work, roughly in processor seconds."""
        networks, trees = SHARES["network"], SHARES["forest"]
        left_out = [f"training networks without part {fold + 1}" for fold in range(self.folds)]
        return [
            ("finding groups", SHARES["search"]),
            *((name, networks * self.fold_members * (1 - 1 / self.folds)) for name in left_out),
            ("training networks", networks * self.members),
            ("fitting cheap kinds", SHARES["cheap"] * self.folds * len(self.beside)),
            ("growing trees", trees * self.forests),
            ("growing trees for the errors", trees * self.folds * (1 - 1 / self.folds)),
        ]

    def plan(self) -> TrainConfig:
        """How networks are trained."""
        return TrainConfig(**{one.name: getattr(self, one.name) for one in dataclass_fields(TrainConfig)})

    def doubtful(self, soil: TreeParams) -> TreeParams:
        """How the trees of doubt grow: what nine of ten errors stay under."""
        return replace(soil, rate=0.05, leaves=min(31, self.leaves), quantile=0.9, least=50)

    def unseen_networks(self, shop: RetrievalSet, columns: Sequence[F32], kept: StageCache, progress: Progress) -> F64:
        """Log prices [n, fold_members] that networks give to the rows of the fold that they have not seen."""
        answers = np.full((len(shop.logs), self.fold_members), np.median(shop.logs))
        for fold, without in zip(shop.folds, columns, strict=True):
            progress.start(f"training networks without part {fold + 1} of {len(shop.folds)}", self.fold_members)
            learnt = partial(self.fold_networks, shop, fold, without, kept, progress)
            answers[shop.fold == fold] = kept(f"fold-{fold}", learnt)
        return answers

    def fold_networks(self, shop: RetrievalSet, fold: int, columns: F32, kept: StageCache, progress: Progress) -> F64:
        """What networks that know nothing of a fold say to its rows."""
        seeds = [self.seed + STRIDE * number + 7919 * (fold + 1) for number in range(self.fold_members)]
        found, chosen = shop.found(fold), np.flatnonzero(shop.fold != fold)
        made = train_networks(self.plan(), shop.raw, found, columns, shop.logs, chosen, seeds, kept.path, progress)
        return made.logs(made.seen(shop.raw, found, columns).rows(np.flatnonzero(shop.fold == fold)))

    def unseen_others(self, train: Sequence[Item], shop: RetrievalSet, kept: StageCache, progress: Progress) -> F64:
        """Log prices [n, kinds beside] that cheap kinds give to the rows of the fold that they have not seen."""
        answers = np.full((len(train), len(self.beside)), np.median(shop.logs))
        progress.start("fitting cheap kinds", len(shop.folds) * len(self.beside))

        def learnt(kind: str, out: Any) -> F64:
            with tempfile.TemporaryDirectory() as folder:
                pricer = fit_stack(kind, [train[row] for row in np.flatnonzero(~out).tolist()], Path(folder))
                return log_prices(pricer, [shop.listings[row] for row in np.flatnonzero(out).tolist()])

        for fold in shop.folds:
            out = shop.fold == fold
            for column, kind in enumerate(self.beside):
                answers[out, column] = kept(f"{kind}-{fold}", partial(learnt, kind, out))
                progress.advance()
        return answers

    def unseen_trees(
        self,
        shop: RetrievalSet,
        told: StackedFeatures,
        soil: TreeParams,
        rounds: int,
        kept: StageCache,
        progress: Progress,
    ) -> F64:
        """What trees say [n], in logs, of training rows that they have not seen."""
        progress.start("growing trees for the errors", len(shop.folds))
        trees, table = told.network.copy(), told.table()

        def learnt(fold: int) -> F64:
            out = shop.fold == fold
            return fit_trees(table[~out], shop.logs[~out], soil, [self.seed], rounds=rounds).predict(table[out])

        with ThreadPoolExecutor(N_CORES) as pool:
            answers = pool.map(lambda fold: kept(f"trees-{fold}", partial(learnt, fold)), shop.folds)
            for fold, answer in zip(shop.folds, answers, strict=True):
                trees[shop.fold == fold] = answer
                progress.advance()
        return trees

    def load(self, run: Path) -> Pricer:
        """The pricer that a run folder holds."""
        facts = read_object(run / FACTS)
        with report_damage(run / FACTS):
            fields, trust = TabularFields.made(facts["fields"]), Gate.made(facts["trust"])
        return StackingPricer(
            NeighborIndex.load(run / NEAREST),
            NetworkEnsemble.load(run / NETWORKS, self.near, self.members),
            [recipe_class(kind)().load(run / BESIDE / kind) for kind in self.beside],
            fields,
            TreeEnsemble.load(run / TREES, self.forests),
            TreeEnsemble.load(run / DOUBT, 1),
            trust,
        )

    @property
    def files(self) -> tuple[str, ...]:
        """The files that a fitted model of these settings holds."""
        return (
            NEAREST,
            FACTS,
            *(f"{NETWORKS}/{name}" for name in network_files(self.members)),
            *(f"{TREES}/{name}" for name in tree_files(self.forests)),
            *(f"{DOUBT}/{name}" for name in tree_files(1)),
            *(f"{BESIDE}/{kind}/{name}" for kind in self.beside for name in recipe_class(kind)().files),
        )


@dataclass(frozen=True, slots=True)
class StackedFeatures:
    """What is known of n listings when the trees are asked: their fields, neighbors' columns, the log prices of cheap
    kinds [n, kinds] and of networks [n, networks]."""

    fields: F32
    columns: F32
    others: F64
    answers: F64

    @property
    def network(self) -> F64:
        """The networks' log price."""
        return np.asarray(self.answers.mean(axis=1))

    def table(self) -> F32:
        """The columns of the trees."""
        return np.column_stack([self.fields, self.columns, self.others, self.network]).astype(np.float32)

    def doubt(self, trees: F64, quotes: F64) -> F32:
        """The columns of doubt: with the quote, and how far networks and trees are apart."""
        apart = np.abs(self.network - trees)
        return np.column_stack([self.table(), quotes, apart, self.answers.std(axis=1)]).astype(np.float32)


class StackingPricer:
    """Quotes a mean of networks and trees, with bounds as far off as nine of ten errors like it."""

    def __init__(
        self,
        nearest: NeighborIndex,
        nets: NetworkEnsemble,
        beside: Sequence[Pricer],
        fields: TabularFields,
        trees: TreeEnsemble,
        doubt: TreeEnsemble,
        trust: Gate = NEUTRAL,
    ) -> None:
        self.nearest, self.nets, self.beside, self.fields = nearest, nets, beside, fields
        self.trees, self.doubt, self.trust = trees, doubt, trust

    @property
    def name(self) -> str:
        return "best"

    def told(self, listings: Sequence[Listing]) -> StackedFeatures:
        """What is known of listings before the trees are asked."""
        raw = gather_ranges(listings)
        found = self.nearest.search(self.nearest.vectors_of(raw), SAME_TEXT)
        columns = self.nearest.columns(found)
        others = np.array([log_prices(pricer, listings) for pricer in self.beside])
        answers = self.nets.logs(self.nets.seen(raw, found, columns))
        others = others.reshape(len(self.beside), len(listings)).T
        return StackedFeatures(self.fields.columns(listings), columns, others, answers)

    def price(self, listings: Sequence[Listing]) -> list[Quote]:
        """One quote a listing, with `low` and `high`."""
        quotes: list[Quote] = []
        for part in chunks(listings) if listings else ():
            told = self.told(part)
            trees = self.trees.predict(told.table())
            logs = self.trust.mixed(told.network, trees)
            off = np.maximum(self.doubt.predict(told.doubt(trees, logs)), SUREST)
            bounds = zip(np.exp(logs), np.exp(logs - off), np.exp(logs + off), strict=True)
            quotes += [Quote(float(price), float(low), float(high)) for price, low, high in bounds]
        return quotes

    def save(self, run: Path) -> None:
        """Write everything into a run folder."""
        self.nearest.save(run / NEAREST)
        self.nets.save(run / NETWORKS)
        self.trees.save(run / TREES)
        self.doubt.save(run / DOUBT)
        write_json(run / FACTS, {"trust": self.trust.plain(), "fields": self.fields.plain()})


def fit_stack(kind: str, train: Sequence[Item], folder: Path) -> Pricer:
    """A cheap kind as it is shipped, fitted into a folder, which is made."""
    folder.mkdir(parents=True, exist_ok=True)
    recipe: Recipe = recipe_class(kind)()
    recipe.fit(train, (), folder)
    return recipe.load(folder)


def log_prices(pricer: Pricer, listings: Sequence[Listing]) -> F64:
    """The logs of a pricer's quotes [n]; NaN without a positive answer."""
    prices = [quote.price if quote.price and quote.price > 0 else np.nan for quote in pricer.price(listings)]
    return np.asarray(np.log(np.array(prices, dtype=np.float64)))
