"""`edt reproduce`: the paper's tables and figures, from the runs that they need to the end."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from edt_cli.cli import complete
from edt_cli.cli.claims import CLAIMS, reproduce_claims
from edt_cli.cli.common import (
    BUDGET,
    DATA,
    LLM,
    OUTPUT,
    TRAINING,
    ApiBaseOption,
    DeviceOption,
    JsonOption,
    LimitUsersOption,
    PromptsOption,
    QuickOption,
    SetOption,
    WorkspaceOption,
    YesOption,
    choice,
    emit_json,
    note,
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
from edt_cli.cli.tables import check_drawn, form_of, write_tables
from edt_cli.cli.watch import stopping
from edt_cli.experiments.files import evidence
from edt_cli.reporting.table import ReportForm

if TYPE_CHECKING:
    from edt_cli.experiments.compare import Comparison
    from edt_cli.experiments.evidence import Wanted
    from edt_cli.experiments.plan import Cell
    from edt_cli.reporting.figure import Figure
    from edt_cli.reporting.table import Table
    from edt_cli.workspace.layout import Workspace


def reproduce(
    what: Annotated[
        list[str],
        typer.Argument(
            metavar="WHAT...",
            help=f"What to reproduce: {', '.join(evidence())}, or all; or claims, tested one by one. "
            "Section 4.9 is cost.",
            autocompletion=lambda: [*evidence(), "all", CLAIMS],
        ),
    ],
    data: Annotated[
        list[str],
        typer.Option(
            "--data",
            "-d",
            help="Dataset to reproduce it on; repeatable.",
            rich_help_panel=DATA,
            autocompletion=complete.datasets,
        ),
    ],
    seeds: Annotated[
        str | None,
        typer.Option("--seeds", metavar="N,...", help="Seeds of all systems. Default: those of each plan."),
    ] = None,
    preset: Annotated[
        str | None,
        typer.Option(
            "--preset",
            help="Preset of LLM-EDT where a plan names none for its rows. Default: llm-edt-ce.",
            autocompletion=complete.presets,
        ),
    ] = None,
    llm: Annotated[
        list[str] | None,
        typer.Option(
            "--llm",
            metavar="PROVIDER/MODEL[@URL][,EMBEDDER[@URL]]",
            help="LLM of the runs. table-8 and cost compare several: repeatable there, local beside them.",
            rich_help_panel=LLM,
            autocompletion=complete.providers,
        ),
    ] = None,
    api_base: ApiBaseOption = None,
    prompts: PromptsOption = None,
    limit_users: LimitUsersOption = None,
    price: Annotated[
        str | None,
        typer.Option(
            "--price", metavar="IN,OUT|free", help="The LLM's, in USD for a million tokens.", rich_help_panel=BUDGET
        ),
    ] = None,
    max_failed: MaxFailedOption = None,
    retry_failed: RetryFailedOption = False,
    set_: SetOption = None,
    epochs: Annotated[
        int | None,
        typer.Option("--epochs", min=1, help="At most, of pre-training.", rich_help_panel=TRAINING),
    ] = None,
    minutes: Annotated[
        float | None,
        typer.Option(
            "--minutes", help="At most, of each phase; what this ends is marked †.", rich_help_panel=TRAINING
        ),
    ] = None,
    jobs: JobsOption = None,
    on: OnOption = None,
    cpus: CpusOption = 1.0,
    gpus: GpusOption = 0.0,
    memory: MemoryOption = None,
    dry_run: Annotated[
        bool,
        typer.Option("--dry-run", help="Show what is left, how long it takes and costs; make nothing."),
    ] = False,
    quick: QuickOption = False,
    device: DeviceOption = "auto",
    form: Annotated[
        ReportForm,
        choice(
            "--format",
            of=ReportForm,
            help="Form of the result; html: all on one page; png, svg, pdf: figures.",
            panel=OUTPUT,
        ),
    ] = "terminal",
    with_paper: Annotated[
        bool,
        typer.Option(
            "--with-paper",
            help="The paper's figures in the same table, in columns of their own.",
            rich_help_panel=OUTPUT,
        ),
    ] = False,
    out: Annotated[
        Path | None, typer.Option("--out", help="Write tables and figures to this file.", rich_help_panel=OUTPUT)
    ] = None,
    workspace_: WorkspaceOption = None,
    yes: YesOption = False,
    json_: JsonOption = False,
) -> None:
    """Make what is missing of a table or figure of the paper, and show it.

    Runs are those of edt compare: skipped where they exist, shared by tables, gone on with after Ctrl-C.
    What there is already: edt report --table N.

    Examples:
        edt reproduce table-3 --data mine --llm deepseek --set profiling.source=raw --dry-run
        edt reproduce claims --data mine --jobs 2
        edt reproduce all --data mine --jobs 2 --format html --out paper.html
    """
    from edt_cli.config import UsageError
    from edt_cli.experiments.evidence import Wanted, named
    from edt_cli.experiments.findings import beside, findings
    from edt_cli.experiments.llms import LLM as Model
    from edt_cli.experiments.plan import merged
    from edt_cli.training.device import open_device
    from edt_cli.workspace.jobs import at_work

    limits = {"epochs": epochs, "minutes": minutes}
    wanted = Wanted(
        data=data,
        seeds=seeds_of(seeds) if seeds else (),
        preset=preset,
        budget={name: value for name, value in limits.items() if value is not None},
        llms=[Model.parse(text) for text in llm or ()],
        of_llm=_given(
            llm={"api_base": api_base, "prompts": None if prompts is None else str(prompts.absolute())},
            limits={"price": price},
        ),
        of_all=merged(of_every_row(set_), _given(llm={"limit_users": limit_users})),
        quick=quick,
        max_failed=max_failed,
        retry_failed=retry_failed,
        dry=dry_run,
    )
    workspace = open_workspace(workspace_)
    if CLAIMS in what:
        if len(what) > 1:
            raise UsageError(f"{CLAIMS} are of tables of their own seeds: reproduce them by themselves")
        reproduce_claims(
            workspace,
            wanted,
            jobs=jobs,
            launcher=launcher_of(on, cpus, gpus, memory),
            device=device,
            dry_run=dry_run,
            form=form,
            out=out,
            yes=yes,
            as_json=json_,
        )
        return
    comparisons = _open(workspace, wanted, named(what))
    if dry_run:
        show_states(comparisons, as_json=json_)
        return
    check_drawn(form_of(form, out), out, figures=any(c.plan.figure for c in comparisons.values()))
    chosen = str(open_device(device))
    ask(list(comparisons.values()), yes=yes)
    parts: list[dict[str, Any]] = []
    tables: list[Table] = []
    figures: list[Figure] = []
    failed: dict[Cell, str] = {}
    at_once = form == "terminal" and out is None and not json_
    with (
        launcher_of(on, cpus, gpus, memory) as launcher,
        stopping(),
        at_work(workspace, "reproduce", "-".join(what)) as events,
    ):
        for name, comparison in comparisons.items():
            of_part = make_runs(comparison, events, jobs=jobs, device=device, launcher=launcher)
            found = findings(comparison, chosen)
            failed |= of_part
            if with_paper:
                found = beside(found)
            tables += found.tables
            figures += found.figures
            parts.append({"what": name, **found_document(found, of_part)})
            if at_once:
                write_tables(found.tables, form, out, figures=found.figures)
    if json_:
        emit_json({"parts": parts})
    elif not at_once:
        write_tables(tables, form, out, figures=figures)
    end_with(failed)


def _given(**sections: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Return settings by section and field, without those that are None."""
    given = {
        section: {name: value for name, value in fields.items() if value is not None}
        for section, fields in sections.items()
    }
    return {section: fields for section, fields in given.items() if fields}


def _open(workspace: Workspace, wanted: Wanted, names: Sequence[str]) -> dict[str, Comparison]:
    """Open plans by name. If there are several, those whose own LLMs cannot be asked are left out, with a note.

    Raises:
        BackendError: If an LLM cannot be asked.
    """
    from edt_backends.base import BackendError
    from edt_cli.experiments.llms import compares_llms

    comparisons = {}
    for name in names:
        comparison = wanted.open(workspace, name)
        try:
            comparison.unique  # noqa: B018  (its keys need the names of the LLMs)
        except BackendError as error:
            if wanted.llms or not compares_llms(comparison.plan):
                raise
            message = f"{error}; or name other LLMs with --llm PROVIDER/MODEL,EMBEDDER"
            if len(names) == 1:
                raise BackendError(message) from None
            note(f"{name} is left out: {message}")
            continue
        comparisons[name] = comparison
    return comparisons
