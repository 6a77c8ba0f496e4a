"""Colours by meaning: a tone is the name of a theme's colour that text is drawn in."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Self

from textual.content import Content

from edt_cli.workspace.status import RunStatus

TONES = ("good", "live", "warn", "bad", "muted", "accent", *(f"series-{number}" for number in range(8)))
"""`series-0` to `series-3` are those of domains, in their order."""
RUNS = (4, 5, 6, 2, 3, 0, 1, 7)
"""Numbers of the colours of runs beside each other: those that domains have come last."""
MEAN = 7
"""Number of the colour of a mean over domains."""
OF_STATUS = {
    RunStatus.FINISHED: "good",
    RunStatus.TRAINING: "live",
    RunStatus.WORKING: "live",
    RunStatus.STARTING: "live",
    RunStatus.PAUSED: "warn",
    RunStatus.STOPPED: "warn",
    RunStatus.FAILED: "bad",
    RunStatus.SILENT: "bad",
    RunStatus.DAMAGED: "bad",
}
SIGNS = {
    RunStatus.FINISHED: "v",
    RunStatus.TRAINING: ">",
    RunStatus.WORKING: ">",
    RunStatus.STARTING: ".",
    RunStatus.PAUSED: "=",
    RunStatus.STOPPED: "o",
    RunStatus.FAILED: "x",
    RunStatus.SILENT: "?",
    RunStatus.DAMAGED: "!",
}
"""Sign of each status, shown beside its word so that nothing depends on colour alone."""


class Tinted(str):
    """Text with a tone, and perhaps bold."""

    tone: str
    bold: bool

    def __new__(cls, text: object, tone: str = "", *, bold: bool = False) -> Self:
        tinted = super().__new__(cls, text)
        tinted.tone, tinted.bold = tone, bold
        return tinted


def sign(status: RunStatus) -> Tinted:
    """Return a status as its sign and word, in its colour."""
    return Tinted(f"{SIGNS[status]} {status}", OF_STATUS[status])


def domain_tone(number: int) -> str:
    """Return the tone of a domain by its position in its dataset."""
    return f"series-{number % 4}"


def muted(text: object) -> Tinted:
    return Tinted(text, "muted")


def join(*parts: str) -> Content:
    """Return parts in one line, each in its tone."""
    return Content.assemble(*(_styled(part) for part in parts))


def lines(rows: Sequence[Sequence[str] | str]) -> Content:
    """Return lines of parts, each part in its tone."""
    contents = [_line(row) for row in rows]
    return Content("\n").join(contents)


def _line(row: Sequence[str] | str) -> Content:
    return join(row) if isinstance(row, str) else join(*row)


def _styled(part: str) -> str | tuple[str, str]:
    if not isinstance(part, Tinted):
        return (str(part), "")
    colour = f"$tone-{part.tone}" if part.tone else ""
    return (str(part), f"bold {colour}".strip() if part.bold else colour)
