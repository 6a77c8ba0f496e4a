"""Batches of padded sequences, and the table of the items in them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from edt_cli.data.dataset import Domains, Sequences, grouped


@dataclass(frozen=True)
class ItemTable:
    """All items of the sequences: id 0 is padding, 1..N the catalogue, above N the P pseudo-items.

    Attributes:
        domains: The domains, with the range of catalogue ids of each.
        domain_of: Long [1 + N + P], the domain of each item (0 for padding).
        counts: Long [1 + N + P], the number of training interactions of each item.
        text: Float32 [1 + N + P, d_L], text vectors of length 1, zero for items without text; None if no text is
            embedded.
        new: Bool [1 + N + P], the items that were added after training; None if there are none.
    """

    domains: Domains
    domain_of: Tensor
    counts: Tensor
    text: Tensor | None = None
    new: Tensor | None = None

    @property
    def seen(self) -> Tensor:
        """The items that occur in training, bool [1 + N + P]."""
        return self.counts > 0

    @property
    def catalogue(self) -> int:
        """N, the number of items in the catalogue."""
        return self.domains.items

    def to(self, device: torch.device) -> ItemTable:
        return ItemTable(
            domains=self.domains,
            domain_of=self.domain_of.to(device),
            counts=self.counts.to(device),
            text=None if self.text is None else self.text.to(device),
            new=None if self.new is None else self.new.to(device),
        )


def item_table(
    domains: Domains, sequences: Sequences, domain_of: np.ndarray | None = None, vectors: np.ndarray | None = None
) -> ItemTable:
    """Make the item table for training on `sequences`.

    Args:
        domains: The domains of the catalogue.
        sequences: The training sequences, whose items are counted.
        domain_of: [1 + N + P], the domain of each item; needed only if there are pseudo-items.
        vectors: Float32 [1 + N + P, d_L], text vectors, or None.
    """
    if domain_of is None:
        domain_of = domains.of(np.arange(domains.items + 1))
    counts = np.bincount(sequences.items, minlength=len(domain_of))
    text = None if vectors is None else torch.from_numpy(vectors).float()
    return ItemTable(
        domains=domains,
        domain_of=torch.from_numpy(domain_of).clamp_min(0),
        counts=torch.from_numpy(counts),
        text=text,
    )


def domain_rows(sequences: Sequences, table: ItemTable) -> Sequences:
    """Split each user's sequence into one row per domain, for systems that train on single domains."""
    domains = len(table.domains)
    row = sequences.users * domains + table.domain_of.cpu().numpy()[sequences.items]
    return grouped(row, sequences.items, sequences.times, len(sequences) * domains)


def only_domain(sequences: Sequences, domains: np.ndarray, domain_of: np.ndarray) -> Sequences:
    """Return each row's items of the domain domains[row], for single-domain models.

    Args:
        sequences: One row per query.
        domains: [rows], the domain to keep in each row.
        domain_of: [1 + N + P], the domain of each item.
    """
    mask = domain_of[sequences.items] == domains[sequences.users]
    times = None if sequences.times is None else sequences.times[mask]
    return grouped(sequences.users[mask], sequences.items[mask], times, len(sequences))


@dataclass(frozen=True)
class Batch:
    """B sequences, padded on the right to a common length L.

    Attributes:
        rows: Long [B], the indices of the sequences.
        items: Long [B, L], oldest first, 0 after the end.
        lengths: Long [B], the number of items in each row.
        targets: Long [B, L], the next item at each position, 0 if there is none.
        domains: Long [B, L], the domain of the next item to predict at each position; a valid domain everywhere.
        inserted: Bool [B, L], generated items that are not targets; None if there are none.
        times: Long [B, L], unix seconds, 0 after the end; None if unknown.
    """

    rows: Tensor
    items: Tensor
    lengths: Tensor
    targets: Tensor
    domains: Tensor
    inserted: Tensor | None = None
    times: Tensor | None = None


class DeviceSequences:
    """Sequences stored flat on the device; batches are gathered there and padded to their longest row."""

    def __init__(
        self, sequences: Sequences, table: ItemTable, max_length: int, inserted: np.ndarray | None = None
    ) -> None:
        """Move the sequences to the device of `table`.

        Args:
            sequences: The sequences.
            table: The item table.
            max_length: Only this many of the newest items of a row are used.
            inserted: Bool, the items of `sequences` that are not targets; None if all are targets.
        """
        device = table.domain_of.device
        lengths = np.minimum(sequences.lengths, max_length)
        self.items = torch.from_numpy(np.append(sequences.items, 0)).to(device)
        times = sequences.times
        self.times = None if times is None else torch.from_numpy(np.append(times, 0)).to(device)
        self.inserted = None if inserted is None else torch.from_numpy(np.append(inserted, False)).to(device)
        self.starts = torch.from_numpy(sequences.offsets[1:] - lengths).to(device)
        self.lengths = torch.from_numpy(lengths).to(device)
        self.domain_of = table.domain_of

    def __len__(self) -> int:
        return len(self.lengths)

    def batch(self, rows: Tensor, domains: Tensor | None = None) -> Batch:
        """Return a batch with the newest `max_length` items of each row.

        Args:
            rows: Long [B], indices of the sequences.
            domains: Long [B], the domain to query after each row's last item. It is set at all positions of the
                row, but only the last one is meaningful. If None, each position has the domain of its next item.
        """
        lengths = self.lengths[rows]
        steps = torch.arange(max(1, int(lengths.max())), device=rows.device)
        at = (self.starts[rows, None] + steps).clamp_max(len(self.items) - 1)
        real = steps < lengths[:, None]
        items = torch.where(real, self.items[at], 0)
        times = None if self.times is None else torch.where(real, self.times[at], 0)
        inserted = None if self.inserted is None else self.inserted[at] & real
        learned = items if inserted is None else items.masked_fill(inserted, 0)
        targets = torch.cat([learned[:, 1:], items.new_zeros(len(rows), 1)], 1)
        queried = self.domain_of[targets] if domains is None else domains[:, None].expand_as(items)
        return Batch(
            rows=rows,
            items=items,
            lengths=lengths,
            targets=targets,
            domains=queried,
            inserted=inserted,
            times=times,
        )

    def targets(self) -> Tensor:
        """Return the number of targets of each row, long [rows]."""
        counts = (self.lengths - 1).clamp_min(0)
        if self.inserted is None:
            return counts
        before = F.pad(self.inserted.cumsum(0), (1, 0))
        first = self.starts + (self.lengths > 0)
        return counts - (before[self.starts + self.lengths] - before[first])

    def by_length(self, size: int) -> Iterator[Tensor]:
        """Yield all rows in chunks of `size`, the longest first.

        There is little padding, and the first chunk needs the most memory.
        """
        yield from torch.argsort(self.lengths, descending=True, stable=True).split(size)


def last_state(states: Tensor, lengths: Tensor) -> Tensor:
    """Return the state after each row's last item, [B, L, D] -> [B, D]; zero for an empty row."""
    last = states[torch.arange(states.shape[0], device=states.device), (lengths - 1).clamp_min(0)]
    return last * (lengths > 0).unsqueeze(1)


def mean_state(states: Tensor, mask: Tensor) -> Tensor:
    """Return the mean state over `mask` (bool [B, L], at least one per row), [B, L, D] -> [B, D]."""
    weights = mask.to(states.dtype)
    return (weights.unsqueeze(1) @ states).squeeze(1) / weights.sum(1, keepdim=True)
