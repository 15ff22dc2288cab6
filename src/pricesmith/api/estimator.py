"""A scikit-learn estimator: `PriceRegressor` in pipelines, cross-validation and searches.

    from sklearn.model_selection import GroupKFold, cross_val_score
    cross_val_score(ps.PriceRegressor("ridge"), texts, prices, groups=shops, cv=GroupKFold(5))

It cleans text as `pricesmith curate` does and fits the same recipes, without a catalog and without files: for
evaluation by near-duplicate group, comparables and a model folder use `ps.curate` and `ps.fit`.
"""

from __future__ import annotations

import hashlib
import math
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from sklearn.base import BaseEstimator, RegressorMixin
from sklearn.utils.validation import check_array, check_is_fitted, column_or_1d, validate_data

from pricesmith.api.pipeline import build_recipe
from pricesmith.catalog.clean import CleanSettings, body_text, build_listing, is_too_short
from pricesmith.catalog.columns import ColumnMap, choose_columns
from pricesmith.catalog.dataframes import is_dataframe, to_raw_rows
from pricesmith.core.errors import UsageError
from pricesmith.core.progress import SILENT
from pricesmith.core.types import Item, Listing, Pricer, Recipe, render
from pricesmith.pricers.conformal import ClippedPricer, ConformalPricer, calibrate
from pricesmith.pricers.fitting import CompositeRecipe, FitData

if TYPE_CHECKING:
    from sklearn.utils import Tags

LEAST_ROWS_TO_HOLD_OUT = 200  # half of a fifth of these are 20 rows, and a 90 % interval takes 19
HELD_OUT_SHARE, MOST_HELD_OUT, LEAST_SHARE = 0.2, 1_000, 0.05  # as the validation split of a catalog
TEXT = "one text"  # the kind of X whose rows are texts
TABLE = "a table's columns"  # the kind of X whose rows have columns
TEXT_COLUMNS = ColumnMap(title="title", text="text", price="")
Floats = npt.NDArray[np.float64]


