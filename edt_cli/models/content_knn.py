"""Content-kNN: items whose texts are like those of the user's newest items. Nothing is trained."""

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
    """Similarity of two items: the cosine of their whitened text vectors. A user's score for an item sums the
    similarities to the `window` newest items of all domains, the i-th newest weighted by 1 / i.

    An item without text is similar to none: 0, which is about the mean, as whitened vectors are centred. It stands
    behind what is alike and before what is not. A user of whose newest items none has text scores all items 0.
    """

    def __init__(self, given: ModelInputs) -> None:
        """Text is whitened over the items with text that training holds."""
        table, window = given.table, given.model.knn_window
        assert table.text is not None, "this system needs text vectors"
        has_text = table.text.abs().sum(1) > 0
        self.table, self.window = table, window
        self.vectors = F.normalize(whiten(table.text, has_text & table.seen))
        """float32 [1 + N, d_L]: unit rows, zero where an item has no text."""

    def scorer(self, inputs: Sequences, domains: np.ndarray) -> InnerProduct:
        return InnerProduct(self.table.domains, self.states(inputs), self.vectors)

    def states(self, inputs: Sequences) -> Tensor:
        """[len(inputs), d_L]: the weighted sum of each row's item vectors, whose inner product with an item's is
        the score. `inputs`: catalogue items only."""
        newest = DeviceSequences(inputs, self.table, self.window)
        batch = newest.batch(torch.arange(len(newest), device=newest.lengths.device))
        age = batch.lengths[:, None] - torch.arange(batch.items.shape[1], device=batch.items.device)
        # Past the end of a row age is below 1, and the item is 0, whose vector is zero.
        weights = 1.0 / age.clamp_min(1).to(self.vectors.dtype)
        return F.embedding_bag(batch.items, self.vectors, per_sample_weights=weights, mode="sum")
