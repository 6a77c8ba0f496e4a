"""Time that a trained system takes for a user, measured alike for all systems (figure 6)."""

from __future__ import annotations

import time
from contextlib import suppress
from typing import Any, TypedDict

import numpy as np

from edt_cli.data.dataset import Targets
from edt_cli.evaluation.lists import TOP
from edt_cli.evaluation.queries import EvalQueries
from edt_cli.evaluation.ranking import rank
from edt_cli.inference.measure import training_data_of
from edt_cli.inference.trained import load_trained
from edt_cli.training.device import in_use, open_device
from edt_cli.workspace.events import Events
from edt_cli.workspace.layout import Workspace, json_object, write_json
from edt_cli.workspace.machine import machine
from edt_cli.workspace.runs import Run

LATENCY = "latency.json"
USERS, PASSES, SECONDS = 2000, 5, 1.0
"""Users of a pass at most, passes and seconds of passes at least."""


class Latency(TypedDict):
    """Fastest of some passes over the same users, on one machine."""

    seconds: float
    users: int
    passes: int
    cpu: str
    gpu: str | None
    device: str
    threads: int


def latency(workspace: Workspace, run: Run, device: str = "cpu") -> Latency:
    """Return the time from histories to the best items, measured once on this machine and kept with the run.

    A pass encodes the histories of the first test users and all items, scores every item of the target's domain and
    takes the ten best of each; loading is no part of it. The fastest pass counts: whatever else the machine does
    makes one slower.
    """
    facts = {"cpu": machine()["cpu"], **in_use(str(open_device(device)))}
    kept = (json_object(run.folder / LATENCY) or {}).get("measured", [])
    for record in kept:
        if record.items() >= facts.items():
            return record  # type: ignore[no-any-return]
    measured = _measured(workspace, run, facts)
    with suppress(OSError):  # of a workspace that can only be read, nothing is kept
        write_json(run.folder / LATENCY, {"measured": [*kept, measured]})
    return measured


def _measured(workspace: Workspace, run: Run, facts: dict[str, Any]) -> Latency:
    data = training_data_of(workspace, run, Events(), facts["device"])
    queries = _first(data.queries("test", run.settings.evaluation.keep_seen), USERS)
    trained = load_trained(data, run.settings, run.folder)
    seconds: list[float] = []
    # The first one warms up. What a pass ends with is on the CPU, whatever the device.
    while len(seconds) <= PASSES or sum(seconds) < SECONDS:
        started = time.perf_counter()
        rank(trained.scorer(queries.inputs, queries.targets.domains), queries, top=TOP)
        seconds.append(time.perf_counter() - started)
    return {"seconds": min(seconds[1:]), "users": len(queries), "passes": len(seconds) - 1, **facts}  # type: ignore[typeddict-item]


def _first(queries: EvalQueries, count: int) -> EvalQueries:
    """Return the first `count` queries."""
    rows = np.arange(min(count, len(queries)))
    targets = queries.targets
    return EvalQueries(
        domains=queries.domains,
        targets=Targets(targets.users[rows], targets.positions[rows], targets.items[rows], targets.domains[rows]),
        inputs=queries.inputs.rows(rows),
        history=queries.history.rows(rows),
        keep_seen=queries.keep_seen,
    )
