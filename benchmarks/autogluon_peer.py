"""AutoGluon-Tabular or CatBoost on the same split, once, in an environment of its own.

    python benchmarks/autogluon_peer.py --goods goods.jsonl.gz --env DIR --seconds 300
    python benchmarks/autogluon_peer.py --goods goods.jsonl.gz --env DIR --seconds 1200 --presets best_quality
    python benchmarks/autogluon_peer.py --goods goods.jsonl.gz --env DIR --seconds 900 --peer catboost

They are no dependencies of ours: a virtual environment is made in --env (or used again), `autogluon.tabular` with
LightGBM, XGBoost and CatBoost is installed there, and a child with nothing of ours trains on files with the rows.

autogluon    title, text, category and brand as columns and log1p price as the label, judged by mean absolute error; the
             rest is the choice of --presets, but for a test of stacking (dynamic_stacking) that would take a part of
             the time; folds are fitted one after another
catboost     CatBoost alone: title and text as text features, category and brand as categories, squared error of log1p
             price, in lower case (with absolute error its MAE was 62.32 after 360 s and falling); it stops after 100
             trees without progress on the validation rows, or at the limit
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import venv
from pathlib import Path

import numpy as np

PACKAGE = "autogluon.tabular[lightgbm,xgboost,catboost]"
BEFORE = """
import json, os, resource, sys, time
import numpy as np, pandas as pd
folder, seconds, without, presets = sys.argv[1], int(sys.argv[2]), sys.argv[3], sys.argv[4]
cores = len(os.sched_getaffinity(0))
train, validation, test = (pd.read_parquet(f"{folder}/{name}.parquet") for name in ("train", "validation", "test"))
"""
FITS = {
    "autogluon": """
import autogluon.tabular as library
train["label"] = np.log1p(train.pop("price"))
start = time.perf_counter()
model = library.TabularPredictor("label", problem_type="regression", eval_metric="mean_absolute_error",
    path=f"{folder}/model")
model.fit(train, time_limit=seconds, num_cpus=cores, presets=presets, dynamic_stacking=False,
    excluded_model_types=[kind for kind in without.split(",") if kind],
    ag_args_ensemble={"fold_fitting_strategy": "sequential_local"} if presets != "medium_quality" else None)
quote = lambda rows: np.expm1(model.predict(rows).to_numpy())
""",
    "catboost": """
import catboost as library
texts, categories = ["title", "text"], ["category", "brand"]
def pool(rows):
    lower = rows[texts].fillna("").apply(lambda column: column.str.lower())
    return library.Pool(pd.concat([lower, rows[categories].fillna("")], axis=1), np.log1p(rows["price"]),
        cat_features=categories, text_features=texts)
class Limit:
    def after_iteration(self, done):
        return time.perf_counter() - start < seconds
start = time.perf_counter()
model = library.CatBoostRegressor(iterations=5000, learning_rate=0.1, depth=8, eval_metric="MAE", thread_count=cores,
    random_seed=0, early_stopping_rounds=100, allow_writing_files=False, verbose=False)
model.fit(pool(train), eval_set=pool(validation), callbacks=[Limit()])
quote = lambda rows: np.expm1(model.predict(pool(rows)))
""",
}
AFTER = """
fitted, spent = time.perf_counter(), sum(os.times()[:4])
np.save(f"{folder}/quotes.npy", quote(test))
quoted = time.perf_counter()
np.save(f"{folder}/validation_quotes.npy", quote(validation))
print(json.dumps({"version": library.__version__, "cores": cores, "fit_seconds": round(fitted - start, 1),
    "fit_cpu_seconds": round(spent, 1), "per_second": round(len(test) / (quoted - fitted)),
    "mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)}))
"""


def environment(folder: Path) -> Path:
    """The Python of an environment that has AutoGluon. Exits with pip's last lines where it cannot be installed."""
    python = folder / "bin" / "python"
    if not python.exists():
        venv.create(folder, with_pip=True)
    if subprocess.run([python, "-c", "import autogluon.tabular"], capture_output=True).returncode:
        done = subprocess.run([python, "-m", "pip", "install", "--quiet", PACKAGE], capture_output=True, text=True)
        if done.returncode:
            raise SystemExit(f"{PACKAGE} cannot be installed here:\n{done.stderr[-1500:]}")
    return python


def write_rows(source: str, seed: int, folder: Path) -> tuple[dict[str, np.ndarray], tuple[float, float]]:
    """Curate, write the rows of each split as Parquet; their prices by split, and the price range."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    from pricesmith.catalog import curate

    low, high = (0.01, None) if ":" in source else (0.5, 999.49)
    catalog = curate([source], folder / "catalog", min_price=low, max_price=high, split_seed=seed)
    names = ("title", "text", "category", "brand", "price")
    prices = {}
    for split in ("train", "validation", "test"):
        columns = catalog.columns(split, names)
        pq.write_table(pa.table({name: list(columns[name]) for name in names}), folder / f"{split}.parquet")
        prices[split] = np.array(columns["price"])
    return prices, catalog.price_range


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--goods", default="demo:goods", help="a file to curate; none: the demo goods")
    parser.add_argument("--seed", type=int, default=0, help="the split seed")
    parser.add_argument("--peer", default="autogluon", choices=list(FITS))
    parser.add_argument("--seconds", type=int, default=300, help="the peer's time limit")
    parser.add_argument("--presets", default="medium_quality", help="AutoGluon's presets, such as best_quality")
    parser.add_argument("--without", default="", help="AutoGluon's kinds to leave out: RF,XT do not heed the limit")
    parser.add_argument("--env", required=True, help="a folder outside of the repository for its environment")
    parser.add_argument("--to", help="a file (.npy) for the quotes of the test rows")
    asked = parser.parse_args()
    python = environment(Path(asked.env).resolve())
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        prices, (low, high) = write_rows(asked.goods, asked.seed, folder)
        (folder / "child.py").write_text(BEFORE + FITS[asked.peer] + AFTER)
        command = [str(python), "-W", "ignore", "child.py", name, str(asked.seconds), asked.without, asked.presets]
        done = subprocess.run(command, capture_output=True, text=True, cwd=name)
        if done.returncode:
            raise SystemExit(done.stderr[-2000:])
        facts = json.loads(done.stdout.splitlines()[-1])
        quotes = {"test": np.load(folder / "quotes.npy"), "validation": np.load(folder / "validation_quotes.npy")}
        error = {key: float(np.abs(np.clip(quotes[key], low, high) - prices[key]).mean()) for key in quotes}
        if asked.to:
            np.save(asked.to, np.clip(quotes["test"], low, high))
    settings = {"presets": asked.presets, "without": asked.without} if asked.peer == "autogluon" else {}
    print(
        json.dumps(
            {
                "peer": asked.peer,
                **settings,
                "seed": asked.seed,
                "n": len(prices["test"]),
                "mae": round(error["test"], 2),
                "validation_mae": round(error["validation"], 2),
                **facts,
            }
        )
    )


if __name__ == "__main__":
    sys.exit(main())
