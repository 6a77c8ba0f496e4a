"""Signals that end the app, even where its terminal is gone.

Without a handler, a signal would leave the terminal raw, with the mouse and the alternate screen on.
"""

from __future__ import annotations

import asyncio
import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType

SIGNALS = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]
GRACE_S = 3.0
WRITER = "textual-output"
"""Name of Textual's thread that writes to the terminal; it dies with the terminal."""


@contextmanager
def leaving_on_signals(leave: Callable[[], None]) -> Iterator[None]:
    """Call `leave` in the running event loop on a signal, and end the process if that does not end it.

    A loop that waits for a terminal that is gone never runs again, so the end must not depend on it.
    """
    loop = asyncio.get_running_loop()
    watchdogs: list[threading.Timer] = []

    def left(number: int, frame: FrameType | None) -> None:
        watchdog = threading.Timer(GRACE_S, os._exit, (128 + number,))
        watchdog.daemon = True
        watchdog.start()
        watchdogs.append(watchdog)
        loop.call_soon_threadsafe(leave)

    before = {}
    for number in SIGNALS:
        # Not in the main thread, or a signal that is ignored, as SIGHUP under nohup.
        with suppress(ValueError):
            if signal.getsignal(number) is not signal.SIG_IGN:
                before[number] = signal.signal(number, left)
    try:
        yield
    finally:
        for watchdog in watchdogs:
            watchdog.cancel()
        for number, handler in before.items():
            signal.signal(number, handler)


def terminal_gone(seen: bool) -> tuple[bool, bool]:
    """Return whether Textual's writer is there or was (`seen`), and whether it is gone since."""
    there = any(thread.name == WRITER for thread in threading.enumerate())
    return seen or there, seen and not there
