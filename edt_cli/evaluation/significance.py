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


def equivalence(first: np.ndarray, second: np.ndarray, margin: float) -> float:
    """Compute the p-value of the two one-sided tests (TOST) of whether two means are the same within a margin.

    They are paired t-tests over users, of whether the mean of `second` is above (1 - margin) times that of `first`
    and below (1 + margin) times it; the larger of their p-values counts (Schuirmann 1987; with a margin that is a
    share of the mean, Sasabuchi 1988).

    Args:
        first: [n], a value per user.
        second: [n], the same users in the same order.
        margin: Share of the mean of `first`, such as 0.05.
    """
    return max(paired_t((1 - margin) * first, second), paired_t(second, (1 + margin) * first))


def nonequivalence(first: np.ndarray, second: np.ndarray, margin: float) -> float:
    """Compute the p-value of whether two means differ by more than a margin, to either side.

    Args:
        first: [n], a value per user.
        second: [n], the same users in the same order.
        margin: Share of the mean of `first`.
    """
    sides = paired_t((1 + margin) * first, second), paired_t(second, (1 - margin) * first)
    return min(1.0, 2 * min(sides))


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


Pair = tuple[np.ndarray, np.ndarray]
"""Values of two systems for the users of a group: (of the first [n], of the second [n])."""


def relative_gain(pair: Pair) -> float:
    """Return the gain of the second mean over the first, as a share of the first.

    Raises:
        ValueError: If the first mean is 0.
    """
    first, second = pair
    if not first.any():
        raise ValueError("a relative gain needs a first mean above 0")
    return float(second.mean() / first.mean()) - 1


def gains_bootstrap(group: Pair, rest: Pair, *, seed: int = 42, level: float = 0.95) -> Difference:
    """Bootstrap by how much the relative gain is larger in one group of users than in another.

    Users are drawn with replacement within each group, each with the values of both systems. The interval is the
    percentile interval of relative_gain(group) - relative_gain(rest); no user may be in both groups.

    Args:
        group: Values of the group that is said to gain more.
        rest: Values of the other group.
        seed: Random seed of the draws.
        level: Level of the confidence interval.

    Raises:
        ValueError: If a first mean is 0, or is in a draw as too few users have a value above 0.
    """
    generator = np.random.default_rng(seed)
    ratios = []
    for first, second in (group, rest):
        values, counts = np.unique(np.stack([first, second], axis=1), axis=0, return_counts=True)
        sums = generator.multinomial(len(first), counts / len(first), size=SAMPLES) @ values
        if not sums[:, 0].all():
            raise ValueError("too few users have a value above 0 for a relative gain")
        ratios.append(sums[:, 1] / sums[:, 0])
    low, high = np.quantile(ratios[0] - ratios[1], [(1 - level) / 2, (1 + level) / 2])
    users = len(group[0]) + len(rest[0])
    mean = relative_gain(group) - relative_gain(rest)
    return Difference(mean=mean, low=float(low), high=float(high), users=users, level=level)


def gains_t(group: Pair, rest: Pair) -> float:
    """Compute the one-sided p-value of whether the relative gain is larger in one group of users than in another.

    The ratio of two means varies as the mean of (second - ratio * first) / mean(first) over users does (the delta
    method); the groups are independent, and the degrees of freedom are Welch's.

    Args:
        group: Values of the group that is said to gain more.
        rest: Values of the other group; no user may be in both.

    Returns:
        The p-value; 1 if a group has fewer than two users, or nothing varies.
    """
    variances, sizes = [], []
    for first, second in (group, rest):
        if len(first) < 2:
            return 1.0
        influence = (second - (1 + relative_gain((first, second))) * first) / first.mean()
        variances.append(float(influence.var(ddof=1)) / len(first))
        sizes.append(len(first) - 1)
    total = sum(variances)
    if total == 0:
        return 1.0
    freedom = total**2 / sum(variance**2 / size for variance, size in zip(variances, sizes, strict=True))
    return float(stdtr(freedom, -(relative_gain(group) - relative_gain(rest)) / math.sqrt(total)))


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
