"""Execution of a plan, one process per run, and tests of whether the method beats its rivals.

A cell's run is looked up by its key, so an interrupted plan continues where it stopped, and runs that were made
without the plan count too. A comparison keeps no files besides its runs.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np
import polars as pl

from edt_cli.config import EvaluationSettings, UsageError
from edt_cli.data.open import open_dataset
from edt_cli.data.sample import quick_sample
from edt_cli.evaluation.candidates import candidates
from edt_cli.evaluation.significance import holm, ndcg_of, paired_bootstrap, paired_t
from edt_cli.experiments.plan import Cell, Plan
from edt_cli.inference.labels import identity
from edt_cli.inference.results import evaluate, evaluated, ranks_of
from edt_cli.llm.providers import Providers
from edt_cli.models.llm_edt_options import UNSOUND
from edt_cli.models.systems import has_llm
from edt_cli.pipeline import Pipeline
from edt_cli.pipeline.stages import OFF
from edt_cli.reporting.comparison import Claim, Grid, Outcome, PhaseCost, Row
from edt_cli.reporting.grouping import shown_system
from edt_cli.workspace.documents import RunResult
from edt_cli.workspace.event_types import EpochEnded, Event, Remark
from edt_cli.workspace.events import Events, read_events
from edt_cli.workspace.jobs import Launched, launch
from edt_cli.workspace.layout import Workspace
from edt_cli.workspace.machine import cores
from edt_cli.workspace.runs import Run
from edt_cli.workspace.status import RunStatus, status_of

if TYPE_CHECKING:
    from edt_cli.data.dataset import Dataset

State = Literal["finished", "not evaluated", "at work", "failed", "begun", "to do"]
POLL_S = 0.2
WIDTH = 100
LEVEL = 0.05
"""Significance level of a claim."""


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
        providers: LLMs and embedders by their settings.
    """

    workspace: Workspace
    plan: Plan
    cells: list[Cell]
    datasets: Mapping[str, Dataset]
    max_failed: float | None = None
    retry_failed: bool = False
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
            provider_settings, Providers(self.workspace, settings, retry_failed=self.retry_failed)
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


