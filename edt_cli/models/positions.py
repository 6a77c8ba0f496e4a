"""Positions to learn from, and the objective that makes losses of them."""

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
    """P positions to learn from. states: [P, D]; positive: [P, D], the vector of each target; targets: long [P].

    had: long [P, L], what stands in the position's row of the batch, None where that is not at hand; side: of the
    model's side score, if it has one.
    """

    states: Tensor
    positive: Tensor
    targets: Tensor
    had: Tensor | None = None
    side: SideContext | None = None

    def among(self, rows: Tensor, states: Tensor) -> Positions:
        """Those at `rows` (an index of the P), with other states for them."""
        had = None if self.had is None else self.had[rows]
        side = None if self.side is None else self.side[rows]
        return Positions(
            states=states, positive=self.positive[rows], targets=self.targets[rows], had=had, side=side
        )


class Objective(Protocol):
    """The next-item loss: P positions -> losses [P]."""

    def __call__(self, at: Positions, encode_items: Callable[[Tensor], Tensor]) -> Tensor: ...


def had(batch: Batch, positions: Tensor) -> Tensor:
    """long [P, L]: the items of the row of each true element of `positions` (bool [B, L])."""
    return batch.items[torch.nonzero(positions)[:, 0]]
