"""PriceRegressor as scikit-learn uses its estimators: its own checks, cross-validation, pipelines, searches."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from sklearn.base import clone
from sklearn.compose import TransformedTargetRegressor
from sklearn.model_selection import GridSearchCV, GroupKFold, cross_val_predict, cross_val_score
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import FunctionTransformer
from sklearn.utils.estimator_checks import parametrize_with_checks

import pricesmith as ps
from pricesmith.api.estimator import LEAST_ROWS_TO_HOLD_OUT, split_items
from pricesmith.core.types import Item, render
from pricesmith.testing import make_items

# All of scikit-learn's checks for a regressor apply and pass; array_api_input skips itself without SCIPY_ARRAY_API.
EXPECTED_FAILED_CHECKS: dict[str, str] = {}
FAST = ["median", "ridge"]


@parametrize_with_checks(
    [ps.PriceRegressor(recipe) for recipe in FAST], expected_failed_checks=lambda _: EXPECTED_FAILED_CHECKS
)
def test_scikit_learn_checks(estimator: ps.PriceRegressor, check: Any) -> None:
    """What scikit-learn asks of every estimator holds."""
    check(estimator)


@pytest.fixture(scope="module")
def items() -> tuple[list[Item], list[str]]:
    return make_items(600)


@pytest.fixture(scope="module")
def data(items: tuple[list[Item], list[str]]) -> tuple[list[str], list[float], list[str]]:
    """Texts, prices and near-duplicate groups."""
    rows, groups = items
    return [render(item.listing) for item in rows], [item.price for item in rows], groups


@pytest.fixture(scope="module")
def table(items: tuple[list[Item], list[str]]) -> pd.DataFrame:
    """The same rows as a table with a shop's columns."""
    listings = [item.listing for item in items[0]]
    fields = {"name": "title", "description": "text", "category": "category", "brand": "brand"}
    return pd.DataFrame({name: [getattr(row, field) for row in listings] for name, field in fields.items()})


def relative_error(quotes: Any, prices: Any) -> float:
    """The median of |log quote - log price|."""
    return float(np.median(np.abs(np.log(np.asarray(quotes)) - np.log(np.asarray(prices)))))


def test_cross_validation_by_group(data: tuple[list[str], list[float], list[str]]) -> None:
    """scikit-learn splits by the caller's groups; ridge is far better than the median."""
    texts, prices, groups = data
    scores = {
        recipe: cross_val_score(
            ps.PriceRegressor(recipe), texts, prices, groups=groups, cv=GroupKFold(3), scoring="neg_mean_absolute_error"
        ).mean()
        for recipe in FAST
    }
    assert scores["ridge"] > scores["median"] / 1.3


def test_predictions_keep_the_order_of_the_rows(data: tuple[list[str], list[float], list[str]]) -> None:
    """Each row's price is its own, however the rows are shuffled, in fitting and in predicting."""
    texts, prices, _ = data
    model = ps.PriceRegressor("ridge").fit(texts, prices)
    quotes = model.predict(texts)
    order = np.random.default_rng(0).permutation(len(texts))
    assert np.array_equal(model.predict([texts[index] for index in order]), quotes[order])
    again = ps.PriceRegressor("ridge").fit([texts[index] for index in order], [prices[index] for index in order])
    assert np.allclose(again.predict(texts), quotes)
    assert relative_error(quotes, prices) < 0.2


@pytest.mark.parametrize("library", [lambda frame: frame, pl.from_pandas, pa.Table.from_pandas])
def test_tables_of_every_library_give_the_same_prices(
    table: pd.DataFrame, data: tuple[list[str], list[float], list[str]], library: Any
) -> None:
    """pandas, polars and pyarrow, with a shop's own columns."""
    prices = data[1]
    expected = ps.PriceRegressor("ridge").fit(table, prices).predict(table[:20])
    model = ps.PriceRegressor("ridge").fit(library(table), prices)
    assert np.array_equal(model.predict(library(table[:20])), expected)
    assert list(model.feature_names_in_) == ["name", "description", "category", "brand"]
    assert model.n_features_in_ == 4


def test_series_and_arrays_are_texts_too(data: tuple[list[str], list[float], list[str]]) -> None:
    """A column of a DataFrame, an array of objects and an array of str price like a list."""
    texts, prices, _ = data
    model = ps.PriceRegressor("ridge").fit(pd.Series(texts), pd.Series(prices))
    expected = model.predict(texts[:5])
    for same in (pl.Series(texts[:5]), np.array(texts[:5]), np.array(texts[:5], dtype=object), tuple(texts[:5])):
        assert np.array_equal(model.predict(same), expected)


