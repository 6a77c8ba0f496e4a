"""The sub-sequences S_g of section 3.4.1: which titles of a user go into a prompt."""

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
    """Within a cell by cluster, then time. `places` [R] are in `augmentation.sequences.items`, `labels` [R] are the
    clusters: all 0 where the grouping is by domain alone.
    """

    places: np.ndarray
    labels: np.ndarray


def group_sequences(
    view: TrainingView, augmentation: Augmentation, embeddings: ItemEmbeddings, clusters: Clusters | None
) -> Groups:
    """The augmented sequence's items with text, of each cluster the last 10; without clusters the last 50 of each
    domain. Pseudo-items belong to their nearest cluster.
    """
    domain_of = augmentation.domain_of(view.domains)
    has_text = np.append(embeddings.has_text, np.ones(len(augmentation.pseudo), bool))
    if clusters is None:
        labels, most = np.where(has_text, 0, -1), TITLES_A_DOMAIN
    else:
        pseudo = np.full(len(augmentation.pseudo), -1)
        for domain in range(len(view.domains)):
            own = np.flatnonzero(augmentation.pseudo["domain"].to_numpy() == domain)
            pseudo[own] = clusters.nearest(augmentation.pseudo_vectors[own], domain) if len(own) else -1
        labels, most = np.concatenate([clusters.labels, pseudo]), TITLES_A_CLUSTER
    items, users = augmentation.sequences.items, augmentation.sequences.users
    places = np.flatnonzero(labels[items] >= 0)
    cells = users[places] * len(view.domains) + domain_of[items[places]]
    order = np.lexsort((places, labels[items[places]], cells))
    places, cells = places[order], cells[order]
    group_ends = np.flatnonzero(
        np.append((np.diff(cells) != 0) | (np.diff(labels[items[places]]) != 0), True)[: len(places)]
    )
    from_end = np.repeat(group_ends, np.diff(group_ends, prepend=-1)) - np.arange(len(places))
    recent = from_end < most
    places, cells = places[recent], cells[recent]
    counts = np.bincount(cells, minlength=len(view.prefixes) * len(view.domains))
    return Groups(np.concatenate([[0], np.cumsum(counts)]), places, labels[items[places]])


def sources(augmentation: Augmentation, groups: Groups, users: np.ndarray) -> pl.DataFrame:
    """user, position in the training prefix, item of the interactions of `users` in a prompt: all that was not
    inserted.
    """
    sequences, own = augmentation.sequences, ~augmentation.inserted
    before = np.concatenate([[0], np.cumsum(own)])
    places = np.sort(groups.places[own[groups.places] & np.isin(sequences.users[groups.places], users)])
    owners = sequences.users[places]
    return pl.DataFrame(
        {
            "user": owners,
            "position": before[places] - before[sequences.offsets[owners]],
            "item": sequences.items[places],
        },
        schema=SOURCES,
    )
