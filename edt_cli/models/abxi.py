"""ABXI (Bian et al., WWW '25): one encoder for the mixed sequence and for each domain's own, told apart by a LoRA,
and an invariant interest, taken from the mixed sequence and adapted to the domain that is asked for.

Where this differs from the released code:
- Positions may count from the oldest item (the option `positions`). There, and in the preset, they count from the
  newest: in training a state knows how many items are still to come, and none that is ever asked does.
- Padding is not attended to. There it is (a key of zero), and in training a domain's sequence has gaps besides: it
  lies at the places of the mixed one where that domain comes next. Here it never has any, as in evaluation there.
- A user may have items of one domain only. What another domain says is then zero before its last norm, as it is
  there at positions before a domain's first item.
- Positions draw negatives out of pools, each shared by a few of them (`training.negative_pool`), which makes of
  scores products of matrices. As there, as many come from each other domain (`training.cross_domain_negatives`),
  though only items of the domain that is asked for are ranked.
- The preset trains in bfloat16, the release in float32; `training.dtype` tells.
- The release that the paper points to clears its gradients once an epoch, so that a step repeats those before it.
  The later one, behind the figures of its README, does not, and neither does this.
"""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from edt_cli.config import Section
from edt_cli.models.backbones import Attention
from edt_cli.models.batch import Batch, last_state
from edt_cli.models.domain_sequences import domain_positions, domain_sequence
from edt_cli.models.encoders import INITIAL_STD
from edt_cli.models.inputs import ModelInputs
from edt_cli.models.layers import Dropout, Linear, LoRA, SwiGLU
from edt_cli.models.positions import Objective, Positions, had
from edt_cli.models.sequential import SequentialModel
from edt_cli.models.typed import Embedding, Layer, LayerNorm, ModuleList

INNER = 680 / 256
"""The inner size of a SwiGLU for a hidden size of 1: with three matrices, nearly what 4 is with two."""


class ABXIOptions(Section):
    positions: Literal["oldest", "newest"] = Field(
        "oldest", description="the item that they count from; `newest`: as the public code has it"
    )
    domain_rank: int = Field(16, ge=1, description="of the encoder's LoRA for each sequence")
    invariant_rank: int = Field(
        64, ge=1, description="of the LoRA that the invariant projector has for each domain"
    )


