"""The tail of an `events.jsonl` that another process writes, maybe on another machine."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

CHUNK = 1 << 18
LONGEST_LINE = 1 << 20
HEAD = 128
RECORDS = 2000
SECONDS = 0.05


class Tail:
    """New whole records at each `read`. A torn last line is the end of the file until it is whole; a damaged or a
    monstrous line is passed over. A file that was truncated or replaced begins anew: `restarts` counts that, and
    whoever folded the records must forget them."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.restarts = 0
        self._place = 0
        self._head = b""
        self._rest = b""
        self._skipping = False

    def read(self, records: int = RECORDS, seconds: float = SECONDS) -> tuple[list[dict[str, Any]], bool]:
        """At most `records` records in about `seconds`, and whether more are waiting."""
        found: list[dict[str, Any]] = []
        until = time.monotonic() + seconds
        try:
            with self.path.open("rb") as file:
                size = os.fstat(file.fileno()).st_size
                # An inode number may come again, how a file begins (its first event has a time) does not.
                if size < self._place or file.read(len(self._head)) != self._head:
                    self._place, self._rest, self._head, self._skipping = 0, b"", b"", False
                    self.restarts += 1
                file.seek(self._place)
                while len(found) < records and time.monotonic() < until:
                    chunk = file.read(CHUNK)
                    if not chunk:
                        return found, False
                    if not self._place:
                        self._head = chunk[:HEAD]
                    self._place += len(chunk)
                    found += self._records(chunk)
        except OSError:
            return found, False
        return found, self._place < size

    def _records(self, chunk: bytes) -> list[dict[str, Any]]:
        *lines, rest = (self._rest + chunk).split(b"\n")
        if lines and self._skipping:
            lines, self._skipping = lines[1:], False
        if len(rest) > LONGEST_LINE:
            rest, self._skipping = b"", True
        self._rest = rest
        return [record for line in lines if (record := _record(line)) is not None]


def _record(line: bytes) -> dict[str, Any] | None:
    if len(line) > LONGEST_LINE:
        return None
    try:
        record = json.loads(line)
    except ValueError:
        return None
    return record if isinstance(record, dict) and isinstance(record.get("event"), str) else None
