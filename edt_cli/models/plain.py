"""The systems that are a backbone and nothing else: SASRec, GRU4Rec, BERT4Rec."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor
from torch.nn import functional as F

from edt_cli.models.backbones import BERT4Rec, make_backbone
from edt_cli.models.batch import Batch, last_state
from edt_cli.models.encoders import IdEncoder
from edt_cli.models.inputs import ModelInputs
from edt_cli.models.positions import Positions, had
from edt_cli.models.sequential import SequentialModel

ONLY_LAST = 1 / 11
"""Of the rows that BERT4Rec trains on: their last item alone is masked."""


class PlainModel(SequentialModel):
    """A backbone over the items as they come: SASRec, whose score is the inner product and nothing else."""

    def __init__(self, given: ModelInputs) -> None:
        super().__init__(given)
        self.backbone = make_backbone(given.model)

    def encode_positions(self, batch: Batch) -> Tensor:
        return self.backbone(self.embed(batch), batch.lengths)

    def encode_last(self, batch: Batch) -> Tensor:
        return self.backbone.last(self.embed(batch), batch.lengths)

    def embed(self, batch: Batch) -> Tensor:
        """[B, L, D]: what the backbone sees of a batch's items."""
        return self.encoder(batch.items)

    def training_positions(self, batch: Batch) -> tuple[Positions, Tensor]:
        x = self.embed(batch)
        if isinstance(self.backbone, BERT4Rec):
            return self.positions_to_learn(batch), self.backbone.last(x, batch.lengths)
        states = self.backbone(x, batch.lengths)
        return self.before_targets(batch, x, states), last_state(states, batch.lengths)

    def positions_to_learn(self, batch: Batch) -> Positions:
        """With a causal backbone every position that has a next item; with BERT4Rec the masked ones."""
        if not isinstance(self.backbone, BERT4Rec):
            return super().positions_to_learn(batch)
        x, masked = self.embed(batch), self._mask(batch)
        states = self.backbone.restore(x, batch.lengths, masked)
        return Positions(
            states=states[masked], positive=x[masked], targets=batch.items[masked], had=had(batch, masked)
        )

    def _mask(self, batch: Batch) -> Tensor:
        """A share of each row's items, and the last one of rows where chance took none. One row in eleven has its
        last item masked and no other, as it is asked for (BERT4Rec, section 3.6; the share is of its code)."""
        shape, device = batch.items.shape, batch.items.device
        real = batch.items > 0 if batch.inserted is None else (batch.items > 0) & ~batch.inserted
        masked = (torch.rand(shape, device=device) < self.settings.mask_share) & real
        last = torch.arange(shape[1], device=device) == batch.lengths[:, None] - 1
        only_last = (torch.rand(len(last), 1, device=device) < ONLY_LAST) | ~masked.any(1, keepdim=True)
        return torch.where(only_last, last, masked)


class BiasedModel(PlainModel):
    """A score has a bias for each item, as the output layers of GRU4Rec and BERT4Rec have."""

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
