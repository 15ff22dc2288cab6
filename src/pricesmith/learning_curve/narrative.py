"""Advice in words, made from its numbers by rule; the terminal and the page say the same."""

from __future__ import annotations

from pricesmith.learning_curve.categories import MAX_GAINS, NAMELESS
from pricesmith.learning_curve.power_law import SMALL_GAIN
from pricesmith.learning_curve.schema import ErrorRange, LearningCurve, SegmentShare
from pricesmith.text.formatting import format_band, format_price, format_range, format_share, join_names, to_single_line

NAMED = 6
HALF = 0.5


def headline(found: LearningCurve) -> str:
    """What twice the rows would buy, or that the curve does not say."""
    doubling, currency = found.doubling, found.currency
    now = format_price(found.points[-1].error.point, currency)
    gain = doubling.gain
    if gain is None or gain.low is None or gain.high is None:
        return f"The curve gives no answer about more rows: {no_forecast_reason(found)}."
    if doubling.answer == "little":
        return f"Twice the rows would buy little: at most {format_price(gain.high, currency)} of an error of {now}."
    if doubling.answer == "unclear":
        return (
            "The curve gives no answer about more rows: twice as many would take between "
            f"{format_price(gain.low, currency)} and {format_price(gain.high, currency)} off an error of {now}."
        )
    much = f"{format_price(gain.point, currency)} [{format_range(gain.low, gain.high, currency)}]"
    return f"Twice the rows would take about {much} off the error, which is {now} now."


def no_forecast_reason(found: LearningCurve) -> str:
    """Why a curve is not drawn on."""
    if found.doubling.answer == "worse":
        at = next(point for point in found.points if point.gain and point.gain.high is not None and point.gain.high < 0)
        return f"with {at.rows:,} rows the error is larger than with half as many, told apart"
    if found.doubling.answer == "no law":
        return "the smaller parts do not foretell the error on all rows"
    return "too few groups were judged"


def range_phrase(found: ErrorRange, currency: str) -> str:
    """`$38.90 [$36.10 to $41.80]`; without an interval where there are too few groups."""
    ends = format_range(found.low, found.high, currency)
    return format_price(found.point, currency) + (f" [{ends}]" if ends else "")


def forecast_phrase(found: LearningCurve) -> str:
    """The law of the smaller parts held against what was measured on all rows."""
    early, off, currency = found.doubling.foretold, found.doubling.off, found.currency
    if early is None or off is None:
        return "Too few groups were judged to fit a law."
    measured = format_price(found.points[-1].error.point, currency)
    return (
        f"From the smaller parts alone the law foretells {format_price(early, currency)} on all rows; it is {measured}: "
        f"off by {range_phrase(off, currency)}."
    )


def join_sentences(labels: list[str]) -> str:
    """Neighboring price bands as one: `200 to 500` and `500 and over` are `200 and over`."""
    first, last = labels[0], labels[-1]
    if len(labels) == 1:
        return first
    if first.startswith("under "):
        return f"under {last.rpartition(' ')[2]}"
    low = first.split()[0]
    return f"{low} and over" if last.endswith("over") else f"{low} to {last.rpartition(' ')[2]}"


def where_sentence(found: LearningCurve) -> str:
    """Which price bands hold half of the error."""
    bands = sorted(found.bands, key=lambda band: -band.share_of_error / band.share_of_items)
    chosen: list[SegmentShare] = []
    for band in bands:
        if sum(one.share_of_error for one in chosen) >= HALF:
            break
        chosen.append(band)
    if not chosen or len(chosen) == len(found.bands):
        return "The error is spread over all prices alike."
    chosen.sort(key=lambda band: found.bands.index(band))
    errors, items = (sum(getattr(one, name) for one in chosen) for name in ("share_of_error", "share_of_items"))
    places = [found.bands.index(band) for band in chosen]
    labels = [band.label for band in chosen]
    together = [join_sentences(labels)] if places[-1] - places[0] == len(places) - 1 else labels
    names = join_names([format_band(label, found.currency) for label in together], 4)
    return f"{format_share(errors)} of the error is on the {format_share(items)} of the items that cost {names}."


def rows_needed_sentence(found: LearningCurve) -> str:
    """Which categories need rows, named."""
    if not found.needs and not found.categories:
        return "The catalog has no categories, so it is not known where rows are needed most."
    if not found.needs:
        return "No category has rows enough for a curve of its own."
    wanted = [one for one in found.needs if one.needs]
    names = [f"{to_single_line(one.category, 40)} ({one.rows:,} rows)" for one in wanted if one.category != NAMELESS]
    names += [f"rows without a category ({one.rows:,})" for one in wanted if one.category == NAMELESS]
    if not names:
        return "No category is seen to need rows more than the others."
    return f"Rows are needed most in {join_names(names, NAMED)}."


def tail_sentence(found: LearningCurve) -> str:
    """What is in categories too small to be measured; empty where there are none."""
    small = found.unmeasured
    if small is None:
        return ""
    return (
        f"{small.label} with too few rows for a curve of their own: together {format_share(small.share_of_items)} of the rows "
        f"and {format_share(small.share_of_error)} of the error."
    )


def noise_sentence(found: LearningCurve) -> str:
    """What the catalog knows of its label noise."""
    known = found.noise
    if known is None:
        return "Label noise is not known: no two rows share their text at different prices."
    return (
        f"Label noise: {known.rows:,} of the catalog's rows share their text with another price, by "
        f"{format_share(known.difference)} in the median; on those no pricer errs less than "
        f"{format_price(known.floor, found.currency)}. Of the other rows it is not known."
    )


def method_text(found: LearningCurve) -> list[str]:
    """How it was measured."""
    fits = f"{found.draws} fits" if found.draws > 1 else "one fit"
    luck = (
        "The spread between fits on as many rows, the luck of the draw, is in the intervals of the curve."
        if found.draws > 1
        else "With one draw the luck of the draw is not known, and in no interval."
    )
    return [
        f"Every fit is judged on the same {found.judged:,} items ({found.held}); the test split is not looked at. "
        f"Parts of the rows are whole groups, each part inside the next; {fits} of each part. {luck}",
        "Twice the rows: error = floor + b × rows^-c, with floor and b from 0 and c from 0 to 1, is fitted to the "
        "curve and to 2,000 resamples of it by groups, with the floor and without one; an interval is the outer of "
        "the middle 95 % of both. It is for more rows like "
        f"these, and for one doubling only. “Little” is at most {format_share(SMALL_GAIN)} of the error.",
        MAX_GAINS,
    ]
