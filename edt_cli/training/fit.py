"""A run from its material to its weights, through both phases; and back from the weights to a model."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from edt_cli.config import Settings, TrainingSettings, UserError
from edt_cli.evaluation.candidates import draw_candidates
from edt_cli.evaluation.metrics import ranking_metrics
from edt_cli.evaluation.queries import EvalQueries
from edt_cli.evaluation.ranking import rank
from edt_cli.models.kernels import map_large_blocks
from edt_cli.models.phases import PRETRAINING, Phase
from edt_cli.models.scorers import Scorer, SideScored
from edt_cli.models.sequential import SequentialModel
from edt_cli.models.systems import make_model
from edt_cli.training.calibration import calibrated
from edt_cli.training.checkpoint import Progress, load_weights, read_progress, save_weights
from edt_cli.training.data import TrainingData
from edt_cli.training.loop import CHECKPOINT, run_phase, weights_file
from edt_cli.workspace.events import Events
from edt_cli.workspace.layout import read_json, write_json

PHASES = "phases.json"
WATCHED_NEGATIVES = 100
"""Of `training.watch = sampled`: as many as the released code ranks a target among."""


def train(material: TrainingData, settings: Settings, folder: Path, events: Events) -> dict[str, Any]:
    """All phases of a system; goes on where `folder` says it was.

    Returns what belongs in the manifest: parameters; for each phase its epochs, steps, best epoch, validation
    NDCG@10 there, and seconds; the weights of a side score that the validation set has judged. Errors: UserError
    where there is nothing to learn from.
    """
    s = settings.training
    if material.dataset.keeps_seen(settings.evaluation.keep_seen):
        # What stays a candidate must be learned as one.
        s = s.model_copy(update={"seen_negatives": True})
    map_large_blocks(settings.model.max_length)
    torch.manual_seed(s.seed)
    given = material.given(settings.model_copy(update={"training": s}), folder)
    model = make_model(given)
    if not bool((given.on_device.targets() > 0).any()):
        raise UserError("no user has two interactions in training: there is nothing to learn from")
    for message in model.remarks():
        events.emit("remark", message=message)
    watched = None if s.train_on != "train" else Watched.of(material, settings)
    reached = read_progress(folder / CHECKPOINT)
    phases = model.phases(given)
    weighed: list[list[float]] | None = None
    done = 0 if reached is None else [phase.name for phase in phases].index(reached.phase)
    for number, phase in enumerate(phases):
        if number:
            load_weights(folder / weights_file(phases[number - 1]), phases[number - 1].model)
        phase.enter()
        if number >= done:
            validate = None if watched is None else partial(watched.ndcg_of, phase)
            _note(folder, phase.name, run_phase(phase, s, folder, events, validate))
        if phase.name == PRETRAINING and model.side_score is not None:
            weighed = _weigh_side_score(watched, model, folder / weights_file(phase), s, events)
    return {
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "phases": read_json(folder / PHASES),
        "side_weights": weighed,
    }


def _weigh_side_score(
    watched: Watched | None, model: SequentialModel, weights: Path, s: TrainingSettings, events: Events
) -> list[list[float]] | None:
    """The side score's weights as validation has them, or an earlier run's that it judged; in model and file. None
    where training's stay."""
    assert model.side_score is not None
    notes = load_weights(weights, model)
    if "side_weights" in notes:
        kept: list[list[float]] = notes["side_weights"]
        return kept
    if s.side_weights is not None:
        weight = torch.tensor(s.side_weights, device=model.side_score.weight.device)
    elif watched is None or not model.side_score.calibrate:
        return None
    else:
        asked = watched.asked
        scorer = model.scorer(asked.inputs, asked.targets.domains)
        assert isinstance(scorer, SideScored)
        weight = calibrated(scorer, asked, s.seed)
    with torch.no_grad():
        model.side_score.weight.copy_(weight)
    notes["side_weights"] = weight.tolist()
    save_weights(weights, model, **notes)
    by_domain = [
        f"{name} {' '.join(f'{one:.2f}' for one in row)}"
        for name, row in zip(model.table.domains.names, weight.tolist(), strict=True)
    ]
    events.emit("calibrated", message=f"weights of the side score: {', '.join(by_domain)}")
    found: list[list[float]] = weight.tolist()
    return found


def _note(folder: Path, phase: str, done: Progress) -> None:
    known = read_json(folder / PHASES) if (folder / PHASES).is_file() else {}
    write_json(folder / PHASES, {**known, phase: asdict(done)})


@dataclass(frozen=True)
class Watched:
    """What early stopping follows: NDCG@10 of the validation targets, among all items or `candidates` [n, N]."""

    asked: EvalQueries
    candidates: np.ndarray | None

    @classmethod
    def of(cls, material: TrainingData, settings: Settings) -> Watched:
        asked = material.queries("valid", settings.evaluation.keep_seen)
        seed = material.dataset.settings.seed
        sampled = settings.training.watch == "sampled"
        drawn = draw_candidates(asked, WATCHED_NEGATIVES, seed) if sampled else None
        return cls(asked, drawn)

    def ndcg_of(self, phase: Phase) -> dict[str, float]:
        return self.ndcg(phase.scorer(self.asked.inputs, self.asked.targets.domains))

    def ndcg(self, scorer: Scorer) -> dict[str, float]:
        """By domain, and "mean" over the domains that have a target."""
        ranks = rank(scorer, self.asked, candidates=self.candidates)
        watched = ranks.full if ranks.sampled is None else ranks.sampled
        found = {
            name: ranking_metrics(watched[own])["ndcg@10"]
            for number, name in enumerate(self.asked.domains.names)
            if (own := self.asked.targets.domains == number).any()
        }
        return {**found, "mean": sum(found.values()) / max(1, len(found))}
