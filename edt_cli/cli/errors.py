"""Errors under `--json`: one document on stdout, beside the line on stderr."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from edt_cli.cli.common import SAID, emit_json

USAGE, INTERRUPTED = 2, 128
"""Exit status of wrong usage; that of a signal is above the second."""


@contextmanager
def errors_as_json() -> Iterator[None]:
    """Emit {"error": {"kind", "message", "exit_code"}} where a command with `--json` fails before its document."""
    try:
        yield
    except SystemExit as end:
        if end.code:
            _emit(end.code if isinstance(end.code, int) else 1, _message(end))
        raise
    except Exception as error:
        _emit(1, f"{type(error).__name__}: {error}")
        raise


def _emit(code: int, message: str) -> None:
    if "--json" not in sys.argv or SAID.document:
        return
    kind = "usage" if code == USAGE else "interrupted" if code > INTERRUPTED else "failed"
    emit_json({"error": {"kind": kind, "message": message, "exit_code": code}})


def _message(end: SystemExit) -> str:
    """Return what was wrong: Typer shows its own errors itself, of which only the exception is left."""
    cause = end.__context__
    if format_message := getattr(cause, "format_message", None):
        return str(format_message())
    if type(cause).__name__ == "Abort":
        return "aborted: the answer was no"
    return SAID.note.removeprefix("error: ") or "failed"
