"""Runs: folders with the settings, events, weights and results of a training."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from edt_cli.config import Settings, UserError, did_you_mean, similar
from edt_cli.workspace.annotations import annotate, annotations_of
from edt_cli.workspace.documents import RunResult
from edt_cli.workspace.event_types import Waiting
from edt_cli.workspace.events import Events
from edt_cli.workspace.layout import MANIFEST, Workspace, json_object, read_json, write_json
from edt_cli.workspace.names import current_plan

PLAN = "run.json"
RESULTS = "results"


@dataclass(frozen=True)
class Run:
    """A run's folder and its plan.

    The plan records how the run was started: data, data_key, users (of the data), key, settings, preset, keep_seen
    (as resolved for this data), llm, artefacts, device, quick for a run on a small sample, and unsound for one
    whose figures are no result.
    """

    folder: Path
    plan: dict[str, Any]

    @property
    def name(self) -> str:
        return self.folder.name

    @cached_property
    def settings(self) -> Settings:
        return Settings.model_validate(self.plan["settings"])

    @property
    def dataset_key(self) -> str:
        """Key of the dataset, whichever part of it the run is trained on."""
        data_key: str = self.plan["data_key"]
        return data_key.partition("-")[0]

    @property
    def quick(self) -> bool:
        """Whether it is on a small sample of the data, so that its figures say nothing."""
        return bool(self.plan.get("quick"))

    @property
    def unsound(self) -> str:
        """Departure that makes its figures no result, "" if there is none; the plan `departures` alone shows it."""
        return str(self.plan.get("unsound", ""))

    @property
    def finished(self) -> bool:
        """Whether the run has a manifest, which is written last."""
        return (self.folder / MANIFEST).is_file()

    @contextmanager
    def alone(self, events: Events) -> Iterator[None]:
        """Hold the run's lock, so that no two processes make the same run.

        The second process waits, then finds the run finished or continues it.
        """
        lock = FileLock(self.folder / ".lock")
        try:
            lock.acquire(timeout=0)
        except Timeout:
            message = f"another process is making {self.name}: waiting for it"
            events.emit(Waiting(run=self.name, message=message))
            lock.acquire()
        try:
            yield
        finally:
            lock.release()

    def manifest(self) -> dict[str, Any]:
        """Read the manifest of a finished run."""
        manifest: dict[str, Any] = read_json(self.folder / MANIFEST)
        return manifest

    def results(self) -> list[RunResult]:
        """Read all result documents of this run."""
        return [read_json(path) for path in sorted((self.folder / RESULTS).glob("*.json"))]

    def write_result(self, name: str, document: RunResult) -> None:
        """Write a result document to the run's folder."""
        (self.folder / RESULTS).mkdir(exist_ok=True)
        write_json(self.folder / RESULTS / f"{name}.json", document)


def open_run(workspace: Workspace, plan: dict[str, Any]) -> Run:
    """Open the run with this plan, and create its folder if it does not exist.

    The folder is named by data, model, seed and key.
    """
    folder = _folder(workspace, plan)
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / PLAN).is_file():
        write_json(folder / PLAN, plan)
    return Run(folder, plan)


def existing_run(workspace: Workspace, plan: dict[str, Any]) -> Run | None:
    """Return the run that `open_run` would open, or None if it does not exist."""
    folder = _folder(workspace, plan)
    return Run(folder, read_plan(folder)) if (folder / PLAN).is_file() else None


def _folder(workspace: Workspace, plan: dict[str, Any]) -> Path:
    settings = Settings.model_validate(plan["settings"])
    return workspace.runs / f"{plan['data']}-{settings.model.name}-s{settings.training.seed}-{plan['key'][:8]}"


def read_plan(folder: Path) -> dict[str, Any]:
    """Read the plan of a run's folder, with settings under their current names.

    Raises:
        UserError: If the plan cannot be read.
    """
    plan: dict[str, Any] = current_plan(read_json(folder / PLAN))
    return plan


def all_runs(workspace: Workspace) -> list[Run]:
    """Return all runs with a readable plan, oldest first."""
    runs = []
    for path in sorted(workspace.runs.glob(f"*/{PLAN}"), key=lambda path: path.stat().st_mtime):
        try:
            run = Run(path.parent, read_plan(path.parent))
            run.settings  # noqa: B018  (settings of another version may not be valid in this one)
        except (UserError, ValueError, KeyError, TypeError):
            continue
        runs.append(run)
    return runs


def run_folders(workspace: Workspace) -> list[Path]:
    """Return the folders of all runs, also of those that cannot be read."""
    folders = workspace.runs.iterdir() if workspace.runs.is_dir() else ()
    return sorted(path for path in folders if path.is_dir() and not path.name.startswith("."))


