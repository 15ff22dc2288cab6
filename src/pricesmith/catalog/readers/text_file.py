"""CSV and TSV from unknown sources, and what all text comes through: unpacking, decoding, line ends.

One raw line: "Garden hose, 25 m",$24.50,"brass ""A"" grade"

Memory stays the same whatever the length of a file, a row or a cell. Runs in the child (`parse`).
"""

from __future__ import annotations

import codecs
import csv
import gzip
import io
import itertools
import os
import re
import sys
import zlib
from typing import Any, BinaryIO

from pricesmith.catalog.readers.csv import CsvReader, RowShape, is_number
from pricesmith.catalog.readers.messages import (
    BLANK,
    FREE,
    TOO_LARGE,
    WRONG_FIELDS,
    FileRefused,
    MessageWriter,
)

ONCE = 1 << 20  # bytes read at a time
HEAD = 1 << 16  # bytes from which encoding and separator are detected
ALIVE = 64_000_000  # bytes between signs of life
MOST_MEMBERS = 1_000  # files in a zip archive
SEPARATORS = ",;\t|"
YEAR = re.compile("(?:19|20)[0-9]{2}")
HEADINGS = frozenset(
    ["id", "sku", "name", "title", "price", "brand", "category", "description", "product", "item", "url"]
)
SAID = re.compile('\ufeff?"?sep=(.)"?\r?\n', re.IGNORECASE)


class SizeMeter(io.RawIOBase):
    """Unpacked bytes, counted against the limits; `head` are those that were looked at before."""

    def __init__(self, inner: Any, packed_size: int, limits: Any, answer: MessageWriter) -> None:
        self.inner, self.packed_size, self.limits, self.answer = inner, packed_size, limits, answer
        self.count = self.reported = 0
        self.head = b""

    def readable(self) -> bool:
        return True

    def pull(self, size: int) -> bytes:
        """The next bytes of the file. Raises FileRefused over a limit and where the packing is damaged."""
        try:
            data = bytes(self.inner.read(size))
        except packing_errors() as error:
            raise FileRefused("it is damaged or cut short", str(error), "", "Fetch or write it again.") from None
        self.count += len(data)
        if self.count > self.limits.bytes:
            most = f"{self.limits.bytes:,} bytes"
            raise FileRefused("it is too large unpacked", f"over {most}", most, "Split the file.")
        if self.packed_size and self.count > max(FREE, self.limits.ratio * self.packed_size):
            raise FileRefused(
                "it unpacks to far more than a table does",
                f"over {self.count // self.packed_size} times its size",
                f"{self.limits.ratio:g} times",
                "If you trust it, unpack it yourself and give the unpacked file.",
            )
        if self.count - self.reported > ALIVE:
            self.reported = self.count
            self.answer.say(alive=self.count)
        return data

    def readinto(self, buffer: Any) -> int:
        view = memoryview(buffer).cast("B")
        if self.head:
            data, self.head = self.head[: len(view)], self.head[len(view) :]
        else:
            data = self.pull(len(view))
        view[: len(data)] = data
        return len(data)


def packing_errors() -> tuple[type[Exception], ...]:
    """What reading a damaged packed file raises; `zipfile` is loaded for a zip archive alone."""
    zipfile = sys.modules.get("zipfile")
    return (EOFError, OSError, zlib.error, *([zipfile.BadZipFile] if zipfile else []))


def unpacked(file: BinaryIO, packing: str, member: str = "") -> Any:
    """What `read(size)` gives unpacked bytes."""
    if packing == "zip":
        import zipfile

        return zipfile.ZipFile(file).open(member)
    if packing == "gz":
        return gzip.GzipFile(fileobj=file)
    if packing == "zst":
        import pyarrow as pa

        own = os.fdopen(os.dup(file.fileno()), "rb", buffering=0)  # the stream closes what it reads from
        return pa.CompressedInputStream(pa.PythonFile(own, mode="r"), "zstd")
    return file


