"""Training of a run, from its data to its weights, through all phases."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from edt_cli.config import Settings, TrainingSettings, UserError
from edt_cli.distributed.group import draw_apart, process, processes, value_of_leader
from edt_cli.distributed.sharded import whole_size
from edt_cli.evaluation.candidates import draw_candidates
from edt_cli.evaluation.metrics import ranking_metrics
from edt_cli.evaluation.queries import EvalQueries
from edt_cli.evaluation.ranking import rank
from edt_cli.models.backbones import compile_backbones
from edt_cli.models.kernels import map_large_blocks
from edt_cli.models.phase_names import main_phase
from edt_cli.models.phases import Phase
from edt_cli.models.scorers import Scorer, SideScored
from edt_cli.models.sequential import SequentialModel
from edt_cli.models.systems import make_model
from edt_cli.training.calibration import calibrated
from edt_cli.training.checkpoint import Progress, load_weights, read_progress, save_weights
from edt_cli.training.data import TrainingData
from edt_cli.training.loop import CHECKPOINT, run_phase, weights_file
from edt_cli.workspace.event_types import Calibrated, Planned, Remark
from edt_cli.workspace.events import Events
from edt_cli.workspace.layout import read_json, write_json

PHASES = "phases.json"
"""File of a run's folder with the progress of each finished phase."""
WATCHED_NEGATIVES = 100
"""Negatives per validation target with `training.watch = sampled`, as in the released code."""


def train(
    data: TrainingData,
    settings: Settings,
    folder: Path,
    events: Events,
    *,
    compiled: bool = False,
    sharded: bool = False,
) -> dict[str, Any]:
    """Train all phases of a system, resuming from the checkpoint in `folder` if there is one.

    Args:
        data: Data and artefacts of the run.
        settings: Settings of the run.
        folder: The run's folder.
        events: Where progress is reported.
        compiled: Whether the backbones are compiled by torch.compile.
        sharded: Whether several processes share out the rows of the id table.

    Returns:
        Entries of the manifest: the number of parameters; for each phase its epochs, steps, best epoch, validation
        NDCG@10 at that epoch, and seconds; the weights of a side score that were fitted on the validation set.

    Raises:
        UserError: If no user has two interactions to learn from.
    """
    s = settings.training
    if data.dataset.keeps_seen(settings.evaluation.keep_seen):
        # Items that stay candidates at evaluation must be negatives in training.
        s = s.model_copy(update={"seen_negatives": True})
    map_large_blocks(settings.model.max_length)
    torch.manual_seed(s.seed)
    given = data.given(settings.model_copy(update={"training": s}), folder)
    model = make_model(given, sharded=sharded and processes() > 1)
    if compiled:
        compile_backbones(model)
    if not bool((given.on_device.targets() > 0).any()):
        raise UserError("no user has two interactions in training: there is nothing to learn from")
    if data.device.type == "mps":
        message = "mps has no float64, and lacks some operators: they are computed on the CPU"
        events.emit(Remark(message=message))
    for message in model.remarks():
        events.emit(Remark(message=message))
    validation = None if s.train_on != "train" else Validation.of(data, settings)
    if validation is not None and not len(validation.queries):
        validation = None
        message = "there is no validation target: training ends with its last epoch, and the last weights count"
        events.emit(Remark(message=message))
    progress = read_progress(folder / CHECKPOINT)
    phases = model.phases(given)
    draw_apart(s.seed)
    side_weights: list[list[float]] | None = None
    names = [phase.name for phase in phases]
    if repeated := [name for name in names if names.count(name) > 1]:
        raise UserError(f"{settings.model.name} has two phases named {repeated[0]!r}: give each a name of its own")
    events.emit(Planned(phases=names))
    done = 0 if progress is None else names.index(progress.phase)
    for number, phase in enumerate(phases):
        if number:
            load_weights(folder / weights_file(phases[number - 1]), phases[number - 1].model)
        phase.enter()
        if number >= done:
            validate = None if validation is None else partial(validation.ndcg_of, phase)
            progress_made = run_phase(phase, s, folder, events, validate)
            if not process():
                _note(folder, phase.name, progress_made)
        if phase.name == main_phase(names) and model.side_score is not None:
            if not process():
                side_weights = _fit_side_weights(validation, model, folder / weights_file(phase), s, events)
            # The others read the file only once the leader has written it.
            side_weights = value_of_leader(side_weights)
    return {
        "parameters": sum(map(whole_size, model.parameters())),
        "phases": read_json(folder / PHASES) if not process() else {},
        "side_weights": side_weights,
    }


