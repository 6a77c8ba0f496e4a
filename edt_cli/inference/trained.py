"""What a run has learned, to be asked."""

from __future__ import annotations

from pathlib import Path

from edt_cli.config import Settings
from edt_cli.models.phases import PRETRAINING
from edt_cli.models.scorers import Recommender
from edt_cli.models.systems import make_model, system, without_training
from edt_cli.training.checkpoint import load_weights
from edt_cli.training.data import TrainingData
from edt_cli.training.loop import weights_file


def load_trained(
    material: TrainingData, settings: Settings, folder: Path, *, first_phase: bool = False
) -> Recommender:
    """What a finished run has learned, or a system that needs no training; to be asked as often as one likes.

    `first_phase`: as it stood after pre-training (LLM-EDT's `w/o DFT`). Histories may hold catalogue items and the
    pseudo-items of the run's own data.
    """
    given = material.given(settings)
    if not system(settings.model.name).trained:
        return without_training(given)
    model = make_model(given)
    for phase in model.phases(given):
        phase.enter()
        last = phase
        if first_phase and phase.name == PRETRAINING:
            break
    load_weights(folder / weights_file(last), model)
    return model.eval()
