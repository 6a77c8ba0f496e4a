"""Whether a difference between two runs is more than the luck of which users there are."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

SAMPLES = 2000


@dataclass(frozen=True)
class Difference:
    """The mean of second - first over `users`, and the interval that holds it with `level` probability."""

    mean: float
    low: float
    high: float
    users: int
    level: float = 0.95

    @property
    def clear(self) -> bool:
        """The interval does not hold zero."""
        return self.low > 0 or self.high < 0


def ndcg_of(ranks: np.ndarray, k: int = 10) -> np.ndarray:
    """NDCG@k of each user: 1 / log2(1 + rank) where rank <= k, else 0; one relevant item each."""
    return np.where(ranks <= k, 1.0 / np.log2(1.0 + ranks), 0.0)


def paired_bootstrap(first: np.ndarray, second: np.ndarray, *, seed: int = 42, level: float = 0.95) -> Difference:
    """The percentile bootstrap over users of the mean of second - first. first, second: [n], the same users in the
    same order; users are drawn with replacement, both runs' figures of a user together."""
    if first.shape != second.shape or first.ndim != 1 or not len(first):
        raise ValueError("a paired difference needs the same users, at least one, of both runs")
    difference = second - first
    generator = np.random.default_rng(seed)
    n = len(difference)
    # A draw of n users is a multinomial over the differing ones: equal users add nothing wherever they come.
    values, counts = np.unique(difference, return_counts=True)
    draws = generator.multinomial(n, counts / n, size=SAMPLES)
    low, high = np.quantile(draws @ values / n, [(1 - level) / 2, (1 + level) / 2])
    return Difference(float(difference.mean()), float(low), float(high), n, level)
