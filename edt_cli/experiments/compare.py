"""Execution of a plan, one process per run.

A cell's run is looked up by its key, so an interrupted plan continues where it stopped, and runs that were made
without the plan count too. A comparison keeps no files besides its runs.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Protocol

from edt_cli.config import UsageError
from edt_cli.data.open import open_dataset
from edt_cli.data.sample import quick_sample
from edt_cli.evaluation.candidates import candidates
from edt_cli.experiments.plan import Cell, Plan
from edt_cli.inference.results import evaluated
from edt_cli.llm.providers import Providers
from edt_cli.pipeline import Pipeline
from edt_cli.pipeline.stage_keys import OFF
from edt_cli.workspace.event_types import Remark
from edt_cli.workspace.events import Events
from edt_cli.workspace.jobs import launch
from edt_cli.workspace.layout import Workspace
from edt_cli.workspace.machine import cores
from edt_cli.workspace.remote import pull, push
from edt_cli.workspace.runs import Run
from edt_cli.workspace.status import RunStatus, status_of

if TYPE_CHECKING:
    from edt_cli.data.dataset import Dataset

State = Literal["finished", "not evaluated", "at work", "failed", "begun", "to do"]
POLL_S = 0.2
WIDTH = 100


@dataclass(frozen=True)
class Comparison:
    """A plan in a workspace.

    Attributes:
        workspace: The workspace.
        plan: The plan.
        cells: Its cells that have an effect.
        datasets: Its datasets by name.
        max_failed: Share of a stage's questions that may fail; None for what the settings say.
        retry_failed: Whether to ask questions again whose replies could not be used, once for all cells.
        asked_again: First keys of the stages whose questions were asked again; comparisons of a command share it.
        dry: Whether nobody will be called, so that no key is needed.
        providers: LLMs and embedders by their settings.
    """

    workspace: Workspace
    plan: Plan
    cells: list[Cell]
    datasets: Mapping[str, Dataset]
    max_failed: float | None = None
    retry_failed: bool = False
    asked_again: set[str] = field(default_factory=set)
    dry: bool = False
    providers: dict[tuple[Any, ...], Providers] = field(default_factory=dict)

    @property
    def what(self) -> str:
        """What its cells are: runs or artefacts."""
        return "runs" if self.plan.stage is None else "artefacts"

    @classmethod
    def open(cls, workspace: Workspace, plan: Plan, *, quick: bool = False) -> Comparison:
        """Open the datasets of a plan, or with `quick` small samples of them, for one epoch a phase.

        Raises:
            UserError: If a dataset does not exist.
            UsageError: If the plan names no dataset, or if the settings of a cell are invalid.
        """
        if not plan.data:
            raise UsageError("the plan names no dataset; name one with --data, or in the plan: data = [...]")
        cells = [cell for cell in plan.cells() if not cell.has_no_effect]
        datasets = [open_dataset(workspace, name) for name in plan.data]
        if quick:
            samples = {dataset.name: quick_sample(workspace, dataset) for dataset in datasets}
            plan = plan.model_copy(update={"data": [sample.name for sample in samples.values()]})
            cells = [replace(cell, data=samples[cell.data].name, quick=True) for cell in cells]
            datasets = list(samples.values())
        return cls(
            workspace=workspace,
            plan=plan,
            cells=cells,
            datasets={dataset.name: dataset for dataset in datasets},
        )

    def pipeline(self, cell: Cell) -> Pipeline:
        """Return a new pipeline at each call, so that it sees what other processes have made since."""
        settings = cell.settings()
        if self.max_failed is not None:
            settings = settings.changed(limits={"max_failed": self.max_failed})
        provider_settings = (settings.llm.model_dump_json(), settings.embedding.model_dump_json(), settings.limits)
        shared = self.providers.setdefault(
            provider_settings,
            Providers(self.workspace, settings, retry_failed=self.retry_failed, dry=self.dry),
        )
        return Pipeline(
            workspace=self.workspace,
            dataset=self.datasets[cell.data],
            settings=settings,
            shared=shared,
            preset=cell.preset_name,
        )

    def key(self, cell: Cell) -> str:
        """Return the key of what a cell is about: a run, or an artefact."""
        pipeline = self.pipeline(cell)
        return pipeline.run_key if cell.stage is None else pipeline.key_of(cell.stage)

    @cached_property
    def unique(self) -> list[Cell]:
        """The first cell of each run or artefact: a run and its first phase are cells of one run."""
        cells: dict[str, Cell] = {}
        for cell in self.cells:
            cells.setdefault(self.key(cell), cell)
        return list(cells.values())

    def run(self, cell: Cell) -> Run | None:
        """Return the run of a cell, if there is one."""
        return self.pipeline(cell).existing() if cell.stage is None else None

    def state(self, cell: Cell) -> State:
        """Return how far a cell's run or artefact is."""
        if cell.stage is not None:
            pipeline = self.pipeline(cell)
            made = pipeline.key_of(cell.stage) == OFF or pipeline.made(cell.stage)
            return "finished" if made else "to do"
        run = self.run(cell)
        if run is None:
            return "to do"
        if not run.finished:
            status = status_of(run.folder)
            return "at work" if status.live else "failed" if status == RunStatus.FAILED else "begun"
        done = all(evaluated(self.workspace, run, "test", s) for s in self.plan.evaluations)
        return "finished" if done else "not evaluated"


