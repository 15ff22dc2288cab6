"""What advice consists of, as plain frozen values: advice.json holds one `Advice`, tables and pages are views of it."""

from __future__ import annotations

from typing import Literal

from pricesmith.core.settings import Settings

Answer = Literal["buys", "little", "unclear", "no law", "worse"]


class ErrorRange(Settings):
    """A value with its interval; `low` and `high` are None where there are too few groups for one."""

    point: float
    low: float | None = None
    high: float | None = None


class CurvePoint(Settings):
    """One place of the learning curve: the mean error of `fits` fits on `rows` rows, one `part`-th of all.

    `gain` is by how much its error is below that with half as many rows, paired; None at the first place.
    """

    part: int
    rows: int
    fits: int
    error: ErrorRange
    gain: ErrorRange | None
    seconds: float


class DoublingForecast(Settings):
    """What twice the rows would buy. `answer` says what may be said of it:

    little   the gain is at most 2 % of the error
    buys     it may be more than that, and is at least half a per cent
    unclear  from next to nothing to more than 2 %: the curve gives no answer
    no law   the smaller parts do not foretell the error on all rows, so the law foretells nothing beyond them
    worse    somewhere on the curve more rows gave a larger error, told apart

    `error` and `gain` are in money and None for the last two. `foretold` is the error on all rows as the law has it
    from the smaller parts alone, `off` by how much it is above the measured one, paired.
    """

    answer: Answer
    rows: int
    error: ErrorRange | None = None
    gain: ErrorRange | None = None
    exponent: ErrorRange | None = None
    foretold: float | None = None
    off: ErrorRange | None = None


class SegmentShare(Settings):
    """The error on some of the judged items, with their share of the items and of the sum of all errors."""

    label: str
    n: int
    share_of_items: float
    share_of_error: float
    error: ErrorRange
    ratio: float


class CategoryGain(Settings):
    """A category's own curve, on training rows that the fits left out.

    `gain` is what going from a quarter to half of the rows took off its error, paired, with an interval that holds for
    all categories at once. `needs` is the rule's word: see `parts.NEEDS`.
    """

    category: str
    rows: int
    judged: int
    share_of_rows: float
    share_of_error: float
    error: float
    ratio: float
    gain: ErrorRange
    every_fit: bool
    needs: bool


class FitNoise(Settings):
    """The label noise that the catalog knows: rows whose text is another's, with another price."""

    rows: int
    difference: float
    floor: float


class LearningCurve(Settings):
    """All of it. Money is in the catalog's currency."""

    catalog: str
    fingerprint: str
    currency: str
    recipe: str
    rows: int
    judged: int
    groups: int
    held: str
    draws: int
    points: tuple[CurvePoint, ...]
    doubling: DoublingForecast
    bands: tuple[SegmentShare, ...]
    categories: tuple[SegmentShare, ...]
    needs: tuple[CategoryGain, ...]
    overall_gain: ErrorRange | None
    unmeasured: SegmentShare | None
    noise: FitNoise | None
    seconds: float
