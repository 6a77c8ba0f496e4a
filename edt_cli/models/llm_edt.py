"""LLM-EDT (SIGIR '26): a global thread, aligned with LLM profiles, and domain-specific threads upon it.

Section 3.3.1 is `SequentialModel` over augmented sequences, 3.4.3 the alignment term, 3.3.2 `DomainThreads`.
The augmenter (3.2) and the profiles (3.4.1, 3.4.2) are made before training, in their own packages.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from edt_cli.config import ModelSettings
from edt_cli.models.backbones import make_backbone
from edt_cli.models.batch import Batch, ItemTable, last_state
from edt_cli.models.encoders import Adapter, conditioned
from edt_cli.models.losses import alignment, mean
from edt_cli.models.memory import Memory
from edt_cli.models.sequential import Objective, Positions, SequentialModel


class LLMEDT(SequentialModel):
    """`profiles`: float32 [U, d_L], zero rows for users without one, or None (`w/o Profiling`)."""

    def __init__(
        self,
        table: ItemTable,
        s: ModelSettings,
        memory: Memory | None = None,
        *,
        profiles: Tensor | None = None,
        alpha: float = 0.7,
        align_temperature: float = 1.0,
    ) -> None:
        super().__init__(table, s, memory)
        self.alpha = alpha
        self.align_temperature = align_temperature
        self.register_buffer("domain_of", table.domain_of, persistent=False)
        if profiles is not None:
            known = profiles.abs().sum(1) > 0
            profiles = conditioned(profiles, known)
            self.profile_adapter = Adapter(profiles.shape[1], profiles.shape[1] // 2, s.hidden)
        self.register_buffer("profiles", profiles, persistent=False)
        self.threads = DomainThreads(len(table.domains), s)
        self.domain_backbone = make_backbone(s) if s.threads == "joint" else None
        self.fine_tuned = False

    domain_of: Tensor
    profiles: Tensor | None

    def loss(self, batch: Batch, objective: Objective) -> dict[str, Tensor]:
        """Eq. 14: L_pre + alpha L_align, over the users of the batch that have a profile."""
        at, last = self.training_positions(batch)
        terms = {"next_item": mean(objective(at, self.encode_items, self.memory))}
        if self.profiles is not None:
            profiles = self.profiles[batch.rows]
            known = (profiles.abs().sum(1) > 0) & (batch.lengths > 0)
            aligned = alignment(last[known], self.profile_adapter(profiles[known]), self.align_temperature)
            terms["align"] = self.alpha * aligned
        return terms

    def training_positions(self, batch: Batch) -> tuple[Positions, Tensor]:
        """With joint threads the next item is learned from u + h^d, and L_align still speaks of u."""
        if self.domain_backbone is None:
            return super().training_positions(batch)
        x = self.encode_items(batch.items)
        states = self.backbone(x, batch.lengths)
        at = self.before_targets(batch, x, states + self.domain_positions(batch)[0])
        return at, last_state(states, batch.lengths)

    def encode_positions(self, batch: Batch) -> Tensor:
        """Eq. 11: u + u^d, d the domain asked for at each position."""
        states = self.backbone(self.encode_items(batch.items), batch.lengths)
        if self.domain_backbone is not None:
            return states + self.domain_positions(batch)[0]
        if not self.fine_tuned:
            return states
        domain_states, present = self.domain_positions(batch)
        return states + self.threads(domain_states, present, batch.domains)

    def encode_last(self, batch: Batch) -> Tensor:
        if self.domain_backbone is None and not self.fine_tuned:
            return super().encode_last(batch)
        states, domain_states, present, asked = self.last_parts(batch)
        own = domain_states if self.domain_backbone is not None else self.threads(domain_states, present, asked)
        return states + own

    def last_parts(self, batch: Batch) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """What eq. 11 adds up, at each row's last item: u and h^d [B, D], whether h^d exists, and d [B]."""
        states = self.backbone.last(self.encode_items(batch.items), batch.lengths)
        asked = batch.domains[:, 0]
        items, lengths, _ = domain_sequence(batch.items, self.domain_of, asked)
        own = self.domain_backbone or self.backbone
        return states, own.last(self.encode_items(items), lengths), lengths > 0, asked

    def domain_positions(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Eq. 10: h^d after the last item of domain d at or before each position, d the domain asked for there.

        Returns [B, L, D], zero where no such item exists yet, and bool [B, L], False there.
        """
        backbone = self.domain_backbone or self.backbone
        out = torch.zeros(*batch.items.shape, self.settings.hidden, device=batch.items.device)
        present = torch.zeros_like(batch.items, dtype=torch.bool)
        for domain in range(len(self.threads.adapters)):
            wanted = batch.domains == domain
            asked = torch.full_like(batch.rows, domain)
            items, lengths, place = domain_sequence(batch.items, self.domain_of, asked)
            states = backbone(self.encode_items(items), lengths)
            at = place.clamp_min(0).unsqueeze(-1).expand(*place.shape, states.shape[-1])
            wanted &= place >= 0
            out = torch.where(wanted.unsqueeze(-1), states.gather(1, at).to(out.dtype), out)
            present |= wanted
        return out, present

    def global_and_last(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """u at each position [B, L, D] and after each row's last item [B, D]."""
        states = self.backbone(self.encode_items(batch.items), batch.lengths)
        return states, last_state(states, batch.lengths)

    def freeze_global(self) -> None:
        """Section 3.3.2: what pre-training learned stays, and without dropout; only the threads learn on."""
        self.requires_grad_(False)
        self.threads.requires_grad_(True)
        self.eval()


class DomainThreads(nn.Module):
    """Eq. 10: u^d = W (W' h^d + b') + b for each domain. The outer layer starts at zero, so that fine-tuning
    starts from the pre-trained model."""

    def __init__(self, domains: int, s: ModelSettings) -> None:
        super().__init__()
        self.adapters = nn.ModuleList(Adapter(s.hidden, s.adapter, s.hidden) for _ in range(domains))
        for adapter in self.adapters:
            nn.init.zeros_(adapter.outer.weight)  # type: ignore[union-attr, arg-type]
            nn.init.zeros_(adapter.outer.bias)  # type: ignore[union-attr, arg-type]

    def forward(self, domain_states: Tensor, present: Tensor, domains: Tensor) -> Tensor:
        """[..., D], bool [...] and long [...] -> u^d [..., D]; zero without an item of the domain."""
        out = torch.zeros_like(domain_states)
        for domain, adapter in enumerate(self.adapters):
            rows = (domains == domain) & present
            out[rows] = adapter(domain_states[rows])
        return out


def domain_sequence(items: Tensor, domain_of: Tensor, asked: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Eq. 2: the items of one domain in their order, for each row.

    items: long [B, L]; asked: long [B]. Returns items [B, L'], lengths [B], and for each mixed position the place
    in the new sequence of the last such item at or before it ([B, L], -1: none yet).
    """
    own = (domain_of[items] == asked[:, None]) & (items > 0)
    lengths = own.sum(1)
    first = torch.argsort((~own).to(torch.int8), dim=1, stable=True)[:, : max(1, int(lengths.max()))]
    chosen = items.gather(1, first)
    steps = torch.arange(chosen.shape[1], device=items.device)
    return torch.where(steps < lengths[:, None], chosen, 0), lengths, own.cumsum(1) - 1
