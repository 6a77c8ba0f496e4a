"""Runs sent to the trackers that people have: MLflow, TensorBoard and Weights & Biases.

What is sent is read from the run's folder, so a finished run can be sent at any time. Where it is sent to is for
the tracker's own settings (`MLFLOW_TRACKING_URI`, `WANDB_MODE`, ...).
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

from edt_cli.config import Tracker, UserError
from edt_cli.inference.labels import name_of
from edt_cli.workspace.event_types import EpochEnded
from edt_cli.workspace.events import read_events
from edt_cli.workspace.layout import Workspace
from edt_cli.workspace.runs import Run
from edt_cli.workspace.version import __version__

PROJECT = "edt"


class Point(NamedTuple):
    """Values of one epoch of a phase, by name such as `pre-training/ndcg@10/food`."""

    step: int
    """Number of the epoch, counted over all phases."""
    values: dict[str, float]


@dataclass(frozen=True)
class Record:
    """What a tracker is told of a run.

    Attributes:
        name: Name of the run's folder.
        label: Name of the run in tables.
        settings: All settings by flat name.
        tags: What it was made of: data, system, keys of artefacts, version.
        curves: Losses and validation metrics of each epoch.
        results: Metrics of each result document, by name such as `test/full/ndcg@10/food`.
        began: Time of its first event in seconds since 1970, and `ended` that of its last.
    """

    name: str
    label: str
    settings: Mapping[str, Any]
    tags: Mapping[str, str]
    curves: tuple[Point, ...]
    results: Mapping[str, float]
    began: float
    ended: float


def record_of(run: Run) -> Record:
    """Read what a tracker is told of a run from its folder."""
    plan = run.plan
    tags = {
        "edt.run": run.name,
        "edt.version": __version__,
        "edt.data": plan["data"],
        "edt.data_key": plan["data_key"],
        "edt.model": run.settings.model.name,
        "edt.preset": plan.get("preset") or "",
        "edt.llm": plan["llm"],
        **{f"edt.artefact.{kind}": key for kind, key in plan["artefacts"].items()},
    }
    events = list(read_events(run.folder))
    epochs = [event for event in events if isinstance(event, EpochEnded)]
    curves = tuple(Point(step, _values(event)) for step, event in enumerate(epochs))
    results = {
        f"{document['file']}/{metric}/{domain}": float(value)
        for document in run.results()
        for domain, figures in (*document["domains"].items(), ("overall", document["overall"]))
        for metric, value in figures.items()
        if value is not None
    }
    return Record(
        name=run.name,
        label=name_of(run),
        settings=run.settings.flat(),
        tags=tags,
        curves=curves,
        results=results,
        began=events[0].time,
        ended=events[-1].time,
    )


def _values(event: EpochEnded) -> dict[str, float]:
    # Losses of domains are named by number.
    domains = {f"L_{number}": name for number, name in enumerate(name for name in event.ndcg if name != "mean")}
    terms = {f"{event.phase}/loss/{domains.get(name, name)}": value for name, value in event.losses.items()}
    metrics = {f"{event.phase}/ndcg@10/{name}": value for name, value in event.ndcg.items()}
    return {name: float(value) for name, value in (terms | metrics).items() if value is not None}


def require(tracker: Tracker) -> None:
    """Check that a tracker's library is installed.

    Raises:
        UserError: If it is not; the message has the command that installs it.
    """
    if find_spec(tracker) is None:
        raise UserError(f"{tracker} is not installed; install it with: pip install 'edt-cli[{tracker}]'")


def send(workspace: Workspace, run: Run, tracker: Tracker) -> str:
    """Send a run to a tracker; what it has of the run already is replaced.

    Returns:
        Where it is now, in a form that the tracker's own tools take.

    Raises:
        UserError: If the tracker is not installed.
    """
    require(tracker)
    senders: dict[str, Callable[[Workspace, Record], str]] = {
        "mlflow": _to_mlflow,
        "tensorboard": _to_tensorboard,
        "wandb": _to_wandb,
    }
    return senders[tracker](workspace, record_of(run))


def _to_mlflow(workspace: Workspace, record: Record) -> str:
    import mlflow
    from mlflow.entities import Metric, Param, RunTag

    client = mlflow.MlflowClient()
    experiment = mlflow.set_experiment(PROJECT)
    known = client.search_runs([experiment.experiment_id], f"tags.`edt.run` = '{record.name}'")
    for before in known:
        client.delete_run(before.info.run_id)
    made = client.create_run(experiment.experiment_id, round(1000 * record.began), run_name=record.name)
    # MLflow takes no @ in a metric's name.
    metrics = [
        Metric(name.replace("@", "_"), value, 0, point.step)
        for point in (*record.curves, Point(0, dict(record.results)))
        for name, value in point.values.items()
    ]
    tags = [RunTag(name, value) for name, value in {**record.tags, "edt.label": record.label}.items()]
    parameters = [Param(name, str(value)) for name, value in record.settings.items()]
    for start in range(0, len(metrics), 1000):
        client.log_batch(made.info.run_id, metrics=metrics[start : start + 1000])
    for start in range(0, len(parameters), 100):
        client.log_batch(made.info.run_id, params=parameters[start : start + 100])
    client.log_batch(made.info.run_id, tags=tags)
    client.set_terminated(made.info.run_id, end_time=round(1000 * record.ended))
    return f"{mlflow.get_tracking_uri()}, experiment {PROJECT}, run {made.info.run_id}"


def _to_tensorboard(workspace: Workspace, record: Record) -> str:
    from torch.utils.tensorboard import SummaryWriter

    folder: Path = workspace.root / "tensorboard" / record.name
    shutil.rmtree(folder, ignore_errors=True)
    with SummaryWriter(folder) as writer:
        for point in record.curves:
            for name, value in point.values.items():
                writer.add_scalar(name, value, point.step)
        for name, value in record.results.items():
            writer.add_scalar(name, value)
        rows = {"label": record.label, **record.tags, **record.settings}
        lines = [f"    {name} = {value}" for name, value in rows.items()]
        writer.add_text("settings", "\n".join(lines))
    return f"tensorboard --logdir {folder.parent}"


def _to_wandb(workspace: Workspace, record: Record) -> str:
    import wandb

    config = {**record.settings, **record.tags, "label": record.label}
    with wandb.init(project=PROJECT, id=record.name, name=record.name, config=config, resume="never") as made:
        for point in record.curves:
            made.log(point.values, step=point.step)
        made.summary.update(record.results)
        return str(made.url or made.dir)
