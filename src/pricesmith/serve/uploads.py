"""Receives an uploaded file: `multipart/form-data`, written to the disk as it arrives, never held in memory.

    upload = await receive_upload(request, folder, max_bytes=500_000_000)
    upload.path, upload.fields

The limit is enforced while the bytes arrive, whatever Content-Length says. An upload that is cut leaves nothing.
"""

from __future__ import annotations

import asyncio
import shutil
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO
from urllib.parse import quote

from fastapi import Request
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from pricesmith.core.errors import UsageError
from pricesmith.serve.errors import ServeError
from pricesmith.serve.timeouts import remove_limit

MAX_FIELDS = 40
MAX_FIELD = 10_000  # bytes of a form field that is not the file
MAX_HEADERS = 10_000  # bytes of the headers of one part
MAX_OVERHEAD = 1_000_000  # bytes of the form that are not the file
BUFFER = 1 << 20  # bytes that are written at once
MAX_FILE_NAME = 100  # characters


@dataclass
class Upload:
    """A file on the disk, the name that the client gave it, made safe, and the other fields of the form."""

    path: Path
    name: str
    size: int = 0
    fields: dict[str, list[str]] = field(default_factory=dict)

    def value(self, name: str) -> str:
        """The last value of a field; empty without one."""
        return (self.fields.get(name) or [""])[-1]


def safe_name(name: str, default: str = "upload") -> str:
    """A file name without folders, control characters, quotes and other signs that a system or a header may
    misunderstand. Letters of all scripts stay.

    >>> safe_name("../../etc/pass\\nwd.csv"), safe_name("Preisliste Größe.xlsx"), safe_name("..")
    ('pass_wd.csv', 'Preisliste Größe.xlsx', 'upload')
    """
    last = unicodedata.normalize("NFC", name).replace("\\", "/").rpartition("/")[2]
    signs = [sign if sign.isalnum() or sign in " ._-()" else "_" for sign in last]
    cleaned = "".join(signs).strip(" .")
    stem, dot, ending = cleaned.rpartition(".")
    if len(cleaned) > MAX_FILE_NAME:
        cleaned = f"{stem[: MAX_FILE_NAME - 20]}{dot}{ending[-18:]}"
    while len(cleaned.encode()) > 200:  # a name on the disk holds 255 bytes
        cleaned = cleaned[1:]
    return cleaned or default


def content_disposition(name: str) -> str:
    """The header that makes a browser save a response under this name (RFC 6266).

    >>> print(content_disposition("Größe.csv"))
    attachment; filename="Gr__e.csv"; filename*=UTF-8''Gr%C3%B6%C3%9Fe.csv
    """
    name = safe_name(name)
    plain = "".join(sign if sign.isascii() else "_" for sign in name)
    return f"attachment; filename=\"{plain}\"; filename*=UTF-8''{quote(name, safe='')}"


class FormReader:
    """Takes the bytes of a form. The data of the file wait in `buffer` until they are written."""

    def __init__(self, boundary: bytes, check_name: Callable[[str], None]) -> None:
        self.check_name = check_name
        self.fields: dict[str, list[str]] = {}
        self.file_name: str | None = None
        self.buffer = bytearray()
        self.header, self.value, self.data = bytearray(), bytearray(), bytearray()
        self.field_name, self.in_file, self.overhead, self.complete = "", False, 0, False
        self.disposition = b""
        self.parser = MultipartParser(
            boundary,
            {
                "on_part_begin": self.begin,
                "on_header_field": lambda data, start, end: self.add(self.header, data[start:end], MAX_HEADERS),
                "on_header_value": lambda data, start, end: self.add(self.value, data[start:end], MAX_HEADERS),
                "on_header_end": self.end_header,
                "on_headers_finished": self.end_headers,
                "on_part_data": self.add_data,
                "on_part_end": self.end,
                "on_end": self.finish,
            },
        )

    def add(self, target: bytearray, data: bytes, limit: int) -> None:
        """Collect bytes. Raises ServeError (413) above the limit."""
        self.overhead += len(data)
        if len(target) + len(data) > limit or self.overhead > MAX_OVERHEAD:
            raise ServeError(413, "A field of the form is too long", allowed=f"at most {limit:,} bytes")
        target += data

    def begin(self) -> None:
        self.header, self.value, self.data = bytearray(), bytearray(), bytearray()
        self.disposition, self.in_file = b"", False

    def end_header(self) -> None:
        if bytes(self.header).lower() == b"content-disposition":
            self.disposition = bytes(self.value)
        self.header, self.value = bytearray(), bytearray()

    def end_headers(self) -> None:
        _, options = parse_options_header(self.disposition)
        self.field_name = options.get(b"name", b"").decode("utf-8", "replace")
        if b"filename" not in options:
            if sum(map(len, self.fields.values())) >= MAX_FIELDS:
                raise ServeError(413, "The form has too many fields", allowed=f"at most {MAX_FIELDS}")
            return
        if self.file_name is not None:
            raise ServeError(422, "The form has more than one file", allowed="one file", hint="Upload one at a time.")
        self.in_file, self.file_name = True, safe_name(options[b"filename"].decode("utf-8", "replace"))
        self.check_name(self.file_name)

    def add_data(self, data: bytes, start: int, end: int) -> None:
        if self.in_file:
            self.buffer += data[start:end]
        else:
            self.add(self.data, data[start:end], MAX_FIELD)

    def end(self) -> None:
        if not self.in_file:
            self.fields.setdefault(self.field_name, []).append(self.data.decode("utf-8", "replace"))

    def finish(self) -> None:
        self.complete = True


