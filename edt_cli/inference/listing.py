"""Runs as lists show them; a damaged folder is shown as damaged and is never an error."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

from edt_cli.inference.labels import name_of, preset_of
from edt_cli.models.systems import title_of
from edt_cli.workspace.annotations import Annotations, annotations_of
from edt_cli.workspace.documents import RunResult
from edt_cli.workspace.layout import MANIFEST, Workspace, json_object
from edt_cli.workspace.names import current_plan
from edt_cli.workspace.runs import PLAN, RESULTS, Run
from edt_cli.workspace.status import RunStatus, status_of

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
    annotations: Annotations = field(default_factory=Annotations)

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
        written = {"tag": " ".join(self.annotations.tags), "note": self.annotations.note}
        named = {"name": self.annotations.name} if self.annotations.name else {}
        return {**dotted, **undotted, **facts, **figures, **written, **named}


def results_of(folder: Path) -> list[RunResult]:
    """Return the result documents of a run, without those that cannot be read."""
    documents = (json_object(path) for path in sorted((folder / RESULTS).glob("*.json")))
    readable = [document for document in documents if document is not None and "first_phase" in document]
    return cast(list[RunResult], readable)


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
    read = json_object(folder / PLAN)
    plan = None if read is None else current_plan(read)
    when = changed_at(folder)
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
        figures={} if plan.get("unsound") else _figures(folder),
        title=title,
        preset=preset,
        seed=seed,
        annotations=annotations_of(folder),
    )


def _title_and_preset(run: Run) -> tuple[str, str]:
    """Return the name of a run in tables and its preset, or only its system if its settings cannot be read."""
    try:
        return name_of(run), preset_of(run)
    except (ValueError, KeyError, TypeError):
        return title_of(model_of(run.plan)), ""


def _figures(folder: Path) -> dict[str, float]:
    """Return the figures of a run's main test result."""
    document = json_object(folder / RESULTS / f"{MAIN_RESULT}.json")
    domains = document.get("domains") if document else None
    if not isinstance(domains, dict):
        return {}
    return {
        f"{metric}_{domain}": figures[f"{metric}@10"]
        for domain, figures in domains.items()
        for metric in ("hr", "ndcg")
        if isinstance(figures, dict) and isinstance(figures.get(f"{metric}@10"), float)
    }


def changed_at(folder: Path) -> float:
    """Return the time of the last change of a run."""
    for name in (MANIFEST, "events.jsonl", PLAN, "."):
        try:
            return (folder / name).stat().st_mtime
        except OSError:
            continue
    return 0.0