def list_members(file: BinaryIO) -> list[str]:
    """The names of the files in a zip archive. Raises FileRefused for too many."""
    import zipfile

    with zipfile.ZipFile(file) as archive:
        names = [member.filename for member in archive.infolist() if not member.is_dir()]
    if len(names) > MOST_MEMBERS:
        raise FileRefused("it has too many files", f"{len(names):,}", f"{MOST_MEMBERS:,}", "Unpack it.")
    return names


def packed_size_of(file: BinaryIO, packing: str, member: str) -> int:
    """The packed size of a file in bytes; 0 if it is not packed. Raises FileRefused for an encrypted one."""
    if packing != "zip":
        return os.fstat(file.fileno()).st_size if packing else 0
    import zipfile

    info = zipfile.ZipFile(file).getinfo(member)
    if info.flag_bits & 1:
        raise FileRefused("it is encrypted", "", "", "Unpack it with its password and give the unpacked file.")
    file.seek(0)
    return max(info.compress_size, 1)


def opened_bytes(
    file: BinaryIO, task: dict[str, Any], limits: Any, answer: MessageWriter
) -> tuple[io.BufferedReader, bytes]:
    """The bytes of a file, unpacked, and its beginning, which comes again in the bytes.

    Unless it is known to be `sound`, a packed file is unpacked once for its size and soundness alone, so that
    none of its rows are used before it is known to be whole.
    """
    packing, member = task["packing"], task["member"]
    packed_size = packed_size_of(file, packing, member)
    if packing and not task["sound"]:
        first = SizeMeter(unpacked(file, packing, member), packed_size, limits, answer)
        while first.pull(ONCE):
            pass
        file.seek(0)
    meter = SizeMeter(unpacked(file, packing, member), packed_size, limits, answer)
    head = b""
    while len(head) < HEAD and (more := meter.pull(HEAD - len(head))):
        head += more
    if not head.strip():
        raise FileRefused("it is empty", "no text", "", "Leave it out.")
    meter.head = head
    return io.BufferedReader(meter, 1 << 18), head


def opened(file: BinaryIO, task: dict[str, Any], limits: Any, answer: MessageWriter) -> tuple[io.TextIOWrapper, str]:
    """The text of a file (`opened_bytes`), decoded with its line ends as they are, and a look at its beginning.

    An encoding that is not UTF-8 is named in a note.
    """
    raw, head = opened_bytes(file, task, limits, answer)
    encoding = encoding_of(head)
    if encoding != "utf-8-sig":
        answer.say(note=f"read as {encoding.upper()}")
    codecs.register_error("pricesmith", Fallback(answer, encoding))
    text = io.TextIOWrapper(raw, encoding=encoding, errors="pricesmith", newline="")
    return text, head.decode(encoding, "replace")


def encoding_of(head: bytes) -> str:
    """UTF-8, or UTF-16 or UTF-32 by their signs. Raises FileRefused for what is no text."""
    if head.startswith((codecs.BOM_UTF32_LE, codecs.BOM_UTF32_BE)):
        return "utf-32"
    if head.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return "utf-16"
    pairs = len(head) // 2
    even, odd = head[0::2].count(0), head[1::2].count(0)
    if odd > 0.3 * pairs and even < 0.05 * pairs:
        return "utf-16-le"
    if even > 0.3 * pairs and odd < 0.05 * pairs:
        return "utf-16-be"
    if even + odd > 0.1 * len(head) or head.startswith((b"\x1f\x8b", b"\x28\xb5\x2f\xfd", b"PK\x03\x04", b"PAR1")):
        raise FileRefused("it is not text", f"{even + odd} NUL bytes at its start", "text", "Check what the file is.")
    return "utf-8-sig"


