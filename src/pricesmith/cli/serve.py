"""`serve`: a fitted model as a service for people and programs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pricesmith.cli.app import app
from pricesmith.core.errors import UsageError


@app.command()
def serve(
    models: Annotated[
        list[Path], typer.Argument(help="Model folders, or folders that build made; the first one is the default.")
    ],
    host: Annotated[
        str, typer.Option(help="Address to listen on; other machines can only reach it with keys.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port to listen on; 0 takes a free one.")] = 8000,
) -> None:
    """Serve models as a web page and a REST API."""
    from pricesmith.serve import ServeSettings, run_server

    folders = name_models(models)
    print(f"Open http://{host}:{port}")
    run_server(folders, ServeSettings(host=host, port=port))


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
