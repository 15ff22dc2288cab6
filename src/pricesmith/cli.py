"""The verbs of `pricesmith`. A verb reads its flags, calls the one function that does the work, and prints what it got.

Every verb takes --json (one object for machines) and --quiet. Exit: 0 it worked, 1 it failed, 2 usage, 130 interrupted.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from pricesmith import __version__
from pricesmith.console import INTERRUPTED, Console, explain
from pricesmith.errors import UsageError

app = typer.Typer(
    name="pricesmith",
    help="Build your own small model that prices things from their description, and prove how it stands.",
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
recipe_verbs = typer.Typer(help="The shipped recipes: list them, or copy one to own it.", no_args_is_help=True)
app.add_typer(recipe_verbs, name="recipe")

Json = Annotated[bool, typer.Option("--json", help="Print one JSON object for machines.")]
Quiet = Annotated[bool, typer.Option("--quiet", help="Print nothing but errors.")]
Fresh = Annotated[bool, typer.Option("--fresh", help="Build anew beside the old folder, then swap.")]
CatalogFolder = Annotated[Path, typer.Option("--catalog", help="A folder that curate has finished.")]


@app.command()
def demo(
    to: Annotated[Path, typer.Option("--to", help="Where everything goes.")] = Path("out/demo"),
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """The whole arrow on real goods that a package carries: ends with a table and report.html."""
    from pricesmith import demo as module

    console = Console(json=json, quiet=quiet)
    with console.progress() as progress:
        result = module.demo(to, progress=progress)
    module.show(result, console)


@app.command()
def curate(
    sources: Annotated[list[str], typer.Argument(help="Files, folders or globs, or demo:goods.")],
    to: Annotated[Path, typer.Option("--to", help="The catalog folder to write.")],
    map: Annotated[list[str] | None, typer.Option("--map", help="field=column, where a name is unusual.")] = None,
    currency: Annotated[str, typer.Option(help="The catalog's one currency.")] = "USD",
    min_price: Annotated[float, typer.Option(help="Lowest price kept.")] = 0.01,
    max_price: Annotated[float | None, typer.Option(help="Highest price kept.")] = None,
    range: Annotated[str | None, typer.Option("--range", help="A named range: course is 0.50-999.49.")] = None,
    split: Annotated[str, typer.Option(help="auto, or shares such as 90/5/5.")] = "auto",
    split_seed: Annotated[int, typer.Option(help="Another seed is another split.")] = 0,
    target: Annotated[int | None, typer.Option(help="Keep about this many training rows, balanced by price.")] = None,
    scrub: Annotated[bool, typer.Option("--scrub", help="Take part numbers out of the text.")] = False,
    fresh: Fresh = False,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Make a catalog: clean, without leaks, near-duplicates on one side of the split."""
    from pricesmith.catalog.curation import curate as run
    from pricesmith.catalog.show import summary
    from pricesmith.settings import read_pairs

    console = Console(json=json, quiet=quiet)
    with console.progress() as progress:
        catalog = run(
            sources,
            to,
            mapping=read_pairs(map or [], "--map"),
            currency=currency,
            min_price=min_price,
            max_price=max_price,
            price_range=range,
            split=split,
            split_seed=split_seed,
            target=target,
            scrub=scrub,
            fresh=fresh,
            progress=progress,
        )
    console.say(summary(catalog))
    console.result(catalog.ledger)


@app.command()
def show(
    catalog: Annotated[Path, typer.Argument(help="A catalog folder.")], json: Json = False, quiet: Quiet = False
) -> None:
    """A catalog's ledger, price histogram, families, leaks and examples."""
    from pricesmith.catalog import open as open_catalog
    from pricesmith.catalog.show import facts, page

    console = Console(json=json, quiet=quiet)
    opened = open_catalog(catalog)
    console.say(page(opened))
    console.result(facts(opened))


