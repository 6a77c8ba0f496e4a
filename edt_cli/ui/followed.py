"""A run or a job as one watches it: its events, its heartbeat, and the run that a job is at."""

from __future__ import annotations

import socket
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from edt_cli.ui.library import live_job, manifest_of, read_run
from edt_cli.ui.state import PhaseState, RunState
from edt_cli.workspace.events import Request
from edt_cli.workspace.jobs import SILENT_S, alive, ask, heartbeat
from edt_cli.workspace.layout import Workspace
from edt_cli.workspace.status import RunStatus
from edt_cli.workspace.tail import Tail


@dataclass
class Part:
    """One folder: its tail, what was folded from it, and its last heartbeat."""

    folder: Path
    tail: Tail = field(init=False)
    state: RunState = field(default_factory=RunState)
    beat: dict[str, Any] = field(default_factory=dict)
    batch_size: int | None = None
    _restarts: int = 0

    def __post_init__(self) -> None:
        self.tail = Tail(self.folder / "events.jsonl")

    def take(self, news: News) -> None:
        if self.tail.restarts != self._restarts:
            self._restarts, self.state = self.tail.restarts, RunState()
        for record in news.records:
            self.state.fold(record)
        if news.beat:
            self.beat = news.beat
            self.state.beat(news.beat, self.batch_size)


@dataclass(frozen=True)
class News:
    """What a reading found; folding it is the reader's, so that a slow disk never holds up the screen."""

    records: Sequence[dict[str, Any]]
    beat: dict[str, Any]
    more: bool
    alive: bool


@dataclass(frozen=True)
class RunSummary:
    """A run of a job that is over or at work: its best NDCG@10 by domain."""

    name: str
    status: RunStatus
    epoch: int = 0
    best: dict[str, float] = field(default_factory=dict)


class Followed:
    """`folder`: a run's or a job's. A run that a job at work makes is watched with that job."""

    def __init__(self, workspace: Workspace, folder: Path) -> None:
        self.workspace = workspace
        self.job: Part | None = None
        self.run: Part | None = None
        self.summaries: dict[str, RunSummary] = {}
        self.there = True
        if folder.parent.resolve() == workspace.jobs.resolve():
            self.job = Part(folder)
        else:
            self._open(folder)
            making = live_job(workspace, folder.name)
            self.job = Part(making) if making is not None else None

    @property
    def parts(self) -> list[Part]:
        return [part for part in (self.job, self.run) if part is not None]

    @property
    def name(self) -> str:
        return self.parts[-1].folder.name

    @property
    def state(self) -> RunState:
        """The run's, or before there is one the job's."""
        return self.parts[-1].state

    @property
    def phase(self) -> PhaseState | None:
        return self.run.state.phase if self.run else None

    @property
    def working(self) -> RunState:
        """Whose stage it is: the run's while it trains, else the job's (embedding, asking an LLM)."""
        if self.run and (self.run.state.phases or self.job is None):
            return self.run.state
        return self.job.state if self.job else self.state

    @property
    def status(self) -> RunStatus:
        """As the events tell it, unless nobody is there any more to make it true."""
        told = self.job.state if self.job else None
        if told is not None and told.ended:
            return told.status
        own = self.run.state if self.run else None
        if own is not None and own.ended and told is None:
            return own.status
        if not self.there:
            return RunStatus.SILENT
        if own is None or own.ended:
            return told.status if told is not None else RunStatus.WORKING
        return own.status

    @property
    def ended(self) -> bool:
        return self.status.ended

    @property
    def silent_for(self) -> float:
        """Seconds since the last sign of life."""
        signs = [part.beat.get("time") or part.state.time or 0.0 for part in self.parts]
        return max(0.0, time.time() - max(signs, default=0.0))

    @property
    def quiet(self) -> bool:
        """Nothing was heard for a while, though the process is there (a long validation, a slow disk)."""
        return self.there and not self.ended and self.silent_for > SILENT_S

    @property
    def pid(self) -> int | None:
        """The process at work, if it is one of this machine."""
        beat = next((part.beat for part in reversed(self.parts) if part.beat), {})
        return beat.get("pid") if self.there and beat.get("host") == socket.gethostname() else None

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
        """From disk; may be called in another thread."""
        found = []
        for part in self.parts:
            records, more = part.tail.read()
            beat = heartbeat(part.folder)
            found.append((part, News(records=records, beat=beat, more=more, alive=alive(beat))))
        return found

    def take(self, news: list[tuple[Part, News]]) -> bool:
        """Fold what was read; whether more is waiting."""
        for part, found in news:
            part.take(found)
        known = [found for _, found in news if found.beat]
        # A process that has only just begun has no heartbeat yet.
        self.there = any(found.alive for found in known) or (not known and self.silent_for < SILENT_S)
        if self.job is not None:
            self._next_run(self.job.state)
        if self.run is not None:
            self._sum_up(self.run)
        return any(found.more for _, found in news)

    def request(self, request: Request) -> None:
        """Ask the process at work; it acknowledges by an event."""
        ask([part.folder for part in self.parts], request)
        for part in self.parts:
            part.state.asked = "" if request == "run" else request

    def _next_run(self, job: RunState) -> None:
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
