"""Popularity: the number of training interactions of each item, for every user the same."""

from __future__ import annotations

from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from edt_cli.data.dataset import Sequences, TrainingView


class HasView(Protocol):
    """What has the training prefixes, such as `ModelInputs`."""

    @property
    def view(self) -> TrainingView | None: ...


class Popularity:
    """A recommender that ranks items by their training interactions; it is its own scorer."""

    def __init__(self, given: HasView) -> None:
        assert given.view is not None
        self.domains = given.view.domains
        self.counts = torch.from_numpy(given.view.popularity()).float()

    def scorer(self, inputs: Sequences, domains: np.ndarray) -> Popularity:
        return self

    def scores(self, rows: Tensor, domain: int) -> Tensor:
        """Return the scores [len(rows), N_d]."""
        items = self.domains.range(domain)
        return self.counts[items.start : items.stop].expand(len(rows), -1).clone()
