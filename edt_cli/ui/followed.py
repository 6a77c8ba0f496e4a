"""A run or job being watched: its events, its heartbeat, and the run that a job is making."""

from __future__ import annotations

import socket
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from edt_cli.config import UserError
from edt_cli.inference.listing import RunRow, read_run
from edt_cli.ui.library import job_of, manifest_of
from edt_cli.ui.log import Log
from edt_cli.ui.state import PhaseState, RunState
from edt_cli.workspace.event_types import Event
from edt_cli.workspace.events import Request
from edt_cli.workspace.jobs import (
    ERRORS,
    OBEDIENT,
    SILENT_S,
    Launched,
    alive,
    arguments_of,
    as_typed,
    ask,
    heartbeat,
    interrupt,
)
from edt_cli.workspace.layout import Workspace
from edt_cli.workspace.provenance import made_by
from edt_cli.workspace.runs import RESULTS
from edt_cli.workspace.status import RunStatus
from edt_cli.workspace.tail import Tail

ERROR_LINES = 40


@dataclass
class Part:
    """State of one folder: the tail of its events, the state folded from them, and its last heartbeat."""

    folder: Path
    tail: Tail = field(init=False)
    state: RunState = field(default_factory=RunState)
    beat: dict[str, Any] = field(default_factory=dict)
    batch_size: int | None = None
    born: float = 0.0
    """Time of the folder, which counts as long as nothing was heard."""
    _restarts: int = 0

    def __post_init__(self) -> None:
        self.tail = Tail(self.folder / "events.jsonl")
        with suppress(OSError):
            self.born = self.folder.stat().st_mtime

    @property
    def heard(self) -> float:
        """Time of the last event or heartbeat."""
        beat = self.beat.get("time")
        return max(beat if isinstance(beat, int | float) else 0.0, self.state.time or 0.0) or self.born

    def take(self, news: News, log: Log) -> None:
        """Fold new events and the heartbeat into the state, and add their lines to a log."""
        if self.tail.restarts != self._restarts:
            self._restarts, self.state = self.tail.restarts, RunState()
            log.forget(self.tail.path)
        for event, offset in zip(news.events, news.offsets, strict=True):
            if event.message:
                log.add(self.tail.path, event.time, offset)
        for event in news.events:
            self.state.fold(event)
        if news.beat:
            self.beat = news.beat
            self.state.beat(news.beat, self.batch_size)


@dataclass(frozen=True)
class News:
    """Events read from disk in one thread and folded in another, so that a slow disk never blocks the screen."""

    events: Sequence[Event]
    offsets: Sequence[int]
    beat: dict[str, Any]
    more: bool
    alive: bool


@dataclass(frozen=True)
class RunSummary:
    """Summary of a finished or running run of a job, with its best NDCG@10 by domain."""

    name: str
    status: RunStatus
    epoch: int = 0
    best: dict[str, float] = field(default_factory=dict)


