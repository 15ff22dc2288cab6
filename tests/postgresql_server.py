"""A PostgreSQL server on loopback, in a temporary folder, for the tests that read tables."""

from __future__ import annotations

import glob
import os
import pwd
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

PASSWORD = "s3cret-of-the-server"
PLACES = ("/usr/lib/postgresql/*/bin", "/usr/pgsql-*/bin", "/opt/homebrew/opt/postgresql*/bin", "/usr/local/pgsql/bin")


def find_programs() -> Path | None:
    """The folder of initdb and pg_ctl, None without a server on this machine."""
    on_path = shutil.which("initdb")
    folders = [Path(on_path).resolve().parent] if on_path else []
    folders += [Path(name) for place in PLACES for name in sorted(glob.glob(place), reverse=True)]
    return next((folder for folder in folders if (folder / "initdb").exists() and (folder / "pg_ctl").exists()), None)


class Server:
    """A running server with the superuser `owner`, whose password is `PASSWORD`."""

    def __init__(self, port: int, folder: Path) -> None:
        self.port, self.folder = port, folder

    def address(self, database: str = "postgres", *, user: str = "owner", options: str = "") -> str:
        """A source without a password."""
        return f"postgresql://{user}@127.0.0.1:{self.port}/{database}{options}"

    def run(self, *statements: str, database: str = "postgres", parameters: Sequence[Any] = ()) -> None:
        """Run statements, each in a transaction of its own; `parameters` are rows for every one of them."""
        from adbc_driver_postgresql import dbapi

        address = f"postgresql://owner:{PASSWORD}@127.0.0.1:{self.port}/{database}"
        with dbapi.connect(address, autocommit=True) as base, base.cursor() as cursor:
            for statement in statements:
                if parameters:
                    cursor.executemany(statement, parameters)
                else:
                    cursor.adbc_statement.set_sql_query(statement)
                    cursor.adbc_statement.execute_update()

    def count(self, query: str, database: str = "postgres") -> Any:
        """The first value of a query."""
        from adbc_driver_postgresql import dbapi

        address = f"postgresql://owner:{PASSWORD}@127.0.0.1:{self.port}/{database}"
        with dbapi.connect(address) as base, base.cursor() as cursor:
            cursor.execute(query)
            return cursor.fetchall()[0][0]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def other_user() -> dict[str, Any]:
    """How a program is started by a user without rights: a server does not start as root."""
    if os.geteuid() != 0:
        return {}
    names = {entry.pw_name for entry in pwd.getpwall()}
    entry = pwd.getpwnam("postgres" if "postgres" in names else "nobody")
    return {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": []}


@contextmanager
def run_server(programs: Path) -> Iterator[Server]:
    """Start a server, and stop it at the end."""
    user = other_user()
    folder = Path(tempfile.mkdtemp(prefix="pricesmith-postgresql-"))
    data, port = folder / "data", free_port()
    (folder / "password").write_text(PASSWORD)
    if user:
        for path in (folder, folder / "password"):
            os.chown(path, user["user"], user["group"])
    make = ["initdb", "-D", data, "-U", "owner", "-E", "UTF8", "--locale=C", "--auth=scram-sha-256", "--no-sync"]
    settings = f"-p {port} -k {folder} -c listen_addresses=127.0.0.1 -c fsync=off -c lc_monetary=C"
    start = ["pg_ctl", "-D", data, "-w", "-t", "60", "-l", folder / "log", "-o", settings, "start"]
    stop = ["pg_ctl", "-D", data, "-w", "-m", "immediate", "stop"]

    def call(command: Sequence[Any]) -> None:
        line = [str(programs / command[0]), *map(str, command[1:])]
        subprocess.run(line, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=folder, **user)

    try:
        call([*make, f"--pwfile={folder / 'password'}"])
        call(start)
        try:
            yield Server(port, folder)
        finally:
            call(stop)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
