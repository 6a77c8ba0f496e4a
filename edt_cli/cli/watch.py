"""The live view of a command that takes long. The work is done by a separate process; the view may be closed."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, NoReturn

import typer

from edt_cli.cli.common import note

if TYPE_CHECKING:
    from edt_cli.workspace.jobs import Launched
    from edt_cli.workspace.layout import Workspace


LEFT = 3
"""Exit status of a command whose view was left while its work goes on."""


def viewed(no_ui: bool, as_json: bool) -> bool:
    """Return whether a live view opens: on a terminal that can move its cursor, unless an option says no."""
    on_terminal = sys.stdin.isatty() and sys.stdout.isatty() and sys.stderr.isatty()
    return on_terminal and os.environ.get("TERM") != "dumb" and not (no_ui or as_json)


def watch(workspace: Workspace, command: str, data: str) -> NoReturn:
    """Start this command as a detached process and show it until it ends or the view is left."""
    from edt_cli.ui.app import follow
    from edt_cli.workspace.jobs import launch

    launched = launch(workspace, command, data, sys.argv[1:], os.get_terminal_size().columns)
    try:
        follow(workspace, launched)
    except Exception as error:
        note(f"the view broke ({type(error).__name__}: {error}); the work is not touched by that")
    raise typer.Exit(_last_words(launched, command))


def _last_words(launched: Launched, command: str) -> int:
    """Print the output of the process if it has ended, else how to see it again; return the exit status."""
    from edt_cli.workspace.jobs import OUTPUT

    code = launched.code()
    if code is None:
        again = f"edt ui --attach {launched.folder.name}"
        note(f"edt {command} goes on by itself; look at it, or stop it (x), with: {again}")
        return LEFT
    sys.stdout.write((launched.folder / OUTPUT).read_text("utf-8", "replace"))
    if code:
        note(launched.last_words())
    return code if code >= 0 else 128 - code


@contextmanager
def stopping() -> Iterator[None]:
    """End a requested stop, Ctrl-C or a signal with its exit status and a line on how to go on."""
    from edt_cli.workspace.events import Stopped
    from edt_cli.workspace.signals import exit_status

    try:
        yield
    except (KeyboardInterrupt, Stopped) as ended:
        note("stopped; what was done is kept. The same command goes on from there.")
        raise typer.Exit(exit_status(ended)) from None
