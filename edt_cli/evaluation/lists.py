"""Lists of recommended items beyond accuracy: coverage, popularity, novelty, concentration and diversity."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from edt_cli.data.dataset import TrainingView
from edt_cli.workspace.documents import Figures

TOP = 10
"""Length of the lists."""
ROWS = 1024
"""Lists whose text vectors are looked at together."""


@dataclass(frozen=True)
class Known:
    """What is known of the items that are recommended.

    Attributes:
        popularity: [1 + N], training interactions of each item.
        buyers: [1 + N], users who have each item in training.
        users: Number of users.
        vectors: Text vectors [1 + N, d_L], zero for items without text; None if the items have none.
    """

    popularity: np.ndarray
    buyers: np.ndarray
    users: int
    vectors: np.ndarray | None = None

    @classmethod
    def of(cls, view: TrainingView, vectors: np.ndarray | None = None) -> Known:
        """Count what a training view tells."""
        pairs = np.unique(np.stack([view.prefixes.users, view.prefixes.items]), axis=1)
        buyers = np.bincount(pairs[1], minlength=view.domains.items + 1)
        return cls(view.popularity(), buyers, len(view.prefixes), vectors)


def list_metrics(top: np.ndarray, items: range, known: Known) -> Figures:
    """Compute the metrics of lists, which no target enters.

    - coverage@10: the share of the items that are recommended to any user.
    - popularity@10: the mean number of training interactions of a recommended item.
    - novelty@10: the mean of -log2 of the share of users who have a recommended item in training; an item of nobody
      counts as one of a single user (Zhou et al., PNAS 2010).
    - gini@10: the Gini index of how often each of the items is recommended; 0 if all are equally often, near 1 if
      few make up all lists.
    - ild@10: the mean over lists of the mean of 1 - cosine over all pairs of a list's text vectors (Ziegler et al.,
      WWW 2005); items without text are left out, and so are lists with fewer than two others.

    Args:
        top: [n, 10] item numbers, 0 for none.
        items: The items that can be recommended: those of the domain.
        known: What is known of all items.

    Returns:
        None for what cannot be told: `novelty@10` and `gini@10` without any list, `ild@10` without text vectors.
    """
    top = top[:, :TOP]
    recommended = top[top > 0]
    counts = np.bincount(recommended, minlength=items.stop)[items.start :]
    some = len(recommended) > 0
    return {
        f"coverage@{TOP}": float((counts > 0).mean()),
        f"popularity@{TOP}": float(known.popularity[recommended].mean()) if some else 0.0,
        f"novelty@{TOP}": novelty(recommended, known) if some else None,
        f"gini@{TOP}": gini(counts) if some else None,
        f"ild@{TOP}": None if known.vectors is None else diversity(top, known.vectors),
    }


def novelty(recommended: np.ndarray, known: Known) -> float:
    """Compute the mean self-information of items in bits."""
    return float(-np.log2(np.maximum(1, known.buyers[recommended]) / known.users).mean())


def gini(counts: np.ndarray) -> float:
    """Compute the Gini index of counts, at least one of which is not 0.

    It is the mean of |a - b| over all pairs, divided by twice the mean; sorted, this is one sum.
    """
    n = len(counts)
    return float((2 * np.arange(1, n + 1) - n - 1) @ np.sort(counts) / (n * counts.sum()))


def diversity(top: np.ndarray, vectors: np.ndarray) -> float | None:
    """Compute the mean intra-list distance; None if no list has two items with text.

    The cosines of all pairs of m unit vectors sum up to (|their sum|^2 - m) / 2.
    """
    distances = []
    for start in range(0, len(top), ROWS):
        rows = vectors[top[start : start + ROWS]].astype(np.float64)
        norms = np.linalg.norm(rows, axis=2, keepdims=True)
        units = np.divide(rows, norms, out=np.zeros_like(rows), where=norms > 0)
        m = (norms[..., 0] > 0).sum(1)
        lists = m > 1
        m = m[lists]
        similarity = (np.square(units[lists].sum(1)).sum(1) - m) / (m * (m - 1))
        distances.append(1 - similarity)
    found = np.concatenate(distances) if distances else np.zeros(0)
    return float(found.mean()) if len(found) else None
