"""Results of a plan so far: rows, columns, outcomes of finished runs, and the tests on them."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import polars as pl

from edt_cli.config import EvaluationSettings
from edt_cli.experiments.compare import Comparison
from edt_cli.experiments.plan import Cell, Plan
from edt_cli.experiments.plan_tests import claims_of
from edt_cli.inference.labels import identity
from edt_cli.inference.results import evaluate, ranks_of
from edt_cli.models.llm_edt_options import UNSOUND
from edt_cli.models.systems import has_llm
from edt_cli.pipeline import Pipeline
from edt_cli.reporting.comparison import Claim, Grid, Outcome, PhaseCost, Row
from edt_cli.reporting.grouping import shown_system
from edt_cli.workspace.documents import RunResult
from edt_cli.workspace.event_types import EpochEnded, Event
from edt_cli.workspace.events import Events, read_events
from edt_cli.workspace.layout import Workspace
from edt_cli.workspace.runs import Run


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
    return ComparisonResults(grid, outcomes, claims_of(grid, c.plan, outcomes, ranks))


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
