"""Memory that batches of different lengths leave behind: glibc keeps it, in pieces that the next may not fit."""

from __future__ import annotations

import ctypes
from typing import Any

import psutil

HELD = 1 << 29
"""Bytes that a process may grow by first: to give back less costs as much time as it saves memory."""


class Heap:
    """Of this process, where it is glibc's; elsewhere nothing is done."""

    def __init__(self) -> None:
        self._library = _glibc()
        self._process = psutil.Process()
        self._least = self._process.memory_info().rss

    def give_back(self) -> None:
        """To be called between steps, when nothing of a batch is alive: hands back what is free, if it is much."""
        if self._library is None:
            return
        resident = self._process.memory_info().rss
        if resident > self._least + HELD:
            self._library.malloc_trim(0)
            # What is alive does not count: it would be sought again at every step.
            self._least = self._process.memory_info().rss
        else:
            self._least = min(self._least, resident)


def _glibc() -> Any:
    try:
        library = ctypes.CDLL("libc.so.6")
        library.malloc_trim.argtypes = [ctypes.c_size_t]
    except (OSError, AttributeError):
        return None
    return library
