"""`keys`: who may use a server."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pricesmith.cli.app import Json, Quiet, app, open_console

key_verbs = typer.Typer(help="Add, list or remove the API keys of a server.", no_args_is_help=True)
app.add_typer(key_verbs, name="keys")

KeysFile = Annotated[
    Path | None, typer.Option("--keys", help="The file of keys (default: pricesmith/keys.json in your configuration).")
]


@key_verbs.command("add")
def add(
    name: Annotated[str, typer.Argument(help="Who or what uses the key, for example website.")],
    keys: KeysFile = None,
    days: Annotated[int | None, typer.Option(help="Days until the key expires (default: never).")] = None,
    rate: Annotated[int | None, typer.Option(help="Requests that it may send a minute (default: no limit).")] = None,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Make a key. It is shown once; the file holds only its hash."""
    from pricesmith.serve.keys import add_key, default_keys_file

    console = open_console(json=json, quiet=quiet)
    path = keys or default_keys_file()
    key = add_key(path, name, days=days, per_minute=rate)
    if quiet:
        print(key)
    console.say(f"{key}\n\nThis key is shown only now. Requests send it as the header `Authorization: Bearer KEY`.")
    console.say(f"To withdraw it: pricesmith keys rm {name}" + (f" --keys {keys}" if keys else ""))
    console.result({"name": name, "key": key, "file": str(path)})


@key_verbs.command("ls")
def list_keys(keys: KeysFile = None, json: Json = False, quiet: Quiet = False) -> None:
    """List the names of the keys, when they expire and their limits."""
    from pricesmith.serve.keys import default_keys_file, format_keys, read_clock, read_keys, to_dict

    console = open_console(json=json, quiet=quiet)
    path = keys or default_keys_file()
    stored = read_keys(path)
    console.say(format_keys(stored, read_clock()) if stored else f"There are no keys in {path}.")
    console.result([to_dict(key, read_clock()) for key in stored])


@key_verbs.command("rm")
def remove(
    name: Annotated[str, typer.Argument(help="The name of the key.")],
    keys: KeysFile = None,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Remove a key; a running server refuses it from then on."""
    from pricesmith.serve.keys import default_keys_file, remove_key

    console = open_console(json=json, quiet=quiet)
    path = keys or default_keys_file()
    remove_key(path, name)
    console.say(f"The key {name} is removed. A running server refuses it from now on.")
    console.result({"name": name, "file": str(path), "removed": True})
