"""Training phases: a model has one or several, each with its own loss, learning rate and end."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from edt_cli.data.dataset import Sequences
from edt_cli.distributed.group import seed_of_process
from edt_cli.models.scorers import Scorer


class Phase(ABC):
    """One training phase, as the training loop sees it.

    Attributes:
        name: Unique within the model; its weights are saved under this name.
        model: The model that is trained, validated and saved.
        own: A second optimiser, or None. It minimises `own_loss`, in a step before each step on `loss`, and its
            parameters are not among those of the loop's AdamW.
        lr: Learning rate of the loop's AdamW.
        steps_per_epoch: Batches of an epoch.
        epochs: Maximum number of epochs.
        min_steps: Steps before early stopping counts patience.
        validate_steps: Steps between two validations, rounded to whole epochs.
        generators: All random generators in use besides torch's default one; checkpoints save their states. The
            first one draws the order of epochs, the same in all processes that train together.
        dropout: Whether the model is trained in training mode.
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
        """Prepare the model for this phase, for example by freezing parameters.

        Called once the model has the best weights of the phases before, also if this phase is only loaded.
        """

    @abstractmethod
    def batches(self) -> Iterator[Any]:
        """Yield the batches of one epoch."""

    @abstractmethod
    def loss(self, batch: Any) -> dict[str, Tensor]:
        """Return the terms of the loss by name; their sum is minimised."""

    def own_loss(self, batch: Any) -> dict[str, Tensor]:
        """Return the terms by name whose sum the optimiser `own` minimises."""
        return {}

    @abstractmethod
    def parameter_groups(self, decay: float) -> list[dict[str, Any]]:
        """Return AdamW's groups: `params`, `pace` (a factor on the learning rate) and `weight_decay`."""

    @abstractmethod
    def scorer(self, inputs: Sequences, domains: np.ndarray) -> Scorer:
        """Return the scorer for validation: row i of `inputs` is queried in the domain domains[i]."""

    def notes(self) -> dict[str, float]:
        """Return further values to report at a validation."""
        return {}


def seeded(seed: int, device: torch.device) -> tuple[torch.Generator, torch.Generator]:
    """Return a generator for the order of epochs (on the CPU) and one for negatives (on `device`).

    Each of several processes that train together draws negatives of its own, in the same order of epochs.
    """
    return torch.Generator().manual_seed(seed), torch.Generator(device).manual_seed(seed_of_process(seed))
