"""`edt search`: settings by validation only."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated

import typer

from edt_cli.cli.common import (
    DataOption,
    DeviceOption,
    JsonOption,
    WorkspaceOption,
    emit_json,
    note,
    open_workspace,
    progress,
    stdout,
)
from edt_cli.cli.watch import stopping
from edt_cli.experiments.files import SEARCHES, names


def search(
    space: Annotated[
        Path,
        typer.Argument(
            help=f"A search that comes with edt ({', '.join(names(SEARCHES))}), or one as TOML: trials, seed, "
            "preset, \\[settings], \\[space]."
        ),
    ],
    data: DataOption = "demo",
    device: DeviceOption = "auto",
    workspace_: WorkspaceOption = None,
    json_: JsonOption = False,
) -> None:
    """Search settings by validation NDCG@10; the test set is not looked at. Goes on where it was cut off.

    Examples:
        edt search best --data food-kitchen
        edt search space.toml --data mine --device cuda
        edt search space.toml --data mine --json
    """
    from rich import box
    from rich.table import Table
    from rich.text import Text

    from edt_cli.data.open import open_dataset
    from edt_cli.experiments.search import SearchSettings
    from edt_cli.experiments.search import search as run_search
    from edt_cli.training.device import open_device

    settings = SearchSettings.read(space)
    chosen = str(open_device(device))
    workspace = open_workspace(workspace_)
    with stopping(), progress() as listen:
        result = run_search(workspace, open_dataset(workspace, data), settings, chosen, (listen,))
    command = (
        f"edt train --data {data} --model {result.model} --preset {settings.preset} --config {result.settings}"
    )
    note(f"the best settings are in {result.settings}; train with: {command}")
    if json_:
        emit_json(
            {
                "data": data,
                "search": result.name,
                "preset": settings.preset,
                "best": result.best,
                "trials": result.trials,
            }
        )
        return
    title = f"{result.name}: {len(result.trials)} finished trials, {result.given_up} given up"
    table = Table(box=box.SIMPLE_HEAD, title=title, title_justify="left")
    for name in result.trials[0]:
        table.add_column(re.sub("([._])", "\\1\n", name), justify="right")
    for trial in result.trials:
        table.add_row(*(Text(f"{v:.4g}" if isinstance(v, float) else str(v)) for v in trial.values()))
    stdout().print(table)
