"""The command line's front: the app, the flags that every verb has, and what an error becomes.

Every verb takes --json (one object for machines) and --quiet. Exit: 0 it worked, 1 it failed, 2 usage, 130 interrupted.
"""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from pricesmith import __version__
from pricesmith.core.atomic import is_utf8
from pricesmith.core.console import INTERRUPTED_MESSAGE, describe_error

app = typer.Typer(
    name="pricesmith",
    help="Build your own small model that prices things from their description, and prove how it stands.",
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

Json = Annotated[bool, typer.Option("--json", help="Print one JSON object for machines.")]
Quiet = Annotated[bool, typer.Option("--quiet", help="Print nothing but errors.")]
Rebuild = Annotated[bool, typer.Option("--overwrite", help="Build anew beside the old folder, then swap.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace --to even if another program wrote that file.")]
CatalogFolder = Annotated[Path, typer.Option("--catalog", help="A folder that curate has finished.")]


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
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # where a terminal has no such sign, `?` stands for it
    if odd := next((word for word in arguments if not is_utf8(word)), None):
        hint = "Rename the file, or set the terminal to UTF-8."
        print(f"Error: A word of the command is not UTF-8\n  got: {odd!r}\n  next: {hint}", file=sys.stderr)
        return 2
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
        told = describe_error(error)
        if told is None:
            raise
        print(told[0], file=sys.stderr)
        return told[1]
    if code == 130:  # what typer makes of Ctrl-C
        print(INTERRUPTED_MESSAGE, file=sys.stderr)
    return code if isinstance(code, int) else 0
