"""The Python API: the stages of the command line as functions, on paths, on DataFrames and on opened objects.

    catalog = ps.curate("shop.csv", to="out/shop")
    model = ps.fit("sparse_mlp", catalog, to="out/mlp", epochs=6)
    board = ps.evaluate([model, ps.load("out/ridge")], catalog, to="out/evals")
    ps.report("out/evals", to="out/report.html")

Every function takes `verbose=True` to show progress and notes on standard error, as the command line does.
"""

from pricesmith.api.audit import audit
from pricesmith.api.evaluate import Leaderboard, evaluate, report
from pricesmith.api.pipeline import bases, curate, export, fit, load, measure_learning_curve, price_file
from pricesmith.api.rewrite import rewrite
from pricesmith.api.suggest import AnswerSuggestion, suggest_answers
from pricesmith.api.sweep import sweep

__all__ = [
    "AnswerSuggestion",
    "Leaderboard",
    "audit",
    "bases",
    "curate",
    "evaluate",
    "export",
    "fit",
    "load",
    "measure_learning_curve",
    "price_file",
    "report",
    "rewrite",
    "suggest_answers",
    "sweep",
]
