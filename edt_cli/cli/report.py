"""`edt report`: the paper's tables, of the runs of this workspace."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from edt_cli.cli.bundle import bundle as write_bundle
from edt_cli.cli.common import (
    DeviceOption,
    JsonOption,
    RunOption,
    WorkspaceOption,
    choice,
    note,
    open_workspace,
    stdout,
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
from edt_cli.config import GroupKind
from edt_cli.reporting.table import ReportForm

if TYPE_CHECKING:
    from edt_cli.reporting.table import Table
    from edt_cli.workspace.documents import Result
    from edt_cli.workspace.layout import Workspace
    from edt_cli.workspace.runs import Run


def report(
    data: OptionalDataOption = None,
    run: RunOption = None,
    table: Annotated[
        int | None,
        typer.Option(
            "--table", min=1, max=3, help="1: the data; 2: all systems; 3: the ablations, and first phases."
        ),
    ] = None,
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
    """Show paper-style tables of any runs: mean and deviation over seeds, the best bold, the second underlined.

    Examples:
        edt report --data mine
        edt report --data mine --table 2 --format latex --out table.tex
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
    behind: list[Run] = []
    changes: dict[str, str] = {}
    if plan is not None:
        tables, behind = _of_plan(workspace, plan, data, device)
    elif paper:
        tables = [TABLES[table or 2]]
    elif table == 1:
        tables = [build.table_1(_statistics(workspace, data))]
    else:
        runs = behind = runs_of(workspace, data, run)
        if not run and split == "valid":
            runs = behind = without_refits(runs)
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
    if bundle is not None:
        write_bundle(bundle, workspace, tables, behind)
    else:
        _write(tables, form, out, changes)
    tell_changes(changes)


def _cutoffs(metrics: list[str]) -> str | None:
    """Return the cutoffs of metrics such as hr@5."""
    found = [k for metric in metrics if (k := metric.partition("@")[2]).isdigit()]
    return ",".join(found) or None


def _of_plan(workspace: Workspace, path: Path, data: str | None, device: str) -> tuple[list[Table], list[Run]]:
    """Return the tables of a plan as far as it is made, and the runs behind them."""
    from edt_cli.config import UserError
    from edt_cli.experiments.compare import Comparison, collect_results
    from edt_cli.experiments.plan import Plan
    from edt_cli.reporting.comparison import comparison_tables
    from edt_cli.training.device import open_device

    comparison = Comparison.open(workspace, Plan.read(path).changed(data=[data] if data else ()))
    result = collect_results(comparison, str(open_device(device)))
    if not result.outcomes:
        raise UserError(f"no run of {path} is finished yet; make them with: edt compare {path}")
    runs = [run for cell in comparison.unique if (run := comparison.run(cell)) is not None and run.finished]
    return comparison_tables(result.grid, result.outcomes, result.claims), runs


def _all_there_is(main: list[Result], every: list[Result], metrics: Sequence[str]) -> list[Table]:
    """Return table 2, and table 3 if there is an ablation to show: what `edt report` prints without --table."""
    from edt_cli.models.systems import OURS
    from edt_cli.reporting import tables as build

    plain = [document for document in main if not document["variant"]]
    tables = build.table_2(plain, metrics) if plain else []
    parted = any(d["first_phase"] or (d["model"] == OURS and d["variant"]) for d in every)
    return tables + (build.table_3(every, metrics) if parted else [])


def _write(tables: list[Table], form: str, out: Path | None, changes: dict[str, str]) -> None:
    from edt_cli.reporting.render import document, render
    from edt_cli.workspace.files import write_atomic

    if out is not None and form == "terminal":
        forms = {".md": "markdown", ".tex": "latex", ".html": "html", ".csv": "csv", ".json": "json"}
        form = forms.get(out.suffix, "markdown")
    if form == "terminal":
        console = stdout()
        for table in tables:
            console.print(render(table, form))
        return
    if form == "json":
        whole = {"tables": [document(table) for table in tables], "data_changes": changes}
        text = json.dumps(whole, indent=1, ensure_ascii=False) + "\n"
    elif form == "html":
        from edt_cli.reporting.html import page

        text = page(tables, " · ".join(dict.fromkeys(table.heading for table in tables)))
    else:
        text = "\n".join(str(render(table, form)) for table in tables)
    if out is None:
        typer.echo(text, nl=False)
        return
    write_atomic(out, text)
    note(f"written to {out}")


def _statistics(workspace: Workspace, data: str | None) -> list[Any]:
    """Return the rows of table 1: each prepared dataset before, and if it was augmented, after."""
    from edt_cli.config import UserError
    from edt_cli.data.open import open_dataset
    from edt_cli.inference.statistics import statistics

    whole = [artefact.key for artefact in workspace.datasets() if "sample_of" not in artefact.manifest()]
    names = [data] if data else whole
    if not names:
        raise UserError("there is no dataset yet; make one with: edt data prepare NAME --raw DIR")
    return [statistics(workspace, open_dataset(workspace, name), _newest(workspace, name)) for name in names]


def _newest(workspace: Workspace, name: str) -> Run | None:
    """Return the newest run of LLM-EDT without ablations that has the augmenter."""
    from edt_cli.inference.labels import identity
    from edt_cli.models.systems import OURS
    from edt_cli.workspace.runs import all_runs

    ours = [run for run in all_runs(workspace) if run.plan["data"] == name and run.settings.model.name == OURS]
    made = [run for run in ours if run.finished and run.settings.augmentation.enabled]
    full = [run for run in made if not identity(run)["variant"]]
    return full[-1] if full else None
