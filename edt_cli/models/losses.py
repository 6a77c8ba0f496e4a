"""Losses over real positions. Scores are inner products; every loss is a mean, so that weights weigh something."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F


def mean(losses: Tensor) -> Tensor:
    """Over positions; 0 for a batch of users with one item each, which has none."""
    return losses.sum() / max(1, len(losses))


def bpr(states: Tensor, positive: Tensor, negative: Tensor) -> Tensor:
    """Eq. 9 and 12: the mean of -log sigmoid(P(v+) - P(v-)).

    states, positive: [P, D]; negative: [P, K, D]. Returns [P]: one loss a position, the mean over its negatives.
    """
    difference = positive.unsqueeze(1) - negative
    return -F.logsigmoid((difference * states.unsqueeze(1)).sum(-1)).mean(1)


def bce(states: Tensor, positive: Tensor, negative: Tensor) -> Tensor:
    """SASRec, eq. 7: -log sigmoid(P(v+)) - log(1 - sigmoid(P(v-))), the mean over negatives. Shapes as `bpr`."""
    score_positive = (states * positive).sum(-1)
    score_negative = (states.unsqueeze(1) * negative).sum(-1)
    return -F.logsigmoid(score_positive) - F.logsigmoid(-score_negative).mean(1)


def sampled_softmax(own: Tensor, others: Tensor) -> Tensor:
    """Cross entropy of the positive against shared negatives: -log (exp(own) / (exp(own) + sum of exp(others))).

    own: [P]; others: [P, K], -inf for what counts for nothing. Returns [P]. Written as one step because `others`
    is by far the largest tensor of training: two of its size are held, where autograd would hold six.
    """
    return _SharedSoftmax.apply(own, others)


class _SharedSoftmax(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, own: Tensor, others: Tensor) -> Tensor:
        highest = torch.maximum(own, others.amax(1))
        ctx.others = (others - highest[:, None]).exp_()
        ctx.own = (own - highest).exp()
        ctx.total = ctx.own + ctx.others.sum(1)
        return ctx.total.log() + highest - own

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor]:
        share = gradient / ctx.total
        return share * ctx.own - gradient, ctx.others.mul_(share[:, None])


def alignment(users: Tensor, profiles: Tensor, temperature: float) -> Tensor:
    """L_align, eq. 13 with both directions added: InfoNCE on cosines, the denominator without i = j.

    users, profiles: [B, D]. Returns a scalar; 0 for a batch of one, which has no negatives.
    """
    if len(users) < 2:
        return users.sum() * 0.0
    cosines = F.normalize(users, dim=1) @ F.normalize(profiles, dim=1).T / temperature
    own = cosines.diagonal()
    others = cosines.masked_fill(torch.eye(len(users), dtype=torch.bool, device=users.device), float("-inf"))
    both = torch.logsumexp(others, 1) + torch.logsumexp(others, 0)
    return (both - 2 * own).mean()


def soft_contrast(one: Tensor, other: Tensor, temperature: float) -> Tensor:
    """Contrast with soft targets, both directions averaged: the cross entropy of softmax(one other^T / t) against
    softmax((one one^T + other other^T) t / 2), so that rows that are alike are less pushed apart.

    one, other: [B, D]. Returns a scalar; 0 for a batch of none.
    """
    scores = one @ other.T / temperature
    alike = ((one @ one.T + other @ other.T) * temperature / 2).softmax(1)
    forth, back = (alike * scores.log_softmax(1)).sum(1), (alike * scores.log_softmax(0)).sum(0)
    return -mean(forth + back) / 2