async def receive_upload(
    request: Request, folder: Path, max_bytes: int, check_name: Callable[[str], None], room: Callable[[int], None]
) -> Upload:
    """The file of a form, written into `folder`, which is made for it and removed if anything fails.

    `check_name` may refuse a name, `room` a number of further bytes. Raises ServeError: 400 for a damaged form, 413 for
    too many bytes, 415 for another content type, 422 without a file, 503 if the disk is full.
    """
    remove_limit(request.scope)
    kind, options = parse_options_header(request.headers.get("content-type", ""))
    if kind != b"multipart/form-data":
        raise ServeError(
            415,
            "This route takes a form with a file",
            got=kind.decode("latin-1")[:80],
            allowed="multipart/form-data",
            hint="curl -F file=@FILE URL",
        )
    if not (boundary := options.get(b"boundary")):
        raise ServeError(400, "The form names no boundary", allowed="multipart/form-data; boundary=...")
    declared = request.headers.get("content-length", "")
    if declared.isascii() and declared.isdigit() and int(declared[:20]) > max_bytes + MAX_OVERHEAD:
        raise too_large(max_bytes)
    reader = FormReader(boundary, check_name)
    folder.mkdir(mode=0o700)
    try:
        upload = await write_file(request, reader, folder, max_bytes, room)
    except OSError as error:
        shutil.rmtree(folder, ignore_errors=True)
        raise ServeError(503, "The file cannot be stored", got=error.strerror or "", hint="Try again later.") from None
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    return upload


async def write_file(
    request: Request, reader: FormReader, folder: Path, max_bytes: int, room: Callable[[int], None]
) -> Upload:
    """Write the file of a form as its bytes arrive."""
    upload = Upload(folder / "incoming", "")

    async def flush(out: BinaryIO) -> None:
        upload.size += len(reader.buffer)
        if upload.size > max_bytes:
            raise too_large(max_bytes)
        room(len(reader.buffer))
        data, reader.buffer = reader.buffer, bytearray()
        await asyncio.to_thread(out.write, data)

    with upload.path.open("wb") as out:
        try:
            async for chunk in request.stream():
                if reader.parser.write(chunk) != len(chunk):
                    raise FormParserError
                if len(reader.buffer) >= BUFFER:
                    await flush(out)
            reader.parser.finalize()
        except FormParserError:
            raise ServeError(400, "The form is damaged", hint="curl -F file=@FILE URL") from None
        await flush(out)
    if not reader.complete:
        raise ServeError(400, "The form ends too early", hint="Send it again.")
    if reader.file_name is None:
        raise ServeError(422, "The form has no file", allowed="one file", hint="curl -F file=@FILE URL")
    upload.name, upload.fields = reader.file_name, reader.fields
    target = folder / "input" / upload.name
    target.parent.mkdir(mode=0o700)
    upload.path = upload.path.rename(target)
    return upload


def too_large(max_bytes: int) -> ServeError:
    """The error of an upload above the limit."""
    return ServeError(
        413,
        "The file is too large",
        allowed=f"at most {max_bytes / 1e6:,.0f} MB",
        hint="Pack it with gzip, divide it, or price it on the command line: pricesmith price --file.",
    )


def check_ending(name: str) -> None:
    """Raises UsageError for a file whose ending no reader knows."""
    from pricesmith.catalog.readers.sources import ADVICE, ALLOWED, detect_format

    path = Path(name)
    if not detect_format(path)[0]:
        raise UsageError(
            "This is not a kind of file that is read",
            got=path.suffix or "no ending",
            allowed=ALLOWED,
            hint=ADVICE.get(path.suffix.lower(), "Save it as one of these."),
        )
