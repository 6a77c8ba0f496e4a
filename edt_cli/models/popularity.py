"""Popularity: the training interactions of each item, the same for every user."""

from __future__ import annotations

import torch
from torch import Tensor

from edt_cli.data.dataset import Sequences, TrainingView


class Popularity:
    def __init__(self, view: TrainingView) -> None:
        self.domains = view.domains
        self.counts = torch.from_numpy(view.popularity()).float()

    def scorer(self, inputs: Sequences) -> Popularity:
        return self

    def scores(self, rows: Tensor, domain: int) -> Tensor:
        """[len(rows), N_d]."""
        items = self.domains.range(domain)
        return self.counts[items.start : items.stop].expand(len(rows), -1).clone()
