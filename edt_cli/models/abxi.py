"""ABXI (Bian et al., WWW '25): a shared encoder and a domain-invariant interest.

The encoder serves the mixed and the domain sequences, with a LoRA for each. The invariant interest is computed
from the mixed sequence and adapted to the domain to predict.

Differences from the released code:
- Positions can count from the oldest item (option `positions`). In the release, and in the preset, they count from
  the newest item: a training state then knows how many items are still to come, while at evaluation none come.
- Padding is not attended to. In the release it is (as a zero key), and in training a domain sequence also has gaps,
  as its items keep the positions of the mixed sequence at which that domain comes next. Here there are never gaps,
  as in the evaluation of the release.
- A user may have items of a single domain. The state of another domain is then zero before its last norm, as in the
  release at positions before a domain's first item.
- Negatives are drawn from pools, each shared by a few positions (`training.negative_pool`), so that scores are
  matrix products. As in the release, the same number comes from every other domain
  (`training.cross_domain_negatives`), although only items of the queried domain are ranked.
- The preset trains in bfloat16 (`training.dtype`), the release in float32.
- The release that the paper links to clears its gradients once per epoch, so that each step repeats the earlier
  ones. The later release, which the figures of its README come from, does not, and neither does this code.
"""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from edt_cli.config import Section
from edt_cli.distributed.losses import over_all
from edt_cli.models.backbones import Attention
from edt_cli.models.batch import Batch, last_state
from edt_cli.models.domain_sequences import domain_positions, domain_sequence
from edt_cli.models.encoders import INITIAL_STD
from edt_cli.models.inputs import ModelInputs
from edt_cli.models.layers import Dropout, Linear, LoRA, SwiGLU
from edt_cli.models.positions import Objective, Positions, seen_items
from edt_cli.models.sequential import SequentialModel
from edt_cli.models.typed import Embedding, Layer, LayerNorm, ModuleList

INNER = 680 / 256
"""Inner size of a SwiGLU relative to the hidden size.

Its three matrices are then about as large as the two of a feed-forward layer with factor 4.
"""


class ABXIOptions(Section):
    """Options of ABXI."""

    positions: Literal["oldest", "newest"] = Field(
        "oldest", description="the item that positions count from; `newest`: as in the public code"
    )
    domain_rank: int = Field(16, ge=1, description="rank of the encoder's LoRA for each sequence")
    invariant_rank: int = Field(64, ge=1, description="rank of the invariant projector's LoRA for each domain")


