"""What `edt compare` and `edt reproduce` share: states of plans, the question before money is spent, the runs."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout
from typing import TYPE_CHECKING, Annotated, Any

import typer

from edt_cli.cli.common import CLUSTER, emit_json, note, progress, stdout
from edt_cli.cli.llm import confirm_spending, span

if TYPE_CHECKING:
    from edt_cli.experiments.compare import Comparison, Launcher
    from edt_cli.experiments.findings import Findings
    from edt_cli.experiments.forecast import Forecast
    from edt_cli.experiments.on_ray import RayCluster
    from edt_cli.experiments.plan import Cell, Values
    from edt_cli.reporting.table import Table
    from edt_cli.workspace.events import Events


def of_every_row(assignments: Sequence[str] | None) -> Values:
    """Return the settings of `--set` for every row of a plan.

    Raises:
        UsageError: If one is not of the form section.field=value.
    """
    from edt_cli.config import parse_assignments

    parsed = parse_assignments(list(assignments or ()))
    return {
        section: {name: "none" if value is None else value for name, value in fields.items()}
        for section, fields in parsed.items()
    }


def show_states(comparisons: Mapping[str, Comparison], *, as_json: bool, more: Sequence[Table] = ()) -> None:
    """Show each cell of plans, by their names, a forecast of what is left, and estimated bills; make nothing.

    Args:
        comparisons: Plans by name.
        as_json: Whether to print one JSON document.
        more: Tables of what there is already.
    """
    from rich.table import Table as RichTable
    from rich.text import Text

    from edt_cli.experiments.findings import findings, is_bill
    from edt_cli.experiments.forecast import forecast
    from edt_cli.reporting.render import document, render

    heads = ["data", "system", "seed", "state", "run"]
    if len(comparisons) > 1:
        heads.insert(0, "of")
    table, cells = RichTable(*heads), []
    for name, comparison in comparisons.items():
        for cell in comparison.cells:
            run = comparison.run(cell)
            row = {
                "of": name,
                "data": cell.data,
                "system": cell.label,
                "model": cell.model,
                "preset": cell.preset_name,
                "seed": cell.seed,
                "stage": cell.stage,
                "state": comparison.state(cell),
                "run": run.name if run else None,
            }
            cells.append(row)
            table.add_row(*(Text(str(row[key] or "")) for key in heads))
    ahead = forecast(*comparisons.values())
    bills = [table for c in comparisons.values() if is_bill(c) for table in findings(c).tables]
    tables = [*bills, *more]
    if as_json:
        shown = {"tables": [document(one) for one in tables]} if tables else {}
        emit_json({"cells": cells, "forecast": ahead.document(), **shown})
        return
    for one in (table, *(render(one, "terminal") for one in tables)):
        stdout().print(one)
    note(forecast_line(ahead))


def forecast_line(ahead: Forecast) -> str:
    """Format a forecast as one line."""
    line = f"{ahead.total - len(ahead.left)} of {ahead.total} {ahead.what} are made, {len(ahead.left)} are left"
    known = len(ahead.left) - len(ahead.unknown)
    if known:
        minutes = round(ahead.seconds / 60)
        line += f"; {known} of them take about {minutes // 60}:{minutes % 60:02} hours, by such {ahead.what} here"
    if ahead.unknown:
        line += f"; of {len(ahead.unknown)} nothing like them was made here yet"
    if ahead.calls.high:
        cost = "at a price that is not known" if ahead.cost is None else f"{span(ahead.cost, '{:,.4f}')} USD"
        line += f"; {span(ahead.calls, '{:,.0f}')} LLM calls, {cost}"
    return line


def ask(comparisons: Sequence[Comparison], *, yes: bool) -> None:
    """Check that every LLM can be asked, and ask once for all plans before anything is spent.

    The processes of the runs do not ask again.

    Raises:
        BackendError: If a key is missing, or a provider is unknown.
        UsageError: If there is no terminal to ask on, and no --yes.
        typer.Abort: If the answer is no.
    """
    from edt_cli.experiments.forecast import forecast
    from edt_cli.models.systems import asks_llm

    pipelines = [c.pipeline(cell) for c in comparisons for cell in c.unique]
    asking = [pipeline for pipeline in pipelines if asks_llm(pipeline.settings.model)]
    for pipeline in asking:
        pipeline.providers.check()
    if not any(pipeline.providers.paid for pipeline in asking):
        return
    ahead = forecast(*comparisons)
    if ahead.calls.high:
        note(forecast_line(ahead))
        confirm_spending(yes=yes)


OnOption = Annotated[
    str | None,
    typer.Option(
        "--on",
        metavar="ray[:ADDRESS]",
        help="Make the runs on a Ray cluster that shares the workspace's folder.",
        rich_help_panel=CLUSTER,
    ),
]
CpusOption = Annotated[
    float, typer.Option("--cpus", min=0.1, help="Cores of a run on the cluster.", rich_help_panel=CLUSTER)
]
GpusOption = Annotated[
    float, typer.Option("--gpus", min=0, help="GPUs of a run on the cluster, or a share.", rich_help_panel=CLUSTER)
]
MemoryOption = Annotated[
    float | None,
    typer.Option("--memory", min=0, help="Free memory that a run needs there, in GB.", rich_help_panel=CLUSTER),
]
JobsOption = Annotated[
    int | None,
    typer.Option("--jobs", min=1, help="Runs at a time: 1 without it; on a cluster as many as fit."),
]


@contextmanager
def launcher_of(on: str | None, cpus: float, gpus: float, memory: float | None) -> Iterator[RayCluster | None]:
    """Yield what starts runs on a cluster; None for this machine.

    Raises:
        UsageError: If there is no such cluster, or it has no machine for such a run.
        UserError: If Ray is not installed, or the cluster cannot be reached.
    """
    if on is None:
        yield None
        return
    from edt_cli.experiments.on_ray import RayCluster, Resources

    cluster = RayCluster.connect(on, Resources(cpus, gpus, None if memory is None else int(memory * 1e9)))
    try:
        with redirect_stdout(sys.stderr):  # Ray prints what happens to its workers
            yield cluster
    finally:
        cluster.close()


def make_runs(
    comparison: Comparison, events: Events, *, jobs: int | None, device: str, launcher: Launcher | None = None
) -> dict[Cell, str]:
    """Make what is missing of a plan, with its progress on the terminal.

    Args:
        comparison: The plan.
        events: Where progress is reported.
        jobs: Runs at a time; None for 1, on a cluster for as many as fit.
        device: Device of each run.
        launcher: What starts them; None for this machine.

    Returns:
        The error of each cell that failed.
    """
    from edt_cli.experiments.compare import compare

    with progress() as listen:
        events.listeners = (listen,)
        at_once = jobs or (1 if launcher is None else len(comparison.unique) or 1)
        failed = compare(comparison, jobs=at_once, device=device, events=events, launcher=launcher)
    events.listeners = ()
    return failed


def end_with(failed: Mapping[Cell, str]) -> None:
    """Tell of each cell that failed, and end the command with exit code 1 if there is one."""
    for cell, why in failed.items():
        note(f"{cell} failed: {why}")
    if failed:
        raise typer.Exit(1)


def found_document(found: Findings, failed: Mapping[Cell, str]) -> dict[str, Any]:
    """Return what a plan has found, and what failed of it, as a JSON document."""
    from edt_cli.reporting.figure_data import figure_document
    from edt_cli.reporting.render import document

    return {
        "runs": found.outcomes,
        "claims": found.claims,
        "failed": failed_documents(failed),
        "tables": [document(table) for table in found.tables],
        "figures": [figure_document(figure) for figure in found.figures],
    }


def failed_documents(failed: Mapping[Cell, str]) -> list[dict[str, Any]]:
    """Return what failed as JSON values."""
    return [
        {"data": cell.data, "system": cell.label, "seed": cell.seed, "why": why} for cell, why in failed.items()
    ]
