"""Fast reading of a workspace for the app; a damaged folder is shown as damaged and is never an error."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from edt_cli.config import UserError
from edt_cli.inference.listing import MAIN_RESULT, RunRow, results_of
from edt_cli.ui.state import RunState
from edt_cli.workspace.annotations import annotations_of
from edt_cli.workspace.documents import RunResult
from edt_cli.workspace.jobs import alive, heartbeat, jobs_of
from edt_cli.workspace.layout import MANIFEST, Workspace, json_object
from edt_cli.workspace.runs import Run
from edt_cli.workspace.status import RunStatus
from edt_cli.workspace.tail import Tail

SIGNS = {
    RunStatus.FINISHED: "v",
    RunStatus.TRAINING: ">",
    RunStatus.WORKING: ">",
    RunStatus.STARTING: ".",
    RunStatus.PAUSED: "=",
    RunStatus.STOPPED: "o",
    RunStatus.FAILED: "x",
    RunStatus.SILENT: "?",
    RunStatus.DAMAGED: "!",
}
"""Sign of each status, shown beside its word so that nothing depends on colour alone."""


@dataclass
class Shelf:
    """The runs as last read and the names of marked runs, shared by all sections."""

    runs: list[RunRow] = field(default_factory=list)
    marked: set[str] = field(default_factory=set)

    def put(self, runs: list[RunRow]) -> None:
        """Replace the runs, and unmark those that are gone."""
        self.runs = runs
        self.marked &= {row.name for row in runs}

    def marked_runs(self) -> list[RunRow]:
        return [row for row in self.runs if row.name in self.marked]


def sign(status: RunStatus) -> str:
    """Return a status as its sign and word."""
    return f"{SIGNS[status]} {status}"


def live_job(workspace: Workspace, run: str = "") -> Path | None:
    """Return the folder of the newest running job, or of the one that makes `run`."""
    for folder in reversed(jobs_of(workspace)[-20:]):
        if alive(heartbeat(folder)) and (not run or run in _runs_of_job(folder)):
            return folder
    return None


def find_followed(workspace: Workspace, name: str) -> Path:
    """Return the folder of a run or job, given its name, a run's given name, the beginning of a name, or its path.

    Raises:
        UserError: If nothing matches, or more than one folder does.
    """
    if Path(name).is_dir():
        return Path(name)
    folders = [path for root in (workspace.runs, workspace.jobs) if root.is_dir() for path in root.iterdir()]
    matching = [path for path in folders if name in (path.name, annotations_of(path).name)]
    matching = matching or [path for path in folders if path.name.startswith(name)]
    if len(matching) != 1:
        matches = "no run and no job" if not matching else f"{len(matching)} runs"
        raise UserError(f"{matches} named {name!r} in {workspace.root}")
    return matching[0]


def fold_all(folder: Path) -> RunState:
    """Return the state after all events of a folder."""
    state, tail = RunState(), Tail(folder / "events.jsonl")
    more = True
    while more:
        events, more = tail.read(seconds=1.0)
        for event in events:
            state.fold(event)
    return state


def main_results_of(folder: Path) -> list[RunResult]:
    """Return the test results with full ranking and the default candidates, including those `w/o DFT`.

    An unsound run has none.
    """
    files = (MAIN_RESULT, f"{MAIN_RESULT}-without-dft")
    documents = (document for document in results_of(folder) if "unsound" not in document)
    return [document for document in documents if document.get("file") in files]


def open_runs(rows: list[RunRow]) -> list[Run]:
    return [Run(row.folder, row.plan) for row in rows]


def manifest_of(folder: Path) -> dict[str, Any]:
    return json_object(folder / MANIFEST) or {}


def _runs_of_job(folder: Path) -> set[str]:
    return set(fold_all(folder).runs)
