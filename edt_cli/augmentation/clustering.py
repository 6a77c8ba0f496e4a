"""K-means over the item embeddings of each domain (sections 3.2.1 and 3.4.1)."""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import numpy as np
from sklearn.cluster import KMeans
from sklearn.exceptions import ConvergenceWarning
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from edt_cli.data.dataset import TrainingView
from edt_cli.llm.embeddings import ItemEmbeddings

FIT_ITEMS = 50_000
STARTS = 3


@dataclass(frozen=True)
class Clusters:
    """`labels` int64 [N + 1]: an item's cluster within its domain, -1 for padding and items without text.

    For domain d: `centroids[d]` float32 [K_d, d_L], and `medoids[d]` [K_d], the training item nearest to each.
    K_d is less than K where a domain has fewer different items, and 0 where none has text.
    """

    labels: np.ndarray
    centroids: tuple[np.ndarray, ...]
    medoids: tuple[np.ndarray, ...]

    def nearest(self, vectors: np.ndarray, domain: int) -> np.ndarray:
        """The cluster of each vector [n, d_L] of a domain, -1 where the domain has none."""
        return _nearest(self.centroids[domain], vectors)


def cluster_items(view: TrainingView, embeddings: ItemEmbeddings, clusters: int, seed: int) -> Clusters:
    """Cluster each domain's items. Centroids and medoids come from items with text that occur in training.

    Items that training never saw take the nearest centroid. A domain of more than 50,000 items is fitted on a
    seeded sample of that many.
    """
    labels = np.full(view.domains.items + 1, -1)
    centroids, medoids = [], []
    for domain in range(len(view.domains)):
        items = np.array(view.domains.range(domain), dtype=np.int64)
        items = items[embeddings.has_text[items]]
        known = items[np.isin(items, view.training_items)]
        own_centroids, own_medoids = _fit(known, embeddings.vectors, clusters, seed)
        labels[items] = _nearest(own_centroids, embeddings.vectors[items])
        centroids.append(own_centroids)
        medoids.append(own_medoids)
    return Clusters(labels, tuple(centroids), tuple(medoids))


def _nearest(centroids: np.ndarray, vectors: np.ndarray) -> np.ndarray:
    if not len(centroids):
        return np.full(len(vectors), -1)
    clusters: np.ndarray = (vectors @ centroids.T - (centroids**2).sum(1) / 2).argmax(1)
    return clusters


def _fit(items: np.ndarray, vectors: np.ndarray, clusters: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Centroids [K, d_L] and medoids [K] of some items."""
    if not len(items):
        return np.zeros((0, vectors.shape[1]), np.float32), np.zeros(0, np.int64)
    if len(items) > FIT_ITEMS:
        items = np.sort(np.random.default_rng(seed).choice(items, FIT_ITEMS, replace=False))
    own = vectors[items]
    model = KMeans(min(clusters, len(items)), n_init=STARTS, random_state=seed)
    # One thread: several add up a centroid in an order that differs from run to run.
    with threadpool_limits(1), warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # fewer different items than clusters
        labels = model.fit_predict(own)
    used = np.unique(labels)
    centroids = model.cluster_centers_[used]
    distances = (centroids**2).sum(1)[:, None] / 2 - centroids @ own.T
    return centroids, items[distances.argmin(1)]
