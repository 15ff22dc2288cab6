"""The law of a learning curve: found where there is one, refused where there is none, and honest about its width."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as some

from pricesmith.learning_curve.power_law import (
    EXPONENTS,
    CurveDraws,
    between_fit_variance,
    double_rows,
    draw_curves,
    fit_power_law,
    point_positions,
)

ROWS = (1_000, 2_000, 4_000, 8_000)
PARTS = (8, 4, 2, 1)
FITS = (2, 2, 2, 1)


def made_errors(draw, law, *, items=500, groups=100, odds=0.007):
    """Errors of fits on ROWS rows, (fits, items) each, whose mean follows `law`; groups err together."""
    codes = np.unique(draw.integers(0, groups, items), return_inverse=True)[1]
    own = np.exp(draw.normal(0, 0.8, codes.max() + 1)[codes] + draw.normal(0, 0.5, items) - 0.89 / 2)
    errors = [
        np.stack(
            [
                law(rows) * np.exp(draw.normal(0, odds)) * own * np.exp(draw.normal(0, 0.3, items) - 0.045)
                for _ in range(fits)
            ]
        )
        for rows, fits in zip(ROWS, FITS, strict=True)
    ]
    return errors, codes


def asked(errors, codes, resamples=300):
    points = point_positions(PARTS, ROWS, errors, codes, [0.0] * 4)
    return double_rows(points, draw_curves(errors, codes, resamples=resamples))


@settings(deadline=None, max_examples=40)
@given(some.floats(0, 80), some.floats(1, 100), some.sampled_from(EXPONENTS.tolist()))
def test_a_curve_without_noise_is_found_again(floor: float, fall: float, exponent: float) -> None:
    """Where errors follow the law exactly, the next error follows it too."""
    errors = floor + fall * (np.array(ROWS) / 1_000) ** -exponent
    found = fit_power_law(ROWS, errors[None, :])
    assert found.error(16_000)[0] == pytest.approx(floor + fall * 16**-exponent, rel=1e-6)


@settings(deadline=None, max_examples=40)
@given(some.lists(some.floats(0.1, 1000), min_size=4, max_size=4))
def test_no_law_rises_or_goes_below_nothing(errors: list[float]) -> None:
    """Whatever the curve, more rows cost nothing by its law, and no error is below 0."""
    found = fit_power_law(ROWS, np.array([errors]))
    assert found.error(16_000)[0] <= found.error(8_000)[0] * (1 + 1e-12)
    assert found.floor[0] >= 0
    assert found.scale[0] >= 0


@pytest.mark.parametrize(
    ("floor", "fall", "exponent"), [(30, 3_000, 0.7), (10, 300, 0.35), (0, 200, 0.2)], ids=["floored", "mixed", "pure"]
)
def test_the_interval_of_twice_the_rows_holds_what_it_says(floor: float, fall: float, exponent: float) -> None:
    """On made curves the truth is inside at least nine times in ten (2.5 standard errors under 95 %), and an answer is
    given."""

    def law(rows: float) -> float:
        return floor + fall * rows**-exponent

    draw = np.random.default_rng(7)
    gain = law(8_000) - law(16_000)
    found = [asked(*made_errors(draw, law)) for _ in range(40)]
    answered = [one for one in found if one.gain is not None]
    held = [one.gain.low <= gain <= one.gain.high for one in answered]
    assert len(answered) >= 36
    assert np.mean(held) >= 0.95 - 2.5 * (0.95 * 0.05 / 40) ** 0.5
    assert sum(one.answer == "buys" for one in answered) >= 33


def test_a_flat_curve_buys_nothing() -> None:
    """Where rows buy nothing, nobody is told that they do."""
    draw = np.random.default_rng(3)
    answers = [asked(*made_errors(draw, lambda _: 40.0, odds=0.001)).answer for _ in range(30)]
    assert "buys" not in answers
    assert answers.count("little") + answers.count("unclear") >= 27


def test_a_curve_that_rises_or_breaks_gives_no_answer() -> None:
    """More rows and a larger error, or a fall that the smaller parts do not foretell: no law, and no gain is told."""
    draw = np.random.default_rng(5)
    risen = asked(*made_errors(draw, {1_000: 40, 2_000: 35, 4_000: 31, 8_000: 36}.__getitem__, odds=0.001))
    assert (risen.answer, risen.gain, risen.error) == ("worse", None, None)
    broken = asked(*made_errors(draw, {1_000: 40, 2_000: 39, 4_000: 38, 8_000: 20}.__getitem__, odds=0.001))
    assert (broken.answer, broken.gain) == ("no law", None)
    assert broken.off is not None
    assert broken.off.low > 0


def test_too_few_groups_give_no_answer() -> None:
    """Under five groups there is no interval, so nothing is said."""
    errors, codes = made_errors(np.random.default_rng(1), lambda rows: 1e4 / rows, groups=3)
    assert draw_curves(errors, codes).resampled is None
    found = asked(errors, codes)
    assert (found.answer, found.gain) == ("unclear", None)


def test_the_luck_of_the_draw_is_measured_and_widens() -> None:
    """The spread between fits on as many rows is found again, and is in the intervals."""
    draw = np.random.default_rng(2)
    errors = [np.exp(draw.normal(0, 0.05, (50, 1))) * np.ones((50, 20)) for _ in range(3)]
    spread, freedom = between_fit_variance([*errors, errors[0][:1]])
    assert spread == pytest.approx(0.05, rel=0.15)
    assert freedom == 147
    own, codes = draw.lognormal(0, 1, 400), np.arange(400)
    ends = []
    for odds in (0.0, 0.1):
        errors = [level * own * np.array([[1 + odds], [1 - odds]]) for level in (50, 40, 30)]
        gain = point_positions(PARTS, ROWS, [*errors, 25 * own[None, :]], codes, [0.0] * 4)[-1].gain
        ends.append(gain.high - gain.low)
    assert ends[1] > 3 * ends[0]


def test_errors_of_nothing_have_a_law() -> None:
    """A pricer that errs by next to nothing does not break the fit."""
    found = fit_power_law(ROWS, np.full((2, 4), 1e-9))
    assert np.isfinite(found.error(16_000)).all()
    assert CurveDraws(np.zeros(4), None).resampled is None
