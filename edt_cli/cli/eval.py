"""`edt eval`: ranks the held-out items with finished runs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from edt_cli.cli import complete
from edt_cli.cli.common import (
    DeviceOption,
    JsonOption,
    RunOption,
    WorkspaceOption,
    choice,
    note,
    open_workspace,
    progress,
    progress_alone,
    show,
)
from edt_cli.config import Protocol, Split

if TYPE_CHECKING:
    from edt_cli.config import EvaluationSettings
    from edt_cli.workspace.documents import Result
    from edt_cli.workspace.layout import Workspace
    from edt_cli.workspace.runs import Run

ProtocolOption = Annotated[
    Protocol,
    choice(
        "--protocol",
        of=Protocol,
        help="full: every item of the domain; sampled: uniform negatives; popular: negatives by their popularity.",
    ),
]
NegativesOption = Annotated[int, typer.Option("--negatives", min=1, help="Of the protocols that sample.")]
CutoffsOption = Annotated[
    str | None,
    typer.Option(
        "--cutoffs", metavar="K,...", help="k of HR@k and NDCG@k, such as 1,5,50; nothing is ranked again for them."
    ),
]
BeyondOption = Annotated[
    bool,
    typer.Option(
        "--beyond", help="Also what is recommended: coverage, popularity, novelty, Gini, diversity (ILD)."
    ),
]
KeepSeenOption = Annotated[
    bool | None,
    typer.Option(
        "--keep-seen/--no-keep-seen",
        help="Items that a user has had stay candidates. Default: where over 1% of the data's targets are repeats.",
        show_default=False,
    ),
]
SplitOption = Annotated[Split, choice("--split", of=Split, help="Held-out items to rank.")]
OptionalDataOption = Annotated[
    str | None,
    typer.Option(
        "--data",
        "-d",
        help="Runs of this dataset. Default: of the newest run's.",
        autocompletion=complete.datasets,
    ),
]


def evaluate(
    data: OptionalDataOption = None,
    run: RunOption = None,
    protocol: ProtocolOption = "full",
    negatives: NegativesOption = 100,
    keep_seen: KeepSeenOption = None,
    split: SplitOption = "test",
    cutoffs: CutoffsOption = None,
    beyond: BeyondOption = False,
    groups: Annotated[
        bool, typer.Option("--groups", help="Also by length of the history, total, r, text and training.")
    ] = False,
    together: Annotated[
        bool, typer.Option("--together", help="One more row: all these runs as an ensemble, their scores added.")
    ] = False,
    device: DeviceOption = "auto",
    workspace_: WorkspaceOption = None,
    json_: JsonOption = False,
) -> None:
    """Rank every held-out item among its candidates: HR, NDCG, MRR per domain, over the users behind each figure.

    Examples:
        edt eval --data mine
        edt eval --data mine --protocol sampled --negatives 100 --groups
        edt eval --run best-so-far --split valid --json
    """
    from edt_cli.training.device import check_device

    check_device(device)
    workspace = open_workspace(workspace_)
    settings = evaluation_settings(protocol, negatives, keep_seen, cutoffs)
    runs = runs_of(workspace, data, run)
    if not run and (split == "valid" or together):
        runs = without_refits(runs)
    show_results(
        workspace,
        runs,
        split,
        settings,
        device,
        as_json=json_,
        beyond=beyond,
        groups=groups,
        together=together,
    )


def show_results(
    workspace: Workspace,
    runs: list[Run],
    split: Split,
    settings: EvaluationSettings,
    device: str,
    *,
    as_json: bool,
    beyond: bool = False,
    groups: bool = False,
    together: bool = False,
) -> None:
    """Evaluate `runs` and show them: a table of HR@10 and NDCG@10, or the document of DESIGN's `--json`."""
    from edt_cli.reporting.render import render
    from edt_cli.reporting.tables import free_tables, group_tables, list_tables
    from edt_cli.workspace.runs import data_changes

    documents = result_documents(workspace, runs, split, settings, device, lists=beyond)
    main = [document for document in documents if not document["first_phase"]]
    if together and len(runs) > 1:
        from edt_cli.inference.measure import evaluate_together
        from edt_cli.workspace.events import Events

        main.append(evaluate_together(workspace, runs, split, settings, Events(), device))
    document: dict[str, Any] = {
        "data": runs[0].plan["data"],
        "split": split,
        "protocol": settings.protocol,
        "negatives": None if settings.protocol == "full" else settings.negatives,
        "runs": main,
        "data_changes": data_changes(workspace, runs),
    }
    metrics = metrics_at(settings)
    tables = free_tables(main, metrics)
    if beyond:
        tables += list_tables(main)
    if groups:
        tables += group_tables(main, metrics=metrics)
    show(document, [render(table, "terminal") for table in tables], as_json=as_json)
    tell_changes(document["data_changes"])


def result_documents(
    workspace: Workspace,
    runs: list[Run],
    split: Split,
    settings: EvaluationSettings,
    device: str,
    *,
    lists: bool = False,
) -> list[Result]:
    """Return the labelled documents of runs; those that are not evaluated yet are, with a progress bar."""
    from edt_cli.inference.labels import labelled
    from edt_cli.inference.results import evaluate

    with progress() as listen:
        events = progress_alone(listen)
        documents = [
            document
            for run in runs
            for document in evaluate(workspace, run, split, settings, events, device, lists=lists)
        ]
    return labelled(documents, runs)


def tell_changes(changes: dict[str, str]) -> None:
    """Say on stderr which data is no longer what it was, each once."""
    for change in dict.fromkeys(changes.values()):
        note(f"results {change}" if change.startswith("of ") else change)


def evaluation_settings(
    protocol: str, negatives: int, keep_seen: bool | None, cutoffs: str | None = None
) -> EvaluationSettings:
    from edt_cli.config import EvaluationSettings, validated

    values: dict[str, Any] = {"protocol": protocol, "negatives": negatives}
    values["keep_seen"] = "auto" if keep_seen is None else keep_seen
    return validated(EvaluationSettings, values | ({} if cutoffs is None else {"cutoffs": cutoffs}))


def metrics_at(settings: EvaluationSettings) -> list[str]:
    """Return what tables show: HR and NDCG at the cutoffs that were asked for, at 10 if none were."""
    from edt_cli.config import CUTOFFS

    cutoffs = (10,) if settings.cutoffs == CUTOFFS else settings.cutoffs
    return [f"{metric}@{k}" for k in cutoffs for metric in ("hr", "ndcg")]


def without_refits(runs: list[Run]) -> list[Run]:
    """Runs that have not learned from validation items, where there are any."""
    return [run for run in runs if run.settings.training.train_on != "train+valid"] or runs


def runs_of(workspace: Workspace, data: str | None, names: list[str] | None, *, final: bool = False) -> list[Run]:
    """The runs named, else the finished ones of `data`, else those of the newest run's data."""
    from edt_cli.workspace.runs import find_runs

    runs = find_runs(workspace, data, names)
    if names:
        return runs
    if not final:
        runs = [run for run in runs if run.settings.training.train_on != "all"] or runs
    newest = data or runs[-1].plan["data"]
    return [run for run in runs if run.plan["data"] == newest]
