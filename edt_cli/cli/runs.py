"""`edt runs`: list, show, remove, rename, tag, note."""

from __future__ import annotations

import shlex
import time
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from edt_cli.cli import complete
from edt_cli.cli.clean import ask_before_removing
from edt_cli.cli.common import JsonOption, WorkspaceOption, YesOption, choice, note, open_workspace, show
from edt_cli.cli.help import command
from edt_cli.config import Tracker
from edt_cli.workspace.status import RunStatus

if TYPE_CHECKING:
    from rich.console import RenderableType

    from edt_cli.inference.listing import RunRow
    from edt_cli.workspace.annotations import Annotations
    from edt_cli.workspace.layout import Workspace

app = typer.Typer(help="List, show, remove and name runs.", no_args_is_help=True)

RunArgument = Annotated[
    str,
    typer.Argument(
        metavar="RUN", help="Its id, its name, or how its id or its key begins.", autocompletion=complete.runs
    ),
]


@command(app, "list")
def list_(
    data: Annotated[
        str | None, typer.Option("--data", "-d", help="Only of this dataset.", autocompletion=complete.datasets)
    ] = None,
    model: Annotated[
        str | None, typer.Option("--model", "-m", help="Only of this system.", autocompletion=complete.models)
    ] = None,
    status: Annotated[RunStatus | None, choice("--status", of=RunStatus, help="Only of this status.")] = None,
    tag: Annotated[
        str | None, typer.Option("--tag", help="Only with this tag.", autocompletion=complete.tags)
    ] = None,
    workspace_: WorkspaceOption = None,
    json_: JsonOption = False,
) -> None:
    """List the runs, the newest first, with NDCG@10 on the test items where they are evaluated.

    Examples:
        edt runs list
        edt runs list --data food-kitchen --model llm-edt --status finished
        edt runs list --tag paper --json
    """
    from edt_cli.inference.listing import model_of, read_runs

    rows = [
        row
        for row in read_runs(open_workspace(workspace_))
        if data in (None, row.data)
        and model in (None, model_of(row.plan))
        and status in (None, row.status)
        and (tag is None or tag in row.annotations.tags)
    ]
    if not rows:
        note("no such run; make one with: edt train --data demo")
    document = [
        {
            "run": row.name,
            **asdict(row.annotations),
            "status": row.status,
            "data": row.data,
            "model": model_of(row.plan),
            "preset": row.preset,
            "seed": row.seed,
            "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(row.when)),
            "figures": row.figures,
        }
        for row in rows
    ]
    show({"runs": document}, [_table(rows)] if rows else [], as_json=json_)


@command(app, "show")
def show_(run: RunArgument, workspace_: WorkspaceOption = None, json_: JsonOption = False) -> None:
    """Show a run: what made it, its settings beside its preset's, its results, and the command that makes it again.

    Examples:
        edt runs show demo-llm-edt
        edt runs show best-so-far --json
        edt runs show 1f3a --workspace elsewhere
    """
    workspace = open_workspace(workspace_)
    document = _document(workspace, run)
    show(document, _facts(document), as_json=json_)


@command(app)
def remove(
    runs: Annotated[
        list[str],
        typer.Argument(metavar="RUN...", help="Runs, as `edt runs show` takes them.", autocompletion=complete.runs),
    ],
    workspace_: WorkspaceOption = None,
    yes: YesOption = False,
    json_: JsonOption = False,
) -> None:
    """Remove runs with their weights and results. Artefacts stay; `edt clean` frees those that no run needs.

    Examples:
        edt runs remove demo-sasrec-s42
        edt runs remove first-try second-try --yes
        edt runs remove 1f3a --yes --json
    """
    from rich.text import Text

    from edt_cli.config import UserError
    from edt_cli.workspace.housekeeping import at_work, remove_folder
    from edt_cli.workspace.layout import size_on_disk
    from edt_cli.workspace.remote import check_removable
    from edt_cli.workspace.runs import find_folder

    workspace = open_workspace(workspace_)
    check_removable(workspace)
    folders = list(dict.fromkeys(find_folder(workspace, run) for run in runs))
    if busy := [folder.name for folder in folders if at_work(folder)]:
        raise UserError(f"a process is making {', '.join(busy)}: stop it first, with Ctrl-C or edt ui")
    sizes = {folder.name: size_on_disk(folder) for folder in folders}
    total = f"{sum(sizes.values()) / 1e6:.1f} MB"
    ask_before_removing(f"Remove {', '.join(sizes)} ({total})?", yes)
    for folder in folders:
        remove_folder(folder)
    document = {"removed": [{"run": name, "bytes": size} for name, size in sizes.items()]}
    said = f"removed {', '.join(sizes)}, {total}; artefacts stay (edt clean frees those that no run needs)"
    show(document, [Text(said)], as_json=json_)


