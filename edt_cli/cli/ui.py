"""`edt ui`: the workspace, or one run, as a terminal app."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from edt_cli.cli import complete
from edt_cli.cli.common import WorkspaceOption, note, open_workspace


def ui(
    name: Annotated[
        str | None,
        typer.Argument(help="With --attach: the run or job to follow.", autocompletion=complete.runs),
    ] = None,
    attach: Annotated[
        bool,
        typer.Option(
            "--attach",
            help="Follow this run or job, made here or on another machine; without a name, the newest at work.",
        ),
    ] = False,
    ascii_: Annotated[bool, typer.Option("--ascii", help="ASCII alone. [env: EDT_ASCII]")] = False,
    light: Annotated[
        bool | None,
        typer.Option("--light/--dark", help="Dark on light, or light on dark. [default: what was used last]"),
    ] = None,
    screenshots: Annotated[
        Path | None, typer.Option("--screenshots", help="Write every screen as SVG to this folder, and end.")
    ] = None,
    workspace_: WorkspaceOption = None,
) -> None:
    """Look at datasets, runs, comparisons, tables, users and the LLM cache; watch, pause and stop runs.

    Examples:
        edt ui --attach
        edt ui --attach demo-llm-edt-s42
        edt ui --screenshots shots --light
    """
    from edt_cli.config import UsageError
    from edt_cli.ui.app import EdtApp
    from edt_cli.ui.library import find_followed, newest_at_work

    workspace = open_workspace(workspace_)
    if screenshots is not None:
        from edt_cli.ui.screenshots import write_all

        for path in write_all(workspace, screenshots, light=bool(light), ascii_only=ascii_):
            note(f"written to {path}")
        return
    if not (sys.stdin.isatty() and sys.stdout.isatty()) or os.environ.get("TERM") == "dumb":
        raise UsageError("edt ui needs a terminal; edt eval and edt report print the same figures anywhere")
    folder = find_followed(workspace, name) if name else newest_at_work(workspace) if attach else None
    EdtApp(workspace, folder, ascii_only=ascii_ or None, light=light).run()
