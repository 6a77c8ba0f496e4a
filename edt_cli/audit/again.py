"""A run made again beside the first one, and compared with it digit by digit."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np
from safetensors.numpy import load_file

from edt_cli.audit.checks import Check
from edt_cli.audit.results import result_documents, settings_of
from edt_cli.config import Settings
from edt_cli.inference.results import evaluate, ranks_of
from edt_cli.pipeline import Pipeline
from edt_cli.workspace.event_types import EpochEnded
from edt_cli.workspace.events import Events, Stopped, read_events
from edt_cli.workspace.files import scratch_folder
from edt_cli.workspace.layout import Workspace
from edt_cli.workspace.machine import machine, versions
from edt_cli.workspace.provenance import made_by
from edt_cli.workspace.runs import Run

Listener = Callable[[dict[str, Any]], None]
STEP = "again"
COMPARED = ("cpu", "threads", "gpu", "torch", "numpy", "edt", "commit")
"""Facts of a process that may change the last digits of a result."""


def make_again(workspace: Workspace, run: Run, pipeline: Pipeline, listen: Listener) -> list[Check]:
    """Train and evaluate a run again in a scratch folder of the workspace, and compare it with the first one.

    It reads the same data and artefacts, so no LLM is asked again; the run itself is not touched, and the folder is
    removed at the end.

    Raises:
        UserError: If it cannot be trained.
    """
    with scratch_folder(workspace.root) as folder:
        aside = replace(workspace, folder=f"{folder.name}/runs")
        settings = repeated(run)
        try:
            made = replace(pipeline, workspace=aside, settings=settings).run((listen,))
        except Stopped:  # nothing of it is kept, so that it could go on
            raise KeyboardInterrupt from None
        found = list(compare_training(run, made))
        if not found[-1].passed:
            found += _machines(run, made)
        return [*found, *_weights(run, made), *_ranks(aside, run, made, listen)]


def repeated(run: Run) -> Settings:
    """Return the settings that make a run again; a phase that its minutes ended gets as many epochs as it had."""
    s, phases = run.settings, run.manifest().get("phases", {})
    if all(phase.get("ended") != "minutes" for phase in phases.values()):
        return s
    schedules = {
        name: {"epochs": phase["epoch"], "planned_epochs": phase.get("planned_epochs") or s.training.epochs}
        for name, phase in phases.items()
    }
    return s.changed(training={"minutes": None, "schedules": schedules})


def _epochs(run: Run) -> dict[tuple[str, int], EpochEnded]:
    """Return the last report of each epoch: after an interruption some are reported twice."""
    events = (event for event in read_events(run.folder) if isinstance(event, EpochEnded))
    return {(event.phase, event.epoch): event for event in events}


def compare_training(run: Run, made: Run) -> Iterator[Check]:
    """Compare losses and validation figures of each epoch, in their order, up to the first that differs."""
    first, second = _epochs(run), _epochs(made)
    if not first and not second:
        yield Check(STEP, True, "nothing is trained")
        return
    figures = 0
    for key in first.keys() & second.keys():
        if not second[key].losses and first[key].losses:
            first[key] = first[key].model_copy(update={"losses": {}})
    for (phase, epoch), event in sorted(first.items(), key=lambda entry: entry[1].n):
        other = second.get((phase, epoch))
        if other is None:
            yield Check(STEP, False, f"{phase}, epoch {epoch}: the run made again ended before it")
            return
        then, now = ({**_named(one)} for one in (event, other))
        for name in then.keys() | now.keys():
            if then.get(name) != now.get(name):
                said = f"{phase}, epoch {epoch}, {name}: {then.get(name)} then, {now.get(name)} now"
                yield Check(STEP, False, f"first difference: {said}")
                return
        figures += len(then)
    if further := second.keys() - first.keys():
        phase, epoch = min(further, key=lambda key: second[key].n)
        yield Check(STEP, False, f"{phase}, epoch {epoch}: the run itself ended before it")
        return
    said = f"{figures:,} losses and validation figures of {len(first)} validations, alike to the last digit"
    yield Check(STEP, True, said)


def _named(event: EpochEnded) -> dict[str, float | None]:
    """Return the figures of an epoch by name, in the order in which they are made."""
    return {f"loss {name}": value for name, value in event.losses.items()} | {
        f"validation NDCG@10 {name}": value for name, value in event.ndcg.items()
    }


def _machines(run: Run, made: Run) -> list[Check]:
    """Say what was different about the processes, which may be why figures differ."""
    then, now = made_by(run.folder), made_by(made.folder)
    if not then or not now:
        return [Check(STEP, None, "what made the run is not recorded")]
    here = {**versions(), **machine(), **now[-1]}
    facts = {name: (then[-1].get(name), here.get(name)) for name in COMPARED}
    other = [f"{name} {old} then, {new} now" for name, (old, new) in facts.items() if old != new]
    said = "; ".join(other) or "the same machine, threads and versions"
    return [Check(STEP, None, f"what made it: {said}")]


def _weights(run: Run, made: Run) -> list[Check]:
    """Compare the weights of each phase, number by number."""
    found = []
    for name in run.manifest().get("phases", {}):
        paths = [one.folder / f"{name}.safetensors" for one in (run, made)]
        if not all(path.is_file() for path in paths):
            found.append(Check(STEP, False, f"weights of {name}: not in both runs"))
            continue
        then, now = map(load_file, paths)
        other = [key for key in then if key not in now or not np.array_equal(then[key], now[key])]
        said = f"weights of {name}: " + (f"{other[0]} differs" if other else f"{len(then)} tensors, alike")
        found.append(Check(STEP, not other, said))
    return found


def _ranks(aside: Workspace, run: Run, made: Run, listen: Listener) -> Iterator[Check]:
    """Evaluate the run made again as the first one was, and compare the rank of every user."""
    for document in result_documents(run):
        s = settings_of(document)
        events = Events(listeners=(lambda record: listen(record) if record["event"] == "progress" else None,))
        device = made.plan.get("device", "cpu")
        others = evaluate(aside, made, document["split"], s, events, device)  # type: ignore[arg-type]
        other = next(one for one in others if one["first_phase"] == document["first_phase"])
        then, now = (ranks_of(one, of)["rank"].to_numpy() for one, of in ((run, document), (made, other)))
        different = np.flatnonzero(then != now) if len(then) == len(now) else np.arange(len(then))
        name = document["file"]
        if not len(different):
            yield Check(STEP, True, f"{name}: {len(then):,} ranks, alike")
            continue
        row = int(different[0])
        said = f"{then[row]:g} then, {now[row]:g} now" if row < len(now) else "not ranked now"
        differ = f"{len(different):,} of {len(then):,} ranks differ"
        yield Check(STEP, False, f"{name}: {differ}, the first in row {row}: {said}")
