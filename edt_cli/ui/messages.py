"""Messages from panes and screens, which do not know the screen or app that they are in."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from textual.message import Message

from edt_cli.inference.listing import RunRow

if TYPE_CHECKING:
    from edt_cli.reporting.figure import Figure
    from edt_cli.reporting.table import Table


@dataclass
class OpenRun(Message):
    """Request to show the run in `folder` on a separate screen."""

    folder: Path


@dataclass
class ShowUsers(Message):
    """Request to show the users of `data`, with the artefacts of `row` or of its newest finished LLM-EDT run."""

    data: str
    row: RunRow | None = None


class MarksChanged(Message):
    """Notice that the marked runs have changed."""


class Polled(Message):
    """Notice that a run was read again."""


@dataclass
class Export(Message):
    """Request to write what `make` returns to a file; `name` is what it may be called."""

    make: Callable[[], Table | Figure]
    name: str


@dataclass
class Act(Message):
    """Request to do something, by a name of `act_keys.ACTS`, with the runs or jobs in `folders`."""

    name: str
    folders: Sequence[Path] = ()