def compare(c: Comparison, *, jobs: int = 1, device: str = "auto", events: Events | None = None) -> dict[Cell, str]:
    """Make the runs or artefacts that are not finished, `jobs` at a time, and go on if one fails.

    When this process ends, it ends the processes that it started. If a signal kills it that cannot be caught, they
    go on, and the same plan started again waits for them.

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
    threads = {"OMP_NUM_THREADS": str(max(1, cores() // jobs))} if jobs > 1 else {}
    try:
        while waiting or at_work:
            while len(at_work) < jobs and (next_cell := _next(c, waiting, at_work)):
                cell, missing = next_cell
                waiting.remove(cell)
                arguments = [*cell.arguments(device), "--workspace", str(c.workspace.root)]
                arguments += [] if c.max_failed is None else ["--max-failed", str(c.max_failed)]
                process = launch(c.workspace, arguments[0], cell.data, arguments, WIDTH, threads)
                at_work[cell] = _AtWork(process, missing, time.monotonic())
                message = f"{cell}: begins; to look at it: edt ui --attach {process.folder.name}"
                events.emit(Remark(message=message))
            for cell, work in list(at_work.items()):
                code = work.process.code()
                if code is None:
                    continue
                del at_work[cell]
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
    done: set[str] = set()
    for cell in c.unique:
        replace(c.pipeline(cell), events=events).retried(done)
    c.__dict__.pop("unique")  # keys move with what was answered


class _AtWork(NamedTuple):
    """Process that makes a run, with the artefacts (kind, key) it will make and the time of its start."""

    process: Launched
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


@dataclass(frozen=True)
class ComparisonResults:
    """Results of a comparison so far: rows and columns, outcomes of finished runs, and the tests on them."""

    grid: Grid
    outcomes: list[Outcome]
    claims: list[Claim]


def collect_results(c: Comparison, device: str = "cpu", events: Events | None = None) -> ComparisonResults:
    """Read the results of every finished run, evaluating runs that are not evaluated yet."""
    outcomes, ranks, rows = [], dict[tuple[Any, ...], pl.DataFrame](), dict[str, Row]()
    for cell in c.cells:
        pipeline = c.pipeline(cell)
        label = _row_label(cell, pipeline)
        unsound = "" if cell.unsound == "none" else UNSOUND[cell.unsound]
        row = rows.setdefault(label, Row(label, cell.model, (), cell.group, unsound))
        rows[label] = row._replace(seeds=tuple(dict.fromkeys((*row.seeds, cell.seed))))
        run = pipeline.existing()
        if run is None or not run.finished:
            continue
        for s in c.plan.evaluations:
            found = outcome_of(c.workspace, run, s, label, events, device, first_phase=cell.first_phase)
            if found is not None:
                outcome, ranks[s.protocol, cell.data, label, cell.seed] = found
                outcomes.append(outcome)
    domains = {name: dataset.domains.names for name, dataset in c.datasets.items()}
    grid = Grid(
        domains=domains,
        rows=list(rows.values()),
        method=c.plan.method,
        table=c.plan.table,
        figure=c.plan.figure,
        against=c.plan.against,
        departures=c.plan.departures,
        notes=_notes(c.plan),
    )
    return ComparisonResults(grid, outcomes, _claims(grid, c.plan, outcomes, ranks))


def _notes(plan: Plan) -> tuple[str, ...]:
    """Return the notes of a plan, and which rows are left out."""
    idle = dict.fromkeys(cell.label for cell in plan.cells() if cell.has_no_effect)
    return (
        *plan.notes,
        *(f"Not made: {label}; its settings generate none, an LLM would." for label in idle),
    )


def outcome_of(
    workspace: Workspace,
    run: Run,
    s: EvaluationSettings,
    label: str,
    events: Events | None = None,
    device: str = "cpu",
    *,
    first_phase: bool = False,
) -> tuple[Outcome, pl.DataFrame] | None:
    """Return the result of a finished run and the ranks behind it, evaluating the run if it is not evaluated yet.

    None is returned for the first phase of a run that has one phase.

    Args:
        workspace: The workspace of the run.
        run: A finished run.
        s: Candidates of the ranking.
        label: Label of the row that it is for.
        events: Where progress is reported.
        device: Name of the device to rank on.
        first_phase: Whether the result is that of the model after its first phase.
    """
    # There is a document of the whole run, and one of its first phase if it has two.
    documents = evaluate(workspace, run, "test", s, events or Events(), device)
    document = next((one for one in documents if one["first_phase"] == first_phase), None)
    if document is None:
        return None
    names = identity(run, first_phase=first_phase)
    return _outcome(document, names, label, _phases(run)), ranks_of(run, document)


def _row_label(cell: Cell, pipeline: Pipeline) -> str:
    """Return the row's label, with the LLM that it depends on."""
    return shown_system(cell.label, "", pipeline.llm_name if has_llm(pipeline.settings) else "")


def _outcome(document: RunResult, names: dict[str, str], label: str, phases: dict[str, PhaseCost]) -> Outcome:
    cut = any(phase["ended"] != "patience" for phase in phases.values())
    preset, variant = names["preset"], names["variant"]
    return {**document, "preset": preset, "variant": variant, "label": label, "phases": phases, "cut": cut}


def _phases(run: Run) -> dict[str, PhaseCost]:
    """Return the cost of each phase of a run."""
    events = read_events(run.folder)
    return {
        name: {
            "epochs": phase["epoch"],
            "best_epoch": phase["best_epoch"],
            "ended": phase.get("ended") or "unknown",
            "epoch_seconds": epoch_seconds(events, name),
        }
        for name, phase in run.manifest().get("phases", {}).items()
    }


def epoch_seconds(events: Sequence[Event], phase: str) -> float | None:
    """Return the median seconds per epoch of a phase, validation included; None if no epoch was finished."""
    epochs = [event for event in events if isinstance(event, EpochEnded) and event.phase == phase]
    seconds = [
        (after.seconds - before.seconds) / (after.epoch - before.epoch)
        for before, after in pairwise(epochs)
        if after.epoch > before.epoch
    ]
    return statistics.median(seconds) if seconds else None


def _claims(
    grid: Grid,
    plan: Plan,
    outcomes: Sequence[Outcome],
    ranks: Mapping[tuple[Any, ...], pl.DataFrame],
) -> list[Claim]:
    """Return the claims of a plan, for each protocol, dataset and domain.

    They are one for each row of the method, or one for each row other than the first (`Plan.against`). P-values are
    corrected for all of them together, including those that cannot be tested.
    """
    claims = [
        _claim(
            row, rivals, [o for o in outcomes if (o["protocol"], o["data"]) == (s.protocol, data)], target, ranks
        )
        for s in plan.evaluations
        for data, domains in grid.domains.items()
        for row, rivals in _contrasts(grid, plan)
        for target in ((s, data, number, name) for number, name in enumerate(domains))
    ]
    better = holm([1.0 if claim["p"] is None else claim["p"] for claim in claims])
    worse = holm([1.0 if claim["p"] is None else 1.0 - claim["p"] for claim in claims])
    for claim, p, other in zip(claims, better, worse, strict=True):
        if claim["p"] is not None:
            claim["p_holm"] = p
            claim["verdict"] = _verdict(claim, p, other)
    return claims


