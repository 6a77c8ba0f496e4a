"""SyNCRec (Park et al., SIGIR '24): single- and cross-domain recommendation, trained jointly.

The cross-domain task (CDSR) reads the mixed sequence, the single-domain tasks (SDSR) read the items of one domain.
All tasks mix the outputs of the same experts; the gradient of a task reaches only its experts (ACMoE). Where the
single task does better, the mixture harms that domain (the negative transfer gap), and the cross-domain loss of
the domain gets a lower weight. SC-MIM maximises the mutual information of the two states of a position. Only the
cross-domain task recommends.

Domain sequences are not extracted: they are the mixed sequence under a mask that shows an item only earlier items
of its domain, with positions counted within the domain. Thus all domains are encoded in one pass, and the
single-domain state of a position has the same index as its cross-domain state.

Differences from the public code:
- Its gates read the whole flattened sequence, including later items and padding. Here a gate reads the mean of the
  embeddings that the position may see. Its noise stays on at evaluation; here it is used in training only.
- Its experts, towers and gates are each a single module listed several times. Here there are as many as in the
  paper.
- Its gates are `partitioned` (see the option): noisy, and the experts of each side share a fixed weight. The
  default here is a softmax over all experts, as usual in mixtures of experts.
- Its single-domain sequences attend to empty positions, those of other domains' items; here there are none.
- Its alpha and beta are parameters, but get no gradient, and their random initial values can flip the sign of the
  gap. Here they are fixed: the gap is a moving average with a rate that we chose.
- Its loss is a sum over positions divided by 1,000; here each term is a mean. Negatives come from the domain of the
  target, as for all models here. The negative of SC-MIM is a single-domain state of that domain drawn from the
  batch; the code uses an item of another user.
"""

from __future__ import annotations

from typing import Literal, cast

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from edt_cli.config import ModelSettings, Section
from edt_cli.distributed.losses import summed
from edt_cli.models.backbones import BERT4RecBlock, FeedForward
from edt_cli.models.batch import Batch
from edt_cli.models.inputs import ModelInputs
from edt_cli.models.layers import Dropout, Linear
from edt_cli.models.losses import mean
from edt_cli.models.positions import Objective
from edt_cli.models.sequential import SequentialModel
from edt_cli.models.typed import Embedding, Layer, LayerNorm, ModuleList


class SyNCRecOptions(Section):
    """Options of SyNCRec."""

    single_experts: int = Field(1, ge=1, description="number of experts trained only by the single-domain tasks")
    cross_experts: int = Field(4, ge=1, description="number of experts trained only by the cross-domain task")
    gate: Literal["softmax", "partitioned"] = Field(
        "softmax",
        description="`partitioned`: as in the public code, noisy, with a fixed weight for each kind of expert",
    )
    keep: float = Field(
        0.9, ge=0, le=1, description="alpha: share of a domain's gap that is kept from step to step"
    )
    gain: float = Field(0.1, ge=0, description="beta: weight of the gap of the current step")
    gap_temperature: float = Field(
        1.0, gt=0, description="temperature of the softmax over gaps that gives the weights of domains"
    )
    mim: float = Field(1.0, ge=0, description="weight of SC-MIM")


