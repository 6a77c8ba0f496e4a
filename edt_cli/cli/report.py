"""`edt report`: the paper's tables, of the runs of this workspace."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from edt_cli.cli import complete
from edt_cli.cli.bundle import bundle as write_bundle
from edt_cli.cli.common import (
    DeviceOption,
    JsonOption,
    RunOption,
    WorkspaceOption,
    choice,
    open_workspace,
    seeds_of,
)
from edt_cli.cli.eval import (
    BeyondOption,
    CutoffsOption,
    KeepSeenOption,
    NegativesOption,
    OptionalDataOption,
    ProtocolOption,
    SplitOption,
    evaluation_settings,
    metrics_at,
    result_documents,
    runs_of,
    tell_changes,
    without_refits,
)
from edt_cli.cli.tables import write_tables
from edt_cli.config import GroupKind
from edt_cli.reporting.table import ReportForm

if TYPE_CHECKING:
    from edt_cli.reporting.figure import Figure
    from edt_cli.reporting.table import Table
    from edt_cli.workspace.documents import Result
    from edt_cli.workspace.layout import Workspace
    from edt_cli.workspace.runs import Run

OF_PLAN = "Which runs of a plan"


def report(
    data: OptionalDataOption = None,
    run: RunOption = None,
    table: Annotated[
        int | None,
        typer.Option(
            "--table",
            min=1,
            max=9,
            help="1: the data; 2: all systems; 3: the ablations, and first phases; 4 to 9: of edt reproduce.",
        ),
    ] = None,
    all_: Annotated[
        bool, typer.Option("--all", help="Whatever edt reproduce has made of the paper, as far as it is made.")
    ] = False,
    figure: Annotated[
        list[str] | None,
        typer.Option(
            "--figure",
            metavar="N",
            help="1: users by r; 3: items by t-SNE; 4: by length; 5: by alpha; 6: parameters and time. Repeatable, "
            "or several as in 4,5.",
        ),
    ] = None,
    plan: Annotated[
        Path | None,
        typer.Option(
            "--plan", help="The tables of a plan of `edt compare`, by name or file, as far as it is made."
        ),
    ] = None,
    seeds: Annotated[
        str | None,
        typer.Option(
            "--seeds", metavar="N,...", help="Of a plan: its runs of these seeds.", rich_help_panel=OF_PLAN
        ),
    ] = None,
    preset: Annotated[
        str | None,
        typer.Option(
            "--preset",
            help="Of a plan: its runs of this preset of LLM-EDT.",
            autocompletion=complete.presets,
            rich_help_panel=OF_PLAN,
        ),
    ] = None,
    epochs: Annotated[
        int | None,
        typer.Option("--epochs", min=1, help="Of a plan: its runs of this limit.", rich_help_panel=OF_PLAN),
    ] = None,
    minutes: Annotated[
        float | None, typer.Option("--minutes", help="Of a plan: its runs of this limit.", rich_help_panel=OF_PLAN)
    ] = None,
    metric: Annotated[
        list[str] | None,
        typer.Option("--metric", help="Metrics of a free table, such as mrr, hr@5 or ild@10; repeatable."),
    ] = None,
    by: Annotated[GroupKind | None, choice("--by", of=GroupKind, help="A table for groups of users.")] = None,
    form: Annotated[
        ReportForm,
        choice(
            "--format", of=ReportForm, help="Form of the report; html: all on one page; png, svg, pdf: figures."
        ),
    ] = "terminal",
    paper: Annotated[bool, typer.Option("--paper", help="The paper's own table, to hold beside.")] = False,
    with_paper: Annotated[
        bool, typer.Option("--with-paper", help="The paper's figures in the same table, in columns of their own.")
    ] = False,
    out: Annotated[Path | None, typer.Option("--out", help="Write to this file.")] = None,
    bundle: Annotated[
        Path | None,
        typer.Option(
            "--bundle", help="Write a folder to attach to a paper: tables, ranks, settings, commands, digests."
        ),
    ] = None,
    protocol: ProtocolOption = "full",
    negatives: NegativesOption = 100,
    keep_seen: KeepSeenOption = None,
    split: SplitOption = "test",
    cutoffs: CutoffsOption = None,
    beyond: BeyondOption = False,
    device: DeviceOption = "auto",
    workspace_: WorkspaceOption = None,
    json_: JsonOption = False,
) -> None:
    """Show paper-style tables and figures of any runs: mean and deviation over seeds, the best bold.

    Examples:
        edt report --data mine --table 2 --with-paper --format latex --out table.tex
        edt report --data mine --figure 1,4 --format pdf --out figures.pdf
        edt report --data mine --all --seeds 42,44 --format html --out paper.html
    """
    from edt_cli.cli.figures import figure_numbers, figures_of_runs
    from edt_cli.cli.plan_reports import Made, data_of, of_paper, of_plan
    from edt_cli.config import UsageError
    from edt_cli.reporting import tables as build
    from edt_cli.reporting.beside_paper import beside_paper, figure_beside_paper
    from edt_cli.reporting.paper_tables import TABLES
    from edt_cli.training.device import check_device
    from edt_cli.workspace.runs import data_changes

    check_device(device)
    form = "json" if json_ else form
    limits = {"epochs": epochs, "minutes": minutes}
    made = Made(
        seeds=seeds_of(seeds) if seeds else (),
        preset=preset,
        budget={name: value for name, value in limits.items() if value is not None},
    )
    if made and (paper or not (plan or all_ or (table or 0) > 3)):
        raise UsageError("--seeds, --preset and limits are of a plan's runs: name it with --plan, --table or --all")
    workspace, numbers = open_workspace(workspace_), figure_numbers(figure or [])
    tables: list[Table] = []
    figures: list[Figure] = []
    behind: list[Run] = []
    changes: dict[str, str] = {}
    settings = evaluation_settings(protocol, negatives, keep_seen, cutoffs or _cutoffs(metric or []))
    if numbers:
        if table or plan or by or paper or all_:
            raise UsageError("--figure shows figures alone: name tables in a command of their own")
        figures, changes = figures_of_runs(
            workspace, numbers, data, run, split, settings, (metric or metrics_at(settings))[0], device
        )
    elif plan is not None:
        tables, figures, behind = of_plan(workspace, plan, data, device, made)
    elif paper:
        tables = list(TABLES.values()) if all_ else [TABLES[table or 2]]
    elif all_:
        tables, figures, behind = of_paper(workspace, data_of(workspace, data), device, made)
    elif table and table > 3:
        path = Path(f"table-{table}")
        tables, figures, behind = of_plan(workspace, path, data_of(workspace, data), device, made)
    elif table == 1:
        tables = [build.table_1(_statistics(workspace, data))]
    else:
        runs = behind = runs_of(workspace, data, run)
        if not run and split == "valid":
            runs = behind = without_refits(runs)
        lists = beyond or bool(set(metric or []) & set(build.LIST_METRICS))
        documents = result_documents(workspace, runs, split, settings, device, lists=lists)
        changes = data_changes(workspace, runs)
        main = [document for document in documents if not document["first_phase"]]
        metrics = metric or metrics_at(settings)
        if table == 3:
            tables = build.table_3(documents, metrics)
        elif by is not None:
            tables = build.group_tables(main, by, metrics)
        elif metric:
            tables = build.free_tables(main, metrics)
        elif table == 2:
            tables = build.table_2(main, metrics)
        else:
            tables = _all_there_is(main, documents, metrics)
        if beyond:
            tables += build.list_tables(main)
    if with_paper:
        numbered = [*(part.number for part in tables), *(part.number for part in figures)]
        if paper or not any(numbered):
            raise UsageError("--with-paper needs our own table or figure of the paper, such as --table 2")
        tables = [beside_paper(table) for table in tables]
        figures = [figure_beside_paper(figure) for figure in figures]
    if bundle is not None:
        write_bundle(bundle, workspace, tables, figures, behind)
    else:
        write_tables(tables, form, out, changes, figures)
    tell_changes(changes)


def _cutoffs(metrics: list[str]) -> str | None:
    """Return the cutoffs of metrics such as hr@5."""
    found = [k for metric in metrics if (k := metric.partition("@")[2]).isdigit()]
    return ",".join(found) or None


def _all_there_is(main: list[Result], every: list[Result], metrics: Sequence[str]) -> list[Table]:
    """Return table 2, and table 3 if there is an ablation to show: what `edt report` prints without --table."""
    from edt_cli.models.systems import OURS
    from edt_cli.reporting import tables as build

    plain = [document for document in main if not document["variant"]]
    tables = build.table_2(plain, metrics) if plain else []
    parted = any(d["first_phase"] or (d["model"] == OURS and d["variant"]) for d in every)
    return tables + (build.table_3(every, metrics) if parted else [])


def _statistics(workspace: Workspace, data: str | None) -> list[Any]:
    """Return the rows of table 1: each prepared dataset before, and if it was augmented, after."""
    from edt_cli.cli.figures import dataset_names
    from edt_cli.data.open import open_dataset
    from edt_cli.inference.augmentations import newest_augmentation
    from edt_cli.inference.statistics import statistics

    datasets = [open_dataset(workspace, name) for name in ([data] if data else dataset_names(workspace))]
    return [statistics(workspace, dataset, *newest_augmentation(workspace, dataset)) for dataset in datasets]