@app.command()
def fit(
    recipe: Annotated[str | None, typer.Argument(help="A shipped name or a TOML file; none lists them.")] = None,
    catalog: Annotated[Path | None, typer.Option("--catalog", help="A folder that curate has finished.")] = None,
    to: Annotated[Path | None, typer.Option("--to", help="The run folder to write.")] = None,
    set: Annotated[list[str] | None, typer.Option("--set", help="key=value, over the recipe's settings.")] = None,
    fresh: Fresh = False,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Fit a recipe on a catalog; the run folder is the pricer."""
    from pricesmith.settings import read_pairs, read_value

    console = Console(json=json, quiet=quiet)
    if recipe is None:
        list_recipes(json=json, quiet=quiet)
        return
    if catalog is None or to is None:
        missing = "--catalog" if catalog is None else "--to"
        raise UsageError(
            f"fit needs {missing}", hint=f"pricesmith fit {recipe} --catalog out/catalog --to out/{Path(recipe).stem}"
        )
    from pricesmith.catalog import open as open_catalog
    from pricesmith.pricers import runs
    from pricesmith.pricers.recipes import read_recipe

    overrides = {key: read_value(value) for key, value in read_pairs(set or [], "--set").items()}
    chosen = read_recipe(recipe, overrides)
    with console.progress() as progress:
        runs.fit(chosen, open_catalog(catalog), to, fresh=fresh, progress=progress)
    run = runs.load(to)
    console.say(runs.told(run))
    console.result(runs.facts(run))


@app.command("eval")
def evaluate(
    who: Annotated[list[str], typer.Argument(help="Run folders, or human:FILE.csv.")],
    catalog: CatalogFolder,
    to: Annotated[Path, typer.Option("--to", help="The evals folder to write to.")],
    split: Annotated[str, typer.Option(help="validation or test.")] = "test",
    limit: Annotated[int | None, typer.Option(help="Judge on the first N items, in an order drawn by family.")] = None,
    other_catalog: Annotated[
        bool, typer.Option("--other-catalog", help="Allow runs of another catalog; their own rows are left out.")
    ] = False,
    fresh: Fresh = False,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Judge pricers on the same items; ends with the league table."""
    from pricesmith.catalog import open as open_catalog
    from pricesmith.contest import contest
    from pricesmith.evaluation.summary import league
    from pricesmith.report.terminal import league_facts, league_table

    console = Console(json=json, quiet=quiet)
    options: dict[str, Any] = {"split": split, "limit": limit, "other_catalog": other_catalog, "fresh": fresh}
    with console.progress() as progress:
        evals = contest(who, open_catalog(catalog), to, progress=progress, **options)
    rows = league(evals)
    console.say(league_table(evals, rows))
    console.result(league_facts(evals, rows))


@app.command()
def report(
    evals: Annotated[Path, typer.Argument(help="A folder that eval wrote.")],
    to: Annotated[Path, typer.Option("--to", help="The HTML file to write.")] = Path("report.html"),
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """One self-contained page with the league, its pictures and the worst items."""
    from pricesmith.report import report as run

    console = Console(json=json, quiet=quiet)
    run(evals, to)
    console.say(f"{to} is written ({to.stat().st_size / 1e6:.1f} MB); it opens in any browser, offline.")
    console.result({"report": str(to), "bytes": to.stat().st_size})


@app.command()
def price(
    run: Annotated[Path, typer.Argument(help="A run folder.")],
    text: Annotated[str | None, typer.Argument(help="What to price, in words.")] = None,
    file: Annotated[Path | None, typer.Option("--file", help=".jsonl .csv .parquet .xlsx, any length.")] = None,
    to: Annotated[Path | None, typer.Option("--to", help="The file to write: id, price, low, high, currency.")] = None,
    decline: Annotated[
        float | None, typer.Option(help="No answer where the interval is wider than price x/÷ this.")
    ] = None,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Price one thing in words, or every row of a file."""
    from pricesmith.pricers.runs import load
    from pricesmith.serve import batch, single

    console = Console(json=json, quiet=quiet)
    if (text is None) == (file is None):
        raise UsageError("price takes a text, or --file and --to", hint='pricesmith price RUN "a text"')
    if file is not None and to is None:
        raise UsageError("--file needs --to", hint=f"pricesmith price {run} --file {file} --to prices.csv")
    loaded = load(run)
    batch.check_decline(decline, loaded.calibrated)
    result: dict[str, Any] = {}
    if text is not None:
        result = single.price_text(loaded, text, decline)
        console.say(single.told(result))
    elif file is not None and to is not None:
        facts: dict[str, Any] = {"identity": loaded.identity, "decline": decline}
        with console.progress() as progress:
            result = batch.price_file(loaded, loaded.info, file, to, progress=progress, **facts)
        console.say("{rows:,} rows: {priced:,} priced, {not_priced:,} not, each with the reason: {to}".format(**result))
    console.result(result)


@recipe_verbs.command("ls")
def list_recipes(json: Json = False, quiet: Quiet = False) -> None:
    """The shipped recipes with minutes and error as measured."""
    from pricesmith.pricers import recipes

    console = Console(json=json, quiet=quiet)
    found = recipes.list_recipes()
    console.say(recipes.recipes_told(found))
    console.result(found)


@recipe_verbs.command("cp")
def copy_recipe(
    name: Annotated[str, typer.Argument(help="A shipped recipe.")],
    to: Annotated[Path, typer.Argument(help="The file to write.")],
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Copy a recipe, to change it and own it."""
    from pricesmith.pricers.recipes import copy_recipe as copy

    console = Console(json=json, quiet=quiet)
    copy(name, to)
    console.say(f"{to} is yours; run it with: pricesmith fit {to} --catalog CATALOG --to RUN")
    console.result({"recipe": name, "to": str(to)})


@app.command()
def doctor(json: Json = False, quiet: Quiet = False) -> None:
    """What is installed here, and what this box can hold."""
    from pricesmith.doctor import examine, told

    console = Console(json=json, quiet=quiet)
    found = examine()
    console.say(told(found))
    console.result(found)


def version(wanted: bool) -> None:
    """Print the version and stop."""
    if wanted:
        print(__version__)
        raise typer.Exit()


@app.callback()
def front(
    version: Annotated[bool, typer.Option("--version", callback=version, is_eager=True, help="Print it.")] = False,
) -> None:
    """Build your own small model that prices things from their description, and prove how it stands."""


def run(arguments: Sequence[str]) -> int:
    """Run one command line; its exit code. Errors go to standard error, on one screen."""
    code: Any = 0
    try:
        code = app(args=list(arguments) or ["--help"], standalone_mode=False, prog_name="pricesmith")
    except typer.TyperException as error:
        print(f"Error: {error.format_message()}\n  next: pricesmith --help", file=sys.stderr)
        return 2
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except BaseException as error:
        told = explain(error)
        if told is None:
            raise
        print(told[0], file=sys.stderr)
        return told[1]
    if code == 130:  # what typer makes of Ctrl-C
        print(INTERRUPTED, file=sys.stderr)
    return code if isinstance(code, int) else 0


def main() -> None:
    """The console script."""
    sys.exit(run(sys.argv[1:]))
