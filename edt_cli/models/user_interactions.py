"""Lookup of a user's training interactions with an item.

Their contribution to pairs and counts is subtracted when that user's target is scored.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from edt_cli.data.dataset import Sequences

Occurrences = list[tuple[Tensor, Tensor]]
"""Positions of P items in the prefixes of P users.

The first element has one position of each pair, the next a second position of the pairs that have two, and so on.
Each holds the indices into the P pairs, long [R], and the positions in the training prefixes, long [R].
"""


class UserInteractions(nn.Module):
    """The training prefixes, indexed by user and item."""

    def __init__(self, prefixes: Sequences, size: int, distance: int) -> None:
        """Index the prefixes.

        Args:
            prefixes: The training prefixes.
            size: Number of item ids, including 0.
            distance: Two items of a sequence at most this many steps apart form a pair.
        """
        super().__init__()
        self.size, self.distance = size, distance
        key = prefixes.users * size + prefixes.items
        order = np.argsort(key, kind="stable")
        steps = np.concatenate([np.arange(-distance, 0), np.arange(1, distance + 1)])
        # User -1 does not exist: nothing beyond the first or last interaction counts as near.
        tables = {
            "keys": key[order],
            "places": order.astype(np.int32),
            "items": np.pad(prefixes.items.astype(np.int32), distance),
            "users": np.pad(prefixes.users.astype(np.int32), distance, constant_values=-1),
            "steps": steps,
            "shares": (1.0 / np.abs(steps)).astype(np.float32),
        }
        for name, table in tables.items():
            self.register_buffer(name, torch.from_numpy(table), persistent=False)

    keys: Tensor
    places: Tensor
    items: Tensor
    users: Tensor
    steps: Tensor
    shares: Tensor

    def of(self, users: Tensor, items: Tensor) -> Occurrences:
        """Return all interactions of each user with the item of the same index; users, items: long [P]."""
        key = users * self.size + items
        first = torch.searchsorted(self.keys, key)
        count = torch.searchsorted(self.keys, key, right=True) - first
        occurrences = []
        for number in range(int(count.max()) if len(count) else 0):
            rows = torch.nonzero(count > number).squeeze(1)
            occurrences.append((rows, self.places[first[rows] + number].long()))
        return occurrences

    def pairs(self, occurrences: Occurrences, windows: Tensor) -> Tensor:
        """Return what each user contributes to the `cooccurrence` of an item with the items of a window.

        Args:
            occurrences: The P users' interactions with the P items, from `of`.
            windows: Long [P, W], items.

        Returns:
            Float32 [P, W].
        """
        total = self.shares.new_zeros(windows.shape)
        for rows, positions in occurrences:
            around = positions[:, None] + self.distance + self.steps
            theirs = self.users[around] == self.users[positions + self.distance, None]
            near = self.items[around].long().masked_fill_(~theirs, -1)
            total[rows] += ((windows[rows].unsqueeze(2) == near.unsqueeze(1)) * self.shares).sum(2)
        return total
