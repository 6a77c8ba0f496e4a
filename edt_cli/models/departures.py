"""Parts of the authors' released code that depart from the paper: options of LLM-EDT, off by default."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from edt_cli.models.backbones import SASRec
from edt_cli.models.encoders import Adapter


class UnmaskedSASRec(SASRec):
    """SASRec without the causal mask: every position attends to the whole sequence.

    In training a position thus sees the item after it, which is its target. At ranking the sequence is the history,
    so the last state sees nothing that it should not. Unlike the released code it does not attend to padding,
    which would make a state depend on the other rows of its batch.
    """

    def encode(self, x: Tensor, lengths: Tensor) -> Tensor:
        visible = self._visible(x, lengths)
        for block in self.blocks:
            x = block(x, visible)
        return self.norm(x)

    def encode_last(self, x: Tensor, lengths: Tensor) -> Tensor:
        if self.training:
            return super().encode_last(x, lengths)
        visible = self._visible(x, lengths)
        for block in self.blocks[:-1]:
            x = block(x, visible)
        return self.norm(self.blocks[-1].last(x, lengths)) * (lengths > 0).unsqueeze(1)

    @staticmethod
    def _visible(x: Tensor, lengths: Tensor) -> Tensor:
        """Return the positions that hold an item, bool [B, 1, 1, L]; the first one in a row without items."""
        steps = torch.arange(x.shape[1], device=x.device)
        return (steps < lengths.clamp_min(1)[:, None])[:, None, None, :]


class ResidualAdapter(Adapter):
    """e + W relu(W' e + b') + b, in place of eq. 10."""

    def forward(self, e: Tensor) -> Tensor:
        return e + self.outer(F.relu(self.inner(e)))
