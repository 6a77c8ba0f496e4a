"""Whether a difference between two runs is more than the luck of which users there are."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtr

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


def paired_t(first: np.ndarray, second: np.ndarray) -> float:
    """p of the paired t-test over users, one-sided: how likely a mean of second - first at least this large is
    where the true one is not above 0. 1 where the users are too few, or no user differs."""
    difference = _difference(first, second)
    n, mean = len(difference), float(difference.mean())
    if n < 2 or not difference.any():
        return 1.0
    deviation = float(difference.std(ddof=1))
    if deviation == 0:
        return 0.0 if mean > 0 else 1.0
    return float(stdtr(n - 1, -mean / (deviation / math.sqrt(n))))


def holm(p: Sequence[float]) -> list[float]:
    """Holm's step-down correction: the smallest of m values times m, the next times m - 1, and so on, none below
    the one before it, none above 1. The chance that any of the claims below 0.05 is false is then at most 5%."""
    order = sorted(range(len(p)), key=lambda i: p[i])
    found, least = [0.0] * len(p), 0.0
    for rank, i in enumerate(order):
        least = found[i] = max(least, min(1.0, (len(p) - rank) * p[i]))
    return found


def _difference(first: NDArray[np.float64], second: NDArray[np.float64]) -> NDArray[np.float64]:
    if first.shape != second.shape or first.ndim != 1 or not len(first):
        raise ValueError("a paired difference needs the same users, at least one, of both runs")
    return second - first


def paired_bootstrap(first: np.ndarray, second: np.ndarray, *, seed: int = 42, level: float = 0.95) -> Difference:
    """The percentile bootstrap over users of the mean of second - first. first, second: [n], the same users in the
    same order; users are drawn with replacement, both runs' figures of a user together."""
    difference = _difference(first, second)
    generator = np.random.default_rng(seed)
    n = len(difference)
    # A draw of n users is a multinomial over the differing ones: equal users add nothing wherever they come.
    values, counts = np.unique(difference, return_counts=True)
    draws = generator.multinomial(n, counts / n, size=SAMPLES)
    low, high = np.quantile(draws @ values / n, [(1 - level) / 2, (1 + level) / 2])
    return Difference(mean=float(difference.mean()), low=float(low), high=float(high), users=n, level=level)
