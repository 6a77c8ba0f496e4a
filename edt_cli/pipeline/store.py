"""Files of the stages: artefacts, how often failed questions were asked again, values of tau."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

from edt_cli.workspace.event_types import Made, Skipped
from edt_cli.workspace.events import Events
from edt_cli.workspace.layout import Artefact, Workspace, read_json, write_json

T = TypeVar("T")
Tau = dict[str, dict[str, float]]
"""Values of tau by domain and kind of user."""


@dataclass(frozen=True)
class Stage(Generic[T]):
    """Step that makes an artefact.

    Attributes:
        kind: Kind of the artefact.
        key: Key of the artefact.
        make: Function that makes it in an empty folder (first argument) and adds to its manifest (second argument).
        load: Function that loads it from its folder.
    """

    kind: str
    key: str
    make: Callable[[Path, dict[str, Any]], None]
    load: Callable[[Path], T]


def get_or_make(workspace: Workspace, stage: Stage[T], events: Events) -> T:
    """Load the artefact of a stage; make it first if it is missing."""
    artefact = workspace.artefact(stage.kind, stage.key)
    if artefact.complete:
        message = f"{stage.kind} {stage.key}: nothing has changed, kept"
        events.emit(Skipped(step=stage.kind, message=message))
    else:
        with artefact.create() as (folder, manifest):
            stage.make(folder, manifest)
        seconds = artefact.manifest()["seconds"]
        message = f"{stage.kind} {stage.key}: made in {seconds:.1f} s"
        events.emit(Made(step=stage.kind, key=stage.key, message=message))
    return stage.load(artefact.path)


def failed_questions(artefact: Artefact) -> dict[str, int]:
    """Return the number of failed questions of a finished stage, by reason."""
    return dict(artefact.manifest()["summary"].get("failed", {}))


@dataclass(frozen=True)
class Tries:
    """Record of how often the failed questions of a stage were asked again, by its first key."""

    workspace: Workspace

    def of(self, key: str) -> int:
        """Return how often the questions of a stage were asked again."""
        return int(read_json(self._file(key))["tries"]) if self._file(key).is_file() else 0

    def set(self, key: str, tries: int) -> None:
        """Record how often the questions of a stage were asked again."""
        self._file(key).parent.mkdir(parents=True, exist_ok=True)
        write_json(self._file(key), {"tries": tries})

    def _file(self, key: str) -> Path:
        return self.workspace.artefacts / "tries" / f"{key}.json"


@dataclass(frozen=True)
class KnownTau:
    """Record of a pilot's values of tau, which are used again for the remaining users.

    Other values would change insertions, hence prompts, and pay twice.
    """

    workspace: Workspace
    key: str

    def read(self) -> Tau:
        """Return the kept values; empty if there are none."""
        return dict(read_json(self._file)["tau"]) if self._file.is_file() else {}

    def keep(self, tau: Tau) -> None:
        """Keep the values that are new: a pilot may have no user of some kind."""
        known = self.read()
        merged = {name: {**kinds, **known.get(name, {})} for name, kinds in tau.items()}
        if merged != known and any(merged.values()):
            self._file.parent.mkdir(parents=True, exist_ok=True)
            write_json(self._file, {"tau": merged})

    @property
    def _file(self) -> Path:
        return self.workspace.artefacts / "calibration" / f"{self.key}.json"
