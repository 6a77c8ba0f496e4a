"""Losses over real positions. Scores are inner products; every loss is a mean, so that weights weigh something."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from edt_cli.models.layers import linear


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


def sampled_softmax(states: Tensor, positive: Tensor, negative: Tensor, hits: Tensor, temperature: float) -> Tensor:
    """Cross entropy of the positive against shared negatives.

    states, positive: [P, D]; negative: [K, D]; hits: bool [P, K], negatives that are the position's own positive
    and therefore count for nothing. Returns [P].
    """
    own = (states * positive).sum(-1, keepdim=True)
    others = linear(states, negative).masked_fill(hits, float("-inf"))
    logits = torch.cat([own, others], 1) / temperature
    return torch.logsumexp(logits, 1) - logits[:, 0]


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
