"""Memory that batches of different lengths leave behind: glibc keeps it, in pieces that the next may not fit."""

from __future__ import annotations

import ctypes
from functools import cache
from typing import Any

HELD = 1 << 29
"""Bytes that may be held for the next step. To give back less costs as much time as it saves memory."""


class _Counts(ctypes.Structure):
    """struct mallinfo2 of malloc.h."""

    _fields_ = [
        (name, ctypes.c_size_t)
        for name in (
            *("arena", "ordblks", "smblks", "hblks", "hblkhd"),
            *("usmblks", "fsmblks", "uordblks", "fordblks", "keepcost"),
        )
    ]


@cache
def _library() -> Any:
    """The C library where it is glibc 2.33 or newer, else None: elsewhere nothing is done."""
    try:
        library = ctypes.CDLL("libc.so.6")
        library.mallinfo2.restype = _Counts
        library.malloc_trim.argtypes = [ctypes.c_size_t]
    except (OSError, AttributeError):
        return None
    return library


def give_back() -> None:
    """To be called between steps, when nothing of a batch is alive: hands back what is free, if it is much."""
    library = _library()
    if library is not None and library.mallinfo2().fordblks > HELD:
        library.malloc_trim(0)
