"""Pricesmith: build your own small model that prices things from their description, and prove how accurate it is.

    import pricesmith as ps
    catalog = ps.curate("shop.csv", to="out/shop")
    model = ps.fit("sparse_mlp", catalog, to="out/mlp")
    model.predict("Logitech wireless gaming mouse, 25,600 dpi")

Everything else is loaded when it is first used: this import loads no numerical library.
"""

from __future__ import annotations

import os
from importlib import import_module
from typing import TYPE_CHECKING, Any

from pricesmith.core.errors import InputError, MissingExtra, PricesmithError, UsageError

if TYPE_CHECKING:
    from pricesmith import catalog as catalog
    from pricesmith.api.audit import audit as audit
    from pricesmith.api.estimator import PriceRegressor as PriceRegressor
    from pricesmith.api.evaluate import Leaderboard as Leaderboard
    from pricesmith.api.evaluate import evaluate as evaluate
    from pricesmith.api.evaluate import report as report
    from pricesmith.api.pipeline import bases as bases
    from pricesmith.api.pipeline import curate as curate
    from pricesmith.api.pipeline import export as export
    from pricesmith.api.pipeline import fit as fit
    from pricesmith.api.pipeline import load as load
    from pricesmith.api.pipeline import measure_learning_curve as measure_learning_curve
    from pricesmith.api.pipeline import price_file as price_file
    from pricesmith.api.rewrite import rewrite as rewrite
    from pricesmith.api.suggest import AnswerSuggestion as AnswerSuggestion
    from pricesmith.api.suggest import suggest_answers as suggest_answers
    from pricesmith.api.sweep import sweep as sweep
    from pricesmith.auditing.result import AuditResult as AuditResult
    from pricesmith.catalog.catalog import Catalog as Catalog
    from pricesmith.catalog.comparables import Comparable as Comparable
    from pricesmith.client.http_client import AsyncClient as AsyncClient
    from pricesmith.client.http_client import Client as Client
    from pricesmith.client.steps import PriceAnswer as PriceAnswer
    from pricesmith.core.types import Evaluation as Evaluation
    from pricesmith.core.types import Item as Item
    from pricesmith.core.types import Listing as Listing
    from pricesmith.core.types import Pricer as Pricer
    from pricesmith.core.types import Quote as Quote
    from pricesmith.core.types import Recipe as Recipe
    from pricesmith.core.types import render as render
    from pricesmith.evaluation.compare import Difference as Difference
    from pricesmith.evaluation.leaderboard import LeaderboardRow as LeaderboardRow
    from pricesmith.learning_curve.curve import LearningCurve as LearningCurve
    from pricesmith.pricers.model import PriceModel as PriceModel
    from pricesmith.sweeping.result import SweepResult as SweepResult

# Libraries send no usage statistics, unless the user decides otherwise.
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
os.environ.setdefault("DO_NOT_TRACK", "1")

__version__ = "0.1.0"
LAZY = {
    "AnswerSuggestion": "api.suggest",
    "AsyncClient": "client.http_client",
    "AuditResult": "auditing.result",
    "Catalog": "catalog.catalog",
    "Client": "client.http_client",
    "Comparable": "catalog.comparables",
    "Difference": "evaluation.compare",
    "Evaluation": "core.types",
    "Item": "core.types",
    "Leaderboard": "api.evaluate",
    "LeaderboardRow": "evaluation.leaderboard",
    "LearningCurve": "learning_curve.curve",
    "Listing": "core.types",
    "PriceAnswer": "client.steps",
    "PriceModel": "pricers.model",
    "PriceRegressor": "api.estimator",
    "Pricer": "core.types",
    "Quote": "core.types",
    "Recipe": "core.types",
    "SweepResult": "sweeping.result",
    "audit": "api.audit",
    "bases": "api.pipeline",
    "curate": "api.pipeline",
    "evaluate": "api.evaluate",
    "export": "api.pipeline",
    "fit": "api.pipeline",
    "load": "api.pipeline",
    "measure_learning_curve": "api.pipeline",
    "price_file": "api.pipeline",
    "render": "core.types",
    "report": "api.evaluate",
    "rewrite": "api.rewrite",
    "suggest_answers": "api.suggest",
    "sweep": "api.sweep",
}
__all__ = [
    "AnswerSuggestion",
    "AsyncClient",
    "AuditResult",
    "Catalog",
    "Client",
    "Comparable",
    "Difference",
    "Evaluation",
    "InputError",
    "Item",
    "Leaderboard",
    "LeaderboardRow",
    "LearningCurve",
    "Listing",
    "MissingExtra",
    "PriceAnswer",
    "PriceModel",
    "PriceRegressor",
    "Pricer",
    "PricesmithError",
    "Quote",
    "Recipe",
    "SweepResult",
    "UsageError",
    "audit",
    "bases",
    "catalog",
    "curate",
    "evaluate",
    "export",
    "fit",
    "load",
    "measure_learning_curve",
    "price_file",
    "render",
    "report",
    "rewrite",
    "suggest_answers",
    "sweep",
]


def __getattr__(name: str) -> Any:
    """A public name, loaded when it is first used."""
    if name == "catalog":
        return import_module("pricesmith.catalog")
    if name in LAZY:
        return getattr(import_module(f"pricesmith.{LAZY[name]}"), name)
    raise AttributeError(f"module 'pricesmith' has no attribute {name!r}")


def __dir__() -> list[str]:
    """The public names, for completion in a notebook."""
    return sorted([*__all__, "__version__"])
