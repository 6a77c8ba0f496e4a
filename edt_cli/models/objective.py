"""Negatives, and the next-item loss over them (eq. 9 and 12, or the losses that the field uses beside BPR)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from edt_cli.config import TrainingSettings
from edt_cli.models.batch import ItemTable
from edt_cli.models.kernels import linear
from edt_cli.models.losses import bce, bpr, bpr_max, sampled_softmax, top1
from edt_cli.models.positions import Positions

OWN_NEGATIVES = {"bpr": bpr, "bce": bce, "top1": top1, "bpr-max": bpr_max}
"""Losses for which each position draws its own."""
SHARED_BY = 512
"""Positions that draw from one pool, with `negative_pool`."""


@dataclass(frozen=True)
class Negatives:
    """Uniform draws from the positive's domain of the catalogue, on the device; pseudo-items are never drawn."""

    starts: Tensor
    domain_of: Tensor
    generator: torch.Generator

    @classmethod
    def over(cls, table: ItemTable, generator: torch.Generator) -> Negatives:
        device = table.domain_of.device
        return cls(torch.from_numpy(table.domains.starts).to(device), table.domain_of, generator)

    def each(self, targets: Tensor, count: int) -> Tensor:
        """[P] -> long [P, count], none the positive itself unless its domain has no other item."""
        domains = self.domain_of[targets]
        first, size = self.starts[domains], self.starts[domains + 1] - self.starts[domains]
        in_catalogue = targets < self.starts[-1]
        others = torch.where(in_catalogue, size - 1, size).clamp_min(1)
        chance = torch.rand(len(targets), count, device=targets.device, generator=self.generator)
        step = torch.minimum((chance * others[:, None]).long(), others[:, None] - 1)
        start = torch.where(in_catalogue, targets - first + 1, 0)
        return first[:, None] + (start[:, None] + step) % size[:, None]

    def shared(self, domain: int, count: int) -> Tensor:
        """long [count] different items of one domain, or all that it has."""
        low, high = int(self.starts[domain]), int(self.starts[domain + 1])
        order = torch.randperm(high - low, device=self.starts.device, generator=self.generator)
        return low + order[:count]

    def pools(self, domain: int, size: int, count: int) -> Tensor:
        """long [count, size or all that the domain has], different items in each and, while there are enough, in
        all of them."""
        size = min(size, int(self.starts[domain + 1] - self.starts[domain]))
        pools: list[Tensor] = []
        while len(pools) < count:
            whole = self.shared(domain, len(self.domain_of))
            pools += [pool for pool in whole.split(size) if len(pool) == size]
        return torch.stack(pools[:count])


@dataclass(frozen=True)
class NextItem:
    """The objective that `SequentialModel.loss` is handed."""

    settings: TrainingSettings
    negatives: Negatives

    def __call__(self, at: Positions, encode_items: Callable[[Tensor], Tensor]) -> Tensor:
        """P positions -> losses [P]."""
        s = self.settings
        if s.loss != "ce":
            drawn, items = self.negatives.each(at.targets, s.negatives), len(self.negatives.domain_of)
            if drawn.numel() < items:
                negative = encode_items(drawn)
            else:
                negative = F.embedding(drawn, encode_items(torch.arange(items, device=drawn.device)))
            return OWN_NEGATIVES[s.loss](at.states, at.positive, negative)
        losses = _exact(at.states.new_zeros(len(at.states)))
        domains = self.negatives.domain_of[at.targets]
        for domain in range(len(self.negatives.starts) - 1):
            rows = torch.nonzero(domains == domain).squeeze(1)
            if not len(rows) or self.negatives.starts[domain] == self.negatives.starts[domain + 1]:
                continue
            losses = losses.index_put((rows,), self._softmax(at, rows, domain, encode_items))
        return losses

    def _softmax(
        self, at: Positions, rows: Tensor, domain: int, encode_items: Callable[[Tensor], Tensor]
    ) -> Tensor:
        """Sampled softmax at the positions `rows`, whose targets are of `domain`."""
        s = self.settings
        own = (_exact(at.states[rows]) * _exact(at.positive[rows])).sum(-1)
        if at.side is not None:
            own = own + at.side[rows].of_targets(at.targets[rows], domain)
        among = range(len(self.negatives.starts) - 1) if s.cross_domain_negatives else [domain]
        each = [self._others(at, rows, one, encode_items) for one in among]
        # The largest tensor of training: not copied where there is one.
        others = each[0] if len(each) == 1 else torch.cat(each, 1)
        return sampled_softmax(own / s.loss_temperature, others.div_(s.loss_temperature))

    def _others(self, at: Positions, rows: Tensor, domain: int, encode_items: Callable[[Tensor], Tensor]) -> Tensor:
        """[len(rows), negatives]: scores of negatives of `domain`, -inf where one is none: the target and, without
        `seen_negatives`, what the user has had, as it is no candidate at evaluation.

        With `negative_pool` a position has the `negatives` next to a place of its own in a pool, whose items lie in
        no order. Few positions share one, and the pools of a batch hold different items while there are any: one
        for all would be a coarse sample of the catalogue at each step.
        """
        s = self.settings
        if s.negative_pool is None:
            drawn = self.negatives.shared(domain, s.negatives)
            return self._scores(at, rows, domain, drawn, encode_items(drawn))
        groups = rows.split(SHARED_BY)
        drawn = self.negatives.pools(domain, s.negative_pool, len(groups))
        vectors = encode_items(drawn)
        parts = []
        for group, pool, own in zip(groups, drawn, vectors, strict=True):
            parts.append(self._neighbours(self._scores(at, group, domain, pool, own)))
        return torch.cat(parts)

    def _scores(self, at: Positions, rows: Tensor, domain: int, drawn: Tensor, vectors: Tensor) -> Tensor:
        """[len(rows), N] of the items `drawn` [N] with their vectors [N, D], -inf where one is no negative."""
        scores = _exact(linear(at.states[rows], vectors))
        if at.side is not None:
            scores = scores + at.side[rows].of_items(domain, drawn)
        had = at.targets[rows][:, None]
        if at.had is not None and not self.settings.seen_negatives:
            had = torch.cat([at.had[rows], had], 1)
        place = torch.full_like(self.negatives.domain_of, len(drawn))
        place[drawn] = torch.arange(len(drawn), device=drawn.device)
        hits = torch.zeros(len(rows), len(drawn) + 1, dtype=torch.bool, device=drawn.device)
        hits = hits.scatter_(1, place[had], True)[:, :-1]
        return scores.masked_fill_(hits, float("-inf"))

    def _neighbours(self, scores: Tensor) -> Tensor:
        """[P, N] -> [P, negatives]: of each row those next to a place that is drawn for it."""
        size, count = scores.shape[1], self.settings.negatives
        if size <= count:
            return scores
        first = torch.randint(size, (len(scores), 1), device=scores.device, generator=self.negatives.generator)
        return scores.gather(1, (first + torch.arange(count, device=scores.device)) % size)


def _exact(x: Tensor) -> Tensor:
    """bfloat16 is too coarse for the terms of a softmax."""
    return x.float() if x.dtype == torch.bfloat16 else x
