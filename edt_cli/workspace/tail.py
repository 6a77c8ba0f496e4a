"""Reader of an `events.jsonl` that another process writes, perhaps on another machine."""

from __future__ import annotations

import os
import time
from pathlib import Path

from edt_cli.workspace.event_types import Event, event_of

CHUNK = 1 << 18
LONGEST_LINE = 1 << 20
HEAD = 128
EVENTS = 2000
SECONDS = 0.05


class Tail:
    """Reader that returns the new events of a file at each `read`.

    An incomplete last line is left until it is complete; damaged and oversized lines are skipped. A file that was
    truncated or replaced is read again from its start. `restarts` counts these cases: the caller must then discard
    what it made of the earlier events.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.restarts = 0
        self.offsets: list[int] = []
        """Offset in the file of each event that the last `read` returned."""
        self._position = 0
        self._head = b""
        self._rest = b""
        self._skipping = False

    def read(self, events: int = EVENTS, seconds: float = SECONDS) -> tuple[list[Event], bool]:
        """Read about `events` events in about `seconds`, and say whether more are waiting."""
        found: list[Event] = []
        self.offsets = []
        deadline = time.monotonic() + seconds
        try:
            with self.path.open("rb") as file:
                size = os.fstat(file.fileno()).st_size
                # Compare the start of the file, which holds the time of its first event: inode numbers are reused.
                if size < self._position or file.read(len(self._head)) != self._head:
                    self._position, self._rest, self._head, self._skipping = 0, b"", b"", False
                    self.restarts += 1
                file.seek(self._position)
                while len(found) < events and time.monotonic() < deadline:
                    chunk = file.read(CHUNK)
                    if not chunk:
                        return found, False
                    if not self._position:
                        self._head = chunk[:HEAD]
                    self._position += len(chunk)
                    found += self._events(chunk)
        except OSError:
            return found, False
        return found, self._position < size

    def _events(self, chunk: bytes) -> list[Event]:
        found: list[Event] = []
        offset = self._position - len(chunk) - len(self._rest)
        *lines, rest = (self._rest + chunk).split(b"\n")
        for line in lines:
            event = event_of(line) if len(line) <= LONGEST_LINE and not self._skipping else None
            if event is not None:
                found.append(event)
                self.offsets.append(offset)
            self._skipping = False
            offset += len(line) + 1
        if len(rest) > LONGEST_LINE:
            rest, self._skipping = b"", True
        self._rest = rest
        return found
