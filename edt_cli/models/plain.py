"""The systems that consist of a backbone alone: SASRec, GRU4Rec, BERT4Rec."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor
from torch.nn import functional as F

from edt_cli.models.backbones import BERT4Rec, make_backbone
from edt_cli.models.batch import Batch, last_state
from edt_cli.models.encoders import IdEncoder
from edt_cli.models.inputs import ModelInputs
from edt_cli.models.positions import Positions, seen_items
from edt_cli.models.sequential import SequentialModel

ONLY_LAST = 1 / 11
"""Share of BERT4Rec's training rows in which only the last item is masked."""


class PlainModel(SequentialModel):
    """A backbone over item vectors, scored by the inner product alone: SASRec."""

    def __init__(self, given: ModelInputs) -> None:
        super().__init__(given)
        self.backbone = make_backbone(given.model)

    def encode_positions(self, batch: Batch) -> Tensor:
        return self.backbone(self.embed(batch), batch.lengths)

    def encode_last(self, batch: Batch) -> Tensor:
        return self.backbone.last(self.embed(batch), batch.lengths)

    def embed(self, batch: Batch) -> Tensor:
        """Return the input of the backbone, [B, L, D]."""
        return self.encoder(batch.items)

    def training_positions(self, batch: Batch) -> tuple[Positions, Tensor]:
        x = self.embed(batch)
        if isinstance(self.backbone, BERT4Rec):
            return self.positions_to_learn(batch), self.backbone.last(x, batch.lengths)
        states = self.backbone(x, batch.lengths)
        return self.before_targets(batch, x, states), last_state(states, batch.lengths)

    def positions_to_learn(self, batch: Batch) -> Positions:
        """Return every position with a next item, or the masked positions if the backbone is BERT4Rec."""
        if not isinstance(self.backbone, BERT4Rec):
            return super().positions_to_learn(batch)
        x, masked = self.embed(batch), self._mask(batch)
        states = self.backbone.restore(x, batch.lengths, masked)
        return Positions(
            states=states[masked], positive=x[masked], targets=batch.items[masked], seen=seen_items(batch, masked)
        )

    def _mask(self, batch: Batch) -> Tensor:
        """Draw the items to mask: a share of each row, at least the last one.

        In one row of eleven only the last item is masked, as at evaluation (BERT4Rec, section 3.6; the share is
        that of its code).
        """
        shape, device = batch.items.shape, batch.items.device
        real = batch.items > 0 if batch.inserted is None else (batch.items > 0) & ~batch.inserted
        masked = (torch.rand(shape, device=device) < self.settings.mask_share) & real
        last = torch.arange(shape[1], device=device) == batch.lengths[:, None] - 1
        only_last = (torch.rand(len(last), 1, device=device) < ONLY_LAST) | ~masked.any(1, keepdim=True)
        return torch.where(only_last, last, masked)


class BiasedModel(PlainModel):
    """A model with a bias for each item, like the output layers of GRU4Rec and BERT4Rec."""

    def __init__(self, given: ModelInputs) -> None:
        super().__init__(given)
        self.bias = IdEncoder(given.table, 1)

    @property
    def width(self) -> int:
        return self.settings.hidden + 1

    def encode_items(self, ids: Tensor) -> Tensor:
        return torch.cat([self.encoder(ids), self.bias(ids)], -1)

    def encode_positions(self, batch: Batch) -> Tensor:
        return F.pad(super().encode_positions(batch), (0, 1), value=1.0)

    def encode_last(self, batch: Batch) -> Tensor:
        return torch.cat([super().encode_last(batch), (batch.lengths > 0).unsqueeze(1)], -1)

    def positions_to_learn(self, batch: Batch) -> Positions:
        at = super().positions_to_learn(batch)
        positive = torch.cat([at.positive, self.bias(at.targets)], -1)
        return replace(at, states=F.pad(at.states, (0, 1), value=1.0), positive=positive)