def test_a_table_of_numbers_needs_no_title() -> None:
    """Columns without any text are features by their names; boosting learns the formula."""
    draw = np.random.default_rng(0)
    frame = pd.DataFrame({"carat": draw.uniform(0.2, 3, 800).round(2), "grade": draw.integers(1, 6, 800)})
    prices = 900 * frame["carat"] ** 1.5 * 1.2 ** frame["grade"]
    model = ps.PriceRegressor("boosting").fit(frame[:600], prices[:600])
    assert relative_error(model.predict(frame[600:]), prices[600:]) < 0.15


def test_unusual_columns_are_mapped(table: pd.DataFrame, data: tuple[list[str], list[float], list[str]]) -> None:
    """`mapping` names the title, as --map does; a wrong column is a usage error."""
    renamed = table.rename(columns={"name": "was ist es"})
    model = ps.PriceRegressor("ridge", mapping={"title": "was ist es"}).fit(renamed, data[1])
    assert model.columns_.title == "was ist es"
    with pytest.raises(ps.UsageError, match="no column"):
        ps.PriceRegressor("ridge", mapping={"title": "nope"}).fit(renamed, data[1])


def test_pipeline_search_and_transformed_target(data: tuple[list[str], list[float], list[str]]) -> None:
    """It is a step of a pipeline, its parameters can be searched, and y can be transformed."""
    texts, prices, groups = data
    lower = FunctionTransformer(lambda rows: [row.lower() for row in rows])
    pipeline = Pipeline([("lower", lower), ("price", ps.PriceRegressor("ridge"))])
    assert relative_error(pipeline.fit(texts, prices).predict(texts), prices) < 0.2
    search = GridSearchCV(
        pipeline, {"price__settings": [{"alpha": 1.0}, {"alpha": 1e4}]}, cv=GroupKFold(2), error_score="raise"
    )
    search.fit(texts, prices, groups=groups)
    assert search.best_params_["price__settings"] == {"alpha": 1.0}
    cents = TransformedTargetRegressor(
        ps.PriceRegressor("ridge"), func=lambda y: y * 100, inverse_func=lambda y: y / 100
    )
    plain = ps.PriceRegressor("ridge").fit(texts, prices)
    assert np.allclose(cents.fit(np.array(texts), prices).predict(np.array(texts)), plain.predict(texts))


def test_parameters_are_cloned_and_set() -> None:
    """`clone` copies settings; `set_params` changes them; the repr shows what is not a default."""
    model = ps.PriceRegressor("ridge", settings={"alpha": 2.0})
    assert clone(model).get_params() == model.get_params()
    assert model.set_params(recipe="median", settings=None).recipe == "median"
    assert repr(ps.PriceRegressor("ridge")) == "PriceRegressor(recipe='ridge')"


def test_a_wrong_recipe_or_setting_is_a_usage_error(data: tuple[list[str], list[float], list[str]]) -> None:
    """The error lists the available names; a recipe made of other models is refused."""
    texts, prices, _ = data
    with pytest.raises(ps.UsageError, match="no recipe 'rigde'"):
        ps.PriceRegressor("rigde").fit(texts, prices)
    with pytest.raises(ps.UsageError, match="no setting 'alhpa'"):
        ps.PriceRegressor("ridge", settings={"alhpa": 1}).fit(texts, prices)
    with pytest.raises(ps.UsageError, match="cannot fit the recipe blend"):
        ps.PriceRegressor("blend").fit(texts, prices)


def test_intervals_hold_their_share(data: tuple[list[str], list[float], list[str]], items: Any) -> None:
    """Nine of ten new prices are inside; the interval holds its own prediction."""
    texts, prices, _ = data
    model = ps.PriceRegressor("ridge").fit(texts, prices)
    new, _ = make_items(1000, seed=7)
    bounds, quotes = (
        model.predict_interval([render(item.listing) for item in new]),
        model.predict([render(item.listing) for item in new]),
    )
    truths = np.array([item.price for item in new])
    share = ((bounds[:, 0] <= truths) & (truths <= bounds[:, 1])).mean()
    assert 0.80 < share < 0.98
    assert (bounds[:, 0] <= quotes).all()
    assert (quotes <= bounds[:, 1]).all()


