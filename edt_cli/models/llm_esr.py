"""LLM-ESR: a semantic and a collaborative view of items, and distillation from similar users.

Liu et al., "LLM-ESR: Large Language Models Enhancement for Long-tailed Sequential Recommendation", NeurIPS 2024.

Section 3.2, dual-view modelling: `_crossed`, `_states`. Section 3.3, retrieval augmented self-distillation:
`nearest_users`, `_teachers`, `_distilled`. The model does not use domains: it treats a mixed sequence as any other.

The public code differs from the paper and from this module:
- Its cross-attention sees the whole sequence and its SASRec has no mask at all, so that a training position sees
  its label. Here a position sees only itself and earlier positions.
- Its loss is BCE (`training.loss = bce`), that of the paper is pairwise.
- It encodes a user's sequence a second time, with different dropout, for the distillation. Here the state is
  reused.
- It encodes the similar users with dropout and with a gradient that it discards. Here with neither.
"""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional as F

from edt_cli.config import Section, Settings, UsageError, UserError
from edt_cli.models.backbones import make_backbone
from edt_cli.models.batch import Batch, last_state
from edt_cli.models.encoders import IdEncoder, project_pca
from edt_cli.models.inputs import ModelInputs, mixed_only
from edt_cli.models.layers import Linear
from edt_cli.models.losses import mean, soft_contrast
from edt_cli.models.positions import Objective
from edt_cli.models.sequential import SequentialModel
from edt_cli.models.typed import Layer

CHUNK = 512
"""Number of users that are encoded, or compared with all others, at once."""


class Options(Section):
    """Options of LLM-ESR."""

    cross_attention: bool = Field(True, description="cross-attention between the views; off: `w/o CA`")
    cross_heads: int = Field(2, ge=1, description="heads of the cross-attention")
    alpha: float = Field(0.1, ge=0, description="weight of self-distillation; 0: `w/o SD`, and no profiles needed")
    similar: int = Field(10, ge=1, description="N, the number of users with the most similar profiles")
    distance: Literal["mse", "contrastive"] = Field(
        "mse", description="distance between a user's state and that of the teacher"
    )


class LLMESR(SequentialModel):
    """The model; its vectors are [collaborative, semantic], of size 2d.

    The base's `encoder` is the semantic view, eq. 2.
    """

    Options = Options

    @classmethod
    def check(cls, s: Settings, options: Section) -> None:
        mixed_only(s)
        if s.model.backbone == "bert4rec":
            raise UsageError(f"{s.model.name} needs a causal backbone: sasrec or gru4rec")

    def __init__(self, given: ModelInputs) -> None:
        super().__init__(given)
        s, options, text = given.model, given.options, given.table.text
        assert isinstance(options, Options)
        assert text is not None, "the collaborative view starts from text vectors"
        self.options = options
        self.collaborative = IdEncoder(given.table, s.hidden, project_pca(text, text.abs().sum(1) > 0, s.hidden))
        self.to_collaborative = CrossAttention(s.hidden, options.cross_heads) if options.cross_attention else None
        self.to_semantic = CrossAttention(s.hidden, options.cross_heads) if options.cross_attention else None
        self.backbone = make_backbone(s)
        similar = None
        if options.alpha > 0:
            assert given.sequences is not None
            self.histories = given.on_device
            profiles = given.needed_profiles("options.alpha = 0").to(given.table.domain_of.device)
            similar = nearest_users(profiles, self.histories.lengths > 0, options.similar)
        self.register_buffer("similar", similar, persistent=False)

    similar: Tensor | None

    @property
    def width(self) -> int:
        return 2 * self.settings.hidden

    def encode_items(self, ids: Tensor) -> Tensor:
        """Return [e^co : e^se], [..., 2d]."""
        return torch.cat([self.collaborative(ids), self.encoder(ids)], -1)

    def encode_positions(self, batch: Batch) -> Tensor:
        return self._states(self.encode_items(batch.items), batch.lengths)

    def encode_last(self, batch: Batch) -> Tensor:
        x = self._crossed(self.encode_items(batch.items))
        return torch.cat(self.backbone.encode_last(x, batch.lengths.repeat(2)).chunk(2), -1)

    def loss(self, batch: Batch, objective: Objective) -> dict[str, Tensor]:
        """Return the terms of L_rank + alpha L_SD."""
        x = self.encode_items(batch.items)
        states = self._states(x, batch.lengths)
        at = self.before_targets(batch, x, states)
        terms = {"next_item": mean(objective(at, self.encode_items))}
        if self.similar is not None:
            terms["distil"] = self.options.alpha * self._distilled(batch, last_state(states, batch.lengths))
        return terms

    def _states(self, x: Tensor, lengths: Tensor) -> Tensor:
        """Return [u^co : u^se] at each position from item vectors [B, L, 2d]; one encoder serves both views."""
        return torch.cat(self.backbone.encode(self._crossed(x), lengths.repeat(2)).chunk(2), -1)

    def _crossed(self, x: Tensor) -> Tensor:
        """Eq. 3: attend to each view with the queries of the other, [B, L, 2d] -> [2B, L, d].

        The rows of the collaborative view come first.
        """
        embedded = self.backbone.embed(torch.cat(x.chunk(2, -1)))
        if self.to_collaborative is None or self.to_semantic is None:
            return embedded
        collaborative, semantic = embedded.chunk(2)
        return torch.cat(
            [self.to_collaborative(semantic, collaborative), self.to_semantic(collaborative, semantic)]
        )

    def _distilled(self, batch: Batch, last: Tensor) -> Tensor:
        """L_SD: the mean distance of users' states `last` [B, 2d] from the mean states of similar users."""
        assert self.similar is not None
        similar = self.similar[batch.rows]
        taught = (similar >= 0).any(1)
        teachers = self._teachers(similar[taught])
        if self.options.distance == "contrastive":
            return soft_contrast(last[taught], teachers, 1.0)
        return mean((last[taught] - teachers).square().mean(1))

    @torch.no_grad()
    def _teachers(self, similar: Tensor) -> Tensor:
        """Return the mean state of each row's users (-1: none) after their last item, long [P, N] -> [P, 2d]."""
        users, inverse = torch.unique(similar.clamp_min(0), return_inverse=True)
        states = torch.zeros(len(users), self.width, device=users.device)
        training = self.training
        self.eval()
        for rows in torch.argsort(self.histories.lengths[users]).split(CHUNK) if len(users) else ():
            states[rows] = self.encode_last(self.histories.batch(users[rows])).float()
        self.train(training)
        real = (similar >= 0).unsqueeze(-1)
        return (states[inverse] * real).sum(1) / real.sum(1)


