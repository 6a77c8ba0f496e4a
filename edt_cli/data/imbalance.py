"""The domain ratio r of section 1, and which domain it is that dominates."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

INF = float("inf")
RATIOS = {"[0,0.5)": (0, 0.5), "[0.5,0.9)": (0.5, 0.9), "[0.9,0.95)": (0.9, 0.95), "[0.95,1]": (0.95, INF)}


def imbalance(counts: np.ndarray) -> np.ndarray:
    """r [U] of item counts [U, D]: |nA - nB| / (nA + nB) for two domains, 0 for a user without items.

    For D domains it is (D max / n - 1) / (D - 1), which is the same at D = 2: 0 where all domains are equal, 1
    where all items are of one. With one domain only r = 1.
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
    """[U]: the domain that has most of a user's items, the first of equals."""
    domains: np.ndarray = counts.argmax(1)
    return domains


def between(values: np.ndarray, spans: Mapping[str, tuple[float, float]]) -> dict[str, np.ndarray]:
    """{label: bool [n]} of spans such as RATIOS: which values lie in low <= value < high."""
    return {label: (values >= low) & (values < high) for label, (low, high) in spans.items()}
