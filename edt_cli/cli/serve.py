"""`edt serve`: recommendations over HTTP."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Annotated

import typer

from edt_cli.cli import complete
from edt_cli.cli.common import DeviceOption, NewItemsOption, WorkspaceOption, note, open_workspace
from edt_cli.cli.eval import OptionalDataOption
from edt_cli.cli.recommend import newest_run

if TYPE_CHECKING:
    from edt_cli.serving.answers import Answers

TOKEN = "EDT_SERVE_TOKEN"
LOOPBACK = ("127.0.0.1", "::1", "localhost")


def serve(
    data: OptionalDataOption = None,
    run: Annotated[
        str | None,
        typer.Option(
            "--run",
            "-r",
            help="Serve this run, whatever comes. Default: the newest final run, else the newest trained one; a "
            "newer one takes its place when it is there.",
            autocompletion=complete.runs,
        ),
    ] = None,
    host: Annotated[str, typer.Option("--host", help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", min=0, max=65535, help="Port to listen on; 0 for any.")] = 8000,
    batch: Annotated[int, typer.Option("--batch", min=1, help="Most requests that are answered together.")] = 64,
    every: Annotated[
        float, typer.Option("--reload-every", min=0.1, help="Seconds between looks for a newer run.")
    ] = 30.0,
    new_items: NewItemsOption = None,
    device: DeviceOption = "auto",
    workspace_: WorkspaceOption = None,
) -> None:
    """Serve recommendations over HTTP: POST /recommend and /similar, GET /health and /metrics, and /docs.

    Clients send `Authorization: Bearer TOKEN` if EDT_SERVE_TOKEN is set. Ctrl-C ends it.

    Examples:
        edt serve
        edt serve --data mine --port 9000
        edt serve --run demo-llm-edt-s42 --host 0.0.0.0
        edt serve --new-items food=arrived.csv
    """
    from edt_cli.config import UserError
    from edt_cli.data.lists import read_new_items
    from edt_cli.training.device import open_device

    try:
        import uvicorn

        from edt_cli.serving.answers import Answers
        from edt_cli.serving.app import make_app
    except ImportError as error:
        raise UserError(f"the server needs {error.name}: pip install 'edt-cli[serve]'") from None
    arrived = read_new_items(new_items) if new_items else None
    workspace, chosen = open_workspace(workspace_), str(open_device(device))
    token = os.environ.get(TOKEN) or None
    if token is None and host not in LOOPBACK:
        note(f"whoever reaches {host} may ask: set {TOKEN} to ask for a token")
    answers = Answers.load(workspace, newest_run(workspace, data, run), chosen, arrived)

    def newer(served: Answers) -> Answers | None:
        found = newest_run(workspace, served.run.plan["data"], None)
        return None if found.name == served.run.name else Answers.load(workspace, found, chosen, arrived)

    app = make_app(answers, size=batch, token=token, newer=None if run else newer, seconds=every, tell=note)
    config = uvicorn.Config(app, host=host, port=port, log_level="warning", access_log=False)
    socket = config.bind_socket()
    socket.listen(config.backlog)  # so that whoever reads the address can connect
    address = f"[{host}]" if ":" in host else host
    note(f"{answers.run.name}, {answers.items:,} items: http://{address}:{socket.getsockname()[1]}/docs")
    uvicorn.Server(config).run(sockets=[socket])
