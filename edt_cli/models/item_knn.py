"""Item-kNN: items that occur near the user's items in the training sequences."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from scipy.sparse import coo_matrix, csr_matrix, diags
from torch import Tensor

from edt_cli.data.dataset import Domains, Sequences, TrainingView
from edt_cli.models.inputs import ModelInputs


def cooccurrence(view: TrainingView, window: int) -> csr_matrix:
    """Count how often and how closely two items occur together in training.

    Returns:
        Float32 [N + 1, N + 1], symmetric: the sum of 1 / distance over all pairs of the two items at most `window`
        steps apart in the same training sequence.
    """
    size = view.domains.items + 1
    items, users = view.prefixes.items, view.prefixes.users
    total = csr_matrix((size, size), dtype=np.float32)
    for distance in range(1, window + 1):
        near = users[distance:] == users[:-distance]
        pairs = (items[distance:][near], items[:-distance][near])
        weight = np.full(len(pairs[0]), 1.0 / distance, dtype=np.float32)
        total = total + coo_matrix((weight, pairs), shape=(size, size)).tocsr()
    return (total + total.T).tocsr()


class ItemKNN:
    """Item-kNN over co-occurrences.

    The similarity of two items is their `cooccurrence` divided by the square roots of both items' counts. The score
    of an item is the sum of its similarities to the user's items, the i-th newest weighted by 1 / i.
    """

    def __init__(self, given: ModelInputs) -> None:
        view, window = given.view, given.model.knn_window
        assert view is not None
        self.domains = view.domains
        norm = diags(1.0 / np.sqrt(np.maximum(view.popularity(), 1)).astype(np.float32))
        self.similarity = (norm @ cooccurrence(view, window) @ norm).tocsr()

    def scorer(self, inputs: Sequences, domains: np.ndarray) -> ItemKNNScorer:
        """Return the scorer of histories that contain catalogue items only."""
        age = inputs.offsets[inputs.users + 1] - np.arange(len(inputs.items))
        shape = (len(inputs), self.similarity.shape[0])
        history = coo_matrix(((1.0 / age).astype(np.float32), (inputs.users, inputs.items)), shape=shape).tocsr()
        return ItemKNNScorer(self.domains, history, self.similarity)


@dataclass(frozen=True)
class ItemKNNScorer:
    """The scores of n weighted histories [n, N + 1] by the similarities [N + 1, N + 1]."""

    domains: Domains
    history: csr_matrix
    similarity: csr_matrix

    def scores(self, rows: Tensor, domain: int) -> Tensor:
        """Return the scores [len(rows), N_d]."""
        items = self.domains.range(domain)
        block = self.history[rows.cpu().numpy()] @ self.similarity[:, items.start : items.stop]
        return torch.from_numpy(block.toarray())
