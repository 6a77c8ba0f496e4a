"""Side scores: an optional part of a model's score besides the inner product."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

from torch import Tensor, nn

from edt_cli.models.batch import Batch


class SideScore(nn.Module, ABC):
    """A weighted sum of terms that is added to the inner product of state and item vector.

    Attributes:
        weight: [D, F], the weights of F terms for each of D domains, trained with the rest of the model.
        width: W, the length of a position's context.
        calibrate: Whether the weights are fitted again on the validation set after pre-training.
    """

    weight: nn.Parameter
    width: int
    calibrate: bool = False

    def remarks(self) -> list[str]:
        """Return messages for the user before training, for example about options without effect."""
        return []

    @abstractmethod
    def context(self, batch: Batch) -> Tensor:
        """Return all that the side score depends on at each position, long [B, L, W]."""

    @abstractmethod
    def of_targets(self, context: Tensor, targets: Tensor, domain: int) -> Tensor:
        """Return the scores [P] of the targets at training positions.

        They must not use the interactions that are to be predicted.

        Args:
            context: Long [P, W].
            targets: Long [P], all of `domain`.
            domain: The domain.
        """

    @abstractmethod
    def terms(self, context: Tensor, domain: int, items: Tensor | None = None) -> list[Tensor]:
        """Return the F terms for items (long [K], or None: the whole catalogue) of `domain`.

        Each is [P, K], or [K] if it is the same at all positions.
        """

    def of_items(self, context: Tensor, domain: int, items: Tensor | None = None) -> Tensor:
        """Return the weighted sum of `terms`, [P, K]."""
        return self.weighted(self.terms(context, domain, items), domain)

    def weighted(self, terms: list[Tensor], domain: int) -> Tensor:
        """Return the sum of the terms with the weights of `domain`."""
        score = self.weight[domain, 0] * terms[0]
        for weight, term in zip(self.weight[domain, 1:], terms[1:], strict=True):
            score += weight * term
        return score


@dataclass(frozen=True)
class SideContext:
    """A side score with the context of P positions, long [P, W]."""

    side_score: SideScore
    context: Tensor

    def __getitem__(self, rows: Tensor) -> SideContext:
        return SideContext(self.side_score, self.context[rows])

    def of_targets(self, targets: Tensor, domain: int) -> Tensor:
        """Return the scores [P] of the targets; see `SideScore.of_targets`."""
        return self.side_score.of_targets(self.context, targets, domain)

    def of_items(self, domain: int, items: Tensor | None = None) -> Tensor:
        """Return the scores [P, K] of items; see `SideScore.of_items`."""
        return self.side_score.of_items(self.context, domain, items)
