"""How many answers of an API model to buy for a hybrid, measured on those that exist. No request is sent."""

from __future__ import annotations

import csv
import io
import math
import shlex
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pricesmith.api.pipeline import CatalogLike, open_or_same
from pricesmith.core.atomic import find_output, write_atomic
from pricesmith.core.console import Console
from pricesmith.core.errors import UsageError
from pricesmith.text.formatting import format_count, format_price, format_usd

if TYPE_CHECKING:
    from pricesmith.catalog.catalog import Catalog
    from pricesmith.core.progress import Progress
    from pricesmith.core.types import Item, Listing, Quote
    from pricesmith.pricers.api.model_spec import ApiSettings
    from pricesmith.pricers.hybrid.suggest import AskingCosts, CostRow, GainCurve
    from pricesmith.pricers.model import PriceModel

MIN_ANSWERS = 20  # that a blend or a cascade accepts as n_answers
BATCH = 500  # listings that the own model prices between two steps of progress
IN_FLIGHT = 8  # requests whose highest cost a budget must cover beside the estimate
HEADER = ["id", "title", "estimated_fee_usd", "cached"]
EXPERIENCE = (
    "Buy 100 answers first: on 58,299 goods and a frontier LLM, 100 answers gave most of the gain of 900 "
    "(benchmarks/README.md). MAE on held-out validation answers: own model 32.84, LLM 31.16, hybrid 29.62 with 50 "
    "answers, 29.34 with 100, 29.29 with 200, 29.01 with 400 and 28.62 with 900."
)


@dataclass(frozen=True)
class SuggestedListing:
    """A validation listing to ask about: the estimated US dollars (None: unknown), and whether its answer exists."""

    id: str
    title: str
    usd: float | None
    cached: bool


