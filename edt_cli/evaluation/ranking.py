"""One scoring pass over all targets: their rank under every protocol, and what would be recommended."""

from __future__ import annotations

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
"""Above this float32 cannot count in ones."""


class Diverged(UserError):
    """A loss or a score is no number."""


@dataclass(frozen=True)
class Ranks:
    """full, sampled: float64 [n], 1 is best, half steps at ties (sampled: None if not asked for).
    top: int64 [n, k], the item numbers that would be recommended, best first, 0 where the domain has fewer."""

    full: np.ndarray
    sampled: np.ndarray | None
    top: np.ndarray


def rank(
    scorer: Scorer,
    asked: EvalQueries,
    *,
    candidates: np.ndarray | None = None,
    top: int = 0,
) -> Ranks:
    """Rank = 1 + candidates that score higher + half of those that score the same.

    Candidates: `full`, every catalogue item of the target's domain but those that `asked` excludes; `sampled`, the
    columns `candidates` [n, N]. Errors: Diverged for a score that is no number.
    """
    full = np.zeros(len(asked))
    sampled = None if candidates is None else np.zeros(len(asked))
    best = np.zeros((len(asked), top), dtype=np.int64)
    for domain in range(len(asked.domains)):
        start = asked.domains.range(domain).start
        for rows in chunks(np.flatnonzero(asked.targets.domains == domain), CHUNK):
            scores = scorer.scores(torch.from_numpy(rows), domain)
            if not torch.isfinite(scores.sum()):
                raise Diverged(
                    "a score is no number: training diverged (lower the learning rate), or the weights are damaged"
                )
            columns = torch.from_numpy(asked.target_columns[rows]).to(scores.device)
            own = scores.gather(1, columns[:, None])
            if sampled is not None and candidates is not None:
                drawn = torch.from_numpy(candidates[rows]).long().to(scores.device)
                others = scores.gather(1, drawn.clamp_min(0)).masked_fill(drawn < 0, float("-inf"))
                sampled[rows] = _rank(others, own).cpu().numpy()
            place, column = (torch.from_numpy(a).to(scores.device) for a in asked.excluded(rows, domain))
            scores[place, column] = float("-inf")
            if top:
                values, order = scores.topk(min(top, scores.shape[1]), dim=1)
                items = torch.where(torch.isfinite(values), order + start, 0)
                best[rows, : items.shape[1]] = items.cpu().numpy()
            # The target stands among `scores` and ties with itself: half a step too much.
            full[rows] = (_rank(scores, own) - 0.5).cpu().numpy()
    return Ranks(full, sampled, best)


def _rank(scores: Tensor, own: Tensor) -> Tensor:
    """With N scores, higher + equal / 2 = (N + higher - lower) / 2: one pass, which uses `scores` up."""
    count = scores.shape[1]
    exact = torch.float32 if count < COUNTED else torch.float64
    return 1.0 + (count + scores.sub_(own).sign_().sum(1, dtype=exact).double()) / 2