class CrossAttention(Layer):
    """Eq. 3: causal attention with queries from one view, keys and values from the other.

    Their projections have no bias.
    """

    def __init__(self, hidden: int, heads: int) -> None:
        super().__init__()
        if hidden % heads:
            raise UserError(f"model.hidden ({hidden}) must be a multiple of options.cross_heads ({heads})")
        self.heads = heads
        self.query = Linear(hidden, hidden, bias=False)
        self.key_value = Linear(hidden, 2 * hidden, bias=False)
        self.out = Linear(hidden, hidden)

    def forward(self, queries: Tensor, over: Tensor) -> Tensor:
        """Attend from `queries` to `over`, [B, L, d] each -> [B, L, d]."""
        q = self.query(queries).unflatten(-1, (self.heads, -1)).transpose(1, 2)
        k, v = self.key_value(over).unflatten(-1, (2, self.heads, -1)).permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        return self.out(mixed.transpose(1, 2).flatten(2))


def nearest_users(profiles: Tensor, among: Tensor, count: int) -> Tensor:
    """Find the users whose profiles have the largest cosine to each user's profile (section 3.3).

    A user without a profile (a zero row) has no neighbours and is nobody's neighbour. Users are processed in
    chunks, so that the U x U cosines are never held at once.

    Args:
        profiles: [U, d_L].
        among: Bool [U], the users that may be neighbours.
        count: N, the number of neighbours.

    Returns:
        Long [U, N], -1 where there are fewer.
    """
    unit = F.normalize(profiles, dim=1)
    known = profiles.abs().sum(1) > 0
    excluded = ~(known & among)
    neighbours = torch.full((len(unit), count), -1, device=unit.device)
    kept = min(count, len(unit))
    for rows in torch.arange(len(unit), device=unit.device).split(CHUNK):
        cosines = (unit[rows] @ unit.T).masked_fill(excluded, float("-inf"))
        cosines[torch.arange(len(rows), device=unit.device), rows] = float("-inf")
        best = cosines.topk(kept)
        nobody = best.values.isinf() | ~known[rows, None]
        neighbours[rows, :kept] = torch.where(nobody, -1, best.indices)
    return neighbours
