"""The command line's front: the app, the options that every command has, logging, and errors as text and exit codes.

Every command takes --json (one object for machines) and --quiet. Exit codes: 0 success, 1 failure, 2 usage,
130 interrupted.
"""

from __future__ import annotations

import io
import logging
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

from pricesmith import __version__
from pricesmith.core.atomic import is_utf8
from pricesmith.core.console import INTERRUPTED_MESSAGE, Console, describe_error, silent_followers
from pricesmith.core.errors import UsageError
from pricesmith.core.launch import is_follower, refuse_launch
from pricesmith.core.processes import end_command
from pricesmith.core.progress import Progress

ABOUT = "Build your own small model that prices things from their description, and measure how good it is."
GRACE = 1.3  # seconds from Ctrl-C to the end of a process that does not end by itself
SHOW_CURSOR = "\x1b[?25h"
LOG_FORMAT = "%(asctime)s %(levelname)s %(name)s: %(message)s"
log = logging.getLogger("pricesmith")
log.addHandler(logging.NullHandler())  # else logging prints errors, which `run` prints already

app = typer.Typer(
    name="pricesmith",
    help=ABOUT,
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)

Json = Annotated[bool, typer.Option("--json", help="Print one JSON object for machines.")]
Quiet = Annotated[bool, typer.Option("--quiet", help="Print nothing but errors.")]
Rebuild = Annotated[bool, typer.Option("--overwrite", help="Build again and replace the existing folder when done.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace --to even if another program wrote it.")]
CatalogFolder = Annotated[Path, typer.Option("--catalog", help="A catalog folder.")]

# Options of the commands that may ask an API model
ApiBudget = Annotated[float | None, typer.Option("--budget", help="US dollars that API models may cost at most.")]
ApiBatch = Annotated[
    bool, typer.Option("--batch", help="Ask API models in batch jobs: half the price, answers within a day.")
]
ApiNoWait = Annotated[
    bool, typer.Option("--no-wait", help="With --batch: submit and return; exit code 75 while jobs are unfinished.")
]
ApiCancelBatch = Annotated[
    bool, typer.Option("--cancel-batch", help="Cancel the unfinished batch jobs of api:MODEL; evaluate nothing.")
]
ApiConcurrency = Annotated[int, typer.Option("--concurrency", help="Requests to an API model at the same time.")]
ApiTimeout = Annotated[
    float | None, typer.Option("--timeout", help="Seconds to wait for an answer of an API model (300; flex tier: 900).")
]

ClusterAddress = Annotated[
    str | None,
    typer.Option("--cluster", help="HOST:PORT of a Ray cluster that does the work, or auto for the one of this node."),
]

# Options of both `curate` and `build`
ColumnNames = Annotated[
    list[str] | None, typer.Option("--map", help="field=column, for a column with an unusual name.")
]
Drop = Annotated[list[str] | None, typer.Option("--drop", help="A column to ignore.")]
Keep = Annotated[list[str] | None, typer.Option("--keep", help="A column to keep although it reveals the price.")]
Delimiter = Annotated[
    str | None,
    typer.Option(help="What separates the columns of a CSV file, such as ';' or tab (default: detected)."),
]
KindName = Annotated[
    str | None,
    typer.Option(
        "--kind",
        help="Kind of file: shopify, woocommerce, magento, merchant, amazon-2018, amazon-2023, mercari, schema.org or "
        "table (default: recognized).",
    ),
]
Sheet = Annotated[str | None, typer.Option(help="Sheet of a workbook to read (default: the best guess).")]
Currency = Annotated[
    str | None,
    typer.Option(help="Currency of the prices, as an ISO code (default: the one that the files name, else USD)."),
]
Preview = Annotated[bool, typer.Option("--preview", help="Show the columns and the first five rows; write nothing.")]
MinPrice = Annotated[float | None, typer.Option(help="The lowest price to keep (default: all prices).")]
MaxPrice = Annotated[float | None, typer.Option(help="The highest price to keep (default: all prices).")]
TrainRows = Annotated[
    int | None, typer.Option(help="Keep this many training rows, balanced by source, price and category.")
]
ApiAnswersFile = Annotated[
    Path | None,
    typer.Option("--api-answers", help="Saved answers of an API model (id, price): compare and combine it with yours."),
]
ApiModelName = Annotated[
    str,
    typer.Option("--api-model", help="API model that gave the answers; their cost is computed from its token price."),
]
ApiCost = Annotated[
    float | None, typer.Option("--api-cost-per-1000", help="US dollars that 1,000 of the saved answers cost.")
]
Recipes = Annotated[
    list[str] | None,
    typer.Option("--recipe", help="Fit this recipe too; repeatable (default: median, ridge, sparse_mlp)."),
]
DropPartNumbers = Annotated[bool, typer.Option("--drop-part-numbers", help="Take part numbers out of the text.")]


def print_version(wanted: bool) -> None:
    """Print the version and stop."""
    if wanted:
        print(__version__)
        raise typer.Exit()


@app.callback(help=ABOUT)
def front(
    context: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", callback=print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
    verbose: Annotated[
        bool, typer.Option("-v", "--verbose", help="Log to standard error; any command takes it.")
    ] = False,
    log_file: Annotated[
        Path | None, typer.Option("--log-file", help="Append the log to this file; any command takes it.")
    ] = None,
) -> None:
    """Set up logging before the command runs; the file is rank 0's if a launcher started several processes."""
    configure_logging(verbose, None if is_follower() else log_file)
    if context.invoked_subcommand != "fit":
        refuse_launch(f"`pricesmith {context.invoked_subcommand}`")


