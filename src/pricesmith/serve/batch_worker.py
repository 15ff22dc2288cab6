"""A process that prices parts of large batches for a server, which starts it: see `batch_pool.py`.

    python -m pricesmith.serve.batch_worker MODEL_FOLDER FILE_DESCRIPTOR

Over the connection it sends the identity of the model that it has loaded, then receives a function and a part and sends
the result, again and again. It ends when the connection does, which is also what happens when the server is killed.
"""

from __future__ import annotations

import os
import signal
import sys
from multiprocessing.connection import Connection
from pathlib import Path

from pricesmith.serve.batch_pool import DONE, FAILED
from pricesmith.serve.loaded_model import EngineLimits, LoadedModel


def run(folder: Path, connection: Connection) -> None:
    """Load the model of a folder and work until the connection ends (EOFError, or OSError while sending)."""
    loaded = LoadedModel.open(folder, EngineLimits())
    connection.send(loaded.model.identity)
    while True:
        function, part = connection.recv()
        try:
            result = (DONE, function(loaded, part))
        except Exception as error:  # the server prices this part itself, and gets the same error
            result = (FAILED, f"{type(error).__name__}: {error}")
        connection.send(result)


def main() -> None:
    """Work for the server at the other end of a connection."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the server, which then ends this process
    os.dup2(2, 1)  # standard output is that of the server, for programs
    try:
        run(Path(sys.argv[1]), Connection(int(sys.argv[2])))
    except (EOFError, ConnectionError):  # the server has ended
        return


if __name__ == "__main__":
    main()
