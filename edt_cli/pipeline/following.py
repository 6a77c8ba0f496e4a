"""A process that follows: it trains the runs that its leader trains, each with its share of every batch."""

from __future__ import annotations

import signal

from edt_cli.data.open import open_dataset
from edt_cli.distributed.group import is_lost
from edt_cli.distributed.launch import Order, device_of_place, orders
from edt_cli.distributed.replicas import SharedEvents
from edt_cli.pipeline.run import Pipeline
from edt_cli.training.fit import train
from edt_cli.workspace.events import Stopped
from edt_cli.workspace.layout import Workspace
from edt_cli.workspace.runs import Run, read_plan


def follow(device: str) -> None:
    """Train what the leader of this process trains, until it lets go, stops or is gone.

    Args:
        device: Name of the device of a single process; each process takes its own from it.
    """
    # Whoever presses Ctrl-C speaks to the leader, which stops all at the end of an epoch.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    own = device_of_place(device)
    try:
        for given in orders(own):
            _train(Run(given.run, read_plan(given.run)), given, own)
    except Stopped:
        return
    except RuntimeError as error:
        # The leader, or whatever started the processes, says what has happened.
        if not is_lost(error):
            raise
        raise SystemExit(1) from None


def _train(run: Run, given: Order, device: str) -> None:
    workspace = Workspace(given.workspace)
    dataset = open_dataset(workspace, run.plan["data"])
    pipeline = Pipeline(workspace=workspace, dataset=dataset, settings=run.settings, device=device)
    train(
        pipeline.material(),
        run.settings,
        run.folder,
        SharedEvents(),
        compiled=given.compiled,
        sharded=given.sharded,
    )
