"""How a model is trained: in one phase or several, each with a loss, a learning rate and an end of its own."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from edt_cli.data.dataset import Sequences
from edt_cli.models.scorers import Scorer

PREPARATION = "preparation"
"""Of a model that another one must have before it is trained itself."""
PRETRAINING = "pre-training"
"""The first phase of every system, and the only one of most."""


class Phase(ABC):
    """What the training loop needs to know of one. Its weights are kept under its `name`.

    model: what it trains, validates and saves. own: a second optimiser, of parameters that the loop's own does not
    touch; it minimises `own_loss`, in a step before each step on `loss`. generators: all that chance draws from,
    beside torch's own generator. dropout: whether the model learns in training mode.
    """

    name: str
    model: nn.Module
    own: torch.optim.Optimizer | None
    lr: float
    steps_per_epoch: int
    epochs: int
    min_steps: int
    validate_steps: int
    generators: list[torch.Generator]
    dropout = True

    def enter(self) -> None:  # noqa: B027 - most have nothing to change
        """Change the model to what this phase trains. Called when the phases before have their best weights, also
        where this one is only to be loaded."""

    @abstractmethod
    def batches(self) -> Iterator[Any]:
        """One epoch."""

    @abstractmethod
    def loss(self, batch: Any) -> dict[str, Tensor]:
        """Named terms; their sum is minimised."""

    def own_loss(self, batch: Any) -> dict[str, Tensor]:
        """Named terms; their sum is what `own` minimises."""
        return {}

    @abstractmethod
    def parameter_groups(self, decay: float) -> list[dict[str, Any]]:
        """What AdamW learns: `params`, `pace` (times the learning rate) and `weight_decay`."""

    @abstractmethod
    def scorer(self, inputs: Sequences, domains: np.ndarray) -> Scorer:
        """What validation ranks by: scores for each row of `inputs`, asked for the domain domains[row]."""

    def notes(self) -> dict[str, float]:
        """What to report beside the metric at a validation."""
        return {}


def seeded(seed: int, device: torch.device) -> tuple[torch.Generator, torch.Generator]:
    """One generator for the order of an epoch (CPU), one for negatives (on the device)."""
    return torch.Generator().manual_seed(seed), torch.Generator(device).manual_seed(seed)
