"""Finds the few of many texts that cleaning may change, so that all others pass through untouched.

    >>> find_unclean(["Garden hose"] * 60 + ["Garden&nbsp;hose", "", " a lamp"], lines=False)
    [60, 62]

`clean.plain_text` says what clean text is. This says only for which texts it need not be asked.
"""

from __future__ import annotations

from collections.abc import Sequence

NUL, NEWLINE, SPACE, AMPERSAND, LESS, DELETE = 0x00, 0x0A, 0x20, 0x26, 0x3C, 0x7F
FEWEST_TEXTS = 50  # fewer are looked at one by one, which is quicker


def find_unclean(texts: Sequence[str], *, lines: bool) -> list[int]:
    """The places of texts that `plain_text` may change. All others are ASCII without markup and control characters, and
    with single spaces; with `lines`, also single line breaks."""
    if len(texts) < FEWEST_TEXTS:
        return list(range(len(texts)))
    import numpy as np

    whole = "\0".join(texts)
    if whole.count("\0") != len(texts) - 1:
        return list(range(len(texts)))
    data = np.frombuffer(f"\0{whole}\0".encode(errors="surrogatepass"), dtype=np.uint8)
    is_end = data == NUL
    is_odd = (data < SPACE) & ~is_end
    is_blank = (data == SPACE) | is_end
    if lines:
        is_break = data == NEWLINE
        is_odd &= ~is_break
        is_blank |= is_break
    is_odd |= (data >= DELETE) | (data == AMPERSAND) | (data == LESS)
    is_odd[1:] |= is_blank[:-1] & is_blank[1:] & ~(is_end[:-1] & is_end[1:])
    ends = np.flatnonzero(is_end)[1:]
    places: list[int] = np.unique(np.searchsorted(ends, np.flatnonzero(is_odd))).tolist()
    return places
