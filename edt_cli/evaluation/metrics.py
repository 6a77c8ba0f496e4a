"""HR@k, NDCG@k and MRR of ranks."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from edt_cli.config import CUTOFFS


def ranking_metrics(ranks: np.ndarray, cutoffs: Sequence[int] = CUTOFFS) -> dict[str, float]:
    """Compute HR@k, NDCG@k and MRR, averaged over users with one relevant item each.

    HR@k is the share of ranks <= k, NDCG@k the mean of 1 / log2(1 + rank) if rank <= k, else 0, and MRR the mean of
    1 / rank.

    Args:
        ranks: [n], n > 0; they start from 1, with half steps at ties.
        cutoffs: The values of k.
    """
    out: dict[str, float] = {}
    gain = 1.0 / np.log2(1.0 + ranks)
    for k in cutoffs:
        hit = ranks <= k
        out[f"hr@{k}"] = float(hit.mean())
        out[f"ndcg@{k}"] = float((gain * hit).mean())
    out["mrr"] = float((1.0 / ranks).mean())
    return out
