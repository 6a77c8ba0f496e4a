"""What `edt report` shows of plans: of one by its name, and of all the paper's tables and figures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from edt_cli.experiments.findings import Findings
    from edt_cli.reporting.figure import Figure
    from edt_cli.reporting.table import Table
    from edt_cli.workspace.layout import Workspace
    from edt_cli.workspace.runs import Run


class PlanReport(NamedTuple):
    """Tables and figures of plans, and the runs behind them."""

    tables: list[Table]
    figures: list[Figure]
    runs: list[Run]


@dataclass(frozen=True)
class Made:
    """Which runs of a plan are meant, if not those of its own seeds, preset and limits."""

    seeds: Sequence[int] = ()
    preset: str | None = None
    budget: Mapping[str, float] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self.seeds or self.preset or self.budget)


def of_plan(workspace: Workspace, path: Path, data: str | None, device: str, made: Made) -> PlanReport:
    """Return the tables and figures of a plan, as far as it is made.

    Raises:
        UserError: If nothing of it is made; it says how to make it.
    """
    from edt_cli.config import UserError
    from edt_cli.experiments.compare import Comparison
    from edt_cli.experiments.files import evidence
    from edt_cli.experiments.findings import findings
    from edt_cli.experiments.plan import Plan
    from edt_cli.training.device import open_device

    plan = Plan.read(path).changed(
        data=[data] if data else (), seeds=made.seeds, preset=made.preset, budget=made.budget
    )
    comparison = Comparison.open(workspace, plan)
    found = findings(comparison, str(open_device(device)))
    if not (found.tables or found.figures):
        command = f"reproduce {path} --data {data}" if data and str(path) in evidence() else f"compare {path}"
        what = comparison.what.removesuffix("s")
        raise UserError(f"no {what} of {path} is finished yet; make them with: edt {command}")
    return _report(workspace, [found])


def of_paper(workspace: Workspace, data: str, device: str, made: Made) -> PlanReport:
    """Return the tables and figures of the paper's plans on a dataset, as far as they are made.

    Raises:
        UserError: If nothing of them is made.
    """
    from edt_backends.base import BackendError
    from edt_cli.config import UserError
    from edt_cli.experiments.evidence import ALL, Wanted, named
    from edt_cli.experiments.findings import findings
    from edt_cli.experiments.llms import LOCAL, compares_llms
    from edt_cli.training.device import open_device
    from edt_cli.workspace.runs import all_runs

    llms = {run.settings.llm.provider for run in all_runs(workspace)} - {LOCAL}
    wanted = Wanted(data=[data], seeds=made.seeds, preset=made.preset, budget=made.budget)
    chosen = str(open_device(device))
    found: list[Findings] = []
    for name in named([ALL]):
        comparison = wanted.open(workspace, name)
        if compares_llms(comparison.plan) and not llms:  # else litellm is loaded for nothing
            continue
        try:
            begun = any(comparison.state(cell) in ("finished", "not evaluated") for cell in comparison.unique)
        except BackendError:  # without a key for an LLM, nothing of it is looked for
            continue
        if begun:
            found.append(findings(comparison, chosen))
    report = _report(workspace, found)
    if not (report.tables or report.figures):
        raise UserError(f"nothing of the paper is made yet; make it with: edt reproduce all --data {data}")
    return report


def _report(workspace: Workspace, found: Sequence[Findings]) -> PlanReport:
    from edt_cli.workspace.runs import find_runs

    names = dict.fromkeys(outcome["run"] for one in found for outcome in one.outcomes)
    return PlanReport(
        tables=[table for one in found for table in one.tables],
        figures=[figure for one in found for figure in one.figures],
        runs=find_runs(workspace, None, list(names), unsound=True) if names else [],
    )


def figures_of_artefacts(workspace: Workspace, number: int, data: Sequence[str]) -> list[Figure]:
    """Return a figure that needs no run, of the artefacts of its plan; none if one of them is not made."""
    from edt_cli.experiments.evidence import Wanted
    from edt_cli.experiments.findings import findings

    comparison = Wanted(data=data).open(workspace, f"figure-{number}")
    whole = all(comparison.state(cell) == "finished" for cell in comparison.cells)
    return list(findings(comparison).figures) if whole else []


def data_of(workspace: Workspace, data: str | None) -> str:
    """Return the dataset that is named, or else that of the newest run, or the only one.

    Raises:
        UsageError: If none of them is there.
    """
    from edt_cli.config import UsageError
    from edt_cli.workspace.runs import all_runs

    runs = [run for run in all_runs(workspace) if run.finished and not run.quick]
    datasets = [artefact.key for artefact in workspace.datasets() if "sample_of" not in artefact.manifest()]
    if data is None and not runs and len(datasets) != 1:
        raise UsageError(f"name the dataset with --data; there are: {', '.join(datasets) or 'none'}")
    return data or (runs[-1].plan["data"] if runs else datasets[0])
