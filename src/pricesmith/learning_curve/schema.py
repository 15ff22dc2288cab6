"""The content of learning_curve.json as frozen values; terminal tables and the page are views of a `LearningCurve`."""

from __future__ import annotations

from typing import Literal

from pricesmith.core.settings import Settings

Answer = Literal["gain", "small gain", "unclear", "no power law", "worse"]


class ErrorRange(Settings):
    """A value with its 95 % confidence interval; `low` and `high` are None if there are too few groups for one."""

    point: float
    low: float | None = None
    high: float | None = None


class CurvePoint(Settings):
    """One point of the learning curve: the MAE of `fits` fits on `rows` rows, one `part`-th of all.

    `gain` is the paired reduction of the MAE from half as many rows; None at the first point.
    """

    part: int
    rows: int
    fits: int
    mae: ErrorRange
    gain: ErrorRange | None
    fit_seconds: float


class DoublingForecast(Settings):
    """What twice the rows would gain by the fitted curve. `answer` is the conclusion:

    small gain    at most 2 % of the MAE
    gain          may be more than that, and at least 0.5 %
    unclear       between less than 0.5 % and more than 2 %: the curve gives no answer
    no power law  the fit to the smaller parts does not predict the MAE on all rows, so there is no forecast
    worse         at some point of the curve, more rows gave a significantly larger MAE

    `mae` and `gain` are in the catalog's currency and None for the last two. `predicted` is the MAE on all rows as
    predicted from the smaller parts alone, `prediction_error` is by how much it is above the measured one, paired.
    """

    answer: Answer
    rows: int
    mae: ErrorRange | None = None
    gain: ErrorRange | None = None
    exponent: ErrorRange | None = None
    predicted: float | None = None
    prediction_error: ErrorRange | None = None


class SegmentShare(Settings):
    """The MAE on some of the evaluated items, with their share of the items and of the total absolute error.

    `ratio` is the typical factor between quote and true price.
    """

    label: str
    n: int
    share_of_items: float
    share_of_error: float
    mae: ErrorRange
    ratio: float


class CategoryGain(Settings):
    """A category's own learning curve, on training rows that the fits left out.

    `gain` is the paired reduction of its MAE from a quarter to half of the rows, with an interval that is simultaneous
    over all categories. `needs_rows` is the result of the rule in `categories.NEEDS_ROWS_RULE`.
    """

    category: str
    rows: int
    n: int
    share_of_rows: float
    share_of_error: float
    mae: float
    ratio: float
    gain: ErrorRange
    in_every_repeat: bool
    needs_rows: bool


class LabelNoise(Settings):
    """The label noise measured by curate: rows that share their text at different prices."""

    rows: int
    median_relative_difference: float
    mae_floor: float


class LearningCurve(Settings):
    """The whole result. Money is in the catalog's currency; `n` counts the evaluated items, `n_groups` their groups."""

    catalog: str
    fingerprint: str
    currency: str
    recipe: str
    rows: int
    n: int
    n_groups: int
    evaluated_on: str
    repeats: int
    points: tuple[CurvePoint, ...]
    doubling: DoublingForecast
    price_bands: tuple[SegmentShare, ...]
    categories: tuple[SegmentShare, ...]
    category_gains: tuple[CategoryGain, ...]
    overall_gain: ErrorRange | None
    small_categories: SegmentShare | None
    label_noise: LabelNoise | None
    fit_seconds: float