class Followed:
    """A watched folder, of a run or of a job. A run is watched together with the running job that makes it.

    Args:
        workspace: The workspace.
        folder: Folder of the run or job.
        launched: The process of the job, if this one started it.
    """

    def __init__(self, workspace: Workspace, folder: Path, launched: Launched | None = None) -> None:
        self.workspace = workspace
        self.job: Part | None = None
        self.run: Part | None = None
        self.summaries: dict[str, RunSummary] = {}
        self.process_alive = True
        self.launched = launched
        self.run_row = RunRow(folder, RunStatus.STARTING, 0.0)
        self.has_results = False
        self.log = Log()
        self.errors: list[str] = []
        """Last lines of the standard error of a process that failed or is gone."""
        self.origin: Path | None = None
        """Folder of the newest job that made the run."""
        self._arguments: list[str] = []
        if folder.parent.resolve() == workspace.jobs.resolve():
            self.job, self.origin = Part(folder), folder
        else:
            self._open(folder)
            self.origin = job_of(workspace, folder.name)
            if self.origin is not None and alive(heartbeat(self.origin)):
                self.job = Part(self.origin)

    @property
    def parts(self) -> list[Part]:
        """The job and the run, as far as they exist."""
        return [part for part in (self.job, self.run) if part is not None]

    @property
    def name(self) -> str:
        return self.parts[-1].folder.name

    @property
    def state(self) -> RunState:
        """State of the run, or of the job before it has a run."""
        return self.parts[-1].state

    @property
    def phase(self) -> PhaseState | None:
        return self.run.state.phase if self.run else None

    @property
    def working(self) -> RunState:
        """State with the current stage: the run's while it trains, else the job's (embedding, asking an LLM)."""
        if self.run and (self.run.state.phases or self.job is None):
            return self.run.state
        return self.job.state if self.job else self.state

    @property
    def status(self) -> RunStatus:
        """Status by the events, unless the process is gone."""
        job = self.job.state if self.job else None
        if job is not None and job.ended:
            return job.status
        run = self.run.state if self.run else None
        if run is not None and run.ended and job is None:
            return run.status
        if not self.process_alive:
            # A command that was refused at once has no event to tell it.
            refused = self.launched is not None and self.launched.code() and not self.state.events
            return RunStatus.FAILED if refused else RunStatus.SILENT
        if run is None or run.ended:
            return job.status if job is not None else RunStatus.WORKING
        return run.status

    @property
    def ended(self) -> bool:
        return self.status.ended

    @property
    def silent_for(self) -> float:
        """Seconds since the last event or heartbeat."""
        return max(0.0, time.time() - max(part.heard for part in self.parts))

    @property
    def quiet(self) -> bool:
        """Whether the process exists but has been silent for a while (a long validation, a slow disk)."""
        return self.process_alive and not self.ended and self.silent_for > SILENT_S

    @property
    def pid(self) -> int | None:
        """Id of the running process, if it is on this machine."""
        beat = next((part.beat for part in reversed(self.parts) if part.beat), {})
        return beat.get("pid") if self.process_alive and beat.get("host") == socket.gethostname() else None

    @property
    def device(self) -> str:
        """Device of the run, such as `cuda:1`; "" before it has one."""
        return str(self.run_row.plan.get("device", ""))

    @property
    def host(self) -> str:
        return str(next((part.beat["host"] for part in reversed(self.parts) if part.beat.get("host")), ""))

    @property
    def clock(self) -> float | None:
        """Seconds at work: on the run, or of the job before it has a run. None before the first event."""
        state = self.state
        at_work = self.process_alive and not self.ended
        if self.run is None:
            since = state.began or (self.parts[-1].born if at_work else None)
            return None if since is None else max(0.0, (time.time() if at_work else state.time or since) - since)
        running = at_work and state.time is not None and state.status not in (RunStatus.PAUSED, RunStatus.FINISHED)
        return state.worked + max(0.0, time.time() - (state.time or 0.0) if running else 0.0)

    @property
    def arguments(self) -> list[str]:
        """The arguments of `edt` that make this, without secrets; [] if they are not known."""
        if not self._arguments and self.origin is not None:
            self._arguments = arguments_of(self.origin)
        if not self._arguments and self.run is not None:
            self._arguments = _arguments_of_run(self.run.folder)
        return self._arguments

    @property
    def command(self) -> str:
        """The command that makes this, as one would type it; "" if it is not known."""
        return as_typed(self.arguments)

    @property
    def at_work(self) -> bool:
        return self.process_alive and not self.ended

    @property
    def training(self) -> bool:
        """Whether there are epochs, after each of which it can be stopped with a checkpoint."""
        return self.run is not None and bool(self.run.state.phases)

    @property
    def obedient(self) -> bool:
        """Whether its process looks for requests, such as one to pause."""
        job = self.job.state.job if self.job else {}
        return str(job.get("command") or OBEDIENT[0]) in OBEDIENT

    @property
    def message(self) -> str:
        return next((part.state.message for part in self.parts if part.state.message), "")

    def read(self) -> list[tuple[Part, News]]:
        """Read new events from disk; this may be called in another thread."""
        news = []
        for part in self.parts:
            events, more = part.tail.read()
            beat = heartbeat(part.folder)
            offsets = part.tail.offsets
            news.append((part, News(events=events, offsets=offsets, beat=beat, more=more, alive=alive(beat))))
        if self.run is not None:
            self.has_results = any((self.run.folder / RESULTS).glob("*.json"))
        if not self.errors and self.origin is not None and self.status in (RunStatus.FAILED, RunStatus.SILENT):
            self.errors = _last_lines(self.origin / ERRORS)
        return news

    def take(self, news: list[tuple[Part, News]]) -> bool:
        """Fold what was read, and return whether there is more to read."""
        for part, part_news in news:
            part.take(part_news, self.log)
        known = [part_news for _, part_news in news if part_news.beat]
        # A process that has only just begun has no heartbeat yet.
        self.process_alive = any(part_news.alive for part_news in known) or (
            not known and self.silent_for < SILENT_S
        )
        if self.launched is not None:
            self.process_alive = self.launched.code() is None
        opened = self.job is not None and self._next_run(self.job.state)
        if self.run is not None:
            self._sum_up(self.run)
        return opened or any(part_news.more for _, part_news in news)

    def catch_up(self) -> None:
        """Read and fold all that there is."""
        while self.take(self.read()):
            pass

    def request(self, request: Request) -> None:
        """Send a request to the running process, which confirms it with an event.

        A process that looks for no requests is ended as by Ctrl-C.

        Raises:
            UserError: If it is on another machine, and looks for none.
        """
        if not self.obedient and self.job is not None:
            if not interrupt(self.job.folder):
                raise UserError(f"{self.name} is at work on {self.host}: stop it there, with Ctrl-C")
            return
        ask([part.folder for part in self.parts], request)
        for part in self.parts:
            part.state.requested = "" if request == "run" else request

    def _next_run(self, job: RunState) -> bool:
        """Follow a job to its newest run, summarise runs that are done, and return whether there is a new one."""
        for name in job.runs:
            if name in job.done and name not in self.summaries:
                self._sum_up_finished(name)
        if not job.run or (self.run is not None and self.run.folder.name == job.run):
            return False
        if self.run is not None:
            self._sum_up(self.run)
        self._open(self.workspace.runs / job.run)
        return True

    def _open(self, folder: Path) -> None:
        self.run = Part(folder)
        self.run_row = read_run(folder)
        training = self.run_row.plan.get("settings", {}).get("training", {})
        size = training.get("batch") if isinstance(training, dict) else None
        self.run.batch_size = size if isinstance(size, int) else None

    def _sum_up(self, part: Part) -> None:
        phase, status = part.state.phase, part.state.status
        name = part.folder.name
        self.summaries[name] = RunSummary(
            name=name, status=status, epoch=phase.epoch if phase else 0, best=phase.best if phase else {}
        )

    def _sum_up_finished(self, name: str) -> None:
        phases = manifest_of(self.workspace.runs / name).get("phases", {})
        epoch = max((phase.get("best_epoch", 0) for phase in phases.values()), default=0)
        figures = read_run(self.workspace.runs / name).figures
        best = {key.removeprefix("ndcg_"): value for key, value in figures.items() if key.startswith("ndcg_")}
        self.summaries[name] = RunSummary(name=name, status=RunStatus.FINISHED, epoch=epoch, best=best)


def _arguments_of_run(folder: Path) -> list[str]:
    """Return the arguments of the last process that worked on a run."""
    processes = made_by(folder)
    argv = processes[-1].get("argv") if processes else None
    if not isinstance(argv, list):
        return []
    # A detached process has two options that its command had not.
    words = [str(word) for word in argv[1:]]
    return words[:-2] if words[-2:] == ["--no-ui", "--yes"] else words


def _last_lines(path: Path) -> list[str]:
    """Return the last lines of a file, [] if it cannot be read."""
    try:
        with path.open("rb") as file:
            file.seek(max(0, file.seek(0, 2) - 16_384))
            text = file.read().decode("utf-8", "replace")
    except OSError:
        return []
    return [line.rstrip() for line in text.splitlines() if line.strip()][-ERROR_LINES:]
