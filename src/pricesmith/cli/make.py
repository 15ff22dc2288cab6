"""`build` and `demo`, `curate` and `fit`: the commands that make catalogs and models."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pricesmith.cli.app import (
    ApiAnswersFile,
    ApiBudget,
    ApiConcurrency,
    ApiCost,
    ApiModelName,
    ApiTimeout,
    ClusterAddress,
    ColumnNames,
    Currency,
    Delimiter,
    Drop,
    DropPartNumbers,
    Json,
    Keep,
    KindName,
    MaxPrice,
    MinPrice,
    Preview,
    Quiet,
    Rebuild,
    Recipes,
    Sheet,
    TrainRows,
    app,
    open_console,
)
from pricesmith.core.build_file import ApiAnswers, read_answers
from pricesmith.core.console import Console
from pricesmith.core.errors import UsageError
from pricesmith.core.launch import Launch, read_launch, refuse_launch
from pricesmith.core.processes import join_processes

if TYPE_CHECKING:
    from pricesmith.catalog.catalog import Catalog
    from pricesmith.core.progress import Progress


@app.command()
def build(
    sources: Annotated[list[str], typer.Argument(help="Files, folders, globs, tables of databases, or demo:goods.")],
    to: Annotated[
        Path | None, typer.Option("--to", help="Folder for everything (default: out/NAME of the file).")
    ] = None,
    recipe: Recipes = None,
    refit: Annotated[
        bool, typer.Option("--refit", help="Update the folder with a newer table; known items keep their split.")
    ] = False,
    preview: Preview = False,
    map: ColumnNames = None,
    currency: Currency = None,
    min_price: MinPrice = None,
    max_price: MaxPrice = None,
    split: Annotated[str | None, typer.Option(help="auto, time, or shares such as 90/5/5.")] = None,
    split_seed: Annotated[int | None, typer.Option(help="Another seed gives another split.")] = None,
    train_rows: TrainRows = None,
    keep: Keep = None,
    drop: Drop = None,
    delimiter: Delimiter = None,
    kind: KindName = None,
    sheet: Sheet = None,
    drop_part_numbers: DropPartNumbers = False,
    api_answers: ApiAnswersFile = None,
    api_model: ApiModelName = "",
    api_cost_per_1000: ApiCost = None,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Run curate, fit, eval and report on a table in one command."""
    from pricesmith.build import build as run_build
    from pricesmith.build import show_build
    from pricesmith.core.settings import read_pairs

    console = open_console(json=json, quiet=quiet)
    options: dict[str, Any] = {
        "mapping": read_pairs(map or [], "--map"),
        "currency": currency,
        "min_price": min_price,
        "max_price": max_price,
        "split": split,
        "split_seed": split_seed,
        "train_rows": train_rows,
        "keep": keep or [],
        "drop": drop or [],
        "delimiter": delimiter,
        "kind": kind,
        "sheet": sheet,
        "drop_part_numbers": drop_part_numbers,
    }
    if preview:
        names = ("mapping", "currency", "keep", "drop", "delimiter", "kind", "sheet")
        show_preview(sources, {name: options[name] for name in names if options[name] is not None}, console)
        return
    answers = open_answers(api_answers, api_model, api_cost_per_1000)
    given: dict[str, Any] = {"recipes": recipe or (), "options": options, "answers": answers, "refit": refit}
    with console.progress() as progress:
        result = run_build(sources, to, **given, progress=progress)
    show_build(result, console)
    console.result(result)


def open_answers(file: Path | None, api_model: str, api_cost_per_1000: float | None) -> ApiAnswers | None:
    """The saved answers of an API model that a build compares. Raises UsageError if only their cost is given."""
    if file is None and (api_model or api_cost_per_1000 is not None):
        raise UsageError(
            "There are no answers of the API model", got="no --api-answers", hint="Add --api-answers FILE.csv."
        )
    return None if file is None else read_answers(file, api_model, api_cost_per_1000)


