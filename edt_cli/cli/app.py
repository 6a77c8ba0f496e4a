"""`edt`: the commands. Each module imports what is heavy only inside its functions."""

from __future__ import annotations

import atexit
import gc
import io
import os
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from edt_cli.cli import (
    audit,
    augment,
    cache,
    clean,
    compare,
    data,
    doctor,
    eval,
    export,
    inspect,
    models,
    prompts,
    providers,
    recommend,
    report,
    reproduce,
    runs,
    search,
    serve,
    settings,
    stop,
    train,
    ui,
)
from edt_cli.cli.common import note, push_opened
from edt_cli.cli.errors import errors_as_json
from edt_cli.cli.help import KEEP, LOOK, ROAD, command
from edt_cli.config import UsageError, UserError
from edt_cli.workspace.signals import end_like_ctrl_c, exit_status
from edt_cli.workspace.version import __version__

COMMANDS: tuple[tuple[str, str, typer.Typer | Callable[..., None]], ...] = (
    (ROAD, "data", data.app),
    (ROAD, "augment", augment.augment),
    (ROAD, "profile", augment.profile),
    (ROAD, "train", train.train),
    (ROAD, "eval", eval.evaluate),
    (ROAD, "report", report.report),
    (ROAD, "compare", compare.compare),
    (ROAD, "reproduce", reproduce.reproduce),
    (ROAD, "search", search.search),
    (ROAD, "recommend", recommend.recommend),
    (ROAD, "serve", serve.serve),
    (ROAD, "export", export.export),
    (LOOK, "inspect", inspect.inspect),
    (LOOK, "runs", runs.app),
    (LOOK, "audit", audit.audit),
    (LOOK, "models", models.models),
    (LOOK, "settings", settings.settings),
    (LOOK, "prompts", prompts.app),
    (LOOK, "providers", providers.providers),
    (LOOK, "ui", ui.ui),
    (LOOK, "stop", stop.stop),
    (KEEP, "cache", cache.app),
    (KEEP, "clean", clean.clean),
    (KEEP, "doctor", doctor.doctor),
)


class Commands(TyperGroup):
    """The commands in the order in which one needs them, each ended by Ctrl-C, SIGTERM and SIGHUP with one line."""

    def list_commands(self, ctx: typer.Context) -> list[str]:  # type: ignore[override]
        return [name for _, name, _ in COMMANDS]

    def invoke(self, ctx: typer.Context) -> Any:  # type: ignore[override]
        """Run a command. At Ctrl-C, typer itself would say nothing."""
        try:
            try:
                return super().invoke(ctx)
            finally:
                push_opened()
        except KeyboardInterrupt as interrupt:
            with suppress(OSError):  # the terminal may be what was closed
                note(str(interrupt) or "interrupted")
            raise typer.Exit(exit_status(interrupt)) from None


app = typer.Typer(
    name="edt",
    cls=Commands,
    help="LLM-enhanced cross-domain sequential recommendation: LLM-EDT and its rivals, measured honestly.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for panel, name, what in COMMANDS:
    if isinstance(what, typer.Typer):
        app.add_typer(what, name=name, rich_help_panel=panel)
    else:
        command(app, name, panel)(what)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"edt {__version__}")
        raise typer.Exit


@app.callback()
def root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    pass


@errors_as_json()
def main() -> None:
    """Entry point. A user's mistake ends in one line; 2: wrong usage, 1: a failed run, 128 + n: signal n."""
    end_like_ctrl_c()
    # Else the collector goes through all that torch and transformers brought along, for seconds, before the end.
    atexit.register(gc.freeze)
    for stream in (sys.stdout, sys.stderr):
        # A console or a pipe that is not UTF-8 shows ? for what it cannot.
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")
    try:
        app()
    except BrokenPipeError:
        # The reader of a pipe went away (`edt report | head`): nothing to say, and nothing to flush.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)
    except Exception as error:
        # Not imported before there is an error: it brings numpy along.
        from edt_backends.base import BackendError
        from edt_cli.workspace.files import FULL, error_number

        number = error_number(error)
        if number is not None and (isinstance(error, OSError) or number in FULL):
            note(f"error: {getattr(error, 'filename', None) or 'cannot write'}: {os.strerror(number)}")
            sys.exit(1)
        if not isinstance(error, UserError | BackendError):
            raise
        note(f"error: {error}")
        sys.exit(2 if isinstance(error, UsageError) else 1)
