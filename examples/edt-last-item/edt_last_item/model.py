"""A system with two phases.

A state is the mean of the history's item vectors, each `decay` times as heavy as the one after it; in a second
phase each domain learns how it sees that mean.
"""

import torch
from pydantic import Field
from torch import Tensor

from edt_cli import Batch, Linear, ModelInputs, NextItemPhase, Phase, Section, SequentialModel


class LastItemOptions(Section):
    decay: float = Field(0.5, ge=0, le=1, description="weight of an item beside the one after it")


class LastItem(SequentialModel):
    Options = LastItemOptions

    def __init__(self, given: ModelInputs) -> None:
        super().__init__(given)
        assert isinstance(given.options, LastItemOptions)
        self.decay = given.options.decay
        self.toward = torch.nn.ModuleList(
            Linear(given.model.hidden, given.model.hidden) for _ in range(self.domains)
        )
        self.toward.requires_grad_(False)
        for domain in self.toward:
            torch.nn.init.eye_(domain.weight)
            torch.nn.init.zeros_(domain.bias)

    def phases(self, given: ModelInputs) -> list[Phase]:
        """Item vectors first; then what is made of them, with the vectors as they are."""
        return [NextItemPhase(self, given), NextItemPhase(self, given, "domains", enter=self.freeze_items)]

    def freeze_items(self) -> None:
        self.encoder.requires_grad_(False)
        self.toward.requires_grad_(True)

    def encode_positions(self, batch: Batch) -> Tensor:
        """[B, L, D]: of the items up to each position, seen from the domain that is asked for."""
        steps = torch.arange(batch.items.shape[1], device=batch.items.device)
        age = (steps[:, None] - steps).float()
        weight = torch.where(age >= 0, self.decay ** age.clamp_min(0), 0.0) * (batch.items > 0)[:, None]
        states = weight @ self.encode_items(batch.items) / weight.sum(-1, keepdim=True).clamp_min(1e-9)
        found = torch.zeros_like(states)
        for domain, toward in enumerate(self.toward):
            found = torch.where((batch.domains == domain)[..., None], toward(states), found)
        return found