class PriceRegressor(RegressorMixin, BaseEstimator):  # type: ignore[misc]  # scikit-learn has no types
    """Predicts prices from descriptions with a recipe of Pricesmith; a scikit-learn regressor.

    Parameters
    ----------
    recipe : str, default="sparse_mlp"
        The name of a shipped recipe, such as ridge, boosting or sparse_mlp, or a recipe's TOML file.
    settings : dict or None, default=None
        Settings of the recipe, such as `{"epochs": 6}`.
    mapping : dict or None, default=None
        Fields and their columns, if X is a DataFrame with unusual names: `{"title": "what"}`.
    currency : str, default="USD"
        The currency of y. It decides which signs in the text are amounts of money, which are masked.

    X is a sequence of texts, or a DataFrame of pandas, polars or pyarrow, or an array with a column for each feature.
    A text's first line is its title; a table's columns become the title, text, category, brand and "Name: value" lines,
    as in a catalog. y are prices above 0.

    With 200 rows or more, a fifth of them (at most 1,000 rows, or 5 % if that is more) is held out by near-duplicate
    group: half to stop training early, half to calibrate the 90 % intervals of `predict_interval`. Of fewer rows all
    are used for training, and there are no intervals. The result does not depend on the order of the rows.

    Attributes
    ----------
    pricer_ : Pricer
        The fitted pricer.
    median_ : float
        The median of y: the prediction for a row without any text.
    price_range_ : tuple of float
        Half of the lowest price in y to twice the highest; predictions are clipped to it.
    n_features_in_, feature_names_in_
        As in scikit-learn, if X is a table.

    >>> texts = ["oak chair", "steel lamp", "oak table", "brass lamp"] * 10
    >>> model = PriceRegressor("ridge").fit(texts, [120.0, 35.0, 240.0, 45.0] * 10)
    >>> lamp, table = model.predict(["steel lamp", "oak table"])
    >>> bool(lamp < 100 < table)
    True
    """

    input_: str
    columns_: ColumnMap

    def __init__(
        self,
        recipe: str = "sparse_mlp",
        *,
        settings: Mapping[str, Any] | None = None,
        mapping: Mapping[str, str] | None = None,
        currency: str = "USD",
    ) -> None:
        self.recipe = recipe
        self.settings = settings
        self.mapping = mapping
        self.currency = currency

    def __sklearn_tags__(self) -> Tags:
        tags: Tags = super().__sklearn_tags__()
        tags.input_tags.string = True
        tags.input_tags.categorical = True
        tags.input_tags.allow_nan = True
        tags.target_tags.positive_only = True
        tags.target_tags.required = True
        tags.regressor_tags.poor_score = True  # scikit-learn's checks fit 50 rows of anonymous numbers
        return tags

    def fit(self, X: Any, y: Any) -> PriceRegressor:
        """Fit the recipe on descriptions X and prices y, each of n rows; returns the estimator.

        Raises ValueError if X and y do not match or a price is not above 0, and UsageError for an unknown recipe or
        setting.
        """
        recipe = build_recipe(self.recipe, dict(self.settings or {}))
        if isinstance(recipe, CompositeRecipe):
            raise UsageError(
                f"PriceRegressor cannot fit the recipe {recipe.kind}",
                got=recipe.kind,
                allowed="a recipe that learns from X and y alone",
                hint="Use ps.fit for a recipe that is made of other models or files.",
            )
        if y is None:
            raise ValueError("PriceRegressor requires y to be passed, but the target y is None.")
        listings = self._read(X, reset=True)
        prices = check_array(column_or_1d(to_numpy(y), warn=True), ensure_2d=False, dtype=np.float64, input_name="y")
        if len(prices) != len(listings):
            raise ValueError(f"X has {len(listings)} rows, but y has {len(prices)}.")
        if not (prices > 0).all():
            raise ValueError(f"Prices must be above 0; the lowest in y is {prices.min():g}.")
        self.median_ = float(np.median(prices))
        self.price_range_ = (float(prices.min()) / 2, float(prices.max()) * 2)
        items = [Item(listing, float(price)) for listing, price in zip(listings, prices, strict=True)]
        self.pricer_ = fit_pricer(recipe, split_items(items), self.price_range_)
        return self

    def predict(self, X: Any) -> Floats:
        """The price of each row of X; (n,)."""
        return self._quotes(X)[:, 0]

    def predict_interval(self, X: Any) -> Floats:
        """The lower and upper end of each row's 90 % interval; (n, 2). NaN if y had too few rows to calibrate."""
        return self._quotes(X)[:, 1:]

    def _quotes(self, X: Any) -> Floats:
        """Price, low and high of each row; (n, 3). A row without a price gets the median of y."""
        check_is_fitted(self)
        listings = self._read(X, reset=False)
        cleaning = self._cleaning()
        known = [not is_too_short(listing, cleaning) for listing in listings]
        answers = iter(
            self.pricer_.price([listing for listing, is_known in zip(listings, known, strict=True) if is_known])
        )
        rows = np.full((len(listings), 3), np.nan)
        for place, is_known in enumerate(known):
            quote = next(answers) if is_known else None
            if quote is None or quote.price is None:
                rows[place, 0] = self.median_
            else:
                low, high = (math.nan if end is None else end for end in (quote.low, quote.high))
                rows[place] = quote.price, low, high
        return rows

    def _cleaning(self) -> CleanSettings:
        return CleanSettings(min_chars=1, currency=self.currency)

    def _read(self, X: Any, *, reset: bool) -> list[Listing]:
        """The rows of X as listings. `reset` learns the kind of X and its columns, otherwise they are checked."""
        texts = read_texts(X)
        kind = TABLE if texts is None else TEXT
        if not reset and kind != self.input_:
            raise ValueError(f"X has {kind} a row, but PriceRegressor was fitted on {self.input_} a row.")
        rows = self._rows(X, reset) if texts is None else [split_title(text) for text in texts]
        if reset:
            self.input_ = kind
            self.columns_ = TEXT_COLUMNS if kind == TEXT else choose_feature_columns(list(rows[0]), self.mapping)
        cleaning = self._cleaning()
        return [build_listing(row, self.columns_, cleaning, id=str(number)) for number, row in enumerate(rows)]

    def _rows(self, X: Any, reset: bool) -> list[dict[str, Any]]:
        """The raw rows of a table."""
        if is_dataframe(X):
            rows = [dict(row.values) for row in to_raw_rows(X)]
            if not rows:
                raise ValueError("Found array with 0 sample(s) while a minimum of 1 is required.")
            if list(rows[0]) != [str(number) for number in range(len(rows[0]))]:
                self._check_names(list(rows[0]), reset)
                return rows
            X = np.array([list(row.values()) for row in rows], dtype=object)  # pandas numbers columns without names
        values = validate_data(self, X, reset=reset, dtype=None, ensure_all_finite="allow-nan")
        names = [f"x{number}" for number in range(values.shape[1])]
        if not reset and hasattr(self, "feature_names_in_"):
            names = list(self.feature_names_in_)  # scikit-learn has warned that X has no names
        return [dict(zip(names, row, strict=True)) for row in values.tolist()]

    def _check_names(self, names: list[str], reset: bool) -> None:
        """Learn the names of a DataFrame's columns, or check them. Raises ValueError if they differ."""
        if reset:
            self.feature_names_in_ = np.array(names, dtype=object)
            self.n_features_in_ = len(names)
        elif list(getattr(self, "feature_names_in_", [])) != names:
            raise ValueError(
                "The feature names should match those that were passed during fit.\n"
                f"Fitted on: {', '.join(getattr(self, 'feature_names_in_', [])) or 'an array'}\nGot: {', '.join(names)}"
            )


