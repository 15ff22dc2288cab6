"""The child that parses one untrusted file: `python -m pricesmith.catalog.readers.worker TASK < FILE`.

TASK is JSON:
    {"name": "shop.csv.gz", "format": "csv", "packing": "gz", "delimiter": "", "member": "", "sheet": "",
     "sound": false, "limits": {...}}

A task with the format `postgresql` has a "table", a "query" and a "timeout" and reads libpq's connection string
instead of a file. `sound` says that the packed file was seen whole before; `member` is a file in a zip archive. With
"scan": [PRICE_COLUMN, CURRENCY_COLUMN] no rows are sent, but at the end the decimal marks and currencies of that
column. It answers in JSON lines: `header`, `note`, `rows`, `members`, `alive`, and at the end `done` or `refused`.
A row is a list (by header), an object, or, if it could not be read, the name of the reason.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import resource
import signal
import sys
from types import SimpleNamespace
from typing import Any, BinaryIO

from pricesmith.catalog.readers.messages import FileRefused, MessageWriter, Scan

ADDRESSES = 3_000_000_000  # bytes of address space above the limit on data
NEW_NETWORK = 0x40000000  # CLONE_NEWNET
NEW_USER = 0x10000000  # CLONE_NEWUSER


def fence(limits: Any, *, network: bool = False) -> None:
    """Give up what parsing does not need: memory, files to write, the network unless a server is read."""
    for what, most in (
        (resource.RLIMIT_DATA, limits.memory),
        (resource.RLIMIT_AS, limits.memory + ADDRESSES),
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_CORE, 0),
    ):
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(what, (most, most))
    if network:
        return
    with contextlib.suppress(OSError, AttributeError):
        library = ctypes.CDLL(None, use_errno=True)
        if library.unshare(NEW_NETWORK) != 0:
            library.unshare(NEW_USER | NEW_NETWORK)


def parse(task: dict[str, Any], file: BinaryIO, answer: MessageWriter) -> None:
    """Parse the file by its format."""
    limits = answer.limits
    if task["format"] == "zip":
        from pricesmith.catalog.readers import text_file

        answer.say(members=text_file.list_members(file))
    elif task["format"] == "parquet":
        from pricesmith.catalog.readers import tables

        tables.parquet(file, limits, answer)
    elif task["format"] == "xlsx":
        from pricesmith.catalog.readers import xlsx

        xlsx.xlsx(file, limits, answer, task.get("sheet", ""))
    elif task["format"] == "sqlite":
        from pricesmith.catalog.readers import sqlite

        sqlite.sqlite(limits, task["table"], answer)
    elif task["format"] == "postgresql":
        from pricesmith.catalog.readers import postgresql

        postgresql.postgresql(file.read().decode(), task, answer)
    elif task["format"] == "html":
        from pricesmith.catalog.readers import html

        html.pages(file, limits, answer)
    elif task["format"] == "xml":
        from pricesmith.catalog.readers import text_file, xml

        xml.xml(text_file.opened_bytes(file, task, limits, answer)[0], limits, answer)
    else:
        from pricesmith.catalog.readers import text_file

        text, head = text_file.opened(file, task, limits, answer)
        if task["format"] in ("jsonl", "json"):
            from pricesmith.catalog.readers import jsonl

            jsonl.jsonl(text, head, limits, answer, is_json=task["format"] == "json")
        else:
            text_file.separated(
                text, head, task["delimiter"] or ("\t" if task["format"] == "tsv" else ""), limits, answer
            )


def main() -> None:
    task = json.loads(sys.argv[1])
    limits = SimpleNamespace(**task["limits"])
    out = os.fdopen(os.dup(1), "wb")
    answer = Scan(limits, out, *task["scan"]) if "scan" in task else MessageWriter(limits, out)
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.setitimer(signal.ITIMER_REAL, limits.seconds)
    fence(limits, network=task["format"] == "postgresql")
    try:
        parse(task, os.fdopen(0, "rb", buffering=1 << 16, closefd=False), answer)
        answer.send()
        answer.say(done=answer.rows, **({"scan": answer.summary()} if isinstance(answer, Scan) else {}))
    except FileRefused as refused:
        answer.say(refused=refused.facts)
    except BrokenPipeError:
        os._exit(0)
    except MemoryError:
        answer.batch = []
        facts = FileRefused(
            "reading it takes too much memory", f"over {limits.memory // 1_000_000} MB", "", "Split the file."
        )
        answer.say(refused=facts.facts)
    except Exception as error:  # whatever a parser throws at a damaged file, its name goes with the refusal
        text = f"{type(error).__name__}: {error}"
        facts = FileRefused(f"it is damaged, or not {task['format']}", text, "", "Write the file again.")
        answer.say(refused=facts.facts)


if __name__ == "__main__":
    main()
