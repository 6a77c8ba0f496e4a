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
ALL_USERS = "all"


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
    """Record of the values of tau that were calibrated, by the number of users who were asked about.

    When the failed questions of the same users are asked again, the same values are used: others would change
    insertions, hence prompts, and pay twice. A run on other users, as on all of them after a pilot, calibrates its
    own.

    Attributes:
        workspace: The workspace.
        key: Key of all that tau depends on but the users.
        users: Number of users of the sample; None for all.
    """

    workspace: Workspace
    key: str
    users: int | None = None

    def read(self) -> Tau:
        """Return the values that were calibrated on these users; empty if there are none."""
        return self._all().get(self._name, {})

    def of_most(self) -> tuple[Tau, int | None]:
        """Return the values that were calibrated on most users, and their number, None for all; or nothing."""
        samples = self._all()
        most = max(samples, key=lambda name: float("inf") if name == ALL_USERS else int(name), default=ALL_USERS)
        return samples.get(most, {}), None if most == ALL_USERS else int(most)

    def keep(self, tau: Tau) -> None:
        """Keep the values that are new: an attempt may have had no reply about some kind of user."""
        known = self.read()
        merged = {name: {**kinds, **known.get(name, {})} for name, kinds in tau.items()}
        if merged != known and any(merged.values()):
            self._file.parent.mkdir(parents=True, exist_ok=True)
            write_json(self._file, {"by_users": {**self._all(), self._name: merged}})

    def _all(self) -> dict[str, Tau]:
        return dict(read_json(self._file).get("by_users", {})) if self._file.is_file() else {}

    @property
    def _name(self) -> str:
        return ALL_USERS if self.users is None else str(self.users)

    @property
    def _file(self) -> Path:
        return self.workspace.artefacts / "calibration" / f"{self.key}.json"
