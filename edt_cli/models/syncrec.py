"""SyNCRec (Park et al., SIGIR '24): single- and cross-domain recommendation learned beside each other.

Two tasks read the same users. The cross-domain one (CDSR) sees the mixed sequence, the single-domain ones (SDSR)
each domain's own items. Both are weighed out of the same experts, half-open both ways (ACMoE); what the single
tasks do better tells where the mixture harms a domain (the negative transfer gap), and that domain's cross loss
counts for less; and the two states of a position are held together (SC-MIM). Only the cross-domain task recommends.

Each domain's own sequence is not cut out: it is the mixed one under a mask that lets an item see earlier items of
its own domain only, with positions counted within the domain. So all domains are one pass, and each single state
stands where its cross state does.

Other than the public code:
- Its gates read the whole flattened sequence, later items and padding among them. Here a gate reads the mean of
  the embeddings that the position may see. Its noise stays on at evaluation; here it is of training alone.
- Its experts, towers and gates are each one module listed several times. Here they are as many as the paper has.
- Its gates are `partitioned` (the option): noisy, and each side's experts share a fixed part. A softmax over all
  experts, as mixtures of experts have it, is the default.
- Its single-domain sequences attend to the empty places of the other domains' items; here they do not exist.
- Its alpha and beta are learned by name only: they get no gradient, and their random start can turn the sign of the
  gap. Here they are fixed, a moving average at a pace of our choice.
- Its loss sums over positions and divides by 1,000; here each term is a mean. Negatives are the harness's: of the
  target's domain. SC-MIM's negative is a single state of that domain drawn from the batch; the code has another
  user's item there.
"""

from __future__ import annotations

from typing import Literal, cast

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from edt_cli.config import ModelSettings, Section
from edt_cli.models.backbones import BERT4RecBlock, FeedForward
from edt_cli.models.batch import Batch
from edt_cli.models.inputs import ModelInputs
from edt_cli.models.layers import Dropout, Linear
from edt_cli.models.losses import mean
from edt_cli.models.positions import Objective
from edt_cli.models.sequential import SequentialModel
from edt_cli.models.typed import Embedding, Layer, LayerNorm, ModuleList


class SyNCRecOptions(Section):
    single_experts: int = Field(1, ge=1, description="experts that only the single-domain tasks teach")
    cross_experts: int = Field(4, ge=1, description="experts that only the cross-domain task teaches")
    gate: Literal["softmax", "partitioned"] = Field(
        "softmax", description="`partitioned`: the public code's, each kind of expert has a fixed part, with noise"
    )
    keep: float = Field(0.9, ge=0, le=1, description="alpha: what is kept of a domain's gap from step to step")
    gain: float = Field(0.1, ge=0, description="beta: what a step's own gap adds")
    gap_temperature: float = Field(1.0, gt=0, description="of the softmax that turns gaps into weights of domains")
    mim: float = Field(1.0, ge=0, description="weight of SC-MIM")