class Job(Protocol):
    """A process that makes a run, on this machine or on another one; its folder is in the workspace."""

    folder: Path

    def code(self) -> int | None:
        """Return the exit status, or None while it is running."""
        ...

    def last_words(self) -> str:
        """Return the last line that it said, or what ended it."""
        ...

    def end(self) -> None:
        """End it, and wait for its end."""
        ...


Launcher = Callable[[Workspace, str, str, Sequence[str], int, Mapping[str, str]], Job]
"""Starts a command; its arguments are those of `workspace.jobs.launch`."""


def compare(
    c: Comparison,
    *,
    jobs: int = 1,
    device: str = "auto",
    events: Events | None = None,
    launcher: Launcher | None = None,
) -> dict[Cell, str]:
    """Make the runs or artefacts that are not finished, `jobs` at a time, and go on if one fails.

    When this process ends, it ends the processes that it started. If a signal kills it that cannot be caught, they
    go on, and the same plan started again waits for them.

    Args:
        c: The plan.
        jobs: Runs at a time.
        device: Device of each run.
        events: Where progress is reported.
        launcher: Starts a run somewhere else; None for a process on this machine, which shares its cores.

    Returns:
        The error of each cell that failed.
    """
    events = events or Events()
    for dataset in c.datasets.values() if c.plan.stage is None else ():
        # Drawn here, as two processes would otherwise both draw them.
        keep_seen = dataset.keeps_seen(c.plan.keep_seen)
        for protocol in ("sampled", "popular") if "popular" in c.plan.protocols else ("sampled",):
            candidates(c.workspace, dataset, "test", c.plan.negatives, keep_seen=keep_seen, protocol=protocol)
    if c.retry_failed:
        retry_failed(c, events)
    waiting = [cell for cell in c.unique if c.state(cell) != "finished"]
    total, failed = len(c.unique), dict[Cell, str]()
    message = f"{total - len(waiting)} of {total} {c.what} are finished, {len(waiting)} are left"
    events.emit(Remark(message=message))
    at_work: dict[Cell, _AtWork] = {}
    push(c.workspace)
    threads = {"OMP_NUM_THREADS": str(max(1, cores() // jobs))} if jobs > 1 and launcher is None else {}
    try:
        while waiting or at_work:
            while len(at_work) < jobs and (next_cell := _next(c, waiting, at_work)):
                cell, missing = next_cell
                waiting.remove(cell)
                arguments = [*cell.arguments(device), "--workspace", c.workspace.address]
                arguments += [] if c.max_failed is None else ["--max-failed", str(c.max_failed)]
                process = (launcher or launch)(c.workspace, arguments[0], cell.data, arguments, WIDTH, threads)
                at_work[cell] = _AtWork(process, missing, time.monotonic())
                message = f"{cell}: begins; to look at it: edt ui --attach {process.folder.name}"
                events.emit(Remark(message=message))
            for cell, work in list(at_work.items()):
                code = work.process.code()
                if code is None:
                    continue
                del at_work[cell]
                pull(c.workspace)  # it may be from another machine
                if code:
                    failed[cell] = work.process.last_words().removeprefix("error: ")
                outcome = f"failed: {failed[cell]}" if code else f"done in {time.monotonic() - work.since:.0f} s"
                events.emit(Remark(message=f"{cell}: {outcome}"))
            events.progress(c.what, total - len(waiting) - len(at_work), total)
            time.sleep(POLL_S)
    finally:
        for work in at_work.values():
            work.process.end()
    return failed


def retry_failed(c: Comparison, events: Events) -> None:
    """Ask the failed questions of all cells again, each once, before any run is made of the answers."""
    for cell in c.unique:
        replace(c.pipeline(cell), events=events).retried(c.asked_again)
    c.__dict__.pop("unique")  # keys move with what was answered


class _AtWork(NamedTuple):
    """Process that makes a run, with the artefacts (kind, key) it will make and the time of its start."""

    process: Job
    making: frozenset[tuple[str, str]]
    since: float


def _next(
    c: Comparison, waiting: Sequence[Cell], at_work: Mapping[Cell, _AtWork]
) -> tuple[Cell, frozenset[tuple[str, str]]] | None:
    """Return the first cell that needs no artefact in the making, so that no two processes ask an LLM the same.

    Returns:
        The cell and the artefacts (kind, key) that it will make, or None if every cell has to wait.
    """
    making = frozenset[tuple[str, str]]().union(*(work.making for work in at_work.values()))
    for cell in waiting:
        pipeline = c.pipeline(cell)
        keys = {kind: key for kind, key in pipeline.artefact_keys().items() if key != OFF}
        missing = frozenset((kind, key) for kind, key in keys.items() if not pipeline.made(kind))
        if not missing & making:
            return cell, missing
    return None
