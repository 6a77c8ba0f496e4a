"""The log of a run or job, kept whole: where its lines are in their files. Their text is read when it is shown."""

from __future__ import annotations

import json
from array import array
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, suppress
from functools import lru_cache
from pathlib import Path
from typing import BinaryIO, NamedTuple

from edt_cli.ui.text import safe
from edt_cli.workspace.tail import LONGEST_LINE

LONGEST_TEXT = 500


class Place(NamedTuple):
    """Where a line of a log is: its file, and the offset of its event there."""

    path: Path
    offset: int


class Log:
    """Lines of several files in the order of their times; each takes 17 bytes, however long it is."""

    def __init__(self) -> None:
        self.moved = 0
        """Number of times that lines, once added, got other numbers."""
        self._times, self._offsets, self._files = array("d"), array("Q"), array("B")
        self._paths: list[Path] = []

    def __len__(self) -> int:
        return len(self._times)

    def add(self, path: Path, moment: float, offset: int) -> None:
        """Add the line of an event; mostly it is the newest."""
        if path not in self._paths:
            self._paths.append(path)
        at = len(self) if not self or moment >= self._times[-1] else bisect_right(self._times, moment)
        self.moved += at < len(self)
        self._times.insert(at, moment)
        self._offsets.insert(at, offset)
        self._files.insert(at, self._paths.index(path))

    def forget(self, path: Path) -> None:
        """Remove the lines of a file, which was replaced."""
        kept = [n for n in range(len(self)) if self._paths[self._files[n]] != path]
        for name in ("_times", "_offsets", "_files"):
            values = getattr(self, name)
            setattr(self, name, array(values.typecode, (values[n] for n in kept)))
        self.moved += 1
        _text.cache_clear()

    def places(self, begin: int, end: int) -> list[Place]:
        """Return where some lines are, by their numbers."""
        return [Place(self._paths[self._files[n]], self._offsets[n]) for n in range(begin, min(end, len(self)))]

    def line(self, number: int) -> tuple[float, str]:
        """Return the time and the text of a line."""
        (place,) = self.places(number, number + 1)
        return self._times[number], _text(place)


@lru_cache(1000)
def _text(place: Place) -> str:
    return safe(next(messages([place])), LONGEST_TEXT)


def messages(places: Sequence[Place]) -> Iterator[str]:
    """Yield the messages of lines as they are in their files; what cannot be read any more has none."""
    with ExitStack() as opened:
        files: dict[Path, BinaryIO] = {}
        for path in {place.path for place in places}:
            with suppress(OSError):
                files[path] = opened.enter_context(path.open("rb"))
        for path, offset in places:
            message: object = ""
            if path in files:
                files[path].seek(offset)
                # A file may have been replaced since: then there is something else, or nothing.
                with suppress(ValueError, TypeError, KeyError):
                    message = json.loads(files[path].readline(LONGEST_LINE))["message"]
            yield message if isinstance(message, str) else ""
