"""A job is one process at work (`edt train`, `edt augment`, `edt profile`), with a folder that tells of it.

<workspace>/jobs/<time>-<command>-<data>-<pid>/ holds events.jsonl, heartbeat.json and control.json like a run's
folder, for what comes before a run has one, and says which runs follow; and what a detached process wrote.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from itertools import count
from pathlib import Path
from types import FrameType
from typing import Any

from edt_cli.workspace.events import Events, Request, Stopped
from edt_cli.workspace.layout import Workspace, write_json

ENVIRONMENT = "EDT_JOB"
OUTPUT, ERRORS = "stdout.txt", "stderr.txt"
KEPT = 100
SILENT_S = 60.0


def jobs_of(workspace: Workspace) -> list[Path]:
    """Folders of jobs, the oldest first."""
    return sorted(workspace.jobs.iterdir()) if workspace.jobs.is_dir() else []


def new_folder(workspace: Workspace, command: str, data: str) -> Path:
    """Also forgets all but the newest jobs, those still at work excepted."""
    name = re.sub(r"[^\w.-]", "-", data)[:40]
    stem = f"{time.strftime('%Y%m%d-%H%M%S')}-{command}-{name}-{os.getpid()}"
    workspace.jobs.mkdir(parents=True, exist_ok=True)
    for number in count(1):
        folder = workspace.jobs / (stem if number == 1 else f"{stem}-{number}")
        with suppress(FileExistsError):
            folder.mkdir()
            break
    for old in jobs_of(workspace)[:-KEPT]:
        if not alive(heartbeat(old)):
            shutil.rmtree(old, ignore_errors=True)
    return folder


@contextmanager
def at_work(workspace: Workspace, command: str, data: str, **facts: Any) -> Iterator[Events]:
    """The events of this process, in the folder that `launch` made for it or in a new one; says how it ended.
    SIGTERM ends it like Ctrl-C, so that it can still say so."""
    given = os.environ.pop(ENVIRONMENT, None)
    folder = Path(given) if given else new_folder(workspace, command, data)
    events = Events(folder)
    events.emit("job", command=command, data=data, pid=os.getpid(), host=socket.gethostname(), **facts)
    events.progress("starting", 0, 1)
    with suppress(ValueError):  # not the main thread
        signal.signal(signal.SIGTERM, _interrupted)
    try:
        yield events
    except (KeyboardInterrupt, Stopped):
        events.emit("ended", outcome="stopped")
        raise
    except BaseException as error:
        # An error that is not ours is a defect: its class belongs to it.
        known = type(error).__module__.startswith("edt_")
        text = str(error) if known else f"{type(error).__name__}: {error}"
        events.emit("ended", outcome="failed", error=(text.splitlines() or [""])[0][:500])
        raise
    events.emit("ended", outcome="finished")


def _interrupted(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


class Launched:
    """A job that this process began."""

    def __init__(self, folder: Path, process: subprocess.Popen[bytes]) -> None:
        self.folder = folder
        self._process = process

    def code(self) -> int | None:
        """Its exit status, None while it is at work."""
        return self._process.poll()

    def last_words(self) -> str:
        """The last line that it had for its errors, or the signal that ended it."""
        code, errors = self.code() or 0, (self.folder / ERRORS).read_text("utf-8", "replace").split("\n")
        return next((line for line in reversed(errors) if line.strip()), f"ended by signal {-code}")

    def end(self) -> None:
        """Ask it to stop at once, and wait until it has."""
        self._process.terminate()
        self._process.wait()


def launch(
    workspace: Workspace,
    command: str,
    data: str,
    arguments: Sequence[str],
    width: int,
    environment: Mapping[str, str] | None = None,
) -> Launched:
    """The same command as a process and a session of its own, without a view: closing a terminal, a lost connection
    and a crash of the view leave it at work. What it prints goes to its folder, `width` cells wide."""
    folder = new_folder(workspace, command, data)
    environment = {**os.environ, **(environment or {}), ENVIRONMENT: str(folder), "COLUMNS": str(width)}
    with (folder / OUTPUT).open("wb") as out, (folder / ERRORS).open("wb") as err:
        process = subprocess.Popen(
            [sys.executable, "-m", "edt_cli", *arguments, "--no-ui", "--yes"],
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=err,
            env=environment,
            start_new_session=True,
        )
    return Launched(folder, process)


def ask(folders: Sequence[Path], request: Request) -> None:
    """Put a request where the process at work looks for it."""
    for folder in folders:
        if folder.is_dir():
            write_json(folder / "control.json", {"request": request})


def heartbeat(folder: Path) -> dict[str, Any]:
    """The last sign of life; empty where there is none."""
    try:
        found = json.loads((folder / "heartbeat.json").read_bytes())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def alive(beat: dict[str, Any]) -> bool:
    """Whether the process behind a heartbeat is there: on this machine by asking for it, else by the beat's age."""
    moment, pid = beat.get("time"), beat.get("pid")
    if not isinstance(moment, int | float) or not isinstance(pid, int):
        return False
    if beat.get("host") != socket.gethostname():
        return time.time() - moment < SILENT_S
    import psutil

    try:
        process = psutil.Process(pid)
        # Born after the beat: another process that was given the same number.
        same: bool = process.status() != psutil.STATUS_ZOMBIE and process.create_time() <= moment + 1
        return same
    except psutil.Error:
        return False
