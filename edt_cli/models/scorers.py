"""Scorers: from what is known of n queries to the score of every item of a domain."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from edt_cli.data.dataset import Domains, Sequences
from edt_cli.models.kernels import linear
from edt_cli.models.side_score import SideContext


class Scorer(Protocol):
    def scores(self, rows: Tensor, domain: int) -> Tensor:
        """[len(rows), N_d]: the score of every catalogue item of `domain`, in a tensor of the caller's own."""
        ...


class Recommender(Protocol):
    """A system that can be asked: a trained model, or one that has nothing to train."""

    def scorer(self, inputs: Sequences, domains: np.ndarray) -> Scorer:
        """For n histories, each asked for the domain domains[row]. `inputs`: items of the catalogue, and the
        pseudo-items that this system was trained with."""
        ...


@dataclass(frozen=True)
class InnerProduct:
    """states: [n, D], a row a query; items: [1 + N, D]."""

    domains: Domains
    states: Tensor
    items: Tensor

    def scores(self, rows: Tensor, domain: int) -> Tensor:
        items = self.domains.range(domain)
        return linear(self.states[rows.to(self.states.device)], self.items[items.start : items.stop])


@dataclass(frozen=True)
class SideScored:
    """The inner product and a side score; `side` has a row a query."""

    vectors: InnerProduct
    side: SideContext

    def scores(self, rows: Tensor, domain: int) -> Tensor:
        with torch.no_grad():
            side = self.side[rows.to(self.side.context.device)].of_items(domain)
            return self.vectors.scores(rows, domain).add_(side)


def vector_scorer(vectors: InnerProduct, side: SideContext | None) -> InnerProduct | SideScored:
    return vectors if side is None else SideScored(vectors, side)


@dataclass(frozen=True)
class Ensemble:
    """The sum of several systems' scores, each on the scale of its own spread over a user's items."""

    scorers: Sequence[Scorer]

    def scores(self, rows: Tensor, domain: int) -> Tensor:
        found = [scorer.scores(rows, domain) for scorer in self.scorers]
        return torch.stack([one / one.std(1, keepdim=True).clamp_min(1e-12) for one in found]).sum(0)
