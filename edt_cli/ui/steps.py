"""Steps of a run, from the texts of its items to its results, and how far it is."""

from __future__ import annotations

import re
from dataclasses import dataclass

from edt_cli.ui.followed import Followed
from edt_cli.ui.text import safe
from edt_cli.ui.tones import Tinted, muted
from edt_cli.workspace.status import RunStatus

ARTEFACTS = {"embeddings": "embed", "augmentation": "augment", "profiles": "profile"}
STAGES = (
    (re.compile(r"embed|fit text map"), "embed"),
    (re.compile(r"augment"), "augment"),
    (re.compile(r"reform|profile"), "profile"),
    (re.compile(r"evaluate"), "rank"),
)
"""Stages as a heartbeat names them, and the step that each belongs to."""
OFF = "none"
"""Key of an artefact that is switched off."""


@dataclass(frozen=True)
class Step:
    """Step of a run or job.

    Attributes:
        name: Its name.
        state: "done", "running" or "to come".
        share: How much of a running step is done, if it is known.
    """

    name: str
    state: str
    share: float | None = None

    def text(self) -> Tinted:
        """Return the step as its sign and name, in its colour."""
        if self.state == "running":
            percent = "" if self.share is None else f" {self.share:.0%}"
            return Tinted(f"> {self.name}{percent}", "live", bold=True)
        return Tinted(f"v {self.name}", "good") if self.state == "done" else muted(f". {self.name}")


def steps_of(followed: Followed) -> list[Step]:
    """Return the steps of a run, or of a job before it has one, in their order."""
    names = _artefact_steps(followed)
    phases = _phases(followed)
    command = str(followed.job.state.job.get("command", "")) if followed.job else "train"
    if followed.run is not None or command == "train":
        names += [*phases, "rank"]
    running = None if followed.ended else _running(followed, names)
    at = names.index(running) if running in names else None
    finished = followed.status == RunStatus.FINISHED
    done = _done(followed, phases)
    steps = []
    for place, name in enumerate(names):
        if place == at:
            steps.append(Step(name, "running", _share(followed)))
        elif finished or name in done or (at is not None and place < at):
            steps.append(Step(name, "done"))
        else:
            steps.append(Step(name, "to come"))
    return steps


def _artefact_steps(followed: Followed) -> list[str]:
    """Return the steps that make artefacts: those of the run's plan, else those that the job has told of."""
    if followed.run is not None:
        keys = followed.run_row.plan.get("artefacts")
        kinds = [kind for kind, key in keys.items() if key != OFF] if isinstance(keys, dict) else []
    else:
        state = followed.job.state if followed.job else followed.state
        command = str(state.job.get("command", ""))
        kinds = [kind for kind in ARTEFACTS if kind in state.made or _step_of(state.stage) == ARTEFACTS[kind]]
        if command == "augment":
            kinds = ["embeddings", "augmentation"]
        elif command == "profile":
            kinds = list(ARTEFACTS)
    return [step for kind, step in ARTEFACTS.items() if kind in kinds]


def _phases(followed: Followed) -> list[str]:
    state = followed.run.state if followed.run else None
    known = list(dict.fromkeys([*state.planned, *state.phases])) if state else []
    return [safe(name, 20) for name in known] or ["training"]


def _step_of(stage: str) -> str:
    return next((step for pattern, step in STAGES if pattern.match(stage)), "")


def _running(followed: Followed, names: list[str]) -> str:
    """Return the name of the step at work, or "" where nothing tells it."""
    state = followed.run.state if followed.run else None
    if state is not None and state.status == RunStatus.FINISHED:
        return "rank"
    if state is not None and state.phase is not None:
        return safe(state.phase.name, 20)
    return _step_of(followed.working.stage)


def _done(followed: Followed, phases: list[str]) -> set[str]:
    """Return the names of the steps that are certainly done."""
    done = {ARTEFACTS[kind] for part in followed.parts for kind in part.state.made if kind in ARTEFACTS}
    state = followed.run.state if followed.run else None
    if state is not None and state.phases:
        done |= set(ARTEFACTS.values()) | set(list(state.phases)[:-1])
    if state is not None and state.status == RunStatus.FINISHED:
        done |= set(phases)
    if followed.has_results:
        done.add("rank")
    return done


def _share(followed: Followed) -> float | None:
    """Return how much of the step at work is done."""
    state = followed.run.state if followed.run else None
    if state is not None and state.status == RunStatus.FINISHED:
        return None
    phase = state.phase if state else None
    if phase is not None:
        return min(1.0, (phase.epoch + phase.within) / phase.epochs) if phase.epochs else None
    working = followed.working
    return working.stage_done / working.stage_total if working.stage_total else None