@dataclass(frozen=True)
class AnswerSuggestion:
    """How many answers of `model` a hybrid should have (`n_answers`), about which validation listings, and why.

    `listings` are in the order in which `fit blend` and `fit cascade` ask. `rows` are the costs by number of answers;
    `curve` is the expected MAE, None if it could not be measured; `commands` are the commands to run next.

    Examples:
        >>> suggestion = suggest_answers("api:gpt-6-luna", catalog)
        >>> suggestion.row.cached, suggestion.worthwhile is None
        (0, True)
    """

    model: str
    own_model: str | None
    catalog: str
    currency: str
    saved: bool
    n_validation: int
    n_answered: int
    n_answers: int
    asked_for: bool
    rows: tuple[CostRow, ...]
    curve: GainCurve | None
    listings: tuple[SuggestedListing, ...]
    commands: tuple[str, ...]

    @property
    def row(self) -> CostRow:
        """The costs of the suggested number of answers."""
        return next(row for row in self.rows if row.answers == self.n_answers)

    @property
    def worthwhile(self) -> bool | None:
        """Whether new answers should lower the MAE by more than the noise; None if it could not be measured."""
        from pricesmith.pricers.hybrid.suggest import is_worthwhile

        return None if self.curve is None else is_worthwhile(self.row, self.curve)

    def expected_mae(self, count: int) -> float | None:
        """The expected MAE of a hybrid with this number of answers; None if it could not be measured."""
        return None if self.curve is None else self.curve.expected_mae(count)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        values = asdict(self)
        del values["asked_for"]
        if self.curve is not None:
            values["curve"]["noise"] = self.curve.noise
        values["rows"] = [{**asdict(row), "expected_mae": self.expected_mae(row.answers)} for row in self.rows]
        return {**values, "worthwhile": self.worthwhile, "text": self.describe()}

    def describe(self) -> list[str]:
        """What exists, the gain, and what to do, as sentences."""
        kind = "saved" if self.saved else "cached"
        lines = [
            f"{self.model}: {self.n_answered:,} of the {self.n_validation:,} validation listings of {self.catalog} "
            f"have a {kind} answer with a price. No request was sent."
        ]
        lines += self.describe_unmeasured() if self.curve is None else self.describe_gain(self.curve)
        if self.saved and self.row.requests and self.worthwhile is not False:
            lines.append(
                "--to LISTINGS.csv writes the listings to ask about. Add their answers to the file, then fit the blend."
            )
        return lines

    def describe_unmeasured(self) -> list[str]:
        """Why no gain was measured, and what to buy first."""
        from pricesmith.pricers.hybrid.suggest import MIN_MEASURED

        if self.n_answered >= MIN_MEASURED:
            return ["The gain for this catalog is unknown without a model of your own: name its folder to measure it."]
        first = "The gain for this catalog is unknown until some answers are bought"
        return [f"{first}: measuring it needs {MIN_MEASURED} answers and a model of your own.", EXPERIENCE]

    def describe_gain(self, curve: GainCurve) -> list[str]:
        """The measured gain, and whether more answers are worth buying."""

        def money(value: float) -> str:
            return format_price(value, self.currency)

        last, row = self.rows[-1], self.row
        lines = [
            f"Measured on {curve.answers:,} answered listings: {self.own_model} has an MAE of {money(curve.own_mae)}, "
            f"{self.model} {money(curve.api_mae)}. Fitted curve of the hybrid: MAE = {money(curve.floor)} + "
            f"{money(curve.slope)} / answers, so {money(curve.expected_mae(curve.answers))} with these answers. "
            f"Hybrids fitted on different {curve.points[-1].answers:,} of them vary by {money(curve.noise)} (standard "
            "deviation)."
        ]
        noise = f"within that variation of {money(curve.noise)}"
        if not last.requests:
            return [*lines, "All validation listings have an answer: there is nothing to buy."]
        if self.worthwhile:
            lines.append(
                f"{format_count(row.requests, 'more answer')} for {describe_cost(row.usd)} should lower the MAE by "
                f"{money(curve.expected_gain(row.answers))}, to {money(curve.expected_mae(row.answers))}."
            )
        elif self.asked_for:
            gain = money(max(0.0, curve.expected_gain(row.answers)))
            lines.append(f"{row.answers:,} answers: the expected gain of {gain} is {noise}, so none can be promised.")
        else:
            gain = money(curve.expected_gain(last.answers))
            lines.append(
                f"More answers are hardly worth buying: even {last.answers:,} should lower the MAE by only {gain}, "
                f"{noise}."
            )
        return lines


def describe_cost(usd: float | None) -> str:
    """A cost as a part of a sentence."""
    return "an unknown cost" if usd is None else f"about {format_usd(usd)}"


def suggest_answers(
    answers: str,
    catalog: CatalogLike,
    own: PriceModel | Path | str | None = None,
    *,
    n_answers: int | None = None,
    to: Path | str | None = None,
    budget: float | None = None,
    overwrite: bool = False,
    verbose: bool = False,
) -> AnswerSuggestion:
    """How many answers of an API model to buy for a hybrid with your `own` model. No request is sent.

    `answers` is `"api:MODEL"`, or `"answers:FILE.csv"` for saved answers. The gain is measured if 60 answers about
    validation listings exist (in the response cache, or in the file) and `own` is given. `n_answers`: another number
    than the suggested one. The listings to ask about are written to the .csv file `to`, in the order in which `fit`
    asks. Raises UsageError if the models cannot be combined, or `to` is a file that this function did not write, unless
    `overwrite`.

    Examples:
        >>> suggestion = suggest_answers("api:gpt-6-luna", catalog)
        >>> suggestion.n_answers, suggestion.row.requests, len(suggestion.listings)
        (100, 100, 100)
    """
    from pricesmith.pricers.api.model_spec import ApiSettings

    with Console(quiet=not verbose).progress() as progress, ApiSettings(budget) as settings:
        return build_suggestion(
            answers, open_or_same(catalog), own, settings, n_answers=n_answers, to=to, overwrite=overwrite,
            progress=progress,
        )  # fmt: skip


