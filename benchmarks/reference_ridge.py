"""The reference of every ratio "x ridge": a frozen ridge on log1p price. Never changed, so that ratios stay comparable.

    python benchmarks/reference_ridge.py --goods goods.jsonl.gz --seeds 0

`TfidfVectorizer(ngram_range=(1, 2), min_df=2, sublinear_tf=True, token_pattern=r"(?u)\\b\\w+\\b")` on the rendered text
and `Ridge(alpha=1.0)` on log(1 + price), with scikit-learn alone. The shipped recipe `ridge` fits log price instead and
reads every script; a ratio is the mean over split seeds 0, 1 and 2, with its paired interval (`pricers.py`).
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pricesmith.core.types import Item, Listing, render

NAME = "reference_ridge"


def fit_reference(train: Sequence[Item]) -> Callable[[Sequence[Listing]], Any]:
    """A function that gives the reference's quotes, not yet clipped to the price range."""
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import Ridge

    vectorizer = TfidfVectorizer(ngram_range=(1, 2), min_df=2, sublinear_tf=True, token_pattern=r"(?u)\b\w+\b")
    matrix = vectorizer.fit_transform([render(item.listing) for item in train])
    model = Ridge(alpha=1.0).fit(matrix, np.log1p([item.price for item in train]))
    return lambda listings: np.expm1(model.predict(vectorizer.transform([render(listing) for listing in listings])))


def main() -> None:
    from pricesmith.catalog import curate

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--goods", required=True, help="a file to curate, with --min-price 0.5 --max-price 999.49")
    parser.add_argument("--seeds", default="0,1,2")
    options = parser.parse_args()
    for seed in options.seeds.split(","):
        with tempfile.TemporaryDirectory() as folder:
            catalog = curate(
                [options.goods], Path(folder) / "catalog", min_price=0.5, max_price=999.49, split_seed=int(seed)
            )
            test = catalog.items("test")
            quotes = fit_reference(catalog.items("train"))([item.listing for item in test])
            errors = np.abs(np.clip(quotes, *catalog.price_range) - [item.price for item in test])
            print(f"seed {seed}: MAE {errors.mean():.4f}, median {np.median(errors):.4f}, {len(test):,} test rows")


if __name__ == "__main__":
    main()
