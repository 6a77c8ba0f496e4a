"""`edt audit`: whether a result is what it says, from the raw files to the table's cell."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from edt_cli.cli import complete
from edt_cli.cli.common import JsonOption, WorkspaceOption, note, open_workspace, progress, show

if TYPE_CHECKING:
    from rich.console import RenderableType

    from edt_cli.audit.checks import Audit, Check

SIGNS = {True: "passed", False: "FAILED", None: "not checked"}


def audit(
    run: Annotated[
        str,
        typer.Argument(
            metavar="RUN",
            help="A finished run's id, its name, or how its id or its key begins; or the folder of a bundle.",
            autocompletion=complete.runs,
        ),
    ],
    again: Annotated[
        bool,
        typer.Option(
            "--again", help="Make the run again beside it, as long as that takes, and compare every digit."
        ),
    ] = False,
    raw: Annotated[
        Path | None, typer.Option("--raw", help="Folder of the raw files, to compare them with the data, too.")
    ] = None,
    workspace_: WorkspaceOption = None,
    json_: JsonOption = False,
) -> None:
    """Check a result: nothing behind it was changed, nothing leaked into it, and its weights give its figures.

    Digests, keys, leak checks and ranks are computed again. What is not as it should be is told in one line each,
    with exit status 1.

    Examples:
        edt audit best-so-far
        edt audit food-kitchen-llm-edt-s42 --again
        edt audit submission/ --json
    """
    from edt_cli.audit.bundle import audit_bundle, is_bundle
    from edt_cli.audit.run import audit as examine
    from edt_cli.config import UsageError
    from edt_cli.workspace.runs import find_runs

    if is_bundle(Path(run)):
        if again or raw:
            raise UsageError("--again and --raw take a run of a workspace; a bundle holds neither weights nor data")
        result = audit_bundle(Path(run))
    else:
        workspace = open_workspace(workspace_)
        (found,) = find_runs(workspace, None, [run], unsound=True)
        with progress() as listen:
            result = examine(workspace, found, raw=raw, again=again, listen=listen)
    show(result.document(), _shown(result), as_json=json_)
    problems = result.problems
    for problem in problems:
        note(f"{result.name}: {problem.step}: {problem.said}")
    if problems:
        raise typer.Exit(1)


def _shown(result: Audit) -> list[RenderableType]:
    from rich.text import Text

    from edt_cli.reporting.text import plain

    def line(text: str, indent: int = 0) -> Text:
        return Text(" " * indent + plain(text), no_wrap=True, overflow="ignore")

    parts: list[RenderableType] = [Text(plain(f"{result.name}: {result.label}"), style="bold")]
    for title, checks in (
        ("The chain", result.chain),
        ("What could have leaked", result.leaks),
        ("Made again", result.again),
    ):
        if checks:
            parts += [line(""), line(title), _table(checks)]
    if result.cells:
        parts += [line(""), line("What tables show of it")]
    for cell in result.cells:
        figures = [f"{name.upper()} {cell[name]:.4f}" for name in ("hr@10", "ndcg@10") if cell[name] is not None]
        parts.append(line(f"{cell['file']}, {cell['domain']}: {', '.join(figures)}, {cell['users']:,} users", 2))
    if result.command:
        command = shlex.join(["edt", *result.command])
        parts += [line(""), line("The command that makes it again"), line(command, 2)]
    return parts


def _table(checks: list[Check]) -> RenderableType:
    from rich.table import Table
    from rich.text import Text

    from edt_cli.reporting.text import plain

    grid = Table.grid(padding=(0, 2))
    grid.add_column()
    grid.add_column(no_wrap=True)
    grid.add_column(overflow="fold")
    for check in checks:
        style = {True: "green", False: "bold red", None: "dim"}[check.passed]
        grid.add_row(Text("  " + SIGNS[check.passed], style=style), Text(check.step), Text(plain(check.said)))
    return grid
