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
    """Clusters of the items of each domain.

    The number of clusters K_d of domain d is less than K if the domain has fewer different items, and 0 if none has
    text.

    Attributes:
        labels: An item's cluster within its domain, int64 [N + 1]; -1 for padding and items without text.
        centroids: Centroids float32 [K_d, d_L] of each domain d.
        medoids: Training item nearest to each centroid, [K_d] of each domain d.
    """

    labels: np.ndarray
    centroids: tuple[np.ndarray, ...]
    medoids: tuple[np.ndarray, ...]

    def nearest(self, vectors: np.ndarray, domain: int) -> np.ndarray:
        """Return the cluster of each vector [n, d_L] in a domain, -1 if the domain has none."""
        return _nearest(self.centroids[domain], vectors)


def cluster_items(view: TrainingView, embeddings: ItemEmbeddings, clusters: int, seed: int) -> Clusters:
    """Cluster the items of each domain by their embeddings.

    Centroids and medoids come from items with text that occur in training; other items with text take the nearest
    centroid. A domain of more than 50,000 items is fitted on a seeded sample of that size.
    """
    labels = np.full(view.domains.items + 1, -1)
    centroids, medoids = [], []
    for domain in range(len(view.domains)):
        items = np.array(view.domains.range(domain), dtype=np.int64)
        items = items[embeddings.has_text[items]]
        known = items[np.isin(items, view.training_items)]
        domain_centroids, domain_medoids = _fit(known, embeddings.vectors, clusters, seed)
        labels[items] = _nearest(domain_centroids, embeddings.vectors[items])
        centroids.append(domain_centroids)
        medoids.append(domain_medoids)
    return Clusters(labels, tuple(centroids), tuple(medoids))


def _nearest(centroids: np.ndarray, vectors: np.ndarray) -> np.ndarray:
    if not len(centroids):
        return np.full(len(vectors), -1)
    clusters: np.ndarray = (vectors @ centroids.T - (centroids**2).sum(1) / 2).argmax(1)
    return clusters


def _fit(items: np.ndarray, vectors: np.ndarray, clusters: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Fit centroids [K, d_L] and medoids [K] to items."""
    if not len(items):
        return np.zeros((0, vectors.shape[1]), np.float32), np.zeros(0, np.int64)
    if len(items) > FIT_ITEMS:
        items = np.sort(np.random.default_rng(seed).choice(items, FIT_ITEMS, replace=False))
    item_vectors = vectors[items]
    model = KMeans(min(clusters, len(items)), n_init=STARTS, random_state=seed)
    # One thread: several would sum up a centroid in an order that differs from run to run.
    with threadpool_limits(1), warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # fewer different items than clusters
        labels = model.fit_predict(item_vectors)
    used = np.unique(labels)
    centroids = model.cluster_centers_[used]
    distances = (centroids**2).sum(1)[:, None] / 2 - centroids @ item_vectors.T
    return centroids, items[distances.argmin(1)]
