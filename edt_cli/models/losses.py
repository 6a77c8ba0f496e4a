"""Losses over real positions. Scores are inner products; every loss is a mean, so that weights weigh something."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from edt_cli.models.kernels import TWICE, linear
from edt_cli.models.typed import Function


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


def top1(states: Tensor, positive: Tensor, negative: Tensor) -> Tensor:
    """GRU4Rec, section 3.1.2: the mean of sigmoid(P(v-) - P(v+)) + sigmoid(P(v-)^2). Shapes as `bpr`."""
    own, others = _scores(states, positive, negative)
    return (torch.sigmoid(others - own) + torch.sigmoid(others.square())).mean(1)


def bpr_max(states: Tensor, positive: Tensor, negative: Tensor) -> Tensor:
    """GRU4Rec with top-k gains (Hidasi and Karatzoglou, CIKM '18), without its regularisation of scores: -log of
    the mean of sigmoid(P(v+) - P(v-)) weighed by the softmax of the negatives' scores. Shapes as `bpr`."""
    own, others = _scores(states, positive, negative)
    return -torch.logsumexp(others.log_softmax(1) + F.logsigmoid(own - others), 1)


def _scores(states: Tensor, positive: Tensor, negative: Tensor) -> tuple[Tensor, Tensor]:
    """[P, 1] and [P, K]."""
    return (states * positive).sum(-1, keepdim=True), (negative @ states.unsqueeze(-1)).squeeze(-1)


def sampled_softmax(own: Tensor, others: Tensor) -> Tensor:
    """Cross entropy of the positive against shared negatives: -log (exp(own) / (exp(own) + sum of exp(others))).

    own: [P]; others: [P, K], -inf for what counts for nothing. Returns [P]. Written as one step because `others`
    is by far the largest tensor of training: two of its size are held, where autograd would hold six.
    """
    if TWICE.get():
        return torch.logaddexp(own, torch.logsumexp(others, 1)) - own
    return _SharedSoftmax.apply(own, others)


class _SharedSoftmax(Function):
    @staticmethod
    def forward(ctx: Any, own: Tensor, others: Tensor) -> Tensor:
        highest = torch.maximum(own, others.amax(1))
        ctx.others = (others - highest[:, None]).exp_()
        ctx.own = (own - highest).exp()
        ctx.total = ctx.own + ctx.others.sum(1)
        losses: Tensor = ctx.total.log() + highest - own
        return losses

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


def nt_xent(one: Tensor, other: Tensor, temperature: float) -> Tensor:
    """`two_views` by cosines: normalised temperature-scaled cross entropy."""
    return two_views(F.normalize(one, dim=1), F.normalize(other, dim=1), temperature)


def two_views(one: Tensor, other: Tensor, temperature: float) -> Tensor:
    """Contrast of two views of n things: each view of each finds its other view among the 2n - 1 other vectors.

    one, other: [n, D], compared by inner products. Returns a scalar; 0 of none.
    """
    views = torch.cat([one, other])
    scores = linear(views / temperature, views)
    # Itself and its other view, which `sampled_softmax` has from `own`; what counts for nothing has no gradient.
    with torch.no_grad():
        for places in (0, len(one), -len(one)):
            scores.diagonal(places).fill_(float("-inf"))
    own = (one * other).sum(1) / temperature
    return mean(sampled_softmax(torch.cat([own, own]), scores)) if len(one) else own.sum()


def soft_contrast(one: Tensor, other: Tensor, temperature: float) -> Tensor:
    """Contrast with soft targets, both directions averaged: the cross entropy of softmax(one other^T / t) against
    softmax((one one^T + other other^T) t / 2), so that rows that are alike are less pushed apart.

    one, other: [B, D]. Returns a scalar; 0 for a batch of none.
    """
    scores = one @ other.T / temperature
    alike = ((one @ one.T + other @ other.T) * temperature / 2).softmax(1)
    forth, back = (alike * scores.log_softmax(1)).sum(1), (alike * scores.log_softmax(0)).sum(0)
    return -mean(forth + back) / 2