class ABXI(SequentialModel):
    """The model; P is the number of positions of a batch, D the hidden size."""

    Options = ABXIOptions

    def __init__(self, given: ModelInputs) -> None:
        super().__init__(given)
        s, options = given.model, given.options
        assert isinstance(options, ABXIOptions)
        inner = round(s.hidden * INNER)
        self.from_newest = options.positions == "newest"
        self.positions = Embedding(s.max_length, s.hidden)
        self.drop = Dropout(s.dropout)
        self.attention = Attention(s.hidden, s.heads, dropout=0.0)
        self.norm_attention = LayerNorm(s.hidden)
        self.feedforward = SwiGLU(s.hidden, inner)
        self.mixed = Adapted(s.hidden, options.domain_rank, s.dropout)
        self.domain = ModuleList(Adapted(s.hidden, options.domain_rank, s.dropout) for _ in range(self.domains))
        self.projector = SwiGLU(s.hidden, inner)
        self.invariant = ModuleList(
            Adapted(s.hidden, options.invariant_rank, s.dropout) for _ in range(self.domains)
        )
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
        domains = batch.domains[:, 0]
        items, lengths, _ = domain_sequence(batch.items, self.domain_of, domains)
        mixed, of_domain = self._attend_last(batch.items, batch.lengths), self._attend_last(items, lengths)
        return self._interests(mixed, of_domain, lengths > 0, domains) * (batch.lengths > 0).unsqueeze(1)

    def positions_to_learn(self, batch: Batch) -> Positions:
        real = batch.targets > 0
        targets = batch.targets[real]
        states, positive = self._states(batch, real), self.encode_items(targets)
        return Positions(
            states=states,
            positive=positive,
            targets=targets,
            seen=seen_items(batch, real),
            side=self.side_context(batch, real),
        )

    def loss(self, batch: Batch, objective: Objective) -> dict[str, Tensor]:
        """Return a loss for each domain, averaged over a user's targets there, then over users."""
        losses = objective(self.positions_to_learn(batch), self.encode_items)
        real = batch.targets > 0
        terms = {}
        for domain in range(self.domains):
            mask = real & (batch.domains == domain)
            share = mask / mask.sum(1, keepdim=True).clamp_min(1)
            terms[f"L_{domain}"] = over_all((losses * share[real]).sum(), len(mask))
        return terms

    def _states(self, batch: Batch, at: Tensor) -> Tensor:
        """Return `encode_positions` at the P true elements of `at` (bool [B, L]), [P, D]."""
        # In a row with targets, nothing is predicted after its newest item, nor after the newest of each domain.
        last = (batch.targets > 0).any(1).long()

        def encode(domain: int, items: Tensor, lengths: Tensor) -> Tensor:
            return self._attend(items, lengths - last)

        # Task-guided alignment: the state of a domain is used where an item of that domain comes next.
        of_domain, present = domain_positions(batch, self.domain_of, self.domains, encode)
        mixed = self._attend(batch.items, batch.lengths - last)
        return self._interests(mixed[at], of_domain[at], present[at], batch.domains[at])

    def _embed(self, items: Tensor, lengths: Tensor) -> Tensor:
        """Return the sum of item and position vectors, [B, L, D].

        `lengths` [B] is the number of items of each row after which something is predicted.
        """
        position = torch.arange(items.shape[1], device=items.device)
        if self.from_newest:
            position = (lengths.unsqueeze(1) - 1 - position).clamp_min(0)
        return self.encode_items(items) + self.positions(position)

    def _attend(self, items: Tensor, lengths: Tensor) -> Tensor:
        """Apply the shared attention to mixed or domain sequences, [B, L] -> [B, L, D].

        Padding is on the right, so no real item sees it. `lengths`: as in `_embed`.
        """
        x = self.drop(self._embed(items, lengths))
        return self.norm_attention(x + self.drop(self.attention(x, causal=True)))

    def _attend_last(self, items: Tensor, lengths: Tensor) -> Tensor:
        """Return `_attend` after the last item only, [B, D], without dropout."""
        x = self._embed(items, lengths)
        last = last_state(x, lengths)
        visible = torch.arange(x.shape[1], device=x.device) < lengths.clamp_min(1)[:, None]
        return self.norm_attention(last + self.attention.of_last(x, last, visible))

    def _interests(self, mixed: Tensor, of_domain: Tensor, present: Tensor, domains: Tensor) -> Tensor:
        """Combine the attention's outputs into states [P, D].

        Args:
            mixed: [P, D], from the mixed sequence.
            of_domain: [P, D], from the sequence of the queried domain.
            present: Bool [P], whether that sequence has items.
            domains: Long [P], the queried domains.
        """
        mixed = self.mixed(mixed, self.feedforward(mixed))
        invariant = self.projector(mixed)
        rows = [torch.nonzero(domains == domain).squeeze(1) for domain in range(self.domains)]
        parts = []
        for domain, at in enumerate(rows):
            x = of_domain[at]
            x = self.domain[domain](x, self.feedforward(x)) * present[at].unsqueeze(1)
            x = self.norm_specific[domain](x + self.drop(self.specific[domain](x)))
            parts.append(self.invariant[domain](mixed[at], invariant[at]) + x)
        return torch.cat(parts)[torch.argsort(torch.cat(rows))]


class Adapted(Layer):
    """LN(x + drop(f(x)) + drop(LoRA(x))), with a shared map f.

    The LoRA belongs to one kind of sequence or to one domain.
    """

    def __init__(self, hidden: int, rank: int, dropout: float) -> None:
        super().__init__()
        self.lora = LoRA(hidden, rank)
        self.norm = LayerNorm(hidden)
        self.drop = Dropout(dropout)

    def forward(self, x: Tensor, shared: Tensor) -> Tensor:
        """Apply the layer to x and f(x), [P, D] each."""
        return self.norm(x + self.drop(shared) + self.drop(self.lora(x)))