class SyNCRec(SequentialModel):
    """The model; its states for recommendation are those of the cross-domain task."""

    Options = SyNCRecOptions

    def __init__(self, given: ModelInputs) -> None:
        super().__init__(given)
        s, options = given.model, cast(SyNCRecOptions, given.options)
        self.options = options
        self.types = Embedding(self.domains, s.hidden)
        self.positions = Embedding(s.max_length, s.hidden)
        self.norm = LayerNorm(s.hidden)
        self.drop = Dropout(s.dropout)
        self.experts = ModuleList(Expert(s) for _ in range(options.single_experts + options.cross_experts))
        self.gate = Gate(s.hidden, self.domains + 1, options)
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
        return self.towers[-1](_weighted_sum(weights, states)) * (batch.lengths > 0).unsqueeze(1)

    def cross(self, batch: Batch) -> Tensor:
        """CDSR: return the state at each position of the mixed sequence, [B, L, D]."""
        steps = torch.arange(batch.items.shape[1], device=batch.items.device)
        x = self._embedded(batch.items, steps)
        weights = self.gate(x.cumsum(1) / (steps + 1).unsqueeze(1))[:, :, -1]
        return self.towers[-1](_weighted_sum(weights, self._experts(x, None, "cross")))

    def single(self, batch: Batch) -> Tensor:
        """SDSR: return the state of each position in the sequence of its item's domain, [B, L, D]."""
        domains = self.domain_of[batch.items]
        visible = (domains.unsqueeze(2) == domains.unsqueeze(1)).tril()
        seen = visible.sum(2)
        x = self._embedded(batch.items, seen - 1)
        weights = self.gate(visible.to(x.dtype) @ x / seen.unsqueeze(-1))
        weights = weights.gather(2, domains[..., None, None].expand(-1, -1, 1, weights.shape[-1])).squeeze(2)
        mixed = _weighted_sum(weights, self._experts(x, visible.unsqueeze(1), "single"))
        out = torch.zeros_like(mixed)
        for domain, tower in enumerate(self.towers[:-1]):
            rows = (domains == domain) & (batch.items > 0)
            out[rows] = tower(mixed[rows]).to(out.dtype)
        return out

    def loss(self, batch: Batch, objective: Objective) -> dict[str, Tensor]:
        """Return L_single, L_cross weighted by the negative transfer gap, and SC-MIM."""
        cross, single = self.cross(batch), self.single(batch)
        at = self.before_targets(batch, self.encode_items(batch.items), cross)
        real = batch.targets[:, :-1] > 0
        last = last_positions(batch, self.domain_of, self.domains)[:, :-1][real]
        rows = torch.nonzero(real)[:, 0]
        known = last >= 0
        alone = at.among(known, single[rows[known], last[known]])
        of_cross = objective(at, self.encode_items)
        of_single = objective(alone, self.encode_items)
        domains = self.domain_of[at.targets]
        if self.training:
            self._update_gap(domains[known], (of_single - of_cross[known]).detach())
        weights = self.domains * torch.softmax(self.gap / self.options.gap_temperature, 0)
        item = batch.items > 0
        information = sc_mim(cross[item], single[item], self._others(batch, single), self.critic)
        return {
            "single": mean(of_single),
            "cross": mean(weights[domains] * of_cross),
            "sc_mim": self.options.mim * mean(information),
        }

    @torch.no_grad()
    def _update_gap(self, domains: Tensor, gaps: Tensor) -> None:
        """Update the gap: lambda_d <- alpha lambda_d + beta phi_d.

        phi_d is the mean loss of the single-domain task minus that of the cross-domain task. A domain without
        positions in the batch keeps its value.
        """
        counts = summed(torch.bincount(domains, minlength=self.domains))
        total = summed(torch.zeros_like(self.gap).index_add_(0, domains, gaps.to(self.gap.dtype)))
        phi = total / counts.clamp_min(1)
        self.gap.copy_(torch.where(counts > 0, self.options.keep * self.gap + self.options.gain * phi, self.gap))

    def _others(self, batch: Batch, single: Tensor) -> Tensor:
        """Return for each real position the single-domain state at a random position of the same domain."""
        real = batch.items > 0
        domains = self.domain_of[batch.items[real]]
        chance = torch.rand(len(domains), device=domains.device)
        from_, to = torch.argsort(domains + chance), torch.argsort(domains, stable=True)
        return single[real][torch.empty_like(to).index_copy_(0, to, from_)]

    def _experts(self, x: Tensor, visible: Tensor | None, task: Literal["single", "cross"]) -> list[Tensor]:
        """Return the states [B, L, D] of the K experts.

        Those of the other task's experts have no gradient (the paper's SG).
        """
        states = []
        for number, expert in enumerate(self.experts):
            trained = (number < self.options.single_experts) == (task == "single")
            with torch.set_grad_enabled(trained and torch.is_grad_enabled()):
                states.append(expert(x, visible))
        return states

    def _embedded(self, items: Tensor, positions: Tensor) -> Tensor:
        """Return the sum of item, domain and position vectors, normalised, [B, L, D]."""
        x = self.encode_items(items) + self.types(self.domain_of[items]) + self.positions(positions)
        return self.drop(self.norm(x))


class Expert(Layer):
    """A causal Transformer with post-layer normalisation."""

    def __init__(self, s: ModelSettings) -> None:
        super().__init__()
        self.blocks = ModuleList(BERT4RecBlock(s) for _ in range(s.blocks))

    def forward(self, x: Tensor, visible: Tensor | None) -> Tensor:
        """Return the states, [B, L, D] -> [B, L, D]; `visible`: bool [B, 1, L, L], causal if None."""
        for block in self.blocks:
            x = block(x, visible)
        return x

    def last(self, x: Tensor, lengths: Tensor) -> Tensor:
        """Return `forward` after each row's last item, [B, D], without dropout."""
        for block in self.blocks[:-1]:
            x = block(x)
        return self.blocks[-1].last(x, lengths)


class Gate(Layer):
    """The weights of the K experts for each of T tasks; the last task is the cross-domain one."""

    def __init__(self, hidden: int, tasks: int, options: SyNCRecOptions) -> None:
        super().__init__()
        experts = options.single_experts + options.cross_experts
        self.shape = (tasks, experts)
        self.single_experts = options.single_experts
        self.logits = Linear(hidden, tasks * experts)
        self.noise = Linear(hidden, tasks * experts) if options.gate == "partitioned" else None

    def forward(self, seen: Tensor) -> Tensor:
        """Return weights [..., T, K] that sum to one for each task.

        `seen`: [..., D], the mean of the visible embeddings.
        """
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


def last_positions(batch: Batch, domain_of: Tensor, domains: int) -> Tensor:
    """Find the last item of the queried domain at or before each position.

    Returns:
        Long [B, L], its position, -1 if there is none.
    """
    steps = torch.arange(batch.items.shape[1], device=batch.items.device)
    out = torch.full_like(batch.items, -1)
    for domain in range(domains):
        mask = (domain_of[batch.items] == domain) & (batch.items > 0)
        out = torch.where(batch.domains == domain, torch.where(mask, steps, -1).cummax(1).values, out)
    return out


def sc_mim(cross: Tensor, single: Tensor, other: Tensor, critic: Layer) -> Tensor:
    """SC-MIM: -log sigmoid(rho(c, s) - rho(c, o)), [P, D] each -> [P].

    rho(c, s) = sigmoid(s . (W c + b)).
    """
    projected = critic(cross)
    return F.softplus(torch.sigmoid((projected * other).sum(-1)) - torch.sigmoid((projected * single).sum(-1)))


def _weighted_sum(weights: Tensor, states: list[Tensor]) -> Tensor:
    """Return the sum of K states [..., D] with weights [..., K], [..., D]."""
    return torch.stack([w.unsqueeze(-1) * h for w, h in zip(weights.unbind(-1), states, strict=True)]).sum(0)