def build_suggestion(
    spec: str,
    catalog: Catalog,
    own: PriceModel | Path | str | None,
    settings: ApiSettings,
    *,
    n_answers: int | None,
    to: Path | str | None,
    overwrite: bool,
    progress: Progress,
) -> AnswerSuggestion:
    """`suggest_answers` under the settings of a command."""
    from pricesmith.candidates import ANSWERS_PREFIX, candidate_name
    from pricesmith.pricers.hybrid.suggest import answer_counts, asking_order, choose_count, cost_rows, measure_curve

    if to is not None:
        check_output(Path(to), overwrite=overwrite)
    columns = catalog.columns("validation", ("id", "group"))
    groups = dict(zip(columns["id"], columns["group"], strict=True))
    items = [*catalog.tune_half(), *catalog.calibrate_half()]
    check_count(n_answers, len(items))
    own_model = load_own(own, catalog) if own is not None else None
    items = [items[row] for row in asking_order(items, [groups[item.listing.id] for item in items])]
    saved = spec.startswith(ANSWERS_PREFIX)
    if saved:
        items, quotes, costs = read_saved(spec, catalog, items)
    else:
        quotes, costs = read_cached(spec, catalog, [item.listing for item in items], settings)
    name, curve = candidate_name(spec), None
    if own_model is not None:
        answers = answers_of(own_model, name, items, groups, quotes, progress)
        curve = measure_curve(answers, catalog.price_range, progress=progress) if answers is not None else None
    rows = cost_rows(costs, answer_counts(len(items), n_answers))
    chosen = n_answers if n_answers is not None else choose_count(rows, curve, costs.n_free)
    suggestion = AnswerSuggestion(
        model=name,
        own_model=None if own_model is None else own_model.name,
        catalog=catalog.name,
        currency=catalog.currency,
        saved=saved,
        n_validation=len(items),
        n_answered=sum(quote.price is not None for quote in quotes),
        n_answers=chosen,
        asked_for=n_answers is not None,
        rows=tuple(cost_rows(costs, answer_counts(len(items), chosen))),
        curve=curve,
        listings=tuple(islice(suggested_listings(items, costs), chosen)),
        commands=(),
    )
    path = own if own is None or isinstance(own, str | Path) else own.path
    suggestion = replace(suggestion, commands=next_commands(suggestion, spec, catalog, path, settings.budget))
    if to is not None:
        write_listings(Path(to), suggestion.listings)
    return suggestion


def check_count(n_answers: int | None, n_listings: int) -> None:
    """Raise UsageError if validation is too small for a hybrid, or a wanted number of answers is out of range."""
    allowed = f"{MIN_ANSWERS} to {n_listings:,}, the validation listings"
    if n_listings < MIN_ANSWERS:
        raise UsageError(
            "The catalog has too few validation listings for a blend or cascade with an API model",
            got=str(n_listings),
            allowed=f"at least {MIN_ANSWERS}",
            hint="Curate more rows.",
        )
    if n_answers is not None and not MIN_ANSWERS <= n_answers <= n_listings:
        raise UsageError(f"--answers must be {allowed}", got=str(n_answers), allowed=allowed)


def load_own(own: PriceModel | Path | str, catalog: Catalog) -> PriceModel:
    """The own model. Raises UsageError if it was fitted on another catalog or asks an API model itself."""
    from pricesmith.pricers.hybrid.model import find_hybrid
    from pricesmith.pricers.model import load_model

    model = load_model(own) if isinstance(own, str | Path) else own
    if str(model.info["fingerprint"]) != catalog.fingerprint:
        raise UsageError(
            f"{model.name} was fitted on another catalog",
            got=str(model.info["fingerprint"])[:12],
            allowed=f"{catalog.fingerprint[:12]}, that of {catalog.name}",
            hint="Fit your model on this catalog.",
        )
    hybrid = find_hybrid(model)
    if getattr(model.recipe, "asks_api", False) or (hybrid is not None and hybrid.asks_api):
        raise UsageError(
            f"{model.name} asks an API model itself, and --suggest sends no request",
            got=model.name,
            allowed="a model that runs on this machine",
            hint="Name the first member of that blend or cascade.",
        )
    return model


