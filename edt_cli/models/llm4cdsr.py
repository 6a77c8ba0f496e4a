"""LLM4CDSR: three threads, for the mixed sequence and for the sequence of each domain.

Liu et al., "Bridge the Domains: Large Language Models Enhanced Cross-domain Sequential Recommendation", SIGIR 2025.

- Unified representation: `encoder`, frozen text vectors through an adapter that all domains share. The contrast of
  `_bridges` keeps the domains from drifting apart.
- Hierarchical profiling is done before training; `aligned` brings the profiles into the global state.
- Tri-thread modelling: the global encoder and one for each domain, whose scores are added. Any backbone can be
  used.

The public code differs from the paper and from this module:
- Its attention has no mask at all, so that a training position sees its label, and its LayerNorm is not that of
  SASRec for keys and values. Here `model.backbone` is one of the backbones that all models share.
- Its domain vectors stay fixed at the principal components (`options.learned = false`); the paper only starts
  there.
- Its loss is BCE (`training.loss = bce`), that of the paper is pairwise. Both add the means over each domain's
  targets.
- The global thread and the domain thread whose scores it adds use two different negatives, the first drawn from the
  domain of the item before the target. Here they share one, from the target's domain.
- The first item of a domain in a sequence is not a target. Here it is, for the global thread alone, as at
  evaluation.
- Its contrasts use inner products with soft targets (`options.contrast = soft`). It aligns the state before the
  last training item; here it is the state after it.
- It scales text vectors by sqrt(d_L) and domain vectors by sqrt(d). Here both are scaled by sqrt(d).
- Its profiles use all interactions but the last one, including the validation item. Here they use training alone.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations
from typing import Literal, cast

import torch
from pydantic import Field
from torch import Tensor

from edt_cli.config import Section
from edt_cli.models.backbones import BERT4Rec, make_backbone
from edt_cli.models.batch import Batch, ItemTable, last_state
from edt_cli.models.domain_sequences import domain_positions, domain_sequence
from edt_cli.models.encoders import IdEncoder, project_pca
from edt_cli.models.inputs import ModelInputs
from edt_cli.models.losses import alignment, mean, soft_contrast
from edt_cli.models.positions import Objective, Positions, seen_items
from edt_cli.models.profiled import ProfiledModel
from edt_cli.models.typed import ModuleList


class Options(Section):
    """Options of LLM4CDSR."""

    alpha: float = Field(0.1, ge=0, description="weight of the contrast between items of two domains")
    beta: float = Field(0.1, ge=0, description="weight of the contrast with profiles; 0: no profiles needed")
    item_temperature: float = Field(1.0, gt=0, description="temperature of the contrast between items")
    user_temperature: float = Field(1.0, gt=0, description="temperature of the contrast with profiles")
    contrast: Literal["infonce", "soft"] = Field(
        "infonce", description="`soft`: soft targets, as in the public code"
    )
    learned: bool = Field(
        True, description="train the item vectors of the domain threads; off: they stay at their initial values"
    )


class LLM4CDSR(ProfiledModel):
    """The model; its vectors are [global, domain], of size 2d.

    The base's `encoder` and `backbone` are the global thread; `own_items` and `own_backbones` the domain threads.
    """

    Options = Options

    def __init__(self, given: ModelInputs) -> None:
        options = given.options
        assert isinstance(options, Options)
        if options.beta > 0:
            given.needed_profiles("options.beta = 0")
        super().__init__(given)
        self.options = options
        self.own_items = IdEncoder(
            given.table, given.model.hidden, domain_components(given.table, given.model.hidden)
        )
        self.own_items.weight.requires_grad_(options.learned)
        self.own_backbones = ModuleList(make_backbone(given.model) for _ in range(self.domains))

    @property
    def width(self) -> int:
        return 2 * self.settings.hidden

    def encode_items(self, ids: Tensor) -> Tensor:
        """Return [e : e^d], [..., 2d]."""
        return torch.cat([self.encoder(ids), self.own_items(ids)], -1)

    def encode_positions(self, batch: Batch) -> Tensor:
        """Return [u : u^d], where d is the domain queried at each position.

        u^d is zero before the first item of d.
        """
        return torch.cat([self.backbone(self.encoder(batch.items), batch.lengths), self._domain_states(batch)], -1)

    def encode_last(self, batch: Batch) -> Tensor:
        states = self.backbone.last(self.encoder(batch.items), batch.lengths)
        domains, domain_states = batch.domains[:, 0], torch.zeros_like(states)
        for domain, backbone in enumerate(self.own_backbones):
            rows = torch.nonzero(domains == domain).squeeze(1)
            if not len(rows):
                continue
            items, lengths, _ = domain_sequence(batch.items[rows], self.domain_of, domains[rows])
            domain_states[rows] = backbone.last(self.own_items(items), lengths).to(domain_states.dtype)
        return torch.cat([states, domain_states], -1)

    def loss(self, batch: Batch, objective: Objective) -> dict[str, Tensor]:
        """Return the sum of the domains' next-item losses, alpha L_reg, and beta L_user."""
        o = self.options
        at, last = self.training_positions(batch)
        losses, domains = objective(at, self.encode_items), self.domain_of[at.targets]
        terms = {"next_item": torch.stack([mean(losses[domains == d]) for d in range(self.domains)]).sum()}
        contrast = alignment if o.contrast == "infonce" else soft_contrast
        if o.alpha > 0:
            pairs = [contrast(one, other, o.item_temperature) for one, other in self._bridges(batch)]
            if pairs:
                terms["bridge"] = o.alpha * torch.stack(pairs).mean()
        if o.beta > 0:
            # With soft targets the order matters: the profile comes first, as in the public code.
            aligned = self.aligned(
                last, batch, lambda users, profiles: contrast(profiles, users, o.user_temperature)
            )
            terms["align"] = o.beta * aligned
        return terms

    def training_positions(self, batch: Batch) -> tuple[Positions, Tensor]:
        """Return positions with states [u : u^d], and the last global state of each row."""
        x = self.encode_items(batch.items)
        of_global = x[..., : self.settings.hidden]
        if not isinstance(self.backbone, BERT4Rec):
            states = self.backbone(of_global, batch.lengths)
            at = self.before_targets(batch, x, torch.cat([states, self._domain_states(batch)], -1))
            return at, last_state(states, batch.lengths)
        masked = self._mask(batch)
        states = self.backbone.restore(of_global, batch.lengths, masked)[masked]
        states = torch.cat([states, self._restored_domain_states(batch, masked)], -1)
        at = Positions(
            states=states, positive=x[masked], targets=batch.items[masked], seen=seen_items(batch, masked)
        )
        return at, self.backbone.last(of_global, batch.lengths)

    def _domain_states(self, batch: Batch) -> Tensor:
        """Return u^d at each position, [B, L, d]."""

        def encode(domain: int, items: Tensor, lengths: Tensor) -> Tensor:
            return self.own_backbones[domain](self.own_items(items), lengths)

        return domain_positions(batch, self.domain_of, self.domains, encode)[0]

    def _restored_domain_states(self, batch: Batch, masked: Tensor) -> Tensor:
        """Return u^d of the P masked items for BERT4Rec, [P, d].

        The domain of u^d is that of the item, which is masked in the domain sequence too.
        """
        out = self.own_items.weight.new_zeros(*masked.shape, self.settings.hidden)
        for domain, backbone in enumerate(self.own_backbones):
            here = masked & (self.domain_of[batch.items] == domain)
            rows = torch.nonzero(here.any(1)).squeeze(1)
            if not len(rows):
                continue
            row, step = torch.nonzero(here[rows], as_tuple=True)
            queried = torch.full_like(rows, domain)
            items, lengths, index = domain_sequence(batch.items[rows], self.domain_of, queried)
            index = index[row, step]
            masked_here = torch.zeros_like(items, dtype=torch.bool).index_put(
                (row, index), torch.ones_like(row, dtype=torch.bool)
            )
            states = cast(BERT4Rec, backbone).restore(self.own_items(items), lengths, masked_here)
            out = out.index_put((rows[row], step), states[row, index].to(out.dtype))
        return out[masked]

    def _bridges(self, batch: Batch) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield for each pair of domains the global vectors [P, d] of one random item of each.

        P is the number of users with items in both domains.
        """
        masks = [(self.domain_of[batch.items] == domain) & (batch.items > 0) for domain in range(self.domains)]
        for one, other in combinations(masks, 2):
            both = one.any(1) & other.any(1)
            yield self._any_item(batch.items[both], one[both]), self._any_item(batch.items[both], other[both])

    def _any_item(self, items: Tensor, mask: Tensor) -> Tensor:
        """Return the vector of a random item of each row of `mask` (bool [P, L]), [P, d]."""
        chance = torch.rand(mask.shape, device=mask.device).masked_fill(~mask, -1.0)
        return self.encoder(items.gather(1, chance.argmax(1, keepdim=True)).squeeze(1))


def domain_components(table: ItemTable, size: int) -> Tensor:
    """Return initial domain item vectors, [1 + N + P, size].

    They are the principal components of the text vectors of each domain.
    """
    assert table.text is not None, "domain item vectors start from text vectors"
    start = table.text.new_zeros(len(table.text), size)
    for domain in range(len(table.domains)):
        mask = (table.domain_of == domain) & (table.text != 0).any(1)
        start = torch.where(mask[:, None], project_pca(table.text, mask, size), start)
    return start
