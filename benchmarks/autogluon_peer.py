"""AutoGluon-Tabular on the same split, once, in an environment of its own.

    python benchmarks/autogluon_peer.py --goods goods.jsonl.gz --env DIR --seconds 300

It is no dependency of ours: a virtual environment is made in --env (or used again), `autogluon.tabular` with LightGBM,
XGBoost and CatBoost is installed there, and a child with nothing of ours trains on two files with the rows. It gets
title, text, category and brand as columns and log1p price as the label, judged by mean absolute error; the rest is its
own choice (preset medium_quality).
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
CHILD = """
import json, resource, sys, time
import numpy as np, pandas as pd
from autogluon.tabular import TabularPredictor
import autogluon.tabular
folder, seconds, without = sys.argv[1], int(sys.argv[2]), [kind for kind in sys.argv[3].split(",") if kind]
train, test = (pd.read_parquet(f"{folder}/{name}.parquet") for name in ("train", "test"))
train["label"] = np.log1p(train.pop("price"))
start = time.perf_counter()
model = TabularPredictor("label", problem_type="regression", eval_metric="mean_absolute_error", path=f"{folder}/model")
model.fit(train, time_limit=seconds, num_cpus=2, presets="medium_quality", excluded_model_types=without)
fitted = time.perf_counter()
quotes = np.expm1(model.predict(test.drop(columns="price")).to_numpy())
np.save(f"{folder}/quotes.npy", quotes)
print(json.dumps({"version": autogluon.tabular.__version__, "fit_seconds": round(fitted - start, 1),
    "per_second": round(len(test) / (time.perf_counter() - fitted)),
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


def write_rows(source: str, seed: int, folder: Path) -> tuple[np.ndarray, tuple[float, float]]:
    """Curate, write training and test rows as Parquet; the test truths and the price range."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    from pricesmith.catalog import curate

    low, high = (0.01, None) if ":" in source else (0.5, 999.49)
    catalog = curate([source], folder / "catalog", min_price=low, max_price=high, split_seed=seed)
    names = ("title", "text", "category", "brand", "price")
    for split in ("train", "test"):
        columns = catalog.columns(split, names)
        pq.write_table(pa.table({name: list(columns[name]) for name in names}), folder / f"{split}.parquet")
    return np.array(catalog.columns("test", ("price",))["price"]), catalog.price_range


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--goods", default="demo:goods", help="a file to curate; none: the demo goods")
    parser.add_argument("--seed", type=int, default=0, help="the split seed")
    parser.add_argument("--seconds", type=int, default=300, help="AutoGluon's time limit")
    parser.add_argument("--without", default="", help="its kinds of model to leave out: RF,XT do not heed the limit")
    parser.add_argument("--env", required=True, help="a folder outside of the repository for its environment")
    asked = parser.parse_args()
    python = environment(Path(asked.env).resolve())
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        truth, (low, high) = write_rows(asked.goods, asked.seed, folder)
        (folder / "child.py").write_text(CHILD)
        command = [str(python), "-W", "ignore", "child.py", name, str(asked.seconds), asked.without]
        done = subprocess.run(command, capture_output=True, text=True, cwd=name)
        if done.returncode:
            raise SystemExit(done.stderr[-2000:])
        facts = json.loads(done.stdout.splitlines()[-1])
        error = np.abs(np.clip(np.load(folder / "quotes.npy"), low, high) - truth).mean()
    print(
        json.dumps(
            {
                "peer": "autogluon",
                "without": asked.without,
                "seed": asked.seed,
                "n": len(truth),
                "mae": round(float(error), 2),
                **facts,
            }
        )
    )


if __name__ == "__main__":
    sys.exit(main())
