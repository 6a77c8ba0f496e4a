"""The part of a score that is no inner product: what a model may add to it, if it has a `SideScore`."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

from torch import Tensor, nn

from edt_cli.models.batch import Batch


class SideScore(nn.Module, ABC):
    """Added to the inner product of state and item vector.

    `weight`: [D, F], of F terms for each domain; small, learned with the rest. `calibrate`: whether the validation
    set weighs them once more after pre-training. `width`: W, numbers of a position's context.
    """

    weight: nn.Parameter
    width: int
    calibrate: bool = False

    def remarks(self) -> list[str]:
        """What its user should know before training: what was asked for and is not had, say."""
        return []

    @abstractmethod
    def context(self, batch: Batch) -> Tensor:
        """long [B, L, W]: all that a score at each position depends on."""

    @abstractmethod
    def of_targets(self, context: Tensor, targets: Tensor, domain: int) -> Tensor:
        """[P] at training positions: context long [P, W], targets long [P], all of `domain`. Nothing in it may come
        from the very interactions that are to be predicted."""

    @abstractmethod
    def terms(self, context: Tensor, domain: int, items: Tensor | None = None) -> list[Tensor]:
        """The F terms of items long [K] of `domain`, or of its whole catalogue: [P, K], or [K] if alike for all."""

    def of_items(self, context: Tensor, domain: int, items: Tensor | None = None) -> Tensor:
        """[P, K]: the weighed sum of `terms`."""
        return self.weighed(self.terms(context, domain, items), domain)

    def weighed(self, terms: list[Tensor], domain: int) -> Tensor:
        score = self.weight[domain, 0] * terms[0]
        for weight, term in zip(self.weight[domain, 1:], terms[1:], strict=True):
            score += weight * term
        return score


@dataclass(frozen=True)
class SideContext:
    """A side score and the context of P positions, long [P, W]."""

    side_score: SideScore
    context: Tensor

    def __getitem__(self, rows: Tensor) -> SideContext:
        return SideContext(self.side_score, self.context[rows])

    def of_targets(self, targets: Tensor, domain: int) -> Tensor:
        return self.side_score.of_targets(self.context, targets, domain)

    def of_items(self, domain: int, items: Tensor | None = None) -> Tensor:
        return self.side_score.of_items(self.context, domain, items)