@app.command()
def demo(
    to: Annotated[Path, typer.Option("--to", help="Folder for everything.")] = Path("out/demo"),
    llm: Annotated[bool, typer.Option("--llm", help="Tune a small language model too: about 20 minutes more.")] = False,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Run build on 61,003 real goods from a Python package."""
    from pricesmith.demo import demo as run_demo
    from pricesmith.demo import show_result

    console = open_console(json=json, quiet=quiet)
    with console.progress() as progress:
        result = run_demo(to, llm=llm, progress=progress)
    show_result(result, console)


@app.command()
def curate(
    sources: Annotated[list[str], typer.Argument(help="Files, folders, globs, tables of databases, or demo:goods.")],
    to: Annotated[Path | None, typer.Option("--to", help="The catalog folder to write.")] = None,
    map: ColumnNames = None,
    drop: Drop = None,
    keep: Keep = None,
    delimiter: Delimiter = None,
    kind: KindName = None,
    sheet: Sheet = None,
    currency: Currency = None,
    preview: Preview = False,
    min_price: MinPrice = None,
    max_price: MaxPrice = None,
    split: Annotated[str, typer.Option(help="auto, time, or shares such as 90/5/5.")] = "auto",
    split_seed: Annotated[int, typer.Option(help="Another seed gives another split.")] = 0,
    train_rows: TrainRows = None,
    drop_part_numbers: DropPartNumbers = False,
    from_feedback: Annotated[
        bool, typer.Option("--from-feedback", help="The source is the log of a server: use its sold prices.")
    ] = False,
    add: Annotated[
        Path | None, typer.Option("--add", help="An earlier catalog, whose items are added and keep their split.")
    ] = None,
    cluster: ClusterAddress = None,
    overwrite: Rebuild = False,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Build a catalog: clean, without leaks, near-duplicates in one split."""
    from pricesmith.catalog.summary import catalog_summary
    from pricesmith.cluster.curate import curate as build
    from pricesmith.core.settings import read_pairs

    console = open_console(json=json, quiet=quiet)
    reading: dict[str, Any] = {"mapping": read_pairs(map or [], "--map"), "delimiter": delimiter or ""}
    reading |= {"kind": kind or "", "sheet": sheet or ""}
    reading |= {"currency": currency, "keep": keep or [], "drop": drop or []}
    if preview and not from_feedback:
        show_preview(sources, reading, console)
        return
    if to is None:
        raise UsageError("curate needs --to", hint="Name the folder to write, such as --to out/catalog")
    options: dict[str, Any] = {"min_price": min_price, "max_price": max_price, "split": split}
    options |= {"split_seed": split_seed, "train_rows": train_rows, "drop_part_numbers": drop_part_numbers}
    options |= {"overwrite": overwrite}
    if from_feedback:
        check_feedback(sources, map, delimiter, preview, cluster)
    with console.progress() as progress:
        if from_feedback:
            catalog = curate_log(Path(sources[0]), to, add, {**reading, **options}, progress)
        else:
            catalog = build(sources, to, cluster=cluster, **reading, **options, add=add, progress=progress)
    console.say(catalog_summary(catalog))
    console.result(catalog.ledger)


def check_feedback(
    sources: Sequence[str], map: list[str] | None, delimiter: str | None, preview: bool, cluster: str | None
) -> None:
    """Raises UsageError for options that do not go with --from-feedback."""
    if len(sources) != 1:
        raise UsageError("--from-feedback reads one log", got=f"{len(sources)} sources", allowed="the log of a server")
    options = {"--map": map, "--delimiter": delimiter, "--preview": preview, "--cluster": cluster}
    wrong = next((name for name, value in options.items() if value), "")
    if wrong:
        raise UsageError(f"{wrong} is not for --from-feedback", hint=f"Leave out {wrong}.")


def curate_log(log: Path, to: Path, add: Path | None, options: dict[str, Any], progress: Progress) -> Catalog:
    """The catalog of the sold prices in a log."""
    from pricesmith.serve.feedback_source import curate_feedback

    chosen = {name: value for name, value in options.items() if name not in ("mapping", "delimiter", "kind", "sheet")}
    return curate_feedback(log, to, add=add, **chosen, progress=progress)


def show_preview(sources: Sequence[str], reading: Mapping[str, Any], console: Console) -> None:
    """Print what `curate` would read with these options, and write nothing."""
    from pricesmith.catalog.preview import preview

    with console.progress() as progress:
        shown = preview(sources, **reading, progress=progress)
    console.say(shown.render())
    console.result(shown.to_dict())


@app.command()
def fit(
    recipe: Annotated[
        str | None, typer.Argument(help="A shipped recipe or a TOML file; without it, the recipes are listed.")
    ] = None,
    catalog: Annotated[Path | None, typer.Option("--catalog", help="A catalog folder.")] = None,
    to: Annotated[Path | None, typer.Option("--to", help="The model folder to write.")] = None,
    set: Annotated[list[str] | None, typer.Option("--set", help="key=value, replaces a setting of the recipe.")] = None,
    weight_by: Annotated[
        str | None, typer.Option("--weight-by", help="Sample weights: source (equal totals) or source-sqrt.")
    ] = None,
    budget: ApiBudget = None,
    concurrency: ApiConcurrency = 8,
    timeout: ApiTimeout = None,
    overwrite: Rebuild = False,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Fit a recipe on a catalog into a model folder."""
    from pricesmith.core.settings import read_pairs, read_value

    console = open_console(json=json, quiet=quiet)
    if recipe is None:
        from pricesmith.cli.look import list_recipes

        list_recipes(json=json, quiet=quiet)
        return
    if catalog is None or to is None:
        missing = "--catalog" if catalog is None else "--to"
        raise UsageError(
            f"fit needs {missing}", hint=f"pricesmith fit {recipe} --catalog out/catalog --to out/{Path(recipe).stem}"
        )
    from pricesmith.base_models.memory import plan_for_hardware
    from pricesmith.catalog import open as open_catalog
    from pricesmith.pricers import fitting, model
    from pricesmith.pricers.api.open_settings import open_settings
    from pricesmith.pricers.recipes import read_recipe

    overrides = {key: read_value(value) for key, value in read_pairs(set or [], "--set").items()}
    chosen = read_recipe(recipe, overrides)
    limits: dict[str, Any] = {"budget": budget, "concurrency": concurrency, "timeout": timeout}
    api_settings = open_settings(chosen, f"the recipe {chosen.kind}", **limits)
    joined = join_processes(open_launch(chosen))
    with api_settings, joined as processes, console.progress() as progress:
        opened = open_catalog(catalog)
        options: dict[str, Any] = {"weight_by": weight_by or "", "overwrite": overwrite, "progress": progress}
        folder = None if overwrite else to
        planned = plan_for_hardware(chosen, progress, to=folder) if processes.leads else chosen
        fitting.fit_model(planned, opened, to, **options)
        fitted = model.load_model(to)
    console.say(model.format_model(fitted))
    console.result(model.to_dict(fitted))


def open_launch(recipe: Any) -> Launch | None:
    """The processes that tune a language model together. Raises UsageError for a recipe of another kind in several
    processes, and for a launch that cannot work."""
    if hasattr(recipe, "quantization"):
        return read_launch()
    refuse_launch(f"`pricesmith fit` with the recipe {recipe.kind}")
    return None
