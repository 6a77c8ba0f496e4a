"""Locks of questions, so that two processes do not pay for the same one."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from edt_backends.sqlite import writable

DIGITS = 3
"""Digits of a key that name its file: of 4,096 files few are held for two questions at a time."""
POLL_SECONDS = 0.1


class QuestionLocks:
    """Locks of files in a folder, by the first digits of a key; a process that dies gives up its own."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    @asynccontextmanager
    async def hold(self, key: str, waiting: Callable[[], None] = lambda: None) -> AsyncIterator[None]:
        """Hold a key, and wait while another process has it; without a folder to write to nothing is held.

        Args:
            key: The key, in hexadecimal digits.
            waiting: Function that is called while it waits; it may raise to end the wait.
        """
        if not writable(self._folder):
            yield
            return
        self._folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(self._folder / key[:DIGITS], thread_local=False)
        while True:
            try:
                lock.acquire(timeout=0)
                break
            except Timeout:
                waiting()
                await asyncio.sleep(POLL_SECONDS)
        try:
            yield
        finally:
            lock.release()
