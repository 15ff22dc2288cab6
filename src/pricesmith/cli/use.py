"""`price` and `export`: use a fitted model, or hand it on."""

from __future__ import annotations

import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pricesmith.cli.app import (
    ApiBudget,
    ApiConcurrency,
    ApiTimeout,
    ClusterAddress,
    Json,
    Overwrite,
    Quiet,
    app,
    open_console,
)
from pricesmith.core.console import Console
from pricesmith.core.errors import UsageError

if TYPE_CHECKING:
    from pricesmith.core.progress import Progress
    from pricesmith.pricers.model import PriceModel

STANDARD_INPUT = "-"


@app.command()
def price(
    model: Annotated[Path, typer.Argument(help="A model folder, or a folder that build made.")],
    text: Annotated[
        str | None, typer.Argument(help="Description of one thing; - reads standard input, one listing a line.")
    ] = None,
    field: Annotated[
        list[str] | None, typer.Option("--field", help="name=value: a column of the catalog, such as pieces=1351.")
    ] = None,
    file: Annotated[
        str | None, typer.Option("--file", help="Price every row of a file, of all files of a folder, or of a table.")
    ] = None,
    to: Annotated[
        Path | None,
        typer.Option("--to", help="File for the prices: the columns of --file with price, low, high and note."),
    ] = None,
    map: Annotated[
        list[str] | None, typer.Option("--map", help="field=column, for a column of --file with an unusual name.")
    ] = None,
    max_interval_ratio: Annotated[
        float | None, typer.Option(help="Give no price if the interval is wider than price ÷ R to × R.")
    ] = None,
    comparables: Annotated[
        int | None, typer.Option(help="Similar training listings to show (default: 3 for a text, 0 for a file).")
    ] = None,
    audit: Annotated[bool, typer.Option("--audit", help="Assess the prices of --file as over or under.")] = False,
    cluster: ClusterAddress = None,
    budget: ApiBudget = None,
    concurrency: ApiConcurrency = 8,
    timeout: ApiTimeout = None,
    overwrite: Overwrite = False,
    json: Json = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="Print the price alone.")] = False,
) -> None:
    """Price one thing, or every row of a file."""
    from pricesmith.batch.price import check_comparables, check_max_ratio
    from pricesmith.core.settings import read_pairs
    from pricesmith.pricers.api.open_settings import open_settings
    from pricesmith.pricers.model import load_model

    fields, mapping = read_pairs(field or [], "--field"), read_pairs(map or [], "--map")
    check_source(model, text, file, to, fields, audit=audit)
    check_cluster(cluster, file, to)
    if mapping and file is None and text != STANDARD_INPUT:
        raise UsageError("--map is for --file or -", hint="Leave out --map: use --field for one listing.")
    limits: dict[str, Any] = {"budget": budget, "concurrency": concurrency, "timeout": timeout}
    loaded = load_model(model)
    with open_settings(loaded, str(model), **limits, fallback=True):
        check_max_ratio(max_interval_ratio, loaded.calibrated)
        if comparables is not None:
            check_comparables(comparables, loaded)
        console = open_console(json=json, quiet=quiet)
        if file is None and text != STANDARD_INPUT:
            shown = 3 if comparables is None else comparables
            price_words(loaded, text or "", fields, max_interval_ratio, shown, console)
            return
        options: dict[str, Any] = {"max_interval_ratio": max_interval_ratio, "comparables": comparables or 0}
        options |= {"audit": audit, "mapping": mapping, "overwrite": overwrite, "cluster": cluster}
        price_many(loaded, file, to, options, console)


def check_source(
    model: Path, text: str | None, file: str | None, to: Path | None, fields: dict[str, str], *, audit: bool
) -> None:
    """Raises UsageError unless there is exactly one thing to price, with the options that go with it."""
    allowed = "a text, --field, -, or --file"
    if text is None and file is None and not fields:
        raise UsageError(
            "There is nothing to price", got="no text", allowed=allowed, hint=f'pricesmith price {model} "a text"'
        )
    if text is not None and file is not None:
        raise UsageError("price takes a text or --file, not both", allowed=allowed, hint="Leave out one of them.")
    if fields and (file is not None or text == STANDARD_INPUT):
        raise UsageError("--field is for one listing", hint="Leave out --field: the file's columns are used.")
    if audit and file is None:
        raise UsageError("--audit is for --file", hint="Leave out --audit, or name a file of listings with prices.")
    if file is not None and to is None and Path(file).is_dir():
        raise UsageError(
            "--file with a folder needs --to",
            got=file,
            hint=f"Name a folder for the prices, such as --to {Path(file).name}-prices.",
        )
    if to is not None and file is None and text != STANDARD_INPUT:
        raise UsageError("--to is for --file or -", hint="Leave out --to: the price of one listing is printed.")