def test_few_rows_are_all_trained_on() -> None:
    """A catalog takes 100 rows; the estimator fits three, without intervals that it could not know."""
    model = ps.PriceRegressor("ridge").fit(["oak chair", "oak table", "oak chair"], [10.0, 20.0, 10.0])
    low, high = model.price_range_
    assert ((low <= model.predict(["oak chair", "?"])) & (model.predict(["oak chair", "?"]) <= high)).all()
    assert np.isnan(model.predict_interval(["oak chair"])).all()


def test_held_out_rows_share_no_group_with_training_rows(items: tuple[list[Item], list[str]]) -> None:
    """Near-duplicates stay on one side; a fifth is held out, in two halves; the order of the rows changes nothing."""
    rows = items[0]
    split = split_items(rows)
    assert len(split.tune) == len(split.calibrate) == len(rows) // 10
    assert len(split.train) + len(split.tune) + len(split.calibrate) == len(rows)
    sides = [{split.groups[item.listing.id] for item in side} for side in (split.train, split.tune, split.calibrate)]
    assert not sides[0] & sides[1] | sides[0] & sides[2] | sides[1] & sides[2]
    assert split_items(rows[::-1]) == split
    few = split_items(rows[: LEAST_ROWS_TO_HOLD_OUT - 1])
    assert (len(few.train), few.tune, few.calibrate) == (LEAST_ROWS_TO_HOLD_OUT - 1, [], [])


def test_a_row_without_text_gets_the_median(data: tuple[list[str], list[float], list[str]]) -> None:
    """scikit-learn has no value for an unanswered row."""
    texts, prices, _ = data
    model = ps.PriceRegressor("ridge").fit(texts, prices)
    assert model.predict(["", None])[0] == model.median_ == np.median(prices)  # type: ignore[list-item]


def test_nothing_is_left_on_disk(
    data: tuple[list[str], list[float], list[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A fitted estimator lives in memory: it predicts, and a copy by pickle predicts the same."""
    texts, prices, _ = data
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    model = ps.PriceRegressor("ridge").fit(texts, prices)
    assert list(tmp_path.iterdir()) == []
    copy = pickle.loads(pickle.dumps(model))  # noqa: S301  # what joblib does between scikit-learn's processes
    assert np.array_equal(copy.predict(texts[:9]), model.predict(texts[:9]))


def test_cross_val_predict_has_a_price_for_every_row(data: tuple[list[str], list[float], list[str]]) -> None:
    """Out-of-fold prices of a small sparse MLP, in the rows' order."""
    texts, prices, groups = data
    model = ps.PriceRegressor("sparse_mlp", settings={"ensemble_size": 1})
    quotes = cross_val_predict(model, texts, prices, groups=groups, cv=GroupKFold(2))
    assert quotes.shape == (600,)
    assert np.isfinite(quotes).all()
    assert relative_error(quotes, prices) < relative_error(np.full(600, np.median(prices)), prices)


@pytest.mark.parametrize(
    ("texts", "prices", "match"),
    [
        (["a lamp", "a hose"], [1.0, 0.0], "above 0"),
        (["a lamp", "a hose"], [1.0], "2 rows, but y has 1"),
        (["a lamp", 3], [1.0, 2.0], "mixes texts and int"),
        ("a lamp", [1.0], "list of texts"),
        (["a lamp", "a hose"], [1.0, float("nan")], "NaN"),
    ],
)
def test_wrong_data_is_a_value_error(texts: Any, prices: Any, match: str) -> None:
    """As scikit-learn's own estimators do."""
    with pytest.raises(ValueError, match=match):
        ps.PriceRegressor("ridge").fit(texts, prices)


def test_another_kind_of_rows_is_refused(table: pd.DataFrame, data: tuple[list[str], list[float], list[str]]) -> None:
    """A model of texts prices no table, and a table must have the columns of the fit."""
    texts, prices, _ = data
    with pytest.raises(ValueError, match="fitted on one text a row"):
        ps.PriceRegressor("ridge").fit(texts, prices).predict(table)
    with pytest.raises(ValueError, match="feature names"):
        ps.PriceRegressor("ridge").fit(table, prices).predict(table.rename(columns={"name": "title"}))


def test_masked_amounts_cannot_leak(data: tuple[list[str], list[float], list[str]]) -> None:
    """A price in the text is masked, as in a catalog."""
    texts, prices, _ = data
    model = ps.PriceRegressor("ridge").fit(
        [f"{text}\nNow $ {price}" for text, price in zip(texts, prices, strict=True)], prices
    )
    first, second = model.predict([f"{texts[0]}\nNow $ 5.00", f"{texts[0]}\nNow $ 1999.00"])
    assert first == second