def read_cached(
    spec: str, catalog: Catalog, listings: Sequence[Listing], settings: ApiSettings
) -> tuple[list[Quote], AskingCosts]:
    """The cached answers of an API model, unanswered without one, and what asking about the listings costs.

    Raises UsageError if the spec is none of an API model, or shows it training listings, and PricesmithError if the
    model is shut down and answers are missing.
    """
    from pricesmith.core.types import Quote
    from pricesmith.pricers.api.model_spec import API_PREFIX, parse_api_model
    from pricesmith.pricers.hybrid.paid import clip
    from pricesmith.pricers.hybrid.suggest import estimate_costs

    allowed = "api:MODEL without shots= and comparables=, or answers:FILE.csv"
    if not spec.startswith(API_PREFIX):
        raise UsageError(
            "--suggest needs an API model first, then your own model folder",
            got=spec,
            allowed=allowed,
            hint="For example: pricesmith eval api:gpt-6-luna out/best --catalog out/shop --suggest",
        )
    model = parse_api_model(spec)
    if model.options.shots or model.options.comparables:
        raise UsageError(
            "A member of a blend or cascade cannot be shown training listings",
            got=model.title,
            allowed=allowed,
            hint="Leave them out.",
        )
    pricer = settings.build_pricer(model, catalog.currency)
    requests = [request.key for request in pricer.requests(listings)]
    results = pricer.find_cached(requests)
    if len(results) < len(set(requests)):
        pricer.endpoint.check_served(pricer.now().date())
    quotes = [pricer.quote(results[key]) if key in results else Quote(None) for key in requests]
    return [clip(quote, catalog.price_range) for quote in quotes], estimate_costs(pricer, listings)


def read_saved(spec: str, catalog: Catalog, items: Sequence[Item]) -> tuple[list[Item], list[Quote], AskingCosts]:
    """The items with a saved answer first, because a fit uses all of them; the answers, and what others cost."""
    import numpy as np

    from pricesmith.candidates import answers_candidate, candidate_name
    from pricesmith.pricers.hybrid.paid import SavedAnswers, clip
    from pricesmith.pricers.hybrid.suggest import AskingCosts

    pricer = answers_candidate(spec, candidate_name(spec), catalog).pricer
    assert isinstance(pricer, SavedAnswers)
    items = sorted(items, key=lambda item: not pricer.has(item.listing))
    listings = [item.listing for item in items]
    has = np.array([pricer.has(listing) for listing in listings], dtype=np.bool_)
    usd = np.where(has, 0.0, pricer.expected_fees(listings))
    quotes = [clip(quote, catalog.price_range) for quote in pricer.price(listings)]
    return items, quotes, AskingCosts(has, usd, np.where(has, 0.0, np.nan))


def answers_of(
    own: PriceModel,
    name: str,
    items: Sequence[Item],
    groups: dict[str, str],
    quotes: Sequence[Quote],
    progress: Progress,
) -> Any:
    """The answered items with the quotes of both models; None if they are too few to measure the gain."""
    from pricesmith.pricers.hybrid.model import Answers
    from pricesmith.pricers.hybrid.suggest import MIN_MEASURED

    pairs = [(item, quote) for item, quote in zip(items, quotes, strict=True) if quote.price is not None]
    if len(pairs) < MIN_MEASURED:
        return None
    answered = [item for item, _ in pairs]
    progress.start(f"pricing with {own.name}", len(answered))
    first: list[Quote] = []
    for start in range(0, len(answered), BATCH):
        part = [item.listing for item in answered[start : start + BATCH]]
        first += own.price(part)
        progress.advance(len(part))
    return Answers(
        items=answered,
        groups=[groups[item.listing.id] for item in answered],
        first=first,
        asked=range(len(answered)),
        others=[[quote for _, quote in pairs]],
        names=(own.name, name),
    )


