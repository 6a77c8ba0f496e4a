"""Fast reading of a workspace for the app; a damaged folder is shown as damaged and is never an error."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from edt_cli.config import UserError
from edt_cli.inference.listing import MAIN_RESULT, RunRow, changed_at, read_run, read_runs, results_of
from edt_cli.ui.state import RunState
from edt_cli.ui.text import safe
from edt_cli.workspace.annotations import ANNOTATIONS, annotations_of
from edt_cli.workspace.documents import RunResult
from edt_cli.workspace.event_types import RunFailed
from edt_cli.workspace.events import read_events
from edt_cli.workspace.jobs import SILENT_S, alive, heartbeat, jobs_of
from edt_cli.workspace.layout import MANIFEST, Workspace, json_object
from edt_cli.workspace.runs import PLAN, RESULTS, Run, run_folders
from edt_cli.workspace.status import RunStatus
from edt_cli.workspace.tail import Tail

NEWEST_JOBS = 20


@dataclass
class Shelf:
    """The runs as last read and the names of marked runs, shared by all sections."""

    runs: list[RunRow] = field(default_factory=list)
    marked: set[str] = field(default_factory=set)
    read: bool = False
    """Whether the runs were read: before that, nobody knows whether there are any."""

    def put(self, runs: list[RunRow]) -> None:
        """Replace the runs, and unmark those that are gone."""
        self.runs, self.read = runs, True
        self.marked &= {row.name for row in runs}

    def marked_runs(self) -> list[RunRow]:
        return [row for row in self.runs if row.name in self.marked]


class RunReader:
    """Reads the runs of a workspace again and again; a finished one only after a change of its files."""

    def __init__(self, workspace: Workspace) -> None:
        self.workspace = workspace
        self._known: dict[Path, tuple[object, RunRow]] = {}

    def read(self, most: int | None = None) -> list[RunRow]:
        """Return the runs, newest first: all of them, or the newest `most`."""
        folders = list(run_folders(self.workspace))
        if most is not None:
            folders = sorted(folders, key=changed_at, reverse=True)[:most]
        rows = [self._row(folder) for folder in folders]
        self._known = {folder: known for folder, known in self._known.items() if folder.is_dir()}
        return sorted(rows, key=lambda row: (-row.when, row.name))

    def _row(self, folder: Path) -> RunRow:
        stamps = tuple(_stamp(folder / name) for name in (MANIFEST, PLAN, ANNOTATIONS, RESULTS))
        known = self._known.get(folder)
        if known is not None and known[0] == stamps:
            return known[1]
        row = read_run(folder)
        # Whether a process is at work on a run does not show in these files.
        if row.status == RunStatus.FINISHED:
            self._known[folder] = (stamps, row)
        return row


def _stamp(path: Path) -> tuple[int, int] | None:
    """Return what tells whether a file or folder was written to; None if it is not there."""
    try:
        stat = path.stat()
    except OSError:
        return None
    return stat.st_mtime_ns, stat.st_ino


def live_jobs(workspace: Workspace) -> list[Path]:
    """Return the folders of the jobs at work, newest first; one that has only just begun has no heartbeat yet."""
    return [folder for folder in reversed(jobs_of(workspace)) if _at_work(folder)]


def _at_work(folder: Path) -> bool:
    beat = heartbeat(folder)
    if beat:
        return alive(beat)
    try:
        return not (folder / "events.jsonl").exists() and time.time() - folder.stat().st_mtime < SILENT_S
    except OSError:
        return False


def job_of(workspace: Workspace, run: str) -> Path | None:
    """Return the folder of the newest job that makes or made `run`."""
    folders = reversed(jobs_of(workspace)[-NEWEST_JOBS:])
    return next((folder for folder in folders if run in fold_all(folder).runs), None)


def newest_at_work(workspace: Workspace) -> Path:
    """Return the folder of the newest job at work, or else of the newest run that a process makes.

    Raises:
        UserError: If nothing is at work.
    """
    jobs = live_jobs(workspace)
    if jobs:
        return jobs[0]
    row = next((row for row in read_runs(workspace) if row.status.live), None)
    if row is None:
        raise UserError(f"nothing is at work in {workspace.root}; edt ui shows what there is")
    return row.folder


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


def data_label(workspace: Workspace, data: str) -> str:
    """Return the name of a dataset; one that nobody has bought from says so."""
    synthetic = manifest_of(workspace.dataset(data).path).get("synthetic") if data else False
    return f"{safe(data, 40)} (synthetic)" if synthetic else safe(data, 40)


def spent_usd(workspace: Workspace) -> float | None:
    """Return what all calls of LLMs cost, by the ledger; None without one that can be read."""
    from edt_backends.base import BackendError
    from edt_backends.ledger import has_ledger, open_ledger

    if not has_ledger(workspace.ledger):
        return None
    try:
        ledger = open_ledger(workspace.ledger)
        try:
            return sum(account.spent_usd for account in ledger.accounts().values())
        finally:
            ledger.close()
    except BackendError:
        return None


def why_failed(folder: Path) -> str:
    """Return why a run failed, in one line; "" if its events do not tell."""
    last = next((event for event in reversed(read_events(folder)) if isinstance(event, RunFailed)), None)
    return last.error if last is not None else ""


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
