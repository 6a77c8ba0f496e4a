"""`edt search`: settings by validation only."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated

import typer

from edt_cli.cli.common import (
    CLUSTER,
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
from edt_cli.cli.planned import CpusOption, GpusOption, MemoryOption, OnOption, launcher_of
from edt_cli.cli.watch import stopping
from edt_cli.experiments.files import SEARCHES, STORAGE, names


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
    jobs: Annotated[
        int | None,
        typer.Option("--jobs", min=1, help="Processes, each with a trial at a time; on a cluster as many as fit."),
    ] = None,
    storage: Annotated[
        str | None,
        typer.Option(
            "--storage",
            metavar="URL|FILE",
            envvar=STORAGE,
            show_envvar=False,
            help="Optuna's storage for several processes: a database, or a journal file. \\[env: EDT_STORAGE]",
            rich_help_panel=CLUSTER,
        ),
    ] = None,
    on: OnOption = None,
    cpus: CpusOption = 1.0,
    gpus: GpusOption = 0.0,
    memory: MemoryOption = None,
    workspace_: WorkspaceOption = None,
    json_: JsonOption = False,
) -> None:
    """Search settings by validation NDCG@10; the test set is not looked at. Goes on where it was cut off.

    Examples:
        edt search best --data food-kitchen
        edt search space.toml --data mine --jobs 4 --json
        edt search space.toml --data mine --on ray:10.0.0.1:6379 --gpus 1
    """
    from rich import box
    from rich.table import Table
    from rich.text import Text

    from edt_cli.data.open import open_dataset
    from edt_cli.experiments.parallel_search import search_by_many
    from edt_cli.experiments.search import SearchSettings, result_of
    from edt_cli.experiments.search import search as run_search
    from edt_cli.training.device import open_device
    from edt_cli.workspace.events import Events
    from edt_cli.workspace.jobs import launch

    settings = SearchSettings.read(space)
    chosen = str(open_device(device))
    workspace = open_workspace(workspace_)
    dataset = open_dataset(workspace, data)
    with stopping(), progress() as listen, launcher_of(on, cpus, gpus, memory) as cluster:
        many = jobs or (1 if cluster is None else min(cluster.places, settings.trials))
        if cluster is not None or many > 1:
            storage = search_by_many(
                workspace,
                dataset,
                space,
                device,
                Events(listeners=(listen,)),
                processes=many,
                launcher=cluster or launch,
                storage=storage,
            )
            result = result_of(workspace, dataset, settings, storage)
        else:
            result = run_search(workspace, dataset, settings, chosen, (listen,), storage)
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
