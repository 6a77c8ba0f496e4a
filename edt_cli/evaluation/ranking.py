"""Ranking of all targets in one scoring pass: ranks under each protocol, and the top items."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from edt_cli.config import UserError
from edt_cli.evaluation.candidates import chunks
from edt_cli.evaluation.queries import EvalQueries
from edt_cli.models.scorers import Scorer

CHUNK = 512
COUNTED = 1 << 24
"""Up to this number, float32 represents every integer."""


class Diverged(UserError):
    """A loss or a score is not a finite number."""


@dataclass(frozen=True)
class Ranks:
    """Ranks of n targets; 1 is best, and ties make half steps."""

    by_protocol: Mapping[str, np.ndarray]
    """float64 [n] each: `full` among all candidates, and those among each given set of them."""
    top: np.ndarray
    """int64 [n, k], the items to recommend, best first, 0 where the domain has too few."""

    @property
    def full(self) -> np.ndarray:
        return self.by_protocol["full"]


def rank(
    scorer: Scorer,
    queries: EvalQueries,
    *,
    candidates: Mapping[str, np.ndarray] | None = None,
    top: int = 0,
) -> Ranks:
    """Rank the target of each query among the candidates.

    A rank is 1 + the number of candidates with a higher score + half the number with the same score.

    Args:
        scorer: The system that scores all items of a domain.
        queries: n queries; `full` ranks among all catalogue items of the target's domain that are not excluded.
        candidates: By protocol, [n, N] columns of the target's domain, among which it ranks; -1 for none.
        top: Number of items to recommend.

    Raises:
        Diverged: If a score is not finite.
    """
    candidates = candidates or {}
    ranks = {protocol: np.zeros(len(queries)) for protocol in ("full", *candidates)}
    best = np.zeros((len(queries), top), dtype=np.int64)
    for domain in range(len(queries.domains)):
        start = queries.domains.range(domain).start
        for rows in chunks(np.flatnonzero(queries.targets.domains == domain), CHUNK):
            scores = scorer.scores(torch.from_numpy(rows), domain)
            if not torch.isfinite(scores.sum()):
                raise Diverged(
                    "a score is no number: training diverged (lower the learning rate), or the weights are damaged"
                )
            columns = torch.from_numpy(queries.target_columns[rows]).to(scores.device)
            target_scores = scores.gather(1, columns[:, None])
            for protocol, of_protocol in candidates.items():
                drawn = torch.from_numpy(of_protocol[rows]).long().to(scores.device)
                others = scores.gather(1, drawn.clamp_min(0)).masked_fill(drawn < 0, float("-inf"))
                ranks[protocol][rows] = _rank(others, target_scores).numpy()
            index, column = (torch.from_numpy(a).to(scores.device) for a in queries.excluded(rows, domain))
            scores[index, column] = float("-inf")
            if top:
                values, order = scores.topk(min(top, scores.shape[1]), dim=1)
                items = torch.where(torch.isfinite(values), order + start, 0)
                best[rows, : items.shape[1]] = items.cpu().numpy()
            # The target is among `scores` and ties with itself, which adds half a step.
            ranks["full"][rows] = (_rank(scores, target_scores) - 0.5).numpy()
    return Ranks(ranks, best)


def _rank(scores: Tensor, target_scores: Tensor) -> Tensor:
    """Count the higher scores and half of the equal ones: higher + equal / 2 = (N + higher - lower) / 2.

    Overwrites `scores`, to need one pass only. The result is on the CPU, since some devices have no float64.
    """
    count = scores.shape[1]
    dtype = torch.float32 if count < COUNTED else torch.int64
    return 1.0 + (count + scores.sub_(target_scores).sign_().sum(1, dtype=dtype).cpu().double()) / 2
