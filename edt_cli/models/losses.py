"""Losses over real positions.

Scores are inner products. Every loss is a mean, so that the weights of its terms do not depend on the batch size.
Where several processes train together, it is the mean over the batch of all of them, and a contrast is with the
rows of all of them.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from edt_cli.distributed.losses import gathered, over_all
from edt_cli.models.kernels import TWICE, linear
from edt_cli.models.typed import Function


def mean(losses: Tensor) -> Tensor:
    """Return the mean over positions; 0 if there are none, as in a batch of users with one item each."""
    return over_all(losses.sum(), len(losses))


def _mean_of_gathered(losses: Tensor) -> Tensor:
    """Return the mean over rows that are those of all processes already; 0 if there are none."""
    return losses.sum() / max(1, len(losses))


def bpr(states: Tensor, positive: Tensor, negative: Tensor) -> Tensor:
    """BPR, eq. 9 and 12: the mean of -log sigmoid(P(v+) - P(v-)).

    Args:
        states: [P, D].
        positive: [P, D], vectors of the targets.
        negative: [P, K, D], vectors of K negatives for each position.

    Returns:
        [P], the mean over the negatives of each position.
    """
    difference = positive.unsqueeze(1) - negative
    return -F.logsigmoid((difference * states.unsqueeze(1)).sum(-1)).mean(1)


def bce(states: Tensor, positive: Tensor, negative: Tensor) -> Tensor:
    """Binary cross entropy (SASRec, eq. 7), averaged over the negatives; shapes as in `bpr`.

    The loss is -log sigmoid(P(v+)) - log(1 - sigmoid(P(v-))).
    """
    score_positive = (states * positive).sum(-1)
    score_negative = (states.unsqueeze(1) * negative).sum(-1)
    return -F.logsigmoid(score_positive) - F.logsigmoid(-score_negative).mean(1)


def top1(states: Tensor, positive: Tensor, negative: Tensor) -> Tensor:
    """TOP1 (GRU4Rec, section 3.1.2); shapes as in `bpr`.

    The loss is the mean of sigmoid(P(v-) - P(v+)) + sigmoid(P(v-)^2).
    """
    target, others = _scores(states, positive, negative)
    return (torch.sigmoid(others - target) + torch.sigmoid(others.square())).mean(1)


def bpr_max(states: Tensor, positive: Tensor, negative: Tensor) -> Tensor:
    """BPR-max without its score regularisation (Hidasi and Karatzoglou, CIKM '18); shapes as in `bpr`.

    The loss is -log of the mean of sigmoid(P(v+) - P(v-)), weighted by the softmax of the negatives' scores.
    """
    target, others = _scores(states, positive, negative)
    return -torch.logsumexp(others.log_softmax(1) + F.logsigmoid(target - others), 1)


def _scores(states: Tensor, positive: Tensor, negative: Tensor) -> tuple[Tensor, Tensor]:
    """Return the scores of the targets [P, 1] and of the negatives [P, K]."""
    return (states * positive).sum(-1, keepdim=True), (negative @ states.unsqueeze(-1)).squeeze(-1)


def sampled_softmax(positive: Tensor, others: Tensor) -> Tensor:
    """Cross entropy of the positive against negatives: -log (exp(p) / (exp(p) + sum of exp(others))).

    It is a single operator because `others` is by far the largest tensor of training: two tensors of its size are
    held in memory, where autograd would hold six.

    Args:
        positive: p, the scores [P] of the targets.
        others: [P, K], the scores of the negatives; -inf for those that do not count.

    Returns:
        [P].
    """
    if TWICE.get():
        return torch.logaddexp(positive, torch.logsumexp(others, 1)) - positive
    return _SharedSoftmax.apply(positive, others)


class _SharedSoftmax(Function):
    @staticmethod
    def forward(ctx: Any, positive: Tensor, others: Tensor) -> Tensor:
        highest = torch.maximum(positive, others.amax(1))
        ctx.others = (others - highest[:, None]).exp_()
        ctx.positive = (positive - highest).exp()
        ctx.total = ctx.positive + ctx.others.sum(1)
        losses: Tensor = ctx.total.log() + highest - positive
        return losses

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor]:
        share = gradient / ctx.total
        return share * ctx.positive - gradient, ctx.others.mul_(share[:, None])


def alignment(users: Tensor, profiles: Tensor, temperature: float) -> Tensor:
    """L_align, eq. 13 with both directions added: InfoNCE on cosines, the denominator without i = j.

    Args:
        users: [B, D], user states.
        profiles: [B, D], the adapted profile of each user.
        temperature: Divides the cosines.

    Returns:
        A scalar; 0 for a batch of one user, which has no negatives.
    """
    users, profiles = gathered(users), gathered(profiles)
    if len(users) < 2:
        return users.sum() * 0.0
    cosines = F.normalize(users, dim=1) @ F.normalize(profiles, dim=1).T / temperature
    matching = cosines.diagonal()
    others = cosines.masked_fill(torch.eye(len(users), dtype=torch.bool, device=users.device), float("-inf"))
    both = torch.logsumexp(others, 1) + torch.logsumexp(others, 0)
    return (both - 2 * matching).mean()


def nt_xent(one: Tensor, other: Tensor, temperature: float) -> Tensor:
    """Normalised temperature-scaled cross entropy: `two_views` with cosines."""
    return two_views(F.normalize(one, dim=1), F.normalize(other, dim=1), temperature)


def two_views(one: Tensor, other: Tensor, temperature: float) -> Tensor:
    """Contrastive loss of two views of n things: each vector must find its other view among 2n - 1 vectors.

    Args:
        one: [n, D], the first view of each.
        other: [n, D], the second view.
        temperature: Divides the inner products.

    Returns:
        A scalar; 0 if n is 0.
    """
    one, other = gathered(one), gathered(other)
    views = torch.cat([one, other])
    scores = linear(views / temperature, views)
    # Mask the vector itself and its other view, whose score `sampled_softmax` gets as `positive`. Masked scores
    # have no gradient.
    with torch.no_grad():
        for offset in (0, len(one), -len(one)):
            scores.diagonal(offset).fill_(float("-inf"))
    positive = (one * other).sum(1) / temperature
    if not len(one):
        return positive.sum()
    return _mean_of_gathered(sampled_softmax(torch.cat([positive, positive]), scores))


def soft_contrast(one: Tensor, other: Tensor, temperature: float) -> Tensor:
    """Contrastive loss with soft targets, the mean of both directions.

    It is the cross entropy of softmax(one other^T / t) against softmax((one one^T + other other^T) t / 2), so that
    similar rows are pushed apart less.

    Args:
        one: [B, D], the first view of each.
        other: [B, D], the second view.
        temperature: t.

    Returns:
        A scalar; 0 for an empty batch.
    """
    one, other = gathered(one), gathered(other)
    scores = one @ other.T / temperature
    alike = ((one @ one.T + other @ other.T) * temperature / 2).softmax(1)
    forth, back = (alike * scores.log_softmax(1)).sum(1), (alike * scores.log_softmax(0)).sum(0)
    return -_mean_of_gathered(forth + back) / 2
