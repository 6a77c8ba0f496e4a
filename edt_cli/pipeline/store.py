"""What the stages leave on disk: their artefacts, how often failed questions were asked again, values of tau."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

from edt_cli.workspace.events import Events
from edt_cli.workspace.layout import Artefact, Workspace, read_json, write_json

T = TypeVar("T")
Tau = dict[str, dict[str, float]]
"""By domain and kind of user."""


@dataclass(frozen=True)
class Stage(Generic[T]):
    """A step that makes an artefact. make: into an empty folder, and what belongs in the manifest into the second
    argument; load: back from the folder."""

    kind: str
    key: str
    make: Callable[[Path, dict[str, Any]], None]
    load: Callable[[Path], T]


def get_or_make(workspace: Workspace, stage: Stage[T], events: Events) -> T:
    artefact = workspace.artefact(stage.kind, stage.key)
    if artefact.complete:
        events.emit("skipped", step=stage.kind, message=f"{stage.kind} {stage.key}: nothing has changed, kept")
    else:
        with artefact.create() as (folder, manifest):
            stage.make(folder, manifest)
        seconds = artefact.manifest()["seconds"]
        message = f"{stage.kind} {stage.key}: made in {seconds:.1f} s"
        events.emit("made", step=stage.kind, key=stage.key, message=message)
    return stage.load(artefact.path)


def failed_questions(artefact: Artefact) -> dict[str, int]:
    """Of a made stage, by reason."""
    return dict(artefact.manifest()["summary"].get("failed", {}))


@dataclass(frozen=True)
class Tries:
    """How often the failed questions of a stage were asked again, by the key that it had at first."""

    workspace: Workspace

    def of(self, key: str) -> int:
        return int(read_json(self._file(key))["tries"]) if self._file(key).is_file() else 0

    def set(self, key: str, tries: int) -> None:
        self._file(key).parent.mkdir(parents=True, exist_ok=True)
        write_json(self._file(key), {"tries": tries})

    def _file(self, key: str) -> Path:
        return self.workspace.artefacts / "tries" / f"{key}.json"


@dataclass(frozen=True)
class KnownTau:
    """A pilot's values of tau are used again for the rest: others would change insertions, hence prompts, and pay
    twice."""

    workspace: Workspace
    key: str

    def read(self) -> Tau:
        return dict(read_json(self._file)["tau"]) if self._file.is_file() else {}

    def keep(self, tau: Tau) -> None:
        """Add what is new: a pilot may have had nobody of some kind."""
        known = self.read()
        merged = {name: {**kinds, **known.get(name, {})} for name, kinds in tau.items()}
        if merged != known and any(merged.values()):
            self._file.parent.mkdir(parents=True, exist_ok=True)
            write_json(self._file, {"tau": merged})

    @property
    def _file(self) -> Path:
        return self.workspace.artefacts / "calibration" / f"{self.key}.json"