def check_cluster(cluster: str | None, file: str | None, to: Path | None) -> None:
    """Raises UsageError for --cluster without a file to read and one to write."""
    if cluster is not None and (file is None or to is None):
        raise UsageError(
            "--cluster is for --file with --to",
            got="no --file" if file is None else "no --to",
            hint="Leave out --cluster, or add --file and --to with paths that every node of the cluster sees.",
        )


def price_words(
    model: PriceModel,
    text: str,
    fields: dict[str, str],
    max_interval_ratio: float | None,
    comparables: int,
    console: Console,
) -> None:
    """Price one listing and print it."""
    from pricesmith.batch import price_one

    result = price_one.price_text(model, text, max_interval_ratio, comparables, fields)
    if console.quiet and not console.json:
        print(price_one.bare_price(result))
    console.say(price_one.format_quote(result))
    if (table := price_one.format_comparables(result)) is not None:
        console.say(table)
    console.result(result)


def price_many(model: PriceModel, file: str | None, to: Path | None, options: dict[str, Any], console: Console) -> None:
    """Price the rows of a file or of standard input; print the prices if there is no `to`."""
    from pricesmith.batch import price_one
    from pricesmith.batch.spending import describe_spending
    from pricesmith.cluster.price_folder import price_files

    with tempfile.TemporaryDirectory(prefix="pricesmith-", ignore_cleanup_errors=True) as name:
        folder, reader, label = Path(name), None, ""
        source: Path | str | None = file
        if file is None:
            if sys.stdin.isatty() and not console.quiet:
                print("Type one listing a line; end with Ctrl-D.", file=sys.stderr)
            source, reader = price_one.save_input(sys.stdin.buffer, folder, model.info)
            label = STANDARD_INPUT
            if reader is not None and options["mapping"]:
                raise UsageError("--map is for rows with columns", got="lines of text", hint="Leave out --map.")
        target = to or folder / ("prices.jsonl" if console.json else "prices.csv")
        options |= {"reader": reader, "label": label} if file is None else {}
        with progress_beside(console, prices_printed=to is None, asks_api=model.asks_api) as progress:
            assert source is not None
            result = price_files(model, source, target, progress=progress, **options)
            for line in describe_spending(result["api"]) if "api" in result and not console.json else ():
                progress.note(line)
        if to is not None:
            say_counts(result, console)
            console.result(result)
        elif console.json:
            quotes = price_one.read_json_lines(target)
            console.result({**{name: count for name, count in result.items() if name != "to"}, "quotes": quotes})
        elif sys.stdout.isatty() and not console.quiet:
            console.say(price_one.prices_table(target, str(model.info["currency"])))
            if result["rows"] > price_one.SHOWN_ROWS:
                console.say(f"{result['rows']:,} rows; --to FILE writes all of them.")
        else:
            with target.open(encoding="utf-8", newline="") as prices:
                shutil.copyfileobj(prices, sys.stdout)


@contextmanager
def progress_beside(console: Console, *, prices_printed: bool, asks_api: bool) -> Iterator[Progress]:
    """The progress of a command. Prices in a pipe must have no notes between them: those about money go to standard
    error, others are left out."""
    from pricesmith.core.progress import Progress

    if prices_printed and not sys.stdout.isatty():
        if not asks_api:
            yield Progress()
            return
        console = open_console(json=True, quiet=console.quiet)
    with console.progress() as progress:
        yield progress


def say_counts(result: dict[str, Any], console: Console) -> None:
    """Print how many rows were priced."""
    files = "{files:,} files, ".format(**result) if "files" in result else ""
    console.say(files + "{rows:,} rows: {priced:,} priced, {not_priced:,} not priced: {to}".format(**result))
    if result["not_priced"]:
        console.say("The column note says why a row has no price.")
    if "plausible" in result:
        console.say("Asked prices: {over:,} over, {under:,} under, {plausible:,} plausible.".format(**result))
    if result["nothing_similar"]:
        console.say("Nothing similar in the training data for {nothing_similar:,} rows: see note.".format(**result))


@app.command()
def export(
    source: Annotated[Path, typer.Argument(help="A model folder or a catalog folder.")],
    to: Annotated[Path, typer.Option("--to", help="The folder to write; for a catalog a .jsonl file.")],
    form: Annotated[
        str, typer.Option("--format", help="For a model: merged, adapter or hub. For a catalog: sft or messages.")
    ],
    evals: Annotated[
        Path | None, typer.Option(help="An evals folder, whose leaderboard goes into the model card.")
    ] = None,
    style: Annotated[str, typer.Option(help="For sft: plain, or chat for an instruct model.")] = "plain",
    overwrite: Overwrite = False,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Write a model for other tools, or a catalog as rows to fine-tune a model elsewhere."""
    from pricesmith.exporting import export_model as run
    from pricesmith.exporting import format_export

    console = open_console(json=json, quiet=quiet)
    with console.progress() as progress:
        result = run(source, to, form, evals=evals, style=style, overwrite=overwrite, progress=progress)
    console.say(format_export(result))
    console.result(result)
