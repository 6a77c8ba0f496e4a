"""Representatives S_rep of section 3.2.1: for each user and domain one item per cluster."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from edt_cli.augmentation.clustering import Clusters
from edt_cli.data.dataset import Numbers, TrainingView
from edt_cli.llm.embeddings import ItemEmbeddings


@dataclass(frozen=True)
class Cells:
    """Flat rows grouped by user and domain.

    Cell user * D + domain has the rows offsets[cell] .. offsets[cell + 1] - 1.
    """

    offsets: np.ndarray

    def of(self, cell: int) -> slice:
        """Return the rows of a cell."""
        return slice(int(self.offsets[cell]), int(self.offsets[cell + 1]))

    def of_all(self, cells: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the rows of several cells end to end, and for each the index of its cell in `cells`."""
        starts = self.offsets[cells]
        sizes = self.offsets[cells + 1] - starts
        indices = np.repeat(np.arange(len(cells)), sizes)
        return np.arange(len(indices)) - np.repeat(np.cumsum(sizes) - sizes - starts, sizes), indices


@dataclass(frozen=True)
class Representatives(Cells):
    """Representative items [R], within a cell by time; `positions` [R] are in the user's training prefix."""

    positions: np.ndarray
    items: np.ndarray


def find_representatives(
    view: TrainingView,
    embeddings: ItemEmbeddings,
    clusters: Clusters,
    choice: Literal["recent", "centroid"] = "recent",
) -> Representatives:
    """Find S_rep of eq. 4: a user's most recent item of each cluster, or the nearest to its centroid.

    Of equally near items the most recent counts. Items without text have no cluster.
    """
    flat = np.flatnonzero(clusters.labels[view.prefixes.items] >= 0)
    items, users = view.prefixes.items[flat], view.prefixes.users[flat]
    domains, labels = view.domains.of(items), clusters.labels[items]
    cells = users * len(view.domains) + domains
    if choice == "centroid":
        order = np.lexsort((flat, _nearness(items, domains, labels, embeddings, clusters), labels, cells))
    else:
        order = np.lexsort((flat, labels, cells))
    group = np.stack([cells[order], labels[order]])
    last = np.append((group[:, 1:] != group[:, :-1]).any(0), True)[: len(order)]
    chosen = order[last]
    chosen = chosen[np.lexsort((flat[chosen], cells[chosen]))]
    counts = np.bincount(cells[chosen], minlength=len(view.prefixes) * len(view.domains))
    return Representatives(
        offsets=np.concatenate([[0], np.cumsum(counts)]),
        positions=flat[chosen] - view.prefixes.offsets[users[chosen]],
        items=items[chosen],
    )


def _nearness(
    items: Numbers, domains: Numbers, labels: Numbers, embeddings: ItemEmbeddings, clusters: Clusters
) -> NDArray[np.float32]:
    """Return each item's inner product with its centroid, which orders unit vectors as the distance does."""
    nearness = np.zeros(len(embeddings.vectors), np.float32)
    for domain, centroids in enumerate(clusters.centroids):
        unique, first = np.unique(items[domains == domain], return_index=True)
        picked = labels[domains == domain][first]
        nearness[unique] = np.einsum("nd,nd->n", embeddings.vectors[unique], centroids[picked])
    return nearness[items]
