"""`edt compare`: the runs of a plan, and its tables."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from edt_cli.cli import complete
from edt_cli.cli.common import (
    DATA,
    DeviceOption,
    JsonOption,
    PromptsOption,
    QuickOption,
    SetOption,
    WorkspaceOption,
    YesOption,
    emit_json,
    open_workspace,
    seeds_of,
)
from edt_cli.cli.llm import MaxFailedOption, RetryFailedOption
from edt_cli.cli.planned import (
    CpusOption,
    GpusOption,
    JobsOption,
    MemoryOption,
    OnOption,
    ask,
    end_with,
    found_document,
    launcher_of,
    make_runs,
    of_every_row,
    show_states,
)
from edt_cli.cli.tables import write_tables
from edt_cli.cli.watch import stopping
from edt_cli.experiments.files import PLANS, names

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
    jobs: JobsOption = None,
    on: OnOption = None,
    cpus: CpusOption = 1.0,
    gpus: GpusOption = 0.0,
    memory: MemoryOption = None,
    dry_run: Annotated[
        bool,
        typer.Option(
            "--dry-run", help="Show each run, what is left, and how long such runs took here; make nothing."
        ),
    ] = False,
    prompts: PromptsOption = None,
    set_: SetOption = None,
    max_failed: MaxFailedOption = None,
    retry_failed: RetryFailedOption = False,
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
        edt compare plan.toml --on ray:10.0.0.1:6379 --gpus 1 --yes
    """
    from edt_cli.experiments.compare import Comparison
    from edt_cli.experiments.findings import findings
    from edt_cli.experiments.plan import Plan, merged
    from edt_cli.training.device import open_device
    from edt_cli.workspace.jobs import at_work

    workspace = open_workspace(workspace_)
    own = {} if prompts is None else {"llm": {"prompts": str(prompts.absolute())}}
    settings = merged(of_every_row(set_), own)
    changed = Plan.read(plan).changed(
        data=data or (), seeds=seeds_of(seeds) if seeds else (), preset=preset, settings=settings
    )
    opened = Comparison.open(workspace, changed, quick=quick)
    comparison = replace(opened, max_failed=max_failed, retry_failed=retry_failed, dry=dry_run)
    if dry_run:
        show_states({plan.stem: comparison}, as_json=json_)
        return
    chosen = str(open_device(device))
    ask([comparison], yes=yes)
    with (
        launcher_of(on, cpus, gpus, memory) as launcher,
        stopping(),
        at_work(workspace, "compare", plan.stem) as events,
    ):
        failed = make_runs(comparison, events, jobs=jobs, device=device, launcher=launcher)
    found = findings(comparison, chosen)
    if json_:
        emit_json(found_document(found, failed))
    else:
        write_tables(found.tables, "terminal", None, figures=found.figures)
    end_with(failed)
