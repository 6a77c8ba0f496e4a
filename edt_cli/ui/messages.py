"""Messages from panes and screens, which do not know the screen or app that they are in."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from textual.message import Message

from edt_cli.inference.listing import RunRow


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
