"""Training positions, and the objective that computes their losses."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from edt_cli.models.batch import Batch
from edt_cli.models.side_score import SideContext


@dataclass(frozen=True)
class Positions:
    """P training positions.

    Attributes:
        states: [P, D].
        positive: [P, D], the vector of each target.
        targets: Long [P], the target items.
        seen: Long [P, L], the items in the position's row of the batch (0 is padding), or None if unknown. The
            objective does not draw them as negatives.
        side: The context of the model's side score, if it has one.
    """

    states: Tensor
    positive: Tensor
    targets: Tensor
    seen: Tensor | None = None
    side: SideContext | None = None

    def among(self, rows: Tensor, states: Tensor) -> Positions:
        """Return the positions at `rows` (an index into the P), with `states` in place of their own."""
        seen = None if self.seen is None else self.seen[rows]
        side = None if self.side is None else self.side[rows]
        return Positions(
            states=states, positive=self.positive[rows], targets=self.targets[rows], seen=seen, side=side
        )


class Objective(Protocol):
    """The next-item loss of P positions."""

    def __call__(self, at: Positions, encode_items: Callable[[Tensor], Tensor]) -> Tensor:
        """Return the losses [P]; `encode_items` maps item ids [...] to vectors [..., D]."""
        ...


def seen_items(batch: Batch, mask: Tensor) -> Tensor:
    """Return the items of the row of each of the P true elements of `mask` (bool [B, L]): long [P, L]."""
    return batch.items[torch.nonzero(mask)[:, 0]]