class Fallback:
    """Bytes that are not of the encoding are read as Windows-1252, which has Latin-1's letters; said once."""

    def __init__(self, answer: MessageWriter, encoding: str) -> None:
        self.answer, self.encoding, self.reported = answer, encoding, False

    def __call__(self, error: UnicodeError) -> tuple[str, int]:
        if not isinstance(error, UnicodeDecodeError):
            raise error
        if not self.reported:
            self.reported = True
            instead = "Windows-1252 (Latin-1)" if self.encoding == "utf-8-sig" else "the replacement character"
            name = "UTF-8" if self.encoding == "utf-8-sig" else self.encoding.upper()
            self.answer.say(note=f"some of it is not {name}; that was read as {instead}")
        if self.encoding != "utf-8-sig":
            return "\ufffd", error.end
        bad = error.object[error.start : error.end]
        return "".join(bytes([byte]).decode("cp1252", "ignore") or chr(byte) for byte in bad), error.end


def separator_of(head: str) -> str:
    """Comma, semicolon, tab or bar: the one that makes the widest even table of the first rows."""
    whole, _, rest = head[: HEAD // 2].rpartition("\n")
    sample = (whole or rest).splitlines(keepends=True)[:200]
    best, best_score = ",", 0.0
    for separator in SEPARATORS:
        try:
            rows = [row for row in itertools.islice(csv.reader(sample, delimiter=separator), 21) if row]
        except csv.Error:
            continue
        width = len(rows[0]) if rows else 0
        even = sum(len(row) == width for row in rows) / max(len(rows), 1)
        if width > 1 and width * even > best_score:
            best, best_score = separator, width * even
    return best


def looks_like_data(cells: list[str], shape: RowShape) -> bool:
    """Whether the first row of a file is a row like the others: numbers where they have numbers, and no name.

    Years (`name,2023,2024`) are names of columns. A cell that holds letters only in a column of numbers is a name.
    """
    texts = [cells[place].strip() for place in shape.numbers]
    filled = [text for text in texts if text]
    if not filled or not all(is_number(text) for text in filled) or all(YEAR.fullmatch(text) for text in filled):
        return False
    return not any(cell.strip().casefold().replace("_", " ") in HEADINGS for cell in cells)


def separated(text: io.TextIOWrapper, head: str, separator: str, limits: Any, answer: MessageWriter) -> None:
    """CSV or TSV, a row at a time. An empty `separator` is found in `head`, or from Excel's line `sep=;`."""
    if match := SAID.match(head):
        separator = match[1]
        text.readline()
    if not separator and (separator := separator_of(head)) != ",":
        answer.say(note=f"columns are separated by {separator!r}")
    csv.field_size_limit(8 * limits.cell)
    rows = CsvReader(text, separator, 4 * limits.cell)
    header: list[str] | None = None
    first: list[str] = []
    noted = False
    while (entry := rows.next()) is not None:
        if header is None:
            if isinstance(entry, str):
                raise FileRefused("its header cannot be read", entry, "", "Check its first line.")
            if not any(name.strip("\ufeff \t\x00") for name in entry):
                continue
            rows.shape = RowShape(len(entry), separator, head)
            first = [name.strip("\ufeff") for name in entry]
            if not looks_like_data(first, rows.shape):
                header = answer.header(entry)
                continue
            header = answer.header([f"column_{place}" for place in range(1, len(entry) + 1)])
            answer.say(note=f"its first row looks like data, so its columns are named column_1 to column_{len(entry)}")
            entry = first
        if rows.repaired and not noted:
            noted = True
            answer.say(note='some of its quotes are not CSV quotes (inch marks, or \\"); they are read as text')
        if isinstance(entry, str):
            answer.row(entry, 0)
        elif not entry or (len(entry) == 1 and not entry[0].strip() and len(header) > 1):
            answer.blank()
        elif not any(map(str.strip, entry)):
            answer.row(BLANK, 0)
        elif len(entry) != len(header):
            answer.row(WRONG_FIELDS, 0)
        elif rows.size > limits.cell and max(map(len, entry)) > limits.cell:
            answer.row(TOO_LARGE, 0)
        else:
            answer.row(entry, rows.size)
    if header is None:
        raise FileRefused("it is empty", "no header", "", "Leave it out.")
