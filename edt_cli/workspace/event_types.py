"""The events of a run or a job: one small class for each kind of line in `events.jsonl`."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

Outcome = Literal["finished", "stopped", "failed"]


class Event(BaseModel):
    """Base of all events. Fields of a later version are kept and ignored."""

    model_config = ConfigDict(frozen=True, extra="allow")

    event: str
    n: int = Field(0, description="number of the line, from 1")
    time: float = Field(0.0, description="unix seconds")
    message: str = Field("", description="for people, in one line")

    def numbered(self, n: int, time: float) -> Self:
        return self.model_copy(update={"n": n, "time": time})

    def to_json(self) -> dict[str, Any]:
        """Return the fields that were given, in the order of the file."""
        head = {"n": self.n, "time": self.time, "event": self.event}
        return {**head, **self.model_dump(exclude_unset=True, exclude=set(head))}


class Remark(Event):
    """Something that the user should know; nothing depends on it."""

    event: Literal["remark"] = "remark"


class JobBegun(Event):
    """The first event of a process. `seeds`, `model` and `final`: of `edt train`."""

    event: Literal["job"] = "job"
    command: str = ""
    data: str = ""
    pid: int = 0
    host: str = ""
    model: str = ""
    seeds: list[int] = []
    final: bool = False


class JobEnded(Event):
    """The last event of a process."""

    event: Literal["ended"] = "ended"
    outcome: Outcome = "finished"
    error: str = ""


class Made(Event):
    """An artefact was made. `step`: its kind."""

    event: Literal["made"] = "made"
    step: str = ""
    key: str = ""


class Skipped(Event):
    """An artefact (`step`) or a run was there already."""

    event: Literal["skipped"] = "skipped"
    step: str = ""
    run: str = ""
    seed: int | None = None


class Warned(Event):
    """An artefact was made, but something about it looks wrong."""

    event: Literal["warned"] = "warned"
    step: str = ""


class Retrying(Event):
    """The failed questions of an earlier process are asked again."""

    event: Literal["retrying"] = "retrying"
    step: str = ""
    failed: dict[str, int] = Field({}, description="how many, by cause")


class Calls(Event):
    """Replies of an LLM so far. Written every two seconds during a stage and at its end.

    The heartbeat has the same fields except `last`. `local`, which is no LLM, has no `retries`, `in_flight` and
    `held_s`, and no field in USD except `saved_usd`.
    """

    event: Literal["calls"] = "calls"
    stage: str = Field("", description="augment, reform or profile")
    done: int = Field(0, description="questions (augment, reform) or users, each of several calls (profile)")
    total: int = 0
    left: int = 0
    calls: int = Field(0, description="replies in this stage")
    calls_left: int = Field(0, description="an estimate of the replies to come")
    hits: int = Field(0, description="replies from the cache, in all stages of the command")
    new: int = Field(0, description="replies from the model, in all stages of the command")
    retries: int = Field(0, description="calls repeated after a failure")
    repairs: int = Field(0, description="questions repeated because the reply was unusable")
    failed: dict[str, int] = Field(
        {}, description="questions without an answer, by cause: `no reply`, `refused`, ..."
    )
    prompt_tokens: int = Field(0, description="of new replies")
    completion_tokens: int = Field(0, description="of new replies")
    spent_usd: float | None = Field(None, description="by the command")
    limit_usd: float | None = Field(None, description="--max-cost")
    unconfirmed_usd: float | None = Field(None, description="part of spent_usd: calls without a reply, at most")
    reserved_usd: float | None = Field(None, description="maximum cost of pending calls")
    saved_usd: float | None = Field(None, description="original cost of the hits")
    calls_per_s: float | None = Field(None, description="new replies per second, over the last minute")
    seconds_left: float | None = Field(None, description="an estimate; null if nothing was done in the last minute")
    in_flight: int = Field(0, description="pending calls")
    batches: int = Field(0, description="open batch jobs, which hold the pending calls")
    batch_done: int = Field(0, description="calls that these jobs have answered")
    held_s: float | None = Field(None, description="seconds until the next call: a rate limit or an outage")
    error: str = Field("", description="the newest failure, if nothing was answered since")
    last: dict[str, Any] | None = Field(None, description="the newest reply, cleaned: user, prompt, text")


class Waiting(Event):
    """Another process makes this run."""

    event: Literal["waiting"] = "waiting"
    run: str = ""


class RunBegun(Event):
    """A run begins, or goes on after an interruption."""

    event: Literal["run"] = "run"
    run: str = ""
    seed: int | None = None


class RunDone(Event):
    """In the events of a job: a run has ended well."""

    event: Literal["done"] = "done"
    run: str = ""


class Planned(Event):
    """What a training is made of."""

    event: Literal["planned"] = "planned"
    phases: list[str] = Field([], description="all phases, in their order")


class PhaseBegun(Event):
    """A phase of training begins."""

    event: Literal["phase"] = "phase"
    phase: str
    parameters: int = Field(0, description="those that it learns")


class Precision(Event):
    """The processor lacks the number format that the settings ask for."""

    event: Literal["precision"] = "precision"
    dtype: str = ""


class EpochEnded(Event):
    """An epoch with a validation; epoch 0 is before the first step. A phase may add numbers of its own."""

    event: Literal["epoch"] = "epoch"
    phase: str
    epoch: int
    epochs: int = Field(0, description="at most")
    step: int = 0
    losses: dict[str, float | None] = Field({}, description="terms of the loss, their mean over the epoch")
    ndcg: dict[str, float | None] = Field({}, description="NDCG@10 of the validation set by domain, and `mean`")
    best_epoch: int = 0
    patience: int | None = Field(None, description="validations left before the phase ends")
    seconds: float = Field(0.0, description="of the phase so far")


class Calibrated(Event):
    """The validation set has weighed a side score."""

    event: Literal["calibrated"] = "calibrated"


class Paused(Event):
    """A request to pause was obeyed."""

    event: Literal["paused"] = "paused"


class Resumed(Event):
    """Work goes on: after a pause, or in a new process with the `phase` after `epoch`."""

    event: Literal["resumed"] = "resumed"
    phase: str = ""
    epoch: int = 0


class RunStopped(Event):
    """The run was stopped by a request, or by Ctrl-C or a signal (`interrupt`); its last checkpoint is on disk."""

    event: Literal["stopped"] = "stopped"
    request: str = ""


class RunFailed(Event):
    """The last event of a run that cannot go on as it is."""

    event: Literal["failed"] = "failed"
    error: str = ""


class RunFinished(Event):
    """The last event of a run that was trained to its end."""

    event: Literal["finished"] = "finished"
    run: str = ""


AnyEvent = (
    Calibrated
    | Calls
    | EpochEnded
    | JobBegun
    | JobEnded
    | Made
    | Paused
    | PhaseBegun
    | Planned
    | Precision
    | Remark
    | Resumed
    | Retrying
    | RunBegun
    | RunDone
    | RunFailed
    | RunFinished
    | RunStopped
    | Skipped
    | Waiting
    | Warned
)
_ADAPTER: TypeAdapter[Event] = TypeAdapter(Annotated[AnyEvent, Field(discriminator="event")])
_PLAIN: TypeAdapter[Event] = TypeAdapter(Event)


def event_of(line: bytes) -> Event | None:
    """Return the event of a line, None if it is damaged; of a kind or a form that is not known, a plain `Event`."""
    for kind in (_ADAPTER, _PLAIN):
        try:
            return kind.validate_json(line)
        except ValidationError:
            continue
    return None
