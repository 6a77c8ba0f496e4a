"""Rows of plans: the finished runs of each, with their ranks, and the command that makes what is missing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import polars as pl

from edt_cli.config import EvaluationSettings
from edt_cli.experiments.compare import Comparison
from edt_cli.experiments.llms import LOCAL
from edt_cli.experiments.plan import Cell, Plan
from edt_cli.experiments.plan_results import outcome_of
from edt_cli.inference.results import evaluated
from edt_cli.reporting.comparison import Outcome
from edt_cli.workspace.events import Events
from edt_cli.workspace.runs import Run

if TYPE_CHECKING:
    from edt_cli.data.dataset import Dataset
    from edt_cli.pipeline import Pipeline


class Ranked(NamedTuple):
    """A finished run with its result and ranks."""

    run: Run
    outcome: Outcome
    ranks: pl.DataFrame


@dataclass(frozen=True)
class Row:
    """Finished runs of a row of a plan on a dataset.

    Attributes:
        label: Label of the row.
        pipeline: Pipeline of the row's first seed.
        seeds: Seeds that the plan wants.
        runs: Run of each seed that is there.
    """

    label: str
    pipeline: Pipeline
    seeds: Sequence[int]
    runs: Mapping[int, Ranked]

    @property
    def llm(self) -> str:
        """Provider of the LLM."""
        return self.pipeline.settings.llm.provider


@dataclass(frozen=True)
class Reader:
    """Rows of plans, each read once.

    Attributes:
        plans: Plans by name.
        data: Dataset whose runs are read.
        device: Name of the device to rank on; None to leave out runs that are not evaluated yet.
        events: Where progress is reported.
    """

    plans: Mapping[str, Comparison]
    data: str
    device: str | None
    events: Events | None
    _rows: dict[tuple[str, str], Row] = field(default_factory=dict)

    @property
    def dataset(self) -> Dataset:
        return next(iter(self.plans.values())).datasets[self.data]

    def wanted(self, plan: str) -> Plan:
        """Return a plan as it is wanted; for one that is not there another, whose seeds and limits are the same."""
        return (self.plans.get(plan) or next(iter(self.plans.values()))).plan

    def row(self, plan: str, name: str | int | None) -> Row | None:
        """Return a row by its label or place, or that of the whole method; None if the plan is not there."""
        if plan not in self.plans:
            return None
        c = self.plans[plan]
        label = _label(c.plan, name)
        if (plan, label) not in self._rows:
            cells = [cell for cell in c.cells if (cell.data, cell.label) == (self.data, label)]
            runs = {cell.seed: found for cell in cells if (found := self._result(c, cell)) is not None}
            seeds = [cell.seed for cell in cells]
            self._rows[plan, label] = Row(label, c.pipeline(cells[0]), seeds, runs)
        return self._rows[plan, label]

    def _result(self, c: Comparison, cell: Cell) -> Ranked | None:
        """Return the finished run of a cell with its result, or None if there is none."""
        s = EvaluationSettings(protocol="full", negatives=c.plan.negatives, keep_seen=c.plan.keep_seen)
        run = c.run(cell)
        if run is None or not run.finished or (self.device is None and not evaluated(c.workspace, run, "test", s)):
            return None
        device = self.device or "cpu"
        found = outcome_of(c.workspace, run, s, cell.label, self.events, device, first_phase=cell.first_phase)
        return None if found is None else Ranked(run, *found)

    def command(self, plan: str, *, llm: bool) -> str:
        """Return the command that makes the runs of a plan.

        Args:
            plan: Name of the plan.
            llm: Whether an LLM has to make them.
        """
        wanted, usual = self.wanted(plan), Plan.read(Path(plan))
        parts = ["edt reproduce", plan, "--data", self.data, "--seeds", ",".join(map(str, wanted.seeds))]
        if wanted.preset != usual.preset:
            parts += ["--preset", str(wanted.preset)]
        for name, value in wanted.budget:
            if value != getattr(usual.budget, name):
                parts += [f"--{name}", f"{value:g}"]
        given = wanted.settings.get("llm", {})
        provider = str(given.get("provider", LOCAL))
        if llm or provider != LOCAL:
            parts += ["--llm", "PROVIDER/MODEL" if provider == LOCAL else provider]
        if "limit_users" in given:
            parts += ["--limit-users", str(given["limit_users"])]
        return " ".join(parts)


def _label(plan: Plan, name: str | int | None) -> str:
    """Return the label of a row; the row of the whole method is the first of its model without an ablation."""
    if isinstance(name, str):
        return name
    if name is None:
        name = [(entry.model, entry.ablation) for entry in plan.systems].index((plan.method, None))
    labels = plan.labels()
    return labels[min(name, len(labels) - 1)]  # table-8 has one row where `local` is its only LLM
