"""`edt clean`: show what the workspace holds, and remove what nothing refers to."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from edt_cli.cli.common import JsonOption, WorkspaceOption, YesOption, open_workspace, show


def ask_before_removing(question: str, yes: bool) -> None:
    """Ask whether to remove something.

    Raises:
        UsageError: If there is no terminal to ask on, and no --yes.
        typer.Abort: If the answer is no.
    """
    from edt_cli.config import UsageError

    if yes:
        return
    if not sys.stdin.isatty():
        raise UsageError("this removes files: say --yes to go on without a question")
    typer.confirm(question, abort=True, err=True)


def clean(
    older_than: Annotated[
        float | None,
        typer.Option("--older-than", min=0, metavar="DAYS", help="Also artefacts of no run that are older."),
    ] = None,
    raw: Annotated[bool, typer.Option("--raw", help="Also downloaded raw files.")] = False,
    cache: Annotated[
        bool, typer.Option("--cache", help="Also every LLM reply and embedding that was had.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would go, remove nothing.")] = False,
    workspace_: WorkspaceOption = None,
    yes: YesOption = False,
    json_: JsonOption = False,
) -> None:
    """Show what the workspace holds and free artefacts that no dataset and no run refers to.

    Examples:
        edt clean --dry-run
        edt clean --older-than 30 --yes
        edt clean --raw --dry-run --json
    """
    from rich.table import Table

    from edt_cli.workspace.housekeeping import holdings, removable, remove_folder
    from edt_cli.workspace.remote import check_removable

    workspace = open_workspace(workspace_)
    check_removable(workspace)
    held = holdings(workspace)
    going = removable(workspace, older_than_days=older_than, raw=raw, cache=cache)
    freed = sum(thing.size for thing in going)
    if going and not dry_run:
        ask_before_removing(f"Remove {len(going)} folders ({freed / 1e6:.1f} MB)?", yes)
        for thing in going:
            remove_folder(thing.path)
    table = Table("holds", "count", "MB")
    for holding in held:
        table.add_row(holding.kind, f"{holding.count:,}", f"{holding.size / 1e6:.1f}")
    lines = [f"{thing.what} {thing.path.name}: {thing.why}, {thing.size / 1e6:.1f} MB" for thing in going]
    done = "nothing to free" if not going else f"{'would free' if dry_run else 'freed'} {freed / 1e6:.1f} MB"
    document = {
        "workspace": str(workspace.root),
        "holds": [{"kind": holding.kind, "count": holding.count, "bytes": holding.size} for holding in held],
        "removed": [{"path": str(t.path), "what": t.what, "why": t.why, "bytes": t.size} for t in going],
        "dry_run": dry_run,
    }
    from rich.text import Text

    show(document, [table, *map(Text, [*lines, done])], as_json=json_)
