"""The runs of a plan, each a process of its own; what is finished of them; and whether the method is better.

A cell's run is found by its key, so a plan that was cut off goes on where it was, and runs that were made without
the plan count too. Nothing of a comparison is kept but its runs.
"""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np
import polars as pl

from edt_cli.config import EvaluationSettings
from edt_cli.data.open import open_dataset
from edt_cli.evaluation.candidates import candidates
from edt_cli.evaluation.significance import holm, ndcg_of, paired_bootstrap, paired_t
from edt_cli.experiments.plan import Cell, Plan
from edt_cli.inference.labels import identity
from edt_cli.inference.results import evaluate, evaluated, ranks_of
from edt_cli.llm.providers import Providers
from edt_cli.models.systems import has_llm
from edt_cli.pipeline import Pipeline
from edt_cli.pipeline.stages import OFF
from edt_cli.reporting.comparison import Claim, Grid, Outcome, PhaseCost, Row
from edt_cli.reporting.grouping import shown_system
from edt_cli.workspace.events import Events, read_events
from edt_cli.workspace.jobs import Launched, launch
from edt_cli.workspace.layout import Workspace
from edt_cli.workspace.runs import Run
from edt_cli.workspace.status import RunStatus, status_of

if TYPE_CHECKING:
    from edt_cli.data.dataset import Dataset

State = Literal["finished", "not evaluated", "at work", "failed", "begun", "to do"]
POLL_S = 0.2
WIDTH = 100
LEVEL = 0.05


@dataclass(frozen=True)
class Comparison:
    """A plan in a workspace."""

    workspace: Workspace
    plan: Plan
    cells: list[Cell]
    datasets: Mapping[str, Dataset]
    providers: dict[tuple[Any, ...], Providers] = field(default_factory=dict)

    @classmethod
    def open(cls, workspace: Workspace, plan: Plan) -> Comparison:
        """Errors: UserError for a dataset that is not there; UsageError for a cell that no run can have."""
        return cls(
            workspace=workspace,
            plan=plan,
            cells=plan.cells(),
            datasets={name: open_dataset(workspace, name) for name in plan.data},
        )

    def pipeline(self, cell: Cell) -> Pipeline:
        """Made anew at each call: what other processes have made since is seen."""
        settings = cell.settings()
        asked = (settings.llm.model_dump_json(), settings.embedding.model_dump_json(), settings.limits)
        shared = self.providers.setdefault(asked, Providers(self.workspace, settings))
        return Pipeline(
            workspace=self.workspace,
            dataset=self.datasets[cell.data],
            settings=settings,
            shared=shared,
            preset=cell.preset_name,
        )

    def run(self, cell: Cell) -> Run | None:
        return self.pipeline(cell).existing()

    def state(self, run: Run | None) -> State:
        if run is None:
            return "to do"
        if not run.finished:
            status = status_of(run.folder)
            return "at work" if status.live else "failed" if status == RunStatus.FAILED else "begun"
        done = all(evaluated(self.workspace, run, "test", s) for s in self.plan.evaluations)
        return "finished" if done else "not evaluated"


