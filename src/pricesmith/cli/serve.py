"""`serve`: fitted models as a service for people and programs."""

from __future__ import annotations

import json as json_library
import logging
from pathlib import Path
from typing import Annotated

import typer

from pricesmith.cli.app import Json, Quiet, app, open_console
from pricesmith.core.build_file import BUILD_FILE
from pricesmith.core.errors import UsageError

MAX_PROCESSES = 64  # for one model

ModelFolders = Annotated[
    list[Path], typer.Argument(help="Model folders, or folders that build made. The first one is the default model.")
]
Host = Annotated[str, typer.Option(help="Address to listen on. One that other machines reach needs keys.")]
Port = Annotated[int, typer.Option(min=0, max=65535, help="Port to listen on; 0 takes a free one.")]
LogFile = Annotated[
    Path | None, typer.Option("--log", help="File for quotes and sold prices (default: MODEL.requests.db).")
]
NoLog = Annotated[bool, typer.Option("--no-log", help="Keep no log: no sold prices, no drift.")]
LogText = Annotated[bool, typer.Option("--log-text", help="Store the text of priced listings, not a hash.")]
KeyFile = Annotated[
    Path | None, typer.Option("--keys", help="Require a key from this file; `pricesmith keys add` makes one.")
]
AllowHost = Annotated[
    list[str] | None, typer.Option(help="Another name of this server, such as prices.example.com; repeatable.")
]
RootPath = Annotated[str, typer.Option(help="Path under which a proxy serves this server, such as /prices.")]
TrustedProxy = Annotated[
    list[str] | None, typer.Option(help="Address of a proxy whose X-Forwarded headers are used; repeatable.")
]
CatalogOption = Annotated[
    Path | None, typer.Option(help="Catalog on whose test items a new model is compared (default: the build's).")
]
EvalsOption = Annotated[
    Path | None, typer.Option(help="Evaluations that the page shows (default: those of the build).")
]
MaxUpload = Annotated[int, typer.Option(min=1, help="Megabytes that an uploaded file may have.")]
BodyTimeout = Annotated[float, typer.Option(min=0.1, help="Seconds in which a request must arrive.")]
BatchProcesses = Annotated[
    str, typer.Option(metavar="N|auto", help="Processes that price a large batch together; auto: one for each core.")
]
DailyBudget = Annotated[float | None, typer.Option(help="US dollars that API models may cost in a day (UTC).")]
Timeout = Annotated[float, typer.Option(help="Seconds until a listing is priced without the API model.")]


@app.command()
def serve(
    models: ModelFolders,
    host: Host = "127.0.0.1",
    port: Port = 8000,
    log: LogFile = None,
    no_log: NoLog = False,
    log_text: LogText = False,
    keys: KeyFile = None,
    allow_host: AllowHost = None,
    root_path: RootPath = "",
    trusted_proxy: TrustedProxy = None,
    catalog: CatalogOption = None,
    evals: EvalsOption = None,
    max_upload: MaxUpload = 500,
    body_timeout: BodyTimeout = 30.0,
    batch_processes: BatchProcesses = "1",
    api_budget_per_day: DailyBudget = None,
    api_timeout: Timeout = 20.0,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Serve models: a web page for people, a REST API for programs."""
    from pricesmith.serve import ServeSettings, run_server
    from pricesmith.serve.jobs import UploadLimits
    from pricesmith.serve.log_file import default_log_path

    if no_log and (log is not None or log_text):
        raise UsageError("--no-log contradicts --log and --log-text", hint="Leave out one of them.")
    folders = name_models(models)
    log_path = None if no_log else log or default_log_path(models[0])
    settings = ServeSettings(
        host=host,
        port=port,
        root_path=check_root_path(root_path),
        hosts=tuple(allow_host or ()),
        trusted_proxies=tuple(trusted_proxy or ()),
        log_path=log_path,
        log_text=log_text,
        keys_path=keys,
        catalog=catalog or part_of_build(models[0], "catalog"),
        evals=evals or part_of_build(models[0], "evals"),
        upload_limits=UploadLimits(upload=max_upload * 1_000_000),
        body_timeout=body_timeout,
        batch_processes=count_processes(batch_processes),
        api_budget_per_day=api_budget_per_day,
        api_timeout=api_timeout,
    )
    console = open_console(json=json, quiet=quiet)
    show_server_log()
    console.say(f"Loading {', '.join(folders)}.")

    def on_ready(url: str) -> None:
        """Say where the server is, at once: whoever started it may be waiting for this line."""
        console.say(f"Log: {log_path}" if log_path else "No log.")
        console.say(f"Serving at {url} (Ctrl-C stops it)")
        if json:
            facts = {"url": url, "models": list(folders), "log": str(log_path) if log_path else None}
            print(json_library.dumps(facts), flush=True)

    run_server(folders, settings, on_ready)


def count_processes(value: str) -> int:
    """The number of processes that an option names. Raises UsageError if it is neither `auto` nor such a number."""
    if value == "auto":
        from pricesmith.core.cores_and_memory import available_cores

        return min(available_cores(), MAX_PROCESSES)
    if not (value.isascii() and value.isdigit() and 1 <= int(value[:9]) <= MAX_PROCESSES):
        raise UsageError(
            "--batch-processes is not a number of processes",
            got=value[:80],
            allowed=f"1 to {MAX_PROCESSES}, or auto",
            hint="--batch-processes auto",
        )
    return int(value)


def show_server_log() -> None:
    """Print what happens to the server on standard error; the error that ends it is printed by `run`."""
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(levelname)s: %(message)s"))
    for name in ("pricesmith.serve", "uvicorn"):
        logger = logging.getLogger(name)
        logger.handlers = [handler]


def name_models(models: list[Path]) -> dict[str, Path]:
    """Each model folder by its name. Raises UsageError if two have the same name."""
    folders: dict[str, Path] = {}
    for path in models:
        name = path.resolve().name
        if name in folders:
            raise UsageError(
                "Two models have the same name",
                got=f"{folders[name]} and {path}",
                hint="Rename one of the folders: its name is the name of the model.",
            )
        folders[name] = path
    return folders


def check_root_path(path: str) -> str:
    """A root path without a slash at its end. Raises UsageError if it does not begin with one."""
    if path and (not path.startswith("/") or path.startswith("//")):
        raise UsageError("--root-path must begin with one slash", got=path, hint="For example --root-path /prices")
    return path.rstrip("/")


def part_of_build(model: Path, name: str) -> Path | None:
    """A folder of the build that a model belongs to; None if there is none."""
    folder = model.resolve()
    for build in (folder, folder.parent.parent):
        if (build / BUILD_FILE).is_file() and (build / name).is_dir():
            return build / name
    return None
