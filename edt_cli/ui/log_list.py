"""List of the lines of a log, of any length."""

from __future__ import annotations

import asyncio
import time
from array import array
from collections.abc import Sequence

from edt_cli.ui.listing import Listing
from edt_cli.ui.log import Log, Place, messages
from edt_cli.ui.rows import Col, Rows
from edt_cli.ui.text import safe
from edt_cli.ui.tones import Tinted, muted

SEARCHED_AT_ONCE = 5000
"""Lines after which a search shows what it has found."""
COLUMNS = [Col("time", 8), Col("what", 60, grow=True)]


class LogList(Listing):
    """A log as a list that follows its end while the cursor is there; a search goes through the whole file."""

    def __init__(self, empty: str) -> None:
        super().__init__(empty)
        self.told = Log()
        """The lines."""
        self.errors: Sequence[str] = ()
        self._known: object = None
        self._moved = 0
        self._found = array("Q")
        self._searched = 0

    def follow(self, log: Log, errors: Sequence[str]) -> None:
        """Show a log, and below it the traceback of a run that failed, if there are more lines than before."""
        known = (len(log), log.moved, len(errors))
        if known != self._known:
            self._known, self.told, self.errors = known, log, errors
            if self._moved != log.moved:
                self._moved, self._found, self._searched = log.moved, array("Q"), 0
            self._draw()
            self._search()

    def _filter(self, text: str | None) -> None:
        if text is not None and text != self.text:
            self.text, self._found, self._searched = text, array("Q"), 0
            self._draw()
            self._search()

    def _draw(self) -> None:
        rows = self.query_one(Rows)
        at_end = rows.cursor >= rows.count - 1
        words = self.text.casefold().split()
        errors = [error for error in self.errors if _has(words, error)]
        numbers: Sequence[int] = self._found if words else range(len(self.told))

        def cells(row: int) -> tuple[str, ...]:
            if row >= len(numbers):
                return ("", Tinted(errors[row - len(numbers)], "bad"))
            moment, text = self.told.line(numbers[row])
            return (muted(time.strftime("%H:%M:%S", time.localtime(moment))), text)

        self.line_of = cells
        rows.empty = f"no line has {safe(self.text, 100)!r} in it" if words and self.told else self.empty
        rows.load(COLUMNS, len(numbers) + len(errors), cells)
        if at_end:
            rows.action_go(-1)

    def _search(self) -> None:
        if self.text:
            self.run_worker(self._find(self.text.casefold().split()), exclusive=True, group="search")

    async def _find(self, words: list[str]) -> None:
        """Look through what was not searched yet, in another thread."""
        while self._searched < len(self.told):
            begin = self._searched
            places = self.told.places(begin, begin + SEARCHED_AT_ONCE)
            found = await asyncio.to_thread(_matching, places, words)
            self._found.extend(begin + n for n in found)
            self._searched = begin + len(places)
            self._draw()


def _matching(places: Sequence[Place], words: Sequence[str]) -> list[int]:
    """Return the numbers of the places whose lines have all words."""
    return [number for number, text in enumerate(messages(places)) if _has(words, text)]


def _has(words: Sequence[str], text: str) -> bool:
    folded = text.casefold()
    return all(word in folded for word in words)
