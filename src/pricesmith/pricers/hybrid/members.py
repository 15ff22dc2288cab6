"""The members of a blend or a cascade: loaded from where they are, copied into the model folder, loaded from there."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import Field

from pricesmith.core.errors import UsageError
from pricesmith.core.model_files import read_object
from pricesmith.core.progress import SILENT, Progress
from pricesmith.core.settings import Settings
from pricesmith.core.types import Pricer
from pricesmith.pricers.hybrid.member_spec import MemberSpec
from pricesmith.pricers.hybrid.paid import ApiMember, FeeSettings, SavedAnswers
from pricesmith.pricers.precomputed import read_prices


class MemberSettings(Settings, ABC):
    """What the recipes blend and cascade share: settings of paid members, and the paths of all members."""

    n_answers: int = Field(1000, ge=20, description="validation listings that an API model is asked about, at most")
    api_model: str = Field(
        "", description="API model whose price for tokens the fees of saved answers are estimated by"
    )
    api_cost_per_1000: float | None = Field(None, ge=0, description="US dollars that 1,000 saved answers cost")

    @property
    @abstractmethod
    def specs(self) -> list[MemberSpec]:
        """The members, in the order of their quotes."""

    @property
    def asks_api(self) -> bool:
        """Whether an API model is asked."""
        return any(spec.asks_api for spec in self.specs)

    @property
    def fees(self) -> FeeSettings:
        """What saved answers cost."""
        return FeeSettings(self.api_model, self.api_cost_per_1000)

    def paths(self) -> list[Path]:
        """The folders and files of the members."""
        return [Path(spec.text) for spec in self.specs if spec.kind != "api"]

    def stored_copies(self, folder: Path) -> list[Path]:
        """The copies of the members in a model folder."""
        return [path for spec in self.specs if (path := spec.copy_path(folder)) is not None]


def load_member(
    spec: MemberSpec, path: Path | None, facts: Mapping[str, Any], fees: FeeSettings, progress: Progress
) -> Pricer:
    """The pricer of a member for the catalog with these facts: from its copy in a model folder (`path`), or from where
    it is if that is None.

    Raises InputError if it cannot be read.
    """
    from pricesmith.pricers.model import load_model

    currency, (low, high) = str(facts["currency"]), facts["price_range"]
    if spec.kind == "api":
        return ApiMember(spec, currency, progress, (low, high))
    if spec.kind == "folder":
        model = load_model(path or spec.text)
        model.rewriter = None  # the whole rewrites a listing once, for all members
        return model
    quotes = read_prices(path or Path(spec.text), currency)
    return SavedAnswers(quotes, spec.name, fees, currency, (low, high))


def load_members(specs: Sequence[MemberSpec], to: Path, fees: FeeSettings, progress: Progress = SILENT) -> list[Pricer]:
    """The pricers of members that are about to be copied into the model folder `to`.

    Raises UsageError if there are fewer than two, two have the same name, none is a model of its own, or they were
    fitted on different catalogs.
    """
    from pricesmith.pricers.model import CATALOG, PriceModel

    for spec in specs:
        spec.check()
    names = [spec.name for spec in specs]
    if len(names) < 2:
        raise UsageError(
            "A blend or cascade needs at least two members",
            got=", ".join(spec.text for spec in specs) or "none",
            hint="Add --set members=out/ridge,out/mlp.",
        )
    if repeated := next((name for name in names if names.count(name) > 1), ""):
        raise UsageError(
            "Two members have the same name",
            got=f"{repeated}: {', '.join(spec.text for spec in specs if spec.name == repeated)}",
            hint="Rename a folder or a file, or add name=NAME after the @ of an API model.",
        )
    if all(spec.paid for spec in specs):
        raise UsageError(
            "At least one member must be a model of your own: it prices what the others are not asked about",
            got=", ".join(spec.text for spec in specs),
            hint="Fit one first, for example `pricesmith fit sparse_mlp`.",
        )
    facts = read_object(to / CATALOG)
    pricers = [load_member(spec, None, facts, fees, progress) for spec in specs]
    prints = {
        name: str(pricer.info["fingerprint"])
        for name, pricer in zip(names, pricers, strict=True)
        if isinstance(pricer, PriceModel)
    }
    prints = {"this catalog": str(facts["fingerprint"]), **prints}
    if len(set(prints.values())) > 1:
        raise UsageError(
            "All members need the same catalog; these were fitted on different catalogs",
            got=", ".join(f"{name}: {text[:12]}" for name, text in prints.items()),
            hint="Fit the members on this catalog.",
        )
    return pricers


def copy_members(specs: Sequence[MemberSpec], folder: Path) -> None:
    """Copy the members into a model folder."""
    for spec in specs:
        spec.copy(folder)


def load_copies(specs: Sequence[MemberSpec], folder: Path, fees: FeeSettings) -> list[Pricer]:
    """The pricers of the members in a model folder."""
    facts = read_object(folder / "catalog.json")
    return [load_member(spec, spec.copy_path(folder), facts, fees, SILENT) for spec in specs]


def member_files(specs: Sequence[MemberSpec]) -> tuple[str, ...]:
    """The files that a model folder must have for its members: the manifest of each model, each file of answers."""
    root = Path()
    paths = [(spec, path) for spec in specs if (path := spec.copy_path(root)) is not None]
    return tuple(
        f"{path.as_posix()}/manifest.json" if spec.kind == "folder" else path.as_posix() for spec, path in paths
    )
