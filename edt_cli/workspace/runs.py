"""A run is a folder, and the folder is the interface: settings, events, weights, results."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from edt_cli.config import Settings, UserError
from edt_cli.workspace.events import Events
from edt_cli.workspace.layout import MANIFEST, Workspace, read_json, write_json
from edt_cli.workspace.names import current_plan

PLAN = "run.json"
RESULTS = "results"


@dataclass(frozen=True)
class Run:
    """`plan` is what it was started with: data, data_key, key, settings, preset, keep_seen (as it is for this
    data), llm, artefacts, device."""

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
        """The dataset's, whatever part of it the run was given."""
        data_key: str = self.plan["data_key"]
        return data_key.partition("-")[0]

    @property
    def finished(self) -> bool:
        return (self.folder / MANIFEST).is_file()

    @contextmanager
    def alone(self, events: Events) -> Iterator[None]:
        """Two processes never make the same run: the second waits, then finds it finished or goes on with it."""
        lock = FileLock(self.folder / ".lock")
        try:
            lock.acquire(timeout=0)
        except Timeout:
            events.emit("waiting", run=self.name, message=f"another process makes {self.name}: waiting for it")
            lock.acquire()
        try:
            yield
        finally:
            lock.release()

    def manifest(self) -> dict[str, Any]:
        manifest: dict[str, Any] = read_json(self.folder / MANIFEST)
        return manifest

    def results(self) -> list[dict[str, Any]]:
        """Every result document of this run."""
        return [read_json(path) for path in sorted((self.folder / RESULTS).glob("*.json"))]

    def write_result(self, name: str, document: dict[str, Any]) -> None:
        (self.folder / RESULTS).mkdir(exist_ok=True)
        write_json(self.folder / RESULTS / f"{name}.json", document)


def open_run(workspace: Workspace, plan: dict[str, Any]) -> Run:
    """The folder of a run with this plan, made if it is not there. Named by data, model, seed and key."""
    folder = _folder(workspace, plan)
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / PLAN).is_file():
        write_json(folder / PLAN, plan)
    return Run(folder, plan)


def existing_run(workspace: Workspace, plan: dict[str, Any]) -> Run | None:
    """The run that `open_run` would open, if there is one."""
    folder = _folder(workspace, plan)
    return Run(folder, read_plan(folder)) if (folder / PLAN).is_file() else None


def _folder(workspace: Workspace, plan: dict[str, Any]) -> Path:
    settings = Settings.model_validate(plan["settings"])
    return workspace.runs / f"{plan['data']}-{settings.model.name}-s{settings.training.seed}-{plan['key'][:8]}"


def read_plan(folder: Path) -> dict[str, Any]:
    """Of a run's folder, settings by their names of today. Errors: UserError where it cannot be read."""
    return current_plan(read_json(folder / PLAN))


def all_runs(workspace: Workspace) -> list[Run]:
    """Every run with a readable plan, oldest first."""
    runs = []
    for path in sorted(workspace.runs.glob(f"*/{PLAN}"), key=lambda path: path.stat().st_mtime):
        try:
            run = Run(path.parent, read_plan(path.parent))
            run.settings  # noqa: B018  (of another version, it may be none that this one knows)
        except (UserError, ValueError, KeyError, TypeError):
            continue
        runs.append(run)
    return runs


def find_runs(workspace: Workspace, data: str | None, names: list[str] | None = None) -> list[Run]:
    """The runs named (a unique beginning is enough), else the finished ones of `data`.

    Of runs that were made with the same settings but on an older version of the data only the newest count.
    Errors: UserError if there is none.
    """
    runs = all_runs(workspace)
    if names:
        found = []
        for name in names:
            matching = [run for run in runs if run.name == name] or [
                run for run in runs if run.name.startswith(name) or run.plan["key"].startswith(name)
            ]
            if len(matching) != 1:
                what = "no run" if not matching else f"{len(matching)} runs"
                raise UserError(f"{what} named {name!r} in {workspace.runs}")
            if not matching[0].finished:
                raise UserError(f"run {matching[0].name} is not finished; continue it with the same edt train")
            found.append(matching[0])
        return found
    found = [run for run in runs if run.finished and (data is None or run.plan["data"] == data)]
    if not found:
        of = f" of {data}" if data else ""
        raise UserError(
            f"there is no finished run{of} in {workspace.runs}; make one with: edt train --data {data or 'demo'}"
        )
    newest = {run.plan["data"]: run.dataset_key for run in found}
    return [run for run in found if run.dataset_key == newest[run.plan["data"]]]
