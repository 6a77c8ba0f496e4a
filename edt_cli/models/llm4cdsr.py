"""LLM4CDSR (Liu et al., "Bridge the Domains: Large Language Models Enhanced Cross-domain Sequential
Recommendation", SIGIR 2025): three threads, of the mixed sequence and of each domain's own.

Unified representation: `encoder`, frozen text vectors under an adapter that all domains share, which the contrast
`_bridges` keeps from drawing the domains apart. Hierarchical profiling is made before training; `aligned` brings it
into the global state. Tri-thread: the global encoder and one for each domain, whose scores are added. Any backbone.

The public code departs from the paper and from what is here:
- its attention has no mask at all, so that a training position sees its own label, and its LayerNorm is not that of
  SASRec for keys and values; here `model.backbone` is the harness's own;
- its domain vectors stay the components that they start from (`options.learned = false`); the paper starts there;
- its loss is BCE (`training.loss = bce`), the paper's is pairwise; both add the means over each domain's targets;
- the negative of the global thread and the one of a domain's thread whose scores it adds are two items, the first
  drawn from the domain of the item before the target; here they are one, of the target's domain;
- a domain's first item of a sequence is no target; here it is, of the global thread alone, as at evaluation;
- its contrasts are over inner products with soft targets (`options.contrast = soft`); the state that it aligns is
  the one before the last training item, here it is the one after it;
- it scales text vectors by sqrt(d_L) and domain vectors by sqrt(d); here both are scaled by sqrt(d);
- its profiles are of all interactions but the last one, the validation item among them; here of training alone.
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
from edt_cli.models.positions import Objective, Positions, had
from edt_cli.models.profiled import ProfiledModel
from edt_cli.models.typed import ModuleList


class Options(Section):
    alpha: float = Field(0.1, ge=0, description="weight of the contrast between items of two domains")
    beta: float = Field(0.1, ge=0, description="weight of the contrast with profiles; 0: none are needed")
    item_temperature: float = Field(1.0, gt=0, description="of the contrast between items")
    user_temperature: float = Field(1.0, gt=0, description="of the contrast with profiles")
    contrast: Literal["infonce", "soft"] = Field("infonce", description="`soft`: as the public code has it")
    learned: bool = Field(True, description="off: a domain's item vectors stay as they start")


class LLM4CDSR(ProfiledModel):
    """Vectors are [global, domain] of 2d. The base's `encoder` and `backbone` are the global thread."""

    Options = Options

    def __init__(self, given: ModelInputs) -> None:
        own = given.options
        assert isinstance(own, Options)
        if own.beta > 0:
            given.needed_profiles("options.beta = 0")
        super().__init__(given)
        self.options = own
        self.own_items = IdEncoder(given.table, given.model.hidden, own_components(given.table, given.model.hidden))
        self.own_items.weight.requires_grad_(own.learned)
        self.own_backbones = ModuleList(make_backbone(given.model) for _ in range(self.domains))

    @property
    def width(self) -> int:
        return 2 * self.settings.hidden

    def encode_items(self, ids: Tensor) -> Tensor:
        """[e : e^d]."""
        return torch.cat([self.encoder(ids), self.own_items(ids)], -1)

    def encode_positions(self, batch: Batch) -> Tensor:
        """[u : u^d], d the domain asked for at each position; u^d is zero before its first item."""
        return torch.cat([self.backbone(self.encoder(batch.items), batch.lengths), self._own_states(batch)], -1)

    def encode_last(self, batch: Batch) -> Tensor:
        states = self.backbone.last(self.encoder(batch.items), batch.lengths)
        asked, own = batch.domains[:, 0], torch.zeros_like(states)
        for domain, backbone in enumerate(self.own_backbones):
            rows = torch.nonzero(asked == domain).squeeze(1)
            if not len(rows):
                continue
            items, lengths, _ = domain_sequence(batch.items[rows], self.domain_of, asked[rows])
            own[rows] = backbone.last(self.own_items(items), lengths).to(own.dtype)
        return torch.cat([states, own], -1)

    def loss(self, batch: Batch, objective: Objective) -> dict[str, Tensor]:
        """The sum of the domains' next-item losses + alpha L_reg + beta L_user."""
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
            # Soft targets take sides: the profile comes first, as in the public code.
            aligned = self.aligned(
                last, batch, lambda users, profiles: contrast(profiles, users, o.user_temperature)
            )
            terms["align"] = o.beta * aligned
        return terms

    def training_positions(self, batch: Batch) -> tuple[Positions, Tensor]:
        """As `PlainModel`, with u^d beside u; and the last global state of each row."""
        x = self.encode_items(batch.items)
        of_global = x[..., : self.settings.hidden]
        if not isinstance(self.backbone, BERT4Rec):
            states = self.backbone(of_global, batch.lengths)
            at = self.before_targets(batch, x, torch.cat([states, self._own_states(batch)], -1))
            return at, last_state(states, batch.lengths)
        masked = self._mask(batch)
        states = self.backbone.restore(of_global, batch.lengths, masked)[masked]
        states = torch.cat([states, self._own_restored(batch, masked)], -1)
        at = Positions(states=states, positive=x[masked], targets=batch.items[masked], had=had(batch, masked))
        return at, self.backbone.last(of_global, batch.lengths)

    def _own_states(self, batch: Batch) -> Tensor:
        """u^d at each position, [B, L, d]."""

        def encode(domain: int, items: Tensor, lengths: Tensor) -> Tensor:
            return self.own_backbones[domain](self.own_items(items), lengths)

        return domain_positions(batch, self.domain_of, self.domains, encode)[0]

    def _own_restored(self, batch: Batch, masked: Tensor) -> Tensor:
        """BERT4Rec: u^d of each of the P masked items, d its domain, whose sequence is masked there too: [P, d]."""
        out = self.own_items.weight.new_zeros(*masked.shape, self.settings.hidden)
        for domain, backbone in enumerate(self.own_backbones):
            here = masked & (self.domain_of[batch.items] == domain)
            rows = torch.nonzero(here.any(1)).squeeze(1)
            if not len(rows):
                continue
            row, step = torch.nonzero(here[rows], as_tuple=True)
            asked = torch.full_like(rows, domain)
            items, lengths, place = domain_sequence(batch.items[rows], self.domain_of, asked)
            place = place[row, step]
            own = torch.zeros_like(items, dtype=torch.bool).index_put(
                (row, place), torch.ones_like(row, dtype=torch.bool)
            )
            states = cast(BERT4Rec, backbone).restore(self.own_items(items), lengths, own)
            out = out.index_put((rows[row], step), states[row, place].to(out.dtype))
        return out[masked]

    def _bridges(self, batch: Batch) -> Iterator[tuple[Tensor, Tensor]]:
        """For every two domains the global vectors [P, d] of one item of each, of every user who has both."""
        places = [(self.domain_of[batch.items] == domain) & (batch.items > 0) for domain in range(self.domains)]
        for one, other in combinations(places, 2):
            both = one.any(1) & other.any(1)
            yield self._any_item(batch.items[both], one[both]), self._any_item(batch.items[both], other[both])

    def _any_item(self, items: Tensor, places: Tensor) -> Tensor:
        """One item of each row of `places` (bool [P, L]), by chance: its vector, [P, d]."""
        chance = torch.rand(places.shape, device=places.device).masked_fill(~places, -1.0)
        return self.encoder(items.gather(1, chance.argmax(1, keepdim=True)).squeeze(1))


def own_components(table: ItemTable, size: int) -> Tensor:
    """[1 + N + P, size]: where domain item vectors start, the principal components of each domain's text."""
    assert table.text is not None, "domain item vectors start from text vectors"
    start = table.text.new_zeros(len(table.text), size)
    for domain in range(len(table.domains)):
        own = (table.domain_of == domain) & (table.text != 0).any(1)
        start = torch.where(own[:, None], project_pca(table.text, own, size), start)
    return start
