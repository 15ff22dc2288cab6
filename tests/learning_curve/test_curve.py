"""The power law of a learning curve: recovered if there is one, refused if not, with intervals that cover."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as some

from pricesmith.learning_curve.curve import (
    EXPONENTS,
    CurveDraws,
    between_fit_spread,
    build_points,
    draw_curves,
    fit_power_law,
    forecast_doubling,
)

ROWS = (1_000, 2_000, 4_000, 8_000)
PARTS = (8, 4, 2, 1)
FITS = (2, 2, 2, 1)


def simulate_errors(random, curve, *, items=500, groups=100, spread=0.007):
    """Return errors of fits on ROWS rows, (fits, items) each, whose mean follows `curve`; groups are correlated."""
    codes = np.unique(random.integers(0, groups, items), return_inverse=True)[1]
    own = np.exp(random.normal(0, 0.8, codes.max() + 1)[codes] + random.normal(0, 0.5, items) - 0.89 / 2)
    errors = [
        np.stack(
            [
                curve(rows) * np.exp(random.normal(0, spread)) * own * np.exp(random.normal(0, 0.3, items) - 0.045)
                for _ in range(fits)
            ]
        )
        for rows, fits in zip(ROWS, FITS, strict=True)
    ]
    return errors, codes


def forecast(errors, codes, resamples=300):
    points = build_points(PARTS, ROWS, errors, codes, [0.0] * 4)
    return forecast_doubling(points, draw_curves(errors, codes, resamples=resamples))


@settings(max_examples=40)
@given(some.floats(0, 80), some.floats(1, 100), some.sampled_from(EXPONENTS.tolist()))
def test_a_curve_without_noise_is_recovered(floor: float, fall: float, exponent: float) -> None:
    """If errors follow a power law exactly, the next error follows it too."""
    errors = floor + fall * (np.array(ROWS) / 1_000) ** -exponent
    law = fit_power_law(ROWS, errors[None, :])
    assert law.error(16_000)[0] == pytest.approx(floor + fall * 16**-exponent, rel=1e-6)


@settings(max_examples=40)
@given(some.lists(some.floats(0.1, 1000), min_size=4, max_size=4))
def test_a_fitted_curve_never_rises_and_is_never_negative(errors: list[float]) -> None:
    """For any curve, the fitted error does not rise with more rows and is not below 0."""
    law = fit_power_law(ROWS, np.array([errors]))
    assert law.error(16_000)[0] <= law.error(8_000)[0] * (1 + 1e-12)
    assert law.floor[0] >= 0
    assert law.scale[0] >= 0


@pytest.mark.parametrize(
    ("floor", "fall", "exponent"), [(30, 3_000, 0.7), (10, 300, 0.35), (0, 200, 0.2)], ids=["floored", "mixed", "pure"]
)
def test_the_interval_of_the_gain_covers_the_true_gain(floor: float, fall: float, exponent: float) -> None:
    """On simulated curves the coverage is at least 95 % minus 2.5 standard errors, and a gain is forecast."""

    def law(rows: float) -> float:
        return floor + fall * rows**-exponent

    draw = np.random.default_rng(7)
    gain = law(8_000) - law(16_000)
    forecasts = [forecast(*simulate_errors(draw, law)) for _ in range(40)]
    answered = [result for result in forecasts if result.gain is not None]
    covered = [result.gain.low <= gain <= result.gain.high for result in answered]
    assert len(answered) >= 36
    assert np.mean(covered) >= 0.95 - 2.5 * (0.95 * 0.05 / 40) ** 0.5
    assert sum(result.answer == "gain" for result in answered) >= 33


def test_a_flat_curve_has_no_gain() -> None:
    """If more rows do not help, no gain is forecast."""
    draw = np.random.default_rng(3)
    answers = [forecast(*simulate_errors(draw, lambda _: 40.0, spread=0.001)).answer for _ in range(30)]
    assert "gain" not in answers
    assert answers.count("small gain") + answers.count("unclear") >= 27


def test_a_curve_that_rises_or_breaks_gives_no_answer() -> None:
    """If the error rises, or falls in a way that the smaller parts do not predict, no gain is forecast."""
    draw = np.random.default_rng(5)
    risen = forecast(*simulate_errors(draw, {1_000: 40, 2_000: 35, 4_000: 31, 8_000: 36}.__getitem__, spread=0.001))
    assert (risen.answer, risen.gain, risen.mae) == ("worse", None, None)
    broken = forecast(*simulate_errors(draw, {1_000: 40, 2_000: 39, 4_000: 38, 8_000: 20}.__getitem__, spread=0.001))
    assert (broken.answer, broken.gain) == ("no power law", None)
    assert broken.prediction_error is not None
    assert broken.prediction_error.low > 0


def test_too_few_groups_give_no_answer() -> None:
    """Under five groups there is no interval, so there is no forecast."""
    errors, codes = simulate_errors(np.random.default_rng(1), lambda rows: 1e4 / rows, groups=3)
    assert draw_curves(errors, codes).resampled is None
    result = forecast(errors, codes)
    assert (result.answer, result.gain) == ("unclear", None)


def test_the_spread_between_fits_widens_the_intervals() -> None:
    """The spread between fits on equally many rows is estimated and included."""
    draw = np.random.default_rng(2)
    errors = [np.exp(draw.normal(0, 0.05, (50, 1))) * np.ones((50, 20)) for _ in range(3)]
    spread, freedom = between_fit_spread([*errors, errors[0][:1]])
    assert spread == pytest.approx(0.05, rel=0.15)
    assert freedom == 147
    own, codes = draw.lognormal(0, 1, 400), np.arange(400)
    ends = []
    for odds in (0.0, 0.1):
        errors = [level * own * np.array([[1 + odds], [1 - odds]]) for level in (50, 40, 30)]
        gain = build_points(PARTS, ROWS, [*errors, 25 * own[None, :]], codes, [0.0] * 4)[-1].gain
        ends.append(gain.high - gain.low)
    assert ends[1] > 3 * ends[0]


def test_errors_near_zero_do_not_break_the_fit() -> None:
    """A pricer with almost no error still has a finite fit."""
    law = fit_power_law(ROWS, np.full((2, 4), 1e-9))
    assert np.isfinite(law.error(16_000)).all()
    assert CurveDraws(np.zeros(4), None).resampled is None
