"""A learning curve as frozen values (learning_curve.json), and the power law that forecasts twice the rows.

error = floor + scale x rows^-exponent with floor >= 0, scale >= 0, 0 < exponent <= 1. Errors fall as a power of the
rows towards a floor (Hestness et al. 2017, "Deep learning scaling is predictable"; Rosenfeld et al. 2020, "A
constructive prediction of the generalization error across scales"). Four points do not determine three parameters, and
a best fit extrapolated far errs (Viering and Loog 2022, "The shape of learning curves: a review"; Mahmood et al. 2022,
"How much more data do I need?"). So the law extrapolates one doubling only, and the interval is the spread over
resamples of groups with the sampling variance of the fits added, each resample fitted anew with and without a floor;
the outer of both intervals is used, because an assumed floor can hide a gain. (On simulated curves without a floor, the
interval with a floor alone contained the true gain in 81 to 86 % of tests, the outer one in 94 to 96 %; with a floor in
98 %.) Two checks come first: the law fitted to the smaller parts must predict the error on all rows, and no point may
be significantly worse than one with fewer rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from pricesmith.core.settings import Settings
from pricesmith.metrics.bootstrap import MIN_GROUPS, Codes, bootstrap_interval, resample_weights
from pricesmith.metrics.metrics import Array

RESAMPLES = 2_000
# Errors do not fall faster than 1 / rows; under 0.02 the law is practically linear in log(rows).
EXPONENTS = np.concatenate([[0.02, 0.05], np.arange(0.1, 1.01, 0.05)])
LEVEL = 0.95
SMALL_GAIN = 0.02  # a gain of at most this share of the error is small
MIN_GAIN = 0.005  # a gain that may be larger is reported if it is at least this share
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


@dataclass(frozen=True)
class PowerLaw:
    """Fitted parameters of b curves, each of shape (b,)."""

    floor: Array
    scale: Array
    exponent: Array

    def error(self, rows: float) -> Array:
        """Return the error at `rows` rows, shape (b,)."""
        error: Array = self.floor + self.scale * rows**-self.exponent
        return error


def fit_power_law(rows: Sequence[float], errors: Array) -> PowerLaw:
    """Fit a law to each of b curves by relative least squares, over a grid of exponents.

    `rows` are k numbers of rows, `errors` has shape (b, k). For each exponent the best floor and scale have a closed
    form; one that would be negative is set to 0.
    """
    sizes = np.asarray(rows, dtype=np.float64)
    weight = 1 / np.square(errors)
    best_loss = np.full(len(errors), np.inf)
    parameters = [np.zeros(len(errors)) for _ in range(3)]
    for exponent in EXPONENTS:
        shape = (sizes / sizes.max()) ** -exponent
        for floor, scale in solve_floor_and_scale(shape, errors, weight):
            residual = np.square(floor[:, None] + scale[:, None] * shape - errors)
            loss = (weight * residual).sum(axis=1)
            better = (loss < best_loss) & (floor >= 0) & (scale >= 0)
            best_loss = np.where(better, loss, best_loss)
            values = (floor, scale * sizes.max() ** exponent, np.full_like(floor, exponent))
            parameters = [np.where(better, new, old) for new, old in zip(values, parameters, strict=True)]
    return PowerLaw(*parameters)


def solve_floor_and_scale(shape: Array, errors: Array, weight: Array) -> list[tuple[Array, Array]]:
    """Return floor and scale of least loss, each of shape (b,): unconstrained, with floor 0, and with scale 0."""
    w, x, xx = weight.sum(axis=1), weight @ shape, weight @ np.square(shape)
    y, xy = (weight * errors).sum(axis=1), (weight * errors) @ shape
    scale = (w * xy - x * y) / (w * xx - x * x)
    zero = np.zeros_like(scale)
    return [((y - scale * x) / w, scale), (zero, xy / xx), (y / w, zero)]


def fit_without_floor(rows: Sequence[float], errors: Array) -> PowerLaw:
    """Fit a law without a floor to each curve, linear in the logarithms. Errors of shape (b, k) are above 0."""
    logs, log_rows = np.log(errors), np.log(np.asarray(rows, dtype=np.float64))
    centered = log_rows - log_rows.mean()
    exponent = np.maximum(0.0, -(logs @ centered) / (centered @ centered))
    scale = np.exp(logs.mean(axis=1) + exponent * log_rows.mean())
    return PowerLaw(np.zeros(len(errors)), scale, exponent)


@dataclass(frozen=True)
class CurveDraws:
    """A learning curve of shape (k,) and its resamples of shape (b, k), None if there are too few groups."""

    point: Array
    resampled: Array | None


def draw_curves(errors: Sequence[Array], groups: Codes, *, resamples: int = RESAMPLES, seed: int = 0) -> CurveDraws:
    """Resample a curve of k points from `errors`, one array (fits, n) for each point, all of the same n items.

    A resample draws groups, the same for all points. The sampling variance of the fits (which rows a fit got, and its
    seed) is added to each point independently: the standard deviation between fits on equally many rows, pooled over
    points, times Student's t with its degrees of freedom. With one fit per point it is unknown and not added.
    """
    means = [fits.mean(axis=0) for fits in errors]
    point = np.array([mean.mean() for mean in means])
    count = int(groups.max()) + 1
    if count < MIN_GROUPS:
        return CurveDraws(point, None)
    sums = np.column_stack([np.bincount(groups), *(np.bincount(groups, mean) for mean in means)])
    totals = np.concatenate([weights @ sums for weights in resample_weights(count, resamples, seed)])
    resampled = totals[:, 1:] / totals[:, :1]
    spread, freedom = between_fit_spread(errors)
    if freedom:
        random = np.random.default_rng(seed + 1)
        fits = np.array([len(point_errors) for point_errors in errors])
        noise = random.standard_t(freedom, resampled.shape) * spread / np.sqrt(fits)
        resampled = resampled * np.exp(noise)
    return CurveDraws(point, np.maximum(resampled, 1e-9 * point.max()))


def between_fit_spread(errors: Sequence[Array]) -> tuple[float, int]:
    """Return the standard deviation of log MAE between fits on equally many rows, pooled over points, and its degrees
    of freedom.
    """
    squares, freedom = 0.0, 0
    for fits in errors:
        logs = np.log(fits.mean(axis=1))
        squares += float(np.square(logs - logs.mean()).sum())
        freedom += len(logs) - 1
    return (float(np.sqrt(squares / freedom)) if freedom else 0.0), freedom


def percentile_interval(values: Array, level: float = LEVEL) -> tuple[float, float]:
    """Return the central interval that holds a share `level` of resampled values."""
    tail = (1 - level) / 2
    low, high = np.quantile(values, [tail, 1 - tail])
    return float(low), float(high)


def build_points(
    parts: Sequence[int], rows: Sequence[int], errors: Sequence[Array], groups: Codes, seconds: Sequence[float]
) -> tuple[CurvePoint, ...]:
    """Return the points of a curve with confidence intervals; `errors` as in `draw_curves`."""
    spread, freedom = between_fit_spread(errors)
    means = [fits.mean(axis=0) for fits in errors]
    fit_errors = [
        spread * small_sample_factor(freedom) * float(mean.mean()) / len(fits) ** 0.5
        for mean, fits in zip(means, errors, strict=True)
    ]
    points: list[CurvePoint] = []
    for index, mean in enumerate(means):
        before = means[index - 1] if index else None
        both = float(np.hypot(fit_errors[index], fit_errors[index - 1]))
        points.append(
            CurvePoint(
                part=parts[index],
                rows=rows[index],
                fits=len(errors[index]),
                mae=interval_with_fit_error(mean, groups, None, fit_errors[index]),
                gain=None if before is None else interval_with_fit_error(before, groups, mean, both),
                fit_seconds=round(seconds[index], 3),
            )
        )
    return tuple(points)


def small_sample_factor(freedom: int) -> float:
    """Return by how much an interval widens because the spread is estimated from few fits: t / normal quantile."""
    from scipy import stats

    return float(stats.t.ppf(0.975, freedom) / stats.norm.ppf(0.975)) if freedom else 0.0


def interval_with_fit_error(values: Array, groups: Codes, minus: Array | None, fit_error: float) -> ErrorRange:
    """Return the interval of a mean, or of a paired difference, over groups, widened by the standard error
    `fit_error` of the fits' sampling variance.
    """
    interval = bootstrap_interval(values, groups, minus=minus)
    if interval.low is None or interval.high is None or interval.se is None:
        return ErrorRange(point=interval.point)
    widening = float(np.hypot(interval.se, fit_error)) / interval.se if interval.se else 1.0
    low, high = (interval.point - widening * (interval.point - bound) for bound in (interval.low, interval.high))
    if not interval.se:
        low, high = low - 1.96 * fit_error, high + 1.96 * fit_error
    return ErrorRange(point=interval.point, low=max(low, 0.0) if minus is None else low, high=high)


def forecast_doubling(points: Sequence[CurvePoint], curves: CurveDraws) -> DoublingForecast:
    """Return what twice the rows would gain by the fitted curve, or that it gives no answer."""
    rows = [point.rows for point in points]
    twice, last = 2 * rows[-1], float(curves.point[-1])
    forecast = DoublingForecast(answer="unclear", rows=twice)
    if curves.resampled is None:
        return forecast
    early = fit_power_law(rows[:-1], curves.resampled[:, :-1]).error(rows[-1])
    predicted = float(fit_power_law(rows[:-1], curves.point[None, :-1]).error(rows[-1])[0])
    low, high = percentile_interval(early - curves.resampled[:, -1])
    prediction_error = percentile_range(predicted - last, early - curves.resampled[:, -1])
    forecast = forecast.model_copy(update={"predicted": predicted, "prediction_error": prediction_error})
    if any(point.gain is not None and point.gain.high is not None and point.gain.high < 0 for point in points):
        return forecast.model_copy(update={"answer": "worse"})
    if low > 0 or high < 0:
        return forecast.model_copy(update={"answer": "no power law"})
    laws = (fit_power_law(rows, curves.resampled), fit_without_floor(rows, curves.resampled))
    best = fit_power_law(rows, curves.point[None, :])
    gains = [law.error(rows[-1]) - law.error(twice) for law in laws]
    best_gain = float((best.error(rows[-1]) - best.error(twice))[0])
    gain = percentile_range(best_gain, *gains)
    answer: Answer = "unclear"
    if (gain.high or 0.0) <= SMALL_GAIN * last:
        answer = "small gain"
    elif (gain.low or 0.0) >= MIN_GAIN * last:
        answer = "gain"
    return forecast.model_copy(
        update={
            "answer": answer,
            # From the measured error, not from the law's own value, so that error and gain add up.
            "mae": percentile_range(last - best_gain, *(curves.resampled[:, -1] - values for values in gains)),
            "gain": gain,
            "exponent": percentile_range(float(best.exponent[0]), laws[0].exponent),
        }
    )


def percentile_range(point: float, *values: Array) -> ErrorRange:
    """Return a point and the outer of the central 95 % intervals of several sets of resamples, with the point in it."""
    intervals = [percentile_interval(resampled) for resampled in values]
    return ErrorRange(
        point=point, low=min(point, *(low for low, _ in intervals)), high=max(point, *(high for _, high in intervals))
    )
