"""Hosted models as candidates of `evaluation.judge`: `frontier:MODEL`, what it is asked with, and what it may spend.

frontier:gpt-4.1-nano                                  a model that pricers/hosted/providers.toml or your own file knows
frontier:ollama/gemma3:4b                              PROVIDER/MODEL
frontier:tiny@url=http://127.0.0.1:8000/v1             any OpenAI-compatible URL
frontier:gpt-5.1@comparables=5,effort=low,output=8192  shown the 5 nearest priced training listings of each, behind the
                                                       family guard; reasoning a little; at most 8,192 tokens an answer
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

from pydantic import Field

from pricesmith.catalog.store import SPLITS, Catalog
from pricesmith.errors import UsageError
from pricesmith.evaluation.judge import Candidate
from pricesmith.evaluation.plan import FOLD_ROWS, plan_of, row_count
from pricesmith.pricers.hosted.answers import Answers, default_path
from pricesmith.pricers.hosted.bill import Bill
from pricesmith.pricers.hosted.frontier import Asked, FrontierPricer
from pricesmith.pricers.hosted.providers import endpoint_of
from pricesmith.pricers.hosted.purse import Purse
from pricesmith.progress import Progress
from pricesmith.settings import parse
from pricesmith.types import Item

FRONTIER = "frontier:"
NEVER = 86_400.0
OPTION = re.compile(r"[a-z_]{1,20}=?[0-9]{0,6}")  # what can be repeated in an error
ASKED_WITH = re.compile(r"@(?=[a-z_]+=)")  # an @ can be part of a model's name


class Options(Asked):
    """Everything that may stand after the @ of `frontier:MODEL@`."""

    url: str = Field("", description="base URL of an OpenAI-compatible endpoint, ending in /v1 as a rule")
    key: str = Field("", description="the environment variable that holds the key")
    price: str = Field("", description="IN/OUT in dollars per million tokens, as in 2/10")
    memory: int = Field(0, ge=0, le=10_000, description="so many judged listings are asked for by heart")
    name: str = Field("", max_length=60, description="what it is called in tables")


@dataclass(frozen=True)
class Rival:
    """A hosted model as the command line names it."""

    model: str
    options: Options

    @property
    def title(self) -> str:
        """The name in tables: the model's, with what it was shown and how it was asked."""
        options = self.options
        if options.name:
            return options.name
        said = [f"{options.shots}-shot"] * bool(options.shots)
        said += [f"{options.comparables}-comparables"] * bool(options.comparables)
        said += [f"{options.effort}-effort"] * bool(options.effort)
        said += [f"{options.output}-output"] * (options.output != Asked.model_fields["output"].default)
        said += ["words"] * (not options.json_answer)
        return "-".join(["frontier", self.model.replace("/", "-"), *said])


@dataclass
class Hosting:
    """What all hosted models of a command are asked with. A context: what it opened is closed at the end.

    `budget` in dollars is shared by all of them; `concurrency` requests are in flight at once; `timeout` in seconds.
    """

    budget: float | None = None
    concurrency: int = 8
    timeout: float = 300.0
    store: Path | None = None
    purse: Purse = field(init=False)
    open: list[Callable[[], Any]] = field(default_factory=list, init=False)
    _answers: Answers | None = field(default=None, init=False)

    def __post_init__(self) -> None:
        if self.budget is not None and not 0 < self.budget < float("inf"):
            raise UsageError("The budget is no amount", got=str(self.budget), allowed="dollars, above 0")
        if not 1 <= self.concurrency <= 256:
            raise UsageError("So many requests cannot be sent at once", got=str(self.concurrency), allowed="1 to 256")
        if not 0 < self.timeout <= NEVER:
            raise UsageError("The time-out is no time", got=str(self.timeout), allowed="seconds, above 0")
        self.purse = Purse(self.budget)

    def __enter__(self) -> Hosting:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        while self.open:
            self.open.pop()()

    def answers(self) -> Answers:
        """The store of answers, opened once."""
        if self._answers is None:
            self._answers = Answers(self.store or default_path())
            self.open.append(self._answers.close)
        return self._answers


def rival_of(who: str) -> Rival:
    """The model and the options of `frontier:MODEL@name=value,...`. Raises UsageError where one is not known."""
    model, tail = who.removeprefix(FRONTIER), ""
    if options := ASKED_WITH.search(model):
        model, tail = model[: options.start()], model[options.end() :]
    said = f"{FRONTIER}{model}"  # without the options: an address may hold a password
    values: dict[str, str] = {}
    for text in tail.split(",") if tail else []:
        name, equals, value = text.partition("=")
        if not equals or not value or name in values:
            raise UsageError(
                f"{said!r} asks for what is not known",
                got=text if OPTION.fullmatch(text) else f"{len(text)} characters that are not shown: they may be a key",
                allowed=f"{FRONTIER}MODEL@name=value,..., each at most once, of {', '.join(Options.model_fields)}",
                hint="Put this right after the @, or leave it out.",
            )
        values[name] = value
    if not model:
        raise UsageError("frontier: names no model", got=said, hint="For example frontier:gpt-4.1-nano")
    return Rival(model, parse(Options, values, where=said))


def hosted(who: str, name: str, catalog: Catalog, hosting: Hosting, progress: Progress) -> Candidate:
    """A hosted model as a candidate. One that is shown training listings is shown others in each fold.

    Raises UsageError where it is not known who hosts it, or a budget has no price to keep to. A key that is not set is
    missed when something must be asked.
    """
    rival = rival_of(who)
    options = rival.options
    pricer = FrontierPricer(
        endpoint_of(rival.model, url=options.url, key=options.key, price=options.price, keyless=True),
        Asked(**{name: getattr(options, name) for name in Asked.model_fields}),
        hosting.answers(),
        hosting.purse,
        currency=catalog.currency,
        called=options.name,
        train=lambda: catalog.items("train"),
        families=families_of(catalog) if options.comparables else {},
        concurrency=hosting.concurrency,
        timeout=hosting.timeout,
        progress=progress,
    )
    hosting.open.append(pricer.close)
    shown = bool(options.shots or options.comparables)
    return Candidate(
        name,
        "frontier",
        pricer,
        fitted_on=catalog.fingerprint if shown else None,
        facts={**pricer.facts, "memory_check": options.memory},
        refit=(lambda train, _: pricer.shown(train)) if shown else None,
        watch=Bill(pricer, lambda: items_of(catalog), options.memory, lambda: folds_of(catalog) if shown else ()),
    )


def folds_of(catalog: Catalog) -> list[tuple[list[Item], list[Item]]]:
    """What is judged and what may be shown in each fold; none where a catalog is judged on one split."""
    if row_count(catalog) >= FOLD_ROWS:
        return []
    return [(fold.items, fold.train) for fold in plan_of(catalog, "test").folds]


def families_of(catalog: Catalog) -> dict[str, str]:
    """The family of every listing of a catalog, by its id."""
    found: dict[str, str] = {}
    for split in SPLITS:
        columns = catalog.columns(split, ("id", "family"))
        found.update(zip(columns["id"], columns["family"], strict=True))
    return found


def items_of(catalog: Catalog) -> dict[str, Item]:
    """Every item of a catalog by its id."""
    return {item.listing.id: item for split in SPLITS for item in catalog.items(split)}
