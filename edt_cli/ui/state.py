"""What the events of a run or a job amount to, in bounded memory. Fields that are missing are no error."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from edt_cli.ui.curves import Curve
from edt_cli.ui.text import safe
from edt_cli.workspace.status import RunStatus

LOG_LINES = 500
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


@dataclass
class PhaseState:
    """One phase of training. `patience`: validations left; `best`: {domain: NDCG@10} at `best_epoch`."""

    name: str
    epoch: int = 0
    epochs: int = 0
    step: int = 0
    steps: int = 0
    batch: int = 0
    patience: int | None = None
    best_epoch: int = 0
    best: dict[str, float] = field(default_factory=dict)
    last: dict[str, float] = field(default_factory=dict)
    seconds: float = 0.0
    losses: dict[str, Curve] = field(default_factory=dict)
    ndcg: dict[str, Curve] = field(default_factory=dict)

    def left(self) -> float | None:
        """Seconds to the last epoch at the pace so far; early stopping may end it sooner."""
        return self.seconds / self.epoch * (self.epochs - self.epoch) if self.epoch and self.epochs else None


@dataclass
class RunState:
    """Folded from the events of one folder. `status`: starting, working, training, paused, finished, failed or
    stopped, as the events tell it; whether anybody is still there is the heartbeat's to say."""

    status: RunStatus = RunStatus.STARTING
    run: str = ""
    runs: list[str] = field(default_factory=list)
    done: set[str] = field(default_factory=set)
    job: dict[str, Any] = field(default_factory=dict)
    stage: str = ""
    stage_done: int = 0
    stage_total: int = 0
    asked: str = ""
    message: str = ""
    phases: dict[str, PhaseState] = field(default_factory=dict)
    llm: dict[str, Any] = field(default_factory=dict)
    log: deque[tuple[float, str]] = field(default_factory=lambda: deque(maxlen=LOG_LINES))
    events: int = 0
    began: float | None = None
    time: float | None = None
    speed: float | None = None
    _pace: tuple[float, int, str] | None = None

    @property
    def phase(self) -> PhaseState | None:
        return next(reversed(self.phases.values()), None)

    @property
    def ended(self) -> bool:
        return self.status.ended

    def fold(self, record: Mapping[str, Any]) -> None:
        """One event."""
        self.events += 1
        kind = record["event"]
        moment = _number(record.get("time"))
        self.time = moment or self.time
        self.began = self.began or moment
        told = getattr(self, f"_{kind.replace('-', '_')}", None) if kind in _KINDS else None
        if told is not None:
            told(record)
        self._llm(record)
        message = record.get("message")
        if isinstance(message, str) and message:
            self.log.append((moment or 0.0, safe(message, 500)))

    def beat(self, heartbeat: Mapping[str, Any], batch_size: int | None = None) -> None:
        """Where the step stands by the heartbeat; with `batch_size` also samples a second between two beats."""
        self.stage = str(heartbeat.get("stage", ""))
        self.stage_done = int(_number(heartbeat.get("done")) or 0)
        self.stage_total = int(_number(heartbeat.get("total")) or 0)
        self._llm(heartbeat)
        name, step, moment = heartbeat.get("phase"), heartbeat.get("step"), _number(heartbeat.get("time"))
        phase = self.phases.get(name) if isinstance(name, str) else None
        if phase is None or not isinstance(step, int) or moment is None:
            return
        phase.batch, phase.steps = self.stage_done, self.stage_total
        if self._pace is not None and batch_size:
            before, steps, of = self._pace
            if of == phase.name and moment > before and step > steps:
                self.speed = (step - steps) * batch_size / (moment - before)
        if self._pace is None or moment != self._pace[0]:
            self._pace = (moment, step, phase.name)

    def _job(self, record: Mapping[str, Any]) -> None:
        self.job = dict(record)
        self.status = RunStatus.WORKING

    def _run(self, record: Mapping[str, Any]) -> None:
        self.status = RunStatus.WORKING
        self.run = str(record.get("run", ""))
        if self.run not in self.runs:
            self.runs.append(self.run)

    def _skipped(self, record: Mapping[str, Any]) -> None:
        if record.get("run"):
            self._run(record)
            self.done.add(self.run)

    def _done(self, record: Mapping[str, Any]) -> None:
        self.done.add(str(record.get("run", "")))

    def _phase(self, record: Mapping[str, Any]) -> None:
        self.status = RunStatus.TRAINING
        self._of(record)

    def _epoch(self, record: Mapping[str, Any]) -> None:
        self.status, self.asked = RunStatus.TRAINING, self.asked if self.asked != "run" else ""
        p = self._of(record)
        epoch = int(_number(record.get("epoch")) or 0)
        p.epoch, p.epochs = epoch, int(_number(record.get("epochs")) or p.epochs)
        p.step = int(_number(record.get("step")) or p.step)
        p.patience = record.get("patience", p.patience)
        p.seconds = _number(record.get("seconds")) or p.seconds
        p.best_epoch = int(_number(record.get("best_epoch")) or 0)
        for curves, name in ((p.losses, "losses"), (p.ndcg, "ndcg")):
            for term, value in (record.get(name) or {}).items():
                curves.setdefault(safe(term, 40), Curve()).add(epoch, _number(value))
        p.last = {name: value for name, value in (record.get("ndcg") or {}).items() if _number(value) is not None}
        if p.best_epoch == epoch and p.last:
            p.best = p.last

    def _resumed(self, record: Mapping[str, Any]) -> None:
        if "phase" in record:
            self._phase(record)
        else:
            self.status, self.asked = RunStatus.TRAINING if self.phases else RunStatus.WORKING, ""

    def _paused(self, record: Mapping[str, Any]) -> None:
        self.status, self.asked = RunStatus.PAUSED, ""

    def _stopped(self, record: Mapping[str, Any]) -> None:
        self.status, self.asked = RunStatus.STOPPED, ""

    def _failed(self, record: Mapping[str, Any]) -> None:
        self.status, self.message = RunStatus.FAILED, safe(record.get("error", ""), 500)

    def _finished(self, record: Mapping[str, Any]) -> None:
        self.status = RunStatus.FINISHED

    def _ended(self, record: Mapping[str, Any]) -> None:
        """A job's last word: finished, stopped or failed."""
        outcome = record.get("outcome")
        self.status = RunStatus(outcome) if outcome in ("stopped", "failed") else RunStatus.FINISHED
        self.message = safe(record.get("error", ""), 500)

    def _of(self, record: Mapping[str, Any]) -> PhaseState:
        name = safe(record.get("phase", "training"), 40)
        if name in self.phases and next(reversed(self.phases)) != name:
            self.phases[name] = self.phases.pop(name)
        return self.phases.setdefault(name, PhaseState(name))

    def _llm(self, record: Mapping[str, Any]) -> None:
        self.llm |= {name: record[name] for name in LLM_FIELDS if record.get(name) is not None}


_KINDS = {
    "job",
    "run",
    "skipped",
    "done",
    "phase",
    "epoch",
    "resumed",
    "paused",
    "stopped",
    "failed",
    "finished",
    "ended",
}


def _number(value: Any) -> float | None:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None