class SyNCRec(SequentialModel):
    Options = SyNCRecOptions

    def __init__(self, given: ModelInputs) -> None:
        super().__init__(given)
        s, own = given.model, cast(SyNCRecOptions, given.options)
        self.own = own
        self.types = Embedding(self.domains, s.hidden)
        self.positions = Embedding(s.max_length, s.hidden)
        self.norm = LayerNorm(s.hidden)
        self.drop = Dropout(s.dropout)
        self.experts = ModuleList(Expert(s) for _ in range(own.single_experts + own.cross_experts))
        self.gate = Gate(s.hidden, self.domains + 1, own)
        self.towers = ModuleList(FeedForward(s) for _ in range(self.domains + 1))
        self.critic = Linear(s.hidden, s.hidden)
        self.register_buffer("gap", torch.full((self.domains,), 1 / self.domains))
        for module in self.modules():
            if isinstance(module, nn.Linear | nn.Embedding):
                nn.init.normal_(module.weight, std=0.02)
            if isinstance(module, nn.Linear):
                nn.init.zeros_(module.bias)

    gap: Tensor

    def encode_positions(self, batch: Batch) -> Tensor:
        return self.cross(batch)

    def encode_last(self, batch: Batch) -> Tensor:
        if self.training:
            return super().encode_last(batch)
        steps = torch.arange(batch.items.shape[1], device=batch.items.device)
        x = self._embedded(batch.items, steps)
        seen = x.masked_fill((batch.items == 0).unsqueeze(-1), 0).sum(1) / batch.lengths.clamp_min(1).unsqueeze(1)
        weights = self.gate(seen)[:, -1]
        states = [expert.last(x, batch.lengths) for expert in self.experts]
        return self.towers[-1](_weighed(weights, states)) * (batch.lengths > 0).unsqueeze(1)

    def cross(self, batch: Batch) -> Tensor:
        """CDSR: the state at each position of the mixed sequence, [B, L, D]."""
        steps = torch.arange(batch.items.shape[1], device=batch.items.device)
        x = self._embedded(batch.items, steps)
        weights = self.gate(x.cumsum(1) / (steps + 1).unsqueeze(1))[:, :, -1]
        return self.towers[-1](_weighed(weights, self._experts(x, None, "cross")))

    def single(self, batch: Batch) -> Tensor:
        """SDSR: the state at each position among the items of its own domain, [B, L, D]."""
        domains = self.domain_of[batch.items]
        visible = (domains.unsqueeze(2) == domains.unsqueeze(1)).tril()
        seen = visible.sum(2)
        x = self._embedded(batch.items, seen - 1)
        weights = self.gate(visible.to(x.dtype) @ x / seen.unsqueeze(-1))
        weights = weights.gather(2, domains[..., None, None].expand(-1, -1, 1, weights.shape[-1])).squeeze(2)
        mixed = _weighed(weights, self._experts(x, visible.unsqueeze(1), "single"))
        out = torch.zeros_like(mixed)
        for domain, tower in enumerate(self.towers[:-1]):
            rows = (domains == domain) & (batch.items > 0)
            out[rows] = tower(mixed[rows]).to(out.dtype)
        return out

    def loss(self, batch: Batch, objective: Objective) -> dict[str, Tensor]:
        """L_single + L_cross, the latter corrected by the negative transfer gap, + SC-MIM."""
        cross, single = self.cross(batch), self.single(batch)
        at = self.before_targets(batch, self.encode_items(batch.items), cross)
        real = batch.targets[:, :-1] > 0
        place = last_places(batch, self.domain_of, self.domains)[:, :-1][real]
        rows = torch.nonzero(real)[:, 0]
        known = place >= 0
        alone = at.among(known, single[rows[known], place[known]])
        of_cross = objective(at, self.encode_items)
        of_single = objective(alone, self.encode_items)
        domains = self.domain_of[at.targets]
        if self.training:
            self._follow_gap(domains[known], (of_single - of_cross[known]).detach())
        weights = self.domains * torch.softmax(self.gap / self.own.gap_temperature, 0)
        item = batch.items > 0
        information = sc_mim(cross[item], single[item], self._others(batch, single), self.critic)
        return {
            "single": mean(of_single),
            "cross": mean(weights[domains] * of_cross),
            "sc_mim": self.own.mim * mean(information),
        }

    @torch.no_grad()
    def _follow_gap(self, domains: Tensor, gaps: Tensor) -> None:
        """lambda_d <- alpha lambda_d + beta phi_d, phi_d the mean of what the mixture gains over the domain alone;
        a domain without positions in the batch keeps its own."""
        counts = torch.bincount(domains, minlength=self.domains)
        phi = torch.zeros_like(self.gap).index_add_(0, domains, gaps.to(self.gap.dtype)) / counts.clamp_min(1)
        self.gap.copy_(torch.where(counts > 0, self.own.keep * self.gap + self.own.gain * phi, self.gap))

    def _others(self, batch: Batch, single: Tensor) -> Tensor:
        """For each real position the single state at a position of the same domain, drawn from the batch."""
        real = batch.items > 0
        domains = self.domain_of[batch.items[real]]
        chance = torch.rand(len(domains), device=domains.device)
        from_, to = torch.argsort(domains + chance), torch.argsort(domains, stable=True)
        return single[real][torch.empty_like(to).index_copy_(0, to, from_)]

    def _experts(self, x: Tensor, visible: Tensor | None, task: Literal["single", "cross"]) -> list[Tensor]:
        """K states [B, L, D]; those of the other task's experts without a gradient (the paper's SG)."""
        states = []
        for number, expert in enumerate(self.experts):
            taught = (number < self.own.single_experts) == (task == "single")
            with torch.set_grad_enabled(taught and torch.is_grad_enabled()):
                states.append(expert(x, visible))
        return states

    def _embedded(self, items: Tensor, places: Tensor) -> Tensor:
        """Item, domain and position, [B, L, D]."""
        x = self.encode_items(items) + self.types(self.domain_of[items]) + self.positions(places)
        return self.drop(self.norm(x))