class ABXI(SequentialModel):
    """Shapes: P positions of a batch, D the hidden size."""

    Options = ABXIOptions

    def __init__(self, given: ModelInputs) -> None:
        super().__init__(given)
        s, own = given.model, given.options
        assert isinstance(own, ABXIOptions)
        inner = round(s.hidden * INNER)
        self.from_newest = own.positions == "newest"
        self.positions = Embedding(s.max_length, s.hidden)
        self.drop = Dropout(s.dropout)
        self.attention = Attention(s.hidden, s.heads, dropout=0.0)
        self.norm_attention = LayerNorm(s.hidden)
        self.feedforward = SwiGLU(s.hidden, inner)
        self.mixed = Adapted(s.hidden, own.domain_rank, s.dropout)
        self.domain = ModuleList(Adapted(s.hidden, own.domain_rank, s.dropout) for _ in range(self.domains))
        self.projector = SwiGLU(s.hidden, inner)
        self.invariant = ModuleList(Adapted(s.hidden, own.invariant_rank, s.dropout) for _ in range(self.domains))
        self.specific = ModuleList(SwiGLU(s.hidden, inner) for _ in range(self.domains))
        self.norm_specific = ModuleList(LayerNorm(s.hidden) for _ in range(self.domains))
        for part in self.modules():
            if isinstance(part, Linear):
                nn.init.normal_(part.weight, std=INITIAL_STD)
                if part.bias is not None:
                    nn.init.zeros_(part.bias)
        nn.init.normal_(self.positions.weight, std=INITIAL_STD)
        nn.init.xavier_uniform_(self.attention.qkv.weight)

    def encode_positions(self, batch: Batch) -> Tensor:
        real = batch.items > 0
        states = self._states(batch, real)
        return states.new_zeros(*real.shape, states.shape[1]).masked_scatter(real.unsqueeze(-1), states)

    def encode_last(self, batch: Batch) -> Tensor:
        asked = batch.domains[:, 0]
        items, lengths, _ = domain_sequence(batch.items, self.domain_of, asked)
        mixed, own = self._attend_last(batch.items, batch.lengths), self._attend_last(items, lengths)
        return self._interests(mixed, own, lengths > 0, asked) * (batch.lengths > 0).unsqueeze(1)

    def positions_to_learn(self, batch: Batch) -> Positions:
        real = batch.targets > 0
        targets = batch.targets[real]
        states, positive = self._states(batch, real), self.encode_items(targets)
        return Positions(
            states=states,
            positive=positive,
            targets=targets,
            had=had(batch, real),
            side=self.side_context(batch, real),
        )

    def loss(self, batch: Batch, objective: Objective) -> dict[str, Tensor]:
        """For each domain: the mean over a user's targets of that domain, averaged over the users of the batch."""
        losses = objective(self.positions_to_learn(batch), self.encode_items)
        real = batch.targets > 0
        terms = {}
        for domain in range(self.domains):
            own = real & (batch.domains == domain)
            share = own / own.sum(1, keepdim=True).clamp_min(1)
            terms[f"L_{domain}"] = (losses * share[real]).sum() / len(own)
        return terms

    def _states(self, batch: Batch, at: Tensor) -> Tensor:
        """[P, D]: `encode_positions` at the true elements of `at` (bool [B, L])."""

        # Nothing is asked after the newest item of a row that has targets, nor after the newest of each domain.
        last = (batch.targets > 0).any(1).long()

        def encode(domain: int, items: Tensor, lengths: Tensor) -> Tensor:
            return self._attend(items, lengths - last)

        # Task-guided alignment: what a domain says stands where that domain's item comes next.
        own, present = domain_positions(batch, self.domain_of, self.domains, encode)
        mixed = self._attend(batch.items, batch.lengths - last)
        return self._interests(mixed[at], own[at], present[at], batch.domains[at])

    def _embed(self, items: Tensor, asked: Tensor) -> Tensor:
        """[B, L, D]; `asked` [B]: after how many of a row's items something is asked."""
        place = torch.arange(items.shape[1], device=items.device)
        if self.from_newest:
            place = (asked.unsqueeze(1) - 1 - place).clamp_min(0)
        return self.encode_items(items) + self.positions(place)

    def _attend(self, items: Tensor, asked: Tensor) -> Tensor:
        """The shared attention over any of the sequences: [B, L] -> [B, L, D]. Padding is on the right: no real
        item sees it."""
        x = self.drop(self._embed(items, asked))
        return self.norm_attention(x + self.drop(self.attention(x, causal=True)))

    def _attend_last(self, items: Tensor, lengths: Tensor) -> Tensor:
        """[B, D]: `_attend` after the last item only, without dropout."""
        x = self._embed(items, lengths)
        own = last_state(x, lengths)
        visible = torch.arange(x.shape[1], device=x.device) < lengths.clamp_min(1)[:, None]
        return self.norm_attention(own + self.attention.of_last(x, own, visible))

    def _interests(self, mixed: Tensor, own: Tensor, present: Tensor, domains: Tensor) -> Tensor:
        """What follows the attention: [P, D] of the mixed sequence, [P, D] of the domain's own where it is
        `present` (bool [P]), and the domains asked for (long [P]) -> [P, D]."""
        mixed = self.mixed(mixed, self.feedforward(mixed))
        invariant = self.projector(mixed)
        rows = [torch.nonzero(domains == domain).squeeze(1) for domain in range(self.domains)]
        parts = []
        for domain, at in enumerate(rows):
            x = own[at]
            x = self.domain[domain](x, self.feedforward(x)) * present[at].unsqueeze(1)
            x = self.norm_specific[domain](x + self.drop(self.specific[domain](x)))
            parts.append(self.invariant[domain](mixed[at], invariant[at]) + x)
        return torch.cat(parts)[torch.argsort(torch.cat(rows))]


class Adapted(Layer):
    """LN(x + drop(f(x)) + drop(LoRA(x))): a map f that is shared, and what one sequence or domain adds to it."""

    def __init__(self, hidden: int, rank: int, dropout: float) -> None:
        super().__init__()
        self.lora = LoRA(hidden, rank)
        self.norm = LayerNorm(hidden)
        self.drop = Dropout(dropout)

    def forward(self, x: Tensor, shared: Tensor) -> Tensor:
        """x and f(x): [P, D]."""
        return self.norm(x + self.drop(shared) + self.drop(self.lora(x)))
