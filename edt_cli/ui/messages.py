"""What panes and screens post upwards: they know neither the screen nor the app that they are in."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from textual.message import Message

from edt_cli.ui.library import RunRow


@dataclass
class OpenRun(Message):
    """Show the run in `folder` on a screen of its own."""

    folder: Path


@dataclass
class ShowUsers(Message):
    """The users of `data`, with the artefacts of `row`, else of its newest finished LLM-EDT run."""

    data: str
    row: RunRow | None = None


class MarksChanged(Message):
    """Other runs are marked than before."""


@dataclass
class Spent(Message):
    """What the replies in the cache cost."""

    usd: float


class Polled(Message):
    """A run was read once more."""
