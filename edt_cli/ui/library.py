"""Fast reading of a workspace for the app; a damaged folder is shown as damaged and is never an error."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

from edt_cli.config import UserError
from edt_cli.inference.labels import name_of, preset_of
from edt_cli.models.systems import title_of
from edt_cli.ui.state import RunState
from edt_cli.workspace.documents import RunResult
from edt_cli.workspace.jobs import alive, heartbeat, jobs_of
from edt_cli.workspace.layout import MANIFEST, Workspace
from edt_cli.workspace.names import current_plan
from edt_cli.workspace.runs import PLAN, RESULTS, Run
from edt_cli.workspace.status import RunStatus, status_of
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
MAIN_RESULT = "test-full"


@dataclass(frozen=True)
class RunRow:
    """A run as the list shows it."""

    folder: Path
    status: RunStatus
    when: float
    plan: dict[str, Any] = field(default_factory=dict)
    figures: dict[str, float] = field(default_factory=dict)
    """NDCG@10 and HR@10 on the test targets with full ranking, as `ndcg_food`, `hr_food`, ..."""
    title: str = ""
    preset: str = ""
    seed: int | None = None

    @property
    def name(self) -> str:
        return self.folder.name

    @property
    def data(self) -> str:
        return str(self.plan.get("data", ""))

    @property
    def fields(self) -> dict[str, Any]:
        """Values that a filter can use: settings with and without their section, figures, and facts of the run."""
        settings = {
            name: section for name, section in self.plan.get("settings", {}).items() if isinstance(section, dict)
        }
        dotted = {
            f"{section}.{name}": value for section, fields in settings.items() for name, value in fields.items()
        }
        # Settings of the model and its training come last, so that a name without a section means them.
        last = sorted(dotted, key=lambda name: name.startswith(("model.", "training.")))
        undotted = {name.partition(".")[2]: dotted[name] for name in last}
        facts = {"run": self.name, "status": self.status, "data": self.data, "model": model_of(self.plan)}
        figures = {"seed": self.seed, "title": self.title, "preset": self.preset, **self.figures}
        return {**dotted, **undotted, **facts, **figures}


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


def model_of(plan: dict[str, Any]) -> str:
    try:
        return str(plan["settings"]["model"]["name"])
    except (KeyError, TypeError):
        return ""


def read_runs(workspace: Workspace) -> list[RunRow]:
    """Return every run, newest first."""
    folders = [path for path in workspace.runs.iterdir() if path.is_dir()] if workspace.runs.is_dir() else []
    rows = [read_run(folder) for folder in folders if not folder.name.startswith(".")]
    return sorted(rows, key=lambda row: (-row.when, row.name))


def read_run(folder: Path) -> RunRow:
    """Return the run in a folder; one that cannot be read has the status DAMAGED."""
    read = _json(folder / PLAN)
    plan = None if read is None else current_plan(read)
    when = _when(folder)
    if plan is None or not isinstance(plan.get("settings"), dict):
        return RunRow(folder, RunStatus.DAMAGED, when)
    training = plan["settings"].get("training")
    seed = training.get("seed") if isinstance(training, dict) else None
    title, preset = _title_and_preset(Run(folder, plan))
    return RunRow(
        folder=folder,
        status=status_of(folder),
        when=when,
        plan=plan,
        figures=_figures(folder),
        title=title,
        preset=preset,
        seed=seed,
    )


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
    """Return the folder of a run or job, given its name, the beginning of its name, or its path.

    Raises:
        UserError: If nothing matches, or more than one folder does.
    """
    if Path(name).is_dir():
        return Path(name)
    folders = [path for root in (workspace.runs, workspace.jobs) if root.is_dir() for path in root.iterdir()]
    matching = [path for path in folders if path.name == name] or [p for p in folders if p.name.startswith(name)]
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


def results_of(folder: Path) -> list[RunResult]:
    """Return the result documents of a run, without those that cannot be read."""
    documents = (_json(path) for path in sorted((folder / RESULTS).glob("*.json")))
    readable = [document for document in documents if document is not None and "first_phase" in document]
    return cast(list[RunResult], readable)


def main_results_of(folder: Path) -> list[RunResult]:
    """Return the test results with full ranking and the default candidates, including those `w/o DFT`."""
    files = (MAIN_RESULT, f"{MAIN_RESULT}-without-dft")
    return [document for document in results_of(folder) if document.get("file") in files]


def open_runs(rows: list[RunRow]) -> list[Run]:
    return [Run(row.folder, row.plan) for row in rows]


def manifest_of(folder: Path) -> dict[str, Any]:
    return _json(folder / MANIFEST) or {}


def _runs_of_job(folder: Path) -> set[str]:
    return set(fold_all(folder).runs)


def _title_and_preset(run: Run) -> tuple[str, str]:
    """Return the name of a run in tables and its preset, or only its system if its settings cannot be read."""
    try:
        return name_of(run), preset_of(run)
    except (ValueError, KeyError, TypeError):
        return title_of(model_of(run.plan)), ""


def _figures(folder: Path) -> dict[str, float]:
    """Return the figures of a run's main test result."""
    document = _json(folder / RESULTS / f"{MAIN_RESULT}.json")
    domains = document.get("domains") if document else None
    if not isinstance(domains, dict):
        return {}
    return {
        f"{metric}_{domain}": figures[f"{metric}@10"]
        for domain, figures in domains.items()
        for metric in ("hr", "ndcg")
        if isinstance(figures, dict) and isinstance(figures.get(f"{metric}@10"), float)
    }


def _when(folder: Path) -> float:
    """Return the time of the last change of a run."""
    for name in (MANIFEST, "events.jsonl", PLAN, "."):
        try:
            return (folder / name).stat().st_mtime
        except OSError:
            continue
    return 0.0


def _json(path: Path) -> dict[str, Any] | None:
    """Return a JSON object from a file, or None if it cannot be read."""
    try:
        document = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return None
    return document if isinstance(document, dict) else None
