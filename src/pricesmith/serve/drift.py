"""Whether a served model still prices as it did when it was fitted.

    report = drift_report(LogReader("shop.requests.db"), load_model("shop"), since="2026-10-01")
    report.sentences        what was found, in plain words
    report.alarm            whether something has changed significantly

Quotes are compared with the model's `reference.json`, and sold prices with its errors there. A change of the quotes
means that other things are priced, or described otherwise; only sold prices show whether quotes are still right. Sold
prices come from people who gave them, and are a sample of what was sold only as far as those people are.

Only quotes of this very model (its identity) count; those of others are counted and left out.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from datetime import date
from typing import TYPE_CHECKING, Any

from pricesmith.serve.drift_feedback import MIN_SOLD, SoldBias, SoldDrift, measure_feedback
from pricesmith.serve.drift_quotes import (
    MIN_LISTINGS,
    QUOTE_COLUMNS,
    DriftTest,
    QuoteDrift,
    describe_size,
    measure_quotes,
)
from pricesmith.serve.log_reader import LogReader
from pricesmith.serve.log_records import parse_day
from pricesmith.text.formatting import format_count, format_price, format_range, format_share

if TYPE_CHECKING:
    from pricesmith.pricers.model import PriceModel

REFIT_FROM = 0.05  # a bias of this share is worth a refit
NO_REFERENCE = (
    "This model has no reference of its quotes at training time, so they cannot be compared with it. Models that "
    "earlier versions of Pricesmith fitted have none, nor have hybrids with paid answers."
)


@dataclass(frozen=True)
class DriftReport:
    """The quotes and sold prices of a model since a day. `sentences` say what was found, the most important first."""

    model: str
    identity: str
    currency: str
    since: str
    last: str
    quotes: QuoteDrift
    sold: SoldDrift
    other_quotes: int
    sentences: tuple[str, ...]

    @property
    def alarm(self) -> bool:
        """Whether quotes or errors have changed significantly since training."""
        return self.quotes.alarm or self.sold.alarm

    def to_dict(self) -> dict[str, Any]:
        """The report as plain values, ready for JSON."""
        values = asdict(self)
        values["quotes"]["alarm"], values["sold"]["alarm"] = self.quotes.alarm, self.sold.alarm
        return {**values, "sentences": list(self.sentences), "alarm": self.alarm}


def drift_report(log: LogReader, model: PriceModel, since: date | str | None = None) -> DriftReport:
    """The drift of a model since a day (default: all that is in the log). Raises InputError if the log is damaged."""
    day = parse_day(since) if isinstance(since, str) else since
    currency, reference = str(model.info["currency"]), model.reference
    quotes, others = measure_quotes(log.iter_columns("quotes", QUOTE_COLUMNS, day), model.identity, reference)
    feedback = log.read_feedback(day)
    sold = measure_feedback(feedback, model.identity, currency, reference)
    days = [*(part.day for part in quotes.days), *(row.at[:10] for row in feedback)]
    first, last = (day.isoformat() if day else min(days, default="")), max(days, default="")
    sentences = [*describe_sold(sold, currency, first, str(log.path)), *describe_quotes(quotes, first)]
    if reference is None:
        sentences.append(NO_REFERENCE)
    if left_out := describe_left_out(sold, others):
        sentences.append(left_out)
    return DriftReport(model.name, model.identity, currency, first, last, quotes, sold, others, tuple(sentences))


def format_since(day: str) -> str:
    """`Since 3 October 2026`; `So far` without a day."""
    if not day:
        return "So far"
    moment = date.fromisoformat(day)
    return f"Since {moment.day} {moment:%B %Y}"


def describe_quotes(quotes: QuoteDrift, since: str) -> list[str]:
    """What the quotes show, in sentences."""
    if quotes.listings < MIN_LISTINGS:
        return [f"Too few quotes for a judgement: {quotes.listings} of at least {MIN_LISTINGS} different listings."]
    if not quotes.tests or quotes.psi is None:
        return []
    facts = f"{format_count(quotes.listings, 'listing')}, PSI {quotes.psi:.2f}"
    changed = [describe_test(test) for test in quotes.tests if test.alarm]
    if not changed:
        return [f"{format_since(since)} there is no significant change of the quotes ({facts})."]
    size = describe_size(quotes.psi)
    facts += f", {size}" if size else ""
    return [
        f"{format_since(since)} quotes differ from those at training time ({facts}): {'; '.join(changed)}. "
        "Other things are priced, or they are described otherwise; sold prices show whether quotes are still right."
    ]


def describe_test(test: DriftTest) -> str:
    """A change in words."""
    if "PSI" in test.name:
        return f"their distribution has changed (PSI {test.now:.2f})"
    if "share" in test.name:
        return f"the {test.name} is {format_share(test.now)}, at training time {format_share(test.reference)}"
    change = test.now / test.reference - 1
    return f"the {test.name} is {abs(change) * 100:.0f} % {'higher' if change > 0 else 'lower'}"


def describe_sold(sold: SoldDrift, currency: str, since: str, log: str) -> list[str]:
    """What sold prices show, in sentences: significant biases first, the largest of them first."""
    if sold.listings < MIN_SOLD or sold.mae is None:
        return [f"Too few sold prices for a judgement: {sold.listings} of at least {MIN_SOLD}."]
    start, sentences = format_since(since), []
    everything, *parts = sold.biases
    biased = sorted((bias for bias in parts if bias.significant), key=lambda bias: -abs(bias.share))
    for bias in [*biased, *([everything] if everything.significant else [])]:
        sentences.append(f"{start} quotes are {describe_bias(bias, len(parts))}.")
    mae, covered = sold.mae, sold.coverage
    training = f", at training time {format_price(mae.reference, currency)}" if mae.reference is not None else ""
    ends = f"95 % CI {format_range(mae.low, mae.high, currency)}" if mae.low is not None else "no interval"
    described = f"{format_price(mae.point, currency)} ({ends}{training})"
    if mae.significant:
        worse = mae.point > (mae.reference or 0)
        sentences.append(f"{start} the MAE is significantly {'higher' if worse else 'lower'}: {described}.")
    if covered is not None and covered.significant:
        sentences.append(
            f"{start} intervals cover {format_share(covered.point)} of the sold prices instead of "
            f"{format_share(covered.reference or 0)}."
        )
    if not sentences:
        inside = f", coverage {format_share(covered.point)}" if covered else ""
        sentences.append(
            f"{start} there is no significant change of the errors: quotes are {describe_bias(everything, 0)}; MAE "
            f"{described}{inside}."
        )
    if any(abs(bias.share) >= REFIT_FROM and bias.significant for bias in sold.biases):
        sentences[0] += f" Refit: pricesmith curate {log} --from-feedback --to CATALOG --add OLD_CATALOG"
    return sentences


def describe_bias(bias: SoldBias, simultaneous: int) -> str:
    """`12 % too low on phones (95 % CI 8 to 16 %, 84 sold listings)`. `simultaneous` counts the compared categories."""
    sign = 1 if bias.share >= 0 else -1
    where = f" on {bias.category}" if bias.category else ""
    ends = "no interval"
    if bias.low is not None and bias.high is not None:
        low, high = sorted(100 * sign * end for end in (bias.low, bias.high))
        together = "simultaneous " if bias.category and simultaneous > 1 else ""
        ends = f"{together}95 % CI {low:.0f} to {high:.0f} %".replace("-", "−")
    before = ""
    if bias.reference is not None and abs(bias.reference) >= 0.02:
        before = f", at training time {abs(bias.reference) * 100:.0f} % too {'high' if bias.reference > 0 else 'low'}"
    size = f"{abs(bias.share) * 100:.0f} % too {'high' if sign > 0 else 'low'}{where}"
    return f"{size} ({ends}, {format_count(bias.listings, 'sold listing')}{before})"


def describe_left_out(sold: SoldDrift, others: int) -> str:
    """What was not counted, as a sentence; empty if nothing was left out."""
    reasons = (
        (others, "quote", "of other models"),
        (sold.other_model, "sold price", "on quotes of other models"),
        (sold.other_currency, "sold price", "in another currency"),
        (sold.without_quote, "sold price", "without a quote"),
    )
    parts = [f"{format_count(count, noun)} {reason}" for count, noun, reason in reasons if count]
    return f"Left out: {', '.join(parts)}." if parts else ""


def format_days(report: DriftReport, most: int = 31) -> Any:
    """The last days as a table for a terminal; None without quotes."""
    if not report.quotes.days:
        return None
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, title="Quotes by day (UTC)", title_justify="left")
    for title in ("day", "quotes", "listings", "PSI", "shift", "high ÷ low", "nothing similar", "characters"):
        table.add_column(title, justify="left" if title == "day" else "right", no_wrap=True)
    for day in report.quotes.days[-most:]:
        psi = "" if day.psi is None else f"{day.psi:.2f}{f' {day.change}' if day.change else ''}"
        table.add_row(
            day.day,
            f"{day.quotes:,}",
            f"{day.listings:,}",
            psi,
            "" if day.shift is None else f"{day.shift * 100:+.0f} %",
            "" if day.width is None else f"{day.width:.2f}",
            "" if day.nothing_similar is None else format_share(day.nothing_similar),
            "" if day.length is None else f"{day.length:,.0f}",
        )
    return table
