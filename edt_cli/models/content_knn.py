"""Content-kNN: items with texts similar to those of the user's newest items."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from edt_cli.data.dataset import Sequences
from edt_cli.models.batch import DeviceSequences
from edt_cli.models.encoders import whiten
from edt_cli.models.inputs import ModelInputs
from edt_cli.models.scorers import InnerProduct


class ContentKNN:
    """kNN over text vectors.

    The similarity of two items is the cosine of their whitened text vectors. The score of an item is the sum of its
    similarities to the `window` newest items of all domains, the i-th newest weighted by 1 / i.

    An item without text has similarity 0 to all others. As whitened vectors are centred, this is about the mean: it
    is ranked behind similar items and before dissimilar ones. If none of a user's newest items has text, all scores
    are 0.
    """

    def __init__(self, given: ModelInputs) -> None:
        """Whiten the text vectors over the items of training that have text."""
        table, window = given.table, given.model.knn_window
        assert table.text is not None, "this system needs text vectors"
        has_text = table.text.abs().sum(1) > 0
        self.table, self.window = table, window
        self.vectors = F.normalize(whiten(table.text, has_text & table.seen))
        """Float32 [1 + N, d_L]: vectors of length 1, zero for items without text."""

    def scorer(self, inputs: Sequences, domains: np.ndarray) -> InnerProduct:
        return InnerProduct(self.table.domains, self.states(inputs), self.vectors)

    def states(self, inputs: Sequences) -> Tensor:
        """Return the weighted sum of each row's item vectors, [len(inputs), d_L].

        Its inner product with an item's vector is the score. `inputs` contain catalogue items only.
        """
        newest = DeviceSequences(inputs, self.table, self.window)
        batch = newest.batch(torch.arange(len(newest), device=newest.lengths.device))
        age = batch.lengths[:, None] - torch.arange(batch.items.shape[1], device=batch.items.device)
        # Beyond the end of a row the age is below 1, and the item is padding, whose vector is zero.
        weights = 1.0 / age.clamp_min(1).to(self.vectors.dtype)
        return F.embedding_bag(batch.items, self.vectors, per_sample_weights=weights, mode="sum")
