"""`log`: what is in the log of a server, and deleting it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pricesmith.cli.app import Json, Quiet, app, open_console
from pricesmith.core.errors import UsageError

log_verbs = typer.Typer(help="Show the log of a server, or delete from it.", no_args_is_help=True)
app.add_typer(log_verbs, name="log")

LogPath = Annotated[Path, typer.Argument(metavar="LOG", help="The log of a server.")]


@log_verbs.command("show")
def show_log(log: LogPath, json: Json = False, quiet: Quiet = False) -> None:
    """Count the quotes and sold prices in a log, by model."""
    from pricesmith.serve.log_reader import LogReader, format_contents

    console = open_console(json=json, quiet=quiet)
    contents = LogReader(log).count_by_model()
    console.say(format_contents(contents) if contents else f"{log} is empty.")
    console.result(contents)


@log_verbs.command("rm")
def remove_from_log(
    log: LogPath,
    before: Annotated[
        str | None, typer.Option(help="Delete quotes and sold prices from before this day (UTC), as YYYY-MM-DD.")
    ] = None,
    feedback: Annotated[str | None, typer.Option(help="Delete the sold price with this id.")] = None,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Delete from a log, and erase the texts from its file; the server must not run."""
    from pricesmith.serve.log import LogReader, RequestLog
    from pricesmith.text.formatting import format_count

    if (before is None) == (feedback is None):
        raise UsageError("log rm takes --before or --feedback", hint=f"pricesmith log rm {log} --before 2026-01-01")
    console = open_console(json=json, quiet=quiet)
    LogReader(log)  # a log that is not there is not created
    with RequestLog(log) as opened:
        deleted = opened.delete_before_sync(before) if before else opened.delete_feedback_sync(feedback or "")
    if feedback and not deleted.feedback:
        raise UsageError("There is no sold price with this id", got=feedback[:80], hint="It may be deleted already.")
    counts = f"{format_count(deleted.quotes, 'quote')} and {format_count(deleted.feedback, 'sold price')}"
    console.say(
        f"Deleted: {counts}." + ("" if deleted.erased else " Some text may be in the file until it is next closed.")
    )
    console.result({"quotes": deleted.quotes, "feedback": deleted.feedback, "erased": deleted.erased})
