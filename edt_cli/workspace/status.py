"""Status of a run or a job, from its folder alone."""

from __future__ import annotations

import json
from enum import StrEnum
from pathlib import Path

from edt_cli.workspace.layout import MANIFEST

TAIL_BYTES = 4096


class RunStatus(StrEnum):
    """Status of a run or a job.

    SILENT means that the process is gone without a final event, DAMAGED that the folder's files cannot be read.
    """

    STARTING = "starting"
    WORKING = "working"
    TRAINING = "training"
    PAUSED = "paused"
    STOPPED = "stopped"
    FAILED = "failed"
    SILENT = "silent"
    FINISHED = "finished"
    DAMAGED = "damaged"

    @property
    def ended(self) -> bool:
        """Whether the run or job is over."""
        return self in (RunStatus.FINISHED, RunStatus.FAILED, RunStatus.STOPPED)

    @property
    def live(self) -> bool:
        """Whether a process is making the run."""
        return self in (RunStatus.WORKING, RunStatus.TRAINING, RunStatus.PAUSED)


def status_of(folder: Path) -> RunStatus:
    """Return the status of a run; a folder that cannot be read is damaged, never an error."""
    # The command line needs the names alone, at its start.
    from edt_cli.workspace.jobs import alive, heartbeat

    if (folder / MANIFEST).is_file():
        return RunStatus.FINISHED if _readable(folder / MANIFEST) else RunStatus.DAMAGED
    beat, last = heartbeat(folder), last_event(folder)
    if alive(beat):
        if last == "paused":
            return RunStatus.PAUSED
        return RunStatus.WORKING if last in ("", "run") else RunStatus.TRAINING
    if last in ("stopped", "failed"):
        return RunStatus(last)
    return RunStatus.SILENT if beat or last else RunStatus.STARTING


def last_event(folder: Path) -> str:
    """Return the kind of the last readable event, or "" if there is none."""
    try:
        with (folder / "events.jsonl").open("rb") as file:
            file.seek(max(0, file.seek(0, 2) - TAIL_BYTES))
            lines = file.read().split(b"\n")[:-1]
    except OSError:
        return ""
    for line in reversed(lines):
        try:
            return str(json.loads(line)["event"])
        except (ValueError, KeyError, TypeError):
            continue
    return ""


def _readable(path: Path) -> bool:
    try:
        return isinstance(json.loads(path.read_bytes()), dict)
    except (OSError, ValueError):
        return False