class Expert(Layer):
    """A causal Transformer, normalised after each part."""

    def __init__(self, s: ModelSettings) -> None:
        super().__init__()
        self.blocks = ModuleList(BERT4RecBlock(s) for _ in range(s.blocks))

    def forward(self, x: Tensor, visible: Tensor | None) -> Tensor:
        """[B, L, D] -> [B, L, D]; visible: bool [B, 1, L, L], without one what is earlier."""
        for block in self.blocks:
            x = block(x, visible)
        return x

    def last(self, x: Tensor, lengths: Tensor) -> Tensor:
        """[B, D]: `forward` after each row's last item, without dropout."""
        for block in self.blocks[:-1]:
            x = block(x)
        return self.blocks[-1].last(x, lengths)


class Gate(Layer):
    """For each of T tasks the weights of the K experts; the last task is the cross-domain one."""

    def __init__(self, hidden: int, tasks: int, own: SyNCRecOptions) -> None:
        super().__init__()
        experts = own.single_experts + own.cross_experts
        self.shape = (tasks, experts)
        self.single_experts = own.single_experts
        self.logits = Linear(hidden, tasks * experts)
        self.noise = Linear(hidden, tasks * experts) if own.gate == "partitioned" else None

    def forward(self, seen: Tensor) -> Tensor:
        """[..., D], the mean of what is seen -> [..., T, K], each task's summing to one."""
        logits: Tensor = self.logits(seen).unflatten(-1, self.shape)
        if self.noise is None:
            return logits.softmax(-1)
        if self.training:
            logits = logits + torch.randn_like(logits) * F.softplus(self.noise(seen)).view_as(logits)
        single = logits[..., : self.single_experts].softmax(-1)
        cross = logits[..., self.single_experts :].softmax(-1)
        to_cross = cross.new_full((self.shape[0], 1), self.single_experts / self.shape[1])
        to_cross[-1] = 1 - to_cross[-1]
        return torch.cat([single * (1 - to_cross), cross * to_cross], -1)


def last_places(batch: Batch, domain_of: Tensor, domains: int) -> Tensor:
    """long [B, L]: where the last item at or before each position is that is of the domain asked for; -1: none."""
    steps = torch.arange(batch.items.shape[1], device=batch.items.device)
    out = torch.full_like(batch.items, -1)
    for domain in range(domains):
        own = (domain_of[batch.items] == domain) & (batch.items > 0)
        out = torch.where(batch.domains == domain, torch.where(own, steps, -1).cummax(1).values, out)
    return out


def sc_mim(cross: Tensor, single: Tensor, other: Tensor, critic: Layer) -> Tensor:
    """SC-MIM: -log sigmoid(rho(c, s) - rho(c, o)), rho(c, s) = sigmoid(s . (W c + b)). All [P, D]; returns [P]."""
    asked = critic(cross)
    return F.softplus(torch.sigmoid((asked * other).sum(-1)) - torch.sigmoid((asked * single).sum(-1)))


def _weighed(weights: Tensor, states: list[Tensor]) -> Tensor:
    """weights [..., K], K states [..., D] -> [..., D]."""
    return torch.stack([w.unsqueeze(-1) * h for w, h in zip(weights.unbind(-1), states, strict=True)]).sum(0)