@command(app)
def rename(
    run: RunArgument,
    name: Annotated[str, typer.Argument(help='A name that --run takes from now on; "" takes it away.')],
    workspace_: WorkspaceOption = None,
    json_: JsonOption = False,
) -> None:
    """Give a run a name. Its id stays, and so does what refers to it.

    Examples:
        edt runs rename demo-llm-edt-s42 best-so-far
        edt runs rename best-so-far paper-row-1
        edt runs rename paper-row-1 ""
    """
    from edt_cli.workspace.runs import find_folder, rename

    workspace = open_workspace(workspace_)
    folder = find_folder(workspace, run)
    rename(workspace, folder, name)
    _show_annotations(folder, json_)


@command(app, "tag")
def tag_(
    run: RunArgument,
    tags: Annotated[list[str], typer.Argument(metavar="TAG...", help="Words, such as `paper` or `lr-sweep`.")],
    take_away: Annotated[bool, typer.Option("--remove", help="Take them away instead.")] = False,
    workspace_: WorkspaceOption = None,
    json_: JsonOption = False,
) -> None:
    """Add tags to a run, to list it by.

    Examples:
        edt runs tag demo-llm-edt-s42 paper table-2
        edt runs tag best-so-far draft --remove
        edt runs list --tag paper
    """
    from edt_cli.workspace.annotations import annotations_of
    from edt_cli.workspace.runs import find_folder

    folder = find_folder(open_workspace(workspace_), run)
    before = annotations_of(folder)
    left = [tag for tag in before.tags if tag not in tags]
    after = left if take_away else list(dict.fromkeys([*before.tags, *tags]))
    _annotate(folder, replace(before, tags=tuple(after)), json_)


@command(app, "note")
def note_(
    run: RunArgument,
    text: Annotated[str, typer.Argument(help='What to remember of it, in place of what was; "" takes it away.')],
    workspace_: WorkspaceOption = None,
    json_: JsonOption = False,
) -> None:
    """Write a note on a run.

    Examples:
        edt runs note best-so-far "stopped early: the disk was full"
        edt runs note demo-sasrec-s42 "baseline of the paper"
        edt runs note best-so-far ""
    """
    from edt_cli.workspace.annotations import annotations_of
    from edt_cli.workspace.runs import find_folder

    folder = find_folder(open_workspace(workspace_), run)
    _annotate(folder, replace(annotations_of(folder), note=text), json_)


def _annotate(folder: Path, annotations: Annotations, json_: bool) -> None:
    from edt_cli.workspace.annotations import annotate

    annotate(folder, annotations)
    _show_annotations(folder, json_)


def _show_annotations(folder: Path, json_: bool) -> None:
    from edt_cli.workspace.annotations import annotations_of

    document = {"run": folder.name, **asdict(annotations_of(folder))}
    show(document, [_line(folder.name, _written(document))], as_json=json_)


def _document(workspace: Workspace, name: str) -> dict[str, Any]:
    """Return all that is known of a run.

    Raises:
        UserError: If there is no such run, or it cannot be read.
    """
    from edt_cli.config import UserError
    from edt_cli.inference.listing import read_run, results_of
    from edt_cli.inference.reproduce import changed_settings, command_of
    from edt_cli.workspace.layout import size_on_disk
    from edt_cli.workspace.provenance import made_by
    from edt_cli.workspace.runs import Run, find_folder

    row = read_run(find_folder(workspace, name))
    run = Run(row.folder, row.plan)
    try:
        changed, command = changed_settings(run), command_of(run)
    except (ValueError, KeyError, TypeError):
        raise UserError(
            f"{row.name} is damaged, or of another version of edt: edt runs remove {row.name}"
        ) from None
    artefacts = [workspace.artefact(kind, key) for kind, key in row.plan.get("artefacts", {}).items()]
    return {
        "run": row.name,
        **asdict(row.annotations),
        "status": row.status,
        "title": row.title,
        "data": row.data,
        "model": run.settings.model.name,
        "preset": row.preset,
        "seed": row.seed,
        "llm": row.plan.get("llm"),
        "unsound": run.unsound or None,
        "folder": str(row.folder),
        "bytes": size_on_disk(row.folder),
        "made_by": made_by(row.folder),
        "changed": changed,
        "artefacts": [
            {"kind": one.kind, "key": one.key, "bytes": size_on_disk(one.path) if one.complete else None}
            for one in artefacts
        ],
        "results": [
            {key: result.get(key) for key in ("file", "split", "protocol", "negatives", "domains")}
            for result in results_of(row.folder)
        ],
        "command": shlex.join(["edt", *command]),
    }


