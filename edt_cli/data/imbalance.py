"""The domain imbalance r of section 1, and the dominant domain of a user."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

INF = float("inf")
RATIOS = {"[0,0.5)": (0, 0.5), "[0.5,0.9)": (0.5, 0.9), "[0.9,0.95)": (0.9, 0.95), "[0.95,1]": (0.95, INF)}


def imbalance(counts: np.ndarray) -> np.ndarray:
    """Compute r [U] from item counts [U, D].

    For two domains r = |nA - nB| / (nA + nB). For D domains it is (D max / n - 1) / (D - 1), which is the same for
    D = 2: 0 if all domains have equally many items, 1 if all items are of one domain. With a single domain, r = 1.
    A user without items has r = 0.
    """
    total: NDArray[np.int64] = counts.sum(1)
    domains = counts.shape[1]
    if domains == 1:
        return (total > 0).astype(float)
    spread = domains * counts.max(1) - total
    ratios = np.zeros(len(counts))
    np.divide(spread, total * (domains - 1), out=ratios, where=total > 0)
    return ratios


def dominant(counts: np.ndarray) -> np.ndarray:
    """Return the domain with most of each user's items, the first of equals: [U]."""
    domains: np.ndarray = counts.argmax(1)
    return domains


def between(values: np.ndarray, spans: Mapping[str, tuple[float, float]]) -> dict[str, np.ndarray]:
    """Return which values lie in each span (low <= value < high), such as RATIOS: {label: bool [n]}."""
    return {label: (values >= low) & (values < high) for label, (low, high) in spans.items()}