def compare(c: Comparison, *, jobs: int = 1, device: str = "auto", events: Events | None = None) -> dict[Cell, str]:
    """Make what is not finished, `jobs` runs at a time, and go on where one fails; returns why each of those did.

    Whatever ends this process ends those that it began, but a signal that no process can catch; they then go on
    by themselves, and the same plan waits for them.
    """
    events = events or Events()
    for dataset in c.datasets.values():
        # What two processes would both draw.
        keep_seen = dataset.keeps_seen(c.plan.keep_seen)
        candidates(c.workspace, dataset, "test", c.plan.negatives, keep_seen=keep_seen)
    waiting = [cell for cell in c.cells if c.state(c.run(cell)) != "finished"]
    total, failed = len(c.cells), dict[Cell, str]()
    events.emit("plan", message=f"{total - len(waiting)} of {total} runs are finished, {len(waiting)} are left")
    at_work: dict[Cell, _AtWork] = {}
    threads = {"OMP_NUM_THREADS": str(max(1, _cores() // jobs))} if jobs > 1 else {}
    try:
        while waiting or at_work:
            while len(at_work) < jobs and (found := _next(c, waiting, at_work)):
                cell, missing = found
                waiting.remove(cell)
                arguments = [*cell.arguments(device), "--workspace", str(c.workspace.root)]
                process = launch(c.workspace, "train", cell.data, arguments, WIDTH, threads)
                at_work[cell] = _AtWork(process, missing, time.monotonic())
                message = f"{cell}: begins; to look at it: edt ui --attach {process.folder.name}"
                events.emit("cell", message=message)
            for cell, one in list(at_work.items()):
                code = one.process.code()
                if code is None:
                    continue
                del at_work[cell]
                if code:
                    failed[cell] = one.process.last_words().removeprefix("error: ")
                told = f"failed: {failed[cell]}" if code else f"done in {time.monotonic() - one.since:.0f} s"
                events.emit("cell", message=f"{cell}: {told}")
            events.progress("runs", total - len(waiting) - len(at_work), total)
            time.sleep(POLL_S)
    finally:
        for one in at_work.values():
            one.process.end()
    return failed


class _AtWork(NamedTuple):
    process: Launched
    making: frozenset[tuple[str, str]]
    since: float


def _next(
    c: Comparison, waiting: Sequence[Cell], at_work: Mapping[Cell, _AtWork]
) -> tuple[Cell, frozenset[tuple[str, str]]] | None:
    """The first cell that needs nothing which another is making: an LLM is asked once, not by two at a time."""
    making = frozenset[tuple[str, str]]().union(*(one.making for one in at_work.values()))
    for cell in waiting:
        pipeline = c.pipeline(cell)
        keys = {kind: key for kind, key in pipeline.artefact_keys().items() if key != OFF}
        missing = frozenset((kind, key) for kind, key in keys.items() if not pipeline.made(kind))
        if not missing & making:
            return cell, missing
    return None


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@dataclass(frozen=True)
class Found:
    """What there is of a comparison: its rows and columns, the outcomes of finished runs, the tests on them."""

    grid: Grid
    outcomes: list[Outcome]
    claims: list[Claim]


def found(c: Comparison, device: str = "cpu", events: Events | None = None) -> Found:
    """Reads every finished run; evaluates those that were cut off before that."""
    outcomes, ranks, rows = [], dict[tuple[Any, ...], pl.DataFrame](), dict[str, Row]()
    for cell in c.cells:
        pipeline = c.pipeline(cell)
        label = _shown(cell, pipeline)
        row = rows.setdefault(label, Row(label, cell.model, ()))
        rows[label] = row._replace(seeds=tuple(dict.fromkeys((*row.seeds, cell.seed))))
        run = pipeline.existing()
        if run is None or not run.finished:
            continue
        phases = _phases(run)
        for s in c.plan.evaluations:
            document = evaluate(c.workspace, run, "test", s, events or Events(), device)[0]
            outcomes.append(_outcome({**document, **identity(run)}, label, phases))
            ranks[s.protocol, cell.data, label, cell.seed] = ranks_of(run, document)
    domains = {name: dataset.domains.names for name, dataset in c.datasets.items()}
    grid = Grid(domains, list(rows.values()), c.plan.method)
    return Found(grid, outcomes, _claims(grid, c.plan.evaluations, outcomes, ranks))


def _shown(cell: Cell, pipeline: Pipeline) -> str:
    """The row's label, with the LLM that had a part in it."""
    return shown_system(cell.label, "", pipeline.llm_name if has_llm(pipeline.settings) else "")


def _outcome(document: dict[str, Any], label: str, phases: dict[str, PhaseCost]) -> Outcome:
    cut = any(phase["ended"] != "patience" for phase in phases.values())
    return {**document, "label": label, "phases": phases, "cut": cut}  # type: ignore[typeddict-item]


def _phases(run: Run) -> dict[str, PhaseCost]:
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


def epoch_seconds(events: Sequence[dict[str, Any]], phase: str) -> float | None:
    """The median over a phase's validations of the seconds that an epoch took, its validation among them; None
    without an epoch."""
    told = [event for event in events if event["event"] == "epoch" and event["phase"] == phase]
    each = [
        (after["seconds"] - before["seconds"]) / (after["epoch"] - before["epoch"])
        for before, after in pairwise(told)
        if after["epoch"] > before["epoch"]
    ]
    return statistics.median(each) if each else None


def _claims(
    grid: Grid,
    evaluations: Sequence[EvaluationSettings],
    outcomes: Sequence[Outcome],
    ranks: Mapping[tuple[Any, ...], pl.DataFrame],
) -> list[Claim]:
    """One for each row of the method, protocol, dataset and domain, corrected for all of these together; one that
    cannot be tested counts among them."""
    methods = [row for row in grid.rows if row.model == grid.method]
    rivals = [row for row in grid.rows if row.model != grid.method]
    claims = [
        _claim(row, rivals, [o for o in outcomes if (o["protocol"], o["data"]) == (s.protocol, data)], where, ranks)
        for s in evaluations
        for data, domains in grid.domains.items()
        for row in (methods if rivals else ())
        for where in ((s, data, number, name) for number, name in enumerate(domains))
    ]
    better = holm([1.0 if claim["p"] is None else claim["p"] for claim in claims])
    worse = holm([1.0 if claim["p"] is None else 1.0 - claim["p"] for claim in claims])
    for claim, p, other in zip(claims, better, worse, strict=True):
        if claim["p"] is not None:
            claim["p_holm"] = p
            claim["verdict"] = _verdict(claim, p, other)
    return claims


def _verdict(claim: Claim, better: float, worse: float) -> str:
    """By the corrected one-sided tests of either side and the interval, which must agree."""
    if better < LEVEL and (claim["low"] or 0) > 0:
        return "better"
    return "worse" if worse < LEVEL and (claim["high"] or 0) < 0 else "not clear"


def _claim(
    row: Row,
    rivals: Sequence[Row],
    outcomes: Sequence[Outcome],
    where: tuple[EvaluationSettings, str, int, str],
    ranks: Mapping[tuple[Any, ...], pl.DataFrame],
) -> Claim:
    """The method against the rival with the highest NDCG@10, seeds averaged user by user. None is tested where one
    of the two has a run missing, or one that the budget ended."""
    s, data, number, domain = where

    def mean(one: Row) -> float | None:
        values = [o["domains"].get(domain, {}).get("ndcg@10") for o in outcomes if o["label"] == one.label]
        real = [value for value in values if value is not None]
        return statistics.fmean(real) if real else None

    scored = {one.label: value for one in rivals if (value := mean(one)) is not None}
    best = max(scored, key=lambda label: scored[label], default=None)
    claim: Claim = {
        "protocol": s.protocol,
        "negatives": s.negatives if s.protocol == "sampled" else None,
        "data": data,
        "domain": domain,
        "method": row.label,
        "rival": best,
        "method_ndcg": mean(row),
        "rival_ndcg": None if best is None else scored[best],
        **dict.fromkeys(("difference", "low", "high", "p", "p_holm", "users"), None),  # type: ignore[typeddict-item]
        "verdict": "not tested",
    }
    pair = [one for one in (*rivals, row) if one.label in (best, row.label)]
    for one in pair:
        if any(o["cut"] for o in outcomes if o["label"] == one.label):
            claim["verdict"] = f"no claim: the budget ended {one.label}"
            return claim
        if any((s.protocol, data, one.label, seed) not in ranks for seed in one.seeds):
            claim["verdict"] = f"no claim: {one.label} is not there"
            return claim
    if best is None:
        claim["verdict"] = "no claim: there is no rival"
        return claim
    sides = [
        _of_users([ranks[s.protocol, data, one.label, seed] for seed in one.seeds], number) for one in pair
    ]  # the rival, then the method
    (rival_users, rival), (method_users, method) = sides
    if not rival_users.equals(method_users):
        raise ValueError(f"{best} and {row.label} ranked other targets on {data}: they cannot be compared")
    d = paired_bootstrap(rival, method)
    return {
        **claim,
        "difference": d.mean,
        "low": d.low,
        "high": d.high,
        "p": paired_t(rival, method),
        "users": d.users,
    }


def _of_users(frames: Sequence[pl.DataFrame], domain: int) -> tuple[pl.DataFrame, np.ndarray]:
    """The targets of a domain, and NDCG@10 of each user: the mean over the runs of several seeds."""
    own = [frame.filter(pl.col("domain") == domain) for frame in frames]
    targets = own[0].drop("rank")
    if not all(frame.drop("rank").equals(targets) for frame in own):
        raise ValueError("runs of one system ranked different targets")
    return targets, np.mean([ndcg_of(frame["rank"].to_numpy()) for frame in own], axis=0)
