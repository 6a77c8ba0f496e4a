"""Sub-sequences S_g of section 3.4.1: the titles of a user that go into a prompt."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl

from edt_cli.augmentation.artefact import SOURCES, Augmentation
from edt_cli.augmentation.clustering import Clusters
from edt_cli.augmentation.representatives import Cells
from edt_cli.data.dataset import TrainingView
from edt_cli.llm.embeddings import ItemEmbeddings

TITLES_A_CLUSTER = 10
TITLES_A_DOMAIN = 50


@dataclass(frozen=True)
class Groups(Cells):
    """Items in prompts, within a cell by cluster, then time.

    Attributes:
        indices: Index of each item in `augmentation.sequences.items` [R].
        labels: Cluster of each item [R]; all 0 if they are grouped by domain only.
    """

    indices: np.ndarray
    labels: np.ndarray


def group_sequences(
    view: TrainingView, augmentation: Augmentation, embeddings: ItemEmbeddings, clusters: Clusters | None
) -> Groups:
    """Group the items with text of the augmented sequences by cluster.

    Of each cluster the last 10 items count; without clusters the last 50 of each domain. Pseudo-items belong to
    their nearest cluster.
    """
    domain_of = augmentation.domain_of(view.domains)
    has_text = np.append(embeddings.has_text, np.ones(len(augmentation.pseudo), bool))
    if clusters is None:
        labels, most = np.where(has_text, 0, -1), TITLES_A_DOMAIN
    else:
        pseudo = np.full(len(augmentation.pseudo), -1)
        for domain in range(len(view.domains)):
            rows = np.flatnonzero(augmentation.pseudo["domain"].to_numpy() == domain)
            pseudo[rows] = clusters.nearest(augmentation.pseudo_vectors[rows], domain) if len(rows) else -1
        labels, most = np.concatenate([clusters.labels, pseudo]), TITLES_A_CLUSTER
    items, users = augmentation.sequences.items, augmentation.sequences.users
    indices = np.flatnonzero(labels[items] >= 0)
    cells = users[indices] * len(view.domains) + domain_of[items[indices]]
    order = np.lexsort((indices, labels[items[indices]], cells))
    indices, cells = indices[order], cells[order]
    group_ends = np.flatnonzero(
        np.append((np.diff(cells) != 0) | (np.diff(labels[items[indices]]) != 0), True)[: len(indices)]
    )
    from_end = np.repeat(group_ends, np.diff(group_ends, prepend=-1)) - np.arange(len(indices))
    recent = from_end < most
    indices, cells = indices[recent], cells[recent]
    counts = np.bincount(cells, minlength=len(view.prefixes) * len(view.domains))
    return Groups(np.concatenate([[0], np.cumsum(counts)]), indices, labels[items[indices]])


def sources(augmentation: Augmentation, groups: Groups, users: np.ndarray) -> pl.DataFrame:
    """Return the training interactions of `users` that are in a prompt: all items that were not inserted.

    The columns are user, position in the training prefix, and item.
    """
    sequences, original = augmentation.sequences, ~augmentation.inserted
    before = np.concatenate([[0], np.cumsum(original)])
    indices = np.sort(groups.indices[original[groups.indices] & np.isin(sequences.users[groups.indices], users)])
    owners = sequences.users[indices]
    return pl.DataFrame(
        {
            "user": owners,
            "position": before[indices] - before[sequences.offsets[owners]],
            "item": sequences.items[indices],
        },
        schema=SOURCES,
    )
