"""State of a run or job, folded from its events in bounded memory. Missing fields are no error."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from edt_cli.ui.curves import Curve
from edt_cli.ui.text import safe
from edt_cli.workspace.event_types import (
    Calls,
    EpochEnded,
    Event,
    JobBegun,
    JobEnded,
    Made,
    Paused,
    PhaseBegun,
    Planned,
    Resumed,
    RunBegun,
    RunDone,
    RunFailed,
    RunFinished,
    RunStopped,
    Skipped,
)
from edt_cli.workspace.status import RunStatus

CLOCK_S = 0.002
"""Times of events are rounded to milliseconds, those of heartbeats are not."""
LLM_FIELDS = (
    "calls",
    "calls_left",
    "hits",
    "new",
    "retries",
    "repairs",
    "failed",
    "prompt_tokens",
    "completion_tokens",
    "spent_usd",
    "limit_usd",
    "saved_usd",
    "calls_per_s",
    "seconds_left",
    "held_s",
    "last",
)

OF_STAGE = ("calls_per_s", "seconds_left", "held_s")
"""Those of LLM_FIELDS that are about the stage, and not about the whole job."""


@dataclass
class PhaseState:
    """State of a phase of training."""

    name: str
    epoch: int = 0
    epochs: int = 0
    step: int = 0
    steps: int = 0
    batch: int = 0
    patience: int | None = None
    """Validations left before early stopping."""
    best_epoch: int = 0
    best: dict[str, float] = field(default_factory=dict)
    """NDCG@10 by domain at `best_epoch`."""
    last: dict[str, float] = field(default_factory=dict)
    seconds: float = 0.0
    losses: dict[str, Curve] = field(default_factory=dict)
    ndcg: dict[str, Curve] = field(default_factory=dict)

    @property
    def domains(self) -> list[str]:
        """Names of the domains, in the order of their dataset."""
        return [name for name in self.ndcg if name != "mean"]

    @property
    def within(self) -> float:
        """How much of the epoch after `epoch` is done."""
        return min(1.0, self.batch / self.steps) if self.steps else 0.0

    def left(self) -> float | None:
        """Return the seconds to the last epoch at the pace so far; early stopping may end the phase sooner."""
        if not self.epoch or not self.epochs:
            return None
        return self.seconds / self.epoch * max(0.0, self.epochs - self.epoch - self.within)


@dataclass
class RunState:
    """State folded from the events of one folder.

    The status is starting, working, training, paused, finished, failed or stopped, by the events alone; whether the
    process still exists is known from its heartbeat.
    """

    status: RunStatus = RunStatus.STARTING
    run: str = ""
    runs: list[str] = field(default_factory=list)
    done: set[str] = field(default_factory=set)
    job: dict[str, Any] = field(default_factory=dict)
    stage: str = ""
    stage_done: int = 0
    stage_total: int = 0
    requested: str = ""
    message: str = ""
    phases: dict[str, PhaseState] = field(default_factory=dict)
    llm: dict[str, Any] = field(default_factory=dict)
    events: int = 0
    began: float | None = None
    time: float | None = None
    worked: float = 0.0
    """Seconds at work on a run up to its last event, without pauses and the time between two processes."""
    made: set[str] = field(default_factory=set)
    """Kinds of artefacts that were made, or were there already."""
    planned: list[str] = field(default_factory=list)
    """Names of all phases, as far as they are known."""
    speed: float | None = None
    _pace: tuple[float, int, str] | None = None

    @property
    def phase(self) -> PhaseState | None:
        return next(reversed(self.phases.values()), None)

    @property
    def ended(self) -> bool:
        return self.status.ended

    def whole(self) -> Curve:
        """Return the mean validation NDCG@10 of all phases, one after the other."""
        joined, before = Curve(), 0.0
        for phase in self.phases.values():
            curve = phase.ndcg.get("mean") or next(iter(phase.ndcg.values()), None)
            if curve is None or not len(curve):
                continue
            for x, low, high in curve:
                joined.add(before + x, low)
                if high > low:
                    joined.add(before + x, high)
            before += curve.end
        return joined

    def fold(self, event: Event) -> None:
        """Update the state with an event."""
        self.events += 1
        if event.time and self.time and not isinstance(event, RunBegun | Resumed):
            self.worked += max(0.0, event.time - self.time)
        self.time = event.time or self.time
        self.began = self.began or self.time
        self._apply(event)

    def _apply(self, event: Event) -> None:
        match event:
            case JobBegun():
                self.job, self.status = event.to_json(), RunStatus.WORKING
            case Made(step=step):
                self.made.add(step)
            case RunBegun(run=run):
                self._begin(run)
            case Skipped(run=run) if run:
                self._begin(run)
                self.done.add(run)
            case Skipped(step=step):
                self.made.add(step)
            case Planned(phases=names):
                self.planned = [safe(name, 40) for name in names]
            case RunDone(run=run):
                self.done.add(run)
            case PhaseBegun(phase=phase) | Resumed(phase=phase) if phase:
                self.status = RunStatus.TRAINING
                self._phase_of(phase)
            case Resumed():
                self.status, self.requested = RunStatus.TRAINING if self.phases else RunStatus.WORKING, ""
            case EpochEnded():
                self._end_epoch(event)
            case Calls():
                self._enter(event.stage, event.done, event.total)
                self._update_llm(event.to_json())
            case Paused():
                self.status, self.requested = RunStatus.PAUSED, ""
            case RunStopped():
                self.status, self.requested = RunStatus.STOPPED, ""
            case RunFailed(error=error):
                self.status, self.message = RunStatus.FAILED, safe(error, 500)
            case RunFinished():
                self.status = RunStatus.FINISHED
            case JobEnded(outcome=outcome, error=error):
                self.status, self.message = RunStatus(outcome), safe(error, 500)

    def beat(self, heartbeat: Mapping[str, Any], batch_size: int | None = None) -> None:
        """Update the progress with a heartbeat, and with `batch_size` the samples per second since the last.

        A heartbeat that is older than the last event tells nothing: it is written every few seconds only.
        """
        moment = _number(heartbeat.get("time"))
        if self.status.ended or (self.time is not None and (moment or 0.0) < self.time - CLOCK_S):
            return
        done, total = (int(_number(heartbeat.get(name)) or 0) for name in ("done", "total"))
        self._enter(str(heartbeat.get("stage", "")), done, total)
        self._update_llm(heartbeat)
        name, step = heartbeat.get("phase"), heartbeat.get("step")
        phase = self.phases.get(name) if isinstance(name, str) else None
        if phase is None or not isinstance(step, int) or moment is None:
            return
        phase.batch, phase.steps = self.stage_done, self.stage_total
        if self._pace is not None and batch_size:
            last_moment, last_step, last_phase = self._pace
            if last_phase == phase.name and moment > last_moment and step > last_step:
                self.speed = (step - last_step) * batch_size / (moment - last_moment)
        if self._pace is None or moment != self._pace[0]:
            self._pace = (moment, step, phase.name)

    def _enter(self, stage: str, done: int, total: int) -> None:
        """Update the progress of a stage; the pace of another one says nothing about it."""
        if stage != self.stage:
            for name in OF_STAGE:
                self.llm.pop(name, None)
        self.stage, self.stage_done, self.stage_total = stage, done, total

    def _begin(self, run: str) -> None:
        self.status, self.run = RunStatus.WORKING, run
        if run not in self.runs:
            self.runs.append(run)

    def _end_epoch(self, event: EpochEnded) -> None:
        self.status, self.requested = RunStatus.TRAINING, self.requested if self.requested != "run" else ""
        p = self._phase_of(event.phase)
        p.epoch, p.epochs, p.step = event.epoch, event.epochs or p.epochs, event.step or p.step
        p.batch = 0
        p.patience, p.seconds, p.best_epoch = event.patience, event.seconds or p.seconds, event.best_epoch
        for curves, values in ((p.losses, event.losses), (p.ndcg, event.ndcg)):
            for term, value in values.items():
                curves.setdefault(safe(term, 40), Curve()).add(event.epoch, value)
        p.last = {name: value for name, value in event.ndcg.items() if value is not None}
        if p.best_epoch == p.epoch and p.last:
            p.best = p.last

    def _phase_of(self, phase: str) -> PhaseState:
        """Return a phase by name, as the current phase."""
        name = safe(phase, 40)
        if name in self.phases and next(reversed(self.phases)) != name:
            self.phases[name] = self.phases.pop(name)
        return self.phases.setdefault(name, PhaseState(name))

    def _update_llm(self, record: Mapping[str, Any]) -> None:
        self.llm |= {name: record[name] for name in LLM_FIELDS if record.get(name) is not None}


def _number(value: Any) -> float | None:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None
