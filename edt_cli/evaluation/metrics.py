"""HR@k, NDCG@k and MRR from ranks; coverage and popularity from what is recommended."""

from __future__ import annotations

import numpy as np

CUTOFFS = (5, 10, 20)
TOP = 10


def ranking_metrics(ranks: np.ndarray) -> dict[str, float]:
    """Means over users. One relevant item each: HR@k = share with rank <= k, NDCG@k = mean of 1 / log2(1 + rank)
    over those and 0 for others, MRR = mean of 1 / rank. ranks: [n], n > 0, from 1, half steps at ties."""
    out: dict[str, float] = {}
    gain = 1.0 / np.log2(1.0 + ranks)
    for k in CUTOFFS:
        hit = ranks <= k
        out[f"hr@{k}"] = float(hit.mean())
        out[f"ndcg@{k}"] = float((gain * hit).mean())
    out["mrr"] = float((1.0 / ranks).mean())
    return out


def list_metrics(top: np.ndarray, catalogue_size: int, popularity: np.ndarray) -> dict[str, float]:
    """coverage@10: share of the domain's items that anybody is recommended; popularity@10: mean training
    interactions of a recommended item. top: [n, 10] item numbers, 0 for none; popularity: [1 + N]."""
    recommended = top[:, :TOP][top[:, :TOP] > 0]
    if not len(recommended):
        return {f"coverage@{TOP}": 0.0, f"popularity@{TOP}": 0.0}
    return {
        f"coverage@{TOP}": len(np.unique(recommended)) / catalogue_size,
        f"popularity@{TOP}": float(popularity[recommended].mean()),
    }
