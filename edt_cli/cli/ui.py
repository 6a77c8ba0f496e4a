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
    attach: Annotated[
        str | None,
        typer.Option(
            "--attach",
            help="Follow this run or job, made here or on another machine.",
            autocompletion=complete.runs,
        ),
    ] = None,
    ascii_: Annotated[bool, typer.Option("--ascii", help="ASCII alone. [env: EDT_ASCII]")] = False,
    light: Annotated[bool, typer.Option("--light", help="Dark on light.")] = False,
    screenshots: Annotated[
        Path | None, typer.Option("--screenshots", help="Write every screen as SVG to this folder, and end.")
    ] = None,
    workspace_: WorkspaceOption = None,
) -> None:
    """Look at datasets, runs, comparisons, tables, users and the LLM cache; watch, pause and stop runs.

    Examples:
        edt ui
        edt ui --attach demo-llm-edt-s42
        edt ui --screenshots shots --light
    """
    from edt_cli.config import UsageError
    from edt_cli.ui.app import EdtApp
    from edt_cli.ui.library import find_followed

    workspace = open_workspace(workspace_)
    if screenshots is not None:
        from edt_cli.ui.screenshots import write_all

        for path in write_all(workspace, screenshots, light=light, ascii_only=ascii_):
            note(f"written to {path}")
        return
    if not (sys.stdin.isatty() and sys.stdout.isatty()) or os.environ.get("TERM") == "dumb":
        raise UsageError("edt ui needs a terminal; edt eval and edt report print the same figures anywhere")
    folder = find_followed(workspace, attach) if attach else None
    EdtApp(workspace, folder, ascii_only=ascii_ or None, light=light).run()
