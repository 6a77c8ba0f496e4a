"""Significance of a difference between two runs, over the sample of users."""

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
    """Mean of second - first over `users`, with its confidence interval at `level`."""

    mean: float
    low: float
    high: float
    users: int
    level: float = 0.95

    @property
    def clear(self) -> bool:
        """Whether the interval excludes zero."""
        return self.low > 0 or self.high < 0


def ndcg_of(ranks: np.ndarray, k: int = 10) -> np.ndarray:
    """Compute NDCG@k of each user, with one relevant item: 1 / log2(1 + rank) if rank <= k, else 0."""
    return np.where(ranks <= k, 1.0 / np.log2(1.0 + ranks), 0.0)


def paired_t(first: np.ndarray, second: np.ndarray) -> float:
    """Compute the one-sided p-value of the paired t-test over users.

    It is the probability of a mean of second - first at least this large if the true mean is not above 0; 1 if
    there are fewer than two users or none of them differs.
    """
    difference = _difference(first, second)
    n, mean = len(difference), float(difference.mean())
    if n < 2 or not difference.any():
        return 1.0
    deviation = float(difference.std(ddof=1))
    if deviation == 0:
        return 0.0 if mean > 0 else 1.0
    return float(stdtr(n - 1, -mean / (deviation / math.sqrt(n))))


def holm(p: Sequence[float]) -> list[float]:
    """Correct p-values for multiple tests by Holm's step-down method.

    The smallest of m values is multiplied by m, the next by m - 1, and so on; no result is below the one before
    it or above 1. The probability that any of the claims below 0.05 is false is then at most 5%.
    """
    order = sorted(range(len(p)), key=lambda i: p[i])
    corrected, lowest = [0.0] * len(p), 0.0
    for rank, i in enumerate(order):
        lowest = corrected[i] = max(lowest, min(1.0, (len(p) - rank) * p[i]))
    return corrected


def _difference(first: NDArray[np.float64], second: NDArray[np.float64]) -> NDArray[np.float64]:
    if first.shape != second.shape or first.ndim != 1 or not len(first):
        raise ValueError("a paired difference needs the same users, at least one, of both runs")
    return second - first


def paired_bootstrap(first: np.ndarray, second: np.ndarray, *, seed: int = 42, level: float = 0.95) -> Difference:
    """Bootstrap the mean of second - first over users, with a percentile interval.

    Users are drawn with replacement, each with the values of both runs.

    Args:
        first: [n], a value per user.
        second: [n], the same users in the same order.
        seed: Random seed of the draws.
        level: Level of the confidence interval.
    """
    difference = _difference(first, second)
    generator = np.random.default_rng(seed)
    n = len(difference)
    # Draw counts of distinct values instead of users: users with equal differences are interchangeable.
    values, counts = np.unique(difference, return_counts=True)
    draws = generator.multinomial(n, counts / n, size=SAMPLES)
    low, high = np.quantile(draws @ values / n, [(1 - level) / 2, (1 + level) / 2])
    return Difference(mean=float(difference.mean()), low=float(low), high=float(high), users=n, level=level)
