"""`edt report`: the paper's tables, of the runs of this workspace."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from edt_cli.cli.common import (
    DeviceOption,
    JsonOption,
    RunOption,
    WorkspaceOption,
    choice,
    open_workspace,
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
    from edt_cli.reporting.table import Table
    from edt_cli.workspace.documents import Result
    from edt_cli.workspace.layout import Workspace


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
    plan: Annotated[
        Path | None,
        typer.Option(
            "--plan", help="The tables of a plan of `edt compare`, by name or file, as far as it is made."
        ),
    ] = None,
    metric: Annotated[
        list[str] | None,
        typer.Option("--metric", help="Metrics of a free table, such as mrr, hr@5 or ild@10; repeatable."),
    ] = None,
    by: Annotated[GroupKind | None, choice("--by", of=GroupKind, help="A table for groups of users.")] = None,
    form: Annotated[
        ReportForm, choice("--format", of=ReportForm, help="Form of the tables; html: all on one page.")
    ] = "terminal",
    paper: Annotated[bool, typer.Option("--paper", help="The paper's own table, to hold beside.")] = False,
    out: Annotated[Path | None, typer.Option("--out", help="Write to this file.")] = None,
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
    """Show paper-style tables of any runs: mean and deviation over seeds, the best bold, the second underlined.

    Examples:
        edt report --data mine --table 2 --format latex --out table.tex
        edt report --data mine --all --format html --out paper.html
        edt report --metric mrr --metric hr@5 --by length
    """
    from edt_cli.reporting import tables as build
    from edt_cli.reporting.paper_tables import TABLES
    from edt_cli.training.device import check_device
    from edt_cli.workspace.runs import data_changes

    check_device(device)
    form = "json" if json_ else form
    workspace = open_workspace(workspace_)
    tables: list[Table]
    changes: dict[str, str] = {}
    if plan is not None:
        tables = _of_plan(workspace, plan, data, device)
    elif paper:
        tables = list(TABLES.values()) if all_ else [TABLES[table or 2]]
    elif all_:
        tables = _of_paper(workspace, data, device)
    elif table and table > 3:
        tables = _of_plan(workspace, Path(f"table-{table}"), _data_of(workspace, data), device)
    elif table == 1:
        tables = [build.table_1(_statistics(workspace, data))]
    else:
        runs = runs_of(workspace, data, run)
        if not run and split == "valid":
            runs = without_refits(runs)
        settings = evaluation_settings(protocol, negatives, keep_seen, cutoffs or _cutoffs(metric or []))
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
    write_tables(tables, form, out, changes)
    tell_changes(changes)


def _cutoffs(metrics: list[str]) -> str | None:
    """Return the cutoffs of metrics such as hr@5."""
    found = [k for metric in metrics if (k := metric.partition("@")[2]).isdigit()]
    return ",".join(found) or None


def _of_plan(workspace: Workspace, path: Path, data: str | None, device: str) -> list[Table]:
    from edt_cli.config import UserError
    from edt_cli.experiments.compare import Comparison
    from edt_cli.experiments.files import evidence
    from edt_cli.experiments.findings import findings
    from edt_cli.experiments.plan import Plan
    from edt_cli.training.device import open_device

    comparison = Comparison.open(workspace, Plan.read(path).changed(data=[data] if data else ()))
    tables = findings(comparison, str(open_device(device))).tables
    if not tables:
        command = f"reproduce {path} --data {data}" if data and str(path) in evidence() else f"compare {path}"
        raise UserError(
            f"no {comparison.what.removesuffix('s')} of {path} is finished yet; make them with: edt {command}"
        )
    return list(tables)


def _of_paper(workspace: Workspace, data: str | None, device: str) -> list[Table]:
    """Return the tables of the paper's plans on a dataset, without those of which nothing is made."""
    from edt_backends.base import BackendError
    from edt_cli.config import UserError
    from edt_cli.experiments.evidence import ALL, Wanted, named
    from edt_cli.experiments.findings import findings
    from edt_cli.experiments.llms import LOCAL, compares_llms
    from edt_cli.training.device import open_device
    from edt_cli.workspace.runs import all_runs

    llms = {run.settings.llm.provider for run in all_runs(workspace)} - {LOCAL}
    wanted, chosen = Wanted(data=[_data_of(workspace, data)]), str(open_device(device))
    tables: list[Table] = []
    for name in named([ALL]):
        comparison = wanted.open(workspace, name)
        if compares_llms(comparison.plan) and not llms:  # else litellm is loaded for nothing
            continue
        try:
            begun = any(comparison.state(cell) in ("finished", "not evaluated") for cell in comparison.unique)
        except BackendError:  # without a key for an LLM, nothing of it is looked for
            continue
        if begun:
            tables += findings(comparison, chosen).tables
    if not tables:
        raise UserError(
            f"nothing of the paper is made yet; make it with: edt reproduce all --data {wanted.data[0]}"
        )
    return tables


def _data_of(workspace: Workspace, data: str | None) -> str:
    """Return the dataset that is named, or else that of the newest run, or the only one."""
    from edt_cli.config import UsageError
    from edt_cli.workspace.runs import all_runs

    runs = [run for run in all_runs(workspace) if run.finished and not run.quick]
    datasets = [artefact.key for artefact in workspace.datasets() if "sample_of" not in artefact.manifest()]
    if data is None and not runs and len(datasets) != 1:
        raise UsageError(f"name the dataset with --data; there are: {', '.join(datasets) or 'none'}")
    return data or (runs[-1].plan["data"] if runs else datasets[0])


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
    from edt_cli.config import UserError
    from edt_cli.data.open import open_dataset
    from edt_cli.inference.statistics import newest_augmentation, statistics

    whole = [artefact.key for artefact in workspace.datasets() if "sample_of" not in artefact.manifest()]
    names = [data] if data else whole
    if not names:
        raise UserError("there is no dataset yet; make one with: edt data prepare NAME --raw DIR")
    datasets = [open_dataset(workspace, name) for name in names]
    return [statistics(workspace, dataset, *newest_augmentation(workspace, dataset)) for dataset in datasets]
