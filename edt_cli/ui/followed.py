"""A run or job being watched: its events, its heartbeat, and the run that a job is making."""

from __future__ import annotations

import socket
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from edt_cli.inference.listing import read_run
from edt_cli.ui.library import live_job, manifest_of
from edt_cli.ui.state import PhaseState, RunState
from edt_cli.workspace.event_types import Event
from edt_cli.workspace.events import Request
from edt_cli.workspace.jobs import SILENT_S, alive, ask, heartbeat
from edt_cli.workspace.layout import Workspace
from edt_cli.workspace.status import RunStatus
from edt_cli.workspace.tail import Tail


@dataclass
class Part:
    """State of one folder: the tail of its events, the state folded from them, and its last heartbeat."""

    folder: Path
    tail: Tail = field(init=False)
    state: RunState = field(default_factory=RunState)
    beat: dict[str, Any] = field(default_factory=dict)
    batch_size: int | None = None
    _restarts: int = 0

    def __post_init__(self) -> None:
        self.tail = Tail(self.folder / "events.jsonl")

    def take(self, news: News) -> None:
        """Fold new events and the heartbeat into the state."""
        if self.tail.restarts != self._restarts:
            self._restarts, self.state = self.tail.restarts, RunState()
        for event in news.events:
            self.state.fold(event)
        if news.beat:
            self.beat = news.beat
            self.state.beat(news.beat, self.batch_size)


@dataclass(frozen=True)
class News:
    """Events read from disk in one thread and folded in another, so that a slow disk never blocks the screen."""

    events: Sequence[Event]
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
    """A watched folder, of a run or of a job. A run is watched together with the running job that makes it."""

    def __init__(self, workspace: Workspace, folder: Path) -> None:
        self.workspace = workspace
        self.job: Part | None = None
        self.run: Part | None = None
        self.summaries: dict[str, RunSummary] = {}
        self.process_alive = True
        if folder.parent.resolve() == workspace.jobs.resolve():
            self.job = Part(folder)
        else:
            self._open(folder)
            making = live_job(workspace, folder.name)
            self.job = Part(making) if making is not None else None

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
            return RunStatus.SILENT
        if run is None or run.ended:
            return job.status if job is not None else RunStatus.WORKING
        return run.status

    @property
    def ended(self) -> bool:
        return self.status.ended

    @property
    def silent_for(self) -> float:
        """Seconds since the last event or heartbeat."""
        signs = [part.beat.get("time") or part.state.time or 0.0 for part in self.parts]
        return max(0.0, time.time() - max(signs, default=0.0))

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
    def host(self) -> str:
        return str(next((part.beat["host"] for part in reversed(self.parts) if part.beat.get("host")), ""))

    @property
    def log(self) -> list[tuple[float, str]]:
        return sorted((line for part in self.parts for line in part.state.log), key=lambda line: line[0])

    @property
    def message(self) -> str:
        return next((part.state.message for part in self.parts if part.state.message), "")

    def read(self) -> list[tuple[Part, News]]:
        """Read new events from disk; this may be called in another thread."""
        news = []
        for part in self.parts:
            events, more = part.tail.read()
            beat = heartbeat(part.folder)
            news.append((part, News(events=events, beat=beat, more=more, alive=alive(beat))))
        return news

    def take(self, news: list[tuple[Part, News]]) -> bool:
        """Fold what was read, and return whether there is more to read."""
        for part, part_news in news:
            part.take(part_news)
        known = [part_news for _, part_news in news if part_news.beat]
        # A process that has only just begun has no heartbeat yet.
        self.process_alive = any(part_news.alive for part_news in known) or (
            not known and self.silent_for < SILENT_S
        )
        if self.job is not None:
            self._next_run(self.job.state)
        if self.run is not None:
            self._sum_up(self.run)
        return any(part_news.more for _, part_news in news)

    def request(self, request: Request) -> None:
        """Send a request to the running process, which confirms it with an event."""
        ask([part.folder for part in self.parts], request)
        for part in self.parts:
            part.state.requested = "" if request == "run" else request

    def _next_run(self, job: RunState) -> None:
        """Follow a job to its newest run, and summarise runs that are done."""
        for name in job.runs:
            if name in job.done and name not in self.summaries:
                self._sum_up_finished(name)
        if job.run and (self.run is None or self.run.folder.name != job.run):
            if self.run is not None:
                self._sum_up(self.run)
            self._open(self.workspace.runs / job.run)

    def _open(self, folder: Path) -> None:
        self.run = Part(folder)
        training = read_run(folder).plan.get("settings", {}).get("training", {})
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