def suggested_listings(items: Sequence[Item], costs: AskingCosts) -> list[SuggestedListing]:
    """The listings in the order of asking, with their costs."""
    return [
        SuggestedListing(item.listing.id, item.listing.title, None if math.isnan(usd) else usd, cached)
        for item, usd, cached in zip(items, costs.usd.tolist(), costs.cached.tolist(), strict=True)
    ]


def next_commands(
    suggestion: AnswerSuggestion, spec: str, catalog: Catalog, own: Path | str | None, budget: float | None
) -> tuple[str, ...]:
    """The commands to run next: they fit an own model if none was named, measure the gain, or fit the blend."""
    from pricesmith.pricers.hybrid.suggest import MIN_MEASURED

    commands = []
    where = ["--catalog", str(catalog.path)]
    folder = Path(own) if own is not None else catalog.path.parent / "best"
    if own is None:
        commands.append(["fit", "best", *where, "--to", str(folder)])
    if own is None and suggestion.n_answered >= MIN_MEASURED:
        commands.append(["eval", spec, str(folder), *where, "--suggest"])
        return tuple(shlex.join(["pricesmith", *words]) for words in commands)
    words = ["fit", "blend", "--set", f"members={folder},{spec}", "--set", f"n_answers={suggestion.n_answers}"]
    if suggestion.saved:
        words = ["fit", "blend", *saved_settings(spec, folder)]
    elif suggestion.row.requests and (limit := budget or enough_budget(suggestion)) is not None:
        words += ["--budget", f"{limit:g}"]
    commands.append([*words, *where, "--to", str(folder.parent / "blend")])
    return tuple(shlex.join(["pricesmith", *words]) for words in commands)


def saved_settings(spec: str, own: Path) -> list[str]:
    """The settings of a blend of an own model with saved answers."""
    from pricesmith.candidates import parse_answers

    file, fees = parse_answers(spec)
    words = ["--set", f"members={own},{file}"]
    if fees.api_model:
        words += ["--set", f"api_model={fees.api_model}"]
    if fees.cost_per_1000 is not None:
        words += ["--set", f"api_cost_per_1000={fees.cost_per_1000:g}"]
    return words


def enough_budget(suggestion: AnswerSuggestion) -> float | None:
    """A budget that should not end before the last answer: twice the estimate, and the highest cost of the requests in
    flight, rounded up; None if no price is known."""
    row = suggestion.row
    if row.usd is None or row.worst_usd is None or not row.worst_usd:
        return None
    amount = min(row.worst_usd, 2 * row.usd + IN_FLIGHT * row.worst_usd / row.requests)
    unit = 10.0 ** (math.floor(math.log10(amount)) - 1)
    return math.ceil(amount / unit) * unit


def check_output(path: Path, *, overwrite: bool) -> None:
    """Raise UsageError unless `path` is a .csv file that does not exist yet, or one that `write_listings` wrote."""
    if path.suffix != ".csv":
        raise UsageError(
            "--to with --suggest is the file of listings to ask about",
            got=str(path),
            allowed="a .csv file",
            hint=f"Use {path.with_suffix('.csv')}.",
        )
    target = find_output(path)
    if not target.exists() or overwrite:
        return
    with target.open("rb") as handle:
        if handle.readline(200).decode("utf-8", "replace").strip() != ",".join(HEADER):
            raise UsageError(
                f"{path} exists, and `pricesmith eval --suggest` did not write it",
                allowed="a path that does not exist yet, or an earlier suggestion",
                hint="Choose another name, or add --overwrite.",
            )


def write_listings(path: Path, listings: Sequence[SuggestedListing]) -> None:
    """Write the listings to ask about, in the order of asking."""
    text = io.StringIO()
    out = csv.writer(text, lineterminator="\n")
    out.writerow(HEADER)
    for listing in listings:
        usd = "unknown" if listing.usd is None else f"{listing.usd:.6g}"
        out.writerow([listing.id, listing.title, usd, "yes" if listing.cached else "no"])
    write_atomic(path, text.getvalue().encode("utf-8", "replace"))
