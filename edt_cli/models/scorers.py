"""Scorers: for n queries, the score of every item of a domain."""

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
    """The scores of n queries."""

    def scores(self, rows: Tensor, domain: int) -> Tensor:
        """Return the scores of all catalogue items of `domain` for some queries, [len(rows), N_d].

        The caller may modify the tensor in place.
        """
        ...


class Recommender(Protocol):
    """A system that can score items: a trained model, or one that needs no training."""

    def scorer(self, inputs: Sequences, domains: np.ndarray) -> Scorer:
        """Return the scorer of n queries.

        Args:
            inputs: n histories, of catalogue items and the pseudo-items that this system was trained with.
            domains: [n], the domain that each history is queried in.
        """
        ...


@dataclass(frozen=True)
class InnerProduct:
    """Scores as inner products of states [n, D], one row per query, and item vectors [1 + N, D]."""

    domains: Domains
    states: Tensor
    items: Tensor

    def scores(self, rows: Tensor, domain: int) -> Tensor:
        items = self.domains.range(domain)
        return linear(self.states[rows.to(self.states.device)], self.items[items.start : items.stop])


@dataclass(frozen=True)
class SideScored:
    """The inner product plus a side score; `side` has one row per query."""

    vectors: InnerProduct
    side: SideContext

    def scores(self, rows: Tensor, domain: int) -> Tensor:
        with torch.no_grad():
            side = self.side[rows.to(self.side.context.device)].of_items(domain)
            return self.vectors.scores(rows, domain).add_(side)


def vector_scorer(vectors: InnerProduct, side: SideContext | None) -> InnerProduct | SideScored:
    """Add a side score to the inner products, if there is one."""
    return vectors if side is None else SideScored(vectors, side)


@dataclass(frozen=True)
class Ensemble:
    """The sum of several systems' scores, each divided by its standard deviation over the items of a query."""

    scorers: Sequence[Scorer]

    def scores(self, rows: Tensor, domain: int) -> Tensor:
        each = [scorer.scores(rows, domain) for scorer in self.scorers]
        return torch.stack([scores / scores.std(1, keepdim=True).clamp_min(1e-12) for scores in each]).sum(0)
