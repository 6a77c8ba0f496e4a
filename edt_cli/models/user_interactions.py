"""Which training interactions are a user's own: what these add to pairs and counts is left out where the user's own
target is scored."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from edt_cli.data.dataset import Sequences

Occurrences = list[tuple[Tensor, Tensor]]
"""Where P users have an item each: one place of each, then a second one of those who have two, and so on. Which of
the P, long [R], and the place in the training prefixes, long [R]."""


class UserInteractions(nn.Module):
    """The training prefixes, to be searched by user and item."""

    def __init__(self, prefixes: Sequences, size: int, reach: int) -> None:
        """size: numbers of items, 0 among them. reach: steps apart that still make a pair."""
        super().__init__()
        self.size, self.reach = size, reach
        key = prefixes.users * size + prefixes.items
        order = np.argsort(key, kind="stable")
        steps = np.concatenate([np.arange(-reach, 0), np.arange(1, reach + 1)])
        # No user is -1: nothing is near that lies beyond the first or the last interaction.
        tables = {
            "keys": key[order],
            "places": order.astype(np.int32),
            "items": np.pad(prefixes.items.astype(np.int32), reach),
            "users": np.pad(prefixes.users.astype(np.int32), reach, constant_values=-1),
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
        """users, items: long [P]."""
        key = users * self.size + items
        first = torch.searchsorted(self.keys, key)
        count = torch.searchsorted(self.keys, key, right=True) - first
        found = []
        for number in range(int(count.max()) if len(count) else 0):
            rows = torch.nonzero(count > number).squeeze(1)
            found.append((rows, self.places[first[rows] + number].long()))
        return found

    def pairs(self, own: Occurrences, windows: Tensor) -> Tensor:
        """float32 [P, W]: what each user adds to the `cooccurrence` of windows [P, W] and the item of `own`."""
        total = self.shares.new_zeros(windows.shape)
        for rows, places in own:
            around = places[:, None] + self.reach + self.steps
            theirs = self.users[around] == self.users[places + self.reach, None]
            near = self.items[around].long().masked_fill_(~theirs, -1)
            total[rows] += ((windows[rows].unsqueeze(2) == near.unsqueeze(1)) * self.shares).sum(2)
        return total
