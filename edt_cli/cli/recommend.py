"""`edt recommend`: items for users, known or new, and vectors for an index."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from edt_cli.cli.common import (
    DeviceOption,
    JsonOption,
    NewItemsOption,
    RunToUseOption,
    WorkspaceOption,
    emit_json,
    note,
    open_workspace,
    progress,
    progress_alone,
    show,
)
from edt_cli.cli.eval import KeepSeenOption, OptionalDataOption, runs_of

if TYPE_CHECKING:
    import polars as pl
    from rich.console import RenderableType

    from edt_cli.workspace.layout import Workspace
    from edt_cli.workspace.runs import Run


def recommend(
    user: Annotated[list[str] | None, typer.Option("--user", "-u", help="A user of the data; repeatable.")] = None,
    every: Annotated[bool, typer.Option("--all", help="Every user of the data; goes with --out.")] = False,
    history: Annotated[
        Path | None,
        typer.Option(
            "--history", help="Users the model never saw: a file as data prepare reads it (user, item, time)."
        ),
    ] = None,
    columns: Annotated[
        str | None, typer.Option("--columns", help="Columns of --history: user=..,item=..,time=..")
    ] = None,
    exclude: Annotated[Path | None, typer.Option("--exclude", help="Item ids that are out of stock.")] = None,
    allow_new: Annotated[
        bool, typer.Option("--allow-new", help="A --user not in the data is new, and gets the popular items.")
    ] = False,
    new_items: NewItemsOption = None,
    held_out: Annotated[
        bool,
        typer.Option("--held-out", help="As the test asks: with what came before each --user's held-out item."),
    ] = False,
    export_items: Annotated[
        Path | None, typer.Option("--export-items", help="Write item vectors and ids to this folder.")
    ] = None,
    export_users: Annotated[
        Path | None,
        typer.Option(
            "--export-users", help="Write the vectors of users, a row for each domain: of all, or of those named."
        ),
    ] = None,
    count: Annotated[int, typer.Option("--count", "-k", min=1, help="Items a user and domain.")] = 10,
    domain: Annotated[str | None, typer.Option("--domain", help="Only items of this domain.")] = None,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="A .parquet, .csv or .jsonl file.")] = None,
    data: OptionalDataOption = None,
    run: RunToUseOption = None,
    keep_seen: KeepSeenOption = None,
    device: DeviceOption = "auto",
    workspace_: WorkspaceOption = None,
    json_: JsonOption = False,
) -> None:
    """Show the items that a trained system ranks first for a user, in each domain.

    Examples:
        edt recommend --user A1 --user A2 -k 5
        edt recommend --all --out recs.parquet --exclude out-of-stock.txt
        edt recommend --history new-users.csv --domain kitchen --json
        edt recommend --user A1 --new-items food=arrived.csv
    """
    from edt_cli.api.session import TrainedRun
    from edt_cli.config import UsageError
    from edt_cli.data.columns import parse_columns
    from edt_cli.data.lists import read_histories, read_items, read_new_items
    from edt_cli.inference import export
    from edt_cli.inference import recommend as core
    from edt_cli.training.device import open_device

    whom, exports = [bool(user), every, history is not None], [export_items is not None, export_users is not None]
    if sum(whom) != 1 and (any(whom) or not any(exports)):
        raise UsageError("say for whom: one of --user NAME, --all, --history FILE, or --export-items FOLDER")
    if any(exports) and (out is not None or (any(whom) and export_users is None)):
        raise UsageError(
            "--export-items and --export-users write vectors and no list; run edt recommend again for that"
        )
    if held_out and not user:
        raise UsageError("--held-out goes with --user NAME")
    chosen_columns = parse_columns(columns, header=True)
    if every and out is None and not any(exports):
        raise UsageError("--all needs --out FILE (.parquet, .csv or .jsonl)")
    if out is not None:
        core.checked_ending(out)
    arrived = read_new_items(new_items) if new_items else None
    workspace, chosen = open_workspace(workspace_), str(open_device(device))
    source = newest_run(workspace, data, run)
    with progress() as listen:
        trained = TrainedRun(workspace, source, chosen, progress_alone(listen, "remark"), arrived)
        data_of_run = trained.data
    histories = None if history is None else read_histories(history, chosen_columns)
    if any(exports):
        made = {}
        if export_items is not None:
            made["items"] = export.export_items(data_of_run, source, export_items)
        if export_users is not None:
            names = data_of_run.dataset.domains
            domains = range(len(names)) if domain is None else [names.number(domain)]
            queries = trained.queries(user, histories, allow_new=allow_new)
            made["users"] = export.export_users(data_of_run, source, queries, domains, export_users)
        _show_exports(made, as_json=json_)
        return
    frame = trained.recommend(
        user,
        histories,
        allow_new=allow_new,
        held_out=held_out,
        count=count,
        domain=domain,
        exclude=read_items(exclude) if exclude else (),
        keep_seen="auto" if keep_seen is None else keep_seen,
    )
    if out is not None:
        core.write_table(frame, out)
        if json_:
            emit_json({"run": source.name, "users": frame["user"].n_unique(), "rows": len(frame), "file": str(out)})
        else:
            note(f"{len(frame):,} rows for {frame['user'].n_unique():,} users in {out}, by {source.name}")
        return
    document = {"run": source.name, "data": data_of_run.dataset.name, "users": _by_user(frame)}
    show(document, _tables(frame, source), as_json=json_)


def _show_exports(made: dict[str, dict[str, Any]], *, as_json: bool) -> None:
    if as_json:
        emit_json(next(iter(made.values())) if len(made) == 1 else made)
        return
    for kind, manifest in made.items():
        what = f"{manifest['rows']:,} vectors of {manifest[kind]:,} {kind}, {manifest['dimension']} numbers each"
        note(f"{what}, in {manifest['folder']}, by {manifest['run']}")


def newest_run(workspace: Workspace, data: str | None, name: str | None) -> Run:
    from edt_cli.models.systems import is_trained

    runs = runs_of(workspace, data, [name] if name else None, final=True)
    final = [run for run in runs if run.settings.training.train_on == "all"]
    trained = [run for run in runs if is_trained(run.settings.model.name)]
    return (final or trained or runs)[-1]


def _by_user(frame: pl.DataFrame) -> dict[str, Any]:
    users: dict[str, Any] = {}
    for row in frame.iter_rows(named=True):
        items = users.setdefault(row["user"], {}).setdefault(row["domain"], [])
        items.append({name: row[name] for name in ("rank", "item", "title", "score", "source")})
    return users


def _tables(frame: pl.DataFrame, source: Run) -> list[RenderableType]:
    from rich.table import Table
    from rich.text import Text

    from edt_cli.reporting.text import plain

    shown: list[RenderableType] = []
    for (user, domain, made_by), rows in frame.group_by(["user", "domain", "source"], maintain_order=True):
        by = "popular in training" if made_by == "popular" else source.name
        table = Table(title=Text(f"{plain(str(user))} · {domain} · {by}"), title_justify="left")
        table.add_column("#", justify="right")
        table.add_column("item")
        table.add_column("title", overflow="ellipsis", no_wrap=True)
        table.add_column("score", justify="right")
        for row in rows.iter_rows(named=True):
            title = Text(plain(row["title"])) if row["title"] else Text("(no title)", style="dim")
            table.add_row(str(row["rank"]), Text(plain(row["item"])), title, f"{row['score']:.3f}")
        shown.append(table)
    return shown
