"""Jobs: processes of `edt train`, `edt augment` and `edt profile`, each with a folder of its events.

<workspace>/jobs/<time>-<command>-<data>-<pid>/ holds events.jsonl, heartbeat.json and control.json like the folder
of a run. They cover the steps before a run has a folder, and name the runs that follow. The folder also holds the
command (command.json) and the output of a detached process.
"""

from __future__ import annotations

import ctypes
import json
import os
import re
import shlex
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
from typing import Any

from edt_cli.config import UserError
from edt_cli.workspace.event_types import JobBegun, JobEnded
from edt_cli.workspace.events import Events, Request, Stopped
from edt_cli.workspace.layout import Workspace, json_object, write_json
from edt_cli.workspace.provenance import without_secrets

ENVIRONMENT = "EDT_JOB"
COMMAND, OUTPUT, ERRORS = "command.json", "stdout.txt", "stderr.txt"
KEPT = 100
SILENT_S = 60.0
UNASKED, VIEWLESS = ("--no-ui", "--yes"), ("search",)
"""Flags of a detached process, which commands that neither open a view nor ask do not have."""
OBEDIENT = ("train", "augment", "profile")
"""Commands whose processes look for requests; others are ended by a signal."""


def jobs_of(workspace: Workspace) -> list[Path]:
    """Return the folders of all jobs, oldest first."""
    return sorted(workspace.jobs.iterdir()) if workspace.jobs.is_dir() else []


def new_folder(workspace: Workspace, command: str, data: str, arguments: Sequence[str]) -> Path:
    """Create the folder of a new job with its command, and remove those of old jobs.

    The newest `KEPT` jobs and those that still run are kept.
    """
    name = re.sub(r"[^\w.-]", "-", data)[:40]
    stem = f"{time.strftime('%Y%m%d-%H%M%S')}-{command}-{name}-{os.getpid()}"
    workspace.jobs.mkdir(parents=True, exist_ok=True)
    for number in count(1):
        folder = workspace.jobs / (stem if number == 1 else f"{stem}-{number}")
        with suppress(FileExistsError):
            folder.mkdir()
            break
    write_json(folder / COMMAND, {"argv": without_secrets(arguments)})
    for old in jobs_of(workspace)[:-KEPT]:
        if not alive(heartbeat(old)):
            shutil.rmtree(old, ignore_errors=True)
    return folder


@contextmanager
def at_work(workspace: Workspace, command: str, data: str, **facts: Any) -> Iterator[Events]:
    """Yield the events of this process, and report at the end how it ended.

    They are written to the folder that `launch` made for this process, or to a new one.
    """
    given = os.environ.pop(ENVIRONMENT, None)
    folder = Path(given) if given else new_folder(workspace, command, data, sys.argv[1:])
    events = Events(folder)
    events.emit(JobBegun(command=command, data=data, pid=os.getpid(), host=socket.gethostname(), **facts))
    events.progress("starting", 0, 1)
    try:
        yield events
    except (KeyboardInterrupt, Stopped):
        events.emit(JobEnded(outcome="stopped"))
        raise
    except BaseException as error:
        # Any other error is a defect; its class helps to find it.
        known = type(error).__module__.startswith("edt_")
        text = str(error) if known else f"{type(error).__name__}: {error}"
        with suppress(UserError):  # a full disk, and that is the error already
            events.emit(JobEnded(outcome="failed", error=(text.splitlines() or [""])[0][:500]))
        raise
    events.emit(JobEnded(outcome="finished"))


class Launched:
    """A job that this process launched."""

    def __init__(self, folder: Path, process: subprocess.Popen[bytes]) -> None:
        self.folder = folder
        self._process = process

    def code(self) -> int | None:
        """Return the exit status, or None while the job is running."""
        return self._process.poll()

    def last_words(self) -> str:
        """Return the last line of its standard error, or the signal that ended it."""
        code, errors = self.code() or 0, (self.folder / ERRORS).read_text("utf-8", "replace").split("\n")
        return next((line for line in reversed(errors) if line.strip()), f"ended by signal {-code}")

    def end(self) -> None:
        """Ask the job to stop at once, and wait for its end."""
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
    """Run the same command as a detached process in its own session, without a user interface.

    It goes on if the terminal is closed, the connection is lost or the user interface crashes. Its output is
    written to its folder, `width` cells wide.
    """
    return start(new_folder(workspace, command, data, arguments), arguments, width, environment)


def start(
    folder: Path,
    arguments: Sequence[str],
    width: int,
    environment: Mapping[str, str] | None = None,
    *,
    outlives: bool = True,
) -> Launched:
    """Run a command as `launch` does, as the job of a folder that there is.

    If it is not to outlive this process, it is ended, on Linux, when this process is killed.
    """
    environment = {**os.environ, **(environment or {}), ENVIRONMENT: str(folder), "COLUMNS": str(width)}
    with (folder / OUTPUT).open("wb") as out, (folder / ERRORS).open("wb") as err:
        process = subprocess.Popen(
            [sys.executable, "-m", "edt_cli", *arguments, *([] if arguments[0] in VIEWLESS else UNASKED)],
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=err,
            env=environment,
            start_new_session=True,
            preexec_fn=None if outlives or sys.platform != "linux" else _end_with_parent,
        )
    return Launched(folder, process)


def _end_with_parent() -> None:
    """Ask Linux to send this process SIGTERM when its parent is gone."""
    pr_set_pdeathsig = 1
    ctypes.CDLL(None).prctl(pr_set_pdeathsig, signal.SIGTERM)


def arguments_of(folder: Path) -> list[str]:
    """Return the arguments of a job's command without secrets, [] if they are not known."""
    argv = (json_object(folder / COMMAND) or {}).get("argv")
    return [str(word) for word in argv] if isinstance(argv, list) else []


def command_of(folder: Path) -> str:
    """Return the command of a job as one would type it, or "" if it is not known."""
    return as_typed(arguments_of(folder))


def as_typed(arguments: Sequence[str]) -> str:
    """Return a command of `edt` as one would type it, or "" without arguments."""
    return shlex.join(["edt", *arguments]) if arguments else ""


def interrupt(folder: Path) -> bool:
    """End the process of a job as Ctrl-C does, and return whether it is on this machine."""
    beat = heartbeat(folder)
    if beat.get("host") != socket.gethostname() or not alive(beat):
        return False
    with suppress(ProcessLookupError):
        os.kill(beat["pid"], signal.SIGTERM)
    return True


def ask(folders: Sequence[Path], request: Request) -> None:
    """Write a request to the folders of running processes, which look for it there."""
    for folder in folders:
        if folder.is_dir():
            write_json(folder / "control.json", {"request": request})


def heartbeat(folder: Path) -> dict[str, Any]:
    """Return the last heartbeat, or {} if there is none."""
    try:
        beat = json.loads((folder / "heartbeat.json").read_bytes())
    except (OSError, ValueError):
        return {}
    return beat if isinstance(beat, dict) else {}


def alive(beat: dict[str, Any]) -> bool:
    """Check whether the process of a heartbeat is running.

    On this machine its pid is looked up; on another one the age of the heartbeat decides.
    """
    moment, pid = beat.get("time"), beat.get("pid")
    if not isinstance(moment, int | float) or not isinstance(pid, int):
        return False
    if beat.get("host") != socket.gethostname():
        return time.time() - moment < SILENT_S
    import psutil

    try:
        process = psutil.Process(pid)
        # A process that started after the heartbeat is another one with the same pid.
        same: bool = process.status() != psutil.STATUS_ZOMBIE and process.create_time() <= moment + 1
        return same
    except psutil.Error:
        return False