def _contrasts(grid: Grid, plan: Plan) -> list[tuple[Row, list[Row]]]:
    """Return the rows to test, each with those of which it is held against the best."""
    if plan.against == "each":
        first, *others = (row for row in grid.rows if not row.unsound)
        return [(first, [other]) for other in others]
    rivals = [row for row in grid.rows if row.model != grid.method]
    return [(row, rivals) for row in grid.rows if rivals and row.model == grid.method]


def _verdict(claim: Claim, better: float, worse: float) -> str:
    """Return the verdict of a claim, for which a corrected one-sided test and the interval must agree.

    Args:
        claim: The claim with its interval.
        better: Corrected p-value that the method is better.
        worse: Corrected p-value that the method is worse.
    """
    if better < LEVEL and (claim["low"] or 0) > 0:
        return "better"
    return "worse" if worse < LEVEL and (claim["high"] or 0) < 0 else "not clear"


def _claim(
    row: Row,
    rivals: Sequence[Row],
    outcomes: Sequence[Outcome],
    target: tuple[EvaluationSettings, str, int, str],
    ranks: Mapping[tuple[Any, ...], pl.DataFrame],
) -> Claim:
    """Test the method against the rival with the highest NDCG@10, with seeds averaged for each user.

    The pair is not tested if one of the two lacks a run, or has a run that the budget ended.
    """
    s, data, number, domain = target

    def mean(system: Row) -> float | None:
        values = [o["domains"].get(domain, {}).get("ndcg@10") for o in outcomes if o["label"] == system.label]
        real = [value for value in values if value is not None]
        return statistics.fmean(real) if real else None

    scored = {system.label: value for system in rivals if (value := mean(system)) is not None}
    only = rivals[0].label if len(rivals) == 1 else None
    best = max(scored, key=lambda label: scored[label], default=only)
    claim: Claim = {
        "protocol": s.protocol,
        "negatives": None if s.protocol == "full" else s.negatives,
        "data": data,
        "domain": domain,
        "method": row.label,
        "rival": best,
        "method_ndcg": mean(row),
        "rival_ndcg": None if best is None else scored.get(best),
        **dict.fromkeys(("difference", "low", "high", "p", "p_holm", "users"), None),  # type: ignore[typeddict-item]
        "verdict": "not tested",
    }
    pair = [system for system in (*rivals, row) if system.label in (best, row.label)]
    for system in pair:
        if any(o["cut"] for o in outcomes if o["label"] == system.label):
            claim["verdict"] = f"no claim: the budget ended {system.label}"
            return claim
        if any((s.protocol, data, system.label, seed) not in ranks for seed in system.seeds):
            claim["verdict"] = f"no claim: {system.label} is not there"
            return claim
    if best is None:
        claim["verdict"] = "no claim: there is no rival"
        return claim
    sides = [
        ndcg_by_user([ranks[s.protocol, data, system.label, seed] for seed in system.seeds], number)
        for system in pair
    ]  # rivals come first in `pair`
    (rival_users, rival), (method_users, method) = sides
    if not rival_users.equals(method_users):
        raise ValueError(f"{best} and {row.label} ranked different targets on {data}: they cannot be compared")
    d = paired_bootstrap(rival, method)
    return {
        **claim,
        "difference": d.mean,
        "low": d.low,
        "high": d.high,
        "p": paired_t(rival, method),
        "users": d.users,
    }


def ndcg_by_user(frames: Sequence[pl.DataFrame], domain: int) -> tuple[pl.DataFrame, np.ndarray]:
    """Return the targets of a domain, and NDCG@10 of each user as the mean over runs with different seeds."""
    in_domain = [frame.filter(pl.col("domain") == domain) for frame in frames]
    targets = in_domain[0].drop("rank")
    if not all(frame.drop("rank").equals(targets) for frame in in_domain):
        raise ValueError("runs of one system ranked different targets")
    return targets, np.mean([ndcg_of(frame["rank"].to_numpy()) for frame in in_domain], axis=0)
