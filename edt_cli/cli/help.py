"""Help of the commands: panels in the order of the road, and examples below the options."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import TypeVar

import typer

ROAD, LOOK, KEEP = "The road", "Look", "Housekeeping"
"""Panels of `edt --help`."""
Command = TypeVar("Command", bound=Callable[..., None])


def command(app: typer.Typer, name: str | None = None, panel: str | None = None) -> Callable[[Command], Command]:
    """Decorate a command; the examples of its docstring go below its options, each on a line of its own."""

    def register(function: Command) -> Command:
        text, _, examples = (inspect.getdoc(function) or "").partition("\n\nExamples:\n")
        lines = ["Examples:", *(line.strip() for line in examples.splitlines())]
        app.command(name, help=text, epilog="\n\n".join(lines), rich_help_panel=panel)(function)
        return function

    return register
