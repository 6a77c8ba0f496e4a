"""Number of parameters of a system on a dataset, without embedding, LLM calls or training."""

from __future__ import annotations

import numpy as np
import torch

from edt_cli.config import Settings
from edt_cli.data.dataset import Dataset
from edt_cli.models.batch import item_table
from edt_cli.models.inputs import GeneratedItems
from edt_cli.models.systems import make_model, needs, system
from edt_cli.training.data import TrainingData

TEXT_WIDTH = 1024
"""d_L of the embedder `local`."""


def parameters(dataset: Dataset, settings: Settings) -> int:
    """Return the number of parameters of a model trained on the original prefixes; 0 for an untrained system.

    Texts, profiles and generated items are replaced by vectors of the `local` embedder's width, since their content
    does not change the count.
    """
    if not system(settings.model.name).trained:
        return 0
    view = dataset.training_view()
    needed = needs(settings.model)
    vectors = profiles = None
    random = np.random.default_rng(0)
    if "item text" in needed:
        has_text = dataset.has_text
        width = TEXT_WIDTH if dataset.vectors is None else dataset.vectors.dimension
        vectors = random.normal(size=(len(has_text), width)).astype(np.float32) * has_text[:, None]
    if "user profiles" in needed and settings.profiling.enabled:
        profiles = torch.zeros(len(view.prefixes), TEXT_WIDTH)
    table = item_table(dataset.domains, view.prefixes, vectors=vectors)
    generated = None
    if "generated items" in needed and not system(settings.model.name).augmented:
        single = np.zeros(1, dtype=np.int64)
        generated = GeneratedItems.of(single, single, single, np.zeros((1, TEXT_WIDTH), dtype=np.float32))
    given = TrainingData(
        dataset=dataset, view=view, sequences=view.prefixes, table=table, profiles=profiles, generated=generated
    ).given(settings)
    model = make_model(given)
    for phase in model.phases(given):
        phase.enter()
    return sum(parameter.numel() for parameter in model.parameters())