def _fit_side_weights(
    validation: Validation | None, model: SequentialModel, weights: Path, s: TrainingSettings, events: Events
) -> list[list[float]] | None:
    """Fit the weights of the side score on the validation set.

    They are written into the model and into its weights file. If the file already has fitted weights, they are
    kept; if the settings give weights, these are used.

    Returns:
        The weights, or None if those from training stay.
    """
    assert model.side_score is not None
    notes = load_weights(weights, model)
    if "side_weights" in notes:
        kept: list[list[float]] = notes["side_weights"]
        return kept
    if s.side_weights is not None:
        weight = torch.tensor(s.side_weights, device=model.side_score.weight.device)
    elif validation is None or not model.side_score.calibrate:
        return None
    else:
        queries = validation.queries
        scorer = model.scorer(queries.inputs, queries.targets.domains)
        assert isinstance(scorer, SideScored)
        weight = calibrated(scorer, queries, s.seed)
    with torch.no_grad():
        model.side_score.weight.copy_(weight)
    notes["side_weights"] = weight.tolist()
    save_weights(weights, model, **notes)
    by_domain = [
        f"{name} {' '.join(f'{value:.2f}' for value in row)}"
        for name, row in zip(model.table.domains.names, weight.tolist(), strict=True)
    ]
    events.emit(Calibrated(message=f"weights of the side score: {', '.join(by_domain)}"))
    fitted: list[list[float]] = weight.tolist()
    return fitted


def _note(folder: Path, phase: str, done: Progress) -> None:
    """Write the progress of a finished phase into the run's folder."""
    known = read_json(folder / PHASES) if (folder / PHASES).is_file() else {}
    write_json(folder / PHASES, {**known, phase: asdict(done)})


@dataclass(frozen=True)
class Validation:
    """The metric of early stopping: NDCG@10 of the validation targets, among all items or `candidates` [n, N]."""

    queries: EvalQueries
    candidates: np.ndarray | None

    @classmethod
    def of(cls, data: TrainingData, settings: Settings) -> Validation:
        """Make the validation queries of a run, and their candidates if validation is sampled."""
        queries = data.queries("valid", settings.evaluation.keep_seen)
        seed = data.dataset.settings.seed
        sampled = settings.training.watch == "sampled"
        drawn = draw_candidates(queries, WATCHED_NEGATIVES, seed) if sampled and len(queries) else None
        return cls(queries, drawn)

    def ndcg_of(self, phase: Phase) -> dict[str, float]:
        """Return `ndcg` of the model that a phase trains."""
        return self.ndcg(phase.scorer(self.queries.inputs, self.queries.targets.domains))

    def ndcg(self, scorer: Scorer) -> dict[str, float]:
        """Return NDCG@10 for each domain with a target by name, and their mean as "mean"."""
        candidates = {} if self.candidates is None else {"sampled": self.candidates}
        ranks = rank(scorer, self.queries, candidates=candidates).by_protocol
        watched = ranks.get("sampled", ranks["full"])
        by_domain = {
            name: ranking_metrics(watched[mask])["ndcg@10"]
            for number, name in enumerate(self.queries.domains.names)
            if (mask := self.queries.targets.domains == number).any()
        }
        return {**by_domain, "mean": sum(by_domain.values()) / max(1, len(by_domain))}
