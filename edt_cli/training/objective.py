"""Negatives, and the next-item loss over them (eq. 9 and 12, or the losses that the field uses beside BPR)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from edt_cli.config import TrainingSettings
from edt_cli.models.batch import ItemTable
from edt_cli.models.losses import bce, bpr, sampled_softmax


@dataclass(frozen=True)
class Negatives:
    """Uniform draws from the positive's domain of the catalogue, on the device; pseudo-items are never drawn."""

    starts: Tensor
    domain_of: Tensor
    generator: torch.Generator

    @classmethod
    def over(cls, table: ItemTable, generator: torch.Generator) -> Negatives:
        device = table.domain_of.device
        return cls(torch.from_numpy(table.domains.starts).to(device), table.domain_of, generator)

    def each(self, targets: Tensor, count: int) -> Tensor:
        """[P] -> long [P, count], none the positive itself unless its domain has no other item."""
        domains = self.domain_of[targets]
        first, size = self.starts[domains], self.starts[domains + 1] - self.starts[domains]
        in_catalogue = targets < self.starts[-1]
        others = torch.where(in_catalogue, size - 1, size).clamp_min(1)
        chance = torch.rand(len(targets), count, device=targets.device, generator=self.generator)
        step = torch.minimum((chance * others[:, None]).long(), others[:, None] - 1)
        start = torch.where(in_catalogue, targets - first + 1, 0)
        return first[:, None] + (start[:, None] + step) % size[:, None]

    def shared(self, domain: int, count: int) -> Tensor:
        """long [count] items of one domain, with replacement."""
        low, high = int(self.starts[domain]), int(self.starts[domain + 1])
        return torch.randint(low, high, (count,), device=self.starts.device, generator=self.generator)


@dataclass(frozen=True)
class NextItem:
    """The objective that `SequentialModel.loss` is handed."""

    settings: TrainingSettings
    negatives: Negatives

    def __call__(
        self, states: Tensor, positive: Tensor, targets: Tensor, encode_items: Callable[[Tensor], Tensor]
    ) -> Tensor:
        """States and positives [P, D], targets long [P] -> losses [P]."""
        s = self.settings
        if s.loss != "ce":
            negative = encode_items(self.negatives.each(targets, s.negatives))
            return (bpr if s.loss == "bpr" else bce)(states, positive, negative)
        losses = states.new_zeros(len(states))
        domains = self.negatives.domain_of[targets]
        for domain in range(len(self.negatives.starts) - 1):
            rows = torch.nonzero(domains == domain).squeeze(1)
            if not len(rows) or self.negatives.starts[domain] == self.negatives.starts[domain + 1]:
                continue
            drawn = self.negatives.shared(domain, s.negatives)
            hits = targets[rows, None] == drawn
            loss = sampled_softmax(states[rows], positive[rows], encode_items(drawn), hits, s.loss_temperature)
            losses = losses.index_put((rows,), loss.to(losses.dtype))
        return losses
