"""Events that a long step reports, and requests that it obeys.

A step appends numbered lines to `events.jsonl` (one write each), replaces `heartbeat.json` every few seconds and
reads `control.json` between its units of work. Other processes follow a step by these files.

A training run has a folder in `runs/`, and every running process one in `jobs/`. The events and their fields are in
`event_types.py`; the heartbeat of an LLM stage has the fields of `Calls`.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any, Literal

from edt_cli.workspace.event_types import Event, Paused, Resumed, RunStopped, event_of
from edt_cli.workspace.files import explained
from edt_cli.workspace.layout import write_json

Request = Literal["run", "pause", "stop-after-epoch", "stop-now"]
Listener = Callable[[dict[str, Any]], None]

HEARTBEAT_SECONDS = 3.0
REQUESTS: tuple[Request, ...] = ("run", "pause", "stop-after-epoch", "stop-now")


class Stopped(Exception):
    """The run was stopped by `stop-now` or `stop-after-epoch`; its checkpoint is on disk."""


class Events:
    """Reporter of events to listeners and, if a folder is given, to the files of a run or a job."""

    def __init__(self, folder: Path | None = None, listeners: tuple[Listener, ...] = ()) -> None:
        self.folder = folder
        self.listeners = listeners
        self._number = 0
        self._beat = 0.0
        self._control: tuple[int, Request] = (0, "run")
        self._interrupted = False
        if folder is not None:
            folder.mkdir(parents=True, exist_ok=True)
            self._number = _last_number(folder / "events.jsonl")

    def emit(self, event: Event) -> None:
        """Append a numbered event, and pass it to the listeners."""
        self._number += 1
        record = event.numbered(self._number, round(time.time(), 3)).to_json()
        if self.folder is not None:
            line = json.dumps(record, ensure_ascii=False) + "\n"
            path = self.folder / "events.jsonl"
            with explained(path), path.open("ab", buffering=0) as file:
                file.write(line.encode())
        self._notify(record)

    def progress(self, stage: str, done: int, total: int, **fields: Any) -> None:
        """Report the progress of a step to the listeners and, every few seconds, to the heartbeat.

        This is not an event.
        """
        record = {"event": "progress", "stage": stage, "done": done, "total": total, **fields}
        self._notify(record)
        now = time.monotonic()
        if self.folder is not None and now - self._beat >= HEARTBEAT_SECONDS:
            self._beat = now
            process = {"time": time.time(), "pid": os.getpid(), "host": socket.gethostname()}
            write_json(self.folder / "heartbeat.json", {**process, **record})

    def requested(self) -> Request:
        """Return the current request of `control.json`, such as {"request": "pause"}.

        A missing or damaged file counts as "run".
        """
        if self._interrupted:
            return "stop-after-epoch"
        if self.folder is None:
            return "run"
        path = self.folder / "control.json"
        try:
            stamp = path.stat().st_mtime_ns
        except OSError:
            return "run"
        if stamp != self._control[0]:
            try:
                request = json.loads(path.read_text("utf-8"))["request"]
            except (OSError, ValueError, KeyError, TypeError):
                request = "run"
            self._control = (stamp, request if request in REQUESTS else "run")
        return self._control[1]

    def obey(self, *, epoch_ended: bool = False) -> float:
        """Report and carry out the current request, and wait while it is "pause".

        Returns:
            The seconds waited.

        Raises:
            Stopped: If the request is to stop now, or after this epoch and `epoch_ended`.
        """
        request, began = self.requested(), time.perf_counter()
        if request == "pause":
            self.emit(Paused())
            while (request := self.requested()) == "pause":
                time.sleep(0.2)
                self.progress("paused", 0, 1)
            self.emit(Resumed())
        if request == "stop-now" or (request == "stop-after-epoch" and epoch_ended):
            if self.folder is not None:
                (self.folder / "control.json").unlink(missing_ok=True)
            self.emit(RunStopped(request=request))
            raise Stopped(request)
        return time.perf_counter() - began

    @contextmanager
    def gently_interrupted(self) -> Iterator[None]:
        """Stop after the current epoch, with a checkpoint, at the first Ctrl-C, and at once at the second.

        Applies only where Ctrl-C would otherwise raise KeyboardInterrupt.
        """

        def interrupted(number: int, frame: FrameType | None) -> None:
            if self._interrupted:
                raise KeyboardInterrupt
            self._interrupted = True
            message = "stopping after this epoch, with a checkpoint on disk; Ctrl-C again stops at once"
            self._notify({"event": "interrupted", "message": message})

        before = signal.getsignal(signal.SIGINT)
        if before is not signal.default_int_handler or threading.current_thread() is not threading.main_thread():
            yield
            return
        signal.signal(signal.SIGINT, interrupted)
        try:
            yield
        finally:
            signal.signal(signal.SIGINT, before)

    def _notify(self, record: dict[str, Any]) -> None:
        for listener in self.listeners:
            listener(record)


def read_events(folder: Path) -> list[Event]:
    """Read all events of a run or a job; an incomplete last line and damaged lines are skipped."""
    try:
        lines = (folder / "events.jsonl").read_bytes().split(b"\n")
    except OSError:
        return []
    return [event for line in lines[:-1] if (event := event_of(line)) is not None]


def _last_number(path: Path) -> int:
    """Return the number of the last event.

    Also completes a line that a killed process left incomplete, so that the next event starts on a new line.
    """
    try:
        text = path.read_bytes()
    except OSError:
        return 0
    if text and not text.endswith(b"\n"):
        with path.open("ab") as file:
            file.write(b"\n")
    return max((event.n for event in read_events(path.parent)), default=0)
