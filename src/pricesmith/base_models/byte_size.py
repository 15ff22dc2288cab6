"""Amounts of memory as people write them.

>>> read_size("24GB"), read_size("24 GiB")
(24000000000, 25769803776)
>>> told(25769803776)
'25.8 GB'
"""

from __future__ import annotations

import re

from pricesmith.core.errors import UsageError

UNITS = {
    "B": 1,
    "KB": 10**3,
    "MB": 10**6,
    "GB": 10**9,
    "TB": 10**12,
    "KIB": 2**10,
    "MIB": 2**20,
    "GIB": 2**30,
    "TIB": 2**40,
}
AMOUNT = re.compile(r"\s*(\d+(?:\.\d+)?)\s*([A-Za-z]*)\s*")
MOST = 10**15


def parse_size(text: str) -> int:
    """An amount of memory in bytes. Raises UsageError where it has no number, no unit, or is none that a box has."""
    found = AMOUNT.fullmatch(text)
    unit = found[2].upper() if found else ""
    if found is None or unit not in UNITS:
        raise UsageError(
            "This is not an amount of memory" if found is None or unit else "An amount of memory needs its unit",
            got=repr(text)[:80],
            allowed="a number and GB or GiB (also MB, MiB, TB, TiB)",
            hint="For example --memory 24GB",
        )
    size = round(float(found[1]) * UNITS[unit])
    if not 10**6 <= size <= MOST:
        raise UsageError(
            "No box has this amount of memory", got=repr(text)[:80], allowed="1 MB to 1,000 TB", hint="Check the unit."
        )
    return size


def format_size(size: float) -> str:
    """Bytes for a person: gigabytes of 10^9, with as many digits as mean something."""
    return f"{size / 1e9:,.1f} GB" if size >= 1e9 else f"{size / 1e6:,.0f} MB"
