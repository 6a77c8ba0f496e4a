"""What can be done with a run in each status, and the keys for it."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from textual.binding import Binding

from edt_cli.workspace.status import RunStatus


@dataclass(frozen=True)
class Act:
    """Something that can be done.

    Attributes:
        key: Its key.
        about: What it does, in the footer and in the help.
        states: States of a run in which it can be done.
        shown: Whether the footer has it.
    """

    key: str
    about: str
    states: frozenset[RunStatus]
    shown: bool = False


EVERY = frozenset(RunStatus)
READABLE = EVERY - {RunStatus.DAMAGED}
LIVE = frozenset(status for status in RunStatus if status.live)
BROKEN_OFF = frozenset({RunStatus.STOPPED, RunStatus.FAILED, RunStatus.SILENT})
ACTS = {
    "new": Act("n", "New run", EVERY, shown=True),
    "stop": Act("x", "Stop", LIVE | {RunStatus.STARTING}, shown=True),
    "resume": Act("r", "Resume", BROKEN_OFF, shown=True),
    "repeat": Act("R", "Repeat with changes", READABLE),
    "delete": Act("delete,X", "Delete", EVERY - LIVE),
    "copy": Act("y", "Copy the command", READABLE),
    "note": Act("e", "Edit the note", READABLE),
    "rename": Act("N", "Name it", READABLE),
    "tag": Act("T", "Edit the tags", READABLE),
}


def act_bindings(*names: str) -> list[Binding]:
    """Return the bindings of acts, for a widget with an action `act`."""
    return [
        Binding(
            act.key,
            f"act('{name}')",
            act.about,
            show=act.shown,
            key_display=act.key if len(act.key) == 1 else None,
        )
        for name, act in ACTS.items()
        if name in names
    ]


def possible(name: str, statuses: Collection[RunStatus]) -> bool:
    """Return whether an act can be done with runs of some statuses; a new run needs none."""
    return name == "new" or (bool(statuses) and all(status in ACTS[name].states for status in statuses))