def configure_logging(verbose: bool, log_file: Path | None) -> None:
    """Log the package's messages to standard error, to a file, or not at all."""
    for handler in list(log.handlers):
        if getattr(handler, "of_command_line", False):
            log.removeHandler(handler)
            handler.close()
    handlers: list[logging.Handler] = [logging.StreamHandler()] if verbose else []
    if log_file is not None:
        try:
            handlers.append(logging.FileHandler(log_file, encoding="utf-8"))
        except OSError as error:
            raise UsageError(
                f"--log-file {log_file} cannot be written",
                got=error.strerror or str(error),
                hint="Name a file in a folder that exists.",
            ) from None
    for handler in handlers:
        handler.of_command_line = True  # type: ignore[attr-defined]
        handler.setFormatter(logging.Formatter(LOG_FORMAT))
        log.addHandler(handler)
    log.setLevel(logging.DEBUG if handlers else logging.WARNING)


def move_log_options(arguments: Sequence[str]) -> list[str]:
    """The arguments with -v and --log-file before the command, so that they may stand anywhere before a `--`."""
    front_options: list[str] = []
    others: list[str] = []
    waiting = iter(arguments)
    for word in waiting:
        if word == "--":
            others += [word, *waiting]
        elif word in ("-v", "--verbose") or word.startswith("--log-file="):
            front_options.append(word)
        elif word == "--log-file":
            front_options += [word, *([path] if (path := next(waiting, None)) is not None else [])]
        else:
            others.append(word)
    return [*front_options, *others]


class LoggedProgress(Progress):
    """Passes progress on, and logs its stages and notes."""

    def __init__(self, inner: Progress) -> None:
        self.inner = inner

    def start(self, what: str, total: int | None = None) -> None:
        log.debug("stage: %s%s", what, f" ({total:,})" if total else "")
        self.inner.start(what, total)

    def advance(self, steps: int = 1) -> None:
        self.inner.advance(steps)

    def note(self, text: str) -> None:
        log.info("%s", text)
        self.inner.note(text)


class LoggedConsole(Console):
    """A console whose progress is logged."""

    @contextmanager
    def progress(self) -> Iterator[Progress]:
        with super().progress() as inner:
            yield LoggedProgress(inner)


def open_console(*, json: bool = False, quiet: bool = False) -> Console:
    """The console of a command."""
    return LoggedConsole(json=json, quiet=quiet)


def run(arguments: Sequence[str]) -> int:
    """Run one command line; its exit code. Of several processes of a launcher, only rank 0 prints."""
    code = 1
    try:
        with silent_followers():
            code = run_command(arguments)
    finally:
        end_command(code)
    return code


def run_command(arguments: Sequence[str]) -> int:
    """Run one command line; its exit code. Errors go to standard error, on one screen."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # a terminal without a character shows `?`
    if odd := next((word for word in arguments if not is_utf8(word)), None):
        hint = "Rename the file, or set the terminal to UTF-8."
        print(f"Error: A word of the command is not UTF-8\n  got: {odd!r}\n  next: {hint}", file=sys.stderr)
        return 2
    words, started = move_log_options(arguments), time.perf_counter()
    code: Any = 0
    try:
        code = app(args=words or ["--help"], standalone_mode=False, prog_name="pricesmith")
    except typer.TyperException as error:
        print(f"Error: {error.format_message()}\n  next: {help_command(arguments)}", file=sys.stderr)
        return 2
    except (BrokenPipeError, SystemExit) as error:  # typer turns a broken pipe into an exit
        if isinstance(error, SystemExit) and not isinstance(error.__context__, BrokenPipeError):
            raise
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except BaseException as error:
        described = describe_error(error)
        if described is None:
            log.exception("unexpected error")
            raise
        text, exit_code = described
        log.error("%s", text)
        print(text, file=sys.stderr)
        return exit_code
    if code == 130:  # typer's answer to Ctrl-C
        print(INTERRUPTED_MESSAGE, file=sys.stderr)
    exit_code = code if isinstance(code, int) else 0
    log.info("pricesmith %s: exit code %d after %.1f s", " ".join(words), exit_code, time.perf_counter() - started)
    return exit_code


def help_command(arguments: Sequence[str]) -> str:
    """The help that fits a wrong command line: the command's own if it is known."""
    names = {command.name or getattr(command.callback, "__name__", "") for command in app.registered_commands}
    names |= {group.name for group in app.registered_groups if group.name}
    command = next((word for word in arguments if word in names), "")
    return f"pricesmith {command} --help" if command else "pricesmith --help"


# Ctrl-C ends a command within two seconds, also while a library computes outside Python


def install_interrupt_guard() -> None:
    """Start the thread that ends this process soon after SIGINT. Only the main thread of the program may call this.

    Python raises KeyboardInterrupt between two bytecodes, so a long call into compiled code delays it. The thread
    learns of the signal at once (`signal.set_wakeup_fd`) and ends the process if it is still there after the grace
    period. That is as safe as a kill: every file is written to a temporary name, and the same command resumes.
    """
    reader, writer = socket.socketpair()
    writer.setblocking(False)
    signal.set_wakeup_fd(writer.fileno(), warn_on_full_buffer=False)
    threading.Thread(target=watch_for_interrupt, args=(reader, writer), daemon=True, name="interrupt-guard").start()


def watch_for_interrupt(reader: socket.socket, writer: socket.socket) -> None:
    """Wait for SIGINT, then for the grace period, then end the process with exit code 130. `writer` is kept open."""
    while True:
        received = reader.recv(64)
        if not received:
            return
        if signal.SIGINT in received and signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
            break
    time.sleep(GRACE)
    cursor = SHOW_CURSOR if sys.stderr.isatty() else ""
    # The main thread may hold the lock of sys.stderr, so this writes to the file descriptor.
    if not is_follower():
        os.write(2, f"{cursor}{INTERRUPTED_MESSAGE}\n".encode())
    os._exit(130)
