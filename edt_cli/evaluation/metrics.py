"""HR@k, NDCG@k and MRR of ranks; coverage and popularity of recommended items."""

from __future__ import annotations

import numpy as np

CUTOFFS = (5, 10, 20)
TOP = 10


def ranking_metrics(ranks: np.ndarray) -> dict[str, float]:
    """Compute HR@k, NDCG@k and MRR, averaged over users with one relevant item each.

    HR@k is the share of ranks <= k, NDCG@k the mean of 1 / log2(1 + rank) if rank <= k, else 0, and MRR the mean of
    1 / rank.

    Args:
        ranks: [n], n > 0; they start from 1, with half steps at ties.
    """
    out: dict[str, float] = {}
    gain = 1.0 / np.log2(1.0 + ranks)
    for k in CUTOFFS:
        hit = ranks <= k
        out[f"hr@{k}"] = float(hit.mean())
        out[f"ndcg@{k}"] = float((gain * hit).mean())
    out["mrr"] = float((1.0 / ranks).mean())
    return out


def list_metrics(top: np.ndarray, catalogue_size: int, popularity: np.ndarray) -> dict[str, float]:
    """Compute coverage@10 and popularity@10 of recommended items.

    coverage@10 is the share of the domain's items that are recommended to any user, popularity@10 the mean number
    of training interactions of a recommended item.

    Args:
        top: [n, 10] item numbers, 0 for none.
        catalogue_size: Number of items in the domain.
        popularity: [1 + N], training interactions of each item.
    """
    recommended = top[:, :TOP][top[:, :TOP] > 0]
    if not len(recommended):
        return {f"coverage@{TOP}": 0.0, f"popularity@{TOP}": 0.0}
    return {
        f"coverage@{TOP}": len(np.unique(recommended)) / catalogue_size,
        f"popularity@{TOP}": float(popularity[recommended].mean()),
    }