def _facts(document: dict[str, Any]) -> list[RenderableType]:
    """Return a run as lines `what  it is`."""
    from edt_cli.models.settings import written

    lines = [("run", f"{document['run']}  {_written(document)}")]
    lines += [("note", document["note"])] if document["note"] else []
    lines += [("unsound", f"{document['unsound']}: not a result")] if document["unsound"] else []
    by = f", {document['llm']}" if document["llm"] else ""
    lines.append(
        ("what", f"{document['title']} on {document['data']}, seed {document['seed']}{by}; {document['status']}")
    )
    changed = ", ".join(f"{name} = {written(value)}" for name, value in document["changed"].items())
    lines.append(("set", changed or f"nothing beside {document['preset']}"))
    lines += [("made by", _process(process)) for process in document["made_by"]] or [("made by", "not recorded")]
    for artefact in document["artefacts"]:
        size = "not here any more" if artefact["bytes"] is None else f"{artefact['bytes'] / 1e6:.1f} MB"
        lines.append(("reads", f"{artefact['kind']} {artefact['key']}, {size}"))
    for result in document["results"]:
        figures = ", ".join(
            f"{domain} {values['ndcg@10']:.4f}"
            for domain, values in (result["domains"] or {}).items()
            if values.get("ndcg@10") is not None
        )
        lines.append(("result", f"{result['file']}: NDCG@10 {figures}"))
    lines += [("folder", f"{document['folder']}, {document['bytes'] / 1e6:.1f} MB"), ("again", document["command"])]
    return [_line(*line) for line in lines]


def _process(process: dict[str, Any]) -> str:
    """Return one process that worked on a run."""
    argv = process.get("argv")
    words = shlex.join(map(str, argv)) if isinstance(argv, list) else "?"
    said = {name: process.get(name) for name in ("begin", "end", "edt", "commit", "torch", "numpy", "python")}
    commit = f" ({said['commit']})" if said["commit"] else ""
    where = [
        process.get("gpu") or process.get("cpu"),
        " ".join(process.get("flags") or ()),
        f"{process.get('threads')} threads",
        process.get("host"),
    ]
    return (
        f"{words}\n{said['begin']} to {said['end'] or 'no end: it was killed, or is at work'}\n"
        f"edt {said['edt']}{commit}, Python {said['python']}, torch {said['torch']}, numpy {said['numpy']}\n"
        f"{', '.join(str(part) for part in where if part)}"
    )


def _written(annotations: dict[str, Any]) -> str:
    name = f'"{annotations["name"]}"' if annotations["name"] else ""
    return " ".join(filter(None, [name, *(f"#{tag}" for tag in annotations["tags"])]))


def _line(label: str, text: str) -> RenderableType:
    from rich.table import Table
    from rich.text import Text

    from edt_cli.reporting.text import harmless

    grid = Table.grid(padding=(0, 2))
    grid.add_column(min_width=7)
    grid.add_column(overflow="fold")
    grid.add_row(Text(label, style="dim"), Text(harmless(text)))
    return grid


def _table(rows: list[RunRow]) -> RenderableType:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table
    from rich.text import Text

    from edt_cli.reporting.text import plain

    domains = sorted({name.partition("_")[2] for row in rows for name in row.figures if name.startswith("ndcg_")})
    table = Table(box=SIMPLE_HEAD)
    table.add_column("run", overflow="fold", min_width=max(len(row.name) for row in rows))
    table.add_column("status")
    for domain in domains:
        table.add_column(f"N@10\n{domain}", justify="right")
    table.add_column("changed (UTC)", no_wrap=True)
    for row in rows:
        figures = (row.figures.get(f"ndcg_{domain}") for domain in domains)
        cells = [row.status, *("" if figure is None else f"{figure:.4f}" for figure in figures)]
        cells.append(time.strftime("%Y-%m-%d %H:%M", time.gmtime(row.when)))
        written = _written(asdict(row.annotations))
        run = Text.assemble(plain(row.name), (f"\n  {plain(written)}" if written else "", "dim"))
        table.add_row(run, *(Text(plain(cell)) for cell in cells))
    return table


@command(app)
def send(
    run: RunArgument,
    to: Annotated[
        Tracker, choice("--to", of=Tracker, help="The tracker; its own settings say where it keeps runs.")
    ],
    workspace_: WorkspaceOption = None,
    json_: JsonOption = False,
) -> None:
    """Send a run to a tracker: its settings, curves, results and what it was made of.

    What the tracker has of this run already is replaced.

    Examples:
        edt runs send best-so-far --to tensorboard
        edt runs send best-so-far --to mlflow
        edt runs send food-kitchen-llm-edt-s42 --to wandb --json
    """
    from rich.text import Text

    from edt_cli.inference.tracking import send
    from edt_cli.reporting.text import plain
    from edt_cli.workspace.runs import find_runs

    workspace = open_workspace(workspace_)
    (found,) = find_runs(workspace, None, [run])
    where = send(workspace, found, to)
    show({"run": found.name, "to": to, "where": where}, [Text(plain(f"{found.name}: {where}"))], as_json=json_)