def read_texts(X: Any) -> list[str] | None:
    """The texts of a one-dimensional X; None if X is a table. A missing text is empty."""
    if isinstance(X, str):
        raise ValueError("X is one text; give a list of texts.")
    if is_dataframe(X):
        return None
    values = to_numpy(X)
    if not isinstance(values, list | tuple) and not (
        isinstance(values, np.ndarray) and values.ndim == 1 and values.dtype.kind in "OUT"
    ):
        return None
    cells = list(values)
    if not any(isinstance(cell, str) for cell in cells):
        return None
    wrong = next((cell for cell in cells if not (isinstance(cell, str) or cell is None or cell != cell)), None)
    if wrong is not None:
        raise ValueError(f"X mixes texts and {type(wrong).__name__}.")
    return [cell if isinstance(cell, str) else "" for cell in cells]


def split_title(text: str) -> dict[str, Any]:
    """A text as a raw row: its first line is the title."""
    title, _, rest = text.strip().partition("\n")
    return {"title": title, "text": rest}


def to_numpy(values: Any) -> Any:
    """A Series of pandas, polars or pyarrow as an array; anything else as it is."""
    return values.to_numpy() if hasattr(values, "to_numpy") else values


def choose_feature_columns(header: Sequence[str], mapping: Mapping[str, str] | None) -> ColumnMap:
    """The column map of a table of features. A table without a title or text is read as "Name: value" lines.

    No column is taken for the price, and none is left out because of its name: what is in X is meant as a feature.
    """
    chosen = dict(mapping or {})
    try:
        columns = choose_columns(header, chosen, priced=False)
    except UsageError:
        if chosen:
            raise
        columns = ColumnMap(price="")
    used = {columns.title, columns.text, columns.category, columns.brand}
    return columns.model_copy(
        update={
            "price": "",
            "currency": None,
            "id": None,
            "extra": tuple(name for name in header if name not in used),
            "left_out": {},
        }
    )


def split_items(items: Sequence[Item]) -> FitData:
    """Rows to train on, to tune on and to calibrate on; near-duplicates stay on one side.

    Groups are held out in the order of a hash of their content, so the order of the rows does not matter.
    """
    digests = [hashlib.sha256(render(item.listing).encode("utf-8", "surrogatepass")).hexdigest() for item in items]
    order = sorted(range(len(items)), key=lambda place: (digests[place], items[place].price))
    ordered = [
        Item(with_id(items[place].listing, str(number)), items[place].price) for number, place in enumerate(order)
    ]
    if len(items) < LEAST_ROWS_TO_HOLD_OUT:
        return FitData(ordered, [], [])
    groups = find_item_groups(ordered)
    held_out = max(math.ceil(LEAST_SHARE * len(items)), min(MOST_HELD_OUT, int(HELD_OUT_SHARE * len(items))))
    members: dict[int, list[Item]] = {}
    for item, group in zip(ordered, groups, strict=True):
        members.setdefault(group, []).append(item)
    calibrate_rows: list[Item] = []
    tune: list[Item] = []
    train: list[Item] = []
    for group in sorted(members, key=lambda group: hashlib.sha256(digests[order[group]].encode()).digest()):
        rows = members[group]
        side = next((side for side in (calibrate_rows, tune) if len(side) + len(rows) <= held_out // 2), train)
        side += rows
    train.sort(key=lambda item: int(item.listing.id))
    names = {item.listing.id: str(group) for item, group in zip(ordered, groups, strict=True)}
    return FitData(train, tune, calibrate_rows, names)


def with_id(listing: Listing, id: str) -> Listing:
    """The listing under another id."""
    return replace(listing, id=id)


def find_item_groups(items: Sequence[Item]) -> list[int]:
    """The near-duplicate group of each item, as the position of the group's center."""
    from pricesmith.catalog.near_duplicates import (
        find_groups,
        group_size_limit,
        hash_words,
        sketch_joined,
        split_templates,
    )
    from pricesmith.catalog.word_columns import join_words

    words = join_words([body_text(item.listing) for item in items])
    centers, _ = split_templates(find_groups(sketch_joined(words)), hash_words(words), group_size_limit(len(items)))
    return [int(center) for center in centers]


def fit_pricer(recipe: Recipe, rows: FitData, price_range: tuple[float, float]) -> Pricer:
    """A fitted pricer with calibrated intervals; its files are gone when this function returns."""
    from pricesmith.base_models.memory import plan_for_hardware

    planned = plan_for_hardware(recipe)
    with tempfile.TemporaryDirectory(prefix="pricesmith-", ignore_cleanup_errors=True) as folder:
        planned.fit(rows.train, rows.tune, Path(folder), SILENT)
        pricer = ClippedPricer(planned.load(Path(folder)), price_range)
    if not rows.calibrate:
        return pricer
    quotes = pricer.price([item.listing for item in rows.calibrate])
    truths = [item.price for item in rows.calibrate]
    table = calibrate(quotes, truths, scaled=getattr(planned, "scaled", False))
    return ConformalPricer(pricer, table, price_range)
