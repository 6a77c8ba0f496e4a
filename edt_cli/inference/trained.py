"""Loading of the model that a finished run trained."""

from __future__ import annotations

from pathlib import Path

from edt_cli.config import Settings
from edt_cli.models.phase_names import main_phase
from edt_cli.models.scorers import Recommender
from edt_cli.models.systems import make_model, system, without_training
from edt_cli.training.checkpoint import load_weights
from edt_cli.training.data import TrainingData
from edt_cli.training.loop import weights_file


def load_trained(
    training_data: TrainingData, settings: Settings, folder: Path, *, first_phase: bool = False
) -> Recommender:
    """Return the trained model of a finished run, or a system that needs no training.

    Histories given to it may hold catalogue items and the pseudo-items of the run's data.

    Args:
        training_data: Data and artefacts of the run.
        settings: Settings of the run.
        folder: The run's folder.
        first_phase: Load the weights from the end of the main phase (LLM-EDT's `w/o DFT`).
    """
    model_inputs = training_data.given(settings)
    if not system(settings.model.name).trained:
        return without_training(model_inputs)
    model = make_model(model_inputs)
    phases = model.phases(model_inputs)
    main = main_phase(phase.name for phase in phases)
    for phase in phases:
        phase.enter()
        last = phase
        if first_phase and phase.name == main:
            break
    load_weights(folder / weights_file(last), model)
    model.eval()
    model.keep_item_vectors()
    return model