def find_folder(workspace: Workspace, name: str) -> Path:
    """Return the folder of a run.

    Args:
        workspace: The workspace.
        name: Its folder, the name that `edt runs rename` gave it, or the beginning of the folder or of the key.

    Raises:
        UserError: If there is no such run, or more than one.
    """
    folders = run_folders(workspace)
    given = {folder: annotations_of(folder).name for folder in folders}
    matching = (
        [folder for folder in folders if folder.name == name]
        or [folder for folder in folders if given[folder] == name]
        or [folder for folder in folders if folder.name.startswith(name) or _key(folder).startswith(name)]
    )
    if len(matching) == 1:
        return matching[0]
    if matching:
        some = ", ".join(folder.name for folder in matching[:3]) + (", ..." if len(matching) > 3 else "")
        raise UserError(f"{len(matching)} runs begin with {name!r}: {some}")
    close = similar(name, [*filter(None, given.values()), *(folder.name[: len(name)] for folder in folders)])
    raise UserError(
        f"no run named {name!r} in {workspace.runs}; {did_you_mean(close) or 'edt runs list shows them'}"
    )


def _key(folder: Path) -> str:
    return str((json_object(folder / PLAN) or {}).get("key", ""))


def _finished(folder: Path) -> Run:
    """Return the run in a folder.

    Raises:
        UserError: If it is not finished, or of a version whose settings cannot be read.
    """
    run = Run(folder, read_plan(folder))
    try:
        run.settings  # noqa: B018
    except (ValueError, KeyError, TypeError):
        raise UserError(f"run {run.name} has settings that this version of edt cannot read") from None
    if not run.finished:
        raise UserError(f"run {run.name} is not finished; continue it with the same edt train")
    return run


def data_change(workspace: Workspace, run: Run) -> str | None:
    """Say how the dataset of a run differs from the one that it was trained on; None if it is the same."""
    name, users = run.plan["data"], run.plan.get("users")
    dataset = workspace.dataset(name)
    if not dataset.complete:
        return f"{name} is no longer in the workspace"
    manifest = dataset.manifest()
    if manifest["data_key"] == run.dataset_key:
        return None
    counts = "" if users is None else f"; {users:,} users then, {manifest['users']:,} now"
    return f"of an earlier version of {name}: {run.dataset_key[:8]}{counts}"


def data_changes(workspace: Workspace, runs: Iterable[Run]) -> dict[str, str]:
    """Return the `data_change` of each run whose dataset differs, by the run's name."""
    changes = {run.name: data_change(workspace, run) for run in runs}
    return {name: change for name, change in changes.items() if change is not None}


def find_runs(
    workspace: Workspace, data: str | None, names: list[str] | None = None, *, unsound: bool = False
) -> list[Run]:
    """Return the named runs, or else all finished runs of `data`.

    Without names, runs on an older version of a dataset are left out; so are quick runs, unless `data` is a sample,
    and runs whose figures are no result.

    Args:
        workspace: The workspace.
        data: Name of a dataset; None for all.
        names: As `find_folder` takes them.
        unsound: Return named runs whose figures are no result, too.

    Raises:
        UserError: If there is no such run, a name is not unique, or a named run is not finished or unsound.
    """
    if names:
        named = [_finished(find_folder(workspace, name)) for name in names]
        if refused := [run for run in named if run.unsound and not unsound]:
            raise UserError(
                f"run {refused[0].name} is unsound ({refused[0].unsound}): not a result; "
                "edt report --plan departures shows it beside an honest run"
            )
        return named
    runs = [run for run in all_runs(workspace) if not run.unsound]
    wanted = [run for run in runs if (not run.quick if data is None else run.plan["data"] == data)]
    finished = [run for run in wanted if run.finished]
    if not finished:
        close = did_you_mean(similar(data, (artefact.key for artefact in workspace.datasets()))) if data else ""
        of = f" of {data}" if data else ""
        hint = close or f"make one with: edt train --data {data or 'demo'}"
        raise UserError(f"there is no finished run{of} in {workspace.runs}; {hint}")
    newest = {run.plan["data"]: run.dataset_key for run in finished}
    return [run for run in finished if run.dataset_key == newest[run.plan["data"]]]


def rename(workspace: Workspace, folder: Path, name: str) -> None:
    """Give the run in a folder a name by which it is found, or take it away with "".

    Raises:
        UserError: If another run has it, or it is no word.
    """
    for other in run_folders(workspace):
        if name and other != folder and name in (other.name, annotations_of(other).name):
            raise UserError(f"{other.name} is called {name!r} already")
    annotate(folder, replace(annotations_of(folder), name=name))
