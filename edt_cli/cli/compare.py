"""`edt compare`: the runs of a plan, and its tables."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from edt_cli.cli import complete
from edt_cli.cli.common import (
    DATA,
    DeviceOption,
    JsonOption,
    QuickOption,
    WorkspaceOption,
    YesOption,
    emit_json,
    note,
    open_workspace,
    progress,
    seeds_of,
    stdout,
)
from edt_cli.cli.llm import LLMOptions, ask_before_spending, span
from edt_cli.cli.watch import stopping
from edt_cli.experiments.files import PLANS, names

if TYPE_CHECKING:
    from edt_cli.experiments.compare import Comparison
    from edt_cli.experiments.forecast import Forecast
    from edt_cli.experiments.plan import Cell

PlanArgument = Annotated[
    Path,
    typer.Argument(
        help=f"A plan that comes with edt ({', '.join(names(PLANS))}), or one as TOML: data, systems, seeds, "
        "budget."
    ),
]


def compare(
    plan: PlanArgument,
    data: Annotated[
        list[str] | None,
        typer.Option(
            "--data",
            "-d",
            help="Datasets in place of the plan's; repeatable.",
            rich_help_panel=DATA,
            autocompletion=complete.datasets,
        ),
    ] = None,
    seeds: Annotated[
        str | None, typer.Option("--seeds", metavar="N,...", help="Seeds of all systems in place of the plan's.")
    ] = None,
    preset: Annotated[
        str | None,
        typer.Option(
            "--preset", help="Preset of the method's rows that name none.", autocompletion=complete.presets
        ),
    ] = None,
    jobs: Annotated[int, typer.Option("--jobs", min=1, help="Runs at a time, the cores shared among them.")] = 1,
    dry_run: Annotated[
        bool,
        typer.Option(
            "--dry-run", help="Show each run, what is left, and how long such runs took here; make nothing."
        ),
    ] = False,
    quick: QuickOption = False,
    device: DeviceOption = "auto",
    workspace_: WorkspaceOption = None,
    yes: YesOption = False,
    json_: JsonOption = False,
) -> None:
    """Make the runs of a plan, such as the paper's table 2, and show its tables.

    What is finished is not made again, what was cut off goes on, and a run that fails stops no other.
    What there is so far: edt report --plan PLAN.

    Examples:
        edt compare table-2 --jobs 2
        edt compare table-3 --data mine --seeds 42,44,46 --dry-run
        edt compare plan.toml --yes --json
    """
    from edt_cli.experiments.compare import Comparison
    from edt_cli.experiments.compare import compare as make
    from edt_cli.experiments.plan import Plan
    from edt_cli.training.device import open_device
    from edt_cli.workspace.events import Events
    from edt_cli.workspace.jobs import at_work

    workspace = open_workspace(workspace_)
    changed = Plan.read(plan).changed(data=data or (), seeds=seeds_of(seeds) if seeds else (), preset=preset)
    comparison = Comparison.open(workspace, changed, quick=quick)
    if dry_run:
        _show_states(comparison, as_json=json_)
        return
    chosen = str(open_device(device))
    _ask(comparison, LLMOptions(yes=yes), as_json=json_)
    with stopping(), at_work(workspace, "compare", plan.stem) as events, progress() as listen:
        events.listeners = (listen,)
        failed = make(comparison, jobs=jobs, device=device, events=events)
    _show(comparison, chosen, failed, Events(), as_json=json_)
    for cell, why in failed.items():
        note(f"{cell} failed: {why}")
    if failed:
        raise typer.Exit(1)


def _ask(comparison: Comparison, llm: LLMOptions, *, as_json: bool) -> None:
    """Ask before anything is spent, once for runs with the same artefacts; their processes do not ask again."""
    from edt_cli.models.systems import asks_llm

    shown = set()
    for cell in comparison.cells:
        pipeline = comparison.pipeline(cell)
        keys = tuple(sorted(pipeline.artefact_keys().items()))
        if asks_llm(pipeline.settings.model) and keys not in shown:
            shown.add(keys)
            pipeline.providers.check()
            ask_before_spending(pipeline, llm, as_json=as_json)


def _show_states(comparison: Comparison, *, as_json: bool) -> None:
    from rich.table import Table
    from rich.text import Text

    from edt_cli.experiments.forecast import forecast

    table = Table("data", "system", "seed", "state", "run")
    cells = []
    for cell in comparison.cells:
        run = comparison.run(cell)
        row = {
            "data": cell.data,
            "system": cell.label,
            "model": cell.model,
            "preset": cell.preset_name,
            "seed": cell.seed,
            "state": comparison.state(run),
            "run": run.name if run else None,
        }
        cells.append(row)
        table.add_row(*(Text(str(row[key] or "")) for key in ("data", "system", "seed", "state", "run")))
    ahead = forecast(comparison)
    if as_json:
        emit_json({"cells": cells, "forecast": _forecast_document(ahead)})
        return
    stdout().print(table)
    note(_forecast_line(ahead, len(comparison.unique)))


def _forecast_document(ahead: Forecast) -> dict[str, Any]:
    return {
        "runs": len(ahead.left),
        "seconds": ahead.seconds,
        "runs_of_unknown_time": len(ahead.unknown),
        "llm_calls": list(ahead.calls),
        "cost_usd": None if ahead.cost is None else list(ahead.cost),
    }


def _forecast_line(ahead: Forecast, runs: int) -> str:
    line = f"{runs - len(ahead.left)} of {runs} runs are made, {len(ahead.left)} are left"
    known = len(ahead.left) - len(ahead.unknown)
    if known:
        minutes = round(ahead.seconds / 60)
        line += f"; {known} of them take about {minutes // 60}:{minutes % 60:02} hours, by such runs here"
    if ahead.unknown:
        line += f"; of {len(ahead.unknown)} nothing like them was made here yet"
    if ahead.calls.high:
        cost = "at a price that is not known" if ahead.cost is None else f"{span(ahead.cost, '{:,.4f}')} USD"
        line += f"; {span(ahead.calls, '{:,.0f}')} LLM calls, {cost}"
    return line


def _show(comparison: Comparison, device: str, failed: dict[Cell, str], events: Any, *, as_json: bool) -> None:
    from edt_cli.experiments.compare import collect_results
    from edt_cli.reporting.comparison import comparison_tables
    from edt_cli.reporting.render import document, render

    result = collect_results(comparison, device, events)
    tables = comparison_tables(result.grid, result.outcomes, result.claims)
    if as_json:
        emit_json(
            {
                "runs": result.outcomes,
                "claims": result.claims,
                "failed": [
                    {"data": cell.data, "system": cell.label, "seed": cell.seed, "why": why}
                    for cell, why in failed.items()
                ],
                "tables": [document(table) for table in tables],
            }
        )
        return
    for table in tables:
        stdout().print(render(table, "terminal"))
