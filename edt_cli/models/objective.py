"""Negative sampling and the next-item loss (eq. 9 and 12: BPR; or another common loss)."""

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

PER_POSITION_LOSSES = {"bpr": bpr, "bce": bce, "top1": top1, "bpr-max": bpr_max}
"""Losses for which each position draws its own negatives."""
SHARED_BY = 512
"""Number of positions that share one pool of negatives, with `negative_pool`."""


@dataclass(frozen=True)
class Negatives:
    """Uniform negative sampling from the catalogue of the positive's domain, without pseudo-items."""

    starts: Tensor
    domain_of: Tensor
    generator: torch.Generator

    @classmethod
    def over(cls, table: ItemTable, generator: torch.Generator) -> Negatives:
        """Make a sampler over the catalogue of `table`, on its device."""
        device = table.domain_of.device
        return cls(torch.from_numpy(table.domains.starts).to(device), table.domain_of, generator)

    def each(self, targets: Tensor, count: int) -> Tensor:
        """Draw `count` negatives for each target, [P] -> long [P, count].

        None is the target itself, unless its domain has no other item.
        """
        domains = self.domain_of[targets]
        first, size = self.starts[domains], self.starts[domains + 1] - self.starts[domains]
        in_catalogue = targets < self.starts[-1]
        others = torch.where(in_catalogue, size - 1, size).clamp_min(1)
        chance = torch.rand(len(targets), count, device=targets.device, generator=self.generator)
        step = torch.minimum((chance * others[:, None]).long(), others[:, None] - 1)
        start = torch.where(in_catalogue, targets - first + 1, 0)
        return first[:, None] + (start[:, None] + step) % size[:, None]

    def shared(self, domain: int, count: int) -> Tensor:
        """Draw `count` distinct items of a domain, or all if it has fewer: long [count]."""
        low, high = int(self.starts[domain]), int(self.starts[domain + 1])
        order = torch.randperm(high - low, device=self.starts.device, generator=self.generator)
        return low + order[:count]

    def pools(self, domain: int, size: int, count: int) -> Tensor:
        """Draw `count` pools of `size` items of a domain, or of all its items if it has fewer: long [count, size].

        Items are distinct within a pool and, as far as the domain has enough items, across pools.
        """
        size = min(size, int(self.starts[domain + 1] - self.starts[domain]))
        pools: list[Tensor] = []
        while len(pools) < count:
            whole = self.shared(domain, len(self.domain_of))
            pools += [pool for pool in whole.split(size) if len(pool) == size]
        return torch.stack(pools[:count])


@dataclass(frozen=True)
class NextItem:
    """The objective passed to `SequentialModel.loss`."""

    settings: TrainingSettings
    negatives: Negatives

    def __call__(self, at: Positions, encode_items: Callable[[Tensor], Tensor]) -> Tensor:
        """Return the losses [P] of P positions."""
        s = self.settings
        if s.loss != "ce":
            drawn, items = self.negatives.each(at.targets, s.negatives), len(self.negatives.domain_of)
            if drawn.numel() < items:
                negative = encode_items(drawn)
            else:
                negative = F.embedding(drawn, encode_items(torch.arange(items, device=drawn.device)))
            return PER_POSITION_LOSSES[s.loss](at.states, at.positive, negative)
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
        """Return the sampled softmax at the positions `rows`, whose targets are in `domain`."""
        s = self.settings
        positive = (_exact(at.states[rows]) * _exact(at.positive[rows])).sum(-1)
        if at.side is not None:
            positive = positive + at.side[rows].of_targets(at.targets[rows], domain)
        domains = range(len(self.negatives.starts) - 1) if s.cross_domain_negatives else [domain]
        each = [self._others(at, rows, other, encode_items) for other in domains]
        # This is the largest tensor of training, so it is not copied if there is only one.
        others = each[0] if len(each) == 1 else torch.cat(each, 1)
        return sampled_softmax(positive / s.loss_temperature, others.div_(s.loss_temperature))

    def _others(self, at: Positions, rows: Tensor, domain: int, encode_items: Callable[[Tensor], Tensor]) -> Tensor:
        """Return the scores of negatives of `domain`, [len(rows), negatives].

        The score is -inf for a drawn item that is no negative: the target and, without `seen_negatives`, an item of
        the user's sequence, as these are not candidates at evaluation.

        With `negative_pool` each position takes the `negatives` that follow a random offset in a shuffled pool. Few
        positions share a pool, and the pools of a batch hold different items as far as possible: a single pool for
        all positions would be a coarse sample of the catalogue at each step.
        """
        s = self.settings
        if s.negative_pool is None:
            drawn = self.negatives.shared(domain, s.negatives)
            return self._scores(at, rows, domain, drawn, encode_items(drawn))
        groups = rows.split(SHARED_BY)
        drawn = self.negatives.pools(domain, s.negative_pool, len(groups))
        vectors = encode_items(drawn)
        parts = []
        for group, pool, pool_vectors in zip(groups, drawn, vectors, strict=True):
            parts.append(self._neighbours(self._scores(at, group, domain, pool, pool_vectors)))
        return torch.cat(parts)

    def _scores(self, at: Positions, rows: Tensor, domain: int, drawn: Tensor, vectors: Tensor) -> Tensor:
        """Return the scores [len(rows), N] of the items `drawn` (long [N]), -inf for those that are no negatives.

        `vectors` are the vectors of the drawn items, [N, D].
        """
        scores = _exact(linear(at.states[rows], vectors))
        if at.side is not None:
            scores = scores + at.side[rows].of_items(domain, drawn)
        excluded = at.targets[rows][:, None]
        if at.seen is not None and not self.settings.seen_negatives:
            excluded = torch.cat([at.seen[rows], excluded], 1)
        column = torch.full_like(self.negatives.domain_of, len(drawn))
        column[drawn] = torch.arange(len(drawn), device=drawn.device)
        hits = torch.zeros(len(rows), len(drawn) + 1, dtype=torch.bool, device=drawn.device)
        hits = hits.scatter_(1, column[excluded], True)[:, :-1]
        return scores.masked_fill_(hits, float("-inf"))

    def _neighbours(self, scores: Tensor) -> Tensor:
        """Return the `negatives` columns that follow a random offset in each row, [P, N] -> [P, negatives]."""
        size, count = scores.shape[1], self.settings.negatives
        if size <= count:
            return scores
        first = torch.randint(size, (len(scores), 1), device=scores.device, generator=self.negatives.generator)
        return scores.gather(1, (first + torch.arange(count, device=scores.device)) % size)


def _exact(x: Tensor) -> Tensor:
    """Return bfloat16 as float32, since bfloat16 is too coarse for the terms of a softmax."""
    return x.float() if x.dtype == torch.bfloat16 else x
