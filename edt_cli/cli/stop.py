"""`edt stop`: stop a run or a job from another terminal."""

from __future__ import annotations

from typing import Annotated

import typer

from edt_cli.cli import complete
from edt_cli.cli.common import JsonOption, WorkspaceOption, open_workspace, show


def stop(
    name: Annotated[
        str,
        typer.Argument(
            metavar="NAME",
            help="A run or job, as `edt ui --attach` takes it.",
            autocompletion=complete.runs,
        ),
    ],
    now: Annotated[
        bool, typer.Option("--now", help="At once; what came after the last checkpoint is lost.")
    ] = False,
    workspace_: WorkspaceOption = None,
    json_: JsonOption = False,
) -> None:
    """Stop a run after its epoch, with a checkpoint; other work at once. What is done is kept, every reply too.

    Examples:
        edt stop demo-llm-edt-s42
        edt stop demo-llm-edt-s42 --now
        edt stop 20261201-train-demo --json
    """
    from rich.text import Text

    from edt_cli.config import UserError
    from edt_cli.reporting.text import plain
    from edt_cli.ui.followed import Followed
    from edt_cli.ui.library import find_followed
    from edt_cli.workspace.events import Request

    workspace = open_workspace(workspace_)
    followed = Followed(workspace, find_followed(workspace, name))
    followed.catch_up()
    if not followed.at_work:
        raise UserError(f"{followed.name} is {followed.status}: nothing is at work there")
    # Without epochs, there is nothing to wait for: other work is kept unit by unit.
    request: Request = "stop-now" if now or not followed.training else "stop-after-epoch"
    followed.request(request)
    when = "after this epoch" if request == "stop-after-epoch" else "now"
    again = f"; it goes on with: {followed.command}" if followed.command else ""
    document = {"name": followed.name, "request": request, "command": followed.command or None}
    show(document, [Text(plain(f"{followed.name} was asked to stop {when}{again}"))], as_json=json_)
