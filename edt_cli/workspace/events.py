"""What a long step reports, and the requests it obeys.

A step appends to `events.jsonl` (one write a line, numbered), replaces `heartbeat.json` every few seconds and
looks at `control.json` between steps. Whoever watches, in this process or another, reads the same files.

A training run has a folder in `runs/`, every process at work one in `jobs/`. There, while an LLM is asked, the
event `calls` comes every two seconds and at the end of a stage, and the heartbeat has the same fields but `last`:

    stage                 "augment", "reform" or "profile"
    done, left, total     questions (augment, reform) or users, each of several calls (profile)
    calls, calls_left     replies had in this stage, and about how many are to come
    hits, new             replies of the command's stage so far, from the cache and from the model
    retries, repairs      calls made again after a failure; replies asked for again because they were of no use
    failed                {"refused": 3, ...}: questions without an answer, by cause: "no reply", "no JSON",
                          "wrong shape", "empty", "refused", "cut off", "no items", "nothing said"
    prompt_tokens, completion_tokens    of new replies
    spent_usd, limit_usd  of the command; the limit is null without --max-cost
    unconfirmed_usd       part of spent_usd: calls of which no word came back, counted with the most they could cost
    reserved_usd          the most that calls on their way could cost
    saved_usd             what the hits had cost
    calls_per_s           new replies a second, over the last minute
    seconds_left          at the pace of the last minute; null if nothing was done in it
    in_flight, held_s     calls on their way; seconds for which none leaves (a rate limit, an outage)
    last                  the newest reply, cleaned: {"user", "prompt", "text"}

`local`, which is no LLM, has neither retries, in_flight and held_s nor the fields in USD but saved_usd. Beside it:
`retrying` (step, failed) when failed questions of an earlier run are asked again; `ended` (outcome: "finished",
"stopped" or "failed", and the error) as a job's last word.
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

from edt_cli.workspace.layout import write_json

Request = Literal["run", "pause", "stop-after-epoch", "stop-now"]
Listener = Callable[[dict[str, Any]], None]

HEARTBEAT_SECONDS = 3.0
REQUESTS = ("run", "pause", "stop-after-epoch", "stop-now")


class Stopped(Exception):
    """A run obeyed `stop-now` or `stop-after-epoch`; its checkpoint is on disk."""


class Events:
    """Reports to listeners and, where a folder is given, to the files of a run."""

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

    def emit(self, event: str, **fields: Any) -> None:
        """Append one numbered event, and hand it to the listeners."""
        self._number += 1
        record = {"n": self._number, "time": round(time.time(), 3), "event": event, **fields}
        if self.folder is not None:
            line = json.dumps(record, ensure_ascii=False) + "\n"
            descriptor = os.open(self.folder / "events.jsonl", os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
            try:
                os.write(descriptor, line.encode())
            finally:
                os.close(descriptor)
        self._tell(record)

    def progress(self, stage: str, done: int, total: int, **fields: Any) -> None:
        """Where a step stands now: to the listeners, and to the heartbeat every few seconds; no event."""
        record = {"event": "progress", "stage": stage, "done": done, "total": total, **fields}
        self._tell(record)
        now = time.monotonic()
        if self.folder is not None and now - self._beat >= HEARTBEAT_SECONDS:
            self._beat = now
            signs = {"time": time.time(), "pid": os.getpid(), "host": socket.gethostname()}
            write_json(self.folder / "heartbeat.json", {**signs, **record})

    def requested(self) -> Request:
        """What `control.json` asks for now ({"request": "pause"}); a damaged file asks for nothing."""
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
        """Acknowledge and carry out a request: waits while paused, raises Stopped to stop. Returns the seconds that
        it waited."""
        request, began = self.requested(), time.perf_counter()
        if request == "pause":
            self.emit("paused")
            while (request := self.requested()) == "pause":
                time.sleep(0.2)
                self.progress("paused", 0, 1)
            self.emit("resumed")
        if request == "stop-now" or (request == "stop-after-epoch" and epoch_ended):
            if self.folder is not None:
                (self.folder / "control.json").unlink(missing_ok=True)
            self.emit("stopped", request=request)
            raise Stopped(request)
        return time.perf_counter() - began

    @contextmanager
    def gently_interrupted(self) -> Iterator[None]:
        """The first Ctrl-C asks to stop after this epoch, whose checkpoint is then on disk; the second is obeyed at
        once. Only where Ctrl-C would otherwise be a KeyboardInterrupt."""

        def interrupted(number: int, frame: FrameType | None) -> None:
            if self._interrupted:
                raise KeyboardInterrupt
            self._interrupted = True
            told = "stopping after this epoch, with a checkpoint on disk; Ctrl-C again stops at once"
            self._tell({"event": "interrupted", "message": told})

        before = signal.getsignal(signal.SIGINT)
        if before is not signal.default_int_handler or threading.current_thread() is not threading.main_thread():
            yield
            return
        signal.signal(signal.SIGINT, interrupted)
        try:
            yield
        finally:
            signal.signal(signal.SIGINT, before)

    def _tell(self, record: dict[str, Any]) -> None:
        for listener in self.listeners:
            listener(record)


def read_events(folder: Path) -> list[dict[str, Any]]:
    """All whole events of a run; a torn last line is the end of the file, a damaged one is passed over."""
    try:
        lines = (folder / "events.jsonl").read_bytes().split(b"\n")
    except OSError:
        return []
    events = []
    for line in lines[:-1]:
        try:
            record = json.loads(line)
        except ValueError:
            continue
        if isinstance(record, dict) and "event" in record:
            events.append(record)
    return events


def _last_number(path: Path) -> int:
    """Also ends a line that a killed process tore, so that the next event starts on a line of its own."""
    try:
        text = path.read_bytes()
    except OSError:
        return 0
    if text and not text.endswith(b"\n"):
        with path.open("ab") as file:
            file.write(b"\n")
    return max((record.get("n", 0) for record in read_events(path.parent)), default=0)
