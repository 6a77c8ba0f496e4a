"""The model contract, and the plain systems that need no more than it: SASRec, GRU4Rec, BERT4Rec."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import torch
from torch import Tensor, nn

from edt_cli.config import ModelSettings
from edt_cli.models.backbones import BERT4Rec, make_backbone
from edt_cli.models.batch import Batch, ItemTable, last_state
from edt_cli.models.encoders import make_encoder
from edt_cli.models.losses import mean


class Objective(Protocol):
    """The next-item loss: states and positives [P, D], targets long [P] -> losses [P]."""

    def __call__(
        self, states: Tensor, positive: Tensor, targets: Tensor, encode_items: Callable[[Tensor], Tensor]
    ) -> Tensor: ...


class SequentialModel(nn.Module):
    """`encode_positions` and `encode_items` give vectors whose inner product is the score."""

    def __init__(self, table: ItemTable, s: ModelSettings) -> None:
        super().__init__()
        self.settings = s
        self.encoder = make_encoder(s.encoder, table, s.hidden)
        self.backbone = make_backbone(s)

    def encode_items(self, ids: Tensor) -> Tensor:
        """long [...] -> [..., D]."""
        return self.encoder(ids)

    def encode_positions(self, batch: Batch) -> Tensor:
        """[B, L, D]: the state that scores the next item at each position, in the domain `batch.domains`.

        Output j depends on items up to j and on that one domain, nothing else.
        """
        return self.backbone(self.encode_items(batch.items), batch.lengths)

    def encode_last(self, batch: Batch) -> Tensor:
        """[B, D]: `encode_positions` at each row's last item, zero for a row without items."""
        return self.backbone.last(self.encode_items(batch.items), batch.lengths)

    def training_positions(self, batch: Batch) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """States, positives [P, D] and targets [P] to learn from, and the state after the last item [B, D].

        With a causal backbone that is every position that has a next item; with BERT4Rec the masked ones.
        """
        x = self.encode_items(batch.items)
        if isinstance(self.backbone, BERT4Rec):
            masked = self._mask(batch)
            states = self.backbone.restore(x, batch.lengths, masked)
            return states[masked], x[masked], batch.items[masked], self.backbone.last(x, batch.lengths)
        states = self.backbone(x, batch.lengths)
        real = batch.targets[:, :-1] > 0
        return (
            states[:, :-1][real],
            x[:, 1:][real],
            batch.targets[:, :-1][real],
            last_state(states, batch.lengths),
        )

    def loss(self, batch: Batch, objective: Objective) -> dict[str, Tensor]:
        """Named terms, weighted already; their sum is minimised."""
        states, positive, targets, _ = self.training_positions(batch)
        return {"next_item": mean(objective(states, positive, targets, self.encode_items))}

    def _mask(self, batch: Batch) -> Tensor:
        """A share of each row's items, and the last one of rows where chance took none."""
        real = batch.items > 0
        masked = (torch.rand(batch.items.shape, device=batch.items.device) < self.settings.mask_share) & real
        steps = torch.arange(batch.items.shape[1], device=batch.items.device)
        none = ~masked.any(1, keepdim=True)
        return masked | (none & (steps == batch.lengths[:, None] - 1))
